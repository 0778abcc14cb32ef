//! Sources over a limit: enters the kernel's bans of sources that keep flooding, and remembers the last
//! few thousand sources for `why`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use filter_common::decision::Reason;
use ipnet::IpNet;
use log::{info, warn};

use super::digest::Topic;
use super::of_source::is_address;
use super::{Controller, show};
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::{Limits, Scope};
use crate::datapath::{Datapath, Limited};
use crate::duration;
use crate::prefix::SourcePrefix;

/// How many are remembered.
pub(super) const LIMITED_MAX: usize = 4096;

/// By address and by age, so that forged addresses do not cost a search each.
#[derive(Debug)]
pub(super) struct LimitedSources {
    limits: Limits,
    last: HashMap<IpAddr, Limited>,
    by_age: BTreeSet<(KernelTime, IpAddr)>,
}

impl LimitedSources {
    /// None yet, over these limits.
    pub(super) fn new(limits: &Limits) -> Self {
        Self { limits: *limits, last: HashMap::new(), by_age: BTreeSet::new() }
    }

    /// The limits.
    pub(super) fn limits(&self) -> &Limits {
        &self.limits
    }

    /// Replaces the limits.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.limits = *limits;
    }

    /// Records an event. Returns whether its source is new.
    fn note(&mut self, event: Limited) -> bool {
        let before = self.last.insert(event.source, event);
        if let Some(before) = before {
            self.by_age.remove(&(before.at, before.source));
        }
        self.by_age.insert((event.at, event.source));
        if self.last.len() > LIMITED_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.last.remove(&oldest);
        }
        before.is_none()
    }

    /// The last event of a source.
    pub(super) fn get(&self, source: IpAddr) -> Option<Limited> {
        self.last.get(&source).copied()
    }
}

impl<D: Datapath> Controller<D> {
    /// Records that the kernel has banned a source for a flood. The source of a TCP connection cannot be forged, but
    /// that of a known peer can: it is throttled, so that the peer can still register.
    pub(super) fn flooding(&mut self, source: IpAddr, since: KernelTime, until: KernelTime) {
        let is_peer = self.datapath.known(source).is_some();
        let (network, except) = self.flooded_by(source, is_peer, since);
        let is_new = self.bans.ledger().of_network(network).all(|e| e.ban.origin != Origin::Flood);
        if is_new && self.bans.ledger().count(Origin::Flood) >= LIMITED_MAX {
            return; // The ban is in force although it is not listed.
        }
        let ban = Ban {
            network,
            scope: if is_peer { Scope::Throttle } else { Scope::Sip },
            origin: Origin::Flood,
            since: since.into(),
            until: Some(until),
        };
        let reason = "kept flooding over a limit";
        if is_new && self.digest.has_line(Topic::Flood, "flood", since) {
            let time = duration::format(until.since(since));
            let (network, dry) = (show(network), self.dry());
            if is_peer {
                info!("flood: throttled {network} for {time}{dry}");
            } else {
                info!("flood: banned {network} for {time}{dry}");
            }
        }
        if let Err(why) = self.enter(&Entry::new(ban, reason).with_except(except), None) {
            warn!("{why:#}");
        }
    }

    /// Takes over a ban by the program that was not reported by an event.
    pub(crate) fn take_flood(&mut self, source: IpAddr, until: KernelTime) {
        let time = u64::try_from(self.limited.limits.flood.ban.as_nanos()).unwrap_or(u64::MAX);
        let since = KernelTime(until.0.saturating_sub(time));
        if self.protected.reason(source.into()).is_none() {
            self.flooding(source, since, until);
        }
    }

    /// The network that the kernel has banned because of a flood from this source, and its exceptions:
    /// the /64 of an IPv6 source, or only the address of a known peer, which has its own limit.
    fn flooded_by(
        &mut self,
        source: IpAddr,
        is_peer: bool,
        now: KernelTime,
    ) -> (IpNet, Vec<IpNet>) {
        let prefix = SourcePrefix::ipv6(64);
        let network = prefix.network(prefix.source(source));
        if is_address(network) || is_peer {
            return (source.into(), Vec::new());
        }
        // With too many exceptions, the kernel's own ban must suffice.
        self.exceptions(network, None, now)
            .map_or((source.into(), Vec::new()), |except| (network, except))
    }

    /// Lifts the kernel's own ban of an essential address, which remains subject to the limits. Returns
    /// whether the address is essential.
    fn let_in_again(&mut self, event: Limited) -> bool {
        let (source, now) = (event.source, event.at);
        let Some(kind) = self.protected.essentials().of(source.into(), Scope::Sip) else {
            return false;
        };
        // The kernel bans a whole IPv6 network, so an exception is needed.
        if source.is_ipv6() && self.datapath.known(source).is_none() {
            return false;
        }
        if self.bans.ledger().of_network(source.into()).next().is_none()
            && let Err(why) = self.datapath.unban(source)
        {
            warn!("{source} remains banned for a flood, although it is {}: {why:#}", kind.as_str());
        }
        self.prevent((source, kind.as_str()), ("flood", 0, "it kept flooding over a limit"), now);
        true
    }

    /// Takes an event: a source is over a limit, or the program has banned it for that.
    pub fn limit_exceeded(&mut self, event: Limited) {
        // Packets from a trusted address pass even over a limit.
        let passes = self.protected.reason(event.source.into()).is_some();
        if event.reason == Reason::Flooding && !passes && !self.let_in_again(event) {
            self.flooding(event.source, event.at, event.at.after(self.limited.limits.flood.ban));
        }
        let (source, reason) = (event.source, event.reason.as_str());
        if !passes {
            self.note_limited(event);
        }
        if self.limited.note(event) && self.digest.has_line(Topic::Limit, reason, event.at) {
            info!("{source} is over a limit: {reason}{}", self.dry());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    #[test]
    fn the_last_sources_are_remembered_and_no_more() {
        let mut sources = LimitedSources::new(&Config::default().limits);
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let event = |n: u32, at: u64| Limited {
            source: address(n),
            reason: Reason::RegisterLimit,
            at: KernelTime(at),
        };
        assert!(sources.note(event(7, 0)));
        for n in 8..100_000 {
            assert!(sources.note(event(n, n.into())));
            assert!(!sources.note(event(7, n.into())));
        }
        assert_eq!((sources.last.len(), sources.by_age.len()), (LIMITED_MAX, LIMITED_MAX));
        assert_eq!(sources.get(address(7)).unwrap().at, KernelTime(99_999));
        assert_eq!(sources.get(address(99_999)).unwrap().at, KernelTime(99_999));
        assert_eq!(sources.get(address(8)), None);
        assert!(sources.note(event(8, 100_000)));
    }
}

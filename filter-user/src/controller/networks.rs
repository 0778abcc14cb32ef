//! Bans of the networks of proven offenders, and who is left out of them.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use api::EXCEPT_MAX;
use ipnet::{IpNet, Ipv6Net};
use log::{error, info, warn};

use super::of_source::is_address;
use super::{Controller, left_out, show};
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::Scope;
use crate::datapath::Datapath;
use crate::duration;
use crate::escalation::Candidate;

impl<D: Datapath> Controller<D> {
    /// Bans the networks around an address that has just been banned, if so many others in them were.
    pub(super) fn escalate(&mut self, address: IpAddr, now: KernelTime) {
        for candidate in self.escalation.candidates(address, now) {
            let Candidate { network, .. } = candidate;
            // One that is banned already needs no narrower ban in it.
            if self.is_closed(network, now) || self.ban_network(candidate, now) {
                return;
            }
        }
    }

    /// Whether a ban of a network, or of one around it, closes it as its escalation would.
    fn is_closed(&self, network: IpNet, now: KernelTime) -> bool {
        let scope = self.escalation.networks().settings().scope;
        let closes = |entry: &Entry| {
            entry.ban.in_force(now) && (entry.ban.scope == Scope::All || entry.ban.scope == scope)
        };
        let mut around = Some(network);
        while let Some(network) = around {
            if self.ledger.of_network(network).any(closes) {
                return true;
            }
            around = network.supernet();
        }
        false
    }

    /// Whether it is banned now.
    fn ban_network(&mut self, candidate: Candidate, now: KernelTime) -> bool {
        let Candidate { network, offenders } = candidate;
        let settings = self.escalation.networks().settings();
        let (findtime, bantime) = (settings.findtime, settings.bantime);
        let (scope, until) = (settings.scope, Some(now.after(bantime)));
        let except = match self.holes(network, None, now) {
            Ok(except) => except,
            Err(why) => {
                self.escalation.spare(network, now);
                warn!("escalation: {network} is not banned for {offenders} offenders: {why}");
                return false;
            }
        };
        let ban = Ban { network, scope, origin: Origin::Escalation, since: now.into(), until };
        let reason = format!("{offenders} offenders within {}", duration::format(findtime));
        let (time, left_out) = (duration::format(bantime), left_out(&except));
        let dry = self.dry();
        let says = format!("escalation: banned {network} for {time}: {reason}{left_out}{dry}");
        let entry = Entry::new(ban, reason).with_except(except);
        match self.enter(&entry, Some(says)) {
            Ok(()) => true,
            Err(why) => {
                self.escalation.spare(network, now);
                error!("escalation: {network} is not banned: {why:#}");
                false
            }
        }
    }

    /// Who in a network must be left out of a ban of it: by a jail, who is never banned by it, and by
    /// escalation, who is not by any.
    pub(super) fn holes(
        &mut self,
        network: IpNet,
        jail: Option<usize>,
        now: KernelTime,
    ) -> Result<Vec<IpNet>, String> {
        let mut never = self.protected.all();
        let jails = self.jails.iter().enumerate();
        for (_, of) in jails.filter(|(place, _)| jail.is_none_or(|jail| jail == *place)) {
            let settings = of.settings();
            never.extend(&settings.ignoreip);
            never.extend(self.names.addresses(&settings.ignore_names).map(IpNet::from));
        }
        if let Some(around) = never.iter().find(|never| never.contains(&network)) {
            return Err(format!("{} is never banned", show(*around)));
        }
        never.retain(|never| network.contains(never));
        let known = match network {
            // Of these there may be many, each banned at the cost of 15 packets.
            IpNet::V6(_) => self.known_ipv6.inside(network, &self.datapath, now),
            IpNet::V4(_) => self.datapath.known_in(network, now),
        };
        never.extend(known.into_iter().map(IpNet::from));
        let except = IpNet::aggregate(&never);
        if except.len() > EXCEPT_MAX {
            return Err(format!(
                "it would take {} exceptions for the trusted and known in it; {EXCEPT_MAX} are possible",
                except.len()
            ));
        }
        Ok(except)
    }

    /// Leaves an address out of the bans of networks around it, unless they are by hand: it is a known
    /// peer now, or the jail that decided one ignores it.
    pub(super) fn leave_out(&mut self, address: IpAddr, of: Option<Origin>, now: KernelTime) {
        let is_one = |entry: &&&Entry| {
            let by_jail = matches!(entry.ban.origin, Origin::Jail(_))
                && of.is_none_or(|origin| origin == entry.ban.origin);
            let by_itself = matches!(entry.ban.origin, Origin::Escalation | Origin::Flood);
            !is_address(entry.ban.network) && (by_jail || by_itself)
        };
        let around: Vec<Entry> =
            self.ledger.of(address).iter().filter(is_one).map(|e| (*e).clone()).collect();
        for entry in around {
            let network = entry.ban.network;
            let by = self.jail_name(entry.ban.origin);
            let mut except = entry.except().to_vec();
            except.push(address.into());
            let except = IpNet::aggregate(&except);
            let result = if except.len() > EXCEPT_MAX {
                info!("{by}: lifted the ban of {network}: it would take too many exceptions");
                if entry.ban.origin == Origin::Escalation {
                    self.escalation.spare(network, entry.ban.since.in_this_boot());
                }
                let struck = self.strike(&entry);
                self.ban_addresses_of(&entry, now);
                struck
            } else {
                info!("{by}: the ban of {network} leaves out {address} from now on");
                self.enter(&entry.with_except(except), None)
            };
            if let Err(why) = result {
                error!("{by}: {address} is not let out of the ban of {network}: {why:#}");
            }
        }
    }

    /// In place of a jail's ban of a network, bans the addresses in it that have failed.
    fn ban_addresses_of(&mut self, entry: &Entry, now: KernelTime) {
        let by = self.jail_name(entry.ban.origin);
        let Some(place) = self.jails.iter().position(|jail| jail.name() == by) else { return };
        for address in self.addresses_behind(entry.evidence(), place, now) {
            let ban = Ban { network: address.into(), ..entry.ban };
            let entry = Entry::new(ban, &*entry.reason).with_evidence(entry.evidence().to_vec());
            if let Err(why) = self.enter(&entry, None) {
                error!("{by}: {address} is not banned: {why:#}");
            }
        }
    }
}

/// The known peers with IPv6 addresses, of a moment ago at most: to ask for those in one network, all
/// are looked at.
#[derive(Debug, Default)]
pub(super) struct KnownIpv6 {
    addresses: BTreeSet<IpAddr>,
    /// When they were asked for, and how many the kernel had learned by then.
    state: Option<(KernelTime, u64)>,
}

/// How long the known peers are not asked for again where none has been learned.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// All IPv6 addresses.
const IPV6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

impl KnownIpv6 {
    /// They are to be asked for again.
    pub(super) fn forget(&mut self) {
        self.state = None;
    }

    fn inside(&mut self, network: IpNet, datapath: &impl Datapath, now: KernelTime) -> Vec<IpAddr> {
        // Asked for first, so that who is learned meanwhile is asked for the next time.
        let learned = datapath.learning().learned;
        let is_fresh = |(at, then): (KernelTime, u64)| then == learned && now.since(at) < KNOWN_FOR;
        if !self.state.is_some_and(is_fresh) {
            self.addresses = datapath.known_in(IPV6, now).into_iter().collect();
            self.state = Some((now, learned));
        }
        self.addresses.range(network.network()..=network.broadcast()).copied().collect()
    }
}

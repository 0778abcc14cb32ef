//! What the other hosts share, merged: which of it is banned here, by whose word and until when.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;

use crate::accept::{Accept, HOSTS_MAX, Pace};
use crate::clock::Time;
use crate::host::Host;
use crate::key::{Key, is_shared};
use crate::record::{Allow, BanRecord, Beat, Cut, Maintenance, Unread, read};

/// The most networks that every host trusts.
const ALLOWS_MAX: usize = 64;

/// The widest of them.
const WIDEST_ALLOWED: (u8, u8) = (16, 32);

/// The most names of jails that are told apart.
const JAILS_MAX: usize = 1024;

/// A change of an end that is not worth a message, in milliseconds.
const SLACK: Time = 2000;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update<'a> {
    /// It has this value.
    Put(&'a [u8]),
    /// It was deleted.
    Delete,
}

/// What becomes of a ban on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// It is banned.
    Ban {
        /// The address or network.
        network: IpNet,
        /// The host whose ban lasts longest.
        host: Host,
        /// The jail that decided it there.
        jail: Arc<str>,
        /// Whether its source is proven.
        proven: bool,
        /// How many hosts ban it.
        hosts: u32,
        /// When it ends.
        until: Time,
    },
    /// It is not banned any more, before its end.
    Lift(IpNet),
}

/// The maintenance that the administrator of the fleet asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Closing {
    /// The server's stamp, which tells one from another; 0 if there is none.
    pub stamp: Time,
    /// For how many more seconds SIP is closed.
    pub seconds: u64,
    /// Whether it is closed to known peers too.
    pub closed_to_known: bool,
    /// Its purpose.
    pub comment: String,
}

/// Bans that are not accepted, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Refused {
    /// Their source is not proven.
    pub unproven: u64,
    /// The host shares too many a second.
    pub rate: u64,
    /// The host has too many in force.
    pub most: u64,
    /// The host is cut off.
    pub cut: u64,
    /// They are of a network that is not shared.
    pub network: u64,
    /// They have a newer schema.
    pub newer: u64,
    /// They cannot be read.
    pub broken: u64,
}

impl Refused {
    /// All of them.
    pub fn sum(self) -> u64 {
        let Self { unproven, rate, most, cut, network, newer, broken } = self;
        unproven + rate + most + cut + network + newer + broken
    }
}

/// What is known about another host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HostReport {
    /// Its name.
    pub host: Host,
    /// Its bans that count here.
    pub bans: u64,
    /// Its bans that do not.
    pub refused: Refused,
    /// Its last sign of life, and when the server stamped it.
    pub beat: Option<(Beat, Time)>,
    /// Whether it is cut off.
    pub is_cut: bool,
}

#[derive(Debug)]
struct Other {
    name: Host,
    bans: u32,
    pace: Pace,
    refused: Refused,
    beat: Option<(Beat, Time)>,
    is_cut: bool,
}

/// A host's ban of a network.
#[derive(Clone, Copy, Debug)]
struct Claim {
    until: Time,
    jail: u16,
    proven: bool,
}

/// A ban that the daemon was told of.
#[derive(Clone, Copy, Debug)]
struct Told {
    until: Time,
    host: u16,
    proven: bool,
}

/// The bans of the other hosts.
#[derive(Debug)]
pub struct View {
    own: Host,
    accept: Accept,
    numbers: BTreeMap<Host, u16>,
    others: Vec<Other>,
    jails: Vec<Arc<str>>,
    claims: BTreeMap<(IpNet, u16), Claim>,
    ends: BTreeSet<(Time, IpNet, u16)>,
    changed: BTreeSet<IpNet>,
    told: BTreeMap<IpNet, Told>,
    /// Networks for which there was no room.
    waiting: BTreeSet<IpNet>,
    allows: BTreeMap<IpNet, (String, Option<Time>)>,
    /// Hosts that the administrator of the fleet has cut off.
    cuts: BTreeSet<Host>,
    /// What it closes, with the server's stamp.
    maintenance: Option<(Maintenance, Time)>,
    /// Records of hosts beyond [`HOSTS_MAX`], and of unknown keys.
    strange: u64,
}

impl View {
    /// What the host `own` accepts of the others.
    pub fn new(own: Host, accept: Accept) -> Self {
        Self {
            own,
            accept,
            numbers: BTreeMap::new(),
            others: Vec::new(),
            jails: Vec::new(),
            claims: BTreeMap::new(),
            ends: BTreeSet::new(),
            changed: BTreeSet::new(),
            told: BTreeMap::new(),
            waiting: BTreeSet::new(),
            allows: BTreeMap::new(),
            cuts: BTreeSet::new(),
            maintenance: None,
            strange: 0,
        }
    }

    /// Takes what happened to a key, which the server stamped with `at`. Its own keys are not for it.
    pub fn take(&mut self, key: &str, update: Update<'_>, at: Time, now: Time) {
        match key.parse() {
            Ok(Key::Ban(host, network)) if host != self.own => {
                let Some(number) = self.number(host) else { return };
                self.take_ban((network, number), update, at, now);
            }
            Ok(Key::Host(host)) if host != self.own => {
                let Some(number) = self.number(host) else { return };
                let Some(other) = self.others.get_mut(usize::from(number)) else { return };
                other.beat = match update {
                    Update::Put(bytes) => read(bytes).ok().map(|beat| (beat, at)),
                    Update::Delete => None,
                };
            }
            Ok(Key::Ban(..) | Key::Host(_)) => {}
            Ok(Key::Allow(network)) => self.take_allow(network, update, at),
            Ok(Key::Cut(host)) => match update {
                // An unreadable record cuts too: the key says enough.
                Update::Put(bytes) => {
                    if read::<Cut>(bytes) != Err(Unread::Newer) && self.cuts.len() < HOSTS_MAX {
                        self.cuts.insert(host.clone());
                        self.cut(&host, now);
                    }
                }
                Update::Delete => drop(self.cuts.remove(&host)),
            },
            Ok(Key::Maintenance) => match update {
                Update::Put(bytes) => match read(bytes) {
                    Ok(record) => self.maintenance = Some((record, at)),
                    // Nothing is closed by what is not understood, and what was before is replaced.
                    Err(Unread::Newer | Unread::Broken) => {
                        self.maintenance = None;
                        self.strange += 1;
                    }
                },
                Update::Delete => self.maintenance = None,
            },
            Err(()) => self.strange += 1,
        }
    }

    fn number(&mut self, host: Host) -> Option<u16> {
        if let Some(number) = self.numbers.get(&host) {
            return Some(*number);
        }
        if self.others.len() >= HOSTS_MAX {
            self.strange += 1;
            return None;
        }
        let number = u16::try_from(self.others.len()).ok()?;
        let is_cut = self.accept.cut.contains(&host) || self.cuts.contains(&host);
        let (pace, refused) = (Pace::default(), Refused::default());
        self.others.push(Other { name: host.clone(), bans: 0, pace, refused, beat: None, is_cut });
        self.numbers.insert(host, number);
        Some(number)
    }

    fn take_ban(&mut self, key: (IpNet, u16), update: Update<'_>, at: Time, now: Time) {
        let (network, host) = (key.0, key.1);
        let Some(other) = self.others.get_mut(usize::from(host)) else { return };
        let bytes = match update {
            Update::Delete => return self.drop_claim(key),
            Update::Put(bytes) => bytes,
        };
        let refused = &mut other.refused;
        let record = match read::<BanRecord>(bytes) {
            Ok(record) => record,
            Err(Unread::Newer) => return refused.newer += 1,
            Err(Unread::Broken) => return refused.broken += 1,
        };
        if other.is_cut {
            return refused.cut += 1;
        }
        if !is_shared(network) {
            return refused.network += 1;
        }
        if self.accept.proven && !record.proven {
            return refused.unproven += 1;
        }
        let length = record.seconds.min(self.accept.longest).saturating_mul(1000);
        // A stamp that is ahead of the servers' time must not make a ban longer.
        let until = at.min(now).saturating_add(length);
        if until <= now {
            return self.drop_claim(key);
        }
        if !other.pace.takes(at, self.accept.rate) {
            return refused.rate += 1;
        }
        let old = self.claims.get(&key).map(|claim| claim.until);
        if old.is_none() {
            if other.bans >= self.accept.most {
                return refused.most += 1;
            }
            other.bans += 1;
        }
        let jail = self.jail(&record.jail);
        if let Some(old) = old {
            self.ends.remove(&(old, network, host));
        }
        self.claims.insert(key, Claim { until, jail, proven: record.proven });
        self.ends.insert((until, network, host));
        self.changed.insert(network);
    }

    fn jail(&mut self, name: &str) -> u16 {
        let known = self.jails.iter().position(|jail| &**jail == name);
        let place = known.unwrap_or_else(|| {
            if self.jails.len() < JAILS_MAX {
                self.jails.push(name.into());
            }
            self.jails.len() - 1
        });
        u16::try_from(place).unwrap_or_default()
    }

    fn drop_claim(&mut self, key: (IpNet, u16)) {
        let Some(claim) = self.claims.remove(&key) else { return };
        self.ends.remove(&(claim.until, key.0, key.1));
        if let Some(other) = self.others.get_mut(usize::from(key.1)) {
            other.bans = other.bans.saturating_sub(1);
        }
        self.changed.insert(key.0);
    }

    fn take_allow(&mut self, network: IpNet, update: Update<'_>, at: Time) {
        let widest = match network {
            IpNet::V4(_) => WIDEST_ALLOWED.0,
            IpNet::V6(_) => WIDEST_ALLOWED.1,
        };
        let bytes = match update {
            Update::Delete => return drop(self.allows.remove(&network)),
            Update::Put(bytes) => bytes,
        };
        let is_full = self.allows.len() >= ALLOWS_MAX && !self.allows.contains_key(&network);
        match read::<Allow>(bytes) {
            Ok(allow) if network.prefix_len() >= widest && !is_full => {
                let end = |seconds: u64| at.saturating_add(seconds.saturating_mul(1000));
                self.allows.insert(network, (allow.comment, allow.seconds.map(end)));
            }
            Ok(_) | Err(_) => self.strange += 1,
        }
    }

    /// Cuts a host off.
    fn cut(&mut self, host: &Host, _now: Time) {
        let Some(number) = self.numbers.get(host).copied() else { return };
        let Some(other) = self.others.get_mut(usize::from(number)) else { return };
        other.is_cut = true;
        let its: Vec<_> = self.claims.keys().filter(|key| key.1 == number).copied().collect();
        for key in its {
            self.drop_claim(key);
        }
    }

    /// Whether a host that was cut off is so no longer. What it shares must then be read again.
    pub fn must_read_again(&self) -> bool {
        self.others.iter().any(|other| {
            let is_cut = self.accept.cut.contains(&other.name) || self.cuts.contains(&other.name);
            other.is_cut && !is_cut
        })
    }

    /// The next changes for the daemon, at most so many.
    pub fn changes(&mut self, now: Time, most: usize) -> Vec<Change> {
        while let Some((until, network, host)) = self.ends.first().copied()
            && until <= now
        {
            self.drop_claim((network, host));
        }
        let mut changes = Vec::new();
        // So that a call is short even if nothing follows from many changes.
        for _ in 0..most.saturating_mul(16) {
            if changes.len() >= most {
                break;
            }
            let Some(network) = self.changed.pop_first() else { break };
            changes.extend(self.change(network, now));
        }
        changes
    }

    /// Whether [`changes`](Self::changes) has more.
    pub fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Tells the daemon everything again.
    pub fn tell_again(&mut self) {
        self.changed.extend(self.told.keys().copied());
        self.told.clear();
        self.changed.extend(std::mem::take(&mut self.waiting));
    }

    fn change(&mut self, network: IpNet, now: Time) -> Option<Change> {
        let told = self.told.get(&network).copied();
        let wanted = self.wanted(network);
        let Some((wanted, jail, hosts)) = wanted else {
            self.waiting.remove(&network);
            let told = self.told.remove(&network)?;
            self.make_room();
            // The kernel ends it.
            return (told.until > now).then_some(Change::Lift(network));
        };
        if let Some(told) = told {
            let stays = told.host == wanted.host && told.proven == wanted.proven;
            if stays && told.until.abs_diff(wanted.until) < SLACK {
                return None;
            }
        } else if self.told.len() >= usize::try_from(self.accept.total).unwrap_or(usize::MAX) {
            self.waiting.insert(network);
            return None;
        }
        self.waiting.remove(&network);
        self.told.insert(network, wanted);
        let host = self.others.get(usize::from(wanted.host))?.name.clone();
        let Told { until, proven, .. } = wanted;
        Some(Change::Ban { network, host, jail, proven, hosts, until })
    }

    fn make_room(&mut self) {
        if let Some(network) = self.waiting.pop_first() {
            self.changed.insert(network);
        }
    }

    /// The ban of a network that its claims lead to. It ends when too few hosts ban it, and is proven if enough say
    /// so.
    fn wanted(&self, network: IpNet) -> Option<(Told, Arc<str>, u32)> {
        let needed = usize::try_from(self.accept.hosts.max(1)).unwrap_or(usize::MAX);
        let claims = || {
            let of = self.claims.range((network, u16::MIN)..=(network, u16::MAX));
            of.map(|((_, host), claim)| (*host, *claim))
        };
        let end = |proven: bool| {
            let mut ends: Vec<Time> = claims()
                .filter(|(_, claim)| claim.proven || !proven)
                .map(|(_, claim)| claim.until)
                .collect();
            ends.sort_unstable_by(|a, b| b.cmp(a));
            ends.get(needed - 1).copied()
        };
        let (until, proven) = match end(true) {
            Some(until) => (until, true),
            None => (end(false)?, false),
        };
        let counted = || claims().filter(|(_, claim)| claim.proven || !proven);
        let (host, claim) =
            counted().max_by_key(|(host, claim)| (claim.until, std::cmp::Reverse(*host)))?;
        let hosts = u32::try_from(counted().count()).unwrap_or(u32::MAX);
        let jail =
            self.jails.get(usize::from(claim.jail)).cloned().unwrap_or_else(|| "unknown".into());
        Some((Told { until, host, proven }, jail, hosts))
    }

    /// The networks that every host trusts now, with what they are for and for how many more seconds.
    pub fn allows(&self, now: Time) -> Vec<(IpNet, String, Option<u64>)> {
        let in_force = self.allows.iter().filter(|(_, (_, end))| end.is_none_or(|end| end > now));
        in_force
            .map(|(network, (comment, end))| {
                (*network, comment.clone(), end.map(|end| (end - now).div_ceil(1000)))
            })
            .collect()
    }

    /// The maintenance that is asked for now; its seconds are 0 if there is none.
    pub fn maintenance(&self, now: Time) -> Closing {
        let Some((record, at)) = &self.maintenance else { return Closing::default() };
        let Maintenance { comment, seconds, closed_to_known } = record;
        // A stamp that is ahead of the servers' time must not make it longer.
        let until = (*at).min(now).saturating_add(seconds.saturating_mul(1000));
        Closing {
            stamp: *at,
            seconds: until.saturating_sub(now).div_ceil(1000),
            closed_to_known: *closed_to_known,
            comment: comment.clone(),
        }
    }

    /// What is known about each host.
    pub fn hosts(&self) -> impl Iterator<Item = HostReport> {
        self.others.iter().map(|other| HostReport {
            host: other.name.clone(),
            bans: other.bans.into(),
            refused: other.refused,
            beat: other.beat.clone(),
            is_cut: other.is_cut,
        })
    }

    /// How many bans the daemon was told of.
    pub fn told(&self) -> u64 {
        self.told.len() as u64
    }

    /// How many networks wait for room.
    pub fn waiting(&self) -> u64 {
        self.waiting.len() as u64
    }

    /// How many records no host's row counts: of unknown keys, of hosts and allowed networks beyond the bounds.
    pub fn strange(&self) -> u64 {
        self.strange
    }
}

#[cfg(test)]
mod tests;

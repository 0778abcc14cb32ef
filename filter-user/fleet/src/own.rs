//! The bans of this host that it shares, and which of them the bucket has already.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::accept::{Accept, Pace};
use crate::clock::Time;
use crate::host::Host;
use crate::key::{Key, is_shared};
use crate::record::{BanRecord, write};

/// How much later a ban must end for its record to be written again, in milliseconds.
const SLACK: Time = 5000;

/// A ban of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shared {
    /// The address or network.
    pub network: IpNet,
    /// The jail.
    pub jail: String,
    /// Whether its source is proven.
    pub proven: bool,
    /// When it ends.
    pub until: Time,
}

/// What to write into the bucket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publish {
    /// Of which network.
    pub network: IpNet,
    /// The key.
    pub key: String,
    /// The value; `None` to delete it.
    pub value: Option<String>,
}

#[derive(Clone, Debug)]
struct Wanted {
    proven: bool,
    until: Time,
}

/// The bans of this host.
#[derive(Debug)]
pub struct Own {
    host: Host,
    most: usize,
    rate: u32,
    pace: Pace,
    wanted: BTreeMap<IpNet, BTreeMap<String, Wanted>>,
    /// What the bucket has: the end of each, by its stamp.
    stored: BTreeMap<IpNet, Time>,
    ends: BTreeSet<(Time, IpNet)>,
    dirty: BTreeSet<IpNet>,
    held_back: u64,
}

impl Own {
    /// Those of this host, which shares no more than others accept.
    pub fn new(host: Host, accept: &Accept) -> Self {
        Self {
            host,
            most: usize::try_from(accept.most).unwrap_or(usize::MAX),
            rate: accept.rate,
            pace: Pace::default(),
            wanted: BTreeMap::new(),
            stored: BTreeMap::new(),
            ends: BTreeSet::new(),
            dirty: BTreeSet::new(),
            held_back: 0,
        }
    }

    /// A ban is in force, or has another end.
    pub fn banned(&mut self, ban: Shared) {
        let Shared { network, jail, proven, until } = ban;
        if !is_shared(network) {
            return;
        }
        if self.wanted.len() >= self.most && !self.wanted.contains_key(&network) {
            self.held_back += 1;
            return;
        }
        self.wanted.entry(network).or_default().insert(jail, Wanted { proven, until });
        self.ends.insert((until, network));
        self.dirty.insert(network);
    }

    /// A ban is not in force any more.
    pub fn ended(&mut self, network: IpNet, jail: &str) {
        if let Some(of) = self.wanted.get_mut(&network) {
            of.remove(jail);
            if of.is_empty() {
                self.wanted.remove(&network);
            }
            self.dirty.insert(network);
        }
    }

    /// These are all that are in force.
    pub fn replace(&mut self, all: Vec<Shared>) {
        self.dirty.extend(self.wanted.keys().copied());
        self.dirty.extend(self.stored.keys().copied());
        self.wanted.clear();
        self.ends.clear();
        for ban in all {
            self.banned(ban);
        }
    }

    /// The bucket has this record of this host, as the server stamped it.
    pub fn stored(&mut self, network: IpNet, record: Option<&BanRecord>, at: Time) {
        match record {
            Some(record) => {
                let until = at.saturating_add(record.seconds.saturating_mul(1000));
                self.stored.insert(network, until);
            }
            None => drop(self.stored.remove(&network)),
        }
        // What is wanted may have changed on the way.
        self.dirty.insert(network);
    }

    /// The bucket is read from its beginning.
    pub fn read_again(&mut self) {
        self.stored.clear();
        self.dirty.extend(self.wanted.keys().copied());
    }

    /// It could not be written.
    pub fn failed(&mut self, network: IpNet) {
        self.dirty.insert(network);
    }

    /// The next record to write, if there is one.
    pub fn next(&mut self, now: Time) -> Option<Publish> {
        while let Some((until, network)) = self.ends.first().copied()
            && until <= now
        {
            self.ends.pop_first();
            if let Some(of) = self.wanted.get_mut(&network) {
                of.retain(|_, wanted| wanted.until > now);
                if of.is_empty() {
                    self.wanted.remove(&network);
                }
            }
        }
        while let Some(network) = self.dirty.first().copied() {
            let of = self.wanted.get(&network);
            // A proven one before one that lasts longer.
            let best = of.and_then(|of| of.iter().max_by_key(|(_, one)| (one.proven, one.until)));
            let stored = self.stored.get(&network).copied().filter(|until| *until > now);
            let key = Key::Ban(self.host.clone(), network).to_string();
            let value = match (best, stored) {
                (None, None) => {
                    self.dirty.remove(&network);
                    continue;
                }
                (None, Some(_)) => None,
                (Some((jail, one)), stored) => {
                    if stored.is_some_and(|until| until.abs_diff(one.until) < SLACK) {
                        self.dirty.remove(&network);
                        continue;
                    }
                    let seconds = one.until.saturating_sub(now).div_ceil(1000);
                    Some(write(&BanRecord { jail: jail.clone(), proven: one.proven, seconds }))
                }
            };
            if value.is_some() && !self.pace.takes(now, self.rate) {
                return None;
            }
            self.dirty.remove(&network);
            return Some(Publish { network, key, value });
        }
        None
    }

    /// How many bans it shares.
    pub fn count(&self) -> u64 {
        self.wanted.len() as u64
    }

    /// How many are still to be written.
    pub fn behind(&self) -> u64 {
        self.dirty.len() as u64
    }

    /// How many were not shared because there are too many.
    pub fn held_back(&self) -> u64 {
        self.held_back
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shared(network: &str, jail: &str, until: Time) -> Shared {
        Shared { network: network.parse().unwrap(), jail: jail.to_owned(), proven: true, until }
    }

    fn all(own: &mut Own, now: Time) -> Vec<(String, Option<String>)> {
        let mut found = Vec::new();
        while let Some(Publish { network, key, value }) = own.next(now) {
            let record = value.as_ref().map(|value| crate::record::read(value.as_bytes()).unwrap());
            own.stored(network, record.as_ref(), now);
            found.push((key, value));
        }
        found
    }

    #[test]
    fn what_is_in_force_is_written_once_and_what_ends_early_is_deleted() {
        let mut own = Own::new("a".parse().unwrap(), &Accept::default());
        own.banned(shared("185.0.0.66/32", "sshd", 3_600_000));
        own.banned(shared("10.0.0.1/32", "sshd", 3_600_000));
        own.banned(shared("185.0.0.0/24", "sshd", 3_600_000));
        let key = "bans.a.b9000042-32".to_owned();
        let first = r#"{"v":1,"jail":"sshd","proven":true,"seconds":3600}"#;
        assert_eq!(all(&mut own, 0), [(key.clone(), Some(first.to_owned()))]);
        // The same again, and after the connection was lost.
        own.banned(shared("185.0.0.66/32", "sshd", 3_600_500));
        own.read_again();
        own.stored(
            "185.0.0.66/32".parse().unwrap(),
            crate::record::read(first.as_bytes()).ok().as_ref(),
            0,
        );
        assert_eq!(all(&mut own, 10_000), []);
        // A second jail that bans for longer, and the end of both.
        own.banned(shared("185.0.0.66/32", "web", 7_200_000));
        assert_eq!(all(&mut own, 10_000).len(), 1);
        own.ended("185.0.0.66/32".parse().unwrap(), "web");
        assert_eq!(all(&mut own, 10_000).len(), 1);
        own.ended("185.0.0.66/32".parse().unwrap(), "sshd");
        assert_eq!(all(&mut own, 10_000), [(key, None)]);
        // One that ends by itself needs no message.
        own.banned(shared("185.0.0.67/32", "sshd", 20_000));
        assert_eq!(all(&mut own, 10_000).len(), 1);
        own.replace(Vec::new());
        assert_eq!((all(&mut own, 20_000), own.count()), (Vec::new(), 0));
    }

    #[test]
    fn a_host_that_goes_mad_shares_no_more_than_others_accept() {
        let accept = Accept { most: 5000, ..Accept::default() };
        let mut own = Own::new("a".parse().unwrap(), &accept);
        for n in 0..10_000_u32 {
            let network = std::net::Ipv4Addr::from(0xb900_0000 + n);
            own.banned(shared(&format!("{network}/32"), "sshd", 3_600_000));
        }
        assert_eq!((own.count(), own.held_back()), (5000, 5000));
        assert_eq!(all(&mut own, 1000).len(), 2000);
        assert_eq!(all(&mut own, 2000).len(), 50);
    }
}

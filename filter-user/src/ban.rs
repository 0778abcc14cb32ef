//! A ban, and the ledger of those in force.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::clock::KernelTime;
use crate::config::Scope;
use crate::jail::Evidence;

/// Who decided a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Somebody, with `ringfence ban`.
    Hand,
    /// A jail, by its place among the known ones.
    Jail(u8),
}

impl Origin {
    /// The number in the kernel's entry.
    pub fn number(self) -> u8 {
        match self {
            Self::Hand => 0,
            Self::Jail(place) => place.saturating_add(1),
        }
    }

    /// The inverse of [`number`](Self::number).
    pub fn from_number(number: u8) -> Self {
        number.checked_sub(1).map_or(Self::Hand, Self::Jail)
    }
}

/// A ban, as the kernel's map holds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ban {
    /// One address, as `/32` or `/128`, or a network.
    pub network: IpNet,
    /// What it drops.
    pub scope: Scope,
    /// Who decided it.
    pub origin: Origin,
    /// When it began.
    pub since: KernelTime,
    /// When it ends by itself; `None`: never.
    pub until: Option<KernelTime>,
}

impl Ban {
    /// Whether it still is in force.
    pub fn in_force(&self, now: KernelTime) -> bool {
        self.until.is_none_or(|until| now < until)
    }
}

/// A ban and why.
#[derive(Clone, Debug)]
pub struct Entry {
    /// The ban.
    pub ban: Ban,
    /// Why, in words.
    pub reason: String,
    /// The failures behind it, the last ones last.
    pub evidence: Vec<Evidence>,
}

/// The bans in force, by network and by when they end.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: HashMap<IpNet, Entry>,
    ends: BTreeSet<(KernelTime, IpNet)>,
}

impl Ledger {
    /// Enters a ban, in place of one of the same network.
    pub fn insert(&mut self, entry: Entry) {
        let (network, until) = (entry.ban.network, entry.ban.until);
        self.remove(network);
        if let Some(until) = until {
            self.ends.insert((until, network));
        }
        self.entries.insert(network, entry);
    }

    /// Strikes a ban out.
    pub fn remove(&mut self, network: IpNet) -> Option<Entry> {
        let entry = self.entries.remove(&network)?;
        if let Some(until) = entry.ban.until {
            self.ends.remove(&(until, network));
        }
        Some(entry)
    }

    /// The ban of exactly this network.
    pub fn get(&self, network: IpNet) -> Option<&Entry> {
        self.entries.get(&network)
    }

    /// The ban that the kernel would apply to an address: its own, or that of the longest network
    /// around it.
    pub fn of(&self, address: IpAddr) -> Option<&Entry> {
        let own = IpNet::from(address);
        (0..=own.max_prefix_len()).rev().find_map(|length| {
            let network = IpNet::new(address, length).ok()?.trunc();
            self.entries.get(&network)
        })
    }

    /// A ban that has ended by `now`, struck out.
    pub fn pop_ended(&mut self, now: KernelTime) -> Option<Entry> {
        let (until, network) = *self.ends.first()?;
        if until > now {
            return None;
        }
        self.remove(network)
    }

    /// When the next ban ends.
    pub fn next_end(&self) -> Option<KernelTime> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// All bans, in no order.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(network: &str, until: Option<u64>) -> Entry {
        Entry {
            ban: Ban {
                network: network.parse().unwrap(),
                scope: Scope::Sip,
                origin: Origin::Hand,
                since: KernelTime(0),
                until: until.map(KernelTime),
            },
            reason: String::new(),
            evidence: Vec::new(),
        }
    }

    #[test]
    fn bans_end_in_order_and_once() {
        let mut ledger = Ledger::default();
        ledger.insert(entry("192.0.2.1/32", Some(20)));
        ledger.insert(entry("192.0.2.2/32", Some(10)));
        ledger.insert(entry("192.0.2.3/32", None));
        // Entered again, it ends at its new time only.
        ledger.insert(entry("192.0.2.1/32", Some(30)));
        assert_eq!(ledger.next_end(), Some(KernelTime(10)));
        let ended = ledger.pop_ended(KernelTime(25)).unwrap();
        assert_eq!(ended.ban.network, "192.0.2.2/32".parse().unwrap());
        assert!(ledger.pop_ended(KernelTime(25)).is_none());
        assert!(ledger.pop_ended(KernelTime(30)).is_some());
        assert!(ledger.pop_ended(KernelTime(u64::MAX)).is_none());
        assert_eq!(ledger.len(), 1);
    }

    #[test]
    fn the_longest_network_is_the_ban_of_an_address() {
        let mut ledger = Ledger::default();
        ledger.insert(entry("2001:db8::/32", None));
        ledger.insert(entry("2001:db8:1::/48", None));
        let found = ledger.of("2001:db8:1::7".parse().unwrap()).unwrap();
        assert_eq!(found.ban.network, "2001:db8:1::/48".parse().unwrap());
        assert!(ledger.of("192.0.2.1".parse().unwrap()).is_none());
    }

    #[test]
    fn origins_have_numbers() {
        for origin in [Origin::Hand, Origin::Jail(0), Origin::Jail(7)] {
            assert_eq!(Origin::from_number(origin.number()), origin);
        }
    }
}

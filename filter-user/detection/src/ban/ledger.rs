//! The bans in force, and the kernel's entries for them.
//!
//! Several bans of one address share one entry in the kernel, and a network's entry includes those of the
//! networks around it. So each change here returns the entries to write.

mod reconcile;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::net::IpAddr;
use std::ops::Bound;

use ipnet::IpNet;

pub use self::reconcile::Reconciled;
use super::networks::{Change, PrefixTree};
use super::{AddressEntry, Ban, Ends, Entry, Key, NetworkEntry, Origin, Scopes};
use crate::clock::KernelTime;
use crate::settings::Scope;

/// A write to the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Set the entry of an address.
    Address(AddressEntry),
    /// Delete the entry of an address.
    NoAddress(IpAddr),
    /// Set the entry of a network.
    Network(NetworkEntry),
    /// Delete the entry of exactly this network.
    NoNetwork(IpNet),
}

/// The bans in force.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Key, Entry>,
    ends: BTreeSet<(KernelTime, Key)>,
    networks: PrefixTree,
    /// The exceptions of bans, each with the number of bans that have it.
    exceptions: BTreeMap<IpNet, usize>,
    /// How many bans each origin has in each scope.
    counts: HashMap<(Origin, Scope), usize>,
}

impl Ledger {
    /// Enters a ban, in place of one with the same origin, network and scope, and of a throttle that it covers. A
    /// manual ban replaces any other manual ban of the network.
    pub fn insert(&mut self, entry: Entry) -> Vec<Write> {
        let mut touched = Vec::new();
        let key = entry.key();
        // Exceptions are written before their ban, so that they are not banned even for a moment.
        for exception in entry.except() {
            *self.exceptions.entry(*exception).or_default() += 1;
            touched.push(*exception);
        }
        for old in self.replaced_by(&entry) {
            self.strike_out(old.key());
            touched.extend(old.except());
        }
        if let Some(until) = entry.ban.until {
            self.ends.insert((until, key));
        }
        let network = entry.ban.network;
        *self.counts.entry((entry.ban.origin, entry.ban.scope)).or_default() += 1;
        self.entries.insert(key, entry);
        touched.push(network);
        self.writes(&touched)
    }

    /// The bans that this one would replace.
    pub fn replaced_by(&self, entry: &Entry) -> Vec<Entry> {
        let ban = entry.ban;
        self.of_network(ban.network)
            .filter(|old| old.ban.origin == ban.origin)
            .filter(|old| {
                let is_throttle = old.ban.scope == Scope::Throttle;
                ban.origin == Origin::Manual
                    || old.ban.scope == ban.scope
                    || is_throttle && ban.scope.covers(Scope::Throttle)
            })
            .cloned()
            .collect()
    }

    /// Removes this ban.
    pub fn remove(&mut self, entry: &Entry) -> Vec<Write> {
        self.remove_key(entry.key()).map_or(Vec::new(), |(_, writes)| writes)
    }

    /// Removes a ban that has ended by `now`. Returns it with the writes for it.
    pub fn pop_ended(&mut self, now: KernelTime) -> Option<(Entry, Vec<Write>)> {
        let (until, key) = *self.ends.first()?;
        if until > now {
            return None;
        }
        self.remove_key(key)
    }

    /// The bans of exactly this network.
    pub fn of_network(&self, network: IpNet) -> impl Iterator<Item = &Entry> {
        let first = (network, Origin::Manual, Scope::FIRST);
        let range = (Bound::Included(first), Bound::Unbounded);
        let range = self.entries.range(range).take_while(move |((other, ..), _)| *other == network);
        range.map(|(_, entry)| entry)
    }

    /// The bans of networks and addresses inside a network, without its own.
    pub fn inside(&self, network: IpNet) -> impl Iterator<Item = &Entry> {
        let network = network.trunc();
        // In the order of keys, a network comes directly before the networks and addresses in it.
        let range = (Bound::Included((network, Origin::Manual, Scope::FIRST)), Bound::Unbounded);
        let range = self.entries.range(range);
        let range = range.take_while(move |((other, ..), _)| network.contains(&other.addr()));
        range.map(|(_, entry)| entry).filter(move |entry| entry.ban.network != network)
    }

    /// The bans that apply to an address: its own, then those of the networks around it, up to an
    /// exception.
    pub fn of(&self, address: IpAddr) -> Vec<&Entry> {
        let mut found = Vec::new();
        let mut around = Some(IpNet::from(address));
        while let Some(network) = around {
            found.extend(self.of_network(network));
            if self.exceptions.contains_key(&network) {
                break;
            }
            around = network.supernet();
        }
        found
    }

    /// When the next ban ends.
    pub fn next_end(&self) -> Option<KernelTime> {
        self.ends.first().map(|(until, _)| *until)
    }

    /// Up to `count` bans after this one, in the order of [`iter`](Self::iter); from the first one if
    /// `None`.
    pub fn after(&self, key: Option<Key>, count: usize) -> impl Iterator<Item = &Entry> {
        let start = key.map_or(Bound::Unbounded, Bound::Excluded);
        self.entries.range((start, Bound::Unbounded)).map(|(_, entry)| entry).take(count)
    }

    /// Up to `count` bans of a network and of everything inside it after this one, in the order of
    /// [`iter`](Self::iter).
    pub fn within(
        &self,
        network: IpNet,
        behind: Option<Key>,
        count: usize,
    ) -> impl Iterator<Item = &Entry> {
        let network = network.trunc();
        let first = Bound::Included((network, Origin::Manual, Scope::FIRST));
        let start = behind.map_or(first, Bound::Excluded);
        let range = self.entries.range((start, Bound::Unbounded)).take(count);
        range.take_while(move |((other, ..), _)| network.contains(other)).map(|(_, entry)| entry)
    }

    /// Forgets the evidence of a ban, to make room.
    pub fn forget_evidence(&mut self, key: &Key) {
        if let Some(entry) = self.entries.get_mut(key) {
            *entry = entry.clone().with_evidence(Vec::new());
        }
    }

    /// All bans, by network.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// The number of bans.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// The number of bans with this origin.
    pub fn count(&self, origin: Origin) -> usize {
        self.counts().filter(|((of, _), _)| *of == origin).map(|(_, count)| count).sum()
    }

    /// How many bans each origin has in each scope.
    pub fn counts(&self) -> impl Iterator<Item = ((Origin, Scope), usize)> {
        self.counts.iter().map(|(of, count)| (*of, *count))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Enters many bans without writes. Bans that are already entered stay as they are. Fast if the ledger is
    /// empty and the bans are in order.
    pub fn load(&mut self, entries: Vec<Entry>) {
        if self.entries.is_empty() {
            for entry in &entries {
                for exception in entry.except() {
                    *self.exceptions.entry(*exception).or_default() += 1;
                }
            }
            let ends = entries.iter().filter_map(|entry| Some((entry.ban.until?, entry.key())));
            self.ends = ends.collect();
            self.entries = entries.into_iter().map(|entry| (entry.key(), entry)).collect();
            for (_, origin, scope) in self.entries.keys() {
                *self.counts.entry((*origin, *scope)).or_default() += 1;
            }
            let networks = self.entries.keys().map(|(network, ..)| *network);
            let apart = |network: &IpNet| !is_address(*network) || self.is_split(*network);
            let mut touched: BTreeSet<IpNet> = networks.filter(apart).collect();
            touched.extend(self.exceptions.keys());
            self.writes(&touched.into_iter().collect::<Vec<_>>());
        } else {
            for entry in entries {
                if self.replaced_by(&entry).is_empty() {
                    self.insert(entry);
                }
            }
        }
    }

    fn remove_key(&mut self, key: Key) -> Option<(Entry, Vec<Write>)> {
        let entry = self.strike_out(key)?;
        // The ban first: without its exceptions, it would drop packets from them.
        let mut touched = vec![entry.ban.network];
        touched.extend(entry.except());
        let writes = self.writes(&touched);
        Some((entry, writes))
    }

    fn strike_out(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        if let Some(count) = self.counts.get_mut(&(entry.ban.origin, entry.ban.scope)) {
            *count = count.saturating_sub(1);
        }
        if let Some(until) = entry.ban.until {
            self.ends.remove(&(until, key));
        }
        for exception in entry.except() {
            if let Some(bans) = self.exceptions.get_mut(exception) {
                *bans = bans.saturating_sub(1);
                if *bans == 0 {
                    self.exceptions.remove(exception);
                }
            }
        }
        Some(entry)
    }

    /// The writes after changes to bans or exceptions of these networks; each entry once.
    fn writes(&mut self, touched: &[IpNet]) -> Vec<Write> {
        let mut writes = Vec::new();
        for network in touched {
            let is_split = self.is_split(*network);
            let of_address = is_address(*network).then(|| self.address(network.addr()));
            let own = if of_address.is_some() && !is_split {
                Ends::NONE
            } else {
                self.own_ends(*network)
            };
            // The new entry is written before the old one is deleted, so the address is never let in
            // between.
            writes.extend(of_address.filter(|_| !is_split));
            let is_exception = self.exceptions.contains_key(network);
            if !own.is_empty() || is_exception || self.networks.entry(*network).is_some() {
                let changes = self.networks.set(*network, own, is_exception);
                writes.extend(changes.into_iter().map(|change| self.write_of(change)));
            }
            writes.extend(of_address.filter(|_| is_split));
        }
        if writes.len() < 2 {
            return writes;
        }
        let mut seen = HashSet::new();
        writes.reverse();
        writes.retain(|write| seen.insert(target(write)));
        writes.reverse();
        writes
    }

    fn own_ends(&self, network: IpNet) -> Ends {
        let bans = self.of_network(network).map(|entry| entry.ban);
        bans.fold(Ends::NONE, |ends, ban| ends.and(ban.scope, ban.until))
    }

    fn address(&self, address: IpAddr) -> Write {
        let bans = self.of_network(address.into()).map(|entry| entry.ban);
        merged(address, bans)
            .filter(|_| !self.is_split(address.into()))
            .map_or(Write::NoAddress(address), Write::Address)
    }

    /// Whether this address is entered as a network of one address: because its bans close scopes that open
    /// at different times, and the kernel's entry of an address has one end; or because it is throttled, and
    /// the kernel's table of addresses only has bans.
    fn is_split(&self, network: IpNet) -> bool {
        if !is_address(network) {
            return false;
        }
        let mut bans = self.of_network(network).map(|entry| entry.ban);
        let Some(first) = bans.next() else { return false };
        let Some(second) = bans.next() else { return first.scope == Scope::Throttle };
        let mut rest = [first, second].into_iter().chain(bans);
        let mut throttles = false;
        let ends = rest.by_ref().fold(Ends::NONE, |ends, ban| {
            throttles |= ban.scope == Scope::Throttle;
            ends.and(ban.scope, ban.until)
        });
        throttles || !ends.have_one_end()
    }

    fn write_of(&self, change: Change) -> Write {
        let Change { network, ends: Some(ends) } = change else {
            return Write::NoNetwork(change.network);
        };
        let bans = || self.of_network(network).map(|entry| entry.ban);
        let since = bans().map(|ban| ban.since.in_this_boot()).min().unwrap_or(KernelTime(0));
        let last = last_to_end(self.of_network(network));
        let origin = last.map_or(Origin::Manual, |entry| entry.ban.origin);
        Write::Network(NetworkEntry { network, ends, origin, since })
    }
}

/// The ban that ends last; `None`, without end, is later than any time.
pub fn last_to_end<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
    entries.max_by_key(|entry| (entry.ban.until.is_none(), entry.ban.until))
}

/// The kernel's entry for all bans of an address, if there are any.
fn merged(address: IpAddr, bans: impl Iterator<Item = Ban>) -> Option<AddressEntry> {
    bans.fold(None, |merged: Option<AddressEntry>, ban| {
        let since = ban.since.in_this_boot();
        let scopes = merged.map_or(Scopes::default(), |merged| merged.scopes).and(ban.scope);
        let alone = AddressEntry { address, scopes, origin: ban.origin, since, until: ban.until };
        let Some(merged) = merged else { return Some(alone) };
        let since = since.min(merged.since);
        let is_last = (ban.until.is_none(), ban.until) >= (merged.until.is_none(), merged.until);
        let last = if is_last { alone } else { merged };
        Some(AddressEntry { scopes, since, ..last })
    })
}

fn is_address(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

/// Which of the kernel's entries is written: those of networks and of addresses are distinct, even for
/// the same address.
fn target(write: &Write) -> (bool, IpNet) {
    match write {
        Write::Address(entry) => (true, entry.address.into()),
        Write::NoAddress(address) => (true, (*address).into()),
        Write::Network(entry) => (false, entry.network),
        Write::NoNetwork(network) => (false, *network),
    }
}

#[cfg(test)]
mod tests;

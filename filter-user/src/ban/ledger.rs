//! The bans in force, each by itself, and what the kernel must hold for them.
//!
//! Several bans of one address are one entry in the kernel, and a network's entry says what those
//! around it say too. So each change here is answered with the entries to write.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::net::IpAddr;
use std::ops::Bound;

use ipnet::IpNet;

use super::networks::{Change, Networks, read_back};
use super::{AddressEntry, Ban, Ends, Entry, InForce, NetworkEntry, Origin, Scopes};
use crate::clock::KernelTime;
use crate::config::Scope;

/// A ban's place: one decision of each about each scope of a network.
type Key = (IpNet, Origin, Scope);

/// What the kernel must be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    /// Hold this against an address.
    Address(AddressEntry),
    /// Hold nothing against this address.
    NoAddress(IpAddr),
    /// Hold this against a network.
    Network(NetworkEntry),
    /// Hold nothing against exactly this network.
    NoNetwork(IpNet),
}

/// The bans in force.
#[derive(Debug, Default)]
pub struct Ledger {
    entries: BTreeMap<Key, Entry>,
    ends: BTreeSet<(KernelTime, Key)>,
    networks: Networks,
    /// Networks that bans leave out, and how many bans do.
    holes: BTreeMap<IpNet, usize>,
    floods: usize,
}

impl Ledger {
    /// Enters a ban, in place of one by the same origin of the same network and scope; of those by
    /// hand only the last one of a network stands.
    pub fn insert(&mut self, entry: Entry) -> Vec<Write> {
        let mut touched = Vec::new();
        let key = (entry.ban.network, entry.ban.origin, entry.ban.scope);
        // Holes before what they are in, so that nobody in them is shut out for a moment.
        for hole in &entry.except {
            *self.holes.entry(*hole).or_default() += 1;
            touched.push(*hole);
        }
        for old in self.replaced_by(&entry).into_iter().map(|old| key_of(&old)).collect::<Vec<_>>()
        {
            touched.extend(self.strike_out(old).into_iter().flat_map(|old| old.except));
        }
        if let Some(until) = entry.ban.until {
            self.ends.insert((until, key));
        }
        let network = entry.ban.network;
        self.floods += usize::from(entry.ban.origin == Origin::Flood);
        self.entries.insert(key, entry);
        touched.push(network);
        self.writes(&touched)
    }

    /// The bans that would go if this one came.
    pub fn replaced_by(&self, entry: &Entry) -> Vec<Entry> {
        let ban = entry.ban;
        self.of_network(ban.network)
            .filter(|old| old.ban.origin == ban.origin)
            .filter(|old| ban.origin == Origin::Hand || old.ban.scope == ban.scope)
            .cloned()
            .collect()
    }

    /// Strikes out this ban.
    pub fn remove(&mut self, entry: &Entry) -> Vec<Write> {
        self.remove_key(key_of(entry)).map_or(Vec::new(), |(_, writes)| writes)
    }

    /// A ban that has ended by `now`, struck out, and what is to be written for it.
    pub fn pop_ended(&mut self, now: KernelTime) -> Option<(Entry, Vec<Write>)> {
        let (until, key) = *self.ends.first()?;
        if until > now {
            return None;
        }
        self.remove_key(key)
    }

    /// The bans of exactly this network.
    pub fn of_network(&self, network: IpNet) -> impl Iterator<Item = &Entry> {
        let first = (network, Origin::Hand, Scope::Sip);
        let range = (Bound::Included(first), Bound::Unbounded);
        let range = self.entries.range(range).take_while(move |((other, ..), _)| *other == network);
        range.map(|(_, entry)| entry)
    }

    /// The bans that close something to an address: its own, then those of networks around it, up to
    /// a hole.
    pub fn of(&self, address: IpAddr) -> Vec<&Entry> {
        let mut found = Vec::new();
        let mut around = Some(IpNet::from(address));
        while let Some(network) = around {
            found.extend(self.of_network(network));
            if self.holes.contains_key(&network) {
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

    /// All bans, by network.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// How many of them are the kernel's, because of floods.
    pub fn floods(&self) -> usize {
        self.floods
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Takes over what the kernel holds, as far as it is in force and `wanted`. Returns what is to be
    /// written so that the kernel holds that and no more.
    pub fn adopt(
        &mut self,
        held: &InForce,
        now: KernelTime,
        reason: &str,
        wanted: impl Fn(IpNet) -> bool,
    ) -> Vec<Write> {
        let mut writes = Vec::new();
        for entry in &held.addresses {
            let network = IpNet::from(entry.address);
            let AddressEntry { scopes, origin, since, until, .. } = *entry;
            if until.is_some_and(|until| until <= now) || !wanted(network) {
                writes.push(Write::NoAddress(entry.address));
                continue;
            }
            for scope in scopes.iter() {
                let ban = Ban { network, scope, origin, since, until };
                self.insert(plain(ban, reason));
            }
        }
        self.adopt_networks(&held.networks, now, reason, wanted);
        for entry in &held.networks {
            let entry_now = self.networks.entry(entry.network);
            if entry_now != Some(entry.ends) {
                let change = Change { network: entry.network, ends: entry_now };
                writes.push(self.write_of(change));
            }
        }
        writes
    }

    fn adopt_networks(
        &mut self,
        held: &[NetworkEntry],
        now: KernelTime,
        reason: &str,
        wanted: impl Fn(IpNet) -> bool,
    ) {
        let by_network: BTreeMap<IpNet, &NetworkEntry> =
            held.iter().map(|entry| (entry.network, entry)).collect();
        let ends: Vec<(IpNet, Ends)> = held.iter().map(|held| (held.network, held.ends)).collect();
        let origins = read_back(&ends);
        for found in origins.iter().filter(|found| wanted(found.network)) {
            let Some(NetworkEntry { network, origin, since, .. }) =
                by_network.get(&found.network).copied().copied()
            else {
                continue;
            };
            let in_force = |until: Option<KernelTime>| until.is_none_or(|until| now < until);
            for (scope, until) in found.own.iter().filter(|(_, until)| in_force(*until)) {
                self.insert(plain(Ban { network, scope, origin, since, until }, reason));
            }
        }
        // A hole belongs to the ban next around it, and of several to the one that ends last;
        // without one it has nothing to leave out.
        for hole in origins.iter().filter(|found| found.is_hole) {
            let mut around = hole.network.supernet();
            while let Some(network) = around {
                let last = last_to_end(self.of_network(network));
                if let Some(mut entry) = last.cloned() {
                    entry.except.push(hole.network);
                    self.insert(entry);
                    break;
                }
                around = network.supernet();
            }
        }
    }

    fn remove_key(&mut self, key: Key) -> Option<(Entry, Vec<Write>)> {
        let entry = self.strike_out(key)?;
        // The ban first: without its holes it would shut out who is in them.
        let mut touched = vec![entry.ban.network];
        touched.extend(&entry.except);
        let writes = self.writes(&touched);
        Some((entry, writes))
    }

    fn strike_out(&mut self, key: Key) -> Option<Entry> {
        let entry = self.entries.remove(&key)?;
        self.floods -= usize::from(entry.ban.origin == Origin::Flood);
        if let Some(until) = entry.ban.until {
            self.ends.remove(&(until, key));
        }
        for hole in &entry.except {
            if let Some(bans) = self.holes.get_mut(hole) {
                *bans = bans.saturating_sub(1);
                if *bans == 0 {
                    self.holes.remove(hole);
                }
            }
        }
        Some(entry)
    }

    /// What is to be written after changes to bans or holes of these networks; each entry once.
    fn writes(&mut self, touched: &[IpNet]) -> Vec<Write> {
        let mut writes = Vec::new();
        for network in touched {
            let is_address = network.prefix_len() == network.max_prefix_len();
            if is_address {
                writes.push(self.address(network.addr()));
            }
            let own = if is_address { Ends::NONE } else { self.own_ends(*network) };
            let is_hole = self.holes.contains_key(network);
            let changes = self.networks.set(*network, own, is_hole);
            writes.extend(changes.into_iter().map(|change| self.write_of(change)));
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
        let bans = || self.of_network(address.into()).map(|entry| entry.ban);
        let last = last_to_end(self.of_network(address.into())).map(|entry| entry.ban);
        let since = bans().map(|ban| ban.since).min();
        let (Some(last), Some(since)) = (last, since) else { return Write::NoAddress(address) };
        let scopes = bans().fold(Scopes::default(), |scopes, ban| scopes.and(ban.scope));
        Write::Address(AddressEntry {
            address,
            scopes,
            origin: last.origin,
            since,
            until: last.until,
        })
    }

    fn write_of(&self, change: Change) -> Write {
        let Change { network, ends: Some(ends) } = change else {
            return Write::NoNetwork(change.network);
        };
        let bans = || self.of_network(network).map(|entry| entry.ban);
        let since = bans().map(|ban| ban.since).min().unwrap_or(KernelTime(0));
        let last = last_to_end(self.of_network(network));
        let origin = last.map_or(Origin::Hand, |entry| entry.ban.origin);
        Write::Network(NetworkEntry { network, ends, origin, since })
    }
}

/// The one that ends last; `None`, without end, is later than everything.
pub(crate) fn last_to_end<'a>(entries: impl Iterator<Item = &'a Entry>) -> Option<&'a Entry> {
    entries.max_by_key(|entry| (entry.ban.until.is_none(), entry.ban.until))
}

fn key_of(entry: &Entry) -> Key {
    (entry.ban.network, entry.ban.origin, entry.ban.scope)
}

fn plain(ban: Ban, reason: &str) -> Entry {
    Entry { ban, except: Vec::new(), reason: reason.to_owned(), evidence: Vec::new() }
}

/// Which of the kernel's entries is written: those of networks and of addresses are not the same,
/// even for one address.
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

//! Reconciles the kernel's entries with the ledger.
//!
//! For the bans it contains, the ledger is authoritative. Any other ban in the kernel was made by a daemon
//! that had no time to save it, and is adopted.

use std::collections::{BTreeMap, HashSet};
use std::iter::Peekable;
use std::time::Duration;

use filter_common::rate::UNIT_SHIFT;
use ipnet::IpNet;

use super::{Ledger, Write, is_address, last_to_end, merged};
use crate::ban::networks::{Change, read_back};
use crate::ban::{AddressEntry, Ban, Ends, Entry, InForce, NetworkEntry, Scopes};
use crate::clock::KernelTime;

/// The result.
#[derive(Debug, Default)]
pub struct Reconciled {
    /// The writes that make the kernel agree with the ledger.
    pub writes: Vec<Write>,
    /// The bans that only the kernel had, which are now in the ledger.
    pub adopted: Vec<Entry>,
}

impl Ledger {
    /// Compares the kernel's entries with the ledger. A ban that only the kernel has is adopted with this
    /// `reason` if it is in force, `wanted`, and not among the bans known to have `ended`: the kernel's entry
    /// keeps every ban of an address until the last one ends.
    pub fn reconcile(
        &mut self,
        held: &InForce,
        ended: &HashSet<IpNet>,
        now: KernelTime,
        reason: &str,
        wanted: impl Fn(IpNet) -> bool,
    ) -> Reconciled {
        let mut done = Reconciled::default();
        let mut split = Vec::new();
        let unknown = self.compare_addresses(&held.addresses, &mut done.writes, &mut split);
        for (entry, scopes) in &unknown {
            let network = IpNet::from(entry.address);
            let in_force = entry.until.is_none_or(|until| now < until);
            if !in_force || ended.contains(&network) || !wanted(network) {
                continue;
            }
            let AddressEntry { origin, until, .. } = *entry;
            done.adopted.extend(scopes.iter().map(|scope| {
                let ban = Ban { network, scope, origin, since: entry.since.into(), until };
                Entry::new(ban, reason)
            }));
        }
        done.adopted.sort_unstable_by_key(Entry::key);
        self.load(done.adopted.clone());
        for (entry, _) in unknown {
            let write = self.address(entry.address);
            if !matches!(write, Write::Address(now) if agree(&now, &entry)) {
                done.writes.push(write);
            }
        }
        done.adopted.extend(self.adopt_networks(&held.networks, ended, now, reason, wanted));
        self.compare_networks(&held.networks, &mut done.writes);
        // The entries of networks that concern these addresses are written now.
        done.writes.extend(split);
        done
    }

    /// The writes for the addresses in the ledger and for any others in the kernel. The addresses in
    /// `split` become networks of one address: their address entries are deleted.
    fn compare_addresses(
        &self,
        held: &[AddressEntry],
        writes: &mut Vec<Write>,
        split: &mut Vec<Write>,
    ) -> Vec<(AddressEntry, Scopes)> {
        let mut held = held.to_vec();
        held.sort_unstable_by_key(|entry| entry.address);
        let mut held = held.into_iter().peekable();
        let mut unknown = Vec::new();
        let mut own =
            self.iter().map(|entry| entry.ban).filter(|b| is_address(b.network)).peekable();
        while let Some(wanted) = next_address(&mut own) {
            while let Some(before) = held.next_if(|held| held.address < wanted.address) {
                unknown.push((before, before.scopes));
            }
            let found = held.next_if(|held| held.address == wanted.address);
            let beyond = found.map_or(Scopes::default(), |held| held.scopes.beyond(wanted.scopes));
            let is_split = self.is_split(wanted.address.into());
            match found {
                Some(found) if beyond != Scopes::default() => unknown.push((found, beyond)),
                Some(_) if is_split => split.push(Write::NoAddress(wanted.address)),
                None if is_split => {}
                Some(found) if agree(&wanted, &found) => {}
                Some(_) | None => writes.push(Write::Address(wanted)),
            }
        }
        unknown.extend(held.map(|rest| (rest, rest.scopes)));
        unknown
    }

    fn adopt_networks(
        &mut self,
        held: &[NetworkEntry],
        ended: &HashSet<IpNet>,
        now: KernelTime,
        reason: &str,
        wanted: impl Fn(IpNet) -> bool,
    ) -> Vec<Entry> {
        let by_network: BTreeMap<IpNet, &NetworkEntry> =
            held.iter().map(|entry| (entry.network, entry)).collect();
        let ends: Vec<(IpNet, Ends)> = held.iter().map(|held| (held.network, held.ends)).collect();
        let is_known = |ledger: &Self, network| {
            ledger.of_network(network).next().is_some()
                || ledger.exceptions.contains_key(&network)
                || ended.contains(&network)
        };
        let mut unknown = read_back(&ends);
        unknown.retain(|found| !is_known(self, found.network));
        let mut adopted: BTreeMap<_, Entry> = BTreeMap::new();
        for found in unknown.iter().filter(|found| wanted(found.network)) {
            let Some(NetworkEntry { network, origin, since, .. }) =
                by_network.get(&found.network).copied().copied()
            else {
                continue;
            };
            let in_force = |until: Option<KernelTime>| until.is_none_or(|until| now < until);
            for (scope, until) in found.own.iter().filter(|(_, until)| in_force(*until)) {
                let ban = Ban { network, scope, origin, since: since.into(), until };
                let entry = Entry::new(ban, reason);
                adopted.insert(entry.key(), entry.clone());
                self.insert(entry);
            }
        }
        // An exception belongs to the next ban around it, or to the last to end if there are several;
        // without one, it has no effect.
        for exception in unknown.iter().filter(|found| found.is_exception) {
            let mut around = exception.network.supernet();
            while let Some(network) = around {
                let last = last_to_end(self.of_network(network));
                if let Some(entry) = last.cloned() {
                    // A ban in the ledger has its own exceptions.
                    if adopted.contains_key(&entry.key()) {
                        let mut except = entry.except().to_vec();
                        except.push(exception.network);
                        let entry = entry.with_except(except);
                        adopted.insert(entry.key(), entry.clone());
                        self.insert(entry);
                    }
                    break;
                }
                around = network.supernet();
            }
        }
        adopted.into_values().collect()
    }

    fn compare_networks(&self, held: &[NetworkEntry], writes: &mut Vec<Write>) {
        let mut held: BTreeMap<IpNet, &NetworkEntry> =
            held.iter().map(|entry| (entry.network, entry)).collect();
        let mut missing: Vec<Write> = Vec::new();
        for (network, ends) in self.networks.iter() {
            let found = held.remove(&network);
            if !found.is_some_and(|found| ends.agree(found.ends, unit())) {
                missing.push(self.write_of(Change { network, ends: Some(ends) }));
            }
        }
        // From narrow to wide: exceptions before the networks around them.
        let length = |write: &Write| match write {
            Write::Network(entry) => entry.network.prefix_len(),
            Write::NoNetwork(network) => network.prefix_len(),
            Write::Address(_) | Write::NoAddress(_) => 0,
        };
        missing.sort_by_key(|write| std::cmp::Reverse(length(write)));
        writes.extend(missing);
        // And in reverse: a ban before its exceptions.
        writes.extend(held.into_keys().map(Write::NoNetwork));
    }
}

/// The entry of the next address among these bans, which are in the order of addresses.
fn next_address(bans: &mut Peekable<impl Iterator<Item = Ban>>) -> Option<AddressEntry> {
    let network = bans.peek()?.network;
    let of_it = std::iter::from_fn(|| bans.next_if(|ban| ban.network == network));
    merged(network.addr(), of_it)
}

/// The resolution of the kernel's times.
fn unit() -> Duration {
    Duration::from_nanos(1 << UNIT_SHIFT)
}

/// Whether two entries differ by no more than the resolution of the kernel's times.
fn agree(one: &AddressEntry, other: &AddressEntry) -> bool {
    let near =
        |one: KernelTime, other: KernelTime| one.since(other).max(other.since(one)) <= unit();
    let same_end = match (one.until, other.until) {
        (None, None) => true,
        (Some(one), Some(other)) => near(one, other),
        (Some(_), None) | (None, Some(_)) => false,
    };
    (one.scopes, one.origin) == (other.scopes, other.origin)
        && same_end
        && near(one.since, other.since)
}

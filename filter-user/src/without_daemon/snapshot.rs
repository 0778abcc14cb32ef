//! The kernel's state in the form that the controller uses. Changes by the controller are recorded, and
//! made later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::{Error, Result};
use filter_common::abi::Learning;
use ipnet::IpNet;

use crate::ban::{AddressEntry, Ban, Ends, InForce, NetworkEntry, Scopes, Write};
use crate::clock::KernelTime;
use crate::datapath::{
    ClosedSip, Datapath, Exchange, Interface, InterfaceCounters, KnownPeer, Owned, Pinned,
};

/// The pinned maps, if any, and the recorded changes.
pub(super) struct Snapshot {
    pinned: Option<Pinned>,
    known: BTreeMap<IpAddr, KnownPeer>,
    writes: Vec<Write>,
}

impl Snapshot {
    pub(super) fn new(pinned: Option<Pinned>, now: KernelTime) -> Result<Self> {
        let known = pinned.as_ref().map(|pinned| pinned.known(now)).transpose()?;
        let known = known.unwrap_or_default().into_iter().collect();
        Ok(Self { pinned, known, writes: Vec::new() })
    }

    /// Leaves the maps as they are.
    pub(super) fn discard(&mut self) {
        self.writes.clear();
    }

    /// The number of recorded changes.
    pub(super) fn waiting(&self) -> usize {
        self.writes.len()
    }

    /// Makes the changes in the maps. Returns how many were made, and why one was refused; the others are
    /// still made.
    pub(super) fn carry_out(&mut self, owned: &Owned) -> (usize, Option<Error>) {
        let (mut made, mut refused) = (0, None);
        for write in self.writes.drain(..) {
            let written = self.pinned.as_mut().map_or(Ok(()), |pinned| pinned.write(&write, owned));
            match written {
                Ok(()) => made += 1,
                Err(why) => refused = refused.or(Some(why)),
            }
        }
        (made, refused)
    }

    fn note(&mut self, write: Write) {
        self.writes.push(write);
    }
}

/// Whether a ban of the store's is among those `held` by the kernel and in force at `now`.
pub(super) fn is_enforced(held: &InForce, now: KernelTime) -> impl Fn(&Ban) -> bool + use<> {
    let addresses: HashMap<IpAddr, (Scopes, Option<KernelTime>)> =
        held.addresses.iter().map(|entry| (entry.address, (entry.scopes, entry.until))).collect();
    let networks: HashMap<IpNet, Ends> =
        held.networks.iter().map(|entry| (entry.network, entry.ends)).collect();
    let is_ahead = move |until: Option<KernelTime>| until.is_none_or(|until| now < until);
    move |ban: &Ban| {
        let as_address = ban.address().and_then(|address| addresses.get(&address));
        let as_network = networks.get(&ban.network);
        as_address.is_some_and(|(scopes, until)| scopes.contains(ban.scope) && is_ahead(*until))
            || as_network.is_some_and(|ends| {
                ends.iter().any(|(scope, until)| scope == ban.scope && is_ahead(until))
            })
    }
}

impl Datapath for Snapshot {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        self.note(Write::Address(*entry));
        Ok(())
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.note(Write::NoAddress(address));
        Ok(())
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        self.note(Write::Network(*entry));
        Ok(())
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.note(Write::NoNetwork(network));
        Ok(())
    }

    // Only a daemon has these and keeps them up to date.

    fn own(&mut self, _addresses: &BTreeSet<IpAddr>) -> Result<()> {
        Ok(())
    }

    fn trust(&mut self, _networks: &[IpNet]) -> Result<()> {
        Ok(())
    }

    fn maintenance(&mut self, _closed: Option<ClosedSip>) -> Result<()> {
        Ok(())
    }

    fn disable(&mut self, _disabled: bool) -> Result<()> {
        Ok(())
    }

    fn know(&mut self, _address: IpAddr, _now: KernelTime) -> Result<()> {
        Ok(())
    }

    fn in_maintenance(&self) -> Option<ClosedSip> {
        None
    }

    fn is_disabled(&self) -> bool {
        !self.pinned.as_ref().is_some_and(Pinned::drops)
    }

    fn known(&self, address: IpAddr) -> Option<KnownPeer> {
        self.known.get(&address).copied()
    }

    fn known_in(&self, network: IpNet, _now: KernelTime) -> Vec<IpAddr> {
        self.known.range(network.network()..=network.broadcast()).map(|(peer, _)| *peer).collect()
    }

    fn known_count(&self) -> u64 {
        u64::try_from(self.known.len()).unwrap_or(u64::MAX)
    }

    fn learning(&self) -> Learning {
        Learning::default()
    }

    fn seen(&self, _address: IpAddr, _now: KernelTime) -> bool {
        false
    }

    fn has_connection(&self, _address: IpAddr, _port: u16) -> bool {
        false
    }

    fn exchange(&self, _address: IpAddr) -> Option<Exchange> {
        None
    }

    fn packets(&self, network: IpNet) -> u64 {
        self.pinned.as_ref().map_or(0, |pinned| pinned.packets(network))
    }

    fn interfaces(&self) -> Vec<Interface> {
        Vec::new()
    }

    fn counters(&self) -> Result<Vec<InterfaceCounters>> {
        Ok(Vec::new())
    }

    fn signatures(&self) -> Vec<(String, u64)> {
        Vec::new()
    }

    fn capacity(&self) -> u64 {
        u64::MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ban::Origin;
    use crate::clock::Moment;
    use crate::config::Scope;

    fn at(second: u64) -> KernelTime {
        KernelTime(second * 1_000_000_000)
    }

    #[test]
    fn a_ban_counts_if_the_kernel_enforces_it() {
        let (origin, since) = (Origin::Manual, at(1));
        let ends = Ends::NONE.and(Scope::Sip, Some(at(20))).and(Scope::All, None);
        let entry =
            |network: &str| NetworkEntry { network: network.parse().unwrap(), ends, origin, since };
        let held = InForce {
            addresses: vec![AddressEntry {
                address: "192.0.2.7".parse().unwrap(),
                scopes: Scopes::default().and(Scope::Sip),
                origin,
                since,
                until: Some(at(20)),
            }],
            networks: vec![entry("198.51.100.0/24"), entry("192.0.2.8/32")],
        };
        let ban = |network: &str, scope| Ban {
            network: network.parse().unwrap(),
            scope,
            origin,
            since: Moment::from(since),
            until: None,
        };
        for (network, scope, early, late) in [
            ("192.0.2.7/32", Scope::Sip, true, false),
            ("192.0.2.7/32", Scope::All, false, false),
            ("192.0.2.8/32", Scope::Sip, true, false),
            ("192.0.2.8/32", Scope::All, true, true),
            ("192.0.2.9/32", Scope::Sip, false, false),
            ("198.51.100.0/24", Scope::All, true, true),
            ("198.51.100.0/25", Scope::All, false, false),
        ] {
            let found = [19, 20].map(|second| is_enforced(&held, at(second))(&ban(network, scope)));
            assert_eq!(found, [early, late], "{network} {scope:?}");
        }
    }
}

//! A datapath without a kernel: it keeps bans in memory, and reports every address as seen.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use anyhow::Result;
use filter_common::abi::Learning;
use filter_user::ban::{AddressEntry, NetworkEntry};
use filter_user::clock::KernelTime;
use filter_user::datapath::{
    ClosedSip, Datapath, Exchange, Interface, InterfaceCounters, KnownPeer,
};
use ipnet::IpNet;

/// The bans that are in force.
#[derive(Debug, Default)]
pub(super) struct NoKernel {
    addresses: HashMap<IpAddr, AddressEntry>,
    networks: HashMap<IpNet, NetworkEntry>,
}

impl NoKernel {
    /// The number of banned addresses, and of networks, which throttles are.
    pub(super) fn banned(&self) -> usize {
        self.addresses.len() + self.networks.len()
    }
}

impl Datapath for NoKernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        self.addresses.insert(entry.address, *entry);
        Ok(())
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.addresses.remove(&address);
        Ok(())
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        self.networks.insert(entry.network, *entry);
        Ok(())
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.networks.remove(&network);
        Ok(())
    }

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

    fn is_disabled(&self) -> bool {
        false
    }

    fn in_maintenance(&self) -> Option<ClosedSip> {
        None
    }

    fn know(&mut self, _address: IpAddr, _now: KernelTime) -> Result<()> {
        Ok(())
    }

    fn known(&self, _address: IpAddr) -> Option<KnownPeer> {
        None
    }

    fn known_in(&self, _network: IpNet, _now: KernelTime) -> Vec<IpAddr> {
        Vec::new()
    }

    fn known_count(&self) -> u64 {
        0
    }

    fn learning(&self) -> Learning {
        Learning { learned: 0, refreshed: 0, full: 0 }
    }

    fn seen(&self, _address: IpAddr, _now: KernelTime) -> bool {
        true
    }

    fn has_connection(&self, _address: IpAddr, _port: u16) -> bool {
        false
    }

    fn exchange(&self, _address: IpAddr) -> Option<Exchange> {
        None
    }

    fn packets(&self, _network: IpNet) -> u64 {
        0
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
        1_000_000
    }
}

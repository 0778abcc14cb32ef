//! The kernel's side: the policy of the program over its tables in memory, as the controller's datapath.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::Duration;

use anyhow::{Result, anyhow};
use filter_common::abi::{
    self, ABI_VERSION, BanEntry, FLAG_GREYLIST, FOREVER, Learning, WireEvent,
};
use filter_common::address::Address;
use filter_common::ban_table::Slot;
use filter_common::decision::Reason;
use filter_common::rate::{UNIT_SHIFT, unit};
use filter_user::ban::{AddressEntry, NetworkEntry};
use filter_user::clock::KernelTime;
use filter_user::config::Config;
use filter_user::datapath::{
    ClosedSip, Datapath, Exchange, Interface, InterfaceCounters, KnownPeer, limits,
};
use ipnet::IpNet;
use ringfence_packets::model::live::Live;

/// How long a packet is a witness for a failure, as the daemon counts it.
const WITNESS: Duration = Duration::from_secs(8);

/// The secret of the hashes.
const SEED: u64 = 0x5eed;

/// The tables, shared by the controller and the host's network.
#[derive(Clone, Debug)]
pub(super) struct Kernel(Rc<RefCell<State>>);

#[derive(Debug)]
struct State {
    live: Live,
    /// The networks that were banned or throttled since they were last asked for.
    closed: Vec<IpNet>,
}

impl Kernel {
    /// A kernel with the settings of a configuration that concern packets over UDP.
    pub(super) fn new(config: &Config) -> Self {
        let state = State { live: Live::new(&of_program(config)), closed: Vec::new() };
        Self(Rc::new(RefCell::new(state)))
    }

    pub(super) fn set_time(&self, now: KernelTime) {
        self.0.borrow_mut().live.set_time(now.0);
    }

    /// Decides about a datagram to the SIP port.
    pub(super) fn arrives(&self, from: SocketAddr, message: &str) -> Reason {
        self.0.borrow().live.arrives(from, message.as_bytes())
    }

    /// Reads a datagram that leaves the SIP port.
    pub(super) fn leaves(&self, to: SocketAddr, message: &str) -> Vec<WireEvent> {
        self.0.borrow_mut().live.leaves(to, message.as_bytes())
    }

    /// The networks that were banned or throttled since the last call.
    pub(super) fn take_closed(&self) -> Vec<IpNet> {
        std::mem::take(&mut self.0.borrow_mut().closed)
    }
}

/// The program's configuration, as far as it concerns packets over UDP.
fn of_program(config: &Config) -> abi::Config {
    abi::Config {
        abi_version: ABI_VERSION,
        flags: if config.limits.greylist { FLAG_GREYLIST } else { 0 },
        seed: SEED,
        tick: 1,
        known_for: u64::try_from(config.peers.remember.as_nanos()).unwrap_or(u64::MAX),
        ..limits(&config.limits)
    }
}

/// An end in the unit of the entries, rounded up.
fn end(until: Option<KernelTime>) -> u32 {
    until.map_or(FOREVER, |until| unit(until.0).saturating_add(1).min(FOREVER - 1))
}

impl Datapath for Kernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        let AddressEntry { address, scopes, origin, since, until } = *entry;
        let (until, since) = (end(until), unit(since.0));
        let (scopes, origin) = (scopes.mask(), origin.number());
        let mut state = self.0.borrow_mut();
        match address {
            IpAddr::V4(v4) => {
                let word = u32::from_le_bytes(v4.octets());
                let slot = Slot { address: word, until, since, scopes, origin, packets: 0 };
                state.live.ban_v4(slot).map_err(|full| anyhow!("{full}"))?;
            }
            IpAddr::V6(_) => {
                let entry = BanEntry { until, since, scopes, origin, ..BanEntry::default() };
                state.live.ban_v6(Address::from(address), entry);
            }
        }
        state.closed.push(address.into());
        Ok(())
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.0.borrow_mut().live.unban(address);
        Ok(())
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        let NetworkEntry { network, ends, origin, since } = *entry;
        let mut of_program = abi::NetworkEntry {
            since: unit(since.0),
            origin: origin.number(),
            length: network.prefix_len() + if network.addr().is_ipv4() { 96 } else { 0 },
            ..abi::NetworkEntry::default()
        };
        for (scope, until) in ends.iter() {
            of_program.ends[usize::from(scope.bit())] = end(until);
        }
        let mut state = self.0.borrow_mut();
        state.live.set_network(network, Some(of_program));
        state.closed.push(network);
        Ok(())
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.0.borrow_mut().live.set_network(network, None);
        Ok(())
    }

    fn own(&mut self, _addresses: &BTreeSet<IpAddr>) -> Result<()> {
        Ok(())
    }

    fn trust(&mut self, networks: &[IpNet]) -> Result<()> {
        self.0.borrow_mut().live.trust(networks);
        Ok(())
    }

    fn maintenance(&mut self, _closed: Option<ClosedSip>) -> Result<()> {
        Ok(())
    }

    fn in_maintenance(&self) -> Option<ClosedSip> {
        None
    }

    fn disable(&mut self, _disabled: bool) -> Result<()> {
        Ok(())
    }

    fn is_disabled(&self) -> bool {
        false
    }

    fn know(&mut self, address: IpAddr, _now: KernelTime) -> Result<()> {
        self.0.borrow_mut().live.know(address);
        Ok(())
    }

    fn known(&self, address: IpAddr) -> Option<KnownPeer> {
        let peer = self.0.borrow().live.known(address)?;
        Some(KnownPeer { until: KernelTime(peer.until), passed: peer.passed })
    }

    fn known_in(&self, network: IpNet, _now: KernelTime) -> Vec<IpAddr> {
        let state = self.0.borrow();
        state.live.known_peers().filter(|address| network.contains(address)).collect()
    }

    fn known_count(&self) -> u64 {
        self.0.borrow().live.known_peers().count() as u64
    }

    fn learning(&self) -> Learning {
        Learning::default()
    }

    fn seen(&self, address: IpAddr, now: KernelTime) -> bool {
        let seen = self.0.borrow().live.seen(address);
        seen.is_some_and(|seen| now.since(KernelTime(seen)) <= WITNESS)
    }

    fn has_connection(&self, _address: IpAddr, _port: u16) -> bool {
        false
    }

    fn exchange(&self, address: IpAddr) -> Option<Exchange> {
        let live = &self.0.borrow().live;
        let at = |at: u64| (at != 0).then_some(KernelTime(at));
        let established_at = at(u64::from(live.established(address)) << UNIT_SHIFT);
        let proven_at = at(live.proven_at(address));
        Some(Exchange { proven_at, established_at, ..Exchange::default() })
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
        4096
    }
}

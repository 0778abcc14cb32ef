//! A datapath without a kernel.

use super::*;

/// A datapath that only records calls.
#[derive(Default)]
pub(crate) struct NoKernel {
    pub(super) bans: BTreeMap<IpAddr, AddressEntry>,
    pub(super) networks: BTreeMap<IpNet, NetworkEntry>,
    pub(super) own: BTreeSet<IpAddr>,
    pub(super) trusted: Vec<IpNet>,
    pub(super) room: Option<usize>,
    pub(super) unseen: Vec<IpAddr>,
    pub(super) known: Vec<IpAddr>,
    /// When known peers are forgotten.
    pub(crate) ends: BTreeMap<IpAddr, KernelTime>,
    pub(super) closed: Option<ClosedSip>,
    pub(super) disabled: bool,
    /// How often it was asked for known peers.
    pub(super) asked_for_known: Cell<u64>,
    pub(super) bare: Option<String>,
    /// The addresses that were challenged.
    pub(super) answered: BTreeMap<IpAddr, Exchange>,
    /// The TCP connections to SIP ports.
    pub(super) connections: BTreeSet<(IpAddr, u16)>,
}

impl NoKernel {
    pub(super) fn room(&self) -> Result<()> {
        let full = self.room.is_some_and(|room| self.bans.len() + self.networks.len() >= room);
        anyhow::ensure!(!full, "the table is full");
        Ok(())
    }

    pub(super) fn held(&self) -> InForce {
        InForce {
            addresses: self.bans.values().copied().collect(),
            networks: self.networks.values().copied().collect(),
        }
    }
}

impl Datapath for NoKernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        if !self.bans.contains_key(&entry.address) {
            self.room()?;
        }
        self.bans.insert(entry.address, *entry);
        Ok(())
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.bans.remove(&address);
        Ok(())
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        if !self.networks.contains_key(&entry.network) {
            self.room()?;
        }
        self.networks.insert(entry.network, *entry);
        Ok(())
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.networks.remove(&network);
        Ok(())
    }

    fn maintenance(&mut self, closed: Option<ClosedSip>) -> Result<()> {
        self.closed = closed;
        Ok(())
    }

    fn disable(&mut self, disabled: bool) -> Result<()> {
        self.disabled = disabled;
        Ok(())
    }

    fn is_disabled(&self) -> bool {
        self.disabled
    }

    fn in_maintenance(&self) -> Option<ClosedSip> {
        self.closed
    }

    fn know(&mut self, address: IpAddr, _now: KernelTime) -> Result<()> {
        self.known.push(address);
        Ok(())
    }

    fn recall(&mut self, address: IpAddr, until: KernelTime, _now: KernelTime) -> Result<()> {
        if !self.known.contains(&address) {
            self.known.push(address);
            self.ends.insert(address, until);
        }
        Ok(())
    }

    fn known_until(&self, _now: KernelTime) -> Vec<(IpAddr, KernelTime)> {
        let end = |address| (address, self.ends.get(&address).copied().unwrap_or(at(7200)));
        self.known.iter().copied().map(end).collect()
    }

    fn known(&self, address: IpAddr) -> Option<KnownPeer> {
        self.known.contains(&address).then_some(KnownPeer { until: at(7200), passed: 42 })
    }

    fn known_in(&self, network: IpNet, _now: KernelTime) -> Vec<IpAddr> {
        self.asked_for_known.set(self.asked_for_known.get() + 1);
        self.known.iter().copied().filter(|address| network.contains(address)).collect()
    }

    fn learning(&self) -> Learning {
        // All known peers were learned.
        let known = u64::try_from(self.known.len()).unwrap();
        Learning { learned: 3 + known, refreshed: 2, full: 1 }
    }

    fn known_count(&self) -> u64 {
        u64::try_from(self.known.len()).unwrap()
    }

    fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        self.own.clone_from(addresses);
        Ok(())
    }

    fn trust(&mut self, networks: &[IpNet]) -> Result<()> {
        self.trusted = networks.to_vec();
        Ok(())
    }

    fn seen(&self, address: IpAddr, _now: KernelTime) -> bool {
        !self.unseen.contains(&address)
    }

    fn has_connection(&self, address: IpAddr, port: u16) -> bool {
        self.connections.contains(&(address, port))
    }

    fn exchange(&self, address: IpAddr) -> Option<Exchange> {
        self.answered.get(&address).copied()
    }

    fn packets(&self, network: IpNet) -> u64 {
        match network.addr() {
            IpAddr::V4(address) if address.octets()[0] == 11 => u64::from(address.octets()[3] % 50),
            IpAddr::V4(_) | IpAddr::V6(_) => 7,
        }
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.counters().unwrap().into_iter().map(|counted| counted.interface).collect()
    }

    fn counters(&self) -> Result<Vec<InterfaceCounters>> {
        let interface = |slot: u32, name: &str| Interface {
            name: name.to_owned(),
            slot,
            mode: Mode::Native,
            fallback: None,
            adopted: false,
            unprotected: self.bare.clone(),
            not_learning: None,
        };
        let count = |packets| Count { packets, bytes: packets * 100 };
        let counters = |slot, name| InterfaceCounters {
            interface: interface(slot, name),
            reasons: vec![(Reason::OtherPort, count(5)), (Reason::Banned, count(3))],
            would_drop: vec![(Reason::Banned, count(0))],
        };
        Ok(vec![counters(0, "eth0"), counters(1, "eth1")])
    }

    fn signatures(&self) -> Vec<(String, u64)> {
        vec![("sipcli*".to_owned(), 3)]
    }

    fn capacity(&self) -> u64 {
        10
    }
}

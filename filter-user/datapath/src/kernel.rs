//! The program attached to its interfaces: reads and writes its maps, and monitors the interfaces.
//!
//! Must never decide.

mod start;

use std::collections::{BTreeSet, HashSet};
use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, MapData};
use detection::ban::{AddressEntry, NetworkEntry};
use detection::clock::KernelTime;
use detection::settings::{PortClasses, SipPorts};
use filter_common::abi::{
    Challenged, FLAG_CLOSED_TO_KNOWN, FLAG_DISABLED, FLAG_GEO, FLAG_GEO_DRY_RUN, Flooder, Learning,
};
use filter_common::address::Address;
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{
    BANNED_NETWORKS, INTERFACES, SEEN_PLACES, TRUSTED_NETWORKS, WITNESS_UNITS,
};
use filter_common::rate::{UNIT_SHIFT, seen_ago};
use ipnet::IpNet;

use self::start::load;
pub use self::start::{Locked, Opened};
use super::attach;
use super::bans::{Bans, if_there, network_key};
use super::beat::{Heart, LastBeat};
use super::clock;
use super::clocks::{self, Clocks};
use super::config_map::ConfigMap;
use super::configure::{self, SignatureMap, signature_key};
use super::counters::Counters;
use super::disable;
use super::floods;
use super::gates;
use super::geo::GeoMode;
use super::guard::Guard;
use super::mapped::Memory;
use super::netlink;
use super::peers::KnownPeers;
use super::pins::Pins;
use super::port::{ClosedSip, Count, Datapath, Exchange, Interface, InterfaceCounters, KnownPeer};
use super::settings::{Guarded, Limit, Mode as Wanted, Settings, UserAgent};
use super::slots::Slot;
use super::sockets;
use super::trust;
use super::unread::Unread;
use super::visits::Visits;

/// How many of the host's own addresses and of its SIP ports are looked at for a connection.
const LOCAL_ENDS: usize = 8;

/// The program attached to its interfaces, and its maps.
pub struct Kernel {
    guards: Vec<Guard>,
    bans: Bans,
    config: ConfigMap<MapData>,
    seed: u64,
    trusted: LpmTrie<MapData, [u64; 2], u32>,
    trust_gate: Memory,
    /// The trusted networks. `trusted_by_route`: whether each is trusted only on the interfaces that
    /// its route uses.
    trusted_networks: Vec<IpNet>,
    trusted_by_route: bool,
    peers: KnownPeers,
    flooders: HashMap<MapData, [u64; 2], Flooder>,
    challenged: HashMap<MapData, [u64; 2], Challenged>,
    signatures: SignatureMap,
    ports: configure::PortMap,
    open_to: configure::PortMap,
    port_settings: (SipPorts, PortClasses, Guarded),
    visits: Visits,
    user_agents: Vec<UserAgent>,
    seen: Array<MapData, u32>,
    counters: Counters,
    capacity: u32,
    /// The usual limit of bytes of a network.
    prefix_bytes: Limit,
    mode: Wanted,
    checks: u32,
    bans_ipv6: u32,
    unread: Unread,
    heart: Heart,
    // Includes the lock.
    pins: Pins,
}

/// Every 12th call of [`Kernel::check`] removes known peers that have expired.
const CHECKS_PER_PRUNING: u32 = 12;

impl Kernel {
    /// Writes a heartbeat for the program. Returns the previous one if the filter has been without a
    /// controller since.
    pub fn beat(&mut self, now: KernelTime) -> Option<LastBeat> {
        self.heart.beat(now)
    }

    /// Applies other settings: limits, ports, signatures, whether packets are dropped, and whether
    /// networks are trusted by route. The interfaces, their mode and the sizes of the maps do not
    /// change.
    /// Each packet is judged by either the old limits or the new ones.
    ///
    /// # Errors
    ///
    /// If the kernel refuses. Some of the settings may have been written then.
    pub fn configure(&mut self, settings: &Settings) -> Result<()> {
        let old = self.config.get()?;
        self.trusted_by_route = settings.trusted_by_route;
        self.user_agents.clone_from(&settings.user_agents);
        self.peers.remember = settings.known_for;
        self.prefix_bytes = settings.limits.tcp_bytes.prefix;
        self.heart.set_after(settings.unattended_after);
        self.write(settings, Clocks { epoch: old.jiffies_epoch, tick: old.tick })
    }

    /// Writes the settings that the program reads, the configuration last.
    fn write(&mut self, settings: &Settings, clocks: Clocks) -> Result<()> {
        self.port_settings =
            (settings.sip.clone(), settings.ports.clone(), settings.guarded.clone());
        self.write_ports()?;
        configure::write_signatures(&mut self.signatures, &settings.user_agents)?;
        let old = self.config.get()?;
        let lines = (self.bans.lines(), self.bans.cache_lines());
        self.config.set(&configure::config(settings, &old, clocks, lines, clock::now()))
    }

    /// Ends the time after maintenance in which phones come back.
    fn check_return(&mut self) -> Result<()> {
        let old = self.config.get()?;
        let mut config = old;
        configure::ease(&mut config, self.prefix_bytes, clock::now());
        if config == old { Ok(()) } else { self.config.set(&config) }
    }

    fn write_ports(&mut self) -> Result<()> {
        let (sip, named, guarded) = &self.port_settings;
        let recorded = self.visits.ports();
        configure::write_ports(&mut self.ports, &mut self.open_to, sip, named, guarded, recorded)
    }

    /// Records from now on which networks use these ports, and those that were recorded before if there
    /// is room. `tcp` is the first of each pair.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn record_visits(&mut self, listening: &BTreeSet<(bool, u16)>) -> Result<()> {
        // A program of an earlier version would take these ports for closed ones.
        let has_older = |guard: &Guard| guard.is_bare() && guard.has_ours(&self.pins);
        let changed = if self.guards.iter().any(has_older) {
            self.visits.pause()
        } else {
            let (SipPorts { udp, tcp }, ..) = &self.port_settings;
            let is_sip = |of_tcp: bool, port: u16| {
                let ranges = if of_tcp { tcp } else { udp };
                ranges.iter().any(|range| range.contains(port))
            };
            let wanted = listening.iter().filter(|(of_tcp, port)| !is_sip(*of_tcp, *port));
            self.visits.record(&wanted.copied().collect(), clock::now())?
        };
        if changed { self.write_ports() } else { Ok(()) }
    }

    /// Attaches programs again where they were lost, and to interfaces that have appeared. Returns
    /// messages for the administrator about what has changed.
    pub fn check(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        notes
            .extend(self.check_clock().err().map(|error| format!("the kernel's clock: {error:#}")));
        let checked = self.check_return();
        notes.extend(checked.err().map(|error| format!("the limits after maintenance: {error:#}")));
        self.checks = self.checks.wrapping_add(1);
        if self.checks.is_multiple_of(CHECKS_PER_PRUNING) {
            self.peers.forget(clock::now(), &self.unread);
        }
        for guard in &mut self.guards {
            guard.check(&self.pins, self.mode, &mut notes);
        }
        if self.trusted_by_route {
            // Routes and interfaces change.
            let written = self.write_trusted();
            notes.extend(written.err().map(|error| format!("trusted networks: {error:#}")));
        }
        notes.extend(self.unread.take());
        notes.extend(self.bans.unread.take());
        notes
    }

    /// Protects one more interface, unless it is already in the list. Returns the result if it is
    /// new.
    /// If the kernel refuses for now, [`check`](Self::check) tries again.
    ///
    /// # Errors
    ///
    /// If the maximum number of interfaces is reached, or the interface does not exist.
    pub fn protect(&mut self, name: &str) -> Result<Option<Interface>> {
        let index = attach::usable(name)?;
        let is_it = |guard: &Guard| guard.index == Some(index) || guard.pin == name;
        if self.guards.iter().any(is_it) {
            return Ok(None);
        }
        let used = |number: u32| self.guards.iter().any(|guard| guard.interface.slot == number);
        let free = (0u32..).take(INTERFACES).find(|number| !used(*number));
        let number =
            free.with_context(|| format!("at most {INTERFACES} interfaces are possible"))?;
        let lines = self.bans.lines();
        let slot = Slot {
            number,
            index: Some(index),
            name: netlink::link(index)?.name,
            wanted: name.to_owned(),
            fresh: true,
        };
        let mut program = load(&self.pins, self.bans_ipv6, lines, number, name)?;
        attach::load(&mut program)?;
        let mut guard = Guard::new(&slot, program);
        self.counters.clear(number)?;
        if let Err(error) = guard.begin(&self.pins, self.mode) {
            guard.interface.unprotected = Some(format!("{error:#}"));
        }
        let interface = guard.interface.clone();
        self.guards.push(guard);
        Ok(Some(interface))
    }

    /// The programs, in which `aya-log` finds its map.
    #[cfg(feature = "trace")]
    pub fn programs(&mut self) -> impl Iterator<Item = &mut aya::Ebpf> {
        self.guards.iter_mut().map(|guard| &mut guard.program)
    }

    /// Corrects the program's clock if it is wrong, for example after the host was suspended.
    fn check_clock(&mut self) -> Result<()> {
        let Some(first) = self.guards.first_mut() else { return Ok(()) };
        let now = clocks::measure(&mut first.program)?;
        let mut config = self.config.get()?;
        if now.differs(Clocks { epoch: config.jiffies_epoch, tick: config.tick }) {
            (config.jiffies_epoch, config.tick) = (now.epoch, now.tick);
            self.config.set(&config)?;
        }
        Ok(())
    }

    /// Writes the map of trusted networks.
    fn write_trusted(&mut self) -> Result<()> {
        let all = self.trusted_networks.iter();
        // At a start the interfaces are not attached yet.
        let by_route = self.trusted_by_route && !self.guards.is_empty();
        let trusted: Vec<(IpNet, u32)> = if by_route {
            let (routes, links) = (netlink::destinations()?, netlink::links()?);
            let slot = |index| {
                let guard = self.guards.iter().find(|guard| guard.index == Some(index));
                guard.map(|guard| guard.interface.slot)
            };
            all.map(|network| (*network, trust::slots(*network, &routes, &links, &slot))).collect()
        } else {
            all.map(|network| (*network, trust::EVERYWHERE)).collect()
        };
        write_trusted(&mut self.trusted, &trusted)
    }
}

impl Datapath for Kernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        self.bans.ban(entry)
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.bans.unban(address)?;
        floods::forgive(&mut self.flooders, &mut self.peers.known, address)
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        self.bans.ban_network(entry)
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.bans.unban_network(network)?;
        floods::forgive_network(&mut self.flooders, &mut self.peers.known, network)
    }

    fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        self.bans.own(addresses)
    }

    fn trust(&mut self, networks: &[IpNet]) -> Result<()> {
        // The gate is opened before and closed after, so that no source is distrusted for a moment.
        let gate = gates::trust(networks, self.seed);
        gates::open(self.trust_gate.as_ref(), &gate);
        self.trusted_networks = networks.to_vec();
        self.write_trusted()?;
        gates::close(self.trust_gate.as_ref(), &gate);
        Ok(())
    }

    fn maintenance(&mut self, closed: Option<ClosedSip>) -> Result<()> {
        let mut config = self.config.get()?;
        config.flags &= !FLAG_CLOSED_TO_KNOWN;
        if closed.is_some_and(|closed| !closed.known_allowed) {
            config.flags |= FLAG_CLOSED_TO_KNOWN;
        }
        let now = clock::now();
        config.maintenance_until = match closed {
            Some(closed) => closed.until.0,
            // The program's clock is behind by up to a tick.
            None => config.maintenance_until.min(now.0.saturating_sub(config.tick)),
        };
        configure::ease(&mut config, self.prefix_bytes, now);
        self.config.set(&config)
    }

    fn in_maintenance(&self) -> Option<ClosedSip> {
        let config = self.unread.or_note("whether SIP is closed", self.config.get())?;
        (config.maintenance_until != 0).then_some(ClosedSip {
            until: KernelTime(config.maintenance_until),
            known_allowed: config.flags & FLAG_CLOSED_TO_KNOWN == 0,
        })
    }

    fn disable(&mut self, disabled: bool) -> Result<()> {
        // Another process may have changed the flag, see `disable::disable`.
        disable::switch(&mut self.config, disabled)
    }

    fn geo(&mut self, mode: GeoMode) -> Result<()> {
        let mut config = self.config.get()?;
        let flags = match mode {
            GeoMode::Off => 0,
            GeoMode::DryRun => FLAG_GEO | FLAG_GEO_DRY_RUN,
            GeoMode::On => FLAG_GEO,
        };
        if config.flags & (FLAG_GEO | FLAG_GEO_DRY_RUN) == flags {
            return Ok(());
        }
        config.flags = config.flags & !(FLAG_GEO | FLAG_GEO_DRY_RUN) | flags;
        self.config.set(&config)
    }

    fn is_disabled(&self) -> bool {
        let config = self.unread.or_note("whether packets are dropped", self.config.get());
        config.is_some_and(|config| config.flags & FLAG_DISABLED != 0)
    }

    fn know(&mut self, address: IpAddr, now: KernelTime) -> Result<()> {
        self.peers.know(address, now)
    }

    fn recall(&mut self, address: IpAddr, until: KernelTime, now: KernelTime) -> Result<()> {
        self.peers.recall(address, until, now)
    }

    fn known_until(&self, now: KernelTime) -> Vec<(IpAddr, KernelTime)> {
        self.peers.ends(now, &self.unread)
    }

    fn known(&self, address: IpAddr) -> Option<KnownPeer> {
        self.peers.get(address, &self.unread)
    }

    fn known_in(&self, network: IpNet, now: KernelTime) -> Vec<IpAddr> {
        self.peers.inside(network, now, &self.unread)
    }

    fn learning(&self) -> Learning {
        self.peers.learning(&self.unread)
    }

    fn known_count(&self) -> u64 {
        self.peers.count(&self.unread)
    }

    fn seen(&self, address: IpAddr, now: KernelTime) -> bool {
        let hash = Address::from(address).hash(self.seed);
        let place = u32::try_from(hash & u64::from(SEEN_PLACES - 1)).unwrap_or(0);
        let seen = self.unread.or_note("when a source was seen", self.seen.get(&place, 0));
        seen.is_some_and(|seen| seen_ago(seen, now.0) <= WITNESS_UNITS)
    }

    fn has_connection(&self, address: IpAddr, port: u16) -> bool {
        let remote = SocketAddr::new(address, port);
        let own = self.bans.own_addresses().filter(|own| own.is_ipv4() == address.is_ipv4());
        let ports =
            || self.port_settings.0.tcp.iter().flat_map(|range| range.ports()).take(LOCAL_ENDS);
        let mut ends = own.take(LOCAL_ENDS).flat_map(|own| ports().map(move |port| (own, port)));
        ends.any(|(own, port)| {
            let found = sockets::is_connected(SocketAddr::new(own, port), remote);
            self.unread.or_note("look for a connection", found).unwrap_or(false)
        })
    }

    fn exchange(&self, address: IpAddr) -> Option<Exchange> {
        let record = if_there(self.challenged.get(&Address::from(address).words(), 0));
        let record = self.unread.or_note("read the challenges of an address", record).flatten()?;
        Some(Exchange {
            challenges: record.challenges,
            answered: record.answered,
            refused: record.refused,
            accepted: record.accepted,
            established_at: (record.established != 0)
                .then(|| KernelTime(u64::from(record.established) << UNIT_SHIFT)),
            proven_at: (record.proven_at != 0).then_some(KernelTime(record.proven_at)),
        })
    }

    fn packets(&self, network: IpNet) -> u64 {
        self.bans.packets(network)
    }

    fn interfaces(&self) -> Vec<Interface> {
        self.guards.iter().map(|guard| guard.interface.clone()).collect()
    }

    fn counters(&self) -> Result<Vec<InterfaceCounters>> {
        let counters = |interface: Interface| -> Result<InterfaceCounters> {
            let reasons = self.counters.read(interface.slot, false)?;
            let mut would_drop = self.counters.read(interface.slot, true)?;
            would_drop.retain(|(reason, _)| reason.verdict() == Verdict::Drop);
            Ok(InterfaceCounters { interface, reasons, would_drop })
        };
        self.interfaces().into_iter().map(counters).collect()
    }

    fn traffic(&self) -> Result<Vec<(Reason, Count)>> {
        let slots = self.guards.iter().map(|guard| guard.interface.slot);
        let read: Vec<_> =
            slots.map(|slot| self.counters.read(slot, false)).collect::<Result<_>>()?;
        Ok(read.concat())
    }

    fn signatures(&self) -> Vec<(String, u64)> {
        let packets = |agent: &UserAgent| {
            let hits = self.signatures.get(&signature_key(agent), 0);
            self.unread.or_note("read a signature", hits).map_or(0, |hits| hits.packets)
        };
        let all = self.user_agents.iter();
        all.map(|agent| (agent.to_string(), packets(agent))).collect()
    }

    fn capacity(&self) -> u64 {
        self.capacity.into()
    }

    fn map_use(&self) -> Vec<(&'static str, u64, u64)> {
        let [v4, v6, networks] = self.bans.entries().map(|entries| entries as u64);
        vec![
            ("bans", v4, self.capacity.into()),
            ("bans_ipv6", v6, self.bans_ipv6.into()),
            ("banned_networks", networks, BANNED_NETWORKS.into()),
            ("trusted", self.trusted_networks.len() as u64, TRUSTED_NETWORKS.into()),
        ]
    }
}

/// Changes the map of trusted networks to exactly these.
fn write_trusted(
    map: &mut LpmTrie<MapData, [u64; 2], u32>,
    trusted: &[(IpNet, u32)],
) -> Result<()> {
    if trusted.len() > usize::try_from(TRUSTED_NETWORKS).unwrap_or(usize::MAX) {
        bail!(
            "at most {TRUSTED_NETWORKS} trusted networks are possible; these are {}",
            trusted.len()
        );
    }
    let place = |key: &Key<[u64; 2]>| (key.prefix_len(), key.data());
    let wanted: HashSet<_> = trusted.iter().map(|(net, _)| place(&network_key(*net))).collect();
    // New entries are written before old ones are removed, so that no source is distrusted for a moment.
    for (network, slots) in trusted {
        map.insert(&network_key(*network), slots, 0).context("write the trusted networks")?;
    }
    let there: Vec<_> =
        map.keys().collect::<Result<_, _>>().context("read the trusted networks")?;
    for key in there.iter().filter(|key| !wanted.contains(&place(key))) {
        map.remove(key).context("remove a network that is no longer trusted")?;
    }
    Ok(())
}

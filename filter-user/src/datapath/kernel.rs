//! The program and its maps: loaded or taken over, and spoken to.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray};
use aya::{Ebpf, EbpfLoader};
use filter_common::abi::{
    self, Config, Counter, FLAG_CLOSED_TO_KNOWN, Flooder, Learning, Peer, counter_index, maps,
};
use filter_common::address::Address;
use filter_common::ban_table::lines_for;
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{INTERFACES, SEEN_PLACES, TRUSTED_NETWORKS, WITNESS_UNITS};
use filter_common::rate::seen_ago;
use ipnet::IpNet;

use super::attach::{self, Interface, attach};
use super::ban_table::BanTable;
use super::bans::{Bans, network_key, unless_missing};
use super::clocks;
use super::configure::{self, SignatureMap, signature_key};
use super::egress;
use super::events::Events;
use super::gates::{self, Presence};
use super::memory::Memory;
use super::pins::{PinnedLink, Pins, detach_all};
use super::privileges;
use super::take_over::take_over;
use super::{Count, Datapath, InterfaceCounters, KnownPeer, Maintenance, OBJECT};
use crate::ban::{AddressEntry, InForce, NetworkEntry};
use crate::clock::KernelTime;
use crate::config::{self, Limits, Peers, PortClasses, Signatures, SipPorts, UserAgent};

/// Flags of the configuration that belong to a maintenance, and not to the settings.
pub(super) const MAINTENANCE_FLAGS: u32 = FLAG_CLOSED_TO_KNOWN;

/// What the kernel is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the pins.
    pub bpffs: PathBuf,
    /// The interfaces to protect.
    pub interfaces: Vec<String>,
    /// How.
    pub mode: config::Mode,
    /// Judge and count, but drop nothing.
    pub dry_run: bool,
    /// The host's own addresses, of which no packet comes in.
    pub own: BTreeSet<IpAddr>,
    /// Networks that are never dropped.
    pub trusted: Vec<IpNet>,
    /// The SIP ports.
    pub sip: SipPorts,
    /// Other ports that a ban can close.
    pub ports: PortClasses,
    /// How much of what may come in how fast.
    pub limits: Limits,
    /// Peers that have proven themselves.
    pub peers: Peers,
    /// What scanners call themselves.
    pub signatures: Signatures,
    /// IPv4 addresses that can be banned.
    pub bans: u32,
    /// IPv6 addresses that can be banned.
    pub bans_ipv6: u32,
}

/// The program on its interfaces, and its maps.
pub struct Kernel {
    interfaces: Vec<Interface>,
    bans: Bans,
    config: Array<MapData, Config>,
    seed: u64,
    trusted: LpmTrie<MapData, [u64; 2], u32>,
    trust_gate: Memory,
    known: HashMap<MapData, [u64; 2], Peer>,
    known_gate: Memory,
    learned: Array<MapData, Learning>,
    flooders: HashMap<MapData, [u64; 2], Flooder>,
    signatures: SignatureMap,
    user_agents: Vec<UserAgent>,
    seen: Array<MapData, u32>,
    counters: PerCpuArray<MapData, Counter>,
    capacity: u32,
    remember: Duration,
    mode: config::Mode,
    checks: u32,
    // What the pins do not hold open: the programs of each interface, and the lock.
    programs: Vec<Ebpf>,
    pins: Pins,
}

/// Of so many [`Kernel::check`]s one looks through the known peers for those to forget.
const CHECKS_PER_PRUNING: u32 = 12;

/// What a start brought.
pub struct Opened {
    /// The kernel.
    pub kernel: Kernel,
    /// What it tells.
    pub events: Events,
    /// What the pinned maps hold; some of it may have ended.
    pub bans: InForce,
    /// What the administrator should know about the start.
    pub notes: Vec<String>,
}

/// The right to be the one controller over a directory of pins.
#[derive(Debug)]
pub struct Locked {
    pins: Pins,
    fresh: bool,
}

impl Locked {
    /// The rest of [`Kernel::open`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn open(self, settings: &Settings) -> Result<Opened> {
        match Kernel::open_with(self.pins, settings) {
            // Nobody would take the maps over, nor let go of the interfaces that it got.
            Err(error) if self.fresh => Err(match detach_all(&settings.bpffs) {
                Ok(_interfaces) => error,
                Err(left) => error.context(format!("cannot tidy up after this ({left:#})")),
            }),
            opened => opened,
        }
    }
}

impl Kernel {
    /// Loads the program, or takes over what an earlier controller left, and attaches it.
    ///
    /// # Errors
    ///
    /// When there is no such interface, it has another XDP program, another controller owns the
    /// pins, or the kernel refuses.
    pub fn open(settings: &Settings) -> Result<Opened> {
        Self::lock(settings)?.open(settings)
    }

    /// The first step of [`open`](Self::open), which takes no time: sees that the interfaces are there,
    /// and that no other controller is at work.
    ///
    /// # Errors
    ///
    /// When that is not so.
    pub fn lock(settings: &Settings) -> Result<Locked> {
        if settings.interfaces.len() > INTERFACES {
            bail!("{} interfaces at most; these are {}", INTERFACES, settings.interfaces.len());
        }
        for name in &settings.interfaces {
            attach::index(name)?;
        }
        privileges::check()?;
        let pins = Pins::open(&settings.bpffs)?;
        let fresh = pins.is_empty()?;
        Ok(Locked { pins, fresh })
    }

    fn open_with(pins: Pins, settings: &Settings) -> Result<Opened> {
        let mut notes = Vec::new();
        let lines = lines_for(settings.bans);
        let saved = take_over(&pins, settings, lines, &mut notes)?;
        let (slots, unwanted) = slots(&pins, &settings.interfaces)?;

        let mut programs = Vec::new();
        for slot in &slots {
            programs.push(load(&pins, settings, lines, slot.number)?);
        }
        let Some(first) = programs.first_mut() else {
            bail!("no interface to protect; name one with `-i` or `interfaces:`");
        };
        let mut config: Array<MapData, Config> = Array::try_from(take(first, maps::CONFIG)?)?;
        let mut old = config.get(&0, 0).unwrap_or_default();
        if old.seed == 0 {
            // Kept over a restart: all that lies by a hash lies by this one.
            old.seed = random()?;
            config.set(0, old, 0).context("write the configuration to the kernel")?;
        }
        let seed = old.seed;
        let capacity = usize::try_from(settings.bans)?;
        let table = BanTable::new(Memory::of(data(take(first, maps::BANS_V4)?)?)?, seed, capacity);
        let gate = Presence::new(Memory::of(data(take(first, maps::PRESENCE)?)?)?, seed);
        let mut kernel = Self {
            interfaces: Vec::new(),
            bans: Bans::new(
                table,
                HashMap::try_from(take(first, maps::BANS_V6)?)?,
                LpmTrie::try_from(take(first, maps::BAN_NETS)?)?,
                gate,
            ),
            config,
            seed,
            trusted: LpmTrie::try_from(take(first, maps::TRUSTED)?)?,
            trust_gate: Memory::of(data(take(first, maps::TRUST_GATE)?)?)?,
            known: HashMap::try_from(take(first, maps::KNOWN)?)?,
            known_gate: Memory::of(data(take(first, maps::KNOWN_GATE)?)?)?,
            learned: Array::try_from(take(first, maps::LEARNED)?)?,
            flooders: HashMap::try_from(take(first, maps::FLOODERS)?)?,
            signatures: SignatureMap::try_from(take(first, maps::SIGNATURES)?)?,
            user_agents: settings.signatures.user_agents.clone(),
            seen: Array::try_from(take(first, maps::SEEN)?)?,
            counters: PerCpuArray::try_from(take(first, maps::COUNTERS)?)?,
            capacity: settings.bans,
            remember: settings.peers.remember,
            mode: settings.mode,
            checks: 0,
            programs: Vec::new(),
            pins,
        };
        let mut ports = Array::try_from(take(first, maps::PORTS)?)?;
        let events = Events::new(take(first, maps::EVENTS)?)?;
        let clocks = clocks::measure(first)?;

        for entry in &saved {
            kernel.ban(entry)?;
        }
        let bans = kernel.bans.held()?;
        kernel.own(&settings.own)?;
        kernel.trust(&settings.trusted)?;
        configure::write_ports(&mut ports, &settings.sip, &settings.ports)?;
        configure::write_signatures(&mut kernel.signatures, &kernel.user_agents)?;
        let config = configure::config(settings, &old, clocks, kernel.bans.lines());
        kernel.config.set(0, config, 0).context("write the configuration to the kernel")?;
        for slot in slots.iter().filter(|slot| slot.fresh) {
            kernel.clear_counters(slot.number)?;
        }
        for (slot, program) in slots.iter().zip(&mut programs) {
            let pins = &kernel.pins;
            let interface = attach(program, pins, &slot.name, slot.number, settings.mode)?;
            kernel.interfaces.push(interface);
            notes.extend(attach_egress(program, pins, &slot.name, slot.number));
        }
        kernel.programs = programs;
        // Last: a start that is refused above leaves them as they were.
        for link in &unwanted {
            kernel.pins.remove_link(link)?;
            notes.push(format!("took the program off `{}`, now unprotected", link.interface));
        }
        Ok(Opened { kernel, events, bans, notes })
    }

    /// The interfaces it protects.
    pub fn interfaces(&self) -> &[Interface] {
        &self.interfaces
    }

    /// Puts the program back on interfaces that were deleted and made anew since. Returns what the
    /// administrator should know of it.
    pub fn check(&mut self) -> Vec<String> {
        let mut notes = Vec::new();
        notes
            .extend(self.check_clock().err().map(|error| format!("the kernel's clock: {error:#}")));
        self.checks = self.checks.wrapping_add(1);
        if self.checks.is_multiple_of(CHECKS_PER_PRUNING) {
            self.forget_peers(KernelTime::now());
        }
        for (interface, program) in self.interfaces.iter_mut().zip(&mut self.programs) {
            let name = interface.name.clone();
            let there = attach::is_attached(program, &name);
            let (attached, note) = match there {
                Ok(true) => (true, None),
                // Gone, or not to be asked about: it is looked at again.
                Err(error) => (false, Some(format!("`{name}` is unprotected: {error:#}"))),
                Ok(false) => match attach(program, &self.pins, &name, interface.slot, self.mode) {
                    Ok(again) => {
                        notes.extend(attach_egress(program, &self.pins, &name, interface.slot));
                        *interface = again;
                        (true, Some(format!("`{name}` had lost the program: attached it again")))
                    }
                    Err(error) => (false, Some(format!("`{name}` is unprotected: {error:#}"))),
                },
            };
            if attached != interface.attached || attached {
                notes.extend(note);
            }
            interface.attached = attached;
        }
        notes
    }

    /// The programs, for `aya-log` to find its map in.
    #[cfg(feature = "trace")]
    pub fn programs(&mut self) -> &mut [Ebpf] {
        &mut self.programs
    }

    /// Has the program's clock go right again if it does not, as after a host has slept.
    fn check_clock(&mut self) -> Result<()> {
        let Some(first) = self.programs.first_mut() else { return Ok(()) };
        let now = clocks::measure(first)?;
        let mut config = self.config.get(&0, 0)?;
        if now.differs(clocks::Clocks { epoch: config.jiffies_epoch, tick: config.tick }) {
            (config.jiffies_epoch, config.tick) = (now.epoch, now.tick);
            self.config.set(0, config, 0)?;
        }
        Ok(())
    }

    /// Makes room among the known peers: those that are known no longer.
    fn forget_peers(&mut self, now: KernelTime) {
        let gone = |(key, peer): ([u64; 2], Peer)| (peer.until <= now.0).then_some(key);
        let gone: Vec<_> = self.known.iter().filter_map(|item| item.ok().and_then(gone)).collect();
        for key in &gone {
            // One that has come back in between comes back once more.
            let _gone = self.known.remove(key);
        }
        if !gone.is_empty() {
            // Whoever the program enters between the two has no bit for a moment: it sets the bit after
            // the entry, so that the second finds him.
            gates::close(self.known_gate.as_ref(), &self.known_bits());
            gates::open(self.known_gate.as_ref(), &self.known_bits());
        }
    }

    /// The gate of the known peers, as it would be with no others.
    fn known_bits(&self) -> Vec<u64> {
        let known = self.known.keys().filter_map(std::result::Result::ok).map(Address::from_words);
        gates::known(known, self.seed)
    }

    fn clear_counters(&mut self, slot: u32) -> Result<()> {
        let start = slot * abi::COUNTERS_PER_INTERFACE;
        let cpus = aya::util::nr_cpus()
            .map_err(|(what, error)| anyhow::Error::new(error).context(format!("read {what}")))?;
        for index in start..start + abi::COUNTERS_PER_INTERFACE {
            let zeros = aya::maps::PerCpuValues::try_from(vec![Counter::default(); cpus])?;
            self.counters.set(index, zeros, 0).context("clear the counters")?;
        }
        Ok(())
    }

    fn count(&self, slot: u32, would: bool, reason: Reason) -> Result<Count> {
        let values = self.counters.get(&counter_index(slot, would, reason.into()), 0)?;
        Ok(values.iter().fold(Count::default(), |sum, value| {
            sum.plus(Count { packets: value.packets, bytes: value.bytes })
        }))
    }
}

impl Datapath for Kernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        self.bans.ban(entry)
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.bans.unban(address)?;
        let key = Address::from(address).words();
        unless_missing(self.flooders.remove(&key))?;
        if let Ok(peer) = self.known.get(&key, 0)
            && peer.blocked_until != 0
        {
            self.known.insert(key, Peer { blocked_until: 0, ..peer }, 0)?;
        }
        Ok(())
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        self.bans.ban_network(entry)
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.bans.unban_network(network)
    }

    fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        self.bans.own(addresses)
    }

    fn trust(&mut self, networks: &[IpNet]) -> Result<()> {
        // The gate opens before and closes after: nobody loses trust for a moment.
        let gate = gates::trust(networks, self.seed);
        gates::open(self.trust_gate.as_ref(), &gate);
        write_trusted(&mut self.trusted, networks)?;
        gates::close(self.trust_gate.as_ref(), &gate);
        Ok(())
    }

    fn maintenance(&mut self, closed: Option<Maintenance>) -> Result<()> {
        let mut config = self.config.get(&0, 0)?;
        config.flags &= !FLAG_CLOSED_TO_KNOWN;
        if closed.is_some_and(|closed| !closed.known_allowed) {
            config.flags |= FLAG_CLOSED_TO_KNOWN;
        }
        config.maintenance_until = closed.map_or(0, |closed| closed.until.0);
        self.config.set(0, config, 0).context("write the configuration to the kernel")
    }

    fn in_maintenance(&self) -> Option<Maintenance> {
        let config = self.config.get(&0, 0).ok()?;
        (config.maintenance_until != 0).then_some(Maintenance {
            until: KernelTime(config.maintenance_until),
            known_allowed: config.flags & FLAG_CLOSED_TO_KNOWN == 0,
        })
    }

    fn know(&mut self, address: IpAddr, now: KernelTime) -> Result<()> {
        let address = Address::from(address);
        let key = address.words();
        let old = self.known.get(&key, 0).unwrap_or_default();
        let until = now.after(self.remember).0;
        // The entry before its bit: see `forget_peers`.
        self.known
            .insert(key, Peer { until, ..old }, 0)
            .context("there are too many known peers")?;
        gates::add_known(self.known_gate.as_ref(), address, self.seed);
        Ok(())
    }

    fn known(&self, address: IpAddr) -> Option<KnownPeer> {
        let peer = self.known.get(&Address::from(address).words(), 0).ok()?;
        let until = KernelTime(peer.until);
        (until > KernelTime::now()).then_some(KnownPeer { until, passed: peer.passed })
    }

    fn known_in(&self, network: IpNet, now: KernelTime) -> Vec<IpAddr> {
        let known = self.known.iter().filter_map(std::result::Result::ok);
        let known = known.filter(|(_, peer)| peer.until > now.0);
        let addresses = known.map(|(key, _)| IpAddr::from(Address::from_words(key)));
        addresses.filter(|address| network.contains(address)).collect()
    }

    fn learning(&self) -> Learning {
        self.learned.get(&0, 0).unwrap_or_default()
    }

    fn known_count(&self) -> u64 {
        let now = KernelTime::now().0;
        let known =
            self.known.iter().filter(|item| item.as_ref().is_ok_and(|(_, p)| p.until > now));
        u64::try_from(known.count()).unwrap_or(u64::MAX)
    }

    fn seen(&self, address: IpAddr, now: KernelTime) -> bool {
        let hash = Address::from(address).hash(self.seed);
        let place = u32::try_from(hash & u64::from(SEEN_PLACES - 1)).unwrap_or(0);
        self.seen.get(&place, 0).is_ok_and(|seen| seen_ago(seen, now.0) <= WITNESS_UNITS)
    }

    fn packets(&self, network: IpNet) -> u64 {
        self.bans.packets(network)
    }

    fn counters(&self) -> Result<Vec<InterfaceCounters>> {
        let counters = |interface: &Interface| -> Result<InterfaceCounters> {
            let read = |would: bool| -> Result<Vec<(Reason, Count)>> {
                let wanted = |reason: &&Reason| !would || reason.verdict() == Verdict::Drop;
                let reasons = Reason::ALL.iter().filter(wanted);
                reasons.map(|r| Ok((*r, self.count(interface.slot, would, *r)?))).collect()
            };
            Ok(InterfaceCounters {
                interface: interface.clone(),
                reasons: read(false)?,
                would_drop: read(true)?,
            })
        };
        self.interfaces.iter().map(counters).collect::<Result<_>>().context("read the counters")
    }

    fn signatures(&self) -> Vec<(String, u64)> {
        let packets = |agent: &UserAgent| self.signatures.get(&signature_key(agent), 0);
        let all = self.user_agents.iter();
        all.map(|agent| (agent.to_string(), packets(agent).map_or(0, |hits| hits.packets)))
            .collect()
    }

    fn capacity(&self) -> u64 {
        self.capacity.into()
    }
}

/// Attaches the classifier that learns the known peers; what is amiss if it cannot be, since
/// protection does not depend on it.
fn attach_egress(ebpf: &mut Ebpf, pins: &Pins, name: &str, slot: u32) -> Option<String> {
    let attached = egress::attach(ebpf, pins, name, slot);
    attached.err().map(|error| format!("no known peers are learned on `{name}`: {error:#}"))
}

/// Part of the counters, and who has it.
struct Slot {
    number: u32,
    name: String,
    fresh: bool,
}

/// Gives each interface the slot it had, or a free one; says which links are of interfaces that are
/// no longer to be protected.
fn slots(pins: &Pins, wanted: &[String]) -> Result<(Vec<Slot>, Vec<PinnedLink>)> {
    let (links, unwanted): (Vec<PinnedLink>, Vec<PinnedLink>) =
        pins.links()?.into_iter().partition(|link| wanted.contains(&link.interface));
    let going: HashSet<u32> = unwanted.iter().map(|link| link.slot).collect();
    let mut used: HashSet<u32> = links.iter().map(|link| link.slot).collect();
    let mut slots: Vec<Slot> = Vec::new();
    for name in wanted {
        if slots.iter().any(|slot| slot.name == *name) {
            continue;
        }
        let old = links.iter().find(|link| link.interface == *name).map(|link| link.slot);
        let all = || (0u32..).take(INTERFACES);
        // That of an interface on its way out only if there is no other: its last packets count.
        let free = all().find(|number| !used.contains(number) && !going.contains(number));
        let free = free.or_else(|| all().find(|number| !used.contains(number)));
        let number = old.or(free).context("no counters are left for another interface")?;
        used.insert(number);
        slots.push(Slot { number, name: name.clone(), fresh: old.is_none() });
    }
    Ok((slots, unwanted))
}

fn load(pins: &Pins, settings: &Settings, lines: u32, slot: u32) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader
        .override_global(abi::INTERFACE_SLOT, &slot, true)
        .map_max_entries(maps::BANS_V4, lines)
        .map_max_entries(maps::BANS_V6, settings.bans_ipv6);
    for name in maps::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).context("load the XDP program and its maps (it takes Linux 6.1 and root)")
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map `{name}`"))
}

/// An array's data.
pub(super) fn data(map: Map) -> Result<MapData> {
    if let Map::Array(data) = map { Ok(data) } else { bail!("{map:?} is not an array") }
}

/// Makes the map of trusted networks hold exactly these.
fn write_trusted(map: &mut LpmTrie<MapData, [u64; 2], u32>, trusted: &[IpNet]) -> Result<()> {
    if trusted.len() > usize::try_from(TRUSTED_NETWORKS).unwrap_or(usize::MAX) {
        bail!("{TRUSTED_NETWORKS} trusted networks at most; these are {}", trusted.len());
    }
    let place = |key: &Key<[u64; 2]>| (key.prefix_len(), key.data());
    let wanted: HashSet<_> = trusted.iter().map(|network| place(&network_key(*network))).collect();
    // The new ones first: nobody loses trust for a moment.
    for (length, words) in &wanted {
        map.insert(&Key::new(*length, *words), 1, 0).context("write the trusted networks")?;
    }
    let there: Vec<_> = map.keys().filter_map(std::result::Result::ok).collect();
    for key in there.iter().filter(|key| !wanted.contains(&place(key))) {
        map.remove(key).context("remove a network that is no longer trusted")?;
    }
    Ok(())
}

/// A number nobody can guess, and that is not zero.
fn random() -> Result<u64> {
    let mut bytes = [0; 8];
    let mut source = fs::File::open("/dev/urandom").context("open /dev/urandom")?;
    io::Read::read_exact(&mut source, &mut bytes).context("read /dev/urandom")?;
    Ok(u64::from_ne_bytes(bytes) | 1)
}

//! The maps: loaded or taken over, and spoken to.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, PerCpuArray, RingBuf};
use aya::{Ebpf, EbpfLoader, Pod};
use filter_common::abi::{
    self, BanEntry, Config, Counter, Event, FLAG_BANNED_NETWORKS, FLAG_DRY_RUN, FLAG_TRUSTED,
    FOREVER, PORT_BLOCKS, PORT_SIP_TCP, PORT_SIP_UDP, PORTS_PER_BLOCK, SCOPE_ALL, SCOPE_SIP,
    counter_index, maps, port_place,
};
use filter_common::address::{Address, words};
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{BUCKETS, INTERFACES, TRUSTED_NETWORKS, WITNESS_UNITS};
use filter_common::rate::{Gcra, seen_ago};
use ipnet::IpNet;
use tokio::io::unix::AsyncFd;

use super::attach::{self, Interface, attach};
use super::pins::{self, PinnedLink, Pins, detach_all};
use super::privileges;
use super::{Count, Datapath, InterfaceCounters, KnownPeer, Maintenance, OBJECT};
use crate::ban::{AddressEntry, Ends, InForce, NetworkEntry, Origin, Scopes};
use crate::clock::KernelTime;
use crate::config::{self, Limit, Limits, Peers, PortClasses, Scope, Signatures, SipPorts};

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
    bans_v4: HashMap<MapData, u32, BanEntry>,
    bans_v6: HashMap<MapData, [u64; 2], BanEntry>,
    networks: LpmTrie<MapData, [u64; 2], BanEntry>,
    network_count: usize,
    config: Array<MapData, Config>,
    trusted: LpmTrie<MapData, [u64; 2], u32>,
    seen: Array<MapData, u32>,
    seed: u64,
    counters: PerCpuArray<MapData, Counter>,
    capacity: u32,
    mode: config::Mode,
    // What the pins do not hold open: the programs of each interface, and the lock.
    programs: Vec<Ebpf>,
    pins: Pins,
}

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

impl Kernel {
    /// Loads the program, or takes over what an earlier controller left, and attaches it.
    ///
    /// # Errors
    ///
    /// When there is no such interface, it has another XDP program, another controller owns the
    /// pins, or the kernel refuses.
    pub fn open(settings: &Settings) -> Result<Opened> {
        if settings.interfaces.len() > INTERFACES {
            bail!("{} interfaces at most; these are {}", INTERFACES, settings.interfaces.len());
        }
        for name in &settings.interfaces {
            attach::index(name)?;
        }
        privileges::check()?;
        let pins = Pins::open(&settings.bpffs)?;
        let fresh = pins.is_empty()?;
        match Self::open_with(pins, settings) {
            // Nobody would take the maps over, nor let go of the interfaces that it got.
            Err(error) if fresh => Err(match detach_all(&settings.bpffs) {
                Ok(_interfaces) => error,
                Err(left) => error.context(format!("cannot tidy up after this ({left:#})")),
            }),
            opened => opened,
        }
    }

    fn open_with(pins: Pins, settings: &Settings) -> Result<Opened> {
        let mut notes = Vec::new();
        let saved = take_over(&pins, settings, &mut notes)?;
        let (slots, unwanted) = slots(&pins, &settings.interfaces)?;

        let mut programs = Vec::new();
        for slot in &slots {
            programs.push(load(&pins, settings, slot.number)?);
        }
        let Some(first) = programs.first_mut() else {
            bail!("no interface to protect; name one with `-i` or `interfaces:`");
        };
        let mut kernel = Self {
            interfaces: Vec::new(),
            bans_v4: HashMap::try_from(take(first, maps::BANS_V4)?)?,
            bans_v6: HashMap::try_from(take(first, maps::BANS_V6)?)?,
            networks: LpmTrie::try_from(take(first, maps::BAN_NETS)?)?,
            network_count: 0,
            config: Array::try_from(take(first, maps::CONFIG)?)?,
            trusted: LpmTrie::try_from(take(first, maps::TRUSTED)?)?,
            seen: Array::try_from(take(first, maps::SEEN)?)?,
            seed: 0,
            counters: PerCpuArray::try_from(take(first, maps::COUNTERS)?)?,
            capacity: settings.bans,
            mode: settings.mode,
            programs: Vec::new(),
            pins,
        };
        let mut ports = Array::try_from(take(first, maps::PORTS)?)?;
        let events = Events::new(take(first, maps::EVENTS)?)?;

        for entry in &saved {
            kernel.ban(entry)?;
        }
        kernel.network_count = kernel.networks.keys().count();
        let bans = kernel.held()?;
        write_trusted(&mut kernel.trusted, &settings.trusted)?;
        write_ports(&mut ports, &settings.sip)?;
        kernel.write_config(settings)?;
        for slot in slots.iter().filter(|slot| slot.fresh) {
            kernel.clear_counters(slot.number)?;
        }
        for (slot, program) in slots.iter().zip(&mut programs) {
            let pins = &kernel.pins;
            let interface = attach(program, pins, &slot.name, slot.number, settings.mode)?;
            kernel.interfaces.push(interface);
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
        for (interface, program) in self.interfaces.iter_mut().zip(&mut self.programs) {
            let name = interface.name.clone();
            let there = attach::is_attached(program, &name);
            let (attached, note) = match there {
                Ok(true) => (true, None),
                // Gone, or not to be asked about: it is looked at again.
                Err(error) => (false, Some(format!("`{name}` is unprotected: {error:#}"))),
                Ok(false) => match attach(program, &self.pins, &name, interface.slot, self.mode) {
                    Ok(again) => {
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

    /// What the maps hold, what has ended too.
    fn held(&self) -> Result<InForce> {
        let mut held = InForce::default();
        for entry in &self.bans_v4 {
            let (word, entry) = entry.context("read the bans of IPv4 addresses")?;
            held.addresses.extend(read_address(IpAddr::from(word.to_le_bytes()), &entry));
        }
        for entry in &self.bans_v6 {
            let (key, entry) = entry.context("read the bans of IPv6 addresses")?;
            let address = IpAddr::from(Address::from_words(key));
            held.addresses.extend(read_address(address, &entry));
        }
        for entry in &self.networks {
            let (key, entry) = entry.context("read the banned networks")?;
            held.networks.extend(network_of(&key).and_then(|net| read_network(net, &entry)));
        }
        Ok(held)
    }

    fn write(&mut self, key: &BanKey, old: Option<BanEntry>, entry: BanEntry) -> Result<()> {
        let entry = BanEntry { packets: old.map_or(0, |old| old.packets), ..entry };
        match key {
            BanKey::V4(word) => self.bans_v4.insert(word, entry, 0),
            BanKey::V6(words) => self.bans_v6.insert(words, entry, 0),
            BanKey::Network(key) => self.networks.insert(key, entry, 0),
        }
        .context("is the table full? `capacity: {bans: N}` sizes it")?;
        if old.is_none() && matches!(key, BanKey::Network(_)) {
            self.count_networks(1)?;
        }
        Ok(())
    }

    fn remove(&mut self, key: &BanKey) -> Result<()> {
        let removed = match key {
            BanKey::V4(word) => self.bans_v4.remove(word),
            BanKey::V6(words) => self.bans_v6.remove(words),
            BanKey::Network(key) => self.networks.remove(key),
        };
        match removed {
            Ok(()) if matches!(key, BanKey::Network(_)) => self.count_networks(-1),
            Ok(()) => Ok(()),
            Err(error) if is_missing(&error) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn write_config(&mut self, settings: &Settings) -> Result<()> {
        let old = self.config.get(&0, 0).unwrap_or_default();
        let limit = gcra(settings.limits.source.register);
        let mut flags = 0;
        if settings.dry_run {
            flags |= FLAG_DRY_RUN;
        }
        if self.trusted.keys().next().is_some() {
            flags |= FLAG_TRUSTED;
        }
        if self.network_count > 0 {
            flags |= FLAG_BANNED_NETWORKS;
        }
        let config = Config {
            abi_version: abi::ABI_VERSION,
            flags,
            register_interval: limit.interval,
            register_tolerance: limit.tolerance,
            // Kept over a restart, or every source would be in another's bucket.
            seed: if old.seed == 0 { random()? } else { old.seed },
        };
        self.seed = config.seed;
        self.config.set(0, config, 0).context("write the configuration to the kernel")
    }

    fn count_networks(&mut self, change: isize) -> Result<()> {
        let before = self.network_count;
        self.network_count = before.saturating_add_signed(change);
        if (before == 0) != (self.network_count == 0) {
            let mut config = self.config.get(&0, 0)?;
            config.flags ^= FLAG_BANNED_NETWORKS;
            self.config.set(0, config, 0)?;
        }
        Ok(())
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
        let values = self.counters.get(&counter_index(slot, would, reason), 0)?;
        Ok(values.iter().fold(Count::default(), |sum, value| {
            sum.plus(Count { packets: value.packets, bytes: value.bytes })
        }))
    }

    fn entry(&self, key: &BanKey) -> Option<BanEntry> {
        match key {
            BanKey::V4(word) => self.bans_v4.get(word, 0).ok(),
            BanKey::V6(words) => self.bans_v6.get(words, 0).ok(),
            // A lookup would find the longest prefix around this one: compare the keys.
            BanKey::Network(key) => {
                let same = |other: &Key<[u64; 2]>| {
                    other.prefix_len() == key.prefix_len() && other.data() == key.data()
                };
                let mut entries = self.networks.iter().filter_map(std::result::Result::ok);
                entries.find_map(|(other, entry)| same(&other).then_some(entry))
            }
        }
    }
}

impl Datapath for Kernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        let key = key(entry.address.into());
        let old = self.entry(&key);
        let new = BanEntry {
            until: entry.until.map_or(FOREVER, |until| until.0),
            since: entry.since.0,
            scope: scope_number(entry.scopes.iter())?,
            origin: entry.origin.number(),
            ..BanEntry::default()
        };
        self.write(&key, old, new).with_context(|| format!("ban {}", entry.address))
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        let removed = self.remove(&key(address.into()));
        removed.with_context(|| format!("lift the ban of {address}"))
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        let key = BanKey::Network(network_key(entry.network));
        let old = self.entry(&key);
        let scope = scope_number(entry.ends.iter().map(|(scope, _)| scope))?;
        // One end for all: that of the wider scope. A hole is a ban that has ended.
        let last = entry.ends.iter().last();
        let new = BanEntry {
            until: last.map_or(0, |(_, until)| until.map_or(FOREVER, |until| until.0)),
            since: entry.since.0,
            scope,
            origin: entry.origin.number(),
            ..BanEntry::default()
        };
        self.write(&key, old, new).with_context(|| format!("ban {}", entry.network))
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        let removed = self.remove(&BanKey::Network(network_key(network)));
        removed.with_context(|| format!("lift the ban of {network}"))
    }

    fn trust(&mut self, networks: &[IpNet]) -> Result<()> {
        write_trusted(&mut self.trusted, networks)?;
        let mut config = self.config.get(&0, 0)?;
        config.flags &= !FLAG_TRUSTED;
        if !networks.is_empty() {
            config.flags |= FLAG_TRUSTED;
        }
        self.config.set(0, config, 0).context("write the configuration to the kernel")
    }

    fn maintenance(&mut self, closed: Option<Maintenance>) -> Result<()> {
        match closed {
            Some(_) => bail!("the XDP program of this version cannot close SIP for maintenance"),
            None => Ok(()),
        }
    }

    fn in_maintenance(&self) -> Option<Maintenance> {
        None
    }

    fn known(&self, _address: IpAddr) -> Option<KnownPeer> {
        None
    }

    fn known_count(&self) -> u64 {
        0
    }

    fn seen(&self, address: IpAddr, now: KernelTime) -> bool {
        let hash = Address::from(address).hash(self.seed);
        let place = u32::try_from(hash & u64::from(BUCKETS - 1)).unwrap_or(0);
        self.seen.get(&place, 0).is_ok_and(|seen| seen_ago(seen, now.0) <= WITNESS_UNITS)
    }

    fn packets(&self, network: IpNet) -> u64 {
        self.entry(&key(network)).map_or(0, |entry| entry.packets)
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

    fn capacity(&self) -> u64 {
        self.capacity.into()
    }
}

/// A source over a limit, as the program tells it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limited {
    /// The source.
    pub source: IpAddr,
    /// The limit's reason.
    pub reason: Reason,
    /// When.
    pub at: KernelTime,
}

/// What the program tells.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
}

impl Events {
    fn new(map: Map) -> Result<Self> {
        #[expect(
            deprecated,
            reason = "its replacement is unsafe, and the ring owns its descriptor"
        )]
        let ring = AsyncFd::new(RingBuf::try_from(map)?).context("watch the events")?;
        Ok(Self { ring })
    }

    /// Waits for events, and hands over those that there are. Cancelled, it loses none.
    ///
    /// # Errors
    ///
    /// When the kernel refuses to wait.
    pub async fn next_batch(&mut self, mut each: impl FnMut(Limited)) -> io::Result<()> {
        let mut ready = self.ring.readable_mut().await?;
        let ring = ready.get_inner_mut();
        while let Some(item) = ring.next() {
            if let Some(event) = read_event(&item) {
                each(event);
            }
        }
        ready.clear_ready();
        Ok(())
    }
}

/// An event from its bytes, or `None` if this controller does not know such a one.
fn read_event(bytes: &[u8]) -> Option<Limited> {
    let word = |at: usize| bytes.get(at..)?.first_chunk().copied().map(u64::from_ne_bytes);
    if bytes.len() != size_of::<Event>() {
        return None;
    }
    let (time, head, source) = (word(0)?, word(8)?, [word(16)?, word(24)?]);
    let number = head & 0xffff_ffff;
    let reason = Reason::ALL.iter().find(|reason| u64::from(reason.index()) == number)?;
    let source = IpAddr::from(Address::from_words(source));
    Some(Limited { source, reason: *reason, at: KernelTime(time) })
}

enum BanKey {
    V4(u32),
    V6([u64; 2]),
    Network(Key<[u64; 2]>),
}

fn key(network: IpNet) -> BanKey {
    match network {
        IpNet::V4(v4) if v4.prefix_len() == 32 => {
            BanKey::V4(u32::from_le_bytes(v4.addr().octets()))
        }
        IpNet::V6(v6) if v6.prefix_len() == 128 => BanKey::V6(words(v6.addr())),
        IpNet::V4(_) | IpNet::V6(_) => BanKey::Network(network_key(network)),
    }
}

/// The key of a network in the tries that both families share.
fn network_key(network: IpNet) -> Key<[u64; 2]> {
    let mapped = match network {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    let words = Address::from(network.network()).words();
    Key::new(u32::from(network.prefix_len()) + mapped, words)
}

fn network_of(key: &Key<[u64; 2]>) -> Option<IpNet> {
    let address = IpAddr::from(Address::from_words(key.data()));
    let mapped = if address.is_ipv4() { 96 } else { 0 };
    let length = key.prefix_len().checked_sub(mapped)?;
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

/// The number of what covers all of these: the program closes SIP or everything.
fn scope_number(mut scopes: impl Iterator<Item = Scope>) -> Result<u8> {
    scopes.try_fold(SCOPE_SIP, |number, scope| match scope {
        Scope::Sip => Ok(number),
        Scope::All => Ok(SCOPE_ALL),
        Scope::Ports(_) => bail!("the XDP program closes SIP or everything, no other ports"),
    })
}

fn read_scope(entry: &BanEntry) -> Option<Scope> {
    match entry.scope {
        SCOPE_SIP => Some(Scope::Sip),
        SCOPE_ALL => Some(Scope::All),
        _ => None,
    }
}

fn read_address(address: IpAddr, entry: &BanEntry) -> Option<AddressEntry> {
    Some(AddressEntry {
        address,
        scopes: Scopes::default().and(read_scope(entry)?),
        origin: Origin::from_number(entry.origin),
        since: KernelTime(entry.since),
        until: (entry.until != FOREVER).then_some(KernelTime(entry.until)),
    })
}

fn read_network(network: IpNet, entry: &BanEntry) -> Option<NetworkEntry> {
    let until = (entry.until != FOREVER).then_some(KernelTime(entry.until));
    Some(NetworkEntry {
        network,
        ends: Ends::NONE.and(read_scope(entry)?, until),
        origin: Origin::from_number(entry.origin),
        since: KernelTime(entry.since),
    })
}

fn gcra(limit: Limit) -> Gcra {
    let period = u64::try_from(limit.rate.period().as_nanos()).unwrap_or(u64::MAX);
    Gcra::new(limit.rate.events().into(), period, limit.burst.into())
}

fn is_missing(error: &MapError) -> bool {
    if let MapError::SyscallError(call) = error {
        return call.io_error.kind() == io::ErrorKind::NotFound;
    }
    matches!(error, MapError::KeyNotFound | MapError::ElementNotFound)
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

fn load(pins: &Pins, settings: &Settings, slot: u32) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    loader
        .override_global(abi::INTERFACE_SLOT, &slot, true)
        .map_max_entries(maps::BANS_V4, settings.bans)
        .map_max_entries(maps::BANS_V6, settings.bans_ipv6);
    for name in maps::PINNED {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).context("load the XDP program and its maps (it takes Linux 6.1 and root)")
}

fn take(ebpf: &mut Ebpf, name: &str) -> Result<Map> {
    ebpf.take_map(name).with_context(|| format!("the object has no map `{name}`"))
}

/// Makes the pinned maps fit: those of another version of the program or of another size are
/// unpinned, and made anew by the loader. The program that runs keeps its own until it is replaced.
///
/// Returns the bans that were in them.
fn take_over(
    pins: &Pins,
    settings: &Settings,
    notes: &mut Vec<String>,
) -> Result<Vec<AddressEntry>> {
    if !pins.map(maps::CONFIG).exists() {
        return Ok(Vec::new());
    }
    if pinned_version(&pins.map(maps::CONFIG))? != Some(abi::ABI_VERSION) {
        for name in maps::PINNED {
            pins::remove(&pins.map(name))?;
        }
        notes.push(
            "the pinned maps are of another version: made them anew, without their bans".to_owned(),
        );
        return Ok(Vec::new());
    }
    let mut saved = Vec::new();
    let (v4, v6) = (pins.map(maps::BANS_V4), pins.map(maps::BANS_V6));
    if resized(&v4, settings.bans) {
        for (word, entry) in entries::<u32>(&v4)? {
            saved.extend(read_address(IpAddr::from(word.to_le_bytes()), &entry));
        }
        pins::remove(&v4)?;
    }
    if resized(&v6, settings.bans_ipv6) {
        for (key, entry) in entries::<[u64; 2]>(&v6)? {
            saved.extend(read_address(IpAddr::from(Address::from_words(key)), &entry));
        }
        pins::remove(&v6)?;
    }
    let now = KernelTime::now();
    saved.retain(|entry| entry.until.is_none_or(|until| now < until));
    for (key, room, is_ipv4) in
        [("bans", settings.bans, true), ("bans_ipv6", settings.bans_ipv6, false)]
    {
        let bans = saved.iter().filter(|ban| ban.address.is_ipv4() == is_ipv4).count();
        if bans > usize::try_from(room).unwrap_or(usize::MAX) {
            bail!(
                "`capacity: {{{key}: {room}}}` is less than the {bans} bans in force; lift some first"
            );
        }
    }
    Ok(saved)
}

fn resized(pin: &Path, bans: u32) -> bool {
    MapInfo::from_pin(pin).is_ok_and(|info| info.max_entries() != bans)
}

/// The version of pinned maps, if they are of a kind that has one.
fn pinned_version(pin: &Path) -> Result<Option<u32>> {
    let map = MapData::from_pin(pin).with_context(|| format!("open {}", pin.display()))?;
    let config = Map::from_map_data(map).map(Array::<MapData, Config>::try_from);
    Ok(match config {
        Ok(Ok(config)) => config.get(&0, 0).ok().map(|config| config.abi_version),
        _ => None,
    })
}

fn entries<K: Pod>(pin: &Path) -> Result<Vec<(K, BanEntry)>> {
    let read = || -> Result<Vec<(K, BanEntry)>> {
        let map = Map::from_map_data(MapData::from_pin(pin)?)?;
        let map: HashMap<MapData, K, BanEntry> = HashMap::try_from(map)?;
        Ok(map.iter().collect::<std::result::Result<_, _>>()?)
    };
    read().with_context(|| format!("read {}", pin.display()))
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

fn write_ports(map: &mut Array<MapData, [u8; PORTS_PER_BLOCK]>, sip: &SipPorts) -> Result<()> {
    let mut blocks = vec![[0u8; PORTS_PER_BLOCK]; usize::try_from(PORT_BLOCKS)?];
    for (ranges, class) in [(&sip.udp, PORT_SIP_UDP), (&sip.tcp, PORT_SIP_TCP)] {
        for port in ranges.iter().flat_map(|range| range.ports()) {
            let (block, byte) = port_place(port);
            let block = blocks.get_mut(usize::try_from(block)?);
            if let Some(classes) = block.and_then(|block| block.get_mut(byte)) {
                *classes |= class;
            }
        }
    }
    for (block, classes) in (0..).zip(blocks) {
        map.set(block, classes, 0).context("write the SIP ports")?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_their_keys() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "2001:db8::2/127"] {
            let network: IpNet = text.parse().unwrap();
            let BanKey::Network(key) = key(network) else { panic!("{text} is a network") };
            assert_eq!(network_of(&key), Some(network));
        }
        assert!(matches!(key("192.0.2.1/32".parse().unwrap()), BanKey::V4(0x0102_00c0)));
    }

    #[test]
    fn events_of_another_size_or_reason_are_left_out() {
        let mut bytes = vec![0; size_of::<Event>()];
        bytes[8] = 18;
        bytes[26] = 0xff;
        bytes[27] = 0xff;
        bytes[28..].copy_from_slice(&[192, 0, 2, 66]);
        let event = read_event(&bytes).unwrap();
        assert_eq!(event.source, IpAddr::from([192, 0, 2, 66]));
        assert_eq!(event.reason, Reason::RegisterLimit);
        bytes[8] = 255;
        assert_eq!(read_event(&bytes), None);
        assert_eq!(read_event(&bytes[..31]), None);
    }
}

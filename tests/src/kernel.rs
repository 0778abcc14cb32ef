//! The real object in the real kernel, with maps that are filled as by the controller.
//! `BPF_PROG_TEST_RUN` runs it over a packet; it is not attached to any interface.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd as _, OwnedFd};
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, MapInfo, PerCpuArray, RingBuf};
use aya::programs::{ProgramInfo, Xdp};
use aya::util::KernelVersion;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use filter_common::abi::{
    BanEntry, Beat, Buckets, CLASSES, CLOCK_PROGRAM, Challenged, Clocks, Config, Configs, Counter,
    Event, Flooder, INTERFACE_SLOT, NetworkEntry, PORTS_PER_BLOCK, PROGRAM, Peer, RECORDED,
    SHARED_BUCKETS, SharedBucket, Signature, Visitor, Visits, asked_key, counter_index, maps,
    port_place, visited_key,
};
use filter_common::address::Address;
use filter_common::ban_cache;
use filter_common::ban_table::{entries_for, lines_for};
use filter_common::decision::{Reason, Verdict};
use filter_common::greylist;
use filter_common::limits::{
    AGENT_WORDS, GREYLIST_LINES, PREFIX_LINES, RETRY_LINES, SEEN_PLACES, SOURCE_LINES,
};
use filter_common::packet::{self, Layer4, Packet as _};
use filter_common::policy::{answers, stream};
use filter_common::sip;
use filter_user::datapath::ban_cache::BanCache;
use filter_user::datapath::ban_table::BanTable;
use filter_user::datapath::config_map::ConfigMap;
use filter_user::datapath::{Memory, OBJECT};
use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::time::{ClockId, clock_getres, clock_gettime};

use crate::cases::{BANS, BANS_V6, World};
use crate::model::{Gates, Tally, ban_lines, cache_lines, mapped_prefix};
use crate::netns;
use crate::packet_builder::{SOURCE_PORT, TARGET_V4, TARGET_V6};

/// `XDP_DROP` and `XDP_PASS` in the kernel's `enum xdp_action`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Bytes of the first buffer of a test run: a page without the space that the kernel reserves before and
/// after the packet (`XDP_PACKET_HEADROOM`, `struct skb_shared_info`). The rest of a longer frame is in
/// further buffers.
pub const LINEAR_MAX: usize = 4096 - 256 - 320;

/// The counters, by reason: actual verdicts, and those that a dry run prevented.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Actual verdicts.
    pub done: BTreeMap<&'static str, Counter>,
    /// Verdicts that a dry run prevented.
    pub would: BTreeMap<&'static str, Counter>,
}

/// The loaded program and its maps.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    slot: u32,
    config: Config,
    gates: Gates,
    /// The memory of the gates: bans, trust, known peers.
    gate_words: [Memory; 3],
    bans_v4: Memory,
    cache: Memory,
    ports: BTreeSet<u32>,
    used_sources: BTreeSet<u32>,
    used_prefixes: BTreeSet<u32>,
    used_streams: BTreeSet<u32>,
    used_greylist: BTreeSet<u32>,
    used_retries: BTreeSet<u32>,
    used_retry_rate: BTreeSet<u32>,
    connections: Vec<Connection>,
    /// The contents of the maps; searching empty ones takes long.
    world: World,
}

impl Kernel {
    /// Loads the object for an interface's slot.
    ///
    /// # Errors
    ///
    /// If the kernel refuses it, with its reasons.
    pub fn load(slot: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .override_global(INTERFACE_SLOT, &slot, true)
            .map_max_entries(maps::BANS_V4, entries_for(lines_for(BANS)))
            .map_max_entries(maps::BANS_V6_CACHE, ban_cache::lines_for(BANS_V6))
            .load(OBJECT)
            .context("load the maps")?;
        for name in [PROGRAM, CLOCK_PROGRAM] {
            let program: &mut Xdp =
                ebpf.program_mut(name).with_context(|| format!("no program {name}"))?.try_into()?;
            program.load().with_context(|| format!("load {name}"))?;
        }
        let memory = |name: &str| {
            let Some(Map::Array(map)) = ebpf.map(name) else { bail!("no array {name}") };
            Memory::of(MapData::from_id(map.info()?.id())?)
        };
        let gate_words =
            [memory(maps::PRESENCE)?, memory(maps::TRUST_GATE)?, memory(maps::KNOWN_GATE)?];
        let bans_v4 = memory(maps::BANS_V4)?;
        let cache = memory(maps::BANS_V6_CACHE)?;
        let world = World::default();
        Ok(Self {
            ebpf,
            slot,
            config: Config::default(),
            gates: Gates::of(&world),
            gate_words,
            bans_v4,
            cache,
            ports: BTreeSet::new(),
            used_sources: BTreeSet::new(),
            used_prefixes: BTreeSet::new(),
            used_streams: BTreeSet::new(),
            used_greylist: BTreeSet::new(),
            used_retries: BTreeSet::new(),
            used_retry_rate: BTreeSet::new(),
            connections: Vec::new(),
            world,
        })
    }

    /// The program.
    ///
    /// # Errors
    ///
    /// If it is of another kind.
    pub fn program(&self) -> Result<&Xdp> {
        self.program_called(PROGRAM)
    }

    fn program_called(&self, name: &str) -> Result<&Xdp> {
        let program = self.ebpf.program(name).context("the object has no such program")?;
        Ok(program.try_into()?)
    }

    /// The readings of the kernel's clocks.
    ///
    /// # Errors
    ///
    /// If the program that reads them cannot be run.
    pub fn clocks(&self) -> Result<Clocks> {
        let (packet, mut out) = ([0; 64], [0; 64]);
        let options = TestRunOptions {
            data_in: Some(&packet),
            data_out: Some(&mut out),
            ..TestRunOptions::new()
        };
        let result = self.program_called(CLOCK_PROGRAM)?.test_run(options)?;
        if result.return_value != XDP_PASS {
            bail!("{CLOCK_PROGRAM} returned {}", result.return_value);
        }
        let word = |at: usize| out[at..].first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
        Ok(Clocks { jiffies: word(0), monotonic: word(8) })
    }

    /// Fills the maps with `world` at `now`, and removes everything else except the counters. For the
    /// program, time then stands still except for [`wait`](Self::wait): a jiffy is a nanosecond.
    ///
    /// # Errors
    ///
    /// If a map cannot be written.
    pub fn enter(&mut self, world: &World, now: u64) -> Result<()> {
        let jiffies_epoch = self.clocks()?.jiffies.wrapping_sub(now);
        self.enter_with(world, now, &Config { jiffies_epoch, tick: 1, ..world.config(now) })
    }

    /// The same as [`enter`](Self::enter), but in real time.
    ///
    /// # Errors
    ///
    /// The same.
    pub fn enter_in_time(&mut self, world: &World) -> Result<()> {
        let tick = nanoseconds(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE)?)?;
        let clocks = self.clocks()?;
        let now = clocks.monotonic;
        let jiffies_epoch = clocks.jiffies.wrapping_sub(now / tick);
        self.enter_with(world, now, &Config { jiffies_epoch, tick, ..world.config(now) })
    }

    fn enter_with(&mut self, world: &World, now: u64, config: &Config) -> Result<()> {
        // Without a configuration there is no clock either.
        self.config = if world.abi.is_some() { *config } else { Config::default() };
        self.set_config()?;
        self.set_ports(world)?;
        if !(self.world.guards.is_empty() && world.guards.is_empty()) {
            self.set_visits(world)?;
        }
        self.empty_buckets()?;
        self.set_bans(world, now)?;
        self.set_gates(world)?;
        self.set_peers(world, now)?;
        self.set_signatures(world)?;
        self.set_geo(world)?;
        let mut map: Array<&mut MapData, Beat> = self.map_mut(maps::BEAT)?.try_into()?;
        map.set(0, Beat { until: world.attended.time(now), last: 0 }, 0)?;
        self.connections.clear();
        for source in &world.connected {
            self.connections.push(Connection::new(*source)?);
        }
        self.world = world.clone();
        Ok(())
    }

    /// Advances the program's time by this many nanoseconds.
    ///
    /// # Errors
    ///
    /// If the configuration cannot be written.
    pub fn wait(&mut self, time: u64) -> Result<()> {
        self.config.jiffies_epoch =
            self.config.jiffies_epoch.wrapping_sub(time / self.config.tick.max(1));
        self.set_config()
    }

    fn set_config(&mut self) -> Result<()> {
        let config = self.config;
        let mut map: Array<&mut MapData, Configs> = self.map_mut(maps::CONFIG)?.try_into()?;
        // The side that is not current is empty, so a program that reads it is detected.
        Ok(map.set(0, Configs { current: 1, sides: [Config::default(), config] }, 0)?)
    }

    /// The last configuration that was entered.
    pub fn config(&self) -> Config {
        self.config
    }

    /// The controller's writer of the configuration, for use during a run.
    ///
    /// # Errors
    ///
    /// If the map cannot be opened again.
    pub fn config_writer(&self) -> Result<ConfigMap<MapData>> {
        let Map::Array(map) = self.map(maps::CONFIG)? else { bail!("not an array") };
        let id = map.info()?.id();
        ConfigMap::new(Map::from_map_data(MapData::from_id(id)?)?)
    }

    /// The known peers, of which there may be [`KNOWN_PEERS`](filter_common::limits::KNOWN_PEERS).
    ///
    /// # Errors
    ///
    /// If the map does not exist.
    pub fn known_peers(&mut self) -> Result<HashMap<&mut MapData, [u64; 2], Peer>> {
        Ok(self.map_mut(maps::KNOWN)?.try_into()?)
    }

    /// Records the users of the world's ports anew.
    fn set_visits(&mut self, world: &World) -> Result<()> {
        clear_hash::<u32, Visits>(self.map_mut(maps::VISITED)?)?;
        clear_hash::<[u64; 2], Visitor>(self.map_mut(maps::VISITORS)?)?;
        let mut map: HashMap<_, u32, Visits> = self.map_mut(maps::VISITED)?.try_into()?;
        for (tcp, port, _) in world.guards.iter().filter(|(_, _, open)| open & RECORDED != 0) {
            map.insert(visited_key(*tcp, *port), Visits::default(), 0)?;
        }
        Ok(())
    }

    fn set_ports(&mut self, world: &World) -> Result<()> {
        let mut blocks: BTreeMap<_, _> =
            self.ports.iter().map(|block| (*block, [0u8; PORTS_PER_BLOCK])).collect();
        for (tcp, port, class) in world.port_classes() {
            let (block, byte) = port_place(tcp, port);
            blocks.entry(block).or_insert([0; PORTS_PER_BLOCK])[byte] |= class;
        }
        let mut guards: BTreeMap<_, _> =
            blocks.keys().map(|block| (*block, [0u8; PORTS_PER_BLOCK])).collect();
        for (tcp, port, open_to) in &world.guards {
            let (block, byte) = port_place(*tcp, *port);
            guards.entry(block).or_insert([0; PORTS_PER_BLOCK])[byte] = *open_to;
        }
        self.ports = blocks.keys().copied().collect();
        let mut map: Array<&mut MapData, [u8; PORTS_PER_BLOCK]> =
            self.map_mut(maps::PORTS)?.try_into()?;
        for (block, classes) in blocks {
            map.set(block, classes, 0)?;
        }
        let mut map: Array<&mut MapData, [u8; PORTS_PER_BLOCK]> =
            self.map_mut(maps::GUARDS)?.try_into()?;
        for (block, open_to) in guards {
            map.set(block, open_to, 0)?;
        }
        Ok(())
    }

    /// Removes this source from those that were seen.
    ///
    /// # Errors
    ///
    /// If the map cannot be written.
    pub fn forget_seen(&mut self, source: Address) -> Result<()> {
        let place = line(source, SEEN_PLACES);
        let mut map: Array<&mut MapData, u32> = self.map_mut(maps::SEEN)?.try_into()?;
        Ok(map.set(place, 0, 0)?)
    }

    /// Whether this source has been seen.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn seen(&self, source: Address) -> Result<bool> {
        let map: Array<&MapData, u32> = self.map(maps::SEEN)?.try_into()?;
        Ok(map.get(&line(source, SEEN_PLACES), 0)? != 0)
    }

    fn empty_buckets(&mut self) -> Result<()> {
        let (sources, prefixes) =
            (std::mem::take(&mut self.used_sources), std::mem::take(&mut self.used_prefixes));
        for (name, used) in [(maps::SOURCES, sources), (maps::PREFIXES, prefixes)] {
            let mut map: Array<&mut MapData, Buckets> = self.map_mut(name)?.try_into()?;
            for line in used {
                map.set(line, [0; CLASSES], 0)?;
            }
        }
        let streams = std::mem::take(&mut self.used_streams);
        let mut map: Array<&mut MapData, u64> = self.map_mut(maps::STREAMS)?.try_into()?;
        for place in streams {
            map.set(place, 0, 0)?;
        }
        let mut map: Array<&mut MapData, SharedBucket> = self.map_mut(maps::SHARED)?.try_into()?;
        for place in 0..SHARED_BUCKETS {
            map.set(place, SharedBucket::default(), 0)?;
        }
        let greylist = std::mem::take(&mut self.used_greylist);
        let mut map: Array<&mut MapData, greylist::Line> =
            self.map_mut(maps::GREYLIST)?.try_into()?;
        for line in greylist {
            map.set(line, greylist::Line::default(), 0)?;
        }
        let retries = std::mem::take(&mut self.used_retries);
        let mut map: Array<&mut MapData, greylist::Line> =
            self.map_mut(maps::RETRIES)?.try_into()?;
        for line in retries {
            map.set(line, greylist::Line::default(), 0)?;
        }
        let rates = std::mem::take(&mut self.used_retry_rate);
        let mut map: Array<&mut MapData, u64> = self.map_mut(maps::RETRY_RATE)?.try_into()?;
        for bucket in rates {
            map.set(bucket, 0, 0)?;
        }
        Ok(())
    }

    fn set_bans(&mut self, world: &World, now: u64) -> Result<()> {
        for (memory, lines) in
            [(&self.bans_v4, ban_lines(world, now)), (&self.cache, cache_lines(world, now))]
        {
            for (word, new) in memory.as_ref().iter().zip(&*lines) {
                word.store(new.load(Ordering::Relaxed), Ordering::Relaxed);
            }
        }
        if self.world.entered().next().is_some() {
            clear_hash::<[u64; 2], BanEntry>(self.map_mut(maps::BANS_V6)?)?;
            clear_trie::<NetworkEntry>(self.map_mut(maps::BAN_NETS)?)?;
        }
        let map = self.map_mut(maps::BANS_V6)?;
        let mut map = HashMap::<_, [u64; 2], BanEntry>::try_from(map)?;
        for (source, ban) in world.v6_bans(now) {
            map.insert(source.words(), ban, 0)?;
        }
        let mut map: LpmTrie<_, [u64; 2], NetworkEntry> =
            self.map_mut(maps::BAN_NETS)?.try_into()?;
        for (network, entry) in world.networks(now) {
            map.insert(&trie_key(&network), entry, 0)?;
        }
        Ok(())
    }

    /// Sets the gates and the trusted networks. Only changes are written: the gate of bans has half a
    /// million words.
    fn set_gates(&mut self, world: &World) -> Result<()> {
        let gates = Gates::of(world);
        for (words, changes) in self.gate_words.iter().zip(gates.changes(&self.gates)) {
            for (place, word) in changes {
                words.as_ref()[place].store(word, Ordering::Relaxed);
            }
        }
        self.gates = gates;
        if !self.world.trusted.is_empty() {
            clear_trie::<u32>(self.map_mut(maps::TRUSTED)?)?;
        }
        let mut map: LpmTrie<_, [u64; 2], u32> = self.map_mut(maps::TRUSTED)?.try_into()?;
        for network in &world.trusted {
            map.insert(&trie_key(network), u32::MAX, 0)?;
        }
        Ok(())
    }

    fn set_peers(&mut self, world: &World, now: u64) -> Result<()> {
        clear_hash::<[u64; 2], Peer>(self.map_mut(maps::KNOWN)?)?;
        clear_hash::<[u64; 2], Flooder>(self.map_mut(maps::FLOODERS)?)?;
        let mut map: HashMap<_, [u64; 2], Peer> = self.map_mut(maps::KNOWN)?.try_into()?;
        for (address, ends) in &world.peers {
            let peer = Peer { until: ends.time(now), ..Peer::default() };
            map.insert(Address::from(*address).words(), peer, 0)?;
        }
        let mut map: HashMap<_, [u64; 2], Flooder> = self.map_mut(maps::FLOODERS)?.try_into()?;
        for (address, ends) in &world.flooders {
            let flooder = Flooder { until: ends.time(now), packets: 0 };
            map.insert(Address::from(*address).network64().words(), flooder, 0)?;
        }
        clear_hash::<[u64; 2], Challenged>(self.map_mut(maps::CHALLENGED)?)?;
        let mut map: HashMap<_, [u64; 2], Challenged> =
            self.map_mut(maps::CHALLENGED)?.try_into()?;
        for (address, record) in world.challenges() {
            map.insert(address.words(), record, 0)?;
        }
        clear_hash::<[u64; 3], u64>(self.map_mut(maps::ASKED)?)?;
        let mut map: HashMap<_, [u64; 3], u64> = self.map_mut(maps::ASKED)?.try_into()?;
        for (address, port, when) in &world.asked {
            map.insert(asked_key(Address::from(*address), *port), when.time(now), 0)?;
        }
        Ok(())
    }

    fn set_geo(&mut self, world: &World) -> Result<()> {
        let (old, new) = (self.world.shut_v4(), world.shut_v4());
        let mut map: Array<_, u64> = self.map_mut(maps::GEO_V4)?.try_into()?;
        for word in old.keys().chain(new.keys()) {
            map.set(*word, new.get(word).copied().unwrap_or(0), 0)?;
        }
        if !self.world.shut.is_empty() {
            clear_trie::<u32>(self.map_mut(maps::GEO_V6)?)?;
        }
        let mut map: LpmTrie<_, [u64; 2], u32> = self.map_mut(maps::GEO_V6)?.try_into()?;
        for (network, shut) in world.shut_v6() {
            map.insert(&trie_key(&network), u32::from(shut), 0)?;
        }
        Ok(())
    }

    fn set_signatures(&mut self, world: &World) -> Result<()> {
        let mut map: LpmTrie<_, [u64; AGENT_WORDS], Signature> =
            self.map_mut(maps::SIGNATURES)?.try_into()?;
        let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
        for key in keys {
            map.remove(&key)?;
        }
        for (agent, bits) in world.signature_keys() {
            map.insert(&Key::new(bits, agent), Signature::default(), 0)?;
        }
        Ok(())
    }

    /// The verdict for a frame.
    ///
    /// # Errors
    ///
    /// If it cannot be run, or the program returns anything other than pass and drop.
    pub fn run(&mut self, frame: &[u8]) -> Result<Verdict> {
        self.run_with(frame, TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() })
    }

    /// The same as [`run`](Self::run), with at most `linear` bytes of the frame in the first buffer.
    ///
    /// # Errors
    ///
    /// The same, and if the kernel [does not support it](can_split).
    pub fn run_split(&mut self, frame: &[u8], linear: usize) -> Result<Verdict> {
        // `struct xdp_md`: data, data_end, data_meta, and three zero fields.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&u32::try_from(linear)?.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        self.run_with(frame, options)
    }

    /// Runs the program over a frame this many times, on the current CPU, and returns how long one takes on average.
    ///
    /// # Errors
    ///
    /// If it cannot be run.
    pub fn repeat(&self, frame: &[u8], times: u32) -> Result<Duration> {
        let options =
            TestRunOptions { data_in: Some(frame), repeat: times, ..TestRunOptions::new() };
        Ok(self.program()?.test_run(options)?.duration)
    }

    fn run_with(&mut self, frame: &[u8], options: TestRunOptions<'_>) -> Result<Verdict> {
        if let Ok(headers) = packet::parse(&frame) {
            let source = headers.source;
            // The limits know an IPv6 address by its /64, but a known peer by its address.
            for source in [source, source.network64()] {
                self.used_sources.insert(line(source, SOURCE_LINES));
                self.used_greylist.insert(line(source, GREYLIST_LINES));
                self.used_prefixes.insert(line(source, PREFIX_LINES));
                let hash = source.hash(World::SEED);
                self.used_retry_rate.extend(answers::places(hash));
                self.used_streams.insert(stream::source_place(hash));
            }
            if let Layer4::Udp { payload, .. } = headers.layer4 {
                let identity = sip::identity(&frame, payload, self.config.source_hash(source));
                self.used_retries.insert(low(identity) & (RETRY_LINES - 1));
            }
            let masks = if source.v4_word().is_some() {
                self.config.prefix_v4
            } else {
                self.config.prefix_v6
            };
            let [first, second] = source.words();
            let network = Address::from_words([first & masks[0], second & masks[1]]);
            self.used_prefixes.insert(line(network, PREFIX_LINES));
            if let Layer4::Tcp { start, .. } = headers.layer4
                && let Some(ports) = (&frame).array(start)
            {
                self.used_streams.extend(stream::places(source, ports, &self.config));
            }
        }
        let result = self.program()?.test_run(options)?;
        match result.return_value {
            XDP_DROP => Ok(Verdict::Drop),
            XDP_PASS => Ok(Verdict::Pass),
            other => bail!("the program returned {other}"),
        }
    }

    /// The counter of one reason, summed over all CPUs.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counter(&self, would: bool, reason: Reason) -> Result<Counter> {
        let map: PerCpuArray<_, Counter> = self.map(maps::COUNTERS)?.try_into()?;
        let mut sum = Counter::default();
        for cpu in map.get(&counter_index(self.slot, would, reason.into()), 0)?.iter() {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
        }
        Ok(sum)
    }

    /// The counters of all reasons.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::default();
        for reason in Reason::ALL {
            counters.done.insert(reason.as_str(), self.counter(false, *reason)?);
            counters.would.insert(reason.as_str(), self.counter(true, *reason)?);
        }
        Ok(counters)
    }

    /// The sum of all counters in the map, for any slot.
    ///
    /// # Errors
    ///
    /// If the map cannot be read.
    pub fn counted_anywhere(&self) -> Result<u64> {
        let map: PerCpuArray<_, Counter> = self.map(maps::COUNTERS)?.try_into()?;
        let mut sum = 0;
        for index in 0..map.len() {
            sum += map.get(&index, 0)?.iter().map(|cpu| cpu.packets).sum::<u64>();
        }
        Ok(sum)
    }

    /// The counts in the entries of the world.
    ///
    /// # Errors
    ///
    /// If a map cannot be read.
    pub fn tally(&self) -> Result<Tally> {
        let mut tally = Tally::default();
        let flooders: HashMap<_, [u64; 2], Flooder> = self.map(maps::FLOODERS)?.try_into()?;
        for entry in &flooders {
            tally.flooders += entry?.1.packets;
        }
        if self.world.entered().next().is_some() {
            let table = BanTable::new(&self.bans_v4, World::SEED, usize::try_from(BANS)?);
            tally.bans = table.iter().map(|slot| slot.packets).sum();
            let v6: HashMap<_, [u64; 2], BanEntry> = self.map(maps::BANS_V6)?.try_into()?;
            let cache = BanCache::new(&self.cache, World::SEED);
            for entry in &v6 {
                let (address, entry) = entry?;
                tally.bans += entry.packets + cache.packets(Address::from_words(address));
            }
            let networks: LpmTrie<_, [u64; 2], NetworkEntry> =
                self.map(maps::BAN_NETS)?.try_into()?;
            for entry in &networks {
                tally.bans += entry?.1.packets;
            }
        }
        if !self.world.peers.is_empty() {
            let known: HashMap<_, [u64; 2], Peer> = self.map(maps::KNOWN)?.try_into()?;
            for entry in &known {
                let peer = entry?.1;
                tally.peers_passed += peer.passed;
                tally.peers_dropped += peer.dropped;
            }
        }
        if !self.world.signatures.is_empty() {
            let map: LpmTrie<_, [u64; AGENT_WORDS], Signature> =
                self.map(maps::SIGNATURES)?.try_into()?;
            for entry in &map {
                tally.signatures += entry?.1.packets;
            }
        }
        if !self.world.guards.is_empty() {
            let visited: HashMap<_, u32, Visits> = self.map(maps::VISITED)?.try_into()?;
            for entry in &visited {
                tally.uses += entry?.1.networks.iter().sum::<u64>();
            }
        }
        Ok(tally)
    }

    /// The unread events.
    ///
    /// # Errors
    ///
    /// If one does not match the ABI.
    pub fn events(&mut self) -> Result<Vec<Event>> {
        let mut ring: RingBuf<&mut MapData> = self.map_mut(maps::EVENTS)?.try_into()?;
        let mut events = Vec::new();
        while let Some(item) = ring.next() {
            let bytes: [u8; size_of::<Event>()] = item[..].try_into()?;
            let word = |at| bytes[at..].first_chunk().map_or(0, |b| u64::from_ne_bytes(*b));
            let half = |at| bytes[at..].first_chunk().map_or(0, |b| u32::from_ne_bytes(*b));
            let source = [word(16), word(24)];
            events.push(Event { time: word(0), reason: half(8), slot: half(12), source });
        }
        Ok(events)
    }

    fn map(&self, name: &str) -> Result<&Map> {
        self.ebpf.map(name).with_context(|| format!("the object has no map {name}"))
    }

    fn map_mut(&mut self, name: &str) -> Result<&mut Map> {
        self.ebpf.map_mut(name).with_context(|| format!("the object has no map {name}"))
    }
}

/// The memory of each map of a program in bytes, by the map's name and number: its tables and existing
/// entries, with the sizes requested from the allocator. 0 if the kernel does not know: before Linux 6.4
/// it reports the memory of all possible entries even for a map that allocates only existing ones.
///
/// # Errors
///
/// If the kernel does not report it.
pub fn memory(program: &ProgramInfo) -> Result<BTreeMap<(String, u32), u64>> {
    let ids = program.map_ids()?.context("the kernel does not tell a program's maps")?;
    let mut taken = BTreeMap::new();
    for id in ids {
        let map = MapInfo::from_id(id)?;
        let name = map.name_as_str().unwrap_or("?").to_owned();
        taken.insert((name, id), memlock(&map)?);
    }
    Ok(taken)
}

fn memlock(map: &MapInfo) -> Result<u64> {
    /// `BPF_F_NO_PREALLOC` in include/uapi/linux/bpf.h.
    const GROWS: u32 = 1;
    let fd = map.fd()?;
    let path = format!("/proc/self/fdinfo/{}", fd.as_fd().as_raw_fd());
    let text = fs::read_to_string(path)?;
    let field = |name: &str| {
        let value = text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        value.with_context(|| format!("the kernel tells no {name}"))
    };
    let flags = u32::from_str_radix(field("map_flags:")?.trim_start_matches("0x"), 16)?;
    if flags & GROWS != 0 && KernelVersion::current()? < KernelVersion::new(6, 4, 0) {
        return Ok(0);
    }
    Ok(field("memlock:")?.parse()?)
}

/// Whether the kernel allows a test run to choose the end of its first buffer: since Linux 6.18.
///
/// # Errors
///
/// If the kernel does not report its version.
pub fn can_split() -> Result<bool> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor) >= (6, 18)),
        _ => bail!("what is Linux {release:?}?"),
    }
}

/// Runs `test` in a new network namespace, which is removed afterwards. There, rows have their
/// connections.
///
/// # Errors
///
/// If the namespace cannot be created, or `test` fails.
///
/// # Panics
///
/// If `test` panics.
pub fn in_own_network<T: Send>(test: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let run = || {
        unshare(CloneFlags::CLONE_NEWNET).context("make a network namespace")?;
        netns::ip("link set lo up")?;
        netns::ip(&format!("addr add {TARGET_V4}/32 dev lo"))?;
        netns::ip(&format!("addr add {TARGET_V6}/128 dev lo nodad"))?;
        test()
    };
    thread::scope(|scope| match scope.spawn(run).join() {
        Ok(result) => result,
        Err(panic) => std::panic::resume_unwind(panic),
    })
}

/// A TCP connection between the addresses and ports in a source's frames.
#[derive(Debug)]
struct Connection {
    source: IpAddr,
    ends: Option<(OwnedFd, TcpStream)>,
}

impl Connection {
    fn new(source: IpAddr) -> Result<Self> {
        let (target, family, length) = match source {
            IpAddr::V4(_) => (IpAddr::V4(TARGET_V4), AddressFamily::Inet, 32),
            IpAddr::V6(_) => (IpAddr::V6(TARGET_V6), AddressFamily::Inet6, 128),
        };
        netns::ip(&format!("addr add {source}/{length} dev lo{}", nodad(source)))?;
        let mut connection = Self { source, ends: None };
        let target = SocketAddr::from((target, 5060));
        let listener = TcpListener::bind(target).context("listen where frames go to")?;
        let client = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)?;
        bind(client.as_raw_fd(), &SockaddrStorage::from(SocketAddr::from((source, SOURCE_PORT))))?;
        connect(client.as_raw_fd(), &SockaddrStorage::from(target)).context("connect")?;
        let (server, _) = listener.accept()?;
        for end in [client.as_fd(), server.as_fd()] {
            // Closed immediately, so that the ports are free for the next row.
            setsockopt(&end, sockopt::Linger, &nix::libc::linger { l_onoff: 1, l_linger: 0 })?;
        }
        connection.ends = Some((client, server));
        Ok(connection)
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.ends = None;
        let length = if self.source.is_ipv4() { 32 } else { 128 };
        // If the namespace is removed, the address is removed too.
        let _gone = netns::ip(&format!("addr del {}/{length} dev lo", self.source));
    }
}

/// The option of `ip` that makes an address usable at once.
fn nodad(address: IpAddr) -> &'static str {
    if address.is_ipv6() { " nodad" } else { "" }
}

/// The current time of the clock that the controller reads.
///
/// # Errors
///
/// If the kernel has no such clock.
pub fn now() -> Result<u64> {
    nanoseconds(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?)
}

fn nanoseconds(time: nix::sys::time::TimeSpec) -> Result<u64> {
    Ok(u64::try_from(time.tv_sec())? * 1_000_000_000 + u64::try_from(time.tv_nsec())?)
}

/// The line of a source, of this many lines.
#[expect(clippy::cast_possible_truncation, reason = "masked")]
fn line(source: Address, lines: u32) -> u32 {
    source.hash(World::SEED) as u32 & (lines - 1)
}

/// The lower half.
#[expect(clippy::cast_possible_truncation, reason = "the half")]
fn low(word: u64) -> u32 {
    word as u32
}

fn trie_key(network: &ipnet::IpNet) -> Key<[u64; 2]> {
    Key::new(mapped_prefix(network), Address::from(network.network()).words())
}

fn clear_hash<K: aya::Pod, V: aya::Pod>(map: &mut Map) -> Result<()> {
    let mut map: HashMap<_, K, V> = map.try_into()?;
    let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    Ok(())
}

fn clear_trie<V: aya::Pod>(map: &mut Map) -> Result<()> {
    let mut map: LpmTrie<_, [u64; 2], V> = map.try_into()?;
    let keys = map.keys().collect::<Result<Vec<_>, _>>()?;
    for key in keys {
        map.remove(&key)?;
    }
    Ok(())
}

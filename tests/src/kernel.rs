//! The real object in the real kernel, its maps filled as the controller fills them, run over a
//! packet by `BPF_PROG_TEST_RUN`. Attached to nothing.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Array, HashMap, Map, MapData, PerCpuArray, RingBuf};
use aya::programs::Xdp;
use aya::{Ebpf, EbpfLoader, TestRun as _, TestRunOptions};
use filter_common::abi::{
    BanEntry, Config, Counter, Event, INTERFACE_SLOT, PORTS_PER_BLOCK, PROGRAM, counter_index,
    maps, port_place,
};
use filter_common::address::Address;
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::BUCKETS;
use filter_common::packet;
use filter_user::datapath::OBJECT;
use nix::time::{ClockId, clock_gettime};

use crate::cases::{Who, World};
use crate::model::mapped_prefix;

/// What `XDP_DROP` and `XDP_PASS` are in the kernel's `enum xdp_action`.
const XDP_DROP: u32 = 1;
const XDP_PASS: u32 = 2;

/// Bytes of the first buffer of a test run: a page without what the kernel keeps before and behind
/// the packet (`XDP_PACKET_HEADROOM`, `struct skb_shared_info`). The rest of a longer frame comes
/// in more buffers.
pub const LINEAR_MAX: usize = 4096 - 256 - 320;

/// What has been counted, by reason: what happened, and what would have.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// What happened.
    pub done: BTreeMap<&'static str, Counter>,
    /// What would have happened if it were not a dry run.
    pub would: BTreeMap<&'static str, Counter>,
}

/// The loaded program and its maps.
#[derive(Debug)]
pub struct Kernel {
    ebpf: Ebpf,
    slot: u32,
    ports: BTreeSet<u32>,
    used_buckets: BTreeSet<u32>,
    seed: u64,
    /// Whether there is something in the maps of bans: to look through empty ones takes long.
    has_bans: bool,
}

impl Kernel {
    /// Loads the object for an interface's slot.
    ///
    /// # Errors
    ///
    /// When the kernel does not take it, with its reasons.
    pub fn load(slot: u32) -> Result<Self> {
        let mut ebpf = EbpfLoader::new()
            .override_global(INTERFACE_SLOT, &slot, true)
            .load(OBJECT)
            .context("load the maps")?;
        let program: &mut Xdp =
            ebpf.program_mut(PROGRAM).context("the object has no such program")?.try_into()?;
        program.load().context("load the program")?;
        Ok(Self {
            ebpf,
            slot,
            ports: BTreeSet::new(),
            used_buckets: BTreeSet::new(),
            seed: 0,
            has_bans: false,
        })
    }

    /// The program.
    ///
    /// # Errors
    ///
    /// When it is of another kind.
    pub fn program(&self) -> Result<&Xdp> {
        let program = self.ebpf.program(PROGRAM).context("the object has no such program")?;
        Ok(program.try_into()?)
    }

    /// Makes the maps say what `world` says at `now`, and nothing else but the counters.
    ///
    /// # Errors
    ///
    /// When a map cannot be written.
    pub fn enter(&mut self, world: &World, now: u64) -> Result<()> {
        self.seed = world.config().seed;
        self.set_config(world.config())?;
        self.set_ports(world)?;
        self.empty_buckets()?;
        self.set_bans(world, now)?;
        self.set_trusted(world)
    }

    fn set_config(&mut self, config: Config) -> Result<()> {
        let mut map: Array<&mut MapData, Config> = self.map_mut(maps::CONFIG)?.try_into()?;
        Ok(map.set(0, config, 0)?)
    }

    fn set_ports(&mut self, world: &World) -> Result<()> {
        let mut blocks: BTreeMap<_, _> =
            self.ports.iter().map(|block| (*block, [0u8; PORTS_PER_BLOCK])).collect();
        for (port, class) in world.ports() {
            let (block, byte) = port_place(port);
            blocks.entry(block).or_insert([0; PORTS_PER_BLOCK])[byte] |= class;
        }
        self.ports = blocks.keys().copied().collect();
        let mut map: Array<&mut MapData, [u8; PORTS_PER_BLOCK]> =
            self.map_mut(maps::PORTS)?.try_into()?;
        for (block, classes) in blocks {
            map.set(block, classes, 0)?;
        }
        Ok(())
    }

    /// Forgets that this source was seen.
    ///
    /// # Errors
    ///
    /// When the map cannot be written.
    pub fn forget_seen(&mut self, source: Address) -> Result<()> {
        let place = self.bucket(source);
        let mut map: Array<&mut MapData, u32> = self.map_mut(maps::SEEN)?.try_into()?;
        Ok(map.set(place, 0, 0)?)
    }

    /// Whether this source has been seen.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn seen(&self, source: Address) -> Result<bool> {
        let map: Array<&MapData, u32> = self.map(maps::SEEN)?.try_into()?;
        Ok(map.get(&self.bucket(source), 0)? != 0)
    }

    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    fn bucket(&self, source: Address) -> u32 {
        source.hash(self.seed) as u32 & (BUCKETS - 1)
    }

    fn empty_buckets(&mut self) -> Result<()> {
        let used = std::mem::take(&mut self.used_buckets);
        let mut map: Array<&mut MapData, u64> = self.map_mut(maps::REGISTER)?.try_into()?;
        for bucket in used {
            map.set(bucket, 0, 0)?;
        }
        Ok(())
    }

    fn set_bans(&mut self, world: &World, now: u64) -> Result<()> {
        if self.has_bans {
            clear_hash::<u32>(self.map_mut(maps::BANS_V4)?)?;
            clear_hash::<[u64; 2]>(self.map_mut(maps::BANS_V6)?)?;
            clear_trie::<BanEntry>(self.map_mut(maps::BAN_NETS)?)?;
        }
        self.has_bans = !world.bans.is_empty();
        for ban in &world.bans {
            let entry = ban.entry(now);
            match ban.who {
                Who::Address(address) => {
                    let address = Address::from(address);
                    if let Some(word) = address.v4_word() {
                        let map = self.map_mut(maps::BANS_V4)?;
                        HashMap::<_, u32, BanEntry>::try_from(map)?.insert(word, entry, 0)?;
                    } else {
                        let map = self.map_mut(maps::BANS_V6)?;
                        let mut map = HashMap::<_, [u64; 2], BanEntry>::try_from(map)?;
                        map.insert(address.words(), entry, 0)?;
                    }
                }
                Who::Network(network) => {
                    let map = self.map_mut(maps::BAN_NETS)?;
                    LpmTrie::try_from(map)?.insert(&trie_key(&network), entry, 0)?;
                }
            }
        }
        Ok(())
    }

    fn set_trusted(&mut self, world: &World) -> Result<()> {
        clear_trie::<u32>(self.map_mut(maps::TRUSTED)?)?;
        let mut map: LpmTrie<_, [u64; 2], u32> = self.map_mut(maps::TRUSTED)?.try_into()?;
        for network in &world.trusted {
            map.insert(&trie_key(network), 1, 0)?;
        }
        Ok(())
    }

    /// What becomes of a frame.
    ///
    /// # Errors
    ///
    /// When it cannot be run, or the program returned anything but pass and drop.
    pub fn run(&mut self, frame: &[u8]) -> Result<Verdict> {
        self.run_with(frame, TestRunOptions { data_in: Some(frame), ..TestRunOptions::new() })
    }

    /// As [`run`](Self::run), with no more than `linear` bytes of it in the first buffer.
    ///
    /// # Errors
    ///
    /// As there, and when the kernel [cannot](can_split).
    pub fn run_split(&mut self, frame: &[u8], linear: usize) -> Result<Verdict> {
        // `struct xdp_md`: data, data_end, data_meta, and three that are zero.
        let mut context = [0; 24];
        context[4..8].copy_from_slice(&u32::try_from(linear)?.to_ne_bytes());
        let options = TestRunOptions {
            data_in: Some(frame),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        self.run_with(frame, options)
    }

    fn run_with(&mut self, frame: &[u8], options: TestRunOptions<'_>) -> Result<Verdict> {
        if let Ok(headers) = packet::parse(&frame) {
            let hash = headers.source.hash(self.seed) & u64::from(BUCKETS - 1);
            self.used_buckets.insert(u32::try_from(hash)?);
        }
        let result = self.program()?.test_run(options)?;
        match result.return_value {
            XDP_DROP => Ok(Verdict::Drop),
            XDP_PASS => Ok(Verdict::Pass),
            other => bail!("the program returned {other}"),
        }
    }

    /// What has been counted for one reason, over all CPUs.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counter(&self, would: bool, reason: Reason) -> Result<Counter> {
        let map: PerCpuArray<_, Counter> = self.map(maps::COUNTERS)?.try_into()?;
        let mut sum = Counter::default();
        for cpu in map.get(&counter_index(self.slot, would, reason), 0)?.iter() {
            sum.packets += cpu.packets;
            sum.bytes += cpu.bytes;
        }
        Ok(sum)
    }

    /// What has been counted for all reasons.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counters(&self) -> Result<Counters> {
        let mut counters = Counters::default();
        for reason in Reason::ALL {
            counters.done.insert(reason.as_str(), self.counter(false, *reason)?);
            counters.would.insert(reason.as_str(), self.counter(true, *reason)?);
        }
        Ok(counters)
    }

    /// The sum of all there is in the map of counters, whichever slot it is for.
    ///
    /// # Errors
    ///
    /// When the map cannot be read.
    pub fn counted_anywhere(&self) -> Result<u64> {
        let map: PerCpuArray<_, Counter> = self.map(maps::COUNTERS)?.try_into()?;
        let mut sum = 0;
        for index in 0..map.len() {
            sum += map.get(&index, 0)?.iter().map(|cpu| cpu.packets).sum::<u64>();
        }
        Ok(sum)
    }

    /// Packets that bans say they have dropped.
    ///
    /// # Errors
    ///
    /// When a map cannot be read.
    pub fn ban_packets(&self) -> Result<u64> {
        if !self.has_bans {
            return Ok(0);
        }
        let v4: HashMap<_, u32, BanEntry> = self.map(maps::BANS_V4)?.try_into()?;
        let v6: HashMap<_, [u64; 2], BanEntry> = self.map(maps::BANS_V6)?.try_into()?;
        let networks: LpmTrie<_, [u64; 2], BanEntry> = self.map(maps::BAN_NETS)?.try_into()?;
        let mut sum = 0;
        for entry in &v4 {
            sum += entry?.1.packets;
        }
        for entry in &v6 {
            sum += entry?.1.packets;
        }
        for entry in &networks {
            sum += entry?.1.packets;
        }
        Ok(sum)
    }

    /// The events that nobody has read yet.
    ///
    /// # Errors
    ///
    /// When one is not what the ABI says.
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

/// Whether the kernel can be told where a test run's first buffer ends: since Linux 6.18.
///
/// # Errors
///
/// When it does not say which it is.
pub fn can_split() -> Result<bool> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Ok((major, minor) >= (6, 18)),
        _ => bail!("what is Linux {release:?}?"),
    }
}

/// Now, on the clock that the program reads.
///
/// # Errors
///
/// When the kernel has no such clock.
pub fn now() -> Result<u64> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    Ok(u64::try_from(now.tv_sec())? * 1_000_000_000 + u64::try_from(now.tv_nsec())?)
}

fn trie_key(network: &ipnet::IpNet) -> Key<[u64; 2]> {
    Key::new(mapped_prefix(network), Address::from(network.network()).words())
}

fn clear_hash<K: aya::Pod>(map: &mut Map) -> Result<()> {
    let mut map: HashMap<_, K, BanEntry> = map.try_into()?;
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

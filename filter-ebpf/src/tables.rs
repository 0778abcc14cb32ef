//! The maps, and the view of them that decides.

use core::ffi::c_void;
use core::ptr::addr_of;

use aya_ebpf::bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC, xdp_md};
use aya_ebpf::btf_maps::lpm_trie::Key;
use aya_ebpf::btf_maps::{Array, HashMap, LpmTrie, LruHashMap};
use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_loop};
use aya_ebpf::macros::btf_map;
use aya_ebpf::programs::XdpContext;
use filter_common::abi::{
    AWAITED, BanEntry, Beat, Buckets, CLASSES, Challenged, Config, Configs, Flooder, NONCES,
    NetworkEntry, PORT_BLOCKS, PORTS_PER_BLOCK, Peer, SHARED_BUCKETS, STREAM_BUCKETS, SharedBucket,
    Signature, Visitor, Visits, asked_key, port_place, visited_key, visitor_key,
};
use filter_common::address::Address;
use filter_common::ban_cache;
use filter_common::ban_table::{self, Line};
use filter_common::decision::Reason;
use filter_common::gate::{GEO_WORDS, KNOWN_WORDS, PRESENCE_WORDS, TRUST_WORDS};
use filter_common::greylist;
use filter_common::limits::{
    AGENT_WORDS, ASKED_ADDRESSES, BANNED_NETWORKS, BANNED_V6, CHALLENGED_ADDRESSES, CROWD_PLACES,
    FLOODERS as FLOODERS_MAX, GEO_NETWORKS, GREYLIST_LINES, KNOWN_PEERS, NEW_VISITOR_EVERY,
    NEW_VISITORS, PREFIX_LINES, RETRY_BUCKETS, RETRY_LINES, SEEN_PLACES,
    SIGNATURES as SIGNATURES_MAX, SOURCE_LINES, TRUSTED_NETWORKS, VISIT_REFRESH, VISITED_PORTS,
    VISITORS as VISITORS_MAX,
};
use filter_common::packet::{Headers, SPARE_BIT, Window};
use filter_common::policy::{BanSlot, Flood, NetworkSlot, PeerSlot, Tables};
use filter_common::rate::{Gcra, seen_unit, unit};
use filter_common::sip::{self, Agent, Fields};
use filter_common::wire::{self, Count, Message, Reading};

use crate::atomic::Word;
use crate::hints::{if_zero, masked};
use crate::interface::{INTERFACE_SLOT, LOOPBACK};
use crate::{counters, scratch, socket, streak};

#[btf_map]
static CONFIG: Array<Configs, 1> = Array::new();

#[btf_map]
static PORTS: Array<[u8; PORTS_PER_BLOCK], { PORT_BLOCKS as usize }> = Array::new();

// The controller chooses the number of lines when it loads the program.
#[btf_map]
static BANS_V4: Array<Line, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

// Not preallocated: an empty table costs little.
#[btf_map]
static BANS_V6: HashMap<
    [u64; 2],
    BanEntry,
    { BANNED_V6 as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

// The controller chooses the number of lines when it loads the program.
#[btf_map]
static BANS_V6_CACHE: Array<ban_cache::Line, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static BAN_NETS: LpmTrie<[u64; 2], NetworkEntry, { BANNED_NETWORKS as usize }> = LpmTrie::new();

#[btf_map]
static PRESENCE: Array<u64, { PRESENCE_WORDS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map]
static TRUSTED: LpmTrie<[u64; 2], u32, { TRUSTED_NETWORKS as usize }> = LpmTrie::new();

#[btf_map]
static TRUST_GATE: Array<u64, { TRUST_WORDS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static GEO_V4: Array<u64, { GEO_WORDS as usize }, { BPF_F_MMAPABLE as usize }> = Array::new();

#[btf_map]
static GEO_V6: LpmTrie<[u64; 2], u32, { GEO_NETWORKS as usize }> = LpmTrie::new();

#[btf_map]
static SOURCES: Array<Buckets, { SOURCE_LINES as usize }> = Array::new();

#[btf_map]
static PREFIXES: Array<Buckets, { PREFIX_LINES as usize }> = Array::new();

#[btf_map]
static SHARED: Array<SharedBucket, { SHARED_BUCKETS as usize }> = Array::new();

#[btf_map]
static STREAMS: Array<u64, { STREAM_BUCKETS as usize }> = Array::new();

#[btf_map]
pub(crate) static KNOWN: HashMap<
    [u64; 2],
    Peer,
    { KNOWN_PEERS as usize },
    { BPF_F_NO_PREALLOC as usize },
> = HashMap::new();

#[btf_map]
pub(crate) static KNOWN_GATE: Array<u64, { KNOWN_WORDS as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map]
pub(crate) static CROWDS: Array<u64, { CROWD_PLACES as usize }, { BPF_F_MMAPABLE as usize }> =
    Array::new();

#[btf_map]
static FLOODERS: LruHashMap<[u64; 2], Flooder, { FLOODERS_MAX as usize }> = LruHashMap::new();

#[btf_map]
static GREYLIST: Array<greylist::Line, { GREYLIST_LINES as usize }> = Array::new();

#[btf_map]
static SIGNATURES: LpmTrie<[u64; AGENT_WORDS], Signature, { SIGNATURES_MAX as usize }> =
    LpmTrie::new();

#[btf_map]
static SEEN: Array<u32, { SEEN_PLACES as usize }> = Array::new();

#[btf_map]
static GUARDS: Array<[u8; PORTS_PER_BLOCK], { PORT_BLOCKS as usize }> = Array::new();

#[btf_map]
pub(crate) static ASKED: LruHashMap<[u64; 3], u64, { ASKED_ADDRESSES as usize }> =
    LruHashMap::new();

#[btf_map]
pub(crate) static CHALLENGED: LruHashMap<[u64; 2], Challenged, { CHALLENGED_ADDRESSES as usize }> =
    LruHashMap::new();

#[btf_map]
static RETRIES: Array<greylist::Line, { RETRY_LINES as usize }> = Array::new();

#[btf_map]
static RETRY_RATE: Array<u64, { RETRY_BUCKETS as usize }> = Array::new();

#[btf_map]
static VISITED: HashMap<u32, Visits, { VISITED_PORTS as usize }> = HashMap::new();

#[btf_map]
static VISITORS: LruHashMap<[u64; 2], Visitor, { VISITORS_MAX as usize }> = LruHashMap::new();

#[btf_map]
static BEAT: Array<Beat, 1, { BPF_F_MMAPABLE as usize }> = Array::new();

/// The maps as [`Tables`].
pub(crate) struct KernelTables {
    /// The program's context; null in a stage without one, which does not read the packet.
    pub(crate) ctx: *mut xdp_md,
    /// The configuration that judges this packet.
    pub(crate) side: Side,
}

/// Which of the two configurations judges a packet: read once for each packet, and passed on to its
/// stages, so that a change in between has no effect on it.
#[derive(Clone, Copy)]
pub(crate) struct Side {
    index: u64,
    config: Looked,
}

/// Whether the configuration has been looked up in this function: another lookup would cost as much as reading a
/// packet's headers.
#[derive(Clone, Copy)]
enum Looked {
    Not,
    Up(Option<*const Config>),
}

impl Side {
    /// The current one, for a new packet.
    #[inline(always)]
    pub(crate) fn now() -> Self {
        let Some(all) = CONFIG.get_ptr(0) else {
            return Self { index: 0, config: Looked::Up(None) };
        };
        // SAFETY: an array's value lives as long as the map; an aligned word is read in one piece.
        let index = unsafe { (&raw const (*all).current).read_volatile() };
        Self { index, config: Looked::Up(Some(side_of(all, index))) }
    }

    /// The one that a stage was given.
    #[inline(always)]
    pub(crate) fn told(index: u64) -> Self {
        Self { index, config: Looked::Not }
    }

    /// The one in the last word of [`Words`].
    #[inline(always)]
    pub(crate) fn of_word(word: u64) -> Self {
        Self::told(word.wrapping_shr(SPARE_BIT))
    }

    /// The index as a number.
    #[inline(always)]
    pub(crate) fn word(self) -> u64 {
        self.index & 1
    }

    /// The last of [`Words`], with this index in it.
    #[inline(always)]
    pub(crate) fn in_word(self, word: u64) -> u64 {
        word & !(1 << SPARE_BIT) | self.word() << SPARE_BIT
    }

    /// The configuration, if there is a map.
    #[inline(always)]
    pub(crate) fn config<'a>(self) -> Option<&'a Config> {
        let config = match self.config {
            Looked::Not => side_of(CONFIG.get_ptr(0)?, self.index),
            Looked::Up(config) => config?,
        };
        // SAFETY: an array's value lives as long as the map, and the controller does not write a side that a
        // packet may use.
        Some(unsafe { &*config })
    }
}

/// The configuration with this index, of which the last bit counts.
#[inline(always)]
fn side_of(all: *const Configs, index: u64) -> *const Config {
    // SAFETY: the mask keeps the index inside.
    unsafe { (&raw const (*all).sides).cast::<Config>().add(masked::<1>(index as usize)) }
}

/// The current time, in nanoseconds of `CLOCK_MONOTONIC` with the precision of a tick of a few
/// milliseconds: enough for bans of seconds and limits of packets per second, at a twentieth of the cost
/// of the exact clock.
#[inline(always)]
pub(crate) fn now(config: &Config) -> u64 {
    // SAFETY: takes nothing.
    let jiffies = unsafe { bpf_jiffies64() };
    jiffies.wrapping_sub(config.jiffies_epoch).wrapping_mul(config.tick)
}

/// A line of the table of banned IPv4 addresses.
pub(crate) struct BanLine(*mut Line);

impl BanLine {
    #[inline(always)]
    fn word(&self, place: usize) -> *mut u64 {
        // The mask keeps it inside the line.
        self.0.cast::<u64>().wrapping_add(masked::<7>(place))
    }
}

impl ban_table::Shared for BanLine {
    #[inline(always)]
    fn fingerprints(&self) -> u64 {
        // SAFETY: an array's value lives as long as the map; an aligned word is read in one piece.
        unsafe { self.0.cast::<u64>().read_volatile() }
    }

    #[inline(always)]
    fn head(&self, word: usize) -> u64 {
        // SAFETY: as above.
        unsafe { self.word(word).read_volatile() }
    }

    /// Without a lock, which would cost 2 to 4 % of the packets in a flood from one banned source. If two
    /// CPUs drop packets of one source at the same moment, one may not be counted, or 256 may be counted
    /// twice. Only the slot's own byte is written.
    #[inline(always)]
    fn hit(&self, word: usize) -> bool {
        let place = masked::<7>(word.wrapping_sub(1));
        let byte =
            self.0.cast::<u8>().wrapping_add(8 * ban_table::PACKETS_WORD).wrapping_add(place);
        // SAFETY: as above, and inside the line's last word.
        let count = unsafe { byte.read_volatile() }.wrapping_add(1);
        // SAFETY: as above.
        unsafe { byte.write_volatile(count) };
        count == 0
    }

    #[inline(always)]
    fn carry(&self, word: usize) {
        // SAFETY: as above, and aligned to eight bytes.
        unsafe { Word::new(self.word(word)) }.add(ban_table::CARRY);
    }
}

/// A line of the cache of banned IPv6 addresses.
pub(crate) struct CacheLine(*mut ban_cache::Line);

impl ban_cache::Shared for CacheLine {
    #[inline(always)]
    fn word(&self, place: usize) -> u64 {
        // SAFETY: an array's value lives as long as the map; an aligned word is read in one piece, and the
        // place is a constant below 8.
        unsafe { self.0.cast::<u64>().add(place).read_volatile() }
    }

    #[inline(always)]
    fn after(&self, read: u64) -> Self {
        // Adds zero, which the processor learns only from the word that was read: Arm reads in any order
        // where no address depends on what was read before.
        Self(self.0.wrapping_byte_add(masked::<0>(read as usize)))
    }

    #[inline(always)]
    fn if_zero(word: u64) -> u64 {
        if_zero(word)
    }

    /// Without a lock, as [`BanLine::hit`](ban_table::Shared::hit).
    #[inline(always)]
    fn hit(&self, slot: usize) -> bool {
        let byte = self.0.cast::<u8>().wrapping_add(FIRST_COUNT).wrapping_add(masked::<3>(slot));
        // SAFETY: as above, and inside the line's last word.
        let count = unsafe { byte.read_volatile() }.wrapping_add(1);
        // SAFETY: as above.
        unsafe { byte.write_volatile(count) };
        count == 0
    }
}

/// The byte of a line of the cache that counts the packets of its first slot.
const FIRST_COUNT: usize = 8 * ban_cache::LAST_WORD + ban_cache::PACKETS_SHIFT as usize / 8;

/// A ban's value in the map of IPv6 addresses.
pub(crate) struct Ban(*mut BanEntry);

impl BanSlot for Ban {
    #[inline(always)]
    fn until(&self) -> u32 {
        // SAFETY: a lookup's result stays readable while the program runs (RCU), and the controller
        // replaces it as a whole.
        unsafe { (*self.0).until }
    }

    #[inline(always)]
    fn scopes(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (*self.0).scopes }
    }

    #[inline(always)]
    fn origin(&self) -> u8 {
        // SAFETY: as above.
        unsafe { (*self.0).origin }
    }

    #[inline(always)]
    fn hit(&self, packets: u64) {
        // SAFETY: as above.
        unsafe { count(&raw mut (*self.0).packets, packets) };
    }
}

/// Counts packets, without a lock as [`BanLine::hit`](ban_table::Shared::hit).
///
/// # Safety
///
/// `packets` is in a map's value.
#[inline(always)]
unsafe fn count(packets: *mut u64, more: u64) {
    // SAFETY: as the caller promises.
    unsafe { packets.write_volatile(packets.read_volatile().wrapping_add(more)) };
}

/// A network's value in the map of networks.
pub(crate) struct Network(*mut NetworkEntry);

impl NetworkSlot for Network {
    #[inline(always)]
    fn end(&self, bit: usize) -> u32 {
        // SAFETY: as above; the bit is a constant below 8.
        unsafe { addr_of!((*self.0).ends).cast::<u32>().add(bit).read() }
    }

    #[inline(always)]
    fn hit(&self) {
        // SAFETY: as above.
        unsafe { count(&raw mut (*self.0).packets, 1) };
    }
}

/// A peer's value in the map of known peers.
pub(crate) struct KnownPeer(*mut Peer);

impl PeerSlot for KnownPeer {
    type Bucket = Word;

    #[inline(always)]
    fn until(&self) -> u64 {
        // SAFETY: a lookup's result stays readable while the program runs (RCU).
        unsafe { (&raw const (*self.0).until).read_volatile() }
    }

    #[inline(always)]
    fn bucket(&self) -> Word {
        // SAFETY: as above; the field is aligned to eight bytes.
        unsafe { Word::new(&raw mut (*self.0).bucket) }
    }

    #[inline(always)]
    fn excess(&self) -> Word {
        // SAFETY: as above.
        unsafe { Word::new(&raw mut (*self.0).excess) }
    }

    #[inline(always)]
    fn blocked_until(&self) -> u64 {
        // SAFETY: as above.
        unsafe { (&raw const (*self.0).blocked_until).read_volatile() }
    }

    #[inline(always)]
    fn block(&self, until: u64) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).blocked_until).write_volatile(until) }
    }

    #[inline(always)]
    fn count(&self, passed: bool) {
        // SAFETY: as above.
        let counter =
            unsafe { if passed { &raw mut (*self.0).passed } else { &raw mut (*self.0).dropped } };
        // SAFETY: as above.
        unsafe { Word::new(counter) }.add(1);
    }
}

/// A line of the greylist.
pub(crate) struct Cells(*mut greylist::Line);

impl greylist::Cells for Cells {
    #[inline(always)]
    fn load(&self, cell: usize) -> u32 {
        // SAFETY: an array's value lives as long as the map; the mask keeps it inside.
        unsafe { self.0.cast::<u32>().add(masked::<{ greylist::CELLS - 1 }>(cell)).read_volatile() }
    }

    #[inline(always)]
    #[expect(clippy::cast_ptr_alignment, reason = "the kernel aligns values to eight bytes")]
    fn pair(&self, pair: usize) -> u64 {
        // SAFETY: as above; the place is a constant below 8.
        unsafe { self.0.cast::<u64>().add(pair).read_volatile() }
    }

    #[inline(always)]
    fn store(&self, cell: usize, value: u32) {
        // SAFETY: as above.
        unsafe {
            self.0.cast::<u32>().add(masked::<{ greylist::CELLS - 1 }>(cell)).write_volatile(value);
        }
    }
}

/// An address to which a challenge was sent.
pub(crate) struct Record(*mut Challenged);

impl Record {
    #[inline(always)]
    pub(crate) fn value(&self) -> *const Challenged {
        self.0
    }

    /// Puts a value where the next one goes.
    ///
    /// # Safety
    ///
    /// `values` and `next` are fields of the record, and there are `SIZE` values.
    #[inline(always)]
    unsafe fn add<const LAST: usize>(values: *mut u32, next: *mut u32, value: u32) {
        // SAFETY: the mask keeps it among the values; aligned words are written in one access. CPUs may
        // write the same place; then one of two values is lost.
        unsafe {
            let place = next.read_volatile();
            next.write_volatile(place.wrapping_add(1));
            values.add(masked::<LAST>(place as usize)).write_volatile(value);
        }
    }
}

impl wire::Record for Record {
    type Bucket = Word;

    #[inline(always)]
    fn nonce(&self, place: usize) -> u32 {
        // SAFETY: a lookup's result stays readable while the program runs (RCU); masked.
        unsafe {
            let nonces = (&raw const (*self.0).nonces).cast::<u32>();
            nonces.add(masked::<{ NONCES - 1 }>(place)).read_volatile()
        }
    }

    #[inline(always)]
    fn add_nonce(&self, nonce: u32) {
        // SAFETY: fields of the record.
        unsafe {
            let nonces = (&raw mut (*self.0).nonces).cast();
            Self::add::<{ NONCES - 1 }>(nonces, &raw mut (*self.0).next_nonce, nonce);
        }
    }

    #[inline(always)]
    fn awaited(&self, place: usize) -> u32 {
        // SAFETY: as for `nonce`.
        unsafe {
            let awaited = (&raw const (*self.0).awaited).cast::<u32>();
            awaited.add(masked::<{ AWAITED - 1 }>(place)).read_volatile()
        }
    }

    #[inline(always)]
    fn set_awaited(&self, place: usize, request: u32) {
        // SAFETY: as for `nonce`.
        unsafe {
            let awaited = (&raw mut (*self.0).awaited).cast::<u32>();
            awaited.add(masked::<{ AWAITED - 1 }>(place)).write_volatile(request);
        }
    }

    #[inline(always)]
    fn add_awaited(&self, request: u32) {
        // SAFETY: fields of the record.
        unsafe {
            let awaited = (&raw mut (*self.0).awaited).cast();
            Self::add::<{ AWAITED - 1 }>(awaited, &raw mut (*self.0).next_awaited, request);
        }
    }

    #[inline(always)]
    fn last(&self) -> u32 {
        // SAFETY: a lookup's result stays readable while the program runs (RCU).
        unsafe { (&raw const (*self.0).last).read_volatile() }
    }

    #[inline(always)]
    fn set_last(&self, request: u32) {
        // SAFETY: as above.
        unsafe { (&raw mut (*self.0).last).write_volatile(request) }
    }

    #[inline(always)]
    fn prove(&self, now: u64) {
        // SAFETY: as above; aligned.
        unsafe { (&raw mut (*self.0).proven_at).write_volatile(now) }
    }

    #[inline(always)]
    fn establish(&self, now: u64) {
        // SAFETY: as above.
        unsafe {
            let established = &raw mut (*self.0).established;
            if established.read_volatile() == 0 {
                established.write_volatile(unit(now));
            }
        }
    }

    #[inline(always)]
    fn count(&self, count: Count) {
        // SAFETY: as above. CPUs that count at once may lose a count.
        unsafe {
            let count = match count {
                Count::Challenges => &raw mut (*self.0).challenges,
                Count::Answered => &raw mut (*self.0).answered,
                Count::Refused => &raw mut (*self.0).refused,
                Count::Accepted => &raw mut (*self.0).accepted,
            };
            count.write_volatile(count.read_volatile().wrapping_add(1));
        }
    }

    #[inline(always)]
    fn bucket(&self) -> Word {
        // SAFETY: as above; aligned to eight bytes.
        unsafe { Word::new(&raw mut (*self.0).bucket) }
    }

    #[inline(always)]
    fn searches(&self) -> Word {
        // SAFETY: as above; aligned to eight bytes.
        unsafe { Word::new(&raw mut (*self.0).searches) }
    }
}

/// A bucket of a line of buckets.
///
/// # Safety
///
/// `line` is an array's value.
#[inline(always)]
unsafe fn bucket(line: *mut Buckets, place: usize) -> Word {
    // SAFETY: the mask keeps it inside the line, which lives as long as its map and is aligned.
    unsafe { Word::new(line.cast::<u64>().add(masked::<{ CLASSES - 1 }>(place))) }
}

/// The limit of new networks that use a port.
const NEW_NETWORKS: Gcra =
    Gcra { interval: NEW_VISITOR_EVERY, tolerance: NEW_VISITOR_EVERY * (NEW_VISITORS - 1) };

/// One of a pair of words.
///
/// # Safety
///
/// `pair` is in a map's value.
#[inline(always)]
unsafe fn of_pair(pair: *mut [u64; 2], place: usize) -> *mut u64 {
    // SAFETY: the mask keeps it inside.
    unsafe { pair.cast::<u64>().add(masked::<1>(place)) }
}

impl Tables for KernelTables {
    type Line<'a>
        = BanLine
    where
        Self: 'a;
    type CacheLine<'a>
        = CacheLine
    where
        Self: 'a;
    type Ban<'a>
        = Ban
    where
        Self: 'a;
    type Network<'a>
        = Network
    where
        Self: 'a;
    type Bucket<'a>
        = Word
    where
        Self: 'a;
    type Peer<'a>
        = KnownPeer
    where
        Self: 'a;
    type Cells<'a>
        = Cells
    where
        Self: 'a;
    type Challenged<'a>
        = Record
    where
        Self: 'a;

    #[inline(always)]
    fn config(&self) -> Option<&Config> {
        self.side.config()
    }

    #[inline(always)]
    fn now(&self, config: &Config) -> u64 {
        now(config)
    }

    #[inline(always)]
    fn attended_until(&self) -> u64 {
        let Some(beat) = BEAT.get_ptr(0) else {
            return 0;
        };
        // SAFETY: an array's value lives as long as the map; an aligned word is read in one piece.
        unsafe { (&raw const (*beat).until).read_volatile() }
    }

    #[inline(always)]
    fn presence(&self, word: u32) -> u64 {
        PRESENCE.get(word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn ban_line(&self, line: u32) -> Option<BanLine> {
        BANS_V4.get_ptr_mut(line).map(BanLine)
    }

    #[inline(always)]
    fn expects(&self) -> Flood {
        streak::flood(self.ctx)
    }

    #[inline(always)]
    fn note(&self, flood: Flood) {
        streak::note(self.ctx, flood);
    }

    #[inline(always)]
    fn cache_line(&self, line: u32) -> Option<CacheLine> {
        BANS_V6_CACHE.get_ptr_mut(line).map(CacheLine)
    }

    #[inline(always)]
    fn ban_v6(&self, source: Address) -> Option<Ban> {
        BANS_V6.get_ptr_mut(source.words()).map(Ban)
    }

    #[inline(always)]
    fn network(&self, source: Address) -> Option<Network> {
        let entry = BAN_NETS.get(&Key::new(128, source.words()))?;
        Some(Network(core::ptr::from_ref(entry).cast_mut()))
    }

    #[inline(always)]
    fn trust_gate(&self, word: u32) -> u64 {
        TRUST_GATE.get(word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn is_loopback(&self) -> bool {
        LOOPBACK.load() != 0
    }

    #[inline(always)]
    fn trusted(&self, source: Address) -> bool {
        let slot = INTERFACE_SLOT.load() & 31;
        TRUSTED
            .get(&Key::new(128, source.words()))
            .is_some_and(|slots| slots.wrapping_shr(slot) & 1 != 0)
    }

    #[inline(always)]
    fn port_classes(&self, tcp: bool, port: u16) -> u8 {
        let (block, byte) = port_place(tcp, port);
        PORTS.get(block).and_then(|block| block.get(byte)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn guards(&self, tcp: bool, port: u16) -> u8 {
        let (block, byte) = port_place(tcp, port);
        GUARDS.get(block).and_then(|block| block.get(byte)).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn asked(&self, other: Address, port: u16) -> Option<u64> {
        // SAFETY: an aligned word is read in one access; if the place has been reused meanwhile, the time
        // is that of another entry.
        unsafe { ASKED.get(asked_key(other, port)) }.copied()
    }

    #[inline(always)]
    fn visited(&self, source: Address, tcp: bool, port: u16, now: u64) {
        let port = visited_key(tcp, port);
        let Some(visits) = VISITED.get_ptr_mut(port) else {
            return;
        };
        let kind = usize::from(!source.is_private());
        // SAFETY: a lookup's result stays readable while the program runs (RCU). The time is written only if it changes, so that CPUs do not compete for the
        // cache line in a flood.
        unsafe {
            let last = of_pair(&raw mut (*visits).last, kind);
            if last.read_volatile() != now {
                last.write_volatile(now);
            }
        }
        let key = visitor_key(source, port);
        if let Some(visitor) = VISITORS.get_ptr_mut(key) {
            // SAFETY: as above.
            unsafe {
                let last = &raw mut (*visitor).last;
                if now.wrapping_sub(last.read_volatile()) > VISIT_REFRESH {
                    last.write_volatile(now);
                }
            }
            return;
        }
        // SAFETY: as above.
        let bucket = unsafe { Word::new(&raw mut (*visits).bucket) };
        let is_entered = NEW_NETWORKS.take(&bucket, now)
            && VISITORS.insert(key, Visitor { first: now, last: now }, 0).is_ok();
        // SAFETY: as above; each field is aligned to eight bytes.
        let counter = unsafe {
            let pair =
                if is_entered { &raw mut (*visits).networks } else { &raw mut (*visits).missed };
            Word::new(of_pair(pair, kind))
        };
        counter.add(1);
    }

    #[inline(always)]
    fn source_bucket(&self, line: u32, place: usize) -> Option<Word> {
        let line = SOURCES.get_ptr_mut(line)?;
        // SAFETY: it is one.
        Some(unsafe { bucket(line, place) })
    }

    #[inline(always)]
    fn prefix_bucket(&self, line: u32, place: usize) -> Option<Word> {
        let line = PREFIXES.get_ptr_mut(line)?;
        // SAFETY: it is one.
        Some(unsafe { bucket(line, place) })
    }

    #[inline(always)]
    fn stream_bucket(&self, place: u32) -> Option<Word> {
        let bucket = STREAMS.get_ptr_mut(place)?;
        // SAFETY: an array's value lives as long as the map and is aligned to eight bytes.
        Some(unsafe { Word::new(bucket) })
    }

    #[inline(always)]
    fn shared_bucket(&self, place: usize) -> Option<Word> {
        let shared = SHARED.get_ptr_mut(place as u32)?;
        // SAFETY: an array's value lives as long as the map and is aligned to eight bytes.
        Some(unsafe { Word::new(&raw mut (*shared).bucket) })
    }

    #[inline(always)]
    fn geo_v4(&self, word: u32) -> u64 {
        GEO_V4.get(word).copied().unwrap_or(0)
    }

    #[inline(always)]
    fn geo_v6(&self, source: Address) -> bool {
        GEO_V6.get(&Key::new(128, source.words())).is_some_and(|shut| *shut != 0)
    }

    #[inline(always)]
    fn would_drop(&self, reason: Reason) {
        counters::count(reason.into(), true, 0);
    }

    #[inline(always)]
    fn known_gate(&self, word: u32) -> u64 {
        KNOWN_GATE.get(word).copied().unwrap_or(u64::MAX)
    }

    #[inline(always)]
    fn peer(&self, source: Address) -> Option<KnownPeer> {
        KNOWN.get_ptr_mut(source.words()).map(KnownPeer)
    }

    #[inline(always)]
    fn flooder(&self, source: Address, now: u64) -> bool {
        let Some(flooder) = FLOODERS.get_ptr_mut(source.words()) else {
            return false;
        };
        // SAFETY: a lookup's result stays readable while the program runs (RCU).
        let banned = now < unsafe { (*flooder).until };
        if banned {
            // SAFETY: as above; the field is aligned to eight bytes.
            unsafe { Word::new(&raw mut (*flooder).packets) }.add(1);
        }
        banned
    }

    #[inline(always)]
    fn block(&self, source: Address, until: u64) {
        let _full = FLOODERS.insert(source.words(), Flooder { until, packets: 1 }, 0);
    }

    #[inline(always)]
    fn connected(&self, headers: &Headers) -> bool {
        socket::connected(&XdpContext::new(self.ctx), headers)
    }

    #[inline(always)]
    fn cells(&self, line: u32) -> Option<Cells> {
        GREYLIST.get_ptr_mut(line).map(Cells)
    }

    #[inline(always)]
    fn challenged(&self, source: Address) -> Option<Record> {
        CHALLENGED.get_ptr_mut(source.words()).map(Record)
    }

    #[inline(always)]
    fn retries(&self, line: u32) -> Option<Cells> {
        RETRIES.get_ptr_mut(line).map(Cells)
    }

    #[inline(always)]
    fn retry_bucket(&self, place: u32) -> Option<Word> {
        let bucket = RETRY_RATE.get_ptr_mut(place)?;
        // SAFETY: an array's value lives as long as the map and is aligned to eight bytes.
        Some(unsafe { Word::new(bucket) })
    }

    #[inline(always)]
    fn read_message(&self, bytes: usize, seed: u64) -> Message {
        let (Some(window), Some(reading)) = (scratch::window(), scratch::message()) else {
            return Message::default();
        };
        // In a map for the reason in `egress::KernelPeers::read_all`. SAFETY: this CPU's own memory; no
        // other packet is handled meanwhile.
        let reading = unsafe { &mut *reading };
        *reading = Reading::begin(seed);
        let mut context = ReadMessage { window, reading };
        let step: unsafe extern "C" fn(u64, *mut ReadMessage) -> i64 = message_step;
        // SAFETY: the callback has the signature that `bpf_loop` requires, and `context` outlives the
        // call.
        unsafe {
            bpf_loop(bytes as u32, step as *mut c_void, (&raw mut context).cast(), 0);
        }
        reading.message()
    }

    #[inline(always)]
    fn signature(&self, agent: &Agent) -> bool {
        let Some(entry) = SIGNATURES.get(&Key::new(size_of::<Agent>() as u32 * 8, *agent)) else {
            return false;
        };
        // SAFETY: a lookup's result stays readable while the program runs (RCU); aligned.
        unsafe { Word::new((&raw const entry.packets).cast_mut()) }.add(1);
        true
    }

    #[inline(always)]
    fn saw(&self, hash: u64, now: u64) {
        let unit = seen_unit(now);
        if let Some(seen) = SEEN.get_ptr_mut(hash as u32 & (SEEN_PLACES - 1)) {
            // SAFETY: an aligned word is read and written in one access. It is written only if it
            // changes, so that CPUs do not compete for the cache line with each packet.
            unsafe {
                if seen.read_volatile() != unit {
                    seen.write_volatile(unit);
                }
            }
        }
    }

    #[inline(always)]
    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        let window = scratch::window()?;
        // SAFETY: this CPU's own memory; no other XDP program interrupts this one on its CPU.
        Some(fill(unsafe { &mut *window }))
    }

    #[inline(always)]
    fn search_steps(&self, steps: usize) -> Fields {
        let Some(window) = scratch::window() else {
            return Fields::default();
        };
        let mut search = Search { window, fields: Fields::default() };
        let step: unsafe extern "C" fn(u64, *mut Search) -> i64 = search_step;
        // SAFETY: the callback has the signature that `bpf_loop` requires, and `search` outlives the
        // call.
        unsafe {
            bpf_loop(steps as u32, step as *mut c_void, (&raw mut search).cast(), 0);
        }
        search.fields
    }

    #[inline(always)]
    fn agent(&self, at: u64) -> Option<Agent> {
        // SAFETY: this CPU's own memory, which nothing writes now.
        scratch::window().map(|window| sip::agent(unsafe { &*window }, at as usize))
    }
}

/// The context of [`message_step`].
#[repr(C)]
struct ReadMessage {
    window: *const Window,
    reading: *mut Reading,
}

/// One byte of a message, called by `bpf_loop`. Returns whether to stop.
#[inline(never)]
unsafe extern "C" fn message_step(at: u64, message: *mut ReadMessage) -> i64 {
    // SAFETY: `KernelTables::read_message` passed both, which are this CPU's own.
    let (window, reading) = unsafe { (&*(*message).window, &mut *(*message).reading) };
    i64::from(wire::read(window, at as usize, reading))
}

/// The context of [`search_step`].
#[repr(C)]
struct Search {
    window: *const Window,
    fields: Fields,
}

/// One step, called by `bpf_loop` (Linux 5.17). Returns whether to stop.
#[inline(never)]
unsafe extern "C" fn search_step(step: u64, search: *mut Search) -> i64 {
    // SAFETY: `KernelTables::search` passed both, and its window is this CPU's own.
    let (window, fields) = unsafe { (&*(*search).window, &mut (*search).fields) };
    i64::from(sip::search(window, step as usize, fields))
}

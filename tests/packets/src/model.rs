//! The tables on the host: plain memory in place of the BPF maps, filled by the same writers.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use filter_common::abi::{
    AWAITED, BanEntry, Buckets, Challenged, Config, Flooder, NONCES, NetworkEntry, ORIGIN_OWN,
    Peer, SHARED_BUCKETS, STREAM_BUCKETS, Signature, visited_key, visitor_key,
};
use filter_common::address::Address;
use filter_common::ban_cache;
use filter_common::ban_table::{self, lines_for};
use filter_common::decision::Reason;
use filter_common::gate::{GEO_WORDS, PRESENCE_WORDS};
use filter_common::greylist::{self, CELLS};
use filter_common::limits::{
    GREYLIST_LINES, PREFIX_LINES, RETRY_BUCKETS, RETRY_LINES, SOURCE_LINES, WINDOW_WORDS,
};
use filter_common::packet::{self, Headers, Layer4, Packet, Window};
use filter_common::policy::{self, BanSlot, Decision, Flood, NetworkSlot, PeerSlot, Tables};
use filter_common::rate::{Bucket, unit};
use filter_common::sip::{self, Agent, Fields};
use filter_common::wire::{self, Count, Message, Reading, Record};
use ipnet::IpNet;
use tables::ban_cache::{BanCache, memory as ban_cache_memory};
use tables::ban_table::{BanTable, memory};
use tables::gates::{self, Presence};

use crate::cases::{BANS, BANS_V6, Who, World};
use crate::packet_builder::{SOURCE_PORT, TARGET_V4, TARGET_V6};

pub mod live;

/// The counts in the entries of a [`World`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Packets that matched bans.
    pub bans: u64,
    /// Packets of known peers that passed.
    pub peers_passed: u64,
    /// Packets of known peers that were dropped.
    pub peers_dropped: u64,
    /// Packets of sources that the program has banned.
    pub flooders: u64,
    /// Packets with a User-Agent of the signatures.
    pub signatures: u64,
    /// Networks that use ports whose users are recorded.
    pub uses: u64,
}

/// The gates of a [`World`].
#[derive(Clone)]
pub struct Gates {
    /// The words of the gate of bans.
    pub presence: Arc<[AtomicU64]>,
    /// The words of the gate of trust.
    pub trust: Arc<[u64]>,
    /// The words of the gate of known peers.
    pub known: Arc<[u64]>,
}

impl fmt::Debug for Gates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gates").finish_non_exhaustive()
    }
}

thread_local! {
    /// The gates of a world without bans, trust and peers: four megabytes that most rows share.
    static CLOSED: Gates = Gates {
        presence: gates::words(PRESENCE_WORDS).into(),
        trust: gates::trust(&[], World::SEED).into(),
        known: gates::known(std::iter::empty(), World::SEED).into(),
    };
    /// The last gate of bans, and its world: rows of the same world follow each other.
    static LAST: RefCell<Option<(String, Arc<[AtomicU64]>)>> = const { RefCell::new(None) };
}

/// The gate of bans of a world.
fn presence(world: &World) -> Arc<[AtomicU64]> {
    let banned: Vec<_> = world.entered().collect();
    let key = format!("{banned:?}");
    LAST.with_borrow_mut(|last| {
        if let Some((of, gate)) = last
            && *of == key
        {
            return Arc::clone(gate);
        }
        let gate: Arc<[AtomicU64]> = gates::words(PRESENCE_WORDS).into();
        let presence = Presence::new(Arc::clone(&gate), World::SEED);
        for who in banned {
            match who {
                Who::Address(address) => presence.add_address(address),
                Who::Network(network) => presence.add_network(network),
            }
        }
        *last = Some((key, Arc::clone(&gate)));
        gate
    })
}

impl Gates {
    /// The gates of a world.
    pub fn of(world: &World) -> Self {
        let mut gates = CLOSED.with(Clone::clone);
        if world.entered().next().is_some() {
            gates.presence = presence(world);
        }
        if !world.trusted.is_empty() {
            gates.trust = gates::trust(&world.trusted, World::SEED).into();
        }
        if !world.peers.is_empty() {
            let peers = world.peers.iter().map(|(address, _)| Address::from(*address));
            gates.known = gates::known(peers, World::SEED).into();
        }
        gates
    }

    /// The words of each gate that differ from those of `before`, with their places: bans, trust, known peers.
    pub fn changes(&self, before: &Self) -> [Vec<(usize, u64)>; 3] {
        let load = |word: &AtomicU64| word.load(Ordering::Relaxed);
        [
            changes(&before.presence, &self.presence, load),
            changes(&before.trust, &self.trust, |word| *word),
            changes(&before.known, &self.known, |word| *word),
        ]
    }
}

/// The words of `new` that `old` does not have, with their places.
fn changes<T>(old: &Arc<[T]>, new: &Arc<[T]>, load: impl Fn(&T) -> u64) -> Vec<(usize, u64)> {
    if Arc::ptr_eq(old, new) {
        return Vec::new();
    }
    let words = (0..).zip(old.iter().zip(&**new));
    let words = words.map(|(place, (old, new))| (place, load(old), load(new)));
    words.filter(|(_, old, new)| old != new).map(|(place, _, new)| (place, new)).collect()
}

/// The table of the banned IPv4 addresses of a world at `now`.
///
/// # Panics
///
/// If the world has more of them than [`BANS`].
pub fn ban_lines(world: &World, now: u64) -> Arc<[AtomicU64]> {
    let lines: Arc<[AtomicU64]> = memory(lines_for(BANS)).into();
    let capacity = usize::try_from(BANS).expect("a small number");
    let mut table = BanTable::new(Arc::clone(&lines), World::SEED, capacity);
    for slot in world.slots(now) {
        table.insert(slot).expect("the table is large enough");
    }
    lines
}

/// The cache of the banned IPv6 addresses of a world at `now`.
pub fn cache_lines(world: &World, now: u64) -> Arc<[AtomicU64]> {
    let lines: Arc<[AtomicU64]> = ban_cache_memory(ban_cache::lines_for(BANS_V6)).into();
    let cache = BanCache::new(Arc::clone(&lines), World::SEED);
    for (address, ban) in world.v6_bans(now).filter(|(_, ban)| ban.origin != ORIGIN_OWN) {
        cache.insert(address, ban.scopes, ban.until);
    }
    lines
}

/// What the cache of banned IPv6 addresses may be, as the map is the truth.
#[derive(Clone, Copy, Debug)]
pub enum CacheAge {
    /// Each ban that has room is there.
    New,
    /// No ban is there.
    Empty,
    /// The bans are there with fewer scopes.
    Weaker,
    /// The bans are there, and end now.
    Earlier,
    /// The controller does not know it.
    Unused,
}

/// A [`World`] at a time that can be advanced.
#[derive(Debug)]
pub struct Model {
    config: Config,
    now: Cell<u64>,
    attended_until: u64,
    gates: Gates,
    bans_v4: Arc<[AtomicU64]>,
    bans_v6: HashMap<Address, Cell<BanEntry>>,
    cache: Arc<[AtomicU64]>,
    networks: Vec<(IpNet, Cell<NetworkEntry>)>,
    ports: HashMap<(bool, u16), u8>,
    guards: HashMap<(bool, u16), u8>,
    visitors: RefCell<HashSet<[u64; 2]>>,
    asked: HashMap<(Address, u16), u64>,
    trusted: Vec<IpNet>,
    sources: Lines,
    prefixes: Lines,
    streams: RefCell<HashMap<u32, u64>>,
    shared: [Cell<u64>; SHARED_BUCKETS as usize],
    peers: HashMap<Address, Cell<Peer>>,
    flooders: RefCell<HashMap<Address, Flooder>>,
    connected: Vec<Address>,
    /// The connection of the current packet, as it claims.
    ends: Cell<Option<Ends>>,
    greylist: RefCell<HashMap<u32, greylist::Line>>,
    challenged: HashMap<Address, Cell<Challenged>>,
    retries: RefCell<HashMap<u32, greylist::Line>>,
    retry_rate: RefCell<HashMap<u32, u64>>,
    signatures: Vec<(Agent, u32, Cell<Signature>)>,
    shut_v4: HashMap<u32, u64>,
    shut_v6: Vec<(IpNet, bool)>,
    /// Packets that a dry run of only some reasons lets pass.
    watched: Cell<u64>,
    seen: Cell<Option<(u64, u64)>>,
    window: RefCell<Window>,
    flood: Cell<Flood>,
    noted: Cell<Option<Flood>>,
    asked_bans_v6: Cell<u32>,
}

/// Ports and destination of a segment.
type Ends = ([u8; 4], [u8; 16]);

/// The lines of buckets that are not empty.
type Lines = RefCell<HashMap<u32, Buckets>>;

impl Model {
    /// `world` at `now`.
    pub fn new(world: &World, now: u64) -> Self {
        Self::with_gates(world, now, Gates::of(world))
    }

    /// The same as [`new`](Self::new), with gates that the caller has already built.
    pub fn with_gates(world: &World, now: u64, gates: Gates) -> Self {
        let mut ports = HashMap::new();
        for (tcp, port, class) in world.port_classes() {
            *ports.entry((tcp, port)).or_default() |= class;
        }
        let known = |(address, ends): &(_, crate::cases::Ends)| {
            let peer = Peer { until: ends.time(now), ..Peer::default() };
            (Address::from(*address), Cell::new(peer))
        };
        let flooder = |(address, ends): &(_, crate::cases::Ends)| {
            (Address::from(*address).network64(), Flooder { until: ends.time(now), packets: 0 })
        };
        let asked = |(address, port, when): &(_, u16, crate::cases::Ends)| {
            ((Address::from(*address), *port), when.time(now))
        };
        let networks = world.networks(now).into_iter();
        let signatures = world.signature_keys();
        Self {
            config: world.config(now),
            now: Cell::new(now),
            attended_until: world.attended.time(now),
            gates,
            bans_v4: ban_lines(world, now),
            cache: cache_lines(world, now),
            bans_v6: world.v6_bans(now).map(|(source, ban)| (source, Cell::new(ban))).collect(),
            networks: networks.map(|(network, entry)| (network, Cell::new(entry))).collect(),
            ports,
            guards: world.guards.iter().map(|(tcp, port, open)| ((*tcp, *port), *open)).collect(),
            visitors: RefCell::default(),
            asked: world.asked.iter().map(asked).collect(),
            trusted: world.trusted.clone(),
            sources: Lines::default(),
            prefixes: Lines::default(),
            streams: RefCell::default(),
            shared: Default::default(),
            peers: world.peers.iter().map(known).collect(),
            flooders: RefCell::new(world.flooders.iter().map(flooder).collect()),
            connected: world.connected.iter().map(|source| Address::from(*source)).collect(),
            ends: Cell::default(),
            greylist: RefCell::default(),
            challenged: world.challenges().map(|(of, record)| (of, Cell::new(record))).collect(),
            retries: RefCell::default(),
            retry_rate: RefCell::default(),
            signatures: signatures.map(|(agent, bits)| (agent, bits, Cell::default())).collect(),
            shut_v4: world.shut_v4(),
            shut_v6: world.shut_v6().collect(),
            watched: Cell::new(0),
            seen: Cell::default(),
            // As in the kernel, it may contain anything.
            window: RefCell::new([u64::from_le_bytes(*b"\nAuthori"); WINDOW_WORDS]),
            flood: Cell::default(),
            noted: Cell::default(),
            asked_bans_v6: Cell::new(0),
        }
    }

    /// Decides about a packet.
    pub fn decide(&self, packet: &impl Packet) -> Decision {
        self.seen.set(None);
        self.noted.set(None);
        self.asked_bans_v6.set(0);
        self.ends.set(packet::parse(packet).ok().and_then(|headers| ends(packet, &headers)));
        policy::decide(packet, self)
    }

    /// The flood for whose packet it takes each one, which must not matter.
    pub fn expect(&self, flood: Flood) {
        self.flood.set(flood);
    }

    /// The flood of which the last packet may be, if this was noted.
    pub fn noted(&self) -> Option<Flood> {
        self.noted.get()
    }

    /// How often the last packet needed the map of banned IPv6 addresses.
    pub fn asked_bans_v6(&self) -> u32 {
        self.asked_bans_v6.get()
    }

    /// Makes the cache of banned IPv6 addresses another one that may be there, which must not matter.
    pub fn age_cache(&mut self, age: CacheAge) {
        let cache = BanCache::new(&self.cache, World::SEED);
        for (address, ban) in &self.bans_v6 {
            let BanEntry { scopes, until, .. } = ban.get();
            match age {
                CacheAge::Empty => _ = cache.remove(*address),
                CacheAge::Weaker if cache.contains(*address) => {
                    cache.remove(*address);
                    cache.insert(*address, scopes & scopes.wrapping_sub(1), until);
                }
                CacheAge::Earlier if cache.contains(*address) => {
                    cache.remove(*address);
                    cache.insert(*address, scopes, until.min(unit(self.now.get())));
                }
                CacheAge::New | CacheAge::Weaker | CacheAge::Earlier => {}
                CacheAge::Unused => self.config.cache_lines = 0,
            }
        }
    }

    /// Advances the time by this many nanoseconds.
    pub fn wait(&self, time: u64) {
        self.now.set(self.now.get() + time);
    }

    /// The packets that it has counted as ones that a dry run of only some reasons lets pass.
    pub fn watched(&self) -> u64 {
        self.watched.get()
    }

    /// What it knows about an address to which the host has sent a challenge.
    pub fn record(&self, address: IpAddr) -> Option<Challenged> {
        self.challenged.get(&address.into()).map(Cell::get)
    }

    /// The hash of the source that the last packet has shown to exist, and when.
    pub fn seen(&self) -> Option<(u64, u64)> {
        self.seen.get()
    }

    /// The counts in its entries.
    pub fn tally(&self) -> Tally {
        let capacity = usize::try_from(BANS).unwrap_or(usize::MAX);
        let table = BanTable::new(&self.bans_v4, World::SEED, capacity);
        let v4: u64 = table.iter().map(|slot| slot.packets).sum();
        let v6: u64 = self.bans_v6.values().map(|ban| ban.get().packets).sum();
        let cache = BanCache::new(&self.cache, World::SEED);
        let cached: u64 = self.bans_v6.keys().map(|address| cache.packets(*address)).sum();
        let networks: u64 = self.networks.iter().map(|(_, entry)| entry.get().packets).sum();
        let signatures = self.signatures.iter().map(|(_, _, signature)| signature.get().packets);
        Tally {
            bans: v4 + v6 + cached + networks,
            peers_passed: self.peers.values().map(|peer| peer.get().passed).sum(),
            peers_dropped: self.peers.values().map(|peer| peer.get().dropped).sum(),
            flooders: self.flooders.borrow().values().map(|flooder| flooder.packets).sum(),
            signatures: signatures.sum(),
            uses: self.visitors.borrow().len() as u64,
        }
    }
}

/// A line of the table of banned IPv4 addresses in a [`Model`].
#[derive(Debug)]
pub struct ModelLine<'a>(&'a [AtomicU64]);

impl ban_table::Shared for ModelLine<'_> {
    fn fingerprints(&self) -> u64 {
        self.head(0)
    }

    fn head(&self, word: usize) -> u64 {
        self.0[word].load(Ordering::Relaxed)
    }

    fn hit(&self, word: usize) -> bool {
        let counts = &self.0[ban_table::PACKETS_WORD];
        let shift = 8 * (word - 1);
        let old = counts.load(Ordering::Relaxed);
        let count = ((old >> shift) + 1) & 0xff;
        counts.store(old & !(0xff << shift) | count << shift, Ordering::Relaxed);
        count == 0
    }

    fn carry(&self, word: usize) {
        self.0[word].fetch_add(ban_table::CARRY, Ordering::Relaxed);
    }
}

/// A line of the cache of banned IPv6 addresses in a [`Model`].
#[derive(Clone, Copy, Debug)]
pub struct ModelCacheLine<'a>(&'a [AtomicU64]);

impl ban_cache::Shared for ModelCacheLine<'_> {
    fn word(&self, place: usize) -> u64 {
        self.0[place].load(Ordering::Acquire)
    }

    fn after(&self, _read: u64) -> Self {
        *self
    }

    fn hit(&self, slot: usize) -> bool {
        let counts = &self.0[ban_cache::LAST_WORD];
        let shift = ban_cache::PACKETS_SHIFT as usize + 8 * slot;
        let old = counts.load(Ordering::Relaxed);
        let count = ((old >> shift) + 1) & 0xff;
        counts.store(old & !(0xff << shift) | count << shift, Ordering::Relaxed);
        count == 0
    }
}

/// An entry in a [`Model`].
#[derive(Debug)]
pub struct Entry<'a, T: Copy>(&'a Cell<T>);

impl<T: Copy> Entry<'_, T> {
    fn change(&self, change: impl FnOnce(&mut T)) {
        let mut entry = self.0.get();
        change(&mut entry);
        self.0.set(entry);
    }
}

impl BanSlot for Entry<'_, BanEntry> {
    fn until(&self) -> u32 {
        self.0.get().until
    }

    fn scopes(&self) -> u8 {
        self.0.get().scopes
    }

    fn origin(&self) -> u8 {
        self.0.get().origin
    }

    fn hit(&self, packets: u64) {
        self.change(|ban| ban.packets += packets);
    }
}

impl NetworkSlot for Entry<'_, NetworkEntry> {
    fn end(&self, bit: usize) -> u32 {
        self.0.get().ends[bit]
    }

    fn hit(&self) {
        self.change(|network| network.packets += 1);
    }
}

impl<'a> PeerSlot for Entry<'a, Peer> {
    type Bucket = PeerBucket<'a>;

    fn until(&self) -> u64 {
        self.0.get().until
    }

    fn bucket(&self) -> PeerBucket<'a> {
        PeerBucket { peer: self.0, excess: false }
    }

    fn excess(&self) -> PeerBucket<'a> {
        PeerBucket { peer: self.0, excess: true }
    }

    fn blocked_until(&self) -> u64 {
        self.0.get().blocked_until
    }

    fn block(&self, until: u64) {
        self.change(|peer| peer.blocked_until = until);
    }

    fn count(&self, passed: bool) {
        self.change(|peer| *if passed { &mut peer.passed } else { &mut peer.dropped } += 1);
    }
}

impl<'a> Record for Entry<'a, Challenged> {
    type Bucket = RecordBucket<'a>;

    fn nonce(&self, place: usize) -> u32 {
        self.0.get().nonces[place % NONCES]
    }

    fn add_nonce(&self, nonce: u32) {
        self.change(|record| {
            record.nonces[record.next_nonce as usize % NONCES] = nonce;
            record.next_nonce += 1;
        });
    }

    fn awaited(&self, place: usize) -> u32 {
        self.0.get().awaited[place % AWAITED]
    }

    fn set_awaited(&self, place: usize, request: u32) {
        self.change(|record| record.awaited[place % AWAITED] = request);
    }

    fn add_awaited(&self, request: u32) {
        self.change(|record| {
            record.awaited[record.next_awaited as usize % AWAITED] = request;
            record.next_awaited += 1;
        });
    }

    fn last(&self) -> u32 {
        self.0.get().last
    }

    fn set_last(&self, request: u32) {
        self.change(|record| record.last = request);
    }

    fn prove(&self, now: u64) {
        self.change(|record| record.proven_at = now);
    }

    fn establish(&self, now: u64) {
        self.change(|record| {
            if record.established == 0 {
                record.established = unit(now);
            }
        });
    }

    fn count(&self, count: Count) {
        self.change(|record| {
            *match count {
                Count::Challenges => &mut record.challenges,
                Count::Answered => &mut record.answered,
                Count::Refused => &mut record.refused,
                Count::Accepted => &mut record.accepted,
            } += 1;
        });
    }

    fn bucket(&self) -> RecordBucket<'a> {
        RecordBucket { record: self.0, searches: false }
    }

    fn searches(&self) -> RecordBucket<'a> {
        RecordBucket { record: self.0, searches: true }
    }
}

/// A bucket of an address to which a challenge was sent.
#[derive(Debug)]
pub struct RecordBucket<'a> {
    record: &'a Cell<Challenged>,
    searches: bool,
}

impl Bucket for RecordBucket<'_> {
    fn load(&self) -> u64 {
        let record = self.record.get();
        if self.searches { record.searches } else { record.bucket }
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        let same = self.load() == current;
        if same {
            Entry(self.record).change(|record| {
                *if self.searches { &mut record.searches } else { &mut record.bucket } = new;
            });
        }
        same
    }
}

/// A bucket of a known peer.
#[derive(Debug)]
pub struct PeerBucket<'a> {
    peer: &'a Cell<Peer>,
    excess: bool,
}

impl Bucket for PeerBucket<'_> {
    fn load(&self) -> u64 {
        let peer = self.peer.get();
        if self.excess { peer.excess } else { peer.bucket }
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        let same = self.load() == current;
        if same {
            Entry(self.peer).change(|peer| {
                *if self.excess { &mut peer.excess } else { &mut peer.bucket } = new;
            });
        }
        same
    }
}

/// Any bucket in a [`Model`] except those of known peers.
#[derive(Debug)]
pub enum ModelBucket<'a> {
    /// A bucket of a source or of a network.
    Line(&'a Lines, u32, usize),
    /// A bucket of bytes over TCP.
    Stream(&'a RefCell<HashMap<u32, u64>>, u32),
    /// A bucket of all unknown sources.
    Shared(&'a Cell<u64>),
}

impl Bucket for ModelBucket<'_> {
    fn load(&self) -> u64 {
        match self {
            Self::Line(lines, line, place) => {
                lines.borrow().get(line).map_or(0, |buckets| buckets[*place])
            }
            Self::Stream(buckets, place) => buckets.borrow().get(place).copied().unwrap_or(0),
            Self::Shared(bucket) => bucket.get(),
        }
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        let same = self.load() == current;
        match self {
            Self::Line(lines, line, place) if same => {
                lines.borrow_mut().entry(*line).or_default()[*place] = new;
            }
            Self::Stream(buckets, place) if same => {
                buckets.borrow_mut().insert(*place, new);
            }
            Self::Shared(bucket) if same => bucket.set(new),
            Self::Line(..) | Self::Stream(..) | Self::Shared(_) => {}
        }
        same
    }
}

/// A line of the greylist in a [`Model`].
#[derive(Debug)]
pub struct ModelCells<'a> {
    lines: &'a RefCell<HashMap<u32, greylist::Line>>,
    line: u32,
}

impl greylist::Cells for ModelCells<'_> {
    fn load(&self, cell: usize) -> u32 {
        self.lines.borrow().get(&self.line).map_or(0, |cells| cells[cell & (CELLS - 1)])
    }

    fn pair(&self, pair: usize) -> u64 {
        u64::from(self.load(2 * pair)) | u64::from(self.load(2 * pair + 1)) << 32
    }

    fn store(&self, cell: usize, value: u32) {
        self.lines.borrow_mut().entry(self.line).or_default()[cell & (CELLS - 1)] = value;
    }
}

impl Tables for Model {
    type Line<'a> = ModelLine<'a>;
    type CacheLine<'a> = ModelCacheLine<'a>;
    type Ban<'a> = Entry<'a, BanEntry>;
    type Network<'a> = Entry<'a, NetworkEntry>;
    type Bucket<'a> = ModelBucket<'a>;
    type Peer<'a> = Entry<'a, Peer>;
    type Cells<'a> = ModelCells<'a>;
    type Challenged<'a> = Entry<'a, Challenged>;

    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn now(&self, _config: &Config) -> u64 {
        self.now.get()
    }

    fn attended_until(&self) -> u64 {
        self.attended_until
    }

    fn presence(&self, word: u32) -> u64 {
        self.gates.presence[usize::try_from(word).expect("a word's number")].load(Ordering::Relaxed)
    }

    fn expects(&self) -> Flood {
        self.flood.get()
    }

    fn note(&self, flood: Flood) {
        self.noted.set(Some(flood));
    }

    fn ban_line(&self, line: u32) -> Option<ModelLine<'_>> {
        let start = usize::try_from(line).ok()? * 8;
        self.bans_v4.get(start..start + 8).map(ModelLine)
    }

    fn cache_line(&self, line: u32) -> Option<ModelCacheLine<'_>> {
        let start = usize::try_from(line).ok()? * 8;
        self.cache.get(start..start + 8).map(ModelCacheLine)
    }

    fn ban_v6(&self, source: Address) -> Option<Entry<'_, BanEntry>> {
        self.asked_bans_v6.set(self.asked_bans_v6.get() + 1);
        self.bans_v6.get(&source).map(Entry)
    }

    fn network(&self, source: Address) -> Option<Entry<'_, NetworkEntry>> {
        let around = self.networks.iter().filter(|(network, _)| contains(network, source));
        around.max_by_key(|(network, _)| mapped_prefix(network)).map(|(_, entry)| Entry(entry))
    }

    fn trust_gate(&self, word: u32) -> u64 {
        self.gates.trust[usize::try_from(word).expect("a word's number")]
    }

    fn is_loopback(&self) -> bool {
        false
    }

    fn trusted(&self, source: Address) -> bool {
        self.trusted.iter().any(|network| contains(network, source))
    }

    fn port_classes(&self, tcp: bool, port: u16) -> u8 {
        self.ports.get(&(tcp, port)).copied().unwrap_or(0)
    }

    fn guards(&self, tcp: bool, port: u16) -> u8 {
        self.guards.get(&(tcp, port)).copied().unwrap_or(0)
    }

    fn visited(&self, source: Address, tcp: bool, port: u16, _now: u64) {
        self.visitors.borrow_mut().insert(visitor_key(source, visited_key(tcp, port)));
    }

    fn asked(&self, other: Address, port: u16) -> Option<u64> {
        self.asked.get(&(other, port)).copied()
    }

    fn source_bucket(&self, line: u32, place: usize) -> Option<ModelBucket<'_>> {
        Some(ModelBucket::Line(&self.sources, within(line, SOURCE_LINES), place))
    }

    fn prefix_bucket(&self, line: u32, place: usize) -> Option<ModelBucket<'_>> {
        Some(ModelBucket::Line(&self.prefixes, within(line, PREFIX_LINES), place))
    }

    fn stream_bucket(&self, place: u32) -> Option<ModelBucket<'_>> {
        Some(ModelBucket::Stream(&self.streams, within(place, STREAM_BUCKETS)))
    }

    fn shared_bucket(&self, place: usize) -> Option<ModelBucket<'_>> {
        Some(ModelBucket::Shared(&self.shared[place]))
    }

    fn geo_v4(&self, word: u32) -> u64 {
        self.shut_v4.get(&within(word, GEO_WORDS)).copied().unwrap_or(0)
    }

    fn geo_v6(&self, source: Address) -> bool {
        let around = self.shut_v6.iter().filter(|(network, _)| contains(network, source));
        around.max_by_key(|(network, _)| network.prefix_len()).is_some_and(|(_, shut)| *shut)
    }

    fn would_drop(&self, _reason: Reason) {
        self.watched.set(self.watched.get() + 1);
    }

    fn known_gate(&self, word: u32) -> u64 {
        self.gates.known[usize::try_from(word).expect("a word's number")]
    }

    fn peer(&self, source: Address) -> Option<Entry<'_, Peer>> {
        self.peers.get(&source).map(Entry)
    }

    fn flooder(&self, source: Address, now: u64) -> bool {
        let mut flooders = self.flooders.borrow_mut();
        let banned = flooders.get_mut(&source).filter(|flooder| now < flooder.until);
        banned.map(|flooder| flooder.packets += 1).is_some()
    }

    fn block(&self, source: Address, until: u64) {
        self.flooders.borrow_mut().insert(source, Flooder { until, packets: 1 });
    }

    fn connected(&self, headers: &Headers) -> bool {
        let to = |address: &[u8]| {
            let mut destination = [0; 16];
            destination[..address.len()].copy_from_slice(address);
            let [s0, s1] = SOURCE_PORT.to_be_bytes();
            let [d0, d1] = 5060u16.to_be_bytes();
            Some(([s0, s1, d0, d1], destination))
        };
        let v4 = headers.source.v4_word().is_some();
        let here = if v4 { to(&TARGET_V4.octets()) } else { to(&TARGET_V6.octets()) };
        self.connected.contains(&headers.source) && self.ends.get() == here
    }

    fn saw(&self, hash: u64, now: u64) {
        self.seen.set(Some((hash, now)));
    }

    fn cells(&self, line: u32) -> Option<ModelCells<'_>> {
        Some(ModelCells { lines: &self.greylist, line: within(line, GREYLIST_LINES) })
    }

    fn challenged(&self, source: Address) -> Option<Entry<'_, Challenged>> {
        self.challenged.get(&source).map(Entry)
    }

    fn retries(&self, line: u32) -> Option<ModelCells<'_>> {
        Some(ModelCells { lines: &self.retries, line: within(line, RETRY_LINES) })
    }

    fn retry_bucket(&self, place: u32) -> Option<ModelBucket<'_>> {
        Some(ModelBucket::Stream(&self.retry_rate, within(place, RETRY_BUCKETS)))
    }

    fn read_message(&self, bytes: usize, seed: u64) -> Message {
        let (window, mut reading) = (self.window.borrow(), Reading::begin(seed));
        let _enough = (0..bytes).any(|at| wire::read(&window, at, &mut reading));
        reading.message()
    }

    fn signature(&self, agent: &Agent) -> bool {
        let matching =
            self.signatures.iter().filter(|(start, bits, _)| begins(agent, start, *bits));
        let longest = matching.max_by_key(|(_, bits, _)| *bits);
        let count = |(_, _, signature): &(_, _, Cell<Signature>)| {
            Entry(signature).change(|signature| signature.packets += 1);
        };
        longest.map(count).is_some()
    }

    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        Some(fill(&mut self.window.borrow_mut()))
    }

    fn search_steps(&self, steps: usize) -> Fields {
        let (window, mut fields) = (self.window.borrow(), Fields::default());
        let _ended = (0..steps).any(|step| sip::search(&window, step, &mut fields));
        fields
    }

    fn agent(&self, at: u64) -> Option<Agent> {
        Some(sip::agent(&self.window.borrow(), usize::try_from(at).ok()?))
    }
}

/// An index of a map of this size. In the kernel, one beyond would find nothing, and the packet pass.
///
/// # Panics
///
/// If it is beyond.
fn within(index: u32, size: u32) -> u32 {
    assert!(index < size, "{index} of a map of {size}");
    index
}

/// The ports and the destination of a segment, as far as the packet contains them.
fn ends(packet: &impl Packet, headers: &Headers) -> Option<Ends> {
    let Layer4::Tcp { start, .. } = headers.layer4 else {
        return None;
    };
    let destination = if headers.source.v4_word().is_some() {
        let [a, b, c, d] = packet.array(headers.network + 16)?;
        [a, b, c, d, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
    } else {
        packet.array(headers.network + 24)?
    };
    Some((packet.array(start)?, destination))
}

/// Whether a User-Agent starts with these bits.
fn begins(agent: &Agent, start: &Agent, bits: u32) -> bool {
    let bytes = |agent: &Agent| agent.map(u64::to_le_bytes).concat();
    let len = usize::try_from(bits / 8).unwrap_or(usize::MAX);
    bytes(agent).get(..len) == bytes(start).get(..len)
}

/// A network's prefix length in the 128-bit form that both families share.
pub fn mapped_prefix(network: &IpNet) -> u32 {
    let family = match network {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    family + u32::from(network.prefix_len())
}

/// Whether an address, in the form that both families share, is in a network.
fn contains(network: &IpNet, source: Address) -> bool {
    let bits = |address: Address| {
        let [first, second] = address.words();
        u128::from(first.swap_bytes()) << 64 | u128::from(second.swap_bytes())
    };
    let host_bits = 128 - mapped_prefix(network);
    let mask = u128::MAX.checked_shl(host_bits).unwrap_or(0);
    bits(source) & mask == bits(Address::from(network.network())) & mask
}

/// A frame as the kernel presents it to a program that supports fragments: direct reads reach only the
/// first buffer.
#[derive(Clone, Copy, Debug)]
pub struct SplitFrame<'a> {
    /// The whole frame.
    pub bytes: &'a [u8],
    /// The number of bytes in the first buffer.
    pub linear: usize,
}

impl Packet for SplitFrame<'_> {
    fn length(&self) -> usize {
        self.bytes.len()
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.bytes.array(offset)
    }

    fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        self.bytes.words(offset)
    }

    fn near_words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        self.bytes.get(..self.linear).unwrap_or(self.bytes).words(offset)
    }

    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        self.bytes.copy(offset, window)
    }
}

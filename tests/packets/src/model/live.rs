//! The tables of a host that runs for long: bans come and go, and outgoing messages are read, as the program at
//! the egress does it.
//!
//! All gates are open, so that each lookup is made, and every event is delivered. Addresses to which challenges
//! were sent are never forgotten.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use filter_common::abi::{
    ACCOUNT_WORDS, BanEntry, Challenged, Config, NetworkEntry, Peer, SESSION_WORDS, WireEvent,
};
use filter_common::address::Address;
use filter_common::ban_cache;
use filter_common::ban_table::{Slot, lines_for};
use filter_common::decision::Reason;
use filter_common::gate;
use filter_common::learn::{self, Outgoing, Peers};
use filter_common::packet::{self, Headers, Place, Window};
use filter_common::policy::{self, Tables};
use filter_common::sip::{Agent, Fields};
use filter_common::wire::{self, Heard, Message, Replies};
use ipnet::IpNet;
use tables::ban_cache::{BanCache, memory as ban_cache_memory};
use tables::ban_table::{BanTable, Full, memory};

use super::{Entry, Model, ModelBucket, ModelCacheLine, ModelCells, ModelLine};
use crate::cases::World;
use crate::packet_builder::{TARGET_V4, TARGET_V6};

/// The most bans of IPv4 addresses.
const BANS: u32 = 4096;

/// The tables, at a time that can be set.
#[derive(Debug)]
pub struct Live {
    /// The buckets, the greylist, the ports and the window.
    model: Model,
    config: Config,
    now: u64,
    lines: Arc<[AtomicU64]>,
    bans_v4: BanTable<Arc<[AtomicU64]>>,
    bans_v6: HashMap<Address, Cell<BanEntry>>,
    cache: BanCache<Arc<[AtomicU64]>>,
    cache_lines: Arc<[AtomicU64]>,
    networks: HashMap<IpNet, Cell<NetworkEntry>>,
    /// The lengths of the prefixes that have entries, longest first.
    lengths: Vec<u8>,
    trusted: Vec<IpNet>,
    peers: HashMap<Address, Cell<Peer>>,
    /// The peer that the current message makes.
    new_peer: Cell<Option<(Address, u64)>>,
    challenged: HashMap<Address, Cell<Challenged>>,
    /// The record that the current message makes.
    new_record: Cell<Challenged>,
    is_made: Cell<bool>,
    /// When a packet with this hash of its source last passed to a SIP port.
    seen: RefCell<HashMap<u64, u64>>,
    told: RefCell<Vec<WireEvent>>,
}

impl Live {
    /// Empty tables with this configuration, in which the number of lines is replaced.
    pub fn new(config: &Config) -> Self {
        let lines: Arc<[AtomicU64]> = memory(lines_for(BANS)).into();
        let capacity = usize::try_from(BANS).unwrap_or(usize::MAX);
        let bans_v4 = BanTable::new(Arc::clone(&lines), config.seed, capacity);
        let cache_lines: Arc<[AtomicU64]> = ban_cache_memory(ban_cache::lines_for(BANS)).into();
        let cache = BanCache::new(Arc::clone(&cache_lines), config.seed);
        Self {
            model: Model::new(&World::default(), 0),
            config: Config { ban_lines: bans_v4.lines(), cache_lines: cache.lines(), ..*config },
            now: 0,
            lines,
            bans_v4,
            bans_v6: HashMap::new(),
            cache,
            cache_lines,
            networks: HashMap::new(),
            lengths: Vec::new(),
            trusted: Vec::new(),
            peers: HashMap::new(),
            new_peer: Cell::default(),
            challenged: HashMap::new(),
            new_record: Cell::default(),
            is_made: Cell::default(),
            seen: RefCell::default(),
            told: RefCell::default(),
        }
    }

    /// The same without the cache of banned IPv6 addresses.
    #[must_use]
    pub fn without_cache(mut self) -> Self {
        self.config.cache_lines = 0;
        self
    }

    /// Sets the time, in nanoseconds.
    pub fn set_time(&mut self, now: u64) {
        self.now = now;
    }

    /// Decides about a datagram to the host's SIP port.
    pub fn arrives(&self, from: SocketAddr, payload: &[u8]) -> Reason {
        let frame = datagram(from, here(from.ip()), payload);
        let decision = policy::decide(&frame.as_slice(), self);
        decision.code.reason().unwrap_or(Reason::NotConfigured)
    }

    /// Reads a datagram that leaves the host's SIP port. Returns the events about it.
    pub fn leaves(&mut self, to: SocketAddr, payload: &[u8]) -> Vec<WireEvent> {
        let frame = datagram(here(to.ip()), to, payload);
        let frame = frame.as_slice();
        let headers = packet::parse(&frame).ok();
        let leaving = headers.and_then(|headers| learn::leaving(&frame, &headers));
        let Some(leaving) = leaving.filter(|leaving| learn::is_watched(leaving, self)) else {
            return Vec::new();
        };
        let (destination, message) = (leaving.destination, Place::from(leaving.payload));
        learn::learn(&frame, destination, message, self);
        if let Some((peer, until)) = self.new_peer.take() {
            self.peers.insert(peer, Cell::new(Peer { until, ..Peer::default() }));
        }
        wire::observe(&frame, destination, message, false, self);
        if self.is_made.take() {
            self.challenged.insert(destination, Cell::new(self.new_record.take()));
        }
        self.told.take()
    }

    /// Enters the ban of an IPv4 address.
    ///
    /// # Errors
    ///
    /// If the table is full.
    pub fn ban_v4(&mut self, slot: Slot) -> Result<(), Full> {
        self.bans_v4.insert(slot)
    }

    /// Enters the ban of an IPv6 address.
    pub fn ban_v6(&mut self, address: Address, entry: BanEntry) {
        self.cache.remove(address);
        self.bans_v6.insert(address, Cell::new(entry));
        self.cache.insert(address, entry.scopes, entry.until);
    }

    /// Removes the ban of an address.
    pub fn unban(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(v4) => {
                self.bans_v4.remove(u32::from_le_bytes(v4.octets()));
            }
            IpAddr::V6(_) => {
                self.cache.remove(address.into());
                self.bans_v6.remove(&Address::from(address));
            }
        }
    }

    /// Enters or removes the bans of a network.
    pub fn set_network(&mut self, network: IpNet, entry: Option<NetworkEntry>) {
        match entry {
            Some(entry) => self.networks.insert(network, Cell::new(entry)),
            None => self.networks.remove(&network),
        };
        let lengths: BTreeSet<u8> = self.networks.keys().map(IpNet::prefix_len).collect();
        self.lengths = lengths.into_iter().rev().collect();
    }

    /// Sets the networks that are never dropped.
    pub fn trust(&mut self, networks: &[IpNet]) {
        self.trusted = networks.to_vec();
    }

    /// Makes an address a known peer.
    pub fn know(&mut self, address: IpAddr) {
        let until = self.now + self.config.known_for;
        let peer = self.peers.entry(Address::from(address)).or_default();
        peer.set(Peer { until, ..peer.get() });
    }

    /// The known peer at an address.
    pub fn known(&self, address: IpAddr) -> Option<Peer> {
        let peer = self.peers.get(&Address::from(address)).map(Cell::get);
        peer.filter(|peer| self.now < peer.until)
    }

    /// All known peers.
    pub fn known_peers(&self) -> impl Iterator<Item = IpAddr> {
        let known = self.peers.iter().filter(|(_, peer)| self.now < peer.get().until);
        known.map(|(address, _)| IpAddr::from(*address))
    }

    /// When a packet from an address last passed to the SIP port.
    pub fn seen(&self, address: IpAddr) -> Option<u64> {
        self.seen.borrow().get(&Address::from(address).hash(self.config.seed)).copied()
    }

    /// When an address last answered a challenge; zero if it never has.
    pub fn proven_at(&self, address: IpAddr) -> u64 {
        self.challenged.get(&Address::from(address)).map_or(0, |record| record.get().proven_at)
    }

    /// When one of its answers was first accepted: [`unit`](filter_common::rate::unit). Zero if none was.
    pub fn established(&self, address: IpAddr) -> u32 {
        self.challenged.get(&Address::from(address)).map_or(0, |record| record.get().established)
    }
}

/// The SIP port of the host.
fn here(other: IpAddr) -> SocketAddr {
    let address = match other {
        IpAddr::V4(_) => IpAddr::from(TARGET_V4),
        IpAddr::V6(_) => TARGET_V6.into(),
    };
    SocketAddr::new(address, 5060)
}

/// An Ethernet frame with a UDP datagram between two addresses of one family.
fn datagram(from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let udp = u16::try_from(payload.len() + 8).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(payload.len() + 62);
    frame.extend([0x02, 0, 0, 0, 0, 0x10, 0x02, 0, 0, 0, 0, 0x20]);
    if let (IpAddr::V4(source), IpAddr::V4(destination)) = (from.ip(), to.ip()) {
        frame.extend([0x08, 0x00, 0x45, 0]);
        frame.extend(udp.saturating_add(20).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend(source.octets());
        frame.extend(destination.octets());
    } else {
        let octets = |address| match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        };
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(udp.to_be_bytes());
        frame.extend([17, 64]);
        frame.extend(octets(from.ip()));
        frame.extend(octets(to.ip()));
    }
    frame.extend(from.port().to_be_bytes());
    frame.extend(to.port().to_be_bytes());
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend(payload);
    frame
}

impl Tables for Live {
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
        self.now
    }

    fn attended_until(&self) -> u64 {
        u64::MAX
    }

    fn presence(&self, _word: u32) -> u64 {
        u64::MAX
    }

    fn ban_line(&self, line: u32) -> Option<ModelLine<'_>> {
        let start = usize::try_from(line).ok()? * 8;
        self.lines.get(start..start + 8).map(ModelLine)
    }

    fn cache_line(&self, line: u32) -> Option<ModelCacheLine<'_>> {
        let start = usize::try_from(line).ok()? * 8;
        self.cache_lines.get(start..start + 8).map(ModelCacheLine)
    }

    fn ban_v6(&self, source: Address) -> Option<Entry<'_, BanEntry>> {
        self.bans_v6.get(&source).map(Entry)
    }

    fn network(&self, source: Address) -> Option<Entry<'_, NetworkEntry>> {
        let source = IpAddr::from(source);
        let within = |length: &u8| {
            let network = IpNet::new(source, *length).ok()?.trunc();
            self.networks.get(&network).map(Entry)
        };
        self.lengths.iter().find_map(within)
    }

    fn trust_gate(&self, _word: u32) -> u64 {
        u64::MAX
    }

    fn is_loopback(&self) -> bool {
        false
    }

    fn trusted(&self, source: Address) -> bool {
        let source = IpAddr::from(source);
        self.trusted.iter().any(|network| network.contains(&source))
    }

    fn port_classes(&self, tcp: bool, port: u16) -> u8 {
        Tables::port_classes(&self.model, tcp, port)
    }

    fn guards(&self, tcp: bool, port: u16) -> u8 {
        self.model.guards(tcp, port)
    }

    fn asked(&self, other: Address, port: u16) -> Option<u64> {
        Tables::asked(&self.model, other, port)
    }

    fn source_bucket(&self, line: u32, place: usize) -> Option<ModelBucket<'_>> {
        self.model.source_bucket(line, place)
    }

    fn prefix_bucket(&self, line: u32, place: usize) -> Option<ModelBucket<'_>> {
        self.model.prefix_bucket(line, place)
    }

    fn stream_bucket(&self, place: u32) -> Option<ModelBucket<'_>> {
        self.model.stream_bucket(place)
    }

    fn shared_bucket(&self, place: usize) -> Option<ModelBucket<'_>> {
        self.model.shared_bucket(place)
    }

    fn geo_v4(&self, word: u32) -> u64 {
        self.model.geo_v4(word)
    }

    fn geo_v6(&self, source: Address) -> bool {
        self.model.geo_v6(source)
    }

    fn would_drop(&self, reason: Reason) {
        self.model.would_drop(reason);
    }

    fn known_gate(&self, _word: u32) -> u64 {
        u64::MAX
    }

    fn peer(&self, source: Address) -> Option<Entry<'_, Peer>> {
        self.peers.get(&source).map(Entry)
    }

    fn flooder(&self, source: Address, now: u64) -> bool {
        self.model.flooder(source, now)
    }

    fn block(&self, source: Address, until: u64) {
        self.model.block(source, until);
    }

    fn connected(&self, headers: &Headers) -> bool {
        self.model.connected(headers)
    }

    fn cells(&self, line: u32) -> Option<ModelCells<'_>> {
        self.model.cells(line)
    }

    fn saw(&self, hash: u64, now: u64) {
        self.seen.borrow_mut().insert(hash, now);
    }

    fn challenged(&self, source: Address) -> Option<Entry<'_, Challenged>> {
        self.challenged.get(&source).map(Entry)
    }

    fn retries(&self, line: u32) -> Option<ModelCells<'_>> {
        self.model.retries(line)
    }

    fn retry_bucket(&self, place: u32) -> Option<ModelBucket<'_>> {
        self.model.retry_bucket(place)
    }

    fn read_message(&self, bytes: usize, seed: u64) -> Message {
        self.model.read_message(bytes, seed)
    }

    fn signature(&self, agent: &Agent) -> bool {
        self.model.signature(agent)
    }

    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        self.model.with_window(fill)
    }

    fn search_steps(&self, steps: usize) -> Fields {
        self.model.search_steps(steps)
    }

    fn agent(&self, at: u64) -> Option<Agent> {
        self.model.agent(at)
    }
}

impl Outgoing for Live {
    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn now(&self, _config: &Config) -> u64 {
        self.now
    }

    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        self.model.with_window(fill)
    }
}

impl Peers for Live {
    fn port_classes(&self, tcp: bool, port: u16) -> u8 {
        self.model.port_classes(tcp, port)
    }

    fn guards(&self, tcp: bool, port: u16) -> u8 {
        self.model.guards(tcp, port)
    }

    fn is_loopback(&self) -> bool {
        false
    }

    fn visited(&self, _by: Address, _tcp: bool, _port: u16, _now: u64) {}

    fn asked(&self, _other: Address, _port: u16) -> Option<u64> {
        None
    }

    fn ask(&self, _other: Address, _port: u16, _now: u64) {}

    fn read_all(&self, bytes: usize, mut reading: learn::Reading) -> learn::Reading {
        let window = self.model.window.borrow();
        let _enough = (0..bytes).any(|at| learn::read(&window, at, &mut reading));
        reading
    }

    fn until(&self, peer: Address) -> Option<u64> {
        self.peers.get(&peer).map(|peer| peer.get().until)
    }

    fn prolong(&self, peer: Address, until: u64) {
        if let Some(peer) = self.peers.get(&peer) {
            peer.set(Peer { until, ..peer.get() });
        }
    }

    fn announce(&self, _place: gate::Place) {}

    fn insert(&self, peer: Address, until: u64) -> bool {
        self.new_peer.set(Some((peer, until)));
        true
    }

    fn crowd(&self, _place: u32) -> u64 {
        0
    }

    fn join(&self, _place: u32) {}
}

impl Replies for Live {
    type Record<'a> = Entry<'a, Challenged>;

    fn read_message(&self, bytes: usize, seed: u64) -> Message {
        self.model.read_message(bytes, seed)
    }

    fn challenged(&self, address: Address) -> Option<Entry<'_, Challenged>> {
        self.challenged.get(&address).map(Entry)
    }

    fn challenge(&self, _address: Address) -> Option<Entry<'_, Challenged>> {
        self.is_made.set(true);
        self.new_record.set(Challenged::default());
        Some(Entry(&self.new_record))
    }

    fn tell(&self, heard: &Heard, message: &Message, record: &Entry<'_, Challenged>) {
        let window = self.model.window.borrow();
        let record = record.0.get();
        let (mut session, mut account) = ([0; SESSION_WORDS], [0; ACCOUNT_WORDS]);
        let place = |at| usize::try_from(at).unwrap_or(0);
        wire::text(&window, place(message.session_at), &mut session);
        wire::text(&window, place(message.account_at), &mut account);
        self.told.borrow_mut().push(WireEvent {
            time: heard.time,
            address: heard.address.words(),
            kind: heard.kind,
            status: heard.status,
            flags: wire::flags(heard, message),
            challenges: record.challenges,
            answered: record.answered,
            refused: record.refused,
            accepted: record.accepted,
            lengths: wire::lengths(message),
            session,
            account,
        });
    }
}

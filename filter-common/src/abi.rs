//! The contract between the XDP program and the controller: map names, keys and values.
//!
//! Everything here is plain data without padding, for which any bit pattern is valid. Addresses in keys
//! and events are the words of [`address`](crate::address), in network order. Times are nanoseconds of
//! `CLOCK_MONOTONIC`, with the precision of a tick, unless stated otherwise; the program computes them
//! from `bpf_jiffies64`, which costs next to nothing.
//!
//! Must never change without a new [`ABI_VERSION`].

use crate::address::Address;
use crate::decision::Code;
use crate::limits::{CONNECTION_BUCKETS, STREAM_PREFIXES, STREAM_SOURCES};
use crate::rate::Gcra;

/// Increases with every change of this module that an older program or controller would misread. Pinned
/// maps of another version are not reused.
pub const ABI_VERSION: u32 = 9;

/// The XDP program. Like those of maps, its name has at most 15 bytes, because the kernel truncates it
/// there.
pub const PROGRAM: &str = "ringfence";

/// The classifier of outgoing packets, which finds known peers.
pub const EGRESS_PROGRAM: &str = "ringfence_out";

/// The program that reads the kernel's two clocks; only `BPF_PROG_TEST_RUN` runs it.
pub const CLOCK_PROGRAM: &str = "ringfence_clock";

/// Names of the maps in the object and of their pins.
pub mod maps {
    /// Array of one [`Configs`](super::Configs).
    pub const CONFIG: &str = "CONFIG";
    /// Array of [`PORT_BLOCKS`](super::PORT_BLOCKS) blocks of port classes.
    pub const PORTS: &str = "PORTS";
    /// Array of [`Line`](crate::ban_table::Line): the bans of IPv4 addresses, in the layout of
    /// [`ban_table`](crate::ban_table). Mapped into the controller's memory; only the controller writes
    /// it, except for the counts of packets.
    pub const BANS_V4: &str = "BANS_V4";
    /// Hash of [`BanEntry`](super::BanEntry) by IPv6 address.
    pub const BANS_V6: &str = "BANS_V6";
    /// Array of [`ban_cache::Line`](crate::ban_cache::Line): what is certain about the bans in [`BANS_V6`],
    /// in the layout of [`ban_cache`](crate::ban_cache). Mapped into the controller's memory; only the
    /// controller writes it, except for the counts of packets.
    pub const BANS_V6_CACHE: &str = "BANS_V6_CACHE";
    /// Longest-prefix trie of [`NetworkEntry`](super::NetworkEntry) by mapped address.
    pub const BAN_NETS: &str = "BAN_NETS";
    /// Array of words of bits that say where a ban is possible, in the layout of [`gate`](crate::gate).
    /// Mapped into the controller's memory.
    pub const PRESENCE: &str = "PRESENCE";
    /// Longest-prefix trie of networks that are never dropped, by mapped address: a `u32` with a bit for
    /// each interface's slot on which the network is trusted.
    pub const TRUSTED: &str = "TRUSTED";
    /// Array of words with a bit for each IPv4 /24 from which SIP is not admitted, at
    /// [`geo_v4`](crate::gate::geo_v4). Mapped into the controller's memory.
    pub const GEO_V4: &str = "GEO_V4";
    /// Longest-prefix trie of IPv6 networks: a `u32` that is not zero if SIP is not admitted from there.
    pub const GEO_V6: &str = "GEO_V6";
    /// Array of words of bits that say which addresses may be trusted, in the layout of
    /// [`gate`](crate::gate).
    pub const TRUST_GATE: &str = "TRUST_GATE";
    /// Array of [`Buckets`](super::Buckets) of unknown sources, by the hash of the address.
    pub const SOURCES: &str = "SOURCES";
    /// Array of [`Buckets`](super::Buckets) of the networks of unknown sources.
    pub const PREFIXES: &str = "PREFIXES";
    /// Array of [`SharedBucket`](super::SharedBucket), which all unknown sources share.
    pub const SHARED: &str = "SHARED";
    /// Array of [`STREAM_BUCKETS`](super::STREAM_BUCKETS) buckets of bytes, one `u64` each: of the TCP
    /// connections of unknown sources, of these sources, and of their networks.
    pub const STREAMS: &str = "STREAMS";
    /// Hash of [`Peer`](super::Peer) by address: the known peers.
    pub const KNOWN: &str = "KNOWN";
    /// Array of words of bits that say which addresses may be known peers, in the layout of
    /// [`gate`](crate::gate).
    pub const KNOWN_GATE: &str = "KNOWN_GATE";
    /// Array of the numbers of known peers in IPv6 networks, one `u64` each, in the layout of
    /// [`crowd`](crate::crowd). Mapped into the controller's memory.
    pub const CROWDS: &str = "CROWDS";
    /// Hash of [`Flooder`](super::Flooder) by [`network64`](crate::address::Address::network64): the
    /// program's own short bans. The least recently used entry is evicted.
    pub const FLOODERS: &str = "FLOODERS";
    /// Array of [`greylist::Line`](crate::greylist::Line).
    pub const GREYLIST: &str = "GREYLIST";
    /// LRU hash of [`Challenged`](super::Challenged) by address: the addresses to which the host has sent a
    /// challenge. If it is full, the address that was unused for longest is forgotten.
    pub const CHALLENGED: &str = "CHALLENGED";
    /// Array of [`greylist::Line`](crate::greylist::Line), by the hash of the request: requests that were
    /// dropped because their source is throttled or over a limit.
    pub const RETRIES: &str = "RETRIES";
    /// Array of buckets, one `u64` each, by the hash of the source: the retransmissions that were admitted
    /// because of [`RETRIES`].
    pub const RETRY_RATE: &str = "RETRY_RATE";
    /// Ring buffer of [`WireEvent`](super::WireEvent).
    pub const WIRE: &str = "WIRE";
    /// Longest-prefix trie of [`Signature`](super::Signature) by the folded start of a User-Agent.
    pub const SIGNATURES: &str = "SIGNATURES";
    /// Array of the times at which a source last sent a packet that passed to a SIP port, one `u32` each,
    /// by the hash of the address: [`seen_unit`](crate::rate::seen_unit).
    pub const SEEN: &str = "SEEN";
    /// Per-CPU array of [`Counter`](super::Counter).
    pub const COUNTERS: &str = "COUNTERS";
    /// Ring buffer of [`Event`](super::Event).
    pub const EVENTS: &str = "EVENTS";
    /// Array of blocks as in [`PORTS`]: the sources to which a guarded port is open, a sum of
    /// `OPEN_TO_*`. Read only for ports with [`PORT_GUARDED`](super::PORT_GUARDED).
    pub const GUARDS: &str = "GUARDS";
    /// LRU hash: by [`asked_key`](super::asked_key), when the host last sent something from a guarded UDP
    /// port to another address, as a `u64`. If it is full, the oldest entry is evicted.
    pub const ASKED: &str = "ASKED";
    /// Hash of [`Visits`](super::Visits) by [`visited_key`](super::visited_key): the ports of which the
    /// program records the sources that use them.
    pub const VISITED: &str = "VISITED";
    /// LRU hash of [`Visitor`](super::Visitor) by [`visitor_key`](super::visitor_key): the networks that
    /// use such a port. If it is full, the entry that was unused for longest is evicted.
    pub const VISITORS: &str = "VISITORS";
    /// Array of one [`Beat`](super::Beat). Mapped into the controller's memory, its only writer.
    pub const BEAT: &str = "BEAT";
    /// Array of one [`Capture`](super::Capture): which packets are captured. Mapped into the memory of the
    /// command that captures.
    pub const CAPTURE: &str = "CAPTURE";
    /// Ring buffer of [`Captured`](super::Captured).
    pub const CAPTURED: &str = "CAPTURED";
    /// Array of one [`Learning`](super::Learning).
    pub const LEARNED: &str = "LEARNED";
    /// Per-CPU scratch memory of the program, not for the controller and not pinned.
    pub const SCRATCH: &str = "SCRATCH";
    /// Per-CPU bucket that limits events, not for the controller and not pinned.
    pub const EVENT_RATE: &str = "EVENT_RATE";
    /// The same for [`WIRE`].
    pub const WIRE_RATE: &str = "WIRE_RATE";
    /// The same for [`CAPTURED`].
    pub const CAPTURE_RATE: &str = "CAPTURE_RATE";

    /// The maps that outlive the controller and are shared by all interfaces.
    pub const PINNED: &[&str] = &[
        CONFIG,
        PORTS,
        BANS_V4,
        BANS_V6,
        BANS_V6_CACHE,
        BAN_NETS,
        PRESENCE,
        TRUSTED,
        TRUST_GATE,
        SOURCES,
        PREFIXES,
        SHARED,
        STREAMS,
        KNOWN,
        KNOWN_GATE,
        CROWDS,
        FLOODERS,
        GREYLIST,
        SIGNATURES,
        SEEN,
        COUNTERS,
        EVENTS,
        LEARNED,
        GUARDS,
        ASKED,
        VISITED,
        VISITORS,
        BEAT,
        CHALLENGED,
        RETRIES,
        RETRY_RATE,
        WIRE,
        CAPTURE,
        CAPTURED,
        GEO_V4,
        GEO_V6,
    ];
}

/// Read-only global of the program: the index of its interface among
/// [`INTERFACES`](crate::limits::INTERFACES).
pub const INTERFACE_SLOT: &str = "INTERFACE_SLOT";

/// Read-only global of the program: not zero on the loopback interface.
pub const LOOPBACK: &str = "LOOPBACK";

/// Counters of one kind for one interface. There are more than reasons, so that an additional reason does
/// not move the others.
pub const REASON_SLOTS: u32 = 64;

/// Counters of one interface: the actual verdicts, then those that a dry run prevented.
pub const COUNTERS_PER_INTERFACE: u32 = REASON_SLOTS * 2;

/// Ports whose classes are in one value of [`maps::PORTS`].
pub const PORTS_PER_BLOCK: usize = 64;

/// The number of blocks: those of all 65,536 UDP ports, then those of TCP.
pub const PORT_BLOCKS: u32 = 2048;

/// The ports that carry SIP, as a class of ports and as a scope of bans.
pub const SCOPE_SIP: u8 = 1;
/// The same for the first of [`NAMED_SCOPES`] classes with a name in the configuration; each has twice
/// the value of the previous one.
pub const SCOPE_NAMED: u8 = 2;
/// The number of classes of ports with a name in the configuration.
pub const NAMED_SCOPES: usize = 5;
/// The SIP ports over UDP, besides [`SCOPE_SIP`], as the scope of a throttle. Over TCP a source is not forged,
/// so its failures are proven and lead to a ban.
pub const SCOPE_THROTTLE: u8 = 0x40;
/// The scope of a ban of everything.
pub const SCOPE_ALL: u8 = 0x80;

/// The bit of [`SCOPE_ALL`] among the classes of a port: the port is not open to everybody, and
/// [`maps::GUARDS`] says to which sources it is open.
pub const PORT_GUARDED: u8 = SCOPE_ALL;

/// A guarded port is open to trusted sources.
pub const OPEN_TO_TRUSTED: u8 = 1;
/// A guarded port is open to known peers.
pub const OPEN_TO_KNOWN: u8 = 2;
/// A guarded UDP port is open to addresses that the host has sent something from it to within
/// [`REPLY_WINDOW`](crate::limits::REPLY_WINDOW).
pub const OPEN_TO_REPLIES: u8 = 4;

/// A port with [`PORT_GUARDED`] is open to everybody all the same.
///
/// The controller sets this and [`RECORDED`] only when no older program is attached, which would take such
/// a port for a closed one.
pub const OPEN_TO_ALL: u8 = 8;
/// The programs record in [`maps::VISITORS`] which networks use this port: over UDP on the way in, over TCP on the
/// way out.
pub const RECORDED: u8 = 16;

/// The key of [`maps::VISITED`]: the port, and 2^16 if it is a TCP port.
#[inline(always)]
pub fn visited_key(tcp: bool, port: u16) -> u32 {
    u32::from(port) | u32::from(tcp) << 16
}

/// The key of [`maps::VISITORS`]: the network of an address, a /24 or a /48, and the key of the port. The
/// network of an IPv4 address is in the upper half of the second word, as in
/// [`Address::words`].
#[inline(always)]
pub fn visitor_key(source: Address, port: u32) -> [u64; 2] {
    let [first, second] = source.words();
    let network = match source.v4_word() {
        Some(_) => second & 0x00ff_ffff << 32 | VISITOR_V4,
        None => 0,
    };
    [first & 0x0000_ffff_ffff_ffff, network | u64::from(port)]
}

/// The bit of IPv4 in a [`visitor_key`].
pub const VISITOR_V4: u64 = 1 << 24;

/// The address, the prefix length, and the key of the port of a [`visitor_key`].
pub fn visitor_of([first, second]: [u64; 2]) -> (Address, u8, u32) {
    let (port, word) = ((second & 0x1_ffff) as u32, (second >> 32) as u32);
    if second & VISITOR_V4 != 0 {
        (Address::v4(word.to_le_bytes()), 24, port)
    } else {
        (Address::from_words([first, 0]), 48, port)
    }
}

/// The key of [`maps::ASKED`]: the words of the other address, and the host's own port.
#[inline(always)]
pub fn asked_key(other: Address, port: u16) -> [u64; 3] {
    let [first, second] = other.words();
    [first, second, u64::from(port)]
}

/// A dry run: judge and count, but drop nothing.
pub const FLAG_DRY_RUN: u32 = 1;
/// Maintenance closes SIP to known peers too.
pub const FLAG_CLOSED_TO_KNOWN: u32 = 2;
/// During overload, the retransmission of a REGISTER is admitted.
pub const FLAG_GREYLIST: u32 = 4;
/// There is at least one signature.
pub const FLAG_SIGNATURES: u32 = 8;
/// The same as [`FLAG_DRY_RUN`], but set at run time, and separate from the setting.
pub const FLAG_DISABLED: u32 = 16;

/// At least one port is guarded.
pub const FLAG_GUARDED: u32 = 32;
/// As [`FLAG_DRY_RUN`], but only for guarded ports.
pub const FLAG_EXPOSURE_DRY_RUN: u32 = 64;

/// SIP is not admitted from the networks in [`maps::GEO_V4`] and [`maps::GEO_V6`], unless the source is known.
pub const FLAG_GEO: u32 = 128;
/// As [`FLAG_DRY_RUN`], but only for these networks. With [`FLAG_GEO`].
pub const FLAG_GEO_DRY_RUN: u32 = 256;

/// The phones of a site may come back: each IPv6 address is a source for the limits, and not its /64.
pub const FLAG_RETURN: u32 = 1 << RETURN_BIT;
const RETURN_BIT: u32 = 9;

/// The origin of the host's own addresses among the bans: a packet from one of them is
/// [`Spoofed`](crate::decision::Reason::Spoofed). It is the last number that the controller reserves, and
/// no jail has it.
pub const ORIGIN_OWN: u8 = 16;

/// The end of a permanent ban, in the units of [`unit`](crate::rate::unit).
pub const FOREVER: u32 = u32::MAX;

/// The number of classes of limits: those of [`Class`](crate::class::Class), and one spare place.
pub const CLASSES: usize = 8;

/// The configuration. All zero, as the kernel creates it, means that every packet passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Config {
    /// [`ABI_VERSION`]; zero before the first configuration.
    pub abi_version: u32,
    /// Sum of the `FLAG_*`.
    pub flags: u32,
    /// Secret of [`Address::hash`](crate::address::Address::hash).
    pub seed: u64,
    /// The value of `jiffies64` at the time zero of `CLOCK_MONOTONIC`, modulo 2^64.
    pub jiffies_epoch: u64,
    /// Nanoseconds per jiffy.
    pub tick: u64,
    /// The end of the last maintenance, before which SIP is closed; zero if there was none.
    pub maintenance_until: u64,
    /// How long a peer is known after it has proved itself, in nanoseconds.
    pub known_for: u64,
    /// How long a proven source that keeps flooding is banned, in nanoseconds.
    pub flood_ban: u64,
    /// The number of lines in the table of [`maps::BANS_V4`], without those of details.
    pub ban_lines: u32,
    /// The number of lines in [`maps::BANS_V6_CACHE`]. Zero if the controller does not write them.
    pub cache_lines: u32,
    /// The mask that makes the network of an IPv4 source.
    pub prefix_v4: [u64; 2],
    /// The mask that makes the network of an IPv6 source.
    pub prefix_v6: [u64; 2],
    /// The limits of one unknown source, by class; the last one limits searches for credentials in
    /// REGISTERs over the limit.
    pub source: [Gcra; CLASSES],
    /// The limits of the unknown sources of one network, by class.
    pub prefix: [Gcra; CLASSES],
    /// The limits of all unknown sources together, by class.
    pub shared: [Gcra; CLASSES],
    /// The limit of a known peer, for all its packets.
    pub known: Gcra,
    /// The limit of everything that the greylist admits.
    pub admitted: Gcra,
    /// What a source may send over its limit before it counts as flooding.
    pub flood: Gcra,
    /// The limit of bytes on one TCP connection of an unknown source.
    pub connection_bytes: Gcra,
    /// The limit of bytes that one unknown source sends over TCP.
    pub source_bytes: Gcra,
    /// The limit of bytes that the unknown sources of one network send over TCP.
    pub prefix_bytes: Gcra,
    /// The limit of bytes that all unknown sources send over TCP: once for connections that the host has,
    /// and once for all others.
    pub shared_bytes: Gcra,
}

impl Config {
    /// The hash of the source that an address belongs to for the limits: its [`Address::network64`], unless
    /// [`FLAG_RETURN`] is set.
    #[inline(always)]
    pub fn source_hash(&self, address: Address) -> u64 {
        // Without a branch, as there.
        let single = u64::from(self.flags >> RETURN_BIT & 1).wrapping_neg();
        address.network64_unless(single).hash(self.seed)
    }
}

/// Two configurations: the one in use, and one into which the controller writes the next. So no packet
/// sees half of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Configs {
    /// The index of the configuration in use. The controller changes it when the other one is complete,
    /// and then writes no more until every packet that may use the previous one has been judged.
    pub current: u64,
    /// Both configurations.
    pub sides: [Config; 2],
}

/// A ban of one IPv6 address. Times are in the units of [`unit`](crate::rate::unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct BanEntry {
    /// Packets that matched it, even if a dry run or trust let them pass. Written by the program.
    pub packets: u64,
    /// When it ends by itself.
    pub until: u32,
    /// When it began.
    pub since: u32,
    /// Sum of the `SCOPE_*`.
    pub scopes: u8,
    /// Its origin: a number of the controller.
    pub origin: u8,
    /// Zero.
    pub reserved: [u8; 6],
}

/// The bans in force for a network. The longest prefix applies, so the controller also writes the bans of
/// wider networks into it. Times are in the units of [`unit`](crate::rate::unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct NetworkEntry {
    /// Packets that matched it. Written by the program.
    pub packets: u64,
    /// When the ban of each scope ends, by the number of its bit; zero if there is none, so an exception
    /// from a wider ban is all zero.
    pub ends: [u32; 8],
    /// When the first ban of exactly this network, or the exception, began.
    pub since: u32,
    /// Its origin: a number of the controller.
    pub origin: u8,
    /// The prefix length, of 128 bits. A lookup finds the longest prefix, so a caller that wants exactly
    /// this network must compare the length.
    pub length: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// The buckets of one source or network, by class; the last one has a different use in each map.
pub type Buckets = [u64; CLASSES];

/// The index of a source's bucket of searches in its [`Buckets`].
pub const SEARCHES: usize = CLASSES - 1;

/// The index of a source's bucket of packets over its limit, in the [`Buckets`] that are at the source's
/// own hash in [`maps::PREFIXES`].
pub const EXCESS: usize = CLASSES - 1;

/// A bucket in a cache line of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct SharedBucket {
    /// The bucket.
    pub bucket: u64,
    /// Zero.
    pub reserved: [u64; 7],
}

/// The number of shared buckets: one for each class, one for admitted packets, two for bytes over TCP, and
/// one for searches for a nonce.
pub const SHARED_BUCKETS: u32 = 11;

/// The index of the shared bucket of bytes on TCP connections that the host has.
pub const CONNECTED_BYTES: usize = CLASSES;

/// The index of the shared bucket of bytes on other connections, which may be forged: they take nothing
/// from real ones.
pub const UNCONNECTED_BYTES: usize = CLASSES + 1;

/// The index of the shared bucket of searches for a nonce in packets that would be dropped.
pub const NONCE_SEARCHES: usize = CLASSES + 2;

/// The number of buckets in [`maps::STREAMS`].
pub const STREAM_BUCKETS: u32 = CONNECTION_BUCKETS + STREAM_SOURCES + STREAM_PREFIXES;

const _: () = assert!(SHARED_BUCKETS as usize == CLASSES + 3);

/// The index of the shared bucket of packets that the greylist admits.
pub const ADMITTED: usize = CLASSES - 1;

/// A known peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Peer {
    /// When it stops being known.
    pub until: u64,
    /// Its bucket.
    pub bucket: u64,
    /// The bucket of packets over its limit.
    pub excess: u64,
    /// The end of its short ban.
    pub blocked_until: u64,
    /// Packets that passed.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
}

/// The controller's sign of life. All zero, as the kernel makes it: there has been none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Beat {
    /// Until then the filter counts as attended; [`u64::MAX`]: for ever.
    pub until: u64,
    /// When the controller last beat. The program does not read it.
    pub last: u64,
}

/// The nonces of an address that are remembered: those of a phone's last challenges, or of several phones
/// behind one address that are registering just now.
pub const NONCES: usize = 8;

/// The requests of an address whose replies are awaited.
pub const AWAITED: usize = 8;

/// An address to which the host has sent a challenge (RFC 3261 section 22). The counts wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Challenged {
    /// When a request with one of its nonces last arrived from it, which proves that it is not forged; zero
    /// if none has.
    pub proven_at: u64,
    /// The bucket of requests with one of its nonces that pass although its source is over a limit or
    /// throttled.
    pub bucket: u64,
    /// The bucket of requests that are searched for a nonce for that purpose.
    pub searches: u64,
    /// Keyed hashes of the last nonces that were sent to it; zero if there is none.
    pub nonces: [u32; NONCES],
    /// Keyed hashes of the requests with one of these nonces that have no final reply yet: of the Call-ID and
    /// the number of the `CSeq`, and in the twelve lowest bits of the credentials.
    pub awaited: [u32; AWAITED],
    /// Where the next nonce is written.
    pub next_nonce: u32,
    /// Where the next awaited request is written.
    pub next_awaited: u32,
    /// Challenges that were sent to it.
    pub challenges: u32,
    /// Requests from it with one of its nonces, without retransmissions.
    pub answered: u32,
    /// How many of these were refused.
    pub refused: u32,
    /// How many of these were accepted.
    pub accepted: u32,
    /// A keyed hash of the request that was challenged last.
    pub last: u32,
    /// When one of them was first accepted: [`unit`](crate::rate::unit). Zero if none was.
    pub established: u32,
}

/// An event about a response to an address, for the controller. The counts are those of
/// [`Challenged`], so that a lost event loses no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct WireEvent {
    /// The time.
    pub time: u64,
    /// The address: [`Address::words`](crate::address::Address::words).
    pub address: [u64; 2],
    /// One of `WIRE_*`.
    pub kind: u32,
    /// The status code of the response (RFC 3261 section 21).
    pub status: u32,
    /// Sum of [`WIRE_TCP`], [`WIRE_INVITE`] and [`WIRE_HANDLED`].
    pub flags: u32,
    /// [`Challenged::challenges`].
    pub challenges: u32,
    /// [`Challenged::answered`].
    pub answered: u32,
    /// [`Challenged::refused`].
    pub refused: u32,
    /// [`Challenged::accepted`].
    pub accepted: u32,
    /// The lengths of `session` and `account` in bytes, the latter in the upper half.
    pub lengths: u32,
    /// The beginning of the Call-ID, which the client chose.
    pub session: [u64; SESSION_WORDS],
    /// What follows `sip:` in the From, which the client chose.
    pub account: [u64; ACCOUNT_WORDS],
}

/// Words of a Call-ID in an event.
pub const SESSION_WORDS: usize = 16;
/// Words of an account in an event.
pub const ACCOUNT_WORDS: usize = 8;

/// The response was sent over TCP.
pub const WIRE_TCP: u32 = 1;
/// The request was an INVITE.
pub const WIRE_INVITE: u32 = 2;
/// A provisional response preceded it.
pub const WIRE_HANDLED: u32 = 4;

/// A challenge was sent.
pub const WIRE_CHALLENGED: u32 = 1;
/// The answer to a challenge was refused.
pub const WIRE_REFUSED: u32 = 2;
/// A REGISTER that answered a challenge was accepted.
pub const WIRE_ACCEPTED: u32 = 3;
/// A call that answered a challenge rings, or was answered.
pub const WIRE_CALLED: u32 = 4;

/// Which packets are captured. All zero for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Capture {
    /// Their reasons: a sum of [`Code::bit`](crate::decision::Code::bit).
    pub reasons: u64,
    /// Until when, in nanoseconds of `CLOCK_MONOTONIC`: a capture that is killed ends by itself.
    pub until: u64,
    /// The network of their sources: [`Address::words`](crate::address::Address::words).
    pub network: [u64; 2],
    /// Its mask; zero for any source, and packets without one.
    pub mask: [u64; 2],
    /// How many packets were to be captured. The program adds to it.
    pub matched: u64,
}

/// The beginning of a packet, for `ringfence capture`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Captured {
    /// When it was judged, in nanoseconds of `CLOCK_MONOTONIC`.
    pub time: u64,
    /// The index of its interface.
    pub interface: u32,
    /// [`Code::number`](crate::decision::Code::number) of its reason.
    pub reason: u32,
    /// Its length in bytes.
    pub length: u32,
    /// How many bytes of it follow.
    pub head_len: u32,
    /// Whether it was dropped: 1, or 0.
    pub dropped: u32,
    /// Always zero.
    pub padding: u32,
    /// The frame from its Ethernet header on.
    pub head: [u8; CAPTURED_BYTES],
}

/// The most bytes of a packet in [`Captured`].
pub const CAPTURED_BYTES: usize = 512;

/// Counts of what [`EGRESS_PROGRAM`] has changed in [`maps::KNOWN`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Learning {
    /// Peers that were entered.
    pub learned: u64,
    /// How often the end of a peer was moved.
    pub refreshed: u64,
    /// How often there was no room for a peer, in total or in its network.
    pub full: u64,
}

/// A source that the program itself has banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Flooder {
    /// When the ban ends.
    pub until: u64,
    /// Packets that were dropped.
    pub packets: u64,
}

/// The uses of a port: the first packets of TCP connections, or UDP packets that are no replies. The
/// first of each pair is about private addresses
/// ([`is_private`](crate::address::Address::is_private)), the second about all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Visits {
    /// Since when they are recorded. Written by the controller.
    pub since: u64,
    /// The bucket of new networks.
    pub bucket: u64,
    /// The number of networks that were entered in [`maps::VISITORS`]. One that was evicted and entered
    /// again counts twice.
    pub networks: [u64; 2],
    /// The time of the last use.
    pub last: [u64; 2],
    /// Packets of networks that were not entered, because too many came at once.
    pub missed: [u64; 2],
}

/// A network that uses a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Visitor {
    /// The time of the first use.
    pub first: u64,
    /// The time of the last use, which is updated at most once in [`VISIT_REFRESH`](crate::limits::VISIT_REFRESH).
    pub last: u64,
}

/// A User-Agent whose packets are dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Signature {
    /// Packets that matched it.
    pub packets: u64,
}

/// One counter of one CPU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Counter {
    /// The number of packets.
    pub packets: u64,
    /// The bytes of those packets, from the Ethernet header on.
    pub bytes: u64,
}

/// The output of [`CLOCK_PROGRAM`], at the start of its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Clocks {
    /// `jiffies64`.
    pub jiffies: u64,
    /// `CLOCK_MONOTONIC_COARSE` in nanoseconds.
    pub monotonic: u64,
}

/// An event for the controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Event {
    /// The time.
    pub time: u64,
    /// The [`Reason`](crate::decision::Reason) of the packet.
    pub reason: u32,
    /// The interface, as the slot of the program.
    pub slot: u32,
    /// The packet's source: [`Address::words`](crate::address::Address::words).
    pub source: [u64; 2],
}

const _: () = assert!(size_of::<Config>() == 96 + 31 * 16);
const _: () = assert!(size_of::<Configs>() == 8 + 2 * size_of::<Config>());
const _: () = assert!(size_of::<BanEntry>() == 24);
const _: () = assert!(size_of::<NetworkEntry>() == 48);
const _: () = assert!(size_of::<SharedBucket>() == 64);
const _: () = assert!(size_of::<Peer>() == 48);
const _: () = assert!(size_of::<Challenged>() == 120);
const _: () = assert!(size_of::<WireEvent>() == 248);
const _: () = assert!(size_of::<Beat>() == 16);
const _: () = assert!(size_of::<Learning>() == 24);
const _: () = assert!(size_of::<Visits>() == 64);
const _: () = assert!(size_of::<Visitor>() == 16);
const _: () = assert!(size_of::<Counter>() == 16);
const _: () = assert!(size_of::<Event>() == 32);

/// The position of a port's classes: the block, and the byte in it.
#[inline(always)]
pub fn port_place(tcp: bool, port: u16) -> (u32, usize) {
    let half = if tcp { PORT_BLOCKS / 2 } else { 0 };
    (half | u32::from(port >> 6), usize::from(port & 63))
}

/// The index of a reason's counter for an interface, in [`maps::COUNTERS`].
#[inline(always)]
pub fn counter_index(slot: u32, would: bool, code: Code) -> u32 {
    let bank = if would { REASON_SLOTS } else { 0 };
    slot.wrapping_mul(COUNTERS_PER_INTERFACE).wrapping_add(bank).wrapping_add(code.number())
}

#[cfg(feature = "user")]
mod pod {
    use super::{
        BanEntry, Beat, Challenged, Config, Configs, Counter, Flooder, Learning, NetworkEntry,
        Peer, SharedBucket, Signature, Visitor, Visits,
    };

    // SAFETY: repr(C), no padding (the sizes above are the sums of the fields), any bits valid.
    unsafe impl aya::Pod for Config {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Configs {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Challenged {}
    // SAFETY: as above.
    unsafe impl aya::Pod for BanEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for NetworkEntry {}
    // SAFETY: as above.
    unsafe impl aya::Pod for SharedBucket {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Peer {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Beat {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Learning {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flooder {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Signature {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Visits {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Visitor {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Counter {}
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernel() {
        let others = [maps::SCRATCH, maps::EVENT_RATE, PROGRAM, EGRESS_PROGRAM, CLOCK_PROGRAM];
        for name in maps::PINNED.iter().chain(&others) {
            assert!(name.len() <= 15, "{name}");
        }
    }

    #[test]
    fn every_port_has_its_place() {
        let (block, byte) = port_place(true, u16::MAX);
        assert_eq!((block + 1, byte + 1), (PORT_BLOCKS, PORTS_PER_BLOCK));
        assert_eq!(port_place(false, 5060), (79, 4));
        assert_eq!(port_place(true, 0), (PORT_BLOCKS / 2, 0));
        assert_eq!(port_place(true, 5061), (PORT_BLOCKS / 2 + 79, 5));
        assert_eq!([63, 64].map(|port| port_place(false, port)), [(0, 63), (1, 0)]);
    }

    #[test]
    fn a_visitor_is_a_network_and_a_port() {
        let shown = |text: &str, tcp, port| {
            let source = Address::from(text.parse::<core::net::IpAddr>().unwrap());
            let (network, length, port) = visitor_of(visitor_key(source, visited_key(tcp, port)));
            (core::net::IpAddr::from(network), length, port)
        };
        for (text, tcp, port, network, length) in [
            ("192.0.2.66", true, 5432, "192.0.2.0", 24),
            ("255.255.255.255", false, u16::MAX, "255.255.255.0", 24),
            ("0.0.0.1", true, u16::MAX, "0.0.0.0", 24),
            ("2001:db8:1:2:3::4", true, 22, "2001:db8:1::", 48),
            ("::1", false, 69, "::", 48),
        ] {
            let key = u32::from(port) + if tcp { 0x1_0000 } else { 0 };
            assert_eq!(shown(text, tcp, port), (network.parse().unwrap(), length, key), "{text}");
        }
    }

    #[test]
    fn what_was_sent_is_found_by_its_address_and_its_port() {
        let words = [0x1122_3344_5566_7788, 0x99aa_bbcc_ddee_ff00];
        let key = asked_key(Address::from_words(words), 5060);
        assert_eq!(key, [words[0], words[1], 5060]);
    }

    #[test]
    fn every_bucket_has_its_place() {
        assert_eq!(STREAM_BUCKETS, 32_768 + 32_768 + 8192);
        assert_eq!([SEARCHES, EXCESS, ADMITTED], [7; 3]);
        assert_eq!([CONNECTED_BYTES, UNCONNECTED_BYTES, NONCE_SEARCHES], [8, 9, 10]);
    }

    #[test]
    fn every_counter_has_its_place() {
        let last = Code::from_number(REASON_SLOTS - 1);
        let first = Code::from_number(0);
        assert_eq!(counter_index(0, false, first), 0);
        assert_eq!(counter_index(0, false, last), 63);
        assert_eq!(counter_index(0, true, first), 64);
        assert_eq!(counter_index(0, true, last), 127);
        assert_eq!(counter_index(1, false, first), 128);
        assert_eq!(counter_index(2, true, last), COUNTERS_PER_INTERFACE * 3 - 1);
    }
}

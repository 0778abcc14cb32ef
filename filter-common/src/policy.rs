//! The decision about a packet: the lookups, their order, and which of them wins.
//!
//! The cheapest and most decisive lookups come first. Trust comes last, and only for a packet that would
//! be dropped: it wins over everything, and costs other packets nothing.
//!
//! Must never know how a map works.

pub mod answers;
pub mod bans;
pub mod exposure;
mod geo;
mod levels;
pub mod stages;
pub mod stream;
mod task;
pub mod tiers;

pub use self::stages::Stages;
pub use self::task::Task;
use crate::abi::{
    ABI_VERSION, Config, FLAG_DISABLED, FLAG_DRY_RUN, FLAG_EXPOSURE_DRY_RUN, FLAG_GUARDED,
    FLAG_SIGNATURES, PORT_GUARDED, SCOPE_ALL, SCOPE_SIP,
};
use crate::address::Address;
use crate::ban_cache;
use crate::ban_table;
use crate::decision::{Code, Reason, bits};
use crate::gate;
use crate::greylist::Cells;
use crate::packet::{self, Headers, Layer4, Packet, Unparsed, Window, Words};
use crate::rate::Bucket;
use crate::sip::{Agent, Fields};
use crate::wire::{Message, Record};

/// The state besides the packet: the BPF maps in the kernel, a model of them on the host.
pub trait Tables {
    /// A line of the table of banned IPv4 addresses.
    type Line<'a>: ban_table::Shared
    where
        Self: 'a;
    /// A line of the cache of banned IPv6 addresses.
    type CacheLine<'a>: ban_cache::Shared
    where
        Self: 'a;
    /// A ban of an IPv6 address.
    type Ban<'a>: BanSlot
    where
        Self: 'a;
    /// The bans in force for a network.
    type Network<'a>: NetworkSlot
    where
        Self: 'a;
    /// A bucket of a limit.
    type Bucket<'a>: Bucket
    where
        Self: 'a;
    /// A known peer.
    type Peer<'a>: PeerSlot
    where
        Self: 'a;
    /// A line of the greylist.
    type Cells<'a>: Cells
    where
        Self: 'a;

    /// An address to which the host has sent a challenge.
    type Challenged<'a>: Record
    where
        Self: 'a;

    /// The configuration.
    fn config(&self) -> Option<&Config>;
    /// The current time, in nanoseconds of `CLOCK_MONOTONIC` with the precision of a tick.
    fn now(&self, config: &Config) -> u64;
    /// Until when the filter counts as attended, on the clock of [`now`](Self::now).
    fn attended_until(&self) -> u64;
    /// A word of the gate of bans.
    fn presence(&self, word: u32) -> u64;
    /// A line of the table of banned IPv4 addresses.
    fn ban_line(&self, line: u32) -> Option<Self::Line<'_>>;
    /// Of which flood the last packets were; the next one probably is too. It has no effect on a decision.
    fn expects(&self) -> Flood {
        Flood::None
    }
    /// Notes of which flood a packet may be, for [`expects`](Self::expects).
    fn note(&self, _flood: Flood) {}
    /// A line of the cache of banned IPv6 addresses.
    fn cache_line(&self, line: u32) -> Option<Self::CacheLine<'_>>;
    /// The ban of exactly this IPv6 address, whether or not it is in force.
    fn ban_v6(&self, source: Address) -> Option<Self::Ban<'_>>;
    /// The entry of the longest network around this address.
    fn network(&self, source: Address) -> Option<Self::Network<'_>>;
    /// A word of the gate of trust.
    fn trust_gate(&self, word: u32) -> u64;
    /// Whether this is the loopback interface, whose packets come from the host itself.
    fn is_loopback(&self) -> bool;
    /// Whether the address is in a trusted network.
    fn trusted(&self, source: Address) -> bool;
    /// The classes of a port, a sum of `SCOPE_*`.
    fn port_classes(&self, tcp: bool, port: u16) -> u8;
    /// The sources to which a guarded port is open, a sum of `OPEN_TO_*`.
    fn guards(&self, tcp: bool, port: u16) -> u8;
    /// When the host last sent something from this guarded UDP port to this address.
    fn asked(&self, other: Address, port: u16) -> Option<u64>;
    /// Records that a source uses this port, if the port has [`RECORDED`](crate::abi::RECORDED). Only the
    /// controller reads this.
    fn visited(&self, _source: Address, _tcp: bool, _port: u16, _now: u64) {}
    /// A bucket of a source.
    fn source_bucket(&self, line: u32, place: usize) -> Option<Self::Bucket<'_>>;
    /// A bucket of a network of sources.
    fn prefix_bucket(&self, line: u32, place: usize) -> Option<Self::Bucket<'_>>;
    /// A bucket of bytes over TCP.
    fn stream_bucket(&self, place: u32) -> Option<Self::Bucket<'_>>;
    /// A bucket of all unknown sources.
    fn shared_bucket(&self, place: usize) -> Option<Self::Bucket<'_>>;
    /// A word of the table of shut-out IPv4 networks.
    fn geo_v4(&self, word: u32) -> u64;
    /// Whether the longest of the IPv6 networks around an address is shut out.
    fn geo_v6(&self, source: Address) -> bool;
    /// Counts a packet that would have dropped for this reason, and is judged by what follows.
    fn would_drop(&self, reason: Reason);
    /// A word of the gate of known peers.
    fn known_gate(&self, word: u32) -> u64;
    /// The peer with this address, known or no longer.
    fn peer(&self, source: Address) -> Option<Self::Peer<'_>>;
    /// Whether the program itself has banned this source (in IPv6 a /64). Counts the packet.
    fn flooder(&self, source: Address, now: u64) -> bool;
    /// Bans a source (in IPv6 a /64) until then. If there is no room, the source is still limited.
    fn block(&self, source: Address, until: u64);
    /// Whether the host has a TCP connection with the source of this segment, by addresses and ports. The
    /// source is then not forged.
    fn connected(&self, headers: &Headers) -> bool;
    /// A line of the greylist.
    fn cells(&self, line: u32) -> Option<Self::Cells<'_>>;
    /// Whether packets with this User-Agent are dropped. Counts the packet.
    fn signature(&self, agent: &Agent) -> bool;
    /// Records that a packet of a source passes to SIP at `now`. Only the daemon reads this.
    fn saw(&self, _hash: u64, _now: u64) {}
    /// What is known about an address to which the host has sent a challenge.
    fn challenged(&self, source: Address) -> Option<Self::Challenged<'_>>;
    /// A line of requests that may be retransmitted.
    fn retries(&self, line: u32) -> Option<Self::Cells<'_>>;
    /// A bucket of a source's retransmissions.
    fn retry_bucket(&self, place: u32) -> Option<Self::Bucket<'_>>;
    /// Reads the first `bytes` bytes of the memory of [`with_window`](Self::with_window).
    fn read_message(&self, bytes: usize, seed: u64) -> Message;
    /// Memory for [`Packet::copy`].
    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R>;
    /// Does this many steps of [`sip::search`](crate::sip::search) over that memory. The kernel runs the loop:
    /// unrolled, it would have more instructions than the verifier follows.
    fn search_steps(&self, steps: usize) -> Fields;
    /// The User-Agent at this place of that memory.
    fn agent(&self, at: u64) -> Option<Agent>;
}

/// A ban of an IPv6 address, in its table.
pub trait BanSlot {
    /// When it ends, in units.
    fn until(&self) -> u32;
    /// Sum of the `SCOPE_*`.
    fn scopes(&self) -> u8;
    /// The origin of the ban: a number of the daemon's, or `ORIGIN_OWN`.
    fn origin(&self) -> u8;
    /// Counts this many packets.
    fn hit(&self, packets: u64);
}

/// The bans in force for a network, in their table.
pub trait NetworkSlot {
    /// When the ban of the scope with this bit ends, in units.
    fn end(&self, bit: usize) -> u32;
    /// Counts a packet.
    fn hit(&self);
}

/// A known peer, in its table.
pub trait PeerSlot {
    /// A bucket in the entry.
    type Bucket: Bucket;
    /// When it is forgotten.
    fn until(&self) -> u64;
    /// Its bucket.
    fn bucket(&self) -> Self::Bucket;
    /// The bucket of packets over its limit.
    fn excess(&self) -> Self::Bucket;
    /// When its short ban ends.
    fn blocked_until(&self) -> u64;
    /// Bans it.
    fn block(&self, until: u64);
    /// Counts a packet.
    fn count(&self, passed: bool);
}

/// A flood of which packets may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Flood {
    /// None.
    #[default]
    None,
    /// One from banned addresses. The next source is looked up without a look at the gate.
    Banned,
    /// One of REGISTER requests beyond the shared budget. The line of the greylist of the next source is loaded at
    /// once, while its bits in the gate of bans are.
    Greylisted,
}

impl Flood {
    /// Of which flood a packet with this code may be.
    #[inline(always)]
    fn of(code: Code) -> Self {
        if code.bit() & bits(&[Reason::Banned, Reason::Spoofed]) != 0 {
            Self::Banned
        } else if code.is(Reason::Greylist) {
            Self::Greylisted
        } else {
            Self::None
        }
    }
}

/// A reason, and the source of the packet if it was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why the packet passes or is dropped.
    pub code: Code,
    /// The packet's source.
    pub source: Option<Address>,
    /// The offset after the IP packet; zero if none was read.
    pub end: usize,
    /// Whether it passes although `code` drops, because drops are only counted.
    pub dry_run: bool,
}

/// Whether a daemon is running. While none is, the host's addresses and the trusted and known ones may be
/// out of date. The program then makes no new bans, does not limit single sources or networks, and treats
/// no packet as a forgery of the host's own address. The limit that all unknown sources share still
/// protects Asterisk.
#[inline(always)]
fn is_attended<T: Tables + ?Sized>(tables: &T, now: u64) -> bool {
    now < tables.attended_until()
}

/// The reasons of packets that prove to the daemon that a source exists.
const SEEN: u64 = bits(&[
    Reason::Register,
    Reason::RegisterCredentials,
    Reason::Request,
    Reason::NotSip,
    Reason::Known,
    Reason::Admitted,
    Reason::Answered,
]);

/// What `judge` says of a known peer that is over its limit.
const OVER_AS_PEER: u64 = bits(&[Reason::KnownLimit, Reason::Flooding]);

/// Decides about a packet: the first of these that applies.
///
/// 1. It is not read, or its headers are not ones that Linux takes.
/// 2. By its source and port: a forged source, a ban, no SIP port, closed SIP, a known peer (`judge`).
/// 3. By whom a guarded port is open to ([`exposure::admit`]).
/// 4. By the limits of unknown sources: bytes over TCP, packets of a class, the greylist (`unknown`).
/// 5. A packet over a limit of its source, or from a throttled one, passes if it answers a challenge that
///    was sent there, or is retransmitted ([`answers::admit`]).
///
/// A trusted source passes even if one of these would drop it, except at a port that is closed to
/// everybody.
#[inline(always)]
pub fn decide<S: Stages>(packet: &impl Packet, stages: &S) -> Decision {
    let tables = stages.tables();
    let Some(config) = tables.config().filter(|config| config.abi_version == ABI_VERSION) else {
        let code = Reason::NotConfigured.into();
        return Decision { code, source: None, end: 0, dry_run: false };
    };
    let without_source = |reason: Reason| {
        let code = reason.into();
        Decision { code, source: None, end: 0, dry_run: is_dry_run(code, config) }
    };
    let words = match packet::plain_udp(packet) {
        Some(words) => words,
        None => match stages.parse(packet) {
            Ok(words) => words,
            Err(Unparsed::NotIp) => return without_source(Reason::NotIp),
            Err(Unparsed::Malformed) => return without_source(Reason::Malformed),
        },
    };
    let headers = Headers::from_words(words);
    let flood = tables.expects();
    tiers::fetch(headers.source, flood, config, tables);
    // No stage calls another, because the kernel's stack has 512 bytes.
    let mut code = judge(&headers, flood, config, stages);
    if code.bit() & OVER_AS_PEER != 0
        && packet::is_tcp(words)
        && stages.stream_of_peer(packet, words)
    {
        code = Reason::Known.into();
    }
    if let Some(open) = code.as_guarded() {
        code = stages.admit(words, open);
    }
    if code == Code::UNKNOWN {
        code = unknown(packet, words, config, stages);
    }
    if answers::is_watched(headers.source, code, config, tables) {
        code = stages.answered(packet, words, code);
    }
    tables.note(Flood::of(code));
    if code.drops() && spared(code, headers.source, config, stages) {
        code = Reason::Trusted.into();
        // A ban may have decided before its port was looked up.
        if stages.admit(words, code) == Code::SHUT {
            code = Code::SHUT;
        }
    }
    if code == Code::SHUT {
        code = Reason::ClosedPort.into();
    }
    if code.bit() & SEEN != 0 {
        tables.saw(headers.source.hash(config.seed), tables.now(config));
    }
    let dry_run = is_dry_run(code, config);
    Decision { code, source: Some(headers.source), end: headers.end, dry_run }
}

/// Whether drops for this reason are only counted.
#[inline(always)]
fn is_dry_run(code: Code, config: &Config) -> bool {
    let mut flags = FLAG_DRY_RUN | FLAG_DISABLED;
    if code.is(Reason::ClosedPort) {
        flags |= FLAG_EXPOSURE_DRY_RUN;
    }
    code.drops() && config.flags & flags != 0
}

/// The reason of a packet to a SIP port from an unknown source.
#[inline(always)]
fn unknown(packet: &impl Packet, words: Words, config: &Config, stages: &impl Stages) -> Code {
    let mut code = if packet::is_tcp(words) {
        stages.stream(packet, words)
    } else {
        tiers::flooded(packet, words, config, stages.tables())
    };
    if code == Code::UNKNOWN {
        code = limited(packet, words, config, stages);
    }
    if code == Code::OVERLOAD {
        code = stages.greylisted(packet, words);
    }
    if let Some(otherwise) = code.as_flood() {
        code = if stages.flood(packet, words) { Reason::Flooding.into() } else { otherwise };
    }
    code
}

/// The reason by the limits of a packet's class, and by its User-Agent if those let it pass.
#[inline(always)]
fn limited(packet: &impl Packet, words: Words, config: &Config, stages: &impl Stages) -> Code {
    let mut task = stages.classify(packet, words);
    let decided = task.code();
    if decided != Code::LIMITED {
        return decided;
    }
    let message = task.message(words);
    let mut found = None;
    if task.wants_search() {
        let fields = stages.search(packet, message);
        if fields.credentials != 0 {
            task = task.with_credentials();
        }
        found = Some(fields);
    }
    let [first, second, ..] = words;
    let code = stages.limit([first, second], task);
    if code.bit() & tiers::SIGNED != 0 && config.flags & FLAG_SIGNATURES != 0 {
        let fields = match found {
            Some(fields) => fields,
            None => stages.search(packet, message),
        };
        if fields.agent != 0 && stages.is_scanner(fields.agent) {
            return Reason::Signature.into();
        }
    }
    code
}

/// The reason, except for trust, by a packet's source and port; or [`Code::UNKNOWN`].
#[inline(always)]
fn judge(headers: &Headers, flood: Flood, config: &Config, stages: &impl Stages) -> Code {
    let tables = stages.tables();
    let source = headers.source;
    let (classes, may_be_sip) = match headers.layer4 {
        Layer4::Udp { port, .. } => sip_port(tables.port_classes(false, port)),
        Layer4::Tcp { port, .. } => sip_port(tables.port_classes(true, port)),
        // The port is unknown, so every ban applies: a banned source must not get through by
        // fragmenting.
        Layer4::LaterFragment => (!SCOPE_ALL, false),
        // Nor by headers that the kernel follows and this program does not.
        Layer4::Unknown => (!SCOPE_ALL, true),
        Layer4::Other => (0, false),
    };
    if source.is_martian() {
        return Reason::Spoofed.into();
    }
    let now = tables.now(config);
    let mut throttled = false;
    if let Some(reason) = bans::banned(source, classes, flood, config, stages, now) {
        if matches!(reason, Reason::Throttled) {
            throttled = true;
        } else if !matches!(reason, Reason::Spoofed) || is_attended(tables, now) {
            return reason.into();
        }
    }
    let code = if may_be_sip {
        if source.is_unspecified() {
            return Reason::Spoofed.into();
        }
        let code = tiers::sip(source, config, tables, now);
        if throttled && code == Code::UNKNOWN { Reason::Throttled.into() } else { code }
    } else {
        match headers.layer4 {
            Layer4::LaterFragment => return Reason::Fragment.into(),
            Layer4::Other | Layer4::Unknown => return Reason::OtherProtocol.into(),
            Layer4::Udp { .. } | Layer4::Tcp { .. } => Reason::OtherPort.into(),
        }
    };
    // Only repeated for a trusted packet: for others, the port has been looked up here.
    let guarded = match headers.layer4 {
        Layer4::Unknown => config.flags & FLAG_GUARDED != 0,
        Layer4::Udp { .. } | Layer4::Tcp { .. } | Layer4::LaterFragment | Layer4::Other => {
            classes & PORT_GUARDED != 0
        }
    };
    if guarded && !code.drops() && !code.is(Reason::Known) { Code::guarded(code) } else { code }
}

/// The classes of a port, and whether it is a SIP port.
#[inline(always)]
fn sip_port(classes: u8) -> (u8, bool) {
    (classes, classes & SCOPE_SIP != 0)
}

/// Whether a packet that would be dropped passes all the same: its source is trusted, or for one that is
/// spoofed, it comes from the host itself.
#[inline(always)]
fn spared(code: Code, source: Address, config: &Config, stages: &impl Stages) -> bool {
    if code.is(Reason::Spoofed) {
        stages.tables().is_loopback()
    } else {
        trusted(source, config, stages)
    }
}

/// Whether a source is trusted. The trie is only asked if the gate says that it may be.
#[inline(always)]
fn trusted(source: Address, config: &Config, stages: &impl Stages) -> bool {
    let tables = stages.tables();
    let bit = |place: gate::Place| tables.trust_gate(place.word).wrapping_shr(place.shift) & 1;
    let may_be = match source.v4_word() {
        Some(word) => bit(gate::trust_v4(u32::from_be(word) >> 15)),
        None => {
            bit(gate::trust_v6(source, config.seed))
                | bit(gate::trust_v6_network(source, config.seed))
        }
    };
    may_be != 0 && stages.in_trusted_network(source)
}

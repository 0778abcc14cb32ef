//! Learns known peers from outgoing packets: peers that Asterisk has authenticated, and peers that its
//! administrator has configured. It also records to whom TCP services send, because these use them.
//!
//! From an outgoing frame it determines the address, if any, that becomes a known peer. The frame itself
//! is never changed.
//!
//! Only two things are proof:
//!
//! - **`200 OK` to a REGISTER, with a binding in it.** Asterisk sends one only to an authenticated
//!   client. A `CSeq` with `REGISTER` is not enough: it is copied from the request, and an OPTIONS is
//!   answered with `200 OK` to anybody if guests are allowed. So there must also be a Contact with an
//!   `expires` that is not zero, which Asterisk writes into no other response. A client that removes a
//!   binding, or only queries them when there are none, gains nothing.
//! - **An OPTIONS or a REGISTER of Asterisk's own.** Asterisk sends them to the contacts that it monitors
//!   (`qualify_frequency`), which are configured or were registered with a password, and to the
//!   registrars at which it is configured to register. No request from outside makes it send one
//!   elsewhere.
//!
//! Not proof: a `200 OK` to INVITE, SUBSCRIBE or OPTIONS, because guests (the endpoint `anonymous`) and
//! endpoints that are identified only by their address, which can be forged, get it without a password;
//! nor an INVITE of Asterisk's own, whose destination follows a redirection or a transfer.
//!
//! Over TCP a segment may begin in the middle of a message, in text that came from the peer, which
//! chooses the position with its window. A message is therefore recognised only by its first line, the
//! CRLF after it and the `Via` after that, all as Asterisk writes them. PJSIP copies a lone carriage
//! return in a quoted name, but accepts no name with a line feed, and leaves `%0d%0a` escaped (tried with
//! Asterisk 22.10.1).
//!
//! Must never treat as proof what an unauthenticated client can provoke.

use crate::abi::{ABI_VERSION, Config, PORT_GUARDED, RECORDED, SCOPE_SIP};
use crate::address::Address;
use crate::crowd::{self, Crowd};
use crate::gate;
use crate::limits::REPLY_REFRESH;
use crate::packet::{Headers, Layer4, Packet, Payload, Place, Window};
use crate::sip::{byte_at, word_at};

/// The end of a peer is moved only by at least this much, not for every message.
pub const REFRESH: u64 = 60 * 1_000_000_000;

/// A packet from a port to an address: a datagram with a payload, or any segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Leaving {
    /// The destination.
    pub destination: Address,
    /// Whether it is a TCP segment; otherwise a UDP datagram.
    pub tcp: bool,
    /// Its source port.
    pub port: u16,
    /// The offset of its layer 4 header.
    pub header: usize,
    /// The payload.
    pub payload: Payload,
}

/// The destination and the payload of a packet; `None` without ports, and for a datagram without a payload.
#[inline(always)]
pub fn leaving(packet: &impl Packet, headers: &Headers) -> Option<Leaving> {
    let (tcp, payload, header) = match headers.layer4 {
        Layer4::Udp { payload, .. } => (false, payload, payload.start.wrapping_sub(UDP_HEADER)),
        Layer4::Tcp { payload, start, .. } => (true, payload, start),
        Layer4::LaterFragment | Layer4::Other | Layer4::Unknown => return None,
    };
    if !tcp && is_empty(payload) {
        return None;
    }
    let port = u16::from_be_bytes(packet.array(header)?);
    let destination = if headers.source.v4_word().is_some() {
        Address::v4(packet.array(headers.network.wrapping_add(16))?)
    } else {
        let first = packet.array(headers.network.wrapping_add(24))?;
        Address::v6(first, packet.array(headers.network.wrapping_add(32))?)
    };
    Some(Leaving { destination, tcp, port, header, payload })
}

#[inline(always)]
fn is_empty(payload: Payload) -> bool {
    payload.start >= payload.end
}

/// RFC 768.
const UDP_HEADER: usize = 8;

/// What every reader of outgoing packets needs besides the packet.
pub trait Outgoing {
    /// The configuration.
    fn config(&self) -> Option<&Config>;
    /// The current time, in nanoseconds of `CLOCK_MONOTONIC` with the precision of a tick.
    fn now(&self, config: &Config) -> u64;
    /// Memory for [`Packet::copy`].
    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R>;
}

/// The state besides the packet: the BPF maps in the kernel, a model of them on the host.
pub trait Peers: Outgoing {
    /// The classes of a port, a sum of `SCOPE_*`.
    fn port_classes(&self, tcp: bool, port: u16) -> u8;
    /// The sources to which a guarded port is open, a sum of `OPEN_TO_*`, and [`RECORDED`].
    fn guards(&self, tcp: bool, port: u16) -> u8;
    /// Whether this is the loopback interface.
    fn is_loopback(&self) -> bool;
    /// Records that an address uses this port.
    fn visited(&self, by: Address, tcp: bool, port: u16, now: u64);
    /// When the host last sent something from this UDP port to this address.
    fn asked(&self, other: Address, port: u16) -> Option<u64>;
    /// Records that the host sent something at `now`.
    fn ask(&self, other: Address, port: u16, now: u64);
    /// Calls [`read`] for the first `bytes` bytes of that memory, one after the other, until it has seen
    /// enough.
    fn read_all(&self, bytes: usize, reading: Reading) -> Reading;
    /// When the peer with this address is forgotten, if it has an entry.
    fn until(&self, peer: Address) -> Option<u64>;
    /// Moves the end of a peer that has an entry; everything else in it is kept.
    fn prolong(&self, peer: Address, until: u64);
    /// Sets the bit of a peer in the gate of known peers, unless it is set.
    fn announce(&self, place: gate::Place);
    /// Creates an entry. Returns false if there is no room.
    fn insert(&self, peer: Address, until: u64) -> bool;
    /// The number of peers that are counted at a place of the crowds.
    fn crowd(&self, place: u32) -> u64;
    /// Counts one more peer there.
    fn join(&self, place: u32);
}

/// The effect of an outgoing packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nothing.
    Nothing,
    /// There is a new peer.
    Learned,
    /// A peer stays known for longer.
    Refreshed,
    /// There was no room for a new peer, in total or in its network.
    Full,
}

/// Whether a packet must be read: it has a payload, and leaves a SIP port.
#[inline(always)]
pub fn is_watched(leaving: &Leaving, peers: &(impl Peers + ?Sized)) -> bool {
    let configured = |config: &Config| config.abi_version == ABI_VERSION && config.known_for != 0;
    !is_empty(leaving.payload)
        && peers.port_classes(leaving.tcp, leaving.port) & SCOPE_SIP != 0
        && peers.config().is_some_and(configured)
}

/// Records the addresses to which the host sends from a guarded UDP port, so that their replies pass.
#[inline(always)]
pub fn note_asked(leaving: &Leaving, peers: &(impl Peers + ?Sized)) {
    let Leaving { destination, tcp: false, port, .. } = *leaving else {
        return;
    };
    if peers.port_classes(false, port) & PORT_GUARDED == 0 {
        return;
    }
    let Some(config) = peers.config() else {
        return;
    };
    let now = peers.now(config);
    let is_fresh = |asked: u64| now < asked.saturating_add(REPLY_REFRESH);
    if !peers.asked(destination, port).is_some_and(is_fresh) {
        peers.ask(destination, port, now);
    }
}

/// The offset of the flags in a TCP header, and the flag that ends a connection (RFC 9293).
const TCP_FLAGS: usize = 13;
const TCP_FIN: u8 = 1;

/// Whether the packet may show that somebody uses a service: it leaves a guarded TCP port.
#[inline(always)]
pub fn may_serve(leaving: &Leaving, peers: &(impl Peers + ?Sized)) -> bool {
    leaving.tcp && peers.port_classes(true, leaving.port) & PORT_GUARDED != 0
}

/// Records the destination as a user of the port, if users of the port are recorded and the segment has data
/// or ends the connection: the host sends these only after a handshake, which nobody completes in the name of
/// another.
#[inline(always)]
pub fn note_visit(packet: &impl Packet, leaving: &Leaving, peers: &(impl Peers + ?Sized)) {
    let Leaving { destination, port, header, payload, .. } = *leaving;
    if peers.guards(true, port) & RECORDED == 0 || peers.is_loopback() {
        return;
    }
    let Some([flags]) = packet.array(header.wrapping_add(TCP_FLAGS)) else {
        return;
    };
    if is_empty(payload) && flags & TCP_FIN == 0 {
        return;
    }
    if let Some(config) = peers.config() {
        peers.visited(destination, true, port, peers.now(config));
    }
}

/// Makes the destination of a packet a known peer if the payload is proof.
#[inline(always)]
pub fn learn<P: Peers + ?Sized>(
    packet: &impl Packet,
    destination: Address,
    message: Place,
    peers: &P,
) -> Outcome {
    let message = Payload::from(message);
    let begun = peers.with_window(|window| {
        let copied = packet.copy(message.start, window);
        let len = copied.min(message.end.saturating_sub(message.start));
        Reading::begin(window, len).map(|reading| (len, reading))
    });
    let Some(Some((len, reading))) = begun else {
        return Outcome::Nothing;
    };
    if !peers.read_all(len, reading).is_proof() {
        return Outcome::Nothing;
    }
    let Some(config) = peers.config() else {
        return Outcome::Nothing;
    };
    let until = peers.now(config).wrapping_add(config.known_for);
    let outcome = match peers.until(destination) {
        Some(old) if until <= old.saturating_add(REFRESH) => Outcome::Nothing,
        Some(_) => {
            peers.prolong(destination, until);
            Outcome::Refreshed
        }
        None => enter(destination, until, config.seed, peers),
    };
    // Every time, and after the entry exists, so that a bit that the controller has cleared meanwhile is
    // set again.
    if outcome != Outcome::Full {
        peers.announce(gate::known(destination, config.seed));
    }
    outcome
}

/// Enters a new peer, if there is room for it, also in its network.
#[inline(always)]
fn enter<P: Peers + ?Sized>(peer: Address, until: u64, seed: u64, peers: &P) -> Outcome {
    let crowds = crowd::of(peer, seed);
    let is_crowded = |[narrow, wide]: [Crowd; 2]| {
        peers.crowd(narrow.place) >= narrow.most || peers.crowd(wide.place) >= wide.most
    };
    if crowds.is_some_and(is_crowded) || !peers.insert(peer, until) {
        return Outcome::Full;
    }
    if let Some([narrow, wide]) = crowds {
        peers.join(narrow.place);
        peers.join(wide.place);
    }
    Outcome::Learned
}

/// The state of reading a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Reading {
    /// The last sixteen bytes in lower case, the last one lowest.
    older: u64,
    newer: u64,
    /// The kind of the current line.
    line: u64,
    /// Sum of [`REGISTERS`] and [`BINDS`], or [`PROOF`].
    seen: u64,
}

/// In the request line.
const REQUEST_LINE: u64 = 0;
/// In the first field of a request's header.
const FIRST_FIELD: u64 = 1;
/// In a field of a response's header that does not matter.
const OTHER: u64 = 2;
/// In the `CSeq` of a response.
const CSEQ: u64 = 3;
/// In a Contact of a response.
const CONTACT: u64 = 4;

/// The `CSeq` says REGISTER.
const REGISTERS: u64 = 1;
/// There is a Contact with a binding.
const BINDS: u64 = 2;
/// Both, which is proof.
const PROOF: u64 = REGISTERS | BINDS;

impl Reading {
    /// Starts to read a message of `len` bytes, if it begins with one of the three relevant first lines.
    #[inline(always)]
    pub fn begin(window: &Window, len: usize) -> Option<Self> {
        let ahead = |index| word_at(window, index);
        let via = ahead(2) & mask(4) == u64::from(u32::from_le_bytes(*b"Via:"))
            || ahead(2) & mask(2) == u64::from(u16::from_le_bytes(*b"v:"));
        let first = ahead(0);
        let line = if first == u64::from_le_bytes(*b"SIP/2.0 ") {
            let ok = ahead(1) == u64::from_le_bytes(*b"200 OK\r\n");
            (ok && via).then_some(OTHER)?
        } else if first == u64::from_le_bytes(*b"OPTIONS ")
            || first == u64::from_le_bytes(*b"REGISTER")
        {
            REQUEST_LINE
        } else {
            return None;
        };
        // A shorter one is not a message, and an older one follows it in the window.
        (len >= SHORTEST).then_some(Self { older: 0, newer: 0, line, seen: 0 })
    }

    /// Whether the message proves that its recipient is a peer.
    #[inline(always)]
    pub fn is_proof(&self) -> bool {
        self.seen == PROOF
    }

    /// Whether the last bytes are these, fewer than eight.
    #[inline(always)]
    fn ends_with<const N: usize>(&self, bytes: &[u8; N]) -> bool {
        self.newer & mask(N) == tail(bytes)
    }

    /// Whether the last bytes are `older` and then `newer`.
    #[inline(always)]
    fn ends_with_both<const N: usize>(&self, older: &[u8; N], newer: [u8; 8]) -> bool {
        self.newer == u64::from_be_bytes(newer) && self.older & mask(N) == tail(older)
    }
}

/// The number of bytes that are compared at a message's beginning.
const SHORTEST: usize = 24;

/// At most eight bytes, as the end of [`Reading::newer`].
#[inline(always)]
const fn tail<const N: usize>(bytes: &[u8; N]) -> u64 {
    let mut word = 0;
    let mut at = 0;
    while at < N {
        #[expect(clippy::indexing_slicing, reason = "below its length; computed when compiled")]
        let byte = bytes[at];
        word = word << 8 | byte as u64;
        at = at.wrapping_add(1);
    }
    word
}

/// The lowest `len` bytes of a word, fewer than eight.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 56")]
const fn mask(len: usize) -> u64 {
    1u64.wrapping_shl(len.wrapping_mul(8) as u32).wrapping_sub(1)
}

/// Reads the byte at `at` of a message in `window`. Returns whether that was enough.
///
/// One byte at a time: the kernel calls a function for each, which the verifier follows once.
#[inline(always)]
pub fn read(window: &Window, at: usize, reading: &mut Reading) -> bool {
    let byte = byte_at(window, at).to_ascii_lowercase();
    reading.older = reading.older << 8 | reading.newer >> 56;
    reading.newer = reading.newer << 8 | u64::from(byte);
    match byte {
        b'\n' => line_ended(reading),
        b':' => named(reading),
        b'1'..=b'9' if reading.line == CONTACT && reading.older & mask(3) == tail(b">;e") => {
            if reading.newer >> 8 == tail(b"xpires=") {
                reading.seen |= BINDS;
            }
            reading.is_proof()
        }
        _ => false,
    }
}

/// Handles a line feed; without a carriage return it does not end a line of Asterisk's.
#[inline(always)]
fn line_ended(reading: &mut Reading) -> bool {
    if !reading.ends_with(b"\r\n") {
        return false;
    }
    match reading.line {
        REQUEST_LINE => {
            reading.line = FIRST_FIELD;
            return !reading.ends_with_both(b" s", *b"ip/2.0\r\n");
        }
        CSEQ => {
            if !reading.ends_with_both(b" re", *b"gister\r\n") {
                return true;
            }
            reading.seen |= REGISTERS;
        }
        _ => {}
    }
    reading.line = OTHER;
    // The empty line before the body.
    reading.is_proof() || reading.ends_with(b"\r\n\r\n")
}

/// Handles a colon, which may end the name of a field.
#[inline(always)]
fn named(reading: &mut Reading) -> bool {
    match reading.line {
        FIRST_FIELD => {
            if reading.ends_with(b"\r\nvia:") || reading.ends_with(b"\r\nv:") {
                reading.seen = PROOF;
            }
            return true;
        }
        OTHER => {
            if reading.ends_with(b"\r\ncseq:") {
                reading.line = CSEQ;
            } else if reading.ends_with_both(b"\r\n", *b"contact:") || reading.ends_with(b"\r\nm:")
            {
                reading.line = CONTACT;
            }
        }
        _ => {}
    }
    false
}

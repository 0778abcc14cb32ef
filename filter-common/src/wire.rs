//! Reads SIP messages on their way in and out: challenges that leave, requests that answer them, and the
//! replies to those.
//!
//! A nonce that left towards an address and comes back from it proves that the address is not forged, because
//! nobody else has seen it (RFC 3261 section 22). A refusal of such a request is a failure of that address,
//! whatever Asterisk logs. Nonces and Call-IDs are kept as keyed hashes.
//!
//! What a client chooses can only mislead about itself: it counts only together with a nonce that was sent
//! to its own address.
//!
//! Must never keep a nonce or a Call-ID in clear.

use crate::abi::{
    ABI_VERSION, ACCOUNT_WORDS, AWAITED, NONCES, SESSION_WORDS, WIRE_ACCEPTED, WIRE_CALLED,
    WIRE_CHALLENGED, WIRE_HANDLED, WIRE_INVITE, WIRE_REFUSED, WIRE_TCP,
};
use crate::address::Address;
use crate::learn::Outgoing;
use crate::packet::{Packet, Payload, Place, Window};
use crate::rate::Bucket;
use crate::sip::{bit, byte_at, bytes_at, word_at};

/// An address to which the host has sent a challenge, in its table
/// ([`Challenged`](crate::abi::Challenged)).
pub trait Record {
    /// A bucket in the record.
    type Bucket: Bucket;
    /// A nonce of [`NONCES`]. An index beyond wraps.
    fn nonce(&self, place: usize) -> u32;
    /// Replaces the oldest nonce.
    fn add_nonce(&self, nonce: u32);
    /// A request of [`AWAITED`]. An index beyond wraps.
    fn awaited(&self, place: usize) -> u32;
    /// Replaces a request.
    fn set_awaited(&self, place: usize, request: u32);
    /// Replaces the oldest request.
    fn add_awaited(&self, request: u32);
    /// The request of the last challenge.
    fn last(&self) -> u32;
    /// Replaces it.
    fn set_last(&self, request: u32);
    /// Records that the address has proved itself.
    fn prove(&self, now: u64);
    /// Records that an answer was accepted, unless one has been before.
    fn establish(&self, now: u64);
    /// Adds one to a count.
    fn count(&self, count: Count);
    /// The bucket of requests that pass because of a nonce.
    fn bucket(&self) -> Self::Bucket;
    /// The bucket of searches for a nonce.
    fn searches(&self) -> Self::Bucket;
}

/// A count in a [`Record`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Challenges that were sent.
    Challenges,
    /// Requests with a nonce.
    Answered,
    /// Answers that were refused.
    Refused,
    /// Answers that were accepted.
    Accepted,
}

/// Whether one of the nonces of a message was sent to this address.
#[inline(always)]
pub fn proves(record: &impl Record, message: &Message) -> bool {
    let [first, second] = message.nonces;
    let mut found = false;
    for place in 0..NONCES {
        let nonce = record.nonce(place);
        found |= nonce != 0 && (nonce == first || nonce == second);
    }
    found
}

/// The part of an awaited request that names it; the rest tells guesses apart that are sent under one name.
const NAMED: u32 = 0xffff_f000;

/// In an awaited request: no provisional response says that it is being handled. The lowest bit of a hash is set.
const UNHANDLED: u32 = 1;

/// In an awaited request: it has been answered. Its entry remains, because a client that has not received the answer
/// sends the request again, and Asterisk the answer (RFC 3261 section 17.2.2), which is no other guess.
const ANSWERED: u32 = 2;

/// Records that the reply to a request is awaited, unless it is or was already. Requests of one name with different
/// credentials are different guesses, of which Asterisk answers each.
#[inline(always)]
pub fn await_reply(record: &impl Record, message: &Message) {
    // Credentials are never zero.
    let request = (message.request & NAMED | message.credentials & !NAMED) & !ANSWERED;
    let mut found = false;
    for place in 0..AWAITED {
        found |= record.awaited(place) & !ANSWERED | UNHANDLED == request;
    }
    if !found {
        record.add_awaited(request);
        record.count(Count::Answered);
    }
}

/// Returns the awaited request of this name; zero if there is none. If it `is_handled`, it is still awaited.
#[inline(always)]
fn take_awaited(record: &impl Record, request: u32, is_handled: bool) -> u32 {
    let mut found = 0;
    for place in 0..AWAITED {
        let awaited = record.awaited(place);
        let is_it = awaited != 0 && awaited & ANSWERED == 0 && (awaited ^ request) & NAMED == 0;
        if found == 0 && is_it {
            let rest = if is_handled { awaited & !UNHANDLED } else { awaited | ANSWERED };
            record.set_awaited(place, rest);
            found = awaited;
        }
    }
    found
}

/// The state besides an outgoing packet: the BPF maps in the kernel, a model of them on the host.
pub trait Replies: Outgoing {
    /// An address to which a challenge was sent.
    type Record<'a>: Record
    where
        Self: 'a;

    /// Calls [`read`] for the first `bytes` bytes of the memory of [`with_window`](Outgoing::with_window) until it has seen enough.
    fn read_message(&self, bytes: usize, seed: u64) -> Message;
    /// The record of an address.
    fn challenged(&self, address: Address) -> Option<Self::Record<'_>>;
    /// Creates a record, and returns it.
    fn challenge(&self, address: Address) -> Option<Self::Record<'_>>;
    /// Sends an event about the message in the memory of [`with_window`](Outgoing::with_window).
    fn tell(&self, heard: &Heard, message: &Message, record: &Self::Record<'_>);
}

/// What an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The time.
    pub time: u64,
    /// The recipient of the response.
    pub address: Address,
    /// One of `WIRE_*`.
    pub kind: u32,
    /// The status code.
    pub status: u32,
    /// Whether it was sent over TCP.
    pub tcp: bool,
    /// Whether a provisional response preceded it.
    pub handled: bool,
}

/// The flags of an event: see [`WireEvent::flags`](crate::abi::WireEvent::flags).
#[inline(always)]
pub fn flags(heard: &Heard, message: &Message) -> u32 {
    let tcp = if heard.tcp { WIRE_TCP } else { 0 };
    let handled = if heard.handled { WIRE_HANDLED } else { 0 };
    tcp | handled | if message.invites() { WIRE_INVITE } else { 0 }
}

/// The most bytes of an account in an event.
#[expect(clippy::cast_possible_truncation, reason = "64")]
const ACCOUNT_BYTES: u32 = ACCOUNT_WORDS as u32 * 8;

/// The most bytes of a Call-ID in an event.
const SESSION_BYTES: u64 = SESSION_WORDS as u64 * 8;

/// The lengths of an event's texts: see [`WireEvent::lengths`](crate::abi::WireEvent::lengths).
#[inline(always)]
pub fn lengths(message: &Message) -> u32 {
    let account = if message.account_at == 0 { 0 } else { ACCOUNT_BYTES };
    message.session_len | account << 16
}

/// Copies bytes of a window from `at` on.
#[inline(always)]
pub fn text<const WORDS: usize>(window: &Window, at: usize, text: &mut [u64; WORDS]) {
    for (word, place) in text.iter_mut().zip(0usize..) {
        *word = bytes_at(window, (at >> 3).wrapping_add(place), bit(at));
    }
}

/// Reads an outgoing message: remembers the nonce of a challenge, and finds the reply to a request that
/// answered one.
#[inline(always)]
pub fn observe<R: Replies + ?Sized>(
    packet: &impl Packet,
    address: Address,
    message: Place,
    tcp: bool,
    replies: &R,
) {
    let Some(config) = replies.config().filter(|config| config.abi_version == ABI_VERSION) else {
        return;
    };
    let message = Payload::from(message);
    let begun = replies.with_window(|window| {
        let copied = packet.copy(message.start, window);
        let len = copied.min(message.end.saturating_sub(message.start));
        (len, status(window, len))
    });
    let Some((len, status)) = begun else {
        return;
    };
    let challenge = status == 401 || status == 407;
    let accepted = status.wrapping_sub(100) < 200;
    if !challenge && !accepted && !matches!(status, 403 | 404 | 484 | 488 | 603) {
        return;
    }
    // Only a challenge makes a record, so most replies end here.
    let known = replies.challenged(address);
    if known.is_none() && !challenge {
        return;
    }
    let message = replies.read_message(len, config.seed);
    let request = message.request;
    let time = replies.now(config);
    let Some(record) = (if known.is_some() { known } else { replies.challenge(address) }) else {
        return;
    };
    // Some servers send 100 before they look at the credentials, but ring nowhere and answer nothing.
    let is_trying = status == TRYING;
    let awaited = if request == 0 { 0 } else { take_awaited(&record, request, is_trying) };
    let (answers, handled) = (awaited != 0, awaited & UNHANDLED == 0);
    let heard = |kind| Heard { time, address, kind, status, tcp, handled };
    if accepted {
        if answers && !is_trying {
            record.count(Count::Accepted);
            record.establish(time);
            let kind = if message.invites() { WIRE_CALLED } else { WIRE_ACCEPTED };
            if message.invites() || message.registers() {
                replies.tell(&heard(kind), &message, &record);
            }
        }
        return;
    }
    if challenge {
        let [nonce, _] = message.nonces;
        let mut sent = nonce == 0;
        for place in 0..NONCES {
            sent |= record.nonce(place) == nonce;
        }
        if !sent {
            record.add_nonce(nonce);
        }
        if !answers {
            // A response is repeated for a repeated request, and a stale nonce is nobody's failure.
            let is_new = !sent || record.last() != request;
            if is_new && !message.is_stale() {
                record.set_last(request);
                record.count(Count::Challenges);
                replies.tell(&heard(WIRE_CHALLENGED), &message, &record);
            }
            return;
        }
        record.set_last(request);
    }
    if answers && !message.is_stale() {
        record.count(Count::Refused);
        replies.tell(&heard(WIRE_REFUSED), &message, &record);
    }
}

/// The server has the request, and does something about it (RFC 3261 section 21.1.1).
const TRYING: u32 = 100;

/// The status code of a response, as PJSIP writes it; zero for anything else.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "three digits")]
fn status(window: &Window, len: usize) -> u32 {
    if len < SHORTEST || word_at(window, 0) != u64::from_le_bytes(*b"SIP/2.0 ") {
        return 0;
    }
    let code = word_at(window, 1);
    let digit = |at: u32| (code.wrapping_shr(at) as u32 & 0xff).wrapping_sub(u32::from(b'0'));
    let (first, second, third) = (digit(0), digit(8), digit(16));
    if first > 9 || second > 9 || third > 9 || code >> 24 & 0xff != u64::from(b' ') {
        return 0;
    }
    first.wrapping_mul(100).wrapping_add(second.wrapping_mul(10)).wrapping_add(third)
}

/// The fewest bytes of a message that is read.
const SHORTEST: usize = 16;

/// Whether a payload begins like a request: with a letter or the white space that PJSIP skips before one, and not
/// like a response.
#[inline(always)]
pub fn is_request(first: [u8; 8]) -> bool {
    let [letter, ..] = first;
    (letter.is_ascii_alphabetic() || matches!(letter, b' ' | b'\t' | b'\r' | b'\n'))
        && !is_response(first)
}

/// Whether a payload begins like a response.
#[inline(always)]
pub fn is_response(first: [u8; 8]) -> bool {
    first == *b"SIP/2.0 "
}

/// Whether a request is an ACK, which nothing answers, although it has the credentials of its INVITE (RFC 3261
/// section 22.1).
#[inline(always)]
pub fn is_ack(first: [u8; 8]) -> bool {
    let [a, c, k, end, ..] = first;
    [a | 0x20, c | 0x20, k | 0x20, end] == *b"ack "
}

/// The relevant parts of a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// The first two nonces, as keyed hashes; zero where there is none.
    pub nonces: [u32; 2],
    /// A keyed hash of the Call-ID and the number of the `CSeq`, by which a reply finds its request (RFC 3261
    /// section 8.2.6.2); zero without a Call-ID.
    pub request: u32,
    /// A keyed hash of the fields with credentials; not zero.
    pub credentials: u32,
    /// The place of the Call-ID in the window, for [`text`].
    pub session_at: u32,
    /// Its length.
    pub session_len: u32,
    /// The place of the account in the window; zero if there is none.
    pub account_at: u32,
    seen: u32,
}

impl Message {
    /// Whether the challenge says that the password was right.
    #[inline(always)]
    pub fn is_stale(&self) -> bool {
        u64::from(self.seen) & STALE != 0
    }

    /// Whether there is a field with credentials, or may be one, because the header was not read to its end.
    #[inline(always)]
    pub fn may_have_credentials(&self) -> bool {
        u64::from(self.seen) & (CREDENTIALS | WHOLE) != WHOLE
    }

    /// Whether the `CSeq` says REGISTER.
    #[inline(always)]
    pub fn registers(&self) -> bool {
        u64::from(self.seen) & REGISTERS != 0
    }

    /// Whether the `CSeq` says INVITE.
    #[inline(always)]
    pub fn invites(&self) -> bool {
        u64::from(self.seen) & INVITES != 0
    }
}

/// The state of reading a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Reading {
    seed: u64,
    /// The last sixteen bytes of the current field's name in lower case, the last one lowest.
    name: [u64; 2],
    /// The length of that name.
    name_len: u64,
    /// The kind of the current line, and that of the one before it.
    line: u64,
    before: u64,
    /// The last eight bytes in lower case, the last one lowest.
    last: u64,
    /// The hash of the nonce that is being read; zero outside one.
    nonce: u64,
    /// The first two nonces, as hashes.
    nonces: [u64; 2],
    /// The hash of the fields with credentials.
    credentials: u64,
    /// The hash of the Call-ID.
    session: u64,
    /// Its place in the window, and its length.
    session_at: u64,
    session_len: u64,
    /// The number in the `CSeq`.
    number: u64,
    /// The place in the window after the last `sip:` in the From; zero if there is none.
    account_at: u64,
    /// Sum of [`STALE`], [`REGISTERS`], [`INVITES`], [`NUMBERED`] and [`WHOLE`].
    seen: u64,
}

/// In the start line, or in the white space before it.
const START: u64 = 0;
/// In the name of a field.
const NAME: u64 = 1;
/// In a field that does not matter.
const OTHER: u64 = 2;
/// In the Call-ID.
const CALL_ID: u64 = 3;
/// In the `CSeq`.
const CSEQ: u64 = 4;
/// In credentials or a challenge.
const AUTHENTICATION: u64 = 5;
/// In the From.
const FROM: u64 = 6;

/// The challenge says that the nonce was too old and the password right (RFC 7616 section 3.3).
const STALE: u64 = 1;
/// The `CSeq` says REGISTER.
const REGISTERS: u64 = 2;
/// It says INVITE.
const INVITES: u64 = 4;
/// There is a field with credentials or a challenge.
const CREDENTIALS: u64 = 8;
/// There is a `CSeq`.
const NUMBERED: u64 = 16;
/// The empty line after the header was read.
const WHOLE: u64 = 32;

/// A name of at most sixteen bytes, or its last sixteen, as in [`Reading::name`].
const fn name(text: &[u8]) -> [u64; 2] {
    let (mut older, mut newer, mut rest) = (0u64, 0u64, text);
    while let [byte, more @ ..] = rest {
        older = older << 8 | newer >> 56;
        newer = newer << 8 | *byte as u64;
        rest = more;
    }
    [older, newer]
}

/// The fields that matter: name, length, kind of line.
const FIELDS: [([u64; 2], u64, u64); 9] = [
    (name(b"call-id"), 7, CALL_ID),
    (name(b"i"), 1, CALL_ID),
    (name(b"cseq"), 4, CSEQ),
    (name(b"from"), 4, FROM),
    (name(b"f"), 1, FROM),
    (name(b"authorization"), 13, AUTHENTICATION),
    (name(b"proxy-authorization"), 19, AUTHENTICATION),
    (name(b"www-authenticate"), 16, AUTHENTICATION),
    (name(b"proxy-authenticate"), 18, AUTHENTICATION),
];

/// Mixes a byte into a keyed hash.
#[inline(always)]
fn mix(hash: u64, byte: u8) -> u64 {
    let mixed = (hash ^ u64::from(byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed ^ mixed >> 29
}

/// A hash of 32 bits that is not zero.
#[inline(always)]
fn short(hash: u64) -> u32 {
    (hash >> 32) as u32 | 1
}

impl Reading {
    /// Starts to read a message; `seed` is the secret of its hashes.
    #[inline(always)]
    pub fn begin(seed: u64) -> Self {
        Self { seed, ..Self::default() }
    }

    /// What was read so far.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "places in a window, and flags")]
    pub fn message(&self) -> Message {
        let [first, second] = self.nonces;
        let of = |nonce| if nonce == 0 { 0 } else { short(nonce) };
        let hash = self.session.wrapping_add(self.number).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        Message {
            nonces: [of(first), of(second)],
            request: if self.session == 0 { 0 } else { short(hash) },
            credentials: short(self.credentials.wrapping_mul(0xbf58_476d_1ce4_e5b9)),
            session_at: self.session_at as u32,
            session_len: self.session_len as u32,
            account_at: self.account_at as u32,
            seen: self.seen as u32 | if self.credentials == 0 { 0 } else { CREDENTIALS as u32 },
        }
    }

    /// Whether the last bytes are these, at most eight.
    #[inline(always)]
    fn ends_with(&self, [_, text]: [u64; 2], len: u32) -> bool {
        let mask = u64::MAX >> 64u32.wrapping_sub(len.wrapping_mul(8));
        self.last & mask == text
    }
}

/// Reads the byte at `at` of a message in `window`. Returns whether that was enough.
///
/// One byte at a time: the kernel calls a function for each, which the verifier follows once.
#[inline(always)]
pub fn read(window: &Window, at: usize, reading: &mut Reading) -> bool {
    let byte = byte_at(window, at);
    let lower = byte.to_ascii_lowercase();
    let previous = reading.last & 0xff;
    reading.last = reading.last << 8 | u64::from(lower);
    if byte == b'\r' || byte == b'\n' {
        return newline(reading, byte == b'\n' && previous == u64::from(b'\r'));
    }
    match reading.line {
        START => reading.name_len |= u64::from(byte != b' ' && byte != b'\t'),
        NAME => named(reading, lower),
        CALL_ID => session(reading, byte, at as u64),
        CSEQ => {
            let digit = u64::from(byte.wrapping_sub(b'0'));
            if digit < 10 {
                reading.number = reading.number.wrapping_mul(10).wrapping_add(digit) & 0xffff_ffff;
            }
            if reading.ends_with(name(b"register"), 8) {
                reading.seen |= REGISTERS;
            }
            if reading.ends_with(name(b" invite"), 7) {
                reading.seen |= INVITES;
            }
        }
        AUTHENTICATION => authentication(reading, byte),
        FROM if reading.ends_with(name(b"sip:"), 4) => {
            reading.account_at = (at as u64).wrapping_add(1);
        }
        _ => {}
    }
    false
}

/// Handles the end of a line: CRLF, LF or CR, as PJSIP accepts them. Returns whether it ends the header.
#[inline(always)]
fn newline(reading: &mut Reading, continues: bool) -> bool {
    if continues {
        return false;
    }
    if reading.name_len == 0 {
        if reading.line == NAME {
            reading.seen |= WHOLE;
            return true;
        }
        // PJSIP skips empty lines before the start line (RFC 3261 section 7.5).
        if reading.line == START {
            return false;
        }
    }
    reading.nonce = 0;
    reading.before = reading.line;
    reading.line = NAME;
    reading.name = [0; 2];
    reading.name_len = 0;
    false
}

/// Handles a byte of a field's name.
#[inline(always)]
fn named(reading: &mut Reading, byte: u8) {
    match byte {
        b':' => {
            let mut line = OTHER;
            for (name, len, kind) in FIELDS {
                if reading.name_len == len && reading.name == name {
                    line = kind;
                }
            }
            // The first one applies.
            if line == CALL_ID && reading.session != 0
                || line == CSEQ && reading.seen & NUMBERED != 0
            {
                line = OTHER;
            }
            if line == CSEQ {
                reading.seen |= NUMBERED;
            }
            reading.line = line;
        }
        b' ' | b'\t' => {
            // A folded line continues the one before it (RFC 3261 section 7.3.1).
            if reading.name_len == 0 {
                reading.line = reading.before;
            }
        }
        _ => {
            let [older, newer] = reading.name;
            reading.name = [older << 8 | newer >> 56, newer << 8 | u64::from(byte)];
            reading.name_len = reading.name_len.wrapping_add(1);
        }
    }
}

/// Handles a byte of the Call-ID.
#[inline(always)]
fn session(reading: &mut Reading, byte: u8, at: u64) {
    if byte == b' ' || byte == b'\t' {
        return;
    }
    if reading.session == 0 {
        reading.session = reading.seed | 1;
        reading.session_at = at;
    }
    reading.session = mix(reading.session, byte) | 1;
    // With the blanks inside, which logs show too, and without those around it.
    let len = at.wrapping_sub(reading.session_at).wrapping_add(1);
    reading.session_len = if len < SESSION_BYTES { len } else { SESSION_BYTES };
}

/// Handles a byte of credentials or a challenge.
#[inline(always)]
fn authentication(reading: &mut Reading, byte: u8) {
    reading.credentials = mix(reading.credentials ^ reading.seed, byte);
    if reading.nonce != 0 {
        if byte != b'"' {
            reading.nonce = mix(reading.nonce, byte) | 1;
            return;
        }
        let [first, second] = reading.nonces;
        if first == 0 {
            reading.nonces = [reading.nonce, 0];
        } else if second == 0 {
            reading.nonces = [first, reading.nonce];
        }
        reading.nonce = 0;
        return;
    }
    if byte == b'"' {
        // Not `cnonce`.
        if reading.ends_with(name(b" nonce=\""), 8) || reading.ends_with(name(b",nonce=\""), 8) {
            reading.nonce = !reading.seed | 1;
        }
    } else if byte == b'e' || byte == b'E' {
        // The end of `stale=true`; no other parameter ends like it.
        if reading.ends_with(name(b"ale=true"), 8) {
            reading.seen |= STALE;
        }
    }
}

#[cfg(test)]
mod tests {
    extern crate std;

    use core::cell::Cell;
    use std::format;
    use std::string::String;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::Config;
    use crate::limits::WINDOW_WORDS;

    const SEED: u64 = 0x1234_5678_9abc_def0;

    fn reading(message: &[u8]) -> (Message, Window) {
        reading_with(message, SEED)
    }

    fn reading_with(message: &[u8], seed: u64) -> (Message, Window) {
        let mut window = [0x4141_4141_4141_4141; WINDOW_WORDS];
        let len = message.copy(0, &mut window);
        let mut reading = Reading::begin(seed);
        let _enough = (0..len).any(|at| read(&window, at, &mut reading));
        (reading.message(), window)
    }

    fn bytes<const N: usize>(window: &Window, at: usize, len: usize) -> std::vec::Vec<u8> {
        let mut words = [0; N];
        text(window, at, &mut words);
        words.iter().flat_map(|word| word.to_le_bytes()).take(len).collect()
    }

    fn request(nonce: &str) -> String {
        format!(
            "REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK1\r\n\
             From: \"<sip:9@x>\" <sip:1001@192.0.2.1>;tag=1\r\nTo: <sip:1001@192.0.2.1>\r\n\
             Call-ID: abc@192.0.2.66\r\nCSeq: 7 REGISTER\r\n\
             Authorization: Digest username=\"1001\", realm=\"asterisk\", nonce=\"{nonce}\", \
             cnonce=\"other\", uri=\"sip:192.0.2.1\", response=\"00\"\r\n\r\nnonce=\"body\""
        )
    }

    #[test]
    fn a_request_is_read() {
        let (read, window) = reading(request("n1").as_bytes());
        assert!(read.registers() && !read.invites() && !read.is_stale());
        let invite = request("n1").replace("7 REGISTER", "7 INVITE");
        let (invite, _) = reading(invite.as_bytes());
        assert!(invite.invites() && !invite.registers());
        let (other, _) = reading(request("n1").replace("7 REGISTER", "7 REINVITE").as_bytes());
        assert!(!other.invites());
        assert_eq!(
            bytes::<SESSION_WORDS>(&window, read.session_at as usize, 14),
            b"abc@192.0.2.66"
        );
        assert_eq!(lengths(&read), 0x40_000e);
        assert_eq!(bytes::<ACCOUNT_WORDS>(&window, read.account_at as usize, 5), b"1001@");
        let [nonce, other] = read.nonces;
        assert!(nonce != 0 && other == 0);
        assert_ne!(reading(request("n2").as_bytes()).0.nonces[0], nonce);
    }

    #[test]
    fn request_and_reply_have_the_same_nonce_and_the_same_name() {
        let (request, _) = reading(request("1767225600/abcdef").as_bytes());
        for (field, end) in [("WWW-Authenticate", "\r\n"), ("proxy-authenticate ", "\n")] {
            let reply = format!(
                "SIP/2.0 401 Unauthorized{end}i:abc@192.0.2.66{end}CSeq:  007 register{end}{field}: \
                 Digest realm=\"asterisk\",nonce=\"1767225600/abcdef\",stale=true{end}{end}"
            );
            let (reply, _) = reading(reply.as_bytes());
            assert_eq!(reply.nonces, request.nonces, "{field}");
            assert_eq!(reply.request, request.request);
            assert!(reply.is_stale());
        }
    }

    /// RFC 7616 section 3.3: in any case.
    #[test]
    fn a_stale_nonce_is_known_in_any_case() {
        for (flag, is) in [
            ("stale=true", true),
            ("Stale=True", true),
            ("STALE=TRUE", true),
            ("stale=false", false),
            ("stale=fals", false),
        ] {
            let challenge =
                challenge("n", 7).replace("nonce=\"n\"", &format!("nonce=\"n\",{flag}"));
            assert_eq!(reading(challenge.as_bytes()).0.is_stale(), is, "{flag}");
        }
    }

    #[test]
    fn another_number_is_another_request() {
        let (first, _) = reading(request("n").as_bytes());
        let (second, _) = reading(request("n").replace("CSeq: 7", "CSeq: 8").as_bytes());
        let (third, _) = reading(request("n").replace("abc@", "abd@").as_bytes());
        assert_ne!(first.request, second.request);
        assert_ne!(first.request, third.request);
        // The neighbours of the digits are none.
        for behind in ["/", ":"] {
            let number = format!("CSeq: 7{behind}");
            let (same, _) = reading(request("n").replace("CSeq: 7", &number).as_bytes());
            assert_eq!(first.request, same.request, "{number}");
        }
        let (more, _) = reading(request("n").replace("CSeq: 7", "CSeq: 79").as_bytes());
        let (zero, _) = reading(request("n").replace("CSeq: 7", "CSeq: 70").as_bytes());
        assert!(![first.request, zero.request].contains(&more.request));
        assert_ne!(first.request, zero.request);
        assert_eq!(reading(b"OPTIONS sip:a SIP/2.0\r\n\r\n").0.request, 0);
    }

    #[test]
    fn white_space_before_a_request_changes_nothing() {
        let plain = reading(request("n").as_bytes()).0;
        assert!(plain.may_have_credentials() && plain.nonces[0] != 0);
        for before in
            ["\r\n", "\r\n\r\n\r\n", "\n", " ", " \r\n\t\r\n ", " \r\n\r\n", "\t\r\n\r\n "]
        {
            let (moved, _) = reading(format!("{before}{}", request("n")).as_bytes());
            assert_eq!((moved.nonces, moved.request), (plain.nonces, plain.request), "{before:?}");
            assert!(moved.may_have_credentials(), "{before:?}");
        }
    }

    #[test]
    fn what_is_not_read_may_have_credentials() {
        let of = |text: &str| reading(text.as_bytes()).0.may_have_credentials();
        let with = request("n");
        let field = with.find("Authorization").unwrap();
        let without = format!("{}\r\n", &with[..field]);
        assert!(of(&with) && !of(&without) && !of(&without.replace("\r\n", "\r")));
        assert!(of(&with[..field]));
        assert!(of(&without.replace("To:", &format!("X: {}\r\nTo:", "x".repeat(2000)))));
    }

    /// Asterisk's answer has the first of several.
    #[test]
    fn the_first_number_and_the_first_name_count() {
        let (plain, _) = reading(request("n").as_bytes());
        for (field, more) in
            [("CSeq: 7", "CSeq: 9 OPTIONS"), ("Call-ID: abc", "Call-ID: b"), ("CSeq: 7", "i: x")]
        {
            let once = request("n");
            let line = once.lines().find(|line| line.starts_with(field)).unwrap();
            let twice = once.replace(line, &format!("{line}\r\n{more}"));
            assert_eq!(reading(twice.as_bytes()).0.request, plain.request, "{field} {more}");
        }
        let zero = |more: &str| {
            request("n").replace("CSeq: 7 REGISTER", &format!("CSeq: 0 REGISTER{more}"))
        };
        let (first, _) = reading(zero("").as_bytes());
        assert_eq!(reading(zero("\r\nCSeq: 4 REGISTER").as_bytes()).0.request, first.request);
    }

    #[test]
    fn what_is_no_nonce_is_none() {
        for line in [
            "Authorization: Digest cnonce=\"a\"",
            "Authorization: Digest nonce=a",
            "Subject: Digest x, nonce=\"a\"",
            "X-Authorization: Digest x, nonce=\"a\"",
            "Authorization: Digest nonce=\"a",
        ] {
            let message = format!("REGISTER sip:a SIP/2.0\r\n{line}\r\nTo: \"a\"\r\n\r\n");
            assert_eq!(reading(message.as_bytes()).0.nonces, [0; 2], "{line}");
        }
        let folded = "REGISTER sip:a SIP/2.0\r\nAuthorization: Digest x,\r\n nonce=\"a\"\r\n\r\n";
        assert_ne!(reading(folded.as_bytes()).0.nonces, [0; 2]);
    }

    /// A client that has been challenged by two realms answers both; more than two nonces are not looked at.
    #[test]
    fn the_first_two_nonces_count() {
        let of = |nonces: &[&str]| {
            let fields =
                nonces.iter().map(|nonce| format!("Authorization: Digest nonce=\"{nonce}\"\r\n"));
            let fields: String = fields.collect();
            reading(format!("REGISTER sip:a SIP/2.0\r\n{fields}\r\n").as_bytes()).0
        };
        let [first, second, third] = ["n1", "n2", "n3"].map(|nonce| of(&[nonce]).nonces[0]);
        assert!(first != second && second != third && first != third);
        for (nonces, read) in [
            (&["n1"][..], [first, 0]),
            (&["n1", "n2"], [first, second]),
            (&["n2", "n1"], [second, first]),
            (&["n1", "n2", "n3"], [first, second]),
        ] {
            assert_eq!(of(nonces).nonces, read, "{nonces:?}");
        }
        let sent = |nonce| {
            let record = Memory::default();
            record.nonces[NONCES - 1].set(nonce);
            record
        };
        let message = of(&["n1", "n2", "n3"]);
        for (nonce, proven) in [(first, true), (second, true), (third, false), (0, false)] {
            assert_eq!(proves(&&sent(nonce), &message), proven);
        }
        assert!(!proves(&&sent(0), &of(&[])) && !proves(&&sent(0), &of(&["n1"])));
    }

    #[test]
    fn each_byte_counts_in_a_hash_whatever_came_before() {
        let mut ones = 0;
        for before in [0, 1, 0xff, u64::MAX, SEED, 0xaaaa_aaaa_aaaa_aaaa] {
            let hashes: std::vec::Vec<_> = (0..=u8::MAX).map(|byte| mix(before, byte)).collect();
            for (byte, hash) in hashes.iter().enumerate() {
                assert!(!hashes[..byte].contains(hash), "{byte} after {before:x}");
                ones += hash.count_ones();
            }
        }
        // Half of the bits are set.
        let all = 6 * 256 * 64;
        assert!((all * 49 / 100..all * 51 / 100).contains(&ones), "{ones} of {all}");
    }

    #[test]
    fn each_byte_of_the_credentials_counts_whatever_the_seed() {
        let message = request("n");
        let start = message.find("Digest").unwrap();
        let end = start + message[start..].find('\r').unwrap();
        for seed in [0, 1, SEED, u64::MAX] {
            let plain = reading_with(message.as_bytes(), seed).0.credentials;
            for place in start..end {
                let mut other = message.clone().into_bytes();
                other[place] ^= 1;
                let credentials = reading_with(&other, seed).0.credentials;
                assert_ne!(credentials, plain, "{place}, seed {seed:x}");
            }
        }
    }

    #[test]
    fn every_seed_reads_the_same_with_other_hashes() {
        let (normal, _) = reading(request("n").as_bytes());
        for seed in [0, 1, 2, !2, !1, !0] {
            let (request, _) = reading_with(request("n").as_bytes(), seed);
            let (reply, _) = reading_with(challenge("n", 7).as_bytes(), seed);
            let hashes = |message: Message| [message.nonces[0], message.request];
            assert!(hashes(request).iter().all(|hash| *hash != 0), "{seed:x}");
            assert_eq!(hashes(request), hashes(reply), "{seed:x}");
            for (hash, other) in hashes(request).into_iter().zip(hashes(normal)) {
                assert_ne!(hash, other, "{seed:x}");
            }
            assert_ne!(request.credentials, normal.credentials, "{seed:x}");
        }
    }

    /// A hash of which only the lowest bit is left still goes on.
    #[test]
    fn a_hash_is_never_zero_on_its_way() {
        // The hash of what is below is 1 with these seeds.
        let (nonce, call_id) = (0x0e21_7c1e_66c8_8cac, 0xea8b_47f8_7ce8_4057);
        assert_eq!(mix(!nonce | 1, b'n'), 1);
        assert_eq!(mix(mix(call_id | 1, b'a') | 1, b'b'), 1);
        let (with_nonce, _) = reading_with(request("n1").as_bytes(), nonce);
        let (reply, _) = reading_with(challenge("n1", 7).as_bytes(), nonce);
        assert_ne!(with_nonce.nonces[0], 0);
        assert_eq!(with_nonce.nonces, reply.nonces);
        let (with_call_id, window) = reading_with(request("n1").as_bytes(), call_id);
        let (at, len) = (with_call_id.session_at as usize, with_call_id.session_len as usize);
        assert_eq!(bytes::<SESSION_WORDS>(&window, at, len), b"abc@192.0.2.66");
    }

    #[test]
    fn the_status_is_three_digits() {
        let of = |text: &[u8]| {
            let (_, window) = reading(text);
            status(&window, text.len())
        };
        assert_eq!(of(b"SIP/2.0 401 Unauthorized\r\n"), 401);
        assert_eq!(of(b"SIP/2.0 4011 nauthorized\r\n"), 0);
        assert_eq!(of(b"SIP/2.0 4x1 Unauthorized\r\n"), 0);
        assert_eq!(of(b"SIP/2.0 200"), 0);
        assert_eq!(of(b"REGISTER sip:a SIP/2.0\r\n"), 0);
        assert_eq!((of(b"SIP/2.0 099 abcd"), of(b"SIP/2.0 990 abcd")), (99, 990));
        assert_eq!((of(b"SIP/2.0 200 abc"), of(b"SIP/2.0 200 abcd")), (0, 200));
        // The neighbours of the digits at each place, and those of the blank.
        for place in 8..11 {
            for byte in [b'0' - 1, b'9' + 1, b' ', 0xff] {
                let mut text = *b"SIP/2.0 200 abcd";
                text[place] = byte;
                assert_eq!(of(&text), 0, "{}", text.escape_ascii());
            }
        }
        for byte in [b' ' - 1, b' ' + 1, b'0', 0] {
            let mut text = *b"SIP/2.0 200 abcd";
            text[11] = byte;
            assert_eq!(of(&text), 0, "{}", text.escape_ascii());
        }
    }

    /// RFC 3261 section 21. The answer to a challenge with this status says what became of it.
    #[test]
    fn each_status_says_what_became_of_a_call() {
        for status in 0..=999 {
            let host = host();
            call(&host, &[&format!("{status:03} x")]);
            let told = match status {
                101..=299 => Some(WIRE_CALLED),
                401 | 403 | 404 | 407 | 484 | 488 | 603 => Some(WIRE_REFUSED),
                _ => None,
            };
            let all: std::vec::Vec<_> = std::iter::once(WIRE_CHALLENGED).chain(told).collect();
            assert_eq!(*host.told.borrow(), all, "{status}");
        }
    }

    #[test]
    fn requests_begin_with_a_letter_or_white_space() {
        assert!(is_request(*b"REGISTER") && is_request(*b"ack sip:"));
        assert!(is_request(*b"\r\nREGIST") && is_request(*b"    INVI"));
        assert!(!is_request(*b"SIP/2.0 ") && !is_request(*b"\x16\x03\x01\0\0\0\0\0"));
    }

    /// A record in memory.
    #[derive(Default)]
    pub(crate) struct Memory {
        nonces: [Cell<u32>; NONCES],
        awaited: [Cell<u32>; AWAITED],
        next: [Cell<usize>; 2],
        last: Cell<u32>,
        counts: [Cell<u32>; 4],
        established: Cell<u64>,
    }

    impl Record for &Memory {
        type Bucket = core::sync::atomic::AtomicU64;
        fn nonce(&self, place: usize) -> u32 {
            self.nonces[place].get()
        }
        fn add_nonce(&self, nonce: u32) {
            let [next, _] = &self.next;
            self.nonces[next.get() % NONCES].set(nonce);
            next.set(next.get() + 1);
        }
        fn awaited(&self, place: usize) -> u32 {
            self.awaited[place].get()
        }
        fn set_awaited(&self, place: usize, request: u32) {
            self.awaited[place].set(request);
        }
        fn add_awaited(&self, request: u32) {
            let [_, next] = &self.next;
            self.awaited[next.get() % AWAITED].set(request);
            next.set(next.get() + 1);
        }
        fn last(&self) -> u32 {
            self.last.get()
        }
        fn set_last(&self, request: u32) {
            self.last.set(request);
        }
        fn prove(&self, _now: u64) {}
        fn establish(&self, now: u64) {
            self.established.set(now);
        }
        fn count(&self, count: Count) {
            let count = &self.counts[count as usize];
            count.set(count.get() + 1);
        }
        fn bucket(&self) -> core::sync::atomic::AtomicU64 {
            core::sync::atomic::AtomicU64::new(0)
        }
        fn searches(&self) -> core::sync::atomic::AtomicU64 {
            core::sync::atomic::AtomicU64::new(0)
        }
    }

    struct Host {
        config: Config,
        record: Memory,
        exists: Cell<bool>,
        window: core::cell::RefCell<Window>,
        told: core::cell::RefCell<std::vec::Vec<u32>>,
        flags: Cell<u32>,
    }

    impl Outgoing for Host {
        fn config(&self) -> Option<&Config> {
            Some(&self.config)
        }
        fn now(&self, _config: &Config) -> u64 {
            1
        }
        fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
            Some(fill(&mut self.window.borrow_mut()))
        }
    }

    impl Replies for Host {
        type Record<'a> = &'a Memory;
        fn read_message(&self, bytes: usize, seed: u64) -> Message {
            let (window, mut reading) = (self.window.borrow(), Reading::begin(seed));
            let _enough = (0..bytes).any(|at| read(&window, at, &mut reading));
            reading.message()
        }
        fn challenged(&self, _address: Address) -> Option<&Memory> {
            self.exists.get().then_some(&self.record)
        }
        fn challenge(&self, _address: Address) -> Option<&Memory> {
            self.exists.set(true);
            Some(&self.record)
        }
        fn tell(&self, heard: &Heard, message: &Message, _record: &&Memory) {
            self.told.borrow_mut().push(heard.kind);
            self.flags.set(flags(heard, message));
        }
    }

    fn host() -> Host {
        Host {
            config: Config { abi_version: ABI_VERSION, seed: SEED, ..Config::default() },
            record: Memory::default(),
            exists: Cell::new(false),
            window: core::cell::RefCell::new([0; WINDOW_WORDS]),
            told: core::cell::RefCell::default(),
            flags: Cell::new(0),
        }
    }

    fn send(host: &Host, response: &str) {
        let bytes = response.as_bytes();
        let whole = Payload { start: 0, end: bytes.len(), fragmented: false };
        observe(&bytes, Address::v4([192, 0, 2, 66]), Place::from(whole), false, host);
    }

    fn arrive(host: &Host, message: &str) -> bool {
        let record = &host.record;
        let (read, _) = reading(message.as_bytes());
        let proven = proves(&record, &read);
        if proven {
            await_reply(&record, &read);
        }
        proven
    }

    fn challenge(nonce: &str, cseq: u32) -> String {
        format!(
            "SIP/2.0 401 Unauthorized\r\nCall-ID: abc@192.0.2.66\r\nCSeq: {cseq} REGISTER\r\n\
             WWW-Authenticate: Digest realm=\"a\",nonce=\"{nonce}\"\r\n\r\n"
        )
    }

    fn counts(host: &Host) -> [u32; 4] {
        host.record.counts.each_ref().map(Cell::get)
    }

    #[test]
    fn a_guess_is_a_challenge_and_a_refusal() {
        let host = host();
        send(&host, &challenge("n1", 6));
        send(&host, &challenge("n1", 6));
        assert!(!arrive(&host, &request("stolen")));
        assert!(arrive(&host, &request("n1")));
        assert!(arrive(&host, &request("n1")));
        send(&host, &challenge("n2", 7));
        send(&host, &challenge("n2", 7));
        assert_eq!(counts(&host), [1, 1, 1, 0]);
        assert_eq!(*host.told.borrow(), [WIRE_CHALLENGED, WIRE_REFUSED]);
    }

    /// A client that has not received the response repeats the request, and the server the response.
    #[test]
    fn a_request_that_comes_again_after_its_response_is_no_other() {
        let ok = "SIP/2.0 200 OK\r\nCall-ID: abc@192.0.2.66\r\nCSeq: 7 REGISTER\r\n\r\n";
        let forbidden = ok.replace("200 OK", "403 Forbidden");
        let stale = challenge("n2", 7).replace("nonce=\"n2\"", "nonce=\"n2\",stale=true");
        for (response, counted, told) in [
            (&*challenge("n2", 7), [1, 1, 1, 0], &[WIRE_CHALLENGED, WIRE_REFUSED][..]),
            (&forbidden, [1, 1, 1, 0], &[WIRE_CHALLENGED, WIRE_REFUSED]),
            (ok, [1, 1, 0, 1], &[WIRE_CHALLENGED, WIRE_ACCEPTED]),
            (&stale, [1, 1, 0, 0], &[WIRE_CHALLENGED]),
        ] {
            let host = host();
            send(&host, &challenge("n1", 6));
            for _ in 0..11 {
                assert!(arrive(&host, &request("n1")));
                send(&host, response);
            }
            assert_eq!((counts(&host), &**host.told.borrow()), (counted, told), "{response}");
            // Another guess under its name.
            assert!(arrive(&host, &request("n1").replace("response=\"00\"", "response=\"01\"")));
            send(&host, &challenge("n2", 7));
            let [challenges, answered, refused, accepted] = counted;
            assert_eq!(
                counts(&host),
                [challenges, answered + 1, refused + 1, accepted],
                "{response}"
            );
        }
    }

    #[test]
    fn guesses_that_are_sent_at_once_under_one_name_count_each() {
        let host = host();
        send(&host, &challenge("n1", 6));
        for response in ["00", "01", "02", "01"] {
            let guess =
                request("n1").replace("response=\"00\"", &format!("response=\"{response}\""));
            assert!(arrive(&host, &guess));
        }
        for _ in 0..4 {
            send(&host, &challenge("n2", 7));
        }
        assert_eq!(counts(&host), [1, 3, 3, 0]);
    }

    #[test]
    fn a_call_id_is_told_as_it_was_written() {
        for (written, told) in [
            ("a b", "a b"),
            ("  a \t b \t", "a \t b"),
            (&"x y".repeat(60), &"x y".repeat(60)[..128]),
        ] {
            let message = format!("REGISTER sip:a SIP/2.0\r\nCall-ID:{written}\r\n\r\n");
            let (read, window) = reading(message.as_bytes());
            let (at, len) = (read.session_at as usize, read.session_len as usize);
            assert_eq!(bytes::<SESSION_WORDS>(&window, at, len), told.as_bytes(), "{written:?}");
        }
    }

    #[test]
    fn a_registration_is_accepted_and_a_stale_nonce_is_no_failure() {
        let host = host();
        send(&host, "SIP/2.0 200 OK\r\nCall-ID: abc@192.0.2.66\r\nCSeq: 7 REGISTER\r\n\r\n");
        send(&host, &challenge("n1", 6));
        assert!(arrive(&host, &request("n1")));
        send(&host, &challenge("n2", 7).replace("nonce=\"n2\"", "nonce=\"n2\",stale=true"));
        assert!(arrive(&host, &request("n2").replace("CSeq: 7", "CSeq: 8")));
        send(&host, "SIP/2.0 200 OK\r\nCall-ID: abc@192.0.2.66\r\nCSeq: 8 REGISTER\r\n\r\n");
        assert_eq!(counts(&host), [1, 2, 0, 1]);
        assert_eq!(*host.told.borrow(), [WIRE_CHALLENGED, WIRE_ACCEPTED]);
    }

    /// A call with the right password, and the responses to it.
    fn call(host: &Host, responses: &[&str]) {
        send(host, &challenge("n1", 6).replace("REGISTER", "INVITE"));
        assert!(arrive(host, &request("n1").replace("7 REGISTER", "7 INVITE")));
        for status in responses {
            send(
                host,
                &format!("SIP/2.0 {status}\r\nCall-ID: abc@192.0.2.66\r\nCSeq: 7 INVITE\r\n\r\n"),
            );
        }
    }

    #[test]
    fn a_number_that_a_trunk_does_not_know_is_not_one_that_the_server_does_not_know() {
        for (responses, handled) in
            [(&["404 Not Found"][..], false), (&["100 Trying", "404 Not Found"], true)]
        {
            let host = host();
            call(&host, responses);
            assert_eq!(*host.told.borrow(), [WIRE_CHALLENGED, WIRE_REFUSED]);
            let handled = if handled { WIRE_HANDLED } else { 0 };
            assert_eq!(host.flags.get(), WIRE_INVITE | handled);
            assert_eq!((counts(&host), host.record.established.get()), ([1, 1, 1, 0], 0));
        }
    }

    #[test]
    fn a_call_is_put_through_once() {
        for responses in [
            &["100 Trying", "180 Ringing", "183 Session Progress", "200 OK", "200 OK"][..],
            &["200 OK", "200 OK"],
            &["183 Session Progress", "404 Not Found"],
        ] {
            let host = host();
            call(&host, responses);
            assert_eq!(*host.told.borrow(), [WIRE_CHALLENGED, WIRE_CALLED], "{responses:?}");
            assert_eq!((counts(&host), host.record.established.get()), ([1, 1, 0, 1], 1));
        }
        // Nobody whom it has not challenged.
        let host = host();
        send(&host, "SIP/2.0 180 Ringing\r\nCall-ID: abc@192.0.2.66\r\nCSeq: 7 INVITE\r\n\r\n");
        assert!(host.told.borrow().is_empty());
    }

    #[test]
    fn a_request_that_is_being_handled_may_still_be_refused_and_comes_again() {
        let host = host();
        call(&host, &["100 Trying"]);
        // A retransmission.
        assert!(arrive(&host, &request("n1").replace("7 REGISTER", "7 INVITE")));
        send(&host, &challenge("n2", 7).replace("REGISTER", "INVITE"));
        send(&host, &challenge("n2", 7).replace("REGISTER", "INVITE"));
        assert_eq!(counts(&host), [1, 1, 1, 0]);
        assert_eq!(*host.told.borrow(), [WIRE_CHALLENGED, WIRE_REFUSED]);
    }

    #[test]
    fn an_ack_is_known_by_its_beginning() {
        assert!(is_ack(*b"ACK sip:") && is_ack(*b"ack sip:"));
        assert!(!is_ack(*b"ACKS sip") && !is_ack(*b"INVITE s"));
    }

    #[test]
    fn a_scan_is_one_challenge_for_each_request() {
        let host = host();
        for cseq in 0..20 {
            send(&host, &challenge("same", cseq));
        }
        assert_eq!(counts(&host), [20, 0, 0, 0]);
        send(&host, "SIP/2.0 404 Not Found\r\nCall-ID: abc@192.0.2.66\r\nCSeq: 7 INVITE\r\n\r\n");
        assert_eq!(host.told.borrow().len(), 20);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read(message in proptest::collection::vec(any::<u8>(), 0..600)) {
            let _read = reading(&message);
        }

        #[test]
        fn a_nonce_comes_back_whatever_surrounds_it(
            nonce in "[!#-~]{1,60}",
            padding in "[ -!#-~]{0,80}",
            crlf in prop_oneof![Just("\r\n"), Just("\n"), Just("\r")],
        ) {
            let sent = reading(challenge(&nonce, 1).as_bytes()).0.nonces;
            let request = format!(
                "INVITE sip:a SIP/2.0{crlf}Subject: {padding}{crlf}Authorization: Digest realm=\"{padding}\", \
                 nonce=\"{nonce}\"{crlf}{crlf}"
            );
            prop_assert_eq!(reading(request.as_bytes()).0.nonces, sent);
        }
    }
}

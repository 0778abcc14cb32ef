//! SIP: the start of a payload, and whether a message has credentials and which User-Agent.
//!
//! Turns a payload into a [`Start`]. Reads no more than the decision needs.
//!
//! Must never read more than the decision needs.

use crate::limits::{
    AGENT_WORDS, IDENTITY_BLOCKS, LEADING_SPACE, STEP_WORDS, WINDOW_BYTES, WINDOW_WORDS,
};
use crate::packet::{Packet, Payload, Window};

/// The start of a payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// A REGISTER request, or something that Asterisk accepts as one.
    Register,
    /// An INVITE, in any case.
    Invite,
    /// An OPTIONS, in any case.
    Options,
    /// A SUBSCRIBE, in any case.
    Subscribe,
    /// A request of another method.
    Request,
    /// A response.
    Response,
    /// Empty, or only white space.
    KeepAlive,
    /// A STUN message.
    Stun,
    /// None of these.
    NotSip,
}

const CR: u8 = b'\r';
/// Words after a message that a step reads: the rest of its own, and three ahead.
const ZEROS: usize = STEP_WORDS + 3;

const LF: u8 = b'\n';

/// Folds the case of eight ASCII letters; no other byte becomes a letter by this.
const LOWER: u64 = 0x2020_2020_2020_2020;

/// `bytes` as a word of a [`Window`].
const fn word(bytes: [u8; 8]) -> u64 {
    u64::from_le_bytes(bytes)
}

/// The mask of a name of `len` bytes in a word.
const fn mask(len: u32) -> u64 {
    u64::MAX >> 64u32.wrapping_sub(len.wrapping_mul(8))
}

/// Methods other than REGISTER (RFC 3261, 3262, 3265, 3311, 3428, 3515, 3903, 6086) in lower case, with
/// their length; at most eight bytes are compared.
const METHODS: [(u64, u32, Start); 13] = [
    (word(*b"invite\0\0"), 6, Start::Invite),
    (word(*b"options\0"), 7, Start::Options),
    (word(*b"subscrib"), 8, Start::Subscribe),
    (word(*b"ack\0\0\0\0\0"), 3, Start::Request),
    (word(*b"bye\0\0\0\0\0"), 3, Start::Request),
    (word(*b"cancel\0\0"), 6, Start::Request),
    (word(*b"prack\0\0\0"), 5, Start::Request),
    (word(*b"notify\0\0"), 6, Start::Request),
    (word(*b"publish\0"), 7, Start::Request),
    (word(*b"info\0\0\0\0"), 4, Start::Request),
    (word(*b"refer\0\0\0"), 5, Start::Request),
    (word(*b"message\0"), 7, Start::Request),
    (word(*b"update\0\0"), 6, Start::Request),
];

/// The bits of the characters that may follow a method.
const BLANKS: u64 = 1 << b' ' | 1 << b'\t' | 1 << CR | 1 << LF;

/// Reads the start of a payload: returns its kind, and the payload from its start line on.
///
/// A payload whose method cannot be read, such as a first fragment that ends too early or endless white
/// space, counts as [`Start::Register`], the kind with the strictest limit. Otherwise a flood could use
/// this form to bypass the limit.
#[inline(always)]
pub fn start(packet: &impl Packet, payload: Payload) -> (Start, Payload) {
    let Payload { mut start, end, fragmented } = payload;
    // The kind of a payload that ends here; `whole` applies if no fragments follow.
    let cut = |whole| if fragmented { Start::Register } else { whole };
    let mut spaces = 0;
    while spaces < LEADING_SPACE {
        if start >= end {
            return (cut(Start::KeepAlive), payload);
        }
        match packet.array(start) {
            Some([CR | LF | b' ' | b'\t']) => start = start.wrapping_add(1),
            Some(_) => break,
            None => return (cut(Start::KeepAlive), payload),
        }
        spaces = spaces.wrapping_add(1);
    }
    let message = Payload { start, ..payload };
    if spaces == LEADING_SPACE {
        return (Start::Register, message);
    }
    if end.wrapping_sub(start) < 8 {
        return (cut(Start::NotSip), message);
    }
    let start = match packet.array::<8>(start) {
        Some(bytes) => classify(packet, message, word(bytes)),
        None => cut(Start::NotSip),
    };
    (start, message)
}

/// Whether [`start`] takes a payload that begins with these sixteen bytes for a REGISTER. False if it skips something
/// first.
#[inline(always)]
pub fn is_register([first, second]: [u64; 2]) -> bool {
    first | LOWER == word(*b"register") && is_blank(second & 0xff)
}

/// Whether a byte is one of [`BLANKS`].
#[inline(always)]
fn is_blank(byte: u64) -> bool {
    byte < 64 && BLANKS >> byte & 1 != 0
}

#[inline(always)]
fn classify(packet: &impl Packet, message: Payload, first: u64) -> Start {
    if first == word(*b"SIP/2.0 ") {
        return Start::Response;
    }
    // Methods are case-sensitive in RFC 3261 section 7.1, but not in Asterisk's PJSIP.
    let lower = first | LOWER;
    if lower == word(*b"register") {
        let behind = message.start.wrapping_add(8);
        if message.fragmented && behind >= message.end {
            return Start::Register;
        }
        // Either the token ends here, or it is a longer one. PJSIP accepts a folded line too.
        return match packet.array(behind) {
            Some([b' ' | b'\t' | CR | LF]) => Start::Register,
            _ => Start::NotSip,
        };
    }
    for (name, len, start) in METHODS {
        if lower & mask(len) == name {
            let behind = first.wrapping_shr(len.wrapping_mul(8)) & 0xff;
            // After eight bytes of a name, the rest is not compared.
            if len == 8 || is_blank(behind) {
                return start;
            }
        }
    }
    // RFC 8489 section 5: two zero bits, and the magic cookie in the second word.
    if first & 0xc0 == 0 && first >> 32 == 0x42a4_1221 {
        return Start::Stun;
    }
    Start::NotSip
}

/// The result of searching a message's header so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Fields {
    /// Not zero if there is an `Authorization` field.
    pub credentials: u64,
    /// The position of the name of the `User-Agent` field in the window; zero if there is none.
    pub agent: u64,
}

impl Fields {
    /// The same as a plain word.
    #[inline(always)]
    pub fn to_word(self) -> u64 {
        u64::from(self.credentials != 0) | self.agent << 1
    }

    /// The inverse of [`to_word`](Self::to_word).
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        Self { credentials: word & 1, agent: word >> 1 }
    }
}

/// Does one step of the search for `Authorization` (RFC 3261 section 20.7) and `User-Agent` (section
/// 20.41) in the header of the SIP message in `window`, which [`terminate`] has ended. Names match in any
/// case and with up to three spaces before the colon (section 7.3.1 allows any number). The step covers
/// the [`STEP_WORDS`] words from `STEP_WORDS * step` on. Returns whether it was the last one.
///
/// The search ends at the empty line before the body, which has no fields.
///
/// It looks at eight positions at once, with few branches: with a branch for each position there would be
/// more paths than the verifier follows.
#[inline(always)]
pub fn search(window: &Window, step: usize, fields: &mut Fields) -> bool {
    let first = step.wrapping_mul(STEP_WORDS);
    for word in 0..STEP_WORDS {
        let index = first.wrapping_add(word);
        let ahead = Ahead::new(window, index);
        let (cr, lf) = (ahead.equal(0, CR), ahead.equal(0, LF));
        let (cr_next, lf_next) = (ahead.equal(1, CR), ahead.equal(1, LF));
        // PJSIP accepts CRLF, LF and CR as the end of a line (pj_scan_get_newline).
        let ends = lf & (lf_next | cr_next) | cr & cr_next;
        let lines = (lf | cr) & (ends & ends.wrapping_neg()).wrapping_sub(1);
        if lines & ahead.letter(1, b'a') != 0 {
            fields.credentials |= lines & ahead.authorization();
        }
        if lines & ahead.letter(1, b'u') != 0 {
            let named = lines & ahead.user_agent();
            if named != 0 && fields.agent == 0 {
                let place = u64::from(named.trailing_zeros() >> 3);
                fields.agent = (index as u64).wrapping_mul(8).wrapping_add(place).wrapping_add(1);
            }
        }
        if ends != 0 {
            return true;
        }
    }
    false
}

/// A User-Agent in the form that signatures compare: its first bytes in lower case, padded with zeros.
/// (Folding also makes some pairs of other bytes equal.)
pub type Agent = [u64; AGENT_WORDS];

/// The value of the User-Agent field whose name begins at `at` in the window.
#[inline(always)]
pub fn agent(window: &Window, at: usize) -> Agent {
    let mut at = at.wrapping_add(b"User-Agent".len());
    for _ in 0..AGENT_SKIP {
        match byte_at(window, at) {
            b':' | b' ' | b'\t' => at = at.wrapping_add(1),
            _ => break,
        }
    }
    let mut agent = [0; AGENT_WORDS];
    let mut open = u64::MAX;
    for (word, place) in agent.iter_mut().zip(0usize..) {
        let bytes = bytes_at(window, (at >> 3).wrapping_add(place), bit(at));
        let ends = equal(bytes, CR) | equal(bytes, LF) | equal(bytes, 0);
        // The bytes before the first end; all bytes if there is none.
        let before = ((ends & ends.wrapping_neg()) >> 7).wrapping_sub(1);
        *word = (bytes | LOWER) & before & open;
        open &= if ends == 0 { u64::MAX } else { 0 };
    }
    agent
}

/// Bytes that are skipped between the name of a field and its value.
const AGENT_SKIP: usize = 8;

/// A User-Agent of a configuration in the form of [`agent`], and how many of its bytes to compare.
pub fn agent_of(text: &[u8]) -> (Agent, usize) {
    let mut agent = [0; AGENT_WORDS];
    for (word, chunk) in agent.iter_mut().zip(text.chunks(8)) {
        for (byte, shift) in chunk.iter().zip((0u32..).step_by(8)) {
            *word |= u64::from(*byte | 0x20).wrapping_shl(shift);
        }
    }
    (agent, text.len().min(AGENT_WORDS * 8))
}

/// Whether [`identity`] tells a message from others: one shorter than a block does not contribute to it. The
/// shortest valid request is longer (RFC 3261 section 8.1.1).
#[inline(always)]
pub fn is_identified(message: Payload) -> bool {
    message.end.wrapping_sub(message.start) >= IDENTITY_BLOCK && message.start <= message.end
}

/// Bytes of a block of [`identity`].
const IDENTITY_BLOCK: usize = 64;

/// A hash that identifies a request. Retransmissions are identical (RFC 3261 section 17.1.2.2), and the
/// hash covers the first whole blocks of 64 bytes, at most eight: the request line, Via, From, To and
/// Call-ID of all but the longest requests.
#[inline(always)]
pub fn identity(packet: &impl Packet, message: Payload, seed: u64) -> u64 {
    const K: u64 = 0x9e37_79b9_7f4a_7c15;
    // Four at once, so that they do not wait for each other.
    let [mut a, mut b, mut c, mut d] = [seed, !seed, seed.rotate_left(32), K];
    let mut start = message.start;
    for _ in 0..IDENTITY_BLOCKS {
        let next = start.wrapping_add(IDENTITY_BLOCK);
        if next > message.end {
            break;
        }
        let Some([w0, w1, w2, w3, w4, w5, w6, w7]) = packet.words::<8>(start) else {
            break;
        };
        a = (a ^ w0).wrapping_mul(K).rotate_left(29) ^ w4;
        b = (b ^ w1).wrapping_mul(K).rotate_left(31) ^ w5;
        c = (c ^ w2).wrapping_mul(K).rotate_left(33) ^ w6;
        d = (d ^ w3).wrapping_mul(K).rotate_left(37) ^ w7;
        start = next;
    }
    let half = (a.wrapping_mul(K) ^ b).wrapping_mul(K) ^ c.rotate_left(17);
    (half.wrapping_mul(K) ^ d).wrapping_mul(K)
}

/// The steps of [`search`] for a message of `len` bytes.
#[inline(always)]
pub fn steps(len: usize) -> usize {
    len.min(WINDOW_BYTES).div_ceil(STEP_WORDS * 8)
}

/// Eight positions of a window at once, with the bytes that follow each. In a result, the high bit of a
/// position's byte is set if it matches.
struct Ahead([u64; 4]);

impl Ahead {
    #[inline(always)]
    fn new(window: &Window, index: usize) -> Self {
        Self([
            word_at(window, index),
            word_at(window, index.wrapping_add(1)),
            word_at(window, index.wrapping_add(2)),
            word_at(window, index.wrapping_add(3)),
        ])
    }

    /// Whether the position is the byte before `Authorization` and its colon.
    #[inline(always)]
    fn authorization(&self) -> u64 {
        // Not loops: the compiler would not unroll them, and would shift by an unknown value.
        let named = self.letter(1, b'a')
            & self.letter(2, b'u')
            & self.letter(3, b't')
            & self.letter(4, b'h')
            & self.letter(5, b'o')
            & self.letter(6, b'r')
            & self.letter(7, b'i')
            & self.letter(8, b'z')
            & self.letter(9, b'a')
            & self.letter(10, b't')
            & self.letter(11, b'i')
            & self.letter(12, b'o')
            & self.letter(13, b'n');
        let colon = self.equal(14, b':')
            | self.space(14)
                & (self.equal(15, b':')
                    | self.space(15)
                        & (self.equal(16, b':') | self.space(16) & self.equal(17, b':')));
        named & colon
    }

    /// Whether the position is the byte before `User-Agent` and its colon.
    #[inline(always)]
    fn user_agent(&self) -> u64 {
        let named = self.letter(1, b'u')
            & self.letter(2, b's')
            & self.letter(3, b'e')
            & self.letter(4, b'r')
            & self.equal(5, b'-')
            & self.letter(6, b'a')
            & self.letter(7, b'g')
            & self.letter(8, b'e')
            & self.letter(9, b'n')
            & self.letter(10, b't');
        let colon = self.equal(11, b':')
            | self.space(11)
                & (self.equal(12, b':')
                    | self.space(12)
                        & (self.equal(13, b':') | self.space(13) & self.equal(14, b':')));
        named & colon
    }

    /// Whether the byte `behind` bytes after the position is a space or a tab.
    #[inline(always)]
    fn space(&self, behind: usize) -> u64 {
        self.equal(behind, b' ') | self.equal(behind, b'\t')
    }

    /// Whether the byte `behind` bytes after the position is this letter, given in lower case.
    #[inline(always)]
    fn letter(&self, behind: usize, lower: u8) -> u64 {
        equal(self.bytes(behind) | LOWER, lower)
    }

    /// Whether the byte `behind` bytes after the position is `byte`.
    #[inline(always)]
    fn equal(&self, behind: usize, byte: u8) -> u64 {
        equal(self.bytes(behind), byte)
    }

    /// The eight bytes that are `behind` bytes after their positions.
    #[inline(always)]
    fn bytes(&self, behind: usize) -> u64 {
        let [first, second, third, fourth] = self.0;
        let (low, high) = match behind >> 3 {
            0 => (first, second),
            1 => (second, third),
            _ => (third, fourth),
        };
        match bit(behind) {
            0 => low,
            shift => low >> shift | high.wrapping_shl(64u32.wrapping_sub(shift)),
        }
    }
}

/// Writes zeros after the first `len` bytes of a window, as many as [`search`] looks ahead;
/// [`Packet::copy`] fills at most [`WINDOW_BYTES`].
#[inline(always)]
pub fn terminate(window: &mut Window, len: usize) {
    let index = len >> 3;
    let kept = 1u64.wrapping_shl(bit(len)).wrapping_sub(1);
    *word_mut(window, index) &= kept;
    for more in 1..=ZEROS {
        *word_mut(window, index.wrapping_add(more)) = 0;
    }
}

/// Sets the high bit of each byte of `word` that equals `byte` (Hacker's Delight, section 6-1).
#[inline(always)]
fn equal(word: u64, byte: u8) -> u64 {
    const LOW_BITS: u64 = 0x7f7f_7f7f_7f7f_7f7f;
    let zeroed = word ^ u64::from(byte).wrapping_mul(0x0101_0101_0101_0101);
    !((zeroed & LOW_BITS).wrapping_add(LOW_BITS) | zeroed | LOW_BITS)
}

/// The word at `index`, which wraps at the window's end: the verifier needs the mask, and callers compare
/// the result with the length.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "masked to the window's size, a power of two")]
pub(crate) fn word_at(window: &Window, index: usize) -> u64 {
    window[index & (WINDOW_WORDS - 1)]
}

/// The same as [`word_at`].
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "masked to the window's size, a power of two")]
fn word_mut(window: &mut Window, index: usize) -> &mut u64 {
    &mut window[index & (WINDOW_WORDS - 1)]
}

/// The eight bytes that begin this many bits into the word at `index`, which wraps as in [`word_at`].
#[inline(always)]
pub(crate) fn bytes_at(window: &Window, index: usize, shift: u32) -> u64 {
    let (low, high) = (word_at(window, index), word_at(window, index.wrapping_add(1)));
    // Two shifts, because a shift by 64 does nothing.
    low.wrapping_shr(shift) | (high << 1).wrapping_shl(63u32.wrapping_sub(shift))
}

/// The byte at `at`, which wraps as in [`word_at`].
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a byte of the word")]
pub(crate) fn byte_at(window: &Window, at: usize) -> u8 {
    word_at(window, at >> 3).wrapping_shr(bit(at)) as u8
}

/// The position of byte `at` in its word.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "at most 56")]
pub(crate) fn bit(at: usize) -> u32 {
    ((at & 7) as u32).wrapping_mul(8)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::string::String;
    use std::vec::Vec;
    use std::{format, vec};

    use proptest::prelude::*;

    use super::*;

    fn of(payload: &[u8]) -> Start {
        start(&payload, Payload { start: 0, end: payload.len(), fragmented: false }).0
    }

    fn authorized(message: &[u8]) -> bool {
        let mut window = [0x4141_4141_4141_4141; WINDOW_WORDS];
        let len = message.copy(0, &mut window);
        terminate(&mut window, len);
        let mut fields = Fields::default();
        let _ended = (0..steps(len)).any(|step| search(&window, step, &mut fields));
        fields.credentials != 0
    }

    fn user_agent(message: &[u8]) -> Option<Agent> {
        let mut window = [0x4141_4141_4141_4141; WINDOW_WORDS];
        let len = message.copy(0, &mut window);
        terminate(&mut window, len);
        let mut fields = Fields::default();
        let _ended = (0..steps(len)).any(|step| search(&window, step, &mut fields));
        (fields.agent != 0).then(|| agent(&window, usize::try_from(fields.agent).unwrap()))
    }

    #[test]
    fn fields_are_the_same_as_a_word() {
        for credentials in [0, 1] {
            for agent in [0, 1, 77, 1983] {
                let word = Fields { credentials, agent }.to_word();
                let Fields { credentials: same, agent: also } = Fields::from_word(word);
                assert_eq!((same, also), (credentials, agent));
            }
        }
    }

    #[test]
    fn agents() {
        let table: &[(&str, Option<&str>)] = &[
            ("User-Agent: friendly-scanner\r\n", Some("friendly-scanner")),
            ("USER-AGENT:friendly-scanner\n", Some("friendly-scanner")),
            ("user-agent  :  FRIENDLY-Scanner\r\n", Some("friendly-scanner")),
            ("User-Agent:\r\n", Some("")),
            ("Allow: b\rUser-Agent: friendly-scanner\r", Some("friendly-scanner")),
            ("User-Agent: ", Some("")),
            ("User-Agents: friendly-scanner\r\n", None),
            ("X-User-Agent: friendly-scanner\r\n", None),
            ("\r\nUser-Agent: in the body\r\n", None),
            ("User-Agent: one\r\nUser-Agent: two\r\n", Some("one")),
            (
                "Authorization: x\r\nUser-Agent: 0123456789012345678901234567890123456789\r\n",
                Some("01234567890123456789012345678901"),
            ),
        ];
        for (fields, expected) in table {
            for pad in 0..16 {
                let pad = "x".repeat(pad);
                let message = format!("REGISTER sip:a SIP/2.0\r\nVia: {pad}\r\n{fields}To: b\r\n");
                let expected = expected.map(|text| agent_of(text.as_bytes()).0);
                // If it is cut off at the end, it matches nothing.
                let message = message.replace("User-Agent: To", "User-Agent: \r\nTo");
                assert_eq!(user_agent(message.as_bytes()), expected, "{message:?}");
            }
        }
    }

    #[test]
    fn identities() {
        let identify = |message: &[u8]| {
            let payload = Payload { start: 0, end: message.len(), fragmented: false };
            identity(&message, payload, 7)
        };
        for (len, is) in [(0, false), (63, false), (64, true), (1500, true)] {
            let message = Payload { start: 42, end: 42 + len, fragmented: false };
            assert_eq!(is_identified(message), is, "{len}");
        }
        assert!(!is_identified(Payload { start: 43, end: 42, fragmented: false }));
        let message = [b'a'; 400];
        let mut other = message;
        other[383] = b'b';
        assert_eq!(identify(&message), identify(&message));
        assert_ne!(identify(&message), identify(&other));
        for place in 0..384 {
            let mut other = message;
            other[place] ^= 1;
            assert_ne!(identify(&message), identify(&other), "{place}");
        }
        // A rest of less than a block is not read.
        assert_eq!(identify(&message), identify(&message[..384]));
    }

    /// The same as [`search`], written for readability.
    fn authorized_slowly(message: &[u8]) -> bool {
        let message = &message[..message.len().min(WINDOW_BYTES)];
        for at in 1..message.len() {
            let (before, rest) = (message[at - 1], &message[at..]);
            let after_cr = before == CR && rest[0] == CR;
            if after_cr || before == LF && matches!(rest[0], CR | LF) {
                return false;
            }
            let begins = matches!(before, CR | LF) && rest.len() > 13;
            if begins && rest[..13].eq_ignore_ascii_case(b"authorization") {
                let spaces = rest[13..].iter().take_while(|b| matches!(b, b' ' | b'\t')).count();
                if spaces <= 3 && rest.get(13 + spaces) == Some(&b':') {
                    return true;
                }
            }
        }
        false
    }

    #[test]
    fn starts() {
        let table: &[(&[u8], Start)] = &[
            (b"REGISTER sip:192.0.2.10 SIP/2.0\r\n", Start::Register),
            (b"\r\n\r\nREGISTER sip:192.0.2.10 SIP/2.0\r\n", Start::Register),
            (b" \tREGISTER sip:192.0.2.10 SIP/2.0\r\n", Start::Register),
            (b" \r\n REGISTER\r\n sip:192.0.2.10 SIP/2.0\r\n", Start::Register),
            (b"REGISTERED sip:192.0.2.10 SIP/2.0\r\n", Start::NotSip),
            (b"INVITE sip:600@192.0.2.10 SIP/2.0\r\n", Start::Invite),
            (b"invite sip:600@192.0.2.10 SIP/2.0\r\n", Start::Invite),
            (b"INVITER sip:600@192.0.2.10 SIP/2.0\r\n", Start::NotSip),
            (b"SUBSCRIBE sip:600@192.0.2.10 SIP/2.0\r\n", Start::Subscribe),
            (b"OPTIONS\tsip:600@192.0.2.10 SIP/2.0\r\n", Start::Options),
            (b"ACK\r\n sip:600@192.0.2.10 SIP/2.0\r\n", Start::Request),
            (b"INVITE\0sip:600@192.0.2.10 SIP/2.0\r\n", Start::NotSip),
            (b"INVITE@sip:600@192.0.2.10 SIP/2.0\r\n", Start::NotSip),
            (b"INVITE`sip:600@192.0.2.10 SIP/2.0\r\n", Start::NotSip),
            (b"OPTIONS ", Start::Options),
            (b"OPTIONS", Start::NotSip),
            (b"OPTIONS sip:600@192.0.2.10 SIP/2.0\r\n", Start::Options),
            (b"MESSAGE sip:600@192.0.2.10 SIP/2.0\r\n", Start::Request),
            (b"SIP/2.0 401 Unauthorized\r\n", Start::Response),
            (b"SIP/3.0 401 Unauthorized\r\n", Start::NotSip),
            (b"\r\n\r\n", Start::KeepAlive),
            (b"\r\n", Start::KeepAlive),
            (b"", Start::KeepAlive),
            (b"REG", Start::NotSip),
            (b"\0\x01\0\0\x21\x12\xa4\x42aaaaaaaaaaaa", Start::Stun),
            (b"\x16\x03\x01\x02\0\x01\0\x01\xfc", Start::NotSip),
            (b"GET / HTTP/1.0\r\n", Start::NotSip),
            (b"\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\n\nREGISTER sip:x SIP/2.0", Start::Register),
        ];
        for (payload, expected) in table {
            assert_eq!(of(payload), *expected, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn a_cut_first_fragment_counts_as_register() {
        // With a byte of padding after each.
        for payload in [&b"\0"[..], b"\r\n\0", b"REGI\0", b"REGISTER\0"] {
            let fragment = Payload { start: 0, end: payload.len() - 1, fragmented: true };
            assert_eq!(start(&payload, fragment).0, Start::Register, "{}", payload.escape_ascii());
        }
    }

    #[test]
    fn a_message_begins_at_its_start_line() {
        let payload: &[u8] = b"\r\n\r\nREGISTER sip:a SIP/2.0\r\n";
        let whole = Payload { start: 0, end: payload.len(), fragmented: false };
        assert_eq!(start(&payload, whole), (Start::Register, Payload { start: 4, ..whole }));
    }

    #[test]
    fn credentials() {
        let table: &[(&str, bool)] = &[
            ("Authorization: Digest\r\n", true),
            ("authorization : Digest\r\n", true),
            ("AUTHORIZATION\t: Digest\r\n", true),
            ("Authorization:\r\n Digest\r\n", true),
            ("Authorizatio: Digest\r\n", false),
            ("Authorizations: Digest\r\n", false),
            ("Proxy-Authorization: Digest\r\n", false),
            (" Authorization: folded into Via\r\n", false),
            ("Accept: a\r\nAllow: b\r\nAuthorization: Digest\r\n", true),
            ("Accept: a\rAuthorization: Digest\r", true),
            ("\r\nAuthorization: in the body\r\n", false),
            ("a\r\rAuthorization: in the body\r\n", false),
            ("a: *\r\n\r\nAuthorization: in the body\r\n", false),
            ("\nA\nA\nA\nA\nA\nA\nA\nA\nAuthorization: x\r\n", false),
            ("A\nA\nA\nA\nA\nA\nA\nA\nA\nAuthorization: x\r\n", true),
        ];
        for (fields, expected) in table {
            // At every position in a word.
            for pad in 0..16 {
                let pad = "x".repeat(pad);
                let message =
                    format!("REGISTER sip:a SIP/2.0\r\nVia: {pad}\r\n{fields}To: b\r\n\r\n");
                assert_eq!(authorized(message.as_bytes()), *expected, "{pad}{fields:?}");
            }
        }
    }

    #[test]
    fn each_letter_of_a_name_counts() {
        let message = |name: &str| format!("REGISTER sip:a SIP/2.0\r\n{name}: x\r\n\r\n");
        for name in ["Authorization", "User-Agent"] {
            let is_known = |name: &str| {
                let message = message(name);
                authorized(message.as_bytes()) || user_agent(message.as_bytes()).is_some()
            };
            assert!(is_known(name));
            for place in 0..name.len() {
                for other in ["_", "n", "A"] {
                    let mut changed = String::from(name);
                    changed.replace_range(place..=place, other);
                    assert_eq!(is_known(&changed), changed.eq_ignore_ascii_case(name), "{changed}");
                }
            }
        }
    }

    #[test]
    fn credentials_at_the_end_of_the_window() {
        for filler in WINDOW_BYTES - 60..WINDOW_BYTES {
            let message =
                format!("REGISTER sip:{}\r\nAuthorization: x\r\n\r\n", "a".repeat(filler));
            assert_eq!(authorized(message.as_bytes()), authorized_slowly(message.as_bytes()));
        }
    }

    /// Behind its steps a message is not ended by zeros.
    #[test]
    fn a_message_has_steps_to_its_end() {
        for (len, expected) in [
            (0, 0),
            (1, 1),
            (32, 1),
            (33, 2),
            (WINDOW_BYTES, 62),
            (WINDOW_BYTES + 1, 62),
            (WINDOW_BYTES + 33, 62),
        ] {
            assert_eq!(steps(len), expected, "{len}");
        }
    }

    proptest! {
        #[test]
        fn agrees_with_the_slow_search(
            parts in proptest::collection::vec(prop_oneof![
                Just("\r\n"), Just("\n"), Just("\r"), Just("Authorization"), Just("authorization"),
                Just(":"), Just(" "), Just("\t"), Just("A"), Just("a"), Just("Via: x"), Just("xyz"),
            ], 0..400),
            cut in 0usize..3000,
        ) {
            let message: String = parts.concat();
            let message = &message.as_bytes()[..cut.min(message.len())];
            prop_assert_eq!(authorized(message), authorized_slowly(message));
        }

        /// Of messages that need no skipping, `is_register` and `start` know the same as REGISTERs.
        #[test]
        fn a_register_is_known_by_its_first_bytes(
            method in "[Rr][Ee][Gg][Ii][Ss][Tt][Ee][Rr]|[A-Za-z]{8}",
            behind in prop_oneof![proptest::sample::select(b" \t\r\n\0:".to_vec()), any::<u8>()],
            rest: [u8; 60],
        ) {
            let payload = [method.as_bytes(), &[behind], &rest].concat();
            let words = payload.as_slice().words(0).unwrap();
            for fragmented in [false, true] {
                let whole = Payload { start: 0, end: payload.len(), fragmented };
                let (kind, _) = start(&payload.as_slice(), whole);
                prop_assert_eq!(is_register(words), kind == Start::Register, "{}", method);
            }
        }

        #[test]
        fn any_bytes_have_a_start(bytes: Vec<u8>, fragmented: bool, end in 0usize..70_000) {
            let _any = start(&bytes.as_slice(), Payload { start: 0, end, fragmented });
        }
    }
}

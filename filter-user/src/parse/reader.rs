//! Reads the lines of a log in order, and returns the meaning of each.
//!
//! A parser sees a single line. Some of its meaning depends on the lines before it: whether it is part of
//! a packet that Asterisk repeats, whether the log can contain whole lines of an attacker's text, and
//! whether the line reports the same login again. The daemon and `test-log` both read through this, so
//! that they never disagree.
//!
//! # What a log proves
//!
//! In a log with the format `[json]` everything is escaped. In a plain log with only the level SECURITY,
//! an account is the only text that can contain a line break, and it breaks its own line; only that of a
//! login to AMI is long enough for whole lines. Any other log
//! can contain whole lines that an attacker has written: a packet that the level ERROR repeats, a From
//! with `%0a`. So a log is trusted only as long as all its lines are of a kind that proves this, because
//! lines that an attacker has written follow a line of another kind.
//!
//! A line that begins a repeated packet can itself be such a line, meant to hide the failures after it. So a
//! failure within a packet is not passed over but undecided between its address and the one that sent
//! the packet: only that of them counts from which alone packets have come. And a packet ends with the end
//! of a line that an attacker's text has broken.

use std::collections::VecDeque;
use std::net::IpAddr;

use memchr::{memchr, memmem};

use detection::parse::{AsteriskLine, in_asterisk_line};

use super::dates::DateFormat;
use super::{Parser, asterisk, security};
use crate::fail2ban::Reading;
use crate::failure::{Attempt, Verdict};

/// The longest packet that Asterisk repeats without its length: `PJ_LOG_MAX_SIZE` of PJSIP, with the
/// text around the packet.
const PACKET_MAX: usize = 4096;

/// The lines that PJSIP and `chan_sip` write after a packet.
const PACKET_ENDS: [&[u8]; 2] = [b"-- end of packet.", b"<------------->"];

/// How many refused logins to AMI are remembered until the line that ends each of them.
const REFUSALS: usize = 16;

/// The meaning of one line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// It reports an attempt.
    Attempt(Box<Attempt>),
    /// It was understood and counts neither way, for this reason.
    Passed(&'static str),
    /// It says nothing.
    Nothing,
}

/// Reads the lines of one log.
#[derive(Clone, Debug)]
pub struct Reader {
    parser: Parser,
    log: AsteriskLog,
}

impl Reader {
    /// A reader that has read no line yet.
    pub fn new(parser: Parser) -> Self {
        Self { parser, log: AsteriskLog::default() }
    }

    /// The parser of each line.
    pub fn parser(&self) -> &Parser {
        &self.parser
    }

    /// Reads the next line, without its newline.
    pub fn read(&mut self, line: &[u8]) -> Said {
        let attempt = match &self.parser {
            Parser::BuiltIn(parse) => parse(line).map(Box::new),
            Parser::Asterisk(dates) => return self.log.read(line, dates),
            Parser::Filter(filter) => {
                return match filter.read(line) {
                    Reading::Failure(attempt) => Said::Attempt(attempt),
                    Reading::Ignored => Said::Passed(UNDERSTOOD),
                    Reading::NoAddress => Said::Passed("matched, but names no single address"),
                    Reading::TooComplex => Said::Passed(GIVEN_UP),
                    Reading::Nothing => Said::Nothing,
                };
            }
        };
        attempt.map_or(Said::Nothing, Said::Attempt)
    }
}

/// A line that was not read to its end.
pub const GIVEN_UP: &str = "not matched completely: an expression has too many ways to match";

/// A line that was understood and counts neither way.
pub const UNDERSTOOD: &str = "understood, but not a failure";

/// The state from the earlier lines of one of Asterisk's logs.
#[derive(Clone, Debug, Default)]
struct AsteriskLog {
    kind: Kind,
    packet: Option<Packet>,
    refusals: VecDeque<Attempt>,
}

/// A packet that is being repeated.
#[derive(Clone, Copy, Debug)]
struct Packet {
    /// How many bytes it can still have.
    left: usize,
    /// The other side: its sender, or that of the request which it answers.
    peer: IpAddr,
}

/// The kind of a log, as its lines show it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// It has had no line yet.
    #[default]
    Unknown,
    /// Each line is JSON.
    Json,
    /// Each line is of the level SECURITY.
    Security,
    /// Its lines can be anything.
    Mixed,
}

impl AsteriskLog {
    fn read(&mut self, line: &[u8], dates: &DateFormat) -> Said {
        if let Some(said) = self.within_packet(line, dates) {
            return said;
        }
        let of_line = |line: &AsteriskLine<'_>| {
            let attempt = attempt_of(line, dates);
            let kind = match (line.is_json, line.level) {
                (true, _) => Kind::Json,
                (false, b"SECURITY") if !security::may_run_on(line) => Kind::Security,
                (false, _) => Kind::Mixed,
            };
            let said = match attempt {
                Some(attempt) => Said::Attempt(Box::new(attempt)),
                None if asterisk::names_peer_for_address(line) => {
                    Said::Passed("contains no address: Asterisk writes the name of a peer instead")
                }
                None => Said::Nothing,
            };
            Some((said, kind, if line.is_json { None } else { packet_behind(line) }))
        };
        let (said, kind) = match in_asterisk_line(line, of_line) {
            Some((said, kind, packet)) => {
                self.packet = packet;
                (said, kind)
            }
            // Every log begins with the version that wrote it.
            None if is_first_line(line) => return Said::Nothing,
            None => (Said::Nothing, Kind::Mixed),
        };
        let is_as_before = self.kind == Kind::Unknown || self.kind == kind;
        self.kind = if is_as_before { kind } else { Kind::Mixed };
        let Said::Attempt(attempt) = said else { return said };
        if let Some(at) = self.refusals.iter().position(|r| asterisk::repeats_refusal(&attempt, r))
        {
            self.refusals.remove(at);
            return Said::Passed("the end of a login that an earlier line reports");
        }
        if asterisk::is_refusal(&attempt) {
            self.refusals.truncate(REFUSALS - 1);
            self.refusals.push_front((*attempt).clone());
        }
        if self.kind != Kind::Mixed {
            return Said::Attempt(attempt);
        }
        Said::Attempt(Box::new(attempt.doubted()))
    }

    /// The meaning of a line of a packet that is being repeated; `None` if none is.
    fn within_packet(&mut self, line: &[u8], dates: &DateFormat) -> Option<Said> {
        let packet = self.packet.as_mut()?;
        let peer = packet.peer;
        packet.left = packet.left.saturating_sub(line.len() + 1);
        let is_end = packet.left == 0
            || PACKET_ENDS.contains(&line.trim_ascii_end())
            || asterisk::ends_broken_line(line);
        if is_end {
            self.packet = None;
        }
        self.kind = Kind::Mixed;
        let failure = in_asterisk_line(line, |line| attempt_of(line, dates));
        let failure = failure.filter(|attempt| attempt.verdict == Verdict::Failure);
        Some(failure.map_or(Said::Passed("part of a packet that Asterisk repeats"), |failure| {
            let mut undecided = Attempt { decided: false, ..failure.doubted() };
            if undecided.address != peer {
                undecided.rivals.push(peer);
            }
            Said::Attempt(Box::new(undecided))
        }))
    }
}

/// The attempt that a line of any level reports.
fn attempt_of(line: &AsteriskLine<'_>, dates: &DateFormat) -> Option<Attempt> {
    asterisk::of_line(line, dates).or_else(|| security::of_line(line, dates))
}

/// The packet that follows a line.
fn packet_behind(line: &AsteriskLine<'_>) -> Option<Packet> {
    let behind = |text: &[u8]| Some(&line.text[memmem::find(line.text, text)? + text.len()..]);
    match line.level {
        b"ERROR" => {
            let peer = peer(behind(b"Error processing packet from ")?)?;
            Some(Packet { left: PACKET_MAX, peer })
        }
        // `<--- Received SIP request (578 bytes) from UDP:192.0.2.66:5060 --->`
        b"VERBOSE" | b"DEBUG" if line.text.trim_ascii_end().ends_with(b"--->") => {
            let Some(length) = memmem::find(line.text, b" bytes) ") else {
                let peer = peer(after_transport(behind(b"<--- SIP read from ")?)?)?;
                return Some(Packet { left: usize::from(u16::MAX), peer });
            };
            let digits = &line.text[..length];
            let digits = &digits[memchr::memrchr(b'(', digits).map_or(length, |at| at + 1)..];
            let left: usize = str::from_utf8(digits).ok()?.parse().ok()?;
            let peer = peer(after_transport(&line.text[length..])?)?;
            (left > 0).then(|| Packet { left: left.min(usize::from(u16::MAX)), peer })
        }
        _ => None,
    }
}

/// What follows `UDP:` and the like.
fn after_transport(text: &[u8]) -> Option<&[u8]> {
    let word = memchr(b':', text)?;
    Some(&text[word + 1..])
}

/// The address at the start of `text`, before a port; that of IPv6 with brackets or without.
fn peer(text: &[u8]) -> Option<IpAddr> {
    let word = text.split(u8::is_ascii_whitespace).next()?;
    let word = str::from_utf8(word).ok()?.trim_end_matches([':', ',']);
    let (address, _port) = word.rsplit_once(':')?;
    Some(address.trim_matches(['[', ']']).parse::<IpAddr>().ok()?.to_canonical())
}

/// `[date] Asterisk 22.10.1 built by ...`
fn is_first_line(line: &[u8]) -> bool {
    let text = memmem::find(line, b"] Asterisk ").map(|at| &line[at..]);
    let dated = line.first() == Some(&b'[') && memchr(b']', line).is_some();
    dated && text.is_some_and(|text| memmem::find(text, b" built by ").is_some())
}

/// Why an attempt counts neither way; `None` if it counts.
pub fn why_ignored(attempt: &Attempt) -> Option<&'static str> {
    if !attempt.decided {
        return Some("more than one address could be the source");
    }
    if attempt.verdict != Verdict::Ignored {
        return None;
    }
    Some(match attempt.rule {
        "rejected-call" | "chan-sip" => {
            "a wrong number: only guests and phones without an account count"
        }
        "iax-call" => "a wrong number from a peer with its password, or a codec",
        "endpoint-acl" | "global-acl" => "a line of acl.c reports the same",
        "dropped-packet" => "not SIP: devices send other packets to a SIP port too",
        "registrar" => "a misconfigured phone: only guests count",
        "ChallengeSent" => "every registration begins with a challenge, even a successful one",
        "FailedACL" => "a phone with its password, but too many contacts",
        "RequestNotSupported" | "RequestNotAllowed" => {
            "an authenticated request for something that is not set up"
        }
        "failed" => "a key for an existing user: clients offer every key that they have",
        "disconnect" | "closed" => "the end of a connection whose failures other lines report",
        "pam-unix" => "sshd reports the same in another line",
        _ => UNDERSTOOD,
    })
}

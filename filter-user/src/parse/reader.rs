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
//! an account is the only text that can contain a line break, and it breaks its own line. Any other log
//! can contain whole lines that an attacker has written: a packet that the level ERROR repeats, a From
//! with `%0a`. So a log is trusted only as long as all its lines are of a kind that proves this, because
//! lines that an attacker has written follow a line of another kind.

use std::collections::VecDeque;

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
    /// How many bytes the packet that is being repeated can still have.
    packet: usize,
    refusals: VecDeque<Attempt>,
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
        if self.packet > 0 {
            self.packet = self.packet.saturating_sub(line.len() + 1);
            if PACKET_ENDS.contains(&line.trim_ascii_end()) {
                self.packet = 0;
            }
            self.kind = Kind::Mixed;
            return Said::Passed("part of a packet that Asterisk repeats");
        }
        let of_line = |line: &AsteriskLine<'_>| {
            let attempt = asterisk::of_line(line, dates).or_else(|| security::of_line(line, dates));
            let kind = match (line.is_json, line.level) {
                (true, _) => Kind::Json,
                (false, b"SECURITY") => Kind::Security,
                (false, _) => Kind::Mixed,
            };
            let said = match attempt {
                Some(attempt) => Said::Attempt(Box::new(attempt)),
                None if asterisk::names_peer_for_address(line) => {
                    Said::Passed("contains no address: Asterisk writes the name of a peer instead")
                }
                None => Said::Nothing,
            };
            Some((said, kind, if line.is_json { 0 } else { packet_behind(line) }))
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
        let unproven = Attempt { proven: false, answered: false, needs_witness: true, ..*attempt };
        Said::Attempt(Box::new(unproven))
    }
}

/// The most bytes of a packet that follow a line.
fn packet_behind(line: &AsteriskLine<'_>) -> usize {
    let holds = |text: &[u8]| memmem::find(line.text, text).is_some();
    match line.level {
        b"ERROR" if holds(b"Error processing packet from ") => PACKET_MAX,
        // `<--- Received SIP request (578 bytes) from UDP:192.0.2.66:5060 --->`
        b"VERBOSE" | b"DEBUG" if line.text.trim_ascii_end().ends_with(b"--->") => {
            let Some(length) = memmem::find(line.text, b" bytes) ") else {
                return if holds(b"<--- SIP read from ") { usize::from(u16::MAX) } else { 0 };
            };
            let digits = &line.text[..length];
            let digits = &digits[memchr::memrchr(b'(', digits).map_or(length, |at| at + 1)..];
            let length = str::from_utf8(digits).ok().and_then(|digits| digits.parse().ok());
            length.unwrap_or(0).min(usize::from(u16::MAX))
        }
        _ => 0,
    }
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

//! A log in the order of its lines: one line enters, what it says leaves.
//!
//! The parsers look at one line alone. Some of what a line means stands in those before it: whether it is
//! part of a packet that Asterisk repeats, whether its log is one into which nobody can write a whole
//! line, and whether it tells of the same login again. The daemon and `test-log` read through this, so
//! that they never disagree.
//!
//! # What a log proves
//!
//! In a log with the format `[json]` everything is escaped, and a plain one that has the level SECURITY
//! alone holds no text with a line break but an account's, which breaks its line. Any other can hold
//! whole lines that an attacker has written: a packet that the level ERROR repeats, a From with `%0a`.
//! So a log is believed as far as its lines have shown what it is, and never again once one was of
//! another kind: what an attacker has written stands behind a line of another kind.

use std::collections::VecDeque;

use memchr::{memchr, memmem};

use detection::parse::{AsteriskLine, in_asterisk_line};

use super::dates::DateFormat;
use super::{Parser, asterisk, security};
use crate::fail2ban::Reading;
use crate::failure::{Attempt, Verdict};

/// The names of the rules for Asterisk's logs, of whatever level.
pub const ASTERISK_RULES: &[&str] = &ALL_RULES;

const ALL_RULES: [&str; asterisk::RULES.len() + security::RULES.len()] = {
    let mut rules = [""; asterisk::RULES.len() + security::RULES.len()];
    let mut at = 0;
    while at < rules.len() {
        rules[at] = match at.checked_sub(asterisk::RULES.len()) {
            None => asterisk::RULES[at],
            Some(of_security) => security::RULES[of_security],
        };
        at += 1;
    }
    rules
};

/// The longest packet that Asterisk repeats where it does not say how long it is: `PJ_LOG_MAX_SIZE` of
/// PJSIP, with what stands around it.
const PACKET_MAX: usize = 4096;

/// What PJSIP and `chan_sip` write behind a packet.
const PACKET_ENDS: [&[u8]; 2] = [b"-- end of packet.", b"<------------->"];

/// Refused logins to AMI of which the line that ends each of them may follow.
const REFUSALS: usize = 16;

/// What one line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Said {
    /// Something about an attempt.
    Attempt(Box<Attempt>),
    /// Something that counts neither way, and why.
    Passed(&'static str),
    /// Nothing.
    Nothing,
}

/// Reads the lines of one log.
#[derive(Clone, Debug)]
pub struct Reader {
    parser: Parser,
    log: AsteriskLog,
}

impl Reader {
    /// One that has read no line yet.
    pub fn new(parser: Parser) -> Self {
        Self { parser, log: AsteriskLog::default() }
    }

    /// What reads each line.
    pub fn parser(&self) -> &Parser {
        &self.parser
    }

    /// What the next line says, without its newline.
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
pub const GIVEN_UP: &str = "given up: an expression has too many ways to match";

/// A line that was understood and counts neither way.
pub const UNDERSTOOD: &str = "understood, and no failure";

/// What the lines of one of Asterisk's logs have shown so far.
#[derive(Clone, Debug, Default)]
struct AsteriskLog {
    kind: Kind,
    /// Bytes that a packet can still have that is being repeated.
    packet: usize,
    refusals: VecDeque<Attempt>,
}

/// What a log is, by its lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Kind {
    /// It has had no line yet.
    #[default]
    Unknown,
    /// Each line is JSON.
    Json,
    /// Each line is of the level SECURITY.
    Security,
    /// There can be anything in it.
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
                None if asterisk::names_peer_for_address(line) => Said::Passed(
                    "names no address: where others have it, Asterisk writes a peer's name",
                ),
                None => Said::Nothing,
            };
            Some((said, kind, if line.is_json { 0 } else { packet_behind(line) }))
        };
        let (said, kind) = match in_asterisk_line(line, of_line) {
            Some((said, kind, packet)) => {
                self.packet = packet;
                (said, kind)
            }
            // Every log begins with what wrote it.
            None if is_first_line(line) => return Said::Nothing,
            None => (Said::Nothing, Kind::Mixed),
        };
        let is_as_before = self.kind == Kind::Unknown || self.kind == kind;
        self.kind = if is_as_before { kind } else { Kind::Mixed };
        let Said::Attempt(attempt) = said else { return said };
        if let Some(at) = self.refusals.iter().position(|r| asterisk::repeats_refusal(&attempt, r))
        {
            self.refusals.remove(at);
            return Said::Passed("the end of a login of which a line before tells");
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

/// How many bytes of a packet follow a line at most.
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
        return Some("more than one address stands where the source does");
    }
    if attempt.verdict != Verdict::Ignored {
        return None;
    }
    Some(match attempt.rule {
        "rejected-call" | "chan-sip" => {
            "a wrong number: only guests count, and phones that have no account yet"
        }
        "iax-call" => "a wrong number of a peer with his password, or a codec",
        "endpoint-acl" | "global-acl" => "a line of acl.c tells of the same",
        "dropped-packet" => "no SIP: devices send other things to a SIP port too",
        "registrar" => "a phone that is set up wrongly: only guests count",
        "ChallengeSent" => "each good registration begins so",
        "FailedACL" => "a phone with more contacts than it may have: it has its password",
        "RequestNotSupported" | "RequestNotAllowed" => {
            "what is not set up, asked for with the password"
        }
        "failed" => "a key of a user that exists: clients offer all that they have",
        "disconnect" | "closed" => "the end of a connection, of whose failures other lines tell",
        "pam-unix" => "sshd tells of the same in a line of its own",
        _ => UNDERSTOOD,
    })
}

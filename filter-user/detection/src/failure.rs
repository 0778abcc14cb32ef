//! An attempt, as parsed and before any judgement.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};
use serde::{Deserialize, Serialize};

use crate::clock::Moment;

/// The longest account name that is kept, in bytes. Account names are attackers' text; Asterisk's own
/// security events truncate them to 36 characters (`res/res_pjsip/security_events.c`).
pub const ACCOUNT_MAX: usize = 64;

/// How many bytes of a session's name are kept. A Call-ID is attackers' text of any length.
pub const SESSION_MAX: usize = 128;

/// One line or event about an attempt by `address`. Its JSON form, which the store keeps, has the
/// fields that a jail needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[expect(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct Attempt {
    /// The result of the attempt.
    pub verdict: Verdict,
    /// The kind of attempt.
    pub class: Class,
    /// The packet's source as the server saw it, never an address from an attacker's text.
    pub address: IpAddr,
    /// The packet's source port, if the log has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The account that it named: attackers' text, at most [`ACCOUNT_MAX`] bytes, lossy UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub account: Option<String>,
    /// The Call-ID of the request or the name of the session: attackers' text, at most [`SESSION_MAX`]
    /// bytes, lossy UTF-8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session: Option<String>,
    /// The transport, if the log has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub transport: Option<Transport>,
    /// Whether the source cannot have been forged, neither on the wire nor in the text that named it.
    /// [`transport`](Self::transport) alone does not show this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub proven: bool,
    /// Whether it answered a challenge that was sent to this address, with the right password, and no
    /// text can have forged that: a SIP peer has proved itself.
    #[serde(skip)]
    pub answered: bool,
    /// Whether an attacker's text can have forged all of it, so that it is believed only after a packet
    /// from `address` to a SIP port.
    #[serde(skip)]
    pub needs_witness: bool,
    /// Whether the first refusal on this connection, by address and port, is the same attempt: sshd
    /// logs an unknown user when the user name arrives, and again when it refuses the user.
    pub announces: bool,
    /// The time in the log. Year-less syslog dates have none.
    #[serde(skip)]
    pub logged_at: Option<LoggedAt>,
    /// Other addresses that the line names in the same way, in text that an attacker may have made look
    /// like it.
    #[serde(skip)]
    pub rivals: Vec<IpAddr>,
    /// Whether the line alone proves that it is `address` and none of the rivals.
    #[serde(skip, default = "yes")]
    pub decided: bool,
    /// How many such attempts the line reports, at most [`TIMES_MAX`].
    #[serde(skip, default = "once")]
    pub times: u32,
    /// The rule of its parser that recognised it, one of the parser's `RULES`; empty if its rules have
    /// no names.
    #[serde(skip)]
    pub rule: &'static str,
}

fn yes() -> bool {
    true
}

fn once() -> u32 {
    1
}

/// The most attempts that one line can report.
pub const TIMES_MAX: u32 = 100;

impl Attempt {
    /// An attempt without any optional value.
    pub fn new(verdict: Verdict, class: Class, address: IpAddr) -> Self {
        Self {
            verdict,
            class,
            address,
            port: None,
            account: None,
            session: None,
            transport: None,
            proven: false,
            answered: false,
            needs_witness: false,
            announces: false,
            logged_at: None,
            rivals: Vec::new(),
            decided: true,
            times: 1,
            rule: "",
        }
    }

    /// Each of the attempts that it represents.
    pub fn each(self) -> impl Iterator<Item = Self> {
        let times = usize::try_from(self.times.min(TIMES_MAX)).unwrap_or(1);
        std::iter::repeat_n(Self { times: 1, ..self }, times)
    }
}

impl Attempt {
    /// The attempt if a stranger may have written what reports it: it proves nothing, and counts only with a witness.
    #[must_use]
    pub fn doubted(self) -> Self {
        Self { proven: false, answered: false, needs_witness: true, ..self }
    }

    /// Whether it was made less than `max_age` before `now`, by the date in the log; true if there is
    /// none. Lines that are read after a pause must not count as if they were new.
    pub fn is_recent(&self, now: Timestamp, max_age: Duration) -> bool {
        let at = self.logged_at.and_then(|at| at.instant(&TimeZone::system()));
        let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
        at.is_none_or(|at| now.duration_since(at) < max_age)
    }
}

/// A time as in a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoggedAt {
    /// In the time zone of the host.
    Host(civil::DateTime),
    /// With its offset from UTC.
    Instant(Timestamp),
}

impl LoggedAt {
    /// The instant, on a host in `zone`; `None` if no calendar has that date.
    pub fn instant(self, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Self::Host(time) => zone.to_timestamp(time).ok(),
            Self::Instant(instant) => Some(instant),
        }
    }
}

/// The result of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It counts against its source.
    Failure,
    /// It clears its source.
    Success,
    /// It was understood, and has no effect.
    Ignored,
}

/// What kind of attempt it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Class {
    /// A known or unknown account with a refused credential.
    WrongCredential,
    /// An account that does not exist.
    UnknownAccount,
    /// An access list that refused the source.
    Acl,
    /// A login to something that is not SIP (AMI, ssh).
    Login,
    /// A provisioning file or code.
    Provisioning,
    /// A challenge that was not answered.
    Challenge,
    /// A call to an extension that does not exist.
    CallRejected,
    /// Something that is not SIP.
    Malformed,
    /// A ban by another jail.
    Ban,
}

impl Class {
    /// The name that configuration, `--json` and logs use.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WrongCredential => "wrong-credential",
            Self::UnknownAccount => "unknown-account",
            Self::Acl => "acl",
            Self::Login => "login",
            Self::Provisioning => "provisioning",
            Self::Challenge => "challenge",
            Self::CallRejected => "call-rejected",
            Self::Malformed => "malformed",
            Self::Ban => "ban",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The transport of a request (RFC 3261 section 18, RFC 7118).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Transport {
    /// UDP: the source address is forgeable.
    Udp,
    /// TCP.
    Tcp,
    /// TLS over TCP.
    Tls,
    /// WebSocket.
    Ws,
    /// WebSocket over TLS.
    Wss,
}

impl Transport {
    /// Whether there was a connection, so that the source address cannot have been forged.
    pub fn proves_source(self) -> bool {
        self != Self::Udp
    }
}

/// An account name for display and evidence: at most [`ACCOUNT_MAX`] bytes of `bytes`, in which control
/// characters and anything that is not UTF-8 are replaced.
pub fn account(bytes: &[u8]) -> String {
    shown(bytes, ACCOUNT_MAX)
}

/// A session's name, like [`account`], at most [`SESSION_MAX`] bytes.
pub fn session(bytes: &[u8]) -> String {
    shown(bytes, SESSION_MAX)
}

fn shown(bytes: &[u8], longest: usize) -> String {
    let start = &bytes[..bytes.len().min(longest)];
    let plain = start.iter().all(|byte| (b' '..=b'~').contains(byte));
    // The common case.
    if plain && let Ok(text) = str::from_utf8(start) {
        return text.to_owned();
    }
    let mut out = String::new();
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            let c = if c.is_control() { char::REPLACEMENT_CHARACTER } else { c };
            if out.len() + c.len_utf8() > longest {
                return out;
            }
            out.push(c);
        }
        if !chunk.invalid().is_empty() {
            if out.len() + char::REPLACEMENT_CHARACTER.len_utf8() > longest {
                return out;
            }
            out.push(char::REPLACEMENT_CHARACTER);
        }
    }
    out
}

/// One failure, as `why` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evidence {
    /// The source that reported it.
    pub source: &'static str,
    /// When it was reported.
    pub at: Moment,
    /// The address that failed, if its source has many and it is remembered.
    pub address: Option<IpAddr>,
    /// What kind of failure it was.
    pub class: Class,
    /// The account that it named.
    pub account: Option<Box<str>>,
    /// Whether the source cannot have been forged.
    pub proven: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_shown_as_far_as_whole_characters_fit() {
        let x = |count: usize| "x".repeat(count);
        for (name, shown) in [
            (x(63), x(63)),
            (x(64), x(64)),
            (x(65), x(64)),
            (x(62) + "é", x(62) + "é"),
            (x(63) + "é", x(63)),
            (x(61) + "€" + "x", x(61) + "€"),
            (x(61) + "\n", x(61) + "\u{fffd}"),
            (x(62) + "\n", x(62)),
            (" ~\u{7f}\u{1f}".to_owned(), " ~\u{fffd}\u{fffd}".to_owned()),
        ] {
            assert_eq!(account(name.as_bytes()), shown);
        }
        for (count, expected) in [(61, x(61) + "\u{fffd}"), (62, x(62))] {
            let bytes = [x(count).as_bytes(), b"\xff"].concat();
            assert_eq!(account(&bytes), expected);
        }
        assert_eq!((session(&[b'x'; 128]), session(&[b'x'; 129])), (x(128), x(128)));
    }

    #[test]
    fn a_line_reports_a_bounded_number_of_attempts() {
        let attempt = |times| Attempt {
            times,
            ..Attempt::new(Verdict::Failure, Class::Login, [192, 0, 2, 66].into())
        };
        for (times, each) in [(0, 0), (1, 1), (99, 99), (100, 100), (101, 100)] {
            assert_eq!(attempt(times).each().count(), each);
        }
        assert!(attempt(7).each().all(|attempt| attempt.times == 1));
    }

    #[test]
    fn an_attempt_is_recent_for_less_than_the_given_time() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let of = |logged_at| Attempt {
            logged_at,
            ..Attempt::new(Verdict::Failure, Class::Login, [192, 0, 2, 66].into())
        };
        let logged = of(Some(LoggedAt::Instant(second(1000))));
        for (now, is_recent) in [(900, true), (1059, true), (1060, false), (1061, false)] {
            assert_eq!(logged.is_recent(second(now), Duration::from_mins(1)), is_recent, "{now}");
        }
        assert!(of(None).is_recent(second(1_000_000), Duration::from_mins(1)));
    }

    #[test]
    fn each_class_has_the_name_that_the_store_has() {
        use Class::{
            Acl, Ban, CallRejected, Challenge, Login, Malformed, Provisioning, UnknownAccount,
            WrongCredential,
        };
        for class in [
            WrongCredential,
            UnknownAccount,
            Acl,
            Login,
            Provisioning,
            Challenge,
            CallRejected,
            Malformed,
            Ban,
        ] {
            assert_eq!(serde_json::to_string(&class).unwrap(), format!("\"{class}\""));
        }
    }

    #[test]
    fn only_udp_leaves_the_source_open() {
        use Transport::{Tcp, Tls, Udp, Ws, Wss};
        let proves = [Udp, Tcp, Tls, Ws, Wss].map(Transport::proves_source);
        assert_eq!(proves, [false, true, true, true, true]);
    }

    #[test]
    fn an_attempt_that_was_stored_is_one_and_decided() {
        let attempt = Attempt::new(Verdict::Failure, Class::Login, [192, 0, 2, 66].into());
        let json = serde_json::to_string(&attempt).unwrap();
        assert_eq!(serde_json::from_str::<Attempt>(&json).unwrap(), attempt);
    }
}

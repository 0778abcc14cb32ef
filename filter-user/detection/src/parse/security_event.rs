//! Turns the names and values of an Asterisk security event, from any kind of source, into an
//! [`Attempt`].
//!
//! The events are those of `main/security_events.c` as `res_pjsip/security_events.c` and
//! `main/manager.c` raise them.

use std::net::SocketAddr;

use jiff::Timestamp;
use memchr::memchr;

use super::text::bare_address;
use crate::failure::{Attempt, Class, LoggedAt, Transport, Verdict, account, session};

/// The names of the events that report an attempt, which `status` uses as the names of the rules.
pub(super) const RULES: &[&str] = &[
    "ChallengeResponseFailed",
    "InvalidPassword",
    "InvalidAccountID",
    "FailedACL",
    "RequestNotSupported",
    "RequestNotAllowed",
    "ChallengeSent",
    "SuccessfulAuth",
];

/// The account that PJSIP reports for a request that belongs to none (`artificial_endpoint`).
const NO_ACCOUNT: &[u8] = b"<unknown>";

/// The contact ACL of a phone with more contacts than its AOR allows: it has registered with its
/// password.
const TOO_MANY_CONTACTS: &[u8] = b"registrar_attempt_exceeds_maximum_configured_contacts";

/// A parsed event. Account and session are the attacker's text.
#[derive(Clone, Copy, Debug)]
pub(super) struct SecurityEvent<'a> {
    pub(super) name: &'a [u8],
    pub(super) time: &'a [u8],
    pub(super) service: &'a [u8],
    pub(super) account: &'a [u8],
    pub(super) session: &'a [u8],
    pub(super) remote: Remote,
    /// The access list of a `FailedACL`.
    pub(super) acl: &'a [u8],
    /// `UsingPassword` of a `SuccessfulAuth`: `1` if the request had credentials.
    pub(super) password: &'a [u8],
}

/// The source of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Remote {
    pub(super) address: SocketAddr,
    pub(super) transport: Transport,
}

impl SecurityEvent<'_> {
    /// The attempt, or `None` if the event reports none.
    pub(super) fn attempt(&self) -> Option<Attempt> {
        let Remote { address, transport } = self.remote;
        let rule = RULES.iter().find(|rule| rule.as_bytes() == self.name)?;
        let of = |sip| if self.service == b"AMI" { Class::Login } else { sip };
        let (verdict, class) = match self.name {
            b"ChallengeResponseFailed" | b"InvalidPassword" => {
                (Verdict::Failure, of(Class::WrongCredential))
            }
            b"InvalidAccountID" => (Verdict::Failure, of(Class::UnknownAccount)),
            b"FailedACL" if self.acl == TOO_MANY_CONTACTS => (Verdict::Ignored, Class::Acl),
            b"FailedACL" => (Verdict::Failure, Class::Acl),
            b"RequestNotSupported" | b"RequestNotAllowed" => (Verdict::Ignored, Class::Acl),
            // The first half of every successful registration.
            b"ChallengeSent" => (Verdict::Ignored, Class::Challenge),
            b"SuccessfulAuth" => (Verdict::Success, of(Class::Challenge)),
            _ => return None,
        };
        // Asterisk's nonce is valid only for the address to which it was sent (`build_nonce` of
        // `res_pjsip_authenticator_digest.c`), so a client that answers has received it.
        let answered =
            verdict == Verdict::Success && class == Class::Challenge && self.password == b"1";
        let account_named = !self.account.is_empty() && self.account != NO_ACCOUNT;
        Some(Attempt {
            port: Some(address.port()),
            account: account_named.then(|| account(self.account)),
            session: (!self.session.is_empty()).then(|| session(self.session)),
            transport: Some(transport),
            proven: transport.proves_source() || answered,
            answered,
            rule,
            logged_at: event_time(self.time).map(LoggedAt::Instant),
            ..Attempt::new(verdict, class, address.ip())
        })
    }
}

/// `IPV4/UDP/192.0.2.66/42366`
pub(super) fn remote(text: &[u8]) -> Option<Remote> {
    let (family, rest) = text.split_at(memchr(b'/', text)?);
    let rest = &rest[1..];
    let (transport, rest) = rest.split_at(memchr(b'/', rest)?);
    let rest = &rest[1..];
    let (address, port) = rest.split_at(memchr(b'/', rest)?);
    let address = bare_address(address)?;
    // Asterisk writes `Unknown` for neither.
    if !matches!(family, b"IPV4" | b"IPV6") {
        return None;
    }
    let port = &port[1..];
    if port.is_empty() || !port.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let port = str::from_utf8(port).ok()?.parse().ok()?;
    let transport = match transport {
        b"UDP" => Transport::Udp,
        b"TCP" => Transport::Tcp,
        b"TLS" => Transport::Tls,
        b"WS" => Transport::Ws,
        b"WSS" => Transport::Wss,
        _ => return None,
    };
    Some(Remote { address: SocketAddr::new(address, port), transport })
}

/// `2026-11-22T09:32:21.123+0000`
fn event_time(text: &[u8]) -> Option<Timestamp> {
    let text = str::from_utf8(text).ok()?;
    Timestamp::strptime("%Y-%m-%dT%H:%M:%S%.f%z", text).ok()
}

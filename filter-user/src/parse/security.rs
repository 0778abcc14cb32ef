//! Lines of Asterisk's `security` log, plain and `[json]`: one line enters, an [`Attempt`] leaves.
//!
//! A line holds `NAME="VALUE"` in the order of `main/security_events.c`, as AMI has them. Account,
//! Call-ID, nonce and digest are attacker text, printed without any escape. So the beginning is
//! taken as strictly as it is written, and the source is the last `RemoteAddress` that directly
//! follows a `LocalAddress` and after which nothing stands but the headers that this event ends
//! with; else there is none.
//!
//! In a plain line the logger has removed what stood between an ESC and the next `m`, which takes
//! the name off the true address: such a line does not end as it should and names nobody. A line
//! break in the account leaves two halves, which name nobody either. What is left needs a witness
//! all the same; a `[json]` line does not, because in it everything is escaped.

use std::borrow::Cow;

use memchr::{memchr, memmem};
use serde::Deserialize;

use super::security_event::{Remote, SecurityEvent, remote};
use super::text::{AsteriskLine, asterisk_line, stock_date, wazo_date};
use crate::failure::Attempt;

/// Headers that can follow `RemoteAddress`.
const TAIL: [&[u8]; 11] = [
    b"Module",
    b"SessionTV",
    b"ACLName",
    b"RequestType",
    b"RequestParams",
    b"Challenge",
    b"Response",
    b"ExpectedResponse",
    b"ReceivedHash",
    b"UsingPassword",
    b"ReceivedChallenge",
];

/// The rules, as `status` names them: the events.
pub const RULES: &[&str] = super::security_event::RULES;

/// What `line` says about one attempt, or `None` if it says nothing that matters here, or not whose
/// attempt it was.
pub fn parse(line: &[u8]) -> Option<Attempt> {
    if line.first() == Some(&b'{') {
        return json(line);
    }
    let AsteriskLine { logged_at, level, file, text } = asterisk_line(line)?;
    if (level, file) != (b"SECURITY", b"res_security_log.c") {
        return None;
    }
    let attempt = event(text)?;
    let logged_at = attempt.logged_at.or(logged_at);
    Some(Attempt { needs_witness: !attempt.proven, answered: false, logged_at, ..attempt })
}

#[derive(Deserialize)]
struct JsonLine<'a> {
    #[serde(borrow)]
    timestamp: Cow<'a, str>,
    #[serde(borrow)]
    logmsg: JsonMessage<'a>,
}

#[derive(Deserialize)]
struct JsonMessage<'a> {
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

/// `{"hostname", "timestamp", "identifiers", "logmsg": {"location", "level", "message"}}`
fn json(line: &[u8]) -> Option<Attempt> {
    let JsonLine { timestamp, logmsg } = serde_json::from_slice(line).ok()?;
    if logmsg.level != "SECURITY" {
        return None;
    }
    let date = timestamp.trim_start_matches('[').as_bytes();
    let date = wazo_date(date, b'.').or_else(|| stock_date(date)).and_then(|(date, _)| date);
    // The line break that ends a line in a file is part of the message.
    let message = logmsg.message.strip_suffix('\n').unwrap_or(&logmsg.message);
    let attempt = event(message.as_bytes())?;
    let logged_at = attempt.logged_at.or(date);
    Some(Attempt { logged_at, ..attempt })
}

/// `SecurityEvent="...",EventTV="...",...`
fn event(text: &[u8]) -> Option<Attempt> {
    let (name, rest) = first(text, b"SecurityEvent=\"")?;
    let (time, rest) = first(rest, b"EventTV=\"")?;
    let (_severity, rest) = first(rest, b"Severity=\"")?;
    let (service, rest) = first(rest, b"Service=\"")?;
    let (_version, rest) = first(rest, b"EventVersion=\"")?;
    let rest = rest.strip_prefix(b"AccountID=\"")?;
    let at = memmem::rfind(rest, b"\",LocalAddress=\"")?;
    let (accounts, addresses) = rest.split_at(at);
    let (_local, addresses) = first(&addresses[2..], b"LocalAddress=\"")?;
    let Source { remote, acl, password } = source(addresses)?;
    // Which of several is the true one does not matter to the address.
    let (account, session) = match memmem::find(accounts, b"\",SessionID=\"") {
        Some(end) => (&accounts[..end], &accounts[end + b"\",SessionID=\"".len()..]),
        None => (accounts, &[][..]),
    };
    SecurityEvent { name, time, service, account, session, remote, acl, password }.attempt()
}

/// The value behind `name`, up to its quote, and what follows its comma.
fn first<'a>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let value = text.strip_prefix(name)?;
    let (value, rest) = value.split_at(memchr(b'"', value)?);
    Some((value, rest.strip_prefix(b"\",")?))
}

/// Where a request came from, and what stands behind that.
struct Source<'a> {
    remote: Remote,
    acl: &'a [u8],
    password: &'a [u8],
}

/// `RemoteAddress="..."` and the headers that end the line.
fn source(text: &[u8]) -> Option<Source<'_>> {
    let text = text.strip_prefix(b"RemoteAddress=\"")?;
    let (address, mut rest) = text.split_at(memchr(b'"', text)?);
    let (mut acl, mut password) = (&[][..], &[][..]);
    loop {
        rest = &rest[1..];
        if rest.is_empty() {
            return Some(Source { remote: remote(address)?, acl, password });
        }
        let header = rest.strip_prefix(b",")?;
        let (name, value) = header.split_at(memchr(b'=', header)?);
        let value = value.strip_prefix(b"=\"")?;
        let end = memchr(b'"', value)?;
        if !TAIL.contains(&name) {
            return None;
        }
        match name {
            b"ACLName" => acl = &value[..end],
            b"UsingPassword" => password = &value[..end],
            _ => {}
        }
        rest = &value[end..];
    }
}

#[cfg(test)]
mod tests;

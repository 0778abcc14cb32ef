//! Parses Asterisk's `security` log, plain and `[json]`: turns one line into an [`Attempt`].
//!
//! A line has `NAME="VALUE"` pairs in the order of `main/security_events.c`, with the same values as
//! AMI. Account, Call-ID, nonce and digest are the attacker's text, printed unescaped on both sides of
//! the address: a Call-ID before it, the header `Key` of a login to AMI after it. So the beginning must
//! be exactly as Asterisk writes it, and the source is a `RemoteAddress` directly after a
//! `LocalAddress`, followed only by the headers that end an event. If a line has several of these with
//! different addresses, it is undecided: a caller that knows which address sent something can decide
//! ([`parse_undecided`]).
//!
//! In a plain line, the logger has removed the text between an ESC and the next `m`, which can remove
//! the name before the true address: such a line does not end as it should, and names no address. A
//! line break in the account leaves two halves, which name no address either. All other plain lines
//! still need a witness. A `[json]` line does not, because everything in it is escaped.

use std::net::IpAddr;

use memchr::{memchr, memmem};

use super::dates::DateFormat;
use super::security_event::{Remote, SecurityEvent, remote};
use super::text::{AsteriskLine, in_asterisk_line};
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

/// The most places of a line that are searched for an address. A genuine line has one.
const MAX_PLACES: usize = 64;

/// The names of the rules for `status`: the events.
pub const RULES: &[&str] = super::security_event::RULES;

/// The attempt that `line` reports; `None` if it reports nothing of interest, or its source is
/// undecided.
pub fn parse(line: &[u8]) -> Option<Attempt> {
    parse_undecided(line).filter(|attempt| attempt.decided)
}

/// The same, but including attempts with an undecided source.
pub fn parse_undecided(line: &[u8]) -> Option<Attempt> {
    in_asterisk_line(line, |line| of_line(line, &DateFormat::default()))
}

/// The security event that a parsed line reports, if any.
pub fn of_line(line: &AsteriskLine<'_>, dates: &DateFormat) -> Option<Attempt> {
    if (line.level, line.file) != (b"SECURITY", b"res_security_log.c") {
        return None;
    }
    let attempt = event(line.text)?;
    let logged_at = attempt.logged_at.or_else(|| line.logged_at(dates));
    if line.is_json {
        return Some(Attempt { logged_at, ..attempt });
    }
    Some(Attempt { needs_witness: true, answered: false, logged_at, ..attempt })
}

/// Whether the text of a stranger can end this line and continue with whole others: a login to AMI that
/// was refused. Over HTTP, its user can contain line breaks, and is not shortened.
pub fn may_run_on(line: &AsteriskLine<'_>) -> bool {
    // No attacker text precedes the account.
    let own = memmem::find(line.text, b",AccountID=\"").map_or(line.text, |end| &line.text[..end]);
    !own.starts_with(b"SecurityEvent=\"SuccessfulAuth\"")
        && memmem::find(own, b",Service=\"AMI\"").is_some()
}

/// `SecurityEvent="...",EventTV="...",...`
fn event(text: &[u8]) -> Option<Attempt> {
    let (name, rest) = first(text, b"SecurityEvent=\"")?;
    let (time, rest) = first(rest, b"EventTV=\"")?;
    let (_severity, rest) = first(rest, b"Severity=\"")?;
    let (service, rest) = first(rest, b"Service=\"")?;
    let (_version, rest) = first(rest, b"EventVersion=\"")?;
    let rest = rest.strip_prefix(b"AccountID=\"")?;
    let named = addresses(rest)?;
    let readings = memmem::find_iter(rest, BEFORE_LOCAL);
    // If all name the same address, it does not matter which is the genuine one.
    let (at, Source { remote, acl, password }) = readings
        .take(MAX_PLACES)
        .filter_map(|at| {
            let (_local, addresses) = first(&rest[at + 2..], b"LocalAddress=\"")?;
            Some((at, source(addresses)?))
        })
        .last()
        .or_else(|| open_source(rest).filter(|_| named.len() > 1))?;
    let accounts = &rest[..at];
    let (account, session) = match memmem::find(accounts, b"\",SessionID=\"") {
        Some(end) => (&accounts[..end], &accounts[end + b"\",SessionID=\"".len()..]),
        None => (accounts, &[][..]),
    };
    let event = SecurityEvent { name, time, service, account, session, remote, acl, password };
    let attempt = event.attempt()?;
    Some(of_one(attempt, named))
}

/// The Call-ID, in quotes, precedes the local address.
const BEFORE_LOCAL: &[u8] = b"\",LocalAddress=\"";

/// The addresses in `text` that are in quotes like a source, each once; `None` if there are too many
/// places.
///
/// The text that the logger removes after an ESC ends at the `m` of `RemoteAddress` at the latest: the
/// name before the true address can be gone, but not its value.
fn addresses(text: &[u8]) -> Option<Vec<IpAddr>> {
    const VALUE: &[u8] = b"=\"IPV";
    let mut found: Vec<IpAddr> = Vec::new();
    for (place, at) in memmem::find_iter(text, VALUE).enumerate() {
        if place == MAX_PLACES {
            return None;
        }
        let value = &text[at + 2..];
        let value = &value[..memchr(b'"', value).unwrap_or(value.len())];
        if !text[..at].ends_with(b"LocalAddress")
            && let Some(remote) = remote(value)
            && !found.contains(&remote.address.ip())
        {
            found.push(remote.address.ip());
        }
    }
    Some(found)
}

/// The first address after a local one, whatever follows it.
fn open_source(text: &[u8]) -> Option<(usize, Source<'_>)> {
    memmem::find_iter(text, BEFORE_LOCAL).take(MAX_PLACES).find_map(|at| {
        let (_local, addresses) = first(&text[at + 2..], b"LocalAddress=\"")?;
        let address = addresses.strip_prefix(b"RemoteAddress=\"")?;
        let address = &address[..memchr(b'"', address)?];
        Some((at, Source { remote: remote(address)?, acl: b"", password: b"" }))
    })
}

/// `attempt`, with the event's address if it names only one, otherwise undecided.
pub(super) fn of_one(attempt: Attempt, mut named: Vec<IpAddr>) -> Attempt {
    named.retain(|other| *other != attempt.address);
    if named.is_empty() {
        return attempt;
    }
    Attempt {
        rivals: named,
        decided: false,
        proven: false,
        answered: false,
        needs_witness: true,
        ..attempt
    }
}

/// The value after `name`, up to its quote, and the text after its comma.
fn first<'a>(text: &'a [u8], name: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let value = text.strip_prefix(name)?;
    let (value, rest) = value.split_at(memchr(b'"', value)?);
    Some((value, rest.strip_prefix(b"\",")?))
}

/// The source of a request, and the text after it.
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

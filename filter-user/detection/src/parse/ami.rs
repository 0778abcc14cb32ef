//! Parses blocks of Asterisk's manager interface: turns one block without its final empty line into a
//! report about one attempt.
//!
//! # What an attacker's text can do
//!
//! Asterisk writes the account and the Call-ID unescaped. PJSIP decodes `%0d%0a` in the user of a From
//! URI, and the account keeps 36 characters of it, so one event can contain header lines that Asterisk
//! did not write, or an empty line that ends its block early. Recorded with Asterisk 22.10
//! (`tests/fixtures/ami/*/inj3-ami-*`). Asterisk's own text surrounds it:
//!
//! ```text
//! Event: InvalidAccountID
//! Privilege: security,all            \
//! (what `manager.c` adds if it is set) |
//! EventTV: ...                        |
//! Severity: ...                       | no attacker text before these
//! Service: PJSIP                      |
//! EventVersion: 1                    /
//! AccountID: (attacker text)
//! SessionID: (attacker text)
//! LocalAddress: IPV4/UDP/192.0.2.10/5060
//! RemoteAddress: IPV4/UDP/192.0.2.66/42366
//! (headers of this event, without line breaks)
//! ```
//!
//! `manager.c` adds a `Timestamp` with `timestampevents`, four headers with `manager set debug`, and the
//! `systemname` of `asterisk.conf`.
//!
//! So the beginning must be exactly as Asterisk writes it, and the source is taken from a
//! `RemoteAddress` directly after a `LocalAddress`. If a block has several of these with different
//! addresses, it is undecided: over HTTP, AMI also decodes line breaks in the header `Key`, which it
//! writes after the source. A block that an empty line has cut is [`Block::Cut`]: the following blocks
//! are the rest of it, until one contains the source.
//!
//! A login to AMI over HTTP is worse: nothing limits its text, so that it can end its own event and
//! write whole others (recorded with Asterisk 22.10). After an event for which [`may_run_on`] holds, no
//! event is to be trusted until the reader knows that Asterisk has written the last of that text.

use memchr::memmem;

use super::security;
use super::security_event::{Remote, SecurityEvent, remote};
use crate::failure::Attempt;

/// The most header lines of one block. Asterisk writes at most 15, and an account of 36 characters
/// cannot add as many again.
const LINES_MAX: usize = 64;

/// The headers that Asterisk's settings add to every event after `Privilege`, in this order
/// (`__manager_event_sessions_va` of `main/manager.c`).
const ADDED: [&str; 6] = ["Timestamp", "SequenceNumber", "File", "Line", "Func", "SystemName"];

/// The names of the rules for `status`: the events.
pub const RULES: &[&str] = super::security_event::RULES;

/// The kind of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Block<'a> {
    /// A security event, with the attempt that it reports, if any.
    Security(Option<Attempt>),
    /// The beginning of a security event that an empty line in an attacker's text has cut.
    Cut,
    /// The response to an action.
    Response(Response<'a>),
    /// A security event that is not written like the known ones.
    Unread,
    /// A block with more lines than Asterisk ever writes, which is not read.
    TooLong,
    /// Another event, or the rest of one that was cut.
    Other,
}

/// The response to an action.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response<'a> {
    /// Whether it is `Success`.
    pub success: bool,
    /// The `ActionID` of the action.
    pub action: &'a [u8],
    /// `Message`: Asterisk's explanation.
    pub message: &'a [u8],
    /// `Challenge`: the text to compute a digest from.
    pub challenge: &'a [u8],
}

/// Returns the kind of `block`.
pub fn parse(block: &[u8]) -> Block<'_> {
    let mut lines: Vec<&[u8]> = Vec::new();
    let mut rest = block;
    while !rest.is_empty() {
        let end = memmem::find(rest, b"\r\n").unwrap_or(rest.len());
        if lines.len() == LINES_MAX {
            return Block::TooLong;
        }
        lines.push(&rest[..end]);
        rest = rest.get(end + 2..).unwrap_or_default();
    }
    match lines.first() {
        Some(first) if first.starts_with(b"Response: ") => Block::Response(response(&lines)),
        Some(first) if first.starts_with(b"Event: ") => {
            security_event(&lines).unwrap_or_else(|| other(&lines))
        }
        Some(_) | None => Block::Other,
    }
}

/// Whether an event that is not written like a security event claims to be one.
fn other<'a>(lines: &[&[u8]]) -> Block<'a> {
    let privilege = lines.get(1).and_then(|line| value(line, "Privilege"));
    if privilege.is_some_and(|of| of.starts_with(b"security")) {
        Block::Unread
    } else {
        Block::Other
    }
}

/// Whether an event without a rule reports what Asterisk calls an error. Load and memory limits are
/// errors too, but they concern no attempt.
pub fn is_of_failure(event: &[u8]) -> bool {
    memmem::find(event, b"\r\nSeverity: Informational\r\n").is_none()
        && memmem::find(event, b"\r\nRemoteAddress: ").is_some()
}

/// Whether the text of a stranger can end this event and continue with whole others: a login to AMI that
/// was refused. Over HTTP, its user, key and secret can contain line breaks.
pub fn may_run_on(block: &[u8]) -> bool {
    const SERVICE: &[u8] = b"\r\nService: AMI\r\n";
    // No attacker text precedes the account.
    let own = memmem::find(block, b"\r\nAccountID: ").map_or(block, |end| &block[..end]);
    block.starts_with(b"Event: ")
        && !block.starts_with(b"Event: SuccessfulAuth\r\n")
        && memmem::find(own, SERVICE).is_some()
}

/// The value of the header `name`, if `line` is that header.
fn value<'a>(line: &'a [u8], name: &str) -> Option<&'a [u8]> {
    line.strip_prefix(name.as_bytes())?.strip_prefix(b": ")
}

fn response<'a>(lines: &[&'a [u8]]) -> Response<'a> {
    let find = |name| lines.iter().find_map(|line| value(line, name)).unwrap_or_default();
    Response {
        success: find("Response") == b"Success",
        action: find("ActionID"),
        message: find("Message"),
        challenge: find("Challenge"),
    }
}

fn security_event<'a>(lines: &[&'a [u8]]) -> Option<Block<'a>> {
    let [event, privilege, rest @ ..] = lines else { return None };
    let name = value(event, "Event")?;
    if value(privilege, "Privilege")? != b"security,all" {
        return None;
    }
    let [time, severity, service, version, account, ..] = without_added(rest) else {
        return None;
    };
    let time = value(time, "EventTV")?;
    value(severity, "Severity")?;
    let service = value(service, "Service")?;
    value(version, "EventVersion")?;
    let account = value(account, "AccountID")?;
    let Some((at, Some(remote))) = sources(lines).last() else {
        return Some(Block::Cut);
    };
    let named = sources(lines).filter_map(|(_, remote)| Some(remote?.address.ip())).collect();
    let session = lines.get(at.wrapping_sub(2)).and_then(|line| value(line, "SessionID"));
    let after = lines.get(at + 1..).unwrap_or_default();
    let header = |name| after.iter().find_map(|line| value(line, name)).unwrap_or_default();
    let (acl, password) = (header("ACLName"), header("UsingPassword"));
    let session = session.unwrap_or_default();
    let event = SecurityEvent { name, time, service, account, session, remote, acl, password };
    Some(Block::Security(event.attempt().map(|attempt| security::of_one(attempt, named))))
}

/// The lines after those that Asterisk's settings add.
fn without_added<'a, 'b>(lines: &'a [&'b [u8]]) -> &'a [&'b [u8]] {
    ADDED.iter().fold(lines, |lines, name| match lines {
        [first, rest @ ..] if value(first, name).is_some() => rest,
        _ => lines,
    })
}

/// Each `RemoteAddress` directly after a `LocalAddress`, with the number of its line.
fn sources<'a>(lines: &'a [&[u8]]) -> impl Iterator<Item = (usize, Option<Remote>)> + 'a {
    lines.windows(2).enumerate().filter_map(|(at, pair)| {
        pair[0].starts_with(b"LocalAddress: ").then_some(())?;
        Some((at + 1, remote(value(pair[1], "RemoteAddress")?)))
    })
}

#[cfg(test)]
mod tests;

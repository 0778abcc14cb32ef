//! Parses the log of OpenSSH's server: turns one line of a syslog file, or one entry of the systemd
//! journal as JSON, into an [`Attempt`].
//!
//! A failure is what fail2ban's filter `sshd` counts in its mode `normal`. The program is `sshd`, since
//! OpenSSH 9.8 also `sshd-session`, and since 10.0 also `sshd-auth`.
//!
//! The user name is the attacker's text and precedes the address. It may contain spaces but no colon: a
//! colon starts the login style (`auth2.c`). sshd prints control characters in octal (`log.c`), so a
//! name contains no line break. So the address is read from the end of the message, where no text is
//! the attacker's, or from before the first ` ssh2: ` or ` ssh1: `, after which no text is OpenSSH's
//! own: a key, a principal, a host name. Any other message with the attacker's text on both sides is
//! read only if just one place in it can be that of the address.
//!
//! A client that fails has completed a TCP connection: its source is proven. A local user can write to
//! syslog in the name of sshd, but not to the journal: an entry counts only if root's sshd wrote it
//! (`systemd.journal-fields(7)`, trusted fields). If a process ended at once, journald knows its user
//! but not its program; then any process of root is believed.

use std::borrow::Cow;
use std::net::IpAddr;

use memchr::{memchr, memmem};
use serde::Deserialize;

use super::journal::{Field, instant};
use super::text::{Syslog, after_digits, bare_address, syslog_line};
use crate::failure::{Attempt, Class, TIMES_MAX, Transport, Verdict, account};

/// The programs that log, by their names in syslog and the journal.
const PROGRAMS: [&[u8]; 3] = [b"sshd", b"sshd-session", b"sshd-auth"];

/// The names of the rules for `status`, in the order in which they are tried.
pub const RULES: &[&str] = &[
    "failed",
    "accepted",
    "invalid-user",
    "too-many-attempts",
    "pam",
    "not-allowed",
    "refused",
    "disconnect",
    "closed",
    "change-of-username",
    "pam-unix",
];

/// A function that recognises a message.
type Matcher = fn(&[u8]) -> Option<Attempt>;

/// The functions for [`RULES`].
const MATCHERS: [Matcher; RULES.len()] = [
    failed,
    accepted,
    invalid_user,
    too_many,
    pam,
    not_allowed,
    refused,
    disconnect,
    closed,
    change_of_username,
    pam_unix,
];

/// The attempt that `line` of `auth.log` or of `journalctl -o json` reports; `None` if it reports
/// nothing of interest.
pub fn parse(line: &[u8]) -> Option<Attempt> {
    if line.first() == Some(&b'{') {
        return journal_entry(line)?.attempt;
    }
    let Syslog { logged_at, program, message } = syslog_line(line)?;
    if !PROGRAMS.contains(&program) {
        return None;
    }
    let attempt = message_of(message)?;
    Some(Attempt { logged_at, ..attempt })
}

/// An entry of the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry<'a> {
    /// Its cursor, to continue from there.
    pub cursor: String,
    /// The attempt that it reports.
    pub attempt: Option<Attempt>,
    /// The message, if it is sshd's and matches no rule.
    pub unparsed: Option<Cow<'a, [u8]>>,
}

#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow, rename = "__CURSOR")]
    cursor: Cow<'a, str>,
    #[serde(borrow, default, rename = "__REALTIME_TIMESTAMP")]
    microseconds: Cow<'a, str>,
    #[serde(borrow, default, rename = "_COMM")]
    program: Option<Cow<'a, str>>,
    #[serde(borrow, default, rename = "SYSLOG_IDENTIFIER")]
    identifier: Cow<'a, str>,
    #[serde(borrow, default, rename = "_UID")]
    user: Cow<'a, str>,
    #[serde(borrow, default, rename = "MESSAGE")]
    message: Option<Field<'a>>,
}

impl Fields<'_> {
    /// Whether root's sshd wrote it.
    fn are_trusted(&self) -> bool {
        // A process that ended before journald looked has no `_COMM`, but always a user.
        let program = self.program.as_deref().unwrap_or(&self.identifier);
        PROGRAMS.contains(&program.as_bytes()) && self.user == "0"
    }
}

/// Whether root's sshd wrote this entry of `journalctl -o json`.
pub fn is_trusted(line: &[u8]) -> bool {
    serde_json::from_slice(line).is_ok_and(|fields: Fields<'_>| fields.are_trusted())
}

/// Parses an entry of `journalctl -o json`; `None` if it is not one.
pub fn journal_entry(line: &[u8]) -> Option<Entry<'_>> {
    let fields: Fields = serde_json::from_slice(line).ok()?;
    let trusted = fields.are_trusted();
    let message: Option<Cow<'_, [u8]>> = match fields.message {
        Some(Field::Text(Cow::Borrowed(text))) => Some(text.as_bytes().into()),
        Some(Field::Text(Cow::Owned(text))) => Some(text.into_bytes().into()),
        Some(Field::Bytes(bytes)) => Some(bytes.into()),
        Some(Field::Other(_)) | None => None,
    };
    let message = message.filter(|_message| trusted);
    let attempt = message.as_deref().and_then(message_of);
    let unparsed = message.filter(|_message| attempt.is_none());
    let logged_at = instant(&fields.microseconds);
    let attempt = attempt.map(|attempt| Attempt { logged_at, ..attempt });
    Some(Entry { cursor: fields.cursor.into_owned(), attempt, unparsed })
}

/// The attempt that a message of sshd reports.
fn message_of(text: &[u8]) -> Option<Attempt> {
    let text = text.trim_ascii_end();
    let (text, times) = without_repetition(text).unwrap_or((text, 1));
    let text = without_message_id(text).unwrap_or(text);
    let text = text.strip_suffix(b" [preauth]").unwrap_or(text);
    let text =
        text.strip_prefix(b"error: ").or_else(|| text.strip_prefix(b"fatal: ")).unwrap_or(text);
    let text = text.strip_prefix(b"PAM: ").unwrap_or(text);
    let mut rules = RULES.iter().zip(MATCHERS);
    let attempt = rules.find_map(|(rule, matches)| Some(Attempt { rule, ..matches(text)? }))?;
    Some(Attempt { times, ..attempt })
}

/// Removes `message repeated N times: [ ` and the bracket at the end, which rsyslog puts around a
/// repeated message.
fn without_repetition(text: &[u8]) -> Option<(&[u8], u32)> {
    let count = text.strip_prefix(b"message repeated ")?;
    let rest = after_digits(count)?;
    let times = str::from_utf8(&count[..count.len() - rest.len()]).ok()?.parse();
    let message = rest.strip_prefix(b" times: [")?.strip_suffix(b"]")?;
    // A larger number would make no difference.
    Some((message.trim_ascii(), times.map_or(TIMES_MAX, |times: u32| times.clamp(1, TIMES_MAX))))
}

/// Removes `[ID 800047 auth.info] `, with which Solaris's syslog begins.
fn without_message_id(text: &[u8]) -> Option<&[u8]> {
    let facility = after_digits(text.strip_prefix(b"[ID ")?)?.strip_prefix(b" ")?;
    let end = memchr(b']', facility)?;
    facility[..end].iter().all(|b| b.is_ascii_alphanumeric() || *b == b'.').then_some(())?;
    facility[end + 1..].strip_prefix(b" ")
}

fn attempt(verdict: Verdict, source: Source, user: &[u8]) -> Attempt {
    Attempt {
        port: source.port,
        account: (!user.is_empty()).then(|| account(user)),
        transport: Some(Transport::Tcp),
        proven: true,
        ..Attempt::new(verdict, Class::Login, source.address)
    }
}

#[derive(Clone, Copy)]
struct Source {
    address: IpAddr,
    port: Option<u16>,
}

/// `ADDR` or `ADDR port N`, and nothing after it.
fn source(text: &[u8]) -> Option<Source> {
    let Some(end) = memmem::find(text, b" port ") else {
        return Some(Source { address: bare_address(text)?, port: None });
    };
    let port = &text[end + b" port ".len()..];
    let digits = !port.is_empty() && port.iter().all(u8::is_ascii_digit);
    let port = str::from_utf8(port).ok().filter(|_| digits)?.parse().ok()?;
    Some(Source { address: bare_address(&text[..end])?, port: Some(port) })
}

/// `USER from SOURCE`, and nothing after it: the last ` from ` is sshd's own.
fn user_from(text: &[u8]) -> Option<(&[u8], Source)> {
    let end = memmem::rfind(text, b" from ")?;
    Some((&text[..end], source(&text[end + b" from ".len()..])?))
}

fn without_protocol(text: &[u8]) -> &[u8] {
    text.strip_suffix(b" ssh2").or_else(|| text.strip_suffix(b" ssh1")).unwrap_or(text)
}

fn without_invalid(user: &[u8]) -> &[u8] {
    let user = user.strip_prefix(b"invalid user ").unwrap_or(user);
    user.strip_prefix(b"illegal user ").unwrap_or(user)
}

/// `Failed METHOD for [invalid user ]USER from SOURCE ssh2[: EXTRA]`. Old versions end differently; a
/// second address then makes the line undecided.
///
/// A refused key is not a failure of a user that exists, since a client offers every key that it has.
/// Nor is a method that sshd has only postponed.
fn failed(text: &[u8]) -> Option<Attempt> {
    let rest = text.strip_prefix(b"Failed ")?;
    let (method, rest) = rest.split_at(memchr(b' ', rest)?);
    let rest = rest.strip_prefix(b" for ")?;
    let extra = [&b" ssh2: "[..], b" ssh1: "].into_iter().filter_map(|by| memmem::find(rest, by));
    let named = match extra.min() {
        Some(end) => &rest[..end],
        None => rest.strip_suffix(b" ssh2").or_else(|| {
            let named = rest.strip_suffix(b" ssh1").unwrap_or(rest);
            (named.len() < rest.len() || addresses(named) <= 1).then_some(named)
        })?,
    };
    let (user, source) = user_from(named)?;
    let name = without_invalid(user);
    let is_offer = method == b"publickey" && name.len() == user.len();
    let verdict = if is_offer { Verdict::Ignored } else { Verdict::Failure };
    Some(attempt(verdict, source, name))
}

/// The number of places in `text` with an address after ` from `.
fn addresses(text: &[u8]) -> usize {
    let word = |at: usize| text[at + b" from ".len()..].split(|byte| *byte == b' ').next();
    let named = |at: &usize| word(*at).is_some_and(|word| bare_address(word).is_some());
    memmem::find_iter(text, b" from ").filter(named).count()
}

/// `Accepted METHOD for USER from SOURCE ssh2[: KEY]`
///
/// The user exists, and the name contains no space.
fn accepted(text: &[u8]) -> Option<Attempt> {
    let rest = text.strip_prefix(b"Accepted ")?;
    let rest = rest[memchr(b' ', rest)?..].strip_prefix(b" for ")?;
    let (user, rest) = rest.split_at(memchr(b' ', rest)?);
    let rest = rest.strip_prefix(b" from ")?;
    let source = source(&rest[..memmem::find(rest, b" ssh2")?])?;
    Some(attempt(Verdict::Success, source, user))
}

/// `Invalid user USER from SOURCE`
fn invalid_user(text: &[u8]) -> Option<Attempt> {
    let rest = [&b"Invalid user "[..], b"invalid user ", b"Illegal user ", b"illegal user "]
        .into_iter()
        .find_map(|start| text.strip_prefix(start))?;
    // Without a name there are two spaces.
    let (user, source) =
        user_from(rest).or_else(|| Some((&[][..], source(rest.strip_prefix(b"from ")?)?)))?;
    Some(Attempt { announces: true, ..attempt(Verdict::Failure, source, user) })
}

/// `maximum authentication attempts exceeded for [invalid user ]USER from SOURCE ssh2`
fn too_many(text: &[u8]) -> Option<Attempt> {
    let rest = text.strip_prefix(b"maximum authentication attempts exceeded for ")?;
    let (user, source) = user_from(without_protocol(rest))?;
    Some(attempt(Verdict::Failure, source, without_invalid(user)))
}

/// `Authentication failure for [illegal user ]USER from HOST[ via ADDR]`, from PAM, with any text of
/// `pam_strerror` about a credential.
fn pam(text: &[u8]) -> Option<Attempt> {
    const REFUSALS: [&[u8]; 9] = [
        b"uthentication failure for ",
        b"uthentication error for ",
        b"uthentication failed for ",
        b"User not known to the underlying authentication module for ",
        b"Permission denied for ",
        b"Have exhausted maximum number of retries for service for ",
        b"Have exhasted maximum number of retries for service for ",
        b"Insufficient credentials to access authentication data for ",
        b"Maximum number of tries exceeded for ",
    ];
    let text = match text.split_first() {
        Some((b'A' | b'a', rest)) => rest,
        Some(_) | None => text,
    };
    let rest = REFUSALS.into_iter().find_map(|start| text.strip_prefix(start))?;
    let via = memmem::rfind(rest, b" via ").filter(|at| bare_address(&rest[at + 5..]).is_some());
    let (user, source) = user_from(&rest[..via.unwrap_or(rest.len())])?;
    Some(attempt(Verdict::Failure, source, without_invalid(user)))
}

/// `User USER from HOST not allowed because REASON`
fn not_allowed(text: &[u8]) -> Option<Attempt> {
    const REASONS: [&[u8]; 5] = [
        b" not allowed because not listed in AllowUsers",
        b" not allowed because listed in DenyUsers",
        b" not allowed because not in any group",
        b" not allowed because a group is listed in DenyGroups",
        b" not allowed because none of user's groups are listed in AllowGroups",
    ];
    let rest = text.strip_prefix(b"User ")?;
    let rest = REASONS.into_iter().find_map(|reason| rest.strip_suffix(reason))?;
    let (user, source) = user_from(rest)?;
    Some(attempt(Verdict::Failure, source, user))
}

/// `ROOT LOGIN REFUSED FROM SOURCE` and `refused connect from NAME (ADDR)`
fn refused(text: &[u8]) -> Option<Attempt> {
    if let Some(rest) = text.strip_prefix(b"ROOT LOGIN REFUSED FROM ") {
        return Some(attempt(Verdict::Failure, source(rest)?, b"root"));
    }
    let rest = text.strip_prefix(b"refused connect from ")?;
    let address = rest.strip_suffix(b")")?;
    let address = &address[memmem::rfind(address, b" (")? + 2..];
    Some(attempt(Verdict::Failure, source(address)?, b""))
}

/// `Received disconnect from ADDR port N:CODE: TEXT`, before OpenSSH 7.2 `ADDR: CODE: TEXT`
///
/// The text is the client's. A client that gives up sends 3 and `Auth fail`, one that has finished
/// sends 11.
fn disconnect(text: &[u8]) -> Option<Attempt> {
    let rest = text.strip_prefix(b"Received disconnect from ")?;
    let address = memchr(b' ', rest)?;
    let end = match rest[address..].strip_prefix(b" port ") {
        Some(port) => rest.len() - port.len() + memchr(b':', port)?,
        None => address.checked_sub(1)?,
    };
    let source = source(&rest[..end])?;
    let said = rest[end..].strip_prefix(b":")?.trim_ascii_start();
    let failed = said.starts_with(b"3: ") && said.ends_with(b": Auth fail");
    let verdict = if failed { Verdict::Failure } else { Verdict::Ignored };
    Some(attempt(verdict, source, b""))
}

/// `Connection closed by [invalid user USER ]SOURCE` and the like: the end of a connection whose
/// failure has been reported.
fn closed(text: &[u8]) -> Option<Attempt> {
    let rest = [
        &b"Connection closed by "[..],
        b"Connection reset by ",
        b"Disconnected from ",
        b"Disconnecting ",
    ]
    .into_iter()
    .find_map(|start| text.strip_prefix(start))?;
    let rest = rest.strip_suffix(b": Too many authentication failures").unwrap_or(rest);
    let named = [&b"invalid user "[..], b"authenticating user ", b"user "]
        .into_iter()
        .find_map(|start| rest.strip_prefix(start));
    let Some(named) = named else {
        return Some(attempt(Verdict::Ignored, source(rest)?, b""));
    };
    // From the end: the port, the address, and before it the name.
    let port = memmem::rfind(named, b" port ")?;
    let at = named[..port].iter().rposition(|byte| *byte == b' ')?;
    Some(attempt(Verdict::Ignored, source(&named[at + 1..])?, &named[..at]))
}

/// `Disconnecting invalid user USER ADDR port N: Change of username or service not allowed: (...)`
///
/// The attacker's names are on both sides.
fn change_of_username(text: &[u8]) -> Option<Attempt> {
    const CHANGE: &[u8] = b": Change of username or service not allowed: ";
    let rest = text.strip_prefix(b"Disconnecting ")?;
    let rest = rest
        .strip_prefix(b"invalid user ")
        .or_else(|| rest.strip_prefix(b"authenticating user "))?;
    let end = memmem::find(rest, CHANGE)?;
    if memmem::find(&rest[end + 1..], CHANGE).is_some() {
        return None;
    }
    let named = &rest[..end];
    let port = memmem::rfind(named, b" port ")?;
    let at = named[..port].iter().rposition(|byte| *byte == b' ')?;
    Some(attempt(Verdict::Failure, source(&named[at + 1..])?, &named[..at]))
}

/// `pam_unix(sshd:auth): authentication failure; ... rhost=ADDR[  user=USER]`: sshd also reports it.
fn pam_unix(text: &[u8]) -> Option<Attempt> {
    let rest = text.strip_prefix(b"pam_")?;
    let module = memchr(b'(', rest)?;
    let rest = rest[module..].strip_prefix(b"(sshd:auth): authentication failure;")?;
    let host = &rest[memmem::find(rest, b" rhost=")? + b" rhost=".len()..];
    let end = memchr(b' ', host).unwrap_or(host.len());
    let user = host[end..].trim_ascii_start().strip_prefix(b"user=").unwrap_or_default();
    Some(attempt(Verdict::Ignored, source(&host[..end])?, user))
}

#[cfg(test)]
mod tests;

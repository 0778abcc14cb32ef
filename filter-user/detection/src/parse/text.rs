//! What the lines of several logs share: dates, addresses, transports.

use std::borrow::Cow;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use jiff::Timestamp;
use memchr::{memchr, memchr_iter, memchr3, memmem};
use serde::Deserialize;

use super::date_forms::{has_shape, stock_date, wazo_date};
use super::dates::{self, DateFormat};
use crate::failure::{LoggedAt, Transport};

/// The longest date that Asterisk writes, in bytes (`dateformat` and `datestring` of `main/logger.c`).
const DATE_MAX: usize = 256;

/// The program names under which Asterisk's console and its syslog channel log.
const ASTERISK: [&[u8]; 2] = [b"asterisk", b"safe_asterisk"];

/// A parsed line of one of Asterisk's logs (`main/logger.c`).
pub struct AsteriskLine<'a> {
    /// The time that syslog added.
    received_at: Option<LoggedAt>,
    /// The date in the format of Asterisk's setting `dateformat`.
    date: &'a [u8],
    /// The level, such as `NOTICE`.
    pub level: &'a [u8],
    /// The source file, or the text in its place.
    pub file: &'a [u8],
    /// Asterisk's message.
    pub text: &'a [u8],
    /// Whether it is from a log with the format `[json]`, in which all text is escaped.
    pub is_json: bool,
}

impl AsteriskLine<'_> {
    /// When it was written, if the line says so.
    pub fn logged_at(&self, format: &DateFormat) -> Option<LoggedAt> {
        format.read(self.date).or(self.received_at)
    }
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
    location: JsonLocation<'a>,
    #[serde(borrow)]
    level: Cow<'a, str>,
    #[serde(borrow)]
    message: Cow<'a, str>,
}

#[derive(Deserialize)]
struct JsonLocation<'a> {
    #[serde(borrow)]
    filename: Cow<'a, str>,
}

/// The result of `read` for a line of one of Asterisk's logs.
///
/// Lines of the format `[json]` are `{"hostname", "timestamp", "identifiers", "logmsg": {"location",
/// "level", "message"}}`.
pub fn in_asterisk_line<T>(
    line: &[u8],
    read: impl FnOnce(&AsteriskLine<'_>) -> Option<T>,
) -> Option<T> {
    if line.first() != Some(&b'{') {
        return read(&asterisk_line(line)?);
    }
    let JsonLine { timestamp, logmsg } = serde_json::from_slice(line).ok()?;
    let JsonMessage { location, level, message } = logmsg;
    // The line break that ends a line in a file is part of the message here.
    let message = message.strip_suffix('\n').unwrap_or(&message);
    read(&AsteriskLine {
        received_at: None,
        date: timestamp.as_bytes(),
        level: level.as_bytes(),
        file: location.filename.as_bytes(),
        text: message.as_bytes(),
        is_json: true,
    })
}

/// Parses a line of one of Asterisk's plain logs: `[date] LEVEL[lwp][C-call] file: text`.
///
/// Older versions, the console and syslog write variants: `LEVEL [lwp]`, `LEVEL[lwp]:`, `file:line
/// function: text`, `file:line in function: text`, all of them possibly in colour, and `date host
/// asterisk[pid]: ` in place of the date in brackets or before it.
pub(super) fn asterisk_line(line: &[u8]) -> Option<AsteriskLine<'_>> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let line = [&b"\x1b[0m"[..], b"#033[0m", b"^[[0m"]
        .into_iter()
        .find_map(|reset| line.strip_suffix(reset))
        .unwrap_or(line);
    let (received_at, rest) = match line.first()? {
        b'\x1b' | b'\r' => (None, line),
        b'[' if own_date(line) => (None, line),
        first if first.is_ascii_uppercase() && !begins_with_date(line) => (None, line),
        _ => {
            let Syslog { logged_at, program, message } = syslog_line(line)?;
            ASTERISK.contains(&program).then_some((logged_at, message))?
        }
    };
    let rest = without_colour(rest);
    let (date, rest) = match rest.strip_prefix(b"[") {
        Some(rest) => bracketed_date(rest)?,
        None => (&[][..], rest),
    };
    let (level, rest) = level_and_thread(rest)?;
    let rest = match rest.strip_prefix(b"[C-") {
        Some(call) => {
            let (id, rest) = call.split_at(memchr(b']', call)?);
            if id.is_empty() || !id.iter().all(u8::is_ascii_hexdigit) {
                return None;
            }
            &rest[1..]
        }
        None => rest,
    };
    let rest = rest.strip_prefix(b":").unwrap_or(rest).strip_prefix(b" ")?;
    let rest = without_colour(rest);
    let (file, rest) = rest.split_at(memchr(b':', rest)?);
    // On the console, the colour ends before the colon.
    let file = &file[..colour_in(file).unwrap_or(file.len())];
    let rest = without_colour(&rest[1..]);
    // A function is only named after a line number.
    let text = match after_digits(rest) {
        Some(behind) => {
            let behind = without_colour(behind);
            after_function(behind).unwrap_or(behind)
        }
        None => rest,
    };
    let text = text.strip_prefix(b" ")?;
    Some(AsteriskLine { received_at, date, level, file, text, is_json: false })
}

/// Whether a line begins with a date that Asterisk wrote. Seconds since boot in brackets also begin the lines of
/// other programs in a log of syslog: there, the level must follow at once.
fn own_date(line: &[u8]) -> bool {
    let Some((date, _)) = line.strip_prefix(b"[").and_then(bracketed_date) else { return false };
    seconds(line).is_none() || memchr(b']', date).is_none()
}

/// A date in brackets, in any format (also an empty one), and the level that follows it.
///
/// No text before the level is the attacker's: a date has no `: ` behind a bracket, as the line of another program has
/// behind its name.
fn bracketed_date(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let within = &text[..text.len().min(DATE_MAX + 2)];
    let first = memchr(b']', within)?;
    let within =
        &within[..memmem::find(&within[first..], b": ").map_or(within.len(), |at| first + at)];
    memchr_iter(b']', within).find_map(|end| {
        let rest = text[end + 1..].strip_prefix(b" ")?;
        let rest = without_colour(rest);
        level_and_thread(rest).map(|_| (&text[..end], rest))
    })
}

/// `LEVEL[lwp]`, and the text after it.
fn level_and_thread(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let letters = text.iter().take_while(|b| b.is_ascii_uppercase()).count();
    let (level, rest) = text.split_at(letters);
    let rest = without_colour(rest);
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let rest = after_digits(rest.strip_prefix(b"[")?)?.strip_prefix(b"]")?;
    (letters > 0).then_some((level, rest))
}

/// How a terminal's ESC is written: unchanged, by rsyslog, by busybox.
const ESCAPES: [&[u8]; 3] = [b"\x1b[", b"#033[", b"^[["];

/// How a CR is written: unchanged, by rsyslog, by busybox. A remote console begins each line with one, to
/// write over its prompt.
const RETURNS: [&[u8]; 3] = [b"\r", b"#015", b"^M"];

/// The text after the colours at the start of `text`.
fn without_colour(mut text: &[u8]) -> &[u8] {
    loop {
        let line = RETURNS.iter().find_map(|cr| text.strip_prefix(*cr)).unwrap_or(text);
        let Some(rest) = ESCAPES.iter().find_map(|escape| line.strip_prefix(*escape)) else {
            break;
        };
        let codes = rest.iter().take_while(|b| b.is_ascii_digit() || **b == b';').count();
        if !rest.get(codes).is_some_and(|end| matches!(end, b'm' | b'K')) {
            break;
        }
        text = &rest[codes + 1..];
    }
    text
}

/// Where a colour begins in `text`.
fn colour_in(text: &[u8]) -> Option<usize> {
    memchr3(b'\x1b', b'#', b'^', text)?;
    ESCAPES.iter().filter_map(|escape| memmem::find(text, escape)).min()
}

/// The text after ` function:` or ` in function:`.
fn after_function(text: &[u8]) -> Option<&[u8]> {
    let name = text.strip_prefix(b" ")?;
    let name = without_colour(name.strip_prefix(b"in ").unwrap_or(name));
    let length = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    without_colour(&name[length..]).strip_prefix(b":").filter(|_| length > 0)
}

/// A line of a syslog file.
pub(super) struct Syslog<'a> {
    pub(super) logged_at: Option<LoggedAt>,
    /// The program's name, without its process number.
    pub(super) program: &'a [u8],
    pub(super) message: &'a [u8],
}

/// Parses `date host program[pid]: message`.
///
/// The date is that of RFC 3164, of RFC 3339, or one of those of `journalctl -o short-precise`,
/// `short-full`, `short-iso`, `short-unix` and `short-monotonic`. A priority may precede it. Busybox
/// writes `facility.level` after the host or in place of it, as `logread` of `OpenWrt` does. Lines in
/// the format of RFC 5424 section 6 are read too: `<priority>1 date host program pid id data message`.
pub(super) fn syslog_line(line: &[u8]) -> Option<Syslog<'_>> {
    let (line, has_priority) = match line.strip_prefix(b"<") {
        Some(rest) => (after_digits(rest)?.strip_prefix(b">")?, true),
        None => (line, false),
    };
    if let Some(rest) = line.strip_prefix(b"1 ").filter(|_| has_priority) {
        let (logged_at, rest) = rfc3339_date(rest)?;
        let mut words = rest.strip_prefix(b" ")?.splitn(5, |byte| *byte == b' ');
        let (_host, program, _pid, _id) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let message = after_data(words.next()?)?.strip_prefix(b" ")?;
        // The mark of UTF-8, which section 6.4 demands.
        let message = message.strip_prefix(b"\xef\xbb\xbf").unwrap_or(message);
        let program = base_name(program);
        return Some(Syslog { logged_at, program, message });
    }
    let (logged_at, rest) = syslog_date(line)?;
    let rest = rest.strip_prefix(b" ")?;
    let (first, after) = rest.split_at(memchr(b' ', rest)?);
    // Metalog's form: `[program] message`.
    let bracketed = first.strip_suffix(b":").unwrap_or(first).strip_prefix(b"[");
    if let Some(program) = bracketed.and_then(|word| word.strip_suffix(b"]")) {
        return Some(Syslog { logged_at, program, message: &after[1..] });
    }
    // A host, a facility, both or neither.
    let rest = if names_program(first) { rest } else { &after[1..] };
    let (second, after) = rest.split_at(memchr(b' ', rest)?);
    let rest = if is_facility(second) { &after[1..] } else { rest };
    let (program, message) = rest.split_at(memmem::find(rest, b": ")?);
    let name = &program[..memchr(b'[', program).unwrap_or(program.len())];
    if let Some(pid) = program[name.len()..].strip_prefix(b"[")
        && after_digits(pid) != Some(b"]")
    {
        return None;
    }
    Some(Syslog { logged_at, program: base_name(name), message: &message[2..] })
}

/// Whether `word` is `program:` or `program[pid]:`, in the place of a host.
fn names_program(word: &[u8]) -> bool {
    let Some(program) = word.strip_suffix(b":") else { return false };
    // A host can be an IPv6 address.
    !program.is_empty() && memchr(b':', program).is_none()
}

/// Whether `word` is `facility.level`, as busybox writes it.
fn is_facility(word: &[u8]) -> bool {
    const LEVELS: [&[u8]; 11] = [
        b"emerg", b"alert", b"crit", b"err", b"error", b"warn", b"warning", b"notice", b"info",
        b"debug", b"panic",
    ];
    memchr(b'.', word).is_some_and(|dot| {
        let facility = word[..dot].iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        dot > 0 && facility && LEVELS.contains(&&word[dot + 1..])
    })
}

/// The name of a program without its directory.
fn base_name(program: &[u8]) -> &[u8] {
    &program[memchr::memrchr(b'/', program).map_or(0, |at| at + 1)..]
}

/// The text after the structured data of RFC 5424: `-`, or elements in brackets whose values are in
/// quotes.
fn after_data(text: &[u8]) -> Option<&[u8]> {
    if let Some(rest) = text.strip_prefix(b"-") {
        return Some(rest);
    }
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = quoted,
            b'"' => quoted = !quoted,
            b']' if !quoted && text.get(at + 1) != Some(&b'[') => return Some(&text[at + 1..]),
            _ => {}
        }
    }
    None
}

/// Whether `line` begins with a syslog date that begins with a letter.
fn begins_with_date(line: &[u8]) -> bool {
    stock_date(line).is_some() || weekday_date(line).is_some()
}

/// The date at the start of a line of a syslog file.
fn syslog_date(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    if let Some((logged_at, rest)) = stock_date(line) {
        // With a fraction in `short-precise`, in some setups with a year.
        let rest = rest.strip_prefix(b".").and_then(after_digits).unwrap_or(rest);
        let year = rest.strip_prefix(b" ").and_then(|year| {
            let (year, rest) = year.split_at_checked(4)?;
            (has_shape(year, b"0000") && rest.starts_with(b" ")).then_some(rest)
        });
        return Some((logged_at, year.unwrap_or(rest)));
    }
    weekday_date(line)
        .or_else(|| iso_date(line))
        .or_else(|| rfc3339_date(line))
        .or_else(|| seconds(line))
}

/// Seconds since 1970, or in brackets since boot.
fn seconds(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    let rest = line.strip_prefix(b"[").map_or(line, <[u8]>::trim_ascii_start);
    let seconds = rest.len() - after_digits(rest)?.len();
    let after = after_digits(rest[seconds..].strip_prefix(b".")?)?;
    let is_uptime = line.starts_with(b"[");
    let after = if is_uptime { after.strip_prefix(b"]")? } else { after };
    let at = dates::unix(&rest[..seconds]).filter(|_| !is_uptime);
    Some((at, after))
}

/// `Sun 2026-11-22 09:43:06 UTC`, as in `short-full`, or `Sun Nov 22 09:43:06 2026`, as `logread` writes.
fn weekday_date(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    const DAYS: [&[u8]; 7] = [b"Mon", b"Tue", b"Wed", b"Thu", b"Fri", b"Sat", b"Sun"];
    let (day, rest) = line.split_at_checked(3)?;
    let rest = rest.strip_prefix(b" ").filter(|_| DAYS.contains(&day))?;
    if let Some((_, after)) = stock_date(rest) {
        let year = after.strip_prefix(b" ")?;
        let after = year.get(4..).filter(|_| year[..4].iter().all(u8::is_ascii_digit))?;
        return Some((dates::read(&line[..line.len() - after.len()]), after));
    }
    let (logged_at, after) = wazo_date(rest, b'.')?;
    let zone = after.strip_prefix(b" ")?;
    let length = memchr(b' ', zone)?;
    let is_zone = zone[..length].iter().all(|b| b.is_ascii_alphanumeric() || b"+-:".contains(b));
    let zoned = dates::read(&rest[..rest.len() - zone.len() + length]);
    is_zone.then_some((zoned.or(logged_at), &zone[length..]))
}

/// `2026-11-22 09:43:06`, with an optional fraction and zone.
fn iso_date(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    let (_, rest) = wazo_date(line, b'.')?;
    let zone = rest.iter().take_while(|b| b.is_ascii_digit() || b"+-:Z".contains(b)).count();
    let date = &line[..line.len() - rest.len() + zone];
    Some((dates::read(date), &rest[zone..]))
}

/// `2026-11-22T09:43:06.123456+00:00`, as newer versions of rsyslog write it.
fn rfc3339_date(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    let (date, rest) = line.split_at(memchr(b' ', line)?);
    let time: Timestamp = str::from_utf8(date).ok()?.parse().ok()?;
    Some((Some(LoggedAt::Instant(time)), rest))
}

/// The text after one or more digits.
pub(super) fn after_digits(text: &[u8]) -> Option<&[u8]> {
    let digits = text.iter().take_while(|b| b.is_ascii_digit()).count();
    (digits > 0).then(|| &text[digits..])
}

pub(super) fn transport_named(name: &[u8]) -> Option<Transport> {
    [
        (&b"UDP"[..], Transport::Udp),
        (b"TCP", Transport::Tcp),
        (b"TLS", Transport::Tls),
        (b"WS", Transport::Ws),
        (b"WSS", Transport::Wss),
    ]
    .into_iter()
    .find_map(|(known, transport)| name.eq_ignore_ascii_case(known).then_some(transport))
}

/// `ip:port` or `[ip6]:port`, where a link-local `ip6` may have a zone.
pub(super) fn socket_address(text: &[u8]) -> Option<SocketAddr> {
    if memchr(b'%', text).is_some() {
        let (address, port) = text.strip_prefix(b"[")?.split_at(memchr(b']', text)? - 1);
        let port = port.strip_prefix(b"]:")?;
        after_digits(port)?.is_empty().then_some(())?;
        let port = str::from_utf8(port).ok()?.parse().ok().filter(|port| *port != 0)?;
        return Some(SocketAddr::new(bare_address(address)?, port));
    }
    let source: SocketAddr = str::from_utf8(text).ok()?.parse().ok()?;
    (source.port() != 0)
        .then(|| Some(SocketAddr::new(source_address(source.ip())?, source.port())))?
}

/// `ip` or `ip6`, without a port. A link-local `ip6` may have a zone, which names the interface (RFC 4007 section
/// 11): getnameinfo prints it.
pub(super) fn bare_address(text: &[u8]) -> Option<IpAddr> {
    let Some(end) = memchr(b'%', text) else {
        return source_address(str::from_utf8(text).ok()?.parse().ok()?);
    };
    let address: Ipv6Addr = str::from_utf8(&text[..end]).ok()?.parse().ok()?;
    let zone = &text[end + 1..];
    // The length of an interface's name in Linux.
    let is_zone = (1..16).contains(&zone.len())
        && zone.iter().all(|byte| byte.is_ascii_alphanumeric() || b"._-:@".contains(byte));
    (address.is_unicast_link_local() && is_zone).then_some(address.into())
}

/// The address as in the packet, if it is one that a packet can come from.
pub fn source_address(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

#[cfg(test)]
mod tests;

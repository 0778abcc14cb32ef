//! What the lines of several logs have in common: dates, addresses, transports.

use std::net::{IpAddr, SocketAddr};

use jiff::{Timestamp, civil};
use memchr::{memchr, memmem};

use crate::failure::{LoggedAt, Transport};

/// A line of one of Asterisk's log files (`main/logger.c`), taken apart.
pub(super) struct AsteriskLine<'a> {
    pub(super) logged_at: Option<LoggedAt>,
    pub(super) level: &'a [u8],
    /// The source file, or what stands there instead.
    pub(super) file: &'a [u8],
    pub(super) text: &'a [u8],
}

/// Takes a line of one of Asterisk's log files apart: `[date] LEVEL[lwp][C-call] file: text`.
///
/// Older versions, verbose channels and syslog write more or less of it: `LEVEL [lwp]`, `LEVEL[lwp]:`,
/// `file:line function: text`, `file:line in function: text`, and `date host asterisk[pid]: ` or
/// nothing for the date in brackets.
pub(super) fn asterisk_line(line: &[u8]) -> Option<AsteriskLine<'_>> {
    let (logged_at, rest) = match line.strip_prefix(b"[") {
        Some(rest) => {
            let (logged_at, rest) = wazo_date(rest, b'.').or_else(|| stock_date(rest))?;
            (logged_at, rest.strip_prefix(b"] ")?)
        }
        None if line.first()?.is_ascii_uppercase() && stock_date(line).is_none() => (None, line),
        None => {
            let Syslog { logged_at, program, message } = syslog_line(line)?;
            (program == b"asterisk").then_some((logged_at, message))?
        }
    };
    let letters = rest.iter().take_while(|b| b.is_ascii_uppercase()).count();
    let (level, rest) = rest.split_at(letters);
    let rest = rest.strip_prefix(b" ").unwrap_or(rest);
    let rest = after_digits(rest.strip_prefix(b"[")?)?.strip_prefix(b"]")?;
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
    let (file, rest) = rest.split_at(memchr(b':', rest)?);
    let rest = &rest[1..];
    // A function is named only behind a line.
    let text = match after_digits(rest) {
        Some(behind) => after_function(behind).unwrap_or(behind),
        None => rest,
    };
    let text = text.strip_prefix(b" ")?;
    Some(AsteriskLine { logged_at, level, file, text })
}

/// What follows ` function:` or ` in function:`.
fn after_function(text: &[u8]) -> Option<&[u8]> {
    let name = text.strip_prefix(b" ")?;
    let name = name.strip_prefix(b"in ").unwrap_or(name);
    let length = name.iter().take_while(|b| b.is_ascii_alphanumeric() || **b == b'_').count();
    name[length..].strip_prefix(b":").filter(|_| length > 0)
}

/// A line of a file that syslog writes.
pub(super) struct Syslog<'a> {
    pub(super) logged_at: Option<LoggedAt>,
    /// Without its process number.
    pub(super) program: &'a [u8],
    pub(super) message: &'a [u8],
}

/// Takes apart `date host program[pid]: message`, with the date of RFC 3164 or of RFC 3339, or what RFC
/// 5424 section 6 says: `<priority>1 date host program pid id data message`.
pub(super) fn syslog_line(line: &[u8]) -> Option<Syslog<'_>> {
    if let Some(rest) = line.strip_prefix(b"<") {
        let (logged_at, rest) = rfc3339_date(after_digits(rest)?.strip_prefix(b">1 ")?)?;
        let mut words = rest.strip_prefix(b" ")?.splitn(5, |byte| *byte == b' ');
        let (_host, program, _pid, _id) =
            (words.next()?, words.next()?, words.next()?, words.next()?);
        let message = after_data(words.next()?)?.strip_prefix(b" ")?;
        return Some(Syslog { logged_at, program, message });
    }
    let (logged_at, rest) = match stock_date(line) {
        Some(found) => found,
        None => rfc3339_date(line)?,
    };
    let rest = rest.strip_prefix(b" ")?;
    let (_host, rest) = rest.split_at(memchr(b' ', rest)?);
    let (program, message) = rest.split_at(memmem::find(rest, b": ")?);
    let program = program.strip_prefix(b" ")?;
    let name = &program[..memchr(b'[', program).unwrap_or(program.len())];
    if let Some(pid) = program[name.len()..].strip_prefix(b"[")
        && after_digits(pid) != Some(b"]")
    {
        return None;
    }
    Some(Syslog { logged_at, program: name, message: &message[2..] })
}

/// What follows the structured data of RFC 5424: `-`, or elements in brackets whose values are in quotes.
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

/// `2026-11-22T09:43:06.123456+00:00`, as newer versions of rsyslog write it.
fn rfc3339_date(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    let (date, rest) = line.split_at(memchr(b' ', line)?);
    let time: Timestamp = str::from_utf8(date).ok()?.parse().ok()?;
    Some((Some(LoggedAt::Instant(time)), rest))
}

/// `2026-11-22 09:32:21.1233`, the fraction optional and behind `point`.
pub(super) fn wazo_date(text: &[u8], point: u8) -> Option<(Option<LoggedAt>, &[u8])> {
    let (date, mut rest) = text.split_at_checked(19)?;
    if !has_shape(date, b"0000-00-00 00:00:00") {
        return None;
    }
    let mut nanosecond: i32 = 0;
    if let Some(fraction) = rest.strip_prefix(&[point]) {
        rest = after_digits(fraction)?;
        let digits = &fraction[..fraction.len() - rest.len()];
        for place in 0..9 {
            let digit = digits.get(place).map_or(0, |d| i32::from(d - b'0'));
            nanosecond = nanosecond * 10 + digit;
        }
    }
    let two = |at: usize| number(&date[at..at + 2]);
    // A date of the right shape that no calendar has is a line without a time, not a forgery.
    let time = civil::DateTime::new(
        i16::from(two(0)) * 100 + i16::from(two(2)),
        two(5),
        two(8),
        two(11),
        two(14),
        two(17),
        nanosecond,
    );
    Some((time.ok().map(LoggedAt::Host), rest))
}

/// `Nov 22 09:43:06`, which names no year; some write `Nov 2` with one space.
pub(super) fn stock_date(text: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let shaped = |length: usize, shape: &[u8]| {
        let (date, rest) = text.split_at_checked(length)?;
        (has_shape(&date[3..], shape) && MONTHS.contains(&&date[..3])).then_some((None, rest))
    };
    shaped(15, b" 00 00:00:00")
        .or_else(|| shaped(15, b"  0 00:00:00"))
        .or_else(|| shaped(14, b" 0 00:00:00"))
}

/// Whether `text` equals `shape` with any digit where `shape` has a `0`.
fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(t, s)| if *s == b'0' { t.is_ascii_digit() } else { t == s })
}

fn number(two_digits: &[u8]) -> i8 {
    two_digits.iter().fold(0, |n, d| n * 10 + i8::try_from(d - b'0').unwrap_or(0))
}

/// What follows one or more digits.
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

/// `ip:port` or `[ip6]:port`.
pub(super) fn socket_address(text: &[u8]) -> Option<SocketAddr> {
    // The standard parser takes a scope id, which no packet's source has here.
    if memchr(b'%', text).is_some() {
        return None;
    }
    let source: SocketAddr = str::from_utf8(text).ok()?.parse().ok()?;
    (source.port() != 0)
        .then(|| Some(SocketAddr::new(source_address(source.ip())?, source.port())))?
}

/// `ip` or `ip6`, without a port.
pub(super) fn bare_address(text: &[u8]) -> Option<IpAddr> {
    source_address(str::from_utf8(text).ok()?.parse().ok()?)
}

/// The address as the packet carried it, if a packet can come from it.
pub(crate) fn source_address(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

//! What the lines of several logs have in common: dates, addresses, transports.

use std::net::{IpAddr, SocketAddr};

use jiff::civil;
use memchr::memchr;

use crate::failure::{LoggedAt, Transport};

/// Takes the prefix off a line of one of Asterisk's log files (`main/logger.c`):
/// `[date] LEVEL[lwp][C-call] ` before `file: text`. The time, the level, and what follows.
pub(super) fn asterisk_line(line: &[u8]) -> Option<(Option<LoggedAt>, &[u8], &[u8])> {
    let rest = line.strip_prefix(b"[")?;
    let (logged_at, rest) = wazo_date(rest, b'.').or_else(|| stock_date(rest))?;
    let rest = rest.strip_prefix(b"] ")?;
    let letters = rest.iter().take_while(|b| b.is_ascii_uppercase()).count();
    let (level, rest) = rest.split_at(letters);
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
    Some((logged_at, level, rest.strip_prefix(b" ")?))
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

/// `Nov 22 09:43:06`, which names no year.
pub(super) fn stock_date(text: &[u8]) -> Option<(Option<LoggedAt>, &[u8])> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov",
        b"Dec",
    ];
    let (date, rest) = text.split_at_checked(15)?;
    let shaped = has_shape(&date[3..], b" 00 00:00:00") || has_shape(&date[3..], b"  0 00:00:00");
    (shaped && MONTHS.contains(&&date[..3])).then_some((None, rest))
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
pub(super) fn source_address(address: IpAddr) -> Option<IpAddr> {
    let address = address.to_canonical();
    (!address.is_unspecified() && !address.is_multicast()).then_some(address)
}

//! Dates of a fixed form at the beginning of a text: the form that Wazo configures, and that of syslog.

use jiff::civil;

use crate::failure::LoggedAt;

/// `2026-11-22 09:32:21.1233`, with an optional fraction after `point`.
pub(super) fn wazo_date(text: &[u8], point: u8) -> Option<(Option<LoggedAt>, &[u8])> {
    let (date, mut rest) = text.split_at_checked(19)?;
    if !has_shape(date, b"0000-00-00 00:00:00") {
        return None;
    }
    let mut nanosecond: i32 = 0;
    if let Some(fraction) = rest.strip_prefix(&[point]) {
        let length = fraction.iter().take_while(|byte| byte.is_ascii_digit()).count();
        let digits;
        (digits, rest) = fraction.split_at(length);
        if digits.is_empty() {
            return None;
        }
        for place in 0..9 {
            let digit = digits.get(place).map_or(0, |d| i32::from(d - b'0'));
            nanosecond = nanosecond * 10 + digit;
        }
    }
    let two = |at: usize| number(&date[at..at + 2]);
    // An impossible date of the right form makes a line without a time, not a forgery.
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

/// `Nov 22 09:43:06`, which has no year; some programs write `Nov 2` with one space.
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

/// Whether `text` equals `shape`, where `0` stands for any digit.
pub(super) fn has_shape(text: &[u8], shape: &[u8]) -> bool {
    text.len() == shape.len()
        && text.iter().zip(shape).all(|(t, s)| if *s == b'0' { t.is_ascii_digit() } else { t == s })
}

fn number(two_digits: &[u8]) -> i8 {
    two_digits.iter().fold(0, |n, d| n * 10 + i8::try_from(d - b'0').unwrap_or(0))
}

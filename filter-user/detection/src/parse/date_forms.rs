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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_that_wazo_configures() {
        let read = |text: &str| {
            let (time, rest) = wazo_date(text.as_bytes(), b'.')?;
            let time = match time {
                Some(LoggedAt::Host(time)) => time.to_string(),
                Some(LoggedAt::Instant(time)) => time.to_string(),
                None => "-".to_owned(),
            };
            Some((time, str::from_utf8(rest).unwrap().to_owned()))
        };
        for (text, time, rest) in [
            ("2026-11-22 09:32:21", "2026-11-22T09:32:21", ""),
            ("1987-12-31 23:59:58x", "1987-12-31T23:59:58", "x"),
            ("2026-11-22 09:32:21.1233] a", "2026-11-22T09:32:21.1233", "] a"),
            ("2026-11-22 09:32:21.123456789", "2026-11-22T09:32:21.123456789", ""),
            ("2026-11-22 09:32:21.0000000019", "2026-11-22T09:32:21.000000001", ""),
            ("2026-11-22 09:32:21,5", "2026-11-22T09:32:21", ",5"),
            ("2026-02-30 09:32:21.5 ", "-", " "),
        ] {
            assert_eq!(read(text), Some((time.to_owned(), rest.to_owned())), "{text}");
        }
        for text in ["", "2026-11-22 09:32:2", "2026-11-22T09:32:21", "2026-11-22 09:32:21."] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(wazo_date(b"2026-11-22 09:32:21,", b',').is_none());
    }

    #[test]
    fn the_form_of_syslog() {
        for (text, rest) in [
            ("Nov 22 09:43:06", Some("")),
            ("Jan  2 09:43:06 pbx", Some(" pbx")),
            ("Dec 2 09:43:06 pbx", Some(" pbx")),
            ("Dec 2 09:43:0", None),
            ("Nov  22 09:43:06", None),
            ("nov 22 09:43:06", None),
            ("Now 22 09:43:06", None),
            ("Now 2 09:43:06", None),
            ("Nov x2 09:43:06", None),
            ("Nov 22", None),
            ("", None),
        ] {
            let read = stock_date(text.as_bytes());
            assert_eq!(read, rest.map(|rest| (None, rest.as_bytes())), "{text}");
        }
    }

    #[test]
    fn a_shape_has_digits_and_other_bytes() {
        for (text, is_so) in [
            ("1-2", true),
            ("9-0", true),
            ("1-", false),
            ("1-23", false),
            ("1 2", false),
            ("x-2", false),
        ] {
            assert_eq!(has_shape(text.as_bytes(), b"0-0"), is_so, "{text}");
        }
    }
}

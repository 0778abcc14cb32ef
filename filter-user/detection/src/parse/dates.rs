//! Dates in Asterisk's logs, of whatever `dateformat`: text enters, a time leaves.
//!
//! An administrator may set any format of strftime in `logger.conf`. What it is set to is tried after
//! the two that nearly every host has, and then what is common. A date that none of them reads is a
//! line without a time, not a line that is not read.

use std::borrow::Cow;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::{Timestamp, civil};

use super::text::{stock_date, wazo_date};
use crate::failure::LoggedAt;

/// The longest format that is believed, as Asterisk's own limit is.
const FORMAT_MAX: usize = 255;

/// What is common. A month before a day in numbers is not among them: it could be the day.
const COMMON: [&str; 16] = [
    "%Y-%m-%d %H:%M:%S%.f%z",
    "%Y-%m-%d %H:%M:%S%.f %z",
    "%Y-%m-%dT%H:%M:%S%.f%z",
    "%Y-%m-%dT%H:%M:%S%.fZ",
    "%Y-%m-%dT%H:%M:%S%.f",
    "%Y-%m-%d %H:%M:%S,%f",
    "%Y/%m/%d %H:%M:%S%.f",
    "%Y.%m.%d %H:%M:%S%.f",
    "%Y%m%d %H:%M:%S%.f",
    "%Y%m%d-%H%M%S",
    "%d.%m.%Y %H:%M:%S%.f",
    "%d/%b/%Y:%H:%M:%S %z",
    "%d %b %Y %H:%M:%S%.f",
    "%b %d %Y %H:%M:%S%.f",
    "%a %b %d %H:%M:%S%.f %Y",
    "%a %d %b %Y %H:%M:%S%.f",
];

/// What `logger.conf` sets `dateformat` to, as jiff reads it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DateFormat(Option<String>);

impl DateFormat {
    /// The format that `dateformat` of Asterisk's `logger.conf` names.
    pub fn new(dateformat: &str) -> Self {
        Self((dateformat.len() <= FORMAT_MAX).then(|| translate(dateformat)))
    }

    /// The time that a date says, if it says the year.
    pub(super) fn read(&self, date: &[u8]) -> Option<LoggedAt> {
        if let Some((time, rest)) = wazo_date(date, b'.')
            && rest.is_empty()
        {
            return time;
        }
        if date.is_empty() || stock_date(date).is_some_and(|(_, rest)| rest.is_empty()) {
            return None;
        }
        let date = without_colon(str::from_utf8(date).ok()?.trim());
        let date = &*date;
        self.0.as_deref().and_then(|format| by(format, date)).or_else(|| recognise(date))
    }
}

/// The time that a date says in one of the formats that are common.
pub(super) fn read(date: &[u8]) -> Option<LoggedAt> {
    DateFormat(None).read(date)
}

/// A number of seconds since 1970.
pub(super) fn unix(seconds: &[u8]) -> Option<LoggedAt> {
    let seconds = str::from_utf8(seconds).ok()?.parse().ok()?;
    Some(LoggedAt::Instant(Timestamp::from_second(seconds).ok()?))
}

/// The date with `+0100` for `+01:00`.
fn without_colon(date: &str) -> Cow<'_, str> {
    if let Some((start, minutes)) = date.rsplit_once(':')
        && let Some((before, hours)) = start.rsplit_once(['+', '-'])
        && [hours, minutes].iter().all(|part| part.len() == 2)
        && before.contains(':')
    {
        let sign = &start[before.len()..=before.len()];
        return format!("{before}{sign}{hours}{minutes}").into();
    }
    date.into()
}

fn recognise(date: &str) -> Option<LoggedAt> {
    let whole = || COMMON.iter().find_map(|format| by(format, date));
    // The name of a zone says no offset: the host's is most likely meant.
    let zoned = || {
        let (date, zone) = date.rsplit_once(' ')?;
        let is_name = zone.bytes().all(|byte| byte.is_ascii_uppercase());
        let formats = COMMON.iter().chain(&["%Y-%m-%d %H:%M:%S%.f"]);
        is_name.then(|| formats.clone().find_map(|format| by(format, date)))?.map(|time| match time
        {
            LoggedAt::Host(local) if ["UTC", "GMT"].contains(&zone) => {
                let zoned = local.to_zoned(jiff::tz::TimeZone::UTC);
                zoned.map_or(time, |zoned| LoggedAt::Instant(zoned.timestamp()))
            }
            LoggedAt::Host(_) | LoggedAt::Instant(_) => time,
        })
    };
    let epoch = || {
        let (seconds, fraction) = date.split_once('.').unwrap_or((date, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        (digits(seconds) && digits(fraction) && (9..12).contains(&seconds.len()))
            .then(|| unix(seconds.as_bytes()))?
    };
    whole().or_else(zoned).or_else(epoch)
}

/// The time by a format of jiff's.
fn by(format: &str, date: &str) -> Option<LoggedAt> {
    // The name of a zone says no offset.
    let (format, date) = match format.strip_suffix(" %Z") {
        Some(format) => (format, date.rsplit_once(' ')?.0),
        None => (format, date),
    };
    let read = BrokenDownTime::parse(format, date).ok()?;
    if let Ok(instant) = read.to_timestamp() {
        return Some(LoggedAt::Instant(instant));
    }
    read.to_datetime().ok().map(|time: civil::DateTime| LoggedAt::Host(time))
}

/// A format of Asterisk's (`main/stdtime/localtime.c`) as jiff reads it: `%q` is a fraction, and some
/// are short for others.
fn translate(format: &str) -> String {
    let mut out = String::new();
    let mut rest = format;
    while let Some((before, after)) = rest.split_once('%') {
        out.push_str(before);
        let flags =
            after.len() - after.trim_start_matches(['_', '-', '0', '^', '#', 'E', 'O']).len();
        let digits = after[flags..].bytes().take_while(u8::is_ascii_digit).count();
        let Some(specifier) = after[flags + digits..].chars().next() else {
            rest = "";
            break;
        };
        let known: Cow<'_, str> = match specifier {
            'q' | 'N' => "%f".into(),
            'c' => "%a %b %e %H:%M:%S %Y".into(),
            'x' | 'D' => "%m/%d/%y".into(),
            'X' | 'T' => "%H:%M:%S".into(),
            'r' => "%I:%M:%S %p".into(),
            'R' => "%H:%M".into(),
            'F' => "%Y-%m-%d".into(),
            '+' => "%a %b %e %H:%M:%S %Z %Y".into(),
            other => format!("%{other}").into(),
        };
        out.push_str(&known);
        rest = &after[flags + digits + specifier.len_utf8()..];
    }
    out + rest
}

/// The time that a line begins with that names no year, in the year 2000: good for the time between two
/// lines alone.
pub fn without_year(line: &[u8]) -> Option<civil::DateTime> {
    let start = &line[..line.len().min(64)];
    let bracket = memchr::memchr(b'[', start).map(|at| at + 1);
    [Some(0), bracket, Some(4)].into_iter().flatten().find_map(|at| {
        let text = line.get(at..)?;
        let (_, rest) = stock_date(text)?;
        let date = str::from_utf8(&text[..text.len() - rest.len()]).ok()?;
        let read = BrokenDownTime::parse("%Y %b %d %H:%M:%S", format!("2000 {date}"));
        read.ok()?.to_datetime().ok()
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn said(format: &str, date: &str) -> Option<String> {
        let time = DateFormat::new(format).read(date.as_bytes())?;
        let zone = jiff::tz::TimeZone::UTC;
        time.instant(&zone).map(|instant| instant.to_string())
    }

    #[test]
    fn a_date_is_read_as_the_configuration_says() {
        for (format, date) in [
            ("%d/%m/%Y %H:%M:%S", "01/09/2023 23:19:35"),
            ("%D %T", "09/01/23 23:19:35"),
            ("%x %X", "09/01/23 23:19:35"),
            ("%F %T.%3q", "2023-09-01 23:19:35.000"),
            ("%Y-%m-%d_%H.%M.%S", "2023-09-01_23.19.35"),
            ("%c", "Fri Sep  1 23:19:35 2023"),
            ("%F %T %Z", "2023-09-01 23:19:35 EDT"),
            ("%a %d %b %Y %r", "Fri 01 Sep 2023 11:19:35 PM"),
            ("%s", "1693610375"),
            ("%FT%T%z", "2023-09-02T01:19:35+0200"),
            // What it says no more, since it was changed.
            ("%x %X", "2023-09-01T23:19:35+00:00"),
        ] {
            let time = said(format, date);
            assert_eq!(time.as_deref(), Some("2023-09-01T23:19:35Z"), "{format} {date}");
        }
        assert_eq!(said("%b %e %T", "Sep  1 23:19:35"), None);
        assert_eq!(said("%H:%M", "23:19"), None);
    }

    #[test]
    fn a_date_without_a_year_has_a_place_among_others() {
        let at = |line: &str| without_year(line.as_bytes());
        let [first, second] = ["Nov 22 09:43:06 pbx", "[Nov 22 09:43:07] NOTICE"].map(at);
        assert!(first.is_some() && first < second);
        assert_eq!(at("2026-11-22 09:43:06"), None);
    }

    proptest! {
        #[test]
        fn any_date_is_read(format in "[%a-zA-Z0-9:_ -]{0,12}", date in any::<Vec<u8>>()) {
            DateFormat::new(&format).read(&date);
            without_year(&date);
        }
    }
}

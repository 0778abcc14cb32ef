//! Parses dates in Asterisk's logs, in any `dateformat`.
//!
//! An administrator may set any strftime format in `logger.conf`. The configured format is tried after
//! the two that nearly every host uses, and common formats last. A line whose date no format reads is a
//! line without a time, but it is still read.

use std::borrow::Cow;

use jiff::fmt::strtime::BrokenDownTime;
use jiff::{Timestamp, civil};

use super::date_forms::{stock_date, wazo_date};
use crate::failure::LoggedAt;

/// The longest format that is accepted; Asterisk has the same limit.
const FORMAT_MAX: usize = 255;

/// Common formats. A numeric month before a day is not among them: it could be the day.
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

/// The `dateformat` of `logger.conf`, as a jiff format.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DateFormat(Option<String>);

impl DateFormat {
    /// The format that `dateformat` of Asterisk's `logger.conf` sets.
    pub fn new(dateformat: &str) -> Self {
        Self((dateformat.len() <= FORMAT_MAX).then(|| translate(dateformat)))
    }

    /// The time of a date, if it includes the year.
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

/// The time of a date in one of the common formats.
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
    // A zone's name gives no offset: most likely it is the host's zone.
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

/// The time according to a jiff format.
fn by(format: &str, date: &str) -> Option<LoggedAt> {
    // A zone's name gives no offset.
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

/// An Asterisk format (`main/stdtime/localtime.c`) as a jiff format: `%q` is a fraction, and some
/// specifiers are abbreviations of others.
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

/// The time of a year-less date at the start of a line, in the year 2000: only good for the time
/// between two lines.
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
    fn a_date_is_read_in_the_configured_format() {
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
            // No longer in the configured format, since that was changed.
            ("%x %X", "2023-09-01T23:19:35+00:00"),
        ] {
            let time = said(format, date);
            assert_eq!(time.as_deref(), Some("2023-09-01T23:19:35Z"), "{format} {date}");
        }
        assert_eq!(said("%b %e %T", "Sep  1 23:19:35"), None);
        assert_eq!(said("%H:%M", "23:19"), None);
    }

    #[test]
    fn dates_without_a_year_can_be_compared() {
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

    #[test]
    fn a_date_tells_an_instant_only_if_it_has_an_offset() {
        let told = |date: &str| match read(date.as_bytes())? {
            LoggedAt::Host(time) => Some(time.to_string()),
            LoggedAt::Instant(time) => Some(time.to_string()),
        };
        for (date, time) in [
            ("2023-09-01 23:19:35.5", Some("2023-09-01T23:19:35.5")),
            ("2023-09-01 23:19:35 UTC", Some("2023-09-01T23:19:35Z")),
            ("2023-09-01 23:19:35.5 GMT", Some("2023-09-01T23:19:35.5Z")),
            ("2023/09/01 23:19:35 UTC", Some("2023-09-01T23:19:35Z")),
            ("2023-09-01 23:19:35 EDT", Some("2023-09-01T23:19:35")),
            ("2023-09-01 23:19:35 Edt", None),
            ("2023-09-01 23:19:35-0400", Some("2023-09-02T03:19:35Z")),
            ("2023-09-01 23:19:35.5 -04:00", Some("2023-09-02T03:19:35.5Z")),
            ("2023-09-01T23:19:35+04:00", Some("2023-09-01T19:19:35Z")),
            (" 2023-09-01T23:19:35+04:00 ", Some("2023-09-01T19:19:35Z")),
            ("2023-09-01 23:19:35 +4:00", None),
            ("2023-09-01 23:19:35 +04:0", None),
            // Seconds since 1970.
            ("123456789", Some("1973-11-29T21:33:09Z")),
            ("1693610375", Some("2023-09-01T23:19:35Z")),
            ("1693610375.25", Some("2023-09-01T23:19:35Z")),
            ("99999999999", Some("5138-11-16T09:46:39Z")),
            ("12345678", None),
            ("123456789012", None),
            ("1693610375.", None),
            ("1693610375.x", None),
            ("-693610375", None),
            ("", None),
            ("Sep  1 23:19:35", None),
        ] {
            assert_eq!(told(date).as_deref(), time, "{date}");
        }
    }

    #[test]
    fn an_offset_is_read_with_a_colon_and_without() {
        for (date, without) in [
            ("10:00:00+01:00", "10:00:00+0100"),
            ("10:00:00 -01:30", "10:00:00 -0130"),
            ("10:00:00+0100", "10:00:00+0100"),
            ("10:00:00", "10:00:00"),
            ("10-11:12", "10-11:12"),
            ("10:00:00+1:00", "10:00:00+1:00"),
            ("10:00:00+01:0", "10:00:00+01:0"),
            ("", ""),
        ] {
            assert_eq!(without_colon(date), without, "{date}");
        }
    }

    #[test]
    fn a_format_of_asterisk_is_one_of_jiff() {
        for (format, translated) in [
            ("", ""),
            ("a b", "a b"),
            ("%F %T.%3q", "%Y-%m-%d %H:%M:%S.%f"),
            ("%-d %_H%^b!", "%d %H%b!"),
            ("%06N", "%f"),
            ("%é%Y", "%é%Y"),
            ("%Y%", "%Y"),
            ("%Y%12", "%Y"),
        ] {
            assert_eq!(translate(format), translated, "{format}");
        }
        let longest = "%Y".repeat(FORMAT_MAX / 2) + "-";
        assert_eq!(longest.len(), FORMAT_MAX);
        assert_eq!(DateFormat::new(&longest), DateFormat(Some(longest.clone())));
        assert_eq!(DateFormat::new(&(longest + "-")), DateFormat(None));
    }

    #[test]
    fn a_date_without_a_year_is_found_at_the_start_of_a_line() {
        let time = civil::date(2000, 11, 22).at(9, 43, 6, 0);
        for line in [
            "Nov 22 09:43:06 pbx",
            "[Nov 22 09:43:06] NOTICE",
            "Sun Nov 22 09:43:06 2026",
            "<133>[Nov 22 09:43:06] NOTICE",
        ] {
            assert_eq!(without_year(line.as_bytes()), Some(time), "{line}");
        }
        let second = civil::date(2000, 11, 2).at(9, 43, 6, 0);
        for line in ["Nov  2 09:43:06", "Nov 2 09:43:06 pbx"] {
            assert_eq!(without_year(line.as_bytes()), Some(second), "{line}");
        }
        let behind = " ".repeat(64) + "[Nov 22 09:43:06] NOTICE";
        for line in ["", "Nov", "at Nov 22 09:43:06", "Nov 32 09:43:06", &behind] {
            assert_eq!(without_year(line.as_bytes()), None, "{line}");
        }
    }
}

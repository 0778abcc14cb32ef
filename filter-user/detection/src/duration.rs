//! Durations as people write them: `500ms`, `90s`, `10m`, `1h30m`, `7d`.
//!
//! Converts text to a [`Duration`] and back. As users of fail2ban expect, a number without a unit is in
//! seconds, and `w` is a week. Use `#[serde(with = "duration")]`, or [`Compact`] where a type is needed.
//!
//! Must never read a clock.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The longest duration that is accepted: ten years, far from any overflow in nanoseconds.
pub const MAX: Duration = Duration::from_hours(3650 * 24);

/// Every unit with its milliseconds, largest first.
const UNITS: [(&str, u64); 6] = [
    ("w", 604_800_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// How many characters of a wrong text an error repeats.
const SNIPPET_MAX: usize = 48;

/// Reads a duration such as `1h30m`, or a bare number of seconds.
///
/// # Errors
///
/// If `text` is not a duration or longer than [`MAX`]; the error says what is right.
pub fn parse(text: &str) -> Result<Duration, ParseError> {
    let fail = |reason| ParseError { text: snippet(text), reason };
    if text.is_empty() {
        return Err(fail(Reason::Malformed));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        let seconds = text.parse().map_err(|_overflow| fail(Reason::TooLong))?;
        return bounded(Duration::from_secs(seconds)).ok_or_else(|| fail(Reason::TooLong));
    }

    let mut rest = text;
    let mut smallest = u64::MAX;
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let (number, tail) = split_while(rest, |c| c.is_ascii_digit());
        let (unit, tail) = split_while(tail, char::is_alphabetic);
        rest = tail;
        if number.is_empty() || (unit.is_empty() && !rest.is_empty()) {
            return Err(fail(Reason::Malformed));
        }
        if unit.is_empty() {
            return Err(fail(Reason::NoUnit(snippet(number))));
        }
        let Some(&(_, millis)) = UNITS.iter().find(|(name, _)| *name == unit) else {
            return Err(fail(Reason::UnknownUnit(snippet(unit))));
        };
        if millis >= smallest {
            return Err(fail(Reason::Order));
        }
        smallest = millis;
        total = number
            .parse::<u64>()
            .ok()
            .and_then(|count| count.checked_mul(millis))
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| fail(Reason::TooLong))?;
    }
    bounded(Duration::from_millis(total)).ok_or_else(|| fail(Reason::TooLong))
}

/// Writes a duration as [`parse`] reads it, without fractions of a millisecond.
pub fn format(duration: Duration) -> String {
    Compact(duration).to_string()
}

/// A duration that is displayed and serialised as `1h30m`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Compact(pub Duration);

impl fmt::Display for Compact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut rest = self.0.as_millis();
        if rest == 0 {
            return f.write_str("0s");
        }
        // Weeks are read but not written: the documentation shows `7d`.
        for (name, millis) in &UNITS[1..] {
            let count = rest / u128::from(*millis);
            rest %= u128::from(*millis);
            if count > 0 {
                write!(f, "{count}{name}")?;
            }
        }
        Ok(())
    }
}

impl Serialize for Compact {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Compact {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        parse(&text).map(Self).map_err(de::Error::custom)
    }
}

/// For `#[serde(with = "duration")]`.
///
/// # Errors
///
/// The serializer's own.
pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    Compact(*duration).serialize(serializer)
}

/// For `#[serde(with = "duration")]`.
///
/// # Errors
///
/// If the text is not a duration.
pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    Compact::deserialize(deserializer).map(|compact| compact.0)
}

/// Why a text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    text: String,
    reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Reason {
    Malformed,
    NoUnit(String),
    UnknownUnit(String),
    Order,
    TooLong,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = &self.text;
        match &self.reason {
            Reason::Malformed => write!(
                f,
                "`{text}` is not a duration; write a number and a unit, such as `90s`, `10m`, \
                 `1h30m` or `7d`"
            ),
            Reason::NoUnit(number) => {
                write!(f, "`{number}` in `{text}` has no unit; write for example `{number}m`")
            }
            Reason::UnknownUnit(unit) => write!(
                f,
                "`{unit}` in `{text}` is not a unit of time; use `w`, `d`, `h`, `m`, `s` or `ms`"
            ),
            Reason::Order => {
                write!(f, "in `{text}` write larger units first and each once, such as `1h30m`")
            }
            Reason::TooLong => {
                write!(f, "`{text}` is too long; the longest duration is `{}`", Compact(MAX))
            }
        }
    }
}

impl Error for ParseError {}

fn bounded(duration: Duration) -> Option<Duration> {
    (duration <= MAX).then_some(duration)
}

fn split_while(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// The beginning of `text`, printable, for an error.
pub fn snippet(text: &str) -> String {
    let mut out: String = text.chars().take(SNIPPET_MAX).flat_map(char::escape_debug).collect();
    if text.chars().nth(SNIPPET_MAX).is_some() {
        out.push('…');
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn durations_are_read_and_written_compactly() {
        for (text, seconds, written) in [
            ("0", 0, "0s"),
            ("0s", 0, "0s"),
            ("90", 90, "1m30s"),
            ("90s", 90, "1m30s"),
            ("10m", 600, "10m"),
            ("1h30m", 5400, "1h30m"),
            ("1d", 86_400, "1d"),
            ("1w", 604_800, "7d"),
            ("2w1d", 15 * 86_400, "15d"),
            ("3650d", 3650 * 86_400, "3650d"),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_secs(seconds)), "{text}");
            assert_eq!(format(Duration::from_secs(seconds)), written, "{text}");
        }
        assert_eq!(parse("1s500ms"), Ok(Duration::from_millis(1500)));
        assert_eq!(format(Duration::from_millis(500)), "500ms");
        assert_eq!(format(Duration::from_nanos(1)), "0s");
    }

    #[test]
    fn an_error_says_how_to_write_a_duration() {
        let malformed = "is not a duration; write a number and a unit, such as `90s`, `10m`, \
                         `1h30m` or `7d`";
        for (text, expected) in [
            ("", format!("`` {malformed}")),
            ("-1", format!("`-1` {malformed}")),
            ("h", format!("`h` {malformed}")),
            ("1.5h", format!("`1.5h` {malformed}")),
            ("1h 30m", format!("`1h 30m` {malformed}")),
            ("1h30", "`30` in `1h30` has no unit; write for example `30m`".into()),
            (
                "5min",
                "`min` in `5min` is not a unit of time; use `w`, `d`, `h`, `m`, `s` or `ms`".into(),
            ),
            ("30m1h", "in `30m1h` write larger units first and each once, such as `1h30m`".into()),
            ("1m1m", "in `1m1m` write larger units first and each once, such as `1h30m`".into()),
            ("3651d", "`3651d` is too long; the longest duration is `3650d`".into()),
            (
                "99999999999999999999",
                "`99999999999999999999` is too long; the longest duration is `3650d`".into(),
            ),
            (
                "18446744073709551615w",
                "`18446744073709551615w` is too long; the longest duration is `3650d`".into(),
            ),
        ] {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        }
    }

    #[test]
    fn serde_uses_the_text() {
        let json = serde_json::to_string(&Compact(Duration::from_mins(90))).unwrap();
        assert_eq!(json, "\"1h30m\"");
        let back: Compact = serde_json::from_str(&json).unwrap();
        assert_eq!(back.0, Duration::from_mins(90));
        assert!(serde_json::from_str::<Compact>("\"soon\"").is_err());
    }

    proptest! {
        #[test]
        fn a_written_duration_is_read_back(millis in 0..=315_360_000_000_u64) {
            let duration = Duration::from_millis(millis);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC*") {
            match parse(&text) {
                Ok(duration) => prop_assert!(duration <= MAX),
                Err(error) => prop_assert!(error.to_string().len() < 512),
            }
        }

        #[test]
        fn any_number_and_unit_is_answered(text in "([0-9]{0,25}(w|d|h|m|s|ms)?){0,4}") {
            if let Ok(duration) = parse(&text) {
                prop_assert!(duration <= MAX);
            }
        }
    }

    #[test]
    fn a_field_is_written_as_text() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Waits {
            #[serde(with = "crate::duration")]
            longest: Duration,
        }
        let waits = Waits { longest: Duration::from_mins(90) };
        let json = r#"{"longest":"1h30m"}"#;
        assert_eq!(serde_json::to_string(&waits).unwrap(), json);
        assert_eq!(serde_json::from_str::<Waits>(json).unwrap(), waits);
    }
}

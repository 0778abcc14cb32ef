//! How many events may come in a period.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use crate::duration::{self, Compact, snippet};

/// Within these bounds an event costs at least a microsecond, and the largest burst at the slowest rate
/// stays far below 2^63 nanoseconds.
const RATE_EVENTS: RangeInclusive<u32> = 1..=1_000_000;
const RATE_PERIODS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Events in a period, as written: `600/m` does not become `10/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    events: u32,
    period: Duration,
}

impl Rate {
    /// This many events a second, for a constant.
    ///
    /// # Panics
    ///
    /// If that is out of range: a constant does not compile then.
    pub const fn a_second(events: u32) -> Self {
        assert!(events >= *RATE_EVENTS.start() && events <= *RATE_EVENTS.end(), "out of range");
        Self { events, period: Duration::from_secs(1) }
    }

    /// This many events in a period, unless that is out of range.
    pub fn new(events: u32, period: Duration) -> Option<Self> {
        let fits = RATE_EVENTS.contains(&events) && RATE_PERIODS.contains(&period);
        fits.then_some(Self { events, period })
    }

    /// The events in a [`period`](Self::period); never 0.
    pub fn events(self) -> u32 {
        self.events
    }

    /// The period over which [`events`](Self::events) are counted.
    pub fn period(self) -> Duration {
        self.period
    }

    /// The time that one event costs; never 0.
    pub fn interval(self) -> Duration {
        self.period / self.events
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `10/s`, `600/m`, `100/h`, or with any period: `50/10s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let shown = snippet(text);
        let wrong =
            || format!("`{shown}` is not a rate; write one such as `10/s`, `600/m` or `50/10s`");
        let (events, period) = text.split_once('/').ok_or_else(wrong)?;
        if events.is_empty() || !events.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let period = match period {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            period => duration::parse(period).map_err(|_error| wrong())?,
        };
        events.parse().ok().and_then(|events| Self::new(events, period)).ok_or_else(|| {
            format!(
                "`{shown}` is out of range; it must be from {} to {} events in {} to {}",
                RATE_EVENTS.start(),
                RATE_EVENTS.end(),
                Compact(*RATE_PERIODS.start()),
                Compact(*RATE_PERIODS.end()),
            )
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.events)?;
        match self.period.as_millis() {
            1000 => f.write_str("s"),
            60_000 => f.write_str("m"),
            3_600_000 => f.write_str("h"),
            _ => Compact(self.period).fmt(f),
        }
    }
}

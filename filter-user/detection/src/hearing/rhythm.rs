//! Learns how often events usually come, and says whether the next one is overdue.

use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// How often an event comes. Times are those at which it was read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rhythm {
    /// How many events there were.
    pub count: u64,
    /// The time of the first event.
    pub first: Option<Timestamp>,
    /// The time of the last event.
    pub last: Option<Timestamp>,
    /// The longest pause so far, in seconds.
    pub longest_pause: u64,
}

/// A pause that is much longer than any before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overdue {
    /// Its length so far.
    pub silent: Duration,
    /// The length of the longest pause before it.
    pub longest: Duration,
}

/// How many events it takes to know a rhythm.
const EVENTS: u64 = 100;

/// How long it takes to know a rhythm. This must include a weekend.
const LEARNED_AFTER: Duration = Duration::from_hours(8 * 24);

/// How many times as long as the longest before it a pause must be to mean something.
const FACTOR: u32 = 3;

impl Rhythm {
    /// Records that the event came `count` times. Its source has been reading since `listening`.
    pub fn note(&mut self, count: u64, now: Timestamp, listening: Timestamp) {
        self.count = self.count.saturating_add(count);
        // Thousands can come at once.
        if self.last == Some(now) {
            return;
        }
        self.first.get_or_insert(now);
        self.longest_pause = self.longest_pause.max(self.pause(now, listening).as_secs());
        self.last = Some(now);
    }

    /// The current pause, if it is at least `least` and much longer than any before, as far as is
    /// known.
    pub fn overdue(
        &self,
        now: Timestamp,
        listening: Timestamp,
        least: Duration,
    ) -> Option<Overdue> {
        let known_for = between(self.first?, self.last?);
        let (silent, longest) =
            (self.pause(now, listening), Duration::from_secs(self.longest_pause));
        let known = self.count >= EVENTS && known_for >= LEARNED_AFTER;
        let overdue = silent >= least && silent > longest.saturating_mul(FACTOR);
        (known && overdue).then_some(Overdue { silent, longest })
    }

    /// How long the source has been reading without the event.
    fn pause(&self, now: Timestamp, listening: Timestamp) -> Duration {
        self.last.map_or(Duration::ZERO, |last| between(last.max(listening), now))
    }
}

/// The time from `from` to `to`; zero if `to` is earlier.
pub(super) fn between(from: Timestamp, to: Timestamp) -> Duration {
    to.duration_since(from).try_into().unwrap_or(Duration::ZERO)
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: i64 = 3600;

    fn at(hours: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + hours * HOUR).unwrap()
    }

    /// An event each hour by day, for ten days.
    fn by_day() -> Rhythm {
        let mut rhythm = Rhythm::default();
        for hour in (0..240).filter(|hour| hour % 24 < 14) {
            rhythm.note(1, at(hour), at(0));
        }
        rhythm
    }

    #[test]
    fn a_pause_much_longer_than_any_is_overdue() {
        let rhythm = by_day();
        assert_eq!((rhythm.count, rhythm.longest_pause), (140, 11 * 3600));
        let least = Duration::from_hours(12);
        let end = 229;
        assert_eq!(rhythm.overdue(at(end + 33), at(0), least), None);
        let overdue = rhythm.overdue(at(end + 34), at(0), least).unwrap();
        assert_eq!(overdue.silent, Duration::from_hours(34));
        assert_eq!(overdue.longest, Duration::from_hours(11));
        assert_eq!(rhythm.overdue(at(end + 34), at(0), Duration::from_hours(35)), None);
    }

    #[test]
    fn time_without_listening_is_no_pause() {
        let rhythm = by_day();
        assert_eq!(rhythm.overdue(at(1000), at(990), Duration::from_hours(1)), None);
        let mut rhythm = rhythm;
        rhythm.note(1, at(1000), at(990));
        assert_eq!(rhythm.longest_pause, 11 * 3600);
    }

    #[test]
    fn few_events_or_few_days_make_no_rhythm() {
        let mut infrequent = Rhythm::default();
        let mut young = Rhythm::default();
        for event in 0..99 {
            infrequent.note(1, at(event * 3), at(0));
            young.note(10, at(event), at(0));
        }
        for rhythm in [infrequent, young, Rhythm::default()] {
            assert_eq!(rhythm.overdue(at(10_000), at(0), Duration::ZERO), None);
        }
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_pause() {
        let mut rhythm = by_day();
        rhythm.note(1, at(-5000), at(-5000));
        assert_eq!(rhythm.longest_pause, 11 * 3600);
        assert_eq!(rhythm.overdue(at(-6000), at(-5000), Duration::ZERO), None);
    }
}

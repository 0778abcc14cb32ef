//! The kernel's clock for bans, `CLOCK_MONOTONIC`.
//!
//! Nobody can set it, so setting the wall clock neither ends nor lengthens a ban. It stops while the
//! host is suspended, so a ban has as much time left at the resume as at the suspend. By the wall
//! clock, its end is later by the length of the suspend, and moves when the wall clock is set. So a
//! moment is converted to a time of day only when it is shown, by the wall clock at that time.
//!
//! Must never read a clock.

use std::fmt;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A moment on `CLOCK_MONOTONIC`, in nanoseconds, as in a ban's entry in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KernelTime(pub u64);

impl KernelTime {
    /// This moment plus `duration`, or the last possible moment.
    #[must_use]
    pub fn after(self, duration: Duration) -> Self {
        Self(self.0.saturating_add(u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// How long `earlier` was before this moment; zero if it was not.
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}

/// A moment on `CLOCK_MONOTONIC`, in nanoseconds, which may be before this boot: the beginning of
/// something that has outlived a boot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub i64);

impl Moment {
    /// The same moment, or the boot if that was later.
    pub fn in_this_boot(self) -> KernelTime {
        KernelTime(u64::try_from(self.0).unwrap_or(0))
    }

    /// How long before `now` it was; zero if it was not.
    pub fn age(self, now: KernelTime) -> Duration {
        let age = Self::from(now).0.saturating_sub(self.0);
        Duration::from_nanos(u64::try_from(age).unwrap_or(0))
    }

    /// The same moment on the wall clock, where `now` is given on both clocks.
    pub fn on_the_wall(self, now: KernelTime, wall: Timestamp) -> Timestamp {
        let distance = SignedDuration::from_nanos(self.0.saturating_sub(Self::from(now).0));
        let end = if self >= now.into() { Timestamp::MAX } else { Timestamp::MIN };
        wall.checked_add(distance).unwrap_or(end)
    }
}

impl From<KernelTime> for Moment {
    fn from(time: KernelTime) -> Self {
        Self(i64::try_from(time.0).unwrap_or(i64::MAX))
    }
}

/// One moment on both clocks, from which a time on one is converted to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    /// On the kernel's clock.
    pub kernel: KernelTime,
    /// On the wall clock.
    pub wall: Timestamp,
}

impl Now {
    /// The same moment of the kernel's clock, but with the wall clock as it is set at `later`: it may
    /// have been set since, or the host may have been suspended.
    #[must_use]
    pub fn set_by(self, later: Self) -> Self {
        Self { wall: Moment::from(self.kernel).on_the_wall(later.kernel, later.wall), ..self }
    }

    /// A moment of the kernel's clock, for `--json`.
    pub fn show(self, at: impl Into<Moment>) -> String {
        Rfc3339(at.into().on_the_wall(self.kernel, self.wall)).to_string()
    }

    /// The same in milliseconds since 1970, for measurements.
    pub fn show_milliseconds(self, at: impl Into<Moment>) -> i64 {
        at.into().on_the_wall(self.kernel, self.wall).as_millisecond()
    }
}

/// A time for `--json`: RFC 3339 in UTC, in whole seconds, because jq's `fromdateiso8601` reads no
/// fractions.
#[derive(Clone, Copy)]
pub struct Rfc3339(pub Timestamp);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.0}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wall_times_lie_around_now() {
        let (now, wall) = (KernelTime(5_000_000_000), Timestamp::from_second(1000).unwrap());
        let later = Moment::from(now.after(Duration::from_secs(3))).on_the_wall(now, wall);
        assert_eq!(later, Timestamp::from_second(1003).unwrap());
        for (earlier, second) in [(4_000_000_000, 999), (-2_000_000_000, 993)] {
            let earlier = Moment(earlier).on_the_wall(now, wall);
            assert_eq!(earlier, Timestamp::from_second(second).unwrap());
        }
        let last = Moment::from(KernelTime(u64::MAX));
        assert_eq!(last.on_the_wall(now, Timestamp::MAX), Timestamp::MAX);
        assert_eq!(Moment(-1).in_this_boot(), KernelTime(0));
        assert_eq!(Moment(-2_000_000_000).age(now), Duration::from_secs(7));
        assert_eq!(Moment(6_000_000_000).age(now), Duration::ZERO);
    }

    #[test]
    fn a_moment_is_shown_by_the_wall_clock_as_it_is_now() {
        let second = |second| Timestamp::from_second(second).unwrap();
        let start = Now { kernel: KernelTime(5_000_000_000), wall: second(10) };
        let end = KernelTime(65_000_000_000);
        assert_eq!(start.show(end), "1970-01-01T00:01:10Z");
        // 20 s later on the kernel's clock, the wall clock has been set to 2026; then the host was
        // suspended for an hour.
        for (kernel, wall, shown) in [
            (25_000_000_000, 1_795_339_940, "2026-11-22T09:33:00Z"),
            (26_000_000_000, 1_795_339_941 + 3600, "2026-11-22T10:33:00Z"),
        ] {
            let later = Now { kernel: KernelTime(kernel), wall: second(wall) };
            let start = start.set_by(later);
            assert_eq!(start.kernel, KernelTime(5_000_000_000));
            assert_eq!(start.show(end), shown);
        }
        assert_eq!(start.set_by(start), start);
    }

    #[test]
    fn times_are_written_in_whole_seconds() {
        let time = Timestamp::new(0, 999_999_999).unwrap();
        assert_eq!(Rfc3339(time).to_string(), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn a_moment_is_shown_in_milliseconds_too() {
        let wall = Timestamp::from_millisecond(1_795_339_980_125).unwrap();
        let now = Now { kernel: KernelTime(5_000_000_000), wall };
        assert_eq!(now.show_milliseconds(KernelTime(6_500_000_000)), 1_795_339_981_625);
        assert_eq!(now.show_milliseconds(Moment(-1_000_000_000)), 1_795_339_974_125);
    }
}

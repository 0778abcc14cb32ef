//! The kernel's times as wall-clock times, across boots.

use std::time::Duration;

use jiff::Timestamp;

use detection::clock::{KernelTime, Moment};

/// How far the wall clock may drift from its expected time: more than that is a step, and not the usual
/// slewing.
const STEP: Duration = Duration::from_secs(2);

/// The clocks of a boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clock {
    /// The boot's name.
    pub(super) boot: String,
    /// How far UTC is ahead of `CLOCK_MONOTONIC`, in nanoseconds.
    pub(super) ahead: i64,
    /// The time, in nanoseconds of UTC since 1970.
    pub(super) now: i64,
}

impl Clock {
    /// The clocks of a boot at a moment that is known on both. A boot without a name never equals
    /// another one.
    pub fn at(boot: &str, kernel: KernelTime, wall: Timestamp) -> Self {
        let now = i64::try_from(wall.as_nanosecond()).unwrap_or(i64::MAX);
        let ahead = now.saturating_sub(Moment::from(kernel).0);
        Self { boot: boot.to_owned(), ahead, now }
    }

    /// The wall-clock time.
    pub(super) fn wall(&self) -> Timestamp {
        Timestamp::from_nanosecond(self.now.into()).unwrap_or_default()
    }

    pub(super) fn utc(&self, at: impl Into<Moment>) -> i64 {
        at.into().0.saturating_add(self.ahead)
    }

    pub(super) fn moment(&self, utc: i64) -> Moment {
        Moment(utc.saturating_sub(self.ahead))
    }

    /// Whether since `earlier` the wall clock was set or the host was suspended.
    pub(super) fn has_stepped_since(&self, earlier: &Self) -> bool {
        Duration::from_nanos(self.ahead.abs_diff(earlier.ahead)) > STEP
    }

    /// When a ban ends that was written by `written`, from `since` to `until` of UTC; `None` if it has
    /// ended.
    pub(super) fn end(&self, written: &Self, since: i64, until: i64) -> Option<KernelTime> {
        if !self.is_same_boot(written) {
            return self.end_by_wall_clock(since, until);
        }
        let end = written.moment(until);
        (end > self.moment(self.now)).then(|| end.in_this_boot())
    }

    /// The same, whatever the boot.
    pub(super) fn end_by_wall_clock(&self, since: i64, until: i64) -> Option<KernelTime> {
        // If the wall clock starts at an early date after a boot, nothing lasts longer than intended.
        let left = until.saturating_sub(self.now).min(until.saturating_sub(since));
        (left > 0).then(|| self.moment(self.now.saturating_add(left)).in_this_boot())
    }

    /// When it began.
    pub(super) fn beginning(&self, written: &Self, since: i64) -> Moment {
        if self.is_same_boot(written) { written.moment(since) } else { self.moment(since) }
    }

    fn is_same_boot(&self, other: &Self) -> bool {
        !self.boot.is_empty() && self.boot == other.boot
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clock(boot: &str, kernel: u64, wall: i64) -> Clock {
        let kernel = KernelTime(kernel * 1_000_000_000);
        Clock::at(boot, kernel, Timestamp::from_second(wall).unwrap())
    }

    fn seconds(utc: i64) -> i64 {
        utc * 1_000_000_000
    }

    #[test]
    fn within_one_boot_only_the_kernels_clock_counts() {
        let written = clock("a", 100, 1000);
        let (since, until) = (written.utc(Moment(seconds(90))), written.utc(Moment(seconds(150))));
        assert_eq!((since, until), (seconds(990), seconds(1050)));
        // Since then, the wall clock has been set an hour ahead.
        let now = clock("a", 110, 4610);
        assert!(now.has_stepped_since(&written));
        assert_eq!(now.end(&written, since, until), Some(KernelTime(150_000_000_000)));
        assert_eq!(now.beginning(&written, since), Moment(seconds(90)));
        assert_eq!(clock("a", 150, 1050).end(&written, since, until), None);
    }

    #[test]
    fn across_boots_the_wall_clock_counts() {
        let written = clock("a", 100, 1000);
        let (since, until) = (seconds(990), seconds(1050));
        let now = clock("b", 5, 1020);
        assert_eq!(now.end(&written, since, until), Some(KernelTime(35_000_000_000)));
        assert_eq!(now.beginning(&written, since), Moment(seconds(-25)));
        assert_eq!(clock("b", 5, 1050).end(&written, since, until), None);
        // A host without a real-time clock starts in 1970: the ban still lasts no longer than a minute.
        let lost = clock("b", 5, 0);
        assert_eq!(lost.end(&written, since, until), Some(KernelTime(65_000_000_000)));
        // Boots without a name are different boots.
        let nameless = clock("", 5, 1020);
        assert_eq!(
            nameless.end(&clock("", 100, 1000), since, until),
            Some(KernelTime(35_000_000_000))
        );
    }
}

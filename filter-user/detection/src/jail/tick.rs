//! Moments in four bytes.

use std::time::Duration;

use crate::clock::KernelTime;

/// A moment on the kernel's clock, to 1/256 of a second: the coarse clock that gives the times of
/// attempts advances in steps of 4 ms if the kernel ticks at 250 Hz, as Debian's does. It wraps around
/// after 194 days, and a moment more than half of that ago appears to be in the future; a jail looks
/// back at most 30 days.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tick(u32);

const NANOSECONDS: u64 = 1_000_000_000 / 256;

impl Tick {
    /// How long it was before `now`; zero if it was not.
    pub(super) fn age(self, now: KernelTime) -> Duration {
        let ticks = Self::from(now).0.wrapping_sub(self.0).cast_signed().max(0);
        Duration::from_nanos(u64::from(ticks.cast_unsigned()) * NANOSECONDS)
    }

    /// The moment, given that it is not after `now`.
    pub(super) fn seen_from(self, now: KernelTime) -> KernelTime {
        let age = u64::try_from(self.age(now).as_nanos()).unwrap_or(u64::MAX);
        KernelTime((now.0 - now.0 % NANOSECONDS).saturating_sub(age))
    }
}

impl From<KernelTime> for Tick {
    fn from(time: KernelTime) -> Self {
        let low = (time.0 / NANOSECONDS) & u64::from(u32::MAX);
        Self(u32::try_from(low).unwrap_or(u32::MAX))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_moment_in_the_future_has_no_age() {
        let now = KernelTime(10_000_000_000);
        assert_eq!(Tick::from(KernelTime(11_000_000_000)).age(now), Duration::ZERO);
        assert_eq!(Tick::from(KernelTime(9_000_000_000)).age(now), Duration::from_secs(1));
    }

    proptest! {
        #[test]
        fn ages_are_exact_to_a_tick(then in 0..u64::MAX / 2, age in 0..30 * 86_400 * 1_000_000_000u64) {
            let now = KernelTime(then + age);
            let tick = Tick::from(KernelTime(then));
            let told = u64::try_from(tick.age(now).as_nanos()).unwrap();
            prop_assert!(told.abs_diff(age) < NANOSECONDS);
            let seen = tick.seen_from(now).0;
            prop_assert!(seen <= then && then - seen < NANOSECONDS);
        }
    }
}

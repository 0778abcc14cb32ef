//! The arithmetic of a limit: the generic cell rate algorithm (ITU-T I.371) as virtual scheduling.
//!
//! A bucket is one `u64`, the *theoretical arrival time* at which it would be empty again. It needs no
//! lock and no clean-up, and zero means an empty bucket.
//!
//! Must never lock, or need clean-up.

use crate::limits::BUCKET_ATTEMPTS;

/// A word that other CPUs change too. In the kernel it is in a map: `core` offers no compare-and-exchange
/// for the BPF target, although the machine has it.
pub trait Bucket {
    /// Its current value.
    fn load(&self) -> u64;
    /// Sets it to `new` if it is still `current`; returns whether it was.
    fn replace(&self, current: u64, new: u64) -> bool;
}

#[cfg(target_has_atomic = "64")]
impl Bucket for core::sync::atomic::AtomicU64 {
    fn load(&self) -> u64 {
        self.load(core::sync::atomic::Ordering::Relaxed)
    }

    fn replace(&self, current: u64, new: u64) -> bool {
        use core::sync::atomic::Ordering::Relaxed;
        self.compare_exchange(current, new, Relaxed, Relaxed).is_ok()
    }
}

/// A limit: one packet per interval, and how far a burst may run ahead of that. All zero means no limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
#[repr(C)]
pub struct Gcra {
    /// Nanoseconds that one packet costs. Zero means no limit.
    pub interval: u64,
    /// How many nanoseconds the theoretical arrival time may be ahead of now.
    pub tolerance: u64,
}

impl Gcra {
    /// A limit of `events` in `period` nanoseconds with bursts of `burst`; each is at least one.
    pub fn new(events: u64, period: u64, burst: u64) -> Self {
        let interval = period.checked_div(events).unwrap_or(0).max(1);
        Self { interval, tolerance: interval.saturating_mul(burst.saturating_sub(1)) }
    }

    /// The same limit with a rate and bursts this many times as large. No limit stays none.
    #[must_use]
    pub fn times(self, factor: u64) -> Self {
        let interval = self.interval.checked_div(factor).unwrap_or(self.interval);
        Self { interval: if self.interval == 0 { 0 } else { interval.max(1) }, ..self }
    }

    /// Whether `bucket` has room for a packet at `now`: [`take`](Self::take) without consuming.
    #[inline(always)]
    pub fn has_room(&self, bucket: &impl Bucket, now: u64) -> bool {
        self.has_room_for(bucket, now, 1)
    }

    /// [`take_units`](Self::take_units) without consuming.
    #[inline(always)]
    pub fn has_room_for(&self, bucket: &impl Bucket, now: u64, units: u64) -> bool {
        let arrival = bucket.load();
        arrival <= now
            || self.fits(arrival.wrapping_sub(now), self.interval.wrapping_mul(units))
            || self.interval == 0
    }

    /// Whether a cost in nanoseconds fits into a bucket that is this far ahead of now.
    #[inline(always)]
    fn fits(&self, ahead: u64, cost: u64) -> bool {
        ahead.wrapping_add(cost) <= self.tolerance.wrapping_add(self.interval)
    }

    /// Consumes one packet's cost from `bucket` at `now`, in nanoseconds of any clock that never goes
    /// back. Returns false if the limit is reached; the bucket then stays unchanged, so a source that
    /// keeps flooding is not locked out longer than one that stops.
    #[inline(always)]
    pub fn take(&self, bucket: &impl Bucket, now: u64) -> bool {
        self.take_units(bucket, now, 1)
    }

    /// Consumes the cost of this many packets at once, or bytes if the limit counts bytes, fewer than
    /// 2^20. An empty bucket lets any amount through and goes into debt, because otherwise amounts larger
    /// than the burst would never pass.
    #[inline(always)]
    pub fn take_units(&self, bucket: &impl Bucket, now: u64, units: u64) -> bool {
        if self.interval == 0 {
            return true;
        }
        let cost = self.interval.wrapping_mul(units);
        for _ in 0..BUCKET_ATTEMPTS {
            let arrival = bucket.load();
            let start = if arrival > now { arrival } else { now };
            if arrival > now && !self.fits(start.wrapping_sub(now), cost) {
                return false;
            }
            if bucket.replace(arrival, start.wrapping_add(cost)) {
                return true;
            }
        }
        true
    }
}

/// A time as in entries of bans: in units of 2^28 nanoseconds, about a quarter of a second.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "wraps after 36 years of uptime")]
pub fn unit(now: u64) -> u32 {
    (now >> UNIT_SHIFT) as u32
}

/// The number of bits of a nanosecond time that [`unit`] omits.
pub const UNIT_SHIFT: u32 = 28;

/// A time as in [`maps::SEEN`](crate::abi::maps::SEEN): in units of 2^30 nanoseconds.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "wraps after 146 years of uptime")]
pub fn seen_unit(now: u64) -> u32 {
    (now >> 30) as u32
}

/// How many units ago `seen` was; zero for a time in the future.
pub fn seen_ago(seen: u32, now: u64) -> u32 {
    seen_unit(now).saturating_sub(seen)
}

#[cfg(test)]
mod tests {
    extern crate std;

    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_burst_then_the_rate() {
        let limit = Gcra::new(10, SECOND, 50);
        let bucket = AtomicU64::new(0);
        let start = 1000 * SECOND;
        assert_eq!((0..100).filter(|_| limit.take(&bucket, start)).count(), 50);
        let later = start + SECOND;
        assert_eq!((0..100).filter(|_| limit.take(&bucket, later)).count(), 10);
    }

    #[test]
    fn a_rest_fills_the_bucket_and_no_more() {
        let limit = Gcra::new(10, SECOND, 5);
        let bucket = AtomicU64::new(0);
        assert!(limit.take(&bucket, SECOND));
        assert_eq!((0..100).filter(|_| limit.take(&bucket, 1_000_000 * SECOND)).count(), 5);
    }

    #[test]
    fn a_limit_is_multiplied() {
        let limit = Gcra::new(10, SECOND, 50).times(10);
        let bucket = AtomicU64::new(0);
        assert_eq!((0..1000).filter(|_| limit.take(&bucket, SECOND)).count(), 500 - 9);
        assert_eq!((0..1000).filter(|_| limit.take(&bucket, 2 * SECOND)).count(), 100);
        // What was taken of the larger limit is given back in the time that the smaller one takes, not later.
        assert!(bucket.load(Ordering::Relaxed) - 2 * SECOND <= 5 * SECOND);
        assert_eq!(Gcra::default().times(10), Gcra::default());
        assert_eq!(Gcra { interval: 3, tolerance: 9 }.times(10).interval, 1);
        assert_eq!(Gcra { interval: 3, tolerance: 9 }.times(0).interval, 3);
    }

    #[test]
    fn exact_on_several_threads() {
        let limit = Gcra::new(1, SECOND, 10_000);
        let bucket = AtomicU64::new(0);
        let taken: usize = thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| {
                    scope.spawn(|| (0..20_000).filter(|_| limit.take(&bucket, SECOND)).count())
                })
                .collect();
            threads.into_iter().map(|t| t.join().unwrap()).sum()
        });
        assert_eq!(taken, 10_000);
    }

    #[test]
    fn more_than_the_burst_passes_an_empty_bucket_alone() {
        let limit = Gcra::new(1000, SECOND, 5000);
        let bucket = AtomicU64::new(0);
        assert!(limit.take_units(&bucket, SECOND, 60_000));
        assert!(!limit.has_room_for(&bucket, SECOND, 1));
        assert!(!limit.take_units(&bucket, 50 * SECOND, 6000));
        assert!(limit.take_units(&bucket, 57 * SECOND, 1000));
        assert!(limit.take_units(&bucket, 62 * SECOND, 60_000));
    }

    #[test]
    fn at_the_bound_and_beside_it() {
        let limit = Gcra { interval: 10, tolerance: 20 };
        let ahead = |by: u64| AtomicU64::new(1000 + by);
        // Three units of ten fit into twenty, plus the one that is always allowed.
        for (by, units, fits) in [
            (0, 3, true),
            (19, 1, true),
            (20, 1, true),
            (21, 1, false),
            (1, 3, false),
            (10, 2, true),
            (11, 2, false),
        ] {
            assert_eq!(limit.has_room_for(&ahead(by), 1000, units), fits, "{units}, {by} ahead");
            let bucket = ahead(by);
            assert_eq!(limit.take_units(&bucket, 1000, units), fits, "{units}, {by} ahead");
            let left = if fits { 1000 + by + 10 * units } else { 1000 + by };
            assert_eq!(bucket.load(Ordering::Relaxed), left, "{units}, {by} ahead");
        }
        // A bucket that has been empty since this moment is empty.
        assert!(limit.has_room_for(&ahead(0), 1000, 4) && limit.take_units(&ahead(0), 1000, 4));
        assert!(!limit.has_room_for(&ahead(1), 1000, 4) && !limit.take_units(&ahead(1), 1000, 4));
        assert!(limit.has_room(&ahead(20), 1000) && !limit.has_room(&ahead(21), 1000));
        let none = Gcra::default();
        assert!(none.has_room(&ahead(99), 1000) && none.take(&ahead(99), 1000));
    }

    #[test]
    fn times_are_kept_in_units() {
        assert_eq!([(1 << 28) - 1, 1 << 28, 5 << 28].map(unit), [0, 1, 5]);
        assert_eq!([(1 << 30) - 1, 1 << 30, 5 << 30].map(seen_unit), [0, 1, 5]);
        assert_eq!([4, 5, 6, 9].map(|seen| seen_ago(seen, 6 << 30)), [2, 1, 0, 0]);
    }

    proptest! {
        /// However a stream is cut, no more than the burst and the rate pass, plus one piece.
        #[test]
        fn pieces_of_any_size(
            sizes in proptest::collection::vec((1u64..9000, 0u64..SECOND / 20), 1..300),
        ) {
            let limit = Gcra::new(4096, SECOND, 32_768);
            let bucket = AtomicU64::new(0);
            let (mut now, mut taken) = (SECOND, 0);
            for (size, gap) in sizes {
                now += gap;
                prop_assert_eq!(
                    limit.has_room_for(&bucket, now, size),
                    {
                        let took = limit.take_units(&bucket, now, size);
                        taken += if took { size } else { 0 };
                        took
                    }
                );
            }
            let allowed = 32_768 + (now - SECOND) / limit.interval + 9000;
            prop_assert!(taken <= allowed, "{taken} of {allowed}");
        }

        /// The definition of the limit: in any period, no more than burst + rate × time.
        #[test]
        fn never_more_than_burst_and_rate(
            events in 1u64..1000, burst in 1u64..1000,
            gaps in proptest::collection::vec(0u64..SECOND / 50, 1..400),
        ) {
            let limit = Gcra::new(events, SECOND, burst);
            let bucket = AtomicU64::new(0);
            let (mut now, mut taken) = (SECOND, Vec::new());
            for gap in gaps {
                now += gap;
                if limit.take(&bucket, now) {
                    taken.push(now);
                }
            }
            for (first, from) in taken.iter().enumerate() {
                for (count, to) in taken[first..].iter().enumerate() {
                    let allowed = burst + (to - from) / limit.interval;
                    prop_assert!((count as u64) < allowed, "{count} in {} ns", to - from);
                }
            }
        }

        /// A source that keeps to its rate is never limited.
        #[test]
        fn at_the_rate_all_pass(events in 1u64..10_000, burst in 1u64..10, count in 1usize..500) {
            let limit = Gcra::new(events, SECOND, burst);
            let bucket = AtomicU64::new(0);
            for n in 0..count as u64 {
                prop_assert!(limit.take(&bucket, SECOND + n * limit.interval));
            }
        }
    }
}

//! Reads the clocks: the kernel's monotonic clock and the wall clock.

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};

pub use detection::clock::{KernelTime, Moment, Now, Rfc3339};

/// The time by `CLOCK_MONOTONIC`, on the coarse clock that the XDP program reads.
///
/// # Panics
///
/// Never: Linux has had this clock since 2.6.32.
pub fn now() -> KernelTime {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)
        .expect("CLOCK_MONOTONIC_COARSE is part of every kernel that has XDP");
    let seconds = u64::try_from(now.tv_sec()).unwrap_or(0);
    let nanoseconds = u64::try_from(now.tv_nsec()).unwrap_or(0);
    KernelTime(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

/// Both clocks at once.
pub fn read() -> Now {
    Now { kernel: now(), wall: Timestamp::now() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_forward() {
        let first = now();
        assert!(first.0 > 0);
        assert!(now() >= first);
    }
}

//! Reads the clocks: the kernel's monotonic clock and the wall clock.

use std::fs;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

pub use datapath::clock::now;
pub use detection::clock::{KernelTime, Moment, Now, Rfc3339};

/// Both clocks at once.
pub fn read() -> Now {
    Now { kernel: now(), wall: Timestamp::now() }
}

/// Both, and which boot it is, as the store needs them.
pub fn of_boot() -> store::Clock {
    static BOOT: OnceLock<String> = OnceLock::new();
    // `proc_sys_kernel(5)`: a new one for each boot. The store asks every second.
    let boot = BOOT
        .get_or_init(|| fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default());
    store::Clock::at(boot.trim(), now(), Timestamp::now())
}

/// When something that is done once in a period is done next. All that share a period are due together, so that an
/// idle daemon wakes up once for them.
pub(crate) fn next_turn(period: Duration) -> Instant {
    static FIRST: LazyLock<Instant> = LazyLock::new(Instant::now);
    let (period, past) = (period.as_nanos().max(1), FIRST.elapsed().as_nanos());
    let next = (past / period + 1).saturating_mul(period);
    *FIRST + Duration::from_nanos(u64::try_from(next).unwrap_or(u64::MAX))
}

/// Ticks at each of these turns, from now on; the first tick is at once.
pub(crate) fn turns(period: Duration) -> Interval {
    let mut ticks = interval_at(next_turn(period) - period, period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

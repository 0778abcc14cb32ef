//! Reads the clocks: the kernel's monotonic clock and the wall clock.

use std::fs;

use jiff::Timestamp;

pub use datapath::clock::now;
pub use detection::clock::{KernelTime, Moment, Now, Rfc3339};

/// Both clocks at once.
pub fn read() -> Now {
    Now { kernel: now(), wall: Timestamp::now() }
}

/// Both, and which boot it is, as the store needs them.
pub fn of_boot() -> store::Clock {
    // `proc_sys_kernel(5)`: a new one for each boot.
    let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    store::Clock::at(boot.trim(), now(), Timestamp::now())
}

//! This process, as the kernel and its allocator account for it.

use std::fs;
use std::time::Duration;

use anyhow::Context;
use nix::libc;
use nix::time::{ClockId, clock_gettime};

/// Its resident memory, in KiB.
pub(super) fn resident_kib() -> anyhow::Result<u64> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    resident_in(&status).context("/proc/self/status has no VmRSS")
}

/// The `VmRSS` in a process's status.
fn resident_in(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix(" kB")?.parse().ok()
}

/// The allocated bytes, with the allocator's overhead.
pub(super) fn allocated() -> u64 {
    // SAFETY: it only reads the allocator's own counters.
    let info = unsafe { libc::mallinfo2() };
    (info.uordblks + info.hblkhd) as u64
}

/// The CPU time of all threads.
pub(super) fn at_work() -> anyhow::Result<Duration> {
    Ok(clock_gettime(ClockId::CLOCK_PROCESS_CPUTIME_ID).context("ask for CPU time")?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_resident_size_is_read_from_the_status() {
        assert_eq!(resident_in("Name:\tx\nVmRSS:\t    5312 kB\nVmData:\t1 kB\n"), Some(5312));
        assert_eq!(resident_in("Name:\tVmRSS: 1 kB\n"), None);
        assert!(resident_kib().unwrap() > 100);
    }

    #[test]
    fn what_is_allocated_is_counted() {
        // Far more than the concurrent tests free meanwhile; its pages are never touched.
        let size = 4 << 30;
        let before = allocated();
        let block = std::hint::black_box(vec![0_u8; size]);
        assert!(allocated() >= before + size as u64 / 2, "{} bytes", block.len());
    }
}

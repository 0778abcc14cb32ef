//! The kernel's clock as the program reads it.
//!
//! The program reads `jiffies64`, which takes a nanosecond but cannot be read outside the kernel. So the
//! object has a second program that returns both `jiffies64` and `CLOCK_MONOTONIC`, which
//! `BPF_PROG_TEST_RUN` runs here. The two stay in step: the kernel counts a jiffy whenever
//! `CLOCK_MONOTONIC` has advanced by a tick (`tick_do_update_jiffies64` in `kernel/time/tick-sched.c`).

use anyhow::{Context as _, Result};
use aya::programs::{ProgramError, Xdp};
use aya::{Ebpf, TestRun as _, TestRunOptions};
use filter_common::abi::CLOCK_PROGRAM;
use nix::time::{ClockId, clock_getres};

/// How to convert `jiffies64` to a time: `(jiffies - epoch) * tick` nanoseconds of `CLOCK_MONOTONIC`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// The value of `jiffies64` at the time zero of `CLOCK_MONOTONIC`, modulo 2^64.
    pub epoch: u64,
    /// Nanoseconds per jiffy.
    pub tick: u64,
}

impl Clocks {
    /// Whether `other` gives another time, by more than the error of a measurement.
    pub fn differs(self, other: Self) -> bool {
        let apart = self.epoch.wrapping_sub(other.epoch);
        self.tick != other.tick || apart.min(apart.wrapping_neg()) > 3
    }
}

/// A frame that the program may overwrite.
const FRAME: [u8; 64] = [0; 64];

/// Reads the kernel's clocks.
///
/// # Errors
///
/// If the kernel refuses the program.
pub fn measure(ebpf: &mut Ebpf) -> Result<Clocks> {
    let program: &mut Xdp = ebpf
        .program_mut(CLOCK_PROGRAM)
        .with_context(|| format!("the object has no program `{CLOCK_PROGRAM}`"))?
        .try_into()?;
    match program.load() {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => {}
        Err(error) => return Err(error).context("load the program that reads the clocks"),
    }
    let mut told = FRAME;
    let options = TestRunOptions {
        data_in: Some(&FRAME),
        data_out: Some(&mut told),
        ..TestRunOptions::new()
    };
    program.test_run(options).context("read the kernel's clocks")?;
    let word = |at: usize| told.get(at..).and_then(|rest| rest.first_chunk().copied());
    let jiffies = word(0).map_or(0, u64::from_ne_bytes);
    let monotonic = word(8).map_or(0, u64::from_ne_bytes);
    let tick = clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).context("read the clock's tick")?;
    let tick = u64::try_from(tick.tv_nsec()).ok().filter(|tick| *tick > 0);
    let tick = tick.context("the kernel's clock has no tick")?;
    Ok(Clocks { epoch: jiffies.wrapping_sub(monotonic / tick), tick })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_ticks_are_no_difference() {
        let clocks = Clocks { epoch: 2, tick: 4_000_000 };
        assert!(!clocks.differs(Clocks { epoch: u64::MAX, ..clocks }));
        assert!(clocks.differs(Clocks { epoch: 100, ..clocks }));
        assert!(clocks.differs(Clocks { tick: 1_000_000, ..clocks }));
    }
}

//! CPU time of a thread that stays on one CPU, and of the kernel's thread that takes packets over from it
//! when that CPU is busy.
//!
//! This is not the elapsed time: a test run of a program that is not attached waits for a grace period of
//! RCU when it begins and when it ends (`bpf_dispatcher_change_prog` in kernel/bpf/dispatcher.c), which
//! are idle tens of milliseconds; and on a busy machine the elapsed time would mostly depend on other
//! work.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use nix::sched::{CpuSet, sched_getaffinity, sched_setaffinity};
use nix::time::{ClockId, clock_gettime};
use nix::unistd::Pid;

/// Measures the thread that has started it, from then on.
#[derive(Debug)]
pub(super) struct Stopwatch {
    /// The statistics of the kernel's thread that handles packets on this CPU.
    helper: PathBuf,
    started: Duration,
}

impl Stopwatch {
    /// Binds this thread permanently to the last of its allowed CPUs, and starts.
    pub(super) fn start() -> anyhow::Result<Self> {
        let cpu = stay_on_one_cpu()?;
        let mut stopwatch = Self { helper: helper(cpu)?, started: Duration::ZERO };
        stopwatch.started = stopwatch.now()?;
        Ok(stopwatch)
    }

    /// The CPU time since the start.
    pub(super) fn elapsed(&self) -> anyhow::Result<Duration> {
        Ok(self.now()?.saturating_sub(self.started))
    }

    fn now(&self) -> anyhow::Result<Duration> {
        let own = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).context("ask for CPU time")?;
        // Nanoseconds of running, nanoseconds of waiting, time slices
        // (Documentation/scheduler/sched-stats).
        let text = fs::read_to_string(&self.helper)
            .with_context(|| format!("read {}", self.helper.display()))?;
        let field = text.split_whitespace().next().and_then(|field| field.parse().ok());
        let helper = field.with_context(|| format!("{} says {text:?}", self.helper.display()))?;
        Ok(Duration::from(own) + Duration::from_nanos(helper))
    }
}

/// Binds this thread, and threads that it starts, to the last of its allowed CPUs; returns that CPU.
pub(super) fn stay_on_one_cpu() -> anyhow::Result<usize> {
    let this = Pid::from_raw(0);
    let allowed = sched_getaffinity(this).context("ask for the CPUs")?;
    let last = (0..CpuSet::count()).rev().find(|cpu| allowed.is_set(*cpu).unwrap_or(false));
    let last = last.context("there is no CPU to run on")?;
    let mut one = CpuSet::new();
    one.set(last).context("choose a CPU")?;
    sched_setaffinity(this, &one).context("stay on one CPU")?;
    Ok(last)
}

fn helper(cpu: usize) -> anyhow::Result<PathBuf> {
    let name = format!("ksoftirqd/{cpu}");
    let processes = fs::read_dir("/proc").context("read /proc")?.flatten();
    let is_it = |process: &PathBuf| {
        fs::read_to_string(process.join("comm")).is_ok_and(|comm| comm.trim() == name)
    };
    let process = processes.map(|process| process.path()).find(is_it);
    Ok(process.with_context(|| format!("there is no {name}"))?.join("schedstat"))
}

#[cfg(test)]
mod tests {
    use std::thread;
    use std::time::Instant;

    use super::*;

    #[test]
    fn sleep_is_no_work() {
        thread::spawn(|| {
            let stopwatch = Stopwatch::start().unwrap();
            // Long, because the kernel's thread of this CPU may be busy with other work.
            thread::sleep(Duration::from_secs(1));
            let asleep = stopwatch.elapsed().unwrap();
            assert!(asleep < Duration::from_millis(750), "{asleep:?}");
            let started = Instant::now();
            while stopwatch.elapsed().unwrap() < asleep + Duration::from_millis(20) {
                assert!(started.elapsed() < Duration::from_mins(1), "work is not counted");
            }
        })
        .join()
        .unwrap();
    }
}

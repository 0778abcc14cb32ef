//! What the kernel says about this process, with the names that all Prometheus clients use.

use std::fs;

use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit};
use nix::unistd::{SysconfVar, sysconf};

/// Facts about this process; `None` for one that cannot be read.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    /// CPU time, in seconds.
    pub cpu_seconds: Option<f64>,
    /// Resident memory, in bytes.
    pub resident_bytes: Option<f64>,
    /// Virtual memory, in bytes.
    pub virtual_bytes: Option<f64>,
    /// Open file descriptors.
    pub open_files: Option<f64>,
    /// The most of them.
    pub most_files: Option<f64>,
    /// When it was started, in seconds since 1970.
    pub started: Option<f64>,
}

impl Process {
    /// Reads them.
    pub fn read() -> Self {
        let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
        // The name of the program may contain anything, but nothing behind it has a parenthesis.
        let stat: Vec<&str> =
            stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        // By the numbers in proc_pid_stat(5), which begin with 1; the first two are left out here.
        let field = |number: usize| stat.get(number - 3)?.parse::<f64>().ok();
        let of_system = |variable| sysconf(variable).ok().flatten();
        let ticks = of_system(SysconfVar::CLK_TCK).and_then(exact);
        let page = of_system(SysconfVar::PAGE_SIZE).and_then(exact);
        let cpu = || Some((field(14)? + field(15)?) / ticks?);
        let limit = getrlimit(Resource::RLIMIT_NOFILE).ok();
        Self {
            cpu_seconds: cpu(),
            resident_bytes: field(24).zip(page).map(|(pages, page)| pages * page),
            virtual_bytes: field(23),
            open_files: fs::read_dir("/proc/self/fd").ok().and_then(|all| exact(all.count())),
            most_files: limit.and_then(|(soft, _)| exact(soft)),
            started: field(22).zip(ticks).and_then(|(began, ticks)| {
                let running = up()? - began / ticks;
                Some(Timestamp::now().as_duration().as_secs_f64() - running)
            }),
        }
    }
}

/// How long the system has been up, in seconds.
fn up() -> Option<f64> {
    fs::read_to_string("/proc/uptime").ok()?.split_whitespace().next()?.parse().ok()
}

/// A number of reasonable size.
fn exact(number: impl TryInto<u32>) -> Option<f64> {
    number.try_into().ok().map(f64::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_all_of_them() {
        let process = Process::read();
        let now = Timestamp::now().as_duration().as_secs_f64();
        let Process { cpu_seconds, resident_bytes, virtual_bytes, open_files, most_files, started } =
            process;
        assert!(cpu_seconds.is_some_and(|seconds| seconds >= 0.0), "{process:?}");
        assert!(resident_bytes.is_some_and(|bytes| bytes > 100_000.0), "{process:?}");
        assert!(virtual_bytes > resident_bytes, "{process:?}");
        assert!(open_files.is_some_and(|files| files >= 3.0), "{process:?}");
        assert!(most_files.is_none_or(|most| Some(most) >= open_files), "{process:?}");
        assert!(started.is_some_and(|at| at <= now + 1.0 && at > now - 86_400.0), "{process:?}");
    }
}

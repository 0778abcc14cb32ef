//! A daemon at the far end of a cable, its bans, and the kernel's figures about its process.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use filter_user::client;
use filter_user::control::{Decided, Request, TAKE_OVER_MAX};
use nix::time::{clock_getcpuclockid, clock_gettime};
use nix::unistd::Pid;
use tempfile::TempDir;

use crate::bench::float;
use crate::netns::Cable;
use crate::ringfence::{Client, Config, Ringfence};
use crate::{interrupt, scratch};

/// The installed service unit.
pub(in crate::bench) const UNIT: &str = include_str!("../../../../packaging/ringfence.service");
/// The jail of the bans.
const JAIL: &str = "sshd";
/// The first banned address.
const FIRST: u32 = 0x0b00_0000;
/// The length of the bans: longer than the measurement.
const BAN_SECONDS: u64 = 86_400;
/// The longest time for the store to write all bans.
const STORE_LIMIT: Duration = Duration::from_mins(2);
/// The kernel's name of a mapped table in `smaps`.
const TABLE: &str = "anon_inode:bpf-map";

/// A daemon and its environment. Fields are dropped in this order.
pub(super) struct Site {
    pub(super) ringfence: Ringfence,
    pub(super) directory: TempDir,
    pub(super) cable: Cable,
}

impl Site {
    /// Starts a daemon with Wazo's settings and the environment of the service. It reads the logs of
    /// all its jails.
    pub(super) fn start(
        binary: &Path,
        adjust: impl FnOnce(&mut Config, &Path),
    ) -> anyhow::Result<Self> {
        let cable = Cable::new()?;
        let directory = scratch::directory("operations")?;
        let log = |name: &str| -> anyhow::Result<PathBuf> {
            let log = directory.path().join(name);
            fs::write(&log, "").context("make an empty log")?;
            Ok(log)
        };
        let notice = log("fail2ban")?;
        log("auth.log")?;
        log("wazo-provd.log")?;
        let mut config = Config::new(&notice);
        config.other_logs = Some(directory.path().to_owned());
        config.environment = environment(UNIT);
        adjust(&mut config, directory.path());
        let ringfence = Ringfence::start(&cable.far, binary, &config)?;
        Ok(Self { ringfence, directory, cable })
    }

    /// Bans this many addresses and waits until they are in the store.
    pub(super) fn fill(&self, bans: u32) -> anyhow::Result<()> {
        let client = self.ringfence.client();
        let all: Vec<u32> = (FIRST..FIRST + bans).collect();
        for some in all.chunks(TAKE_OVER_MAX) {
            interrupt::check()?;
            let decided = |number: &u32| Decided {
                address: IpAddr::from(Ipv4Addr::from(*number)),
                jail: JAIL.to_owned(),
                seconds: Some(BAN_SECONDS),
            };
            let bans = some.iter().map(decided).collect();
            let request = Request::TakeOver { bans, from: "the bench".to_owned(), last: false };
            client::ask(client.socket(), &request)?;
        }
        let end = Instant::now() + STORE_LIMIT;
        while status(client)?["store"]["pending"].as_u64().unwrap_or(0) > 0 {
            ensure!(Instant::now() < end, "the store has not written all bans");
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

/// The environment variables that a unit sets.
pub(in crate::bench) fn environment(unit: &str) -> Vec<(String, String)> {
    let set = unit.lines().filter_map(|line| line.strip_prefix("Environment="));
    let pairs = set.flat_map(str::split_whitespace).filter_map(|pair| pair.split_once('='));
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// An address that [`Site::fill`] bans.
pub(super) fn banned() -> Ipv4Addr {
    Ipv4Addr::from(FIRST + 7)
}

pub(super) fn status(client: &Client) -> anyhow::Result<serde_json::Value> {
    client::ask(client.socket(), &Request::Status)
}

/// CPU time of all threads of a process, including those that have ended.
pub(in crate::bench) fn cpu_time(process: u32) -> anyhow::Result<Duration> {
    let clock = clock_getcpuclockid(Pid::from_raw(process.cast_signed()));
    let time = clock.and_then(clock_gettime).context("ask for the daemon's CPU time")?;
    Ok(time.into())
}

/// Resident memory of a process, in megabytes (10^6 bytes).
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::bench) struct Resident {
    /// Tables that the XDP program also uses.
    pub(in crate::bench) tables: f64,
    /// Everything else.
    pub(in crate::bench) own: f64,
}

pub(in crate::bench) fn resident(process: u32) -> anyhow::Result<Resident> {
    let path = format!("/proc/{process}/smaps");
    let smaps = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    Ok(resident_in(&smaps))
}

/// Reads `smaps` (proc(5)): for each mapping a line with its name, followed by its figures.
fn resident_in(smaps: &str) -> Resident {
    let (mut tables, mut own, mut is_table) = (0_u64, 0_u64, false);
    for line in smaps.lines() {
        match line.strip_prefix("Rss:").and_then(kibibytes) {
            Some(kib) if is_table => tables += kib,
            Some(kib) => own += kib,
            None if !line.contains(" kB") && line.contains('-') => is_table = line.ends_with(TABLE),
            None => {}
        }
    }
    let megabytes = |kib: u64| float(kib * 1024) / 1e6;
    Resident { tables: megabytes(tables), own: megabytes(own) }
}

fn kibibytes(text: &str) -> Option<u64> {
    text.trim().strip_suffix(" kB")?.trim().parse().ok()
}

/// The additional memory of a process at the peak of `work`, in megabytes.
pub(in crate::bench) fn peak_during(
    process: u32,
    work: impl FnOnce() -> anyhow::Result<()>,
) -> anyhow::Result<f64> {
    // `5` resets the peak (proc_pid_clear_refs(5)).
    fs::write(format!("/proc/{process}/clear_refs"), "5").context("reset the peak of memory")?;
    let before = of_status(process, "VmRSS:")?;
    work()?;
    let peak = of_status(process, "VmHWM:")?;
    Ok(float(peak.saturating_sub(before) * 1024) / 1e6)
}

fn of_status(process: u32, name: &str) -> anyhow::Result<u64> {
    let path = format!("/proc/{process}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    match status.lines().find_map(|line| line.strip_prefix(name)).and_then(kibibytes) {
        Some(kib) => Ok(kib),
        None => bail!("{path} has no {name}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_from_the_rest() {
        let smaps = "\
55d0-55d1 r-xp 00000000 08:01 1                    /usr/sbin/ringfence\n\
Size:               2000 kB\nRss:                1000 kB\nPss:                1000 kB\n\
VmFlags: rd ex mr mw me\n\
7f00-7f01 rw-s 00000000 00:0e 1057                 anon_inode:bpf-map\n\
Rss:               25000 kB\n\
7f02-7f03 rw-p 00000000 00:00 0 \n\
Rss:                 500 kB\n";
        assert_eq!(resident_in(smaps), Resident { tables: 25.6, own: 1.536 });
    }

    #[test]
    fn the_environment_is_that_of_the_service() {
        let set = environment("[Service]\nType=notify\nEnvironment=A=1 B=2\nEnvironment=C=3\n");
        assert_eq!(set.len(), 3);
        let trims = |(name, _): &(String, String)| name == "MALLOC_TRIM_THRESHOLD_";
        assert!(environment(UNIT).iter().any(trims));
    }

    #[test]
    fn the_kernel_knows_this_process() {
        let own = std::process::id();
        assert!(resident(own).unwrap().own > 0.5);
        assert!(cpu_time(own).unwrap() > Duration::ZERO);
    }

    #[test]
    #[ignore = "requires root: resets the peak of memory"]
    fn a_peak_is_what_came_and_went() {
        let peak = peak_during(std::process::id(), || {
            drop(std::hint::black_box(vec![1_u8; 50_000_000]));
            Ok(())
        });
        let peak = peak.unwrap();
        assert!((45.0..90.0).contains(&peak), "{peak}");
    }
}

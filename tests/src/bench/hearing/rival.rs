//! fail2ban's part: `fail2ban-regex` over the first lines of the same log, with Wazo's or Debian's
//! filter. It reads lines, finds dates and matches; a jail and its bans would be additional work.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;

use super::Log;
use crate::child::{self, OnSignal};
use crate::fail2ban;

/// The number of lines that it gets, enough for some seconds.
const LINES: usize = 100_000;

/// The time limit.
const LIMIT: Duration = Duration::from_mins(3);

/// The directory of Debian's filters.
const SHIPPED: &str = "/etc/fail2ban/filter.d";

const ASTERISK_WAZO: &str = include_str!("../../../lab/fail2ban/asterisk-wazo.conf");
const WAZO_PROVD: &str = include_str!("../../../lab/fail2ban/wazo-provd.conf");

/// fail2ban, if it is installed.
#[derive(Debug)]
pub(super) struct Rival {
    /// Its version.
    pub(super) version: String,
}

/// The result.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Outcome {
    /// Lines that it read.
    pub lines: u64,
    /// Lines that matched.
    pub matched: u64,
    /// Seconds of CPU time, without the start.
    pub cpu: f64,
}

impl Outcome {
    /// Lines per second of CPU time.
    pub(super) fn rate(&self) -> f64 {
        crate::bench::float(self.lines) / self.cpu
    }
}

impl Rival {
    pub(super) fn find() -> anyhow::Result<Self> {
        fail2ban::check_tools()?;
        Ok(Self { version: fail2ban::version()? })
    }

    /// Makes it read the first lines of the log in `directory`.
    #[expect(clippy::unused_self, reason = "whoever has it has found fail2ban")]
    pub(super) fn measure(&self, log: Log, directory: &Path) -> anyhow::Result<Outcome> {
        let filter = filter(log, directory)?;
        let (cut, one) = (directory.join("cut"), directory.join("one"));
        let lines = head(&directory.join("written"), &cut, LINES)?;
        head(&cut, &one, 1)?;
        let (_, start) = read(&one, &filter)?;
        let ((read_lines, matched), all) = read(&cut, &filter)?;
        ensure!(read_lines == lines, "fail2ban-regex read {read_lines} of {lines} lines");
        ensure!(matched > 0, "fail2ban-regex matched none of {lines} lines of {}", log.name());
        let cpu = all.saturating_sub(start).as_secs_f64();
        ensure!(cpu > 0.0, "fail2ban-regex took no time for {lines} lines");
        Ok(Outcome { lines, matched, cpu })
    }
}

/// The filter for a log.
fn filter(log: Log, directory: &Path) -> anyhow::Result<PathBuf> {
    let own = |text: &str| {
        let path = directory.join("filter.conf");
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    };
    match log {
        Log::NoticeAttack | Log::NoticeQuiet => own(ASTERISK_WAZO),
        Log::SecurityAttack => Ok(Path::new(SHIPPED).join("asterisk.conf")),
        Log::SshdAttack | Log::SshdQuiet => Ok(Path::new(SHIPPED).join("sshd.conf")),
        Log::ProvdAttack => own(WAZO_PROVD),
    }
}

/// Writes the first `lines` lines of a file to another; returns their number.
fn head(from: &Path, to: &Path, lines: usize) -> anyhow::Result<u64> {
    let source = File::open(from).with_context(|| format!("open {}", from.display()))?;
    let target = File::create(to).with_context(|| format!("write {}", to.display()))?;
    let (mut source, mut target) = (BufReader::new(source), BufWriter::new(target));
    let mut line = Vec::new();
    for count in 0..lines {
        line.clear();
        let read = source.read_until(b'\n', &mut line);
        if read.with_context(|| format!("read {}", from.display()))? == 0 {
            return Ok(count as u64);
        }
        target.write_all(&line).with_context(|| format!("write {}", to.display()))?;
    }
    target.flush().with_context(|| format!("write {}", to.display()))?;
    Ok(lines as u64)
}

/// The lines read and matched, and the CPU time.
fn read(log: &Path, filter: &Path) -> anyhow::Result<((u64, u64), Duration)> {
    let before = children_at_work()?;
    let mut command = Command::new("fail2ban-regex");
    command
        .args(["--no-check-all", "--print-no-missed", "--print-no-ignored"])
        .arg(log)
        .arg(filter);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("TZ", "UTC");
    let finished = child::finish("fail2ban-regex", &mut command, LIMIT, OnSignal::Stop)?;
    let took = children_at_work()?.saturating_sub(before);
    let counts = counts(&finished.stdout);
    Ok((counts.with_context(|| format!("fail2ban-regex said {:?}", finished.stdout))?, took))
}

/// The figures of `Lines: 100 lines, 0 ignored, 99 matched, 1 missed`.
fn counts(said: &str) -> Option<(u64, u64)> {
    let line = said.lines().find_map(|line| line.strip_prefix("Lines: "))?;
    let of = |what: &str| {
        let part = line.split(", ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    Some((of(" lines")?, of(" matched")?))
}

/// The CPU time of all children that have ended.
fn children_at_work() -> anyhow::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("ask for CPU time")?;
    let micros = [usage.user_time(), usage.system_time()]
        .map(|time| u64::try_from(time.tv_sec() * 1_000_000 + time.tv_usec()).unwrap_or(0));
    Ok(Duration::from_micros(micros.into_iter().sum()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counts_are_read() {
        let said = "Results\n=======\n\nLines: 48600 lines, 3 ignored, 48500 matched, 97 missed\n\
                    [processed in 0.69 sec]\n";
        assert_eq!(counts(said), Some((48_600, 48_500)));
        assert_eq!(counts("Lines: nothing\n"), None);
    }

    #[test]
    fn the_first_lines_are_cut_off() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (directory.path().join("from"), directory.path().join("to"));
        fs::write(&from, "one\ntwo\nthree\n").unwrap();
        assert_eq!(head(&from, &to, 2).unwrap(), 2);
        assert_eq!(fs::read_to_string(&to).unwrap(), "one\ntwo\n");
        assert_eq!(head(&from, &to, 9).unwrap(), 3);
    }
}

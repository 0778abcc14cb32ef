//! How many lines of a log the controller processes per second: everything that `ringfence run` does with
//! a line, from the file through tail, parser, controller and jails to the ban, except in the kernel.
//! Beside it `fail2ban-regex`, which reads and matches lines and has no jail.
//!
//! Each measurement is a separate process on one CPU, so that its memory is that of one log.

pub mod listener;
mod logs;
mod no_kernel;
mod report;
mod rival;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};

pub use self::listener::Listen;
pub use self::logs::Log;
use self::logs::Written;
use self::report::Measurement;
pub use self::report::Report;
use self::rival::Rival;
use crate::child::{self, OnSignal};
use crate::scratch;
use crate::screen::Screen;

/// The longest time of a measurement: 1 GiB at a tenth of the promised rate.
const LIMIT: Duration = Duration::from_mins(10);

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The size of the two NOTICE logs; the others have half of it.
    pub bytes: u64,
    /// How often each log is read.
    pub rounds: u32,
    /// Only the logs with one of these in their names; all if it is empty.
    pub only: Vec<String>,
    /// Whether fail2ban is measured too.
    pub fail2ban: bool,
}

impl Settings {
    fn takes(&self, log: Log) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| log.name().contains(part.as_str()))
    }

    fn bytes(&self, log: Log) -> u64 {
        if log.is_main() { self.bytes } else { self.bytes / 2 }
    }
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, the disk is too small, lines were lost, or the run is interrupted. A
/// missed promise is not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    scratch::sweep_directory(&std::env::temp_dir()).context("remove what an earlier run left")?;
    let rival = settings.fail2ban.then(Rival::find).transpose()?;
    let logs: Vec<Log> = Log::ALL.into_iter().filter(|log| settings.takes(*log)).collect();
    ensure!(!logs.is_empty(), "no log has {:?} in its name", settings.only);
    let mut measurements = Vec::new();
    for log in logs {
        let directory = scratch::directory("hearing")?;
        ensure_room(directory.path(), settings.bytes(log))?;
        let file = directory.path().join("written");
        let written = log.write(&file, settings.bytes(log))?;
        let mut ours = Vec::new();
        for round in 1..=settings.rounds {
            let heard = listen(log, &file, written)?;
            screen.say(&format!(
                "  {:<14} {round}/{}  {}",
                log.name(),
                settings.rounds,
                heard.line()
            ))?;
            ours.push(heard);
        }
        let theirs =
            rival.as_ref().map(|rival| rival.measure(log, directory.path())).transpose()?;
        measurements.push(Measurement { log, written, ours, theirs });
    }
    Ok(Report::new(rival.map(|rival| rival.version), measurements))
}

/// Makes a separate process read `file`.
fn listen(log: Log, file: &Path, written: Written) -> anyhow::Result<listener::Outcome> {
    let directory = scratch::directory("listener")?;
    let program = std::env::current_exe().context("find this program")?;
    let mut command = Command::new(program);
    command.arg("listen").arg(log.name()).arg(file).arg(directory.path());
    command.arg(written.lines.to_string());
    let said = child::finish("the listener", &mut command, LIMIT, OnSignal::Stop)?;
    let said = said.success("the listener")?.stdout;
    let heard: listener::Outcome =
        serde_json::from_str(&said).with_context(|| format!("the listener said {said:?}"))?;
    ensure!(
        heard.lines == written.lines && heard.failures == written.failures,
        "of {} lines with {} failures, {} with {} were read",
        written.lines,
        written.failures,
        heard.lines,
        heard.failures
    );
    Ok(heard)
}

/// Checks that `directory` has twice this much free space.
fn ensure_room(directory: &Path, bytes: u64) -> anyhow::Result<()> {
    let at = nix::sys::statvfs::statvfs(directory).context("ask how much of the disk is free")?;
    let free = at.blocks_available().saturating_mul(at.fragment_size());
    ensure!(
        free / 2 >= bytes,
        "{} has {} MiB free, but {} are needed: use fewer with --bytes, or another TMPDIR",
        directory.display(),
        free >> 20,
        bytes >> 19
    );
    Ok(())
}

/// Moves `file` to the path of the log in one step.
fn appear(file: &Path, log: &Path) -> anyhow::Result<()> {
    fs::hard_link(file, log).with_context(|| format!("link {}", log.display()))
}

/// The path at which the listener expects its log.
fn log_in(directory: &Path) -> PathBuf {
    directory.join("log")
}

//! The process that reads one log: the parts of the daemon over a datapath in memory, on one CPU.

use std::collections::BTreeSet;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use filter_user::ban::{InForce, Roster};
use filter_user::config::Config;
use filter_user::controller::{Controller, Source};
use filter_user::escalation::Bounds;
use filter_user::source::lane::Lane;
use filter_user::source::log_file::{self, LogFile};
use filter_user::source::{Heard, Outlet, SourceState};
use filter_user::store::{self, Names, Started};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

use super::no_kernel::NoKernel;
use super::{Log, appear, log_in};
use crate::bench::process::{at_work, resident_kib};
use crate::bench::stopwatch::stay_on_one_cpu;

/// The number of batches that may wait for the controller, as in the daemon.
const WAITING: usize = 64;

/// How often the memory of the process is measured.
const LOOK: Duration = Duration::from_millis(50);

/// How long it waits for the next line.
const PATIENCE: Duration = Duration::from_secs(30);

/// The options of the process.
#[derive(Clone, Debug, clap::Args)]
pub struct Listen {
    /// The kind of log
    log: Log,
    /// The file with its lines
    file: PathBuf,
    /// A directory for this process
    directory: PathBuf,
    /// The number of lines
    lines: u64,
}

/// The result.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcome {
    /// Lines that were read.
    pub lines: u64,
    /// Failures among them.
    pub failures: u64,
    /// Addresses that were banned at the end.
    pub banned: u64,
    /// Seconds of real time.
    pub wall: f64,
    /// Seconds of CPU time, of all threads.
    pub cpu: f64,
    /// The peak memory of the process in the first half of the lines, in KiB.
    pub first_half_kib: u64,
    /// The same in the second half.
    pub second_half_kib: u64,
}

impl Outcome {
    /// Lines per second of CPU time.
    pub fn rate(&self) -> f64 {
        crate::bench::float(self.lines) / self.cpu
    }

    /// How much more memory the process had in the second half than in the first, in KiB.
    pub fn grown_kib(&self) -> u64 {
        self.second_half_kib.saturating_sub(self.first_half_kib)
    }

    /// The line that reports the result.
    pub(super) fn line(&self) -> String {
        format!(
            "{:.0} thousand lines a second at work, {:.0} on the clock; {} MiB, {} KiB more in the end",
            self.rate() / 1e3,
            crate::bench::float(self.lines) / self.wall / 1e3,
            self.second_half_kib >> 10,
            self.grown_kib()
        )
    }
}

/// Reads until all lines are processed.
///
/// # Errors
///
/// If a part cannot be started, or lines do not arrive.
pub fn listen(order: &Listen) -> anyhow::Result<Outcome> {
    // Before there is any other thread.
    stay_on_one_cpu()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("start the runtime")?;
    let state = order.directory.join("state");
    fs::create_dir(&state).with_context(|| format!("make {}", state.display()))?;
    let config = Config::default();
    let roster = Arc::new(Roster::new(config.jails.keys().copied()));
    let settings = store::Settings {
        memory: state.clone(),
        directory: state,
        names: Names { ports: config.ports.clone(), jails: Arc::clone(&roster) },
        offenders: Bounds::from(&config),
        findtime: config.jails.values().map(|jail| jail.findtime).max().unwrap_or_default(),
        clock: filter_user::clock::of_boot,
    };
    let Started { store, kept, thread, news: _news } =
        store::start(settings).context("start the store")?;
    let bans = (store.clone(), kept, &InForce::default());
    let mut controller = Controller::new(
        NoKernel::default(),
        &config,
        roster,
        BTreeSet::new(),
        bans,
        filter_user::clock::read(),
    )?;
    let heard = runtime.block_on(observe(order, &config, &mut controller));
    store.end();
    ensure!(thread.join().is_ok(), "the store's thread has failed");
    heard
}

async fn observe(
    order: &Listen,
    config: &Config,
    controller: &mut Controller<NoKernel>,
) -> anyhow::Result<Outcome> {
    let log = log_in(&order.directory);
    let place = log.display().to_string();
    let source =
        controller.add_source(Source::new("log", "file", place), filter_user::clock::now());
    let (outlet, mut heard) = mpsc::channel(WAITING);
    let jail = order.log.jail();
    let max_age = config.jails.get(jail).map(|jail| jail.findtime).context("no such jail")?;
    let file = LogFile {
        path: log.clone(),
        parser: order.log.parser(),
        place: None,
        is_new: false,
        max_age,
    };
    let follower = tokio::spawn(log_file::follow(
        file,
        Lane::new(1, Duration::from_secs(1)),
        Outlet::new(source, outlet),
    ));
    let (_, first) = heard.recv().await.context("the source has ended")?;
    ensure!(matches!(first.state, SourceState::Waiting(_)), "it begins with {:?}", first.state);
    appear(&order.file, &log)?;
    let mut size = Size::default();
    let (started, worked) = (Instant::now(), at_work()?);
    let mut lines = 0;
    while lines < order.lines {
        let next = tokio::time::timeout(PATIENCE, heard.recv()).await;
        let (_, news) = next.context("no line comes")?.context("the source has ended")?;
        lines += take(controller, source, jail, news);
        size.look(lines * 2 > order.lines)?;
    }
    let (wall, cpu) = (started.elapsed(), at_work()?.saturating_sub(worked));
    follower.abort();
    let report = controller.source_mut(source).context("the source is unknown")?;
    let (lines, failures) = (report.events, report.failures);
    Ok(Outcome {
        lines,
        failures,
        banned: controller.datapath_mut().banned() as u64,
        wall: wall.as_secs_f64(),
        cpu: cpu.as_secs_f64(),
        first_half_kib: size.halves[0],
        second_half_kib: size.halves[1],
    })
}

/// Does what the daemon does with a batch from a source; returns the number of lines.
fn take(controller: &mut Controller<NoKernel>, source: usize, jail: &str, news: Heard) -> u64 {
    let now = filter_user::clock::now();
    let store = controller.store().clone();
    let _together = store.hold();
    for attempt in &news.attempts {
        controller.observe(attempt, source, jail, now);
    }
    if let Some(report) = controller.source_mut(source) {
        report.events += news.lines;
    }
    if let Some(place) = news.place {
        store.set_position("log", place.into_bytes());
    }
    news.lines
}

/// The peak memory in each half.
#[derive(Debug, Default)]
struct Size {
    looked: Option<Instant>,
    second_half: bool,
    halves: [u64; 2],
}

impl Size {
    /// Measures the memory, unless it was just measured.
    fn look(&mut self, second_half: bool) -> anyhow::Result<()> {
        let recent = self.looked.is_some_and(|looked| looked.elapsed() < LOOK);
        if recent && self.second_half == second_half {
            return Ok(());
        }
        (self.looked, self.second_half) = (Some(Instant::now()), second_half);
        let size = resident_kib()?;
        let half = &mut self.halves[usize::from(second_half)];
        *half = size.max(*half);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_is_looked_at_in_each_half() {
        let mut size = Size::default();
        size.look(false).unwrap();
        size.look(true).unwrap();
        assert!(size.halves.iter().all(|kib| *kib > 100), "{size:?}");
    }

    #[test]
    fn every_line_and_failure_is_heard() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("written");
        for log in Log::ALL {
            let own = directory.path().join(log.name());
            fs::create_dir(&own).unwrap();
            let written = log.write(&file, 200_000).unwrap();
            let order = Listen { log, file: file.clone(), directory: own, lines: written.lines };
            // The thread stays on one CPU.
            let heard = std::thread::spawn(move || listen(&order).unwrap()).join().unwrap();
            assert_eq!((heard.lines, heard.failures), (written.lines, written.failures));
            let is_quiet = log.name().ends_with("quiet");
            assert!((is_quiet || heard.banned > 0) && heard.cpu > 0.0, "{heard:?}");
        }
    }
}

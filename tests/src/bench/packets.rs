//! Measures what a packet costs with a million bans, compared with an empty program and with other
//! firewalls, and how long a ban takes.
//!
//! A case and its baseline are measured alternately, and each ratio is of neighbouring
//! measurements, so that other load on the machine affects both.

mod cases;
mod control;
mod egress;
mod floods;
mod lane;
mod ports;
mod promises;
mod protected;
mod reference;
mod report;
mod rivals;
mod rounds;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use filter_user::config::Mode;

use self::cases::{At, Case, Run, Verdict};
use self::floods::Floods;
use self::lane::Lane;
use self::protected::{Limits, Protected};
pub use self::report::Report;
use self::report::{Group, Row};
use super::float;
use super::sources::Banned;
use super::stopwatch::Stopwatch;
use crate::bpf::{Action, PlainHash, Program};
use crate::packet_builder::Frame;
use crate::screen::Screen;
use crate::{interrupt, netns};

/// How often the tables are filled. Filling them once takes seconds.
const LOADS: u32 = 3;
/// Packets of a test run between two readings of the clock.
const REPEAT: u32 = 1_000_000;

/// The settings of a measurement.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary.
    pub ringfence: Option<PathBuf>,
    /// Rounds of each case.
    pub rounds: u32,
    /// The length of each flood of a round.
    pub time: Duration,
    /// The directory where Debian's packages are kept between runs.
    pub cache: PathBuf,
    /// Measures only the cases whose names contain one of these; measures all if empty.
    pub only: Vec<String>,
}

impl Settings {
    fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.contains(only.as_str()))
    }

    /// The selected floods, and those that they are compared with.
    fn floods(&self) -> Vec<Case> {
        let all = cases::all();
        let beside: Vec<&str> = all
            .iter()
            .filter(|case| self.wants(&case.name))
            .flat_map(|case| promises::needed_by(&case.name))
            .collect();
        let generic = all.iter().any(|case| case.at == At::Generic && self.wants(&case.name));
        let needed = |case: &Case| {
            self.wants(&case.name)
                || beside.contains(&case.name.as_str())
                || generic && cases::is_beside_generic(case)
        };
        let needed: Vec<bool> = all.iter().map(needed).collect();
        all.into_iter().zip(needed).filter_map(|(case, needed)| needed.then_some(case)).collect()
    }

    /// Whether a selected case other than a flood needs full tables.
    fn wants_full(&self, banned: &Banned) -> bool {
        let runs = cases::runs(banned).into_iter().chain(cases::passed_runs()).map(|run| run.name);
        runs.chain(["load", "memory"]).any(|name| self.wants(name))
    }
}

/// A REGISTER of 300 bytes to a PBX. The sender fills in its source.
pub(super) fn register_frame() -> Frame {
    cases::register_frame()
}

/// Measures. Everything that it creates is removed when it returns.
///
/// # Errors
///
/// If a requirement is missing, the kernel refuses, the machine is too busy to measure on, or
/// the run is interrupted. A missed target is not an error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    rivals::check_tools()?;
    netns::sweep().context("remove what an earlier run left behind")?;
    let many = cases::MANY.banned();
    let mut rows = Vec::new();
    rows.extend(ringfence(settings, &many, screen)?);
    rows.extend(ports::measure(settings, screen)?);
    rows.extend(egress::measure(settings, screen)?);
    rows.extend(bans(settings, screen)?);
    let complete = settings.only.is_empty();
    Ok(Report::new(settings.rounds, settings.time.as_secs_f64(), complete, rows))
}

/// Measures everything except single bans.
fn ringfence(settings: &Settings, many: &Banned, screen: &mut Screen) -> anyhow::Result<Vec<Row>> {
    let usual = cases::USUAL.banned();
    let wanted = settings.floods();
    let mut rows = Vec::new();
    let mut loads = Vec::new();
    let mut full = None;
    if settings.wants_full(many) || wanted.iter().any(|case| case.at == At::Full) {
        screen.say("  filling the tables")?;
        let lane = Lane::new()?;
        let mut protected = Protected::attach(&lane, Mode::Native)?;
        let empty_memory = mebibytes(protected.memory()?);
        loads.push(protected.fill(many)?);
        if settings.wants("memory") {
            rows.extend(memory_rows(empty_memory, mebibytes(protected.memory()?)));
        }
        full = Some((lane, protected));
    }
    let mut floods = Floods::new(wanted, settings.time, full, many, &usual)?;
    rows.extend(floods.measure(settings.rounds, screen)?);
    if let Some((lane, mut protected)) = floods.into_full() {
        rows.extend(test_runs(settings, &protected, cases::runs(many), screen)?);
        protected = protected.restart(&lane, Limits::Wide)?;
        protected.know(cases::known_peer())?;
        rows.extend(test_runs(settings, &protected, cases::passed_runs(), screen)?);
    }
    if settings.wants("load") {
        let mut raw = vec![raw_load(many)?];
        for _load in 1..LOADS {
            interrupt::check()?;
            let lane = Lane::new()?;
            raw.push(raw_load(many)?);
            loads.push(Protected::attach(&lane, Mode::Native)?.fill(many)?);
        }
        rows.extend(load_row(&loads, &raw));
    }
    Ok(rows)
}

fn memory_rows(empty: f64, full: f64) -> impl Iterator<Item = Row> {
    let row = |name, what, figure| Row::new(Group::Table, name, what, "MiB", vec![figure]);
    let empty = row("memory-empty", "kernel memory of all maps, no bans", empty)
        .map(|row| row.must(Some(promises::MEMORY_EMPTY)));
    let what = "the same with 1,000,000 IPv4, 100,000 IPv6 bans, 100,000 networks";
    empty.into_iter().chain(row("memory-full", what, full))
}

fn test_runs(
    settings: &Settings,
    protected: &Protected,
    runs: Vec<Run>,
    screen: &mut Screen,
) -> anyhow::Result<Vec<Row>> {
    let wanted: Vec<Run> = runs.into_iter().filter(|run| settings.wants(run.name)).collect();
    let program = protected.program()?;
    let empty = Program::pass_all()?;
    let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); wanted.len()];
    for number in 1..=settings.rounds {
        for (run, rounds) in wanted.iter().zip(&mut rounds) {
            interrupt::check()?;
            let frame = run.frame.build();
            let (before, _) = timed(&empty, &frame, settings.time, REPEAT)?;
            let (took, action) = timed(&program, &frame, settings.time, REPEAT)?;
            let (after, _) = timed(&empty, &frame, settings.time, REPEAT)?;
            let wanted = match run.verdict {
                Verdict::Dropped => Action::Drop,
                Verdict::Passed => Action::Pass,
            };
            ensure!(action == wanted, "{}: {action:?} and not {wanted:?}", run.what);
            rounds.push((took, f64::midpoint(before, after)));
        }
        if !wanted.is_empty() {
            screen.say(&format!("  test runs: round {number} of {}", settings.rounds))?;
        }
    }
    let row = |(run, rounds): (&Run, &Vec<(f64, f64)>)| {
        let took = rounds.iter().map(|(took, _)| *took).collect();
        let added = rounds.iter().map(|(took, empty)| took - empty);
        let row = Row::new(Group::Run, run.name, run.what, "ns", took)?;
        Some(row.beside("empty program", rounds.iter().map(|(_, empty)| *empty), added, "ns more"))
    };
    Ok(wanted.iter().zip(&rounds).filter_map(row).collect())
}

/// Returns the nanoseconds per packet of a test run, and the last action that it returned.
fn timed(
    program: &Program,
    frame: &[u8],
    time: Duration,
    repeat: u32,
) -> anyhow::Result<(f64, Action)> {
    let work = || -> anyhow::Result<(f64, Action)> {
        let stopwatch = Stopwatch::start()?;
        let mut packets = 0;
        loop {
            let action = program.run(frame, repeat)?;
            packets += u64::from(repeat);
            let took = stopwatch.elapsed()?;
            if took >= time {
                return Ok((took.as_secs_f64() * 1e9 / float(packets), action));
            }
        }
    };
    // In a separate thread, because only this thread is pinned to one CPU.
    thread::scope(|scope| {
        scope.spawn(work).join().map_err(|_panic| anyhow!("the test run panicked"))?
    })
}

/// How long the kernel takes to store the same number of keys in one call.
fn raw_load(banned: &Banned) -> anyhow::Result<Duration> {
    let keys: Vec<u32> = banned.v4.iter().map(|address| address.to_bits().to_be()).collect();
    let values = vec![0; keys.len()];
    let hash = PlainHash::new(u32::try_from(keys.len()).context("count of the keys")?)?;
    let started = Instant::now();
    hash.insert_all(&keys, &values)?;
    Ok(started.elapsed())
}

fn load_row(loads: &[Duration], raw: &[Duration]) -> Option<Row> {
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    let ratios = loads.iter().zip(raw).map(|(load, raw)| load.as_secs_f64() / raw.as_secs_f64());
    let took = loads.iter().map(milliseconds).collect();
    let row = Row::new(Group::Table, "load", "load 1,000,000 bans of IPv4 addresses", "ms", took)?;
    let row = row.beside("raw batch update", raw.iter().map(milliseconds), ratios, "x");
    Some(row.must(Some(promises::LOAD)))
}

fn bans(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Vec<Row>> {
    if !settings.wants("ban-latency") {
        return Ok(Vec::new());
    }
    screen.say("  single bans")?;
    let binary = settings.ringfence.as_deref();
    let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
    ban_rows(binary)
}

fn ban_rows(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let times = control::measure(binary)?;
    let row =
        |case, what, times| Row::new(Group::Table, case, what, "us", times).map(Row::with_p99);
    let over_socket = row(
        "ban-latency",
        "one ban, from the control socket to the first packet dropped",
        times.over_socket,
    );
    let by_command = row(
        "ban-latency-command",
        "one ban, from the start of `ringfence ban` to the same",
        times.by_command,
    );
    Ok(over_socket.into_iter().chain(by_command).collect())
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chosen(only: &[&str]) -> Vec<String> {
        let settings = Settings {
            ringfence: None,
            rounds: 1,
            time: Duration::ZERO,
            cache: PathBuf::new(),
            only: only.iter().map(|&only| only.to_owned()).collect(),
        };
        settings.floods().into_iter().map(|case| case.name).collect()
    }

    #[test]
    fn a_case_brings_what_it_is_put_beside() {
        assert_eq!(chosen(&[]).len(), cases::all().len());
        assert_eq!(chosen(&["usual-not-sip6"]), ["usual-not-sip", "usual-not-sip6"]);
        let names = chosen(&["banned-one"]);
        assert!(names.contains(&"banned-one".to_owned()), "{names:?}");
        let names = chosen(&["generic-not-sip"]);
        assert!(names.contains(&"nft-ingress-1".to_owned()), "{names:?}");
        assert!(chosen(&["memory", "egress"]).is_empty());
    }
}

//! The cost of each source for which a jail has room: memory, by the allocator and by the kernel, and
//! time for each failure. A million sources fail within ten minutes of simulated time. Sources that fail
//! more often need more memory, so that fewer are watched and the memory stays bounded.
//!
//! Each case is a separate process.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::thread;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::ValueEnum;
use filter_user::clock::KernelTime;
use filter_user::config::Config;
use filter_user::failure::{Attempt, Class, Verdict};
use filter_user::jail::Jail;
use serde::{Deserialize, Serialize};

use super::process::{allocated, at_work, resident_kib};
use super::stopwatch::stay_on_one_cpu;
use crate::child::{self, OnSignal};
use crate::screen::{Paint, Screen};

/// The number of sources within [`TIME`].
const SOURCES: u32 = 1_000_000;

/// The jail's `findtime`.
const TIME: Duration = Duration::from_mins(10);

/// The promised bytes for each source for which there is room.
const PROMISED: f64 = 100.0;

/// The time limit of a case.
const LIMIT: Duration = Duration::from_mins(5);

const JAIL: &str = "asterisk-wazo";

/// How the sources fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Case {
    /// Once each, on one account.
    Once,
    /// Four times each, on accounts with names of 64 bytes.
    Often,
    /// Twice as many sources as the jail has room for, with four failures each.
    TooMany,
}

/// The result of one case.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub struct Outcome {
    case: Case,
    /// Sources that are watched at the end.
    pub watched: u64,
    /// The peak of allocated bytes for each source for which there is room.
    pub allocated: f64,
    /// The same by the kernel's count for the process.
    pub resident: f64,
    /// Nanoseconds of CPU time for each failure.
    pub nanoseconds: f64,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `watched`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    /// The promised bytes for each source, by both counts.
    pub promised: f64,
    /// The result of each case.
    pub outcomes: Vec<Outcome>,
}

impl Case {
    /// All of them.
    const ALL: [Self; 3] = [Self::Once, Self::Often, Self::TooMany];

    /// Its name on the command line.
    fn name(self) -> &'static str {
        match self {
            Self::Once => "once",
            Self::Often => "often",
            Self::TooMany => "too-many",
        }
    }

    fn says(self) -> &'static str {
        match self {
            Self::Once => "a failure each",
            Self::Often => "four failures each, long names",
            Self::TooMany => "two million sources, room for one",
        }
    }

    fn sources(self) -> u32 {
        if self == Self::TooMany { 2 * SOURCES } else { SOURCES }
    }

    fn failures(self) -> u32 {
        if self == Self::Once { 1 } else { 4 }
    }
}

/// Measures every case in a separate process.
///
/// # Errors
///
/// If one cannot be started or fails, or the run is interrupted. A missed promise is not an error; see
/// [`Report::targets_met`].
pub fn run(screen: &mut Screen) -> anyhow::Result<Report> {
    let program = std::env::current_exe().context("find this program")?;
    let mut outcomes = Vec::new();
    for case in Case::ALL {
        let mut command = Command::new(&program);
        command.args(["watch", case.name()]);
        let said = child::finish("the jail", &mut command, LIMIT, OnSignal::Stop)?;
        let said = said.success("the jail")?.stdout;
        let outcome: Outcome =
            serde_json::from_str(&said).with_context(|| format!("the jail said {said:?}"))?;
        screen.say(&format!("  {}: {:.0} bytes each", case.says(), outcome.allocated))?;
        outcomes.push(outcome);
    }
    Ok(Report::new(outcomes))
}

/// Gives every failure of a case to a jail with room for a million sources.
///
/// # Errors
///
/// If the jail forgets a source for which it has room.
pub fn watch(case: Case) -> anyhow::Result<Outcome> {
    stay_on_one_cpu()?;
    let (sources, failures) = (case.sources(), case.failures());
    let settings = Config::default().jails.get(JAIL).context("there is no such jail")?.clone();
    let before = (allocated(), resident_kib()?);
    let mut jail = Jail::new(JAIL, settings, usize::try_from(SOURCES)?);
    let step = TIME / (sources * failures);
    let (mut most, mut worked) = ((0, 0), Duration::ZERO);
    for failure in 0..failures {
        // In parts, so that generating attempts and measuring memory are not timed.
        for part in parts(sources) {
            let attempts: Vec<Attempt> = part.clone().map(|source| attempt(case, source)).collect();
            let started = at_work()?;
            for (source, attempt) in part.clone().zip(&attempts) {
                let now = step * (failure * sources + source);
                let now = KernelTime(0).after(now);
                ensure!(jail.observe(attempt, "log", now).is_none(), "a source was banned");
            }
            worked += at_work()?.saturating_sub(started);
            drop(attempts);
            most = (most.0.max(allocated()), most.1.max(resident_kib()?));
        }
    }
    let watched = u64::try_from(jail.watched())?;
    let all = case != Case::Once || watched == u64::from(SOURCES);
    ensure!(all, "only {watched} sources are watched");
    let each = |bytes: u64| super::float(bytes) / f64::from(SOURCES);
    Ok(Outcome {
        case,
        watched,
        allocated: each(most.0.saturating_sub(before.0)),
        resident: each(most.1.saturating_sub(before.1) * 1024),
        nanoseconds: worked.as_secs_f64() * 1e9 / f64::from(sources) / f64::from(failures),
    })
}

/// A thousand sources at a time.
fn parts(sources: u32) -> impl Iterator<Item = std::ops::Range<u32>> {
    (0..sources).step_by(1000).map(move |first| first..(first + 1000).min(sources))
}

fn attempt(case: Case, source: u32) -> Attempt {
    let address = IpAddr::V4(Ipv4Addr::from_bits(0x0b00_0000 + source));
    let account = match case {
        Case::Once => "1001".to_owned(),
        Case::Often | Case::TooMany => format!("{source:064}"),
    };
    Attempt {
        account: Some(account),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, address)
    }
}

impl Outcome {
    /// Whether both counts keep the promise.
    fn met(&self) -> bool {
        self.allocated <= PROMISED && self.resident <= PROMISED
    }

    fn row(&self, paint: Paint) -> String {
        format!(
            "  {}  {:<34} {:>9} {:>10.1} {:>10.1} {:>10.0}",
            if self.met() { paint.good("met   ") } else { paint.bad("MISSED") },
            self.case.says(),
            self.watched,
            self.allocated,
            self.resident,
            self.nanoseconds
        )
    }
}

impl Report {
    fn new(outcomes: Vec<Outcome>) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            benchmark: "watched",
            kernel: release.trim().to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            promised: PROMISED,
            outcomes,
        }
    }

    /// Whether every case keeps the promise.
    pub fn targets_met(&self) -> bool {
        self.outcomes.len() == Case::ALL.len() && self.outcomes.iter().all(Outcome::met)
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![
            String::new(),
            paint.bold(&format!(
                "Bytes for each of {SOURCES} sources for which there is room (promised: {PROMISED})"
            )),
            paint.dim(&format!(
                "          {:<34} {:>9} {:>10} {:>10} {:>10}",
                "", "watched", "allocated", "resident", "ns/failure"
            )),
        ];
        lines.extend(self.outcomes.iter().map(|outcome| outcome.row(paint)));
        lines.push(paint.dim(&format!("  Linux {}, {} processors", self.kernel, self.processors)));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(case: Case, allocated: f64, resident: f64) -> Outcome {
        Outcome { case, watched: 1_000_000, allocated, resident, nanoseconds: 300.0 }
    }

    #[test]
    fn both_counts_have_to_be_small_in_every_case() {
        let of = |allocated, resident| {
            Report::new(Case::ALL.map(|case| outcome(case, allocated, resident)).to_vec())
        };
        assert!(of(100.0, 100.0).targets_met());
        assert!(!of(100.1, 99.0).targets_met());
        assert!(!of(99.0, 100.1).targets_met());
        assert!(!Report::new(vec![outcome(Case::Once, 1.0, 1.0)]).targets_met());
        let row =
            "met     a failure each                       1000000       65.0       70.0        300";
        let text = of(65.0, 70.0).text(Paint::PLAIN);
        assert!(text.contains(row), "{text}");
    }

    #[test]
    fn every_source_is_in_one_part() {
        let all: Vec<u32> = parts(2500).flatten().collect();
        assert_eq!(all, (0..2500).collect::<Vec<u32>>());
    }

    #[test]
    fn names_are_those_of_the_command_line() {
        for case in Case::ALL {
            assert_eq!(Case::from_str(case.name(), false), Ok(case));
        }
    }
}

//! The results, and whether they keep the promises.

use std::fs;
use std::thread;

use serde::Serialize;

use super::logs::Written;
use super::{Log, listener, rival};
use crate::bench::figures::Spread;
use crate::screen::Paint;

/// The promised minimum of lines per second of CPU time.
const PROMISED: f64 = 500_000.0;

/// The aim.
const AIM: f64 = 2_000_000.0;

/// How much more memory the second half may need than the first, in KiB.
const FLAT_KIB: u64 = 1024;

/// One log, read several times.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measurement {
    pub(super) log: Log,
    pub(super) written: Written,
    pub(super) ours: Vec<listener::Outcome>,
    pub(super) theirs: Option<rival::Outcome>,
}

/// The summary of the runs with one log.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The log.
    pub log: Log,
    /// Its contents.
    pub written: Written,
    /// Lines per second of CPU time.
    pub lines_a_second: Spread,
    /// Lines per second of real time.
    pub lines_a_second_on_the_clock: Spread,
    /// fail2ban's lines per second of CPU time.
    pub fail2ban_lines_a_second: Option<f64>,
    /// The ratio of the two.
    pub ratio: Option<f64>,
    /// The peak memory, in KiB.
    pub memory_kib: u64,
    /// The largest growth from the first half of the lines to the second.
    pub grown_kib: u64,
    /// Whether all runs were as fast as promised, without growing memory.
    pub met: bool,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `hearing`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    /// fail2ban's version.
    pub fail2ban: Option<String>,
    /// The promised lines per second of CPU time.
    pub promised: f64,
    /// The lines per second that are aimed at.
    pub aim: f64,
    /// The summary of each log.
    pub summaries: Vec<Summary>,
    /// Every run.
    measurements: Vec<Measurement>,
}

impl Summary {
    fn of(measurement: &Measurement) -> Option<Self> {
        let Measurement { log, written, ours, theirs } = measurement;
        let lines_a_second = Spread::of(ours.iter().map(listener::Outcome::rate))?;
        let clock = ours.iter().map(|run| crate::bench::float(run.lines) / run.wall);
        let theirs = theirs.as_ref().map(rival::Outcome::rate);
        let grown_kib = ours.iter().map(listener::Outcome::grown_kib).max()?;
        Some(Self {
            log: *log,
            written: *written,
            lines_a_second,
            lines_a_second_on_the_clock: Spread::of(clock)?,
            fail2ban_lines_a_second: theirs,
            ratio: theirs.map(|theirs| lines_a_second.median / theirs),
            memory_kib: ours.iter().map(|run| run.first_half_kib.max(run.second_half_kib)).max()?,
            grown_kib,
            met: lines_a_second.min >= PROMISED && grown_kib <= FLAT_KIB,
        })
    }

    fn row(&self, paint: Paint) -> String {
        let thousands = |spread: Spread| {
            let of = |value: f64| value / 1e3;
            Spread { median: of(spread.median), min: of(spread.min), max: of(spread.max) }.text()
        };
        let theirs = self.fail2ban_lines_a_second;
        format!(
            "  {}  {:<15} {:>5} MiB {:>9} lines  {:<18} {:<18} {:>8} {:>6} {:>6} MiB {:>6} KiB",
            if self.met { paint.good("met   ") } else { paint.bad("MISSED") },
            self.log.name(),
            self.written.bytes >> 20,
            self.written.lines,
            thousands(self.lines_a_second),
            thousands(self.lines_a_second_on_the_clock),
            theirs.map_or("-".to_owned(), |theirs| format!("{:.0}", theirs / 1e3)),
            self.ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.0}")),
            self.memory_kib >> 10,
            self.grown_kib,
        )
    }
}

impl Report {
    pub(super) fn new(fail2ban: Option<String>, measurements: Vec<Measurement>) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            benchmark: "hearing",
            kernel: release.trim().to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            fail2ban,
            promised: PROMISED,
            aim: AIM,
            summaries: measurements.iter().filter_map(Summary::of).collect(),
            measurements,
        }
    }

    /// Whether every log was read as fast as promised, without growing memory.
    pub fn targets_met(&self) -> bool {
        !self.summaries.is_empty() && self.summaries.iter().all(|summary| summary.met)
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![
            String::new(),
            paint.bold(&format!(
                "Thousand lines a second on one CPU (promised: {:.0}, aim: {:.0})",
                PROMISED / 1e3,
                AIM / 1e3
            )),
            paint.dim(&format!(
                "          {:<15} {:>9} {:>15}  {:<18} {:<18} {:>8} {:>6} {:>10} {:>10}",
                "", "size", "", "at work", "on the clock", "fail2ban", "times", "memory", "grown"
            )),
        ];
        lines.extend(self.summaries.iter().map(|summary| summary.row(paint)));
        let runs = self.measurements.first().map_or(0, |measurement| measurement.ours.len());
        lines.push(paint.dim(&format!(
            "  median [least-most] of {runs} runs each; Linux {}, {} processors{}",
            self.kernel,
            self.processors,
            self.fail2ban
                .as_ref()
                .map(|version| format!("; fail2ban-regex {version}, one run of 100,000 lines"))
                .unwrap_or_default()
        )));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(cpu: f64, grown: u64) -> listener::Outcome {
        listener::Outcome {
            lines: 1_000_000,
            failures: 1000,
            banned: 7,
            wall: cpu * 2.0,
            cpu,
            first_half_kib: 6000,
            second_half_kib: 6000 + grown,
        }
    }

    fn report(ours: Vec<listener::Outcome>) -> Report {
        let written = Written { bytes: 150 << 20, lines: 1_000_000, failures: 1000 };
        let theirs = Some(rival::Outcome { lines: 100_000, matched: 100, cpu: 2.0 });
        let measurement = Measurement { log: Log::NoticeQuiet, written, ours, theirs };
        Report::new(Some("1.0.2".to_owned()), vec![measurement])
    }

    #[test]
    fn the_table_has_a_row_for_each_log() {
        let text = report(vec![run(0.5, 0), run(0.4, 12), run(1.0, 0)]).text(Paint::PLAIN);
        for part in [
            "met     notice-quiet      150 MiB   1000000 lines  2000 [1000-2500]   1000 [500-1250]",
            "      50     40      5 MiB     12 KiB",
            "of 3 runs each",
            "fail2ban-regex 1.0.2",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn every_run_has_to_be_fast_in_memory_that_does_not_grow() {
        assert!(report(vec![run(1.0, 0), run(1.9, 1024)]).targets_met());
        assert!(!report(vec![run(1.0, 0), run(2.1, 0)]).targets_met());
        assert!(!report(vec![run(1.0, 0), run(1.0, 1025)]).targets_met());
        assert!(!report(Vec::new()).targets_met());
    }
}

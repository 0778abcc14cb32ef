//! The results, and whether they keep the promises.

use std::fs;
use std::thread;

use serde::Serialize;

use super::{Pace, RATE, Way};
use crate::bench::figures::{Spread, percentile};
use crate::screen::Paint;

/// All bans of one kind of report at one pace, in one round.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Measurement {
    pub(super) way: Way,
    pub(super) pace: Pace,
    pub(super) round: u32,
    /// The time of each ban.
    pub(super) times: Vec<Time>,
}

/// The time from the failure to the drop, in milliseconds.
#[derive(Clone, Copy, Debug, Serialize)]
pub(in crate::bench) struct Time {
    /// Real time.
    pub(in crate::bench) clock: f64,
    /// The same without the time in which the daemon or the bench waited for a CPU that other processes
    /// used.
    pub(in crate::bench) cpu_free: f64,
}

/// The summary of the rounds of one kind at one pace.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    way: Way,
    pace: Pace,
    /// The number of bans in all rounds.
    pub bans: usize,
    /// The time that half of a round's bans did not exceed, in milliseconds of real time.
    pub clock_p50_ms: Spread,
    /// The time that 99 of 100 did not exceed, in real time.
    pub clock_p99_ms: Spread,
    /// The time that half did not exceed, without waiting for other processes.
    pub p50_ms: Spread,
    /// The time that 99 of 100 did not exceed, without waiting for other processes.
    pub p99_ms: Spread,
    /// The promised limit for the median of these, in milliseconds.
    pub promised_ms: f64,
    /// Whether the promise is kept.
    pub met: bool,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `latency`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    /// The summary of each kind and pace.
    pub summaries: Vec<Summary>,
    /// Every ban.
    measurements: Vec<Measurement>,
}

impl Way {
    fn name(self) -> &'static str {
        match self {
            Self::Log => "a line of the NOTICE log",
            Self::Ami => "an event of AMI",
        }
    }
}

impl Pace {
    fn name(self) -> String {
        match self {
            Self::Single => "one at a time".to_owned(),
            Self::Load => format!("at {RATE} failures/s"),
        }
    }

    /// The time that 99 of 100 bans must not exceed, in milliseconds.
    fn promised_ms(self) -> f64 {
        match self {
            Self::Single => 2.0,
            Self::Load => 20.0,
        }
    }
}

impl Measurement {
    /// The time that `percent` of the bans did not exceed, in milliseconds.
    fn percentile(&self, percent: usize, of: fn(&Time) -> f64) -> Option<f64> {
        let times: Vec<f64> = self.times.iter().map(of).collect();
        percentile(&times, percent)
    }

    /// The message at the end.
    pub(super) fn line(&self) -> String {
        let time = |percent, of| self.percentile(percent, of).unwrap_or_default();
        format!(
            "{:<25} {:<18} round {}: {} bans, p50 {:.2} ms, p99 {:.2} ms; with a CPU free {:.2}, {:.2}",
            self.way.name(),
            self.pace.name(),
            self.round,
            self.times.len(),
            time(50, clock),
            time(99, clock),
            time(50, cpu_free),
            time(99, cpu_free)
        )
    }
}

fn clock(time: &Time) -> f64 {
    time.clock
}

fn cpu_free(time: &Time) -> f64 {
    time.cpu_free
}

impl Summary {
    fn of(measurements: &[Measurement], way: Way, pace: Pace) -> Option<Self> {
        let rounds = || measurements.iter().filter(|m| m.way == way && m.pace == pace);
        let spread = |percent, of: fn(&Time) -> f64| {
            Spread::of(rounds().filter_map(|round| round.percentile(percent, of)))
        };
        let (p99_ms, promised_ms) = (spread(99, cpu_free)?, pace.promised_ms());
        Some(Self {
            way,
            pace,
            bans: rounds().map(|round| round.times.len()).sum(),
            clock_p50_ms: spread(50, clock)?,
            clock_p99_ms: spread(99, clock)?,
            p50_ms: spread(50, cpu_free)?,
            p99_ms,
            promised_ms,
            met: p99_ms.median < promised_ms,
        })
    }

    fn row(&self, paint: Paint) -> String {
        let spread = |Spread { median, min, max }| format!("{median:.2} [{min:.2}-{max:.2}]");
        format!(
            "  {}  {:<25} {:<18} {:>5}  {:<18} {:<18} {:<18} {:<18} {:>4}",
            if self.met { paint.good("met   ") } else { paint.bad("MISSED") },
            self.way.name(),
            self.pace.name(),
            self.bans,
            spread(self.clock_p50_ms),
            spread(self.clock_p99_ms),
            spread(self.p50_ms),
            spread(self.p99_ms),
            self.promised_ms,
        )
    }
}

impl Report {
    pub(super) fn new(measurements: Vec<Measurement>) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let ways = [Way::Log, Way::Ami].into_iter();
        let cases = ways.flat_map(|way| [Pace::Single, Pace::Load].map(|pace| (way, pace)));
        let summaries = cases.filter_map(|(way, pace)| Summary::of(&measurements, way, pace));
        Self {
            benchmark: "latency",
            kernel: release.trim().to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            summaries: summaries.collect(),
            measurements,
        }
    }

    /// Whether every promise was kept.
    pub fn targets_met(&self) -> bool {
        self.summaries.len() == 4 && self.summaries.iter().all(|summary| summary.met)
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![
            String::new(),
            paint.bold("From the failure that leads to a ban to the first dropped packet, ms"),
            paint.dim(&format!(
                "          {:<25} {:<18} {:>5}  {:<18} {:<18} {:<18} {:<18} {:>4}",
                "",
                "",
                "bans",
                "p50, clock",
                "p99, clock",
                "p50, CPU free",
                "p99, CPU free",
                "promised"
            )),
        ];
        lines.extend(self.summaries.iter().map(|summary| summary.row(paint)));
        lines.push(paint.dim(&format!(
            "  median [least-most] of the rounds; Linux {}, {} processors",
            self.kernel, self.processors
        )));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(slowest: f64) -> Vec<Measurement> {
        let cases = [Way::Log, Way::Ami]
            .into_iter()
            .flat_map(|way| [Pace::Single, Pace::Load].map(|pace| (way, pace)));
        let measurement = |(way, pace)| {
            let time = |cpu_free| Time { clock: cpu_free + 5.0, cpu_free };
            let mut times = vec![time(0.3); 98];
            times.extend([time(slowest); 2]);
            Measurement { way, pace, round: 1, times }
        };
        cases.map(measurement).collect()
    }

    #[test]
    fn the_table_has_a_row_for_each_way_and_pace() {
        let text = Report::new(measured(1.5)).text(Paint::PLAIN);
        for row in [
            "met     a line of the NOTICE log  one at a time        100  5.30 [5.30-5.30]   \
             6.50 [6.50-6.50]   0.30 [0.30-0.30]   1.50 [1.50-1.50]      2",
            "met     an event of AMI           at 1000 failures/s   100  5.30 [5.30-5.30]   \
             6.50 [6.50-6.50]   0.30 [0.30-0.30]   1.50 [1.50-1.50]     20",
        ] {
            assert!(text.contains(row), "{row:?} is not in\n{text}");
        }
    }

    #[test]
    fn one_in_fifty_that_is_late_misses_the_promise() {
        assert!(Report::new(measured(1.999)).targets_met());
        let late = Report::new(measured(2.0));
        assert!(!late.targets_met());
        assert_eq!(late.summaries.iter().filter(|summary| !summary.met).count(), 2);
        assert!(!Report::new(measured(1.0).split_off(1)).targets_met());
    }
}

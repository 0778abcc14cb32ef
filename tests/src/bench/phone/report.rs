//! The results of the phone.

use std::thread;

use serde::Serialize;

use super::world::Outcome;
use super::{Contender, RATES};
use crate::bench::figures::Spread;
use crate::screen::Paint;

/// One flood against one contender.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    pub(super) contender: Contender,
    pub(super) rate: u32,
    pub(super) run: u32,
    #[serde(flatten)]
    pub(super) outcome: Outcome,
}

/// The summary of all runs of a contender at one rate.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The contender.
    pub contender: Contender,
    /// The intended rate of forged REGISTERs per second.
    pub rate: u32,
    /// The actual rate.
    pub sent_a_second: Spread,
    /// Registrations that were due during the floods, in all runs.
    pub due: u64,
    /// Registrations that were complete by then.
    pub in_time: u64,
    /// Registrations that ended, then or later.
    pub attempts: u64,
    /// Registrations that failed.
    pub failures: u64,
    /// Retransmitted requests.
    pub retransmissions: u64,
    /// The median time to register of each run, in milliseconds.
    pub p50_ms: Option<Spread>,
    /// The time that 99 of 100 registrations did not exceed.
    pub p99_ms: Option<Spread>,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `phone`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    /// The summary of each rate and contender.
    pub summaries: Vec<Summary>,
    /// Every run.
    pub measurements: Vec<Measurement>,
}

impl Measurement {
    /// The message at the end.
    pub(super) fn line(&self) -> String {
        let phone = &self.outcome.phone;
        let time = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
        format!(
            "{:<30} {:>6}/s (sent {}/s): {} of {} registrations failed, {} sent again, \
             p50 {} ms, p99 {} ms",
            self.contender.name(),
            self.rate,
            self.outcome.sent_a_second,
            phone.failures,
            phone.attempts,
            phone.retransmissions,
            time(phone.p50_ms),
            time(phone.p99_ms)
        )
    }
}

impl Summary {
    fn of(measurements: &[Measurement], contender: Contender, rate: u32) -> Option<Self> {
        let runs: Vec<&Outcome> = measurements
            .iter()
            .filter(|run| run.contender == contender && run.rate == rate)
            .map(|run| &run.outcome)
            .collect();
        let rates = runs.iter().map(|run| crate::bench::float(run.sent_a_second));
        Some(Self {
            contender,
            rate,
            sent_a_second: Spread::of(rates)?,
            due: runs.iter().map(|run| run.due).sum(),
            in_time: runs.iter().map(|run| run.in_time).sum(),
            attempts: runs.iter().map(|run| run.phone.attempts).sum(),
            failures: runs.iter().map(|run| run.phone.failures).sum(),
            retransmissions: runs.iter().map(|run| run.phone.retransmissions).sum(),
            p50_ms: Spread::of(runs.iter().filter_map(|run| run.phone.p50_ms)),
            p99_ms: Spread::of(runs.iter().filter_map(|run| run.phone.p99_ms)),
        })
    }

    fn row(&self) -> String {
        let time = |spread: Option<Spread>| spread.map_or("-".to_owned(), |spread| spread.text());
        format!(
            "  {:>6}/s  {:<30} {:<26} {:>4} of {:<5} {:>6} {:>6}  {:<22} {}",
            self.rate,
            self.contender.name(),
            self.sent_a_second.text(),
            self.in_time,
            self.due,
            self.failures,
            self.retransmissions,
            time(self.p50_ms),
            time(self.p99_ms)
        )
    }
}

impl Report {
    pub(super) fn new(measurements: Vec<Measurement>) -> Self {
        let contenders = [
            Contender::None,
            Contender::NftSource,
            Contender::NftTotal,
            Contender::Ringfence,
            Contender::RingfenceNew,
        ];
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            benchmark: "phone",
            kernel: kernel.trim().to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            summaries: RATES
                .iter()
                .flat_map(|rate| contenders.map(|contender| (contender, *rate)))
                .filter_map(|(contender, rate)| Summary::of(&measurements, contender, rate))
                .collect(),
            measurements,
        }
    }

    /// Whether ringfence kept the phone undisturbed: no registration failed, and no request was
    /// retransmitted.
    pub fn targets_met(&self) -> bool {
        let mut ours =
            self.summaries.iter().filter(|summary| summary.contender == Contender::Ringfence);
        ours.clone().count() == RATES.len()
            && ours.all(|ours| {
                // One may be in progress when the flood ends, and one when it begins.
                let runs =
                    self.measurements.iter().map(|run| u64::from(run.run)).max().unwrap_or(0);
                ours.in_time + 2 * runs >= ours.due && ours.failures + ours.retransmissions == 0
            })
    }

    /// The table.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![
            String::new(),
            paint.bold("A registered phone in a flood of REGISTERs from random forged sources"),
            paint.dim(&format!(
                "  {:>8}  {:<30} {:<26} {:<13} {:>6} {:>6}  {:<22} {}",
                "flood", "", "sent a second", "in time", "failed", "again", "p50, ms", "p99, ms"
            )),
        ];
        lines.extend(self.summaries.iter().map(Summary::row));
        lines.push(paint.dim(&format!(
            "  median [least-most] of {} runs each; Linux {}, {} processors",
            self.measurements.iter().map(|run| run.run).max().unwrap_or(0),
            self.kernel,
            self.processors
        )));
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phone::PhoneReport;

    fn measurement(contender: Contender, rate: u32, failures: u64) -> Measurement {
        let phone =
            PhoneReport { attempts: 20, failures, p50_ms: Some(2.5), ..PhoneReport::default() };
        let before = PhoneReport::default();
        let outcome = Outcome {
            sent_a_second: u64::from(rate),
            seconds: 5.0,
            due: 20,
            in_time: 20 - failures,
            phone,
            before: Some(before),
        };
        Measurement { contender, rate, run: 1, outcome }
    }

    #[test]
    fn a_phone_that_notices_misses_the_target() {
        let runs = |failures| {
            let runs = RATES.map(|rate| measurement(Contender::Ringfence, rate, failures));
            Report::new(runs.to_vec())
        };
        assert!(runs(0).targets_met());
        assert!(!runs(1).targets_met());
        assert!(!Report::new(Vec::new()).targets_met());
        let text = runs(1).text(Paint::PLAIN);
        assert!(text.contains("19 of 20") && text.contains("500000/s  ringfence"), "{text}");
    }
}

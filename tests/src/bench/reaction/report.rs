//! The results and their summaries, and whether they keep the promises.

use std::fs;
use std::thread;

use serde::{Serialize, Serializer};

use super::{Contender, MAXRETRY, MAXRETRY_SHIPPED, Over, PACES, Pace, Settings};
use crate::bench::figures::Spread;
use crate::phone::PhoneReport;
use crate::screen::Paint;

/// One guesser against one contender.
#[derive(Clone, Debug, Serialize)]
pub struct Measurement {
    /// The program that banned it.
    pub contender: Contender,
    /// The contender's mechanism: fail2ban's backend, or the mode of the XDP program.
    pub means: Option<String>,
    /// How the guesses were sent.
    pub over: Over,
    /// The intended guesses per second.
    pub rate: u32,
    /// The number of the run, from 1.
    pub run: u32,
    /// Guesses that were begun.
    pub begun: u64,
    /// The time from the first packet to the last.
    #[serde(serialize_with = "hundredths")]
    pub seconds: f64,
    /// Guesses that Asterisk answered.
    pub answered: u64,
    /// Answered guesses beyond the failures that lead to a ban.
    pub after_limit: u64,
    /// Whether the contender banned it.
    pub banned: bool,
    /// The time from its first packet to the last answer, if it was banned.
    pub time_to_ban_ms: Option<u64>,
    /// The results of the phone in the same run.
    pub phone: PhoneReport,
}

/// The summary of all runs of a contender at one rate.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// The contender.
    pub contender: Contender,
    /// See [`Measurement::means`].
    pub means: Option<String>,
    /// How the guesses were sent.
    pub over: Over,
    /// Guesses per second.
    pub rate: u32,
    /// The number of runs.
    pub runs: usize,
    /// The number of runs in which the guesser was banned.
    pub banned: usize,
    /// Whether nine of ten planned guesses were answered in every run, so that nobody stopped the guesser.
    pub all: bool,
    /// Guesses that Asterisk answered.
    pub answered: Spread,
    /// Answered guesses beyond the failures that lead to a ban.
    pub after_limit: Spread,
    /// The time from the first packet to the last answer.
    pub time_to_ban_ms: Option<Spread>,
    /// Registrations of the phone, in all runs.
    pub phone_attempts: u64,
    /// Registrations that failed.
    pub phone_failures: u64,
}

/// Ringfence's medians as fractions of fail2ban's.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// How the guesses were sent.
    pub over: Over,
    /// Guesses per second.
    pub rate: u32,
    /// The answered guesses.
    #[serde(serialize_with = "hundredths_of_some")]
    pub answered: Option<f64>,
    /// The answered guesses beyond the failures that lead to a ban.
    #[serde(serialize_with = "hundredths_of_some")]
    pub after_limit: Option<f64>,
    /// The time to the ban.
    #[serde(serialize_with = "hundredths_of_some")]
    pub time_to_ban: Option<f64>,
}

/// A promise.
#[derive(Clone, Debug, Serialize)]
pub struct Target {
    /// How the guesses were sent.
    pub over: Over,
    /// Guesses per second.
    pub rate: u32,
    /// The most answered guesses that are allowed in a run.
    pub answered_max: u64,
    /// The most answered guesses in any run.
    pub answered: u64,
    /// Whether the promise is kept, and the guesser was banned in every run.
    pub met: bool,
}

/// The contenders' versions.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Versions {
    /// The version of fail2ban.
    pub fail2ban: Option<String>,
    /// The version of Ringfence.
    pub ringfence: Option<String>,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `reaction`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    /// The failures that lead to a ban.
    pub maxretry: u64,
    /// The contenders' versions.
    pub versions: Versions,
    /// The summary of each contender and rate.
    pub summaries: Vec<Summary>,
    /// Ringfence compared with fail2ban, for each rate.
    pub ratios: Vec<Ratio>,
    /// The promises, for each rate.
    pub targets: Vec<Target>,
    /// Every run.
    pub measurements: Vec<Measurement>,
}

impl Measurement {
    /// The message at the end.
    pub(super) fn line(&self, runs: u32) -> String {
        let time = match self.time_to_ban_ms {
            Some(ms) => format!("banned after {ms} ms"),
            None => "not banned".to_owned(),
        };
        format!(
            "{} {:>4}/s  run {}/{runs}  {:<16} {:>4} of {} guesses answered, {time}; phone {} of {} \
             registrations failed",
            self.over.name(),
            self.rate,
            self.run,
            self.contender.name(),
            self.answered,
            self.begun,
            self.phone.failures,
            self.phone.attempts,
        )
    }
}

impl Contender {
    fn name(self) -> &'static str {
        match self {
            Self::None => "no defence",
            Self::Fail2ban => "fail2ban, Wazo",
            Self::Fail2banShipped => "fail2ban",
            Self::Ringfence => "Ringfence",
        }
    }
}

impl Summary {
    /// The summary of the measurements of `contender` at `pace`; `None` if there are none.
    fn of(measurements: &[Measurement], contender: Contender, pace: &Pace) -> Option<Self> {
        let runs: Vec<_> = measurements
            .iter()
            .filter(|run| run.contender == contender && pace.is(run.over, run.rate))
            .collect();
        Some(Self {
            contender,
            means: runs.first()?.means.clone(),
            over: pace.over,
            rate: pace.rate,
            runs: runs.len(),
            banned: runs.iter().filter(|run| run.banned).count(),
            all: runs.iter().all(|run| run.answered * 10 >= pace.planned() * 9),
            answered: Spread::of(runs.iter().map(|run| float(run.answered)))?,
            after_limit: Spread::of(runs.iter().map(|run| float(run.after_limit)))?,
            time_to_ban_ms: Spread::of(runs.iter().filter_map(|run| run.time_to_ban_ms).map(float)),
            phone_attempts: runs.iter().map(|run| run.phone.attempts).sum(),
            phone_failures: runs.iter().map(|run| run.phone.failures).sum(),
        })
    }
}

impl Ratio {
    fn of(summaries: &[Summary], pace: &Pace) -> Option<Self> {
        let find = |contender| {
            summaries.iter().find(|summary| {
                summary.contender == contender && pace.is(summary.over, summary.rate)
            })
        };
        let (ours, theirs) = (find(Contender::Ringfence)?, find(Contender::Fail2ban)?);
        let ratio = |of: fn(&Summary) -> Option<Spread>| {
            let (ours, theirs) = (of(ours)?.median, of(theirs)?.median);
            (theirs > 0.0).then_some(ours / theirs)
        };
        Some(Self {
            over: pace.over,
            rate: pace.rate,
            answered: ratio(|summary| Some(summary.answered)),
            after_limit: ratio(|summary| Some(summary.after_limit)),
            time_to_ban: ratio(|summary| summary.time_to_ban_ms),
        })
    }
}

impl Target {
    fn of(measurements: &[Measurement], pace: &Pace) -> Option<Self> {
        let ours = || {
            measurements
                .iter()
                .filter(|run| run.contender == Contender::Ringfence && pace.is(run.over, run.rate))
        };
        let answered = ours().map(|run| run.answered).max()?;
        let met = answered <= pace.answered_max && ours().all(|run| run.banned);
        let Pace { over, rate, answered_max, .. } = *pace;
        Some(Self { over, rate, answered_max, answered, met })
    }

    fn line(&self, paint: Paint) -> String {
        let Self { over, rate, answered_max, answered, met } = self;
        let mark = if *met { paint.good("met   ") } else { paint.bad("MISSED") };
        format!(
            "  {mark}  {} {rate:>4}/s: banned, and at most {answered_max} answered; worst {answered}",
            over.name()
        )
    }
}

impl Report {
    pub(super) fn new(
        settings: &Settings,
        versions: Versions,
        measurements: Vec<Measurement>,
    ) -> Self {
        let summaries: Vec<_> = PACES
            .iter()
            .flat_map(|pace| settings.contenders.iter().map(move |contender| (pace, *contender)))
            .filter_map(|(pace, contender)| Summary::of(&measurements, contender, pace))
            .collect();
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            benchmark: "reaction",
            kernel: release.trim().to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            maxretry: MAXRETRY,
            versions,
            ratios: PACES.iter().filter_map(|pace| Ratio::of(&summaries, pace)).collect(),
            targets: PACES.iter().filter_map(|pace| Target::of(&measurements, pace)).collect(),
            summaries,
            measurements,
        }
    }

    /// Whether ringfence was measured and kept its promises.
    pub fn targets_met(&self) -> bool {
        !self.targets.is_empty() && self.targets.iter().all(|target| target.met)
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![
            String::new(),
            paint.bold(&format!(
                "Guesses that Asterisk answered until the guesser was banned (after {} failures; fail2ban's own \
                 jail after {MAXRETRY_SHIPPED})",
                self.maxretry
            )),
            paint.dim(&format!(
                "  {:<32} {:>10}  {:<16} {:<16} {:<20} {:<8} {}",
                "", "rate", "answered", "after the limit", "time to ban, ms", "banned", "phone"
            )),
        ];
        lines.extend(self.summaries.iter().map(|summary| self.row(summary)));
        lines.push(paint.dim(&format!(
            "  median [least-most] of {} runs each; Linux {}, {} processors",
            self.summaries.first().map_or(0, |summary| summary.runs),
            self.kernel,
            self.processors
        )));
        if !self.ratios.is_empty() {
            lines.extend([
                String::new(),
                paint.bold("Ringfence : fail2ban with Wazo's jail, medians"),
            ]);
            lines.extend(self.ratios.iter().map(Ratio::line));
        }
        if !self.targets.is_empty() {
            lines.extend([String::new(), paint.bold("Promises, for every run")]);
            lines.extend(self.targets.iter().map(|target| target.line(paint)));
        }
        lines.join("\n")
    }

    /// The answered guesses as a table of the documentation.
    pub fn page(&self) -> String {
        let mut contenders: Vec<Contender> = Vec::new();
        for summary in &self.summaries {
            if !contenders.contains(&summary.contender) {
                contenders.push(summary.contender);
            }
        }
        let cell = |of: Option<&Summary>| {
            let Some(of) = of else { return "-".to_owned() };
            let until = match of.time_to_ban_ms {
                _ if of.all => "all".to_owned(),
                Some(time) if of.banned == of.runs => format!("{:.2} s", time.median / 1000.0),
                Some(_) | None => format!("banned {} of {} times", of.banned, of.runs),
            };
            format!("{}; {until}", of.after_limit.text())
        };
        let row = |pace: &Pace| {
            let of = |contender: &Contender| {
                let is = |of: &&Summary| of.contender == *contender && pace.is(of.over, of.rate);
                cell(self.summaries.iter().find(is))
            };
            let cells: Vec<_> = contenders.iter().map(of).collect();
            format!(
                "| {} a second over {} | {} |\n",
                pace.rate,
                pace.over.name(),
                cells.join(" | ")
            )
        };
        let measured = |pace: &&Pace| self.summaries.iter().any(|of| pace.is(of.over, of.rate));
        let names: Vec<_> = contenders.iter().map(|of| of.name()).collect();
        format!(
            "| guesses | {} |\n|---|{}\n{}",
            names.join(" | "),
            "---|".repeat(names.len()),
            PACES.iter().filter(measured).map(row).collect::<String>()
        )
    }

    fn row(&self, summary: &Summary) -> String {
        let version = match summary.contender {
            Contender::None => None,
            Contender::Fail2ban | Contender::Fail2banShipped => self.versions.fail2ban.as_deref(),
            Contender::Ringfence => self.versions.ringfence.as_deref(),
        };
        let mut name = summary.contender.name().to_owned();
        if let (Some(version), Some(means)) = (version, &summary.means) {
            name = format!("{name} {version} ({means})");
        }
        format!(
            "  {name:<32} {} {:>4}/s  {:<16} {:<16} {:<20} {:<8} {} of {} failed",
            summary.over.name(),
            summary.rate,
            summary.answered.text(),
            summary.after_limit.text(),
            summary.time_to_ban_ms.map_or("-".to_owned(), |spread| spread.text()),
            format!("{} of {}", summary.banned, summary.runs),
            summary.phone_failures,
            summary.phone_attempts,
        )
    }
}

impl Ratio {
    fn line(&self) -> String {
        let text = |ratio: Option<f64>| ratio.map_or("-".to_owned(), |ratio| format!("{ratio:.2}"));
        format!(
            "  {} {:>4}/s: answered {}, after the limit {}, time to ban {}",
            self.over.name(),
            self.rate,
            text(self.answered),
            text(self.after_limit),
            text(self.time_to_ban)
        )
    }
}

/// A count as a figure; none here comes close to 2^52.
#[expect(clippy::cast_precision_loss, reason = "counts and milliseconds of seconds")]
fn float(count: u64) -> f64 {
    count as f64
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "what serde calls it with")]
fn hundredths<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((value * 100.0).round() / 100.0)
}

#[expect(clippy::ref_option, reason = "what serde calls it with")]
fn hundredths_of_some<S: Serializer>(
    value: &Option<f64>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => hundredths(value, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measurement(contender: Contender, rate: u32, run: u32, answered: u64) -> Measurement {
        measured_over(Over::Udp, contender, rate, run, answered)
    }

    fn measured_over(
        over: Over,
        contender: Contender,
        rate: u32,
        run: u32,
        answered: u64,
    ) -> Measurement {
        Measurement {
            contender,
            means: Some("means".to_owned()),
            over,
            rate,
            run,
            begun: 250,
            seconds: 5.0,
            answered,
            after_limit: answered.saturating_sub(MAXRETRY),
            banned: true,
            time_to_ban_ms: Some(answered * 20),
            phone: PhoneReport { attempts: 10, ..PhoneReport::default() },
        }
    }

    fn report(measurements: Vec<Measurement>) -> Report {
        let settings = Settings {
            contenders: vec![Contender::Fail2ban, Contender::Ringfence],
            over: vec![Over::Udp, Over::Tcp],
            ringfence: None,
            cache: "/nowhere".into(),
            runs: 3,
        };
        let versions =
            Versions { fail2ban: Some("1.0.2".to_owned()), ringfence: Some("0.1.0".to_owned()) };
        Report::new(&settings, versions, measurements)
    }

    fn measured() -> Vec<Measurement> {
        let rows = [(Contender::Fail2ban, [45, 44, 60]), (Contender::Ringfence, [16, 17, 18])];
        let runs = |(contender, answered): (Contender, [u64; 3])| {
            (1..).zip(answered).flat_map(move |(run, answered)| {
                PACES.map(|pace| measured_over(pace.over, contender, pace.rate, run, answered))
            })
        };
        rows.into_iter().flat_map(runs).collect()
    }

    #[test]
    fn the_table_has_a_row_for_each_contender_and_rate() {
        let text = report(measured()).text(Paint::PLAIN);
        for row in [
            "fail2ban, Wazo 1.0.2 (means)     UDP   50/s  45 [44-60]       30 [29-45]       900 [880-1200]",
            "Ringfence 0.1.0 (means)          TCP  500/s  17 [16-18]       2 [1-3]          340 [320-360]",
            "3 of 3   0 of 30 failed",
            "median [least-most] of 3 runs each",
            "UDP   50/s: answered 0.38, after the limit 0.07, time to ban 0.38",
            "met     UDP   50/s: banned, and at most 18 answered; worst 18",
        ] {
            assert!(text.contains(row), "{row:?} is not in\n{text}");
        }
    }

    #[test]
    fn every_run_has_to_reach_the_target() {
        assert!(report(measured()).targets_met());
        let mut runs = measured();
        runs.push(measurement(Contender::Ringfence, 50, 4, 19));
        let missed = report(runs);
        assert!(!missed.targets_met());
        assert!(
            missed
                .page()
                .contains("| 5000 a second over TCP | 30 [29-45]; 0.90 s | 2 [1-3]; 0.34 s |\n")
        );
        assert!(missed.text(Paint::PLAIN).contains("MISSED  UDP   50/s"));
        let unstopped = report(vec![measurement(Contender::Fail2ban, 50, 1, 250)]).page();
        assert!(
            unstopped.contains("| 50 a second over UDP | 235 [235-235]; all |\n"),
            "{unstopped}"
        );
        // Few answers are worth nothing without a ban.
        let mut runs = measured();
        for run in &mut runs {
            run.banned = false;
        }
        assert!(!report(runs).targets_met());
    }

    #[test]
    fn alone_fail2ban_meets_no_target() {
        let mut runs = measured();
        runs.retain(|run| run.contender == Contender::Fail2ban);
        let report = report(runs);
        assert!(!report.targets_met());
        assert!(report.ratios.is_empty() && report.targets.is_empty());
        assert_eq!(report.summaries.len(), PACES.len());
    }

    #[test]
    fn the_time_to_a_ban_is_that_of_the_runs_with_one() {
        let mut runs = measured();
        for run in runs.iter_mut().filter(|run| run.run == 1) {
            (run.banned, run.time_to_ban_ms) = (false, None);
        }
        let summary = &report(runs).summaries[0];
        assert_eq!((summary.runs, summary.banned), (3, 2));
        assert_eq!(summary.time_to_ban_ms.map(|spread| spread.min), Some(880.0));
    }

    #[test]
    fn json_has_every_run() {
        let json = serde_json::to_value(report(measured())).unwrap();
        assert_eq!(json["measurements"].as_array().unwrap().len(), 36);
        assert_eq!(json["measurements"][0]["contender"], "fail2ban");
        assert_eq!(json["measurements"][0]["time_to_ban_ms"], 900);
        assert_eq!(json["summaries"][0]["answered"]["median"], 45.0);
        assert_eq!(json["ratios"][0]["answered"], 0.38);
        assert_eq!(json["targets"][0]["met"], true);
    }
}

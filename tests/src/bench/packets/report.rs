//! The results, and whether they keep the promises.

use std::thread;

use serde::Serialize;

use crate::bench::figures::{Spread, percentile};
use crate::screen::Paint;

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Group {
    /// Programs that show the speed of the machine.
    Reference,
    /// Floods of real frames against Ringfence.
    Flood,
    /// The same floods against other firewalls.
    Rival,
    /// Floods in generic mode, compared with firewalls at the same place in the stack.
    Generic,
    /// Test runs of the program with one frame.
    Run,
    /// Test runs where ports are not open to everybody.
    Ports,
    /// Outgoing packets.
    Egress,
    /// Figures that are not about packets.
    Table,
}

impl Group {
    const ALL: [Self; 8] = [
        Self::Reference,
        Self::Flood,
        Self::Rival,
        Self::Generic,
        Self::Run,
        Self::Ports,
        Self::Egress,
        Self::Table,
    ];

    fn title(self) -> &'static str {
        match self {
            Self::Reference => "The cost of memory on this machine, live frames",
            Self::Flood => "Ringfence, live frames",
            Self::Rival => "Other firewalls, the same frames",
            Self::Generic => {
                "Ringfence in generic mode at a usual host, and nftables' ingress hook"
            }
            Self::Run => "Ringfence's program alone, one frame again and again",
            Self::Ports => "Ports that are not open to everybody, one frame again and again",
            Self::Egress => {
                "Packets that leave the host: the classifier alone, and a stream of iperf3"
            }
            Self::Table => "Bans and memory",
        }
    }
}

/// The promised bound of a ratio or figure.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Bound {
    /// The median must be at least this.
    AtLeast(f64),
    /// The median must be at most this.
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(least) => value >= least,
            Self::AtMost(most) => value <= most,
        }
    }

    fn text(self) -> String {
        match self {
            Self::AtLeast(least) => format!(">= {least}"),
            Self::AtMost(most) => format!("<= {most}"),
        }
    }
}

/// What a figure is compared with, measured alternately with it.
#[derive(Clone, Debug, Serialize)]
pub struct Baseline {
    /// Its description.
    pub name: &'static str,
    /// Its own figure.
    pub figure: Spread,
    /// The case's figure divided by this one's, in `ratio_unit`.
    pub ratio: Spread,
    /// The unit of the ratio: `%` or `x`.
    pub ratio_unit: &'static str,
}

/// One line of the table.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Its part of the table.
    pub group: Group,
    /// The name that `--only` takes.
    pub case: String,
    /// What was measured.
    pub what: String,
    /// The figure over all rounds.
    pub figure: Spread,
    /// The unit of the figure.
    pub unit: &'static str,
    /// The 99th percentile, if there are enough rounds.
    pub p99: Option<f64>,
    /// What it was compared with.
    pub baseline: Option<Baseline>,
    /// The bound of the ratio, or of the figure if there is no baseline.
    pub bound: Option<Bound>,
    /// Whether the bound is met; `None` without a bound.
    pub met: Option<bool>,
    /// A remark needed to understand the row.
    pub note: Option<String>,
    /// The figure of each round.
    pub rounds: Vec<f64>,
}

impl Row {
    /// A row from the figure of each round, or `None` without rounds.
    pub(super) fn new(
        group: Group,
        case: &str,
        what: &str,
        unit: &'static str,
        rounds: Vec<f64>,
    ) -> Option<Self> {
        Some(Self {
            group,
            case: case.to_owned(),
            what: what.to_owned(),
            figure: Spread::of(rounds.iter().copied())?,
            unit,
            p99: None,
            baseline: None,
            bound: None,
            met: None,
            note: None,
            rounds,
        })
    }

    /// Compares it with `baseline`, with the ratio of each round.
    pub(super) fn beside(
        mut self,
        name: &'static str,
        baseline: impl IntoIterator<Item = f64>,
        ratio: impl IntoIterator<Item = f64>,
        ratio_unit: &'static str,
    ) -> Self {
        if let (Some(figure), Some(ratio)) = (Spread::of(baseline), Spread::of(ratio)) {
            self.baseline = Some(Baseline { name, figure, ratio, ratio_unit });
        }
        self
    }

    /// Sets its bound.
    pub(super) fn must(mut self, bound: Option<Bound>) -> Self {
        let value = self.baseline.as_ref().map_or(self.figure, |baseline| baseline.ratio);
        self.bound = bound;
        self.met = bound.map(|bound| bound.holds(value.median));
        self
    }

    /// Adds the 99th percentile of its rounds.
    pub(super) fn with_p99(mut self) -> Self {
        self.p99 = percentile(&self.rounds, 99);
        self
    }

    /// Adds a remark.
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into());
        self
    }

    /// Marks it as not measured correctly, so that its bound is not met.
    pub(super) fn void(mut self, why: impl Into<String>) -> Self {
        self.met = self.bound.map(|_bound| false);
        self.note(why)
    }
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `packets`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The processor model as the kernel names it.
    pub processor: String,
    /// The number of processors.
    pub processors: usize,
    /// Rounds of each case.
    pub rounds: u32,
    /// The length of each flood of a round in seconds.
    pub seconds: f64,
    /// The table.
    pub rows: Vec<Row>,
    /// Whether the whole table was measured.
    pub complete: bool,
}

impl Report {
    pub(super) fn new(rounds: u32, seconds: f64, complete: bool, rows: Vec<Row>) -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let cpu = read("/proc/cpuinfo");
        let model = cpu.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
        Self {
            benchmark: "packets",
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            processor: model.map_or_else(String::new, |(_, model)| model.trim().to_owned()),
            processors: thread::available_parallelism().map_or(0, usize::from),
            rounds,
            seconds,
            rows,
            complete,
        }
    }

    /// Whether everything that was measured meets its bound.
    pub fn targets_met(&self) -> bool {
        self.rows.iter().all(|row| row.met != Some(false))
    }

    /// The table.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![
            String::new(),
            paint.dim(&format!(
                "{:<72} {:>26}  {:<34} {:<22} {}",
                "", "", "beside, in the same round", "ratio", "must reach"
            )),
        ];
        for group in Group::ALL {
            let rows: Vec<&Row> = self.rows.iter().filter(|row| row.group == group).collect();
            if !rows.is_empty() {
                lines.push(paint.bold(group.title()));
                lines.extend(rows.iter().flat_map(|row| row.lines(paint)));
            }
        }
        lines.push(paint.dim(&format!(
            "  median [least-most] of {} rounds of {} s; Linux {}, {} x {}",
            self.rounds, self.seconds, self.kernel, self.processors, self.processor
        )));
        lines.join("\n")
    }
}

impl Row {
    fn lines(&self, paint: Paint) -> Vec<String> {
        let figure = match self.p99 {
            Some(p99) => format!("{:.0}, p99 {p99:.0} {}", self.figure.median, self.unit),
            None => format!("{} {}", self.figure.text(), self.unit),
        };
        let (beside, ratio) = match &self.baseline {
            Some(baseline) => (
                format!("{} {}", baseline.name, baseline.figure.text()),
                format!("{} {}", baseline.ratio.text(), baseline.ratio_unit),
            ),
            None => (String::new(), String::new()),
        };
        let bound = self.bound.map_or_else(String::new, Bound::text);
        let verdict = match self.met {
            Some(true) => paint.good("met"),
            Some(false) => paint.bad("MISSED"),
            None => String::new(),
        };
        let row =
            format!("  {:<70} {figure:>26}  {beside:<34} {ratio:<22} {bound} {verdict}", self.what);
        let note = self.note.as_ref().map(|note| paint.dim(&format!("      {note}")));
        [Some(row.trim_end().to_owned()), note].into_iter().flatten().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(rounds: Vec<f64>, share: f64, bound: Bound) -> Row {
        Row::new(Group::Flood, "banned-one", "one banned source", "kpps", rounds)
            .unwrap()
            .beside("bare drop", [5000.0], [share], "%")
            .must(Some(bound))
    }

    #[test]
    fn a_bound_is_on_the_median_of_the_ratio() {
        assert_eq!(row(vec![1.0], 85.0, Bound::AtLeast(85.0)).met, Some(true));
        assert_eq!(row(vec![1.0], 84.9, Bound::AtLeast(85.0)).met, Some(false));
        assert_eq!(row(vec![1.0], 2.1, Bound::AtMost(2.0)).met, Some(false));
        let alone = Row::new(Group::Table, "memory", "memory", "MiB", vec![41.0]).unwrap();
        assert_eq!(alone.must(Some(Bound::AtMost(40.0))).met, Some(false));
        assert!(Row::new(Group::Table, "x", "x", "s", Vec::new()).is_none());
    }

    #[test]
    fn what_was_not_measured_is_not_met() {
        let void = row(vec![1.0], 99.0, Bound::AtLeast(45.0)).void("99 % passed");
        assert_eq!(void.met, Some(false));
        let report = Report::new(3, 0.2, true, vec![void]);
        assert!(!report.targets_met());
        let text = report.text(Paint::PLAIN);
        assert!(text.contains("MISSED") && text.contains("99 % passed"), "{text}");
    }

    #[test]
    fn the_table_has_every_figure() {
        let rows = vec![row(vec![4500.0, 4600.0, 4400.0], 90.5, Bound::AtLeast(85.0))];
        let report = Report::new(3, 0.2, true, rows);
        assert!(report.targets_met());
        let text = report.text(Paint::PLAIN);
        for part in ["4500 [4400-4600] kpps", "bare drop 5000", "90.5 [90.5-90.5] %", ">= 85 met"] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }

    #[test]
    fn the_99th_of_a_hundred() {
        let rounds = (1..=200).rev().map(f64::from).collect();
        let row = Row::new(Group::Table, "ban", "ban", "us", rounds).unwrap().with_p99();
        assert_eq!(row.p99, Some(198.0));
    }
}

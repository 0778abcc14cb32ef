//! The results, and whether they keep the promises.

use std::{fs, thread};

use serde::Serialize;

use super::Part;
use crate::bench::figures::Spread;
use crate::screen::Paint;

/// One figure.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Row {
    pub(super) part: Part,
    pub(super) name: String,
    /// The unit of the figure.
    pub(super) unit: &'static str,
    pub(super) figure: Spread,
    /// The bound for the greatest value.
    pub(super) promise: Option<f64>,
    /// A remark.
    pub(super) note: String,
}

/// The result. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// `operations`.
    pub benchmark: &'static str,
    /// The kernel's release.
    pub kernel: String,
    /// The number of processors.
    pub processors: usize,
    rows: Vec<Row>,
}

impl Row {
    /// A figure without a bound.
    pub(super) fn new(
        part: Part,
        name: impl Into<String>,
        unit: &'static str,
        figure: Spread,
    ) -> Self {
        Self { part, name: name.into(), unit, figure, promise: None, note: String::new() }
    }

    /// Sets the bound.
    pub(super) fn at_most(self, promise: f64) -> Self {
        Self { promise: Some(promise), ..self }
    }

    /// Adds a remark.
    pub(super) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    fn is_met(&self) -> bool {
        self.promise.is_none_or(|promise| self.figure.max <= promise)
    }

    /// The row as text.
    pub(super) fn line(&self, paint: Paint) -> String {
        let (word, promise) = match self.promise {
            None => ("      ".to_owned(), String::new()),
            Some(promise) => (
                if self.is_met() { paint.good("met   ") } else { paint.bad("MISSED") },
                format!(", promised {promise}"),
            ),
        };
        let note = if self.note.is_empty() { String::new() } else { format!("; {}", self.note) };
        let (name, figure, unit) = (&self.name, self.figure.text(), self.unit);
        format!("  {word}  {name:<44} {figure} {unit}{promise}{note}")
    }
}

impl Report {
    pub(super) fn new(rows: Vec<Row>) -> Self {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        Self {
            benchmark: "operations",
            kernel: release.trim().to_owned(),
            processors: thread::available_parallelism().map_or(0, usize::from),
            rows,
        }
    }

    /// Whether every figure meets its bound.
    pub fn targets_met(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(Row::is_met)
    }

    /// The missed bounds as text.
    pub fn text(&self, paint: Paint) -> String {
        let missed: Vec<&str> =
            self.rows.iter().filter(|row| !row.is_met()).map(|row| row.name.as_str()).collect();
        let verdict = if missed.is_empty() {
            "every promise was kept".to_owned()
        } else {
            format!("missed: {}", missed.join(", "))
        };
        let foot = format!("  Linux {}, {} processors; {verdict}", self.kernel, self.processors);
        paint.dim(&foot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_above_the_promise_misses_it() {
        let row = |max| {
            let figure = Spread { median: 0.0, min: 0.0, max };
            Row::new(Part::Gaps, "reload", "packets", figure).at_most(0.0).note("60 million sent")
        };
        assert!(Report::new(vec![row(0.0)]).targets_met());
        let missed = Report::new(vec![row(1.0)]);
        assert!(!missed.targets_met() && !Report::new(Vec::new()).targets_met());
        assert!(missed.text(Paint::PLAIN).contains("missed: reload"));
        let line = row(1.0).line(Paint::PLAIN);
        assert!(line.starts_with("  MISSED  reload") && line.contains("promised 0"), "{line}");
    }
}

//! Parses the output of the test harness: `test result: ok. 3 passed; ...` at the end of each executable,
//! and, if tests run one after the other, `test NAME ... ` before each test and `ok` after it.

use std::ops::Add;
use std::time::{Duration, Instant};

use anyhow::Result;

/// If more tests than this failed, the machine is not the reason.
const MOST_AGAIN: usize = 8;

const PREFIX: &str = "test result: ";

/// How many tests passed and failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Totals {
    pub(super) passed: u64,
    pub(super) failed: u64,
}

impl Totals {
    /// How many tests ran.
    pub(super) fn ran(self) -> u64 {
        self.passed + self.failed
    }
}

impl Add for Totals {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { passed: self.passed + other.passed, failed: self.failed + other.failed }
    }
}

/// Adds up the summary lines in output that arrives in pieces, and records the time of each test.
#[derive(Default)]
pub(super) struct Summary {
    line: Vec<u8>,
    begun: Option<Instant>,
    totals: Totals,
    tests: Vec<(Duration, String)>,
    failed: Vec<String>,
    /// Whether the next line may be a name in the list of failures at the end of an executable.
    lists_failures: bool,
}

impl Summary {
    /// Takes the next piece, which arrived at `now`.
    pub(super) fn feed(&mut self, bytes: &[u8], now: Instant) {
        for &byte in bytes {
            let begun = *self.begun.get_or_insert(now);
            if byte == b'\n' {
                let line = without_colour(&String::from_utf8_lossy(&self.line));
                self.totals = self.totals + parse(&line).unwrap_or_default();
                if let Some(name) = ended(&line) {
                    self.tests.push((now.duration_since(begun), name.to_owned()));
                }
                self.take_failure(&line);
                self.line.clear();
                self.begun = None;
            } else {
                self.line.push(byte);
            }
        }
    }

    /// Takes a name from the list of failures. A verdict stands alone if a test has written to the standard error.
    fn take_failure(&mut self, line: &str) {
        let name = line.trim_end().strip_prefix("    ").filter(|_| self.lists_failures);
        self.failed.extend(name.map(str::to_owned));
        self.lists_failures = name.is_some() || line.trim_end() == "failures:";
    }

    /// Takes up what another executable said.
    pub(super) fn merge(&mut self, other: Self) {
        self.totals = self.totals + other.totals;
        self.tests.extend(other.tests);
        self.failed.extend(other.failed);
    }

    /// The names of the tests that failed.
    pub(super) fn failed(&self) -> &[String] {
        &self.failed
    }

    /// The names of the tests that ended.
    pub(super) fn ended(&self) -> impl Iterator<Item = &str> {
        self.tests.iter().map(|(_, name)| &**name)
    }

    /// Counts a test as failed that did not end, or whose process failed afterwards.
    pub(super) fn fail(&mut self, test: String) {
        self.failed.push(test);
        self.totals.failed += 1;
    }

    /// Has tests that failed run once more by `passes`, with no other beside them, unless there are many. Counts those
    /// that pass then, and returns them. Many watch real programs in real time, and a busy machine can take longer
    /// than their patience.
    pub(super) fn run_again<T>(
        &mut self,
        failed: Vec<T>,
        name: impl Fn(&T) -> &str,
        passes: impl Fn(&T) -> Result<bool>,
    ) -> Result<Vec<T>> {
        let mut passed_alone = Vec::new();
        if failed.len() > MOST_AGAIN {
            return Ok(passed_alone);
        }
        for test in failed {
            if passes(&test)? {
                self.pass(name(&test));
                passed_alone.push(test);
            }
        }
        Ok(passed_alone)
    }

    /// Counts a test that failed and passed in its second run as passed.
    fn pass(&mut self, name: &str) {
        if let Some(index) = self.failed.iter().position(|failed| failed == name) {
            self.failed.swap_remove(index);
            self.totals.failed = self.totals.failed.saturating_sub(1);
            self.totals.passed += 1;
        }
    }

    /// The slowest tests with their times, at least `least`.
    pub(super) fn slowest(&self, count: usize, least: Duration) -> Vec<&(Duration, String)> {
        let mut tests: Vec<_> = self.tests.iter().filter(|(took, _)| *took >= least).collect();
        tests.sort_by(|a, b| b.cmp(a));
        tests.truncate(count);
        tests
    }

    /// The sum so far.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }
}

/// Whether a line only frames the output of a process in which every test passes.
pub(super) fn says_nothing(line: &str) -> bool {
    let line = without_colour(line);
    let line = line.trim_end();
    line.is_empty() || line.starts_with("running ") || line.starts_with("test result: ok. ")
}

fn parse(line: &str) -> Option<Totals> {
    let counts = line.trim_end().strip_prefix(PREFIX)?;
    let (_verdict, counts) = counts.split_once(". ")?;
    let count = |name: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(name)?.trim_end().parse().ok())
    };
    Some(Totals { passed: count("passed")?, failed: count("failed")? })
}

/// The name of the test that ends in this line.
fn ended(line: &str) -> Option<&str> {
    let (name, verdict) = line.strip_prefix("test ")?.split_once(" ... ")?;
    ["ok", "FAILED"].contains(&verdict.trim_end()).then_some(name)
}

/// The line without terminal escapes of the form `ESC [ ... m`.
fn without_colour(line: &str) -> String {
    let mut plain = String::new();
    for (index, part) in line.split('\x1b').enumerate() {
        let text =
            if index == 0 { part } else { part.split_once('m').map_or("", |(_, text)| text) };
        plain.push_str(text.trim_start_matches("(B"));
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;

    const OK: &str = "test result: ok. 12 passed; 0 failed; 3 ignored; 0 measured; 0 filtered out; \
        finished in 0.00s\n";
    const FAILED: &str = "test result: FAILED. 1 passed; 2 failed; 0 ignored; 0 measured; \
        0 filtered out; finished in 1.20s\n";

    fn totals(output: &str, piece: usize) -> Totals {
        let mut summary = Summary::default();
        for bytes in output.as_bytes().chunks(piece) {
            summary.feed(bytes, Instant::now());
        }
        summary.totals()
    }

    #[test]
    fn lines_add_up_however_they_are_cut() {
        let output = format!("running 12 tests\ntest a ... ok\n\n{OK}\nrunning 3 tests\n{FAILED}");
        for piece in [1, 7, 4096] {
            assert_eq!(totals(&output, piece), Totals { passed: 13, failed: 2 });
        }
    }

    #[test]
    fn colour_does_not_hide_a_result() {
        let red = FAILED.replace("FAILED", "\x1b[31mFAILED\x1b[m");
        assert_eq!(totals(&red, 4096), Totals { passed: 1, failed: 2 });
        let reset = OK.replace("ok", "\x1b[32mok\x1b(B\x1b[m");
        assert_eq!(totals(&reset, 4096), Totals { passed: 12, failed: 0 });
    }

    #[test]
    fn a_test_takes_from_its_name_to_its_verdict() {
        let mut summary = Summary::default();
        let start = Instant::now();
        for (after, text) in [
            (0, "running 3 tests\n"),
            (1, "test quick ... "),
            (2, "ok\ntest slow ... "),
            (9, "\x1b[31mFAILED\x1b[m\n"),
            (9, "test slower ... "),
            (30, "ok\n\n"),
            (99, OK),
        ] {
            summary.feed(text.as_bytes(), start + Duration::from_secs(after));
        }
        let slowest = summary.slowest(2, Duration::from_secs(2));
        let slowest = slowest.iter().map(|(took, name)| (took.as_secs(), &**name));
        assert_eq!(slowest.collect::<Vec<_>>(), [(21, "slower"), (7, "slow")]);
        assert_eq!(summary.slowest(9, Duration::from_secs(8)).len(), 1);
    }

    #[test]
    fn a_test_that_passes_in_its_second_run_has_passed() {
        let mut summary = Summary::default();
        let output = format!(
            "test a ... FAILED\ntest b ... the log\nFAILED\ntest c ... ok\n\nfailures:\n\n\
             ---- a stdout ----\n    at x\n\nfailures:\n    a\n    b\n\n{FAILED}"
        );
        summary.feed(output.as_bytes(), Instant::now());
        assert_eq!(summary.failed(), ["a", "b"]);
        let again = |summary: &mut Summary, names: &[&str]| {
            let tests = names.iter().map(|name| (*name).to_owned()).collect();
            summary.run_again(tests, |name| name, |name| Ok(name != "b")).unwrap()
        };
        assert!(again(&mut summary, &["a"; MOST_AGAIN + 1]).is_empty());
        assert_eq!(summary.failed(), ["a", "b"]);
        assert_eq!(again(&mut summary, &["a", "b"]), ["a"]);
        again(&mut summary, &["a", "c"]);
        assert_eq!(summary.failed(), ["b"]);
        assert_eq!(summary.totals(), Totals { passed: 2, failed: 1 });
    }

    #[test]
    fn other_lines_count_nothing() {
        let output = "I said: test result: ok. 9 passed; 0 failed;\ntest result: none\n";
        assert_eq!(totals(output, 4096), Totals::default());
    }
}

//! What the test harness says at the end of each executable: `test result: ok. 3 passed; ...`.

use std::ops::Add;

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

/// Adds up the summary lines in output that comes in pieces.
#[derive(Default)]
pub(super) struct Summary {
    line: Vec<u8>,
    totals: Totals,
}

impl Summary {
    /// Takes the next piece.
    pub(super) fn feed(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            if byte == b'\n' {
                let line = String::from_utf8_lossy(&self.line);
                self.totals = self.totals + parse(&line).unwrap_or_default();
                self.line.clear();
            } else {
                self.line.push(byte);
            }
        }
    }

    /// The sum so far.
    pub(super) fn totals(&self) -> Totals {
        self.totals
    }
}

fn parse(line: &str) -> Option<Totals> {
    let plain = without_colour(line);
    let counts = plain.trim_end().strip_prefix(PREFIX)?;
    let (_verdict, counts) = counts.split_once(". ")?;
    let count = |name: &str| {
        counts.split("; ").find_map(|part| part.strip_suffix(name)?.trim_end().parse().ok())
    };
    Some(Totals { passed: count("passed")?, failed: count("failed")? })
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
            summary.feed(bytes);
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
    fn other_lines_count_nothing() {
        let output = "I said: test result: ok. 9 passed; 0 failed;\ntest result: none\n";
        assert_eq!(totals(output, 4096), Totals::default());
    }
}

//! Rounds of floods, and the rows of the table that they result in.

use super::cases::{At, Case, Verdict};
use super::promises::{self, Measured};
use super::report::{Group, Row};

/// The minimum share of a case's packets that must get the expected verdict.
const JUDGED_MIN: f64 = 0.98;

/// One round of a flood. Times are in nanoseconds per frame.
#[derive(Clone, Copy, Debug)]
pub(super) struct Round {
    pub(super) case: f64,
    /// A program in the driver that only drops: the mean of measurements before and after the case.
    pub(super) drop: f64,
    /// The same in generic mode, for a case in generic mode.
    pub(super) generic: Option<f64>,
    /// An empty program that passes every frame, in the case's mode, for a case whose frames pass.
    pub(super) pass: Option<f64>,
    /// The share of the frames that got the expected verdict, from 0 to 1.
    pub(super) judged: f64,
    /// The expected verdict.
    pub(super) verdict: Verdict,
}

impl Round {
    /// Nanoseconds per frame if passing a frame cost as little as dropping it: the time of the
    /// program
    /// that only drops, plus what this program adds to an empty program that passes.
    pub(super) fn net(&self) -> f64 {
        match self.pass {
            Some(pass) => self.generic.unwrap_or(self.drop) + self.case - pass,
            None => self.case,
        }
    }
}

/// Thousands of frames per second.
pub(super) fn kilo_a_second(nanoseconds: f64) -> f64 {
    1e6 / nanoseconds
}

/// Why the rounds did not measure what they should have.
pub(super) fn fault(rounds: &[Round]) -> Option<String> {
    let worst = rounds.iter().min_by(|one, other| one.judged.total_cmp(&other.judged))?;
    let verdict = match worst.verdict {
        Verdict::Dropped => "dropped",
        Verdict::Passed => "passed",
    };
    // Without any counted frame it is not a number, which also counts as too few.
    let enough = worst.judged >= JUDGED_MIN;
    (!enough)
        .then(|| format!("void: only {:.1} % of the frames were {verdict}", worst.judged * 100.0))
}

/// The rows of a case. `measured` has all cases.
pub(super) fn rows(case: &Case, measured: &Measured<'_>) -> Vec<Row> {
    let Some(rounds) = measured.get(case.name.as_str()).copied() else { return Vec::new() };
    let group = case.at.group();
    let mut rows = of_bare_programs(group, case, rounds);
    if let Some(why) = fault(rounds) {
        rows = rows.into_iter().map(|row| row.void(why.clone())).collect();
    }
    rows.extend(promises::rows(group, &case.name, measured));
    rows
}

/// The same figures again, for the table of generic mode.
pub(super) fn beside_generic(case: &Case, measured: &Measured<'_>) -> Vec<Row> {
    let Some(rounds) = measured.get(case.name.as_str()).copied() else { return Vec::new() };
    let rows = of_bare_programs(Group::Generic, case, rounds).into_iter();
    match fault(rounds) {
        Some(why) => rows.map(|row| row.void(why.clone())).collect(),
        None => rows.collect(),
    }
}

fn of_bare_programs(group: Group, case: &Case, rounds: &[Round]) -> Vec<Row> {
    let rates = || rounds.iter().map(|round| kilo_a_second(round.case)).collect();
    let new = |what: &str| Row::new(group, &case.name, what, "kpps", rates());
    let drops = || rounds.iter().map(|round| kilo_a_second(round.drop));
    let of_drop = || rounds.iter().map(|round| round.drop / round.case * 100.0);
    let net = || rounds.iter().map(|round| round.drop / round.net() * 100.0);
    let bare = match case.at {
        At::Generic => "bare native drop",
        At::Empty | At::Usual | At::Full | At::Reference(..) | At::Rival(_) => "bare drop",
    };
    let bound = promises::of_bare_drop(&case.name);
    let mut rows = Vec::new();
    match case.verdict {
        Verdict::Dropped => rows.extend(
            new(&case.what).map(|row| row.beside(bare, drops(), of_drop(), "%").must(bound)),
        ),
        Verdict::Passed => rows.extend(new(&case.what).map(|row| {
            row.beside(bare, drops(), net(), "%").must(bound).note(
                "the ratio leaves out the stack's work with a passed frame: bare drop / (bare drop \
                 + this - empty pass), in ns; so do the promises",
            )
        })),
    }
    let generics: Vec<f64> = rounds.iter().filter_map(|round| round.generic).collect();
    if !generics.is_empty() {
        let ratios = rounds.iter().filter_map(|round| Some(round.generic? / round.net() * 100.0));
        let figures = generics.into_iter().map(kilo_a_second);
        let row = new("  the same, in the same mode");
        rows.extend(row.map(|row| row.beside("bare generic drop", figures, ratios, "%")));
    }
    if case.verdict == Verdict::Passed {
        let passes = rounds.iter().filter_map(|round| round.pass).map(kilo_a_second);
        let of_pass = rounds.iter().filter_map(|round| Some(round.pass? / round.case * 100.0));
        let row = new("  the same, the stack's work in both");
        rows.extend(row.map(|row| row.beside("empty pass", passes, of_pass, "%")));
        let row = new("  the same, the stack's work in the one and not in the other");
        rows.extend(row.map(|row| row.beside(bare, drops(), of_drop(), "%")));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::packets::cases;

    fn round(verdict: Verdict) -> Round {
        Round { case: 480.0, drop: 200.0, generic: None, pass: None, judged: 1.0, verdict }
    }

    fn ratios(name: &str, round: Round) -> Vec<(&'static str, f64)> {
        let case = cases::all().into_iter().find(|case| case.name == name).unwrap();
        let rows = rows(&case, &Measured::from([(name, [round].as_slice())]));
        let baselines = rows.into_iter().filter_map(|row| row.baseline);
        baselines.map(|baseline| (baseline.name, baseline.ratio.median.round())).collect()
    }

    #[test]
    fn what_is_dropped_is_put_beside_a_bare_drop() {
        let share = ratios("banned-one", round(Verdict::Dropped));
        assert_eq!(share, [("bare drop", 42.0)]);
    }

    #[test]
    fn the_stack_is_left_out_of_what_passes() {
        let passed = Round { pass: Some(430.0), ..round(Verdict::Passed) };
        assert!((passed.net() - 250.0).abs() < 1e-9);
        let shares = ratios("usual-not-sip", passed);
        assert_eq!(shares, [("bare drop", 80.0), ("empty pass", 90.0), ("bare drop", 42.0)]);
    }

    #[test]
    fn generic_mode_is_put_beside_both_modes() {
        let dropped = Round { generic: Some(360.0), ..round(Verdict::Dropped) };
        let shares = ratios("generic-banned-one", dropped);
        assert_eq!(shares, [("bare native drop", 42.0), ("bare generic drop", 75.0)]);
        let passed = Round { generic: Some(360.0), pass: Some(440.0), ..round(Verdict::Passed) };
        assert!((passed.net() - 400.0).abs() < 1e-9);
    }

    #[test]
    fn rounds_of_which_too_little_was_judged_are_void() {
        assert_eq!(fault(&[round(Verdict::Dropped)]), None);
        for judged in [0.979, f64::NAN] {
            let bad = Round { judged, ..round(Verdict::Passed) };
            assert!(fault(&[bad]).unwrap().ends_with("passed"), "{judged}");
        }
    }
}

//! The promised figures in one table, and how they are calculated from rounds.
//!
//! Each ratio is of figures of the same round on the same machine, so that it is valid on any machine.

use std::collections::BTreeMap;

use super::report::{Bound, Row};
use super::rounds::{Round, fault, kilo_a_second};
use super::{cases, report::Group};

/// The memory of all maps without bans, in MiB.
pub(super) const MEMORY_EMPTY: Bound = Bound::AtMost(50.0);
/// The time to store a million bans, as a multiple of a raw batch update.
pub(super) const LOAD: Bound = Bound::AtMost(2.0);

/// The rivals that drop random IPv4 sources.
const RIVALS: &[&str] = &["nft-ingress-100000", "nft-input-100000", "ipset-100000"];

/// The promises about floods.
const PROMISES: &[Promise] = &[
    share("banned-one", Beside::BareDrop, 85.0),
    share("register-one", Beside::BareDrop, 65.0),
    share("banned-random", Beside::Case(cases::REFERENCE_TABLE, "23 MiB reference"), 85.0),
    share("not-sip", Beside::Case(cases::REFERENCE_PRESENCE, "4 MiB reference"), 85.0),
    compare("banned-random", Beside::Case(cases::FLOOR_TABLE, "23 MiB floor")),
    compare("not-sip", Beside::Case(cases::FLOOR_PRESENCE, "4 MiB floor")),
    share("usual-not-sip", Beside::Case("empty-not-sip", "no bans"), 95.0),
    Promise {
        case: "register-random",
        beside: Beside::Best(RIVALS, "best rival"),
        measure: Measure::Speed,
        bound: Some(Bound::AtLeast(2.5)),
    },
    time("banned6-one", "banned-one"),
    time("banned6-random", "banned-random"),
    time("not-sip6", "not-sip"),
    time("network6-one", "network-one"),
    time("network6-random", "network-random"),
    time("usual-banned6-random", "usual-banned-random"),
    time("usual-not-sip6", "usual-not-sip"),
    time("usual-network6-random", "usual-network-random"),
];

/// A promise about a case.
#[derive(Clone, Copy, Debug)]
struct Promise {
    case: &'static str,
    beside: Beside,
    measure: Measure,
    /// None: it is shown, and nothing is promised.
    bound: Option<Bound>,
}

/// What a case is compared with.
#[derive(Clone, Copy, Debug)]
enum Beside {
    /// The program that only drops, measured in the same round.
    BareDrop,
    /// Another case, and its name in the table.
    Case(&'static str, &'static str),
    /// The fastest of these, and their name in the table.
    Best(&'static [&'static str], &'static str),
}

/// How two times are compared.
#[derive(Clone, Copy, Debug)]
enum Measure {
    /// Frames per second, in percent of the other's.
    Share,
    /// Frames per second, as a multiple of the other's.
    Speed,
    /// Time per frame, as a multiple of the other's.
    Time,
}

/// The rounds of each measured case.
pub(super) type Measured<'a> = BTreeMap<&'a str, &'a [Round]>;

const fn share(case: &'static str, beside: Beside, least: f64) -> Promise {
    Promise { case, beside, measure: Measure::Share, bound: Some(Bound::AtLeast(least)) }
}

const fn compare(case: &'static str, beside: Beside) -> Promise {
    Promise { case, beside, measure: Measure::Share, bound: None }
}

/// A promise that IPv6 takes at most 1.5 times as long as IPv4.
const fn time(case: &'static str, of: &'static str) -> Promise {
    Promise {
        case,
        beside: Beside::Case(of, "IPv4"),
        measure: Measure::Time,
        bound: Some(Bound::AtMost(1.5)),
    }
}

/// The promised minimum share of the rate of the program that only drops, if there is such a promise.
pub(super) fn of_bare_drop(case: &str) -> Option<Bound> {
    let is_it =
        |promise: &&Promise| promise.case == case && matches!(promise.beside, Beside::BareDrop);
    PROMISES.iter().find(is_it).and_then(|promise| promise.bound)
}

/// The other cases that must be measured to check the promises about this case.
pub(super) fn needed_by(case: &str) -> Vec<&'static str> {
    let promises = PROMISES.iter().filter(|promise| promise.case == case);
    promises.flat_map(|promise| promise.beside.cases()).collect()
}

/// A row for each promise of a case, except the one that compares it with the program that only
/// drops.
pub(super) fn rows(group: Group, case: &str, measured: &Measured<'_>) -> Vec<Row> {
    let promises = PROMISES.iter().filter(|promise| promise.case == case);
    promises.filter_map(|promise| promise.row(group, measured)).collect()
}

impl Beside {
    fn cases(self) -> Vec<&'static str> {
        match self {
            Self::BareDrop => Vec::new(),
            Self::Case(case, _name) => vec![case],
            Self::Best(cases, _name) => cases.to_vec(),
        }
    }
}

impl Promise {
    fn row(&self, group: Group, measured: &Measured<'_>) -> Option<Row> {
        let (others, name) = match self.beside {
            Beside::BareDrop => return None,
            Beside::Case(case, name) => (vec![*measured.get(case)?], name),
            Beside::Best(cases, name) => {
                // The fastest of only some of them might be slower than the fastest of all, which would
                // be a weaker promise.
                let rounds = cases.iter().map(|case| measured.get(case).copied());
                (rounds.collect::<Option<Vec<_>>>()?, name)
            }
        };
        let own = *measured.get(self.case)?;
        let pairs: Vec<(f64, f64)> = own
            .iter()
            .enumerate()
            .filter_map(|(number, round)| {
                let others = others.iter().map(|rounds| rounds.get(number).map(Round::net));
                let best = others.collect::<Option<Vec<f64>>>()?.into_iter().reduce(f64::min)?;
                Some((round.net(), best))
            })
            .collect();
        let ratios = pairs.iter().map(|&(own, other)| match self.measure {
            Measure::Share => other / own * 100.0,
            Measure::Speed => other / own,
            Measure::Time => own / other,
        });
        let (what, unit) = match self.measure {
            Measure::Share => ("  the same, frames a second", "%"),
            Measure::Speed => ("  the same, frames a second", "x"),
            Measure::Time => ("  the same, time for a frame", "x"),
        };
        let rates = pairs.iter().map(|&(own, _)| kilo_a_second(own)).collect();
        let beside = pairs.iter().map(|&(_, other)| kilo_a_second(other));
        let row = Row::new(group, self.case, what, "kpps", rates)?;
        let row = row.beside(name, beside, ratios, unit).must(self.bound);
        let fault = others.iter().chain([&own]).find_map(|rounds| fault(rounds));
        Some(match fault {
            Some(why) => row.void(why),
            None => row,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::bench::packets::cases::Verdict;

    /// Rounds of a case whose frames are dropped.
    fn rounds(nanoseconds: &[f64]) -> Vec<Round> {
        let round = |&case| Round {
            case,
            drop: 150.0,
            generic: None,
            pass: None,
            judged: 1.0,
            verdict: Verdict::Dropped,
        };
        nanoseconds.iter().map(round).collect()
    }

    fn row(case: &str, measured: &[(&'static str, Vec<Round>)]) -> Option<Row> {
        let measured = measured.iter().map(|(case, rounds)| (*case, rounds.as_slice())).collect();
        rows(Group::Flood, case, &measured).pop()
    }

    fn ratio(row: &Row) -> f64 {
        row.baseline.as_ref().unwrap().ratio.median
    }

    #[test]
    fn every_promise_is_of_cases_that_there_are() {
        let all: HashSet<String> = cases::all().into_iter().map(|case| case.name).collect();
        for promise in PROMISES {
            for case in promise.beside.cases().into_iter().chain([promise.case]) {
                assert!(all.contains(case), "there is no case {case}");
            }
        }
    }

    #[test]
    fn a_share_is_of_the_same_round() {
        let case = ("banned-random", rounds(&[200.0, 400.0, 210.0]));
        let of = (cases::REFERENCE_TABLE, rounds(&[180.0, 360.0, 168.0]));
        let found = row("banned-random", &[case.clone(), of]).unwrap();
        assert!((ratio(&found) - 90.0).abs() < 1e-9, "{found:?}");
        assert_eq!(found.met, Some(true));
        let of = (cases::REFERENCE_TABLE, rounds(&[160.0, 320.0, 168.0]));
        assert_eq!(row("banned-random", &[case, of]).unwrap().met, Some(false));
    }

    #[test]
    fn the_best_rival_is_the_one_to_beat() {
        let own = ("register-random", rounds(&[200.0]));
        let rivals = [600.0, 490.0, 900.0];
        let mut measured: Vec<_> =
            RIVALS.iter().zip(rivals).map(|(name, time)| (*name, rounds(&[time]))).collect();
        measured.push(own);
        let found = row("register-random", &measured).unwrap();
        assert!((ratio(&found) - 2.45).abs() < 1e-9 && found.met == Some(false), "{found:?}");
        // Nothing is reported unless all of them were measured.
        measured.remove(0);
        assert!(row("register-random", &measured).is_none());
    }

    #[test]
    fn ipv6_takes_at_most_half_more_time() {
        let v4 = ("banned-random", rounds(&[200.0]));
        for (time, met) in [(299.0, true), (301.0, false), (150.0, true)] {
            let found = row("banned6-random", &[v4.clone(), ("banned6-random", rounds(&[time]))]);
            assert_eq!(found.unwrap().met, Some(met), "{time}");
        }
    }

    #[test]
    fn a_promise_beside_what_is_void_is_not_kept() {
        let mut void = rounds(&[500.0]);
        void[0].judged = 0.5;
        let own = ("banned-random", rounds(&[200.0]));
        let found = row("banned-random", &[own, (cases::REFERENCE_TABLE, void)]).unwrap();
        assert_eq!(found.met, Some(false));
        assert!(found.note.unwrap().contains("50.0 %"));
    }
}

//! Packets and failures a second, from counters that only grow.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use api::{Status, Verdict};
use filter_common::decision::{Code, OVER_SOURCE, Reason, bits};

/// How many samples of the traffic are kept: as many as the widest terminal shows.
const SAMPLES: usize = 240;

/// How long the rate of an attacker is averaged over.
const AVERAGED: Duration = Duration::from_secs(10);

/// A rate in thousandths a second.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rate(pub(super) u64);

impl Rate {
    /// The rate of a counter that had two values at two times; `None` if it began again, or at the same time.
    fn between(before: (Duration, u64), after: (Duration, u64)) -> Option<Self> {
        let elapsed = after.0.checked_sub(before.0)?.as_micros();
        let grown = u128::from(after.1.checked_sub(before.1)?);
        let rate = (grown * 1_000_000_000).checked_div(elapsed)?;
        Some(Self(u64::try_from(rate).unwrap_or(u64::MAX)))
    }

    /// The rate of what was reported, if all of it is this much and only a part of it was reported.
    pub(super) fn of_all(self, reported: Self, all: Self) -> Self {
        let scaled = u128::from(self.0) * u128::from(all.0.max(reported.0));
        let scaled = scaled.checked_div(reported.0.into()).unwrap_or(0);
        Self(u64::try_from(scaled).unwrap_or(u64::MAX))
    }

    /// The sum of two rates.
    pub(super) fn and(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    /// The rate in whole numbers, for a sparkline.
    pub(super) fn whole(self) -> u64 {
        self.0.div_ceil(1000)
    }

    /// As text: `0`, `0.3`, `12`, `4.5k`, `1.2M`.
    pub(super) fn text(self) -> String {
        match self.0 {
            0 => "0".to_owned(),
            1..=99 => "0.1".to_owned(),
            100..=9_949 => tenths(self.0 / 100),
            rate => short(rate.saturating_add(500) / 1000),
        }
    }
}

fn tenths(number: u64) -> String {
    match number % 10 {
        0 => (number / 10).to_string(),
        rest => format!("{}.{rest}", number / 10),
    }
}

/// A number in at most five characters, unless it is enormous: `950`, `4.5k`, `120k`, `1.2M`.
pub(super) fn short(number: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "T"), (1_000_000_000, "G"), (1_000_000, "M"), (1000, "k")];
    let unit = UNITS.into_iter().find(|(unit, _)| number >= *unit);
    match unit {
        None => number.to_string(),
        Some((unit, name)) if number / unit < 10 => {
            format!("{}{name}", tenths(number / (unit / 10)))
        }
        Some((unit, name)) => format!("{}{name}", number / unit),
    }
}

/// The rates of the traffic.
#[derive(Debug, Default)]
pub(super) struct Traffic {
    /// The latest sample is the last.
    pub(super) passed: VecDeque<Rate>,
    pub(super) dropped: VecDeque<Rate>,
    /// By reason.
    pub(super) reasons: BTreeMap<String, Rate>,
    /// Passed and dropped, by interface.
    pub(super) interfaces: BTreeMap<String, (Rate, Rate)>,
    /// Packets whose source was over a limit of its own.
    pub(super) over_limit: Averaged,
    before: Option<(Duration, Status)>,
}

/// The reasons that the filter reports with the source, as `filter-ebpf/src/account.rs` has them.
fn is_reported(name: &str) -> bool {
    const REPORTED: u64 = OVER_SOURCE
        | bits(&[Reason::SynLimit, Reason::KnownLimit, Reason::Flooding, Reason::Signature]);
    Reason::ALL
        .iter()
        .any(|reason| reason.as_str() == name && Code::from(*reason).bit() & REPORTED != 0)
}

impl Traffic {
    /// Takes the counters of a status.
    pub(super) fn take(&mut self, status: &Status, at: Duration) {
        let over_limit = status.reasons.iter().filter(|(name, _)| is_reported(name));
        self.over_limit.take(over_limit.map(|(_, count)| count.packets).sum(), at);
        let Some((then, before)) = self.before.replace((at, status.clone())) else { return };
        let rate = |old: u64, new: u64| Rate::between((then, old), (at, new));
        let sum = |of: &Status, verdict| {
            let reasons = of.reasons.values().filter(|reason| reason.verdict == verdict);
            reasons.fold(0_u64, |sum, reason| sum.saturating_add(reason.packets))
        };
        for (samples, verdict) in
            [(&mut self.passed, Verdict::Pass), (&mut self.dropped, Verdict::Drop)]
        {
            let Some(rate) = rate(sum(&before, verdict), sum(status, verdict)) else { continue };
            samples.push_back(rate);
            if samples.len() > SAMPLES {
                samples.pop_front();
            }
        }
        let of_reason = |(name, count): (&String, &api::ReasonCount)| {
            let old = before.reasons.get(name).map_or(0, |old| old.packets);
            Some((name.clone(), rate(old, count.packets)?))
        };
        self.reasons = status.reasons.iter().filter_map(of_reason).collect();
        let of_interface = |new: &api::Interface| {
            let old = before.interfaces.iter().find(|old| old.name == new.name)?;
            let rates = (rate(old.passed, new.passed)?, rate(old.dropped, new.dropped)?);
            Some((new.name.clone(), rates))
        };
        self.interfaces = status.interfaces.iter().filter_map(of_interface).collect();
    }

    /// The latest rates of passed and dropped packets.
    pub(super) fn now(&self) -> (Rate, Rate) {
        let last = |samples: &VecDeque<Rate>| samples.back().copied().unwrap_or_default();
        (last(&self.passed), last(&self.dropped))
    }
}

/// The rate of one counter, averaged over the last seconds.
#[derive(Debug, Default)]
pub(super) struct Averaged {
    samples: VecDeque<(Duration, u64)>,
    /// When the counter last grew.
    pub(super) grown: Option<Duration>,
}

impl Averaged {
    pub(super) fn take(&mut self, counter: u64, at: Duration) {
        match self.samples.back() {
            Some((_, before)) if counter < *before => self.samples.clear(),
            Some((_, before)) if counter > *before => self.grown = Some(at),
            _ => {}
        }
        self.samples.push_back((at, counter));
        // One that is older than the average is kept, so that the average is over the whole time.
        while self.samples.get(1).is_some_and(|(then, _)| at.saturating_sub(*then) >= AVERAGED) {
            self.samples.pop_front();
        }
    }

    /// The rate; `None` before the second sample.
    pub(super) fn rate(&self) -> Option<Rate> {
        Rate::between(*self.samples.front()?, *self.samples.back()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::examples::healthy;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_part_stands_for_all() {
        let (own, reported, all) = (Rate(100), Rate(400), Rate(20_000));
        assert_eq!(own.of_all(reported, all), Rate(5000));
        // All were reported; an average of the other is behind.
        assert_eq!(own.of_all(reported, Rate(300)), own);
        assert_eq!(own.of_all(Rate(0), all), Rate(0));
        assert!(is_reported("register-limit") && !is_reported("banned"));
    }

    #[test]
    fn numbers_are_short() {
        for (rate, text) in [
            (0, "0"),
            (7, "0.1"),
            (340, "0.3"),
            (1000, "1"),
            (1500, "1.5"),
            (12_400, "12"),
            (999_000, "999"),
            (4_560_000, "4.5k"),
            (120_000_000, "120k"),
            (1_234_000_000, "1.2M"),
        ] {
            assert_eq!(Rate(rate).text(), text);
        }
        assert_eq!(
            (short(0), short(999), short(u64::MAX)),
            ("0".into(), "999".into(), "18446744T".into())
        );
    }

    #[test]
    fn traffic_is_what_was_counted_in_between() {
        let mut traffic = Traffic::default();
        let mut status = healthy();
        traffic.take(&status, SECOND);
        assert_eq!(traffic.now(), (Rate(0), Rate(0)));
        for second in 2..400_u32 {
            let banned = status.reasons.get_mut("banned").unwrap();
            banned.packets += 250;
            status.interfaces[0].dropped += 250;
            traffic.take(&status, SECOND * second);
        }
        assert_eq!(traffic.now(), (Rate(0), Rate(250_000)));
        assert_eq!(traffic.reasons["banned"], Rate(250_000));
        assert_eq!(traffic.interfaces["eth0"], (Rate(0), Rate(250_000)));
        assert_eq!(traffic.dropped.len(), SAMPLES);
        // New maps begin to count again.
        status.reasons.get_mut("banned").unwrap().packets = 3;
        traffic.take(&status, SECOND * 400);
        assert_eq!(traffic.dropped.len(), SAMPLES);
        assert!(!traffic.reasons.contains_key("banned"));
        traffic.take(&status, SECOND * 400);
    }

    #[test]
    fn a_rate_is_averaged() {
        let mut averaged = Averaged::default();
        averaged.take(5, SECOND);
        assert_eq!((averaged.rate(), averaged.grown), (None, None));
        for second in 2..60_u32 {
            averaged.take(5 + u64::from(second / 2), SECOND * second);
        }
        assert_eq!(averaged.rate(), Some(Rate(500)));
        assert_eq!(averaged.grown, Some(SECOND * 58));
        averaged.take(1, SECOND * 60);
        assert_eq!(averaged.rate(), None);
        assert!(averaged.samples.len() <= 12);
    }
}

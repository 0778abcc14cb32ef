//! How long a ban lasts after earlier ones, by the arithmetic of fail2ban (`setBanTimeExtra` in
//! `server/jail.py`, `incrBanTime` in `server/observer.py`).

use std::time::Duration;

use crate::duration;
use crate::settings::Increment;

/// The most times that fail2ban doubles.
const DOUBLINGS_MAX: u32 = 20;

/// How long a ban lasts after this number of `earlier` ones. `chance` determines how much of
/// [`rndtime`](Increment::rndtime) is added: nothing for 0, and all but 1/2^32 for the largest value.
pub fn term(bantime: Duration, increment: &Increment, earlier: u32, chance: u32) -> Duration {
    if !increment.enabled || earlier == 0 {
        return bantime;
    }
    let Increment { factor, maxtime, rndtime, multipliers, .. } = increment;
    let place = usize::try_from(earlier).unwrap_or(usize::MAX);
    let multiplier = multipliers.get(place).or(multipliers.last()).copied();
    let times = |multiplier: u32| {
        // At most 3e17 ns, a 32-bit number and a million: below 2^127.
        let product =
            bantime.as_nanos() * u128::from(multiplier) * u128::from(factor.thousandths());
        Duration::from_nanos(u64::try_from(product / 1000).unwrap_or(u64::MAX))
    };
    let grown = match multiplier {
        Some(multiplier) => times(multiplier),
        None => times(1 << earlier.min(DOUBLINGS_MAX)).max(bantime),
    };
    let random = (rndtime.as_nanos() * u128::from(chance)) >> u32::BITS;
    let random = Duration::from_nanos(u64::try_from(random).unwrap_or(u64::MAX));
    grown.min(*maxtime).saturating_add(random).min(duration::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::settings::Factor;

    fn on() -> Increment {
        Increment { enabled: true, ..Increment::OFF }
    }

    fn minutes(increment: &Increment, earlier: std::ops::Range<u32>) -> Vec<u64> {
        let ten = Duration::from_mins(10);
        earlier.map(|earlier| term(ten, increment, earlier, 0).as_secs() / 60).collect()
    }

    fn thousandths(thousandths: u32) -> Factor {
        Factor::from_thousandths(thousandths).unwrap()
    }

    #[test]
    fn the_time_doubles_up_to_a_bound() {
        assert_eq!(minutes(&on(), 0..6), [10, 20, 40, 80, 160, 320]);
        let bound = Increment { maxtime: Duration::from_mins(100), ..on() };
        assert_eq!(minutes(&bound, 0..6), [10, 20, 40, 80, 100, 100]);
        let [twenty, later] =
            [20, 4_000_000_000].map(|n| term(Duration::from_secs(1), &on(), n, 0));
        assert_eq!((twenty, later), (Duration::from_secs(1 << 20), twenty));
        assert_eq!(term(Duration::from_hours(24), &on(), 20, 0), duration::MAX);
    }

    #[test]
    fn a_factor_multiplies_the_time_and_never_shortens_a_doubled_one() {
        let factor = |n| Increment { factor: thousandths(n), ..on() };
        assert_eq!(minutes(&factor(1500), 0..4), [10, 30, 60, 120]);
        assert_eq!(minutes(&factor(100), 0..6), [10, 10, 10, 10, 16, 32]);
    }

    #[test]
    fn multipliers_replace_the_doubling_and_the_last_one_repeats() {
        let multipliers = vec![1, 5, 30, 60];
        assert_eq!(minutes(&Increment { multipliers, ..on() }, 0..6), [10, 50, 300, 600, 600, 600]);
        let halved = Increment { multipliers: vec![1, 3], factor: thousandths(500), ..on() };
        assert_eq!(minutes(&halved, 0..3), [10, 15, 15]);
    }

    #[test]
    fn the_random_part_is_added_last() {
        let maxtime = Duration::from_mins(30);
        let random = Increment { rndtime: Duration::from_mins(8), maxtime, ..on() };
        let at = |earlier, chance| term(Duration::from_mins(10), &random, earlier, chance);
        assert_eq!(at(0, u32::MAX), Duration::from_mins(10));
        assert_eq!(at(1, 1 << 30), Duration::from_mins(22));
        assert_eq!(at(5, 1 << 31), Duration::from_mins(34));
        assert!(at(5, u32::MAX) < Duration::from_mins(38));
    }

    proptest! {
        #[test]
        fn any_settings_give_a_time(
            bantime in 1..=duration::MAX.as_secs(), factor in 1..=1_000_000_u32,
            multipliers in proptest::collection::vec(1..=u32::MAX, 0..3),
            maxtime in 1..=duration::MAX.as_secs(), rndtime in 0..=duration::MAX.as_secs(),
            earlier: u32, chance: u32,
        ) {
            let increment = Increment {
                factor: thousandths(factor),
                multipliers,
                maxtime: Duration::from_secs(maxtime),
                rndtime: Duration::from_secs(rndtime),
                ..on()
            };
            let time = term(Duration::from_secs(bantime), &increment, earlier, chance);
            prop_assert!(time <= duration::MAX);
        }
    }
}

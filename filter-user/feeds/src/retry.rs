//! When a list is fetched again: at its interval, or sooner and then less and less often after a failure.

use std::time::Duration;

/// The first pause after a failure.
const FIRST: Duration = Duration::from_secs(30);

/// The longest pause that a server may ask for.
const ASKED_MAX: Duration = Duration::from_hours(24);

/// What determines the next fetch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// The time between two fetches.
    pub interval: Duration,
    /// How many fetches have failed since the last one that succeeded.
    pub failures: u32,
    /// How long the server asked to wait.
    pub asked: Option<Duration>,
}

/// How long to wait for the next fetch. `chance` is a random number: hosts that started together must not ask
/// together.
pub fn delay(pace: Pace, chance: u32) -> Duration {
    let Pace { interval, failures, asked } = pace;
    let base = match failures {
        0 => interval,
        failures => {
            let longest = interval.max(FIRST);
            FIRST.min(interval).saturating_mul(1 << (failures - 1).min(16)).min(longest)
        }
    };
    // Between seven eighths and nine eighths.
    let eighth = base / 4;
    let jitter = eighth.mul_f64(f64::from(chance) / f64::from(u32::MAX));
    let wait = base.saturating_sub(base / 8).saturating_add(jitter);
    wait.max(asked.unwrap_or_default().min(ASKED_MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_retried_less_and_less_often() {
        let hour = Duration::from_hours(1);
        let wait =
            |failures, asked, chance| delay(Pace { interval: hour, failures, asked }, chance);
        assert_eq!(wait(0, None, u32::MAX / 2).as_secs(), 3599);
        assert_eq!(wait(0, None, 0), hour / 8 * 7);
        assert_eq!(wait(0, None, u32::MAX), hour + hour / 8);
        let waits: Vec<u64> =
            (1..=10).map(|failures| wait(failures, None, u32::MAX).as_secs()).collect();
        assert_eq!(waits, [33, 67, 135, 270, 540, 1080, 2160, 4050, 4050, 4050]);
        assert_eq!(wait(u32::MAX, None, u32::MAX), hour + hour / 8);
        assert_eq!(wait(1, Some(hour * 2), 0), hour * 2);
        assert_eq!(wait(1, Some(hour * 2000), 0), ASKED_MAX);
        let short = Pace { interval: Duration::from_secs(10), failures: 3, asked: None };
        assert!(delay(short, u32::MAX) <= Duration::from_secs(34));
    }
}

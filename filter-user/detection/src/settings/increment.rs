//! How the bans of a repeated offender grow: fail2ban's `bantime.*`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::section;
use crate::duration;

/// The most multipliers of one jail.
pub const MULTIPLIERS_MAX: usize = 64;

section! {
    /// The settings of a jail whose names begin with `bantime.`, as in fail2ban's `jail.conf`, with its defaults.
    /// fail2ban's `bantime.formula` is not among them: it is a Python expression.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Increment {
        enabled: bool = false,
            "Make each ban longer than the one before: `bantime * 2^N * factor`, where N is the \
             number of earlier bans, at most 20.",
            Flag() as increment;
        factor: Factor = Factor::ONE,
            "The factor by which the longer ban time is multiplied.",
            Factor();
        maxtime: Duration = duration::MAX,
            "The longest that a ban grows to.",
            Time(Duration::from_secs(1)..=duration::MAX);
        // So that nobody can predict when a ban ends.
        rndtime: Duration = Duration::ZERO,
            "The upper bound of a random time that is added.",
            Time(Duration::ZERO..=duration::MAX);
        multipliers: Vec<u32> = Vec::new(),
            "The multipliers to use instead of 2^N, from N = 0. The last one also applies to \
             every later ban.",
            Multipliers();
        overalljails: bool = false, "Count the earlier bans by all jails.", Flag();
        unproven: bool = false,
            "Count and lengthen unproven bans too, whose source may be forged.",
            Flag();
    }
}

impl Increment {
    /// Bans do not grow.
    pub const OFF: Self = Self::DEFAULT;
}

/// A positive number, exact to a thousandth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Factor {
    thousandths: u32,
}

impl Factor {
    /// Changes nothing.
    pub const ONE: Self = Self { thousandths: 1000 };

    const MAX: u32 = 1000 * 1000;

    /// A factor in thousandths, from 1 to a million.
    pub fn from_thousandths(thousandths: u32) -> Option<Self> {
        (1..=Self::MAX).contains(&thousandths).then_some(Self { thousandths })
    }

    /// The number times 1000.
    pub fn thousandths(self) -> u32 {
        self.thousandths
    }
}

impl fmt::Display for Factor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, rest) = (self.thousandths / 1000, self.thousandths % 1000);
        if rest == 0 {
            return write!(f, "{whole}");
        }
        let digits = format!("{rest:03}");
        write!(f, "{whole}.{}", digits.trim_end_matches('0'))
    }
}

impl FromStr for Factor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (whole, rest) = text.split_once('.').unwrap_or((text, "0"));
        let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        if !digits(whole) || !digits(rest) || rest.len() > 3 {
            return Err(());
        }
        let thousandths = || {
            let whole: u32 = whole.parse().ok()?;
            let rest: u32 = format!("{rest:0<3}").parse().ok()?;
            Self::from_thousandths(whole.checked_mul(1000)?.checked_add(rest)?)
        };
        thousandths().ok_or(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn factors_are_read_and_written() {
        for (text, thousandths, written) in [
            ("1", 1000, "1"),
            ("1.0", 1000, "1"),
            ("0.5", 500, "0.5"),
            ("2.25", 2250, "2.25"),
            ("0.001", 1, "0.001"),
            ("1000", 1_000_000, "1000"),
        ] {
            let factor: Factor = text.parse().unwrap();
            assert_eq!((factor.thousandths(), &*factor.to_string()), (thousandths, written));
        }
        for text in ["", "0", "0.0", "-1", "1.", ".5", "1.0001", "1e3", "1000.001", "99999999999"] {
            assert_eq!(text.parse::<Factor>(), Err(()), "{text}");
        }
    }
}

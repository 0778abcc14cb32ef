//! How the bans of a repeated offender grow: fail2ban's `bantime.*`.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::duration;

/// The most multipliers of one jail.
pub const MULTIPLIERS_MAX: usize = 64;

/// The settings of a jail whose names begin with `bantime.`, as in fail2ban's `jail.conf`. fail2ban's
/// `bantime.formula` is not among them: it is a Python expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Increment {
    /// Whether a ban grows with the number of earlier ones.
    pub enabled: bool,
    /// A factor for the grown time.
    pub factor: Factor,
    /// The longest time, before `rndtime` is added.
    pub maxtime: Duration,
    /// The upper bound of a random time that is added, so that nobody can predict when a ban ends.
    pub rndtime: Duration,
    /// The factors for `bantime`, by the number of earlier bans; the last one applies to all further
    /// bans. If empty, the time doubles with each ban.
    pub multipliers: Vec<u32>,
    /// Whether the bans of all jails count.
    pub overalljails: bool,
    /// Whether bans for failures with a forgeable source count and grow.
    pub unproven: bool,
}

impl Increment {
    /// fail2ban's defaults.
    pub const OFF: Self = Self {
        enabled: false,
        factor: Factor::ONE,
        maxtime: duration::MAX,
        rndtime: Duration::ZERO,
        multipliers: Vec::new(),
        overalljails: false,
        unproven: false,
    };
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

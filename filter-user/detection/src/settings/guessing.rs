//! The thresholds for guessing over days.

use std::time::Duration;

/// How slow guessing and guessing from many sources are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessingSettings {
    /// How long a failure counts, to within an eighth.
    pub findtime: Duration,
    /// How many failures of one source, or on one account, are too many; 0 disables this. At most 500:
    /// higher numbers are not counted.
    pub maxretry: u32,
    /// How many sources the failures on one account must come from.
    pub sources: u32,
    /// Of these sources, one is banned after this many failures of its own on the account.
    pub each: u32,
    /// How many accounts with failures of one source are too many, and a tenth of them afterwards; 0 disables
    /// this.
    pub maxaccounts: u32,
}

impl GuessingSettings {
    /// Disables the detection of guessing.
    pub const OFF: Self = Self {
        findtime: Duration::from_hours(7 * 24),
        maxretry: 0,
        sources: 5,
        each: 3,
        maxaccounts: 0,
    };

    /// For SIP: a phone has a few accounts, and the first success of any phone clears its address.
    pub const SIP: Self = Self { maxaccounts: 20, ..Self::OFF };

    /// For logins: far beyond any host that ever succeeds.
    pub const LOGINS: Self = Self { maxaccounts: 100, ..Self::OFF };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_counts_for_a_week_and_many_accounts_are_too_many() {
        use GuessingSettings as Settings;
        for (settings, maxaccounts) in
            [(Settings::OFF, 0), (Settings::SIP, 20), (Settings::LOGINS, 100)]
        {
            assert_eq!((settings.findtime.as_secs(), settings.maxaccounts), (604_800, maxaccounts));
            assert_eq!((settings.maxretry, settings.sources, settings.each), (0, 5, 3));
        }
    }
}

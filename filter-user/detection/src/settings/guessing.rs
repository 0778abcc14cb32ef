//! The thresholds for guessing over days.

use std::time::Duration;

use super::section;

section! {
    /// How slow guessing and guessing from many sources are detected.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct GuessingSettings {
        findtime: Duration = Duration::from_hours(7 * 24),
            "How long a failure counts for the settings in this section, with a precision of one \
             eighth of that time.",
            Time(Duration::from_hours(1)..=Duration::from_hours(30 * 24));
        // Higher numbers are not counted.
        maxretry: u32 = 0,
            "How many failures ban a source, and how many on one account mark the account as \
             attacked; 0 disables both.",
            Count(0..=500, "failures");
        sources: u32 = 5,
            "From how many sources the failures on an attacked account must come.",
            Count(1..=200, "sources");
        each: u32 = 3,
            "How many failures on an attacked account ban a source that made them.",
            Count(1..=100, "failures");
        maxaccounts: u32 = 0,
            "Failures on this many different accounts ban a source, and again after each further tenth of \
             that number; 0 disables this.",
            Count(0..=200, "accounts");
    }
}

impl GuessingSettings {
    /// Disables the detection of guessing.
    pub const OFF: Self = Self::DEFAULT;

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

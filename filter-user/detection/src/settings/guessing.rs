//! The thresholds for guessing over days.

use std::time::Duration;

/// How slow guessing and guessing from many sources are detected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuessingSettings {
    /// How long a failure counts, to an eighth.
    pub findtime: Duration,
    /// So many failures of one source, or on one account, are too many; 0: any number may be. At
    /// most 500: more are not told apart.
    pub maxretry: u32,
    /// Those on one account have to come from so many sources.
    pub sources: u32,
    /// A source of these is banned that has failed on the account so often itself.
    pub each: u32,
    /// On so many accounts no source may fail; 0: on any number.
    pub maxaccounts: u32,
}

impl GuessingSettings {
    /// Counts nothing.
    pub const OFF: Self = Self {
        findtime: Duration::from_hours(7 * 24),
        maxretry: 0,
        sources: 5,
        each: 3,
        maxaccounts: 0,
    };

    /// What no peer that ever succeeds comes near.
    pub const ACCOUNTS: Self = Self { maxaccounts: 100, ..Self::OFF };
}

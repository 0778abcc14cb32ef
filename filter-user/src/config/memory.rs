//! How long peers and offenders are remembered.

use std::time::Duration;

use super::section::section;
use crate::duration;

section! {
    /// Peers that have proven themselves.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Peers {
        remember: Duration = Duration::from_hours(2),
            "How long a peer remains known after it last proved itself.",
            Time(Duration::from_mins(1)..=Duration::from_hours(7 * 24));
    }
}

section! {
    /// Sources that were banned before.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Offenders {
        remember: Duration = Duration::from_hours(30 * 24),
            "How long the earlier bans of an address count after the last of them has ended.",
            Time(Duration::from_mins(1)..=duration::MAX);
    }
}

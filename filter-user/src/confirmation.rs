//! The first start on a host: the filter enforces, and unless an administrator confirms within minutes
//! that the host can still be reached, it stops dropping packets.
//!
//! The decision is one word in a file in the state directory, so that it outlives the daemon.
//!
//! Must never need a daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::clock::KernelTime;
use crate::whole_file;

/// The confirmation in the history.
pub const CONFIRM: &str = "confirm the first start";

/// The name of the file.
const NAME: &str = "confirmation";

/// Whether an administrator has confirmed that the host can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Not yet. The time starts when the filter enforces.
    Awaited {
        /// Since when the filter enforces; `None` while it does not.
        since: Option<KernelTime>,
    },
    /// It is too late: nothing is dropped.
    Lapsed,
    /// Yes, or the host was protected before.
    Confirmed,
}

impl Confirmation {
    /// Reads the file in the state directory `state`. Without a file, the confirmation is awaited if
    /// `is_first`, which means the first start on this host.
    pub fn read(state: &Path, is_first: bool) -> Self {
        let awaited = Self::Awaited { since: None };
        match fs::read(file(state)).as_deref().map(<[u8]>::trim_ascii) {
            Ok(b"awaited") => awaited,
            Ok(b"lapsed") => Self::Lapsed,
            Err(_) if is_first => awaited,
            // A file with any other content must not turn off the protection.
            Ok(_) | Err(_) => Self::Confirmed,
        }
    }

    /// Keeps it in `state`.
    ///
    /// # Errors
    ///
    /// If the file cannot be written.
    pub fn write(self, state: &Path) -> Result<()> {
        let word = match self {
            Self::Awaited { .. } => "awaited\n",
            Self::Lapsed => "lapsed\n",
            Self::Confirmed => "confirmed\n",
        };
        Ok(whole_file::replace(&file(state), word.as_bytes())?)
    }

    /// The same at the time `now`, given whether anything is enforced. `within` is the time to confirm;
    /// `None` if that is not necessary.
    #[must_use]
    pub fn at(self, now: KernelTime, is_enforced: bool, within: Option<Duration>) -> Self {
        match self {
            Self::Awaited { .. } if within.is_none() => Self::Confirmed,
            Self::Awaited { .. } if !is_enforced => Self::Awaited { since: None },
            Self::Awaited { since: None } => Self::Awaited { since: Some(now) },
            Self::Awaited { .. } if self.until(within).is_some_and(|until| until <= now) => {
                Self::Lapsed
            }
            Self::Awaited { .. } | Self::Lapsed | Self::Confirmed => self,
        }
    }

    /// When it is too late, if it ever is.
    pub fn until(self, within: Option<Duration>) -> Option<KernelTime> {
        match self {
            Self::Awaited { since } => Some(since?.after(within?)),
            Self::Lapsed | Self::Confirmed => None,
        }
    }
}

fn file(state: &Path) -> PathBuf {
    state.join(NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> KernelTime {
        KernelTime(second * 1_000_000_000)
    }

    #[test]
    fn the_file_outlives_the_daemon() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path();
        let awaited = Confirmation::Awaited { since: None };
        assert_eq!(Confirmation::read(state, true), awaited);
        assert_eq!(Confirmation::read(state, false), Confirmation::Confirmed);
        for kept in [awaited, Confirmation::Lapsed, Confirmation::Confirmed] {
            kept.write(state).unwrap();
            for is_first in [true, false] {
                assert_eq!(Confirmation::read(state, is_first), kept);
            }
        }
        fs::write(file(state), "\0lapsed").unwrap();
        assert_eq!(Confirmation::read(state, true), Confirmation::Confirmed);
    }

    #[test]
    fn the_time_runs_while_the_filter_enforces() {
        let within = Some(Duration::from_mins(5));
        let none = Confirmation::Awaited { since: None };
        let since = |second| Confirmation::Awaited { since: Some(at(second)) };
        assert_eq!(none.at(at(10), false, within), none);
        assert_eq!(none.at(at(10), true, within), since(10));
        assert_eq!(since(10).at(at(309), true, within), since(10));
        assert_eq!(since(10).at(at(310), true, within), Confirmation::Lapsed);
        assert_eq!(since(10).at(at(400), false, within), none);
        assert_eq!(since(10).until(within), Some(at(310)));
        for kept in [Confirmation::Lapsed, Confirmation::Confirmed] {
            for within in [within, None] {
                assert_eq!(kept.at(at(999), true, within), kept);
                assert_eq!(kept.until(within), None);
            }
        }
        // A reload may change the time.
        let longer = Some(Duration::from_hours(1));
        assert_eq!(since(10).at(at(400), true, longer), since(10));
        for waits in [none, since(10)] {
            assert_eq!(waits.at(at(11), true, None), Confirmation::Confirmed);
        }
    }
}

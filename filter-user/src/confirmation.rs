//! The first start on a host: the filter enforces, and unless an administrator confirms within minutes
//! that the host can still be reached, it stops dropping packets.
//!
//! The decision is one word in a file in the state directory, so that it outlives the daemon.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Result;

use crate::clock::KernelTime;
use crate::whole_file;

/// How long an administrator has to confirm.
pub const WITHIN: Duration = Duration::from_mins(5);

/// The name of the file.
const NAME: &str = "confirmation";

/// Whether an administrator has confirmed that the host can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Confirmation {
    /// Not yet. The time starts when the filter enforces.
    Awaited {
        /// When it is too late; `None` while nothing is enforced.
        until: Option<KernelTime>,
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
        let awaited = Self::Awaited { until: None };
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

    /// The same at the time `now`, given whether anything is enforced.
    #[must_use]
    pub fn at(self, now: KernelTime, is_enforced: bool) -> Self {
        match self {
            Self::Awaited { .. } if !is_enforced => Self::Awaited { until: None },
            Self::Awaited { until: None } => Self::Awaited { until: Some(now.after(WITHIN)) },
            Self::Awaited { until: Some(until) } if until <= now => Self::Lapsed,
            Self::Awaited { .. } | Self::Lapsed | Self::Confirmed => self,
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
        let awaited = Confirmation::Awaited { until: None };
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
        let none = Confirmation::Awaited { until: None };
        let until = |second| Confirmation::Awaited { until: Some(at(second)) };
        assert_eq!(none.at(at(10), false), none);
        assert_eq!(none.at(at(10), true), until(310));
        assert_eq!(until(310).at(at(309), true), until(310));
        assert_eq!(until(310).at(at(310), true), Confirmation::Lapsed);
        assert_eq!(until(310).at(at(400), false), none);
        for kept in [Confirmation::Lapsed, Confirmation::Confirmed] {
            assert_eq!(kept.at(at(999), true), kept);
        }
    }
}

//! The settings of countries and autonomous systems from which SIP is admitted.

use std::path::PathBuf;

use ::geo::{Policy, Selector};

/// The most databases.
pub const DATABASES_MAX: usize = 4;

/// Where SIP of unknown sources may come from.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Geo {
    /// The files of the databases.
    pub databases: Vec<PathBuf>,
    /// From everywhere but there.
    pub ban: Vec<Selector>,
    /// Only from there.
    pub admit: Vec<Selector>,
    /// Count what would be dropped, but drop nothing.
    pub dry_run: bool,
}

impl Geo {
    /// What is to be shut out; `None` for nothing.
    pub fn policy(&self) -> Option<Policy> {
        if !self.admit.is_empty() {
            Some(Policy::Admit(self.admit.iter().copied().collect()))
        } else if !self.ban.is_empty() {
            Some(Policy::Ban(self.ban.iter().copied().collect()))
        } else {
            None
        }
    }
}

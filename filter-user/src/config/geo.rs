//! The settings of countries and autonomous systems from which SIP is admitted.

use std::path::PathBuf;

use ::geo::{Policy, Selector};

use super::section::section;

/// The most databases.
pub const DATABASES_MAX: usize = 4;

section! {
    /// Where SIP of unknown sources may come from.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Geo {
        databases: Vec<PathBuf> = Vec::new(),
            "Databases of countries and of autonomous systems in MaxMind's format (MMDB). They are read again \
             when they change.",
            Files(DATABASES_MAX);
        ban: Vec<Selector> = Vec::new(),
            "Countries and AS numbers from which SIP of unknown sources is dropped. Known peers and trusted \
             networks pass.",
            Places();
        admit: Vec<Selector> = Vec::new(),
            "The only countries and AS numbers from which SIP of unknown sources is admitted. Known peers, \
             trusted networks, and addresses that are not in use on the Internet, pass too.",
            Places();
        dry_run: bool = false, "Count the packets that `geo` would drop, but let them pass.", Flag();
    }
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

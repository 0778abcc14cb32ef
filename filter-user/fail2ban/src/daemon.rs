//! Declares the functions of the daemon's crate that an import needs: its configuration, a check of
//! settings, and files that only it may open.

use std::collections::BTreeMap;
use std::path::Path;

pub use detection::ban::foreign::{Banned, Bans};
use detection::settings::{JailSettings, PortClasses, SipPorts};
use jiff::Timestamp;

use crate::error::Error;

/// The configuration before an import.
#[derive(Clone, Copy, Debug)]
pub struct Existing<'a> {
    /// The jails by name.
    pub jails: &'a BTreeMap<&'static str, JailSettings>,
    /// Ports by name.
    pub ports: &'a PortClasses,
    /// The ports of SIP.
    pub sip: &'a SipPorts,
}

/// The daemon's crate.
pub trait Daemon {
    /// Checks that `text` would be a valid file of the configuration.
    ///
    /// # Errors
    ///
    /// The first error in it.
    fn check(&self, text: &str) -> Result<(), String>;

    /// Whether two files of the configuration differ in a setting.
    ///
    /// # Errors
    ///
    /// The first error in one of them.
    fn differ(&self, one: &str, other: &str) -> Result<bool, String>;

    /// The levels that Asterisk writes to a log, in lower case; `None` if its configuration in `etc` does
    /// not show them.
    fn asterisk_levels(&self, etc: &Path, log: &Path) -> Option<Vec<String>>;

    /// The bans in fail2ban's database that are in force `now`.
    ///
    /// # Errors
    ///
    /// If the database cannot be read.
    fn bans(&self, database: &Path, now: Timestamp) -> Result<Bans, Error>;
}

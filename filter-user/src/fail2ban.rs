//! Connects the crate [`fail2ban`](::fail2ban) with the daemon's configuration, which checks the imported
//! settings.
//!
//! Must never write a file of fail2ban.

mod hand_over;

use std::path::Path;

pub use ::fail2ban::{
    Ban, Banned, Bans, DIRECTORY, Error, Filter, Import, LogType, Options, Reading, Sources,
};
use ::fail2ban::{Daemon, Existing};
use jiff::Timestamp;

pub use self::hand_over::{Checked, HandedOver, check_settings, hand_over, write_settings};
use crate::config::{Config, ConfigErrors};
use crate::doctor::asterisk::{levels_of, other_levels};

/// Imports `sources` for a host with this configuration.
///
/// # Errors
///
/// If there is no configuration of fail2ban, if a database that was named cannot be read, or if the host
/// is not a Wazo host although it must be.
pub fn import(sources: &Sources, config: &Config, now: Timestamp) -> Result<Import, Error> {
    ::fail2ban::import(sources, existing(config), &Here, now)
}

fn existing(config: &Config) -> Existing<'_> {
    Existing { jails: &config.jails, ports: &config.ports, sip: &config.sip }
}

/// The daemon's crate, as the import uses it.
struct Here;

impl Daemon for Here {
    fn check(&self, text: &str) -> Result<(), String> {
        read(text).map(drop)
    }

    fn differ(&self, one: &str, other: &str) -> Result<bool, String> {
        Ok(read(one)? != read(other)?)
    }

    fn asterisk_levels(&self, etc: &Path, log: &Path) -> Option<Vec<String>> {
        levels_of(etc, log).map(|levels| other_levels(&levels, ""))
    }

    fn bans(&self, database: &Path, now: Timestamp) -> Result<Bans, Error> {
        store::fail2ban::read(database, now).map_err(|why| Error::of_file(database, why))
    }
}

fn read(text: &str) -> Result<Config, String> {
    let first = |errors: ConfigErrors| {
        errors.errors().first().map_or_else(String::new, |error| error.text.clone())
    };
    Config::parse(Path::new("-"), text.as_bytes()).map(|loaded| loaded.config).map_err(first)
}

#[cfg(test)]
mod tests;

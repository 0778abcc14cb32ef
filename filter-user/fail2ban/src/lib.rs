//! fail2ban's own files: an administrator's filters and settings continue to work.
//!
//! It turns filters into parsers of lines ([`Filter`]), and the configuration and database into settings
//! and bans in Ringfence's form ([`import()`]). It writes nothing, and knows the daemon's crate only
//! through [`Daemon`].
//!
//! | module | does |
//! |---|---|
//! | `ini` | one file: sections, options, values over several lines |
//! | `layers` | a file with its includes and its `.local`; `%(name)s` |
//! | `options` | `filter[name=value]` |
//! | `tags` | `<name>` in a filter's values |
//! | `pattern` | expressions in Python's syntax, with tags such as `<HOST>` |
//! | `date` | `datepattern`, and the formats that are found without one |
//! | `session` | lines that `<F-MLFID>` joins |
//! | `filter` | a whole filter |
//! | `jails` | the settings of the jails; `seconds` reads their times |
//! | `import` | a whole configuration in Ringfence's form; `import/closes`: ports, `import/logs`: logs |
//! | `daemon` | what the import needs of the daemon's crate |
//!
//! The rules are those of fail2ban 1.0 (`client/configparserinc.py`, `client/configreader.py`,
//! `server/failregex.py`, `server/filter.py`, `server/datedetector.py`), with two exceptions: a host name
//! in a log is never resolved, and expressions over several lines are refused.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "the tests make the files"))]

mod daemon;
mod date;
mod error;
mod filter;
mod import;
mod ini;
mod jails;
mod layers;
mod options;
mod pattern;
mod seconds;
mod session;
mod tags;

pub use daemon::{Banned, Bans, Daemon, Existing};
pub use error::Error;
pub use filter::{Filter, LogType, Options, Reading};
pub use import::{Ban, DIRECTORY, Import, Sources, import};

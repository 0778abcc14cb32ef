//! fail2ban's own files: what an administrator has written for it goes on working.
//!
//! Its configuration and its filters enter; a parser of lines ([`Filter`]) leaves, and what it is set to
//! and whom it has banned, as Ringfence says it ([`import()`]). Nothing is written, and the daemon's crate
//! above this one is known only as far as [`Daemon`] says.
//!
//! | module | does |
//! |---|---|
//! | `ini` | one file: sections, options, values over several lines |
//! | `layers` | a file with what it includes and its `.local`; `%(name)s` |
//! | `options` | `filter[name=value]` |
//! | `tags` | `<name>` in a filter's values |
//! | `pattern` | expressions in Python's syntax, with `<HOST>` and its like |
//! | `date` | `datepattern`, and the formats that are found without one |
//! | `session` | lines that belong together by `<F-MLFID>` |
//! | `filter` | a filter as a whole |
//! | `jails` | what the jails are set to; `seconds` reads their times |
//! | `import` | all of it, in Ringfence's own form; `import/closes` what bans close, `import/logs` what is read |
//! | `daemon` | what the import asks of the daemon's crate |
//!
//! The rules are those of fail2ban 1.0 (`client/configparserinc.py`, `client/configreader.py`,
//! `server/failregex.py`, `server/filter.py`, `server/datedetector.py`). Two are not kept: a host
//! name in a log is never resolved, and expressions over several lines are refused.

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

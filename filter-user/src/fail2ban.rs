//! fail2ban's own files: what an administrator has written for it goes on working.
//!
//! Its configuration, its filters and its database enter; a parser of lines ([`Filter`]) leaves, and
//! what it is set to and whom it has banned, as Ringfence says it ([`import()`]).
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
//! | `database` | the bans in force |
//! | `import` | all of it, in Ringfence's own form; `import/closes` what bans close, `import/logs` what is read |
//! | `hand_over` | the settings into a file, the bans to the daemon |
//!
//! The rules are those of fail2ban 1.0 (`client/configparserinc.py`, `client/configreader.py`,
//! `server/failregex.py`, `server/filter.py`, `server/datedetector.py`). Two are not kept: a host
//! name in a log is never resolved, and expressions over several lines are refused.

mod database;
mod date;
mod error;
mod filter;
mod hand_over;
mod import;
mod ini;
mod jails;
mod layers;
mod options;
mod pattern;
mod seconds;
mod session;
mod tags;

pub use error::Error;
pub use filter::{Filter, LogType, Options, Reading};
pub use hand_over::{Checked, HandedOver, check_settings, hand_over, write_settings};
pub use import::{Ban, DIRECTORY, Import, Sources, import};

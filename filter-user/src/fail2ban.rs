//! fail2ban's own files: what an administrator has written for it goes on working.
//!
//! Its configuration and its filters enter; a parser of lines ([`Filter`]) leaves.
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
//!
//! The rules are those of fail2ban 1.0 (`client/configparserinc.py`, `client/configreader.py`,
//! `server/failregex.py`, `server/filter.py`, `server/datedetector.py`). Two are not kept: a host
//! name in a log is never resolved, and expressions over several lines are refused.

mod date;
mod error;
mod filter;
mod ini;
mod layers;
mod options;
mod pattern;
mod session;
mod tags;

pub use error::Error;
pub use filter::{Filter, LogType, Options, Reading};

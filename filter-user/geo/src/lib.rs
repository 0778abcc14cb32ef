//! Says where addresses are, by databases in MaxMind's format, and which of them a policy shuts out.
//!
//! ```text
//! bytes ─ database ─▶ Database ─┬─ place ─▶ country and AS number of an address
//!                               └─ table, with a Policy ─▶ Table, for the program
//! ```
//!
//! Must never trust a database: it may be truncated, or made to cost time and memory. No clock, file, socket or
//! program: the daemon's crate reads the files.

mod database;
mod policy;
mod ranges;
mod table;
#[cfg(any(test, feature = "writer"))]
pub mod writer;

pub use self::database::{Country, Database, Place, SIZE_MAX};
pub use self::policy::{Policy, SELECTORS_MAX, Selector};
pub use self::table::{Entry, Table, V6_ENTRIES_MAX, WORDS, compile, is_subject};

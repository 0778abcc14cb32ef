//! The Ringfence daemon and command line as a library, so that tests and the lab can use its parts. The
//! crate [`detection`] defines what an attempt is and when it leads to a ban.
//!
//! ```text
//! bytes ─ source ─▶ line ─ parse ─▶ Attempt ─ jail ─▶ Sentence ─ controller ─▶ Ban ─ datapath ─▶ map
//! ```

pub use detection::{ban, challenge, duration, escalation, failure, hearing, jail, join, prefix};

pub mod check;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod control;
pub mod controller;
pub mod daemon;
pub mod datapath;
pub mod dns;
pub mod doctor;
pub mod fail2ban;
pub mod hearing_memory;
pub mod host;
pub mod jail_filter;
pub mod listing;
pub mod log_budget;
mod log_queue;
pub mod logging;
pub mod parse;
pub mod report;
pub mod source;
pub mod store;
pub mod test_log;
#[cfg(feature = "trace")]
mod trace;

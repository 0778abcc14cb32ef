//! The Ringfence controller as a library, so that tests and the lab can use its parts.
//!
//! ```text
//! bytes ─ source ─▶ line ─ parse ─▶ Attempt ─ jail ─▶ Sentence ─ controller ─▶ Ban ─ datapath ─▶ map
//! ```

pub mod ban;
pub mod challenge;
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
pub mod duration;
pub mod escalation;
pub mod fail2ban;
pub mod failure;
pub mod hearing;
pub mod host;
pub mod jail;
pub mod jail_filter;
pub mod join;
pub mod listing;
pub mod log_budget;
mod log_queue;
pub mod logging;
pub mod parse;
pub mod prefix;
pub mod report;
pub mod source;
pub mod store;
pub mod test_log;
#[cfg(feature = "trace")]
mod trace;

//! The Ringfence daemon and command line as a library, so that tests and the lab can use its parts. The crate
//! [`detection`] defines what an attempt is and when it leads to a ban; the crate [`api`] defines the daemon's
//! requests and replies.
//!
//! ```text
//! bytes ─ source ─▶ line ─ parse ─▶ Attempt ─ jail ─▶ BanDecision ─ controller ─▶ Ban ─ datapath ─▶ map
//! ```

pub use api as control;
pub use datapath;
pub use detection::{
    ban, challenge, duration, escalation, failure, hearing, jail, join, network_set, prefix,
    register, wire,
};
pub use store;

pub mod alerts;
pub mod audit;
pub mod ban_list;
pub mod beat;
pub mod capture;
pub mod check;
pub mod child;
pub mod cli;
pub mod client;
pub mod clock;
pub mod config;
pub mod confirmation;
pub mod controller;
mod curl;
pub mod daemon;
pub mod decided;
pub mod disable;
pub mod dns;
pub mod doctor;
pub mod events;
#[cfg(test)]
mod examples;
pub mod fail2ban;
mod faults;
pub mod feeds;
pub mod fleet;
pub mod geo;
pub mod host;
pub mod inputs;
pub mod jail_filter;
pub mod listed;
mod listener;
pub mod listing;
pub mod log_budget;
mod log_queue;
pub mod logging;
pub mod metrics;
pub mod orders;
pub mod page;
pub mod parse;
pub mod report;
pub mod rhythms;
mod rows;
pub mod source;
pub mod test_log;
pub mod top;
mod whole_file;
pub mod without_daemon;

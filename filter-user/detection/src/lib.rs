//! Detection: turns attempts into bans, without using a clock, a file, a socket or a map.
//!
//! ```text
//! line or event ─ parse ─▶ Attempt ─ join, challenge ─▶ jail ─▶ BanDecision ─ escalation ─▶ Ban ─ ban::Ledger ─▶ Write
//! ```
//!
//! The crates that use this one read, wait and write. They pass in the data with the time at which they
//! read it.

pub mod ban;
pub mod challenge;
pub mod clock;
pub mod duration;
pub mod escalation;
pub mod failure;
pub mod hearing;
pub mod jail;
pub mod join;
pub mod network_set;
pub mod parse;
pub mod prefix;
pub mod register;
pub mod settings;
pub mod wire;

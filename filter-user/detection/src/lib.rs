//! Detection, without a clock, a file, a socket or a map: attempts and times enter, bans leave.
//!
//! ```text
//! line or event ─ parse ─▶ Attempt ─ join, challenge ─▶ jail ─▶ BanDecision ─ escalation ─▶ Ban ─ ban::Ledger ─▶ Write
//! ```
//!
//! Everything that reads, waits or writes is in the crates above this one, which pass in what they have read
//! with the time of reading.

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

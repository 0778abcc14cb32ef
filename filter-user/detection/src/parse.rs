//! The parsers, which turn one log line or one event into an attempt.
//!
//! They are pure functions over bytes. They hold no state, open nothing and read no clock. They never
//! panic, whatever the bytes, and never take an address from text that the attacker chose while the
//! same bytes can be read in another way.
//!
//! Must never take an address from text that an attacker chose.

pub mod ami;
pub mod asterisk;
mod date_forms;
pub mod dates;
pub mod journal;
pub mod provd;
pub mod security;
mod security_event;
pub mod sshd;
pub mod suspect;
mod text;

use crate::failure::Attempt;

pub use text::{AsteriskLine, in_asterisk_line, source_address};

/// A parser of this module: takes a line without its newline, and returns the attempt that it reports,
/// if any.
pub type Function = fn(&[u8]) -> Option<Attempt>;

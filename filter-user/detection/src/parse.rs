//! The parsers: one line of a log, or one event, enters; what it says about one attempt leaves.
//!
//! They are pure functions over bytes. They hold no state, open nothing and know no clock; they
//! must never panic, whatever the bytes, and never take an address out of text that the attacker
//! chose while another reading of the same bytes is possible.

pub mod ami;
pub mod asterisk;
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

/// A parser of this module: what a line without its newline says about one attempt, if anything.
pub type Function = fn(&[u8]) -> Option<Attempt>;

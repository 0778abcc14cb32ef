//! The parsers: one line of a log, or one event, enters; what it says about one attempt leaves.
//!
//! They are pure functions over bytes. They hold no state, open nothing and know no clock; they
//! must never panic, whatever the bytes, and never take an address out of text that the attacker
//! chose while another reading of the same bytes is possible.

pub mod ami;
pub mod asterisk;
pub mod journal;
pub mod provd;
pub mod security;
mod security_event;
pub mod sshd;
pub mod suspect;
mod text;

pub(crate) use text::source_address;

use std::sync::Arc;

use crate::fail2ban::Filter;
use crate::failure::Attempt;

/// A parser of this module: what a line without its newline says about one attempt, if anything.
pub type Function = fn(&[u8]) -> Option<Attempt>;

/// What reads lines.
#[derive(Clone, Debug)]
pub enum Parser {
    /// A function of this module.
    BuiltIn(Function),
    /// A filter of fail2ban's.
    Filter(Arc<Filter>),
}

impl Parser {
    /// What a line without its newline says about one attempt, if anything.
    pub fn parse(&self, line: &[u8]) -> Option<Attempt> {
        match self {
            Self::BuiltIn(parse) => parse(line),
            Self::Filter(filter) => filter.parse(line),
        }
    }

    /// Whether it is meant to know every failure in its log. What a filter looks for is up to who wrote
    /// it.
    pub fn tells_all(&self) -> bool {
        matches!(self, Self::BuiltIn(_))
    }
}

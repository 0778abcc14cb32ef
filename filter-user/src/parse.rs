//! What reads the lines of one log: a parser of the crate `detection`, or a filter of fail2ban's.
//!
//! Parsers hold no state. [`Reader`], which reads a log in the order of its lines, remembers what they have
//! shown.

mod reader;

pub use detection::parse::{
    Function, ami, asterisk, dates, journal, provd, security, source_address, sshd, suspect,
};
pub use reader::{ASTERISK_RULES, GIVEN_UP, Reader, Said, UNDERSTOOD, why_ignored};

use std::sync::Arc;

use dates::DateFormat;
use detection::parse::in_asterisk_line;

use crate::fail2ban::{Filter, Reading};
use crate::failure::Attempt;

/// A line was not read to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp;

/// What reads lines.
#[derive(Clone, Debug)]
pub enum Parser {
    /// A function of this module.
    BuiltIn(Function),
    /// What reads Asterisk's logs, of whatever level, with dates in this format.
    Asterisk(Arc<DateFormat>),
    /// A filter of fail2ban's.
    Filter(Arc<Filter>),
}

impl Parser {
    /// What a line without its newline says about one attempt, if anything. A line of one of Asterisk's
    /// logs says more to a [`Reader`].
    pub fn parse(&self, line: &[u8]) -> Option<Attempt> {
        self.try_parse(line).unwrap_or_default()
    }

    /// The same, unless the line is given up because an expression has too many ways to match it.
    ///
    /// # Errors
    ///
    /// When it is.
    pub fn try_parse(&self, line: &[u8]) -> Result<Option<Attempt>, GivenUp> {
        Ok(match self {
            Self::BuiltIn(parse) => parse(line),
            Self::Asterisk(dates) => in_asterisk_line(line, |line| {
                asterisk::of_line(line, dates).or_else(|| security::of_line(line, dates))
            }),
            Self::Filter(filter) => match filter.read(line) {
                Reading::Failure(attempt) => Some(*attempt),
                Reading::Ignored | Reading::NoAddress | Reading::Nothing => None,
                Reading::TooComplex => return Err(GivenUp),
            },
        })
    }

    /// Whether a line can cost it much more than its length accounts for.
    pub fn can_be_slow(&self) -> bool {
        matches!(self, Self::Filter(_))
    }

    /// Whether it is meant to know every failure in its log. What a filter looks for is up to who wrote
    /// it.
    pub fn tells_all(&self) -> bool {
        matches!(self, Self::BuiltIn(_) | Self::Asterisk(_))
    }
}

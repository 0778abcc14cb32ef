//! Reads the lines of one log: with a parser of the crate `detection` or a fail2ban filter.
//!
//! Parsers have no state. [`Reader`] reads the lines of a log in order and keeps state from earlier
//! lines.
//!
//! Must never trust a log that may contain foreign text.

mod reader;

pub use detection::parse::{
    Function, ami, asterisk, dates, journal, provd, security, source_address, sshd, suspect,
};
pub use reader::{GIVEN_UP, Reader, Said, UNDERSTOOD, why_ignored};

use std::sync::Arc;

use dates::DateFormat;
use detection::parse::in_asterisk_line;

use crate::fail2ban::{Filter, Reading};
use crate::failure::Attempt;

/// An expression gave up on a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GivenUp;

/// A parser of lines.
#[derive(Clone, Debug)]
pub enum Parser {
    /// A built-in parser.
    BuiltIn(Function),
    /// The parser of Asterisk's logs of any level, with dates in this format.
    Asterisk(Arc<DateFormat>),
    /// A fail2ban filter.
    Filter(Arc<Filter>),
}

impl Parser {
    /// The attempt that a line without its newline reports, if any. A [`Reader`] gets more out of a line of
    /// Asterisk's logs.
    pub fn parse(&self, line: &[u8]) -> Option<Attempt> {
        self.try_parse(line).unwrap_or_default()
    }

    /// The same, but fails if an expression has too many ways to match the line.
    ///
    /// # Errors
    ///
    /// If an expression gives up.
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

    /// Whether a line can cost much more than its length suggests.
    pub fn can_be_slow(&self) -> bool {
        matches!(self, Self::Filter(_))
    }

    /// Whether it should recognise every failure in its log. A filter recognises whatever its author chose.
    pub fn tells_all(&self) -> bool {
        matches!(self, Self::BuiltIn(_) | Self::Asterisk(_))
    }
}

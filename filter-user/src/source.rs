//! Where the controller hears of attempts: bytes enter from files, attempts leave through a
//! channel.
//!
//! Sources do the waiting and the bookkeeping. They must never decide what a failure leads to, and
//! never end because their input is away for a while.

pub mod log_tail;
pub mod notice_log;

use crate::failure::Attempt;

/// What a source sends: attempts in the order in which they were read, and how it is.
#[derive(Debug)]
pub struct Heard {
    /// What the lines said.
    pub attempts: Vec<Attempt>,
    /// How many lines were read for it.
    pub lines: u64,
    /// How the source is now.
    pub state: SourceState,
}

/// How a source is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceState {
    /// It reads.
    Ok,
    /// There is nothing to read from yet.
    Waiting,
    /// It cannot read, for this reason; it goes on trying.
    Failed(String),
}

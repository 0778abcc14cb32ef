//! Where the controller hears of attempts: bytes enter from files, and lines leave for a parser.
//!
//! Sources do the waiting and the bookkeeping. They must never decide what a line means, and never
//! end because their input is away for a while.

pub mod log_tail;

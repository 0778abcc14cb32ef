//! The Ringfence controller as a library, so that tests and the lab can use its parts.

pub mod config;
pub mod duration;
pub mod failure;
pub mod parse;
pub mod source;

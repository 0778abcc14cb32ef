//! Places and loading of both the XDP program and the classifier.
//!
//! Must never replace a foreign program.

use anyhow::{Context as _, Result, anyhow};
use aya::programs::ProgramError;

/// Lines of the verifier's log that an error shows.
const VERIFIER_LINES: usize = 4;

/// The place of a program.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place<'a> {
    /// The interface's index.
    pub(super) index: u32,
    /// Its name.
    pub(super) name: &'a str,
    /// Its name in pins, which is an older one if it was renamed.
    pub(super) pin: &'a str,
    /// Its index in the counters.
    pub(super) slot: u32,
}

/// The result of loading a program; it may have been loaded before.
pub(super) fn loaded(result: std::result::Result<(), ProgramError>) -> Result<()> {
    match result {
        Ok(()) | Err(ProgramError::AlreadyLoaded) => Ok(()),
        Err(ProgramError::LoadError { io_error, verifier_log }) => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().rev().take(VERIFIER_LINES).collect();
            let end: Vec<&str> = lines.into_iter().rev().collect();
            Err(anyhow!(
                "the kernel's verifier refuses the program ({io_error}); the end of its log: {}",
                end.join(" / ")
            ))
        }
        Err(error) => Err(error).context("load the program"),
    }
}

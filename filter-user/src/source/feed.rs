//! The daemon's record of how a source is read: the task, the file that a pattern found, and where the
//! position is stored.

use std::path::PathBuf;

use tokio::task::AbortHandle;

/// How a source is read.
#[derive(Debug, Default)]
pub struct Feed {
    /// The key under which its position is stored.
    pub key: &'static str,
    /// The prefix of the stored position.
    pub prefix: String,
    /// The task that reads, if it can end before the daemon does.
    pub task: Option<AbortHandle>,
    /// For a file that matches a pattern.
    pub file: Option<FoundFile>,
}

/// A file that matches a pattern.
#[derive(Debug)]
pub struct FoundFile {
    /// The number of the patterns.
    pub patterns: usize,
    /// Its path.
    pub path: PathBuf,
    /// The slot in which its position is stored.
    pub slot: usize,
    /// Whether the last search did not find it.
    pub is_missing: bool,
}

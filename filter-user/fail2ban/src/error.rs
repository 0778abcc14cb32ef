//! Errors in fail2ban's files.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A place in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) path: Arc<Path>,
    /// Counted from 1; 0 for the file as a whole.
    pub(super) line: usize,
}

impl Place {
    pub(super) fn error(&self, text: impl Into<String>) -> Error {
        Error { path: self.path.to_path_buf(), line: self.line, text: text.into() }
    }
}

/// An error in one of fail2ban's files, shown as `file:line: problem; remedy`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    path: PathBuf,
    line: usize,
    text: String,
}

impl Error {
    /// An error that concerns a whole file.
    pub fn of_file(path: &Path, text: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line: 0, text: text.into() }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        write!(f, ": {}", self.text)
    }
}

impl std::error::Error for Error {}

/// Part of `text` to quote in an error, on one line.
pub(super) fn snippet(text: &str) -> String {
    const LONGEST: usize = 160;
    let mut out: String = text.chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        out.push('…');
    }
    out.replace('\n', "\\n")
}

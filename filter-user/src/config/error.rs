//! The errors in a configuration, as `file:line:column: problem; remedy`.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

/// How many errors are shown at once. More would scroll the first away.
pub const ERRORS_MAX: usize = 20;

/// One error in a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigError {
    /// The file; `None` for the command line.
    pub file: Option<PathBuf>,
    /// The line, counted from 1, if there is one.
    pub line: Option<usize>,
    /// The column in characters, counted from 1, if there is one.
    pub column: Option<usize>,
    /// The problem and the remedy.
    pub text: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.file {
            Some(file) => write!(f, "{}", file.display())?,
            None => f.write_str("command line")?,
        }
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
            if let Some(column) = self.column {
                write!(f, ":{column}")?;
            }
        }
        write!(f, ": {}", self.text)
    }
}

/// Everything that is wrong with a configuration, up to [`ERRORS_MAX`], a line each.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConfigErrors {
    errors: Vec<ConfigError>,
    omitted: bool,
}

impl ConfigErrors {
    /// The errors, in the order of the files.
    pub fn errors(&self) -> &[ConfigError] {
        &self.errors
    }

    pub(super) fn push(&mut self, error: ConfigError) {
        if self.errors.len() < ERRORS_MAX {
            self.errors.push(error);
        } else {
            self.omitted = true;
        }
    }

    pub(super) fn into_result<T>(self, value: T) -> Result<T, Self> {
        if self.errors.is_empty() { Ok(value) } else { Err(self) }
    }
}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, error) in self.errors.iter().enumerate() {
            if index > 0 {
                f.write_str("\n")?;
            }
            error.fmt(f)?;
        }
        if self.omitted {
            f.write_str("\nand more")?;
        }
        Ok(())
    }
}

impl Error for ConfigErrors {}

//! Why the store failed, and whether the file is to blame.

use std::fmt;

use rusqlite::ErrorCode;

/// A failure.
#[derive(Debug)]
pub(super) enum Failure {
    /// The file is broken: it is moved aside, and a new one is created.
    Broken(String),
    /// Most likely the disk has failed: the write is tried again.
    Retry(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broken(why) | Self::Retry(why) => f.write_str(why),
        }
    }
}

impl From<rusqlite::Error> for Failure {
    fn from(error: rusqlite::Error) -> Self {
        let advice = match error.sqlite_error_code() {
            Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
                return Self::Broken(error.to_string());
            }
            // The statements match the schema: a file that rejects them has a different one.
            None | Some(ErrorCode::Unknown | ErrorCode::TypeMismatch) => {
                return Self::Broken(format!("its tables are not the store's: {error}"));
            }
            Some(ErrorCode::DiskFull) => ": make room on its disk",
            Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
                ": make its directory writable"
            }
            Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
                ": end the other process that has it open"
            }
            Some(_) => "",
        };
        Self::Retry(format!("{error}{advice}"))
    }
}

impl From<std::io::Error> for Failure {
    fn from(error: std::io::Error) -> Self {
        Self::Retry(error.to_string())
    }
}

//! A file that is no good is moved aside, so that nothing of it is lost.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// What belongs to a file of `SQLite` besides itself.
const BESIDE: [&str; 3] = ["-wal", "-journal", "-shm"];

/// Gives the file and what belongs to it a name that says when. Returns the name.
///
/// # Errors
///
/// When its directory cannot be written.
pub(super) fn move_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let named = |n: u32| match n {
        0 => with(path, &format!(".broken-{stamp}")),
        n => with(path, &format!(".broken-{stamp}.{n}")),
    };
    let free = (0..1000).map(named).find(|name| !name.exists());
    let Some(aside) = free else { return Err(io::ErrorKind::AlreadyExists.into()) };
    // Last the file itself: until then the next try finds all that is left.
    for ending in BESIDE {
        match fs::rename(with(path, ending), with(&aside, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    Ok(aside)
}

/// The path with this at its end.
pub(super) fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

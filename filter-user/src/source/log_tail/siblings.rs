//! The files beside a log that rotation made of it.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::{Opened, open, parent};

/// The most of them that are looked at, the last written first.
const SIBLINGS_MAX: usize = 64;

/// A file that has the name of the log, or a name that rotation gave it.
#[derive(Debug)]
pub(super) struct Sibling {
    pub(super) opened: Opened,
    /// Whether the name is not the log's own.
    pub(super) rotated: bool,
    /// When it was made, where the file system knows.
    pub(super) made: Option<SystemTime>,
}

/// The log at `path` and what rotation made of it, the oldest first. Compressed files are not among
/// them.
pub(super) fn of(path: &Path) -> Vec<Sibling> {
    let path = path.canonicalize().unwrap_or_else(|_missing| path.to_owned());
    let Some(name) = path.file_name() else { return Vec::new() };
    let Ok(entries) = fs::read_dir(parent(&path)) else { return Vec::new() };
    let mut found: Vec<(SystemTime, bool, Option<SystemTime>, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            let rotated = entry.file_name() != name;
            if rotated && !is_rotated_name(name, &entry.file_name()) {
                return None;
            }
            let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
            Some((metadata.modified().ok()?, rotated, metadata.created().ok(), entry.path()))
        })
        .collect();
    found.sort();
    let surplus = found.len().saturating_sub(SIBLINGS_MAX);
    let opened = found.into_iter().skip(surplus).filter_map(|(_written, rotated, made, path)| {
        Some(Sibling { opened: open(&path).ok()?, rotated, made })
    });
    opened.collect()
}

/// Whether `other` is what rotation made of `log`, by their names.
pub fn is_rotated(log: &Path, other: &Path) -> bool {
    let names = log.file_name().zip(other.file_name());
    log.parent() == other.parent() && names.is_some_and(|(log, other)| is_rotated_name(log, other))
}

/// Whether rotation makes `other` of `name`: `log.1`, `log-20261122`, `log.2026-11-22`.
fn is_rotated_name(name: &OsStr, other: &OsStr) -> bool {
    let Some(rest) = other.as_bytes().strip_prefix(name.as_bytes()) else { return false };
    let [b'.' | b'-', number @ ..] = rest else { return false };
    number.first().is_some_and(u8::is_ascii_digit)
        && number.iter().all(|byte| byte.is_ascii_digit() || b"-_.:T".contains(byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rotation_numbers_or_dates() {
        for (other, rotated) in [
            ("log.1", true),
            ("log.12", true),
            ("log-20261122", true),
            ("log.2026-11-22", true),
            ("log.1.gz", false),
            ("log.bak", false),
            ("log.", false),
            ("log", false),
            ("logs.1", false),
            ("full.1", false),
        ] {
            assert_eq!(is_rotated_name("log".as_ref(), other.as_ref()), rotated, "{other}");
        }
    }
}

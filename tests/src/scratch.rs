//! Names of everything that a run creates outside its own memory. Each begins with `rf<pid>.`, or with
//! `rf<pid>-` on the BPF file system, which allows no dot, so that a later run can distinguish leftovers
//! of a dead run from what a live one uses.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::Context;
use nix::errno::Errno;
use nix::sys::signal;
use nix::unistd::Pid;
use tempfile::TempDir;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// A prefix that neither another run nor another part of this one uses: `rf1234.0`.
pub fn prefix() -> String {
    format!("rf{}.{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A temporary directory, removed with its contents when dropped.
///
/// # Errors
///
/// If it cannot be created.
pub fn directory(purpose: &str) -> anyhow::Result<TempDir> {
    tempfile::Builder::new()
        .prefix(&format!("{}-{purpose}-", prefix()))
        .tempdir()
        .context("make a temporary directory")
}

/// The entries in `directory` that this run has created and not removed yet.
pub fn own(directory: &Path) -> Vec<PathBuf> {
    let us = Some(Pid::this());
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let ours = entries.filter(|entry| owner(&entry.file_name().to_string_lossy()) == us);
    ours.map(|entry| entry.path()).collect()
}

/// Whether a run that is no longer alive created `name`.
pub fn is_leftover(name: &str) -> bool {
    owner(name).is_some_and(|pid| signal::kill(pid, None) == Err(Errno::ESRCH))
}

/// Removes the entries of `directory` that dead runs left there. A missing directory has no entries.
///
/// # Errors
///
/// If an entry cannot be removed.
pub fn sweep_directory(directory: &Path) -> anyhow::Result<()> {
    for name in leftovers(directory)? {
        let path = directory.join(name);
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(error).with_context(|| format!("remove {}", path.display()));
            }
            Ok(()) | Err(_) => {}
        }
    }
    Ok(())
}

/// The entries of `directory` that dead runs left there.
///
/// # Errors
///
/// If the directory exists and cannot be read.
pub fn leftovers(directory: &Path) -> anyhow::Result<Vec<String>> {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).with_context(|| format!("read {}", directory.display())),
    };
    Ok(entries
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| is_leftover(name))
        .collect())
}

fn owner(name: &str) -> Option<Pid> {
    let (pid, rest) = name.strip_prefix("rf")?.split_once(['.', '-'])?;
    rest.starts_with(|c: char| c.is_ascii_digit()).then_some(())?;
    let pid = pid.parse().ok().filter(|pid| *pid > 0)?;
    Some(Pid::from_raw(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_with_our_form_have_an_owner() {
        assert_eq!(owner("rf12.0-pbx"), Some(Pid::from_raw(12)));
        assert_eq!(owner("rf12-0-lab"), Some(Pid::from_raw(12)));
        for name in ["rf", "rf12", "rf.0-x", "rf12.x", "rf-1.0", "rf0.0-x", "xrf12.0", "rfx.0"] {
            assert_eq!(owner(name), None, "{name}");
        }
    }

    #[test]
    fn what_this_process_made_is_no_leftover() {
        assert!(!is_leftover(&prefix()));
    }

    #[test]
    fn prefixes_differ() {
        assert_ne!(prefix(), prefix());
    }
}

//! Moves a broken file aside, so that nothing in it is lost.
//!
//! Must never remove readable data.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

/// The files of `SQLite` that belong to a database file.
const BESIDE: [&str; 3] = ["-wal", "-journal", "-shm"];

/// The most files that are kept after being moved aside.
const ASIDE_MAX: usize = 8;

/// Renames the file and the files that belong to it, with the time in the new name. Returns that name.
///
/// # Errors
///
/// If its directory cannot be written.
pub(super) fn move_aside(path: &Path, now: Timestamp) -> io::Result<PathBuf> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ");
    let named = |n: u32| match n {
        0 => with(path, &format!(".broken-{stamp}")),
        n => with(path, &format!(".broken-{stamp}.{n}")),
    };
    let free = (0..1000).map(named).find(|name| !name.exists());
    let Some(aside) = free else { return Err(io::ErrorKind::AlreadyExists.into()) };
    // The file itself comes last: until then, the next try finds everything that is left.
    for ending in BESIDE {
        match fs::rename(with(path, ending), with(&aside, ending)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    fs::rename(path, &aside)?;
    forget_oldest(path);
    Ok(aside)
}

/// Removes the oldest of the files that were moved aside if there are too many: a cause that breaks the
/// file repeatedly must not fill the disk.
fn forget_oldest(path: &Path) {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return };
    let beginning = format!("{}.broken-", name.to_string_lossy());
    let names = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut aside: Vec<String> = names
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| name.starts_with(&beginning))
        .filter(|name| !BESIDE.iter().any(|ending| name.ends_with(ending)))
        .collect();
    aside.sort_unstable();
    let surplus = aside.len().saturating_sub(ASIDE_MAX);
    for name in aside.drain(..surplus) {
        let file = directory.join(name);
        for file in BESIDE.map(|ending| with(&file, ending)).iter().chain([&file]) {
            // A file that cannot be removed is tried again next time.
            drop(fs::remove_file(file));
        }
    }
}

/// The path with this suffix.
pub(super) fn with(path: &Path, ending: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(ending);
    PathBuf::from(name)
}

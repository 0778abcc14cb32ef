//! The files beside a log that rotation has made of it.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use super::files::{FileId, Opened, open, parent};

/// The most of them that are read, the most recently written first.
pub(super) const SIBLINGS_MAX: usize = 64;

/// A file with the name of the log, or a name that rotation has given it.
#[derive(Debug)]
pub(super) struct Sibling {
    pub(super) opened: Opened,
    /// Whether the name is not the log's own.
    pub(super) rotated: bool,
    /// When it was created, if the file system records this.
    pub(super) made: Option<SystemTime>,
}

/// A file that is read no more. The inode of a deleted file may be used again, at once, so its identity is not
/// enough.
#[derive(Debug)]
pub(super) struct Ended {
    id: FileId,
    /// When it was created, if the file system records this.
    made: Option<SystemTime>,
}

impl Ended {
    pub(super) fn new(id: FileId, file: &File) -> Self {
        Self { id, made: file.metadata().and_then(|metadata| metadata.created()).ok() }
    }

    /// Whether it is this file.
    pub(super) fn is(&self, sibling: &Sibling) -> bool {
        self.id == sibling.opened.id && self.made == sibling.made
    }
}

/// A file in the directory.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Found {
    written: SystemTime,
    rotated: bool,
    made: Option<SystemTime>,
    path: PathBuf,
    device: u64,
    inode: u64,
}

/// The log at `places` and the files that rotation has made of it, the oldest first. A copy may be beside
/// a symbolic link or beside its target. Compressed files are left out.
pub(super) fn of(places: &[PathBuf]) -> Vec<Sibling> {
    let mut found = Vec::new();
    for place in places {
        let Some(name) = place.file_name() else { continue };
        found.extend(in_directory(parent(place), |other| {
            if other == name { Some(false) } else { is_rotated_name(name, other).then_some(true) }
        }));
    }
    open_last(found)
}

/// The files to which a symbolic link may have led between `old` and `new`, if both are in one directory
/// and differ only in a number or a date: files with similar names that were created before the new one,
/// and the files that rotation has made of these.
pub(super) fn between(old: &Path, new: &Path) -> Vec<Sibling> {
    let Some(wanted) = new.file_name().map(shape) else { return Vec::new() };
    let is_like = |name: &OsStr| shape(name) == wanted;
    let alike = names(old).iter().filter_map(|old| old.file_name()).any(is_like);
    if old == new || !alike || old.parent() != new.parent() {
        return Vec::new();
    }
    let Ok(last) = fs::metadata(new).and_then(|metadata| metadata.created()) else {
        return Vec::new();
    };
    let mut found = in_directory(parent(new), |name| {
        (is_like(name) || before_rotation(name).any(is_like)).then_some(true)
    });
    found.retain(|found| found.path != new && found.made.is_some_and(|made| made <= last));
    // Within a tick of the clock, by their numbers.
    found
        .sort_by_cached_key(|found| (found.made, found.path.as_os_str().len(), found.path.clone()));
    let surplus = found.len().saturating_sub(SIBLINGS_MAX);
    found.into_iter().skip(surplus).filter_map(Found::open).collect()
}

/// Whether a file of the name `other` may be among the results of [`of`] or [`between`] for `name`.
pub(super) fn may_be_sibling(name: &OsStr, other: &OsStr) -> bool {
    let is_like = |other: &OsStr| shape(other) == shape(name);
    is_like(other) || before_rotation(other).any(is_like)
}

/// The files of a directory for whose name `wanted` returns whether it is a rotated one.
fn in_directory(directory: &Path, wanted: impl Fn(&OsStr) -> Option<bool>) -> Vec<Found> {
    let Ok(entries) = fs::read_dir(directory) else { return Vec::new() };
    let found = entries.flatten().filter_map(|entry| {
        let rotated = wanted(&entry.file_name())?;
        let metadata = entry.metadata().ok().filter(fs::Metadata::is_file)?;
        Some(Found {
            written: metadata.modified().ok()?,
            rotated,
            made: metadata.created().ok(),
            path: entry.path(),
            device: metadata.dev(),
            inode: metadata.ino(),
        })
    });
    found.collect()
}

fn open_last(mut found: Vec<Found>) -> Vec<Sibling> {
    found.sort();
    let mut known = BTreeSet::new();
    // Two paths may lead to one directory.
    found.retain(|found| known.insert((found.device, found.inode)));
    let surplus = found.len().saturating_sub(SIBLINGS_MAX);
    found.into_iter().skip(surplus).filter_map(Found::open).collect()
}

impl Found {
    fn open(self) -> Option<Sibling> {
        let opened = open(&self.path).ok()?;
        let is_it = opened.id == FileId { device: self.device, inode: self.inode };
        is_it.then_some(Sibling { opened, rotated: self.rotated, made: self.made })
    }
}

/// A name with a placeholder for each number in it.
fn shape(name: &OsStr) -> OsString {
    let mut shape = Vec::new();
    for byte in name.as_bytes() {
        let byte = if byte.is_ascii_digit() { b'0' } else { *byte };
        if byte != b'0' || shape.last() != Some(&b'0') {
            shape.push(byte);
        }
    }
    OsStr::from_bytes(&shape).to_owned()
}

/// Whether, by its name, rotation has made `other` from `log`.
pub fn is_rotated(log: &Path, other: &Path) -> bool {
    let names = log.file_name().zip(other.file_name());
    log.parent() == other.parent() && names.is_some_and(|(log, other)| is_rotated_name(log, other))
}

/// A path, and those from which rotation may have made it.
pub(super) fn names(path: &Path) -> Vec<PathBuf> {
    unrotated(path).chain([path.to_owned()]).collect()
}

/// The paths from which rotation may have made a path.
pub fn unrotated(path: &Path) -> impl Iterator<Item = PathBuf> {
    let names = path.file_name().into_iter().flat_map(before_rotation);
    names.map(|name| path.with_file_name(name))
}

/// The names from which rotation may have made `name`.
fn before_rotation(name: &OsStr) -> impl Iterator<Item = &OsStr> {
    let bytes = name.as_bytes();
    let ends = (1..bytes.len()).filter(|end| is_rotation(&bytes[*end..]));
    ends.map(|end| OsStr::from_bytes(&bytes[..end]))
}

/// Whether rotation makes `other` from `name`: `log.1`, `log-20261122`, `log.2026-11-22`.
fn is_rotated_name(name: &OsStr, other: &OsStr) -> bool {
    other.as_bytes().strip_prefix(name.as_bytes()).is_some_and(is_rotation)
}

/// Whether it is a suffix that rotation adds to a name.
fn is_rotation(rest: &[u8]) -> bool {
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
            let before: Vec<_> = before_rotation(other.as_ref()).collect();
            assert_eq!(before.contains(&OsStr::new("log")), rotated, "{other}");
        }
    }

    #[test]
    fn as_many_are_found_by_two_ways_as_by_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        for number in 0..=SIBLINGS_MAX {
            fs::write(log.with_added_extension(number.to_string()), "a line\n").unwrap();
        }
        let other_way = dir.path().join("..").join(dir.path().file_name().unwrap()).join("log");
        let places = [log, other_way];
        assert_eq!(of(&places).len(), SIBLINGS_MAX);
        assert_eq!(of(&places[..1]).len(), SIBLINGS_MAX);
    }

    #[test]
    fn a_file_that_has_the_inode_of_another_is_not_that_one() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("log");
        fs::write(&log, "a line\n").unwrap();
        let mut siblings = of(&[log]);
        let sibling = siblings.first_mut().unwrap();
        let ended = Ended::new(sibling.opened.id, &sibling.opened.file);
        assert!(ended.is(sibling));
        sibling.made = sibling.made.map(|made| made + std::time::Duration::from_nanos(1));
        assert!(!ended.is(sibling));
        sibling.made = ended.made;
        sibling.opened.id.inode += 1;
        assert!(!ended.is(sibling));
    }

    #[test]
    fn names_that_differ_in_numbers_have_one_shape() {
        let same = |one: &str, other: &str| shape(one.as_ref()) == shape(other.as_ref());
        assert!(same("app-2026-11-28.log", "app-2026-11-29.log"));
        assert!(same("app-9.log", "app-10.log"));
        assert!(!same("app-1.log", "web-1.log"));
        assert!(!same("app-1.log", "app-1.log.gz"));
    }
}

//! A position in a log, for storage: the identities of files, their beginnings, and how far they were
//! read.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// How many bytes of a file's beginning are remembered. A line of a log begins with its date, so this
/// identifies the file.
const PREFIX_MAX: usize = 128;

/// The most files that a stored position may contain.
const FILES_MAX: usize = 64;

/// The longest path of a file that is kept.
const PATH_MAX: usize = 1024;

/// A position in a log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// When the names were last read, in microseconds of the Unix epoch.
    at: u64,
    /// The files, the oldest first.
    pub(super) files: Vec<FilePosition>,
    /// Devices and inodes of files that may be copies in the making.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) undecided: Vec<(u64, u64)>,
    /// The file that the log led to before these appeared, if it is behind a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) target: Option<String>,
}

impl Position {
    pub(super) fn new(at: SystemTime, files: Vec<FilePosition>) -> Self {
        let at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        let at = u64::try_from(at).unwrap_or(u64::MAX);
        Self { at, files, undecided: Vec::new(), target: None }
    }

    /// The file that the log led to when all files were decided, if it is behind a symbolic link.
    pub(super) fn target(&self) -> Option<&str> {
        let last = || self.files.last().and_then(|file| file.path.as_deref());
        self.target.as_deref().or_else(last)
    }

    pub(super) fn at(&self) -> SystemTime {
        UNIX_EPOCH.checked_add(Duration::from_micros(self.at)).unwrap_or(UNIX_EPOCH)
    }

    /// How many bytes of all files have been delivered.
    #[cfg(test)]
    pub(in crate::source) fn delivered(&self) -> u64 {
        self.files.iter().map(|file| file.offset).sum()
    }

    /// As one line of JSON.
    pub fn to_text(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// The inverse of [`to_text`](Self::to_text); `None` for anything else.
    pub fn from_text(text: &str) -> Option<Self> {
        let position: Self = serde_json::from_str(text).ok()?;
        let fits = |file: &FilePosition| file.prefix.0.len() <= PREFIX_MAX;
        let is_bounded = position.files.len().max(position.undecided.len()) <= FILES_MAX;
        (is_bounded && position.files.iter().all(fits)).then_some(position)
    }
}

/// A path for storage, unless it is too long or not UTF-8.
pub(super) fn kept_path(path: &Path) -> Option<String> {
    path.to_str().filter(|path| path.len() <= PATH_MAX).map(str::to_owned)
}

/// A file and how far it was read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilePosition {
    pub(super) device: u64,
    pub(super) inode: u64,
    /// The offset after the last line that was delivered.
    pub(super) offset: u64,
    /// Whether the rest of a line follows, which is left out.
    pub(super) in_mid_line: bool,
    pub(super) prefix: Prefix,
    /// The path of the file, if the log is behind a symbolic link.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) path: Option<String>,
}

/// The beginning of a file, which distinguishes it from others with its inode, and identifies its copy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prefix(Vec<u8>);

impl Prefix {
    /// The beginning of `file`, which is `size` bytes long.
    pub(super) fn of(file: &File, size: u64) -> Self {
        let mut prefix = Self::default();
        prefix.extend(file, size);
        prefix
    }

    /// Whether no other file can have this beginning: a line has a date, but a part of one may not.
    pub(super) fn identifies(&self) -> bool {
        self.0.len() == PREFIX_MAX || self.0.contains(&b'\n')
    }

    /// Adds more of the beginning of `file`, which is `size` bytes long, unless the beginning differs:
    /// the file may just have been truncated.
    pub(super) fn extend(&mut self, file: &File, size: u64) {
        let wanted = usize::try_from(size).unwrap_or(PREFIX_MAX).min(PREFIX_MAX);
        if self.0.len() < wanted {
            let longer = first(file, wanted);
            if longer.starts_with(&self.0) {
                self.0 = longer;
            }
        }
    }

    /// Whether it starts with the shorter one.
    pub(super) fn begins_with(&self, shorter: &Self) -> bool {
        self.0.starts_with(&shorter.0)
    }

    /// Whether `file` is an incomplete beginning of this: it may be a copy in the making.
    pub(super) fn may_become(&self, file: &File) -> bool {
        let begins = first(file, self.0.len());
        begins.len() < self.0.len() && self.0.starts_with(&begins)
    }

    /// Whether `file` has this beginning.
    pub(super) fn is_of(&self, file: &File) -> bool {
        first(file, self.0.len()) == self.0
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The first `length` bytes, or all if there are fewer.
fn first(file: &File, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    let mut read = 0;
    while read < length {
        match file.read_at(&mut bytes[read..], read as u64) {
            Ok(0) | Err(_) => break,
            Ok(more) => read += more,
        }
    }
    bytes.truncate(read);
    bytes
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn is_read_back() {
        let prefix = Prefix(b"[2026-11-22 09:32:21.1220] \xff\n".to_vec());
        let file = FilePosition {
            device: 1,
            inode: u64::MAX,
            offset: 7,
            in_mid_line: true,
            prefix,
            path: None,
        };
        let linked = FilePosition { path: Some("/srv/log/a".to_owned()), ..file.clone() };
        let at = UNIX_EPOCH + Duration::from_micros(1_700_000_000_123_456);
        let mut position = Position::new(at, vec![file, linked]);
        assert_eq!((position.at(), position.target()), (at, Some("/srv/log/a")));
        (position.undecided, position.target) = (vec![(1, 2)], Some("/srv/log/b".to_owned()));
        assert_eq!(position.target(), Some("/srv/log/b"));
        assert_eq!(Position::from_text(&position.to_text()), Some(position));
    }

    proptest! {
        #[test]
        fn other_text_is_none(text: String, length in 129_usize..200) {
            prop_assert_eq!(Position::from_text(&text), None);
            let prefix = Prefix(vec![0; length]);
            let file = FilePosition { device: 1, inode: 2, offset: 7, in_mid_line: false, prefix, path: None };
            let position = Position::new(UNIX_EPOCH, vec![file]);
            prop_assert_eq!(Position::from_text(&position.to_text()), None);
        }
    }
}

//! Finds the rest of a file that was truncated: in its copy.

use std::io;
use std::path::PathBuf;

use super::files::{FileId, Opened, path_of};
use super::lines::LineSplitter;
use super::position::Prefix;
use super::siblings::{self, Ended};
use super::{FilePosition, LogTail, RENAME_RETRIES};

impl LogTail {
    /// Continues in a file of an earlier process. If it was truncated meanwhile, first in its copy, and
    /// then in the lines that were written since.
    pub(super) fn find(&mut self, wanted: &FilePosition) -> io::Result<()> {
        let mut places = self.places();
        places.extend(wanted.path.iter().flat_map(|path| siblings::names(path.as_ref())));
        let (rest, anew) = self.while_unchanged(|| rest_and_anew(wanted, &places))?;
        match rest {
            Copy::Rest(rest) => {
                let lines = if wanted.in_mid_line {
                    LineSplitter::in_mid_line()
                } else {
                    LineSplitter::default()
                };
                self.go_on(rest, wanted.offset, lines, wanted.prefix.clone(), self.files.len());
            }
            Copy::Read(ended) => self.let_go.push(ended),
            Copy::None => self.state.missed += u64::from(wanted.offset > 0),
        }
        if let Some(anew) = anew {
            self.read_on(anew, self.files.len());
        }
        Ok(())
    }

    /// The result of `look` at the directories while no name in them changes, because a file that is
    /// renamed while a directory is read may be missed. If they keep changing, the last result.
    fn while_unchanged<T>(&mut self, look: impl Fn() -> T) -> io::Result<T> {
        let mut retries = RENAME_RETRIES;
        loop {
            self.drain_events()?;
            let version = self.version();
            let seen = look();
            self.drain_events()?;
            if self.version() == version || retries == 0 {
                return Ok(seen);
            }
            retries -= 1;
        }
    }

    /// Reads the unread rest of a truncated file from its copy, if there is one.
    pub(super) fn find_copy(
        &mut self,
        place: usize,
        prefix: Prefix,
        position: u64,
        lines: LineSplitter,
    ) -> io::Result<bool> {
        if !prefix.identifies() {
            // Nothing was delivered, so the copy is read like a file that was never seen.
            return Ok(true);
        }
        let mut places = self.places();
        // The name may lead to another file by now.
        let truncated = self.files.get(place).and_then(|file| path_of(&file.file));
        places.extend(truncated.iter().flat_map(|path| siblings::names(path)));
        let look = || {
            let siblings = siblings::of(&places).into_iter().map(|sibling| sibling.opened);
            Copy::among(siblings, &prefix, position)
        };
        match self.while_unchanged(look)? {
            Copy::Rest(copy) => self.go_on(copy, position, lines, prefix, place),
            Copy::Read(ended) => self.let_go.push(ended),
            Copy::None => return Ok(false),
        }
        Ok(true)
    }
}

/// The unread rest of a file that was truncated.
#[derive(Debug)]
enum Copy {
    /// The rest is in this file.
    Rest(Opened),
    /// There is none: all of this copy was read before the file was truncated.
    Read(Ended),
    /// There is no copy.
    None,
}

impl Copy {
    /// Finds the copy of a file that began with `prefix` and was read up to `position`.
    fn among(others: impl Iterator<Item = Opened>, prefix: &Prefix, position: u64) -> Self {
        if !prefix.identifies() {
            return Self::None;
        }
        let mut read = Self::None;
        for other in others {
            if other.size >= position && prefix.is_of(&other.file) {
                return Self::Rest(other);
            }
            let begins = Prefix::of(&other.file, other.size);
            if other.size < position && begins.identifies() && prefix.begins_with(&begins) {
                read = Self::Read(Ended::new(other.id, &other.file));
            }
        }
        read
    }
}

/// Where to continue after `wanted`, and the file that was truncated since, to read from its beginning.
fn rest_and_anew(wanted: &FilePosition, places: &[PathBuf]) -> (Copy, Option<Opened>) {
    let id = FileId { device: wanted.device, inode: wanted.inode };
    let mut siblings: Vec<_> =
        siblings::of(places).into_iter().map(|sibling| sibling.opened).collect();
    let same = siblings.iter().position(|sibling| sibling.id == id);
    match same.map(|place| siblings.swap_remove(place)) {
        Some(same) if same.size >= wanted.offset && wanted.prefix.is_of(&same.file) => {
            (Copy::Rest(same), None)
        }
        same => (Copy::among(siblings.into_iter(), &wanted.prefix, wanted.offset), same),
    }
}

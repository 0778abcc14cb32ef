//! The logs of your own jails: which slot each file has.
//!
//! Files come and go, and the store keeps few positions. So a position is stored under the number of a
//! slot, together with its file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most files that all such jails together may read.
pub(super) const FILES_MAX: usize = 128;

/// A file that a jail reads.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct File {
    pub(super) jail: &'static str,
    pub(super) path: PathBuf,
}

/// The slots.
#[derive(Debug, Default)]
pub(super) struct Slots {
    taken: BTreeMap<usize, File>,
    /// The files that the previous process read, each with its slot and position.
    before: BTreeMap<(String, PathBuf), (usize, String)>,
}

impl Slots {
    /// Creates the slots from the positions that an earlier process stored; `load` finds one by its key.
    pub(super) fn new(load: impl Fn(&str) -> Option<String>) -> Self {
        let before = (0..FILES_MAX).filter_map(|slot| {
            let kept = load(&key(slot))?;
            let (jail, rest) = kept.split_once('\n')?;
            let (path, position) = rest.split_once('\n')?;
            Some(((jail.to_owned(), path.into()), (slot, position.to_owned())))
        });
        Self { taken: BTreeMap::new(), before: before.collect() }
    }

    /// Whether an earlier process read a log of this jail.
    pub(super) fn is_known(&self, jail: &str) -> bool {
        self.before.keys().any(|(known, _)| known == jail)
    }

    /// Assigns a slot to a file, and returns the earlier position in the file, if there is one. `None` if
    /// all slots are taken.
    pub(super) fn take(&mut self, file: File) -> Option<(usize, Option<String>)> {
        let known = (file.jail.to_owned(), file.path.clone());
        let (slot, position) = match self.before.remove(&known) {
            Some((slot, position)) if !self.taken.contains_key(&slot) => (slot, Some(position)),
            Some((_, position)) => (self.free()?, Some(position)),
            None => (self.free()?, None),
        };
        self.taken.insert(slot, file);
        Some((slot, position))
    }

    /// A free slot, if possible one that no file had before.
    fn free(&self) -> Option<usize> {
        let had = |slot: &usize| self.before.values().any(|(before, _)| before == slot);
        let free = || (0..FILES_MAX).filter(|slot| !self.taken.contains_key(slot));
        free().find(|slot| !had(slot)).or_else(|| free().next())
    }

    /// Frees a slot whose file is no longer read.
    pub(super) fn leave(&mut self, slot: usize) {
        self.taken.remove(&slot);
    }
}

/// The key under which the position of a slot is stored.
pub(super) fn key(slot: usize) -> String {
    format!("file-{slot}")
}

/// The prefix of a stored position, which names its file.
pub(super) fn of(jail: &str, path: &Path) -> String {
    format!("{jail}\n{}\n", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(jail: &'static str, path: &str) -> File {
        File { jail, path: path.into() }
    }

    #[test]
    fn files_keep_their_slots_and_positions() {
        let mut positions = BTreeMap::new();
        for (slot, path) in [(0, "/a"), (1, "/b")] {
            let kept = format!("{}at {path}", of("web", Path::new(path)));
            positions.insert(key(slot), kept);
        }
        positions.insert(key(2), "nonsense".to_owned());
        let mut slots = Slots::new(|key| positions.get(key).cloned());
        assert!(slots.is_known("web") && !slots.is_known("ftp"));
        // A new file does not take a slot whose earlier file may come back.
        assert_eq!(slots.take(file("web", "/c")), Some((2, None)));
        assert_eq!(slots.take(file("web", "/b")), Some((1, Some("at /b".to_owned()))));
        assert_eq!(slots.take(file("ftp", "/a")), Some((3, None)));
        slots.leave(1);
        assert_eq!(slots.take(file("web", "/b")), Some((1, None)));
    }

    #[test]
    fn slots_come_to_an_end() {
        let mut slots = Slots::default();
        let taken = (0..200).filter(|n| slots.take(file("web", &format!("/{n}"))).is_some());
        assert_eq!(taken.count(), FILES_MAX);
    }
}

//! The logs of the administrator's own jails: which file is read in which slot.
//!
//! Files come and go, and the store keeps few positions. So a position is kept by the number of a slot,
//! together with the file that it is of.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The most files of all such jails together.
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
    /// The files of the last process, each with its slot and its position.
    before: BTreeMap<(String, PathBuf), (usize, String)>,
}

impl Slots {
    /// With what an earlier process has left, which `load` finds by the key of a position.
    pub(super) fn new(load: impl Fn(&str) -> Option<String>) -> Self {
        let before = (0..FILES_MAX).filter_map(|slot| {
            let kept = load(&key(slot))?;
            let (jail, rest) = kept.split_once('\n')?;
            let (path, position) = rest.split_once('\n')?;
            Some(((jail.to_owned(), path.into()), (slot, position.to_owned())))
        });
        Self { taken: BTreeMap::new(), before: before.collect() }
    }

    /// Whether an earlier process has read a log of this jail.
    pub(super) fn is_known(&self, jail: &str) -> bool {
        self.before.keys().any(|(known, _)| known == jail)
    }

    /// A slot for a file, and where the earlier process was in it; `None` if all are taken.
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

    /// One that nobody has, and if possible nobody had.
    fn free(&self) -> Option<usize> {
        let had = |slot: &usize| self.before.values().any(|(before, _)| before == slot);
        let free = || (0..FILES_MAX).filter(|slot| !self.taken.contains_key(slot));
        free().find(|slot| !had(slot)).or_else(|| free().next())
    }

    /// The file of this slot is not read any more.
    pub(super) fn leave(&mut self, slot: usize) {
        self.taken.remove(&slot);
    }
}

/// What the position of a slot is kept by.
pub(super) fn key(slot: usize) -> String {
    format!("file-{slot}")
}

/// What stands before the position in a slot: the file that it is of.
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
        // A new file leaves alone what may come yet.
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

//! How far each source has been read, over restarts.
//!
//! A source says with what it sends where it stands then; once the controller has heard that, it is
//! written down, at most once a second and at the end. So nothing is lost, and after a crash the last
//! second is read again: what it had led to, bans aside, ended with the process.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// How often places are written down at most.
const SAVE: Duration = Duration::from_secs(1);

/// The longest place that is believed, in bytes.
const PLACE_MAX: u64 = 64 * 1024;

/// Where places are kept: text by the name of its source.
pub trait Shelf: Send {
    /// The place of a source, if one is kept that can be read.
    fn load(&self, source: &str) -> Option<String>;

    /// Keeps places, in place of the old ones. A reader finds each as it was or as it is.
    ///
    /// # Errors
    ///
    /// When they cannot be written: what it tried.
    fn save(&mut self, places: &BTreeMap<&'static str, String>) -> io::Result<()>;
}

/// A directory with a file for each source.
#[derive(Clone, Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The files are in `path`, which must be there when one is written.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn file(&self, source: &str) -> PathBuf {
        self.0.join(format!("{source}.position"))
    }
}

impl Shelf for Directory {
    fn load(&self, source: &str) -> Option<String> {
        let file = self.file(source);
        let size = fs::metadata(&file).ok()?.len();
        (size <= PLACE_MAX).then(|| fs::read_to_string(file).ok()).flatten()
    }

    fn save(&mut self, places: &BTreeMap<&'static str, String>) -> io::Result<()> {
        for (source, place) in places {
            let file = self.file(source);
            let new = file.with_extension("new");
            let write = fs::write(&new, place).and_then(|()| fs::rename(&new, &file));
            write.map_err(|error| {
                io::Error::new(error.kind(), format!("write {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }
}

/// The places of all sources.
pub struct Bookmarks {
    shelf: Box<dyn Shelf>,
    unsaved: BTreeMap<&'static str, String>,
    saved_at: Option<Instant>,
}

impl Bookmarks {
    /// Those that are kept on `shelf`.
    pub fn new(shelf: impl Shelf + 'static) -> Self {
        Self { shelf: Box::new(shelf), unsaved: BTreeMap::new(), saved_at: None }
    }

    /// The place of a source when the last process ended.
    pub fn load(&self, source: &str) -> Option<String> {
        self.shelf.load(source)
    }

    /// What a source has sent up to `place` is dealt with.
    pub fn reach(&mut self, source: &'static str, place: String) {
        self.unsaved.insert(source, place);
    }

    /// When [`save`](Self::save) is due.
    pub fn next_save(&self) -> Option<Instant> {
        let due = self.saved_at.map_or_else(Instant::now, |saved| saved + SAVE);
        (!self.unsaved.is_empty()).then_some(due)
    }

    /// Writes down what is new. Tried again after a while if it fails.
    ///
    /// # Errors
    ///
    /// When it cannot be written: what, and why.
    pub fn save(&mut self) -> io::Result<()> {
        self.saved_at = Some(Instant::now());
        if !self.unsaved.is_empty() {
            self.shelf.save(&self.unsaved)?;
            self.unsaved.clear();
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_kept_once_a_second_and_at_the_end() {
        let directory = tempfile::tempdir().unwrap();
        let shelf = Directory::new(directory.path());
        let mut bookmarks = Bookmarks::new(shelf.clone());
        assert_eq!((bookmarks.load("sshd"), bookmarks.next_save()), (None, None));
        bookmarks.reach("sshd", "one".to_owned());
        assert!(bookmarks.next_save().unwrap() <= Instant::now());
        bookmarks.save().unwrap();
        bookmarks.reach("sshd", "two".to_owned());
        bookmarks.reach("wazo-provd", "three".to_owned());
        assert!(bookmarks.next_save().unwrap() > Instant::now() + SAVE / 2);
        assert_eq!(bookmarks.load("sshd").as_deref(), Some("one"));
        bookmarks.save().unwrap();
        assert_eq!(shelf.load("sshd").as_deref(), Some("two"));
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn what_cannot_be_written_is_kept_for_later() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let mut bookmarks = Bookmarks::new(Directory::new(&state));
        bookmarks.reach("sshd", "one".to_owned());
        assert!(bookmarks.save().unwrap_err().to_string().contains("sshd.position"));
        fs::create_dir(&state).unwrap();
        bookmarks.save().unwrap();
        assert_eq!(bookmarks.load("sshd").as_deref(), Some("one"));
    }
}

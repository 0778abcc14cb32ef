//! Keeps the rhythms of the sources across restarts, in one small JSON file.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::hearing::{Observed, Rhythm, key};
use crate::whole_file;

/// The shortest time between two writes, except at a shutdown.
const SAVE: Duration = Duration::from_mins(1);

/// The longest file that is read, in bytes. A file has a few hundred bytes for each source, plus the paths
/// of the logs.
const FILE_MAX: u64 = 2 * 1024 * 1024;

/// The file and its content.
#[derive(Debug)]
pub struct Rhythms {
    file: PathBuf,
    known: BTreeMap<String, Known>,
    saved_at: Instant,
}

/// The content of the file about one source.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct Known {
    lines: Rhythm,
    rules: BTreeMap<String, KnownRule>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
struct KnownRule {
    hits: Rhythm,
    lines_then: u64,
}

impl Rhythms {
    /// Loads the file in `directory`. If it is missing or unreadable, everything is learned again.
    pub fn load(directory: &Path) -> Self {
        let file = directory.join("hearing.json");
        let small = fs::metadata(&file).is_ok_and(|metadata| metadata.len() <= FILE_MAX);
        let bytes = if small { fs::read(&file).unwrap_or_default() } else { Vec::new() };
        let known = serde_json::from_slice(&bytes).unwrap_or_default();
        Self { file, known, saved_at: Instant::now() }
    }

    /// Gives a source, which reads `place`, its known rhythms.
    pub fn recall(&self, source: &str, place: &str, observed: &mut Observed) {
        let Some(known) = self.known.get(&key(source, place)) else { return };
        observed.lines = known.lines;
        for rule in &mut observed.rules {
            if let Some(known) = known.rules.get(rule.name) {
                (rule.hits, rule.lines_then) = (known.hits, known.lines_then);
            }
        }
    }

    /// Whether it is time to save [`changes`](Self::changes).
    pub fn is_due(&self) -> bool {
        self.saved_at.elapsed() >= SAVE
    }

    /// The data to save, if it has changed. Each source is given with its name and place.
    pub fn changes<'a>(
        &mut self,
        all_observed: impl Iterator<Item = (&'a str, &'a str, &'a Observed)>,
    ) -> Option<Keep> {
        self.saved_at = Instant::now();
        let known: BTreeMap<String, Known> = all_observed
            .map(|(source, place, observed)| (key(source, place), Known::of(observed)))
            .collect();
        if known == self.known {
            return None;
        }
        self.known.clone_from(&known);
        Some(Keep { file: self.file.clone(), known })
    }

    /// Records that saving has failed.
    pub fn was_not_kept(&mut self) {
        self.known.clear();
    }
}

/// The data to save.
#[derive(Debug)]
pub struct Keep {
    file: PathBuf,
    known: BTreeMap<String, Known>,
}

impl Keep {
    /// Writes the file atomically.
    ///
    /// # Errors
    ///
    /// Why which file cannot be written.
    pub fn run(&self) -> io::Result<()> {
        whole_file::replace(&self.file, &serde_json::to_vec(&self.known)?)
    }
}

impl Known {
    fn of(observed: &Observed) -> Self {
        let rules = observed.rules.iter().map(|rule| {
            let known = KnownRule { hits: rule.hits, lines_then: rule.lines_then };
            (rule.name.to_owned(), known)
        });
        Self { lines: observed.lines, rules: rules.collect() }
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn observed() -> Observed {
        Observed::new(&["one", "two"])
    }

    #[test]
    fn hits_and_times_outlive_a_restart() {
        let directory = tempfile::tempdir().unwrap();
        let mut rhythms = Rhythms::load(directory.path());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let mut heard = observed();
        heard.lines.note(7, now, now);
        heard.rules[1].hits.note(3, now, now);
        heard.rules[1].lines_then = 7;
        let all_observed = || std::iter::once(("sshd", "journalctl", &heard));
        rhythms.changes(all_observed()).unwrap().run().unwrap();
        assert!(rhythms.changes(all_observed()).is_none());
        let again = Rhythms::load(directory.path());
        let mut recalled = observed();
        again.recall("sshd", "/var/log/auth.log", &mut recalled);
        assert_eq!((recalled.lines, &recalled.rules), (heard.lines, &heard.rules));
        let mut other = observed();
        again.recall("wazo-provd", "journalctl", &mut other);
        assert_eq!(other.lines, Rhythm::default());
    }

    #[test]
    fn two_files_of_one_jail_have_rhythms_of_their_own() {
        let directory = tempfile::tempdir().unwrap();
        let mut rhythms = Rhythms::load(directory.path());
        let now = Timestamp::from_second(1_700_000_000).unwrap();
        let (mut often, mut seldom) = (observed(), observed());
        often.lines.note(1000, now, now);
        seldom.lines.note(1, now, now);
        let all_observed = [("web", "/var/log/a", &often), ("web", "/var/log/b", &seldom)];
        rhythms.changes(all_observed.into_iter()).unwrap().run().unwrap();
        for (path, lines) in [("/var/log/a", 1000), ("/var/log/b", 1), ("/var/log/c", 0)] {
            let mut recalled = observed();
            Rhythms::load(directory.path()).recall("web", path, &mut recalled);
            assert_eq!(recalled.lines.count, lines, "{path}");
        }
        // As they were kept when a jail had one rhythm: known of no file.
        fs::write(&rhythms.file, "{\"web\": {\"lines\": {\"count\": 7}}}").unwrap();
        let mut recalled = observed();
        Rhythms::load(directory.path()).recall("web", "/var/log/a", &mut recalled);
        assert_eq!(recalled.lines.count, 0);
    }

    #[test]
    fn a_file_that_is_no_good_is_as_none() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("hearing.json");
        for text in ["", "[]", "{\"sshd\": 7}", "{\"sshd\": {\"lines\": {\"first\": \"x\"}}}"] {
            fs::write(&file, text).unwrap();
            let mut recalled = observed();
            Rhythms::load(directory.path()).recall("sshd", "x", &mut recalled);
            assert_eq!(recalled.lines, Rhythm::default(), "{text}");
        }
        let mut heard = observed();
        heard.lines.count = 1;
        let mut rhythms = Rhythms::load(&directory.path().join("nowhere"));
        let all_observed = || std::iter::once(("sshd", "x", &heard));
        let error = rhythms.changes(all_observed()).unwrap().run().unwrap_err();
        assert!(error.to_string().contains("hearing.json"), "{error}");
        rhythms.was_not_kept();
        assert!(rhythms.changes(all_observed()).is_some());
    }
}

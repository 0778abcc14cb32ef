//! Finds the logs that match a pattern.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use glob::MatchOptions;

use super::log_tail::unrotated;
use crate::config::LogPattern;

/// The most paths that are examined for one pattern.
const LOOKED_AT_MAX: usize = 10_000;

/// A log counts as in use for this long after the last write.
const IN_USE: Duration = Duration::from_hours(24);

/// The extensions of compressed copies.
const COMPRESSED: [&str; 6] = ["gz", "xz", "bz2", "zst", "lz4", "Z"];

/// The files that match, at most `most`: first those in use, then those last written to. Rotated copies of
/// another match are left out, because following that one reads them.
pub fn find(patterns: &[LogPattern], most: usize) -> Vec<PathBuf> {
    let options = MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: true,
    };
    let mut found = BTreeSet::new();
    for pattern in patterns {
        let Ok(paths) = glob::glob_with(pattern.as_str(), options) else { continue };
        let files = paths.take(LOOKED_AT_MAX).flatten().filter(|path| path.is_file());
        found.extend(files.filter(|path| !is_compressed(path)));
    }
    let is_live = |path: &&PathBuf| !unrotated(path).any(|live| found.contains(&live));
    let mut live: Vec<PathBuf> = found.iter().filter(is_live).cloned().collect();
    if live.len() > most {
        // Among logs with a date in their names, the new ones matter. Those in use keep their order, so
        // that none comes and goes.
        let now = SystemTime::now();
        let unused = |path: &PathBuf| {
            let written = path.metadata().and_then(|metadata| metadata.modified()).ok()?;
            now.duration_since(written).ok().filter(|age| *age > IN_USE)
        };
        live.sort_by_cached_key(unused);
        live.truncate(most);
        live.sort();
    }
    live
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| COMPRESSED.iter().any(|compressed| end == *compressed))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};

    use super::*;
    use crate::source::budget::processor_time;

    #[test]
    fn logs_are_found_and_what_rotation_made_of_them_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let names = [
            "a-error.log",
            "a-error.log.1",
            "a-error.log.2.gz",
            "b-error.log",
            "b-error.log-20261122",
            "c-error.log.7",
            ".d-error.log",
            "access.log",
        ];
        for name in names {
            fs::write(directory.path().join(name), "").unwrap();
        }
        fs::create_dir(directory.path().join("e-error.log")).unwrap();
        let find = |pattern: &str, most| {
            let pattern = format!("{}/{pattern}", directory.path().display());
            let found = find(&[pattern.parse().unwrap()], most);
            let names = found.iter().map(|path| path.file_name().unwrap().to_str().unwrap());
            names.map(str::to_owned).collect::<Vec<_>>()
        };
        assert_eq!(find("*error.log", 10), ["a-error.log", "b-error.log"]);
        assert_eq!(find("*error.log*", 10), ["a-error.log", "b-error.log", "c-error.log.7"]);
        assert_eq!(find("*error.log", 1), ["a-error.log"]);
        assert!(find("*/x", 10).is_empty());
    }

    #[test]
    fn of_too_many_logs_the_last_written_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let now = SystemTime::now();
        for day in 0..300_u64 {
            let file = File::create(directory.path().join(format!("app-{day}.log"))).unwrap();
            file.set_modified(now - Duration::from_hours(24 * (300 - day))).unwrap();
        }
        let pattern = format!("{}/app-*.log", directory.path().display());
        let found = find(&[pattern.parse().unwrap()], 128);
        let path = |day: u64| directory.path().join(format!("app-{day}.log"));
        let newest: BTreeSet<_> = (300 - 128..300).map(path).collect();
        assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), newest);
    }

    /// The time must not grow with the square of the number of names.
    #[test]
    fn ten_thousand_names_are_looked_at_soon() {
        let directory = tempfile::tempdir().unwrap();
        for n in 0..LOOKED_AT_MAX {
            File::create(directory.path().join(format!("app-of-some-length-{n:05}.log"))).unwrap();
        }
        let pattern = format!("{}/app-*.log", directory.path().display());
        let before = processor_time();
        assert_eq!(find(&[pattern.parse().unwrap()], LOOKED_AT_MAX).len(), LOOKED_AT_MAX);
        let took = processor_time().saturating_sub(before);
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
}

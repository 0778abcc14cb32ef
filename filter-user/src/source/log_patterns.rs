//! Which logs there are of a pattern.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use glob::MatchOptions;

use super::log_tail::is_rotated;
use crate::config::LogPattern;

/// The most paths of one pattern that are looked at.
const LOOKED_AT_MAX: usize = 10_000;

/// What compressed copies end in.
const COMPRESSED: [&str; 6] = ["gz", "xz", "bz2", "zst", "lz4", "Z"];

/// The files that match, at most `most` of them. What rotation made of another that matches is not
/// among them: who follows that one reads it.
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
    let all: Vec<&PathBuf> = found.iter().collect();
    let is_live = |path: &&PathBuf| !all.iter().any(|live| is_rotated(live, path));
    found.iter().filter(is_live).take(most).cloned().collect()
}

fn is_compressed(path: &Path) -> bool {
    path.extension().is_some_and(|end| COMPRESSED.iter().any(|compressed| end == *compressed))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

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
}

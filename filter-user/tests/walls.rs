//! Checks the walls between the crates: forbidden dependencies.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The crates that know of the host, of the kernel, of time, or of more than their own part.
const WORLDLY: [&str; 10] = [
    "api",
    "audit",
    "aya",
    "datapath",
    "fail2ban",
    "filter-user",
    "nix",
    "rusqlite",
    "store",
    "tokio",
];

/// Each crate below this one, and those on which it must not depend with any feature: which of [`WORLDLY`] it may use
/// all the same, and which others it must not.
const WALLS: [(&str, &[&str], &[&str]); 11] = [
    ("api", &[], &["detection"]),
    ("audit", &["api"], &[]),
    ("datapath", &["aya", "nix", "tokio"], &[]),
    ("detection", &[], &[]),
    ("fail2ban", &[], &[]),
    ("feeds", &[], &["detection"]),
    ("geo", &[], &["detection"]),
    ("fleet", &[], &["async-nats", "detection"]),
    ("fleet-agent", &["api", "tokio"], &["detection"]),
    ("store", &["nix", "rusqlite", "tokio"], &[]),
    ("tables", &[], &["detection"]),
];

fn here() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|why| panic!("{}: {why}", file.display()))
}

fn entries(directory: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    let entries = fs::read_dir(directory);
    entries.unwrap_or_else(|why| panic!("{}: {why}", directory.display())).flatten()
}

/// The dependencies in a manifest, without those of tests.
fn dependencies(manifest: &Path) -> BTreeSet<String> {
    let text = read(manifest);
    let mut in_dependencies = false;
    let mut names = BTreeSet::new();
    for line in text.lines() {
        if line.starts_with('[') {
            in_dependencies = line == "[dependencies]";
        } else if in_dependencies && let Some((name, _)) = line.split_once(['.', ' ', '=']) {
            names.insert(name.trim_start_matches('#').to_owned());
        }
    }
    assert!(!names.is_empty(), "{}: no dependencies", manifest.display());
    names
}

#[test]
fn no_crate_depends_on_what_it_must_not_use() {
    for (name, allowed, others) in WALLS {
        let found = dependencies(&here().join(name).join("Cargo.toml"));
        let forbidden = WORLDLY.iter().filter(|other| **other != name && !allowed.contains(other));
        let wrong: Vec<_> =
            forbidden.chain(others).filter(|other| found.contains(**other)).collect();
        assert!(wrong.is_empty(), "{name} depends on {wrong:?}");
    }
    // A mutant of `filter-common` is tried in seconds, since these tests build nothing else.
    let packets = dependencies(&here().join("../tests/packets/Cargo.toml"));
    assert_eq!(packets, ["filter-common", "ipnet", "tables"].map(str::to_owned).into());
    let own = dependencies(&here().join("Cargo.toml"));
    for only in ["aya", "aya-log", "async-nats", "rusqlite", "fancy-regex", "maxminddb"] {
        assert!(
            !own.contains(only),
            "filter-user depends on {only}, which a crate below it is for"
        );
    }
    let crates = entries(here());
    let crates = crates.filter(|entry| entry.path().join("Cargo.toml").is_file()).count();
    assert_eq!(crates, WALLS.len(), "each crate has its row");
}

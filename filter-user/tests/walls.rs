//! Checks the walls between the crates: forbidden dependencies, and imports that form no cycle.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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

/// Crates whose modules must not import each other in a cycle.
const LAYERED: [&str; 12] = [
    "",
    "../filter-common",
    "../filter-ebpf",
    "audit",
    "datapath",
    "detection",
    "fail2ban",
    "feeds",
    "geo",
    "fleet",
    "fleet-agent",
    "store",
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

/// The modules at the top of a crate, with their files.
fn modules(name: &str) -> BTreeMap<String, PathBuf> {
    let files = entries(&here().join(name).join("src"));
    let named = files.filter_map(|file| {
        let module = file.file_name().to_str()?.strip_suffix(".rs")?.to_owned();
        Some((module, file.path()))
    });
    named.filter(|(module, _)| !["lib", "tests"].contains(&&**module)).collect()
}

/// The names that stand behind `prefix` in the code of a file, its tests left out.
fn named_behind(prefix: &str, text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let code = code.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let first = |path: &str| -> String {
        path.trim_start().chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect()
    };
    let mut names = BTreeSet::new();
    for behind in code.split(prefix).skip(1) {
        match behind.strip_prefix('{') {
            Some(list) => {
                let list = list.split("};").next().unwrap_or_default();
                names.extend(list.split(',').map(first));
            }
            None => drop(names.insert(first(behind))),
        }
    }
    names
}

/// The code of a module and of those inside it, by how each calls the modules at the top.
fn used(module: &str, file: &Path) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let text = read(file);
    names.extend(named_behind("crate::", &text));
    names.extend(named_behind(" super::", &text));
    let inside = file.with_extension("");
    let mut directories = if inside.is_dir() { vec![inside] } else { Vec::new() };
    while let Some(directory) = directories.pop() {
        for entry in entries(&directory) {
            if entry.path().ends_with("tests") || entry.path().ends_with("tests.rs") {
                continue;
            }
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else {
                let text = read(&entry.path());
                names.extend(named_behind("crate::", &text));
                names.extend(named_behind(" super::super::", &text));
            }
        }
    }
    names.remove(module);
    names
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for name in LAYERED {
        let modules = modules(name);
        let mut uses: BTreeMap<&str, BTreeSet<String>> = modules
            .iter()
            .map(|(module, file)| {
                let used = used(module, file);
                (&**module, used.into_iter().filter(|other| modules.contains_key(other)).collect())
            })
            .collect();
        assert!(
            uses.values().any(|used| !used.is_empty()),
            "{name}: its imports are not understood"
        );
        // Remove modules that use no other, until none is left.
        loop {
            let done: Vec<&str> = uses
                .iter()
                .filter(|(_, used)| used.is_empty())
                .map(|(module, _)| *module)
                .collect();
            if done.is_empty() {
                break;
            }
            for module in done {
                uses.remove(module);
                for used in uses.values_mut() {
                    used.remove(module);
                }
            }
        }
        assert!(uses.is_empty(), "{name}: these are in a circle, or use one that is: {uses:#?}");
    }
}

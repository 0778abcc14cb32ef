//! The page `docs/code-map.md`: every module of the product with what its `//!` says of it. So a module
//! is described in one place, beside its code, and none is left out.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

#[path = "common/pages.rs"]
mod pages;

use self::pages::{hold, root};

/// The crates, from the kernel to the command line.
const CRATES: [&str; 14] = [
    "filter-common",
    "filter-ebpf",
    "filter-user/tables",
    "filter-user/datapath",
    "filter-user/detection",
    "filter-user/fail2ban",
    "filter-user/feeds",
    "filter-user/geo",
    "filter-user/fleet",
    "filter-user/store",
    "filter-user/api",
    "filter-user/audit",
    "filter-user",
    "filter-user/fleet-agent",
];

const HEAD: &str = "\
# Code map

<!-- Written from the `//!` of each module by a test. UPDATE_DOCS=1 cargo test -p filter-user --test code_map -->

Every module of the product, by crate. [ARCHITECTURE.md](../ARCHITECTURE.md) says how the crates work together.
";

#[test]
fn the_page_is_up_to_date() {
    let mut page = HEAD.to_owned();
    for name in CRATES {
        let source = root().join(name).join("src");
        let modules = modules(&source);
        let (about, _) = described(&source.join(if source.join("lib.rs").exists() {
            "lib.rs"
        } else {
            "main.rs"
        }));
        write!(page, "\n## `{name}`\n\n{about}\n\n| module | does | must never |\n|---|---|---|\n")
            .expect("a string");
        for module in modules {
            let (does, never) = described(&source.join(&module));
            let module = module.with_extension("");
            writeln!(page, "| `{}` | {does} | {never} |", module.display()).expect("a string");
        }
    }
    hold("docs/code-map.md", "code_map", &page);
}

#[test]
fn every_crate_is_on_the_page() {
    let below = fs::read_dir(root().join("filter-user")).expect("the crates of the daemon");
    let below = below.flatten().filter(|entry| entry.path().join("Cargo.toml").is_file());
    for entry in below {
        let name = format!("filter-user/{}", entry.file_name().display());
        assert!(CRATES.contains(&&*name), "{name} has no place in `CRATES`");
    }
}

/// The source files below a directory, without tests; a module stands before those inside it.
fn modules(source: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut directories = vec![source.to_owned()];
    while let Some(directory) = directories.pop() {
        let entries = fs::read_dir(&directory).expect("a directory of modules");
        for path in entries.flatten().map(|entry| entry.path()) {
            let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
            if stem == "tests" || (["lib", "examples"].contains(&stem) && directory == source) {
                continue;
            }
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                found.push(path.strip_prefix(source).expect("a path below it").to_owned());
            }
        }
    }
    assert!(!found.is_empty(), "{}", source.display());
    found.sort_by_key(|path| path.with_extension(""));
    found
}

/// The first sentence of a module's `//!`, and what the module must never do.
fn described(file: &Path) -> (String, String) {
    let text = fs::read_to_string(file).expect("a module");
    let lines = text.lines().map_while(|line| line.strip_prefix("//!"));
    let about = lines.map(str::trim).collect::<Vec<_>>().join("\n");
    let paragraphs = about.split("\n\n").map(|paragraph| paragraph.replace('\n', " "));
    let paragraphs: Vec<_> = paragraphs.map(|paragraph| without_links(&paragraph)).collect();
    let first = paragraphs.first().filter(|first| !first.is_empty());
    let first = first.unwrap_or_else(|| panic!("{} has no `//!`", file.display()));
    let end = first.find(". ").map_or(first.len(), |end| end + 1);
    let never = paragraphs.iter().find_map(|paragraph| paragraph.strip_prefix("Must never "));
    let never = never.map(|never| never.trim_end_matches('.').to_owned()).unwrap_or_default();
    (first[..end].replace('|', "\\|"), never.replace('|', "\\|"))
}

/// The text without the links of rustdoc, which lead nowhere on a page.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some((before, link)) = rest.split_once('[') {
        plain.push_str(before);
        let Some((shown, behind)) = link.split_once(']') else {
            plain.push('[');
            rest = link;
            continue;
        };
        plain.push_str(shown);
        rest = match behind.strip_prefix('(').and_then(|target| target.split_once(')')) {
            Some((_target, behind)) => behind,
            None => behind,
        };
    }
    plain + rest
}

#[test]
fn links_of_rustdoc_become_text() {
    for (text, plain) in [
        ("turns one into an [`Attempt`].", "turns one into an `Attempt`."),
        ("like [`packet`](crate::packet) for them", "like `packet` for them"),
        ("a list [open", "a list [open"),
    ] {
        assert_eq!(without_links(text), plain);
    }
}

//! The files of each crate use each other in one direction: no circle, except between a module and those inside it. Nor is
//! there one between the modules at the top of a crate, each with those inside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The directories of the crates of the product, and of the one that builds it.
fn crates() -> Vec<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let below = fs::read_dir(root.join("filter-user")).expect("the crates of the daemon");
    let below = below.flatten().map(|entry| entry.path());
    let top = ["filter-common", "filter-ebpf", "filter-user", "xtask"].map(|name| root.join(name));
    let found =
        below.chain(top).filter(|path| path.join("Cargo.toml").is_file()).collect::<Vec<_>>();
    assert!(found.len() > 10, "{found:?}");
    found
}

/// A module as its path from the root of the crate, which is empty.
type Module = Vec<String>;

/// The text of each module of a crate, without its tests.
fn modules(source: &Path) -> BTreeMap<Module, String> {
    let mut found = BTreeMap::new();
    let mut directories = vec![source.to_owned()];
    while let Some(directory) = directories.pop() {
        for path in fs::read_dir(&directory).expect("a directory").flatten().map(|e| e.path()) {
            if path.is_dir() {
                directories.push(path);
            } else if path.extension().is_some_and(|end| end == "rs") {
                let below = path.strip_prefix(source).expect("a path below it").with_extension("");
                let mut module: Module =
                    below.iter().map(|part| part.to_string_lossy().into_owned()).collect();
                if module == ["lib"] || module == ["main"] {
                    module.clear();
                }
                if !module.iter().any(|part| part == "tests") {
                    let text = fs::read_to_string(&path).expect("a module");
                    let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
                    found.insert(module, code.to_owned());
                }
            }
        }
    }
    found
}

/// The paths of a `use`, such as `super::{a, b::c}`, one by one.
fn paths(text: &str) -> Vec<String> {
    let Some((before, rest)) = text.split_once('{') else { return vec![text.trim().to_owned()] };
    let inside = rest.rsplit_once('}').map_or(rest, |(inside, _)| inside);
    let (mut parts, mut depth) = (vec![String::new()], 0_usize);
    for letter in inside.chars() {
        match letter {
            ',' if depth == 0 => {
                parts.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        parts.last_mut().expect("a part").push(letter);
    }
    let parts = parts.iter().map(|part| part.trim()).filter(|part| !part.is_empty());
    parts.flat_map(|part| paths(&format!("{}{part}", before.trim()))).collect()
}

fn is_of_path(letter: char) -> bool {
    letter.is_alphanumeric() || letter == '_' || letter == ':'
}

/// The paths in a text that begin with `root`, in a `use` or elsewhere.
fn paths_from(root: &str, text: &str) -> Vec<String> {
    let begins = text
        .match_indices(root)
        .filter(|(at, _)| !text[..*at].ends_with(|before| is_of_path(before) || before == '$'));
    let found = begins.flat_map(|(at, _)| {
        let rest = &text[at..];
        let (path, behind) = rest.split_at(rest.find(|c| !is_of_path(c)).unwrap_or(rest.len()));
        // A list may have lists in it, and ends with the statement.
        let list = behind.starts_with('{').then(|| behind.split(';').next()).flatten();
        paths(&format!("{path}{}", list.unwrap_or_default()))
    });
    found.collect()
}

/// The modules that a module uses, but for those inside it and around it.
fn used(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    let code = code.collect::<Vec<_>>().join("\n");
    let mut found = BTreeSet::new();
    for path in ["crate::", "self::", "super::"].iter().flat_map(|root| paths_from(root, &code)) {
        let mut at = module.clone();
        for part in path.split("::") {
            match part.split_whitespace().next().unwrap_or_default() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                name => {
                    let mut inside = at.clone();
                    inside.push(name.to_owned());
                    if !all.contains_key(&inside) {
                        break;
                    }
                    at = inside;
                }
            }
        }
        if !at.starts_with(module) && !module.starts_with(&at) {
            found.insert(at);
        }
    }
    found
}

/// The same for the modules at the top, each with those inside it.
fn used_at_top(uses: &BTreeMap<Module, BTreeSet<Module>>) -> BTreeMap<Module, BTreeSet<Module>> {
    let top = |module: &Module| module.iter().take(1).cloned().collect::<Module>();
    let mut found: BTreeMap<Module, BTreeSet<Module>> = BTreeMap::new();
    for (module, used) in uses {
        let others = used.iter().map(top).filter(|other| *other != top(module));
        found.entry(top(module)).or_default().extend(others);
    }
    found
}

/// A circle, if there is one: those modules from which none leads out.
fn circle(mut uses: BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    loop {
        let left: BTreeSet<Module> = uses.keys().cloned().collect();
        let wanted: BTreeSet<Module> = uses.values().flatten().cloned().collect();
        uses.retain(|module, used| {
            used.retain(|other| left.contains(other));
            !used.is_empty() && wanted.contains(module)
        });
        if uses.len() == left.len() {
            return left.into_iter().map(|module| module.join("::")).collect();
        }
    }
}

fn uses(all: &BTreeMap<Module, String>) -> BTreeMap<Module, BTreeSet<Module>> {
    all.iter().map(|(module, text)| (module.clone(), used(module, text, all))).collect()
}

#[test]
fn no_modules_use_each_other_in_a_circle() {
    for path in crates() {
        let uses = uses(&modules(&path.join("src")));
        let name = path.display();
        // The modules of `tables` use only the root of their crate.
        let is_understood = path.ends_with("tables") || uses.values().any(|used| !used.is_empty());
        assert!(is_understood, "{name}: its imports are not understood");
        for uses in [used_at_top(&uses), uses] {
            let circle = circle(uses);
            assert!(circle.is_empty(), "{name}: these use each other: {circle:?}");
        }
    }
}

#[test]
fn a_circle_is_found_wherever_it_is_written() {
    let crate_of = |modules: &[(&str, &str)]| {
        let module = |path: &str| -> Module {
            path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        uses(&modules.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect())
    };
    for (a, b, is_one) in [
        ("use super::b::B;", "", false),
        ("use super::b::B;", "use super::a::A;", true),
        ("use crate::b;", "pub(crate) use crate::{\n    a::{self, A},\n};", true),
        ("use crate::{x::Y, b::B};", "use super::{a, other};", true),
        ("use super::b::B;", "use super::a_b::A;", false),
        ("use super::{b as other, C};", "fn f(a: &crate::a::A) {}", true),
        ("use super::b::B;", "// As `crate::a` does.", false),
        ("use super::b::B;", "macro_rules! m { () => { $crate::a::A } }", false),
        ("use self::inside::C;", "use super::a::A;", false),
        ("use super::C;", "use super::a::A;", false),
    ] {
        let found = circle(crate_of(&[
            ("", "use self::a::A;\nuse self::b::B;"),
            ("a", a),
            ("a::inside", "use super::A;"),
            ("b", b),
            ("c", "use super::a::A;\nuse super::b::B;"),
        ]));
        assert_eq!(found, if is_one { vec!["a", "b"] } else { vec![] }, "{a} {b}");
    }
    // Files that use each other in one direction, between modules that do not.
    let uses = crate_of(&[
        ("a", ""),
        ("a::inside", "use crate::b::B;"),
        ("b", ""),
        ("b::inside", "use super::super::a::A;"),
    ]);
    assert_eq!(circle(used_at_top(&uses)), ["a", "b"]);
    assert_eq!(circle(uses), [""; 0]);
}

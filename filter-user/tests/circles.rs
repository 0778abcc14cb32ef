//! The files of each crate import each other in one direction: no circle, except between a module and those inside it.
//! `walls` checks the modules at the top of a crate, each with those inside it.

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

/// The modules that a module imports from, but for those inside it and around it.
fn imports(module: &Module, text: &str, all: &BTreeMap<Module, String>) -> BTreeSet<Module> {
    let statements = text.match_indices("use ").filter_map(|(at, _)| {
        let line = text[..at].rsplit('\n').next().unwrap_or_default().trim();
        let is_use = ["", "pub", "pub(crate)", "pub(super)"].contains(&line);
        is_use.then(|| text[at + 4..].split_once(';'))?.map(|(of, _)| of.replace('\n', " "))
    });
    let mut found = BTreeSet::new();
    for path in statements.flat_map(|of| paths(&of)) {
        let mut at = module.clone();
        let mut is_ours = false;
        for part in path.split("::") {
            match part.trim() {
                "crate" => at.clear(),
                "self" => {}
                "super" => drop(at.pop()),
                name if is_ours => {
                    let mut inside = at.clone();
                    inside.push(name.to_owned());
                    if !all.contains_key(&inside) {
                        break;
                    }
                    at = inside;
                }
                _ => break,
            }
            is_ours = true;
        }
        if is_ours && !at.starts_with(module) && !module.starts_with(&at) {
            found.insert(at);
        }
    }
    found
}

/// A circle of imports, if there is one: those modules from which none leads out.
fn circle(mut imports: BTreeMap<Module, BTreeSet<Module>>) -> Vec<String> {
    loop {
        let left: BTreeSet<Module> = imports.keys().cloned().collect();
        let imported: BTreeSet<Module> = imports.values().flatten().cloned().collect();
        imports.retain(|module, from| {
            from.retain(|of| left.contains(of));
            !from.is_empty() && imported.contains(module)
        });
        if imports.len() == left.len() {
            return left.into_iter().map(|module| module.join("::")).collect();
        }
    }
}

#[test]
fn no_modules_import_each_other_in_a_circle() {
    for path in crates() {
        let all = modules(&path.join("src"));
        assert!(!all.is_empty(), "{}", path.display());
        let of = |(module, text): (&Module, &String)| (module.clone(), imports(module, text, &all));
        let circle = circle(all.iter().map(of).collect());
        assert!(circle.is_empty(), "{}: these import each other: {circle:?}", path.display());
    }
}

#[test]
fn a_circle_is_found_wherever_it_is_written() {
    let crate_of = |modules: &[(&str, &str)]| {
        let module = |path: &str| -> Module {
            path.split("::").filter(|part| !part.is_empty()).map(str::to_owned).collect()
        };
        let all = modules.iter().map(|(path, text)| (module(path), (*text).to_owned())).collect();
        let of = |(module, text): (&Module, &String)| (module.clone(), imports(module, text, &all));
        circle(all.iter().map(of).collect())
    };
    for (a, b, is_one) in [
        ("use super::b::B;", "", false),
        ("use super::b::B;", "use super::a::A;", true),
        ("use crate::b;", "pub(crate) use crate::{\n    a::{self, A},\n};", true),
        ("use crate::{x::Y, b::B};", "use super::{a, other};", true),
        ("use super::b::B;", "use super::a_b::A;", false),
        ("use self::inside::C;", "use super::a::A;", false),
        ("use super::C;", "use super::a::A;", false),
    ] {
        let found = crate_of(&[
            ("", "use self::a::A;\nuse self::b::B;"),
            ("a", a),
            ("a::inside", "use super::A;"),
            ("b", b),
            ("c", "use super::a::A;\nuse super::b::B;"),
        ]);
        assert_eq!(found, if is_one { vec!["a", "b"] } else { vec![] }, "{a} {b}");
    }
}

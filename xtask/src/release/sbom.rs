//! The bill of materials of the binary and the XDP program, as `CycloneDX` 1.5 in JSON.
//!
//! Cargo lists the linked crates; its lock file has their checksums. `SQLite`, which one of the crates
//! compiles, and Rust's standard library are not crates and are added.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

use crate::deb::VERSION;
use crate::shipped::Architecture;
use crate::step::output;
use crate::workspace::Workspace;

const PRODUCT: &str = "filter-user";
const XDP_PROGRAM: &str = "filter-ebpf";
/// The crate that compiles `SQLite`, and its file that contains the version of `SQLite`.
const SQLITE: (&str, &str) = ("libsqlite3-sys", "sqlite3/sqlite3.h");

/// A crate by name and version.
type Crate = (String, String);

/// The document.
pub(super) fn write(
    workspace: &Workspace,
    architecture: Architecture,
    epoch: &str,
) -> Result<String> {
    let target = architecture.target();
    let mut linked = linked(workspace, &["--package", PRODUCT, "--target", &target])?;
    linked.extend(self::linked(workspace, &["--package", XDP_PROGRAM, "--target", "all"])?);
    let mut cargo = workspace.cargo("metadata");
    cargo.args(["--locked", "--format-version", "1", "--filter-platform", &target]);
    let metadata = output(&mut cargo)?;
    let metadata: Value = serde_json::from_str(&metadata).context("read cargo's metadata")?;
    let lock =
        fs::read_to_string(workspace.root().join("Cargo.lock")).context("read Cargo.lock")?;
    let rust = output(Command::new("rustc").arg("-vV").current_dir(workspace.root()))?;
    let rust = rust.lines().find_map(|line| line.strip_prefix("release: "));
    let facts = Facts {
        linked,
        metadata,
        checksums: checksums(&lock),
        rust: rust.context("rustc does not say its version")?.to_owned(),
        time: output(Command::new("date").args(["-u", "-d", &format!("@{epoch}"), "+%FT%TZ"]))?,
        architecture: architecture.debian(),
    };
    let document = facts.document()?;
    check(&document)?;
    let mut text = serde_json::to_string_pretty(&document).context("make JSON")?;
    text.push('\n');
    Ok(text)
}

/// The linked crates, without those that only run at build time.
fn linked(workspace: &Workspace, of: &[&str]) -> Result<BTreeSet<Crate>> {
    let mut tree = workspace.cargo("tree");
    tree.args(["--locked", "--edges", "normal,no-proc-macro", "--prefix", "none", "--no-dedupe"]);
    Ok(crates_in(&output(tree.args(["--format", "{p}"]).args(of))?))
}

/// Parses lines such as `aya v0.14.0` and `api v0.1.0 (/src/api)`.
fn crates_in(tree: &str) -> BTreeSet<Crate> {
    let words = tree.lines().map(|line| line.split(' '));
    let named = words.filter_map(|mut words| Some((words.next()?, words.next()?)));
    let named = named.filter_map(|(name, version)| Some((name, version.strip_prefix('v')?)));
    named.map(|(name, version)| (name.to_owned(), version.to_owned())).collect()
}

/// The checksums in `Cargo.lock`.
fn checksums(lock: &str) -> BTreeMap<Crate, String> {
    let entries = lock.split("[[package]]").skip(1);
    let value = |entry: &str, key: &str| {
        let line = entry.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(" = "))?;
        Some(line.trim_matches('"').to_owned())
    };
    let known = entries.filter_map(|entry| {
        let of = (value(entry, "name")?, value(entry, "version")?);
        Some((of, value(entry, "checksum")?))
    });
    known.collect()
}

/// The facts that the document is made from.
struct Facts {
    linked: BTreeSet<Crate>,
    metadata: Value,
    checksums: BTreeMap<Crate, String>,
    rust: String,
    time: String,
    architecture: &'static str,
}

impl Facts {
    fn document(&self) -> Result<Value> {
        let packages = self.metadata["packages"].as_array().context("cargo names no packages")?;
        let by_id: BTreeMap<&str, &Value> = packages
            .iter()
            .filter_map(|package| Some((package["id"].as_str()?, package)))
            .filter(|(_, package)| self.linked.contains(&of(package)))
            .collect();
        ensure!(
            by_id.len() == self.linked.len(),
            "cargo tree names {} crates, and cargo metadata knows {} of them",
            self.linked.len(),
            by_id.len()
        );
        let (product, others): (Vec<&Value>, Vec<&Value>) =
            by_id.values().copied().partition(|package| package["name"] == PRODUCT);
        let product = product.first().copied().context("cargo does not know the product")?;
        let root = format!("pkg:generic/ringfence@{VERSION}");
        let reference = |package: &Value| {
            if package["name"] == PRODUCT { root.clone() } else { purl(&of(package)) }
        };
        let mut components: Vec<Value> =
            others.iter().map(|package| self.component(package)).collect();
        let mut dependencies = self.dependencies(&by_id, reference)?;
        let rust = format!("pkg:generic/rust-std@{}", self.rust);
        components.push(other("rust-std", &self.rust, &rust, "MIT OR Apache-2.0", None));
        depend(&mut dependencies, &root, &rust);
        dependencies.insert(rust, BTreeSet::new());
        let sqlite = others.iter().find(|package| package["name"] == SQLITE.0);
        if let Some(compiles) = sqlite {
            let version = sqlite_version(compiles)?;
            let sqlite = format!("pkg:generic/sqlite@{version}");
            let cpe = format!("cpe:2.3:a:sqlite:sqlite:{version}:*:*:*:*:*:*:*");
            components.push(other("sqlite", &version, &sqlite, "blessing", Some(cpe)));
            depend(&mut dependencies, &purl(&of(compiles)), &sqlite);
            dependencies.insert(sqlite, BTreeSet::new());
        }
        let dependencies: Vec<Value> = dependencies
            .into_iter()
            .map(|(from, to)| json!({ "ref": from, "dependsOn": to }))
            .collect();
        Ok(json!({
            "bomFormat": "CycloneDX",
            "specVersion": "1.5",
            "version": 1,
            "metadata": {
                "timestamp": self.time,
                "tools": { "components": [
                    { "type": "application", "name": "cargo xtask release", "version": VERSION }
                ] },
                "component": {
                    "type": "application",
                    "bom-ref": root,
                    "name": "ringfence",
                    "version": VERSION,
                    "purl": root,
                    "licenses": licences(product),
                    "properties": [{ "name": "architecture", "value": self.architecture }],
                },
            },
            "components": components,
            "dependencies": dependencies,
        }))
    }

    fn component(&self, package: &Value) -> Value {
        let named = of(package);
        let purl = purl(&named);
        let mut component = json!({
            "type": "library",
            "bom-ref": purl,
            "name": named.0,
            "version": named.1,
            "purl": purl,
            "licenses": licences(package),
        });
        if let Some(sum) = self.checksums.get(&named) {
            component["hashes"] = json!([{ "alg": "SHA-256", "content": sum }]);
        }
        component
    }

    /// The dependencies of each linked crate.
    fn dependencies(
        &self,
        by_id: &BTreeMap<&str, &Value>,
        reference: impl Fn(&Value) -> String,
    ) -> Result<BTreeMap<String, BTreeSet<String>>> {
        let nodes = self.metadata["resolve"]["nodes"].as_array();
        let mut dependencies = BTreeMap::new();
        for node in nodes.context("cargo resolves nothing")? {
            let Some(package) = by_id.get(node["id"].as_str().unwrap_or_default()) else {
                continue;
            };
            let of_node = node["deps"].as_array().map(Vec::as_slice).unwrap_or_default();
            let is_linked = |dependency: &&Value| {
                let kinds = dependency["dep_kinds"].as_array().map(Vec::as_slice);
                kinds.unwrap_or_default().iter().any(|kind| kind["kind"].is_null())
            };
            let linked = of_node.iter().filter(is_linked);
            let to = linked.filter_map(|dependency| by_id.get(dependency["pkg"].as_str()?));
            dependencies.insert(reference(package), to.map(|to| reference(to)).collect());
        }
        // The binary contains the XDP program.
        let program = by_id.values().find(|package| package["name"] == XDP_PROGRAM);
        let carrier = by_id.values().find(|package| package["name"] == "datapath");
        if let (Some(program), Some(carrier)) = (program, carrier) {
            depend(&mut dependencies, &reference(carrier), &reference(program));
        }
        Ok(dependencies)
    }
}

fn depend(dependencies: &mut BTreeMap<String, BTreeSet<String>>, from: &str, to: &str) {
    dependencies.entry(from.to_owned()).or_default().insert(to.to_owned());
}

fn of(package: &Value) -> Crate {
    let text = |key: &str| package[key].as_str().unwrap_or_default().to_owned();
    (text("name"), text("version"))
}

fn purl((name, version): &Crate) -> String {
    format!("pkg:cargo/{name}@{}", version.replace('+', "%2B"))
}

fn licences(package: &Value) -> Value {
    match package["license"].as_str() {
        // Old crates separate licences with a slash.
        Some(licence) => json!([{ "expression": licence.replace('/', " OR ") }]),
        None => json!([{ "license": { "name": "see the crate's own files" } }]),
    }
}

fn other(name: &str, version: &str, purl: &str, licence: &str, cpe: Option<String>) -> Value {
    let mut component = json!({
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "licenses": [{ "expression": licence }],
    });
    if let Some(cpe) = cpe {
        component["cpe"] = cpe.into();
    }
    component
}

fn sqlite_version(package: &Value) -> Result<String> {
    let manifest = package["manifest_path"].as_str().context("a crate without a manifest")?;
    let header = Path::new(manifest).with_file_name(SQLITE.1);
    let text = fs::read_to_string(&header).with_context(|| format!("read {}", header.display()))?;
    let line = text.lines().find_map(|line| line.strip_prefix("#define SQLITE_VERSION "));
    Ok(line.context("SQLite's header has no version")?.trim().trim_matches('"').to_owned())
}

/// Fails unless names are unique, every reference names a component, and every component is referred to.
fn check(document: &Value) -> Result<()> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let components = document["components"].as_array().context("there are no components")?;
    let root = text(&document["metadata"]["component"]["bom-ref"]);
    let mut known: BTreeSet<String> = [root.clone()].into();
    for component in components {
        let name = text(&component["bom-ref"]);
        ensure!(known.insert(name.clone()), "{name} is there twice");
    }
    let mut edges = BTreeMap::new();
    for entry in document["dependencies"].as_array().context("there are no dependencies")? {
        let to: Vec<String> =
            entry["dependsOn"].as_array().into_iter().flatten().map(text).collect();
        for name in to.iter().chain([&text(&entry["ref"])]) {
            ensure!(known.contains(name), "{name} is no component");
        }
        edges.insert(text(&entry["ref"]), to);
    }
    let (mut reached, mut next) = (BTreeSet::new(), vec![root]);
    while let Some(name) = next.pop() {
        if reached.insert(name.clone()) {
            next.extend(edges.get(&name).into_iter().flatten().cloned());
        }
    }
    let lost: Vec<&String> = known.difference(&reached).collect();
    ensure!(lost.is_empty(), "nothing depends on {lost:?}");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str, version: &str) -> Crate {
        (name.to_owned(), version.to_owned())
    }

    #[test]
    fn crates_are_read_out_of_cargos_words() {
        let tree = "api v0.1.0 (/src/api)\naya v0.14.0\naya v0.14.0\n\n";
        let expected = [named("api", "0.1.0"), named("aya", "0.14.0")];
        assert_eq!(crates_in(tree), expected.into());
        let lock = "version = 4\n\n[[package]]\nname = \"aya\"\nversion = \"0.14.0\"\n\
                    checksum = \"ab12\"\n\n[[package]]\nname = \"api\"\nversion = \"0.1.0\"\n";
        assert_eq!(checksums(lock), [(named("aya", "0.14.0"), "ab12".to_owned())].into());
    }

    #[test]
    fn a_document_has_every_linked_crate_and_no_other() {
        let package = |name: &str| json!({ "name": name, "version": "1.0.0+a", "id": name, "license": "MIT/Apache-2.0" });
        let to = |names: &[&str], kind: Value| -> Vec<Value> {
            let dependency = |name| json!({ "pkg": name, "dep_kinds": [{ "kind": kind.clone() }] });
            names.iter().map(dependency).collect()
        };
        let names = [PRODUCT, "datapath", XDP_PROGRAM, "cc"];
        let metadata = json!({
            "packages": names.map(package),
            "resolve": { "nodes": [
                { "id": PRODUCT, "deps": to(&["datapath"], Value::Null) },
                { "id": "datapath", "deps": to(&["cc"], "build".into()) },
                { "id": XDP_PROGRAM, "deps": [] },
            ] },
        });
        let facts = Facts {
            linked: [PRODUCT, "datapath", XDP_PROGRAM].map(|name| named(name, "1.0.0+a")).into(),
            metadata,
            checksums: [(named("datapath", "1.0.0+a"), "ab12".to_owned())].into(),
            rust: "1.95.0".to_owned(),
            time: "2026-11-29T12:00:00Z".to_owned(),
            architecture: "amd64",
        };
        let document = facts.document().unwrap();
        check(&document).unwrap();
        let components = document["components"].as_array().unwrap();
        let found: Vec<&str> = components.iter().filter_map(|c| c["purl"].as_str()).collect();
        let expected = [
            "pkg:cargo/datapath@1.0.0%2Ba",
            "pkg:cargo/filter-ebpf@1.0.0%2Ba",
            "pkg:generic/rust-std@1.95.0",
        ];
        assert_eq!(found, expected);
        assert_eq!(components[0]["hashes"][0]["content"], "ab12");
        assert_eq!(components[0]["licenses"][0]["expression"], "MIT OR Apache-2.0");
        let mut lost = document.clone();
        lost["components"].as_array_mut().unwrap().push(json!({ "bom-ref": "pkg:cargo/x@1" }));
        assert!(check(&lost).unwrap_err().to_string().contains("pkg:cargo/x@1"));
        let twice = Facts { linked: [named("nowhere", "1.0.0")].into(), ..facts };
        assert!(twice.document().is_err());
    }
}

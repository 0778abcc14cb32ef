//! `cargo xtask mutants`: makes many small changes to the code, and checks that a test fails each time.
//!
//! cargo-mutants makes the changes and runs the tests of the crate, for `filter-common` also the packet
//! tests. A mutant that does the same as the code, so that no test can catch it, is listed with the reason in
//! `tests/mutants/survivors.txt`; any other survivor is a missing test.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::{self, For};
use crate::step::{Steps, timed};
use crate::workspace::{Workspace, cargo};

/// The version of cargo-mutants.
const VERSION: &str = "27.1.0";

/// The crates to change, each with the packages whose tests must catch the changes: those that run
/// without root and without the XDP program.
const CRATES: [(&str, &[&str]); 2] =
    [("detection", &["detection"]), ("filter-common", &["filter-common", "ringfence-packets"])];

/// The known survivors, relative to the workspace's root.
const SURVIVORS: &str = "tests/mutants/survivors.txt";

/// The time limit of a test, in seconds.
const HANGS: &str = "60";

/// The profile in which the tests are built: most of the time goes into the tests if nothing is optimised, and into
/// the linker if there is debug information.
const PROFILE: [(&str, &str); 3] = [
    ("CARGO_PROFILE_DEV_DEBUG", "0"),
    ("CARGO_PROFILE_DEV_LTO", "off"),
    ("CARGO_PROFILE_DEV_OPT_LEVEL", "1"),
];

/// The settings of property tests: fewer cases, because faults in rare cases are not the aim here. Of a failure, it is
/// enough that there is one: no smaller example is sought, and none is kept, which would be tried with each later mutant.
const PROPERTIES: [(&str, &str); 3] = [
    ("PROPTEST_CASES", "64"),
    ("PROPTEST_DISABLE_FAILURE_PERSISTENCE", "1"),
    ("PROPTEST_MAX_SHRINK_ITERS", "0"),
];

/// The arguments of `mutants`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The crate; by default all, one after the other
    #[arg(value_name = "CRATE")]
    package: Option<String>,
    /// Only files whose path matches this glob
    #[arg(long, value_name = "GLOB")]
    file: Option<String>,
    /// Only a sample: `1/20` is every twentieth mutant from the second on (`0/20` from the first)
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,
}

/// Installs cargo-mutants, runs it, and compares the survivors with the known ones.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Build)?;
    install(&workspace)?;
    let known = fs::read_to_string(workspace.root().join(SURVIVORS))
        .with_context(|| format!("read {SURVIVORS}"))?;
    let known = survivors(&known)?;
    let mut failures = Vec::new();
    for (package, tests) in CRATES {
        if args.package.as_deref().is_some_and(|wanted| wanted != package) {
            continue;
        }
        let output = workspace.target().join("mutants").join(package);
        fs::create_dir_all(&output).with_context(|| format!("create {}", output.display()))?;
        timed(&format!("test {package} itself"), || baseline(&workspace, tests))?;
        timed(&format!("test the mutants of {package}"), || {
            mutate(&workspace, package, tests, args, &output)
        })?;
        let outcome = Outcome::read(&output.join("mutants.out"))?;
        println!("{package}: {}", outcome.text(&known));
        if !outcome.is_good(&known) {
            failures.push(package);
        }
    }
    if let Some(wanted) = &args.package {
        let names = CRATES.map(|(package, _)| package);
        ensure!(names.contains(&wanted.as_str()), "no crate `{wanted}`: {}", names.join(", "));
    }
    if !failures.is_empty() {
        bail!("{} has mutants that no test catches: write the tests", failures.join(" and "));
    }
    Ok(())
}

fn install(workspace: &Workspace) -> Result<()> {
    let toolchain = workspace.toolchain();
    let record = fs::read_to_string(toolchain.join(".crates2.json")).unwrap_or_default();
    if record.contains(&format!("\"cargo-mutants {VERSION} ")) {
        return Ok(());
    }
    let build = toolchain.join("build");
    let mut command = Command::new(cargo());
    command
        .args(["install", "cargo-mutants", "--locked", "--force", "--version", VERSION, "--root"])
        .arg(&toolchain)
        .env("CARGO_TARGET_DIR", &build);
    let what = format!("cargo install cargo-mutants {VERSION} (some minutes)");
    Steps::of("mutants", toolchain.join("logs")).run("cargo-mutants", &what, &mut command)?;
    fs::remove_dir_all(&build).with_context(|| format!("remove {}", build.display()))
}

/// Runs the tests on the code as it is: if they fail, each mutant counts as caught, and if they cannot be built, none
/// counts at all. cargo-mutants runs only those of the crate that it changes.
fn baseline(workspace: &Workspace, tests: &[&str]) -> Result<()> {
    let mut command = Command::new(cargo());
    command.args(["test", "--quiet", "--tests"]);
    for package in tests {
        command.args(["--package", package]);
    }
    command
        .envs(PROFILE)
        .envs(PROPERTIES)
        .env("CARGO_TARGET_DIR", workspace.target().join("mutants/build"))
        .current_dir(workspace.root());
    let status = command.status().context("start cargo")?;
    ensure!(status.success(), "the tests fail without a mutant ({status})");
    Ok(())
}

fn mutate(
    workspace: &Workspace,
    package: &str,
    tests: &[&str],
    args: &Args,
    output: &Path,
) -> Result<()> {
    let mut command = Command::new(workspace.toolchain().join("bin/cargo-mutants"));
    command
        .args(["mutants", "--package", package, "--timeout", HANGS, "--output"])
        .arg(output)
        .args(["--no-shuffle", "--baseline", "skip"])
        .args(["--test-package", &tests.join(",")])
        // No test is an example in the documentation.
        .arg("--cargo-arg=--tests")
        .envs(PROFILE)
        .envs(PROPERTIES)
        .current_dir(workspace.root());
    if let Some(file) = &args.file {
        command.args(["--file", file]);
    }
    // cargo-mutants takes neither without the other.
    if let Some(shard) = &args.shard {
        command.args(["--sharding", "round-robin", "--shard", shard]);
    }
    let status = command.status().context("start cargo-mutants")?;
    // 2: some survived; 3: some hung. Its lists contain both.
    ensure!(matches!(status.code(), Some(0 | 2 | 3)), "cargo-mutants failed ({status})");
    Ok(())
}

/// The mutants of the list, each without its line and column.
fn survivors(list: &str) -> Result<BTreeSet<String>> {
    let mut known = BTreeSet::new();
    for line in list.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (mutant, reason) = line
            .split_once(" -- ")
            .with_context(|| format!("{SURVIVORS}: `{line}` has no reason after ` -- `"))?;
        ensure!(!reason.trim().is_empty(), "{SURVIVORS}: `{mutant}` has no reason");
        known.insert(mutant.trim().to_owned());
    }
    Ok(known)
}

/// A mutant without its line and column, which change with every line before it.
fn without_place(mutant: &str) -> String {
    let mut parts = mutant.splitn(4, ':');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(file), Some(_line), Some(_column), Some(what)) => format!("{file}:{what}"),
        _ => mutant.to_owned(),
    }
}

/// The results of the mutants that could be built.
struct Outcome {
    noticed: usize,
    missed: Vec<String>,
}

impl Outcome {
    fn read(directory: &Path) -> Result<Self> {
        let lines = |name: &str| -> Result<Vec<String>> {
            let path = directory.join(name);
            let text =
                fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
            Ok(text.lines().map(str::to_owned).collect())
        };
        // A test that hangs has caught the mutant.
        Ok(Self {
            noticed: lines("caught.txt")?.len() + lines("timeout.txt")?.len(),
            missed: lines("missed.txt")?,
        })
    }

    fn unknown(&self, known: &BTreeSet<String>) -> Vec<&String> {
        self.missed.iter().filter(|mutant| !known.contains(&without_place(mutant))).collect()
    }

    /// Whether tests caught every mutant that changes what the code does: all but the known survivors.
    fn is_good(&self, known: &BTreeSet<String>) -> bool {
        self.noticed > 0 && self.unknown(known).is_empty()
    }

    fn text(&self, known: &BTreeSet<String>) -> String {
        let viable = self.noticed + self.missed.len();
        let unknown = self.unknown(known);
        let changing = self.noticed + unknown.len();
        let head = format!(
            "of {viable} mutants, {} are known to change nothing; of the other {changing}, tests catch {} ({} %)",
            viable - changing,
            self.noticed,
            (self.noticed * 100).checked_div(changing).unwrap_or(0),
        );
        let unknown = unknown.into_iter().map(|mutant| format!("\n  {mutant}"));
        std::iter::once(head).chain(unknown).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_survivor_is_known_on_any_line() {
        let list = "# Why.\n\na/src/b.rs: replace > with >= in C::d -- equal never happens\n";
        let known = survivors(list).unwrap();
        let missed = vec!["a/src/b.rs:12:5: replace > with >= in C::d".to_owned()];
        let outcome = Outcome { noticed: 19, missed };
        assert!(outcome.is_good(&known) && !outcome.is_good(&BTreeSet::new()));
        assert!(outcome.text(&BTreeSet::new()).contains("b.rs:12:5"));
    }

    #[test]
    fn known_survivors_count_neither_for_nor_against_the_tests() {
        let known = survivors("a.rs: replace | with ^ in b -- no bit is in both\n").unwrap();
        let survivor = "a.rs:1:2: replace | with ^ in b".to_owned();
        let outcome = Outcome { noticed: 1, missed: vec![survivor.clone(); 9] };
        assert!(outcome.is_good(&known));
        assert_eq!(
            outcome.text(&known),
            "of 10 mutants, 9 are known to change nothing; of the other 1, tests catch 1 (100 %)"
        );
        let other = "a.rs:1:2: replace | with & in b".to_owned();
        let outcome = Outcome { noticed: 99, missed: vec![survivor, other] };
        assert!(!outcome.is_good(&known));
        assert!(outcome.text(&known).starts_with(
            "of 101 mutants, 1 are known to change nothing; of the other 100, tests catch 99 (99 %)\n"
        ));
    }

    /// As if each one could not be built.
    #[test]
    fn a_run_that_catches_nothing_is_no_success() {
        assert!(!Outcome { noticed: 0, missed: Vec::new() }.is_good(&BTreeSet::new()));
    }

    #[test]
    fn a_survivor_needs_a_reason() {
        assert!(survivors("a.rs: replace > with >= in b").is_err());
        assert!(survivors("a.rs: replace > with >= in b -- ").is_err());
    }
}

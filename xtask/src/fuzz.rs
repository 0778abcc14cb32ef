//! `cargo xtask fuzz`: libFuzzer's targets, built with its coverage instrumentation.
//!
//! It needs neither a nightly nor cargo-fuzz, because the stable compiler has LLVM's coverage pass too.
//! Findings are kept below `target`; `--minimise` copies those into the repository that reach new code.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};

use crate::setup::{self, For};
use crate::step::{succeed, timed};
use crate::workspace::Workspace;

const PACKAGE: &str = "ringfence-fuzz";

/// LLVM's `SanitizerCoverage` in the form that libFuzzer reads, and every check of a debug build.
const RUSTFLAGS: [&str; 11] = [
    "--cfg=fuzzing",
    "-Cpasses=sancov-module",
    "-Cllvm-args=-sanitizer-coverage-level=4",
    "-Cllvm-args=-sanitizer-coverage-inline-8bit-counters",
    "-Cllvm-args=-sanitizer-coverage-pc-table",
    "-Cllvm-args=-sanitizer-coverage-trace-compares",
    "-Cllvm-args=-sanitizer-coverage-stack-depth",
    // The tables of counters are found by the names of their sections.
    "-Clink-dead-code",
    "-Ccodegen-units=1",
    "-Cdebug-assertions",
    "-Coverflow-checks",
];

/// The longest input, in bytes: several frames.
const LONGEST: &str = "-max_len=4096";
/// The longest input that is copied into the repository: longer than a frame of 1500 bytes.
const LONGEST_KEPT: &str = "-max_len=2048";
/// One input takes microseconds; after this many seconds it hangs.
const HANGS: &str = "-timeout=10";
/// The memory limit of a target, in MiB.
const MEMORY: &str = "-rss_limit_mb=1024";

/// The arguments of `fuzz`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The target; by default all, one after the other
    target: Option<String>,
    /// Seconds for each target
    #[arg(long, default_value_t = 60)]
    seconds: u32,
    /// Then reduce the corpus in the repository to the fewest inputs that reach the same code
    #[arg(long)]
    minimise: bool,
}

/// The directories of one target.
struct Target {
    name: String,
    program: PathBuf,
    /// The corpus in the repository.
    corpus: PathBuf,
    /// The inputs that libFuzzer has found, most of which reach nothing new.
    found: PathBuf,
    /// Inputs that break a property.
    broken: PathBuf,
}

/// Sets up, builds, and fuzzes.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, For::Fuzzing)?;
    let target_dir = workspace.target().join("fuzz");
    let programs = build(&workspace, &target_dir)?;
    let corpora = workspace.root().join("tests/fuzz/corpus");
    for name in choose(names(&corpora)?, args.target.as_deref())? {
        let place = |what: &str| target_dir.join(what).join(&name);
        let target = Target {
            program: programs.join(&name),
            corpus: corpora.join(&name),
            found: place("found"),
            broken: place("broken"),
            name,
        };
        let what = format!("fuzz {} for {} s", target.name, args.seconds);
        timed(&what, || target.fuzz(args.seconds))?;
        if args.minimise {
            timed(&format!("minimise the corpus of {}", target.name), || target.minimise())?;
        }
    }
    Ok(())
}

/// Builds the targets; returns the directory of their programs.
fn build(workspace: &Workspace, target_dir: &Path) -> Result<PathBuf> {
    let triple = host()?;
    let mut cargo = workspace.cargo("build");
    cargo
        .args(["--release", "--package", PACKAGE, "--bins"])
        // With a target named, neither build scripts nor macros get the flags.
        .args(["--target", &triple])
        .env("CARGO_TARGET_DIR", target_dir)
        .env("CARGO_ENCODED_RUSTFLAGS", RUSTFLAGS.join("\x1f"));
    timed("build the targets", || succeed(&mut cargo))?;
    Ok(target_dir.join(triple).join("release"))
}

/// The triple that the compiler builds for.
fn host() -> Result<String> {
    let output = Command::new("rustc").arg("-vV").output().context("run rustc -vV")?;
    let said = String::from_utf8_lossy(&output.stdout);
    let host = said.lines().find_map(|line| line.strip_prefix("host: "));
    Ok(host.context("rustc -vV names no host")?.to_owned())
}

/// The targets, each of which has a corpus.
fn names(corpora: &Path) -> Result<Vec<String>> {
    let entries = fs::read_dir(corpora).with_context(|| format!("list {}", corpora.display()))?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

fn choose(names: Vec<String>, wanted: Option<&str>) -> Result<Vec<String>> {
    let Some(wanted) = wanted else { return Ok(names) };
    if !names.iter().any(|name| name == wanted) {
        bail!("there is no target {wanted:?}; there are: {}", names.join(", "));
    }
    Ok(vec![wanted.to_owned()])
}

impl Target {
    fn fuzz(&self, seconds: u32) -> Result<()> {
        fs::create_dir_all(&self.found)
            .and_then(|()| fs::create_dir_all(&self.broken))
            .with_context(|| format!("make {}", self.found.display()))?;
        let mut fuzz = self.command();
        fuzz.arg(format!("-max_total_time={seconds}"))
            .arg(format!("-artifact_prefix={}/", self.broken.display()))
            .arg("-print_final_stats=1")
            // It writes to the first directory, and only reads the second.
            .args([&self.found, &self.corpus]);
        succeed(&mut fuzz).with_context(|| {
            format!(
                "an input breaks a property of {}: it is in {}, and `{} FILE` tries it again",
                self.name,
                self.broken.display(),
                self.program.display()
            )
        })
    }

    /// Reduces the corpus to the fewest inputs that reach the same code as all of them. Inputs whose name
    /// is not a hash were written for a particular value, so they stay.
    fn minimise(&self) -> Result<()> {
        let fewest = self.found.with_extension("fewest");
        if fewest.exists() {
            fs::remove_dir_all(&fewest).context("remove what an earlier run left")?;
        }
        fs::create_dir_all(&fewest).with_context(|| format!("make {}", fewest.display()))?;
        let mut merge = self.command();
        // Here it only matters that code is reached, not how often.
        merge.args(["-use_counters=0", "-set_cover_merge=1", LONGEST_KEPT]);
        succeed(merge.args([&fewest, &self.corpus, &self.found]))?;
        let kept = files(&fewest)?;
        ensure!(!kept.is_empty(), "libFuzzer kept nothing");
        for old in files(&self.corpus)?.iter().filter(|path| is_found(path)) {
            fs::remove_file(old).with_context(|| format!("remove {}", old.display()))?;
        }
        for file in kept.iter().filter(|path| is_found(path)) {
            let name = file.file_name().unwrap_or_default();
            fs::copy(file, self.corpus.join(name))
                .with_context(|| format!("copy {}", file.display()))?;
        }
        println!("{}: {} inputs", self.name, kept.len());
        Ok(())
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.args([LONGEST, HANGS, MEMORY]);
        command
    }
}

/// Whether an input has a name as libFuzzer gives it: its SHA-1.
fn is_found(input: &Path) -> bool {
    let name = input.file_name().unwrap_or_default().to_string_lossy();
    name.len() == 40 && name.chars().all(|c| c.is_ascii_hexdigit())
}

fn files(directory: &Path) -> Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("list {}", directory.display()))?;
    Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn targets() -> Vec<String> {
        ["decide", "packet"].map(str::to_owned).to_vec()
    }

    #[test]
    fn all_targets_unless_one_is_named() {
        assert_eq!(choose(targets(), None).unwrap(), ["decide", "packet"]);
        assert_eq!(choose(targets(), Some("packet")).unwrap(), ["packet"]);
    }

    #[test]
    fn an_input_with_a_name_stays() {
        assert!(is_found(Path::new("corpus/sip/0b8e0ab1c3d1e5f60718293a4b5c6d7e8f901234")));
        assert!(!is_found(Path::new("corpus/sip/authorization-3-spaces")));
    }

    #[test]
    fn an_unknown_target_is_told_the_known_ones() {
        let error = choose(targets(), Some("pocket")).unwrap_err().to_string();
        assert!(error.contains("\"pocket\"; there are: decide, packet"), "{error}");
    }
}

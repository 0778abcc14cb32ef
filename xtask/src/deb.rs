//! `cargo xtask deb`: builds the Debian packages from the shipped binary and `packaging`.

mod packer;
mod tree;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

pub(crate) use self::packer::placeholder;
use self::packer::{Built, Packer};
pub(crate) use self::tree::remove;
use crate::setup::{self, For};
use crate::shipped::{self, Architecture};
use crate::step::{succeed, timed};
use crate::workspace::Workspace;

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The options of `deb`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Build and pack a second time in another directory and compare the bytes, then run lintian
    #[arg(long)]
    check: bool,
    /// The architecture [default: this machine's]
    #[arg(long, value_enum, value_name = "ARCH")]
    arch: Option<Architecture>,
}

/// Installs missing requirements, builds, and packs.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let architecture = args.arch.map_or_else(Architecture::native, Ok)?;
    for package in make(&workspace, architecture, args.check)?.packages {
        println!("{}", package.display());
    }
    Ok(())
}

/// The packages, and the files of the product's package.
pub(crate) struct Made {
    /// The package of the product and the package of its symbols.
    pub(crate) packages: [PathBuf; 2],
    /// The directory with the product's files, and its control files in `DEBIAN`.
    pub(crate) tree: PathBuf,
}

/// Builds and packs below `target/debian`. With `check`, fails unless a second build gives the same
/// bytes and lintian reports nothing.
pub(crate) fn make(workspace: &Workspace, architecture: Architecture, check: bool) -> Result<Made> {
    architecture.require()?;
    setup::ensure(workspace, For::Packaging)?;
    let epoch = shipped::epoch(workspace)?;
    let built = build(workspace, architecture, &epoch)?;
    let packer = Packer {
        root: workspace.root(),
        built: &built,
        version: VERSION,
        architecture,
        epoch: &epoch,
    };
    let directory = workspace.target().join("debian");
    let packages = timed("pack", || packer.pack(&directory))?;
    if check {
        timed("build and pack in another directory", || again(workspace, &packer, &packages))?;
        timed("run lintian", || {
            let mut lintian = Command::new("lintian");
            // Debian accepts neither an error nor a warning.
            succeed(lintian.args(["--fail-on", "error,warning"]).args(&packages))
        })?;
    }
    Ok(Made { packages, tree: directory.join("work/ringfence") })
}

/// Packs the product twice into `directory`, the second time as a later version, and returns both.
pub(crate) fn upgrade(workspace: &Workspace, directory: &Path) -> Result<[PathBuf; 2]> {
    setup::ensure(workspace, For::Packaging)?;
    let (architecture, epoch) = (Architecture::native()?, shipped::epoch(workspace)?);
    let built = build(workspace, architecture, &epoch)?;
    let pack = |version: &str| -> Result<PathBuf> {
        let root = workspace.root();
        let packer = Packer { root, built: &built, version, architecture, epoch: &epoch };
        timed(&format!("pack {version}"), || packer.pack_product(directory))
    };
    let later = format!("{VERSION}+later");
    let packages = [pack(VERSION)?, pack(&later)?];
    remove(&directory.join("work"))?;
    Ok(packages)
}

fn build(workspace: &Workspace, architecture: Architecture, epoch: &str) -> Result<Built> {
    let what = format!("build ringfence for {}", architecture.debian());
    let places = (workspace.root(), workspace.target());
    let build = |which| shipped::build(which, places, architecture, epoch);
    let [binary, agent] = timed(&what, || Ok([build(shipped::PRODUCT)?, build(shipped::AGENT)?]))?;
    let manual = workspace.target().join("deb/manual");
    timed("write the man pages and completions", || write_manual(workspace, &manual))?;
    Ok(Built { binary, agent, manual })
}

/// Builds and packs a copy of the sources in a separate target directory. Fails unless the bytes
/// are those of `packages`. The man pages are reused, because they do not depend on the directory.
fn again(workspace: &Workspace, first: &Packer, packages: &[PathBuf; 2]) -> Result<()> {
    let directory = workspace.target().join("deb/built-again");
    remove(&directory)?;
    let (root, target) = (directory.join("sources"), directory.join("target"));
    shipped::copy_sources(workspace, &root)?;
    // So that the XDP program is also built there.
    let (settings, toolchain) = ("ebpf.env", target.join("toolchain"));
    fs::create_dir_all(&toolchain).context("make the toolchain's directory")?;
    fs::copy(workspace.toolchain().join(settings), toolchain.join(settings))
        .context("copy the settings of the XDP program's compiler")?;
    let make = |which| shipped::build(which, (&root, &target), first.architecture, first.epoch);
    let [binary, agent] = [make(shipped::PRODUCT)?, make(shipped::AGENT)?];
    compare(&first.built.binary, &binary)?;
    compare(&first.built.agent, &agent)?;
    let built = Built { binary, agent, manual: first.built.manual.clone() };
    let others = Packer { root: &root, built: &built, ..*first }.pack(&directory)?;
    for (package, other) in packages.iter().zip(&others) {
        compare(package, other)?;
    }
    remove(&directory)
}

/// Fails unless two files have the same bytes.
fn compare(file: &Path, other: &Path) -> Result<()> {
    let read = |file: &Path| fs::read(file).with_context(|| format!("read {}", file.display()));
    ensure!(
        read(file)? == read(other)?,
        "{} and {} differ: look with diffoscope",
        file.display(),
        other.display()
    );
    Ok(())
}

/// Writes the man pages and completions with the command line's example program.
fn write_manual(workspace: &Workspace, directory: &Path) -> Result<()> {
    remove(directory)?;
    let mut cargo = workspace.cargo("run");
    cargo.args(["--quiet", "--package", "filter-user", "--example", "manual", "--"]);
    succeed(cargo.arg(directory))
}

#[cfg(test)]
mod tests {
    use std::{env, process};

    use super::*;

    #[test]
    fn files_that_differ_in_a_byte_are_not_the_same() {
        let directory = env::temp_dir().join(format!("xtask-deb-{}", process::id()));
        fs::create_dir_all(&directory).unwrap();
        let file = |name: &str, text: &str| {
            let file = directory.join(name);
            fs::write(&file, text).unwrap();
            file
        };
        let (a, same, other) = (file("a", "12"), file("same", "12"), file("other", "13"));
        assert!(compare(&a, &same).is_ok());
        assert!(compare(&a, &other).is_err());
        fs::remove_dir_all(&directory).unwrap();
    }
}

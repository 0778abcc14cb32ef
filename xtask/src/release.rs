//! `cargo xtask release`: makes everything that is published for a release, in `target/dist`.
//!
//! Each architecture has the packages, an archive of the same files for other systems, and a bill of
//! materials. The release notes and the checksums are common to all.

mod sbom;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use crate::deb::{self, Made, VERSION, remove};
use crate::shipped::{self, Architecture};
use crate::step::{output, succeed, timed};
use crate::workspace::Workspace;

const ARCHITECTURES: [Architecture; 2] = [Architecture::Amd64, Architecture::Arm64];
/// The files of the archive that the package does not have under these names.
const LICENCES: [&str; 2] = ["LICENSE-APACHE", "LICENSE-MIT"];
const CHECKSUMS: &str = "SHA256SUMS";

/// The options of `release`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// An architecture; may be repeated [default: those that this machine can build for]
    #[arg(long, value_enum, value_name = "ARCH")]
    arch: Vec<Architecture>,
    /// Build everything a second time in another directory and compare the bytes, and run lintian
    #[arg(long)]
    check: bool,
}

impl Args {
    /// The options for the check before a release.
    pub(crate) fn checked() -> Self {
        Self { arch: Vec::new(), check: true }
    }
}

/// Installs missing requirements, builds, packs, and writes notes and checksums.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let dist = workspace.target().join("dist");
    remove(&dist)?;
    fs::create_dir_all(&dist).with_context(|| format!("make {}", dist.display()))?;
    let epoch = shipped::epoch(&workspace)?;
    for architecture in chosen(&args.arch)? {
        let made = deb::make(&workspace, architecture, args.check)?;
        publish(&workspace, &dist, architecture, &made, &epoch)?;
    }
    let notes = dist.join("NOTES.md");
    let changelog = workspace.root().join("CHANGELOG.md");
    let changelog = fs::read_to_string(changelog).context("read the changelog")?;
    let (heading, text) = notes_of(&changelog, VERSION).context("the changelog has no section")?;
    if !heading.contains(VERSION) {
        eprintln!(
            "xtask: the changelog has no section {VERSION}; the notes are those of {heading}"
        );
    }
    if let Some(address) = deb::placeholder() {
        eprintln!(
            "xtask: nobody can write to the packages' maintainer, {address}; to publish them, set \
             DEBFULLNAME and DEBEMAIL"
        );
    }
    fs::write(&notes, format!("# Ringfence {VERSION}\n\n{text}\n")).context("write the notes")?;
    let mut files: Vec<String> = Vec::new();
    for entry in fs::read_dir(&dist).context("list what was made")? {
        files.push(entry.context("list what was made")?.file_name().to_string_lossy().into_owned());
    }
    files.sort();
    let sums = output(Command::new("sha256sum").args(&files).current_dir(&dist))?;
    fs::write(dist.join(CHECKSUMS), format!("{sums}\n")).context("write the checksums")?;
    println!("{}:\n{sums}", dist.display());
    Ok(())
}

/// The requested architectures, or all that this machine can build for; prints which it cannot.
fn chosen(asked: &[Architecture]) -> Result<Vec<Architecture>> {
    if !asked.is_empty() {
        return Ok(asked.to_vec());
    }
    let mut chosen = Vec::new();
    for architecture in ARCHITECTURES {
        match architecture.require() {
            Ok(()) => chosen.push(architecture),
            Err(why) => eprintln!("xtask: {} is left out: {why}", architecture.debian()),
        }
    }
    ensure!(!chosen.is_empty(), "there is no architecture to build for");
    Ok(chosen)
}

/// Copies the files of one architecture into the directory.
fn publish(
    workspace: &Workspace,
    dist: &Path,
    architecture: Architecture,
    made: &Made,
    epoch: &str,
) -> Result<()> {
    for package in &made.packages {
        let name = package.file_name().context("a package without a name")?;
        fs::copy(package, dist.join(name)).context("copy a package")?;
    }
    let name = format!("ringfence-{VERSION}-{}", architecture.debian());
    let bill =
        timed("write the bill of materials", || sbom::write(workspace, architecture, epoch))?;
    fs::write(dist.join(format!("{name}.cdx.json")), bill)
        .context("write the bill of materials")?;
    timed("write the archive", || archive(workspace, dist, &name, &made.tree, epoch))
}

/// Packs the files of the package and the licences, in a directory of this name.
fn archive(workspace: &Workspace, dist: &Path, name: &str, tree: &Path, epoch: &str) -> Result<()> {
    let work = workspace.target().join("deb/archive");
    remove(&work)?;
    let top = work.join(name);
    fs::create_dir_all(&top).with_context(|| format!("make {}", top.display()))?;
    for part in ["etc", "usr"] {
        succeed(Command::new("cp").arg("-a").arg(tree.join(part)).arg(&top))?;
    }
    for licence in LICENCES {
        fs::copy(workspace.root().join(licence), top.join(licence)).context("copy a licence")?;
    }
    let file: PathBuf = dist.join(format!("{name}.tar.xz"));
    let mut tar = Command::new("tar");
    tar.args(["--create", "--sort=name", "--owner=0", "--group=0", "--numeric-owner"])
        .args(["--format=ustar", "--mode=u=rwX,go=rX", "--use-compress-program=xz -6 -T1"])
        .arg(format!("--mtime=@{epoch}"))
        .arg("--file")
        .arg(&file)
        .arg("--directory")
        .arg(&work)
        .arg(name);
    succeed(&mut tar)?;
    remove(&work)
}

/// The heading and the text of the section of a version, or of the first section if it has none.
fn notes_of<'a>(changelog: &'a str, version: &str) -> Option<(&'a str, &'a str)> {
    let sections = || changelog.split("\n## ").skip(1);
    let of_version = sections().find(|section| {
        let heading = section.lines().next().unwrap_or_default();
        heading.trim_start_matches(['[', 'v']).split([']', ' ']).next() == Some(version)
    });
    let (heading, text) = of_version.or_else(|| sections().next())?.split_once('\n')?;
    Some((heading.trim(), text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_notes_are_those_of_the_version() {
        let changelog = "# Changelog\n\nWords.\n\n## Unreleased\n\n- new\n\n## 0.2.0 - 2026-11-29\n\n### Added\n\n- a\n\n## 0.2\n\n- b\n";
        assert_eq!(notes_of(changelog, "0.2.0").unwrap().1, "### Added\n\n- a");
        assert_eq!(notes_of(changelog, "0.2").unwrap().1, "- b");
        assert_eq!(notes_of(changelog, "0.3.0").unwrap(), ("Unreleased", "- new"));
        assert_eq!(notes_of("# Changelog\n", "0.3.0"), None);
    }
}

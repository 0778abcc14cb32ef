//! `cargo xtask build`: the product's binary.

use std::path::PathBuf;
use std::process::Command;

use anyhow::Result;

use crate::setup;
use crate::step::{succeed, timed};
use crate::workspace::Workspace;

/// What `build` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Optimised, as it is shipped
    #[arg(long)]
    release: bool,
}

/// Sets up and builds.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    setup::ensure(&workspace, setup::For::Build)?;
    let mut command = cargo_build(&workspace, "filter-user", "ringfence");
    if args.release {
        command.arg("--release");
    }
    timed("build ringfence", || succeed(&mut command))
}

/// Builds one binary in release; returns where it is.
pub(crate) fn release(workspace: &Workspace, package: &str, binary: &str) -> Result<PathBuf> {
    let mut command = cargo_build(workspace, package, binary);
    command.arg("--release");
    timed(&format!("build {binary} (release)"), || succeed(&mut command))?;
    Ok(workspace.release_binary(binary))
}

/// Builds one binary as tests are built, with the checks of debug builds; returns where it is.
pub(crate) fn debug(workspace: &Workspace, package: &str, binary: &str) -> Result<PathBuf> {
    let mut command = cargo_build(workspace, package, binary);
    timed(&format!("build {binary}"), || succeed(&mut command))?;
    Ok(workspace.debug_binary(binary))
}

fn cargo_build(workspace: &Workspace, package: &str, binary: &str) -> Command {
    let mut command = workspace.cargo("build");
    command.args(["--package", package, "--bin", binary]);
    command
}

//! `cargo xtask build`: the product's binary.

use std::path::PathBuf;

use anyhow::Result;

use crate::setup;
use crate::step::{succeed, timed};
use crate::workspace::Workspace;

/// The arguments of `build`.
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
    let mut command = workspace.cargo("build");
    command.args(["--package", "filter-user", "--bin", "ringfence"]);
    if args.release {
        command.arg("--release");
    }
    timed("build ringfence", || succeed(&mut command))
}

/// Builds the agent of a fleet in release, beside `ringfence`.
pub(crate) fn agent(workspace: &Workspace) -> Result<()> {
    let mut command = workspace.cargo("build");
    command.args(["--release", "--package", "fleet-agent", "--bin", "ringfence-fleet"]);
    timed("build ringfence-fleet (release)", || succeed(&mut command))
}

/// Builds binaries in release; returns where they are.
pub(crate) fn release<const N: usize>(
    workspace: &Workspace,
    binaries: [&str; N],
) -> Result<[PathBuf; N]> {
    binaries_of(workspace, Profile::Release, binaries)
}

/// How the compiler optimises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Profile {
    Debug,
    Release,
}

/// Builds binaries; returns where they are.
///
/// Always builds those of both packages in one command, because cargo builds a crate again for each set
/// of features that the packages of a command need.
pub(crate) fn binaries_of<const N: usize>(
    workspace: &Workspace,
    profile: Profile,
    binaries: [&str; N],
) -> Result<[PathBuf; N]> {
    let mut command = workspace.cargo("build");
    command.args(["--package", "filter-user", "--package", "ringfence-tests"]);
    if profile == Profile::Release {
        command.arg("--release");
    }
    for binary in binaries {
        command.args(["--bin", binary]);
    }
    let name = format!("build {} ({profile:?})", binaries.join(" and ")).to_lowercase();
    timed(&name, || succeed(&mut command))?;
    Ok(binaries.map(|binary| match profile {
        Profile::Debug => workspace.debug_binary(binary),
        Profile::Release => workspace.release_binary(binary),
    }))
}

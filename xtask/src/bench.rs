//! `cargo xtask bench`: measurements, each beside a rival in the same run.

use std::ffi::OsString;

use anyhow::Result;

use crate::build;
use crate::privilege::Root;
use crate::run::become_command;
use crate::setup;
use crate::workspace::Workspace;

/// The arguments of `bench`.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The measurement
    name: String,
    /// Its options
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    options: Vec<OsString>,
}

/// Sets up, builds, and is replaced by `ringfence-bench`.
pub(crate) fn run(args: &Args) -> Result<()> {
    let workspace = Workspace::find()?;
    let root = Root::obtain("the measurement")?;
    setup::ensure(&workspace, setup::For::Bench)?;
    let [ringfence, bench] = build::release(&workspace, ["ringfence", "ringfence-bench"])?;
    if args.name == "fleet" {
        build::agent(&workspace)?;
    }
    let mut command = root.command(bench);
    command.arg(&args.name).arg("--ringfence").arg(ringfence);
    command.arg("--cache").arg(workspace.lab_cache());
    become_command(command.args(&args.options))
}

//! The arguments of the daemon and of its configuration: `run`, `reload` and `check-config`.

use clap::Args;

use super::Output;
use crate::config::Mode;

/// The arguments of `run`.
#[derive(Debug, Args)]
pub struct Run {
    /// An interface to protect instead of those in the configuration; may be repeated
    #[arg(short, long = "interface", value_name = "IF")]
    pub interfaces: Vec<String>,
    /// How to attach: `auto`, `native` (in the driver) or `generic` (in the network stack)
    #[arg(long)]
    pub mode: Option<Mode>,
    /// Decide and count, but drop nothing
    #[arg(long)]
    #[expect(clippy::struct_field_names, reason = "the option is called so")]
    pub dry_run: bool,
}

/// The arguments of `reload`.
#[derive(Debug, Args)]
pub struct Reload {
    /// Only show what would change
    #[arg(long)]
    pub dry_run: bool,
    /// Apply it even if it leaves no trusted network, or if a ban shuts out an address that is no longer trusted
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `check-config`.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Print every setting, including the defaults
    #[arg(long)]
    pub all: bool,
    /// Print nothing if there is no error; fail only for errors that prevent a start
    #[arg(short, long, conflicts_with_all = ["all", "json"])]
    pub quiet: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

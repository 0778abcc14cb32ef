//! The arguments of `alerts`.

use clap::{Args, Subcommand};

use super::Output;

/// What `alerts` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct AlertsOf {
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<AlertsVerb>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `alerts` does besides listing them.
#[derive(Debug, Subcommand)]
pub enum AlertsVerb {
    /// Send a test message, and say whether it was taken
    ///
    /// The daemon sends it as it sends real ones, but at once, whatever the limits and quiet hours are. It exits with 1 if
    /// one of them fails.
    Test {
        /// The name of an alert or action; without it, all are tested
        name: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

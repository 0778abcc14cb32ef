//! The arguments of `feeds`.

use std::path::PathBuf;

use ::feeds::Form;
use clap::{Args, Subcommand};

use super::Output;

/// What `feeds` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct FeedsOf {
    /// What to do.
    #[command(subcommand)]
    pub verb: Option<FeedsVerb>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `feeds` does besides listing them.
#[derive(Debug, Subcommand)]
pub enum FeedsVerb {
    /// Fetch a list once and show what a feed would ban
    ///
    /// Nothing is kept or banned. It needs no daemon.
    Test(FeedsTest),
    /// Use a list that was refused, or ban again what a feed lists
    ///
    /// A list is refused if it has shrunk by half or covers more addresses than a /8 has. The bans by a feed stay
    /// lifted after `unban --all` or `unban --jail feed:NAME`.
    Confirm {
        /// The name of the feed
        name: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

/// The arguments of `feeds test`.
#[derive(Debug, Args)]
pub struct FeedsTest {
    /// The URL of the list, or a file
    #[arg(value_name = "URL|FILE")]
    pub place: String,
    /// The form of the list, as `format` in the configuration
    #[arg(long, value_name = "FORMAT", default_value = "plain")]
    pub format: Form,
    /// A file with the key that the server asks for
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

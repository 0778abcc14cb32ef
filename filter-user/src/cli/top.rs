//! The arguments of `top`.

use std::time::Duration;

use clap::Args;

use crate::duration;

/// The arguments of `top`.
#[derive(Clone, Copy, Debug, Args)]
pub struct Top {
    /// Print lines of text about what has changed, without moving the cursor
    #[arg(long)]
    pub plain: bool,
    /// Use no colours
    #[arg(long, alias = "no-color")]
    pub no_colour: bool,
    /// How often to ask the daemon, such as `5s` [default: 1s, with --plain 10s]
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub interval: Option<Duration>,
}

//! The arguments of `fleet`.

use clap::Subcommand;

use super::Output;

/// What `fleet` does.
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Show the connection, and how many bans are shared and accepted
    Status(Output),
    /// List the other hosts, with the bans of each that count here and those that do not
    Hosts(Output),
    /// Lift the bans by a host, and accept none of it until it may join again
    ///
    /// This holds for the host on which you type it, also after a restart. `ringfence-fleet cut HOST` cuts a host off for
    /// all.
    Cut {
        /// The name of the host, or `all`
        host: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Accept the bans of a host again that was cut off
    Join {
        /// The name of the host, or `all`
        host: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

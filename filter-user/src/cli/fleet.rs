//! The arguments of `fleet`.

use clap::Subcommand;

use super::Output;

/// What `fleet` does.
#[derive(Debug, Subcommand)]
pub enum FleetVerb {
    /// Show the connection, and how many bans are shared and accepted
    Status(Output),
    /// List the other hosts, with the bans by each that count here and those that do not
    Hosts(Output),
    /// Lift the bans by a host, and accept none from it until it may join again
    ///
    /// This applies to the host on which you type it, and lasts over restarts. `ringfence-fleet cut HOST` cuts a host off
    /// from all.
    Cut {
        /// The name of the host, or `all`
        host: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Accept again the bans by a host that was cut off
    Join {
        /// The name of the host, or `all`
        host: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

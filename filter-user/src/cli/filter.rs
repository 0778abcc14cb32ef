//! The arguments of the commands that act on the filter itself: `maintenance`, `panic` and `capture`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use filter_common::decision::Reason;
use ipnet::IpNet;

use super::Output;
use crate::ban_list::network;
use crate::{capture, duration};

/// The arguments of `maintenance`.
#[derive(Debug, Subcommand)]
pub enum MaintenanceVerb {
    /// Close SIP to all but trusted networks and known peers
    ///
    /// SIP opens again by itself when the time is up, even if no daemon runs.
    On {
        /// How long SIP stays closed, such as `90s`, `10m` or `1h30m`; at most 24h
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "1h")]
        time: Duration,
        /// Close SIP to known peers too
        #[arg(long)]
        closed_to_known: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Open SIP again
    Off(Output),
    /// Show whether SIP is closed, and until when
    Status(Output),
}

/// The arguments of `panic`.
#[derive(Debug, Args)]
pub struct Panic {
    /// Enforce bans and limits again
    #[arg(long)]
    pub off: bool,
    /// A reason, for anybody who finds the file
    #[arg(long, value_name = "TEXT", conflicts_with = "off")]
    pub reason: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `capture`.
#[derive(Debug, Args)]
pub struct Capture {
    /// Only packets from this address or network
    #[arg(value_name = "NET", value_parser = network)]
    pub inside: Option<IpNet>,
    /// Only packets with this reason, as `status` shows it; may be repeated [default: those that are dropped]
    #[arg(long, value_name = "REASON", value_parser = capture::reason)]
    pub reason: Vec<Reason>,
    /// Packets that pass too
    #[arg(long, conflicts_with = "reason")]
    pub all: bool,
    /// Write the packets to this file as pcapng, or to standard output (`-`)
    #[arg(short, long, value_name = "FILE", conflicts_with = "json")]
    pub write: Option<PathBuf>,
    /// Stop after this many packets
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    pub count: u64,
    /// Stop after this time
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "10m")]
    pub time: Duration,
    /// Print a JSON document for each packet, on a line of its own
    #[arg(long)]
    pub json: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use crate::cli::Cli;

    #[test]
    fn maintenance_says_what_to_do() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("ringfence maintenance on --for 10m --closed-to-known").is_ok());
        assert!(parse("ringfence maintenance off").is_ok());
        assert!(parse("ringfence maintenance status --json").is_ok());
        assert!(parse("ringfence maintenance").is_err());
    }
}

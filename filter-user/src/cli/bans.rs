//! The arguments of `bans`, `ban` and `unban`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ipnet::IpNet;

use super::Output;
use crate::ban_list::{network, time};
use crate::duration;

/// The arguments of `bans`.
#[derive(Debug, Args)]
pub struct Bans {
    /// Only the bans by this jail
    #[arg(long)]
    pub jail: Option<String>,
    /// Only the bans that close this scope
    #[arg(long)]
    pub scope: Option<String>,
    /// Only the bans of this network, and of addresses and networks inside it
    #[arg(long = "in", value_name = "NET", value_parser = network)]
    pub inside: Option<IpNet>,
    /// Only the bans that began within this time, such as `10m` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// What comes first: the `newest`, the one that ends first (`end`), the one with the most `packets`, or the
    /// lowest `address`
    #[arg(long, value_name = "ORDER", hide_possible_values = true)]
    pub sort: Option<Sort>,
    /// Only the first N bans
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=10_000))]
    pub limit: Option<u16>,
    /// Only the bans that this host made: none by feeds or by other hosts of the fleet
    #[arg(long, conflicts_with = "limit")]
    pub own: bool,
    /// Print the bans as `ban --from` reads them
    #[arg(long, conflicts_with_all = ["sort", "limit", "json"])]
    pub export: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The order of a list of bans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Sort {
    /// The newest first.
    Newest,
    /// The one that ends first.
    End,
    /// The one with the most packets first.
    Packets,
    /// By address.
    Address,
}

/// The arguments of `ban`.
#[derive(Debug, Args)]
pub struct Ban {
    /// Which addresses and networks.
    #[command(flatten)]
    pub which: Listed,
    /// How long the ban lasts, such as `90s`, `10m`, `1h30m` or `7d`
    #[arg(long = "for", value_name = "DURATION", value_parser = time, default_value = "1h", conflicts_with = "forever")]
    pub time: Duration,
    /// Ban without an end
    #[arg(long)]
    pub forever: bool,
    /// What the ban closes: `sip`, `all`, or a name under `ports` in the configuration, such as `ssh`
    #[arg(long, default_value = "all")]
    pub scope: String,
    /// The reason to show in `bans` and `why`
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// An address or network inside it to exempt; may be repeated
    #[arg(long, value_name = "NET", value_parser = network, conflicts_with = "from")]
    pub except: Vec<IpNet>,
    /// Ban it even if it is a known peer, the host depends on it, or your own session comes from it
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The addresses and networks that `ban` bans.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Listed {
    /// The addresses and networks
    #[arg(value_name = "NET", value_parser = network)]
    pub networks: Vec<IpNet>,
    /// Take them from this file, or from standard input (`-`)
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
}

/// The arguments of `unban`.
#[derive(Debug, Args)]
pub struct Unban {
    /// Which bans.
    #[command(flatten)]
    pub which: Which,
    /// Lift the bans inside the networks too
    #[arg(long, requires = "networks", conflicts_with_all = ["jail", "all", "from"])]
    pub inside: bool,
    /// Lift only the manual ban that was made for this reason, if there is one, and forget nothing
    #[arg(long, value_name = "TEXT", requires = "networks", conflicts_with_all = ["inside", "jail", "all", "from"])]
    pub reason: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Which bans `unban` lifts.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The addresses and networks
    #[arg(value_name = "NET", value_parser = network)]
    pub networks: Vec<IpNet>,
    /// Take them from this file, or from standard input (`-`)
    #[arg(long, value_name = "FILE")]
    pub from: Option<PathBuf>,
    /// Lift all bans by this jail
    #[arg(long)]
    pub jail: Option<String>,
    /// Lift all bans
    #[arg(long)]
    pub all: bool,
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Command};

    #[test]
    fn networks() {
        assert_eq!(network("192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("::ffff:192.0.2.7").unwrap().to_string(), "192.0.2.7/32");
        assert_eq!(network("2001:db8::/64").unwrap().to_string(), "2001:db8::/64");
        assert!(network("192.0.2.7/24").unwrap_err().contains("192.0.2.0/24"));
        assert!(network("phone.example").is_err());
    }

    #[test]
    fn a_ban_has_one_length() {
        let parse = |args: &[&str]| {
            Cli::try_parse_from([&["ringfence", "ban", "192.0.2.7"], args].concat())
        };
        assert!(parse(&["--for", "7d"]).is_ok());
        assert!(parse(&["--forever"]).is_ok());
        assert!(parse(&["--forever", "--for", "7d"]).is_err());
        assert!(parse(&["192.0.2.8", "2001:db8::/64"]).is_ok());
        assert!(parse(&["--from", "x"]).is_err());
        let from = |args: &str| Cli::try_parse_from(format!("ringfence ban {args}").split(' '));
        assert!(from("--from - --scope sip --reason x").is_ok());
        assert!(from("--scope sip").is_err() && from("--from - --except 192.0.2.7").is_err());
        assert!(Cli::try_parse_from(["ringfence", "unban"]).is_err());
    }

    #[test]
    fn an_unban_is_of_one_kind() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for right in [
            "192.0.2.7",
            "192.0.2.7 192.0.2.8",
            "--from -",
            "192.0.2.0/24 --inside --json",
            "--all --json",
            "--jail sshd",
        ] {
            assert!(parse(&format!("ringfence unban {right}")).is_ok(), "{right}");
        }
        for wrong in [
            "--inside",
            "--from - --inside",
            "192.0.2.7 --from x",
            "--all --inside",
            "192.0.2.7 --all",
            "--jail sshd --all",
        ] {
            assert!(parse(&format!("ringfence unban {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_ban_has_exceptions() {
        let line = "ringfence ban 192.0.2.0/24 --except 192.0.2.7 --except 192.0.2.64/28";
        let command = Cli::try_parse_from(line.split(' ')).unwrap().command;
        let Command::Ban(ban) = command else { panic!("{line}") };
        assert_eq!(ban.except.len(), 2);
    }
}

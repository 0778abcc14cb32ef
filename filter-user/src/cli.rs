//! The command line: types only.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use ipnet::IpNet;

use crate::config::Mode;
use crate::{duration, fail2ban};

/// Keeps SIP attackers out of an Asterisk or Wazo host.
///
/// An XDP program drops banned sources and limits REGISTER floods before the kernel sees them; the
/// daemon reads what Asterisk says about failures and decides who is banned.
#[derive(Debug, Parser)]
#[command(name = "ringfence", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file [default: /etc/ringfence/config.yml]
    #[arg(short, long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// The daemon's control socket [default: as the configuration says]
    #[arg(long, global = true, value_name = "PATH", env = "RINGFENCE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Protect interfaces: the daemon, in the foreground
    Run(Run),
    /// Show what is protected, seen and dropped
    Status {
        /// Print one line for monitoring, and exit with 0 if all is well, 1 for a warning, 2 if packets
        /// come in unjudged or Asterisk is not heard
        #[arg(long)]
        check: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List the bans in force
    Bans {
        /// Only those of this jail
        #[arg(long)]
        jail: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Ban an address or a network by hand
    Ban(Ban),
    /// Lift bans, and forget the failures behind them
    Unban(Unban),
    /// Say whether an address is dropped, by what, and on which evidence
    Why {
        /// The address
        address: IpAddr,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Show each jail's settings, watched and banned sources
    Jails(Output),
    /// Close SIP to all but trusted networks, as while Asterisk restarts; it opens by itself
    #[command(subcommand)]
    Maintenance(Maintenance),
    /// Run a log file through a jail's parser, or a filter of fail2ban's: what matches, what does not
    TestLog(TestLog),
    /// Take over what another program is set to, and whom it has banned
    #[command(subcommand)]
    Import(Import),
    /// Read the configuration as `run` would, and print what it sets
    CheckConfig(CheckConfig),
    /// Say what keeps failures from being heard, and what mends it
    Doctor(Doctor),
    /// Take the filter off its interfaces; bans are in force again from the next start on
    Detach(Output),
}

impl Cli {
    /// Whether the command prints one JSON document.
    pub fn json(&self) -> bool {
        match &self.command {
            Command::Jails(output)
            | Command::Status { output, .. }
            | Command::Detach(output)
            | Command::Bans { output, .. }
            | Command::Why { output, .. }
            | Command::Ban(Ban { output, .. })
            | Command::Unban(Unban { output, .. })
            | Command::Maintenance(
                Maintenance::On { output, .. }
                | Maintenance::Off(output)
                | Maintenance::Status(output),
            )
            | Command::Import(Import::Fail2ban(ImportFail2ban { output, .. }))
            | Command::CheckConfig(CheckConfig { output, .. })
            | Command::Doctor(Doctor { output, .. }) => output.json,
            Command::Run(_) | Command::TestLog(_) => false,
        }
    }
}

/// What `check-config` takes.
#[derive(Debug, Args)]
pub struct CheckConfig {
    /// Every setting, those that nobody has set as well
    #[arg(long)]
    pub all: bool,
    /// Nothing, if all is right; fail only for what keeps `run` from starting
    #[arg(short, long, conflicts_with_all = ["all", "json"])]
    pub quiet: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `doctor` takes.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Install what is shipped for it; asks before each file
    #[arg(long, conflicts_with = "json")]
    pub fix: bool,
    /// With `--fix`: do not ask
    #[arg(long, requires = "fix")]
    pub yes: bool,
    /// Asterisk's directory of configuration
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `import` takes.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Jails' settings, filters and bans of fail2ban; changes nothing of fail2ban's
    Fail2ban(ImportFail2ban),
}

/// What `import fail2ban` takes.
#[derive(Debug, Args)]
pub struct ImportFail2ban {
    /// The directory of fail2ban's configuration
    #[arg(long, value_name = "DIR", default_value = fail2ban::DIRECTORY)]
    pub from: PathBuf,
    /// Its database [default: as its configuration says]
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// That of a Wazo host, where Wazo has it; fails if it is none
    #[arg(long, conflicts_with_all = ["from", "database"])]
    pub from_wazo: bool,
    /// Where the settings go [default: conf.d/50-fail2ban.yml beside the configuration file]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Asterisk's directory of configuration, which says what is in its logs
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// Only show what would be taken
    #[arg(long)]
    pub dry_run: bool,
    /// Replace settings that are there already
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub struct Run {
    /// An interface to protect, instead of those in the configuration; may be repeated
    #[arg(short, long = "interface", value_name = "IF")]
    pub interfaces: Vec<String>,
    /// `auto`, `native` (in the driver) or `generic` (in the network stack)
    #[arg(long)]
    pub mode: Option<Mode>,
    /// Judge and count, but drop nothing
    #[arg(long)]
    #[expect(clippy::struct_field_names, reason = "the option is called so")]
    pub dry_run: bool,
}

/// What `ban` takes.
#[derive(Debug, Args)]
pub struct Ban {
    /// The address or network
    #[arg(value_parser = network)]
    pub network: IpNet,
    /// For how long, as `90s`, `10m`, `1h30m` or `7d`
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "1h", conflicts_with = "forever")]
    pub time: Duration,
    /// Without end
    #[arg(long)]
    pub forever: bool,
    /// What it closes: `sip`, `all`, or a name in `ports` of the configuration, as `ssh`
    #[arg(long, default_value = "all")]
    pub scope: String,
    /// Why, for those who read it later
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// An address or network inside it that is left out; may be repeated
    #[arg(long, value_name = "NET", value_parser = network)]
    pub except: Vec<IpNet>,
    /// Even if this very session comes from there, or it is a known peer
    #[arg(long)]
    pub force: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `maintenance` takes.
#[derive(Debug, Subcommand)]
pub enum Maintenance {
    /// Close SIP
    On {
        /// For how long, as `90s`, `10m` or `1h30m`; at most 24 h
        #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "1h")]
        time: Duration,
        /// To known peers as well
        #[arg(long)]
        closed_to_known: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Open SIP again
    Off(Output),
    /// Say whether SIP is closed, and until when
    Status(Output),
}

/// What `unban` takes.
#[derive(Debug, Args)]
pub struct Unban {
    /// Which bans.
    #[command(flatten)]
    pub which: Which,
    /// Bans of addresses and networks inside the network as well
    #[arg(long, requires = "network", conflicts_with_all = ["jail", "all"])]
    pub inside: bool,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// Which bans `unban` lifts.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub struct Which {
    /// The address or network
    #[arg(value_parser = network)]
    pub network: Option<IpNet>,
    /// All bans of this jail
    #[arg(long)]
    pub jail: Option<String>,
    /// All bans
    #[arg(long)]
    pub all: bool,
}

/// What `test-log` takes.
#[derive(Debug, Args)]
pub struct TestLog {
    /// The jail, or the path of a fail2ban filter, as `/etc/fail2ban/filter.d/sshd.conf[mode=extra]`
    pub jail: String,
    /// The file, or `-` for standard input
    pub file: PathBuf,
    /// Print a JSON document a line, for the lines that mean something
    #[arg(long)]
    pub json: bool,
    /// For every line; without --json, list each that means nothing
    #[arg(long)]
    pub all: bool,
    /// List the lines that mean something
    #[arg(long, conflicts_with = "json")]
    pub matched: bool,
}

/// An address, or a network.
fn network(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.to_canonical().into());
    }
    let network: IpNet = text.parse().map_err(|_invalid| {
        "neither an address nor a network, as `192.0.2.7` or `2001:db8::/64`".to_owned()
    })?;
    if network.trunc() != network {
        return Err(format!("not a network; the network around it is {}", network.trunc()));
    }
    Ok(network)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

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
        assert!(Cli::try_parse_from(["ringfence", "unban"]).is_err());
    }

    #[test]
    fn an_unban_is_of_one_kind() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for right in ["192.0.2.7", "192.0.2.0/24 --inside --json", "--all --json", "--jail sshd"] {
            assert!(parse(&format!("ringfence unban {right}")).is_ok(), "{right}");
        }
        for wrong in ["--inside", "--all --inside", "192.0.2.7 --all", "--jail sshd --all"] {
            assert!(parse(&format!("ringfence unban {wrong}")).is_err(), "{wrong}");
        }
    }

    #[test]
    fn an_import_is_of_one_place() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(
            parse("ringfence import fail2ban --from /x --database /y --dry-run --json").is_ok()
        );
        assert!(parse("ringfence import fail2ban --from-wazo").is_ok());
        assert!(parse("ringfence import fail2ban --from-wazo --from /x").is_err());
        assert!(parse("ringfence import").is_err());
    }

    #[test]
    fn maintenance_and_exceptions() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        assert!(parse("ringfence maintenance on --for 10m --closed-to-known").is_ok());
        assert!(parse("ringfence maintenance off").is_ok());
        assert!(parse("ringfence maintenance status --json").is_ok());
        assert!(parse("ringfence maintenance").is_err());
        let line = "ringfence ban 192.0.2.0/24 --except 192.0.2.7 --except 192.0.2.64/28";
        let Command::Ban(ban) = parse(line).unwrap().command else { panic!("{line}") };
        assert_eq!(ban.except.len(), 2);
    }
}

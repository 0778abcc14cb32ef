//! The command line: types only, those of a family of commands in a module of their own.
//!
//! Must never contain logic of the product.

mod alerts;
mod audit;
mod bans;
mod daemon;
mod decided;
mod feeds;
mod filter;
mod fleet;
mod logs;
mod top;

use std::net::IpAddr;
use std::path::PathBuf;

use clap::{ArgMatches, Args, Parser, Subcommand};
use ipnet::IpNet;

pub use self::alerts::{AlertsOf, AlertsVerb};
pub use self::audit::{
    Audit, AuditDevices, AuditPart, ChangeDevices, Doctor, ExposureVerb, OfAsterisk,
};
pub use self::bans::{Ban, Bans, Listed, Sort, Unban, Which};
pub use self::daemon::{CheckConfig, Reload, Run};
pub use self::decided::{Allow, Disallow, HistoryOf, Set, Setting};
pub use self::feeds::{FeedsOf, FeedsTest, FeedsVerb};
pub use self::filter::{Capture, MaintenanceVerb, Panic};
pub use self::fleet::FleetVerb;
pub use self::logs::{Import, ImportFail2ban, TestLog};
pub use self::top::Top;
use crate::ban_list::{address, network};

/// Keeps SIP attackers out of an Asterisk or Wazo host.
///
/// An XDP program drops the packets of banned sources and limits SIP floods before they reach the
/// network stack. The daemon reads the failures that Asterisk, sshd and wazo-provd log, and bans their
/// sources.
#[derive(Debug, Parser)]
#[command(name = "ringfence", version, arg_required_else_help = true)]
pub struct Cli {
    /// The configuration file [default: /etc/ringfence/config.yml]
    #[arg(short, long, global = true, value_name = "PATH")]
    pub config: Option<PathBuf>,
    /// The daemon's control socket [default: control.sock in `paths.runtime`]
    #[arg(long, global = true, value_name = "PATH", env = "RINGFENCE_SOCKET")]
    pub socket: Option<PathBuf>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon in the foreground and protect the interfaces
    Run(Run),
    /// Show the interfaces, packets by reason, sources, jails and bans
    ///
    /// `--check` is for monitoring. The exit status is 0 if all is well; 1 for a warning, such as a store that
    /// fails; and 2 if packets pass unfiltered, SIP is received where the filter does not see it, no log of
    /// Asterisk is read, or no daemon answers.
    Status {
        /// Print one line, and exit with 0 (ok), 1 (warning) or 2 (critical)
        #[arg(long)]
        check: bool,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Print the metrics for Prometheus
    ///
    /// Prometheus cannot read a Unix socket. `--textfile` writes a file for the textfile collector of Prometheus's node
    /// exporter. It leaves out the metrics of the process, because the exporter has its own of these names.
    Metrics {
        /// Replace this file instead of printing
        #[arg(long, value_name = "FILE")]
        textfile: Option<PathBuf>,
    },
    /// Print a link for logging in to the page in a browser
    ///
    /// The page needs `api.listen`. The link is valid once, within five minutes, and the login for 12 hours or until the
    /// daemon stops. It leads to this host: from another one, forward the port with `ssh -L`, or use a web server.
    Page(Output),
    /// List the bans in force
    ///
    /// The newest ban comes first. More than 10,000 bans are listed by address instead, as they arrive from the
    /// daemon. The jail of a manual ban is `manual`, that of a ban for a flood `flood`, and that of a network with many
    /// offenders `escalation`.
    ///
    /// `--export` prints the bans as `ban --from` reads them, by address.
    ///
    /// While no daemon runs, it lists the bans that the kernel enforces, with details from the store.
    Bans(Bans),
    /// Ban addresses and networks manually
    ///
    /// Trusted and own addresses cannot be banned. Known peers, and addresses from which you are logged
    /// in, can only be banned with `--force`.
    ///
    /// A file for `--from` has one address or network on each line; `#` begins a comment. The
    /// network may be followed by `until=TIME`, `until=never` or `for=DURATION`, `scope=NAME`, `jail=NAME`,
    /// `except=NET,NET`, and at the end of the line by `reason=TEXT`; the options supply missing values.
    /// Each invalid line is reported with its number, and all other lines take effect.
    Ban(Ban),
    /// Lift bans and forget the failures that led to them
    ///
    /// Earlier bans of the address or network are forgotten too. For an IPv6 address, the bans by jails of its
    /// network (`ipv6_prefix`) are lifted. `--from` reads the same files as `ban --from`.
    ///
    /// While no daemon runs, the bans are lifted in the store and in the kernel, so that the next start does not
    /// enforce them again. If the store cannot be written, nothing is lifted.
    Unban(Unban),
    /// Trust an address or a network while the daemon runs and after restarts
    ///
    /// Its packets are never dropped, and it is never banned; bans in it are lifted. It lasts until `disallow`, or for
    /// the time that you give.
    Allow(Allow),
    /// End an `allow` of exactly this address or network
    Disallow(Disallow),
    /// List the networks that are allowed, with comment, end and author
    Allows(Output),
    /// List the bans that ended and the manual changes of the last 90 days
    ///
    /// The newest comes first. At most 250,000 entries are kept. Bans for floods are not among them.
    History(HistoryOf),
    /// Change a setting of a jail while the daemon runs and after restarts
    ///
    /// The value applies from the next failure on, and takes precedence over the configuration until it
    /// is set to `default`. `ringfence jails` shows it.
    Set(Set),
    /// Show live what passes, what is dropped, who attacks and whether all is well
    ///
    /// Keys: `1` to `5` choose what is shown, `w` explains the selected address, `b`, `u` and `a` ban, unban and
    /// allow (root only), `/` filters, `s` sorts, `p` pauses, `?` lists all keys, `q` quits.
    ///
    /// `--plain` is for screen readers: lines of text about what has changed. Colours are off with `--no-colour`, or
    /// if `NO_COLOR` is set.
    Top(Top),
    /// Say whether packets from an address are dropped, and explain why or why not
    ///
    /// For a banned address, it shows the ban, its end and the evidence. For any other, it shows how close each
    /// jail is to a ban, and which failures do not count.
    Why {
        /// The address
        #[arg(value_parser = address)]
        address: IpAddr,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Show the settings of each jail and how many sources it watches and bans
    ///
    /// For one jail, it shows all settings, the files that it reads with their rules, and its counts
    /// since the daemon started.
    Jails {
        /// Only this jail, in full
        name: Option<String>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// List the feeds, with the state of their lists and the packets that their bans matched
    ///
    /// A feed is a list of addresses that somebody else publishes. `PROBLEM` says what is wrong with one, and what to
    /// do.
    Feeds(FeedsOf),
    /// List the alerts and actions, with what they have sent
    ///
    /// `SUPPRESSED` events are only counted in a message; `LOST` ones were not sent.
    Alerts(AlertsOf),
    /// Show the fleet: the administrator's other hosts, with which this one shares bans
    #[command(subcommand)]
    Fleet(FleetVerb),
    /// List the known peers, such as registered phones
    ///
    /// `LEFT` is how long a peer stays known unless it registers again.
    Peers {
        /// Only those in this network
        #[arg(value_name = "NET", value_parser = network)]
        inside: Option<IpNet>,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
    /// Close SIP to all but trusted networks and known peers for a limited time
    ///
    /// SIP opens again by itself when the time is up, even if no daemon runs.
    #[command(subcommand)]
    Maintenance(MaintenanceVerb),
    /// Confirm that the host can still be reached after the first start, or after `exposure` closes more
    ///
    /// On its first start on a host the daemon enforces bans and limits, but stops dropping packets after
    /// five minutes (`confirm.within`) unless you confirm. After a reload that closes more services, these
    /// open again. A new login over ssh confirms it too.
    Confirm(Output),
    /// Let every packet pass at once, or enforce bans and limits again with `--off`
    ///
    /// For an emergency in which the filter may be the cause. It needs no daemon and no valid
    /// configuration. The filter stays attached and counts the packets that it would drop. The file
    /// `disabled` next to the configuration has the same effect after restarts; if you create or remove
    /// that file, a running daemon notices it within five seconds.
    Panic(Panic),
    /// Read the configuration again and apply it, as a whole or not at all
    ///
    /// No packet goes unfiltered meanwhile, and no failure is forgotten. It says which settings change, and which keep
    /// their old value until the daemon is restarted. SIGHUP does the same.
    Reload(Reload),
    /// Test which lines of a log a jail or a fail2ban filter recognises
    ///
    /// It reads the log as the daemon does, plain or as `journalctl -o json` writes it, and shows which lines match,
    /// which do not and why, and which sources the jail would have banned.
    TestLog(TestLog),
    /// Import the settings and bans of another program
    #[command(subcommand)]
    Import(Import),
    /// Check the configuration and print its settings
    ///
    /// Each value is shown with its file and line. The filters that jails name are checked too.
    CheckConfig(CheckConfig),
    /// List the problems that reduce protection, and how to solve each
    ///
    /// It checks the configuration, the daemon and its store, the interfaces, each source, Asterisk's logger.conf and
    /// manager.conf, the rotation of logs, sshd's ports, fail2ban's jails and the service. It exits with 1 if it finds
    /// a problem. `--fix` keeps a copy of each file that it changes (`FILE.before-ringfence`).
    Doctor(Doctor),
    /// Report on the security of the host: what listens, weak passwords, what the doctor finds, and the state of the
    /// filter
    ///
    /// Each finding has a reason, evidence, and a line that solves it. The exit status is 0 if there are
    /// only notes, 1 for warnings and 2 for critical findings. It changes nothing and needs no daemon.
    Audit(Audit),
    /// Close services that strangers need not reach
    #[command(subcommand)]
    Exposure(ExposureVerb),
    /// Show packets as the filter judges them, or write them to a file for Wireshark
    ///
    /// Unlike tcpdump, it also sees the packets that the filter drops. It keeps the first 512 bytes of
    /// each, of at most 1,000 packets a second and CPU. In the file, each has its verdict and reason as a comment.
    /// It needs no daemon.
    Capture(Capture),
    /// Detach the filter from its interfaces; the next start enforces the bans again
    ///
    /// This works only while no daemon runs. To lift the bans too, use `ringfence unban --all` before you stop the
    /// daemon.
    Detach(Output),
}

/// How to print.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// Print one JSON document
    #[arg(long)]
    pub json: bool,
}

/// Whether the command prints one JSON document, also about an error: whether it has [`Output`], and `--json` is given.
pub fn wants_json(line: &ArgMatches) -> bool {
    let mut command = line;
    while let Some((_name, verb)) = command.subcommand() {
        command = verb;
    }
    // The `--json` of `capture` and `test-log` is another: it prints a document for each packet or line.
    let output = Output::group_id().map(|output| command.try_contains_id(output.as_str()));
    matches!(output, Some(Ok(true))) && command.get_flag("json")
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
    fn one_document_is_asked_for_in_one_way() {
        fn check(command: &clap::Command) -> usize {
            let name = command.get_name();
            let is_json = |id: &clap::Id| id == "json";
            let has_json = command.get_arguments().any(|argument| is_json(argument.get_id()));
            let output = Output::group_id().expect("clap names a group after `Output`");
            let mut outputs = command.get_groups().filter(|group| *group.get_id() == output);
            let of_output = outputs.any(|group| group.get_args().any(is_json));
            let is_of_lines = ["capture", "test-log"].contains(&name);
            assert_eq!(of_output, has_json && !is_of_lines, "{name}");
            usize::from(of_output) + command.get_subcommands().map(check).sum::<usize>()
        }
        assert!(check(&Cli::command()) > 20);
        for (line, expected) in [
            ("status --json", true),
            ("status --check --json", true),
            ("status", false),
            ("page --json", true),
            ("bans --json", true),
            ("feeds --json", true),
            ("feeds confirm x --json", true),
            ("feeds confirm x", false),
            ("fleet cut x --json", true),
            ("maintenance off --json", true),
            ("audit --json", true),
            ("audit", false),
            ("audit ports --json", true),
            ("audit ports", false),
            ("import fail2ban --json", true),
            ("capture --json", false),
            ("test-log sshd - --json", false),
            ("metrics", false),
            ("run", false),
        ] {
            let words = ["ringfence"].into_iter().chain(line.split(' '));
            let matches = Cli::command().try_get_matches_from(words).expect(line);
            assert_eq!(wants_json(&matches), expected, "{line}");
        }
    }
}

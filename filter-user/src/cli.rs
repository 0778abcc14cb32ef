//! The command line: types only.
//!
//! Must never contain logic of the product.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ::feeds::Form;
use clap::{Args, Parser, Subcommand, ValueEnum};
use filter_common::decision::Reason;
use ipnet::IpNet;

use crate::ban_list::network;
use crate::config::Mode;
use crate::{capture, duration, fail2ban};

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
    /// List the problems that reduce protection, and how to solve each of them
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

impl Cli {
    /// Whether the command prints one JSON document.
    pub fn json(&self) -> bool {
        match &self.command {
            Command::Jails { output, .. }
            | Command::Feeds(
                FeedsOf {
                    verb:
                        Some(
                            FeedsVerb::Test(FeedsTest { output, .. })
                            | FeedsVerb::Confirm { output, .. },
                        ),
                    ..
                }
                | FeedsOf { verb: None, output },
            )
            | Command::Alerts(
                AlertsOf { verb: Some(AlertsVerb::Test { output, .. }), .. }
                | AlertsOf { verb: None, output },
            )
            | Command::Fleet(
                FleetVerb::Status(output)
                | FleetVerb::Hosts(output)
                | FleetVerb::Cut { output, .. }
                | FleetVerb::Join { output, .. },
            )
            | Command::Peers { output, .. }
            | Command::Status { output, .. }
            | Command::Detach(output)
            | Command::Confirm(output)
            | Command::Page(output)
            | Command::Bans(Bans { output, .. })
            | Command::Why { output, .. }
            | Command::Allow(Allow { output, .. })
            | Command::Disallow(Disallow { output, .. })
            | Command::Allows(output)
            | Command::History(HistoryOf { output, .. })
            | Command::Set(Set { output, .. })
            | Command::Ban(Ban { output, .. })
            | Command::Unban(Unban { output, .. })
            | Command::Panic(Panic { output, .. })
            | Command::Reload(Reload { output, .. })
            | Command::Maintenance(
                MaintenanceVerb::On { output, .. }
                | MaintenanceVerb::Off(output)
                | MaintenanceVerb::Status(output),
            )
            | Command::Import(Import::Fail2ban(ImportFail2ban { output, .. }))
            | Command::CheckConfig(CheckConfig { output, .. })
            | Command::Audit(
                Audit {
                    part:
                        Some(
                            AuditPart::Ports(OfAsterisk { output, .. })
                            | AuditPart::Accounts(OfAsterisk { output, .. })
                            | AuditPart::Devices(AuditDevices { output, .. }),
                        ),
                    ..
                }
                | Audit { part: None, output, .. },
            )
            | Command::Exposure(ExposureVerb::Suggest(OfAsterisk { output, .. }))
            | Command::Doctor(Doctor { output, .. }) => output.json,
            Command::Run(_)
            | Command::TestLog(_)
            | Command::Capture(_)
            | Command::Metrics { .. }
            | Command::Top(_) => false,
        }
    }
}

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

/// The arguments of `doctor`.
#[derive(Debug, Args)]
pub struct Doctor {
    /// Install the files that solve a problem; ask before each file
    #[arg(long, conflicts_with = "json")]
    pub fix: bool,
    /// With `--fix`: do not ask
    #[arg(long, requires = "fix")]
    pub yes: bool,
    /// Asterisk's configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `exposure` takes.
#[derive(Debug, Subcommand)]
pub enum ExposureVerb {
    /// Suggest which services to close, from what listens and from the networks that use it
    ///
    /// It prints configuration to paste, and changes nothing. The filter records for each port that
    /// listens which networks use it; a suggestion is certain once it has done so for a week.
    Suggest(OfAsterisk),
}

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
    /// A list is refused if it has shrunk by half or covers more addresses than a /8 has. The bans of a feed stay
    /// lifted after `unban --all` or `unban --jail feed:NAME`.
    Confirm {
        /// The name of the feed
        name: String,
        /// How to print.
        #[command(flatten)]
        output: Output,
    },
}

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

/// What `audit` takes.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Audit {
    /// One part of the audit.
    #[command(subcommand)]
    pub part: Option<AuditPart>,
    /// Write the report as a page to this file, or to standard output (`-`)
    #[arg(long, value_name = "FILE", conflicts_with = "json")]
    pub html: Option<PathBuf>,
    /// Leave out the findings of an earlier audit, which `--json` or `--write-baseline` wrote to this file
    #[arg(long, value_name = "FILE")]
    pub baseline: Option<PathBuf>,
    /// Write this audit to a file, with all findings, for a later `--baseline`
    #[arg(long, value_name = "FILE")]
    pub write_baseline: Option<PathBuf>,
    /// Asterisk's configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// A part of the audit.
#[derive(Debug, Subcommand)]
pub enum AuditPart {
    /// List what listens on the host, who can reach it, and what protects it
    ///
    /// It compares the sockets that listen on every address or on a public one with the ports that Wazo
    /// documents, and Asterisk's SIP transports with `sip` in the configuration. It works on any host.
    Ports(OfAsterisk),
    /// List the SIP accounts whose passwords a guesser tries first, and those under attack
    ///
    /// It reads pjsip.conf with what it includes, and asks Asterisk for the accounts that it has from elsewhere. It
    /// names the accounts, and never shows a password. The daemon says which accounts are under attack.
    Accounts(OfAsterisk),
    /// List the weak, missing and shared passwords of the telephones that wazo-provd configures
    ///
    /// It also lists telephones with public addresses, and whether a telephone needs a key to fetch its configuration.
    /// It never shows a password. It asks wazo-provd, with the key of the service that the package registers, with a
    /// user, or with a token, which `RINGFENCE_WAZO_TOKEN` may contain. It needs curl.
    ///
    /// `--fix` replaces passwords in wazo-provd. The telephones get the new ones with `--synchronize`; until then,
    /// `--undo` restores the old ones, which `/var/lib/misc/ringfence.devices` contains for root only.
    Devices(AuditDevices),
}

/// What `audit devices` takes.
#[derive(Debug, Args)]
pub struct AuditDevices {
    /// The address of another Wazo host, such as `https://wazo.example` [default: the daemons of this host]
    #[arg(long, value_name = "URL")]
    pub url: Option<String>,
    /// Log in to wazo-auth as this user; asks for the password
    #[arg(long, value_name = "NAME", conflicts_with = "token")]
    pub username: Option<String>,
    /// Use the token of wazo-auth in this file; `-` asks for it
    #[arg(long, value_name = "FILE")]
    pub token: Option<PathBuf>,
    /// Trust the authorities in this file, in PEM, instead of those of the host
    #[arg(long, value_name = "FILE", requires = "url")]
    pub ca: Option<PathBuf>,
    /// Accept any certificate, and http: anybody on the way can read the passwords
    #[arg(long, requires = "url", conflicts_with = "ca")]
    pub insecure: bool,
    /// What to change.
    #[command(flatten)]
    pub change: ChangeDevices,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// What `audit devices` changes.
#[derive(Clone, Copy, Debug, Args)]
#[group(multiple = false, conflicts_with = "json")]
#[expect(clippy::struct_excessive_bools, reason = "each is an option, and the group allows one")]
pub struct ChangeDevices {
    /// Replace weak and missing passwords with random ones; ask for each
    #[arg(long)]
    pub fix: bool,
    /// Restore the passwords that `--fix` replaced
    #[arg(long)]
    pub undo: bool,
    /// Have the telephones fetch the passwords that `--fix` set, and forget the old ones; ask first
    #[arg(long)]
    pub synchronize: bool,
    /// Forget the old passwords, because the telephones were synchronised in another way
    #[arg(long)]
    pub forget: bool,
}

/// The arguments of a part of the audit that concerns Asterisk.
#[derive(Debug, Args)]
pub struct OfAsterisk {
    /// Asterisk's configuration directory
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `import`.
#[derive(Debug, Subcommand)]
pub enum Import {
    /// Import fail2ban's jails, filters and bans; fail2ban itself is not changed
    Fail2ban(ImportFail2ban),
}

/// The arguments of `import fail2ban`.
#[derive(Debug, Args)]
pub struct ImportFail2ban {
    /// fail2ban's configuration directory
    #[arg(long, value_name = "DIR", default_value = fail2ban::DIRECTORY)]
    pub from: PathBuf,
    /// fail2ban's database [default: as in fail2ban's configuration]
    #[arg(long, value_name = "FILE")]
    pub database: Option<PathBuf>,
    /// Use the locations of a Wazo host; fail on any other host
    #[arg(long, conflicts_with_all = ["from", "database"])]
    pub from_wazo: bool,
    /// The file to write [default: conf.d/50-fail2ban.yml next to the configuration file]
    #[arg(long, value_name = "FILE")]
    pub to: Option<PathBuf>,
    /// Asterisk's configuration directory, which shows what each log contains
    #[arg(long, value_name = "DIR", default_value = "/etc/asterisk")]
    pub asterisk_config: PathBuf,
    /// Show what would be imported, and change nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Overwrite a file that contains other settings
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
    /// Only the bans of this host: none by feeds or by other hosts of the fleet
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
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse, default_value = "1h", conflicts_with = "forever")]
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

/// The arguments of `allow`.
#[derive(Debug, Args)]
pub struct Allow {
    /// The address or network
    #[arg(value_name = "NET", value_parser = network)]
    pub network: IpNet,
    /// How long, such as `10m` or `7d` [default: until `disallow`]
    #[arg(long = "for", value_name = "DURATION", value_parser = duration::parse)]
    pub time: Option<Duration>,
    /// What it is for, to show in `allows` and `why`
    #[arg(long, value_name = "TEXT")]
    pub comment: Option<String>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `disallow`.
#[derive(Debug, Args)]
pub struct Disallow {
    /// The address or network
    #[arg(value_name = "NET", value_parser = network)]
    pub network: IpNet,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `history`.
#[derive(Debug, Args)]
pub struct HistoryOf {
    /// Only what concerns this address or network, something in it, or a network around it
    #[arg(value_name = "NET", value_parser = network)]
    pub network: Option<IpNet>,
    /// Only what happened within this time, such as `10m` or `7d`
    #[arg(long, value_name = "DURATION", value_parser = duration::parse)]
    pub since: Option<Duration>,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// The arguments of `set`.
#[derive(Debug, Args)]
pub struct Set {
    /// The jail
    pub jail: String,
    /// `maxretry`, `findtime` or `bantime`
    #[arg(value_name = "SETTING", hide_possible_values = true)]
    pub setting: Setting,
    /// The value as in the configuration, or seconds; `default` for the configured one
    pub value: String,
    /// How to print.
    #[command(flatten)]
    pub output: Output,
}

/// A setting that `set` changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Setting {
    /// How many failures lead to a ban.
    Maxretry,
    /// How long a failure counts.
    Findtime,
    /// How long a ban lasts.
    Bantime,
}

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

/// The arguments of `test-log`.
#[derive(Debug, Args)]
pub struct TestLog {
    /// The jail, or the path of a fail2ban filter such as
    /// `/etc/fail2ban/filter.d/sshd.conf[mode=extra]`
    pub jail: String,
    /// The log file, or `-` for standard input
    pub file: PathBuf,
    /// Print a JSON document for each line that is recognised
    #[arg(long)]
    pub json: bool,
    /// Include unrecognised lines; without --json, list all of them
    #[arg(long)]
    pub all: bool,
    /// List the recognised lines
    #[arg(long, conflicts_with = "json")]
    pub matched: bool,
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
    fn an_audit_is_of_the_whole_or_of_a_part() {
        let parse = |line: &str| Cli::try_parse_from(line.split(' '));
        for right in ["", " --json", " --html - --baseline x --write-baseline x", " ports --json"] {
            assert!(parse(&format!("ringfence audit{right}")).is_ok(), "{right}");
        }
        for wrong in [" --html", " --html x --json", " --json ports", " ports --html x"] {
            assert!(parse(&format!("ringfence audit{wrong}")).is_err(), "{wrong}");
        }
        assert!(parse("ringfence audit ports --json").unwrap().json());
        for right in
            ["", " --json", " --fix", " --url https://a --ca x --undo", " --token - --forget"]
        {
            assert!(parse(&format!("ringfence audit devices{right}")).is_ok(), "{right}");
        }
        for wrong in [" --fix --json", " --fix --undo", " --insecure", " --token x --username y"] {
            assert!(parse(&format!("ringfence audit devices{wrong}")).is_err(), "{wrong}");
        }
        assert!(!parse("ringfence audit").unwrap().json());
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

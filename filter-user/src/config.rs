//! The configuration, checked before anything else sees it.
//!
//! [`Config::load`] reads files into a valid [`Config`]; [`Loaded`] also says which file set which value.
//! Nothing here looks at the host: the users of a setting find out whether an interface or a log exists.
//!
//! Must never look at the host.

mod alerts;
mod api;
mod changes;
mod contradictions;
mod document;
mod error;
mod feeds;
mod fleet;
mod geo;
mod kind;
mod load;
mod names;
mod render;
mod schema;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use ipnet::IpNet;

pub use self::alerts::{
    ALERTS_MAX, Action, ActionKind, Alert, AlertKind, Argument, Hook, Hours, ITEMS_MAX, JailName,
    Mailbox, Smtp,
};
pub use self::api::{Api, Loopback};
pub use self::error::{ConfigError, ConfigErrors, ERRORS_MAX};
pub use self::feeds::{Feed, Place};
pub use self::fleet::{Fleet, FleetAccept, FleetHost, FleetServer, Publish, SERVERS_MAX};
pub use self::geo::{DATABASES_MAX, Geo};
pub use self::kind::LIST_MAX;
pub use self::load::{FILE_MAX, Loaded, Overrides, SetBy};
pub use self::render::Setting;
pub(crate) use self::yaml::has_value;

pub use datapath::settings::{
    ByteLimits, ClassLimits, Flood, Limit, Limits, Mode, Peers, PrefixLimits, Rate, Signatures,
    USER_AGENT_MAX, USER_AGENTS_MAX, UserAgent,
};
use detection::ban::Roster;
use detection::escalation::Bounds;
use detection::register::{LogSetting, Reads, SOURCES, Source};
pub use detection::settings::{
    Escalation, Exposure, Factor, FilterName, GuessingSettings, HOST_NAMES_MAX, HostName,
    Increment, JailSettings, JournalMatch, LOGS_MAX, LogPattern, MULTIPLIERS_MAX, OWN_JAILS_MAX,
    Offenders, OwnJail, PORT_CLASSES_MAX, PortClass, PortClasses, PortGuard, PortRange, RECIDIVE,
    Scope, Service, SipPorts, Thresholds, Unproven, Weights, built_in_jails, intern, services,
};

/// The configuration file, unless the command line names another.
pub const DEFAULT_PATH: &str = "/etc/ringfence/config.yml";

/// Which of the addresses that the host depends on no jail may ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a setting")]
pub struct Protect {
    /// The gateways of its default routes.
    pub gateways: bool,
    /// Its name servers.
    pub name_servers: bool,
    /// The trunks that Asterisk registers to, or identifies by address.
    pub trunks: bool,
    /// Where its SSH sessions come from.
    pub ssh_sessions: bool,
}

impl Default for Protect {
    fn default() -> Self {
        Self { gateways: true, name_servers: true, trunks: true, ssh_sessions: true }
    }
}

/// A valid configuration. [`Config::default`] suits a Wazo host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The interfaces to protect; if empty, those with a default route.
    pub interfaces: Vec<String>,
    /// How the XDP program is attached.
    pub mode: Mode,
    /// Judge and count, but drop nothing.
    pub dry_run: bool,
    /// Networks that are never dropped or banned.
    pub trusted: Vec<IpNet>,
    /// Hosts whose current addresses are trusted too.
    pub trusted_names: Vec<HostName>,
    /// Whether networks are trusted only on the interfaces through which a reply to them would leave.
    pub trusted_by_route: bool,
    /// Which of the addresses that the host depends on no jail may ban.
    pub protect: Protect,
    /// The ports that carry SIP.
    pub sip: SipPorts,
    /// Other ports, by name.
    pub ports: PortClasses,
    /// Services that are not open to everybody.
    pub exposure: Exposure,
    /// The length of the IPv6 networks that the jails treat as one source.
    pub ipv6_prefix: u8,
    /// How much is remembered.
    pub capacity: Capacity,
    /// How fast packets of each class may arrive.
    pub limits: Limits,
    /// When the filter counts as unattended.
    pub watchdog: Watchdog,
    /// How the first start on a host is confirmed.
    pub confirm: Confirm,
    /// Peers that have proven themselves.
    pub peers: Peers,
    /// Sources that were banned before.
    pub offenders: Offenders,
    /// When networks are banned for the offenders in them.
    pub escalation: Escalation,
    /// The signatures of scanners.
    pub signatures: Signatures,
    /// The jails by name, enabled or not: the built-in ones and your own.
    pub jails: BTreeMap<&'static str, JailSettings>,
    /// Lists of addresses that somebody else publishes, by name.
    pub feeds: BTreeMap<String, Feed>,
    /// The countries and autonomous systems from which SIP is admitted.
    pub geo: Geo,
    /// What is told to whom, by name.
    pub alerts: BTreeMap<String, Alert>,
    /// What is run for bans, by name.
    pub actions: BTreeMap<String, Action>,
    /// The administrator's other hosts, with which this one shares bans.
    pub fleet: Fleet,
    /// Where failures are read from.
    pub sources: Sources,
    /// How the daemon is reached over TCP.
    pub api: Api,
    /// Where the daemon keeps its files.
    pub paths: Paths,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interfaces: Vec::new(),
            mode: Mode::Auto,
            dry_run: false,
            trusted: Vec::new(),
            trusted_names: Vec::new(),
            trusted_by_route: false,
            protect: Protect::default(),
            sip: SipPorts {
                udp: vec![PortRange::single(5060)],
                tcp: vec![PortRange::single(5060), PortRange::single(5061)],
            },
            ports: PortClasses::default(),
            exposure: Exposure::default(),
            ipv6_prefix: 64,
            capacity: Capacity {
                bans: 1_000_000,
                bans_ipv6: 131_072,
                watched: 1_000_000,
                offenders: 100_000,
            },
            limits: Limits::default(),
            watchdog: Watchdog { after: Duration::from_mins(2) },
            confirm: Confirm { within: Duration::from_mins(5) },
            peers: Peers { remember: Duration::from_hours(2) },
            offenders: Offenders { remember: Duration::from_hours(30 * 24) },
            escalation: Escalation::default(),
            signatures: Signatures::default(),
            jails: detection::settings::defaults(),
            feeds: BTreeMap::new(),
            geo: Geo::default(),
            alerts: BTreeMap::new(),
            actions: BTreeMap::new(),
            fleet: Fleet::default(),
            sources: Sources {
                asterisk: AsteriskSource {
                    notice_log: "/var/log/asterisk/fail2ban".into(),
                    security_log: None,
                    ami: AmiSource {
                        enabled: true,
                        host: "127.0.0.1".into(),
                        port: 5038,
                        remote: false,
                        listener: "asterisk".into(),
                        user: "ringfence".into(),
                        secret_file: "/etc/ringfence/ami.secret".into(),
                    },
                },
                sshd: SshdSource { log: SshdLog::Auto, auth_log: "/var/log/auth.log".into() },
                logs: SOURCES.iter().filter_map(default_log).collect(),
            },
            api: Api::default(),
            paths: Paths {
                state: "/var/lib/ringfence".into(),
                runtime: "/run/ringfence".into(),
                bpffs: "/sys/fs/bpf/ringfence".into(),
            },
        }
    }
}

impl Config {
    /// The names of all jails and feeds, with the numbers of their bans.
    pub fn roster(&self) -> Roster {
        Roster::new(self.jails.keys().copied()).with_feeds(self.feeds.keys().map(String::as_str))
    }

    /// How long failures are stored: as long as the jail counts them that counts them longest.
    pub fn findtime_max(&self) -> Duration {
        self.jails.values().map(|jail| jail.findtime).max().unwrap_or_default()
    }
}

impl From<&Config> for Bounds {
    fn from(config: &Config) -> Self {
        let capacity = usize::try_from(config.capacity.offenders).unwrap_or(usize::MAX);
        Self { capacity, remember: config.offenders.remember }
    }
}

/// When the filter counts as unattended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Watchdog {
    /// How long the daemon may be silent; zero: for ever.
    pub after: Duration,
}

impl Watchdog {
    /// How long the daemon may be silent; `None` if there is no limit.
    pub fn after(self) -> Option<Duration> {
        Some(self.after).filter(|after| !after.is_zero())
    }
}

/// How the first start on a host is confirmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Confirm {
    /// How long an administrator has for it; zero: it needs no confirmation.
    pub within: Duration,
}

impl Confirm {
    /// How long an administrator has to confirm; `None` if that is not necessary.
    pub fn within(self) -> Option<Duration> {
        Some(self.within).filter(|within| !within.is_zero())
    }
}

/// How much is remembered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    /// The most IPv4 addresses that can be banned at a time.
    pub bans: u32,
    /// The most single IPv6 addresses that can be banned at a time.
    pub bans_ipv6: u32,
    /// The most sources whose failures each jail remembers.
    pub watched: u32,
    /// The most addresses whose earlier bans are counted, for each jail.
    pub offenders: u32,
}

/// Where failures are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sources {
    /// Asterisk on this host.
    pub asterisk: AsteriskSource,
    /// OpenSSH's server.
    pub sshd: SshdSource,
    /// The logs of the built-in sources that have one of their own, by the name of the source.
    pub logs: BTreeMap<&'static str, PathBuf>,
}

/// Where sshd's failures are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshdSource {
    /// Which log is read.
    pub log: SshdLog,
    /// The file, if it is read.
    pub auth_log: PathBuf,
}

/// Which log of sshd is read. Reading both would count each failure twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SshdLog {
    /// The journal if systemd keeps one, otherwise the file.
    Auto,
    /// The systemd journal.
    Journal,
    /// The file that syslog writes.
    File,
}

impl SshdLog {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Journal, Self::File];

    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Journal => "journal",
            Self::File => "file",
        }
    }
}

impl FromStr for SshdLog {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|log| log.as_str() == text)
            .ok_or_else(|| "use `auto`, `journal` or `file`".to_owned())
    }
}

/// The log of a built-in source that has one of its own.
fn default_log(source: &Source) -> Option<(&'static str, PathBuf)> {
    match source.reads {
        Reads::Log(LogSetting { default, .. }) => Some((source.name, default.into())),
        Reads::Notices | Reads::SecurityEvents | Reads::Manager | Reads::Sshd => None,
    }
}

/// Where Asterisk's failures are read from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AsteriskSource {
    /// The log file with the NOTICE level.
    pub notice_log: PathBuf,
    /// The log file with the SECURITY level, plain or JSON, if one is read.
    pub security_log: Option<PathBuf>,
    /// Its manager interface.
    pub ami: AmiSource,
}

/// Asterisk's manager interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AmiSource {
    /// Whether its security events are received.
    pub enabled: bool,
    /// The name or address of its host.
    pub host: String,
    /// Its TCP port.
    pub port: u16,
    /// Whether it may be where the daemon cannot check which process listens.
    pub remote: bool,
    /// The user on this host, by name or number, that may listen there besides root.
    pub listener: String,
    /// The user to log in as.
    pub user: String,
    /// The file with the user's secret.
    pub secret_file: PathBuf,
}

/// Where the daemon keeps its files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Paths {
    /// The daemon's state.
    pub state: PathBuf,
    /// The control socket's directory.
    pub runtime: PathBuf,
    /// The pinned program, link and maps.
    pub bpffs: PathBuf,
}

impl Paths {
    /// The socket that the commands use.
    pub fn control_socket(&self) -> PathBuf {
        self.runtime.join("control.sock")
    }
}

//! The configuration, checked before anything else sees it.
//!
//! [`Config::load`] reads files into a valid [`Config`]; [`Loaded`] also says which file set which value.
//! Nothing here looks at the host: the users of a setting find out whether an interface or a log exists.
//!
//! Must never look at the host.

mod alerts;
mod api;
mod capacity;
mod changes;
mod contradictions;
mod document;
mod error;
mod feeds;
mod fleet;
mod geo;
mod kind;
mod load;
mod memory;
mod names;
mod paths;
mod protect;
mod render;
mod safety;
mod schema;
mod section;
mod signatures;
mod sources;
mod suggest;
#[cfg(test)]
mod tests;
mod yaml;

use std::collections::BTreeMap;
use std::time::Duration;

use ipnet::IpNet;

pub use self::alerts::{
    ALERTS_MAX, Action, ActionKind, Alert, AlertKind, Argument, Hook, Hours, ITEMS_MAX, JailName,
    Mailbox, Smtp,
};
pub use self::api::{Api, Loopback};
pub use self::capacity::Capacity;
pub use self::error::{ConfigError, ConfigErrors, ERRORS_MAX};
pub use self::feeds::{Feed, Place};
pub use self::fleet::{Fleet, FleetAccept, FleetHost, FleetServer, Publish, SERVERS_MAX};
pub use self::geo::{DATABASES_MAX, Geo};
pub use self::kind::LIST_MAX;
pub use self::load::{FILE_MAX, Loaded, Overrides, SetBy};
pub use self::memory::{Offenders, Peers};
pub use self::paths::Paths;
pub use self::protect::Protect;
pub use self::render::Setting;
pub use self::safety::{Confirm, Watchdog};
use self::schema::declared;
use self::section::section;
pub use self::signatures::Signatures;
pub use self::sources::{AmiSource, AsteriskSource, Sources, SshdLog, SshdSource};
pub(crate) use self::yaml::has_value;

pub use datapath::settings::{
    ByteLimits, ClassLimits, Flood, Limit, Limits, Mode, PrefixLimits, Rate, USER_AGENT_MAX,
    USER_AGENTS_MAX, UserAgent,
};
use detection::ban::Roster;
use detection::escalation::Bounds;
pub use detection::settings::{
    Escalation, Exposure, Factor, FilterName, GuessingSettings, HOST_NAMES_MAX, HostName,
    Increment, JailSettings, JournalMatch, LOGS_MAX, LogPattern, MULTIPLIERS_MAX, OWN_JAILS_MAX,
    OwnJail, PORT_CLASSES_MAX, PortClass, PortClasses, PortGuard, PortRange, RECIDIVE, Scope,
    Service, SipPorts, Thresholds, Unproven, Weights, built_in_jails, intern, services,
};

/// The configuration file, unless the command line names another.
pub const DEFAULT_PATH: &str = "/etc/ringfence/config.yml";

section! {
    /// A valid configuration. [`Config::default`] suits a Wazo host.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Config(scopes) {
        interfaces: Vec<String> = Vec::new(),
            "The interfaces to protect, at most 8. An empty list protects every interface with a \
             default route.",
            Interfaces();
        mode: Mode = Mode::Auto,
            "How the filter is attached: `native` (in the driver), `generic` (in the network \
             stack: works everywhere, costs more per packet) or `auto` (native if the driver \
             supports it, otherwise generic).",
            Choice(&Mode::ALL, Mode::as_str);
        dry_run: bool = false, "Decide and count, but drop nothing.", Flag();
        trusted: Vec<IpNet> = Vec::new(),
            "Addresses, networks and host names that are never dropped or banned. Loopback and \
             the host's own addresses are never banned in any case.",
            Hosts(trusted_names, "to watch without dropping anything, set `dry_run: true`");
        /// Hosts whose current addresses are trusted too.
        trusted_names: Vec<HostName> = Vec::new();
        trusted_by_route: bool = false,
            "Trust a network only on the interfaces through which a reply to it would leave. On \
             any other interface its addresses must be forged.",
            Flag();
        /// Which of the addresses that the host depends on no jail may ban.
        protect: Protect = Protect::default() => section "protect";
        /// The ports that carry SIP.
        sip: SipPorts = SipPorts::default() => declared "sip";
        /// Other ports, by name.
        ports: PortClasses = PortClasses::default() => declared "ports";
        /// Services that are not open to everybody.
        exposure: Exposure = Exposure::default() => declared "exposure";
        ipv6_prefix: u8 = 64,
            "The length of the IPv6 network that jails count and ban as one source; 128 means \
             single addresses. Known peers and addresses that the jail ignores are exempt from \
             such a ban.",
            Length(48..=128);
        /// How much is remembered.
        capacity: Capacity = Capacity::default() => section "capacity";
        /// How fast packets of each class may arrive.
        limits: Limits = Limits::default() => declared "limits";
        /// When the filter counts as unattended.
        watchdog: Watchdog = Watchdog::default() => section "watchdog";
        /// How the first start on a host is confirmed.
        confirm: Confirm = Confirm::default() => section "confirm";
        /// Peers that have proven themselves.
        peers: Peers = Peers::default() => section "peers";
        /// Sources that were banned before.
        offenders: Offenders = Offenders::default() => section "offenders";
        /// When networks are banned for the offenders in them.
        escalation: Escalation = Escalation::default() => declared "escalation";
        /// The signatures of scanners.
        signatures: Signatures = Signatures::default() => section "signatures";
        /// The jails by name, enabled or not: the built-in ones and your own.
        jails: BTreeMap<&'static str, JailSettings> =
            detection::settings::defaults() => rows declared::jails;
        /// Lists of addresses that somebody else publishes, by name.
        feeds: BTreeMap<String, Feed> = BTreeMap::new() => sections "feeds";
        /// The countries and autonomous systems from which SIP is admitted.
        geo: Geo = Geo::default() => section "geo";
        /// What is reported to whom, by name.
        alerts: BTreeMap<String, Alert> = BTreeMap::new() => sections "alerts";
        /// What is run for bans, by name.
        actions: BTreeMap<String, Action> = BTreeMap::new() => sections "actions";
        /// The administrator's other hosts, with which this one shares bans.
        fleet: Fleet = Fleet::default() => section "fleet";
        /// Where failures are read from.
        sources: Sources = Sources::default() => section "sources";
        /// How the daemon is reached over TCP.
        api: Api = Api::default() => section "api";
        /// Where the daemon keeps its files.
        paths: Paths = Paths::default() => section "paths";
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

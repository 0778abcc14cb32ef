//! What the daemon protects, sees and drops.

use std::collections::BTreeMap;
use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{FeedState, FleetState, MaintenanceState};

/// What the daemon protects, sees and drops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// How long the daemon has been running, in seconds.
    pub uptime_seconds: u64,
    /// Whether it drops packets; if not, `enforcement` says why.
    pub enforcing: bool,
    /// Whether bans and limits are enforced, and until when.
    pub enforcement: Enforcement,
    /// The interfaces that it protects or should protect.
    pub interfaces: Vec<Interface>,
    /// The packets of all interfaces, by the reason why they passed or were dropped.
    pub reasons: BTreeMap<String, ReasonCount>,
    /// Packets that a dry run would have dropped, by reason.
    pub would_drop: BTreeMap<String, u64>,
    /// The bans in force.
    pub bans: Bans,
    /// The known peers.
    pub peers: Peers,
    /// Whether SIP is closed for maintenance.
    pub maintenance: MaintenanceState,
    /// The file that contains the bans.
    pub store: Store,
    /// The daemon's log.
    pub log: Log,
    /// Host names whose addresses are trusted.
    pub trusted_names: Vec<NamedHost>,
    /// Networks that are allowed at run time.
    #[serde(default)]
    pub allowed: u64,
    /// The addresses that the host depends on, and the bans that were not made.
    #[serde(default)]
    pub essential: Essential,
    /// The User-Agents of scanners whose packets are dropped.
    pub signatures: Vec<Signature>,
    /// The sources of failures.
    pub sources: Vec<Source>,
    /// Signs that failures are not recognised.
    pub hearing: Vec<Hearing>,
    /// Traffic that the filter does not see.
    pub exposure: Vec<Exposure>,
    /// The feeds.
    #[serde(default)]
    pub feeds: Vec<FeedHealth>,
    /// The countries and autonomous systems from which SIP is admitted; null if no database is configured.
    #[serde(default)]
    pub geo: Option<GeoStatus>,
    /// The fleet; null if this host is in none.
    #[serde(default)]
    pub fleet: Option<FleetHealth>,
    /// Alerts and actions that cannot be sent.
    #[serde(default)]
    pub alerts: Vec<FailingAlert>,
    /// Bans of networks with many offenders.
    pub escalation: Escalation,
    /// The jails.
    pub jails: Vec<JailCount>,
}

/// Whether a feed is fetched as planned.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FeedHealth {
    /// Its name.
    pub name: String,
    /// Its state.
    pub state: FeedState,
    /// What is wrong with it, and what to do; null if nothing is.
    pub problem: Option<String>,
    /// When the list was last fetched, or found to be unchanged; null if never.
    pub fetched: Option<String>,
}

/// Whether this host shares bans with the others of its fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetHealth {
    /// Its state.
    pub state: FleetState,
    /// What is wrong, and what to do; null if nothing is.
    pub problem: Option<String>,
    /// The other hosts.
    pub hosts: u64,
    /// Their bans that are in force here.
    pub banned: u64,
}

/// The countries and autonomous systems from which SIP is admitted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct GeoStatus {
    /// What the configuration wants, such as `admit DE, AS3320`; null if the databases only say where addresses are.
    pub policy: Option<String>,
    /// Whether packets are only counted.
    pub dry_run: bool,
    /// The state.
    pub state: GeoState,
    /// What is wrong, and what to do; null if nothing is.
    pub problem: Option<String>,
    /// Whether a table is in force, which may be an earlier one.
    pub in_force: bool,
    /// The databases in use.
    pub databases: Vec<GeoDatabase>,
    /// The networks in them that the policy names.
    pub networks: u64,
    /// What the policy names and no database contains.
    pub unknown: Vec<String>,
}

/// The state of a policy of countries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum GeoState {
    /// The databases are being read.
    #[default]
    Waiting,
    /// It is in force as configured.
    Ok,
    /// A database cannot be read. What was in force before still is.
    Failing,
    /// It would shut out addresses that the host depends on, and is not in force. What was in force before still
    /// is.
    Refused,
}

impl GeoState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Ok => "ok",
            Self::Failing => "failing",
            Self::Refused => "refused",
        }
    }
}

/// A database of countries or of autonomous systems.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct GeoDatabase {
    /// Its file.
    pub path: String,
    /// What its publisher calls it.
    pub kind: String,
    /// When it was made.
    pub built: Option<String>,
}

/// The addresses that the host depends on. No jail bans them, and a manual ban needs `force`; limits apply to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Essential {
    /// The gateways of the default routes.
    pub gateways: Vec<IpAddr>,
    /// The name servers.
    pub name_servers: Vec<IpAddr>,
    /// The addresses and networks of trunks.
    pub trunks: Vec<String>,
    /// The sources of SSH sessions.
    pub ssh_sessions: Vec<IpAddr>,
    /// Bans that were not made since the start, because the address is essential, trusted or the host's own.
    pub prevented: u64,
    /// The last ban that was not made; null if there is none.
    pub last: Option<Prevented>,
}

/// The bans of an address that were not made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Prevented {
    /// The address.
    pub address: IpAddr,
    /// What it is, such as `a default gateway` or `trusted`.
    pub is: String,
    /// The jail that would have made the last ban, or `flood`.
    pub jail: String,
    /// The failures that would have led to the bans.
    pub failures: u64,
    /// The number of bans.
    pub bans: u64,
    /// When the last ban would have begun.
    pub last: String,
}

/// Whether bans and limits are enforced, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Enforcement {
    /// The state.
    pub state: EnforcementState,
    /// When enforcement stops unless an administrator confirms; null if the state is permanent.
    pub confirm_until: Option<String>,
    /// When the services that `exposure` closes open again unless an administrator confirms; null if no
    /// confirmation is awaited.
    #[serde(default)]
    pub exposure_confirm_until: Option<String>,
}

/// Whether bans and limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EnforcementState {
    /// They are enforced.
    Enforcing,
    /// They are enforced, but the first start on this host is not confirmed yet.
    Unconfirmed,
    /// They are not enforced: the first start was not confirmed in time.
    Lapsed,
    /// They are not enforced: the configuration asks for a dry run.
    DryRun,
    /// They are not enforced: the emergency switch is on.
    Disabled,
}

/// An interface. `received` is the sum of `passed` and `dropped`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Where the filter runs: `native`, in the driver, or `generic`, in the network stack.
    pub mode: String,
    /// The same as `protected`.
    pub attached: bool,
    /// Whether the filter sees its packets.
    pub protected: bool,
    /// Why not; null if it does.
    pub why: Option<String>,
    /// Whether known peers are learned from packets that leave through it.
    pub learning: bool,
    /// Why not; null if they are.
    pub not_learning: Option<String>,
    /// Why the mode is generic although native mode was tried; null otherwise.
    pub fallback: Option<String>,
    /// Packets that arrived.
    pub received: u64,
    /// The packets among them that passed.
    pub passed: u64,
    /// The packets among them that were dropped.
    pub dropped: u64,
}

/// The fate of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It passes to the network stack.
    Pass,
    /// It is dropped.
    Drop,
}

/// The packets with one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ReasonCount {
    /// The verdict of the reason.
    pub verdict: Verdict,
    /// The number of packets.
    pub packets: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

/// The number of bans in force, and the room for them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Bans {
    /// Bans in force.
    pub active: u64,
    /// The number of IPv4 addresses for which there is room.
    pub capacity: u64,
    /// The number of IPv6 addresses for which there is room.
    pub capacity_ipv6: u64,
}

/// Counts of known peers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Peers {
    /// Known peers now.
    pub known: u64,
    /// Unproven failures of known peers, which did not count.
    pub spared: u64,
    /// How often an address became a known peer.
    pub learned: u64,
    /// How often there was no room for another known peer.
    pub no_room: u64,
}

/// The file that contains the bans and other data that outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Store {
    /// Whether it can be written.
    pub state: StoreState,
    /// Why not; null if it can.
    pub why: Option<String>,
    /// Its path.
    pub path: String,
    /// Changes that are not written yet.
    pub pending: u64,
}

/// Whether the store can be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum StoreState {
    /// It can be written.
    Ok,
    /// It cannot be written. The daemon tries again.
    Failed,
}

/// The daemon's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Log {
    /// Lines that were lost because the reader of the log was too slow.
    pub lost: u64,
}

/// A host name in the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct NamedHost {
    /// The name.
    pub name: String,
    /// Its known addresses.
    pub addresses: Vec<IpAddr>,
    /// Whether the last look-up succeeded; `waiting` before the first one.
    pub state: State,
    /// Why the last look-up failed; null if it succeeded.
    pub why: Option<String>,
    /// The number of its addresses that are ignored because there are too many.
    pub left_out: u64,
}

/// The state of a source of failures, or of a host name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is read, or its addresses are known.
    Ok,
    /// There is nothing to read yet, or the name has not been looked up.
    Waiting,
    /// It cannot be read or looked up. The daemon tries again.
    Failed,
}

/// A User-Agent whose packets are dropped, with its count.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Signature {
    /// The User-Agent, with `*` for any text, as in the configuration.
    pub user_agent: String,
    /// Packets that contained it.
    pub packets: u64,
}

/// A source of failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Source {
    /// Its name. Each log of a jail of your own is a source with the jail's name.
    pub name: String,
    /// Its kind: `file`, `journal`, `ami` or `wire`.
    pub kind: String,
    /// The jail that counts its failures.
    pub jail: String,
    /// The path, the journal matches or the address that it reads.
    pub place: String,
    /// Its state.
    pub state: State,
    /// Why it waits or has failed, or why reading it is too expensive; null if there is no problem.
    pub why: Option<String>,
    /// Lines or events that it read.
    pub events: u64,
    /// Failures among them.
    pub failures: u64,
    /// Failures without a witness, which did not count.
    pub unwitnessed: u64,
    /// Lines or events that were lost: too long, too many, abandoned by a filter, or gone before they
    /// were read.
    pub lost: u64,
    /// Lines that were skipped because reading them is too expensive.
    pub left_out: u64,
    /// When the last attempt was read; null if none has been read since the daemon's start.
    pub last_event: Option<String>,
    /// The rules of its parser.
    pub rules: Vec<Rule>,
    /// Lines that look like failures and match no rule.
    pub unparsed: Unparsed,
}

/// A rule of a parser.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Rule {
    /// Its name.
    pub name: String,
    /// Lines or events that matched it, including those before the daemon's start.
    pub hits: u64,
    /// When the last one was read; null if none was.
    pub last: Option<String>,
}

/// Lines that look like failures and match no rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Unparsed {
    /// Their number.
    pub lines: u64,
    /// When the last one was read; null if none was.
    pub last: Option<String>,
    /// One sample of each form, the newest first.
    pub samples: Vec<Sample>,
}

/// A line that looks like a failure and matches no rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Sample {
    /// Its text, which an attacker may have written: shortened, and without control characters.
    pub line: String,
    /// The number of lines of the same form.
    pub lines: u64,
    /// When the last of these lines was read.
    pub last: String,
}

/// A sign that failures of a source are not recognised.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Hearing {
    /// The source.
    pub source: String,
    /// The kind of sign: `unparsed`, `rule`, `silent`, `missed-failures`, `missed-requests` or `unwitnessed`.
    pub kind: String,
    /// The problem, as text.
    pub problem: String,
    /// The remedy, as text.
    pub remedy: String,
}

/// Traffic that the filter does not see.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Exposure {
    /// The interface, or `asterisk`.
    pub subject: String,
    /// The problem, as text.
    pub problem: String,
    /// The remedy, as text.
    pub remedy: String,
}

/// An alert or action that cannot be sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FailingAlert {
    /// Its name.
    pub name: String,
    /// Why not.
    pub problem: String,
}

/// Bans of networks with many offenders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Escalation {
    /// Whether there are such bans.
    pub enabled: bool,
    /// The number of proven offenders that count towards such a ban.
    pub offenders: u64,
    /// The number of networks that are banned for their offenders.
    pub banned: u64,
}

/// The counts of a jail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailCount {
    /// Its name.
    pub name: String,
    /// Sources whose failures it remembers.
    pub watched: u64,
    /// Its bans in force.
    pub banned: u64,
}

//! What the daemon protects, sees and drops.

use std::collections::BTreeMap;
use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::MaintenanceState;

/// What the daemon protects, sees and drops.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Status {
    /// The version of the daemon.
    pub version: String,
    /// How long the daemon has been running, in seconds.
    pub uptime_seconds: u64,
    /// Whether it drops packets; `enforcement` says why, if not.
    pub enforcing: bool,
    /// Whether bans and limits are enforced, and for how long.
    pub enforcement: Enforcement,
    /// The interfaces that it protects, or is to protect.
    pub interfaces: Vec<Interface>,
    /// The packets of all interfaces, by the reason for which they passed or were dropped.
    pub reasons: BTreeMap<String, ReasonCount>,
    /// Packets that a dry run would have dropped, by reason.
    pub would_drop: BTreeMap<String, u64>,
    /// The bans in force.
    pub bans: Bans,
    /// The known peers.
    pub peers: Peers,
    /// Whether SIP is closed for maintenance.
    pub maintenance: MaintenanceState,
    /// The file that has the bans.
    pub store: Store,
    /// The daemon's log.
    pub log: Log,
    /// Host names whose addresses are trusted.
    pub trusted_names: Vec<NamedHost>,
    /// Networks that are allowed at run time.
    #[serde(default)]
    pub allowed: u64,
    /// The User-Agents of scanners that are dropped.
    pub signatures: Vec<Signature>,
    /// The sources of failures.
    pub sources: Vec<Source>,
    /// Signs that a source does not hear what it should.
    pub hearing: Vec<Hearing>,
    /// What comes in where the filter does not see it.
    pub exposure: Vec<Exposure>,
    /// Bans of networks with many offenders.
    pub escalation: Escalation,
    /// The jails.
    pub jails: Vec<JailCount>,
}

/// Whether bans and limits are enforced, and for how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Enforcement {
    /// Whether they are.
    pub state: EnforcementState,
    /// When they are no longer enforced, unless an administrator confirms; null: the state stays.
    pub confirm_until: Option<String>,
}

/// Whether bans and limits are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum EnforcementState {
    /// Yes.
    Enforcing,
    /// Yes, but the first start on this host is not confirmed yet.
    Unconfirmed,
    /// No: the first start was not confirmed in time.
    Lapsed,
    /// No: the configuration asks for a dry run.
    DryRun,
    /// No: the emergency switch is on.
    Disabled,
}

/// An interface. `received` is the sum of `passed` and `dropped`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// Where the program runs: `native`, in the driver, or `generic`, in the network stack.
    pub mode: String,
    /// The same as `protected`.
    pub attached: bool,
    /// Whether the program judges its packets.
    pub protected: bool,
    /// Why it does not; null if it does.
    pub why: Option<String>,
    /// Whether known peers are learned from the packets that leave by it.
    pub learning: bool,
    /// Why they are not; null if they are.
    pub not_learning: Option<String>,
    /// Why the mode is generic although native was tried; null if it was not, or is native.
    pub fallback: Option<String>,
    /// Packets that came in.
    pub received: u64,
    /// Packets among them that passed.
    pub passed: u64,
    /// Packets among them that were dropped.
    pub dropped: u64,
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It goes on to the network stack.
    Pass,
    /// It is dropped.
    Drop,
}

/// The packets that were judged for one reason.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ReasonCount {
    /// What the reason leads to.
    pub verdict: Verdict,
    /// How many packets.
    pub packets: u64,
    /// Their length, in bytes.
    pub bytes: u64,
}

/// How many bans are in force, and how many can be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Bans {
    /// Bans in force.
    pub active: u64,
    /// IPv4 addresses for which there is room.
    pub capacity: u64,
    /// IPv6 addresses for which there is room.
    pub capacity_ipv6: u64,
}

/// How many peers are known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Peers {
    /// Known peers now.
    pub known: u64,
    /// Unproven failures in their names, which did not count.
    pub spared: u64,
    /// How often an address became a known peer.
    pub learned: u64,
    /// How often there was no room for another one.
    pub no_room: u64,
}

/// The file that has the bans, and what else outlives a restart.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Store {
    /// Whether it can be written.
    pub state: StoreState,
    /// Why it cannot; null if it can.
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
    /// It can.
    Ok,
    /// It cannot. This is tried again.
    Failed,
}

/// The daemon's log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Log {
    /// Lines that were lost because their reader stood still.
    pub lost: u64,
}

/// A host that the configuration has by name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct NamedHost {
    /// The name.
    pub name: String,
    /// Its addresses, as far as they are known.
    pub addresses: Vec<IpAddr>,
    /// Whether the last look-up succeeded; `waiting` before the first one.
    pub state: State,
    /// Why it failed; null if it did not.
    pub why: Option<String>,
    /// Addresses that it has beyond those that are taken.
    pub left_out: u64,
}

/// How a source of failures, or a host name, is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It is read, or its addresses are known.
    Ok,
    /// There is nothing to read from yet, or the name has not been looked up.
    Waiting,
    /// It cannot be read, or looked up. This is tried again.
    Failed,
}

/// A User-Agent whose packets are dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Signature {
    /// The User-Agent, with `*` for any text, as in the configuration.
    pub user_agent: String,
    /// Packets that had it.
    pub packets: u64,
}

/// A source of failures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Source {
    /// Its name. Each log of a jail of your own is a source with the jail's name.
    pub name: String,
    /// What it is: `file`, `journal`, `ami` or `wire`.
    pub kind: String,
    /// The jail that counts its failures.
    pub jail: String,
    /// What it reads: a path, a filter of the journal, or an address.
    pub place: String,
    /// How it is.
    pub state: State,
    /// Why it waits or has failed, or what reading it costs too much; null if there is nothing to say.
    pub why: Option<String>,
    /// Lines or events that it read.
    pub events: u64,
    /// Failures among them.
    pub failures: u64,
    /// Failures without a packet of their address, which did not count.
    pub unwitnessed: u64,
    /// Lines or events that were lost: too long, too many, or gone before they were read.
    pub lost: u64,
    /// Lines that were left out because reading them costs too much.
    pub left_out: u64,
    /// When an attempt was last heard; null: not since the daemon's start.
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
    /// Lines or events that matched it, those before the daemon's start too.
    pub hits: u64,
    /// When the last of them came; null: never.
    pub last: Option<String>,
}

/// Lines that look like failures and match no rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Unparsed {
    /// How many.
    pub lines: u64,
    /// When the last of them came; null: there was none.
    pub last: Option<String>,
    /// One of each form, the last one first.
    pub samples: Vec<Sample>,
}

/// A line that looks like a failure and matches no rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Sample {
    /// Its text, which an attacker may have written: shortened, and without control characters.
    pub line: String,
    /// Lines of the same form.
    pub lines: u64,
    /// When the last of them came.
    pub last: String,
}

/// A sign that a source does not hear what it should.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Hearing {
    /// The source.
    pub source: String,
    /// The kind of sign: `unparsed`, `rule`, `silent`, `unechoed`, `unheard` or `unwitnessed`.
    pub kind: String,
    /// The sign, in words.
    pub problem: String,
    /// What to do about it, in words.
    pub mend: String,
}

/// What comes in where the filter does not see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Exposure {
    /// The interface, or `asterisk`.
    pub subject: String,
    /// What is not seen, in words.
    pub problem: String,
    /// What to do about it, in words.
    pub mend: String,
}

/// Bans of networks with many offenders.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Escalation {
    /// Whether there are such bans.
    pub enabled: bool,
    /// Proven offenders that count towards one.
    pub offenders: u64,
    /// Networks that are banned for their offenders.
    pub banned: u64,
}

/// What a jail has counted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailCount {
    /// Its name.
    pub name: String,
    /// Sources of which it remembers failures.
    pub watched: u64,
    /// Its bans in force.
    pub banned: u64,
}

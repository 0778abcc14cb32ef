//! The fleet: the bans that the administrator's other hosts share.
//!
//! `ringfence-fleet`, which connects the host with the servers, reports to the daemon what it knows, gets the
//! settings as the answer, and asks for bans a few at a time.

use std::collections::BTreeMap;
use std::path::PathBuf;

use ipnet::IpNet;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The most bans in one request of the agent, and the most that it may lift.
pub const FLEET_BANS_MAX: usize = 48;

/// The most hosts in one report of the agent.
pub const FLEET_HOSTS_MAX: usize = 16;

/// The most networks that every host of the fleet trusts.
pub const FLEET_ALLOWS_MAX: usize = 64;

/// In `FleetCut`, the name for all hosts.
pub const FLEET_ALL: &str = "all";

/// What is known about the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Fleet {
    /// Its state.
    pub state: FleetState,
    /// The name of this host in it; null until the agent has reported.
    pub host: Option<String>,
    /// What is wrong, and what to do; null if nothing is.
    pub problem: Option<String>,
    /// The last report of the agent; null if there was none.
    pub report: Option<FleetReport>,
    /// When it arrived.
    pub reported: Option<String>,
    /// How many bans by other hosts are in force here.
    pub banned: u64,
    /// Bans by other hosts that are not in force here, by reason: `known` (a known peer), `trusted`, `own`,
    /// `essential`, `ignored` (by a jail), `lifted` (by an `unban`), `no-room`, `too-wide`, `cut` and `invalid`.
    /// Counted since the agent last sent everything.
    pub spared: BTreeMap<String, u64>,
    /// Hosts that `fleet cut` has cut off here, or `all`.
    pub cut: Vec<String>,
    /// Why SIP is not closed for the maintenance that the fleet asks for; null if it is, or if there is none.
    pub maintenance_refused: Option<String>,
    /// The other hosts, by name.
    pub hosts: Vec<FleetHost>,
    /// Whether bans drop packets; false if nothing is enforced, such as in a dry run.
    pub enforcing: bool,
}

/// The state of the fleet, seen from this host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum FleetState {
    /// No servers are configured.
    #[default]
    Off,
    /// The agent has not reported for half a minute.
    NoAgent,
    /// The agent has no connection to a server. Bans stay until their end.
    Disconnected,
    /// The agent is connected.
    Connected,
}

impl FleetState {
    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::NoAgent => "no-agent",
            Self::Disconnected => "disconnected",
            Self::Connected => "connected",
        }
    }
}

/// A report of the agent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetReport {
    /// The name of this host.
    pub host: String,
    /// The server to which it is connected; null if it is not.
    pub server: Option<String>,
    /// What is wrong; null if nothing is.
    pub problem: Option<String>,
    /// How many bans this host shares.
    pub shared: u64,
    /// How many changes of these bans are not written yet.
    pub behind: u64,
    /// How many bans were not shared because there are too many.
    pub held_back: u64,
    /// How many bans by other hosts count.
    pub accepted: u64,
    /// How many more would, if `fleet.accept.total` were higher.
    pub waiting: u64,
    /// Records with an unknown key, and those of too many hosts.
    pub strange: u64,
    /// How far this host's clock is ahead of the servers', in milliseconds; null until it is known.
    pub clock_ms: Option<i64>,
    /// The maintenance that the administrator of the fleet asks for; null until the agent has read the bucket.
    #[serde(default)]
    pub maintenance: Option<FleetMaintenance>,
    /// Hosts of which something has changed, at most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(length(max = 16)))]
    pub hosts: Vec<FleetHost>,
    /// Whether the hosts are the first of a new list.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_first: bool,
}

/// Maintenance that the administrator of the fleet asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetMaintenance {
    /// The server's stamp on it, in milliseconds since 1970, which distinguishes one from another.
    pub stamp: u64,
    /// For how many more seconds SIP is closed; 0 if there is no maintenance.
    pub seconds: u64,
    /// Whether SIP is closed to known peers too.
    pub closed_to_known: bool,
    /// Its purpose.
    pub comment: String,
}

/// Another host of the fleet.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetHost {
    /// Its name. The jail of its bans is `fleet:` and this name.
    pub host: String,
    /// How many of its bans count here.
    pub bans: u64,
    /// Its bans that do not, by reason: `unproven`, `rate` (too many a second), `most` (too many in force),
    /// `cut`, `network` (not one that is shared), `newer` (a newer schema) and `broken`.
    pub refused: BTreeMap<String, u64>,
    /// When it last gave a sign of life, by the servers' clock; null if it did not.
    pub last: Option<String>,
    /// How far its clock is ahead of the servers', in milliseconds; null if it is not known.
    pub clock_ms: Option<i64>,
    /// Its version of Ringfence; null if it is not known.
    pub version: Option<String>,
    /// Until when SIP is closed there by maintenance, its own or the fleet's, by the servers' clock; null if it is open
    /// or not known.
    #[serde(default)]
    pub closed_until: Option<String>,
    /// Whether it is cut off, here or by the administrator of the fleet.
    pub cut: bool,
}

/// The settings of the agent, which are the answer to its report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetSettings {
    /// The name of this host; null for the host's own name.
    pub host: Option<String>,
    /// The servers; none if the fleet is off.
    pub servers: Vec<String>,
    /// The bucket.
    pub bucket: String,
    /// The file with the certificate authorities of the servers; null for the system's.
    pub ca_file: Option<PathBuf>,
    /// The file with the credentials; null if there is none.
    pub credentials_file: Option<PathBuf>,
    /// The file with the seed of an `NKey`; null if there is none.
    pub nkey_file: Option<PathBuf>,
    /// Which bans are shared: `none`, `proven` or `all`.
    pub publish: String,
    /// Whether a ban counts only if its source is proven.
    pub proven: bool,
    /// By how many hosts an address must be banned.
    pub hosts: u32,
    /// The longest time of a ban, in seconds.
    pub longest: u64,
    /// How many bans a second one host may share in the long run.
    pub rate: u32,
    /// The most bans by one host that can be in force.
    pub most: u32,
    /// The most bans by all hosts together that can be in force.
    pub total: u32,
    /// Whether the networks that the fleet trusts are trusted here.
    pub allows: bool,
    /// Hosts whose bans do not count; `all` for all.
    pub cut: Vec<String>,
    /// For how many more seconds SIP is closed here by maintenance; 0 if it is open.
    #[serde(default)]
    pub closed: u64,
    /// Another number for each start of the daemon, after which the agent sends everything again.
    pub start: u64,
}

/// Bans that the agent asks for and takes back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct FleetBans {
    /// The bans, at most 48 in one request.
    #[cfg_attr(test, schemars(length(max = 48)))]
    pub bans: Vec<FleetBan>,
    /// The networks whose bans by other hosts are lifted, at most 48.
    #[serde(default)]
    #[cfg_attr(test, schemars(with = "Vec<String>", length(max = 48)))]
    pub lift: Vec<IpNet>,
    /// The round in which the agent sends everything: another number for each.
    pub round: u32,
    /// Whether the round ends with this request. Bans that were not in it are lifted.
    #[serde(default)]
    pub is_last: bool,
}

/// A ban by another host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetBan {
    /// The address or network.
    #[cfg_attr(test, schemars(with = "String"))]
    pub network: IpNet,
    /// The host that bans it.
    pub host: String,
    /// The jail that decided it there.
    pub jail: String,
    /// Whether its source is proven.
    pub proven: bool,
    /// How many hosts ban it.
    pub hosts: u32,
    /// For how many more seconds.
    pub seconds: u64,
}

/// What became of the bans.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetTaken {
    /// How many are in force.
    pub banned: u64,
    /// How many are not, because of what the addresses are, or because the kernel refuses.
    pub spared: u64,
    /// How many were lifted.
    pub lifted: u64,
}

/// A network that every host of the fleet trusts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetAllow {
    /// The address or network.
    #[cfg_attr(test, schemars(with = "String"))]
    pub network: IpNet,
    /// Its purpose.
    pub comment: String,
    /// For how many more seconds; null for until it is disallowed.
    pub seconds: Option<u64>,
}

/// The answer to a request to cut a host off, or to accept its bans again.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct FleetChanged {
    /// Its name, or `all`.
    pub host: String,
    /// Whether it is cut off now.
    pub cut: bool,
    /// Whether the change is stored.
    #[serde(flatten)]
    pub durability: crate::Durability,
}

//! The bans in force, as `bans` lists them.

use ipnet::IpNet;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A page of the bans in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BansPage {
    /// The bans, by network.
    pub bans: Vec<BanRow>,
    /// Whether they drop packets; false in a dry run.
    pub enforcing: bool,
    /// What to send as `after` for the next page; null: this is the last one.
    pub next: Option<BanPlace>,
}

/// A ban, as it is listed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BanRow {
    /// The address, or the network in CIDR notation.
    pub network: String,
    /// Addresses and networks inside it to which the ban does not apply.
    #[serde(default)]
    pub except: Vec<String>,
    /// The jail that decided it, or `manual`, `escalation` or `flood`.
    pub jail: String,
    /// The name of the scope: the ports that it closes.
    pub scope: String,
    /// When it began, to the second.
    pub since: String,
    /// The same in milliseconds since 1970.
    pub since_ms: i64,
    /// When it ends by itself; null: it does not.
    pub until: Option<String>,
    /// Packets that it has matched, whether they were dropped or not.
    pub packets: u64,
    /// Why, in words.
    pub reason: String,
}

/// A ban's place in the list of all, which is by network. Its numbers are for the daemon alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BanPlace {
    /// The address or network.
    #[cfg_attr(test, schemars(with = "String"))]
    pub network: IpNet,
    /// The number of the jail, or of what else decided it.
    pub origin: u8,
    /// The number of its scope.
    pub scope: u8,
}

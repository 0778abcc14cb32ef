//! The bans in force, as `bans` lists them.

use ipnet::IpNet;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The reason of a manual ban that was made without one.
pub const NO_REASON: &str = "no reason given";

/// A page of the bans in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BansPage {
    /// The bans, by network.
    pub bans: Vec<BanRow>,
    /// Whether they drop packets; false if nothing is enforced, such as in a dry run.
    pub enforcing: bool,
    /// The value of `after` for the next page; null on the last page.
    pub next: Option<BanPlace>,
}

/// A ban in a list.
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
    /// What it does.
    #[serde(default)]
    pub kind: BanKind,
    /// Whether enough of the failures behind it are proven to be those of its source.
    #[serde(default)]
    pub proven: bool,
    /// When it began, with a precision of one second.
    pub since: String,
    /// The same in milliseconds since 1970.
    pub since_ms: i64,
    /// When it ends by itself; null if it does not.
    pub until: Option<String>,
    /// Packets that matched it, whether they were dropped or not.
    pub packets: u64,
    /// The reason, as text.
    pub reason: String,
    /// The code of the country of its first address, by the databases under `geo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// The number of the autonomous system of its first address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
}

/// What a ban does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[cfg_attr(test, derive(JsonSchema))]
pub enum BanKind {
    /// It closes its ports.
    #[default]
    Ban,
    /// It closes SIP over UDP, except to requests that answer a challenge or are retransmitted, because the
    /// failures are not proven to be those of its source.
    Throttle,
}

impl BanKind {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ban => "ban",
            Self::Throttle => "throttle",
        }
    }
}

/// The position of a ban in the list of all, which is sorted by network. Only the daemon interprets its
/// numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BanPlace {
    /// The address or network.
    #[cfg_attr(test, schemars(with = "String"))]
    pub network: IpNet,
    /// The number of the jail, or of another origin.
    pub origin: u8,
    /// The number of its scope.
    pub scope: u8,
}

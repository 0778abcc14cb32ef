//! The sources that attack now, as `top` shows them.

use std::net::IpAddr;
use std::num::NonZeroU16;

use ipnet::IpNet;
#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BanOf, Limit, Near};

/// The most sources in an answer.
pub const ACTIVE_MAX: u16 = 64;

/// The most networks whose packets one request may ask for.
pub const PACKETS_MAX: usize = 64;

/// The sources to list.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct ActiveQuery {
    /// The most sources in the answer; null for as many as fit. An answer never has more than 64.
    #[serde(default)]
    pub limit: Option<NonZeroU16>,
    /// Banned addresses and networks, at most 64, whose packets to report.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[cfg_attr(test, schemars(with = "Vec<String>", length(max = 64)))]
    pub packets: Vec<IpNet>,
}

/// The sources that attack now.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ActivePage {
    /// The sources with the latest failures, and those that were over a limit, the latest first in each of these
    /// parts. Only the last few hundred of each are remembered, and only since the start of the daemon.
    pub sources: Vec<ActiveSource>,
    /// The number of remembered sources that are not listed.
    pub more: u64,
    /// The packets of all sources over a limit that the filter has reported since the start of the daemon.
    #[serde(default)]
    pub over_limit: u64,
    /// The packets that matched the bans of the networks in the request, in its order.
    pub packets: Vec<u64>,
    /// The accounts on which many sources fail, at most 16, the latest first.
    pub accounts: Vec<ActiveAccount>,
}

/// A source that attacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ActiveSource {
    /// The address, or the IPv6 network that jails count together.
    pub source: String,
    /// Its last address.
    pub address: IpAddr,
    /// The time of its last failure, or of the last packet over a limit that the filter reported.
    pub last: String,
    /// Its failures that were passed to a jail while it is remembered.
    pub failures: u64,
    /// The class of the last failure; null if there is none. This field and the next two are of the same failure.
    pub class: Option<String>,
    /// The account, which an attacker chose.
    pub account: Option<String>,
    /// Whether the failure is proven.
    pub proven: bool,
    /// The last limit that it was over; null if there is none.
    pub limit: Option<Limit>,
    /// Its packets over a limit that the filter has reported while it is remembered. The filter counts all, but reports
    /// at most 200 a second on each processor.
    #[serde(default)]
    pub over_limit: u64,
    /// The jail that is closest to a ban of it; null if no jail remembers a failure of it.
    pub near: Option<Near>,
    /// The widest ban that applies to it; null if there is none.
    pub ban: Option<BanOf>,
    /// Whether it is a known peer.
    pub known: bool,
    /// The code of its country, by the databases under `geo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub country: Option<String>,
    /// Its AS number, by the databases under `geo`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asn: Option<u32>,
}

/// An account on which many sources fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ActiveAccount {
    /// The jail.
    pub jail: String,
    /// The account, which an attacker chose.
    pub account: String,
    /// The failures on it that count.
    pub failures: u64,
    /// The sources that they come from.
    pub sources: u64,
    /// The time of the last failure.
    pub last: String,
}

//! What is known about an address.

use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Allowed;

/// What is known about an address: whether it is dropped, by what, until when and on which evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[expect(clippy::struct_excessive_bools, reason = "the keys are documented")]
pub struct Why {
    /// The address.
    pub address: IpAddr,
    /// Its source: the address, or the IPv6 network that jails count together.
    pub source: String,
    /// Whether packets from it are dropped now.
    pub dropped: bool,
    /// Whether anything is dropped; false in a dry run.
    pub enforcing: bool,
    /// Interfaces without the program: nothing is dropped there.
    pub unprotected: Vec<String>,
    /// How near each jail is to banning it, for those that remember a failure of it.
    pub near: Vec<Near>,
    /// Failures of it that did not count; null: none is remembered.
    pub not_counted: Option<NotCounted>,
    /// When maintenance ends that closes SIP to it; null: SIP is open to it.
    pub maintenance_until: Option<String>,
    /// The address or network of the widest ban that applies to it; null, as the next four are: no ban applies.
    pub network: Option<String>,
    /// The name of the scope of that ban.
    pub scope: Option<String>,
    /// The jail that decided that ban, or `manual`, `escalation` or `flood`.
    pub jail: Option<String>,
    /// Why, in words.
    pub reason: Option<String>,
    /// When that ban ends by itself; null also if it does not.
    pub until: Option<String>,
    /// Whether it is never dropped or banned.
    pub trusted: bool,
    /// Why it is never dropped: `trusted`, `allowed`, or that it is the host's own address; null if it may be.
    pub protected: Option<String>,
    /// What of the networks that are allowed at run time contains it; null: none of them does.
    #[serde(default)]
    pub allowed: Option<Allowed>,
    /// The jails that never ban it (`ignoreip`).
    pub ignored_by: Vec<String>,
    /// Every ban that applies to it.
    pub bans: Vec<BanOf>,
    /// Whether it is a known peer.
    pub known: bool,
    /// When it ceases to be a known peer unless it is seen again; null: it is none.
    pub known_until: Option<String>,
    /// The limit that it was over last; null: none is remembered.
    pub limit: Option<Limit>,
    /// The failures behind its bans, and those that its jails remember: of each the last eight.
    pub evidence: Vec<Evidence>,
    /// Its packets.
    pub packets: Packets,
    /// Its earlier bans by jails; null: there are none, or the store cannot be read.
    pub history: Option<History>,
}

/// How near a jail is to banning an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Near {
    /// The jail.
    pub jail: String,
    /// Failures within `findtime`.
    pub failures: u64,
    /// The same, each by its weight.
    pub points: u64,
    /// The points that lead to a ban.
    pub maxretry: u32,
    /// Accounts failed on within `findtime`.
    pub accounts: u64,
    /// The accounts that lead to a ban; 0: their number does not.
    pub maxaccounts: u32,
    /// How long a failure counts, a duration.
    pub findtime: String,
}

/// Failures of an address that did not count. The daemon remembers those of the last few thousand addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct NotCounted {
    /// Failures without a packet of the address.
    pub unwitnessed: u32,
    /// Unproven failures in the name of a known peer.
    pub known: u32,
    /// Unproven failures of a jail whose `unproven_scope` is `none`.
    pub unproven: u32,
    /// When the last of them came.
    pub last: String,
}

/// A ban that applies to an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BanOf {
    /// The address, or the network in CIDR notation.
    pub network: String,
    /// The jail that decided it, or `manual`, `escalation` or `flood`.
    pub jail: String,
    /// The name of its scope: the ports that it closes.
    pub scope: String,
    /// When it began.
    pub since: String,
    /// When it ends by itself; null: it does not.
    pub until: Option<String>,
    /// Packets that it has matched, whether they were dropped or not.
    pub packets: u64,
    /// Why, in words.
    pub reason: String,
    /// How many failures among `evidence` are behind it.
    pub evidence: u64,
}

/// The limit that an address was over.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Limit {
    /// Why its packets were dropped, by the name in `reasons` of `status`.
    pub reason: String,
    /// The setting that has the limit; null: there is none.
    pub setting: Option<String>,
    /// Its value, such as `10/s, burst 250`; null: there is none.
    pub value: Option<String>,
    /// When the address was last seen over it.
    pub last: String,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Evidence {
    /// When it was heard.
    pub time: String,
    /// The source that heard it.
    pub source: String,
    /// The address that failed; null: not written down.
    pub address: Option<IpAddr>,
    /// Its class, such as `wrong-credential`, or `ban` for one that `recidive` counts.
    pub class: String,
    /// The account that was tried, which an attacker may have made up; null: none was named.
    pub account: Option<String>,
    /// Whether its source cannot have been forged.
    pub proven: bool,
}

/// Packets of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Packets {
    /// Packets that passed; null: they are counted for known peers alone.
    pub passed: Option<u64>,
    /// Packets that the ban shown first has matched.
    pub dropped: u64,
}

/// The earlier bans of an address by jails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct History {
    /// How many.
    pub bans: u64,
    /// How many of them had enough proven failures.
    pub proven: u64,
    /// When the last of them began.
    pub last: String,
    /// The same by jail.
    pub jails: Vec<JailHistory>,
}

/// The earlier bans of an address by one jail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailHistory {
    /// The jail; null: by any, before it was written down.
    pub jail: Option<String>,
    /// How many.
    pub bans: u64,
    /// How many of them had enough proven failures.
    pub proven: u64,
    /// When the last of them began.
    pub last: String,
}

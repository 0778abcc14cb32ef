//! The reply to `why`.

use std::net::IpAddr;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Allowed, Prevented};

/// What is known about an address: whether its packets are dropped, because of which ban, until when, and
/// the evidence.
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
    /// Whether anything is dropped; false if nothing is enforced, such as in a dry run.
    pub enforcing: bool,
    /// Interfaces without the filter, where nothing is dropped.
    pub unprotected: Vec<String>,
    /// How close each jail is to a ban of it; only jails that remember a failure of it.
    pub near: Vec<Near>,
    /// Failures of it that did not count; null if there are none.
    pub not_counted: Option<NotCounted>,
    /// When the maintenance that closes SIP to it ends; null if SIP is open to it.
    pub maintenance_until: Option<String>,
    /// The services that `exposure` closes to it, as the configuration names them; none in a dry run of
    /// `exposure`.
    #[serde(default)]
    pub closed_services: Vec<String>,
    /// The address or network of the widest ban that applies to it. This field and the next four are null
    /// if there is none.
    pub network: Option<String>,
    /// The name of the scope of that ban.
    pub scope: Option<String>,
    /// The jail that decided that ban, or `manual`, `escalation` or `flood`.
    pub jail: Option<String>,
    /// The reason, as text.
    pub reason: Option<String>,
    /// When that ban ends by itself; also null if it does not.
    pub until: Option<String>,
    /// Whether it is never dropped or banned.
    pub trusted: bool,
    /// Why it is never dropped: `trusted`, `allowed`, or because it is the host's own address; null if it
    /// can be.
    pub protected: Option<String>,
    /// What the host needs it for, such as `a default gateway`, so that no jail bans it; null if it does not.
    #[serde(default)]
    pub essential: Option<String>,
    /// The bans of it that were not made; null if none is remembered.
    #[serde(default)]
    pub prevented: Option<Prevented>,
    /// The network allowed at run time that contains it; null if there is none.
    #[serde(default)]
    pub allowed: Option<Allowed>,
    /// The jails that never ban it (`ignoreip`).
    pub ignored_by: Vec<String>,
    /// Every ban that applies to it.
    pub bans: Vec<BanOf>,
    /// Whether it is known that its address is not forged.
    #[serde(default)]
    pub proven: bool,
    /// How the filter treats its SIP now.
    #[serde(default)]
    pub tier: Tier,
    /// The challenges that were sent to it and its answers, as the filter has seen them; null if none is
    /// remembered.
    #[serde(default)]
    pub wire: Option<Wire>,
    /// Where it is, by the databases under `geo`; null if they do not contain it.
    #[serde(default)]
    pub place: Option<Located>,
    /// Whether `geo` shuts its SIP out, or would but for a dry run.
    #[serde(default)]
    pub shut_out: bool,
    /// Whether it is a known peer.
    pub known: bool,
    /// When it stops being a known peer unless it is seen again; null if it is not one.
    pub known_until: Option<String>,
    /// The last limit that it exceeded; null if there is none.
    pub limit: Option<Limit>,
    /// The failures behind its bans, and those that its jails remember: the last eight of each.
    pub evidence: Vec<Evidence>,
    /// Its packets.
    pub packets: Packets,
    /// Its earlier bans by jails; null if there are none, or the store cannot be read.
    pub history: Option<History>,
}

/// Where an address is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Located {
    /// The code of its country (ISO 3166).
    pub country: Option<String>,
    /// The number of its autonomous system.
    pub asn: Option<u32>,
    /// The organisation that has this number.
    pub organisation: Option<String>,
}

/// How the filter treats the SIP of an address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// It is never dropped.
    Trusted,
    /// A ban closes SIP to it.
    Banned,
    /// Over UDP, only answers to challenges and retransmissions pass.
    Throttled,
    /// It is a known peer, with limits of its own.
    Known,
    /// The limits of unknown sources apply to it.
    #[default]
    Unknown,
}

/// The challenges that were sent to an address, and its answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Wire {
    /// Challenges (401 and 407) that were sent to it.
    pub challenged: u64,
    /// Requests from it with a nonce that had been sent to it, without retransmissions.
    pub answered: u64,
    /// How many of these were refused.
    pub refused: u64,
    /// How many of these were accepted.
    pub accepted: u64,
    /// When it last sent such a request; null if it never did.
    pub proven_at: Option<String>,
}

/// How close a jail is to a ban of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Near {
    /// The jail.
    pub jail: String,
    /// Failures within `findtime`.
    pub failures: u64,
    /// The same, weighted by class.
    pub points: u64,
    /// The points that lead to a ban.
    pub maxretry: u32,
    /// The number of accounts with failures within `findtime`.
    pub accounts: u64,
    /// The number of accounts that leads to a ban; 0 if it has no effect.
    pub maxaccounts: u32,
    /// How long a failure counts, as a duration.
    pub findtime: String,
}

/// Failures of an address that did not count. The daemon remembers them for the last few thousand
/// addresses.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct NotCounted {
    /// Failures without a witness.
    pub unwitnessed: u32,
    /// Unproven failures of a known peer.
    pub known: u32,
    /// Unproven failures of a jail whose `unproven_scope` is `none`.
    pub unproven: u32,
    /// The time of the last failure that did not count.
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
    /// When it ends by itself; null if it does not.
    pub until: Option<String>,
    /// Packets that matched it, whether they were dropped or not.
    pub packets: u64,
    /// The reason, as text.
    pub reason: String,
    /// How many of the failures in `evidence` led to it.
    pub evidence: u64,
}

/// A limit that an address exceeded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Limit {
    /// The reason of the dropped packets, as in `reasons` of `status`.
    pub reason: String,
    /// The setting of the limit; null if there is none.
    pub setting: Option<String>,
    /// Its value, such as `10/s, burst 250`; null if there is none.
    pub value: Option<String>,
    /// When the address was last seen over it.
    pub last: String,
}

/// A failure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Evidence {
    /// When it was read.
    pub time: String,
    /// The source that reported it.
    pub source: String,
    /// The address that failed; null if it is not recorded.
    pub address: Option<IpAddr>,
    /// Its class, such as `wrong-credential`, or `ban` for a ban that `recidive` counts.
    pub class: String,
    /// The account that was tried, which an attacker may have invented; null if there was none.
    pub account: Option<String>,
    /// Whether its source cannot be forged.
    pub proven: bool,
}

/// Packets of an address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Packets {
    /// Packets that passed; null except for known peers, because others are not counted.
    pub passed: Option<u64>,
    /// Packets that matched the ban shown first.
    pub dropped: u64,
}

/// The earlier bans of an address by jails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct History {
    /// Their number.
    pub bans: u64,
    /// How many of the bans had enough proven failures.
    pub proven: u64,
    /// When the last ban began.
    pub last: String,
    /// The same, by jail.
    pub jails: Vec<JailHistory>,
}

/// The earlier bans of an address by one jail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailHistory {
    /// The jail; null for bans from before jails were recorded.
    pub jail: Option<String>,
    /// Their number.
    pub bans: u64,
    /// How many of the bans had enough proven failures.
    pub proven: u64,
    /// When the last ban began.
    pub last: String,
}

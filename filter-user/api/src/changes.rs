//! The replies to requests that change something.

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a change is stored. The daemon answers a change as soon as it knows this.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Durability {
    /// Whether the change is stored, so that it outlives a reboot.
    pub durable: bool,
    /// Why it is not stored; null if it is.
    pub why: Option<String>,
}

/// A ban that was made by a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the key is documented")]
pub struct Banned {
    /// The address or network that is banned now.
    pub banned: String,
    /// When the ban ends by itself; null if it does not.
    pub until: Option<String>,
    /// The name of the scope: the ports that it closes.
    pub scope: String,
    /// The reason in the request, or that of the ban that it replaces.
    pub reason: String,
    /// Whether it drops packets; false in a dry run.
    pub enforcing: bool,
    /// The ban of the same network that it replaces; null if there was none.
    pub replaced: Option<Replaced>,
    /// Whether it ends earlier than the ban that it replaces.
    pub shortened: bool,
    /// The number of known peers that it cuts off.
    pub known_peers: u64,
    /// Whether it is stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// A ban that another one has replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Replaced {
    /// When it would have ended; null if it had no end.
    pub until: Option<String>,
    /// The name of the scope that it closed.
    pub scope: String,
    /// Its reason.
    pub reason: String,
}

/// Bans that were made by one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BannedMany {
    /// How many of the bans are in force now.
    pub banned: u64,
    /// Those that are not, in the order of the request.
    pub refused: Vec<Refused>,
    /// The number of known peers that they cut off.
    pub known_peers: u64,
    /// Whether they drop packets; false in a dry run.
    pub enforcing: bool,
    /// Whether they are stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// A part of a request that was refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Refused {
    /// Its place in the request, from 0.
    pub place: u64,
    /// The address or network.
    pub network: String,
    /// The reason and the remedy, as text.
    pub error: String,
}

/// Bans that were lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the key is documented")]
pub struct Lifted {
    /// How many were lifted.
    pub lifted: u64,
    /// The network whose ban was lifted because it contains the address in the request; null if there was
    /// none.
    pub network: Option<String>,
    /// The first ten networks whose bans were lifted.
    pub networks: Vec<String>,
    /// The first ten networks inside the requested one that are still banned.
    pub inside: Vec<String>,
    /// The number of such networks; at most 1000 are counted.
    pub inside_banned: u64,
    /// In a request with several addresses and networks: those without a ban, in the order of the
    /// request.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// Whether the change is stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// The result of importing bans from another program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct TakenOver {
    /// How many of the bans are in force now.
    pub entered: u64,
    /// The number of refused bans, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Whether they drop packets; false in a dry run.
    pub enforcing: bool,
    /// Whether they are stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// The result of confirming the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Confirmed {
    /// Whether a confirmation was pending or overdue; false if none was needed.
    pub was_awaited: bool,
}

/// A link for logging in to the page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PageLink {
    /// The link, for a browser on this host. It is as good as a password, and valid once.
    pub url: String,
    /// How long it is valid, in seconds.
    pub valid_seconds: u64,
}

/// The changes that a reload of the configuration has made or would make.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Reloaded {
    /// Whether the configuration is applied; false if the request only asked what would change.
    pub applied: bool,
    /// The settings that differ from the running configuration, by path.
    pub changes: Vec<ChangedSetting>,
    /// The objections: addresses or networks that the configuration shuts out. It is then applied only
    /// with `force`.
    pub objections: Vec<String>,
    /// Within how many seconds `ringfence confirm` or a new login over ssh must follow, because `exposure`
    /// closes more; null if nothing needs to.
    pub confirm_within_seconds: Option<u64>,
}

/// A setting that a reload changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ChangedSetting {
    /// Its path, such as `jails.asterisk-wazo.maxretry`.
    pub setting: String,
    /// The running value, as in a configuration file; null if there was no such setting.
    pub old: Option<String>,
    /// The value in the files; null if there is no such setting.
    pub new: Option<String>,
    /// Whether the old value stays until the daemon is restarted.
    pub needs_restart: bool,
}

/// Whether SIP is closed for maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[expect(clippy::struct_excessive_bools, reason = "the keys are documented")]
pub struct MaintenanceState {
    /// Whether it is closed.
    pub on: bool,
    /// Whether this drops packets; false in a dry run.
    pub enforcing: bool,
    /// When it opens by itself; null if it is open.
    pub until: Option<String>,
    /// Whether it is closed to known peers too.
    pub closed_to_known: bool,
    /// Whether the administrator of the fleet closed it.
    #[serde(default)]
    pub by_fleet: bool,
    /// The purpose, if the administrator of the fleet closed it; otherwise null.
    #[serde(default)]
    pub comment: Option<String>,
}

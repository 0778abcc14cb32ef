//! What became of a request that changes something.

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Whether a change is written down. The answer to a change comes as soon as that is known.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Durability {
    /// Whether the store has it, so that it outlives a reboot.
    pub durable: bool,
    /// Why the store does not have it; null if it does.
    pub why: Option<String>,
}

/// A ban that was made by a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the key is documented")]
pub struct Banned {
    /// The address or network that is banned now.
    pub banned: String,
    /// When the ban ends by itself; null: it does not.
    pub until: Option<String>,
    /// The name of the scope: the ports that it closes.
    pub scope: String,
    /// Why: as in the request, or as in the ban that it replaces.
    pub reason: String,
    /// Whether it drops packets; false in a dry run.
    pub enforcing: bool,
    /// The ban of the same network that it replaces; null: there was none.
    pub replaced: Option<Replaced>,
    /// Whether it ends earlier than the ban that it replaces.
    pub shortened: bool,
    /// Known peers that it cuts off.
    pub known_peers: u64,
    /// Whether it is written down.
    #[serde(flatten)]
    pub durability: Durability,
}

/// A ban that another one has replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Replaced {
    /// When it would have ended; null: it would not have.
    pub until: Option<String>,
    /// The name of the scope that it closed.
    pub scope: String,
    /// Why it was made.
    pub reason: String,
}

/// Bans that were made by one request.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct BannedMany {
    /// How many of them are in force now.
    pub banned: u64,
    /// Those that are not, in the order of the request.
    pub refused: Vec<Refused>,
    /// Known peers that they cut off.
    pub known_peers: u64,
    /// Whether they drop packets; false in a dry run.
    pub enforcing: bool,
    /// Whether they are written down.
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
    /// Why, and what to do, in words.
    pub error: String,
}

/// Bans that were lifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[expect(clippy::struct_field_names, reason = "the key is documented")]
pub struct Lifted {
    /// How many were lifted.
    pub lifted: u64,
    /// The network whose ban was lifted because the address of the request is in it; null: no such ban.
    pub network: Option<String>,
    /// The first ten networks whose bans were lifted.
    pub networks: Vec<String>,
    /// The first ten networks inside the one of the request that are still banned.
    pub inside: Vec<String>,
    /// How many there are of these; at most 1000 are counted.
    pub inside_banned: u64,
    /// Of several addresses and networks those of which no ban was lifted, in the order of the request.
    #[serde(default)]
    pub refused: Vec<Refused>,
    /// Whether the change is written down.
    #[serde(flatten)]
    pub durability: Durability,
}

/// What became of bans that another program had decided.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct TakenOver {
    /// How many of them are in force now.
    pub entered: u64,
    /// How many are not, by reason.
    pub refused: BTreeMap<String, u64>,
    /// Whether they drop packets; false in a dry run.
    pub enforcing: bool,
    /// Whether they are written down.
    #[serde(flatten)]
    pub durability: Durability,
}

/// That an administrator has confirmed the first start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Confirmed {
    /// Whether the confirmation was awaited, or had come too late; false if it was not needed.
    pub was_awaited: bool,
}

/// What a reload of the configuration has changed, or would change.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Reloaded {
    /// Whether the configuration is applied; false if the request only asked what would change.
    pub applied: bool,
    /// The settings that differ from the running configuration, by path.
    pub changes: Vec<ChangedSetting>,
    /// Whom the configuration shuts out; without `force` it is not applied then.
    pub objections: Vec<String>,
}

/// A setting that a reload changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ChangedSetting {
    /// Its path, such as `jails.asterisk-wazo.maxretry`.
    pub setting: String,
    /// The value that was running, as a configuration file writes it; null: there was no such setting.
    pub old: Option<String>,
    /// The value in the files; null: there is no such setting.
    pub new: Option<String>,
    /// Whether the old value stays until the daemon is restarted.
    pub needs_restart: bool,
}

/// Whether SIP is closed for maintenance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct MaintenanceState {
    /// Whether it is closed.
    pub on: bool,
    /// Whether that drops packets; false in a dry run.
    pub enforcing: bool,
    /// When it opens by itself; null: it is open.
    pub until: Option<String>,
    /// Whether it is closed to known peers as well.
    pub closed_to_known: bool,
}

//! Manual decisions at run time, and their records: trusted networks, settings of jails, and the history.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Durability;

/// The most networks that are allowed at run time.
pub const ALLOWED_MAX: usize = 256;

/// The maximum length of a page of the history.
pub const HISTORY_PAGE_MAX: u16 = 256;

/// A network that is trusted until it is disallowed, or until a given time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Allowed {
    /// The address or network.
    pub network: String,
    /// When it was allowed.
    pub since: String,
    /// When it ends by itself; null if it does not.
    pub until: Option<String>,
    /// Its purpose; null if none was given.
    pub comment: Option<String>,
    /// The user who allowed it.
    pub by: String,
}

/// The networks that are allowed at run time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Allows {
    /// The networks, by address.
    pub allows: Vec<Allowed>,
}

/// The result of allowing or disallowing a network.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AllowChanged {
    /// The network that is now allowed, or was until now.
    #[serde(flatten)]
    pub allowed: Allowed,
    /// The number of bans in it that were lifted for this; at most 1000 are counted.
    pub lifted: u64,
    /// Whether the configuration trusts it too.
    pub is_configured: bool,
    /// Whether the change is stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// A setting of a jail that can be changed at run time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum Tunable {
    /// How many failures lead to a ban.
    Maxretry,
    /// How long a failure counts.
    Findtime,
    /// How long a ban lasts.
    Bantime,
}

impl Tunable {
    /// Its name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Maxretry => "maxretry",
            Self::Findtime => "findtime",
            Self::Bantime => "bantime",
        }
    }
}

/// A setting of a jail that differs from the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Tuned {
    /// The setting.
    pub setting: Tunable,
    /// Its value.
    pub value: String,
    /// Its value in the configuration.
    pub configured: String,
    /// When it was changed.
    pub since: String,
    /// The user who changed it.
    pub by: String,
}

/// A setting of a jail that a request has changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct TuneChanged {
    /// The jail.
    pub jail: String,
    /// The setting.
    pub setting: Tunable,
    /// Its value before.
    pub old: String,
    /// Its value now.
    pub new: String,
    /// Its value in the configuration.
    pub configured: String,
    /// Whether the change is stored.
    #[serde(flatten)]
    pub durability: Durability,
}

/// A page of the history, the newest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct HistoryPage {
    /// The entries.
    pub history: Vec<HistoryRow>,
    /// The value of `before` for the next page; null on the last page.
    pub next: Option<i64>,
}

/// An entry of the history.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct HistoryRow {
    /// The time.
    pub time: String,
    /// The address or network; null if the entry does not concern a single one.
    pub network: Option<String>,
    /// The event.
    #[serde(flatten)]
    pub event: HistoryEvent,
}

/// The event of an entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum HistoryEvent {
    /// A ban ended by itself.
    BanEnded(EndedBan),
    /// A ban was lifted.
    BanLifted(EndedBan),
    /// A jail would have banned an address that it must not ban.
    BanPrevented {
        /// The jail, or `flood`.
        jail: String,
        /// What the address is, such as `a default gateway` or `trusted`.
        is: String,
        /// Why it would have been banned, as text.
        reason: String,
    },
    /// The first start was not confirmed in time, so that packets were no longer dropped.
    Lapsed,
    /// A manual change.
    Change {
        /// The user.
        by: String,
        /// The change, as text.
        action: String,
    },
}

/// A ban that is no longer in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct EndedBan {
    /// The jail that decided it, or `manual` or `escalation`.
    pub jail: String,
    /// The name of its scope.
    pub scope: String,
    /// When it began.
    pub since: String,
    /// The reason, as text.
    pub reason: String,
}

//! What happens, as the stream of events reports it.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BanKind, State};

/// What has happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// A ban is in force.
    Ban {
        /// The address or network.
        network: String,
        /// The jail that decided it, or `manual` or `escalation`.
        jail: String,
        /// The name of the scope: the ports that it closes.
        scope: String,
        /// What it does.
        kind: BanKind,
        /// Whether enough of the failures behind it are proven to be those of its source.
        #[serde(default)]
        proven: bool,
        /// When it ends by itself; null if it does not.
        until: Option<String>,
        /// The reason, as text.
        reason: String,
    },
    /// A ban is no longer in force.
    BanEnd {
        /// The address or network.
        network: String,
        /// The jail that decided it, or `manual`, `escalation` or `flood`.
        jail: String,
        /// The name of its scope.
        scope: String,
        /// Whether it was lifted; false if it ended by itself.
        lifted: bool,
    },
    /// A source of failures has another state.
    Source {
        /// Its name.
        source: String,
        /// Its state now.
        state: State,
        /// Why it waits or has failed; null if it does neither.
        why: Option<String>,
    },
    /// An interface is protected, or is not any more.
    Protected {
        /// The interface.
        interface: String,
        /// Whether its packets are filtered now.
        protected: bool,
        /// Why not; null if they are.
        why: Option<String>,
    },
    /// Packets are dropped again, or are not dropped any more.
    Enforcing {
        /// Whether bans and limits drop packets now.
        enforcing: bool,
    },
    /// SIP is closed for maintenance, or open again.
    Maintenance {
        /// Whether it is closed now.
        on: bool,
        /// When it opens by itself; null if it is open.
        until: Option<String>,
        /// Whether the administrator of the fleet closed it.
        #[serde(default)]
        by_fleet: bool,
    },
    /// The client was too slow, so that it has missed events.
    Gap {
        /// Their number.
        missed: u64,
    },
}

impl Event {
    /// Its name, which is also the value of `event`.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Ban { .. } => "ban",
            Self::BanEnd { .. } => "ban-end",
            Self::Source { .. } => "source",
            Self::Protected { .. } => "protected",
            Self::Enforcing { .. } => "enforcing",
            Self::Maintenance { .. } => "maintenance",
            Self::Gap { .. } => "gap",
        }
    }
}

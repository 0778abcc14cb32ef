//! The output of `ringfence exposure suggest --json`. It is not an answer of the daemon.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::audit::{RuleSet, Transport, Unread};

/// What could be closed on the host, as far as its listening sockets and their users show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ExposureSuggestion {
    /// The version of Ringfence.
    pub version: String,
    /// The name of the host.
    pub host: String,
    /// When this was found out.
    pub time: String,
    /// The ports that others can reach, except those of SIP and of the media of calls.
    pub ports: Vec<SuggestedPort>,
    /// Private networks that use a service which is suggested for trusted networks, and that are not
    /// trusted yet.
    pub trusted: Vec<String>,
    /// The configuration to paste; null if nothing is to be closed.
    pub configuration: Option<String>,
    /// The rules of nftables and iptables.
    pub firewall: Vec<RuleSet>,
    /// Facts that could not be read.
    pub unread: Vec<Unread>,
}

/// A port, and the sources to which it should be open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct SuggestedPort {
    /// The service as `exposure` names it, such as `postgresql` or `8080/tcp`.
    pub service: String,
    /// Its transport.
    pub transport: Transport,
    /// The port.
    pub port: u16,
    /// The addresses on which it listens.
    pub addresses: Vec<String>,
    /// The names of the processes that listen. Any user of the host may have chosen them.
    pub processes: Vec<String>,
    /// The sources to which it is open by the configuration.
    pub now: OpenTo,
    /// The sources to which it should be open.
    pub suggested: OpenTo,
    /// Why.
    pub reason: String,
    /// Since when its users are recorded; null if they are not.
    pub since: Option<String>,
    /// Whether they have been recorded for a week, or for as long as the host has been running.
    pub week: bool,
    /// Its uses by private addresses.
    pub private: PortUse,
    /// Its uses by other addresses.
    pub public: PortUse,
    /// The networks that used it within the last week, the latest first. Some may be missing.
    pub networks: Vec<PortUser>,
    /// What protects it.
    pub guards: Vec<String>,
    /// The rules of nftables or iptables that differ from the suggestion.
    pub contradictions: Vec<String>,
}

/// The sources to which a port is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum OpenTo {
    /// No source but the host itself.
    Nobody,
    /// Trusted networks.
    Trusted,
    /// All sources.
    Everybody,
}

/// The uses of a port by addresses of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PortUse {
    /// The number of networks that were recorded; one may count twice.
    pub networks: u64,
    /// Packets of networks that were not recorded because too many came at once.
    pub missed: u64,
    /// The time of the last use; null if there was none.
    pub last: Option<String>,
}

/// A network that used a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct PortUser {
    /// The network.
    pub network: String,
    /// The time of its last use.
    pub last: String,
    /// Whether it is trusted.
    pub trusted: bool,
}

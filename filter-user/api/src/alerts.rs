//! Alerts and actions: their state, and the documents that they send.

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{BanKind, Evidence};

/// The alerts and actions of the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Alerts {
    /// Each alert, by name.
    pub alerts: Vec<AlertRow>,
    /// Each action, by name.
    pub actions: Vec<AlertRow>,
}

/// An alert or an action. Its counts are since the daemon started or its settings changed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AlertRow {
    /// Its name.
    pub name: String,
    /// How it sends: `command`, `webhook`, `mail` or `syslog`.
    pub way: String,
    /// Messages that were sent.
    pub sent: u64,
    /// Messages that were given up because they could not be sent.
    pub failed: u64,
    /// Events that were sent.
    pub events: u64,
    /// Events that a message only counts, because there were too many of a kind.
    pub suppressed: u64,
    /// Events that were not sent: in messages that were given up, or because too many waited.
    pub lost: u64,
    /// Events that wait to be sent.
    pub waiting: u64,
    /// When a message was last sent; null if none was.
    pub last_sent: Option<String>,
    /// Why the last attempt failed; null if it did not.
    pub problem: Option<String>,
}

/// The result of a test.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AlertsTested {
    /// Each alert or action that was tested.
    pub tested: Vec<AlertTested>,
}

/// The result of a test of one alert or action.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AlertTested {
    /// Its name.
    pub name: String,
    /// How it sends: `command`, `webhook`, `mail` or `syslog`.
    pub way: String,
    /// Why the message could not be sent; null if it was.
    pub problem: Option<String>,
}

/// How much an event matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertSeverity {
    /// To know.
    Notice,
    /// There is a problem, but the host is still protected.
    Warning,
    /// Packets pass unfiltered, or attacks are not noticed.
    Critical,
}

impl AlertSeverity {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Critical => "critical",
        }
    }
}

/// Whether a state has begun or ended, or something has happened once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum AlertState {
    /// A state has begun.
    Began,
    /// It has ended.
    Ended,
    /// Something has happened.
    Happened,
}

impl AlertState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Began => "began",
            Self::Ended => "ended",
            Self::Happened => "happened",
        }
    }
}

/// What an alert sends: the events of one kind since its last message of this kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AlertMessage {
    /// Tells messages apart. A message that is sent again keeps it.
    pub id: String,
    /// The alert's name.
    pub alert: String,
    /// The host.
    pub host: String,
    /// When the message was made.
    pub time: String,
    /// The kind of event, as in `events` of the configuration, or `test`.
    pub kind: String,
    /// How much the events matter.
    pub severity: AlertSeverity,
    /// The events, the oldest first.
    pub events: Vec<AlertEvent>,
    /// Further events of this kind, which are only counted.
    pub more: u64,
}

/// An event in the message of an alert.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct AlertEvent {
    /// When it was noticed.
    pub time: String,
    /// Whether a state has begun or ended, or something has happened once.
    pub state: AlertState,
    /// The interface, source, address, account or feed. An attacker may have chosen it.
    pub subject: String,
    /// What it is about, as text. Parts of it may be an attacker's.
    pub text: String,
}

/// What an action sends: bans and their ends in the order in which they happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ActionMessage {
    /// Tells messages apart. A message that is sent again keeps it.
    pub id: String,
    /// The action's name.
    pub action: String,
    /// The host.
    pub host: String,
    /// When the message was made.
    pub time: String,
    /// The bans and their ends, the oldest first.
    pub events: Vec<ActionEvent>,
    /// Events before these that were lost since the last message, because too many waited.
    pub lost: u64,
}

/// A ban, or the end of one, in the message of an action.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct ActionEvent {
    /// `ban`, `unban`, or `test`.
    pub event: String,
    /// The address, or the network in CIDR notation.
    pub network: String,
    /// The jail that decided it, or `manual`, `escalation` or `flood`.
    pub jail: String,
    /// The name of the scope: the ports that the ban closes.
    pub scope: String,
    /// What the ban does.
    pub kind: BanKind,
    /// Whether enough of the failures behind it are proven to be those of its source. If not, somebody else may have sent
    /// them with its address; a manual ban and one of a network have none.
    pub proven: bool,
    /// Whether bans drop packets; false in a dry run.
    pub enforcing: bool,
    /// When it began.
    pub since: String,
    /// When it ends by itself; null if it does not.
    pub until: Option<String>,
    /// Whether it was lifted before its end; false for a ban.
    pub lifted: bool,
    /// The reason, as text. Parts of it may be an attacker's.
    pub reason: String,
    /// The last failures that led to it, the oldest first; empty for the end of a ban.
    pub evidence: Vec<Evidence>,
}

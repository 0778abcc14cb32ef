//! How many packets passed and were dropped in the past, as `traffic` lists them.

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ReasonCount;

/// Which part of the past is wanted.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(deny_unknown_fields)]
pub struct TrafficQuery {
    /// How long each point counts packets; null for a minute.
    #[serde(default)]
    pub step: Option<TrafficStep>,
    /// How far back the points go, in seconds; null for as far as there are any.
    #[serde(default)]
    pub since_seconds: Option<u64>,
}

/// How long a point counts packets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
#[serde(rename_all = "lowercase")]
pub enum TrafficStep {
    /// A second, for the last hour.
    Second,
    /// A minute, for the last week.
    #[default]
    Minute,
    /// An hour, for the last year.
    Hour,
}

/// The packets of the past.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct TrafficPage {
    /// How long each point counts packets, in seconds.
    pub step_seconds: u64,
    /// The points, the oldest first. One without packets is left out.
    pub points: Vec<TrafficPoint>,
}

/// The packets of all interfaces within a time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct TrafficPoint {
    /// When the time begins.
    pub at: String,
    /// The packets, by the reason why they passed or were dropped.
    pub reasons: BTreeMap<String, ReasonCount>,
}

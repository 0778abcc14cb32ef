//! The jails, as `jails` lists them.

use std::collections::BTreeMap;

#[cfg(test)]
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{NamedHost, Tuned};

/// All jails.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Jails {
    /// The jails, the built-in ones first.
    pub jails: Vec<JailReport>,
    /// Whether bans drop packets; false in a dry run.
    pub enforcing: bool,
}

/// A jail: its settings and counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailReport {
    /// Its name.
    pub name: String,
    /// Whether it is enabled.
    pub enabled: bool,
    /// The failures within `findtime` that lead to a ban, weighted by class.
    pub maxretry: u32,
    /// The number of accounts with a failure within `findtime` that leads to a ban; 0 if it has no
    /// effect.
    pub maxaccounts: u32,
    /// Its limits for slow guessing.
    pub guessing: Guessing,
    /// Accounts on which many sources fail at present.
    pub attacked: Vec<Attacked>,
    /// The weight of a failure by its class; null if each counts 1.
    pub weights: Option<BTreeMap<String, u32>>,
    /// How long a failure counts, a duration.
    pub findtime: String,
    /// How long a ban lasts, a duration.
    pub bantime: String,
    /// Whether each further ban of a source lasts longer.
    pub increment: bool,
    /// The name of the scope that its bans close.
    pub scope: String,
    /// The name of the scope that a ban closes if too few of its failures are proven; null if such
    /// failures do not count.
    pub unproven_scope: Option<String>,
    /// Addresses and networks that it never bans.
    pub ignoreip: Vec<String>,
    /// Host names whose addresses it never bans.
    pub ignored_names: Vec<NamedHost>,
    /// Settings that have been changed at run time.
    #[serde(default)]
    pub tuned: Vec<Tuned>,
    /// Sources of which it remembers failures.
    pub watched: u64,
    /// Sources that were evicted because there were too many.
    pub forgotten: u64,
    /// Its bans in force.
    pub banned: u64,
    /// What it has counted since the daemon's start.
    #[serde(default)]
    pub since_start: JailCounts,
    /// What it has counted in all, over restarts.
    #[serde(default)]
    pub total: JailTotal,
}

/// What a jail has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailCounts {
    /// The failures that it took.
    pub failures: u64,
    /// The bans that it decided on.
    pub bans: u64,
}

/// What a jail has counted in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct JailTotal {
    /// The failures that it took.
    pub failures: u64,
    /// The bans that it decided on.
    pub bans: u64,
    /// When the first of these was counted; null if there is none.
    pub since: Option<String>,
}

/// The limits of a jail for slow guessing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Guessing {
    /// How long a failure counts, a duration.
    pub findtime: String,
    /// The failures of one source, or on one account, that lead to a ban; 0 for no limit.
    pub maxretry: u32,
    /// The number of sources from which the failures on one account must come.
    pub sources: u32,
    /// The failures of a source on that account that lead to its ban.
    pub each: u32,
    /// The number of accounts with failures of one source that leads to a ban; 0 for no limit.
    pub maxaccounts: u32,
}

/// An account on which many sources fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(test, derive(JsonSchema))]
pub struct Attacked {
    /// The account.
    pub account: String,
    /// The failures on it that count.
    pub failures: u64,
    /// The sources that they come from.
    pub sources: u64,
    /// The time of the last failure.
    pub last: String,
}

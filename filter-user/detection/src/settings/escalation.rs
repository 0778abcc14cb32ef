//! When the network of proven offenders is banned.

use std::time::Duration;

use super::Scope;

/// When the network of proven offenders is banned, for how long, and from what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Whether networks are banned.
    pub enabled: bool,
    /// How long an offender counts after his last proven ban.
    pub findtime: Duration,
    /// How long the ban of a network lasts.
    pub bantime: Duration,
    /// What it closes.
    pub scope: Scope,
    /// Of IPv4.
    pub ipv4: Thresholds,
    /// Of IPv6.
    pub ipv6: Thresholds,
}

/// How many offenders it takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// The length of the networks that are banned.
    pub prefix: u8,
    /// For so many distinct offenders; 0: never.
    pub offenders: u32,
    /// The length of wider ones.
    pub wide_prefix: u8,
    /// Those are banned for so many; 0: never.
    pub wide_offenders: u32,
}

impl Default for Escalation {
    fn default() -> Self {
        let day = Duration::from_hours(24);
        Self {
            enabled: false,
            findtime: day,
            bantime: day,
            scope: Scope::Sip,
            ipv4: Thresholds { prefix: 24, offenders: 4, wide_prefix: 16, wide_offenders: 64 },
            ipv6: Thresholds { prefix: 56, offenders: 4, wide_prefix: 48, wide_offenders: 16 },
        }
    }
}

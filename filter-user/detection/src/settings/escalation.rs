//! When a network with proven offenders is banned.

use std::time::Duration;

use super::Scope;

/// When a network with proven offenders is banned, for how long, and with which scope.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    /// Whether networks are banned.
    pub enabled: bool,
    /// How long an offender counts after its last proven ban.
    pub findtime: Duration,
    /// How long the ban of a network lasts.
    pub bantime: Duration,
    /// The scope of the ban.
    pub scope: Scope,
    /// The thresholds for IPv4.
    pub ipv4: Thresholds,
    /// The thresholds for IPv6.
    pub ipv6: Thresholds,
}

/// How many offenders lead to a ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thresholds {
    /// The length of the networks that are banned.
    pub prefix: u8,
    /// The number of distinct offenders in one that leads to its ban; 0 disables this.
    pub offenders: u32,
    /// The length of the wider networks.
    pub wide_prefix: u8,
    /// The number of distinct offenders in one of these that leads to its ban; 0 disables this.
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

//! When a network with proven offenders is banned.

use std::ops::RangeInclusive;
use std::time::Duration;

use super::{Row, Scope, Value, below, section};
use crate::duration;

section! {
    /// When a network with proven offenders is banned, for how long, and with which scope.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Escalation {
        enabled: bool = false, "Ban a network for the proven offenders in it.", Flag();
        findtime: Duration = Duration::from_hours(24),
            "How long an address counts as an offender after a jail has banned it for proven \
             failures.",
            Time(Duration::from_secs(1)..=Duration::from_hours(30 * 24));
        bantime: Duration = Duration::from_hours(24),
            "How long the ban of a network lasts.",
            Time(Duration::from_secs(1)..=duration::MAX);
        scope: Scope = Scope::Sip,
            "What the ban of a network closes: `sip` (the SIP ports), a name under `ports`, or \
             `all`.",
            Scope();
        /// The thresholds for IPv4.
        ipv4: Thresholds =
            Thresholds { prefix: 24, offenders: 4, wide_prefix: 16, wide_offenders: 64 }
            => section "ipv4"(8..=32);
        /// The thresholds for IPv6.
        ipv6: Thresholds =
            Thresholds { prefix: 56, offenders: 4, wide_prefix: 48, wide_offenders: 16 }
            => section "ipv6"(16..=128);
    }
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

impl Thresholds {
    /// Its settings, which are below the path `at`, for networks of these lengths.
    fn rows(&mut self, at: &str, lengths: RangeInclusive<u8>) -> [Row<'_>; 4] {
        let Self { prefix, offenders, wide_prefix, wide_offenders } = self;
        let row = |key, doc: &str, value| Row { path: below(at, key), doc: doc.to_owned(), value };
        [
            row(
                "prefix",
                "The length of the networks that are banned.",
                Value::Length(prefix, lengths.clone()),
            ),
            row(
                "offenders",
                "How many offenders in one network ban it; 0 never bans it.",
                Value::Count(offenders, 0..=10_000, "sources"),
            ),
            row(
                "wide_prefix",
                "The length of the wider networks that are banned.",
                Value::Length(wide_prefix, lengths),
            ),
            row(
                "wide_offenders",
                "How many offenders in one wider network ban it; 0 never bans it.",
                Value::Count(wide_offenders, 0..=10_000, "sources"),
            ),
        ]
    }
}

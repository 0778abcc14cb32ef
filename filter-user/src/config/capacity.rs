//! How much is remembered.

use super::section::section;

section! {
    /// How much is remembered.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Capacity {
        bans: u32 = 1_000_000,
            "The most IPv4 addresses that can be banned at a time.",
            Count(1..=10_000_000, "addresses");
        bans_ipv6: u32 = 131_072,
            "The most single IPv6 addresses that can be banned at a time. A further 131072 \
             networks can be banned.",
            Count(1..=10_000_000, "addresses");
        watched: u32 = 1_000_000,
            "The most sources whose failures each jail remembers. A million use 70 to 100 MB of \
             memory.",
            Count(1..=10_000_000, "sources");
        offenders: u32 = 100_000,
            "The most addresses whose earlier bans are counted, for each jail. Those with proven \
             bans are evicted last.",
            Count(1..=10_000_000, "addresses");
    }
}

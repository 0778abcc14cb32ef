//! The bounds of a list, and whether it has changed so much that somebody should look at it first.

use std::fmt;

use ipnet::IpNet;

use crate::bogons::{WIDEST_IPV4, WIDEST_IPV6};
use crate::list::List;

/// The largest document that is read, in bytes, after decompression.
pub const SIZE_MAX: usize = 48 << 20;

/// The most entries of a list.
pub const ENTRIES_MAX: usize = 2_000_000;

/// Lists with fewer entries may shrink without a question.
const FEW: usize = 20;

/// Why a list is not used before somebody confirms it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is empty, and was not before.
    Empty,
    /// It has less than half of the entries that it had.
    Shrunk {
        /// How many entries it had.
        from: usize,
        /// How many it has.
        to: usize,
    },
    /// It covers more IPv4 addresses than a /8 has.
    CoversIpv4(u64),
    /// It covers more IPv6 networks of 64 bits than a /19 has.
    CoversIpv6,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("it is empty"),
            Self::Shrunk { from, to } => write!(f, "it has shrunk from {from} entries to {to}"),
            Self::CoversIpv4(addresses) => {
                write!(f, "it covers {addresses} IPv4 addresses, more than a /{WIDEST_IPV4}")
            }
            Self::CoversIpv6 => write!(f, "it covers more of IPv6 than a /{WIDEST_IPV6}"),
        }
    }
}

/// Whether a list may take the place of one that had so many entries; `None` for the first list.
///
/// # Errors
///
/// Why somebody should look at it first.
pub fn judge(had: Option<usize>, list: &List) -> Result<(), Refusal> {
    let to = list.entries().len();
    if let Some(from) = had.filter(|had| *had >= FEW) {
        if to == 0 {
            return Err(Refusal::Empty);
        }
        if to < from.div_ceil(2) {
            return Err(Refusal::Shrunk { from, to });
        }
    }
    let (mut ipv4, mut ipv6) = (0_u64, 0_u64);
    for entry in list.entries() {
        match entry.network {
            IpNet::V4(network) => ipv4 += 1 << (32 - network.prefix_len().min(32)),
            IpNet::V6(network) => {
                ipv6 = ipv6.saturating_add(1 << (64 - network.prefix_len().min(64)));
            }
        }
    }
    if ipv4 > 1 << (32 - WIDEST_IPV4) {
        return Err(Refusal::CoversIpv4(ipv4));
    }
    if ipv6 > 1 << (64 - WIDEST_IPV6) {
        return Err(Refusal::CoversIpv6);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::list::Listed;

    fn list(networks: &[&str]) -> List {
        let listed =
            networks.iter().map(|text| Listed { network: text.parse().unwrap(), until: 0 });
        List::new(listed.collect(), &[])
    }

    fn addresses(count: u32) -> List {
        let first = u32::from_be_bytes([185, 0, 0, 0]);
        let listed = (0..count).map(|n| Listed {
            network: std::net::IpAddr::from((first + n).to_be_bytes()).into(),
            until: 0,
        });
        List::new(listed.collect(), &[])
    }

    #[test]
    fn a_list_that_shrinks_by_half_is_refused() {
        assert_eq!(judge(Some(1000), &addresses(500)), Ok(()));
        assert_eq!(
            judge(Some(1000), &addresses(499)),
            Err(Refusal::Shrunk { from: 1000, to: 499 })
        );
        assert_eq!(
            judge(Some(1001), &addresses(500)),
            Err(Refusal::Shrunk { from: 1001, to: 500 })
        );
        assert_eq!(judge(Some(1000), &addresses(0)), Err(Refusal::Empty));
        assert_eq!(judge(Some(19), &addresses(1)), Ok(()));
        assert_eq!(judge(None, &addresses(0)), Ok(()));
    }

    #[test]
    fn a_list_that_covers_more_than_a_slash_8_is_refused() {
        assert_eq!(judge(None, &list(&["185.0.0.0/8"])), Ok(()));
        let more = list(&["185.0.0.0/8", "186.0.0.0/32"]);
        assert_eq!(judge(None, &more), Err(Refusal::CoversIpv4((1 << 24) + 1)));
        let halves = list(&["20.0.0.0/9", "30.0.0.0/9", "40.0.0.0/9"]);
        assert_eq!(judge(None, &halves), Err(Refusal::CoversIpv4(3 << 23)));
        assert_eq!(judge(None, &list(&["2a00::/19", "2c00::/64"])), Err(Refusal::CoversIpv6));
        assert_eq!(judge(None, &list(&["2a00::/20", "2c00::1/128"])), Ok(()));
    }
}

//! The source of an address.
//!
//! An IPv4 address is a source. In IPv6 a network is a source, a /64 unless configured otherwise: an
//! attacker with one host has 2^64 addresses, and could start afresh with each of them.
//!
//! A source is identified by its first address, which no host in it has (RFC 4291 section 2.6.1), so that a
//! source and a single address in it are distinct.

use std::net::{IpAddr, Ipv6Addr};

use ipnet::{IpNet, Ipv6Net};

/// Networks whose addresses do not belong to one host: IPv4 as IPv6, both of this host (`::/48` contains
/// the mapped addresses, which stand for all of IPv4 in the kernel's maps) and behind NAT64 (RFC 6052, RFC
/// 8215); Teredo, where a network belongs to a server (RFC 4380); and link-local addresses.
const SINGLE: [Ipv6Net; 5] = [
    Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 48),
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 0, 0, 0, 0, 0, 0), 48),
    Ipv6Net::new_assert(Ipv6Addr::new(0x64, 0xff9b, 1, 0, 0, 0, 0, 0), 48),
    Ipv6Net::new_assert(Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 32),
    Ipv6Net::new_assert(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 0), 10),
];

/// The length of the IPv6 networks that are sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePrefix(u8);

impl SourcePrefix {
    /// Every address is a source.
    pub const SINGLE: Self = Self(128);

    /// IPv6 networks of this length are sources; from 128 on, single addresses.
    pub fn ipv6(length: u8) -> Self {
        Self(length.min(128))
    }

    /// The first address of the source of an address.
    pub fn source(self, address: IpAddr) -> IpAddr {
        self.around(address).map_or(address, |around| around.network().into())
    }

    /// The network or single address of a source, given its first address.
    pub fn network(self, source: IpAddr) -> IpNet {
        match self.around(source) {
            Some(network) if network.addr() == network.network() => network.into(),
            Some(_) | None => source.into(),
        }
    }

    fn around(self, address: IpAddr) -> Option<Ipv6Net> {
        let IpAddr::V6(address) = address else { return None };
        let is_single = SINGLE.iter().any(|single| single.contains(&address));
        Ipv6Net::new(address, self.0).ok().filter(|_| !is_single)
    }
}

/// A network in the usual notation: without a length if it is a single address.
pub fn show(network: IpNet) -> String {
    if network.prefix_len() == network.max_prefix_len() {
        network.addr().to_string()
    } else {
        network.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ipv6_addresses_are_grouped_and_ipv4_addresses_are_not() {
        for (length, address, source, network) in [
            (64, "203.0.113.7", "203.0.113.7", "203.0.113.7/32"),
            (64, "2001:db8:0:1:2::3", "2001:db8:0:1::", "2001:db8:0:1::/64"),
            (56, "2001:db8:0:ff::1", "2001:db8::", "2001:db8::/56"),
            (128, "2001:db8::1", "2001:db8::1", "2001:db8::1/128"),
            (128, "2001:db8::", "2001:db8::", "2001:db8::/128"),
            // Link-local neighbours; mapped IPv4, where no source may be all of IPv4.
            (64, "fe80::1", "fe80::1", "fe80::1/128"),
            (64, "fe80::", "fe80::", "fe80::/128"),
            (48, "::ffff:203.0.113.7", "::ffff:203.0.113.7", "::ffff:203.0.113.7/128"),
            (48, "::7", "::7", "::7/128"),
            (64, "64:ff9b::203.0.113.7", "64:ff9b::203.0.113.7", "64:ff9b::cb00:7107/128"),
            (64, "2001:0:1::7", "2001:0:1::7", "2001:0:1::7/128"),
        ] {
            let prefix = SourcePrefix::ipv6(length);
            let found = prefix.source(address.parse().unwrap());
            assert_eq!(found, source.parse::<IpAddr>().unwrap());
            assert_eq!(prefix.network(found).to_string(), network);
        }
        let alone = SourcePrefix::ipv6(64).network("2001:db8::1".parse().unwrap());
        assert_eq!(alone.to_string(), "2001:db8::1/128");
    }

    #[test]
    fn a_single_address_is_shown_without_a_length() {
        for text in ["192.0.2.1", "192.0.2.0/31", "192.0.2.0/24", "2001:db8::1", "2001:db8::/127"] {
            let network = text.parse().or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
            assert_eq!(show(network.unwrap()), text);
        }
    }

    proptest! {
        #[test]
        fn an_address_is_in_its_source(
            bits in any::<u128>(), v4 in any::<[u8; 4]>(), length in 48..=130_u8,
        ) {
            let prefix = SourcePrefix::ipv6(length);
            for address in [IpAddr::from(bits.to_be_bytes()), IpAddr::from(v4)] {
                let source = prefix.source(address);
                prop_assert!(prefix.network(source).contains(&address));
                prop_assert_eq!(prefix.source(source), source);
                // A mapped source closes at most one IPv4 address.
                let low = IpAddr::from((bits & u128::from(u64::MAX)).to_be_bytes());
                let mapped: IpNet = "::ffff:0:0/96".parse().unwrap();
                prop_assert!(!prefix.network(prefix.source(low)).contains(&mapped));
            }
        }
    }
}

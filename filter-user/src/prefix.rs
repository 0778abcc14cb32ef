//! Which addresses are one source: addresses enter, the source that they are of leaves.
//!
//! An IPv4 address is a source. In IPv6 a network is one, a /64 unless the configuration says
//! otherwise: who has a host in it has 2^64 addresses, and would else begin anew with each of them.
//!
//! A source is named by its first address, which no host in it has (RFC 4291 section 2.6.1), so that a
//! source and a single address in it are two.

use std::net::IpAddr;

use ipnet::IpNet;

/// The length of the IPv6 networks that are sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourcePrefix(u8);

impl SourcePrefix {
    /// Every address by itself.
    pub const SINGLE: Self = Self(128);

    /// IPv6 networks of this length, or single addresses from 128 on.
    pub fn ipv6(length: u8) -> Self {
        Self(length.min(128))
    }

    /// The first address of the source that an address is of.
    pub fn source(self, address: IpAddr) -> IpAddr {
        match IpNet::new(address, self.0) {
            Ok(around @ IpNet::V6(_)) => around.network(),
            Ok(IpNet::V4(_)) | Err(_) => address,
        }
    }

    /// What a source is, by its first address: a network, or one address.
    pub fn network(self, source: IpAddr) -> IpNet {
        match IpNet::new(source, self.0) {
            Ok(network @ IpNet::V6(_)) if network.trunc() == network => network,
            Ok(_) | Err(_) => source.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ipv6_is_taken_together_and_ipv4_is_not() {
        for (length, address, source, network) in [
            (64, "203.0.113.7", "203.0.113.7", "203.0.113.7/32"),
            (64, "2001:db8:0:1:2::3", "2001:db8:0:1::", "2001:db8:0:1::/64"),
            (56, "2001:db8:0:ff::1", "2001:db8::", "2001:db8::/56"),
            (128, "2001:db8::1", "2001:db8::1", "2001:db8::1/128"),
            (128, "2001:db8::", "2001:db8::", "2001:db8::/128"),
        ] {
            let prefix = SourcePrefix::ipv6(length);
            let found = prefix.source(address.parse().unwrap());
            assert_eq!(found.to_string(), source);
            assert_eq!(prefix.network(found).to_string(), network);
        }
        let alone = SourcePrefix::ipv6(64).network("2001:db8::1".parse().unwrap());
        assert_eq!(alone.to_string(), "2001:db8::1/128");
    }

    proptest! {
        #[test]
        fn an_address_is_in_its_source(
            bits in any::<u128>(), v4 in any::<[u8; 4]>(), length in 0..=130_u8,
        ) {
            let prefix = SourcePrefix::ipv6(length);
            for address in [IpAddr::from(bits.to_be_bytes()), IpAddr::from(v4)] {
                let source = prefix.source(address);
                prop_assert!(prefix.network(source).contains(&address));
                prop_assert_eq!(prefix.source(source), source);
            }
        }
    }
}

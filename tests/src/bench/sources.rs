//! Source addresses that are computed, not stored: the tables are filled with them here, and the sender
//! computes the same ones in the kernel, within a few nanoseconds and without a cache miss.
//!
//! An address is a function of a number. The banned ones have the numbers from 0 on.

use std::collections::HashSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// Multipliers and shifts of the hash of IPv4 sources: a bijection of 32 bits.
pub(super) const V4_MULTIPLY: [u32; 2] = [0x9e37_79b1, 0x85eb_ca77];
pub(super) const V4_SHIFT: [u8; 2] = [15, 13];
/// The first unicast address, and their number without 127.0.0.0/8.
pub(super) const V4_FIRST: u32 = 0x0100_0000;
pub(super) const V4_SPAN: u32 = 0xde00_0000;
/// The last address before 127.0.0.0/8, which has 2^24 addresses.
pub(super) const V4_BEFORE_LOOPBACK: u32 = 0x7eff_ffff;
pub(super) const LOOPBACK_BITS: u8 = 24;

/// Multipliers of the hash of IPv6 sources, and the bit of `2000::/3`.
pub(super) const V6_MULTIPLY: [u64; 3] =
    [0x9e37_79b9_7f4a_7c15, 0xd6e8_feb8_6659_fd93, 0xa076_1d64_78bd_642f];
pub(super) const V6_GLOBAL_BIT: u8 = 61;

/// The bit that is set in every banned network and in no address of [`Choice::Strangers`]: the last bit
/// of the shortest prefix, so that banned networks are everywhere and contain no strangers.
const NETWORK_BIT: u32 = 1 << 12;

/// The first number of networks, far from those of addresses.
const NETWORKS_FROM: u32 = 0x8000_0000;

/// The sources of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// Only this number.
    One(u32),
    /// Random numbers below this.
    Among(u32),
    /// Random numbers from this on, outside every banned network.
    Strangers(u32),
    /// One of [`Choice::Strangers`].
    Stranger(u32),
    /// A random address in each of this many banned networks of its family, the first ones.
    InNetworks(u32),
    /// An address in the banned network of this number.
    InNetwork(u32),
}

impl Choice {
    /// The first number, and how many there are.
    pub(super) fn numbers(self) -> (u32, u32) {
        match self {
            Self::One(number) | Self::Stranger(number) => (number, 1),
            Self::Among(count) => (0, count),
            Self::Strangers(first) => (first, u32::MAX - first),
            Self::InNetworks(count) => (NETWORKS_FROM, count),
            Self::InNetwork(number) => (NETWORKS_FROM + number, 1),
        }
    }

    /// The bits that are kept of an IPv4 address.
    pub(super) fn mask(self) -> u32 {
        match self {
            Self::One(_) | Self::Among(_) | Self::InNetworks(_) | Self::InNetwork(_) => u32::MAX,
            Self::Strangers(_) | Self::Stranger(_) => !NETWORK_BIT,
        }
    }

    /// The bits that are set in an IPv4 address.
    pub(super) fn bits(self) -> u32 {
        match self {
            Self::InNetworks(_) | Self::InNetwork(_) => NETWORK_BIT,
            Self::One(_) | Self::Among(_) | Self::Strangers(_) | Self::Stranger(_) => 0,
        }
    }
}

/// The IPv4 source of a number.
pub(super) fn v4(number: u32) -> Ipv4Addr {
    let mut hash = number;
    for (multiply, shift) in V4_MULTIPLY.into_iter().zip(V4_SHIFT) {
        hash = hash.wrapping_mul(multiply);
        hash ^= hash >> shift;
    }
    let scaled = (u64::from(hash) * u64::from(V4_SPAN)) >> 32;
    let mut address = u64::from(V4_FIRST) + scaled;
    // 1 if the address is after loopback, computed without a branch for the sender.
    let behind = u64::from(V4_BEFORE_LOOPBACK).wrapping_sub(address) >> 63;
    address += behind << LOOPBACK_BITS;
    Ipv4Addr::from_bits(u32::try_from(address).unwrap_or(u32::MAX))
}

/// The IPv6 source of a number.
pub(super) fn v6(number: u64) -> Ipv6Addr {
    let [first, second, third] = V6_MULTIPLY;
    let mut hash = number.wrapping_mul(first);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(second);
    hash ^= hash >> 32;
    let high = hash >> 3 | 1 << V6_GLOBAL_BIT;
    let low = hash.wrapping_mul(third);
    Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low))
}

/// The addresses and networks to ban.
#[derive(Debug)]
pub(super) struct Banned {
    /// The IPv4 addresses, all different. They have slightly more numbers, because a few numbers have the
    /// same address.
    pub(super) v4: Vec<Ipv4Addr>,
    /// The IPv6 addresses.
    pub(super) v6: Vec<Ipv6Addr>,
    /// The networks of both families, all different.
    pub(super) networks: Vec<IpNet>,
}

impl Banned {
    /// This many of each: IPv4 addresses, IPv6 addresses, and networks, half of them from /20 to /28 and
    /// half from /48 to /64.
    pub(super) fn new(v4_count: usize, v6_count: usize, networks: usize) -> Self {
        let mut seen = HashSet::with_capacity(v4_count);
        let mut addresses = Vec::with_capacity(v4_count);
        for address in (0..).map(v4) {
            if addresses.len() == v4_count {
                break;
            }
            if seen.insert(address) {
                addresses.push(address);
            }
        }
        Self {
            v4: addresses,
            v6: (0..).map(v6).take(v6_count).collect(),
            networks: v4_networks()
                .take(networks / 2)
                .chain(v6_networks().take(networks - networks / 2))
                .collect(),
        }
    }
}

fn v4_networks() -> impl Iterator<Item = IpNet> {
    let mut seen = HashSet::new();
    (NETWORKS_FROM..).filter_map(move |number| {
        let length = 20 + u8::try_from(number % 9).unwrap_or(0);
        let address = Ipv4Addr::from_bits(v4(number).to_bits() | NETWORK_BIT);
        let network = Ipv4Net::new(address, length).ok()?.trunc();
        seen.insert(network).then_some(IpNet::V4(network))
    })
}

fn v6_networks() -> impl Iterator<Item = IpNet> {
    let mut seen = HashSet::new();
    (u64::from(NETWORKS_FROM)..).filter_map(move |number| {
        let length = 48 + u8::try_from(number % 17).unwrap_or(0);
        let network = Ipv6Net::new(v6(number), length).ok()?.trunc();
        seen.insert(network).then_some(IpNet::V6(network))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_are_unicast_and_nobodys_own() {
        for number in (0..u32::MAX).step_by(65_521) {
            let address = v4(number);
            let first = address.octets()[0];
            assert!((1..224).contains(&first) && first != 127, "{number}: {address}");
        }
        assert!((0..1000).map(v6).all(|address| address.segments()[0] >> 13 == 1));
    }

    #[test]
    fn what_is_banned_is_of_the_size_asked_for_and_all_different() {
        let banned = Banned::new(50_000, 1000, 2000);
        assert_eq!(banned.v4.iter().collect::<HashSet<_>>().len(), 50_000);
        assert_eq!(banned.v6.iter().collect::<HashSet<_>>().len(), 1000);
        assert_eq!(banned.networks.iter().collect::<HashSet<_>>().len(), 2000);
        let addresses: HashSet<_> = banned.v4.iter().copied().collect();
        assert!((0..50_000).map(v4).all(|address| addresses.contains(&address)));
        let v4_networks = banned.networks.iter().filter(|network| network.addr().is_ipv4());
        assert_eq!(v4_networks.count(), 1000);
    }

    #[test]
    fn strangers_are_in_no_network() {
        let banned = Banned::new(0, 0, 20_000);
        let mask = Choice::Strangers(0).mask();
        for number in (0..u32::MAX).step_by(1_000_003) {
            let address = Ipv4Addr::from_bits(v4(number).to_bits() & mask);
            let inside = |network: &&IpNet| network.contains(&std::net::IpAddr::V4(address));
            assert_eq!(banned.networks.iter().find(inside), None, "{address}");
        }
    }
}

//! How wide a network may be that is banned or trusted, so that a typing mistake, or a line of a feed, does not close the
//! host to everybody or open it.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv6Net};

/// The shortest prefix.
pub(super) const WIDEST: u8 = 8;

/// The network of IPv4 in the maps of networks. An IPv6 network around it would include all of IPv4.
const MAPPED: IpNet =
    IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::new(0, 0, 0, 0, 0, 0xffff, 0, 0), 96));

/// Whether a network is too wide, or shares addresses with that of IPv4 in the maps.
pub(super) fn is_too_wide(network: IpNet) -> bool {
    network.prefix_len() < WIDEST || MAPPED.contains(&network) || network.contains(&MAPPED)
}

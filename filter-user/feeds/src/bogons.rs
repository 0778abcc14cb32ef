//! Networks that no packet from the Internet comes from (RFC 6890 and the registries of IANA). Whoever lists
//! them means something else, or harm. The same goes for networks that are too wide.

use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The shortest prefix of an IPv4 network that is taken from a list.
pub const WIDEST_IPV4: u8 = 8;

/// The same for IPv6.
pub const WIDEST_IPV6: u8 = 19;

const fn v4(a: u8, b: u8, c: u8, length: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), length)
}

const fn v6(a: u16, b: u16, length: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, 0, 0, 0, 0, 0, 0), length)
}

const IPV4: [Ipv4Net; 15] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    v4(224, 0, 0, 4),
    v4(240, 0, 0, 4),
];

/// Whether one of these has addresses that begin with this byte. Few do, which spares most entries of a long list a look
/// at each.
const BEGINS: [bool; 256] = {
    let mut begins = [false; 256];
    let mut place = 0;
    while place < IPV4.len() {
        let [first, ..] = IPV4[place].addr().octets();
        let length = IPV4[place].prefix_len();
        let last = if length < 8 { first | (0xff >> length) } else { first };
        let mut byte = first as usize;
        while byte <= last as usize {
            begins[byte] = true;
            byte += 1;
        }
        place += 1;
    }
    begins
};

/// Global unicast addresses, the only ones in use on the Internet.
const IPV6_GLOBAL: Ipv6Net = v6(0x2000, 0, 3);

const IPV6: [Ipv6Net; 4] =
    [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];

/// The networks that are not in use on the Internet; in IPv6, of global unicast addresses.
pub fn bogons() -> impl Iterator<Item = IpNet> {
    IPV4.into_iter().map(IpNet::V4).chain(IPV6.into_iter().map(IpNet::V6))
}

/// Whether a network has anything in common with one that is not in use on the Internet.
pub fn is_bogon(network: IpNet) -> bool {
    match network {
        IpNet::V4(network) => {
            let [first, ..] = network.addr().octets();
            if network.prefix_len() >= 8 && !BEGINS[usize::from(first)] {
                return false;
            }
            IPV4.iter().any(|bogon| bogon.contains(&network) || network.contains(bogon))
        }
        IpNet::V6(network) => {
            !IPV6_GLOBAL.contains(&network)
                || IPV6.iter().any(|bogon| bogon.contains(&network) || network.contains(bogon))
        }
    }
}

/// The shortest prefix of a network of this family that is taken from a list.
pub(crate) fn widest(network: IpNet) -> u8 {
    match network {
        IpNet::V4(_) => WIDEST_IPV4,
        IpNet::V6(_) => WIDEST_IPV6,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_byte_changes_no_answer() {
        let is = |network: Ipv4Net| {
            IPV4.iter().any(|bogon| bogon.contains(&network) || network.contains(bogon))
        };
        for first in 0..=u8::MAX {
            for (second, length) in [(0, 4), (0, 7), (0, 8), (64, 10), (18, 15), (88, 24), (7, 32)]
            {
                let network = Ipv4Net::new(Ipv4Addr::new(first, second, 99, 1), length).unwrap();
                assert_eq!(is_bogon(network.trunc().into()), is(network.trunc()), "{network}");
            }
        }
    }

    #[test]
    fn what_contains_a_bogon_is_one() {
        let is = |text: &str| is_bogon(text.parse().unwrap());
        for bogon in [
            "0.0.0.0/0",
            "10.1.2.3/32",
            "192.0.0.0/8",
            "192.168.0.0/24",
            "255.255.255.255/32",
            "::/0",
            "::1/128",
            "fe80::1/128",
            "2001:db8::/40",
            "2000::/3",
            "64:ff9b::/96",
            "::ffff:0:0/96",
        ] {
            assert!(is(bogon), "{bogon}");
        }
        for no in ["8.8.8.8/32", "185.0.0.0/8", "192.1.0.0/16", "2a01::/16", "2001:4860::/32"] {
            assert!(!is(no), "{no}");
        }
    }
}

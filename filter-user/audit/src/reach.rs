//! Who can reach an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::Reach;

/// Who can reach a listener with this address, judging by the address alone.
pub fn of(address: IpAddr) -> Reach {
    match address.to_canonical() {
        address if address.is_unspecified() => Reach::Any,
        address if address.is_loopback() => Reach::Loopback,
        address if address.is_multicast() => Reach::Multicast,
        IpAddr::V4(address) => of_v4(address),
        IpAddr::V6(address) => of_v6(address),
    }
}

fn of_v4(address: Ipv4Addr) -> Reach {
    let [first, second, ..] = address.octets();
    // RFC 6598: the addresses between customers and a carrier's NAT.
    let is_shared = first == 100 && second & 0xc0 == 64;
    if address.is_link_local() {
        Reach::LinkLocal
    } else if address.is_private() || is_shared {
        Reach::Private
    } else {
        Reach::Public
    }
}

fn of_v6(address: Ipv6Addr) -> Reach {
    if address.is_unicast_link_local() {
        Reach::LinkLocal
    } else if address.is_unique_local() {
        Reach::Private
    } else {
        Reach::Public
    }
}

/// Whether strangers on the Internet may reach it.
pub fn is_exposed(reach: Reach) -> bool {
    matches!(reach, Reach::Any | Reach::Public)
}

/// Who it is, in words.
pub fn in_words(reach: Reach) -> &'static str {
    match reach {
        Reach::Any => "every address of the host",
        Reach::Public => "a public address",
        Reach::Private => "a private address",
        Reach::Multicast => "a multicast group",
        Reach::LinkLocal => "the link alone",
        Reach::Loopback => "this host alone",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_of_address() {
        for (address, expected) in [
            ("0.0.0.0", Reach::Any),
            ("::", Reach::Any),
            ("::ffff:0.0.0.0", Reach::Any),
            ("127.0.0.1", Reach::Loopback),
            ("127.8.9.10", Reach::Loopback),
            ("::1", Reach::Loopback),
            ("::ffff:127.0.0.1", Reach::Loopback),
            ("169.254.1.1", Reach::LinkLocal),
            ("fe80::1", Reach::LinkLocal),
            ("10.1.2.3", Reach::Private),
            ("172.31.0.1", Reach::Private),
            ("172.32.0.1", Reach::Public),
            ("192.168.0.1", Reach::Private),
            ("::ffff:192.168.0.1", Reach::Private),
            ("100.64.0.1", Reach::Private),
            ("100.128.0.1", Reach::Public),
            ("fd00::1", Reach::Private),
            ("224.0.0.251", Reach::Multicast),
            ("ff02::fb", Reach::Multicast),
            ("192.0.2.1", Reach::Public),
            ("2001:db8::1", Reach::Public),
        ] {
            assert_eq!(of(address.parse().unwrap()), expected, "{address}");
        }
    }
}

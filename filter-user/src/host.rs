//! What the host says of itself: its addresses, and the interface towards the world.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

/// The host's own addresses and the loopback networks: nobody there is ever banned.
///
/// # Errors
///
/// When the kernel does not list them.
pub fn own_networks() -> Result<BTreeSet<IpNet>> {
    let loopback = ["127.0.0.0/8", "::1/128"];
    let mut own: BTreeSet<IpNet> = loopback.iter().filter_map(|text| text.parse().ok()).collect();
    for interface in getifaddrs().context("list the host's addresses")? {
        let Some(address) = interface.address else { continue };
        if let Some(v4) = address.as_sockaddr_in() {
            own.insert(IpAddr::V4(v4.ip()).into());
        } else if let Some(v6) = address.as_sockaddr_in6() {
            own.insert(IpAddr::V6(v6.ip()).into());
        }
    }
    Ok(own)
}

/// The addresses among [`own_networks`], without those of the loopback networks.
pub fn addresses(own: &BTreeSet<IpNet>) -> BTreeSet<IpAddr> {
    let single = own.iter().filter(|network| network.prefix_len() == network.max_prefix_len());
    single.map(IpNet::addr).filter(|address| !address.is_loopback()).collect()
}

/// The interface with the default route, of IPv4 or else of IPv6.
///
/// # Errors
///
/// When there is none.
pub fn default_interface() -> Result<String> {
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let v4 = read("/proc/thread-self/net/route");
    let v6 = read("/proc/thread-self/net/ipv6_route");
    match default_v4(&v4).or_else(|| default_v6(&v6)) {
        Some(name) => Ok(name.to_owned()),
        None => bail!(
            "there is no default route to tell the interface by; \
             name it with `-i` or with `interfaces: [NAME]`"
        ),
    }
}

/// The interface of the default route with the lowest metric in `/proc/net/route`.
fn default_v4(table: &str) -> Option<&str> {
    let routes = table.lines().skip(1).filter_map(|line| {
        // Iface Destination Gateway Flags RefCnt Use Metric Mask ...
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, "00000000", _, _, _, _, metric, "00000000", ..] = fields[..] else {
            return None;
        };
        Some((metric.parse::<u32>().ok()?, name))
    });
    routes.min().map(|(_, name)| name)
}

/// The same in `/proc/net/ipv6_route`.
fn default_v6(table: &str) -> Option<&str> {
    const NONE: &str = "00000000000000000000000000000000";
    let routes = table.lines().filter_map(|line| {
        // destination length source length next-hop metric references use flags interface
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let [NONE, "00", _, _, _, metric, _, _, _, name] = fields[..] else {
            return None;
        };
        // An unreachable default route, which every host has, is on `lo`.
        (name != "lo").then_some((u32::from_str_radix(metric, 16).ok()?, name))
    });
    routes.min().map(|(_, name)| name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_route_with_the_lowest_metric() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n\
            wlan0\t00000000\t0100A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n\
            eth0\t00000000\t0100A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n\
            eth1\t0000A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        assert_eq!(default_v4(table), Some("eth0"));
        assert_eq!(default_v4(""), None);
    }

    #[test]
    fn ipv6_alone_has_a_default_route_too() {
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003 ens3\n"
        );
        assert_eq!(default_v6(&table), Some("ens3"));
    }

    #[test]
    fn loopback_is_always_our_own() {
        let own = own_networks().unwrap();
        assert!(own.iter().any(|network| network.contains(&IpAddr::from([127, 8, 9, 1]))));
    }
}

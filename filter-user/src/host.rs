//! The state of the host: its addresses, where packets arrive, and where Asterisk listens.
//!
//! Must never block the loop.

mod asterisk;
mod essential;
mod exposure;
mod listening;

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use nix::ifaddrs::getifaddrs;

pub use self::asterisk::Asterisk;
pub use self::essential::Essential;
pub use self::exposure::{Exposure, Protection, exposures, hint};
pub use self::listening::listening;
pub use datapath::Network;

/// The host's own addresses and the loopback networks, which are never banned.
///
/// # Errors
///
/// If the kernel does not list them.
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

/// The addresses in [`own_networks`], without the loopback networks.
pub fn addresses(own: &BTreeSet<IpNet>) -> BTreeSet<IpAddr> {
    let single = own.iter().filter(|network| network.prefix_len() == network.max_prefix_len());
    single.map(IpNet::addr).filter(|address| !address.is_loopback()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_always_our_own() {
        let own = own_networks().unwrap();
        assert!(own.iter().any(|network| network.contains(&IpAddr::from([127, 8, 9, 1]))));
    }
}

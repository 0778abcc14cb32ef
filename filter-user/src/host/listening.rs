//! The ports of services that others may use, of which the filter records who does.

use std::collections::BTreeSet;
use std::fs;
use std::ops::RangeInclusive;

use anyhow::Result;

use crate::datapath::{self, Socket};

/// Ports that are no services: those of DHCP, and those of the media of calls.
const NO_SERVICES: [RangeInclusive<u16>; 3] = [67..=68, 546..=547, 10_000..=20_000];

/// The file with the first and last port that the kernel assigns to sockets that do not request one.
const EPHEMERAL: &str = "/proc/sys/net/ipv4/ip_local_port_range";

/// The ports of services, each with whether it is a TCP port.
///
/// # Errors
///
/// If the kernel does not list the sockets.
pub fn listening() -> Result<BTreeSet<(bool, u16)>> {
    let mut sockets = datapath::listening(true)?;
    sockets.extend(datapath::listening(false)?);
    let text = fs::read_to_string(EPHEMERAL).unwrap_or_default();
    let mut ports = text.split_whitespace().map_while(|word| word.parse().ok());
    let ephemeral = ports.next().zip(ports.next()).unwrap_or((32_768, 60_999));
    Ok(services(&sockets, ephemeral.0..=ephemeral.1))
}

/// The sockets that are services for others. A UDP socket with a port that the kernel has assigned only
/// waits for replies.
fn services(sockets: &[Socket], ephemeral: RangeInclusive<u16>) -> BTreeSet<(bool, u16)> {
    let is_service = |one: &&Socket| {
        let no_service = || {
            ephemeral.contains(&one.port)
                || NO_SERVICES.iter().any(|range| range.contains(&one.port))
        };
        !one.address.to_canonical().is_loopback() && (one.is_tcp || !no_service())
    };
    sockets.iter().filter(is_service).map(|one| (one.is_tcp, one.port)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn services_are_what_others_can_use() {
        let socket = |is_tcp, address: &str, port| Socket {
            is_tcp,
            address: address.parse().unwrap(),
            port,
            v6_only: false,
            interface: 0,
            uid: 0,
            inode: 1,
        };
        let all = [
            socket(true, "0.0.0.0", 5432),
            socket(true, "127.0.0.1", 5433),
            socket(true, "::1", 5434),
            socket(true, "::", 40_000),
            socket(true, "192.0.2.1", 15_000),
            socket(false, "0.0.0.0", 69),
            socket(false, "0.0.0.0", 68),
            socket(false, "0.0.0.0", 15_000),
            socket(false, "::", 40_000),
        ];
        let found: Vec<(bool, u16)> = services(&all, 32_768..=60_999).into_iter().collect();
        assert_eq!(found, [(false, 69), (true, 5432), (true, 15_000), (true, 40_000)]);
    }
}

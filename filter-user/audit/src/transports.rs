//! Asterisk's SIP transports, from what `pjsip show transports` prints and from the settings of `pjsip.conf`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use api::SipTransport;

use crate::words::shown;

/// The most transports that are read.
const TRANSPORTS_MAX: usize = 256;

/// The transports in the output of `pjsip show transports`.
pub fn printed(text: &str) -> Vec<SipTransport> {
    let row = |line: &str| {
        let rest = line.trim_start().strip_prefix("Transport:")?;
        let [name, protocol, _class, _type_of_service, bound] =
            rest.split_whitespace().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        transport(name, protocol, bound)
    };
    text.lines().filter_map(row).take(TRANSPORTS_MAX).collect()
}

/// The ports for media in the output of `rtp show settings`, the first and the last.
pub fn rtp_printed(text: &str) -> Option<(u16, u16)> {
    let port = |name: &str| {
        let value = |line: &str| line.trim().strip_prefix(name)?.trim().parse().ok();
        text.lines().find_map(value)
    };
    Some((port("Port start:")?, port("Port end:")?))
}

/// A transport in `pjsip.conf`, from its name, `protocol` and `bind`. `None` if the address is invalid.
pub fn transport(name: &str, protocol: &str, bind: &str) -> Option<SipTransport> {
    let protocol = protocol.to_ascii_lowercase();
    let default = if protocol == "tls" { 5061 } else { 5060 };
    let (address, port) = bound(bind, default)?;
    Some(SipTransport { name: shown(name), protocol, address, port })
}

/// The address and port of `bind`, which may lack either.
fn bound(text: &str, default: u16) -> Option<(IpAddr, u16)> {
    let text = text.trim();
    if let Ok(both) = text.parse::<SocketAddr>() {
        let port = if both.port() == 0 { default } else { both.port() };
        return Some((both.ip().to_canonical(), port));
    }
    if text.is_empty() {
        return Some((IpAddr::V4(Ipv4Addr::UNSPECIFIED), default));
    }
    let address = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok()?;
    Some((address.to_canonical(), default))
}

/// Whether a transport has a socket of its own for SIP. `WebSocket` connections arrive at Asterisk's web server.
pub fn has_socket(transport: &SipTransport) -> bool {
    ["udp", "tcp", "tls", "flow"].contains(&&*transport.protocol)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PRINTED: &str = "
Transport:  <TransportId........>  <Type>  <cos>  <tos>  <BindAddress....................>
==========================================================================================

Transport:  transport-tcp             tcp      0      0  0.0.0.0:5060
Transport:  transport-udp6            udp      0      0  [::]:5060
Transport:  transport-tls             tls      3    184  192.0.2.10:5161
Transport:  transport-ws               ws      0      0  0.0.0.0:5060

Objects found: 4

";

    #[test]
    fn what_asterisk_prints_is_read() {
        let found = printed(PRINTED);
        let said: Vec<String> = found
            .iter()
            .map(|t| format!("{} {} {} {}", t.name, t.protocol, t.address, t.port))
            .collect();
        assert_eq!(
            said,
            [
                "transport-tcp tcp 0.0.0.0 5060",
                "transport-udp6 udp :: 5060",
                "transport-tls tls 192.0.2.10 5161",
                "transport-ws ws 0.0.0.0 5060"
            ]
        );
        let own: Vec<bool> = found.iter().map(has_socket).collect();
        assert_eq!(own, [true, true, true, false]);
        for length in 0..PRINTED.len() {
            let _any = printed(&PRINTED[..length]);
        }
    }

    #[test]
    fn the_ports_for_media_are_read() {
        let text = "\n\nGeneral Settings:\n----------------\n  Port start:      10000\n  Port end:        20000\n";
        assert_eq!(rtp_printed(text), Some((10_000, 20_000)));
        assert_eq!(rtp_printed("  Port start:      70000\n  Port end:        1\n"), None);
    }

    #[test]
    fn a_transport_may_lack_its_port() {
        let port = |protocol, bind| {
            transport("t", protocol, bind).map(|t| (t.address.to_string(), t.port))
        };
        assert_eq!(port("udp", "0.0.0.0"), Some(("0.0.0.0".to_owned(), 5060)));
        assert_eq!(port("TLS", "::"), Some(("::".to_owned(), 5061)));
        assert_eq!(port("tls", "[2001:db8::1]"), Some(("2001:db8::1".to_owned(), 5061)));
        assert_eq!(port("udp", "[::]:0"), Some(("::".to_owned(), 5060)));
        assert_eq!(port("udp", "pbx.example"), None);
    }
}

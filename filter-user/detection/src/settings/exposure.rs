//! Services that are not open to everybody.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use filter_common::abi::{OPEN_TO_KNOWN, OPEN_TO_REPLIES, OPEN_TO_TRUSTED};

use super::ports::{PortRange, SipPorts};
use super::section;

section! {
    /// The services that are not open to everybody, and the sources to which they are open.
    #[derive(Clone, Debug, PartialEq, Eq)]
    pub struct Exposure {
        trusted: Vec<Service> = Vec::new(),
            "The services that are open to `trusted` networks only, by name or as `8080/tcp`. New TCP \
             connections and UDP packets of all others are dropped; connections that exist, and UDP \
             replies to the host, are not. Known peers may still use `sip` and `rtp`. The names are "
                + format!("{}.", names().collect::<Vec<_>>().join(", ")),
            Services();
        closed: Vec<Service> = Vec::new(),
            "The services that are open to nobody, not even to `trusted` networks. The host's own \
             connections over loopback are not affected.",
            Services();
        dry_run: bool = false,
            "Count the packets that `exposure` would drop, but let them pass.",
            Flag();
    }
}

/// A service, by its name or its ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    /// One of [`SERVICES`], or `sip`.
    Named(&'static str),
    /// Ports of one protocol.
    Ports {
        /// Whether these are TCP ports; otherwise they are UDP ports.
        tcp: bool,
        /// The first and the last port.
        range: PortRange,
    },
}

/// The name of the service whose ports are those under `sip`.
const SIP: &str = "sip";
/// The name of the service whose port is that of SIP over TLS.
const SIP_TLS: &str = "sip-tls";
/// The name of the service that carries the audio and video of calls.
const RTP: &str = "rtp";

/// A service that has a name.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    /// The name, as the configuration has it.
    pub name: &'static str,
    /// UDP ports.
    pub udp: &'static [PortRange],
    /// TCP ports.
    pub tcp: &'static [PortRange],
}

const fn tcp(name: &'static str, tcp: &'static [PortRange]) -> Named {
    Named { name, udp: &[], tcp }
}

const fn udp(name: &'static str, udp: &'static [PortRange]) -> Named {
    Named { name, udp, tcp: &[] }
}

const fn port(port: u16) -> PortRange {
    PortRange::single(port)
}

const fn ports(first: u16, last: u16) -> PortRange {
    PortRange { first, last }
}

/// The named services of a Wazo host, except `sip`, whose ports are configured
/// (`uc-doc/contributors/network.md` of Wazo's documentation, and each program's default).
pub const SERVICES: &[Named] = &[
    tcp("ami", &[port(5038)]),
    tcp("asterisk-http", &[port(5039), port(8088), port(8089)]),
    tcp("consul", &[ports(8300, 8302), port(8500), port(8600)]),
    tcp("http", &[port(80)]),
    tcp("https", &[port(443)]),
    udp("iax", &[port(4569)]),
    tcp("monit", &[port(2812)]),
    tcp("munin", &[port(4949)]),
    udp("ntp", &[port(123)]),
    tcp("postgresql", &[port(5432)]),
    tcp("provisioning", &[port(8666), port(8667), port(18667)]),
    tcp("rabbitmq", &[port(4369), port(5671), port(5672), port(15672), port(25672)]),
    udp(RTP, &[ports(10_000, 20_000)]),
    tcp("sccp", &[port(2000)]),
    Named { name: SIP_TLS, udp: &[], tcp: &[port(5061)] },
    tcp("smtp", &[port(25)]),
    tcp("ssh", &[port(22)]),
    udp("tftp", &[port(69)]),
    tcp("wazo-agentd", &[port(9493)]),
    tcp("wazo-amid", &[port(9491)]),
    tcp("wazo-auth", &[port(9497)]),
    tcp("wazo-call-logd", &[port(9298)]),
    tcp("wazo-calld", &[port(9500)]),
    tcp("wazo-chatd", &[port(9304)]),
    tcp("wazo-confd", &[port(9486)]),
    tcp("wazo-confgend", &[port(8669)]),
    tcp("wazo-dird", &[port(9489)]),
    tcp("wazo-phoned", &[port(9498), port(9499)]),
    tcp("wazo-plugind", &[port(9503)]),
    tcp("wazo-setupd", &[port(9302)]),
    tcp("wazo-sysconfd", &[port(8668)]),
    tcp("wazo-webhookd", &[port(9300)]),
    tcp("wazo-websocketd", &[port(9502)]),
];

/// UDP ports of DHCP in both families, which a host needs to have an address.
const DHCP: [u16; 4] = [67, 68, 546, 547];

/// Ports that are not open to everybody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortGuard {
    /// Whether these are TCP ports; otherwise they are UDP ports.
    pub tcp: bool,
    /// The first and the last port.
    pub range: PortRange,
    /// The sources to which they are open, a sum of `OPEN_TO_*` ([`filter_common::abi`]).
    pub open_to: u8,
}

impl Exposure {
    /// The ports that are not open to everybody. If services share a port, the stricter entry comes later
    /// and applies.
    ///
    /// Known peers have access to SIP, and to RTP, of which they may send the first packet of a call, also if
    /// `trusted` has these ports in a range.
    pub fn guards(&self, sip: &SipPorts) -> Vec<PortGuard> {
        let of_calls: Vec<(bool, PortRange)> =
            [SIP, SIP_TLS, RTP].iter().flat_map(|name| Service::Named(name).ports(sip)).collect();
        let trusted = self.trusted.iter().flat_map(|service| service.ports(sip));
        let trusted = trusted.flat_map(|(tcp, range)| {
            let of_calls = of_calls.iter().filter(|(of_tcp, _)| *of_tcp == tcp);
            let of_calls: Vec<PortRange> = of_calls.map(|(_, range)| *range).collect();
            split(range, &of_calls).into_iter().map(move |(range, is_of_calls)| {
                guard(tcp, range, OPEN_TO_TRUSTED | if is_of_calls { OPEN_TO_KNOWN } else { 0 })
            })
        });
        let closed = self.closed.iter().flat_map(|service| service.ports(sip));
        trusted.chain(closed.map(|(tcp, range)| guard(tcp, range, 0))).collect()
    }

    /// The services that are closed to a source, unless this is a dry run.
    pub fn closed_to(&self, is_trusted: bool, is_known: bool, sip: &SipPorts) -> Vec<Service> {
        let is_open = |service: &Service| {
            let alone = Self { trusted: vec![*service], ..Self::default() };
            let is_of_calls = |guard: &PortGuard| guard.open_to & OPEN_TO_KNOWN != 0;
            is_trusted || is_known && alone.guards(sip).iter().all(is_of_calls)
        };
        let trusted = self.trusted.iter().filter(|service| !is_open(service));
        trusted.chain(&self.closed).copied().collect()
    }
}

/// Replies to the host's own requests always pass.
fn guard(tcp: bool, range: PortRange, open_to: u8) -> PortGuard {
    PortGuard { tcp, range, open_to: open_to | if tcp { 0 } else { OPEN_TO_REPLIES } }
}

/// The parts of a range that are in one of the others, and those that are in none, in their order.
fn split(range: PortRange, others: &[PortRange]) -> Vec<(PortRange, bool)> {
    let begins = others.iter().flat_map(|other| [Some(other.first), other.last.checked_add(1)]);
    let begins = begins.flatten().filter(|begin| range.contains(*begin));
    let begins: BTreeSet<u16> = begins.chain([range.first]).collect();
    let lasts = begins.iter().skip(1).map(|next| next.saturating_sub(1)).chain([range.last]);
    let part = |(first, last): (&u16, u16)| {
        let is_in = others.iter().any(|other| other.contains(*first));
        (PortRange { first: *first, last }, is_in)
    };
    begins.iter().zip(lasts).map(part).collect()
}

impl Service {
    /// Its ports: whether they are TCP ports, and the first and last port of each range.
    pub fn ports(self, sip: &SipPorts) -> Vec<(bool, PortRange)> {
        let both = |udp: &[PortRange], tcp: &[PortRange]| {
            let udp = udp.iter().map(|range| (false, *range));
            udp.chain(tcp.iter().map(|range| (true, *range))).collect()
        };
        match self {
            Self::Named(SIP) => both(&sip.udp, &sip.tcp),
            Self::Named(name) => SERVICES
                .iter()
                .find(|service| service.name == name)
                .map_or_else(Vec::new, |service| both(service.udp, service.tcp)),
            Self::Ports { tcp, range } => vec![(tcp, range)],
        }
    }
}

impl FromStr for Service {
    type Err = String;

    /// `postgresql`, `5432/tcp`, `10000-20000/udp`
    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(name) = names().find(|name| *name == text) {
            return Ok(Self::Named(name));
        }
        let (range, protocol) = text.split_once('/').ok_or_else(|| {
            let known: Vec<&str> = names().collect();
            format!(
                "`{text}` is not a known service; write ports as `5432/tcp`, or use one of {}",
                known.join(", ")
            )
        })?;
        let tcp = match protocol {
            "tcp" => true,
            "udp" => false,
            _ => return Err(format!("`{protocol}` is neither `tcp` nor `udp`")),
        };
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |text: &str| {
            let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let port = if digits { text.parse().ok() } else { None };
            port.filter(|port| *port != 0).ok_or_else(|| format!("`{text}` is not a port"))
        };
        let range = PortRange { first: number(first)?, last: number(last)? };
        if range.first > range.last {
            return Err(format!("`{first}-{last}` ends before it begins"));
        }
        if let Some(dhcp) = DHCP.into_iter().find(|port| !tcp && range.contains(*port)) {
            return Err(format!("port {dhcp}/udp is DHCP, without which the host has no address"));
        }
        Ok(Self::Ports { tcp, range })
    }
}

impl fmt::Display for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Named(name) => f.write_str(name),
            Self::Ports { tcp, range } => {
                write!(f, "{range}/{}", if *tcp { "tcp" } else { "udp" })
            }
        }
    }
}

/// The names of services.
pub fn names() -> impl Iterator<Item = &'static str> {
    [SIP].into_iter().chain(SERVICES.iter().map(|service| service.name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sip() -> SipPorts {
        SipPorts { udp: vec![PortRange::single(5060)], tcp: vec![PortRange::single(5080)] }
    }

    #[test]
    fn services_are_read_as_they_are_written() {
        for text in ["sip", "postgresql", "5432/tcp", "10000-20000/udp", "65535/udp"] {
            assert_eq!(text.parse::<Service>().unwrap().to_string(), text);
        }
        for name in names() {
            assert_eq!(name.parse(), Ok(Service::Named(name)));
            assert!(!Service::Named(name).ports(&sip()).is_empty(), "{name}");
        }
        for (text, why) in [
            ("postgres", "is not a known service"),
            ("5432", "is not a known service"),
            ("5432/sctp", "neither"),
            ("0/tcp", "not a port"),
            ("+1/tcp", "not a port"),
            ("65536/tcp", "not a port"),
            ("9-8/tcp", "ends before"),
            ("68/udp", "DHCP"),
            ("1-65535/udp", "DHCP"),
        ] {
            let error = text.parse::<Service>().unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!("67/tcp".parse::<Service>().is_ok());
    }

    #[test]
    fn names_are_in_order_and_close_no_dhcp() {
        let known: Vec<&str> = SERVICES.iter().map(|service| service.name).collect();
        assert!(known.is_sorted() && !known.contains(&SIP), "{known:?}");
        let dhcp = |range: &PortRange| DHCP.into_iter().any(|port| range.contains(port));
        assert!(!SERVICES.iter().any(|service| service.udp.iter().any(dhcp)));
    }

    #[test]
    fn the_stricter_guard_of_a_port_comes_last() {
        let exposure = Exposure {
            trusted: vec!["sip".parse().unwrap(), "5432/tcp".parse().unwrap()],
            closed: vec!["postgresql".parse().unwrap()],
            ..Exposure::DEFAULT
        };
        let guard = |tcp, port, open_to| PortGuard { tcp, range: PortRange::single(port), open_to };
        let expected = [
            guard(false, 5060, OPEN_TO_TRUSTED | OPEN_TO_KNOWN | OPEN_TO_REPLIES),
            guard(true, 5080, OPEN_TO_TRUSTED | OPEN_TO_KNOWN),
            guard(true, 5432, OPEN_TO_TRUSTED),
            guard(true, 5432, 0),
        ];
        assert_eq!(exposure.guards(&sip()), expected);
    }

    #[test]
    fn what_is_closed_to_whom() {
        let services = |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
        let exposure = Exposure {
            trusted: services(&["sip", "rtp", "ssh", "5060/udp", "5060-5061/udp"]),
            closed: services(&["rabbitmq"]),
            ..Exposure::DEFAULT
        };
        let to = |is_trusted, is_known| {
            let all = exposure.closed_to(is_trusted, is_known, &sip()).into_iter();
            all.map(|service| service.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(
            to(false, false),
            ["sip", "rtp", "ssh", "5060/udp", "5060-5061/udp", "rabbitmq"]
        );
        assert_eq!(to(false, true), ["ssh", "5060-5061/udp", "rabbitmq"]);
        assert_eq!(to(true, false), ["rabbitmq"]);
    }

    #[test]
    fn calls_stay_open_to_known_peers_in_any_range() {
        let of = |trusted: &[&str], closed: &[&str]| {
            let services =
                |names: &[&str]| names.iter().map(|name| name.parse().unwrap()).collect();
            let (trusted, closed) = (services(trusted), services(closed));
            Exposure { trusted, closed, ..Exposure::DEFAULT }.guards(&sip())
        };
        let udp = |first, last, known: bool| {
            let range = PortRange { first, last };
            guard(false, range, OPEN_TO_TRUSTED | if known { OPEN_TO_KNOWN } else { 0 })
        };
        assert_eq!(
            of(&["1024-65535/udp"], &[]),
            [
                udp(1024, 5059, false),
                udp(5060, 5060, true),
                udp(5061, 9999, false),
                udp(10_000, 20_000, true),
                udp(20_001, 65_535, false),
            ]
        );
        assert_eq!(of(&["5060/udp"], &[]), [udp(5060, 5060, true)]);
        assert_eq!(
            of(&["12000-30000/udp"], &[]),
            [udp(12_000, 20_000, true), udp(20_001, 30_000, false)]
        );
        assert_eq!(of(&["5059/udp"], &[]), [udp(5059, 5059, false)]);
        assert_eq!(of(&["sip-tls"], &[]), of(&["5061/tcp"], &[]));
        assert_eq!(of(&["rtp"], &[]), of(&["10000-20000/udp"], &[]));
        assert_eq!(of(&[], &["rtp"]), [guard(false, PortRange { first: 10_000, last: 20_000 }, 0)]);
    }
}

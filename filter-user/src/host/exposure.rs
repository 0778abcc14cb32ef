//! Finds packets that the filter cannot see, from the host's network, its Asterisk and the protection.

pub use api::Exposure;

use super::{Asterisk, Network};
use crate::config::SipPorts;

/// The protected interfaces and ports.
#[derive(Clone, Copy, Debug)]
pub struct Protection<'a> {
    /// The interfaces that have the program or will have it.
    pub interfaces: &'a [String],
    /// The ports that count as SIP.
    pub sip: &'a SipPorts,
}

/// The exposures of this host.
pub fn exposures(
    network: &Network,
    asterisk: Option<&Asterisk>,
    protection: Protection<'_>,
) -> Vec<Exposure> {
    let interfaces = protection.interfaces;
    let is_protected = |name: &str| interfaces.iter().any(|one| one == name);
    let mut all = Vec::new();
    let mut add = |subject: &str, problem: String, remedy: String| {
        all.push(Exposure { subject: subject.to_owned(), problem, remedy });
    };
    for name in network.default_interfaces() {
        if !network.is_covered(name, &is_protected) {
            let problem =
                format!("`{name}` has a default route and no program, so nothing is dropped there");
            let remedy = format!("`interfaces: [{}]`", join(interfaces, name));
            add(name, problem, remedy);
        }
    }
    for (name, beneath) in network.tunnels() {
        match beneath {
            Some(beneath) if network.is_pppoe(name) && is_protected(beneath) => {}
            Some(beneath) if network.is_pppoe(name) => add(
                name,
                format!(
                    "the default route is on `{name}`, but `{beneath}`, which carries it, has no program"
                ),
                format!("`interfaces: [{}]`", join(interfaces, beneath)),
            ),
            _ => add(
                name,
                format!(
                    "the default route is on `{name}`, a tunnel, and the filter does not see its packets"
                ),
                "let SIP arrive outside the tunnel, or run Ringfence where the tunnel ends"
                    .to_owned(),
            ),
        }
    }
    // The filter sees the packets for the host's own Asterisk on a bridge too.
    let is_own = asterisk.is_some_and(|asterisk| !asterisk.is_elsewhere);
    for name in interfaces {
        let Some((guests, ports)) = network.ports(name).filter(|_| !is_own) else { continue };
        if guests.is_empty() {
            continue;
        }
        let remedy = match &ports[..] {
            [] => "run Ringfence in the guest, on its own interface".to_owned(),
            ports => format!(
                "`interfaces: [{}]`, the port through which packets arrive; or run Ringfence in the guest",
                ports.join(", ")
            ),
        };
        let problem = format!(
            "`{name}` is a bridge with guests ({}), and the filter does not see their packets",
            some(&guests)
        );
        add(name, problem, remedy);
    }
    if let Some(asterisk) = asterisk.filter(|asterisk| asterisk.is_elsewhere) {
        let problem = format!(
            "Asterisk (process {}) is in another network namespace, as in a container: bans work, but \
            known peers cannot be learned from its packets",
            asterisk.process
        );
        let remedy = "use AMI (`sources: {asterisk: {ami: ...}}`), or run Ringfence in that namespace; list \
        under `sip` the ports that are used outside it";
        add("asterisk", problem, remedy.to_owned());
    }
    all
}

/// Where SIP may arrive that the filter does not see, as an explanation for unwitnessed failures.
pub fn hint(
    exposures: &[Exposure],
    asterisk: Option<&Asterisk>,
    protection: Protection<'_>,
) -> String {
    let (udp, tcp) = asterisk.map(|asterisk| asterisk.unknown(protection.sip)).unwrap_or_default();
    let list = |protocol: &str, ports: &[u16]| {
        let ports: Vec<String> = ports.iter().take(SOME).map(ToString::to_string).collect();
        (!ports.is_empty()).then(|| format!("{protocol} {}", ports.join(", ")))
    };
    let unknown: Vec<String> = list("UDP", &udp).into_iter().chain(list("TCP", &tcp)).collect();
    let mut hints = Vec::new();
    if !unknown.is_empty() {
        hints.push(format!(
            "Asterisk listens on {}, which `sip` does not list",
            unknown.join(" and ")
        ));
    }
    hints.extend(exposures.iter().take(SOME).map(|one| format!("{}; {}", one.problem, one.remedy)));
    if hints.is_empty() {
        return "compare `sip` and `interfaces` with where SIP arrives (`ss -lnup`, `ip route`); \
        for a redirected port, list the number that packets have when they arrive"
            .to_owned();
    }
    hints.join("; ")
}

/// The most names of a kind in one message.
const SOME: usize = 4;

fn some(names: &[&str]) -> String {
    let more = if names.len() > SOME { ", ..." } else { "" };
    format!("{}{more}", names.iter().take(SOME).copied().collect::<Vec<_>>().join(", "))
}

fn join(names: &[String], one: &str) -> String {
    names.iter().map(String::as_str).chain([one]).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::config::Config;

    const ETHER: u16 = 1;
    const NONE: u16 = 0xfffe;

    fn found(network: &Network, asterisk: Option<&Asterisk>, interfaces: &[&str]) -> Vec<String> {
        let interfaces: Vec<String> = interfaces.iter().map(|name| (*name).to_owned()).collect();
        let sip = Config::default().sip;
        let protection = Protection { interfaces: &interfaces, sip: &sip };
        let all = exposures(network, asterisk, protection);
        all.iter().map(|one| format!("{}: {}; {}", one.subject, one.problem, one.remedy)).collect()
    }

    #[test]
    fn a_default_route_without_the_program() {
        let links = [("wan0", "", ETHER), ("wan1", "", ETHER), ("tun0", "tun", NONE)];
        let network = Network::of(&links, &[("wan1", 50, true), ("wan0", 100, true)]);
        assert_eq!(found(&network, None, &["wan0", "wan1"]), [""; 0]);
        let said = found(&network, None, &["wan0"]);
        assert!(said.len() == 1 && said[0].starts_with("wan1: "), "{said:?}");
        assert!(said[0].ends_with("`interfaces: [wan0, wan1]`"), "{said:?}");
        let network = Network::of(&links, &[("tun0", 0, true), ("wan0", 100, true)]);
        let said = found(&network, None, &["wan0"]);
        assert!(said.len() == 1 && said[0].contains("`tun0`, a tunnel"), "{said:?}");
    }

    #[test]
    fn a_bridge_with_guests() {
        let links = [("vmbr0", "bridge", ETHER), ("eno1", "", ETHER), ("veth100i0", "veth", ETHER)];
        let network = Network::of(&links, &[("vmbr0", 0, true)]).plug("eno1", "vmbr0");
        assert_eq!(found(&network, None, &["vmbr0"]), [""; 0], "it has no guests");
        let network = network.plug("veth100i0", "vmbr0");
        let said = found(&network, None, &["vmbr0"]);
        assert!(said.len() == 1 && said[0].contains("guests (veth100i0)"), "{said:?}");
        assert!(said[0].contains("`interfaces: [eno1]`"), "{said:?}");
        assert_eq!(found(&network, None, &["eno1"]), [""; 0], "its port is protected");
        let own = Asterisk::default();
        assert_eq!(found(&network, Some(&own), &["vmbr0"]), [""; 0], "the host's own is seen");
        let elsewhere = Asterisk { is_elsewhere: true, process: 7, ..Asterisk::default() };
        let said = found(&network, Some(&elsewhere), &["vmbr0"]);
        assert!(said.len() == 2 && said[1].contains("process 7"), "{said:?}");
    }

    #[test]
    fn the_hint_names_the_port() {
        let sip = Config::default().sip;
        let protection = Protection { interfaces: &[], sip: &sip };
        let asterisk = Asterisk {
            udp: BTreeSet::from([5060, 5160]),
            tcp: BTreeSet::from([5060, 5062]),
            ..Asterisk::default()
        };
        let said = hint(&[], Some(&asterisk), protection);
        assert!(said.contains("listens on UDP 5160 and TCP 5062"), "{said}");
        assert!(hint(&[], None, protection).contains("ip route"));
    }
}

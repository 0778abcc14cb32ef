//! The interfaces and routes of the host: through which interfaces packets arrive from outside.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;

use anyhow::Result;

use super::netlink::{self, Link, Route};

/// The most layers of stacked interfaces.
const LAYERS: usize = 8;

/// The kinds of bridge ports that lead to containers and virtual machines.
const GUESTS: [&str; 2] = ["veth", "tun"];

/// The interfaces and routes of the host.
#[derive(Clone, Debug, Default)]
pub struct Network {
    links: Vec<Link>,
    routes: Vec<Route>,
    /// The interfaces that carry `PPPoE`.
    pppoe: Vec<String>,
}

impl Network {
    /// Reads the current state.
    ///
    /// # Errors
    ///
    /// If the kernel does not list them.
    pub fn read() -> Result<Self> {
        let pppoe = fs::read_to_string("/proc/thread-self/net/pppoe").unwrap_or_default();
        Ok(Self {
            links: netlink::links()?,
            routes: netlink::routes()?,
            pppoe: pppoe_devices(&pppoe),
        })
    }

    /// The interfaces to protect if none is named: those with a default route, in order of preference, or
    /// the ones beneath them; without a default route, those with a gateway.
    pub fn exposed(&self) -> Vec<String> {
        let usable = |link: &Link| self.ethernet(link).filter(|link| link.name != "lo").cloned();
        let of_defaults: Vec<Link> = self.defaults().filter_map(usable).collect();
        let with_gateway = || self.routed(false).filter_map(usable).collect();
        let found = if of_defaults.is_empty() { with_gateway() } else { of_defaults };
        let mut names: Vec<String> = Vec::new();
        for link in found {
            if !names.contains(&link.name) {
                names.push(link.name);
            }
        }
        names
    }

    /// The interfaces with a default route that have no Ethernet header, and the interface that is
    /// protected instead of each.
    pub fn tunnels(&self) -> Vec<(&str, Option<&str>)> {
        let mut names = BTreeSet::new();
        let tunnels = self.defaults().filter(|link| !link.has_ethernet());
        tunnels
            .filter(|link| names.insert(link.index))
            .map(|link| (&*link.name, self.ethernet(link).map(|beneath| &*beneath.name)))
            .collect()
    }

    /// The gateways of the default routes.
    pub fn gateways(&self) -> BTreeSet<IpAddr> {
        let defaults = self.routes.iter().filter(|route| route.default);
        defaults.filter_map(|route| route.gateway).collect()
    }

    /// Whether an interface is a `PPPoE` connection.
    pub fn is_pppoe(&self, name: &str) -> bool {
        self.named(name).is_some_and(Link::is_ppp) && !self.pppoe.is_empty()
    }

    /// Whether packets that arrive on an interface pass one that `is_protected`: the interface itself,
    /// one beneath it, or each port on which packets arrive for it.
    pub fn is_covered(&self, name: &str, is_protected: &impl Fn(&str) -> bool) -> bool {
        const UPON: [&str; 4] = ["vlan", "macvlan", "macvtap", "ipvlan"];
        const OVER: [&str; 3] = ["bridge", "bond", "team"];
        let mut names = vec![name];
        for _layer in 0..LAYERS {
            let mut next = Vec::new();
            for name in names.into_iter().filter(|name| !is_protected(name)) {
                let Some(link) = self.named(name) else { return false };
                let beneath = link.beneath.and_then(|index| self.by_index(index));
                let beneath = beneath.filter(|_| UPON.contains(&&*link.kind));
                let ports = self.links.iter().filter(|port| {
                    port.master == Some(link.index)
                        && OVER.contains(&&*link.kind)
                        && !GUESTS.contains(&&*port.kind)
                });
                let before = next.len();
                next.extend(beneath.into_iter().chain(ports).map(|link| &*link.name));
                if next.len() == before {
                    return false;
                }
            }
            if next.is_empty() {
                return true;
            }
            names = next;
        }
        false
    }

    /// The ports of a bridge, if it is one: those of guests, and the others.
    pub fn ports(&self, bridge: &str) -> Option<(Vec<&str>, Vec<&str>)> {
        let bridge = self.named(bridge).filter(|link| link.kind == "bridge")?;
        let ports = self.links.iter().filter(|link| link.master == Some(bridge.index));
        let (guests, others): (Vec<&Link>, Vec<&Link>) =
            ports.partition(|link| GUESTS.contains(&&*link.kind));
        Some((names(&guests), names(&others)))
    }

    /// The interfaces with a default route that need a program.
    pub fn default_interfaces(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for link in self.defaults().filter(|link| link.has_ethernet()) {
            if !names.contains(&&*link.name) {
                names.push(&*link.name);
            }
        }
        names
    }

    fn defaults(&self) -> impl Iterator<Item = &Link> {
        self.routed(true)
    }

    fn routed(&self, default: bool) -> impl Iterator<Item = &Link> {
        let routes = self.routes.iter().filter(move |route| route.default == default);
        routes.filter_map(|route| self.by_index(route.interface))
    }

    fn by_index(&self, index: u32) -> Option<&Link> {
        self.links.iter().find(|link| link.index == index)
    }

    fn named(&self, name: &str) -> Option<&Link> {
        self.links.iter().find(|link| link.name == name)
    }

    /// The interface itself, or the one with an Ethernet header that carries its packets.
    fn ethernet<'a>(&'a self, link: &'a Link) -> Option<&'a Link> {
        let mut link = link;
        for _layer in 0..LAYERS {
            if link.has_ethernet() {
                return Some(link);
            }
            let carries = |name: &String| self.named(name);
            let pppoe = self.pppoe.iter().find_map(carries).filter(|_| link.is_ppp());
            let beneath = link.beneath.and_then(|index| self.by_index(index)).or(pppoe);
            let Some(beneath) = beneath.filter(|beneath| beneath.index != link.index) else {
                break;
            };
            link = beneath;
        }
        // A tunnel does not say which interface its packets leave through; assume the usual one.
        let is_outside = |link: &&Link| link.has_ethernet() && link.name != "lo";
        self.routed(true).find(is_outside).or_else(|| self.routed(false).find(is_outside))
    }
}

/// The interface that carries the packets of one without an Ethernet header.
pub(crate) fn beneath(link: &Link) -> Option<String> {
    let network = Network::read().ok()?;
    Some(network.ethernet(link)?.name.clone())
}

/// The interfaces in `/proc/net/pppoe`: `Id Address Device`.
fn pppoe_devices(text: &str) -> Vec<String> {
    let devices = text.lines().skip(1).filter_map(|line| line.split_ascii_whitespace().nth(2));
    devices.map(str::to_owned).collect()
}

fn names<'a>(links: &[&'a Link]) -> Vec<&'a str> {
    links.iter().map(|link| &*link.name).collect()
}

impl Network {
    /// For tests: a host with these interfaces, by name, kind and type, and these routes, by interface,
    /// metric and whether they are default routes.
    pub fn of(links: &[(&str, &str, u16)], routes: &[(&str, u32, bool)]) -> Self {
        let links: Vec<Link> = (1..)
            .zip(links)
            .map(|(index, (name, kind, device))| Link {
                index,
                name: (*name).to_owned(),
                kind: (*kind).to_owned(),
                device: *device,
                up: true,
                ..Link::default()
            })
            .collect();
        let index =
            |name: &str| links.iter().find(|link| link.name == name).map_or(0, |link| link.index);
        let routes = routes.iter().map(|(name, metric, default)| Route {
            default: *default,
            metric: *metric,
            interface: index(name),
            gateway: None,
        });
        let routes = routes.collect();
        Self { links, routes, pppoe: Vec::new() }
    }

    /// For tests: makes an interface a port of a bridge.
    #[must_use]
    pub fn plug(mut self, port: &str, bridge: &str) -> Self {
        let master = self.named(bridge).map(|bridge| bridge.index);
        if let Some(port) = self.links.iter_mut().find(|link| link.name == port) {
            port.master = master;
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHER: u16 = 1;
    const PPP: u16 = 512;
    const NONE: u16 = 0xfffe;

    #[test]
    fn every_default_route_counts() {
        let links = [("eth0", "", ETHER), ("wan1", "", ETHER), ("lan0", "", ETHER)];
        let routes =
            [("wan1", 50, true), ("eth0", 100, true), ("wan1", 50, true), ("lan0", 0, false)];
        let network = Network::of(&links, &routes);
        assert_eq!(network.exposed(), ["wan1", "eth0"]);
        assert_eq!(network.tunnels(), []);
        assert_eq!(Network::of(&links, &[("lan0", 0, false)]).exposed(), ["lan0"]);
        assert_eq!(Network::of(&links, &[]).exposed(), [""; 0]);
    }

    #[test]
    fn what_lies_upon_a_protected_interface_is_covered() {
        let links = [
            ("eth0", "", ETHER),
            ("eth1", "", ETHER),
            ("bond0", "bond", ETHER),
            ("br0", "bridge", ETHER),
            ("bond0.20", "vlan", ETHER),
            ("tap0", "tun", ETHER),
            ("pair0", "veth", ETHER),
        ];
        let network = Network::of(&links, &[]).plug("eth0", "bond0").plug("eth1", "bond0");
        let mut network = network.plug("bond0.20", "br0").plug("tap0", "br0");
        network.links[4].beneath = Some(3);
        // The other end of a pair, whose index belongs to another namespace.
        network.links[6].beneath = Some(1);
        let covered = |name: &str, protected: &[&str]| {
            network.is_covered(name, &|name| protected.contains(&name))
        };
        for name in ["br0", "bond0.20", "bond0", "eth0"] {
            assert!(covered(name, &["eth0", "eth1"]), "{name}");
            assert!(!covered(name, &["tap0"]), "{name}");
        }
        assert!(!covered("br0", &["eth0"]) && !covered("eth1", &["eth0"]));
        assert!(covered("br0", &["bond0"]) && !covered("pair0", &["eth0"]));
        assert!(!covered("none", &[]));
    }

    #[test]
    fn beneath_a_tunnel_is_what_its_packets_come_in_by() {
        let links = [("eth0", "", ETHER), ("tun0", "tun", NONE), ("ppp0", "ppp", PPP)];
        let network = Network::of(&links, &[("tun0", 0, true), ("eth0", 100, true)]);
        assert_eq!(network.exposed(), ["eth0"]);
        assert_eq!(network.tunnels(), [("tun0", Some("eth0"))]);
        // Only the route to the other end of the tunnel remains.
        let network = Network::of(&links, &[("tun0", 0, true), ("eth0", 0, false)]);
        assert_eq!(network.exposed(), ["eth0"]);
        // PPPoE names the interface that carries it, which has no route at all.
        let mut network = Network::of(&links, &[("ppp0", 0, true)]);
        assert_eq!(network.exposed(), [""; 0]);
        network.pppoe = pppoe_devices(
            "Id       Address              Device\n00000001 00:00:5e:00:53:01     eth0\n",
        );
        assert_eq!(network.exposed(), ["eth0"]);
        assert!(network.is_pppoe("ppp0") && !network.is_pppoe("tun0"));
        // An interface that names the one beneath it.
        let mut network = Network::of(&links, &[("tun0", 0, true)]);
        network.links[1].beneath = Some(1);
        assert_eq!(network.exposed(), ["eth0"]);
        network.links[1].beneath = Some(2);
        assert_eq!(network.exposed(), [""; 0]);
    }

    #[test]
    fn this_host_is_read() {
        let network = Network::read().unwrap();
        assert!(network.links.iter().any(|link| link.name == "lo"));
        assert!(!network.exposed().contains(&"lo".to_owned()));
    }
}

//! The interfaces on which a network is trusted with `trusted_by_route`: those through which a reply to
//! it would leave.
//!
//! Computes a bit for each interface's slot from the trusted networks, routes and interfaces that it is
//! given. It never reads the host itself.
//!
//! Must never let the program see half an entry.

use ipnet::IpNet;

use super::netlink::Link;

/// The most layers of stacked interfaces.
const LAYERS: usize = 8;

/// Every interface.
pub(super) const EVERYWHERE: u32 = u32::MAX;

/// The slots on which `network` is trusted, one bit each. `slot` gives the slot of an interface by its
/// index.
pub(super) fn slots(
    network: IpNet,
    routes: &[(IpNet, u32)],
    links: &[Link],
    slot: &impl Fn(u32) -> Option<u32>,
) -> u32 {
    let around = routes.iter().filter(|(to, _)| to.contains(&network));
    let longest = around.clone().map(|(to, _)| to.prefix_len()).max();
    let around = around.filter(|(to, _)| Some(to.prefix_len()) == longest);
    // Parts of it with another route.
    let inside = routes.iter().filter(|(to, _)| network.contains(to));
    around.chain(inside).fold(0, |bits, (_, index)| bits | beneath(*index, links, slot, LAYERS))
}

/// The slots of an interface, of the interfaces beneath it, and of its ports.
fn beneath(index: u32, links: &[Link], slot: &impl Fn(u32) -> Option<u32>, layers: usize) -> u32 {
    if let Some(slot) = slot(index) {
        return 1u32.checked_shl(slot).unwrap_or(0);
    }
    let Some(link) = links.iter().find(|link| link.index == index) else { return 0 };
    if link.is_ppp() {
        // The interface on which the frames of a session arrive is unknown.
        return EVERYWHERE;
    }
    let Some(layers) = layers.checked_sub(1).filter(|_| link.has_ethernet()) else { return 0 };
    let ports = links.iter().filter(|port| port.master == Some(index)).map(|port| port.index);
    let below = link.beneath.filter(|below| *below != index);
    below.into_iter().chain(ports).fold(0, |bits, one| bits | beneath(one, links, slot, layers))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ETHERNET: u16 = 1;
    const TUNNEL: u16 = 768;

    fn link(index: u32, device: u16, beneath: Option<u32>, master: Option<u32>) -> Link {
        Link { index, device, beneath, master, ..Link::default() }
    }

    #[test]
    fn where_an_answer_leaves() {
        // 2 and 3 are protected; 4 is a VLAN on 2, 5 a bridge over 3, 6 a tunnel, 7 PPP.
        let links = [
            link(2, ETHERNET, None, None),
            link(3, ETHERNET, None, Some(5)),
            link(4, ETHERNET, Some(2), None),
            link(5, ETHERNET, None, None),
            link(6, TUNNEL, Some(2), None),
            link(7, 512, None, None),
        ];
        let slot = |index| [(2, 0), (3, 1)].iter().find(|(of, _)| *of == index).map(|(_, s)| *s);
        let route = |to: &str, index| (to.parse().unwrap(), index);
        let routes = [
            route("0.0.0.0/0", 2),
            route("10.0.0.0/8", 5),
            route("10.1.0.0/16", 4),
            route("10.2.0.0/16", 6),
            route("10.3.0.0/16", 7),
            route("192.168.0.0/16", 6),
            route("::/0", 3),
        ];
        for (network, expected) in [
            ("203.0.113.0/24", 0b01),
            ("10.9.0.0/16", 0b10),
            ("10.1.2.0/24", 0b01),
            ("10.0.0.0/14", EVERYWHERE),
            ("10.0.0.0/15", 0b11),
            ("10.2.0.0/24", 0),
            ("192.168.0.0/16", 0),
            ("2001:db8::/32", 0b10),
        ] {
            let found = slots(network.parse().unwrap(), &routes, &links, &slot);
            assert_eq!(found, expected, "{network}");
        }
        assert_eq!(slots("10.0.0.0/8".parse().unwrap(), &[], &links, &slot), 0);
    }
}

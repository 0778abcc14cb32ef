//! Lists the known peers, a page at a time, as the kernel has them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use api::{PEERS_MAX, Peer, PeersPage};
use ipnet::IpNet;

use super::Controller;
use crate::clock::KernelTime;
use crate::datapath::Datapath;

impl<D: Datapath> Controller<D> {
    /// A page of the known peers, all or those in a network, behind an address.
    pub(super) fn peers_page(
        &self,
        inside: Option<IpNet>,
        after: Option<IpAddr>,
        now: KernelTime,
    ) -> PeersPage {
        let every = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
        let every = every.into_iter().filter_map(|address| IpNet::new(address, 0).ok());
        let networks: Vec<IpNet> = inside.map_or_else(|| every.collect(), |one| vec![one.trunc()]);
        let mut addresses: Vec<IpAddr> = networks
            .into_iter()
            .flat_map(|network| self.datapath.known_in(network, now))
            .filter(|address| after.is_none_or(|after| *address > after))
            .collect();
        addresses.sort_unstable();
        let is_last = addresses.len() <= PEERS_MAX;
        addresses.truncate(PEERS_MAX);
        let next = addresses.last().copied().filter(|_| !is_last);
        let peer = |address: IpAddr| {
            // It may be forgotten by now.
            let peer = self.datapath.known(address)?;
            Some(Peer { address, until: self.started.show(peer.until), passed: peer.passed })
        };
        PeersPage { peers: addresses.into_iter().filter_map(peer).collect(), next }
    }
}

#[cfg(test)]
mod tests {
    use api::{Answer, Reply, Request};

    use super::super::tests::{NoKernel, at, started_with};
    use super::*;

    #[test]
    fn pages_are_the_list_of_peers() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        for number in 0..600_u32 {
            let address = IpAddr::from((0x0a00_0000 + number).to_be_bytes());
            controller.datapath.know(address, at(0)).unwrap();
        }
        controller.datapath.know("2001:db8::7".parse().unwrap(), at(0)).unwrap();
        let mut list = |inside: Option<&str>| {
            let inside = inside.map(|inside| inside.parse().unwrap());
            let (mut found, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let answer = controller.answer(Request::Peers { inside, after }, at(1));
                let Reply::Ok(Answer::Peers(page)) = answer else { panic!("{answer:?}") };
                assert!(page.peers.len() <= PEERS_MAX);
                found.extend(page.peers.into_iter().map(|peer| peer.address));
                pages += 1;
                after = page.next;
                if after.is_none() {
                    return (found, pages);
                }
            }
        };
        let (all, pages) = list(None);
        assert_eq!((all.len(), pages, all.is_sorted()), (601, 3, true));
        assert_eq!(list(Some("10.0.0.0/24")).0.len(), 256);
        assert_eq!(list(Some("2001:db8::/32")).0.len(), 1);
        assert_eq!(list(Some("192.0.2.0/24")), (Vec::new(), 1));
    }
}

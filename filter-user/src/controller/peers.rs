//! The known peers in the kernel: records those that the program cannot see, finds them in networks, and
//! lists them a page at a time.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use api::{PEERS_MAX, Peer, PeersPage};
use ipnet::{IpNet, Ipv6Net};
use log::warn;

use super::Controller;
use crate::clock::KernelTime;
use crate::datapath::Datapath;

/// The daemon's own data about peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    ipv6: KnownIpv6,
    /// Whether the last peer that proved itself could not be made known. This is logged once.
    is_full: bool,
}

impl Peers {
    /// The known peers in an IPv6 network.
    pub(super) fn inside_ipv6(
        &mut self,
        network: IpNet,
        datapath: &impl Datapath,
        now: KernelTime,
    ) -> Vec<IpAddr> {
        self.ipv6.inside(network, datapath, now)
    }
}

/// A cache of the known peers with IPv6 addresses, at most a moment old: finding those in one network
/// means reading all of them.
#[derive(Debug, Default)]
struct KnownIpv6 {
    addresses: BTreeSet<IpAddr>,
    /// When they were read, and how many the kernel had learned by then.
    state: Option<(KernelTime, u64)>,
}

/// How long the cache is valid if no peer has been learned since.
const KNOWN_FOR: Duration = Duration::from_secs(1);

/// All IPv6 addresses.
const IPV6: IpNet = IpNet::V6(Ipv6Net::new_assert(Ipv6Addr::UNSPECIFIED, 0));

impl KnownIpv6 {
    /// Makes the next use read the peers again.
    fn forget(&mut self) {
        self.state = None;
    }

    fn inside(&mut self, network: IpNet, datapath: &impl Datapath, now: KernelTime) -> Vec<IpAddr> {
        // The counter is read first, so that a peer learned meanwhile is read the next time.
        let learned = datapath.learning().learned;
        let is_fresh = |(at, then): (KernelTime, u64)| then == learned && now.since(at) < KNOWN_FOR;
        if !self.state.is_some_and(is_fresh) {
            self.addresses = datapath.known_in(IPV6, now).into_iter().collect();
            self.state = Some((now, learned));
        }
        self.addresses.range(network.network()..=network.broadcast()).copied().collect()
    }
}

impl<D: Datapath> Controller<D> {
    /// Makes a peer known. The program cannot see a registration over TLS or a WebSocket.
    pub(super) fn know(&mut self, address: IpAddr, now: KernelTime) {
        let result = self.datapath.know(address, now);
        if let Err(why) = &result
            && !self.peers.is_full
        {
            warn!("{address} has registered, but cannot be made a known peer: {why:#}");
        }
        self.peers.is_full = result.is_err();
        self.peers.ipv6.forget();
        self.leave_out(address, None, now);
    }

    /// Whether an address is a known peer.
    pub(super) fn is_known(&self, address: IpAddr, now: KernelTime) -> bool {
        self.datapath.known(address).is_some_and(|peer| now < peer.until)
    }

    /// How many known peers a ban of a network would cut off.
    pub(super) fn known_inside(&self, network: IpNet, except: &[IpNet], now: KernelTime) -> usize {
        if network.prefix_len() == network.max_prefix_len() {
            let peer = self.datapath.known(network.addr());
            return usize::from(peer.is_some_and(|peer| now < peer.until));
        }
        let is_left_out = |peer: &IpAddr| except.iter().any(|part| part.contains(peer));
        let known = self.datapath.known_in(network, now).into_iter();
        known.filter(|peer| !is_left_out(peer)).count()
    }

    /// A page of the known peers after an address, all or those in a network.
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
            // It may have been forgotten by now.
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

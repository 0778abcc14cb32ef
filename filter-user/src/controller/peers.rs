//! The known peers in the kernel: records those that the program cannot see, finds them in networks, and
//! lists them a page at a time.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use api::{PEERS_MAX, Peer, PeersPage};
use ipnet::{IpNet, Ipv6Net};
use log::{debug, warn};

use super::Controller;
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::store::KeptPeer;

/// The daemon's own data about peers.
#[derive(Debug, Default)]
pub(super) struct Peers {
    ipv6: KnownIpv6,
    /// Whether the last peer that proved itself could not be made known. This is logged once.
    is_full: bool,
    /// The ends that the store has.
    kept: HashMap<IpAddr, KernelTime>,
    /// When the store was last brought up to date.
    kept_at: Option<KernelTime>,
}

/// How often new peers are stored.
const KEEP_EVERY: Duration = Duration::from_mins(1);

/// By how much a stored end may be too early.
const MUCH: Duration = Duration::from_mins(5);

impl Peers {
    /// Enters a known peer of the store, unless the kernel has it: after a reboot, the kernel has none.
    pub(super) fn restore(
        &mut self,
        datapath: &mut impl Datapath,
        (address, until): (IpAddr, KernelTime),
        now: KernelTime,
    ) {
        match datapath.recall(address, until, now) {
            Ok(()) => drop(self.kept.insert(address, until)),
            Err(why) => debug!("{address} was a known peer, and cannot be entered: {why:#}"),
        }
    }

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

    /// Stores the known peers, once a minute: those that are new, and those whose end has moved much.
    pub fn keep_peers(&mut self, now: KernelTime) {
        let is_early = |at: KernelTime| now.since(at) < KEEP_EVERY;
        if !self.peers.kept_at.is_some_and(is_early) {
            self.peers.kept_at = Some(now);
            self.keep_moved(MUCH, now);
        }
    }

    /// Stores the known peers at the end, exactly.
    pub fn keep_peers_exactly(&mut self, now: KernelTime) {
        self.keep_moved(Duration::ZERO, now);
    }

    /// Stores the peers that are new or whose end has moved by more than this.
    fn keep_moved(&mut self, much: Duration, now: KernelTime) {
        let known: HashMap<_, _> = self.datapath.known_until(now).into_iter().collect();
        self.peers.kept.retain(|address, _| known.contains_key(address));
        for (address, until) in known {
            if self.peers.kept.get(&address).is_none_or(|kept| until.since(*kept) > much) {
                self.peers.kept.insert(address, until);
                self.store().set_peer(address, KeptPeer { since: now, until });
            }
        }
    }

    /// Has all known peers stored again, in a new file.
    pub(super) fn keep_all_peers(&mut self) {
        self.peers.kept.clear();
        self.peers.kept_at = None;
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
    use filter_common::limits::KNOWN_PEERS;

    use super::super::tests::{NoKernel, at, started_with};
    use super::*;
    use crate::store::{KEPT_PEERS_MAX, Kept, KeptPeer};

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

    #[test]
    fn the_store_has_room_for_all_that_the_kernel_knows() {
        assert_eq!(KEPT_PEERS_MAX, usize::try_from(KNOWN_PEERS).unwrap());
    }

    #[test]
    fn what_the_store_does_not_know_is_stored() {
        let [first, second] = [1, 2].map(|last| IpAddr::from([203, 0, 113, last]));
        let mut controller = started_with(NoKernel::default(), |_default| {});
        let kept = |controller: &mut Controller<NoKernel>, second| {
            controller.keep_peers(at(second));
            controller.store().take_peers()
        };
        let peer = |since, until| KeptPeer { since: at(since), until: at(until) };
        controller.datapath.recall(first, at(7200), at(0)).unwrap();
        assert_eq!(kept(&mut controller, 10), [(first, peer(10, 7200))]);
        // Within a minute nothing is stored, and nothing that is stored already.
        controller.datapath.recall(second, at(7200), at(0)).unwrap();
        assert_eq!(kept(&mut controller, 69), []);
        assert_eq!(kept(&mut controller, 70), [(second, peer(70, 7200))]);
        // An end that moved by five minutes may be too early, and no more.
        controller.datapath.ends.insert(first, at(7500));
        assert_eq!(kept(&mut controller, 130), []);
        controller.datapath.ends.insert(first, at(7501));
        assert_eq!(kept(&mut controller, 190), [(first, peer(190, 7501))]);
        controller.datapath.ends.insert(second, at(7201));
        controller.keep_peers_exactly(at(191));
        assert_eq!(controller.store().take_peers(), [(second, peer(191, 7201))]);
        // A new file has nothing.
        controller.put_all();
        assert_eq!(kept(&mut controller, 192).len(), 2);
    }

    #[test]
    fn peers_of_an_earlier_boot_are_known_again() {
        let [first, second] = [1, 2].map(|last| IpAddr::from([203, 0, 113, last]));
        let mut controller = started_with(NoKernel::default(), |_default| {});
        controller.datapath.recall(first, at(9000), at(0)).unwrap();
        let peers = [(first, at(100)), (second, at(200))].into();
        controller.take_kept(Kept { peers, ..Kept::default() });
        controller.go_on(at(1));
        assert_eq!(controller.datapath.ends, [(first, at(9000)), (second, at(200))].into());
        // Of what was restored, only the end that has moved is stored.
        controller.keep_peers(at(2));
        let stored = controller.store().take_peers();
        assert_eq!(stored, [(first, KeptPeer { since: at(2), until: at(9000) })]);
    }
}

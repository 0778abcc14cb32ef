//! The maps of known peers: the peers with the end of each, the gate before them, and the counts of their networks.
//!
//! Must never decide.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, HashMap, IterableMap as _, MapData};
use detection::clock::KernelTime;
use filter_common::abi::{Learning, Peer};
use filter_common::address::Address;
use ipnet::IpNet;

use super::bans::{if_there, unless_missing};
use super::batch;
use super::clock;
use super::crowds::{self, Counted};
use super::gates;
use super::mapped::Memory;
use super::port::KnownPeer;
use super::unread::Unread;

/// The known peers.
pub(super) struct KnownPeers {
    pub(super) known: HashMap<MapData, [u64; 2], Peer>,
    pub(super) gate: Memory,
    pub(super) crowds: Memory,
    pub(super) learned: Array<MapData, Learning>,
    /// The secret of the hashes.
    pub(super) seed: u64,
    /// How long a peer stays known.
    pub(super) remember: Duration,
}

impl KnownPeers {
    /// Enters a peer, or prolongs its time.
    pub(super) fn know(&mut self, address: IpAddr, now: KernelTime) -> Result<()> {
        let until = now.after(self.remember);
        self.enter(address, |old| Peer { until: until.0, ..old.unwrap_or_default() })
    }

    /// Enters a peer with this end, unless it has an entry.
    pub(super) fn recall(
        &mut self,
        address: IpAddr,
        until: KernelTime,
        now: KernelTime,
    ) -> Result<()> {
        let until = until.min(now.after(self.remember));
        self.enter(address, |old| old.unwrap_or(Peer { until: until.0, ..Peer::default() }))
    }

    fn enter(&mut self, address: IpAddr, peer: impl FnOnce(Option<Peer>) -> Peer) -> Result<()> {
        let address = Address::from(address);
        let key = address.words();
        let old = if_there(self.known.get(&key, 0)).context("read a known peer")?;
        if old.is_none() && !crowds::join(self.crowds.as_ref(), address, self.seed) {
            bail!("there are too many known peers of its network");
        }
        // The entry before its bit, see `forget`.
        self.known.insert(key, peer(old), 0).context("there are too many known peers")?;
        gates::add_known(self.gate.as_ref(), address, self.seed);
        Ok(())
    }

    /// The peer with this address, unless its time is over.
    pub(super) fn get(&self, address: IpAddr, unread: &Unread) -> Option<KnownPeer> {
        let peer = if_there(self.known.get(&Address::from(address).words(), 0));
        let peer = unread.or_note("read a known peer", peer)??;
        let until = KernelTime(peer.until);
        (until > clock::now()).then_some(KnownPeer { until, passed: peer.passed })
    }

    /// The peers, each with its end.
    pub(super) fn ends(&self, now: KernelTime, unread: &Unread) -> Vec<(IpAddr, KernelTime)> {
        let known = self.all(unread).unwrap_or_default().into_iter();
        let known = known.filter(|(_, peer)| peer.until > now.0);
        let end = |(key, peer): ([u64; 2], Peer)| {
            (IpAddr::from(Address::from_words(key)), KernelTime(peer.until))
        };
        known.map(end).collect()
    }

    /// The peers in a network.
    pub(super) fn inside(&self, network: IpNet, now: KernelTime, unread: &Unread) -> Vec<IpAddr> {
        let known = self.all(unread).unwrap_or_default().into_iter();
        let known = known.filter(|(_, peer)| peer.until > now.0);
        let addresses = known.map(|(key, _)| IpAddr::from(Address::from_words(key)));
        addresses.filter(|address| network.contains(address)).collect()
    }

    /// How many there are.
    pub(super) fn count(&self, unread: &Unread) -> u64 {
        let now = clock::now().0;
        let known = self.all(unread).unwrap_or_default().into_iter();
        let known = known.filter(|(_, peer)| peer.until > now);
        u64::try_from(known.count()).unwrap_or(u64::MAX)
    }

    /// What the program has learned.
    pub(super) fn learning(&self, unread: &Unread) -> Learning {
        unread.or_note("what was learned", self.learned.get(&0, 0)).unwrap_or_default()
    }

    /// Makes room: removes the peers that have expired, and the oldest of a network that has more than its limit.
    pub(super) fn forget(&mut self, now: KernelTime, unread: &Unread) {
        // All peers are needed: a missing one would be omitted from the counts and the gate.
        let Some(peers) = self.all(unread) else { return };
        let peers = peers.into_iter().map(|(key, peer)| (Address::from_words(key), peer.until));
        let (mut there, gone): (Vec<_>, Vec<_>) = peers.partition(|(_, until)| *until > now.0);
        let counted = Counted::of(&mut there, self.seed);
        counted.write(self.crowds.as_ref());
        let gone = gone.iter().map(|(peer, _)| peer);
        let gone: Vec<_> = gone.chain(&counted.surplus).map(|peer| peer.words()).collect();
        for key in &gone {
            // If the program has renewed the peer in the meantime, it will enter it again at its next
            // packet.
            let removed = unless_missing(self.known.remove(key));
            unread.or_note("forget a known peer", removed);
        }
        if !gone.is_empty() {
            // A peer that the program enters between the two steps has no bit for a moment. The program
            // sets the bit after the entry, so that the second step includes it.
            let closed = self.bits().map(|bits| gates::close(self.gate.as_ref(), &bits));
            let opened = self.bits().map(|bits| gates::open(self.gate.as_ref(), &bits));
            unread.or_note("rebuild the gate of known peers", closed.and(opened));
        }
    }

    /// The bits of the gate for exactly the present peers.
    fn bits(&self) -> Result<Vec<u64>> {
        let known = batch::entries::<[u64; 2], Peer>(self.known.map().fd())?;
        Ok(gates::known(known.into_iter().map(|(key, _)| Address::from_words(key)), self.seed))
    }

    /// All peers including expired ones; `None` if the kernel refuses.
    fn all(&self, unread: &Unread) -> Option<Vec<([u64; 2], Peer)>> {
        unread.or_note("read the known peers", batch::entries(self.known.map().fd()))
    }
}

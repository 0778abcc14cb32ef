//! The pinned maps without the program. Commands read and change them while no controller runs.
//!
//! Must never decide.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::lpm_trie::LpmTrie;
use aya::maps::{HashMap, IterableMap as _, MapData};
use detection::ban::{InForce, Write};
use detection::clock::KernelTime;
use filter_common::abi::{ABI_VERSION, Config, FLAG_DISABLED, FLAG_DRY_RUN, Flooder, Peer, maps};
use filter_common::address::Address;
use ipnet::IpNet;

use super::ban_cache::BanCache;
use super::ban_table::BanTable;
use super::bans::Bans;
use super::batch;
use super::config_map::ConfigMap;
use super::floods;
use super::gates::Presence;
use super::mapped::{Memory, data};
use super::pins::{self, Pins};
use super::port::KnownPeer;

/// The maps with entries of sources. Only one process may change them.
pub struct Pinned {
    bans: Bans,
    config: Config,
    flooders: HashMap<MapData, [u64; 2], Flooder>,
    known: HashMap<MapData, [u64; 2], Peer>,
    is_attached: bool,
}

/// The lock for changing the pinned maps. No controller can start while it exists.
#[derive(Debug)]
pub struct Owned {
    _pins: Pins,
}

/// Takes the lock for changing the maps pinned in `directory`, which is created if it is missing. Does
/// not wait.
///
/// # Errors
///
/// If a controller is running ([`InUse`](super::InUse)), or the directory cannot be created.
pub fn own(directory: &Path) -> Result<Owned> {
    Ok(Owned { _pins: Pins::open(directory)? })
}

impl Pinned {
    /// The maps pinned in `directory`; `None` if there are none.
    ///
    /// # Errors
    ///
    /// If they are of another version, or the kernel refuses.
    pub fn open(directory: &Path) -> Result<Option<Self>> {
        let pin = directory.join(maps::CONFIG);
        if !pin.try_exists().with_context(|| format!("look for {}", pin.display()))? {
            return Ok(None);
        }
        let map = |name: &str| pins::open_map(directory, name);
        let other = "the pinned maps are of another version of Ringfence";
        let config = ConfigMap::new(map(maps::CONFIG)?).context(other)?.get()?;
        if config.abi_version != ABI_VERSION {
            bail!(other);
        }
        let memory = |name: &str| Memory::of(data(map(name)?)?);
        let has_cache = directory.join(maps::BANS_V6_CACHE).try_exists()?;
        let cache = has_cache.then(|| memory(maps::BANS_V6_CACHE)).transpose()?;
        let cache = cache.map(|cache| BanCache::new(cache, config.seed));
        let bans = Bans::as_they_are(
            BanTable::new(memory(maps::BANS_V4)?, config.seed, usize::MAX),
            (HashMap::try_from(map(maps::BANS_V6)?)?, cache),
            LpmTrie::try_from(map(maps::BAN_NETS)?)?,
            Presence::new(memory(maps::PRESENCE)?, config.seed),
        )?;
        Ok(Some(Self {
            bans,
            config,
            flooders: HashMap::try_from(map(maps::FLOODERS)?)?,
            known: HashMap::try_from(map(maps::KNOWN)?)?,
            is_attached: !pins::protected(directory)?.is_empty(),
        }))
    }

    /// The bans, including those that have ended.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn held(&self) -> Result<InForce> {
        self.bans.held()
    }

    /// The number of packets that the entry of exactly this network or address has matched.
    pub fn packets(&self, network: IpNet) -> u64 {
        self.bans.packets(network)
    }

    /// Whether packets are dropped.
    pub fn drops(&self) -> bool {
        self.is_attached && self.config.flags & (FLAG_DRY_RUN | FLAG_DISABLED) == 0
    }

    /// The program's own bans at `now`, each with its end. An IPv6 ban is given by the first address of
    /// its /64.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn floods(&self, now: KernelTime) -> Result<Vec<(IpAddr, KernelTime)>> {
        let flooders = batch::entries::<[u64; 2], Flooder>(self.flooders.map().fd());
        let flooders = flooders.context("read the bans for floods")?.into_iter();
        let flooders = flooders.map(|(key, flooder)| (key, flooder.until));
        let peers = self.peers()?.into_iter().map(|(key, peer)| (key, peer.blocked_until));
        let address = |key| IpAddr::from(Address::from_words(key));
        let all = flooders.chain(peers).filter(|(_, until)| now.0 < *until);
        Ok(all.map(|(key, until)| (address(key), KernelTime(until))).collect())
    }

    /// The known peers at `now`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn known(&self, now: KernelTime) -> Result<Vec<(IpAddr, KnownPeer)>> {
        let known = self.peers()?.into_iter().filter(|(_, peer)| now.0 < peer.until);
        let known = known.map(|(key, peer)| {
            let until = KernelTime(peer.until);
            (Address::from_words(key).into(), KnownPeer { until, passed: peer.passed })
        });
        Ok(known.collect())
    }

    fn peers(&self) -> Result<Vec<([u64; 2], Peer)>> {
        batch::entries(self.known.map().fd()).context("read the known peers")
    }

    /// Makes a change of the bans.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn write(&mut self, write: &Write, _owned: &Owned) -> Result<()> {
        match write {
            Write::Address(entry) => self.bans.ban(entry),
            Write::NoAddress(address) => {
                self.bans.unban(*address)?;
                floods::forgive(&mut self.flooders, &mut self.known, *address)
            }
            Write::Network(entry) => self.bans.ban_network(entry),
            Write::NoNetwork(network) => {
                self.bans.unban_network(*network)?;
                floods::forgive_network(&mut self.flooders, &mut self.known, *network)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_none_without_pins() {
        let directory = tempfile::tempdir().unwrap();
        assert!(Pinned::open(directory.path()).unwrap().is_none());
        assert!(Pinned::open(&directory.path().join("gone")).unwrap().is_none());
    }
}

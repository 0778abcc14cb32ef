//! Writes the table of networks from which SIP is not admitted, while the program reads it.
//!
//! Must never be shared by two writers. It is apart from the rest, because to write 200,000 entries takes a while,
//! and neither a ban nor a packet waits for that.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use anyhow::{Context as _, Result, ensure};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{Map, MapData};
use filter_common::address::unwords;
use filter_common::limits::GEO_NETWORKS;
use ipnet::{IpNet, Ipv6Net};

use super::bans::network_key;
use super::mapped::{Memory, data};

/// How the program uses the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GeoMode {
    /// Not at all.
    Off,
    /// It counts the packets that it would drop.
    DryRun,
    /// It drops the packets of unknown sources to SIP.
    On,
}

/// The table.
pub struct GeoTable {
    v4: Memory,
    v6: LpmTrie<MapData, [u64; 2], u32>,
    /// What the trie has, once that is known.
    entries: Option<BTreeMap<Ipv6Net, bool>>,
}

impl std::fmt::Debug for GeoTable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GeoTable").finish_non_exhaustive()
    }
}

impl GeoTable {
    pub(super) fn new(v4: Map, v6: Map) -> Result<Self> {
        let (v4, v6) = (Memory::of(data(v4)?)?, LpmTrie::try_from(v6)?);
        Ok(Self { v4, v6, entries: None })
    }

    /// Changes the table to the bits of IPv4 /24 networks, and to IPv6 networks that are shut out or not. Each
    /// network changes in one step, but not all at once.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; the table is then partly changed.
    pub fn write(
        &mut self,
        words: &[u64],
        entries: impl IntoIterator<Item = (Ipv6Net, bool)>,
    ) -> Result<()> {
        let memory = self.v4.as_ref();
        ensure!(words.len() == memory.len(), "the table of countries has another size");
        for (word, new) in memory.iter().zip(words) {
            if word.load(Ordering::Relaxed) != *new {
                word.store(*new, Ordering::Relaxed);
            }
        }
        let wanted: BTreeMap<Ipv6Net, bool> = entries.into_iter().collect();
        let mut there = match self.entries.take() {
            Some(there) => there,
            None => self.read()?,
        };
        let left_over = there.keys().filter(|network| !wanted.contains_key(network)).count();
        if left_over + wanted.len() > GEO_NETWORKS as usize {
            self.clear(&mut there, &wanted)?;
        }
        // Networks that are open come first, so that none is shut out for a moment because of a wider one.
        for open in [true, false] {
            for (network, shut) in wanted.iter().filter(|(_, shut)| **shut != open) {
                if there.get(network) != Some(shut) {
                    let key = network_key(IpNet::V6(*network));
                    self.v6.insert(&key, u32::from(*shut), 0).with_context(|| {
                        format!("write {network} into the table of countries (is it full?)")
                    })?;
                }
            }
            for (network, _) in there.iter().filter(|(_, shut)| **shut == open) {
                if !wanted.contains_key(network) {
                    self.v6
                        .remove(&network_key(IpNet::V6(*network)))
                        .with_context(|| format!("remove {network} from the table of countries"))?;
                }
            }
        }
        self.entries = Some(wanted);
        Ok(())
    }

    /// Makes room: removes what is not wanted, and first all that is shut out, so that nobody is shut out for a moment
    /// who was not.
    fn clear(
        &mut self,
        there: &mut BTreeMap<Ipv6Net, bool>,
        wanted: &BTreeMap<Ipv6Net, bool>,
    ) -> Result<()> {
        for is_shut in [true, false] {
            let goes = |network: &Ipv6Net, shut: bool| {
                shut == is_shut && (is_shut || !wanted.contains_key(network))
            };
            let gone: Vec<Ipv6Net> = there
                .iter()
                .filter(|(network, shut)| goes(network, **shut))
                .map(|(network, _)| *network)
                .collect();
            for network in gone {
                self.v6
                    .remove(&network_key(IpNet::V6(network)))
                    .with_context(|| format!("remove {network} from the table of countries"))?;
                there.remove(&network);
            }
        }
        Ok(())
    }

    /// What an earlier controller has left.
    fn read(&self) -> Result<BTreeMap<Ipv6Net, bool>> {
        let read = |item: Result<(Key<[u64; 2]>, u32), _>| {
            let (key, shut) = item.context("read the table of countries")?;
            let address = unwords(key.data());
            let length = u8::try_from(key.prefix_len())?;
            Ok((Ipv6Net::new(address, length)?, shut != 0))
        };
        self.v6.iter().map(read).collect()
    }
}

//! The bans in the maps.
//!
//! Must never let the program see half an entry.

use std::collections::{BTreeSet, HashMap as HashIndex};
use std::io;
use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, anyhow};
use aya::maps::lpm_trie::{Key, LpmTrie};
use aya::maps::{HashMap, IterableMap as _, MapData, MapError};
use filter_common::abi::{self, BanEntry, FOREVER, ORIGIN_OWN, SCOPE_ALL};
use filter_common::address::{Address, words};
use filter_common::ban_table::Slot;
use filter_common::rate::{UNIT_SHIFT, unit};
use ipnet::IpNet;

use super::ban_cache::BanCache;
use super::ban_table::{BanTable, Full};
use super::batch;
use super::gates::Presence;
use super::mapped::Memory;
use super::unread::Unread;
use detection::ban::{AddressEntry, Ends, InForce, NetworkEntry, Origin, Scopes};
use detection::clock::KernelTime;
use detection::settings::Scope;

/// The maps of bans, and the gate before them.
pub(super) struct Bans {
    v4: BanTable<Memory>,
    v6: HashMap<MapData, [u64; 2], BanEntry>,
    /// `None` if the pinned maps are those of a version without it.
    cache: Option<BanCache<Memory>>,
    networks: LpmTrie<MapData, [u64; 2], abi::NetworkEntry>,
    presence: Presence<Memory>,
    /// The networks that have entries. Reading all of them from the trie takes a microsecond each.
    entered: BTreeSet<IpNet>,
    /// The host's own addresses, which cannot be the source of an arriving packet.
    own: BTreeSet<IpAddr>,
    /// The IPv6 addresses that have entries, as far as this process has written them.
    v6_entries: usize,
    /// The number of bits in the gate that may be obsolete.
    stale: usize,
    /// Failed reads.
    pub(super) unread: Unread,
}

/// The least number of lifted bans before the gate is rebuilt without obsolete bits. For a larger table
/// it is the number of its lines: reading all of them blocks everything else for ten milliseconds, and
/// that many bits correspond to one in fifty IPv4 networks.
const STALE_MIN: usize = 4096;

impl Bans {
    pub(super) fn new(
        v4: BanTable<Memory>,
        (v6, cache): (HashMap<MapData, [u64; 2], BanEntry>, BanCache<Memory>),
        networks: LpmTrie<MapData, [u64; 2], abi::NetworkEntry>,
        presence: Presence<Memory>,
    ) -> Result<Self> {
        let mut bans = Self::of(v4, (v6, Some(cache)), networks, presence)?;
        bans.rebuild()?;
        bans.v6_entries = bans.fill_cache()?;
        Ok(bans)
    }

    /// The host's own addresses.
    pub(super) fn own_addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.own.iter().copied()
    }

    /// The bans that another process has left or has now. Nothing is written.
    pub(super) fn as_they_are(
        v4: BanTable<Memory>,
        v6: (HashMap<MapData, [u64; 2], BanEntry>, Option<BanCache<Memory>>),
        networks: LpmTrie<MapData, [u64; 2], abi::NetworkEntry>,
        presence: Presence<Memory>,
    ) -> Result<Self> {
        let mut bans = Self::of(v4, v6, networks, presence)?;
        bans.own = bans.entered_own()?;
        Ok(bans)
    }

    fn of(
        v4: BanTable<Memory>,
        (v6, cache): (HashMap<MapData, [u64; 2], BanEntry>, Option<BanCache<Memory>>),
        networks: LpmTrie<MapData, [u64; 2], abi::NetworkEntry>,
        presence: Presence<Memory>,
    ) -> Result<Self> {
        let keys: Vec<_> =
            networks.keys().collect::<Result<_, _>>().context("read the banned networks")?;
        let entered = keys.iter().filter_map(network_of).collect();
        let (own, v6_entries, stale, unread) = (BTreeSet::new(), 0, 0, Unread::default());
        Ok(Self { v4, v6, cache, networks, presence, entered, own, v6_entries, stale, unread })
    }

    /// The host's own addresses as an earlier process entered them.
    fn entered_own(&self) -> Result<BTreeSet<IpAddr>> {
        let v4 = self.v4.iter().filter(|slot| slot.origin == ORIGIN_OWN);
        let v4 = v4.map(|slot| IpAddr::from(slot.address.to_le_bytes()));
        let v6 = self.addresses_v6()?.into_iter();
        let v6 = v6.filter(|(_, ban)| ban.origin == ORIGIN_OWN).map(|(address, _)| address);
        Ok(v4.chain(v6).collect())
    }

    /// Sets the host's own addresses: packets from them drop. They are entries among the bans, because
    /// each packet has time for only one lookup.
    pub(super) fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        if !addresses.is_empty() && self.own == *addresses {
            // A start calls this twice, and reading a million bans takes a while.
            return Ok(());
        }
        let mut old: BTreeSet<IpAddr> = std::mem::take(&mut self.own);
        if old.is_empty() {
            old = self.entered_own()?;
        }
        for gone in old.difference(addresses) {
            self.unban(*gone)?;
        }
        let v4 = addresses.iter().filter(|address| address.is_ipv4()).count();
        self.v4.reserve(v4);
        for address in addresses {
            self.presence.add_address(*address);
            let entered = match address {
                IpAddr::V4(v4) => {
                    self.v4.insert(own_slot(*v4)).map_err(|Full| anyhow!("the table is full"))
                }
                IpAddr::V6(v6) => {
                    self.free((*address).into());
                    self.v6.insert(words(*v6), own_entry(), 0).map_err(Into::into)
                }
            };
            entered.with_context(|| format!("drop forged packets from {address}"))?;
        }
        // Last, so that a failed update is repeated completely.
        self.own.clone_from(addresses);
        Ok(())
    }

    /// The number of lines in the cache of IPv6 addresses.
    pub(super) fn cache_lines(&self) -> u32 {
        self.cache.as_ref().map_or(0, BanCache::lines)
    }

    /// The entries of IPv4 addresses, IPv6 addresses and networks.
    pub(super) fn entries(&self) -> [usize; 3] {
        [self.v4.len(), self.v6_entries, self.entered.len()]
    }

    /// The number of lines in the table of IPv4 addresses.
    pub(super) fn lines(&self) -> u32 {
        self.v4.lines()
    }

    /// The contents of the maps, including ended bans.
    pub(super) fn held(&self) -> Result<InForce> {
        let mut held = InForce::default();
        held.addresses.extend(self.v4.iter().filter_map(|slot| read_slot(&slot)));
        let v6 = self.addresses_v6()?;
        held.addresses.extend(v6.iter().filter_map(|(address, entry)| read_entry(*address, entry)));
        for entry in &self.networks {
            let (key, entry) = entry.context("read the banned networks")?;
            held.networks.extend(network_of(&key).map(|network| read_network(network, &entry)));
        }
        Ok(held)
    }

    pub(super) fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        self.presence.add_address(entry.address);
        match entry.address {
            IpAddr::V4(v4) => self.v4.insert(slot(v4, entry)).map_err(|Full| {
                anyhow!("the table is full; `capacity: {{bans: N}}` makes it larger")
            }),
            IpAddr::V6(v6) => {
                let key = words(v6);
                let old = self.unread.or_note("read a ban", if_there(self.v6.get(&key, 0)));
                let old = old.flatten();
                let packets = old.map_or(0, |old| old.packets) + self.free(entry.address.into());
                let new = BanEntry { packets, ..new_entry(entry) };
                let written = self.v6.insert(key, new, 0);
                self.v6_entries += usize::from(old.is_none() && written.is_ok());
                if let (Ok(()), Some(cache)) = (&written, &self.cache) {
                    cache.insert(entry.address.into(), new.scopes, new.until);
                }
                written.context("is the table full? `capacity: {bans_ipv6: N}` makes it larger")
            }
        }
        .with_context(|| format!("ban {}", entry.address))
    }

    pub(super) fn unban(&mut self, address: IpAddr) -> Result<()> {
        if self.own.contains(&address) {
            return Ok(());
        }
        match address {
            IpAddr::V4(v4) => {
                self.v4.remove(v4_word(v4));
            }
            IpAddr::V6(v6) => {
                self.free(address.into());
                let removed = self.v6.remove(&words(v6));
                self.v6_entries = self.v6_entries.saturating_sub(usize::from(removed.is_ok()));
                unless_missing(removed).with_context(|| format!("lift the ban of {address}"))?;
            }
        }
        self.note_stale();
        Ok(())
    }

    pub(super) fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        self.presence.add_network(entry.network);
        let key = network_key(entry.network);
        let packets = self.network(&key).map_or(0, |old| old.packets);
        let new = abi::NetworkEntry { packets, ..new_network(entry, &key) };
        let written = self.networks.insert(&key, new, 0);
        written.with_context(|| format!("ban {} (is the table full?)", entry.network))?;
        self.entered.insert(entry.network);
        Ok(())
    }

    pub(super) fn unban_network(&mut self, network: IpNet) -> Result<()> {
        let removed = self.networks.remove(&network_key(network));
        unless_missing(removed).with_context(|| format!("lift the ban of {network}"))?;
        self.entered.remove(&network);
        self.note_stale();
        Ok(())
    }

    /// Packets that matched the entry of exactly this address or network.
    pub(super) fn packets(&self, network: IpNet) -> u64 {
        let entry = self.network(&network_key(network)).map_or(0, |entry| entry.packets);
        if network.prefix_len() < network.max_prefix_len() {
            return entry;
        }
        let own = match network.addr() {
            IpAddr::V4(v4) => self.v4.get(v4_word(v4)).map(|slot| slot.packets),
            IpAddr::V6(v6) => {
                let entry = self.unread.or_note("read a ban", if_there(self.v6.get(&words(v6), 0)));
                entry.flatten().map(|entry| {
                    let cached = self.cache.as_ref();
                    entry.packets + cached.map_or(0, |cache| cache.packets(network.addr().into()))
                })
            }
        };
        own.unwrap_or(entry)
    }

    /// The entry of exactly this network.
    fn network(&self, key: &Key<[u64; 2]>) -> Option<abi::NetworkEntry> {
        let longest = if_there(self.networks.get(key, 0));
        let longest = self.unread.or_note("read a banned network", longest)??;
        (u32::from(longest.length) == key.prefix_len()).then_some(longest)
    }

    fn note_stale(&mut self) {
        self.stale += 1;
        let lines = usize::try_from(self.v4.lines()).unwrap_or(usize::MAX);
        if self.stale > STALE_MIN.max(lines) {
            self.stale = 0;
            // On an error the old gate stays, with bits that cost only a lookup.
            self.unread.or_note("rebuild the gate of bans", self.rebuild());
        }
    }

    /// Clears obsolete bits. Everything is read first: a missed ban would let its source in.
    fn rebuild(&self) -> Result<()> {
        let v6 = self.addresses_v6()?.into_iter().map(|(address, _)| address);
        let v4 = self.v4.addresses().map(|address| IpAddr::from(address.to_le_bytes()));
        self.presence.rebuild(v4.chain(v6), self.entered.iter().copied());
        Ok(())
    }

    /// Frees the slot of an address before its entry changes. Returns the packets that it has counted.
    fn free(&self, address: Address) -> u64 {
        self.cache.as_ref().map_or(0, |cache| cache.remove(address))
    }

    /// Makes the cache agree with the entries of IPv6 addresses, which a daemon without the cache may have
    /// changed, or one that was killed. Returns their number.
    fn fill_cache(&self) -> Result<usize> {
        let entries = self.addresses_v6()?;
        let Some(cache) = &self.cache else { return Ok(entries.len()) };
        let bans = entries.iter().filter(|(_, ban)| ban.origin != ORIGIN_OWN);
        let bans: HashIndex<Address, (u8, u32)> =
            bans.map(|(address, ban)| ((*address).into(), (ban.scopes, ban.until))).collect();
        cache.retain(|address| bans.get(&address).copied());
        for (address, (scopes, until)) in bans {
            if !cache.contains(address) {
                cache.insert(address, scopes, until);
            }
        }
        Ok(entries.len())
    }

    /// All entries of IPv6 addresses.
    fn addresses_v6(&self) -> Result<Vec<(IpAddr, BanEntry)>> {
        let entries: Vec<([u64; 2], BanEntry)> =
            batch::entries(self.v6.map().fd()).context("read the bans of IPv6 addresses")?;
        let address = |key| IpAddr::from(Address::from_words(key));
        Ok(entries.into_iter().map(|(key, entry)| (address(key), entry)).collect())
    }
}

/// A time in the unit of the entries, rounded up.
fn end(until: Option<KernelTime>) -> u32 {
    until.map_or(FOREVER, |until| unit(until.0).saturating_add(1).min(FOREVER - 1))
}

/// The inverse of [`end`], except for the rounding.
fn until(end: u32) -> Option<KernelTime> {
    (end != FOREVER).then(|| moment(end))
}

fn moment(units: u32) -> KernelTime {
    KernelTime(u64::from(units) << UNIT_SHIFT)
}

fn v4_word(address: Ipv4Addr) -> u32 {
    u32::from_le_bytes(address.octets())
}

fn slot(address: Ipv4Addr, entry: &AddressEntry) -> Slot {
    Slot {
        address: v4_word(address),
        until: end(entry.until),
        since: unit(entry.since.0),
        scopes: entry.scopes.mask(),
        origin: entry.origin.number(),
        packets: 0,
    }
}

/// The ban in a slot, unless it is an entry of the host's own address.
pub(super) fn read_slot(slot: &Slot) -> Option<AddressEntry> {
    let entry = AddressEntry {
        address: IpAddr::from(slot.address.to_le_bytes()),
        scopes: Scopes::from_mask(slot.scopes),
        origin: Origin::from_number(slot.origin),
        since: moment(slot.since),
        until: until(slot.until),
    };
    (slot.origin != ORIGIN_OWN).then_some(entry)
}

fn own_slot(address: Ipv4Addr) -> Slot {
    Slot {
        address: v4_word(address),
        until: FOREVER,
        scopes: SCOPE_ALL,
        origin: ORIGIN_OWN,
        ..Slot::default()
    }
}

fn own_entry() -> BanEntry {
    BanEntry { until: FOREVER, scopes: SCOPE_ALL, origin: ORIGIN_OWN, ..BanEntry::default() }
}

fn new_entry(entry: &AddressEntry) -> BanEntry {
    BanEntry {
        until: end(entry.until),
        since: unit(entry.since.0),
        scopes: entry.scopes.mask(),
        origin: entry.origin.number(),
        ..BanEntry::default()
    }
}

/// The same as [`read_slot`].
pub(super) fn read_entry(address: IpAddr, entry: &BanEntry) -> Option<AddressEntry> {
    let read = AddressEntry {
        address,
        scopes: Scopes::from_mask(entry.scopes),
        origin: Origin::from_number(entry.origin),
        since: moment(entry.since),
        until: until(entry.until),
    };
    (entry.origin != ORIGIN_OWN).then_some(read)
}

fn new_network(entry: &NetworkEntry, key: &Key<[u64; 2]>) -> abi::NetworkEntry {
    let mut ends = [0; 8];
    for (scope, until) in entry.ends.iter() {
        if let Some(place) = ends.get_mut(usize::from(scope.bit())) {
            *place = end(until);
        }
    }
    abi::NetworkEntry {
        ends,
        since: unit(entry.since.0),
        origin: entry.origin.number(),
        length: u8::try_from(key.prefix_len()).unwrap_or(u8::MAX),
        ..abi::NetworkEntry::default()
    }
}

fn read_network(network: IpNet, entry: &abi::NetworkEntry) -> NetworkEntry {
    let closed = (0..8).zip(entry.ends).filter(|(_, end)| *end != 0);
    let ends = closed.fold(Ends::NONE, |ends, (bit, end)| match Scope::from_bit(bit) {
        Some(scope) => ends.and(scope, until(end)),
        None => ends,
    });
    let origin = Origin::from_number(entry.origin);
    NetworkEntry { network, ends, origin, since: moment(entry.since) }
}

/// The key of a network in the tries that both families share.
pub(super) fn network_key(network: IpNet) -> Key<[u64; 2]> {
    let mapped = match network {
        IpNet::V4(_) => 96,
        IpNet::V6(_) => 0,
    };
    let words = Address::from(network.network()).words();
    Key::new(u32::from(network.prefix_len()) + mapped, words)
}

fn network_of(key: &Key<[u64; 2]>) -> Option<IpNet> {
    let address = IpAddr::from(Address::from_words(key.data()));
    let mapped = if address.is_ipv4() { 96 } else { 0 };
    let length = key.prefix_len().checked_sub(mapped)?;
    IpNet::new(address, u8::try_from(length).ok()?).ok()
}

/// Turns a missing entry into `None`.
pub(super) fn if_there<T>(read: Result<T, MapError>) -> Result<Option<T>, MapError> {
    match read {
        Ok(entry) => Ok(Some(entry)),
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Treats a missing entry as removed.
pub(super) fn unless_missing(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(call)) if call.io_error.kind() == io::ErrorKind::NotFound => {
            Ok(())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_and_their_keys() {
        for text in ["192.0.2.0/24", "0.0.0.0/0", "2001:db8::/32", "2001:db8::2/127"] {
            let network: IpNet = text.parse().unwrap();
            assert_eq!(network_of(&network_key(network)), Some(network));
        }
    }

    #[test]
    fn a_ban_ends_no_earlier_than_it_should() {
        for nanoseconds in [0, 1, (1 << UNIT_SHIFT) - 1, 1 << UNIT_SHIFT, u64::MAX / 2] {
            let wanted = KernelTime(nanoseconds);
            let got = until(end(Some(wanted))).unwrap();
            assert!(got >= wanted || end(Some(wanted)) == FOREVER - 1, "{wanted:?} {got:?}");
        }
        assert_eq!(until(end(None)), None);
    }

    #[test]
    fn entries_come_back() {
        let address = "192.0.2.66".parse().unwrap();
        let entry = AddressEntry {
            address,
            scopes: Scopes::default().and(Scope::Sip).and(Scope::Ports(2)),
            origin: Origin::Jail(3),
            since: moment(7),
            until: None,
        };
        assert_eq!(read_slot(&slot(Ipv4Addr::new(192, 0, 2, 66), &entry)), Some(entry));
        assert_eq!(read_slot(&own_slot(Ipv4Addr::new(192, 0, 2, 66))), None);
        assert_eq!(read_entry(address, &own_entry()), None);
        assert_eq!(read_entry(address, &new_entry(&entry)), Some(entry));
        let network = "198.51.100.0/24".parse().unwrap();
        let ends = Ends::NONE.and(Scope::Sip, None).and(Scope::All, Some(moment(9)));
        let entry = NetworkEntry { network, ends, origin: Origin::Manual, since: moment(3) };
        let read = read_network(network, &new_network(&entry, &network_key(network)));
        // Rounded up by one unit.
        let ends = Ends::NONE.and(Scope::Sip, None).and(Scope::All, Some(moment(10)));
        assert_eq!(read, NetworkEntry { ends, ..entry });
    }
}

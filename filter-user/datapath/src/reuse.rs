//! Reuses the pinned maps of an earlier daemon, or creates them anew.
//!
//! Must never lose a ban in force.

use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::{HashMap, Map, MapData, MapInfo};
use detection::ban::AddressEntry;
use filter_common::abi::{self, BanEntry, Config, maps};
use filter_common::address::Address;
use filter_common::ban_cache;
use filter_common::ban_table::entries_for;

use super::ban_table::BanTable;
use super::bans::{read_entry, read_slot};
use super::clock;
use super::config_map::ConfigMap;
use super::mapped::{Memory, data};
use super::pins::{self, Pins};
use super::settings::Settings;

/// Makes the pinned maps fit: those of another version or of another size are unpinned, and the loader
/// creates new ones. The running program keeps its own until it is replaced.
///
/// Returns the bans that were in them.
pub(super) fn reuse(
    pins: &Pins,
    settings: &Settings,
    lines: u32,
    notes: &mut Vec<String>,
) -> Result<Vec<AddressEntry>> {
    let config = pins.map(maps::CONFIG);
    if !config.exists() {
        return Ok(Vec::new());
    }
    let Some(config) = pinned_config(&config)? else {
        for name in maps::PINNED {
            pins::remove(&pins.map(name))?;
        }
        notes.push(
            "the pinned maps are of another version: created new ones, without their bans"
                .to_owned(),
        );
        return Ok(Vec::new());
    };
    let mut saved = Vec::new();
    let (v4, v6) = (pins.map(maps::BANS_V4), pins.map(maps::BANS_V6));
    if resized(&v4, entries_for(lines))? {
        saved.extend(v4_bans(&v4, config.seed)?);
        pins::remove(&v4)?;
    }
    if resized(&v6, settings.bans_ipv6)? {
        saved.extend(v6_bans(&v6)?);
        pins::remove(&v6)?;
    }
    let cache = pins.map(maps::BANS_V6_CACHE);
    if resized(&cache, ban_cache::lines_for(settings.bans_ipv6))? {
        pins::remove(&cache)?;
    }
    let now = clock::now();
    saved.retain(|entry| entry.until.is_none_or(|until| now < until));
    for (key, room, is_ipv4) in
        [("bans", settings.bans, true), ("bans_ipv6", settings.bans_ipv6, false)]
    {
        let bans = saved.iter().filter(|ban| ban.address.is_ipv4() == is_ipv4).count();
        if bans > usize::try_from(room).unwrap_or(usize::MAX) {
            bail!(
                "`capacity: {{{key}: {room}}}` is less than the {bans} bans in force; lift some first"
            );
        }
    }
    Ok(saved)
}

fn resized(pin: &Path, entries: u32) -> Result<bool> {
    // The loader creates missing maps.
    if !pin.exists() {
        return Ok(false);
    }
    let info = MapInfo::from_pin(pin).with_context(|| format!("open {}", pin.display()))?;
    Ok(info.max_entries() != entries)
}

/// The pinned configuration, if it has this version.
fn pinned_config(pin: &Path) -> Result<Option<Config>> {
    let map = MapData::from_pin(pin).with_context(|| format!("open {}", pin.display()))?;
    // A configuration of another size is of another version.
    let config = Map::from_map_data(map).ok().and_then(|map| ConfigMap::new(map).ok());
    let config = config.map(|config| config.get()).transpose()?;
    Ok(config.filter(|config| config.abi_version == abi::ABI_VERSION))
}

fn v4_bans(pin: &Path, seed: u64) -> Result<Vec<AddressEntry>> {
    let read = || -> Result<Vec<AddressEntry>> {
        let map = Map::from_map_data(MapData::from_pin(pin)?)?;
        let table = BanTable::new(Memory::of(data(map)?)?, seed, 0);
        Ok(table.iter().filter_map(|slot| read_slot(&slot)).collect())
    };
    read().with_context(|| format!("read {}", pin.display()))
}

fn v6_bans(pin: &Path) -> Result<Vec<AddressEntry>> {
    let read = || -> Result<Vec<AddressEntry>> {
        let map = Map::from_map_data(MapData::from_pin(pin)?)?;
        let map: HashMap<MapData, [u64; 2], BanEntry> = HashMap::try_from(map)?;
        let all = map.iter().filter_map(|item| {
            let read = |(key, entry)| read_entry(IpAddr::from(Address::from_words(key)), &entry);
            item.map(read).map_err(Into::into).transpose()
        });
        all.collect()
    };
    read().with_context(|| format!("read {}", pin.display()))
}

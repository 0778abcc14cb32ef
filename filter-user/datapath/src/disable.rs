//! The emergency switch: the program stays attached but drops nothing. It works without a daemon, and
//! beside one that hangs.

use std::borrow::BorrowMut;
use std::path::Path;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Map, MapData};
use filter_common::abi::{ABI_VERSION, FLAG_DISABLED, maps};

use super::config_map::ConfigMap;

/// How often the switch is written again because another process has written the configuration meanwhile.
const TRIES: usize = 5;

/// Lets every packet pass, or enforces bans and limits again, for the program whose maps are pinned in
/// `directory`. Returns whether there is such a program.
///
/// # Errors
///
/// If the maps are of another version, or the kernel refuses.
pub fn disable(directory: &Path, disabled: bool) -> Result<bool> {
    let pin = directory.join(maps::CONFIG);
    if !pin.try_exists().with_context(|| format!("look for {}", pin.display()))? {
        return Ok(false);
    }
    let map = MapData::from_pin(&pin).with_context(|| format!("open {}", pin.display()))?;
    let other = "the pinned maps are of another version of Ringfence";
    let mut config = ConfigMap::new(Map::from_map_data(map)?).context(other)?;
    if config.get()?.abi_version != ABI_VERSION {
        bail!(other);
    }
    switch(&mut config, disabled)?;
    Ok(true)
}

/// The same for a map that is open. A write that collides with another process's is repeated.
pub(super) fn switch<T: BorrowMut<MapData>>(map: &mut ConfigMap<T>, disabled: bool) -> Result<()> {
    for _ in 0..TRIES {
        let mut config = map.get()?;
        if (config.flags & FLAG_DISABLED != 0) == disabled {
            return Ok(());
        }
        config.flags ^= FLAG_DISABLED;
        map.set(&config)?;
    }
    bail!("another process keeps writing the configuration")
}

//! Lifts the program's own bans.
//!
//! Must never decide.

use std::net::IpAddr;

use anyhow::{Context as _, Result};
use aya::maps::{HashMap, MapData};
use filter_common::abi::{Flooder, Peer};
use filter_common::address::Address;
use ipnet::IpNet;

use super::bans::{if_there, unless_missing};

/// The prefix length of the IPv6 networks that the program bans for floods.
const PREFIX: u8 = 64;

/// Lifts the program's own bans of an address: as an unknown source, and as a known peer.
pub(super) fn forgive(
    flooders: &mut HashMap<MapData, [u64; 2], Flooder>,
    known: &mut HashMap<MapData, [u64; 2], Peer>,
    address: IpAddr,
) -> Result<()> {
    forgive_source(flooders, address)?;
    let key = Address::from(address).words();
    if let Some(peer) = if_there(known.get(&key, 0)).context("read a known peer")?
        && peer.blocked_until != 0
    {
        known.insert(key, Peer { blocked_until: 0, ..peer }, 0)?;
    }
    Ok(())
}

/// Lifts the program's own ban of a network, if it is one that the program can ban; of a single address, the
/// same as [`forgive`].
pub(super) fn forgive_network(
    flooders: &mut HashMap<MapData, [u64; 2], Flooder>,
    known: &mut HashMap<MapData, [u64; 2], Peer>,
    network: IpNet,
) -> Result<()> {
    let address = network.network();
    if network.prefix_len() == network.max_prefix_len() {
        return forgive(flooders, known, address);
    }
    let is_one = IpAddr::from(Address::from(address).network64()) == address;
    if network.prefix_len() == PREFIX && is_one {
        forgive_source(flooders, address)?;
    }
    Ok(())
}

fn forgive_source(
    flooders: &mut HashMap<MapData, [u64; 2], Flooder>,
    address: IpAddr,
) -> Result<()> {
    let key = Address::from(address).network64().words();
    Ok(unless_missing(flooders.remove(&key))?)
}

//! The known peers, for a start at which the kernel has none: after a reboot, or with new maps.
//!
//! Must never grow without a bound.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;

use rusqlite::{Connection, params};

use super::failure::Failure;
use super::rows::{NetworkBytes, network};
use super::times::Clock;
use detection::clock::KernelTime;

/// The most peers that are kept: as many as the kernel knows.
pub const KEPT_PEERS_MAX: usize = 32_768;

/// How long a peer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptPeer {
    /// When it was known last.
    pub since: KernelTime,
    /// When it is forgotten.
    pub until: KernelTime,
}

/// Reads the peers that are not forgotten yet, each with its end.
pub(super) fn read(
    connection: &Connection,
    now: &Clock,
) -> Result<BTreeMap<IpAddr, KernelTime>, Failure> {
    let sql = "SELECT address, since, until FROM peers ORDER BY until DESC LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let most = i64::try_from(KEPT_PEERS_MAX).unwrap_or(i64::MAX);
    let found = statement.query_map([most], |row| {
        let address: Vec<u8> = row.get(0)?;
        let until = now.end_by_wall_clock(row.get(1)?, row.get(2)?);
        Ok(network(&address).map(|network| network.addr()).zip(until))
    })?;
    Ok(found.filter_map(Result::transpose).collect::<Result<_, _>>()?)
}

pub(super) fn write(
    connection: &Connection,
    peers: &HashMap<IpAddr, KeptPeer>,
    clock: &Clock,
) -> Result<(), Failure> {
    if peers.is_empty() {
        return Ok(());
    }
    let sql = "INSERT OR REPLACE INTO peers (address, since, until) VALUES (?1, ?2, ?3)";
    let mut put = connection.prepare(sql)?;
    for (address, KeptPeer { since, until }) in peers {
        let address = NetworkBytes::new((*address).into());
        put.execute(params![address.as_slice(), clock.utc(*since), clock.utc(*until)])?;
    }
    Ok(())
}

/// Deletes the peers that are forgotten, and those beyond the bound that are forgotten first.
pub(super) fn tidy(connection: &Connection, now: &Clock) -> Result<(), Failure> {
    connection.execute("DELETE FROM peers WHERE until <= ?1", [now.now])?;
    let many = "DELETE FROM peers WHERE address IN (
        SELECT address FROM peers ORDER BY until
        LIMIT max(0, (SELECT count(*) FROM peers) - ?1))";
    connection.execute(many, [i64::try_from(KEPT_PEERS_MAX).unwrap_or(i64::MAX)])?;
    Ok(())
}

//! The table of offences: how often each jail has banned an address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use detection::ban::Origin;
use detection::escalation::{Offender, Pardon, Record};
use ipnet::IpNet;
use rusqlite::{Connection, Statement, params};

use super::Names;
use super::failure::Failure;
use super::pending::Batch;
use super::rows::{self, NetworkBytes};
use super::times::Clock;

/// In the order of the columns.
const FIRST_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
const LAST_ADDRESS: IpAddr = IpAddr::V6(Ipv6Addr::from_bits(u128::MAX));

/// The bans of an address by one jail, as in the table.
#[derive(Debug)]
pub(super) struct OffencesRow {
    network: IpNet,
    jail: String,
    bans: u32,
    proven: u32,
    last: i64,
    until: i64,
    last_proven: Option<i64>,
}

impl OffencesRow {
    fn new(who: Offender, record: &Record, names: &Names, clock: &Clock) -> Self {
        Self {
            network: who.address.into(),
            jail: names.jails.name(Origin::Jail(who.jail)).to_owned(),
            bans: record.bans,
            proven: record.proven,
            last: clock.utc(record.last),
            until: clock.utc(record.until),
            last_proven: record.last_proven.map(|at| clock.utc(at)),
        }
    }

    /// `None` if the jail is no longer known.
    pub(super) fn record(&self, names: &Names, now: &Clock) -> Option<(Offender, Record)> {
        let Some(Origin::Jail(jail)) = names.jails.origin(&self.jail) else { return None };
        let who = Offender { address: self.network.addr(), jail };
        let record = Record {
            bans: self.bans,
            proven: self.proven,
            last: now.moment(self.last),
            until: now.moment(self.until),
            last_proven: self.last_proven.map(|at| now.moment(at)),
        };
        Some((who, record))
    }

    fn write(&self, put: &mut Statement<'_>) -> Result<(), Failure> {
        let network = NetworkBytes::new(self.network);
        put.execute(params![
            network.as_slice(),
            self.jail,
            self.bans,
            self.proven,
            self.last,
            self.until,
            self.last_proven,
        ])?;
        Ok(())
    }
}

const PUT: &str = "INSERT OR REPLACE INTO offences
    (network, jail, bans, proven, last, until, last_proven) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";

/// Reads the table. If it fails, what comes before the broken place is in `offences`.
pub(super) fn read(
    connection: &Connection,
    offences: &mut Vec<OffencesRow>,
) -> Result<(), Failure> {
    let mut statement = connection
        .prepare("SELECT network, jail, bans, proven, last, until, last_proven FROM offences")?;
    let mut found = statement.query([])?;
    while let Some(row) = found.next()? {
        let count = |column| row.get(column).map(|n: i64| u32::try_from(n).unwrap_or(u32::MAX));
        if let Some(network) = row.get_ref(0)?.as_blob().ok().and_then(rows::network) {
            offences.push(OffencesRow {
                network,
                jail: row.get(1)?,
                bans: count(2)?,
                proven: count(3)?,
                last: row.get(4)?,
                until: row.get(5)?,
                last_proven: row.get(6)?,
            });
        }
    }
    Ok(())
}

/// Writes rows that were read from another file.
pub(super) fn restore(connection: &Connection, offences: &[OffencesRow]) -> Result<(), Failure> {
    let mut put = connection.prepare(PUT)?;
    offences.iter().try_for_each(|row| row.write(&mut put))
}

/// Writes the changes of a batch.
pub(super) fn write(
    connection: &Connection,
    batch: &Batch,
    names: &Names,
    clock: &Clock,
) -> Result<(), Failure> {
    for pardon in &batch.pardons {
        let Pardon { network, jail } = pardon;
        let jail = jail.map(|jail| names.jails.name(Origin::Jail(jail)));
        let column = |address: IpAddr| NetworkBytes::new(address.into());
        let [first, last] = match network {
            Some(network) => [column(network.network()), column(network.broadcast())],
            None => [column(FIRST_ADDRESS), column(LAST_ADDRESS)],
        };
        connection.execute(
            "DELETE FROM offences
                WHERE network BETWEEN ?1 AND ?2 AND (?3 IS NULL OR jail = ?3)",
            params![first.as_slice(), last.as_slice(), jail],
        )?;
    }
    let mut put = connection.prepare(PUT)?;
    for (who, record) in &batch.offences {
        OffencesRow::new(*who, record, names, clock).write(&mut put)?;
    }
    Ok(())
}

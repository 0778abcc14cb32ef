//! The attempts that jails were given. After a restart they are given again, which restores the state of
//! the jails. They are written together with the positions of the sources, so that each attempt is either
//! in this record or read again, but never both.
//!
//! Must never grow without a bound.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};

use super::failure::Failure;
use super::times::Clock;
use detection::clock::{KernelTime, Moment};
use detection::failure::{Attempt, Class};

/// The most records that are kept: about 25 MiB, which takes a tenth of a second to replay.
pub const JAIL_RECORDS_MAX: usize = 131_072;

/// A record of an attempt that a jail was given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JailRecord {
    /// The time.
    pub at: KernelTime,
    /// The jail's name.
    pub jail: Box<str>,
    /// The content.
    pub what: Content,
}

/// The kinds of records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Content {
    /// An attempt.
    Attempt {
        /// The source that reported it.
        source: Box<str>,
        /// The attempt, reduced to what jails need.
        attempt: Attempt,
    },
    /// The source of a failure that has counted cannot have been forged.
    Proven(IpAddr, Class),
    /// The failures of a network are forgotten.
    Forgotten(IpNet),
}

/// Writes these records, each by its number, and deletes those that are older than `findtime` at the time
/// `now`.
pub(super) fn write<'a>(
    connection: &Connection,
    jail_records: impl IntoIterator<Item = (i64, &'a JailRecord)>,
    (now, clock): (&Clock, i64),
    findtime: Duration,
) -> Result<(), Failure> {
    let mut jail_records = jail_records.into_iter().peekable();
    if jail_records.peek().is_none() {
        return Ok(());
    }
    // A row that may have been written before is replaced, by its number.
    let sql = "INSERT OR REPLACE INTO told (clock, number, at, jail, what)
        VALUES (?1, ?2, ?3, ?4, ?5)";
    let mut put = connection.prepare(sql)?;
    for (number, JailRecord { at, jail, what }) in jail_records {
        // Strings, numbers and truth values are JSON.
        let what = serde_json::to_string(what).unwrap_or_default();
        put.execute(params![clock, number, Moment::from(*at).0, jail, what])?;
    }
    let old = "DELETE FROM told WHERE clock = ?1 AND number < ?2";
    connection.execute(old, [clock, oldest(now, findtime)])?;
    Ok(())
}

/// Deletes all but the last [`JAIL_RECORDS_MAX`].
pub(super) fn shorten(connection: &Connection, clock: i64) -> Result<(), Failure> {
    let sql = "DELETE FROM told WHERE clock = ?1 AND number <= (
        SELECT number FROM told WHERE clock = ?1 ORDER BY number DESC LIMIT 1 OFFSET ?2)";
    connection.execute(sql, params![clock, i64::try_from(JAIL_RECORDS_MAX).unwrap_or(i64::MAX)])?;
    Ok(())
}

/// Reads the records of this boot that are not older than `findtime`, oldest first. Those that this
/// version cannot read are left out.
pub(super) fn read(
    connection: &Connection,
    now: &Clock,
    findtime: Duration,
) -> Result<Vec<JailRecord>, Failure> {
    let sql = "SELECT at, jail, what FROM told
        WHERE clock = (SELECT id FROM clocks WHERE boot = ?1 AND boot <> '') AND at > ?2
        ORDER BY number";
    let mut statement = connection.prepare(sql)?;
    let mut rows = statement.query(params![now.boot, oldest(now, findtime)])?;
    let mut jail_records = Vec::new();
    while let Some(row) = rows.next()? {
        let what = row.get_ref(2)?.as_str().ok();
        let what = what.and_then(|what| serde_json::from_str(what).ok());
        let at = Moment(row.get(0)?).in_this_boot();
        if let Some(what) = what {
            jail_records.push(JailRecord { at, jail: row.get(1)?, what });
        }
    }
    Ok(jail_records)
}

/// Deletes the records of other boots.
pub(super) fn tidy(connection: &Connection, clock_id: i64) -> Result<(), Failure> {
    connection.execute("DELETE FROM told WHERE clock <> ?1", [clock_id])?;
    Ok(())
}

fn oldest(clock: &Clock, findtime: Duration) -> i64 {
    let findtime = i64::try_from(findtime.as_nanos()).unwrap_or(i64::MAX);
    clock.moment(clock.now).0.saturating_sub(findtime)
}

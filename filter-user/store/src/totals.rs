//! The failures and bans of each jail since the first one, which outlive restarts.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::failure::Failure;
use super::times::Clock;
use detection::clock::Moment;

/// The most jails whose totals are kept.
pub const TOTALS_MAX: usize = 512;

/// What a jail has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Total {
    /// The failures.
    pub failures: u64,
    /// The bans.
    pub bans: u64,
    /// When the first of them was counted.
    pub since: Moment,
}

/// Reads the totals, by jail.
pub(super) fn read(
    connection: &Connection,
    now: &Clock,
) -> Result<BTreeMap<String, Total>, Failure> {
    let sql = "SELECT jail, failures, bans, since FROM totals LIMIT ?1";
    let mut statement = connection.prepare(sql)?;
    let most = i64::try_from(TOTALS_MAX).unwrap_or(i64::MAX);
    let found = statement.query_map([most], |row| {
        let count = |column| row.get(column).map(|n: i64| u64::try_from(n).unwrap_or(0));
        let total = Total { failures: count(1)?, bans: count(2)?, since: now.moment(row.get(3)?) };
        Ok((row.get(0)?, total))
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

/// Writes totals. One that is lower than its row was counted before the file could be read, and yields.
pub(super) fn write<'a>(
    connection: &Connection,
    totals: impl IntoIterator<Item = (&'a String, &'a Total)>,
    clock: &Clock,
) -> Result<(), Failure> {
    let mut put = connection.prepare(
        "INSERT INTO totals (jail, failures, bans, since)
            SELECT ?1, ?2, ?3, ?4
            WHERE EXISTS (SELECT 1 FROM totals WHERE jail = ?1)
                OR (SELECT count(*) FROM totals) < ?5
            ON CONFLICT (jail) DO UPDATE SET
                failures = max(failures, excluded.failures), bans = max(bans, excluded.bans)",
    )?;
    let most = i64::try_from(TOTALS_MAX).unwrap_or(i64::MAX);
    for (jail, total) in totals {
        let [failures, bans] =
            [total.failures, total.bans].map(|count| i64::try_from(count).unwrap_or(i64::MAX));
        put.execute(params![jail, failures, bans, clock.utc(total.since), most])?;
    }
    Ok(())
}

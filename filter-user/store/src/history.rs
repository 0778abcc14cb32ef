//! What happened: bans that have ended and manual changes. The value of a row is JSON that only the daemon
//! understands.
//!
//! Must never grow without a bound.

use std::time::Duration;

use ipnet::IpNet;
use rusqlite::types::Value;
use rusqlite::{Connection, params, params_from_iter};

use super::failure::Failure;
use super::rows::{self, NetworkBytes};
use super::times::Clock;
use detection::clock::Moment;

/// The most rows that are kept: about 60 MiB.
pub const HISTORY_MAX: i64 = 250_000;

/// How long they are kept.
pub const HISTORY_FOR: Duration = Duration::from_hours(90 * 24);

/// The most rows that wait to be written. Beyond it, bans that ended are left out.
pub(super) const WAITING_MAX: usize = 16_384;

/// The most rows beyond [`WAITING_MAX`] that wait, of manual changes.
pub(super) const MANUAL_MAX: usize = 4096;

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// When.
    pub at: Moment,
    /// The address or network that it concerns, if it is one.
    pub network: Option<IpNet>,
    /// Whether it was done manually.
    pub is_manual: bool,
    /// What, as JSON.
    pub what: String,
}

/// Something that happened, as it was kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Past {
    /// Its place in the history.
    pub number: i64,
    /// When, in seconds of UTC since 1970.
    pub at: i64,
    /// The address or network that it concerns, if it is one.
    pub network: Option<IpNet>,
    /// What, as JSON.
    pub what: String,
}

/// Which part of the history is wanted.
#[derive(Clone, Copy, Debug, Default)]
pub struct HistoryQuery {
    /// Only what concerns this network, something in it, or a network around it.
    pub network: Option<IpNet>,
    /// Only what happened no longer ago than this.
    pub since: Option<Duration>,
    /// Only what precedes this place.
    pub before: Option<i64>,
    /// The most rows.
    pub limit: u16,
}

pub(super) fn write<'a>(
    connection: &Connection,
    events: impl IntoIterator<Item = &'a Event>,
    clock: &Clock,
) -> Result<(), Failure> {
    let mut put =
        connection.prepare("INSERT INTO history (at, network, what) VALUES (?1, ?2, ?3)")?;
    for Event { at, network, what, .. } in events {
        let network = network.map(NetworkBytes::new);
        let network = network.as_ref().map(NetworkBytes::as_slice);
        put.execute(params![clock.utc(*at), network, what])?;
    }
    Ok(())
}

/// Strikes out the oldest rows, if there are more than [`HISTORY_MAX`].
pub(super) fn shorten(connection: &Connection) -> Result<(), Failure> {
    let sql = "DELETE FROM history WHERE number <= (SELECT max(number) FROM history) - ?1";
    connection.execute(sql, [HISTORY_MAX])?;
    Ok(())
}

/// Also deletes entries older than [`HISTORY_FOR`].
pub(super) fn tidy(connection: &Connection, now: &Clock) -> Result<(), Failure> {
    let sql = "DELETE FROM history WHERE at < ?1";
    connection.execute(sql, [oldest(now, HISTORY_FOR)])?;
    shorten(connection)
}

/// Reads a part of the history, the newest first.
pub(super) fn read(
    connection: &Connection,
    query: &HistoryQuery,
    now: &Clock,
) -> Result<Vec<Past>, Failure> {
    let mut sql = "SELECT number, at, network, what FROM history
        WHERE number < ?1 AND at >= ?2"
        .to_owned();
    let since = query.since.unwrap_or(HISTORY_FOR).min(HISTORY_FOR);
    let mut values = vec![
        Value::Integer(query.before.unwrap_or(i64::MAX)),
        Value::Integer(oldest(now, since)),
        Value::Integer(query.limit.into()),
    ];
    if let Some(network) = query.network {
        let mut bytes = |network: IpNet| {
            values.push(Value::Blob(NetworkBytes::new(network).as_slice().to_vec()));
            format!("?{}", values.len())
        };
        // In the order of the column, networks inside it are between its first and its last address.
        let first = bytes(IpNet::new(network.network(), 0).unwrap_or(network));
        let last = bytes(network.broadcast().into());
        let around = (0..network.prefix_len())
            .filter_map(|length| IpNet::new(network.addr(), length).ok())
            .map(|around| bytes(around.trunc()));
        let around: Vec<String> = around.collect();
        let around = around.join(", ");
        sql +=
            &[" AND (network BETWEEN ", &first, " AND ", &last, " OR network IN (", &around, "))"]
                .concat();
    }
    sql.push_str(" ORDER BY number DESC LIMIT ?3");
    let mut statement = connection.prepare(&sql)?;
    let found = statement.query_map(params_from_iter(values), |row| {
        let network = row.get_ref(2)?.as_blob().ok().and_then(rows::network);
        let at: i64 = row.get(1)?;
        let at = at.div_euclid(1_000_000_000);
        Ok(Past { number: row.get(0)?, at, network, what: row.get(3)? })
    })?;
    Ok(found.collect::<Result<_, _>>()?)
}

fn oldest(now: &Clock, age: Duration) -> i64 {
    now.now.saturating_sub(i64::try_from(age.as_nanos()).unwrap_or(i64::MAX))
}

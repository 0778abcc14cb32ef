//! The tables of bans and of their evidence.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use detection::ban::{Ban, Entry, Key};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, Row, Statement, params};

use super::Names;
use super::failure::Failure;
use super::pending::{Batch, Change};
use super::rows::{self, KeyColumns};
use super::times::Clock;

/// What the table has.
#[derive(Default)]
pub(super) struct Found {
    pub(super) in_force: Vec<Entry>,
    pub(super) ended: Vec<Key>,
    /// The number of rows that this program cannot interpret.
    pub(super) unread: usize,
}

/// The kind of a row.
enum Read {
    InForce(Entry),
    Ended(Key),
    Unread,
}

/// Reads the bans in this order. If it fails, what comes before the broken place is in `found`.
pub(super) fn read(
    connection: &Connection,
    now: &Clock,
    names: &Names,
    order: &str,
    found: &mut Found,
) -> Result<(), Failure> {
    let mut clocks: BTreeMap<i64, Clock> = BTreeMap::new();
    let mut statement = connection.prepare("SELECT id, boot, ahead FROM clocks")?;
    let mut known = statement.query([])?;
    while let Some(row) = known.next()? {
        clocks.insert(row.get(0)?, Clock { boot: row.get(1)?, ahead: row.get(2)?, now: now.now });
    }
    let sql = format!(
        "SELECT network, origin, scope, since, until, clock, reason, except_for FROM bans {order}"
    );
    let mut statement = connection.prepare(&sql)?;
    let mut reader = Reader { now, names, clocks, reasons: HashSet::new() };
    let mut all = statement.query([])?;
    while let Some(row) = all.next()? {
        match reader.ban(row)? {
            Read::InForce(entry) => found.in_force.push(entry),
            Read::Ended(key) => found.ended.push(key),
            Read::Unread => found.unread += 1,
        }
    }
    Ok(())
}

struct Reader<'a> {
    now: &'a Clock,
    names: &'a Names,
    clocks: BTreeMap<i64, Clock>,
    /// Shared, since a million bans often have the same reason.
    reasons: HashSet<Arc<str>>,
}

impl Reader<'_> {
    fn ban(&mut self, row: &Row<'_>) -> Result<Read, Failure> {
        let text = |column| match row.get_ref(column) {
            Ok(ValueRef::Text(text)) => std::str::from_utf8(text).ok(),
            Ok(_) | Err(_) => None,
        };
        let network = row.get_ref(0)?.as_blob().ok().and_then(rows::network);
        let scope = text(2).and_then(|name| rows::scope(name, self.names));
        let clock = self.clocks.get(&row.get(5)?);
        let (Some(network), Some(origin), Some(scope), Some(clock), Some(reason)) =
            (network, text(1).map(|name| self.names.jails.enlist(name)), scope, clock, text(6))
        else {
            return Ok(Read::Unread);
        };
        let (since, until): (i64, Option<i64>) = (row.get(3)?, row.get(4)?);
        let end = until.map(|until| self.now.end(clock, since, until));
        if end == Some(None) {
            return Ok(Read::Ended((network, origin, scope)));
        }
        let since = self.now.beginning(clock, since);
        let ban = Ban { network, scope, origin, since, until: end.flatten() };
        let reason = if let Some(known) = self.reasons.get(reason) {
            Arc::clone(known)
        } else {
            let new: Arc<str> = Arc::from(reason);
            self.reasons.insert(Arc::clone(&new));
            new
        };
        let entry = Entry::new(ban, reason);
        let Some(except) = text(7) else { return Ok(Read::InForce(entry)) };
        let except = except.split(' ').filter_map(|network| network.parse().ok()).collect();
        Ok(Read::InForce(entry.with_except(except)))
    }
}

/// Writes the changes of a batch.
pub(super) fn write(
    connection: &Connection,
    batch: &Batch,
    names: &Names,
    clock: &Clock,
    clock_id: i64,
) -> Result<(), Failure> {
    let mut put = connection.prepare(
        "INSERT OR REPLACE INTO bans
            (network, origin, scope, since, until, clock, reason, except_for)
            VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )?;
    let mut explain = connection.prepare(
        "INSERT OR REPLACE INTO evidence (network, origin, scope, failures)
            VALUES (?1, ?2, ?3, ?4)",
    )?;
    let mut remove = Removal::prepare(connection)?;
    for (key, change) in &batch.bans {
        let columns = KeyColumns::new(*key, names);
        let network = columns.network.as_slice();
        let Change::Put { entry, .. } = change else {
            remove.execute(&columns)?;
            continue;
        };
        let since = clock.utc(entry.ban.since);
        put.execute(params![
            network,
            columns.origin,
            columns.scope,
            since,
            entry.ban.until.map(|until| clock.utc(until)),
            clock_id,
            &*entry.reason,
            rows::exceptions(entry),
        ])?;
        if let Some(failures) = rows::evidence_column(entry.evidence(), clock) {
            explain.execute(params![network, columns.origin, columns.scope, failures])?;
        }
    }
    Ok(())
}

struct Removal<'a> {
    ban: Statement<'a>,
    evidence: Statement<'a>,
}

impl<'a> Removal<'a> {
    fn prepare(connection: &'a Connection) -> Result<Self, Failure> {
        let of = |table| {
            let sql =
                format!("DELETE FROM {table} WHERE network = ?1 AND origin = ?2 AND scope = ?3");
            connection.prepare(&sql)
        };
        Ok(Self { ban: of("bans")?, evidence: of("evidence")? })
    }

    fn execute(&mut self, key: &KeyColumns<'_>) -> Result<(), Failure> {
        for statement in [&mut self.ban, &mut self.evidence] {
            statement.execute(params![key.network.as_slice(), key.origin, key.scope])?;
        }
        Ok(())
    }
}

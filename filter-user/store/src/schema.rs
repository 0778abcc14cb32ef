//! The tables, and the way from each version of them to the next. Own code: `rusqlite_migration` would run the
//! same steps, but neither checks whose file it is nor writes that in the transaction of the steps.

use rusqlite::{Connection, TransactionBehavior};

use super::failure::Failure;

/// What `application_id` says: `Ring`.
const APPLICATION: i32 = 0x5269_6e67;

/// The step to each version from the one before. A step that was released stays as it is.
///
/// Times are nanoseconds of UTC since 1970. A network is a byte 4 or 6, its address, its length: in
/// that order networks are sorted as the ledger sorts them.
const STEPS: [&str; 8] = [
    "
    -- The boots in which rows were written: how far UTC was ahead of CLOCK_MONOTONIC.
    CREATE TABLE clocks (
        id INTEGER PRIMARY KEY,
        boot TEXT NOT NULL UNIQUE,
        ahead INTEGER NOT NULL
    ) STRICT;
    CREATE TABLE bans (
        network BLOB NOT NULL,
        origin TEXT NOT NULL,
        scope TEXT NOT NULL,
        since INTEGER NOT NULL,
        until INTEGER,              -- NULL: never
        clock INTEGER NOT NULL REFERENCES clocks (id),
        reason TEXT NOT NULL,
        except_for TEXT,            -- networks, with spaces between them
        PRIMARY KEY (network, origin, scope)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE evidence (
        network BLOB NOT NULL,
        origin TEXT NOT NULL,
        scope TEXT NOT NULL,
        failures TEXT NOT NULL,     -- JSON
        PRIMARY KEY (network, origin, scope)
    ) STRICT, WITHOUT ROWID;
    ",
    "
    CREATE TABLE offenders (
        network BLOB PRIMARY KEY,
        bans INTEGER NOT NULL,
        last INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    INSERT INTO offenders
        SELECT network, count(*), max(since) FROM bans WHERE origin <> 'manual' GROUP BY network;
    CREATE INDEX offenders_by_last ON offenders (last);
    CREATE TABLE positions (
        name TEXT PRIMARY KEY,
        position BLOB NOT NULL
    ) STRICT, WITHOUT ROWID;
    ",
    "
    CREATE TABLE offences (
        network BLOB NOT NULL,      -- an address
        jail TEXT NOT NULL,         -- '': not written down
        bans INTEGER NOT NULL,
        proven INTEGER NOT NULL,    -- so many of them
        last INTEGER NOT NULL,      -- when the last one came
        until INTEGER NOT NULL,     -- when the last of them ends
        last_proven INTEGER,        -- when the last proven one came
        PRIMARY KEY (network, jail)
    ) STRICT, WITHOUT ROWID;
    INSERT INTO offences SELECT network, '', bans, 0, last, last, NULL FROM offenders;
    CREATE INDEX offences_by_until ON offences (until);
    DROP TABLE offenders;
    ",
    "
    -- What the jails were told, in that order.
    CREATE TABLE told (
        clock INTEGER NOT NULL REFERENCES clocks (id),
        number INTEGER NOT NULL,    -- at, or one more than the number before
        at INTEGER NOT NULL,        -- nanoseconds of CLOCK_MONOTONIC in that boot
        jail TEXT NOT NULL,
        what TEXT NOT NULL,         -- JSON
        PRIMARY KEY (clock, number)
    ) STRICT, WITHOUT ROWID;
    ",
    "
    -- What somebody has decided, until they decide otherwise.
    CREATE TABLE decisions (
        kind TEXT NOT NULL,
        name TEXT NOT NULL,
        value TEXT NOT NULL,        -- JSON
        PRIMARY KEY (kind, name)
    ) STRICT, WITHOUT ROWID;
    -- Bans that have ended, and manual changes.
    CREATE TABLE history (
        number INTEGER PRIMARY KEY,
        at INTEGER NOT NULL,
        network BLOB,
        what TEXT NOT NULL          -- JSON
    ) STRICT;
    ",
    "
    -- What each jail has counted since the first time.
    CREATE TABLE totals (
        jail TEXT PRIMARY KEY,
        failures INTEGER NOT NULL,
        bans INTEGER NOT NULL,
        since INTEGER NOT NULL      -- when the first of them was counted
    ) STRICT, WITHOUT ROWID;
    ",
    "
    -- Packets by time and reason. Times and steps are seconds.
    CREATE TABLE traffic (
        step INTEGER NOT NULL,
        at INTEGER NOT NULL,
        reason TEXT NOT NULL,
        packets INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        PRIMARY KEY (step, at, reason)
    ) STRICT, WITHOUT ROWID;
    ",
    "
    CREATE TABLE peers (
        address BLOB PRIMARY KEY,
        since INTEGER NOT NULL,     -- when it was known last
        until INTEGER NOT NULL      -- when it is forgotten
    ) STRICT, WITHOUT ROWID;
    ",
];

/// The version that this program writes.
pub(super) const VERSION: usize = STEPS.len();

/// Brings the file to this version. Returns the version it had: 0 for a new file.
pub(super) fn migrate(connection: &mut Connection) -> Result<usize, Failure> {
    migrate_to(connection, VERSION)
}

pub(super) fn migrate_to(connection: &mut Connection, wanted: usize) -> Result<usize, Failure> {
    let number = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i32>(0));
    let (application, version) = (number("application_id")?, number("user_version")?);
    let is_empty: bool =
        connection
            .query_row("SELECT NOT EXISTS (SELECT 1 FROM sqlite_schema)", [], |row| row.get(0))?;
    if !is_empty && application != APPLICATION {
        return Err(Failure::Broken("it is the database of another program".to_owned()));
    }
    let version = usize::try_from(version).unwrap_or(usize::MAX);
    if version > VERSION || (version == 0) != is_empty {
        return Err(Failure::Broken(format!(
            "it is of version {version}, and this program writes version {VERSION}"
        )));
    }
    if version < wanted {
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for step in STEPS.iter().take(wanted).skip(version) {
            transaction.execute_batch(step)?;
        }
        transaction.pragma_update(None, "application_id", APPLICATION)?;
        transaction.pragma_update(
            None,
            "user_version",
            i32::try_from(wanted).unwrap_or(i32::MAX),
        )?;
        transaction.commit()?;
    }
    Ok(version)
}

//! The database file: opens, reads and writes it.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;
use log::warn;
use nix::unistd::{AccessFlags, access};
use rusqlite::config::DbConfig;
use rusqlite::{Connection, OpenFlags, TransactionBehavior, params};

use super::aside::with;
use super::copy::Copy;
use super::failure::Failure;
use super::history::{self, HistoryQuery, Past};
use super::offences::{self, OffencesRow};
use super::pending::Batch;
use super::rows::{KeptEvidence, NetworkBytes, Offences};
use super::times::Clock;
use super::traffic::{self, Traffic, TrafficQuery};
use super::{Found, Kept, Names, bans, decisions, jail_records, peers, positions, schema, totals};
use detection::ban::{Entry, Key};
use detection::clock::Moment;
use detection::escalation::Bounds;

/// The most bans whose evidence is shown for one address, and the most jails whose earlier bans are
/// shown.
const EVIDENCE_SHOWN: usize = 16;

/// The start of the name of a copy's directory.
const COPY_TO_PEEK: &str = "store-peek";

/// How far the records of attempts may exceed their bound before they are trimmed.
const JAIL_RECORDS_SURPLUS: usize = 8192;

/// The open file. No other process can write it meanwhile.
pub(super) struct Database {
    connection: Connection,
    clock: Clock,
    clock_id: i64,
    path: PathBuf,
    /// The state of the file and its log after the last write here.
    marks: Marks,
    is_new: bool,
    /// How long the records of attempts are kept.
    findtime: Duration,
    /// How many rows of that record were written since it was last trimmed.
    jail_records: usize,
    /// The same of the history.
    happened: usize,
}

/// The contents of a file.
#[derive(Debug, Default)]
pub(super) struct Contents {
    pub(super) kept: Kept,
    /// The number of rows that this program cannot interpret; they stay.
    pub(super) unread: usize,
    pub(super) offences: Vec<OffencesRow>,
}

impl Contents {
    fn take(&mut self, bans: bans::Found) {
        let bans::Found { in_force, ended, unread } = bans;
        (self.kept.bans, self.kept.ended, self.unread) = (in_force, ended, unread);
    }
}

impl Database {
    /// Opens the file, creating it if necessary, and migrates it to this version.
    pub(super) fn open(path: &Path, clock: Clock, findtime: Duration) -> Result<Self, Failure> {
        // Created here, because it names attackers' accounts and so is only for root.
        OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(path)
            .map_err(|error| Failure::Retry(format!("open {}: {error}", path.display())))?;
        if let Some(directory) = path.parent() {
            File::open(directory)?.sync_all()?;
        }
        let mut connection = connect(path)?;
        let version = schema::migrate(&mut connection)?;
        // Only after that check: another program's file stays unchanged.
        connection.pragma_update_and_check(None, "journal_mode", "WAL", |_| Ok(()))?;
        if let Some(directory) = path.parent() {
            positions::import_files(&mut connection, directory)?;
        }
        let (marks, is_new) = (Marks::default(), version == 0);
        let path = path.to_owned();
        let mut database = Self {
            connection,
            clock,
            clock_id: 0,
            path,
            marks,
            is_new,
            findtime,
            jail_records: 0,
            happened: 0,
        };
        database.clock_id = database.write_clock()?;
        database.mark();
        Ok(database)
    }

    /// Whether [`open`](Self::open) created the file.
    pub(super) fn is_new(&self) -> bool {
        self.is_new
    }

    fn write_clock(&self) -> Result<i64, Failure> {
        let clock = &self.clock;
        self.connection.execute(
            "INSERT INTO clocks (boot, ahead) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            params![clock.boot, clock.ahead],
        )?;
        let sql = "SELECT id FROM clocks WHERE boot = ?1";
        Ok(self.connection.query_row(sql, [&clock.boot], |row| row.get(0))?)
    }

    /// Reads the file's contents, and selects the clock of this boot for new rows.
    pub(super) fn load(&mut self, names: &Names) -> Result<Contents, Failure> {
        let now = self.clock.clone();
        let mut contents = Contents::default();
        let mut found = bans::Found::default();
        bans::read(&self.connection, &now, names, "", &mut found)?;
        contents.take(found);
        contents.kept.positions = positions::read(&self.connection)?;
        contents.kept.jail_records = jail_records::read(&self.connection, &now, self.findtime)?;
        contents.kept.decisions = decisions::read(&self.connection)?;
        contents.kept.totals = totals::read(&self.connection, &now)?;
        contents.kept.peers = peers::read(&self.connection, &now)?;
        offences::read(&self.connection, &mut contents.offences)?;
        let known = contents.offences.iter().filter_map(|row| row.record(names, &now));
        contents.kept.offences = known.collect();
        let sql = "SELECT ahead FROM clocks WHERE id = ?1";
        self.clock.ahead = self.connection.query_row(sql, [self.clock_id], |row| row.get(0))?;
        Ok(contents)
    }

    /// Deletes rows that are no longer needed, and rows beyond these bounds.
    pub(super) fn tidy(&mut self, bounds: &Bounds, now: &Clock) -> Result<(), Failure> {
        let clocks =
            "DELETE FROM clocks WHERE id <> ?1 AND id NOT IN (SELECT DISTINCT clock FROM bans)";
        let boots: i64 =
            self.connection.query_row("SELECT count(*) FROM clocks", [], |row| row.get(0))?;
        if boots > 1 {
            jail_records::tidy(&self.connection, self.clock_id)?;
            self.connection.execute(clocks, [self.clock_id])?;
        }
        jail_records::shorten(&self.connection, self.clock_id)?;
        history::tidy(&self.connection, now)?;
        traffic::tidy(&self.connection, now)?;
        peers::tidy(&self.connection, now)?;
        let remember = i64::try_from(bounds.remember.as_nanos()).unwrap_or(i64::MAX);
        let old = "DELETE FROM offences WHERE until < ?1";
        self.connection.execute(old, [now.now.saturating_sub(remember)])?;
        let many = "DELETE FROM offences WHERE (network, jail) IN (
            SELECT network, jail FROM offences ORDER BY proven > 0, until
            LIMIT max(0, (SELECT count(*) FROM offences) - ?1))";
        self.connection.execute(many, [i64::try_from(bounds.capacity).unwrap_or(i64::MAX)])?;
        self.mark();
        Ok(())
    }

    /// Writes a whole batch or nothing. If it fails, returns the failure and whether the result is
    /// uncertain.
    pub(super) fn write(
        &mut self,
        batch: &Batch,
        names: &Names,
        now: &Clock,
    ) -> Result<(), (Failure, bool)> {
        let sure = |failure: Failure| (failure, false);
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)
            .map_err(|error| sure(error.into()))?;
        if now.has_stepped_since(&self.clock) {
            shift(&transaction, self.clock_id, &self.clock, now).map_err(sure)?;
        }
        let clock = if now.has_stepped_since(&self.clock) { now } else { &self.clock };
        bans::write(&transaction, batch, names, clock, self.clock_id).map_err(sure)?;
        offences::write(&transaction, batch, names, clock).map_err(sure)?;
        positions::write(&transaction, &batch.positions).map_err(sure)?;
        let decided = batch.decisions.iter().map(|(key, value)| (key, value.as_ref()));
        decisions::write(&transaction, decided).map_err(sure)?;
        totals::write(&transaction, &batch.totals, clock).map_err(sure)?;
        history::write(&transaction, &batch.history, clock).map_err(sure)?;
        traffic::write(&transaction, &batch.traffic).map_err(sure)?;
        peers::write(&transaction, &batch.peers, clock).map_err(sure)?;
        let happened = self.happened.saturating_add(batch.history.len());
        if happened > JAIL_RECORDS_SURPLUS {
            history::shorten(&transaction).map_err(sure)?;
        }
        let jail_records =
            batch.jail_records.iter().map(|(number, jail_records)| (*number, jail_records));
        jail_records::write(&transaction, jail_records, (now, self.clock_id), self.findtime)
            .map_err(sure)?;
        let jail_records = self.jail_records.saturating_add(batch.jail_records.len());
        if jail_records > JAIL_RECORDS_SURPLUS {
            jail_records::shorten(&transaction, self.clock_id).map_err(sure)?;
        }
        let clock = clock.clone();
        transaction.commit().map_err(|error| (error.into(), true))?;
        self.clock = clock;
        self.mark();
        self.happened = if happened > JAIL_RECORDS_SURPLUS { 0 } else { happened };
        self.jail_records = if jail_records > JAIL_RECORDS_SURPLUS { 0 } else { jail_records };
        Ok(())
    }

    /// Whether the file and its log are as this process left them. No other process may write them.
    ///
    /// # Errors
    ///
    /// A description of the change, with the path of the file.
    pub(super) fn check(&self) -> Result<(), String> {
        let Marks { file, log } = &self.marks;
        let log_path = with(&self.path, "-wal");
        for (path, left) in [(&self.path, file), (&log_path, log)] {
            let now = Mark::of(path);
            if now != *left {
                let what = if now.is_none() { "taken away" } else { "changed by another process" };
                return Err(format!("{} was {what}", path.display()));
            }
        }
        Ok(())
    }

    /// The positions of the sources and the records of attempts, from a file that was moved away: the
    /// open file still has everything. Empty if another file may have replaced it.
    pub(super) fn rescue(&self, now: &Clock) -> Contents {
        let mut contents = Contents::default();
        let Marks { file, log } = &self.marks;
        let is_whole = |path: &Path, left: &Option<Mark>| {
            let now = Mark::of(path);
            now.is_none() || now == *left
        };
        if is_whole(&self.path, file) && is_whole(&with(&self.path, "-wal"), log) {
            contents.kept.positions = positions::read(&self.connection).unwrap_or_default();
            contents.kept.jail_records =
                jail_records::read(&self.connection, now, self.findtime).unwrap_or_default();
            contents.kept.decisions = decisions::read(&self.connection).unwrap_or_default();
            contents.kept.totals = totals::read(&self.connection, now).unwrap_or_default();
        }
        contents
    }

    /// Closes a file that is not as it was left, without changing it: the log must not be written to a
    /// file that is in its place now.
    pub(super) fn abandon(self) {
        let off = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
        debug_assert!(off.is_ok(), "{off:?}");
    }

    /// Whether the wall clock has been set since the last write.
    pub(super) fn is_out_of_date(&self, now: &Clock) -> bool {
        now.has_stepped_since(&self.clock)
    }

    fn mark(&mut self) {
        self.marks = Marks { file: Mark::of(&self.path), log: Mark::of(&with(&self.path, "-wal")) };
    }

    /// Writes the contents that were read from a broken file.
    pub(super) fn restore(&mut self, contents: &Contents) -> Result<(), Failure> {
        let transaction = self.connection.transaction()?;
        offences::restore(&transaction, &contents.offences)?;
        positions::write(&transaction, &contents.kept.positions)?;
        let decided = contents.kept.decisions.iter().map(|(key, value)| (key, Some(value)));
        decisions::write(&transaction, decided)?;
        totals::write(&transaction, &contents.kept.totals, &self.clock)?;
        let jail_records = &contents.kept.jail_records;
        let jail_records = jail_records.iter().enumerate().map(|(place, jail_records)| {
            let number =
                Moment::from(jail_records.at).0.saturating_add(i64::try_from(place).unwrap_or(0));
            (number, jail_records)
        });
        jail_records::write(
            &transaction,
            jail_records,
            (&self.clock, self.clock_id),
            self.findtime,
        )?;
        transaction.commit()?;
        self.mark();
        Ok(())
    }

    /// A part of the history.
    pub(super) fn history(&self, query: &HistoryQuery, now: &Clock) -> Result<Vec<Past>, Failure> {
        history::read(&self.connection, query, now)
    }

    /// A part of the recorded traffic.
    pub(super) fn traffic(&self, query: &TrafficQuery) -> Result<Vec<Traffic>, Failure> {
        traffic::read(&self.connection, query)
    }

    /// What is known of offenders with these networks, and of the bans of exactly these networks.
    pub(super) fn look_up(&self, networks: &BTreeSet<IpNet>) -> Result<Found, Failure> {
        let mut found = Found::default();
        for network in networks {
            let column = NetworkBytes::new(*network);
            let sql = "SELECT origin, scope, failures FROM evidence WHERE network = ?1";
            let mut statement = self.connection.prepare(sql)?;
            let evidence = statement.query_map([column.as_slice()], |row| {
                let failures: String = row.get(2)?;
                Ok(KeptEvidence::read(*network, row.get(0)?, row.get(1)?, &failures))
            })?;
            for evidence in evidence.take(EVIDENCE_SHOWN) {
                found.evidence.push(evidence?);
            }
            // An offender's key is its first address.
            let column = NetworkBytes::new(network.addr().into());
            let sql = "SELECT jail, bans, proven, last FROM offences WHERE network = ?1";
            let mut statement = self.connection.prepare(sql)?;
            let offences = statement.query_map([column.as_slice()], Offences::read)?;
            for offences in offences.take(EVIDENCE_SHOWN) {
                found.offences.push(offences?);
            }
        }
        Ok(found)
    }
}

/// Reads as much as possible from a broken file: the bans from both ends up to the place where it is
/// broken.
///
/// Returns whether everything could be read.
pub(super) fn salvage(
    path: &Path,
    now: &Clock,
    names: &Names,
    findtime: Duration,
    memory: &Path,
) -> (Contents, bool) {
    let found = connect(path).map(|connection| read_all(&connection, now, names, findtime));
    match found {
        Ok((contents, true)) => (contents, true),
        // A disk that cannot be written takes no log; without a log, the file has everything.
        _ if !with(path, "-wal").exists() => match connect_unwritable(path) {
            Ok(connection) => read_all(&connection, now, names, findtime),
            Err(_closed) => (Contents::default(), false),
        },
        // The log may change during the copy if another process has it open.
        found if access(path, AccessFlags::W_OK).is_ok() => found.unwrap_or_default(),
        found => {
            let copy = Copy::make(path, memory).and_then(|copy| {
                connect(&copy.path()).map(|open| read_all(&open, now, names, findtime))
            });
            match copy {
                Ok((contents, true)) => (contents, true),
                Ok(_) | Err(_) => found.unwrap_or_default(),
            }
        }
    }
}

/// Reads the file without locking or changing it, while no process writes it.
///
/// Returns whether everything could be read.
pub(super) fn peek(
    path: &Path,
    now: &Clock,
    names: &Names,
    findtime: Duration,
    memory: &Path,
) -> Result<(Contents, bool), Failure> {
    let read = |connection: &Connection| read_all(connection, now, names, findtime);
    if !with(path, "-wal").exists() {
        return connect_unwritable(path).map(|connection| read(&connection));
    }
    // Reading the log would write it into the file.
    let name = format!("{COPY_TO_PEEK}-{}", std::process::id());
    let copy = Copy::make_in(path, memory, &name)?;
    connect(&copy.path()).map(|connection| read(&connection))
}

fn read_all(
    connection: &Connection,
    now: &Clock,
    names: &Names,
    findtime: Duration,
) -> (Contents, bool) {
    let mut contents = Contents::default();
    let mut found = bans::Found::default();
    let bans = bans::read(connection, now, names, "", &mut found);
    if bans.is_err() {
        let mut behind = bans::Found::default();
        let _broken = bans::read(connection, now, names, "ORDER BY network DESC", &mut behind);
        let mut seen: HashSet<Key> = found.in_force.iter().map(Entry::key).collect();
        behind.in_force.retain(|entry| seen.insert(entry.key()));
        found.in_force.append(&mut behind.in_force);
        found.in_force.sort_by_key(Entry::key);
        found.ended.append(&mut behind.ended);
    }
    contents.take(found);
    let positions = positions::read(connection);
    let jail_records = jail_records::read(connection, now, findtime);
    let decisions = decisions::read(connection);
    let totals = totals::read(connection, now);
    let offences = offences::read(connection, &mut contents.offences);
    let complete = bans.is_ok() && positions.is_ok() && jail_records.is_ok() && offences.is_ok();
    contents.kept.offences =
        contents.offences.iter().filter_map(|row| row.record(names, now)).collect();
    contents.kept.positions = positions.unwrap_or_default();
    contents.kept.jail_records = jail_records.unwrap_or_default();
    // A file of an earlier version has none.
    contents.kept.decisions = decisions.unwrap_or_default();
    contents.kept.totals = totals.unwrap_or_default();
    contents.kept.peers = peers::read(connection, now).unwrap_or_default();
    (contents, complete)
}

/// For a file on a disk that cannot be written (`sqlite.org/uri.html`, `immutable`).
fn connect_unwritable(path: &Path) -> Result<Connection, Failure> {
    let mut uri = "file:".to_owned();
    for byte in path.as_os_str().as_encoded_bytes() {
        if byte.is_ascii_alphanumeric() || b"/-_.".contains(byte) {
            uri.push(char::from(*byte));
        } else {
            uri.push('%');
            for half in [byte >> 4, byte & 15] {
                uri.extend(char::from_digit(half.into(), 16));
            }
        }
    }
    uri.push_str("?immutable=1");
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
        | OpenFlags::SQLITE_OPEN_NO_MUTEX
        | OpenFlags::SQLITE_OPEN_URI;
    Ok(Connection::open_with_flags(uri, flags)?)
}

fn connect(path: &Path) -> Result<Connection, Failure> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(1))?;
    // With one process, the log needs no shared memory, and no other process can write.
    connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
    connection.pragma_update(None, "cell_size_check", true)?;
    connection.pragma_update(None, "trusted_schema", false)?;
    connection.pragma_update(None, "temp_store", "MEMORY")?;
    // A commit is on the disk when it returns (`sqlite.org/pragma.html#pragma_synchronous`).
    connection.pragma_update(None, "synchronous", "FULL")?;
    Ok(connection)
}

/// The state of the file and its log.
#[derive(Debug, Default)]
struct Marks {
    file: Option<Mark>,
    log: Option<Mark>,
}

/// The state of a file: values that change with every write, truncation or replacement.
#[derive(Debug, PartialEq, Eq)]
struct Mark {
    device: u64,
    number: u64,
    size: u64,
    written: (i64, i64),
}

impl Mark {
    /// `None` if there is no such file.
    fn of(path: &Path) -> Option<Self> {
        let file = fs::metadata(path).ok()?;
        let written = (file.mtime(), file.mtime_nsec());
        Some(Self { device: file.dev(), number: file.ino(), size: file.len(), written })
    }
}

/// The wall clock was set: times written by it in this boot are corrected.
fn shift(connection: &Connection, id: i64, old: &Clock, new: &Clock) -> Result<(), Failure> {
    let by = new.ahead.saturating_sub(old.ahead);
    connection.execute("UPDATE clocks SET ahead = ?2 WHERE id = ?1", params![id, new.ahead])?;
    let sql = "UPDATE bans SET since = since + ?2, until = until + ?2 WHERE clock = ?1";
    let rows = connection.execute(sql, params![id, by])?;
    let sql = "UPDATE evidence
        SET failures = (SELECT json_group_array(json_set(value, '$.at', value ->> '$.at' + ?2))
            FROM json_each(failures))
        WHERE json_valid(failures) AND (network, origin, scope) IN
            (SELECT network, origin, scope FROM bans WHERE clock = ?1)";
    connection.execute(sql, params![id, by])?;
    warn!(
        "the wall clock was set by {} s: the stored times of {rows} bans were corrected",
        by / 1_000_000_000
    );
    Ok(())
}

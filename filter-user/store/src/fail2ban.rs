//! Reads the bans in force from fail2ban's own database, without changing it.
//!
//! Must never write to it.

use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use detection::ban::foreign::{Banned, Bans};
use ipnet::IpNet;
use jiff::Timestamp;
use rusqlite::{Connection, OpenFlags, Row};

/// The schema versions that are read: those with a ban time for each ban, from fail2ban 0.11 and later.
const VERSION: i64 = 4;

/// How long to wait for a writer.
const PATIENCE: Duration = Duration::from_secs(5);

/// The most bans that are read: the most that a configuration allows.
const BANS_MAX: usize = 10_000_000;

/// Reads the bans that are in force `now`. Writes nothing, not even beside the file.
///
/// # Errors
///
/// If the database cannot be read; the error says why.
pub fn read(path: &Path, now: Timestamp) -> Result<Bans, String> {
    if !path.is_file() {
        return Err("does not exist; give fail2ban's database with `--database`".to_owned());
    }
    let sql = |why: rusqlite::Error| format!("cannot be read as fail2ban's database: {why}");
    let database =
        Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY).map_err(sql)?;
    database.busy_timeout(PATIENCE).map_err(sql)?;
    let version: i64 = database
        .query_row("SELECT version FROM fail2banDb LIMIT 1", [], |row| row.get(0))
        .map_err(sql)?;
    if version != VERSION {
        return Err(format!(
            "has version {version} of fail2ban's schema; only version {VERSION} is supported \
             (fail2ban 0.11 and later)"
        ));
    }
    let mut statement = database
        .prepare(
            "SELECT jail, ip, CAST(timeofban AS INTEGER), CAST(bantime AS INTEGER) FROM bips \
             WHERE bantime = -1 OR timeofban + bantime > ?1 ORDER BY jail, ip",
        )
        .map_err(sql)?;
    let mut rows = statement.query([now.as_second()]).map_err(sql)?;
    let mut bans = Bans::default();
    while let Some(row) = rows.next().map_err(sql)? {
        match ban(row) {
            Some(ban) if bans.in_force.len() < BANS_MAX => bans.in_force.push(ban),
            _ => bans.unreadable += 1,
        }
    }
    Ok(bans)
}

/// A row, with values of any types.
fn ban(row: &Row<'_>) -> Option<Banned> {
    let text: String = row.get(1).ok()?;
    let network = match text.parse::<IpAddr>() {
        Ok(address) => IpNet::from(address.to_canonical()),
        Err(_) => text.parse::<IpNet>().ok()?.trunc(),
    };
    let since = Timestamp::from_second(row.get(2).ok()?).ok()?;
    let until = match row.get(3).ok()? {
        -1 => None,
        seconds => Some(Timestamp::from_second(since.as_second().checked_add(seconds)?).ok()?),
    };
    Some(Banned { jail: row.get(0).ok()?, network, until })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// fail2ban's table of bans, with the columns that are read and these rows.
    fn database(version: i64, rows: &[(&str, &str, &str, i64)]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        let database = Connection::open(directory.path().join("f.sqlite3")).unwrap();
        let schema = "CREATE TABLE fail2banDb(version INTEGER);
            CREATE TABLE bips(ip TEXT NOT NULL, jail TEXT NOT NULL, timeofban INTEGER NOT NULL,
                bantime INTEGER NOT NULL, bancount INTEGER NOT NULL default 1, data JSON,
                PRIMARY KEY(ip, jail));";
        database.execute_batch(schema).unwrap();
        database.execute("INSERT INTO fail2banDb VALUES(?1)", [version]).unwrap();
        for row in rows {
            let text = "INSERT INTO bips(jail, ip, timeofban, bantime) VALUES(?1, ?2, ?3, ?4)";
            database.execute(text, *row).unwrap();
        }
        directory
    }

    fn read_at(directory: &tempfile::TempDir, second: i64) -> Result<Bans, String> {
        read(&directory.path().join("f.sqlite3"), Timestamp::from_second(second).unwrap())
    }

    #[test]
    fn bans_that_have_not_ended_are_read() {
        let rows = [
            ("sshd", "192.0.2.1", "1000", 600),
            ("sshd", "192.0.2.2", "1000", 60),
            ("sshd", "2001:db8::/64", "1000", -1),
            ("web", "::ffff:192.0.2.3", "1500", 600),
            ("web", "root", "1500", 600),
            ("web", "192.0.2.4", "1500", i64::MAX),
        ];
        let bans = read_at(&database(4, &rows), 1550).unwrap();
        let found: Vec<_> = bans
            .in_force
            .iter()
            .map(|ban| {
                (ban.jail.as_str(), ban.network.to_string(), ban.until.map(Timestamp::as_second))
            })
            .collect();
        let expected = [
            ("sshd", "192.0.2.1/32".to_owned(), Some(1600)),
            ("sshd", "2001:db8::/64".to_owned(), None),
            ("web", "192.0.2.3/32".to_owned(), Some(2100)),
        ];
        assert_eq!(found, expected);
        assert!(bans.unreadable >= 1, "{bans:?}");
    }

    #[test]
    fn nothing_is_written() {
        let directory = database(4, &[]);
        let files = || std::fs::read_dir(directory.path()).unwrap().count();
        let before = (files(), std::fs::read(directory.path().join("f.sqlite3")).unwrap());
        read_at(&directory, 0).unwrap();
        assert_eq!((files(), std::fs::read(directory.path().join("f.sqlite3")).unwrap()), before);
    }

    #[test]
    fn a_file_that_is_not_a_fail2ban_database_is_refused() {
        let error = read_at(&database(2, &[]), 0).unwrap_err();
        assert!(error.contains("version 2"), "{error}");
        let directory = tempfile::tempdir().unwrap();
        let error = read_at(&directory, 0).unwrap_err();
        assert!(error.contains("does not exist"), "{error}");
        std::fs::write(directory.path().join("f.sqlite3"), "no database, by far").unwrap();
        let error = read_at(&directory, 0).unwrap_err();
        assert!(error.contains("cannot be read as fail2ban's database"), "{error}");
    }
}

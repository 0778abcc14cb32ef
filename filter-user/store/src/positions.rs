//! How far the sources were read, by name.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use log::warn;
use rusqlite::{Connection, params};

use super::failure::Failure;
use super::{POSITION_KEY_MAX, POSITION_MAX, POSITIONS_MAX};

/// The suffix of the files in which earlier versions kept positions.
const FILE_ENDING: &str = "position";

pub(super) fn read(connection: &Connection) -> Result<BTreeMap<String, Vec<u8>>, Failure> {
    let sql = "SELECT name, position FROM positions WHERE length(position) <= ?1";
    let mut statement = connection.prepare(sql)?;
    let longest = i64::try_from(POSITION_MAX).unwrap_or(i64::MAX);
    let found = statement.query_map([longest], |row| Ok((row.get(0)?, row.get(1)?)))?;
    Ok(found.take(POSITIONS_MAX).collect::<Result<_, _>>()?)
}

pub(super) fn write(
    connection: &Connection,
    positions: &BTreeMap<String, Vec<u8>>,
) -> Result<(), Failure> {
    if positions.is_empty() {
        return Ok(());
    }
    let sql = "INSERT OR REPLACE INTO positions (name, position) VALUES (?1, ?2)";
    let mut put = connection.prepare(sql)?;
    for (name, position) in positions {
        put.execute(params![name, position])?;
    }
    Ok(())
}

/// Imports the positions that an earlier version kept in files, and removes the files.
pub(super) fn import_files(connection: &mut Connection, directory: &Path) -> Result<(), Failure> {
    let files = files_in(directory)?;
    if files.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (name, path) in &files {
        let known = fs::metadata(path)?.len() <= POSITION_MAX as u64;
        let sql = "INSERT OR IGNORE INTO positions (name, position) VALUES (?1, ?2)";
        if known && name.len() <= POSITION_KEY_MAX {
            transaction.execute(sql, params![name, fs::read(path)?])?;
        }
    }
    transaction.commit()?;
    for (_, path) in files {
        if let Err(why) = fs::remove_file(&path) {
            warn!("remove {}, which has been moved to the store: {why}", path.display());
        }
    }
    Ok(())
}

fn files_in(directory: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_stem().and_then(OsStr::to_str);
        if path.extension() == Some(OsStr::new(FILE_ENDING))
            && let Some(name) = name
        {
            files.push((name.to_owned(), path.clone()));
        }
    }
    Ok(files)
}

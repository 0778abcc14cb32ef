//! Manual decisions that apply until they are changed, by kind and name. The value is JSON that only the
//! daemon understands.
//!
//! Must never grow without a bound.

use std::collections::BTreeMap;

use rusqlite::{Connection, params};

use super::failure::Failure;

/// The most decisions that are kept.
pub const DECISIONS_MAX: usize = 4096;

/// The longest value of a decision, in bytes.
pub const DECISION_MAX: usize = 4096;

/// What a decision is about: its kind and its name.
pub type DecisionKey = (String, String);

/// Reads the decisions.
pub(super) fn read(connection: &Connection) -> Result<BTreeMap<DecisionKey, String>, Failure> {
    let sql = "SELECT kind, name, value FROM decisions WHERE length(value) <= ?1";
    let mut statement = connection.prepare(sql)?;
    let longest = i64::try_from(DECISION_MAX).unwrap_or(i64::MAX);
    let found = statement
        .query_map([longest], |row| Ok(((row.get(0)?, row.get(1)?), row.get::<_, String>(2)?)))?;
    Ok(found.take(DECISIONS_MAX).collect::<Result<_, _>>()?)
}

/// Writes decisions, and removes those without a value.
pub(super) fn write<'a>(
    connection: &Connection,
    decisions: impl IntoIterator<Item = (&'a DecisionKey, Option<&'a String>)>,
) -> Result<(), Failure> {
    for ((kind, name), value) in decisions {
        match value {
            Some(value) => connection.execute(
                "INSERT OR REPLACE INTO decisions (kind, name, value) VALUES (?1, ?2, ?3)",
                params![kind, name, value],
            )?,
            None => connection.execute(
                "DELETE FROM decisions WHERE kind = ?1 AND name = ?2",
                params![kind, name],
            )?,
        };
    }
    Ok(())
}

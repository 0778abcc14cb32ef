//! Kinds of values: each kind can read a value from a file, show it and describe it.
//!
//! A setting is a row of `schema` that names a kind. Values are compared in the form in which they are
//! shown.

mod feeds;
mod hosts;
mod lists;
mod numbers;
mod texts;

use serde_json::Value as Json;

pub(super) use self::feeds::Format;
pub(super) use self::hosts::Hosts;
pub(super) use self::lists::{
    Files, Interfaces, Items, Multipliers, Places, Ports, Services, UserAgents,
};
pub(super) use self::numbers::{Count, Factor, Length, Port, Rate, Time, TimeOrZero};
pub(super) use self::texts::{
    Choice, Flag, OptionalPath, OptionalScope, OrNone, Path, Scope, Text, Word,
};
use super::yaml::{Node, Position, Scalar, Value};
use crate::duration::snippet;

/// The most entries of one list. The kernel's maps are sized for it.
pub const LIST_MAX: usize = 1024;

/// A kind of value, over the field of the configuration that has the value.
pub(super) trait Kind {
    /// Takes the value of `node`, or leaves the field and returns everything that is wrong with it.
    fn read(&mut self, node: &Node) -> Read<()>;

    /// The value as `--json` and the effective configuration show it, which a file can have.
    fn value(&self) -> Json;

    /// A description of a correct value, for an error message.
    fn expected(&self) -> String;

    /// A possible value for the documentation.
    fn example(&self) -> Json {
        self.value()
    }

    /// The unit of the value; empty if it has none.
    fn unit(&self) -> &'static str {
        ""
    }
}

/// An error in one value.
pub(super) enum Wrong {
    /// It is this instead of the expected kind.
    Mismatch(String),
    /// It has the right shape, but is invalid for this reason.
    Value(String),
    /// An entry of the list is invalid.
    Item(String),
}

pub(super) type Read<T> = Result<T, Vec<(Position, Wrong)>>;

fn one<T>(node: &Node, read: impl Fn(&Scalar) -> Result<T, Wrong>) -> Read<T> {
    match &node.value {
        Value::Scalar(scalar) if !scalar.is_null() => {
            read(scalar).map_err(|wrong| vec![(node.at, wrong)])
        }
        Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
            Err(vec![(node.at, Wrong::Mismatch(found(&node.value)))])
        }
    }
}

fn many<T>(node: &Node, read: impl Fn(&Scalar) -> Result<T, String>) -> Read<Vec<T>> {
    let items = match &node.value {
        Value::List(items) => items,
        Value::Scalar(scalar) if !scalar.is_null() => {
            let text = snippet(&scalar.text);
            // fail2ban separates addresses in this way.
            let separator = |c: char| c == ',' || c.is_whitespace();
            let items: Vec<&str> = text.split(separator).filter(|item| !item.is_empty()).collect();
            let reason = format!("write `{text}` as a list: `[{}]`", items.join(", "));
            return Err(vec![(node.at, Wrong::Value(reason))]);
        }
        Value::Scalar(_) | Value::Map(_) => {
            return Err(vec![(node.at, Wrong::Mismatch(found(&node.value)))]);
        }
    };
    if items.len() > LIST_MAX {
        return Err(too_many(node, items.len(), "entries", LIST_MAX));
    }
    let mut values = Vec::with_capacity(items.len());
    let mut wrongs = Vec::new();
    for item in items {
        let value = match &item.value {
            Value::Scalar(scalar) if !scalar.is_null() => read(scalar),
            Value::Scalar(_) | Value::List(_) | Value::Map(_) => {
                Err(format!("an entry is {}", found(&item.value)))
            }
        };
        match value {
            Ok(value) => values.push(value),
            Err(reason) => wrongs.push((item.at, Wrong::Item(reason))),
        }
    }
    if wrongs.is_empty() { Ok(values) } else { Err(wrongs) }
}

/// At most `most` values.
fn at_most<T>(node: &Node, most: usize, values: Vec<T>) -> Read<Vec<T>> {
    if values.len() > most {
        return Err(too_many(node, values.len(), "entries", most));
    }
    Ok(values)
}

fn too_many(node: &Node, count: usize, what: &str, most: usize) -> Vec<(Position, Wrong)> {
    let reason = format!("{count} {what}; at most {most} are possible");
    vec![(node.at, Wrong::Value(reason))]
}

/// A description of `value`, for an error message.
pub(super) fn found(value: &Value) -> String {
    match value {
        Value::Scalar(scalar) if scalar.is_null() => "empty".into(),
        Value::Scalar(scalar) if scalar.plain => format!("`{}`", snippet(&scalar.text)),
        Value::Scalar(scalar) => format!("the text `\"{}\"`", snippet(&scalar.text)),
        Value::List(_) => "a list".into(),
        Value::Map(_) => "a section".into(),
    }
}

fn mismatch(scalar: &Scalar) -> Wrong {
    Wrong::Mismatch(found(&Value::Scalar(scalar.clone())))
}

/// Whether YAML readers break lines at a character or drop it. No name needs one.
fn is_invisible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}' | '\u{feff}')
}

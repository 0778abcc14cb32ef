//! Every setting in one table: its path, description, field and valid values.
//!
//! A section declares its rows with [`section!`](super::section::section), or with the macro of the same name if another
//! crate declares it. Reading, suggestions, the effective configuration and the reference file all walk this table.

pub(super) mod declared;

use std::rc::Rc;

use detection::settings::{Row, below};

use super::Config;
use super::kind::{Kind, Wrong};
use super::yaml::{Node, Problem};

/// The keys that lead to a setting. The settings that belong to a jail's `bantime`, which is a setting
/// itself, have a dot in their key, as in fail2ban: `bantime.increment`.
pub(super) fn keys(path: &str) -> Vec<&str> {
    let keys: Vec<&str> = path.split('.').collect();
    match (&keys[..], path.splitn(3, '.').last()) {
        (["jails", jail, "bantime", _], Some(dotted)) => vec!["jails", jail, dotted],
        _ => keys,
    }
}

/// A setting.
pub(super) struct Field<'a> {
    /// Its path, such as `jails.asterisk-wazo.maxretry`.
    pub(super) path: String,
    /// Its description.
    pub(super) doc: String,
    /// Its value.
    pub(super) kind: Box<dyn Kind + 'a>,
}

/// The table, in display order.
pub(super) fn fields(config: &mut Config) -> Vec<Field<'_>> {
    let scopes: Rc<[String]> = config.ports.names().into();
    config.fields("", &scopes)
}

/// The rows of a section.
pub(super) struct Fields<'a> {
    at: String,
    fields: Vec<Field<'a>>,
}

impl<'a> Fields<'a> {
    /// None yet, below this path.
    pub(super) fn below(at: &str) -> Self {
        Self { at: at.to_owned(), fields: Vec::new() }
    }

    /// Adds the row of a setting.
    pub(super) fn add(&mut self, key: &str, doc: &str, kind: impl Kind + 'a) {
        let (path, doc) = (self.path(key), doc.to_owned());
        self.fields.push(Field { path, doc, kind: Box::new(kind) });
    }

    /// Adds rows with whole paths.
    pub(super) fn extend(&mut self, fields: impl IntoIterator<Item = Field<'a>>) {
        self.fields.extend(fields);
    }

    /// Adds the rows of a section that another crate declares.
    pub(super) fn declared(&mut self, rows: Vec<Row<'a>>, scopes: &Rc<[String]>) {
        self.extend(declared::fields(rows, scopes));
    }

    /// The path of `key` below this section.
    pub(super) fn path(&self, key: &str) -> String {
        below(&self.at, key)
    }
}

impl<'a> From<Fields<'a>> for Vec<Field<'a>> {
    fn from(fields: Fields<'a>) -> Self {
        fields.fields
    }
}

impl Field<'_> {
    /// Takes the value of `node`, or returns everything that is wrong with it.
    pub(super) fn read(&mut self, node: &Node) -> Vec<Problem> {
        let expected = self.kind.expected();
        let Err(wrongs) = self.kind.read(node) else {
            return Vec::new();
        };
        let path = &self.path;
        wrongs
            .into_iter()
            .map(|(at, wrong)| {
                let text = match wrong {
                    Wrong::Mismatch(found) => format!("`{path}` is {found}; expected {expected}"),
                    Wrong::Value(reason) => format!("`{path}`: {reason}"),
                    Wrong::Item(reason) => format!("in `{path}`, {reason}"),
                };
                Problem { at, text }
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::render::flow;
    use crate::config::yaml::{self, Value};
    use crate::config::{Action, Alert, Feed};
    use detection::settings;

    fn node(text: &str) -> Node {
        let root = yaml::parse(&format!("key: {text}")).ok().and_then(|document| document.root);
        match root.map(|root| root.value) {
            Some(Value::Map(mut entries)) => entries.remove(0).node,
            other => panic!("{text}: {other:?}"),
        }
    }

    /// So comparing two values as shown compares the values.
    #[test]
    fn a_file_can_have_each_value_that_is_shown() {
        let mut config = Config::default();
        settings::add(&mut config.jails, "own").unwrap();
        config.ports.add("http").unwrap();
        config.feeds.insert("own".to_owned(), Feed::default());
        config.alerts.insert("own".to_owned(), Alert::default());
        config.actions.insert("own".to_owned(), Action::default());
        for mut field in fields(&mut config) {
            for shown in [field.kind.example(), field.kind.value()] {
                let wrong = field.read(&node(&flow(&shown)));
                let path = &field.path;
                assert!(wrong.is_empty(), "{path}: {shown}: {}", wrong[0].text);
                assert_eq!(field.kind.value(), shown, "{path}");
            }
            let before = field.kind.value();
            let wrong = field.read(&node("{}"));
            let says = format!("`{}` is a section; expected {}", field.path, field.kind.expected());
            assert_eq!((wrong[0].text.clone(), field.kind.value()), (says, before));
        }
    }
}

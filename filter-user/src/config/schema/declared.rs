//! The rows of the settings that other crates declare with their [`section!`](detection::settings::section).

use std::collections::BTreeMap;
use std::rc::Rc;

use detection::settings::{self, Row, Value};

use crate::config::kind::{self, Kind};
use crate::config::schema::Field;
use crate::config::{JailSettings, LOGS_MAX, Unproven};

/// The rows, with the names of the port classes.
pub(in crate::config) fn fields<'a>(
    rows: Vec<Row<'a>>,
    scopes: &Rc<[String]>,
) -> impl Iterator<Item = Field<'a>> {
    rows.into_iter().map(|Row { path, doc, value }| Field { path, doc, kind: kind(value, scopes) })
}

/// The jails by name.
pub(in crate::config) fn jails<'a>(
    jails: &'a mut BTreeMap<&'static str, JailSettings>,
    scopes: &Rc<[String]>,
) -> impl Iterator<Item = Field<'a>> {
    fields(settings::rows(jails, "jails"), scopes)
}

fn kind<'a>(value: Value<'a>, scopes: &Rc<[String]>) -> Box<dyn Kind + 'a> {
    match value {
        Value::Flag(field) => Box::new(kind::Flag(field)),
        Value::Count(field, range, unit) => Box::new(kind::Count(field, range, unit)),
        Value::Rate(field, unit) => Box::new(kind::Rate(field, unit)),
        Value::Length(field, range) => Box::new(kind::Length(field, range)),
        Value::Time(field, range) => Box::new(kind::Time(field, range)),
        Value::Factor(field) => Box::new(kind::Factor(field)),
        Value::Multipliers(field) => Box::new(kind::Multipliers(field)),
        Value::Hosts(field, names, advice) => Box::new(kind::Hosts(field, names, advice)),
        Value::Scope(field) => Box::new(kind::Scope(field, Rc::clone(scopes))),
        Value::OptionalScope(field) => Box::new(kind::OptionalScope(field, Rc::clone(scopes))),
        Value::Unproven(field) => Box::new(kind::Choice(field, &Unproven::ALL, Unproven::as_str)),
        Value::Ports(field) => Box::new(kind::Ports(field)),
        Value::Services(field) => Box::new(kind::Services(field)),
        Value::Filter(field) => {
            let expected = "a fail2ban filter, or `\"\"` for none";
            Box::new(kind::OrNone(field, expected, "nginx-http-auth"))
        }
        Value::Logs(field) => {
            let expected = "a list of logs such as `[/var/log/nginx/error.log]`";
            Box::new(kind::Items(field, LOGS_MAX, expected, &["/var/log/nginx/*error.log"]))
        }
        Value::Journal(field) => {
            let expected = "a list of journal matches such as `[_SYSTEMD_UNIT=nginx.service]`";
            Box::new(kind::Items(field, LOGS_MAX, expected, &["_SYSTEMD_UNIT=nginx.service"]))
        }
    }
}

//! The rows of sections that the administrator names: each has those of its type.

use std::collections::BTreeMap;
use std::rc::Rc;

use crate::config::schema::Field;
use crate::config::{Action, Alert, Feed};

/// Lists of addresses that somebody else publishes.
pub(in crate::config) fn feeds<'a>(
    feeds: &'a mut BTreeMap<String, Feed>,
    scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let fields =
        |(name, feed): (&String, &'a mut Feed)| feed.fields(&format!("feeds.{name}"), scopes);
    feeds.iter_mut().flat_map(fields).collect()
}

/// What is told to whom.
pub(in crate::config) fn alerts<'a>(
    alerts: &'a mut BTreeMap<String, Alert>,
    scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let fields =
        |(name, alert): (&String, &'a mut Alert)| alert.fields(&format!("alerts.{name}"), scopes);
    alerts.iter_mut().flat_map(fields).collect()
}

/// What is run for bans.
pub(in crate::config) fn actions<'a>(
    actions: &'a mut BTreeMap<String, Action>,
    scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let fields = |(name, action): (&String, &'a mut Action)| {
        action.fields(&format!("actions.{name}"), scopes)
    };
    actions.iter_mut().flat_map(fields).collect()
}

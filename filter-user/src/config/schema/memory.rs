//! The rows of what is remembered about peers and offenders, which other crates declare.

use std::rc::Rc;
use std::time::Duration;

use crate::config::kind;
use crate::config::schema::{Field, field};
use crate::config::{Offenders, Peers};
use crate::duration;

/// Peers that have proven themselves.
pub(in crate::config) fn peers<'a>(peers: &'a mut Peers, _scopes: &Rc<[String]>) -> [Field<'a>; 1] {
    [field(
        "peers.remember",
        "How long a peer remains known after it last proved itself.",
        kind::Time(&mut peers.remember, Duration::from_mins(1)..=Duration::from_hours(7 * 24)),
    )]
}

/// Sources that were banned before.
pub(in crate::config) fn offenders<'a>(
    offenders: &'a mut Offenders,
    _scopes: &Rc<[String]>,
) -> [Field<'a>; 1] {
    [field(
        "offenders.remember",
        "How long the earlier bans of an address count after the last of them has ended.",
        kind::Time(&mut offenders.remember, Duration::from_mins(1)..=duration::MAX),
    )]
}

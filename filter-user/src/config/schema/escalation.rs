//! The rows of the escalation to networks, which the detection declares.

use std::ops::RangeInclusive;
use std::rc::Rc;
use std::time::Duration;

use crate::config::kind;
use crate::config::schema::{Field, Section, field};
use crate::config::{Escalation, Thresholds};
use crate::duration;

/// The escalation.
pub(in crate::config) fn fields<'a>(
    escalation: &'a mut Escalation,
    scopes: &Rc<[String]>,
) -> Vec<Field<'a>> {
    let Escalation { enabled, findtime, bantime, scope, ipv4, ipv6 } = escalation;
    let second = Duration::from_secs(1);
    let mut fields = vec![
        field(
            "escalation.enabled",
            "Ban a network for the proven offenders in it.",
            kind::Flag(enabled),
        ),
        field(
            "escalation.findtime",
            "How long an address counts as an offender after a jail has banned it for proven \
             failures.",
            kind::Time(findtime, second..=Duration::from_hours(30 * 24)),
        ),
        field(
            "escalation.bantime",
            "How long the ban of a network lasts.",
            kind::Time(bantime, second..=duration::MAX),
        ),
        field(
            "escalation.scope",
            "What the ban of a network closes: `sip` (the SIP ports), a name under `ports`, or \
             `all`.",
            kind::Scope(scope, Rc::clone(scopes)),
        ),
    ];
    fields.extend(threshold_fields("ipv4", ipv4, 8..=32));
    fields.extend(threshold_fields("ipv6", ipv6, 16..=128));
    fields
}

fn threshold_fields<'a>(
    family: &str,
    thresholds: &'a mut Thresholds,
    lengths: RangeInclusive<u8>,
) -> [Field<'a>; 4] {
    let Thresholds { prefix, offenders, wide_prefix, wide_offenders } = thresholds;
    let at = Section(format!("escalation.{family}"));
    [
        at.field(
            "prefix",
            "The length of the networks that are banned.",
            kind::Length(prefix, lengths.clone()),
        ),
        at.field(
            "offenders",
            "How many offenders in one network ban it; 0 never bans it.",
            kind::Count(offenders, 0..=10_000, "sources"),
        ),
        at.field(
            "wide_prefix",
            "The length of the wider networks that are banned.",
            kind::Length(wide_prefix, lengths),
        ),
        at.field(
            "wide_offenders",
            "How many offenders in one wider network ban it; 0 never bans it.",
            kind::Count(wide_offenders, 0..=10_000, "sources"),
        ),
    ]
}

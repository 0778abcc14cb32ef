//! The host of the fleet that a ban comes from, which its reason begins with.

use crate::ban::{Entry, Origin};

/// The host in the reason of a ban.
pub(super) fn host_of(entry: &Entry) -> Option<&str> {
    entry.reason.split_once(": ").map(|(host, _)| host)
}

/// Whether a ban is of the host that the name of a jail ends with, if it names one.
pub(super) fn is_of(entry: &Entry, jail: &str) -> bool {
    match jail.split_once(':') {
        Some((_, host)) if entry.ban.origin == Origin::Fleet => host_of(entry) == Some(host),
        Some(_) | None => true,
    }
}

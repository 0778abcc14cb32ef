//! The origins of bans, by name and by the number in the kernel's entries.

use std::sync::{PoisonError, RwLock};

use super::Origin;
use crate::settings::{
    ESCALATION, FEED, FEEDS_MAX, FLEET, FLOOD, MANUAL, UNKNOWN, built_in_jails, intern,
};

/// The number of the first jail that is not built in.
const OWN: u8 = 16;

/// The names of the origins of bans.
///
/// Built-in jails have fixed numbers. The others are numbered in turn: the jails of the configuration
/// in alphabetical order, then jails that only the store still has bans of. These numbers are valid
/// only within one process; the store keeps names.
#[derive(Debug)]
pub struct Roster {
    own: RwLock<Vec<&'static str>>,
    feeds: Vec<&'static str>,
}

impl Roster {
    /// The roster with the jails of a configuration.
    pub fn new<'a>(configured: impl IntoIterator<Item = &'a str>) -> Self {
        let roster = Self { own: RwLock::default(), feeds: Vec::new() };
        let mut names: Vec<&str> = configured.into_iter().collect();
        names.sort_unstable();
        for name in names {
            roster.enlist(name);
        }
        roster
    }

    /// The same with the feeds of a configuration, at most [`FEEDS_MAX`].
    #[must_use]
    pub fn with_feeds<'a>(mut self, names: impl IntoIterator<Item = &'a str>) -> Self {
        let names = names.into_iter().map(|name| intern(&format!("{FEED}{name}")));
        self.feeds = names.take(FEEDS_MAX).collect();
        self
    }

    /// The name that `bans` shows.
    pub fn name(&self, origin: Origin) -> &'static str {
        let number = match origin {
            Origin::Manual => return MANUAL,
            Origin::Escalation => return ESCALATION,
            Origin::Flood => return FLOOD,
            Origin::Fleet => return FLEET,
            Origin::Feed(place) => return self.feeds.get(usize::from(place)).unwrap_or(&UNKNOWN),
            Origin::Jail(number) => number,
        };
        if let Some((_, name)) = built_in_jails().find(|(built_in, _)| *built_in == number) {
            return name;
        }
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        number.checked_sub(OWN).and_then(|place| own.get(usize::from(place))).unwrap_or(&UNKNOWN)
    }

    /// The origin with this name, if there is one.
    pub fn origin(&self, name: &str) -> Option<Origin> {
        match name {
            MANUAL => return Some(Origin::Manual),
            ESCALATION => return Some(Origin::Escalation),
            FLOOD => return Some(Origin::Flood),
            FLEET => return Some(Origin::Fleet),
            UNKNOWN => return Some(Origin::UNKNOWN),
            _ => {}
        }
        if name.strip_prefix(FLEET).is_some_and(|rest| rest.starts_with(':')) {
            return Some(Origin::Fleet);
        }
        if name.starts_with(FEED) {
            let mut feeds = (0..).zip(&self.feeds);
            return feeds.find_map(|(n, feed)| (*feed == name).then_some(Origin::Feed(n)));
        }
        if let Some((number, _)) = built_in_jails().find(|(_, built_in)| *built_in == name) {
            return Some(Origin::Jail(number));
        }
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        (OWN..).zip(&*own).find_map(|(n, own)| (*own == name).then_some(Origin::Jail(n)))
    }

    /// The origin with this name. If there is none, registers a jail, as long as numbers are left.
    pub fn enlist(&self, name: &str) -> Origin {
        if let Some(known) = self.origin(name) {
            return known;
        }
        let mut own = self.own.write().unwrap_or_else(PoisonError::into_inner);
        match u8::try_from(own.len()).ok().and_then(|place| place.checked_add(OWN)) {
            Some(number) if Origin::Jail(number).number() < Origin::Fleet.number() => {
                own.push(intern(name));
                Origin::Jail(number)
            }
            Some(_) | None => Origin::UNKNOWN,
        }
    }

    /// Every name, those of the built-in jails first.
    pub fn names(&self) -> Vec<&'static str> {
        let own = self.own.read().unwrap_or_else(PoisonError::into_inner);
        let jails = built_in_jails().map(|(_, name)| name).chain(own.iter().copied());
        jails.chain(self.feeds.iter().copied()).collect()
    }
}

impl Default for Roster {
    /// The roster with the built-in jails.
    fn default() -> Self {
        Self::new([])
    }
}

#[cfg(test)]
mod tests {
    use filter_common::abi::ORIGIN_OWN;

    use super::*;

    #[test]
    fn numbers_of_built_in_jails_never_change() {
        let roster = Roster::new(["web", "apache", "sshd"]);
        let number = |name| roster.origin(name).map(Origin::number);
        assert_eq!(number("manual"), Some(0));
        assert_eq!(number("asterisk-wazo"), Some(1));
        assert_eq!(number("sshd"), Some(2));
        assert_eq!(number("wazo-provd"), Some(3));
        assert_eq!(number("recidive"), Some(4));
        assert_eq!(ORIGIN_OWN, 16);
        assert_eq!(number("apache"), Some(17));
        assert_eq!(number("web"), Some(18));
        assert_eq!((number("escalation"), number("flood")), (Some(254), Some(255)));
        assert_eq!((number("other"), number("feed:other")), (None, None));
        let built_in = built_in_jails().map(|(_, name)| name);
        let names: Vec<_> = built_in.chain(["apache", "web"]).collect();
        assert_eq!(roster.names(), names);
        for name in names {
            assert_eq!(roster.name(roster.origin(name).unwrap()), name);
        }
    }

    #[test]
    fn feeds_have_numbers_of_their_own() {
        let roster = Roster::new(["web"]).with_feeds(["apiban", "drop"]);
        assert_eq!(roster.origin("feed:drop"), Some(Origin::Feed(1)));
        assert_eq!(roster.name(Origin::Feed(1)), "feed:drop");
        assert_eq!(roster.name(Origin::Feed(2)), "unknown");
        assert_eq!((roster.origin("drop"), roster.origin("feed:x")), (None, None));
        assert_eq!(Origin::from_number(Origin::Feed(15).number()), Origin::Feed(15));
    }

    #[test]
    fn origins_that_are_no_jails_have_names() {
        let roster = Roster::default();
        for (name, origin, shown) in [
            ("manual", Some(Origin::Manual), "manual"),
            ("escalation", Some(Origin::Escalation), "escalation"),
            ("flood", Some(Origin::Flood), "flood"),
            ("fleet", Some(Origin::Fleet), "fleet"),
            ("fleet:pbx", Some(Origin::Fleet), "fleet"),
            ("unknown", Some(Origin::UNKNOWN), "unknown"),
            ("fleets", None, ""),
            ("feed:", None, ""),
        ] {
            assert_eq!(roster.origin(name), origin, "{name}");
            assert_eq!(origin.map_or("", |origin| roster.name(origin)), shown, "{name}");
        }
    }

    #[test]
    fn a_removed_jail_keeps_its_name() {
        let roster = Roster::new(["web"]);
        let gone = roster.enlist("of last year");
        assert_eq!((gone, roster.enlist("of last year")), (Origin::Jail(17), gone));
        assert_eq!(roster.name(gone), "of last year");
        assert_eq!(roster.origin("of last year"), Some(gone));
    }

    #[test]
    fn numbers_can_run_out() {
        let roster = Roster::default();
        let origins: Vec<Origin> = (0..300).map(|n| roster.enlist(&format!("jail-{n}"))).collect();
        assert_eq!(origins.iter().filter(|origin| **origin != Origin::UNKNOWN).count(), 219);
        assert_eq!(roster.name(origins[299]), "unknown");
        assert_eq!(roster.name(Origin::Jail(15)), "unknown");
        for origin in origins {
            assert_eq!(Origin::from_number(origin.number()), origin);
        }
    }
}

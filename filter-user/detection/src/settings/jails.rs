//! The jails that every configuration has, and the names of jails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{GuessingSettings, JailSettings, OwnJail, PortClasses, Scope, Weights};
use crate::duration::snippet;

/// A built-in jail, which exists without being configured.
struct BuiltIn {
    name: &'static str,
    /// Its number in the kernel's entries, which never changes.
    number: u8,
    settings: fn() -> JailSettings,
}

/// The jail that counts the bans by the others.
pub const RECIDIVE: &str = "recidive";

/// The name that `bans` shows for manual bans.
pub(crate) const MANUAL: &str = "manual";

/// The name for bans of networks because of the offenders in them.
pub(crate) const ESCALATION: &str = "escalation";

/// The name for bans by the kernel because of a flood.
pub(crate) const FLOOD: &str = "flood";

/// The name for bans of unknown origin.
pub(crate) const UNKNOWN: &str = "unknown";

/// What the name of a feed begins with where jails are named; no jail's name contains a colon.
pub const FEED: &str = "feed:";

/// The name of the bans by other hosts of the fleet. With a colon and the name of a host, those of this host.
pub const FLEET: &str = "fleet";

/// The most feeds.
pub const FEEDS_MAX: usize = 16;

/// Names that a jail cannot have.
pub const RESERVED: [&str; 5] = [MANUAL, ESCALATION, FLOOD, FLEET, UNKNOWN];

/// The built-in jails with their defaults: Wazo's own from `etc/fail2ban/jail.d/wazo.conf` of
/// `xivo-config`, for `sshd` Debian's, for `recidive` those of fail2ban's `jail.conf`.
static BUILT_IN: &[BuiltIn] = &[
    BuiltIn {
        name: "asterisk-wazo",
        number: 0,
        settings: || JailSettings {
            maxretry: 15,
            weights: Some(Weights::ASTERISK),
            maxaccounts: 10,
            findtime: Duration::from_mins(10),
            bantime: Duration::from_hours(1),
            scope: Scope::Sip,
            unproven_scope: Some(Scope::Sip),
            guessing: GuessingSettings::SIP,
            ..JailSettings::DEFAULT
        },
    },
    BuiltIn {
        name: "sshd",
        number: 1,
        settings: || JailSettings {
            maxretry: 5,
            findtime: Duration::from_mins(10),
            bantime: Duration::from_mins(10),
            scope: PortClasses::SSH,
            unproven_scope: Some(PortClasses::SSH),
            guessing: GuessingSettings::LOGINS,
            ..JailSettings::DEFAULT
        },
    },
    BuiltIn {
        name: "wazo-provd",
        number: 2,
        settings: || JailSettings {
            maxretry: 10,
            findtime: Duration::from_mins(1),
            bantime: Duration::from_mins(10),
            scope: PortClasses::PROVISIONING,
            unproven_scope: Some(PortClasses::PROVISIONING),
            ..JailSettings::DEFAULT
        },
    },
    BuiltIn {
        name: RECIDIVE,
        number: 3,
        settings: || JailSettings {
            enabled: false,
            maxretry: 5,
            findtime: Duration::from_hours(24),
            bantime: Duration::from_hours(7 * 24),
            scope: Scope::All,
            unproven_scope: None,
            ..JailSettings::DEFAULT
        },
    },
];

/// The built-in jails, each with its number in the kernel's entries.
pub fn built_in_jails() -> impl Iterator<Item = (u8, &'static str)> {
    BUILT_IN.iter().map(|jail| (jail.number, jail.name))
}

/// The jails of an empty configuration.
pub fn defaults() -> BTreeMap<&'static str, JailSettings> {
    BUILT_IN.iter().map(|jail| (jail.name, (jail.settings)())).collect()
}

/// The most jails of your own.
pub const OWN_JAILS_MAX: usize = 64;

/// The longest name of a jail, in bytes.
const NAME_MAX: usize = 32;

impl JailSettings {
    /// A jail of your own.
    pub fn own() -> Self {
        Self { own: Some(OwnJail::DEFAULT), ..Self::DEFAULT }
    }
}

/// Adds a jail of your own, unless one with this name exists.
///
/// # Errors
///
/// If it is not possible; the error says why.
pub fn add(jails: &mut BTreeMap<&'static str, JailSettings>, name: &str) -> Result<(), String> {
    if jails.contains_key(name) {
        return Ok(());
    }
    let shown = snippet(name);
    if RESERVED.contains(&name) {
        return Err(format!("`{name}` is taken; give this jail another name"));
    }
    let letters = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-');
    let begins = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    if !begins || !name.bytes().all(letters) || name.len() > NAME_MAX {
        return Err(format!(
            "`{shown}` is not a name for a jail; use lower-case letters, digits and `-`, at most \
             {NAME_MAX}"
        ));
    }
    if jails.len() >= BUILT_IN.len() + OWN_JAILS_MAX {
        return Err(format!("`{shown}` is one too many: at most {OWN_JAILS_MAX} are possible"));
    }
    jails.insert(intern(name), JailSettings::own());
    Ok(())
}

/// The name of a jail, kept in memory once and for ever: there are few names in configurations and the
/// store, and each failure carries one.
pub fn intern(name: &str) -> &'static str {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    if let Some(jail) = BUILT_IN.iter().find(|jail| jail.name == name) {
        return jail.name;
    }
    let mut names = NAMES.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return known;
    }
    let kept: &'static str = Box::leak(Box::from(name));
    names.insert(kept);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_jails() {
        let long = "a".repeat(NAME_MAX);
        for name in ["a", "web-2", "z0-", &long] {
            let mut jails = defaults();
            assert_eq!(add(&mut jails, name), Ok(()), "{name}");
            assert_eq!(jails.len(), BUILT_IN.len() + 1);
            assert_eq!(jails[name], JailSettings::own());
            assert_eq!(jails[name].own, Some(OwnJail::DEFAULT));
        }
        let too_long = "a".repeat(NAME_MAX + 1);
        let wrong = ["", "A", "aB", "1a", "-a", "a_b", "a b", "é", "a:b", &too_long];
        let says = wrong.map(|name| (name, "is not a name for a jail"));
        for (name, why) in says.into_iter().chain(RESERVED.map(|name| (name, "is taken"))) {
            let mut jails = defaults();
            let error = add(&mut jails, name).unwrap_err();
            assert!(error.contains(why), "{name}: {error}");
            assert_eq!(jails.len(), BUILT_IN.len());
        }
    }

    #[test]
    fn there_is_room_for_so_many_jails() {
        let mut jails = defaults();
        // Those that are built in are there already.
        for (_, name) in built_in_jails() {
            assert_eq!(add(&mut jails, name), Ok(()));
        }
        assert_eq!(jails, defaults());
        for n in 0..OWN_JAILS_MAX {
            assert_eq!(add(&mut jails, &format!("a{n}")), Ok(()));
        }
        assert_eq!(jails.len(), BUILT_IN.len() + OWN_JAILS_MAX);
        let error = add(&mut jails, "b").unwrap_err();
        assert_eq!(error, "`b` is one too many: at most 64 are possible");
        assert_eq!(add(&mut jails, "a0"), Ok(()));
    }

    #[test]
    fn the_jails_of_an_empty_configuration_are_those_that_are_built_in() {
        let numbers: BTreeMap<u8, &str> = built_in_jails().collect();
        assert_eq!(numbers.len(), BUILT_IN.len(), "each has a number of its own");
        // Bans of earlier versions have these numbers.
        for (number, name) in [(0, "asterisk-wazo"), (1, "sshd"), (2, "wazo-provd"), (3, RECIDIVE)]
        {
            assert_eq!(numbers.get(&number), Some(&name));
        }
        let hours = |name: &str| defaults()[name].findtime.as_secs() / 3600;
        assert_eq!(
            (hours(RECIDIVE), defaults()[RECIDIVE].bantime),
            (24, Duration::from_hours(168))
        );
        assert!(defaults().values().all(|jail| jail.own.is_none()));
    }

    #[test]
    fn a_name_is_kept_once() {
        for name in ["sshd", "web"] {
            let owned = name.to_owned();
            assert_eq!(intern(&owned), name);
            assert!(std::ptr::eq(intern(&owned), intern(name)), "{name}");
        }
    }
}

//! The jails that every configuration has, and the names of jails.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::{GuessingSettings, Increment, JailSettings, PortClasses, Scope, Weights};

/// A jail that is there without being configured.
struct BuiltIn {
    name: &'static str,
    /// Its number in the kernel's entries, which never becomes another.
    number: u8,
    settings: JailSettings,
}

/// The jail that hears of the bans by the others.
pub const RECIDIVE: &str = "recidive";

/// Each with its defaults: Wazo's own of `etc/fail2ban/jail.d/wazo.conf` of `xivo-config`, for `sshd`
/// Debian's, for `recidive` those of fail2ban's `jail.conf`.
static BUILT_IN: [BuiltIn; 4] = [
    BuiltIn {
        name: "asterisk-wazo",
        number: 0,
        settings: JailSettings {
            enabled: true,
            maxretry: 15,
            weights: Some(Weights::ASTERISK),
            maxaccounts: 10,
            findtime: Duration::from_mins(10),
            bantime: Duration::from_hours(1),
            ignoreip: Vec::new(),
            ignore_names: Vec::new(),
            scope: Scope::Sip,
            unproven_scope: Some(Scope::Sip),
            increment: Increment::OFF,
            guessing: GuessingSettings::ACCOUNTS,
        },
    },
    BuiltIn {
        name: "sshd",
        number: 1,
        settings: JailSettings {
            enabled: true,
            maxretry: 5,
            weights: None,
            maxaccounts: 0,
            findtime: Duration::from_mins(10),
            bantime: Duration::from_mins(10),
            ignoreip: Vec::new(),
            ignore_names: Vec::new(),
            scope: PortClasses::SSH,
            unproven_scope: Some(PortClasses::SSH),
            increment: Increment::OFF,
            guessing: GuessingSettings::ACCOUNTS,
        },
    },
    BuiltIn {
        name: "wazo-provd",
        number: 2,
        settings: JailSettings {
            enabled: true,
            maxretry: 10,
            weights: None,
            maxaccounts: 0,
            findtime: Duration::from_mins(1),
            bantime: Duration::from_mins(10),
            ignoreip: Vec::new(),
            ignore_names: Vec::new(),
            scope: PortClasses::PROVISIONING,
            unproven_scope: Some(PortClasses::PROVISIONING),
            increment: Increment::OFF,
            guessing: GuessingSettings::OFF,
        },
    },
    BuiltIn {
        name: RECIDIVE,
        number: 3,
        settings: JailSettings {
            enabled: false,
            maxretry: 5,
            weights: None,
            maxaccounts: 0,
            findtime: Duration::from_hours(24),
            bantime: Duration::from_hours(7 * 24),
            ignoreip: Vec::new(),
            ignore_names: Vec::new(),
            scope: Scope::All,
            unproven_scope: None,
            increment: Increment::OFF,
            guessing: GuessingSettings::OFF,
        },
    },
];

/// The jails that are there without being configured, each with its number in the kernel's entries.
pub fn built_in_jails() -> impl Iterator<Item = (u8, &'static str)> {
    BUILT_IN.iter().map(|jail| (jail.number, jail.name))
}

/// The jails of an empty configuration.
pub(super) fn defaults() -> BTreeMap<&'static str, JailSettings> {
    BUILT_IN.iter().map(|jail| (jail.name, jail.settings.clone())).collect()
}

/// The name of a jail, which stays in memory once: few come out of configurations and the store, and
/// each failure carries one.
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

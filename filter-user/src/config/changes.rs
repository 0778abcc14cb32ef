//! Which changes of a configuration take effect while the daemon runs, and which at the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use api::ChangedSetting;
use serde_json::Value as Json;

use super::render::flow;
use super::{Config, Feed, Fleet, JailSettings, Loaded};

impl Loaded {
    /// The differences between this running configuration and a `new` one, and the configuration to run
    /// after a reload: the new one, but with the old values of settings that need a restart.
    pub fn changes(&self, new: &Self) -> (Vec<ChangedSetting>, Self) {
        let running = Self { config: self.config.without_restart(&new.config), ..new.clone() };
        let [old, wanted, becomes] = [self, new, &running].map(Self::values);
        let paths: BTreeSet<&String> = old.keys().chain(wanted.keys()).collect();
        let differs = |path: &&String| old.get(*path) != wanted.get(*path);
        let change = |path: &String| ChangedSetting {
            setting: path.clone(),
            old: old.get(path).map(flow),
            new: wanted.get(path).map(flow),
            needs_restart: becomes.get(path) != wanted.get(path),
        };
        (paths.into_iter().filter(differs).map(change).collect(), running)
    }

    fn values(&self) -> BTreeMap<String, Json> {
        self.effective().into_iter().map(|setting| (setting.path, setting.value)).collect()
    }
}

impl Config {
    /// The `new` configuration as far as it can take effect without a restart. This is the one place
    /// that says what can.
    fn without_restart(&self, new: &Self) -> Self {
        let Self {
            // The program is loaded for these interfaces, in this mode, with maps of these sizes.
            interfaces,
            mode,
            capacity,
            // Bans in force and failures on record go by the numbers of these.
            ports,
            ipv6_prefix,
            // Counted over months, in steps of these lengths.
            offenders,
            escalation,
            // Each source is a task that was started with these.
            sources,
            // Their bans go by the places of their names.
            feeds,
            // Connections that exist, and logins, belong to the listener.
            api,
            fleet,
            paths,
            // The rest takes effect at once.
            ..
        } = self.clone();
        let same_scopes = self.ports == new.ports;
        let jails = self.jails.iter().map(|(name, old)| {
            let settings = new.jails.get(name).map_or_else(
                || old.clone(),
                |new| jail_without_restart(old, new, same_scopes, self.findtime_max()),
            );
            (*name, settings)
        });
        Self {
            interfaces,
            mode,
            capacity,
            ports,
            ipv6_prefix,
            offenders,
            escalation,
            sources,
            api,
            paths,
            jails: jails.collect(),
            feeds: feeds_without_restart(feeds, new, same_scopes),
            fleet: fleet_without_restart(fleet, new, same_scopes),
            ..new.clone()
        }
    }
}

fn feeds_without_restart(
    mut feeds: BTreeMap<String, Feed>,
    new: &Config,
    same_scopes: bool,
) -> BTreeMap<String, Feed> {
    for (name, feed) in &mut feeds {
        let Some(new) = new.feeds.get(name) else { continue };
        let scope = if same_scopes { new.scope } else { feed.scope };
        *feed = Feed { scope, ..new.clone() };
    }
    feeds
}

fn fleet_without_restart(old: Fleet, new: &Config, same_scopes: bool) -> Fleet {
    let mut fleet = new.fleet.clone();
    // The control socket admits this user.
    fleet.user = old.user;
    if !same_scopes {
        fleet.accept.scope = old.accept.scope;
    }
    fleet
}

fn jail_without_restart(
    old: &JailSettings,
    new: &JailSettings,
    same_scopes: bool,
    findtime_max: Duration,
) -> JailSettings {
    let mut jail = JailSettings {
        // The inputs of the jail, and its filter.
        enabled: old.enabled,
        filter: old.filter.clone(),
        own: old.own.clone(),
        // Its failures are counted in eighths of its `findtime`.
        guessing: old.guessing,
        ..new.clone()
    };
    if !same_scopes {
        (jail.scope, jail.unproven_scope) = (old.scope, old.unproven_scope);
    }
    if new.findtime > findtime_max {
        // The store has not kept failures for so long.
        jail.findtime = old.findtime;
    }
    jail
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::report;

    fn loaded(text: &str) -> Loaded {
        Config::parse(Path::new("config.yml"), text.as_bytes()).unwrap()
    }

    /// Each change with whether it needs a restart, as text.
    fn changes(old: &str, new: &str) -> Vec<(String, bool)> {
        let (changes, _) = loaded(old).changes(&loaded(new));
        changes.iter().map(|change| (report::change(change), change.needs_restart)).collect()
    }

    #[test]
    fn what_takes_effect_at_once_and_what_does_not() {
        for (old, new, text, needs_restart) in [
            ("", "trusted: [192.0.2.0/24]", "trusted: [] -> [192.0.2.0/24]", false),
            ("", "dry_run: true", "dry_run: false -> true", false),
            (
                "",
                "jails: {asterisk-wazo: {maxretry: 5}}",
                "jails.asterisk-wazo.maxretry: 15 -> 5",
                false,
            ),
            ("", "jails: {sshd: {bantime: 2h}}", "jails.sshd.bantime: 1h -> 2h", false),
            ("", "jails: {sshd: {enabled: false}}", "jails.sshd.enabled: true -> false", true),
            ("", "interfaces: [eth0]", "interfaces: [] -> [eth0]", true),
            ("", "capacity: {bans: 1000}", "capacity.bans: 1000000 -> 1000", true),
            ("", "geo: {dry_run: true}", "geo.dry_run: false -> true", false),
            (
                "feeds: {a: {url: /a}}",
                "feeds: {a: {url: /a, interval: 5m}}",
                "feeds.a.interval: 1h -> 5m",
                false,
            ),
            ("", "ipv6_prefix: 56", "ipv6_prefix: 64 -> 56", true),
            ("", "limits: {register: {rate: 1/s}}", "limits.register.rate: 2/s -> 1/s", false),
        ] {
            let found = changes(old, new);
            let paths: Vec<_> = found.iter().map(|(text, _)| text.split(':').next()).collect();
            let wanted = text.split(':').next();
            let place = paths.iter().position(|path| *path == wanted);
            let (_, found_restart) = &found[place.unwrap_or_else(|| panic!("{new}: {found:?}"))];
            assert_eq!((found.len(), *found_restart), (1, needs_restart), "{new}: {found:?}");
        }
        assert_eq!(changes("dry_run: true", "dry_run: true"), []);
        let text = &changes("", "trusted: [192.0.2.0/24]")[0].0;
        assert_eq!(text, "trusted: [] -> [192.0.2.0/24]");
    }

    #[test]
    fn a_change_that_waits_for_a_restart_is_a_change_the_next_time_too() {
        let (old, new) = (loaded(""), loaded("interfaces: [eth0]\ndry_run: true"));
        let (first, running) = old.changes(&new);
        assert_eq!(first.len(), 2);
        assert!(running.config.dry_run && running.config.interfaces.is_empty());
        let (again, _) = running.changes(&new);
        assert_eq!(again.len(), 1);
        assert!(again[0].needs_restart && again[0].setting == "interfaces");
    }

    #[test]
    fn a_new_jail_or_scope_needs_a_restart() {
        let own = "jails: {web: {enabled: true, filter: nginx-http-auth, log: [/var/log/web.log]}}";
        assert!(changes("", own).iter().all(|(_, needs_restart)| *needs_restart));
        assert!(!changes("", own).is_empty());
        assert!(changes(own, "").iter().all(|(_, needs_restart)| *needs_restart));
        let ports = "ports: {web: {tcp: [443]}}\njails: {sshd: {scope: web}}";
        assert!(changes("", ports).iter().all(|(_, needs_restart)| *needs_restart));
        let feed = "feeds: {a: {url: /a}}";
        for (old, new) in [("", feed), (feed, "")] {
            let of_feed = changes(old, new);
            assert!(!of_feed.is_empty() && of_feed.iter().all(|(_, needs_restart)| *needs_restart));
        }
        let longer = changes("", "jails: {sshd: {findtime: 30d}}");
        assert!(longer.iter().all(|(_, needs_restart)| *needs_restart) && longer.len() == 1);
    }

    #[test]
    fn every_setting_is_compared() {
        let paths = |loaded: &Loaded| loaded.values().len();
        let (changes, running) = loaded("").changes(&loaded(""));
        assert!(changes.is_empty() && paths(&running) == paths(&loaded("")));
    }
}

//! Settings of jails that are changed at run time, until they are set back.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Durability, ErrorId, Refusal, Tunable, TuneChanged, Tuned};
use log::info;
use serde::{Deserialize, Serialize};

use super::Controller;
use crate::clock::KernelTime;
use crate::config::{Config, JailSettings};
use crate::datapath::Datapath;
use crate::duration;
use crate::log_budget::MANUAL;
use crate::report::shown_text;
use crate::store::DecisionKey;

/// The kind of these decisions in the store.
const KIND: &str = "set";

/// The longest time that failures may count.
const FINDTIME_MAX: Duration = Duration::from_hours(30 * 24);

/// The most failures that may lead to a ban.
const MAXRETRY_MAX: u32 = 10_000;

/// A value of a setting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Value {
    Maxretry(u32),
    Findtime(Duration),
    Bantime(Duration),
}

impl Value {
    /// Reads a value. A number without a unit is one of seconds, as for fail2ban.
    fn parse(setting: Tunable, text: &str, findtime_max: Duration) -> Result<Self, String> {
        let time = |longest: Duration| {
            let time = match text.parse() {
                Ok(seconds) => Duration::from_secs(seconds),
                Err(_) => duration::parse(text).map_err(|why| why.to_string())?,
            };
            if time < Duration::from_secs(1) || time > longest {
                let longest = duration::format(longest);
                return Err(format!("`{}` must be from 1s to {longest}", setting.as_str()));
            }
            Ok(time)
        };
        match setting {
            Tunable::Maxretry => match text.parse() {
                Ok(number) if (1..=MAXRETRY_MAX).contains(&number) => Ok(Self::Maxretry(number)),
                Ok(_) | Err(_) => Err(format!("`maxretry` must be from 1 to {MAXRETRY_MAX}")),
            },
            Tunable::Findtime => {
                let time = time(FINDTIME_MAX)?;
                if time > findtime_max {
                    return Err(format!(
                        "failures are kept for {}, the longest `findtime` in the configuration; to \
                         use a longer one, change the configuration and restart the daemon",
                        duration::format(findtime_max)
                    ));
                }
                Ok(Self::Findtime(time))
            }
            Tunable::Bantime => Ok(Self::Bantime(time(duration::MAX)?)),
        }
    }

    /// The value that settings have.
    fn of(setting: Tunable, settings: &JailSettings) -> Self {
        match setting {
            Tunable::Maxretry => Self::Maxretry(settings.maxretry),
            Tunable::Findtime => Self::Findtime(settings.findtime),
            Tunable::Bantime => Self::Bantime(settings.bantime),
        }
    }

    fn apply(self, settings: &mut JailSettings) {
        match self {
            Self::Maxretry(number) => settings.maxretry = number,
            Self::Findtime(time) => settings.findtime = time,
            Self::Bantime(time) => settings.bantime = time,
        }
    }

    fn show(self) -> String {
        match self {
            Self::Maxretry(number) => number.to_string(),
            Self::Findtime(time) | Self::Bantime(time) => duration::format(time),
        }
    }
}

/// A changed setting, as the store keeps it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    jail: String,
    setting: Tunable,
    value: String,
    /// When it was changed, as it is shown.
    since: String,
    by: String,
}

#[derive(Clone, Debug)]
struct Change {
    value: Value,
    since: String,
    by: String,
}

/// The settings that were changed, and those that the configuration has.
#[derive(Debug, Default)]
pub(super) struct Tuning {
    configured: BTreeMap<&'static str, JailSettings>,
    changes: BTreeMap<(String, Tunable), Change>,
    findtime_max: Duration,
}

impl Tuning {
    /// Nothing changed yet.
    pub(super) fn new(config: &Config) -> Self {
        let configured = config.jails.iter().map(|(name, settings)| (*name, settings.clone()));
        let findtime_max = config.findtime_max();
        Self { configured: configured.collect(), changes: BTreeMap::new(), findtime_max }
    }

    /// Takes another configuration. What was changed stays changed.
    pub(super) fn reconfigure(&mut self, config: &Config) {
        self.configured.extend(config.jails.iter().map(|(name, jail)| (*name, jail.clone())));
    }

    /// The settings of a jail, with the changes.
    pub(super) fn settings(&self, jail: &str) -> Option<JailSettings> {
        let mut settings = self.configured.get(jail)?.clone();
        for ((of, _), change) in &self.changes {
            if of == jail {
                change.value.apply(&mut settings);
            }
        }
        Some(settings)
    }

    /// The changed settings of a jail.
    pub(super) fn report(&self, jail: &str) -> Vec<Tuned> {
        let Some(configured) = self.configured.get(jail) else { return Vec::new() };
        let changes = self.changes.iter().filter(|((of, _), _)| of == jail);
        let report = |((_, setting), change): (&(String, Tunable), &Change)| Tuned {
            setting: *setting,
            value: change.value.show(),
            configured: Value::of(*setting, configured).show(),
            since: change.since.clone(),
            by: change.by.clone(),
        };
        changes.map(report).collect()
    }

    /// Loads the values in the store. A value that this configuration does not allow is ignored, but
    /// stays in the store.
    fn load<'a>(&mut self, kept: impl IntoIterator<Item = (&'a DecisionKey, &'a String)>) {
        for ((kind, _), value) in kept {
            let Ok(kept) = serde_json::from_str::<Kept>(value) else { continue };
            let value = Value::parse(kept.setting, &kept.value, self.findtime_max);
            let is_known = self.configured.contains_key(&*kept.jail);
            if let (KIND, true, Ok(value)) = (&**kind, is_known, value) {
                let Kept { jail, setting, since, by, .. } = kept;
                self.changes.entry((jail, setting)).or_insert(Change { value, since, by });
            }
        }
    }
}

impl<D: Datapath> Controller<D> {
    /// Takes the changed settings that the store has kept.
    pub(super) fn take_tuning<'a>(
        &mut self,
        kept: impl IntoIterator<Item = (&'a DecisionKey, &'a String)>,
    ) {
        self.tuning.load(kept);
        self.apply_tuning();
    }

    /// Gives the jails their settings with the changes.
    pub(super) fn apply_tuning(&mut self) {
        for jail in self.jails.iter_mut() {
            if let Some(settings) = self.tuning.settings(jail.name())
                && settings != *jail.settings()
            {
                jail.set_settings(settings);
            }
        }
    }

    /// Changes a setting of a jail, or restores its configured value.
    pub(super) fn tune(
        &mut self,
        (jail, setting, value): (String, Tunable, Option<String>),
        who: &str,
        now: KernelTime,
    ) -> Result<TuneChanged, Refusal> {
        let Some(old) = self.tuning.settings(&jail) else {
            let names: Vec<&str> = self.tuning.configured.keys().copied().collect();
            let jail = shown_text(&jail);
            let why = format!("there is no jail `{jail}`; there are {}", names.join(", "));
            return Err(Refusal::new(ErrorId::NotFound, why));
        };
        let name = format!("{jail} {}", setting.as_str());
        let key = (jail.clone(), setting);
        match value {
            None => {
                self.tuning.changes.remove(&key);
                self.bans.store().decide(KIND, &name, None);
            }
            Some(text) => {
                let value = Value::parse(setting, &text, self.tuning.findtime_max)?;
                let since = self.started.show(now);
                let change = Change { value, since, by: who.to_owned() };
                let kept = kept(&key, &change);
                self.tuning.changes.insert(key, change);
                self.bans.store().decide(KIND, &name, kept);
            }
        }
        self.apply_tuning();
        let new = self.tuning.settings(&jail).unwrap_or_else(|| old.clone());
        let configured = self.tuning.configured.get(&*jail).unwrap_or(&old);
        let configured = Value::of(setting, configured).show();
        let [old, new] = [&old, &new].map(|settings| Value::of(setting, settings).show());
        info!(target: MANUAL, "{who} set {name} to {new}; it was {old}");
        let durability = Durability::default();
        Ok(TuneChanged { jail, setting, old, new, configured, durability })
    }

    /// Saves all changed settings again.
    pub(super) fn put_tuning(&self) {
        for (key, change) in &self.tuning.changes {
            let name = format!("{} {}", key.0, key.1.as_str());
            self.bans.store().decide(KIND, &name, kept(key, change));
        }
    }
}

fn kept((jail, setting): &(String, Tunable), change: &Change) -> Option<String> {
    let Change { value, since, by } = change.clone();
    let (jail, value) = (jail.clone(), value.show());
    serde_json::to_string(&Kept { jail, setting: *setting, value, since, by }).ok()
}

#[cfg(test)]
mod tests {
    use api::{Answer, Reply, Request};

    use super::super::tests::{NoKernel, at, fail, started_with};
    use super::*;

    const JAIL: &str = "asterisk-wazo";

    fn set(setting: Tunable, value: Option<&str>) -> Request {
        let value = value.map(ToOwned::to_owned);
        Request::Set { jail: JAIL.to_owned(), setting, value }
    }

    fn started() -> Controller<NoKernel> {
        started_with(NoKernel::default(), |_default| {})
    }

    #[test]
    fn a_changed_setting_counts_from_the_next_failure_on_until_it_is_set_back() {
        let mut controller = started();
        let answer = controller.answer(set(Tunable::Maxretry, Some("3")), at(0));
        let Reply::Ok(Answer::TuneChanged(changed)) = answer else { panic!("{answer:?}") };
        assert_eq!((&*changed.old, &*changed.new, &*changed.configured), ("15", "3", "15"));
        fail(&mut controller, [203, 0, 113, 7], 3);
        assert_eq!(controller.ban_count(), 1);
        let report = controller.tuning.report(JAIL);
        assert_eq!((report.len(), &*report[0].value, &*report[0].by), (1, "3", "root"));
        // A reload keeps it.
        controller.reconfigure(&Config::default(), at(20)).unwrap();
        fail(&mut controller, [203, 0, 113, 8], 3);
        assert_eq!(controller.ban_count(), 2);
        controller.answer(set(Tunable::Maxretry, None), at(0));
        fail(&mut controller, [203, 0, 113, 9], 14);
        assert_eq!(controller.ban_count(), 2);
        assert!(controller.tuning.report(JAIL).is_empty());
    }

    #[test]
    fn changed_settings_are_kept() {
        let mut controller = started();
        controller.answer(set(Tunable::Bantime, Some("7200")), at(0));
        let [(key, change)] = &controller.tuning.changes.iter().collect::<Vec<_>>()[..] else {
            panic!("{:?}", controller.tuning)
        };
        let name = format!("{} bantime", key.0);
        let kept = BTreeMap::from([((KIND.to_owned(), name), kept(key, change).unwrap())]);
        let mut other = started();
        other.take_tuning(&kept);
        assert_eq!(other.tuning.settings(JAIL).unwrap().bantime, Duration::from_hours(2));
    }

    #[test]
    fn a_wrong_value_says_what_is_right() {
        let mut controller = started();
        let mut refused = |setting, value| match controller.answer(set(setting, Some(value)), at(0))
        {
            Reply::Error(why) => why.message,
            Reply::Ok(answer) => panic!("{answer:?}"),
        };
        for value in ["0", "-1", "x", "10001", ""] {
            assert!(refused(Tunable::Maxretry, value).contains("from 1 to 10000"), "{value}");
        }
        assert!(refused(Tunable::Findtime, "29d").contains("restart"));
        assert!(refused(Tunable::Findtime, "31d").contains("30d"));
        assert!(refused(Tunable::Bantime, "0").contains("from 1s"));
        assert!(!refused(Tunable::Bantime, "-1").is_empty());
        let jail = "n\u{1b}o".to_owned();
        let request = Request::Set { jail, setting: Tunable::Maxretry, value: None };
        let answer = controller.answer(request, at(0));
        assert!(
            matches!(&answer, Reply::Error(why) if !why.message.contains('\u{1b}')),
            "{answer:?}"
        );
    }
}

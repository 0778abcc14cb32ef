//! Turns what the daemon knows into events for alerts: what has begun and ended since the last look.
//!
//! It finds no faults itself: `faults` does, as for `status --check`. A state counts once it has been there for a
//! few looks, so that a source that is opened, or an interface that is created again, alerts nobody.
//!
//! Must never read a clock, or grow with what an attacker sends.

use std::collections::{BTreeMap, BTreeSet};

use api::{ActiveAccount, AlertSeverity, AlertState, Status};
use filter_common::decision::Reason;

use crate::check::{self, Level};
use crate::config::AlertKind;
use crate::faults::{Fault, faults};

/// The looks for which a state must last before it has begun or ended.
const LOOKS: u8 = 3;

/// The same for the end of an overload: a minute without.
const LOOKS_OF_CALM: u8 = 12;

/// The most states at a time.
const STATES_MAX: usize = 1024;

/// The most accounts that are remembered.
const ACCOUNTS_MAX: usize = 1024;

/// The longest text of an event, and the longest subject, in characters.
const TEXT_MAX: usize = 500;
const SUBJECT_MAX: usize = 200;

/// What is known at a look.
#[derive(Clone, Debug)]
pub struct Facts {
    /// The daemon's status.
    pub status: Status,
    /// The attacked accounts.
    pub accounts: Vec<ActiveAccount>,
}

/// Something to tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// Its kind.
    pub kind: AlertKind,
    /// How much it matters.
    pub severity: AlertSeverity,
    /// Whether it has begun, ended or happened.
    pub state: AlertState,
    /// What it is about.
    pub subject: String,
    /// What it is, as text.
    pub text: String,
}

impl Occurrence {
    /// Something that happens once.
    pub fn once(kind: AlertKind, severity: AlertSeverity, subject: &str, text: &str) -> Self {
        let (subject, text) = (short(subject, SUBJECT_MAX), short(text, TEXT_MAX));
        Self { kind, severity, state: AlertState::Happened, subject, text }
    }
}

fn short(text: &str, most: usize) -> String {
    text.chars().take(most).collect()
}

/// Tells states of the same kind apart: what is wrong, and with what.
type Key = (AlertKind, String, String);

struct State {
    severity: AlertSeverity,
    text: String,
    is_told: bool,
    /// The looks for which it has been there, or if it was told, for which it has been gone.
    looks: u8,
}

/// What was known at the last looks.
#[derive(Default)]
pub(super) struct Watch {
    states: BTreeMap<Key, State>,
    /// The attacked accounts, with their jails; `None` before the first look.
    accounts: Option<BTreeSet<(String, String)>>,
    /// The packets over shared limits.
    over: Option<u64>,
}

impl Watch {
    /// What has begun, ended or happened since the last look.
    pub(super) fn look(&mut self, facts: &Facts) -> Vec<Occurrence> {
        let now = self.states_of(facts);
        let mut told = Vec::new();
        for (key, (severity, text)) in &now {
            if self.states.len() >= STATES_MAX && !self.states.contains_key(key) {
                continue;
            }
            let new = State { severity: *severity, text: text.clone(), is_told: false, looks: 0 };
            let state = self.states.entry(key.clone()).or_insert(new);
            if state.is_told {
                state.looks = 0;
                continue;
            }
            (state.severity, state.text) = (*severity, text.clone());
            state.looks += 1;
            if state.looks >= LOOKS {
                (state.is_told, state.looks) = (true, 0);
                told.push(changed(key, state, AlertState::Began));
            }
        }
        self.states.retain(|key, state| {
            if now.contains_key(key) {
                return true;
            }
            state.looks += 1;
            let needs = if key.0 == AlertKind::Overload { LOOKS_OF_CALM } else { LOOKS };
            let is_over = state.is_told && state.looks >= needs;
            if is_over {
                told.push(changed(key, state, AlertState::Ended));
            }
            state.is_told && !is_over
        });
        told.extend(self.attacked(&facts.accounts));
        told
    }

    /// The states that there are now.
    fn states_of(&mut self, facts: &Facts) -> BTreeMap<Key, (AlertSeverity, String)> {
        let mut now = BTreeMap::new();
        let mut add = |kind, what: &str, subject: &str, severity, text: &str| {
            let key = (kind, what.to_owned(), short(subject, SUBJECT_MAX));
            now.insert(key, (severity, short(text, TEXT_MAX)));
        };
        for fault in faults(&facts.status) {
            let Some((kind, what, subject)) = of_fault(&fault) else { continue };
            let Some((level, text)) = check::described(&fault) else { continue };
            let severity = match level {
                Level::Ok => AlertSeverity::Notice,
                Level::Warning => AlertSeverity::Warning,
                Level::Critical => AlertSeverity::Critical,
            };
            add(kind, what, subject, severity, &text);
        }
        // With the greylist, a REGISTER over a shared limit has another reason.
        let packets = |reason: Reason| facts.status.reasons.get(reason.as_str()).map(|c| c.packets);
        let over = [Reason::SharedLimit, Reason::Greylist].into_iter().filter_map(packets).sum();
        let before = self.over.replace(over);
        if before.is_some_and(|before| over > before) {
            let text =
                "packets of unknown sources are dropped because of a limit that all of them share";
            add(AlertKind::Overload, "", "limits.shared", AlertSeverity::Warning, text);
        }
        now
    }

    /// The accounts that were not attacked at the last look. Those of the first look were known before.
    fn attacked(&mut self, accounts: &[ActiveAccount]) -> Vec<Occurrence> {
        let key = |one: &ActiveAccount| (one.jail.clone(), one.account.clone());
        let now: BTreeSet<_> = accounts.iter().map(key).collect();
        let Some(before) = &mut self.accounts else {
            self.accounts = Some(now);
            return Vec::new();
        };
        let new = accounts.iter().filter(|one| !before.contains(&key(one)));
        let told: Vec<_> = new
            .map(|one| {
                let text = format!(
                    "{} failures on one account from {} sources in the jail {}",
                    one.failures, one.sources, one.jail
                );
                Occurrence::once(AlertKind::Account, AlertSeverity::Warning, &one.account, &text)
            })
            .collect();
        // The list has only the latest: one that returns to it is not new.
        before.extend(now.iter().cloned());
        if before.len() > ACCOUNTS_MAX {
            *before = now;
        }
        told
    }
}

fn changed((kind, _, subject): &Key, state: &State, to: AlertState) -> Occurrence {
    Occurrence {
        kind: *kind,
        severity: state.severity,
        state: to,
        subject: subject.clone(),
        text: state.text.clone(),
    }
}

/// The kind of alert for a fault, what is wrong, and with what; `None` if nobody is alerted.
fn of_fault<'a>(fault: &Fault<'a>) -> Option<(AlertKind, &'a str, &'a str)> {
    Some(match fault {
        Fault::Unprotected(interface) => (AlertKind::Interface, "unprotected", &*interface.name),
        Fault::NotLearning(interface) => (AlertKind::Interface, "learning", &*interface.name),
        Fault::Exposed(exposure) => (AlertKind::Exposure, "", &*exposure.subject),
        Fault::StoreFailed(store) => (AlertKind::Store, "", &*store.path),
        Fault::NotEnforcing(_) => (AlertKind::Enforcement, "", "packets"),
        Fault::Unread { source, .. } => (AlertKind::Source, "unread", &*source.name),
        Fault::Silent(source) => (AlertKind::Source, "silent", &*source.name),
        Fault::Unrecognised(hearing) => (AlertKind::Source, &*hearing.kind, &*hearing.source),
        Fault::FeedFailed(feed) => (AlertKind::Feed, feed.state.as_str(), &*feed.name),
        Fault::GeoFailed(_) => (AlertKind::Feed, "geo", "geo"),
        Fault::FleetFailed(fleet) => (AlertKind::Fleet, fleet.state.as_str(), "fleet"),
        Fault::NearlyFull(_) => (AlertKind::Capacity, "", "bans"),
        Fault::AlertFailing(alert) => (AlertKind::Alert, "", &*alert.name),
        // They are for the doctor: nobody must be called for them.
        Fault::Fallback(_) | Fault::Strained(..) | Fault::Lost(_) | Fault::LogIncomplete(_) => {
            return None;
        }
    })
}

#[cfg(test)]
mod tests {
    use api::{State as Now, StoreState};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::examples::healthy;

    fn facts(change: impl Fn(&mut Status)) -> Facts {
        let mut status = healthy();
        change(&mut status);
        Facts { status, accounts: Vec::new() }
    }

    fn told(watch: &mut Watch, facts: &Facts, looks: u8) -> Vec<(AlertKind, AlertState, String)> {
        let all = (0..looks).flat_map(|_| watch.look(facts));
        all.map(|told| (told.kind, told.state, told.subject)).collect()
    }

    #[test]
    fn a_fault_that_lasts_is_told_once_and_so_is_its_end() {
        let mut watch = Watch::default();
        let (well, bad) = (facts(|_| ()), facts(|status| status.interfaces[1].protected = false));
        assert_eq!(told(&mut watch, &well, 10), []);
        assert_eq!(told(&mut watch, &bad, LOOKS - 1), []);
        assert_eq!(told(&mut watch, &well, 1), [], "it was short");
        let began = (AlertKind::Interface, AlertState::Began, "eth1".to_owned());
        assert_eq!(told(&mut watch, &bad, 50), [began]);
        assert_eq!(told(&mut watch, &well, LOOKS - 1), []);
        assert_eq!(told(&mut watch, &bad, 1), [], "it is still there");
        let ended = (AlertKind::Interface, AlertState::Ended, "eth1".to_owned());
        assert_eq!(told(&mut watch, &well, 50), [ended]);
    }

    #[test]
    fn every_kind_of_state_is_found() {
        let full = facts(|status| {
            status.interfaces[0].protected = false;
            status.store.state = StoreState::Failed;
            status.sources[0].state = Now::Failed;
            status.bans.active = status.bans.capacity;
            let exposure = api::Exposure {
                subject: "eth2".to_owned(),
                problem: "not seen".to_owned(),
                remedy: String::new(),
            };
            status.exposure = vec![exposure];
            status.enforcement.state = api::EnforcementState::Disabled;
            status.feeds = vec![api::FeedHealth {
                name: "drop".to_owned(),
                state: api::FeedState::Failing,
                problem: Some("503".to_owned()),
                fetched: None,
            }];
            let state = api::FleetState::Disconnected;
            status.fleet = Some(api::FleetHealth { state, ..api::FleetHealth::default() });
            let (name, problem) = ("ops".to_owned(), "refused".to_owned());
            status.alerts = vec![api::FailingAlert { name, problem }];
        });
        let mut watch = Watch::default();
        let kinds: BTreeSet<_> =
            told(&mut watch, &full, LOOKS).into_iter().map(|told| told.0).collect();
        let others = [
            AlertKind::Overload,
            AlertKind::Network,
            AlertKind::Protected,
            AlertKind::Account,
            AlertKind::Country,
        ];
        let all: BTreeSet<_> =
            AlertKind::ALL.iter().copied().filter(|kind| !others.contains(kind)).collect();
        assert_eq!(kinds, all);
    }

    #[test]
    fn a_silent_source_is_told() {
        let mut watch = Watch::default();
        let silent = facts(|status| {
            status.uptime_seconds = crate::faults::SILENT;
            status.sources[2].events = 0;
        });
        let began = (AlertKind::Source, AlertState::Began, "sshd".to_owned());
        assert_eq!(told(&mut watch, &silent, LOOKS), [began]);
    }

    #[test]
    fn an_overload_begins_and_ends() {
        let mut watch = Watch::default();
        let over = |packets| {
            facts(move |status| {
                let verdict = api::Verdict::Drop;
                let count = api::ReasonCount { verdict, packets, bytes: 0 };
                status.reasons.insert("shared-limit".to_owned(), count);
            })
        };
        // What was dropped before the start is no overload.
        assert_eq!(told(&mut watch, &over(1000), 10), []);
        let began: Vec<_> = (1..=10).flat_map(|n| watch.look(&over(1000 + n))).collect();
        assert_eq!((began.len(), began[0].state), (1, AlertState::Began));
        assert_eq!(told(&mut watch, &over(1010), LOOKS_OF_CALM - 1), []);
        assert_eq!(told(&mut watch, &over(1010), 1).len(), 1);
    }

    #[test]
    fn an_attacked_account_is_told_once_and_only_as_data() {
        let mut watch = Watch::default();
        let account = |name: &str| ActiveAccount {
            account: name.to_owned(),
            ..serde_json::from_value(serde_json::json!({
                "account": "", "jail": "asterisk-wazo", "failures": 9, "sources": 3, "last": "x",
            }))
            .unwrap()
        };
        let with = |names: &[&str]| Facts {
            accounts: names.iter().map(|name| account(name)).collect(),
            ..facts(|_| ())
        };
        assert_eq!(watch.look(&with(&["old"])), []);
        let new = watch.look(&with(&["old", "$(id)\r\nBcc: x"]));
        assert_eq!((new.len(), &*new[0].subject), (1, "$(id)\r\nBcc: x"));
        assert!(!new[0].text.contains("id"), "{new:?}");
        assert_eq!(watch.look(&with(&["old", "$(id)\r\nBcc: x"])), []);
        let many: Vec<String> = (0..5000).map(|n| format!("{n}{}", "x".repeat(999))).collect();
        let many: Vec<&str> = many.iter().map(|name| &**name).collect();
        assert!(watch.look(&with(&many)).iter().all(|told| told.subject.len() <= SUBJECT_MAX));
    }

    proptest! {
        /// Whatever comes and goes, each state begins and ends in turn.
        #[test]
        fn beginnings_and_ends_alternate(there in vec(any::<[bool; 3]>(), 0..200)) {
            let mut watch = Watch::default();
            let mut open = BTreeSet::new();
            for bad in there {
                let now = facts(|status| {
                    status.interfaces[0].protected = !bad[0];
                    status.interfaces[1].protected = !bad[1];
                    status.sources[0].state = if bad[2] { Now::Failed } else { Now::Ok };
                });
                for told in watch.look(&now) {
                    let key = (told.kind, told.subject);
                    match told.state {
                        AlertState::Began => prop_assert!(open.insert(key)),
                        AlertState::Ended => prop_assert!(open.remove(&key)),
                        AlertState::Happened => prop_assert!(false),
                    }
                }
            }
            for _ in 0..LOOKS {
                for told in watch.look(&facts(|_| ())) {
                    prop_assert!(open.remove(&(told.kind, told.subject)));
                }
            }
            prop_assert!(open.is_empty());
        }
    }
}

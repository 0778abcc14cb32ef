//! The plain mode, for screen readers and logs: lines of text about what has changed, without any control of the
//! cursor.

use std::collections::BTreeMap;

use api::{State, Status};

use super::attackers::Attacker;
use super::model::{Model, Moment, enforcement};
use super::rates::Rate;
use super::safe::safe;
use super::tables::faults;
use crate::prefix::show;
use crate::report::count;

/// The most lines about attackers at a time.
const ATTACKERS_MAX: usize = 20;

/// A rate up to which differences do not matter.
const QUIET: Rate = Rate(10_000);

/// What was said before.
#[derive(Debug, Default)]
pub(super) struct Plain {
    /// What was said about each subject: only if this changes is it said again.
    said: BTreeMap<String, String>,
    rates: Option<(Rate, Rate)>,
    was_down: bool,
}

/// A fact to say.
struct Fact {
    subject: String,
    /// Only if this changes is the fact worth a line.
    state: String,
    text: String,
}

impl Fact {
    fn new(subject: impl Into<String>, state: impl Into<String>, text: String) -> Self {
        Self { subject: subject.into(), state: state.into(), text }
    }
}

impl Plain {
    /// The lines about what has changed since the last call.
    pub(super) fn lines(&mut self, model: &Model, now: Moment) -> Vec<String> {
        let status = match model.status() {
            Ok(status) => status,
            Err(None) => return Vec::new(),
            Err(Some(_)) if self.was_down => return Vec::new(),
            Err(Some(why)) => {
                self.was_down = true;
                return vec![format!("no answer from the daemon: {}", safe(why))];
            }
        };
        let mut lines = Vec::new();
        if std::mem::take(&mut self.was_down) {
            lines.push("the daemon answers again".to_owned());
        }
        let facts = facts(status);
        let attackers = model.attackers_now(now);
        let mut unsaid = 0_u64;
        let mut news = Vec::new();
        for fact in attackers.into_iter().map(attacker) {
            let is_new = self.said.get(&fact.subject) != Some(&fact.state);
            if is_new && news.len() >= ATTACKERS_MAX {
                unsaid += 1;
                continue;
            }
            if is_new {
                news.push(fact.text.clone());
            }
            self.said.insert(fact.subject, fact.state);
        }
        for fact in &facts {
            if self.said.get(&fact.subject) != Some(&fact.state) {
                self.said.insert(fact.subject.clone(), fact.state.clone());
                lines.push(fact.text.clone());
            }
        }
        lines.extend(self.traffic(model));
        lines.extend(news);
        if unsaid > 0 {
            lines.push(format!("and {}", count(unsaid, "other attacker")));
        }
        let is_now = |subject: &str| {
            facts.iter().any(|fact| fact.subject == subject)
                || subject.strip_prefix("attacker ").is_some_and(|network| {
                    model.attackers_now(now).iter().any(|other| show(other.network) == network)
                })
        };
        let over: Vec<String> =
            self.said.keys().filter(|subject| !is_now(subject)).cloned().collect();
        for subject in over {
            self.said.remove(&subject);
            lines.push(format!("no longer: {subject}"));
        }
        lines
    }

    /// The traffic, if it has changed by more than a quarter.
    fn traffic(&mut self, model: &Model) -> Option<String> {
        if model.traffic.passed.is_empty() {
            return None;
        }
        let now = model.traffic.now();
        let differs = |before: Rate, after: Rate| {
            // A few packets a second are noise.
            let (before, after) = (before.0.max(QUIET.0), after.0.max(QUIET.0));
            before.abs_diff(after) > before / 4
        };
        if self.rates.is_some_and(|old| !differs(old.0, now.0) && !differs(old.1, now.1)) {
            return None;
        }
        self.rates = Some(now);
        Some(format!("passed {} packets a second, dropped {}", now.0.text(), now.1.text()))
    }
}

fn facts(status: &Status) -> Vec<Fact> {
    let (state, _) = enforcement(status);
    let interfaces = status.interfaces.iter().map(|interface| {
        let name = safe(&interface.name);
        let state = if interface.protected { "protected" } else { "UNPROTECTED" };
        Fact::new(format!("interface {name}"), state, format!("interface {name} is {state}"))
    });
    let sources = status.sources.iter().map(|source| {
        let name = safe(&source.name);
        let state = match source.state {
            State::Ok => "is read",
            State::Waiting => "waits",
            State::Failed => "has FAILED",
        };
        let why = source.why.as_deref().map_or_else(String::new, |why| format!(": {}", safe(why)));
        Fact::new(format!("source {name}"), state, format!("source {name} {state}{why}"))
    });
    let jails = status.jails.iter().map(|jail| {
        let name = safe(&jail.name);
        let text = format!("jail {name}: {} in force", count(jail.banned, "ban"));
        Fact::new(format!("jail {name}"), jail.banned.to_string(), text)
    });
    let faults = faults(status).rows.into_iter().map(|row| {
        let text = row.cells.join(": ");
        Fact::new(format!("fault {}", row.key), "", text)
    });
    let bans = format!("{} in force", count(status.bans.active, "ban"));
    let first = [
        Fact::new("enforcement", state.clone(), format!("the daemon is {state}")),
        Fact::new("bans", bans.clone(), bans),
    ];
    first.into_iter().chain(interfaces).chain(sources).chain(jails).chain(faults).collect()
}

fn attacker(attacker: &Attacker) -> Fact {
    let network = show(attacker.network);
    let known = attacker.known_as.as_ref();
    let mut parts = Vec::new();
    if let Some(class) = known.and_then(|known| known.class.as_deref()) {
        parts.push(safe(class));
    }
    if let Some(account) = known.and_then(|known| known.account.as_deref()) {
        parts.push(format!("account {}", safe(account)));
    }
    if let Some(limit) = known.and_then(|known| known.limit.as_ref()) {
        parts.push(format!("over a limit: {}", safe(&limit.reason)));
    }
    let state = if let Some(ban) = &attacker.ban {
        let what = if ban.is_throttle { "throttled" } else { "banned" };
        format!("{what} by {}", safe(&ban.jail))
    } else {
        if let Some(near) = known.and_then(|known| known.near.as_ref()) {
            parts.push(format!("{} of {} in {}", near.points, near.maxretry, safe(&near.jail)));
        }
        "not banned".to_owned()
    };
    parts.push(state.clone());
    let text = format!("attacker {network}: {}", parts.join(", "));
    Fact::new(format!("attacker {network}"), state, text)
}

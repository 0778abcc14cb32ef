//! An alert or an action: the events that wait for it, the message that it sends next, and how sending goes.
//!
//! Must never send.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use api::{
    ActionEvent, ActionMessage, AlertEvent, AlertMessage, AlertRow, AlertSeverity, AlertState,
    BanKind,
};
use jiff::{Timestamp, Zoned};
use log::{info, warn};
use tokio::time::Instant;

use super::backlog::{self, Backlog, Done as Paged};
use super::kept;
use super::message::{Message, size};
use super::plan::{Counts, Group, Pace, Parcel, Plan};
use super::way::Way;
use super::{Key, Occurrence};
use crate::clock::Rfc3339;
use crate::config::{Action, ActionKind, Alert, AlertKind};

/// The events of a kind that a message of an alert lists.
const LISTED: usize = 20;

/// The events that wait for an action in memory, and the most in one of its messages. Further ones wait in a file.
const ACTION_ROOM: usize = 1000;
pub(super) const ACTION_BATCH: usize = 100;

/// The most bytes of events in a message. Curl of Debian 12 reads options of up to 100 KiB.
const BYTES_MAX: usize = 60_000;

/// How often the log says that bans were not passed on.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// The kind of a test message.
const TEST: &str = "test";

/// The time, on both clocks.
#[derive(Clone, Copy)]
pub(super) struct Now<'a> {
    pub(super) since_start: Duration,
    pub(super) zoned: &'a Zoned,
}

/// An alert or an action.
pub(super) struct Target {
    pub(super) way: Way,
    course: Course,
    /// Tells it from one of the same name before a reload.
    pub(super) generation: u64,
    /// The message that is on its way or is sent again, with its number.
    message: Option<(u64, Arc<Message>)>,
    pub(super) problem: Option<String>,
    last_sent: Option<Timestamp>,
    /// When the log last said that events were lost, and that the file cannot be used.
    said: Option<Instant>,
    said_problem: Option<Instant>,
}

enum Course {
    Alert(Alert, Plan<AlertKind, (AlertSeverity, AlertEvent)>),
    Action(Action, Plan<(), ActionEvent>, Backlog),
}

/// The group of all events of an action.
const OF_ACTION: Group<()> = Group { is_critical: false, kind: () };

/// The events of an action for which there is room in memory.
fn room(plan: &Plan<(), ActionEvent>) -> usize {
    ACTION_ROOM.saturating_sub(plan.waiting_in(OF_ACTION))
}

/// Adds events that have waited in a file.
fn add(plan: &mut Plan<(), ActionEvent>, events: Vec<ActionEvent>) {
    for event in events {
        let size = size(&event);
        plan.add(OF_ACTION, event, size);
    }
}

impl Target {
    pub(super) fn of_alert(alert: &Alert, generation: u64) -> Self {
        let plan = Plan::new(Pace {
            group: alert.group,
            limit: Some(alert.limit),
            room: LISTED,
            batch: (LISTED, BYTES_MAX),
        });
        Self::new(Way::of_alert(alert), Course::Alert(alert.clone(), plan), generation)
    }

    pub(super) fn of_action(name: &str, action: &Action, generation: u64, state: &Path) -> Self {
        let plan = Plan::new(Pace {
            group: Duration::ZERO,
            limit: None,
            room: ACTION_ROOM,
            batch: (ACTION_BATCH, BYTES_MAX),
        });
        let backlog =
            Backlog::new(state.join(format!("action-{generation}")), kept::place(state, name));
        let course = Course::Action(action.clone(), plan, backlog);
        Self::new(Way::of_action(action), course, generation)
    }

    fn new(way: Way, course: Course, generation: u64) -> Self {
        Self {
            way,
            course,
            generation,
            message: None,
            problem: None,
            last_sent: None,
            said: None,
            said_problem: None,
        }
    }

    /// Whether it is this alert, with the same settings.
    pub(super) fn is_alert(&self, alert: &Alert) -> bool {
        matches!(&self.course, Course::Alert(settings, _) if settings == alert)
    }

    /// Whether it is this action, with the same settings.
    pub(super) fn is_action(&self, action: &Action) -> bool {
        matches!(&self.course, Course::Action(settings, ..) if settings == action)
    }

    /// Takes an event, if it is told.
    pub(super) fn take(&mut self, name: &str, what: &Occurrence, time: &str) {
        let Course::Alert(Alert { events, .. }, plan) = &mut self.course else { return };
        let is_wanted = events.is_empty() || events.contains(&what.kind);
        let is_itself = what.kind == AlertKind::Alert && what.subject == name;
        if !is_wanted || is_itself {
            return;
        }
        let Occurrence { kind, severity, state, subject, text } = what.clone();
        let event = AlertEvent { time: time.to_owned(), state, subject, text };
        let size = size(&event);
        let is_critical = severity == AlertSeverity::Critical;
        plan.add(Group { is_critical, kind }, (severity, event), size);
    }

    /// Takes a ban or its end, if the action is for it.
    pub(super) fn take_ban(&mut self, event: &ActionEvent) {
        let Course::Action(Action { events, jails, .. }, plan, backlog) = &mut self.course else {
            return;
        };
        let is = |kind: &ActionKind| kind.as_str() == event.event;
        let is_wanted = events.is_empty() || events.iter().any(is);
        let is_of = jails.is_empty() || jails.iter().any(|jail| jail.as_str() == event.jail);
        if !is_wanted || !is_of {
            return;
        }
        if !backlog.is_ahead() && room(plan) > 0 {
            plan.add(OF_ACTION, event.clone(), size(event));
        } else if !backlog.push(event) {
            plan.lose(OF_ACTION, 1);
        }
    }

    /// Counts bans for which there was no room on the way to an action.
    pub(super) fn lose_bans(&mut self, lost: u64) {
        if let Course::Action(_, plan, _) = &mut self.course {
            plan.lose(OF_ACTION, lost);
        }
    }

    /// Moves events between memory and the file of an action. Returns what has to be done with the file.
    pub(super) fn page(&mut self) -> Option<backlog::Job> {
        let Course::Action(_, plan, backlog) = &mut self.course else { return None };
        // A few at a time would cost a look at the file each.
        let enough = |plan: &_| Some(room(plan)).filter(|room| *room >= ACTION_BATCH).unwrap_or(0);
        add(plan, backlog.first(enough(plan)));
        backlog.job(enough(plan))
    }

    /// Takes what was done with the file.
    pub(super) fn paged(&mut self, name: &str, done: Paged) {
        let Course::Action(_, plan, backlog) = &mut self.course else { return };
        if let Paged::Taken(Err(why)) = &done {
            warn!("action {name}: what waited before this start is lost: {why}");
        }
        let (events, lost) = backlog.done(done, room(plan));
        add(plan, events);
        if lost > 0 {
            plan.lose(OF_ACTION, lost);
        }
        if let Some(problem) = backlog.take_problem() {
            let is_due = self.said_problem.is_none_or(|said| said.elapsed() >= SAY_EVERY);
            if is_due {
                self.said_problem = Some(Instant::now());
                warn!("action {name}: bans wait in memory, which has little room: {problem}");
            }
        }
    }

    /// Keeps what waits for an action in its file.
    pub(super) fn keep(&mut self, name: &str, state: &Path) {
        let Course::Action(_, plan, backlog) = &mut self.course else { return };
        let waiting = plan.waiting().saturating_add(backlog.len());
        let (first, lost) = plan.rest();
        let path = kept::place(state, name);
        if let Err(why) = kept::keep(&path, &first, &backlog.rest(), lost) {
            warn!(
                "action {name}: {waiting} bans or ends of bans are lost: cannot keep them in {}: {why}",
                path.display()
            );
        }
    }

    /// The message to send now.
    pub(super) fn next(&mut self, name: &str, host: &str, now: Now<'_>) -> Option<Arc<Message>> {
        let (number, message) = match &mut self.course {
            Course::Alert(settings, plan) => {
                let is_quiet = settings.quiet.is_some_and(|hours| hours.contains(now.zoned.time()));
                let parcel = plan.next(now.since_start, is_quiet)?;
                let number = parcel.number;
                match self.message.take().filter(|(made, _)| *made == number) {
                    Some((_, message)) => (number, message),
                    None => (number, Arc::new(of_alert(name, host, parcel))),
                }
            }
            Course::Action(_, plan, _) => {
                let parcel = plan.next(now.since_start, false)?;
                let number = parcel.number;
                let before = self.message.take().filter(|(made, _)| *made == number);
                if let Some((_, message)) = before {
                    (number, message)
                } else {
                    let Parcel { events, more: lost, .. } = parcel;
                    let is_due = self.said.is_none_or(|said| said.elapsed() >= SAY_EVERY);
                    if lost > 0 && is_due {
                        self.said = Some(Instant::now());
                        warn!(
                            "action {name}: {lost} bans or ends of bans were not passed on, because too many waited"
                        );
                    }
                    let (id, time) = made();
                    let (action, host) = (name.to_owned(), host.to_owned());
                    let message = ActionMessage { id, action, host, time, events, lost };
                    (number, Arc::new(Message::of_action(&message)))
                }
            }
        };
        self.message = Some((number, Arc::clone(&message)));
        Some(message)
    }

    /// Takes the outcome of sending a message.
    pub(super) fn done(&mut self, key: &Key, result: Result<(), String>, now: Duration) {
        let what = named(key);
        let is_sent = result.is_ok();
        let is_given_up = match &mut self.course {
            Course::Alert(_, plan) => plan.done(now, is_sent),
            Course::Action(_, plan, _) => plan.done(now, is_sent),
        };
        if is_sent || is_given_up {
            self.message = None;
        }
        match result {
            Ok(()) => {
                self.last_sent = Some(Timestamp::now());
                if self.problem.take().is_some() {
                    info!("{what}: its messages are sent again");
                }
            }
            Err(why) => {
                if self.problem.is_none() {
                    warn!("{what}: its message is not sent, and is tried again: {why}");
                }
                self.problem = Some(why);
            }
        }
    }

    pub(super) fn row(&self, name: &str) -> AlertRow {
        let (counts, waiting) = match &self.course {
            Course::Alert(_, plan) => (plan.counts(), plan.waiting()),
            Course::Action(_, plan, backlog) => {
                (plan.counts(), plan.waiting().saturating_add(backlog.len()))
            }
        };
        let Counts { sent, failed, events, crowded, given_up } = counts;
        let is_action = matches!(self.course, Course::Action(..));
        AlertRow {
            name: name.to_owned(),
            way: self.way.name().to_owned(),
            sent,
            failed,
            events,
            suppressed: if is_action { 0 } else { crowded },
            lost: if is_action { given_up.saturating_add(crowded) } else { given_up },
            waiting,
            last_sent: self.last_sent.map(|at| Rfc3339(at).to_string()),
            problem: self.problem.clone(),
        }
    }

    pub(super) fn is_idle(&self) -> bool {
        match &self.course {
            Course::Alert(_, plan) => plan.is_idle(),
            Course::Action(_, plan, backlog) => plan.is_idle() && backlog.is_empty(),
        }
    }

    /// A message that says it is a test.
    pub(super) fn test(&self, name: &str, host: &str) -> Message {
        let (id, time) = made();
        let (host, text) = (host.to_owned(), "this is a test".to_owned());
        match &self.course {
            Course::Alert(..) => Message::of_alert(&AlertMessage {
                id,
                alert: name.to_owned(),
                host,
                time: time.clone(),
                kind: TEST.to_owned(),
                severity: AlertSeverity::Notice,
                events: vec![AlertEvent {
                    time,
                    state: AlertState::Happened,
                    subject: name.to_owned(),
                    text,
                }],
                more: 0,
            }),
            Course::Action(..) => Message::of_action(&ActionMessage {
                id,
                action: name.to_owned(),
                host,
                time: time.clone(),
                events: vec![ActionEvent {
                    event: TEST.to_owned(),
                    network: "192.0.2.1".to_owned(),
                    jail: TEST.to_owned(),
                    scope: "sip".to_owned(),
                    kind: BanKind::Ban,
                    proven: false,
                    enforcing: false,
                    since: time,
                    until: None,
                    lifted: false,
                    reason: text,
                    evidence: Vec::new(),
                }],
                lost: 0,
            }),
        }
    }
}

/// An alert or action in the log.
fn named((is_action, name): &Key) -> String {
    format!("{} {name}", if *is_action { "action" } else { "alert" })
}

/// The identity of a new message, and the time.
fn made() -> (String, String) {
    let now = Timestamp::now();
    let id = format!("{:x}-{:08x}", now.as_millisecond(), fastrand::u32(..));
    (id, Rfc3339(now).to_string())
}

fn of_alert(
    name: &str,
    host: &str,
    parcel: Parcel<AlertKind, (AlertSeverity, AlertEvent)>,
) -> Message {
    let Parcel { group, events, more, .. } = parcel;
    let worst = events.iter().map(|(severity, _)| *severity).max();
    let least = if group.is_critical { AlertSeverity::Critical } else { AlertSeverity::Notice };
    let (id, time) = made();
    Message::of_alert(&AlertMessage {
        id,
        alert: name.to_owned(),
        host: host.to_owned(),
        time,
        kind: group.kind.as_str().to_owned(),
        severity: worst.unwrap_or(least),
        events: events.into_iter().map(|(_, event)| event).collect(),
        more,
    })
}

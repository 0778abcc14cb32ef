//! Alerts tell people what happens; actions tell programs about bans.
//!
//! ```text
//! loop ─ facts, bans ─▶ watch ─▶ plan ─▶ message ─▶ way
//! ```
//!
//! One task has all of them. The loop that owns the controller hands over what it knows without waiting; what there is
//! no room for is counted. `watch` and `plan` decide, without a clock; `way` sends.
//!
//! Must never delay a ban, send more than one message of an alert at a time, or grow with what an attacker sends.

mod backlog;
mod crowdsec;
mod kept;
mod message;
mod plan;
pub mod text;
mod watch;
mod way;

use std::collections::BTreeMap;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{
    ActionEvent, ActionMessage, AlertEvent, AlertMessage, AlertRow, AlertSeverity, AlertState,
    AlertTested, Alerts, AlertsTested, BanKind, FailingAlert,
};
use jiff::{Timestamp, Zoned};
use log::{info, warn};
use tokio::sync::{Semaphore, mpsc, oneshot, watch as settings};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};

use self::backlog::{Backlog, Done as Paged};
use self::message::{Message, bounded, size};
use self::plan::{Counts, Group, Pace, Parcel, Plan};
use self::watch::Watch;
pub use self::watch::{Facts, Occurrence};
use self::way::Way;
use crate::clock::Rfc3339;
use crate::config::{Action, ActionKind, Alert, AlertKind, Config};

/// The events of a kind that a message of an alert lists.
const LISTED: usize = 20;

/// The events that wait for an action in memory, and the most in one of its messages. Further ones wait in a file.
const ACTION_ROOM: usize = 1000;
const ACTION_BATCH: usize = 100;

/// The most bytes of events in a message. Curl of Debian 12 reads options of up to 100 KiB.
const BYTES_MAX: usize = 60_000;

/// The bans that wait for this task.
const BANS_WAITING: usize = 1 << 14;

/// What else waits for it.
const WAITING: usize = 64;

/// The most messages that are on their way at a time.
const AT_ONCE: usize = 4;

/// How often it looks whether something is due.
const TICK: Duration = Duration::from_secs(1);

/// How often the log says that bans were not passed on.
const SAY_EVERY: Duration = Duration::from_mins(1);

/// At a stop, how long messages on their way have, and how long what waits for actions has to be kept.
const LAST_MESSAGES: Duration = Duration::from_secs(1);
const KEEPING: Duration = Duration::from_secs(10);

/// The longest host name that is shown.
const HOST_MAX: usize = 64;

/// The alerts and actions of a configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings {
    alerts: BTreeMap<String, Alert>,
    actions: BTreeMap<String, Action>,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self { alerts: config.alerts.clone(), actions: config.actions.clone() }
    }
}

/// A test of an alert or action, or of all.
struct Test {
    name: Option<String>,
    reply: oneshot::Sender<Result<AlertsTested, String>>,
}

enum Input {
    Happened(Occurrence),
    Look(Box<Facts>),
    Test(Test),
    Tested(Key),
    Stop(oneshot::Sender<()>),
}

/// The way to the task. Nothing here waits.
#[derive(Clone, Debug)]
pub struct Handle {
    settings: Arc<settings::Sender<Settings>>,
    inputs: mpsc::Sender<Input>,
    bans: mpsc::Sender<ActionEvent>,
    lost: Arc<AtomicU64>,
    rows: Arc<Mutex<Alerts>>,
}

impl Handle {
    /// Passes on a ban or its end, if an action wants it.
    pub fn ban(&self, event: impl FnOnce() -> ActionEvent) {
        if self.settings.borrow().actions.is_empty() {
            return;
        }
        match self.bans.try_reserve() {
            Ok(room) => room.send(event()),
            Err(_full) => drop(self.lost.fetch_add(1, Ordering::Relaxed)),
        }
    }

    /// Whether there is an alert, which wants to know the facts.
    pub fn has_alerts(&self) -> bool {
        !self.settings.borrow().alerts.is_empty()
    }

    /// Passes on what has happened.
    pub fn happened(&self, what: impl FnOnce() -> Occurrence) {
        if self.has_alerts() {
            // If there is no room, there is more than enough to tell.
            drop(self.inputs.try_send(Input::Happened(what())));
        }
    }

    /// Passes on what is known now.
    pub fn look(&self, facts: Facts) {
        drop(self.inputs.try_send(Input::Look(Box::new(facts))));
    }

    /// Uses another configuration. Alerts and actions that are in both keep what waits, and their counts.
    pub fn configure(&self, config: &Config) {
        let new = Settings::from(config);
        self.settings.send_if_modified(|old| {
            let differs = *old != new;
            *old = new;
            differs
        });
    }

    /// The state of all.
    pub fn rows(&self) -> Alerts {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Those that cannot be sent.
    pub fn failing(&self) -> Vec<FailingAlert> {
        let Alerts { alerts, actions } = self.rows();
        let failing =
            |row: AlertRow| row.problem.map(|problem| FailingAlert { name: row.name, problem });
        alerts.into_iter().chain(actions).filter_map(failing).collect()
    }

    /// Sends a test message. The result comes later.
    ///
    /// # Errors
    ///
    /// If too much is going on; the error says what to do.
    pub fn test(
        &self,
        name: Option<String>,
    ) -> Result<oneshot::Receiver<Result<AlertsTested, String>>, String> {
        let (reply, result) = oneshot::channel();
        let asked = self.inputs.try_send(Input::Test(Test { name, reply }));
        asked.map_err(|_full| "too much is going on; try again later".to_owned())?;
        Ok(result)
    }

    /// Ends the task, which keeps what waits for actions until the next start.
    pub async fn stop(&self) {
        let (reply, stopped) = oneshot::channel();
        let stop = async {
            drop(self.inputs.send(Input::Stop(reply)).await);
            drop(stopped.await);
        };
        if timeout(LAST_MESSAGES + 2 * KEEPING, stop).await.is_err() {
            warn!("what waits for actions is lost: it could not be written in time");
        }
    }
}

/// Starts the task.
pub fn start(config: &Config) -> Handle {
    let (settings, changed) = settings::channel(Settings::from(config));
    let (input, inputs) = mpsc::channel(WAITING);
    let (ban, bans) = mpsc::channel(BANS_WAITING);
    let lost = Arc::<AtomicU64>::default();
    let rows = Arc::<Mutex<Alerts>>::default();
    let handle = Handle {
        settings: Arc::new(settings),
        inputs: input.clone(),
        bans: ban,
        lost: Arc::clone(&lost),
        rows: Arc::clone(&rows),
    };
    let mut teller = Teller {
        targets: BTreeMap::new(),
        watch: Watch::default(),
        sending: JoinSet::new(),
        paging: JoinSet::new(),
        state: config.paths.state.clone(),
        at_once: Arc::new(Semaphore::new(AT_ONCE)),
        host: host(),
        start: Instant::now(),
        generation: 0,
        lost,
        rows,
        itself: input,
    };
    teller.configure(&changed.borrow());
    let state = config.paths.state.clone();
    let actions: Vec<String> = config.actions.keys().cloned().collect();
    tokio::task::spawn_blocking(move || kept::sweep(&state, &actions));
    tokio::spawn(teller.run(changed, inputs, bans));
    handle
}

/// The host's name, as far as it may stand in a header.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let name: String = name.trim().chars().filter(plain).take(HOST_MAX).collect();
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins { name } else { "localhost".to_owned() }
}

/// Whether it is an action, and its name.
type Key = (bool, String);

/// An alert or an action.
struct Target {
    way: Way,
    course: Course,
    /// Tells it from one of the same name before a reload.
    generation: u64,
    /// The message that is on its way or is sent again, with its number.
    message: Option<(u64, Arc<Message>)>,
    problem: Option<String>,
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
    fn of_alert(alert: &Alert, generation: u64) -> Self {
        let plan = Plan::new(Pace {
            group: alert.group,
            limit: Some(alert.limit),
            room: LISTED,
            batch: (LISTED, BYTES_MAX),
        });
        Self::new(Way::of_alert(alert), Course::Alert(alert.clone(), plan), generation)
    }

    fn of_action(name: &str, action: &Action, generation: u64, state: &Path) -> Self {
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

    /// Takes an event, if it is told.
    fn take(&mut self, name: &str, what: &Occurrence, time: &str) {
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
    fn take_ban(&mut self, event: &ActionEvent) {
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

    /// Moves events between memory and the file of an action. Returns what has to be done with the file.
    fn page(&mut self) -> Option<backlog::Job> {
        let Course::Action(_, plan, backlog) = &mut self.course else { return None };
        // A few at a time would cost a look at the file each.
        let enough = |plan: &_| Some(room(plan)).filter(|room| *room >= ACTION_BATCH).unwrap_or(0);
        add(plan, backlog.first(enough(plan)));
        backlog.job(enough(plan))
    }

    /// Takes what was done with the file.
    fn paged(&mut self, name: &str, done: Paged) {
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

    /// The message to send now.
    fn next(&mut self, name: &str, host: &str, now: Now<'_>) -> Option<Arc<Message>> {
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
    fn done(&mut self, key: &Key, result: Result<(), String>, now: Duration) {
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

    fn row(&self, name: &str) -> AlertRow {
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

    fn is_idle(&self) -> bool {
        match &self.course {
            Course::Alert(_, plan) => plan.is_idle(),
            Course::Action(_, plan, backlog) => plan.is_idle() && backlog.is_empty(),
        }
    }

    /// A message that says it is a test.
    fn test(&self, name: &str, host: &str) -> Message {
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

/// The kind of a test message.
const TEST: &str = "test";

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

/// The time, on both clocks.
#[derive(Clone, Copy)]
struct Now<'a> {
    since_start: Duration,
    zoned: &'a Zoned,
}

/// The outcome of sending a message.
struct Done {
    key: Key,
    generation: u64,
    result: Result<(), String>,
}

/// The task.
struct Teller {
    targets: BTreeMap<Key, Target>,
    watch: Watch,
    sending: JoinSet<Done>,
    /// What is done with the files of actions: the name and generation of each, and how it went.
    paging: JoinSet<(String, u64, Paged)>,
    /// The directory of the state, which has these files.
    state: PathBuf,
    at_once: Arc<Semaphore>,
    host: String,
    start: Instant,
    generation: u64,
    lost: Arc<AtomicU64>,
    rows: Arc<Mutex<Alerts>>,
    itself: mpsc::Sender<Input>,
}

impl Teller {
    async fn run(
        mut self,
        mut settings: settings::Receiver<Settings>,
        mut inputs: mpsc::Receiver<Input>,
        mut bans: mpsc::Receiver<ActionEvent>,
    ) {
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            self.count_lost();
            self.page();
            self.send_due();
            self.publish();
            let is_idle = self.targets.values().all(Target::is_idle);
            tokio::select! {
                changed = settings.changed() => match changed {
                    Ok(()) => {
                        let new = settings.borrow_and_update().clone();
                        self.configure(&new);
                    }
                    Err(_ended) => return,
                },
                Some(done) = self.sending.join_next(), if !self.sending.is_empty() => {
                    if let Ok(done) = done {
                        self.done(done);
                    }
                }
                Some(paged) = self.paging.join_next(), if !self.paging.is_empty() => {
                    if let Ok((name, generation, done)) = paged {
                        self.paged(&name, generation, done);
                    }
                }
                Some(input) = inputs.recv() => {
                    let Some(reply) = self.take(input) else { continue };
                    self.take_bans(&mut bans);
                    self.count_lost();
                    self.stop().await;
                    reply.send(()).ok();
                    return;
                }
                Some(ban) = bans.recv() => {
                    self.take_ban(ban);
                    self.take_bans(&mut bans);
                }
                _ = tick.tick(), if !is_idle => {}
            }
        }
    }

    /// Uses these settings.
    fn configure(&mut self, Settings { alerts, actions }: &Settings) {
        let mut before = mem::take(&mut self.targets);
        for (name, alert) in alerts {
            let key = (false, name.clone());
            let same = before.remove(&key).filter(
                |target| matches!(&target.course, Course::Alert(settings, _) if settings == alert),
            );
            self.generation += 1;
            let target = same.unwrap_or_else(|| Target::of_alert(alert, self.generation));
            self.targets.insert(key, target);
        }
        for (name, action) in actions {
            let key = (true, name.clone());
            let same = before.remove(&key).filter(
                |target| matches!(&target.course, Course::Action(settings, ..) if settings == action),
            );
            self.generation += 1;
            let new = || Target::of_action(name, action, self.generation, &self.state);
            let target = same.unwrap_or_else(new);
            self.targets.insert(key, target);
        }
        self.publish();
    }

    /// Returns where to say that it has stopped, if it shall.
    fn take(&mut self, input: Input) -> Option<oneshot::Sender<()>> {
        match input {
            Input::Happened(what) => self.tell(&[what]),
            Input::Look(facts) => {
                let told = self.watch.look(&facts);
                self.tell(&told);
            }
            Input::Test(test) => self.test(test),
            Input::Tested(key) => {
                if let Some(target) = self.targets.get_mut(&key) {
                    target.problem = None;
                }
            }
            Input::Stop(reply) => return Some(reply),
        }
        None
    }

    /// Keeps what waits for actions in files. What is on its way then may be sent again after the next start.
    async fn stop(mut self) {
        let end = Instant::now() + LAST_MESSAGES;
        while let Ok(Some(sent)) = timeout_at(end, self.sending.join_next()).await {
            if let Ok(done) = sent {
                self.done(done);
            }
        }
        self.sending.abort_all();
        let end = Instant::now() + KEEPING;
        while let Ok(Some(paged)) = timeout_at(end, self.paging.join_next()).await {
            if let Ok((name, generation, done)) = paged {
                self.paged(&name, generation, done);
            }
        }
        let keep = move || {
            for ((_, name), target) in &mut self.targets {
                let Course::Action(_, plan, backlog) = &mut target.course else { continue };
                let waiting = plan.waiting().saturating_add(backlog.len());
                let (first, lost) = plan.rest();
                let path = kept::place(&self.state, name);
                if let Err(why) = kept::keep(&path, &first, &backlog.rest(), lost) {
                    warn!(
                        "action {name}: {waiting} bans or ends of bans are lost: cannot keep them in {}: {why}",
                        path.display()
                    );
                }
            }
        };
        drop(timeout_at(end, tokio::task::spawn_blocking(keep)).await);
    }

    fn tell(&mut self, told: &[Occurrence]) {
        let time = Rfc3339(Timestamp::now()).to_string();
        for ((_, name), target) in &mut self.targets {
            for what in told {
                target.take(name, what, &time);
            }
        }
    }

    fn take_ban(&mut self, event: ActionEvent) {
        let event = bounded(event);
        for target in self.targets.values_mut() {
            target.take_ban(&event);
        }
    }

    /// Takes the bans that wait now.
    fn take_bans(&mut self, bans: &mut mpsc::Receiver<ActionEvent>) {
        for _ in 0..BANS_WAITING {
            let Ok(ban) = bans.try_recv() else { break };
            self.take_ban(ban);
        }
    }

    /// Counts the bans for which the loop had no room.
    fn count_lost(&mut self) {
        let lost = self.lost.swap(0, Ordering::Relaxed);
        if lost == 0 {
            return;
        }
        for target in self.targets.values_mut() {
            if let Course::Action(_, plan, _) = &mut target.course {
                plan.lose(OF_ACTION, lost);
            }
        }
    }

    /// Has files of actions written and read.
    fn page(&mut self) {
        for ((_, name), target) in &mut self.targets {
            let Some(job) = target.page() else { continue };
            let (name, generation) = (name.clone(), target.generation);
            self.paging.spawn_blocking(move || (name, generation, job.run()));
        }
    }

    fn paged(&mut self, name: &str, generation: u64, done: Paged) {
        let target = self.targets.get_mut(&(true, name.to_owned()));
        if let Some(target) = target.filter(|target| target.generation == generation) {
            target.paged(name, done);
        }
    }

    /// Sends what is due.
    fn send_due(&mut self) {
        let zoned = Zoned::now();
        let now = Now { since_start: self.start.elapsed(), zoned: &zoned };
        for (key, target) in &mut self.targets {
            let Some(message) = target.next(&key.1, &self.host, now) else { continue };
            let (key, generation, way) = (key.clone(), target.generation, target.way.clone());
            let (host, at_once) = (self.host.clone(), Arc::clone(&self.at_once));
            self.sending.spawn(async move {
                let result = send(&way, &message, &host, &at_once).await;
                Done { key, generation, result }
            });
        }
    }

    fn done(&mut self, Done { key, generation, result }: Done) {
        let now = self.start.elapsed();
        let target = self.targets.get_mut(&key);
        if let Some(target) = target.filter(|target| target.generation == generation) {
            target.done(&key, result, now);
        }
    }

    /// Sends test messages, all at once.
    fn test(&self, Test { name, reply }: Test) {
        let is_wanted = |key: &Key| name.as_ref().is_none_or(|name| *name == key.1);
        let wanted = self.targets.iter().filter(|(key, _)| is_wanted(key));
        let messages: Vec<_> = wanted
            .map(|(key, target)| (key.clone(), target.way.clone(), target.test(&key.1, &self.host)))
            .collect();
        if messages.is_empty() {
            let names: Vec<&str> = self.targets.keys().map(|(_, name)| &**name).collect();
            let why = match name {
                Some(name) if !names.is_empty() => format!(
                    "there is no alert or action `{}`; there are: {}",
                    crate::report::shown_text(&name),
                    names.join(", ")
                ),
                Some(_) | None => "no alerts or actions are configured".to_owned(),
            };
            drop(reply.send(Err(why)));
            return;
        }
        let (host, at_once) = (self.host.clone(), Arc::clone(&self.at_once));
        let itself = self.itself.clone();
        tokio::spawn(async move {
            let mut tests = JoinSet::new();
            for (place, (key, way, message)) in messages.into_iter().enumerate() {
                let (host, at_once) = (host.clone(), Arc::clone(&at_once));
                tests.spawn(async move {
                    let problem = send(&way, &message, &host, &at_once).await.err();
                    (place, key, way.name(), problem)
                });
            }
            let mut tested = tests.join_all().await;
            tested.sort_unstable_by_key(|(place, ..)| *place);
            let mut rows = Vec::new();
            for (_, key, way, problem) in tested {
                if problem.is_none() {
                    drop(itself.send(Input::Tested(key.clone())).await);
                }
                rows.push(AlertTested { name: key.1, way: way.to_owned(), problem });
            }
            drop(reply.send(Ok(AlertsTested { tested: rows })));
        });
    }

    /// Shows the state of all.
    fn publish(&self) {
        let of = |is_action: bool| {
            let targets = self.targets.iter().filter(move |((action, _), _)| *action == is_action);
            targets.map(|((_, name), target)| target.row(name)).collect()
        };
        let rows = Alerts { alerts: of(false), actions: of(true) };
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }
}

/// Sends a message when it is its turn.
async fn send(way: &Way, message: &Message, host: &str, at_once: &Semaphore) -> Result<(), String> {
    let _turn = at_once.acquire().await.map_err(|closed| closed.to_string())?;
    way.send(message, host).await
}

#[cfg(test)]
mod tests;

//! The task that has all alerts and actions: passes them what happens, sends what is due, and keeps what waits at a stop.

use std::collections::BTreeMap;
use std::mem;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{ActionEvent, AlertTested, Alerts, AlertsTested};
use jiff::{Timestamp, Zoned};
use tokio::sync::{Semaphore, mpsc, oneshot, watch as settings};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout_at};

use super::backlog::Done as Paged;
use super::message::{Message, bounded};
use super::target::{Now, Target};
use super::watch::{Occurrence, Watch};
use super::way::Way;
use super::{BANS_WAITING, Input, KEEPING, Key, LAST_MESSAGES, Settings, Test};
use crate::clock::Rfc3339;

/// The most messages that are on their way at a time.
const AT_ONCE: usize = 4;

/// How often it looks whether something is due.
const TICK: Duration = Duration::from_secs(1);

/// The longest host name that is shown.
const HOST_MAX: usize = 64;

/// The outcome of sending a message.
struct Done {
    key: Key,
    generation: u64,
    result: Result<(), String>,
}

/// The task.
pub(super) struct Teller {
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
    /// A task without alerts and actions, which keeps its files in `state`.
    pub(super) fn new(
        state: PathBuf,
        lost: Arc<AtomicU64>,
        rows: Arc<Mutex<Alerts>>,
        itself: mpsc::Sender<Input>,
    ) -> Self {
        Self {
            targets: BTreeMap::new(),
            watch: Watch::default(),
            sending: JoinSet::new(),
            paging: JoinSet::new(),
            state,
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            host: host(),
            start: Instant::now(),
            generation: 0,
            lost,
            rows,
            itself,
        }
    }

    pub(super) async fn run(
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
    pub(super) fn configure(&mut self, Settings { alerts, actions }: &Settings) {
        let mut before = mem::take(&mut self.targets);
        for (name, alert) in alerts {
            let key = (false, name.clone());
            let same = before.remove(&key).filter(|target| target.is_alert(alert));
            self.generation += 1;
            let target = same.unwrap_or_else(|| Target::of_alert(alert, self.generation));
            self.targets.insert(key, target);
        }
        for (name, action) in actions {
            let key = (true, name.clone());
            let same = before.remove(&key).filter(|target| target.is_action(action));
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
                target.keep(name, &self.state);
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
            target.lose_bans(lost);
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

/// The host's name, as far as it may stand in a header.
fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let plain = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-');
    let name: String = name.trim().chars().filter(plain).take(HOST_MAX).collect();
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric());
    if begins { name } else { "localhost".to_owned() }
}

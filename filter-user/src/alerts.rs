//! Alerts report to people what happens; actions report bans to programs.
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
mod target;
mod teller;
pub mod text;
mod watch;
mod way;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use api::{ActionEvent, AlertRow, Alerts, AlertsTested, FailingAlert};
use log::warn;
use tokio::sync::{mpsc, oneshot, watch as settings};
use tokio::time::timeout;

use self::teller::Teller;
pub use self::watch::{Facts, Occurrence};
use crate::config::{Action, Alert, Config};

/// The bans that wait for this task.
const BANS_WAITING: usize = 1 << 14;

/// What else waits for it.
const WAITING: usize = 64;

/// At a stop, how long messages on their way have, and how long what waits for actions has to be kept.
const LAST_MESSAGES: Duration = Duration::from_secs(1);
const KEEPING: Duration = Duration::from_secs(10);

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
    let state = config.paths.state.clone();
    let mut teller = Teller::new(state.clone(), lost, rows, input);
    teller.configure(&changed.borrow());
    let actions: Vec<String> = config.actions.keys().cloned().collect();
    tokio::task::spawn_blocking(move || kept::sweep(&state, &actions));
    tokio::spawn(teller.run(changed, inputs, bans));
    handle
}

/// Whether it is an action, and its name.
type Key = (bool, String);

#[cfg(test)]
mod tests;

//! A reload: reads the configuration again, compares it with the running one, and has it applied as a
//! whole or not at all.
//!
//! The files are read on another thread; only comparing and applying takes a turn of the loop.

use std::net::IpAddr;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use api::{Answer, Reloaded, Reply, Request};
use log::{error, info, warn};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::server::Question;
use super::{Outlook, settings};
use crate::config::{Config, Loaded};
use crate::controller::Controller;
use crate::datapath::Kernel;
use crate::dns::{self, Following};
use crate::host;
use crate::log_budget::MANUAL;
use crate::report;

/// Reads the configuration as the start did, from the same files and with the same options.
pub type Load = Arc<dyn Fn() -> Result<Loaded> + Send + Sync>;

/// Reloads that wait for the loop.
const WAITING: usize = 4;

/// How long the files must stay as they are.
const SETTLES: Duration = Duration::from_millis(100);

/// How often they are read at most.
const READINGS_MAX: usize = 20;

/// How a reload is to go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct How {
    /// The user that asked for it, or the signal.
    pub(super) who: String,
    /// Compare only.
    pub(super) dry_run: bool,
    /// Apply it despite objections.
    pub(super) force: bool,
    /// The source of the requesting user's session, if it is an SSH session.
    pub(super) session: Option<IpAddr>,
}

/// Called with the result of a reload.
pub(super) type Tell = Box<dyn FnOnce(Result<Reloaded>) + Send>;

/// A configuration that was read, or the error.
pub(super) struct Read {
    loaded: Result<Loaded>,
    how: How,
    tell: Tell,
}

/// The running configuration, and how to read it again.
pub(super) struct Reloads {
    load: Load,
    running: Loaded,
    read: mpsc::Sender<Read>,
    waiting: mpsc::Receiver<Read>,
}

impl Reloads {
    pub(super) fn new(running: Loaded, load: Load) -> Self {
        let (read, waiting) = mpsc::channel(WAITING);
        Self { load, running, read, waiting }
    }

    /// Begins a reload: reads the files on another thread, repeatedly until they do not change any more.
    pub(super) fn begin(&self, how: How, tell: Tell) {
        let (load, read) = (Arc::clone(&self.load), self.read.clone());
        tokio::spawn(async move {
            let loaded = spawn_blocking(move || load_settled(&load)).await;
            let loaded = loaded.unwrap_or_else(|failed| Err(anyhow!("{failed}")));
            // The loop has ended if this fails.
            drop(read.send(Read { loaded, how, tell }).await);
        });
    }

    /// The same for SIGHUP: the log says how it went.
    pub(super) fn begin_for_signal(&self) {
        info!(target: MANUAL, "SIGHUP: reads the configuration again");
        let how = How { who: "SIGHUP".to_owned(), dry_run: false, force: false, session: None };
        self.begin(how, Box::new(|done| log_outcome("SIGHUP", done)));
    }

    /// The same for a client, if that is the question; other questions come back.
    pub(super) fn begin_for(&self, question: Question) -> Option<Question> {
        let Request::Reload { dry_run, force } = question.request else { return Some(question) };
        let Question { who, from: session, reply, .. } = question;
        let how = How { who: who.clone(), dry_run, force, session };
        let tell = move |done: Result<Reloaded>| {
            let answer = match &done {
                Ok(done) => Reply::Ok(Answer::Reloaded(done.clone())),
                Err(why) => Reply::Error(format!("{why:#}")),
            };
            // The client may have gone.
            drop(reply.send(answer));
            log_outcome(&format!("{who}: reload"), done);
        };
        self.begin(how, Box::new(tell));
        None
    }

    /// The running configuration.
    pub(super) fn running(&self) -> &Config {
        &self.running.config
    }

    /// Waits for a configuration that was read. Can be dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<Read> {
        self.waiting.recv().await
    }

    /// Compares the files with the running configuration, and applies the differences.
    pub(super) fn take(
        &mut self,
        Read { loaded, how, tell }: Read,
        controller: &mut Controller<Kernel>,
        followers: (&mut Outlook, &mut Following),
        disabled: bool,
    ) {
        let done = loaded.and_then(|new| self.apply(&new, &how, controller, followers, disabled));
        if let Ok(Reloaded { changes, applied: true, .. }) = &done {
            controller.note_reload(changes, &how.who, crate::clock::now());
        }
        tell(done);
    }

    fn apply(
        &mut self,
        new: &Loaded,
        how: &How,
        controller: &mut Controller<Kernel>,
        (outlook, names): (&mut Outlook, &mut Following),
        disabled: bool,
    ) -> Result<Reloaded> {
        let (changes, next) = self.running.changes(new);
        let now = crate::clock::now();
        let objections = controller.objections(&next.config, how.session, now);
        if how.dry_run {
            return Ok(Reloaded { changes, objections, applied: false });
        }
        if !objections.is_empty() && !how.force {
            bail!("nothing is changed: {}; `--force` applies it", objections.join("; "));
        }
        if changes.iter().all(|change| change.needs_restart) {
            return Ok(Reloaded { changes, objections, applied: true });
        }
        let own = host::own_networks().context("read the host's addresses")?;
        let interfaces = controller.interface_names();
        let kernel_settings = |config| settings(config, interfaces.clone(), &own, disabled);
        let kernel = controller.datapath_mut();
        let applied = kernel
            .configure(&kernel_settings(&next.config))
            .and_then(|()| controller.reconfigure(&next.config, now));
        if let Err(why) = applied {
            let old = kernel_settings(&self.running.config);
            let why = why.context("the kernel refuses the new configuration; the old one stays");
            return Err(match controller.datapath_mut().configure(&old) {
                Ok(()) => why,
                Err(also) => {
                    why.context(format!("the old one is not restored completely ({also:#})"))
                }
            });
        }
        outlook.sip.clone_from(&next.config.sip);
        let wanted = outlook.names(&next.config);
        if wanted != outlook.names(&self.running.config) {
            *names = Following::start(wanted, dns::system_resolver);
        }
        self.running = next;
        Ok(Reloaded { changes, objections, applied: true })
    }
}

/// Reads the configuration until two readings are the same: an editor may be writing it.
fn load_settled(load: &Load) -> Result<Loaded> {
    let mut last = load();
    for _ in 0..READINGS_MAX {
        thread::sleep(SETTLES);
        let next = load();
        match (&last, &next) {
            (Ok(last), Ok(next)) if last == next => break,
            (Err(last), Err(next)) if last.to_string() == next.to_string() => break,
            (Ok(_) | Err(_), Ok(_) | Err(_)) => last = next,
        }
    }
    last
}

/// Logs how a reload went that `who` asked for.
pub(super) fn log_outcome(who: &str, done: Result<Reloaded>) {
    let Reloaded { changes, objections, applied } = match done {
        Ok(done) => done,
        Err(why) => {
            error!(target: MANUAL, "{who}: the configuration is not reloaded: {why:#}");
            return;
        }
    };
    if !applied {
        return;
    }
    for objection in objections {
        warn!(target: MANUAL, "{who}: applied by force: {objection}");
    }
    if changes.is_empty() {
        info!(target: MANUAL, "{who}: the configuration has not changed");
    }
    for change in changes {
        let text = report::change(&change);
        if change.needs_restart {
            warn!(target: MANUAL, "{who}: needs `systemctl restart ringfence`: {text}");
        } else {
            info!(target: MANUAL, "{who}: {text}");
        }
    }
}

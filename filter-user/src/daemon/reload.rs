//! A reload: reads the configuration again, compares it with the running one, and has it applied as a
//! whole or not at all.
//!
//! The files are read on another thread; only comparing and applying takes a turn of the loop.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use api::{Answer, Reloaded, Reply, Request};
use log::{error, info, warn};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use super::geo::Geo;
use super::inbox::Question;
use super::trial::Trial;
use super::{Outlook, settings};
use crate::config::{Config, Loaded};
use crate::controller::Controller;
use crate::datapath::Kernel;
use crate::dns::{self, Following};
use crate::doctor;
use crate::geo::{self, Compiled};
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
    /// The port to which that session is connected.
    pub(super) ssh_port: Option<u16>,
}

/// Called with the result of a reload.
pub(super) type Tell = Box<dyn FnOnce(Result<Reloaded>) + Send>;

/// A configuration that was read, or the error.
pub(super) struct Read {
    loaded: Result<Loaded>,
    /// What other settings of `geo` shut out; `None` if they are as they were.
    geo: Option<Result<Compiled, String>>,
    how: How,
    tell: Tell,
}

/// The running configuration, and how to read it again.
pub(super) struct Reloads {
    load: Load,
    running: Loaded,
    trial: Trial,
    read: mpsc::Sender<Read>,
    waiting: mpsc::Receiver<Read>,
}

impl Reloads {
    pub(super) fn new(running: Loaded, load: Load, trial: Trial) -> Self {
        let (read, waiting) = mpsc::channel(WAITING);
        Self { load, running, trial, read, waiting }
    }

    /// Begins a reload: reads the files on another thread, repeatedly until they do not change any more.
    pub(super) fn begin(&self, how: How, tell: Tell) {
        let (load, read) = (Arc::clone(&self.load), self.read.clone());
        let old = self.running.config.geo.clone();
        tokio::spawn(async move {
            let done = spawn_blocking(move || {
                let loaded = load_settled(&load);
                let new = loaded.as_ref().ok().map(|new| &new.config.geo);
                let new = new.filter(|new| **new != old && new.policy().is_some());
                let geo = new.map(geo::read);
                (loaded, geo)
            });
            let (loaded, geo) =
                done.await.unwrap_or_else(|failed| (Err(anyhow!("{failed}")), None));
            // The loop has ended if this fails.
            drop(read.send(Read { loaded, geo, how, tell }).await);
        });
    }

    /// The same for SIGHUP: the log says how it went.
    pub(super) fn begin_for_signal(&self) {
        info!(target: MANUAL, "SIGHUP: reads the configuration again");
        let how = How {
            who: "SIGHUP".to_owned(),
            dry_run: false,
            force: false,
            session: None,
            ssh_port: None,
        };
        self.begin(how, Box::new(|done| log_outcome("SIGHUP", done)));
    }

    /// The same for a client, if that is the question; other questions come back.
    pub(super) fn begin_for(&self, question: Question) -> Option<Question> {
        let Request::Reload { dry_run, force } = question.request else { return Some(question) };
        let Question { who, from: session, ssh_port, reply, .. } = question;
        let how = How { who: who.clone(), dry_run, force, session, ssh_port };
        let tell = move |done: Result<Reloaded>| {
            let answer = match &done {
                Ok(done) => Reply::Ok(Answer::Reloaded(done.clone())),
                Err(why) => Reply::Error(format!("{why:#}").into()),
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
        Read { loaded, geo, how, tell }: Read,
        controller: &mut Controller<Kernel>,
        followers: (&mut Outlook, &mut Following, &mut Geo),
        disabled: bool,
    ) {
        let done =
            loaded.and_then(|new| self.apply((&new, geo), &how, controller, followers, disabled));
        if let Ok(Reloaded { changes, applied: true, .. }) = &done {
            controller.note_reload(changes, &how.who, crate::clock::now());
        }
        tell(done);
    }

    fn apply(
        &mut self,
        (new, compiled): (&Loaded, Option<Result<Compiled, String>>),
        how: &How,
        controller: &mut Controller<Kernel>,
        (outlook, names, geo): (&mut Outlook, &mut Following, &mut Geo),
        disabled: bool,
    ) -> Result<Reloaded> {
        let (changes, next) = self.running.changes(new);
        let now = crate::clock::now();
        let mut objections = controller.objections(&next.config, how.session, now);
        let compiled = compiled.transpose();
        let compiled = compiled.map_err(|why| anyhow!("nothing is changed: geo: {why}"))?;
        if let Some(compiled) = &compiled {
            objections.extend(controller.geo_objections(compiled, how.session, now));
        }
        let exposure = &next.config.exposure;
        let ssh = doctor::ssh_ports(Path::new("/etc")).unwrap_or_default();
        let ssh: BTreeSet<u16> = ssh.into_iter().chain(how.ssh_port).collect();
        let in_force = self.trial.in_force(&self.running.config.exposure).clone();
        objections.extend(controller.ssh_objections(&next.config, &in_force, &ssh, how.session));
        let awaits = self.trial.would_await(exposure, &next.config.sip)
            && *exposure != self.running.config.exposure;
        let within = next.config.confirm.within().filter(|_| awaits);
        let confirm_within_seconds = within.map(|within| within.as_secs());
        if how.dry_run {
            return Ok(Reloaded { changes, objections, applied: false, confirm_within_seconds });
        }
        if !objections.is_empty() && !how.force {
            bail!("nothing is changed: {}; `--force` applies it", objections.join("; "));
        }
        if changes.iter().all(|change| change.needs_restart) {
            geo.follow(controller, (&next.config.geo, compiled), how.force);
            return Ok(Reloaded {
                changes,
                objections,
                applied: true,
                confirm_within_seconds: None,
            });
        }
        let own = host::own_networks().context("read the host's addresses")?;
        let interfaces = controller.interface_names();
        let kernel_settings =
            |config, exposure| settings(config, exposure, interfaces.clone(), &own, disabled);
        let kernel = controller.datapath_mut();
        let is_same = *exposure == self.running.config.exposure;
        let new_exposure = if is_same { self.trial.in_force(exposure) } else { exposure };
        let applied = kernel
            .configure(&kernel_settings(&next.config, new_exposure))
            .and_then(|()| controller.reconfigure(&next.config, now));
        if let Err(why) = applied {
            let old = kernel_settings(&self.running.config, &in_force);
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
        if !is_same {
            self.trial.begin(&next.config, controller.logins(), now);
        }
        geo.follow(controller, (&next.config.geo, compiled), how.force);
        self.running = next;
        self.tell_exposure(controller);
        Ok(Reloaded { changes, objections, applied: true, confirm_within_seconds })
    }

    /// Lets time pass: services that were not confirmed in time open again.
    pub(super) fn tick(&mut self, controller: &mut Controller<Kernel>, disabled: bool) {
        let is_enforced = !controller.is_dry_run() && !disabled;
        let (logins, now) = (controller.logins(), crate::clock::now());
        if self.trial.tick(&self.running.config, logins, is_enforced, now) {
            self.apply_exposure(controller, disabled);
        }
        controller.set_trial(self.trial.until(self.running.config.confirm.within()));
        self.tell_exposure(controller);
    }

    /// Tells the controller which services are closed now.
    fn tell_exposure(&self, controller: &mut Controller<Kernel>) {
        let config = &self.running.config;
        controller.set_exposure(self.trial.in_force(&config.exposure), &config.sip);
    }

    /// Confirms the services that are configured. Returns whether that was awaited or overdue.
    pub(super) fn confirm(&mut self, controller: &mut Controller<Kernel>, disabled: bool) -> bool {
        let was_awaited = self.trial.confirm(&self.running.config.exposure);
        if was_awaited {
            self.apply_exposure(controller, disabled);
        }
        controller.set_trial(None);
        self.tell_exposure(controller);
        was_awaited
    }

    /// Closes the services that are in force now.
    fn apply_exposure(&self, controller: &mut Controller<Kernel>, disabled: bool) {
        let config = &self.running.config;
        let exposure = self.trial.in_force(&config.exposure);
        let interfaces = controller.interface_names();
        let applied = host::own_networks().and_then(|own| {
            let settings = settings(config, exposure, interfaces, &own, disabled);
            controller.datapath_mut().configure(&settings)
        });
        if let Err(why) = applied {
            error!("cannot change which services are closed: {why:#}");
        }
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
    let Reloaded { changes, objections, applied, .. } = match done {
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

//! Has the table of countries written after the controller has agreed to it, on a thread of its own.

use std::collections::BTreeSet;
use std::mem;
use std::sync::{Arc, Mutex, PoisonError};

use api::GeoState;
use ipnet::IpNet;
use log::{error, info, warn};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;

use crate::config::Geo as Settings;
use crate::controller::Controller;
use crate::datapath::{Datapath, GeoTable};
use crate::geo::{self, Compiled, News, Running};
use crate::log_budget::MANUAL;

/// A table that was written, or not.
type Written = (Arc<Compiled>, Result<(), String>);

/// What has happened.
pub(super) enum Happened {
    News(News),
    Written(Written),
}

/// The task that reads databases, and the table in the kernel.
pub(super) struct Geo {
    running: Running,
    table: Arc<Mutex<GeoTable>>,
    written: (mpsc::Sender<Written>, mpsc::Receiver<Written>),
    is_writing: bool,
    /// What is to be written next.
    next: Option<Arc<Compiled>>,
    /// What is in force, with its exceptions.
    in_force: Option<Arc<Compiled>>,
    except: BTreeSet<IpNet>,
    /// What somebody must force.
    refused: Option<Arc<Compiled>>,
}

impl Geo {
    /// Starts to read the databases. A table of an earlier daemon stays in force until then.
    pub(super) fn start<D: Datapath>(
        settings: &Settings,
        table: GeoTable,
        controller: &mut Controller<D>,
    ) -> Self {
        controller.want_geo(settings);
        if settings.policy().is_none() {
            forget(controller);
        }
        Self {
            running: geo::start(settings.clone()),
            table: Arc::new(Mutex::new(table)),
            written: mpsc::channel(1),
            is_writing: false,
            next: None,
            in_force: None,
            except: BTreeSet::new(),
            refused: None,
        }
    }

    /// Waits until something happens. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Happened> {
        let Self { running, written: (_, written), .. } = self;
        tokio::select! {
            news = running.news.recv() => news.map(Happened::News),
            done = written.recv() => done.map(Happened::Written),
        }
    }

    /// Takes what has happened.
    pub(super) fn take<D: Datapath>(&mut self, controller: &mut Controller<D>, news: Happened) {
        match news {
            Happened::News(Ok(compiled)) => self.judge(controller, compiled),
            Happened::News(Err((settings, why))) => {
                if self.running.follows(&settings) {
                    warn!("geo: a database cannot be used: {why}; {}", what_stays(controller));
                    controller.note_geo(Some((GeoState::Failing, why)));
                }
            }
            Happened::Written((compiled, done)) => {
                self.is_writing = false;
                if !self.running.follows(&compiled.settings) {
                    // Other settings are wanted by now, and what was written is not used.
                    self.write(controller);
                    return;
                }
                match done.and_then(|()| {
                    controller
                        .use_geo(Arc::clone(&compiled), crate::clock::now())
                        .map_err(|why| format!("{why:#}"))
                }) {
                    Ok(()) => self.announce(compiled),
                    Err(why) => {
                        error!("geo: the table of countries cannot be written: {why}");
                        controller.note_geo(Some((GeoState::Failing, why)));
                    }
                }
                self.write(controller);
            }
        }
    }

    /// Uses what was compiled, unless it would shut out who must not be.
    fn judge<D: Datapath>(&mut self, controller: &mut Controller<D>, compiled: Arc<Compiled>) {
        if !self.running.follows(&compiled.settings) {
            return;
        }
        let objections = controller.geo_objections(&compiled, None, crate::clock::now());
        if !objections.is_empty() && !controller.is_geo_forced(&compiled.settings) {
            let why = format!("{}; `ringfence reload --force` applies it", objections.join("; "));
            if self.in_force.is_none() {
                // The table of an earlier daemon may be of another policy.
                forget(controller);
            }
            error!("geo: NOT APPLIED: {why}; {}", what_stays(controller));
            controller.note_geo(Some((GeoState::Refused, why)));
            self.refused = Some(compiled);
            return;
        }
        self.refused = None;
        self.next = Some(compiled);
        self.write(controller);
    }

    /// Writes what is next, unless a write is in progress.
    fn write<D: Datapath>(&mut self, controller: &mut Controller<D>) {
        if self.is_writing {
            return;
        }
        let Some(compiled) = self.next.take() else { return };
        self.except = controller.geo_exceptions();
        let (table, except) = (Arc::clone(&self.table), self.except.clone());
        let tell = self.written.0.clone();
        self.is_writing = true;
        drop(spawn_blocking(move || {
            let done = compiled.table.as_ref().map_or(Ok(()), |new| {
                let entries = new.entries(&except).into_iter();
                let entries = entries.map(|entry| (entry.network, entry.is_shut));
                let mut table = table.lock().unwrap_or_else(PoisonError::into_inner);
                table.write(&new.words(&except), entries)
            });
            // The loop has ended if this fails.
            drop(tell.blocking_send((compiled, done.map_err(|why| format!("{why:#}")))));
        }));
    }

    fn announce(&mut self, compiled: Arc<Compiled>) {
        let is_same = |old: &Arc<Compiled>| Arc::ptr_eq(old, &compiled);
        if !self.in_force.as_ref().is_some_and(is_same) {
            for (path, database) in &compiled.databases {
                info!("geo: read {path} ({})", database.kind());
            }
            if let (Some(table), Some(policy)) = (&compiled.table, compiled.settings.policy()) {
                let dry = if compiled.settings.dry_run { ", in a dry run" } else { "" };
                info!(
                    "geo: {policy}: {} networks, {} IPv4 /24 shut out{dry}",
                    table.named,
                    table.shut_v4()
                );
                for unknown in &table.unknown {
                    warn!("geo: {unknown} is in no database");
                }
            }
        }
        self.in_force = Some(compiled);
    }

    /// Writes the table again if the addresses that the host depends on have changed.
    pub(super) fn tick<D: Datapath>(&mut self, controller: &mut Controller<D>) {
        if let Some(compiled) = &self.in_force
            && compiled.table.is_some()
            && self.next.is_none()
            && !self.is_writing
            && controller.geo_exceptions() != self.except
        {
            self.next = Some(Arc::clone(compiled));
            self.write(controller);
        }
    }

    /// Follows other settings from now on, with what a reload has compiled for them.
    pub(super) fn follow<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        (settings, compiled): (&Settings, Option<Compiled>),
        force: bool,
    ) {
        let is_new = !self.running.follows(settings);
        controller.want_geo(settings);
        if force && (is_new || self.refused.is_some()) {
            controller.force_geo(Some(settings));
        }
        if is_new {
            self.refused = None;
            controller.note_geo(None);
            if settings.policy().is_none() {
                (self.in_force, self.next) = (None, None);
                forget(controller);
            }
            self.running.follow(settings, compiled.as_ref());
            if let Some(compiled) = compiled {
                self.judge(controller, Arc::new(compiled));
            }
        } else if force && let Some(refused) = mem::take(&mut self.refused) {
            warn!(target: MANUAL, "geo: applied by force");
            self.judge(controller, refused);
        }
    }
}

fn forget<D: Datapath>(controller: &mut Controller<D>) {
    if let Err(why) = controller.forget_geo() {
        error!("geo: the table of countries cannot be switched off: {why:#}");
    }
}

fn what_stays<D: Datapath>(controller: &Controller<D>) -> &'static str {
    if controller.has_geo() {
        "the table before it stays in force"
    } else {
        "no country is shut out"
    }
}

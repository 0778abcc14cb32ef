//! The sources that the configuration asks for, each a task of its own, and their way into the
//! controller.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use log::{info, warn};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::clock::KernelTime;
use crate::config::{Config, SshdLog};
use crate::controller::{Controller, SourceReport};
use crate::datapath::Datapath;
use crate::hearing::{AMI, Memory, NOTICE, SECURITY};
use crate::parse::{self, Parser, asterisk, provd, security, sshd};
use crate::source::journal::{self, Journal};
use crate::source::log_file::{self, LogFile};
use crate::source::{Heard, Outlet, SourceState, ami};

/// Batches of attempts that wait for the controller; a source waits when there are more.
const HEARD_WAITING: usize = 64;

/// The jail that hears Asterisk's attempts.
const ASTERISK_JAIL: &str = "asterisk-wazo";

/// The jail that hears sshd.
const SSHD_JAIL: &str = "sshd";

/// The jail that hears wazo-provd.
const PROVD_JAIL: &str = "wazo-provd";

/// Where systemd-journald listens if it runs.
const JOURNAL_SOCKET: &str = "/run/systemd/journal/socket";

/// The running sources. They end when this is dropped.
pub(super) struct Sources {
    tasks: JoinSet<()>,
    /// The jail of each, by the controller's number.
    jails: Vec<&'static str>,
    /// Where they were when the last process ended, by their names.
    positions: BTreeMap<String, Vec<u8>>,
    memory: Memory,
    /// Whether the last attempt to keep it failed: it is said once.
    forgetful: bool,
    outlet: mpsc::Sender<(usize, Heard)>,
    heard: mpsc::Receiver<(usize, Heard)>,
}

impl Sources {
    /// Starts what `config` asks for, each from where its position says that it was.
    pub(super) fn start<D: Datapath>(
        config: &Config,
        positions: BTreeMap<String, Vec<u8>>,
        controller: &mut Controller<D>,
    ) -> Self {
        let (outlet, heard) = mpsc::channel(HEARD_WAITING);
        let memory = Memory::load(&config.paths.state);
        let (tasks, jails) = (JoinSet::new(), Vec::new());
        let mut sources = Self { tasks, jails, positions, memory, forgetful: false, outlet, heard };
        let findtime = |jail| config.jails.get(jail).map(|j| j.findtime).unwrap_or_default();
        let asterisk = &config.sources.asterisk;
        let notice: Parser = asterisk::parse_undecided;
        let age = findtime(ASTERISK_JAIL);
        let log = &asterisk.notice_log;
        sources.file(controller, NOTICE, log, (notice, asterisk::RULES), (ASTERISK_JAIL, age));
        if let Some(log) = &asterisk.security_log {
            let parser = (security::parse as Parser, security::RULES);
            sources.file(controller, SECURITY, log, parser, (ASTERISK_JAIL, age));
        }
        if asterisk.ami.enabled {
            let login = asterisk.ami.clone();
            let place = format!("{}:{}", login.host, login.port);
            let report = SourceReport::new(AMI, "ami", place);
            let report = report.heard_by(ASTERISK_JAIL, parse::ami::RULES);
            let outlet = sources.add(controller, report);
            sources.spawn(ami::follow(login, outlet));
        }
        if let Some(jail) = config.jails.get(SSHD_JAIL).filter(|jail| jail.enabled) {
            sources.sshd(config, jail.findtime, controller);
        }
        if config.jails.get(PROVD_JAIL).is_some_and(|jail| jail.enabled) {
            let log = &config.sources.wazo_provd.log;
            let jail = (PROVD_JAIL, findtime(PROVD_JAIL));
            sources.file(controller, "wazo-provd", log, (provd::parse, provd::RULES), jail);
        }
        sources
    }

    /// Waits for what a source sends. Can be dropped while it waits.
    pub(super) async fn next(&mut self) -> Option<(usize, Heard)> {
        self.heard.recv().await
    }

    /// Takes what a source has sent to the controller. What that leads to is written together with how
    /// far the source is: after a kill all of it holds, or the source sends it again.
    pub(super) fn take<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        (source, mut news): (usize, Heard),
    ) {
        let now = KernelTime::now();
        let Some(jail) = self.jails.get(source) else { return };
        let _together = controller.store().hold();
        for attempt in &news.attempts {
            controller.hear(attempt, source, jail, now);
        }
        controller.source_reads(source, news.state == SourceState::Ok, now);
        controller.take_note(source, &mut news, now);
        let store = controller.store().clone();
        let Some(report) = controller.source_mut(source) else { return };
        report.events = report.events.saturating_add(news.lines);
        report.lost = report.lost.saturating_add(news.lost);
        if let Some(place) = news.place {
            store.set_position(report.name, place.into_bytes());
        }
        let state = match news.state {
            SourceState::Ok => ("ok", None),
            SourceState::Waiting(why) => ("waiting", Some(why)),
            SourceState::Failed(why) => ("failed", Some(why)),
        };
        if report.state != state {
            match &state.1 {
                None => info!("{}: reading {}", report.name, report.place),
                Some(why) => warn!("{}: {why}", report.name),
            }
            report.state = state;
        }
    }

    /// Keeps what is known of how often each source tells something, if that is due.
    pub(super) fn remember<D: Datapath>(&mut self, controller: &Controller<D>, at_once: bool) {
        if !at_once && !self.memory.is_due() {
            return;
        }
        let saved = self.memory.save(controller.ears());
        if let Err(why) = &saved
            && !self.forgetful
        {
            warn!("how often the sources tell something is not kept over a restart: {why}");
        }
        self.forgetful = saved.is_err();
    }

    fn sshd<D: Datapath>(
        &mut self,
        config: &Config,
        findtime: Duration,
        controller: &mut Controller<D>,
    ) {
        let journal = match config.sources.sshd.log {
            SshdLog::Auto => Path::new(JOURNAL_SOCKET).exists(),
            SshdLog::Journal => true,
            SshdLog::File => false,
        };
        if journal {
            let report = SourceReport::new("sshd", "journal", "journalctl".into());
            let outlet = self.add(controller, report.heard_by(SSHD_JAIL, sshd::RULES));
            let journal = Journal {
                journalctl: "journalctl".into(),
                place: self.place("sshd"),
                max_age: findtime,
            };
            self.spawn(journal::follow(journal, outlet));
        } else {
            let jail = (SSHD_JAIL, findtime);
            let parser = (sshd::parse as Parser, sshd::RULES);
            self.file(controller, "sshd", &config.sources.sshd.auth_log, parser, jail);
        }
    }

    fn file<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        name: &'static str,
        path: &Path,
        (parser, rules): (Parser, &'static [&'static str]),
        (jail, max_age): (&'static str, Duration),
    ) {
        let report = SourceReport::new(name, "file", path.display().to_string());
        let outlet = self.add(controller, report.heard_by(jail, rules));
        let place = self.place(name);
        let log = LogFile { path: path.to_owned(), parser, place, max_age };
        self.spawn(log_file::follow(log, outlet));
    }

    fn place(&self, name: &str) -> Option<String> {
        self.positions.get(name).and_then(|place| String::from_utf8(place.clone()).ok())
    }

    fn add<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        mut report: SourceReport,
    ) -> Outlet {
        self.jails.push(report.jail);
        self.memory.recall(report.name, &mut report.ear);
        let number = controller.add_source(report);
        debug_assert_eq!(
            number + 1,
            self.jails.len(),
            "the controller counts sources as this does"
        );
        Outlet::new(number, self.outlet.clone())
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

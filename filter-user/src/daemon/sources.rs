//! The configured sources, each of which is a task, and their channels into the controller.
//!
//! Asterisk's sources have a channel and threads of their own and come first, so that no other log delays
//! them.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::mpsc as replies;
use std::time::Duration;

use api::State;
use log::{error, info, warn};
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::sleep_until;

use super::own_logs::{self, FILES_MAX, Slots};

use crate::clock::next_turn;
use crate::config::{Config, JailSettings, LogPattern, OwnJail, intern};
use crate::controller::{Controller, Source};
use crate::datapath::{Datapath, Responses};
use crate::fail2ban::{self, LogType};
use crate::inputs::{self, Input};
use crate::jail_filter;
use crate::parse::Parser;
use crate::register::{self, ASTERISK_JAIL, SOURCES, WIRE, is_asterisk};
use crate::rhythms::Rhythms;
use crate::source::journal::{self, Entries, Journal};
use crate::source::lane::Lane;
use crate::source::log_file::{self, LogFile};
use crate::source::log_patterns;
use crate::source::log_tail::is_rotated;
use crate::source::{Feed, FoundFile, Heard, Outlet, SourceState, ami, wire};

/// The most batches of attempts that wait for the controller. When there are more, the source waits.
const HEARD_WAITING: usize = 64;

/// Threads for Asterisk's logs.
const ASTERISK_THREADS: usize = 2;

/// Threads for the other logs that a built-in parser reads.
const PLAIN_THREADS: usize = 2;

/// Threads for the logs that filters read, which can be slow.
const FILTER_THREADS: usize = 1;

/// How much processor time a log that a filter reads may take in each second.
const FILTER_SHARE: Duration = Duration::from_millis(100);

/// The same for a log of Asterisk, which Ringfence is there to protect.
const ASTERISK_SHARE: Duration = Duration::from_millis(500);

/// How long a shutdown waits for a write in progress.
const LAST_WRITE: Duration = Duration::from_secs(1);

/// What is of this boot.
const RUN: &str = "/run";

/// How often to look for new logs that match a pattern.
const LOOK: Duration = Duration::from_secs(10);

/// The most results of such searches that wait to be handled.
const FOUND_WAITING: usize = 4;

/// The running sources. They end when this is dropped.
pub(super) struct Sources {
    tasks: JoinSet<()>,
    /// The positions at which the previous process stopped, by key.
    positions: BTreeMap<String, Vec<u8>>,
    rhythms: Rhythms,
    /// The result of the last attempt to save the rhythms.
    keeping: Option<replies::Receiver<io::Result<()>>>,
    /// Whether that attempt failed. The failure is logged once.
    forgetful: bool,
    slots: Slots,
    patterns: Vec<Patterns>,
    lanes: Lanes,
    asterisk: Way,
    others: Way,
    look: mpsc::Sender<Found>,
    found: mpsc::Receiver<Found>,
}

/// A channel into the controller.
struct Way {
    outlet: mpsc::Sender<(usize, Heard)>,
    heard: mpsc::Receiver<(usize, Heard)>,
}

impl Way {
    fn new() -> Self {
        let (outlet, heard) = mpsc::channel(HEARD_WAITING);
        Self { outlet, heard }
    }
}

/// The threads of the sources.
struct Lanes {
    asterisk: Lane,
    plain: Lane,
    filters: Lane,
}

impl Lanes {
    /// The threads that read a source of `jail`.
    fn of(&self, jail: &str, can_be_slow: bool) -> Lane {
        match jail {
            ASTERISK_JAIL => self.asterisk.clone(),
            _ if can_be_slow => self.filters.clone(),
            _ => self.plain.clone(),
        }
    }
}

/// The patterns for the logs of a jail.
struct Patterns {
    jail: &'static str,
    parser: Parser,
    max_age: Duration,
    /// Whether a log line has reported that there are too many files.
    told: bool,
}

/// What [`Sources::next`] returns.
pub(super) enum News {
    /// A source of this number has read something.
    Heard(usize, Heard),
    /// A search for logs that match patterns has finished.
    Found(Found),
}

/// The files that match a jail's patterns, by the number of the patterns.
pub(super) struct Found {
    patterns: usize,
    paths: Vec<PathBuf>,
}

impl Sources {
    /// Starts the sources in `config`, each from its stored position.
    pub(super) fn start<D: Datapath>(
        config: &Config,
        positions: BTreeMap<String, Vec<u8>>,
        controller: &mut Controller<D>,
    ) -> Self {
        let rhythms = Rhythms::load(&config.paths.state);
        let (look, found) = mpsc::channel(FOUND_WAITING);
        let slots = Slots::new(|key| position(&positions, key));
        let mut sources = Self {
            tasks: JoinSet::new(),
            positions,
            rhythms,
            keeping: None,
            forgetful: false,
            slots,
            patterns: Vec::new(),
            lanes: Lanes {
                asterisk: Lane::new(ASTERISK_THREADS, ASTERISK_SHARE),
                plain: Lane::new(PLAIN_THREADS, FILTER_SHARE),
                filters: Lane::new(FILTER_THREADS, FILTER_SHARE),
            },
            asterisk: Way::new(),
            others: Way::new(),
            look,
            found,
        };
        for row in SOURCES {
            let jail = config.jails.get(row.jail);
            // Asterisk's sources are also read if their jail is off, because they are compared with each
            // other.
            if let Some(jail) = jail.filter(|jail| jail.enabled || is_asterisk(row.name)) {
                sources.built_in(config, row, jail.findtime, controller);
            }
        }
        for (name, jail) in &config.jails {
            if let Some(own) = jail.own.as_ref().filter(|_| jail.enabled) {
                sources.own(controller, name, jail, own);
            }
        }
        sources.positions.clear();
        sources
    }

    /// Starts to read the responses that leave.
    pub(super) fn wire<D: Datapath>(
        &mut self,
        responses: Responses,
        controller: &mut Controller<D>,
    ) {
        let report = Source::new(WIRE, WIRE, wire::PLACE.to_owned());
        let report = report.heard_by(ASTERISK_JAIL, detection::wire::RULES);
        let (_, outlet) = self.add(controller, report, WIRE);
        self.spawn(wire::follow(responses, outlet));
    }

    /// Starts the sources of one of your own jails.
    fn own<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        name: &'static str,
        jail: &JailSettings,
        own: &OwnJail,
    ) {
        if jail.unproven_scope != Some(jail.scope) && !own.proven {
            let scope = controller.scope_name(jail.unproven_scope);
            warn!(
                "{name}: its failures are not treated as proven, so its bans close {scope}; set \
                `proven: true` if the service uses TCP and only its server writes to the log"
            );
        }
        if !own.journal.is_empty() {
            let place = own.journal.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + ");
            let report = Source::new(name, "journal", place).heard_by(name, &[]);
            let parser = match jail_filter::parser(name, jail, LogType::Journal) {
                Ok(Some(parser)) => parser,
                Ok(None) => return,
                Err(why) => {
                    self.fail(controller, report, &why);
                    return;
                }
            };
            let key = format!("journal-{name}");
            let (_, outlet) = self.add(controller, report, &key);
            let lane = self.lanes.of(name, parser.can_be_slow());
            let journal = Journal {
                journalctl: "journalctl".into(),
                entries: Entries::Matching(own.journal.clone(), parser),
                place: position(&self.positions, &key),
                max_age: jail.findtime,
            };
            self.spawn(journal::follow(journal, lane, outlet));
        }
        if own.log.is_empty() {
            return;
        }
        let parser = match jail_filter::parser(name, jail, LogType::File) {
            Ok(Some(parser)) => parser,
            Ok(None) => return,
            Err(why) => {
                let logs = own.log.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
                let report = Source::new(name, "file", logs).heard_by(name, &[]);
                self.fail(controller, report, &why);
                return;
            }
        };
        let max_age = jail.findtime;
        self.patterns.push(Patterns { jail: name, parser, max_age, told: false });
        let patterns = self.patterns.len() - 1;
        let (paths, globs): (Vec<_>, Vec<_>) = own.log.iter().partition(|log| log.path().is_some());
        for path in paths.into_iter().filter_map(LogPattern::path) {
            self.log(controller, patterns, path, false, false);
        }
        if globs.is_empty() {
            return;
        }
        let globs: Vec<LogPattern> = globs.into_iter().cloned().collect();
        // A log that is new since an earlier process is read from its beginning.
        let is_known = self.slots.is_known(name);
        for path in log_patterns::find(&globs, FILES_MAX) {
            self.log(controller, patterns, &path, true, is_known);
        }
        self.spawn(look(patterns, globs, self.look.clone()));
    }

    /// Adds a source that cannot be read because its filter is invalid.
    fn fail<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        mut report: Source,
        why: &fail2ban::Error,
    ) {
        error!("{}: its logs are not read: {why}", report.name);
        report.state = (State::Failed, Some(why.to_string()));
        let name = report.name;
        drop(self.add(controller, report, name));
    }

    /// Starts to read a log of one of your own jails.
    fn log<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        patterns: usize,
        path: &Path,
        of_pattern: bool,
        is_new: bool,
    ) {
        let Some(&mut Patterns { jail, ref parser, max_age, ref mut told }) =
            self.patterns.get_mut(patterns)
        else {
            return;
        };
        let file = own_logs::File { jail, path: path.to_owned() };
        let Some((slot, place)) = self.slots.take(file) else {
            if !std::mem::replace(told, true) {
                warn!(
                    "{jail}: {} is not read, because your own jails have more than {FILES_MAX} logs; name \
                fewer in `log`",
                    path.display()
                );
            }
            return;
        };
        let (path, parser) = (path.to_owned(), parser.clone());
        let report = Source::new(jail, "file", path.display().to_string());
        let (number, outlet) =
            self.add(controller, report.heard_by(jail, &[]), &own_logs::key(slot));
        let lane = self.lanes.of(jail, parser.can_be_slow());
        let log = LogFile { path: path.clone(), parser, place, is_new, max_age };
        let task = self.tasks.spawn(log_file::follow(log, lane, outlet));
        if let Some(source) = controller.source_mut(number) {
            source.feed.prefix = own_logs::of(jail, &path);
            source.feed.task = Some(task);
            source.feed.file =
                of_pattern.then_some(FoundFile { patterns, path, slot, is_missing: false });
        }
    }

    /// Starts to read new logs and stops reading those that have gone.
    fn find<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        &Found { patterns, ref paths }: &Found,
    ) {
        let mut read = Vec::new();
        let now = crate::clock::now();
        for source in controller.sources_mut() {
            let Feed { task, file, .. } = &mut source.feed;
            let Some(found) = file.as_mut().filter(|file| file.patterns == patterns) else {
                continue;
            };
            if paths.contains(&found.path) {
                found.is_missing = false;
            } else if !std::mem::replace(&mut found.is_missing, true) {
                // The end of the file may not have been read yet, or a rotation may be under way.
            } else if let Some(task) = task.take() {
                task.abort();
                info!(
                    "{}: {} no longer exists and is no longer read",
                    source.jail,
                    found.path.display()
                );
                self.slots.leave(found.slot);
                *file = None;
                source.gone = Some(now);
                continue;
            }
            read.push(found.path.clone());
        }
        // Results of finished tasks stay in memory until they are taken.
        while self.tasks.try_join_next().is_some() {}
        for path in paths {
            if !read.iter().any(|read| read == path || is_rotated(read, path)) {
                self.log(controller, patterns, path, true, true);
            }
        }
    }

    /// Waits for news from a source or a search. Cancel safe.
    pub(super) async fn next(&mut self) -> Option<News> {
        tokio::select! {
            biased;
            Some((source, heard)) = self.asterisk.heard.recv() => Some(News::Heard(source, heard)),
            Some((source, heard)) = self.others.heard.recv() => Some(News::Heard(source, heard)),
            Some(found) = self.found.recv() => Some(News::Found(found)),
            else => None,
        }
    }

    /// Passes news to the controller.
    pub(super) fn take<D: Datapath>(&mut self, controller: &mut Controller<D>, news: News) {
        match news {
            News::Heard(source, heard) => Self::observe(controller, source, heard),
            News::Found(found) => self.find(controller, &found),
        }
    }

    /// Passes a batch to the controller. Its effects and the source's position are written together, so that
    /// after a kill either all of it is in force or the source sends it again.
    fn observe<D: Datapath>(controller: &mut Controller<D>, source: usize, mut news: Heard) {
        let clock = crate::clock::read();
        let now = clock.kernel;
        controller.set_clock(clock);
        let Some(jail) = controller.source_mut(source).map(|source| source.jail) else { return };
        let _together = controller.store().hold();
        let made = controller.bans_made();
        for attempt in &news.attempts {
            controller.observe(attempt, source, jail, now);
        }
        let made = controller.bans_made().saturating_sub(made);
        if made > 0 {
            controller.note_reaction(crate::clock::now().since(news.read), made);
        }
        controller.source_reads(source, news.state == SourceState::Ok, now);
        controller.take_note(source, &mut news, now);
        let (store, events) = (controller.store().clone(), controller.events().clone());
        let Some(report) = controller.source_mut(source) else { return };
        report.events = report.events.saturating_add(news.lines);
        let lost = report.lost.saturating_add(news.lost);
        if is_tenfold(report.lost, lost) {
            warn!(
                "{}: {lost} events or lines were lost: they were too long, came too fast or were \
                deleted before they were read",
                report.name
            );
        }
        report.lost = lost;
        match (&report.strain, &news.strain) {
            (None, Some(strain)) => warn!("{}: {}: {strain}", report.name, report.place),
            (Some(_), None) if news.state == SourceState::Ok => {
                info!("{}: {}: all lines are read in time again", report.name, report.place);
            }
            (None, None) | (Some(_), _) => {}
        }
        report.strain = news.strain;
        if let Some(place) = news.place.filter(|_| report.gone.is_none()) {
            // The slot of a source that has gone may belong to another by now.
            let Feed { key, prefix, .. } = &report.feed;
            store.set_position(key, format!("{prefix}{place}").into_bytes());
        }
        let state = match news.state {
            SourceState::Ok => (State::Ok, None),
            SourceState::Waiting(why) => (State::Waiting, Some(why)),
            SourceState::Failed(why) => (State::Failed, Some(why)),
        };
        if report.state != state {
            match &state.1 {
                None => info!("{}: reading {}", report.name, report.place),
                Some(why) => warn!("{}: {why}", report.name),
            }
            let event = || api::Event::Source {
                source: report.name.to_owned(),
                state: state.0,
                why: state.1.clone(),
            };
            events.tell(event);
            report.state = state;
        }
    }

    /// Saves the rhythms of the sources, if that is due. Only a shutdown waits for the write.
    pub(super) fn remember<D: Datapath>(&mut self, controller: &Controller<D>, at_the_end: bool) {
        if let Some(keeping) = &self.keeping {
            let wait = if at_the_end { LAST_WRITE } else { Duration::ZERO };
            match keeping.recv_timeout(wait) {
                Ok(kept) => self.kept(&kept),
                Err(replies::RecvTimeoutError::Timeout) => return,
                Err(replies::RecvTimeoutError::Disconnected) => {}
            }
            self.keeping = None;
        }
        if !at_the_end && !self.rhythms.is_due() {
            return;
        }
        let Some(write) = self.rhythms.changes(controller.all_observed()) else { return };
        if at_the_end {
            let kept = write.run();
            self.kept(&kept);
            return;
        }
        let (tell, keeping) = replies::channel();
        spawn_blocking(move || tell.send(write.run()));
        self.keeping = Some(keeping);
    }

    fn kept(&mut self, kept: &io::Result<()>) {
        if let Err(why) = kept {
            if !self.forgetful {
                warn!(
                    "how often lines arrive from the sources cannot be saved, so a restart forgets \
                     it: {why}"
                );
            }
            self.rhythms.was_not_kept();
        }
        self.forgetful = kept.is_err();
    }

    /// Starts a built-in source, if it is configured to read anything.
    fn built_in<D: Datapath>(
        &mut self,
        config: &Config,
        row: &register::Source,
        max_age: Duration,
        controller: &mut Controller<D>,
    ) {
        let Some(input) = inputs::of(row, config, Path::new(RUN)) else { return };
        let (kind, place, log) = match input {
            Input::Log(path) => ("file", path.display().to_string(), LogType::File),
            Input::JournalOfSshd => ("journal", "journalctl".to_owned(), LogType::Journal),
            Input::Manager(ami) => ("ami", format!("{}:{}", ami.host, ami.port), LogType::File),
        };
        let report = Source::new(row.name, kind, place);
        if let Input::Manager(login) = input {
            let report = report.heard_by(row.jail, row.parser.rules());
            let (_, outlet) = self.add(controller, report, row.name);
            self.spawn(ami::follow(login.clone(), outlet));
            return;
        }
        let by_filter = row.takes_filter.then(|| by_filter(config, row.jail, log)).flatten();
        let parser = by_filter.or_else(|| jail_filter::of_source(row));
        let Some((parser, rules)) = parser else { return };
        let (_, outlet) = self.add(controller, report.heard_by(row.jail, rules), row.name);
        let lane = self.lanes.of(row.jail, parser.can_be_slow());
        let place = position(&self.positions, row.name);
        match input {
            Input::Log(path) => {
                let log = LogFile { path: path.to_owned(), parser, place, is_new: false, max_age };
                self.spawn(log_file::follow(log, lane, outlet));
            }
            Input::JournalOfSshd => {
                let entries = match parser {
                    Parser::BuiltIn(_) | Parser::Asterisk(_) => Entries::Sshd,
                    filter @ Parser::Filter(_) => Entries::SshdBy(filter),
                };
                let journalctl = "journalctl".into();
                let journal = Journal { journalctl, entries, place, max_age };
                self.spawn(journal::follow(journal, lane, outlet));
            }
            Input::Manager(_) => {}
        }
    }

    /// Adds a source whose position is stored under `key`. Returns its outlet.
    fn add<D: Datapath>(
        &mut self,
        controller: &mut Controller<D>,
        mut report: Source,
        key: &str,
    ) -> (usize, Outlet) {
        let jail = report.jail;
        report.feed.key = intern(key);
        self.rhythms.recall(report.name, &report.place, &mut report.observed);
        let number = controller.add_source(report, crate::clock::now());
        let way = if jail == ASTERISK_JAIL { &self.asterisk } else { &self.others };
        (number, Outlet::new(number, way.outlet.clone()))
    }

    fn spawn(&mut self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.spawn(task);
    }
}

/// The names of a parser's rules.
type Rules = &'static [&'static str];

/// The rules of a filter, whose expressions have no names.
const NO_RULES: Rules = &[];

/// The filter that a built-in jail names, if it names one that can be loaded.
fn by_filter(config: &Config, name: &str, log: LogType) -> Option<(Parser, Rules)> {
    let filter = config.jails.get(name).map(|jail| jail_filter::parser(name, jail, log))?;
    filter
        .unwrap_or_else(|why| {
            error!("{name}: the built-in parser is used instead of its filter: {why}");
            None
        })
        .map(|filter| (filter, NO_RULES))
}

/// Whether a count has grown tenfold, so that it is logged again.
fn is_tenfold(before: u64, now: u64) -> bool {
    now.checked_ilog10() > before.checked_ilog10()
}

/// Looks for logs that match patterns until the receiver is dropped.
async fn look(patterns: usize, globs: Vec<LogPattern>, outlet: mpsc::Sender<Found>) {
    loop {
        sleep_until(next_turn(LOOK)).await;
        let globs = globs.clone();
        let find = move || log_patterns::find(&globs, FILES_MAX);
        let Ok(paths) = spawn_blocking(find).await else { return };
        if outlet.send(Found { patterns, paths }).await.is_err() {
            return;
        }
    }
}

/// The position that an earlier process stored.
fn position(positions: &BTreeMap<String, Vec<u8>>, key: &str) -> Option<String> {
    positions.get(key).and_then(|place| String::from_utf8(place.clone()).ok())
}

#[cfg(test)]
mod tests;

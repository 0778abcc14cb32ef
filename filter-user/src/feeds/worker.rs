//! One feed: fetches its list again and again, compares it with the one before, and reports what changes.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use ::feeds::{Change, Form, List, Listed, Pace, apply, delay, judge, parse};
use api::{FeedConfirmed, FeedState};
use ipnet::IpNet;
use log::{debug, info, warn};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;

use super::fetch::{Answer, Version, fetch};
use super::keep::{Files, State};
use super::{Confirm, News, Report, wall};
use crate::clock;
use crate::config::Feed;
use crate::controller::FeedUpdate;
use crate::duration;

/// The most parts of a list that are fetched in a row.
const PARTS_MAX: usize = 1000;

/// The pause between two parts.
const PART_PAUSE: Duration = Duration::from_millis(200);

/// How often a local API of decisions is asked for everything, not only for what has changed, in seconds.
const WHOLE_EVERY: u64 = 3600;

/// How often the time of the last fetch is saved if nothing else has changed, in seconds.
const SAVE_EVERY: u64 = 600;

/// What a feed needs.
pub(super) struct Settings {
    pub(super) place: u8,
    pub(super) name: String,
    pub(super) feed: Feed,
    pub(super) directory: PathBuf,
    /// The most networks, and the most single IPv6 addresses.
    pub(super) room: (usize, usize),
    pub(super) tell: mpsc::Sender<News>,
    pub(super) asked: mpsc::Receiver<Confirm>,
    /// Ends when the feed gets other settings.
    pub(super) kept: watch::Receiver<()>,
}

/// The loop that reads the news has ended, or the feed gets other settings.
struct Ended;

/// Waits until the feed gets other settings. Cancel-safe.
async fn is_over(mut kept: watch::Receiver<()>) {
    while kept.changed().await.is_ok() {}
}

/// Runs a feed until the daemon ends or the feed gets other settings.
pub(super) async fn run(settings: Settings) {
    let _ended = keep_up(settings).await;
}

async fn keep_up(settings: Settings) -> Result<(), Ended> {
    let mut worker = Worker::begin(settings).await?;
    loop {
        let wait = Duration::from_secs(worker.due.saturating_sub(wall()));
        tokio::select! {
            confirm = worker.settings.asked.recv() => match confirm {
                Some(confirm) => worker.confirm(confirm).await?,
                None => return Ok(()),
            },
            () = sleep(wait) => worker.fetch().await?,
        }
    }
}

struct Worker {
    settings: Settings,
    files: Files,
    state: State,
    /// When the state was saved, by the time of the last fetch.
    saved: u64,
    failures: u32,
    problem: Option<String>,
    entries: u64,
    /// Until when the entries are banned, in seconds since 1970.
    until: u64,
    /// When it is fetched next.
    due: u64,
    /// When everything was asked for.
    asked_whole: u64,
}

/// A list that was read.
struct Read {
    list: List,
    change: Change,
    refused: Option<String>,
    left_out: u64,
    unread: u64,
    cursor: Option<String>,
    has_more: bool,
}

impl Worker {
    /// Bans what was listed before the start.
    async fn begin(settings: Settings) -> Result<Self, Ended> {
        let files = Files::new(&settings.directory, &settings.name, &settings.feed);
        let begin = files.clone();
        let read = spawn_blocking(move || (begin.state(), begin.list())).await;
        let Ok((mut state, list)) = read else { return Err(Ended) };
        if settings.feed.format == Form::Crowdsec {
            // It tells only what has changed since this process asked first.
            state.cursor = None;
        }
        let now = wall();
        let saved = state.fetched;
        let mut worker = Self {
            settings,
            files,
            state,
            saved,
            failures: 0,
            problem: None,
            entries: 0,
            until: 0,
            due: now,
            asked_whole: now,
        };
        let Ok(list) = list else {
            // Bans that the kernel still has stay in force until the list is fetched.
            worker.state =
                State { fetched: 0, version: Version::default(), cursor: None, ..worker.state };
            let update = worker.settings.feed.dry_run.then(|| worker.whole(&List::default()));
            worker.tell(update).await?;
            return Ok(worker);
        };
        worker.entries = list.entries().len() as u64;
        let ends = worker.state.fetched.saturating_add(worker.settings.feed.expiry.as_secs());
        let is_alive = ends > now && worker.state.fetched <= now;
        if is_alive {
            worker.until = ends;
            let interval = worker.settings.feed.interval.as_secs();
            worker.due = worker.state.fetched.saturating_add(interval).clamp(now, now + interval);
        }
        let list = if is_alive { list } else { List::default() };
        let update = worker.whole(&list);
        worker.tell(Some(update)).await?;
        Ok(worker)
    }

    /// Fetches the list, and all of its parts.
    async fn fetch(&mut self) -> Result<(), Ended> {
        let had_failures = self.failures;
        let mut asked = None;
        let mut result = Ok(());
        let is_crowdsec = self.settings.feed.format == Form::Crowdsec;
        if is_crowdsec && wall() >= self.asked_whole.saturating_add(WHOLE_EVERY) {
            self.asked_whole = wall();
            self.state.cursor = None;
        }
        for part in 0..PARTS_MAX {
            if part > 0 {
                sleep(PART_PAUSE).await;
            }
            let feed = &self.settings.feed;
            let answer = tokio::select! {
                answer = fetch(feed, &self.state.version, self.state.cursor.as_deref()) => answer,
                () = is_over(self.settings.kept.clone()) => return Err(Ended),
            };
            let read = match answer {
                Ok(Answer::Unchanged) => Ok(None),
                Ok(Answer::Document(bytes, version)) => {
                    self.read(bytes).await.map(|read| Some((read, version)))
                }
                Err(failure) => {
                    asked = failure.asked;
                    Err(failure.why)
                }
            };
            match read {
                Ok(None) => {
                    self.state.fetched = wall();
                    self.renew().await?;
                    break;
                }
                Ok(Some((read, version))) => {
                    let has_more = read.has_more;
                    if let Err(why) = self.take(read, version).await? {
                        result = Err(why);
                        break;
                    }
                    if !has_more {
                        break;
                    }
                }
                Err(why) => {
                    result = Err(why);
                    break;
                }
            }
        }
        let name = &self.settings.name;
        match result {
            Ok(()) => {
                self.failures = 0;
                self.problem = None;
                if had_failures > 0 {
                    info!("feed:{name}: its list is fetched again");
                }
            }
            Err(why) => {
                if had_failures == 0 {
                    warn!("feed:{name}: its list cannot be fetched: {why}");
                }
                self.failures = self.failures.saturating_add(1);
                if is_crowdsec {
                    // It may have been restarted and tell everything once more.
                    self.state.cursor = None;
                }
                self.problem = Some(why);
            }
        }
        let pace = Pace { interval: self.settings.feed.interval, failures: self.failures, asked };
        let wait = delay(pace, fastrand::u32(..));
        self.due = wall().saturating_add(wait.as_secs().max(1));
        self.save(false).await;
        self.tell(None).await
    }

    /// Reads a document; `None` if it has nothing new.
    async fn read(&self, bytes: Vec<u8>) -> Result<Read, String> {
        let (files, form) = (self.files.clone(), self.settings.feed.format.clone());
        let (cursor, room, now) = (self.state.cursor.clone(), self.settings.room, wall());
        let read = spawn_blocking(move || read(&files, &form, &bytes, cursor, room, now)).await;
        read.unwrap_or_else(|failed| Err(format!("its list cannot be read: {failed}")))
    }

    /// Uses a list that was read, or keeps it until somebody confirms it.
    async fn take(&mut self, read: Read, version: Version) -> Result<Result<(), String>, Ended> {
        let Read { list, change, refused, left_out, unread, cursor, .. } = read;
        let (files, kept, name) = (self.files.clone(), list.clone(), &self.settings.name);
        (self.state.left_out, self.state.unread) = (left_out, unread);
        if let Some(why) = refused {
            if self.state.refused.as_ref() != Some(&why) {
                warn!(
                    "feed:{name}: its new list is not used, because {why}: `ringfence feeds confirm {name}` uses it"
                );
            }
            self.state.refused = Some(why);
            let written = spawn_blocking(move || files.set_refused(Some(&kept))).await;
            self.save(true).await;
            return Ok(flat(written));
        }
        let is_same = change.added.is_empty() && change.removed.is_empty();
        let was_refused = self.state.refused.take().is_some();
        if !is_same || was_refused || self.state.fetched == 0 {
            let written = spawn_blocking(move || {
                files.set_list(&kept)?;
                files.set_refused(None)
            });
            if let Err(why) = flat(written.await) {
                return Ok(Err(why));
            }
            let (added, removed) = (change.added.len(), change.removed.len());
            // CrowdSec's list changes whenever it decides something.
            if !self.settings.feed.format.has_parts() {
                let entries = list.entries().len();
                info!("feed:{name}: {entries} entries, {added} new, {removed} no longer listed");
            }
        }
        let was_new = self.state.fetched == 0;
        self.state.fetched = wall();
        self.state.version = version;
        self.state.cursor = cursor;
        self.entries = list.entries().len() as u64;
        self.save(!is_same || was_new).await;
        let update = if self.is_due_for_renewal() {
            Some(self.whole(&list))
        } else if is_same {
            None
        } else {
            Some(self.update(change.added, change.removed, false))
        };
        self.tell(update).await?;
        Ok(Ok(()))
    }

    /// Whether the bans should last longer.
    fn is_due_for_renewal(&self) -> bool {
        let half = self.settings.feed.expiry.as_secs() / 2;
        self.until < wall().saturating_add(half)
    }

    /// Has the bans last longer, if it is time.
    async fn renew(&mut self) -> Result<(), Ended> {
        if !self.is_due_for_renewal() {
            return Ok(());
        }
        let files = self.files.clone();
        if let Ok(Ok(list)) = spawn_blocking(move || files.list()).await {
            let update = self.whole(&list);
            self.tell(Some(update)).await?;
        }
        Ok(())
    }

    /// Everything that is listed.
    fn whole(&mut self, list: &List) -> FeedUpdate {
        let expiry = self.settings.feed.expiry.as_secs();
        let is_alive = self.state.fetched.saturating_add(expiry) > wall();
        self.until = if is_alive { self.state.fetched.saturating_add(expiry) } else { 0 };
        self.update(list.entries().to_vec(), Vec::new(), true)
    }

    fn update(&self, entries: Vec<Listed>, removed: Vec<IpNet>, is_whole: bool) -> FeedUpdate {
        let (kernel, now) = (clock::now(), wall());
        let left = Duration::from_secs(self.until.saturating_sub(now));
        let dry = self.settings.feed.dry_run;
        FeedUpdate {
            feed: self.settings.place,
            entries: if dry { Vec::new() } else { entries },
            removed,
            is_whole: is_whole || dry,
            until: kernel.after(left),
            clocks: (kernel, now),
        }
    }

    /// Uses the list that was refused, or bans again what was lifted.
    async fn confirm(&mut self, Confirm { was_paused, reply }: Confirm) -> Result<(), Ended> {
        let files = self.files.clone();
        let is_refused = self.state.refused.is_some();
        let list = spawn_blocking(move || {
            let list = if is_refused { files.refused()? } else { files.list()? };
            if is_refused {
                files.set_list(&list)?;
                files.set_refused(None)?;
            }
            std::io::Result::Ok(list)
        });
        let name = self.settings.name.clone();
        let list = match list.await {
            _ if !is_refused && !was_paused => {
                let text = format!(
                    "there is nothing to confirm: no list of the feed {name} was refused, and its bans were not lifted"
                );
                reply.send(Err(text)).ok();
                return Ok(());
            }
            Ok(Ok(list)) => list,
            // It has not been fetched yet.
            Ok(Err(error)) if error.kind() == ErrorKind::NotFound => List::default(),
            Ok(Err(error)) => {
                reply.send(Err(format!("the list cannot be read: {error}"))).ok();
                return Ok(());
            }
            Err(_) => return Err(Ended),
        };
        if is_refused {
            self.state.refused = None;
            self.state.fetched = wall();
            self.state.version = Version::default();
        }
        self.entries = list.entries().len() as u64;
        self.save(true).await;
        let update = self.whole(&list);
        reply.send(Ok(FeedConfirmed { name, entries: self.entries })).ok();
        self.tell(Some(update)).await
    }

    /// Saves what is known, if it has changed or the last time is long ago.
    async fn save(&mut self, has_changed: bool) {
        if !has_changed && self.state.fetched < self.saved.saturating_add(SAVE_EVERY) {
            return;
        }
        self.saved = self.state.fetched;
        let (files, state) = (self.files.clone(), self.state.clone());
        if let Err(why) = flat(spawn_blocking(move || files.set_state(&state)).await) {
            debug!("feed:{}: {why}", self.settings.name);
        }
    }

    async fn tell(&self, update: Option<FeedUpdate>) -> Result<(), Ended> {
        let news = News { feed: self.settings.place, report: self.report(), update };
        self.settings.tell.send(news).await.map_err(|_closed| Ended)
    }

    fn report(&self) -> Report {
        let is_over = self.state.fetched > 0 && self.until <= wall();
        let refused = self.state.refused.as_ref();
        let (state, problem) = match (&self.problem, refused) {
            (Some(why), _) if is_over && !self.settings.feed.dry_run => {
                let after = duration::format(self.settings.feed.expiry);
                (FeedState::Expired, Some(format!("{why}; its bans have ended after {after}")))
            }
            (Some(why), _) => (FeedState::Failing, Some(why.clone())),
            (None, Some(why)) => {
                let name = &self.settings.name;
                let text = format!(
                    "the new list is not used, because {why}; `ringfence feeds confirm {name}` uses it"
                );
                (FeedState::Refused, Some(text))
            }
            (None, None) if self.state.fetched == 0 => (FeedState::Waiting, None),
            (None, None) => (FeedState::Ok, None),
        };
        Report {
            state,
            problem,
            entries: self.entries,
            left_out: self.state.left_out,
            unread: self.state.unread,
            fetched: self.state.fetched,
            next: self.due,
            until: if self.settings.feed.dry_run { 0 } else { self.until },
        }
    }
}

/// Reads a document, and compares it with the list in use.
fn read(
    files: &Files,
    form: &Form,
    bytes: &[u8],
    cursor: Option<String>,
    room: (usize, usize),
    now: u64,
) -> Result<Read, String> {
    let parsed = parse(form, bytes, now)?;
    let old = files.list().ok();
    let base = old.clone().filter(|_| cursor.is_some()).unwrap_or_default();
    let (list, dropped) = if form.has_parts() {
        let (listed, dropped) = List::counted(parsed.listed, &[]);
        (apply(&base, listed.entries().to_vec(), &parsed.deleted, now), dropped)
    } else {
        List::counted(parsed.listed, &[])
    };
    let (list, no_room) = within(list, room);
    // A list that says itself what is deleted may shrink.
    let had = old.as_ref().filter(|_| !form.has_parts()).map(|old| old.entries().len());
    let refused = judge(had, &list).err().map(|why| why.to_string());
    let change = list.since(&old.unwrap_or_default());
    let has_more = parsed.next.is_some();
    let cursor = match form {
        Form::Apiban => parsed.next.or(cursor),
        Form::Crowdsec => Some("later".to_owned()),
        Form::Plain | Form::Csv(_) | Form::Drop | Form::Json { .. } => None,
    };
    let left_out = dropped.bogons + dropped.wide + no_room;
    Ok(Read { list, change, refused, left_out, unread: parsed.unread.count, cursor, has_more })
}

/// The list with at most so many networks and single IPv6 addresses, and the number of the others.
fn within(list: List, (networks, ipv6): (usize, usize)) -> (List, u64) {
    let (mut networks, mut ipv6) = (networks, ipv6);
    let before = list.entries().len();
    let has_room = |entry: &&Listed| {
        let left = match entry.network {
            network if network.prefix_len() < network.max_prefix_len() => &mut networks,
            IpNet::V6(_) => &mut ipv6,
            IpNet::V4(_) => return true,
        };
        let has_room = *left > 0;
        *left = left.saturating_sub(1);
        has_room
    };
    let entries: Vec<Listed> = list.entries().iter().filter(has_room).copied().collect();
    if entries.len() == before {
        return (list, 0);
    }
    let left_out = (before - entries.len()) as u64;
    (List::new(entries, &[]), left_out)
}

/// An error of a file as text.
fn flat(done: Result<std::io::Result<()>, tokio::task::JoinError>) -> Result<(), String> {
    match done {
        Ok(done) => done.map_err(|error| error.to_string()),
        Err(failed) => Err(failed.to_string()),
    }
}

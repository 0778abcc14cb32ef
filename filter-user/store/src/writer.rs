//! The writing thread: opens the file, commits waiting changes, and repairs the file.
//!
//! Must never write a log position before the lines up to it are processed.

use std::fs::DirBuilder;
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::PathBuf;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use log::{error, info, warn};
use tokio::sync::{mpsc, watch};

use super::aside::move_aside;
use super::database::{self, Contents, Database};
use super::failure::Failure;
use super::pending::{Batch, Question, Shared, Work};
use super::{Kept, News, Progress, Settings, Started, Store, file_in};

/// How long positions wait for other changes.
const LINGER: Duration = Duration::from_secs(1);

/// The first wait after a failure; each further wait is twice as long.
const BACKOFF: Duration = Duration::from_secs(1);

/// The longest wait.
const BACKOFF_MAX: Duration = Duration::from_mins(1);

/// How often unneeded rows are deleted.
const TIDY: Duration = Duration::from_hours(1);

/// News that wait for the owner of the bans; there is never more than one of a kind.
const NEWS_WAITING: usize = 4;

/// Starts the thread.
pub(super) fn start(settings: Settings) -> io::Result<(Started, std_mpsc::Receiver<Option<Kept>>)> {
    let (progress_sender, progress) = watch::channel(Progress::default());
    let path = file_in(&settings.directory);
    let shared = Arc::new(Shared::new(path.clone(), progress_sender));
    let (news_sender, news) = mpsc::channel(NEWS_WAITING);
    let (first_sender, first) = std_mpsc::sync_channel(1);
    let writer = Writer {
        shared: Arc::clone(&shared),
        path,
        settings,
        news: news_sender,
        first: Some(first_sender),
        database: None,
        is_read: false,
        salvaged: None,
        failed: None,
        distrusted: None,
        backoff: BACKOFF,
    };
    let thread: JoinHandle<()> =
        thread::Builder::new().name("store".to_owned()).spawn(move || writer.run())?;
    let store = Store { shared, progress };
    Ok((Started { store, kept: None, news, thread }, first))
}

struct Writer {
    shared: Arc<Shared>,
    path: PathBuf,
    settings: Settings,
    news: mpsc::Sender<News>,
    /// Where the first result goes.
    first: Option<std_mpsc::SyncSender<Option<Kept>>>,
    database: Option<Database>,
    /// Whether the stored data has been read and delivered.
    is_read: bool,
    /// The data read from a broken file, until it is in a new one.
    salvaged: Option<Contents>,
    failed: Option<String>,
    /// Why the file's contents cannot be trusted: a change by others while it was open. Set until there
    /// is a new file.
    distrusted: Option<String>,
    backoff: Duration,
}

impl Writer {
    fn run(mut self) {
        let mut retry_at = Instant::now();
        let mut tidy_at = Instant::now() + TIDY;
        loop {
            if self.database.is_none() && Instant::now() >= retry_at {
                if let Err(failure) = self.open() {
                    retry_at = self.fail(Batch::default(), false, &failure);
                }
                self.tell_first(None);
            }
            let wait = match &self.database {
                Some(_) => LINGER,
                None => retry_at.saturating_duration_since(Instant::now()),
            };
            match self.shared.wait(self.database.is_some(), wait) {
                Some(Work::Write) => {
                    if let Err(at) = self.write() {
                        retry_at = at;
                    }
                }
                Some(Work::Answer(questions)) => {
                    for question in questions {
                        if let Err(failure) = self.answer(question) {
                            retry_at = self.fail(Batch::default(), false, &failure);
                        }
                    }
                }
                Some(Work::End) => {
                    let _failed = self.write();
                    return;
                }
                None => {
                    if let Err(at) = self.look() {
                        retry_at = at;
                    }
                }
            }
            if Instant::now() >= tidy_at {
                tidy_at = Instant::now() + TIDY;
                let now = (self.settings.clock)();
                let tidied =
                    self.database.as_mut().map(|open| open.tidy(&self.settings.offenders, &now));
                if let Some(Err(failure)) = tidied {
                    retry_at = self.fail(Batch::default(), false, &failure);
                }
            }
        }
    }

    /// Answers a question if the file is open.
    fn answer(&self, question: Question) -> Result<(), Failure> {
        let Some(database) = &self.database else { return Ok(()) };
        // The client that asked may have disconnected.
        match question {
            Question::LookUp(networks, answer) => drop(answer.send(database.look_up(&networks)?)),
            Question::History(query, answer) => {
                let now = (self.settings.clock)();
                drop(answer.send(database.history(&query, &now)?));
            }
            Question::Traffic(query, answer) => drop(answer.send(database.traffic(&query)?)),
        }
        Ok(())
    }

    /// Writes what waits. When that fails: when to try again.
    fn write(&mut self) -> Result<(), Instant> {
        self.check()?;
        let Some(database) = &mut self.database else { return Ok(()) };
        let batch = self.shared.take();
        let clock = (self.settings.clock)();
        let has_stepped = database.is_out_of_date(&clock);
        match database.write(&batch, &self.settings.names, &clock) {
            Ok(()) => {
                self.works();
                self.shared.done(batch.number, &batch.sayings);
                if has_stepped {
                    // Rows about earlier bans do not say by which clock they were written. If too many
                    // news wait, this is among them.
                    let _known = self.news.try_send(News::WantsAll);
                }
                Ok(())
            }
            Err((failure, unsure)) => Err(self.fail(batch, unsure, &failure)),
        }
    }

    /// Checks the file while there is nothing to write: whether it is as it was left, and whether its
    /// times are right. If something is wrong, returns when to try again.
    fn look(&mut self) -> Result<(), Instant> {
        self.check()?;
        let clock = (self.settings.clock)();
        match &self.database {
            Some(open) if open.is_out_of_date(&clock) => self.write(),
            Some(_) | None => Ok(()),
        }
    }

    /// Abandons a file that is not as it was left. Returns when to create another one.
    fn check(&mut self) -> Result<(), Instant> {
        let Some(Err(why)) = self.database.as_ref().map(Database::check) else { return Ok(()) };
        if let Some(database) = self.database.take() {
            self.salvaged = Some(database.rescue(&(self.settings.clock)()));
            database.abandon();
        }
        let at = self.fail(Batch::default(), false, &Failure::Retry(why.clone()));
        self.distrusted = Some(why);
        Err(at)
    }

    fn works(&mut self) {
        if self.failed.take().is_some() {
            info!("the store works again: {}", self.path.display());
        }
        self.backoff = BACKOFF;
    }

    /// Records a failure, logging it prominently once. Returns when to try again.
    fn fail(&mut self, batch: Batch, unsure: bool, failure: &Failure) -> Instant {
        self.database = None;
        let why = failure.to_string();
        if self.failed.as_ref() != Some(&why) {
            error!(
                "the store {} failed: {why}; bans are in force nevertheless, and will be stored \
                 when it works again",
                self.path.display()
            );
        }
        self.shared.failed(batch, unsure, &why);
        self.failed = Some(why);
        let wait = self.backoff;
        self.backoff = (self.backoff * 2).min(BACKOFF_MAX);
        Instant::now() + wait
    }

    fn open(&mut self) -> Result<(), Failure> {
        if let Some(why) = self.distrusted.clone() {
            if self.path.exists() {
                self.begin_anew(&why)?;
                self.distrusted = None;
                return Ok(());
            }
            let directory = &self.settings.directory;
            DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
        }
        let clock = (self.settings.clock)();
        let (names, findtime) = (self.settings.names.clone(), self.settings.findtime);
        let opened =
            Database::open(&self.path, clock.clone(), findtime).and_then(|mut database| {
                let contents = if self.is_read { None } else { Some(database.load(&names)?) };
                Ok((database, contents))
            });
        let (database, contents) = match opened {
            Ok(opened) => opened,
            Err(Failure::Broken(why)) => return self.begin_anew(&why),
            Err(failure) => {
                // A file on a full or read-only disk can still be read.
                let (contents, complete) =
                    database::salvage(&self.path, &clock, &names, findtime, &self.settings.memory);
                if complete && !self.is_read {
                    self.record(contents.kept);
                }
                return Err(failure);
            }
        };
        // Without its file, only the data in memory is left.
        let lost = database.is_new() && self.is_read;
        if let Some(contents) = contents {
            if contents.unread > 0 {
                warn!(
                    "{} bans in {} are kept but not in force, because their scopes are not in this \
                     configuration",
                    contents.unread,
                    self.path.display()
                );
            }
            self.record(contents.kept);
        }
        self.distrusted = None;
        self.take_up(database, lost)
    }

    /// Replaces a broken file.
    fn begin_anew(&mut self, why: &str) -> Result<(), Failure> {
        let clock = (self.settings.clock)();
        let Settings { names, findtime, memory, .. } = &self.settings;
        let findtime = *findtime;
        let (mut contents, _) = database::salvage(&self.path, &clock, names, findtime, memory);
        let aside = move_aside(&self.path, clock.wall()).map_err(|error| {
            Failure::Retry(format!("{why}; and it cannot be moved aside: {error}"))
        })?;
        let with = match contents.kept.bans.len() {
            _ if self.is_read => "all bans in force".to_owned(),
            bans => format!("{bans} bans that could be read"),
        };
        let what = format!(
            "the store {} is unusable: {why}; moved it to {} and began a new one with {with}",
            self.path.display(),
            aside.display(),
        );
        error!("{what}");
        self.shared.set_replaced(what);
        if self.is_read {
            // For bans of known jails, the data in memory is authoritative.
            contents.offences.retain(|row| row.record(names, &clock).is_none());
            if let Some(rescued) = self.salvaged.take()
                && !rescued.kept.positions.is_empty()
            {
                contents.kept = rescued.kept;
            }
            contents.kept.decisions.clear();
        } else {
            let (positions, jail_records) =
                (contents.kept.positions.clone(), contents.kept.jail_records.clone());
            let decisions = contents.kept.decisions.clone();
            let totals = contents.kept.totals.clone();
            let kept = std::mem::take(&mut contents.kept);
            contents.kept = Kept { positions, jail_records, decisions, totals, ..Kept::default() };
            self.record(kept);
        }
        self.salvaged = Some(contents);
        let database = Database::open(&self.path, clock, findtime)?;
        self.take_up(database, true)
    }

    /// Writes to this file from now on; if the old one `lost` its bans, it needs all of them.
    fn take_up(&mut self, mut database: Database, lost: bool) -> Result<(), Failure> {
        if let Some(salvaged) = &self.salvaged {
            database.restore(salvaged)?;
            self.salvaged = None;
        }
        self.database = Some(database);
        if lost {
            // The receiver no longer exists: the daemon is stopping.
            let _ended = self.news.blocking_send(News::WantsAll);
        }
        if self.failed.is_some() {
            // Waiting changes are written at once; then it is known to work.
            let _again = self.write();
        }
        Ok(())
    }

    /// Delivers the stored data, at the start or later.
    fn record(&mut self, mut kept: Kept) {
        self.is_read = true;
        self.shared.change(|pending| {
            // Later decisions take precedence.
            kept.bans.retain(|entry| !pending.overrules(&entry.key()));
            kept.ended.retain(|key| !pending.overrules(key));
            kept.offences.retain(|(who, _)| !pending.pardons(*who));
            pending.set_read();
        });
        if let Some(kept) = self.tell_first(Some(kept)) {
            let _ended = self.news.blocking_send(News::Kept(kept));
        }
    }

    /// Delivers the first result, if that has not been done; returns one that comes too late.
    fn tell_first(&mut self, kept: Option<Kept>) -> Option<Kept> {
        match self.first.take() {
            Some(first) => {
                let _ended = first.send(kept);
                None
            }
            None => kept,
        }
    }
}

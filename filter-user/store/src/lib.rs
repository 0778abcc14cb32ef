//! The store: what outlives the daemon and the host's reboot, in one file of `SQLite`.
//!
//! Changes of bans, what the jails were told and positions of sources enter, without a wait; what was
//! kept leaves when a controller starts. It must never hold up who decides: one thread writes, all that
//! has gathered since its last commit in one transaction, and who needs to know that a change is durable
//! waits for that by itself. When the disk fails, the changes gather until it works again.
//!
//! What enters while a [`Hold`] is there is written together. So a source's position is written with
//! what was decided of all that stands before it, and never before that.
//!
//! Bans are written as the times of day at which they began and end, and with the boot in which that
//! was: in the same boot they are read back as they were by the kernel's clock, after another one by
//! the wall clock. A flood's ban is the kernel's, and so short that it is not written.

mod aside;
mod copy;
mod database;
mod decisions;
pub mod fail2ban;
mod failure;
mod history;
mod pending;
mod positions;
mod rows;
mod schema;
mod times;
mod told;
mod writer;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use ipnet::IpNet;
use log::info;
use tokio::sync::{mpsc, oneshot, watch};

pub use self::decisions::{DECISION_MAX, DECISIONS_MAX, DecisionKey};
pub use self::history::{Event, HISTORY_FOR, HISTORY_MAX, HistoryQuery, Past};
use self::pending::Shared;
pub use self::rows::{KeptEvidence, Offences};
pub use self::times::Clock;
pub use self::told::{TOLD_MAX, Told, What};
use detection::ban::{Entry, Key, Origin, Roster};
use detection::escalation::{Bounds, Offender, Pardon, Record};
use detection::settings::PortClasses;

/// The name of the file in the directory of the state.
pub const FILE: &str = "ringfence.db";

/// The target of lines in the log about what somebody has done by hand.
pub const BY_HAND: &str = "filter_user::controller::by_hand";

/// The longest name of a source that has a position, in bytes.
pub const POSITION_KEY_MAX: usize = 256;

/// The longest position that is believed, in bytes.
pub const POSITION_MAX: usize = 64 * 1024;

/// How many sources may keep a position.
pub const POSITIONS_MAX: usize = 256;

/// The way into the store. Copies lead to the same one.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
}

/// How far the store is.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The number of the last change that is durable, and all before it.
    durable: u64,
    /// Why nothing can be written, while that is so.
    failed: Option<String>,
}

/// What was kept.
#[derive(Debug, Default)]
pub struct Kept {
    /// The bans in force, by network.
    pub bans: Vec<Entry>,
    /// The bans that have ended since they were written.
    pub ended: Vec<Key>,
    /// The bans that there were, by those whose they were.
    pub offences: Vec<(Offender, Record)>,
    /// Where the sources were, by the names they gave.
    pub positions: BTreeMap<String, Vec<u8>>,
    /// What the jails were told in this boot, the oldest first.
    pub told: Vec<Told>,
    /// What was decided by hand, by kind and name.
    pub decisions: BTreeMap<DecisionKey, String>,
}

/// What the store wants of who has the bans.
#[derive(Debug)]
pub enum News {
    /// The file could be read at last.
    Kept(Kept),
    /// The file was made anew, or the wall clock was set: all bans are to be [`put`](Store::put) again, by and by.
    WantsAll,
}

/// How the store is.
#[derive(Clone, Debug)]
pub struct Status {
    /// Why nothing can be written, if so.
    pub failed: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// Changes that are not durable yet.
    pub pending: usize,
}

/// What is known of an address beside its bans' entries.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The evidence of each of its bans that has any, by jail's name and scope's name.
    pub evidence: Vec<KeptEvidence>,
    /// How often each jail has banned it.
    pub offences: Vec<Offences>,
}

/// What names scopes and those who decide bans.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The scopes.
    pub ports: PortClasses,
    /// Who decides; of those that it does not know, the store tells it.
    pub jails: Arc<Roster>,
}

/// How the store is started.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The directory of the state; it exists.
    pub directory: PathBuf,
    /// A directory in memory, for a copy where the other cannot be written.
    pub memory: PathBuf,
    /// What its rows name.
    pub names: Names,
    /// How much is kept of earlier bans.
    pub offenders: Bounds,
    /// How long what the jails were told is kept: the longest of their `findtime`.
    pub findtime: Duration,
    /// The clocks.
    pub clock: fn() -> Clock,
}

/// A store at work.
#[derive(Debug)]
pub struct Started {
    /// The way into it.
    pub store: Store,
    /// What was kept; `None`: it cannot be read for now, and comes as [`News::Kept`].
    pub kept: Option<Kept>,
    /// What it wants later.
    pub news: mpsc::Receiver<News>,
    /// The thread that writes, which ends with [`Store::end`].
    pub thread: JoinHandle<()>,
}

/// A store that reads what was kept.
#[derive(Debug)]
pub struct Starting {
    started: Started,
    first: std::sync::mpsc::Receiver<Option<Kept>>,
}

impl Starting {
    /// Waits until it has read what was kept, or knows that it cannot for now.
    pub fn wait(mut self) -> Started {
        // Without a word the thread has failed: then there is nothing.
        self.started.kept = self.first.recv().unwrap_or_default();
        self.started
    }
}

/// Starts the store, which begins to read what was kept.
///
/// # Errors
///
/// When no thread can be started.
pub fn begin(settings: Settings) -> std::io::Result<Starting> {
    let (started, first) = writer::start(settings)?;
    Ok(Starting { started, first })
}

/// [`begin`], and a wait until that is done.
///
/// # Errors
///
/// As there.
pub fn start(settings: Settings) -> std::io::Result<Started> {
    Ok(begin(settings)?.wait())
}

impl Store {
    /// A store that gathers and never writes.
    pub fn nowhere() -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        Self { shared: Arc::new(Shared::new(PathBuf::new(), sender)), progress }
    }

    /// What waits of what the jails were told, which is not written then: for tests.
    pub fn take_told(&self) -> Vec<Told> {
        self.shared.take().told.into_iter().map(|(_, told)| told).collect()
    }

    /// How many lines for the log wait, which are not logged then: for tests.
    pub fn sayings(&self) -> usize {
        self.shared.take().sayings.len()
    }

    /// Has a ban written, in place of one with its key. `is_new` says that the ledger had none with
    /// this key; `says` is logged as soon as it is durable, or cannot be.
    pub fn put(&self, entry: &Entry, is_new: bool, says: Option<String>) {
        if entry.ban.origin == Origin::Flood {
            if let Some(says) = says {
                info!("{says}");
            }
            return;
        }
        self.shared.change(|pending| pending.put(entry, is_new, says));
    }

    /// Has a ban struck out.
    pub fn remove(&self, key: Key) {
        if key.1 != Origin::Flood {
            self.shared.change(|pending| pending.remove(key));
        }
    }

    /// Has what is known of an offender written, in place of what was.
    pub fn set_offences(&self, who: Offender, record: Record) {
        self.shared.change(|pending| pending.set_offences(who, record));
    }

    /// Has earlier bans forgotten.
    pub fn pardon(&self, pardon: Pardon) {
        self.shared.change(|pending| pending.pardon(pardon));
    }

    /// Has a decision written, in place of an earlier one with its key; `None` removes it. More than
    /// [`DECISIONS_MAX`] are not kept, nor longer ones than [`DECISION_MAX`].
    pub fn decide(&self, kind: &str, name: &str, value: Option<String>) {
        let key = (kind.to_owned(), name.to_owned());
        self.shared.change(|pending| pending.decide(key, value));
    }

    /// Has written what happened. When the disk does not keep up, bans that ended may be left out.
    pub fn happened(&self, event: Event) {
        self.shared.change(|pending| pending.happened(event));
    }

    /// What waits of the history, which is not written then: for tests.
    pub fn take_history(&self) -> Vec<Event> {
        self.shared.take().history.into()
    }

    /// Asks for a part of the history, the newest first. No answer: the store cannot be read for now.
    pub fn history(&self, query: HistoryQuery) -> oneshot::Receiver<Vec<Past>> {
        self.shared.ask_history(query)
    }

    /// Until this goes, nothing is written: what enters meanwhile is written together. Must not be
    /// held over a wait.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.shared.hold();
        Hold(Arc::clone(&self.shared))
    }

    /// Has a source's position written, within a second. Nothing is kept under more names than
    /// [`POSITIONS_MAX`].
    pub fn set_position(&self, name: &str, position: Vec<u8>) {
        self.shared.note(|pending| pending.set_position(name, position));
    }

    /// Has written what a jail was told, within a second. About the last [`TOLD_MAX`] are kept, until they are
    /// as old as [`Settings::findtime`].
    pub fn tell(&self, told: Told) {
        self.shared.note(|pending| pending.tell(told));
    }

    /// Waits until all changes before this call are durable.
    ///
    /// # Errors
    ///
    /// When they cannot be made so for now: why.
    pub fn settled(&self) -> impl Future<Output = Result<(), String>> + Send + use<> {
        let (number, mut progress) = (self.shared.last_number(), self.progress.clone());
        async move {
            let reached = |now: &Progress| now.durable >= number || now.failed.is_some();
            match progress.wait_for(reached).await {
                Ok(now) if now.durable >= number => Ok(()),
                Ok(now) => Err(now.failed.clone().unwrap_or_default()),
                Err(_gone) => Err("the store has ended".to_owned()),
            }
        }
    }

    /// Asks what is known of an address, and of the source that it is of, and of their bans. No answer:
    /// the store cannot be read for now.
    pub fn look_up(&self, address: IpAddr, source: IpNet) -> oneshot::Receiver<Found> {
        self.shared.ask(BTreeSet::from([address.into(), source]))
    }

    /// Whether there is room to [`put`](Self::put) many at once.
    pub fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// Whether it writes as fast as changes come, or cannot write at all: then there is nothing to wait
    /// for.
    pub fn keeps_up(&self) -> bool {
        self.has_room() || self.progress.borrow().failed.is_some()
    }

    /// How it is.
    pub fn status(&self) -> Status {
        Status {
            failed: self.progress.borrow().failed.clone(),
            path: self.shared.path().to_owned(),
            pending: self.shared.pending(),
        }
    }

    /// Has all that is pending written, as far as possible, and ends the thread.
    pub fn end(&self) {
        self.shared.end();
    }
}

/// While it is there, nothing is written.
#[derive(Debug)]
pub struct Hold(Arc<Shared>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The file in this directory.
fn file_in(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

#[cfg(test)]
mod tests;

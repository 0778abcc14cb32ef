//! The store: what outlives the daemon and the host's reboot, in one file of `SQLite`.
//!
//! Callers pass changes of bans, attempts given to jails and positions of sources without waiting; the
//! controller reads the stored data when it starts. The store must never delay the controller: one thread
//! writes everything since its last commit in one transaction, and a caller that needs a change to be
//! durable waits for it separately. If the disk fails, the changes are kept in memory until it works
//! again.
//!
//! Changes that are passed while a [`Hold`] exists are written together. So a source's position is
//! written together with all decisions about the preceding lines, and never before them.
//!
//! Bans are written with the times of day at which they begin and end, and with the current boot. In
//! the same boot they are read back exactly by the kernel's clock, after another boot by the wall
//! clock. Bans because of a flood belong to the kernel, and are too short to be written.

mod aside;
mod bans;
mod copy;
mod database;
mod decisions;
pub mod fail2ban;
mod failure;
mod history;
mod jail_records;
mod offences;
mod peers;
mod pending;
mod positions;
mod rows;
mod schema;
mod times;
mod totals;
mod traffic;
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
use self::failure::Failure;
pub use self::history::{Event, HISTORY_FOR, HISTORY_MAX, HistoryQuery, Past};
pub use self::jail_records::{Content, JAIL_RECORDS_MAX, JailRecord};
pub use self::peers::{KEPT_PEERS_MAX, KeptPeer};
use self::pending::Shared;
pub use self::rows::{KeptEvidence, Offences};
pub use self::times::Clock;
pub use self::totals::{TOTALS_MAX, Total};
pub use self::traffic::{Step, Traffic, TrafficQuery};
use detection::ban::{Entry, Key, Origin, Roster};
use detection::clock::KernelTime;
use detection::escalation::{Bounds, Offender, Pardon, Record};
use detection::settings::PortClasses;

/// The name of the file in the state directory.
pub const FILE: &str = "ringfence.db";

/// The log target of lines about manual changes.
pub const MANUAL: &str = "filter_user::controller::manual";

/// The longest name of a source that has a position, in bytes.
pub const POSITION_KEY_MAX: usize = 256;

/// The longest position that is accepted, in bytes.
pub const POSITION_MAX: usize = 64 * 1024;

/// The most sources that can have a position.
pub const POSITIONS_MAX: usize = 256;

/// A handle to the store. Copies refer to the same store.
#[derive(Clone, Debug)]
pub struct Store {
    shared: Arc<Shared>,
    progress: watch::Receiver<Progress>,
}

/// The progress of the store.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The number of the last change that is durable; all earlier ones are durable too.
    durable: u64,
    /// Why nothing can be written at present, if so.
    failed: Option<String>,
}

/// The stored data.
#[derive(Debug, Default)]
pub struct Kept {
    /// The bans in force, by network.
    pub bans: Vec<Entry>,
    /// The bans that have ended since they were written.
    pub ended: Vec<Key>,
    /// The earlier bans, by offender.
    pub offences: Vec<(Offender, Record)>,
    /// The positions of the sources, by name.
    pub positions: BTreeMap<String, Vec<u8>>,
    /// The attempts that jails were given in this boot, oldest first.
    pub jail_records: Vec<JailRecord>,
    /// The manual decisions, by kind and name.
    pub decisions: BTreeMap<DecisionKey, String>,
    /// What each jail has counted, by its name.
    pub totals: BTreeMap<String, Total>,
    /// The known peers, each with the time at which it is forgotten.
    pub peers: BTreeMap<IpAddr, KernelTime>,
}

/// A message from the store to the owner of the bans.
#[derive(Debug)]
pub enum News {
    /// The file has become readable.
    Kept(Kept),
    /// The file was created anew, or the wall clock was set: all bans must be [`put`](Store::put)
    /// again, a few at a time.
    WantsAll,
}

/// The state of the store.
#[derive(Clone, Debug)]
pub struct Status {
    /// Why nothing can be written, if so.
    pub failed: Option<String>,
    /// The file.
    pub path: PathBuf,
    /// Changes that are not durable yet.
    pub pending: usize,
    /// What was done with the last file, if it was broken.
    pub replaced: Option<String>,
}

/// The stored facts about an address, except the entries of its bans.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The evidence of each of its bans that has any, by the names of jail and scope.
    pub evidence: Vec<KeptEvidence>,
    /// How often each jail has banned it.
    pub offences: Vec<Offences>,
}

/// The names of scopes and of the origins of bans.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// The scopes.
    pub ports: PortClasses,
    /// The origins; the store adds any that are missing.
    pub jails: Arc<Roster>,
}

/// The settings of a store.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The state directory, which must exist.
    pub directory: PathBuf,
    /// A directory in memory, for a copy if the other cannot be written.
    pub memory: PathBuf,
    /// The names that its rows use.
    pub names: Names,
    /// How many earlier bans are kept.
    pub offenders: Bounds,
    /// How long records of attempts are kept: the longest `findtime` of the jails.
    pub findtime: Duration,
    /// The clocks.
    pub clock: fn() -> Clock,
}

/// A running store.
#[derive(Debug)]
pub struct Started {
    /// The handle to it.
    pub store: Store,
    /// The stored data; `None`: it cannot be read at present, and follows as [`News::Kept`].
    pub kept: Option<Kept>,
    /// Its later requests.
    pub news: mpsc::Receiver<News>,
    /// The writing thread, which ends with [`Store::end`].
    pub thread: JoinHandle<()>,
}

/// A store that is reading the stored data.
#[derive(Debug)]
pub struct Starting {
    started: Started,
    first: std::sync::mpsc::Receiver<Option<Kept>>,
}

impl Starting {
    /// Waits until it has read the stored data, or found that this is not possible at present.
    pub fn wait(mut self) -> Started {
        // If the channel is closed, the thread has failed, and there is no data.
        self.started.kept = self.first.recv().unwrap_or_default();
        self.started
    }
}

/// Starts the store, which begins to read the stored data.
///
/// # Errors
///
/// If no thread can be started.
pub fn begin(settings: Settings) -> std::io::Result<Starting> {
    let (started, first) = writer::start(settings)?;
    Ok(Starting { started, first })
}

/// The same as [`begin`], followed by a wait for the data.
///
/// # Errors
///
/// The same as for [`begin`].
pub fn start(settings: Settings) -> std::io::Result<Started> {
    Ok(begin(settings)?.wait())
}

/// The data of a file that is not opened for writing.
#[derive(Debug)]
pub struct Peeked {
    /// The data.
    pub kept: Kept,
    /// Whether the data is complete.
    pub is_whole: bool,
}

impl Default for Peeked {
    fn default() -> Self {
        Self { kept: Kept::default(), is_whole: true }
    }
}

/// Reads the stored data without a lock, while no store runs; `None` if there is no file.
///
/// # Errors
///
/// If the file cannot be read; the error says why.
pub fn peek(settings: &Settings) -> Result<Option<Peeked>, String> {
    let path = file_in(&settings.directory);
    let Settings { names, findtime, clock, memory, .. } = settings;
    match path.try_exists() {
        Ok(true) => {}
        Ok(false) => return Ok(None),
        Err(error) => return Err(format!("read {}: {error}", path.display())),
    }
    match database::peek(&path, &clock(), names, *findtime, memory) {
        Ok((contents, is_whole)) => Ok(Some(Peeked { kept: contents.kept, is_whole })),
        Err(Failure::Broken(_)) => Ok(Some(Peeked { is_whole: false, ..Peeked::default() })),
        Err(Failure::Retry(why)) => Err(format!("read {}: {why}", path.display())),
    }
}

/// Whether bans of this origin are not stored: the kernel has those for floods, lists those of feeds,
/// and the agent of the fleet those of other hosts.
fn is_kept_elsewhere(origin: Origin) -> bool {
    matches!(origin, Origin::Flood | Origin::Feed(_) | Origin::Fleet)
}

impl Store {
    /// A store that gathers and never writes.
    pub fn nowhere() -> Self {
        let (sender, progress) = watch::channel(Progress::default());
        Self { shared: Arc::new(Shared::new(PathBuf::new(), sender)), progress }
    }

    /// The unwritten records of attempts, which are then not written; for tests.
    pub fn take_jail_records(&self) -> Vec<JailRecord> {
        self.shared.take().jail_records.into_iter().map(|(_, jail_records)| jail_records).collect()
    }

    /// The number of waiting log lines, which are then not logged: for tests.
    pub fn sayings(&self) -> usize {
        self.shared.take().sayings.len()
    }

    /// Stores a ban, in place of one with the same key. `is_new` means that the ledger had no ban with
    /// this key; `says` is logged as soon as the ban is durable, or cannot become so.
    pub fn put(&self, entry: &Entry, is_new: bool, says: Option<String>) {
        if is_kept_elsewhere(entry.ban.origin) {
            if let Some(says) = says {
                info!("{says}");
            }
            return;
        }
        self.shared.change(|pending| pending.put(entry, is_new, says));
    }

    /// Deletes a ban.
    pub fn remove(&self, key: Key) {
        if !is_kept_elsewhere(key.1) {
            self.shared.change(|pending| pending.remove(key));
        }
    }

    /// Stores an offender's record, in place of the old one.
    pub fn set_offences(&self, who: Offender, record: Record) {
        self.shared.change(|pending| pending.set_offences(who, record));
    }

    /// Forgets earlier bans.
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

    /// The peers that wait to be written, which are then not written: for tests.
    pub fn take_peers(&self) -> Vec<(IpAddr, KeptPeer)> {
        self.shared.take().peers.into_iter().collect()
    }

    /// Asks for a part of the history, the newest first. No answer: the store cannot be read for now.
    pub fn history(&self, query: HistoryQuery) -> oneshot::Receiver<Vec<Past>> {
        self.shared.ask_history(query)
    }

    /// Adds to the traffic of the past.
    pub fn add_traffic(&self, rows: Vec<Traffic>) {
        self.shared.change(|pending| pending.add_traffic(rows));
    }

    /// Asks for a part of the traffic of the past, the oldest first. No answer: the store cannot be read for now.
    pub fn traffic(&self, query: TrafficQuery) -> oneshot::Receiver<Vec<Traffic>> {
        self.shared.ask_traffic(query)
    }

    /// Delays writing until this is dropped; all changes passed meanwhile are written together. The
    /// caller must not wait while it exists.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.shared.hold();
        Hold(Arc::clone(&self.shared))
    }

    /// Stores a source's position, within a second. At most [`POSITIONS_MAX`] names are kept.
    pub fn set_position(&self, name: &str, position: Vec<u8>) {
        self.shared.note(|pending| pending.set_position(name, position));
    }

    /// Stores a record of an attempt that a jail was given, within a second. About the last [`JAIL_RECORDS_MAX`]
    /// are kept, until they are older than [`Settings::findtime`].
    pub fn record(&self, jail_records: JailRecord) {
        self.shared.note(|pending| pending.record(jail_records));
    }

    /// Stores what a jail has counted in all, within a second. At most [`TOTALS_MAX`] jails are kept. A
    /// count never decreases.
    pub fn set_total(&self, jail: &str, total: Total) {
        self.shared.note(|pending| pending.set_total(jail, total));
    }

    /// Stores how long a peer is known, within a second. At most [`KEPT_PEERS_MAX`] are kept.
    pub fn set_peer(&self, address: IpAddr, peer: KeptPeer) {
        self.shared.note(|pending| pending.set_peer(address, peer));
    }

    /// Waits until all changes before this call are durable.
    ///
    /// # Errors
    ///
    /// If they cannot be made durable at present; the error says why.
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

    /// Requests what is known of an address, of its source and of their bans. No answer means that the
    /// store cannot be read at present.
    pub fn look_up(&self, address: IpAddr, source: IpNet) -> oneshot::Receiver<Found> {
        self.shared.ask(BTreeSet::from([address.into(), source]))
    }

    /// Whether there is room to [`put`](Self::put) many bans at once.
    pub fn has_room(&self) -> bool {
        self.shared.has_room()
    }

    /// Whether it writes as fast as changes come, or cannot write at all: in both cases a wait would be
    /// pointless.
    pub fn keeps_up(&self) -> bool {
        self.has_room() || self.progress.borrow().failed.is_some()
    }

    /// The store's state.
    pub fn status(&self) -> Status {
        Status {
            failed: self.progress.borrow().failed.clone(),
            path: self.shared.path().to_owned(),
            pending: self.shared.pending(),
            replaced: self.shared.replaced(),
        }
    }

    /// Writes all pending changes, as far as possible, and ends the thread.
    pub fn end(&self) {
        self.shared.end();
    }
}

/// Nothing is written while it exists.
#[derive(Debug)]
pub struct Hold(Arc<Shared>);

impl Drop for Hold {
    fn drop(&mut self) {
        self.0.release();
    }
}

/// The store's file in this directory.
fn file_in(directory: &Path) -> PathBuf {
    directory.join(FILE)
}

#[cfg(test)]
mod tests;

//! The changes to be written: the latest state of each ban and position, and records of the attempts that
//! jails were given.
//!
//! It is bounded by the bans in the ledger and the file: a ban that began and ended before it was written
//! leaves nothing. Of the records of attempts, the latest are kept.
//!
//! Must never block the controller.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ipnet::IpNet;
use log::info;
use tokio::sync::{oneshot, watch};

use super::decisions::{DECISION_MAX, DECISIONS_MAX, DecisionKey};
use super::history::{Event, HistoryQuery, MANUAL_MAX, Past, WAITING_MAX};
use super::traffic::{self, Traffic, TrafficQuery};
use super::{
    Found, JAIL_RECORDS_MAX, JailRecord, KEPT_PEERS_MAX, KeptPeer, MANUAL, POSITION_KEY_MAX,
    POSITIONS_MAX, Progress, TOTALS_MAX, Total,
};
use detection::ban::{ADOPTED, Entry, Key, Origin};
use detection::clock::Moment;
use detection::escalation::{Offender, Pardon, Record};

/// With this many waiting changes, the disk is behind: bans are then queued without their evidence, and
/// those that are put again have to wait.
const MANY: usize = 65_536;

/// The most log lines that wait for their bans to be durable.
const SAYINGS_MAX: usize = 4096;

/// The most waiting requests; further ones get no answer.
const QUESTIONS_MAX: usize = 64;

/// A change of a ban.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put {
        entry: Entry,
        /// Whether the file has no such ban.
        fresh: bool,
    },
    Remove,
}

/// The log line about a ban, logged when the ban is durable.
#[derive(Debug)]
pub(super) struct Saying {
    text: String,
    is_manual: bool,
}

impl Saying {
    /// Logs it, followed by this text.
    fn say(&self, more: &str) {
        let text = &self.text;
        if self.is_manual {
            info!(target: MANUAL, "{text}{more}");
        } else {
            info!("{text}{more}");
        }
    }
}

/// The changes that are written at once.
#[derive(Debug, Default)]
pub(super) struct Batch {
    pub(super) bans: HashMap<Key, Change>,
    /// The earlier bans that are to be forgotten, before any are written.
    pub(super) pardons: Vec<Pardon>,
    pub(super) offences: HashMap<Offender, Record>,
    pub(super) positions: BTreeMap<String, Vec<u8>>,
    /// By number, in order.
    pub(super) jail_records: VecDeque<(i64, JailRecord)>,
    pub(super) sayings: Vec<Saying>,
    /// Manual decisions; without a value they are revoked.
    pub(super) decisions: BTreeMap<DecisionKey, Option<String>>,
    pub(super) history: VecDeque<Event>,
    pub(super) totals: BTreeMap<String, Total>,
    pub(super) traffic: Vec<Traffic>,
    pub(super) peers: HashMap<IpAddr, KeptPeer>,
    /// The number of the last change in it.
    pub(super) number: u64,
}

/// A question about the file.
#[derive(Debug)]
pub(super) enum Question {
    /// The stored facts about these networks.
    LookUp(BTreeSet<IpNet>, oneshot::Sender<Found>),
    /// A part of the history.
    History(HistoryQuery, oneshot::Sender<Vec<Past>>),
    /// A part of the traffic.
    Traffic(TrafficQuery, oneshot::Sender<Vec<Traffic>>),
}

/// Everything that waits to be written or read.
#[derive(Debug, Default)]
pub(super) struct Pending {
    batch: Batch,
    questions: Vec<Question>,
    /// The number of the last change that the writer has taken.
    taken: u64,
    /// Whether the contents of the file are known.
    is_read: bool,
    /// The number of the last record of an attempt.
    last_jail_record: i64,
    /// How many callers are deciding something that must be written together.
    holds: u32,
    ending: bool,
}

impl Pending {
    pub(super) fn put(&mut self, entry: &Entry, is_new: bool, says: Option<String>) {
        let batch = &mut self.batch;
        batch.number += 1;
        let behind = batch.bans.len() >= MANY;
        let entry = if behind { entry.clone().with_evidence(Vec::new()) } else { entry.clone() };
        let key = entry.key();
        let fresh = match batch.bans.get(&key) {
            Some(Change::Put { fresh, .. }) => *fresh,
            Some(Change::Remove) => false,
            None => is_new && self.is_read,
        };
        batch.bans.insert(key, Change::Put { entry, fresh });
        let is_manual = key.1 == Origin::Manual;
        match says.map(|text| Saying { text, is_manual }) {
            Some(says) if batch.sayings.len() < SAYINGS_MAX => batch.sayings.push(says),
            Some(says) => says.say(""),
            None => {}
        }
    }

    pub(super) fn remove(&mut self, key: Key) {
        self.batch.number += 1;
        if let Some(Change::Put { fresh: true, .. }) = self.batch.bans.get(&key) {
            self.batch.bans.remove(&key);
        } else {
            self.batch.bans.insert(key, Change::Remove);
        }
    }

    /// For changes beyond [`MANY`], only the data in memory is used.
    pub(super) fn set_offences(&mut self, who: Offender, record: Record) {
        let batch = &mut self.batch;
        batch.number += 1;
        if batch.offences.len() < MANY || batch.offences.contains_key(&who) {
            batch.offences.insert(who, record);
        }
    }

    pub(super) fn pardon(&mut self, pardon: Pardon) {
        let batch = &mut self.batch;
        batch.number += 1;
        batch.offences.retain(|who, _| !pardon.covers(*who));
        if batch.pardons.len() < MANY && !batch.pardons.contains(&pardon) {
            batch.pardons.push(pardon);
        }
    }

    /// Whether the file's record of an offender is out of date.
    pub(super) fn pardons(&self, who: Offender) -> bool {
        self.batch.pardons.iter().any(|pardon| pardon.covers(who))
    }

    pub(super) fn decide(&mut self, key: DecisionKey, value: Option<String>) {
        let batch = &mut self.batch;
        batch.number += 1;
        let fits = value.as_ref().is_none_or(|value| value.len() <= DECISION_MAX);
        let has_room = batch.decisions.len() < DECISIONS_MAX || batch.decisions.contains_key(&key);
        if fits && has_room {
            batch.decisions.insert(key, value);
        }
    }

    pub(super) fn happened(&mut self, event: Event) {
        let batch = &mut self.batch;
        batch.number += 1;
        let most = if event.is_manual { WAITING_MAX + MANUAL_MAX } else { WAITING_MAX };
        if batch.history.len() < most {
            batch.history.push_back(event);
        }
    }

    pub(super) fn set_position(&mut self, name: &str, position: Vec<u8>) {
        let positions = &mut self.batch.positions;
        if let Some(old) = positions.get_mut(name) {
            *old = position;
        } else if name.len() <= POSITION_KEY_MAX && positions.len() < POSITIONS_MAX {
            positions.insert(name.to_owned(), position);
        }
    }

    pub(super) fn set_total(&mut self, jail: &str, total: Total) {
        let totals = &mut self.batch.totals;
        if let Some(old) = totals.get_mut(jail) {
            *old = total;
        } else if totals.len() < TOTALS_MAX {
            totals.insert(jail.to_owned(), total);
        }
    }

    pub(super) fn set_peer(&mut self, address: IpAddr, peer: KeptPeer) {
        let peers = &mut self.batch.peers;
        if peers.len() < KEPT_PEERS_MAX || peers.contains_key(&address) {
            peers.insert(address, peer);
        }
    }

    pub(super) fn add_traffic(&mut self, rows: Vec<Traffic>) {
        let batch = &mut self.batch;
        batch.number += 1;
        let room = traffic::WAITING_MAX.saturating_sub(batch.traffic.len());
        batch.traffic.extend(rows.into_iter().take(room));
    }

    pub(super) fn record(&mut self, jail_records: JailRecord) {
        // Greater than any other of this boot, without reading the file.
        self.last_jail_record =
            Moment::from(jail_records.at).0.max(self.last_jail_record.saturating_add(1));
        self.batch.jail_records.push_back((self.last_jail_record, jail_records));
        self.forget_first_told();
    }

    fn forget_first_told(&mut self) {
        let surplus = self.batch.jail_records.len().saturating_sub(JAIL_RECORDS_MAX);
        self.batch.jail_records.drain(..surplus);
    }

    /// From now on the contents of the file are known.
    pub(super) fn set_read(&mut self) {
        self.is_read = true;
    }

    /// Whether a waiting change knows more about a ban than the file. A ban that only the kernel had
    /// does not, and yields.
    pub(super) fn overrules(&mut self, key: &Key) -> bool {
        match self.batch.bans.get(key) {
            None => false,
            Some(Change::Put { entry, .. }) if &*entry.reason == ADOPTED => {
                self.batch.bans.remove(key);
                false
            }
            Some(Change::Put { .. } | Change::Remove) => true,
        }
    }

    /// Puts back changes that could not be written; newer changes take precedence. `unsure` means that
    /// the file may have them nevertheless.
    fn put_back(&mut self, batch: Batch, unsure: bool) {
        for (key, mut old) in batch.bans {
            let was_fresh = match &mut old {
                Change::Put { fresh, .. } => {
                    *fresh &= !unsure;
                    *fresh
                }
                Change::Remove => false,
            };
            match self.batch.bans.get_mut(&key) {
                None => drop(self.batch.bans.insert(key, old)),
                Some(Change::Remove) if was_fresh => drop(self.batch.bans.remove(&key)),
                Some(Change::Remove) => {}
                Some(Change::Put { fresh, .. }) => *fresh = was_fresh,
            }
        }
        for (who, record) in batch.offences {
            if !self.pardons(who) {
                self.batch.offences.entry(who).or_insert(record);
            }
        }
        let newer = std::mem::replace(&mut self.batch.pardons, batch.pardons);
        self.batch.pardons.extend(newer);
        for (name, position) in batch.positions {
            self.batch.positions.entry(name).or_insert(position);
        }
        for (jail, total) in batch.totals {
            self.batch.totals.entry(jail).or_insert(total);
        }
        for (key, value) in batch.decisions {
            self.batch.decisions.entry(key).or_insert(value);
        }
        for (address, peer) in batch.peers {
            self.batch.peers.entry(address).or_insert(peer);
        }
        let newer = std::mem::replace(&mut self.batch.history, batch.history);
        self.batch.history.extend(newer);
        self.batch.history.truncate(WAITING_MAX + MANUAL_MAX);
        // Written twice, it would count twice.
        if !unsure {
            let newer = std::mem::replace(&mut self.batch.traffic, batch.traffic);
            self.batch.traffic.extend(newer);
            self.batch.traffic.truncate(traffic::WAITING_MAX);
        }
        let newer = std::mem::replace(&mut self.batch.jail_records, batch.jail_records);
        self.batch.jail_records.extend(newer);
        self.forget_first_told();
    }
}

/// Why the writer's thread wakes up.
pub(super) enum Work {
    Write,
    Answer(Vec<Question>),
    End,
}

/// The waiting changes, shared by the controller and the writer.
#[derive(Debug)]
pub(super) struct Shared {
    pending: Mutex<Pending>,
    awake: Condvar,
    path: PathBuf,
    progress: watch::Sender<Progress>,
    replaced: Mutex<Option<String>>,
}

impl Shared {
    pub(super) fn new(path: PathBuf, progress: watch::Sender<Progress>) -> Self {
        Self {
            pending: Mutex::default(),
            awake: Condvar::new(),
            path,
            progress,
            replaced: Mutex::default(),
        }
    }

    /// Records what was done with a broken file.
    pub(super) fn set_replaced(&self, what: String) {
        *self.replaced.lock().unwrap_or_else(PoisonError::into_inner) = Some(what);
    }

    pub(super) fn replaced(&self) -> Option<String> {
        self.replaced.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn change(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock());
        self.awake.notify_one();
    }

    /// The same as [`change`](Self::change), for changes that can wait for others.
    pub(super) fn note(&self, change: impl FnOnce(&mut Pending)) {
        change(&mut self.lock());
    }

    pub(super) fn hold(&self) {
        self.note(|pending| pending.holds = pending.holds.saturating_add(1));
    }

    pub(super) fn release(&self) {
        self.change(|pending| pending.holds = pending.holds.saturating_sub(1));
    }

    pub(super) fn last_number(&self) -> u64 {
        self.lock().batch.number
    }

    pub(super) fn pending(&self) -> usize {
        self.lock().batch.bans.len()
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending() < MANY
    }

    pub(super) fn ask(&self, networks: BTreeSet<IpNet>) -> oneshot::Receiver<Found> {
        let (answer, found) = oneshot::channel();
        self.question(Question::LookUp(networks, answer));
        found
    }

    pub(super) fn ask_history(&self, query: HistoryQuery) -> oneshot::Receiver<Vec<Past>> {
        let (answer, found) = oneshot::channel();
        self.question(Question::History(query, answer));
        found
    }

    pub(super) fn ask_traffic(&self, query: TrafficQuery) -> oneshot::Receiver<Vec<Traffic>> {
        let (answer, found) = oneshot::channel();
        self.question(Question::Traffic(query, answer));
        found
    }

    fn question(&self, question: Question) {
        self.change(|pending| {
            if pending.questions.len() < QUESTIONS_MAX {
                pending.questions.push(question);
            }
        });
    }

    pub(super) fn end(&self) {
        self.change(|pending| pending.ending = true);
    }

    /// Waits for something to do, at most until the timeout. Changes of bans are written at once if
    /// `writable`, positions without other changes only after the timeout.
    pub(super) fn wait(&self, writable: bool, time: Duration) -> Option<Work> {
        let mut pending = self.lock();
        let idle = |pending: &mut Pending| {
            let decided = writable && pending.holds == 0 && pending.batch.number > pending.taken;
            !decided && pending.questions.is_empty() && !pending.ending
        };
        pending = self
            .awake
            .wait_timeout_while(pending, time, idle)
            .map_or_else(|poisoned| poisoned.into_inner().0, |(pending, _)| pending);
        if !pending.questions.is_empty() {
            return Some(Work::Answer(std::mem::take(&mut pending.questions)));
        }
        if pending.ending {
            return Some(Work::End);
        }
        // Changes that cancelled each other out are reported as well.
        let something = !pending.batch.bans.is_empty()
            || !pending.batch.positions.is_empty()
            || !pending.batch.jail_records.is_empty()
            || !pending.batch.totals.is_empty()
            || !pending.batch.peers.is_empty()
            || pending.batch.number > pending.taken;
        something.then_some(Work::Write)
    }

    /// Takes all waiting changes, unless a [`Hold`](super::Hold) exists.
    pub(super) fn take(&self) -> Batch {
        let mut pending = self
            .awake
            .wait_while(self.lock(), |pending| pending.holds > 0)
            .unwrap_or_else(PoisonError::into_inner);
        let number = pending.batch.number;
        pending.taken = number;
        std::mem::replace(&mut pending.batch, Batch { number, ..Batch::default() })
    }

    /// A batch is durable.
    pub(super) fn done(&self, number: u64, sayings: &[Saying]) {
        self.progress.send_modify(|progress| {
            progress.durable = number;
            progress.failed = None;
        });
        for says in sayings {
            says.say("");
        }
    }

    /// Nothing can be written at present. The lines about bans are logged nevertheless: the bans are in
    /// force.
    pub(super) fn failed(&self, batch: Batch, unsure: bool, why: &str) {
        let mut batch = batch;
        let mut sayings = std::mem::take(&mut batch.sayings);
        self.change(|pending| {
            pending.put_back(batch, unsure);
            sayings.append(&mut pending.batch.sayings);
        });
        self.progress.send_modify(|progress| progress.failed = Some(why.to_owned()));
        for says in sayings {
            says.say(" (not stored yet)");
        }
    }

    fn lock(&self) -> MutexGuard<'_, Pending> {
        // The data is consistent between any two statements that can panic.
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

//! The bans in force: each is in the ledger, in the kernel and in the store, or in none of them.
//!
//! Writes each change to all three. This part does not decide which addresses are banned. Only it changes
//! the ledger, so that no ban is listed without being enforced.

pub(super) mod backlog;
mod ends;
pub(super) mod lifting;

use std::collections::{HashSet, VecDeque};

use anyhow::Result;
use log::{error, info, warn};

use self::backlog::Backlog;
use self::lifting::Lifting;
use super::digest::{Digest, Topic};
use super::protected::Protected;
use super::{Controller, show};
use crate::ban::{ADOPTED, Entry, InForce, Key, Ledger, Origin, Write};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::store::Store;

/// The most bans whose evidence is in memory. The evidence of older ones is only in the store.
const EXPLAINED: usize = 10_000;

/// From this many bans that only the kernel had, they are saved a few at a time, not all at the start.
const ADOPTED_AT_ONCE: usize = 4096;

/// The bans in force.
pub(super) struct Bans {
    ledger: Ledger,
    store: Store,
    /// The bans whose evidence is in memory, oldest first.
    explained: VecDeque<Key>,
    /// Ended bans are removed no earlier than this.
    ends_wait_until: Option<KernelTime>,
    backlog: Backlog,
    lifting: Lifting,
}

impl Bans {
    /// No bans yet, and the store that will keep them.
    pub(super) fn new(store: Store) -> Self {
        Self {
            ledger: Ledger::default(),
            store,
            explained: VecDeque::new(),
            ends_wait_until: None,
            backlog: Backlog::default(),
            lifting: Lifting::default(),
        }
    }

    /// The bans, to read.
    pub(super) fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// The store, which also keeps offences and failures.
    pub(super) fn store(&self) -> &Store {
        &self.store
    }

    /// Restores the bans that were kept and those that the kernel has `held`, and makes both the same.
    pub(super) fn restore(
        &mut self,
        datapath: &mut impl Datapath,
        protected: &Protected,
        kept: (Vec<Entry>, Vec<Key>),
        held: &InForce,
        now: KernelTime,
    ) {
        let Self { ledger, store, .. } = self;
        let (mut bans, ended) = kept;
        let wanted = |network| protected.reason(network).is_none();
        bans.retain(|entry| {
            let network = entry.ban.network;
            if let Some(who) = protected.reason(network) {
                info!("lifted the ban of {}: it is now {who}", show(network));
                store.remove(entry.key());
                return false;
            }
            entry.ban.in_force(now)
        });
        for key in &ended {
            store.remove(*key);
        }
        let ended: HashSet<_> = ended.into_iter().map(|(network, ..)| network).collect();
        ledger.load(bans);
        let done = ledger.reconcile(held, &ended, now, ADOPTED, wanted);
        let many = done.adopted.len() > ADOPTED_AT_ONCE;
        for entry in done.adopted.iter().filter(|_| !many) {
            store.put(entry, true, None);
        }
        let mut refused = 0_usize;
        for write in &done.writes {
            let Err(why) = write_one(datapath, write) else { continue };
            if refused == 0 {
                error!("{why:#}");
            }
            refused += 1;
            // It is not in force, so it is not listed. It stays in the store until there is room.
            let network = match write {
                Write::Address(entry) => entry.address.into(),
                Write::Network(entry) => entry.network,
                Write::NoAddress(_) | Write::NoNetwork(_) => continue,
            };
            let bans: Vec<Entry> = ledger.of_network(network).cloned().collect();
            for entry in bans {
                ledger.remove(&entry);
            }
        }
        if many {
            self.put_all();
        }
        if refused > 0 {
            warn!("{refused} stored bans are not in force, because the kernel refused them");
        }
    }

    /// Enters a ban into the kernel and the ledger, or into neither, so that every recorded ban is in
    /// force. Returns the bans that it replaced.
    pub(super) fn enforce(
        &mut self,
        datapath: &mut impl Datapath,
        entry: &Entry,
    ) -> Result<Vec<Entry>> {
        let replaced = self.ledger.replaced_by(entry);
        let writes = self.ledger.insert(entry.clone());
        let Err(why) = write(datapath, &writes) else { return Ok(replaced) };
        let mut undo = self.ledger.remove(entry);
        for old in replaced {
            undo.extend(self.ledger.insert(old));
        }
        if let Err(also) = write(datapath, &undo) {
            warn!("{also:#}");
        }
        Err(why)
    }

    /// Saves a ban that is in force; `says` is logged once it is saved.
    pub(super) fn keep(&mut self, entry: &Entry, replaced: &[Entry], says: Option<String>) {
        let key = entry.key();
        let is_new = replaced.iter().all(|old| old.key() != key);
        for old in replaced.iter().filter(|old| old.key() != key) {
            self.store.remove(old.key());
        }
        self.store.put(entry, is_new, says);
        if !entry.evidence().is_empty() {
            self.explained.push_back(key);
        }
        if self.explained.len() > EXPLAINED
            && let Some(oldest) = self.explained.pop_front()
        {
            self.ledger.forget_evidence(&oldest);
        }
    }

    /// Removes a ban.
    ///
    /// # Errors
    ///
    /// If the kernel refuses; then it keeps the ban until it ends.
    pub(super) fn strike(&mut self, datapath: &mut impl Datapath, entry: &Entry) -> Result<()> {
        let writes = self.ledger.remove(entry);
        self.store.remove(entry.key());
        write(datapath, &writes)
    }
}

impl<D: Datapath> Controller<D> {
    /// Enters a ban into the kernel and the ledger, and saves it; `says` is logged once it is saved.
    pub(super) fn enter(&mut self, entry: &Entry, says: Option<String>) -> Result<()> {
        let replaced = self.bans.enforce(&mut self.datapath, entry)?;
        let (origin, now) = (entry.ban.origin, entry.ban.since.in_this_boot());
        let by = self.jails.roster.name(origin);
        let has_line = |digest: &mut Digest| digest.has_line(Topic::Ban, by, now);
        let says = says.filter(|_| origin == Origin::Manual || has_line(&mut self.digest));
        self.bans.keep(entry, &replaced, says);
        self.tell_ban(entry);
        Ok(())
    }
}

/// Writes all entries, or those before the first that the kernel refuses.
fn write(datapath: &mut impl Datapath, writes: &[Write]) -> Result<()> {
    for write in writes {
        write_one(datapath, write)?;
    }
    Ok(())
}

fn write_one(datapath: &mut impl Datapath, write: &Write) -> Result<()> {
    match write {
        Write::Address(entry) => datapath.ban(entry),
        Write::NoAddress(address) => datapath.unban(*address),
        Write::Network(entry) => datapath.ban_network(entry),
        Write::NoNetwork(network) => datapath.unban_network(*network),
    }
}

//! How the controller uses the store.

use std::collections::HashSet;

use log::{error, info, warn};

use super::digest::Topic;
use super::{Controller, show, write_one};
use crate::ban::{ADOPTED, Entry, InForce, Origin, Write};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::store::{Kept, Store};

/// The most bans whose evidence is in memory. The evidence of older ones is only in the store.
const EXPLAINED: usize = 10_000;

/// From this many bans that only the kernel had, they are saved a few at a time and not at the start.
const ADOPTED_AT_ONCE: usize = 4096;

impl<D: Datapath> Controller<D> {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Restores the bans that were `kept` and those that the kernel has `held`, and makes both the same.
    pub(super) fn restore(&mut self, kept: Kept, held: &InForce, now: KernelTime) {
        let Self { datapath, ledger, protected, store, .. } = self;
        let Kept { mut bans, ended, offences, .. } = kept;
        let wanted = |network| protected.reason(network).is_none();
        bans.retain(|entry| {
            let network = entry.ban.network;
            if let Some(who) = protected.reason(network) {
                info!("lifted the ban of {}: it is {who} now", show(network));
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
        for (who, record) in self.escalation.load(offences, now) {
            self.store.set_offences(who, record);
        }
        if refused > 0 {
            warn!("{refused} stored bans are not in force, because the kernel refused them");
        }
    }

    /// Saves a ban that is in force.
    pub(super) fn keep(&mut self, entry: &Entry, replaced: &[Entry], says: Option<String>) {
        let key = entry.key();
        let is_new = replaced.iter().all(|old| old.key() != key);
        for old in replaced.iter().filter(|old| old.key() != key) {
            self.store.remove(old.key());
        }
        let (origin, now) = (entry.ban.origin, entry.ban.since.in_this_boot());
        let by = self.roster.name(origin);
        let says =
            says.filter(|_| origin == Origin::Hand || self.digest.has_line(Topic::Ban, by, now));
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
}

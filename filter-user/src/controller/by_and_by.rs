//! Work for the store after the start, a little at a time: saving all bans in a store that was created
//! again, and taking over what could be read only late.

use std::collections::VecDeque;

use log::{error, info, warn};

use super::{Controller, show};
use crate::ban::{ADOPTED, Entry, Key, Origin};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::escalation::{Offender, Record};
use crate::store::Kept;

/// The most bans or offenders that are handled in one turn.
const AT_ONCE: usize = 128;

/// What is left to do.
#[derive(Debug, Default)]
pub(super) struct ByAndBy {
    putting: Option<Putting>,
    taking: Option<Taking>,
}

/// The progress of saving everything again.
#[derive(Clone, Copy, Debug)]
enum Putting {
    Offenders(Option<Offender>),
    Bans(Option<Key>),
}

/// What the store kept and the controller has not taken over yet.
#[derive(Debug, Default)]
struct Taking {
    bans: VecDeque<Entry>,
    ended: VecDeque<Key>,
    offences: VecDeque<(Offender, Record)>,
    refused: usize,
}

impl<D: Datapath> Controller<D> {
    /// Starts saving all bans again.
    pub fn put_all(&mut self) {
        self.by_and_by.putting = Some(Putting::Offenders(None));
    }

    /// Starts taking over what could be read only now.
    pub fn take_kept(&mut self, kept: Kept) {
        let Kept { bans, ended, offences, .. } = kept;
        let (bans, ended, offences) = (bans.into(), ended.into(), offences.into());
        self.by_and_by.taking = Some(Taking { bans, ended, offences, refused: 0 });
    }

    /// Whether [`go_on`](Self::go_on) has something to do.
    pub fn has_more_to_do(&self) -> bool {
        self.by_and_by.putting.is_some() || self.by_and_by.taking.is_some()
    }

    /// Does a little of the work.
    pub fn go_on(&mut self, now: KernelTime) {
        self.take_some(now);
        if self.by_and_by.taking.is_none() && self.store.has_room() {
            self.put_some();
        }
    }

    /// Saves a few more bans.
    fn put_some(&mut self) {
        self.by_and_by.putting = match self.by_and_by.putting {
            None => None,
            Some(Putting::Offenders(behind)) => {
                let mut last = None;
                for (who, record) in self.escalation.history().after(behind).take(AT_ONCE) {
                    last = Some(who);
                    self.store.set_offences(who, *record);
                }
                Some(last.map_or(Putting::Bans(None), |last| Putting::Offenders(Some(last))))
            }
            Some(Putting::Bans(behind)) => {
                let mut last = None;
                for entry in self.ledger.after(behind, AT_ONCE) {
                    last = Some(entry.key());
                    if entry.ban.origin != Origin::Flood {
                        self.store.put(entry, false, None);
                    }
                }
                last.map(|last| Putting::Bans(Some(last)))
            }
        };
    }

    fn take_some(&mut self, now: KernelTime) {
        let Some(mut taking) = self.by_and_by.taking.take() else { return };
        for _ in 0..AT_ONCE {
            if let Some(entry) = taking.bans.pop_front() {
                taking.refused += usize::from(!self.take_ban(&entry, now));
            } else if let Some(key) = taking.ended.pop_front() {
                self.store.remove(key);
            } else if let Some(offence) = taking.offences.pop_front() {
                for (who, record) in self.escalation.load(vec![offence], now) {
                    self.store.set_offences(who, record);
                }
            } else {
                if taking.refused > 0 {
                    let refused = taking.refused;
                    warn!(
                        "{refused} stored bans are not in force, because the kernel refused them"
                    );
                }
                return;
            }
        }
        self.by_and_by.taking = Some(taking);
    }

    /// Takes over a ban unless one is in force already. Returns whether the kernel accepted it. A ban that
    /// the kernel refused stays in the store until there is room.
    fn take_ban(&mut self, entry: &Entry, now: KernelTime) -> bool {
        let network = entry.ban.network;
        if let Some(who) = self.protected.reason(network) {
            info!("lifted the ban of {}: it is {who} now", show(network));
            self.store.remove(entry.key());
            return true;
        }
        if !entry.ban.in_force(now) {
            return true;
        }
        // The stored entry contains more than the kernel's.
        let stands = self.ledger.replaced_by(entry);
        if stands.iter().any(|old| old.key() != entry.key() || &*old.reason != ADOPTED) {
            return true;
        }
        let entered = self.enforce(entry);
        if let Err(why) = &entered {
            error!("{} is not banned: {why:#}", show(network));
        }
        entered.is_ok()
    }
}

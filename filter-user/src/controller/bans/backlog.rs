//! Work for the store after the start, a little at a time: saving all bans in a store that was created
//! again, and taking over what could be read only late.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use log::{error, info, warn};

use super::super::Controller;
use super::super::protected::Protected;
use super::{Bans, show};
use crate::ban::{ADOPTED, Entry, Key};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::escalation::{History, Offender, Record};
use crate::store::Kept;

/// The most bans or offenders that are handled in one turn.
const AT_ONCE: usize = 128;

/// The remaining work.
#[derive(Debug, Default)]
pub(in crate::controller) struct Backlog {
    putting: Option<Putting>,
    taking: Option<Taking>,
}

/// The progress of saving everything again.
#[derive(Clone, Copy, Debug)]
enum Putting {
    Offenders(Option<Offender>),
    Bans(Option<Key>),
}

/// What the store has and the controller has not taken over yet.
#[derive(Debug, Default)]
struct Taking {
    bans: VecDeque<Entry>,
    ended: VecDeque<Key>,
    offences: VecDeque<(Offender, Record)>,
    peers: BTreeMap<IpAddr, KernelTime>,
    refused: usize,
}

impl Bans {
    /// Starts saving all bans again.
    pub(in crate::controller) fn put_all(&mut self) {
        self.backlog.putting = Some(Putting::Offenders(None));
    }

    /// Saves a few more bans, and before them the `offenders`.
    fn put_some(&mut self, offenders: &History) {
        self.backlog.putting = match self.backlog.putting {
            None => None,
            Some(Putting::Offenders(behind)) => {
                let mut last = None;
                for (who, record) in offenders.after(behind).take(AT_ONCE) {
                    last = Some(who);
                    self.store.set_offences(who, *record);
                }
                Some(last.map_or(Putting::Bans(None), |last| Putting::Offenders(Some(last))))
            }
            Some(Putting::Bans(behind)) => {
                let mut last = None;
                for entry in self.ledger.after(behind, AT_ONCE) {
                    last = Some(entry.key());
                    self.store.put(entry, false, None);
                }
                last.map(|last| Putting::Bans(Some(last)))
            }
        };
    }

    /// Takes over a ban unless one is in force already. Returns whether the kernel accepted it. A ban that
    /// the kernel refused stays in the store until there is room.
    fn take_ban(
        &mut self,
        datapath: &mut impl Datapath,
        protected: &Protected,
        entry: &Entry,
        now: KernelTime,
    ) -> bool {
        let network = entry.ban.network;
        if let Some(who) = protected.reason(network) {
            info!("lifted the ban of {}: it is now {who}", show(network));
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
        let entered = self.enforce(datapath, entry);
        if let Err(why) = &entered {
            error!("{} is not banned: {why:#}", show(network));
        }
        entered.is_ok()
    }
}

impl<D: Datapath> Controller<D> {
    /// Starts saving all bans again.
    pub fn put_all(&mut self) {
        self.put_permits();
        self.put_tuning();
        self.put_totals();
        self.put_switch();
        self.put_feeds();
        self.put_geo();
        self.put_fleet();
        self.bans.put_all();
        self.keep_all_peers();
    }

    /// Starts taking over what could be read only now.
    pub fn take_kept(&mut self, kept: Kept) {
        let Kept { bans, ended, offences, decisions, totals, peers, .. } = kept;
        self.take_permits(&decisions);
        self.take_tuning(&decisions);
        self.take_switch(&decisions);
        self.load_feeds(&decisions);
        self.load_fleet(&decisions);
        self.totals.load(totals);
        self.put_totals();
        let (bans, ended, offences) = (bans.into(), ended.into(), offences.into());
        self.bans.backlog.taking = Some(Taking { bans, ended, offences, peers, refused: 0 });
    }

    /// Whether [`go_on`](Self::go_on) has something to do.
    pub fn has_more_to_do(&self) -> bool {
        self.bans.backlog.putting.is_some()
            || self.bans.backlog.taking.is_some()
            || self.feeds.is_busy()
            || self.fleet.is_busy()
    }

    /// Does a little of the work.
    pub fn go_on(&mut self, now: KernelTime) {
        self.take_some(now);
        if self.bans.backlog.taking.is_none() && self.bans.store.has_room() {
            self.bans.put_some(self.escalation.history());
        }
        self.feed_some(now);
        self.sweep_fleet();
    }

    fn take_some(&mut self, now: KernelTime) {
        let Self { bans, datapath, protected, escalation, peers, .. } = self;
        let Some(mut taking) = bans.backlog.taking.take() else { return };
        for _ in 0..AT_ONCE {
            if let Some(entry) = taking.bans.pop_front() {
                let is_taken = bans.take_ban(datapath, protected, &entry, now);
                taking.refused += usize::from(!is_taken);
            } else if let Some(key) = taking.ended.pop_front() {
                bans.store.remove(key);
            } else if let Some(offence) = taking.offences.pop_front() {
                for (who, record) in escalation.load(vec![offence], now) {
                    bans.store.set_offences(who, record);
                }
            } else if let Some((address, until)) = taking.peers.pop_first() {
                peers.restore(datapath, (address, until), now);
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
        bans.backlog.taking = Some(taking);
    }
}

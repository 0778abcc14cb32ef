//! Preserves the state of the jails over a restart: the attempts that they were given are stored and
//! given to them again.

use std::net::IpAddr;

use ipnet::IpNet;
use log::warn;

use super::{Controller, show};
use crate::ban::{ADOPTED, Entry, Origin};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::escalation::{Case, Offender};
use crate::failure::{Attempt, Class, Verdict};
use crate::jail::BanDecision;
use crate::join;
use crate::store::{Content, JailRecord};

/// The name of a source that the configuration no longer has.
const GONE: &str = "a former source";

impl<D: Datapath> Controller<D> {
    /// Gives an attempt to a jail and stores it.
    pub(super) fn give(
        &mut self,
        place: usize,
        attempt: &Attempt,
        source: &'static str,
        now: KernelTime,
    ) -> Option<BanDecision> {
        let of = self.source_of(attempt.address, now).addr();
        let jail = self.jails.get_mut(place)?;
        let (name, watched, counts) = (jail.name(), jail.watched(), jail.counts(attempt));
        let decision = jail.hear_of(of, attempt, source, now);
        // A success of a source without failures is nothing to be remembered.
        if attempt.verdict == Verdict::Failure || jail.watched() != watched {
            let what = Content::Attempt { source: source.into(), attempt: attempt.clone() };
            self.keep_record(name, what, now);
        }
        if counts {
            self.count_failure(name, now);
        }
        decision
    }

    /// Tells a jail that a failure that it has counted is proven, and stores that.
    pub(super) fn told_proven(
        &mut self,
        place: usize,
        address: IpAddr,
        class: Class,
        now: KernelTime,
    ) -> Option<BanDecision> {
        let of = self.source_of(address, now).addr();
        let jail = self.jails.get_mut(place)?;
        let (name, decision) = (jail.name(), jail.prove_of(of, address, class, now));
        self.keep_record(name, Content::Proven(address, class), now);
        decision
    }

    fn keep_record(&self, jail: &str, what: Content, now: KernelTime) {
        self.bans.store().record(JailRecord { at: now, jail: jail.into(), what });
    }

    /// Makes the jails forget the failures of every source in a network.
    pub(super) fn forget(&mut self, network: IpNet, now: KernelTime) {
        for place in 0..self.jails.len() {
            self.forget_in(place, network, now);
        }
    }

    /// Makes one jail forget them.
    pub(super) fn forget_in(&mut self, place: usize, network: IpNet, now: KernelTime) {
        let Some(jail) = self.jails.get(place) else { return };
        let (name, watched) = (jail.name(), jail.watched());
        self.forget_sources(place, network);
        if self.jails.get(place).is_some_and(|jail| jail.watched() != watched) {
            self.keep_record(name, Content::Forgotten(network), now);
        }
    }

    /// Gives stored attempts to the jails again, so that they remember them. The resulting decisions have
    /// been carried out before.
    pub fn recall(&mut self, records: Vec<JailRecord>, now: KernelTime) {
        let Some(last) = records.last().map(|last| last.at) else { return };
        for JailRecord { at, jail, what } in records {
            let Some(place) = self.jails.place(&jail) else { continue };
            match what {
                Content::Forgotten(network) => self.forget_sources(place, network),
                Content::Proven(address, class) => {
                    let of = self.source_of(address, now).addr();
                    let Some(jail) = self.jails.get_mut(place) else { continue };
                    let _passed = (jail.prove_of(of, address, class, at), jail.decided_on_others());
                }
                Content::Attempt { source, attempt } => {
                    self.recall_attempt(&attempt, &source, place, (at, now));
                    // Another source may be about to report the same failure.
                    let source = self.sources.number(&source);
                    if let Some(source) = source.filter(|_| last.since(at) <= join::WINDOW) {
                        self.attempts.recall(&attempt, source, now);
                    }
                }
            }
        }
    }

    fn recall_attempt(
        &mut self,
        attempt: &Attempt,
        source: &str,
        place: usize,
        (at, now): (KernelTime, KernelTime),
    ) {
        let (address, network) = (attempt.address, self.source_of(attempt.address, now));
        if self.protected.reason(address.into()).is_some() {
            return;
        }
        // The sources of the jail `recidive` are other jails.
        let known = self.sources.name(source);
        let source =
            known.or_else(|| self.jails.roster.names().into_iter().find(|name| *name == source));
        let Some(jail) = self.jails.get_mut(place) else { return };
        let (decided, _on_others) = (
            jail.hear_of(network.addr(), attempt, source.unwrap_or(GONE), at),
            jail.decided_on_others(),
        );
        if let Some(decision) = decided {
            self.explain(place, &decision, now);
        }
    }

    /// Whether a ban is a jail's that only the kernel had: the daemon was killed before it could save the
    /// ban. What led to it is recalled or read again.
    pub(super) fn is_unexplained(&self, entry: &Entry, place: usize) -> bool {
        let jail = || self.jails.get(place).and_then(|jail| self.jails.roster.origin(jail.name()));
        &*entry.reason == ADOPTED && Some(entry.ban.origin) == jail()
    }

    /// Gives such a ban the reason and the evidence of the decision that has been made again. Returns
    /// whether there is one.
    pub(super) fn explain(
        &mut self,
        place: usize,
        decision: &BanDecision,
        now: KernelTime,
    ) -> bool {
        let &BanDecision { address, scope, proven, .. } = decision;
        let network = self.jails.prefix.network(address);
        let is_meant = |entry: &&Entry| {
            let ban = entry.ban;
            ban.scope == scope && ban.in_force(now) && self.is_unexplained(entry, place)
        };
        let Some(found) = self.bans.ledger().of_network(network).find(is_meant).cloned() else {
            return false;
        };
        let (ban, by) = (found.ban, self.jail_name(found.ban.origin));
        let says = format!(
            "{by}: the ban of {} from before this start has got its reason back: {}{}",
            show(network),
            decision.reason,
            self.dry()
        );
        let entry = Entry::new(ban, &*decision.reason)
            .with_except(found.except().to_vec())
            .with_evidence(decision.evidence.clone());
        if let Err(why) = self.enter(&entry, Some(says)) {
            warn!("{by}: the reason of the ban of {} cannot be restored: {why:#}", show(network));
        }
        if let Origin::Jail(jail) = ban.origin {
            let case = Case { who: Offender { address, jail }, proven, again: false };
            let (since, until) = (ban.since.in_this_boot(), ban.until.unwrap_or(now));
            self.remember(by, case, since, until);
        }
        true
    }

    /// When an unexplained ban ends, makes the jail forget the failures that led to it.
    pub(super) fn forget_unexplained(&mut self, entry: &Entry, now: KernelTime) {
        for place in 0..self.jails.len() {
            if self.is_unexplained(entry, place) {
                self.forget_in(place, entry.ban.network, now);
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! Passes attempts to the jails and carries out their decisions, unless a ban in force or an exemption
//! prevents it.

use std::net::IpAddr;

use super::Controller;
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::Scope;
use crate::datapath::Datapath;
use crate::failure::Attempt;
use crate::jail::BanDecision;

impl<D: Datapath> Controller<D> {
    /// Tells a jail what another report says about a failure that it has counted: its account, and whether it is the
    /// first one that proves it.
    pub(super) fn corroborate(
        &mut self,
        address: IpAddr,
        attempt: &Attempt,
        is_proof: bool,
        place: usize,
        now: KernelTime,
    ) {
        if let Some(account) = &attempt.account {
            let of = self.source_of(address, now).addr();
            let jail = self.jails.get_mut(place);
            let decided =
                jail.and_then(|jail| jail.name_of(of, address, (attempt.class, account), now));
            self.carry_out(place, decided, now);
        }
        if is_proof {
            let decided = self.told_proven(place, address, attempt.class, now);
            self.carry_out(place, decided, now);
        }
    }

    /// Passes a genuine attempt to a jail. Returns whether the jail took it.
    pub(super) fn judge(
        &mut self,
        attempt: &Attempt,
        source: &'static str,
        place: usize,
        now: KernelTime,
    ) -> bool {
        let address = attempt.address;
        if self.protected.reason(address.into()).is_some() || self.ignores_by_name(place, address) {
            return false;
        }
        let Some(jail) = self.jails.get_mut(place) else { return false };
        // Failures that were on their way when the ban began do not count.
        let settings = jail.settings();
        let scope = if attempt.proven { Some(settings.scope) } else { settings.unproven_closes() };
        let stands = |ban: Ban| {
            ban.in_force(now)
                && (ban.origin == Origin::Manual
                    || ban.scope == Scope::All
                    || scope.is_some_and(|scope| ban.scope.covers(scope)))
        };
        let keeps = |entry: &Entry| stands(entry.ban) && !self.is_unexplained(entry, place);
        if self.bans_of(address, now).any(keeps) {
            return false;
        }
        let decided = self.give(place, attempt, source, now);
        self.carry_out(place, decided, now);
        true
    }

    /// Carries out the decision of a jail about the source of an attempt, and its decisions about others.
    fn carry_out(&mut self, place: usize, decided: Option<BanDecision>, now: KernelTime) {
        let Some(jail) = self.jails.get_mut(place) else { return };
        let (name, decided_on_others) = (jail.name(), jail.decided_on_others());
        if let Some(decision) = decided {
            self.enact(place, name, decision, now);
        }
        for decision in decided_on_others {
            if self.may_be_banned(place, &decision, now) {
                self.enact(place, name, decision, now);
            }
        }
    }

    /// Whether a source may be banned for failures of a while ago.
    fn may_be_banned(&self, place: usize, decision: &BanDecision, now: KernelTime) -> bool {
        let BanDecision { address, scope, proven, .. } = *decision;
        let network = self.jails.prefix.network(address);
        let stands = |ban: Ban| {
            let covers = ban.scope.covers(scope);
            ban.in_force(now) && (ban.origin == Origin::Manual || covers)
        };
        self.protected.reason(network).is_none()
            && !self.ignores_by_name(place, address)
            && (proven || !self.is_known(address, now))
            && !self.bans.ledger().of_network(network).any(|entry| stands(entry.ban))
    }
}

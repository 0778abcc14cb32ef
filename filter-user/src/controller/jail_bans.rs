//! Bans that jails decide on: of a source, or of its addresses that failed; longer for an offender, and reported
//! to the jail `recidive`.

use ipnet::IpNet;
use log::{error, warn};

use super::digest::Topic;
use super::of_source::is_address;
use super::{Controller, show};
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::{RECIDIVE, Scope};
use crate::datapath::Datapath;
use crate::duration;
use crate::escalation::{Case, Offender};
use crate::failure::{Attempt, Class, Verdict};
use crate::jail::{BanDecision, Jail};

impl<D: Datapath> Controller<D> {
    /// Bans a source for its failures. If the source cannot be banned as a whole, bans its addresses that
    /// failed.
    pub(super) fn enact(
        &mut self,
        jail: usize,
        name: &'static str,
        decision: BanDecision,
        now: KernelTime,
    ) {
        if self.explain(jail, &decision, now) {
            self.count_ban(name, now);
            return;
        }
        let network = self.jails.prefix.network(decision.address);
        if is_address(network) {
            self.ban_source(jail, name, (network, Vec::new()), decision, now);
            return;
        }
        match self.exceptions(network, Some(jail), now) {
            Ok(except) => self.ban_source(jail, name, (network, except), decision, now),
            Err(why) => {
                if self.digest.has_line(Topic::Exception, name, now) {
                    warn!(
                        "{name}: the addresses in {network} that failed are banned, but not the network: {why}"
                    );
                }
                for address in self.addresses_behind(&decision.evidence, jail, now) {
                    let decision = BanDecision { address, ..decision.clone() };
                    self.ban_source(jail, name, (address.into(), Vec::new()), decision, now);
                }
            }
        }
    }

    /// Whether enough of the failures behind a ban are proven to be those of its source.
    pub(super) fn is_proven(&self, entry: &Entry) -> bool {
        let Origin::Jail(_) = entry.ban.origin else { return false };
        let name = self.jail_name(entry.ban.origin);
        let Some(jail) = self.jails.place(name).and_then(|place| self.jails.get(place)) else {
            return false;
        };
        let scope = entry.ban.scope;
        if scope == Scope::Throttle {
            return false;
        }
        // Only with `unproven: ban`, or with an `unproven_scope`, may one that is not proven close the same.
        let may_be_unproven = jail.settings().unproven_closes() == Some(scope);
        let evidence = entry.evidence();
        !may_be_unproven || (!evidence.is_empty() && evidence.iter().all(|failure| failure.proven))
    }

    fn ban_source(
        &mut self,
        jail: usize,
        name: &'static str,
        (network, except): (IpNet, Vec<IpNet>),
        decision: BanDecision,
        now: KernelTime,
    ) {
        let BanDecision { address, mut scope, mut proven, .. } = decision;
        let origin = self.origin_of(name);
        let Origin::Jail(number) = origin else { return };
        if let Some(kind) = self.protected.essentials().of(network, scope) {
            let why = (name, decision.failures, &*decision.reason);
            self.prevent((address, kind.as_str()), why, now);
            // Anybody can make up failures that are not proven, also in the name of a trunk.
            if !proven || !scope.covers(Scope::Throttle) {
                return;
            }
            (scope, proven) = (Scope::Throttle, false);
        }
        let BanDecision { bantime, mut reason, evidence, .. } = decision;
        let Some(settings) = self.jails.get(jail).map(Jail::settings) else { return };
        // A jail takes no failures of a source that it has banned, only the proof of earlier ones.
        let stands = |ban: Ban| ban.origin == origin && ban.in_force(now);
        let again = self.bans.ledger().of_network(network).any(|entry| stands(entry.ban));
        let case = Case { who: Offender { address, jail: number }, proven, again };
        let (time, number) = self.escalation.term(case, bantime, &settings.increment, now);
        let until = now.after(time);
        let ban = Ban { network, scope, origin, since: now.into(), until: Some(until) };
        if number > 1 {
            reason = format!("{reason}; {} ban", ordinal(number));
        }
        let (shown, time) = (show(network), duration::format(time));
        let (left_out, dry) = (left_out(&except), self.dry());
        let did = if scope == Scope::Throttle { "throttled" } else { "banned" };
        let says = format!("{name}: {did} {shown} for {time}: {reason}{left_out}{dry}");
        let entry = Entry::new(ban, reason).with_evidence(evidence).with_except(except);
        if let Err(why) = self.enter(&entry, Some(says)) {
            if self.digest.has_line(Topic::Exception, name, now) {
                error!("{name}: {shown} is not banned: {why:#}");
            }
            return;
        }
        if !case.again {
            self.count_ban(name, now);
        }
        self.remember(name, case, now, until);
    }

    /// Records a ban as an earlier one for the next.
    pub(super) fn remember(
        &mut self,
        by: &'static str,
        case: Case,
        now: KernelTime,
        until: KernelTime,
    ) {
        let record = self.escalation.note(case, now, until);
        self.bans.store().set_offences(case.who, record);
        if case.proven {
            self.escalate(case.who.address, now);
        }
        if by != RECIDIVE {
            self.tell_recidive(by, case, now);
        }
    }

    /// Passes a ban by another jail to the jail `recidive`.
    fn tell_recidive(&mut self, by: &'static str, case: Case, now: KernelTime) {
        let Case { who: Offender { address, .. }, proven, again } = case;
        let Some(place) = self.jails.place(RECIDIVE) else {
            return;
        };
        let origin = self.origin_of(RECIDIVE);
        let Some(jail) = self.jails.get_mut(place) else { return };
        let (scope, unproven_scope) = (jail.settings().scope, jail.settings().unproven_closes());
        let closes = if proven { Some(scope) } else { unproven_scope };
        let stands = |ban: Ban| {
            ban.origin == origin
                && ban.in_force(now)
                && (ban.scope == scope || Some(ban.scope) == closes)
        };
        if self.bans_of(address, now).any(|entry| stands(entry.ban)) {
            return;
        }
        let decision = if again && unproven_scope.is_some() {
            self.told_proven(place, address, Class::Ban, now)
        } else {
            let ban = Attempt::new(Verdict::Failure, Class::Ban, address);
            self.give(place, &Attempt { proven, ..ban }, by, now)
        };
        if let Some(decision) = decision {
            self.enact(place, RECIDIVE, decision, now);
        }
    }
}

/// An ordinal number, such as `3rd`.
fn ordinal(number: u32) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

/// The exceptions of a ban, as text.
pub(super) fn left_out(except: &[IpNet]) -> String {
    match except.len() {
        0 => String::new(),
        some => format!(", except {some} trusted or known addresses and networks in it"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bans_are_numbered_in_words() {
        let words = [1, 2, 3, 4, 11, 12, 13, 21, 111, 122].map(ordinal);
        let expected =
            ["1st", "2nd", "3rd", "4th", "11th", "12th", "13th", "21st", "111th", "122nd"];
        assert_eq!(words, expected);
    }
}

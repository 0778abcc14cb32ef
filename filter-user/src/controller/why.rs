//! `why`: what is known about an address.

use std::net::IpAddr;
use std::time::Duration;

use ::geo::Place;
use api::{BanOf, Located, Near, NotCounted, Packets, Tier, Why, Wire};
use filter_common::decision::Reason;

use super::{Controller, show};
use crate::ban::{Entry, last_to_end};
use crate::clock::{KernelTime, Now};
use crate::config::{Limit, Limits, Scope};
use crate::datapath::{Datapath, Limited};
use crate::duration;
use crate::jail::{Evidence, Jail, Standing};

/// How long after its last event a source counts as over a limit.
const LIMITED_FOR: Duration = Duration::from_secs(2);

fn located(place: &Place) -> Option<Located> {
    let Place { country, asn, organisation } = place;
    (country.is_some() || asn.is_some()).then(|| Located {
        country: country.map(|country| country.to_string()),
        asn: *asn,
        organisation: organisation.clone(),
    })
}

impl<D: Datapath> Controller<D> {
    pub(super) fn why(&self, address: IpAddr, now: KernelTime) -> Why {
        let protected = self.protected.reason(address.into());
        let interfaces = self.datapath.interfaces();
        let bare: Vec<String> = interfaces
            .iter()
            .filter(|interface| interface.unprotected.is_some())
            .map(|interface| interface.name.clone())
            .collect();
        let all_bare = !bare.is_empty() && bare.len() == interfaces.len();
        let bans: Vec<&Entry> = self
            .bans
            .ledger()
            .of(address)
            .into_iter()
            .filter(|entry| entry.ban.in_force(now))
            .collect();
        // Of several the widest scope, and then the one that ends last, is shown first.
        let widest = bans.iter().map(|entry| entry.ban.scope).max();
        let of_widest = bans.iter().copied().filter(|entry| Some(entry.ban.scope) == widest);
        let entry = last_to_end(of_widest);
        let known = self.datapath.known(address).filter(|peer| now < peer.until);
        let closed = self
            .closed(now)
            .filter(|closed| !(closed.known_allowed && known.is_some()))
            .filter(|_| protected.is_none());
        let limited = self.limited.get(address);
        let over_limit = limited.filter(|last| now.since(last.at) < LIMITED_FOR);
        let source = self.source_of(address, now);
        let place = self.place(address);
        let shut_out = self.shut_out(address, now);
        let ignores = |jail: &&Jail| {
            jail.ignored().contains(address.into())
                || self.protected.is_named(&jail.settings().ignore_names, address)
        };
        let ignored_by = self.jails.iter().filter(ignores).map(|jail| jail.name().to_owned());
        let evidence = self.evidence(&bans, source.addr());
        let exchange = self.datapath.exchange(address);
        let proven_at = exchange.and_then(|exchange| exchange.proven_at);
        let first = entry.map(|entry| self.ban_of(entry));
        let essential = self.protected.essentials().of(address.into(), Scope::All);
        Why {
            address,
            source: show(source),
            dropped: protected.is_none()
                && self.enforcing()
                && !all_bare
                && (entry.is_some()
                    || over_limit.is_some()
                    || closed.is_some()
                    || shut_out == Some(true)),
            enforcing: self.enforcing(),
            unprotected: bare,
            near: self.near(source.addr(), now),
            not_counted: self.attempts.uncounted(address).map(|uncounted| NotCounted {
                unwitnessed: uncounted.unwitnessed,
                known: uncounted.known,
                unproven: uncounted.unproven,
                last: self.started.show(uncounted.last),
            }),
            closed_services: self.closed_services(protected.is_some(), known.is_some()),
            maintenance_until: closed.map(|closed| self.started.show(closed.until)),
            trusted: protected.is_some(),
            essential: essential.map(|kind| kind.as_str().to_owned()),
            prevented: self.prevented.of(address, self.started),
            allowed: self.allowed_around(address.into()),
            protected: protected.map(ToOwned::to_owned),
            ignored_by: ignored_by.collect(),
            bans: bans.iter().map(|entry| self.ban_of(entry)).collect(),
            proven: proven_at.is_some()
                || known.is_some()
                || evidence.iter().any(|failure| failure.proven),
            tier: tier(protected.is_some(), &bans, known.is_some()),
            wire: exchange.map(|exchange| Wire {
                challenged: exchange.challenges.into(),
                answered: exchange.answered.into(),
                refused: exchange.refused.into(),
                accepted: exchange.accepted.into(),
                proven_at: proven_at.map(|at| self.started.show(at)),
            }),
            place: located(&place),
            shut_out: shut_out.is_some(),
            known: known.is_some(),
            known_until: known.map(|peer| self.started.show(peer.until)),
            limit: limited.map(|last| self.limit(last)),
            evidence,
            packets: Packets {
                // Only those of known peers are counted one by one.
                passed: known.map(|peer| peer.passed),
                dropped: first.as_ref().map_or(0, |ban| ban.packets),
            },
            network: first.as_ref().map(|ban| ban.network.clone()),
            scope: first.as_ref().map(|ban| ban.scope.clone()),
            jail: first.as_ref().map(|ban| ban.jail.clone()),
            reason: first.as_ref().map(|ban| ban.reason.clone()),
            until: first.and_then(|ban| ban.until),
            history: None,
        }
    }

    pub(super) fn ban_of(&self, entry: &Entry) -> BanOf {
        BanOf {
            network: show(entry.ban.network),
            jail: self.by(entry),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            since: self.started.show(entry.ban.since),
            until: entry.ban.until.map(|until| self.started.show(until)),
            packets: self.datapath.packets(entry.ban.network),
            reason: entry.reason.to_string(),
            evidence: entry.evidence().len() as u64,
        }
    }

    /// The failures behind bans, and those that jails remember of a source.
    fn evidence(&self, bans: &[&Entry], source: IpAddr) -> Vec<api::Evidence> {
        let mut evidence: Vec<Evidence> =
            bans.iter().flat_map(|entry| entry.evidence().iter().cloned()).collect();
        // A jail remembers the failures behind a ban while they may still be proven.
        let counted = self.jails.iter().flat_map(|jail| jail.evidence(source));
        let behind_none: Vec<_> = counted.filter(|seen| !evidence.contains(seen)).collect();
        evidence.extend(behind_none);
        evidence.into_iter().map(|evidence| shown(evidence, self.started)).collect()
    }

    /// How near each jail is to banning an address.
    pub(super) fn near(&self, source: IpAddr, now: KernelTime) -> Vec<Near> {
        let near = self.jails.iter().filter_map(|jail| {
            let Standing { failures, points, accounts } = jail.standing(source, now)?;
            let settings = jail.settings();
            Some(Near {
                jail: jail.name().to_owned(),
                failures: failures as u64,
                points,
                maxretry: settings.maxretry,
                accounts: accounts as u64,
                maxaccounts: settings.maxaccounts,
                findtime: duration::format(settings.findtime),
            })
        });
        near.collect()
    }

    pub(super) fn limit(&self, last: Limited) -> api::Limit {
        let (setting, limit) = self.limit_of(last.reason).unzip();
        api::Limit {
            reason: last.reason.as_str().to_owned(),
            setting: setting.map(ToOwned::to_owned),
            value: limit.map(|limit| format!("{}, burst {}", limit.rate, limit.burst)),
            last: self.started.show(last.at),
        }
    }

    /// The setting of the limit that a source was over, and its value.
    fn limit_of(&self, reason: Reason) -> Option<(&'static str, Limit)> {
        let Limits { source, known, flood, .. } = self.limited.limits();
        let limits = [
            (Reason::RegisterLimit, "limits.register", source.register),
            (Reason::CredentialsLimit, "limits.register_credentials", source.register_credentials),
            (Reason::InviteLimit, "limits.invite", source.invite),
            (Reason::OptionsLimit, "limits.options", source.options),
            (Reason::SubscribeLimit, "limits.subscribe", source.subscribe),
            (Reason::OtherLimit, "limits.other", source.other),
            (Reason::SynLimit, "limits.syn", source.syn),
            (Reason::KnownLimit, "limits.known", *known),
            (Reason::Flooding, "limits.flood.after", flood.after),
        ];
        let limit = limits.into_iter().find(|(of, ..)| *of == reason);
        limit.map(|(_, setting, limit)| (setting, limit))
    }
}

/// How the filter treats the SIP of an address with these bans.
fn tier(is_protected: bool, bans: &[&Entry], is_known: bool) -> Tier {
    // Bans of networks exempt known peers, and so do throttles.
    let closes = |scope: Scope| matches!(scope, Scope::Sip | Scope::All);
    let of_itself =
        |entry: &&&Entry| entry.ban.network.prefix_len() == entry.ban.network.max_prefix_len();
    let mut closing = bans.iter().filter(|entry| closes(entry.ban.scope));
    if is_protected {
        Tier::Trusted
    } else if closing.any(|entry| !is_known || of_itself(&entry)) {
        Tier::Banned
    } else if is_known {
        Tier::Known
    } else if bans.iter().any(|entry| entry.ban.scope == Scope::Throttle) {
        Tier::Throttled
    } else {
        Tier::Unknown
    }
}

pub(super) fn shown(evidence: Evidence, clock: Now) -> api::Evidence {
    api::Evidence {
        time: clock.show(evidence.at),
        source: evidence.source.to_owned(),
        address: evidence.address,
        class: evidence.class.as_str().to_owned(),
        account: evidence.account.map(Into::into),
        proven: evidence.proven,
    }
}

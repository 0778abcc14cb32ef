//! `status`: what the daemon protects, sees and drops.

use std::collections::BTreeMap;

use api::{
    Bans, Escalation, Essential, Interface, JailCount, Peers, ReasonCount, Signature, Source,
    Status, Store, StoreState, Verdict,
};
use filter_common::decision;
use jiff::Timestamp;

use super::Controller;
use super::feeds::FeedHealth;
use super::sources::{self, hearing};
use crate::alerts::Handle;
use crate::ban::Origin;
use crate::clock::{KernelTime, Rfc3339};
use crate::datapath::{Count, Datapath, InterfaceCounters};
use crate::logging;

impl<D: Datapath> Controller<D> {
    pub(super) fn status(&self, now: KernelTime) -> Result<Status, String> {
        let counters = self.datapath.counters().map_err(|why| format!("{why:#}"))?;
        let learning = self.datapath.learning();
        let signature = |(user_agent, packets)| Signature { user_agent, packets };
        let (prevented, last) = self.prevented.total(self.started);
        let jails = self.jails.iter().map(|jail| JailCount {
            name: jail.name().to_owned(),
            watched: jail.watched() as u64,
            banned: self.banned_by(self.origin_of(jail.name())),
        });
        Ok(Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            uptime_seconds: now.since(self.started.kernel).as_secs(),
            enforcing: self.enforcing(),
            enforcement: self.enforcement(),
            interfaces: counters.iter().map(interface).collect(),
            reasons: reasons(&counters),
            would_drop: would_drop(&counters),
            bans: Bans {
                active: self.bans.ledger().len() as u64,
                capacity: self.datapath.capacity(),
                capacity_ipv6: self.capacity_ipv6.into(),
            },
            peers: Peers {
                known: self.datapath.known_count(),
                spared: self.attempts.spared(),
                learned: learning.learned,
                no_room: learning.full,
            },
            maintenance: self.maintenance(now),
            store: self.store_report(),
            log: logging::report(),
            trusted_names: self.protected.names().report_trusted(),
            allowed: self.protected.allowed_count(),
            essential: Essential { prevented, last, ..self.protected.essentials().report() },
            signatures: self.datapath.signatures().into_iter().map(signature).collect(),
            sources: self.sources.present().map(|source| self.source(source, now)).collect(),
            hearing: self.hearing_findings(now),
            exposure: self.sources.exposures().to_vec(),
            feeds: self.feed_health().map(|(name, health)| feed(name, health)).collect(),
            geo: self.geo_status(),
            fleet: self.fleet_health(now),
            alerts: self.alerts().map(Handle::failing).unwrap_or_default(),
            escalation: Escalation {
                enabled: self.escalation.networks().settings().enabled,
                offenders: self.escalation.networks().len() as u64,
                banned: self.banned_by(Origin::Escalation),
            },
            jails: jails.collect(),
        })
    }

    fn store_report(&self) -> Store {
        let status = self.bans.store().status();
        Store {
            state: if status.failed.is_some() { StoreState::Failed } else { StoreState::Ok },
            why: status.failed,
            path: status.path.display().to_string(),
            pending: status.pending as u64,
        }
    }

    fn source(&self, source: &sources::Source, now: KernelTime) -> Source {
        let (state, why) = source.state.clone();
        Source {
            name: source.name.to_owned(),
            kind: source.kind.to_owned(),
            jail: source.jail.to_owned(),
            place: source.place.clone(),
            state,
            why: why.or(source.strain.map(|strain| strain.to_string())),
            events: source.events,
            failures: source.failures,
            unwitnessed: source.unwitnessed,
            lost: source.lost,
            left_out: source.strain.map_or(0, |strain| strain.left_out),
            last_event: source.last_event.map(|at| self.started.show(at)),
            rules: hearing::rules(&source.observed, |at| self.heard_at(at, now)),
            unparsed: hearing::unparsed(&source.observed, |at| self.heard_at(at, now)),
        }
    }
}

fn feed(name: &str, health: FeedHealth) -> api::FeedHealth {
    let at = health.fetched.and_then(|since| Timestamp::UNIX_EPOCH.checked_add(since).ok());
    api::FeedHealth {
        name: name.to_owned(),
        state: health.state,
        problem: health.problem,
        fetched: at.map(|at| Rfc3339(at).to_string()),
    }
}

fn interface(counted: &InterfaceCounters) -> Interface {
    let sum = |verdict| {
        let of = counted.reasons.iter().filter(|(reason, _)| reason.verdict() == verdict);
        of.fold(Count::default(), |sum, (_, count)| sum.plus(*count)).packets
    };
    let (passed, dropped) = (sum(decision::Verdict::Pass), sum(decision::Verdict::Drop));
    let interface = &counted.interface;
    Interface {
        name: interface.name.clone(),
        mode: interface.mode.as_str().to_owned(),
        attached: interface.unprotected.is_none(),
        protected: interface.unprotected.is_none(),
        why: interface.unprotected.clone(),
        learning: interface.not_learning.is_none(),
        not_learning: interface.not_learning.clone(),
        fallback: interface.fallback.clone(),
        received: passed.saturating_add(dropped),
        passed,
        dropped,
    }
}

/// The packets of all interfaces by reason.
fn reasons(counters: &[InterfaceCounters]) -> BTreeMap<String, ReasonCount> {
    let mut reasons = BTreeMap::new();
    for (reason, count) in counters.iter().flat_map(|counted| &counted.reasons) {
        let verdict = match reason.verdict() {
            decision::Verdict::Pass => Verdict::Pass,
            decision::Verdict::Drop => Verdict::Drop,
        };
        let none = ReasonCount { verdict, packets: 0, bytes: 0 };
        let total = reasons.entry(reason.as_str().to_owned()).or_insert(none);
        total.packets = total.packets.saturating_add(count.packets);
        total.bytes = total.bytes.saturating_add(count.bytes);
    }
    reasons
}

/// The packets that a dry run would have dropped, of all interfaces by reason.
fn would_drop(counters: &[InterfaceCounters]) -> BTreeMap<String, u64> {
    let mut would_drop = BTreeMap::new();
    for (reason, count) in counters.iter().flat_map(|counted| &counted.would_drop) {
        let total: &mut u64 = would_drop.entry(reason.as_str().to_owned()).or_default();
        *total = total.saturating_add(count.packets);
    }
    would_drop
}

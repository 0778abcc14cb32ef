//! Counts for the metrics. All of them are kept, so that reading them takes the same time however many bans
//! there are.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{EnforcementState, FeedState, FleetState, GeoState, State};
use filter_common::decision;

use super::Controller;
use super::listing::kind;
use super::sources::Source;
use crate::alerts::Handle;
use crate::clock::KernelTime;
use crate::datapath::{Count, Datapath, InterfaceCounters};
use crate::failure::Class;
use crate::jail::Jail;
use crate::logging;
use crate::metrics::{FeedCount, Packets, Reactions, Snapshot, Values};

/// What only the metrics count, since the start.
#[derive(Default)]
pub(super) struct Meters {
    /// Failures by source and class, and whether the source itself proves them. The names of sources are from
    /// the configuration.
    failures: BTreeMap<(&'static str, &'static str, bool), u64>,
    unwitnessed: u64,
    reactions: Reactions,
}

impl Meters {
    /// Counts a failure that a source has read.
    pub(super) fn failed(&mut self, source: &'static str, class: Class, proven: bool) {
        let count = self.failures.entry((source, class.as_str(), proven)).or_default();
        *count = count.saturating_add(1);
    }

    /// Counts a failure without a witness.
    pub(super) fn unwitnessed(&mut self) {
        self.unwitnessed = self.unwitnessed.saturating_add(1);
    }
}

impl<D: Datapath> Controller<D> {
    /// The bans that jails have decided on since the start.
    pub fn bans_made(&self) -> u64 {
        self.totals.bans_made()
    }

    /// Records that bans were in the kernel this long after the failures that led to them had been read.
    pub fn note_reaction(&mut self, time: Duration, bans: u64) {
        self.meters.reactions.add(time, bans);
    }

    /// The verdicts on packets, by reason; each reason again for each interface.
    ///
    /// # Errors
    ///
    /// If the kernel's counters cannot be read.
    pub fn traffic(&self) -> Result<Vec<(decision::Reason, Count)>, String> {
        self.datapath.traffic().map_err(|why| format!("{why:#}"))
    }

    /// All counts.
    ///
    /// # Errors
    ///
    /// If the kernel's counters cannot be read.
    pub fn metrics(&self, now: KernelTime) -> Result<Snapshot, String> {
        let counters = self.datapath.counters().map_err(|why| format!("{why:#}"))?;
        let mut bans = BTreeMap::new();
        for ((origin, scope), count) in self.bans.ledger().counts() {
            let (jail, scope_name) = (self.jail_name(origin), self.ports.name(scope));
            let kind = kind(scope).as_str();
            *bans.entry((jail.to_owned(), scope_name.to_owned(), kind)).or_default() +=
                count as u64;
        }
        let mut sources = BTreeMap::new();
        for source in self.sources.present() {
            let (up, last) = sources.entry(source.name).or_insert((true, None));
            *up &= source.state.0 == State::Ok;
            *last = later(*last, self.read_at(source));
        }
        let feeds = self.feed_health().zip(0..).map(|((name, health), place)| FeedCount {
            name: name.to_owned(),
            up: matches!(health.state, FeedState::Ok | FeedState::Waiting),
            fetched: health.fetched.map(|at| at.as_secs_f64()),
            entries: health.entries,
            packets: self.feed_counts(place).packets,
        });
        let failures = self.meters.failures.iter();
        let store = self.bans.store().status();
        let made = |jail: &Jail| {
            let (since_start, _) = self.totals.report(jail.name(), self.started);
            (jail.name().to_owned(), since_start.bans)
        };
        let of_interface = |counted: &InterfaceCounters| {
            let interface = &counted.interface;
            (interface.name.clone(), interface.mode.as_str(), interface.unprotected.is_none())
        };
        let fleet = self.fleet_health(now);
        let geo = self.geo_status().filter(|geo| geo.policy.is_some());
        let values = Values {
            unwitnessed: self.meters.unwitnessed,
            prevented: self.prevented.total(self.started).0,
            geo_up: geo.map(|geo| geo.state == GeoState::Ok),
            fleet_up: fleet.as_ref().map(|fleet| fleet.state == FleetState::Connected),
            fleet_hosts: fleet.map(|fleet| fleet.hosts),
            blind: (self.hearing_findings(now).len() + self.sources.exposures().len()) as u64,
            known_peers: self.datapath.known_count(),
            spared: self.attempts.spared(),
            store_pending: store.pending as u64,
            store_up: store.failed.is_none(),
            enforcing: self.enforcing(),
            dry_run: self.enforcement().state == EnforcementState::DryRun,
            maintenance: self.maintenance(now).on,
            log_lost: logging::report().lost,
        };
        Ok(Snapshot {
            values,
            packets: counters.iter().flat_map(|of| packets(of, &of.reasons)).collect(),
            would_drop: counters.iter().flat_map(|of| packets(of, &of.would_drop)).collect(),
            bans,
            bans_made: self.jails.iter().map(made).collect(),
            failures: failures.map(|(labels, count)| (*labels, *count)).collect(),
            sources,
            feeds: feeds.collect(),
            interfaces: counters.iter().map(of_interface).collect(),
            maps: self.datapath.map_use(),
            reactions: self.meters.reactions,
            alerts: self.alerts().map(Handle::rows).unwrap_or_default(),
        })
    }

    /// When a source last read an attempt, in seconds since 1970.
    fn read_at(&self, source: &Source) -> Option<f64> {
        let at = self.started.show_milliseconds(source.last_event?);
        Some(Duration::from_millis(u64::try_from(at).ok()?).as_secs_f64())
    }
}

fn later(one: Option<f64>, other: Option<f64>) -> Option<f64> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.max(other)),
        (one, other) => one.or(other),
    }
}

fn packets(of: &InterfaceCounters, reasons: &[(decision::Reason, Count)]) -> Vec<Packets> {
    let packets = |(reason, count): &(decision::Reason, Count)| Packets {
        interface: of.interface.name.clone(),
        verdict: match reason.verdict() {
            decision::Verdict::Pass => "pass",
            decision::Verdict::Drop => "drop",
        },
        reason: reason.as_str(),
        count: count.packets,
        bytes: count.bytes,
    };
    reasons.iter().map(packets).collect()
}

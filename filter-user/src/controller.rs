//! Routes attempts, events, requests and time to the parts that own the state.
//!
//! Each call passes the time; nothing here waits or reads a clock.
//!
//! Must never wait, or read a clock.

mod active;
mod allowed;
mod answers;
mod attempts;
mod bans;
mod digest;
mod enforcement;
mod feeds;
mod fleet;
mod fleet_maintenance;
mod geo;
mod happened;
mod jail_bans;
mod jails;
mod judging;
mod limited;
mod listing;
mod maintenance;
mod manual;
mod metrics;
mod networks;
mod of_host;
mod of_source;
mod orders;
pub(crate) mod past;
mod peers;
mod prevented;
mod protected;
mod reload;
mod replay;
mod sources;
mod status;
mod successor;
mod totals;
mod tuned;
mod uncounted;
mod why;
mod width;

use std::collections::BTreeSet;
use std::sync::Arc;

use anyhow::Result;
use ipnet::IpNet;
use log::warn;

use self::active::ActiveSources;
use self::allowed::Permits;
pub use self::answers::Answered;
use self::attempts::Attempts;
use self::bans::Bans;
pub use self::bans::lifting::Ticket;
use self::digest::Digest;
use self::enforcement::Known;
use self::feeds::Feeds;
pub use self::feeds::{FeedCounts, FeedHealth, FeedUpdate};
use self::fleet::Fleet;
use self::geo::Geo;
use self::happened::Announcer;
use self::jails::Jails;
use self::limited::LimitedSources;
pub use self::manual::Asker;
use self::metrics::Meters;
use self::peers::Peers;
use self::prevented::Register;
use self::protected::Protected;
pub use self::sources::Source;
use self::sources::Sources;
use self::successor::ImportReport;
use self::totals::Totals;
use self::tuned::Tuning;
use crate::ban::{InForce, Roster};
use crate::clock::{KernelTime, Now};
use crate::config::{Config, PortClasses, Scope};
use crate::datapath::Datapath;
use crate::escalation::{Bounds, Escalation};
use crate::host;
use crate::jail::Jail;
pub(crate) use crate::prefix::show;
use crate::register::ASTERISK_JAIL;
use crate::store::{Kept, Store};

/// The controller over a datapath.
pub struct Controller<D> {
    datapath: D,
    sources: Sources,
    attempts: Attempts,
    active: ActiveSources,
    jails: Jails,
    bans: Bans,
    escalation: Escalation,
    protected: Protected,
    prevented: Register,
    peers: Peers,
    limited: LimitedSources,
    permits: Permits,
    tuning: Tuning,
    totals: Totals,
    meters: Meters,
    announcer: Announcer,
    enforcement: Known,
    feeds: Feeds,
    geo: Geo,
    fleet: Fleet,
    digest: Digest,
    /// Imported bans that the log has not reported yet.
    imported: ImportReport,
    ports: PortClasses,
    capacity_ipv6: u32,
    /// When it started, by the current setting of the wall clock.
    started: Now,
    /// When it started, by the setting of the wall clock at that time.
    begun: Now,
}

impl<D: Datapath> Controller<D> {
    /// Creates a controller that takes over the bans `kept` in the store and those `held` by the kernel.
    /// `roster` names the jails of `config`.
    ///
    /// # Errors
    ///
    /// If the kernel refuses.
    pub fn new(
        datapath: D,
        config: &Config,
        roster: Arc<Roster>,
        own: BTreeSet<IpNet>,
        bans: (Store, Option<Kept>, &InForce),
        now: Now,
    ) -> Result<Self> {
        let (store, kept, held) = bans;
        let mut controller = Self {
            datapath,
            sources: Sources::default(),
            attempts: Attempts::default(),
            active: ActiveSources::default(),
            jails: Jails::new(config, roster),
            bans: Bans::new(store),
            escalation: Escalation::new(Bounds::from(config), config.escalation.clone(), || {
                fastrand::u32(..)
            }),
            protected: Protected::new(config, own),
            prevented: Register::default(),
            peers: Peers::default(),
            limited: LimitedSources::new(&config.limits),
            permits: Permits::default(),
            tuning: Tuning::new(config),
            totals: Totals::default(),
            meters: Meters::default(),
            announcer: Announcer::default(),
            enforcement: Known::new(config.dry_run),
            feeds: Feeds::new(config),
            geo: Geo::default(),
            fleet: Fleet::new(config),
            digest: Digest::default(),
            imported: ImportReport::default(),
            ports: config.ports.clone(),
            capacity_ipv6: config.capacity.bans_ipv6,
            started: now,
            begun: now,
        };
        controller.datapath.own(&host::addresses(controller.protected.own()))?;
        let Kept { bans, ended, offences, decisions, totals, peers, .. } = kept.unwrap_or_default();
        controller.attempts.set_patience(config.jails.get(ASTERISK_JAIL));
        controller.permits = Permits::load(&decisions, now);
        controller.protected.set_allowed(controller.permits.networks());
        controller.datapath.trust(&controller.protected.trusted_networks())?;
        controller.take_tuning(&decisions);
        controller.totals.load(totals);
        controller.take_switch(&decisions);
        let Self { bans: of, datapath, protected, .. } = &mut controller;
        of.restore(datapath, protected, (bans, ended), held, now.kernel);
        for peer in peers {
            controller.peers.restore(&mut controller.datapath, peer, now.kernel);
        }
        controller.load_feeds(&decisions);
        controller.load_geo(&decisions);
        controller.find_left_over_feeds();
        controller.load_fleet(&decisions);
        controller.load_fleet_maintenance(&decisions, now);
        controller.find_left_over_of_fleet();
        for (who, record) in controller.escalation.load(offences, now.kernel) {
            controller.store().set_offences(who, record);
        }
        Ok(controller)
    }

    /// Updates the wall clock, which may have been set since the start.
    pub fn set_clock(&mut self, now: Now) {
        self.started = self.started.set_by(now);
    }

    /// How many bans are in force.
    pub fn ban_count(&self) -> usize {
        self.bans.ledger().len()
    }

    /// The datapath.
    pub fn datapath_mut(&mut self) -> &mut D {
        &mut self.datapath
    }

    /// The interfaces that are or should be protected.
    pub fn interface_names(&self) -> Vec<String> {
        self.datapath.interfaces().into_iter().map(|interface| interface.name).collect()
    }

    /// The name of the scope that an unproven ban closes.
    pub fn scope_name(&self, scope: Option<Scope>) -> &str {
        scope.map_or("nothing, because it is not used", |scope| self.ports.name(scope))
    }

    /// The store.
    pub fn store(&self) -> &Store {
        self.bans.store()
    }

    /// Updates the host's addresses, which may have changed.
    pub fn set_own(&mut self, own: BTreeSet<IpNet>) {
        if own == *self.protected.own() {
            return;
        }
        if let Err(why) = self.datapath.own(&host::addresses(&own)) {
            // The old addresses are kept, so that the next check tries again.
            warn!("packets that forge the host's new addresses are not dropped yet: {why:#}");
            return;
        }
        self.protected.set_own(own);
    }

    /// When [`handle_timeout`](Self::handle_timeout) next has something to do.
    pub fn next_timeout(&self) -> Option<KernelTime> {
        let jails = self.jails.iter().filter_map(Jail::next_timeout);
        let others = [
            self.bans.next_end(),
            self.permits.next_end(),
            self.attempts.next_timeout(),
            self.digest.next_timeout(),
        ];
        jails.chain(others.into_iter().flatten()).min()
    }

    /// Removes a few of the bans that have ended and the failures that no longer count. While there are more,
    /// [`next_timeout`](Self::next_timeout) is not after `now`.
    pub fn handle_timeout(&mut self, now: KernelTime) {
        let _together = self.bans.store().hold();
        self.tell_digest(now);
        self.end_permits(now);
        self.end_some(now);
        self.judge_unanswered(now);
        for jail in self.jails.iter_mut() {
            jail.handle_timeout(now);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;

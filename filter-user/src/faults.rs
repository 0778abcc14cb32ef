//! The faults in the daemon's `status`, for `status --check` and the doctor.
//!
//! Both match on every fault, so that neither can omit a new one.

use api::{
    Bans, EnforcementState, Exposure, FailingAlert, FeedHealth, FeedState, FleetHealth, FleetState,
    GeoState, GeoStatus, Hearing, Interface, Log, Source, State, Status, Store, StoreState,
};

use crate::register::{ASTERISK_JAIL, WIRE};

/// The percentage of the room for bans from which it counts as nearly full.
const NEARLY_FULL: u64 = 90;

/// Seconds without any event of a source before this is a fault.
pub(crate) const SILENT: u64 = 24 * 3600;

/// How long the agent of the fleet may take to report after a start, in seconds.
const AGENT_STARTS: u64 = 60;

/// A fault.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault<'a> {
    /// The interface has no program.
    Unprotected(&'a Interface),
    /// Known peers are not learned from what the interface sends.
    NotLearning(&'a Interface),
    /// Traffic reaches Asterisk without passing the filter.
    Exposed(&'a Exposure),
    /// The store cannot be written.
    StoreFailed(&'a Store),
    /// Nothing is dropped, or soon nothing will be.
    NotEnforcing(EnforcementState),
    /// The program runs in generic mode although native mode was tried.
    Fallback(&'a Interface),
    /// The source is not read.
    Unread {
        /// The source.
        source: &'a Source,
        /// Whether no source of Asterisk is read.
        is_deaf: bool,
    },
    /// Nothing has come from the source since the daemon started.
    Silent(&'a Source),
    /// Reading the source costs more than it may, for this reason.
    Strained(&'a Source, &'a str),
    /// Lines or events of the source were lost.
    Lost(&'a Source),
    /// The source probably does not get the messages that it should.
    Unrecognised(&'a Hearing),
    /// The list of the feed cannot be fetched, or must be confirmed.
    FeedFailed(&'a FeedHealth),
    /// The databases of countries cannot be used, or would shut out who must not be.
    GeoFailed(&'a GeoStatus),
    /// Bans are not shared with other hosts.
    FleetFailed(&'a FleetHealth),
    /// There is little room left for bans.
    NearlyFull(&'a Bans),
    /// An alert or an action cannot be sent.
    AlertFailing(&'a FailingAlert),
    /// Lines of the daemon's log were lost.
    LogIncomplete(&'a Log),
}

/// All faults.
pub(crate) fn faults(status: &Status) -> Vec<Fault<'_>> {
    let mut faults = Vec::new();
    for interface in &status.interfaces {
        if !interface.protected {
            faults.push(Fault::Unprotected(interface));
        } else if !interface.learning {
            faults.push(Fault::NotLearning(interface));
        }
    }
    faults.extend(status.exposure.iter().map(Fault::Exposed));
    if status.store.state == StoreState::Failed {
        faults.push(Fault::StoreFailed(&status.store));
    }
    if status.enforcement.state != EnforcementState::Enforcing {
        faults.push(Fault::NotEnforcing(status.enforcement.state));
    }
    let fallback = status.interfaces.iter().filter(|interface| interface.fallback.is_some());
    faults.extend(fallback.map(Fault::Fallback));
    // The filter does not see what is encrypted, so it replaces no log.
    let is_asterisk = |source: &&Source| source.jail == ASTERISK_JAIL && source.name != WIRE;
    let of_asterisk = || status.sources.iter().filter(is_asterisk);
    let none_is_read = of_asterisk().all(|source| source.state != State::Ok);
    for source in &status.sources {
        match (source.state, &source.why) {
            (State::Waiting | State::Failed, _) => {
                let is_deaf = none_is_read && source.jail == ASTERISK_JAIL;
                faults.push(Fault::Unread { source, is_deaf });
            }
            (State::Ok, why) => {
                if source.events == 0 && source.name != WIRE && status.uptime_seconds >= SILENT {
                    faults.push(Fault::Silent(source));
                }
                faults.extend(why.as_deref().map(|why| Fault::Strained(source, why)));
            }
        }
        if source.lost > 0 {
            faults.push(Fault::Lost(source));
        }
    }
    faults.extend(status.hearing.iter().map(Fault::Unrecognised));
    let is_failed = |feed: &&FeedHealth| match feed.state {
        FeedState::Failing | FeedState::Expired | FeedState::Refused => true,
        // An administrator has lifted its bans.
        FeedState::Waiting | FeedState::Ok | FeedState::Paused => false,
    };
    faults.extend(status.feeds.iter().filter(is_failed).map(Fault::FeedFailed));
    let is_failed = |geo: &&GeoStatus| match geo.state {
        GeoState::Failing | GeoState::Refused => true,
        GeoState::Waiting | GeoState::Ok => false,
    };
    faults.extend(status.geo.iter().filter(is_failed).map(Fault::GeoFailed));
    let is_failed = |fleet: &&FleetHealth| match fleet.state {
        // The agent starts after the daemon.
        FleetState::NoAgent => status.uptime_seconds >= AGENT_STARTS,
        FleetState::Disconnected => true,
        FleetState::Connected => fleet.problem.is_some(),
        FleetState::Off => false,
    };
    faults.extend(status.fleet.iter().filter(is_failed).map(Fault::FleetFailed));
    faults.extend(status.alerts.iter().map(Fault::AlertFailing));
    let Bans { active, capacity, .. } = status.bans;
    if capacity > 0 && active.saturating_mul(100) >= capacity.saturating_mul(NEARLY_FULL) {
        faults.push(Fault::NearlyFull(&status.bans));
    }
    if status.log.lost > 0 {
        faults.push(Fault::LogIncomplete(&status.log));
    }
    faults
}

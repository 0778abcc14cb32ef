//! What is wrong by the daemon's own account: one walk over `status`, for `status --check` and the doctor.
//!
//! Each of them says what it makes of every fault, so that a new one is not missing from either.

use api::{
    Bans, EnforcementState, Exposure, Hearing, Interface, Log, Source, State, Status, Store,
    StoreState,
};

use crate::register::ASTERISK_JAIL;

/// Percent of the room for bans that are too many.
const NEARLY_FULL: u64 = 90;

/// How long a source may say nothing at all before that is a fault, in seconds.
pub(crate) const SILENT: u64 = 24 * 3600;

/// Something that is wrong.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Fault<'a> {
    /// The interface has no program.
    Unprotected(&'a Interface),
    /// No known peers are learned from what leaves by the interface.
    NotLearning(&'a Interface),
    /// Something comes in where the filter does not see it.
    Exposed(&'a Exposure),
    /// The store cannot be written.
    StoreFailed(&'a Store),
    /// Nothing is dropped, or soon will not be.
    NotEnforcing(EnforcementState),
    /// The program runs in generic mode although native was tried.
    Fallback(&'a Interface),
    /// The source is not read.
    Unread {
        /// The source.
        source: &'a Source,
        /// Whether nothing is read of Asterisk at all.
        is_deaf: bool,
    },
    /// Nothing has come from the source since the daemon started.
    Silent(&'a Source),
    /// Reading the source costs more than it may, for this reason.
    Strained(&'a Source, &'a str),
    /// Lines or events of the source were lost.
    Lost(&'a Source),
    /// The source probably does not hear what it should.
    Unheard(&'a Hearing),
    /// There is hardly room for more bans.
    NearlyFull(&'a Bans),
    /// Lines of the daemon's log were lost.
    LogIncomplete(&'a Log),
}

/// Everything that is wrong.
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
    let of_asterisk = || status.sources.iter().filter(|source| source.jail == ASTERISK_JAIL);
    let none_is_read = of_asterisk().all(|source| source.state != State::Ok);
    for source in &status.sources {
        match (source.state, &source.why) {
            (State::Waiting | State::Failed, _) => {
                let is_deaf = none_is_read && source.jail == ASTERISK_JAIL;
                faults.push(Fault::Unread { source, is_deaf });
            }
            (State::Ok, why) => {
                if source.events == 0 && status.uptime_seconds >= SILENT {
                    faults.push(Fault::Silent(source));
                }
                faults.extend(why.as_deref().map(|why| Fault::Strained(source, why)));
            }
        }
        if source.lost > 0 {
            faults.push(Fault::Lost(source));
        }
    }
    faults.extend(status.hearing.iter().map(Fault::Unheard));
    let Bans { active, capacity, .. } = status.bans;
    if capacity > 0 && active.saturating_mul(100) >= capacity.saturating_mul(NEARLY_FULL) {
        faults.push(Fault::NearlyFull(&status.bans));
    }
    if status.log.lost > 0 {
        faults.push(Fault::LogIncomplete(&status.log));
    }
    faults
}

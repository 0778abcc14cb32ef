//! The maintenance that the administrator of the fleet asks for: closes SIP here for as long as
//! `fleet.accept.maintenance` leaves, and opens it again.
//!
//! However often another process asks, SIP is closed for it no longer than that within any 24 hours, and each record
//! closes it once. The end is in the kernel.
//!
//! Must never open what an administrator of this host has closed, or close again what one has opened.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use api::FleetMaintenance;
use log::{info, warn};
use serde::{Deserialize, Serialize};

use super::Controller;
use crate::clock::{KernelTime, Moment, Now};
use crate::datapath::{ClosedSip, Datapath};
use crate::duration;
use crate::log_budget::MANUAL;
use crate::report::shown_text;
use crate::store::DecisionKey;

/// The time in which SIP is closed no longer than `fleet.accept.maintenance`.
const DAY: Duration = Duration::from_hours(24);

/// How often SIP is closed in this time, because each closing is a line of the log and of the history.
const CLOSINGS_MAX: usize = 16;

/// How often the log says that SIP is not closed.
const SAID_EVERY: Duration = Duration::from_hours(1);

/// The kind of the record in the store.
const KIND: &str = "fleet-maintenance";

/// Who closes SIP.
const FLEET: &str = "the fleet";

/// From when to when SIP was closed.
#[derive(Clone, Copy, Debug)]
struct Closing {
    since: Moment,
    until: Moment,
}

/// The closing in force.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct Current {
    stamp: u64,
    comment: String,
}

/// As the store keeps it, in milliseconds of UTC since 1970.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    done: u64,
    closings: Vec<(i64, i64)>,
    current: Option<Current>,
}

/// What the fleet has closed.
#[derive(Debug, Default)]
pub(super) struct FromFleet {
    /// Those of the last day, in their order.
    closings: VecDeque<Closing>,
    /// What the last of them is, while it is in force.
    current: Option<Current>,
    /// The stamp of the record that closes SIP no more.
    done: u64,
    refused: Option<String>,
    said: Option<KernelTime>,
}

impl FromFleet {
    /// Why SIP is not closed, although the fleet asks for it.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.clone()
    }

    /// The purpose of the closing in force.
    pub(super) fn comment(&self) -> Option<&str> {
        self.current.as_ref().map(|current| current.comment.as_str())
    }

    fn forget_old(&mut self, now: KernelTime) {
        while self.closings.front().is_some_and(|closing| closing.until.age(now) >= DAY) {
            self.closings.pop_front();
        }
        if self.closings.back().is_none_or(|closing| closing.until <= now.into()) {
            self.current = None;
        }
    }

    /// How long SIP may still be closed.
    fn left(&self, longest: Duration, now: KernelTime) -> Duration {
        if self.closings.len() >= CLOSINGS_MAX && self.current.is_none() {
            return Duration::ZERO;
        }
        let used = self.closings.iter().map(|closing| {
            let since = closing.since.age(now).min(DAY);
            since.saturating_sub(closing.until.age(now))
        });
        longest.saturating_sub(used.sum())
    }

    /// The closing in force ends now.
    fn end(&mut self, now: KernelTime) {
        if self.current.take().is_some()
            && let Some(last) = self.closings.back_mut()
        {
            last.until = last.until.min(now.into());
        }
    }

    pub(super) fn kept(&self, clock: Now) -> Option<String> {
        let show = |moment: Moment| clock.show_milliseconds(moment);
        let closings = self.closings.iter();
        let kept = Kept {
            done: self.done,
            closings: closings.map(|closing| (show(closing.since), show(closing.until))).collect(),
            current: self.current.clone(),
        };
        serde_json::to_string(&kept).ok()
    }

    /// Reads what the store has. What the kernel has not closed any more is not in force.
    fn load(text: &str, closed: Option<ClosedSip>, clock: Now) -> Option<Self> {
        let Kept { done, closings, current } = serde_json::from_str(text).ok()?;
        let start = clock.show_milliseconds(clock.kernel);
        let moment = |milliseconds: i64| {
            let distance = milliseconds.saturating_sub(start).saturating_mul(1_000_000);
            Moment(Moment::from(clock.kernel).0.saturating_add(distance))
        };
        let read = |(since, until)| Closing { since: moment(since), until: moment(until) };
        let closings = closings.into_iter().take(CLOSINGS_MAX).map(read).collect();
        let mut from = Self { closings, current, done, ..Self::default() };
        from.forget_old(clock.kernel);
        if closed.is_none() {
            from.end(clock.kernel);
        }
        Some(from)
    }
}

impl<D: Datapath> Controller<D> {
    /// Does what the fleet asks for. `None` means that the agent does not know yet what it is.
    pub(super) fn follow_fleet(&mut self, asked: Option<&FleetMaintenance>, now: KernelTime) {
        let Some(asked) = asked else { return };
        self.fleet.maintenance.forget_old(now);
        let current = self.fleet.maintenance.current.as_ref().map(|current| current.stamp);
        if asked.seconds == 0 {
            self.fleet.maintenance.refused = None;
            if current.is_some() {
                self.open_for_fleet(FLEET, now);
            }
            return;
        }
        if current == Some(asked.stamp) {
            return;
        }
        if current.is_some() {
            // Another record takes its place, and has what is left.
            self.fleet.maintenance.end(now);
        }
        match self.close_for_fleet(asked, current.is_some(), now) {
            Ok(()) => self.fleet.maintenance.refused = None,
            Err(why) => {
                if current.is_some() {
                    self.open_for_fleet(FLEET, now);
                }
                self.refuse_fleet(why, now);
            }
        }
        self.tell_changes(now);
    }

    fn close_for_fleet(
        &mut self,
        asked: &FleetMaintenance,
        is_closed_for_it: bool,
        now: KernelTime,
    ) -> Result<(), String> {
        let longest = self.fleet.accepted_maintenance();
        if longest.is_zero() {
            return Err("`fleet.accept.maintenance` is 0, so no time is accepted".to_owned());
        }
        if asked.stamp == self.fleet.maintenance.done {
            return Err(
                "SIP was opened here, or was closed as long as this host accepts".to_owned()
            );
        }
        if self.closed(now).is_some() && !is_closed_for_it {
            return Err("SIP is closed by hand here".to_owned());
        }
        let time =
            Duration::from_secs(asked.seconds).min(self.fleet.maintenance.left(longest, now));
        if time.is_zero() {
            return Err(format!(
                "the fleet has closed it for {} or {CLOSINGS_MAX} times within 24 hours",
                duration::format(longest)
            ));
        }
        let until = now.after(time);
        let closed = ClosedSip { until, known_allowed: !asked.closed_to_known };
        self.datapath.maintenance(Some(closed)).map_err(|why| format!("{why:#}"))?;
        let from = &mut self.fleet.maintenance;
        let comment = asked.comment.clone();
        from.closings.push_back(Closing { since: now.into(), until: until.into() });
        from.current = Some(Current { stamp: asked.stamp, comment });
        from.done = asked.stamp;
        self.put_fleet_maintenance();
        let comment = if asked.comment.is_empty() {
            String::new()
        } else {
            format!(": {}", shown_text(&asked.comment))
        };
        let known = if asked.closed_to_known { "" } else { " and known peers" };
        let (time, dry) = (duration::format(time), self.dry());
        info!(target: MANUAL, "{FLEET} closed SIP for {time}, except to trusted networks{known}{dry}{comment}");
        self.note_change(None, FLEET, format!("close SIP for {time}{comment}"), now);
        Ok(())
    }

    fn refuse_fleet(&mut self, why: String, now: KernelTime) {
        let from = &mut self.fleet.maintenance;
        if from.refused.as_ref() != Some(&why)
            && from.said.is_none_or(|said| now.since(said) >= SAID_EVERY)
        {
            from.said = Some(now);
            warn!("fleet: SIP is not closed for its maintenance: {why}");
        }
        from.refused = Some(why);
    }

    /// Opens SIP, which the fleet has closed.
    fn open_for_fleet(&mut self, who: &str, now: KernelTime) {
        if let Err(why) = self.datapath.maintenance(None) {
            // The kernel opens it in time.
            warn!("fleet: SIP stays closed until its end: {why:#}");
            return;
        }
        self.fleet.maintenance.end(now);
        self.put_fleet_maintenance();
        info!(target: MANUAL, "{who} opened SIP again");
        self.note_change(None, who, "open SIP".to_owned(), now);
        self.tell_changes(now);
    }

    /// An administrator of this host has opened or closed SIP: what the fleet asks for now is done.
    pub(super) fn overrule_fleet(&mut self, now: KernelTime) {
        let asked = self.fleet.asked_maintenance();
        let from = &mut self.fleet.maintenance;
        if from.current.is_none() && asked.is_none_or(|stamp| stamp == from.done) {
            return;
        }
        from.end(now);
        from.done = asked.unwrap_or(from.done);
        self.put_fleet_maintenance();
    }

    /// Bounds the closing in force by other settings.
    pub(super) fn bound_fleet_maintenance(&mut self, now: KernelTime) {
        self.fleet.maintenance.forget_old(now);
        let longest = self.fleet.accepted_maintenance();
        let left = self.fleet.maintenance.left(longest, now);
        let from = &mut self.fleet.maintenance;
        let Some(last) = from.closings.back_mut().filter(|_| from.current.is_some()) else {
            return;
        };
        let until = now.after(left);
        if last.until <= until.into() {
            return;
        }
        let known_allowed =
            self.datapath.in_maintenance().is_some_and(|closed| closed.known_allowed);
        if left.is_zero() {
            self.open_for_fleet("the setting `fleet.accept.maintenance`", now);
        } else if self.datapath.maintenance(Some(ClosedSip { until, known_allowed })).is_ok() {
            last.until = until.into();
            self.put_fleet_maintenance();
        }
    }

    /// Loads what the fleet has closed.
    pub(super) fn load_fleet_maintenance(
        &mut self,
        kept: &BTreeMap<DecisionKey, String>,
        clock: Now,
    ) {
        let closed = self.closed(clock.kernel);
        let text = kept.get(&(KIND.to_owned(), String::new()));
        let loaded = text.and_then(|text| FromFleet::load(text, closed, clock));
        self.fleet.maintenance = loaded.unwrap_or_default();
    }

    /// Saves it.
    pub(super) fn put_fleet_maintenance(&self) {
        let from = &self.fleet.maintenance;
        let kept = if from.done == 0 { None } else { from.kept(self.started) };
        self.bans.store().decide(KIND, "", kept);
    }
}

//! Closes SIP for maintenance. The request comes through here; the kernel enforces and ends it.

use std::time::Duration;

use api::{MAINTENANCE_MAX, MaintenanceState};
use log::info;

use super::Controller;
use crate::clock::KernelTime;
use crate::datapath::{ClosedSip, Datapath};
use crate::duration;
use crate::log_budget::MANUAL;

impl<D: Datapath> Controller<D> {
    pub(super) fn maintain(
        &mut self,
        what: api::Maintenance,
        who: &str,
        now: KernelTime,
    ) -> Result<MaintenanceState, String> {
        let closed = match what {
            api::Maintenance::Status => return Ok(self.maintenance(now)),
            api::Maintenance::Off => None,
            api::Maintenance::On { seconds, closed_to_known } => {
                let time = Duration::from_secs(seconds);
                if time.is_zero() || time > MAINTENANCE_MAX {
                    return Err(format!(
                        "maintenance may last from 1s to {}; `--for` sets how long",
                        duration::format(MAINTENANCE_MAX)
                    ));
                }
                Some(ClosedSip { until: now.after(time), known_allowed: !closed_to_known })
            }
        };
        self.datapath.maintenance(closed).map_err(|why| format!("{why:#}"))?;
        self.overrule_fleet(now);
        match closed {
            Some(closed) => {
                let time = duration::format(closed.until.since(now));
                let known = if closed.known_allowed { " and known peers" } else { "" };
                let dry = self.dry();
                info!(target: MANUAL, "{who} closed SIP for {time}, except to trusted \
                                       networks{known}{dry}");
            }
            None => info!(target: MANUAL, "{who} opened SIP again"),
        }
        Ok(self.maintenance(now))
    }

    /// The maintenance in force.
    pub(super) fn closed(&self, now: KernelTime) -> Option<ClosedSip> {
        self.datapath.in_maintenance().filter(|closed| now < closed.until)
    }

    /// Whether SIP is closed, according to the kernel.
    pub(super) fn maintenance(&self, now: KernelTime) -> MaintenanceState {
        let closed = self.closed(now);
        let comment = closed.and_then(|_| self.fleet.maintenance.comment());
        MaintenanceState {
            on: closed.is_some(),
            enforcing: self.enforcing(),
            until: closed.map(|closed| self.started.show(closed.until)),
            closed_to_known: closed.is_some_and(|closed| !closed.known_allowed),
            by_fleet: comment.is_some(),
            comment: comment.map(ToOwned::to_owned),
        }
    }
}

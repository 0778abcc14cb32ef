//! Prevents the filter from locking out the administrator: the emergency switch, and the confirmation of
//! a first start.

use std::path::PathBuf;

use api::{Answer, Confirmed, Reply, Request};
use log::{info, warn};

use super::reload::Reloads;
use super::server::Question;
use crate::clock::KernelTime;
use crate::confirmation::{Confirmation, WITHIN};
use crate::controller::Controller;
use crate::datapath::{Datapath, Kernel};
use crate::disable;
use crate::duration;
use crate::log_budget::MANUAL;

/// The switch and the confirmation, as they are now.
pub(super) struct Safety {
    /// The file of the emergency switch.
    switch: PathBuf,
    is_switched: bool,
    /// The state directory.
    state: PathBuf,
    confirmation: Confirmation,
}

impl Safety {
    /// Reads both. `is_first` says whether no daemon has run on this host before.
    pub(super) fn new(switch: PathBuf, state: PathBuf, is_first: bool) -> Self {
        let is_switched = disable::is_set(&switch);
        let confirmation = Confirmation::read(&state, is_first);
        let this = Self { switch, is_switched, state, confirmation };
        if is_first {
            this.keep();
        }
        this
    }

    /// The file of the emergency switch.
    pub(super) fn switch(&self) -> PathBuf {
        self.switch.clone()
    }

    /// Whether nothing is to be dropped.
    pub(super) fn is_disabled(&self) -> bool {
        self.is_switched || self.confirmation == Confirmation::Lapsed
    }

    /// Logs at the start if packets are not dropped as usual.
    pub(super) fn announce(&self, controller: &mut Controller<Kernel>) {
        controller.set_confirmation(self.confirmation);
        let file = self.switch.display();
        if self.is_switched {
            warn!(
                "no packet is dropped because {file} exists (`ringfence panic --off` removes it)"
            );
        } else if self.confirmation == Confirmation::Lapsed {
            warn!(
                "no packet is dropped because the first start is not confirmed: `ringfence confirm`"
            );
        }
    }

    /// Takes the result of a look for the file.
    pub(super) fn look(&mut self, is_switched: bool, controller: &mut Controller<Kernel>) {
        if is_switched == self.is_switched {
            // `panic --off` and then the file again, between two checks. The reverse needs no action:
            // `panic` could not write the file.
            if self.is_disabled() && !controller.datapath_mut().is_disabled() {
                self.apply(controller);
            }
            return;
        }
        self.is_switched = is_switched;
        let file = self.switch.display();
        if is_switched {
            warn!(target: MANUAL, "{file} exists now: no packet is dropped");
        } else {
            info!(target: MANUAL, "{file} has been removed: bans and limits are enforced again");
        }
        self.apply(controller);
    }

    /// Lets time pass.
    pub(super) fn tick(&mut self, controller: &mut Controller<Kernel>, now: KernelTime) {
        let old = self.confirmation;
        if matches!(old, Confirmation::Awaited { .. }) && controller.logins() > 0 {
            info!("a login over ssh has succeeded, which confirms the first start");
            self.confirmation = Confirmation::Confirmed;
        } else {
            self.confirmation = old.at(now, !controller.is_dry_run() && !self.is_switched);
        }
        if self.confirmation == old {
            return;
        }
        match self.confirmation {
            Confirmation::Awaited { until: Some(_) } => warn!(
                "first start on this host: type `ringfence confirm` within {}, or no packet will be dropped \
                (a new login over ssh confirms it too)",
                duration::format(WITHIN)
            ),
            Confirmation::Lapsed => warn!(
                "the first start was not confirmed, so no packet is dropped from now on: \
                 `ringfence confirm`"
            ),
            Confirmation::Awaited { until: None } | Confirmation::Confirmed => {}
        }
        self.keep();
        self.apply(controller);
    }

    /// Confirms for a client, if that is the question; other questions come back.
    pub(super) fn confirm_for(
        &mut self,
        question: Question,
        reloads: &mut Reloads,
        controller: &mut Controller<Kernel>,
    ) -> Option<Question> {
        if !matches!(question.request, Request::Confirm) {
            return Some(question);
        }
        let Question { who, reply, .. } = question;
        let is_trial = reloads.confirm(controller, self.is_disabled());
        if is_trial {
            info!(target: MANUAL, "{who} confirmed `exposure`");
        }
        let is_first = self.confirmation != Confirmation::Confirmed;
        let was_awaited = is_first || is_trial;
        if is_first {
            self.confirmation = Confirmation::Confirmed;
            info!(target: MANUAL, "{who} confirmed the first start");
            self.keep();
            self.apply(controller);
        }
        // The client may have gone.
        drop(reply.send(Reply::Ok(Answer::Confirmed(Confirmed { was_awaited }))));
        None
    }

    fn apply(&self, controller: &mut Controller<Kernel>) {
        controller.set_confirmation(self.confirmation);
        if let Err(error) = controller.datapath_mut().disable(self.is_disabled()) {
            warn!("cannot switch the filter: {error:#}");
        }
    }

    fn keep(&self) {
        if let Err(error) = self.confirmation.write(&self.state) {
            warn!("{error:#}");
        }
    }
}

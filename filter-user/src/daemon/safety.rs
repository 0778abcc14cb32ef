//! Prevents the filter from locking out the administrator: the emergency switch, and the confirmation of
//! a first start.

use std::path::PathBuf;
use std::time::Duration;

use api::{Answer, Confirmed, Reply, Request};
use log::{info, warn};

use super::inbox::Question;
use super::reload::Reloads;
use crate::clock::KernelTime;
use crate::config::Config;
use crate::confirmation::{CONFIRM, Confirmation};
use crate::controller::Controller;
use crate::datapath::{Datapath, Kernel};
use crate::disable::{self, Note};
use crate::duration;
use crate::log_budget::MANUAL;

/// The switch and the confirmation, as they are now.
pub(super) struct Safety {
    /// The file of the emergency switch.
    switch: PathBuf,
    /// Why nothing is dropped, if it is on.
    switched: Option<Note>,
    /// The state directory.
    state: PathBuf,
    confirmation: Confirmation,
    /// How long an administrator has to confirm; `None` if that is not necessary.
    within: Option<Duration>,
}

impl Safety {
    /// Reads both. `is_first` says whether no daemon has run on this host before.
    pub(super) fn new(switch: PathBuf, config: &Config, is_first: bool) -> Self {
        let (state, within) = (config.paths.state.clone(), config.confirm.within());
        let switched = disable::read(&switch);
        let confirmation = Confirmation::read(&state, is_first);
        let this = Self { switch, switched, state, confirmation, within };
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
        self.switched.is_some() || self.confirmation == Confirmation::Lapsed
    }

    /// Logs at the start if packets are not dropped as usual.
    pub(super) fn announce(&self, controller: &mut Controller<Kernel>) {
        self.show(controller);
        self.note_switch(controller);
        let file = self.switch.display();
        if self.switched.is_some() {
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
    pub(super) fn look(&mut self, switched: Option<Note>, controller: &mut Controller<Kernel>) {
        if switched.is_some() == self.switched.is_some() {
            // `panic --off` and then the file again, between two checks. The reverse needs no action:
            // `panic` could not write the file.
            if self.is_disabled() && !controller.datapath_mut().is_disabled() {
                self.apply(controller);
            }
            return;
        }
        self.switched = switched;
        self.note_switch(controller);
        let file = self.switch.display();
        if self.switched.is_some() {
            warn!(target: MANUAL, "{file} exists now: no packet is dropped");
        } else {
            info!(target: MANUAL, "{file} has been removed: bans and limits are enforced again");
        }
        self.apply(controller);
    }

    /// Lets time pass.
    pub(super) fn tick(
        &mut self,
        controller: &mut Controller<Kernel>,
        config: &Config,
        now: KernelTime,
    ) {
        if self.within != config.confirm.within() {
            self.within = config.confirm.within();
            self.show(controller);
        }
        let old = self.confirmation;
        if matches!(old, Confirmation::Awaited { .. }) && controller.logins() > 0 {
            info!("a login over ssh has succeeded, which confirms the first start");
            controller.note_change(None, "a login over ssh", CONFIRM.to_owned(), now);
            self.confirmation = Confirmation::Confirmed;
        } else {
            let is_enforced = !controller.is_dry_run() && self.switched.is_none();
            self.confirmation = old.at(now, is_enforced, self.within);
        }
        if self.confirmation == old {
            return;
        }
        match self.confirmation {
            Confirmation::Awaited { since: Some(_) } => warn!(
                "first start on this host: type `ringfence confirm` within {}, or no packet will be dropped \
                (a new login over ssh confirms it too)",
                duration::format(self.within.unwrap_or_default())
            ),
            Confirmation::Lapsed => {
                warn!(
                    "the first start was not confirmed, so no packet is dropped from now on: \
                     `ringfence confirm`"
                );
                controller.note_lapse(now);
            }
            Confirmation::Awaited { since: None } | Confirmation::Confirmed => {}
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
            controller.note_change(None, &who, CONFIRM.to_owned(), crate::clock::now());
            self.keep();
            self.apply(controller);
        }
        // The client may have gone.
        drop(reply.send(Reply::Ok(Answer::Confirmed(Confirmed { was_awaited }))));
        None
    }

    /// Has `status` show the confirmation.
    fn show(&self, controller: &mut Controller<Kernel>) {
        controller.set_confirmation(self.confirmation, self.confirmation.until(self.within));
    }

    /// Records in the history whether the switch is on.
    fn note_switch(&self, controller: &mut Controller<Kernel>) {
        let file = self.switch.display();
        // A note of an earlier end must not count for the next one.
        let ended_by = disable::take_end(&self.state);
        let (who, action) = match (&self.switched, ended_by) {
            (Some(Note { by, reason }), _) => {
                let reason = reason.as_deref().map_or_else(String::new, |why| format!(": {why}"));
                (by.clone(), format!("panic, no packet is dropped{reason}"))
            }
            (None, Some(by)) => (by, "end the panic".to_owned()),
            (None, None) => {
                ("an unknown user".to_owned(), format!("end the panic by removing {file}"))
            }
        };
        controller.note_switch(self.switched.is_some(), &who, action, crate::clock::now());
    }

    fn apply(&self, controller: &mut Controller<Kernel>) {
        self.show(controller);
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

//! Whether packets are dropped, and if not, why.

use api::{Enforcement, EnforcementState};

use super::Controller;
use crate::clock::KernelTime;
use crate::config::{Exposure, SipPorts};
use crate::confirmation::Confirmation;
use crate::datapath::Datapath;

/// The state that is not in the configuration.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) is_dry_run: bool,
    confirmation: Confirmation,
    /// When it is too late to confirm.
    confirm_until: Option<KernelTime>,
    /// When it is too late to confirm the services that `exposure` closes.
    trial_until: Option<KernelTime>,
    /// The services that are closed now, and the ports of SIP.
    exposure: Exposure,
    sip: SipPorts,
    /// Logins over ssh that succeeded since the start.
    logins: u64,
    /// Whether the history has it last that the emergency switch is on.
    pub(super) is_noted_as_switched: bool,
}

impl Known {
    pub(super) fn new(is_dry_run: bool) -> Self {
        let confirmation = Confirmation::Confirmed;
        Self {
            is_dry_run,
            confirmation,
            confirm_until: None,
            trial_until: None,
            exposure: Exposure::default(),
            sip: SipPorts { udp: Vec::new(), tcp: Vec::new() },
            logins: 0,
            is_noted_as_switched: false,
        }
    }

    /// Counts a login over ssh that succeeded.
    pub(super) fn logged_in(&mut self) {
        self.logins = self.logins.saturating_add(1);
    }
}

impl<D: Datapath> Controller<D> {
    /// Whether packets are dropped.
    pub fn enforcing(&self) -> bool {
        !self.enforcement.is_dry_run && !self.datapath.is_disabled()
    }

    /// Whether the configuration asks for a dry run.
    pub fn is_dry_run(&self) -> bool {
        self.enforcement.is_dry_run
    }

    /// The addition to a log line while nothing is dropped.
    pub(super) fn dry(&self) -> &'static str {
        match (self.enforcing(), self.is_dry_run()) {
            (true, _) => "",
            (false, true) => " (dry run: nothing is dropped)",
            (false, false) => " (disabled: nothing is dropped)",
        }
    }

    /// Sets what `status` says about the confirmation, and about when it is too late.
    pub fn set_confirmation(&mut self, confirmation: Confirmation, until: Option<KernelTime>) {
        (self.enforcement.confirmation, self.enforcement.confirm_until) = (confirmation, until);
    }

    /// Sets until when a confirmation of the services that `exposure` closes is awaited.
    pub fn set_trial(&mut self, until: Option<KernelTime>) {
        self.enforcement.trial_until = until;
    }

    /// Sets which services are closed, for `why`.
    pub fn set_exposure(&mut self, exposure: &Exposure, sip: &SipPorts) {
        if self.enforcement.exposure != *exposure || self.enforcement.sip != *sip {
            self.enforcement.exposure.clone_from(exposure);
            self.enforcement.sip.clone_from(sip);
        }
    }

    /// The names of the services that are closed to a source.
    pub(super) fn closed_services(&self, is_trusted: bool, is_known: bool) -> Vec<String> {
        let Known { exposure, sip, .. } = &self.enforcement;
        if exposure.dry_run {
            return Vec::new();
        }
        let closed = exposure.closed_to(is_trusted, is_known, sip).into_iter();
        closed.map(|service| service.to_string()).collect()
    }

    /// How many logins over ssh have succeeded since the start.
    pub fn logins(&self) -> u64 {
        self.enforcement.logins
    }

    /// The enforcement, as in `status`.
    pub(super) fn enforcement(&self) -> Enforcement {
        let until = self.enforcement.confirm_until.map(|until| self.started.show(until));
        let (state, confirm_until) =
            match (self.enforcement.confirmation, self.datapath.is_disabled()) {
                (_, false) if self.enforcement.is_dry_run => (EnforcementState::DryRun, None),
                (Confirmation::Awaited { since: Some(_) }, false) => {
                    (EnforcementState::Unconfirmed, until)
                }
                (_, false) => (EnforcementState::Enforcing, None),
                (Confirmation::Lapsed, true) => (EnforcementState::Lapsed, None),
                (_, true) => (EnforcementState::Disabled, None),
            };
        let trial = self.enforcement.trial_until.map(|until| self.started.show(until));
        Enforcement { state, confirm_until, exposure_confirm_until: trial }
    }
}

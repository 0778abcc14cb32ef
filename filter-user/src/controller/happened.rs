//! Reports bans to the listeners of events, and what has changed since the last look.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::{ActionEvent, AlertSeverity, Event};

use super::listing::kind;
use super::why::shown;
use super::{Controller, show};
use crate::alerts::{Facts, Handle, Occurrence};
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::config::{ActionKind, AlertKind};
use crate::datapath::Datapath;
use crate::events::Hub;

/// The state at the last look.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    pub(super) hub: Hub,
    /// Alerts and actions; none without a daemon.
    alerts: Option<Handle>,
    /// The interfaces, and why each is not protected; `None` before the first look.
    before: Option<(BTreeMap<String, Option<String>>, bool, bool)>,
}

impl<D: Datapath> Controller<D> {
    /// Where listeners learn what happens.
    pub fn events(&self) -> &Hub {
        &self.announcer.hub
    }

    /// Tells that a ban is in force. Those of feeds are left out, because a list has up to a million
    /// entries, and those of other hosts, because they are no news of this one.
    pub(super) fn tell_ban(&self, entry: &Entry) {
        if matches!(entry.ban.origin, Origin::Feed(_) | Origin::Fleet) {
            return;
        }
        self.announcer.hub.tell(|| Event::Ban {
            network: show(entry.ban.network),
            jail: self.jail_name(entry.ban.origin).to_owned(),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            kind: kind(entry.ban.scope),
            proven: self.is_proven(entry),
            until: entry.ban.until.map(|until| self.started.show(until)),
            reason: entry.reason.to_string(),
        });
        let Some(alerts) = &self.announcer.alerts else { return };
        alerts.ban(|| self.action_event(entry, ActionKind::Ban, false));
        if entry.ban.origin == Origin::Escalation {
            alerts.happened(|| {
                let network = show(entry.ban.network);
                let text = format!("the network is banned: {}", entry.reason);
                Occurrence::once(AlertKind::Network, AlertSeverity::Notice, &network, &text)
            });
        }
    }

    /// A ban or its end, for actions.
    fn action_event(&self, entry: &Entry, what: ActionKind, lifted: bool) -> ActionEvent {
        let evidence = entry.evidence().iter().filter(|_| what == ActionKind::Ban);
        ActionEvent {
            event: what.as_str().to_owned(),
            network: show(entry.ban.network),
            jail: self.jail_name(entry.ban.origin).to_owned(),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            kind: kind(entry.ban.scope),
            proven: self.is_proven(entry),
            enforcing: self.enforcing(),
            since: self.started.show(entry.ban.since),
            until: entry.ban.until.map(|until| self.started.show(until)),
            lifted,
            reason: entry.reason.to_string(),
            evidence: evidence.map(|failure| shown(failure.clone(), self.started)).collect(),
        }
    }

    /// Has alerts tell what has happened.
    pub(super) fn tell(&self, what: impl FnOnce() -> Occurrence) {
        if let Some(alerts) = &self.announcer.alerts {
            alerts.happened(what);
        }
    }

    /// Tells that a ban was prevented because of what the address is.
    pub(super) fn tell_prevented(&self, (address, is): (IpAddr, &str), jail: &str, reason: &str) {
        self.tell(|| {
            let text = format!("{jail} does not ban it, because it is {is}: {reason}");
            let (kind, severity) = (AlertKind::Protected, AlertSeverity::Warning);
            Occurrence::once(kind, severity, &address.to_string(), &text)
        });
    }

    /// Has alerts and actions told from now on.
    pub fn set_alerts(&mut self, alerts: Handle) {
        self.announcer.alerts = Some(alerts);
    }

    /// Alerts and actions.
    pub fn alerts(&self) -> Option<&Handle> {
        self.announcer.alerts.as_ref()
    }

    /// Tells the alerts what is known now.
    pub fn tell_alerts(&self, now: KernelTime) {
        let Some(alerts) = self.announcer.alerts.as_ref().filter(|alerts| alerts.has_alerts())
        else {
            return;
        };
        // Without the kernel's counters, the next look sees what there is to see.
        let Ok(status) = self.status(now) else { return };
        alerts.look(Facts { status, accounts: self.attacked_accounts() });
    }

    /// Tells that a ban is no longer in force, if it told that it was.
    pub(super) fn tell_end(&self, entry: &Entry, lifted: bool) {
        if matches!(entry.ban.origin, Origin::Feed(_) | Origin::Fleet) {
            return;
        }
        self.announcer.hub.tell(|| Event::BanEnd {
            network: show(entry.ban.network),
            jail: self.jail_name(entry.ban.origin).to_owned(),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            lifted,
        });
        if let Some(alerts) = &self.announcer.alerts {
            alerts.ban(|| self.action_event(entry, ActionKind::Unban, lifted));
        }
    }

    /// Tells what has changed since the last look: the protection of interfaces, enforcement and maintenance.
    pub fn tell_changes(&mut self, now: KernelTime) {
        let interfaces = self.datapath.interfaces().into_iter();
        let interfaces: BTreeMap<_, _> =
            interfaces.map(|interface| (interface.name, interface.unprotected)).collect();
        let (enforcing, maintenance) = (self.enforcing(), self.maintenance(now));
        let after = (interfaces, enforcing, maintenance.on);
        let Some(before) = self.announcer.before.replace(after) else { return };
        let Some((interfaces, ..)) = &self.announcer.before else { return };
        for (name, why) in interfaces {
            let was_protected = before.0.get(name).map(Option::is_none);
            if was_protected != Some(why.is_none()) {
                self.announcer.hub.tell(|| Event::Protected {
                    interface: name.clone(),
                    protected: why.is_none(),
                    why: why.clone(),
                });
            }
        }
        if before.1 != enforcing {
            self.announcer.hub.tell(|| Event::Enforcing { enforcing });
        }
        if before.2 != maintenance.on {
            let (on, until, by_fleet) = (maintenance.on, maintenance.until, maintenance.by_fleet);
            self.announcer.hub.tell(|| Event::Maintenance { on, until, by_fleet });
        }
    }
}

//! Tells the listeners of events about bans, and about what has changed since the last look.

use std::collections::BTreeMap;

use api::Event;

use super::listing::kind;
use super::{Controller, show};
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::events::Hub;

/// The state at the last look.
#[derive(Debug, Default)]
pub(super) struct Announcer {
    pub(super) hub: Hub,
    /// The interfaces, and why each is not protected; `None` before the first look.
    before: Option<(BTreeMap<String, Option<String>>, bool, bool)>,
}

impl<D: Datapath> Controller<D> {
    /// Where listeners learn what happens.
    pub fn events(&self) -> &Hub {
        &self.announcer.hub
    }

    /// Tells that a ban is in force. Those of feeds are left out: a list has up to a million entries.
    pub(super) fn tell_ban(&self, entry: &Entry) {
        if matches!(entry.ban.origin, Origin::Feed(_)) {
            return;
        }
        self.announcer.hub.tell(|| Event::Ban {
            network: show(entry.ban.network),
            jail: self.jail_name(entry.ban.origin).to_owned(),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            kind: kind(entry.ban.scope),
            until: entry.ban.until.map(|until| self.started.show(until)),
            reason: entry.reason.to_string(),
        });
    }

    /// Tells that a ban is no longer in force, if it told that it was.
    pub(super) fn tell_end(&self, entry: &Entry, lifted: bool) {
        if matches!(entry.ban.origin, Origin::Feed(_)) {
            return;
        }
        self.announcer.hub.tell(|| Event::BanEnd {
            network: show(entry.ban.network),
            jail: self.jail_name(entry.ban.origin).to_owned(),
            scope: self.ports.name(entry.ban.scope).to_owned(),
            lifted,
        });
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
            let (on, until) = (maintenance.on, maintenance.until);
            self.announcer.hub.tell(|| Event::Maintenance { on, until });
        }
    }
}

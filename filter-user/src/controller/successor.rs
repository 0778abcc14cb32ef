//! Imports jails' bans from another program, such as fail2ban.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{Decided, Durability, TAKE_OVER_MAX, TakenOver};
use log::info;

use super::Controller;
use super::of_source::is_address;
use crate::ban::{Ban, Entry};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::duration;
use crate::log_budget::MANUAL;

/// The most imported bans that a log line names.
const NAMED: usize = 10;

/// The bans imported since the last log line.
#[derive(Debug, Default)]
pub(super) struct ImportReport {
    whom: String,
    entered: usize,
    asked: usize,
    first: Vec<String>,
}

impl<D: Datapath> Controller<D> {
    /// Enters the bans whose jails exist. Their sources may have been forged, so they have the jail's
    /// `unproven_scope` and spare known peers.
    pub(super) fn take_over_bans(
        &mut self,
        bans: &[Decided],
        from: &str,
        last: bool,
        who: &str,
        now: KernelTime,
    ) -> Result<TakenOver, String> {
        if bans.len() > TAKE_OVER_MAX {
            return Err(format!(
                "{} bans at once; at most {TAKE_OVER_MAX} are possible",
                bans.len()
            ));
        }
        let mut refused: BTreeMap<String, u64> = BTreeMap::new();
        let mut entered = 0;
        let whom = format!("from {from}, requested by {who}");
        if self.imported.whom != whom {
            self.log_imported();
            self.imported.whom = whom;
        }
        for ban in bans {
            match self.take_over_ban(ban, from, now) {
                Ok(()) => {
                    entered += 1;
                    self.imported.entered += 1;
                    if self.imported.first.len() < NAMED {
                        self.imported.first.push(format!("{} ({})", ban.address, ban.jail));
                    }
                }
                Err(why) => *refused.entry(why.to_owned()).or_default() += 1,
            }
        }
        self.imported.asked += bans.len();
        if last {
            self.log_imported();
        }
        let durability = Durability::default();
        Ok(TakenOver { entered, refused, enforcing: self.enforcing(), durability })
    }

    /// Logs the bans of several requests in one line.
    pub(super) fn log_imported(&mut self) {
        let ImportReport { whom, entered, asked, first } = std::mem::take(&mut self.imported);
        if asked == 0 {
            return;
        }
        let first = match first.len() {
            0 => String::new(),
            some if some == entered => format!(": {}", first.join(", ")),
            _ => format!(": {} and others", first.join(", ")),
        };
        info!(target: MANUAL, "imported {entered} of {asked} bans {whom}{first}{}", self.dry());
    }

    fn take_over_ban(
        &mut self,
        decided: &Decided,
        from: &str,
        now: KernelTime,
    ) -> Result<(), &'static str> {
        let address = decided.address.to_canonical();
        let network = self.jails.prefix.network(self.jails.prefix.source(address));
        if self.protected.reason(address.into()).is_some() {
            return Err("trusted, or the host's own address");
        }
        let place = self.jails.place(&decided.jail);
        let jail = place.and_then(|place| self.jails.get(place));
        let (Some(place), Some(jail)) = (place, jail.filter(|jail| jail.settings().enabled)) else {
            return Err("their jail does not exist yet or is disabled");
        };
        let settings = jail.settings();
        if jail.ignored().contains(address.into()) || self.ignores_by_name(place, address) {
            return Err("their jail ignores them");
        }
        let origin = self.origin_of(&decided.jail);
        // If the jail makes no unproven bans, they close what its other bans close.
        let scope = settings.unproven_scope.unwrap_or(settings.scope);
        if let Some(kind) = self.protected.essentials().of(address.into(), scope) {
            let reason = format!("{from} had banned it");
            self.prevent((address, kind.as_str()), (self.jail_name(origin), 0, &reason), now);
            return Err("default gateways, name servers, trunks or sources of SSH sessions");
        }
        if self.is_known(address, now) {
            return Err("known peers, probably phones");
        }
        let except = (!is_address(network)).then(|| self.exceptions(network, Some(place), now));
        let (network, except) = match except {
            Some(Ok(except)) => (network, except),
            Some(Err(_)) | None => (address.into(), Vec::new()),
        };
        let time = decided.seconds.map(|seconds| Duration::from_secs(seconds).min(duration::MAX));
        let until = time.map(|time| now.after(time));
        let ban = Ban { network, scope, origin, since: now.into(), until };
        let entry = Entry::new(ban, format!("imported from {from}")).with_except(except);
        // The remaining time is sent in whole seconds.
        let nearly = time.map(|time| now.after(time.saturating_sub(Duration::from_secs(1))));
        let stands = |here: &Ban| {
            let as_long = (here.until.is_none(), here.until) >= (nearly.is_none(), nearly);
            here.origin == origin && here.scope == scope && here.in_force(now) && as_long
        };
        if self.bans.ledger().of_network(network).any(|entry| stands(&entry.ban)) {
            return Err("already banned for as long");
        }
        self.enter(&entry, None).map_err(|_full| "there is no room for more bans")
    }
}

//! Bans of jails that another program has decided, such as fail2ban.

use std::collections::BTreeMap;
use std::time::Duration;

use log::info;
use serde_json::{Value, json};

use super::{Controller, is_address};
use crate::ban::{Ban, Entry};
use crate::clock::KernelTime;
use crate::control::{Decided, TAKE_OVER_MAX};
use crate::datapath::Datapath;
use crate::duration;
use crate::jail::Jail;

impl<D: Datapath> Controller<D> {
    /// Enters the bans whose jails there are. Nobody can say any more whether their sources had been
    /// forged: they close what a jail closes to those whose could have been, and spare known peers.
    pub(super) fn take_over_bans(
        &mut self,
        bans: &[Decided],
        from: &str,
        now: KernelTime,
    ) -> Result<Value, String> {
        if bans.len() > TAKE_OVER_MAX {
            return Err(format!(
                "{} bans at once; at most {TAKE_OVER_MAX} are possible",
                bans.len()
            ));
        }
        let mut refused: BTreeMap<&str, usize> = BTreeMap::new();
        let mut entered = 0;
        for ban in bans {
            match self.take_over_ban(ban, from, now) {
                Ok(()) => entered += 1,
                Err(why) => *refused.entry(why).or_default() += 1,
            }
        }
        info!("took {entered} of {} bans over from {from}", bans.len());
        Ok(json!({ "entered": entered, "refused": refused }))
    }

    fn take_over_ban(
        &mut self,
        decided: &Decided,
        from: &str,
        now: KernelTime,
    ) -> Result<(), &'static str> {
        let address = decided.address.to_canonical();
        let network = self.prefix.network(self.prefix.source(address));
        if self.protected.reason(address.into()).is_some() {
            return Err("trusted, or the host's own");
        }
        let place = self.jails.iter().position(|jail| jail.name() == decided.jail);
        let settings = place.and_then(|place| self.jails.get(place)).map(Jail::settings);
        let (Some(place), Some(settings)) = (place, settings.filter(|settings| settings.enabled))
        else {
            return Err("of a jail that there is not, or that is disabled");
        };
        let ignored = settings.ignoreip.iter().any(|ignored| ignored.contains(&address));
        if ignored || self.ignores_by_name(place, address) {
            return Err("ignored by the jail");
        }
        let scope = settings.unproven_scope.ok_or("of a jail that bans nobody unproven")?;
        if self.is_known(address, now) {
            return Err("known peers");
        }
        let holes = (!is_address(network)).then(|| self.holes(network, Some(place), now));
        let (network, except) = match holes {
            Some(Ok(except)) => (network, except),
            Some(Err(_)) | None => (address.into(), Vec::new()),
        };
        let time = decided.seconds.map(|seconds| Duration::from_secs(seconds).min(duration::MAX));
        let until = time.map(|time| now.after(time));
        let origin = self.origin_of(&decided.jail);
        let ban = Ban { network, scope, origin, since: now.into(), until };
        let entry = Entry::new(ban, format!("taken over from {from}")).with_except(except);
        // What is left is told in whole seconds.
        let nearly = time.map(|time| now.after(time.saturating_sub(Duration::from_secs(1))));
        let stands = |here: &Ban| {
            let as_long = (here.until.is_none(), here.until) >= (nearly.is_none(), nearly);
            here.origin == origin && here.scope == scope && here.in_force(now) && as_long
        };
        if self.ledger.of_network(network).any(|entry| stands(&entry.ban)) {
            return Err("banned as long already");
        }
        self.enter(&entry, None).map_err(|_full| "beyond what the kernel has room for")
    }
}

//! How the controller uses the addresses of configured host names.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::{NamedHost, State};
use ipnet::IpNet;
use log::{info, warn};

use super::super::Controller;
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::config::{Config, HostName};
use crate::datapath::Datapath;
use crate::dns::{self, ADDRESSES_MAX, Addresses, News};

/// The names in the configuration, with their addresses as far as they are known.
#[derive(Debug, Default)]
pub(in crate::controller) struct Names {
    /// By name; `None` for a name that has not been looked up yet.
    addresses: BTreeMap<HostName, Option<Addresses>>,
    configured: BTreeSet<HostName>,
    trusted: Vec<HostName>,
}

impl Names {
    pub(in crate::controller) fn new(config: &Config) -> Self {
        let configured = dns::names(config);
        let addresses = configured.iter().map(|name| (name.clone(), None)).collect();
        Self { addresses, configured, trusted: config.trusted_names.clone() }
    }

    /// Looks up these names in addition to those in the configuration.
    pub(super) fn follow(&mut self, others: &BTreeSet<HostName>) {
        let mut addresses = std::mem::take(&mut self.addresses);
        let wanted = self.configured.iter().chain(others).cloned();
        self.addresses =
            wanted.map(|name| (name.clone(), addresses.remove(&name).flatten())).collect();
    }

    /// The names of another configuration and these others, with the addresses that are known of them already.
    pub(super) fn replaced(&self, config: &Config, others: &BTreeSet<HostName>) -> Self {
        let mut names = Self::new(config);
        names.follow(others);
        for (name, addresses) in &mut names.addresses {
            addresses.clone_from(self.addresses.get(name).unwrap_or(&None));
        }
        names
    }

    /// The names whose addresses are trusted.
    pub(in crate::controller) fn trusted_names(&self) -> &[HostName] {
        &self.trusted
    }

    /// Whether one of these names has this address.
    pub(in crate::controller) fn contain(&self, names: &[HostName], address: IpAddr) -> bool {
        names.iter().filter_map(|name| self.of(name)).any(|of| of.all.contains(&address))
    }

    /// The addresses of these names.
    pub(in crate::controller) fn addresses(
        &self,
        names: &[HostName],
    ) -> impl Iterator<Item = IpAddr> {
        names.iter().filter_map(|name| self.of(name)).flat_map(|of| of.all.iter().copied())
    }

    /// The addresses that are trusted.
    pub(in crate::controller) fn trusted(&self) -> BTreeSet<IpNet> {
        let known = self.trusted.iter().filter_map(|name| self.of(name));
        known.flat_map(|addresses| &addresses.all).copied().map(IpNet::from).collect()
    }

    fn of(&self, name: &HostName) -> Option<&Addresses> {
        self.addresses.get(name)?.as_ref()
    }

    /// These names in the form of `jails` and `status`.
    pub(in crate::controller) fn report(&self, names: &[HostName]) -> Vec<NamedHost> {
        let report = |name: &HostName| {
            let known = self.of(name);
            let failed = known.and_then(|addresses| addresses.failed.as_deref());
            NamedHost {
                name: name.as_str().to_owned(),
                addresses: known.iter().flat_map(|addresses| &addresses.all).copied().collect(),
                state: match (known, failed) {
                    (None, _) => State::Waiting,
                    (Some(_), None) => State::Ok,
                    (Some(_), Some(_)) => State::Failed,
                },
                why: failed.map(ToOwned::to_owned),
                left_out: known.map_or(0, |addresses| addresses.left_out as u64),
            }
        };
        names.iter().map(report).collect()
    }

    /// The trusted names in the form of `status`.
    pub(in crate::controller) fn report_trusted(&self) -> Vec<NamedHost> {
        self.report(&self.trusted)
    }
}

impl<D: Datapath> Controller<D> {
    /// Whether a jail ignores an address because a name in its `ignoreip` has it.
    pub(in crate::controller) fn ignores_by_name(&self, place: usize, address: IpAddr) -> bool {
        let jail = self.jails.get(place);
        jail.is_some_and(|jail| self.protected.is_named(&jail.settings().ignore_names, address))
    }

    /// Takes the addresses of a name. A new address gets in again at once: the bans that would not have begun
    /// had it been known before are lifted.
    pub fn resolved(&mut self, News { name, addresses }: News, now: KernelTime) {
        let known = self.protected.names.addresses.get_mut(&name);
        let Some(known) = known else { return };
        let before = known.replace(addresses.clone()).unwrap_or_default();
        let Addresses { all, left_out, failed } = addresses;
        if left_out > before.left_out {
            warn!(
                "{name} has {left_out} addresses too many, which are not used; at most \
                {ADDRESSES_MAX} of each family are used; list the rest as networks"
            );
        }
        if before.all != all && !all.is_empty() {
            let all: Vec<String> = all.iter().map(ToString::to_string).collect();
            info!("{name} has the addresses {}", all.join(", "));
        }
        match (&before.failed, &failed) {
            (Some(_), None) => info!("{name} can be looked up again"),
            (None, Some(why)) => {
                let stays = if all.is_empty() { "" } else { "; its last addresses stay in use" };
                warn!("{name} cannot be looked up: {why}{stays}");
            }
            (None, None) | (Some(_), Some(_)) => {}
        }
        if before.all == all {
            return;
        }
        let new: Vec<IpAddr> = all.difference(&before.all).copied().collect();
        for place in 0..self.jails.len() {
            let Some(jail) = self.jails.get(place) else { continue };
            if !jail.settings().ignore_names.contains(&name) {
                continue;
            }
            let jail_name = jail.name();
            for address in &new {
                self.forget_in(place, (*address).into(), now);
            }
            let origin = self.origin_of(jail_name);
            for address in &new {
                let why = format!("{name}, which {jail_name} ignores");
                self.welcome(*address, Some(origin), &why, now);
            }
        }
        if self.protected.essentials().is_trunk(&name) {
            self.look_for_trunks(now);
        }
        if self.protected.names.trusted.contains(&name) {
            self.protected.trust_names();
            if let Err(why) = self.datapath.trust(&self.protected.trusted_networks()) {
                warn!("the new addresses of {name} are not trusted yet: {why:#}");
            }
            for address in new {
                self.welcome(address, None, &format!("{name}, which is trusted"), now);
            }
        }
    }

    /// Lifts the bans of an address, all or those of one origin.
    fn welcome(&mut self, address: IpAddr, origin: Option<Origin>, is: &str, now: KernelTime) {
        self.leave_out(address, origin, now);
        let wanted = |entry: &&Entry| origin.is_none_or(|origin| entry.ban.origin == origin);
        let bans: Vec<Entry> =
            self.bans.ledger().of_network(address.into()).filter(wanted).cloned().collect();
        for ban in bans {
            match self.bans.strike(&mut self.datapath, &ban) {
                Ok(()) => {
                    self.note_end(&ban, true, now);
                    info!("lifted the ban of {address}: it is {is}");
                }
                Err(why) => {
                    warn!("the ban of {address} cannot be lifted, although it is {is}: {why:#}");
                }
            }
        }
    }
}

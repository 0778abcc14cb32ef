//! Bans of the networks of proven offenders, and their exceptions.

use std::net::IpAddr;

use api::EXCEPT_MAX;
use ipnet::IpNet;
use log::{error, info, warn};

use super::jail_bans::left_out;
use super::of_source::is_address;
use super::{Controller, show};
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::Scope;
use crate::datapath::Datapath;
use crate::duration;
use crate::escalation::Candidate;
use crate::jail::Jail;
use crate::network_set::NetworkSet;

impl<D: Datapath> Controller<D> {
    /// Bans the networks around an address that has just been banned, if they contain enough offenders.
    pub(super) fn escalate(&mut self, address: IpAddr, now: KernelTime) {
        for candidate in self.escalation.candidates(address, now) {
            let Candidate { network, .. } = candidate;
            // A network that is banned already needs no narrower ban inside it.
            if self.is_closed(network, now) || self.ban_network(candidate, now) {
                return;
            }
        }
    }

    /// Whether a ban of a network, or of one around it, closes it as an escalation would.
    fn is_closed(&self, network: IpNet, now: KernelTime) -> bool {
        let scope = self.escalation.networks().settings().scope;
        let closes = |entry: &Entry| {
            entry.ban.in_force(now) && (entry.ban.scope == Scope::All || entry.ban.scope == scope)
        };
        let mut around = Some(network);
        while let Some(network) = around {
            if self.bans.ledger().of_network(network).any(closes) {
                return true;
            }
            around = network.supernet();
        }
        false
    }

    /// Bans a network. Returns whether it is banned.
    fn ban_network(&mut self, candidate: Candidate, now: KernelTime) -> bool {
        let Candidate { network, offenders } = candidate;
        let settings = self.escalation.networks().settings();
        let (findtime, bantime) = (settings.findtime, settings.bantime);
        let (scope, until) = (settings.scope, Some(now.after(bantime)));
        let except = match self.exceptions(network, None, now) {
            Ok(except) => except,
            Err(why) => {
                self.escalation.spare(network, now);
                warn!("escalation: {network} has {offenders} offenders, but is not banned: {why}");
                return false;
            }
        };
        let ban = Ban { network, scope, origin: Origin::Escalation, since: now.into(), until };
        let reason = format!("{offenders} offenders within {}", duration::format(findtime));
        let (time, left_out) = (duration::format(bantime), left_out(&except));
        let dry = self.dry();
        let says = format!("escalation: banned {network} for {time}: {reason}{left_out}{dry}");
        let entry = Entry::new(ban, reason).with_except(except);
        match self.enter(&entry, Some(says)) {
            Ok(()) => true,
            Err(why) => {
                self.escalation.spare(network, now);
                error!("escalation: {network} is not banned: {why:#}");
                false
            }
        }
    }

    /// The exceptions that a ban of a network needs: for a jail, the addresses that it never bans; for
    /// escalation, those that no jail bans.
    pub(super) fn exceptions(
        &mut self,
        network: IpNet,
        jail: Option<usize>,
        now: KernelTime,
    ) -> Result<Vec<IpNet>, String> {
        let known = match network {
            // There may be many such bans, since each costs an attacker 15 packets.
            IpNet::V6(_) => self.peers.inside_ipv6(network, &self.datapath, now),
            IpNet::V4(_) => self.datapath.known_in(network, now),
        };
        self.exceptions_with(network, jail, known)
    }

    /// The same, where the known peers in the network are known.
    pub(super) fn exceptions_with(
        &self,
        network: IpNet,
        jail: Option<usize>,
        known: Vec<IpAddr>,
    ) -> Result<Vec<IpNet>, String> {
        let jails = self.jails.iter().enumerate();
        let jails = jails.filter(|(place, _)| jail.is_none_or(|jail| jail == *place));
        let jails: Vec<&Jail> = jails.map(|(_, jail)| jail).collect();
        let sets = self.protected.sets();
        let sets: Vec<_> = sets.chain(jails.iter().map(|jail| jail.ignored())).collect();
        let names = jails.iter().map(|jail| &*jail.settings().ignore_names);
        let of_names: NetworkSet = names
            .flat_map(|names| self.protected.names().addresses(names))
            .map(IpNet::from)
            .collect();
        let mut never = Vec::new();
        for set in sets.into_iter().chain([&of_names]) {
            if let Some(around) = set.around(network) {
                return Err(format!("{} is never banned", show(around)));
            }
            never.extend(set.inside(network));
        }
        never.extend(known.into_iter().map(IpNet::from));
        let except = IpNet::aggregate(&never);
        if except.len() > EXCEPT_MAX {
            return Err(format!(
                "it would need {} exceptions for trusted addresses and known peers; at most {EXCEPT_MAX} are possible",
                except.len()
            ));
        }
        Ok(except)
    }

    /// Exempts an address or network from bans of wider networks that are not manual, because it is now a
    /// known peer, essential, or ignored by the jail of the ban.
    pub(super) fn leave_out(
        &mut self,
        exception: impl Into<IpNet>,
        of: Option<Origin>,
        now: KernelTime,
    ) {
        let exception = exception.into();
        let is_one = |entry: &&&Entry| {
            let by_jail = matches!(entry.ban.origin, Origin::Jail(_))
                && of.is_none_or(|origin| origin == entry.ban.origin);
            let by_itself = matches!(
                entry.ban.origin,
                Origin::Escalation | Origin::Flood | Origin::Feed(_) | Origin::Fleet
            );
            let is_around =
                entry.ban.network != exception && entry.ban.network.contains(&exception);
            is_around && !is_address(entry.ban.network) && (by_jail || by_itself)
        };
        let around: Vec<Entry> = self
            .bans
            .ledger()
            .of(exception.addr())
            .iter()
            .filter(is_one)
            .map(|e| (*e).clone())
            .collect();
        for entry in around {
            let network = entry.ban.network;
            let by = self.jail_name(entry.ban.origin);
            let mut except = entry.except().to_vec();
            except.push(exception);
            let except = IpNet::aggregate(&except);
            let result = if except.len() > EXCEPT_MAX {
                info!("{by}: lifted the ban of {network}: it would need too many exceptions");
                if entry.ban.origin == Origin::Escalation {
                    self.escalation.spare(network, entry.ban.since.in_this_boot());
                }
                let struck = self.bans.strike(&mut self.datapath, &entry);
                self.ban_addresses_of(&entry, now);
                struck
            } else {
                info!("{by}: the ban of {network} now has the exception {}", show(exception));
                self.enter(&entry.with_except(except), None)
            };
            if let Err(why) = result {
                let exception = show(exception);
                error!("{by}: {exception} cannot be exempted from the ban of {network}: {why:#}");
            }
        }
    }

    /// Instead of the network that a jail would ban, bans the addresses in it that have failed.
    fn ban_addresses_of(&mut self, entry: &Entry, now: KernelTime) {
        let by = self.jail_name(entry.ban.origin);
        let Some(place) = self.jails.place(by) else { return };
        for address in self.addresses_behind(entry.evidence(), place, now) {
            let ban = Ban { network: address.into(), ..entry.ban };
            let entry = Entry::new(ban, &*entry.reason).with_evidence(entry.evidence().to_vec());
            if let Err(why) = self.enter(&entry, None) {
                error!("{by}: {address} is not banned: {why:#}");
            }
        }
    }
}

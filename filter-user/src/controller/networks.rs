//! Bans of the networks of proven offenders, and who is left out of them.

use std::net::IpAddr;

use ipnet::IpNet;
use log::{error, info, warn};

use super::{Controller, show};
use crate::ban::{Ban, Entry, Origin};
use crate::clock::KernelTime;
use crate::config::Scope;
use crate::control::EXCEPT_MAX;
use crate::datapath::Datapath;
use crate::duration;
use crate::escalation::Candidate;
use crate::jail::Jail;

impl<D: Datapath> Controller<D> {
    /// Bans the networks around an address that has just been banned, if so many others in them were.
    pub(super) fn escalate(&mut self, address: IpAddr, now: KernelTime) {
        for candidate in self.escalation.candidates(address, now) {
            let Candidate { network, .. } = candidate;
            // One that is banned already needs no narrower ban in it.
            if self.is_closed(network, now) || self.ban_network(candidate, now) {
                return;
            }
        }
    }

    /// Whether a ban of a network, or of one around it, closes it as its escalation would.
    fn is_closed(&self, network: IpNet, now: KernelTime) -> bool {
        let scope = self.escalation.networks().settings().scope;
        let closes = |entry: &Entry| {
            entry.ban.in_force(now) && (entry.ban.scope == Scope::All || entry.ban.scope == scope)
        };
        let mut around = Some(network);
        while let Some(network) = around {
            if self.ledger.of_network(network).any(closes) {
                return true;
            }
            around = network.supernet();
        }
        false
    }

    /// Whether it is banned now.
    fn ban_network(&mut self, candidate: Candidate, now: KernelTime) -> bool {
        let Candidate { network, offenders } = candidate;
        let settings = self.escalation.networks().settings();
        let (findtime, bantime) = (settings.findtime, settings.bantime);
        let (scope, until) = (settings.scope, Some(now.after(bantime)));
        let except = match self.holes(network, now) {
            Ok(except) => except,
            Err(why) => {
                self.escalation.spare(network, now);
                warn!("escalation: {network} is not banned for {offenders} offenders: {why}");
                return false;
            }
        };
        let ban = Ban { network, scope, origin: Origin::Escalation, since: now.into(), until };
        let reason = format!("{offenders} offenders within {}", duration::format(findtime));
        let left_out = match except.len() {
            0 => String::new(),
            holes => format!(", but for {holes} trusted or known addresses and networks in it"),
        };
        let time = duration::format(bantime);
        let says =
            format!("escalation: banned {network} for {time}: {reason}{left_out}{}", self.dry());
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

    /// Who in a network must be left out of a ban of it.
    fn holes(&self, network: IpNet, now: KernelTime) -> Result<Vec<IpNet>, String> {
        let mut never = self.protected.networks();
        for settings in self.jails.iter().map(Jail::settings) {
            never.extend(&settings.ignoreip);
            never.extend(self.names.addresses(&settings.ignore_names).map(IpNet::from));
        }
        if let Some(around) = never.iter().find(|never| never.contains(&network)) {
            return Err(format!("{} is never banned", show(*around)));
        }
        never.retain(|never| network.contains(never));
        let known = self.datapath.known_in(network, now);
        never.extend(known.into_iter().map(IpNet::from));
        let except = IpNet::aggregate(&never);
        if except.len() > EXCEPT_MAX {
            return Err(format!(
                "it would take {} exceptions for the trusted and known in it; {EXCEPT_MAX} are possible",
                except.len()
            ));
        }
        Ok(except)
    }

    /// Leaves an address out of the bans of networks around it: it is a known peer now, or ignored.
    pub(super) fn leave_out(&mut self, address: IpAddr) {
        let is_one = |entry: &&&Entry| entry.ban.origin == Origin::Escalation;
        let around: Vec<Entry> =
            self.ledger.of(address).iter().filter(is_one).map(|e| (*e).clone()).collect();
        for entry in around {
            let network = entry.ban.network;
            let mut except = entry.except().to_vec();
            except.push(address.into());
            let except = IpNet::aggregate(&except);
            let result = if except.len() > EXCEPT_MAX {
                info!("escalation: lifted the ban of {network}: it would take too many exceptions");
                self.escalation.spare(network, entry.ban.since.in_this_boot());
                self.strike(&entry)
            } else {
                info!("escalation: the ban of {network} leaves out {address} from now on");
                self.enter(&entry.with_except(except), None)
            };
            if let Err(why) = result {
                error!("escalation: {address} is not let out of the ban of {network}: {why:#}");
            }
        }
    }
}

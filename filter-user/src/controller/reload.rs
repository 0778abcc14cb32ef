//! Replaces the running configuration by a new one.

use std::collections::BTreeSet;
use std::net::IpAddr;

use anyhow::Result;
use filter_common::abi::OPEN_TO_TRUSTED;
use ipnet::IpNet;

use super::{Controller, show};
use crate::clock::KernelTime;
use crate::config::{Config, Exposure, SipPorts};
use crate::datapath::Datapath;

/// The most bans that an objection names.
const NAMED: usize = 5;

/// Bans of a network that are looked at for an objection.
const LOOKED_AT: usize = 256;

impl<D: Datapath> Controller<D> {
    /// Objections to this configuration: the addresses that it would shut out although they are let in
    /// now.
    /// `session` is the source of the administrator's SSH session.
    pub fn objections(
        &self,
        new: &Config,
        session: Option<IpAddr>,
        now: KernelTime,
    ) -> Vec<String> {
        let mut objections = Vec::new();
        let protected = self.protected.replaced(new);
        if self.protected.is_trusting() && !protected.is_trusting() {
            objections.push("no trusted network would be left".to_owned());
        }
        let stays = |network: &IpNet| protected.is_trusted(*network);
        for gone in self.protected.trusted_networks().iter().filter(|network| !stays(network)) {
            let inside = self.bans.ledger().within(*gone, None, LOOKED_AT);
            let banned: Vec<String> = inside
                .filter(|entry| entry.ban.in_force(now) && !stays(&entry.ban.network))
                .take(NAMED)
                .map(|entry| show(entry.ban.network))
                .collect();
            if !banned.is_empty() {
                objections.push(format!(
                    "{} is no longer trusted, and would be shut out by a ban of {}",
                    show(*gone),
                    banned.join(", ")
                ));
            }
        }
        let others = self.protected.essentials().sessions();
        let others = others.iter().filter(|other| Some(**other) != session);
        for session in session.iter().chain(others) {
            let network = IpNet::from(*session);
            if !self.protected.is_trusted(network) || stays(&network) {
                continue;
            }
            let around = self.bans.ledger().of(*session).into_iter();
            let mut closing = around.filter(|entry| {
                entry.ban.in_force(now)
                    && !entry.ban.scope.is_sip()
                    && !entry.except().iter().any(|part| part.contains(session))
            });
            if let Some(entry) = closing.next() {
                objections.push(format!(
                    "an SSH session comes from {session}, which is no longer trusted, and would be shut out \
                     by the ban of {}",
                    show(entry.ban.network)
                ));
            }
        }
        objections
    }

    /// Objections to the services that this configuration closes, where `old` ones are closed now: ports of
    /// sshd that would be closed to everybody, or to the sources of SSH sessions.
    pub fn ssh_objections(
        &self,
        new: &Config,
        old: &Exposure,
        ports: &BTreeSet<u16>,
        session: Option<IpAddr>,
    ) -> Vec<String> {
        let protected = self.protected.replaced(new);
        let mut sessions = self.protected.essentials().sessions().clone();
        sessions.extend(session);
        let mut objections = Vec::new();
        for port in ports {
            let open_to = |exposure: &Exposure, sip: &SipPorts| {
                let guards = if exposure.dry_run { Vec::new() } else { exposure.guards(sip) };
                let last = guards.iter().rev().find(|one| one.tcp && one.range.contains(*port));
                last.map(|guard| guard.open_to)
            };
            let Some(open) = open_to(&new.exposure, &new.sip) else { continue };
            if open & OPEN_TO_TRUSTED == 0 {
                if open_to(old, &new.sip) != Some(open) {
                    objections.push(format!(
                        "`exposure.closed` closes port {port}, on which sshd listens"
                    ));
                }
                continue;
            }
            let is_trusted = |session: &&IpAddr| protected.is_trusted(IpNet::from(**session));
            for session in sessions.iter().filter(|session| !is_trusted(session)).take(NAMED) {
                let was_open = open_to(old, &new.sip).is_none()
                    || self.protected.is_trusted(IpNet::from(*session));
                if was_open {
                    objections.push(format!(
                        "an SSH session comes from {session}, which is not trusted and could not log in \
                         again on port {port}"
                    ));
                }
            }
        }
        objections
    }

    /// Uses another configuration from now on. It differs from the running one only in settings that need
    /// no restart, and is already in the kernel, except for the trusted networks.
    ///
    /// # Errors
    ///
    /// If the kernel refuses the trusted networks; then the controller stays as it was.
    pub fn reconfigure(&mut self, new: &Config, now: KernelTime) -> Result<()> {
        let protected = self.protected.replaced(new);
        if let Err(why) = self.datapath.trust(&protected.trusted_networks()) {
            return Err(match self.datapath.trust(&self.protected.trusted_networks()) {
                Ok(()) => why,
                Err(also) => why.context(format!("the old ones are not trusted either ({also:#})")),
            });
        }
        self.protected = protected;
        self.shelter_all(now);
        self.tuning.reconfigure(new);
        self.apply_tuning();
        self.limited.set_limits(&new.limits);
        self.enforcement.is_dry_run = new.dry_run;
        if let Some(alerts) = self.alerts() {
            alerts.configure(new);
        }
        self.set_feeds(new);
        self.set_fleet(new, now);
        Ok(())
    }
}

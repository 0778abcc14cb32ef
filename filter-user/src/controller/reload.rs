//! A new configuration takes the place of the running one.

use ipnet::IpNet;

use anyhow::Result;

use super::names::Names;
use super::protected::Protected;
use super::{Controller, show};
use crate::clock::KernelTime;
use crate::config::Config;
use crate::datapath::Datapath;

/// Bans that an objection names.
const NAMED: usize = 5;

/// Bans of a network that are looked at for an objection.
const LOOKED_AT: usize = 256;

impl<D: Datapath> Controller<D> {
    /// Why this configuration should not take the place of the running one: whom it would shut out who is
    /// let in now.
    pub fn objections(&self, new: &Config, now: KernelTime) -> Vec<String> {
        let mut objections = Vec::new();
        let is_trusting = |trusted: &[IpNet], names: usize| !trusted.is_empty() || names > 0;
        let old_names = self.names.trusted_names().len();
        if is_trusting(&self.protected.trusted, old_names)
            && !is_trusting(&new.trusted, new.trusted_names.len())
        {
            objections.push("no trusted network would be left".to_owned());
        }
        let trusted = self.protected_by(new, &self.names.replaced(new)).networks();
        let stays = |network: &IpNet| trusted.iter().any(|trusted| trusted.contains(network));
        for gone in self.protected.networks().iter().filter(|network| !stays(network)) {
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
        objections
    }

    /// Who is protected with another configuration, and its names.
    fn protected_by(&self, new: &Config, names: &Names) -> Protected {
        let own = self.protected.own.clone();
        let allowed = self.protected.allowed.clone();
        Protected { own, trusted: new.trusted.clone(), named: names.trusted(), allowed }
    }

    /// Judges by another configuration from now on. It differs from the running one only in what needs no
    /// restart, and the kernel has it but for the trusted networks.
    ///
    /// # Errors
    ///
    /// When the kernel refuses the trusted networks; then the controller stays as it was.
    pub fn reconfigure(&mut self, new: &Config) -> Result<()> {
        let names = self.names.replaced(new);
        let protected = self.protected_by(new, &names);
        if let Err(why) = self.datapath.trust(&protected.networks()) {
            return Err(match self.datapath.trust(&self.protected.networks()) {
                Ok(()) => why,
                Err(also) => why.context(format!("the old ones are not trusted either ({also:#})")),
            });
        }
        self.protected = protected;
        self.names = names;
        self.tuning.reconfigure(new);
        self.apply_tuning();
        self.limits = new.limits;
        self.flood_ban = new.limits.flood.ban;
        self.enforcement.is_dry_run = new.dry_run;
        Ok(())
    }
}

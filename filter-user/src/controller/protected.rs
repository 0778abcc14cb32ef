//! Everything that is never banned: the host's own addresses, the trusted networks, the addresses of
//! trusted names, and the networks that are allowed at run time; and the essential addresses, which no jail bans.
//!
//! Decides whether a network may be banned. The cost of a lookup does not depend on the number of
//! networks, because each failure needs a few lookups.

pub(super) mod essential;
pub(super) mod names;

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use self::essential::Essentials;
use self::names::Names;
use crate::config::{Config, HostName};
use crate::network_set::NetworkSet;

/// The addresses and networks that are never banned.
#[derive(Debug, Default)]
pub(super) struct Protected {
    own: Own,
    trusted: Vec<IpNet>,
    names: Names,
    /// The networks that are allowed at run time.
    allowed: BTreeSet<IpNet>,
    /// The trusted networks and the addresses of trusted names.
    configured: NetworkSet,
    /// The same and the allowed networks.
    all_trusted: NetworkSet,
    essentials: Essentials,
}

/// The host's addresses.
#[derive(Clone, Debug, Default)]
struct Own {
    networks: BTreeSet<IpNet>,
    set: NetworkSet,
}

impl From<BTreeSet<IpNet>> for Own {
    fn from(networks: BTreeSet<IpNet>) -> Self {
        let set = networks.iter().copied().collect();
        Self { networks, set }
    }
}

impl Protected {
    /// For these addresses of the host; names have not been looked up yet.
    pub(super) fn new(config: &Config, own: BTreeSet<IpNet>) -> Self {
        Self::over(config, own.into(), (Names::new(config), Essentials::default()), BTreeSet::new())
    }

    /// The same host and the known addresses of names, with another configuration.
    pub(super) fn replaced(&self, config: &Config) -> Self {
        let names = self.names.replaced(config, self.essentials.trunk_names());
        let known = (names, self.essentials.clone());
        Self::over(config, self.own.clone(), known, self.allowed.clone())
    }

    fn over(
        config: &Config,
        own: Own,
        (names, essentials): (Names, Essentials),
        allowed: BTreeSet<IpNet>,
    ) -> Self {
        let trusted = config.trusted.clone();
        let mut protected = Self { own, trusted, names, allowed, essentials, ..Self::default() };
        protected.trust_names();
        protected.essentials.switch(config.protect);
        protected.find_essentials();
        protected
    }

    /// Updates the addresses of the trusted names.
    fn trust_names(&mut self) {
        self.configured = self.configured_networks().collect();
        self.all_trusted = self.trusted_networks().into_iter().collect();
    }

    /// Replaces the networks that are allowed at run time.
    pub(super) fn set_allowed(&mut self, allowed: BTreeSet<IpNet>) {
        self.allowed = allowed;
        self.trust_names();
    }

    /// How many networks are allowed at run time.
    pub(super) fn allowed_count(&self) -> u64 {
        self.allowed.len() as u64
    }

    /// Why a network as a whole cannot be banned; `None` if it can.
    pub(super) fn reason(&self, network: IpNet) -> Option<&'static str> {
        if self.own.set.contains(network) {
            Some("the host's own address")
        } else if self.is_configured(network) {
            Some("trusted")
        } else if self.all_trusted.contains(network) {
            Some("allowed")
        } else {
            None
        }
    }

    /// The networks that a ban of any network must exempt.
    pub(super) fn sets(&self) -> impl Iterator<Item = &NetworkSet> {
        [&self.own.set, &self.all_trusted].into_iter().chain(self.essentials.sets())
    }

    /// The essential addresses.
    pub(super) fn essentials(&self) -> &Essentials {
        &self.essentials
    }

    fn configured_networks(&self) -> impl Iterator<Item = IpNet> {
        self.trusted.iter().copied().chain(self.names.trusted())
    }

    /// Whether the configuration trusts a network.
    pub(super) fn is_configured(&self, network: IpNet) -> bool {
        self.configured.contains(network)
    }

    /// The networks whose packets are never dropped.
    pub(super) fn trusted_networks(&self) -> Vec<IpNet> {
        self.configured_networks().chain(self.allowed.iter().copied()).collect()
    }

    /// Whether it trusts this network, possibly as part of a wider one.
    pub(super) fn is_trusted(&self, network: IpNet) -> bool {
        self.all_trusted.contains(network)
    }

    /// Whether a network or a name is trusted.
    pub(super) fn is_trusting(&self) -> bool {
        !self.trusted.is_empty() || !self.names.trusted_names().is_empty()
    }

    /// The host's addresses.
    pub(super) fn own(&self) -> &BTreeSet<IpNet> {
        &self.own.networks
    }

    /// Replaces the host's addresses.
    pub(super) fn set_own(&mut self, own: BTreeSet<IpNet>) {
        self.own = own.into();
    }

    /// The names in the configuration.
    pub(super) fn names(&self) -> &Names {
        &self.names
    }

    /// Whether one of these names has this address.
    pub(super) fn is_named(&self, names: &[HostName], address: IpAddr) -> bool {
        self.names.contain(names, address)
    }
}

//! The addresses and networks that are never banned.

use std::collections::BTreeSet;

use ipnet::IpNet;

/// The addresses and networks that are never banned.
#[derive(Debug, Default)]
pub(super) struct Protected {
    pub(super) own: BTreeSet<IpNet>,
    pub(super) trusted: Vec<IpNet>,
    /// The addresses of trusted names.
    pub(super) named: BTreeSet<IpNet>,
    /// What somebody has allowed while the daemon runs.
    pub(super) allowed: BTreeSet<IpNet>,
}

impl Protected {
    /// Why a network as a whole cannot be banned; `None` if it can.
    pub(super) fn reason(&self, network: IpNet) -> Option<&'static str> {
        if self.own.iter().any(|own| own.contains(&network)) {
            Some("the host's own address")
        } else if self.is_configured(network) {
            Some("trusted")
        } else if self.allowed.iter().any(|allowed| allowed.contains(&network)) {
            Some("allowed")
        } else {
            None
        }
    }

    /// Whether a setting trusts a network.
    pub(super) fn is_configured(&self, network: IpNet) -> bool {
        self.trusted.iter().chain(&self.named).any(|trusted| trusted.contains(&network))
    }

    /// Everything that a ban of a network around it must leave out.
    pub(super) fn all(&self) -> Vec<IpNet> {
        self.own.iter().copied().chain(self.networks()).collect()
    }

    /// The networks whose packets are never dropped.
    pub(super) fn networks(&self) -> Vec<IpNet> {
        self.trusted.iter().chain(&self.named).chain(&self.allowed).copied().collect()
    }
}

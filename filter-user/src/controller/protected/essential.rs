//! Essential addresses: gateways, name servers, trunks and the sources of SSH sessions. No jail bans
//! them, and a manual ban needs `--force`. Unlike trusted addresses, they are subject to the limits.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use log::{info, warn};

use super::super::{Controller, Protected, show};
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::config::{HostName, Protect, Scope};
use crate::datapath::Datapath;
use crate::doctor::Trunks;
use crate::host::Essential;
use crate::network_set::NetworkSet;

/// The maximum number of bans inside an essential network that are lifted.
const LIFTED_MAX: usize = 1000;

/// Why an address is essential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::controller) enum Kind {
    Gateway,
    NameServer,
    Trunk,
    SshSession,
}

impl Kind {
    const ALL: [Self; 4] = [Self::Gateway, Self::NameServer, Self::Trunk, Self::SshSession];

    /// A description of such an address.
    pub(in crate::controller) const fn as_str(self) -> &'static str {
        match self {
            Self::Gateway => "a default gateway",
            Self::NameServer => "a name server",
            Self::Trunk => "a trunk",
            Self::SshSession => "the source of an SSH session",
        }
    }

    /// Whether a ban with this scope would do harm.
    const fn is_harmed_by(self, scope: Scope) -> bool {
        match self {
            Self::Gateway | Self::NameServer | Self::Trunk => true,
            Self::SshSession => !scope.is_sip(),
        }
    }
}

/// The essential addresses.
#[derive(Clone, Debug, Default)]
pub(in crate::controller) struct Essentials {
    switches: Protect,
    found: Essential,
    trunks: Trunks,
    /// The networks of each kind.
    sets: [NetworkSet; Kind::ALL.len()],
}

impl Essentials {
    pub(super) fn switch(&mut self, switches: Protect) {
        self.switches = switches;
    }

    /// The networks of each kind. `of_names` are the addresses of the trunks' names.
    fn networks(&self, of_names: impl Iterator<Item = IpAddr>) -> [BTreeSet<IpNet>; 4] {
        let Protect { gateways, name_servers, trunks, ssh_sessions } = self.switches;
        let all = |wanted: bool, addresses: &BTreeSet<IpAddr>| {
            let wanted = addresses.iter().filter(|_| wanted);
            wanted.copied().map(IpNet::from).collect::<BTreeSet<_>>()
        };
        let mut of_trunks: BTreeSet<IpNet> = of_names.map(IpNet::from).collect();
        of_trunks.extend(&self.trunks.networks);
        of_trunks.retain(|_| trunks);
        [
            all(gateways, &self.found.gateways),
            all(name_servers, &self.found.name_servers),
            of_trunks,
            all(ssh_sessions, &self.found.sessions),
        ]
    }

    pub(super) fn sets(&self) -> impl Iterator<Item = &NetworkSet> {
        self.sets.iter()
    }

    /// Why a network is essential, if a ban with this scope would do harm.
    pub(in crate::controller) fn of(&self, network: IpNet, scope: Scope) -> Option<Kind> {
        let kinds = Kind::ALL.into_iter().zip(&self.sets);
        let mut harmed = kinds.filter(|(kind, _)| kind.is_harmed_by(scope));
        harmed.find(|(_, set)| set.contains(network)).map(|(kind, _)| kind)
    }

    /// The first essential address or network inside a network and outside its exceptions to which a ban
    /// with this scope would do harm.
    pub(in crate::controller) fn inside(
        &self,
        network: IpNet,
        except: &[IpNet],
        scope: Scope,
    ) -> Option<(IpNet, Kind)> {
        let kinds = Kind::ALL.into_iter().zip(&self.sets);
        let harmed = kinds.filter(|(kind, _)| kind.is_harmed_by(scope));
        harmed
            .flat_map(|(kind, set)| set.inside(network).map(move |one| (one, kind)))
            .find(|(one, _)| !except.iter().any(|part| part.contains(one)))
    }

    /// The trunks' host names.
    pub(super) fn trunk_names(&self) -> &BTreeSet<HostName> {
        &self.trunks.names
    }

    /// Whether a host name is that of a trunk.
    pub(super) fn is_trunk(&self, name: &HostName) -> bool {
        self.trunks.names.contains(name)
    }

    /// The gateways of the default routes.
    pub(in crate::controller) fn gateways(&self) -> impl Iterator<Item = IpAddr> {
        self.found.gateways.iter().copied()
    }

    /// The networks to which a ban of SIP would do harm.
    pub(in crate::controller) fn needed_for_sip(&self) -> impl Iterator<Item = IpNet> {
        let kinds = Kind::ALL.into_iter().zip(&self.sets);
        let needed = kinds.filter(|(kind, _)| kind.is_harmed_by(Scope::Sip));
        needed.flat_map(|(_, set)| everything(set))
    }

    /// The sources of the SSH sessions.
    pub(in crate::controller) fn sessions(&self) -> &BTreeSet<IpAddr> {
        &self.found.sessions
    }

    /// The essential addresses in the form of `status`.
    pub(in crate::controller) fn report(&self) -> api::Essential {
        let [gateways, name_servers, trunks, sessions] = &self.sets;
        let addresses = |set| everything(set).map(|network| network.addr()).collect();
        api::Essential {
            gateways: addresses(gateways),
            name_servers: addresses(name_servers),
            trunks: everything(trunks).map(show).collect(),
            ssh_sessions: addresses(sessions),
            ..api::Essential::default()
        }
    }
}

/// All networks of a set.
fn everything(set: &NetworkSet) -> impl Iterator<Item = IpNet> {
    [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())]
        .into_iter()
        .flat_map(|all| set.inside(all))
}

impl Protected {
    /// Computes the essential networks. Returns those that are new.
    pub(super) fn find_essentials(&mut self) -> Vec<(IpNet, Kind)> {
        let names: Vec<HostName> = self.essentials.trunk_names().iter().cloned().collect();
        let networks = self.essentials.networks(self.names.addresses(&names));
        let mut new = Vec::new();
        for ((kind, networks), set) in
            Kind::ALL.into_iter().zip(networks).zip(&mut self.essentials.sets)
        {
            new.extend(networks.iter().filter(|one| !set.contains(**one)).map(|one| (*one, kind)));
            *set = networks.into_iter().collect();
        }
        new
    }

    fn set_essentials(&mut self, found: &Essential, trunks: &Trunks) -> Vec<(IpNet, Kind)> {
        if self.essentials.found == *found && self.essentials.trunks == *trunks {
            return Vec::new();
        }
        self.essentials.found.clone_from(found);
        self.essentials.trunks.clone_from(trunks);
        self.names.follow(&self.essentials.trunks.names);
        self.find_essentials()
    }
}

impl<D: Datapath> Controller<D> {
    /// Replaces the essential addresses by those found now, and lifts bans of them, except manual ones.
    pub fn set_essentials(&mut self, found: &Essential, trunks: &Trunks, now: KernelTime) {
        for (network, kind) in self.protected.set_essentials(found, trunks) {
            self.protect(network, kind, now);
        }
    }

    /// Lifts the bans of all essential networks after a setting has added some.
    pub(in crate::controller) fn shelter_all(&mut self, now: KernelTime) {
        let sets = Kind::ALL.into_iter().zip(&self.protected.essentials.sets);
        let all = sets.flat_map(|(kind, set)| everything(set).map(move |network| (network, kind)));
        for (network, kind) in all.collect::<Vec<_>>() {
            self.protect(network, kind, now);
        }
    }

    /// Updates the essential networks after the addresses of a trunk's name have changed.
    pub(super) fn look_for_trunks(&mut self, now: KernelTime) {
        for (network, kind) in self.protected.find_essentials() {
            self.protect(network, kind, now);
        }
    }

    /// Lifts the bans of an essential network.
    fn protect(&mut self, network: IpNet, kind: Kind, now: KernelTime) {
        let is = kind.as_str();
        let harms = |entry: &&Entry| {
            entry.ban.origin != Origin::Manual && kind.is_harmed_by(entry.ban.scope)
        };
        let of = self.bans.ledger().of_network(network);
        let inside = self.bans.ledger().inside(network);
        let bans: Vec<Entry> = of.chain(inside).filter(harms).take(LIFTED_MAX).cloned().collect();
        for ban in bans {
            let (by, banned) = (self.jail_name(ban.ban.origin), show(ban.ban.network));
            match self.bans.strike(&mut self.datapath, &ban) {
                Ok(()) => {
                    self.note_end(&ban, true, now);
                    warn!("lifted the ban of {banned} by {by}, because it is {is}: {}", ban.reason);
                    self.count_prevented((ban.ban.network.addr(), is), (by, 0, &*ban.reason), now);
                }
                Err(why) => {
                    warn!("the ban of {banned} cannot be lifted, although it is {is}: {why:#}");
                }
            }
        }
        self.leave_out(network, None, now);
        let manual = self.bans.ledger().of(network.addr());
        if manual.iter().any(|entry| entry.ban.in_force(now)) {
            info!("{} is {is}, but a manual ban closes it", show(network));
        }
    }
}

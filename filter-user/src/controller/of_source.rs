//! The source of an address, and what applies to the address because of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use ipnet::IpNet;

use super::Controller;
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::jail::Evidence;

impl<D: Datapath> Controller<D> {
    /// The source of an address. A known peer is a source by itself: failures of others in its network do not
    /// count against it, nor its failures against them.
    pub fn source_of(&self, address: IpAddr, now: KernelTime) -> IpNet {
        let network = self.jails.prefix.network(self.jails.prefix.source(address));
        if !is_address(network) && self.is_known(address, now) {
            return address.into();
        }
        network
    }

    /// The bans of exactly an address, and those of its source unless it is an exception.
    pub(super) fn bans_of(&self, address: IpAddr, now: KernelTime) -> impl Iterator<Item = &Entry> {
        let closes =
            move |entry: &&Entry| !entry.except().iter().any(|part| part.contains(&address));
        let networks = BTreeSet::from([IpNet::from(address), self.source_of(address, now)]);
        networks
            .into_iter()
            .flat_map(|network| self.bans.ledger().of_network(network))
            .filter(closes)
    }

    /// The bans by jails of the network around an address.
    pub(super) fn by_jails_around(&self, address: IpAddr, now: KernelTime) -> Vec<Entry> {
        let by_jail = |entry: &&Entry| {
            matches!(entry.ban.origin, Origin::Jail(_)) && !is_address(entry.ban.network)
        };
        self.bans_of(address, now).filter(by_jail).cloned().collect()
    }

    /// The addresses that have failed and that a jail may ban.
    pub(super) fn addresses_behind(
        &self,
        evidence: &[Evidence],
        place: usize,
        now: KernelTime,
    ) -> BTreeSet<IpAddr> {
        let Some(jail) = self.jails.get(place) else { return BTreeSet::new() };
        let may = |address: &IpAddr| {
            self.protected.reason((*address).into()).is_none()
                && !jail.ignored().contains((*address).into())
                && !self.ignores_by_name(place, *address)
                && !self.is_known(*address, now)
        };
        evidence.iter().filter_map(|failure| failure.address).filter(may).collect()
    }

    /// Makes a jail forget the failures of the sources in a network, or of the source of an address.
    pub(super) fn forget_sources(&mut self, place: usize, network: IpNet) {
        let source = self.jails.prefix.source(network.addr());
        let Some(jail) = self.jails.get_mut(place) else { return };
        jail.forget_network(network);
        if is_address(network) {
            jail.forget(source);
        }
    }
}

pub(super) fn is_address(network: IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

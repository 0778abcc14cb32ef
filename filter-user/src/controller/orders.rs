//! Manual bans and unbans of several addresses and networks in one request.

use std::time::Duration;

use api::{BannedMany, Durability, Lifted, ORDERS_MAX, Order, Refused, weight};
use ipnet::IpNet;

use super::bans::lifting::{self, NAMED};
use super::manual::{Asker, Wish};
use super::{Controller, show};
use crate::ban::Origin;
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::duration;

impl<D: Datapath> Controller<D> {
    /// Makes the bans one by one. A refused ban does not affect the others.
    pub(super) fn ban_many(
        &mut self,
        bans: Vec<Order>,
        force: bool,
        asker: Asker<'_>,
        now: KernelTime,
    ) -> Result<BannedMany, String> {
        may_ask(bans.iter().map(|order| order.network))?;
        let mut done = BannedMany { enforcing: self.enforcing(), ..BannedMany::default() };
        for (place, order) in bans.into_iter().enumerate() {
            let network = show(order.network.trunc());
            match self.ban_manually(self.wish(order, force), asker, now) {
                Ok(banned) => {
                    done.banned += 1;
                    done.known_peers += banned.known_peers;
                }
                Err(why) => {
                    let (place, error) = (place as u64, why.message);
                    done.refused.push(Refused { place, network, error });
                }
            }
        }
        Ok(done)
    }

    /// The request behind an order. A ban for a flood belongs to the kernel, one of a feed to its list, and one of
    /// another host to that host, so an order of one is manual.
    fn wish(&self, order: Order, force: bool) -> Wish {
        let Order { network, seconds, scope, except, reason, jail } = order;
        let origin = jail.and_then(|jail| self.jails.roster.origin(&jail));
        let origin = origin.filter(|origin| {
            !matches!(*origin, Origin::Flood | Origin::Feed(_) | Origin::Fleet | Origin::UNKNOWN)
        });
        let time = seconds.map(|seconds| Duration::from_secs(seconds).min(duration::MAX));
        let origin = origin.unwrap_or(Origin::Manual);
        Wish { network, except, time, scope, reason, force, origin }
    }

    /// Lifts the bans of exactly these networks, in the same way as an unban of each of them.
    pub(super) fn unban_several(
        &mut self,
        networks: &[IpNet],
        who: &str,
        now: KernelTime,
    ) -> Result<Lifted, String> {
        may_ask(networks.iter().copied())?;
        let (mut bans, mut names, mut refused) = (0_u64, Vec::new(), Vec::new());
        for (place, network) in networks.iter().enumerate() {
            match self.unban(*network, who, now) {
                Ok(lifted) => {
                    bans += lifted.lifted;
                    names.extend(lifted.networks);
                }
                Err(why) => {
                    let (network, error) = (show(network.trunc()), why.message);
                    refused.push(Refused { place: place as u64, network, error });
                }
            }
        }
        names.truncate(NAMED);
        let durability = Durability::default();
        Ok(Lifted { lifted: bans, refused, durability, ..lifting::answer(0, names) })
    }
}

/// Whether a request with these networks is short enough to be answered in one turn.
fn may_ask(networks: impl Iterator<Item = IpNet>) -> Result<(), String> {
    let weight: usize = networks.map(weight).sum();
    if weight > ORDERS_MAX {
        return Err(format!(
            "too many at once: {weight}, where a network counts as {}; at most {ORDERS_MAX} are possible",
            api::NETWORK_WEIGHT
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use api::{Answer, Reply, Request, TEXT_MAX, Unban};

    use super::super::tests::{NoKernel, at, fail, order, started_with};
    use super::*;

    fn started() -> Controller<NoKernel> {
        started_with(NoKernel::default(), |_default| {})
    }

    fn listed(controller: &mut Controller<NoKernel>) -> Vec<api::BanRow> {
        let answer = controller.answer(Request::Bans(api::BansQuery::default()), at(0));
        let Reply::Ok(Answer::Bans(page)) = answer else { panic!("{answer:?}") };
        page.bans
    }

    #[test]
    fn several_bans_are_made_one_by_one() {
        let mut controller = started();
        let bans = vec![
            order("192.0.2.7/32"),
            order("0.0.0.0/0"),
            Order { jail: Some("sshd".to_owned()), ..order("192.0.2.8/32") },
            Order { jail: Some("gone".to_owned()), ..order("192.0.2.9/32") },
            Order { jail: Some("flood".to_owned()), seconds: None, ..order("203.0.113.0/24") },
            Order { scope: "sap".to_owned(), ..order("192.0.2.10/32") },
            Order { reason: Some("x".repeat(TEXT_MAX + 1)), ..order("192.0.2.11/32") },
            Order { seconds: Some(u64::MAX), ..order("192.0.2.12/32") },
        ];
        let answer = controller.answer(Request::BanMany { bans, force: false }, at(0));
        let Reply::Ok(Answer::BannedMany(done)) = answer else { panic!("{answer:?}") };
        let refused: Vec<u64> = done.refused.iter().map(|refused| refused.place).collect();
        assert_eq!((done.banned, refused), (5, vec![1, 5, 6]), "{done:?}");
        let jails: Vec<(String, String)> =
            listed(&mut controller).into_iter().map(|row| (row.network, row.jail)).collect();
        let expected = [
            ("192.0.2.7", "manual"),
            ("192.0.2.8", "sshd"),
            ("192.0.2.9", "manual"),
            ("192.0.2.12", "manual"),
            ("203.0.113.0/24", "manual"),
        ];
        assert_eq!(jails, expected.map(|(network, jail)| (network.to_owned(), jail.to_owned())));
    }

    #[test]
    fn several_unbans_name_what_is_not_banned() {
        let mut controller = started();
        fail(&mut controller, [203, 0, 113, 7], 15);
        let bans = vec![order("192.0.2.7/32")];
        controller.answer(Request::BanMany { bans, force: false }, at(0));
        let networks = ["192.0.2.7/32", "192.0.2.8/32", "203.0.113.7/32"];
        let networks = networks.iter().map(|network| network.parse().unwrap()).collect();
        let answer = controller.answer(Request::Unban(Unban::Networks { networks }), at(1));
        let Reply::Ok(Answer::Lifted(lifted)) = answer else { panic!("{answer:?}") };
        assert_eq!((lifted.lifted, lifted.networks.len()), (2, 2), "{lifted:?}");
        let [refused] = &lifted.refused[..] else { panic!("{lifted:?}") };
        assert_eq!((refused.place, &*refused.network), (1, "192.0.2.8"));
        assert!(listed(&mut controller).is_empty());
    }

    #[test]
    fn a_request_is_bounded() {
        let mut controller = started();
        let addresses = |count: usize| vec![order("192.0.2.7/32"); count];
        let networks = |count: usize| vec![order("192.0.2.0/24"); count];
        for (bans, fits) in [
            (addresses(ORDERS_MAX), true),
            (addresses(ORDERS_MAX + 1), false),
            (networks(8), true),
            (networks(9), false),
        ] {
            let answer = controller.answer(Request::BanMany { bans, force: false }, at(0));
            assert_eq!(matches!(answer, Reply::Ok(_)), fits, "{answer:?}");
        }
    }
}

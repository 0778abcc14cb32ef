//! The attackers of the last minute: those that the daemon names, and those among the banned whose packets still
//! come. How many bans there are does not matter.

use std::collections::BTreeMap;
use std::time::Duration;

use api::{ActivePage, ActiveSource, BanKind, BanOf, BanRow, PACKETS_MAX};
use ipnet::IpNet;
use jiff::Timestamp;

use super::rates::{Averaged, Rate};
use crate::ban_list::network;

/// How long an attacker counts as active after its last sign.
const ACTIVE_FOR: Duration = Duration::from_mins(1);

/// How long a banned address is observed before it is given up, if no packet comes.
const OBSERVED_FOR: Duration = Duration::from_secs(15);

/// An attacker.
#[derive(Debug)]
pub(super) struct Attacker {
    pub(super) network: IpNet,
    /// What the daemon says about it; `None` for one that is only known by its ban.
    pub(super) known_as: Option<ActiveSource>,
    pub(super) ban: Option<Ban>,
    averaged: Averaged,
    /// Its packets over a limit that were reported, and the rate that follows for all of them.
    reported: Averaged,
    over_limit: Option<Rate>,
    /// When it was first observed.
    since: Duration,
    /// Whether the daemon's last answer had it.
    is_listed: bool,
}

/// The ban of an attacker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ban {
    pub(super) network: IpNet,
    pub(super) jail: String,
    pub(super) is_throttle: bool,
    pub(super) until: Option<String>,
    pub(super) packets: u64,
}

impl Attacker {
    fn new(network: IpNet, since: Duration) -> Self {
        let averaged = Averaged::default();
        let (reported, over_limit) = (Averaged::default(), None);
        let (known_as, ban, is_listed) = (None, None, false);
        Self { network, known_as, ban, averaged, reported, over_limit, since, is_listed }
    }

    /// Failures, banned packets and packets over a limit a second.
    pub(super) fn rate(&self) -> Option<Rate> {
        Some(self.averaged.rate()?.and(self.over_limit.unwrap_or_default()))
    }

    /// What counts its signs.
    fn count(&mut self, at: Duration) {
        let failures = self.known_as.as_ref().map_or(0, |known| known.failures);
        let packets = self.ban.as_ref().map_or(0, |ban| ban.packets);
        self.averaged.take(failures.saturating_add(packets), at);
    }

    fn is_active(&self, at: Duration, wall: Timestamp) -> bool {
        let grew = self.averaged.grown.is_some_and(|grown| at.saturating_sub(grown) < ACTIVE_FOR);
        let last = self.known_as.as_ref().and_then(|known| known.last.parse::<Timestamp>().ok());
        let is_recent =
            last.is_some_and(|last| wall.duration_since(last).unsigned_abs() < ACTIVE_FOR);
        grew || (self.is_listed && is_recent)
    }
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Attackers {
    of: BTreeMap<IpNet, Attacker>,
    /// The packets over a limit that were reported of all sources.
    reported: Averaged,
}

impl Attackers {
    /// The banned networks whose packets to ask for.
    pub(super) fn asked(&self) -> Vec<IpNet> {
        let others = self.of.values().filter(|attacker| !attacker.is_listed);
        let bans = others.filter_map(|attacker| Some(attacker.ban.as_ref()?.network));
        bans.take(PACKETS_MAX).collect()
    }

    /// Takes an answer to a request for the packets of the networks `asked`. `over_limit` is the rate of packets over
    /// a limit, of which the filter reports only some with their source.
    pub(super) fn take(
        &mut self,
        page: ActivePage,
        asked: &[IpNet],
        over_limit: Option<Rate>,
        at: Duration,
    ) {
        self.reported.take(page.over_limit, at);
        let all = self.reported.rate().zip(over_limit);
        for attacker in self.of.values_mut() {
            attacker.is_listed = false;
        }
        for source in page.sources {
            let Ok(net) = network(&source.source) else { continue };
            let attacker = self.of.entry(net).or_insert_with(|| Attacker::new(net, at));
            attacker.ban = source.ban.as_ref().and_then(ban_of);
            attacker.reported.take(source.over_limit, at);
            attacker.over_limit = attacker
                .reported
                .rate()
                .zip(all)
                .map(|(own, (reported, all))| own.of_all(reported, all));
            (attacker.known_as, attacker.is_listed) = (Some(source), true);
            attacker.count(at);
        }
        let counted: BTreeMap<IpNet, u64> = asked.iter().copied().zip(page.packets).collect();
        for attacker in self.of.values_mut().filter(|attacker| !attacker.is_listed) {
            if let Some(ban) = &mut attacker.ban
                && let Some(packets) = counted.get(&ban.network)
            {
                ban.packets = *packets;
                attacker.count(at);
            }
        }
        self.of.retain(|_, attacker| {
            let seen = attacker.averaged.grown.map(|grown| grown + ACTIVE_FOR);
            attacker.is_listed
                || attacker.ban.is_some()
                    && at < seen.unwrap_or_default().max(attacker.since + OBSERVED_FOR)
        });
    }

    /// Observes bans with packets: they may be of attackers that go on.
    pub(super) fn observe(&mut self, rows: &[BanRow], at: Duration) {
        for row in rows.iter().filter(|row| row.packets > 0) {
            let Ok(net) = network(&row.network) else { continue };
            let is_covered =
                |other: &Attacker| other.ban.as_ref().is_some_and(|ban| ban.network == net);
            if self.of.contains_key(&net) || self.of.values().any(is_covered) {
                continue;
            }
            let observed = self.of.values().filter(|attacker| !attacker.is_listed).count();
            if observed >= PACKETS_MAX {
                break;
            }
            let mut attacker = Attacker::new(net, at);
            attacker.ban = Some(Ban {
                network: net,
                jail: row.jail.clone(),
                is_throttle: row.kind == BanKind::Throttle,
                until: row.until.clone(),
                packets: row.packets,
            });
            attacker.count(at);
            self.of.insert(net, attacker);
        }
    }

    /// Those that are active.
    pub(super) fn active(&self, at: Duration, wall: Timestamp) -> impl Iterator<Item = &Attacker> {
        self.of.values().filter(move |attacker| attacker.is_active(at, wall))
    }
}

fn ban_of(ban: &BanOf) -> Option<Ban> {
    Some(Ban {
        network: network(&ban.network).ok()?,
        jail: ban.jail.clone(),
        is_throttle: ban.scope == "throttle",
        until: ban.until.clone(),
        packets: ban.packets,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: &str = "2026-11-29T12:00:00Z";

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn row(network: &str, packets: u64) -> BanRow {
        BanRow {
            network: network.to_owned(),
            except: Vec::new(),
            jail: "sshd".to_owned(),
            scope: "ssh".to_owned(),
            kind: BanKind::Ban,
            proven: true,
            since: WALL.to_owned(),
            since_ms: 0,
            until: None,
            packets,
            reason: String::new(),
            country: None,
            asn: None,
        }
    }

    #[test]
    fn a_banned_address_is_an_attacker_as_long_as_packets_come() {
        let mut attackers = Attackers::default();
        let wall: Timestamp = WALL.parse().unwrap();
        attackers
            .observe(&[row("192.0.2.1", 7), row("192.0.2.2", 7), row("192.0.2.3", 0)], second(1));
        let asked = attackers.asked();
        assert_eq!(asked.len(), 2);
        assert_eq!(attackers.active(second(1), wall).count(), 0);
        for n in 2..40 {
            let packets = vec![7 + 100 * n, 7];
            let page = ActivePage { packets, ..ActivePage::default() };
            let asked = attackers.asked();
            attackers.take(page, &asked, None, second(n));
        }
        let active: Vec<_> = attackers.active(second(40), wall).collect();
        let [one] = &active[..] else { panic!("{active:?}") };
        assert_eq!(
            (one.network.to_string(), one.rate()),
            ("192.0.2.1/32".to_owned(), Some(Rate(100_000)))
        );
        // The other was given up.
        assert_eq!(attackers.asked().len(), 1);
        let asked = attackers.asked();
        attackers.take(
            ActivePage { packets: vec![0], ..ActivePage::default() },
            &asked,
            None,
            second(120),
        );
        assert_eq!(attackers.asked().len(), 0);
    }

    #[test]
    fn those_over_a_limit_share_what_was_dropped() {
        let mut attackers = Attackers::default();
        let page: ActivePage =
            serde_json::from_str(include_str!("../../../docs/api/examples/active.json")).unwrap();
        let source = page.sources[0].clone();
        for n in 0..8 {
            let mut page = page.clone();
            let of = |address: &str, over_limit| ActiveSource {
                source: address.to_owned(),
                failures: 0,
                ban: None,
                over_limit,
                ..source.clone()
            };
            // 200 packets a second are reported, of 8000.
            page.sources = vec![of("192.0.2.1", 150 * n), of("192.0.2.2", 50 * n)];
            page.over_limit = 200 * n;
            attackers.take(page, &[], Some(Rate(8_000_000)), second(n));
        }
        let rates: Vec<_> = attackers.of.values().map(Attacker::rate).collect();
        assert_eq!(rates, [Some(Rate(6_000_000)), Some(Rate(2_000_000))]);
    }

    #[test]
    fn only_so_many_are_observed() {
        let mut attackers = Attackers::default();
        let rows: Vec<BanRow> = (0..200).map(|n| row(&format!("192.0.2.{n}"), 1)).collect();
        attackers.observe(&rows, second(1));
        assert_eq!(attackers.asked().len(), PACKETS_MAX);
    }
}

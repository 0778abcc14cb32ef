//! Finds the networks with enough proven offenders to be banned.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

use crate::clock::{KernelTime, Moment};
use crate::settings;

/// The most offenders that count at a time. If there are more, those with the oldest last bans do not
/// count.
pub(super) const OFFENDERS_MAX: usize = 65_536;

/// The most networks that are remembered as impossible to ban.
const SPARED_MAX: usize = 1024;

/// A network to ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// The network to ban.
    pub network: IpNet,
    /// The least number of distinct offenders in it.
    pub offenders: usize,
}

/// The offenders that count, by address.
#[derive(Debug)]
pub struct ProvenOffenders {
    settings: settings::Escalation,
    capacity: usize,
    /// When each offender was last banned.
    offenders: BTreeMap<IpAddr, Moment>,
    order: BTreeSet<(Moment, IpAddr)>,
    /// Networks that cannot be banned, with the time when that was found.
    spared: BTreeMap<IpNet, KernelTime>,
}

impl ProvenOffenders {
    /// A record without offenders, of which at most `capacity` count.
    pub fn new(settings: settings::Escalation, capacity: usize) -> Self {
        Self {
            settings,
            capacity: capacity.max(1),
            offenders: BTreeMap::new(),
            order: BTreeSet::new(),
            spared: BTreeMap::new(),
        }
    }

    /// Its settings.
    pub fn settings(&self) -> &settings::Escalation {
        &self.settings
    }

    /// The number of offenders that count, including some that have since become too old.
    pub fn len(&self) -> usize {
        self.offenders.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.offenders.is_empty()
    }

    /// Records a proven ban of an address. `at` need not be in order.
    pub fn observe(&mut self, address: IpAddr, at: Moment) {
        if !self.settings.enabled {
            return;
        }
        let at = self.forget(address).map_or(at, |before| before.max(at));
        self.offenders.insert(address, at);
        self.order.insert((at, address));
        if self.offenders.len() > self.capacity
            && let Some((_, oldest)) = self.order.first().copied()
        {
            self.forget(oldest);
        }
    }

    /// The networks around an address with enough offenders, the widest first.
    pub fn candidates(&mut self, address: IpAddr, now: KernelTime) -> Vec<Candidate> {
        self.forget_old(now);
        let of = match address {
            IpAddr::V4(_) => self.settings.ipv4,
            IpAddr::V6(_) => self.settings.ipv6,
        };
        let both = [(of.wide_prefix, of.wide_offenders), (of.prefix, of.offenders)];
        let candidates = both.into_iter().filter_map(|(length, wanted)| {
            let network = IpNet::new(address, length).ok()?.trunc();
            let wanted = usize::try_from(wanted).ok().filter(|wanted| *wanted > 0)?;
            if self.spared.contains_key(&network) {
                return None;
            }
            let inside = self.offenders.range(network.network()..=network.broadcast());
            // More offenders than this make no difference.
            let offenders = inside.take(wanted).count();
            (offenders == wanted).then_some(Candidate { network, offenders })
        });
        candidates.collect()
    }

    /// Records that a network cannot be banned, so that it is not tried again for a while.
    pub fn spare(&mut self, network: IpNet, now: KernelTime) {
        if self.spared.len() >= SPARED_MAX {
            let oldest = self.spared.iter().min_by_key(|(_, since)| **since);
            if let Some(oldest) = oldest.map(|(network, _)| *network) {
                self.spared.remove(&oldest);
            }
        }
        self.spared.insert(network, now);
    }

    /// Keeps only those offenders among the addresses of a network that are `wanted`.
    pub fn retain(&mut self, network: Option<IpNet>, wanted: impl Fn(IpAddr) -> bool) {
        let is_inside = |address: IpAddr| network.is_none_or(|network| network.contains(&address));
        let all = self.offenders.keys().copied();
        let gone: Vec<IpAddr> = all.filter(|a| is_inside(*a) && !wanted(*a)).collect();
        for address in gone {
            self.forget(address);
        }
    }

    fn forget(&mut self, address: IpAddr) -> Option<Moment> {
        let at = self.offenders.remove(&address)?;
        self.order.remove(&(at, address));
        Some(at)
    }

    fn forget_old(&mut self, now: KernelTime) {
        let findtime = self.settings.findtime;
        while let Some((at, address)) = self.order.first().copied()
            && at.age(now) >= findtime
        {
            self.order.remove(&(at, address));
            self.offenders.remove(&address);
        }
        self.spared.retain(|_, since| now.since(*since) < findtime);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{HashMap, HashSet};
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::settings::Thresholds;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> KernelTime {
        KernelTime(seconds * SECOND)
    }

    fn networks(offenders: u32, wide_offenders: u32, capacity: usize) -> ProvenOffenders {
        let of =
            |prefix, wide_prefix| Thresholds { prefix, offenders, wide_prefix, wide_offenders };
        let settings = settings::Escalation {
            enabled: true,
            findtime: Duration::from_secs(100),
            ipv4: of(24, 16),
            ipv6: of(64, 48),
            ..settings::Escalation::default()
        };
        ProvenOffenders::new(settings, capacity)
    }

    /// The networks to be banned after a ban of this address.
    fn told(networks: &mut ProvenOffenders, address: &str, second: u64) -> Vec<String> {
        let address = address.parse().unwrap();
        networks.observe(address, at(second).into());
        let candidates = networks.candidates(address, at(second));
        candidates.into_iter().map(|candidate| candidate.network.to_string()).collect()
    }

    #[test]
    fn distinct_offenders_of_a_network_and_of_a_wider_one_count() {
        let mut networks = networks(3, 5, 100);
        for (address, expected) in [
            ("203.0.113.1", &[][..]),
            ("203.0.113.2", &[]),
            ("203.0.113.2", &[]),
            ("203.0.112.3", &[]),
            ("203.0.113.3", &["203.0.113.0/24"]),
            ("203.0.7.7", &["203.0.0.0/16"]),
            ("2001:db8::1", &[]),
            ("2001:db8::2", &[]),
            ("2001:db8:0:1::3", &[]),
            ("2001:db8::ffff:0:0:3", &["2001:db8::/64"]),
            ("2001:db8:0:1::4", &["2001:db8::/48"]),
        ] {
            assert_eq!(told(&mut networks, address, 1), expected, "{address}");
        }
        let both = networks.candidates("203.0.113.9".parse().unwrap(), at(1));
        let both: Vec<(u8, usize)> =
            both.iter().map(|found| (found.network.prefix_len(), found.offenders)).collect();
        assert_eq!(both, [(16, 5), (24, 3)]);
    }

    #[test]
    fn a_network_that_cannot_be_banned_is_not_tried_again_at_once() {
        let mut networks = networks(2, 0, 100);
        assert!(told(&mut networks, "203.0.113.1", 0).is_empty());
        assert_eq!(told(&mut networks, "203.0.113.2", 50), ["203.0.113.0/24"]);
        networks.spare("203.0.113.0/24".parse().unwrap(), at(50));
        assert!(told(&mut networks, "203.0.113.3", 99).is_empty());
        assert_eq!(told(&mut networks, "203.0.113.4", 150), ["203.0.113.0/24"]);
        for n in 0..2000u32 {
            networks.spare(IpNet::from(IpAddr::from(n.to_be_bytes())), at(150 + u64::from(n)));
        }
        assert_eq!(networks.spared.len(), SPARED_MAX);
    }

    #[test]
    fn offenders_do_not_count_when_disabled() {
        let mut networks = networks(1, 1, 100);
        networks.settings.enabled = false;
        assert!(told(&mut networks, "203.0.113.1", 0).is_empty());
        assert!(networks.is_empty());
    }

    proptest! {
        /// The count agrees with one over a list of all bans.
        #[test]
        fn counts_agree_with_a_list_of_all_bans(
            wanted in 1u32..5, wide in 0u32..9,
            steps in proptest::collection::vec((0u64..30, 0u8..3, 0u8..6, any::<bool>()), 1..100),
        ) {
            let mut networks = networks(wanted, wide, 1000);
            let mut bans: HashMap<IpAddr, u64> = HashMap::new();
            let mut now = 0;
            for (gap, third, last, pardoned) in steps {
                now += gap;
                let address = IpAddr::from([203, 0, third, last]);
                if pardoned && now % 4 == 0 {
                    bans.remove(&address);
                    networks.retain(Some(address.into()), |_| false);
                    continue;
                }
                bans.insert(address, now);
                networks.observe(address, at(now).into());
                let found: HashSet<(u8, usize)> = networks
                    .candidates(address, at(now))
                    .iter()
                    .map(|found| (found.network.prefix_len(), found.offenders))
                    .collect();
                let mut expected = HashSet::new();
                for (length, wanted) in [(24, wanted), (16, wide)] {
                    let network = IpNet::new(address, length).unwrap();
                    let counts = |(a, time): &(&IpAddr, &u64)| network.contains(*a) && now - **time < 100;
                    let wanted = wanted as usize;
                    if wanted > 0 && bans.iter().filter(counts).count() >= wanted {
                        expected.insert((length, wanted));
                    }
                }
                prop_assert_eq!(found, expected);
            }
        }

        #[test]
        fn memory_is_bounded(
            capacity in 1usize..20, addresses in proptest::collection::vec(any::<[u8; 4]>(), 1..300),
        ) {
            let mut networks = networks(1000, 0, capacity);
            for (now, address) in addresses.into_iter().enumerate() {
                networks.observe(address.into(), at(now as u64 / 10).into());
                prop_assert!(networks.len() <= capacity);
                prop_assert_eq!(networks.order.len(), networks.len());
            }
        }
    }

    #[test]
    fn as_many_offenders_count_as_there_is_room_for() {
        let mut networks = networks(2, 0, 3);
        for (second, address, len, found) in [
            (1, "203.0.113.1", 1, false),
            (2, "198.51.100.1", 2, false),
            (3, "198.51.100.2", 3, true),
            // The first has been forgotten.
            (4, "203.0.113.2", 3, false),
            (5, "203.0.113.3", 3, true),
        ] {
            assert_eq!(!told(&mut networks, address, second).is_empty(), found, "{address}");
            assert_eq!((networks.len(), networks.is_empty()), (len, false), "{address}");
        }
    }
}

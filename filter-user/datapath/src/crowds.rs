//! Limits the known peers of each IPv6 network: the oldest make room. [`filter_common::crowd`] describes
//! the counts.
//!
//! Must never let the program see half an entry.

use std::cmp::Reverse;
use std::sync::atomic::{AtomicU64, Ordering};

use filter_common::address::Address;
use filter_common::crowd::{self, Crowd};
use filter_common::limits::CROWD_PLACES;

/// The desired counts, and the peers that exceed them.
#[derive(Debug)]
pub(super) struct Counted {
    counts: Vec<u64>,
    /// Peers that proved themselves longest ago, in networks with less than a quarter of their room left.
    pub(super) surplus: Vec<Address>,
}

impl Counted {
    /// Counts the known peers, each given with the end of its time.
    pub(super) fn of(peers: &mut [(Address, u64)], seed: u64) -> Self {
        peers.sort_unstable_by_key(|(_, until)| Reverse(*until));
        let places = usize::try_from(CROWD_PLACES).unwrap_or(usize::MAX);
        let mut counted = Self { counts: vec![0; places], surplus: Vec::new() };
        for (peer, _) in peers {
            let crowds = crowd::of(*peer, seed);
            let is_full = |crowd: &Crowd| {
                count(&counted.counts, *crowd).is_some_and(|count| *count >= crowd.most / 4 * 3)
            };
            if crowds.iter().flatten().any(is_full) {
                counted.surplus.push(*peer);
                continue;
            }
            for crowd in crowds.iter().flatten() {
                let place = usize::try_from(crowd.place).unwrap_or(usize::MAX);
                if let Some(count) = counted.counts.get_mut(place) {
                    *count += 1;
                }
            }
        }
        counted
    }

    /// Writes the counts. A peer that the program counts meanwhile may be missing until the next time.
    pub(super) fn write(&self, memory: &[AtomicU64]) {
        for (place, count) in memory.iter().zip(&self.counts) {
            place.store(*count, Ordering::Relaxed);
        }
    }
}

/// Counts one more peer, if its network has room.
pub(super) fn join(memory: &[AtomicU64], peer: Address, seed: u64) -> bool {
    let crowds = crowd::of(peer, seed);
    let places =
        || crowds.iter().flatten().filter_map(|crowd| Some((count(memory, *crowd)?, crowd)));
    let has_room = places().all(|(count, crowd)| count.load(Ordering::Relaxed) < crowd.most);
    if has_room {
        places().for_each(|(count, _)| {
            count.fetch_add(1, Ordering::Relaxed);
        });
    }
    has_room
}

fn count<T>(counts: &[T], crowd: Crowd) -> Option<&T> {
    counts.get(usize::try_from(crowd.place).ok()?)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use filter_common::limits::{PEERS_OF_48, PEERS_OF_64};
    use proptest::prelude::*;

    use super::*;
    use detection::prefix::SourcePrefix;

    use crate::gates::words;

    const SEED: u64 = 7;

    fn peer(network: u16, host: u16) -> Address {
        IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 1, network, 0, 0, 0, host)).into()
    }

    #[test]
    fn the_oldest_of_a_network_make_room() {
        let most = u16::try_from(PEERS_OF_64).unwrap();
        let mut peers: Vec<_> = (0..most).map(|n| (peer(1, n), u64::from(n))).collect();
        peers.push((peer(2, 1), 0));
        peers.push((IpAddr::from([192, 0, 2, 1]).into(), 0));
        let counted = Counted::of(&mut peers, SEED);
        let mut expected: Vec<_> = (0..most / 4).map(|n| peer(1, n)).collect();
        expected.reverse();
        assert_eq!(counted.surplus, expected);
        let memory = words(CROWD_PLACES);
        counted.write(&memory);
        for n in 0..most / 4 {
            assert!(join(&memory, peer(1, n), SEED), "{n}");
        }
        assert!(!join(&memory, peer(1, most), SEED));
        assert!(join(&memory, peer(2, 2), SEED));
        assert!(join(&memory, IpAddr::from([192, 0, 2, 1]).into(), SEED));
    }

    proptest! {
        /// The program and the controller agree about the source of an address.
        #[test]
        fn a_source_is_the_same_in_the_kernel(
            start in prop::sample::select(vec![
                0x2001_0db8u32, 0x2001_0000, 0xfe80_0000, 0x0064_ff9b, 0, 0xfec0_0000,
            ]),
            second in prop_oneof![0u32..4, any::<u32>()], rest: u64, any: u128, at_random: bool,
        ) {
            let near = u128::from(start) << 96 | u128::from(second) << 64 | u128::from(rest);
            let address = IpAddr::V6(Ipv6Addr::from(if at_random { any } else { near }));
            let source = SourcePrefix::ipv6(64).source(address);
            prop_assert_eq!(IpAddr::from(Address::from(address).network64()), IpAddr::from(Address::from(source)));
        }
    }

    #[test]
    fn so_do_those_of_a_wider_one() {
        let mut peers: Vec<_> = (0..8u16)
            .flat_map(|network| (0..190).map(move |host| (peer(network, host), u64::from(host))))
            .chain(
                (8..16).flat_map(|network| (0..150).map(move |host| (peer(network, host), 1000))),
            )
            .collect();
        let all = peers.len();
        let counted = Counted::of(&mut peers, SEED);
        let kept = u64::try_from(all - counted.surplus.len()).unwrap();
        assert_eq!(kept, PEERS_OF_48 / 4 * 3);
    }
}

//! Limits the known peers of an IPv6 network, because a single network has more addresses than there is
//! room for peers.

use crate::address::Address;
use crate::limits::{CROWD_PLACES, PEERS_OF_48, PEERS_OF_64};

/// The place where the known peers of a network are counted, and the limit. Networks share places by a
/// hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Crowd {
    /// The place in [`maps::CROWDS`](crate::abi::maps::CROWDS).
    pub place: u32,
    /// The most known peers that the network may have.
    pub most: u64,
}

/// The crowds to which an address belongs: of its /64 and its /48. Empty if unrelated hosts share the
/// network, and for IPv4.
#[inline(always)]
pub fn of(address: Address, seed: u64) -> Option<[Crowd; 2]> {
    let (narrow, wide) = (address.network64(), address.network48());
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let place = |network: Address| network.hash(seed) as u32 & (CROWD_PLACES - 1);
    // An address that is its own network may be one of these, or the first of its /48.
    let [first, second] = address.words();
    let is_shared = wide == address && (second != 0 || first == 0);
    (!is_shared).then(|| {
        // With another seed, so that the first /64 of a /48 is not counted twice in one place.
        [
            Crowd { place: place(narrow), most: PEERS_OF_64 },
            Crowd {
                place: place(Address::from_words([wide.words()[0], u64::MAX])),
                most: PEERS_OF_48,
            },
        ]
    })
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    fn crowds(text: &str) -> Option<[Crowd; 2]> {
        of(text.parse::<IpAddr>().unwrap().into(), 7)
    }

    #[test]
    fn a_network_is_one_crowd() {
        let [narrow, wide] = crowds("2001:db8:1:2::3").unwrap();
        assert_eq!(crowds("2001:db8:1:2:ffff::1"), Some([narrow, wide]));
        let [other, same] = crowds("2001:db8:1:3::3").unwrap();
        assert!(other.place != narrow.place && same == wide);
        assert_ne!(crowds("2001:db8:2:2::3").unwrap()[1].place, wide.place);
        let [first, around] = crowds("2001:db8:1::").unwrap();
        assert!(first.place != around.place && around == wide);
    }

    #[test]
    fn crowds_are_spread_over_all_places() {
        let mut seen = [0; 2];
        for net in 0..4096u64 {
            let address = Address::from_words([0xb80d_0120 | net << 32, 1]);
            for (seen, crowd) in seen.iter_mut().zip(of(address, 7).unwrap()) {
                assert!(crowd.place < CROWD_PLACES);
                *seen |= crowd.place;
            }
        }
        assert_eq!(seen, [CROWD_PLACES - 1; 2]);
    }

    #[test]
    fn what_many_share_is_none() {
        for shared in
            ["192.0.2.66", "64:ff9b::c000:242", "64:ff9b:1::1", "2001::1", "fe80::1", "::1"]
        {
            assert_eq!(crowds(shared), None, "{shared}");
        }
    }
}

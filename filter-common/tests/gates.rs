//! The places in the gates: the tables follow each other, and are used completely.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use filter_common::address::Address;
use filter_common::gate::{
    KNOWN_WORDS, PRESENCE_V6_NETWORKS, PRESENCE_V6_WORDS, PRESENCE_WORDS, Place, TRUST_V6_WORDS,
    TRUST_WORDS, known, network_presence, network_presence_v4, presence, presence_v4, trust_v4,
    trust_v6, trust_v6_network,
};

fn v4(bits: u32) -> Address {
    IpAddr::from(Ipv4Addr::from(bits)).into()
}

/// An address of the /32 with this number.
fn v6(network: u32) -> Address {
    IpAddr::from(Ipv6Addr::from(u128::from(network) << 96 | 1)).into()
}

fn place(word: u32, shift: u32) -> Place {
    Place { word, shift }
}

/// Checks that these places use nearly all words of a table.
fn assert_fills(places: impl Iterator<Item = Place>, table: Range<u32>) {
    let mut used = vec![0u64; table.len()];
    for place in places {
        assert!(table.contains(&place.word) && place.shift < 64, "{place:?} is not in {table:?}");
        let word = usize::try_from(place.word - table.start).expect("a word's number");
        used[word] |= 1 << place.shift;
    }
    let most = used.iter().filter(|word| **word != 0).count();
    assert!(most * 10 > used.len() * 9, "{most} of {} words", used.len());
}

#[test]
fn tables_are_as_large_as_their_numbers() {
    assert_eq!(PRESENCE_WORDS, 2 * (1 << 24) / 64 + 2 * (1 << 20) / 64);
    assert_eq!(PRESENCE_V6_WORDS, 1 << 19..PRESENCE_WORDS);
    assert_eq!(TRUST_WORDS, 3 * (1 << 16) / 64);
    assert_eq!(TRUST_V6_WORDS, 2048..3072);
    assert_eq!(KNOWN_WORDS, (1 << 18) / 64);
}

#[test]
fn ipv4_networks_have_a_bit_each() {
    assert_eq!(presence_v4(0), place(0, 0));
    assert_eq!(presence_v4(63), place(0, 63));
    assert_eq!(presence_v4(64), place(1, 0));
    assert_eq!(presence_v4((1 << 24) - 1), place((1 << 18) - 1, 63));
    assert_eq!(network_presence_v4(0), place(1 << 18, 0));
    assert_eq!(network_presence_v4((1 << 24) - 1), place((1 << 19) - 1, 63));
    assert_eq!(trust_v4(0), place(0, 0));
    assert_eq!(trust_v4((1 << 17) - 1), place(2047, 63));
    assert_eq!(presence(v4(0x0102_03ff), 7), presence_v4(0x0001_0203));
    assert_eq!(network_presence(v4(0x0102_03ff), 7), network_presence_v4(0x0001_0203));
}

#[test]
fn ipv6_networks_have_two_neighbouring_bits() {
    for network in 0..1000 {
        let (one, two) = (presence(v6(network), 7), network_presence(v6(network), 7));
        assert_eq!((one.word, one.shift + 1), (two.word, two.shift), "{network:x}");
        assert_eq!(PRESENCE_V6_NETWORKS >> one.shift & 3, 2, "{network:x}");
    }
}

#[test]
fn hashes_fill_their_tables() {
    // With only as many networks as words, a third of the words would stay empty.
    let networks = || (0..1 << 17).map(|n: u32| v6(n.wrapping_mul(0x85eb_ca6b)));
    assert_fills(networks().map(|source| presence(source, 7)), PRESENCE_V6_WORDS);
    assert_fills(networks().map(|source| trust_v6_network(source, 7)), TRUST_V6_WORDS);
    let addresses = (0..1 << 16).map(|n: u32| v6(n.wrapping_mul(0x9e37_79b1)));
    assert_fills(addresses.map(|source| trust_v6(source, 7)), TRUST_V6_WORDS);
    for source in [v4, v6] {
        let sources = || (0..1 << 16).map(|n: u32| source(n.wrapping_mul(0x9e37_79b1)));
        assert_fills(sources().map(|source| known(source, 7)), 0..KNOWN_WORDS);
    }
}

#[test]
fn the_seed_moves_hashes() {
    let moved = |place: fn(Address, u64) -> Place, source| {
        (1..100u64).filter(|seed| place(source, seed << 32 | seed) != place(source, 0)).count()
    };
    for place in [trust_v6, known, presence, trust_v6_network] {
        assert!(moved(place, v6(0x2001_0db8)) > 90);
    }
    assert!(moved(known, v4(0xc000_0242)) > 90);
}

/// Without the seed, nobody can know which networks share a place.
#[test]
fn the_seed_says_which_networks_share_a_place() {
    let networks = || (0..1 << 12).map(|n: u32| n.wrapping_mul(0x85eb_ca6b));
    for place in [presence, trust_v6_network] {
        let shared = |seed: u64| {
            let mut last = std::collections::HashMap::new();
            let twins = networks().filter_map(|n| Some((last.insert(place(v6(n), seed), n)?, n)));
            twins.collect::<Vec<_>>()
        };
        let twins = shared(0x1234_5678_9abc_def0);
        let other = 0x8765_4321_0fed_cba9;
        let still = twins.iter().filter(|(a, b)| place(v6(*a), other) == place(v6(*b), other));
        let still = still.count();
        assert!(!twins.is_empty() && still * 2 < twins.len(), "{still} of {}", twins.len());
    }
}

//! Gates: bits that say where a lookup is worthwhile, so that a packet without a ban costs no lookup with
//! a cache miss, and a dropped one no longest-prefix lookup for trust.
//!
//! A superfluous bit costs time, but a missing one would be an error. So the controller sets bits before
//! it enters the corresponding entries, and clears them after it has removed these.
//!
//! Must never lock, or need clean-up.

use crate::address::Address;

/// Words of each of the two tables of the gate of bans for IPv4, with a bit for each of 2^24 networks of
/// /24: whether an address in it may be banned, and whether a network around it may. A source without a
/// ban needs only the first, which is half as large as both together.
const PRESENCE_V4: u32 = 1 << 18;

/// Words of the gate of bans for IPv6, with two bits for each hash of a /32 network.
const PRESENCE_V6: u32 = 1 << 15;

/// Words of the gate of bans.
pub const PRESENCE_WORDS: u32 = 2 * PRESENCE_V4 + PRESENCE_V6;

/// Words of the gate of trust for IPv4, with a bit for each /17: one look decides about an address and its
/// networks.
const TRUST_V4: u32 = 1 << 11;

/// Words of the gate of trust for IPv6, with a bit for each hash of an address or of a /32 network.
const TRUST_V6: u32 = 1 << 10;

/// Words of the gate of trust.
pub const TRUST_WORDS: u32 = TRUST_V4 + TRUST_V6;

/// A position in a gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Place {
    /// The index of the word.
    pub word: u32,
    /// How far its bits are shifted.
    pub shift: u32,
}

/// The place of an address's /24 or /32 in the gate of bans: whether the address, or for IPv4 its
/// network, may be banned.
#[inline(always)]
pub fn presence(source: Address, seed: u64) -> Place {
    if let Some(word) = source.v4_word() {
        presence_v4(u32::from_be(word) >> 8)
    } else {
        place(2 * PRESENCE_V4, fold(source, seed) >> 12, 2)
    }
}

/// The place of an address's /24 or /32 in the gate of bans that says whether its network may be banned.
#[inline(always)]
pub fn network_presence(source: Address, seed: u64) -> Place {
    if let Some(word) = source.v4_word() {
        network_presence_v4(u32::from_be(word) >> 8)
    } else {
        let Place { word, shift } = presence(source, seed);
        Place { word, shift: shift | 1 }
    }
}

/// [`presence`] of an IPv4 /24 network by its number, 24 bits.
#[inline(always)]
pub fn presence_v4(number: u32) -> Place {
    place(0, number, 1)
}

/// [`network_presence`] of the same network.
#[inline(always)]
pub fn network_presence_v4(number: u32) -> Place {
    place(PRESENCE_V4, number, 1)
}

/// The place of exactly this IPv6 address in the gate of trust.
#[inline(always)]
pub fn trust_v6(source: Address, seed: u64) -> Place {
    place(TRUST_V4, (scatter(source, seed) >> 48) as u32, 1)
}

/// Words of the table of shut-out IPv4 networks, with a bit for each /24: 2 MiB.
pub const GEO_WORDS: u32 = 1 << 18;

/// The place of the IPv4 /24 with this number, 24 bits, in that table.
#[inline(always)]
pub fn geo_v4(number: u32) -> Place {
    place(0, number, 1)
}

/// Words of the gate of known peers, with a bit for each hash of 18 bits.
pub const KNOWN_WORDS: u32 = 1 << 12;

/// The place of an address in the gate of known peers.
#[inline(always)]
pub fn known(source: Address, seed: u64) -> Place {
    place(0, (scatter(source, seed) >> 46) as u32, 1)
}

/// The place of an IPv6 address's /32 in the gate of trust.
#[inline(always)]
pub fn trust_v6_network(source: Address, seed: u64) -> Place {
    place(TRUST_V4, fold(source, seed) >> 16, 1)
}

/// The place of the IPv4 /17 with this number, 17 bits, in the gate of trust.
#[inline(always)]
pub fn trust_v4(number: u32) -> Place {
    place(0, number, 1)
}

/// The words of the gate of trust for IPv6.
pub const TRUST_V6_WORDS: core::ops::Range<u32> = TRUST_V4..TRUST_WORDS;

/// The words of the gate of bans for IPv6 networks and addresses.
pub const PRESENCE_V6_WORDS: core::ops::Range<u32> = 2 * PRESENCE_V4..PRESENCE_WORDS;

/// The bits of networks in their words.
pub const PRESENCE_V6_NETWORKS: u64 = 0xaaaa_aaaa_aaaa_aaaa;

/// A cheap hash that is good enough for a gate, in which superfluous bits are allowed.
#[inline(always)]
fn scatter(source: Address, seed: u64) -> u64 {
    let [first, second] = source.words();
    (first.rotate_left(23) ^ second ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// A hash of the first 32 bits of an IPv6 address.
#[inline(always)]
fn fold(source: Address, seed: u64) -> u32 {
    let [first, _] = source.words();
    let start = (first & 0xffff_ffff) ^ (seed >> 32);
    (start.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32) as u32
}

#[inline(always)]
fn place(base: u32, number: u32, bits: u32) -> Place {
    let per_word = 64u32.wrapping_shr(bits.wrapping_sub(1));
    let (index, rest) = match bits {
        2 => (number >> 5, number & 31),
        _ => (number >> 6, number & 63),
    };
    debug_assert!(rest < per_word);
    Place { word: base.wrapping_add(index), shift: rest.wrapping_mul(bits) }
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ipv4_networks_have_places_of_their_own() {
        let at = |text: &str| presence(text.parse::<IpAddr>().unwrap().into(), 7);
        assert_eq!(at("192.0.2.1"), at("192.0.2.255"));
        assert_ne!(at("192.0.2.1"), at("192.0.3.1"));
        assert_eq!(at("255.255.255.255"), Place { word: PRESENCE_V4 - 1, shift: 63 });
        assert_eq!(at("192.0.2.1"), presence_v4(0x00c0_0002));
    }

    proptest! {
        #[test]
        fn places_are_in_their_tables(words: [u64; 2], v4: [u8; 4], seed: u64) {
            for source in [Address::from_words(words), Address::v4(v4)] {
                prop_assert!(presence(source, seed).word < PRESENCE_WORDS);
                prop_assert!(network_presence(source, seed).word < PRESENCE_WORDS);
                prop_assert!(network_presence(source, seed) != presence(source, seed));
                prop_assert!(known(source, seed).word < KNOWN_WORDS);
                for trust in [trust_v6(source, seed), trust_v6_network(source, seed)] {
                    prop_assert!(TRUST_V6_WORDS.contains(&trust.word) && trust.shift <= 63);
                }
            }
        }

        /// Whatever the other bits and the seed are: otherwise many sources could share a place.
        #[test]
        fn each_bit_of_a_source_and_of_the_seed_changes_its_hash(
            words: [u64; 2],
            seed: u64,
            bit in 0..64u32,
        ) {
            let flipped = 1 << bit;
            let [first, second] = words;
            let hash = |words, seed| scatter(Address::from_words(words), seed);
            for other in [
                hash([first ^ flipped, second], seed),
                hash([first, second ^ flipped], seed),
                hash(words, seed ^ flipped),
            ] {
                prop_assert_ne!(other, hash(words, seed));
            }
            let hash = |words, seed| fold(Address::from_words(words), seed);
            let network = 1 << (bit % 32);
            prop_assert_ne!(hash([first ^ network, second], seed), hash(words, seed));
            prop_assert_ne!(hash(words, seed ^ network << 32), hash(words, seed));
            prop_assert_eq!(hash([first ^ network << 32, second ^ flipped], seed), hash(words, seed));
        }
    }
}

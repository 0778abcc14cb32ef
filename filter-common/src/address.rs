//! The source of a packet, which stays in network order from the wire to the map key.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A packet's source, in the 128-bit form that both families share: IPv4 as an IPv4-mapped IPv6
/// address (RFC 4291 section 2.5.5.2).
///
/// The words contain its octets in the order of the wire, the first octet lowest: this is how a
/// little-endian machine reads them from the packet and writes them into a map's key. (With an enum of
/// families, the verifier would follow the rest of the program once for each.)
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Address([u64; 2]);

/// The first octet of a word.
const FIRST_OCTET: u32 = 0xff;

/// The second word of `::1`.
const LOOPBACK_V6: u64 = 1 << 56;

/// The octets 00 00 ff ff before the octets of an IPv4 address, in the second word.
const MAPPED: u64 = 0xffff_0000;

impl Address {
    /// An IPv4 source from its octets.
    #[inline(always)]
    pub fn v4(octets: [u8; 4]) -> Self {
        Self([0, u64::from(u32::from_le_bytes(octets)) << 32 | MAPPED])
    }

    /// An IPv6 source from the octets of its two halves.
    #[inline(always)]
    pub fn v6(first: [u8; 8], second: [u8; 8]) -> Self {
        Self([u64::from_le_bytes(first), u64::from_le_bytes(second)])
    }

    /// The source with these words.
    #[inline(always)]
    pub const fn from_words(words: [u64; 2]) -> Self {
        Self(words)
    }

    /// The words: the key of an IPv6 ban, and of the maps of networks.
    #[inline(always)]
    pub fn words(self) -> [u64; 2] {
        self.0
    }

    /// The key of an IPv4 ban, if it is an IPv4 address.
    #[inline(always)]
    pub fn v4_word(self) -> Option<u32> {
        let [first, second] = self.0;
        #[expect(clippy::cast_possible_truncation, reason = "the halves of the word")]
        let (marker, word) = (second as u32, (second >> 32) as u32);
        (first == 0 && u64::from(marker) == MAPPED).then_some(word)
    }

    /// Whether it is unspecified, or in the IPv4 network 0.0.0.0/8: hosts without an address use it
    /// (DHCP, duplicate address detection), and SIP cannot be answered (RFC 6890).
    #[inline(always)]
    pub fn is_unspecified(self) -> bool {
        match self.v4_word() {
            Some(word) => word & FIRST_OCTET == 0,
            None => self.0 == [0, 0],
        }
    }

    /// Whether it is impossible as the source of a packet from a wire: loopback, multicast and broadcast
    /// (RFC 6890; RFC 1122 section 3.2.1.3; RFC 4291 sections 2.5.3 and 2.7).
    #[inline(always)]
    pub fn is_martian(self) -> bool {
        let Some(word) = self.v4_word() else {
            let [first, second] = self.0;
            return first & 0xff == 0xff || first == 0 && second == LOOPBACK_V6;
        };
        word & FIRST_OCTET == 127 || word & 0xf0 == 0xe0 || word == u32::MAX
    }

    /// Whether it is in a network that is not routed on the Internet (RFC 1918, RFC 6598, RFC 4193,
    /// RFC 3927), or link-local.
    #[inline(always)]
    pub fn is_private(self) -> bool {
        let Some(word) = self.v4_word() else {
            let [first, _] = self.0;
            return first & 0xfe == 0xfc || first & 0xc0ff == 0x80fe;
        };
        word & FIRST_OCTET == 10
            || word & 0xf0ff == 0x10ac
            || word & 0xffff == 0xa8c0
            || word & 0xc0ff == 0x4064
            || word & 0xffff == 0xfea9
    }

    /// The first address of its /64, from which one host can choose its addresses; the address itself if
    /// it is IPv4, or if one /64 has many hosts.
    #[inline(always)]
    #[must_use]
    pub fn network64(self) -> Self {
        self.network64_unless(0)
    }

    /// The same, or the address itself if all bits of `single` are set.
    #[inline(always)]
    pub(crate) fn network64_unless(self, single: u64) -> Self {
        self.network(u64::MAX, single)
    }

    /// The same for a /48, which one customer has.
    #[inline(always)]
    #[must_use]
    pub fn network48(self) -> Self {
        self.network(0x0000_ffff_ffff_ffff, 0)
    }

    #[inline(always)]
    fn network(self, mask: u64, single: u64) -> Self {
        let [first, _] = self.0;
        let bits = first.swap_bytes();
        // This host's and mapped addresses (::/48), NAT64 (RFC 6052, RFC 8215), Teredo (RFC 4380), and
        // link-local addresses. There is no branch, since the verifier follows each, and this is used often.
        let is_shared = is_zero(bits >> 16)
            | is_zero(bits >> 17 ^ 0x0064_ff9b_0000 >> 1)
            | is_zero(bits >> 32 ^ 0x2001_0000)
            | is_zero(bits >> 54 ^ 0xfe80 >> 6);
        let keep = is_shared.wrapping_neg() | single;
        let [first, second] = self.0;
        Self([first & (mask | keep), second & keep])
    }

    /// A hash that spreads sources over buckets. `seed` is secret, so that nobody can choose an address
    /// that shares a bucket with another one.
    #[inline(always)]
    pub fn hash(self, seed: u64) -> u64 {
        let [first, second] = self.0;
        mix(mix(first ^ seed) ^ second)
    }
}

/// 1 if a word below 2^63 is zero, otherwise 0.
#[inline(always)]
fn is_zero(word: u64) -> u64 {
    word.wrapping_sub(1) >> 63
}

impl From<IpAddr> for Address {
    fn from(address: IpAddr) -> Self {
        match address {
            IpAddr::V4(v4) => Self::v4(v4.octets()),
            IpAddr::V6(v6) => Self(words(v6)),
        }
    }
}

impl From<Address> for IpAddr {
    fn from(address: Address) -> Self {
        match address.v4_word() {
            Some(word) => Self::V4(Ipv4Addr::from(word.to_le_bytes())),
            None => Self::V6(unwords(address.0)),
        }
    }
}

/// The words of an IPv6 address: [`Address::words`].
pub fn words(address: Ipv6Addr) -> [u64; 2] {
    let bits = u128::from_le_bytes(address.octets());
    #[expect(clippy::cast_possible_truncation, reason = "the halves of it")]
    [bits as u64, (bits >> 64) as u64]
}

/// The inverse of [`words`].
pub fn unwords([first, second]: [u64; 2]) -> Ipv6Addr {
    Ipv6Addr::from((u128::from(first) | u128::from(second) << 64).to_le_bytes())
}

/// The finaliser of `MurmurHash3` (public domain): every input bit changes half the output bits.
#[inline(always)]
fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ (x >> 33)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ipv4_maps_into_ipv6() {
        let mapped = Address::from(IpAddr::from([192, 0, 2, 66])).words();
        assert_eq!(unwords(mapped).to_ipv4_mapped(), Some(Ipv4Addr::new(192, 0, 2, 66)));
    }

    #[test]
    fn there_and_back() {
        for text in ["192.0.2.66", "2001:db8::66", "::1", "fe80::1:2:3:4"] {
            let address: IpAddr = text.parse().unwrap();
            assert_eq!(IpAddr::from(Address::from(address)), address);
        }
    }

    fn at(text: &str) -> Address {
        text.parse::<IpAddr>().unwrap().into()
    }

    #[test]
    fn what_nobody_answers_is_unspecified() {
        for (text, expected) in [
            ("0.0.0.0", true),
            ("0.0.0.1", true),
            ("0.255.255.255", true),
            ("1.0.0.0", false),
            ("255.0.0.0", false),
            ("::", true),
            ("::1", false),
            ("1::", false),
        ] {
            assert_eq!(at(text).is_unspecified(), expected, "{text}");
        }
    }

    #[test]
    fn what_the_internet_does_not_route_is_private() {
        for (text, expected) in [
            ("10.0.0.1", true),
            ("11.0.0.1", false),
            ("172.15.0.1", false),
            ("172.16.0.1", true),
            ("172.31.255.255", true),
            ("172.32.0.1", false),
            ("192.168.255.1", true),
            ("192.169.0.1", false),
            ("100.63.0.1", false),
            ("100.64.0.1", true),
            ("100.127.0.1", true),
            ("100.128.0.1", false),
            ("169.254.1.1", true),
            ("192.0.2.1", false),
            ("fc00::1", true),
            ("fdff::1", true),
            ("fe00::1", false),
            ("fe80::1", true),
            ("febf::1", true),
            ("fec0::1", false),
            ("2001:db8::1", false),
        ] {
            assert_eq!(at(text).is_private(), expected, "{text}");
        }
    }

    #[test]
    fn what_no_wire_brings_is_martian() {
        for (text, expected) in [
            ("126.255.255.255", false),
            ("127.0.0.0", true),
            ("127.255.255.255", true),
            ("128.0.0.0", false),
            ("223.255.255.255", false),
            ("224.0.0.0", true),
            ("239.255.255.255", true),
            ("240.0.0.0", false),
            ("255.255.255.254", false),
            ("255.255.255.255", true),
            ("::", false),
            ("::1", true),
            ("::2", false),
            ("1::1", false),
            ("2001:db8::1", false),
            ("fe80::1", false),
            ("feff::1", false),
            ("ff00::", true),
            ("ffff::1", true),
        ] {
            assert_eq!(at(text).is_martian(), expected, "{text}");
        }
    }

    #[test]
    fn networks_of_one_customer_have_a_first_address() {
        for (text, of64, of48) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", "2001:db8:1::"),
            ("2001:1:1:2::3", "2001:1:1:2::", "2001:1:1::"),
            ("64:ff9b:2:3::4", "64:ff9b:2:3::", "64:ff9b:2::"),
            ("64:ff9a:ffff:3::4", "64:ff9a:ffff:3::", "64:ff9a:ffff::"),
            ("0:0:1:2::3", "0:0:1:2::", "0:0:1::"),
            ("fe40::1", "fe40::", "fe40::"),
            ("fec0::1", "fec0::", "fec0::"),
        ] {
            let address = at(text);
            assert_eq!((address.network64(), address.network48()), (at(of64), at(of48)), "{text}");
        }
        for shared in [
            "192.0.2.66",
            "::1",
            "0:0:0:ffff::1",
            "64:ff9b::c000:242",
            "64:ff9b:1:ffff::1",
            "2001:0:ffff::1",
            "fe80::1",
            "febf:ffff::1",
        ] {
            let address = at(shared);
            assert_eq!((address.network64(), address.network48()), (address, address), "{shared}");
        }
    }

    #[test]
    fn every_bit_counts_in_the_hash_whatever_the_seed() {
        for seed in [0, 0x5555_5555_5555_5555, u64::MAX] {
            let hashes: [u64; 128] = core::array::from_fn(|bit| {
                let (word, shift) = (bit / 64, bit % 64);
                let mut words = [0; 2];
                words[word] = 1 << shift;
                Address::from_words(words).hash(seed)
            });
            for (place, hash) in hashes.iter().enumerate() {
                assert!(!hashes[..place].contains(hash), "bit {place}, seed {seed:x}");
            }
        }
    }

    #[test]
    fn the_finaliser_is_that_of_murmur_hash_3() {
        assert_eq!(mix(0), 0);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
        assert_eq!(mix(0x0123_4567_89ab_cdef), 0x87cb_fbfe_8902_2cea);
    }

    #[test]
    fn neighbours_spread_over_buckets() {
        let mut used = [false; 256];
        for last in 0..=255u8 {
            let bucket = Address::v4([192, 0, 2, last]).hash(7) & 0xff;
            used[usize::try_from(bucket).unwrap()] = true;
        }
        // Random placement of 256 in 256 leaves 1/e of the buckets empty, so 162 are used.
        assert!(used.iter().filter(|used| **used).count() > 130);
    }

    #[test]
    fn the_seed_moves_every_source() {
        let source = Address::from_words([1, 2]);
        assert_ne!(source.hash(1), source.hash(2));
    }
}

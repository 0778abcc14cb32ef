//! The table of banned IPv4 addresses: a bucketised cuckoo hash (Erlingsson, Manasse and
//! `McSherry`, "A cool and practical alternative to traditional hash tables", 2006) in one array.
//!
//! A [`Line`] is one cache line and holds three bans; an address is in one of two lines. So a packet
//! of any of a million banned addresses costs one cache miss, seldom two, and the table can be
//! filled to nine tenths. The kernel's own hash takes three misses and, beyond a lookup in one
//! array, the call of a helper.
//!
//! ```text
//! word 0..3   address (low half) | until (high half), zero when free
//! word 3..6   packets (48 bits) | scopes (8) | origin (8)
//! word 6..8   since, 32 bits each
//! ```
//!
//! The controller writes, in memory that it shares with the program: last of all word 0, 1 or 2,
//! in one piece, so that the program sees a ban whole or not at all.

use crate::abi::FOREVER;

/// Eight words of 64 bits.
pub type Line = [u64; 8];

/// Bans in a line.
pub const SLOTS: usize = 3;

/// Lines in which an address may be.
pub const CHOICES: usize = 2;

/// The part of the table that is filled when it holds as many bans as it is made for, in percent.
/// Beyond 95 it could not be (two choices of three slots).
pub const FILL: u64 = 90;

/// One ban, as a line holds it. Times in the units of [`unit`](crate::rate::unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slot {
    /// The address, as [`Address::v4_word`](crate::address::Address::v4_word) gives it.
    pub address: u32,
    /// When it ends; never zero.
    pub until: u32,
    /// When it began.
    pub since: u32,
    /// Sum of the `SCOPE_*`.
    pub scopes: u8,
    /// Who decided it: a number of the controller's.
    pub origin: u8,
    /// Packets it has matched, 48 bits.
    pub packets: u64,
}

const PACKETS: u64 = (1 << 48) - 1;

impl Slot {
    /// The first word: address and end.
    #[inline(always)]
    pub fn head(&self) -> u64 {
        u64::from(self.address) | u64::from(self.until) << 32
    }

    /// The second word: packets, scopes and origin.
    #[inline(always)]
    pub fn body(&self) -> u64 {
        self.packets & PACKETS | u64::from(self.scopes) << 48 | u64::from(self.origin) << 56
    }

    /// A ban from its words, if there is one.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the fields of the words")]
    pub fn from_words(head: u64, body: u64, since: u32) -> Option<Self> {
        let until = (head >> 32) as u32;
        let slot = Self {
            address: head as u32,
            until,
            since,
            scopes: (body >> 48) as u8,
            origin: (body >> 56) as u8,
            packets: body & PACKETS,
        };
        (until != 0).then_some(slot)
    }
}

/// A line where it lies in the table.
pub trait Shared {
    /// The first words of its slots.
    fn heads(&self) -> [u64; SLOTS];
    /// The first word of a slot.
    fn head(&self, slot: usize) -> u64;
    /// The second word of a slot.
    fn body(&self, slot: usize) -> u64;
    /// Counts a packet in a slot.
    fn hit(&self, slot: usize);
}

/// The lines in which an address may be, of a table of `lines`.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a hash, and less than `lines`")]
pub fn places(address: u32, seed: u64, lines: u32) -> [u32; CHOICES] {
    // Two rounds of multiply and fold: `seed` is secret, so that nobody can choose addresses that
    // share their lines.
    let mut hash = (u64::from(address) ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    let place = |half: u32, lines: u32| (u64::from(half).wrapping_mul(lines.into()) >> 32) as u32;
    let first = place((hash >> 32) as u32, lines);
    // Some way behind the first, and never the first again.
    let second = place(hash as u32 ^ seed as u32, lines.wrapping_sub(1));
    let second = first.wrapping_add(second).wrapping_add(1);
    [first, if second < lines { second } else { second.wrapping_sub(lines) }]
}

/// Lines of a table that is made for so many bans.
pub fn lines_for(bans: u32) -> u32 {
    let per_line = (SLOTS as u64).saturating_mul(FILL);
    let lines = u64::from(bans).saturating_mul(100).div_ceil(per_line);
    // A small table has no room to move bans about in.
    u32::try_from(lines.saturating_add(64)).unwrap_or(u32::MAX)
}

/// Where an address is in its two lines, by the first words of each: all ones for the second line, or
/// zero, and which slot.
///
/// Without a branch on what the lines hold. They are in no cache, and where a ban lies is a matter of
/// chance: each branch would be guessed wrong as often as not, and all that has been done meanwhile would
/// be done again when the line is there.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves of a word, and less than eight")]
pub fn find(first: [u64; SLOTS], second: [u64; SLOTS], address: u32) -> Option<(u32, usize)> {
    // One where a slot holds the address. A free slot holds none, and nobody is 0.0.0.0.
    let holds = |head: u64| u64::from(head as u32 ^ address).wrapping_sub(1) >> 63;
    let bits = |heads: [u64; SLOTS]| {
        let [none, one, two] = heads.map(holds);
        none | one << 1 | two << 2
    };
    let (first, second) = (bits(first), bits(second));
    if first | second == 0 || address == 0 {
        return None;
    }
    // All ones where the second line has it. While a ban is moved, both have.
    let of_second = (second.wrapping_sub(1) >> 63).wrapping_sub(1);
    let slots = (first & !of_second) | (second & of_second);
    Some((of_second as u32, slots as usize >> 1))
}

/// When the ban of a slot ends, by its first word.
#[inline(always)]
pub fn until(head: u64) -> u32 {
    (head >> 32) as u32
}

/// The scopes in a slot's second word.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a field of the word")]
pub fn scopes(body: u64) -> u8 {
    (body >> 48) as u8
}

/// Who decided, in a slot's second word.
#[inline(always)]
pub fn origin(body: u64) -> u8 {
    (body >> 56) as u8
}

/// Whether a ban that ends at `until` is in force at `now`, both in units.
#[inline(always)]
pub fn in_force(until: u32, now: u32) -> bool {
    now < until || until == FOREVER
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn words_and_back(
            address: u32, until in 1u32.., since: u32, scopes: u8, origin: u8,
            packets in 0..=PACKETS,
        ) {
            let slot = Slot { address, until, since, scopes, origin, packets };
            prop_assert_eq!(Slot::from_words(slot.head(), slot.body(), since), Some(slot));
            prop_assert_eq!(super::scopes(slot.body()), scopes);
            prop_assert_eq!(super::origin(slot.body()), origin);
        }

        #[test]
        fn places_are_in_the_table_and_differ(address: u32, seed: u64, lines in 2u32..1 << 31) {
            let [first, second] = places(address, seed, lines);
            prop_assert!(first < lines && second < lines && first != second);
        }
    }

    #[test]
    fn neighbours_are_spread() {
        let mut used = [0u32; 256];
        for address in 0..25_600u32 {
            for line in places(address.swap_bytes(), 7, 256) {
                used[usize::try_from(line).unwrap()] += 1;
            }
        }
        // 200 each on average; the standard deviation is 14.
        assert!(used.iter().all(|count| (120..280).contains(count)), "{used:?}");
    }

    #[test]
    fn a_table_for_a_million() {
        let lines = u64::from(lines_for(1_000_000));
        assert!(lines * 3 > 1_111_000, "{lines}");
        assert!(lines * 64 < 24 << 20, "{lines}");
    }
}

//! The table of banned IPv4 addresses: a bucketised cuckoo hash (Erlingsson, Manasse and `McSherry`, "A
//! cool and practical alternative to traditional hash tables", 2006) in one array, in which one cache
//! line decides about nearly every packet.
//!
//! A [`Line`] is one cache line with room for six bans. An address is in its first line or, if that had
//! no room, in its second one. The first line counts how many of its addresses are in their second line,
//! so that the second line is read only if necessary. Six fingerprints, which are compared at once,
//! select the slot to read.
//!
//! ```text
//! word 0      a fingerprint for each slot, 8 bits each | bans that are in their second line (8) | 0 (8)
//! word 1..7   heads: key (24 bits) | scopes (8) | in the second line (1) | until (31); zero when free
//! word 7      packets of each slot modulo 256, 8 bits each | 0 (16)
//! ```
//!
//! The lines are followed by six words of details for each: since (28) | origin (8) | packets divided by
//! 256 (28).
//!
//! **Exact.** A bijection mixes an address into a number, with a different bijection for each line. The
//! number's position among all 2^32 selects the line, and its low 24 bits are the key. A line covers
//! fewer than 2^24 numbers, so the line and the head, which is a single word, determine the address.
//! Whatever the program reads, and however old the fingerprints are that it has read, a head that matches
//! is a ban of this address.
//!
//! **Without a lock.** The controller writes into memory that it shares with the program. A head is
//! written in one access, last when a ban is entered and first when it is lifted, so the program sees a
//! complete ban or none. The fingerprints of a line are one word. No two bans in a line have the same
//! fingerprint, and no free slot has that of a ban, so the first slot that matches is the only one.
//!
//! Must never lock, or need clean-up.

use crate::abi::{FOREVER, ORIGIN_OWN, SCOPE_ALL};

/// Eight words of 64 bits.
pub type Line = [u64; 8];

/// The number of bans in a line.
pub const SLOTS: usize = 6;

/// The number of lines in which an address may be.
pub const CHOICES: usize = 2;

/// The filled part of the table when it contains as many bans as it is created for, in percent. With
/// more, more bans would be in their second line.
pub const FILL: u64 = 79;

/// The fewest lines of a table: with fewer, a line would cover more numbers than a key can express.
pub const LINES_MIN: u32 = 256;

/// The number of lines is a multiple of this, because the details of four lines fill three.
const LINES_STEP: u32 = 4;

/// The first bit of the count of bans in their second line, in a line's first word.
pub const ELSEWHERE_SHIFT: u32 = 48;

/// The word of the counts of packets.
pub const PACKETS_WORD: usize = 7;

/// The unit of 256 packets in [`details`].
pub const CARRY: u64 = 1 << 36;

const KEY: u64 = 0xff_ffff;
const SECOND: u64 = 1 << 32;
const UNTIL_SHIFT: u32 = 33;
/// [`FOREVER`] in 31 bits.
const NO_END: u32 = FOREVER >> 1;
/// The scopes of the host's own addresses. A ban by a jail that closes everything has fewer bits.
const OWN: u8 = 0xff;
/// A fingerprint in each of six bytes.
const EACH: u64 = 0x0101_0101_0101;

/// The contents of one ban in a line. Times are in the units of [`unit`](crate::rate::unit).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Slot {
    /// The address, in the form of [`Address::v4_word`](crate::address::Address::v4_word).
    pub address: u32,
    /// When it ends; never zero. 31 bits, or [`FOREVER`].
    pub until: u32,
    /// When it began, rounded to a multiple of four.
    pub since: u32,
    /// Sum of the `SCOPE_*`.
    pub scopes: u8,
    /// Its origin: a number of the controller.
    pub origin: u8,
    /// Packets that matched it, 36 bits.
    pub packets: u64,
}

impl Slot {
    /// The head, without the place.
    #[inline(always)]
    fn head(&self) -> u64 {
        let scopes = match (self.origin, self.scopes) {
            (ORIGIN_OWN, _) => OWN,
            // This closes everything too.
            (_, OWN) => SCOPE_ALL,
            (_, scopes) => scopes,
        };
        let until = match self.until {
            FOREVER => NO_END,
            until if until < NO_END => until,
            _ => NO_END.wrapping_sub(1),
        };
        u64::from(scopes) << 24 | u64::from(until) << UNTIL_SHIFT
    }

    /// The word of details, and the packets modulo 256.
    #[inline(always)]
    pub fn details(&self) -> (u64, u8) {
        let (since, origin) = (u64::from(self.since >> 2) & 0xfff_ffff, u64::from(self.origin));
        (since | origin << 28 | self.packets >> 8 << 36, (self.packets & 0xff) as u8)
    }

    /// A ban from its words, if there is one.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the fields of the words")]
    pub fn from_words(address: u32, head: u64, details: u64, packets: u8) -> Option<Self> {
        let until = until(head);
        let origin = (details >> 28) as u8;
        let slot = Self {
            address,
            until: if until == NO_END { FOREVER } else { until },
            since: ((details & 0xfff_ffff) << 2) as u32,
            scopes: if origin == ORIGIN_OWN { SCOPE_ALL } else { scopes(head) },
            origin,
            packets: details >> 36 << 8 | u64::from(packets),
        };
        (until != 0).then_some(slot)
    }
}

/// A line in its table.
pub trait Shared {
    /// The first word.
    fn fingerprints(&self) -> u64;
    /// A word of 1 to 6.
    fn head(&self, word: usize) -> u64;
    /// Counts a packet of the ban in this word. Returns whether another 256 are complete, which the
    /// details count.
    fn hit(&self, word: usize) -> bool;
    /// Adds [`CARRY`] to a word of details.
    fn carry(&self, word: usize);
}

/// A position of an address in one of its two lines, as the number that represents the address there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    number: u32,
    second: bool,
}

/// An odd number has an inverse modulo 2^32.
const fn inverse(odd: u32) -> u32 {
    // Newton's method: three bits are right, and each step doubles them.
    let three = odd;
    let six = three.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(three)));
    let twelve = six.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(six)));
    let half = twelve.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(twelve)));
    half.wrapping_mul(2u32.wrapping_sub(odd.wrapping_mul(half)))
}

const MIX: [u32; 3] = [0x9e37_79b1, 0x85eb_ca6b, 0xc2b2_ae35];

/// The inverse of the mixing.
#[inline(always)]
fn fold(number: u32) -> u32 {
    number ^ number >> 16
}

/// The halves of the seed, the second one odd.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the halves")]
fn secrets(seed: u64) -> (u32, u32) {
    (seed as u32, (seed >> 32) as u32 | 1)
}

impl Place {
    /// The place of an address in its first line. `seed` is secret, so that nobody can choose addresses
    /// that share their lines.
    #[inline(always)]
    pub fn first(address: u32, seed: u64) -> Self {
        let (add, multiply) = secrets(seed);
        let [mix, ..] = MIX;
        let number = fold((address ^ add).wrapping_mul(multiply));
        Self { number: fold(number.wrapping_mul(mix)), second: false }
    }

    /// The place in the second line, from the one in the first.
    #[inline(always)]
    #[must_use]
    pub fn second(self) -> Self {
        let [_, one, two] = MIX;
        Self { number: fold(fold(self.number.wrapping_mul(one)).wrapping_mul(two)), second: true }
    }

    /// Both places of an address.
    pub fn both(address: u32, seed: u64) -> [Self; CHOICES] {
        let first = Self::first(address, seed);
        [first, first.second()]
    }

    /// The place of a head in a line, if it is a ban.
    #[expect(clippy::cast_possible_truncation, reason = "below 2^32, and 24 bits")]
    pub fn of_head(head: u64, line: u32, lines: u32) -> Option<Self> {
        let start = (u64::from(line) << 32).div_ceil(lines.max(1).into()) as u32;
        let from_start = ((head & KEY) as u32).wrapping_sub(start) & KEY as u32;
        let number = start.wrapping_add(from_start);
        (until(head) != 0).then_some(Self { number, second: head & SECOND != 0 })
    }

    /// The address at this place.
    pub fn address(self, seed: u64) -> u32 {
        let (add, multiply) = secrets(seed);
        let [mix, one, two] = MIX.map(inverse);
        let back = fold(fold(self.number).wrapping_mul(two)).wrapping_mul(one);
        let first = if self.second { back } else { self.number };
        fold(fold(first).wrapping_mul(mix)).wrapping_mul(inverse(multiply)) ^ add
    }

    /// The line of a table with this many lines.
    #[inline(always)]
    pub fn line(self, lines: u32) -> u32 {
        (u64::from(self.number).wrapping_mul(lines.into()) >> 32) as u32
    }

    /// Whether it is in the second line of its address.
    pub fn is_second(self) -> bool {
        self.second
    }

    /// The fingerprint of this place.
    #[inline(always)]
    pub fn fingerprint(self) -> u8 {
        (self.number & 0xff) as u8
    }

    /// The word from 1 to 6 that may have the ban, according to the first word of the line; 0 if none
    /// has.
    ///
    /// Without a branch on the contents of the line: the line is not in the cache, and the slot of a ban
    /// is random, so half of the branches would be mispredicted, and the work done meanwhile would be
    /// repeated.
    #[inline(always)]
    pub fn word(self, fingerprints: u64) -> usize {
        let differ = fingerprints ^ u64::from(self.number & 0xff).wrapping_mul(EACH);
        // The lowest bit that is set belongs to the lowest zero byte; others may be set above it.
        let equal = differ.wrapping_sub(EACH) & !differ & EACH << 7;
        let lowest = equal & equal.wrapping_neg();
        // One for the first byte, two for the second, and so on.
        ((lowest >> 7).wrapping_mul(0x0102_0304_0506_0000) >> 56) as usize
    }

    /// Whether a head is a ban of this address.
    #[inline(always)]
    pub fn is_of(self, head: u64) -> bool {
        let second = if self.second { SECOND } else { 0 };
        let key = u64::from(self.number) & KEY | second;
        (head ^ key) & (KEY | SECOND) == 0
    }

    /// The head of a ban at this place.
    pub fn head(self, slot: &Slot) -> u64 {
        let second = if self.second { SECOND } else { 0 };
        u64::from(self.number) & KEY | second | slot.head()
    }
}

/// The line and the word with the details of the ban in a word from 1 to 6, in a table of this many
/// lines.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "less than there are lines")]
pub fn details(line: u32, word: usize, lines: u32) -> (u32, usize) {
    let place =
        u64::from(line).wrapping_mul(SLOTS as u64).wrapping_add(word as u64).wrapping_sub(1);
    (lines.wrapping_add((place >> 3) as u32), (place & 7) as usize)
}

/// The number of lines for this many bans, without those of details.
pub fn lines_for(bans: u32) -> u32 {
    let per_line = (SLOTS as u64).saturating_mul(FILL);
    let lines = u64::from(bans).saturating_mul(100).div_ceil(per_line);
    // A small table has too little room to move bans.
    let lines = u32::try_from(lines.saturating_add(64)).unwrap_or(u32::MAX);
    let most = u32::MAX / 2 / LINES_STEP * LINES_STEP;
    lines.clamp(LINES_MIN, most).next_multiple_of(LINES_STEP)
}

/// The number of lines including those of details.
pub fn entries_for(lines: u32) -> u32 {
    (lines / LINES_STEP).saturating_mul(7)
}

/// The inverse of [`entries_for`].
pub fn lines_of(entries: u32) -> u32 {
    (entries / 7).saturating_mul(LINES_STEP)
}

/// When the ban of a head ends, 31 bits; zero if there is no ban.
#[inline(always)]
pub fn until(head: u64) -> u32 {
    (head >> UNTIL_SHIFT) as u32
}

/// The scopes in a head.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "a field of the word")]
pub fn scopes(head: u64) -> u8 {
    (head >> 24) as u8
}

/// Whether a head is one of the host's own addresses.
#[inline(always)]
pub fn is_own(head: u64) -> bool {
    scopes(head) == OWN
}

/// Whether the ban of a head is in force at `now`, in units.
#[inline(always)]
pub fn head_in_force(head: u64, now: u32) -> bool {
    let until = until(head);
    now < until || until == NO_END
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

    fn a_lines() -> impl Strategy<Value = u32> {
        prop_oneof![Just(LINES_MIN), LINES_MIN..100_000, LINES_MIN..1 << 31]
    }

    proptest! {
        #[test]
        fn words_and_back(
            address: u32, until in 1u32..NO_END, forever: bool, since in 0u32..1 << 30,
            scopes in 0..OWN, origin in ORIGIN_OWN + 1.., packets in 0..1u64 << 36,
            seed: u64, lines in a_lines(),
        ) {
            let until = if forever { FOREVER } else { until };
            let slot = Slot { address, until, since: since & !3, scopes, origin, packets };
            let (details, count) = slot.details();
            for place in Place::both(address, seed) {
                let head = place.head(&slot);
                prop_assert!(place.is_of(head) && !is_own(head));
                prop_assert_eq!(head_in_force(head, 1), in_force(until, 1));
                let there = Place::of_head(head, place.line(lines), lines);
                prop_assert_eq!(there, Some(place));
                prop_assert_eq!(place.address(seed), address);
                prop_assert_eq!(Slot::from_words(address, head, details, count), Some(slot));
            }
        }

        /// No other address matches a head in its line, at any of its places.
        #[test]
        fn a_head_is_of_one_address(address: u32, other: u32, bit in 0u32..32, seed: u64, lines in a_lines()) {
            let slot = Slot { until: 1, ..Slot::default() };
            for place in Place::both(address, seed) {
                let (head, line) = (place.head(&slot), place.line(lines));
                for other in [other, address ^ 1 << bit] {
                    for at in Place::both(other, seed) {
                        let fits = at.line(lines) == line && at.is_of(head);
                        prop_assert_eq!(fits, other == address && at == place);
                    }
                }
                // All numbers with this key.
                for high in 0..=255u32 {
                    let number = place.number & 0xff_ffff | high << 24;
                    let at = Place { number, second: place.second };
                    prop_assert_eq!(at.line(lines) == line, at == place);
                }
            }
        }

        #[test]
        fn the_first_equal_fingerprint(bytes: [u8; 6], rest: u16, number: u32, equal in 0usize..7) {
            let mut bytes = bytes;
            if let Some(byte) = bytes.get_mut(equal) {
                *byte = (number & 0xff) as u8;
            }
            let word = bytes.iter().rev().fold(u64::from(rest), |word, byte| word << 8 | u64::from(*byte));
            let place = Place { number, second: false };
            let first = bytes.iter().position(|byte| *byte == place.fingerprint());
            prop_assert_eq!(place.word(word), first.map_or(0, |first| first + 1));
        }

        #[test]
        fn lines_and_entries(bans: u32, line: u32, word in 1usize..=SLOTS) {
            let lines = lines_for(bans);
            prop_assert!(lines >= LINES_MIN);
            prop_assert_eq!(lines_of(entries_for(lines)), lines);
            let (entry, word) = details(line % lines, word, lines);
            prop_assert!(entry >= lines && entry < entries_for(lines) && word < 8);
        }
    }

    #[test]
    fn own_addresses_are_told_from_bans() {
        let own = Slot { origin: ORIGIN_OWN, scopes: SCOPE_ALL, until: FOREVER, ..Slot::default() };
        let [place, _] = Place::both(9, 7);
        let head = place.head(&own);
        assert!(is_own(head) && head_in_force(head, 5));
        let (details, packets) = own.details();
        assert_eq!(Slot::from_words(0, head, details, packets), Some(own));
        let all = Slot { scopes: 0xff, origin: 0, ..own };
        assert!(!is_own(place.head(&all)));
        assert_eq!(scopes(place.head(&all)), SCOPE_ALL);
    }

    #[test]
    fn a_head_is_of_its_key_and_its_line_alone() {
        let slot = Slot { until: 1, ..Slot::default() };
        for second in [false, true] {
            let place = Place { number: 0x12_3456, second };
            let head = place.head(&slot);
            assert!(place.is_of(head) && place.is_second() == second);
            assert!(!Place { second: !second, ..place }.is_of(head));
            for bit in 0..24 {
                assert!(!Place { number: place.number ^ 1 << bit, second }.is_of(head), "{bit}");
            }
        }
    }

    #[test]
    fn a_ban_ends_at_its_end() {
        let last = NO_END - 1;
        for (end, kept) in
            [(1, 1), (last, last), (NO_END, last), (NO_END + 1, last), (FOREVER, NO_END)]
        {
            let head = Slot { until: end, ..Slot::default() }.head();
            assert_eq!(until(head), kept, "{end}");
        }
        let head = Slot { until: 7, ..Slot::default() }.head();
        for (now, is) in [(6, true), (7, false), (8, false)] {
            assert_eq!((in_force(7, now), head_in_force(head, now)), (is, is), "{now}");
        }
        assert!(in_force(FOREVER, FOREVER));
    }

    #[test]
    fn each_half_of_the_seed_moves_an_address() {
        let seed = 0x9e37_79b9_7f4a_7c15;
        for bit in [0, 31, 33, 63] {
            assert_ne!(Place::first(8, seed), Place::first(8, seed ^ 1 << bit), "{bit}");
        }
    }

    #[test]
    fn fingerprints_are_spread() {
        for shift in [0, 16] {
            let mut used = [0u32; 256];
            for address in 0..25_600u32 {
                for place in Place::both(address << shift, 7) {
                    used[usize::from(place.fingerprint())] += 1;
                }
            }
            // As many as in lines.
            assert!(used.iter().all(|count| (120..280).contains(count)), "{used:?}");
        }
    }

    #[test]
    fn neighbours_are_spread() {
        let mut used = [0u32; 256];
        for address in 0..25_600u32 {
            for place in Place::both(address.swap_bytes(), 7) {
                used[usize::try_from(place.line(256)).unwrap()] += 1;
            }
        }
        // 200 each on average; the standard deviation is 14.
        assert!(used.iter().all(|count| (120..280).contains(count)), "{used:?}");
    }

    #[test]
    fn a_table_has_lines_for_its_bans() {
        for (bans, lines) in [(0, LINES_MIN), (910, LINES_MIN), (911, 260), (u32::MAX, 906_111_308)]
        {
            assert_eq!(lines_for(bans), lines, "{bans}");
        }
    }

    #[test]
    fn a_table_for_a_million() {
        let lines = lines_for(1_000_000);
        assert!(u64::from(lines) * 6 > 1_260_000, "{lines}");
        assert!(u64::from(entries_for(lines)) * 64 < 24 << 20, "{lines}");
    }
}

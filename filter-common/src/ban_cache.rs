//! A cache of the bans of IPv6 addresses, in front of their map: an array of cache lines, of which one says
//! about nearly every packet of a banned address that it drops. The map needs two or three lines, one after
//! the other.
//!
//! A [`Line`] has room for three bans of the addresses that have this line:
//!
//! ```text
//! word 0..6   addresses, two words each
//! word 6      heads of slots 0 and 1: scopes (8) | end (24); zero when free
//! word 7      head of slot 2 | packets of each slot modulo 256, 8 bits each | version (8)
//! ```
//!
//! **Only what is certain.** A head that matches says that the address is banned. Everything else is asked of
//! the map: an address without a slot, other scopes, and the last seconds of a ban, because the end of a head
//! is rounded down. The controller frees a slot before it changes the ban's entry in the map, and fills it
//! afterwards. So at no time does a line say more than the map.
//!
//! **Exact, without a lock.** A slot has the whole address, and a head is written in one access: last when the
//! slot is filled, and first when it is freed. The version changes before another address is written, so
//! a reader that has read the address of one ban and the head of another notices it.
//!
//! Must never lock, need clean-up, or say that an address is not banned.

use crate::address::Address;

/// Eight words of 64 bits.
pub type Line = [u64; 8];

/// The number of bans in a line.
pub const SLOTS: usize = 3;

/// The word with the heads of the first two slots.
pub const HEADS_WORD: usize = 6;

/// The word with the head of the last slot, the packets and the version.
pub const LAST_WORD: usize = 7;

/// The first bit of the packets in the last word.
pub const PACKETS_SHIFT: u32 = 32;

/// The first bit of the version in the last word.
pub const VERSION_SHIFT: u32 = 56;

/// The packets that a slot counts. Whenever that many are complete, they are added to the entry in the map.
pub const CARRY: u64 = 256;

/// The bits of a [`unit`](crate::rate::unit) that an end omits: it is in units of 17 seconds.
const COARSE_SHIFT: u32 = 6;

/// The latest end, after nine years of uptime. Then the map decides.
const END_MAX: u32 = 0xff_ffff;

/// The fewest lines: those of one page.
const LINES_MIN: u32 = 64;

/// The number of lines for this many bans: three for sixteen, so that the memory of a host without bans stays
/// within its promise. Then nearly all bans have a slot while there are a quarter of them, and half of them
/// if there are as many as there is room for.
#[expect(clippy::cast_possible_truncation, reason = "at most a fifth of a number of 32 bits")]
pub fn lines_for(bans: u32) -> u32 {
    ((u64::from(bans) * 3 / 16) as u32).max(LINES_MIN)
}

/// The line of an address. `seed` is secret, so that nobody can choose addresses that share a line.
#[inline(always)]
pub fn line(source: Address, seed: u64, lines: u32) -> u32 {
    ((source.hash(seed) >> 32).wrapping_mul(lines.into()) >> 32) as u32
}

/// The head of a ban with these scopes that ends at `until`, in units; zero if the map must decide.
#[inline(always)]
pub fn head(scopes: u8, until: u32) -> u32 {
    let end = until >> COARSE_SHIFT;
    let end = if end < END_MAX { end } else { END_MAX };
    if end == 0 { 0 } else { u32::from(scopes) | end << 8 }
}

/// A line in its array.
pub trait Shared: Sized {
    /// A word of 0 to 7.
    fn word(&self, place: usize) -> u64;
    /// The same line, whose words are read after `read`, which has been read from it.
    #[must_use]
    fn after(&self, read: u64) -> Self;
    /// All ones if the word is zero, and zero otherwise.
    ///
    /// In the kernel without a branch on the contents of the line, for the reason of
    /// [`Place::word`](crate::ban_table::Place::word).
    fn if_zero(word: u64) -> u64 {
        if word == 0 { u64::MAX } else { 0 }
    }
    /// Counts a packet of the ban in this slot. Returns whether another [`CARRY`] are complete, which the
    /// entry counts.
    fn hit(&self, slot: usize) -> bool;
}

/// The slot of an address in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its head; zero if there is none.
    pub head: u32,
    /// Its number.
    pub slot: usize,
}

impl Found {
    /// Whether it is certain that the address is banned from a sum of `SCOPE_*` at `now`, in units.
    #[inline(always)]
    pub fn bans(self, reach: u8, now: u32) -> bool {
        self.head & u32::from(reach) != 0 && now >> COARSE_SHIFT < self.head >> 8
    }
}

/// The slot of an address in its line.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the fields of the words")]
pub fn find<L: Shared>(line: &L, [first, second]: [u64; 2]) -> Found {
    let last = line.word(LAST_WORD);
    let heads = line.after(last).word(HEADS_WORD);
    // In this order, so that the address was complete when its head was read.
    let addresses = line.after(heads);
    let slot = |number: usize, head: u64| {
        let word = number.wrapping_mul(2);
        let differs = addresses.word(word) ^ first | addresses.word(word.wrapping_add(1)) ^ second;
        (differs, L::if_zero(differs) & (head & 0xffff_ffff | (number as u64) << 32))
    };
    let [one, two, three] = [slot(0, heads), slot(1, heads >> 32), slot(2, last)];
    let (read, found) = (one.0 | two.0 | three.0, one.1 | two.1 | three.1);
    let changed = (line.after(read).word(LAST_WORD) ^ last) >> VERSION_SHIFT != 0;
    Found { head: if changed { 0 } else { found as u32 }, slot: (found >> 32) as usize }
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use proptest::prelude::*;

    use super::*;
    use crate::abi::FOREVER;
    use crate::ban_table::in_force;

    /// A line that does not change.
    impl Shared for Line {
        fn word(&self, place: usize) -> u64 {
            self[place]
        }

        fn after(&self, _read: u64) -> Self {
            *self
        }

        fn hit(&self, _slot: usize) -> bool {
            false
        }
    }

    /// How many words a reader reads.
    const READS: usize = 9;

    /// A line that a writer changes: what it is at each read.
    struct Changing<'a> {
        states: &'a [Line],
        at: [usize; READS],
        reads: &'a Cell<usize>,
    }

    impl Shared for Changing<'_> {
        fn word(&self, place: usize) -> u64 {
            let read = self.reads.get();
            self.reads.set(read + 1);
            self.states[self.at[read]][place]
        }

        fn after(&self, _read: u64) -> Self {
            Self { ..*self }
        }

        fn hit(&self, _slot: usize) -> bool {
            false
        }
    }

    fn with(bans: [([u64; 2], u32); SLOTS], counts: u64) -> Line {
        let [one, two, three] = bans;
        let heads = u64::from(one.1) | u64::from(two.1) << 32;
        let last = u64::from(three.1) | counts << PACKETS_SHIFT;
        [one.0[0], one.0[1], two.0[0], two.0[1], three.0[0], three.0[1], heads, last]
    }

    fn words() -> impl Strategy<Value = [u64; 2]> {
        // Often addresses with equal halves.
        prop_oneof![any::<[u64; 2]>(), [0..3u64, 0..3u64]]
    }

    proptest! {
        /// What a head says is what the entry says, and for all but the end of a ban it says it.
        #[test]
        fn a_head_says_no_more_than_the_entry(
            scopes: u8, reach: u8, now: u32, until in prop_oneof![any::<u32>(), Just(FOREVER)], near in -200..200i64,
        ) {
            let near = u32::try_from((i64::from(until) + near).clamp(0, u32::MAX.into())).unwrap();
            for now in [now, near] {
                let found = Found { head: head(scopes, until), slot: 0 };
                let is_banned = scopes & reach != 0 && in_force(until, now);
                let is_early = now < until.saturating_sub(1 << COARSE_SHIFT) && now >> COARSE_SHIFT < END_MAX;
                prop_assert!(is_banned || !found.bans(reach, now));
                prop_assert!(found.bans(reach, now) || !is_banned || !is_early);
            }
        }

        /// A line finds each of its bans, and no other address.
        #[test]
        fn a_slot_is_of_one_address(
            addresses: [u64; 6], counts: u32, heads in [1..u32::MAX, 1..u32::MAX, 1..u32::MAX],
            other in words(), bit in 0..128u32,
        ) {
            let [a, b, c, d, e, f] = addresses;
            let bans = [[a, b], [c, d], [e, f]];
            let line = with([(bans[0], heads[0]), (bans[1], heads[1]), (bans[2], heads[2])], counts.into());
            let of = |address| bans.iter().position(|ban| *ban == address);
            for (slot, address) in bans.into_iter().enumerate() {
                if bans.iter().filter(|ban| **ban == address).count() == 1 {
                    prop_assert_eq!(find(&line, address), Found { head: heads[slot], slot });
                }
                let [first, second] = address;
                let flipped = 1u128 << bit;
                let near = [
                    first ^ u64::try_from(flipped & u128::from(u64::MAX)).unwrap(),
                    second ^ u64::try_from(flipped >> 64).unwrap(),
                ];
                let mixed = [[first, bans[(slot + 1) % SLOTS][1]], [second, first]];
                for other in [near, other].into_iter().chain(mixed).filter(|other| of(*other).is_none()) {
                    prop_assert_eq!(find(&line, other), Found { head: 0, slot: 0 });
                }
            }
        }

        #[test]
        fn a_line_is_one_of_the_lines(words: [u64; 2], seed: u64, bans: u32) {
            let lines = lines_for(bans);
            prop_assert!(lines >= LINES_MIN);
            prop_assert!(line(Address::from_words(words), seed, lines) < lines);
            prop_assert_eq!(line(Address::from_words(words), seed, 0), 0);
        }
    }

    #[test]
    fn there_are_three_lines_for_sixteen_bans() {
        for (bans, lines) in [
            (0, LINES_MIN),
            (341, LINES_MIN),
            (342, LINES_MIN),
            (347, 65),
            (131_072, 24_576),
            (u32::MAX, 805_306_367),
        ] {
            assert_eq!(lines_for(bans), lines, "{bans}");
        }
    }

    /// However the reads of a reader and the writes of a slot's next ban meet, it finds neither an address that
    /// is not banned, nor the head of the other ban.
    #[test]
    fn a_slot_that_changes() {
        let (old_head, new_head) = (head(1, 9000), head(2, 8000));
        let mut schedules = 0;
        for (slot, [old, new]) in (0..SLOTS).flat_map(|slot| {
            [[[1, 2], [3, 4]], [[1, 2], [1, 4]], [[1, 2], [3, 2]], [[1, 2], [2, 1]]]
                .map(|bans| (slot, bans))
        }) {
            // The writer's steps: the slot is free, another version, the address, the head.
            let steps = [
                (old, old_head, 0),
                (old, 0, 0),
                (old, 0, 1),
                ([new[0], old[1]], 0, 1),
                (new, 0, 1),
                (new, new_head, 1),
            ];
            let states = steps.map(|(address, head, version)| {
                let mut bans = [([7, 7], 0); SLOTS];
                bans[slot] = (address, head);
                with(bans, version << (VERSION_SHIFT - PACKETS_SHIFT))
            });
            let mut at = [0; READS];
            loop {
                for address in [old, new, [old[0], new[1]], [new[0], old[1]]] {
                    let reads = Cell::new(0);
                    let found = find(&Changing { states: &states, at, reads: &reads }, address);
                    assert_eq!(reads.get(), READS);
                    let is_right = found.head == 0
                        || address == old && found.head == old_head
                        || address == new && found.head == new_head;
                    assert!(is_right, "{address:?} in {slot} at {at:?}: {:#x}", found.head);
                }
                schedules += 1;
                // The next schedule, in which no read sees less than one before it.
                let Some(place) = at.iter().rposition(|state| *state + 1 < states.len()) else {
                    break;
                };
                let state = at[place] + 1;
                at[place..].fill(state);
            }
        }
        assert_eq!(schedules, 12 * 2002);
    }

    #[test]
    fn neighbours_are_spread() {
        for shift in [0, 16, 48] {
            let mut used = [0u32; 256];
            for number in 0..51_200u64 {
                for words in [[number << shift, 9], [9, number << shift]] {
                    let line = line(Address::from_words(words), 7, 256);
                    used[usize::try_from(line).unwrap()] += 1;
                }
            }
            // 400 each on average; the standard deviation is 20.
            assert!(used.iter().all(|count| (300..500).contains(count)), "{used:?}");
        }
    }

    #[test]
    fn each_half_of_the_seed_moves_an_address() {
        let at = |seed| line(Address::from_words([8, 9]), seed, 1 << 20);
        for bit in [0, 31, 33, 63] {
            assert_ne!(at(7), at(7 ^ 1 << bit), "{bit}");
        }
    }
}

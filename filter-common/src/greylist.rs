//! The greylist: lets in a REGISTER that was dropped before and is sent again.
//!
//! Under a flood from forged sources the budget that unknown sources share is used up, and an honest
//! phone that is not known yet has no part of it. But it sends its request again, byte for byte,
//! after half a second, a second, two and four (RFC 3261 section 17.1.2.2, timer E), with the same
//! branch and Call-ID; what forges a million sources sends each packet once. So the first one is
//! remembered and dropped, and the one that repeats it is let in, and its source for a while.
//!
//! A [`Line`] is one cache line: the number of the next cell, and a ring of cells. A cell holds a tag
//! of 20 bits and a time of 12, in units of [`UNIT_SHIFT`]. So the table forgets in the order in which it
//! learned: with [`GREYLIST_LINES`](crate::limits::GREYLIST_LINES) lines, after about a second at
//! half a million forged packets a second.

/// Words of a line: the number and the cells.
pub const CELLS: usize = 16;

/// One cache line.
pub type Line = [u32; CELLS];

/// A cell's unit of time: 2^27 nanoseconds, an eighth of a second.
pub const UNIT_SHIFT: u32 = 27;

/// The time in a cell: 12 bits, nine minutes.
const TIME: u32 = 0xfff;

/// Units after which the same request is a retransmission and no duplicate of the network's: T1 of
/// RFC 3261 is 500 ms, and its start may lie at the end of a unit.
const SOONEST: u32 = 2;

/// Units after which it is forgotten: timer F of RFC 3261, 32 s.
const LATEST: u32 = 256;

/// Units for which a source that was let in stays so, time enough to answer the challenge.
const ADMITTED: u32 = 64;

/// A line where it lies in its table.
pub trait Cells {
    /// A cell.
    fn load(&self, cell: usize) -> u32;
    /// Writes a cell.
    fn store(&self, cell: usize, value: u32);
}

#[inline(always)]
fn now_unit(now: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "12 bits of it")]
    let unit = (now >> UNIT_SHIFT) as u32;
    unit & TIME
}

/// Units since a tag was entered last; more than [`TIME`] when it is not there. Without a branch:
/// the verifier would follow what comes behind once for each cell.
#[inline(always)]
fn age(line: &impl Cells, tag: u32, now: u32) -> u32 {
    let mut youngest = u32::MAX >> 1;
    for cell in 1..CELLS {
        let value = line.load(cell);
        let differs = value >> 12 ^ tag;
        // All ones where it is another's: of 20 bits, only zero is negative after one is taken off.
        let other = (differs.wrapping_sub(1) >> 31).wrapping_sub(1);
        let age = now.wrapping_sub(value) & TIME | other >> 1;
        let younger = age.wrapping_sub(youngest);
        youngest = youngest.wrapping_add(younger & (younger >> 31).wrapping_neg());
    }
    youngest
}

#[inline(always)]
fn enter(line: &impl Cells, tag: u32, now: u32) {
    let next = line.load(0) & 15;
    let cell = next | next.wrapping_sub(1) >> 31;
    line.store(0, cell.wrapping_add(1));
    line.store(cell as usize, tag << 12 | now);
}

/// A tag of 20 bits, never zero.
#[inline(always)]
fn tag(hash: u64) -> u32 {
    (hash >> 44) as u32 | 1
}

/// Notes a request by its hash. Whether it repeats one that was noted a retransmission's time ago.
#[inline(always)]
pub fn repeats(line: &impl Cells, hash: u64, now: u64) -> bool {
    let (tag, now) = (tag(hash), now_unit(now));
    let age = age(line, tag, now);
    if age > LATEST {
        enter(line, tag, now);
    }
    (SOONEST..=LATEST).contains(&age)
}

/// Notes that a source was let in.
#[inline(always)]
pub fn admit(line: &impl Cells, hash: u64, now: u64) {
    enter(line, tag(hash), now_unit(now));
}

/// Whether a source was let in of late.
#[inline(always)]
pub fn is_admitted(line: &impl Cells, hash: u64, now: u64) -> bool {
    age(line, tag(hash), now_unit(now)) <= ADMITTED
}

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    const MILLISECOND: u64 = 1_000_000;

    #[derive(Default)]
    struct Memory([Cell<u32>; CELLS]);

    impl Cells for Memory {
        fn load(&self, cell: usize) -> u32 {
            self.0[cell].get()
        }

        fn store(&self, cell: usize, value: u32) {
            self.0[cell].set(value);
        }
    }

    #[test]
    fn timer_e_is_let_in() {
        for start in [0, 1, 100, 133, 134, 1_000_000, 549_755] {
            // Each of timer E's retransmissions repeats the one before.
            let line = Memory::default();
            let at = |after: u64| (start + after) * MILLISECOND;
            assert!(!repeats(&line, 7 << 44, at(0)));
            for after in [500, 1500, 3500, 7500, 11_500, 15_500, 31_500] {
                assert!(repeats(&line, 7 << 44, at(after)), "{after} ms after {start}");
            }
        }
    }

    #[test]
    fn duplicates_and_late_ones_are_not() {
        let line = Memory::default();
        let hash = 99 << 44;
        assert!(!repeats(&line, hash, 0));
        assert!(!repeats(&line, hash, 0));
        assert!(!repeats(&line, hash, 130 * MILLISECOND));
        assert!(!repeats(&line, hash, 36_000 * MILLISECOND));
        assert!(repeats(&line, hash, 37_000 * MILLISECOND), "it was noted anew");
    }

    #[test]
    fn others_push_the_oldest_out() {
        let line = Memory::default();
        let second = 1000 * MILLISECOND;
        for n in 0..=16u64 {
            assert!(!repeats(&line, (2 * n + 3) << 44, second + n * 135 * MILLISECOND));
        }
        assert!(!repeats(&line, 3 << 44, 4 * second), "it was the oldest");
        assert!(repeats(&line, 35 << 44, 4 * second), "the youngest is still there");
    }

    #[test]
    fn a_source_stays_let_in_for_seconds() {
        let line = Memory::default();
        let hash = 5 << 44;
        assert!(!is_admitted(&line, hash, 0));
        admit(&line, hash, 0);
        assert!(is_admitted(&line, hash, 8000 * MILLISECOND));
        assert!(!is_admitted(&line, hash, 9000 * MILLISECOND));
    }
}

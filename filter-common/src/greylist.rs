//! The greylist: admits a REGISTER that was dropped before and is retransmitted.
//!
//! A flood from forged sources exhausts the limits that unknown sources share, and leaves nothing for an
//! honest phone that is not known yet. But the phone retransmits its request unchanged after half a
//! second, a second, two and four (RFC 3261 section 17.1.2.2, timer E), with the same branch and Call-ID;
//! an attacker that forges a million sources sends each packet once. So the first request is remembered
//! and dropped. Its retransmission is admitted, and then its source for a while.
//!
//! A [`Line`] is one cache line for a hash of sources: the number of the next cell, and a ring of cells.
//! A cell contains a tag of 20 bits, of a request or of an admitted source, and a time of 12 bits, in
//! units of [`UNIT_SHIFT`]. Eight bits of a tag are of the source alone, so that a request need not be hashed to
//! know that it is not in the line. A request is recorded only if the next cell is old enough for a
//! retransmission. So of many requests at once the first ones stay, in a flood that is too fast to record
//! as well as for a hundred phones behind one address.
//!
//! Must never lock, or need clean-up.

/// Words of a line: the number of the next cell, and the cells.
pub const CELLS: usize = 16;

/// One cache line.
pub type Line = [u32; CELLS];

/// A cell's unit of time: 2^27 nanoseconds, an eighth of a second.
pub const UNIT_SHIFT: u32 = 27;

/// The time in a cell: 12 bits, nine minutes.
const TIME: u32 = 0xfff;

/// Units after which the same request is a retransmission and not a duplicate by the network: T1 of RFC
/// 3261 is 500 ms, and may begin at the end of a unit.
const SOONEST: u32 = 2;

/// Units after which it is forgotten: timer F of RFC 3261, 32 s.
const LATEST: u32 = 256;

/// Units for which a source stays admitted, enough to answer the challenge.
const ADMITTED: u32 = 64;

/// A line in its table.
pub trait Cells {
    /// A cell.
    fn load(&self, cell: usize) -> u32;
    /// Two cells, with the one at twice this index in the lower half.
    fn pair(&self, pair: usize) -> u64;
    /// Writes a cell.
    fn store(&self, cell: usize, value: u32);
}

/// The state of a request in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It is new, or was sent only a moment ago.
    New,
    /// It is a retransmission.
    Repeated,
    /// Its source was admitted recently.
    Admitted,
}

#[inline(always)]
fn now_unit(now: u64) -> u32 {
    #[expect(clippy::cast_possible_truncation, reason = "12 bits of it")]
    let unit = (now >> UNIT_SHIFT) as u32;
    unit & TIME
}

/// Units since a tag was last entered; more than [`TIME`] if it is not there. Without a branch: the
/// verifier would follow the code after it once for each cell.
#[inline(always)]
fn age(line: &impl Cells, tag: u32, now: u32) -> u32 {
    let mut youngest = u32::MAX >> 1;
    for cell in 1..CELLS {
        let value = line.load(cell);
        let differs = value >> 12 ^ tag;
        // All ones if the cell has another tag: with 20 bits, only zero becomes negative when one is
        // subtracted.
        let other = (differs.wrapping_sub(1) >> 31).wrapping_sub(1);
        let age = now.wrapping_sub(value) & TIME | other >> 1;
        let younger = age.wrapping_sub(youngest);
        youngest = youngest.wrapping_add(younger & (younger >> 31).wrapping_neg());
    }
    youngest
}

/// Whether one of two tags is in a line, comparing these bits of a cell: compares eight words of two cells each,
/// without a branch.
#[inline(always)]
fn has_one<const BITS: u32>(line: &impl Cells, first: u32, second: u32) -> bool {
    const LOW: u64 = 0x0000_0001_0000_0001;
    let both = |tag: u32| u64::from(tag << 12 & BITS).wrapping_mul(LOW);
    let (first, second) = (both(first), both(second));
    // The high bit of a half that is zero, and perhaps of one above it (Hacker's Delight, section 6-1).
    let zeros = |word: u64| word.wrapping_sub(LOW) & !word;
    let mut found = 0;
    for pair in 0..CELLS / 2 {
        let tags = line.pair(pair) & u64::from(BITS).wrapping_mul(LOW);
        found |= zeros(tags ^ first) | zeros(tags ^ second);
    }
    found & 0x8000_0000_8000_0000 != 0
}

/// The bits of a tag in a cell.
const TAG: u32 = 0xffff_f000;

/// The bits in a cell that only depend on the source.
const OF_SOURCE: u32 = 0xff00_0000;

/// Writes the next cell if it is older than `least`.
#[inline(always)]
fn enter(line: &impl Cells, tag: u32, now: u32, least: u32) {
    let cell = next(line);
    if is_older(line, cell, now, least) {
        line.store(0, cell.wrapping_add(1));
        line.store(cell as usize, tag << 12 | now);
    }
}

/// The next cell of the ring.
#[inline(always)]
fn next(line: &impl Cells) -> u32 {
    let next = line.load(0) & 15;
    next | next.wrapping_sub(1) >> 31
}

/// Whether a cell is free, or at least so old.
#[inline(always)]
fn is_older(line: &impl Cells, cell: u32, now: u32, least: u32) -> bool {
    let old = line.load(cell as usize);
    old == 0 || now.wrapping_sub(old) & TIME >= least
}

/// Prefetches a line, which is in no cache, while other work is done.
#[inline(always)]
pub fn fetch(line: &impl Cells) {
    let _first = line.load(0);
}

/// A tag of 20 bits, never zero. Tags of requests and of sources differ.
#[inline(always)]
fn tag(hash: u64, of_source: bool) -> u32 {
    ((hash >> 44) as u32 | 1) & !2 | if of_source { 2 } else { 0 }
}

/// The tag of a source's request. Its first eight bits are the source's.
#[inline(always)]
fn tag_of(source: u64, request: u64) -> u32 {
    const OWN: u64 = u64::MAX >> 8;
    tag(source & !OWN | request >> 8, false)
}

/// Whether [`ask`] needs to know the request: the line may have something of its source, or has room for the
/// request. In a flood it has neither, and then the request need not be hashed.
#[inline(always)]
pub fn wants(line: &impl Cells, source: u64, now: u64) -> bool {
    let source = tag(source, true);
    is_older(line, next(line), now_unit(now), NOTED) || has_one::<OF_SOURCE>(line, source, source)
}

/// Looks up a request by its hash and that of its source, and records it if it is new.
#[inline(always)]
pub fn ask(line: &impl Cells, source: u64, request: u64, now: u64) -> Told {
    let (source, request, now) = (tag(source, true), tag_of(source, request), now_unit(now));
    if has_one::<TAG>(line, source, request) {
        if age(line, source, now) <= ADMITTED {
            return Told::Admitted;
        }
        match age(line, request, now) {
            SOONEST..=LATEST => return Told::Repeated,
            0..SOONEST => return Told::New,
            _ => {}
        }
    }
    enter(line, request, now, NOTED);
    Told::New
}

/// Whether a request was recorded before, and long enough ago for a retransmission. Records it, so that of
/// many copies only a few pass.
#[inline(always)]
pub fn is_repeated(line: &impl Cells, request: u64, now: u64) -> bool {
    let (tag, now) = (tag(request, false), now_unit(now));
    let age = if has_one::<TAG>(line, tag, tag) { age(line, tag, now) } else { u32::MAX };
    if age < SOONEST {
        return false;
    }
    let repeated = age <= LATEST;
    enter(line, tag, now, if repeated { 0 } else { NOTED });
    repeated
}

/// Records that a source was admitted, unless this was recorded a moment ago.
#[inline(always)]
pub fn admit(line: &impl Cells, source: u64, now: u64) {
    let (tag, now) = (tag(source, true), now_unit(now));
    if !has_one::<TAG>(line, tag, tag) || age(line, tag, now) > ADMITTED / 2 {
        enter(line, tag, now, 0);
    }
}

/// Units for which a cell is kept: T1, which may begin at the end of a unit.
const NOTED: u32 = 5;

#[cfg(test)]
mod tests {
    use core::cell::Cell;

    use super::*;

    const MILLISECOND: u64 = 1_000_000;
    const SOURCE: u64 = 0x1234 << 44;

    #[derive(Default)]
    struct Memory([Cell<u32>; CELLS]);

    impl Cells for Memory {
        fn load(&self, cell: usize) -> u32 {
            self.0[cell].get()
        }

        fn pair(&self, pair: usize) -> u64 {
            u64::from(self.load(2 * pair)) | u64::from(self.load(2 * pair + 1)) << 32
        }

        fn store(&self, cell: usize, value: u32) {
            self.0[cell].set(value);
        }
    }

    /// The hash of request `n` of 255.
    fn request(n: u64) -> u64 {
        (4 * n + 4) << 54
    }

    #[test]
    fn timer_e_is_let_in() {
        for start in [0, 1, 100, 133, 134, 1_000_000, 549_755] {
            let line = Memory::default();
            let at = |after: u64| (start + after) * MILLISECOND;
            assert_eq!(ask(&line, SOURCE, request(7), at(0)), Told::New);
            for after in [500, 1500, 3500, 7500, 11_500, 15_500, 31_500] {
                let told = ask(&line, SOURCE, request(7), at(after));
                assert_eq!(told, Told::Repeated, "{after} ms after {start}");
            }
        }
    }

    #[test]
    fn duplicates_and_late_ones_are_not() {
        let line = Memory::default();
        let ask = |after| ask(&line, SOURCE, request(99), after * MILLISECOND);
        for after in [0, 0, 130, 36_000] {
            assert_eq!(ask(after), Told::New, "{after} ms");
        }
        assert_eq!(ask(37_000), Told::Repeated, "it was noted anew");
    }

    #[test]
    fn of_many_at_once_the_first_stay() {
        let line = Memory::default();
        let second = 1000 * MILLISECOND;
        for n in 0..200 {
            assert_eq!(ask(&line, SOURCE, request(n), second), Told::New);
        }
        let again = 1500 * MILLISECOND;
        assert_eq!(ask(&line, SOURCE, request(0), again), Told::Repeated);
        assert_eq!(ask(&line, SOURCE, request(14), again), Told::Repeated);
        assert_eq!(ask(&line, SOURCE, request(15), again), Told::New);
        // By now the others are old enough to make room.
        for n in 220..235 {
            assert_eq!(ask(&line, SOURCE, request(n), 2 * second), Told::New);
        }
        assert_eq!(ask(&line, SOURCE, request(0), 3 * second), Told::New);
    }

    #[test]
    fn a_source_stays_let_in_for_seconds() {
        let line = Memory::default();
        for n in 0..20 {
            ask(&line, SOURCE, request(n), 0);
        }
        admit(&line, SOURCE, 0);
        assert_eq!(ask(&line, SOURCE, request(240), 8000 * MILLISECOND), Told::Admitted);
        assert_eq!(ask(&line, SOURCE, request(240), 9000 * MILLISECOND), Told::New);
    }

    #[test]
    fn the_bounds_of_a_retransmission() {
        for (units, told) in [
            (SOONEST - 1, Told::New),
            (SOONEST, Told::Repeated),
            (LATEST, Told::Repeated),
            (LATEST + 1, Told::New),
        ] {
            let line = Memory::default();
            let at = |units: u32| u64::from(units + 7) << UNIT_SHIFT;
            assert_eq!(ask(&line, SOURCE, request(7), at(0)), Told::New);
            assert_eq!(ask(&line, SOURCE, request(7), at(units)), told, "{units}");
        }
    }

    /// The network may deliver a packet twice.
    #[test]
    fn a_duplicate_does_not_start_the_time_anew() {
        let line = Memory::default();
        let at = |units: u32| u64::from(units + 7) << UNIT_SHIFT;
        for (units, told) in [(0, Told::New), (SOONEST - 1, Told::New), (SOONEST, Told::Repeated)] {
            assert_eq!(ask(&line, SOURCE, request(7), at(units)), told, "{units}");
        }
    }

    #[test]
    fn the_bounds_of_a_request_of_one_that_is_over_a_limit() {
        for (units, repeated) in
            [(SOONEST - 1, false), (SOONEST, true), (LATEST, true), (LATEST + 1, false)]
        {
            let line = Memory::default();
            let at = |units: u32| u64::from(units + 7) << UNIT_SHIFT;
            assert!(!is_repeated(&line, request(7), at(0)));
            assert_eq!(is_repeated(&line, request(7), at(units)), repeated, "{units}");
        }
    }

    #[test]
    fn the_bounds_of_a_source_that_was_let_in() {
        let at = |units: u32| u64::from(units + 7) << UNIT_SHIFT;
        for (units, told) in [(ADMITTED, Told::Admitted), (ADMITTED + 1, Told::New)] {
            let line = Memory::default();
            admit(&line, SOURCE, at(0));
            assert_eq!(ask(&line, SOURCE, request(7), at(units)), told, "{units}");
        }
        // Half of the time must pass before it is recorded again.
        for (units, cells) in [(ADMITTED / 2, 1), (ADMITTED / 2 + 1, 2)] {
            let line = Memory::default();
            admit(&line, SOURCE, at(0));
            admit(&line, SOURCE, at(units));
            let used = (1..CELLS).filter(|cell| line.load(*cell) != 0).count();
            assert_eq!(used, cells, "{units}");
        }
    }

    #[test]
    fn a_cell_is_kept_until_it_is_as_old_as_a_retransmission() {
        for (units, kept) in [(NOTED - 1, true), (NOTED, false)] {
            let line = Memory::default();
            let at = |units: u32| u64::from(units + 7) << UNIT_SHIFT;
            for n in 0..15 {
                ask(&line, SOURCE, request(n), at(0));
            }
            ask(&line, SOURCE, request(99), at(units));
            let told = ask(&line, SOURCE, request(0), at(NOTED));
            assert_eq!(told == Told::Repeated, kept, "{units}");
        }
    }

    #[test]
    fn tags_are_of_twenty_bits_and_say_of_what() {
        for hash in [0, 1 << 44, 2 << 44, 3 << 44, SOURCE, u64::MAX] {
            assert_eq!(tag(hash, false) & 3, 1, "{hash:x}");
            assert_eq!(tag(hash, true), tag(hash, false) | 2, "{hash:x}");
            assert_eq!(u64::from(tag(hash, false) >> 2), hash >> 46, "{hash:x}");
        }
    }

    #[test]
    fn the_tag_of_a_request_begins_as_that_of_its_source() {
        for (source, other) in [(0, 1 << 56), (SOURCE, SOURCE ^ 1 << 63), (u64::MAX, 0)] {
            for n in [1, 7, 99, 254] {
                let of_request = tag_of(source, request(n));
                assert_eq!(of_request >> 12, tag(source, true) >> 12, "{n}");
                assert_ne!(of_request, tag_of(other, request(n)), "{n}");
                assert_ne!(of_request, tag_of(source, request(n - 1)), "{n}");
                assert_ne!(of_request, tag(source, true), "{n}");
            }
        }
    }

    /// A line that does not want a request does not know it, and would not record it.
    #[test]
    fn an_unwanted_request_is_new_and_changes_nothing() {
        let mut seen = [0; 2];
        for full in [0, 7, 15, 40] {
            for after in [0, 130, 500, 700, 9000, 40_000] {
                let line = Memory::default();
                for n in 0..full {
                    ask(&line, (n * 37) << 56 | SOURCE, request(n), 0);
                }
                let now = after * MILLISECOND;
                for n in 0..255 {
                    let before = line.0.clone();
                    let source = n << 56;
                    let wanted = wants(&line, source, now);
                    seen[usize::from(wanted)] += 1;
                    if !wanted {
                        assert_eq!(ask(&line, source, request(n), now), Told::New);
                        assert_eq!(line.0, before);
                    }
                }
            }
        }
        assert!(seen.iter().all(|count| *count > 100), "{seen:?}");
    }

    #[test]
    fn a_tag_is_found_wherever_it_is() {
        for cell in 1..CELLS {
            let line = Memory::default();
            line.store(cell, 77 << 12 | 5);
            assert!(has_one::<TAG>(&line, 77, 1) && has_one::<TAG>(&line, 1, 77), "{cell}");
            assert!(!has_one::<TAG>(&line, 76, 78) && !has_one::<TAG>(&line, 1, 3), "{cell}");
        }
    }
}

//! The writer of the table of banned IPv4 addresses, over memory that the program reads at the same
//! time.
//!
//! How it lies there is [`filter_common::ban_table`]. What a packet must never see is a ban torn or
//! gone for a moment: a slot's head, which makes it valid, is written last and cleared first, and a
//! ban that makes room for another is entered at its other place before it is removed from this one.

use std::sync::atomic::{AtomicU64, Ordering};

use filter_common::ban_table::{CHOICES, SLOTS, Slot, places};

/// Words of a line.
const LINE_WORDS: usize = 8;

/// Lines that are looked at to make room for one ban. With nine tenths of the slots filled a free one
/// is found within some dozens.
const SEARCH_MAX: usize = 4096;

/// There is no room for another ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the table of bans is full")
    }
}

impl std::error::Error for Full {}

/// The table over its memory: a whole number of lines.
#[derive(Debug)]
pub struct BanTable<M> {
    memory: M,
    seed: u64,
    lines: u32,
    capacity: usize,
    spare: usize,
    len: usize,
}

/// A slot's place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    line: u32,
    slot: usize,
}

impl<M: AsRef<[AtomicU64]>> BanTable<M> {
    /// The table in `memory`, which may have bans already; it takes `capacity` of them.
    pub fn new(memory: M, seed: u64, capacity: usize) -> Self {
        let lines = memory.as_ref().len() / LINE_WORDS;
        let lines = u32::try_from(lines).unwrap_or(u32::MAX);
        let mut table = Self { memory, seed, lines, capacity, spare: 0, len: 0 };
        table.len = table.iter().count();
        table
    }

    /// Makes it take so many entries that are no bans beside those.
    pub fn reserve(&mut self, spare: usize) {
        self.spare = spare;
    }

    /// How many lines there are.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// How many bans there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters a ban, or changes the one of its address, whose packets stay counted.
    ///
    /// # Errors
    ///
    /// When there are as many as it takes.
    pub fn insert(&mut self, slot: Slot) -> Result<(), Full> {
        if let Some(at) = self.find(slot.address) {
            self.change(at, slot);
            return Ok(());
        }
        if self.len >= self.capacity.saturating_add(self.spare) {
            return Err(Full);
        }
        let at = self.make_room(slot.address).ok_or(Full)?;
        self.write(at, slot);
        self.len += 1;
        Ok(())
    }

    /// The ban of an address.
    pub fn get(&self, address: u32) -> Option<Slot> {
        self.find(address).and_then(|at| self.read(at))
    }

    /// Lifts the ban of an address.
    pub fn remove(&mut self, address: u32) -> Option<Slot> {
        let at = self.find(address)?;
        let slot = self.read(at);
        self.clear(at);
        self.len -= 1;
        slot
    }

    /// Every ban, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        let all = (0..self.lines).flat_map(|line| (0..SLOTS).map(move |slot| At { line, slot }));
        all.filter_map(|at| self.read(at))
    }

    fn words(&self, line: u32) -> Option<&[AtomicU64; LINE_WORDS]> {
        let start = usize::try_from(line).ok()?.checked_mul(LINE_WORDS)?;
        self.memory.as_ref().get(start..)?.first_chunk()
    }

    fn word(&self, line: u32, word: usize) -> Option<&AtomicU64> {
        self.words(line)?.get(word)
    }

    fn places(&self, address: u32) -> [u32; CHOICES] {
        places(address, self.seed, self.lines)
    }

    fn read(&self, at: At) -> Option<Slot> {
        let words = self.words(at.line)?;
        let head = words.get(at.slot)?.load(Ordering::Acquire);
        let body = words.get(at.slot + SLOTS)?.load(Ordering::Relaxed);
        let since = words.get(6 + at.slot / 2)?.load(Ordering::Relaxed);
        let since = u32::try_from(since >> (32 * (at.slot % 2)) & 0xffff_ffff).unwrap_or(0);
        Slot::from_words(head, body, since)
    }

    fn find(&self, address: u32) -> Option<At> {
        let all = self.places(address).into_iter();
        let mut all = all.flat_map(|line| (0..SLOTS).map(move |slot| At { line, slot }));
        all.find(|at| self.read(*at).is_some_and(|slot| slot.address == address))
    }

    fn free(&self, line: u32) -> Option<At> {
        let mut slots = (0..SLOTS).map(|slot| At { line, slot });
        slots.find(|at| self.read(*at).is_none())
    }

    /// Writes a ban into a free slot: what makes it valid last.
    fn write(&self, at: At, slot: Slot) {
        self.set_since(at, slot.since);
        if let Some(body) = self.word(at.line, at.slot + SLOTS) {
            body.store(slot.body(), Ordering::Relaxed);
        }
        if let Some(head) = self.word(at.line, at.slot) {
            head.store(slot.head(), Ordering::Release);
        }
    }

    /// Changes all of a ban but its address and its packets, which the program may be counting.
    fn change(&self, at: At, slot: Slot) {
        self.set_since(at, slot.since);
        if let Some(body) = self.word(at.line, at.slot + SLOTS) {
            let fields = Slot { packets: 0, ..slot }.body();
            let _was = body.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                Some(old & ((1 << 48) - 1) | fields)
            });
        }
        if let Some(head) = self.word(at.line, at.slot) {
            head.store(slot.head(), Ordering::Release);
        }
    }

    fn clear(&self, at: At) {
        if let Some(head) = self.word(at.line, at.slot) {
            head.store(0, Ordering::Release);
        }
    }

    fn set_since(&self, at: At, since: u32) {
        let Some(word) = self.word(at.line, 6 + at.slot / 2) else { return };
        let shift = 32 * (at.slot % 2);
        let kept = word.load(Ordering::Relaxed) & !(0xffff_ffff << shift);
        word.store(kept | u64::from(since) << shift, Ordering::Relaxed);
    }

    /// A free slot in one of the lines of an address. Where both are full, bans are moved to their
    /// other line, along the shortest way to a line with a free slot.
    fn make_room(&self, address: u32) -> Option<At> {
        /// A line on the way, and the slot of the one before it whose ban would move here.
        struct Step {
            line: u32,
            from: Option<(usize, usize)>,
        }
        let mut steps: Vec<Step> =
            self.places(address).into_iter().map(|line| Step { line, from: None }).collect();
        let mut next = 0;
        while let Some(step) = steps.get(next) {
            let line = step.line;
            if let Some(mut free) = self.free(line) {
                let mut from = step.from;
                while let Some((before, slot)) = from {
                    let step = steps.get(before)?;
                    let moved = At { line: step.line, slot };
                    self.move_ban(moved, free)?;
                    (free, from) = (moved, step.from);
                }
                return Some(free);
            }
            if steps.len() < SEARCH_MAX {
                for slot in 0..SLOTS {
                    let there = self.read(At { line, slot })?;
                    let [first, second] = self.places(there.address);
                    let other = if first == line { second } else { first };
                    // A line once: else its slots would be moved twice.
                    if steps.iter().all(|step| step.line != other) {
                        steps.push(Step { line: other, from: Some((next, slot)) });
                    }
                }
            }
            next += 1;
        }
        None
    }

    /// Moves a ban to a free slot. For a moment it is at both; packets that are counted at the old
    /// one in between are carried over.
    fn move_ban(&self, from: At, to: At) -> Option<()> {
        let slot = self.read(from)?;
        self.write(to, slot);
        self.clear(from);
        let late = self.word(from.line, from.slot + SLOTS)?.load(Ordering::Relaxed);
        let late = late.wrapping_sub(slot.body()) & ((1 << 48) - 1);
        self.word(to.line, to.slot + SLOTS)?.fetch_add(late, Ordering::Relaxed);
        Some(())
    }
}

/// Memory of a table of its own, for tests and models.
///
/// # Panics
///
/// When there is not so much memory.
pub fn memory(lines: u32) -> Vec<AtomicU64> {
    let words = usize::try_from(lines).expect("a table fits into memory") * LINE_WORDS;
    std::iter::repeat_with(AtomicU64::default).take(words).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use filter_common::ban_table::lines_for;
    use proptest::prelude::*;

    use super::*;

    fn slot(address: u32) -> Slot {
        Slot { address, until: 7, since: address ^ 5, scopes: 1, origin: 2, packets: 0 }
    }

    #[test]
    fn takes_as_many_as_it_is_made_for() {
        for capacity in [1, 2, 10, 100, 1000, 100_000] {
            for seed in 0..5 {
                let lines = lines_for(capacity);
                let capacity = usize::try_from(capacity).unwrap();
                let mut table = BanTable::new(memory(lines), seed, capacity);
                let addresses =
                    || (0..u32::MAX).map(|n| n.wrapping_mul(0x9e37_79b1)).take(capacity);
                for address in addresses() {
                    assert_eq!(
                        table.insert(slot(address)),
                        Ok(()),
                        "{} of {capacity}",
                        table.len()
                    );
                }
                assert_eq!(table.insert(slot(3)), Err(Full));
                for address in addresses() {
                    assert_eq!(table.get(address), Some(slot(address)));
                }
                assert_eq!(BanTable::new(table.memory, seed, capacity).len(), capacity);
            }
        }
    }

    #[test]
    fn packets_stay_counted() {
        let mut table = BanTable::new(memory(lines_for(10)), 1, 10);
        table.insert(Slot { packets: 41, ..slot(9) }).unwrap();
        table.insert(Slot { until: 99, scopes: 0x80, ..slot(9) }).unwrap();
        assert_eq!(table.get(9), Some(Slot { until: 99, scopes: 0x80, packets: 41, ..slot(9) }));
        assert_eq!(table.len(), 1);
    }

    proptest! {
        #[test]
        fn is_a_map(
            seed: u64,
            steps in proptest::collection::vec((0u32..60, prop_oneof![Just(0u32), 1u32..5]), 0..400),
        ) {
            let mut table = BanTable::new(memory(lines_for(48)), seed, 48);
            let mut model = BTreeMap::new();
            for (address, until) in steps {
                if until == 0 {
                    prop_assert_eq!(table.remove(address), model.remove(&address));
                } else {
                    let slot = Slot { until, ..slot(address) };
                    if table.insert(slot).is_ok() {
                        model.insert(address, slot);
                    } else {
                        prop_assert_eq!(model.len(), 48);
                    }
                }
                prop_assert_eq!(table.len(), model.len());
            }
            let held: BTreeMap<_, _> = table.iter().map(|slot| (slot.address, slot)).collect();
            prop_assert_eq!(held, model);
        }
    }
}

//! The writer of the table of banned IPv4 addresses, in memory that the program reads at the same time.
//!
//! [`filter_common::ban_table`] describes the layout. A packet must never see a ban that is torn or gone
//! for a moment. So a slot's head, which makes it valid, is written last and cleared first, and a ban
//! that makes room for another is entered at its other place before it is removed from this one. A ban's
//! fingerprint is written before its head, once no other slot of the line has the same one. Its first
//! line says that the ban is in its second line before it is there, and until it is gone.
//!
//! Must never let the program see a torn ban, or none for a moment.

use std::sync::atomic::{AtomicU64, Ordering};

use filter_common::ban_table::{
    CARRY, CHOICES, ELSEWHERE_SHIFT, PACKETS_WORD, Place, SLOTS, Slot, details, entries_for,
    lines_of, until,
};

/// Words of a line.
const LINE_WORDS: usize = 8;

/// The most lines that are searched to make room for one ban. With four fifths of the slots filled, a
/// free one is found within some dozens.
const SEARCH_MAX: usize = 4096;

/// The most bans in their second line that a line can count. A count that reaches this stays: a count
/// that is too high costs time, but one that is too low would let a source in.
const ELSEWHERE_MAX: u64 = 0xff;

/// There is no room for another ban.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Full;

impl std::fmt::Display for Full {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the table of bans is full")
    }
}

impl std::error::Error for Full {}

/// The table in its memory: a whole number of lines.
#[derive(Debug)]
pub struct BanTable<M> {
    memory: M,
    seed: u64,
    lines: u32,
    capacity: usize,
    spare: usize,
    len: usize,
}

/// The position of a slot: its line, and its word in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct At {
    line: u32,
    word: usize,
}

/// The words of heads.
fn words() -> impl Iterator<Item = usize> {
    1..=SLOTS
}

/// Whether a head is a ban.
fn is_ban(head: u64) -> bool {
    until(head) != 0
}

/// How far the byte of a slot is shifted.
fn shift(word: usize) -> usize {
    8 * word.saturating_sub(1)
}

impl<M: AsRef<[AtomicU64]>> BanTable<M> {
    /// The table in `memory`, which may already contain bans, with room for `capacity` bans.
    pub fn new(memory: M, seed: u64, capacity: usize) -> Self {
        let entries = memory.as_ref().len() / LINE_WORDS;
        let lines = lines_of(u32::try_from(entries).unwrap_or(u32::MAX));
        let mut table = Self { memory, seed, lines, capacity, spare: 0, len: 0 };
        table.len = table.addresses().count();
        table
    }

    /// Reserves room for this many entries that are not bans.
    pub fn reserve(&mut self, spare: usize) {
        self.spare = spare;
    }

    /// The number of lines, without those of details.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// The number of bans.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no bans.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Enters a ban, or changes the ban of its address, whose packets stay counted.
    ///
    /// # Errors
    ///
    /// If the table is full.
    pub fn insert(&mut self, slot: Slot) -> Result<(), Full> {
        if let Some((at, place)) = self.find(slot.address) {
            self.change(at, place, slot);
            return Ok(());
        }
        if self.len >= self.capacity.saturating_add(self.spare) {
            return Err(Full);
        }
        let (at, place) = self.make_room(slot.address).ok_or(Full)?;
        self.enter(at, place, slot).ok_or(Full)?;
        self.len += 1;
        Ok(())
    }

    /// The ban of an address.
    pub fn get(&self, address: u32) -> Option<Slot> {
        self.find(address).and_then(|(at, _)| self.read(at))
    }

    /// Lifts the ban of an address.
    pub fn remove(&mut self, address: u32) -> Option<Slot> {
        let (at, place) = self.find(address)?;
        let slot = self.read(at);
        self.leave(at, place);
        self.len -= 1;
        slot
    }

    /// Every ban, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Slot> {
        let all = (0..self.lines).flat_map(|line| words().map(move |word| At { line, word }));
        all.filter_map(|at| self.read(at))
    }

    /// The address of every ban, in no order, which costs less than reading the bans.
    pub fn addresses(&self) -> impl Iterator<Item = u32> {
        let all = (0..self.lines).flat_map(|line| words().map(move |word| At { line, word }));
        all.filter_map(|at| Some(self.place(at)?.address(self.seed)))
    }

    fn words(&self, line: u32) -> Option<&[AtomicU64; LINE_WORDS]> {
        let start = usize::try_from(line).ok()?.checked_mul(LINE_WORDS)?;
        self.memory.as_ref().get(start..)?.first_chunk()
    }

    fn word(&self, line: u32, word: usize) -> Option<&AtomicU64> {
        self.words(line)?.get(word)
    }

    fn load(&self, at: At) -> Option<u64> {
        Some(self.word(at.line, at.word)?.load(Ordering::Acquire))
    }

    fn details(&self, at: At) -> Option<&AtomicU64> {
        let (line, word) = details(at.line, at.word, self.lines);
        self.word(line, word)
    }

    /// The place of the ban in a slot, if there is one.
    fn place(&self, at: At) -> Option<Place> {
        Place::of_head(self.load(at)?, at.line, self.lines)
    }

    fn read(&self, at: At) -> Option<Slot> {
        let head = self.load(at)?;
        let address = Place::of_head(head, at.line, self.lines)?.address(self.seed);
        let details = self.details(at)?.load(Ordering::Relaxed);
        let packets = self.word(at.line, PACKETS_WORD)?.load(Ordering::Relaxed) >> shift(at.word);
        Slot::from_words(address, head, details, u8::try_from(packets & 0xff).unwrap_or(0))
    }

    fn find(&self, address: u32) -> Option<(At, Place)> {
        let [first, second] = Place::both(address, self.seed);
        self.find_at(first).or_else(|| {
            let word = self.word(first.line(self.lines), 0)?.load(Ordering::Acquire);
            if word >> ELSEWHERE_SHIFT == 0 { None } else { self.find_at(second) }
        })
    }

    fn find_at(&self, place: Place) -> Option<(At, Place)> {
        let line = place.line(self.lines);
        let there = |at: &At| self.load(*at).is_some_and(|head| is_ban(head) && place.is_of(head));
        Some((words().map(|word| At { line, word }).find(there)?, place))
    }

    /// The heads of a line.
    fn heads(&self, line: u32) -> [u64; SLOTS] {
        let load = |word| self.load(At { line, word }).unwrap_or(0);
        std::array::from_fn(|slot| load(slot + 1))
    }

    /// A free slot in the line of a place, or else the slots whose bans would have to move: the one with
    /// the same fingerprint, or any.
    fn free(&self, place: Place) -> Result<At, Vec<At>> {
        let line = place.line(self.lines);
        let heads = self.heads(line);
        let at = |slot| At { line, word: slot + 1 };
        let is_equal = |head: &u64| is_ban(*head) && head & 0xff == u64::from(place.fingerprint());
        if let Some(equal) = heads.iter().position(is_equal) {
            return Err(vec![at(equal)]);
        }
        let free = heads.iter().position(|head| !is_ban(*head));
        free.map(at).ok_or_else(|| (0..SLOTS).map(at).collect())
    }

    /// Writes a ban into a free slot; the part that makes it valid is written last.
    fn enter(&self, at: At, place: Place, slot: Slot) -> Option<()> {
        let [fingerprints, ..] = self.words(at.line)?;
        let old = fingerprints.load(Ordering::Relaxed);
        fingerprints.store(self.with_fingerprint(old, at, place), Ordering::Release);
        let (details, packets) = slot.details();
        self.details(at)?.store(details, Ordering::Relaxed);
        let counts = self.word(at.line, PACKETS_WORD)?;
        // The program may be counting in the other bytes.
        counts.fetch_and(!(0xff << shift(at.word)), Ordering::Relaxed);
        counts.fetch_or(u64::from(packets) << shift(at.word), Ordering::Relaxed);
        if place.is_second() {
            self.count_elsewhere(slot.address, 1);
        }
        self.word(at.line, at.word)?.store(place.head(&slot), Ordering::Release);
        Some(())
    }

    /// The fingerprints of a line with one more. Free slots with the same one get another, which no ban
    /// of the line has.
    fn with_fingerprint(&self, fingerprints: u64, at: At, place: Place) -> u64 {
        let heads = self.heads(at.line);
        let wanted = u64::from(place.fingerprint());
        let is_used = |value: u64| heads.iter().any(|head| is_ban(*head) && head & 0xff == value);
        let mut new = fingerprints;
        for (word, head) in words().zip(heads) {
            let byte = if word == at.word {
                wanted
            } else if !is_ban(head) && fingerprints >> shift(word) & 0xff == wanted {
                (0..=0xff).find(|value| *value != wanted && !is_used(*value)).unwrap_or(0)
            } else {
                continue;
            };
            new = new & !(0xff << shift(word)) | byte << shift(word);
        }
        new
    }

    /// Changes everything in a ban except its address and its packets, which the program may be counting.
    fn change(&self, at: At, place: Place, slot: Slot) {
        if let Some(word) = self.details(at) {
            let (fields, _) = Slot { packets: 0, ..slot }.details();
            let _was = word.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |old| {
                Some(old & !(CARRY - 1) | fields)
            });
        }
        if let Some(head) = self.word(at.line, at.word) {
            head.store(place.head(&slot), Ordering::Release);
        }
    }

    /// Clears a slot. Its fingerprint stays, because no other ban in the line has it.
    fn leave(&self, at: At, place: Place) {
        if let Some(head) = self.word(at.line, at.word) {
            head.store(0, Ordering::Release);
        }
        if place.is_second() {
            self.count_elsewhere(place.address(self.seed), -1);
        }
    }

    /// Counts in the first line of an address that its ban is in its second line, or no longer.
    fn count_elsewhere(&self, address: u32, by: i8) {
        let line = Place::first(address, self.seed).line(self.lines);
        let Some(word) = self.word(line, 0) else { return };
        let old = word.load(Ordering::Relaxed);
        let count = old >> ELSEWHERE_SHIFT & ELSEWHERE_MAX;
        let new =
            if count == ELSEWHERE_MAX { count } else { count.saturating_add_signed(by.into()) };
        let new = old & !(ELSEWHERE_MAX << ELSEWHERE_SHIFT) | new << ELSEWHERE_SHIFT;
        word.store(new, Ordering::Release);
    }

    /// A free slot in one of the lines of an address. If neither has one, bans are moved to their other
    /// line, along the shortest path to a line with a free slot.
    fn make_room(&self, address: u32) -> Option<(At, Place)> {
        /// A possible move of a ban, and the previous move on the path.
        struct Step {
            place: Place,
            from: Option<(usize, At)>,
        }
        let places: [Place; CHOICES] = Place::both(address, self.seed);
        let mut steps: Vec<Step> =
            places.into_iter().map(|place| Step { place, from: None }).collect();
        let mut next = 0;
        while let Some(step) = steps.get(next) {
            match self.free(step.place) {
                Ok(mut free) => {
                    let (mut place, mut from) = (step.place, step.from);
                    while let Some((before, moved)) = from {
                        let step = steps.get(before)?;
                        self.move_ban(moved, free, place)?;
                        (free, place, from) = (moved, step.place, step.from);
                    }
                    return Some((free, place));
                }
                Err(in_the_way) if steps.len() < SEARCH_MAX => {
                    for at in in_the_way {
                        let there = self.place(at)?;
                        let [first, second] = Place::both(there.address(self.seed), self.seed);
                        let other = if there.is_second() { first } else { second };
                        // Each line only once, because otherwise its slots would be moved twice.
                        let line = other.line(self.lines);
                        if steps.iter().all(|step| step.place.line(self.lines) != line) {
                            steps.push(Step { place: other, from: Some((next, at)) });
                        }
                    }
                }
                Err(_) => {}
            }
            next += 1;
        }
        None
    }

    /// Moves a ban to a free slot at its other place. For a moment it is at both; packets that are
    /// counted at the old one meanwhile are added.
    fn move_ban(&self, from: At, to: At, place: Place) -> Option<()> {
        let (slot, old) = (self.read(from)?, self.place(from)?);
        self.enter(to, place, slot)?;
        let late = self.read(from)?.packets.saturating_sub(slot.packets);
        self.leave(from, old);
        self.add_packets(to, late)
    }

    /// Adds packets to those of a ban.
    fn add_packets(&self, at: At, packets: u64) -> Option<()> {
        let counts = self.word(at.line, PACKETS_WORD)?;
        let sum = |word: u64| (word >> shift(at.word) & 0xff) + packets;
        let was = counts.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |word| {
            Some(word & !(0xff << shift(at.word)) | (sum(word) & 0xff) << shift(at.word))
        });
        let carried = (sum(was.ok()?) >> 8).wrapping_mul(CARRY);
        self.details(at)?.fetch_add(carried, Ordering::Relaxed);
        Some(())
    }
}

/// Memory for a table of this many lines, for tests and models.
///
/// # Panics
///
/// If there is not enough memory.
pub fn memory(lines: u32) -> Vec<AtomicU64> {
    let entries = usize::try_from(entries_for(lines)).expect("a table fits into memory");
    std::iter::repeat_with(AtomicU64::default).take(entries * LINE_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use filter_common::ban_table::{LINES_MIN, lines_for};
    use proptest::prelude::*;

    use super::*;

    fn slot(address: u32) -> Slot {
        Slot { address, until: 7, since: address & 0x3fff_fffc, scopes: 1, origin: 2, packets: 0 }
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

    /// The result of the program's lookup of an address, as in `filter_common::policy`.
    fn seen<M: AsRef<[AtomicU64]>>(table: &BanTable<M>, address: u32) -> Option<u64> {
        let at = |place: Place| {
            let line = place.line(table.lines);
            let fingerprints = table.word(line, 0)?.load(Ordering::Relaxed);
            let word = place.word(fingerprints);
            let head = table.load(At { line, word }).filter(|head| word != 0 && place.is_of(*head));
            Some((head, fingerprints >> ELSEWHERE_SHIFT))
        };
        let [first, second] = Place::both(address, table.seed);
        match at(first)? {
            (None, 1..) => at(second)?.0,
            (head, _) => head,
        }
    }

    /// Checks that in each line only the ban itself has its fingerprint, and that each line counts its
    /// bans in their second line.
    fn check(table: &BanTable<Vec<AtomicU64>>) {
        let mut elsewhere = BTreeMap::new();
        for line in 0..table.lines {
            let fingerprints = table.word(line, 0).unwrap().load(Ordering::Relaxed);
            for word in words() {
                let Some(place) = table.place(At { line, word }) else { continue };
                assert_eq!(place.line(table.lines), line);
                let same = |word: &usize| {
                    fingerprints >> shift(*word) & 0xff == u64::from(place.fingerprint())
                };
                assert_eq!(words().filter(same).collect::<Vec<_>>(), [word]);
                if place.is_second() {
                    let first = Place::first(place.address(table.seed), table.seed);
                    *elsewhere.entry(first.line(table.lines)).or_insert(0) += 1;
                }
            }
        }
        for line in 0..table.lines {
            let word = table.word(line, 0).unwrap().load(Ordering::Relaxed);
            assert_eq!(word >> ELSEWHERE_SHIFT, elsewhere.get(&line).copied().unwrap_or(0));
        }
    }

    #[test]
    fn a_line_that_overflows() {
        // So many that each line is full, and no ban can be moved any more.
        let mut table = BanTable::new(memory(LINES_MIN), 7, usize::MAX);
        let mut held = Vec::new();
        let mut refused = None;
        for n in 0..3000u32 {
            let address = n.wrapping_mul(0x9e37_79b1) | 1;
            match table.insert(slot(address)) {
                Ok(()) => held.push(address),
                Err(Full) => refused = Some(address),
            }
        }
        check(&table);
        assert!(held.len() > 256 * SLOTS * 95 / 100, "{}", held.len());
        for address in &held {
            assert_eq!(table.get(*address), Some(slot(*address)));
            assert!(seen(&table, *address).is_some());
        }
        let refused = refused.unwrap();
        assert_eq!((table.get(refused), seen(&table, refused)), (None, None));
        for address in &held {
            assert_eq!(table.remove(*address), Some(slot(*address)));
            assert_eq!(seen(&table, *address), None);
        }
        check(&table);
        assert!(table.insert(slot(refused)).is_ok() && table.len() == 1);
    }

    #[test]
    fn moved_bans_keep_their_packets() {
        let mut table = BanTable::new(memory(LINES_MIN), 7, usize::MAX);
        let addresses: Vec<_> = (1..1450u32).map(|n| n.wrapping_mul(0x9e37_79b1) | 1).collect();
        let counted = |address: u32| Slot { packets: u64::from(address) << 3, ..slot(address) };
        for address in &addresses {
            table.insert(counted(*address)).unwrap();
        }
        for address in &addresses {
            assert_eq!(table.get(*address), Some(counted(*address)));
        }
        let (at, _) = table.find(addresses[0]).unwrap();
        table.add_packets(at, 0x1ff).unwrap();
        let more = counted(addresses[0]).packets + 0x1ff;
        assert_eq!(table.get(addresses[0]).map(|slot| slot.packets), Some(more));
    }

    /// The program reads while bans are entered, lifted and moved: it finds every banned address, and no
    /// other.
    #[test]
    fn seen_while_it_changes() {
        let lines: std::sync::Arc<[AtomicU64]> = memory(LINES_MIN).into();
        let address = |n: u32| n.wrapping_mul(0x9e37_79b1) | 1;
        let mut table = BanTable::new(std::sync::Arc::clone(&lines), 7, usize::MAX);
        // Few enough that none of them has to move while others come and go.
        for n in 0..200 {
            table.insert(slot(address(n))).unwrap();
        }
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let reader = BanTable::new(lines, 7, usize::MAX);
                while !stop.load(Ordering::Relaxed) {
                    for n in 0..200 {
                        assert!(seen(&reader, address(n)).is_some(), "{n}");
                    }
                    for n in 100_000..101_000 {
                        assert_eq!(seen(&reader, address(n)), None);
                    }
                }
            });
            for round in 0..200 {
                for n in 200..300 {
                    table.insert(Slot { until: 9 + round, ..slot(address(n)) }).unwrap();
                }
                for n in 200..300 {
                    table.remove(address(n)).unwrap();
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
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
                prop_assert_eq!(seen(&table, address).is_some(), model.contains_key(&address));
            }
            check(&table);
            let addresses: std::collections::BTreeSet<_> = table.addresses().collect();
            prop_assert_eq!(addresses, model.keys().copied().collect());
            let held: BTreeMap<_, _> = table.iter().map(|slot| (slot.address, slot)).collect();
            prop_assert_eq!(held, model);
        }
    }
}

//! The writer of the cache of banned IPv6 addresses, in memory that the program reads at the same time.
//!
//! [`filter_common::ban_cache`] describes the layout. The map of bans is the truth: a ban's slot is freed
//! before its entry in the map changes, and filled afterwards.
//!
//! Must never let the program see a ban that the map does not have.

use std::sync::atomic::{AtomicU64, Ordering};

use filter_common::address::Address;
use filter_common::ban_cache::{
    self, HEADS_WORD, LAST_WORD, PACKETS_SHIFT, SLOTS, VERSION_SHIFT, head,
};

/// Words of a line.
const LINE_WORDS: usize = 8;

/// The cache in its memory: a whole number of lines.
#[derive(Debug)]
pub struct BanCache<M> {
    memory: M,
    seed: u64,
    lines: u32,
}

/// A slot's head in its word, and how far it is shifted.
fn head_at(slot: usize) -> (usize, usize) {
    match slot {
        0 => (HEADS_WORD, 0),
        1 => (HEADS_WORD, 32),
        _ => (LAST_WORD, 0),
    }
}

/// How far the count of a slot's packets is shifted.
fn count_at(slot: usize) -> u32 {
    PACKETS_SHIFT.saturating_add(8 * u32::try_from(slot).unwrap_or(0))
}

/// Changes bits of a word, in whose other bits the program may count at the same time.
fn change(word: &AtomicU64, mask: u64, bits: u64) {
    let changed = |old| Some(old & !mask | bits);
    let _was = word.fetch_update(Ordering::AcqRel, Ordering::Acquire, changed);
}

impl<M: AsRef<[AtomicU64]>> BanCache<M> {
    /// The cache in `memory`, which may already contain bans.
    pub fn new(memory: M, seed: u64) -> Self {
        let lines = u32::try_from(memory.as_ref().len() / LINE_WORDS).unwrap_or(u32::MAX);
        Self { memory, seed, lines }
    }

    /// The number of lines.
    pub fn lines(&self) -> u32 {
        self.lines
    }

    /// Enters a ban with these scopes that ends at `until`, in units, unless its line is full. Returns
    /// whether it has a slot. It must be in the map, and have no slot.
    pub fn insert(&self, address: Address, scopes: u8, until: u32) -> bool {
        let head = head(scopes, until);
        let Some(line) = self.line(address).filter(|_| head != 0) else { return false };
        let Some(slot) = (0..SLOTS).find(|slot| load_head(line, *slot) == 0) else { return false };
        // First, so that a reader that saw the slot's last ban notices that its address changes.
        let last = &line[LAST_WORD];
        let version = (last.load(Ordering::Acquire) >> VERSION_SHIFT).wrapping_add(1);
        change(last, 0xff << VERSION_SHIFT | 0xff << count_at(slot), version << VERSION_SHIFT);
        for (word, half) in line.iter().skip(2 * slot).zip(address.words()) {
            word.store(half, Ordering::Release);
        }
        store_head(line, slot, head);
        true
    }

    /// Frees the slot of an address, if it has one. Returns its packets, which the map does not count yet.
    pub fn remove(&self, address: Address) -> u64 {
        let Some((line, slot)) = self.find(address) else { return 0 };
        store_head(line, slot, 0);
        count(line, slot)
    }

    /// The packets of an address that the map does not count yet.
    pub fn packets(&self, address: Address) -> u64 {
        self.find(address).map_or(0, |(line, slot)| count(line, slot))
    }

    /// Frees each slot whose ban does not have the scopes and the end that `entry` says. `None` if there is
    /// no such ban.
    pub fn retain(&self, entry: impl Fn(Address) -> Option<(u8, u32)>) {
        for line in self.memory.as_ref().as_chunks().0 {
            for slot in 0..SLOTS {
                let found = load_head(line, slot);
                let wanted =
                    entry(address_of(line, slot)).map_or(0, |(scopes, until)| head(scopes, until));
                if found != wanted {
                    store_head(line, slot, 0);
                }
            }
        }
    }

    /// Whether an address has a slot.
    pub fn contains(&self, address: Address) -> bool {
        self.find(address).is_some()
    }

    fn line(&self, address: Address) -> Option<&[AtomicU64; LINE_WORDS]> {
        let line = ban_cache::line(address, self.seed, self.lines);
        let start = usize::try_from(line).ok()?.checked_mul(LINE_WORDS)?;
        self.memory.as_ref().get(start..)?.first_chunk()
    }

    fn find(&self, address: Address) -> Option<(&[AtomicU64; LINE_WORDS], usize)> {
        let line = self.line(address)?;
        let is_it =
            |slot: &usize| load_head(line, *slot) != 0 && address_of(line, *slot) == address;
        Some((line, (0..SLOTS).find(is_it)?))
    }
}

fn load_head(line: &[AtomicU64; LINE_WORDS], slot: usize) -> u32 {
    let (word, shift) = head_at(slot);
    u32::try_from(line[word].load(Ordering::Acquire) >> shift & 0xffff_ffff).unwrap_or(0)
}

fn store_head(line: &[AtomicU64; LINE_WORDS], slot: usize, head: u32) {
    let (word, shift) = head_at(slot);
    change(&line[word], 0xffff_ffff << shift, u64::from(head) << shift);
}

fn address_of(line: &[AtomicU64; LINE_WORDS], slot: usize) -> Address {
    Address::from_words([0, 1].map(|half| line[2 * slot + half].load(Ordering::Acquire)))
}

fn count(line: &[AtomicU64; LINE_WORDS], slot: usize) -> u64 {
    line[LAST_WORD].load(Ordering::Acquire) >> count_at(slot) & 0xff
}

/// Memory for a cache of this many lines, for tests and models.
///
/// # Panics
///
/// If there is not enough memory.
pub fn memory(lines: u32) -> Vec<AtomicU64> {
    let lines = usize::try_from(lines).expect("a cache fits into memory");
    std::iter::repeat_with(AtomicU64::default).take(lines * LINE_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use filter_common::abi::FOREVER;
    use filter_common::ban_cache::{Shared, lines_for};
    use filter_common::limits::BANNED_V6;
    use proptest::prelude::*;

    use super::*;

    /// A line as the program reads it.
    #[derive(Clone, Copy)]
    struct Reader<'a>(&'a [AtomicU64; LINE_WORDS]);

    impl Shared for Reader<'_> {
        fn word(&self, place: usize) -> u64 {
            self.0[place].load(Ordering::Acquire)
        }

        fn after(&self, _read: u64) -> Self {
            *self
        }

        fn hit(&self, slot: usize) -> bool {
            let count = self.0[LAST_WORD].load(Ordering::Relaxed) >> count_at(slot) & 0xff;
            change(
                &self.0[LAST_WORD],
                0xff << count_at(slot),
                ((count + 1) & 0xff) << count_at(slot),
            );
            count == 0xff
        }
    }

    fn seen<M: AsRef<[AtomicU64]>>(cache: &BanCache<M>, address: Address) -> ban_cache::Found {
        ban_cache::find(&Reader(cache.line(address).unwrap()), address.words())
    }

    fn address(number: u64) -> Address {
        Address::from_words([number.wrapping_mul(0x9e37_79b9_7f4a_7c15), number])
    }

    #[test]
    fn a_ban_has_a_slot_until_it_is_removed() {
        let cache = BanCache::new(memory(1), 7);
        let bans = || (0..4).map(address);
        let entered: Vec<_> = bans().map(|ban| cache.insert(ban, 1, 9000)).collect();
        assert_eq!(entered, [true, true, true, false]);
        assert_eq!(bans().map(|ban| cache.contains(ban)).collect::<Vec<_>>(), entered);
        for (number, ban) in (0u64..).zip(bans().take(3)) {
            for packet in 0..300 {
                let found = seen(&cache, ban);
                assert_eq!(found.head, head(1, 9000));
                assert_eq!(Reader(cache.line(ban).unwrap()).hit(found.slot), packet == 255);
            }
            assert_eq!(cache.packets(ban), 44);
            assert_eq!(cache.remove(ban), 44);
            assert_eq!((cache.remove(ban), cache.packets(ban), seen(&cache, ban).head), (0, 0, 0));
            assert!(cache.insert(address(9 + number), 2, FOREVER));
            assert_eq!(cache.packets(address(9 + number)), 0);
        }
        // One that ends at once, and one of a host that is up for long.
        assert!(!cache.insert(address(1), 1, 63));
        cache.remove(address(9));
        assert!(!cache.insert(address(1), 1, 63) && cache.insert(address(1), 1, 64));
    }

    #[test]
    fn what_the_map_does_not_have_is_freed() {
        let cache = BanCache::new(memory(4096), 7);
        (0..60).for_each(|number| assert!(cache.insert(address(number), 1, 9000)));
        let kept = |number: u64| match number % 4 {
            0 => Some((1, 9000)),
            1 => Some((2, 9000)),
            2 => Some((1, 7000)),
            _ => None,
        };
        cache.retain(|ban| kept((0..60).find(|number| address(*number) == ban)?));
        for number in 0..60 {
            assert_eq!(cache.contains(address(number)), number % 4 == 0, "{number}");
        }
    }

    /// The share of bans with a slot, in percent, that `lines_for` says.
    #[test]
    fn most_bans_have_a_slot() {
        let cache = BanCache::new(memory(lines_for(BANNED_V6)), 7);
        let mut with_slot = 0u32;
        for (number, percent) in (1..=BANNED_V6).map(|number| {
            let percent = match number {
                1_000 => Some(99),
                32_768 => Some(94),
                100_000 => Some(64),
                BANNED_V6 => Some(52),
                _ => None,
            };
            (number, percent)
        }) {
            with_slot += u32::from(cache.insert(address(number.into()), 1, FOREVER));
            if let Some(percent) = percent {
                println!("{number} bans: {} % with a slot", with_slot * 100 / number);
                assert!(with_slot * 100 / number >= percent, "{with_slot} of {number}");
            }
        }
    }

    /// The program reads while slots change hands: it finds no ban of another address, and no head of another
    /// ban.
    #[test]
    fn seen_while_it_changes() {
        let words: std::sync::Arc<[AtomicU64]> = memory(1).into();
        let cache = BanCache::new(std::sync::Arc::clone(&words), 7);
        let [one, two] = [[1, 2], [3, 4]].map(Address::from_words);
        let mixed = [[1, 4], [3, 2]].map(Address::from_words);
        let stop = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let reader = BanCache::new(words, 7);
                while !stop.load(Ordering::Relaxed) {
                    assert!([0, head(1, 9000)].contains(&seen(&reader, one).head));
                    assert!([0, head(2, 8000)].contains(&seen(&reader, two).head));
                    for address in mixed {
                        assert_eq!(seen(&reader, address).head, 0);
                    }
                }
            });
            for _ in 0..20_000 {
                cache.insert(one, 1, 9000);
                cache.remove(one);
                cache.insert(two, 2, 8000);
                cache.remove(two);
            }
            stop.store(true, Ordering::Relaxed);
        });
    }

    proptest! {
        /// It says what the map says, or nothing.
        #[test]
        fn is_part_of_the_map(
            seed: u64,
            steps in proptest::collection::vec((0u64..60, 0..5u32, 1..4u8), 0..400),
        ) {
            let cache = BanCache::new(memory(16), seed);
            let mut map = BTreeMap::new();
            for (number, time, scopes) in steps {
                let until = time * 64;
                cache.remove(address(number));
                map.remove(&number);
                if until != 0 {
                    let is_in = cache.insert(address(number), scopes, until);
                    prop_assert_eq!(is_in, cache.contains(address(number)));
                    map.insert(number, head(scopes, until));
                }
                for number in 0..60 {
                    let head = seen(&cache, address(number)).head;
                    prop_assert!(head == 0 || map.get(&number) == Some(&head));
                    prop_assert_eq!(head != 0, cache.contains(address(number)));
                }
            }
        }
    }
}

//! A compact table of many sources: for each key it has a list of items.
//!
//! A key with one item takes 40 bytes and the item: a record, chained to those with the same hash, and
//! a node for the item. All links are numbers in [`Slots`]. The keys of each rank form a queue that
//! begins with those whose last item is the oldest. So the least important key, and expired keys, are
//! found without a search.

use std::hash::{BuildHasher as _, RandomState};
use std::net::Ipv6Addr;
use std::num::NonZeroU32;
use std::time::Duration;

use super::slots::{Link, Slots};
use super::tick::Tick;
use crate::clock::KernelTime;

/// The number of ranks. A rank says how close a key is to a ban.
pub(super) const RANKS: u8 = 64;

/// A key: an address, IPv4-mapped if it is IPv4, or a hash in place of one.
pub(super) type Key = Ipv6Addr;

/// An item with a time.
pub(super) trait Dated {
    fn at(&self) -> Tick;
}

/// Lists of items by key.
#[derive(Debug)]
pub(super) struct Table<T> {
    capacity: usize,
    items_max: usize,
    hasher: RandomState,
    /// The first record of each chain; empty until the first key is entered.
    chains: Vec<Link>,
    records: Slots<Record>,
    nodes: Slots<Node<T>>,
    /// By rank.
    queues: [Queue; RANKS as usize],
}

#[derive(Debug)]
struct Record {
    key: Key,
    chain: Link,
    before: Link,
    behind: Link,
    newest: NonZeroU32,
    rank: u8,
}

/// An item, and a link to the one before it.
#[derive(Debug)]
struct Node<T> {
    item: T,
    older: Link,
}

/// The keys of a rank, in the order of the times of their last items, oldest first.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    first: Link,
    last: Link,
    /// All keys before this one have been visited.
    visit: Link,
}

impl<T: Dated> Table<T> {
    /// A table with room for this many keys and this many items.
    pub(super) fn new(capacity: usize, items_max: usize) -> Self {
        Self {
            capacity: capacity.max(1),
            items_max: items_max.max(1),
            hasher: RandomState::new(),
            chains: Vec::new(),
            records: Slots::new(),
            nodes: Slots::new(),
            queues: [Queue::default(); RANKS as usize],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// The most items that one key can have.
    pub(super) fn items_max(&self) -> usize {
        self.items_max
    }

    /// Forgets a key, passing its items to `tell`, newest first. Returns whether the key was known.
    pub(super) fn take(&mut self, key: Key, mut tell: impl FnMut(T)) -> bool {
        let Some(record) = self.unlink(key) else { return false };
        let mut next = Some(record.newest);
        while let Some(node) = next.and_then(|number| self.nodes.remove(number)) {
            next = node.older;
            tell(node.item);
        }
        true
    }

    /// Makes room for a key with this many items by forgetting others, whose items are passed to
    /// `tell`. Returns how many were forgotten.
    pub(super) fn make_room(&mut self, items: usize, mut tell: impl FnMut(T)) -> u64 {
        let mut forgotten = 0;
        while self.records.len() >= self.capacity || self.nodes.len() + items > self.items_max {
            let first = self.queues.iter().find_map(|queue| queue.first);
            let key = first.and_then(|place| self.records.get(place)).map(|record| record.key);
            if !key.is_some_and(|key| self.take(key, &mut tell)) {
                break;
            }
            forgotten += 1;
        }
        forgotten
    }

    /// Adds items, oldest first, after `newest`; the last one is then passed to [`enter`](Self::enter).
    pub(super) fn add(&mut self, item: T, newest: Link) -> Link {
        self.nodes.insert(Node { item, older: newest })
    }

    /// Enters an unknown key, with the items up to `newest`. Keys must be entered in the order of their
    /// last items.
    pub(super) fn enter(&mut self, key: Key, newest: Link, rank: u8) {
        let Some(newest) = newest else { return };
        let rank = rank.min(RANKS - 1);
        if self.chains.is_empty() {
            // Allocated for the full capacity, so that no failure waits for a larger table. Zeroed
            // memory that is not written to costs nothing.
            self.chains = vec![None; self.capacity.next_power_of_two()];
        }
        let chain = self.chain_of(key);
        let Some(queue) = self.queues.get_mut(usize::from(rank)) else { return };
        let Some(first) = self.chains.get_mut(chain) else { return };
        let record = Record { key, chain: *first, before: queue.last, behind: None, newest, rank };
        let place = self.records.insert(record);
        *first = place;
        match queue.last.and_then(|last| self.records.get_mut(last)) {
            Some(last) => last.behind = place,
            None => queue.first = place,
        }
        queue.last = place;
        queue.visit = queue.visit.or(place);
    }

    /// A key's items, newest first.
    pub(super) fn items(&self, key: Key) -> impl Iterator<Item = &T> {
        let record = self.find(key).and_then(|place| self.records.get(place));
        let newest = record.and_then(|record| self.nodes.get(record.newest));
        std::iter::successors(newest, |node| self.nodes.get(node.older?)).map(|node| &node.item)
    }

    /// All keys.
    pub(super) fn keys(&self) -> impl Iterator<Item = Key> {
        self.queues.iter().flat_map(|queue| {
            let behind = |place: &NonZeroU32| self.records.get(*place)?.behind;
            std::iter::successors(queue.first, behind)
                .filter_map(|place| self.records.get(place))
                .map(|record| record.key)
        })
    }

    /// Forgets keys whose last item is at least `findtime` old, but no more than `most`, passing their
    /// items to `tell`. Returns the age of the oldest last item among the remaining keys.
    pub(super) fn forget_old(
        &mut self,
        findtime: Duration,
        most: usize,
        now: KernelTime,
        mut tell: impl FnMut(T),
    ) -> Option<Duration> {
        let mut room = most;
        let mut oldest = None;
        for rank in 0..self.queues.len() {
            while let Some((key, age)) = self.first_of(rank, now) {
                if age < findtime || room == 0 {
                    oldest = oldest.max(Some(age));
                    break;
                }
                room -= 1;
                self.take(key, &mut tell);
            }
        }
        oldest
    }

    /// Visits the keys of at most this rank, lowest rank first and then oldest first, each once, until
    /// `visit` returns true for one of the items. Returns whether it did.
    pub(super) fn visit(&mut self, rank: u8, mut visit: impl FnMut(&mut T) -> bool) -> bool {
        let Self { queues, records, nodes, .. } = self;
        for queue in queues.iter_mut().take(usize::from(rank) + 1) {
            while let Some(record) = queue.visit.and_then(|place| records.get(place)) {
                queue.visit = record.behind;
                let mut next = Some(record.newest);
                let mut enough = false;
                while let Some(node) = next.and_then(|number| nodes.get_mut(number)) {
                    next = node.older;
                    enough |= visit(&mut node.item);
                }
                if enough {
                    return true;
                }
            }
        }
        false
    }

    /// The first key of a rank, and the age of its last item.
    fn first_of(&self, rank: usize, now: KernelTime) -> Option<(Key, Duration)> {
        let record = self.records.get(self.queues.get(rank)?.first?)?;
        Some((record.key, self.nodes.get(record.newest)?.item.at().age(now)))
    }

    fn chain_of(&self, key: Key) -> usize {
        let hash = usize::try_from(self.hasher.hash_one(key) >> 32).unwrap_or(0);
        hash & self.chains.len().saturating_sub(1)
    }

    fn find(&self, key: Key) -> Link {
        let first = *self.chains.get(self.chain_of(key))?;
        std::iter::successors(first, |place| self.records.get(*place)?.chain)
            .find(|place| self.records.get(*place).is_some_and(|record| record.key == key))
    }

    /// Removes a record from its chain and its queue.
    fn unlink(&mut self, key: Key) -> Option<Record> {
        let place = self.find(key)?;
        let chain = self.chain_of(key);
        let record = self.records.remove(place)?;
        let Record { chain: behind_in_chain, before, behind, rank, .. } = record;

        let first = self.chains.get_mut(chain)?;
        if *first == Some(place) {
            *first = behind_in_chain;
        } else {
            let mut at = *first;
            while let Some(other) = at.and_then(|at| self.records.get_mut(at)) {
                if other.chain == Some(place) {
                    other.chain = behind_in_chain;
                    break;
                }
                at = other.chain;
            }
        }

        let queue = self.queues.get_mut(usize::from(rank))?;
        match before.and_then(|before| self.records.get_mut(before)) {
            Some(before) => before.behind = behind,
            None => queue.first = behind,
        }
        match behind.and_then(|behind| self.records.get_mut(behind)) {
            Some(behind) => behind.before = before,
            None => queue.last = before,
        }
        if queue.visit == Some(place) {
            queue.visit = behind;
        }
        Some(record)
    }
}

#[cfg(test)]
mod tests;

//! The sources that have failed, in little memory: failures by address enter and leave.
//!
//! A source with one failure takes 64 bytes: a record, which is in a chain of those with the same
//! hash, and a node for the failure. All links are numbers in [`Slots`]. The sources of each rank are
//! a queue, which begins with those whose last failure is the oldest: so the least dangerous is at
//! hand when there is no room, those that have had their time stand in front, and neither takes a
//! walk over all.
//!
//! The names of the accounts are attacker text of any length. They are kept apart, in a store with a
//! bound of its own, for the sources of the highest ranks.

use std::hash::{BuildHasher as _, RandomState};
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::slots::{Link, Slots};
use super::tick::Tick;
use crate::clock::KernelTime;
use crate::failure::Class;

/// How many ranks there are: how near a source can be to a ban.
pub(super) const RANKS: u8 = 64;

/// Failures that are remembered, for each source that can be.
const FAILURES_PER_SOURCE: usize = 2;

/// Names of accounts that are remembered, over all sources.
const NAMES_MAX: usize = 65_536;

/// A failure of a source.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) at: Tick,
    pub(super) class: Class,
    /// Whether its source cannot have been forged.
    pub(super) proven: bool,
    /// Whether there is a ban of the unproven scope for it.
    pub(super) punished: bool,
    /// The number of who told of it.
    pub(super) teller: u8,
    /// The hash of the account's name, if it has one.
    pub(super) account: Option<NonZeroU32>,
    /// The name itself, if it is kept.
    pub(super) name: Option<Box<str>>,
}

/// The sources that have failed.
#[derive(Debug)]
pub(super) struct Watched {
    capacity: usize,
    failures_max: usize,
    hasher: RandomState,
    /// The first record of each chain; empty until there is one.
    chains: Vec<Link>,
    records: Slots<Record>,
    nodes: Slots<Node>,
    names: Slots<Box<str>>,
    /// By rank.
    queues: [Queue; RANKS as usize],
}

/// A source.
#[derive(Debug)]
struct Record {
    /// IPv4 is mapped.
    address: Ipv6Addr,
    chain: Link,
    before: Link,
    behind: Link,
    newest: NonZeroU32,
    rank: u8,
}

/// A failure, and which was before it.
#[derive(Debug)]
struct Node {
    at: Tick,
    account: Option<NonZeroU32>,
    name: Link,
    older: Link,
    class: Class,
    proven: bool,
    punished: bool,
    teller: u8,
}

/// The sources of a rank, those with the oldest last failure first.
#[derive(Clone, Copy, Debug, Default)]
struct Queue {
    first: Link,
    last: Link,
    /// None before this one has names.
    named: Link,
}

impl Watched {
    /// Room for so many sources, and for one that fails `failures` times.
    pub(super) fn new(capacity: usize, failures: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            capacity,
            failures_max: capacity.saturating_mul(FAILURES_PER_SOURCE).saturating_add(failures),
            hasher: RandomState::new(),
            chains: Vec::new(),
            records: Slots::new(),
            nodes: Slots::new(),
            names: Slots::new(),
            queues: [Queue::default(); RANKS as usize],
        }
    }

    pub(super) fn len(&self) -> usize {
        self.records.len()
    }

    /// Forgets a source; its failures, the oldest first, are in `failures` after that.
    pub(super) fn take(&mut self, address: IpAddr, failures: &mut Vec<Failure>) -> bool {
        failures.clear();
        let found = self.remove(key(address), |failure| failures.push(failure));
        failures.reverse();
        found
    }

    /// Remembers a source that is not known, with its failures, the oldest first. Returns how many
    /// others had to be forgotten for it. The failures of a source come no later than those of one that
    /// is remembered after it.
    pub(super) fn put(&mut self, address: IpAddr, failures: &mut Vec<Failure>, rank: u8) -> u64 {
        if failures.is_empty() {
            return 0;
        }
        let rank = rank.min(RANKS - 1);
        let too_many = failures.len().saturating_sub(self.failures_max);
        failures.drain(..too_many);
        let mut forgotten = 0;
        while (self.records.len() >= self.capacity
            || self.nodes.len() + failures.len() > self.failures_max)
            && self.forget_first()
        {
            forgotten += 1;
        }
        let mut newest = None;
        for failure in failures.drain(..) {
            let Failure { at, class, proven, punished, teller, account, name } = failure;
            let name = name.and_then(|name| self.keep_name(name, rank));
            newest = self.nodes.insert(Node {
                at,
                account,
                name,
                older: newest,
                class,
                proven,
                punished,
                teller,
            });
        }
        if let Some(newest) = newest {
            self.insert(key(address), newest, rank);
        }
        forgotten
    }

    /// Whether a source is remembered, and when it last failed.
    pub(super) fn last(&self, address: IpAddr) -> Option<Tick> {
        let record = self.records.get(self.find(key(address))?)?;
        Some(self.nodes.get(record.newest)?.at)
    }

    /// A source's failures, the oldest first.
    pub(super) fn failures(&self, address: IpAddr) -> Vec<Failure> {
        let record = self.find(key(address)).and_then(|place| self.records.get(place));
        let mut next = record.map(|record| record.newest);
        let mut failures = Vec::new();
        while let Some(node) = next.and_then(|number| self.nodes.get(number)) {
            next = node.older;
            let name = node.name.and_then(|name| self.names.get(name)).cloned();
            failures.push(node.failure(name));
        }
        failures.reverse();
        failures
    }

    /// All sources.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.queues.iter().flat_map(|queue| {
            let behind = |place: &NonZeroU32| self.records.get(*place)?.behind;
            std::iter::successors(queue.first, behind)
                .filter_map(|place| self.records.get(place))
                .map(|record| record.address.to_canonical())
        })
    }

    /// Forgets sources whose last failure is at least as old as `findtime`, but no more than `most`.
    /// Returns how old the oldest last failure of the others is.
    pub(super) fn forget_old(
        &mut self,
        findtime: Duration,
        most: usize,
        now: KernelTime,
    ) -> Option<Duration> {
        let mut room = most;
        let mut oldest = None;
        for rank in 0..self.queues.len() {
            while let Some((address, age)) = self.first_of(rank, now) {
                if age < findtime || room == 0 {
                    oldest = oldest.max(Some(age));
                    break;
                }
                room -= 1;
                self.remove(address, drop);
            }
        }
        oldest
    }

    /// The first source of a rank, and how long ago it last failed.
    fn first_of(&self, rank: usize, now: KernelTime) -> Option<(Ipv6Addr, Duration)> {
        let record = self.records.get(self.queues.get(rank)?.first?)?;
        Some((record.address, self.nodes.get(record.newest)?.at.age(now)))
    }

    /// Forgets the first source of the lowest rank.
    fn forget_first(&mut self) -> bool {
        let first = self.queues.iter().find_map(|queue| queue.first);
        let address = first.and_then(|place| self.records.get(place)).map(|record| record.address);
        address.is_some_and(|address| self.remove(address, drop))
    }

    /// Keeps a name for a source of this rank, in place of those of one that is no nearer to a ban.
    fn keep_name(&mut self, name: Box<str>, rank: u8) -> Link {
        if self.names.len() < NAMES_MAX || self.forget_names(rank) {
            self.names.insert(name)
        } else {
            None
        }
    }

    /// Forgets the names of one source of at most this rank.
    fn forget_names(&mut self, rank: u8) -> bool {
        let Self { queues, records, nodes, names, .. } = self;
        for queue in queues.iter_mut().take(usize::from(rank) + 1) {
            while let Some(record) = queue.named.and_then(|place| records.get(place)) {
                queue.named = record.behind;
                let before = names.len();
                let mut next = Some(record.newest);
                while let Some(node) = next.and_then(|number| nodes.get_mut(number)) {
                    next = node.older;
                    node.name.take().and_then(|name| names.remove(name));
                }
                if names.len() < before {
                    return true;
                }
            }
        }
        false
    }

    fn chain_of(&self, address: Ipv6Addr) -> usize {
        let hash = usize::try_from(self.hasher.hash_one(address) >> 32).unwrap_or(0);
        hash & self.chains.len().saturating_sub(1)
    }

    fn find(&self, address: Ipv6Addr) -> Link {
        let first = *self.chains.get(self.chain_of(address))?;
        std::iter::successors(first, |place| self.records.get(*place)?.chain)
            .find(|place| self.records.get(*place).is_some_and(|r| r.address == address))
    }

    fn insert(&mut self, address: Ipv6Addr, newest: NonZeroU32, rank: u8) {
        if self.chains.is_empty() {
            // For all that there can be, so that none ever waits for a larger table. Memory that is
            // zero and not written to costs nothing.
            self.chains = vec![None; self.capacity.next_power_of_two()];
        }
        let chain = self.chain_of(address);
        let Some(queue) = self.queues.get_mut(usize::from(rank)) else { return };
        let Some(first) = self.chains.get_mut(chain) else { return };
        let record =
            Record { address, chain: *first, before: queue.last, behind: None, newest, rank };
        let place = self.records.insert(record);
        *first = place;
        match queue.last.and_then(|last| self.records.get_mut(last)) {
            Some(last) => last.behind = place,
            None => queue.first = place,
        }
        queue.last = place;
        queue.named = queue.named.or(place);
    }

    /// Forgets a source, telling its failures, the newest first.
    fn remove(&mut self, address: Ipv6Addr, mut tell: impl FnMut(Failure)) -> bool {
        let Some(record) = self.unlink(address) else { return false };
        let mut next = Some(record.newest);
        while let Some(node) = next.and_then(|number| self.nodes.remove(number)) {
            next = node.older;
            let name = node.name.and_then(|name| self.names.remove(name));
            tell(node.failure(name));
        }
        true
    }

    /// Takes a record out of its chain and its queue.
    fn unlink(&mut self, address: Ipv6Addr) -> Option<Record> {
        let place = self.find(address)?;
        let chain = self.chain_of(address);
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
        if queue.named == Some(place) {
            queue.named = behind;
        }
        Some(record)
    }
}

impl Node {
    fn failure(&self, name: Option<Box<str>>) -> Failure {
        let Self { at, account, class, proven, punished, teller, .. } = *self;
        Failure { at, class, proven, punished, teller, account, name }
    }
}

fn key(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests;

//! The sources that have failed: failures by address enter and leave.
//!
//! The names of the accounts are attacker text of any length. They are kept apart from the
//! [`Table`], in a store with a bound of its own, for the sources of the highest ranks.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::slots::{Link, Slots};
use super::table::{Dated, Table};
use super::tick::Tick;
use crate::clock::KernelTime;
use crate::failure::Class;

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
    table: Table<Node>,
    names: Slots<Box<str>>,
}

/// A failure as it is kept.
#[derive(Debug)]
struct Node {
    at: Tick,
    account: Option<NonZeroU32>,
    name: Link,
    class: Class,
    proven: bool,
    punished: bool,
    teller: u8,
}

impl Dated for Node {
    fn at(&self) -> Tick {
        self.at
    }
}

impl Watched {
    /// Room for so many sources, and for one that fails `failures` times.
    pub(super) fn new(capacity: usize, failures: usize) -> Self {
        let capacity = capacity.max(1);
        let failures = capacity.saturating_mul(FAILURES_PER_SOURCE).saturating_add(failures);
        Self { table: Table::new(capacity, failures), names: Slots::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Forgets a source; its failures, the oldest first, are in `failures` after that.
    pub(super) fn take(&mut self, address: IpAddr, failures: &mut Vec<Failure>) -> bool {
        failures.clear();
        let Self { table, names } = self;
        let found = table.take(key(address), |node| {
            let name = node.name.and_then(|name| names.remove(name));
            failures.push(node.failure(name));
        });
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
        let too_many = failures.len().saturating_sub(self.table.items_max());
        failures.drain(..too_many);
        let Self { table, names } = self;
        let forgotten = table.make_room(failures.len(), |node| forget_name(names, &node));
        let mut newest = None;
        for failure in failures.drain(..) {
            let Failure { at, class, proven, punished, teller, account, name } = failure;
            let name = name.and_then(|name| self.keep_name(name, rank));
            let node = Node { at, account, name, class, proven, punished, teller };
            newest = self.table.add(node, newest);
        }
        self.table.enter(key(address), newest, rank);
        forgotten
    }

    /// When a source last failed, if it is remembered.
    pub(super) fn last(&self, address: IpAddr) -> Option<Tick> {
        self.table.items(key(address)).next().map(Node::at)
    }

    /// A source's failures, the oldest first.
    pub(super) fn failures(&self, address: IpAddr) -> Vec<Failure> {
        let name = |node: &Node| node.name.and_then(|name| self.names.get(name)).cloned();
        let told = self.table.items(key(address)).map(|node| node.failure(name(node)));
        let mut failures: Vec<Failure> = told.collect();
        failures.reverse();
        failures
    }

    /// All sources.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.table.keys().map(|key| key.to_canonical())
    }

    /// Forgets sources whose last failure is at least as old as `findtime`, but no more than `most`.
    /// Returns how old the oldest last failure of the others is.
    pub(super) fn forget_old(
        &mut self,
        findtime: Duration,
        most: usize,
        now: KernelTime,
    ) -> Option<Duration> {
        let Self { table, names } = self;
        table.forget_old(findtime, most, now, |node| forget_name(names, &node))
    }

    /// Keeps a name for a source of this rank, in place of those of one that is no nearer to a ban.
    fn keep_name(&mut self, name: Box<str>, rank: u8) -> Link {
        let Self { table, names } = self;
        let room = names.len() < NAMES_MAX
            || table.visit(rank, |node| node.name.take().and_then(|n| names.remove(n)).is_some());
        if room { names.insert(name) } else { None }
    }
}

fn forget_name(names: &mut Slots<Box<str>>, node: &Node) {
    if let Some(name) = node.name {
        names.remove(name);
    }
}

impl Node {
    fn failure(&self, name: Option<Box<str>>) -> Failure {
        let Self { at, account, class, proven, punished, teller, .. } = *self;
        Failure { at, class, proven, punished, teller, account, name }
    }
}

/// An address as a key of a [`Table`].
pub(super) fn key(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests;

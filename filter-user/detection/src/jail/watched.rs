//! The sources that have failed, with their failures by address.
//!
//! Attackers choose the names of accounts, which can have any length. The names, and the addresses of a
//! source with many, are kept outside the [`Table`] in memory with a separate bound, for the sources with
//! the highest ranks.

use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::time::Duration;

use super::slots::{Link, Slots};
use super::table::{Dated, Table};
use super::tick::Tick;
use crate::clock::KernelTime;
use crate::failure::Class;

/// How many failures are remembered for each source, on average.
const FAILURES_PER_SOURCE: usize = 2;

/// The most failures whose account and address are remembered, over all sources.
const DETAILS_MAX: usize = 65_536;

/// A failure of a source.
#[derive(Clone, Debug)]
pub(super) struct Failure {
    pub(super) at: Tick,
    pub(super) class: Class,
    /// Whether it is proven.
    pub(super) proven: bool,
    /// Whether it has led to a ban with the unproven scope.
    pub(super) punished: bool,
    /// The number of the source that reported it.
    pub(super) reporter: u8,
    /// The hash of the account's name, if it has one.
    pub(super) account: Option<NonZeroU32>,
    /// The name itself, and the address if its source has several, as long as they are kept.
    pub(super) details: Details,
}

/// The details of a failure, which are shown but do not count.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Details {
    /// The account's name.
    pub(super) name: Option<Box<str>>,
    /// The address that failed.
    pub(super) address: Option<Ipv6Addr>,
}

/// The sources that have failed.
#[derive(Debug)]
pub(super) struct Watched {
    table: Table<Node>,
    details: Slots<Details>,
}

/// A failure in its stored form.
#[derive(Debug)]
struct Node {
    at: Tick,
    account: Option<NonZeroU32>,
    details: Link,
    class: Class,
    proven: bool,
    punished: bool,
    reporter: u8,
}

impl Dated for Node {
    fn at(&self) -> Tick {
        self.at
    }
}

impl Watched {
    /// A record with room for this many sources, and for one that fails `failures` times.
    pub(super) fn new(capacity: usize, failures: usize) -> Self {
        let capacity = capacity.max(1);
        let failures = capacity.saturating_mul(FAILURES_PER_SOURCE).saturating_add(failures);
        Self { table: Table::new(capacity, failures), details: Slots::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// Forgets a source; afterwards its failures are in `failures`, oldest first.
    pub(super) fn take(&mut self, address: IpAddr, failures: &mut Vec<Failure>) -> bool {
        failures.clear();
        let Self { table, details } = self;
        let found = table.take(key(address), |node| {
            let kept = node.details.and_then(|kept| details.remove(kept));
            failures.push(node.failure(kept));
        });
        failures.reverse();
        found
    }

    /// Remembers an unknown source with its failures, oldest first. Returns how many others had to be
    /// forgotten for it. Sources must be remembered in the order of their last failures.
    pub(super) fn put(&mut self, address: IpAddr, failures: &mut Vec<Failure>, rank: u8) -> u64 {
        if failures.is_empty() {
            return 0;
        }
        let too_many = failures.len().saturating_sub(self.table.items_max());
        failures.drain(..too_many);
        let Self { table, details } = self;
        let forgotten = table.make_room(failures.len(), |node| forget_details(details, &node));
        let mut newest = None;
        for failure in failures.drain(..) {
            let Failure { at, class, proven, punished, reporter, account, details } = failure;
            let details = self.keep(details, rank);
            let node = Node { at, account, details, class, proven, punished, reporter };
            newest = self.table.add(node, newest);
        }
        self.table.enter(key(address), newest, rank);
        forgotten
    }

    /// When a source last failed, if it is remembered.
    pub(super) fn last(&self, address: IpAddr) -> Option<Tick> {
        self.table.items(key(address)).next().map(Node::at)
    }

    /// Whether one of a source's failures of this time names no account.
    pub(super) fn has_nameless(&self, address: IpAddr, is_recent: impl Fn(Tick) -> bool) -> bool {
        let mut recent = self.table.items(key(address)).take_while(|node| is_recent(node.at()));
        recent.any(|node| node.account.is_none())
    }

    /// A source's failures, oldest first.
    pub(super) fn failures(&self, address: IpAddr) -> Vec<Failure> {
        let kept = |node: &Node| node.details.and_then(|kept| self.details.get(kept)).cloned();
        let told = self.table.items(key(address)).map(|node| node.failure(kept(node)));
        let mut failures: Vec<Failure> = told.collect();
        failures.reverse();
        failures
    }

    /// All sources.
    pub(super) fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.table.keys().map(|key| key.to_canonical())
    }

    /// Forgets sources whose last failure is at least `findtime` old, but no more than `most`. Returns
    /// the age of the oldest last failure among the others.
    pub(super) fn forget_old(
        &mut self,
        findtime: Duration,
        most: usize,
        now: KernelTime,
    ) -> Option<Duration> {
        let Self { table, details } = self;
        table.forget_old(findtime, most, now, |node| forget_details(details, &node))
    }

    /// Keeps the details of a source of this rank, in place of those of a source no closer to a ban.
    fn keep(&mut self, new: Details, rank: u8) -> Link {
        if new == Details::default() {
            return None;
        }
        let Self { table, details } = self;
        let room = details.len() < DETAILS_MAX
            || table
                .visit(rank, |node| node.details.take().and_then(|n| details.remove(n)).is_some());
        if room { details.insert(new) } else { None }
    }
}

fn forget_details(details: &mut Slots<Details>, node: &Node) {
    if let Some(kept) = node.details {
        details.remove(kept);
    }
}

impl Node {
    fn failure(&self, details: Option<Details>) -> Failure {
        let Self { at, account, class, proven, punished, reporter, .. } = *self;
        let details = details.unwrap_or_default();
        Failure { at, class, proven, punished, reporter, account, details }
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

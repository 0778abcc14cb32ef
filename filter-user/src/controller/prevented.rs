//! Bans that are prevented because the address is essential, trusted, the host's own or a peer's.
//!
//! All are counted. The log and the history report each address at most once an hour.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use api::{HistoryEvent, Prevented};
use log::warn;

use super::Controller;
use super::digest::Topic;
use crate::clock::{KernelTime, Now};
use crate::datapath::Datapath;
use crate::duration;

/// The maximum number of addresses. The one whose last prevented ban is oldest is removed first.
const ADDRESSES_MAX: usize = 256;

/// The maximum number of addresses in each of the two generations whose failures are counted.
const GENERATION: usize = 1024;

/// The time within which an address is reported only once.
const ONCE: Duration = Duration::from_hours(1);

/// The prevented bans of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sum {
    is: &'static str,
    jail: &'static str,
    failures: u64,
    bans: u64,
    last: KernelTime,
    /// When it was last reported in the log and the history.
    told: Option<KernelTime>,
}

/// An address, the jail that does not count its failures, and what the address is: a jail spares some failures for
/// one reason, and others for another one.
type Spared = (IpAddr, &'static str, &'static str);

/// The failures that a jail does not count.
#[derive(Clone, Copy, Debug)]
struct Window {
    since: KernelTime,
    failures: u32,
}

/// The prevented bans, by address.
#[derive(Debug, Default)]
pub(super) struct Register {
    sums: BTreeMap<IpAddr, Sum>,
    total: u64,
    last: Option<IpAddr>,
    young: HashMap<Spared, Window>,
    old: HashMap<Spared, Window>,
}

impl Register {
    /// Counts a prevented ban. Returns whether to report it.
    fn note(
        &mut self,
        (address, is): (IpAddr, &'static str),
        (jail, failures): (&'static str, u64),
        now: KernelTime,
    ) -> bool {
        self.total = self.total.saturating_add(1);
        self.last = Some(address);
        if !self.sums.contains_key(&address) && self.sums.len() >= ADDRESSES_MAX {
            let oldest = self.sums.iter().min_by_key(|(_, sum)| sum.last).map(|(of, _)| *of);
            oldest.and_then(|oldest| self.sums.remove(&oldest));
        }
        let none = Sum { is, jail, failures: 0, bans: 0, last: now, told: None };
        let sum = self.sums.entry(address).or_insert(none);
        sum.failures = sum.failures.saturating_add(failures);
        sum.bans = sum.bans.saturating_add(1);
        (sum.is, sum.jail, sum.last) = (is, jail, now);
        let is_due = sum.told.is_none_or(|told| now.since(told) >= ONCE);
        if is_due {
            sum.told = Some(now);
        }
        is_due
    }

    /// Counts a failure that a jail does not count. Returns whether a jail with this `maxretry` and `findtime`
    /// would have banned another address; then the count starts again at zero.
    fn failed(
        &mut self,
        of: Spared,
        (maxretry, findtime): (u32, Duration),
        now: KernelTime,
    ) -> bool {
        let begins = Window { since: now, failures: 0 };
        if !self.young.contains_key(&of) {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            let before = self.old.remove(&of).unwrap_or(begins);
            self.young.insert(of, before);
        }
        let window = self.young.entry(of).or_insert(begins);
        if now.since(window.since) > findtime {
            *window = begins;
        }
        window.failures = window.failures.saturating_add(1);
        let is_enough = window.failures >= maxretry;
        if is_enough {
            *window = begins;
        }
        is_enough
    }

    pub(super) fn of(&self, address: IpAddr, clock: Now) -> Option<Prevented> {
        let Sum { is, jail, failures, bans, last, .. } = self.sums.get(&address)?.clone();
        Some(Prevented {
            address,
            is: is.to_owned(),
            jail: jail.to_owned(),
            failures,
            bans,
            last: clock.show(last),
        })
    }

    /// The number of prevented bans, and the last one.
    pub(super) fn total(&self, clock: Now) -> (u64, Option<Prevented>) {
        (self.total, self.last.and_then(|address| self.of(address, clock)))
    }
}

impl<D: Datapath> Controller<D> {
    /// Records that a jail does not ban an address because of what it `is`.
    pub(super) fn prevent(
        &mut self,
        (address, is): (IpAddr, &'static str),
        (jail, failures, reason): (&'static str, usize, &str),
        now: KernelTime,
    ) {
        if self.count_prevented((address, is), (jail, failures, reason), now) {
            warn!("{jail}: {address} is not banned, because it is {is}: {reason}");
        }
    }

    /// The same without the log. Returns whether to report it.
    pub(super) fn count_prevented(
        &mut self,
        (address, is): (IpAddr, &'static str),
        (jail, failures, reason): (&'static str, usize, &str),
        now: KernelTime,
    ) -> bool {
        let is_due = self.prevented.note((address, is), (jail, failures as u64), now)
            && self.digest.has_line(Topic::Exception, jail, now);
        if is_due {
            self.tell_prevented((address, is), jail, reason);
            let (jail, is, reason) = (jail.to_owned(), is.to_owned(), reason.to_owned());
            let event = HistoryEvent::BanPrevented { jail, is, reason };
            self.note(Some(address.into()), &event, now);
        }
        is_due
    }

    /// Counts a failure of a trusted or own address. Reports it if the jail would have banned another
    /// address.
    pub(super) fn failed_though(
        &mut self,
        (address, is): (IpAddr, &'static str),
        place: usize,
        now: KernelTime,
    ) {
        self.failed_often_though((address, is), 1, place, now);
    }

    /// The same, and only reports this many times as many failures.
    pub(super) fn failed_often_though(
        &mut self,
        (address, is): (IpAddr, &'static str),
        times: u32,
        place: usize,
        now: KernelTime,
    ) {
        let Some(jail) = self.jails.get(place) else { return };
        let (name, settings) = (jail.name(), jail.settings());
        let (most, findtime) = (settings.maxretry.saturating_mul(times), settings.findtime);
        if self.prevented.failed((address, name, is), (most, findtime), now) {
            let reason = format!("{most} failures within {}", duration::format(findtime));
            let failures = usize::try_from(most).unwrap_or(usize::MAX);
            self.prevent((address, is), (name, failures, &reason), now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::at;
    use super::*;

    const IS: &str = "trusted";

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn an_address_has_one_line_an_hour() {
        let mut register = Register::default();
        let told =
            (0..7200).filter(|second| register.note((address(1), IS), ("sshd", 5), at(*second)));
        assert_eq!(told.collect::<Vec<_>>(), [0, 3600]);
        let sum = &register.sums[&address(1)];
        assert_eq!((sum.bans, sum.failures, register.total), (7200, 5 * 7200, 7200));
    }

    #[test]
    fn addresses_are_bounded_and_the_last_are_kept() {
        let mut register = Register::default();
        for n in 0..10_000 {
            register.note((address(n), IS), ("sshd", 5), at(u64::from(n)));
            register.failed((address(n), "sshd", IS), (5, Duration::from_mins(10)), at(0));
        }
        assert_eq!(register.sums.len(), ADDRESSES_MAX);
        assert!(register.sums.contains_key(&address(9_999)));
        assert!(register.young.len() + register.old.len() <= 2 * GENERATION);
    }

    #[test]
    fn failures_that_are_spared_for_different_reasons_do_not_add_up() {
        let mut register = Register::default();
        let mut failed =
            |is| register.failed((address(1), "sshd", is), (3, Duration::from_mins(10)), at(0));
        let reasons = ["a known peer", "an established peer"];
        let enough = |_| reasons.map(&mut failed);
        assert_eq!([0, 1, 2].map(enough), [[false; 2], [false; 2], [true; 2]]);
    }

    #[test]
    fn failures_count_within_findtime() {
        let mut register = Register::default();
        let mut failed = |second| {
            register.failed((address(1), "sshd", IS), (3, Duration::from_secs(10)), at(second))
        };
        let enough: Vec<u64> = [0, 1, 12, 13, 14, 15, 16, 40, 41]
            .into_iter()
            .filter(|second| failed(*second))
            .collect();
        assert_eq!(enough, [14]);
    }
}

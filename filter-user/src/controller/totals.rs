//! The failures and bans that each jail has counted, since the start and in all.
//!
//! The store keeps the totals. Failures that are given to a jail again after a restart are not counted
//! again.

use std::collections::BTreeMap;

use api::{JailCounts, JailTotal};

use super::Controller;
use crate::clock::{KernelTime, Moment, Now};
use crate::datapath::Datapath;
use crate::store::{TOTALS_MAX, Total};

/// What the jails have counted, by name. Jails that the configuration no longer has stay.
#[derive(Default)]
pub(super) struct Totals(BTreeMap<String, Counted>);

struct Counted {
    since_start: JailCounts,
    before: JailCounts,
    /// When the first was counted.
    first: Moment,
}

impl Counted {
    fn total(&self) -> Total {
        let Self { since_start, before, first } = self;
        Total {
            failures: before.failures.saturating_add(since_start.failures),
            bans: before.bans.saturating_add(since_start.bans),
            since: *first,
        }
    }
}

impl Totals {
    /// Adds the totals of earlier starts.
    pub(super) fn load(&mut self, kept: BTreeMap<String, Total>) {
        for (jail, Total { failures, bans, since }) in kept {
            let Some(counted) = self.of(&jail, since) else { continue };
            counted.before = JailCounts { failures, bans };
            counted.first = counted.first.min(since);
        }
    }

    /// What the jail has counted; `None` if there are too many jails.
    fn of(&mut self, jail: &str, now: Moment) -> Option<&mut Counted> {
        if !self.0.contains_key(jail) {
            if self.0.len() >= TOTALS_MAX {
                return None;
            }
            let (since_start, before) = (JailCounts::default(), JailCounts::default());
            self.0.insert(jail.to_owned(), Counted { since_start, before, first: now });
        }
        self.0.get_mut(jail)
    }

    /// The bans that all jails have decided on since the start.
    pub(super) fn bans_made(&self) -> u64 {
        self.0.values().map(|counted| counted.since_start.bans).sum()
    }

    /// What the jail has counted since the start, and in all.
    pub(super) fn report(&self, jail: &str, clock: Now) -> (JailCounts, JailTotal) {
        let Some(counted) = self.0.get(jail) else { return Default::default() };
        let Total { failures, bans, since } = counted.total();
        let total = JailTotal { failures, bans, since: Some(clock.show(since)) };
        (counted.since_start, total)
    }
}

impl<D: Datapath> Controller<D> {
    /// Counts a failure that a jail takes.
    pub(super) fn count_failure(&mut self, jail: &'static str, now: KernelTime) {
        self.count(jail, now, |counts| counts.failures = counts.failures.saturating_add(1));
    }

    /// Counts a ban that a jail has decided on.
    pub(super) fn count_ban(&mut self, jail: &'static str, now: KernelTime) {
        self.count(jail, now, |counts| counts.bans = counts.bans.saturating_add(1));
    }

    fn count(&mut self, jail: &'static str, now: KernelTime, add: impl FnOnce(&mut JailCounts)) {
        let Some(counted) = self.totals.of(jail, now.into()) else { return };
        add(&mut counted.since_start);
        self.bans.store().set_total(jail, counted.total());
    }

    /// Saves all totals again.
    pub(super) fn put_totals(&self) {
        for (jail, counted) in &self.totals.0 {
            self.bans.store().set_total(jail, counted.total());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{NoKernel, at, fail, started_with};
    use super::*;
    use crate::controller::Controller;

    const JAIL: &str = "asterisk-wazo";

    fn counted(controller: &Controller<NoKernel>) -> [(u64, u64); 2] {
        let (since_start, total) = controller.totals.report(JAIL, controller.started);
        [(since_start.failures, since_start.bans), (total.failures, total.bans)]
    }

    #[test]
    fn failures_and_bans_are_counted_since_the_start_and_in_all() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        assert_eq!(controller.totals.report(JAIL, controller.started).1.since, None);
        fail(&mut controller, [203, 0, 113, 7], 20);
        assert_eq!(counted(&controller), [(15, 1); 2], "failures during the ban do not count");
        // What an earlier start has counted may be readable only now.
        let earlier = Total { failures: 100, bans: 10, since: Moment(-1_000_000_000_000) };
        controller.totals.load(BTreeMap::from([(JAIL.to_owned(), earlier)]));
        assert_eq!(counted(&controller), [(15, 1), (115, 11)]);
        let total = controller.totals.report(JAIL, controller.started).1;
        assert_eq!(total.since.as_deref(), Some("1970-01-01T00:00:00Z"));
        fail(&mut controller, [203, 0, 113, 8], 1);
        assert_eq!(counted(&controller), [(16, 1), (116, 11)]);
    }

    #[test]
    fn what_a_jail_does_not_take_is_not_counted() {
        let ignored = "203.0.113.0/24".parse().unwrap();
        let mut controller = started_with(NoKernel::default(), |config| {
            config.jails.get_mut(JAIL).unwrap().ignoreip.push(ignored);
        });
        fail(&mut controller, [203, 0, 113, 7], 3);
        fail(&mut controller, [198, 51, 100, 7], 3);
        assert_eq!(counted(&controller), [(0, 0); 2]);
    }

    #[test]
    fn what_is_recalled_is_not_counted_again() {
        let mut controller = started_with(NoKernel::default(), |_default| {});
        fail(&mut controller, [203, 0, 113, 7], 3);
        let told = controller.store().take_jail_records();
        let mut again = started_with(NoKernel::default(), |_default| {});
        again.recall(told, at(10));
        assert_eq!(counted(&again), [(0, 0); 2]);
    }

    #[test]
    fn the_number_of_jails_is_bounded() {
        let mut totals = Totals::default();
        for number in 0..=TOTALS_MAX {
            totals.of(&number.to_string(), Moment(0));
        }
        assert_eq!(totals.0.len(), TOTALS_MAX);
    }
}

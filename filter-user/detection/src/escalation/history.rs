//! Remembers how often each jail has banned an address.
//!
//! Bounded: old bans are forgotten. When there are too many, offenders without proven bans are evicted before
//! the others, oldest first.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::ops::Bound;
use std::time::Duration;

use super::{Case, Offender, Pardon};
use crate::clock::{KernelTime, Moment};

/// How much is remembered, and for how long.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// The most offenders, each by address and jail.
    pub capacity: usize,
    /// How long an offender is remembered after the end of its last ban.
    pub remember: Duration,
}

/// The bans of one offender.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// The number of bans.
    pub bans: u32,
    /// How many of these were proven.
    pub proven: u32,
    /// When the last ban began.
    pub last: Moment,
    /// When the last ban ends or ended.
    pub until: Moment,
    /// When the last proven ban began.
    pub last_proven: Option<Moment>,
}

impl Record {
    fn has_ended_before(&self, now: KernelTime, remember: Duration) -> bool {
        self.until.age(now) >= remember
    }

    /// The sum of both, where neither has counted a ban of the other.
    fn and(self, other: Self) -> Self {
        Self {
            bans: self.bans.saturating_add(other.bans),
            proven: self.proven.saturating_add(other.proven),
            last: self.last.max(other.last),
            until: self.until.max(other.until),
            last_proven: self.last_proven.max(other.last_proven),
        }
    }
}

/// The number of earlier bans.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// All bans.
    pub bans: u32,
    /// Only the proven ones.
    pub proven: u32,
}

/// The order of eviction.
type Place = (bool, Moment, Offender);

/// The history of all offenders.
#[derive(Debug)]
pub struct History {
    bounds: Bounds,
    records: BTreeMap<Offender, Record>,
    order: BTreeSet<Place>,
}

impl History {
    /// An empty history.
    pub fn new(bounds: Bounds) -> Self {
        let bounds = Bounds { capacity: bounds.capacity.max(1), ..bounds };
        Self { bounds, records: BTreeMap::new(), order: BTreeSet::new() }
    }

    /// The number of remembered offenders.
    pub fn len(&self) -> usize {
        self.records.len()
    }

    /// Whether no offender is remembered.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// The records after this offender, in order; from the first one if `None`.
    pub fn after(&self, who: Option<Offender>) -> impl Iterator<Item = (Offender, &Record)> {
        let start = who.map_or(Bound::Unbounded, Bound::Excluded);
        self.records.range((start, Bound::Unbounded)).map(|(who, record)| (*who, record))
    }

    /// All records.
    pub fn iter(&self) -> impl Iterator<Item = (Offender, &Record)> {
        self.records.iter().map(|(who, record)| (*who, record))
    }

    /// The number of bans of an address by one jail, or `over_all` jails.
    pub fn total(&self, who: Offender, over_all: bool, now: KernelTime) -> Total {
        let Offender { address, jail } = who;
        let (first, last) = if over_all { (u8::MIN, u8::MAX) } else { (jail, jail) };
        let place = |jail| Offender { address, jail };
        let counts = self.records.range(place(first)..=place(last)).map(|(_, record)| record);
        let counts = counts.filter(|r| !r.has_ended_before(now, self.bounds.remember));
        counts.fold(Total::default(), |sum, record| Total {
            bans: sum.bans.saturating_add(record.bans),
            proven: sum.proven.saturating_add(record.proven),
        })
    }

    /// Whether the history contains a proven ban of an address.
    pub fn has_proven(&self, address: IpAddr) -> bool {
        let place = |jail| Offender { address, jail };
        self.records.range(place(u8::MIN)..=place(u8::MAX)).any(|(_, record)| record.proven > 0)
    }

    /// Counts a ban that has begun at `now`. Returns the offender's record.
    pub fn note(&mut self, case: Case, now: KernelTime, until: KernelTime) -> Record {
        let Case { who, proven, again } = case;
        self.forget_old(now);
        let this = Record {
            bans: u32::from(!again),
            proven: proven.into(),
            last: now.into(),
            until: until.into(),
            last_proven: proven.then(|| now.into()),
        };
        self.add(who, this)
    }

    /// Adds records that were counted elsewhere. Returns those that now contain more.
    pub fn load(
        &mut self,
        kept: Vec<(Offender, Record)>,
        now: KernelTime,
    ) -> Vec<(Offender, Record)> {
        let mut more = Vec::new();
        for (who, record) in kept {
            if record.has_ended_before(now, self.bounds.remember) {
                continue;
            }
            let sum = self.add(who, record);
            if sum != record {
                more.push((who, sum));
            }
        }
        more
    }

    /// Forgets the offenders that a pardon applies to.
    pub fn pardon(&mut self, pardon: Pardon) {
        let first = |address| Offender { address, jail: u8::MIN };
        let covered = |who: &Offender| pardon.covers(*who);
        let gone: Vec<Offender> = match pardon.network {
            None => self.records.keys().copied().filter(covered).collect(),
            Some(network) => {
                let inside = self.records.range(first(network.network())..);
                let inside = inside.map(|(who, _)| *who);
                inside.take_while(|who| network.contains(&who.address)).filter(covered).collect()
            }
        };
        for who in gone {
            self.remove(who);
        }
    }

    fn add(&mut self, who: Offender, new: Record) -> Record {
        let old = self.remove(who);
        let record = old.map_or(new, |old| old.and(new));
        self.records.insert(who, record);
        self.order.insert(place(who, &record));
        if self.records.len() > self.bounds.capacity
            && let Some((.., first)) = self.order.first().copied()
        {
            self.remove(first);
        }
        record
    }

    fn remove(&mut self, who: Offender) -> Option<Record> {
        let record = self.records.remove(&who)?;
        self.order.remove(&place(who, &record));
        Some(record)
    }

    /// Expired offenders are the first of their kind.
    fn forget_old(&mut self, now: KernelTime) {
        for proven in [false, true] {
            let first = (proven, Moment(i64::MIN), FIRST);
            while let Some((kind, _, who)) = self.order.range(first..).next().copied()
                && kind == proven
                && self
                    .records
                    .get(&who)
                    .is_none_or(|r| r.has_ended_before(now, self.bounds.remember))
            {
                if self.remove(who).is_none() {
                    return;
                }
            }
        }
    }
}

/// Sorts before every other key.
const FIRST: Offender =
    Offender { address: IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), jail: u8::MIN };

fn place(who: Offender, record: &Record) -> Place {
    (record.proven > 0, record.until, who)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;

    fn at(seconds: u64) -> KernelTime {
        KernelTime(seconds * SECOND)
    }

    fn history(capacity: usize) -> History {
        History::new(Bounds { capacity, remember: Duration::from_secs(100) })
    }

    fn case(last: u8, jail: u8, proven: bool) -> Case {
        let who = Offender { address: IpAddr::from([203, 0, 113, last]), jail };
        Case { who, proven, again: false }
    }

    #[test]
    fn unproven_bans_do_not_evict_proven_ones() {
        let mut history = history(10);
        history.note(case(1, 0, true), at(0), at(10));
        for n in 2..200 {
            history.note(case(n, 0, false), at(1), at(50));
        }
        assert_eq!(history.len(), 10);
        assert_eq!(history.total(case(1, 0, true).who, false, at(2)).proven, 1);
        // Within a kind, the oldest is evicted.
        for n in 2..12 {
            history.note(case(n, 0, true), at(2), at(20 + u64::from(n)));
        }
        assert_eq!(history.total(case(1, 0, true).who, false, at(2)), Total::default());
        assert_eq!(history.total(case(2, 0, true).who, false, at(2)).proven, 1);
    }

    #[test]
    fn a_pardon_applies_to_its_network_and_jail_only() {
        let mut history = history(100);
        let cases = [case(1, 0, true), case(1, 1, true), case(130, 0, true)];
        for case in cases {
            history.note(case, at(0), at(10));
        }
        history.note(
            Case { who: Offender { address: IpAddr::from([0; 16]), jail: 0 }, ..cases[0] },
            at(0),
            at(10),
        );
        let mut left = |network: Option<&str>, jail| {
            let network = network.map(|network| network.parse().unwrap());
            history.pardon(Pardon { network, jail });
            history.len()
        };
        assert_eq!(left(Some("203.0.113.2/32"), None), 4);
        assert_eq!(left(Some("203.0.113.0/25"), Some(1)), 3);
        assert_eq!(left(Some("203.0.113.128/25"), None), 2);
        assert_eq!(left(None, Some(1)), 2);
        assert_eq!(left(None, None), 0);
    }

    proptest! {
        /// The history agrees with a list of all bans.
        #[test]
        fn counts_agree_with_a_list_of_all_bans(
            steps in proptest::collection::vec((0u64..40, 0u8..4, 0u8..3, any::<bool>(), 1u64..60), 1..100),
        ) {
            let mut history = history(1000);
            // By offender: bans, proven bans, the latest end.
            let mut model: HashMap<Offender, (u32, u32, u64)> = HashMap::new();
            let mut now = 0;
            for (gap, last, jail, proven, time) in steps {
                now += gap;
                let case = case(last, jail, proven);
                model.retain(|_, (.., until)| now < *until + 100);
                let (bans, of_them, until) = model.entry(case.who).or_default();
                *bans += 1;
                *of_them += u32::from(proven);
                *until = (*until).max(now + time);
                let record = history.note(case, at(now), at(now + time));
                prop_assert_eq!((record.bans, record.proven), (*bans, *of_them));
                prop_assert_eq!(history.len(), model.len());
                prop_assert_eq!(history.order.len(), model.len());
                let sum = model.iter().filter(|(who, _)| who.address == case.who.address);
                let sum = sum.fold((0, 0), |sum, (_, (b, p, _))| (sum.0 + b, sum.1 + p));
                let total = history.total(case.who, true, at(now));
                prop_assert_eq!((total.bans, total.proven), sum);
            }
        }

        #[test]
        fn memory_is_bounded(
            capacity in 1usize..20, bans in proptest::collection::vec((any::<u8>(), any::<bool>()), 1..300),
        ) {
            let mut history = history(capacity);
            for (now, (last, proven)) in bans.into_iter().enumerate() {
                let now = now as u64;
                history.note(case(last, 0, proven), at(now), at(now + 10));
                prop_assert!(history.len() <= capacity);
                prop_assert_eq!(history.order.len(), history.len());
            }
        }
    }
}

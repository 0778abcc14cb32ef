//! Decides when what an alert or an action has to say is sent. Events and times enter, messages leave.
//!
//! Events of a group that come soon after its last message wait for the next one. At most one message is on its
//! way at a time; one that fails is sent again, less and less often, until it is given up. Everything is bounded:
//! events for which there is no room are counted.
//!
//! Must never read a clock, wait, or know how a message is sent.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// The attempts to send a message before it is given up.
pub(super) const ATTEMPTS: u32 = 5;

/// The wait after the first failed attempt. Each further wait is four times as long: in all, seven minutes.
const FIRST_WAIT: Duration = Duration::from_secs(5);

/// The time for which `limit` counts.
const HOUR: Duration = Duration::from_hours(1);

/// How much may be sent, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Pace {
    /// The shortest time between two messages of a group.
    pub(super) group: Duration,
    /// The most messages in an hour, and again of those that are critical.
    pub(super) limit: Option<u32>,
    /// The most events of a group that wait.
    pub(super) room: usize,
    /// The most events of a message, and the most of their sizes together.
    pub(super) batch: (usize, usize),
}

/// What belongs into one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Group<K> {
    /// Whether it is sent in quiet hours too.
    pub(super) is_critical: bool,
    /// What its events have in common.
    pub(super) kind: K,
}

/// What is sent at a time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Parcel<K, E> {
    pub(super) number: u64,
    pub(super) group: Group<K>,
    pub(super) events: Vec<E>,
    /// Events that are only counted.
    pub(super) more: u64,
}

/// What has become of the events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Messages that were sent.
    pub(super) sent: u64,
    /// Messages that were given up.
    pub(super) failed: u64,
    /// Events that were sent.
    pub(super) events: u64,
    /// Events for which there was no room.
    pub(super) crowded: u64,
    /// Events in messages that were given up.
    pub(super) given_up: u64,
}

struct Waiting<E> {
    events: VecDeque<(E, usize)>,
    more: u64,
    /// When its last message was made.
    last: Option<Duration>,
}

struct Sending<K, E> {
    parcel: Parcel<K, E>,
    attempts: u32,
    /// When it is sent again; `None` while it is on its way.
    again: Option<Duration>,
}

/// The plan of one alert or action. Times are since any fixed moment.
pub(super) struct Plan<K, E> {
    pace: Pace,
    groups: BTreeMap<Group<K>, Waiting<E>>,
    /// When messages were made within the last hour: those that are not critical, and those that are.
    made: [VecDeque<Duration>; 2],
    sending: Option<Sending<K, E>>,
    number: u64,
    counts: Counts,
}

impl<K: Copy + Ord, E: Clone> Plan<K, E> {
    pub(super) fn new(pace: Pace) -> Self {
        Self {
            pace,
            groups: BTreeMap::new(),
            made: [VecDeque::new(), VecDeque::new()],
            sending: None,
            number: 0,
            counts: Counts::default(),
        }
    }

    pub(super) fn counts(&self) -> Counts {
        self.counts
    }

    /// The events that wait, or are on their way.
    pub(super) fn waiting(&self) -> u64 {
        let on_its_way = self.sending.as_ref().map_or(0, |sending| sending.parcel.events.len());
        let waiting: usize = self.groups.values().map(|group| group.events.len()).sum();
        (waiting + on_its_way) as u64
    }

    /// The events of a group that wait, without those on their way.
    pub(super) fn waiting_in(&self, group: Group<K>) -> usize {
        self.groups.get(&group).map_or(0, |waiting| waiting.events.len())
    }

    /// Whether there is nothing to send.
    pub(super) fn is_idle(&self) -> bool {
        let is_empty = |group: &Waiting<E>| group.events.is_empty() && group.more == 0;
        self.sending.is_none() && self.groups.values().all(is_empty)
    }

    /// Takes an event of this size.
    pub(super) fn add(&mut self, group: Group<K>, event: E, size: usize) {
        let none = Waiting { events: VecDeque::new(), more: 0, last: None };
        let waiting = self.groups.entry(group).or_insert(none);
        if waiting.events.len() >= self.pace.room {
            waiting.more = waiting.more.saturating_add(1);
            self.counts.crowded = self.counts.crowded.saturating_add(1);
        } else {
            waiting.events.push_back((event, size));
        }
    }

    /// Counts events that were lost before they came here.
    pub(super) fn lose(&mut self, group: Group<K>, events: u64) {
        let none = Waiting { events: VecDeque::new(), more: 0, last: None };
        let waiting = self.groups.entry(group).or_insert(none);
        waiting.more = waiting.more.saturating_add(events);
        self.counts.crowded = self.counts.crowded.saturating_add(events);
    }

    /// The message to send now, if there is one. Nothing else is sent until [`done`](Self::done) says how that
    /// went.
    pub(super) fn next(&mut self, now: Duration, is_quiet: bool) -> Option<Parcel<K, E>> {
        if let Some(sending) = &mut self.sending {
            if sending.again.is_none_or(|again| again > now) {
                return None;
            }
            sending.again = None;
            return Some(sending.parcel.clone());
        }
        for made in &mut self.made {
            while made.front().is_some_and(|at| now.saturating_sub(*at) >= HOUR) {
                made.pop_front();
            }
        }
        let Self { groups, made, pace, .. } = self;
        let has_room = |is_critical: bool| {
            let count = made[usize::from(is_critical)].len();
            pace.limit.is_none_or(|limit| count < usize::try_from(limit).unwrap_or(usize::MAX))
        };
        let is_due = |group: &Group<K>, waiting: &Waiting<E>| {
            let is_early = waiting.last.is_some_and(|last| now.saturating_sub(last) < pace.group);
            let is_empty = waiting.events.is_empty() && waiting.more == 0;
            !is_empty
                && !is_early
                && (group.is_critical || !is_quiet)
                && has_room(group.is_critical)
        };
        // The critical ones first, then those that have waited longest.
        let due = groups.iter_mut().filter(|(group, waiting)| is_due(group, waiting));
        let (group, waiting) =
            due.min_by_key(|(group, waiting)| (!group.is_critical, waiting.last, **group))?;
        let group = *group;
        waiting.last = Some(now);
        let (mut events, mut size) = (Vec::new(), 0_usize);
        while let Some((_, next)) = waiting.events.front() {
            size = size.saturating_add(*next);
            if !events.is_empty() && (events.len() >= pace.batch.0 || size > pace.batch.1) {
                break;
            }
            events.extend(waiting.events.pop_front().map(|(event, _)| event));
        }
        let more = std::mem::take(&mut waiting.more);
        if pace.limit.is_some() {
            made[usize::from(group.is_critical)].push_back(now);
        }
        self.number += 1;
        let parcel = Parcel { number: self.number, group, events, more };
        self.sending = Some(Sending { parcel: parcel.clone(), attempts: 0, again: None });
        Some(parcel)
    }

    /// Gives back all events that were not sent, and the number of those that are only counted.
    pub(super) fn rest(&mut self) -> (Vec<E>, u64) {
        let (mut events, mut more) = (Vec::new(), 0_u64);
        if let Some(Sending { parcel, .. }) = self.sending.take() {
            events.extend(parcel.events);
            more = more.saturating_add(parcel.more);
        }
        for waiting in std::mem::take(&mut self.groups).into_values() {
            events.extend(waiting.events.into_iter().map(|(event, _)| event));
            more = more.saturating_add(waiting.more);
        }
        (events, more)
    }

    /// Takes the outcome of sending the last message. Returns whether it is given up.
    pub(super) fn done(&mut self, now: Duration, is_sent: bool) -> bool {
        let Some(mut sending) = self.sending.take() else { return false };
        let events = sending.parcel.events.len() as u64;
        let counts = &mut self.counts;
        if is_sent {
            counts.sent = counts.sent.saturating_add(1);
            counts.events = counts.events.saturating_add(events);
            return false;
        }
        sending.attempts += 1;
        if sending.attempts >= ATTEMPTS {
            counts.failed = counts.failed.saturating_add(1);
            counts.given_up = counts.given_up.saturating_add(events);
            return true;
        }
        let wait = FIRST_WAIT * 4_u32.saturating_pow(sending.attempts - 1);
        sending.again = Some(now.saturating_add(wait));
        self.sending = Some(sending);
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn pace(group: u64, limit: u32, room: usize) -> Pace {
        Pace {
            group: Duration::from_secs(group),
            limit: Some(limit),
            room,
            batch: (room, usize::MAX),
        }
    }

    fn group(is_critical: bool, kind: u8) -> Group<u8> {
        Group { is_critical, kind }
    }

    #[test]
    fn the_first_goes_at_once_and_the_rest_together() {
        let mut plan = Plan::new(pace(60, 10, 3));
        plan.add(group(false, 1), 'a', 1);
        let first = plan.next(SECOND, false).unwrap();
        assert_eq!((first.events, first.more), (vec!['a'], 0));
        plan.done(SECOND, true);
        for event in ['b', 'c', 'd', 'e', 'f'] {
            plan.add(group(false, 1), event, 1);
        }
        assert_eq!(plan.next(60 * SECOND, false), None);
        let rest = plan.next(61 * SECOND, false).unwrap();
        assert_eq!((rest.events, rest.more), (vec!['b', 'c', 'd'], 2));
    }

    #[test]
    fn what_cannot_be_sent_is_tried_again_and_then_given_up() {
        let mut plan = Plan::new(pace(1, 10, 3));
        plan.add(group(false, 1), 'a', 1);
        let (mut at, mut tried) = (Vec::new(), None);
        for second in 0..2000 {
            let now = second * SECOND;
            if let Some(parcel) = plan.next(now, false) {
                assert_eq!(*tried.get_or_insert(parcel.clone()), parcel);
                at.push(second);
                plan.done(now, false);
            }
        }
        assert_eq!(at, [0, 5, 25, 105, 425]);
        assert_eq!((plan.counts().failed, plan.counts().given_up), (1, 1));
        assert!(plan.is_idle());
    }

    #[test]
    fn quiet_hours_hold_back_all_but_the_critical() {
        let mut plan = Plan::new(pace(1, 10, 3));
        plan.add(group(false, 1), 'a', 1);
        assert_eq!(plan.next(SECOND, true), None);
        plan.add(group(true, 1), 'b', 1);
        assert_eq!(plan.next(SECOND, true).unwrap().events, ['b']);
        plan.done(SECOND, true);
        assert_eq!(plan.next(9 * SECOND, true), None);
        assert_eq!(plan.next(10 * SECOND, false).unwrap().events, ['a']);
    }

    #[test]
    fn a_message_has_a_size() {
        let batch = (100, 10);
        let mut plan = Plan::new(Pace { group: Duration::ZERO, limit: None, room: 50, batch });
        for (event, size) in [('a', 4), ('b', 6), ('c', 99), ('d', 1)] {
            plan.add(group(false, 0), event, size);
        }
        let mut sent = Vec::new();
        while let Some(parcel) = plan.next(SECOND, false) {
            sent.push(parcel.events.iter().collect::<String>());
            plan.done(SECOND, true);
        }
        assert_eq!(sent, ["ab", "c", "d"]);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Add(bool, u8),
        Lose(u8),
        Pass(u16),
        Done(bool),
        Quiet(bool),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let step = prop_oneof![
            6 => (any::<bool>(), 0..4_u8).prop_map(|(critical, kind)| Step::Add(critical, kind)),
            1 => (0..4_u8).prop_map(Step::Lose),
            3 => (0..900_u16).prop_map(Step::Pass),
            3 => any::<bool>().prop_map(Step::Done),
            1 => any::<bool>().prop_map(Step::Quiet),
        ];
        vec(step, 0..400)
    }

    proptest! {
        #[test]
        fn no_event_is_forgotten_and_no_bound_exceeded(
            steps in steps(),
            group_seconds in 0..300_u64,
            limit in 1..20_u32,
            room in 1..8_usize,
        ) {
            let mut plan = Plan::new(pace(group_seconds, limit, room));
            let (mut now, mut is_quiet, mut on_its_way) = (Duration::ZERO, false, false);
            let (mut added, mut lost, mut more) = (0_u64, 0, 0);
            let mut made: Vec<(Duration, Group<u8>)> = Vec::new();
            let mut last_number = 0;
            for step in steps {
                match step {
                    Step::Add(critical, kind) => {
                        plan.add(group(critical, kind), added, 1);
                        added += 1;
                    }
                    Step::Lose(kind) => {
                        plan.lose(group(false, kind), 3);
                        lost += 3;
                    }
                    Step::Pass(seconds) => now += u32::from(seconds) * SECOND,
                    Step::Done(is_sent) if on_its_way => {
                        plan.done(now, is_sent);
                        on_its_way = false;
                    }
                    Step::Done(_) => {}
                    Step::Quiet(quiet) => is_quiet = quiet,
                }
                if let Some(parcel) = plan.next(now, is_quiet) {
                    prop_assert!(!on_its_way, "two at a time");
                    on_its_way = true;
                    prop_assert!(parcel.events.len() <= room);
                    if parcel.number != last_number {
                        last_number = parcel.number;
                        more += parcel.more;
                        prop_assert!(parcel.group.is_critical || !is_quiet);
                        let before = made.iter().rev().find(|(_, of)| *of == parcel.group);
                        if let Some((before, _)) = before {
                            prop_assert!(now.saturating_sub(*before) >= Duration::from_secs(group_seconds));
                        }
                        made.push((now, parcel.group));
                        let critical = parcel.group.is_critical;
                        let recent = made.iter().filter(|(at, of)| {
                            of.is_critical == critical && now.saturating_sub(*at) < HOUR
                        });
                        prop_assert!(recent.count() <= usize::try_from(limit).unwrap());
                    }
                }
                let Counts { events, crowded, given_up, .. } = plan.counts();
                prop_assert_eq!(added + lost, events + crowded + given_up + plan.waiting());
                prop_assert!(plan.waiting() <= 9 * room as u64);
            }
            // With time and somebody who takes them, all are sent, and each that was left out is counted there.
            for _ in 0..200 {
                now += HOUR;
                if on_its_way {
                    plan.done(now, true);
                    on_its_way = false;
                }
                if let Some(parcel) = plan.next(now, false) {
                    if parcel.number != last_number {
                        (last_number, more) = (parcel.number, more + parcel.more);
                    }
                    on_its_way = true;
                }
            }
            prop_assert!(plan.is_idle());
            let Counts { events, crowded, given_up, .. } = plan.counts();
            prop_assert_eq!(added + lost, events + crowded + given_up);
            prop_assert_eq!(more, crowded);
        }
    }
}

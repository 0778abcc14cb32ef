//! The defaults against phones: the packets of RFC 3261's non-INVITE client transaction go through the
//! buckets of `filter-common`.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::atomic::AtomicU64;

use filter_common::rate::Gcra;

use super::*;

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1000 * MILLI;

/// RFC 3261 section 17.1.2.2 and its table 4: timer E starts at T1 and doubles up to T2, timer F
/// ends the transaction after 64 T1.
const T1: u64 = 500 * MILLI;
const T2: u64 = 4 * SECOND;
const TIMER_F: u64 = 64 * T1;

/// The buckets that one packet of an unknown source must pass.
struct Filter {
    tiers: [([Gcra; 7], [AtomicU64; 7]); 3],
    refused: u64,
}

impl Filter {
    fn new(limits: &Limits) -> Self {
        let tiers = [limits.source, limits.prefix.classes, limits.shared].map(|classes| {
            let gcra = |limit: Limit| {
                let period = u64::try_from(limit.rate.period().as_nanos()).unwrap();
                Gcra::new(limit.rate.events().into(), period, limit.burst.into())
            };
            (classes.in_class_order().map(gcra), std::array::from_fn(|_| AtomicU64::new(0)))
        });
        Self { tiers, refused: 0 }
    }

    fn passes(&mut self, class: usize, now: u64) -> bool {
        let passes =
            self.tiers.iter().all(|(gcra, buckets)| gcra[class].take(&buckets[class], now));
        self.refused += u64::from(!passes);
        passes
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Step {
    /// The phone sends its request, counting retransmissions.
    Send { attempt: u32 },
    /// The server's answer arrives.
    Answer,
}

#[derive(Clone, Copy, Default)]
struct Phone {
    /// 0: REGISTER without credentials, 1: with, 2: registered.
    leg: usize,
    leg_began: u64,
    /// Whether the server has received the request and will answer it.
    heard: bool,
    registered_at: Option<u64>,
}

/// Lets phones behind one address register at the given times, with a server that takes `service`
/// nanoseconds for each answer, one after the other. Returns when each was registered.
fn register(filter: &mut Filter, starts: &[u64], service: u64) -> Vec<Option<u64>> {
    const ROUND_TRIP: u64 = 30 * MILLI;
    let mut phones = vec![Phone::default(); starts.len()];
    let mut queue = BinaryHeap::new();
    for (phone, start) in starts.iter().enumerate() {
        phones[phone].leg_began = *start;
        queue.push(Reverse((*start, phone, 0, Step::Send { attempt: 0 })));
    }
    let mut server_free = 0;
    while let Some(Reverse((now, number, leg, step))) = queue.pop() {
        let phone = &mut phones[number];
        if phone.leg != leg || now > phone.leg_began + TIMER_F {
            continue; // The transaction has ended.
        }
        match step {
            Step::Send { attempt } => {
                // The server answers a request once, but its retransmission consumes from the buckets.
                if filter.passes(leg, now) && !phone.heard {
                    phone.heard = true;
                    server_free = now.max(server_free) + service;
                    queue.push(Reverse((server_free + ROUND_TRIP, number, leg, Step::Answer)));
                }
                let wait = (T1 << attempt.min(3)).min(T2);
                let again = Step::Send { attempt: attempt + 1 };
                queue.push(Reverse((now + wait, number, leg, again)));
            }
            Step::Answer => {
                phone.leg += 1;
                phone.leg_began = now;
                phone.heard = false;
                if phone.leg == 2 {
                    phone.registered_at = Some(now);
                } else {
                    queue.push(Reverse((now, number, phone.leg, Step::Send { attempt: 0 })));
                }
            }
        }
    }
    phones.iter().map(|phone| phone.registered_at).collect()
}

#[test]
fn two_hundred_phones_behind_one_address_register_at_once() {
    let start = 1000 * SECOND;
    // With a server that answers at once, nothing is refused and nothing is late.
    let mut filter = Filter::new(&Limits::default());
    let registered = register(&mut filter, &[start; 200], MILLI);
    let last = registered.iter().map(|at| at.expect("every phone registers")).max().unwrap();
    assert!(last - start < T1, "{} ms", (last - start) / MILLI);
    assert_eq!(filter.refused, 0);
    // With a server that needs 8 s for the 400 answers, the retransmissions exhaust the buckets. Some
    // phones wait, but all register before their transactions end.
    let mut filter = Filter::new(&Limits::default());
    let registered = register(&mut filter, &[start; 200], 20 * MILLI);
    let last = registered.iter().map(|at| at.expect("every phone registers")).max().unwrap();
    assert!(last - start < TIMER_F, "{} ms", (last - start) / MILLI);
    assert!(filter.refused > 0, "the case does not reach the limit");
}

#[test]
fn narrower_limits_would_not_do() {
    let tight = limit(1, 20);
    let source = ClassLimits { register: tight, ..Limits::default().source };
    let mut filter = Filter::new(&Limits { source, ..Limits::default() });
    let registered = register(&mut filter, &[1000 * SECOND; 200], MILLI);
    assert!(registered.iter().any(Option::is_none));
}

#[test]
fn phones_that_register_every_two_minutes_are_never_refused() {
    const PERIOD: u64 = 120 * SECOND;
    // All at once, as after a restart, and spread evenly.
    for spread in [0, PERIOD / 200] {
        let mut filter = Filter::new(&Limits::default());
        for round in 1..=30 {
            let starts: Vec<u64> = (0..200).map(|phone| round * PERIOD + phone * spread).collect();
            let registered = register(&mut filter, &starts, MILLI);
            assert!(registered.iter().all(Option::is_some));
        }
        assert_eq!(filter.refused, 0);
    }
}

#[test]
fn a_network_and_everybody_have_room_for_several_sources() {
    let Limits { source, prefix, shared, .. } = Limits::default();
    for class in 0..7 {
        let burst = |classes: ClassLimits| classes.in_class_order()[class].burst;
        assert_eq!(burst(prefix.classes), 4 * burst(source));
        assert!(burst(shared) >= 2 * burst(source));
    }
}

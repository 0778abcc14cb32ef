//! Records the traffic: reads the counters of packets once a second, and has the store keep what they have grown by.
//!
//! Seconds are gathered for a minute, so that an idle disk is written once a minute.
//!
//! Must never delay the loop: a second that it does not answer in is missing, and the next one has its packets.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use api::{
    Answer, ErrorId, ReasonCount, Refusal, Reply, TrafficPage, TrafficPoint, TrafficQuery,
    TrafficStep, Verdict,
};
use filter_common::decision::{self, Reason};
use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::inbox::Scrape;
use crate::clock::{Rfc3339, turns};
use crate::datapath;
use crate::store::{self, Step, Store};

/// How often the counters are read.
const EVERY: Duration = Duration::from_secs(1);

/// The seconds over which the present rates are averaged.
const PRESENT: i64 = 10;

/// Packets and bytes.
type Count = (u64, u64);

/// The traffic that the store does not have yet.
#[derive(Default)]
struct Gathered {
    /// The counters when they were last read, by reason.
    before: Option<BTreeMap<&'static str, Count>>,
    /// What they have grown by, by second and reason.
    seconds: BTreeMap<(i64, &'static str), Count>,
    /// The latest seconds: packets that passed and were dropped.
    latest: BTreeMap<i64, (u64, u64)>,
}

impl Gathered {
    /// Takes the counters at a time.
    fn take(&mut self, now: i64, counters: BTreeMap<&'static str, Count>) {
        let before = self.before.replace(counters.clone());
        self.latest.retain(|at, _| now.saturating_sub(PRESENT) < *at && *at <= now);
        self.latest.entry(now).or_default();
        let Some(before) = before else { return };
        for (name, (packets, bytes)) in counters {
            let (old_packets, old_bytes) = before.get(name).copied().unwrap_or_default();
            // Less than before: the counters have begun again.
            let grown = packets.checked_sub(old_packets).zip(bytes.checked_sub(old_bytes));
            let Some((packets, bytes)) = grown.filter(|(packets, _)| *packets > 0) else {
                continue;
            };
            let count = self.seconds.entry((now, name)).or_default();
            *count = (count.0.saturating_add(packets), count.1.saturating_add(bytes));
            let latest = self.latest.entry(now).or_default();
            match verdict(name) {
                Some(Verdict::Drop) => latest.1 = latest.1.saturating_add(packets),
                Some(Verdict::Pass) => latest.0 = latest.0.saturating_add(packets),
                None => {}
            }
        }
    }

    /// What has been gathered, as rows of each step.
    fn rows(&mut self) -> Vec<store::Traffic> {
        let mut rows: BTreeMap<(Step, i64, &'static str), Count> = BTreeMap::new();
        for ((at, reason), (packets, bytes)) in std::mem::take(&mut self.seconds) {
            for step in Step::ALL {
                let begin = at - at.rem_euclid(step.seconds());
                let count = rows.entry((step, begin, reason)).or_default();
                *count = (count.0.saturating_add(packets), count.1.saturating_add(bytes));
            }
        }
        let row = |((step, at, reason), (packets, bytes)): ((Step, i64, &str), Count)| {
            store::Traffic { step, at, reason: reason.to_owned(), packets, bytes }
        };
        rows.into_iter().map(row).collect()
    }
}

/// The traffic of now and of the past.
pub(super) struct Traffic {
    store: Store,
    gathered: Mutex<Gathered>,
}

impl Traffic {
    pub(super) fn new(store: Store) -> Self {
        Self { store, gathered: Mutex::default() }
    }

    fn with<T>(&self, then: impl FnOnce(&mut Gathered) -> T) -> T {
        then(&mut self.gathered.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Records until it is aborted.
    pub(super) async fn record(&self, scrapes: mpsc::Sender<Scrape>) {
        let mut ticks = turns(EVERY);
        let mut minute = None;
        loop {
            ticks.tick().await;
            let (tell, counts) = oneshot::channel();
            if scrapes.send(Scrape::Traffic(tell)).await.is_err() {
                return;
            }
            let Ok(Ok(counts)) = counts.await else { continue };
            let now = Timestamp::now().as_second();
            self.with(|gathered| gathered.take(now, counters(&counts)));
            if minute.replace(now.div_euclid(60)).is_some_and(|before| before != now.div_euclid(60))
            {
                self.keep();
            }
        }
    }

    /// Has the store keep what has been gathered.
    pub(super) fn keep(&self) {
        let rows = self.with(Gathered::rows);
        if !rows.is_empty() {
            self.store.add_traffic(rows);
        }
    }

    /// The packets a second that passed and were dropped just now.
    pub(super) fn rates(&self) -> (u64, u64) {
        self.with(|gathered| {
            let sum = |of: fn(&(u64, u64)) -> u64| gathered.latest.values().map(of).sum::<u64>();
            let seconds = (gathered.latest.len() as u64).max(1);
            (sum(|latest| latest.0) / seconds, sum(|latest| latest.1) / seconds)
        })
    }

    /// Answers a request about the past.
    pub(super) async fn past(&self, query: &TrafficQuery) -> Reply {
        self.keep();
        // Else the rows of this minute are missing.
        let _failed = self.store.settled().await;
        let step = match query.step.unwrap_or_default() {
            TrafficStep::Second => Step::Second,
            TrafficStep::Minute => Step::Minute,
            TrafficStep::Hour => Step::Hour,
        };
        let kept = step.kept().as_secs();
        let age = query.since_seconds.unwrap_or(kept).min(kept);
        let since =
            Timestamp::now().as_second().saturating_sub(i64::try_from(age).unwrap_or(i64::MAX));
        let Ok(rows) = self.store.traffic(store::TrafficQuery { step, since }).await else {
            let why = "the store cannot be read now; `ringfence status` says why";
            return Reply::Error(Refusal::new(ErrorId::Failed, why));
        };
        Reply::Ok(Answer::Traffic(page(step, rows)))
    }
}

/// Rows as an answer.
fn page(step: Step, rows: Vec<store::Traffic>) -> TrafficPage {
    let mut points: Vec<(i64, TrafficPoint)> = Vec::new();
    for store::Traffic { at, reason, packets, bytes, .. } in rows {
        // Reasons of another version are left out.
        let (Some(verdict), Ok(time)) = (verdict(&reason), Timestamp::from_second(at)) else {
            continue;
        };
        if points.last().is_none_or(|(last, _)| *last != at) {
            points.push((
                at,
                TrafficPoint { at: Rfc3339(time).to_string(), reasons: BTreeMap::new() },
            ));
        }
        if let Some((_, point)) = points.last_mut() {
            point.reasons.insert(reason, ReasonCount { verdict, packets, bytes });
        }
    }
    let points = points.into_iter().map(|(_, point)| point).collect();
    TrafficPage { step_seconds: step.seconds().unsigned_abs(), points }
}

/// The packets of all interfaces by reason.
fn counters(counts: &[(Reason, datapath::Count)]) -> BTreeMap<&'static str, Count> {
    let mut counters: BTreeMap<&'static str, Count> = BTreeMap::new();
    for (reason, of) in counts {
        let count = counters.entry(reason.as_str()).or_default();
        *count = (count.0.saturating_add(of.packets), count.1.saturating_add(of.bytes));
    }
    counters
}

fn verdict(name: &str) -> Option<Verdict> {
    let reason = Reason::ALL.iter().find(|reason| reason.as_str() == name)?;
    Some(match reason.verdict() {
        decision::Verdict::Pass => Verdict::Pass,
        decision::Verdict::Drop => Verdict::Drop,
    })
}

#[cfg(test)]
mod tests {
    use Step::{Hour, Minute, Second};

    use super::*;

    const DROPPED: &str = "banned";
    const PASSED: &str = "other-port";

    fn counters(dropped: u64, passed: u64) -> BTreeMap<&'static str, Count> {
        BTreeMap::from([(DROPPED, (dropped, 100 * dropped)), (PASSED, (passed, 100 * passed))])
    }

    #[test]
    fn growth_is_counted_in_each_step() {
        let mut gathered = Gathered::default();
        // The first counters are of the time before.
        gathered.take(3598, counters(1000, 0));
        gathered.take(3599, counters(1004, 0));
        gathered.take(3600, counters(1004, 6));
        gathered.take(3601, counters(1005, 6));
        let row = |step, at, reason: &str, packets| store::Traffic {
            step,
            at,
            reason: reason.to_owned(),
            packets,
            bytes: 100 * packets,
        };
        let rows = gathered.rows();
        assert_eq!(
            rows,
            [
                row(Second, 3599, DROPPED, 4),
                row(Second, 3600, PASSED, 6),
                row(Second, 3601, DROPPED, 1),
                row(Minute, 3540, DROPPED, 4),
                row(Minute, 3600, DROPPED, 1),
                row(Minute, 3600, PASSED, 6),
                row(Hour, 0, DROPPED, 4),
                row(Hour, 3600, DROPPED, 1),
                row(Hour, 3600, PASSED, 6),
            ]
        );
        assert_eq!(gathered.rows(), []);
        // New maps count from zero.
        gathered.take(3602, counters(2, 0));
        gathered.take(3603, counters(3, 0));
        assert_eq!(gathered.rows().len(), 3);
        gathered.take(4000, counters(3, 0));
        assert_eq!(gathered.latest.len(), 1, "the latest seconds have a bound");
    }

    #[test]
    fn rows_become_points() {
        let row = |at, reason: &str| store::Traffic {
            step: Minute,
            at,
            reason: reason.to_owned(),
            packets: 7,
            bytes: 700,
        };
        let page = page(
            Minute,
            vec![row(60, DROPPED), row(60, PASSED), row(180, DROPPED), row(240, "of old")],
        );
        assert_eq!((page.step_seconds, page.points.len()), (60, 2));
        assert_eq!(page.points[0].at, "1970-01-01T00:01:00Z");
        assert_eq!(page.points[0].reasons[PASSED].verdict, Verdict::Pass);
        assert_eq!(page.points[1].reasons.len(), 1);
    }
}

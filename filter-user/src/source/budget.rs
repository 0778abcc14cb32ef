//! Limits the cost of reading a log: from the cost of each line it decides whether to read the next.
//!
//! A filter can take milliseconds for a line, and an attacker chooses much of its text. So each source has
//! a share of a processor. Lines of a length that is expensive are read only while plenty is left, and are
//! left out otherwise, so that they do not delay the others. The others wait until something is left
//! again; if they would wait too long, they are left out too.

use std::fmt;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};
use tokio::time::Instant;

/// For how many seconds unused shares accumulate.
const SAVED_MAX: u32 = 3;

/// A line is expensive if it is expected to cost this much.
const DEAR: Duration = Duration::from_micros(500);

/// How long a source reads before others get their turn.
const TURN: Duration = Duration::from_millis(10);

/// How much must be available again before reading continues.
const ENOUGH: Duration = Duration::from_millis(20);

/// A source that has waited this long since its savings were last full reads late.
const LATE: Duration = Duration::from_secs(5);

/// How long a source must keep to its share before its strain is over.
const CALM: Duration = Duration::from_mins(10);

/// How many classes of line lengths there are, by powers of two.
const LENGTHS: usize = 18;

/// The budget of one source.
#[derive(Clone, Debug)]
pub(super) struct Budget {
    /// How much processor time the source may take in each second.
    share: Duration,
    /// The unused time in nanoseconds; negative if too much was used.
    left: i64,
    filled: Instant,
    /// The recent cost of a line of each length, in nanoseconds.
    costs: [u64; LENGTHS],
    /// The time used in this turn.
    spent: Duration,
    /// Whether lines are left out because too much waits.
    passes: bool,
    /// How long the source has waited since its savings were last full.
    waited: Duration,
    strain: Option<(Strain, Instant)>,
}

/// The effects since a source began to need more than its share.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strain {
    /// How much processor time the source may take in each second.
    pub share: Duration,
    /// Lines that were read.
    pub read: u64,
    /// The CPU time that they took.
    pub cost: Duration,
    /// Lines that were left out.
    pub left_out: u64,
}

impl fmt::Display for Strain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { share, read, cost, left_out } = *self;
        let each = cost.checked_div(u32::try_from(read).unwrap_or(u32::MAX)).unwrap_or_default();
        write!(
            f,
            "its filter needs more than {} % of a processor ({} µs per line): {left_out} of {} \
            lines were left out, {}",
            share.as_millis() / 10,
            each.as_micros(),
            read.saturating_add(left_out),
            if left_out > 0 { "and others may be read late" } else { "but they are read late" }
        )
    }
}

impl Budget {
    pub(super) fn new(share: Duration, now: Instant) -> Self {
        Self {
            share,
            left: nanos(share * SAVED_MAX),
            filled: now,
            costs: [0; LENGTHS],
            spent: Duration::ZERO,
            passes: false,
            waited: Duration::ZERO,
            strain: None,
        }
    }

    /// Begins a turn, with this much to read.
    pub(super) fn begin(&mut self, now: Instant, waiting: Waiting) {
        let passed = now.saturating_duration_since(self.filled);
        self.filled = now;
        let (share, most) = (self.share.as_secs_f64(), nanos(self.share * SAVED_MAX));
        self.left = self.left.saturating_add(nanos(passed.mul_f64(share))).min(most);
        if self.left == most {
            self.waited = Duration::ZERO;
        }
        self.spent = Duration::ZERO;
        self.passes = match waiting {
            Waiting::TooMuch => self.left < nanos(ENOUGH) || self.passes,
            Waiting::Much => self.passes,
            Waiting::Little => false,
        };
        if self.strain.is_some_and(|(_, last)| now.saturating_duration_since(last) >= CALM) {
            self.strain = None;
        }
    }

    /// Reads a line of this length, or leaves it out.
    pub(super) fn line<T>(&mut self, length: usize, read: impl FnOnce() -> T) -> Option<T> {
        if !self.affords(length) {
            return None;
        }
        let before = processor_time();
        let said = read();
        self.charge(length, processor_time().saturating_sub(before));
        Some(said)
    }

    /// Whether to read a line of this length. If not, it counts as left out.
    fn affords(&mut self, length: usize) -> bool {
        let dear = self.costs[place(length)] >= u64::try_from(nanos(DEAR)).unwrap_or_default();
        // Half of the savings is for the other lines.
        if !self.passes && (!dear || self.left >= nanos(self.share * SAVED_MAX) / 2) {
            return true;
        }
        let strain = self.strained();
        strain.left_out = strain.left_out.saturating_add(1);
        false
    }

    /// Records that the source needs more than its share.
    fn strained(&mut self) -> &mut Strain {
        let none = Strain { share: self.share, ..Strain::default() };
        let (strain, last) = self.strain.get_or_insert((none, self.filled));
        *last = self.filled;
        strain
    }

    fn charge(&mut self, length: usize, cost: Duration) {
        self.left = self.left.saturating_sub(nanos(cost));
        self.spent += cost;
        let known = &mut self.costs[place(length)];
        let cost_now = u64::try_from(cost.as_nanos()).unwrap_or(u64::MAX);
        *known = if *known == 0 { cost_now } else { *known - *known / 8 + cost_now / 8 };
        if let Some((strain, _)) = &mut self.strain {
            strain.read = strain.read.saturating_add(1);
            strain.cost = strain.cost.saturating_add(cost);
        }
    }

    /// Whether the turn is over.
    pub(super) fn is_over(&self) -> bool {
        !self.passes && (self.spent >= TURN || self.left <= 0)
    }

    /// How long to wait before the next turn, if there is anything to read.
    pub(super) fn rest(&mut self) -> Option<Duration> {
        if self.left > 0 || self.passes {
            return None;
        }
        let short = Duration::from_nanos(self.left.unsigned_abs()) + ENOUGH;
        let rest = short.div_f64(self.share.as_secs_f64());
        self.waited = self.waited.saturating_add(rest);
        if self.waited >= LATE {
            self.strained();
        }
        Some(rest)
    }

    /// The strain, if the source needs more than its share or did recently.
    pub(super) fn strain(&self) -> Option<Strain> {
        self.strain.map(|(strain, _)| strain)
    }
}

/// How much waits to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waiting {
    /// So little that all of it can be read.
    Little,
    /// More, but not too much.
    Much,
    /// So much that it would be read too late.
    TooMuch,
}

impl Waiting {
    /// Classifies `waiting` if `most` is too much.
    pub(super) fn of(waiting: u64, most: u64) -> Self {
        match waiting {
            _ if waiting > most => Self::TooMuch,
            _ if waiting > most / 2 => Self::Much,
            _ => Self::Little,
        }
    }
}

fn nanos(time: Duration) -> i64 {
    i64::try_from(time.as_nanos()).unwrap_or(i64::MAX)
}

/// The index of the class of this line length.
fn place(length: usize) -> usize {
    usize::try_from(length.max(1).ilog2()).unwrap_or(LENGTHS).min(LENGTHS - 1)
}

/// The CPU time that this thread has used so far.
pub(super) fn processor_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARE: Duration = Duration::from_millis(100);
    const LONG: usize = 8000;
    const SHORT: usize = 200;

    /// A run of short and long lines that arrive evenly: how many of each are read, and their cost.
    struct Run {
        budget: Budget,
        now: Instant,
        read: [u64; 2],
        spent: Duration,
    }

    impl Run {
        fn new() -> Self {
            let now = Instant::now();
            Self { budget: Budget::new(SHARE, now), now, read: [0; 2], spent: Duration::ZERO }
        }

        /// A second in which this many lines come, each with its cost; `true` if all were read or left out
        /// in time.
        fn second(&mut self, short: (u64, Duration), long: (u64, Duration)) -> bool {
            let end = self.now + Duration::from_secs(1);
            let mut due: Vec<(usize, usize, Duration)> = Vec::new();
            for n in 0..short.0.max(long.0) {
                due.extend((n < long.0).then_some((1, LONG, long.1)));
                due.extend((n < short.0).then_some((0, SHORT, short.1)));
            }
            let step = Duration::from_secs(1) / u32::try_from(due.len()).unwrap();
            for (kind, length, cost) in due {
                self.now += step;
                self.budget.begin(self.now, Waiting::Little);
                if self.budget.affords(length) {
                    self.budget.charge(length, cost);
                    self.spent += cost;
                    self.read[kind] += 1;
                }
                if let Some(rest) = self.budget.rest() {
                    self.now += rest;
                }
            }
            let in_time = self.now <= end;
            self.now = self.now.max(end);
            in_time
        }
    }

    #[test]
    fn long_lines_hold_up_no_short_ones() {
        let mut run = Run::new();
        let short = (20, Duration::from_micros(100));
        let long = (200, Duration::from_millis(14));
        for second in 0..60 {
            assert!(run.second(short, long), "late in second {second}");
        }
        // All short lines were read, and as many of the others as the share allows.
        assert_eq!(run.read[0], 60 * 20);
        assert!((350..450).contains(&run.read[1]), "{:?}", run.read);
        assert!(run.spent <= Duration::from_millis(100 * 60 + 320), "{:?}", run.spent);
        let strain = run.budget.strain().unwrap();
        let long_lines = 60 * 200;
        assert_eq!(strain.left_out, long_lines - run.read[1]);
        let text = strain.to_string();
        assert!(text.contains("10 % of a processor"), "{text}");
        // The strain is over when nothing has been left out for a while.
        run.now += CALM;
        run.budget.begin(run.now, Waiting::Little);
        assert_eq!(run.budget.strain(), None);
    }

    #[test]
    fn what_keeps_to_its_share_is_read_and_nothing_is_said() {
        let mut run = Run::new();
        for _ in 0..60 {
            assert!(run.second((500, Duration::from_micros(100)), (5, Duration::from_millis(8))));
        }
        assert_eq!((run.read, run.budget.strain()), ([30_000, 300], None));
    }

    #[test]
    fn too_many_cheap_lines_are_read_late_and_then_left_out() {
        let mut run = Run::new();
        let mut late = 0;
        for _ in 0..20 {
            late += u32::from(!run.second((5000, Duration::from_micros(200)), (0, Duration::ZERO)));
        }
        assert!(late > 15, "{late}");
        let strain = run.budget.strain().unwrap();
        assert_eq!(strain.left_out, 0);
        assert!(strain.to_string().ends_with("but they are read late"), "{strain}");
        // When too much waits, lines are left out until there is half of that.
        run.budget.charge(SHORT, Duration::from_secs(1));
        run.budget.begin(run.now, Waiting::TooMuch);
        assert!(!run.budget.affords(SHORT) && !run.budget.is_over());
        run.now += Duration::from_mins(1);
        run.budget.begin(run.now, Waiting::Much);
        assert!(!run.budget.affords(SHORT));
        run.budget.begin(run.now, Waiting::Little);
        assert!(run.budget.affords(SHORT));
        assert_eq!(run.budget.strain().unwrap().left_out, 2);
    }

    #[test]
    fn a_turn_ends() {
        let mut budget = Budget::new(SHARE, Instant::now());
        while !budget.is_over() {
            assert!(budget.affords(SHORT));
            budget.charge(SHORT, Duration::from_micros(500));
        }
        assert_eq!(budget.spent, TURN);
        assert_eq!(budget.rest(), None);
        assert_eq!((place(0), place(1), place(usize::MAX)), (0, 0, LENGTHS - 1));
    }
}

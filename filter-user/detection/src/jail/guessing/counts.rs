//! Counts failures by eighths of a period.

use std::time::Duration;

use crate::clock::KernelTime;

/// How many parts the period has.
const PARTS: usize = 8;

/// The number of a part of the period; it wraps around after some eight thousand periods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    /// The current part, if failures count for `findtime`.
    pub(super) fn of(now: KernelTime, findtime: Duration) -> Self {
        let part = (findtime / 8).as_nanos().max(1);
        let number = u128::from(now.0) / part % (u128::from(u16::MAX) + 1);
        Self(u16::try_from(number).unwrap_or(u16::MAX))
    }

    fn place(self) -> usize {
        usize::from(self.0) % PARTS
    }
}

/// Failures by part of the period. Those of the current part and the seven before it count.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    slot: Slot,
    /// At most 255 in each part.
    unproven: [u8; PARTS],
    proven: [u8; PARTS],
}

impl Counts {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot, unproven: [0; PARTS], proven: [0; PARTS] }
    }

    /// Counts one failure; call [`forget_old`](Self::forget_old) first.
    pub(super) fn add(&mut self, slot: Slot, proven: bool) {
        let of = if proven { &mut self.proven } else { &mut self.unproven };
        if let Some(count) = of.get_mut(slot.place()) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds the counts of `other`, where the old ones must have been forgotten too.
    pub(super) fn add_all(&mut self, other: &Self) {
        let ours = self.unproven.iter_mut().chain(&mut self.proven);
        for (ours, theirs) in ours.zip(other.unproven.iter().chain(&other.proven)) {
            *ours = ours.saturating_add(*theirs);
        }
    }

    /// Marks an unproven failure that was counted a moment ago as proven.
    pub(super) fn prove_one(&mut self, slot: Slot) {
        // It may have been counted at the end of the part before.
        for slot in [slot, Slot(slot.0.wrapping_sub(1))] {
            let place = slot.place();
            let (Some(unproven), Some(proven)) =
                (self.unproven.get_mut(place), self.proven.get_mut(place))
            else {
                return;
            };
            if *unproven > 0 {
                *unproven -= 1;
                *proven = proven.saturating_add(1);
                return;
            }
        }
    }

    /// Forgets all failures.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.slot);
    }

    /// Forgets the failures that no longer count.
    pub(super) fn forget_old(&mut self, now: Slot) {
        // Time never goes back; if it did, nothing would have passed.
        let passed = now.0.wrapping_sub(self.slot.0);
        if passed > u16::MAX / 2 {
            return;
        }
        let passed = usize::from(passed).min(PARTS);
        for part in 1..=passed {
            let place = (self.slot.place() + part) % PARTS;
            for counts in [&mut self.unproven, &mut self.proven] {
                if let Some(count) = counts.get_mut(place) {
                    *count = 0;
                }
            }
        }
        self.slot = now;
    }

    /// The number of failures.
    pub(super) fn all(&self) -> u32 {
        sum(self.unproven) + sum(self.proven)
    }

    /// The number of proven failures.
    pub(super) fn proven(&self) -> u32 {
        sum(self.proven)
    }
}

fn sum(counts: [u8; PARTS]) -> u32 {
    counts.into_iter().map(u32::from).sum()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The definition: each failure counts while its part is one of the last eight.
        #[test]
        fn counts_are_those_of_the_last_eight_parts(
            steps in proptest::collection::vec((0u64..12, any::<bool>()), 1..300),
        ) {
            let findtime = Duration::from_nanos(8 * 3);
            let mut model: Vec<(u64, bool)> = Vec::new();
            let mut now = 0;
            let mut counts = Counts::new(Slot::of(KernelTime(0), findtime));
            for (gap, proven) in steps {
                now += gap;
                let slot = Slot::of(KernelTime(now), findtime);
                counts.forget_old(slot);
                counts.add(slot, proven);
                model.push((now / 3, proven));
                model.retain(|(part, _)| now / 3 - part < 8);
                let proven = model.iter().filter(|(_, proven)| *proven).count();
                prop_assert_eq!(counts.all() as usize, model.len());
                prop_assert_eq!(counts.proven() as usize, proven);
            }
        }
    }

    /// One failure in this part, and how many count after as many others.
    fn left(part: u64, later: u64) -> u32 {
        let slot = |part| Slot::of(KernelTime(part), Duration::from_nanos(8));
        let mut counts = Counts::new(slot(part));
        counts.add(slot(part), true);
        counts.forget_old(slot(part + later));
        counts.all()
    }

    #[test]
    fn part_numbers_wrap_around() {
        let end = u64::from(u16::MAX);
        for part in end - 10..end + 10 {
            assert_eq!((left(part, 7), left(part, 8)), (1, 0), "{part}");
        }
    }

    #[test]
    fn a_part_that_seems_to_be_in_the_past_forgets_nothing() {
        let half = u64::from(u16::MAX / 2);
        assert_eq!([half - 1, half, half + 1].map(|later| left(0, later)), [0, 0, 1]);
        assert_eq!(left(100, u64::from(u16::MAX)), 1);
    }

    #[test]
    fn a_failure_is_proven_in_its_part_and_the_next() {
        let slot = |part| Slot::of(KernelTime(part), Duration::from_nanos(8));
        for end in [5, u64::from(u16::MAX)] {
            for (later, proven) in [(0, 1), (1, 1), (2, 0)] {
                let mut counts = Counts::new(slot(end));
                counts.add(slot(end), false);
                // There is no other.
                for _ in 0..2 {
                    counts.prove_one(slot(end + later));
                    assert_eq!((counts.proven(), counts.all()), (proven, 1), "{later}");
                }
            }
        }
    }
}

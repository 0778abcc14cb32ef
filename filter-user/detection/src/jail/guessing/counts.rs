//! How many failures there were in each eighth of a time.

use std::time::Duration;

use crate::clock::KernelTime;

/// Into how many parts the time is cut.
const PARTS: usize = 8;

/// The number of a part of the time; it comes round after eight thousand times it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(u16);

impl Slot {
    /// The part of the time that it is now, where failures count for `findtime`.
    pub(super) fn of(now: KernelTime, findtime: Duration) -> Self {
        let part = (findtime / 8).as_nanos().max(1);
        let number = u128::from(now.0) / part % (u128::from(u16::MAX) + 1);
        Self(u16::try_from(number).unwrap_or(u16::MAX))
    }

    fn place(self) -> usize {
        usize::from(self.0) % PARTS
    }
}

/// Failures by part of the time. They count for the part that it is and the seven before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    slot: Slot,
    /// In each part at most 255.
    unproven: [u8; PARTS],
    proven: [u8; PARTS],
}

impl Counts {
    pub(super) fn new(slot: Slot) -> Self {
        Self { slot, unproven: [0; PARTS], proven: [0; PARTS] }
    }

    /// Counts one; [`forget_old`](Self::forget_old) comes first.
    pub(super) fn add(&mut self, slot: Slot, proven: bool) {
        let of = if proven { &mut self.proven } else { &mut self.unproven };
        if let Some(count) = of.get_mut(slot.place()) {
            *count = count.saturating_add(1);
        }
    }

    /// Adds those of another, of which the old ones are forgotten too.
    pub(super) fn add_all(&mut self, other: &Self) {
        let ours = self.unproven.iter_mut().chain(&mut self.proven);
        for (ours, theirs) in ours.zip(other.unproven.iter().chain(&other.proven)) {
            *ours = ours.saturating_add(*theirs);
        }
    }

    /// Makes one that is not proven and was counted a moment ago a proven one.
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

    /// Forgets all.
    pub(super) fn clear(&mut self) {
        *self = Self::new(self.slot);
    }

    /// Forgets what does not count any more.
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

    /// How many there are.
    pub(super) fn all(&self) -> u32 {
        sum(self.unproven) + sum(self.proven)
    }

    /// How many of them are proven.
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

    #[test]
    fn numbers_come_round() {
        let findtime = Duration::from_nanos(8);
        let end = KernelTime(u64::from(u16::MAX));
        let mut counts = Counts::new(Slot::of(end, findtime));
        counts.add(Slot::of(end, findtime), true);
        counts.forget_old(Slot::of(KernelTime(end.0 + 7), findtime));
        assert_eq!(counts.all(), 1);
        counts.forget_old(Slot::of(KernelTime(end.0 + 8), findtime));
        assert_eq!(counts.all(), 0);
    }
}

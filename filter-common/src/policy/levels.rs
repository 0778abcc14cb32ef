//! The levels of the limits of an unknown source: its own, its network's, and what all of them share. A
//! packet takes its worth at every level, or at none.

use crate::rate::{Bucket, Gcra};

/// The first level at which there was no room for a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Nothing,
    Source,
    Prefix,
    Shared,
}

/// A limit, and the bucket that it is about.
pub(super) struct Level<B> {
    pub(super) limit: Gcra,
    pub(super) bucket: B,
}

impl<B: Bucket> Level<B> {
    #[inline(always)]
    fn has_room(&self, now: u64, units: u64) -> bool {
        self.limit.has_room_for(&self.bucket, now, units)
    }

    #[inline(always)]
    fn take(&self, now: u64, units: u64) -> bool {
        self.limit.take_units(&self.bucket, now, units)
    }
}

/// Takes so many units at every level, or says at which there is no room. Looks before it takes, so that
/// a source over its own limit takes nothing from what all share, and forged sources take nothing from
/// those whose buckets they share. Asks for what all share only when there is room below. Unless `narrow`,
/// only what all share is asked.
#[inline(always)]
pub(super) fn take<const OWN: usize, B: Bucket>(
    source: &[Level<B>; OWN],
    prefix: &Level<B>,
    shared: impl FnOnce() -> Option<Level<B>>,
    narrow: bool,
    now: u64,
    units: u64,
) -> Over {
    if narrow && !source.iter().all(|level| level.has_room(now, units)) {
        return Over::Source;
    }
    if narrow && !prefix.has_room(now, units) {
        return Over::Prefix;
    }
    if shared().is_some_and(|shared| !shared.take(now, units)) {
        return Over::Shared;
    }
    if narrow && !source.iter().all(|level| level.take(now, units)) {
        return Over::Source;
    }
    if narrow && !prefix.take(now, units) {
        return Over::Prefix;
    }
    Over::Nothing
}

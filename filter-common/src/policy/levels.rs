//! The levels of the limits of an unknown source: its own, that of its network, and the one that all of
//! them share. A packet consumes from every level, or from none.

use crate::rate::{Bucket, Gcra};

/// The first level without room for a packet.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Nothing,
    Source,
    Prefix,
    Shared,
}

/// A limit and its bucket.
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

/// Consumes this many units at every level, or returns the first level without room. It checks all levels
/// before it consumes, so that a source over its own limit takes nothing from the shared limit, and
/// forged sources take nothing from the sources whose buckets they share. It reads the shared level only
/// if there is room below it. Unless `narrow`, only the shared level applies.
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

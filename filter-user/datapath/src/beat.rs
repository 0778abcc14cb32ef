//! The controller's sign of life, which the program reads: [`Beat`].

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData};
use detection::clock::KernelTime;
use filter_common::abi::{Beat, maps};

use super::mapped::{Memory, data};

/// The index of [`Beat::until`] among its words.
const UNTIL: usize = 0;
/// The index of [`Beat::last`].
const LAST: usize = 1;

const _: () = assert!(std::mem::offset_of!(Beat, until) == 8 * UNTIL);
const _: () = assert!(std::mem::offset_of!(Beat, last) == 8 * LAST);

/// The last sign of life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastBeat {
    /// Its time.
    pub at: KernelTime,
    /// Until when the filter counts as attended; `None` for ever.
    pub attended_until: Option<KernelTime>,
}

impl LastBeat {
    /// The last sign of life in the program's map, if there has been one.
    fn of(Beat { until, last }: Beat) -> Option<Self> {
        let attended_until = (until != u64::MAX).then_some(KernelTime(until));
        (last != 0).then_some(Self { at: KernelTime(last), attended_until })
    }

    /// Since when the filter has been unattended, if it is at `now`.
    pub fn unattended_since(self, now: KernelTime) -> Option<KernelTime> {
        self.attended_until.filter(|until| *until <= now)
    }
}

/// The writer of the sign of life.
#[derive(Debug)]
pub(super) struct Heart<M = Memory> {
    memory: M,
    /// How long the controller may be silent before the filter counts as unattended; `None` for ever.
    after: Option<Duration>,
}

impl Heart {
    /// Opens the writer for `map`.
    pub(super) fn open(map: Map, after: Option<Duration>) -> Result<Self> {
        Ok(Self { memory: Memory::of(data(map)?)?, after })
    }
}

impl<M: AsRef<[AtomicU64]>> Heart<M> {
    /// Changes the time from the next beat on.
    pub(super) fn set_after(&mut self, after: Option<Duration>) {
        self.after = after;
    }

    /// The last beat, of this controller or of an earlier one.
    pub(super) fn last(&self) -> Option<LastBeat> {
        let word =
            |at: usize| self.memory.as_ref().get(at).map_or(0, |word| word.load(Ordering::Relaxed));
        LastBeat::of(Beat { until: word(UNTIL), last: word(LAST) })
    }

    /// Beats. Returns the beat before, if the filter has been unattended since.
    pub(super) fn beat(&self, now: KernelTime) -> Option<LastBeat> {
        let before = self.last().filter(|last| last.unattended_since(now).is_some());
        let until = self.after.map_or(u64::MAX, |after| now.after(after).0);
        for (at, value) in [(LAST, now.0), (UNTIL, until)] {
            if let Some(word) = self.memory.as_ref().get(at) {
                word.store(value, Ordering::Relaxed);
            }
        }
        before
    }
}

/// The last beat of the controller that owns the maps pinned in `directory`; `None` if there are no maps,
/// or there was no beat.
///
/// # Errors
///
/// If the kernel refuses.
pub fn last_beat(directory: &Path) -> Result<Option<LastBeat>> {
    let pin = directory.join(maps::BEAT);
    if !pin.try_exists().with_context(|| format!("look for {}", pin.display()))? {
        return Ok(None);
    }
    let read = || -> Result<Beat> {
        let map @ Map::Array(_) = Map::from_map_data(MapData::from_pin(&pin)?)? else {
            bail!("it is not an array");
        };
        Ok(Array::<MapData, Beat>::try_from(map)?.get(&0, 0)?)
    };
    read().map(LastBeat::of).with_context(|| format!("read {}", pin.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: u64) -> KernelTime {
        KernelTime(second * 1_000_000_000)
    }

    #[test]
    fn it_tells_of_a_silence_that_was_too_long() {
        let memory = [AtomicU64::new(0), AtomicU64::new(0)];
        let mut heart = Heart { memory: &memory[..], after: Some(Duration::from_secs(10)) };
        assert_eq!((heart.last(), heart.beat(at(100))), (None, None));
        assert_eq!(heart.beat(at(109)), None);
        let last = LastBeat { at: at(109), attended_until: Some(at(119)) };
        assert_eq!(heart.last(), Some(last));
        assert_eq!(last.unattended_since(at(118)), None);
        assert_eq!(last.unattended_since(at(119)), Some(at(119)));
        assert_eq!(heart.beat(at(119)), Some(last));
        heart.set_after(None);
        assert_eq!(heart.beat(at(120)), None);
        assert_eq!(memory.map(AtomicU64::into_inner)[UNTIL], u64::MAX);
    }

    #[test]
    fn without_a_bound_it_is_attended_for_ever() {
        let memory = [AtomicU64::new(0), AtomicU64::new(0)];
        let heart = Heart { memory: &memory[..], after: None };
        heart.beat(at(1));
        let last = heart.last().unwrap();
        assert_eq!(last, LastBeat { at: at(1), attended_until: None });
        assert_eq!(last.unattended_since(KernelTime(u64::MAX)), None);
        assert_eq!(heart.beat(KernelTime(u64::MAX)), None);
    }

    #[test]
    fn there_is_none_without_a_pin() {
        let directory = tempfile::tempdir().unwrap();
        assert_eq!(last_beat(directory.path()).unwrap(), None);
    }
}

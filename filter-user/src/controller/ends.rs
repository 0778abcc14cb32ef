//! Bans that end, some at a time: a million that end in one second must hold up nothing.

use std::time::Duration;

use log::{info, warn};

use super::{Controller, show, write};
use crate::clock::KernelTime;
use crate::datapath::Datapath;

/// Bans that end at one time, before others have their turn.
const AT_ONCE: usize = 64;

/// How long ends wait while the store has more to write than it keeps up with. The kernel has ended
/// them; what waits is room.
const WAIT: Duration = Duration::from_millis(20);

/// Ends of bans that the log names, one by one, of those that come together.
const NAMED: usize = 10;

/// After so long without an end, those before it are all that came together.
const TOGETHER: Duration = Duration::from_secs(1);

/// Bans that have ended, and what the log has said of them.
#[derive(Debug, Default)]
pub(super) struct Ends {
    /// Not before then do more of them end.
    wait_until: Option<KernelTime>,
    named: usize,
    unnamed: usize,
    /// When the last one ended.
    last: Option<KernelTime>,
}

impl Ends {
    /// Hears of an end; whether the log names it.
    fn note(&mut self, now: KernelTime) -> bool {
        self.last = Some(now);
        let is_named = self.named < NAMED;
        *(if is_named { &mut self.named } else { &mut self.unnamed }) += 1;
        is_named
    }

    /// When there is something to say.
    fn due(&self) -> Option<KernelTime> {
        self.last.map(|last| last.after(TOGETHER))
    }

    /// How many came together that were not named, when it is time to say so.
    fn unnamed(&mut self, now: KernelTime) -> Option<usize> {
        if self.due().is_none_or(|due| now < due) {
            return None;
        }
        let unnamed = std::mem::take(self).unnamed;
        (unnamed > 0).then_some(unnamed)
    }
}

impl<D: Datapath> Controller<D> {
    /// When a ban ends, or something is to be said of those that have.
    pub(super) fn next_end(&self) -> Option<KernelTime> {
        let next = self.ledger.next_end().map(|end| end.max(self.ends.wait_until.unwrap_or(end)));
        next.into_iter().chain(self.ends.due()).min()
    }

    /// Strikes out some of the bans that have ended.
    pub(super) fn end_some(&mut self, now: KernelTime) {
        if self.ends.wait_until.take_if(|until| now >= *until).is_none()
            && self.ends.wait_until.is_some()
        {
            return;
        }
        if !self.store.keeps_up() {
            self.ends.wait_until = Some(now.after(WAIT));
            return;
        }
        for _ in 0..AT_ONCE {
            let Some((entry, writes)) = self.ledger.pop_ended(now) else { break };
            // The kernel stopped applying it by itself; this makes room, or leaves what other bans
            // of the same address close.
            if let Err(why) = write(&mut self.datapath, &writes) {
                warn!("{why:#}");
            }
            self.store.remove(entry.key());
            if self.ends.note(now) {
                let by = self.roster.name(entry.ban.origin);
                info!("the ban of {} by {by} has ended", show(entry.ban.network));
            }
        }
        if let Some(more) = self.ends.unnamed(now) {
            info!("{more} more bans have ended");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_ends_are_a_few_lines() {
        let mut ends = Ends::default();
        let at = |seconds: u64| KernelTime(seconds * 1_000_000_000);
        let named = (0..1_000_000).filter(|_| ends.note(at(5))).count();
        assert_eq!((named, ends.unnamed(at(5)), ends.due()), (NAMED, None, Some(at(6))));
        assert_eq!(ends.unnamed(at(6)), Some(1_000_000 - NAMED));
        assert_eq!((ends.unnamed(at(7)), ends.due()), (None, None));
        // Then they are named again.
        assert!(ends.note(at(8)));
    }
}

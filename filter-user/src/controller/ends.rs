//! Removes bans that have ended, a few at a time: a million that end in one second must delay nothing.

use std::time::Duration;

use log::{info, warn};

use super::{Controller, Topic, show, write};
use crate::clock::KernelTime;
use crate::datapath::Datapath;

/// The most bans that are removed in one turn.
const AT_ONCE: usize = 64;

/// How long removals wait while the store does not keep up. The kernel has already ended the bans; only
/// their memory is freed later.
const WAIT: Duration = Duration::from_millis(20);

impl<D: Datapath> Controller<D> {
    /// When the next ban must be removed because it ends.
    pub(super) fn next_end(&self) -> Option<KernelTime> {
        let next = self.ledger.next_end()?;
        Some(next.max(self.ends_wait_until.unwrap_or(next)))
    }

    /// Removes a few of the bans that have ended.
    pub(super) fn end_some(&mut self, now: KernelTime) {
        if self.ends_wait_until.is_some_and(|until| now < until) {
            return;
        }
        self.ends_wait_until = (!self.store.keeps_up()).then(|| now.after(WAIT));
        if self.ends_wait_until.is_some() {
            return;
        }
        for _ in 0..AT_ONCE {
            let Some((entry, writes)) = self.ledger.pop_ended(now) else { return };
            // The kernel has stopped applying it by itself. This frees the entry, or leaves in it what
            // other bans of the same address close.
            if let Err(why) = write(&mut self.datapath, &writes) {
                warn!("{why:#}");
            }
            self.store.remove(entry.key());
            self.forget_unexplained(&entry, now);
            let by = self.roster.name(entry.ban.origin);
            if self.digest.has_line(Topic::End, by, now) {
                info!("the ban of {} by {by} has ended", show(entry.ban.network));
            }
        }
    }
}

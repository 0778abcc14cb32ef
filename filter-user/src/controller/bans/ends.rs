//! Removes bans that have ended, a few at a time: a million that end in one second must delay nothing.

use std::time::Duration;

use log::{info, warn};

use super::super::Controller;
use super::super::digest::Topic;
use super::{Bans, show, write};
use crate::ban::{Entry, Origin};
use crate::clock::KernelTime;
use crate::datapath::Datapath;

/// The most bans that are removed in one turn.
const AT_ONCE: usize = 64;

/// How long removals wait while the store does not keep up. The kernel has already ended the bans; only
/// their memory is freed later.
const WAIT: Duration = Duration::from_millis(20);

impl Bans {
    /// When the next ban must be removed because it ends.
    pub(in crate::controller) fn next_end(&self) -> Option<KernelTime> {
        let next = self.ledger.next_end()?;
        Some(next.max(self.ends_wait_until.unwrap_or(next)))
    }

    /// Whether removals wait for the store.
    fn ends_wait(&mut self, now: KernelTime) -> bool {
        if self.ends_wait_until.is_none_or(|until| now >= until) {
            self.ends_wait_until = (!self.store.keeps_up()).then(|| now.after(WAIT));
        }
        self.ends_wait_until.is_some()
    }

    /// Removes one of the bans that have ended, and returns it.
    fn end_one(&mut self, datapath: &mut impl Datapath, now: KernelTime) -> Option<Entry> {
        let (entry, writes) = self.ledger.pop_ended(now)?;
        // The kernel has stopped applying it by itself. This frees the entry, or leaves in it what
        // other bans of the same address close.
        if let Err(why) = write(datapath, &writes) {
            warn!("{why:#}");
        }
        self.store.remove(entry.key());
        Some(entry)
    }
}

impl<D: Datapath> Controller<D> {
    /// Removes a few of the bans that have ended.
    pub(in crate::controller) fn end_some(&mut self, now: KernelTime) {
        if self.bans.ends_wait(now) {
            return;
        }
        for _ in 0..AT_ONCE {
            let Some(entry) = self.bans.end_one(&mut self.datapath, now) else { return };
            if matches!(entry.ban.origin, Origin::Feed(_) | Origin::Fleet) {
                continue;
            }
            self.note_end(&entry, false, now);
            self.forget_unexplained(&entry, now);
            let by = self.jails.roster.name(entry.ban.origin);
            if self.digest.has_line(Topic::End, by, now) {
                info!("the ban of {} by {by} has ended", show(entry.ban.network));
            }
        }
    }
}

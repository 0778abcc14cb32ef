//! Counts how many packets the bans of each feed matched, a few bans at a time.

use std::time::Duration;

use super::{AT_ONCE, EXAMINED, MANY};
use crate::ban::{Key, Origin};
use crate::clock::KernelTime;
use crate::controller::Controller;
use crate::datapath::Datapath;

/// How often packets are counted, and if there are many bans.
const COUNT_EVERY: Duration = Duration::from_mins(1);
const COUNT_MANY_EVERY: Duration = Duration::from_mins(10);

/// A count of packets in progress.
#[derive(Debug)]
pub(super) struct Counting {
    behind: Option<Key>,
    sums: Vec<u64>,
}

impl<D: Datapath> Controller<D> {
    /// Begins to count the packets of each feed, if it is time.
    pub fn count_feeds(&mut self, now: KernelTime) {
        let total: usize = self.places().map(|n| self.bans.ledger().count(Origin::Feed(n))).sum();
        let every = if total > MANY { COUNT_MANY_EVERY } else { COUNT_EVERY };
        let is_due = self.feeds.counted.is_none_or(|last| now.since(last) >= every);
        if is_due && total > 0 && self.feeds.counting.is_none() {
            self.feeds.counted = Some(now);
            let sums = vec![0; self.feeds.all.len()];
            self.feeds.counting = Some(Counting { behind: None, sums });
        }
    }

    pub(super) fn count_some(&mut self) {
        let Some(mut counting) = self.feeds.counting.take() else { return };
        let (mut examined, mut counted) = (0, 0);
        for entry in self.bans.ledger().after(counting.behind, EXAMINED) {
            examined += 1;
            counting.behind = Some(entry.key());
            if let Origin::Feed(place) = entry.ban.origin
                && let Some(sum) = counting.sums.get_mut(usize::from(place))
            {
                *sum += self.datapath.packets(entry.ban.network);
                counted += 1;
            }
            if counted >= AT_ONCE {
                break;
            }
        }
        if examined == EXAMINED || counted >= AT_ONCE {
            self.feeds.counting = Some(counting);
            return;
        }
        for (feed, packets) in self.feeds.all.iter_mut().zip(counting.sums) {
            feed.packets = packets;
        }
    }
}

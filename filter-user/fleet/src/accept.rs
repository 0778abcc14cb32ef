//! What counts of that which other hosts share, and how much of it.

use std::collections::BTreeSet;

use crate::clock::Time;
use crate::host::Host;

/// The most hosts that are told apart.
pub const HOSTS_MAX: usize = 4096;

/// What this host accepts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accept {
    /// Whether a ban counts only if its source is proven.
    pub proven: bool,
    /// By how many hosts an address must be banned.
    pub hosts: u32,
    /// The longest time of a ban, in seconds.
    pub longest: u64,
    /// How many bans a second one host may share in the long run.
    pub rate: u32,
    /// How many bans of one host are in force at most.
    pub most: u32,
    /// How many bans of all hosts are in force at most.
    pub total: u32,
    /// Hosts whose bans do not count.
    pub cut: BTreeSet<Host>,
}

impl Default for Accept {
    fn default() -> Self {
        Self {
            proven: true,
            hosts: 1,
            longest: 24 * 3600,
            rate: 50,
            most: 10_000,
            total: 100_000,
            cut: BTreeSet::new(),
        }
    }
}

/// For how many seconds of its rate a host may share at once.
const BURST: u64 = 40;

/// The bans that a host may still share (GCRA). It goes by the servers' stamps, so that the same bans are accepted
/// when they are read again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Pace {
    /// When the host would be back to nothing, in microseconds.
    due: u64,
}

impl Pace {
    /// Takes a ban at this time, unless it is one too many.
    pub(crate) fn takes(&mut self, at: Time, rate: u32) -> bool {
        let now = at.saturating_mul(1000);
        let each = 1_000_000 / u64::from(rate.max(1));
        let full = now.saturating_add(BURST * 1_000_000);
        // If the servers' clock is set back, the host must not be shut out for longer than a burst takes.
        let due = self.due.clamp(now, full);
        let takes = due.saturating_add(each) <= full;
        self.due = if takes { due.saturating_add(each) } else { due };
        takes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_has_a_burst_and_a_rate() {
        let mut pace = Pace::default();
        let taken = |pace: &mut Pace, at: u64, count: u32| {
            (0..count).filter(|_| pace.takes(at, 50)).count()
        };
        let now = 1_700_000_000_000;
        assert_eq!(taken(&mut pace, now, 10_000), 2000);
        assert_eq!(taken(&mut pace, now + 1000, 10_000), 50);
        assert_eq!(taken(&mut pace, now + 3_600_000, 10_000), 2000);
        // The servers' clock goes back by a day: at most the burst is missing, for at most its time.
        assert!(taken(&mut pace, now - 86_400_000 + 40_000, 10_000) <= 2000);
        assert_eq!(taken(&mut pace, now - 86_400_000 + 90_000, 10_000), 2000);
    }
}

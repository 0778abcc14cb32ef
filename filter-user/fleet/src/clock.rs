//! The servers' time, which every host learns from the stamp on its own last sign of life. So a host whose clock is
//! wrong harms nobody.

/// A time of the servers, in milliseconds since 1970.
pub type Time = u64;

/// What this host knows about the servers' time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Clock {
    /// The servers' time minus this host's count of milliseconds.
    offset: Option<i64>,
}

impl Clock {
    /// Takes the stamp of a sign that was sent and came back at these counts of milliseconds.
    pub fn set(&mut self, stamp: Time, sent: u64, back: u64) {
        let middle = sent.midpoint(back.max(sent));
        let stamp = i64::try_from(stamp).unwrap_or(i64::MAX);
        self.offset = Some(stamp.saturating_sub(i64::try_from(middle).unwrap_or(i64::MAX)));
    }

    /// The servers' time at this count of milliseconds; `None` before the first sign has come back.
    pub fn at(&self, count: u64) -> Option<Time> {
        let count = i64::try_from(count).unwrap_or(i64::MAX);
        self.offset.map(|offset| u64::try_from(count.saturating_add(offset)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_time_is_learnt_from_a_sign() {
        let mut clock = Clock::default();
        assert_eq!(clock.at(5), None);
        clock.set(1_000_000, 100, 120);
        assert_eq!((clock.at(110), clock.at(120)), (Some(1_000_000), Some(1_000_010)));
        // The servers' clock was set back, below this host's count.
        clock.set(50, 1000, 1000);
        assert_eq!((clock.at(1010), clock.at(0)), (Some(60), Some(0)));
        clock.set(u64::MAX, u64::MAX, 0);
        assert!(clock.at(u64::MAX).is_some());
    }
}

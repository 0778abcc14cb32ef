//! Values that are remembered for a time, of which the oldest are evicted when there are too many.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::time::Duration;

use crate::clock::KernelTime;

/// Values by key, each for `longest` after it was last renewed. Only the last `most` renewals count.
#[derive(Debug)]
pub(super) struct Recent<K, V> {
    longest: Duration,
    most: usize,
    /// The values, each with the number of its last renewal.
    values: HashMap<K, (u64, V)>,
    /// The renewals in their order, including those of keys that were renewed or taken since. They are
    /// numbered without gaps.
    order: VecDeque<(KernelTime, K)>,
    /// The number of the oldest renewal.
    oldest: u64,
    /// The number of the next renewal.
    next: u64,
}

impl<K: Copy + Eq + Hash, V: Default> Recent<K, V> {
    pub(super) fn new(longest: Duration, most: usize) -> Self {
        Self { longest, most, values: HashMap::new(), order: VecDeque::new(), oldest: 0, next: 0 }
    }

    /// Remembers the value of `key`, by default a new one, from `now` on. Time never goes back.
    pub(super) fn renew(&mut self, key: K, now: KernelTime) -> &mut V {
        if self.order.len() >= self.most {
            self.evict_oldest();
        }
        let number = self.next;
        self.next += 1;
        self.order.push_back((now, key));
        let (last, value) = self.values.entry(key).or_default();
        *last = number;
        value
    }

    pub(super) fn get_mut(&mut self, key: &K) -> Option<&mut V> {
        self.values.get_mut(key).map(|(_, value)| value)
    }

    /// Forgets the value of `key`, and returns it.
    pub(super) fn take(&mut self, key: &K) -> Option<V> {
        self.values.remove(key).map(|(_, value)| value)
    }

    /// Forgets the values that are too old.
    pub(super) fn forget_old(&mut self, now: KernelTime) {
        while self.order.front().is_some_and(|(at, _)| now.since(*at) > self.longest) {
            self.evict_oldest();
        }
    }

    /// Forgets the oldest renewal, and the value if that was its last one.
    fn evict_oldest(&mut self) {
        let Some((_, key)) = self.order.pop_front() else { return };
        if self.values.get(&key).is_some_and(|(last, _)| *last == self.oldest) {
            self.values.remove(&key);
        }
        self.oldest += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LONGEST: Duration = Duration::from_nanos(10);
    const MOST: usize = 4;

    /// How often each of these keys was renewed, at these times.
    fn renewed(renewals: &[(char, u64)]) -> Recent<char, u8> {
        let mut recent = Recent::new(LONGEST, MOST);
        for (key, now) in renewals {
            *recent.renew(*key, KernelTime(*now)) += 1;
        }
        recent
    }

    fn keys(recent: &Recent<char, u8>) -> String {
        let mut keys: Vec<char> = recent.values.keys().copied().collect();
        keys.sort_unstable();
        keys.into_iter().collect()
    }

    #[test]
    fn the_oldest_is_evicted_when_there_are_too_many() {
        // The last renewal of a key decides, also among those of one moment.
        for (renewals, left) in [
            ("abc", "abc"),
            ("abcd", "abcd"),
            ("abcde", "bcde"),
            ("abcda", "abcd"),
            ("abcdab", "abcd"),
            ("aabbb", "ab"),
            ("abbbb", "b"),
            ("aaaab", "ab"),
        ] {
            for step in [0, 1] {
                let times = (0..).map(|n| n * step);
                let recent = renewed(&renewals.chars().zip(times).collect::<Vec<_>>());
                assert_eq!(keys(&recent), left, "{renewals}");
                assert!(recent.order.len() <= MOST);
            }
        }
        assert_eq!(renewed(&[('a', 0); 9]).values[&'a'].1, 9);
    }

    #[test]
    fn a_value_is_remembered_for_its_time_after_it_was_last_renewed() {
        for (now, left) in [(10, "ab"), (11, "a"), (15, "a"), (16, "")] {
            let mut recent = renewed(&[('a', 0), ('b', 0), ('a', 5)]);
            recent.forget_old(KernelTime(now));
            assert_eq!(keys(&recent), left, "{now}");
            assert_eq!(recent.order.is_empty(), left.is_empty());
        }
    }

    #[test]
    fn a_value_that_was_taken_and_is_renewed_is_a_new_one() {
        let mut recent = renewed(&[('a', 0), ('a', 1)]);
        assert_eq!(
            (recent.take(&'a'), recent.take(&'a'), recent.get_mut(&'a')),
            (Some(2), None, None)
        );
        assert_eq!(*recent.renew('a', KernelTime(9)), 0);
        for (now, value) in [(19, Some(&mut 0)), (20, None)] {
            recent.forget_old(KernelTime(now));
            assert_eq!(recent.get_mut(&'a'), value, "{now}");
        }
    }
}

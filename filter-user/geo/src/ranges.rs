//! Ranges of addresses of one family, as numbers: joins them, finds an address in them, and splits them into
//! networks.

/// Ranges with their first and last address, in order and not adjacent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ranges(Vec<(u128, u128)>);

impl Ranges {
    /// Adds a range, in any order. [`join`](Self::join) must follow.
    pub(crate) fn add(&mut self, first: u128, last: u128) {
        // A database is in order, so most ranges continue the one before.
        match self.0.last_mut() {
            Some((_, end)) if end.checked_add(1) == Some(first) => *end = last,
            _ => self.0.push((first, last)),
        }
    }

    /// Joins ranges that overlap or are adjacent.
    pub(crate) fn join(&mut self) {
        self.0.sort_unstable();
        let mut joined: Vec<(u128, u128)> = Vec::with_capacity(self.0.len());
        for (first, last) in self.0.drain(..) {
            match joined.last_mut() {
                Some((_, end)) if first <= end.saturating_add(1) => *end = last.max(*end),
                _ => joined.push((first, last)),
            }
        }
        self.0 = joined;
    }

    /// Whether an address is in one of them.
    pub(crate) fn contains(&self, address: u128) -> bool {
        let place = self.0.partition_point(|(first, _)| *first <= address);
        place.checked_sub(1).and_then(|at| self.0.get(at)).is_some_and(|(_, end)| address <= *end)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (u128, u128)> {
        self.0.iter().copied()
    }

    /// The networks of which they consist, of addresses with this many bits: each with its first address and its
    /// prefix length.
    pub(crate) fn networks(&self, bits: u32) -> impl Iterator<Item = (u128, u8)> {
        self.0.iter().flat_map(move |(first, last)| Split { next: Some(*first), last: *last, bits })
    }
}

/// The networks of one range.
struct Split {
    next: Option<u128>,
    last: u128,
    bits: u32,
}

impl Iterator for Split {
    type Item = (u128, u8);

    fn next(&mut self) -> Option<(u128, u8)> {
        let first = self.next?;
        // As many bits as the first address has zeros at its end, and as fit.
        let room = self.last.checked_sub(first)?.saturating_add(1);
        let free = first.trailing_zeros().min(room.ilog2()).min(self.bits);
        let size = 1_u128.checked_shl(free);
        self.next = size.and_then(|size| first.checked_add(size)).filter(|next| *next <= self.last);
        Some((first, u8::try_from(self.bits - free).unwrap_or_default()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn joined(ranges: &[(u128, u128)]) -> Ranges {
        let mut all = Ranges::default();
        for (first, last) in ranges {
            all.add(*first, *last);
        }
        all.join();
        all
    }

    #[test]
    fn ranges_become_networks() {
        let all: Vec<_> = joined(&[(1, 8)]).networks(32).collect();
        assert_eq!(all, [(1, 32), (2, 31), (4, 30), (8, 32)]);
        let whole: Vec<_> = joined(&[(0, u128::from(u32::MAX))]).networks(32).collect();
        assert_eq!(whole, [(0, 0)]);
        let last: Vec<_> = joined(&[(u128::MAX - 1, u128::MAX)]).networks(128).collect();
        assert_eq!(last, [(u128::MAX - 1, 127)]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_or_added(ranges in proptest::collection::vec((0..300_u128, 0..20_u128), 0..30)) {
            let ranges: Vec<_> = ranges.iter().map(|(first, more)| (*first, first + more)).collect();
            let all = joined(&ranges);
            let networks: Vec<_> = all.networks(32).collect();
            for address in 0..400 {
                let expected = ranges.iter().any(|(first, last)| (first..=last).contains(&&address));
                prop_assert_eq!(all.contains(address), expected);
                let inside = networks.iter().filter(|(first, length)| {
                    address >> (32 - u32::from(*length)) == first >> (32 - u32::from(*length))
                });
                prop_assert_eq!(inside.count(), usize::from(expected));
            }
        }
    }
}

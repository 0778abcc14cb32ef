//! The last few thousand sources that were over a limit, for `why`.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use crate::clock::KernelTime;
use crate::datapath::Limited;

/// How many are remembered.
pub(super) const LIMITED_MAX: usize = 4096;

/// By address and by age, so that forged addresses do not cost a search each.
#[derive(Debug, Default)]
pub(super) struct LimitedSources {
    last: HashMap<IpAddr, Limited>,
    by_age: BTreeSet<(KernelTime, IpAddr)>,
}

impl LimitedSources {
    /// Records an event. Returns whether its source is new.
    pub(super) fn note(&mut self, event: Limited) -> bool {
        let before = self.last.insert(event.source, event);
        if let Some(before) = before {
            self.by_age.remove(&(before.at, before.source));
        }
        self.by_age.insert((event.at, event.source));
        if self.last.len() > LIMITED_MAX
            && let Some((_, oldest)) = self.by_age.pop_first()
        {
            self.last.remove(&oldest);
        }
        before.is_none()
    }

    /// The last event of a source.
    pub(super) fn get(&self, source: IpAddr) -> Option<Limited> {
        self.last.get(&source).copied()
    }
}

#[cfg(test)]
mod tests {
    use filter_common::decision::Reason;

    use super::*;

    #[test]
    fn the_last_sources_are_remembered_and_no_more() {
        let mut sources = LimitedSources::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let event = |n: u32, at: u64| Limited {
            source: address(n),
            reason: Reason::RegisterLimit,
            at: KernelTime(at),
        };
        assert!(sources.note(event(7, 0)));
        for n in 8..100_000 {
            assert!(sources.note(event(n, n.into())));
            assert!(!sources.note(event(7, n.into())));
        }
        assert_eq!((sources.last.len(), sources.by_age.len()), (LIMITED_MAX, LIMITED_MAX));
        assert_eq!(sources.get(address(7)).unwrap().at, KernelTime(99_999));
        assert_eq!(sources.get(address(99_999)).unwrap().at, KernelTime(99_999));
        assert_eq!(sources.get(address(8)), None);
        assert!(sources.note(event(8, 100_000)));
    }
}

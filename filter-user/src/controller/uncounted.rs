//! The failures of the last few thousand addresses that no jail counted, for `why`.

use std::collections::HashMap;
use std::net::IpAddr;

use crate::clock::KernelTime;

/// The most addresses in a generation, of which there are two.
const GENERATION: usize = 2048;

/// Why a failure does not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Because {
    /// No packet of the address was seen.
    Unwitnessed,
    /// The address is a known peer, and the failure can be forged.
    Known,
    /// Its jail does not count failures whose source may be forged.
    Unproven,
}

/// How many failures of an address did not count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uncounted {
    pub(super) unwitnessed: u32,
    pub(super) known: u32,
    pub(super) unproven: u32,
    pub(super) last: KernelTime,
}

/// By address. When there are too many, the older half is forgotten at once, so that forged addresses do
/// not cost a search each.
#[derive(Debug, Default)]
pub(super) struct UncountedFailures {
    young: HashMap<IpAddr, Uncounted>,
    old: HashMap<IpAddr, Uncounted>,
}

impl UncountedFailures {
    pub(super) fn note(&mut self, address: IpAddr, because: Because, now: KernelTime) {
        let none = Uncounted { unwitnessed: 0, known: 0, unproven: 0, last: now };
        if !self.young.contains_key(&address) {
            if self.young.len() >= GENERATION {
                self.old = std::mem::take(&mut self.young);
            }
            let before = self.old.remove(&address).unwrap_or(none);
            self.young.insert(address, before);
        }
        let entry = self.young.entry(address).or_insert(none);
        let count = match because {
            Because::Unwitnessed => &mut entry.unwitnessed,
            Because::Known => &mut entry.known,
            Because::Unproven => &mut entry.unproven,
        };
        *count = count.saturating_add(1);
        entry.last = now;
    }

    pub(super) fn of(&self, address: IpAddr) -> Option<Uncounted> {
        self.young.get(&address).or_else(|| self.old.get(&address)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_addresses_are_remembered_and_no_more() {
        let mut uncounted = UncountedFailures::default();
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        for n in 0..100_000 {
            uncounted.note(address(n), Because::Unwitnessed, KernelTime(n.into()));
            uncounted.note(address(7), Because::Known, KernelTime(n.into()));
        }
        assert!(uncounted.young.len() + uncounted.old.len() <= 2 * GENERATION);
        let last = uncounted.of(address(99_999)).unwrap();
        assert_eq!((last.unwitnessed, last.known, last.last), (1, 0, KernelTime(99_999)));
        assert_eq!(uncounted.of(address(7)).unwrap().known, 100_000);
        assert_eq!(uncounted.of(address(8)), None);
    }
}

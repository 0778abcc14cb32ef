//! When each closed scope opens again.

use std::time::Duration;

use crate::clock::KernelTime;
use crate::settings::Scope;

/// The kernel's value for an end that never comes.
const FOREVER: KernelTime = KernelTime(u64::MAX);

/// For each scope, whether it is closed and until when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends([KernelTime; 8]);

impl Ends {
    /// Nothing is closed.
    pub const NONE: Self = Self([KernelTime(0); 8]);

    /// These ends, with `scope` closed until `until` as well (`None`: without end). The later end
    /// applies.
    #[must_use]
    pub fn and(mut self, scope: Scope, until: Option<KernelTime>) -> Self {
        if let Some(end) = self.0.get_mut(usize::from(scope.bit())) {
            *end = (*end).max(until.unwrap_or(FOREVER));
        }
        self
    }

    /// The scopes that either closes, for as long as either does.
    #[must_use]
    pub fn union(self, other: Self) -> Self {
        let mut union = self;
        for (end, other) in union.0.iter_mut().zip(other.0) {
            *end = (*end).max(other);
        }
        union
    }

    /// The scopes that this closes and `other` does not, or not for as long.
    #[must_use]
    pub fn beyond(self, other: Self) -> Self {
        let mut rest = self;
        for (end, other) in rest.0.iter_mut().zip(other.0) {
            if *end <= other {
                *end = KernelTime(0);
            }
        }
        rest
    }

    /// Whether a single end is right for every closed scope. A scope may end before the last one,
    /// provided that the ban of all ports, which closes every scope, ends no earlier.
    pub fn have_one_end(self) -> bool {
        let all = self.0[usize::from(Scope::All.bit())];
        let last = self.0.into_iter().max().unwrap_or(all);
        self.0.into_iter().all(|end| end == KernelTime(0) || end.max(all) == last)
    }

    /// Whether both close the same scopes, with ends that differ by less than `tolerance`.
    pub fn agree(self, other: Self, tolerance: Duration) -> bool {
        let near = |(one, other): (KernelTime, KernelTime)| {
            let is_closed = |end| end > KernelTime(0);
            is_closed(one) == is_closed(other)
                && one.since(other).max(other.since(one)) <= tolerance
        };
        self.0.into_iter().zip(other.0).all(near)
    }

    /// Whether nothing is closed.
    pub fn is_empty(&self) -> bool {
        *self == Self::NONE
    }

    /// The closed scopes, and until when; `None`: without end.
    pub fn iter(&self) -> impl Iterator<Item = (Scope, Option<KernelTime>)> {
        (0..8).zip(self.0).filter_map(|(bit, end)| {
            let scope = Scope::from_bit(bit).filter(|_| end > KernelTime(0))?;
            Some((scope, (end < FOREVER).then_some(end)))
        })
    }

    /// The ends by [`Scope::bit`] in the kernel's form, in nanoseconds of its clock: 0 for a scope that
    /// is not closed, [`FOREVER`](filter_common::abi::FOREVER) for one without end.
    pub fn words(&self) -> [u64; 8] {
        self.0.map(|end| end.0)
    }

    /// The inverse of [`words`](Self::words); bits that stand for no scope are ignored.
    pub fn from_words(words: [u64; 8]) -> Self {
        let mut ends = Self::NONE;
        for ((bit, end), word) in (0..8).zip(&mut ends.0).zip(words) {
            *end = KernelTime(if Scope::from_bit(bit).is_some() { word } else { 0 });
        }
        ends
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_end_suffices_if_all_end_together_or_before_the_ban_of_all_ports() {
        let (five, nine) = (Some(KernelTime(5)), Some(KernelTime(9)));
        let ends = |closed: &[(Scope, Option<KernelTime>)]| {
            closed.iter().fold(Ends::NONE, |ends, (scope, until)| ends.and(*scope, *until))
        };
        let ssh = Scope::Ports(1);
        for (closed, one) in [
            (&[][..], true),
            (&[(Scope::Sip, five)], true),
            (&[(Scope::Sip, five), (ssh, five)], true),
            (&[(Scope::Sip, five), (ssh, nine)], false),
            (&[(Scope::Sip, five), (ssh, None)], false),
            (&[(Scope::Sip, five), (Scope::All, nine)], true),
            (&[(Scope::Sip, nine), (Scope::All, five)], false),
            (&[(Scope::Sip, five), (ssh, nine), (Scope::All, nine)], true),
            (&[(Scope::Sip, None), (ssh, None), (Scope::All, five)], false),
        ] {
            assert_eq!(ends(closed).have_one_end(), one, "{closed:?}");
        }
    }

    #[test]
    fn ends_agree_if_they_are_no_further_apart_than_the_kernel_can_say() {
        let tolerance = Duration::from_nanos(10);
        let sip = |until: u64| Ends::NONE.and(Scope::Sip, Some(KernelTime(until)));
        for (one, other, agree) in [
            (sip(100), sip(109), true),
            (sip(100), sip(110), true),
            (sip(100), sip(111), false),
            (sip(5), Ends::NONE, false),
            (sip(100), sip(100).and(Scope::All, Some(KernelTime(100))), false),
            (Ends::NONE, Ends::NONE, true),
        ] {
            assert_eq!((one.agree(other, tolerance), other.agree(one, tolerance)), (agree, agree));
        }
    }

    #[test]
    fn either_of_two_closes_and_only_what_is_longer_is_beyond() {
        let at = |scope, until| Ends::NONE.and(scope, Some(KernelTime(until)));
        let (sip, all) = (at(Scope::Sip, 5), at(Scope::All, 9));
        let both = sip.union(all);
        assert_eq!(both, sip.and(Scope::All, Some(KernelTime(9))));
        assert_eq!(both.union(at(Scope::Sip, 7)), at(Scope::Sip, 7).union(all));
        assert_eq!((both.beyond(sip), both.beyond(both)), (all, Ends::NONE));
        let beyond = |until| sip.beyond(at(Scope::Sip, until));
        assert_eq!([4, 5, 6].map(beyond), [sip, Ends::NONE, Ends::NONE]);
        assert!(Ends::NONE.is_empty() && !sip.is_empty());
    }

    #[test]
    fn the_later_end_applies() {
        let (five, nine) = (Some(KernelTime(5)), Some(KernelTime(9)));
        let ends = Ends::NONE.and(Scope::Sip, nine).and(Scope::Sip, five).and(Scope::All, None);
        let said: Vec<_> = ends.iter().collect();
        assert_eq!(said, [(Scope::Sip, nine), (Scope::All, None)]);
        assert_eq!(ends.words(), [9, 0, 0, 0, 0, 0, 0, u64::MAX]);
        assert_eq!(Ends::from_words(ends.words()), ends);
        assert_eq!(
            Ends::from_words([0, 0, 0, 0, 0, 0, 7, 0]),
            Ends::NONE.and(Scope::Throttle, Some(KernelTime(7)))
        );
        assert_eq!(ends.beyond(Ends::NONE.and(Scope::All, None)), Ends::NONE.and(Scope::Sip, nine));
    }
}

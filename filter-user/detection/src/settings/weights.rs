//! How much each kind of failure counts.

use crate::failure::Class;

/// The classes of failures that Asterisk's sources report.
const CLASSES: usize = 7;

/// How much a failure of each class counts towards `maxretry`, for the classes that a jail's sources
/// distinguish.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Weights([(Class, u32); CLASSES]);

impl Weights {
    /// The classes that Asterisk's sources distinguish, all with the same weight.
    pub const ASTERISK: Self = Self([
        (Class::WrongCredential, 1),
        (Class::UnknownAccount, 1),
        (Class::Acl, 1),
        (Class::Challenge, 1),
        (Class::CallRejected, 1),
        (Class::Malformed, 1),
        (Class::Login, 1),
    ]);

    /// The weight of a failure of this class.
    pub fn of(&self, class: Class) -> u32 {
        self.0.iter().find(|(of, _)| *of == class).map_or(1, |(_, weight)| *weight)
    }

    /// Every class with its weight.
    pub fn iter(&self) -> impl Iterator<Item = (Class, u32)> {
        self.0.iter().copied()
    }

    /// Every class with its weight, mutable.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (Class, &mut u32)> {
        self.0.iter_mut().map(|(class, weight)| (*class, weight))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_class_that_no_source_distinguishes_weighs_one() {
        let mut weights = Weights::ASTERISK;
        for (n, (_, weight)) in (2..).zip(weights.iter_mut()) {
            *weight = n;
        }
        let of: Vec<u32> = weights.iter().map(|(class, _)| weights.of(class)).collect();
        assert_eq!(of, [2, 3, 4, 5, 6, 7, 8]);
        assert_eq!([Class::Ban, Class::Provisioning].map(|class| weights.of(class)), [1, 1]);
    }
}

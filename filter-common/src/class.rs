//! The classes of packets to SIP ports. Each has separate limits.

use crate::decision::{Code, Reason};

/// A class of packets with separate limits. Its number is its index among the buckets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Class {
    /// REGISTER without credentials, and packets that hide their contents.
    Register = 0,
    /// REGISTER with credentials (RFC 3261 section 22.4).
    Credentials = 1,
    /// INVITE.
    Invite = 2,
    /// OPTIONS.
    Options = 3,
    /// SUBSCRIBE.
    Subscribe = 4,
    /// Everything else that arrives at a SIP port over UDP, and other requests over TCP.
    Other = 5,
    /// A TCP segment that opens a connection.
    Syn = 6,
}

impl Class {
    /// Every class, in the order of their numbers.
    pub const ALL: [Self; 7] = [
        Self::Register,
        Self::Credentials,
        Self::Invite,
        Self::Options,
        Self::Subscribe,
        Self::Other,
        Self::Syn,
    ];

    /// Its index among the buckets.
    #[inline(always)]
    pub fn index(self) -> usize {
        self as usize
    }

    /// The reason of a packet that is dropped because its source is over the limit for this class.
    pub fn over(self) -> Reason {
        match self {
            Self::Register => Reason::RegisterLimit,
            Self::Credentials => Reason::CredentialsLimit,
            Self::Invite => Reason::InviteLimit,
            Self::Options => Reason::OptionsLimit,
            Self::Subscribe => Reason::SubscribeLimit,
            Self::Other => Reason::OtherLimit,
            Self::Syn => Reason::SynLimit,
        }
    }
}

/// The number of [`Class::over`] for the class with this index: the reasons are numbered in the order of
/// the classes.
#[inline(always)]
pub fn over(place: usize) -> Code {
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let place = place as u32 & 7;
    Code::from_number(Reason::RegisterLimit.index().wrapping_add(place))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::abi::CLASSES;

    #[test]
    fn numbers_are_the_places() {
        for (place, class) in Class::ALL.iter().enumerate() {
            assert_eq!(class.index(), place);
            assert_eq!(over(place), class.over().into());
        }
        // The last index has another use.
        assert_eq!(Class::ALL.len(), CLASSES - 1);
    }
}

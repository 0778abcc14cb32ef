//! The state of a packet of a class with limits, in the form in which the stages pass it on: one plain
//! word.
//!
//! ```text
//!  63 ........ 32 | 26      | 25     | 24  | 18 .. 16 | 15 .... 8 | 7 .. 0
//!  message starts | limited | search | TCP | class    | pass      |
//! ```
//!
//! Without the bit `limited` the lower half is a decision, a [`Code`].

use crate::class::Class;
use crate::decision::{Code, Reason};
use crate::packet::{Payload, Place, Words};

/// The state of a packet whose class has limits, or its decision without limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Task(u64);

/// The position of the reason with which the packet passes if there is room.
const PASS: u32 = 8;
const PASS_BITS: u64 = 0xff;
/// The position of the class.
const CLASS: u32 = 16;
const CLASS_BITS: u64 = 7;
/// It arrived over TCP.
const TCP: u64 = 1 << 24;
/// Its class is unknown until its header has been searched.
const SEARCH: u64 = 1 << 25;
/// It has a class, and is undecided.
const LIMITED: u64 = 1 << 26;
/// The position of the offset of its message. [`Words`] have the end at the same position.
const MESSAGE: u32 = 32;

const _: () = assert!(Class::Syn as u64 <= CLASS_BITS);

impl Task {
    /// A packet that passes or drops without a limit.
    #[inline(always)]
    pub(super) fn decided(code: Code) -> Self {
        Self(u64::from(code.number()))
    }

    /// A packet of a class, which passes with this reason if there is room.
    #[inline(always)]
    pub(super) fn limited(class: Class, tcp: bool, pass: Reason, message: Payload) -> Self {
        let flags = if tcp { TCP } else { 0 };
        let kind = u64::from(class as u32) << CLASS | u64::from(pass.index()) << PASS;
        Self(kind | flags | LIMITED | (message.start as u64) << MESSAGE)
    }

    /// The task in a word from [`to_word`](Self::to_word).
    #[inline(always)]
    pub fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// As one word.
    #[inline(always)]
    pub fn to_word(self) -> u64 {
        self.0
    }

    /// Why the packet passes or drops, or [`Code::LIMITED`].
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the lower half")]
    pub fn code(self) -> Code {
        if self.0 & LIMITED != 0 { Code::LIMITED } else { Code::from_number(self.0 as u32) }
    }

    /// The position of the message.
    #[inline(always)]
    pub fn message(self, [_, _, place, _]: Words) -> Place {
        Place(self.0 >> MESSAGE | place & (u64::MAX << MESSAGE))
    }

    /// Whether its class is unknown until its header has been searched for credentials.
    #[inline(always)]
    pub fn wants_search(self) -> bool {
        self.0 & SEARCH != 0
    }

    /// Marks that its class is unknown until then.
    #[inline(always)]
    pub(super) fn with_search(self) -> Self {
        Self(self.0 | SEARCH)
    }

    /// Marks that it has credentials.
    #[inline(always)]
    #[must_use]
    pub fn with_credentials(self) -> Self {
        let others = self.0 & !(PASS_BITS << PASS | 0xff << CLASS);
        let class = u64::from(Class::Credentials as u32) << CLASS;
        Self(others | class | u64::from(Reason::RegisterCredentials.index()) << PASS)
    }

    /// Whether it arrived over TCP.
    #[inline(always)]
    pub(super) fn is_tcp(self) -> bool {
        self.0 & TCP != 0
    }

    /// The index of its class among the limits.
    #[inline(always)]
    pub(super) fn class(self) -> usize {
        (self.0 >> CLASS & CLASS_BITS) as usize
    }

    /// The reason with which it passes if there is room.
    #[inline(always)]
    pub(super) fn pass(self) -> Code {
        Code::from_number((self.0 >> PASS & PASS_BITS) as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_has_what_was_put_in() {
        for class in Class::ALL {
            for tcp in [false, true] {
                let message = Payload { start: 42, end: 600, ..Payload::default() };
                let task = Task::limited(class, tcp, Reason::Request, message);
                assert_eq!(task.code(), Code::LIMITED);
                assert_eq!((task.class(), task.is_tcp()), (class.index(), tcp));
                assert_eq!(task.pass(), Reason::Request.into());
                let words = [0, 0, Place::from(message).0, 0];
                assert_eq!(Payload::from(task.message(words)).start, 42);
                assert!(!task.wants_search() && task.with_search().wants_search());
                let register = task.with_search().with_credentials();
                assert_eq!(register.class(), Class::Credentials.index());
                assert_eq!(register.pass(), Reason::RegisterCredentials.into());
                assert_eq!((register.is_tcp(), register.wants_search()), (tcp, true));
                assert_eq!(
                    Payload::from(register.message(words)),
                    Payload::from(Place::from(message))
                );
                assert_eq!(Task::from_word(register.to_word()), register);
            }
        }
        for code in
            [Reason::TcpControl.into(), Code::OVERLOAD, Code::flood(Reason::SynLimit.into())]
        {
            assert_eq!(Task::decided(code).code(), code);
        }
    }
}

//! Turns the responses that the kernel has seen leave into attempts.
//!
//! An answer to a challenge proves its source, and what Asterisk sends cannot be silenced by an attacker. The
//! counts of an address are absolute, so that responses that were not reported count with the next one.
//!
//! Must never grow without a bound.

use std::collections::{HashMap, VecDeque};
use std::net::IpAddr;

use crate::failure::{Attempt, Class, TIMES_MAX, Transport, Verdict, account, session};

/// The names of the rules for `status`.
pub const RULES: &[&str] = &[CHALLENGED, REFUSED, NO_NUMBER, ACCEPTED];

const CHALLENGED: &str = "challenge";
const REFUSED: &str = "refusal";
const NO_NUMBER: &str = "no-number";
const ACCEPTED: &str = "registration";

/// How many calls to numbers that do not exist count as one failure. People misdial now and then; with the
/// default `maxretry`, only 45 such calls in ten minutes are too many. With a stolen password, toll fraud
/// begins by trying prefixes.
pub const MISDIALLED: u8 = 3;

/// How many such calls a call that rings or is answered makes up for.
const MADE_UP_FOR: u8 = 3;

/// How many such calls may have been made up for beforehand.
const MADE_UP_FOR_MAX: u8 = 30;

/// The most addresses whose counts are remembered, as many as the kernel has.
pub const ADDRESSES_MAX: usize = 16_384;

/// What a response says about the request before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It had no credentials, or ones for another nonce.
    Challenged,
    /// Its credentials were for a nonce that had been sent to its source, and are wrong.
    Refused,
    /// It was a REGISTER, and its credentials are right.
    Accepted,
    /// It was an INVITE with the right credentials, and the call rings or was answered.
    Called,
}

/// A response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// Its recipient.
    pub address: IpAddr,
    /// What it says.
    pub kind: Kind,
    /// Its status code.
    pub status: u32,
    /// UDP or TCP.
    pub transport: Transport,
    /// Whether the request was an INVITE.
    pub is_call: bool,
    /// Whether a provisional response preceded it. Asterisk looks up the number before it sends one, so the final
    /// response is that of whoever was called.
    pub is_handled: bool,
    /// How many requests of each kind the address has sent, modulo 2^32.
    pub counts: Counts,
    /// The beginning of the Call-ID.
    pub session: Box<[u8]>,
    /// The beginning of what follows `sip:` in the From.
    pub account: Box<[u8]>,
}

/// The counts of an address, modulo 2^32.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Challenges that were sent to it.
    pub challenged: u32,
    /// Answers to challenges that were refused.
    pub refused: u32,
}

/// The calls of an address.
#[derive(Clone, Copy, Debug, Default)]
struct Calls {
    /// To numbers that do not exist, since the last failure that they were counted as.
    misdialled: u8,
    /// How many more of these have been made up for.
    made_up_for: u8,
}

impl Calls {
    /// Takes a call that rings or was answered.
    fn put_through(&mut self) {
        self.made_up_for = self.made_up_for.saturating_add(MADE_UP_FOR).min(MADE_UP_FOR_MAX);
    }

    /// Takes a call to a number that does not exist. Returns whether it is one too many.
    fn misdial(&mut self) -> bool {
        if self.made_up_for > 0 {
            self.made_up_for -= 1;
            return false;
        }
        self.misdialled += 1;
        let is_too_many = self.misdialled >= MISDIALLED;
        if is_too_many {
            self.misdialled = 0;
        }
        is_too_many
    }
}

/// The counts that have been turned into attempts.
#[derive(Debug, Default)]
pub struct Responses {
    counts: HashMap<IpAddr, (Counts, Calls)>,
    /// The addresses in the order in which they came.
    order: VecDeque<IpAddr>,
}

impl Responses {
    /// The attempt that a response reports. A refusal that says nothing of a credential is none, except for
    /// every third call to a number that the server does not know.
    pub fn attempt(&mut self, response: &Response) -> Option<Attempt> {
        let Response { address, kind, status, transport, counts, .. } = *response;
        // Not found, and address incomplete (RFC 3261 sections 21.4.5 and 21.4.22).
        let misdials = kind == Kind::Refused
            && response.is_call
            && !response.is_handled
            && matches!(status, 404 | 484);
        let (before, calls) = self.remember(address, counts);
        let is_too_many = misdials && calls.misdial();
        let more = |now: u32, then: Option<u32>| match then {
            // A record that was forgotten and made again counts from zero.
            Some(then) if now > then => (now - then).min(TIMES_MAX),
            Some(_) | None => 1,
        };
        let (verdict, class, rule, times) = match kind {
            Kind::Challenged => {
                let times = more(counts.challenged, before.map(|before| before.challenged));
                (Verdict::Ignored, Class::Challenge, CHALLENGED, times)
            }
            Kind::Refused if is_too_many => (Verdict::Failure, Class::CallRejected, NO_NUMBER, 1),
            // 403 is what Asterisk answers whose password is right, but may not do this.
            Kind::Refused if !matches!(status, 401 | 407) => return None,
            Kind::Refused => {
                let times = more(counts.refused, before.map(|before| before.refused));
                (Verdict::Failure, Class::WrongCredential, REFUSED, times)
            }
            Kind::Accepted => (Verdict::Success, Class::Challenge, ACCEPTED, 1),
            Kind::Called => {
                calls.put_through();
                return None;
            }
        };
        let account_end = response.account.iter().position(|byte| b"@>;:, \r\n".contains(byte));
        // Without its end it is not known.
        let named = account_end.map(|end| &response.account[..end]).filter(|name| !name.is_empty());
        Some(Attempt {
            account: named.map(account),
            session: (!response.session.is_empty()).then(|| session(&response.session)),
            transport: Some(transport),
            proven: kind != Kind::Challenged || transport.proves_source(),
            times,
            rule,
            ..Attempt::new(verdict, class, address)
        })
    }

    /// Replaces the counts of an address. Returns the old ones, and its calls.
    fn remember(&mut self, address: IpAddr, counts: Counts) -> (Option<Counts>, &mut Calls) {
        let before = self.counts.get(&address).map(|(counts, _)| *counts);
        if before.is_none() {
            self.order.push_back(address);
            if self.order.len() > ADDRESSES_MAX
                && let Some(oldest) = self.order.pop_front()
            {
                self.counts.remove(&oldest);
            }
        }
        let (remembered, calls) = self.counts.entry(address).or_default();
        *remembered = counts;
        (before, calls)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(kind: Kind, challenged: u32, refused: u32) -> Response {
        Response {
            address: [192, 0, 2, 66].into(),
            kind,
            status: 401,
            transport: Transport::Udp,
            is_call: false,
            is_handled: false,
            counts: Counts { challenged, refused },
            session: (*b"abc@192.0.2.66").into(),
            account: (*b"1001@192.0.2.1>;tag=1").into(),
        }
    }

    #[test]
    fn a_refusal_is_a_proven_failure_and_a_challenge_none_yet() {
        let mut responses = Responses::default();
        let refused = responses.attempt(&response(Kind::Refused, 1, 1)).unwrap();
        assert_eq!((refused.verdict, refused.class), (Verdict::Failure, Class::WrongCredential));
        assert!(refused.proven && !refused.answered && !refused.needs_witness);
        assert_eq!(refused.account.as_deref(), Some("1001"));
        assert_eq!(refused.session.as_deref(), Some("abc@192.0.2.66"));
        let challenged = responses.attempt(&response(Kind::Challenged, 2, 1)).unwrap();
        assert_eq!((challenged.verdict, challenged.proven), (Verdict::Ignored, false));
        let accepted = responses.attempt(&response(Kind::Accepted, 2, 1)).unwrap();
        assert_eq!((accepted.verdict, accepted.class), (Verdict::Success, Class::Challenge));
        // The password is right.
        for status in [403, 404] {
            let refused = Response { status, ..response(Kind::Refused, 2, 2) };
            assert_eq!(responses.attempt(&refused), None, "{status}");
        }
    }

    #[test]
    fn every_third_call_to_no_number_is_a_failure() {
        let mut responses = Responses::default();
        let mut refused = |status, is_call| {
            let of = Response { status, is_call, ..response(Kind::Refused, 0, 1) };
            responses.attempt(&of).map(|attempt| (attempt.class, attempt.times, attempt.proven))
        };
        let failure = Some((Class::CallRejected, 1, true));
        for _ in 0..5 {
            assert_eq!([refused(404, true), refused(484, true)], [None, None]);
            // Lamps of a phone that watch numbers that do not exist; codecs; declined calls.
            for (status, is_call) in [(404, false), (488, true), (603, true), (486, true)] {
                assert_eq!(refused(status, is_call), None);
            }
            assert_eq!(refused(404, true), failure);
        }
        assert_eq!(refused(401, true), Some((Class::WrongCredential, 1, true)));
    }

    /// How many failures these calls are: `-` rings, `x` is to a number that the server does not know, and `t` to one
    /// that a trunk does not know.
    fn failures(calls: &str) -> usize {
        let mut responses = Responses::default();
        let mut attempt = |call| {
            let (kind, is_handled) = match call {
                '-' => (Kind::Called, false),
                't' => (Kind::Refused, true),
                _ => (Kind::Refused, false),
            };
            let of = response(kind, 0, 1);
            responses.attempt(&Response { status: 404, is_call: true, is_handled, ..of })
        };
        calls.chars().filter_map(&mut attempt).count()
    }

    #[test]
    fn stale_numbers_of_a_call_centre_are_no_failures() {
        assert_eq!(failures(&"x".repeat(45)), 15);
        assert_eq!(failures(&"t".repeat(1000)), 0);
        // One call in four is answered.
        assert_eq!(failures(&"-xxx".repeat(100)), 0);
        assert_eq!(failures(&"xx-x".repeat(100)), 0);
        // So many calls that ring do not make up for a scan.
        assert_eq!(failures(&("-".repeat(1000) + &"x".repeat(45))), 5);
        assert_eq!(failures(&("-".to_owned() + &"x".repeat(15)).repeat(10)), 40);
    }

    #[test]
    fn what_was_not_reported_counts_with_the_next() {
        let mut responses = Responses::default();
        let mut times = |refused| {
            responses.attempt(&response(Kind::Refused, 0, refused)).map(|attempt| attempt.times)
        };
        assert_eq!([times(7), times(8), times(12)], [Some(1), Some(1), Some(4)]);
        // The same count again is still a response.
        assert_eq!([times(12), times(112), times(213)], [Some(1), Some(100), Some(TIMES_MAX)]);
        // Forgotten by the kernel, and counted from zero.
        assert_eq!([times(1), times(1000)], [Some(1), Some(TIMES_MAX)]);
    }

    #[test]
    fn each_attempt_names_its_rule() {
        for (kind, rule) in
            [(Kind::Challenged, CHALLENGED), (Kind::Refused, REFUSED), (Kind::Accepted, ACCEPTED)]
        {
            let attempt = Responses::default().attempt(&response(kind, 1, 1)).unwrap();
            assert_eq!((attempt.rule, attempt.transport), (rule, Some(Transport::Udp)));
            assert!(RULES.contains(&rule) && RULES.contains(&NO_NUMBER));
        }
    }

    #[test]
    fn a_challenge_over_tcp_proves_its_source() {
        for (transport, proven) in [(Transport::Udp, false), (Transport::Tcp, true)] {
            let of = Response { transport, ..response(Kind::Challenged, 1, 0) };
            assert_eq!(Responses::default().attempt(&of).unwrap().proven, proven);
        }
    }

    #[test]
    fn an_account_without_an_end_is_unknown() {
        let mut responses = Responses::default();
        for (text, expected) in [
            ("1001@h", Some("1001")),
            ("1001>", Some("1001")),
            ("1001;a=b@h", Some("1001")),
            ("@h", None),
            ("1001", None),
            ("", None),
        ] {
            let of = Response { account: text.as_bytes().into(), ..response(Kind::Refused, 0, 1) };
            assert_eq!(responses.attempt(&of).unwrap().account.as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn memory_is_bounded() {
        let most = u32::try_from(ADDRESSES_MAX).unwrap();
        for (addresses, is_forgotten) in [(most - 1, false), (most, false), (most + 1, true)] {
            let mut responses = Responses::default();
            for n in 0..addresses {
                let address = IpAddr::from(n.to_be_bytes());
                responses.attempt(&Response { address, ..response(Kind::Challenged, 1, 0) });
            }
            let remembered = responses.counts.len();
            assert_eq!(
                (remembered, responses.order.len()),
                (addresses.min(most) as usize, remembered)
            );
            assert_eq!(!responses.counts.contains_key(&IpAddr::from([0; 4])), is_forgotten);
        }
    }
}

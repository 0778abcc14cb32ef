//! Counts unanswered challenges among SIP attempts, and turns them into failures.
//!
//! Asterisk challenges every request without credentials, from scanners and phones alike. A phone answers
//! under the Call-ID of the challenge. A scanner for accounts does not, and on a host set up like Wazo's
//! Asterisk then logs little or nothing (`unidentified_request_count` of `pjsip.conf`). So each challenge
//! without an answer for [`PATIENCE`] is a failure, unless its packet was reported as one or the address
//! has answered any challenge since.
//!
//! Must never grow without a bound.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;

use crate::clock::KernelTime;
use crate::failure::{Attempt, Class, Verdict};
use crate::join::{self, Join};

/// How long a client may take to answer: the lifetime of a SIP transaction (timer F, RFC 3261 section
/// 17.1.2.2).
pub const PATIENCE: Duration = Duration::from_secs(32);

/// The same if failures that are not proven only throttle: three retransmissions (timer E). A client that
/// answers later still can.
pub const PATIENCE_OF_THROTTLE: Duration = Duration::from_secs(4);

/// The most challenges that wait for an answer. When there are more, the oldest are forgotten and do not
/// count.
pub const WAITING_MAX: usize = 65_536;

/// The most failures whose challenge is expected: more than Asterisk reports before the challenge.
const EXPECTED_MAX: usize = 1024;

/// The challenges that wait for an answer.
#[derive(Debug)]
pub struct Challenges {
    /// How long a client may take to answer.
    patience: Duration,
    /// In the order in which they were sent.
    waiting: VecDeque<Waiting>,
    /// By address and Call-ID, the numbers of those that are neither answered nor reported as failures.
    open: BTreeMap<IpAddr, HashMap<Box<str>, VecDeque<u64>>>,
    /// The packets that were reported as failures of a class, and whose challenge is about to be reported.
    expected: VecDeque<(KernelTime, IpAddr, Box<str>, Class)>,
    /// Several sources may report one challenge.
    join: Join,
    next: u64,
}

#[derive(Debug)]
struct Waiting {
    number: u64,
    since: KernelTime,
    reporter: Reporter,
    attempt: Attempt,
}

/// The source that reported a challenge, and the jail that counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reporter {
    /// The number of the source.
    pub source: usize,
    /// The place of the jail.
    pub jail: usize,
}

impl Default for Challenges {
    fn default() -> Self {
        Self {
            patience: PATIENCE,
            waiting: VecDeque::new(),
            open: BTreeMap::new(),
            expected: VecDeque::new(),
            join: Join::default(),
            next: 0,
        }
    }
}

impl Challenges {
    /// Sets how long a client may take to answer.
    pub fn set_patience(&mut self, patience: Duration) {
        self.patience = patience;
    }

    /// Takes an attempt: a failure once, a challenge from every source that reports it. Returns the class of the failure
    /// that was reported before its challenge, if this is the challenge.
    pub fn observe(
        &mut self,
        attempt: &Attempt,
        reporter: Reporter,
        now: KernelTime,
    ) -> Option<Class> {
        let session = attempt.session.as_deref().unwrap_or_default();
        match (attempt.verdict, attempt.class) {
            (Verdict::Success, Class::Challenge) => {
                self.open.remove(&attempt.address);
            }
            (Verdict::Ignored, Class::Challenge) => {
                if !self.join.is_first(attempt, attempt.address, reporter.source, now) {
                    self.name(attempt);
                    return None;
                }
                let class = self.was_expected(attempt.address, session, now);
                if class.is_some() {
                    return class;
                }
                if self.waiting.len() >= WAITING_MAX
                    && let Some(oldest) = self.waiting.pop_front()
                {
                    self.take(&oldest);
                }
                let number = self.next;
                self.next += 1;
                let sessions = self.open.entry(attempt.address).or_default();
                sessions.entry(session.into()).or_default().push_back(number);
                let attempt = attempt.clone();
                self.waiting.push_back(Waiting { number, since: now, reporter, attempt });
            }
            // The failure may be reported before or after the challenge: Asterisk sends one for a wrong nonce and
            // an unknown account too.
            (Verdict::Failure, Class::WrongCredential | Class::UnknownAccount | Class::Acl) => {
                if self.close(attempt.address, session) {
                    return None;
                }
                if self.expected.len() >= EXPECTED_MAX {
                    self.expected.pop_front();
                }
                self.expected.push_back((now, attempt.address, session.into(), attempt.class));
            }
            _ => {}
        }
        None
    }

    /// Closes all challenges of a network, from which somebody has answered one for the first time.
    pub fn forgive(&mut self, network: IpNet) {
        let open = self.open.range(network.network()..=network.broadcast());
        let open: Vec<IpAddr> = open.map(|(address, _)| *address).collect();
        for address in open {
            self.open.remove(&address);
        }
    }

    /// Whether an open challenge of this address and Call-ID went to an address that is proven: over TCP.
    pub fn is_proven(&self, address: IpAddr, session: &str) -> bool {
        let open = self.open.get(&address).and_then(|sessions| sessions.get(session));
        let mut open = open.into_iter().flatten();
        open.any(|number| self.place(*number).is_some_and(|at| self.waiting[at].attempt.proven))
    }

    /// The place of a challenge that waits.
    fn place(&self, number: u64) -> Option<usize> {
        // They are numbered without gaps.
        let oldest = self.waiting.front()?.number;
        usize::try_from(number.checked_sub(oldest)?).ok().filter(|at| *at < self.waiting.len())
    }

    /// Records the account of the last open challenge of this address and Call-ID that has none: AMI does not say for
    /// which unknown account a challenge was sent.
    fn name(&mut self, attempt: &Attempt) {
        let Some(account) = &attempt.account else { return };
        let session = attempt.session.as_deref().unwrap_or_default();
        let open = self.open.get(&attempt.address).and_then(|sessions| sessions.get(session));
        let mut open = open.into_iter().flatten().rev().filter_map(|number| self.place(*number));
        if let Some(place) = open.find(|at| self.waiting[*at].attempt.account.is_none()) {
            self.waiting[place].attempt.account = Some(account.clone());
        }
    }

    /// When [`unanswered`](Self::unanswered) next returns a challenge.
    pub fn next_timeout(&self) -> Option<KernelTime> {
        self.waiting.front().map(|first| first.since.after(self.patience))
    }

    /// A challenge that has waited too long, with the source that reported it and the time since when.
    pub fn unanswered(&mut self, now: KernelTime) -> Option<(Attempt, Reporter, KernelTime)> {
        while self.next_timeout().is_some_and(|time| time <= now) {
            let waiting = self.waiting.pop_front()?;
            if self.take(&waiting) {
                let attempt = Attempt { verdict: Verdict::Failure, ..waiting.attempt };
                return Some((attempt, waiting.reporter, waiting.since));
            }
        }
        None
    }

    /// The class of the failure as which the packet of a challenge has been reported; only once for each.
    fn was_expected(&mut self, address: IpAddr, session: &str, now: KernelTime) -> Option<Class> {
        while self.expected.front().is_some_and(|(at, ..)| now.since(*at) > join::WINDOW) {
            self.expected.pop_front();
        }
        let found = self
            .expected
            .iter()
            .rposition(|(_, who, what, _)| *who == address && **what == *session);
        found.and_then(|place| self.expected.remove(place)).map(|(.., class)| class)
    }

    /// Closes the last challenge of a session. Returns whether there was one.
    fn close(&mut self, address: IpAddr, session: &str) -> bool {
        let Some(sessions) = self.open.get_mut(&address) else { return false };
        let Some(numbers) = sessions.get_mut(session) else { return false };
        let closed = numbers.pop_back().is_some();
        if numbers.is_empty() {
            sessions.remove(session);
        }
        if sessions.is_empty() {
            self.open.remove(&address);
        }
        closed
    }

    /// Closes this challenge. Returns whether it was open.
    fn take(&mut self, waiting: &Waiting) -> bool {
        let Attempt { address, session, .. } = &waiting.attempt;
        let session = session.as_deref().unwrap_or_default();
        let Some(sessions) = self.open.get_mut(address) else { return false };
        let Some(numbers) = sessions.get_mut(session) else { return false };
        if numbers.front() != Some(&waiting.number) {
            return false;
        }
        numbers.pop_front();
        if numbers.is_empty() {
            sessions.remove(session);
        }
        if sessions.is_empty() {
            self.open.remove(address);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REPORTER: Reporter = Reporter { source: 3, jail: 0 };

    fn at(milliseconds: u64) -> KernelTime {
        KernelTime(milliseconds * 1_000_000)
    }

    fn attempt(verdict: Verdict, class: Class, call_id: &str) -> Attempt {
        let session = Some(call_id.to_owned());
        Attempt { session, ..Attempt::new(verdict, class, [192, 0, 2, 66].into()) }
    }

    fn challenge(call_id: &str) -> Attempt {
        attempt(Verdict::Ignored, Class::Challenge, call_id)
    }

    /// The number of unanswered challenges at a time, in milliseconds.
    fn unanswered(challenges: &mut Challenges, now: u64) -> usize {
        std::iter::from_fn(|| challenges.unanswered(at(now))).count()
    }

    #[test]
    fn an_unanswered_challenge_becomes_a_failure() {
        let mut challenges = Challenges::default();
        for n in 0..10 {
            challenges.observe(&challenge("same"), REPORTER, at(n * 1300));
        }
        assert_eq!(challenges.next_timeout(), Some(at(32_000)));
        assert_eq!(unanswered(&mut challenges, 31_999), 0);
        let (failure, reporter, since) = challenges.unanswered(at(32_000)).unwrap();
        assert_eq!((failure.verdict, failure.class), (Verdict::Failure, Class::Challenge));
        assert_eq!((reporter, since), (REPORTER, at(0)));
        assert_eq!(unanswered(&mut challenges, 100_000), 9);
        assert!(challenges.open.is_empty() && challenges.next_timeout().is_none());
    }

    #[test]
    fn a_challenge_proves_its_own_call_id_while_it_is_open() {
        let mut challenges = Challenges::default();
        let failure = |call_id| attempt(Verdict::Failure, Class::WrongCredential, call_id);
        let address = failure("a").address;
        challenges.observe(&challenge("udp"), REPORTER, at(0));
        challenges.observe(&Attempt { proven: true, ..challenge("tcp") }, REPORTER, at(0));
        let proven = |challenges: &Challenges, call_id| challenges.is_proven(address, call_id);
        assert!(proven(&challenges, "tcp") && !proven(&challenges, "udp"));
        assert!(!challenges.is_proven([192, 0, 2, 67].into(), "tcp"));
        assert_eq!(challenges.observe(&failure("tcp"), REPORTER, at(1)), None);
        assert!(!proven(&challenges, "tcp"), "it is closed");
        // The failure first.
        assert_eq!(challenges.observe(&failure("late"), REPORTER, at(1)), None);
        let late = Attempt { proven: true, ..challenge("late") };
        let reported = challenges.observe(&late, REPORTER, at(2));
        assert_eq!(reported, Some(Class::WrongCredential));
        assert!(!proven(&challenges, "late"));
        // Those before it have ended.
        assert_eq!(unanswered(&mut challenges, 40_000), 1);
        challenges.observe(&Attempt { proven: true, ..challenge("tcp") }, REPORTER, at(50_000));
        assert!(proven(&challenges, "tcp") && !proven(&challenges, "udp"));
    }

    /// A phone registers every minute under one Call-ID.
    #[test]
    fn a_phone_that_answers_never_fails() {
        let mut challenges = Challenges::default();
        let success = attempt(Verdict::Success, Class::Challenge, "phone");
        for n in 0..100 {
            challenges.observe(&challenge("phone"), REPORTER, at(n * 31_999));
            assert_eq!(unanswered(&mut challenges, n * 31_999), 0);
            challenges.observe(&success, REPORTER, at(n * 31_999 + 5));
        }
        assert_eq!(unanswered(&mut challenges, 10_000_000), 0);
    }

    #[test]
    fn challenges_of_a_network_are_forgiven_together() {
        for (network, counted) in [
            ("2001:db8::/64", 3),
            ("2001:db8::1/128", 4),
            ("2001:db8::/63", 2),
            ("192.0.2.66/32", 4),
            ("192.0.2.64/30", 4),
            ("192.0.2.0/26", 5),
        ] {
            let mut challenges = Challenges::default();
            for address in [
                "192.0.2.66",
                "2001:db8::1",
                "2001:db8::ffff:ffff:ffff:ffff",
                "2001:db8:0:1::",
                "::",
            ] {
                let address = address.parse().unwrap();
                challenges.observe(&Attempt { address, ..challenge("a") }, REPORTER, at(0));
            }
            challenges.forgive(network.parse().unwrap());
            assert_eq!(unanswered(&mut challenges, 60_000), counted, "{network}");
        }
    }

    #[test]
    fn a_packet_that_has_counted_does_not_count_again() {
        let mut challenges = Challenges::default();
        challenges.observe(&challenge("a"), REPORTER, at(0));
        challenges.observe(
            &attempt(Verdict::Failure, Class::WrongCredential, "a"),
            REPORTER,
            at(5),
        );
        for class in [Class::UnknownAccount, Class::Acl] {
            challenges.observe(&attempt(Verdict::Failure, class, "a"), REPORTER, at(5));
            challenges.observe(&challenge("a"), REPORTER, at(5));
        }
        challenges.observe(&challenge("a"), REPORTER, at(5));
        challenges.observe(&challenge("b"), REPORTER, at(6));
        challenges.observe(
            &attempt(Verdict::Failure, Class::WrongCredential, "c"),
            REPORTER,
            at(7),
        );
        assert_eq!(unanswered(&mut challenges, 60_000), 2);
    }

    #[test]
    fn a_challenge_that_two_sources_report_counts_once() {
        let mut challenges = Challenges::default();
        for source in [1, 2] {
            challenges.observe(&challenge("a"), Reporter { source, jail: 0 }, at(0));
        }
        assert_eq!(unanswered(&mut challenges, 60_000), 1);
    }

    #[test]
    fn a_challenge_has_the_account_that_any_source_names() {
        let mut challenges = Challenges::default();
        for n in 0..3 {
            let nameless = challenge(&n.to_string());
            let named = Attempt { account: Some(format!("x{n}")), ..nameless.clone() };
            challenges.observe(&nameless, Reporter { source: 1, jail: 0 }, at(n));
            challenges.observe(&named, Reporter { source: 2, jail: 0 }, at(n));
        }
        let mut accounts = Vec::new();
        while let Some((failure, ..)) = challenges.unanswered(at(60_000)) {
            accounts.push(failure.account.unwrap());
        }
        assert_eq!(accounts, ["x0", "x1", "x2"]);
    }

    #[test]
    fn a_failure_and_its_challenge_count_once_in_either_order() {
        let classes = [Class::UnknownAccount, Class::WrongCredential, Class::Acl];
        for (class, first) in classes.into_iter().flat_map(|of| [(of, true), (of, false)]) {
            let unknown = attempt(Verdict::Failure, class, "a");
            let mut challenges = Challenges::default();
            if first {
                challenges.observe(&unknown, REPORTER, at(0));
            }
            challenges.observe(&challenge("a"), REPORTER, at(5));
            if !first {
                challenges.observe(&unknown, REPORTER, at(9));
            }
            assert_eq!(unanswered(&mut challenges, 60_000), 0, "{class} {first}");
        }
    }

    #[test]
    fn a_failure_waits_for_its_challenge_as_long_as_two_reports_may_be_apart() {
        for (after, counted) in [(999, 0), (1000, 0), (1001, 1)] {
            let mut challenges = Challenges::default();
            let failure = attempt(Verdict::Failure, Class::WrongCredential, "a");
            challenges.observe(&failure, REPORTER, at(0));
            challenges.observe(&challenge("a"), REPORTER, at(after));
            assert_eq!(unanswered(&mut challenges, 60_000), counted, "{after} ms");
        }
    }

    #[test]
    fn a_failure_belongs_to_the_challenge_of_its_address_and_call_id() {
        let failure = attempt(Verdict::Failure, Class::WrongCredential, "a");
        let of_other = Attempt { address: [192, 0, 2, 67].into(), ..challenge("a") };
        for (challenge, counted) in [(challenge("a"), 0), (challenge("b"), 1), (of_other, 1)] {
            let mut challenges = Challenges::default();
            challenges.observe(&failure, REPORTER, at(0));
            challenges.observe(&challenge, REPORTER, at(0));
            assert_eq!(unanswered(&mut challenges, 60_000), counted, "{challenge:?}");
        }
    }

    #[test]
    fn the_oldest_failure_without_a_challenge_is_forgotten() {
        for (failures, counted) in [(EXPECTED_MAX - 1, 0), (EXPECTED_MAX, 0), (EXPECTED_MAX + 1, 1)]
        {
            let mut challenges = Challenges::default();
            for n in 0..failures {
                let failure = attempt(Verdict::Failure, Class::WrongCredential, &n.to_string());
                challenges.observe(&failure, REPORTER, at(0));
            }
            challenges.observe(&challenge("0"), REPORTER, at(0));
            assert_eq!(unanswered(&mut challenges, 60_000), counted, "{failures} failures");
        }
    }

    #[test]
    fn a_shorter_patience_applies_to_challenges_that_wait() {
        let mut challenges = Challenges::default();
        challenges.observe(&challenge("a"), REPORTER, at(0));
        challenges.set_patience(PATIENCE_OF_THROTTLE);
        assert_eq!(challenges.next_timeout(), Some(at(4000)));
        assert_eq!((unanswered(&mut challenges, 3999), unanswered(&mut challenges, 4000)), (0, 1));
    }

    /// A scan under one Call-ID, after another one whose challenges no longer wait.
    #[test]
    fn each_challenge_of_a_session_gets_an_account() {
        let mut challenges = Challenges::default();
        for n in 0..7 {
            challenges.observe(&challenge(&n.to_string()), REPORTER, at(0));
        }
        assert_eq!(unanswered(&mut challenges, 40_000), 7);
        let of = |source, account: Option<String>| {
            (Attempt { account, ..challenge("a") }, Reporter { source, jail: 0 })
        };
        let nameless = (0..3).map(|_| of(1, None));
        let named = (0..4).map(|n| of(2, Some(format!("x{n}"))));
        for (challenge, reporter) in nameless.chain(named) {
            challenges.observe(&challenge, reporter, at(50_000));
        }
        let counted = std::iter::from_fn(|| challenges.unanswered(at(90_000)));
        let mut accounts: Vec<String> =
            counted.filter_map(|(failure, ..)| failure.account).collect();
        accounts.sort_unstable();
        // The fourth is another challenge, which the first source has not reported.
        assert_eq!(accounts, ["x0", "x1", "x2", "x3"]);
    }

    #[test]
    fn memory_is_bounded() {
        let mut challenges = Challenges::default();
        for n in 0..WAITING_MAX + 100 {
            challenges.observe(&challenge(&n.to_string()), REPORTER, at(0));
        }
        assert_eq!(challenges.waiting.len(), WAITING_MAX);
        assert_eq!(challenges.open.values().map(HashMap::len).sum::<usize>(), WAITING_MAX);
        assert_eq!(unanswered(&mut challenges, 60_000), WAITING_MAX);
        assert!(challenges.open.is_empty());
    }
}

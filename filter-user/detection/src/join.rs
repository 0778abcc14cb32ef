//! Ensures that an attempt counts once, although several sources (the NOTICE log, the security log and
//! AMI) may report it, or one of them twice: determines whether an attempt is reported for the first
//! time.
//!
//! Two reports belong to the same packet if they have the same address and Call-ID, come within
//! [`WINDOW`] of each other, and differ in source, level or class. A source reports a packet once in each
//! class, and a log with the levels NOTICE and SECURITY once at each level. So an attacker cannot hide
//! attempts by using one Call-ID for all of them. If an attacker silences one source, the reports of the
//! others still count. Two packets count as one only if the sources are silenced alternately, faster than
//! the window.
//!
//! A client that is challenged repeats its request with credentials. If Asterisk knows no such account, both requests
//! are reported as failures, and are one attempt.
//!
//! Must never grow without a bound.

mod recent;

use std::collections::VecDeque;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::time::Duration;

use self::recent::Recent;
use crate::clock::KernelTime;
use crate::failure::{Attempt, Class, Verdict};
use crate::parse::security;

/// The longest time between two reports of one packet. With 500 simultaneous failures, Asterisk's logs and
/// AMI were up to 90 ms behind the wire, and each source waits for the controller separately.
pub const WINDOW: Duration = Duration::from_secs(1);

/// The most packets that are remembered, and the most announced attempts and requests for unknown accounts.
/// When there are more, the oldest are evicted.
const PACKETS_MAX: usize = 65_536;

/// The longest time between an announced attempt and its refusal: sshd's default `LoginGraceTime`.
const ANNOUNCED: Duration = Duration::from_mins(2);

/// The most packets of one address and Call-ID with which a new attempt is compared.
const COMPARED_MAX: usize = 1024;

/// The address and the Call-ID as a keyed hash, so that nobody can choose equal ones. Among 65,536 of
/// them, the probability that two are equal is about 1 in 10^10. Lines about access lists and logins have
/// no Call-ID.
type Key = u64;

/// The recent attempts.
#[derive(Debug)]
pub struct Join {
    secret: RandomState,
    /// The packets, renewed by each packet's first report.
    packets: Recent<Key, Packets>,
    /// The connections whose next refusal has already been counted, and how.
    announced: Recent<(IpAddr, u16), State>,
    /// The requests for unknown accounts that may be repeated with credentials, by reporter.
    unknown: Recent<Key, ()>,
}

impl Default for Join {
    fn default() -> Self {
        Self {
            secret: RandomState::new(),
            packets: Recent::new(WINDOW, PACKETS_MAX),
            announced: Recent::new(ANNOUNCED, PACKETS_MAX),
            unknown: Recent::new(WINDOW, PACKETS_MAX),
        }
    }
}

/// What a report is of its attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The first one.
    First,
    /// Another one.
    Another,
    /// The first one that proves an attempt which a jail has counted. Only this one may prove it: a second proof would be
    /// taken as that of a different failure of the address, which may be forged.
    Proof,
    /// The first one of a request with credentials, without which the same account was named a moment ago.
    Repeated,
    /// Another one, and no jail has counted the first: it must not count as proof of a different failure of the
    /// address.
    AnotherOfUncounted,
    /// The first one that proves an attempt of which no jail has counted the reports before: it counts.
    FirstProof,
}

/// A reporter: a source, whether at the level SECURITY, and the class.
type Mark = (usize, bool, Class);

/// What is known of an attempt after its first report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    /// No jail has counted it.
    Uncounted,
    /// A jail has counted it, without proof.
    #[default]
    Counted,
    /// A jail has counted it, and one of its reports proves it.
    Proven,
}

impl State {
    fn new(is_proven: bool) -> Self {
        if is_proven { Self::Proven } else { Self::Counted }
    }

    /// Which report another one is.
    fn take(&mut self, is_proven: bool) -> Report {
        let report = match self {
            Self::Counted if is_proven => Report::Proof,
            Self::Counted | Self::Proven => Report::Another,
            Self::Uncounted if is_proven => Report::FirstProof,
            Self::Uncounted => return Report::AnotherOfUncounted,
        };
        if is_proven {
            *self = Self::Proven;
        }
        report
    }
}

/// The packets of one address and Call-ID.
///
/// A report always counts for the first packet that its reporter has not reported yet, so there are no
/// gaps, and one number for each reporter is enough.
#[derive(Debug, Default)]
struct Packets {
    /// The times of the first reports, oldest first, and what is known of the packet.
    heard: VecDeque<(KernelTime, State)>,
    /// How many earlier packets were forgotten.
    forgotten: u64,
    /// How many packets, including forgotten ones, each reporter has reported.
    told: Vec<(Mark, u64)>,
}

impl Packets {
    /// Records a report by `mark`. Returns which report of its packet it is.
    fn tell(&mut self, mark: Mark, proven: bool, now: KernelTime) -> Report {
        while self.heard.len() > COMPARED_MAX
            || self.heard.front().is_some_and(|(first, _)| now.since(*first) > WINDOW)
        {
            self.heard.pop_front();
            self.forgotten += 1;
        }
        let of_mark = self.told.iter().position(|(other, _)| *other == mark);
        let of_mark = of_mark.unwrap_or_else(|| {
            self.told.push((mark, 0));
            self.told.len() - 1
        });
        let (_, told) = &mut self.told[of_mark];
        let before = (*told).max(self.forgotten);
        *told = before + 1;
        let place = usize::try_from(before - self.forgotten).unwrap_or(usize::MAX);
        if let Some((_, state)) = self.heard.get_mut(place) {
            return state.take(proven);
        }
        self.heard.push_back((now, State::new(proven)));
        Report::First
    }
}

impl Join {
    /// Whether this is the first report of the packet of `attempt`; see [`report`](Self::report).
    pub fn is_first(
        &mut self,
        attempt: &Attempt,
        address: IpAddr,
        source: usize,
        now: KernelTime,
    ) -> bool {
        self.report(attempt, address, source, now) == Report::First
    }

    /// Takes a report of `attempt`, which came from `address`, by `source` at `now`. Time never goes back.
    pub fn report(
        &mut self,
        attempt: &Attempt,
        address: IpAddr,
        source: usize,
        now: KernelTime,
    ) -> Report {
        self.forget_old(now);
        if let Some(port) = attempt.port {
            let connection = (address, port);
            if attempt.announces {
                *self.announced.renew(connection, now) = State::new(attempt.proven);
                return Report::First;
            }
            if attempt.class == Class::Login
                && let Some(mut state) = self.announced.take(&connection)
            {
                return state.take(attempt.proven);
            }
        }
        let mark = (source, security::RULES.contains(&attempt.rule), attempt.class);
        let session = attempt.session.as_deref();
        if attempt.class == Class::UnknownAccount && self.is_repeated(attempt, address, mark, now) {
            return Report::Repeated;
        }
        let proven = attempt.proven;
        if !matches!(attempt.class, Class::Acl | Class::Login) {
            return self.tell((address, session), mark, proven, now);
        }
        // A packet that an access list refused is also reported as a wrong credential, with its Call-ID.
        if session.is_some() {
            self.tell((address, session), mark, proven, now);
        }
        if attempt.verdict != Verdict::Failure {
            return Report::Another;
        }
        self.tell((address, None), mark, proven, now)
    }

    /// Whether this reporter has reported the same unknown account under the same Call-ID a moment ago; true only for
    /// every second one, so that one Call-ID hides no more.
    fn is_repeated(
        &mut self,
        attempt: &Attempt,
        address: IpAddr,
        by: Mark,
        now: KernelTime,
    ) -> bool {
        let (Some(session), Some(account)) = (&attempt.session, &attempt.account) else {
            return false;
        };
        let key = self.secret.hash_one((address, session, account, by));
        if self.unknown.take(&key).is_some() {
            return true;
        }
        self.unknown.renew(key, now);
        false
    }

    /// Records that no jail has counted the attempt that was the last one to be the
    /// [first](Report::First) report.
    pub fn set_aside(&mut self, attempt: &Attempt, address: IpAddr) {
        // No packet was remembered for an announcement.
        if attempt.announces {
            return;
        }
        let key = self.secret.hash_one((address, attempt.session.as_deref()));
        if let Some((_, state)) = self.packets.get_mut(&key).and_then(|p| p.heard.back_mut()) {
            *state = State::Uncounted;
        }
    }

    fn tell(
        &mut self,
        of: (IpAddr, Option<&str>),
        mark: Mark,
        proven: bool,
        now: KernelTime,
    ) -> Report {
        let key = self.secret.hash_one(of);
        let report = match self.packets.get_mut(&key) {
            Some(packets) => packets.tell(mark, proven, now),
            None => return self.packets.renew(key, now).tell(mark, proven, now),
        };
        if report == Report::First {
            self.packets.renew(key, now);
        }
        report
    }

    fn forget_old(&mut self, now: KernelTime) {
        self.packets.forget_old(now);
        self.announced.forget_old(now);
        self.unknown.forget_old(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOTICE: usize = 0;
    const AMI: usize = 1;

    fn attempt(class: Class, call_id: Option<&str>) -> Attempt {
        let session = call_id.map(str::to_owned);
        Attempt { session, ..Attempt::new(Verdict::Failure, class, [192, 0, 2, 66].into()) }
    }

    fn at(milliseconds: u64) -> KernelTime {
        KernelTime(milliseconds * 1_000_000)
    }

    fn told(join: &mut Join, attempt: &Attempt, source: usize, now: KernelTime) -> bool {
        join.is_first(attempt, attempt.address, source, now)
    }

    /// How many of these count: class, Call-ID, source, time in milliseconds.
    fn count(heard: &[(Class, Option<&str>, usize, u64)]) -> usize {
        let mut join = Join::default();
        let first = |(class, call_id, source, time): &(Class, Option<&str>, usize, u64)| {
            told(&mut join, &attempt(*class, *call_id), *source, at(*time))
        };
        heard.iter().copied().filter(first).count()
    }

    #[test]
    fn one_packet_that_two_sources_report_counts_once() {
        use Class::WrongCredential as Wrong;
        assert_eq!(count(&[(Wrong, Some("a"), NOTICE, 0), (Wrong, Some("a"), AMI, 40)]), 1);
        assert_eq!(count(&[(Wrong, Some("a"), NOTICE, 0), (Wrong, Some("b"), AMI, 40)]), 2);
        assert_eq!(count(&[(Wrong, Some("a"), NOTICE, 0), (Wrong, Some("a"), AMI, 1001)]), 2);
    }

    #[test]
    fn one_packet_that_a_log_reports_at_both_levels_counts_once() {
        let notice = attempt(Class::WrongCredential, Some("a"));
        let event = Attempt { rule: "ChallengeResponseFailed", ..notice.clone() };
        let mut join = Join::default();
        let counted = (0..15).flat_map(|n| [(&notice, at(n)), (&event, at(n))]);
        let counted = counted.filter(|(attempt, now)| told(&mut join, attempt, NOTICE, *now));
        assert_eq!(counted.count(), 15);
    }

    #[test]
    fn one_call_id_for_all_attempts_hides_none() {
        use Class::WrongCredential as Wrong;
        let tries = (0..15)
            .flat_map(|n| [(Wrong, Some("a"), NOTICE, n * 7), (Wrong, Some("a"), AMI, n * 7 + 1)]);
        assert_eq!(count(&tries.collect::<Vec<_>>()), 15);
        // In batches, as the sources deliver under load.
        let log = (0..15).map(|n| (Wrong, Some("a"), NOTICE, n));
        let ami = (0..15).map(|n| (Wrong, Some("a"), AMI, 20 + n));
        assert_eq!(count(&log.chain(ami).collect::<Vec<_>>()), 15);
    }

    #[test]
    fn other_reports_of_an_attempt_that_no_jail_counted_are_told_apart() {
        use Report::{Another, AnotherOfUncounted, First};
        let mut join = Join::default();
        // One Call-ID for all, and another.
        let (of, other) = (
            attempt(Class::WrongCredential, Some("a")),
            attempt(Class::WrongCredential, Some("b")),
        );
        let mut report = |attempt: &Attempt, source, counts: bool| {
            let report = join.report(attempt, attempt.address, source, at(0));
            if report == First && !counts {
                join.set_aside(attempt, attempt.address);
            }
            report
        };
        let notices = [(&of, true), (&of, false), (&of, true), (&other, false), (&of, false)];
        for (attempt, counts) in notices {
            assert_eq!(report(attempt, NOTICE, counts), First);
        }
        let again = notices.map(|(attempt, _)| report(attempt, AMI, true));
        assert_eq!(
            again,
            [Another, AnotherOfUncounted, Another, AnotherOfUncounted, AnotherOfUncounted]
        );
        assert_eq!(report(&of, AMI, true), First);
    }

    #[test]
    fn a_proven_report_of_an_attempt_that_no_jail_counted_counts_once() {
        use Report::{Another, AnotherOfUncounted, First, FirstProof, Proof};
        let of = attempt(Class::WrongCredential, Some("a"));
        let proof = Attempt { proven: true, ..of.clone() };
        let mut join = Join::default();
        let mut report =
            |attempt: &Attempt, source| join.report(attempt, attempt.address, source, at(0));
        assert_eq!([report(&of, NOTICE), report(&proof, AMI)], [First, Proof]);
        assert_eq!(report(&of, NOTICE), First);
        join.set_aside(&of, of.address);
        let mut report =
            |attempt: &Attempt, source| join.report(attempt, attempt.address, source, at(0));
        assert_eq!(report(&of, AMI + 1), Another, "of the first packet");
        assert_eq!(report(&of, AMI + 1), AnotherOfUncounted);
        assert_eq!([report(&proof, AMI), report(&proof, AMI + 2)], [FirstProof, Another]);
        assert_eq!(report(&proof, AMI + 2), Another);
    }

    #[test]
    fn an_attempt_is_proven_once() {
        use Report::{Another, First, Proof};
        let of = |proven| Attempt { proven, ..attempt(Class::WrongCredential, Some("a")) };
        for (first, rest) in [
            (false, [Another, Proof, Another, Another]),
            (true, [Another, Another, Another, Another]),
        ] {
            let mut join = Join::default();
            let mut report = |proven, source| {
                let attempt = of(proven);
                join.report(&attempt, attempt.address, source, at(0))
            };
            assert_eq!(report(first, 0), First);
            let others = [(false, 1), (true, 2), (true, 3), (false, 4)];
            assert_eq!(others.map(|(proven, source)| report(proven, source)), rest);
        }
    }

    /// sshd names an invalid user before it refuses the password.
    #[test]
    fn an_announced_attempt_is_proven_once() {
        use Report::{Another, First, Proof};
        for (announced, refused, expected) in
            [(false, false, Another), (false, true, Proof), (true, true, Another)]
        {
            let mut join = Join::default();
            let mut report = |proven, announces| {
                let login = attempt(Class::Login, None);
                let login = Attempt { proven, announces, port: Some(40_000), ..login };
                join.report(&login, login.address, NOTICE, at(0))
            };
            assert_eq!([report(announced, true), report(refused, false)], [First, expected]);
        }
    }

    #[test]
    fn a_silenced_source_does_not_silence_the_other() {
        use Class::WrongCredential as Wrong;
        let ami_alone = (0..15).map(|n| (Wrong, Some("a"), AMI, n * 7));
        assert_eq!(count(&ami_alone.collect::<Vec<_>>()), 15);
        let in_turns = (0..15).map(|n| {
            let source = if n % 2 == 0 { AMI } else { NOTICE };
            (Wrong, Some("a"), source, n * 1100)
        });
        assert_eq!(count(&in_turns.collect::<Vec<_>>()), 15);
    }

    /// An unknown user with credentials: two lines and two events.
    #[test]
    fn one_packet_in_two_classes_counts_once() {
        use Class::{UnknownAccount, WrongCredential};
        let packet = [
            (UnknownAccount, Some("a"), NOTICE, 0),
            (UnknownAccount, Some("a"), AMI, 0),
            (WrongCredential, Some("a"), NOTICE, 1),
            (WrongCredential, Some("a"), AMI, 1),
        ];
        assert_eq!(count(&packet), 1);
    }

    /// A guess at an unknown account: Asterisk names the account when it challenges, and again when it refuses.
    #[test]
    fn a_challenged_request_and_its_answer_count_once() {
        use Class::{UnknownAccount, WrongCredential};
        use Report::{Another, First, Repeated};

        let of = |class, account: &str, call_id| Attempt {
            account: Some(account.to_owned()),
            ..attempt(class, Some(call_id))
        };
        let mut join = Join::default();
        let mut heard = |attempts: &[(Attempt, usize)]| -> Vec<Report> {
            attempts.iter().map(|(a, source)| join.report(a, a.address, *source, at(0))).collect()
        };
        let (unknown, wrong) = (of(UnknownAccount, "x1", "a"), of(WrongCredential, "x1", "a"));
        let guess = [
            (unknown.clone(), NOTICE),
            (unknown.clone(), AMI),
            (unknown.clone(), NOTICE),
            (wrong.clone(), NOTICE),
            (unknown, AMI),
            (wrong, AMI),
        ];
        for _ in 0..3 {
            assert_eq!(heard(&guess), [First, Another, Repeated, Another, Repeated, Another]);
        }
        // A scan under one Call-ID names another account each time.
        let scan: Vec<_> =
            (0..20).map(|n| (of(UnknownAccount, &format!("x{n}"), "b"), NOTICE)).collect();
        assert_eq!(heard(&scan), [First; 20]);
        // The same without the name, as AMI reports it.
        let nameless = vec![(attempt(UnknownAccount, Some("c")), AMI); 20];
        assert_eq!(heard(&nameless), [First; 20]);
        let late = |time| (of(UnknownAccount, "x1", "d"), at(time));
        for (attempt, now) in [late(0), late(1001), late(2002)] {
            assert_eq!(join.report(&attempt, attempt.address, NOTICE, now), First);
        }
    }

    /// An endpoint's access list: `acl.c` names no Call-ID, and the credentials are refused besides.
    #[test]
    fn a_refusal_by_an_access_list_counts_once() {
        use Class::{Acl, WrongCredential};
        let packet = [
            (Acl, None, NOTICE, 0),
            (Acl, Some("a"), AMI, 0),
            (WrongCredential, Some("a"), AMI, 1),
            (WrongCredential, Some("a"), NOTICE, 1),
        ];
        assert_eq!(count(&packet), 1);
    }

    /// A good phone with too many contacts, beside one that an access list refuses.
    #[test]
    fn an_ignored_attempt_hides_no_failure() {
        let mut join = Join::default();
        let contacts = attempt(Class::Acl, Some("a"));
        let contacts = Attempt { verdict: Verdict::Ignored, ..contacts };
        assert!(!told(&mut join, &contacts, AMI, at(0)));
        assert!(told(&mut join, &attempt(Class::Acl, None), NOTICE, at(1)));
    }

    #[test]
    fn an_attempt_without_a_session_counts_each_time() {
        let lines: Vec<_> = (0..10).map(|n| (Class::Login, None, NOTICE, n)).collect();
        assert_eq!(count(&lines), 10);
    }

    /// `Invalid user`, and three passwords on its connection.
    #[test]
    fn an_announced_attempt_and_its_first_refusal_count_once() {
        let mut join = Join::default();
        let on = |port, announces| {
            let attempt = attempt(Class::Login, None);
            Attempt { port: Some(port), announces, ..attempt }
        };
        assert!(told(&mut join, &on(5022, true), NOTICE, at(0)));
        assert!(told(&mut join, &on(5023, false), NOTICE, at(1000)));
        let passwords: Vec<_> =
            (1..4).map(|n| told(&mut join, &on(5022, false), NOTICE, at(n * 3000))).collect();
        assert_eq!(passwords, [false, true, true]);
        assert!(told(&mut join, &on(5024, true), NOTICE, at(10_000)));
        assert!(told(&mut join, &on(5024, false), NOTICE, at(131_000)));
    }

    #[test]
    fn memory_is_bounded() {
        let mut join = Join::default();
        let mut remembered = |call_id, now| {
            told(&mut join, &attempt(Class::WrongCredential, Some(call_id)), AMI, at(now));
            let key = join.secret.hash_one((IpAddr::from([192, 0, 2, 66]), Some("a")));
            join.packets.get_mut(&key).map(|packets| packets.heard.len())
        };
        for n in 1..2 * COMPARED_MAX {
            assert_eq!(remembered("a", 0), Some(n.min(COMPARED_MAX + 1)));
        }
        assert!(remembered("b", 1000).is_some());
        assert_eq!(remembered("b", 1001), None);
    }

    /// One Call-ID for this many packets, which one source reports after the other.
    fn one_call_id(packets: u64, apart: u64) -> usize {
        use Class::WrongCredential as Wrong;
        let log = (0..packets).map(|n| (Wrong, Some("a"), NOTICE, n * apart));
        let end = packets.saturating_sub(1) * apart;
        let ami = (0..packets).map(|_| (Wrong, Some("a"), AMI, end));
        count(&log.chain(ami).collect::<Vec<_>>())
    }

    #[test]
    fn a_packet_is_compared_with_all_remembered_ones() {
        let most = COMPARED_MAX as u64;
        for (packets, counted) in [(most - 1, most - 1), (most, most), (most + 1, most + 2)] {
            assert_eq!(one_call_id(packets, 0) as u64, counted, "{packets} packets");
        }
    }

    #[test]
    fn a_packet_is_remembered_for_the_window_and_no_longer() {
        // Eleven within the window, a tenth of it apart, and one before it.
        assert_eq!((one_call_id(11, 100), one_call_id(12, 100)), (11, 13));
        let of = attempt(Class::WrongCredential, Some("a"));
        for (after, is_first) in [(999, false), (1000, false), (1001, true)] {
            let mut join = Join::default();
            assert!(told(&mut join, &of, NOTICE, at(0)));
            assert_eq!(told(&mut join, &of, AMI, at(after)), is_first, "{after} ms");
            // A packet that was reported again within the window stays for another window.
            let mut join = Join::default();
            assert!(told(&mut join, &of, NOTICE, at(0)) && told(&mut join, &of, NOTICE, at(500)));
            assert!(!told(&mut join, &of, AMI, at(500)));
            assert_eq!(told(&mut join, &of, AMI, at(500 + after)), is_first, "{after} ms");
        }
    }

    #[test]
    fn an_announced_attempt_is_remembered_as_long_as_sshd_waits() {
        let on = |announces| Attempt { port: Some(5022), announces, ..attempt(Class::Login, None) };
        for (after, counts) in [(119_999, false), (120_000, false), (120_001, true)] {
            let mut join = Join::default();
            assert!(told(&mut join, &on(true), NOTICE, at(0)));
            assert_eq!(told(&mut join, &on(false), NOTICE, at(after)), counts, "{after} ms");
        }
    }

    #[test]
    fn the_oldest_packet_is_evicted() {
        let of = |n: usize| attempt(Class::WrongCredential, Some(&n.to_string()));
        for (packets, is_forgotten) in [(PACKETS_MAX, false), (PACKETS_MAX + 1, true)] {
            let mut join = Join::default();
            for n in 0..packets {
                assert!(told(&mut join, &of(n), NOTICE, at(0)));
            }
            // The last one is remembered in any case.
            assert!(!told(&mut join, &of(packets - 1), AMI, at(0)));
            assert_eq!(told(&mut join, &of(0), AMI, at(0)), is_forgotten, "{packets}");
        }
    }
}

//! Hears attempts: says which address made one, according to the packets that were seen, drops those that were
//! already reported, and passes to the jails those that count.

use std::net::IpAddr;
use std::time::Duration;

use super::Controller;
use super::uncounted::{Because, Uncounted, UncountedFailures};
use crate::challenge::{self, Challenges, Reporter};
use crate::clock::KernelTime;
use crate::config::{JailSettings, Scope};
use crate::datapath::Datapath;
use crate::failure::{Attempt, Class, Transport, Verdict};
use crate::join::{Join, Report};
use crate::register::{self, ASTERISK_JAIL};

/// How long an address must have given right passwords before calls to numbers that do not exist no longer lead to
/// a ban: whoever has stolen one tries prefixes at once.
const ESTABLISHED: Duration = Duration::from_hours(1);

/// The most unanswered challenges that are judged in one turn.
const UNANSWERED_AT_ONCE: usize = 64;

/// The recent attempts, and those that did not count.
#[derive(Default)]
pub(super) struct Attempts {
    join: Join,
    challenges: Challenges,
    uncounted: UncountedFailures,
    spared: u64,
}

impl Attempts {
    /// Hears an attempt again after a restart, so that it is not counted when another source reports it.
    pub(super) fn recall(&mut self, attempt: &Attempt, source: usize, now: KernelTime) {
        self.join.is_first(attempt, attempt.address, source, now);
    }

    /// Sets how long a client may take to answer a challenge, by the settings of Asterisk's jail.
    pub(super) fn set_patience(&mut self, jail: Option<&JailSettings>) {
        let throttles = jail.is_some_and(|j| j.unproven_closes() == Some(Scope::Throttle));
        let patience =
            if throttles { challenge::PATIENCE_OF_THROTTLE } else { challenge::PATIENCE };
        self.challenges.set_patience(patience);
    }

    /// When the next challenge counts as unanswered.
    pub(super) fn next_timeout(&self) -> Option<KernelTime> {
        self.challenges.next_timeout()
    }

    /// The failures of an address that did not count.
    pub(super) fn uncounted(&self, address: IpAddr) -> Option<Uncounted> {
        self.uncounted.of(address)
    }

    /// How many failures were spared.
    pub(super) fn spared(&self) -> u64 {
        self.spared
    }
}

impl<D: Datapath> Controller<D> {
    /// Takes an attempt that a source read, for the jail with this name.
    pub fn observe(&mut self, attempt: &Attempt, source: usize, jail: &str, now: KernelTime) {
        if attempt.verdict == Verdict::Success
            && register::of_jail(jail).is_some_and(|row| row.is_login)
        {
            self.enforcement.logged_in();
        }
        let witness = self.witness(attempt, now);
        let is_seen = self.is_seen(attempt, now);
        let Some(report) = self.sources.get_mut(source) else { return };
        match is_seen {
            Some(true) => report.unseen = 0,
            Some(false) => report.unseen = report.unseen.saturating_add(1),
            None => {}
        }
        report.last_event = Some(now);
        let name = report.name;
        if attempt.verdict == Verdict::Failure {
            report.failures = report.failures.saturating_add(1);
            self.meters.failed(name, attempt.class, attempt.proven);
        }
        let Some(address) = witness else {
            if self.protected.reason(attempt.address.into()).is_none() {
                self.attempts.uncounted.note(attempt.address, Because::Unwitnessed, now);
                report.unwitnessed = report.unwitnessed.saturating_add(1);
                self.meters.unwitnessed();
            }
            return;
        };
        let Some(place) = self.jails.place(jail) else { return };
        if let Some(is) = self.protected.reason(address.into()) {
            // A failure that two sources report counts once.
            if attempt.verdict == Verdict::Failure
                && self.attempts.join.is_first(attempt, address, source, now)
            {
                self.failed_though((address, is), place, now);
            }
            return;
        }
        if attempt.answered {
            if !self.is_known(address, now) {
                // Over TLS the filter cannot let the answers of a site pass over the limit that its phones share.
                let source = self.source_of(address, now);
                self.attempts.challenges.forgive(source);
            }
            self.know(address, now);
        }
        if attempt.verdict == Verdict::Success && (attempt.answered || attempt.proven) {
            self.note_login(address);
        }
        let connected = self.is_connected(attempt, address, jail)
            // A text that names all ports of a phone in turn names that of its connection too.
            && !(attempt.needs_witness && self.is_known(address, now));
        let proven = connected.then(|| Attempt { proven: true, ..attempt.clone() });
        let attempt = proven.as_ref().unwrap_or(attempt);
        // This precedes the join, because another source may prove the failure.
        if misdials(attempt) {
            if self.is_established(address, now) {
                self.failed_though((address, "an established peer"), place, now);
                return;
            }
        } else if self.spare(attempt, address, now) {
            self.report_spared(attempt, address, Reporter { source, jail: place }, now);
            return;
        }
        if self.ignores(attempt, place) {
            self.attempts.uncounted.note(address, Because::Unproven, now);
            return;
        }
        // Drop what another source has already reported, or this one in another class.
        let joins = attempt.verdict == Verdict::Failure || attempt.class == Class::Acl;
        let mut is_proof = false;
        if joins {
            match self.attempts.join.report(attempt, address, source, now) {
                Report::First => {}
                // Its entry is not the last one, which alone can be set aside.
                Report::FirstProof => is_proof = true,
                other @ (Report::Another | Report::Proof) => {
                    if attempt.verdict == Verdict::Failure {
                        let is_proof = other == Report::Proof;
                        self.corroborate(address, attempt, is_proof, place, now);
                    }
                    return;
                }
                Report::Repeated => {
                    let reporter = Reporter { source, jail: place };
                    self.attempts.challenges.observe(attempt, reporter, now);
                    return;
                }
                Report::AnotherOfUncounted => return,
            }
        }
        let of_a_rival =
            (attempt.address != address).then(|| Attempt { address, ..attempt.clone() });
        let attempt = of_a_rival.as_ref().unwrap_or(attempt);
        self.note_failure(attempt, now);
        let reporter = Reporter { source, jail: place };
        let failed = self.attempts.challenges.observe(attempt, reporter, now);
        if !self.judge(attempt, name, place, now) && joins && !is_proof {
            self.attempts.join.set_aside(attempt, address);
        }
        if let Some(class) = failed.filter(|_class| attempt.proven) {
            let failure = Attempt { verdict: Verdict::Failure, class, ..attempt.clone() };
            self.prove(&failure, reporter, name, now);
        }
    }

    /// Proves a failure that was reported before its challenge, which went to a TCP connection.
    fn prove(&mut self, failure: &Attempt, by: Reporter, name: &'static str, now: KernelTime) {
        let Reporter { source, jail } = by;
        let address = failure.address;
        if self.spare(failure, address, now) {
            return;
        }
        match self.attempts.join.report(failure, address, source, now) {
            Report::Proof => self.corroborate(address, failure, true, jail, now),
            Report::FirstProof => {
                self.note_failure(failure, now);
                self.judge(failure, name, jail, now);
            }
            Report::First | Report::Another | Report::Repeated | Report::AnotherOfUncounted => {}
        }
    }

    /// Whether a failure in Asterisk's log is that of a TCP connection: one which the host has, or one to which a challenge
    /// of the same Call-ID was sent. The log does not name the transport, but the source port.
    fn is_connected(&self, attempt: &Attempt, address: IpAddr, jail: &str) -> bool {
        let may_be = attempt.verdict == Verdict::Failure
            && !attempt.proven
            && attempt.decided
            && attempt.transport != Some(Transport::Udp)
            && attempt.address == address
            && jail == ASTERISK_JAIL;
        let has_connection = |port| self.datapath.has_connection(address, port);
        let was_challenged = |session: &str| self.attempts.challenges.is_proven(address, session);
        may_be
            && (attempt.port.is_some_and(has_connection)
                || attempt.session.as_deref().is_some_and(was_challenged))
    }

    /// Whether an address has given right passwords for so long that it is no newcomer with a stolen one.
    fn is_established(&self, address: IpAddr, now: KernelTime) -> bool {
        let since = self.datapath.exchange(address).and_then(|exchange| exchange.established_at);
        since.is_some_and(|since| now.since(since) >= ESTABLISHED)
    }

    /// Whether a failure is spared because it was sent over UDP by, or in the name of, a registered phone.
    fn spare(&mut self, attempt: &Attempt, address: IpAddr, now: KernelTime) -> bool {
        // Several phones may be behind the address. One with an old password must not shut out the others, and
        // over UDP the filter proves its failures too.
        let by_phone = !attempt.proven || attempt.transport == Some(Transport::Udp);
        let spared = attempt.verdict == Verdict::Failure && by_phone && self.is_known(address, now);
        if spared {
            self.attempts.spared = self.attempts.spared.saturating_add(1);
            self.attempts.uncounted.note(address, Because::Known, now);
        }
        spared
    }

    /// Reports a spared failure, once of all its reports. One over TCP that is proven later counts all the same.
    fn report_spared(&mut self, attempt: &Attempt, address: IpAddr, by: Reporter, now: KernelTime) {
        let Reporter { source, jail } = by;
        if self.attempts.join.is_first(attempt, address, source, now) {
            self.attempts.join.set_aside(attempt, address);
            // Those over TCP have led to a ban by then.
            self.failed_often_though((address, "a known peer"), 2, jail, now);
        }
    }

    /// Whether a jail does not count a failure because its source may be forged.
    fn ignores(&self, attempt: &Attempt, place: usize) -> bool {
        attempt.verdict == Verdict::Failure
            && !attempt.proven
            && self.jails.get(place).is_some_and(|j| j.settings().unproven_closes().is_none())
    }

    /// Judges a few of the challenges that were not answered in time.
    pub(super) fn judge_unanswered(&mut self, now: KernelTime) {
        for _ in 0..UNANSWERED_AT_ONCE {
            let unanswered = self.attempts.challenges.unanswered(now);
            let Some((attempt, Reporter { source, jail }, since)) = unanswered else { return };
            // Over the wire, the answer itself is seen, and not only its result.
            let exchange = self.datapath.exchange(attempt.address);
            if exchange.and_then(|exchange| exchange.proven_at).is_some_and(|at| at >= since) {
                continue;
            }
            let Some(report) = self.sources.get_mut(source) else { continue };
            report.failures = report.failures.saturating_add(1);
            let name = report.name;
            self.meters.failed(name, attempt.class, attempt.proven);
            if !self.spare(&attempt, attempt.address, now) && !self.ignores(&attempt, jail) {
                self.note_failure(&attempt, now);
                self.judge(&attempt, name, jail, now);
            }
        }
    }

    /// Whether the filter has seen a packet for an attempt; `None` if it need not have.
    fn is_seen(&self, attempt: &Attempt, now: KernelTime) -> Option<bool> {
        // Over UDP the attempt concerns SIP; over TCP it may concern AMI itself, or sshd.
        let is_sip = attempt.needs_witness || attempt.transport == Some(Transport::Udp);
        let is_own = self.protected.reason(attempt.address.into()).is_some();
        if attempt.verdict != Verdict::Failure || !is_sip || is_own {
            return None;
        }
        let mut named = std::iter::once(&attempt.address).chain(&attempt.rivals);
        if named.any(|address| self.datapath.seen(*address, now)) {
            return Some(true);
        }
        // If the line is read long after it was written, the packets have been forgotten.
        (!self.is_old(attempt, now)).then_some(false)
    }

    /// The address that made an attempt, according to the packets that were seen.
    ///
    /// An attacker's text can make up an address in a log line, and whole lines, but not a packet: without a
    /// recent packet from an address, it made no attempt. An attempt that no such text can make up needs no
    /// witness.
    fn witness(&self, attempt: &Attempt, now: KernelTime) -> Option<IpAddr> {
        if !attempt.needs_witness || attempt.verdict != Verdict::Failure {
            return attempt.decided.then_some(attempt.address);
        }
        let named = std::iter::once(&attempt.address).chain(&attempt.rivals);
        let mut seen = named.copied().filter(|address| self.datapath.seen(*address, now));
        let first = seen.next()?;
        if seen.next().is_none() {
            return Some(first);
        }
        (attempt.decided && first == attempt.address).then_some(first)
    }
}

/// Whether somebody with a right password has called numbers that do not exist. Over UDP too, nobody can do that in the
/// name of a phone.
fn misdials(attempt: &Attempt) -> bool {
    attempt.verdict == Verdict::Failure && attempt.class == Class::CallRejected && attempt.proven
}

//! The results, and whether they fulfil the promises.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::view::{Snapshot, State};
use crate::attack::Method;
use crate::phone::PhoneReport;
use crate::ringfence::{Reason, Status};
use crate::screen::Paint;
use crate::tap::Seen;

/// The filter's settings on which checks depend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) maxretry: u64,
    pub(super) rate: u32,
    pub(super) burst: u32,
}

/// The figures of one attacker.
#[derive(Clone, Debug)]
pub(super) struct AttackerResult {
    pub(super) name: &'static str,
    pub(super) tool: &'static str,
    pub(super) method: Method,
    pub(super) address: IpAddr,
    pub(super) rate: u32,
    /// Its packets at the switch, before the filter.
    pub(super) sent: Seen,
    /// Its packets in the PBX, after the filter.
    pub(super) arrived: Seen,
    /// Its failures in Asterisk's NOTICE file.
    pub(super) notices: u64,
    /// The time from its first REGISTER to the ban.
    pub(super) time_to_ban: Option<Duration>,
    pub(super) state: State,
    /// Whether its tool is still running.
    pub(super) active: bool,
    /// The output of its tool on standard error.
    pub(super) said: String,
}

/// The result of a run. `--json` writes its JSON form.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Whether every check passed.
    pub ok: bool,
    /// Whether there was a filter. Without one, nothing is checked.
    pub filter: bool,
    /// How the program was attached: `native` or `generic`.
    pub mode: Option<String>,
    /// How long the demonstration took.
    #[serde(serialize_with = "tenths")]
    pub seconds: f64,
    /// Guesses of the fastest guesser that Asterisk answered.
    pub guesses_answered: u64,
    /// The rate of its guesses, per second.
    pub guess_rate: u32,
    /// The time from its first packet to its ban.
    pub time_to_ban_ms: Option<u64>,
    /// The results of the phone.
    pub phone: PhoneReport,
    /// The filter's packets by reason.
    pub reasons: BTreeMap<String, Reason>,
    /// Packets that the filter saw.
    pub received: u64,
    /// Packets that passed.
    pub passed: u64,
    /// Packets that were dropped.
    pub dropped: u64,
    /// The attackers.
    pub attackers: Vec<AttackerReport>,
    /// The checks.
    pub checks: Vec<Check>,
}

/// One attacker in the report.
#[derive(Clone, Debug, Serialize)]
pub struct AttackerReport {
    /// Its name in the table.
    pub name: &'static str,
    /// Its program.
    pub tool: &'static str,
    /// Its address.
    pub address: IpAddr,
    /// Its rate of calls per second; 0 means as fast as it is answered.
    pub rate: u32,
    /// REGISTERs that it sent.
    pub sent: u64,
    /// REGISTERs with credentials among them.
    pub sent_with_credentials: u64,
    /// REGISTERs that reached Asterisk.
    pub reached: u64,
    /// REGISTERs with credentials among them.
    pub guesses_reached: u64,
    /// REGISTERs with credentials that Asterisk answered.
    pub guesses_answered: u64,
    /// Failures that Asterisk reported.
    pub notices: u64,
    /// Whether it was banned.
    pub banned: bool,
    /// The time from its first packet to its ban.
    pub time_to_ban_ms: Option<u64>,
    /// The time from its first packet to its last.
    #[serde(serialize_with = "tenths")]
    pub seconds: f64,
}

/// A check of one promise.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Its subject: `phone`, `ban`, `flood` or `counters`, or `attack` or `tap` if the lab itself did not
    /// work.
    pub name: &'static str,
    /// Whether it passed.
    pub ok: bool,
    /// The figures.
    pub says: String,
}

impl Report {
    pub(super) fn new(snapshot: &Snapshot, limits: &Limits, seconds: f64, lost: u64) -> Self {
        let status = snapshot.filter.as_ref().map(|filter| &filter.status);
        let sum = |of: fn(&crate::ringfence::Interface) -> u64| {
            status.map_or(0, |status| status.interfaces.iter().map(of).sum())
        };
        let guessers =
            snapshot.attackers.iter().filter(|attacker| attacker.method == Method::Guess);
        let fastest = guessers.max_by_key(|attacker| attacker.rate);
        let checks = status.map_or(Vec::new(), |status| checks(snapshot, status, limits, lost));
        Self {
            ok: checks.iter().all(|check| check.ok),
            filter: status.is_some(),
            mode: status.and_then(|status| Some(status.interfaces.first()?.mode.clone())),
            seconds,
            guesses_answered: fastest.map_or(0, |guesser| guesser.arrived.guesses_answered),
            guess_rate: fastest.map_or(0, |guesser| guesser.rate),
            time_to_ban_ms: fastest.and_then(|guesser| guesser.time_to_ban).map(millis),
            phone: snapshot.phone.clone(),
            reasons: status.map_or(BTreeMap::new(), |status| status.reasons.clone()),
            received: sum(|interface| interface.received),
            passed: sum(|interface| interface.passed),
            dropped: sum(|interface| interface.dropped),
            attackers: snapshot.attackers.iter().map(AttackerReport::from).collect(),
            checks,
        }
    }

    /// Whether every check passed.
    pub fn passed(&self) -> bool {
        self.ok
    }

    /// The report as text.
    pub fn text(&self, paint: Paint) -> String {
        let mut lines = vec![String::new()];
        if self.filter {
            lines.push(paint.bold("What ringfence promises, and what happened"));
            for check in &self.checks {
                let mark = if check.ok { paint.good("held  ") } else { paint.bad("FAILED") };
                lines.push(format!("  {mark}  {:<9} {}", check.name, check.says));
            }
        } else {
            lines.push(paint.bold("Without a filter nothing is promised. What Asterisk had to do"));
            for attacker in &self.attackers {
                lines.push(format!(
                    "  {} from {}: {} REGISTERs, {} guesses answered, {} failures in the log",
                    attacker.name,
                    attacker.address,
                    attacker.reached,
                    attacker.guesses_answered,
                    attacker.notices
                ));
            }
        }
        lines.join("\n")
    }
}

impl From<&AttackerResult> for AttackerReport {
    fn from(attacker: &AttackerResult) -> Self {
        Self {
            name: attacker.name,
            tool: attacker.tool,
            address: attacker.address,
            rate: attacker.rate,
            sent: attacker.sent.registers(),
            sent_with_credentials: attacker.sent.with_credentials,
            reached: attacker.arrived.registers(),
            guesses_reached: attacker.arrived.with_credentials,
            guesses_answered: attacker.arrived.guesses_answered,
            notices: attacker.notices,
            banned: attacker.state == State::Banned,
            time_to_ban_ms: attacker.time_to_ban.map(millis),
            seconds: attacker.sent.seconds(),
        }
    }
}

fn checks(snapshot: &Snapshot, status: &Status, limits: &Limits, lost: u64) -> Vec<Check> {
    let mut checks = vec![phone_check(&snapshot.phone)];
    for attacker in &snapshot.attackers {
        if attacker.sent.registers() == 0 {
            checks.push(Check {
                name: "attack",
                ok: false,
                says: format!("{} sent nothing; it said: {}", attacker.name, attacker.said.trim()),
            });
        } else if attacker.method == Method::Flood {
            checks.push(flood_check(attacker, limits));
        } else {
            checks.push(ban_check(attacker, limits));
        }
    }
    checks.push(counters_check(status));
    if lost > 0 {
        checks.push(Check {
            name: "tap",
            ok: false,
            says: format!("{lost} packets passed unseen, so the figures above are too low"),
        });
    }
    checks
}

fn phone_check(phone: &PhoneReport) -> Check {
    let PhoneReport { attempts, failures, .. } = phone;
    let why = phone.last_failure.as_ref().map_or(String::new(), |why| format!(" (last: {why})"));
    Check {
        name: "phone",
        ok: *attempts > 0 && *failures == 0,
        says: format!("{attempts} registrations, {failures} failed{why}"),
    }
}

fn ban_check(attacker: &AttackerResult, limits: &Limits) -> Check {
    let AttackerResult { name, address, notices, .. } = attacker;
    let reported = *notices >= limits.maxretry;
    let banned = attacker.state == State::Banned;
    let outcome = match (banned, attacker.time_to_ban) {
        (true, Some(time)) => format!("banned after {} ms", millis(time)),
        (true, None) => "banned".to_owned(),
        (false, _) => "not banned".to_owned(),
    };
    let guesses = match attacker.arrived.guesses_answered {
        0 => String::new(),
        answered => format!(", {answered} guesses answered"),
    };
    // Asterisk may not report a scanner, but always reports a wrong password; otherwise the lab is
    // broken.
    let ok = banned || (!reported && attacker.method == Method::Scan);
    Check {
        name: "ban",
        ok,
        says: format!("{name} {address}: {notices} failures in the log, {outcome}{guesses}"),
    }
}

fn flood_check(attacker: &AttackerResult, limits: &Limits) -> Check {
    let seconds = attacker.sent.seconds();
    let allowed = f64::from(limits.burst) + f64::from(limits.rate) * seconds + 1.0;
    let (sent, reached) = (attacker.sent.registers(), attacker.arrived.registers());
    Check {
        name: "flood",
        ok: u32::try_from(reached).is_ok_and(|reached| f64::from(reached) <= allowed),
        says: format!(
            "{} {}: {reached} of {sent} reached Asterisk in {seconds:.1} s, {allowed:.0} allowed",
            attacker.name, attacker.address
        ),
    }
}

fn counters_check(status: &Status) -> Check {
    let sum = |verdict: &str| -> u64 {
        let reasons = status.reasons.values();
        reasons.filter(|reason| reason.verdict == verdict).map(|reason| reason.packets).sum()
    };
    let (mut received, mut passed, mut dropped) = (0, 0, 0);
    for interface in &status.interfaces {
        received += interface.received;
        passed += interface.passed;
        dropped += interface.dropped;
    }
    let (pass, drop) = (sum("pass"), sum("drop"));
    Check {
        name: "counters",
        ok: received > 0 && received == passed + dropped && passed == pass && dropped == drop,
        says: format!(
            "received {received} = passed {passed} + dropped {dropped}; \
             by reason {pass} passed, {drop} dropped"
        ),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the signature that serde asks for")]
fn tenths<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_f64((seconds * 10.0).round() / 10.0)
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::lab::filter::FilterView;
    use crate::ringfence::Interface;

    const LIMITS: Limits = Limits { maxretry: 15, rate: 10, burst: 50 };

    fn seen(without: u64, with: u64, answered: u64, seconds: u64) -> Seen {
        let first = SystemTime::UNIX_EPOCH;
        Seen {
            without_credentials: without,
            with_credentials: with,
            guesses_answered: answered,
            first: Some(first),
            last: Some(first + Duration::from_secs(seconds)),
            ..Seen::default()
        }
    }

    fn attacker(method: Method, sent: Seen, arrived: Seen, notices: u64) -> AttackerResult {
        AttackerResult {
            name: "someone",
            tool: method.tool(),
            method,
            address: "192.0.2.66".parse().unwrap(),
            rate: 500,
            sent,
            arrived,
            notices,
            time_to_ban: None,
            state: State::Ended,
            active: false,
            said: String::new(),
        }
    }

    /// A run in which everything went well.
    pub(in crate::lab) fn snapshot() -> Snapshot {
        let guesser = attacker(Method::Guess, seen(900, 20, 0, 9), seen(50, 18, 17, 1), 17);
        let time_to_ban = Some(Duration::from_millis(412));
        let flooder = attacker(Method::Flood, seen(30_000, 0, 0, 6), seen(110, 0, 0, 6), 0);
        let reason = |verdict: &str, packets| Reason {
            verdict: verdict.to_owned(),
            packets,
            bytes: packets * 400,
        };
        let status = Status {
            enforcing: true,
            interfaces: vec![Interface {
                name: "eth0".to_owned(),
                mode: "native".to_owned(),
                received: 31_000,
                passed: 500,
                dropped: 30_500,
            }],
            reasons: BTreeMap::from([
                ("banned".to_owned(), reason("drop", 610)),
                ("register-limit".to_owned(), reason("drop", 29_890)),
                ("sip".to_owned(), reason("pass", 500)),
            ]),
            sources: Vec::new(),
        };
        Snapshot {
            elapsed: Duration::from_secs(75),
            number: 5,
            title: "all of them together",
            phone_address: "192.0.2.20".parse().unwrap(),
            phone: PhoneReport {
                attempts: 120,
                p50_ms: Some(1.3),
                p99_ms: Some(12.0),
                ..PhoneReport::default()
            },
            attackers: vec![
                AttackerResult { state: State::Banned, time_to_ban, ..guesser },
                AttackerResult { state: State::Limited, active: true, ..flooder },
            ],
            filter: Some(FilterView { status, trouble: None }),
        }
    }

    fn failed(snapshot: &Snapshot, unseen: u64) -> Vec<&'static str> {
        let report = Report::new(snapshot, &LIMITS, 50.0, unseen);
        let failed: Vec<_> =
            report.checks.iter().filter(|check| !check.ok).map(|check| check.name).collect();
        assert_eq!(report.passed(), failed.is_empty());
        failed
    }

    #[test]
    fn a_good_run_passes() {
        assert_eq!(failed(&snapshot(), 0), [""; 0]);
    }

    #[test]
    fn a_phone_that_fails_or_never_tries_fails_the_run() {
        let mut run = snapshot();
        run.phone.failures = 1;
        assert_eq!(failed(&run, 0), ["phone"]);
        run.phone = PhoneReport::default();
        assert_eq!(failed(&run, 0), ["phone"]);
    }

    #[test]
    fn a_reported_attacker_without_a_ban_fails_the_run() {
        let mut run = snapshot();
        run.attackers[0].state = State::Limited;
        assert_eq!(failed(&run, 0), ["ban"]);
        // If Asterisk does not report a guesser, the lab itself is broken.
        run.attackers[0].notices = 14;
        assert_eq!(failed(&run, 0), ["ban"]);
        // It need not report a scanner.
        run.attackers[0].method = Method::Scan;
        assert_eq!(failed(&run, 0), [""; 0]);
    }

    #[test]
    fn a_flood_that_gets_through_fails_the_run() {
        let mut run = snapshot();
        run.attackers[1].arrived.without_credentials = 111;
        assert_eq!(failed(&run, 0), [""; 0]);
        run.attackers[1].arrived.without_credentials = 112;
        assert_eq!(failed(&run, 0), ["flood"]);
    }

    #[test]
    fn an_attacker_that_did_nothing_fails_the_run() {
        let mut run = snapshot();
        run.attackers[1].sent = Seen::default();
        run.attackers[1].said = "no such option".to_owned();
        assert_eq!(failed(&run, 0), ["attack"]);
    }

    #[test]
    fn counters_that_do_not_add_up_fail_the_run() {
        let mut run = snapshot();
        run.filter.as_mut().unwrap().status.interfaces[0].received += 1;
        assert_eq!(failed(&run, 0), ["counters"]);
    }

    #[test]
    fn a_tap_that_missed_something_fails_the_run() {
        assert_eq!(failed(&snapshot(), 1), ["tap"]);
    }

    #[test]
    fn without_a_filter_nothing_is_checked() {
        let mut run = snapshot();
        run.filter = None;
        run.phone.failures = 9;
        assert_eq!(failed(&run, 0), [""; 0]);
    }

    #[test]
    fn json_has_what_others_read() {
        let report = Report::new(&snapshot(), &LIMITS, 50.0, 0);
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["guesses_answered"], 17);
        assert_eq!(json["guess_rate"], 500);
        assert_eq!(json["time_to_ban_ms"], 412);
        assert_eq!(json["phone"]["attempts"], 120);
        assert_eq!(json["phone"]["failures"], 0);
        assert_eq!(json["phone"]["p99_ms"], 12.0);
        assert_eq!(json["reasons"]["banned"]["packets"], 610);
        assert_eq!(json["received"], 31_000);
        assert_eq!(json["passed"], 500);
        assert_eq!(json["dropped"], 30_500);
        assert_eq!(json["attackers"][1]["reached"], 110);
    }
}

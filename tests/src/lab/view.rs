//! The table that is redrawn while the lab runs, and the line that takes its place in a log.

use std::net::IpAddr;
use std::time::Duration;

use super::filter::FilterView;
use super::plan::{PHASES, Phase};
use super::report::AttackerResult;
use crate::phone::PhoneReport;
use crate::screen::Paint;

/// Reasons shown below the counters, most frequent first.
const REASONS_SHOWN: usize = 4;

/// All that is shown, at one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) elapsed: Duration,
    pub(super) number: usize,
    pub(super) title: &'static str,
    pub(super) phone_address: IpAddr,
    pub(super) phone: PhoneReport,
    pub(super) attackers: Vec<AttackerResult>,
    pub(super) filter: Option<FilterView>,
}

/// How an attacker stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Most of what it sends reaches Asterisk.
    Attacking,
    /// Less than half does, without a ban.
    Limited,
    /// It is banned.
    Banned,
    /// It has ended.
    Ended,
}

/// What is said when a phase begins.
pub(super) fn heading(number: usize, phase: &Phase, paint: Paint) -> String {
    let title = paint.bold(&format!("{}/{} {}", number + 1, PHASES.len(), phase.title));
    format!("{title}\n{}\n", phase.says)
}

/// The table.
pub(super) fn table(snapshot: &Snapshot, paint: Paint) -> Vec<String> {
    let mut lines = vec![
        paint.dim(&"─".repeat(88)),
        format!(
            " {}  {}",
            clock(snapshot.elapsed),
            paint.bold(&format!(
                "{}/{} {}",
                snapshot.number + 1,
                PHASES.len(),
                snapshot.title
            ))
        ),
        String::new(),
        phone(snapshot, paint),
        String::new(),
    ];
    if !snapshot.attackers.is_empty() {
        lines.push(paint.dim(&format!(
            " {:<20} {:<11} {:>8} {:>16} {:>17}  {}",
            "attacker", "address", "sent", "reached Asterisk", "guesses answered", "state"
        )));
        lines.extend(
            snapshot
                .attackers
                .iter()
                .map(|attacker| row(attacker, paint)),
        );
        lines.push(String::new());
    }
    lines.extend(filter(snapshot.filter.as_ref(), paint));
    lines.push(paint.dim(&"─".repeat(88)));
    lines
}

/// The same in one line.
pub(super) fn line(snapshot: &Snapshot) -> String {
    let PhoneReport {
        attempts,
        failures,
        p99_ms,
        ..
    } = &snapshot.phone;
    let mut parts = vec![format!(
        "{}  phone {attempts} registrations, {failures} failed, p99 {}",
        clock(snapshot.elapsed),
        time(*p99_ms)
    )];
    let active = snapshot
        .attackers
        .iter()
        .filter(|attacker| attacker.state != State::Ended);
    parts.extend(active.map(|attacker| {
        format!(
            "{} sent {} reached {} {}",
            attacker.address,
            attacker.sent.registers(),
            attacker.arrived.registers(),
            state(attacker)
        )
    }));
    parts.join(" | ")
}

fn phone(snapshot: &Snapshot, paint: Paint) -> String {
    let PhoneReport {
        attempts,
        failures,
        p50_ms,
        p99_ms,
        ..
    } = &snapshot.phone;
    let failed = format!("{failures} failed");
    let failed = if *failures == 0 {
        paint.good(&failed)
    } else {
        paint.bad(&failed)
    };
    format!(
        " {:<20} {:<11} {attempts:>8} registrations  {failed}  p50 {}  p99 {}",
        "phone",
        snapshot.phone_address,
        time(*p50_ms),
        time(*p99_ms)
    )
}

fn row(attacker: &AttackerResult, paint: Paint) -> String {
    let said = state(attacker);
    let said = match attacker.state {
        State::Banned | State::Limited => paint.good(&said),
        State::Attacking => paint.busy(&said),
        State::Ended => paint.dim(&said),
    };
    format!(
        " {:<20} {:<11} {:>8} {:>16} {:>17}  {said}",
        attacker.name,
        attacker.address,
        thousands(attacker.sent.registers()),
        thousands(attacker.arrived.registers()),
        thousands(attacker.arrived.guesses_answered),
    )
}

fn state(attacker: &AttackerResult) -> String {
    match (attacker.state, attacker.time_to_ban) {
        (State::Banned, Some(time)) => format!("banned after {} ms", thousands_ms(time)),
        (State::Banned, None) => "banned".to_owned(),
        (State::Limited, _) => "held to the limit".to_owned(),
        (State::Attacking, _) => "attacking".to_owned(),
        (State::Ended, _) => "ended".to_owned(),
    }
}

fn filter(filter: Option<&FilterView>, paint: Paint) -> Vec<String> {
    let Some(filter) = filter else {
        return vec![format!(" {:<20} {}", "filter", paint.bad("none"))];
    };
    if let Some(trouble) = &filter.trouble {
        return vec![format!(" {:<20} {}", "filter", paint.bad(trouble))];
    }
    let mut lines: Vec<_> = filter
        .status
        .interfaces
        .iter()
        .map(|interface| {
            format!(
                " {:<20} {:<11} {:>8} received  {} passed  {} dropped",
                "filter",
                interface.mode,
                thousands(interface.received),
                thousands(interface.passed),
                paint.bold(&thousands(interface.dropped)),
            )
        })
        .collect();
    let mut reasons: Vec<_> = filter
        .status
        .reasons
        .iter()
        .filter(|(_, r)| r.packets > 0)
        .collect();
    reasons.sort_by_key(|(_name, reason)| std::cmp::Reverse(reason.packets));
    for (name, reason) in reasons.into_iter().take(REASONS_SHOWN) {
        let packets = thousands(reason.packets);
        lines.push(format!(
            " {:<20} {:<11} {packets:>8} {name}",
            "", reason.verdict
        ));
    }
    lines
}

fn clock(elapsed: Duration) -> String {
    format!(
        "{:02}:{:02}",
        elapsed.as_secs() / 60,
        elapsed.as_secs() % 60
    )
}

fn time(ms: Option<f64>) -> String {
    ms.map_or("-".to_owned(), |ms| format!("{ms:.1} ms"))
}

fn thousands_ms(duration: Duration) -> String {
    thousands(u64::try_from(duration.as_millis()).unwrap_or(u64::MAX))
}

/// `12345` as `12,345`.
fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

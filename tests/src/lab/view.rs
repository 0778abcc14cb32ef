//! The table that is redrawn while the lab runs, and the line that replaces it in a log.

use std::net::IpAddr;
use std::time::Duration;

use super::filter::FilterView;
use super::plan::{PHASES, Phase};
use super::report::AttackerResult;
use crate::phone::PhoneReport;
use crate::screen::Paint;

/// The number of reasons below the counters, most frequent first.
const REASONS_SHOWN: usize = 4;

/// The values to show, at one moment.
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

/// The state of an attacker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    /// Most of its packets reach Asterisk.
    Attacking,
    /// Less than half of them do, without a ban.
    Limited,
    /// It is banned.
    Banned,
    /// It has ended.
    Ended,
}

/// The heading of a phase. Without a filter it is only the name, because the explanation is about the
/// filter.
pub(super) fn heading(number: usize, phase: &Phase, filter: bool, paint: Paint) -> String {
    let title = paint.bold(&format!("{}/{} {}", number + 1, PHASES.len(), phase.title));
    if filter { format!("{title}\n{}\n", phase.says) } else { title }
}

/// The table.
pub(super) fn table(snapshot: &Snapshot, paint: Paint) -> Vec<String> {
    let mut lines = vec![
        paint.dim(&"─".repeat(88)),
        format!(
            " {}  {}",
            clock(snapshot.elapsed),
            paint.bold(&format!("{}/{} {}", snapshot.number + 1, PHASES.len(), snapshot.title))
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
        lines.extend(snapshot.attackers.iter().map(|attacker| row(attacker, paint)));
        lines.push(String::new());
    }
    lines.extend(filter(snapshot.filter.as_ref(), paint));
    lines.push(paint.dim(&"─".repeat(88)));
    lines
}

/// The same in one line.
pub(super) fn line(snapshot: &Snapshot) -> String {
    let PhoneReport { attempts, failures, p99_ms, .. } = &snapshot.phone;
    let mut parts = vec![format!(
        "{}  phone {attempts} registrations, {failures} failed, p99 {}",
        clock(snapshot.elapsed),
        time(*p99_ms)
    )];
    let active = snapshot.attackers.iter().filter(|attacker| attacker.active);
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
    let PhoneReport { attempts, failures, p50_ms, p99_ms, .. } = &snapshot.phone;
    let failed = format!("{failures} failed");
    let failed = if *failures == 0 { paint.good(&failed) } else { paint.bad(&failed) };
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
    let mut reasons: Vec<_> = filter.status.reasons.iter().filter(|(_, r)| r.packets > 0).collect();
    reasons.sort_by_key(|(_name, reason)| std::cmp::Reverse(reason.packets));
    for (name, reason) in reasons.into_iter().take(REASONS_SHOWN) {
        let packets = thousands(reason.packets);
        lines.push(format!(" {:<20} {:<11} {packets:>8} {name}", "", reason.verdict));
    }
    lines
}

fn clock(elapsed: Duration) -> String {
    format!("{:02}:{:02}", elapsed.as_secs() / 60, elapsed.as_secs() % 60)
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

#[cfg(test)]
mod tests {
    use super::super::report::tests::snapshot;
    use super::*;

    #[test]
    fn the_table_shows_everyone() {
        let shown = table(&snapshot(), Paint::PLAIN).join("\n");
        for part in [
            "01:15  6/7 all of them together",
            "phone                192.0.2.20       120 registrations  0 failed  p50 1.3 ms",
            "192.0.2.66       920               68                17  banned after 412 ms",
            "30,000              110                 0  held to the limit",
            "filter               native        31,000 received  500 passed  30,500 dropped",
        ] {
            assert!(shown.contains(part), "{part:?} is not in\n{shown}");
        }
        let (limit, banned) = (shown.find("29,890 register-limit"), shown.find("610 banned"));
        assert!(limit.is_some() && limit < banned, "{shown}");
    }

    #[test]
    fn a_filter_that_does_not_answer_is_seen() {
        let mut run = snapshot();
        run.filter.as_mut().unwrap().trouble = Some("no such socket".to_owned());
        assert!(table(&run, Paint::PLAIN).join("\n").contains("no such socket"));
        run.filter = None;
        assert!(table(&run, Paint::PLAIN).join("\n").contains("none"));
    }

    #[test]
    fn the_line_names_only_who_attacks_now() {
        let line = line(&snapshot());
        assert!(
            line.starts_with("01:15  phone 120 registrations, 0 failed, p99 12.0 ms"),
            "{line}"
        );
        assert!(line.ends_with(" | 192.0.2.66 sent 30000 reached 110 held to the limit"), "{line}");
        assert!(!line.contains("412"), "{line}");
    }

    #[test]
    fn numbers_are_grouped() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
    }
}

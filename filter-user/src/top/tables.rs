//! The tables of each tab, from the daemon's answers.

use std::time::Duration;

use api::{BanKind, BanRow, Source, State, Status, Verdict};
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::attackers::Attacker;
use super::rates::{Rate, Traffic, short};
use super::safe::safe;
use super::view::{Column, Row, Table, Tone, Width, number, text};
use crate::check::{Check, Level};
use crate::prefix::show;
use crate::report::{place, roughly, shown_time};

/// The time on the clock of the host.
#[derive(Clone, Debug)]
pub(super) struct Clock {
    pub(super) wall: Timestamp,
    pub(super) zone: TimeZone,
}

impl Clock {
    /// A time in an answer as local time.
    fn time(&self, time: &str) -> String {
        time.parse().map_or_else(
            |_invalid| safe(time),
            |time| shown_time(time, self.wall, &self.zone, "%H:%M:%S"),
        )
    }

    /// How long it is until a time in an answer.
    fn left(&self, time: Option<&str>) -> String {
        let Some(time) = time else { return "no end".to_owned() };
        let Ok(time) = time.parse::<Timestamp>() else { return safe(time) };
        let left = time.as_second().saturating_sub(self.wall.as_second());
        // By the minute, so that not every line changes every second.
        match u64::try_from(left).unwrap_or(0) {
            0..60 => "<1m".to_owned(),
            left => roughly(left / 60 * 60),
        }
    }
}

const REASONS: &[Column] = &[
    text("REASON", Width::Rest(10), 0),
    text("", Width::Fixed(4), 1),
    number("/S", 5, 0),
    number("PACKETS", 8, 2),
];

/// The reasons with packets, most of them a second first.
pub(super) fn reasons(status: &Status, traffic: &Traffic) -> Table {
    let rate = |name: &String| traffic.reasons.get(name).copied().unwrap_or_default();
    let mut reasons: Vec<_> =
        status.reasons.iter().filter(|(_, reason)| reason.packets > 0).collect();
    // In steps, so that lines do not change places all the time.
    let step = |rate: Rate| u64::BITS - rate.0.leading_zeros();
    reasons.sort_by_key(|(name, reason)| {
        std::cmp::Reverse((step(rate(name)), short(reason.packets).len(), reason.packets / 1000))
    });
    let row = |(name, reason): (&String, &api::ReasonCount)| {
        let (verdict, tone) = match reason.verdict {
            Verdict::Pass => ("pass", Tone::Plain),
            Verdict::Drop => ("drop", Tone::Warning),
        };
        let rate = rate(name);
        let tone = if rate == Rate(0) { Tone::Dim } else { tone };
        let cells = vec![safe(name), verdict.to_owned(), rate.text(), short(reason.packets)];
        Row { key: name.clone(), cells, tone }
    };
    Table {
        columns: REASONS,
        rows: reasons.into_iter().map(row).collect(),
        empty: "no packets yet".to_owned(),
        ..Table::default()
    }
}

const JAILS: &[Column] =
    &[text("JAIL", Width::Rest(10), 0), number("BANNED", 7, 0), number("WATCHED", 7, 1)];

/// The bans by jail.
pub(super) fn jails(status: &Status) -> Table {
    let row = |name: &str, banned: u64, watched: Option<u64>| Row {
        key: name.to_owned(),
        cells: vec![safe(name), short(banned), watched.map_or("-".to_owned(), short)],
        tone: if banned == 0 { Tone::Dim } else { Tone::Plain },
    };
    let mut rows: Vec<Row> =
        status.jails.iter().map(|jail| row(&jail.name, jail.banned, Some(jail.watched))).collect();
    let escalation = status.escalation.banned;
    if status.escalation.enabled {
        rows.push(row("escalation", escalation, None));
    }
    let by_jails = status.jails.iter().fold(escalation, |sum, j| sum.saturating_add(j.banned));
    rows.push(row("manual, flood", status.bans.active.saturating_sub(by_jails), None));
    Table { columns: JAILS, rows, is_beside: true, ..Table::default() }
}

const ATTACKERS: &[Column] = &[
    text("ATTACKER", Width::Content(15), 0),
    text("WHAT", Width::Fixed(16), 2),
    number("/S", 5, 0),
    number("FAILED", 6, 4),
    text("ACCOUNT", Width::Fixed(11), 3),
    text("BAN, OR NEAR TO", Width::Rest(17), 1),
];

/// Attackers, in this order.
pub(super) fn attackers<'a>(all: impl Iterator<Item = &'a Attacker>, clock: &Clock) -> Table {
    let rows = all.map(|attacker| attacker_row(attacker, clock)).collect();
    Table {
        columns: ATTACKERS,
        rows,
        empty: "nobody has attacked within the last minute".to_owned(),
        ..Table::default()
    }
}

fn attacker_row(attacker: &Attacker, clock: &Clock) -> Row {
    let known = attacker.known_as.as_ref();
    let limit = known.and_then(|known| known.limit.as_ref());
    let what = known.and_then(|known| known.class.as_deref());
    let what = what.or(limit.map(|limit| &*limit.reason)).unwrap_or("banned packets");
    let failures = known.map_or(0, |known| known.failures);
    let account = known.and_then(|known| known.account.as_deref()).unwrap_or("-");
    let (state, tone) = if let Some(ban) = &attacker.ban {
        let what = if ban.is_throttle { "throttle" } else { "ban" };
        let left = clock.left(ban.until.as_deref());
        (format!("{what} {left} {}", safe(&ban.jail)), Tone::Good)
    } else if known.is_some_and(|known| known.known) {
        ("known peer".to_owned(), Tone::Plain)
    } else if let Some(near) = known.and_then(|known| known.near.as_ref()) {
        (format!("{} of {} {}", near.points, near.maxretry, safe(&near.jail)), Tone::Warning)
    } else if let Some(limit) = limit {
        let value = limit.value.as_deref().unwrap_or_default();
        let value = value.split(',').next().unwrap_or_default();
        (format!("limit {}", safe(value)), Tone::Warning)
    } else {
        ("-".to_owned(), Tone::Plain)
    };
    let place = known.and_then(|known| place(known.country.as_deref(), known.asn));
    let state = place.map_or(state.clone(), |place| format!("{state}, {}", safe(&place)));
    let rate = attacker.rate().map_or("-".to_owned(), Rate::text);
    Row {
        key: show(attacker.network),
        cells: vec![
            show(attacker.network),
            safe(what),
            rate,
            if failures == 0 { "-".to_owned() } else { short(failures) },
            safe(account),
            state,
        ],
        tone,
    }
}

const ACCOUNTS: &[Column] = &[
    text("ACCOUNT UNDER ATTACK", Width::Rest(20), 0),
    number("FAILURES", 8, 0),
    number("SOURCES", 7, 0),
    text("LAST", Width::Fixed(15), 1),
    text("JAIL", Width::Fixed(16), 2),
];

/// The accounts on which many sources fail; none if there are none.
pub(super) fn accounts(accounts: &[api::ActiveAccount], clock: &Clock) -> Option<Table> {
    let row = |account: &api::ActiveAccount| Row {
        key: account.account.clone(),
        cells: vec![
            safe(&account.account),
            short(account.failures),
            short(account.sources),
            clock.time(&account.last),
            safe(&account.jail),
        ],
        tone: Tone::Warning,
    };
    let rows = accounts.iter().map(row).collect();
    (!accounts.is_empty()).then(|| Table { columns: ACCOUNTS, rows, ..Table::default() })
}

const BANS: &[Column] = &[
    text("NETWORK", Width::Content(15), 0),
    text("JAIL", Width::Fixed(14), 0),
    text("SCOPE", Width::Fixed(8), 3),
    text("LEFT", Width::Fixed(7), 1),
    number("PACKETS", 7, 2),
    text("REASON", Width::Rest(12), 4),
];

/// A page of bans.
pub(super) fn bans(bans: &[BanRow], clock: &Clock) -> Table {
    let row = |ban: &BanRow| {
        let reason = match &ban.except[..] {
            [] => ban.reason.clone(),
            except => format!("except {}: {}", except.join(", "), ban.reason),
        };
        let reason = match place(ban.country.as_deref(), ban.asn) {
            Some(place) => format!("{place}: {reason}"),
            None => reason,
        };
        Row {
            key: ban.network.clone(),
            cells: vec![
                safe(&ban.network),
                safe(&ban.jail),
                safe(&ban.scope),
                clock.left(ban.until.as_deref()),
                short(ban.packets),
                safe(&reason),
            ],
            tone: if ban.kind == BanKind::Throttle { Tone::Dim } else { Tone::Plain },
        }
    };
    Table {
        columns: BANS,
        rows: bans.iter().map(row).collect(),
        empty: "no bans on this page".to_owned(),
        ..Table::default()
    }
}

const SOURCES: &[Column] = &[
    text("SOURCE", Width::Fixed(18), 0),
    text("STATE", Width::Fixed(7), 0),
    number("EVENTS", 7, 1),
    number("FAILURES", 8, 1),
    number("LOST", 6, 3),
    text("LAST", Width::Fixed(8), 2),
    text("PLACE, PROBLEM", Width::Rest(14), 4),
];

fn is_strained(source: &Source) -> bool {
    source.why.is_some() || source.lost > 0
}

/// The sources of failures.
pub(super) fn sources(status: &Status, clock: &Clock) -> Table {
    let row = |source: &Source| {
        let (state, tone) = match source.state {
            State::Ok if is_strained(source) => ("ok", Tone::Warning),
            State::Ok => ("ok", Tone::Good),
            State::Waiting => ("waiting", Tone::Warning),
            State::Failed => ("FAILED", Tone::Bad),
        };
        let place = source.why.as_deref().unwrap_or(&source.place);
        Row {
            key: source.name.clone(),
            cells: vec![
                safe(&source.name),
                state.to_owned(),
                short(source.events),
                short(source.failures),
                short(source.lost),
                source.last_event.as_deref().map_or("-".to_owned(), |last| clock.time(last)),
                safe(place),
            ],
            tone,
        }
    };
    Table {
        columns: SOURCES,
        rows: status.sources.iter().map(row).collect(),
        empty: "no source of failures is configured".to_owned(),
        ..Table::default()
    }
}

/// All about a source, as lines.
pub(super) fn source(status: &Status, name: &str, clock: &Clock) -> Option<Vec<String>> {
    let source = status.sources.iter().find(|source| source.name == name)?;
    let mut lines = vec![
        format!("{}, kind {}, jail {}", safe(name), safe(&source.kind), safe(&source.jail)),
        format!("reads {}", safe(&source.place)),
        format!(
            "{} events, {} failures, {} unwitnessed, {} lost, {} left out",
            source.events, source.failures, source.unwitnessed, source.lost, source.left_out
        ),
    ];
    lines.extend(source.why.as_deref().map(|why| format!("problem: {}", safe(why))));
    let of_it = status.hearing.iter().filter(|heard| heard.source == name);
    for heard in of_it {
        lines.push(format!("problem: {}", safe(&heard.problem)));
        lines.push(format!("remedy: {}", safe(&heard.remedy)));
    }
    if source.unparsed.lines > 0 {
        lines
            .push(format!("{} lines look like failures and match no rule:", source.unparsed.lines));
    }
    lines.extend(source.unparsed.samples.iter().map(|sample| format!("  {}", safe(&sample.line))));
    lines.push("rules:".to_owned());
    lines.extend(source.rules.iter().map(|rule| {
        let last = rule.last.as_deref().map_or_else(String::new, |last| clock.time(last));
        format!("  {} {} {last}", safe(&rule.name), rule.hits).trim_end().to_owned()
    }));
    Some(lines)
}

const INTERFACES: &[Column] = &[
    text("INTERFACE", Width::Content(9), 0),
    text("MODE", Width::Fixed(11), 0),
    text("LEARNS", Width::Fixed(6), 4),
    number("PASS/S", 6, 1),
    number("DROP/S", 6, 1),
    number("PASSED", 7, 2),
    number("DROPPED", 7, 2),
    text("PROBLEM", Width::Rest(10), 3),
];

/// The interfaces.
pub(super) fn interfaces(status: &Status, traffic: &Traffic) -> Table {
    let row = |interface: &api::Interface| {
        let (mode, tone) = match (interface.protected, &interface.fallback) {
            (false, _) => ("UNPROTECTED", Tone::Bad),
            (true, Some(_)) => (&*interface.mode, Tone::Warning),
            (true, None) => (&*interface.mode, Tone::Good),
        };
        let why = [&interface.why, &interface.not_learning, &interface.fallback];
        let why = why.into_iter().flatten().next().map_or("", |why| why);
        let rates = traffic.interfaces.get(&interface.name).copied().unwrap_or_default();
        Row {
            key: interface.name.clone(),
            cells: vec![
                safe(&interface.name),
                safe(mode),
                if interface.learning { "yes" } else { "no" }.to_owned(),
                rates.0.text(),
                rates.1.text(),
                short(interface.passed),
                short(interface.dropped),
                safe(why),
            ],
            tone,
        }
    };
    Table {
        columns: INTERFACES,
        rows: status.interfaces.iter().map(row).collect(),
        empty: "no interface is protected".to_owned(),
        ..Table::default()
    }
}

const FAULTS: &[Column] = &[text("", Width::Fixed(8), 0), text("FAULT", Width::Rest(20), 0)];

/// The faults, the worst first.
pub(super) fn faults(status: &Status) -> Table {
    let row = |problem: crate::check::Problem| {
        let (level, tone) = match problem.level {
            Level::Critical => ("CRITICAL", Tone::Bad),
            Level::Warning => ("warning", Tone::Warning),
            Level::Ok => ("note", Tone::Plain),
        };
        let text = safe(&problem.problem);
        Row { key: text.clone(), cells: vec![level.to_owned(), text], tone }
    };
    let problems = Check::of(&Ok(status.clone())).problems;
    Table {
        columns: FAULTS,
        rows: problems.into_iter().map(row).collect(),
        empty: "no faults; `ringfence doctor` looks closer".to_owned(),
        ..Table::default()
    }
}

/// How long the daemon has been running, by the minute.
pub(super) fn uptime(seconds: u64) -> String {
    match seconds {
        0..60 => "up <1m".to_owned(),
        seconds => format!("up {}", roughly(Duration::from_secs(seconds).as_secs() / 60 * 60)),
    }
}

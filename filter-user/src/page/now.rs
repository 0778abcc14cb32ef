//! The view of what happens now: whether the host is protected, who attacks it and what is dropped.

use api::{ActivePage, ActiveSource, Status, Verdict};
use maud::{Markup, html};

use super::parts::{ago, cell, figure, foreign, number, share, table, tag, text, why};
use crate::check::{Check, Level};
use crate::report::{place, roughly};

/// The reasons that are listed.
const REASONS: usize = 12;

/// The view, with the packets a second that pass and are dropped just now.
pub fn view(status: &Status, active: &ActivePage, rates: (u64, u64)) -> Markup {
    html! {
        (state(status))
        (cards(status, rates))
        h2 { "Attackers now" }
        (attackers(active))
        @if !active.accounts.is_empty() {
            h2 { "Accounts under attack" }
            (accounts(active))
        }
        div.two {
            section { h2 { "Dropped packets" } (reasons(status, Verdict::Drop)) }
            section { h2 { "Passed packets" } (reasons(status, Verdict::Pass)) }
        }
    }
}

/// Whether the host is protected, and what is wrong.
fn state(status: &Status) -> Markup {
    let check = Check::of(&Ok(status.clone()));
    let (class, title) = match check.level {
        Level::Ok => ("ok", "Protected"),
        Level::Warning => ("warning", "Protected, but something needs attention"),
        Level::Critical => ("critical", "Not fully protected"),
    };
    let mark = match check.level {
        Level::Ok => "✓ ",
        Level::Warning | Level::Critical => "⚠ ",
    };
    let interfaces = status.interfaces.iter().map(|one| format!("{} ({})", one.name, one.mode));
    let interfaces: Vec<String> = interfaces.collect();
    html! {
        section class=(format!("state {class}")) {
            h1 { span.level aria-hidden="true" { (mark) } (title) }
            p.dim {
                (interfaces.join(", ")) "; Ringfence " (status.version) ", up " (roughly(status.uptime_seconds))
            }
            @if status.maintenance.on {
                p { "SIP is closed for maintenance"
                    @if let Some(until) = &status.maintenance.until { " until " (super::parts::at(until)) } "." }
            }
            @if !check.problems.is_empty() {
                ul {
                    @for problem in &check.problems {
                        @let level = match problem.level {
                            Level::Critical => "critical",
                            Level::Warning => "warning",
                            Level::Ok => "ok",
                        };
                        li class=(level) { span.level { (level) ": " } (foreign(&problem.problem)) }
                    }
                }
                p.dim { a href="findings" { "Findings" } " says how to solve this." }
            }
        }
    }
}

fn cards(status: &Status, (pass_rate, drop_rate): (u64, u64)) -> Markup {
    let sum = |verdict| {
        let of = status.reasons.values().filter(|reason| reason.verdict == verdict);
        of.fold((0_u64, 0_u64), |sum, one| {
            (sum.0.saturating_add(one.packets), sum.1.saturating_add(one.bytes))
        })
    };
    let ((dropped, dropped_bytes), (passed, passed_bytes)) =
        (sum(Verdict::Drop), sum(Verdict::Pass));
    let failing = status.sources.iter().filter(|source| source.state != api::State::Ok).count();
    html! {
        dl.cards {
            div { dt { "Bans in force" } dd { a href="bans" { (number(status.bans.active)) } }
                dd.dim { "room for " (number(status.bans.capacity)) } }
            div.drop { dt { "Dropped packets" } dd { (number(dropped)) }
                dd.dim { a href="traffic" { (number(drop_rate)) "/s now" } ", " (bytes(dropped_bytes)) " in all" } }
            div.pass { dt { "Passed packets" } dd { (number(passed)) }
                dd.dim { a href="traffic" { (number(pass_rate)) "/s now" } ", " (bytes(passed_bytes)) " in all" } }
            div { dt { "Known peers" } dd { (number(status.peers.known)) }
                dd.dim { (number(status.peers.spared)) " forgeable failures spared" } }
            div { dt { "Sources" } dd { a href="jails#sources" { (status.sources.len()) } }
                dd.dim { @if failing == 0 { "all are read" } @else { (failing) " not read" } } }
        }
    }
}

/// A number of bytes in a unit.
fn bytes(bytes: u64) -> String {
    const UNITS: [(u64, &str); 4] =
        [(1_000_000_000_000, "TB"), (1_000_000_000, "GB"), (1_000_000, "MB"), (1000, "kB")];
    match UNITS.into_iter().find(|(unit, _)| bytes >= *unit) {
        Some((unit, name)) => format!("{}.{} {name}", bytes / unit, bytes % unit * 10 / unit),
        None => format!("{bytes} bytes"),
    }
}

fn attackers(active: &ActivePage) -> Markup {
    let columns = [
        text("Source"),
        text("State"),
        figure("Failures"),
        text("Last"),
        text("Class"),
        text("Account"),
    ];
    let row = |source: &ActiveSource| {
        let class = source.class.as_deref().or(source.limit.as_ref().map(|limit| &*limit.reason));
        vec![
            html! {
                (why(&source.source))
                @if let Some(place) = place(source.country.as_deref(), source.asn) { " " (foreign(&place)) }
            },
            attacker_state(source),
            cell(source.failures),
            ago(&source.last),
            html! { (class.unwrap_or("-")) @if source.proven { " " (tag("plain", "proven")) } },
            source.account.as_deref().map_or_else(|| html! { "-" }, foreign),
        ]
    };
    let rows = active.sources.iter().map(row).collect();
    html! {
        (table("The sources with the latest failures, and those over a limit", &columns, rows, "Nobody at present."))
        @if active.more > 0 { p.dim { (number(active.more)) " more are remembered." } }
    }
}

fn attacker_state(source: &ActiveSource) -> Markup {
    match (&source.ban, &source.near) {
        (Some(ban), _) if ban.scope == "throttle" => {
            html! { (tag("warning", "throttled")) " " (ban.jail) }
        }
        (Some(ban), _) => html! { (tag("critical", "banned")) " " (ban.jail) ", " (ban.scope) },
        (None, Some(near)) => html! {
            (tag("warning", "watched")) " " (near.points) " of " (near.maxretry) " (" (near.jail) ")"
        },
        (None, None) if source.limit.is_some() => tag("warning", "over a limit"),
        (None, None) if source.known => tag("ok", "known peer"),
        (None, None) => html! { "-" },
    }
}

fn accounts(active: &ActivePage) -> Markup {
    let columns =
        [text("Account"), figure("Failures"), figure("Sources"), text("Last"), text("Jail")];
    let rows = active.accounts.iter().map(|one| {
        vec![
            foreign(&one.account),
            cell(one.failures),
            cell(one.sources),
            ago(&one.last),
            html! { (one.jail) },
        ]
    });
    table("Accounts on which many sources fail", &columns, rows.collect(), "None.")
}

/// The packets of a verdict by reason, the most frequent first.
fn reasons(status: &Status, verdict: Verdict) -> Markup {
    let of =
        status.reasons.iter().filter(|(_, count)| count.verdict == verdict && count.packets > 0);
    let mut of: Vec<_> = of.collect();
    of.sort_by_key(|(_, count)| std::cmp::Reverse(count.packets));
    let most = of.first().map_or(0, |(_, count)| count.packets);
    let (kind, caption) = match verdict {
        Verdict::Drop => ("drop", "By the reason why they were dropped"),
        Verdict::Pass => ("pass", "By the reason why they passed"),
    };
    let rows = of.into_iter().take(REASONS).map(|(name, count)| {
        vec![html! { (name) }, cell(count.packets), share(kind, count.packets, most)]
    });
    table(caption, &[text("Reason"), figure("Packets"), text("Share")], rows.collect(), "None.")
}

//! The view of the bans in force, a page at a time.

use api::{BanKind, BanRow, BansPage, BansQuery, Call, NO_REASON, Reply, Request, Status};
use maud::{Markup, html};

use super::parts::{at, cell, error, figure, foreign, number, table, tag, text, why};
use crate::report::{left, place};

/// The view: the bans that a query has found.
pub fn view(status: &Status, query: &BansQuery, page: &BansPage) -> Markup {
    html! {
        (heading(status))
        (form(status, query))
        (list(page))
        @let next = page.next.and_then(|after| link(&BansQuery { after: Some(after), ..query.clone() }));
        @let first = query.after.and_then(|_| link(&BansQuery { after: None, ..query.clone() }));
        @if next.is_some() || first.is_some() {
            nav.pages aria-label="Pages" {
                @if let Some(first) = first { a href=(first) { "First page" } }
                @if let Some(next) = next { a href=(next) rel="next" { "Next page" } }
            }
        }
    }
}

/// The view of a query that is wrong.
pub fn wrong(status: &Status, reply: &Reply) -> Markup {
    html! { (heading(status)) (form(status, &BansQuery::default())) (error(reply)) }
}

fn heading(status: &Status) -> Markup {
    html! {
        h1 { (number(status.bans.active)) @if status.bans.active == 1 { " ban" } @else { " bans" } " in force" }
        @if !status.enforcing { p.says { (tag("warning", "not enforced")) " They drop nothing at present." } }
    }
}

/// The link to a query.
fn link(query: &BansQuery) -> Option<String> {
    let target = Call::of(&Request::Bans(query.clone())).ok()?.target;
    Some(format!("bans{}", target.strip_prefix("/1.0/bans")?))
}

fn form(status: &Status, query: &BansQuery) -> Markup {
    let others = ["manual", "flood", "escalation"];
    let jails = status.jails.iter().map(|jail| &*jail.name).chain(others);
    let inside = query.inside.map(|network| network.to_string());
    html! {
        form action="bans" method="get" role="search" aria-label="Bans" {
            label { "Jail" input name="jail" list="jails" value=[query.jail.as_deref()] autocomplete="off"; }
            datalist id="jails" { @for jail in jails { option value=(jail) {} } }
            label { "Scope" input name="scope" value=[query.scope.as_deref()] placeholder="sip" autocomplete="off"; }
            label { "In the network"
                input name="inside" value=[inside] placeholder="203.0.113.0/24" autocomplete="off"; }
            button { "Show" }
        }
    }
}

fn list(page: &BansPage) -> Markup {
    let columns = [
        text("Address"),
        text("Jail"),
        text("Closes"),
        text("Since"),
        text("Ends in"),
        figure("Packets"),
        text("Reason"),
    ];
    let row = |ban: &BanRow| {
        let closes = match ban.kind {
            BanKind::Ban => html! { (ban.scope) },
            BanKind::Throttle => html! { (ban.scope) " " (tag("plain", "throttle")) },
        };
        let ends = html! {
            @if let Some(until) = &ban.until { time datetime=(until) { (left(until)) } }
            @else { "when it is lifted" }
        };
        let reason = if ban.reason == NO_REASON {
            html! { "-" }
        } else {
            foreign(&ban.reason)
        };
        let address = html! {
            (why(&ban.network))
            @if let Some(place) = place(ban.country.as_deref(), ban.asn) { " " (foreign(&place)) }
        };
        vec![address, html! { (ban.jail) }, closes, at(&ban.since), ends, cell(ban.packets), reason]
    };
    let rows = page.bans.iter().map(row).collect();
    table(
        "Sorted by address; each address leads to its evidence",
        &columns,
        rows,
        "No ban is found here.",
    )
}

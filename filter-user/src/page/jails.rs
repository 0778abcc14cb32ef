//! The view of the jails, the sources of failures and the feeds.

use api::{FeedRow, FeedState, Feeds, JailReport, Jails, Source, State, Status};
use maud::{Markup, html};

use super::parts::{ago, cell, figure, foreign, table, tag, text};

/// The view.
pub fn view(jails: &Jails, status: &Status, feeds: &Feeds) -> Markup {
    html! {
        h1 { "Jails and sources" }
        (of_jails(jails))
        h2 id="sources" { "Sources of failures" }
        (of_sources(status))
        @if !feeds.feeds.is_empty() {
            h2 { "Feeds" }
            (of_feeds(feeds))
        }
    }
}

fn of_jails(jails: &Jails) -> Markup {
    let columns = [
        text("Jail"),
        text("Bans for"),
        text("After"),
        text("Closes"),
        figure("Watched"),
        figure("Banned"),
        figure("Failures"),
        figure("Bans in all"),
    ];
    let row = |jail: &JailReport| {
        vec![
            html! { (jail.name) @if !jail.enabled { " " (tag("plain", "off")) } },
            html! { (jail.bantime) @if jail.increment { ", then longer" } },
            html! { (jail.maxretry) " within " (jail.findtime) },
            html! { (jail.scope) },
            cell(jail.watched),
            cell(jail.banned),
            cell(jail.total.failures),
            cell(jail.total.bans),
        ]
    };
    let rows = jails.jails.iter().map(row).collect();
    table("What each jail does, and has counted", &columns, rows, "There are no jails.")
}

fn of_sources(status: &Status) -> Markup {
    let columns = [
        text("Source"),
        text("State"),
        text("Reads"),
        figure("Events"),
        figure("Failures"),
        figure("Unwitnessed"),
        figure("Lost"),
        text("Last"),
    ];
    let row = |source: &Source| {
        let state = match source.state {
            State::Ok => tag("ok", "read"),
            State::Waiting => tag("warning", "waits"),
            State::Failed => tag("critical", "failed"),
        };
        vec![
            html! { (source.name) },
            html! { (state) @if let Some(why) = &source.why { " " (foreign(why)) } },
            html! { (source.place) },
            cell(source.events),
            cell(source.failures),
            cell(source.unwitnessed),
            cell(source.lost),
            source.last_event.as_deref().map_or_else(|| html! { "-" }, ago),
        ]
    };
    let rows = status.sources.iter().map(row).collect();
    table("Where failures are read from", &columns, rows, "There are no sources.")
}

fn of_feeds(feeds: &Feeds) -> Markup {
    let columns = [
        text("Feed"),
        text("State"),
        figure("Entries"),
        figure("Banned"),
        figure("Packets"),
        text("Fetched"),
    ];
    let row = |feed: &FeedRow| {
        let level = match feed.state {
            FeedState::Ok => "ok",
            FeedState::Waiting | FeedState::Paused => "plain",
            FeedState::Failing | FeedState::Expired | FeedState::Refused => "warning",
        };
        vec![
            html! { (feed.name) },
            html! {
                (tag(level, feed.state.as_str()))
                @if let Some(problem) = &feed.problem { " " (foreign(problem)) }
            },
            cell(feed.entries),
            cell(feed.banned),
            cell(feed.packets),
            feed.fetched.as_deref().map_or_else(|| html! { "-" }, ago),
        ]
    };
    let rows = feeds.feeds.iter().map(row).collect();
    table("Lists that others publish", &columns, rows, "There are none.")
}

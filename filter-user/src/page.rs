//! The page for a browser: turns answers of the daemon into HTML.
//!
//! Every text goes through maud, which escapes it. What anybody may have chosen, such as an account, goes through
//! [`parts::foreign`] as well, which also makes characters visible that control the direction of text.
//!
//! Must never contain a script, a style in a tag or a part of another site, ask the daemon for anything, or show text
//! that is not escaped.

pub mod bans;
pub mod findings;
pub mod jails;
pub mod now;
mod parts;
pub mod traffic;
pub mod why;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use maud::{DOCTYPE, Markup, html};

/// The style, which each view refers to.
pub const STYLE: &str = include_str!("page/style.css");

/// The picture before the name.
pub const ICON: &str = include_str!("page/icon.svg");

/// What a browser may do with the page: show it, with the style and the picture of this site, in no frame.
pub const POLICY: &str = "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; base-uri 'none'; \
    frame-ancestors 'none'";

/// How often a view is drawn again, if that is wanted.
const REFRESH: u32 = 10;

/// A view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// What happens now.
    Now,
    /// The traffic of the past.
    Traffic,
    /// The bans in force.
    Bans,
    /// What is known about an address.
    Why,
    /// The jails, sources and feeds.
    Jails,
    /// What the doctor and the last audit have found.
    Findings,
}

impl View {
    /// All views, in the order of the links to them.
    pub const ALL: [Self; 6] =
        [Self::Now, Self::Traffic, Self::Bans, Self::Why, Self::Jails, Self::Findings];

    /// The path, relative to that of each view.
    pub fn path(self) -> &'static str {
        match self {
            Self::Now => "./",
            Self::Traffic => "traffic",
            Self::Bans => "bans",
            Self::Why => "why",
            Self::Jails => "jails",
            Self::Findings => "findings",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Now => "Now",
            Self::Traffic => "Traffic",
            Self::Bans => "Bans",
            Self::Why => "Why",
            Self::Jails => "Jails",
            Self::Findings => "Findings",
        }
    }
}

/// A whole page with a view.
pub fn whole(view: View, refreshes: bool, content: &Markup) -> String {
    let seconds = REFRESH.to_string();
    let time = Timestamp::now().to_zoned(TimeZone::system());
    let note = html! {
        "Drawn at " time datetime=(Timestamp::now().to_string()) { (time.strftime("%H:%M:%S %Z")) } ". "
        @if view == View::Now {
            @if refreshes { "It is drawn again every " (seconds) " s. " a href="./" { "Stop" } }
            @else { a href="./?refresh" { "Draw it again every " (seconds) " s" } }
        }
    };
    let refresh = (refreshes && view == View::Now).then_some(seconds.as_str());
    document(view.name(), Some(view), refresh, content, &note)
}

/// A page that only says something.
pub fn message(title: &str, content: &Markup) -> String {
    let content = html! { h1 { (title) } div.says { (content) } };
    document(title, None, None, &content, &html! {})
}

/// What a browser without a login gets.
pub fn login() -> String {
    let content = html! {
        p { "You are not logged in." }
        p { "Type " code { "ringfence page" } " as root on the host, and open the link that it prints. A link is valid once, \
            for five minutes." }
    };
    message("Log in", &content)
}

fn document(
    title: &str,
    current: Option<View>,
    refresh: Option<&str>,
    content: &Markup,
    note: &Markup,
) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="referrer" content="no-referrer";
                @if let Some(refresh) = refresh { meta http-equiv="refresh" content=(refresh); }
                title { (title) " · Ringfence" }
                link rel="stylesheet" href="style.css";
                link rel="icon" href="icon.svg" type="image/svg+xml";
            }
            body {
                a.skip href="#main" { "Skip to the content" }
                header { div {
                    span.brand { img src="icon.svg" alt=""; "Ringfence" }
                    @if current.is_some() {
                        nav aria-label="Views" { ul {
                            @for view in View::ALL {
                                li { a href=(view.path()) aria-current=[(current == Some(view)).then_some("page")] {
                                    (view.name())
                                } }
                            }
                        } }
                    }
                } }
                main id="main" tabindex="-1" { (content) }
                footer { p { (note) } }
            }
        }
    };
    page.into_string()
}

#[cfg(test)]
mod tests;

//! The view of what is known about an address.

use api::{Evidence, Reply, Why};
use maud::{Markup, html};

use super::parts::{at, error, foreign, table, tag, text, why as link};
use crate::report::sentences;

/// The form, with what was typed.
pub fn form(typed: &str) -> Markup {
    html! {
        h1 { "Why an address is dropped, or not" }
        form action="why" method="get" role="search" aria-label="Address" {
            label { "Address" input name="address" value=(typed) placeholder="203.0.113.7" required autocomplete="off"; }
            button { "Explain" }
        }
    }
}

/// The view of an answer that is none.
pub fn wrong(typed: &str, reply: &Reply) -> Markup {
    html! { (form(typed)) (error(reply)) }
}

/// The view.
pub fn view(why: &Why) -> Markup {
    let sentences = sentences(why);
    html! {
        (form(&why.address.to_string()))
        section.says aria-label="Explanation" {
            @for line in sentences.lines() {
                @let sub = line.starts_with(' ').then_some("sub");
                p class=[sub] { (foreign(line.trim_start())) }
            }
        }
        h2 { "Failures on record" }
        (evidence(why))
    }
}

fn evidence(why: &Why) -> Markup {
    let columns = [
        text("Time"),
        text("Source"),
        text("Class"),
        text("Address"),
        text("Account"),
        text("Proof"),
    ];
    let row = |failure: &Evidence| {
        vec![
            at(&failure.time),
            html! { (failure.source) },
            html! { (failure.class) },
            failure.address.map_or_else(|| html! { "-" }, |from| link(&from.to_string())),
            failure.account.as_deref().map_or_else(|| html! { "-" }, foreign),
            if failure.proven {
                tag("plain", "proven")
            } else {
                html! { "can be forged" }
            },
        ]
    };
    let rows = why.evidence.iter().map(row).collect();
    table("Of each ban and jail the last eight", &columns, rows, "None.")
}

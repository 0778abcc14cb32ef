//! The parts of views: tables, times, numbers and foreign text.

use std::net::IpAddr;

use ::audit::words::printable;
use api::Reply;
use ipnet::IpNet;
use jiff::Timestamp;
use maud::{Markup, html};

use crate::report::{roughly, when_exactly};

/// The most characters of a foreign text that are shown.
const FOREIGN_MAX: usize = 200;

/// Text that anybody may have chosen.
pub(super) fn foreign(text: &str) -> Markup {
    let mut shown: String = text.chars().take(FOREIGN_MAX).collect();
    if text.chars().nth(FOREIGN_MAX).is_some() {
        shown.push('…');
    }
    html! { bdi { (printable(&shown)) } }
}

/// A sentence, or a command to type, that may contain foreign text.
pub(super) fn sentence(text: &str) -> Markup {
    html! { bdi { (printable(text)) } }
}

/// A number with its digits in groups: `1,234,567`.
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// How long ago a time of an answer is.
pub(super) fn ago(time: &str) -> Markup {
    let text = match time.parse::<Timestamp>() {
        Ok(at) => {
            let seconds = Timestamp::now().as_second().saturating_sub(at.as_second());
            format!("{} ago", roughly(u64::try_from(seconds).unwrap_or(0)))
        }
        Err(_) => time.to_owned(),
    };
    html! { time datetime=(time) title=(when_exactly(time)) { (text) } }
}

/// A time of an answer on the clock.
pub(super) fn at(time: &str) -> Markup {
    html! { time datetime=(time) { (when_exactly(time)) } }
}

/// A link to what is known about an address, or about the first address of a network.
pub(super) fn why(network: &str) -> Markup {
    let address =
        network.parse::<IpAddr>().or_else(|_| network.parse().map(|net: IpNet| net.addr()));
    match address {
        Ok(address) => html! { a href=(format!("why?address={address}")) { (network) } },
        Err(_) => foreign(network),
    }
}

/// A short word about a state, in a colour.
pub(super) fn tag(level: &str, text: &str) -> Markup {
    html! { span class=(format!("tag {level}")) { (text) } }
}

/// A bar that shows a share.
pub(super) fn share(kind: &str, part: u64, whole: u64) -> Markup {
    let per_mille = u128::from(part) * 1000 / u128::from(whole.max(1));
    html! {
        svg class=(format!("share {kind}")) viewBox="0 0 1000 1" preserveAspectRatio="none" aria-hidden="true" {
            rect width=(per_mille.to_string()) height="1" {}
        }
    }
}

/// A column: its heading, and whether it has numbers.
pub(super) type Column = (&'static str, bool);

/// A column with text.
pub(super) const fn text(name: &'static str) -> Column {
    (name, false)
}

/// A column with numbers.
pub(super) const fn figure(name: &'static str) -> Column {
    (name, true)
}

/// A table, in which the first cell of each row is its heading. Without rows it is the sentence `none`.
pub(super) fn table(
    caption: &str,
    columns: &[Column],
    rows: Vec<Vec<Markup>>,
    none: &str,
) -> Markup {
    if rows.is_empty() {
        return html! { p.dim { (none) } };
    }
    let class = |is_number: bool| is_number.then_some("number");
    // On a narrow screen the rows become blocks, which takes these roles from them in some browsers.
    html! {
        table role="table" {
            caption { (caption) }
            thead role="rowgroup" { tr role="row" {
                @for (name, is_number) in columns {
                    th role="columnheader" scope="col" class=[class(*is_number)] { (name) }
                }
            } }
            tbody role="rowgroup" {
                @for row in rows {
                    tr role="row" {
                        @for (place, ((name, is_number), cell)) in columns.iter().zip(row).enumerate() {
                            @if place == 0 {
                                th role="rowheader" scope="row" data-name=(name) class=[class(*is_number)] { span { (cell) } }
                            } @else {
                                td role="cell" data-name=(name) class=[class(*is_number)] { span { (cell) } }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// An answer, or why there is none.
pub(super) fn error(reply: &Reply) -> Markup {
    match reply {
        Reply::Ok(_) => html! {},
        Reply::Error(refusal) => html! { p.says role="alert" { (foreign(&refusal.message)) } },
    }
}

/// A count for people.
pub(super) fn cell(count: u64) -> Markup {
    html! { (number(count)) }
}

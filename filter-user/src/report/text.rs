//! The parts of a text for a terminal: times, counts, lines and tables.

use std::fmt::Write as _;

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// The width of text.
pub(super) const WIDTH: usize = 80;

/// The minimum width of a column with free text; if there is less room, it gets separate lines.
const FREE_TEXT: usize = 16;

/// A time in a reply, as local time: `19:42`, with the date unless it is today.
pub(crate) fn when(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    shown(time, Timestamp::now(), &TimeZone::system(), "%H:%M")
}

/// The same with seconds.
pub(crate) fn when_exactly(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    shown(time, Timestamp::now(), &TimeZone::system(), "%H:%M:%S")
}

pub(crate) fn shown(time: Timestamp, now: Timestamp, zone: &TimeZone, clock: &str) -> String {
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let day = if time.date() == now.date() {
        ""
    } else if time.year() == now.year() {
        "%d %b "
    } else {
        return time.strftime("%Y-%m-%d").to_string();
    };
    time.strftime(&format!("{day}{clock}")).to_string()
}

/// How long it is until a time in a reply.
pub(crate) fn left(time: &str) -> String {
    let Ok(time) = time.parse::<Timestamp>() else { return time.to_owned() };
    let seconds = time.as_second().saturating_sub(Timestamp::now().as_second());
    roughly(u64::try_from(seconds).unwrap_or(0))
}

/// A duration in one unit, or in two adjacent ones: `42m`, `3h10m`, `6d`.
pub(crate) fn roughly(seconds: u64) -> String {
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m"),
        (0, hours, 0) => format!("{hours}h"),
        (0, hours, minutes) => format!("{hours}h{minutes}m"),
        (1..=9, hours @ 1.., _) => format!("{days}d{hours}h"),
        (days, _, _) => format!("{days}d"),
    }
}

/// When something ends, such as `until 19:42 (42m left)`, or `until it is lifted`.
pub(super) fn until(end: Option<&str>) -> String {
    match end {
        Some(until) => format!("until {} ({} left)", when(until), left(until)),
        None => "until it is lifted".to_owned(),
    }
}

/// Text that a person typed, with its control characters escaped.
pub(crate) fn shown_text(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Where an address is, by the databases of countries and networks: `RU AS64500`.
pub(crate) fn place(country: Option<&str>, asn: Option<u32>) -> Option<String> {
    let asn = asn.map(|asn| format!("AS{asn}"));
    let parts: Vec<String> = country.map(shown_text).into_iter().chain(asn).collect();
    (!parts.is_empty()).then(|| parts.join(" "))
}

/// A number with a noun: `1 ban`, `2 bans`.
pub(crate) fn count(number: impl TryInto<u64>, what: &str) -> String {
    counts(number.try_into().unwrap_or(u64::MAX), what, &format!("{what}s"))
}

pub(super) fn counts(number: u64, one: &str, more: &str) -> String {
    format!("{number} {}", if number == 1 { one } else { more })
}

pub(crate) fn line(text: &mut String, line: &str) {
    // Writing to a string cannot fail.
    let _infallible = writeln!(text, "{line}");
}

/// Columns as wide as their widest cell, in lines of [`WIDTH`]. A long first cell gets the line before
/// the others, a long last one the lines after them.
pub(crate) fn table(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let head: Vec<String> = head.iter().map(|&cell| cell.to_owned()).collect();
    let rows: Vec<Vec<String>> = std::iter::once(head).chain(rows).collect();
    let length = |cell: &String| cell.chars().count();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| rows.iter().filter_map(|row| row.get(column)).map(length).max();
    let mut widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    let (Some(first), Some((last, others))) = (widths.first().copied(), widths.split_last()) else {
        return String::new();
    };
    // For a last column of free text, the remaining width.
    let title = rows.first().and_then(|head| head.last()).map_or(0, length);
    let between = others.iter().sum::<usize>() + 2 * others.len();
    let room = WIDTH.saturating_sub(between);
    let last = *last;
    if last > room && first > 15 {
        // One long network must not widen the other columns too much.
        let wanted = last.min(FREE_TEXT).max(title);
        let narrowest = rows.first().and_then(|head| head.first()).map_or(0, length).max(15);
        let spare = wanted.saturating_sub(room);
        if let Some(first) = widths.first_mut() {
            *first = first.saturating_sub(spare).max(narrowest);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut shown = String::new();
        for (column, (cell, width)) in row.iter().zip(&widths).enumerate() {
            let (length, is_last) = (cell.chars().count(), column + 1 == columns);
            if column == 0 && length > *width {
                line(&mut text, cell);
                shown = " ".repeat(*width);
            } else if is_last {
                let at = shown.chars().count() + 2;
                if at + length <= WIDTH || length == 0 {
                    shown = format!("{shown}  {cell}");
                } else {
                    line(&mut text, shown.trim_end());
                    shown = wrapped(cell);
                }
            } else {
                let gap = if column == 0 { "" } else { "  " };
                shown = format!("{shown}{gap}{cell:<width$}");
            }
        }
        line(&mut text, shown.trim_end());
    }
    text
}

/// Adds prose of any length: lines of at most [`WIDTH`], all but the first indented.
pub(super) fn note(text: &mut String, prose: &str) {
    line(text, &filled("", prose));
}

/// Adds prose under a note.
pub(super) fn under(text: &mut String, prose: &str) {
    line(text, &wrapped(prose));
}

/// Wrapped and indented text.
fn wrapped(text: &str) -> String {
    filled(INDENT, text)
}

/// Before the lines of wrapped text.
const INDENT: &str = "    ";

/// Wrapped text with this before its first line, and [`INDENT`] before the others.
fn filled(first: &str, text: &str) -> String {
    let mut lines = Vec::new();
    let mut last = first.to_owned();
    let mut is_empty = true;
    for word in text.split(' ') {
        let length = last.chars().count() + usize::from(!is_empty) + word.chars().count();
        if !is_empty && length > WIDTH {
            lines.push(std::mem::replace(&mut last, INDENT.to_owned()));
            is_empty = true;
        }
        if !is_empty {
            last.push(' ');
        }
        last.push_str(word);
        is_empty = false;
    }
    lines.push(last);
    lines.join("\n")
}

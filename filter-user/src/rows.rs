//! Lists that arrive in pages: writes their rows as they arrive, as text or as one JSON document.
//!
//! Must never keep the rows of more than one page.

use std::io::Write;

use anyhow::{Context as _, Result};
use serde::Serialize;

/// What a failed write was for.
pub(crate) const WRITE: &str = "write to standard output";

/// How a list is written.
pub(crate) struct Form<R> {
    /// Its name in the document.
    pub(crate) name: &'static str,
    /// A row as text, and whether it is the first.
    pub(crate) text: fn(&R, bool) -> String,
    /// The text if there are no rows.
    pub(crate) none: &'static str,
}

/// Writes the rows that `page` returns. It is called with the place at which to continue.
pub(crate) fn write<R: Serialize, P>(
    form: &Form<R>,
    json: bool,
    mut page: impl FnMut(Option<P>) -> Result<(Vec<R>, Option<P>)>,
    mut out: impl Write,
) -> Result<()> {
    let (mut place, mut is_first) = (None, true);
    loop {
        let (rows, next) = page(place)?;
        for row in &rows {
            let text = if json {
                document_row(form.name, row, is_first)?
            } else {
                (form.text)(row, is_first)
            };
            out.write_all(text.as_bytes()).context(WRITE)?;
            is_first = false;
        }
        place = next;
        if place.is_none() {
            break;
        }
    }
    let end = match (json, is_first) {
        (true, is_empty) => document_end(form.name, is_empty, ""),
        (false, true) => form.none.to_owned(),
        (false, false) => String::new(),
    };
    out.write_all(end.as_bytes()).and_then(|()| out.flush()).context(WRITE)
}

/// A row of the list in a document, with what comes before it.
pub(crate) fn document_row(name: &str, row: &impl Serialize, is_first: bool) -> Result<String> {
    let row = serde_json::to_string_pretty(row)?.replace('\n', "\n    ");
    let head = if is_first { format!("{{\n  \"{name}\": [\n") } else { ",\n".to_owned() };
    Ok(format!("{head}    {row}"))
}

/// The end of a document, with what follows the list in it.
pub(crate) fn document_end(name: &str, is_empty: bool, more: &str) -> String {
    if is_empty {
        format!("{{\n  \"{name}\": []{more}\n}}\n")
    } else {
        format!("\n  ]{more}\n}}\n")
    }
}

//! Options for the program `curl` in the form of its configuration files, which it reads from standard input:
//! a secret never stands on a command line.

use anyhow::{Result, ensure};

/// Appends an option with its value in quotes.
///
/// # Errors
///
/// If the value has a control character, because a line break would begin another option. The format of
/// `write-out` may have line breaks and tabs.
pub(crate) fn option(text: &mut String, name: &str, value: &str) -> Result<()> {
    let is_allowed = |c: char| !c.is_control() || name == "write-out" && matches!(c, '\n' | '\t');
    ensure!(value.chars().all(is_allowed), "a value for curl ({name}) has a control character");
    text.push_str(name);
    text.push_str(" = \"");
    for c in value.chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            c => text.push(c),
        }
    }
    text.push_str("\"\n");
    Ok(())
}

//! Lines for the journal, which reads the priority at the beginning of each.

use std::io::{Write as _, stderr};

/// The longest line.
const LINE_MAX: usize = 1024;

/// Something that an administrator wants to know.
pub(crate) fn info(text: &str) {
    write(6, text);
}

/// Something that is wrong.
pub(crate) fn warn(text: &str) {
    write(4, text);
}

/// The reason for the end.
pub(crate) fn error(text: &str) {
    write(3, text);
}

fn write(priority: u8, text: &str) {
    // A server chooses parts of some of them.
    let plain = |c: char| if c.is_control() { ' ' } else { c };
    let text: String = text.chars().map(plain).take(LINE_MAX).collect();
    writeln!(stderr(), "<{priority}>{text}").ok();
}

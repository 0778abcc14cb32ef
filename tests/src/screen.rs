//! The only part of the lab that prints: lines that stay, and below them a table that is redrawn. If
//! standard output is not a terminal, there are only lines.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use nix::libc;

const WIDTH_DEFAULT: usize = 100;

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    /// The number of the table's lines on the screen.
    drawn: usize,
}

impl Screen {
    /// Determines what standard output is.
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Whether [`Self::draw`] can overwrite its last output.
    pub fn is_live(&self) -> bool {
        self.terminal
    }

    /// The emphasis that is available here.
    pub fn paint(&self) -> Paint {
        Paint { on: self.terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()) }
    }

    /// Prints lines that stay.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let out = format!("{}{text}\n", self.erase());
        write(&out)
    }

    /// Draws `lines` in place of those drawn before.
    ///
    /// # Errors
    ///
    /// If standard output is closed.
    pub fn draw(&mut self, lines: &[String]) -> anyhow::Result<()> {
        let mut out = self.erase();
        let width = self.width();
        for line in lines {
            out.push_str(&fit(line, width));
            out.push('\n');
        }
        self.drawn = if self.terminal { lines.len() } else { 0 };
        write(&out)
    }

    /// Keeps the last table on the screen.
    pub fn keep(&mut self) {
        self.drawn = 0;
    }

    fn erase(&mut self) -> String {
        match std::mem::take(&mut self.drawn) {
            0 => String::new(),
            lines => format!("\x1b[{lines}A\x1b[J"),
        }
    }

    fn width(&self) -> usize {
        if !self.terminal {
            return usize::MAX;
        }
        let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: TIOCGWINSZ writes only one winsize, to which the pointer points.
        let result = unsafe { libc::ioctl(libc::STDOUT_FILENO, libc::TIOCGWINSZ, &raw mut size) };
        if result == 0 && size.ws_col > 0 { usize::from(size.ws_col) } else { WIDTH_DEFAULT }
    }
}

impl Default for Screen {
    fn default() -> Self {
        Self::new()
    }
}

/// Prints one line to standard error.
pub fn complain(text: &str) {
    // If standard error is closed, there is nowhere to report it.
    writeln!(io::stderr(), "{text}").ok();
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

/// Emphasis, if available.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// None.
    pub const PLAIN: Self = Self { on: false };

    /// The most important text.
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    /// Unimportant text.
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// A good result.
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// A bad result.
    pub fn bad(self, text: &str) -> String {
        self.code("31;1", text)
    }

    /// Something in progress.
    pub fn busy(self, text: &str) -> String {
        self.code("33", text)
    }

    fn code(self, code: &str, text: &str) -> String {
        if self.on { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// The first `width` characters of `line`, not counting escape sequences.
fn fit(line: &str, width: usize) -> String {
    let mut out = String::new();
    let mut left = width;
    let mut escape = false;
    for c in line.chars() {
        if c == '\x1b' {
            escape = true;
        }
        if !escape {
            if left == 0 {
                continue;
            }
            left -= 1;
        }
        out.push(c);
        if escape && c.is_ascii_alphabetic() {
            escape = false;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_cut_without_breaking_its_colours() {
        assert_eq!(fit("abcdef", 3), "abc");
        assert_eq!(fit("abc", 10), "abc");
        assert_eq!(fit("a\x1b[31mbcd\x1b[0m", 2), "a\x1b[31mb\x1b[0m");
        assert_eq!(fit("─────", 2), "──");
    }
}

//! The one place of the lab that prints: lines that stay, and below them a table that is drawn over
//! itself. Where standard output is no terminal there is no table, only lines.

use std::io::{self, IsTerminal, Write};

use anyhow::Context;
use nix::libc;

const WIDTH_DEFAULT: usize = 100;

/// Standard output.
#[derive(Debug)]
pub struct Screen {
    terminal: bool,
    /// Lines of the table that are on the screen now.
    drawn: usize,
}

impl Screen {
    /// Finds out what standard output is.
    pub fn new() -> Self {
        Self { terminal: io::stdout().is_terminal(), drawn: 0 }
    }

    /// Whether [`Self::draw`] can draw over what it drew before.
    pub fn is_live(&self) -> bool {
        self.terminal
    }

    /// How to emphasise here.
    pub fn paint(&self) -> Paint {
        Paint { on: self.terminal && std::env::var_os("NO_COLOR").is_none_or(|no| no.is_empty()) }
    }

    /// Prints lines that stay.
    ///
    /// # Errors
    ///
    /// When standard output is closed.
    pub fn say(&mut self, text: &str) -> anyhow::Result<()> {
        let out = format!("{}{text}\n", self.erase());
        write(&out)
    }

    /// Draws `lines` in place of those drawn before.
    ///
    /// # Errors
    ///
    /// When standard output is closed.
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

    /// Leaves what was drawn last where it is.
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
        // SAFETY: TIOCGWINSZ writes one winsize, which the pointer is to, and nothing else.
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
    // Where standard error is closed there is no one to tell.
    writeln!(io::stderr(), "{text}").ok();
}

fn write(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).context("standard output")
}

/// Emphasis, where there is any.
#[derive(Clone, Copy, Debug)]
pub struct Paint {
    on: bool,
}

impl Paint {
    /// None.
    pub const PLAIN: Self = Self { on: false };

    /// What to look at first.
    pub fn bold(self, text: &str) -> String {
        self.code("1", text)
    }

    /// What need not be looked at.
    pub fn dim(self, text: &str) -> String {
        self.code("2", text)
    }

    /// As it should be.
    pub fn good(self, text: &str) -> String {
        self.code("32", text)
    }

    /// Not as it should be.
    pub fn bad(self, text: &str) -> String {
        self.code("31;1", text)
    }

    /// On its way.
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

//! Asks for a password without showing what is typed.

use std::fs::{File, OpenOptions};
use std::io::{self, BufRead as _, BufReader, IsTerminal as _, Write as _};
use std::os::fd::AsFd as _;

use ::audit::secret::Secret;
use anyhow::{Context as _, Result, ensure};
use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};

/// The longest line that is read.
const LINE_MAX: u64 = 4096;

/// Shows the terminal's input again.
struct Hidden<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Hidden<'a> {
    fn new(terminal: &'a File) -> Result<Self> {
        let before = tcgetattr(terminal.as_fd()).context("read the terminal's settings")?;
        let mut hidden = before.clone();
        // Without signals nobody is left with a terminal that shows nothing.
        hidden.local_flags.remove(LocalFlags::ECHO | LocalFlags::ISIG);
        tcsetattr(terminal.as_fd(), SetArg::TCSAFLUSH, &hidden).context("hide the input")?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Hidden<'_> {
    fn drop(&mut self) {
        tcsetattr(self.terminal.as_fd(), SetArg::TCSAFLUSH, &self.before).ok();
    }
}

/// Asks on the terminal, or reads a line of standard input if that is not a terminal.
///
/// # Errors
///
/// If nothing can be read.
pub fn password(question: &str) -> Result<Secret> {
    if !io::stdin().is_terminal() {
        return line(io::stdin().lock());
    }
    let terminal = OpenOptions::new().read(true).write(true).open("/dev/tty");
    let terminal = terminal.context("open the terminal")?;
    (&terminal).write_all(question.as_bytes()).context("write to the terminal")?;
    let hidden = Hidden::new(&terminal)?;
    let secret = line(BufReader::new(&terminal));
    drop(hidden);
    (&terminal).write_all(b"\n").context("write to the terminal")?;
    secret
}

fn line(from: impl io::BufRead) -> Result<Secret> {
    let mut text = zeroize::Zeroizing::new(String::with_capacity(8192));
    io::Read::take(from, LINE_MAX).read_line(&mut text).context("read the answer")?;
    let text = text.trim_end_matches(['\r', '\n']);
    ensure!(!text.is_empty() && !text.contains('\u{3}'), "no answer");
    Ok(Secret::new(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_read() {
        assert_eq!(line(&b"a b\r\nnext"[..]).unwrap().expose(), "a b");
        for wrong in [&b""[..], b"\n", b"\x03\n"] {
            assert!(line(wrong).is_err());
        }
    }
}

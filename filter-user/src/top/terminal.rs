//! The terminal: its mode, keys and signals. It is restored however the program ends.

use std::io::{self, BufWriter, Stdout};
use std::panic;
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use crossterm::cursor::Show;
use crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use crossterm::execute;
use crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use nix::sys::signal::{SigSet, Signal, raise};
use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;

use super::draw::{Look, draw};
use super::key::Key;
use super::view::View;

/// The signals that end the program.
const ENDS: [Signal; 3] = [Signal::SIGTERM, Signal::SIGHUP, Signal::SIGINT];

/// How long a terminal that accepts nothing can hold up the end.
const GRACE: Duration = Duration::from_secs(2);

/// The room for what is written at once.
const BUFFER: usize = 16 * 1024;

/// What comes from outside.
#[derive(Debug)]
pub(super) enum Input {
    Key(Key),
    /// The size has changed, or something else that is no key.
    Other,
    Ended(Signal),
    /// There is no terminal any more.
    Lost(io::Error),
}

/// The screen. When dropped, the terminal is as it was before.
pub(super) struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<Stdout>>>,
    look: Look,
}

impl Screen {
    /// Takes the terminal.
    pub(super) fn new(look: Look) -> Result<Self> {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |panicked| {
            restore();
            before(panicked);
        }));
        enable_raw_mode().context("set the terminal up")?;
        let mut out = BufWriter::with_capacity(BUFFER, io::stdout());
        let terminal = execute!(out, EnterAlternateScreen)
            .and_then(|()| Terminal::new(CrosstermBackend::new(out)))
            .and_then(|mut terminal| terminal.hide_cursor().map(|()| terminal));
        match terminal {
            Ok(terminal) => Ok(Self { terminal, look }),
            Err(error) => {
                restore();
                Err(error).context("set the terminal up")
            }
        }
    }

    /// Draws what has changed.
    pub(super) fn draw(&mut self, view: &View) -> Result<()> {
        let look = self.look;
        self.terminal.draw(|frame| draw(frame, view, look)).context("draw")?;
        Ok(())
    }

    /// Makes the next drawing draw everything.
    pub(super) fn forget(&mut self) -> Result<()> {
        self.terminal.clear().context("clear the screen")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        restore();
    }
}

/// Leaves the terminal as it was. If that fails, there is nobody to tell.
fn restore() {
    disable_raw_mode().ok();
    execute!(io::stdout(), LeaveAlternateScreen, Show).ok();
}

/// Blocks the signals that end the program in this thread and those that it starts, so that one thread can wait
/// for them.
pub(super) fn block_signals() -> Result<()> {
    ENDS.into_iter().collect::<SigSet>().thread_block().context("block signals")
}

/// Sends signals to the loop. A loop that a terminal holds up is ended all the same.
pub(super) fn listen_for_signals(send: impl FnOnce(Input) + Send + 'static) {
    thread::spawn(move || {
        let Ok(signal) = ENDS.into_iter().collect::<SigSet>().wait() else { return };
        send(Input::Ended(signal));
        thread::sleep(GRACE);
        disable_raw_mode().ok();
        end_by(signal);
    });
}

/// Ends the process by a signal, as it would have ended without a handler.
pub(super) fn end_by(signal: Signal) {
    let set: SigSet = std::iter::once(signal).collect();
    set.thread_unblock().ok();
    raise(signal).ok();
}

/// Sends keys to the loop, on a thread of its own, until `send` says that nobody takes them.
pub(super) fn listen_for_keys(send: impl Fn(Input) -> bool + Send + 'static) {
    thread::spawn(move || {
        loop {
            let input = match event::read() {
                Ok(Event::Key(pressed)) => key(pressed).map_or(Input::Other, Input::Key),
                Ok(_) => Input::Other,
                Err(error) => Input::Lost(error),
            };
            let is_last = matches!(input, Input::Lost(_));
            if !send(input) || is_last {
                return;
            }
        }
    });
}

/// The keys without a character.
const KEYS: [(KeyCode, Key); 12] = [
    (KeyCode::Enter, Key::Enter),
    (KeyCode::Esc, Key::Escape),
    (KeyCode::Backspace, Key::Backspace),
    (KeyCode::Tab, Key::Tab),
    (KeyCode::BackTab, Key::BackTab),
    (KeyCode::Up, Key::Up),
    (KeyCode::Down, Key::Down),
    (KeyCode::PageUp, Key::PageUp),
    (KeyCode::PageDown, Key::PageDown),
    (KeyCode::Home, Key::Home),
    (KeyCode::End, Key::End),
    (KeyCode::Delete, Key::Backspace),
];

/// The keys with Ctrl.
const WITH_CTRL: [(char, Key); 3] =
    [('c', Key::Interrupt), ('l', Key::Redraw), ('u', Key::EraseLine)];

fn key(pressed: KeyEvent) -> Option<Key> {
    if pressed.kind == KeyEventKind::Release {
        return None;
    }
    let KeyCode::Char(c) = pressed.code else {
        let found = KEYS.iter().find(|(code, _)| *code == pressed.code);
        return found.map(|(_, key)| *key);
    };
    if pressed.modifiers.contains(KeyModifiers::CONTROL) {
        return WITH_CTRL.iter().find(|(with, _)| *with == c).map(|(_, key)| *key);
    }
    (!pressed.modifiers.contains(KeyModifiers::ALT)).then_some(Key::Char(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_recognised() {
        let pressed = |code, modifiers| key(KeyEvent::new(code, modifiers));
        for (code, modifiers, expected) in [
            (KeyCode::Char('b'), KeyModifiers::NONE, Some(Key::Char('b'))),
            (KeyCode::Char('W'), KeyModifiers::SHIFT, Some(Key::Char('W'))),
            (KeyCode::Char('c'), KeyModifiers::CONTROL, Some(Key::Interrupt)),
            (KeyCode::Char('b'), KeyModifiers::CONTROL, None),
            (KeyCode::Char('b'), KeyModifiers::ALT, None),
            (KeyCode::PageDown, KeyModifiers::NONE, Some(Key::PageDown)),
            (KeyCode::F(1), KeyModifiers::NONE, None),
        ] {
            assert_eq!(pressed(code, modifiers), expected, "{code:?}");
        }
    }

    /// Set in the process that panics.
    const PANICS: &str = "RINGFENCE_TEST_PANICS";

    /// Starts itself in a terminal of its own, and panics there.
    #[test]
    fn a_panic_leaves_the_terminal_as_it_was() {
        if std::env::var_os(PANICS).is_some() {
            let _screen = Screen::new(Look { colour: true, unicode: true }).unwrap();
            panic!("as was wanted");
        }
        let own = std::env::current_exe().unwrap();
        let test = "top::terminal::tests::a_panic_leaves_the_terminal_as_it_was";
        let line = format!("{} --exact {test} --nocapture; stty -a", own.display());
        let mut script = std::process::Command::new("script");
        script.args(["-qec", &line, "/dev/null"]).env(PANICS, "1").env("TERM", "xterm");
        let output = script.stdin(std::process::Stdio::null()).output().unwrap();
        let written = String::from_utf8_lossy(&output.stdout).into_owned();
        let at = |what: &str| written.find(what).unwrap_or_else(|| panic!("{what:?}\n{written:?}"));
        let (taken, left, said) = (at("\x1b[?1049h"), at("\x1b[?1049l"), at("as was wanted"));
        assert!(taken < left && left < said, "{written:?}");
        assert!(written.contains("\x1b[?25h"), "the cursor is shown: {written:?}");
        assert!(written.contains(" icanon") && !written.contains("-echo "), "{written:?}");
    }
}

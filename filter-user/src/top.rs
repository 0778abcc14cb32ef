//! `top`: a live view of the daemon in a terminal, or as lines of text.
//!
//! ```text
//! keys, answers ─▶ model ─▶ requests
//!                    └────▶ view ─▶ draw, or plain ─▶ terminal
//! ```
//!
//! It asks the daemon like any other command, and for parts of bounded length only. Only `terminal` and this module
//! have effects.
//!
//! Must never ask for all bans, or let foreign text reach the terminal unescaped.

mod attackers;
mod draw;
mod key;
mod model;
mod plain;
mod prompt;
mod rates;
mod safe;
mod tables;
mod terminal;
mod view;

use std::env;
use std::io::{self, IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use api::Request;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use nix::unistd::geteuid;
use serde_json::Value;

use self::draw::Look;
use self::model::{Flow, Model, Moment, Settings, Trouble};
use self::plain::Plain;
use self::terminal::{Input, Screen};
use crate::client;

/// How often the daemon is asked, if no interval is given.
const EVERY: Duration = Duration::from_secs(1);

/// The same for the plain mode.
const EVERY_PLAIN: Duration = Duration::from_secs(10);

/// The shortest interval, so that the daemon has other things to do.
pub const FASTEST: Duration = Duration::from_millis(500);

/// How many events can wait. A loop that a slow terminal holds up holds up the keys too.
const WAITING: usize = 64;

/// How to show it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Options {
    /// Lines of text instead of a screen.
    pub plain: bool,
    /// No colours.
    pub no_colour: bool,
    /// How often to ask the daemon.
    pub interval: Option<Duration>,
}

/// Shows the daemon at `socket` until the user quits.
///
/// # Errors
///
/// If this user may not ask the daemon, or there is no terminal.
pub fn run(socket: &Path, options: Options) -> Result<()> {
    let settings = Settings {
        every: options.interval.unwrap_or(if options.plain { EVERY_PLAIN } else { EVERY }),
        may_change: geteuid().is_root(),
        session: client::session(),
        zone: TimeZone::system(),
    };
    // A daemon that is not there may come; one that this user may not ask does not help.
    if let Err(error) = client::ask(socket, &Request::Status)
        && error.is::<client::NotRoot>()
    {
        return Err(error);
    }
    let model = Model::new(settings);
    if options.plain { plainly(socket, model) } else { on_screen(socket, model, options) }
}

/// A clock that begins now.
fn clock() -> impl Fn() -> Moment {
    let start = Instant::now();
    move || Moment { at: start.elapsed(), wall: Timestamp::now() }
}

fn ask(socket: &Path, request: &Request) -> Result<Value, Trouble> {
    client::ask(socket, request).map_err(|error| {
        let is_down = error.is::<client::NoDaemon>() || error.is::<client::Late>();
        // A daemon that ends while it answers is down too.
        let text = format!("{error:#}");
        Trouble { is_down: is_down || text.contains("gave no answer"), text }
    })
}

/// Lines of text, until a signal or the end of whoever reads them.
fn plainly(socket: &Path, mut model: Model) -> Result<()> {
    let now = clock();
    let mut plain = Plain::default();
    loop {
        while let Some(request) = model.request(now()) {
            let answer = ask(socket, &request);
            model.take(&request, answer, now());
        }
        let time = now().wall.to_zoned(TimeZone::system()).strftime("%H:%M:%S").to_string();
        let lines = plain.lines(&model, now());
        let mut out = io::stdout().lock();
        for line in lines {
            writeln!(out, "{time} {line}")?;
        }
        out.flush()?;
        drop(out);
        thread::sleep(model.wait(now()).max(Duration::from_millis(50)));
    }
}

/// What the loop waits for.
enum Event {
    Input(Input),
    Answer(Box<Request>, Result<Value, Trouble>),
}

fn on_screen(socket: &Path, mut model: Model, options: Options) -> Result<()> {
    if !io::stdout().is_terminal() {
        bail!("standard output is no terminal; `ringfence top --plain` prints lines of text");
    }
    if env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb") {
        bail!("this terminal cannot move the cursor (TERM); use `ringfence top --plain`");
    }
    terminal::block_signals()?;
    let (events, coming) = mpsc::sync_channel(WAITING);
    let asker = asker(socket.to_owned(), events.clone());
    let mut screen = Screen::new(look(options.no_colour))?;
    let keys = events.clone();
    terminal::listen_for_keys(move |input| keys.send(Event::Input(input)).is_ok());
    // A full channel or one without a reader is no reason to stay.
    terminal::listen_for_signals(move |input| drop(events.try_send(Event::Input(input))));
    let ended = follow(&mut model, &mut screen, &coming, &asker);
    drop(screen);
    if let Some(signal) = ended? {
        terminal::end_by(signal);
    }
    Ok(())
}

/// Asks the daemon on a thread of its own, so that one that does not answer holds up no key.
fn asker(socket: PathBuf, to: SyncSender<Event>) -> SyncSender<Request> {
    let (requests, coming) = mpsc::sync_channel::<Request>(1);
    thread::spawn(move || {
        for request in coming {
            let answer = ask(&socket, &request);
            if to.send(Event::Answer(Box::new(request), answer)).is_err() {
                return;
            }
        }
    });
    requests
}

/// The loop. Returns the signal that has ended it, if one has.
fn follow(
    model: &mut Model,
    screen: &mut Screen,
    coming: &Receiver<Event>,
    asker: &SyncSender<Request>,
) -> Result<Option<nix::sys::signal::Signal>> {
    let now = clock();
    loop {
        while let Some(request) = model.request(now()) {
            asker.send(request).context("the thread that asks the daemon has ended")?;
        }
        if model.take_redraw() {
            screen.forget()?;
        }
        if model.take_changed(now()) {
            screen.draw(&model.view(now()))?;
        }
        let first = coming.recv_timeout(model.wait(now())).ok();
        // Everything that waits is taken before the next drawing.
        for event in first.into_iter().chain(coming.try_iter()) {
            match event {
                Event::Answer(request, answer) => model.take(&request, answer, now()),
                Event::Input(Input::Key(key)) => {
                    if model.key(key, now()) == Flow::Quit {
                        return Ok(None);
                    }
                }
                Event::Input(Input::Other) => screen.draw(&model.view(now()))?,
                Event::Input(Input::Ended(signal)) => return Ok(Some(signal)),
                Event::Input(Input::Lost(error)) => return Err(error).context("read keys"),
            }
        }
    }
}

/// How to draw, by the options and the environment.
fn look(no_colour: bool) -> Look {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let charset = set("LC_ALL").or_else(|| set("LC_CTYPE")).or_else(|| set("LANG"));
    let unicode = charset.is_some_and(|charset| {
        let charset = charset.to_lowercase();
        charset.contains("utf-8") || charset.contains("utf8")
    });
    Look { colour: !no_colour && set("NO_COLOR").is_none(), unicode }
}

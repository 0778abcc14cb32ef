//! The systemd journal as a source: follows the entries of sshd, or those that a jail names, through
//! `journalctl`. Sends their attempts and the position reached, from which to continue after a restart.
//!
//! An entry that is too old to count is skipped: failures count from when they are read, and yesterday's
//! must ban nobody today.

use std::io;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout};
use tokio::time::{Instant, sleep};

use super::budget::{Budget, Waiting};
use super::lane::Lane;
use super::log_tail::lines::LineSplitter;
use super::{ATTEMPTS_ENOUGH, Heard, Outlet, SourceState};
use crate::child;
use crate::config::JournalMatch;
use crate::failure::{Attempt, LoggedAt};
use crate::hearing::Unparsed;
use crate::parse::sshd::Entry;
use crate::parse::suspect::looks_like_failure;
use crate::parse::{Parser, journal, sshd};

/// The pause before `journalctl` is started again.
const RETRY: Duration = Duration::from_secs(2);

/// How many bytes are read at a time.
const READ: usize = 64 * 1024;

/// The longest cursor that is accepted. Cursors have about 200 bytes.
const CURSOR_MAX: usize = 1024;

/// The fields of an entry that are needed.
const FIELDS: &str =
    "--output-fields=MESSAGE,_COMM,_UID,_HOSTNAME,SYSLOG_IDENTIFIER,SYSLOG_PID,_PID";

/// Entries are left out when the budget is spent and they are this old.
const LATE_MAX: Duration = Duration::from_mins(1);

/// How much of the standard error of `journalctl` is kept, in bytes.
const ERROR_MAX: u64 = 1024;

/// The entries to follow, and how.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The program.
    pub journalctl: PathBuf,
    /// Which entries to read, and what reads them.
    pub entries: Entries,
    /// The position of an earlier process, from [`Heard::place`]. Without one, existing entries are
    /// skipped.
    pub place: Option<String>,
    /// Entries older than this are skipped.
    pub max_age: Duration,
}

/// Which entries to read, and what reads them.
#[derive(Clone, Debug)]
pub enum Entries {
    /// The entries of sshd, with the built-in parser.
    Sshd,
    /// The entries of sshd, with this parser.
    SshdBy(Parser),
    /// The entries that any of these matches, with this parser.
    Matching(Vec<JournalMatch>, Parser),
}

impl Entries {
    /// The terms for `journalctl`. A `+` separates alternatives.
    fn terms(&self) -> Vec<&str> {
        match self {
            // Any local user can write to the journal in the name of sshd, but not as root. An entry of a
            // process that ended before journald looked has no `_COMM`.
            Self::Sshd | Self::SshdBy(_) => vec![
                "_UID=0",
                "_COMM=sshd",
                "+",
                "_UID=0",
                "_COMM=sshd-session",
                "+",
                "_UID=0",
                "_COMM=sshd-auth",
                "+",
                "_UID=0",
                "SYSLOG_IDENTIFIER=sshd",
                "+",
                "_UID=0",
                "SYSLOG_IDENTIFIER=sshd-session",
                "+",
                "_UID=0",
                "SYSLOG_IDENTIFIER=sshd-auth",
            ],
            Self::Matching(matches, _) => {
                let mut terms = Vec::new();
                for wanted in matches {
                    if !terms.is_empty() {
                        terms.push("+");
                    }
                    terms.extend(wanted.terms());
                }
                terms
            }
        }
    }

    /// Whether reading an entry can be slow.
    fn can_be_slow(&self) -> bool {
        match self {
            Self::Sshd => false,
            Self::SshdBy(parser) | Self::Matching(_, parser) => parser.can_be_slow(),
        }
    }

    /// Reads an entry within a budget; `None` if it is not a wanted one.
    fn read<'a>(&self, line: &'a [u8], budget: Option<&mut Budget>) -> Option<Read<'a>> {
        let (Self::SshdBy(parser) | Self::Matching(_, parser)) = self else {
            let entry = sshd::journal_entry(line)?;
            return Some(Read { entry, logged_at: None, given_up: false });
        };
        let journal::Entry { cursor, logged_at, line: text } = journal::entry(line)?;
        let trusted = !matches!(self, Self::SshdBy(_)) || sshd::is_trusted(line);
        let parse = || parser.try_parse(&text);
        let parsed = match budget {
            _ if !trusted => Ok(None),
            Some(budget) => budget.line(text.len(), parse).unwrap_or(Ok(None)),
            None => parse(),
        };
        let given_up = parsed.is_err();
        let attempt = parsed.unwrap_or_default().map(|attempt| Attempt { logged_at, ..attempt });
        Some(Read { entry: Entry { cursor, attempt, unparsed: None }, logged_at, given_up })
    }
}

/// An entry that was read.
struct Read<'a> {
    entry: Entry<'a>,
    /// When it was written, if that matters.
    logged_at: Option<LoggedAt>,
    /// Whether an expression gave up on it.
    given_up: bool,
}

/// Follows the journal on the threads of `lane` until the receiver is dropped.
pub async fn follow(journal: Journal, lane: Lane, outlet: Outlet) {
    let mut cursor = journal.place.clone().filter(|place| is_cursor(place));
    while !outlet.is_closed() {
        let state = match run(&journal, &mut cursor, &lane, &outlet).await {
            Ok(None) => return,
            Ok(Some(why)) => SourceState::Failed(why),
            Err(error) if error.kind() == io::ErrorKind::NotFound => SourceState::Waiting(format!(
                "the journal cannot be read, because {} does not exist",
                journal.journalctl.display()
            )),
            Err(error) => SourceState::Failed(format!("journalctl: {error}")),
        };
        if !outlet.send(Heard::state(state)).await {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Runs `journalctl` once. Returns why it ended, or `None` if the receiver has been dropped.
async fn run(
    journal: &Journal,
    cursor: &mut Option<String>,
    lane: &Lane,
    outlet: &Outlet,
) -> io::Result<Option<String>> {
    let before = cursor.clone();
    let mut child = start(journal, cursor.as_deref())?;
    let stdout = child.stdout.take();
    let Some(mut stdout) = stdout else { return Ok(Some("journalctl has no output".to_owned())) };
    if !outlet.send(Heard::state(SourceState::Ok)).await {
        return Ok(None);
    }
    if !relay(&mut stdout, journal, cursor, (lane, outlet)).await? {
        return Ok(None);
    }
    let (status, said) = end(child).await?;
    if !status.success() && *cursor == before {
        // The journal does not know this cursor, or no longer.
        *cursor = None;
    }
    Ok(Some(format!("journalctl ended ({status}): {}", said.trim())))
}

fn start(journal: &Journal, cursor: Option<&str>) -> io::Result<Child> {
    if !child::exists(&journal.journalctl) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut command = child::command(&journal.journalctl);
    // Without `--all`, a message of more than 4 KiB is `null`: a long Call-ID would hide its failure.
    command.args(["--follow", "--no-pager", "--quiet", "--all", "--output=json"]);
    command.arg(FIELDS);
    match cursor {
        Some(cursor) => command.arg("--no-tail").arg(format!("--after-cursor={cursor}")),
        None => command.arg("--lines=0"),
    };
    command.args(journal.entries.terms());
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn()
}

/// Sends attempts until the output ends (`true`) or the receiver is dropped (`false`).
async fn relay(
    stdout: &mut ChildStdout,
    journal: &Journal,
    reached: &mut Option<String>,
    (lane, outlet): (&Lane, &Outlet),
) -> io::Result<bool> {
    let mut reading = Reading::new(journal, lane.share());
    loop {
        reading.read = stdout.read(&mut reading.buffer).await?;
        reading.done = 0;
        if reading.read == 0 {
            return Ok(true);
        }
        while reading.done < reading.read {
            let turn = move || {
                let heard = reading.turn();
                (reading, heard)
            };
            let heard;
            (reading, heard) = lane.run(turn).await.map_err(io::Error::other)?;
            let rest = reading.rest();
            if let Some(mut heard) = heard {
                *reached = heard.place.take().or_else(|| reached.take());
                heard.place.clone_from(reached);
                if !outlet.send(heard).await {
                    return Ok(false);
                }
            }
            if let Some(rest) = rest {
                sleep(rest).await;
            }
        }
    }
}

/// The output of `journalctl` that is being read.
struct Reading {
    entries: Entries,
    max_age: Duration,
    lines: LineSplitter,
    buffer: Vec<u8>,
    /// How much of the buffer has been filled, and how much of that has been read.
    read: usize,
    done: usize,
    /// Set if its parser can be slow.
    budget: Option<Budget>,
    /// How old the last entry was when it was read.
    age: Duration,
}

impl Reading {
    fn new(journal: &Journal, share: Duration) -> Self {
        let entries = journal.entries.clone();
        Self {
            budget: entries.can_be_slow().then(|| Budget::new(share, Instant::now())),
            entries,
            max_age: journal.max_age,
            lines: LineSplitter::default(),
            buffer: vec![0; READ],
            read: 0,
            done: 0,
            age: Duration::ZERO,
        }
    }

    /// Reads the available entries, at most enough for one message.
    fn turn(&mut self) -> Option<Heard> {
        let Self { entries, max_age, budget, age, .. } = self;
        let now = Timestamp::now();
        let (mut attempts, mut unparsed, mut place) = (Vec::new(), Unparsed::default(), None);
        let mut lost = 0;
        if let Some(budget) = budget {
            let seconds = Waiting::of(age.as_secs(), LATE_MAX.as_secs());
            budget.begin(Instant::now(), seconds);
        }
        let split = self.lines.split(&self.buffer[self.done..self.read], &mut |line: &[u8]| {
            if let Some(read) = entries.read(line, budget.as_mut()) {
                let Read { entry, logged_at, given_up } = read;
                let Entry { cursor, attempt, unparsed: message } = entry;
                lost += u64::from(given_up);
                if let Some(message) = message.filter(|message| looks_like_failure(message)) {
                    unparsed.add(&message, now);
                }
                let recent = attempt.filter(|attempt| attempt.is_recent(now, *max_age));
                attempts.extend(recent.into_iter().flat_map(Attempt::each));
                place = Some(cursor);
                let at = logged_at.and_then(|at| at.instant(&TimeZone::UTC)).unwrap_or(now);
                *age = Duration::try_from(now.duration_since(at)).unwrap_or_default();
            }
            let is_over = budget.as_ref().is_some_and(Budget::is_over);
            if is_over || attempts.len() >= ATTEMPTS_ENOUGH {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        });
        self.done += split.read;
        if split.lines == 0 && split.skipped == 0 {
            return None;
        }
        let (lines, lost, state) = (split.lines, lost + split.skipped, SourceState::Ok);
        let strain = budget.as_ref().and_then(Budget::strain);
        let read = crate::clock::now();
        Some(Heard { attempts, lines, unparsed, lost, strain, state, place, read })
    }

    fn rest(&mut self) -> Option<Duration> {
        self.budget.as_mut().and_then(Budget::rest)
    }
}

async fn end(mut child: Child) -> io::Result<(ExitStatus, String)> {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(ERROR_MAX).read_to_end(&mut said).await?;
    }
    let status = child.wait().await?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// Whether a text can be a cursor of the journal.
fn is_cursor(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"=;-".contains(&byte);
    !text.is_empty() && text.len() <= CURSOR_MAX && text.bytes().all(plain)
}

#[cfg(test)]
mod tests;

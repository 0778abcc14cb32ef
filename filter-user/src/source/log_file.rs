//! A log file as a source: follows it, parses its lines and sends the attempts.
//!
//! It reads and parses on a thread of its lane, a bounded amount at a time, and only as fast as its budget
//! and the controller allow. What has not been read stays in the file.

use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, sleep, timeout_at};

use super::budget::{Budget, Waiting};
use super::lane::Lane;
use super::log_tail::{Health, LogTail, Position, Start};
use super::{ATTEMPTS_ENOUGH, Heard, Outlet, SourceState, Strain};
use crate::clock::next_turn;
use crate::hearing::Unparsed;
use crate::parse::suspect::looks_like_failure;
use crate::parse::{GIVEN_UP, Parser, Reader, Said};

/// The pause after following the file has failed.
const RETRY: Duration = Duration::from_secs(2);

/// How often the file's state is checked when no line comes.
const LOOK: Duration = Duration::from_secs(2);

/// Lines are left out when the budget is spent and this many bytes wait to be read.
const WAITING_MAX: u64 = 8 * 1024 * 1024;

/// How many bytes are read in one turn.
const TURNS_BYTES: u64 = 256 * 1024;

/// The log to follow, and how.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// The log.
    pub path: PathBuf,
    /// The parser of its lines.
    pub parser: Parser,
    /// The position of an earlier process, from [`Heard::place`]. Without one, existing lines are skipped.
    pub place: Option<String>,
    /// Whether the log was created just now or while no daemon ran. It is then read from its beginning, and
    /// the dates in it matter.
    pub is_new: bool,
    /// Attempts that were written meanwhile and are older than this by their date are skipped.
    pub max_age: Duration,
}

/// Follows a log on the threads of `lane` until the receiver is dropped.
pub async fn follow(log: LogFile, lane: Lane, outlet: Outlet) {
    let mut position = log.place.as_deref().and_then(Position::from_text);
    while !outlet.is_closed() {
        let failure = match read(&log, &mut position, &lane, &outlet).await {
            Ok(()) => return,
            Err(why) => why,
        };
        if !outlet.send(Heard::state(SourceState::Failed(failure))).await {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Reads until the receiver is dropped. The error says why the file can no longer be followed.
async fn read(
    log: &LogFile,
    position: &mut Option<Position>,
    lane: &Lane,
    outlet: &Outlet,
) -> Result<(), String> {
    let (new, from) = (log.clone(), position.clone());
    let share = lane.share();
    let opened = lane.run(move || Following::open(new, from.as_ref(), share)).await?;
    let mut following = opened.map_err(|error| error.to_string())?;
    let failed = |error: io::Error| format!("read {}: {error}", log.path.display());
    loop {
        let way = outlet.clone();
        let read = move || {
            let turns = following.turns(&way);
            (following, turns)
        };
        let turns: io::Result<Turns>;
        (following, turns) = lane.run(read).await?;
        let Turns { reached, unsent, more } = turns.map_err(failed)?;
        *position = reached.or_else(|| position.take());
        match unsent {
            Unsent::Nothing => {}
            Unsent::Heard(heard) => {
                if !outlet.send(*heard).await {
                    return Ok(());
                }
            }
            Unsent::Closed => return Ok(()),
        }
        if more {
            if let Some(rest) = following.rest() {
                sleep(rest).await;
            }
        } else if let Ok(waited) = timeout_at(next_turn(LOOK), following.tail.wait()).await {
            waited.map_err(failed)?;
        }
    }
}

/// A log that is being read.
struct Following {
    log: LogFile,
    tail: LogTail,
    reader: Reader,
    /// Set if its parser can be slow.
    budget: Option<Budget>,
    told: Option<(SourceState, Option<Strain>)>,
    /// How many lines have been reported as read and as lost.
    reported: (u64, u64),
}

/// The result of one turn.
struct Turn {
    /// The message, if there is anything to send, and the position after it.
    heard: Option<(Heard, Position)>,
    /// Whether there is more to read at once.
    more: bool,
}

/// The result of several turns.
struct Turns {
    /// The position after the last message.
    reached: Option<Position>,
    unsent: Unsent,
    more: bool,
}

/// The data that has not been sent yet.
enum Unsent {
    Nothing,
    Heard(Box<Heard>),
    /// The receiver has been dropped.
    Closed,
}

impl Following {
    fn open(log: LogFile, position: Option<&Position>, share: Duration) -> io::Result<Self> {
        let path: &Path = &log.path;
        let tail = match position {
            Some(position) => LogTail::resume(path, position)?,
            None if log.is_new => LogTail::open(path, Start::Beginning)?,
            None => LogTail::open(path, Start::End)?,
        };
        let reader = Reader::new(log.parser.clone());
        let budget = log.parser.can_be_slow().then(|| Budget::new(share, Instant::now()));
        Ok(Self { log, tail, reader, budget, told: None, reported: (0, 0) })
    }

    /// Reads and sends while there is something to read and room for it, up to a bound.
    fn turns(&mut self, outlet: &Outlet) -> io::Result<Turns> {
        let mut reached = None;
        let enough = self.tail.state().bytes.saturating_add(TURNS_BYTES);
        loop {
            let Turn { heard, more } = match self.turn() {
                Ok(turn) => turn,
                // The next turn meets the same error. What has been sent must not be sent again.
                Err(_) if reached.is_some() => {
                    return Ok(Turns { reached, unsent: Unsent::Nothing, more: true });
                }
                Err(error) => return Err(error),
            };
            let mut unsent = Unsent::Nothing;
            if let Some((heard, position)) = heard {
                reached = Some(position);
                match outlet.try_send(heard) {
                    Ok(()) => {}
                    Err(Some(heard)) => unsent = Unsent::Heard(heard),
                    Err(None) => unsent = Unsent::Closed,
                }
            }
            let is_full = !matches!(unsent, Unsent::Nothing);
            if is_full || !more || self.budget.is_some() || self.tail.state().bytes >= enough {
                return Ok(Turns { reached, unsent, more });
            }
        }
    }

    fn turn(&mut self) -> io::Result<Turn> {
        let Self { log, tail, reader, budget, .. } = self;
        let (behind, now) = (tail.is_behind() || log.is_new, Timestamp::now());
        let mut attempts = Vec::new();
        let (mut unparsed, mut given_up) = (Unparsed::default(), 0);
        if let Some(budget) = budget {
            budget.begin(Instant::now(), Waiting::of(tail.waiting(), WAITING_MAX));
        }
        let more = tail.turn(&mut |line| {
            let said = match budget {
                Some(budget) => budget.line(line.len(), || reader.read(line)),
                None => Some(reader.read(line)),
            };
            match said {
                Some(Said::Attempt(attempt)) if !behind || attempt.is_recent(now, log.max_age) => {
                    attempts.extend(attempt.each());
                }
                Some(Said::Nothing) if log.parser.tells_all() && looks_like_failure(line) => {
                    unparsed.add(line, now);
                }
                Some(Said::Passed(GIVEN_UP)) => given_up += 1,
                Some(Said::Attempt(_) | Said::Nothing | Said::Passed(_)) | None => {}
            }
            let is_over = budget.as_ref().is_some_and(Budget::is_over);
            if is_over || attempts.len() >= ATTEMPTS_ENOUGH {
                ControlFlow::Break(())
            } else {
                ControlFlow::Continue(())
            }
        })?;
        let (lines, lost) = (tail.state().lines, tail.state().skipped + tail.state().missed);
        let state = state(tail);
        let strain = budget.as_ref().and_then(Budget::strain);
        let (lines_before, lost_before) = std::mem::replace(&mut self.reported, (lines, lost));
        let (lines, lost) = (lines - lines_before, lost - lost_before + given_up);
        let told = Some((state.clone(), strain));
        if lines == 0 && lost == 0 && self.told == told {
            return Ok(Turn { heard: None, more });
        }
        self.told = told;
        let reached = self.tail.position();
        let place = Some(reached.to_text());
        let read = crate::clock::now();
        let heard = Heard { attempts, lines, unparsed, lost, strain, state, place, read };
        Ok(Turn { heard: Some((heard, reached)), more })
    }

    fn rest(&mut self) -> Option<Duration> {
        self.budget.as_mut().and_then(Budget::rest)
    }
}

fn state(tail: &LogTail) -> SourceState {
    match &tail.state().health {
        Health::Ok => SourceState::Ok,
        Health::Waiting if tail.reads_on_without_name() => SourceState::Waiting(format!(
            "{} no longer exists; its writer may still write to the file that was removed or \
            renamed, until it reopens its logs",
            tail.path().display()
        )),
        Health::Waiting => {
            SourceState::Waiting(format!("{} does not exist yet", tail.path().display()))
        }
        Health::Failed(why) => SourceState::Failed(why.clone()),
    }
}

#[cfg(test)]
mod tests;

//! A log file as a source: follows it, parses its lines, sends what means something.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{sleep, timeout};

use super::log_tail::{Health, LogTail, Position, Start};
use super::{Heard, Outlet, SourceState};
use crate::failure::Attempt;
use crate::hearing::Unparsed;
use crate::parse::suspect::looks_like_failure;
use crate::parse::{Parser, Reader, Said};

/// The pause after the file could not be followed at all.
const RETRY: Duration = Duration::from_secs(2);

/// How often the file's state is looked at when no line comes.
const LOOK: Duration = Duration::from_secs(1);

/// What to follow.
#[derive(Clone, Debug)]
pub struct LogFile {
    /// The log.
    pub path: PathBuf,
    /// What says what its lines mean.
    pub parser: Parser,
    /// Where an earlier process stood, as [`Heard::place`] said; otherwise what is in the log already
    /// is passed over.
    pub place: Option<String>,
    /// Whether the log was made only now, or while nobody looked: then it is read from its beginning,
    /// and the dates in it are looked at.
    pub is_new: bool,
    /// Of what was written meanwhile, attempts older than this by their date are passed over.
    pub max_age: Duration,
}

/// Follows a log for as long as somebody listens. Reads only as fast as it is listened
/// to: what is not read yet stays in the file.
pub async fn follow(log: LogFile, outlet: Outlet) {
    let path = &log.path;
    let mut position = log.place.as_deref().and_then(Position::from_text);
    while !outlet.is_closed() {
        let opened = match &position {
            Some(position) => LogTail::resume(path, position),
            None if log.is_new => LogTail::open(path, Start::Beginning),
            None => LogTail::open(path, Start::End),
        };
        let failure = match opened {
            Ok(mut tail) => match read(&mut tail, &log, &mut position, &outlet).await {
                Ok(()) => return,
                Err(error) => format!("read {}: {error}", path.display()),
            },
            Err(error) => error.to_string(),
        };
        if !outlet.send(Heard::state(SourceState::Failed(failure))).await {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Reads until nobody listens, or the file cannot be followed any more.
async fn read(
    tail: &mut LogTail,
    log: &LogFile,
    position: &mut Option<Position>,
    outlet: &Outlet,
) -> io::Result<()> {
    let (mut told, mut reported) = (None, 0);
    let mut reader = Reader::new(log.parser.clone());
    loop {
        let mut attempts: Vec<Attempt> = Vec::new();
        let (behind, now) = (tail.is_behind(), Timestamp::now());
        let behind = behind || log.is_new;
        let counts = |attempt: &Attempt| !behind || attempt.is_recent(now, log.max_age);
        let mut unparsed = Unparsed::default();
        let lines = tail.next_batch(|line| match reader.read(line) {
            Said::Attempt(attempt) if counts(&attempt) => attempts.extend(attempt.each()),
            Said::Nothing if log.parser.tells_all() && looks_like_failure(line) => {
                unparsed.add(line, now);
            }
            Said::Attempt(_) | Said::Nothing | Said::Passed(_) => {}
        });
        // Where it begins is told at once: a first start that is killed must not begin anew.
        let wait = if told.is_none() { Duration::ZERO } else { LOOK };
        if let Ok(read) = timeout(wait, lines).await {
            read?;
        }
        let lines = tail.state().lines.saturating_sub(reported);
        let state = match &tail.state().health {
            Health::Ok => SourceState::Ok,
            Health::Waiting if tail.reads_on_without_name() => SourceState::Waiting(format!(
                "there is no {} any more; its writer may still write to the file that was removed or \
                 renamed, until it is told to open its logs anew",
                tail.path().display()
            )),
            Health::Waiting => {
                SourceState::Waiting(format!("there is no {} yet", tail.path().display()))
            }
            Health::Failed(why) => SourceState::Failed(why.clone()),
        };
        if lines > 0 || !attempts.is_empty() || told.as_ref() != Some(&state) {
            reported = tail.state().lines;
            told = Some(state.clone());
            let reached = tail.position();
            let place = Some(reached.to_text());
            *position = Some(reached);
            if !outlet.send(Heard { attempts, lines, unparsed, lost: 0, state, place }).await {
                return Ok(());
            }
        }
    }
}

//! A log file as a source: follows it, parses its lines, sends what means something.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::log_tail::{Health, LogTail, Start};
use super::{Heard, Outlet, SourceState};
use crate::failure::Attempt;
use crate::parse::Parser;

/// The pause after the file could not be followed at all.
const RETRY: Duration = Duration::from_secs(2);

/// How often the file's state is looked at when no line comes.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the log at `path` for as long as somebody listens. Reads only as fast as it is listened
/// to: what is not read yet stays in the file.
pub async fn follow(path: PathBuf, parser: Parser, outlet: Outlet) {
    while !outlet.is_closed() {
        let failure = match LogTail::open(&path, Start::End) {
            Ok(mut tail) => match read(&mut tail, parser, &outlet).await {
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
async fn read(tail: &mut LogTail, parser: Parser, outlet: &Outlet) -> io::Result<()> {
    let (mut told, mut reported) = (None, 0);
    loop {
        let mut attempts: Vec<Attempt> = Vec::new();
        let lines = tail.next_batch(|line| attempts.extend(parser(line)));
        if let Ok(read) = timeout(LOOK, lines).await {
            read?;
        }
        let lines = tail.state().lines.saturating_sub(reported);
        let state = match &tail.state().health {
            Health::Ok => SourceState::Ok,
            Health::Waiting => {
                SourceState::Waiting(format!("there is no {} yet", tail.path().display()))
            }
            Health::Failed(why) => SourceState::Failed(why.clone()),
        };
        if lines > 0 || !attempts.is_empty() || told.as_ref() != Some(&state) {
            reported = tail.state().lines;
            told = Some(state.clone());
            if !outlet.send(Heard { attempts, lines, lost: 0, state }).await {
                return Ok(());
            }
        }
    }
}

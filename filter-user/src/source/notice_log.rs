//! Asterisk's NOTICE log as a source: follows the file, parses its lines, sends what means
//! something.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::log_tail::{Health, LogTail, Start};
use super::{Heard, SourceState};
use crate::failure::Attempt;
use crate::parse::asterisk;

/// The pause after the file could not be followed at all.
const RETRY: Duration = Duration::from_secs(2);

/// How often the file's state is looked at when no line comes.
const LOOK: Duration = Duration::from_secs(1);

/// Follows the log at `path` for as long as somebody listens. Reads only as fast as it is listened
/// to: what is not read yet stays in the file.
pub async fn follow(path: PathBuf, heard: mpsc::Sender<Heard>) {
    while !heard.is_closed() {
        let failure = match LogTail::open(&path, Start::End) {
            Ok(mut tail) => match read(&mut tail, &heard).await {
                Ok(()) => return,
                Err(error) => format!("read {}: {error}", path.display()),
            },
            Err(error) => error.to_string(),
        };
        let state = SourceState::Failed(failure);
        if heard.send(Heard { attempts: Vec::new(), lines: 0, state }).await.is_err() {
            return;
        }
        sleep(RETRY).await;
    }
}

/// Reads until nobody listens, or the file cannot be followed any more.
async fn read(tail: &mut LogTail, heard: &mpsc::Sender<Heard>) -> io::Result<()> {
    let (mut told, mut reported) = (None, 0);
    loop {
        let mut attempts: Vec<Attempt> = Vec::new();
        let lines = tail.next_batch(|line| attempts.extend(asterisk::parse_undecided(line)));
        if let Ok(read) = timeout(LOOK, lines).await {
            read?;
        }
        let lines = tail.state().lines.saturating_sub(reported);
        let state = match &tail.state().health {
            Health::Ok => SourceState::Ok,
            Health::Waiting => SourceState::Waiting,
            Health::Failed(why) => SourceState::Failed(why.clone()),
        };
        if lines > 0 || !attempts.is_empty() || told.as_ref() != Some(&state) {
            reported = tail.state().lines;
            told = Some(state.clone());
            if heard.send(Heard { attempts, lines, state }).await.is_err() {
                return Ok(());
            }
        }
    }
}

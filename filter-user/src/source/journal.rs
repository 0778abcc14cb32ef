//! The systemd journal as a source: follows sshd's entries through `journalctl`, sends what they
//! say, and keeps the place reached in a file, to go on from there after a restart.
//!
//! An entry that is older than what still counts is passed over: failures count from when they are
//! heard, and those of yesterday must ban nobody today.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};

use super::log_tail::lines::LineSplitter;
use super::{Heard, Outlet, SourceState};
use crate::failure::{Attempt, LoggedAt};
use crate::parse::sshd::{self, Entry};

/// The pause before `journalctl` is started again.
const RETRY: Duration = Duration::from_secs(2);

/// How often the place is written down at most. What came since is heard again after a crash.
const SAVE: Duration = Duration::from_secs(1);

/// Bytes that are read at a time.
const READ: usize = 64 * 1024;

/// The longest place that is believed. A cursor has some 200 bytes.
const CURSOR_MAX: usize = 1024;

/// What is said on standard error, of which that much is kept.
const ERROR_MAX: u64 = 1024;

/// What to follow.
#[derive(Clone, Debug)]
pub struct Journal {
    /// The program.
    pub journalctl: PathBuf,
    /// Where the place reached is kept.
    pub cursor_file: PathBuf,
    /// Entries older than this are passed over.
    pub max_age: Duration,
}

/// Follows the journal for as long as somebody listens.
pub async fn follow(journal: Journal, outlet: Outlet) {
    while !outlet.is_closed() {
        let state = match run(&journal, &outlet).await {
            Ok(None) => return,
            Ok(Some(why)) => SourceState::Failed(why),
            Err(error) if error.kind() == io::ErrorKind::NotFound => SourceState::Waiting(format!(
                "there is no {}: the journal cannot be read",
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

/// One run of `journalctl`: why it ended, or `None` when nobody listens.
async fn run(journal: &Journal, outlet: &Outlet) -> io::Result<Option<String>> {
    let cursor = read_cursor(&journal.cursor_file);
    let mut child = start(journal, cursor.as_deref())?;
    let stdout = child.stdout.take();
    let Some(mut stdout) = stdout else { return Ok(Some("it has no output".to_owned())) };
    let mut place = Place { file: &journal.cursor_file, unsaved: None, saved_at: Instant::now() };
    if !outlet.send(Heard::state(SourceState::Ok)).await {
        return Ok(None);
    }
    let listening = relay(&mut stdout, journal.max_age, &mut place, outlet).await?;
    place.save()?;
    if !listening {
        return Ok(None);
    }
    let (status, said) = end(child).await?;
    if cursor.is_some() && !status.success() && place.unsaved.is_none() {
        // A place that the journal does not know, or no longer.
        fs::remove_file(&journal.cursor_file).ok();
    }
    Ok(Some(format!("journalctl ended ({status}): {}", said.trim())))
}

fn start(journal: &Journal, cursor: Option<&str>) -> io::Result<Child> {
    let mut command = Command::new(&journal.journalctl);
    command.args(["--follow", "--no-pager", "--quiet", "--output=json"]);
    command.arg("--output-fields=MESSAGE,_COMM,_UID");
    match cursor {
        Some(cursor) => command.arg("--no-tail").arg(format!("--after-cursor={cursor}")),
        None => command.arg("--lines=0"),
    };
    // The terms with a `+` between them are alternatives.
    command.args(["_COMM=sshd", "+", "_COMM=sshd-session", "+", "_COMM=sshd-auth"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.kill_on_drop(true).spawn()
}

/// Sends what comes until the output ends (`true`) or nobody listens (`false`).
async fn relay(
    stdout: &mut ChildStdout,
    max_age: Duration,
    place: &mut Place<'_>,
    outlet: &Outlet,
) -> io::Result<bool> {
    let mut lines = LineSplitter::default();
    let mut buffer = vec![0; READ];
    loop {
        let read = if place.unsaved.is_some() {
            match timeout(SAVE, stdout.read(&mut buffer)).await {
                Ok(read) => read?,
                Err(_silent) => {
                    place.save()?;
                    continue;
                }
            }
        } else {
            stdout.read(&mut buffer).await?
        };
        if read == 0 {
            return Ok(true);
        }
        let now = Timestamp::now();
        let mut attempts = Vec::new();
        let mut cursor = None;
        let split = lines.split(&buffer[..read], &mut |line: &[u8]| {
            let Some(entry) = sshd::journal_entry(line) else { return };
            let Entry { cursor: at, attempt } = entry;
            attempts.extend(attempt.filter(|attempt| counts(attempt, now, max_age)));
            cursor = Some(at);
        });
        let heard =
            Heard { attempts, lines: split.lines, lost: split.skipped, state: SourceState::Ok };
        if (heard.lines > 0 || heard.lost > 0) && !outlet.send(heard).await {
            return Ok(false);
        }
        // Only behind what has been handed over.
        if let Some(cursor) = cursor {
            place.reach(cursor)?;
        }
    }
}

fn counts(attempt: &Attempt, now: Timestamp, max_age: Duration) -> bool {
    let at = attempt.logged_at.and_then(|at: LoggedAt| at.instant(&TimeZone::UTC));
    let max_age = SignedDuration::try_from(max_age).unwrap_or(SignedDuration::MAX);
    at.is_none_or(|at| now.duration_since(at) < max_age)
}

async fn end(mut child: Child) -> io::Result<(ExitStatus, String)> {
    let mut said = Vec::new();
    if let Some(stderr) = child.stderr.take() {
        stderr.take(ERROR_MAX).read_to_end(&mut said).await?;
    }
    let status = child.wait().await?;
    Ok((status, String::from_utf8_lossy(&said).into_owned()))
}

/// The place reached.
struct Place<'a> {
    file: &'a Path,
    unsaved: Option<String>,
    saved_at: Instant,
}

impl Place<'_> {
    fn reach(&mut self, cursor: String) -> io::Result<()> {
        self.unsaved = Some(cursor);
        if self.saved_at.elapsed() >= SAVE { self.save() } else { Ok(()) }
    }

    /// Writes it down in one step, so that a reader finds the old or the new one.
    fn save(&mut self) -> io::Result<()> {
        if let Some(cursor) = self.unsaved.take() {
            let new = self.file.with_extension("new");
            fs::write(&new, cursor)?;
            fs::rename(new, self.file)?;
            self.saved_at = Instant::now();
        }
        Ok(())
    }
}

/// The place in `file`, if there is one that can be believed.
fn read_cursor(file: &Path) -> Option<String> {
    let cursor = fs::read_to_string(file).ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"=;-".contains(&byte);
    (!cursor.is_empty() && cursor.len() <= CURSOR_MAX && cursor.bytes().all(plain))
        .then_some(cursor)
}

#[cfg(test)]
mod tests;

//! Follows one log file, and returns its lines, each once and in the order of writing.
//!
//! The file may be missing, rotated by move or by copy and truncate, deleted, or replaced, also by a
//! symbolic link. A file that loses its name is still read, because its writer keeps it open until told
//! to reopen (Asterisk: until `logger reload`). It is closed when it has been silent for a while after
//! its successor was written to. Must never deliver a line twice, a part of a line, or more than
//! [`LINE_MAX`] bytes, and the contents of a file must never make it keep memory.
//!
//! The order is kept across files: before any of them is read, newer files are measured before older
//! ones. So a line that is read from a new file was written after everything that is then read from the
//! old one.
//!
//! A later process continues from a [`Position`]: it looks for the files by their identity and their
//! beginning, also among those that rotation has made meanwhile.
//!
//! Everything except the waiting blocks on the disk, so it belongs on a separate thread; the amount for
//! each turn is bounded.

mod copies;
mod files;
pub(super) mod lines;
mod look_up;
mod names;
mod position;
mod siblings;
mod watch;

use std::collections::VecDeque;
use std::io;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::inotify::{InitFlags, Inotify};
use nix::time::{ClockId, clock_gettime};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, sleep_until};

use self::files::{FileId, Followed, Opened, parent};
pub use self::lines::LINE_MAX;
use self::position::kept_path;
pub use self::position::{FilePosition, Position};
use self::siblings::{Ended, SIBLINGS_MAX};
pub use self::siblings::{is_rotated, unrotated};
use self::watch::{Changed, Dir, Watcher};
use crate::clock::next_turn;

/// The most bytes that are read before others get their turn.
const TURN_BYTES: usize = 256 * 1024;

/// For file systems that send no events, and for directories that were replaced.
const POLL: Duration = Duration::from_secs(2);

/// How long a file without its name must be silent before it is closed.
const GRACE: Duration = Duration::from_mins(1);

/// The most silent files that are kept open.
const FILES_MAX: usize = 16;

/// If a directory was last changed this long before it was read, any later change must have changed its
/// time.
const UNCHANGED: Duration = Duration::from_secs(2);

/// How long a copy may take until it contains the beginning.
const COPYING: Duration = Duration::from_secs(10);

/// How often names are read again because they have changed meanwhile.
const RENAME_RETRIES: usize = 16;

/// Where to begin in a file that already exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At its beginning.
    Beginning,
    /// At its end.
    End,
}

/// Whether there is a file to read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// The file is read.
    Ok,
    /// There is no file with that name yet, or at the moment.
    Waiting,
    /// The file cannot be read, for this reason. It is tried again and again.
    Failed(String),
}

/// The state of following a log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// Whether there is a file to read.
    pub health: Health,
    /// Lines delivered.
    pub lines: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Lines that were left out: longer than [`LINE_MAX`], or incomplete when the file disappeared.
    pub skipped: u64,
    /// How often another file took the name.
    pub rotations: u64,
    /// How often a file was truncated.
    pub truncations: u64,
    /// Files that had the name and were gone before they could be opened.
    pub missed: u64,
}

/// One log file, followed by name.
#[derive(Debug)]
pub struct LogTail {
    path: PathBuf,
    inotify: AsyncFd<Watcher>,
    /// The directory of the name and, if that is a symbolic link, those of its targets, up to the file.
    dirs: Vec<Dir>,
    /// The times of these directories when the names were last read.
    changed: Vec<Option<Changed>>,
    /// Files that had a name in a directory to which no link leads any more.
    left: Vec<Opened>,
    /// The file that the name led to, if it was behind a symbolic link, when all files were decided.
    target: Option<PathBuf>,
    /// The files that have or had the name, the oldest first.
    files: VecDeque<Followed>,
    /// The file that has the name.
    current: Option<FileId>,
    /// Files that were read to their end and closed, while they still exist under another name.
    let_go: Vec<Ended>,
    names_changed: bool,
    /// Whether to look at the files now even without an event.
    polls: bool,
    /// When the names were last read: files written since may have been rotated unseen.
    looked: SystemTime,
    /// Files that may be copies in the making; this cannot be decided yet.
    undecided: Vec<FileId>,
    next_poll: Instant,
    grace: Duration,
    buffer: Box<[u8]>,
    /// Bytes that an earlier process left unread.
    backlog: u64,
    state: State,
}

impl LogTail {
    /// Follows `path`. A file that appears under that name later is read from its beginning.
    ///
    /// # Errors
    ///
    /// If the directory of `path` cannot be watched.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with IO and time enabled.
    pub fn open(path: impl Into<PathBuf>, start: Start) -> io::Result<Self> {
        let mut tail = Self::watching(path)?;
        tail.begin(start)?;
        Ok(tail)
    }

    /// Follows `path` from the position of another `LogTail`.
    ///
    /// # Errors
    ///
    /// The same as for [`open`](Self::open).
    ///
    /// # Panics
    ///
    /// The same as for [`open`](Self::open).
    pub fn resume(path: impl Into<PathBuf>, position: &Position) -> io::Result<Self> {
        let mut tail = Self::watching(path)?;
        tail.looked = position.at();
        let undecided = position.undecided.iter();
        tail.undecided = undecided.map(|&(device, inode)| FileId { device, inode }).collect();
        tail.target = position.target().map(PathBuf::from);
        tail.watch_links();
        for file in &position.files {
            tail.find(file)?;
        }
        tail.begin(Start::Beginning)?;
        tail.backlog = tail.files.iter().map(|f| f.size.saturating_sub(f.position)).sum();
        Ok(tail)
    }

    /// Whether the file that had the name has lost it and is still read, because its writer may have it
    /// open.
    pub fn reads_on_without_name(&self) -> bool {
        self.current.is_none() && !self.files.is_empty()
    }

    /// How many bytes are waiting to be read, as far as is known.
    pub fn waiting(&self) -> u64 {
        self.files.iter().map(|file| file.size.saturating_sub(file.position)).sum()
    }

    /// Whether the next lines were written before this began to follow.
    pub fn is_behind(&self) -> bool {
        self.state.bytes < self.backlog
    }

    fn watching(path: impl Into<PathBuf>) -> io::Result<Self> {
        let path = path.into();
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        #[expect(
            deprecated,
            reason = "`register` is unsafe for descriptors that can close; this one is owned"
        )]
        let inotify = AsyncFd::with_interest(Watcher(inotify), Interest::READABLE)?;
        let dir = Dir::watch(&inotify.get_ref().0, &path).map_err(|error| {
            let dir = parent(&path).display();
            io::Error::new(error.kind(), format!("cannot watch the directory {dir}: {error}"))
        })?;
        Ok(Self {
            path,
            inotify,
            dirs: vec![dir],
            changed: Vec::new(),
            left: Vec::new(),
            target: None,
            files: VecDeque::new(),
            current: None,
            let_go: Vec::new(),
            names_changed: false,
            polls: false,
            looked: file_time(),
            undecided: Vec::new(),
            next_poll: next_turn(POLL),
            grace: GRACE,
            buffer: vec![0; LINE_MAX].into_boxed_slice(),
            backlog: 0,
            state: State {
                health: Health::Waiting,
                lines: 0,
                bytes: 0,
                skipped: 0,
                rotations: 0,
                truncations: 0,
                missed: 0,
            },
        })
    }

    fn begin(&mut self, start: Start) -> io::Result<()> {
        if !self.look_up_names(start)? {
            let busy = format!("{} is renamed too often", self.path.display());
            return Err(io::Error::new(io::ErrorKind::ResourceBusy, busy));
        }
        Ok(())
    }

    /// The position after the last line that was delivered.
    pub fn position(&self) -> Position {
        let files = self.files.iter().map(|file| FilePosition {
            device: file.id.device,
            inode: file.id.inode,
            offset: file.delivered(),
            in_mid_line: file.lines.is_skipping(),
            prefix: file.prefix.clone(),
            path: file.path.clone(),
        });
        let undecided = self.undecided.iter().map(|id| (id.device, id.inode));
        let target = self.target.as_deref().filter(|_| !self.undecided.is_empty());
        let mut position = Position::new(self.looked, files.collect());
        position.undecided = undecided.take(SIBLINGS_MAX).collect();
        position.target = target.and_then(kept_path);
        position
    }

    /// The path that is followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The state of following the log.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Waits until there may be something to read. Safe to cancel.
    ///
    /// # Errors
    ///
    /// If the kernel's events cannot be read.
    pub async fn wait(&mut self) -> io::Result<()> {
        let events = loop {
            tokio::select! {
                ready = self.inotify.readable() => {
                    match ready?.try_io(|watcher| watcher.get_ref().read()) {
                        Ok(events) => break events?,
                        Err(_would_block) => {}
                    }
                }
                () = sleep_until(self.next_poll) => {
                    self.next_poll = next_turn(POLL);
                    self.polls = true;
                    return Ok(());
                }
            }
        };
        self.handle(&events);
        Ok(())
    }

    /// Reads up to [`TURN_BYTES`], or until `each`, which is called for every line without its newline,
    /// has enough; returns whether there is more. Blocks on the disk.
    ///
    /// # Errors
    ///
    /// If the kernel's events cannot be read. Problems with the file are in [`Self::state`].
    pub fn turn(&mut self, each: &mut impl FnMut(&[u8]) -> ControlFlow<()>) -> io::Result<bool> {
        if std::mem::take(&mut self.polls) {
            self.watch_dirs_again();
            self.names_changed = true;
        }
        if self.names_changed {
            self.look_up_names(Start::Beginning)?;
        }
        self.measure()?;
        if self.names_changed {
            // The old contents of a truncated file are read before its new ones.
            self.look_up_names(Start::Beginning)?;
        }
        let mut budget = TURN_BYTES;
        let now = Instant::now();
        let mut enough = false;
        for file in &mut self.files {
            while !enough && file.position < file.size && budget > 0 {
                let read = match file.read(&mut self.buffer, budget) {
                    Ok(0) => break,
                    Ok(read) => read,
                    Err(error) => {
                        self.state.health = Health::Failed(error.to_string());
                        break;
                    }
                };
                if !file.prefix.is_of(&file.file) {
                    // Truncated and rewritten since it was measured: these bytes do not follow the
                    // previous ones.
                    file.position -= read as u64;
                    file.size = 0;
                    self.names_changed = true;
                    break;
                }
                file.last_read = now;
                budget -= read;
                let split = file.lines.split(&self.buffer[..read], each);
                // The rest, after `each` had enough, is read again later.
                enough = split.enough;
                file.position -= (read - split.read) as u64;
                self.state.bytes += split.read as u64;
                self.state.lines += split.lines;
                self.state.skipped += split.skipped;
            }
        }
        self.let_go(now);
        Ok(budget == 0 || enough || self.names_changed)
    }

    /// Measures the files, the newest first.
    fn measure(&mut self) -> io::Result<()> {
        let mut truncated = Vec::new();
        for (place, file) in self.files.iter_mut().enumerate().rev() {
            let Ok(metadata) = file.file.metadata() else {
                continue;
            };
            let size = metadata.len();
            // A truncated file may already be as long as before.
            let written = metadata.modified().ok();
            let grew = size != file.size || written != file.written;
            file.written = written;
            let known = std::mem::replace(&mut file.size, size);
            if size < file.position || (grew && !file.prefix.is_of(&file.file)) {
                self.state.truncations += 1;
                let prefix = std::mem::take(&mut file.prefix);
                let lines = std::mem::take(&mut file.lines);
                let position = std::mem::take(&mut file.position);
                let unread = known > position || lines.holds_part();
                truncated.push((place, prefix, position, lines, unread));
            }
            if grew {
                file.prefix.extend(&file.file, size);
            }
        }
        // From the last to the first, so that the indices stay valid.
        for (place, prefix, position, lines, unread) in truncated {
            if !self.find_copy(place, prefix, position, lines)? {
                self.state.skipped += u64::from(unread);
            }
            self.names_changed = true;
        }
        Ok(())
    }

    /// Closes files without the name that are no longer written to.
    fn let_go(&mut self, now: Instant) {
        let Some(newest) = self.files.back() else {
            return;
        };
        if Some(newest.id) != self.current || newest.size == 0 {
            return;
        }
        let mut surplus = self.files.len().saturating_sub(FILES_MAX);
        let current = newest.id;
        let inotify = &self.inotify.get_ref().0;
        let (state, let_go) = (&mut self.state, &mut self.let_go);
        self.files.retain(|file| {
            let drained = file.position >= file.size;
            let silent = now.duration_since(file.last_read) >= self.grace;
            if file.id == current || !drained || !(silent || surplus > 0) {
                return true;
            }
            surplus = surplus.saturating_sub(1);
            state.skipped += u64::from(file.lines.holds_part());
            file.unwatch(inotify);
            let_go.push(Ended::new(file.id, &file.file));
            false
        });
    }
}

/// The time that the kernel would give a file that is created now: it lags behind the clock by a tick,
/// and by more on a virtual machine that was not running.
fn file_time() -> SystemTime {
    let coarse = clock_gettime(ClockId::CLOCK_REALTIME_COARSE).ok().map(Duration::from);
    coarse.map_or_else(SystemTime::now, |time| UNIX_EPOCH + time)
}

#[cfg(test)]
mod tests;

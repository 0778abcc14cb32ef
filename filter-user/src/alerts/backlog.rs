//! The events of an action for which there is no room in memory: lines of JSON in a file without a name, in their
//! order.
//!
//! What is read and written is a [`Job`] for another thread; this module only keeps the places. The first job takes
//! what an earlier daemon has [kept](super::kept).
//!
//! Must never wait for a disk, or grow without a bound.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use api::ActionEvent;

use super::kept::{self, BYTES_MAX, EVENTS_MAX, Kept, Rest};

/// The most bytes that wait to be written.
const BUFFER_MAX: usize = 4 << 20;

/// What is read at a time: more than the longest event has.
const READ: usize = 128 << 10;

/// The events. They are in the file, and the latest in the buffer.
#[derive(Debug)]
pub(super) struct Backlog {
    path: PathBuf,
    /// Where an earlier daemon may have kept events, until they are taken.
    kept: Option<PathBuf>,
    file: Option<Arc<File>>,
    /// The place of the first event in the file, and the end of the last one.
    begin: u64,
    end: u64,
    in_file: u64,
    buffer: Vec<u8>,
    in_buffer: u64,
    /// The events in a job that is being written.
    in_job: u64,
    is_busy: bool,
    problem: Option<String>,
}

/// What has to be done with the file.
pub(super) enum Job {
    Take(PathBuf),
    Write { path: PathBuf, file: Option<Arc<File>>, at: u64, lines: Vec<u8> },
    Read { file: Arc<File>, at: u64, length: usize },
}

/// How it went.
pub(super) enum Done {
    Taken(io::Result<Option<Kept>>),
    Written { file: Option<Arc<File>>, lines: Vec<u8>, result: io::Result<()> },
    Read(io::Result<Vec<u8>>),
}

impl Job {
    /// Does it, which may take as long as the disk takes.
    pub(super) fn run(self) -> Done {
        match self {
            Self::Take(path) => Done::Taken(kept::take(&path)),
            Self::Write { path, file, at, lines } => {
                let file = match file.map_or_else(|| nameless(&path).map(Arc::new), Ok) {
                    Ok(file) => file,
                    Err(error) => {
                        return Done::Written { file: None, lines, result: Err(error) };
                    }
                };
                let result = file.write_all_at(&lines, at);
                Done::Written { file: Some(file), lines, result }
            }
            Self::Read { file, at, length } => {
                let mut bytes = vec![0; length];
                Done::Read(file.read_exact_at(&mut bytes, at).map(|()| bytes))
            }
        }
    }
}

/// A new file that vanishes when it is closed, however the daemon ends.
fn nameless(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).create_new(true).mode(0o600).open(path)?;
    fs::remove_file(path)?;
    Ok(file)
}

impl Backlog {
    /// An empty one, whose file is made at `path` if it is needed. Events may be kept at `kept`.
    pub(super) fn new(path: PathBuf, kept: PathBuf) -> Self {
        Self {
            path,
            kept: Some(kept),
            file: None,
            begin: 0,
            end: 0,
            in_file: 0,
            buffer: Vec::new(),
            in_buffer: 0,
            in_job: 0,
            is_busy: false,
            problem: None,
        }
    }

    /// The number of events.
    pub(super) fn len(&self) -> u64 {
        self.in_file + self.in_job + self.in_buffer
    }

    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a new event would be behind others, which may be in a file that is not read yet.
    pub(super) fn is_ahead(&self) -> bool {
        !self.is_empty() || self.kept.is_some()
    }

    /// Why the file cannot be used, once.
    pub(super) fn take_problem(&mut self) -> Option<String> {
        self.problem.take()
    }

    /// Takes an event. Returns whether there was room.
    pub(super) fn push(&mut self, event: &ActionEvent) -> bool {
        let bytes = self.end - self.begin + self.buffer.len() as u64;
        if self.len() >= EVENTS_MAX || bytes >= BYTES_MAX || self.buffer.len() >= BUFFER_MAX {
            return false;
        }
        let length = self.buffer.len();
        if serde_json::to_writer(&mut self.buffer, event).is_err() {
            self.buffer.truncate(length);
            return false;
        }
        self.buffer.push(b'\n');
        self.in_buffer += 1;
        true
    }

    /// The next thing to do, if there is room for this many events in memory.
    pub(super) fn job(&mut self, room: usize) -> Option<Job> {
        if self.is_busy {
            return None;
        }
        let job = if let Some(kept) = &self.kept {
            Job::Take(kept.clone())
        } else if room > 0 && self.in_file > 0 {
            let file = Arc::clone(self.file.as_ref()?);
            let left = usize::try_from(self.end - self.begin).unwrap_or(usize::MAX);
            Job::Read { file, at: self.begin, length: left.min(READ) }
        } else if self.buffer.is_empty() || (room > 0 && self.in_file == 0) {
            return None;
        } else {
            self.in_job = std::mem::take(&mut self.in_buffer);
            Job::Write {
                path: self.path.clone(),
                file: self.file.clone(),
                at: self.end,
                lines: std::mem::take(&mut self.buffer),
            }
        };
        self.is_busy = true;
        Some(job)
    }

    /// The first events, at most this many, if they are still in memory.
    pub(super) fn first(&mut self, room: usize) -> Vec<ActionEvent> {
        if self.is_busy || self.in_file > 0 || self.kept.is_some() {
            return Vec::new();
        }
        let (events, length, lines) = parsed(&self.buffer, room);
        self.buffer.drain(..length);
        self.in_buffer = self.in_buffer.saturating_sub(lines);
        events
    }

    /// Takes the outcome of a job. Returns the first events, at most this many, and the number of those that are lost.
    pub(super) fn done(&mut self, done: Done, room: usize) -> (Vec<ActionEvent>, u64) {
        self.is_busy = false;
        match done {
            Done::Taken(taken) => {
                self.kept = None;
                let Ok(Some(Kept { file, begin, end, events, lost })) = taken else {
                    return (Vec::new(), 0);
                };
                self.file = Some(Arc::new(file));
                (self.begin, self.end, self.in_file) = (begin, end, events);
                (Vec::new(), lost)
            }
            Done::Written { file, lines, result } => {
                self.file = file;
                let events = std::mem::take(&mut self.in_job);
                match result {
                    Ok(()) => {
                        self.end += lines.len() as u64;
                        self.in_file += events;
                    }
                    Err(error) => {
                        // They stay in memory, which may be full soon.
                        self.problem =
                            Some(format!("cannot write {}: {error}", self.path.display()));
                        self.buffer.splice(..0, lines);
                        self.in_buffer += events;
                    }
                }
                (Vec::new(), 0)
            }
            Done::Read(Ok(_)) if room == 0 => (Vec::new(), 0),
            Done::Read(Ok(bytes)) => {
                let (events, length, lines) = parsed(&bytes, room);
                self.begin += length as u64;
                self.in_file = self.in_file.saturating_sub(lines);
                let lost = lines - events.len() as u64;
                if self.in_file == 0 || length == 0 {
                    let rest = self.forget();
                    return (events, lost + rest);
                }
                (events, lost)
            }
            Done::Read(Err(error)) => {
                self.problem = Some(format!("cannot read {}: {error}", self.path.display()));
                (Vec::new(), self.forget())
            }
        }
    }

    /// The file with the place of its events, their number, and the lines after them. Without what a job writes.
    pub(super) fn rest(&mut self) -> Rest {
        let file = self.file.take().filter(|_| self.in_file > 0);
        let lines = std::mem::take(&mut self.buffer);
        Rest {
            file,
            begin: self.begin,
            end: self.end,
            events: self.in_file + self.in_buffer,
            lines,
        }
    }

    /// Begins with another file. Returns the number of events in the old one.
    fn forget(&mut self) -> u64 {
        (self.file, self.begin, self.end) = (None, 0, 0);
        std::mem::take(&mut self.in_file)
    }
}

/// The events of the first lines, at most this many, and the length and number of the lines.
fn parsed(bytes: &[u8], most: usize) -> (Vec<ActionEvent>, usize, u64) {
    let (mut events, mut length, mut lines) = (Vec::new(), 0, 0);
    for line in bytes.split_inclusive(|byte| *byte == b'\n').take(most) {
        let Some(line) = line.strip_suffix(b"\n") else { break };
        (length, lines) = (length + line.len() + 1, lines + 1);
        events.extend(serde_json::from_slice::<ActionEvent>(line).ok());
    }
    (events, length, lines)
}

#[cfg(test)]
mod tests {
    use api::BanKind;
    use proptest::prelude::*;
    use tempfile::TempDir;

    use super::*;

    fn event(number: u64) -> ActionEvent {
        ActionEvent {
            event: "ban".to_owned(),
            network: number.to_string(),
            jail: "sshd".to_owned(),
            scope: "sip".to_owned(),
            kind: BanKind::Ban,
            proven: true,
            enforcing: true,
            since: String::new(),
            until: None,
            lifted: false,
            reason: "a\nb\"".repeat(usize::try_from(number % 100).unwrap()),
            evidence: Vec::new(),
        }
    }

    /// One for which nothing is kept.
    fn new(directory: &Path) -> Backlog {
        let mut backlog = Backlog::new(directory.join("action"), directory.join("kept"));
        let job = backlog.job(0).unwrap();
        assert_eq!(backlog.done(job.run(), 0), (Vec::new(), 0));
        assert!(backlog.take_problem().is_none() && !backlog.is_ahead());
        backlog
    }

    #[test]
    fn the_file_has_no_name_and_only_the_last_ones_are_lost() {
        let directory = TempDir::new().unwrap();
        let mut backlog = new(directory.path());
        let mut pushed = 0;
        while backlog.push(&event(0)) {
            pushed += 1;
            if pushed % 5000 == 0
                && let Some(job) = backlog.job(0)
            {
                assert_eq!(backlog.done(job.run(), 0).1, 0);
                assert!(fs::read_dir(directory.path()).unwrap().next().is_none());
            }
        }
        assert_eq!((pushed, backlog.len()), (EVENTS_MAX, EVENTS_MAX));
    }

    #[test]
    fn a_full_disk_loses_nothing_that_memory_has_room_for() {
        let mut backlog = new(Path::new("/nonexistent"));
        for number in 0..10 {
            assert!(backlog.push(&event(number)));
        }
        let job = backlog.job(0).unwrap();
        assert!(backlog.push(&event(10)));
        assert_eq!(backlog.done(job.run(), 0), (Vec::new(), 0));
        assert!(backlog.take_problem().is_some_and(|why| why.contains("/nonexistent/action")));
        assert_eq!(backlog.first(100), (0..11).map(event).collect::<Vec<_>>());
        assert!(backlog.is_empty());
    }

    proptest! {
        /// Whatever is taken, written and read in whatever order: all come out once, in their order.
        #[test]
        fn nothing_is_lost_or_out_of_order(steps in proptest::collection::vec((0..4_u8, 0..40_usize), 0..200)) {
            let directory = TempDir::new().unwrap();
            let mut backlog = new(directory.path());
            let (mut pushed, mut out) = (0, Vec::new());
            let mut job: Option<Job> = None;
            for (step, size) in steps.into_iter().chain([(3, 1000); 40]).chain([(1, 100_000), (2, 100_000), (3, 100_000)]) {
                match step {
                    0 => for _ in 0..size {
                        prop_assert!(backlog.push(&event(pushed)));
                        pushed += 1;
                    },
                    1 => job = job.or_else(|| backlog.job(size)),
                    2 => if let Some(job) = job.take() {
                        let (events, lost) = backlog.done(job.run(), size);
                        prop_assert_eq!(lost, 0);
                        out.extend(events);
                    },
                    _ => {
                        out.extend(backlog.first(size));
                        job = job.or_else(|| backlog.job(size));
                        if let Some(job) = job.take() {
                            let (events, lost) = backlog.done(job.run(), size);
                            prop_assert_eq!(lost, 0);
                            out.extend(events);
                        }
                    }
                }
                prop_assert_eq!(out.len() as u64 + backlog.len(), pushed);
            }
            prop_assert_eq!(out, (0..pushed).map(event).collect::<Vec<_>>());
        }
    }
}

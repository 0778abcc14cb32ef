//! The queue of log lines: a thread writes them, so that a reader that has stopped reading delays nothing
//! else.
//!
//! Adding a line never waits. While the reader does not read, lines wait as long as there is room; the
//! others are lost and counted.
//!
//! Must never delay the thread that logs.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// The most bytes that wait for the reader.
const WAITING_MAX: usize = 256 * 1024;

/// How long the thread waits before it writes again to a full non-blocking pipe.
const FULL: Duration = Duration::from_millis(50);

/// The lines that wait. Clones share one queue.
#[derive(Clone, Debug)]
pub(crate) struct LogQueue(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    waiting: Mutex<Waiting>,
    /// Signalled when there is something to write or to ask for.
    awake: Condvar,
    /// Signalled when everything is written.
    idle: Condvar,
    lost: AtomicU64,
    /// Makes the line that reports a number of lost lines.
    say: fn(u64) -> String,
}

#[derive(Debug, Default)]
struct Waiting {
    lines: VecDeque<String>,
    bytes: usize,
    /// How many lines were lost since the last report.
    lost: u64,
    is_writing: bool,
    /// Whether the thread must ask for more lines.
    is_asked: bool,
}

/// Called when the thread is idle: returns lines, and how long to wait before the next call.
pub(crate) type Idle = fn() -> (Vec<String>, Option<Duration>);

impl LogQueue {
    /// Starts the thread that writes to `out`. `say` makes the line that reports lost lines; `idle` is called
    /// for more lines whenever all are written.
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub(crate) fn start(
        out: impl Write + Send + 'static,
        say: fn(u64) -> String,
        idle: Idle,
    ) -> io::Result<Self> {
        let queue = Self(Arc::new(Shared {
            waiting: Mutex::default(),
            awake: Condvar::new(),
            idle: Condvar::new(),
            lost: AtomicU64::new(0),
            say,
        }));
        let writer = queue.clone();
        thread::Builder::new().name("log".to_owned()).spawn(move || writer.write_all(out, idle))?;
        Ok(queue)
    }

    /// Adds a line, or loses it if there is no room.
    pub(crate) fn push(&self, line: String) {
        let mut waiting = self.lock();
        let notice = (waiting.lost > 0).then(|| (self.0.say)(waiting.lost));
        let needed = line.len() + notice.as_ref().map_or(0, String::len);
        if waiting.bytes.saturating_add(needed) > WAITING_MAX {
            waiting.lost = waiting.lost.saturating_add(1);
            drop(waiting);
            self.0.lost.fetch_add(1, Ordering::Relaxed);
            return;
        }
        waiting.bytes += needed;
        if let Some(notice) = notice {
            waiting.lost = 0;
            waiting.lines.push_back(notice);
        }
        waiting.lines.push_back(line);
        drop(waiting);
        self.0.awake.notify_one();
    }

    /// Makes the thread ask for more lines.
    pub(crate) fn wake(&self) {
        self.lock().is_asked = true;
        self.0.awake.notify_one();
    }

    /// How many lines were lost.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Waits until everything is written, for at most `longest`. Returns whether it is.
    pub(crate) fn flush(&self, longest: Duration) -> bool {
        let is_busy = |waiting: &mut Waiting| {
            waiting.is_writing || !waiting.lines.is_empty() || waiting.lost > 0
        };
        let waited = self.0.idle.wait_timeout_while(self.lock(), longest, is_busy);
        waited.is_ok_and(|(_, timeout)| !timeout.timed_out())
    }

    fn write_all(&self, mut out: impl Write, idle: Idle) {
        loop {
            let line = self.next(idle);
            if write(&mut out, line.as_bytes()).is_err() {
                // The reader has gone.
                self.0.lost.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Waits for the next line.
    fn next(&self, idle: Idle) -> String {
        let mut waiting = self.lock();
        waiting.is_writing = false;
        loop {
            if let Some(line) = waiting.lines.pop_front() {
                waiting.bytes = waiting.bytes.saturating_sub(line.len());
                waiting.is_writing = true;
                return line;
            }
            if waiting.lost > 0 {
                let line = (self.0.say)(std::mem::take(&mut waiting.lost));
                waiting.is_writing = true;
                return line;
            }
            self.0.idle.notify_all();
            waiting.is_asked = false;
            drop(waiting);
            let (more, wait) = idle();
            waiting = self.lock();
            if !more.is_empty() {
                waiting.bytes += more.iter().map(String::len).sum::<usize>();
                waiting.lines.extend(more);
            }
            if !waiting.lines.is_empty() || waiting.lost > 0 || waiting.is_asked {
                continue;
            }
            // Without a time limit, only a line or a wake-up ends the wait.
            waiting = match wait {
                None => self.0.awake.wait(waiting).unwrap_or_else(PoisonError::into_inner),
                Some(wait) => self
                    .0
                    .awake
                    .wait_timeout(waiting, wait)
                    .map_or_else(|poisoned| poisoned.into_inner().0, |(waiting, _)| waiting),
            };
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.0.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes a whole line, even if another process has made the pipe non-blocking.
fn write(out: &mut impl Write, mut line: &[u8]) -> io::Result<()> {
    while !line.is_empty() {
        match out.write(line) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(written) => line = line.get(written..).unwrap_or_default(),
            Err(error) if error.kind() == ErrorKind::WouldBlock => thread::sleep(FULL),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    out.flush()
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead as _, BufReader, PipeReader, pipe};
    use std::time::Instant;

    use super::*;

    fn say(lost: u64) -> String {
        format!("{lost} lost\n")
    }

    fn nothing() -> (Vec<String>, Option<Duration>) {
        (Vec::new(), None)
    }

    fn queue() -> (LogQueue, PipeReader) {
        let (reader, writer) = pipe().unwrap();
        (LogQueue::start(writer, say, nothing).unwrap(), reader)
    }

    #[test]
    fn lines_come_in_order() {
        let (queue, reader) = queue();
        for n in 0..100 {
            queue.push(format!("{n}\n"));
        }
        assert!(queue.flush(Duration::from_secs(10)));
        let lines: Vec<String> =
            BufReader::new(reader).lines().take(100).map(Result::unwrap).collect();
        assert!(lines.iter().map(|line| line.parse::<u32>().unwrap()).eq(0..100));
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn a_reader_that_stands_still_holds_up_nobody_and_is_told_what_was_lost() {
        let (queue, reader) = queue();
        let line = |n: usize| format!("{n:>999}\n");
        let began = Instant::now();
        for n in 0..1000 {
            queue.push(line(n));
        }
        assert!(!queue.flush(Duration::from_millis(20)));
        assert!(began.elapsed() < Duration::from_secs(5));
        let lost = queue.lost();
        // The pipe's capacity plus the queue's.
        assert!((1000 - 262 - 70..=1000 - 262).contains(&lost), "{lost}");
        // The lines come in order, and each gap is reported where it is.
        let mut lines = BufReader::new(reader).lines().map(Result::unwrap);
        let (mut next, mut said) = (0_u64, 0);
        while next < 1000 {
            let line = lines.next().unwrap();
            if let Some(count) = line.strip_suffix(" lost") {
                let count: u64 = count.parse().unwrap();
                (next, said) = (next + count, said + count);
            } else {
                assert_eq!(line.trim(), next.to_string());
                next += 1;
            }
        }
        assert_eq!((next, said), (1000, lost));
        queue.push("moves\n".to_owned());
        assert_eq!(lines.next().unwrap(), "moves");
    }

    #[test]
    fn a_reader_that_has_left_is_no_failure() {
        let (queue, reader) = queue();
        drop(reader);
        queue.push("nobody\n".to_owned());
        assert!(queue.flush(Duration::from_secs(10)));
        assert_eq!(queue.lost(), 1);
    }
}

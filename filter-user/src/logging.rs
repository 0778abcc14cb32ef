//! The log on standard error, with the levels that `RINGFENCE_LOG` sets. Each line begins with the time,
//! or with a priority if systemd's journal reads it, which adds the time itself.
//!
//! Logging never delays the caller (`log_queue`), and the log's growth is bounded (`log_budget`), except
//! for manual changes and the levels `debug` and `trace`. A crate reads only the levels in the variable:
//! if it also wrote the log, there would be no such bound.
//!
//! Must never delay the thread that logs, or omit a manual change.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{env, fs, io};

use env_filter::{Builder, Filter};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record, warn};

use crate::clock::{KernelTime, Rfc3339};
use crate::log_budget::{LINE_MAX, LogBudget, MANUAL, cut};
use crate::log_queue::LogQueue;

/// The environment variable that sets the log levels.
pub const VARIABLE: &str = "RINGFENCE_LOG";

/// The level if the variable is not set.
const DEFAULT: LevelFilter = LevelFilter::Info;

/// How long a shutdown waits for the reader of the log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of the daemon, once it has started.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// How much the log may grow.
static BUDGET: Mutex<Option<LogBudget>> = Mutex::new(None);

/// Starts logging.
///
/// # Errors
///
/// If the thread cannot be started.
pub fn start() -> io::Result<()> {
    let asked = env::var(VARIABLE).unwrap_or_default();
    let wrong = wrong(&asked);
    let mut builder = Builder::new();
    if asked.trim().is_empty() || wrong.is_some() {
        builder.filter_level(DEFAULT);
    } else {
        // A value that only names modules must not silence the errors of all others.
        builder.filter_level(LevelFilter::Error).parse(&asked);
    }
    let filter = builder.build();
    let (greatest, is_journal) = (filter.filter(), is_journal());
    let lost = if is_journal { lost_for_journal } else { lost_with_time };
    let idle = if is_journal { summaries_for_journal } else { summaries_with_time };
    let queue = LogQueue::start(io::stderr(), lost, idle)?;
    let queue = QUEUE.get_or_init(|| queue);
    if log::set_boxed_logger(Box::new(Bounded { filter, is_journal, queue })).is_ok() {
        log::set_max_level(greatest);
    }
    if let Some(wrong) = wrong {
        warn!(
            "{VARIABLE}: `{wrong}` is not a level, so the level is `info`; use `error`, `warn`, `info`, \
            `debug`, `trace` or `off`, alone or as `MODULE=LEVEL`"
        );
    }
    Ok(())
}

/// Waits until the log has been written, but not for a reader that has stopped reading.
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_LINES);
    }
}

/// The state of the log for `status`: how many lines were lost because its reader had stopped reading.
pub fn report() -> api::Log {
    api::Log { lost: QUEUE.get().map_or(0, LogQueue::lost) }
}

/// Prints a message of a command to standard error; once the log has started, through its queue.
pub fn say(level: Level, text: &str) {
    let text = command_says(level, text);
    if let Some(queue) = QUEUE.get() {
        queue.push(text);
        finish();
        return;
    }
    #[expect(clippy::print_stderr, reason = "the one place where errors and warnings are printed")]
    {
        eprint!("{text}");
    }
}

/// The logger.
struct Bounded {
    /// Decides which records are logged.
    filter: Filter,
    is_journal: bool,
    queue: &'static LogQueue,
}

impl Bounded {
    fn line(&self, level: Level, text: &str) -> String {
        if self.is_journal { for_journal(level, text) } else { with_time(level, text) }
    }
}

impl Log for Bounded {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.filter.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.filter.matches(record) {
            return;
        }
        let text = record.args().to_string();
        let shown = cut(&text, LINE_MAX);
        let more = if shown.len() < text.len() { "..." } else { "" };
        let line = self.line(record.level(), &format!("{shown}{more}"));
        if record.level() > Level::Info || record.target() == MANUAL {
            self.queue.push(line);
            return;
        }
        let site = (record.module_path_static().unwrap_or_default(), record.line().unwrap_or(0));
        let (due, is_admitted) = budget(|budget, now| {
            (budget.take_due(now), budget.admits(site, record.level(), (&text, line.len()), now))
        });
        for (level, text) in due {
            self.queue.push(self.line(level, &text));
        }
        if is_admitted {
            self.queue.push(line);
        } else {
            // The thread logs the summary when the minute is over.
            self.queue.wake();
        }
    }

    fn flush(&self) {
        finish();
    }
}

/// Asks the budget.
fn budget<T>(ask: impl FnOnce(&mut LogBudget, KernelTime) -> T) -> T {
    let mut budget: MutexGuard<'_, Option<LogBudget>> =
        BUDGET.lock().unwrap_or_else(PoisonError::into_inner);
    ask(budget.get_or_insert_default(), crate::clock::now())
}

fn summaries_for_journal() -> (Vec<String>, Option<Duration>) {
    summaries(for_journal)
}

fn summaries_with_time() -> (Vec<String>, Option<Duration>) {
    summaries(with_time)
}

/// The summaries that are due, and the time until the next ones.
fn summaries(line: fn(Level, &str) -> String) -> (Vec<String>, Option<Duration>) {
    budget(|budget, now| {
        let due = budget.take_due(now);
        let lines = due.iter().map(|(level, text)| line(*level, text)).collect();
        (lines, budget.next_timeout().map(|next| next.since(now).max(Duration::from_millis(10))))
    })
}

fn lost_for_journal(lines: u64) -> String {
    lost(lines, for_journal)
}

fn lost_with_time(lines: u64) -> String {
    lost(lines, with_time)
}

fn lost(lines: u64, line: fn(Level, &str) -> String) -> String {
    let were = if lines == 1 { "line of the log was" } else { "lines of the log were" };
    line(Level::Warn, &format!("{lines} {were} lost, because its reader had stopped reading"))
}

/// A command's message on standard error; a log line if the journal reads it.
fn command_says(level: Level, text: &str) -> String {
    let text = format!("ringfence: {text}");
    if is_journal() { for_journal(level, &text) } else { format!("{text}\n") }
}

/// The first part that is not valid. `env_filter` would take an unknown word for a module and silence
/// everything else.
fn wrong(asked: &str) -> Option<String> {
    let parts = asked.split(',').map(str::trim).filter(|part| !part.is_empty());
    let is_wrong = |part: &&str| {
        let level = part.rsplit_once('=').map_or(*part, |(_module, level)| level);
        level.trim().parse::<LevelFilter>().is_err()
    };
    parts.into_iter().find(is_wrong).map(|part| part.escape_debug().take(60).collect())
}

/// Whether standard error is the stream that systemd names (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let Ok(own) = fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", own.dev(), own.ino())
}

/// Prefixes a message with the time and its level.
fn with_time(level: Level, message: &str) -> String {
    format!("[{} {level:<5}] {message}\n", Rfc3339(Timestamp::now()))
}

/// Prefixes each line of a message with its priority (sd-daemon(3)): the journal makes an entry of each.
fn for_journal(level: Level, message: &str) -> String {
    let priority = match level {
        Level::Error => 3,
        Level::Warn => 4,
        Level::Info => 6,
        Level::Debug | Level::Trace => 7,
    };
    let lines = message.lines().map(|line| format!("<{priority}>{line}\n"));
    lines.collect::<Vec<_>>().concat()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log_budget::BYTES_A_MINUTE;

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(for_journal(Level::Error, "one\ntwo"), "<3>one\n<3>two\n");
        assert_eq!(for_journal(Level::Warn, "x"), "<4>x\n");
        assert_eq!(for_journal(Level::Info, "x"), "<6>x\n");
    }

    /// The bound applies to everything that an attacker can add to the log, anywhere in the program.
    #[test]
    fn the_log_grows_by_no_more_than_its_bound_and_by_what_is_done_manually() {
        let (mut reader, writer) = io::pipe().unwrap();
        let nothing: fn() -> (Vec<String>, Option<Duration>) = || (Vec::new(), None);
        let queue = LogQueue::start(writer, lost_with_time, nothing).unwrap();
        let queue: &LogQueue = Box::leak(Box::new(queue));
        let filter = Builder::new().filter_level(LevelFilter::Trace).build();
        let logger = Bounded { filter, is_journal: true, queue };
        let log = |level, target: &str, place, text: &str| {
            let mut record = Record::builder();
            record
                .level(level)
                .target(target)
                .module_path_static(Some("attacked"))
                .line(Some(place));
            logger.log(&record.args(format_args!("{text}")).build());
        };
        let read = std::thread::spawn(move || {
            let mut text = String::new();
            // Up to the last line.
            while !text.ends_with("<6>over\n") {
                let mut bytes = [0; 4096];
                let length = io::Read::read(&mut reader, &mut bytes).unwrap();
                text += std::str::from_utf8(&bytes[..length]).unwrap();
            }
            text
        });
        let text = "attacker's text\n".repeat(1000);
        for place in 0..100 {
            for level in [Level::Error, Level::Warn, Level::Info] {
                for _ in 0..100 {
                    log(level, "attacked", place, "somebody did it again");
                    log(level, "attacked", place, &text);
                }
            }
            log(Level::Info, MANUAL, place, "root lifted a ban");
        }
        log(Level::Info, MANUAL, 0, "over");
        let text = read.join().unwrap();
        assert_eq!(text.matches("<6>root lifted a ban\n").count(), 100);
        let manual = 100 * "<6>root lifted a ban\n".len();
        // One minute may end meanwhile.
        assert!(text.len() <= 2 * BYTES_A_MINUTE + manual, "{} bytes", text.len());
        assert!(text.len() > BYTES_A_MINUTE / 2, "{} bytes", text.len());
        assert_eq!(queue.lost(), 0);
    }

    #[test]
    fn what_is_no_level_is_told() {
        for right in ["", "info", "WARN", "warn,filter_user::controller=info", "off", " debug , "] {
            assert_eq!(wrong(right), None, "{right}");
        }
        for (asked, part) in [
            ("garbage", "garbage"),
            ("info,filter_user=loud", "filter_user=loud"),
            ("filter_user", "filter_user"),
            ("5", "5"),
        ] {
            assert_eq!(wrong(asked).as_deref(), Some(part));
        }
    }
}

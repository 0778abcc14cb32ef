//! The log on standard error: levels as `RINGFENCE_LOG` says, a time in front of each line, or a
//! priority where systemd's journal reads it and has the time itself.
//!
//! It never holds up a caller (`log_queue`), and grows by no more than a bound (`log_budget`), except
//! for what is done by hand and what `debug` and `trace` add.

use std::os::unix::fs::MetadataExt as _;
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;
use std::{env, fs, io};

use env_logger::{Builder, Logger};
use jiff::Timestamp;
use log::{Level, LevelFilter, Log, Metadata, Record, warn};

use crate::clock::{KernelTime, Rfc3339};
use crate::log_budget::{BY_HAND, LINE_MAX, LogBudget, cut};
use crate::log_queue::LogQueue;

/// What says what is logged.
pub const VARIABLE: &str = "RINGFENCE_LOG";

/// Without it.
const DEFAULT: LevelFilter = LevelFilter::Info;

/// How long an end waits for a reader of the log.
const LAST_LINES: Duration = Duration::from_secs(1);

/// The log of the daemon, once it has started.
static QUEUE: OnceLock<LogQueue> = OnceLock::new();

/// What it may grow by.
static BUDGET: Mutex<Option<LogBudget>> = Mutex::new(None);

/// Starts to log.
///
/// # Errors
///
/// When no thread can be started.
pub fn start() -> io::Result<()> {
    let asked = env::var(VARIABLE).unwrap_or_default();
    let wrong = wrong(&asked);
    let mut builder = Builder::new();
    if asked.trim().is_empty() || wrong.is_some() {
        builder.filter_level(DEFAULT);
    } else {
        // What names modules alone must not silence the errors of all others.
        builder.filter_level(LevelFilter::Error).parse_filters(&asked);
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
            "{VARIABLE}: `{wrong}` is no level; use `error`, `warn`, `info`, `debug`, `trace` or `off`, by \
             itself or as `MODULE=LEVEL`. What is logged now is `info`"
        );
    }
    Ok(())
}

/// Waits until all that was logged is written, but not for a reader that stands still.
pub fn finish() {
    if let Some(queue) = QUEUE.get() {
        queue.flush(LAST_LINES);
    }
}

/// The log, for `status`: how many lines were lost because nobody took them.
pub fn report() -> api::Log {
    api::Log { lost: QUEUE.get().map_or(0, LogQueue::lost) }
}

/// Prints what a command says of itself; where the log has started, after that.
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
    /// What is asked what is to be logged, and logs nothing.
    filter: Logger,
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
        if record.level() > Level::Info || record.target() == BY_HAND {
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
            // It says so when the minute is over.
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

/// The summaries that are due, and in how long the next ones are.
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
    line(Level::Warn, &format!("{lines} {were} lost: its reader stood still"))
}

/// What a command says of itself on standard error, as a line of the log where the journal reads it.
fn command_says(level: Level, text: &str) -> String {
    let text = format!("ringfence: {text}");
    if is_journal() { for_journal(level, &text) } else { format!("{text}\n") }
}

/// The first part that says nothing. A word that is no level would be taken for a module, and all else
/// would be silent.
fn wrong(asked: &str) -> Option<String> {
    let parts = asked.split(',').map(str::trim).filter(|part| !part.is_empty());
    let is_wrong = |part: &&str| {
        let level = part.rsplit_once('=').map_or(*part, |(_module, level)| level);
        level.trim().parse::<LevelFilter>().is_err()
    };
    parts.into_iter().find(is_wrong).map(|part| part.escape_debug().take(60).collect())
}

/// Whether standard error is the stream that systemd has named (systemd.exec(5), `JOURNAL_STREAM`).
fn is_journal() -> bool {
    let Ok(stream) = env::var("JOURNAL_STREAM") else { return false };
    let Ok(own) = fs::metadata("/proc/self/fd/2") else { return false };
    stream == format!("{}:{}", own.dev(), own.ino())
}

/// A message with the time and its level in front.
fn with_time(level: Level, message: &str) -> String {
    format!("[{} {level:<5}] {message}\n", Rfc3339(Timestamp::now()))
}

/// A message with its priority in front of each line (sd-daemon(3)): the journal makes an entry of
/// each.
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

    /// Whatever an attacker can have logged, from wherever in the program.
    #[test]
    fn the_log_grows_by_no_more_than_its_bound_and_by_what_is_done_by_hand() {
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
            log(Level::Info, BY_HAND, place, "root lifted a ban");
        }
        log(Level::Info, BY_HAND, 0, "over");
        let text = read.join().unwrap();
        assert_eq!(text.matches("<6>root lifted a ban\n").count(), 100);
        let by_hand = 100 * "<6>root lifted a ban\n".len();
        // One minute may end meanwhile.
        assert!(text.len() <= 2 * BYTES_A_MINUTE + by_hand, "{} bytes", text.len());
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

//! The log on standard error: levels as `RINGFENCE_LOG` says, a time in front of each line, or a
//! priority where systemd's journal reads it and has the time itself.

use std::io::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::{env, fs};

use env_logger::Builder;
use log::{Level, LevelFilter, warn};

/// What says what is logged.
pub const VARIABLE: &str = "RINGFENCE_LOG";

/// Without it.
const DEFAULT: LevelFilter = LevelFilter::Info;

/// Starts to log.
pub fn start() {
    let asked = env::var(VARIABLE).unwrap_or_default();
    let wrong = wrong(&asked);
    let mut builder = Builder::new();
    if asked.trim().is_empty() || wrong.is_some() {
        builder.filter_level(DEFAULT);
    } else {
        // What names modules alone must not silence the errors of all others.
        builder.filter_level(LevelFilter::Error).parse_filters(&asked);
    }
    if is_journal() {
        builder.format(|out, record| {
            out.write_all(for_journal(record.level(), &record.args().to_string()).as_bytes())
        });
    } else {
        builder.format_target(false);
    }
    builder.init();
    if let Some(wrong) = wrong {
        warn!(
            "{VARIABLE}: `{wrong}` is no level; use `error`, `warn`, `info`, `debug`, `trace` or `off`, by \
             itself or as `MODULE=LEVEL`. What is logged now is `info`"
        );
    }
}

/// What a command says of itself on standard error, as a line of the log where the journal reads it.
pub fn command_says(level: Level, text: &str) -> String {
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

    #[test]
    fn each_line_has_its_priority() {
        assert_eq!(for_journal(Level::Error, "one\ntwo"), "<3>one\n<3>two\n");
        assert_eq!(for_journal(Level::Warn, "x"), "<4>x\n");
        assert_eq!(for_journal(Level::Info, "x"), "<6>x\n");
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

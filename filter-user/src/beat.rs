//! Messages about the daemon's sign of life: in its log after a silence, and by commands that get no
//! answer.

use std::path::Path;
use std::time::Duration;

use crate::clock::{KernelTime, Now};
use crate::datapath::{self, LastBeat};
use crate::duration;
use crate::report::when_exactly;

/// How often the daemon beats.
pub const EVERY: Duration = Duration::from_secs(1);

/// The functions of the program that are off while it is unattended, as text.
const LEFT_OUT: &str = "made no bans of its own and had no limits for single sources and networks";

/// The log message when the daemon beats again after a silence, or starts, given the beat before.
pub(crate) fn after_silence(before: LastBeat, now: Now) -> Option<String> {
    let since = before.unattended_since(now.kernel)?;
    Some(format!(
        "there was no heartbeat since {} ({}); for {} the filter {LEFT_OUT}; both apply again now",
        when_exactly(&now.show(before.at)),
        ago(before.at, now.kernel),
        seconds(since, now.kernel)
    ))
}

/// The message of a command if no daemon answers, from the maps pinned in `directory`. `None` if nothing
/// is known.
pub fn without_answer(directory: &Path, now: Now) -> Option<String> {
    Some(in_words(datapath::last_beat(directory).ok()??, now))
}

fn in_words(last: LastBeat, now: Now) -> String {
    let at = when_exactly(&now.show(last.at));
    let beat = format!("no heartbeat from the daemon since {at} ({})", ago(last.at, now.kernel));
    match (last.unattended_since(now.kernel), last.attended_until) {
        (Some(_), _) => format!(
            "{beat}; until there is one, the filter makes no bans of its own and has no limits for \
             single sources and networks (`watchdog.after`); bans in force stay until they end"
        ),
        (None, Some(until)) => format!(
            "{beat}; from {} on the filter makes no bans of its own and has no limits for single sources \
             and networks (`watchdog.after`)",
            when_exactly(&now.show(until))
        ),
        (None, None) => format!("{beat}; the filter continues without it"),
    }
}

fn ago(at: KernelTime, now: KernelTime) -> String {
    format!("{} ago", seconds(at, now))
}

fn seconds(since: KernelTime, now: KernelTime) -> String {
    duration::format(Duration::from_secs(now.since(since).as_secs()))
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn at(second: u64) -> KernelTime {
        KernelTime(second * 1_000_000_000)
    }

    fn now(second: u64) -> Now {
        Now { kernel: at(second), wall: Timestamp::now() }
    }

    #[test]
    fn a_silence_is_said_with_its_length() {
        let last = LastBeat { at: at(100), attended_until: Some(at(220)) };
        assert_eq!(after_silence(last, now(219)), None);
        let said = after_silence(last, now(700)).unwrap();
        assert!(said.contains("(10m ago); for 8m the filter made no bans"), "{said}");
    }

    #[test]
    fn commands_say_whether_the_filter_is_attended() {
        let last = LastBeat { at: at(100), attended_until: Some(at(220)) };
        let before = in_words(last, now(130));
        assert!(before.contains("(30s ago); from "), "{before}");
        let after = in_words(last, now(220));
        assert!(
            after.contains("(2m ago); until there is one, the filter makes no bans"),
            "{after}"
        );
        let never = in_words(LastBeat { attended_until: None, ..last }, now(99_999));
        assert!(never.contains("continues without it"), "{never}");
    }
}

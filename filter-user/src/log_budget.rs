//! How much the log may grow in a minute: a number of lines for each place in the program, and a number of
//! bytes. Lines beyond that are counted, and a summary line reports the counts.
//!
//! Everything that an attacker can add to the log goes through here, so [`BYTES_A_MINUTE`] bounds all of
//! it. Lines about manual changes do not: see [`MANUAL`].
//!
//! Must never omit a manual change.

use std::collections::HashMap;
use std::time::Duration;

use log::Level;

use crate::clock::KernelTime;

// Lines about manual changes are always logged.
pub use store::MANUAL;

/// The longest line in bytes. Longer lines are cut.
pub const LINE_MAX: usize = 1024;

/// The window over which lines are counted.
pub const WINDOW: Duration = Duration::from_mins(1);

/// The most lines from one place in the program in a window.
const SITE_LINES: u32 = 60;

/// The most errors and warnings from one place, so that a few places cannot take the room of all others.
const SITE_WARNINGS: u32 = 20;

/// The most bytes of one class in a window, without the summary.
const CLASS_BYTES: usize = 16 * 1024;

/// The longest summary, in bytes.
const SUMMARY_MAX: usize = 512;

/// How many bytes of the last line that was left out a summary shows.
const SHOWN: usize = 200;

/// Errors and warnings are one class and the rest is another, so that neither takes the room of the other.
const CLASSES: usize = 2;

/// The most bytes that all lines except those about manual changes add to the log in a minute.
pub const BYTES_A_MINUTE: usize = CLASSES * (CLASS_BYTES + SUMMARY_MAX);

/// A place in the program that logs: its module and line.
pub type Site = (&'static str, u32);

/// The lines that were logged and left out in this window.
#[derive(Debug, Default)]
pub struct LogBudget {
    /// When the window began; `None` before the first line.
    began: Option<KernelTime>,
    sites: HashMap<Site, u32>,
    classes: [Class; CLASSES],
}

#[derive(Debug, Default)]
struct Class {
    bytes: usize,
    left_out: u64,
    /// The most severe level among the lines left out.
    level: Option<Level>,
    last: String,
}

impl LogBudget {
    /// Whether a line that takes this many bytes is logged. If not, it is counted.
    ///
    /// The caller must first [take](Self::take_due) the summaries that are due.
    pub fn admits(
        &mut self,
        site: Site,
        level: Level,
        (text, bytes): (&str, usize),
        now: KernelTime,
    ) -> bool {
        self.began.get_or_insert(now);
        let of_site = self.sites.entry(site).or_default();
        let Some(class) = self.classes.get_mut(class_of(level)) else { return true };
        let bytes = class.bytes.saturating_add(bytes);
        let most = if level > Level::Warn { SITE_LINES } else { SITE_WARNINGS };
        if *of_site < most && bytes <= CLASS_BYTES {
            *of_site += 1;
            class.bytes = bytes;
            return true;
        }
        class.left_out = class.left_out.saturating_add(1);
        class.level = Some(class.level.map_or(level, |known| known.min(level)));
        let first = text.lines().next().unwrap_or_default();
        cut(first, SHOWN).clone_into(&mut class.last);
        false
    }

    /// When the next summary is due.
    pub fn next_timeout(&self) -> Option<KernelTime> {
        let is_due = self.classes.iter().any(|class| class.left_out > 0);
        self.began.filter(|_| is_due).map(|began| began.after(WINDOW))
    }

    /// Takes the summaries that are due. The next line then begins a new window.
    pub fn take_due(&mut self, now: KernelTime) -> Vec<(Level, String)> {
        if self.began.is_none_or(|began| now < began.after(WINDOW)) {
            return Vec::new();
        }
        self.began = None;
        self.sites.clear();
        let classes = std::mem::take(&mut self.classes);
        classes.into_iter().filter_map(Class::summary).collect()
    }
}

impl Class {
    fn summary(self) -> Option<(Level, String)> {
        let Self { left_out, level, last, .. } = self;
        let were = if left_out == 1 { "line was" } else { "lines were" };
        let text = format!(
            "{left_out} more {were} left out of the log in the last minute; the last: {last}"
        );
        level.map(|level| (level, text))
    }
}

fn class_of(level: Level) -> usize {
    usize::from(level > Level::Warn)
}

/// The longest beginning of a text that has at most this many bytes.
pub fn cut(text: &str, bytes: usize) -> &str {
    text.get(..text.floor_char_boundary(bytes)).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    fn admits(
        budget: &mut LogBudget,
        site: Site,
        level: Level,
        text: &str,
        now: KernelTime,
    ) -> bool {
        budget.admits(site, level, (text, text.len()), now)
    }

    #[test]
    fn what_is_left_out_is_counted_and_said_once() {
        let mut budget = LogBudget::default();
        let mut logged = 0;
        for n in 0..1000 {
            let line = format!("192.0.2.1 did it for the {n}th time");
            logged +=
                u32::from(admits(&mut budget, ("here", 1), Level::Info, &line, KernelTime(n)));
        }
        assert_eq!(logged, SITE_LINES);
        assert!(admits(&mut budget, ("there", 1), Level::Info, "another", KernelTime(1000)));
        assert!(!admits(
            &mut budget,
            ("here", 1),
            Level::Warn,
            "of the same place",
            KernelTime(1000)
        ));
        assert_eq!(budget.next_timeout(), Some(KernelTime(MINUTE)));
        assert_eq!(budget.take_due(KernelTime(MINUTE - 1)), []);
        let warning =
            "1 more line was left out of the log in the last minute; the last: of the same place";
        let info = "940 more lines were left out of the log in the last minute; the last: 192.0.2.1 did it \
                    for the 999th time";
        let expected = [(Level::Warn, warning.to_owned()), (Level::Info, info.to_owned())];
        assert_eq!(budget.take_due(KernelTime(MINUTE)), expected);
        assert_eq!(budget.next_timeout(), None);
        assert!(admits(&mut budget, ("here", 1), Level::Info, "again", KernelTime(MINUTE)));
    }

    #[test]
    fn one_class_leaves_the_others_room() {
        let mut budget = LogBudget::default();
        let long = "x".repeat(LINE_MAX);
        let logged = (0..100).filter(|line| {
            admits(&mut budget, ("flood", *line), Level::Info, &long, KernelTime(0))
        });
        assert_eq!(logged.count(), CLASS_BYTES / LINE_MAX);
        for n in 0..1000 {
            let site = ("attacked", n % 3);
            admits(&mut budget, site, Level::Warn, &"x".repeat(200), KernelTime(1));
        }
        assert!(admits(&mut budget, ("store", 0), Level::Error, "it failed", KernelTime(1)));
    }

    proptest! {
        #[test]
        fn no_more_than_the_bound_is_logged(
            lines in vec((0..8u32, 1..6usize, 0..LINE_MAX, 0..MINUTE / 200), 1..2000)
        ) {
            let mut budget = LogBudget::default();
            let (mut now, mut bytes) = (KernelTime(0), 0);
            let text = "x".repeat(LINE_MAX);
            let levels: Vec<Level> = Level::iter().collect();
            for (site, level, length, pause) in lines {
                now = KernelTime(now.0 + pause);
                for (_, summary) in budget.take_due(now) {
                    prop_assert!(summary.len() <= SUMMARY_MAX);
                    bytes += summary.len();
                }
                let level = levels[level.min(levels.len()) - 1];
                if admits(&mut budget, ("module", site), level, &text[..length], now) {
                    bytes += length;
                }
                let minutes = usize::try_from(now.0 / MINUTE).unwrap() + 1;
                prop_assert!(bytes <= minutes * BYTES_A_MINUTE, "{bytes} in {minutes} min");
            }
        }
    }
}

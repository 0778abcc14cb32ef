//! Events that are too frequent for a log line each: the first few have one, and the rest are counted by
//! name and summed up once a minute.

use std::collections::BTreeMap;
use std::time::Duration;

use log::info;

use super::Controller;
use crate::clock::KernelTime;
use crate::datapath::Datapath;

/// The window of a summary.
const WINDOW: Duration = Duration::from_mins(1);

/// The most names in a summary. The rest is one count.
const NAMES: usize = 12;

/// A kind of frequent event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Topic {
    /// A source is over a limit, for the first time in a while.
    Limit,
    /// A jail or escalation has banned a source.
    Ban,
    /// The program has banned a source for a flood.
    Flood,
    /// A ban has ended.
    End,
    /// A network is not banned as a whole, a ban leaves out an address, or the kernel refuses one.
    Exception,
}

impl Topic {
    const ALL: [Self; 5] = [Self::Limit, Self::Ban, Self::Flood, Self::End, Self::Exception];

    /// How many lines this kind may have in a window.
    const fn lines(self) -> u32 {
        match self {
            Self::Limit | Self::Flood | Self::End | Self::Exception => 10,
            Self::Ban => 30,
        }
    }

    /// The noun and verb for this many events.
    fn words(self, count: u64) -> &'static str {
        match (self, count) {
            (Self::Limit, 1) => "more source was over a limit",
            (Self::Limit, _) => "more sources were over a limit",
            (Self::Ban, 1) => "more ban began",
            (Self::Ban, _) => "more bans began",
            (Self::Flood, 1) => "more source was banned for a flood",
            (Self::Flood, _) => "more sources were banned for a flood",
            (Self::End, 1) => "more ban ended",
            (Self::End, _) => "more bans ended",
            (Self::Exception, 1) => "more ban had exceptions or was refused",
            (Self::Exception, _) => "more bans had exceptions or were refused",
        }
    }
}

/// How many events have had a line in this window, and how many have not.
#[derive(Debug, Default)]
pub(super) struct Digest([Counts; Topic::ALL.len()]);

#[derive(Debug, Default)]
struct Counts {
    /// When the window ends; `None` before the first line.
    until: Option<KernelTime>,
    lines: u32,
    /// The events without a line, by name.
    more: BTreeMap<&'static str, u64>,
}

impl Digest {
    /// Whether this event gets a log line; otherwise it is counted. There are few names: those of jails
    /// and limits.
    pub(super) fn has_line(&mut self, topic: Topic, name: &'static str, now: KernelTime) -> bool {
        let Some(counts) = self.0.get_mut(topic as usize) else { return true };
        if counts.more.is_empty() && counts.until.is_none_or(|until| now >= until) {
            *counts = Counts { until: Some(now.after(WINDOW)), ..Counts::default() };
        }
        if counts.lines < topic.lines() {
            counts.lines += 1;
            return true;
        }
        let more = counts.more.entry(name).or_default();
        *more = more.saturating_add(1);
        false
    }

    /// When the next summary is due.
    pub(super) fn next_timeout(&self) -> Option<KernelTime> {
        let due = self.0.iter().filter(|counts| !counts.more.is_empty());
        due.filter_map(|counts| counts.until).min()
    }

    /// The summaries that are due.
    pub(super) fn take_due(&mut self, now: KernelTime) -> Vec<String> {
        let mut lines = Vec::new();
        for (topic, counts) in Topic::ALL.into_iter().zip(&mut self.0) {
            if counts.more.is_empty() || counts.until.is_none_or(|until| now < until) {
                continue;
            }
            lines.push(summary(topic, &std::mem::take(counts).more));
        }
        lines
    }
}

fn summary(topic: Topic, more: &BTreeMap<&'static str, u64>) -> String {
    let mut names: Vec<(&str, u64)> = more.iter().map(|(name, count)| (*name, *count)).collect();
    names.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let all: u64 = names.iter().map(|(_, count)| count).sum();
    let rest: u64 = names.iter().skip(NAMES).map(|(_, count)| count).sum();
    names.truncate(NAMES);
    if rest > 0 {
        names.push(("others", rest));
    }
    let names: Vec<String> = names.iter().map(|(name, count)| format!("{name} {count}")).collect();
    format!("{all} {} in the last minute: {}", topic.words(all), names.join(", "))
}

impl<D: Datapath> Controller<D> {
    /// Logs the summaries that are due.
    pub(super) fn tell_digest(&mut self, now: KernelTime) {
        for line in self.digest.take_due(now) {
            info!("{line}{}", self.dry());
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MINUTE: u64 = 60_000_000_000;

    #[test]
    fn a_minute_of_a_scan_is_a_few_lines() {
        let mut digest = Digest::default();
        let lines = (0..1214).filter(|n| {
            let name = if n % 12 == 0 { "register-limit" } else { "signature" };
            digest.has_line(Topic::Limit, name, KernelTime(*n))
        });
        assert_eq!(lines.count(), 10);
        assert_eq!(digest.next_timeout(), Some(KernelTime(MINUTE)));
        assert!(digest.take_due(KernelTime(MINUTE - 1)).is_empty());
        let summary = "1204 more sources were over a limit in the last minute: signature 1103, register-limit 101";
        assert_eq!(digest.take_due(KernelTime(MINUTE)), [summary]);
        assert_eq!(digest.next_timeout(), None);
        assert!(digest.has_line(Topic::Limit, "signature", KernelTime(MINUTE)));
    }

    #[test]
    fn topics_do_not_take_each_others_lines() {
        let mut digest = Digest::default();
        for n in 0..100 {
            digest.has_line(Topic::Flood, "flood", KernelTime(n));
        }
        assert!(digest.has_line(Topic::Ban, "sshd", KernelTime(100)));
        let lines = digest.take_due(KernelTime(MINUTE));
        assert_eq!(lines, ["90 more sources were banned for a flood in the last minute: flood 90"]);
    }

    #[test]
    fn a_summary_names_the_most_and_is_short() {
        const JAILS: [&str; 15] =
            ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j", "k", "l", "m", "n", "o"];
        let more = JAILS.into_iter().zip(1..).collect();
        let text = summary(Topic::Ban, &more);
        assert!(text.starts_with("120 more bans began in the last minute: o 15, n 14, "), "{text}");
        assert!(text.ends_with("d 4, others 6"), "{text}");
        assert_eq!(
            summary(Topic::End, &[("sshd", 1)].into()),
            "1 more ban ended in the last minute: sshd 1"
        );
    }

    proptest! {
        #[test]
        fn lines_a_minute_are_bounded(events in vec((0..Topic::ALL.len(), 0..MINUTE / 100), 1..3000)) {
            let mut digest = Digest::default();
            let (mut now, mut lines, mut counted, all) = (KernelTime(0), 0, 0_u64, events.len());
            for (topic, pause) in events {
                now = KernelTime(now.0 + pause);
                let due = digest.take_due(now);
                lines += due.len();
                counted += due.iter().map(|line| sum(line)).sum::<u64>();
                if digest.has_line(Topic::ALL[topic], "sshd", now) {
                    lines += 1;
                    counted += 1;
                }
                let minutes = usize::try_from(now.0 / MINUTE).unwrap() + 1;
                prop_assert!(lines <= minutes * (4 * 11 + 31), "{lines} lines in {minutes} min");
            }
            counted += digest.take_due(KernelTime(now.0 + MINUTE)).iter().map(|line| sum(line)).sum::<u64>();
            prop_assert_eq!(counted, u64::try_from(all).unwrap());
        }
    }

    fn sum(line: &str) -> u64 {
        line.split(' ').next().unwrap().parse().unwrap()
    }
}

//! Finds failures that are probably not recognised. It gets what the sources read, when and by which
//! rule, and returns findings.
//!
//! A parser can become outdated: a new version of Asterisk rewords a line, a level is switched off, or a
//! log moves. This causes no error, but attackers are no longer banned. This module looks for the signs:
//! lines that look like failures and match no rule, a source or a rule that has been silent for much
//! longer than ever before, and a source that reports failures that another does not report.
//!
//! It reads no clock. Its memory is bounded by the number of rules.
//!
//! Must never grow with what an attacker writes.

mod rhythm;
mod unparsed;

use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use self::rhythm::between;
pub use self::rhythm::{Overdue, Rhythm};
pub use self::unparsed::{SAMPLE_MAX, SAMPLES, Sample, Unparsed};
use crate::duration;
use crate::failure::{Attempt, Verdict};
use crate::parse::asterisk::FAILED_REQUESTS;
use crate::register;
pub use crate::register::{AMI, NOTICE, SECURITY};

/// How long a source must be silent before that is a finding.
const SILENT_SOURCE: Duration = Duration::from_hours(12);

/// The same for a rule.
const SILENT_RULE: Duration = Duration::from_hours(7 * 24);

/// How many lines that look like failures are a finding.
const UNPARSED: u64 = 3;

/// How recent the last of them must be.
const OF_LATE: Duration = Duration::from_hours(7 * 24);

/// How often a rule must have matched to count as used.
const USED: u64 = 10;

/// How many failures that only another source reports are a finding.
const MISSED_FAILURES: u64 = 10;

/// How many consecutive failures whose packets the filter has not seen are a finding.
pub const UNWITNESSED: u64 = 10;

/// How many requests that the filter has passed and the source does not report are a finding.
const MISSED_REQUESTS: u64 = 100;

/// How long a source may take to report what another has reported.
const MISSED_FAILURES_TIME: Duration = Duration::from_secs(10);

/// A source that did not read for longer may have missed what would have ended a silence.
const ABSENCE: Duration = Duration::from_mins(10);

/// How long AMI may be silent while requests pass.
const MISSED_REQUESTS_TIME: Duration = Duration::from_mins(1);

/// The record of what one source has read.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Since when it has been reading; `None` while it is not.
    listening: Option<Timestamp>,
    /// Since when it has been reading, apart from short absences such as a rotation.
    attentive: Option<Timestamp>,
    /// When it last stopped reading.
    away: Option<Timestamp>,
    /// The lines or events that it read.
    pub lines: Rhythm,
    /// The rules of its parser.
    pub rules: Vec<Rule>,
    /// The lines that look like failures and match none of the rules.
    pub unparsed: Unparsed,
    /// The failures that others have reported and it has not.
    echo: Missing,
    /// The requests that the filter has passed and it has not reported.
    requests: Missing,
}

/// A rule, and what matched it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// Its matches over time.
    pub hits: Rhythm,
    /// How many lines the source had read at the last hit.
    pub lines_then: u64,
}

/// The reports by other sources since a source last made such a report.
#[derive(Clone, Copy, Debug, Default)]
struct Missing {
    count: u64,
    since: Option<Timestamp>,
}

impl Missing {
    fn add(&mut self, count: u64, now: Timestamp) {
        self.count = self.count.saturating_add(count);
        self.since.get_or_insert(now);
    }

    /// Whether at least `least` are missing, and the first of them for at least `time`.
    fn is_over(self, least: u64, time: Duration, now: Timestamp) -> bool {
        self.count >= least && self.since.is_some_and(|since| between(since, now) >= time)
    }
}

/// The kind of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Lines that look like failures match no rule.
    Unparsed,
    /// A rule no longer matches anything.
    Rule,
    /// The source has become silent.
    Silent,
    /// Another source reports failures that this one does not.
    MissedFailures,
    /// The filter passes requests that the source does not report.
    MissedRequests,
    /// The source reports failures for which the filter has seen no packet.
    Unwitnessed,
}

impl Kind {
    /// The name that `status --json` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unparsed => "unparsed",
            Self::Rule => "rule",
            Self::Silent => "silent",
            Self::MissedFailures => "missed-failures",
            Self::MissedRequests => "missed-requests",
            Self::Unwitnessed => "unwitnessed",
        }
    }

    /// The message when the sign has disappeared.
    pub fn over(self) -> &'static str {
        match self {
            Self::Unparsed => "recent lines that look like failures match its rules",
            Self::Rule => "its rules match again",
            Self::Silent => "it reads lines again",
            Self::MissedFailures => "it reports what the other sources report again",
            Self::MissedRequests => "it reports the REGISTERs that pass again",
            Self::Unwitnessed => "the filter sees the packets of failures again",
        }
    }
}

/// A sign that failures are probably not recognised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the source.
    pub source: &'static str,
    /// The kind of sign.
    pub kind: Kind,
    /// The sign as text.
    pub problem: String,
    /// What to do about it.
    pub remedy: String,
    /// The key under which it is logged: it is logged again when this changes.
    pub key: String,
}

/// The facts needed to check a source, in addition to its record.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The name of the source.
    pub name: &'static str,
    /// `file`, `journal` or `ami`.
    pub kind: &'static str,
    /// What it reads.
    pub path: &'a str,
    /// Its jail.
    pub jail: &'static str,
}

impl Observed {
    /// Of a source that has read nothing yet and whose parser has these rules.
    pub fn new(rules: &'static [&'static str]) -> Self {
        let rule = |name: &&'static str| Rule { name, hits: Rhythm::default(), lines_then: 0 };
        Self { rules: rules.iter().map(rule).collect(), ..Self::default() }
    }

    /// Records whether the source reads.
    pub fn reads(&mut self, reads: bool, now: Timestamp) {
        match (reads, self.listening) {
            (true, None) => {
                self.listening = Some(now);
                if self.away.is_none_or(|away| between(away, now) > ABSENCE) {
                    self.attentive = Some(now);
                }
            }
            (false, Some(_)) => {
                (self.listening, self.away) = (None, Some(now));
                (self.echo, self.requests) = (Missing::default(), Missing::default());
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    /// Whether the source reads.
    pub fn is_listening(&self) -> bool {
        self.listening.is_some()
    }

    /// Records lines that the source read, with their attempts.
    pub fn observe(
        &mut self,
        lines: u64,
        attempts: &[Attempt],
        unparsed: Unparsed,
        now: Timestamp,
    ) {
        let listening = self.attentive.unwrap_or(now);
        if lines > 0 {
            self.lines.note(lines, now, listening);
            self.requests = Missing::default();
        }
        for attempt in attempts {
            if let Some(rule) = self.rules.iter_mut().find(|rule| rule.name == attempt.rule) {
                rule.hits.note(1, now, listening);
                rule.lines_then = self.lines.count;
            }
        }
        if !unparsed.is_empty() {
            self.unparsed.merge(unparsed);
        }
    }

    /// Records that the filter has passed `count` requests, each of which the source should report.
    pub fn requests_passed(&mut self, count: u64, now: Timestamp) {
        if self.listening.is_some() && count > 0 {
            self.requests.add(count, now);
        }
    }
}

/// Compares what one of Asterisk's sources has read with the `others`, which should report the same
/// failures. The source itself may be among them.
pub fn compare<'a>(
    reporter: &str,
    (lines, attempts): (u64, &[Attempt]),
    all_observed: impl Iterator<Item = (&'static str, &'a mut Observed)>,
    now: Timestamp,
) {
    let mut failures = attempts.iter().filter(|attempt| is_told_twice(attempt)).peekable();
    // A failure from before another source began to read is not missing there.
    let first = failures.peek().and_then(|first| first.logged_at);
    let first = first.and_then(|at| at.instant(&TimeZone::system())).unwrap_or(now);
    let failures = failures.count() as u64;
    for (name, observed) in all_observed {
        if name == reporter {
            // An attacker can garble a line of the NOTICE log, but not keep it from being written.
            if failures > 0 || (lines > 0 && name == NOTICE) {
                observed.echo = Missing::default();
            }
        } else if failures > 0 && observed.listening.is_some_and(|since| since <= first) {
            observed.echo.add(failures, now);
        }
    }
}

/// Whether Asterisk both writes a NOTICE line and raises a security event for this failure.
fn is_told_twice(attempt: &Attempt) -> bool {
    const EVENTS: [&str; 2] = ["ChallengeResponseFailed", "InvalidAccountID"];
    attempt.verdict == Verdict::Failure
        && (FAILED_REQUESTS.contains(&attempt.rule) || EVENTS.contains(&attempt.rule))
}

/// The key of a source across restarts. One of your own jails may have several sources, distinguished
/// by their logs.
pub fn key(source: &str, place: &str) -> String {
    if register::source(source).is_some() { source.to_owned() } else { format!("{source} {place}") }
}

/// The findings about a source.
pub fn judge(place: Place<'_>, observed: &Observed, now: Timestamp) -> Vec<Finding> {
    let unparsed = unparsed(place, observed, now);
    let (Some(_), Some(listening)) = (observed.listening, observed.attentive) else {
        return unparsed.into_iter().collect();
    };
    let silent = silent(place, observed, listening, now);
    // If the source is silent, so are its rules.
    let rules = if silent.is_some() { Vec::new() } else { rules(place, observed, listening, now) };
    let findings = [
        unparsed,
        silent,
        missed_failures(place, observed, now),
        missed_requests(place, observed, now),
    ];
    findings.into_iter().flatten().chain(rules).collect()
}

fn unparsed(place: Place<'_>, observed: &Observed, now: Timestamp) -> Option<Finding> {
    let lines = observed.unparsed.lines();
    let sample = *observed.unparsed.samples().first()?;
    // The strongest sign of an outdated rule: its lines continue in other words.
    let first = observed.unparsed.first();
    let stopped =
        observed.rules.iter().filter(|rule| rule.hits.count >= USED && rule.hits.last < first);
    let stopped: Vec<String> = stopped.map(|rule| format!("`{}`", rule.name)).collect();
    let stopped = match &stopped[..] {
        [] => String::new(),
        names => format!(" (and since then nothing has matched {})", names.join(", ")),
    };
    (lines >= UNPARSED && between(sample.last, now) <= OF_LATE).then(|| Finding {
        source: place.name,
        kind: Kind::Unparsed,
        problem: format!(
            "{lines} lines look like failures and match no rule{stopped}; the last such: {}",
            sample.text
        ),
        remedy: match place.kind {
            "file" => format!(
                "`ringfence test-log {} {}` lists them; please report those that are failures",
                place.jail, place.path
            ),
            "journal" => format!(
                "`journalctl -o json _COMM=sshd | ringfence test-log {} -` lists them; please report \
                those that are failures",
                place.jail
            ),
            _ => "this version of Asterisk has events that Ringfence does not know; please report it".to_owned(),
        },
        // Logged again after a tenfold increase.
        key: format!("{}", lines.ilog10()),
    })
}

fn silent(
    place: Place<'_>,
    observed: &Observed,
    listening: Timestamp,
    now: Timestamp,
) -> Option<Finding> {
    let Overdue { silent, longest } = observed.lines.overdue(now, listening, SILENT_SOURCE)?;
    Some(Finding {
        source: place.name,
        kind: Kind::Silent,
        problem: format!(
            "nothing has come from {} for {}, and it was never silent for more than {} before",
            place.path,
            whole_hours(silent),
            duration::format(longest)
        ),
        remedy: remedy(place.name).to_owned(),
        key: String::new(),
    })
}

fn rules(
    place: Place<'_>,
    observed: &Observed,
    listening: Timestamp,
    now: Timestamp,
) -> Vec<Finding> {
    let finding = |rule: &Rule| {
        let Overdue { silent, longest } = rule.hits.overdue(now, listening, SILENT_RULE)?;
        let since = observed.lines.count.saturating_sub(rule.lines_then);
        // A rule cannot match while its source has no lines.
        (since >= rule.hits.count / 10).then(|| Finding {
            source: place.name,
            kind: Kind::Rule,
            problem: format!(
                "the rule `{}` has matched nothing for {} and {since} lines; before that it had matched \
                {}, with a longest pause of {}",
                rule.name,
                whole_hours(silent),
                rule.hits.count,
                duration::format(longest)
            ),
            remedy: "if Asterisk's own log shows that such failures still occur, the message has \
                   changed; please report it"
                .to_owned(),
            key: rule.name.to_owned(),
        })
    };
    observed.rules.iter().filter_map(finding).collect()
}

fn missed_failures(place: Place<'_>, observed: &Observed, now: Timestamp) -> Option<Finding> {
    observed.echo.is_over(MISSED_FAILURES, MISSED_FAILURES_TIME, now).then(|| Finding {
        source: place.name,
        kind: Kind::MissedFailures,
        problem: format!(
            "other sources have reported {} failures that every source should report, and nothing has \
            come from {}",
            observed.echo.count, place.path
        ),
        remedy: remedy(place.name).to_owned(),
        key: String::new(),
    })
}

fn missed_requests(place: Place<'_>, observed: &Observed, now: Timestamp) -> Option<Finding> {
    observed.requests.is_over(MISSED_REQUESTS, MISSED_REQUESTS_TIME, now).then(|| Finding {
        source: place.name,
        kind: Kind::MissedRequests,
        problem: format!(
            "{} REGISTERs have passed to Asterisk, but it has reported none",
            observed.requests.count
        ),
        remedy:
            "check that this is the Asterisk that has the SIP ports; its AMI user needs `read = \
        security` and no `eventfilter`"
                .to_owned(),
        key: String::new(),
    })
}

/// A finding about consecutive failures for which the filter has seen no packet.
pub fn unwitnessed(source: &'static str, unseen: u64, remedy: &str) -> Option<Finding> {
    (unseen >= UNWITNESSED).then(|| Finding {
        source,
        kind: Kind::Unwitnessed,
        problem: format!(
            "{unseen} of {unseen} failures unwitnessed: SIP arrives on another port or interface, or \
            the lines are forged"
        ),
        remedy: remedy.to_owned(),
        // Logged again after a tenfold increase.
        key: format!("{}", unseen.ilog10()),
    })
}

fn whole_hours(time: Duration) -> String {
    duration::format(Duration::from_hours(time.as_secs() / 3600))
}

/// The most common fix for a source.
pub fn remedy(source: &str) -> &'static str {
    register::source(source).map_or("see docs/operations.md", |source| source.remedy)
}

#[cfg(test)]
mod tests;

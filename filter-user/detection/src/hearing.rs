//! Whether Ringfence hears what there is to hear: what the sources read, when and by which rule,
//! enters; findings leave.
//!
//! Every parser rots one day: a new version of Asterisk words a line anew, a level is switched off, a
//! log moves. Nothing fails then, and nobody is banned any more. This looks for what gives it away:
//! lines that look like failures and match no rule, a source or a rule that has been silent for much
//! longer than it ever was, and one source that tells of failures of which another says nothing.
//!
//! It holds no clock. What it keeps is bounded by the rules of the parsers.

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

/// A source of lines is not asked after before that long.
const SILENT_SOURCE: Duration = Duration::from_hours(12);

/// Nor a rule.
const SILENT_RULE: Duration = Duration::from_hours(7 * 24);

/// So many lines that look like failures are a finding.
const UNPARSED: u64 = 3;

/// If there was one in so much time.
const OF_LATE: Duration = Duration::from_hours(7 * 24);

/// A rule that matched so often has been in use.
const USED: u64 = 10;

/// So many failures that another source tells of are.
const UNECHOED: u64 = 10;

/// So many failures one after the other whose packets the filter has not seen are a finding.
pub const UNWITNESSED: u64 = 10;

/// And so many requests that the filter has seen pass.
const UNHEARD_REQUESTS: u64 = 100;

/// How long a source may take to tell of what another has told of.
const ECHO: Duration = Duration::from_secs(10);

/// A source that was away for longer may have missed what breaks a silence.
const ABSENCE: Duration = Duration::from_mins(10);

/// How long AMI may say nothing while requests pass.
const UNHEARD: Duration = Duration::from_mins(1);

/// What one source has heard.
#[derive(Clone, Debug, Default)]
pub struct Ear {
    /// Since when it reads; `None` while it does not.
    listening: Option<Timestamp>,
    /// Since when it has done so but for short absences, as while a log is rotated.
    attentive: Option<Timestamp>,
    /// Since when it does not read, or did not at last.
    away: Option<Timestamp>,
    /// The lines or events that it read.
    pub lines: Rhythm,
    /// The rules of its parser.
    pub rules: Vec<Rule>,
    /// What looks like failures and matches none of them.
    pub unparsed: Unparsed,
    /// What it should have heard too.
    echo: Missing,
    /// The same, of the requests that the filter has let through.
    requests: Missing,
}

/// A rule, and what matched it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// Its name.
    pub name: &'static str,
    /// What matched it.
    pub hits: Rhythm,
    /// How many lines the source had had at the last hit.
    pub lines_then: u64,
}

/// What others have told of since a source last told of any such thing.
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

    /// Whether at least `least` are missing, and the first of them for so long.
    fn is_over(self, least: u64, time: Duration, now: Timestamp) -> bool {
        self.count >= least && self.since.is_some_and(|since| between(since, now) >= time)
    }
}

/// What kind of sign a source gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Lines that look like failures match no rule.
    Unparsed,
    /// A rule matches nothing any more.
    Rule,
    /// The source says nothing any more.
    Silent,
    /// Another source tells of failures of which it says nothing.
    Unechoed,
    /// The filter passes requests of which it says nothing.
    Unheard,
    /// It tells of failures of which the filter has seen no packet.
    Unwitnessed,
}

impl Kind {
    /// The name that `status --json` uses.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unparsed => "unparsed",
            Self::Rule => "rule",
            Self::Silent => "silent",
            Self::Unechoed => "unechoed",
            Self::Unheard => "unheard",
            Self::Unwitnessed => "unwitnessed",
        }
    }

    /// What is said when there is no such sign any more.
    pub fn over(self) -> &'static str {
        match self {
            Self::Unparsed => "no line of late looks like a failure and matches no rule",
            Self::Rule => "its rules match again",
            Self::Silent => "it is heard of again",
            Self::Unechoed => "nothing is missing any more of what the other sources tell of",
            Self::Unheard => "nothing is missing any more of the REGISTERs that pass",
            Self::Unwitnessed => "the filter sees the packets of failures again",
        }
    }
}

/// Something that is probably not heard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The name of the source.
    pub source: &'static str,
    /// What kind of sign it is.
    pub kind: Kind,
    /// What gives it away.
    pub problem: String,
    /// What to do about it.
    pub mend: String,
    /// What it is said once for: it is said again when this changes.
    pub key: String,
}

/// What the judgement needs to know of a source besides what it heard.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The name of the source.
    pub name: &'static str,
    /// `file`, `journal` or `ami`.
    pub kind: &'static str,
    /// What it reads.
    pub path: &'a str,
    /// The jail that hears it.
    pub jail: &'static str,
}

impl Ear {
    /// One that has heard nothing yet, of a source whose parser has these rules.
    pub fn new(rules: &'static [&'static str]) -> Self {
        let rule = |name: &&'static str| Rule { name, hits: Rhythm::default(), lines_then: 0 };
        Self { rules: rules.iter().map(rule).collect(), ..Self::default() }
    }

    /// The source reads, or it does not.
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

    /// It read lines, and attempts were among them.
    pub fn hear(&mut self, lines: u64, attempts: &[Attempt], unparsed: Unparsed, now: Timestamp) {
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

    /// The filter has let `count` requests through of which the source tells one by one.
    pub fn requests_passed(&mut self, count: u64, now: Timestamp) {
        if self.listening.is_some() && count > 0 {
            self.requests.add(count, now);
        }
    }
}

/// One of Asterisk's sources has read `lines` with these attempts: the `others` should tell of the same
/// failures. An [`Ear`] among them that is the teller's own has told.
pub fn compare<'a>(
    teller: &str,
    (lines, attempts): (u64, &[Attempt]),
    ears: impl Iterator<Item = (&'static str, &'a mut Ear)>,
    now: Timestamp,
) {
    let mut failures = attempts.iter().filter(|attempt| is_told_twice(attempt)).peekable();
    // What the log has kept from the time before another source listened is not missing there.
    let first = failures.peek().and_then(|first| first.logged_at);
    let first = first.and_then(|at| at.instant(&TimeZone::system())).unwrap_or(now);
    let failures = failures.count() as u64;
    for (name, ear) in ears {
        if name == teller {
            // An attacker can garble a line of the NOTICE log, but not keep it from being written.
            if failures > 0 || (lines > 0 && name == NOTICE) {
                ear.echo = Missing::default();
            }
        } else if failures > 0 && ear.listening.is_some_and(|since| since <= first) {
            ear.echo.add(failures, now);
        }
    }
}

/// Whether it is a failure of which Asterisk both writes a NOTICE line and raises a security event.
fn is_told_twice(attempt: &Attempt) -> bool {
    const EVENTS: [&str; 2] = ["ChallengeResponseFailed", "InvalidAccountID"];
    attempt.verdict == Verdict::Failure
        && (FAILED_REQUESTS.contains(&attempt.rule) || EVENTS.contains(&attempt.rule))
}

/// The source that reads Asterisk's NOTICE log.
pub const NOTICE: &str = "asterisk-notice";

/// The source that reads Asterisk's `security` log.
pub const SECURITY: &str = "asterisk-security";

/// The source that listens to Asterisk's manager interface.
pub const AMI: &str = "asterisk-ami";

/// What a source is known by over restarts. A jail of one's own may have many, which differ in what they
/// read.
pub fn key(source: &str, place: &str) -> String {
    match source {
        NOTICE | SECURITY | AMI | "sshd" | "wazo-provd" => source.to_owned(),
        _ => format!("{source} {place}"),
    }
}

/// What gives away that a source does not hear what it should.
pub fn judge(place: Place<'_>, ear: &Ear, now: Timestamp) -> Vec<Finding> {
    let unparsed = unparsed(place, ear, now);
    let (Some(_), Some(listening)) = (ear.listening, ear.attentive) else {
        return unparsed.into_iter().collect();
    };
    let silent = silent(place, ear, listening, now);
    // Where the source is silent, its rules are.
    let rules = if silent.is_some() { Vec::new() } else { rules(place, ear, listening, now) };
    let findings = [unparsed, silent, unechoed(place, ear, now), unheard(place, ear, now)];
    findings.into_iter().flatten().chain(rules).collect()
}

fn unparsed(place: Place<'_>, ear: &Ear, now: Timestamp) -> Option<Finding> {
    let lines = ear.unparsed.lines();
    let sample = *ear.unparsed.samples().first()?;
    // The strongest sign of a rule that rots: what it matched goes on in other words.
    let first = ear.unparsed.first();
    let stopped = ear.rules.iter().filter(|rule| rule.hits.count >= USED && rule.hits.last < first);
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
        mend: match place.kind {
            "file" => format!(
                "`ringfence test-log {} {}` lists them; what is a failure among them is worth a report",
                place.jail, place.path
            ),
            "journal" => format!(
                "`journalctl -o json _COMM=sshd | ringfence test-log {} -` lists them; what is a \
                 failure among them is worth a report",
                place.jail
            ),
            _ => "this version of Asterisk has events that Ringfence does not know: report it".to_owned(),
        },
        // Said again when it is ten times as much.
        key: format!("{}", lines.ilog10()),
    })
}

fn silent(place: Place<'_>, ear: &Ear, listening: Timestamp, now: Timestamp) -> Option<Finding> {
    let Overdue { silent, longest } = ear.lines.overdue(now, listening, SILENT_SOURCE)?;
    Some(Finding {
        source: place.name,
        kind: Kind::Silent,
        problem: format!(
            "nothing has come from {} for {}, and it was never silent for more than {} before",
            place.path,
            whole_hours(silent),
            duration::format(longest)
        ),
        mend: mend(place.name).to_owned(),
        key: String::new(),
    })
}

fn rules(place: Place<'_>, ear: &Ear, listening: Timestamp, now: Timestamp) -> Vec<Finding> {
    let finding = |rule: &Rule| {
        let Overdue { silent, longest } = rule.hits.overdue(now, listening, SILENT_RULE)?;
        let since = ear.lines.count.saturating_sub(rule.lines_then);
        // A source without lines says nothing about a rule.
        (since >= rule.hits.count / 10).then(|| Finding {
            source: place.name,
            kind: Kind::Rule,
            problem: format!(
                "the rule `{}` has matched nothing for {} and {since} lines; before, it matched {} and \
                 the longest pause was {}",
                rule.name,
                whole_hours(silent),
                rule.hits.count,
                duration::format(longest)
            ),
            mend: "if such failures still happen, as Asterisk's own log shows, the words of the line \
                   have changed: report it"
                .to_owned(),
            key: rule.name.to_owned(),
        })
    };
    ear.rules.iter().filter_map(finding).collect()
}

fn unechoed(place: Place<'_>, ear: &Ear, now: Timestamp) -> Option<Finding> {
    ear.echo.is_over(UNECHOED, ECHO, now).then(|| Finding {
        source: place.name,
        kind: Kind::Unechoed,
        problem: format!(
            "other sources have told of {} failures that Asterisk tells of everywhere, and nothing has \
             come from {}",
            ear.echo.count, place.path
        ),
        mend: mend(place.name).to_owned(),
        key: String::new(),
    })
}

fn unheard(place: Place<'_>, ear: &Ear, now: Timestamp) -> Option<Finding> {
    ear.requests.is_over(UNHEARD_REQUESTS, UNHEARD, now).then(|| Finding {
        source: place.name,
        kind: Kind::Unheard,
        problem: format!(
            "{} REGISTERs have passed to Asterisk, and it has told of none",
            ear.requests.count
        ),
        mend: "see that this is the Asterisk that has the SIP ports; its AMI user needs `read = \
               security` and no `eventfilter`"
            .to_owned(),
        key: String::new(),
    })
}

/// Failures of which the filter has seen no packet, one after the other: it looks elsewhere.
pub fn unwitnessed(source: &'static str, unseen: u64, mend: &str) -> Option<Finding> {
    (unseen >= UNWITNESSED).then(|| Finding {
        source,
        kind: Kind::Unwitnessed,
        problem: format!(
            "{unseen} of {unseen} failures unwitnessed: SIP comes in on another port or interface, or \
             the lines are forged"
        ),
        mend: mend.to_owned(),
        // Said again when it is ten times as much.
        key: format!("{}", unseen.ilog10()),
    })
}

fn whole_hours(time: Duration) -> String {
    duration::format(Duration::from_hours(time.as_secs() / 3600))
}

/// What most often helps a source.
pub fn mend(source: &str) -> &'static str {
    match source {
        NOTICE => {
            "in logger.conf, under [logfiles]: `fail2ban => notice`; then `asterisk -rx 'logger reload'`"
        }
        SECURITY => {
            "in logger.conf, under [logfiles]: `security => [json]security`; then `asterisk -rx 'logger reload'`"
        }
        AMI => {
            "set up AMI's user with `ringfence doctor --fix`, or `sources: {asterisk: {ami: {enabled: false}}}`"
        }
        "sshd" => {
            "name the log that sshd writes: `sources: {sshd: {log: journal}}` or `{log: file, auth_log: PATH}`"
        }
        "wazo-provd" => {
            "name its log: `sources: {wazo_provd: {log: PATH}}`, or `jails: {wazo-provd: {enabled: false}}`"
        }
        _ => "see docs/operations.md",
    }
}

#[cfg(test)]
mod tests;

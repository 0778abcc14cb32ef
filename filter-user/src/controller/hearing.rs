//! Whether the sources hear what there is to hear: what they sent is compared, what that gives away
//! is said once.

use std::collections::BTreeSet;

use api::{Exposure, Sample, Unparsed};
use filter_common::decision::Reason;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use log::{info, warn};

use super::{Controller, SourceReport};
use crate::clock::{KernelTime, Moment, Rfc3339};
use crate::datapath::Datapath;
use crate::hearing::{self, AMI, Ear, Finding, Kind, NOTICE, Place, SECURITY};
use crate::source::Heard;

/// Requests of each of which AMI tells, by why they passed.
const REGISTERS: [Reason; 3] = [Reason::Register, Reason::RegisterCredentials, Reason::Admitted];

/// A source's packets are remembered for about eight seconds.
const FRESH_SECONDS: i64 = 5;

/// What is said once: of which source, what it reads, which sign, and its key.
type Told = (&'static str, String, Kind, String);

/// What was said, and what was counted when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct Hearing {
    told: BTreeSet<Told>,
    passed: Option<u64>,
    /// Where SIP may come in that the filter does not see.
    hint: String,
}

impl<D: Datapath> Controller<D> {
    /// Takes note of what a source has sent, besides the attempts.
    pub fn take_note(&mut self, source: usize, news: &mut Heard, now: KernelTime) {
        let now = self.on_the_wall(now);
        let Some(report) = self.sources.get_mut(source) else { return };
        let unparsed = std::mem::take(&mut news.unparsed);
        report.ear.hear(news.lines, &news.attempts, unparsed, now);
        let name = report.name;
        if is_asterisk(name) {
            let asterisk = self.sources.iter_mut().filter(|source| is_asterisk(source.name));
            let ears = asterisk.map(|source| (source.name, &mut source.ear));
            hearing::compare(name, (news.lines, &news.attempts), ears, now);
        }
    }

    /// Gives the number of a source that is gone to another.
    pub fn replace_source(&mut self, number: usize, report: SourceReport) {
        if let Some(place) = self.sources.get_mut(number) {
            *place = report;
        }
    }

    /// A source reads, or it does not.
    pub fn source_reads(&mut self, source: usize, reads: bool, now: KernelTime) {
        let now = self.on_the_wall(now);
        if let Some(report) = self.sources.get_mut(source) {
            report.ear.reads(reads, now);
        }
    }

    /// Looks whether the sources hear, and says what is new.
    pub fn look_at_hearing(&mut self, now: KernelTime) {
        // Of whoever has left before the last of them.
        self.tell_taken_over();
        let wall = self.on_the_wall(now);
        let passed = self.registers_passed();
        let before = self.hearing.passed.replace(passed).unwrap_or(passed);
        // The filter has no counters of the time before it was attached anew.
        let news = passed.saturating_sub(before);
        if let Some(ami) = self.sources.iter_mut().find(|source| source.name == AMI) {
            ami.ear.requests_passed(news, wall);
        }
        let findings = self.findings(wall);
        let key = |(place, finding): &(String, Finding)| {
            (finding.source, place.clone(), finding.kind, finding.key.clone())
        };
        let told: BTreeSet<Told> = findings.iter().map(key).collect();
        for new in findings.iter().filter(|found| !self.hearing.told.contains(&key(found))) {
            let (_, Finding { source, problem, mend, .. }) = new;
            warn!("{source}: {problem}; {mend}");
        }
        let of = |(source, place, kind, _): &Told| (*source, place.clone(), *kind);
        let still: BTreeSet<_> = told.iter().map(of).collect();
        let over: BTreeSet<_> = self.hearing.told.iter().map(of).collect();
        for (source, place, kind) in over.difference(&still) {
            // One that does not read has said so, and mends nothing by that.
            let reads = |(name, path, ear): (&str, &str, &Ear)| {
                name == *source && path == place && ear.is_listening()
            };
            if self.ears().any(reads) {
                info!("{source}: {}", kind.over());
            }
        }
        self.hearing.told = told;
    }

    /// Hears what is not seen on this host, and where else SIP may come in. Says what is new.
    pub fn set_exposures(&mut self, exposures: Vec<Exposure>, hint: String) {
        for one in exposures.iter().filter(|one| !self.exposures.contains(one)) {
            warn!("{}: {}; {}", one.subject, one.problem, one.mend);
        }
        let still = |one: &&Exposure| exposures.iter().any(|now| now.subject == one.subject);
        for one in self.exposures.iter().filter(|one| !still(one)) {
            info!("{}: no longer so: {}", one.subject, one.problem);
        }
        self.hearing.hint = hint;
        self.exposures = exposures;
    }

    /// The sources' names, what they read, and what they heard.
    pub fn ears(&self) -> impl Iterator<Item = (&str, &str, &Ear)> {
        self.present().map(|source| (source.name, &*source.place, &source.ear))
    }

    /// The sources that there are.
    fn present(&self) -> impl Iterator<Item = &SourceReport> {
        self.sources.iter().filter(|source| !source.is_gone)
    }

    /// The findings, for `status`.
    pub(super) fn hearing_findings(&self, now: KernelTime) -> Vec<api::Hearing> {
        let shown = |(_, Finding { source, kind, problem, mend, .. }): (String, Finding)| {
            let (source, kind) = (source.to_owned(), kind.as_str().to_owned());
            api::Hearing { source, kind, problem, mend }
        };
        self.findings(self.on_the_wall(now)).into_iter().map(shown).collect()
    }

    /// The findings, each with what its source reads.
    fn findings(&self, now: Timestamp) -> Vec<(String, Finding)> {
        let of = |source: &SourceReport| {
            let SourceReport { name, kind, jail, .. } = *source;
            let place = Place { name, kind, path: &source.place, jail };
            let blind = hearing::unwitnessed(name, source.unseen, &self.hearing.hint);
            let found = hearing::judge(place, &source.ear, now).into_iter().chain(blind);
            found.map(|finding| (source.place.clone(), finding)).collect::<Vec<_>>()
        };
        self.present().flat_map(of).collect()
    }

    fn registers_passed(&self) -> u64 {
        // What cannot be read is complained of where it is asked for.
        let counters = self.datapath.counters().unwrap_or_default();
        let reasons = counters.iter().flat_map(|counted| &counted.reasons);
        reasons
            .filter(|(reason, _)| REGISTERS.contains(reason))
            .map(|(_, count)| count.packets)
            .sum()
    }

    /// Whether a line was written so long ago that the packets behind it are forgotten.
    pub(super) fn is_old(&self, attempt: &crate::failure::Attempt, now: KernelTime) -> bool {
        let written = attempt.logged_at.and_then(|at| at.instant(&TimeZone::system()));
        let now = Moment::from(now).on_the_wall(self.started.kernel, self.started.wall);
        written.is_some_and(|written| now.duration_since(written).as_secs() > FRESH_SECONDS)
    }

    /// By the wall clock of the start, for what the sources heard: they are judged by how long ago that
    /// was, which no step of the clock may change.
    pub(super) fn on_the_wall(&self, now: KernelTime) -> Timestamp {
        Moment::from(now).on_the_wall(self.begun.kernel, self.begun.wall)
    }

    /// Such a time as `status` shows it: by the wall clock as it is, unless it is from an earlier start.
    pub(super) fn heard_at(&self, at: Timestamp, now: KernelTime) -> String {
        let is_of_this_start = (self.begun.wall..=self.on_the_wall(now)).contains(&at);
        let step = self.started.wall.duration_since(self.begun.wall);
        let shown = if is_of_this_start { at.saturating_add(step).unwrap_or(at) } else { at };
        Rfc3339(shown).to_string()
    }
}

fn is_asterisk(source: &str) -> bool {
    [NOTICE, SECURITY, AMI].contains(&source)
}

/// The rules of a source, for `status`.
pub(super) fn rules(ear: &Ear, show: impl Fn(Timestamp) -> String) -> Vec<api::Rule> {
    let rule = |rule: &hearing::Rule| api::Rule {
        name: rule.name.to_owned(),
        hits: rule.hits.count,
        last: rule.hits.last.map(&show),
    };
    ear.rules.iter().map(rule).collect()
}

/// What a source did not understand, for `status`.
pub(super) fn unparsed(ear: &Ear, show: impl Fn(Timestamp) -> String) -> Unparsed {
    let samples = ear.unparsed.samples();
    let sample = |sample: &hearing::Sample| Sample {
        line: sample.text.clone(),
        lines: sample.lines,
        last: show(sample.last),
    };
    Unparsed {
        lines: ear.unparsed.lines(),
        last: samples.first().map(|sample| show(sample.last)),
        samples: samples.iter().copied().map(sample).collect(),
    }
}

//! Checks whether the sources recognise what they should: compares what they sent and logs each finding
//! once.

use std::collections::BTreeSet;

use api::{Exposure, Sample, Unparsed};
use filter_common::decision::Reason;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use log::{info, warn};

use super::super::Controller;
use super::{Source, Sources};
use crate::clock::{KernelTime, Moment, Rfc3339};
use crate::datapath::Datapath;
use crate::hearing::{self, AMI, Finding, Kind, Observed, Place};
use crate::register::is_asterisk;
use crate::source::Heard;

/// The reasons of requests for each of which AMI sends an event.
const REGISTERS: [Reason; 3] = [Reason::Register, Reason::RegisterCredentials, Reason::Admitted];

/// How old a line may be to be compared with packets, which are remembered for about eight seconds.
const FRESH_SECONDS: i64 = 5;

/// A finding that is logged once: the source, its place, the kind and the key.
type Key = (&'static str, String, Kind, String);

/// The findings that were logged, and the counts at the last check.
#[derive(Debug, Default)]
pub(in crate::controller) struct Hearing {
    told: BTreeSet<Key>,
    passed: Option<u64>,
    /// Where SIP may arrive that the filter does not see.
    hint: String,
}

impl Sources {
    fn take_note(&mut self, source: usize, news: &mut Heard, now: Timestamp) {
        let Some(report) = self.all.get_mut(source) else { return };
        let unparsed = std::mem::take(&mut news.unparsed);
        report.observed.observe(news.lines, &news.attempts, unparsed, now);
        let name = report.name;
        if is_asterisk(name) {
            let asterisk = self.all.iter_mut().filter(|source| is_asterisk(source.name));
            let all_observed = asterisk.map(|source| (source.name, &mut source.observed));
            hearing::compare(name, (news.lines, &news.attempts), all_observed, now);
        }
    }

    /// The findings, each with the log that its source reads.
    fn findings(&self, now: Timestamp) -> Vec<(String, Finding)> {
        let of = |source: &Source| {
            let Source { name, kind, jail, .. } = *source;
            let place = Place { name, kind, path: &source.place, jail };
            let blind = hearing::unwitnessed(name, source.unseen, &self.hearing.hint);
            let found = hearing::judge(place, &source.observed, now).into_iter().chain(blind);
            found.map(|finding| (source.place.clone(), finding)).collect::<Vec<_>>()
        };
        self.present().flat_map(of).collect()
    }

    /// Whether a source of this name reads this.
    fn is_reading(&self, name: &str, place: &str) -> bool {
        let mut sources = self.present();
        sources.any(|of| of.name == name && of.place == place && of.observed.is_listening())
    }

    /// Replaces the findings. Logs each new one, and the end of each that has disappeared.
    fn tell(&mut self, findings: &[(String, Finding)]) {
        let key = |(place, finding): &(String, Finding)| {
            (finding.source, place.clone(), finding.kind, finding.key.clone())
        };
        let told: BTreeSet<Key> = findings.iter().map(key).collect();
        for new in findings.iter().filter(|found| !self.hearing.told.contains(&key(found))) {
            let (_, Finding { source, problem, remedy, .. }) = new;
            warn!("{source}: {problem}; {remedy}");
        }
        let of = |(source, place, kind, _): &Key| (*source, place.clone(), *kind);
        let still: BTreeSet<_> = told.iter().map(of).collect();
        let over: BTreeSet<_> = self.hearing.told.iter().map(of).collect();
        for (source, place, kind) in over.difference(&still) {
            // A source that does not read has been logged already, and that solves no finding.
            if self.is_reading(source, place) {
                info!("{source}: {}", kind.over());
            }
        }
        self.hearing.told = told;
    }
}

impl<D: Datapath> Controller<D> {
    /// Records everything that a source has sent besides attempts.
    pub fn take_note(&mut self, source: usize, news: &mut Heard, now: KernelTime) {
        let now = self.on_the_wall(now);
        self.sources.take_note(source, news, now);
    }

    /// Records whether a source reads.
    pub fn source_reads(&mut self, source: usize, reads: bool, now: KernelTime) {
        let now = self.on_the_wall(now);
        if let Some(report) = self.sources.get_mut(source) {
            report.observed.reads(reads, now);
        }
    }

    /// Checks the sources and logs new findings.
    pub fn look_at_hearing(&mut self, now: KernelTime) {
        // For an import that ended before its last request.
        self.log_imported();
        let wall = self.on_the_wall(now);
        let passed = self.registers_passed();
        let before = self.sources.hearing.passed.replace(passed).unwrap_or(passed);
        // The filter's counters begin again when it is attached again.
        let news = passed.saturating_sub(before);
        if let Some(ami) = self.sources.all.iter_mut().find(|source| source.name == AMI) {
            ami.observed.requests_passed(news, wall);
        }
        let findings = self.sources.findings(wall);
        self.sources.tell(&findings);
    }

    /// Takes the exposures of this host and the hint where else SIP may arrive. Logs new exposures.
    pub fn set_exposures(&mut self, exposures: Vec<Exposure>, hint: String) {
        let before = std::mem::replace(&mut self.sources.exposures, exposures);
        let exposures = &self.sources.exposures;
        for one in exposures.iter().filter(|one| !before.contains(one)) {
            warn!("{}: {}; {}", one.subject, one.problem, one.remedy);
        }
        let still = |one: &&Exposure| exposures.iter().any(|now| now.subject == one.subject);
        for one in before.iter().filter(|one| !still(one)) {
            info!("{}: solved: {}", one.subject, one.problem);
        }
        self.sources.hearing.hint = hint;
    }

    /// The sources: their names, places, and what they have read.
    pub fn all_observed(&self) -> impl Iterator<Item = (&str, &str, &Observed)> {
        self.sources.present().map(|source| (source.name, &*source.place, &source.observed))
    }

    /// The findings, for `status`.
    pub(in crate::controller) fn hearing_findings(&self, now: KernelTime) -> Vec<api::Hearing> {
        let shown = |(_, Finding { source, kind, problem, remedy, .. }): (String, Finding)| {
            let (source, kind) = (source.to_owned(), kind.as_str().to_owned());
            api::Hearing { source, kind, problem, remedy }
        };
        self.sources.findings(self.on_the_wall(now)).into_iter().map(shown).collect()
    }

    fn registers_passed(&self) -> u64 {
        // `status` and the log report counters that cannot be read.
        let counters = self.datapath.counters().unwrap_or_default();
        let reasons = counters.iter().flat_map(|counted| &counted.reasons);
        reasons
            .filter(|(reason, _)| REGISTERS.contains(reason))
            .map(|(_, count)| count.packets)
            .sum()
    }

    /// Whether a line was written so long ago that its packets have been forgotten.
    pub(in crate::controller) fn is_old(
        &self,
        attempt: &crate::failure::Attempt,
        now: KernelTime,
    ) -> bool {
        let written = attempt.logged_at.and_then(|at| at.instant(&TimeZone::system()));
        let now = Moment::from(now).on_the_wall(self.started.kernel, self.started.wall);
        written.is_some_and(|written| now.duration_since(written).as_secs() > FRESH_SECONDS)
    }

    /// A time by the wall clock of the start. Sources are judged by how long ago they last reported
    /// something, which a step of the clock must not change.
    pub(in crate::controller) fn on_the_wall(&self, now: KernelTime) -> Timestamp {
        Moment::from(now).on_the_wall(self.begun.kernel, self.begun.wall)
    }

    /// Such a time as `status` shows it: by the wall clock as it is set now, unless it is from an earlier
    /// start.
    pub(in crate::controller) fn heard_at(&self, at: Timestamp, now: KernelTime) -> String {
        let is_of_this_start = (self.begun.wall..=self.on_the_wall(now)).contains(&at);
        let step = self.started.wall.duration_since(self.begun.wall);
        let shown = if is_of_this_start { at.saturating_add(step).unwrap_or(at) } else { at };
        Rfc3339(shown).to_string()
    }
}

/// The rules of a source, for `status`.
pub(in crate::controller) fn rules(
    observed: &Observed,
    show: impl Fn(Timestamp) -> String,
) -> Vec<api::Rule> {
    let rule = |rule: &hearing::Rule| api::Rule {
        name: rule.name.to_owned(),
        hits: rule.hits.count,
        last: rule.hits.last.map(&show),
    };
    observed.rules.iter().map(rule).collect()
}

/// What a source did not understand, for `status`.
pub(in crate::controller) fn unparsed(
    observed: &Observed,
    show: impl Fn(Timestamp) -> String,
) -> Unparsed {
    let samples = observed.unparsed.samples();
    let sample = |sample: &hearing::Sample| Sample {
        line: sample.text.clone(),
        lines: sample.lines,
        last: show(sample.last),
    };
    Unparsed {
        lines: observed.unparsed.lines(),
        last: samples.first().map(|sample| show(sample.last)),
        samples: samples.iter().copied().map(sample).collect(),
    }
}

//! The sources of failures: the state, the record and the input of each, under one number.

pub(super) mod hearing;

use std::time::Duration;

use api::{Exposure, State};

use self::hearing::Hearing;
use super::Controller;
use crate::clock::KernelTime;
use crate::datapath::Datapath;
use crate::hearing::Observed;
use crate::source::{Feed, Strain};

/// How long after a source has gone its number may be given to another. `challenge` and `join` refer to
/// sources by number for half of that time.
const REST: Duration = Duration::from_mins(1);

/// Why a source that has not reported yet waits.
const NOT_LOOKED_AT: &str = "not looked at yet";

/// All sources. One that has gone keeps its number for a while.
#[derive(Debug)]
pub(super) struct Sources {
    all: Vec<Source>,
    rest: Duration,
    hearing: Hearing,
    exposures: Vec<Exposure>,
}

impl Default for Sources {
    fn default() -> Self {
        let (hearing, exposures) = (Hearing::default(), Vec::new());
        Self { all: Vec::new(), rest: REST, hearing, exposures }
    }
}

impl Sources {
    /// Adds a source and returns its number: a new one, or one whose source has gone long enough ago.
    fn add(&mut self, source: Source, now: KernelTime) -> usize {
        let rested = |source: &Source| source.gone.is_some_and(|gone| now.since(gone) >= self.rest);
        let rested = self.all.iter().position(rested);
        if let Some(number) = rested
            && let Some(place) = self.all.get_mut(number)
        {
            *place = source;
            return number;
        }
        self.all.push(source);
        self.all.len() - 1
    }

    /// A source by its number.
    pub(super) fn get_mut(&mut self, number: usize) -> Option<&mut Source> {
        self.all.get_mut(number)
    }

    /// The sources that have not gone.
    pub(super) fn present(&self) -> impl Iterator<Item = &Source> {
        self.all.iter().filter(|source| source.gone.is_none())
    }

    /// The number of the first source of this name.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.all.iter().position(|source| source.name == name)
    }

    /// The name of a source, as long as the daemon runs, if there is one of this name.
    pub(super) fn name(&self, name: &str) -> Option<&'static str> {
        self.all.iter().map(|source| source.name).find(|of| *of == name)
    }

    /// The exposures of this host.
    pub(super) fn exposures(&self) -> &[Exposure] {
        &self.exposures
    }

    /// Goes on as if no source had been there.
    #[cfg(test)]
    pub(super) fn clear(&mut self) {
        self.all.clear();
    }
}

impl<D: Datapath> Controller<D> {
    /// Adds a source. Returns the number by which it is known from now on.
    pub fn add_source(&mut self, source: Source, now: KernelTime) -> usize {
        self.sources.add(source, now)
    }

    /// A source by its number.
    pub fn source_mut(&mut self, number: usize) -> Option<&mut Source> {
        self.sources.get_mut(number)
    }

    /// Whether every source has reported its state, which may be that there is nothing to read.
    pub fn sources_are_settled(&self) -> bool {
        self.sources.present().all(Source::is_settled)
    }

    /// Every source, in the order of their numbers.
    pub fn sources_mut(&mut self) -> impl Iterator<Item = &mut Source> {
        self.sources.all.iter_mut()
    }

    /// Gives the numbers of sources that have gone to others at once.
    #[cfg(test)]
    pub(crate) fn rest_no_numbers(&mut self) {
        self.sources.rest = Duration::ZERO;
    }
}

/// A source of failures.
#[derive(Debug)]
pub struct Source {
    /// Its name.
    pub name: &'static str,
    /// `file`, `journal`, `ami` or `wire`.
    pub kind: &'static str,
    /// The file or other place that it reads.
    pub place: String,
    /// `ok`, `waiting` or `failed`, and why.
    pub state: (State, Option<String>),
    /// Lines or events that it read.
    pub events: u64,
    /// Failures among them.
    pub failures: u64,
    /// Failures of addresses from which no packet came: forged, or read long after they were.
    pub unwitnessed: u64,
    /// Failures without a packet since the last one that had one.
    pub unseen: u64,
    /// Events or lines that were lost: too long, too many, or gone before they were read.
    pub lost: u64,
    /// The consequences, if reading it needs more CPU time than its share.
    pub strain: Option<Strain>,
    /// When it last read a line or event with a meaning.
    pub last_event: Option<KernelTime>,
    /// The jail that gets its attempts.
    pub jail: &'static str,
    /// A record of what it has read, to find out whether failures are recognised.
    pub observed: Observed,
    /// The task that reads it, and its position.
    pub feed: Feed,
    /// When its log disappeared, and so the source.
    pub gone: Option<KernelTime>,
}

impl Source {
    /// A source that has not read anything yet.
    pub fn new(name: &'static str, kind: &'static str, place: String) -> Self {
        Self {
            name,
            kind,
            place,
            state: (State::Waiting, Some(NOT_LOOKED_AT.to_owned())),
            events: 0,
            failures: 0,
            unwitnessed: 0,
            unseen: 0,
            lost: 0,
            strain: None,
            last_event: None,
            jail: "",
            observed: Observed::default(),
            feed: Feed::default(),
            gone: None,
        }
    }

    /// Whether it has reported its state.
    pub fn is_settled(&self) -> bool {
        self.state.1.as_deref() != Some(NOT_LOOKED_AT)
    }

    /// The same for a jail, by a parser with these rules.
    #[must_use]
    pub fn heard_by(self, jail: &'static str, rules: &'static [&'static str]) -> Self {
        Self { jail, observed: Observed::new(rules), ..self }
    }
}

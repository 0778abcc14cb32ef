//! The sources of failures: how each is, what it has heard and what feeds it, under one number.

use api::State;

use crate::clock::KernelTime;
use crate::hearing::Ear;
use crate::source::Strain;

/// How a source of failures is.
#[derive(Clone, Debug)]
pub struct SourceReport {
    /// Its name.
    pub name: &'static str,
    /// `file`, `journal`, `ami` or `wire`.
    pub kind: &'static str,
    /// What it reads.
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
    /// What it leads to that reading costs more than it may, if it does.
    pub strain: Option<Strain>,
    /// When the last of them came that meant something.
    pub last_event: Option<KernelTime>,
    /// The jail that hears it.
    pub jail: &'static str,
    /// What it has heard, to tell whether it hears.
    pub ear: Ear,
    /// Whether what it read is gone, and it with it.
    pub is_gone: bool,
}

impl SourceReport {
    /// A source that has not been heard of yet.
    pub fn new(name: &'static str, kind: &'static str, place: String) -> Self {
        Self {
            name,
            kind,
            place,
            state: (State::Waiting, Some("not looked at yet".to_owned())),
            events: 0,
            failures: 0,
            unwitnessed: 0,
            unseen: 0,
            lost: 0,
            strain: None,
            last_event: None,
            jail: "",
            ear: Ear::default(),
            is_gone: false,
        }
    }

    /// The same for a jail, by a parser with these rules.
    #[must_use]
    pub fn heard_by(self, jail: &'static str, rules: &'static [&'static str]) -> Self {
        Self { jail, ear: Ear::new(rules), ..self }
    }
}

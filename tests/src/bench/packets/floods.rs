//! The floods: sets up their receivers and runs one round after the other.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::Context;
use filter_user::config::Mode;

use super::cases::{self, At, Case, Verdict};
use super::lane::{Flood, Lane};
use super::promises::Measured;
use super::protected::Protected;
use super::reference::Reference;
use super::report::Row;
use super::rivals::Contender;
use super::rounds::{self, Round};
use crate::bench::float;
use crate::bench::sender::Sender;
use crate::bench::sources::Banned;
use crate::bpf::{Link, Program};
use crate::interrupt;
use crate::screen::Screen;

/// All floods and their receivers.
pub(super) struct Floods {
    entries: Vec<Entry>,
    hosts: Hosts,
    bare: Bare,
    /// A host with neither an XDP program nor a firewall rule.
    plain: Lane,
    time: Duration,
}

/// A case and what it needs.
struct Entry {
    case: Case,
    sender: Sender,
    /// Sends the same frames to the bare host for a case in generic mode, or to the plain host for
    /// frames that another firewall passes.
    beside: Option<Sender>,
    /// The receiver of this case only; other cases share a host.
    alone: Option<Alone>,
    rounds: Vec<Round>,
}

enum Alone {
    Reference(Reference),
    Rival(Contender, Lane),
}

/// The hosts with Ringfence.
struct Hosts {
    empty: Option<Host>,
    usual: Option<Host>,
    full: Option<Host>,
    generic: Option<Host>,
}

struct Host {
    link: Link,
    program: Program,
    // Declared before the lane: it must be detached while the lane exists.
    protected: Protected,
    lane: Lane,
}

/// A host without Ringfence, for programs of a few instructions.
struct Bare {
    link: Link,
    lane: Lane,
    drop: Program,
    pass: Program,
}

impl Host {
    fn new(lane: Lane, protected: Protected) -> anyhow::Result<Self> {
        let (link, program) = (protected.link()?, protected.program()?);
        Ok(Self { link, program, protected, lane })
    }

    fn with(mode: Mode, banned: Option<&Banned>) -> anyhow::Result<Self> {
        let lane = Lane::new()?;
        if mode == Mode::Generic {
            lane.cable().far_takes_frames()?;
        }
        let mut protected = Protected::attach(&lane, mode)?;
        if let Some(banned) = banned {
            protected.fill(banned)?;
        }
        Self::new(lane, protected)
    }
}

impl Hosts {
    fn at(&self, at: At) -> Option<&Host> {
        match at {
            At::Empty => self.empty.as_ref(),
            At::Usual => self.usual.as_ref(),
            At::Full => self.full.as_ref(),
            At::Generic => self.generic.as_ref(),
            At::Reference(..) | At::Rival(_) => None,
        }
    }
}

impl Bare {
    fn new() -> anyhow::Result<Self> {
        let lane = Lane::new()?;
        let (drop, pass) = (Program::drop_all()?, Program::pass_all()?);
        Ok(Self { link: lane.attach(&drop)?, lane, drop, pass })
    }
}

impl Floods {
    /// Sets up everything that these cases need. `full` is the host with the most bans.
    pub(super) fn new(
        cases: Vec<Case>,
        time: Duration,
        full: Option<(Lane, Protected)>,
        many: &Banned,
        usual: &Banned,
    ) -> anyhow::Result<Self> {
        let needs = |at: At| cases.iter().any(|case| case.at == at);
        let host = |at, mode, banned| needs(at).then(|| Host::with(mode, banned)).transpose();
        let hosts = Hosts {
            empty: host(At::Empty, Mode::Native, None)?,
            usual: host(At::Usual, Mode::Native, Some(usual))?,
            full: full.map(|(lane, protected)| Host::new(lane, protected)).transpose()?,
            generic: host(At::Generic, Mode::Generic, Some(usual))?,
        };
        let plain = Lane::new()?;
        plain.cable().far_takes_frames()?;
        let mut floods = Self { entries: Vec::new(), hosts, bare: Bare::new()?, plain, time };
        for case in cases {
            interrupt::check()?;
            let entry = floods.entry(case, many, usual)?;
            floods.entries.push(entry);
        }
        Ok(floods)
    }

    fn entry(&self, case: Case, many: &Banned, usual: &Banned) -> anyhow::Result<Entry> {
        let alone = match case.at {
            At::Reference(mebibytes, work) => {
                Some(Alone::Reference(Reference::new(mebibytes, work)?))
            }
            At::Rival(contender) => {
                let lane = Lane::new()?;
                contender
                    .set_up(&lane, many, usual)
                    .with_context(|| format!("set up {}", case.what))?;
                Some(Alone::Rival(contender, lane))
            }
            At::Empty | At::Usual | At::Full | At::Generic => None,
        };
        let sender = |lane: &Lane| lane.sender(&case.frame, case.family, case.choice);
        let own = match (&alone, self.hosts.at(case.at)) {
            (Some(Alone::Rival(_, lane)), _) => sender(lane)?,
            (None, Some(host)) => sender(&host.lane)?,
            (Some(Alone::Reference(_)) | None, _) => sender(&self.bare.lane)?,
        };
        let beside = match (case.at, case.verdict) {
            (At::Generic, _) => Some(sender(&self.bare.lane)?),
            (At::Rival(_), Verdict::Passed) => Some(sender(&self.plain)?),
            (At::Empty | At::Usual | At::Full | At::Reference(..) | At::Rival(_), _) => None,
        };
        Ok(Entry { case, sender: own, beside, alone, rounds: Vec::new() })
    }

    /// Runs all rounds and returns their rows.
    pub(super) fn measure(&mut self, rounds: u32, screen: &mut Screen) -> anyhow::Result<Vec<Row>> {
        for number in 1..=rounds {
            for place in 0..self.entries.len() {
                interrupt::check()?;
                let Some(entry) = self.entries.get(place) else { continue };
                let round = self.round(entry).with_context(|| entry.case.what.clone())?;
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.rounds.push(round);
                }
            }
            if !self.entries.is_empty() {
                screen.say(&format!("  floods: round {number} of {rounds}"))?;
            }
        }
        let measured: Measured<'_> = self
            .entries
            .iter()
            .map(|entry| (entry.case.name.as_str(), entry.rounds.as_slice()))
            .collect::<BTreeMap<_, _>>();
        let cases = || self.entries.iter().map(|entry| &entry.case);
        let mut rows: Vec<Row> = cases().flat_map(|case| rounds::rows(case, &measured)).collect();
        if cases().any(|case| case.at == At::Generic) {
            let beside = cases().filter(|case| cases::is_beside_generic(case));
            rows.extend(beside.flat_map(|case| rounds::beside_generic(case, &measured)));
        }
        Ok(rows)
    }

    /// Removes everything except the host with the most bans, which runs its own program again.
    pub(super) fn into_full(self) -> Option<(Lane, Protected)> {
        let Host { protected, lane, .. } = self.hosts.full?;
        Some((lane, protected))
    }

    fn round(&self, entry: &Entry) -> anyhow::Result<Round> {
        match (&entry.alone, self.hosts.at(entry.case.at)) {
            (Some(Alone::Reference(reference)), _) => self.reference(entry, reference),
            (Some(Alone::Rival(contender, lane)), _) => self.rival(entry, *contender, lane),
            (None, host) => self.ringfence(entry, host.context("there is no such host")?),
        }
    }

    fn reference(&self, entry: &Entry, reference: &Reference) -> anyhow::Result<Round> {
        let Bare { link, lane, drop, .. } = &self.bare;
        let _sender = lane.at_work(&entry.sender)?;
        let flood = |program| self.with(link, program, lane, &entry.sender);
        let before = flood(drop)?;
        let case = flood(reference.program())?;
        let after = flood(drop)?;
        // A reference that does not drop fails its test run.
        Ok(dropped(case, [before, after], 1.0))
    }

    fn rival(&self, entry: &Entry, contender: Contender, lane: &Lane) -> anyhow::Result<Round> {
        let _sender = lane.at_work(&entry.sender)?;
        let bare = || -> anyhow::Result<Flood> {
            let _link = lane.attach(&self.bare.drop)?;
            lane.flood(&entry.sender, self.time)
        };
        let before = bare()?;
        let pass = match &entry.beside {
            Some(sender) => {
                let _sender = self.plain.at_work(sender)?;
                Some(self.plain.flood(sender, self.time)?.nanoseconds)
            }
            None => None,
        };
        let counted = contender.dropped(lane)?;
        let case = lane.flood(&entry.sender, self.time)?;
        let counted = contender.dropped(lane)?.saturating_sub(counted);
        let after = bare()?;
        // Frames that were lost and sent again are also counted.
        let judged = (float(counted) / float(case.received)).min(1.0);
        let round = dropped(case, [before, after], judged);
        Ok(match entry.case.verdict {
            Verdict::Dropped => round,
            Verdict::Passed => {
                Round { pass, judged: 1.0 - judged, verdict: Verdict::Passed, ..round }
            }
        })
    }

    fn ringfence(&self, entry: &Entry, host: &Host) -> anyhow::Result<Round> {
        let native = || -> anyhow::Result<Option<f64>> {
            let Some(sender) = &entry.beside else { return Ok(None) };
            let lane = &self.bare.lane;
            let _sender = lane.at_work(sender)?;
            let flood = self.with(&self.bare.link, &self.bare.drop, lane, sender)?;
            Ok(Some(flood.nanoseconds))
        };
        let native_before = native()?;
        let _sender = host.lane.at_work(&entry.sender)?;
        let flood = |program| self.with(&host.link, program, &host.lane, &entry.sender);
        let before = flood(&self.bare.drop)?.nanoseconds;
        let pass = match entry.case.verdict {
            Verdict::Passed => Some(flood(&self.bare.pass)?.nanoseconds),
            Verdict::Dropped => None,
        };
        let verdicts = host.protected.verdicts()?;
        let case = flood(&host.program)?.nanoseconds;
        let verdicts = host.protected.verdicts()?.since(verdicts);
        let after = flood(&self.bare.drop)?.nanoseconds;
        host.link.replace(&host.program)?;
        let judged = match entry.case.verdict {
            Verdict::Passed => verdicts.passed,
            Verdict::Dropped => verdicts.dropped,
        };
        let own = f64::midpoint(before, after);
        let native = match (native_before, native()?) {
            (Some(before), Some(after)) => Some(f64::midpoint(before, after)),
            (_, _) => None,
        };
        Ok(Round {
            case,
            drop: native.unwrap_or(own),
            generic: native.map(|_native| own),
            pass,
            judged: float(judged) / float(verdicts.passed + verdicts.dropped),
            verdict: entry.case.verdict,
        })
    }

    fn with(
        &self,
        link: &Link,
        program: &Program,
        lane: &Lane,
        sender: &Sender,
    ) -> anyhow::Result<Flood> {
        link.replace(program)?;
        lane.flood(sender, self.time)
    }
}

fn dropped(case: Flood, bare: [Flood; 2], judged: f64) -> Round {
    let [before, after] = bare;
    Round {
        case: case.nanoseconds,
        drop: f64::midpoint(before.nanoseconds, after.nanoseconds),
        generic: None,
        pass: None,
        judged,
        verdict: Verdict::Dropped,
    }
}

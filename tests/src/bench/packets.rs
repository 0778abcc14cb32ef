//! What a packet costs: the program beside an empty one and beside what else a user would have, with
//! a million bans; and what it costs to ban.
//!
//! Each case and its baseline take turns, and a ratio is of neighbours, so that what else the
//! machine does meets both.

mod cases;
mod control;
mod lane;
mod protected;
mod report;
mod rivals;

use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use self::cases::{Case, Run, Verdict};
use self::lane::{Flood, Lane};
use self::protected::{Limits, Protected};
pub use self::report::Report;
use self::report::{Bound, Group, Row};
use self::rivals::Rival;
use super::float;
use super::sender::{Family, Sender};
use super::sources::{Banned, Choice};
use super::stopwatch::Stopwatch;
use crate::bpf::{Action, Link, PlainHash, Program};
use crate::packet_builder::Frame;
use crate::screen::Screen;
use crate::{interrupt, netns};

/// What is banned in the tables that are full.
const V4_BANS: usize = 1_000_000;
const V6_BANS: usize = 100_000;
const NETWORKS: usize = 100_000;
/// Sources in a rival's set.
const RIVAL_SETS: [usize; 2] = [1, 100_000];
/// How often tables are filled, which takes seconds each.
const LOADS: u32 = 3;
/// Packets between two looks at the clock in a test run.
const REPEAT: u32 = 1_000_000;
/// The part of a case's packets that must have met with its verdict.
const JUDGED_MIN: f64 = 0.98;

/// What a measurement is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The `ringfence` binary.
    pub ringfence: Option<PathBuf>,
    /// Rounds of each case.
    pub rounds: u32,
    /// How long each flood of a round is.
    pub time: Duration,
    /// The cases whose names contain one of these; all if there is none.
    pub only: Vec<String>,
}

impl Settings {
    fn wants(&self, case: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| case.contains(only.as_str()))
    }

    /// Whether any case is wanted for which tables are filled.
    fn wants_ringfence(&self, banned: &Banned) -> bool {
        let floods = cases::empty().into_iter().chain(cases::full(banned)).map(|case| case.name);
        let runs = cases::runs(banned).into_iter().chain(cases::passed_runs()).map(|run| run.name);
        floods.chain(runs).chain(["load", "memory"]).any(|name| self.wants(name))
    }
}

/// A REGISTER of 300 bytes to a PBX, for a sender to give its source.
pub(super) fn register_frame() -> Frame {
    cases::rival_frame()
}

/// Measures. All that was made is gone when it returns.
///
/// # Errors
///
/// When something that is needed is missing, the kernel refuses, the machine is too busy to measure
/// on, or the run is interrupted. A missed target is no error; see [`Report::targets_met`].
pub fn run(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Report> {
    rivals::check_tools()?;
    netns::sweep().context("remove what an earlier run left behind")?;
    let banned = Banned::new(V4_BANS, V6_BANS, NETWORKS);
    let mut rows = Vec::new();
    rows.extend(ringfence(settings, &banned, screen)?);
    rows.extend(all_rivals(settings, &banned, screen)?);
    rows.extend(bans(settings, screen)?);
    let complete = settings.only.is_empty();
    Ok(Report::new(settings.rounds, settings.time.as_secs_f64(), complete, rows))
}

/// Everything that is about the program on its interface.
fn ringfence(
    settings: &Settings,
    banned: &Banned,
    screen: &mut Screen,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    if !settings.wants_ringfence(banned) {
        return Ok(rows);
    }
    let lane = Lane::new()?;
    let mut protected = Protected::attach(&lane)?;
    let empty_memory = mebibytes(protected.memory()?);
    rows.extend(floods(settings, &lane, &protected, cases::empty(), screen)?);
    screen.say("  filling the tables")?;
    let mut loads = vec![protected.fill(banned)?];
    let full_memory = mebibytes(protected.memory()?);
    rows.extend(floods(settings, &lane, &protected, cases::full(banned), screen)?);
    rows.extend(test_runs(settings, &protected, cases::runs(banned), screen)?);
    protected = protected.restart(&lane, Limits::Wide)?;
    protected.know(cases::known_peer())?;
    rows.extend(test_runs(settings, &protected, cases::passed_runs(), screen)?);
    drop((protected, lane));
    if settings.wants("load") {
        let mut raw = vec![raw_load(banned)?];
        for _load in 1..LOADS {
            interrupt::check()?;
            let lane = Lane::new()?;
            raw.push(raw_load(banned)?);
            loads.push(Protected::attach(&lane)?.fill(banned)?);
        }
        rows.extend(load_row(&loads, &raw));
    }
    if settings.wants("memory") {
        let what = "kernel memory of all maps, no bans";
        let row = Row::new(Group::Table, "memory-empty", what, "MiB", vec![empty_memory]);
        rows.extend(row.map(|row| row.must(Some(Bound::AtMost(40.0)))));
        let what = "the same with 1,000,000 IPv4, 100,000 IPv6 bans, 100,000 networks";
        rows.extend(Row::new(Group::Table, "memory-full", what, "MiB", vec![full_memory]));
    }
    Ok(rows)
}

/// One round of a flood: nanoseconds a frame of each.
#[derive(Clone, Copy, Debug)]
struct Round {
    case: f64,
    /// The mean of the bare drop before and the one after.
    drop: f64,
    /// An empty program that passes, for what passes.
    pass: Option<f64>,
    /// The part of the frames that met with the case's verdict.
    judged: f64,
}

fn floods(
    settings: &Settings,
    lane: &Lane,
    protected: &Protected,
    cases: Vec<Case>,
    screen: &mut Screen,
) -> anyhow::Result<Vec<Row>> {
    let wanted: Vec<Case> = cases.into_iter().filter(|case| settings.wants(case.name)).collect();
    let senders: Vec<Sender> = wanted
        .iter()
        .map(|case| lane.sender(&case.frame, case.family, case.choice))
        .collect::<anyhow::Result<_>>()?;
    let bench = Bench {
        lane,
        link: protected.link()?,
        program: protected.program()?,
        bare_drop: Program::drop_all()?,
        bare_pass: Program::pass_all()?,
        time: settings.time,
    };
    let mut rounds: Vec<Vec<Round>> = vec![Vec::new(); wanted.len()];
    for number in 1..=settings.rounds {
        for ((case, sender), rounds) in wanted.iter().zip(&senders).zip(&mut rounds) {
            interrupt::check()?;
            rounds.push(bench.round(protected, case, sender)?);
        }
        if !wanted.is_empty() {
            screen.say(&format!("  floods: round {number} of {}", settings.rounds))?;
        }
    }
    bench.link.replace(&bench.program)?;
    Ok(wanted.iter().zip(&rounds).flat_map(|(case, rounds)| flood_rows(case, rounds)).collect())
}

/// The programs that take turns at the end of a lane.
struct Bench<'a> {
    lane: &'a Lane,
    link: Link,
    program: Program,
    bare_drop: Program,
    bare_pass: Program,
    time: Duration,
}

impl Bench<'_> {
    fn round(&self, protected: &Protected, case: &Case, sender: &Sender) -> anyhow::Result<Round> {
        let before = self.with(&self.bare_drop, sender)?.nanoseconds;
        let pass = match case.verdict {
            Verdict::Passed => Some(self.with(&self.bare_pass, sender)?.nanoseconds),
            Verdict::Dropped => None,
        };
        let verdicts = protected.verdicts()?;
        let flood = self.with(&self.program, sender)?;
        let verdicts = protected.verdicts()?.since(verdicts);
        let after = self.with(&self.bare_drop, sender)?.nanoseconds;
        let judged = match case.verdict {
            Verdict::Passed => verdicts.passed,
            Verdict::Dropped => verdicts.dropped,
        };
        Ok(Round {
            case: flood.nanoseconds,
            drop: f64::midpoint(before, after),
            pass,
            judged: float(judged) / float(verdicts.passed + verdicts.dropped),
        })
    }

    fn with(&self, program: &Program, sender: &Sender) -> anyhow::Result<Flood> {
        self.link.replace(program)?;
        self.lane.flood(sender, self.time)
    }
}

fn flood_rows(case: &Case, rounds: &[Round]) -> Vec<Row> {
    let rates = || rounds.iter().map(|round| kilo_a_second(round.case)).collect();
    let drops = || rounds.iter().map(|round| kilo_a_second(round.drop));
    let bound = case.at_least.map(Bound::AtLeast);
    let of_drop = rounds.iter().map(|round| round.drop / round.case * 100.0);
    let row = Row::new(Group::Flood, case.name, case.what, "kpps", rates());
    let mut rows = Vec::new();
    match case.verdict {
        Verdict::Dropped => {
            let row = row.map(|row| row.beside("bare drop", drops(), of_drop, "%").must(bound));
            rows.extend(row);
        }
        Verdict::Passed => {
            // What the program adds to an empty one that passes, on top of a bare drop: the share
            // that there would be if passing cost no more than dropping.
            let net = rounds.iter().filter_map(|round| {
                Some(round.drop / (round.drop + round.case - round.pass?) * 100.0)
            });
            let passes = || rounds.iter().filter_map(|round| round.pass);
            let of_pass = rounds.iter().filter_map(|round| Some(round.pass? / round.case * 100.0));
            rows.extend(row.map(|row| {
                row.beside("bare drop", drops(), net, "%").must(bound).note(
                    "the ratio leaves out what the stack does with a passed frame: bare drop / \
                     (bare drop + Ringfence - empty pass), in ns",
                )
            }));
            let what = "  the same, the stack's work in both";
            rows.extend(
                Row::new(Group::Flood, case.name, what, "kpps", rates())
                    .map(|row| row.beside("empty pass", passes().map(kilo_a_second), of_pass, "%")),
            );
            let what = "  the same, the stack's work in the one and not in the other";
            rows.extend(
                Row::new(Group::Flood, case.name, what, "kpps", rates())
                    .map(|row| row.beside("bare drop", drops(), of_drop, "%")),
            );
        }
    }
    let judged = rounds.iter().map(|round| round.judged).fold(1.0, f64::min);
    if judged < JUDGED_MIN {
        let verdict = match case.verdict {
            Verdict::Dropped => "dropped",
            Verdict::Passed => "passed",
        };
        let why = format!("void: only {:.1} % of the frames were {verdict}", judged * 100.0);
        rows = rows.into_iter().map(|row| row.void(why.clone())).collect();
    }
    rows
}

fn test_runs(
    settings: &Settings,
    protected: &Protected,
    runs: Vec<Run>,
    screen: &mut Screen,
) -> anyhow::Result<Vec<Row>> {
    let wanted: Vec<Run> = runs.into_iter().filter(|run| settings.wants(run.name)).collect();
    let program = protected.program()?;
    let empty = Program::pass_all()?;
    let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); wanted.len()];
    for number in 1..=settings.rounds {
        for (run, rounds) in wanted.iter().zip(&mut rounds) {
            interrupt::check()?;
            let frame = run.frame.build();
            let (before, _) = timed(&empty, &frame, settings.time)?;
            let (took, action) = timed(&program, &frame, settings.time)?;
            let (after, _) = timed(&empty, &frame, settings.time)?;
            let wanted = match run.verdict {
                Verdict::Dropped => Action::Drop,
                Verdict::Passed => Action::Pass,
            };
            ensure!(action == wanted, "{}: {action:?} and not {wanted:?}", run.what);
            rounds.push((took, f64::midpoint(before, after)));
        }
        if !wanted.is_empty() {
            screen.say(&format!("  test runs: round {number} of {}", settings.rounds))?;
        }
    }
    let row = |(run, rounds): (&Run, &Vec<(f64, f64)>)| {
        let took = rounds.iter().map(|(took, _)| *took).collect();
        let added = rounds.iter().map(|(took, empty)| took - empty);
        let row = Row::new(Group::Run, run.name, run.what, "ns", took)?;
        Some(row.beside("empty program", rounds.iter().map(|(_, empty)| *empty), added, "ns more"))
    };
    Ok(wanted.iter().zip(&rounds).filter_map(row).collect())
}

/// Nanoseconds a packet of a test run, and what it returned last.
fn timed(program: &Program, frame: &[u8], time: Duration) -> anyhow::Result<(f64, Action)> {
    let work = || -> anyhow::Result<(f64, Action)> {
        let stopwatch = Stopwatch::start()?;
        let mut packets = 0;
        loop {
            let action = program.run(frame, REPEAT)?;
            packets += u64::from(REPEAT);
            let took = stopwatch.elapsed()?;
            if took >= time {
                return Ok((took.as_secs_f64() * 1e9 / float(packets), action));
            }
        }
    };
    // On a thread of its own, which alone is kept on one CPU.
    thread::scope(|scope| {
        scope.spawn(work).join().map_err(|_panic| anyhow!("the test run panicked"))?
    })
}

fn all_rivals(
    settings: &Settings,
    banned: &Banned,
    screen: &mut Screen,
) -> anyhow::Result<Vec<Row>> {
    let bare_drop = Program::drop_all()?;
    let mut lanes = Vec::new();
    for rival in Rival::ALL {
        for size in RIVAL_SETS {
            if settings.wants(&rival_case(rival, size)) {
                let lane = Lane::new()?;
                rival.set_up(&lane, banned.v4.get(..size).unwrap_or(&banned.v4))?;
                // A few numbers have the address of another; the sets are of the first numbers.
                let choice = Choice::Among(u32::try_from(size).context("size of a set")?);
                let sender = lane.sender(&cases::rival_frame(), Family::V4, choice)?;
                lanes.push((rival, size, lane, sender, Vec::new()));
            }
        }
    }
    for number in 1..=settings.rounds {
        for (rival, _size, lane, sender, rounds) in &mut lanes {
            interrupt::check()?;
            rounds.push(rival_round(*rival, lane, sender, &bare_drop, settings.time)?);
        }
        if !lanes.is_empty() {
            screen.say(&format!("  rivals: round {number} of {}", settings.rounds))?;
        }
    }
    let row = |(rival, size, _, _, rounds): &(Rival, usize, Lane, Sender, Vec<Round>)| {
        let case = rival_case(*rival, *size);
        let sources = if *size == 1 { "one source" } else { "random sources among 100,000" };
        let what = format!("{}: {sources}", rival.what());
        let rates = rounds.iter().map(|round| kilo_a_second(round.case)).collect();
        let drops = rounds.iter().map(|round| kilo_a_second(round.drop));
        let shares = rounds.iter().map(|round| round.drop / round.case * 100.0);
        let row = Row::new(Group::Rival, &case, &what, "kpps", rates)?;
        let row = row.beside("bare drop", drops, shares, "%");
        let judged = rounds.iter().map(|round| round.judged).fold(1.0, f64::min);
        Some(if judged < JUDGED_MIN {
            row.void(format!("void: only {:.1} % of the frames were dropped", judged * 100.0))
        } else {
            row
        })
    };
    Ok(lanes.iter().filter_map(row).collect())
}

fn rival_case(rival: Rival, size: usize) -> String {
    format!("{}-{size}", rival.name())
}

fn rival_round(
    rival: Rival,
    lane: &Lane,
    sender: &Sender,
    bare_drop: &Program,
    time: Duration,
) -> anyhow::Result<Round> {
    let bare = || -> anyhow::Result<f64> {
        let _link = lane.attach(bare_drop)?;
        Ok(lane.flood(sender, time)?.nanoseconds)
    };
    let before = bare()?;
    let dropped = rival.dropped(lane)?;
    let flood = lane.flood(sender, time)?;
    let dropped = rival.dropped(lane)?.saturating_sub(dropped);
    let after = bare()?;
    Ok(Round {
        case: flood.nanoseconds,
        drop: f64::midpoint(before, after),
        pass: None,
        judged: float(dropped) / float(flood.received),
    })
}

/// How long the kernel takes for as many keys in one call.
fn raw_load(banned: &Banned) -> anyhow::Result<Duration> {
    let keys: Vec<u32> = banned.v4.iter().map(|address| address.to_bits().to_be()).collect();
    let values = vec![0; keys.len()];
    let hash = PlainHash::new(u32::try_from(keys.len()).context("count of the keys")?)?;
    let started = Instant::now();
    hash.insert_all(&keys, &values)?;
    Ok(started.elapsed())
}

fn load_row(loads: &[Duration], raw: &[Duration]) -> Option<Row> {
    let milliseconds = |time: &Duration| time.as_secs_f64() * 1e3;
    let ratios = loads.iter().zip(raw).map(|(load, raw)| load.as_secs_f64() / raw.as_secs_f64());
    let took = loads.iter().map(milliseconds).collect();
    let row = Row::new(Group::Table, "load", "load 1,000,000 bans of IPv4 addresses", "ms", took)?;
    let row = row.beside("raw batch update", raw.iter().map(milliseconds), ratios, "x");
    Some(row.must(Some(Bound::AtMost(2.0))))
}

fn bans(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Vec<Row>> {
    if !settings.wants("ban-latency") {
        return Ok(Vec::new());
    }
    screen.say("  single bans")?;
    let binary = settings.ringfence.as_deref();
    let binary = binary.context("which ringfence? Name it with --ringfence PATH")?;
    ban_rows(binary)
}

fn ban_rows(binary: &Path) -> anyhow::Result<Vec<Row>> {
    let times = control::measure(binary)?;
    let row =
        |case, what, times| Row::new(Group::Table, case, what, "us", times).map(Row::with_p99);
    let over_socket = row(
        "ban-latency",
        "one ban, from the control socket to the first packet dropped",
        times.over_socket,
    );
    let by_command = row(
        "ban-latency-command",
        "one ban, from the start of `ringfence ban` to the same",
        times.by_command,
    );
    Ok(over_socket.into_iter().chain(by_command).collect())
}

fn kilo_a_second(nanoseconds: f64) -> f64 {
    1e6 / nanoseconds
}

fn mebibytes(bytes: u64) -> f64 {
    float(bytes) / f64::from(1 << 20)
}

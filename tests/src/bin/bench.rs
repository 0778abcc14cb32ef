//! `ringfence-bench`: the measurements of `cargo xtask bench`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context;
use clap::{Args, Parser, Subcommand};
use ringfence_tests::bench::reaction::{self, Contender};
use ringfence_tests::bench::{
    busy, detection, fleet, hearing, latency, operations, packets, phone, watched, week, write_json,
};
use ringfence_tests::interrupt::{self, Interrupted};
use ringfence_tests::ringfence;
use ringfence_tests::screen::{self, Screen};
use serde::Serialize;

/// Measurements of ringfence, each beside a rival in the same run.
#[derive(Debug, Parser)]
#[command(name = "ringfence-bench")]
struct Arguments {
    #[command(subcommand)]
    benchmark: Benchmark,
}

#[derive(Debug, Subcommand)]
enum Benchmark {
    /// How many guesses Asterisk answers before the guesser is banned, with ringfence and with fail2ban
    Reaction(Reaction),
    /// The cost of a packet, beside empty programs, nftables and ipset, and the cost of a ban
    Packets(Packets),
    /// How quickly a registered phone registers in a flood of forged REGISTERs, with ringfence, nftables
    /// and nothing
    Phone(Phone),
    /// How many lines of a log are read per second on one CPU, beside fail2ban-regex
    Hearing(Hearing),
    /// How long it takes from a line or an event to the ban, alone and at 1000 failures per second
    Latency(Latency),
    /// The same while a million bans are listed, lifted or end, and beside expensive lines, many clients,
    /// listeners to events and hostile requests
    Busy(Busy),
    /// The memory of a jail for each of a million watched sources
    Watched(Watched),
    /// Which attacks are seen, after how many attempts, and whom forgeries hurt, with ringfence and fail2ban
    Detection(Detection),
    /// Who is shut out and which attacker is seen in a simulated week
    Week(Week),
    /// What comes from beyond the host: a million addresses of five lists, a table of countries, and how soon a ban
    /// of one host is one of all
    Fleet(Fleet),
    /// Packets that pass during a reload or an upgrade, starts, memory, commands, sizes
    Operations(Operations),
    /// A part of `hearing`: a process that reads one log
    #[command(hide = true)]
    Listen(hearing::Listen),
    /// A part of `watched`: a process with one jail
    #[command(hide = true)]
    Watch {
        /// How sources fail
        case: watched::Case,
    },
}

#[derive(Debug, Args)]
struct Operations {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Not used here: where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
    /// How often each operation and each command is repeated
    #[arg(long, value_name = "N", default_value_t = 10,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// How long the daemon is watched while nothing happens
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = seconds)]
    seconds: f64,
    /// Only these parts; can be given more than once
    #[arg(long = "only", value_name = "PART",
          default_values = ["gaps", "starts", "idle", "commands", "answers", "sizes"])]
    parts: Vec<operations::Part>,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail when ringfence misses a target
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Detection {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// The contender; may be repeated
    #[arg(long = "contender", value_name = "NAME",
          default_values = ["ringfence-log", "ringfence-wire", "ringfence", "ringfence-all", "fail2ban",
                            "fail2ban-wazo"])]
    contenders: Vec<detection::Contender>,
    /// How often each rate of guesses is tried with each contender; 0 leaves them out
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(0..=50))]
    runs: u32,
    /// Write the tables to FILE as a page of the documentation
    #[arg(long, value_name = "FILE")]
    page: Option<PathBuf>,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence has hurt somebody
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Week {
    /// Not used here: this program contains ringfence's code
    #[arg(long, value_name = "PATH", hide = true)]
    ringfence: Option<PathBuf>,
    /// Not used here: where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
    /// The number of phones
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(20..=5000))]
    phones: u32,
    /// The number of days
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = clap::value_parser!(u32).range(2..=60))]
    days: u32,
    /// What the daemon hears; may be repeated
    #[arg(long, value_name = "WHAT", default_values = ["log", "wire", "all"])]
    hears: Vec<week::Hears>,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if somebody good was shut out, or an attacker was not seen
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Fleet {
    /// The ringfence binary to measure; `ringfence-fleet` must be beside it
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Where packages of Debian are kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// Only these parts; can be given more than once
    #[arg(long = "only", value_name = "PART", default_values = ["lists", "countries", "hosts"])]
    parts: Vec<fleet::Part>,
    /// How many bans there are a second, on all hosts
    #[arg(long, value_name = "N", default_value_t = 100,
          value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// How many bans there are
    #[arg(long, value_name = "N", default_value_t = 1000,
          value_parser = clap::value_parser!(u32).range(1..=5000))]
    bans: u32,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if a ban is lost, wrong or late, or a difference of lists is
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Watched {
    /// Not used here: this program contains ringfence's code
    #[arg(long, value_name = "PATH", hide = true)]
    ringfence: Option<PathBuf>,
    /// Not used here: where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence misses a promise
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Latency {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Not used here: where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
    /// The number of bans, one at a time
    #[arg(long, value_name = "N", default_value_t = 300,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    bans: u32,
    /// The duration of the load
    #[arg(long, value_name = "S", default_value_t = 10.0, value_parser = seconds)]
    seconds: f64,
    /// The number of rounds
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Write the time of each ban to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence misses a promise
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Busy {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Not used here: where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
    /// The number of bans to list, to lift, or to end
    #[arg(long, value_name = "N", default_value_t = 950_000,
          value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    bans: u32,
    /// The number of bans to time beside each load
    #[arg(long, value_name = "N", default_value_t = 500,
          value_parser = clap::value_parser!(u32).range(1..=10_000))]
    timed: u32,
    /// Only these loads; may be repeated
    #[arg(long = "only", value_name = "LOAD",
          default_values = ["nothing", "list", "ask", "lift", "end", "lines", "rotate", "clients", "log",
                            "disk", "listeners", "hostile"])]
    loads: Vec<busy::Load>,
    /// Write the time of each ban to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence misses a promise
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Hearing {
    /// Not used here: this program contains ringfence's code
    #[arg(long, value_name = "PATH", hide = true)]
    ringfence: Option<PathBuf>,
    /// Not used here: where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", hide = true)]
    cache: Option<PathBuf>,
    /// The size of the two logs of Asterisk; the others have half of it
    #[arg(long, value_name = "N", default_value_t = 1 << 30,
          value_parser = clap::value_parser!(u64).range(1 << 20..=1 << 36))]
    bytes: u64,
    /// How often to read each log
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    rounds: u32,
    /// Only the logs with this in their names; may be repeated
    #[arg(long, value_name = "LOG")]
    only: Vec<String>,
    /// Measure only ringfence
    #[arg(long)]
    no_fail2ban: bool,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence misses a promise
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Phone {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// The number of runs for each
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=20))]
    runs: u32,
    /// The duration of each flood
    #[arg(long, value_name = "S", default_value_t = 8.0, value_parser = seconds)]
    seconds: f64,
    /// The contender to measure; may be repeated
    #[arg(long = "contender", value_name = "NAME",
          default_values = ["none", "nft-source", "nft-total", "ringfence", "ringfence-new"])]
    contenders: Vec<phone::Contender>,
    /// Write each run to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if the flood delays the phone behind ringfence
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Packets {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Where Debian's iperf3 is kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// The number of rounds
    #[arg(long, value_name = "N", default_value_t = 7,
          value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// The duration of each flood in a round
    #[arg(long, value_name = "S", default_value_t = 0.3, value_parser = seconds)]
    seconds: f64,
    /// Only the cases with this in their names; may be repeated
    #[arg(long, value_name = "CASE")]
    only: Vec<String>,
    /// Write every figure to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence misses a promise
    #[arg(long)]
    check: bool,
}

#[derive(Debug, Args)]
struct Reaction {
    /// The ringfence binary to measure
    #[arg(long, value_name = "PATH")]
    ringfence: Option<PathBuf>,
    /// Where Asterisk is kept between runs
    #[arg(long, value_name = "DIR", default_value = "target/lab")]
    cache: PathBuf,
    /// The number of runs for each
    #[arg(long, value_name = "N", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..=50))]
    runs: u32,
    /// The contender to measure; may be repeated
    #[arg(long = "contender", value_name = "NAME",
          default_values = ["fail2ban", "ringfence"])]
    contenders: Vec<Contender>,
    /// How the guesses are sent; may be repeated
    #[arg(long, value_name = "TRANSPORT", default_values = ["udp", "tcp"])]
    over: Vec<reaction::Over>,
    /// Write each run to FILE as JSON too
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Fail if ringfence misses a promise
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let done = match Arguments::parse().benchmark {
        Benchmark::Reaction(arguments) => reaction(arguments),
        Benchmark::Packets(arguments) => packets(arguments),
        Benchmark::Phone(arguments) => phone(arguments),
        Benchmark::Hearing(arguments) => hearing(arguments),
        Benchmark::Latency(arguments) => latency(arguments),
        Benchmark::Busy(arguments) => busy(arguments),
        Benchmark::Watched(arguments) => watched(&arguments),
        Benchmark::Fleet(arguments) => fleet(arguments),
        Benchmark::Detection(arguments) => detection(arguments),
        Benchmark::Week(arguments) => week(arguments),
        Benchmark::Operations(arguments) => operations(arguments),
        Benchmark::Watch { case } => watch(case),
        Benchmark::Listen(order) => listen(&order),
    };
    match done {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            screen::complain(&format!("ringfence-bench: {error:#}"));
            let interrupted = error.downcast_ref::<Interrupted>();
            interrupted.map_or(ExitCode::FAILURE, |by| ExitCode::from(by.exit_code()))
        }
    }
}

/// A time from a hundredth of a second to a minute.
fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|error| format!("{error}"))?;
    if (0.01..=60.0).contains(&seconds) {
        Ok(seconds)
    } else {
        Err("it must be from 0.01 to 60".to_owned())
    }
}

/// Handles signals, and checks that the kernel allows the measurements.
fn prepare() -> anyhow::Result<Screen> {
    if !nix::unistd::geteuid().is_root() {
        anyhow::bail!("it makes network namespaces, which needs root: run it with sudo");
    }
    interrupt::install()?;
    Ok(Screen::new())
}

/// Writes a report for `--json`. Returns whether the command succeeds: with `--check`, only if the
/// promises are met.
fn conclude(
    report: &impl Serialize,
    met: bool,
    json: Option<&Path>,
    check: bool,
) -> anyhow::Result<bool> {
    if let Some(path) = json {
        write_json(report, path)?;
    }
    Ok(met || !check)
}

fn hearing(arguments: Hearing) -> anyhow::Result<bool> {
    interrupt::install()?;
    let mut screen = Screen::new();
    screen.say(&screen.paint().bold("Lines of a log, read on one CPU"))?;
    let settings = hearing::Settings {
        bytes: arguments.bytes,
        rounds: arguments.rounds,
        only: arguments.only,
        fail2ban: !arguments.no_fail2ban,
    };
    let report = hearing::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn busy(arguments: Busy) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("From a failure to the ban, beside other work"))?;
    let settings = busy::Settings {
        ringfence: arguments.ringfence,
        bans: arguments.bans,
        timed: arguments.timed,
        loads: arguments.loads,
    };
    let report = busy::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn latency(arguments: Latency) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("From a failure to the ban"))?;
    let settings = latency::Settings {
        ringfence: arguments.ringfence,
        bans: arguments.bans,
        time: Duration::from_secs_f64(arguments.seconds),
        rounds: arguments.rounds,
    };
    let report = latency::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn operations(arguments: Operations) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("What it costs to run the service"))?;
    let settings = operations::Settings {
        ringfence: arguments.ringfence,
        rounds: arguments.rounds,
        seconds: arguments.seconds,
        parts: arguments.parts,
    };
    let report = operations::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn detection(arguments: Detection) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("Which attacks are seen"))?;
    let Detection { contenders, ringfence, cache, runs, page, json, check } = arguments;
    let settings = detection::Settings { contenders, ringfence, cache, runs };
    let report = detection::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    if let Some(page) = page {
        std::fs::write(&page, report.page())
            .with_context(|| format!("write {}", page.display()))?;
    }
    let met = report.targets_met();
    conclude(&report, met, json.as_deref(), check)
}

fn week(arguments: Week) -> anyhow::Result<bool> {
    interrupt::install()?;
    let mut screen = Screen::new();
    screen.say(&screen.paint().bold("A simulated week"))?;
    let Week { phones, days, hears, .. } = arguments;
    let settings = week::Settings { phones, days, hears, ..week::Settings::default() };
    let report = week::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn watched(arguments: &Watched) -> anyhow::Result<bool> {
    interrupt::install()?;
    let mut screen = Screen::new();
    screen.say(&screen.paint().bold("A million watched sources"))?;
    let report = watched::run(&mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn fleet(arguments: Fleet) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("What comes from beyond the host"))?;
    let Fleet { ringfence, cache, parts, rate, bans, json, check } = arguments;
    let ringfence = ringfence.map_or_else(ringfence::built, Ok)?;
    let cache = cache.canonicalize().unwrap_or(cache);
    let settings = fleet::Settings { ringfence, cache, parts, rate, bans };
    let report = fleet::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    conclude(&report, report.targets_met(), json.as_deref(), check)
}

fn watch(case: watched::Case) -> anyhow::Result<bool> {
    let outcome = serde_json::to_string(&watched::watch(case)?);
    Screen::new().say(&outcome.context("make JSON of what a jail needs")?)?;
    Ok(true)
}

fn listen(order: &hearing::Listen) -> anyhow::Result<bool> {
    let outcome = serde_json::to_string(&hearing::listener::listen(order)?);
    Screen::new().say(&outcome.context("make JSON of what was heard")?)?;
    Ok(true)
}

fn packets(arguments: Packets) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("The cost of a packet, with no bans, some, and a million"))?;
    let settings = packets::Settings {
        ringfence: arguments.ringfence,
        rounds: arguments.rounds,
        time: Duration::from_secs_f64(arguments.seconds),
        cache: arguments.cache,
        only: arguments.only,
    };
    let report = packets::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn phone(arguments: Phone) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("A phone in a flood of forged REGISTERs"))?;
    let settings = phone::Settings {
        contenders: arguments.contenders,
        ringfence: arguments.ringfence,
        cache: arguments.cache,
        runs: arguments.runs,
        time: Duration::from_secs_f64(arguments.seconds),
    };
    let report = phone::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

fn reaction(arguments: Reaction) -> anyhow::Result<bool> {
    let mut screen = prepare()?;
    screen.say(&screen.paint().bold("A password guesser at a real Asterisk, again and again"))?;
    let settings = reaction::Settings {
        contenders: arguments.contenders,
        over: arguments.over,
        ringfence: arguments.ringfence,
        cache: arguments.cache,
        runs: arguments.runs,
    };
    let report = reaction::run(&settings, &mut screen)?;
    screen.say(&report.text(screen.paint()))?;
    let met = report.targets_met();
    conclude(&report, met, arguments.json.as_deref(), arguments.check)
}

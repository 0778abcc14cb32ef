//! What else a daemon has to do.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, bail};
use clap::ValueEnum;
use filter_user::client;
use filter_user::control::{Decided, Request, TAKE_OVER_MAX, Unban};
use serde::Serialize;

use crate::interrupt;
use crate::ringfence::{Client, Config};

/// The jail whose bans are there by the million.
const JAIL: &str = "sshd";

/// The first address of those that are banned.
const FIRST: u32 = 0x0b00_0000;

/// How long from the first of the bans that end together to their end: they must all be there by then.
const UNTIL_END: Duration = Duration::from_secs(40);

/// Threads that hand bans to the daemon.
const HANDS: u32 = 8;

/// Clients that ask and do not read.
const CLIENTS: usize = 1000;

/// Lines a second that are hard to read.
const LINES: u32 = 200;

/// Copies of a log that is rotated.
const SIBLINGS: u32 = 64;

/// A filter in the manner of fail2ban's `gitlab.conf`: a line that has no date, and is long, costs it
/// milliseconds.
const FILTER: &str =
    "[Definition]\nfailregex = ^: Failed Login: username=<F-USER>.+</F-USER> ip=<HOST>$\n";

/// What a daemon does beside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Nothing.
    Nothing,
    /// All bans are listed, again and again.
    List,
    /// `status`, `jails` and `why`, again and again.
    Ask,
    /// The bans of a jail are lifted.
    Lift,
    /// The bans end within a second.
    End,
    /// A log has lines that are hard to read.
    Lines,
    /// A log is rotated ten times a second among 64 of its copies.
    Rotate,
    /// Clients ask for the bans and do not read them.
    Clients,
}

impl Load {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing else",
            Self::List => "bans are listed",
            Self::Ask => "questions",
            Self::Lift => "bans are lifted",
            Self::End => "bans end together",
            Self::Lines => "lines hard to read",
            Self::Rotate => "a log is rotated",
            Self::Clients => "clients do not read",
        }
    }

    /// Whether it is over by itself, and what is timed goes on until then.
    pub(super) fn ends_by_itself(self) -> bool {
        matches!(self, Self::Lift | Self::End)
    }

    pub(super) fn adjust(self, config: &mut Config, directory: &Path) -> anyhow::Result<()> {
        fs::write(directory.join("auth.log"), "").context("make an empty log")?;
        fs::write(directory.join("provd.log"), "").context("make an empty log")?;
        config.other_logs = Some(directory.to_owned());
        if matches!(self, Self::Lines | Self::Rotate) {
            let (filter, log) = (directory.join("hard.conf"), hard_log(directory));
            fs::write(&filter, FILTER).context("write a filter")?;
            fs::write(&log, "").context("make an empty log")?;
            let (filter, log) = (filter.display(), log.display());
            config.more =
                format!("jails:\n  hard: {{enabled: true, filter: {filter}, log: [{log}]}}\n");
        }
        Ok(())
    }

    /// Has so many bans made, if this load has any.
    pub(super) fn prepare(self, client: &Client, bans: u32) -> anyhow::Result<()> {
        let seconds = match self {
            Self::Nothing | Self::Lines | Self::Rotate => return Ok(()),
            Self::List | Self::Ask | Self::Lift | Self::Clients => None,
            Self::End => Some(Instant::now() + UNTIL_END),
        };
        thread::scope(|scope| {
            let hands: Vec<_> = (0..HANDS)
                .map(|hand| scope.spawn(move || hand_over(client, (hand, bans), seconds)))
                .collect();
            hands.into_iter().try_for_each(|hand| {
                hand.join().map_err(|_panic| anyhow!("the thread that hands over panicked"))?
            })
        })
    }

    /// Loads the daemon until it is over, and says when it has begun to; what it did.
    pub(super) fn run(
        self,
        client: &Client,
        begun: &AtomicBool,
        over: &AtomicBool,
    ) -> anyhow::Result<String> {
        begun.store(self != Self::End, Ordering::Relaxed);
        match self {
            Self::Nothing => {
                again_and_again(over, || {
                    thread::sleep(Duration::from_millis(10));
                    Ok(())
                })?;
                Ok(String::new())
            }
            Self::List => again_and_again(over, || list(client)).map(|(lists, longest)| {
                format!("{lists} lists, the longest {:.1} s", longest.as_secs_f64())
            }),
            Self::Ask => again_and_again(over, || ask(client)).map(|(times, longest)| {
                format!("{times} times three questions, the longest {} ms", longest.as_millis())
            }),
            Self::Lift => {
                let started = Instant::now();
                let request = Request::Unban(Unban::Jail { jail: JAIL.to_owned() });
                let answer = client::ask(client.socket(), &request)?;
                let took = started.elapsed().as_secs_f64();
                Ok(format!("{} lifted in {took:.1} s", answer["lifted"]))
            }
            Self::End => end(client, begun),
            Self::Lines => hard_lines(client, over),
            Self::Rotate => rotate(client, over),
            Self::Clients => crowd(client, over),
        }
    }
}

fn hard_log(directory: &Path) -> PathBuf {
    directory.join("hard.log")
}

/// One thread's share of the bans, all until `end`.
fn hand_over(
    client: &Client,
    (hand, bans): (u32, u32),
    end: Option<Instant>,
) -> anyhow::Result<()> {
    let mine: Vec<u32> = (FIRST..FIRST + bans).filter(|number| number % HANDS == hand).collect();
    for some in mine.chunks(TAKE_OVER_MAX) {
        interrupt::check()?;
        let seconds = end.map(|end| end.saturating_duration_since(Instant::now()).as_secs());
        if seconds == Some(0) {
            bail!("the bans were not made in time: fewer of them with --bans");
        }
        let decided = |number: &u32| Decided {
            address: IpAddr::from(Ipv4Addr::from(*number)),
            jail: JAIL.to_owned(),
            seconds,
        };
        let bans = some.iter().map(decided).collect();
        client::ask(
            client.socket(),
            &Request::TakeOver { bans, from: "the bench".to_owned(), last: false },
        )?;
    }
    Ok(())
}

/// How often something was done, and the longest time that it took.
fn again_and_again(
    over: &AtomicBool,
    mut what: impl FnMut() -> anyhow::Result<()>,
) -> anyhow::Result<(u32, Duration)> {
    let (mut times, mut longest) = (0, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let started = Instant::now();
        what()?;
        times += 1;
        longest = longest.max(started.elapsed());
    }
    Ok((times, longest))
}

fn list(client: &Client) -> anyhow::Result<()> {
    let mut after = None;
    loop {
        let page = client::bans(client.socket(), None, after)?;
        after = page.next;
        if after.is_none() {
            return Ok(());
        }
    }
}

fn ask(client: &Client) -> anyhow::Result<()> {
    let address = IpAddr::from(Ipv4Addr::from(FIRST + 7));
    for request in [Request::Status, Request::Jails, Request::Why { address }] {
        client::ask(client.socket(), &request)?;
    }
    Ok(())
}

/// Waits until no ban of the jail is left.
fn end(client: &Client, begun: &AtomicBool) -> anyhow::Result<String> {
    let of_jail = || -> anyhow::Result<u64> {
        let status = client::ask(client.socket(), &Request::Status)?;
        let jails = status["jails"].as_array().context("status has no jails")?;
        let jail = jails.iter().find(|jail| jail["name"] == JAIL);
        jail.and_then(|jail| jail["banned"].as_u64()).context("status has no such jail")
    };
    let all = of_jail()?;
    let (mut last, mut first_end) = (all, None);
    loop {
        thread::sleep(Duration::from_millis(20));
        let left = of_jail()?;
        if left < last {
            first_end.get_or_insert_with(Instant::now);
            begun.store(true, Ordering::Relaxed);
        }
        last = left;
        if left == 0 {
            let took = first_end.map_or(0.0, |first| first.elapsed().as_secs_f64());
            return Ok(format!("{all} struck out in {took:.1} s"));
        }
    }
}

/// What the jail `hard` reads, and how many lines it has read.
fn hard_source(client: &Client) -> anyhow::Result<(PathBuf, u64)> {
    let status = client::ask(client.socket(), &Request::Status)?;
    let sources = status["sources"].as_array().context("status has no sources")?;
    let source = sources.iter().find(|source| source["name"] == "hard");
    let source = source.context("the jail `hard` reads nothing")?;
    let place = source["place"].as_str().context("a source without a place")?;
    Ok((place.into(), source["events"].as_u64().unwrap_or(0)))
}

fn hard_lines(client: &Client, over: &AtomicBool) -> anyhow::Result<String> {
    let (place, _) = hard_source(client)?;
    let mut log = OpenOptions::new().append(true).open(place).context("open the log")?;
    let line = "word 12:34 Failed Login: username=x ".repeat(8000 / 36) + "\n";
    let started = Instant::now();
    let mut written = 0_u32;
    while !over.load(Ordering::Relaxed) {
        while started.elapsed() >= Duration::from_secs(1) / LINES * written {
            log.write_all(line.as_bytes()).context("write to the log")?;
            written += 1;
        }
        thread::sleep(Duration::from_millis(2));
    }
    let (_, read) = hard_source(client)?;
    Ok(format!("{written} lines of {} bytes written, {read} read", line.len()))
}

fn rotate(client: &Client, over: &AtomicBool) -> anyhow::Result<String> {
    let (place, _) = hard_source(client)?;
    let copy = |number: u32| place.with_extension(format!("log.{}", number % SIBLINGS));
    for number in 0..SIBLINGS {
        fs::write(copy(number), format!("copy {number}\n")).context("write a copy")?;
    }
    let mut rotations = 0_u32;
    while !over.load(Ordering::Relaxed) {
        fs::write(&place, "a line\n".repeat(100)).context("write the log")?;
        thread::sleep(Duration::from_millis(100));
        fs::rename(&place, copy(rotations)).context("rotate the log")?;
        rotations += 1;
    }
    let (_, read) = hard_source(client)?;
    Ok(format!("{rotations} times, {} lines written, {read} read", rotations * 100))
}

/// Clients that ask and do not read; when all have asked they go, and others come.
fn crowd(client: &Client, over: &AtomicBool) -> anyhow::Result<String> {
    let (mut came, mut longest) = (0_usize, Duration::ZERO);
    while !over.load(Ordering::Relaxed) {
        let mut crowd = Vec::new();
        for _ in 0..CLIENTS {
            if over.load(Ordering::Relaxed) {
                break;
            }
            let mut stream = UnixStream::connect(client.socket()).context("connect")?;
            stream.write_all(b"{\"command\":\"bans\",\"jail\":null}\n").ok();
            crowd.push(stream);
            came += 1;
        }
        // Somebody who does read.
        let started = Instant::now();
        client::ask(client.socket(), &Request::Status)?;
        longest = longest.max(started.elapsed());
        drop(crowd);
    }
    Ok(format!("{came} came, a status beside them in {} ms at most", longest.as_millis()))
}

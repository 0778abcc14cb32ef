//! The other work of a daemon.

use std::fs::{self, File, OpenOptions};
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
use filter_user::control::{BansQuery, Decided, Request, TAKE_OVER_MAX, Unban};
use ipnet::IpNet;
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde::Serialize;
use tempfile::TempDir;

use super::watchers;
use crate::netns::Entry;
use crate::ringfence::{Client, Config};
use crate::{interrupt, scratch};

/// The jail of the many bans.
const JAIL: &str = "sshd";

/// The first address of the banned ones.
const FIRST: u32 = 0x0b00_0000;

/// The time from the first of the bans that end together to their end; all must exist by then.
const UNTIL_END: Duration = Duration::from_secs(40);

/// The number of threads that import bans.
const HANDS: u32 = 8;

/// The number of clients that send a request and do not read the reply.
const CLIENTS: usize = 1000;

/// The number of expensive lines per second.
const LINES: u32 = 200;

/// The lines that fill the pipe and the daemon's buffer before any ban is timed.
const UNREAD_LINES: u32 = 6000;

/// The size of the small disk.
const DISK: &str = "size=2m";

/// The name of the disk in `/proc/mounts`.
const DISK_NAME: &str = "ringfence-bench";

/// The number of copies of the log that is rotated.
const SIBLINGS: u32 = 64;

/// A filter like fail2ban's `gitlab.conf`, for which a long line without a date costs milliseconds.
const FILTER: &str =
    "[Definition]\nfailregex = ^: Failed Login: username=<F-USER>.+</F-USER> ip=<HOST>$\n";

/// A kind of load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Nothing.
    Nothing,
    /// Lists all bans repeatedly.
    List,
    /// Requests `status`, `jails` and `why` repeatedly.
    Ask,
    /// Lifts the bans by a jail.
    Lift,
    /// The bans end within a second.
    End,
    /// A log contains expensive lines.
    Lines,
    /// A log is rotated ten times a second among 64 of its copies.
    Rotate,
    /// Clients request the bans and do not read them.
    Clients,
    /// No process reads the daemon's log, while many lines are logged.
    Log,
    /// The disk of the state directory is full.
    Disk,
    /// Fifty clients listen to the events of a thousand bans a second.
    Listeners,
    /// A thousand hostile requests a second arrive at the port of the API.
    Hostile,
}

impl Load {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Nothing => "nothing else",
            Self::List => "bans are listed",
            Self::Ask => "questions",
            Self::Lift => "bans are lifted",
            Self::End => "bans end together",
            Self::Lines => "lines that are expensive to read",
            Self::Rotate => "a log is rotated",
            Self::Clients => "clients do not read",
            Self::Log => "the log is not read",
            Self::Disk => "the disk is full",
            Self::Listeners => "listeners to events",
            Self::Hostile => "hostile requests",
        }
    }

    /// Whether it ends by itself; bans are timed until then.
    pub(super) fn ends_by_itself(self) -> bool {
        matches!(self, Self::Lift | Self::End)
    }

    /// A separate disk for the daemon's state, if the load needs one.
    pub(super) fn disk(self) -> anyhow::Result<Option<Disk>> {
        (self == Self::Disk).then(Disk::mount).transpose()
    }

    pub(super) fn adjust(
        self,
        config: &mut Config,
        directory: &Path,
        disk: Option<&Disk>,
    ) -> anyhow::Result<()> {
        fs::write(directory.join("auth.log"), "").context("make an empty log")?;
        fs::write(directory.join("wazo-provd.log"), "").context("make an empty log")?;
        config.other_logs = Some(directory.to_owned());
        if matches!(self, Self::Lines | Self::Rotate) {
            let (filter, log) = (directory.join("hard.conf"), hard_log(directory));
            fs::write(&filter, FILTER).context("write a filter")?;
            fs::write(&log, "").context("make an empty log")?;
            let (filter, log) = (filter.display(), log.display());
            config.more =
                format!("jails:\n  hard: {{enabled: true, filter: {filter}, log: [{log}]}}\n");
        }
        if self == Self::Hostile {
            let port = watchers::PORT;
            config.more = format!("api: {{listen: '127.0.0.1:{port}', wazo_auth: ''}}\n");
        }
        config.unread_log = self == Self::Log;
        if let Some(Disk(state)) = disk {
            config.more = format!("paths: {{state: {}}}\n", state.path().display());
        }
        Ok(())
    }

    /// Creates this many bans, if the load needs them, and its faults.
    pub(super) fn prepare(self, client: &Client, bans: u32) -> anyhow::Result<()> {
        let seconds = match self {
            Self::Nothing | Self::Lines | Self::Rotate | Self::Listeners | Self::Hostile => {
                return Ok(());
            }
            Self::Log => {
                return (0..UNREAD_LINES / 2).try_for_each(|number| ban_and_unban(client, number));
            }
            Self::Disk => return fill(client),
            Self::List | Self::Ask | Self::Lift | Self::Clients => None,
            Self::End => Some(Instant::now() + UNTIL_END),
        };
        thread::scope(|scope| {
            let hands: Vec<_> = (0..HANDS)
                .map(|hand| scope.spawn(move || hand_over(client, (hand, bans), seconds)))
                .collect();
            hands.into_iter().try_for_each(|hand| {
                hand.join().map_err(|_panic| anyhow!("the thread that imports bans panicked"))?
            })
        })
    }

    /// Loads the daemon in this namespace until `over`, and sets `begun` at the start; returns what it did.
    pub(super) fn run(
        self,
        (client, entry): (&Client, &Entry),
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
            Self::Log => log(client, over),
            Self::Disk => full(client, over),
            Self::Listeners => watchers::listen(client, over),
            Self::Hostile => watchers::attack(entry, over),
        }
    }
}

/// A small disk, mounted while this value exists.
pub(super) struct Disk(TempDir);

impl Disk {
    fn mount() -> anyhow::Result<Self> {
        let directory = scratch::directory("disk")?;
        mount(Some(DISK_NAME), directory.path(), Some("tmpfs"), MsFlags::empty(), Some(DISK))
            .context("mount a small disk")?;
        Ok(Self(directory))
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        umount2(self.0.path(), MntFlags::MNT_DETACH).ok();
    }
}

/// Unmounts disks that killed runs have left.
pub(super) fn unmount_disks() -> anyhow::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read the mounts")?;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        if let (Some(DISK_NAME), Some(place)) = (words.next(), words.next()) {
            umount2(place, MntFlags::MNT_DETACH).with_context(|| format!("unmount {place}"))?;
        }
    }
    Ok(())
}

/// Fills the disk of the daemon's state.
fn fill(client: &Client) -> anyhow::Result<()> {
    let store = status(client)?["store"].clone();
    let store = store["path"].as_str().context("status has no store")?;
    let mut filler = File::create(Path::new(store).with_file_name("filler")).context("a file")?;
    let mut size = 64 * 1024;
    while size > 0 {
        match filler.write_all(&vec![0; size]) {
            Ok(()) => {}
            Err(error) if error.raw_os_error() == Some(Errno::ENOSPC as i32) => size /= 2,
            Err(error) => return Err(error).context("fill the disk"),
        }
    }
    Ok(())
}

fn hard_log(directory: &Path) -> PathBuf {
    directory.join("hard.log")
}

/// Imports one thread's share of the bans, all until `end`.
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
            bail!("the bans were not made in time: try fewer with --bans");
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
        let page = client::bans(client.socket(), &BansQuery::default(), after)?;
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

/// Waits until the jail has no more bans.
fn end(client: &Client, begun: &AtomicBool) -> anyhow::Result<String> {
    let of_jail = || -> anyhow::Result<u64> {
        let status = status(client)?;
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
            return Ok(format!("{all} ended in {took:.1} s"));
        }
    }
}

/// The log that the jail `hard` reads, and the number of lines read.
fn hard_source(client: &Client) -> anyhow::Result<(PathBuf, u64)> {
    let status = status(client)?;
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

/// Clients that send requests without reading; when all have sent one, they are replaced by others.
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
        // A client that reads.
        let started = Instant::now();
        status(client)?;
        longest = longest.max(started.elapsed());
        drop(crowd);
    }
    Ok(format!("{came} clients, a status beside them in {} ms at most", longest.as_millis()))
}

/// Manual bans and their ends, each of which is a line of the log.
fn log(client: &Client, over: &AtomicBool) -> anyhow::Result<String> {
    let mut lines = UNREAD_LINES;
    let (_, longest) = again_and_again(over, || {
        ban_and_unban(client, lines)?;
        lines += 2;
        Ok(())
    })?;
    let lost = status(client)?["log"]["lost"].as_u64().context("status has no lost lines")?;
    if lost == 0 {
        bail!("{lines} lines have not filled the log");
    }
    let longest = longest.as_millis();
    Ok(format!(
        "{lines} lines, {lost} of them lost, a manual ban and its end in {longest} ms at most"
    ))
}

/// The same while nothing can be written.
fn full(client: &Client, over: &AtomicBool) -> anyhow::Result<String> {
    let mut bans = 0_u32;
    let (_, longest) = again_and_again(over, || {
        ban_and_unban(client, bans)?;
        bans += 1;
        Ok(())
    })?;
    let store = &status(client)?["store"];
    if store["state"] != "failed" {
        bail!("the disk was not full: {store}");
    }
    Ok(format!("{bans} manual bans, each and its end in {} ms at most", longest.as_millis()))
}

fn ban_and_unban(client: &Client, number: u32) -> anyhow::Result<()> {
    let network = IpNet::from(IpAddr::from(Ipv4Addr::from(FIRST + number % 1000)));
    let ban = Request::Ban {
        network,
        seconds: None,
        scope: "sip".to_owned(),
        except: Vec::new(),
        reason: None,
        force: false,
    };
    let unban = Request::Unban(Unban::Network { network, inside: false });
    let outcomes = [ban, unban].map(|request| client::ask(client.socket(), &request).map(drop));
    outcomes.into_iter().collect()
}

fn status(client: &Client) -> anyhow::Result<serde_json::Value> {
    client::ask(client.socket(), &Request::Status)
}

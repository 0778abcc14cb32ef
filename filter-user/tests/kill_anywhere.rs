//! A log is written and rotated without a pause, by move and by copy and truncate, and its reader is
//! killed with SIGKILL at any moment, or stopped in order. At the end the store must have received every
//! line exactly once, and contain each ban to which lines led.
//!
//! The reader is this program itself, so that there is a process to kill.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "what a test cannot do fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filter_user::ban::{Ban, Entry, Origin};
use filter_user::config::{Config, Scope};
use filter_user::escalation::Bounds;
use filter_user::failure::{Attempt, Class, Verdict};
use filter_user::parse::Parser;
use filter_user::source::Outlet;
use filter_user::source::lane::Lane;
use filter_user::source::log_file::{self, LogFile};
use filter_user::store::{self, Content, JailRecord, Kept, Names, Started, Store};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

/// How long the log is written to.
const TIME: Duration = Duration::from_secs(12);

/// Rotated files that are kept.
const KEPT: usize = 60;

/// The log is not rotated while the reader has yet to read this many files. On a busy machine it would lose those that
/// are not kept.
const UNREAD: usize = 20;

/// One in this many lines leads to a ban, and so to an immediate commit.
const BANS: u64 = 50;

/// The file that a reader makes when it has noted its first place.
const READY: &str = "ready";

fn main() {
    let mut arguments = std::env::args().skip(1);
    if arguments.next().as_deref() == Some("follow") {
        let directory = PathBuf::from(arguments.next().unwrap());
        return tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap()
            .block_on(follow(&directory));
    }
    // As the harness of other tests. None of these is among the ignored ones.
    let asks = |option| std::env::args().any(|argument| argument == option);
    if asks("--ignored") {
        return;
    }
    if asks("--list") {
        println!("kill_anywhere: test");
        return;
    }
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("kill_anywhere: seed {seed}");
    // The one while the other.
    thread::scope(|scope| {
        scope.spawn(|| test(Dice(u64::from(seed) | 1), false));
        test(Dice((u64::from(seed) << 1) | 1), true);
    });
    println!("test kill_anywhere ... ok");
    println!("test result: ok. 1 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out");
}

/// The reader: it sends its lines to the store in the same way as the controller.
async fn follow(directory: &Path) {
    let Started { store, kept, news: _news, thread } = open(directory);
    let mut kept = kept.unwrap();
    let (sender, mut news) = mpsc::channel(8);
    let log = LogFile {
        path: directory.join("log"),
        parser: Parser::BuiltIn(number),
        is_new: false,
        place: kept.positions.remove("log").map(|place| String::from_utf8(place).unwrap()),
        max_age: Duration::from_hours(1),
    };
    tokio::spawn(log_file::follow(log, Lane::new(1, Duration::ZERO), Outlet::new(0, sender)));
    let mut end = signal(SignalKind::terminate()).unwrap();
    let mut is_ready = false;
    loop {
        tokio::select! {
            biased;
            _ = end.recv() => break,
            Some((_, news)) = news.recv() => {
                let together = store.hold();
                let last = news.attempts.last().map(number_of);
                for attempt in news.attempts {
                    observe(&store, attempt);
                }
                if let Some(place) = news.place {
                    store.set_position("log", place.into_bytes());
                }
                if let Some(last) = last {
                    fs::write(directory.join("last"), last.to_string()).unwrap();
                }
                drop(together);
                if !std::mem::replace(&mut is_ready, true) {
                    fs::write(directory.join(READY), "").unwrap();
                }
            }
        }
    }
    store.end();
    thread.join().unwrap();
}

fn observe(store: &Store, attempt: Attempt) {
    let number = number_of(&attempt);
    let source = "log".into();
    let what = Content::Attempt { source, attempt };
    store.record(JailRecord { at: filter_user::clock::now(), jail: "lines".into(), what });
    if number.is_multiple_of(BANS) {
        let network = address(number).into();
        let (scope, origin, since) =
            (Scope::Sip, Origin::Jail(0), filter_user::clock::now().into());
        let ban = Ban { network, scope, origin, since, until: None };
        store.put(&Entry::new(ban, "because"), true, Some(String::new()));
    }
}

fn open(directory: &Path) -> Started {
    store::start(store::Settings {
        directory: directory.to_owned(),
        memory: directory.to_owned(),
        names: Names::default(),
        offenders: Bounds::from(&Config::default()),
        findtime: Duration::from_hours(1),
        clock: filter_user::clock::of_boot,
    })
    .unwrap()
}

fn address(number: u64) -> IpAddr {
    (0x0a00_0000 + u32::try_from(number).unwrap()).to_be_bytes().into()
}

fn number_of(attempt: &Attempt) -> u64 {
    attempt.account.as_deref().unwrap().parse().unwrap()
}

/// The number at the beginning of a line.
fn number(line: &[u8]) -> Option<Attempt> {
    let account = line.split(|byte| *byte == b' ').next()?;
    let account = String::from_utf8(account.to_vec()).ok()?;
    let (address, account) = (address(account.parse().ok()?), Some(account));
    Some(Attempt { account, ..Attempt::new(Verdict::Failure, Class::WrongCredential, address) })
}

/// With the log itself, or with a symbolic link to it that leads elsewhere now and then.
fn test(mut dice: Dice, linked: bool) {
    let directory = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    let log = Log::new(directory.path(), linked);
    let mut first = start(directory.path());
    // The first reader begins at the end of the file: it must have looked at it, and noted the place, which
    // becomes durable within a second or when it ends.
    let deadline = Instant::now() + Duration::from_mins(1);
    while !directory.path().join(READY).exists() {
        assert!(Instant::now() < deadline, "the reader does not begin");
        thread::sleep(Duration::from_millis(20));
    }
    end(&mut first, Signal::SIGTERM);
    let first = start(directory.path());
    let mut other_dice = Dice(dice.roll(u64::MAX) | 1);
    let (written, kills) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = write(log, directory.path(), &mut other_dice);
            done.store(true, Ordering::Relaxed);
            written
        });
        let kills = kill_again_and_again(first, directory.path(), &done, &mut dice);
        (writer.join().unwrap(), kills)
    });
    let mut last = start(directory.path());
    let deadline = Instant::now() + Duration::from_mins(1);
    while last_read(directory.path()) != written && Instant::now() < deadline {
        thread::sleep(Duration::from_millis(100));
    }
    // Delayed lines may arrive after the last one.
    thread::sleep(Duration::from_secs(3));
    end(&mut last, Signal::SIGTERM);
    let Started { store, kept, news: _news, thread } = open(directory.path());
    let bans = check(kept.unwrap(), written);
    store.end();
    thread.join().unwrap();
    println!("kill_anywhere: {written} lines, {bans} bans, {kills} ends, linked: {linked}");
    assert!(kills > 8 && written > 500, "too little has happened");
}

/// Checks the final contents of the store; returns the number of bans.
fn check(kept: Kept, written: u64) -> usize {
    let mut told: BTreeMap<u64, usize> = BTreeMap::new();
    for JailRecord { what, .. } in kept.jail_records {
        let Content::Attempt { attempt, .. } = what else { panic!("{what:?}") };
        *told.entry(number_of(&attempt)).or_default() += 1;
    }
    let first = |numbers: Vec<u64>| numbers.into_iter().take(20).collect::<Vec<_>>();
    let lost = (1..=written).filter(|number| !told.contains_key(number)).collect();
    let twice = told.iter().filter(|(_, times)| **times > 1).map(|(number, _)| *number).collect();
    assert_eq!((first(lost), first(twice)), (Vec::new(), Vec::new()), "of {written}: lost, twice");
    let banned: BTreeSet<IpAddr> = kept.bans.iter().map(|entry| entry.ban.network.addr()).collect();
    let meant: BTreeSet<IpAddr> =
        (1..=written).filter(|number| number.is_multiple_of(BANS)).map(address).collect();
    assert!(banned == meant, "banned are {} of {}", banned.len(), meant.len());
    banned.len()
}

/// A log, and the symbolic link to it if there is one.
struct Log {
    file: PathBuf,
    link: Option<PathBuf>,
    swaps: u32,
}

impl Log {
    fn new(directory: &Path, linked: bool) -> Self {
        let log = directory.join("log");
        if !linked {
            File::create(&log).unwrap();
            return Self { file: log, link: None, swaps: 0 };
        }
        let store = directory.join("store");
        fs::create_dir(&store).unwrap();
        let file = store.join("real-0.log");
        File::create(&file).unwrap();
        symlink(&file, &log).unwrap();
        Self { file, link: Some(log), swaps: 0 }
    }

    fn open(&self) -> File {
        OpenOptions::new().append(true).create(true).open(&self.file).unwrap()
    }

    /// Has the link lead to a new file.
    fn swap(&mut self) {
        let Some(link) = &self.link else { return };
        self.swaps += 1;
        self.file.set_file_name(format!("real-{}.log", self.swaps));
        drop(self.open());
        let new = link.with_extension("new");
        symlink(&self.file, &new).unwrap();
        fs::rename(&new, link).unwrap();
    }
}

/// Writes numbered lines and rotates the log; the number of the last line.
fn write(mut log: Log, directory: &Path, dice: &mut Dice) -> u64 {
    let (mut file, mut number) = (log.open(), 0);
    // The last number in each rotated file.
    let mut rotated = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < TIME {
        for _line in 0..dice.roll(40) {
            number += 1;
            // Sometimes in two pieces.
            let line = format!("{number} {} of {}\n", "x".repeat(dice.upto(60)), micros());
            let cut = dice.upto(2 * line.len());
            let (one, two) = line.split_at(cut.min(line.len()));
            file.write_all(one.as_bytes()).unwrap();
            file.write_all(two.as_bytes()).unwrap();
        }
        thread::sleep(Duration::from_micros(dice.roll(20_000)));
        let reached = last_read(directory);
        rotated.retain(|number| *number > reached);
        if rotated.len() >= UNREAD {
            continue;
        }
        rotated.push(number);
        match dice.roll(30) {
            0 => {
                shift(&log.file);
                fs::rename(&log.file, named(&log.file, 1)).unwrap();
                // As Asterisk does until it is told to reopen.
                number += 1;
                writeln!(file, "{number} late").unwrap();
                file = log.open();
            }
            1 => {
                let link = log.link.as_ref().filter(|_| dice.roll(2) == 0);
                let copied = link.unwrap_or(&log.file);
                shift(copied);
                fs::copy(copied, named(copied, 1)).unwrap();
                file.set_len(0).unwrap();
            }
            2 if log.link.is_some() => {
                log.swap();
                number += 1;
                writeln!(file, "{number} late").unwrap();
                file = log.open();
            }
            _ => {
                rotated.pop();
            }
        }
    }
    number
}

/// The number of the last line that the reader has read.
fn last_read(directory: &Path) -> u64 {
    let text = fs::read_to_string(directory.join("last")).unwrap_or_default();
    text.parse().unwrap_or(0)
}

fn shift(log: &Path) {
    for n in (1..KEPT).rev() {
        if named(log, n).exists() {
            fs::rename(named(log, n), named(log, n + 1)).unwrap();
        }
    }
}

fn named(log: &Path, number: usize) -> PathBuf {
    log.with_added_extension(number.to_string())
}

/// Ends the reader and starts another one until `done`; how often.
fn kill_again_and_again(first: Child, directory: &Path, done: &AtomicBool, dice: &mut Dice) -> u32 {
    let (mut reader, mut kills) = (first, 0);
    while !done.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(dice.roll(300)));
        end(&mut reader, if dice.roll(4) == 0 { Signal::SIGTERM } else { Signal::SIGKILL });
        thread::sleep(Duration::from_millis(dice.roll(60)));
        reader = start(directory);
        kills += 1;
    }
    end(&mut reader, Signal::SIGKILL);
    kills
}

fn start(directory: &Path) -> Child {
    let myself = std::env::current_exe().unwrap();
    Command::new(myself).arg("follow").arg(directory).stdin(Stdio::null()).spawn().unwrap()
}

fn end(reader: &mut Child, how: Signal) {
    kill(Pid::from_raw(reader.id().cast_signed()), how).unwrap();
    reader.wait().unwrap();
}

fn micros() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    u64::try_from(now.as_micros()).unwrap()
}

/// xorshift64.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn upto(&mut self, end: usize) -> usize {
        usize::try_from(self.roll(end as u64)).unwrap()
    }
}

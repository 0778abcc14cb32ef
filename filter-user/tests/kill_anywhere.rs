//! A log that is written and rotated without a pause, by move and by copy and truncate, and its
//! reader killed with SIGKILL at any moment, or ended in order: every line is heard, none twice in
//! one life, and none again after an orderly end. After a kill at most what was heard within the
//! last second is heard again.
//!
//! The reader is this program itself, so that there is a process to kill.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "what a test cannot do fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use filter_user::failure::{Attempt, Class, Verdict};
use filter_user::source::Outlet;
use filter_user::source::bookmarks::{Bookmarks, Directory};
use filter_user::source::log_file::{self, LogFile};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::{Instant as TokioInstant, sleep_until};

/// How long the log is written to.
const TIME: Duration = Duration::from_secs(12);

/// Rotated files that are kept: more than are made while the reader is dead.
const KEPT: usize = 40;

/// How long before a kill something may have been heard that is heard again: the second between two
/// notes of the place, and what a busy machine takes.
const AGAIN: Duration = Duration::from_millis(2500);

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
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
    println!("kill_anywhere: seed {seed}");
    test(Dice(u64::from(seed) | 1));
    println!("kill_anywhere: ok");
}

/// The reader: what it hears goes to the file `heard`, and then its place is noted.
async fn follow(directory: &Path) {
    let mut bookmarks = Bookmarks::new(Directory::new(directory));
    let mut heard =
        OpenOptions::new().append(true).create(true).open(directory.join("heard")).unwrap();
    writeln!(heard, "life {} 0", micros()).unwrap();
    let (sender, mut news) = mpsc::channel(8);
    let log = LogFile {
        path: directory.join("log"),
        parser: number,
        place: bookmarks.load("log"),
        max_age: Duration::from_hours(1),
    };
    tokio::spawn(log_file::follow(log, Outlet::new(0, sender)));
    let mut end = signal(SignalKind::terminate()).unwrap();
    loop {
        let due = bookmarks.next_save().map(TokioInstant::from_std);
        tokio::select! {
            biased;
            _ = end.recv() => break,
            () = sleep_until(due.unwrap_or_else(TokioInstant::now)), if due.is_some() => {
                bookmarks.save().unwrap();
            }
            Some((_, news)) = news.recv() => {
                let now = micros();
                let mut lines = String::new();
                for account in news.attempts.iter().filter_map(|a| a.account.as_deref()) {
                    writeln!(lines, "line {now} {account}").unwrap();
                }
                heard.write_all(lines.as_bytes()).unwrap();
                if let Some(place) = news.place {
                    bookmarks.reach("log", place);
                }
            }
        }
    }
    bookmarks.save().unwrap();
    writeln!(heard, "end {} 0", micros()).unwrap();
}

/// The number at the beginning of a line.
fn number(line: &[u8]) -> Option<Attempt> {
    let account = line.split(|byte| *byte == b' ').next()?;
    let account = Some(String::from_utf8(account.to_vec()).ok()?);
    let address = [192, 0, 2, 66].into();
    Some(Attempt { account, ..Attempt::new(Verdict::Failure, Class::WrongCredential, address) })
}

fn test(mut dice: Dice) {
    let directory = tempfile::tempdir().unwrap();
    let done = AtomicBool::new(false);
    File::create(directory.path().join("log")).unwrap();
    let first = start(directory.path());
    // The first one begins at the end of what is there, and must have looked.
    thread::sleep(Duration::from_millis(500));
    let mut other_dice = Dice(dice.roll(u64::MAX) | 1);
    let (written, kills) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let written = write(&directory.path().join("log"), &mut other_dice);
            done.store(true, Ordering::Relaxed);
            written
        });
        // The place that the first one noted is the beginning.
        thread::sleep(Duration::from_millis(1200));
        let kills = kill_again_and_again(first, directory.path(), &done, &mut dice);
        (writer.join().unwrap(), kills)
    });
    let mut last = start(directory.path());
    let deadline = Instant::now() + Duration::from_secs(20);
    while !heard(directory.path()).contains_key(&written) {
        if Instant::now() > deadline {
            println!("the last line was not heard");
            break;
        }
        thread::sleep(Duration::from_millis(100));
    }
    // What came by a detour may come after the last line.
    thread::sleep(Duration::from_secs(3));
    end(&mut last, Signal::SIGTERM);
    let text = fs::read_to_string(directory.path().join("heard")).unwrap();
    let heard = heard(directory.path());
    let missing: Vec<u64> = (1..=written).filter(|number| !heard.contains_key(number)).collect();
    assert!(
        missing.is_empty(),
        "{} of {written} lost: {:?}",
        missing.len(),
        &missing[..missing.len().min(20)]
    );
    let again = check_repeats(&text);
    println!(
        "kill_anywhere: {written} lines, {kills} ends, {again} lines heard again after a kill"
    );
    assert!(kills > 20 && written > 1000, "too little has happened");
}

/// Writes numbered lines and rotates the log; the number of the last line.
fn write(log: &Path, dice: &mut Dice) -> u64 {
    let open = || OpenOptions::new().append(true).create(true).open(log).unwrap();
    let (mut file, mut number) = (open(), 0);
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
        match dice.roll(30) {
            0 => {
                shift(log);
                fs::rename(log, named(log, 1)).unwrap();
                // As Asterisk does until it is told to reopen.
                number += 1;
                writeln!(file, "{number} late").unwrap();
                file = open();
            }
            1 => {
                shift(log);
                fs::copy(log, named(log, 1)).unwrap();
                file.set_len(0).unwrap();
            }
            _ => {}
        }
    }
    number
}

fn shift(log: &Path) {
    for n in (1..KEPT).rev() {
        if named(log, n).exists() {
            fs::rename(named(log, n), named(log, n + 1)).unwrap();
        }
    }
}

fn named(log: &Path, number: usize) -> PathBuf {
    log.with_extension(number.to_string())
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

/// When each line was heard first.
fn heard(directory: &Path) -> BTreeMap<u64, u64> {
    let text = fs::read_to_string(directory.join("heard")).unwrap_or_default();
    let mut heard = BTreeMap::new();
    for (what, time, number) in text.lines().filter_map(entry) {
        if what == "line" {
            heard.entry(number).or_insert(time);
        }
    }
    heard
}

fn entry(line: &str) -> Option<(&str, u64, u64)> {
    let mut words = line.split(' ');
    Some((words.next()?, words.next()?.parse().ok()?, words.next()?.parse().ok()?))
}

/// Checks what was heard again; how many lines.
fn check_repeats(text: &str) -> usize {
    // Number to time and life.
    let mut heard: BTreeMap<u64, (u64, usize)> = BTreeMap::new();
    let (mut life, mut last_time, mut orderly) = (0_usize, 0, BTreeSet::new());
    let mut deaths: BTreeMap<usize, u64> = BTreeMap::new();
    let mut again = 0;
    for (what, time, number) in text.lines().filter_map(entry) {
        match what {
            "life" => {
                deaths.insert(life, last_time);
                life += 1;
            }
            "end" => {
                orderly.insert(life);
            }
            _ => {
                if let Some((before, in_life)) = heard.insert(number, (time, life)) {
                    again += 1;
                    assert_ne!(in_life, life, "line {number} came twice in one life");
                    assert!(
                        !orderly.contains(&in_life),
                        "line {number} came again after an orderly end"
                    );
                    let died = deaths[&in_life];
                    assert!(
                        Duration::from_micros(died.saturating_sub(before)) < AGAIN,
                        "line {number} came again, {} us before the kill",
                        died - before
                    );
                }
            }
        }
        last_time = time;
    }
    again
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

use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::symlink;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use proptest::collection::vec;
use proptest::prelude::*;
use tempfile::TempDir;
use tokio::time::timeout;

use super::*;

struct Fixture {
    dir: TempDir,
    tail: LogTail,
}

impl Fixture {
    /// A tail of `log`, which contains `content`.
    fn with(content: &str, start: Start) -> Self {
        let dir = TempDir::new().unwrap();
        fs::write(dir.path().join("log"), content).unwrap();
        let tail = LogTail::open(dir.path().join("log"), start).unwrap();
        Self { dir, tail }
    }

    /// A tail of a `log` that does not exist yet.
    fn missing() -> Self {
        let dir = TempDir::new().unwrap();
        let tail = LogTail::open(dir.path().join("log"), Start::End).unwrap();
        Self { dir, tail }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn append(&self, name: &str, text: &str) {
        appender(&self.path(name)).write_all(text.as_bytes()).unwrap();
    }

    fn rename(&self, from: &str, to: &str) {
        fs::rename(self.path(from), self.path(to)).unwrap();
    }

    /// Reads until `count` lines arrived, then checks that there are no more.
    async fn lines(&mut self, count: usize) -> Vec<String> {
        let mut lines = Vec::new();
        let mut each = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
        let mut read = 0;
        while read < count as u64 {
            let batch = timeout(Duration::from_secs(20), self.tail.next_batch(&mut each));
            read += batch.await.expect("lines in time").unwrap();
        }
        let more = timeout(Duration::from_millis(50), self.tail.next_batch(&mut each)).await;
        assert!(more.is_err(), "more than {count} lines: {lines:?}");
        lines
    }
}

impl LogTail {
    /// Waits for lines, and returns how many arrived.
    async fn next_batch(&mut self, mut each: impl FnMut(&[u8])) -> io::Result<u64> {
        let mut each = |line: &[u8]| {
            each(line);
            ControlFlow::Continue(())
        };
        tokio::task::coop::consume_budget().await;
        loop {
            let before = self.state.lines;
            let more = self.turn(&mut each)?;
            let delivered = self.state.lines - before;
            if delivered > 0 {
                return Ok(delivered);
            }
            if more {
                tokio::task::yield_now().await;
            } else {
                self.wait().await?;
            }
        }
    }
}

fn appender(path: &Path) -> File {
    OpenOptions::new().append(true).create(true).open(path).unwrap()
}

#[tokio::test]
async fn begins_at_the_end_or_at_the_beginning() {
    let mut end = Fixture::with("old\n", Start::End);
    end.append("log", "new\n");
    assert_eq!(end.lines(1).await, ["new"]);
    let mut beginning = Fixture::with("old\n", Start::Beginning);
    beginning.append("log", "new\n");
    assert_eq!(beginning.lines(2).await, ["old", "new"]);
    assert_eq!(beginning.tail.state().health, Health::Ok);
    assert_eq!(beginning.tail.state().bytes, 8);
}

/// The rest of a line could look like a line.
#[tokio::test]
async fn does_not_begin_within_a_line() {
    let mut fixture = Fixture::with("old line, attacker says: ", Start::End);
    fixture.append("log", "[date] NOTICE[1] forged\nnew\n");
    assert_eq!(fixture.lines(1).await, ["new"]);
}

#[tokio::test]
async fn waits_for_a_missing_file_and_reads_it_from_its_beginning() {
    let mut fixture = Fixture::missing();
    assert_eq!(fixture.lines(0).await, [""; 0]);
    assert_eq!(fixture.tail.state().health, Health::Waiting);
    fixture.append("log", "one\n");
    assert_eq!(fixture.lines(1).await, ["one"]);
    assert_eq!(fixture.tail.state().health, Health::Ok);
    assert_eq!(fixture.tail.state().rotations, 0);
}

#[tokio::test]
async fn holds_part_of_a_line() {
    let mut fixture = Fixture::missing();
    fixture.append("log", "on");
    assert_eq!(fixture.lines(0).await, [""; 0]);
    fixture.append("log", "e\ntw");
    assert_eq!(fixture.lines(1).await, ["one"]);
    fixture.append("log", "o\n");
    assert_eq!(fixture.lines(1).await, ["two"]);
}

#[tokio::test]
async fn delivers_bytes_as_they_are() {
    let mut fixture = Fixture::missing();
    fs::write(fixture.path("log"), b"\xff\0\x1b\r\n").unwrap();
    let mut lines = Vec::new();
    fixture.tail.next_batch(|line| lines.push(line.to_vec())).await.unwrap();
    assert_eq!(lines, [b"\xff\0\x1b\r"]);
}

#[tokio::test]
async fn leaves_out_a_line_that_is_too_long() {
    let mut fixture = Fixture::missing();
    fixture.append("log", &format!("one\n{}\ntwo\n", "x".repeat(1024 * 1024)));
    assert_eq!(fixture.lines(2).await, ["one", "two"]);
    assert_eq!(fixture.tail.state().skipped, 1);
}

#[tokio::test]
async fn drains_the_old_file_before_the_new_one() {
    let mut fixture = Fixture::with("", Start::End);
    let mut writer = appender(&fixture.path("log"));
    writer.write_all(b"1\n").unwrap();
    assert_eq!(fixture.lines(1).await, ["1"]);
    fixture.rename("log", "log.1");
    writer.write_all(b"2\n").unwrap();
    assert_eq!(fixture.lines(1).await, ["2"]);
    assert_eq!(fixture.tail.state().health, Health::Waiting);
    // logrotate's `create` makes the file before the writer is told to reopen.
    fixture.append("log", "");
    writer.write_all(b"3\n").unwrap();
    assert_eq!(fixture.lines(1).await, ["3"]);
    writer.write_all(b"4\n").unwrap();
    fixture.append("log", "5\n");
    assert_eq!(fixture.lines(2).await, ["4", "5"]);
    // A part of a line in each.
    writer.write_all(b"6").unwrap();
    fixture.append("log", "7");
    writer.write_all(b"6\n").unwrap();
    fixture.append("log", "7\n");
    assert_eq!(fixture.lines(2).await, ["66", "77"]);
    assert_eq!(fixture.tail.state().rotations, 1);
}

#[tokio::test]
async fn lets_go_of_a_silent_old_file() {
    let mut fixture = Fixture::with("", Start::End);
    fixture.tail.grace = Duration::ZERO;
    let mut writer = appender(&fixture.path("log"));
    fixture.rename("log", "log.1");
    fixture.append("log", "");
    writer.write_all(b"1\nhalf").unwrap();
    // While the new file is empty the writer has not reopened.
    assert_eq!(fixture.lines(1).await, ["1"]);
    assert_eq!(fixture.tail.files.len(), 2);
    fixture.append("log", "2\n");
    assert_eq!(fixture.lines(1).await, ["2"]);
    assert_eq!(fixture.tail.files.len(), 1);
    assert_eq!(fixture.tail.state().skipped, 1);
}

/// Rotations that nobody watched, as when the daemon was stopped for a while.
#[tokio::test]
async fn finds_files_that_had_the_name_unseen() {
    let mut fixture = Fixture::with("", Start::End);
    for nth in 0..5 {
        for old in (0..nth).rev() {
            fixture.rename(&format!("log.{old}"), &format!("log.{}", old + 1));
        }
        fixture.append("log", &format!("{nth}\n"));
        fixture.rename("log", "log.0");
    }
    fixture.append("log", "5\n");
    assert_eq!(fixture.lines(6).await, ["0", "1", "2", "3", "4", "5"]);
    assert_eq!(fixture.tail.state().rotations, 5);
    assert_eq!(fixture.tail.state().missed, 0);
}

#[tokio::test]
async fn counts_files_that_are_gone() {
    let mut fixture = Fixture::with("", Start::End);
    fixture.append("log", "0\n");
    fixture.rename("log", "log.1");
    fixture.append("log", "lost\n");
    fixture.rename("log", "log.2");
    fs::remove_file(fixture.path("log.2")).unwrap();
    fixture.append("log", "2\n");
    assert_eq!(fixture.lines(2).await, ["0", "2"]);
    assert_eq!(fixture.tail.state().missed, 1);
}

#[tokio::test]
async fn copy_and_truncate() {
    let mut fixture = Fixture::with("", Start::End);
    fixture.append("log", "1\n2\nhalf");
    assert_eq!(fixture.lines(2).await, ["1", "2"]);
    fs::copy(fixture.path("log"), fixture.path("log.1")).unwrap();
    OpenOptions::new().write(true).open(fixture.path("log")).unwrap().set_len(0).unwrap();
    assert_eq!(fixture.lines(0).await, [""; 0]);
    fixture.append("log", "3\n");
    assert_eq!(fixture.lines(1).await, ["3"]);
    let state = fixture.tail.state();
    // The incomplete line waits for its end in the copy.
    assert_eq!((state.truncations, state.rotations, state.skipped), (1, 0, 0));
}

#[tokio::test]
async fn deletion_and_a_new_file() {
    let mut fixture = Fixture::with("", Start::End);
    let mut writer = appender(&fixture.path("log"));
    fs::remove_file(fixture.path("log")).unwrap();
    writer.write_all(b"1\n").unwrap();
    assert_eq!(fixture.lines(1).await, ["1"]);
    assert_eq!(fixture.tail.state().health, Health::Waiting);
    fixture.append("log", "2\n");
    assert_eq!(fixture.lines(1).await, ["2"]);
    assert_eq!(fixture.tail.state().health, Health::Ok);
}

#[tokio::test]
async fn replacement_by_a_rename() {
    let mut fixture = Fixture::with("0\n", Start::End);
    fs::write(fixture.path("tmp"), "1\n").unwrap();
    fixture.rename("tmp", "log");
    assert_eq!(fixture.lines(1).await, ["1"]);
}

#[tokio::test]
async fn replacement_by_a_link_whose_target_rotates() {
    let mut fixture = Fixture::with("", Start::End);
    let elsewhere = TempDir::new().unwrap();
    let target = elsewhere.path().join("real");
    fs::write(&target, "1\n").unwrap();
    fs::remove_file(fixture.path("log")).unwrap();
    symlink(&target, fixture.path("log")).unwrap();
    assert_eq!(fixture.lines(1).await, ["1"]);
    let mut writer = appender(&target);
    fs::rename(&target, elsewhere.path().join("real.1")).unwrap();
    writer.write_all(b"2\n").unwrap();
    fs::write(&target, "3\n").unwrap();
    assert_eq!(fixture.lines(2).await, ["2", "3"]);
    // And linked to something else.
    fs::write(fixture.path("other"), "4\n").unwrap();
    symlink("other", fixture.path("tmp")).unwrap();
    fixture.rename("tmp", "log");
    assert_eq!(fixture.lines(1).await, ["4"]);
    assert_eq!(fixture.tail.state().missed, 0);
}

/// A log behind links: the links, and what happens to them. The reader watches the whole time, or was
/// stopped.
struct Links {
    root: TempDir,
    log: PathBuf,
    written: u32,
}

impl Links {
    /// `ways/log` leads to `store/real-1.log`.
    fn new(chain: bool, directory: bool) -> Self {
        let root = TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["ways", "store", "middle"] {
            fs::create_dir(path(name)).unwrap();
        }
        fs::write(path("store/real-1.log"), "").unwrap();
        if chain {
            symlink("../store/real-1.log", path("middle/mid")).unwrap();
            symlink("../middle/mid", path("ways/log")).unwrap();
        } else {
            symlink("../store/real-1.log", path("ways/log")).unwrap();
        }
        let log = if directory {
            symlink("ways", path("ways-link")).unwrap();
            path("ways-link/log")
        } else {
            path("ways/log")
        };
        Self { root, log, written: 0 }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    /// A line in a file of `store`.
    fn write(&mut self, name: &str) {
        self.written += 1;
        let mut file = appender(&self.path("store").join(name));
        writeln!(file, "line {}", self.written).unwrap();
    }

    /// Makes `link` lead to a file of `store`, as `ln -sfn` does.
    fn lead(&self, link: &str, name: &str) {
        symlink(format!("../store/{name}"), self.path("store/new-link")).unwrap();
        fs::rename(self.path("store/new-link"), self.path(link)).unwrap();
    }

    fn truncate(&self, name: &str) {
        let file = OpenOptions::new().write(true).open(self.path("store").join(name)).unwrap();
        file.set_len(0).unwrap();
    }

    fn copy(&self, name: &str, to: &str) {
        fs::copy(self.path("store").join(name), self.path(to)).unwrap();
    }

    /// One event between lines that were read and lines that follow.
    fn happen(&mut self, what: &str) {
        self.write("real-1.log");
        match what {
            "renamed" => {
                let real = self.path("store/real-1.log");
                fs::rename(&real, self.path("store/real-1.log.1")).unwrap();
                self.write("real-1.log.1");
                self.write("real-1.log");
            }
            "copied beside the file" | "copied beside the link" | "copied and swapped" => {
                match what {
                    "copied beside the link" => self.copy("real-1.log", "ways/log.1"),
                    _ => self.copy("real-1.log", "store/real-1.log.1"),
                }
                if what == "copied and swapped" {
                    fs::write(self.path("store/real-2.log"), "").unwrap();
                    self.lead("ways/log", "real-2.log");
                }
                self.truncate("real-1.log");
                let last = if what == "copied and swapped" { "real-2.log" } else { "real-1.log" };
                self.write(last);
            }
            "swapped" | "swapped to another name" => {
                let new = if what == "swapped" { "real-2.log" } else { "other" };
                fs::write(self.path("store").join(new), "").unwrap();
                self.lead("ways/log", new);
                self.write("real-1.log");
                self.write(new);
            }
            "swapped twice" | "swapped in the middle" => {
                let link = if what == "swapped twice" { "ways/log" } else { "middle/mid" };
                for new in ["real-2.log", "real-3.log", "real-4.log"] {
                    fs::write(self.path("store").join(new), "").unwrap();
                    self.lead(link, new);
                    self.write(new);
                }
            }
            _ => panic!("{what}"),
        }
    }
}

const LINKS: [(&str, bool); 8] = [
    ("renamed", false),
    ("renamed", true),
    ("copied beside the file", true),
    ("copied beside the link", false),
    ("copied and swapped", false),
    ("swapped", false),
    ("swapped to another name", false),
    ("swapped twice", false),
];

#[tokio::test]
async fn nothing_is_lost_behind_links() {
    let middle = ("swapped in the middle", true);
    for (what, chain) in LINKS.into_iter().chain([middle]) {
        for directory in [false, true] {
            for away in [false, true] {
                let mut log = Links::new(chain, directory);
                log.write("real-1.log");
                let mut tail = LogTail::open(&log.log, Start::Beginning).unwrap();
                let mut lines = Vec::new();
                let mut each = |line: &[u8]| lines.push(String::from_utf8_lossy(line).into_owned());
                let limit = Duration::from_secs(20);
                timeout(limit, tail.next_batch(&mut each)).await.unwrap().unwrap();
                // The clock of files has ticks, that of processes has none.
                tokio::time::sleep(Duration::from_millis(40)).await;
                if away {
                    let position = Position::from_text(&tail.position().to_text()).unwrap();
                    drop(tail);
                    log.happen(what);
                    tail = LogTail::resume(&log.log, &position).unwrap();
                } else {
                    log.happen(what);
                }
                let case = format!("{what}, chain {chain}, directory {directory}, away {away}");
                let mut read = 1;
                while read < u64::from(log.written) {
                    let batch = timeout(Duration::from_secs(5), tail.next_batch(&mut each)).await;
                    let Ok(batch) = batch else {
                        panic!("{case}: {read} of {}: {lines:?}", log.written)
                    };
                    read += batch.unwrap();
                }
                let more = timeout(Duration::from_millis(50), tail.next_batch(&mut each)).await;
                assert!(more.is_err(), "{case}: {lines:?}");
                let expected: Vec<_> = (1..=log.written).map(|n| format!("line {n}")).collect();
                assert_eq!(lines, expected, "{case}");
                assert_eq!((tail.state().skipped, tail.state().missed), (0, 0), "{case}");
                assert_eq!(tail.state().health, Health::Ok, "{case}");
            }
        }
    }
}

/// A directory on the way is a link, and its target changes.
#[tokio::test]
async fn a_directory_behind_a_link_that_is_swapped() {
    for away in [false, true] {
        let root = TempDir::new().unwrap();
        let path = |name: &str| root.path().join(name);
        for name in ["day-1", "day-2"] {
            fs::create_dir(path(name)).unwrap();
        }
        symlink("day-1", path("today")).unwrap();
        fs::write(path("day-1/log"), "1\n").unwrap();
        let tail = LogTail::open(path("today/log"), Start::Beginning).unwrap();
        let mut fixture = Fixture { dir: root, tail };
        assert_eq!(fixture.lines(1).await, ["1"]);
        let position = Position::from_text(&fixture.tail.position().to_text()).unwrap();
        fixture.append("day-1/log", "2\n");
        symlink("day-2", fixture.path("new")).unwrap();
        fixture.rename("new", "today");
        fixture.append("day-2/log", "3\n");
        if away {
            fixture.tail = LogTail::resume(fixture.path("today/log"), &position).unwrap();
        }
        assert_eq!(fixture.lines(2).await, ["2", "3"], "{away}");
        fixture.rename("day-2/log", "day-2/log.1");
        fixture.append("day-2/log", "4\n");
        assert_eq!(fixture.lines(1).await, ["4"], "{away}");
    }
}

/// A copy is written in pieces; its contents are also in the log.
#[tokio::test]
async fn a_copy_that_is_being_made_is_no_new_file() {
    let mut fixture = Fixture::with("", Start::End);
    let text = (0..100).map(|n| format!("[2026-11-22 09:32:21] line {n}"));
    let text = text.collect::<Vec<_>>().join("\n") + "\n";
    fixture.append("log", &text);
    assert_eq!(fixture.lines(100).await.len(), 100);
    let mut copy = appender(&fixture.path("log.1"));
    let names_changed = |fixture: &mut Fixture| fixture.tail.names_changed = true;
    names_changed(&mut fixture);
    assert_eq!(fixture.lines(0).await, [""; 0]);
    for part in [&text[..50], &text[50..200], &text[200..]] {
        copy.write_all(part.as_bytes()).unwrap();
        names_changed(&mut fixture);
        assert_eq!(fixture.lines(0).await, [""; 0]);
    }
    let log = OpenOptions::new().write(true).open(fixture.path("log")).unwrap();
    log.set_len(0).unwrap();
    fixture.append("log", "new\n");
    assert_eq!(fixture.lines(1).await, ["new"]);
    assert_eq!(fixture.tail.state().skipped, 0);
}

/// A new log may be copied before it is read, and truncated afterwards.
#[tokio::test]
async fn a_copy_of_a_new_file_is_no_other_file() {
    let mut fixture = Fixture::missing();
    fixture.append("log", "[09:32:21] one\n");
    fs::copy(fixture.path("log"), fixture.path("log.1")).unwrap();
    assert_eq!(fixture.lines(1).await, ["[09:32:21] one"]);
    fixture.append("log", "[09:32:22] two\n");
    assert_eq!(fixture.lines(1).await, ["[09:32:22] two"]);
    fs::write(fixture.path("log"), "[09:32:23] three\n").unwrap();
    assert_eq!(fixture.lines(1).await, ["[09:32:23] three"]);
}

/// Many files may begin with a part of a line.
#[tokio::test]
async fn a_part_of_a_line_identifies_no_file() {
    let mut fixture = Fixture::missing();
    fs::write(fixture.path("log.2"), "[09:32:21] old\n").unwrap();
    thread::sleep(Duration::from_millis(40));
    fixture.tail = LogTail::open(fixture.path("log"), Start::End).unwrap();
    fixture.append("log", "[09:32:2");
    assert_eq!(fixture.lines(0).await, [""; 0]);
    let position = fixture.tail.position();
    for away in [false, true] {
        fixture.append("log", "2] one\n");
        fs::copy(fixture.path("log"), fixture.path("log.1")).unwrap();
        fs::write(fixture.path("log"), "[09:32:23] two\n").unwrap();
        if away {
            fixture.tail = LogTail::resume(fixture.path("log"), &position).unwrap();
        }
        let mut lines = fixture.lines(2).await;
        lines.sort();
        assert_eq!(lines, ["[09:32:22] one", "[09:32:23] two"], "{away}");
        fs::remove_file(fixture.path("log.1")).unwrap();
        fs::write(fixture.path("log"), "[09:32:2").unwrap();
    }
}

/// Until the line is complete, a file that the link led to meanwhile may be a copy of the new one.
#[tokio::test]
async fn a_part_of_a_line_behind_a_link_that_was_swapped_twice() {
    for away in [false, true] {
        let mut log = Links::new(false, false);
        log.write("real-1.log");
        let tail = LogTail::open(&log.log, Start::Beginning).unwrap();
        let Links { root: dir, log, .. } = log;
        let mut fixture = Fixture { dir, tail };
        assert_eq!(fixture.lines(1).await, ["line 1"]);
        thread::sleep(Duration::from_millis(40));
        let mut position = fixture.tail.position();
        for (number, text) in [(2, "line 2\n"), (3, "line")] {
            let name = format!("real-{number}.log");
            fixture.append(&format!("store/{name}"), text);
            symlink(format!("../store/{name}"), fixture.path("new")).unwrap();
            fixture.rename("new", "ways/log");
        }
        for _look in 0..2 {
            if away {
                fixture.tail = LogTail::resume(&log, &position).unwrap();
            }
            assert_eq!(fixture.lines(0).await, [""; 0], "{away}");
            position = Position::from_text(&fixture.tail.position().to_text()).unwrap();
        }
        fixture.append("store/real-3.log", " 3\n");
        if away {
            fixture.tail = LogTail::resume(&log, &position).unwrap();
        }
        let mut lines = fixture.lines(2).await;
        lines.sort();
        assert_eq!(lines, ["line 2", "line 3"], "{away}");
    }
}

/// There are few watches, however often a directory is replaced.
#[tokio::test]
async fn directories_that_are_replaced_leave_no_watches() {
    let mut links = Links::new(true, true);
    let mut tail = LogTail::open(&links.log, Start::Beginning).unwrap();
    for round in 0..100 {
        fs::rename(links.path("store"), links.path(&format!("store-{round}"))).unwrap();
        fs::create_dir(links.path("store")).unwrap();
        links.write("real-1.log");
        tail.polls = true;
        tail.turn(&mut |_| ControlFlow::Continue(())).unwrap();
        tail.turn(&mut |_| ControlFlow::Continue(())).unwrap();
    }
    assert_eq!(tail.state().lines, 100);
    let watches = format!("/proc/self/fdinfo/{}", tail.inotify.as_raw_fd());
    let watches = fs::read_to_string(watches).unwrap().matches("inotify wd").count();
    assert!(watches <= 3 + FILES_MAX + 1, "{watches}");
    assert!(tail.left.is_empty());
}

#[tokio::test]
async fn a_directory_that_is_replaced() {
    let root = TempDir::new().unwrap();
    let dir = root.path().join("dir");
    fs::create_dir(&dir).unwrap();
    let tail = LogTail::open(dir.join("log"), Start::End).unwrap();
    let mut fixture = Fixture { dir: root, tail };
    fixture.rename("dir", "dir.old");
    fs::create_dir(&dir).unwrap();
    fixture.append("dir/log", "1\n");
    assert_eq!(fixture.lines(1).await, ["1"]);
    fixture.rename("dir/log", "dir/log.1");
    fixture.append("dir/log", "2\n");
    assert_eq!(fixture.lines(1).await, ["2"]);
}

#[tokio::test]
async fn what_is_no_file_is_said_and_tried_again() {
    let mut fixture = Fixture::missing();
    fs::create_dir(fixture.path("log")).unwrap();
    assert_eq!(fixture.lines(0).await, [""; 0]);
    assert!(matches!(fixture.tail.state().health, Health::Failed(_)));
    fs::remove_dir(fixture.path("log")).unwrap();
    fixture.append("log", "1\n");
    assert_eq!(fixture.lines(1).await, ["1"]);
    assert_eq!(fixture.tail.state().health, Health::Ok);
}

#[tokio::test]
async fn a_missing_directory_is_an_error_that_names_it() {
    let dir = TempDir::new().unwrap();
    let missing = dir.path().join("no/such");
    let error = LogTail::open(missing.join("log"), Start::End).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::NotFound);
    assert!(error.to_string().contains(missing.to_str().unwrap()), "{error}");
    assert!(LogTail::open("/", Start::End).is_err());
}

/// From the write to the callback; polling would take a second.
#[tokio::test]
async fn reacts_at_once() {
    let mut fixture = Fixture::with("", Start::End);
    let mut writer = appender(&fixture.path("log"));
    let mut times = Vec::new();
    for _ in 0..100 {
        let (sender, receiver) = std::sync::mpsc::channel();
        let mut file = writer.try_clone().unwrap();
        let thread = thread::spawn(move || {
            thread::sleep(Duration::from_millis(2));
            sender.send(std::time::Instant::now()).unwrap();
            file.write_all(b"line\n").unwrap();
        });
        fixture.tail.next_batch(|_| ()).await.unwrap();
        times.push(receiver.recv().unwrap().elapsed());
        thread.join().unwrap();
    }
    writer.flush().unwrap();
    times.sort();
    println!("median {:?}, slowest {:?}", times[50], times[99]);
    assert!(times[50] < Duration::from_millis(50), "{times:?}");
}

/// Each line arrives once and in order, with a writer that rotates, continues to write to the old file
/// and only then reopens, and a reader that is cancelled again and again.
#[tokio::test]
async fn loses_nothing_over_many_rotations() {
    const LINES: u64 = 100_000;
    let mut fixture = Fixture::with("", Start::End);
    let path = fixture.path("log");
    let writer = thread::spawn(move || {
        let mut file = appender(&path);
        let mut rotation = 0;
        for line in 0..LINES {
            // Two writes for some lines.
            if line % 7 == 0 {
                write!(file, "{line}").unwrap();
                file.write_all(b"\n").unwrap();
            } else {
                file.write_all(format!("{line}\n").as_bytes()).unwrap();
            }
            match line % 500 {
                0 => {
                    rotation += 1;
                    fs::rename(&path, path.with_extension(rotation.to_string())).unwrap();
                }
                50 => file = appender(&path),
                _ => {}
            }
        }
    });
    let mut next = 0;
    let deadline = Instant::now() + Duration::from_mins(1);
    while next < LINES {
        let batch = fixture.tail.next_batch(|line| {
            assert_eq!(str::from_utf8(line).unwrap().parse(), Ok(next));
            next += 1;
        });
        if let Ok(result) = timeout(Duration::from_micros(200), batch).await {
            assert!(result.unwrap() > 0);
        }
        assert!(Instant::now() < deadline, "stuck at {next}: {:?}", fixture.tail.state());
    }
    writer.join().unwrap();
    let state = fixture.tail.state().clone();
    assert_eq!((state.lines, state.skipped, state.missed), (LINES, 0, 0), "{state:?}");
    assert!(state.rotations > 100, "{state:?}");
}

/// A file that is renamed while a directory is read may be missed there.
#[tokio::test]
async fn goes_on_in_a_copy_while_it_is_renamed() {
    const NAMES: u32 = 60;
    let mut fixture = Fixture::with("[09:32:21] one\n", Start::Beginning);
    let path = fixture.path("log");
    let named = |number: u32| path.with_added_extension(number.to_string());
    for number in 2..NAMES {
        fs::write(named(number), "other\n").unwrap();
    }
    thread::sleep(Duration::from_millis(40));
    fixture.tail = LogTail::open(&path, Start::Beginning).unwrap();
    assert_eq!(fixture.lines(1).await.len(), 1);
    let position = fixture.tail.position();
    fixture.append("log", "[09:32:22] two\n");
    fs::copy(fixture.path("log"), fixture.path("log.1")).unwrap();
    fs::write(fixture.path("log"), "[09:32:23] three\n").unwrap();
    let done = AtomicBool::new(false);
    let found = thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                for number in (1..NAMES).rev() {
                    fs::rename(named(number), named(number + 1)).unwrap();
                }
                thread::sleep(Duration::from_millis(2));
                for number in 1..NAMES {
                    fs::rename(named(number + 1), named(number)).unwrap();
                }
                thread::sleep(Duration::from_millis(2));
            }
        });
        let resume = || {
            let mut lines = Vec::new();
            let mut tail = LogTail::resume(fixture.path("log"), &position).unwrap();
            let mut each = |line: &[u8]| {
                lines.push(String::from_utf8_lossy(line).into_owned());
                ControlFlow::Continue(())
            };
            while tail.turn(&mut each).unwrap() {}
            lines
        };
        let found: Vec<_> = (0..300).map(|_| resume()).collect();
        done.store(true, Ordering::Relaxed);
        found
    });
    for lines in found {
        assert_eq!(lines, ["[09:32:22] two", "[09:32:23] three"]);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn writes_may_end_anywhere(lines in vec("[^\n]{0,40}", 1..30), cuts in vec(1_usize..50, 1..20)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let found = runtime.block_on(async {
            let mut fixture = Fixture::missing();
            let path = fixture.path("log");
            let text: String = lines.iter().map(|line| line.clone() + "\n").collect();
            let writer = thread::spawn(move || {
                let mut file = appender(&path);
                let mut rest = text.as_bytes();
                for cut in cuts.iter().cycle() {
                    let (now, later) = rest.split_at((*cut).min(rest.len()));
                    file.write_all(now).unwrap();
                    rest = later;
                    if rest.is_empty() {
                        break;
                    }
                }
            });
            let found = fixture.lines(lines.len()).await;
            writer.join().unwrap();
            found
        });
        prop_assert_eq!(found, lines);
    }
}

//! Sources that read real files, on a single-threaded runtime like the daemon's.

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::IpAddr;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::runtime::Builder;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::budget::processor_time;
use super::*;
use crate::fail2ban::{Filter, Options};
use crate::failure::{Attempt, Class, Verdict};

/// Generous: the machine may be busy.
const SOON: Duration = Duration::from_secs(20);

fn run(test: impl Future<Output = ()>) {
    Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Reads a line that is an address as a failure of it.
fn plain(line: &[u8]) -> Option<Attempt> {
    let address: IpAddr = str::from_utf8(line).ok()?.parse().ok()?;
    Some(Attempt::new(Verdict::Failure, Class::Login, address))
}

fn lane() -> Lane {
    Lane::new(1, Duration::from_millis(100))
}

struct Bench {
    directory: TempDir,
    tasks: JoinSet<()>,
    outlet: mpsc::Sender<(usize, Heard)>,
    heard: mpsc::Receiver<(usize, Heard)>,
}

impl Bench {
    fn new() -> Self {
        let (outlet, heard) = mpsc::channel(64);
        let directory = tempfile::tempdir().unwrap();
        Self { directory, tasks: JoinSet::new(), outlet, heard }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts to read a log from its beginning, as the source with this number.
    fn follow(&mut self, number: usize, name: &str, parser: Parser, lane: &Lane) {
        let log = LogFile {
            path: self.path(name),
            parser,
            place: None,
            is_new: true,
            max_age: Duration::from_hours(1),
        };
        let outlet = Outlet::new(number, self.outlet.clone());
        self.tasks.spawn(follow(log, lane.clone(), outlet));
    }

    fn filter(&self, failregex: &str) -> Parser {
        let path = self.path("filter.conf");
        fs::write(&path, format!("[Definition]\nfailregex = {failregex}\n")).unwrap();
        let filter = Filter::load(path.to_str().unwrap(), Options::default()).unwrap();
        Parser::Filter(Arc::new(filter))
    }

    fn append(&self, name: &str, text: &str) {
        let path = self.path(name);
        let mut file = OpenOptions::new().append(true).create(true).open(path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
    }

    async fn next(&mut self) -> (usize, Heard) {
        timeout(SOON, self.heard.recv()).await.expect("something is heard").unwrap()
    }
}

/// An expression that backtracks as often as allowed for each line that does not match.
const SLOW: &str = r"^(?=(x+x+)+y)\1z <HOST>$";

/// Every line costs 200,000 backtracking steps, and there are more lines than a processor can read.
#[test]
fn a_filter_that_goes_back_and_back_delays_no_other_source() {
    run(async {
        let mut bench = Bench::new();
        let slow = bench.filter(SLOW);
        // The share is so small that it is exhausted on a busy machine too.
        let (filters, others) = (Lane::new(1, Duration::from_millis(20)), lane());
        for (number, name) in ["slow-1", "slow-2", "slow-3"].into_iter().enumerate() {
            bench.append(name, &format!("{}\n", "x".repeat(4000)).repeat(2_000));
            bench.follow(number, name, slow.clone(), &filters);
        }
        bench.append("fast", "");
        bench.follow(9, "fast", Parser::BuiltIn(plain), &others);
        let (mut strained, mut given_up) = ([false; 3], 0);
        let before = processor_time();
        let mut second = 0;
        while second < 4 || strained != [true; 3] {
            second += 1;
            assert!(second < 60, "each of the slow ones says so: {strained:?}");
            // If the loop were delayed, this would be late too.
            let slept = Instant::now();
            sleep(Duration::from_secs(1)).await;
            bench.append("fast", "192.0.2.66\n");
            let written = Instant::now();
            assert!(written - slept < Duration::from_millis(1500), "{:?}", written - slept);
            loop {
                let (source, heard) = bench.next().await;
                if source < 3 {
                    given_up += heard.lost;
                    strained[source] |= heard.strain.is_some_and(|strain| strain.left_out > 0);
                } else if !heard.attempts.is_empty() {
                    break;
                }
            }
            let late = written.elapsed();
            assert!(late < Duration::from_millis(500), "{late:?} in second {second}");
        }
        // Each of these lines takes milliseconds, but not of the thread that receives them.
        let own = processor_time().saturating_sub(before);
        assert!(own < 2 * Duration::from_millis(given_up), "{own:?} for {given_up} lines");
        assert!(given_up > 0, "what an expression gives up is in a count");
    });
}

/// Lines arrive in the order of writing, each once, in messages that the controller can handle quickly.
#[test]
fn messages_are_small_and_lose_nothing() {
    run(async {
        let mut bench = Bench::new();
        let address = |n: u32| IpAddr::from((0x0a00_0000 + n).to_be_bytes());
        let text: String = (0..20_000).map(|n| address(n).to_string() + "\n").collect();
        bench.append("log", &text);
        bench.follow(0, "log", Parser::BuiltIn(plain), &lane());
        let (mut next, mut lines) = (0, 0);
        while next < 20_000 {
            let (_, heard) = bench.next().await;
            assert!(heard.attempts.len() <= ATTEMPTS_ENOUGH, "{}", heard.attempts.len());
            lines += heard.lines;
            for attempt in heard.attempts {
                assert_eq!(attempt.address, address(next));
                next += 1;
            }
            // Its position is after the last line that it has delivered, and no further.
            let place = Position::from_text(&heard.place.unwrap()).unwrap();
            let told: usize = text.split_inclusive('\n').take(next as usize).map(str::len).sum();
            assert_eq!(place.delivered(), told as u64);
        }
        assert_eq!(lines, 20_000);
    });
}

/// Lines of a message are not repeated by a process that continues from its position.
#[test]
fn each_place_is_one_to_go_on_from() {
    run(async {
        let bench = Bench::new();
        let expected: Vec<String> = (1..=200).map(|n| format!("192.0.2.{n}")).collect();
        let text = expected.join("\n") + "\n";
        bench.append("log", &text);
        let (mut place, mut heard) = (None, Vec::new());
        while heard.len() < 200 {
            let log = LogFile {
                path: bench.path("log"),
                parser: Parser::BuiltIn(plain),
                place: place.take(),
                is_new: true,
                max_age: Duration::from_hours(1),
            };
            // A reader that ends after its first message, as if it were killed.
            let (outlet, mut inlet) = mpsc::channel(1);
            let task = tokio::spawn(follow(log, lane(), Outlet::new(0, outlet)));
            let (_, news) = timeout(SOON, inlet.recv()).await.unwrap().unwrap();
            task.abort();
            heard.extend(news.attempts.iter().map(|attempt| attempt.address.to_string()));
            place = news.place;
        }
        assert_eq!(heard, expected);
    });
}

#[test]
fn lines_that_are_too_long_are_counted_as_lost() {
    run(async {
        let mut bench = Bench::new();
        bench.append("log", &format!("{}\n192.0.2.1\n", "x".repeat(200_000)));
        bench.follow(0, "log", Parser::BuiltIn(plain), &lane());
        let (mut lost, mut failures) = (0, 0);
        while failures < 1 {
            let (_, heard) = bench.next().await;
            lost += heard.lost;
            failures += heard.attempts.len();
        }
        assert_eq!(lost, 1);
    });
}

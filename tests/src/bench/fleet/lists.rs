//! A million addresses of five lists, as a daemon fetches them over HTTP: how soon all are banned, how soon a
//! difference is in force, the memory, and whether a banned source gets a packet through meanwhile.

use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use filter_user::client;
use filter_user::control::Request;
use serde::Serialize;

use crate::bench::operations::site::{UNIT, cpu_time, environment, peak_during, resident};
use crate::interrupt;
use crate::ringfence::{Config, Ringfence};
use crate::screen::{Paint, Screen};
use crate::stream::Stream;
use crate::world::{Echo, Hosts, PBX, SIP_PORT};

/// The lists, and the addresses of each.
const LISTS: u32 = 5;
const EACH: u32 = 200_000;

/// The promised time within which a difference is in force, in milliseconds.
const PROMISED: f64 = 1000.0;

/// How long everything may take.
const LIMIT: Duration = Duration::from_mins(2);

/// How often the daemon is asked.
const POLL: Duration = Duration::from_millis(2);

/// How many packets the banned source sends a second.
const RATE: u32 = 1000;

/// The banned source. The first list has it all the while.
const BANNED: IpAddr = IpAddr::V4(Ipv4Addr::new(185, 0, 0, 66));

/// How often each difference is measured.
const ROUNDS: u32 = 3;

/// What is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Lists {
    /// How many there are.
    pub count: u32,
    /// The addresses of all lists together.
    pub addresses: u32,
    /// Seconds from the last byte of the lists to the last ban, when the kernel has none of them yet.
    pub first: f64,
    /// The differences.
    pub differences: Vec<Difference>,
    /// Megabytes of the daemon without lists, and with them.
    pub memory: [f64; 2],
    /// The same at the peak of the first load, and of a difference.
    pub peaks: [f64; 2],
    /// Megabytes of tables that it shares with the kernel.
    pub tables: f64,
    /// What the banned source sent since it was banned.
    pub sent: u64,
    /// What arrived of it.
    pub arrived: u64,
}

/// A difference.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Difference {
    /// The lists that change.
    pub lists: u32,
    /// The addresses of each that are new.
    pub new: u32,
    /// Those that are no longer listed.
    pub gone: u32,
    /// Milliseconds from the last byte of the lists to the last change in the kernel: the worst of the rounds.
    pub milliseconds: f64,
    /// Milliseconds of CPU time of the daemon meanwhile, the most of the rounds.
    pub work: f64,
}

impl Lists {
    /// Whether each difference is in force in time, and nothing was let through.
    pub fn targets_met(&self) -> bool {
        self.arrived == 0 && self.differences.iter().all(|one| one.milliseconds < PROMISED)
    }

    /// As text.
    pub fn text(&self, paint: Paint) -> String {
        let Self { count, addresses, first, memory, peaks, tables, sent, arrived, .. } = self;
        let mut lines = vec![
            paint.bold(&format!("{addresses} addresses of {count} lists")),
            format!("  all banned after {first:.1} s"),
        ];
        lines.extend(self.differences.iter().map(|one| {
            let Difference { lists, new, gone, milliseconds, work } = one;
            format!(
                "  {lists} of them with {new} new and {gone} gone each: {milliseconds:.0} ms (promised: {PROMISED:.0}), \
                 {work:.0} ms of CPU time"
            )
        }));
        let ([without, with], [load, change]) = (memory, peaks);
        lines.push(format!(
            "  memory: {without:.0} MB without lists, {with:.0} MB with them; peaks: {load:.0} MB at the first load, \
             {change:.0} MB at a difference; {tables:.0} MB of tables"
        ));
        lines.push(format!(
            "  packets of a banned source meanwhile: {sent} sent, {arrived} arrived"
        ));
        lines.join("\n")
    }
}

/// Measures.
pub(super) fn measure(binary: &Path, screen: &mut Screen) -> anyhow::Result<Lists> {
    let hosts = Hosts::new()?;
    let echo = Echo::start(&hosts.pbx)?;
    hosts.attacker.ip(&format!("addr add {BANNED}/32 dev eth0"))?;
    hosts.pbx.ip(&format!("route add {BANNED} dev eth0"))?;
    let server = Server::start(&hosts)?;
    let mut lists: Vec<Addresses> = (0..LISTS).map(Addresses::new).collect();
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    config.environment = environment(UNIT);
    config.more = String::from("capacity: {bans: 1250000}\nfeeds:\n");
    for (place, _) in lists.iter().enumerate() {
        let address = server.address;
        writeln!(config.more, "  list-{place}: {{url: 'http://{address}/{place}', interval: 2s}}")?;
    }
    let mut ringfence = Ringfence::start(&hosts.pbx, binary, &config)?;
    let process = ringfence.id();
    let stream = Stream::start(&hosts.attacker, BANNED, SocketAddr::new(PBX, SIP_PORT), RATE)?;
    wait_until("the source is heard", || Ok(stream.counts().1 > 0))?;
    screen.say(&format!("{} addresses of {LISTS} lists", LISTS * EACH))?;
    let before = resident(process)?.own;
    let mut first = Duration::ZERO;
    let load = peak_during(process, || {
        first = publish(&server, &lists, LISTS, &ringfence)?;
        Ok(())
    })?;
    // What was let through before is answered by now.
    thread::sleep(Duration::from_millis(200));
    let (sent, arrived) = stream.counts();
    let settled = resident(process)?;
    let mut differences = Vec::new();
    let mut peak: f64 = 0.0;
    for (changed, new, gone) in [(1, 2_000, 3_000), (LISTS, 2_000, 3_000), (LISTS, 8_000, 12_000)] {
        let (mut worst, mut work) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            interrupt::check()?;
            for list in lists.iter_mut().take(changed as usize) {
                list.change(new, gone);
            }
            let before = cpu_time(process)?;
            let more = peak_during(process, || {
                worst = worst.max(publish(&server, &lists, changed, &ringfence)?);
                Ok(())
            })?;
            work = work.max(cpu_time(process)?.saturating_sub(before));
            peak = peak.max(more);
        }
        let [milliseconds, work] = [worst, work].map(|time| time.as_secs_f64() * 1e3);
        differences.push(Difference { lists: changed, new, gone, milliseconds, work });
    }
    let after = stream.counts();
    drop((stream, server, echo));
    ringfence.stop()?;
    Ok(Lists {
        count: LISTS,
        addresses: LISTS * EACH,
        first: first.as_secs_f64(),
        differences,
        memory: [before, settled.own],
        peaks: [before + load, settled.own + peak],
        tables: settled.tables,
        sent: after.0 - sent,
        arrived: after.1 - arrived,
    })
}

/// The addresses of a list: so many of a range, in its order.
struct Addresses {
    number: u32,
    listed: Vec<bool>,
}

impl Addresses {
    fn new(number: u32) -> Self {
        let mut listed = vec![true; EACH as usize];
        listed.resize(EACH as usize + EACH as usize / 4, false);
        Self { number, listed }
    }

    /// Has other addresses: `new` ones are listed, and `gone` ones no longer, all over the range.
    fn change(&mut self, new: u32, gone: u32) {
        let mut seed = 0x9e37_79b9_u32;
        for (count, becomes) in [(new, true), (gone, false)] {
            let mut left = count;
            while left > 0 {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let place = seed as usize % self.listed.len();
                if let Some(listed) = self.listed.get_mut(place).filter(|now| **now != becomes) {
                    *listed = becomes;
                    left -= 1;
                }
            }
        }
    }

    fn count(&self) -> u64 {
        self.listed.iter().filter(|listed| **listed).count() as u64
    }

    /// The first list has the banned source as well.
    fn text(&self) -> String {
        let mut text = String::with_capacity(EACH as usize * 14);
        if self.number == 0 {
            text = format!("{BANNED}\n");
        }
        let first = (32 + 16 * self.number) << 24;
        for (n, _) in (0_u32..).zip(&self.listed).filter(|(_, listed)| **listed) {
            let _infallible = writeln!(text, "{}", Ipv4Addr::from(first + n * 67));
        }
        text
    }
}

/// Publishes the lists up to `changed` at once. Returns how long it took from the last byte that was sent until all is
/// in force.
///
/// There are always fewer new addresses than those that are gone, or no bans before, so that the number of bans at the
/// end is one that it has not been before.
fn publish(
    server: &Server,
    lists: &[Addresses],
    changed: u32,
    ringfence: &Ringfence,
) -> anyhow::Result<Duration> {
    let texts: Vec<String> = lists.iter().take(changed as usize).map(Addresses::text).collect();
    let expected = lists.iter().map(Addresses::count).sum::<u64>() + 1;
    server.publish(texts)?;
    let mut end = Instant::now();
    wait_until("all lists are in force", || {
        let feeds: serde_json::Value = client::ask(ringfence.client().socket(), &Request::Feeds)?;
        let rows = feeds["feeds"].as_array().context("a list of feeds")?;
        let banned: u64 = rows.iter().filter_map(|row| row["banned"].as_u64()).sum();
        end = Instant::now();
        Ok(banned == expected)
    })
    .with_context(|| ringfence.log())?;
    let sent = server.sent().context("no list was fetched")?;
    Ok(end.saturating_duration_since(sent))
}

fn wait_until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !done()? {
        interrupt::check()?;
        ensure!(Instant::now() < deadline, "after {} s it is not so that {what}", LIMIT.as_secs());
        thread::sleep(POLL);
    }
    Ok(())
}

/// What the server answers.
#[derive(Debug, Default)]
struct Published {
    /// The lists, each with the number of its version.
    lists: Vec<(u32, Arc<str>)>,
    /// Whether requests wait, and how many do.
    is_held: bool,
    waiting: usize,
    /// When the last list was sent.
    sent: Option<Instant>,
}

/// An HTTP server on the loopback of the PBX. All lists change at once, when a request for each waits.
#[derive(Debug)]
struct Server {
    address: SocketAddr,
    shared: Arc<(Mutex<Published>, Condvar)>,
    stop: Arc<AtomicBool>,
    accepts: Option<JoinHandle<()>>,
}

impl Server {
    fn start(hosts: &Hosts) -> anyhow::Result<Self> {
        let listener = hosts
            .pbx
            .run_in(|| TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("open a port"))?;
        let address = listener.local_addr().context("ask for a port")?;
        listener.set_nonblocking(true).context("make a socket nonblocking")?;
        let held = Published { is_held: true, ..Published::default() };
        let shared = Arc::new((Mutex::new(held), Condvar::new()));
        let stop = Arc::new(AtomicBool::new(false));
        let (for_all, over) = (Arc::clone(&shared), Arc::clone(&stop));
        let accepts = thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                let Ok((stream, _)) = listener.accept() else {
                    thread::sleep(Duration::from_millis(1));
                    continue;
                };
                let shared = Arc::clone(&for_all);
                // A client that is gone needs no answer.
                thread::spawn(move || answer(&stream, &shared).ok());
            }
        });
        Ok(Self { address, shared, stop, accepts: Some(accepts) })
    }

    fn lock(&self) -> MutexGuard<'_, Published> {
        self.shared.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Answers with these lists, and the others as before, from the moment on at which a request for each list waits.
    fn publish(&self, texts: Vec<String>) -> anyhow::Result<()> {
        self.lock().is_held = true;
        wait_until("each list is asked for", || Ok(self.lock().waiting == LISTS as usize))?;
        let mut published = self.lock();
        published.lists.resize_with(LISTS as usize, || (0, Arc::from("")));
        for ((version, list), text) in published.lists.iter_mut().zip(texts) {
            (*version, *list) = (*version + 1, Arc::from(text));
        }
        published.sent = None;
        published.is_held = false;
        self.shared.1.notify_all();
        Ok(())
    }

    fn sent(&self) -> Option<Instant> {
        self.lock().sent
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.lock().is_held = false;
        self.shared.1.notify_all();
        if let Some(thread) = self.accepts.take() {
            // A panic there has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

fn answer(stream: &TcpStream, shared: &(Mutex<Published>, Condvar)) -> anyhow::Result<()> {
    stream.set_nonblocking(false).context("make a socket blocking")?;
    let (mut lines, mut line) = (BufReader::new(stream), String::new());
    lines.read_line(&mut line).context("read a request")?;
    let place = line.split(' ').nth(1).and_then(|path| path.strip_prefix('/')?.parse().ok());
    let (place, mut tag): (usize, Option<String>) = (place.context("a path")?, None);
    loop {
        line.clear();
        lines.read_line(&mut line).context("read a request")?;
        let Some((name, value)) = line.split_once(':') else { break };
        if name.eq_ignore_ascii_case("if-none-match") {
            tag = Some(value.trim().to_owned());
        }
    }
    let mut published = shared.0.lock().unwrap_or_else(PoisonError::into_inner);
    published.waiting += 1;
    while published.is_held {
        published = shared.1.wait(published).unwrap_or_else(PoisonError::into_inner);
    }
    published.waiting -= 1;
    let (version, list) = published.lists.get(place).cloned().context("a list")?;
    drop(published);
    let current = format!("\"{version}\"");
    let mut stream = stream;
    if tag.as_ref() == Some(&current) {
        let head =
            format!("HTTP/1.1 304 Not Modified\r\nETag: {current}\r\nConnection: close\r\n\r\n");
        return stream.write_all(head.as_bytes()).context("answer");
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nETag: {current}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        list.len()
    );
    stream.write_all(head.as_bytes()).context("answer")?;
    stream.write_all(list.as_bytes()).context("answer")?;
    shared.0.lock().unwrap_or_else(PoisonError::into_inner).sent = Some(Instant::now());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_changes_by_as_many_as_asked() {
        let mut list = Addresses::new(1);
        let before = list.listed.clone();
        list.change(8_000, 12_000);
        let both = || before.iter().zip(&list.listed);
        // An address that is new may be gone again.
        assert_eq!(list.count(), u64::from(EACH) - 4_000);
        assert!(both().filter(|(old, new)| old != new).count() > 17_000);
        assert!(list.text().starts_with("48.0.0.0\n") || !list.listed[0]);
        assert!(Addresses::new(0).text().starts_with("185.0.0.66\n32.0.0.0\n32.0.0.67\n"));
    }

    #[test]
    fn a_report_says_whether_the_promise_is_kept() {
        let difference = Difference { lists: 5, new: 1, gone: 2, milliseconds: 400.0, work: 300.0 };
        let lists = Lists {
            count: 5,
            addresses: 1_000_000,
            first: 4.0,
            differences: vec![difference],
            memory: [10.0, 200.0],
            peaks: [300.0, 250.0],
            tables: 40.0,
            sent: 10_000,
            arrived: 0,
        };
        assert!(lists.targets_met());
        assert!(lists.text(Paint::PLAIN).contains("1 new and 2 gone each: 400 ms"));
        assert!(!Lists { arrived: 1, ..lists.clone() }.targets_met());
        let late = Difference { milliseconds: 1000.0, ..difference };
        assert!(!Lists { differences: vec![late], ..lists }.targets_met());
    }
}

//! Those who watch the daemon: listeners to its events, and clients who mean no good.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{IpAddr, Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};
use filter_user::client as control;
use filter_user::control::{Order, Request};
use ipnet::IpNet;

use crate::interrupt;
use crate::netns::Entry;
use crate::ringfence::Client;

/// The listeners to events.
const LISTENERS: usize = 50;

/// The bans of one request, and the time from one to the next: a thousand bans a second.
const BATCH: u32 = 50;
const EVERY: Duration = Duration::from_millis(50);

/// The first banned address.
const FIRST: u32 = 0x0c00_0000;

/// The hostile requests a second, and the threads that send them.
const HOSTILE_RATE: u32 = 1000;
const HOSTILE_THREADS: u32 = 32;

/// The port of the API.
pub(super) const PORT: u16 = 9510;

/// How long a hostile client waits for an answer: one that sends half a request gets none for seconds.
const PATIENCE: Duration = Duration::from_millis(100);

/// What a listener has got.
#[derive(Clone, Copy, Debug, Default)]
struct Heard {
    bans: u64,
    /// The events that it was told it has missed.
    missed: u64,
}

/// Bans a thousand addresses a second, and has listeners count the events.
pub(super) fn listen(client: &Client, over: &AtomicBool) -> anyhow::Result<String> {
    let done = AtomicBool::new(false);
    thread::scope(|scope| -> anyhow::Result<String> {
        let done = &done;
        let listeners: Vec<_> =
            (0..LISTENERS).map(|_| scope.spawn(move || hear(client, done))).collect();
        // All have connected.
        thread::sleep(Duration::from_secs(1));
        let banned = ban(client, over);
        // The last events are on their way.
        thread::sleep(Duration::from_secs(2));
        done.store(true, Ordering::Relaxed);
        let heard: anyhow::Result<Vec<Heard>> = listeners
            .into_iter()
            .map(|one| one.join().map_err(|_panic| anyhow!("a listener panicked"))?)
            .collect();
        let (heard, (banned, rate)) = (heard?, banned?);
        let least = heard.iter().map(|one| one.bans).min().unwrap_or_default();
        let missed: u64 = heard.iter().map(|one| one.missed).sum();
        let accounted = heard.iter().all(|one| one.bans + one.missed >= banned);
        ensure!(accounted, "an event of {banned} bans is neither there nor missed: {heard:?}");
        Ok(format!(
            "{banned} bans, {rate:.0} a second; each of {LISTENERS} listeners got at least {least}; {missed} events \
             missed in all, and all of these told"
        ))
    })
}

/// Bans until it is over. Returns the number of bans, and how many they were a second.
fn ban(client: &Client, over: &AtomicBool) -> anyhow::Result<(u64, f64)> {
    let (mut made, started) = (0_u32, Instant::now());
    while !over.load(Ordering::Relaxed) {
        interrupt::check()?;
        let order = |number: u32| Order {
            network: IpNet::from(IpAddr::from(Ipv4Addr::from(FIRST + number))),
            seconds: Some(3600),
            scope: "sip".to_owned(),
            except: Vec::new(),
            reason: None,
            jail: None,
        };
        let bans = (made..made + BATCH).map(order).collect();
        control::ask(client.socket(), &Request::BanMany { bans, force: false })?;
        made += BATCH;
        let due = started + EVERY * (made / BATCH);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    Ok((made.into(), f64::from(made) / started.elapsed().as_secs_f64()))
}

/// Counts the events until it is over.
fn hear(client: &Client, over: &AtomicBool) -> anyhow::Result<Heard> {
    let mut stream = UnixStream::connect(client.socket()).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_millis(200))).context("a time limit")?;
    stream.write_all(b"GET /1.0/events HTTP/1.1\r\nHost: localhost\r\n\r\n").context("listen")?;
    let (mut lines, mut heard) = (BufReader::new(stream), Heard::default());
    let mut line = Vec::new();
    while !over.load(Ordering::Relaxed) {
        match lines.read_until(b'\n', &mut line) {
            Ok(0) => break,
            Ok(_) if line.ends_with(b"\n") => {
                if let Some(data) = line.strip_prefix(b"data: ") {
                    let event: serde_json::Value =
                        serde_json::from_slice(data).context("an event in JSON")?;
                    match event["event"].as_str() {
                        Some("ban") => heard.bans += 1,
                        Some("gap") => heard.missed += event["missed"].as_u64().unwrap_or(0),
                        _ => {}
                    }
                }
                line.clear();
            }
            // The rest of the line comes later.
            Ok(_) | Err(_) => {}
        }
    }
    Ok(heard)
}

/// Sends a thousand hostile requests a second to the port of the API, in the daemon's namespace.
pub(super) fn attack(entry: &Entry, over: &AtomicBool) -> anyhow::Result<String> {
    let (sent, answered, longest) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let started = Instant::now();
    thread::scope(|scope| {
        let all = (&sent, &answered, &longest);
        let hands: Vec<_> = (0..HOSTILE_THREADS)
            .map(|hand| scope.spawn(move || hostile(entry, hand, over, all)))
            .collect();
        hands
            .into_iter()
            .try_for_each(|hand| hand.join().map_err(|_panic| anyhow!("an attacker panicked"))?)
    })?;
    let (sent, answered) = (sent.into_inner(), answered.into_inner());
    let rate = crate::bench::float(sent) / started.elapsed().as_secs_f64();
    ensure!(answered > 0, "no request was answered");
    Ok(format!(
        "{sent} requests, {rate:.0} a second, {answered} of them answered, the slowest after {} ms",
        longest.into_inner() / 1000
    ))
}

fn hostile(
    entry: &Entry,
    hand: u32,
    over: &AtomicBool,
    (sent, answered, longest): (&AtomicU64, &AtomicU64, &AtomicU64),
) -> anyhow::Result<()> {
    entry.enter()?;
    let requests = requests();
    let (mut number, started) = (hand, Instant::now());
    let interval = Duration::from_secs(1) * HOSTILE_THREADS / HOSTILE_RATE;
    let mut done = 0;
    while !over.load(Ordering::Relaxed) {
        let request =
            requests.get(usize::try_from(number)? % requests.len()).context("a request")?;
        let began = Instant::now();
        // A refused or broken connection is what such a client gets.
        let is_answered = exchange(request).unwrap_or(false);
        sent.fetch_add(1, Ordering::Relaxed);
        if is_answered {
            answered.fetch_add(1, Ordering::Relaxed);
            let took = u64::try_from(began.elapsed().as_micros())?;
            longest.fetch_max(took, Ordering::Relaxed);
        }
        (number, done) = (number + 1, done + 1);
        thread::sleep((started + interval * done).saturating_duration_since(Instant::now()));
    }
    Ok(())
}

/// Whether a request is answered.
fn exchange(request: &[u8]) -> anyhow::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(request)?;
    let mut begin = [0; 9];
    stream.read_exact(&mut begin)?;
    Ok(&begin == b"HTTP/1.1 ")
}

/// What hostile clients send: guesses of logins and tokens, changes, paths and heads that are too long, names of
/// other sites, and what is no HTTP at all.
fn requests() -> Vec<Vec<u8>> {
    let get = |path: &str, head: &str| {
        format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{head}\r\n").into_bytes()
    };
    vec![
        get("/", "Cookie: ringfence=00000000000000000000000000000000\r\n"),
        get("/login?key=00000000000000000000000000000000", ""),
        get("/1.0/status", "X-Auth-Token: guess\r\n"),
        get("/1.0/bans?limit=100000000", "X-Auth-Token: guess\r\n"),
        get("/why?address=%3Cscript%3E", ""),
        get("/../../etc/passwd", ""),
        get(&format!("/{}", "a".repeat(12_000)), ""),
        get("/", &format!("X: {}\r\n", "b".repeat(30_000))),
        get("/", &"Y: z\r\n".repeat(200)),
        get("/metrics", ""),
        b"GET / HTTP/1.1\r\nHost: evil.example\r\nOrigin: http://evil.example\r\n\r\n".to_vec(),
        b"DELETE /1.0/bans?all=true HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n".to_vec(),
        b"POST /1.0/bans HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 99999999\r\n\r\n{".to_vec(),
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn most_hostile_requests_are_http() {
        let requests = requests();
        let whole = requests.iter().filter(|one| one.ends_with(b"\r\n\r\n")).count();
        assert!(whole + 1 >= requests.len() && requests.iter().any(|one| one.len() > 16 * 1024));
    }
}

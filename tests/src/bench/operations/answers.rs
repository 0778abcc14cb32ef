//! The time of what monitoring and browsers ask for: a scrape, `status`, and each view of the page.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};

use super::Part;
use super::report::Row;
use super::site::Site;
use crate::bench::figures::Spread;
use crate::bench::float;
use crate::interrupt;
use crate::netns::Netns;

/// The number of bans.
const BANS: [u32; 2] = [0, 1_000_000];

/// The port of the API.
const PORT: u16 = 9510;

/// The most milliseconds that a scrape may take.
const SCRAPE_PROMISED: f64 = 10.0;

/// How often each is asked for in a round: one answer takes less than a millisecond.
const TIMES: u32 = 10;

/// What is asked for at the control socket, and at the port.
const AT_SOCKET: [(&str, &str); 3] =
    [("scrape", "/metrics"), ("status", "/1.0/status"), ("attackers", "/1.0/attackers")];
const VIEWS: [(&str, &str); 6] = [
    ("page, now", "/"),
    ("page, traffic", "/traffic"),
    ("page, bans", "/bans"),
    ("page, why", "/why?address=11.0.0.7"),
    ("page, jails", "/jails"),
    ("page, findings", "/findings"),
];

pub(super) fn measure(binary: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for bans in BANS {
        let site = Site::start(binary, |config, _directory| {
            config.more = format!(
                "api: {{listen: '127.0.0.1:{PORT}', wazo_auth: ''}}\ncapacity: {{bans: 1100000}}\n"
            );
        })?;
        site.fill(bans)?;
        let login = log_in(&site)?;
        let mut asked: Vec<_> =
            AT_SOCKET.iter().chain(&VIEWS).map(|what| (what, Vec::new())).collect();
        let mut bytes = vec![0; asked.len()];
        for _ in 0..rounds {
            for (place, ((name, path), times)) in asked.iter_mut().enumerate() {
                interrupt::check()?;
                let is_view = name.starts_with("page");
                let head = if is_view { &*login } else { "" };
                for _ in 0..TIMES {
                    let (took, length) = if is_view {
                        site.cable.far.run_in(|| over_tcp(path, head))?
                    } else {
                        over_socket(&site, path)?
                    };
                    times.push(took.as_secs_f64() * 1e3);
                    bytes[place] = length;
                }
            }
        }
        for (((name, _), times), length) in asked.into_iter().zip(bytes) {
            let figure = Spread::of(times).context("no rounds")?;
            let row = Row::new(Part::Answers, format!("{name}, {bans} bans"), "ms", figure)
                .note(format!("{:.1} kB", float(length as u64) / 1e3));
            rows.push(if *name == "scrape" { row.at_most(SCRAPE_PROMISED) } else { row });
        }
    }
    Ok(rows)
}

/// Logs in to the page. Returns the header of the cookie.
fn log_in(site: &Site) -> anyhow::Result<String> {
    let link = site.ringfence.client().run(&["page"], false)?.success("ringfence page")?.stdout;
    let path = link.trim().strip_prefix(&format!("http://127.0.0.1:{PORT}")).context("a link")?;
    let answer = in_namespace(&site.cable.far, path)?;
    let cookie = answer.lines().find_map(|line| line.strip_prefix("set-cookie: "));
    let cookie = cookie.and_then(|cookie| cookie.split(';').next()).context("a cookie")?;
    Ok(format!("Cookie: {cookie}\r\n"))
}

fn in_namespace(host: &Netns, path: &str) -> anyhow::Result<String> {
    host.run_in(|| {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
        stream.write_all(&request(path, ""))?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer)
    })
}

fn request(path: &str, head: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n{head}\r\n")
        .into_bytes()
}

fn over_tcp(path: &str, head: &str) -> anyhow::Result<(Duration, usize)> {
    let started = Instant::now();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, PORT))?;
    stream.write_all(&request(path, head))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    whole(path, started.elapsed(), &answer)
}

fn over_socket(site: &Site, path: &str) -> anyhow::Result<(Duration, usize)> {
    let started = Instant::now();
    let mut stream = UnixStream::connect(site.ringfence.client().socket())?;
    stream.write_all(&request(path, ""))?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    whole(path, started.elapsed(), &answer)
}

fn whole(path: &str, took: Duration, answer: &[u8]) -> anyhow::Result<(Duration, usize)> {
    ensure!(!answer.is_empty(), "{path}: no answer");
    if !answer.starts_with(b"HTTP/1.1 200 ") {
        bail!("{path}: {}", String::from_utf8_lossy(answer).lines().next().unwrap_or_default());
    }
    Ok((took, answer.len()))
}

//! How soon a ban of one host is one of all: a cluster of three NATS servers from Debian's package and twelve daemons
//! with their agents, three of them under attack. Then a parting of the network, and a million bans of a thousand
//! hosts in the crate that merges them.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use fleet::{Accept, BanRecord, Host, Key, Update, View};
use serde::Serialize;
use tempfile::TempDir;

use super::Settings;
use crate::bench::process::resident_kib;
use crate::nats::{Agent, Nats};
use crate::netns::{Lan, Netns, Traffic};
use crate::ringfence::{Config, Ringfence};
use crate::screen::{Paint, Screen};
use crate::{interrupt, scratch};

/// The daemons, and those that are attacked.
const HOSTS: usize = 12;
const ATTACKED: usize = 3;

/// The promised time within which 99 % of the bans are in force everywhere.
const PROMISED: f64 = 1000.0;

/// How long everything may take to arrive.
const LIMIT: Duration = Duration::from_mins(2);

/// The failures at sshd that ban an address.
const FAILURES: u32 = 6;

/// What is measured.
#[derive(Clone, Debug, Serialize)]
pub struct Shared {
    /// How many bans there were a second.
    pub rate: u32,
    /// How many there were.
    pub bans: u32,
    /// Bans that did not arrive at some host.
    pub lost: u64,
    /// Bans that nobody made.
    pub wrong: u64,
    /// Milliseconds from the ban on one host to that on another: half of them, 99 %, and all.
    pub milliseconds: [f64; 3],
    /// Bytes on the wire for each ban, with TLS and acknowledgements: to a host, and from the one that bans.
    pub bytes: [f64; 2],
    /// Seconds from the return of the servers until every host had everything.
    pub parted: f64,
    /// The memory of the largest agent, in MiB.
    pub agent: f64,
    /// The merging of a million bans of a thousand hosts.
    pub merged: Merged,
}

/// What merging costs.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Merged {
    /// The bans.
    pub bans: u64,
    /// Microseconds for each record, with the change that follows.
    pub microseconds: f64,
    /// Bytes of memory for each.
    pub bytes: f64,
}

impl Shared {
    /// Whether nothing is lost or wrong, and all is in time.
    pub fn targets_met(&self) -> bool {
        self.lost == 0 && self.wrong == 0 && self.milliseconds[1] < PROMISED
    }

    /// As text.
    pub fn text(&self, paint: Paint) -> String {
        let [half, most, all] = self.milliseconds;
        let [received, sent] = self.bytes;
        let Merged { bans, microseconds, bytes } = self.merged;
        [
            paint.bold(&format!("{} bans at {}/s on {HOSTS} hosts", self.bans, self.rate)),
            format!("  from one to another: 50 % {half:.0} ms, 99 % {most:.0} ms (promised: {PROMISED:.0}), all {all:.0} ms"),
            format!("  lost: {}, banned by nobody: {}", self.lost, self.wrong),
            format!("  bytes for each ban: {received:.0} to each host, {sent:.0} from the one that bans"),
            format!("  together again after all servers were dead: {:.1} s", self.parted),
            format!("  memory of the largest agent: {:.1} MiB", self.agent),
            format!("  merging {bans} bans of 1000 hosts: {microseconds:.1} µs and {bytes:.0} bytes each"),
        ]
        .join("\n")
    }
}

/// A host. Processes are dropped before their namespace.
struct Member {
    agent: Agent,
    ringfence: Ringfence,
    place: Netns,
    logs: TempDir,
}

impl Member {
    fn start(place: Netns, nats: &Nats, name: &str, binary: &Path) -> anyhow::Result<Self> {
        let logs = scratch::directory("logs")?;
        for log in ["auth.log", "wazo-provd.log"] {
            fs::write(logs.path().join(log), "").context("make a log")?;
        }
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.other_logs = Some(logs.path().to_owned());
        let capacity = "capacity: {bans: 50000, watched: 50000, offenders: 50000}\n";
        config.more = nats.settings(name, capacity);
        let ringfence = Ringfence::start(&place, binary, &config)?;
        let agent = Agent::start(&place, &ringfence)?;
        Ok(Self { agent, ringfence, place, logs })
    }

    /// This address fails at sshd until it is banned.
    fn attack(&self, source: IpAddr) -> anyhow::Result<()> {
        let mut lines = String::new();
        for n in 0..FAILURES {
            let failed = "Failed password for root from";
            writeln!(lines, "Nov 29 04:40:0{n} pbx sshd[{n}]: {failed} {source} port 4{n} ssh2")?;
        }
        let log = OpenOptions::new().append(true).open(self.logs.path().join("auth.log"));
        log.context("open a log")?.write_all(lines.as_bytes()).context("write a log")
    }

    /// How many bans are in force.
    fn held(&self) -> anyhow::Result<u64> {
        let status: serde_json::Value = self.ringfence.client().ask(&["status"])?;
        status["bans"]["active"].as_u64().context("a status has no count of bans")
    }

    /// When each ban began, in milliseconds, by address; and whether it is one of another host.
    fn bans(&self) -> anyhow::Result<HashMap<String, (i64, bool)>> {
        let bans = self.ringfence.bans()?.into_iter();
        let ban = |ban: crate::ringfence::Ban| {
            let of_other = ban.jail.as_deref().is_some_and(|jail| jail.starts_with("fleet:"));
            Some((ban.network.clone(), (ban.since_ms?, of_other)))
        };
        Ok(bans.filter_map(ban).collect())
    }
}

fn attacker(n: u32) -> IpAddr {
    Ipv4Addr::from(0xb900_0100 + n).into()
}

/// Measures.
pub(super) fn measure(settings: &Settings, screen: &mut Screen) -> anyhow::Result<Shared> {
    let mut lan = Lan::new()?;
    let address = |n: usize| -> IpAddr {
        Ipv4Addr::new(192, 0, 2, u8::try_from(n).unwrap_or(u8::MAX)).into()
    };
    let mut places = Vec::new();
    for n in 0..3 {
        places.push((lan.host(&format!("nats{n}"), &[address(5 + n)])?, address(5 + n)));
    }
    let names: Vec<String> = (0..HOSTS).map(|n| format!("pbx-{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut nats = Nats::start(places, &names, &settings.cache)?;
    screen.say(&format!("three servers run; starting {HOSTS} daemons"))?;
    let mut members = Vec::new();
    for (n, name) in names.iter().enumerate() {
        interrupt::check()?;
        let place = lan.host(name, &[address(20 + n)])?;
        members.push(Member::start(place, &nats, name, &settings.ringfence)?);
    }
    connected(&members)?;
    screen.say(&format!("{} bans at {}/s", settings.bans, settings.rate))?;
    let before = traffic(&members)?;
    let begin = Instant::now();
    for n in 0..settings.bans {
        interrupt::check()?;
        let due = Duration::from_secs_f64(f64::from(n) / f64::from(settings.rate.max(1)));
        thread::sleep(due.saturating_sub(begin.elapsed()));
        members[n as usize % ATTACKED].attack(attacker(n))?;
    }
    let have = |members: &[Member], bans: u32| -> anyhow::Result<bool> {
        for member in members {
            if member.held()? < u64::from(bans) {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let arrived = wait_until("all bans are everywhere", || have(&members, settings.bans));
    if let Err(why) = arrived {
        screen.say(&format!("{why:#}"))?;
    }
    let bytes = bytes_each(&before, &traffic(&members)?, settings.bans);
    let Arrived { lost, wrong, milliseconds } = arrived_at(&members, settings.bans)?;

    screen.say("all servers die, and come back")?;
    for server in 0..3 {
        nats.kill_server(server)?;
    }
    for n in 0..100 {
        members[n as usize % ATTACKED].attack(attacker(settings.bans + n))?;
    }
    thread::sleep(Duration::from_secs(5));
    for server in 0..3 {
        nats.start_server(server)?;
    }
    let back = Instant::now();
    wait_until("all have found together again", || have(&members, settings.bans + 100))?;
    let parted = back.elapsed().as_secs_f64();
    let mut agent: f64 = 0.0;
    for member in &members {
        agent = agent.max(resident(member.agent.id())?);
    }
    Ok(Shared {
        rate: settings.rate,
        bans: settings.bans,
        lost,
        wrong,
        milliseconds,
        bytes,
        parted,
        agent,
        merged: merge(1000, 1000)?,
    })
}

/// What has passed the interface of each host. Nothing but the fleet uses it.
fn traffic(members: &[Member]) -> anyhow::Result<Vec<Traffic>> {
    members.iter().map(|member| member.place.traffic("eth0")).collect()
}

/// The bytes for each ban: received by a host that is not attacked, and sent by one that is.
fn bytes_each(before: &[Traffic], after: &[Traffic], bans: u32) -> [f64; 2] {
    let both = || before.iter().zip(after);
    let received = both().skip(ATTACKED).map(|(a, b)| b.bytes_received - a.bytes_received);
    let sent = both().take(ATTACKED).map(|(a, b)| b.bytes_sent - a.bytes_sent);
    #[expect(clippy::cast_precision_loss, reason = "bytes of a minute")]
    let each = |bytes: u64, hosts: usize| bytes as f64 / hosts as f64 / f64::from(bans.max(1));
    // Each of those that are attacked makes its share of the bans.
    [each(received.sum(), HOSTS - ATTACKED), each(sent.sum(), 1)]
}

/// Waits until every host knows every other.
fn connected(members: &[Member]) -> anyhow::Result<()> {
    wait_until("all are connected", || {
        for member in members {
            let fleet: serde_json::Value = member.ringfence.client().ask(&["fleet", "status"])?;
            if fleet["state"] != "connected"
                || fleet["hosts"].as_array().map_or(0, Vec::len) < HOSTS - 1
            {
                return Ok(false);
            }
        }
        Ok(true)
    })
}

/// What became of the bans.
struct Arrived {
    lost: u64,
    wrong: u64,
    milliseconds: [f64; 3],
}

/// Compares when each ban began on each host.
fn arrived_at(members: &[Member], bans: u32) -> anyhow::Result<Arrived> {
    let (mut times, mut lost, mut wrong) = (Vec::new(), 0, 0);
    let lists: Vec<_> = members.iter().map(Member::bans).collect::<anyhow::Result<_>>()?;
    for n in 0..bans {
        let (name, origin) = (attacker(n).to_string(), n as usize % ATTACKED);
        let Some((since, _)) = lists[origin].get(&name) else {
            lost += 1;
            continue;
        };
        for list in
            lists.iter().enumerate().filter(|(place, _)| *place != origin).map(|(_, list)| list)
        {
            match list.get(&name) {
                #[expect(clippy::cast_precision_loss, reason = "milliseconds of a minute")]
                Some((at, true)) => times.push((at - since) as f64),
                Some((_, false)) => wrong += 1,
                None => lost += 1,
            }
        }
    }
    let made: std::collections::HashSet<String> =
        (0..bans).map(|n| attacker(n).to_string()).collect();
    wrong +=
        lists.iter().flat_map(HashMap::keys).filter(|name| !made.contains(*name)).count() as u64;
    times.sort_by(f64::total_cmp);
    ensure!(!times.is_empty(), "no ban arrived anywhere");
    let at = |part: usize| times[(times.len() - 1) * part / 100];
    let milliseconds = [at(50), at(99), at(100)];
    Ok(Arrived { lost, wrong, milliseconds })
}

/// The memory of a process, in MiB.
fn resident(process: u32) -> anyhow::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).context("read a status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix(" kB")?.parse::<f64>().ok());
    Ok(kib.context("a status has no VmRSS")? / 1024.0)
}

fn wait_until(what: &str, mut done: impl FnMut() -> anyhow::Result<bool>) -> anyhow::Result<()> {
    let deadline = Instant::now() + LIMIT;
    while !done()? {
        interrupt::check()?;
        ensure!(Instant::now() < deadline, "after {} s it is not so that {what}", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(200));
    }
    Ok(())
}

/// Merges the bans of hosts that attackers visit one after the other.
fn merge(hosts: u32, each: u32) -> anyhow::Result<Merged> {
    const NOW: u64 = 1_800_000_000_000;
    let own: Host = "own".parse().map_err(anyhow::Error::msg)?;
    let most = hosts * each;
    let mut view = View::new(own, Accept { most, total: most, rate: 10_000, ..Accept::default() });
    let record = BanRecord { jail: "asterisk-wazo".to_owned(), proven: true, seconds: 3600 };
    let record = fleet::write(&record);
    let names: Vec<Host> = (0..hosts).filter_map(|n| format!("pbx-{n}").parse().ok()).collect();
    let (before, begin) = (resident_kib()?, Instant::now());
    for n in 0..most {
        let host = names[(n % hosts) as usize].clone();
        let network = IpAddr::from(Ipv4Addr::from(0x1000_0000 + n * 7)).into();
        let at = NOW + u64::from(n / 100);
        view.take(&Key::Ban(host, network).to_string(), Update::Put(record.as_bytes()), at, at);
        if n % 48 == 0 {
            view.changes(at, 64);
        }
    }
    while view.has_changes() {
        view.changes(NOW + u64::from(most / 100), 64);
    }
    let (time, after) = (begin.elapsed(), resident_kib()?);
    let bans = view.told();
    #[expect(clippy::cast_precision_loss, reason = "a million")]
    let count = bans.max(1) as f64;
    #[expect(clippy::cast_precision_loss, reason = "less than a gigabyte")]
    let bytes = (after.saturating_sub(before) * 1024) as f64;
    Ok(Merged { bans, microseconds: time.as_secs_f64() * 1e6 / count, bytes: bytes / count })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_says_whether_the_promise_is_kept() {
        let merged = merge(10, 100).unwrap();
        assert!((900..=1000).contains(&merged.bans), "{merged:?}");
        let shared = Shared {
            rate: 100,
            bans: 1000,
            lost: 0,
            wrong: 0,
            milliseconds: [20.0, 90.0, 200.0],
            bytes: [400.0, 900.0],
            parted: 3.0,
            agent: 12.0,
            merged,
        };
        assert!(shared.targets_met());
        assert!(shared.text(Paint::PLAIN).contains("99 % 90 ms"), "{}", shared.text(Paint::PLAIN));
        assert!(!Shared { lost: 1, ..shared }.targets_met());
        assert!(!Shared { milliseconds: [1.0, 1000.0, 1000.0], ..shared }.targets_met());
    }
}

//! The daemon in its namespace with its input, and a check of whether a source is dropped.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions, Permissions};
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use nix::sys::prctl;
use tempfile::TempDir;

use super::manager::{Listener, Session};
use super::report::Time;
use super::{MAXRETRY, RATE, Way, telling};
use crate::bench::float;
use crate::bench::sender::Family;
use crate::bench::sources::Choice;
use crate::bpf::{Action, Program};
use crate::netns::Cable;
use crate::packet_builder::Frame;
use crate::ringfence::{Config, Ringfence};
use crate::{interrupt, scratch};

/// The longest time of a ban.
const LIMIT: Duration = Duration::from_mins(1);

/// How often a drop is checked.
const LOOK: Duration = Duration::from_micros(20);

/// How long the daemon is left idle between two single bans.
const REST: Duration = Duration::from_millis(20);

/// The number of sources whose failures are interleaved under load.
const MIXED: u32 = 10;

/// The number of the first source.
const FIRST: u32 = 0x5000_0000;

/// A running daemon. Fields are dropped in this order: processes before their namespaces.
pub(in crate::bench) struct Stage {
    ringfence: Ringfence,
    program: Program,
    log: File,
    session: Session,
    next: u32,
    _listener: Listener,
    _directory: TempDir,
    _cable: Cable,
}

/// A source that is about to be banned.
struct Pending {
    probe: Vec<u8>,
    since: Instant,
    waited: Waited,
}

/// How long the threads of the daemon and of the bench have waited for a CPU that others used.
#[derive(Clone)]
struct Waited {
    /// The thread that owns the controller.
    decides: Duration,
    /// The threads that read, by id.
    read: BTreeMap<String, Duration>,
    own: Duration,
}

impl Waited {
    fn since(&self, earlier: &Self) -> Duration {
        let read = self.read.iter().map(|(thread, now)| {
            now.saturating_sub(earlier.read.get(thread).copied().unwrap_or_default())
        });
        // A line is read before it is decided on; the bench may have waited at the same time.
        let daemon = self.decides.saturating_sub(earlier.decides) + read.max().unwrap_or_default();
        daemon.max(self.own.saturating_sub(earlier.own))
    }
}

impl Stage {
    pub(super) fn build(binary: &Path) -> anyhow::Result<Self> {
        Self::build_with(binary, |_config, _directory| Ok(()))
    }

    /// The same with another configuration, for which files can be put into the directory.
    pub(in crate::bench) fn build_with(
        binary: &Path,
        adjust: impl FnOnce(&mut Config, &Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        // Otherwise each check would be up to 50 microseconds late.
        prctl::set_timerslack(1).context("have short sleeps")?;
        let cable = Cable::new()?;
        let directory = scratch::directory("latency")?;
        let (log, secret) = (directory.path().join("fail2ban"), directory.path().join("secret"));
        fs::write(&log, "").context("make an empty log")?;
        fs::write(&secret, "secret = lab\n").context("write AMI's secret")?;
        fs::set_permissions(&secret, Permissions::from_mode(0o600)).context("hide AMI's secret")?;
        let listener = Listener::open(&cable.far)?;
        // A line of the log proves nothing, and a throttle drops no probe.
        let mut config = Config {
            ami_secret: Some(secret),
            maxretry: MAXRETRY,
            unproven: "ban",
            ..Config::new(&log)
        };
        adjust(&mut config, directory.path())?;
        let ringfence = Ringfence::start(&cable.far, binary, &config)?;
        let session = listener.accept()?;
        let pin = ringfence.pins().into_iter().find(|pin| {
            pin.file_name().is_some_and(|name| name.to_string_lossy().starts_with("program-"))
        });
        let program = Program::from_pin(&pin.context("the daemon has not pinned a program")?)?;
        let log = OpenOptions::new().append(true).open(&log).context("open the log")?;
        Ok(Self {
            ringfence,
            program,
            log,
            session,
            next: FIRST,
            _listener: listener,
            _directory: directory,
            _cable: cable,
        })
    }

    /// The times of this many bans, one at a time.
    pub(super) fn one_by_one(&mut self, way: Way, bans: u32) -> anyhow::Result<Vec<Time>> {
        let mut times = Vec::new();
        for _ in 0..bans {
            times.push(self.one(way, REST)?);
            thread::sleep(REST);
        }
        self.ringfence.check()?;
        Ok(times)
    }

    /// The time of one ban, `rest` after the earlier failures.
    pub(in crate::bench) fn one(&mut self, way: Way, rest: Duration) -> anyhow::Result<Time> {
        interrupt::check()?;
        let source = self.appear()?;
        for attempt in 1..MAXRETRY {
            self.tell(way, source, attempt)?;
        }
        thread::sleep(rest);
        let pending = self.tell_last(way, source)?;
        loop {
            if let Some(time) = self.time(&pending)? {
                return Ok(time);
            }
            thread::sleep(LOOK);
        }
    }

    /// What a packet of a source without a ban costs in the filter, in nanoseconds: the least of several runs.
    pub(in crate::bench) fn packet_ns(&self) -> anyhow::Result<f64> {
        const FRAMES: u32 = 1000;
        let source = Family::V4.source(Choice::One(FIRST - 1));
        let frame = Frame::from(source).tcp(5060).payload([]).build();
        let mut least = f64::INFINITY;
        for _ in 0..3 {
            let started = Instant::now();
            self.program.run(&frame, FRAMES)?;
            least = least.min(started.elapsed().as_secs_f64() * 1e9 / f64::from(FRAMES));
        }
        Ok(least)
    }

    /// The daemon.
    pub(in crate::bench) fn ringfence(&mut self) -> &mut Ringfence {
        &mut self.ringfence
    }

    /// The times of bans while failures arrive evenly for `time`.
    pub(super) fn under_load(&mut self, way: Way, time: Duration) -> anyhow::Result<Vec<Time>> {
        let (mut times, mut pending) = (Vec::new(), Vec::new());
        let (mut told, mut sources) = (0_u32, Vec::new());
        let started = Instant::now();
        let interval = Duration::from_secs(1) / RATE;
        while started.elapsed() < time || !pending.is_empty() {
            while started.elapsed() < time && started.elapsed() >= interval * told {
                if told.is_multiple_of(MIXED * MAXRETRY) {
                    interrupt::check()?;
                    sources = (0..MIXED).map(|_| self.appear()).collect::<anyhow::Result<_>>()?;
                }
                let (place, attempt) = (told % MIXED, told / MIXED % MAXRETRY + 1);
                let source = *sources.get(usize::try_from(place)?).context("no such source")?;
                if attempt == MAXRETRY {
                    pending.push(self.tell_last(way, source)?);
                } else {
                    self.tell(way, source, attempt)?;
                }
                told += 1;
            }
            let mut waiting = Vec::new();
            for one in pending {
                match self.time(&one)? {
                    Some(time) => times.push(time),
                    None => waiting.push(one),
                }
            }
            pending = waiting;
            thread::sleep(LOOK);
        }
        let rate = f64::from(told) / time.as_secs_f64();
        ensure!(rate > 0.95 * f64::from(RATE), "only {rate:.0} failures a second were reported");
        ensure!(float(times.len() as u64) > 0.9 * rate / f64::from(MAXRETRY), "hardly any bans");
        self.ringfence.check()?;
        Ok(times)
    }

    /// A new source, and a packet from it to the SIP port as its witness.
    fn appear(&mut self) -> anyhow::Result<IpAddr> {
        let source = Family::V4.source(Choice::One(self.next));
        self.next += 1;
        let text = b"OPTIONS sip:192.0.2.10 SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n";
        let packet = Frame::from(source).udp(5060).payload(text).build();
        if self.program.run(&packet, 1)? != Action::Pass {
            bail!("the packet of {source} did not pass");
        }
        Ok(source)
    }

    fn tell(&mut self, way: Way, source: IpAddr, attempt: u32) -> anyhow::Result<()> {
        match way {
            Way::Log => {
                let line = telling::line(source, attempt);
                self.log.write_all(line.as_bytes()).context("write to the log")
            }
            Way::Ami => self.session.send(&telling::events(source, attempt)),
        }
    }

    /// Reports the failure that leads to the ban; the time starts before it is written.
    fn tell_last(&mut self, way: Way, source: IpAddr) -> anyhow::Result<Pending> {
        // No limit drops a segment without data.
        let probe = Frame::from(source).tcp(5060).payload([]).build();
        if self.is_dropped(&probe)? {
            bail!("{source} is dropped before it is banned");
        }
        let pending = Pending { probe, waited: self.waited()?, since: Instant::now() };
        self.tell(way, source, MAXRETRY)?;
        Ok(pending)
    }

    /// The time of the ban, if it is in force.
    fn time(&self, pending: &Pending) -> anyhow::Result<Option<Time>> {
        let dropped = self.is_dropped(&pending.probe)?;
        let clock = pending.since.elapsed();
        if !dropped {
            ensure!(clock < LIMIT, "a source is not banned {} s after it failed", LIMIT.as_secs());
            return Ok(None);
        }
        let waited = self.waited()?.since(&pending.waited);
        let milliseconds = |time: Duration| time.as_secs_f64() * 1e3;
        let cpu_free = milliseconds(clock.saturating_sub(waited));
        Ok(Some(Time { clock: milliseconds(clock), cpu_free }))
    }

    fn is_dropped(&self, probe: &[u8]) -> anyhow::Result<bool> {
        Ok(self.program.run(probe, 1)? == Action::Drop)
    }

    fn waited(&self) -> anyhow::Result<Waited> {
        let id = self.ringfence.id().to_string();
        let tasks =
            fs::read_dir(format!("/proc/{id}/task")).context("list the daemon's threads")?;
        let threads = tasks.filter_map(|task| task.ok()?.file_name().into_string().ok());
        // A thread that reads may have ended by now.
        let waited = |thread: String| {
            let waited = waited_for_cpu(&format!("/proc/{id}/task/{thread}/schedstat")).ok()?;
            Some((thread, waited))
        };
        let mut read: BTreeMap<String, Duration> = threads.filter_map(waited).collect();
        // The controller is the first thread.
        let decides = read.remove(&id).context("the daemon has no first thread")?;
        Ok(Waited { decides, read, own: waited_for_cpu("/proc/thread-self/schedstat")? })
    }
}

/// The second figure: nanoseconds of waiting (Documentation/scheduler/sched-stats).
fn waited_for_cpu(path: &str) -> anyhow::Result<Duration> {
    let text = fs::read_to_string(path).with_context(|| format!("read {path}"))?;
    let field = text.split_whitespace().nth(1).and_then(|field| field.parse().ok());
    Ok(Duration::from_nanos(field.with_context(|| format!("{path} says {text:?}"))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_two_waited_at_once_counts_once() {
        let ms = Duration::from_millis;
        let read =
            |first, second| [("1".to_owned(), ms(first)), ("2".to_owned(), ms(second))].into();
        let before = Waited { decides: ms(10), read: read(1, 5), own: ms(20) };
        let after = Waited { decides: ms(13), read: read(2, 9), own: ms(22) };
        assert_eq!(after.since(&before), ms(7));
        assert_eq!(before.since(&after), ms(0));
        waited_for_cpu("/proc/thread-self/schedstat").unwrap();
    }
}

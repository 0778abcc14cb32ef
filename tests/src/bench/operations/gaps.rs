//! Packets of a banned source that arrive while the daemon reloads, restarts or is replaced.
//!
//! The source sends continuously. Packets that the filter does not drop reach the network stack of
//! the receiver, which counts each IPv4 packet (`InReceives`) before anything else. At the end the
//! filter is detached, and then the count must rise.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, anyhow, ensure};

use super::Part;
use super::report::Row;
use super::site::Site;
use crate::bench::figures::Spread;
use crate::bench::float;
use crate::bench::sender::{Family, Sender};
use crate::bench::sources::Choice;
use crate::interrupt;
use crate::netns::Netns;
use crate::packet_builder::Frame;

/// Packets per second of the banned source.
const RATE: u32 = 100_000;
/// Packets that are sent together.
const CHUNK: u32 = 200;
/// The number of the banned source.
const SOURCE: u32 = 77;
/// The minimum time for which each operation is observed.
const AFTERWARDS: Duration = Duration::from_millis(300);
/// The minimum share of the sent packets that the filter must have counted for the figures to be valid.
const SEEN_MIN: f64 = 0.98;

/// An operation on the daemon.
#[derive(Clone, Copy, Debug)]
enum Operation {
    Reload,
    Restart,
    Kill,
    Upgrade,
}

impl Operation {
    const ALL: [Self; 4] = [Self::Reload, Self::Restart, Self::Kill, Self::Upgrade];

    fn name(self) -> &'static str {
        match self {
            Self::Reload => "unfiltered during a reload",
            Self::Restart => "unfiltered during a restart",
            Self::Kill => "unfiltered during a kill and start",
            Self::Upgrade => "unfiltered during an upgrade",
        }
    }
}

/// Packets during one operation.
#[derive(Clone, Copy, Debug, Default)]
struct Packets {
    sent: u64,
    dropped: u64,
    unfiltered: u64,
}

/// The number of packets sent, and whether the sender must stop.
#[derive(Default)]
struct Flood {
    sent: AtomicU64,
    is_over: AtomicBool,
}

pub(super) fn measure(binary: &Path, rounds: u32) -> anyhow::Result<Vec<Row>> {
    let mut site = Site::start(binary, |_config, _directory| ())?;
    // So that frames arrive even without an attached program.
    site.cable.far_takes_frames()?;
    let source = Family::V4.source(Choice::One(SOURCE));
    let client = site.ringfence.client().clone();
    client.run(&["ban", &source.to_string()], false)?.success("ringfence ban")?;
    let other = site.directory.path().join("ringfence-new");
    fs::copy(binary, &other).context("copy the binary")?;
    // No limit drops a TCP segment without data.
    let frame = Frame::from(source).tcp(5060).payload([]);
    let sender = Sender::on(&site.cable, "sender", &frame, Family::V4, Choice::One(SOURCE))?;
    let flood = Flood::default();
    let entry = site.cable.near.entry();
    thread::scope(|scope| {
        let sending = scope.spawn(|| {
            entry.enter()?;
            flood.send(&sender)
        });
        let measured = operations(&mut site, &flood, (binary, &other), rounds);
        flood.is_over.store(true, Ordering::Relaxed);
        sending.join().map_err(|_panic| anyhow!("the sender panicked"))??;
        measured
    })
}

fn operations(
    site: &mut Site,
    flood: &Flood,
    binaries: (&Path, &Path),
    rounds: u32,
) -> anyhow::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for operation in Operation::ALL {
        let started = Instant::now();
        let (mut all, mut passed) = (Packets::default(), Vec::new());
        for round in 0..rounds {
            interrupt::check()?;
            let before = Packets::now(site, flood)?;
            operate(site, operation, binaries, round)?;
            thread::sleep(AFTERWARDS);
            let packets = Packets::now(site, flood)?.since(before);
            passed.push(float(packets.unfiltered));
            all = all.and(packets);
        }
        let rate = float(all.sent) / started.elapsed().as_secs_f64();
        ensure!(
            float(all.dropped + all.unfiltered) >= float(all.sent) * SEEN_MIN,
            "of {} packets {} were dropped and {} arrived: the rest was lost on the way",
            all.sent,
            all.dropped,
            all.unfiltered
        );
        let figure = Spread::of(passed).context("no rounds")?;
        let note = format!("{} sent in {rounds} times, {rate:.0} a second", all.sent);
        rows.push(
            Row::new(Part::Gaps, operation.name(), "packets", figure).at_most(0.0).note(note),
        );
    }
    site.ringfence.stop()?;
    let before = received(&site.cable.far)?;
    site.ringfence.detach()?.success("ringfence detach")?;
    thread::sleep(AFTERWARDS);
    let seen = received(&site.cable.far)?.saturating_sub(before);
    ensure!(seen > 0, "not one packet arrives without the filter, so nothing was measured");
    Ok(rows)
}

fn operate(
    site: &mut Site,
    operation: Operation,
    (binary, other): (&Path, &Path),
    round: u32,
) -> anyhow::Result<()> {
    let Site { ringfence, cable, .. } = site;
    match operation {
        Operation::Reload => {
            ringfence.configure(|config| config.register_rate = 20 + round)?;
            ringfence.client().run(&["reload"], false)?.success("ringfence reload").map(drop)
        }
        Operation::Restart => {
            ringfence.stop()?;
            ringfence.restart(&cable.far)
        }
        Operation::Kill => ringfence.restart(&cable.far),
        Operation::Upgrade => {
            ringfence.stop()?;
            let next = if round.is_multiple_of(2) { other } else { binary };
            ringfence.replace(&cable.far, next)
        }
    }
}

impl Packets {
    fn now(site: &Site, flood: &Flood) -> anyhow::Result<Self> {
        let status = site.ringfence.status()?;
        let dropped = status.reasons.get("banned").map_or(0, |reason| reason.packets);
        let unfiltered = received(&site.cable.far)?;
        Ok(Self { sent: flood.sent.load(Ordering::Relaxed), dropped, unfiltered })
    }

    fn since(self, before: Self) -> Self {
        Self {
            sent: self.sent.saturating_sub(before.sent),
            dropped: self.dropped.saturating_sub(before.dropped),
            unfiltered: self.unfiltered.saturating_sub(before.unfiltered),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            sent: self.sent + other.sent,
            dropped: self.dropped + other.dropped,
            unfiltered: self.unfiltered + other.unfiltered,
        }
    }
}

impl Flood {
    /// Sends at [`RATE`], or as fast as the machine can, until the measurement is over.
    fn send(&self, sender: &Sender) -> anyhow::Result<()> {
        let every = Duration::from_secs(1) * CHUNK / RATE;
        let mut next = Instant::now();
        while !self.is_over.load(Ordering::Relaxed) {
            sender.send(CHUNK)?;
            self.sent.fetch_add(u64::from(CHUNK), Ordering::Relaxed);
            // Packets that the machine could not send in time are not sent later.
            next = (next + every).max(Instant::now().checked_sub(10 * every).unwrap_or(next));
            thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        Ok(())
    }
}

/// IPv4 packets that the network stack of this host has received.
fn received(host: &Netns) -> anyhow::Result<u64> {
    host.run_in(|| {
        // Not /proc/net, which is the network of the process's first thread.
        let text = fs::read_to_string("/proc/thread-self/net/snmp").context("read net/snmp")?;
        received_in(&text).context("net/snmp has no InReceives")
    })
}

/// Two lines begin with `Ip:`: one with names and one with figures.
fn received_in(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Ip:"));
    let place = lines.next()?.split_whitespace().position(|name| name == "InReceives")?;
    lines.next()?.split_whitespace().nth(place)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stack_counts_what_it_takes_in() {
        let snmp =
            "Ip: Forwarding DefaultTTL InReceives InHdrErrors\nIp: 2 64 1234 0\nIcmp: InMsgs\n";
        assert_eq!(received_in(snmp), Some(1234));
        assert_eq!(received_in("Icmp: InMsgs\nIcmp: 3\n"), None);
    }
}

//! A virtual cable, and floods over it: how many frames per second arrive at its far end.
//!
//! Sender and receiver share one CPU, so that the measured rate includes the full cost of the receiver.

use std::time::Duration;

use anyhow::Context;
use nix::net::if_::if_nametoindex;
use serde_json::Value;

use crate::bench::float;
use crate::bench::sender::{Family, Sender};
use crate::bench::sources::Choice;
use crate::bench::stopwatch::Stopwatch;
use crate::bpf::{Link, Program};
use crate::interrupt;
use crate::netns::{Cable, Netns};
use crate::packet_builder::Frame;

/// Frames between two readings of the clock: some ten milliseconds.
const FRAMES: u32 = 1 << 16;
/// A run that loses a larger share of its frames is repeated. Frames are lost if the kernel moves the
/// receiver to another thread because the machine is busy.
const LOST_MAX: f64 = 0.01;
const ATTEMPTS: u32 = 5;
/// How long the last frames may still be on their way after the sender has finished.
const DRAIN: Duration = Duration::from_millis(5);

/// The interface at each end.
const INTERFACE: &str = "eth0";
/// The name under which the active sender is attached.
const SENDER: &str = "sender";

/// Two hosts connected by a cable.
#[derive(Debug)]
pub(super) struct Lane {
    cable: Cable,
    far: u32,
}

/// The result of a flood.
#[derive(Clone, Copy, Debug)]
pub(super) struct Flood {
    /// Frames that arrived.
    pub(super) received: u64,
    /// Nanoseconds per arrived frame.
    pub(super) nanoseconds: f64,
}

impl Lane {
    /// Creates the cable. Its far end accepts redirected frames even without an attached XDP program.
    pub(super) fn new() -> anyhow::Result<Self> {
        let cable = Cable::new()?;
        cable.near_link(SENDER)?;
        let index = || if_nametoindex(INTERFACE).context("find the cable's end");
        let far = cable.far.run_in(index)?;
        Ok(Self { cable, far })
    }

    /// The host at the far end. Its `eth0` is attacked.
    pub(super) fn host(&self) -> &Netns {
        &self.cable.far
    }

    /// The cable.
    pub(super) fn cable(&self) -> &Cable {
        &self.cable
    }

    /// A sender at the near end. It sends only while it is [active](Self::at_work).
    pub(super) fn sender(
        &self,
        frame: &Frame,
        family: Family,
        choice: Choice,
    ) -> anyhow::Result<Sender> {
        Sender::to_far_end(&self.cable, frame, family, choice)
    }

    /// Makes this sender the only active one until the returned link is dropped.
    pub(super) fn at_work(&self, sender: &Sender) -> anyhow::Result<Link> {
        sender.attach(&self.cable, SENDER)
    }

    /// Attaches an XDP program at the far end until the returned link is dropped.
    pub(super) fn attach(&self, program: &Program) -> anyhow::Result<Link> {
        self.host().run_in(|| Link::attach(program, self.far))
    }

    /// Sends for about `time`; repeats if too many frames were lost.
    pub(super) fn flood(&self, sender: &Sender, time: Duration) -> anyhow::Result<Flood> {
        for _attempt in 0..ATTEMPTS {
            let before = self.received()?;
            let (sent, took) = self.cable.near.run_in(|| send(sender, time))?;
            std::thread::sleep(DRAIN);
            let received = self.received()?.saturating_sub(before);
            if float(received) >= float(sent) * (1.0 - LOST_MAX) {
                let nanoseconds = took.as_secs_f64() * 1e9 / float(received);
                return Ok(Flood { received, nanoseconds });
            }
        }
        anyhow::bail!(
            "in each of {ATTEMPTS} tries more than {} % of the frames were lost: the machine is \
             too busy to measure",
            LOST_MAX * 100.0
        )
    }

    /// Frames that the driver at the far end has received.
    fn received(&self) -> anyhow::Result<u64> {
        let mut command = self.host().command("ip");
        command.args(["-j", "-s", "link", "show", INTERFACE]);
        let output = command.output().context("run ip")?;
        let said: Value = serde_json::from_slice(&output.stdout).context("read what ip printed")?;
        let packets = said.pointer("/0/stats64/rx/packets").and_then(Value::as_u64);
        packets.context("ip printed no count of packets")
    }
}

/// Sends on the thread's CPU. Returns the number of frames and the time that it took.
fn send(sender: &Sender, time: Duration) -> anyhow::Result<(u64, Duration)> {
    let stopwatch = Stopwatch::start()?;
    let mut sent = 0;
    loop {
        interrupt::check()?;
        sender.send(FRAMES)?;
        sent += u64::from(FRAMES);
        let took = stopwatch.elapsed()?;
        if took >= time {
            return Ok((sent, took));
        }
    }
}

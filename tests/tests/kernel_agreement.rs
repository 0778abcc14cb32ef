//! A million generated packets, decided on the host and by the real program in this machine's kernel:
//! each has the same reason and the same verdict, and the counters add up.
//!
//! `RINGFENCE_PACKETS` sets another number, and `RINGFENCE_SEED` generates other packets than usual. A
//! failure prints both, and the frame in hexadecimal.

use std::env;
use std::fmt::Write as _;

use anyhow::{Context as _, Result, ensure};
use filter_common::abi::{ABI_VERSION, Counter};
use filter_common::decision::{Reason, Verdict};
use ringfence_tests::cases::generated::{Packets, Random};
use ringfence_tests::cases::{self, Case, KERNEL_FRAME_MIN, World, worlds};
use ringfence_tests::kernel::{self, Counters, Kernel, LINEAR_MAX};
use ringfence_tests::model::{Model, SplitFrame};

/// The number of packets over all worlds with a configuration.
const PACKETS: usize = 1_000_000;
/// The number of packets after which all counters are read.
const BATCH: usize = 5000;
/// The current time. The clock stands still except for the time that [`Comparison::packet`] adds.
const NOW: u64 = 2_000_000 * 1_000_000_000;
/// Time passes once in this many packets, up to this many nanoseconds.
const WAIT_ONCE_IN: usize = 20;
const LONGEST_WAIT: usize = 700_000_000;

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn host_and_kernel_agree_on_a_million_packets() {
    let count: usize = setting("RINGFENCE_PACKETS").map_or(PACKETS, |text| text.parse().unwrap());
    let seed: u64 = setting("RINGFENCE_SEED").map_or(0, |text| text.parse().unwrap());
    for line in kernel::in_own_network(|| agree(count, seed)).unwrap() {
        println!("{line}");
    }
}

/// Compares all worlds; returns a summary of each.
fn agree(count: usize, seed: u64) -> Result<Vec<String>> {
    let mut said = Vec::new();
    let mut kernel = Kernel::load(0)?;
    let (cases, worlds) = (cases::all(), worlds::all());
    let judged = worlds.iter().filter(|(_, world)| is_judged(world)).count();
    let mut ran = 0;
    for (place, (name, world)) in (0u64..).zip(&worlds) {
        let packets = if is_judged(world) { count.div_ceil(judged) } else { BATCH };
        // Each world gets different packets.
        let mut run = Comparison::new(&mut kernel, world, &cases, seed ^ place << 32)?;
        while run.packets < packets {
            run.batch(BATCH.min(packets - run.packets)).with_context(|| {
                format!("{name}, RINGFENCE_SEED={seed} RINGFENCE_PACKETS={count}")
            })?;
        }
        said.push(format!("{name}: {}", run.summary()));
        if is_judged(world) {
            ran += run.packets;
        }
    }
    ensure!(ran >= count, "only {ran} packets");
    said.push(format!("{ran} packets"));
    Ok(said)
}

/// Whether there is a configuration that judges packets.
fn is_judged(world: &World) -> bool {
    world.abi == Some(ABI_VERSION)
}

fn setting(name: &str) -> Option<String> {
    env::var(name).ok()
}

/// One world, on both sides.
struct Comparison<'a> {
    kernel: &'a mut Kernel,
    model: Model,
    dry_run: bool,
    generated: Packets,
    waits: Random,
    packets: usize,
    before: Counters,
    expected: Counters,
    passed: u64,
    dropped: u64,
}

impl<'a> Comparison<'a> {
    fn new(kernel: &'a mut Kernel, world: &World, cases: &[Case], seed: u64) -> Result<Self> {
        kernel.enter(world, NOW)?;
        let before = kernel.counters()?;
        Ok(Self {
            kernel,
            model: Model::new(world, NOW),
            waits: Random::new(seed),
            dry_run: world.dry_run,
            generated: Packets::new(seed, cases, LINEAR_MAX + 2000),
            packets: 0,
            expected: before.clone(),
            before,
            passed: 0,
            dropped: 0,
        })
    }

    /// Compares this many more packets one by one, and then all counters.
    fn batch(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            let frame = self.next_frame();
            self.packet(&frame)
                .with_context(|| format!("packet {}, {}", self.packets, hex(&frame)))?;
            self.packets += 1;
        }
        let counters = self.kernel.counters()?;
        ensure!(counters == self.expected, "{counters:?}\nis not {:?}", self.expected);
        let counted = |verdict| sum(&counters, verdict) - sum(&self.before, verdict);
        let (passed, dropped) = (counted(Verdict::Pass), counted(Verdict::Drop));
        ensure!(
            (passed, dropped) == (self.passed, self.dropped),
            "{passed} passed, {dropped} dropped"
        );
        ensure!(passed + dropped == self.packets as u64, "not {} in all", self.packets);
        let (kernel, model) = (self.kernel.tally()?, self.model.tally());
        ensure!(kernel == model, "the kernel has {kernel:?}, the host {model:?}");
        Ok(())
    }

    fn next_frame(&mut self) -> Vec<u8> {
        let mut long = self.generated.by_ref().filter(|frame| frame.len() >= KERNEL_FRAME_MIN);
        long.next().expect("they do not end")
    }

    fn packet(&mut self, frame: &[u8]) -> Result<()> {
        if self.waits.once_in(WAIT_ONCE_IN) {
            let time = u64::try_from(self.waits.below(LONGEST_WAIT))?;
            self.model.wait(time);
            self.kernel.wait(time)?;
        }
        let split = SplitFrame { bytes: frame, linear: LINEAR_MAX };
        let code = self.model.decide(&split).code;
        let reason = code.reason().context("no reason")?;
        let would = self.dry_run && reason.verdict() == Verdict::Drop;
        let bank = if would { &mut self.expected.would } else { &mut self.expected.done };
        let counter = bank.entry(reason.as_str()).or_default();
        count(counter, frame);
        let expected = *counter;
        if would {
            count(self.expected.done.entry(Reason::DryRun.as_str()).or_default(), frame);
        }
        let on_host = if would { Verdict::Pass } else { reason.verdict() };
        let verdict = self.kernel.run(frame)?;
        ensure!(
            verdict == on_host,
            "{verdict:?} in the kernel, {on_host:?} on the host: {reason:?}"
        );
        let in_kernel = self.kernel.counter(would, reason)?;
        ensure!(in_kernel == expected, "{reason:?} on the host, something else in the kernel");
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Drop => self.dropped += 1,
        }
        Ok(())
    }

    /// The number of packets for each reason.
    fn summary(&self) -> String {
        let mut text = String::new();
        for (reason, after) in &self.expected.done {
            let packets = after.packets - self.before.done[reason].packets;
            if packets > 0 {
                // Writing to a string cannot fail.
                let _ok = write!(text, "{reason} {packets}, ");
            }
        }
        text.trim_end_matches(", ").to_owned()
    }
}

fn count(counter: &mut Counter, frame: &[u8]) {
    counter.packets += 1;
    counter.bytes += frame.len() as u64;
}

/// The number of packets with this verdict, by their reasons.
fn sum(counters: &Counters, verdict: Verdict) -> u64 {
    let of_verdict = Reason::ALL.iter().filter(|reason| reason.verdict() == verdict);
    of_verdict.map(|reason| counters.done[reason.as_str()].packets).sum()
}

fn hex(frame: &[u8]) -> String {
    frame.iter().fold(String::new(), |mut text, byte| {
        // Writing to a string cannot fail.
        let _ok = write!(text, "{byte:02x}");
        text
    })
}

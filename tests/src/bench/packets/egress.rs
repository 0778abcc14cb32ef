//! The cost of the classifier of outgoing packets: a packet of each kind alone, and the throughput of one TCP
//! stream that leaves the host, with and without it.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use filter_user::config::Mode;
use serde_json::Value;

use super::lane::Lane;
use super::protected::Protected;
use super::report::{Group, Row};
use super::{Settings, timed};
use crate::bpf::{Action, Program};
use crate::child::{self, OnSignal, Running};
use crate::netns::Netns;
use crate::packet_builder::TARGET_V4;
use crate::screen::Screen;
use crate::{debian, interrupt};

/// Packets of a test run between two readings of the clock. A SIP message takes microseconds.
const REPEAT: u32 = 20_000;

/// `TC_ACT_UNSPEC` and `TCX_NEXT`.
const NEXT: Action = Action::Other(u32::MAX);

/// The peer of the host.
const PEER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 20);

/// The length of a stream in whole seconds, as iperf3 takes it, and how long it may take.
const STREAM_SECONDS: &str = "2";
const STREAM_LIMIT: Duration = Duration::from_secs(20);
/// How often the client tries to reach the server, which needs a moment to start.
const TRIES: u32 = 50;

/// A packet that leaves the host.
struct Kind {
    case: &'static str,
    what: &'static str,
    frame: Vec<u8>,
}

fn kinds() -> Vec<Kind> {
    const REPLIES: [&[u8]; 3] = [
        include_bytes!(
            "../../../../filter-common/tests/fixtures/leaving/none/stock22-sipp-goodauth-481-bye.sip"
        ),
        include_bytes!(
            "../../../../filter-common/tests/fixtures/leaving/none/stock22-sipp-regflood-tcp-401-register.sip"
        ),
        include_bytes!(
            "../../../../filter-common/tests/fixtures/leaving/proof/stock22-sipp-goodauth-200-register.sip"
        ),
    ];
    let [refusal, challenge, accepted] = REPLIES;
    let kind = |case, what, frame| Kind { case, what, frame };
    vec![
        kind("egress-run-tcp", "not SIP: a TCP segment of 1,448 bytes", tcp(&[0; 1448])),
        kind(
            "egress-run-rtp",
            "not SIP: a datagram of 172 bytes, as of RTP",
            udp(10_000, &[0x80; 172]),
        ),
        kind(
            "egress-run-other",
            "SIP: a response of which only the status matters",
            udp(5060, refusal),
        ),
        kind("egress-run-challenge", "SIP: a challenge", udp(5060, challenge)),
        kind("egress-run-accepted", "SIP: the 200 to a REGISTER", udp(5060, accepted)),
    ]
}

/// An IPv4 packet to the peer.
fn packet(protocol: u8, transport: &[u8], payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(20 + transport.len() + payload.len()).unwrap_or(u16::MAX);
    let [high, low] = length.to_be_bytes();
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
    frame.extend(TARGET_V4.octets());
    frame.extend(PEER.octets());
    frame.extend(transport);
    frame.extend(payload);
    frame
}

fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(8 + payload.len()).unwrap_or(u16::MAX);
    packet(17, &[port, 40_000, length, 0].map(u16::to_be_bytes).concat(), payload)
}

fn tcp(payload: &[u8]) -> Vec<u8> {
    let mut header = [5201u16, 40_000, 0, 1, 0, 1].map(u16::to_be_bytes).concat();
    header.extend([0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0]);
    packet(6, &header, payload)
}

/// Measures what is wanted.
pub(super) fn measure(settings: &Settings, screen: &mut Screen) -> Result<Vec<Row>> {
    let kinds: Vec<Kind> = kinds().into_iter().filter(|kind| settings.wants(kind.case)).collect();
    let wants_stream = settings.wants("egress-stream");
    if kinds.is_empty() && !wants_stream {
        return Ok(Vec::new());
    }
    let lane = Lane::new()?;
    let protected = Protected::attach(&lane, Mode::Native)?;
    let mut rows = runs(settings, &protected, &kinds, screen)?;
    if wants_stream {
        rows.extend(streams(settings, &lane, screen)?);
    }
    Ok(rows)
}

/// Test runs, each beside a classifier that does nothing.
fn runs(
    settings: &Settings,
    protected: &Protected,
    kinds: &[Kind],
    screen: &mut Screen,
) -> Result<Vec<Row>> {
    let (program, empty) = (Program::of_link(&protected.egress())?, Program::next_classifier()?);
    let mut rounds: Vec<Vec<(f64, f64)>> = vec![Vec::new(); kinds.len()];
    for number in 1..=settings.rounds {
        for (kind, rounds) in kinds.iter().zip(&mut rounds) {
            interrupt::check()?;
            let time = |program| timed(program, &kind.frame, settings.time, REPEAT);
            let (before, _) = time(&empty)?;
            let (took, action) = time(&program)?;
            let (after, _) = time(&empty)?;
            ensure!(action == NEXT, "{}: {action:?} and not {NEXT:?}", kind.what);
            rounds.push((took, f64::midpoint(before, after)));
        }
        if !kinds.is_empty() {
            screen.say(&format!("  outgoing packets: round {number} of {}", settings.rounds))?;
        }
    }
    let row = |(kind, rounds): (&Kind, &Vec<(f64, f64)>)| {
        let took = rounds.iter().map(|(took, _)| *took).collect();
        let added = rounds.iter().map(|(took, empty)| took - empty);
        let row = Row::new(Group::Egress, kind.case, kind.what, "ns", took)?;
        let empty = rounds.iter().map(|(_, empty)| *empty);
        Some(row.beside("empty classifier", empty, added, "ns more"))
    };
    Ok(kinds.iter().zip(&rounds).filter_map(row).collect())
}

/// One stream: bits a second, and bits a second of CPU time of both ends.
#[derive(Clone, Copy, Debug)]
struct Stream {
    gigabits: f64,
    of_cpu: f64,
}

type Figure = fn(&Stream) -> f64;

/// Streams with the classifier, without it, and without the filter.
fn streams(settings: &Settings, with: &Lane, screen: &mut Screen) -> Result<Vec<Row>> {
    let iperf = Iperf::unpack(&settings.cache)?;
    let (without, bare) = (Lane::new()?, Lane::new()?);
    let deaf = Protected::attach(&without, Mode::Native)?;
    crate::bpf::force_off(&deaf.egress())?;
    let lanes = [with, &without, &bare];
    for lane in lanes {
        lane.cable().near_address(PEER)?;
    }
    let mut rounds = Vec::new();
    for number in 1..=settings.rounds {
        // The first one of a round finds colder caches, so they take turns.
        let mut round = [None; 3];
        for turn in 0..lanes.len() {
            let place = (turn + usize::try_from(number)?) % lanes.len();
            round[place] = Some(iperf.stream(lanes[place].host(), &lanes[place].cable().near)?);
        }
        let [Some(with), Some(without), Some(bare)] = round else { bail!("a stream is missing") };
        rounds.push([with, without, bare]);
        screen.say(&format!("  streams: round {number} of {}", settings.rounds))?;
    }
    let row = |case, what, beside, unit, other: usize, of: Figure| {
        let figures = rounds.iter().map(|[with, ..]| of(with)).collect();
        let others = rounds.iter().map(|round| of(&round[other]));
        let ratios = rounds.iter().map(|round| of(&round[0]) / of(&round[other]) * 100.0);
        Some(
            Row::new(Group::Egress, case, what, unit, figures)?.beside(beside, others, ratios, "%"),
        )
    };
    let (rate, of_cpu): (Figure, Figure) = (|stream| stream.gigabits, |stream| stream.of_cpu);
    let what = "one TCP stream that leaves the host";
    let again = "  the same, for a second of CPU time of both ends";
    Ok([
        row("egress-stream", what, "without the classifier", "Gbit/s", 1, rate),
        row("egress-stream", again, "without the classifier", "Gbit/s", 1, of_cpu),
        row("egress-stream", what, "without the filter", "Gbit/s", 2, rate),
        row("egress-stream", again, "without the filter", "Gbit/s", 2, of_cpu),
    ]
    .into_iter()
    .flatten()
    .collect())
}

/// Debian's iperf3, which is not installed.
struct Iperf {
    program: PathBuf,
    libraries: OsString,
}

impl Iperf {
    fn unpack(cache: &Path) -> Result<Self> {
        let root = debian::unpacked(cache, "iperf3")?;
        let libraries = debian::libraries(cache, &["libiperf0", "libsctp1"])?;
        Ok(Self { program: root.join("usr/bin/iperf3"), libraries })
    }

    fn command(&self, host: &Netns) -> Command {
        let mut command = host.command(&self.program);
        command.env("LD_LIBRARY_PATH", &self.libraries).stdin(Stdio::null());
        command
    }

    /// Sends from `host` to `peer`.
    fn stream(&self, host: &Netns, peer: &Netns) -> Result<Stream> {
        let mut server = self.command(peer);
        server.args(["-s", "-1", "-B", &PEER.to_string()]).stdout(Stdio::null());
        let _server = Running::spawn("iperf3", &mut server)?;
        for _ in 0..TRIES {
            interrupt::check()?;
            let mut client = self.command(host);
            client.args(["-c", &PEER.to_string(), "-t", STREAM_SECONDS, "-J"]);
            let said = child::finish("iperf3", &mut client, STREAM_LIMIT, OnSignal::Stop)?.stdout;
            let said: Value = serde_json::from_str(&said).context("read what iperf3 printed")?;
            let figure = |at: &str| said.pointer(at).and_then(Value::as_f64);
            let cpu = |end: &str| figure(&format!("/end/cpu_utilization_percent/{end}_total"));
            if let (Some(bits), Some(host), Some(peer)) =
                (figure("/end/sum_received/bits_per_second"), cpu("host"), cpu("remote"))
            {
                let gigabits = bits / 1e9;
                return Ok(Stream { gigabits, of_cpu: gigabits * 100.0 / (host + peer) });
            }
            thread::sleep(Duration::from_millis(100));
        }
        bail!("iperf3 has not reached its server")
    }
}

#[cfg(test)]
mod tests {
    use filter_common::learn;
    use filter_common::packet;

    use super::*;

    #[test]
    fn a_packet_of_each_kind_leaves_its_port() {
        let ports = kinds().into_iter().map(|kind| {
            let frame = kind.frame.as_slice();
            let headers = packet::parse(&frame).unwrap();
            let leaving = learn::leaving(&frame, &headers).unwrap();
            (leaving.tcp, leaving.port)
        });
        let expected = [(true, 5201), (false, 10_000), (false, 5060), (false, 5060), (false, 5060)];
        assert!(ports.eq(expected));
    }
}

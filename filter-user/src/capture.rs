//! `capture`: prints packets as the program judges them, or writes them to a file.
//!
//! Must never print an unprintable byte.

mod pcapng;

use std::collections::HashMap;
use std::fmt;
use std::io::{self, Write};
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use filter_common::decision::{Code, Reason};
use filter_common::packet::{self, Layer4, Payload};
use jiff::Timestamp;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

use self::pcapng::Pcapng;
use crate::clock::{KernelTime, Now};
use crate::datapath::capture::{Capture, Packet, interface_name};
use crate::datapath::clock;

/// The most bytes of a message's first line that are printed.
const LINE_MAX: usize = 80;

/// How packets are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// A line for each.
    Text,
    /// A JSON document for each.
    Json,
    /// A capture file.
    Pcapng,
}

/// When a capture ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// After this many packets.
    pub packets: u64,
    /// After this time.
    pub time: Duration,
}

/// What a capture has taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Packets that were printed.
    pub packets: u64,
    /// Packets that were to be captured.
    pub matched: u64,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { packets, matched } = self;
        write!(f, "captured {packets} of {matched} packets")
    }
}

/// The reason with a name.
///
/// # Errors
///
/// If there is none; the error lists all.
pub fn reason(name: &str) -> Result<Reason, String> {
    let found = Reason::ALL.iter().copied().find(|reason| reason.as_str() == name);
    found.ok_or_else(|| {
        let all: Vec<&str> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        format!("there is no such reason; there are {}", all.join(", "))
    })
}

/// The reasons of packets that are dropped.
pub fn dropping() -> Vec<Reason> {
    Reason::ALL.iter().copied().filter(|reason| Code::from(*reason).drops()).collect()
}

/// Prints packets to `out` until a bound is reached, or the user ends it.
///
/// # Errors
///
/// If the kernel refuses, or `out` cannot be written.
pub async fn run(
    mut capture: Capture,
    form: Form,
    bounds: Bounds,
    out: impl Write,
) -> Result<Taken> {
    let mut printer = Printer::new(form, out)?;
    let mut every_second = interval(Duration::from_secs(1));
    every_second.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let end = Instant::now().checked_add(bounds.time);
    let at_end = async {
        match end {
            Some(end) => sleep_until(end).await,
            None => std::future::pending().await,
        }
    };
    let (mut interrupted, mut terminated) =
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::pin!(at_end);
    let mut packets = 0;
    while packets < bounds.packets {
        let mut written = Ok(());
        let read = capture.next_batch(|packet| {
            written = printer.print(&packet);
            packets += 1;
            written.is_ok() && packets < bounds.packets
        });
        tokio::select! {
            read = read => read.context("read the captured packets")?,
            _ = every_second.tick() => capture.renew(),
            () = &mut at_end => break,
            _ = interrupted.recv() => break,
            _ = terminated.recv() => break,
        }
        written.and_then(|()| printer.flush()).context("write the captured packets")?;
    }
    printer.flush().context("write the captured packets")?;
    Ok(Taken { packets, matched: capture.matched() })
}

/// Prints packets in a form.
struct Printer<W> {
    form: Form,
    out: W,
    /// Turns the kernel's time into the clock's.
    now: Now,
    pcapng: Pcapng,
    names: HashMap<u32, String>,
}

impl<W: Write> Printer<W> {
    fn new(form: Form, mut out: W) -> Result<Self> {
        if form == Form::Pcapng {
            out.write_all(&Pcapng::begin()).context("write the captured packets")?;
            out.flush().context("write the captured packets")?;
        }
        let now = Now { kernel: clock::now(), wall: Timestamp::now() };
        Ok(Self { form, out, now, pcapng: Pcapng::default(), names: HashMap::new() })
    }

    fn print(&mut self, packet: &Packet<'_>) -> io::Result<()> {
        let name = self.names.entry(packet.interface);
        let name = name.or_insert_with(|| interface_name(packet.interface));
        let at = wall(packet.at, self.now);
        match self.form {
            Form::Text => writeln!(self.out, "{}", line(&shown(packet, name, at))),
            Form::Json => {
                serde_json::to_writer(&mut self.out, &shown(packet, name, at))?;
                writeln!(self.out)
            }
            Form::Pcapng => {
                let comment = format!("{}: {}", verdict(packet), packet.reason.as_str());
                let since_epoch = u64::try_from(at.as_nanosecond()).unwrap_or(0);
                self.out.write_all(&self.pcapng.packet(packet, since_epoch, name, &comment))
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A time of the kernel on the wall.
fn wall(at: KernelTime, Now { kernel, wall }: Now) -> Timestamp {
    let later = i128::from(at.0) - i128::from(kernel.0);
    Timestamp::from_nanosecond(wall.as_nanosecond() + later).unwrap_or(wall)
}

/// What happened to a packet.
fn verdict(packet: &Packet<'_>) -> &'static str {
    match (packet.dropped, Code::from(packet.reason).drops()) {
        (true, _) => "dropped",
        (false, true) => "would be dropped",
        (false, false) => "passed",
    }
}

/// A packet as it is printed.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Shown {
    /// When it was judged, in UTC.
    time: String,
    /// The interface on which it arrived.
    interface: String,
    /// `dropped`, `would be dropped` or `passed`.
    verdict: &'static str,
    /// The reason.
    reason: &'static str,
    /// Its source; null if it is not IP.
    source: Option<IpAddr>,
    /// `udp`, `tcp`, `fragment`, or `other`; null if it is not IP.
    protocol: Option<&'static str>,
    /// The port that it goes to; null if it has none.
    port: Option<u16>,
    /// Its length in bytes.
    length: u32,
    /// The first line of its payload, if that is text; the sender chose it.
    line: Option<String>,
}

fn shown(packet: &Packet<'_>, interface: &str, at: Timestamp) -> Shown {
    let headers = packet::parse(&packet.head).ok();
    let of_layer4 = |layer4| match layer4 {
        Layer4::Udp { payload, port, .. } => ("udp", Some(port), Some(payload)),
        Layer4::Tcp { payload, port, .. } => ("tcp", Some(port), Some(payload)),
        Layer4::LaterFragment => ("fragment", None, None),
        Layer4::Other | Layer4::Unknown => ("other", None, None),
    };
    let layer4 = headers.map(|headers| of_layer4(headers.layer4));
    Shown {
        time: at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
        interface: interface.to_owned(),
        verdict: verdict(packet),
        reason: packet.reason.as_str(),
        source: headers.map(|headers| headers.source.into()),
        protocol: layer4.map(|(protocol, ..)| protocol),
        port: layer4.and_then(|(_, port, _)| port),
        length: packet.length,
        line: layer4.and_then(|(.., payload)| first_line(packet.head, payload?)),
    }
}

/// The first line of a payload, with everything escaped that is not printable; `None` if it is not text.
fn first_line(head: &[u8], payload: Payload) -> Option<String> {
    let bytes = head.get(payload.start..payload.end.min(head.len()))?;
    let line = bytes.split(|byte| matches!(byte, b'\r' | b'\n')).next()?;
    let line = &line[..line.len().min(LINE_MAX)];
    if !line.first()?.is_ascii_graphic() {
        return None;
    }
    Some(line.escape_ascii().to_string())
}

/// A packet as a line of text.
fn line(shown: &Shown) -> String {
    let Shown { time, interface, verdict, reason, length, .. } = shown;
    let source = shown.source.map_or_else(|| "not IP".to_owned(), |source| source.to_string());
    let protocol = shown.protocol.map(|protocol| format!(" {protocol}")).unwrap_or_default();
    let port = shown.port.map(|port| format!(" {port}")).unwrap_or_default();
    let first = shown.line.as_ref().map(|line| format!(": {line}")).unwrap_or_default();
    format!(
        "{time} {interface} {verdict} ({reason}) {source}{protocol}{port}, {length} bytes{first}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packet(head: &[u8]) -> Packet<'_> {
        let (at, reason) = (KernelTime(2_000_000_000), Reason::Banned);
        let length = u32::try_from(head.len()).unwrap();
        Packet { at, interface: 2, reason, dropped: true, length, head }
    }

    fn frame(payload: &[u8]) -> Vec<u8> {
        let total = u16::try_from(28 + payload.len()).unwrap().to_be_bytes();
        let udp = u16::try_from(8 + payload.len()).unwrap().to_be_bytes();
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0];
        frame.extend(total);
        frame.extend([0, 0, 0, 0, 64, 17, 0, 0, 192, 0, 2, 66, 192, 0, 2, 1]);
        frame.extend([0x13, 0xc4, 0x13, 0xc4]);
        frame.extend(udp);
        frame.extend([0, 0]);
        frame.extend(payload);
        frame
    }

    fn printed(form: Form, packets: &[Packet<'_>]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut printer = Printer::new(form, &mut out).unwrap();
        printer.now = Now { kernel: KernelTime(3_000_000_000), wall: Timestamp::UNIX_EPOCH };
        for packet in packets {
            printer.print(packet).unwrap();
        }
        out
    }

    #[test]
    fn a_line_says_what_happened_to_which_packet() {
        let frame = frame(b"REGISTER sip:192.0.2.1 SIP/2.0\r\nVia: x");
        let of = |packet: Packet<'_>| String::from_utf8(printed(Form::Text, &[packet])).unwrap();
        assert_eq!(
            of(packet(&frame)),
            "1969-12-31T23:59:59.000000Z if2 dropped (banned) 192.0.2.66 udp 5060, 80 bytes: \
             REGISTER sip:192.0.2.1 SIP/2.0\n"
                .replace("if2", &interface_name(2))
        );
        assert!(
            of(Packet { dropped: false, ..packet(&frame) }).contains(" would be dropped (banned) ")
        );
        let passed = Packet { dropped: false, reason: Reason::Known, ..packet(&frame) };
        assert!(of(passed).contains(" passed (known) "));
        assert!(of(packet(&frame[..14])).contains(" not IP, 14 bytes\n"));
    }

    #[test]
    fn a_payload_cannot_write_to_the_terminal() {
        let of = |payload: &[u8]| {
            let frame = frame(payload);
            String::from_utf8(printed(Form::Text, &[packet(&frame)])).unwrap()
        };
        for payload in [
            &b"OPTIONS \x1b[2J\x07\x9b1m"[..],
            b"OPTIONS \xe2\x80\xae\nsecond",
            &[b'A'; 500],
            b"\x1b]0;title\x07",
        ] {
            let text = of(payload);
            assert!(text.bytes().all(|byte| byte == b'\n' || (b' '..=b'~').contains(&byte)));
            assert_eq!(text.matches('\n').count(), 1);
            assert!(text.len() < 500, "{text}");
        }
    }

    #[test]
    fn a_json_document_has_the_same() {
        let frame = frame(b"OPTIONS sip:\"x\" SIP/2.0\r\n");
        let text = printed(Form::Json, &[packet(&frame), packet(&frame[..10])]);
        let documents: Vec<serde_json::Value> = text
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        assert_eq!(documents[0]["source"], "192.0.2.66");
        assert_eq!(documents[0]["line"], "OPTIONS sip:\"x\" SIP/2.0".escape_default().to_string());
        assert_eq!(documents[1]["source"], serde_json::Value::Null);
    }

    #[test]
    fn reasons_have_names() {
        assert_eq!(reason("banned"), Ok(Reason::Banned));
        assert!(reason("bannd").unwrap_err().contains("throttled"));
        assert!(dropping().contains(&Reason::Throttled) && !dropping().contains(&Reason::Known));
    }
}

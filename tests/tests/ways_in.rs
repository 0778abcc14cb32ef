//! Attempts to bypass the limits, with a real Asterisk. In whatever form REGISTERs are sent, no more of
//! them arrive than in plain datagrams, and none while SIP is closed.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::{HashMap, HashSet};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{fs, thread};

use ringfence_tests::asterisk::{self, LogForm};
use ringfence_tests::guesser::dial;
use ringfence_tests::nginx::{Nginx, WebSocket};
use ringfence_tests::packet_builder::{Extension, Frame, OLD_SERVICE_VLAN, SERVICE_VLAN, VLAN};
use ringfence_tests::wire::{self, Wire};
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, PBX, PBX6, SIP_PORT, World, cache, until};
use serde_json::Value;

/// The number of REGISTERs by each carrier.
const SENT: usize = 400;
/// The burst of the limit of one source.
const BURST: u32 = 100;
/// The most that may reach Asterisk: the burst, and ten a second while the test sends.
const REACHES_MAX: usize = 150;

/// A carrier: a way to send a message in one frame or more.
struct Way {
    name: &'static str,
    source: IpAddr,
    carry: Carry,
    fate: Fate,
}

/// What a carrier makes of a frame and a message.
enum Carry {
    Frames(fn(Frame, &[u8]) -> Vec<Frame>),
    Bytes(fn(Frame, &[u8]) -> Vec<u8>),
}

impl Way {
    fn frames(&self, target: [u8; 6], message: &[u8]) -> Vec<Vec<u8>> {
        let frame = Frame::from(self.source).target_mac(target);
        match self.carry {
            Carry::Frames(carry) => carry(frame, message).iter().map(Frame::build).collect(),
            Carry::Bytes(carry) => vec![carry(frame, message)],
        }
    }
}

/// The expected result of a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// Linux accepts it.
    Arrives,
    /// Some versions of Linux accept it.
    MayArrive,
    /// Its source is impossible.
    Spoofed,
}

fn v4(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

/// An address in a /64 with this number.
fn v6(network: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0, 0x77])
}

fn ways() -> Vec<Way> {
    use Fate::{Arrives, MayArrive, Spoofed};

    let way = |name, source, carry, fate| Way { name, source, carry: Carry::Frames(carry), fate };
    let mut ways = vec![
        way("a datagram", v4(101), |frame, message| vec![frame.payload(message)], Arrives),
        way("ipv6", v6(1), |frame, message| vec![frame.payload(message)], Arrives),
        way("options", v4(102), |f, m| vec![f.ip_options(&[1; 8]).payload(m)], Arrives),
        way("one tag", v4(103), |f, m| vec![f.tag(VLAN, 0).payload(m)], Arrives),
        way("two tags", v4(104), |f, m| vec![tags(f, 2).payload(m)], Arrives),
        way("three tags", v4(105), |f, m| vec![tags(f, 3).payload(m)], Arrives),
        way("six tags", v4(106), |f, m| vec![tags(f, 6).payload(m)], Arrives),
        way("one header", v6(2), |f, m| vec![headers(f, 1).payload(m)], Arrives),
        way("six headers", v6(3), |f, m| vec![headers(f, 6).payload(m)], Arrives),
        way("seven headers", v6(4), |f, m| vec![headers(f, 7).payload(m)], Arrives),
        way("40 headers", v6(5), |f, m| vec![headers(f, 40).payload(m)], Arrives),
        way(
            "no length",
            v6(6),
            |f, m| vec![f.extension(Extension::hop_by_hop(1)).ip_len(0).payload(m)],
            MayArrive,
        ),
        way(
            "an atomic fragment",
            v6(7),
            |f, m| vec![f.extension(Extension::fragment(0, false)).payload(m)],
            Arrives,
        ),
        way("tiny fragments", v4(107), |frame, message| fragments(&frame, message, 8), Arrives),
        way("fragments", v4(108), |frame, message| fragments(&frame, message, 120), Arrives),
        way(
            "the last fragment first",
            v4(109),
            |frame, message| fragments(&frame, message, 200).into_iter().rev().collect(),
            Arrives,
        ),
        way("its own address", PBX6, |frame, message| vec![frame.payload(message)], Spoofed),
        way("its own address, ipv4", PBX, |frame, message| vec![frame.payload(message)], Spoofed),
        way(
            "loopback",
            IpAddr::from([127, 0, 0, 1]),
            |frame, message| vec![frame.payload(message)],
            Spoofed,
        ),
        way(
            "its own address behind headers",
            PBX6,
            |frame, message| vec![headers(frame, 9).payload(message)],
            Spoofed,
        ),
    ];
    ways.extend(odd_headers());
    ways.extend(odd_frames());
    ways.extend(odd_fragments());
    ways.extend(odd_messages());
    ways
}

/// Headers that lie about a length or a port.
fn odd_headers() -> Vec<Way> {
    use Fate::{Arrives, MayArrive};

    let way = |name, source, carry, fate| Way { name, source, carry: Carry::Frames(carry), fate };
    vec![
        way("source port 53", v4(110), |f, m| vec![f.source_port(53).payload(m)], Arrives),
        way("source port 0", v4(111), |f, m| vec![f.source_port(0).payload(m)], MayArrive),
        way(
            "a long udp length",
            v4(112),
            |f, m| vec![f.udp_len(8 + len(m) + 1).payload(m)],
            MayArrive,
        ),
        way(
            "a short udp length",
            v4(113),
            |f, m| vec![f.udp_len(8 + len(m) - 2).payload(m)],
            MayArrive,
        ),
        way(
            "a long ip length",
            v4(114),
            |f, m| vec![f.ip_len(28 + len(m) + 1).payload(m)],
            MayArrive,
        ),
        way(
            "a short ip length",
            v4(115),
            |f, m| vec![f.ip_len(28 + len(m) - 2).payload(m)],
            MayArrive,
        ),
        way("no udp length, ipv6", v6(10), |f, m| vec![f.udp_len(0).payload(m)], MayArrive),
        way("no checksum", v4(116), |f, m| vec![f.checksum(0).payload(m)], Arrives),
        way("a long header length", v4(117), |f, m| vec![f.ihl(6).payload(m)], MayArrive),
    ]
}

/// Options, tags and extension headers, hardware addresses, and frames that are more than a packet.
fn odd_frames() -> Vec<Way> {
    use Fate::{Arrives, MayArrive};

    let way = |name, source, carry, fate| Way { name, source, carry: Carry::Frames(carry), fate };
    let bytes = |name, source, carry, fate| Way { name, source, carry: Carry::Bytes(carry), fate };
    vec![
        way(
            "router alert",
            v4(118),
            |f, m| vec![f.ip_options(&[148, 4, 0, 0]).payload(m)],
            Arrives,
        ),
        way(
            "a source route that has ended",
            v4(119),
            |f, m| vec![f.ip_options(&[131, 7, 8, 192, 0, 2, 10, 0]).payload(m)],
            MayArrive,
        ),
        way("a tag with a priority", v4(120), |f, m| vec![f.tag(VLAN, 0xe000).payload(m)], Arrives),
        way(
            "service tags",
            v4(121),
            |f, m| vec![f.tag(SERVICE_VLAN, 0).tag(SERVICE_VLAN, 0).tag(VLAN, 0).payload(m)],
            MayArrive,
        ),
        way(
            "an old service tag",
            v4(122),
            |f, m| vec![f.tag(OLD_SERVICE_VLAN, 0).payload(m)],
            MayArrive,
        ),
        way(
            "to everybody's hardware",
            v4(123),
            |f, m| vec![f.target_mac([0xff; 6]).payload(m)],
            MayArrive,
        ),
        way(
            "to a group's hardware",
            v4(124),
            |f, m| vec![f.target_mac([1, 0, 0x5e, 0, 0, 1]).payload(m)],
            MayArrive,
        ),
        way(
            "each kind of header",
            v6(11),
            |f, m| {
                let f = f.extension(Extension::hop_by_hop(1)).extension(Extension::destination(2));
                let f = f.extension(Extension::routing(1)).extension(Extension::fragment(0, false));
                vec![f.extension(Extension::destination(1)).payload(m)]
            },
            MayArrive,
        ),
        way(
            "a header of 800 bytes",
            v6(12),
            |f, m| vec![f.extension(Extension::destination(100)).payload(m)],
            MayArrive,
        ),
        way(
            "an authentication header",
            v6(13),
            |f, m| vec![f.extension(Extension::authentication(3)).payload(m)],
            MayArrive,
        ),
        way(
            "a mobility header",
            v6(14),
            |f, m| vec![f.extension(Extension::mobility(1)).payload(m)],
            MayArrive,
        ),
        bytes("pppoe", v4(125), |f, m| f.payload(m).in_pppoe(), MayArrive),
        bytes(
            "a frame longer than its packet",
            v4(126),
            |f, m| [f.payload(m).build(), m.to_vec()].concat(),
            Arrives,
        ),
        bytes(
            "llc",
            v4(127),
            |f, m| {
                let frame = f.payload(m).build();
                let length = (8 + len(&frame) - 14).to_be_bytes();
                let snap = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];
                [&frame[..12], &length, &snap, &frame[14..]].concat()
            },
            MayArrive,
        ),
    ]
}

/// Fragments that overlap, come twice, in any order, and behind headers.
fn odd_fragments() -> Vec<Way> {
    use Fate::{Arrives, MayArrive};

    let way = |name, source, carry, fate| Way { name, source, carry: Carry::Frames(carry), fate };
    vec![
        way("fragments, ipv6", v6(15), |f, m| fragments(&f, m, 120), Arrives),
        way(
            "the last fragment first, ipv6",
            v6(16),
            |f, m| reversed(fragments(&f, m, 200)),
            Arrives,
        ),
        way(
            "the first fragment twice",
            v4(128),
            |f, m| {
                let all = fragments(&f, m, 120);
                [&all[..1], &all[..]].concat()
            },
            MayArrive,
        ),
        way(
            "the first fragment in the middle",
            v4(129),
            |f, m| {
                let mut all = fragments(&f, m, 120);
                all.swap(0, 1);
                all
            },
            Arrives,
        ),
        way("overlapping fragments", v4(130), |f, m| overlapping(&f, m), MayArrive),
        way("overlapping fragments, ipv6", v6(17), |f, m| overlapping(&f, m), MayArrive),
        way("overlapping, the last first", v4(131), |f, m| reversed(overlapping(&f, m)), MayArrive),
        way(
            "overlapping, the last first, ipv6",
            v6(18),
            |f, m| reversed(overlapping(&f, m)),
            MayArrive,
        ),
    ]
}

/// Messages that do not begin with a REGISTER at their first byte, or lie about their length.
fn odd_messages() -> Vec<Way> {
    use Fate::{Arrives, MayArrive};

    let way = |name, source, carry, fate| Way { name, source, carry: Carry::Frames(carry), fate };
    vec![
        way("behind line breaks", v4(140), |f, m| behind(f, &b"\r\n".repeat(3), m), Arrives),
        way("behind 40 blanks", v4(141), |f, m| behind(f, &b" \t".repeat(20), m), Arrives),
        way("behind zeros", v4(142), |f, m| behind(f, &[0; 4], m), MayArrive),
        way("behind a byte order mark", v4(143), |f, m| behind(f, b"\xef\xbb\xbf", m), MayArrive),
        way(
            "behind stun",
            v4(144),
            |f, m| behind(f, b"\0\x01\0\0\x21\x12\xa4\x42aaaaaaaaaaaa", m),
            MayArrive,
        ),
        way(
            "behind rtp",
            v4(145),
            |f, m| behind(f, b"\x80\0\0\x01\0\0\0\xa0\0\0\0\x07", m),
            MayArrive,
        ),
        way("behind a keep-alive", v6(19), |f, m| behind(f, b"\r\n\r\n", m), Arrives),
        way(
            "behind a response",
            v4(146),
            |f, m| behind(f, b"SIP/2.0 200 OK\r\n\r\n", m),
            MayArrive,
        ),
        way(
            "small letters",
            v4(147),
            |f, m| vec![f.payload(changed(m, "REGISTER s", "register s"))],
            Arrives,
        ),
        way(
            "mixed letters",
            v4(148),
            |f, m| vec![f.payload(changed(m, "REGISTER s", "ReGiStEr\ts"))],
            Arrives,
        ),
        way(
            "a folded line",
            v4(149),
            |f, m| vec![f.payload(changed(m, "REGISTER s", "REGISTER\r\n s"))],
            Arrives,
        ),
        way(
            "lines that end with CR",
            v4(150),
            |f, m| vec![f.payload(changed(m, "\r\n", "\r"))],
            MayArrive,
        ),
        way(
            "lines that end with LF",
            v4(151),
            |f, m| vec![f.payload(changed(m, "\r\n", "\n"))],
            Arrives,
        ),
        way(
            "a long body that is not there",
            v4(152),
            |f, m| vec![f.payload(changed(m, "Length: 0", "Length: 9999"))],
            MayArrive,
        ),
        way(
            "a body of no length",
            v4(153),
            |f, m| vec![f.payload(changed(m, "Length: 0", "Length: -1"))],
            MayArrive,
        ),
        way(
            "two in a datagram",
            v4(154),
            |f, m| {
                let second = changed(m, "z\r\n", "99999z\r\n");
                vec![f.payload([m, &second[..]].concat())]
            },
            MayArrive,
        ),
    ]
}

/// The length of a message.
fn len(message: &[u8]) -> u16 {
    u16::try_from(message.len()).unwrap()
}

fn behind(frame: Frame, start: &[u8], message: &[u8]) -> Vec<Frame> {
    vec![frame.payload([start, message].concat())]
}

/// A message with some text replaced.
fn changed(message: &[u8], from: &str, to: &str) -> Vec<u8> {
    String::from_utf8(message.to_vec()).unwrap().replace(from, to).into_bytes()
}

fn reversed(frames: Vec<Frame>) -> Vec<Frame> {
    frames.into_iter().rev().collect()
}

/// Two fragments of a datagram, of which the second repeats eight bytes of the first.
fn overlapping(frame: &Frame, message: &[u8]) -> Vec<Frame> {
    let datagram = datagram(frame, message);
    vec![fragment(frame, &datagram[..128], 0, true), fragment(frame, &datagram[120..], 120, false)]
}

fn tags(frame: Frame, count: usize) -> Frame {
    (0..count).fold(frame, |frame, _| frame.tag(VLAN, 0))
}

fn headers(frame: Frame, count: usize) -> Frame {
    (0..count).fold(frame, |frame, _| frame.extension(Extension::destination(1)))
}

/// A datagram in fragments of this many bytes.
fn fragments(frame: &Frame, message: &[u8], size: usize) -> Vec<Frame> {
    let datagram = datagram(frame, message);
    let of = |at: usize| {
        let end = (at + size).min(datagram.len());
        fragment(frame, &datagram[at..end], at, end < datagram.len())
    };
    (0..datagram.len()).step_by(size).map(of).collect()
}

/// A message with its UDP header.
fn datagram(frame: &Frame, message: &[u8]) -> Vec<u8> {
    let whole = frame.clone().payload(message).build();
    whole[whole.len() - message.len() - 8..].to_vec()
}

/// A fragment of a datagram that begins at this byte.
fn fragment(frame: &Frame, piece: &[u8], at: usize, more: bool) -> Frame {
    let offset = u16::try_from(at / 8).unwrap();
    let frame = frame.clone().protocol(17).payload(piece);
    if frame.build()[12..14] == [0x86, 0xdd] {
        frame.extension(Extension::fragment(offset, more))
    } else {
        frame.fragment(offset, more)
    }
}

/// A REGISTER of an existing account without credentials, which Asterisk challenges.
fn register(way: usize, number: usize, transport: &str) -> Vec<u8> {
    format!(
        "REGISTER sip:{PBX} SIP/2.0\r\n\
         Via: SIP/2.0/{transport} 192.0.2.66:5060;branch=z9hG4bKway{way}n{number};rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:1001@{PBX}>;tag=1928301774\r\n\
         To: <sip:1001@{PBX}>\r\n\
         Call-ID: way{way}n{number}z\r\n\
         CSeq: 1 REGISTER\r\n\
         Contact: <sip:1001@192.0.2.66:5060>\r\n\
         Content-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// The number of REGISTERs by a carrier that Asterisk has challenged.
fn reached(world: &World, way: usize) -> usize {
    all_reached(world).get(&way).copied().unwrap_or_default()
}

/// The same of all carriers, in its log of security events.
fn all_reached(world: &World) -> HashMap<usize, usize> {
    let log = fs::read(world.asterisk.security_log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let calls = text.lines().filter(|line| line.contains("ChallengeSent")).filter_map(|line| {
        let (way, number) = line.split("SessionID=\"way").nth(1)?.split_once('n')?;
        Some((way.parse().ok()?, number.split('z').next()?))
    });
    let calls: HashSet<(usize, &str)> = calls.collect();
    calls.iter().fold(HashMap::new(), |mut counts, (way, _)| {
        *counts.entry(*way).or_default() += 1;
        counts
    })
}

fn world() -> World {
    world_with(false, &["eth0"])
}

fn world_with(websocket: bool, interfaces: &[&str]) -> World {
    world_of(websocket, interfaces, "{rate: 10000/s, burst: 100000}")
}

/// With this limit of the REGISTERs of a network.
fn world_of(websocket: bool, interfaces: &[&str], prefix: &str) -> World {
    let security_log = Some(LogForm::Plain);
    let options = asterisk::Options { security_log, websocket, ..asterisk::Options::default() };
    let world = World::with(&options, |config| {
        config.interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
        // No jail may end the attack, and no carrier may exhaust the budget of another.
        config.security_log = None;
        config.register_burst = BURST;
        config.maxretry = 10_000;
        config.more = format!(
            "limits:\n  prefix: {{register: {prefix}}}\n  \
             shared: {{register: {{rate: 10000/s, burst: 100000}}}}\n",
        );
    })
    .unwrap();
    wire::take_all_sources(&world.hosts.pbx).unwrap();
    world
}

fn reason(world: &World, name: &str) -> u64 {
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    status["reasons"][name]["packets"].as_u64().unwrap()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn no_way_to_carry_a_register_gets_past_the_limit() {
    let world = world();
    let target = wire::hardware_address(&world.hosts.pbx).unwrap();
    let wire = Wire::of(&world.hosts.attacker).unwrap();
    let (spoofed, ways) = (reason(&world, "spoofed"), ways());
    // On a busy machine Linux may fail to reassemble some.
    let least = usize::try_from(BURST).unwrap() / 2;
    for (number, way) in ways.iter().enumerate() {
        for n in 0..SENT {
            for frame in way.frames(target, &register(number, n, "UDP")) {
                wire.send(&frame).unwrap();
            }
        }
        // What a busy Asterisk has not read yet takes the room of the next ones in its socket.
        let arrived = || all_reached(&world).get(&number).is_some_and(|count| *count >= least);
        if way.fate == Fate::Arrives {
            until(Duration::from_secs(10), arrived);
        }
    }
    thread::sleep(Duration::from_millis(500));
    let (counts, mut wrong) = (all_reached(&world), Vec::new());
    for (number, way) in ways.iter().enumerate() {
        let count = counts.get(&number).copied().unwrap_or_default();
        println!("{}: {count} of {SENT}", way.name);
        let right = match way.fate {
            Fate::Arrives => (least..=REACHES_MAX).contains(&count),
            Fate::MayArrive => count <= REACHES_MAX,
            Fate::Spoofed => count == 0,
        };
        if !right {
            wrong.push(format!("{}: {count} of {SENT}", way.name));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    let nobody = ways.iter().filter(|way| way.fate == Fate::Spoofed).count() * SENT;
    let counted = reason(&world, "spoofed") - spoofed;
    assert_eq!(counted, u64::try_from(nobody).unwrap());

    let closed = world.ringfence.client().run(&["maintenance", "on", "--for", "1m"], false);
    closed.unwrap().success("maintenance").unwrap();
    for (number, way) in ways.iter().enumerate() {
        for n in 0..20 {
            for frame in way.frames(target, &register(100 + number, n, "UDP")) {
                wire.send(&frame).unwrap();
            }
        }
    }
    thread::sleep(Duration::from_millis(500));
    let counts = all_reached(&world);
    for (number, way) in ways.iter().enumerate() {
        assert_eq!(counts.get(&(100 + number)), None, "{} while SIP is closed", way.name);
    }
    world.end().unwrap();
}

/// Whoever has a network uses each of its addresses once.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn no_rotation_of_addresses_gets_past_the_limits() {
    type Addresses = fn(u16) -> IpAddr;

    let world = world_of(false, &["eth0"], "{rate: 10/s, burst: 200}");
    let target = wire::hardware_address(&world.hosts.pbx).unwrap();
    let wire = Wire::of(&world.hosts.attacker).unwrap();
    let of_source = 50..=REACHES_MAX;
    let of_network = 101..=REACHES_MAX + 100;
    let networks: [(_, Addresses, _); 5] = [
        ("a /64", |n| IpAddr::from([0x2001, 0xdb8, 7, 7, 0, 0, 0, n]), of_source.clone()),
        ("a /64, everywhere", |n| IpAddr::from([0x2001, 0xdb8, 8, 7, n, n, n, n]), of_source),
        ("a /48", |n| IpAddr::from([0x2001, 0xdb8, 9, n, 0, 0, 0, 1]), of_network.clone()),
        (
            "a /48, from its end",
            |n| IpAddr::from([0x2001, 0xdb8, 10, !n, n, n, n, n]),
            of_network.clone(),
        ),
        ("a /24", |n| v4(n.to_le_bytes()[0]), of_network),
    ];
    let mut wrong = Vec::new();
    for (way, (name, address, limits)) in networks.into_iter().enumerate() {
        for n in 0..SENT {
            let frame = Frame::from(address(u16::try_from(n).unwrap())).target_mac(target);
            wire.send(&frame.payload(register(700 + way, n, "UDP")).build()).unwrap();
        }
        until(Duration::from_secs(10), || reached(&world, 700 + way) >= *limits.start());
        thread::sleep(Duration::from_millis(500));
        let count = reached(&world, 700 + way);
        println!("{name}: {count} of {SENT}");
        if !limits.contains(&count) {
            wrong.push(format!("{name}: {count} of {SENT}, not in {limits:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
    world.end().unwrap();
}

/// How a stream of REGISTERs is split into writes.
#[derive(Clone, Copy, Debug)]
enum Cut {
    /// One message in each write.
    Messages,
    /// One byte, and then writes that begin with the second byte of a message.
    Behind,
    /// As much as fits into a segment, and more.
    Together,
    /// Fifty bytes in each write.
    Pieces,
}

/// Sends all messages over one connection, as far as possible within a few seconds.
fn stream(world: &World, source: IpAddr, way: usize, cut: Cut) {
    let target = if source.is_ipv4() { PBX } else { PBX6 };
    let mut stream =
        dial(&world.hosts.attacker, source, SocketAddr::new(target, SIP_PORT)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_write_timeout(Some(Duration::from_millis(200))).unwrap();
    let messages: Vec<Vec<u8>> = (0..SENT * 5).map(|n| register(way, n, "TCP")).collect();
    let all = messages.concat();
    let pieces: Vec<&[u8]> = match cut {
        Cut::Messages => messages.iter().map(Vec::as_slice).collect(),
        Cut::Behind => {
            let (first, rest) = all.split_at(1);
            let pieces = rest.chunks(messages[0].len() * 3);
            std::iter::once(first).chain(pieces).collect()
        }
        Cut::Together => all.chunks(60_000).collect(),
        Cut::Pieces => all.chunks(50).collect(),
    };
    let end = Instant::now() + Duration::from_secs(4);
    let mut pieces = pieces.into_iter();
    let mut rest: &[u8] = &[];
    while Instant::now() < end {
        if rest.is_empty() {
            let Some(piece) = pieces.next() else { break };
            rest = piece;
        }
        match stream.write(rest) {
            Ok(written) => rest = &rest[written..],
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_ended) => break,
        }
    }
    thread::sleep(Duration::from_millis(300));
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn no_cut_of_a_stream_gets_past_the_limit_of_bytes() {
    let world = world();
    let cuts = [
        (ATTACKERS[0], Cut::Messages),
        (ATTACKERS[1], Cut::Behind),
        (ATTACKERS[2], Cut::Together),
        (ATTACKERS[3], Cut::Pieces),
        (ATTACKERS6[0], Cut::Together),
        (ATTACKERS6[1], Cut::Behind),
    ];
    // 24,000 bytes, and 3,000 a second while this sends.
    let most = (24_000 + 3000 * 6) / register(0, 0, "TCP").len();
    for (way, (source, cut)) in cuts.into_iter().enumerate() {
        stream(&world, source, 200 + way, cut);
        let count = reached(&world, 200 + way);
        println!("{cut:?} from {source}: {count} of {}", SENT * 5);
        assert!((20..=most).contains(&count), "{cut:?} from {source}: {count}, at most {most}");
    }
    assert!(reason(&world, "stream-limit") > 0);
    world.end().unwrap();
}

/// A large INVITE from an unknown source passes, over TCP as well as UDP.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn what_a_host_says_to_itself_and_large_calls_are_let_in() {
    let world = world();
    let large = |number: usize| {
        let body = format!("v=0\r\no=- 1 1 IN IP4 192.0.2.66\r\ns=-\r\n{}", "a=x\r\n".repeat(1500));
        let head = String::from_utf8(register(300, number, "TCP")).unwrap();
        let head = head.replace("REGISTER", "INVITE");
        head.replace("Content-Length: 0", &format!("Content-Length: {}", body.len())) + &body
    };
    let target = SocketAddr::new(PBX, SIP_PORT);
    let mut stream = dial(&world.hosts.attacker, ATTACKERS[5], target).unwrap();
    stream.set_nodelay(true).unwrap();
    for number in 0..3 {
        stream.write_all(large(number).as_bytes()).unwrap();
    }
    assert!(
        until(Duration::from_secs(5), || reached(&world, 300) == 3),
        "{}",
        reached(&world, 300)
    );

    // Traffic of the host with itself, like the WebSockets that nginx forwards.
    let spoofed = reason(&world, "spoofed");
    let own = [IpAddr::from([127, 0, 0, 1]), PBX, PBX6];
    for (number, address) in own.into_iter().enumerate() {
        let socket = world.hosts.pbx.run_in(|| Ok(UdpSocket::bind((address, 0)).unwrap())).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let message = register(301, number, "UDP");
        socket.send_to(&message, SocketAddr::new(address, SIP_PORT)).unwrap();
        assert!(socket.recv(&mut [0; 2048]).is_ok(), "no answer to {address}");
        let mut stream =
            dial(&world.hosts.pbx, address, SocketAddr::new(address, SIP_PORT)).unwrap();
        for n in 0..SENT {
            stream.write_all(&register(302 + number, n, "TCP")).unwrap();
        }
        let all = || reached(&world, 302 + number) == SENT;
        assert!(until(Duration::from_secs(5), all), "{}", reached(&world, 302 + number));
    }
    assert_eq!(reason(&world, "spoofed"), spoofed);
    world.end().unwrap();
}

/// SIP of browsers reaches Asterisk from 127.0.0.1 over `lo`, from the host's own nginx: it is not
/// limited, and not dropped as forged, even if `lo` is among the interfaces.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk, a real nginx"]
fn websockets_through_nginx_are_let_in() {
    for (interfaces, way) in [(&["eth0"][..], 500), (&["eth0", "lo"], 600)] {
        let world = world_with(true, interfaces);
        let root = asterisk::Asterisk::ensure_root(&cache().unwrap(), &mut |_progress| ()).unwrap();
        let nginx = Nginx::start(&world.hosts.pbx, &root, PBX).unwrap();
        let spoofed = reason(&world, "spoofed");
        for (number, (source, target)) in
            [(ATTACKERS[0], PBX), (ATTACKERS6[0], PBX6)].into_iter().enumerate()
        {
            let mut socket = WebSocket::open(&world.hosts.attacker, source, target).unwrap();
            for n in 0..SENT {
                socket.send(&register(way + number, n, "WS")).unwrap();
                let answer = socket.receive().unwrap();
                assert!(answer.starts_with(b"SIP/2.0 401 "), "{}", answer.escape_ascii());
            }
            let all = || reached(&world, way + number) == SENT;
            assert!(until(Duration::from_secs(5), all), "{}", reached(&world, way + number));
        }
        assert_eq!(reason(&world, "spoofed"), spoofed, "{interfaces:?}");
        drop(nginx);
        world.end().unwrap();
    }
}

/// With `trusted_by_route`, a trusted network is trusted where a reply to it would leave.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_trusted_network_is_trusted_where_it_is() {
    const TRUSTED: &str = "198.51.100.0/24";
    let mut world = world();
    let more = world.ringfence.config_file().with_file_name("conf.d").join("trust.yml");
    fs::write(&more, "trusted_by_route: true\n").unwrap();
    let config = world.ringfence.config_file().to_owned();
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("trusted: []", &format!("trusted: [{TRUSTED}]"))).unwrap();
    let route = |device: &str| {
        let mut ip = world.hosts.pbx.command("ip");
        assert!(ip.args(["route", "replace", TRUSTED, "dev", device]).status().unwrap().success());
    };
    route("lo");
    world.ringfence.stop().unwrap();
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    let target = wire::hardware_address(&world.hosts.pbx).unwrap();
    let wire = Wire::of(&world.hosts.attacker).unwrap();
    let send = |way: usize| {
        let frame = Frame::from(IpAddr::from([198, 51, 100, 7])).target_mac(target);
        for n in 0..SENT {
            wire.send(&frame.clone().payload(register(way, n, "UDP")).build()).unwrap();
        }
        thread::sleep(Duration::from_millis(500));
    };
    send(400);
    let forged = reached(&world, 400);
    assert!((1..=REACHES_MAX).contains(&forged), "{forged} by another interface");
    route("eth0");
    // Routes are read every five seconds.
    thread::sleep(Duration::from_secs(6));
    send(401);
    let all = || reached(&world, 401) == SENT;
    assert!(until(Duration::from_secs(5), all), "{} where it is", reached(&world, 401));
    world.end().unwrap();
}

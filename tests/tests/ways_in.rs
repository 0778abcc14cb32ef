//! Attempts to bypass the limits, with a real Asterisk. In whatever form REGISTERs are sent, no more of
//! them arrive than in plain datagrams, and none while SIP is closed.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};
use std::{fs, thread};

use ringfence_tests::asterisk::{self, LogForm};
use ringfence_tests::guesser::dial;
use ringfence_tests::nginx::{Nginx, WebSocket};
use ringfence_tests::packet_builder::{Extension, Frame, VLAN};
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
    carry: fn(Frame, &[u8]) -> Vec<Frame>,
    fate: Fate,
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

fn v6(last: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0x77, last])
}

fn ways() -> Vec<Way> {
    use Fate::{Arrives, MayArrive, Spoofed};

    let way = |name, source, carry, fate| Way { name, source, carry, fate };
    vec![
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
    ]
}

fn tags(frame: Frame, count: usize) -> Frame {
    (0..count).fold(frame, |frame, _| frame.tag(VLAN, 0))
}

fn headers(frame: Frame, count: usize) -> Frame {
    (0..count).fold(frame, |frame, _| frame.extension(Extension::destination(1)))
}

/// A datagram over IPv4 in fragments of this many bytes.
fn fragments(frame: &Frame, message: &[u8], size: usize) -> Vec<Frame> {
    let whole = frame.clone().payload(message).build();
    let datagram = &whole[34..];
    let count = datagram.len().div_ceil(size);
    let pieces = datagram.chunks(size).enumerate();
    let fragment = |(number, piece): (usize, &[u8])| {
        let offset = u16::try_from(number * size / 8).unwrap();
        frame.clone().protocol(17).payload(piece).fragment(offset, number + 1 < count)
    };
    pieces.map(fragment).collect()
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

/// The number of REGISTERs by a carrier that Asterisk has challenged, in its log of security events.
fn reached(world: &World, way: usize) -> usize {
    let log = fs::read(world.asterisk.security_log()).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let mark = format!("SessionID=\"way{way}n");
    let calls = text.lines().filter(|line| line.contains("ChallengeSent"));
    let calls = calls.filter_map(|line| line.split(&mark).nth(1)?.split('z').next());
    calls.collect::<std::collections::HashSet<_>>().len()
}

fn world() -> World {
    world_with(false, &["eth0"])
}

fn world_with(websocket: bool, interfaces: &[&str]) -> World {
    let security_log = Some(LogForm::Plain);
    let options = asterisk::Options { security_log, websocket, ..asterisk::Options::default() };
    let world = World::with(&options, |config| {
        config.interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
        // No jail may end the attack, and no carrier may exhaust the budget of another.
        config.security_log = None;
        config.register_burst = BURST;
        config.maxretry = 10_000;
        config.more = String::from(
            "limits:\n  prefix: {register: {rate: 10000/s, burst: 100000}}\n  \
             shared: {register: {rate: 10000/s, burst: 100000}}\n",
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
    for (number, way) in ways.iter().enumerate() {
        let frame = Frame::from(way.source).target_mac(target);
        for n in 0..SENT {
            for frame in (way.carry)(frame.clone(), &register(number, n, "UDP")) {
                wire.send(&frame.build()).unwrap();
            }
        }
    }
    let settled = || reached(&world, 0) >= usize::try_from(BURST).unwrap();
    assert!(until(Duration::from_secs(5), settled), "{} datagrams", reached(&world, 0));
    thread::sleep(Duration::from_millis(500));
    let mut wrong = Vec::new();
    for (number, way) in ways.iter().enumerate() {
        let count = reached(&world, number);
        println!("{}: {count} of {SENT}", way.name);
        // On a busy machine Linux may fail to reassemble some.
        let least = usize::try_from(BURST).unwrap() / 2;
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
        let frame = Frame::from(way.source).target_mac(target);
        for n in 0..20 {
            for frame in (way.carry)(frame.clone(), &register(100 + number, n, "UDP")) {
                wire.send(&frame.build()).unwrap();
            }
        }
    }
    thread::sleep(Duration::from_millis(500));
    for (number, way) in ways.iter().enumerate() {
        assert_eq!(reached(&world, 100 + number), 0, "{} while SIP is closed", way.name);
    }
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

//! Which peers are learned from Asterisk's outgoing messages: its recorded replies, under
//! `fixtures/leaving`, and messages that an attacker without a password could provoke.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use filter_common::abi::{
    ABI_VERSION, Config, OPEN_TO_ALL, PORT_GUARDED, RECORDED, SCOPE_NAMED, SCOPE_SIP,
};
use filter_common::address::Address;
use filter_common::crowd;
use filter_common::gate;
use filter_common::learn::{self, Outcome, Outgoing, Peers, REFRESH, Reading};
use filter_common::limits::{PEERS_OF_48, PEERS_OF_64, REPLY_REFRESH, WINDOW_BYTES, WINDOW_WORDS};
use filter_common::packet::{self, Packet as _, Place, Window};
use proptest::prelude::*;

const HOUR: u64 = 3_600_000_000_000;
const PEER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 20));
const PEER6: IpAddr = IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x20));

/// The maps.
struct Model {
    config: Config,
    now: Cell<u64>,
    room: usize,
    peers: RefCell<HashMap<Address, u64>>,
    gate: RefCell<HashSet<gate::Place>>,
    crowds: RefCell<HashMap<u32, u64>>,
    asked: RefCell<Vec<(Address, u16, u64)>>,
    visits: RefCell<Vec<(Address, u16)>>,
    is_loopback: Cell<bool>,
    window: RefCell<Window>,
}

impl Model {
    fn new() -> Self {
        Self {
            config: Config { abi_version: ABI_VERSION, known_for: 2 * HOUR, ..Config::default() },
            now: Cell::new(HOUR),
            room: 2,
            peers: RefCell::default(),
            gate: RefCell::default(),
            crowds: RefCell::default(),
            asked: RefCell::default(),
            visits: RefCell::default(),
            is_loopback: Cell::new(false),
            // The rest of an earlier message.
            window: RefCell::new([u64::from_le_bytes(*b"\r\nVia: x"); WINDOW_WORDS]),
        }
    }

    fn sees(&self, frame: &[u8]) -> Outcome {
        let Ok(headers) = packet::parse(&frame) else { return Outcome::Nothing };
        let Some(leaving) = learn::leaving(&frame, &headers) else { return Outcome::Nothing };
        if learn::may_serve(&leaving, self) {
            learn::note_visit(&frame, &leaving, self);
        }
        learn::note_asked(&leaving, self);
        if !learn::is_watched(&leaving, self) {
            return Outcome::Nothing;
        }
        learn::learn(&frame, leaving.destination, Place::from(leaving.payload), self)
    }
}

impl Outgoing for Model {
    fn config(&self) -> Option<&Config> {
        Some(&self.config)
    }

    fn now(&self, _config: &Config) -> u64 {
        self.now.get()
    }

    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R> {
        Some(fill(&mut self.window.borrow_mut()))
    }
}

impl Peers for Model {
    fn port_classes(&self, _tcp: bool, port: u16) -> u8 {
        match port {
            5060 => SCOPE_SIP,
            5062 => SCOPE_SIP | SCOPE_NAMED,
            5063 => SCOPE_NAMED,
            22 | 80 | 123 => PORT_GUARDED,
            5064 => SCOPE_SIP | PORT_GUARDED,
            _ => 0,
        }
    }

    fn guards(&self, _tcp: bool, port: u16) -> u8 {
        if port == 80 { RECORDED | OPEN_TO_ALL } else { 0 }
    }

    fn is_loopback(&self) -> bool {
        self.is_loopback.get()
    }

    fn visited(&self, by: Address, tcp: bool, port: u16, _now: u64) {
        assert!(tcp);
        self.visits.borrow_mut().push((by, port));
    }

    fn asked(&self, other: Address, port: u16) -> Option<u64> {
        let asked = self.asked.borrow();
        asked.iter().rfind(|(to, from, _)| (*to, *from) == (other, port)).map(|(_, _, when)| *when)
    }

    fn ask(&self, other: Address, port: u16, now: u64) {
        self.asked.borrow_mut().push((other, port, now));
    }

    fn read_all(&self, bytes: usize, mut reading: Reading) -> Reading {
        let window = self.window.borrow();
        let _enough = (0..bytes).any(|at| learn::read(&window, at, &mut reading));
        reading
    }

    fn until(&self, peer: Address) -> Option<u64> {
        self.peers.borrow().get(&peer).copied()
    }

    fn prolong(&self, peer: Address, until: u64) {
        assert!(self.peers.borrow_mut().insert(peer, until).is_some());
    }

    fn announce(&self, place: gate::Place) {
        self.gate.borrow_mut().insert(place);
    }

    fn insert(&self, peer: Address, until: u64) -> bool {
        let mut peers = self.peers.borrow_mut();
        let room = peers.len() < self.room;
        if room {
            peers.insert(peer, until);
        }
        room
    }

    fn crowd(&self, place: u32) -> u64 {
        self.crowds.borrow().get(&place).copied().unwrap_or(0)
    }

    fn join(&self, place: u32) {
        *self.crowds.borrow_mut().entry(place).or_default() += 1;
    }
}

/// A message from a port to a peer.
fn frame(to: IpAddr, tcp: bool, port: u16, payload: &[u8]) -> Vec<u8> {
    let mut layer4 = port.to_be_bytes().to_vec();
    layer4.extend(40_000u16.to_be_bytes());
    if tcp {
        layer4.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    } else {
        layer4.extend(u16::try_from(payload.len() + 8).unwrap().to_be_bytes());
        layer4.extend([0, 0]);
    }
    layer4.extend(payload);
    let protocol = if tcp { 6 } else { 17 };
    let length = |more: usize| u16::try_from(layer4.len() + more).unwrap().to_be_bytes();
    let mut frame = vec![2; 12];
    match to {
        IpAddr::V4(to) => {
            frame.extend([8, 0, 0x45, 0]);
            frame.extend(length(20));
            frame.extend([0, 0, 0x40, 0, 64, protocol, 0, 0, 192, 0, 2, 10]);
            frame.extend(to.octets());
        }
        IpAddr::V6(to) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length(0));
            frame.extend([protocol, 64]);
            frame.extend(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10).octets());
            frame.extend(to.octets());
        }
    }
    frame.extend(layer4);
    frame
}

fn proves(message: &[u8]) -> bool {
    let [udp, tcp] = [false, true].map(|tcp| {
        let model = Model::new();
        let outcome = model.sees(&frame(PEER, tcp, 5060, message));
        let known = model.until(PEER.into());
        assert_eq!(known, (outcome == Outcome::Learned).then_some(3 * HOUR));
        known.is_some()
    });
    assert_eq!(udp, tcp);
    udp
}

fn recorded(kind: &str) -> Vec<(String, Vec<u8>)> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/leaving").join(kind);
    let read = |entry: fs::DirEntry| {
        (entry.file_name().to_string_lossy().into_owned(), fs::read(entry.path()).unwrap())
    };
    fs::read_dir(directory).unwrap().map(|entry| read(entry.unwrap())).collect()
}

#[test]
fn what_leaves_guarded_udp_ports_is_remembered() {
    let model = Model::new();
    let leaves = |to, tcp, port| {
        model.sees(&frame(to, tcp, port, b"time?"));
    };
    for (tcp, port) in [(false, 124), (true, 123), (false, 5060), (true, 5064)] {
        leaves(PEER, tcp, port);
    }
    assert_eq!(*model.asked.borrow(), []);

    leaves(PEER, false, 123);
    model.now.set(HOUR + REPLY_REFRESH - 1);
    leaves(PEER, false, 123);
    leaves(PEER6, false, 5064);
    model.now.set(HOUR + REPLY_REFRESH);
    leaves(PEER, false, 123);
    let expected = [
        (PEER.into(), 123, HOUR),
        (PEER6.into(), 5064, HOUR + REPLY_REFRESH - 1),
        (PEER.into(), 123, HOUR + REPLY_REFRESH),
    ];
    assert_eq!(*model.asked.borrow(), expected);
}

/// Nothing else costs a look at the recorded ports.
#[test]
fn only_guarded_tcp_ports_may_serve() {
    let model = Model::new();
    for (tcp, port, serves) in [
        (true, 80, true),
        (true, 5064, true),
        (true, 5060, false),
        (true, 124, false),
        (false, 80, false),
    ] {
        let frame = frame(PEER, tcp, port, b"x");
        let headers = packet::parse(&frame.as_slice()).unwrap();
        let leaving = learn::leaving(&frame.as_slice(), &headers).unwrap();
        assert_eq!(learn::may_serve(&leaving, &model), serves, "{tcp} {port}");
    }
}

#[test]
fn a_tcp_port_is_used_by_those_to_whom_it_sends() {
    const SYN_ACK: u8 = 0x12;
    const ACK: u8 = 0x10;
    const FIN_ACK: u8 = 0x11;
    const RST_ACK: u8 = 0x14;
    let model = Model::new();
    let leaves = |to: IpAddr, port, flags: u8, payload: &[u8]| {
        let mut frame = frame(to, true, port, payload);
        let network = if to.is_ipv4() { 20 } else { 40 };
        frame[14 + network + 13] = flags;
        model.sees(&frame);
    };
    // What a forged request for a connection is answered with, and what belongs to another port.
    for to in [PEER, PEER6] {
        for flags in [SYN_ACK, ACK, RST_ACK] {
            leaves(to, 80, flags, b"");
        }
        for port in [22, 123, 124] {
            leaves(to, port, ACK, b"banner");
        }
    }
    model.sees(&frame(PEER, false, 80, b"datagram"));
    model.is_loopback.set(true);
    leaves(PEER, 80, ACK, b"page");
    assert_eq!(*model.visits.borrow(), []);

    model.is_loopback.set(false);
    leaves(PEER, 80, ACK, b"page");
    leaves(PEER6, 80, FIN_ACK, b"");
    assert_eq!(*model.visits.borrow(), [(PEER.into(), 80), (PEER6.into(), 80)]);
}

#[test]
fn what_asterisk_sends_to_peers() {
    let messages = recorded("proof");
    assert!(messages.len() >= 3, "{}", messages.len());
    for (name, message) in messages {
        assert!(proves(&message), "{name}");
    }
}

#[test]
fn what_asterisk_sends_to_anybody() {
    let messages = recorded("none");
    assert!(messages.len() >= 10, "{}", messages.len());
    for (name, message) in messages {
        assert!(!proves(&message), "{name}");
    }
}

const REGISTERED: &str = "SIP/2.0 200 OK\r\n\
    Via: SIP/2.0/UDP 192.0.2.20:42465;rport=42465;received=192.0.2.20;branch=z9hG4bKc1492a197475\r\n\
    Call-ID: atk9769be0c@192.0.2.20\r\n\
    From: <sip:1001@192.0.2.10>;tag=a9519315\r\n\
    To: <sip:1001@192.0.2.10>;tag=z9hG4bKc1492a197475\r\n\
    CSeq: 2 REGISTER\r\n\
    Contact: <sip:x@192.0.2.20:42465>;expires=59\r\n\
    Content-Length:  0\r\n\r\n";

const QUALIFY: &str = "OPTIONS sip:1001@192.0.2.20:5060 SIP/2.0\r\n\
    Via: SIP/2.0/UDP 192.0.2.10:5060;rport;branch=z9hG4bKPj1\r\n\
    From: <sip:wazo@192.0.2.10>;tag=1\r\n\
    To: <sip:1001@192.0.2.20>\r\n\
    CSeq: 1 OPTIONS\r\n\r\n";

#[test]
fn what_is_proof_and_what_only_looks_like_it() {
    assert!(proves(REGISTERED.as_bytes()));
    assert!(proves(QUALIFY.as_bytes()));
    let table: &[(&str, &str, &str, bool)] = &[
        (REGISTERED, "CSeq: 2 REGISTER", "cseq: 2 register", true),
        (REGISTERED, "Via: ", "v: ", true),
        (REGISTERED, "Contact: ", "m: ", true),
        (REGISTERED, "Contact:", "Contact: <sip:y@192.0.2.20>\r\nContact:", true),
        (REGISTERED, "200 OK", "200 Ok", false),
        (REGISTERED, "200 OK", "202 OK", false),
        (REGISTERED, "200 OK", "401 Unauthorized", false),
        (REGISTERED, "SIP/2.0 200", "SIP/3.0 200", false),
        (REGISTERED, "2 REGISTER", "2 OPTIONS", false),
        (REGISTERED, "2 REGISTER", "2 REGISTERS", false),
        (REGISTERED, "2 REGISTER", "2 XREGISTER", false),
        (REGISTERED, "CSeq: 2 REGISTER", "X-CSeq: 2 REGISTER", false),
        // No binding: a client has removed its own, or the CSeq of an OPTIONS is false.
        (REGISTERED, ";expires=59", ";expires=0", false),
        (REGISTERED, ";expires=59", "", false),
        (REGISTERED, "<sip:x@192.0.2.20:42465>;expires=59", "<sip:x@192.0.2.20;expires=59>", false),
        (REGISTERED, "Contact: <sip:x@192.0.2.20:42465>;expires=59\r\n", "", false),
        (REGISTERED, "Contact: ", "X-Contact: ", false),
        // In the body, or in a field that an attacker has written.
        (REGISTERED, "Contact: ", "\r\nContact: ", false),
        (REGISTERED, "CSeq: ", "\r\nCSeq: ", false),
        (REGISTERED, "Contact: ", "Subject: a\nContact: ", false),
        (REGISTERED, "CSeq: ", "Subject: a\rCSeq: ", false),
        // The text after the first line must be Asterisk's, because a segment may begin in an attacker's
        // text.
        (REGISTERED, "\r\nVia", "\" <sip:a@b>;tag=1\r\nVia", false),
        (REGISTERED, "\r\nVia", "\r\n Via", false),
        (REGISTERED, "\r\nVia", "\r\nX-Via", false),
        (REGISTERED, "\r\nVia", "\nVia", false),
        (QUALIFY, "OPTIONS sip:", "REGISTER sip:", true),
        (QUALIFY, "Via: ", "v: ", true),
        (QUALIFY, "OPTIONS sip:", "INVITE sip:", false),
        (QUALIFY, "OPTIONS sip:", "NOTIFY sip:", false),
        (QUALIFY, "OPTIONS sip:", "options sip:", false),
        (QUALIFY, " SIP/2.0\r\nVia", "\" <sip:a@b>\r\nVia", false),
        (QUALIFY, " SIP/2.0\r\nVia", " SIP/2.0\r\n Via", false),
        (QUALIFY, " SIP/2.0\r\nVia", " SIP/2.0\nVia", false),
        (QUALIFY, "Via: ", "Call-ID: a\r\nVia: ", false),
    ];
    for (message, from, to, expected) in table {
        assert!(message.contains(from), "{from:?}");
        let changed = message.replacen(from, to, 1);
        assert_eq!(proves(changed.as_bytes()), *expected, "{changed}");
    }
}

#[test]
fn no_part_of_a_message_is_proof() {
    for (message, enough) in [(REGISTERED, ";expires=5"), (QUALIFY, "\r\nVia:")] {
        let end = message.find(enough).unwrap() + enough.len();
        for length in 0..message.len() {
            let (before, behind) = message.as_bytes().split_at(length);
            assert_eq!(proves(before), length >= end, "{length}");
            assert!(length == 0 || !proves(behind), "{length}");
        }
    }
}

#[test]
fn only_what_leaves_a_sip_port() {
    let model = Model::new();
    assert_eq!(model.sees(&frame(PEER, false, 5061, REGISTERED.as_bytes())), Outcome::Nothing);
    assert_eq!(model.sees(&frame(PEER, false, 5063, REGISTERED.as_bytes())), Outcome::Nothing);
    let both = Model::new();
    assert_eq!(both.sees(&frame(PEER, false, 5062, REGISTERED.as_bytes())), Outcome::Learned);
    let mut later_fragment = frame(PEER, false, 5060, REGISTERED.as_bytes());
    later_fragment[21] = 1;
    assert_eq!(model.sees(&later_fragment), Outcome::Nothing);
    let never = Model { config: Config { known_for: 0, ..model.config }, ..Model::new() };
    assert_eq!(never.sees(&frame(PEER, false, 5060, REGISTERED.as_bytes())), Outcome::Nothing);
    let older = Model { config: Config { abi_version: 1, ..model.config }, ..Model::new() };
    assert_eq!(older.sees(&frame(PEER, false, 5060, REGISTERED.as_bytes())), Outcome::Nothing);
    assert_eq!(model.sees(&frame(PEER6, true, 5060, REGISTERED.as_bytes())), Outcome::Learned);
    assert_eq!(model.until(PEER6.into()), Some(3 * HOUR));
}

#[test]
fn an_end_is_moved_once_a_minute() {
    assert_eq!(REFRESH, HOUR / 60);
    let model = Model::new();
    let registered = frame(PEER, false, 5060, REGISTERED.as_bytes());
    assert_eq!(model.sees(&registered), Outcome::Learned);
    model.now.set(HOUR + REFRESH);
    model.gate.borrow_mut().clear();
    assert_eq!(model.sees(&registered), Outcome::Nothing);
    assert_eq!(model.gate.borrow().len(), 1, "a bit that is gone comes back");
    model.now.set(HOUR + REFRESH + 1);
    assert_eq!(model.sees(&registered), Outcome::Refreshed);
    assert_eq!(model.until(PEER.into()), Some(3 * HOUR + REFRESH + 1));
}

#[test]
fn a_full_table_takes_nobody_and_forgets_nobody() {
    let model = Model { room: 1, ..Model::new() };
    let registered = |peer| frame(peer, false, 5060, REGISTERED.as_bytes());
    assert_eq!(model.sees(&registered(PEER)), Outcome::Learned);
    assert_eq!(model.sees(&registered(PEER6)), Outcome::Full);
    let place = |peer: IpAddr| gate::known(peer.into(), model.config.seed);
    assert_eq!(*model.gate.borrow(), HashSet::from([place(PEER)]));
    model.now.set(2 * HOUR);
    assert_eq!(model.sees(&registered(PEER)), Outcome::Refreshed);
    assert_eq!(model.until(PEER6.into()), None);
}

#[test]
fn a_network_has_as_many_peers_as_it_may() {
    let registered = frame(PEER6, true, 5060, REGISTERED.as_bytes());
    let [narrow, wide] = crowd::of(PEER6.into(), 0).expect("it has networks");
    for (full, of64, of48) in [
        (false, PEERS_OF_64 - 1, PEERS_OF_48 - 1),
        (true, PEERS_OF_64, 0),
        (true, PEERS_OF_64 + 1, 0),
        (true, 0, PEERS_OF_48),
        (true, 0, PEERS_OF_48 + 1),
    ] {
        let counted = HashMap::from([(narrow.place, of64), (wide.place, of48)]);
        let model = Model { crowds: RefCell::new(counted.clone()), ..Model::new() };
        let expected = if full { Outcome::Full } else { Outcome::Learned };
        assert_eq!(model.sees(&registered), expected, "{of64}, {of48}");
        let more = u64::from(!full);
        let after = HashMap::from([(narrow.place, of64 + more), (wide.place, of48 + more)]);
        assert_eq!(*model.crowds.borrow(), after, "{of64}, {of48}");
    }
}

#[test]
fn a_message_longer_than_the_window() {
    let padding = "x".repeat(WINDOW_BYTES);
    let long =
        REGISTERED.replace("Content-Length", &format!("X-Padding: {padding}\r\nContent-Length"));
    assert!(proves(long.as_bytes()));
    let too_late = REGISTERED.replace("Contact", &format!("X-Padding: {padding}\r\nContact"));
    assert!(!proves(too_late.as_bytes()));
}

proptest! {
    /// Text that Asterisk copies into a refusal is never proof, wherever a segment of it begins; an
    /// attacker can choose everything except a line break.
    #[test]
    fn no_text_of_a_strangers_is_proof(
        parts in proptest::collection::vec(prop_oneof![
            Just("SIP/2.0 200 OK"), Just("OPTIONS sip:a SIP/2.0"), Just("REGISTER sip:a SIP/2.0"),
            Just("Via: "), Just("CSeq: 1 REGISTER"), Just("Contact: <sip:a>;expires=60"), Just("\r"),
            Just("\n"), Just(">;expires=1"), Just(" "), Just("x"),
        ], 0..12),
    ) {
        let text = parts.concat().replace("\r\n", "");
        let refusal = format!(
            "SIP/2.0 401 Unauthorized\r\nVia: SIP/2.0/TCP a;branch=b;x={text}\r\nCall-ID: {text}\r\n\
             From: \"{text}\" <sip:a@b>;tag=1\r\nTo: \"{text}\" <sip:a@b>\r\nCSeq: 1 REGISTER\r\n\r\n"
        );
        for start in 0..refusal.len() {
            prop_assert!(!proves(&refusal.as_bytes()[start..]), "{:?}", &refusal[start..]);
        }
    }

    #[test]
    fn any_bytes_are_read(bytes: Vec<u8>) {
        let model = Model::new();
        let _any = model.sees(&bytes);
        let _any = model.sees(&frame(PEER, true, 5060, &bytes));
        let mut window = [0; WINDOW_WORDS];
        let length = bytes.as_slice().copy(0, &mut window);
        prop_assert!(length <= WINDOW_BYTES);
    }
}

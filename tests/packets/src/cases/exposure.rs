//! Rows about ports that are not open to everybody.

use filter_common::abi::{
    OPEN_TO_ALL, OPEN_TO_KNOWN, OPEN_TO_REPLIES, OPEN_TO_TRUSTED, RECORDED, SCOPE_ALL,
};
use filter_common::decision::Reason::{
    self, Banned, ClosedPort, Fragment, Known, NotSip, OtherPort, OtherProtocol, Register, Spoofed,
    TcpControl, Trusted,
};

use super::Ends::{Ago, In};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Extension, Frame, flag};

/// Of each family: a stranger, another address of its network.
const FAMILIES: [[&str; 2]; 2] =
    [["192.0.2.66", "192.0.2.0/24"], ["2001:db8::66", "2001:db8::/64"]];

/// The rows.
pub fn cases() -> Vec<Case> {
    FAMILIES
        .iter()
        .flat_map(|family| [tcp(family), udp(family), sip(family), others(family)])
        .flatten()
        .collect()
}

/// A database for trusted networks, a broker for nobody, NTP for replies, RTP for known peers too.
fn world() -> World {
    World::default()
        .guard(true, 5432, OPEN_TO_TRUSTED)
        .guard(true, 5672, 0)
        .guard(true, 80, OPEN_TO_ALL | RECORDED)
        .guard(true, 5434, OPEN_TO_TRUSTED | RECORDED)
        .guard(false, 514, OPEN_TO_ALL | OPEN_TO_REPLIES | RECORDED)
        .guard(false, 123, OPEN_TO_TRUSTED | OPEN_TO_REPLIES)
        .guard(false, 69, OPEN_TO_TRUSTED)
        .guard(false, 10_000, OPEN_TO_TRUSTED | OPEN_TO_KNOWN | OPEN_TO_REPLIES)
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(*b"anything")
}

fn row(name: &str, frame: &Frame, world: World, expect: Reason) -> Case {
    let family = if frame.build().get(12..14) == Some(&[8, 0]) { "v4" } else { "v6" };
    Case::new(format!("exposure: {name}, {family}"), frame.build(), expect).within(world)
}

fn tcp([stranger, network]: &[&str; 2]) -> Vec<Case> {
    let open = |port| from(stranger).tcp(port).tcp_flags(flag::SYN).payload([]);
    vec![
        row("a connection", &open(5432), world(), ClosedPort),
        row("a connection with data", &open(5432).payload(*b"x"), world(), ClosedPort),
        row("a connection from a trusted source", &open(5432), world().trust(network), Trusted),
        row("a connection to nobody's port", &open(5672), world(), ClosedPort),
        row("the same, trusted", &open(5672), world().trust(network), ClosedPort),
        row("the port before", &open(5431), world(), OtherPort),
        row("the port behind", &open(5433), world(), OtherPort),
        row("the same port over UDP", &from(stranger).udp(5432), world(), OtherPort),
        row(
            "an answer to a connection of the host's own",
            &from(stranger).tcp(5432).tcp_flags(flag::SYN | flag::ACK).payload([]),
            world(),
            OtherPort,
        ),
        row(
            "what stands goes on",
            &from(stranger).tcp(5432).tcp_flags(flag::ACK),
            world(),
            OtherPort,
        ),
        row(
            "a known peer is none for that",
            &open(5432),
            world().peer(stranger, In(60)),
            ClosedPort,
        ),
        row(
            "a request for a connection, which may be forged, is no use",
            &open(80),
            world(),
            OtherPort,
        ),
        row("data with the first packet to it", &open(80).payload(*b"x"), world(), OtherPort),
        row("a recorded port in a dry run", &open(5434), world(), ClosedPort),
        row("a recorded port in a dry run, trusted", &open(5434), world().trust(network), Trusted),
        row("a ban first", &open(5432), world().ban(stranger, SCOPE_ALL, In(60)), Banned),
    ]
}

fn udp([stranger, network]: &[&str; 2]) -> Vec<Case> {
    let to = |port| from(stranger).udp(port);
    let asked = |when| world().ask(stranger, 123, when);
    vec![
        row("a datagram", &to(69), world(), ClosedPort),
        row("a datagram of a trusted source", &to(69), world().trust(network), Trusted),
        row("a datagram to a recorded port", &to(514), world(), OtherPort).using(),
        row("a reply to a recorded port", &to(514), world().ask(stranger, 514, Ago(1)), OtherPort),
        row("nobody asked", &to(123), world(), ClosedPort),
        row("a reply", &to(123), asked(Ago(1)), OtherPort),
        row("the last moment for a reply", &to(123), asked(Ago(119)), OtherPort),
        row("too late for a reply", &to(123), asked(Ago(120)), ClosedPort),
        row(
            "a reply from another port of the host",
            &to(69),
            world().ask(stranger, 69, Ago(1)),
            ClosedPort,
        ),
        row("a reply to another port", &to(123), world().ask(stranger, 124, Ago(1)), ClosedPort),
        row("a known peer's sound", &to(10_000), world().peer(stranger, In(60)), OtherPort),
        row("sound of one that was known", &to(10_000), world().peer(stranger, Ago(1)), ClosedPort),
        row("a trunk's sound", &to(10_000), world().ask(stranger, 10_000, Ago(1)), OtherPort),
        row("a stranger's sound", &to(10_000), world(), ClosedPort),
        row("a peer is none for that", &to(69), world().peer(stranger, In(60)), ClosedPort),
    ]
}

fn sip([stranger, network]: &[&str; 2]) -> Vec<Case> {
    let world = || World::default().guard(false, 5060, OPEN_TO_TRUSTED | OPEN_TO_KNOWN);
    let nobody = || World::default().guard(false, 5060, 0);
    let register = Frame::from(ip(stranger)).payload(messages::request("REGISTER"));
    vec![
        row("a stranger registers", &register, world(), ClosedPort),
        row("somebody trusted registers", &register, world().trust(network), Trusted),
        row("a known peer registers", &register, world().peer(stranger, In(60)), Known),
        row("nobody registers", &register, nobody().trust(network), ClosedPort),
        row("a known peer goes on", &register, nobody().peer(stranger, In(60)), Known),
        row("a stranger registers over TCP", &register.clone().tcp(5060), world(), Register),
        row("a stranger says nothing", &from(stranger), world(), ClosedPort),
        row("the other way round", &from(stranger), World::default(), NotSip),
    ]
}

fn others([stranger, network]: &[&str; 2]) -> Vec<Case> {
    let own = || world().own(stranger);
    let mut cases = vec![
        row("ICMP", &from(stranger).protocol(1), world(), OtherProtocol),
        row("the host's own address", &from(stranger).udp(69), own(), Spoofed),
        row(
            "a segment of a closed port over TCP of SIP",
            &from(stranger).tcp(5060).tcp_flags(flag::SYN).payload([]),
            world(),
            TcpControl,
        ),
    ];
    if ip(stranger).is_ipv6() {
        let hidden = (0..7)
            .fold(from(stranger).udp(69), |frame, _| frame.extension(Extension::destination(1)));
        cases.push(row("behind headers that nobody reads", &hidden, world(), ClosedPort));
        cases.push(row("hidden, and trusted", &hidden, world().trust(network), Trusted));
        cases.push(row("hidden, where all is open", &hidden, World::default(), OtherProtocol));
    } else {
        let later = from(stranger).udp(69).fragment(8, true);
        cases.push(row("a later fragment", &later, world(), Fragment));
    }
    let watched = World { exposure_dry_run: true, ..world() };
    cases.push(row("only watched", &from(stranger).udp(69), watched, ClosedPort));
    cases
}

//! Rows about bans that close only some ports.

use filter_common::abi::{SCOPE_ALL, SCOPE_NAMED, SCOPE_SIP};
use filter_common::decision::Reason::{
    self, Banned, BannedNetwork, Fragment, OtherPort, OtherProtocol, Request, TcpControl,
};

use super::Ends::{Ago, In, Never};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Extension, Frame, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

const SSH: u8 = SCOPE_NAMED;
const PROVISIONING: u8 = SCOPE_NAMED << 1;
const HIGH: u8 = SCOPE_NAMED << 4;

/// The rows.
pub fn cases() -> Vec<Case> {
    [named(), masks(), ranges(), without_ports(), units()].concat()
}

/// Named ports: one over TCP, one over each, and a range that contains a SIP port.
fn world() -> World {
    World::default()
        .named(SSH, true, 22..=22)
        .named(PROVISIONING, false, 69..=69)
        .named(PROVISIONING, true, 8667..=8667)
        .named(HIGH, false, 5060..=5070)
        .named(HIGH, true, 60_000..=u16::MAX)
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::request("OPTIONS"))
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

fn named() -> Vec<Case> {
    let mut cases = Vec::new();
    for source in [V4, V6] {
        let ssh = world().ban(source, SSH, In(600));
        let provisioning = world().ban(source, PROVISIONING, Never);
        let high = world().ban(source, HIGH, In(600));
        let frames = [
            ("ssh", from(source).tcp(22), &ssh, Banned),
            ("ssh, opening", from(source).tcp(22).tcp_flags(flag::SYN).payload([]), &ssh, Banned),
            ("not ssh over udp", from(source).udp(22), &ssh, OtherPort),
            ("not sip", from(source), &ssh, Request),
            ("not tftp", from(source).udp(69), &ssh, OtherPort),
            ("not icmp", from(source).protocol(1), &ssh, OtherProtocol),
            ("tftp", from(source).udp(69), &provisioning, Banned),
            ("provisioning", from(source).tcp(8667), &provisioning, Banned),
            ("not tftp over tcp", from(source).tcp(69), &provisioning, OtherPort),
            ("not ssh", from(source).tcp(22), &provisioning, OtherPort),
            ("the last name", from(source).tcp(65_535), &high, Banned),
            ("a port that is sip too", from(source), &high, Banned),
            ("sip over tcp alone", from(source).tcp(5060), &high, Request),
        ];
        for (name, frame, world, expect) in frames {
            cases.push(row(format!("named ports of {source}: {name}"), &frame, world, expect));
        }
    }
    cases
}

/// Several scopes in one ban.
fn masks() -> Vec<Case> {
    let both = world().ban(V4, SCOPE_SIP | SSH, In(600)).ban(V6, SSH | PROVISIONING, In(600));
    let every = world().ban(V4, u8::MAX, In(600));
    let all_but_all = world().ban(V4, !SCOPE_ALL, In(600));
    let network = world().ban_network("192.0.2.0/24", PROVISIONING | SSH, In(600));
    vec![
        row("scopes: sip of sip and ssh", &from(V4), &both, Banned),
        row("scopes: ssh of sip and ssh", &from(V4).tcp(22), &both, Banned),
        row("scopes: tftp beside sip and ssh", &from(V4).udp(69), &both, OtherPort),
        row("scopes: ssh of ssh and provisioning", &from(V6).tcp(22), &both, Banned),
        row("scopes: sip beside ssh and provisioning", &from(V6), &both, Request),
        row("scopes: every bit", &from(V4).udp(53), &every, Banned),
        row("scopes: every class closes no other port", &from(V4).udp(53), &all_but_all, OtherPort),
        row("scopes: every class closes sip", &from(V4), &all_but_all, Banned),
        row("scopes: every class leaves icmp", &from(V4).protocol(1), &all_but_all, OtherProtocol),
        row("scopes: of a network", &from(V4).udp(69), &network, BannedNetwork),
        row("scopes: of a network, the other one", &from(V4).tcp(22), &network, BannedNetwork),
        row("scopes: beside those of a network", &from(V4), &network, Request),
        row(
            "scopes: the address's ban and the network's",
            &from(V4).tcp(22),
            &network.clone().ban(V4, SCOPE_SIP, In(600)),
            BannedNetwork,
        ),
        row(
            "scopes: what neither closes",
            &from(V4).udp(10_000),
            &network.clone().ban(V4, SCOPE_SIP, In(600)),
            OtherPort,
        ),
    ]
}

/// The first and last ports of ranges.
fn ranges() -> Vec<Case> {
    let banned = world().ban(V4, HIGH, In(600));
    let udp = |port| from(V4).udp(port);
    let tcp = |port| from(V4).tcp(port);
    vec![
        row("port range: before", &udp(5059), &banned, OtherPort),
        row("port range: the second", &udp(5061), &banned, Banned),
        row("port range: the last", &udp(5070), &banned, Banned),
        row("port range: behind", &udp(5071), &banned, OtherPort),
        row("port range: of another protocol", &tcp(5065), &banned, OtherPort),
        row("port range: before the highest", &tcp(59_999), &banned, OtherPort),
        row("port range: the first of the highest", &tcp(60_000), &banned, Banned),
        row("port range: the highest", &tcp(65_535), &banned, Banned),
    ]
}

/// Packets without a readable port.
fn without_ports() -> Vec<Case> {
    let ssh = world().ban(V4, SSH, In(600)).ban(V6, SSH, In(600));
    let all = world().ban(V4, SCOPE_ALL, In(600)).ban(V6, SCOPE_ALL, In(600));
    let network = world().ban_network("192.0.2.0/24", PROVISIONING, In(600));
    let over = world().ban(V4, SSH, Ago(1));
    let many = (0..7).fold(from(V6), |frame, _| frame.extension(Extension::destination(1)));
    let later = from(V4).protocol(17).fragment(9, true);
    let later_v6 = from(V6).extension(Extension::fragment(9, true));
    vec![
        row("no port: a later fragment, banned from ssh", &later, &ssh, Banned),
        row("no port: a later fragment over ipv6, banned from ssh", &later_v6, &ssh, Banned),
        row("no port: a later fragment, banned from all", &later, &all, Banned),
        row("no port: a later fragment, its network banned", &later, &network, BannedNetwork),
        row("no port: a later fragment of somebody else", &later, &World::default(), Fragment),
        row("no port: a later fragment when the ban is over", &later, &over, Fragment),
        row("no port: more extensions than are followed", &many, &ssh, Banned),
        row("no port: icmp, banned from ssh", &from(V4).protocol(1), &ssh, OtherProtocol),
        row("no port: icmp, banned from all", &from(V4).protocol(1), &all, Banned),
        row("no port: icmpv6, banned from all", &from(V6).protocol(58), &all, Banned),
        row("no port: esp, banned from all", &from(V4).protocol(50), &all, Banned),
        row(
            "no port: a tcp ack, banned from ssh",
            &from(V4).tcp(5060).payload([]),
            &ssh,
            TcpControl,
        ),
    ]
}

/// Bans end with a unit of 2^28 ns: a quarter of a second.
fn units() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, source) in [("ipv4", V4), ("ipv6", V6)] {
        let world = World::default().ban(source, SCOPE_SIP, In(10));
        let at = |name: &str, milliseconds, expect| {
            let name = format!("{family}, a ban of ten seconds after {name}");
            row(name, &from(source), &world, expect).then_wait(milliseconds)
        };
        cases.extend([
            at("9 s", 9000, Banned),
            at("9.7 s", 9700, Banned),
            at("10.3 s", 10_300, Request),
            at("an hour", 3_600_000, Request),
        ]);
        let network = format!("{source}/{}", if source == V4 { 24 } else { 48 });
        let network: ipnet::IpNet = network.parse().expect("a network");
        let world = World::default().ban_network(&network.trunc().to_string(), SCOPE_SIP, In(10));
        let at = |name: &str, milliseconds, expect| {
            let name = format!("{family}, a network's ban of ten seconds after {name}");
            row(name, &from(source), &world, expect).then_wait(milliseconds)
        };
        cases.extend([at("9.7 s", 9700, BannedNetwork), at("10.3 s", 10_300, Request)]);
        let forever = World::default().ban(source, SCOPE_SIP, Never);
        let year = 366 * 86_400_000;
        let name = format!("{family}, a ban without end after a year");
        cases.push(row(name, &from(source), &forever, Banned).then_wait(year));
    }
    cases
}

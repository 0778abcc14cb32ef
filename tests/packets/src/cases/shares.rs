//! Rows about the limits of each class, and about the limits that the sources of a network, and all
//! sources, share.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Banned, KeepAlive, Known, NotSip, OtherLimit, PrefixLimit, Register, RegisterCredentials,
    RegisterLimit, Request, Response, SharedLimit, Stun, SynLimit, TcpControl, Trusted,
};

use super::{Case, Ends, World, ip, messages};
use crate::packet_builder::{Frame, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";
const BURST: usize = 3;

/// The rows.
pub fn cases() -> Vec<Case> {
    [classes(), kinds(), searches(), prefixes(), shared(), order()].concat()
}

fn burst() -> u64 {
    BURST as u64
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

/// A frame of a class, and the reason why it passes.
pub(super) fn of_class(class: Class, frame: &Frame) -> (Frame, Reason) {
    let request = |method| frame.clone().payload(messages::request(method));
    match class {
        Class::Register => (frame.clone().payload(messages::register()), Register),
        Class::Credentials => {
            (frame.clone().payload(messages::register_with_credentials()), RegisterCredentials)
        }
        Class::Invite => (request("INVITE"), Request),
        Class::Options => (request("OPTIONS"), Request),
        Class::Subscribe => (request("SUBSCRIBE"), Request),
        Class::Other => (request("MESSAGE"), Request),
        Class::Syn => (frame.clone().tcp(5060).tcp_flags(flag::SYN).payload([]), TcpControl),
    }
}

/// Each class over each transport, up to its limit and over it, at each level.
fn classes() -> Vec<Case> {
    let transports = [
        ("udp", Frame::from(ip(V4))),
        ("tcp", Frame::from(ip(V4)).tcp(5060)),
        ("udp over ipv6", Frame::from(ip(V6))),
        ("tcp over ipv6", Frame::from(ip(V6)).tcp(5060)),
    ];
    let mut cases = Vec::new();
    for class in Class::ALL {
        for (transport, frame) in &transports {
            if class == Class::Syn && transport.starts_with("udp") {
                continue;
            }
            let (frame, pass) = of_class(class, frame);
            // If REGISTERs with credentials are at their limit, those without are not.
            let levels = [
                ("source", World::default().source_limit(class, burst()), class.over()),
                ("network", World::default().prefix_limit(class, burst()), PrefixLimit),
                ("all", World::default().shared_limit(class, burst()), SharedLimit),
            ];
            for (level, world, over) in levels {
                let name = |what| format!("limit of {class:?} over {transport}, {level}: {what}");
                cases.push(row(name("the last"), &frame, &world, pass).after(BURST - 1));
                cases.push(row(name("one more"), &frame, &world, over).after(BURST));
                cases.push(row(name("many more"), &frame, &world, over).after(BURST + 20));
                let trusted = world.clone().trust("192.0.2.0/24").trust("2001:db8::/64");
                cases.push(row(name("trusted"), &frame, &trusted, Trusted).after(BURST));
                cases.push(row(name("watching"), &frame, &world.watching(), over).after(BURST));
            }
            // Each class has a separate bucket.
            for other in Class::ALL.into_iter().filter(|other| *other != class) {
                let world = World::default().source_limit(other, 1);
                let (others, _) = of_class(other, &Frame::from(ip(V4)));
                let name = format!("{class:?} over {transport} when {other:?} is over its limit");
                cases.push(row(name, &frame, &world, pass).after_other(5, others.build()));
            }
        }
    }
    cases
}

/// Other packets of each class.
fn kinds() -> Vec<Case> {
    let others = World::default().source_limit(Class::Other, burst());
    let syns = World::default().source_limit(Class::Syn, burst());
    let udp = |payload: &[u8]| Frame::from(ip(V4)).payload(payload);
    let tcp = |payload: &[u8]| udp(payload).tcp(5060);
    let opening = |frame: Frame| frame.tcp_flags(flag::SYN);
    let over = |name: &str, frame: &Frame, world: &World, expect| {
        row(format!("limit: {name}"), frame, world, expect).after(BURST)
    };
    vec![
        over("responses", &udp(&messages::response("200 OK")), &others, OtherLimit),
        over("keep-alives", &udp(b"\r\n\r\n"), &others, OtherLimit),
        over("datagrams of nothing", &udp(b""), &others, OtherLimit),
        over("stun", &udp(&messages::stun()), &others, OtherLimit),
        over("no sip", &udp(b"hello, is anybody there?"), &others, OtherLimit),
        over("bye", &udp(&messages::request("BYE")), &others, OtherLimit),
        over("responses over tcp", &tcp(&messages::response("200 OK")), &others, Response),
        over("keep-alives over tcp", &tcp(b"\r\n\r\n"), &others, KeepAlive),
        over("stun over tcp", &tcp(&messages::stun()), &others, Stun),
        over("the rest of a stream", &tcp(b"more of it"), &others, NotSip),
        over("connections to tls", &opening(tcp(b"").tcp(5061)), &syns, SynLimit),
        over("connections with data (RFC 7413)", &opening(tcp(b"x")), &syns, SynLimit),
        over(
            "connections with a request",
            &opening(tcp(&messages::request("OPTIONS"))),
            &syns,
            SynLimit,
        ),
        over(
            "connections, the first fragment",
            &opening(tcp(b"").fragment(0, true)),
            // It counts as a segment of the maximum length.
            &World { bytes: Box::new([None; 4]), ..syns.clone() },
            SynLimit,
        ),
        over(
            "connections with ECN (RFC 3168)",
            &tcp(b"").tcp_flags(flag::SYN | 0xc0),
            &syns,
            SynLimit,
        ),
        over(
            "answers to connections",
            &tcp(b"").tcp_flags(flag::SYN | flag::ACK),
            &syns,
            TcpControl,
        ),
        over("acknowledgements", &tcp(b"").tcp_flags(flag::ACK), &syns, TcpControl),
        over("ends", &tcp(b"").tcp_flags(flag::FIN | flag::ACK), &syns, TcpControl),
        over("resets", &tcp(b"").tcp_flags(flag::RST), &syns, TcpControl),
        over("connections to another port", &opening(tcp(b"").tcp(22)), &syns, Reason::OtherPort),
    ]
}

/// How often a REGISTER over its limit is searched for credentials.
fn searches() -> Vec<Case> {
    let plain = Frame::from(ip(V4)).payload(messages::register());
    let with = Frame::from(ip(V4)).payload(messages::register_with_credentials());
    let world = World::default().limit(1).search_limit(burst());
    let both = World::default().limit(1).source_limit(Class::Credentials, 1);
    vec![
        row("searches: credentials when the rest is over", &with, &world, RegisterCredentials)
            .after_other(BURST, plain.build()),
        row("searches: credentials when they are used up", &with, &world, RegisterLimit)
            .after_other(BURST + 1, plain.build()),
        row("searches: none within the limits", &with, &world, RegisterCredentials).after(50),
        row("searches: with and without over the limit", &with, &both, RegisterLimit)
            .then([plain.build(), with.build()]),
        row(
            "searches: with credentials alone over the limit",
            &with,
            &both,
            Reason::CredentialsLimit,
        )
        .after(1),
    ]
}

/// Different frames from this many sources in the same network.
fn neighbours(count: u8, frame: impl Fn(IpAddr) -> Frame, v6: bool) -> Vec<Vec<u8>> {
    let address = |n: u8| -> IpAddr {
        if v6 {
            Ipv6Addr::new(0x2001, 0xdb8, 0, u16::from(n) + 1, 0, 0, 0, 1).into()
        } else {
            Ipv4Addr::new(192, 0, 2, 100 + n).into()
        }
    };
    (0..count).map(|n| frame(address(n)).build()).collect()
}

/// Frames from this many sources, each in another network.
fn strangers(count: u8, frame: impl Fn(IpAddr) -> Frame) -> Vec<Vec<u8>> {
    (0..count).map(|n| frame(Ipv4Addr::new(198, 18, n, 1).into()).build()).collect()
}

fn register(source: IpAddr) -> Frame {
    Frame::from(source).payload(messages::register())
}

fn prefixes() -> Vec<Case> {
    let world = World::default().prefix_limit(Class::Register, 5);
    let wide = World { prefix_lengths: [16, 32], ..world.clone() };
    let single = World { prefix_lengths: [32, 128], ..world.clone() };
    let everybody = World { prefix_lengths: [0, 0], ..world.clone() };
    let from = |source: &str| register(ip(source));
    let v4 = |count| neighbours(count, register, false);
    let v6 = |count| neighbours(count, register, true);
    vec![
        row("prefix: within", &from(V4), &world, Register).then(v4(4)),
        row("prefix: over", &from(V4), &world, PrefixLimit).then(v4(5)),
        row("prefix: ipv6, within", &from(V6), &world, Register).then(v6(4)),
        row("prefix: ipv6, over", &from(V6), &world, PrefixLimit).then(v6(5)),
        row("prefix: another one", &from("192.0.3.66"), &world, Register).then(v4(5)),
        row("prefix: another one, ipv6", &from("2001:db8:1::66"), &world, Register).then(v6(5)),
        row("prefix: the other family", &from(V6), &world, Register).then(v4(5)),
        row("prefix: /16, over", &from("192.0.3.66"), &wide, PrefixLimit).then(v4(5)),
        row("prefix: /16, another one", &from("192.1.2.66"), &wide, Register).then(v4(5)),
        row("prefix: /32, over", &from("2001:db8:1::66"), &wide, PrefixLimit).then(v6(5)),
        row("prefix: /32, another one", &from("2001:db9::66"), &wide, Register).then(v6(5)),
        row("prefix: /32 is one source", &from(V4), &single, Register).then(v4(5)),
        row("prefix: /128 is one source", &from(V6), &single, Register).then(v6(5)),
        row("prefix: /0 is everybody", &from("203.0.113.7"), &everybody, PrefixLimit).then(v4(5)),
        row(
            "prefix: another class",
            &Frame::from(ip(V4)).payload(messages::request("INVITE")),
            &world,
            Request,
        )
        .then(v4(5)),
        // A source over its own limit takes nothing from its neighbours.
        row("prefix: beside one over his own limit", &from(V4), &world.clone().limit(2), Register)
            .then(vec![from("192.0.2.99").build(); 50]),
    ]
}

fn shared() -> Vec<Case> {
    let world = World::default().shared_limit(Class::Register, 5);
    let from = |source: &str| register(ip(source));
    let peer = world.clone().peer(V4, Ends::In(600)).peer(V6, Ends::In(600));
    let syns = World::default().shared_limit(Class::Syn, 5);
    let open = |source| Frame::from(source).tcp(5060).tcp_flags(flag::SYN);
    let trusted = world.clone().trust("192.0.2.0/24");
    vec![
        row("shared: within", &from(V4), &world, Register).then(strangers(4, register)),
        row("shared: over", &from(V4), &world, SharedLimit).then(strangers(5, register)),
        row("shared: over, ipv6", &from(V6), &world, SharedLimit).then(strangers(5, register)),
        row("shared: over, far over", &from(V4), &world, SharedLimit)
            .then(strangers(250, register)),
        row("shared: over, trusted", &from(V4), &trusted, Trusted).then(strangers(5, register)),
        row("shared: a known peer", &from(V4), &peer, Known).then(strangers(250, register)),
        row("shared: a known peer, ipv6", &from(V6), &peer, Known).then(strangers(250, register)),
        row(
            "shared: another class",
            &Frame::from(ip(V4)).payload(messages::request("INVITE")),
            &world,
            Request,
        )
        .then(strangers(5, register)),
        row("shared: connections", &open(ip(V4)), &syns, SharedLimit).then(strangers(5, open)),
        row("shared: other segments", &Frame::from(ip(V4)).tcp(5060), &syns, TcpControl)
            .then(strangers(5, open)),
        // A source over its own limit, or over that of its network, takes nothing from the others.
        row("shared: beside one over his own limit", &from(V4), &world.clone().limit(2), Register)
            .then(vec![from("198.51.100.7").build(); 100]),
        row(
            "shared: beside a network over its limit",
            &from("203.0.113.7"),
            &world.clone().prefix_limit(Class::Register, 3),
            Register,
        )
        .then(neighbours(100, register, false)),
        // In a forged flood, each source has sent one packet, and none of them is banned.
        row(
            "shared: one of the forged, later",
            &register(Ipv4Addr::new(198, 18, 7, 1).into()),
            &world,
            Register,
        )
        .then(strangers(200, register))
        .then_wait(3_600_000 * 5),
    ]
}

/// Which limit is reported if several are reached, and what takes precedence over them.
fn order() -> Vec<Case> {
    let all = World::default()
        .source_limit(Class::Invite, 1)
        .prefix_limit(Class::Invite, 1)
        .shared_limit(Class::Invite, 1);
    let networks = World::default().prefix_limit(Class::Invite, 1).shared_limit(Class::Invite, 1);
    let banned = all.clone().ban(V4, filter_common::abi::SCOPE_SIP, Ends::Never);
    let invite = Frame::from(ip(V4)).payload(messages::request("INVITE"));
    vec![
        row("limits: the source's first", &invite, &all, Reason::InviteLimit).after(1),
        row("limits: then the network's", &invite, &networks, PrefixLimit).after(1),
        row("limits: a ban before all", &invite, &banned, Banned).after(1),
        row("limits: they fill with time", &invite, &all, Request).after(1).then_wait(3_601_000),
        row("limits: by one in an hour", &invite, &all, Reason::InviteLimit)
            .after(1)
            .then_wait(3_601_000)
            .then_same(1),
        row("limits: none of another port", &invite.clone().udp(5062), &all, Reason::OtherPort)
            .after(20),
    ]
}

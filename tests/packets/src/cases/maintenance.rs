//! Rows about SIP that is closed for maintenance.

use filter_common::abi::{SCOPE_ALL, SCOPE_SIP};
use std::net::{IpAddr, Ipv6Addr};

use filter_common::decision::Reason::{
    self, Banned, Flooding, Fragment, Known, KnownLimit, Maintenance, Malformed, OtherPort,
    OtherProtocol, PrefixLimit, Register, SharedLimit, StreamLimit, TcpControl, Trusted,
};

use super::Ends::{Ago, In, Never};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Extension, Frame, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The rows.
pub fn cases() -> Vec<Case> {
    [closed(), open(), returns()].concat()
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register())
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(format!("maintenance: {}", name.into()), frame.build(), expect).within(world.clone())
}

fn closed() -> Vec<Case> {
    let world = World::default().closed(In(600), false);
    let mut cases = Vec::new();
    for (name, payload) in messages::kinds() {
        for source in [V4, V6] {
            let frame = from(source).payload(&payload);
            cases.push(row(format!("{name} over udp, {source}"), &frame, &world, Maintenance));
            let frame = frame.tcp(5061);
            cases.push(row(format!("{name} over tcp, {source}"), &frame, &world, Maintenance));
        }
    }
    let syn = from(V4).tcp(5060).tcp_flags(flag::SYN).payload([]);
    let first = from(V6).extension(Extension::fragment(0, true));
    let forever = World::default().closed(Never, false);
    cases.extend([
        row("a connection", &syn, &world, Maintenance),
        row("a first fragment", &first, &world, Maintenance),
        row("again and again", &from(V4), &world, Maintenance).after(300),
        row("until then", &from(V4), &world, Maintenance).then_wait(599_999),
        row("then", &from(V4), &world, Register).then_wait(600_001),
        row("without end", &from(V4), &forever, Maintenance).then_wait(86_400_000),
        row("trusted", &from(V4), &world.clone().trust("192.0.2.0/24"), Trusted),
        row("watching", &from(V4), &world.clone().watching(), Maintenance),
        row("banned", &from(V4), &world.clone().ban(V4, SCOPE_SIP, Never), Banned),
        row("a flooder", &syn, &world.clone().flooder(V4, In(60)), Maintenance),
        row("one who is no longer known", &from(V4), &world.clone().peer(V4, Ago(1)), Maintenance),
        row("one who is not known any more", &from(V4), &world.peer(V4, In(60)), Maintenance)
            .then_wait(61_000),
    ]);
    cases
}

/// The packets that still pass.
fn open() -> Vec<Case> {
    let world = World::default().closed(In(600), false).peer(V4, In(600)).peer(V6, In(600));
    let to_all = World::default().closed(In(600), true).peer(V4, In(600)).peer(V6, In(600));
    let over = World::default().closed(Ago(0), true).peer(V4, In(600));
    let few = world.clone().known_limit(1).flood_after(1);
    let banned = world.clone().ban(V6, SCOPE_ALL, Never);
    vec![
        row("a known peer", &from(V4), &world, Known),
        row("a known peer, ipv6", &from(V6).tcp(5061), &world, Known),
        row("a known peer, closed to them too", &from(V4), &to_all, Maintenance),
        row("a known peer, closed to them too, ipv6", &from(V6).tcp(5061), &to_all, Maintenance),
        row("a known and trusted peer", &from(V4), &to_all.clone().trust("192.0.2.66/32"), Trusted),
        row("a known peer over its limit", &from(V4), &few, KnownLimit).after(1),
        row("a known peer that floods", &from(V4), &few, Flooding).after(2),
        row("a known peer that is banned", &from(V6), &banned, Banned),
        row("has ended", &from("192.0.2.67"), &over, Register),
        row("has ended, a known peer", &from(V4), &over, Known),
        row(
            "has ended, a connection",
            &from("192.0.2.67").tcp(5060).payload([]),
            &over,
            TcpControl,
        ),
        row("ssh", &from("192.0.2.67").tcp(22), &to_all, OtherPort),
        row("rtp", &from("192.0.2.67").udp(10_000), &to_all, OtherPort),
        row("icmp", &from("192.0.2.67").protocol(1), &to_all, OtherProtocol),
        row("a later fragment", &from("192.0.2.67").fragment(9, false), &to_all, Fragment),
        row("malformed", &from("192.0.2.67").udp_len(7), &to_all, Malformed),
    ]
}

/// Phones of one network that come back over TCP, each with the bytes that it sends until it is known.
fn returns() -> Vec<Case> {
    const BYTES: usize = 1200;
    let phone = |source: IpAddr| {
        let empty = messages::request_with("REGISTER", "X-Pad: \r\n", "");
        let padding = "x".repeat(BYTES - empty.len());
        let register = messages::request_with("REGISTER", &format!("X-Pad: {padding}\r\n"), "");
        Frame::from(source).tcp(5060).payload(register)
    };
    let phones = |count: u16| {
        let address = |n| Ipv6Addr::new(0x2001, 0xdb8, 0, n + 1, 0, 0, 0, 1).into();
        (0..count).map(move |n| phone(address(n)).build())
    };
    let of_one_64 = |count: u16| {
        let address = |n| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, n).into();
        (0..count).map(move |n| phone(address(n)).build())
    };
    let usual = World::default();
    let after = usual.clone().after_maintenance();
    let last = phone(ip(V6));
    let row = |name: &str, world: &World, expect| row(name, &last, world, expect);
    vec![
        row("as usual, the 106th phone of a network", &usual, Register).then(phones(105)),
        row("as usual, the 107th phone of a network", &usual, PrefixLimit).then(phones(106)),
        row("as usual, the 26th phone of a /64", &usual, Register).then(of_one_64(25)),
        row("as usual, the 27th phone of a /64", &usual, StreamLimit).then(of_one_64(26)),
        row("has ended, the 500th phone of a network", &after, Register).then(phones(499)),
        row("has ended, the 500th phone of a /64", &after, Register).then(of_one_64(499)),
        // The limits of all sources, and of a connection, are as always.
        row("has ended, the 541st phone of a network", &after, Register).then(phones(540)),
        row("has ended, the 542nd phone of a network", &after, SharedLimit).then(phones(541)),
        row("has ended, 20 on one connection", &after, Register).after(19),
        row("has ended, 21 on one connection", &after, StreamLimit).after(20),
    ]
}

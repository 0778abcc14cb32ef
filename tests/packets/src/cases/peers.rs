//! Rows about known peers.

use filter_common::abi::{SCOPE_ALL, SCOPE_SIP};
use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Banned, BannedNetwork, Flooding, Fragment, Known, KnownLimit, NotConfigured, OtherPort,
    Register, RegisterLimit, Trusted,
};

use super::Ends::{Ago, In, Never};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Extension, Frame, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The rows.
pub fn cases() -> Vec<Case> {
    [known(), limits(), floods()].concat()
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register())
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

fn known() -> Vec<Case> {
    let world = World::default().limit(1).peer(V4, In(600)).peer(V6, In(600));
    let over = World::default().limit(1).peer(V4, Ago(1));
    let scanner = world.clone().signature("friendly-scanner*");
    let agent = messages::request_with("REGISTER", "User-Agent: friendly-scanner\r\n", "");
    let mut cases = vec![
        row("known: not any more", &from(V4), &over, Register),
        row("known: until now", &from(V4), &World::default().peer(V4, Ago(0)), Register),
        row("known: not any more, over the limit", &from(V4), &over, RegisterLimit).after(1),
        row("known: the neighbour", &from("192.0.2.67"), &world, RegisterLimit).after(1),
        row("known: not any more, by time", &from(V4), &world, Register).then_wait(601_000),
        row("known: until then", &from(V4), &world, Known).then_wait(599_000),
        row("known: another port", &from(V4).udp(53), &world, OtherPort),
        row("known: later fragment", &from(V4).fragment(9, false), &world, Fragment),
        row(
            "known: with the User-Agent of a scanner",
            &Frame::from(ip(V4)).payload(agent),
            &scanner,
            Known,
        ),
        row("known: banned", &from(V4), &world.clone().ban(V4, SCOPE_SIP, Never), Banned),
        row(
            "known: its network banned",
            &from(V6),
            &world.clone().ban_network("2001:db8::/32", SCOPE_ALL, Never),
            BannedNetwork,
        ),
        row(
            "known: not configured",
            &from(V4),
            &World { abi: None, ..world.clone() },
            NotConfigured,
        ),
    ];
    for (name, payload) in messages::kinds() {
        for source in [V4, V6] {
            let frame = Frame::from(ip(source)).payload(&payload);
            let name = |transport| format!("known: {name} over {transport}, {source}");
            cases.push(row(name("udp"), &frame, &world, Known).after(20));
            cases.push(row(name("tcp"), &frame.tcp(5061), &world, Known).after(20));
        }
    }
    let syn = from(V4).tcp(5060).tcp_flags(flag::SYN).payload([]);
    let first = from(V6).extension(Extension::fragment(0, true));
    cases.push(row("known: opens a connection", &syn, &world, Known).after(20));
    cases.push(row("known: a first fragment", &first, &world, Known).after(20));
    cases
}

fn limits() -> Vec<Case> {
    let world = World::default().known_limit(3).peer(V4, In(600)).peer(V6, In(600));
    let trusted = world.clone().trust("192.0.2.66/32");
    vec![
        row("known limit: within", &from(V4), &world, Known).after(2),
        row("known limit: over", &from(V4), &world, KnownLimit).after(3),
        row("known limit: over, ipv6", &from(V6), &world, KnownLimit).after(3),
        row("known limit: over, whatever it sends", &from(V4).payload([]), &world, KnownLimit)
            .then(vec![from(V4).build(); 2])
            .then([from(V4).tcp(5060).build()]),
        row("known limit: another peer", &from(V6), &world, Known).then(vec![from(V4).build(); 20]),
        row("known limit: another port", &from(V4).udp(53), &world, OtherPort).then(vec![
            from(V4)
                .build(
                );
            20
        ]),
        row("known limit: trusted", &from(V4), &trusted, Trusted).after(3),
        row("known limit: watching", &from(V4), &world.clone().watching(), KnownLimit).after(3),
        row(
            "known limit: an hour later",
            &from(V4),
            &World { peers: Vec::new(), ..world.clone() }.peer(V4, Never),
            Known,
        )
        .after(3)
        .then_wait(3_601_000),
        // Over its limit, it cannot use the limits of unknown sources either.
        row("known limit: unknown sources have theirs", &from("192.0.2.67"), &world, Register)
            .then(vec![from(V4).build(); 20]),
    ]
}

fn floods() -> Vec<Case> {
    let world = World::default().known_limit(3).flood_after(4).peer(V4, In(600)).peer(V6, In(600));
    let trusted = world.clone().trust("192.0.2.66/32");
    let of_syns = world.clone().source_limit(Class::Syn, 3);
    let tcp = from(V4).tcp(5060);
    let (syn, control) = (
        Frame::from(ip(V4)).tcp(5060).tcp_flags(flag::SYN),
        Frame::from(ip(V4)).tcp(5060).tcp_flags(flag::ACK),
    );
    vec![
        row("known flood: still over the limit alone", &from(V4), &world, KnownLimit).after(6),
        row("known flood: goes on", &from(V4), &world, Flooding).after(7),
        row("known flood: goes on, ipv6", &from(V6), &world, Flooding).after(7),
        row("known flood: while banned", &from(V4), &world, Flooding).after(30),
        row("known flood: while banned, tcp", &tcp, &world, Flooding)
            .then(vec![from(V4).build(); 8]),
        // A flood over UDP may be forged, and must not end the connections of the peer.
        row("known flood: while banned, a connection", &tcp, &world.clone().connect(V4), Known)
            .then(vec![from(V4).build(); 8]),
        row("known flood: over the limit, a connection", &tcp, &world.clone().connect(V4), Known)
            .then(vec![from(V4).build(); 4]),
        row("known flood: of a connection", &tcp, &world.clone().connect(V4), Flooding)
            .then(vec![from(V4).build(); 8])
            .then_same(3),
        row("known flood: of a connection, for long", &tcp, &world.clone().connect(V4), Flooding)
            .after(30),
        row("known flood: it connects again", &syn, &world, Known).then(vec![from(V4).build(); 8]),
        row("known flood: it connects as often as others may", &syn, &of_syns, Known)
            .then(vec![from(V4).build(); 8])
            .then_same(2),
        row("known flood: it connects more often", &syn, &of_syns, Flooding)
            .then(vec![from(V4).build(); 8])
            .then_same(3),
        row("known flood: it acknowledges", &control, &world, Known)
            .then(vec![from(V4).build(); 8]),
        row("known flood: while banned, another port", &from(V4).udp(53), &world, OtherPort)
            .then(vec![from(V4).build(); 8]),
        row("known flood: another peer", &from(V6), &world, Known).then(vec![from(V4).build(); 30]),
        row("known flood: nearly a minute later", &from(V4), &world, Flooding)
            .after(8)
            .then_wait(59_000),
        row("known flood: a minute later", &from(V4), &world, Flooding).after(8).then_wait(60_001),
        row(
            "known flood: when its limits have filled",
            &from(V4),
            &World { peers: Vec::new(), ..world.clone() }.peer(V4, Never),
            Known,
        )
        .after(8)
        .then_wait(3_601_000),
        row("known flood: trusted", &from(V4), &trusted, Trusted).after(8),
        row("known flood: watching", &from(V4), &world.clone().watching(), Flooding).after(8),
        row(
            "known flood: no longer known",
            &from(V4),
            &world.clone().source_limit(Class::Register, 1),
            Register,
        )
        .after(8)
        .then_wait(601_000),
    ]
}

//! Rows about continued floods over TCP, and the program's own short bans.

use filter_common::abi::SCOPE_SIP;
use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Banned, Flooding, Known, OtherPort, Register, RegisterLimit, Request, SynLimit,
    TcpControl, Trusted,
};

use super::Ends::{Ago, In};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Frame, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";
const V6_NEIGHBOUR: &str = "2001:db8::67";

/// The number of packets within the limit, and of packets over it.
const BURST: usize = 2;
const EXCESS: usize = 4;

/// The rows.
pub fn cases() -> Vec<Case> {
    [going_on(), banned()].concat()
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

fn tcp(source: &str) -> Frame {
    Frame::from(ip(source)).tcp(5060).payload(messages::register())
}

fn world() -> World {
    World::default().limit(BURST as u64).flood_after(EXCESS as u64)
}

fn going_on() -> Vec<Case> {
    let proven = world().connect(V4).connect(V6);
    let far = BURST + EXCESS + 20;
    let options = |source| Frame::from(ip(source)).tcp(5060).payload(messages::request("OPTIONS"));
    let syn = |source| Frame::from(ip(source)).tcp(5060).tcp_flags(flag::SYN);
    let of_options = proven.clone().source_limit(Class::Options, BURST as u64);
    let of_syns = world().source_limit(Class::Syn, BURST as u64);
    let udp = Frame::from(ip(V4)).payload(messages::register());
    vec![
        row("flood: the last that is over the limit alone", &tcp(V4), &proven, RegisterLimit)
            .after(BURST + EXCESS - 1),
        row("flood: goes on", &tcp(V4), &proven, Flooding).after(BURST + EXCESS),
        row("flood: goes on, ipv6", &tcp(V6), &proven, Flooding).after(BURST + EXCESS),
        row("flood: goes on for long", &tcp(V4), &proven, Flooding).after(far),
        row("flood: goes on, of options", &options(V4), &of_options, Flooding)
            .after(BURST + EXCESS),
        // Neither without a connection nor from another port of it.
        row("flood: of who has no connection", &tcp(V4), &world(), RegisterLimit).after(far),
        row("flood: of who has no connection, ipv6", &tcp(V6), &world(), RegisterLimit).after(far),
        row("flood: from another port", &tcp(V4).source_port(40_001), &proven, RegisterLimit)
            .after(far),
        row("flood: to another port", &tcp(V4).tcp(5061), &proven, RegisterLimit).after(far),
        row("flood: of connections", &syn(V4), &of_syns, SynLimit).after(far),
        // A source over UDP may be forged, so it is only limited.
        row("flood: over udp", &udp, &proven, RegisterLimit).after(200),
        row("flood: over udp leaves tcp alone", &options(V4), &proven, Request)
            .then(vec![udp.build(); 200]),
        row("flood: udp while it is banned", &udp, &proven, RegisterLimit).then(vec![
            tcp(V4)
                .build();
            far
        ]),
        row("flood: all over tcp while it is banned", &options(V4), &proven, Flooding)
            .then(vec![tcp(V4).build(); far]),
        row("flood: another port while it is banned", &tcp(V4).tcp(22), &proven, OtherPort)
            .then(vec![tcp(V4).build(); far]),
        row("flood: another source while it is banned", &tcp(V6), &proven, Register).then(vec![
            tcp(
                V4
            )
            .build(
            );
            far
        ]),
        row("flood: another address of its /64", &tcp(V6_NEIGHBOUR), &proven, Flooding)
            .then(vec![tcp(V6).build(); far]),
        row("flood: another /64", &tcp("2001:db8:0:1::66"), &proven, Register).then(vec![
            tcp(V6)
                .build(
                );
            far
        ]),
        row("flood: trusted", &tcp(V4), &proven.clone().trust("192.0.2.66/32"), Trusted).after(far),
        row("flood: watching", &tcp(V4), &proven.clone().watching(), Flooding).after(far),
        row("flood: nearly a minute later", &tcp(V4), &proven, Flooding)
            .after(BURST + EXCESS + 1)
            .then_wait(59_000),
        row("flood: another request a minute later", &options(V4), &proven, Request)
            .then(vec![tcp(V4).build(); far])
            .then_wait(61_000),
        row("flood: again a minute later", &tcp(V4), &proven, Flooding)
            .after(far)
            .then_wait(61_000),
        row("flood: several hours later", &tcp(V4), &proven, Register)
            .after(far)
            .then_wait(5 * 3_600_000),
    ]
}

/// Sources that the program has banned.
fn banned() -> Vec<Case> {
    let world = World::default().flooder(V4, In(60)).flooder(V6, In(60));
    let over = World::default().flooder(V4, Ago(0));
    let known = world.clone().peer(V4, In(600));
    let manual = world.clone().ban(V4, SCOPE_SIP, In(60));
    let udp = Frame::from(ip(V4)).payload(messages::register());
    let segment = |flags| Frame::from(ip(V4)).tcp(5060).tcp_flags(flags);
    vec![
        row("flooder: a request", &tcp(V4), &world, Flooding),
        row("flooder: a request, ipv6", &tcp(V6), &world, Flooding),
        row("flooder: to tls", &tcp(V4).tcp(5061), &world, Flooding),
        row("flooder: opens a connection", &segment(flag::SYN), &world, Flooding),
        row("flooder: acknowledges", &segment(flag::ACK), &world, Flooding),
        row("flooder: the rest of a stream", &tcp(V4).payload("more of it"), &world, Flooding),
        row("flooder: over udp", &udp, &world, Register),
        row("flooder: to another port", &tcp(V4).tcp(22), &world, OtherPort),
        row("flooder: the neighbour", &tcp("192.0.2.67"), &world, Register),
        row("flooder: the neighbour in its /64", &tcp(V6_NEIGHBOUR), &world, Flooding),
        row("flooder: the next /64", &tcp("2001:db8:0:1::66"), &world, Register),
        row(
            "flooder: known in its /64",
            &tcp(V6_NEIGHBOUR),
            &world.clone().peer(V6_NEIGHBOUR, In(600)),
            Known,
        ),
        row(
            "flooder: trusted in its /64",
            &tcp(V6_NEIGHBOUR),
            &world.clone().trust("2001:db8::67/128"),
            Trusted,
        ),
        row(
            "flooder: the neighbour on a link",
            &tcp("fe80::67"),
            &World::default().flooder("fe80::66", In(60)),
            Register,
        ),
        row(
            "flooder: the neighbour behind NAT64",
            &tcp("64:ff9b::c000:243"),
            &World::default().flooder("64:ff9b::c000:242", In(60)),
            Register,
        ),
        row("flooder: until then", &tcp(V4), &world, Flooding).then_wait(59_999),
        row("flooder: then", &tcp(V4), &world, Register).then_wait(60_001),
        row("flooder: not any more", &segment(flag::ACK), &over, TcpControl),
        row("flooder: trusted", &tcp(V4), &world.clone().trust("192.0.2.0/24"), Trusted),
        row("flooder: now known", &tcp(V4), &known, Known),
        row("flooder: and banned", &tcp(V4), &manual, Banned),
        row(
            "flooder: opens more connections than it may",
            &segment(flag::SYN),
            &World::default().source_limit(Class::Syn, 1),
            SynLimit,
        )
        .after(1),
    ]
}

//! Rows about sources from whose countries or autonomous systems SIP is not admitted.

use filter_common::abi::{SCOPE_SIP, SCOPE_THROTTLE};
use filter_common::decision::Reason::{
    self, Banned, ClosedPort, Geo, Known, OtherPort, Register, RegisterLimit, Request, TcpControl,
    Throttled, Trusted,
};

use super::{Case, Ends, World, ip, messages};
use crate::packet_builder::{Frame, flag};

/// The rows.
pub fn cases() -> Vec<Case> {
    [places(), packets(), sources(), others()].concat()
}

fn world() -> World {
    World::default()
        .shut("192.0.2.0/24")
        .shut("203.0.113.0/24")
        .shut("2001:db8::/32")
        .shut_except("2001:db8:1::/48")
        .shut("2001:db8:1:7::/64")
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(format!("geo: {}", name.into()), frame.build(), expect).within(world.clone())
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register())
}

fn places() -> Vec<Case> {
    let table = [
        ("192.0.2.0", Geo),
        ("192.0.2.255", Geo),
        ("192.0.1.255", Register),
        ("192.0.3.0", Register),
        ("203.0.113.7", Geo),
        ("198.51.100.7", Register),
        ("2001:db8::1", Geo),
        ("2001:db8:ffff:ffff:ffff:ffff:ffff:ffff", Geo),
        ("2001:db7::1", Register),
        ("2001:db8:1::1", Register),
        ("2001:db8:1:7::1", Geo),
        ("2001:db8:1:8::1", Register),
    ];
    table.into_iter().map(|(source, expect)| row(source, &from(source), &world(), expect)).collect()
}

fn packets() -> Vec<Case> {
    let of = |payload: Vec<u8>| Frame::from(ip("192.0.2.66")).payload(payload);
    let syn = of(Vec::new()).tcp(5060).tcp_flags(flag::SYN);
    let mut cases = vec![
        row("a connection request", &syn, &world(), Geo),
        row("a segment", &of(messages::register()).tcp(5060), &world(), Geo),
        row("an acknowledgement", &of(Vec::new()).tcp(5060), &world(), Geo),
        row("over tls", &of(vec![22, 3, 1]).tcp(5061).tcp_flags(flag::SYN), &world(), Geo),
        row("an answer of a server", &of(messages::response("200 OK")), &world(), Geo),
        row("nothing", &of(Vec::new()), &world(), Geo),
        row("another port", &from("192.0.2.66").udp(53), &world(), OtherPort),
        row("no flag", &syn, &World::default(), TcpControl),
        row("no flag, but networks", &syn, &World { geo_off: true, ..world() }, TcpControl),
    ];
    cases.push(row("with credentials", &of(messages::register_with_credentials()), &world(), Geo));
    cases
}

fn sources() -> Vec<Case> {
    let known = world().peer("192.0.2.66", Ends::Never).peer("2001:db8::66", Ends::In(60));
    let gone = world().peer("192.0.2.66", Ends::Ago(1));
    let trusted = world().trust("192.0.2.64/26");
    let banned = world().ban("192.0.2.66", SCOPE_SIP, Ends::Never);
    let throttled = world().throttle("192.0.2.66", SCOPE_THROTTLE, Ends::Never);
    let elsewhere = world().throttle("198.51.100.7", SCOPE_THROTTLE, Ends::Never);
    let frame = from("192.0.2.66");
    vec![
        row("known", &frame, &known, Known),
        row("known, ipv6", &from("2001:db8::66"), &known, Known),
        row("no longer known", &frame, &gone, Geo),
        row("trusted", &frame, &trusted, Trusted),
        row("beside a trusted one", &from("192.0.2.6"), &trusted, Geo),
        row("banned", &frame, &banned, Banned),
        row("throttled", &frame, &throttled, Geo),
        row("throttled, and sent again", &frame, &throttled, Geo).after(1).then_wait(1000),
        row("throttled elsewhere", &from("198.51.100.7"), &elsewhere, Throttled),
    ]
}

fn others() -> Vec<Case> {
    let closed = world().guard(false, 5060, 0);
    let limited = world().limit(1).shared_limit(filter_common::class::Class::Register, 2);
    vec![
        row("at a port that is closed too", &from("192.0.2.66"), &closed, ClosedPort),
        // What is shut out consumes nothing that others share.
        row("a flood, seen by another source", &from("198.51.100.7"), &limited, Register)
            .after_other(100, from("192.0.2.66").build()),
        row("in a dry run of everything", &from("192.0.2.66"), &world().watching(), Geo),
        row("in a dry run", &from("192.0.2.66"), &dry(), Register),
        row("in a dry run, over a limit", &from("192.0.2.66"), &dry().limit(1), RegisterLimit)
            .after(1),
        row(
            "in a dry run, another request",
            &Frame::from(ip("2001:db8::66")).payload(messages::request("OPTIONS")),
            &dry(),
            Request,
        ),
    ]
}

fn dry() -> World {
    World { geo_dry_run: true, ..world() }
}

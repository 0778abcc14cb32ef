//! Rows about the greylist: packets that are admitted when the budget of all unknown sources is
//! exhausted.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use filter_common::address::Address;
use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Admitted, Geo, Greylist, Known, NotSip, Register, RegisterCredentials, RegisterLimit,
    Request, SharedLimit, Trusted,
};
use filter_common::limits::GREYLIST_LINES;

use super::{Case, Ends, Limit, World, ip, messages};
use crate::packet_builder::{Extension, Frame};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The rows.
pub fn cases() -> Vec<Case> {
    [retransmissions(), full_lines(), sources(), limits(), classes()].concat()
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

/// A budget of two, and a greylist.
fn world() -> World {
    World::default().shared_limit(Class::Register, 2).greylisting()
}

/// A flood that has exhausted the budget.
fn flood() -> Vec<Vec<u8>> {
    let source = |n| -> IpAddr { Ipv4Addr::new(198, 18, n, 1).into() };
    (0..4).map(|n| Frame::from(source(n)).payload(messages::register()).build()).collect()
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register())
}

/// A row after the flood.
fn flooded(name: &str, frame: &Frame, expect: Reason) -> Case {
    row(format!("greylist: {name}"), frame, &world(), expect).then(flood())
}

/// A row after the flood and two REGISTERs of 192.0.2.66, half a second apart.
fn admitted(name: &str, frame: &Frame, expect: Reason) -> Case {
    let register = from(V4).build();
    flooded(name, frame, expect).then([register.clone()]).then_wait(500).then([register])
}

fn retransmissions() -> Vec<Case> {
    let short = messages::register()[..63].to_vec();
    let (udp, tcp) = (from(V4).payload(short.clone()), from(V4).tcp(5060).payload(short));
    let mut cases = vec![
        flooded("63 bytes again", &udp, Greylist).then_same(1).then_wait(500),
        flooded("63 bytes again, tcp", &tcp, Admitted).then_same(1).then_wait(500),
        flooded("the first", &from(V4), Greylist),
        flooded("the first, ipv6", &from(V6), Greylist),
        flooded("the same at once", &from(V4), Greylist).then_same(1),
        flooded("the same many times at once", &from(V4), Greylist).then_same(50),
        flooded("the same after a tenth of a second", &from(V4), Greylist)
            .then_same(1)
            .then_wait(100),
        flooded("the same after 500 ms", &from(V4), Admitted).then_same(1).then_wait(500),
        flooded("the same after 500 ms, ipv6", &from(V6), Admitted).then_same(1).then_wait(500),
        flooded("the same after 500 ms, tcp", &from(V4).tcp(5060), Admitted)
            .then_same(1)
            .then_wait(500),
        flooded("a duplicate does not start anew", &from(V4), Admitted)
            .then_same(1)
            .then_wait(100)
            .then_same(1)
            .then_wait(400),
        flooded("the same after 31 s", &from(V4), Admitted).then_same(1).then_wait(31_000),
        flooded("the same after 40 s", &from(V4), Greylist).then_same(1).then_wait(40_000),
        flooded("the same 500 ms after that", &from(V4), Admitted)
            .then_same(1)
            .then_wait(40_000)
            .then_same(1)
            .then_wait(500),
    ];
    // Timer E of RFC 3261 for a phone that gets no answer.
    let mut lost = flooded("the fourth when three were let in", &from(V4), Admitted).then_same(1);
    for wait in [500, 1000, 2000] {
        lost = lost.then_wait(wait).then_same(1);
    }
    cases.push(lost.then_wait(4000));
    // Another branch, Call-ID or sequence number is another request.
    let message = String::from_utf8(messages::register()).expect("text");
    for (part, other) in [
        ("z9hG4bK-776asdhds", "z9hG4bK-776asdhdt"),
        ("a84b4c76e66710", "a84b4c76e66711"),
        ("tag=1928301774", "tag=1928301775"),
        ("sip:600@192.0.2.10>;tag", "sip:601@192.0.2.10>;tag"),
    ] {
        let other = message.replacen(part, other, 1);
        assert_ne!(other, message);
        let case = flooded(&format!("another one by {part}"), &from(V4), Greylist);
        cases.push(case.then([from(V4).payload(other).build()]).then_wait(500));
    }
    cases
}

/// REGISTERs of fifteen other sources that are recorded in the same line.
fn of_the_same_line(source: IpAddr) -> Vec<Vec<u8>> {
    let line = |source: IpAddr| {
        Address::from(source).network64().hash(World::SEED) & u64::from(GREYLIST_LINES - 1)
    };
    let own = line(source);
    let others = (0x0a00_0000..0x0b00_0000).map(|bits: u32| IpAddr::from(Ipv4Addr::from(bits)));
    let others = others.filter(|other| line(*other) == own).take(15);
    others.map(|other| Frame::from(other).payload(messages::register()).build()).collect()
}

/// A line has room for fifteen requests, and keeps the first ones.
fn full_lines() -> Vec<Case> {
    let behind = [b"\r\n".as_slice(), &messages::register()].concat();
    let (v4, v6) = (of_the_same_line(ip(V4)), of_the_same_line(ip(V6)));
    let mut cases = Vec::new();
    for (what, frame, others) in [
        ("udp", from(V4), &v4),
        ("ipv6", from(V6), &v6),
        ("behind a line feed", from(V4).payload(behind), &v4),
        ("tcp", from(V4).tcp(5060), &v4),
    ] {
        let row = |name: &str, expect| flooded(&format!("{name}, {what}"), &frame, expect);
        let again = |case: Case| case.then_same(1).then_wait(500);
        let beside = |count| others.iter().take(count).cloned();
        cases.extend([
            again(row("again beside 14 others", Admitted).then(beside(14))),
            again(row("again beside 15 others", Greylist).then(beside(15))),
            again(row("again after 15 others", Admitted).then(beside(15)).then_wait(800)),
        ]);
    }
    let shut = world().shut("192.0.2.0/24");
    let shut = row("greylist: shut out, beside 15 others", &from(V4), &shut, Geo).then(flood());
    let options = Frame::from(ip(V4)).payload(messages::request("OPTIONS"));
    let options = flooded("another request beside 15 others", &options, Request);
    let short = from(V4).udp_len(15);
    let short = flooded("a REGISTER behind its end, beside 15 others", &short, NotSip);
    cases.extend([shut, options, short].map(|case| case.then(v4.clone())));
    // A full line is no reason to drop anything within the budget.
    let mut refilled = world();
    refilled.shared[Class::Register.index()] =
        Some(Limit { events: 5, period: Duration::from_secs(1), burst: 2 });
    for (what, wait, expect) in [("before", 100, Greylist), ("when", 300, Register)] {
        let name = format!("greylist: {what} the budget has room again, beside 15 others");
        cases.push(
            row(name, &from(V4), &refilled, expect).then(flood()).then(v4.clone()).then_wait(wait),
        );
    }
    cases
}

fn sources() -> Vec<Case> {
    let credentials =
        |source| Frame::from(ip(source)).payload(messages::register_with_credentials());
    let same = from("192.0.2.67");
    let countries = World { greylist: false, ..world() }.shut("203.0.113.0/24");
    vec![
        admitted("with credentials when let in", &credentials(V4), Admitted),
        admitted("with credentials seven seconds later", &credentials(V4), Admitted)
            .then_wait(7000),
        admitted("with credentials ten seconds later", &credentials(V4), Greylist)
            .then_wait(10_000),
        admitted(
            "another request when let in",
            &from(V4).payload(messages::register_compact()),
            Admitted,
        ),
        admitted("the neighbour", &same, Greylist),
        admitted("the neighbour's credentials", &credentials("192.0.2.67"), Greylist),
        admitted("another family", &from(V6), Greylist),
        flooded("the same of another source after 500 ms", &same, Greylist)
            .then([from(V4).build()])
            .then_wait(500),
        flooded("credentials alone", &credentials(V4), Greylist),
        flooded("credentials alone, again", &credentials(V4), Admitted).then_same(1).then_wait(500),
        row("greylist: trusted", &from(V4), &world().trust("192.0.2.0/24"), Trusted).then(flood()),
        row("greylist: known", &from(V4), &world().peer(V4, Ends::In(60)), Known).then(flood()),
        row("greylist: watching", &from(V4), &world().watching(), Greylist).then(flood()),
        row("greylist: not over the budget", &from(V4), &world(), Register).after(1),
        row("greylist: an answer after a flood", &credentials(V4), &world(), Admitted)
            .then([from(V4).build()])
            .then(flood()),
        row("greylist: none", &from(V4), &World { greylist: false, ..world() }, SharedLimit)
            .then(flood())
            .then_same(1)
            .then_wait(500),
        row("greylist: none, with countries", &from(V4), &countries, SharedLimit).then(flood()),
        row(
            "greylist: credentials within the budget",
            &credentials(V4),
            &world(),
            RegisterCredentials,
        )
        .after(1),
        row(
            "greylist: over the budget of credentials",
            &credentials(V4),
            &World::default().shared_limit(Class::Credentials, 2).greylisting(),
            Greylist,
        )
        .after(2),
        flooded("a first fragment", &from(V6).extension(Extension::fragment(0, true)), Greylist),
        flooded("a first fragment, again", &from(V4).fragment(0, true), Admitted)
            .then_same(1)
            .then_wait(500),
    ]
}

/// Admitted packets are limited too.
fn limits() -> Vec<Case> {
    let few = world().admitted_limit(2);
    let own = world().limit(2);
    let few_own = world().limit(2).admitted_limit(1);
    let again = |case: Case| case.then_same(1).then_wait(500);
    vec![
        again(row("greylist: within what is let in", &from(V4), &few, Admitted).then(flood()))
            .then_same(1),
        again(row("greylist: over what is let in", &from(V4), &few, SharedLimit).then(flood()))
            .then_same(2),
        again(
            row("greylist: over what is let in, another", &from(V6), &few, SharedLimit)
                .then(flood()),
        )
        .then(vec![from(V4).build()])
        .then_wait(500)
        .then(vec![from(V4).build(); 2]),
        // It does not consume its source's limit either.
        again(
            row("greylist: not let in many times", &from(V4), &few_own, SharedLimit).then(flood()),
        )
        .then_same(20),
        again(row("greylist: within its own limit", &from(V4), &own, Admitted).then(flood()))
            .then_same(1),
        again(row("greylist: over its own limit", &from(V4), &own, RegisterLimit).then(flood()))
            .then_same(2),
    ]
}

/// Only a REGISTER is admitted.
fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for (class, method) in [
        (Class::Invite, "INVITE"),
        (Class::Options, "OPTIONS"),
        (Class::Subscribe, "SUBSCRIBE"),
        (Class::Other, "MESSAGE"),
    ] {
        let world = World::default().shared_limit(class, 2).greylisting();
        let frame = Frame::from(ip(V4)).payload(messages::request(method));
        let name = format!("greylist: no {method} over the budget");
        cases.push(row(name, &frame, &world, SharedLimit).after(3).then_wait(500));
        let frame = Frame::from(ip(V4)).payload(messages::request(method));
        cases.push(flooded(&format!("{method} has a budget of its own"), &frame, Request));
    }
    cases
}

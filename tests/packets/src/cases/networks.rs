//! Rows about networks inside each other, and exceptions from their bans.

use filter_common::abi::{SCOPE_ALL, SCOPE_NAMED, SCOPE_SIP};
use filter_common::decision::Reason::{self, Banned, BannedNetwork, OtherPort, Request, Trusted};

use super::Ends::{Ago, In, Never};
use super::{Case, World, ip, messages};
use crate::packet_builder::Frame;

const SSH: u8 = SCOPE_NAMED;

/// The rows.
pub fn cases() -> Vec<Case> {
    [exceptions(), nested(), lengths()].concat()
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::request("OPTIONS"))
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect).within(world.clone())
}

fn exceptions() -> Vec<Case> {
    let v4 = World::default()
        .ban_network("203.0.112.0/20", SCOPE_ALL, Never)
        .exception("203.0.113.0/24")
        .ban_network("203.0.113.128/25", SCOPE_SIP, In(600))
        .exception("203.0.113.200/32");
    let v6 = World::default()
        .ban_network("2001:db8::/32", SCOPE_SIP, In(600))
        .exception("2001:db8:1::/48")
        .exception("2001:db8:2::7/128");
    let alone = World::default().exception("203.0.113.0/24");
    let banned = v4.clone().ban("203.0.113.7", SCOPE_SIP, In(600));
    let everything =
        World::default().ban_network("0.0.0.0/0", SCOPE_ALL, Never).exception("203.0.113.0/24");
    vec![
        row("exception: outside", &from("203.0.112.7"), &v4, BannedNetwork),
        row("exception: inside", &from("203.0.113.7"), &v4, Request),
        row("exception: inside, another port", &from("203.0.113.7").tcp(22), &v4, OtherPort),
        row("exception: its first address", &from("203.0.113.0"), &v4, Request),
        row("exception: behind it", &from("203.0.114.0"), &v4, BannedNetwork),
        row("exception: a ban inside", &from("203.0.113.129"), &v4, BannedNetwork),
        row(
            "exception: a ban inside, another port",
            &from("203.0.113.129").tcp(22),
            &v4,
            OtherPort,
        ),
        row("exception: an exception in the ban inside", &from("203.0.113.200"), &v4, Request),
        row("exception: a ban of an address inside", &from("203.0.113.7"), &banned, Banned),
        row("exception: ipv6, outside", &from("2001:db8:3::7"), &v6, BannedNetwork),
        row("exception: ipv6, inside", &from("2001:db8:1::7"), &v6, Request),
        row("exception: ipv6, one address", &from("2001:db8:2::7"), &v6, Request),
        row("exception: ipv6, its neighbour", &from("2001:db8:2::8"), &v6, BannedNetwork),
        row("exception: in nothing", &from("203.0.113.7"), &alone, Request),
        row("exception: in everything", &from("203.0.113.7"), &everything, Request),
        row("exception: outside, all of ipv4", &from("198.51.100.7"), &everything, BannedNetwork),
    ]
}

fn nested() -> Vec<Case> {
    let world = World::default()
        .named(SSH, true, 22..=22)
        .ban_network("203.0.0.0/16", SSH, In(600))
        .ban_network("203.0.113.0/24", SCOPE_SIP, In(10))
        .ban_network("203.0.113.64/26", SCOPE_ALL, Ago(1));
    let trusted = world.clone().trust("203.0.113.0/25");
    let shorter = World::default().ban_network("203.0.0.0/16", SCOPE_SIP, In(600)).ban_network(
        "203.0.113.0/24",
        SCOPE_SIP,
        In(10),
    );
    let longer = World::default().ban_network("203.0.0.0/16", SCOPE_SIP, In(10)).ban_network(
        "203.0.113.0/24",
        SCOPE_SIP,
        In(600),
    );
    vec![
        row("nested: sip in the wide one", &from("203.0.1.1"), &world, Request),
        row("nested: ssh in the wide one", &from("203.0.1.1").tcp(22), &world, BannedNetwork),
        row("nested: sip in the narrow one", &from("203.0.113.1"), &world, BannedNetwork),
        row("nested: ssh in the narrow one", &from("203.0.113.1").tcp(22), &world, BannedNetwork),
        row("nested: what neither closes", &from("203.0.113.1").udp(53), &world, OtherPort),
        row("nested: the narrowest is over, sip", &from("203.0.113.65"), &world, BannedNetwork),
        row("nested: the narrowest is over, all", &from("203.0.113.65").udp(53), &world, OtherPort),
        row("nested: trusted", &from("203.0.113.1"), &trusted, Trusted),
        row("nested: beside the trusted", &from("203.0.113.129"), &trusted, BannedNetwork),
        row("nested: the narrow one's end", &from("203.0.113.1"), &world, Request)
            .then_wait(11_000),
        row(
            "nested: the wide one behind that",
            &from("203.0.113.1").tcp(22),
            &world,
            BannedNetwork,
        )
        .then_wait(11_000),
        row("nested: the wide one is longer", &from("203.0.113.1"), &shorter, BannedNetwork)
            .then_wait(11_000),
        row("nested: the narrow one is longer", &from("203.0.113.1"), &longer, BannedNetwork)
            .then_wait(11_000),
        row("nested: outside the one that is longer", &from("203.0.1.1"), &longer, Request)
            .then_wait(11_000),
    ]
}

/// Each prefix length that the gate of bans treats differently: at its first and last address, and just
/// outside.
fn lengths() -> Vec<Case> {
    let table = [
        ("203.0.113.66/32", "203.0.113.66", "203.0.113.66", "203.0.113.67"),
        ("203.0.113.64/31", "203.0.113.64", "203.0.113.65", "203.0.113.66"),
        ("203.0.113.0/24", "203.0.113.0", "203.0.113.255", "203.0.114.0"),
        ("203.0.112.0/23", "203.0.112.0", "203.0.113.255", "203.0.111.255"),
        ("203.0.0.0/16", "203.0.0.0", "203.0.255.255", "203.1.0.0"),
        ("202.0.0.0/7", "202.0.0.0", "203.255.255.255", "204.0.0.0"),
        ("2001:db8::66/128", "2001:db8::66", "2001:db8::66", "2001:db8::67"),
        ("2001:db8::/64", "2001:db8::", "2001:db8::ffff:ffff:ffff:ffff", "2001:db8:0:1::"),
        ("2001:db8::/33", "2001:db8::", "2001:db8:7fff::1", "2001:db8:8000::"),
        ("2001:db8::/32", "2001:db8::", "2001:db8:ffff::1", "2001:db9::"),
        ("2001:d00::/24", "2001:d00::", "2001:dff:ffff::1", "2001:e00::"),
        ("2000::/3", "2000::", "3fff:ffff::1", "4000::1"),
    ];
    let mut cases = Vec::new();
    for (network, first, last, outside) in table {
        let world = World::default().ban_network(network, SCOPE_SIP, In(600));
        let at = |place, source, expect| {
            row(format!("ban of {network}: {place}"), &from(source), &world, expect)
        };
        cases.push(at("its first", first, BannedNetwork));
        cases.push(at("its last", last, BannedNetwork));
        cases.push(at("outside", outside, Request));
    }
    // Trust is looked up behind a separate gate.
    for (network, first, last, outside) in table {
        let world = World::default()
            .ban_network("0.0.0.0/1", SCOPE_ALL, Never)
            .ban_network("128.0.0.0/1", SCOPE_ALL, Never)
            .ban_network("::/0", SCOPE_ALL, Never)
            .trust(network);
        let at = |place, source, expect| {
            row(format!("trust in {network}: {place}"), &from(source), &world, expect)
        };
        cases.push(at("its first", first, Trusted));
        cases.push(at("its last", last, Trusted));
        cases.push(at("outside", outside, BannedNetwork));
    }
    cases
}

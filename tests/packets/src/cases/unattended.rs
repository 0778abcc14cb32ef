//! Rows about a filter whose daemon has stopped beating.

use filter_common::abi::{SCOPE_ALL, SCOPE_SIP};
use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Admitted, Banned, BannedNetwork, Flooding, Greylist, Known, KnownLimit, Maintenance,
    NotSip, PrefixLimit, Register, RegisterCredentials, RegisterLimit, Request, SharedLimit,
    Signature, Spoofed, StreamLimit, SynLimit, TcpControl, Trusted,
};

use super::Ends::{self, Ago, In, Never};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Frame, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";
const OWN: &str = "192.0.2.1";

/// The rows.
pub fn cases() -> Vec<Case> {
    [when(), narrow(), shared(), floods(), others(), own()].concat()
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(format!("unattended: {}", name.into()), frame.build(), expect).within(world.clone())
}

fn register(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register())
}

/// From when on it is unattended.
fn when() -> Vec<Case> {
    let world = |ends| World::default().limit(2).attended(ends);
    vec![
        row("not yet", &register(V4), &world(In(60)), RegisterLimit).after(20),
        row("never", &register(V4), &world(Never), RegisterLimit).after(20),
        row("never, after a year", &register(V4), &world(Never), RegisterLimit)
            .then_wait(366 * 86_400_000)
            .then_same(2),
        row("the moment before", &register(V4), &world(In(60)), RegisterLimit)
            .after(2)
            .then_wait(59_999),
        row("exactly then", &register(V4), &world(In(60)), Register).after(2).then_wait(60_000),
        row("just now", &register(V4), &world(Ago(0)), Register).after(20),
        row("for long", &register(V4), &world(Ago(86_400)), Register).after(20),
        row("ipv6", &register(V6), &world(Ago(0)), Register).after(20),
    ]
}

/// Limits of single sources and networks.
fn narrow() -> Vec<Case> {
    let mut cases = Vec::new();
    let requests = [
        ("register", Class::Register, messages::register(), Register),
        (
            "credentials",
            Class::Credentials,
            messages::register_with_credentials(),
            RegisterCredentials,
        ),
        ("invite", Class::Invite, messages::request("INVITE"), Request),
        ("options", Class::Options, messages::request("OPTIONS"), Request),
        ("subscribe", Class::Subscribe, messages::request("SUBSCRIBE"), Request),
        ("others", Class::Other, messages::request("BYE"), Request),
    ];
    let add = |name: String, frame: &Frame, world: World, over: Reason, pass: Reason| {
        let attended = world.clone().attended(In(60));
        let name = |how| format!("{name}, {how}");
        [
            row(name("attended"), frame, &attended, over).after(3),
            row(name("silent"), frame, &world.attended(Ago(0)), pass).after(20),
        ]
    };
    for (name, class, payload, pass) in requests {
        let frame = Frame::from(ip(V4)).payload(payload);
        let source = World::default().source_limit(class, 3);
        let network = World::default().prefix_limit(class, 3);
        cases.extend(add(format!("{name} of a source"), &frame, source, class.over(), pass));
        cases.extend(add(format!("{name} of a network"), &frame, network, PrefixLimit, pass));
    }
    let syn = Frame::from(ip(V4)).tcp(5060).tcp_flags(flag::SYN);
    let syns = World::default().source_limit(Class::Syn, 3);
    cases.extend(add("connections".to_owned(), &syn, syns, SynLimit, TcpControl));
    let segment = Frame::from(ip(V4)).tcp(5060).payload(vec![b'x'; 100]);
    for (name, limits, over) in [
        ("a connection", [300, 0, 0, 0], StreamLimit),
        ("a source", [0, 300, 0, 0], StreamLimit),
        ("a network", [0, 0, 300, 0], PrefixLimit),
    ] {
        let world = World::default().byte_limits(limits);
        cases.extend(add(format!("bytes of {name}"), &segment, world, over, NotSip));
    }
    // Every packet is searched for credentials, because the limit of searches does not apply.
    let searches = World::default().limit(1).search_limit(1).attended(Ago(0));
    let with = Frame::from(ip(V4)).payload(messages::register_with_credentials());
    cases.push(row("credentials behind others", &with, &searches, RegisterCredentials).then(vec![
            register(
                V4
            )
            .build();
            20
        ]));
    cases
}

/// The limit that all unknown sources share, and the packets to which it does not apply.
fn shared() -> Vec<Case> {
    let world = World::default().limit(1).shared_limit(Class::Register, 5).attended(Ago(0));
    let grey = world.clone().greylisting();
    let bytes = World::default().byte_limits([0, 0, 0, 300]).attended(Ago(0));
    let segment = Frame::from(ip(V4)).tcp(5060).payload(vec![b'x'; 100]);
    let syn = Frame::from(ip(V4)).tcp(5060).tcp_flags(flag::SYN);
    let syns = World::default().shared_limit(Class::Syn, 3).attended(Ago(0));
    let flood = vec![register("198.51.100.7").build(); 50];
    vec![
        row("all together, within", &register(V4), &world, Register).after(4),
        row("all together, over", &register(V4), &world, SharedLimit).after(5),
        row("all together, over by another", &register(V4), &world, SharedLimit)
            .then(flood.clone()),
        row("bytes of all, within", &segment, &bytes, NotSip).after(2),
        row("bytes of all, over", &segment, &bytes, SharedLimit).after(3),
        row("connections of all, over", &syn, &syns, SharedLimit).after(3),
        row("a flood of another, known", &register(V4), &world.peer(V4, In(600)), Known)
            .then(flood.clone()),
        row("greylist, the first", &register(V4), &grey, Greylist).then(flood.clone()),
        row("greylist, sent again", &register(V4), &grey, Admitted)
            .then(flood.clone())
            .then_same(1)
            .then_wait(500),
        // Let in again and again, which the limit of a source would not allow.
        row("greylist, often", &register(V4), &grey, Admitted)
            .then(flood.clone())
            .then_same(1)
            .then_wait(500)
            .then_same(20),
        row("greylist, all that is let in", &register(V4), &grey.admitted_limit(3), SharedLimit)
            .then(flood)
            .then_same(1)
            .then_wait(500)
            .then_same(3),
    ]
}

/// The program's own bans.
fn floods() -> Vec<Case> {
    let tcp = |source| Frame::from(ip(source)).tcp(5060).payload(messages::register());
    let proven = World::default().limit(2).flood_after(4).connect(V4);
    let silent = proven.clone().attended(Ago(0));
    let peer = World::default().known_limit(2).flood_after(4).peer(V4, In(600));
    let banned = World::default().flooder(V4, In(60)).attended(Ago(0));
    let compact = Frame::from(ip(V4)).payload(messages::register_compact()).build();
    let silent_peer = peer.clone().attended(Ago(0));
    let peer_before = peer.clone().attended(In(30));
    vec![
        row("a flood over tcp, attended", &tcp(V4), &proven, Flooding).after(20),
        row("a flood over tcp", &tcp(V4), &silent, Register).after(50),
        row("a flood of a peer, attended", &register(V4), &peer, Flooding).after(20),
        row("a flood of a peer", &register(V4), &silent_peer, KnownLimit).after(50),
        // Banned while it was attended, and until then.
        row("a flooder", &tcp(V4), &banned, Flooding),
        row("a flooder, until its end", &tcp(V4), &banned, Flooding).then_wait(59_000),
        row("a flooder, after its end", &tcp(V4), &banned, Register).then_wait(61_000),
        row("a peer that was banned before", &register(V4), &peer_before, Flooding)
            .after_other(20, compact.clone())
            .then_wait(31_000),
        row("a peer, at the end of its ban", &register(V4), &peer_before, KnownLimit)
            .after_other(20, compact)
            .then_wait(60_000),
        row("a flooder that was banned before", &tcp(V4), &proven.attended(In(30)), Flooding)
            .after(20)
            .then_wait(31_000),
    ]
}

/// Decisions that do not change.
fn others() -> Vec<Case> {
    let world = World::default().attended(Ago(0));
    let network = world.clone().ban_network("192.0.2.0/24", SCOPE_ALL, Never);
    let closed = |ends: Ends| world.clone().closed(ends, false);
    let agent = messages::request_with("OPTIONS", "User-Agent: friendly-scanner\r\n", "");
    let scanner = Frame::from(ip(V4)).payload(agent);
    let trusted = world.clone().ban(V4, SCOPE_SIP, Never).trust("192.0.2.0/24");
    vec![
        row("a ban", &register(V4), &world.clone().ban(V4, SCOPE_SIP, In(60)), Banned),
        row("a ban that ends", &register(V4), &world.clone().ban(V4, SCOPE_SIP, In(60)), Register)
            .then_wait(61_000),
        row("a ban without end", &register(V6), &world.clone().ban(V6, SCOPE_ALL, Never), Banned)
            .then_wait(86_400_000),
        row("a ban of a network", &register(V4), &network, BannedNetwork),
        row("trusted", &register(V4), &trusted, Trusted),
        row("closed", &register(V4), &closed(In(60)), Maintenance),
        row("closed until then", &register(V4), &closed(In(60)), Register).then_wait(60_001),
        row("a scanner", &scanner, &world.signature("friendly-scanner*"), Signature),
    ]
}

/// Packets with the host's own address as their source. The list of these may be out of date.
fn own() -> Vec<Case> {
    let world = World::default().limit(2).own(OWN).own(V6);
    let silent = world.clone().attended(Ago(0));
    let tcp = Frame::from(ip(OWN)).tcp(22);
    vec![
        row("own, attended", &register(OWN), &world, Spoofed),
        row("own, ipv6, attended", &register(V6), &world, Spoofed),
        row("own", &register(OWN), &silent, Register),
        row("own, ipv6", &register(V6), &silent, Register),
        row("own, another port", &tcp, &silent, Reason::OtherPort),
        // An address that no host can have is still treated as forged.
        row("loopback", &register("127.0.0.1"), &silent, Spoofed),
        row("multicast", &register("ff02::1"), &silent, Spoofed),
        row("unspecified", &register("0.0.0.0"), &silent, Spoofed),
    ]
}

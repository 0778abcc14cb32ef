//! Rows about throttled sources and sources over a limit: what answers a challenge or is retransmitted
//! passes.

use std::iter;

use filter_common::abi::{SCOPE_ALL, SCOPE_SIP, SCOPE_THROTTLE};
use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Admitted, Answered, Banned, BannedNetwork, Fragment, InviteLimit, Known, KnownLimit,
    Maintenance, OtherPort, PrefixLimit, Register, RegisterCredentials, RegisterLimit, Request,
    SharedLimit, StreamLimit, TcpControl, Throttled, Trusted,
};

use super::Ends::{Ago, In};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Extension, Frame};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The nonce in [`messages::register_with_credentials`].
const NONCE: &str = "1792570402/5bb7bd5c9d0a7e4b8a5d3e1c7f2b9a60";

/// Packets of one source that are looked at, at once.
const LOOKS: usize = 10_001;

/// The rows.
pub fn cases() -> Vec<Case> {
    [throttled(), nonces(), limits(), connections(), retransmissions(), hidden_guesses()].concat()
}

fn row(name: impl AsRef<str>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(format!("answers: {}", name.as_ref()), frame.build(), expect).within(world.clone())
}

fn throttle(source: &str) -> World {
    World::default().throttle(source, SCOPE_THROTTLE, In(600))
}

fn register(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register())
}

fn credentials(source: &str) -> Frame {
    Frame::from(ip(source)).payload(messages::register_with_credentials())
}

fn throttled() -> Vec<Case> {
    let (v4, v6) = (throttle(V4), throttle(V6));
    let network = World::default().ban_network("192.0.2.0/24", SCOPE_THROTTLE, In(600));
    let inside = network.clone().throttle(V4, SCOPE_THROTTLE, In(600));
    vec![
        row("throttled", &register(V4), &v4, Throttled),
        row("throttled, ipv6", &register(V6), &v6, Throttled),
        row("another source", &register("192.0.2.67"), &v4, Register),
        row("credentials", &credentials(V4), &v4, Throttled),
        row(
            "an option",
            &Frame::from(ip(V4)).payload(messages::request("OPTIONS")),
            &v4,
            Throttled,
        ),
        row("in a throttled network", &register(V4), &network, Throttled),
        row("in a throttled network, itself too", &register(V4), &inside, Throttled),
        row(
            "in a banned network",
            &register(V4),
            &network.clone().ban_network("192.0.2.0/24", SCOPE_SIP, In(600)),
            BannedNetwork,
        ),
        row("banned too", &register(V4), &v4.clone().ban(V4, SCOPE_SIP, In(600)), Banned),
        row(
            "banned from everything too",
            &register(V4),
            &World::default().throttle(V4, SCOPE_THROTTLE | SCOPE_ALL, In(600)),
            BannedNetwork,
        ),
        row(
            "a throttle that has ended",
            &register(V4),
            &World::default().throttle(V4, SCOPE_THROTTLE, Ago(5)),
            Register,
        ),
        row("another port", &register(V4).udp(4000), &v4, OtherPort),
        row("over tcp", &register(V4).tcp(5060), &v4, Register),
        row("a connection", &Frame::from(ip(V4)).tcp(5060).tcp_flags(2), &v4, TcpControl),
        row("a later fragment", &register(V4).fragment(185, false), &v4, Fragment),
        row(
            "behind headers that are not followed",
            &(0..7).fold(register(V6), |frame, _| frame.extension(Extension::destination(1))),
            &v6,
            Throttled,
        ),
        row("known", &register(V4), &v4.clone().peer(V4, In(60)), Known),
        row("trusted", &register(V4), &v4.clone().trust("192.0.2.0/24"), Trusted),
        row("in maintenance", &register(V4), &v4.clone().closed(In(60), false), Maintenance),
        row("in a dry run", &register(V4), &v4.watching(), Throttled),
    ]
}

fn nonces() -> Vec<Case> {
    let (v4, v6) = (throttle(V4).challenge(V4, NONCE), throttle(V6).challenge(V6, NONCE));
    let fragment = credentials(V4).fragment(0, true);
    let invite = String::from_utf8(messages::register_with_credentials())
        .expect("text")
        .replace("REGISTER", "INVITE");
    let stolen = |count| {
        let text = String::from_utf8(messages::register_with_credentials()).expect("text");
        let text = text.replace(NONCE, "1792570402/00000000000000000000000000000000");
        vec![Frame::from(ip(V4)).payload(text).build(); count]
    };
    let neighbours = |count: u32| (0..count).map(|n| format!("198.51.100.{n}"));
    let many = |count| {
        neighbours(count).fold(v4.clone(), |world, source| {
            world.throttle(&source, SCOPE_THROTTLE, In(600)).challenge(&source, NONCE)
        })
    };
    // Each is searched, and none of them is an answer.
    let of_many = |sources, each| {
        let text = String::from_utf8(messages::register_with_credentials()).expect("text");
        let text = text.replace(NONCE, "1792570402/00000000000000000000000000000000");
        let frames =
            neighbours(sources).map(|source| Frame::from(ip(&source)).payload(&text).build());
        frames.flat_map(|frame| iter::repeat_n(frame, each)).collect::<Vec<_>>()
    };
    let proxy = invite.replace("Authorization:", "Proxy-Authorization:");
    let behind = ["\r\n", "\r\n\r\n\r\n", " \t"].map(|space| format!("{space}{invite}"));
    let unknown = invite.replace("INVITE", "FOO");
    // Asterisk's tag is the branch that the client has chosen, so it is no secret.
    let tag = "z9hG4bKack";
    let ack = format!(
        "ACK sip:1@192.0.2.1 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66;branch={tag}\r\nFrom: <sip:2@a>;tag=3\r\n\
         To: <sip:1@192.0.2.1>;tag={tag}\r\nCall-ID: ack\r\nCSeq: 1 ACK\r\n\r\n"
    );
    vec![
        row(
            "an ack with the tag of an answer",
            &Frame::from(ip(V4)).payload(ack),
            &throttle(V4).challenge(V4, tag),
            Throttled,
        ),
        row("a nonce that was sent there", &credentials(V4), &v4, Answered),
        row("a nonce that was sent there, ipv6", &credentials(V6), &v6, Answered),
        row("the same without a nonce", &register(V4), &v4, Throttled),
        row("another nonce", &credentials(V4), &throttle(V4).challenge(V4, "x"), Throttled),
        row(
            "a nonce that was sent to a neighbour",
            &credentials(V4),
            &throttle(V4).challenge("192.0.2.67", NONCE),
            Throttled,
        ),
        row("an invite", &Frame::from(ip(V4)).payload(invite), &v4, Answered),
        row("an invite to a proxy", &Frame::from(ip(V4)).payload(proxy), &v4, Answered),
        row("behind a line break", &Frame::from(ip(V4)).payload(&behind[0]), &v4, Answered),
        row("behind line breaks", &Frame::from(ip(V4)).payload(&behind[1]), &v4, Answered),
        row("behind blanks", &Frame::from(ip(V4)).payload(&behind[2]), &v4, Answered),
        row("a method of nobody's", &Frame::from(ip(V4)).payload(unknown), &v4, Answered),
        row("a first fragment", &fragment, &v4, Answered),
        row("an answer among stolen nonces", &credentials(V4), &v4, Answered).then(stolen(400)),
        row("an answer among too many", &credentials(V4), &v4, Throttled).then(stolen(401)),
        row("an answer a moment after too many", &credentials(V4), &v4, Answered)
            .then(stolen(401))
            .then_wait(50),
        row("an answer among those of many", &credentials(V4), &many(12), Answered)
            .then(of_many(12, 400))
            .then(stolen(200)),
        row("an answer among those of too many", &credentials(V4), &many(12), Throttled)
            .then(of_many(12, 400))
            .then(stolen(201)),
        row("40 answers", &credentials(V4), &v4, Answered).after(40),
        row("41 answers", &credentials(V4), &v4, Throttled).after(41),
        row("answers have room again", &credentials(V4), &v4, Answered).after(41).then_wait(100),
        row(
            "not throttled",
            &credentials(V4),
            &World::default().challenge(V4, NONCE),
            RegisterCredentials,
        ),
    ]
}

fn limits() -> Vec<Case> {
    let own = World::default().limit(2).source_limit(Class::Credentials, 2).challenge(V4, NONCE);
    let invites = World::default().source_limit(Class::Invite, 2).challenge(V4, NONCE);
    let invite = Frame::from(ip(V4)).payload(messages::request("INVITE"));
    let known = World::default().challenge(V4, NONCE).peer(V4, In(60)).known_limit(2);
    let network = World::default().prefix_limit(Class::Register, 2).challenge(V4, NONCE);
    let many = |source: &str, count| vec![register(source).build(); count];
    vec![
        row("over its limit", &register(V4), &own, RegisterLimit).after(2),
        row("an answer over its limit", &credentials(V4), &own, Answered)
            .then(many(V4, 3))
            .then_same(2),
        row("over its limit, tcp", &register(V4).tcp(5060), &own, RegisterLimit).after(2),
        row("over the limit of invites", &invite, &invites, InviteLimit).after(2),
        row("a known peer over its limit", &register(V4), &known, KnownLimit).after(2),
        row("an answer of a known peer over its limit", &credentials(V4), &known, Answered)
            .then(many(V4, 3)),
        row("over the limit of its network", &register(V4), &network, PrefixLimit)
            .then(many("192.0.2.67", 3)),
        row("an invite within the limit", &invite, &invites, Request).after(1),
    ]
}

/// Segments of connections over a limit, which the other phones of a site have exhausted.
fn connections() -> Vec<Case> {
    let mut cases = Vec::new();
    for source in [V4, V6] {
        // One message has room.
        let limited = |level: usize| {
            let mut limits = [0; 4];
            limits[level] = 1;
            World::default().unlimited().byte_limits(limits)
        };
        let challenged = |level| limited(level).challenge(source, NONCE);
        let first = register(source).tcp(5060).build();
        let row = |name: &str, frame: &Frame, world: &World, expect| {
            row(format!("tcp, {name}, {source}"), frame, world, expect).then(vec![first.clone()])
        };
        let answer = credentials(source).tcp(5060);
        let long = |length: usize| {
            let mut message = messages::register_with_credentials();
            message.resize(length, b'x');
            Frame::from(ip(source)).payload(message).tcp(5060)
        };
        let neighbour = if source == V4 { "192.0.2.67" } else { "2001:db8::67" };
        let of_neighbour = limited(1).challenge(neighbour, NONCE);
        let other = limited(1).challenge(source, "another");
        cases.extend(vec![
            row("an answer over the limit of its connection", &answer, &challenged(0), Answered),
            row("of its source", &answer, &challenged(1), Answered),
            row("of its network", &answer, &challenged(2), Answered),
            row("of all", &answer, &challenged(3), SharedLimit),
            row("without a nonce", &register(source).tcp(5060), &challenged(1), StreamLimit),
            row("another nonce", &answer, &other, StreamLimit),
            row("a nonce of a neighbour", &answer, &of_neighbour, StreamLimit),
            row("sent again", &register(source).tcp(5060), &challenged(1), StreamLimit)
                .then_same(1)
                .then_wait(500),
            row("3 answers", &answer, &challenged(1), Answered).then_same(2),
            row("4 answers", &answer, &challenged(1), StreamLimit).then_same(3),
            row("a second later", &answer, &challenged(1), Answered).then_same(3).then_wait(1000),
            row("as long as a packet", &long(1500), &challenged(1), Answered),
            row("longer", &long(1501), &challenged(1), StreamLimit),
            row(
                "in the middle of a message",
                &answer.clone().payload(b"x".repeat(9)),
                &challenged(1),
                StreamLimit,
            ),
        ]);
    }
    cases
}

fn retransmissions() -> Vec<Case> {
    let world = throttle(V4);
    let (again, few) = (row("again", &register(V4), &world, Admitted), 150);
    let busy =
        |count| (0..count).map(|n| register(V4).payload(numbered(messages::register(), n)).build());
    let flood = |packets| iter::repeat_n(credentials(V4).build(), packets);
    // Too short to be told from others.
    let short =
        register(V4).payload("OPTIONS sip:a SIP/2.0\r\nVia: SIP/2.0/UDP a;branch=z9hG4bK1\r\n\r\n");
    let response = Frame::from(ip(V4)).payload(messages::response("200 OK"));
    let neither = register(V4).payload([b'!'; 200]);
    let known = World::default().peer(V4, In(60)).known_limit(2);
    let challenged = world.clone().challenge(V4, "x");
    vec![
        again.then_same(1).then_wait(500),
        row("61 bytes again", &short, &world, Throttled).then_same(1).then_wait(500),
        row("again, ipv6", &register(V6), &throttle(V6), Admitted).then_same(1).then_wait(500),
        row("again at once", &register(V4), &world, Throttled).then_same(1),
        row("again at once after it passed", &register(V4), &world, Throttled)
            .then_same(1)
            .then_wait(500)
            .then_same(1),
        row("again after 40 s", &register(V4), &world, Throttled).then_same(1).then_wait(40_000),
        row("another request", &credentials(V4), &world, Throttled)
            .then([register(V4).build()])
            .then_wait(500),
        row("a response", &response, &world, Throttled),
        row("a response again", &response, &world, Admitted).then_same(1).then_wait(500),
        row("what is neither, again", &neither, &world, Throttled).then_same(1).then_wait(500),
        row("a response of a known peer", &response, &known, KnownLimit).after(2),
        row("a response of a known peer again", &response, &known, Admitted)
            .after(3)
            .then_wait(500),
        // Asterisk says of these whether the password is right.
        row("three guesses again", &guess(2), &challenged, Admitted)
            .then((0..3).map(|n| guess(n).build()))
            .then_wait(500)
            .then((0..2).map(|n| guess(n).build())),
        fourth_again("four guesses again", guess, &challenged),
        row(
            "a request without credentials after four guesses",
            &register(V4),
            &challenged,
            Admitted,
        )
        .then((0..4).map(|n| guess(n).build()))
        .then_same(1)
        .then_wait(500)
        .then((0..4).map(|n| guess(n).build())),
        row("guesses of a known peer", &guess(3), &known.challenge(V4, "x"), Admitted)
            .then((0..4).map(|n| guess(n).build()))
            .then((0..4).map(|n| guess(n).build()))
            .then_wait(500)
            .then((0..3).map(|n| guess(n).build())),
        row("again among others", &register(V4), &world, Admitted)
            .then(busy(few))
            .then_same(1)
            .then(busy(few))
            .then_wait(500),
        row("again over its limit", &register(V4), &World::default().limit(2), Admitted)
            .then_same(3)
            .then_wait(500),
        row("again after a flood that is looked at", &register(V4), &world, Admitted)
            .then(flood(LOOKS - 1))
            .then_same(1)
            .then_wait(500),
        row("again after a larger flood", &register(V4), &world, Throttled)
            .then(flood(LOOKS))
            .then_same(1)
            .then_wait(500),
        nth_again("21 requests again", 20, &world, Admitted),
        nth_again("22 requests again", 21, &world, Throttled),
        nth_again("22 requests again, the last one later", 21, &world, Throttled).then_wait(50),
        nth_again(
            "22 requests again, the last one a tenth of a second later",
            21,
            &world,
            Admitted,
        )
        .then_wait(150),
        fourth_again("four guesses again, the last one nine seconds later", guess, &challenged)
            .then_wait(9000),
        Case {
            expect: Admitted,
            ..fourth_again("four guesses again, the last one later", guess, &challenged)
        }
        .then_wait(10_500),
        row(
            "again over what all may use",
            &register(V4),
            &world.clone().admitted_limit(1),
            Throttled,
        )
        .then_same(1)
        .then_wait(500)
        .then_same(1)
        .then_wait(500),
    ]
}

/// A message with the Call-ID of this number.
fn numbered(message: Vec<u8>, n: u32) -> String {
    let text = String::from_utf8(message).expect("text");
    text.replacen("a84b4c76e66710", &format!("a84b4c76{n:06}"), 1)
}

/// Request `n`, after all before it were sent again.
fn nth_again(name: &str, n: u32, world: &World, expect: Reason) -> Case {
    let text = String::from_utf8(messages::register()).expect("text");
    let request = |n| register(V4).payload(text.replacen("776asdhds", &format!("{n:09}"), 1));
    row(name, &request(n), world, expect)
        .then((0..=n).map(|n| request(n).build()))
        .then_wait(500)
        .then((0..n).map(|n| request(n).build()))
}

/// A guess of this number.
fn guess(n: u32) -> Frame {
    Frame::from(ip(V4)).payload(numbered(messages::register_with_credentials(), n))
}

/// The last of four guesses that are all sent again.
fn fourth_again(name: &str, guess: impl Fn(u32) -> Frame, world: &World) -> Case {
    row(name, &guess(3), world, Throttled)
        .then((0..4).map(|n| guess(n).build()))
        .then_wait(500)
        .then((0..3).map(|n| guess(n).build()))
}

/// Guesses whose credentials are not read.
fn hidden_guesses() -> Vec<Case> {
    let challenged = throttle(V4).challenge(V4, "x");
    let text = |n| numbered(messages::register_with_credentials(), n);
    let spaced = |n| Frame::from(ip(V4)).payload(format!("\r\n{}", text(n)));
    let long = |n| {
        let field = format!("X-Pad: {}\r\nAuthorization:", "a".repeat(2000));
        Frame::from(ip(V4)).payload(text(n).replace("Authorization:", &field))
    };
    let cut = |n| {
        let text = text(n);
        let end = text.find("Authorization:").expect("credentials");
        Frame::from(ip(V4)).payload(&text[..end]).fragment(0, true)
    };
    let others = |first| (first..first + 450).map(|n| guess(n).build());
    vec![
        fourth_again("four guesses again behind a line break", spaced, &challenged),
        fourth_again("four long requests again, read in part", long, &challenged),
        fourth_again("four first fragments again", cut, &challenged),
        row("four guesses again in a flood", &guess(3), &challenged, Throttled)
            .then((0..4).map(|n| guess(n).build()))
            .then(others(100))
            .then_wait(500)
            .then(others(600))
            .then((0..3).map(|n| guess(n).build())),
        row("a request without credentials again in a flood", &register(V4), &challenged, Admitted)
            .then_same(1)
            .then(others(100))
            .then_wait(500)
            .then(others(600)),
    ]
}

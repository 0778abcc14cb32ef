//! Rows about the limit of REGISTER without credentials.

use filter_common::decision::Reason::{
    self, KeepAlive, NotSip, PrefixLimit, Register, RegisterCredentials, RegisterLimit, Request,
    Response, SharedLimit, StreamLimit,
};
use filter_common::limits::WINDOW_BYTES;

use super::messages::{DIGEST, request_with};
use super::{Case, World, ip, messages};
use crate::packet_builder::{Extension, Frame, VLAN};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";
const BURST: u64 = 3;

/// The rows.
pub fn cases() -> Vec<Case> {
    [bursts(), others(), evasions(), overlaps(), spellings(), places(), fakes()].concat()
}

fn from(source: &str, payload: impl AsRef<[u8]>) -> Frame {
    Frame::from(ip(source)).payload(payload)
}

/// A REGISTER without credentials.
fn plain(source: &str) -> Frame {
    from(source, messages::register())
}

/// A row after as many copies of its own frame as the burst allows.
fn over(name: impl Into<String>, frame: &Frame, expect: Reason) -> Case {
    let burst = usize::try_from(BURST).expect("a small number");
    Case::new(name, frame.build(), expect).within(World::default().limit(BURST)).after(burst)
}

/// A row after many REGISTERs without credentials from 192.0.2.66.
fn flooded(name: &str, frame: &Frame, expect: Reason) -> Case {
    over(name, frame, expect).after_other(20, plain(V4).build())
}

/// Segments that retransmit bytes. The budget is of bytes that arrive, because only the host decides
/// which of two overlapping segments it keeps.
fn overlaps() -> Vec<Case> {
    const LENGTH: usize = 1000;
    const ROOM: u64 = 3 * LENGTH as u64;
    let segment =
        |source, sequence, byte| from(source, vec![byte; LENGTH]).tcp(5060).sequence(sequence);
    let mut cases = Vec::new();
    for (level, limits, expect) in [
        ("connection", [ROOM, 0, 0, 0], StreamLimit),
        ("source", [0, ROOM, 0, 0], StreamLimit),
        ("network", [0, 0, ROOM, 0], PrefixLimit),
        ("all", [0, 0, 0, ROOM], SharedLimit),
    ] {
        for source in [V4, V6] {
            let world = World::default().unlimited().byte_limits(limits);
            // The segments that are sent, then a segment that overlaps them.
            for (name, sent, last) in [
                ("the same again", [1, 1, 1], 1),
                ("half of it again", [1, 501, 1001], 501),
                ("all of it from before it", [1, 251, 501], 1),
                ("a byte of it again", [1, 1000, 1999], 2998),
            ] {
                let row = |name, count, byte, expect| {
                    let sent = sent.iter().take(count).map(|at| segment(source, *at, b'x').build());
                    let name = format!("overlap: {name}, budget of {level}, {source}");
                    let frame = segment(source, last, byte).build();
                    Case::new(name, frame, expect).within(world.clone()).then(sent)
                };
                cases.push(row(format!("{name}, within"), 2, b'x', NotSip));
                cases.push(row(name.to_owned(), 3, b'x', expect));
                cases.push(row(format!("{name}, with another text"), 3, b'y', expect));
            }
        }
    }
    cases
}

/// A REGISTER with `fields` over the limit.
fn fields(name: &str, fields: &str, expect: Reason) -> Case {
    over(name, &from(V4, request_with("REGISTER", fields, "")), expect)
}

fn bursts() -> Vec<Case> {
    let unlimited = World::default().unlimited();
    let mut cases: Vec<_> = (0..3)
        .map(|n| {
            over(format!("limit: number {} of the burst", n + 1), &plain(V4), Register).after(n)
        })
        .collect();
    cases.extend([
        over("limit: the one behind the burst", &plain(V4), RegisterLimit),
        over("limit: many behind the burst", &plain(V4), RegisterLimit).after(100),
        over("limit: ipv6", &plain(V6), RegisterLimit),
        over("limit: ipv6, last of the burst", &plain(V6), Register).after(2),
        over("limit: tcp", &plain(V4).tcp(5060), RegisterLimit),
        over("limit: compact headers", &from(V4, messages::register_compact()), RegisterLimit),
        over("limit: in a vlan", &plain(V4).tag(VLAN, 7), RegisterLimit),
        over("limit: of one", &plain(V4), RegisterLimit).within(World::default().limit(1)).after(1),
        over("limit: none", &plain(V4), Register).within(unlimited).after(100),
        over("limit: the usual one is not reached by a phone", &plain(V4), Register)
            .within(World::default())
            .after(5),
    ]);
    cases
}

/// Packets that the limit of one source does not affect.
fn others() -> Vec<Case> {
    let register = |source| from(source, messages::register_with_credentials());
    vec![
        flooded("flooded: by the same source", &plain(V4), RegisterLimit),
        flooded("flooded: by the same source over tcp", &plain(V4).tcp(5060), RegisterLimit),
        flooded("flooded: by another source", &plain("192.0.2.20"), Register),
        flooded("flooded: by another source, ipv6", &plain(V6), Register),
        flooded("flooded: credentials of the same source", &register(V4), RegisterCredentials),
        flooded(
            "flooded: credentials of another source",
            &register("192.0.2.20"),
            RegisterCredentials,
        ),
        flooded("flooded: another request", &from(V4, messages::request("INVITE")), Request),
        flooded("flooded: a response", &from(V4, messages::response("200 OK")), Response),
        flooded("flooded: a keep-alive", &from(V4, "\r\n\r\n"), KeepAlive),
        flooded("flooded: another port", &plain(V4).udp(5062), Reason::OtherPort),
    ]
}

/// Attempts to bypass the limit.
fn evasions() -> Vec<Case> {
    let newlines = |n: usize| [&b"\r\n".repeat(n), &messages::register()[..]].concat();
    let space = |space: &[u8]| from(V4, [space, &messages::register()[..]].concat());
    let folded = |fold| from(V4, format!("REGISTER{fold}sip:a SIP/2.0\r\nTo: b\r\n\r\n"));
    let first = |payload: &str| from(V4, payload).fragment(0, true);
    let first_v6 = |payload: &str| from(V6, payload).extension(Extension::fragment(0, true));
    vec![
        over("evading: newlines before", &from(V4, newlines(2)), RegisterLimit),
        over("evading: many newlines before", &from(V4, newlines(20)), RegisterLimit),
        over("evading: a space before", &space(b" "), RegisterLimit),
        over("evading: a tab before", &space(b"\t"), RegisterLimit),
        over("evading: newlines and spaces before", &space(b"\r\n \r\n\t"), RegisterLimit),
        over("evading: many spaces before", &space(&[b' '; 100]), RegisterLimit),
        over("evading: a folded request line", &folded("\r\n "), RegisterLimit),
        over("evading: a request line folded by a lone newline", &folded("\n\t"), RegisterLimit),
        over("evading: newlines alone", &from(V4, "\n".repeat(40)), RegisterLimit),
        over(
            "evading: method in lower case",
            &from(V4, messages::request("register")),
            RegisterLimit,
        ),
        over("evading: a tab", &from(V4, b"REGISTER\tsip:a SIP/2.0\r\n\r\n"), RegisterLimit),
        over("evading: first fragment", &plain(V4).fragment(0, true), RegisterLimit),
        over(
            "evading: first fragment, ipv6",
            &plain(V6).extension(Extension::fragment(0, true)),
            RegisterLimit,
        ),
        over("evading: first fragment cut in the method", &first("REGI"), RegisterLimit),
        over("evading: first fragment cut behind the method", &first("REGISTER"), RegisterLimit),
        over("evading: first fragment cut before the payload", &first(""), RegisterLimit),
        over("evading: first fragment cut before the payload, ipv6", &first_v6(""), RegisterLimit),
        over(
            "evading: first fragment cut behind newlines",
            &first("\r\n\r\n\r\n\r\n"),
            RegisterLimit,
        ),
        over(
            "evading: first fragment of tcp cut before the payload",
            &first("").tcp(5060),
            StreamLimit,
        ),
        over("evading: udp longer than its packet", &plain(V4).udp_len(5000), RegisterLimit),
        over("evading: udp of length 0", &plain(V4).udp_len(0), RegisterLimit),
        over("evading: a jumbo frame", &from(V4, messages::long_register(8900)), RegisterLimit),
        over("evading: the line cut", &from(V4, "REGISTER sip:a"), RegisterLimit),
    ]
}

/// The spellings that a phone may use.
fn spellings() -> Vec<Case> {
    let found = [
        ("usual", format!("Authorization: {DIGEST}\r\n")),
        ("lower case", format!("authorization: {DIGEST}\r\n")),
        ("upper case", format!("AUTHORIZATION: {DIGEST}\r\n")),
        ("odd case", format!("aUtHoRiZaTiOn: {DIGEST}\r\n")),
        ("no space", format!("Authorization:{DIGEST}\r\n")),
        ("a space before the colon", format!("Authorization : {DIGEST}\r\n")),
        ("three spaces before the colon", format!("Authorization   : {DIGEST}\r\n")),
        ("a tab before the colon", format!("Authorization\t: {DIGEST}\r\n")),
        ("folded", format!("Authorization:\r\n {DIGEST}\r\n")),
        (
            "folded inside",
            DIGEST.replace(", ", ",\r\n\t").replace("Digest", "Authorization: Digest") + "\r\n",
        ),
        ("newline without return", format!("Accept: a\nAuthorization: {DIGEST}\n")),
        ("behind a folded field", format!("Allow: INVITE,\r\n ACK\r\nAuthorization: {DIGEST}\r\n")),
        ("twice", format!("Authorization: {DIGEST}\r\nAuthorization: {DIGEST}\r\n")),
        (
            "another scheme (RFC 4475 regaut01)",
            "Authorization: NoOneKnowsThisScheme opaque=1\r\n".to_owned(),
        ),
        ("empty", "Authorization:\r\n".to_owned()),
        (
            "behind proxy credentials",
            format!("Proxy-Authorization: {DIGEST}\r\nAuthorization: {DIGEST}\r\n"),
        ),
    ];
    let mut cases: Vec<_> = found
        .iter()
        .map(|(name, text)| fields(&format!("credentials: {name}"), text, RegisterCredentials))
        .collect();
    let message = messages::register_with_credentials();
    let spaced = [b" ", &message[..]].concat();
    let folded = format!("REGISTER\r\n sip:a SIP/2.0\r\nAuthorization: {DIGEST}\r\n\r\n");
    cases.extend([
        over("credentials: a space before", &from(V4, spaced), RegisterCredentials),
        over("credentials: behind a folded line", &from(V4, folded), RegisterCredentials),
        over("credentials: ipv6", &from(V6, &message), RegisterCredentials),
        over("credentials: tcp", &from(V4, &message).tcp(5060), RegisterCredentials),
        over(
            "credentials: newlines before",
            &from(V4, [b"\r\n\r\n", &message[..]].concat()),
            RegisterCredentials,
        ),
        over(
            "credentials: in a first fragment",
            &from(V4, &message).fragment(0, true),
            RegisterCredentials,
        ),
        over(
            "credentials: in the first field",
            &from(V4, format!("REGISTER sip:a SIP/2.0\r\nAuthorization: {DIGEST}\r\n\r\n")),
            RegisterCredentials,
        ),
        over(
            "credentials: the frame ends behind the colon",
            &from(V4, "REGISTER sip:a SIP/2.0\r\nAuthorization:"),
            RegisterCredentials,
        ),
        over(
            "credentials: the frame ends before the colon",
            &from(V4, "REGISTER sip:a SIP/2.0\r\nAuthorization"),
            RegisterLimit,
        ),
    ]);
    cases
}

/// The places of the field in a message.
fn places() -> Vec<Case> {
    // The largest UDP payload in an IPv4 packet in an Ethernet frame of 1500 bytes.
    let full = messages::register_with_late_credentials(1472);
    let jumbo = messages::register_with_late_credentials(8900);
    let vlan_v6 = from(V6, messages::register_with_late_credentials(1452)).tag(VLAN, 7);
    // The colon is the last byte that is searched, then the first one that is not.
    let head = "REGISTER sip:192.0.2.10 SIP/2.0\r\nVia: ";
    let colon = |at: usize| {
        let name = "\r\nAuthorization:";
        let filler = "x".repeat(at + 1 - head.len() - name.len());
        format!("{head}{filler}{name} {DIGEST}\r\n\r\n")
    };
    vec![
        over("credentials: at the end of a full frame", &from(V4, full), RegisterCredentials),
        over(
            "credentials: at the end of a full frame, ipv6 in a vlan",
            &vlan_v6,
            RegisterCredentials,
        ),
        over(
            "credentials: the last byte that is searched",
            &from(V4, colon(WINDOW_BYTES - 1)),
            RegisterCredentials,
        ),
        over(
            "credentials: one byte behind what is searched",
            &from(V4, colon(WINDOW_BYTES)),
            RegisterLimit,
        ),
        over("credentials: at the end of a jumbo frame", &from(V4, jumbo), RegisterLimit),
    ]
}

/// Fields that resemble credentials.
fn fakes() -> Vec<Case> {
    let body = request_with("REGISTER", "", &format!("\r\nAuthorization: {DIGEST}\r\n"));
    let register = messages::register_with_credentials();
    let place = register.windows(13).position(|w| w == b"Authorization").expect("it has one");
    let hidden = u16::try_from(8 + place).expect("a short message");
    let beyond = Frame::from(ip(V4)).payload(&register);
    let in_body = "x\r\n\r\nAuthorization: Digest\r\n";
    let mut cases = vec![
        over("no credentials: in the body", &from(V4, body), RegisterLimit),
        over(
            "no credentials: in the body behind lone newlines",
            &from(V4, "REGISTER sip:a SIP/2.0\nTo: b\n\nAuthorization: x\n"),
            RegisterLimit,
        ),
        over(
            "no credentials: in the body behind lone returns",
            &from(V4, "REGISTER sip:a SIP/2.0\rTo: b\r\r\nAuthorization: x\r\n"),
            RegisterLimit,
        ),
        over(
            "no credentials: behind the datagram's end",
            &beyond.clone().udp_len(hidden),
            RegisterLimit,
        ),
        over("no credentials: behind the packet's end", &beyond.ip_len(20 + hidden), RegisterLimit),
        over(
            "no credentials: in the request line",
            &from(V4, "REGISTER sip:a;Authorization: SIP/2.0\r\nTo: b\r\n\r\n"),
            RegisterLimit,
        ),
    ];
    let not_found = [
        ("in a continued Via", format!("Via: SIP/2.0/UDP a;x=\r\n Authorization: {DIGEST}\r\n")),
        (
            "in a continued Via, by a tab",
            format!("Via: SIP/2.0/UDP a;x=\r\n\tAuthorization: {DIGEST}\r\n"),
        ),
        ("in a value", format!("Subject: Authorization: {DIGEST}\r\n")),
        ("in quotes", format!("Reason: \"Authorization: {DIGEST}\"\r\n")),
        ("a proxy's", format!("Proxy-Authorization: {DIGEST}\r\n")),
        ("another field that ends alike", format!("X-Authorization: {DIGEST}\r\n")),
        ("another field that starts alike", format!("Authorization-Info: {DIGEST}\r\n")),
        ("without colon", format!("Authorization {DIGEST}\r\n")),
        ("one letter less", format!("Authorizatio: {DIGEST}\r\n")),
        ("one letter more", format!("Authorizations: {DIGEST}\r\n")),
        ("behind the header's end", in_body.to_owned()),
        ("a bit off a letter", format!("Authorizati\u{f}n: {DIGEST}\r\n")),
        ("four spaces before the colon", format!("Authorization    : {DIGEST}\r\n")),
    ];
    for (name, text) in &not_found {
        cases.push(fields(&format!("no credentials: {name}"), text, RegisterLimit));
    }
    cases
}

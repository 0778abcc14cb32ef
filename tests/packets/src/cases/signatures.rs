//! Rows about the User-Agents of scanners.

use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Banned, Known, NotSip, OtherPort, Register, RegisterCredentials, RegisterLimit, Request,
    Response, Signature, Trusted,
};

use super::messages::{DIGEST, request_with};
use super::{Case, Ends, World, ip, messages};
use crate::packet_builder::{Extension, Frame};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The rows.
pub fn cases() -> Vec<Case> {
    [names(), spellings(), places(), others()].concat()
}

fn world() -> World {
    World::default()
        .signature("friendly-scanner*")
        .signature("sip*")
        .signature("sipcli/v1*")
        .signature("iWar")
        .signature("smap")
        .signature("VaxSIPUserAgent/3.1 of the long*")
}

fn row(name: impl Into<String>, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(format!("signature: {}", name.into()), frame.build(), expect).within(world.clone())
}

/// A request with these fields.
fn with(method: &str, fields: &str) -> Frame {
    Frame::from(ip(V4)).payload(request_with(method, fields, ""))
}

fn options(fields: &str) -> Frame {
    with("OPTIONS", fields)
}

fn names() -> Vec<Case> {
    let table = [
        ("friendly-scanner", Signature),
        ("friendly-scanner 1.2", Signature),
        ("FRIENDLY-Scanner", Signature),
        ("friendly-scanne", Request),
        ("friendly", Request),
        ("a friendly-scanner", Request),
        ("friendly_scanner", Request),
        ("sip", Signature),
        ("SIPp", Signature),
        ("sipcli/v1.8", Signature),
        ("si", Request),
        ("iWar", Signature),
        ("iwar", Signature),
        ("iWar 2", Request),
        ("iWars", Request),
        ("iWa", Request),
        ("smap", Signature),
        ("smapper", Request),
        // Only 32 bytes are compared.
        ("VaxSIPUserAgent/3.1 of the long name", Signature),
        ("VaxSIPUserAgent/3.1 of the long ", Signature),
        ("VaxSIPUserAgent/3.1 of the lon", Request),
        ("Asterisk PBX 22.1.0", Request),
        ("Yealink SIP-T46S 66.86.0.15", Request),
        ("", Request),
    ];
    let mut cases = Vec::new();
    for (agent, expect) in table {
        let name = format!("{agent:?}");
        let frame = options(&format!("User-Agent: {agent}\r\n"));
        cases.push(row(name, &frame, &world(), expect));
    }
    cases
}

/// The spellings of the field.
fn spellings() -> Vec<Case> {
    let table = [
        ("user-agent: iWar\r\n", Signature),
        ("USER-AGENT: iWar\r\n", Signature),
        ("User-Agent:iWar\r\n", Signature),
        ("User-Agent:  iWar\r\n", Signature),
        ("User-Agent\t:\tiWar\r\n", Signature),
        ("User-Agent   : iWar\r\n", Signature),
        ("User-Agent    : iWar\r\n", Request),
        ("User-Agent: iWar\n", Signature),
        ("Server: iWar\r\n", Request),
        ("X-User-Agent: iWar\r\n", Request),
        ("User-Agents: iWar\r\n", Request),
        (" User-Agent: iWar\r\n", Request),
        ("Subject: a\r\n User-Agent: iWar\r\n", Request),
        ("Subject: User-Agent: iWar\r\n", Request),
        ("\r\nUser-Agent: iWar\r\n", Request),
        ("User-Agent: phone\r\nUser-Agent: iWar\r\n", Request),
        ("User-Agent: iWar\r\nUser-Agent: phone\r\n", Signature),
    ];
    let mut cases = Vec::new();
    for (fields, expect) in table {
        cases.push(row(format!("written {fields:?}"), &options(fields), &world(), expect));
    }
    cases
}

/// The packets that are searched, and the places in them.
fn places() -> Vec<Case> {
    const AGENT: &str = "User-Agent: friendly-scanner\r\n";
    let response = Frame::from(ip(V4)).payload(
        String::from_utf8(messages::response("200 OK"))
            .expect("text")
            .replace("CSeq", "User-Agent: friendly-scanner\r\nCSeq"),
    );
    let mut cases = Vec::new();
    for method in ["REGISTER", "INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE", "BYE", "ACK"] {
        let frame = with(method, AGENT);
        cases.push(row(format!("{method} over udp"), &frame, &world(), Signature));
        cases.push(row(format!("{method} over tcp"), &frame.tcp(5060), &world(), Signature));
    }
    let v6 = Frame::from(ip(V6)).payload(request_with("OPTIONS", AGENT, ""));
    let credentials = format!("Authorization: {DIGEST}\r\n{AGENT}");
    let before = format!("{AGENT}Authorization: {DIGEST}\r\n");
    let compact =
        "OPTIONS sip:a SIP/2.0\r\nv:SIP/2.0/UDP a\r\nf:b\r\nt:c\r\ni:d\r\nUser-Agent:iWar\r\n\r\n";
    let late = format!("Subject: {}\r\n{AGENT}", "x".repeat(900));
    let first = "OPTIONS sip:a SIP/2.0\r\nUser-Agent: iWar\r\nTo: b\r\n\r\n";
    let newlines = [b"\r\n\r\n", &request_with("OPTIONS", AGENT, "")[..]].concat();
    let frame = |payload: &[u8]| Frame::from(ip(V4)).payload(payload);
    cases.extend(vec![
        row("ipv6", &v6, &world(), Signature),
        row(
            "a first fragment, ipv6",
            &v6.clone().extension(Extension::fragment(0, true)),
            &world(),
            Signature,
        ),
        row("behind credentials", &with("REGISTER", &credentials), &world(), Signature),
        row("before credentials", &with("REGISTER", &before), &world(), Signature),
        row("among compact fields", &frame(compact.as_bytes()), &world(), Signature),
        row("behind 900 bytes", &options(&late), &world(), Signature),
        row("the first field", &frame(first.as_bytes()), &world(), Signature),
        row("behind newlines", &frame(&newlines), &world(), Signature),
        row("in a body", &frame(&request_with("OPTIONS", "", AGENT)), &world(), Request),
        row("a response", &response, &world(), Response),
        row("a response over tcp", &response.clone().tcp(5060), &world(), Response),
        row("the rest of a stream", &frame(AGENT.as_bytes()).tcp(5060), &world(), NotSip),
        row("another port", &options(AGENT).udp(5080), &world(), OtherPort),
        row(
            "the frame ends in the name",
            &frame(b"OPTIONS sip:a SIP/2.0\r\nUser-Agent: iWar"),
            &world(),
            Signature,
        ),
    ]);
    cases
}

fn others() -> Vec<Case> {
    const AGENT: &str = "User-Agent: friendly-scanner\r\n";
    let scan = options(AGENT);
    let register = with("REGISTER", AGENT);
    let plain = Frame::from(ip(V4)).payload(messages::register());
    let limited = world().limit(2);
    vec![
        row("none", &scan, &World::default(), Request),
        row("again and again", &scan, &world(), Signature).after(20),
        row("bans nobody", &plain, &world(), Register).then(vec![scan.build(); 50]),
        row("of a known peer", &scan, &world().peer(V4, Ends::In(60)), Known),
        row("trusted", &scan, &world().trust("192.0.2.66/32"), Trusted),
        row("banned", &scan, &world().ban(V4, filter_common::abi::SCOPE_SIP, Ends::Never), Banned),
        row("watching", &scan, &world().watching(), Signature),
        row("over the limit", &register, &limited, RegisterLimit).after(2),
        row("takes from the limit", &plain, &limited, RegisterLimit)
            .then(vec![register.build(); 2]),
        row(
            "over the limit of options",
            &scan,
            &world().source_limit(Class::Options, 1),
            Reason::OptionsLimit,
        )
        .after(1),
        row(
            "a phone's credentials",
            &Frame::from(ip(V4)).payload(messages::register_with_credentials()),
            &world(),
            RegisterCredentials,
        ),
    ]
}

//! Rows about the payloads sent to a SIP port, and about a filter that is not configured.

use filter_common::abi::{self, ABI_VERSION};
use filter_common::decision::Reason::{
    self, KeepAlive, NotConfigured, NotSip, Register, RegisterCredentials, Request, Response, Stun,
};

use super::{Case, Ends, World, ip, messages, net};
use crate::packet_builder::{Frame, arp};

/// The rows.
pub fn cases() -> Vec<Case> {
    [methods(), starts(), neighbours(), torture(), sizes(), not_configured()].concat()
}

fn udp(payload: impl AsRef<[u8]>) -> Vec<u8> {
    Frame::from(ip("192.0.2.66")).payload(payload).build()
}

fn row(name: &str, payload: impl AsRef<[u8]>, expect: Reason) -> Case {
    Case::new(name, udp(payload), expect)
}

fn methods() -> Vec<Case> {
    let others = [
        "INVITE",
        "ACK",
        "BYE",
        "CANCEL",
        "OPTIONS",
        "PRACK",
        "SUBSCRIBE",
        "NOTIFY",
        "PUBLISH",
        "INFO",
        "REFER",
        "MESSAGE",
        "UPDATE",
    ];
    let requests = others.map(|method| row(method, messages::request(method), Request));
    let registers = ["REGISTER", "register", "Register", "rEgIsTeR"]
        .map(|method| row(&format!("method {method}"), messages::request(method), Register));
    // PJSIP accepts these in any case.
    let limited = ["invite", "Options", "sUBSCRIBE", "bye"]
        .map(|method| row(&format!("method {method}"), messages::request(method), Request));
    let unlike = ["FOOBAR", "REGISTRY", "REGISTERED", "REGISTE", "XREGISTER", "INVITED"]
        .map(|method| row(&format!("method {method}"), messages::request(method), NotSip));
    [requests.to_vec(), registers.to_vec(), limited.to_vec(), unlike.to_vec()].concat()
}

fn starts() -> Vec<Case> {
    let crlf = |times: usize, rest: &[u8]| [&b"\r\n".repeat(times), rest].concat();
    let register = messages::register();
    vec![
        row("register", &register, Register),
        row("register with compact headers", messages::register_compact(), Register),
        row(
            "register with credentials, within the limit",
            messages::register_with_credentials(),
            RegisterCredentials,
        ),
        row("invite and a tab", b"INVITE\tsip:192.0.2.10 SIP/2.0\r\n\r\n", Request),
        row("bye and a newline", b"BYE\r\n sip:192.0.2.10 SIP/2.0\r\n\r\n", Request),
        row("invite and a zero", b"INVITE\0sip:192.0.2.10 SIP/2.0\r\n\r\n", NotSip),
        row("register and a tab", b"REGISTER\tsip:192.0.2.10 SIP/2.0\r\n\r\n", Register),
        row("register and nothing", b"REGISTER", NotSip),
        row("register and a line's end", b"REGISTER\r\n\r\n", Register),
        row("register and a space", b"REGISTER ", Register),
        row("register, the line cut", b"REGISTER sip:192.0.2.10 SI", Register),
        row("a request line that is cut in its method", b"INVIT", NotSip),
        row("a request line that is cut behind its method", b"OPTIONS ", Request),
        row("a method and no space", b"OPTIONSs", NotSip),
        row("response 200", messages::response("200 OK"), Response),
        row("response 401", messages::response("401 Unauthorized"), Response),
        row("response of another version", b"SIP/3.0 200 OK\r\n\r\n", NotSip),
        row("response in lower case", b"sip/2.0 200 OK\r\n\r\n", NotSip),
        row("keep-alive of two newlines (RFC 5626)", b"\r\n\r\n", KeepAlive),
        row("keep-alive of one newline", b"\r\n", KeepAlive),
        row("keep-alive of nothing", b"", KeepAlive),
        row("keep-alive of a zero byte", b"\0", NotSip),
        row("keep-alive of four zero bytes", b"\0\0\0\0", NotSip),
        row("keep-alive jaK", b"jaK\0", NotSip),
        row("newlines before a register", crlf(2, &register), Register),
        row("newlines before another request", crlf(7, &messages::request("OPTIONS")), Request),
        row("spaces before another request", b" \tOPTIONS sip:a SIP/2.0\r\n\r\n", Request),
        row("more newlines than are skipped", crlf(8, &messages::request("OPTIONS")), Register),
        row("a frame full of newlines", crlf(700, b""), Register),
        row("stun", messages::stun(), Stun),
        row("stun, without its cookie", b"\0\x01\0\0abcdabcdefghijkl", NotSip),
        row("tls over udp", messages::tls_client_hello(), NotSip),
        row("http", b"GET / HTTP/1.1\r\nHost: 192.0.2.10\r\n\r\n", NotSip),
        row("ssh", b"SSH-2.0-OpenSSH_9.2p1\r\n", NotSip),
        row("bytes that are no text", [0xff, 0xfe, 0x80, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10], NotSip),
        row("text that is no sip", b"hello, is anybody there?\r\n", NotSip),
        row("keep-alive of spaces", b"        ", KeepAlive),
        row("sip inside of text", b"x REGISTER sip:192.0.2.10 SIP/2.0\r\n\r\n", NotSip),
    ]
}

/// Payloads other than SIP on a SIP port.
fn neighbours() -> Vec<Case> {
    let tcp = |name: &str, port, payload: &[u8], expect| {
        let frame = Frame::from(ip("192.0.2.66")).tcp(port).payload(payload);
        Case::new(name, frame.build(), expect)
    };
    // RFC 8489 section 5: class and method, length, cookie.
    let stun = |kind: u16, attributes: &[u8]| {
        let mut message = messages::stun();
        message[..2].copy_from_slice(&kind.to_be_bytes());
        message[3] = u8::try_from(attributes.len()).expect("a short message");
        [&message[..], attributes].concat()
    };
    let software = b"\x80\x22\0\x04test";
    let upgrade = b"GET /ws HTTP/1.1\r\nHost: pbx.example.com\r\nUpgrade: websocket\r\n\
        Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
        Sec-WebSocket-Protocol: sip\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let masked = [&[0x81, 0xfe, 1, 0x90, 1, 2, 3, 4][..], &[0x55; 64]].concat();
    vec![
        row("stun with an attribute", stun(1, software), Stun),
        row("stun indication", stun(0x11, &[]), Stun),
        row("stun success", stun(0x101, &[]), Stun),
        row("stun error", stun(0x111, software), Stun),
        row("turn channel data", [0x40, 0, 0, 4, 0x21, 0x12, 0xa4, 0x42], NotSip),
        row("stun that ends in its cookie", [0, 1, 0, 0, 0x21, 0x12, 0xa4], NotSip),
        tcp("keep-alive ping over tcp", 5060, b"\r\n\r\n", KeepAlive),
        tcp("keep-alive pong over tcp", 5060, b"\r\n", KeepAlive),
        tcp("the websocket of a browser (RFC 7118)", 5060, upgrade, NotSip),
        tcp("a frame of a websocket", 5060, &masked, NotSip),
        tcp("tls in the clear port", 5060, &messages::tls_client_hello(), NotSip),
        tcp("tls application data", 5061, b"\x17\x03\x03\0\x20aaaaaaaaaaaaaaaa", NotSip),
        tcp("tls alert", 5061, b"\x15\x03\x03\0\x02\x01\0", NotSip),
        tcp("ssh over tcp", 5060, b"SSH-2.0-OpenSSH_9.2p1\r\n", NotSip),
        row("dtls over udp", b"\x16\xfe\xff\0\0\0\0\0\0\0\0\0\x10\x01\0\0\x04", NotSip),
        row("rtp to the sip port", [0x80, 0, 0, 1, 0, 0, 0, 0xa0, 1, 2, 3, 4], NotSip),
    ]
}

fn torture() -> Vec<Case> {
    let kind = |kind| match kind {
        'R' => Register,
        'C' => RegisterCredentials,
        'q' => Request,
        's' => Response,
        _ => NotSip,
    };
    messages::TORTURE
        .iter()
        .map(|(name, message, expect)| row(&format!("RFC 4475 {name}"), message, kind(*expect)))
        .collect()
}

fn sizes() -> Vec<Case> {
    let long_line = |len: usize| format!("REGISTER sip:{} SIP/2.0\r\n\r\n", "a".repeat(len));
    let v6 = Frame::from(ip("2001:db8::66")).payload(messages::long_register(8900)).build();
    vec![
        row("a register of 1500 bytes", messages::long_register(1400), Register),
        row("a jumbo frame", messages::long_register(8900), Register),
        Case::new("a jumbo frame, ipv6", v6, Register),
        row(
            "a jumbo frame of another request",
            long_line(8900).replace("REGISTER", "OPTIONS"),
            Request,
        ),
        row("a request line of 1400 bytes", long_line(1400), Register),
        row("a request line of 8900 bytes", long_line(8900), Register),
        row("the longest udp datagram", long_line(65_507 - 26), Register),
    ]
}

fn not_configured() -> Vec<Case> {
    let blank = World { abi: None, ..World::default() };
    let banned = blank.clone().ban("192.0.2.66", abi::SCOPE_ALL, Ends::Never);
    let banned_network = blank.clone().ban_network("192.0.2.0/24", abi::SCOPE_ALL, Ends::Never);
    let newer = World {
        abi: Some(ABI_VERSION + 1),
        trusted: vec![net("198.51.100.0/24")],
        ..World::default()
    };
    let newer = newer.ban("192.0.2.66", abi::SCOPE_ALL, Ends::Never);
    let register = messages::register();
    vec![
        row("not configured: register", &register, NotConfigured).within(blank.clone()),
        row("not configured: banned", &register, NotConfigured).within(banned),
        row("not configured: banned network", &register, NotConfigured).within(banned_network),
        row("not configured: many", &register, NotConfigured).within(blank.clone()).after(200),
        Case::new("not configured: arp", arp(), NotConfigured).within(blank),
        row("configured by another version", &register, NotConfigured).within(newer),
    ]
}

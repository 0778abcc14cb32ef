//! The messages of phones and of attackers to a SIP port.

use std::fmt::Write as _;

/// A digest as a phone sends it.
pub const DIGEST: &str = "Digest username=\"600\", realm=\"asterisk\", \
    nonce=\"1792570402/5bb7bd5c9d0a7e4b8a5d3e1c7f2b9a60\", uri=\"sip:192.0.2.10\", \
    response=\"0123456789abcdef0123456789abcdef\", algorithm=MD5, cnonce=\"9f3a\", \
    opaque=\"1f2e3d4c\", qop=auth, nc=00000001";

/// A request with the mandatory fields (RFC 3261 section 8.1.1), then `fields` and `body`.
pub fn request_with(method: &str, fields: &str, body: &str) -> Vec<u8> {
    format!(
        "{method} sip:192.0.2.10 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 192.0.2.66:5060;branch=z9hG4bK-776asdhds;rport\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:600@192.0.2.10>;tag=1928301774\r\n\
         To: <sip:600@192.0.2.10>\r\n\
         Call-ID: a84b4c76e66710@192.0.2.66\r\n\
         CSeq: 314159 {token}\r\n\
         Contact: <sip:600@192.0.2.66:5060>\r\n\
         {fields}Content-Length: {len}\r\n\r\n{body}",
        token = method.trim(),
        len = body.len(),
    )
    .into_bytes()
}

/// A request without credentials.
pub fn request(method: &str) -> Vec<u8> {
    request_with(method, "", "")
}

/// A REGISTER without credentials.
pub fn register() -> Vec<u8> {
    request_with("REGISTER", "Expires: 3600\r\n", "")
}

/// A REGISTER with credentials.
pub fn register_with_credentials() -> Vec<u8> {
    request_with("REGISTER", &format!("Authorization: {DIGEST}\r\n"), "")
}

/// A REGISTER in the compact form (RFC 3261 section 7.3.3).
pub fn register_compact() -> Vec<u8> {
    b"REGISTER sip:192.0.2.10 SIP/2.0\r\nv:SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK1\r\n\
      f:<sip:600@192.0.2.10>;tag=1\r\nt:<sip:600@192.0.2.10>\r\ni:1@192.0.2.66\r\n\
      CSeq:1 REGISTER\r\nm:<sip:600@192.0.2.66>\r\nl:0\r\n\r\n"
        .to_vec()
}

/// A REGISTER of exactly `len` bytes whose credentials are its last field.
///
/// # Panics
///
/// If `len` is too short for such a REGISTER.
pub fn register_with_late_credentials(len: usize) -> Vec<u8> {
    let of = |filler: &str| {
        let fields = format!("User-Agent: {filler}\r\nAuthorization: {DIGEST}\r\n");
        let mut message =
            String::from_utf8_lossy(&request_with("REGISTER", &fields, "")).into_owned();
        // This field would come after the credentials, and is optional without a body.
        message = message.replace("Content-Length: 0\r\n", "");
        message.into_bytes()
    };
    let filler = len.checked_sub(of("").len()).expect("a REGISTER is longer than that");
    of(&"x".repeat(filler))
}

/// A REGISTER of about `len` bytes without credentials, in fields only.
pub fn long_register(len: usize) -> Vec<u8> {
    let mut fields = String::new();
    for number in 0.. {
        if fields.len() >= len.saturating_sub(400) {
            break;
        }
        // Writing to a string cannot fail.
        let _ok = write!(fields, "X-Field-{number}: A\u{e4}: authorization, and more of that\r\n");
    }
    request_with("REGISTER", &fields, "")
}

/// A response.
pub fn response(line: &str) -> Vec<u8> {
    format!(
        "SIP/2.0 {line}\r\nVia: SIP/2.0/UDP 192.0.2.10:5060;branch=z9hG4bK-1\r\n\
         From: <sip:600@192.0.2.10>;tag=1\r\nTo: <sip:600@192.0.2.66>;tag=2\r\n\
         Call-ID: 1@192.0.2.10\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
    .into_bytes()
}

/// A STUN binding request (RFC 8489 section 5).
pub fn stun() -> Vec<u8> {
    let mut message = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42];
    message.extend(1..=12);
    message
}

/// A payload of each kind, with its name.
pub fn kinds() -> [(&'static str, Vec<u8>); 8] {
    [
        ("register", register()),
        ("register with credentials", register_with_credentials()),
        ("invite", request("INVITE")),
        ("response", response("200 OK")),
        ("keep-alive", b"\r\n\r\n".to_vec()),
        ("stun", stun()),
        ("nothing", Vec::new()),
        ("no sip", b"hello, is anybody there?".to_vec()),
    ]
}

/// The start of a TLS handshake: record, `ClientHello`, version, random.
pub fn tls_client_hello() -> Vec<u8> {
    let mut hello = vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    hello.extend([0x5a; 32]);
    hello.extend([0, 0, 2, 0x13, 1, 1, 0]);
    hello
}

/// The torture tests of RFC 4475 (section 3), abridged: name, message, and how the filter reads it: as a
/// REGISTER (`R`), a REGISTER with credentials (`C`), another request (`q`), a response (`s`) or none of
/// these (`n`).
///
/// Asterisk, not the filter, judges everything after the first bytes.
pub const TORTURE: &[(&str, &[u8], char)] = &[
    ("wsinv", b"INVITE sip:vivekg@chair-dnrc.example.com;unknownparam SIP/2.0\r\nTO :\r\n sip:vivekg@chair-dnrc.example.com ;   tag    = 1918181833n\r\nfrom   : \"J Rosenberg \\\\\\\"\"       <sip:jdrosen@example.com>\r\n  ;\r\n  tag = 98asjd8\r\nMaX-fOrWaRdS: 0068\r\n\r\n", 'q'),
    ("intmeth", b"!interesting-Method0123456789_*+`.%indeed'~ sip:1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*:&it+has=1,weird!*pas$wo~d_too.(doesn't-it)@example.com SIP/2.0\r\n\r\n", 'n'),
    ("esc01", b"INVITE sip:sips%3Auser%40example.com@example.net SIP/2.0\r\n\r\n", 'q'),
    ("escnull", b"REGISTER sip:example.com SIP/2.0\r\nTo: sip:null-%00-null@example.com\r\n\r\n", 'R'),
    ("esc02", b"RE%47IST%45R sip:registrar.example.com SIP/2.0\r\n\r\n", 'n'),
    ("lwsdisp", b"OPTIONS sip:user@example.com SIP/2.0\r\nFrom: caller<sip:caller@example.com>;tag=323\r\n\r\n", 'q'),
    ("longreq", b"INVITE sip:user@example.com SIP/2.0\r\nTo: \"I have a user name of extreme proportion\"<sip:user@example.com:6000;unknownparam1=verylong>\r\n\r\n", 'q'),
    ("dblreq", b"REGISTER sip:example.com SIP/2.0\r\nContent-Length: 0\r\n\r\nINVITE sip:joe@example.com SIP/2.0\r\n\r\n", 'R'),
    ("semiuri", b"OPTIONS sip:user;par=u%40example.net@example.com SIP/2.0\r\n\r\n", 'q'),
    ("transports", b"OPTIONS sip:user@example.com SIP/2.0\r\nVia: SIP/2.0/UNKNOWN t5.example.com\r\n\r\n", 'q'),
    ("mpart01", b"MESSAGE sip:kumiko@example.org SIP/2.0\r\n\r\n", 'q'),
    ("unreason", b"SIP/2.0 200 = 2**3 * 5**2 \xd0\xbd\xd0\xbe\r\n\r\n", 's'),
    ("noreason", b"SIP/2.0 100 \r\n\r\n", 's'),
    ("badinv01", b"INVITE sip:user@example.com SIP/2.0\r\nContact: \"Joe\" <sip:joe@example.org>;;;;\r\n\r\n", 'q'),
    ("clerr", b"INVITE sip:user@example.com SIP/2.0\r\nContent-Length: 9999\r\n\r\nv=0\r\n", 'q'),
    ("ncl", b"INVITE sip:user@example.com SIP/2.0\r\nContent-Length: -999\r\n\r\n", 'q'),
    ("scalar02", b"REGISTER sip:example.com SIP/2.0\r\nCSeq: 36893488147419103232 REGISTER\r\nExpires: 1000000000000000000000000\r\n\r\n", 'R'),
    ("scalarlg", b"SIP/2.0 503 Service Unavailable\r\nRetry-After: 949302838503028349304023988\r\n\r\n", 's'),
    ("quotbal", b"INVITE sip:user@example.com SIP/2.0\r\nTo: \"Mr. J. User <sip:j.user@example.com>\r\n\r\n", 'q'),
    ("ltgtruri", b"INVITE <sip:user@example.com> SIP/2.0\r\n\r\n", 'q'),
    ("lwsruri", b"INVITE sip:user@example.com; lr SIP/2.0\r\n\r\n", 'q'),
    ("lwsstart", b"INVITE  sip:user@example.com  SIP/2.0\r\n\r\n", 'q'),
    ("trws", b"OPTIONS sip:remote-target@example.com SIP/2.0  \r\n\r\n", 'q'),
    ("baddate", b"INVITE sip:user@example.com SIP/2.0\r\nDate: Fri, 01 Jan 2010 16:00:00 EST\r\n\r\n", 'q'),
    ("badaspec", b"OPTIONS sip:user@example.org SIP/2.0\r\nTo: \"Watson, Thomas\" < sip:t.watson@example.org >\r\n\r\n", 'q'),
    ("baddn", b"OPTIONS sip:t.watson@example.org SIP/2.0\r\nFrom: Bell, Alexander <sip:a.g.bell@example.com>;tag=43\r\n\r\n", 'q'),
    ("novelsc", b"OPTIONS soap.beep://192.0.2.103:3002 SIP/2.0\r\n\r\n", 'q'),
    ("invut", b"INVITE sip:user@example.com SIP/2.0\r\nContent-Type: application/unknownformat\r\n\r\n<audio>\r\n", 'q'),
    ("regaut01", b"REGISTER sip:example.com SIP/2.0\r\nAuthorization: NoOneKnowsThisScheme opaque-data=here\r\n\r\n", 'C'),
    ("cparam02", b"REGISTER sip:example.com SIP/2.0\r\nContact: <sip:+19725552222@gw1.example.net;unknownparam>\r\n\r\n", 'R'),
    ("sdp01", b"INVITE sip:user@example.com SIP/2.0\r\nAccept: text/nobodyKnowsThis\r\n\r\nv=0\r\n", 'q'),
    ("escruri", b"INVITE sip:user@example.com?Route=%3Csip:example.com%3E SIP/2.0\r\n\r\n", 'q'),
    ("badvers", b"OPTIONS sip:t.watson@example.org SIP/7.0\r\n\r\n", 'q'),
    ("mismatch01", b"OPTIONS sip:user@example.com SIP/2.0\r\nCSeq: 8 INVITE\r\n\r\n", 'q'),
    ("mismatch02", b"NEWMETHOD sip:user@example.com SIP/2.0\r\nCSeq: 8 INVITE\r\n\r\n", 'n'),
    ("bigcode", b"SIP/2.0 4294967301 better not break the receiver\r\n\r\n", 's'),
    ("badbranch", b"OPTIONS sip:user@example.com SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK\r\n\r\n", 'q'),
    ("insuf", b"INVITE sip:user@example.com SIP/2.0\r\nCSeq: 193942 INVITE\r\n\r\n", 'q'),
    ("unkscm", b"OPTIONS nobodyKnowsThisScheme:totallyopaquecontent SIP/2.0\r\n\r\n", 'q'),
    ("unksm2", b"REGISTER sip:example.com SIP/2.0\r\nTo: isbn:2983792873\r\n\r\n", 'R'),
    ("bext01", b"OPTIONS sip:user@example.com SIP/2.0\r\nRequire: nothingSupportsThis\r\n\r\n", 'q'),
    ("regbadct", b"REGISTER sip:example.com SIP/2.0\r\nContact: sip:user@example.com?Route=%3Csip:sip.example.com%3E\r\n\r\n", 'R'),
    ("multi01", b"INVITE sip:user@company.com SIP/2.0\r\nCSeq: 5 INVITE\r\nCSeq: 59 INVITE\r\n\r\n", 'q'),
    ("mcl01", b"OPTIONS sip:user@example.com SIP/2.0\r\nContent-Length: 13\r\nContent-Length: 5\r\n\r\n", 'q'),
    ("bcast", b"SIP/2.0 200 OK\r\nVia: SIP/2.0/UDP 255.255.255.255;branch=z9hG4bK1saber23\r\n\r\n", 's'),
    ("zeromf", b"OPTIONS sip:user@example.com SIP/2.0\r\nMax-Forwards: 0\r\n\r\n", 'q'),
    ("cparam01", b"REGISTER sip:example.com SIP/2.0\r\nContact: sip:+19725552222@gw1.example.net;unknownparam\r\n\r\n", 'R'),
    ("regescrt", b"REGISTER sip:example.com SIP/2.0\r\nContact: <sip:user@example.com?Route=%3Csip:sip.example.com%3E>\r\n\r\n", 'R'),
    ("inv2543", b"INVITE sip:UserB@example.com SIP/2.0\r\nVia: SIP/2.0/UDP iftgw.example.com\r\n\r\n", 'q'),
];

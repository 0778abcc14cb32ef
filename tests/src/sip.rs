//! The parts of SIP that the phone and the tap need: the start of a message, a few headers, and digest
//! authentication. Its input is untrusted: unreadable parts are treated as missing.

use std::fmt::Write as _;

use md5::{Digest, Md5};

/// The most headers that are read.
const HEADERS_MAX: usize = 64;

/// A request or a response, as far as it is read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Its first line.
    pub start: Start<'a>,
    /// `Call-ID`, empty if there is none.
    pub call_id: &'a [u8],
    /// The number in `CSeq`.
    pub cseq: Option<u32>,
    /// The `branch` of the topmost `Via`, which names the transaction (RFC 3261 section 17.1.3).
    pub branch: Option<&'a [u8]>,
    /// Whether there is an `Authorization`.
    pub has_authorization: bool,
    /// The first `WWW-Authenticate` that asks for MD5.
    pub challenge: Option<Challenge>,
}

/// The first line of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start<'a> {
    /// A request with this method.
    Request(&'a [u8]),
    /// A response with this status.
    Response(u16),
}

/// Reads `bytes` as a SIP message.
pub fn parse(bytes: &[u8]) -> Option<Message<'_>> {
    let mut lines = bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii_end);
    let mut message = Message {
        start: start(lines.next()?)?,
        call_id: &[],
        cseq: None,
        branch: None,
        has_authorization: false,
        challenge: None,
    };
    for line in lines.take(HEADERS_MAX).take_while(|line| !line.is_empty()) {
        let Some(colon) = line.iter().position(|byte| *byte == b':') else {
            continue;
        };
        let (name, value) = (line[..colon].trim_ascii_end(), line[colon + 1..].trim_ascii());
        if is(name, "call-id") || is(name, "i") {
            message.call_id = value;
        } else if is(name, "cseq") {
            message.cseq = number(value);
        } else if (is(name, "via") || is(name, "v")) && message.branch.is_none() {
            message.branch = branch(value);
        } else if is(name, "authorization") {
            message.has_authorization = true;
        } else if is(name, "www-authenticate") && message.challenge.is_none() {
            message.challenge = Challenge::parse(value);
        }
    }
    Some(message)
}

fn start(line: &[u8]) -> Option<Start<'_>> {
    if let Some(rest) = line.strip_prefix(b"SIP/2.0 ") {
        let status = std::str::from_utf8(rest.get(..3)?).ok()?.parse().ok()?;
        let ends = rest.get(3).is_none_or(|byte| *byte == b' ');
        return (ends && (100..700).contains(&status)).then_some(Start::Response(status));
    }
    let space = line.iter().position(|byte| *byte == b' ')?;
    let method = &line[..space];
    (line.ends_with(b" SIP/2.0") && !method.is_empty()).then_some(Start::Request(method))
}

fn is(name: &[u8], other: &str) -> bool {
    name.eq_ignore_ascii_case(other.as_bytes())
}

fn number(value: &[u8]) -> Option<u32> {
    let digits = value.iter().take_while(|byte| byte.is_ascii_digit()).count();
    std::str::from_utf8(&value[..digits]).ok()?.parse().ok()
}

fn branch(via: &[u8]) -> Option<&[u8]> {
    let first = via.split(|byte| *byte == b',').next()?;
    first.split(|byte| *byte == b';').find_map(|parameter| {
        let parameter = parameter.trim_ascii();
        let (name, value) = parameter.split_at_checked("branch=".len())?;
        is(name, "branch=").then_some(value)
    })
}

/// A digest challenge (RFC 2617 section 3.2.1).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Challenge {
    /// The realm.
    pub realm: String,
    /// The nonce.
    pub nonce: String,
    /// Returned unchanged.
    pub opaque: Option<String>,
    /// Whether `qop=auth` is offered.
    pub qop_auth: bool,
}

impl Challenge {
    /// Reads the value of a `WWW-Authenticate` that asks for MD5.
    pub fn parse(value: &[u8]) -> Option<Self> {
        let value = std::str::from_utf8(value).ok()?;
        let (scheme, rest) = value.split_once(' ')?;
        if !scheme.eq_ignore_ascii_case("digest") {
            return None;
        }
        let mut challenge = Self::default();
        for (name, value) in parameters(rest) {
            match name.to_ascii_lowercase().as_str() {
                "realm" => challenge.realm = value,
                "nonce" => challenge.nonce = value,
                "opaque" => challenge.opaque = Some(value),
                "qop" => challenge.qop_auth = value.split(',').any(|qop| qop.trim() == "auth"),
                "algorithm" if !value.eq_ignore_ascii_case("md5") => return None,
                _ => {}
            }
        }
        (!challenge.nonce.is_empty()).then_some(challenge)
    }
}

/// `name=value` and `name="quoted \" value"`, separated by commas.
fn parameters(text: &str) -> Vec<(&str, String)> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some((name, after)) = rest.split_once('=') {
        let name = name.trim_start_matches([',', ' ', '\t']).trim_end();
        let (value, remains) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => match after.split_once(',') {
                Some((value, remains)) => (value.trim().to_owned(), remains),
                None => (after.trim().to_owned(), ""),
            },
        };
        found.push((name, value));
        rest = remains;
    }
    found
}

/// The text up to the closing quote, and what follows it.
fn unquote(text: &str) -> (String, &str) {
    let mut value = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, &text[at + 1..]),
            '\\' => value.extend(chars.next().map(|(_at, c)| c)),
            _ => value.push(c),
        }
    }
    (value, "")
}

/// The answer to a challenge.
#[derive(Clone, Copy, Debug)]
pub struct Answer<'a> {
    /// The account.
    pub username: &'a str,
    /// Its password.
    pub password: &'a str,
    /// The request's method.
    pub method: &'a str,
    /// The request's URI.
    pub uri: &'a str,
    /// A value that the client chooses.
    pub cnonce: &'a str,
}

impl Answer<'_> {
    /// The value of `Authorization` that answers `challenge`.
    pub fn header(&self, challenge: &Challenge) -> String {
        let Challenge { realm, nonce, opaque, qop_auth } = challenge;
        let mut header = format!(
            "Digest username=\"{}\", realm=\"{realm}\", nonce=\"{nonce}\", uri=\"{}\", \
             response=\"{}\", algorithm=MD5",
            self.username,
            self.uri,
            self.response(challenge)
        );
        // Writing to a String cannot fail.
        if let Some(opaque) = opaque {
            write!(header, ", opaque=\"{opaque}\"").ok();
        }
        if *qop_auth {
            write!(header, ", qop=auth, nc=00000001, cnonce=\"{}\"", self.cnonce).ok();
        }
        header
    }

    fn response(&self, challenge: &Challenge) -> String {
        let a1 = md5(&format!("{}:{}:{}", self.username, challenge.realm, self.password));
        let a2 = md5(&format!("{}:{}", self.method, self.uri));
        let nonce = &challenge.nonce;
        if challenge.qop_auth {
            md5(&format!("{a1}:{nonce}:00000001:{}:auth:{a2}", self.cnonce))
        } else {
            md5(&format!("{a1}:{nonce}:{a2}"))
        }
    }
}

fn md5(text: &str) -> String {
    Md5::digest(text.as_bytes()).iter().fold(String::with_capacity(32), |mut hex, byte| {
        // Writing to a String cannot fail.
        write!(hex, "{byte:02x}").ok();
        hex
    })
}

/// A text with all bytes but letters and digits percent-encoded (RFC 3986 section 2.1).
#[must_use]
pub fn percent_encoded(text: &str) -> String {
    let encoded = text.bytes().map(|byte| match byte {
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' => char::from(byte).to_string(),
        _ => format!("%{byte:02x}"),
    });
    encoded.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const UNAUTHORIZED: &[u8] = b"SIP/2.0 401 Unauthorized\r\n\
        Via: SIP/2.0/UDP 192.0.2.20:5060;rport=5060;received=192.0.2.20;branch=z9hG4bKa1\r\n\
        v: SIP/2.0/UDP 192.0.2.99;branch=z9hG4bKother\r\n\
        Call-ID: abc@192.0.2.20\r\nFrom: <sip:1001@192.0.2.10>;tag=1\r\n\
        To: <sip:1001@192.0.2.10>;tag=z9\r\nCSeq: 7 REGISTER\r\n\
        WWW-Authenticate: Digest realm=\"asterisk\",nonce=\"1795339941/5a1\",opaque=\"7f\",\
        algorithm=MD5,qop=\"auth\"\r\nServer: Wazo PBX\r\nContent-Length:  0\r\n\r\n";

    #[test]
    fn a_challenge_is_read() {
        let message = parse(UNAUTHORIZED).unwrap();
        assert_eq!(message.start, Start::Response(401));
        assert_eq!(message.call_id, b"abc@192.0.2.20");
        assert_eq!(message.cseq, Some(7));
        assert_eq!(message.branch, Some(&b"z9hG4bKa1"[..]));
        assert!(!message.has_authorization);
        let challenge = message.challenge.unwrap();
        assert_eq!(challenge.realm, "asterisk");
        assert_eq!(challenge.nonce, "1795339941/5a1");
        assert_eq!(challenge.opaque.as_deref(), Some("7f"));
        assert!(challenge.qop_auth);
    }

    #[test]
    fn a_request_with_compact_headers_is_read() {
        let message = parse(
            b"REGISTER sip:x SIP/2.0\r\nv: SIP/2.0/UDP h ; Branch=b1\r\ni: c1\r\ncseq:2 REGISTER\r\n\
              AUTHORIZATION : Digest x\r\n\r\nAuthorization: in the body",
        )
        .unwrap();
        assert_eq!(message.start, Start::Request(b"REGISTER"));
        assert_eq!((message.call_id, message.cseq), (&b"c1"[..], Some(2)));
        assert_eq!(message.branch, Some(&b"b1"[..]));
        assert!(message.has_authorization);
    }

    #[test]
    fn a_body_is_not_read_as_headers() {
        let message = parse(b"REGISTER sip:x SIP/2.0\r\n\r\nAuthorization: Digest x\r\n").unwrap();
        assert!(!message.has_authorization);
    }

    #[test]
    fn what_is_not_sip_is_nothing() {
        for bytes in [
            &b""[..],
            b"\r\n\r\n",
            b"SIP/2.0",
            b"SIP/2.0 \r\n",
            b"SIP/2.0 9",
            b"SIP/2.0 999 X",
            b"SIP/2.0 2000 X",
            b"GET / HTTP/1.1\r\n",
            b" SIP/2.0",
            b"\xff\xfe\r\n",
        ] {
            assert_eq!(parse(bytes), None, "{bytes:?}");
        }
    }

    #[test]
    fn the_example_of_rfc_2617_section_3_5() {
        let challenge = Challenge::parse(
            b"Digest realm=\"testrealm@host.com\", qop=\"auth,auth-int\", \
              nonce=\"dcd98b7102dd2f0e8b11d0f600bfb0c093\", \
              opaque=\"5ccc069c403ebaf9f0171e9517f40e41\"",
        )
        .unwrap();
        let answer = Answer {
            username: "Mufasa",
            password: "Circle Of Life",
            method: "GET",
            uri: "/dir/index.html",
            cnonce: "0a4f113b",
        };
        assert_eq!(answer.response(&challenge), "6629fae49393a05397450978507c4ef1");
        let header = answer.header(&challenge);
        assert!(header.contains("opaque=\"5ccc069c403ebaf9f0171e9517f40e41\""), "{header}");
        assert!(header.contains("qop=auth, nc=00000001, cnonce=\"0a4f113b\""), "{header}");
    }

    #[test]
    fn another_algorithm_is_not_answered() {
        assert_eq!(Challenge::parse(b"Digest nonce=\"n\", algorithm=SHA-256"), None);
        assert_eq!(Challenge::parse(b"Basic realm=\"r\""), None);
        assert_eq!(Challenge::parse(b"Digest realm=\"no nonce\""), None);
    }

    #[test]
    fn quotes_and_backslashes_in_parameters() {
        let challenge =
            Challenge::parse(b"Digest realm=\"a\\\", nonce=x\",nonce=\"n\\\\\"").unwrap();
        assert_eq!(challenge.realm, "a\", nonce=x");
        assert_eq!(challenge.nonce, "n\\");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
            parse(&bytes);
            Challenge::parse(&bytes);
        }

        #[test]
        fn no_damaged_response_panics(at in 0..UNAUTHORIZED.len(), byte: u8, end in 0..UNAUTHORIZED.len()) {
            let mut bytes = UNAUTHORIZED.to_vec();
            bytes[at] = byte;
            parse(&bytes);
            parse(&bytes[..end]);
        }
    }
}

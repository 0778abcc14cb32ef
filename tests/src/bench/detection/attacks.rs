//! The attacks and the forgeries, as requests of a client.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::{Duration, Instant};

use crate::netns::Netns;
use crate::sip::{self, Answer, Challenge, Start};
use crate::sip_socket::SipSocket;
use crate::world::{PBX, PBX6, SIP_PORT};

/// How long a client waits for an answer.
const PATIENCE: Duration = Duration::from_millis(300);

/// The time between two attempts.
pub(super) const GAP: Duration = Duration::from_millis(600);

/// How many attempts an attacker makes, and a forger.
pub(super) const ATTEMPTS: u32 = 40;

/// How many numbers an attacker tries who has a password: three of them count as one failure.
pub(super) const CALLS: u32 = 60;

/// What a client sends with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Credentials {
    /// Nothing.
    None,
    /// A nonce that nobody has sent.
    Invented,
    /// The answer to the challenge, with a wrong password.
    Wrong,
    /// The same with the right one.
    Right,
}

/// The transport.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Over {
    Udp,
    Tcp,
    Udp6,
}

/// Texts that an attacker chooses to mislead a reader of logs. `@` is the number of the attempt.
#[derive(Clone, Copy, Debug)]
pub(super) struct Texts {
    /// The value of the From before its tag, unless it is the plain one.
    pub(super) from: Option<&'static [u8]>,
    /// The Call-ID, unless it is a plain one.
    pub(super) call_id: Option<&'static [u8]>,
}

const PLAIN: Texts = Texts { from: None, call_id: None };

/// An attack from an address of its own, or a forgery.
#[derive(Clone, Copy, Debug)]
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) method: &'static str,
    pub(super) user: User,
    pub(super) credentials: Credentials,
    pub(super) over: Over,
    pub(super) texts: Texts,
    /// How many attempts are made.
    pub(super) attempts: u32,
    /// Who must not be banned for it: an address in its texts, or its source if that is forged.
    pub(super) victim: Option<Victim>,
}

/// The user that a request names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Account 1001.
    Known,
    /// Another unknown one each time.
    Unknown,
}

/// Who must not be banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Victim {
    /// An address in the texts.
    Named(Ipv4Addr),
    /// The source, whose owner registers afterwards.
    Source,
}

const fn attack(name: &'static str, user: User, credentials: Credentials) -> Attack {
    let (method, over, texts, victim) = ("REGISTER", Over::Udp, PLAIN, None);
    Attack { name, method, user, credentials, over, texts, attempts: ATTEMPTS, victim }
}

const fn guess(name: &'static str) -> Attack {
    attack(name, User::Known, Credentials::Wrong)
}

const fn forgery(name: &'static str, victim: u8, texts: Texts) -> Attack {
    let victim = Some(Victim::Named(Ipv4Addr::new(203, 0, 113, victim)));
    Attack { texts, victim, ..attack(name, User::Known, Credentials::Invented) }
}

/// Every attack.
pub(super) const ATTACKS: [Attack; 19] = [
    guess("wrong passwords over UDP"),
    Attack { over: Over::Tcp, ..guess("wrong passwords over TCP") },
    Attack { over: Over::Udp6, ..guess("wrong passwords over UDP and IPv6") },
    Attack { method: "INVITE", ..guess("wrong passwords in INVITEs") },
    Attack {
        texts: Texts { call_id: Some(b"a\xff@"), ..PLAIN },
        ..guess("wrong passwords, a Call-ID that is not UTF-8")
    },
    Attack {
        texts: Texts { call_id: Some(b"x) - @"), ..PLAIN },
        ..guess("wrong passwords, a Call-ID with a parenthesis")
    },
    Attack {
        texts: Texts { from: Some(b"\"a\x00b\" <sip:1001@192.0.2.10>"), ..PLAIN },
        ..guess("wrong passwords, a From with a NUL")
    },
    Attack {
        texts: Texts { from: Some(b"\"a\x1b[0b\" <sip:1001@192.0.2.10>"), ..PLAIN },
        ..guess("wrong passwords, a From with an escape sequence")
    },
    attack("invented nonces", User::Known, Credentials::Invented),
    attack("unknown users with passwords", User::Unknown, Credentials::Wrong),
    attack("a scan of unknown users, REGISTER", User::Unknown, Credentials::None),
    Attack {
        method: "OPTIONS",
        ..attack("a scan of unknown users, OPTIONS", User::Unknown, Credentials::None)
    },
    Attack {
        method: "INVITE",
        ..attack("a scan of unknown users, INVITE", User::Unknown, Credentials::None)
    },
    Attack {
        over: Over::Tcp,
        ..attack("a scan of unknown users over TCP", User::Unknown, Credentials::None)
    },
    Attack {
        texts: Texts { call_id: Some(b"a\xff@"), ..PLAIN },
        ..attack(
            "a scan of unknown users, a Call-ID that is not UTF-8",
            User::Unknown,
            Credentials::None,
        )
    },
    attack("a known account, never answered", User::Known, Credentials::None),
    Attack {
        method: "INVITE",
        attempts: CALLS,
        ..attack("calls to unknown extensions after a login", User::Known, Credentials::Right)
    },
    Attack {
        method: "INVITE",
        attempts: CALLS,
        over: Over::Tcp,
        ..attack(
            "calls to unknown extensions after a login, over TCP",
            User::Known,
            Credentials::Right,
        )
    },
    Attack { method: "x", ..attack("datagrams that are not SIP", User::Known, Credentials::None) },
];

/// Stands for a From that writes a whole line of the present into the log: PJSIP decodes a parameter whose value
/// begins with a quote.
const WHOLE_LINE: &[u8] = b"a whole line";

/// The From for [`WHOLE_LINE`].
fn whole_line() -> Vec<u8> {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%d %H:%M:%S.0000").to_string();
    let line = format!(
        "[{now}] NOTICE[1] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from '<sip:1@h>' failed for \
         '203.0.113.4:5060' (callid: x) - Failed to authenticate"
    );
    let encoded = line.bytes().map(|byte| format!("%{byte:02x}")).collect::<Vec<_>>().concat();
    format!("<sip:1001@192.0.2.10;p=%22%0a{encoded}%0a>").into_bytes()
}

/// Every forgery.
pub(super) const FORGERIES: [Attack; 6] = [
    forgery(
        "an address in the Call-ID",
        1,
        Texts { call_id: Some(b"y' failed for '203.0.113.1:5060' (callid: @"), ..PLAIN },
    ),
    forgery(
        "an address in the display name",
        2,
        Texts {
            from: Some(b"\"y' failed for '203.0.113.2:5060' (callid: x\" <sip:1001@192.0.2.10>"),
            ..PLAIN
        },
    ),
    forgery(
        "an address in a parameter of the From",
        3,
        Texts {
            from: Some(b"<sip:1001@192.0.2.10;p=\"y' failed for '203.0.113.3:5060' (callid: x\">"),
            ..PLAIN
        },
    ),
    forgery(
        "a whole line, by a line break in the From",
        4,
        Texts { from: Some(WHOLE_LINE), ..PLAIN },
    ),
    Attack {
        victim: Some(Victim::Source),
        ..attack("failures with the source of a stranger", User::Known, Credentials::Invented)
    },
    Attack {
        victim: Some(Victim::Source),
        ..attack("a scan with the source of a stranger", User::Unknown, Credentials::None)
    },
];

/// The address of the attack with this number.
pub(super) fn source(number: usize, over: Over) -> IpAddr {
    let place = u8::try_from(number).unwrap_or(0);
    match over {
        Over::Udp | Over::Tcp => IpAddr::from([192, 0, 2, 100 + place]),
        Over::Udp6 => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 1, place.into()).into(),
    }
}

/// The tag of the To, with the semicolon before it.
fn tag(message: &[u8]) -> Vec<u8> {
    let to = message.split(|byte| *byte == b'\r').find(|line| line.starts_with(b"\nTo:"));
    let tag = to.and_then(|to| {
        let at = to.windows(5).position(|bytes| bytes == b";tag=")?;
        to.get(at..)
    });
    tag.unwrap_or_default().to_vec()
}

/// A final answer.
enum Final {
    Challenge(Challenge),
    Other,
}

/// A client that makes the attempts of an attack.
pub(super) struct Client<'a> {
    attack: &'a Attack,
    socket: SipSocket,
    password: &'a str,
    cseq: u32,
    /// The tag that the last answer has added to the To.
    tag: Vec<u8>,
}

impl<'a> Client<'a> {
    pub(super) fn new(
        host: &Netns,
        attack: &'a Attack,
        source: IpAddr,
        password: &'a str,
    ) -> anyhow::Result<Self> {
        let target = SocketAddr::new(if source.is_ipv4() { PBX } else { PBX6 }, SIP_PORT);
        let open = if attack.over == Over::Tcp { SipSocket::tcp } else { SipSocket::udp };
        let socket = open(host, source, target, PATIENCE)?;
        Ok(Self { attack, socket, password, cseq: 0, tag: Vec::new() })
    }

    /// Makes the attempt of this number. Returns whether it was answered in full.
    pub(super) fn attempt(&mut self, number: u32) -> bool {
        if self.attack.method == "x" {
            // Nothing answers it.
            return self.exchange(b"INVITE sip:a SIP/2.0\r\nVia: ?\r\n\r\n").is_some();
        }
        let invented = format!(
            "Digest username=\"1001\", realm=\"asterisk\", nonce=\"1/{number:032x}\", \
             uri=\"sip:192.0.2.10\", response=\"{number:032x}\", algorithm=MD5"
        );
        let first = self.attack.credentials == Credentials::Invented;
        let Some(answer) = self.ask(number, first.then_some(invented.as_str())) else {
            return false;
        };
        let password = match self.attack.credentials {
            Credentials::None | Credentials::Invented => return true,
            Credentials::Wrong => "wrong",
            Credentials::Right => self.password,
        };
        let Final::Challenge(challenge) = answer else { return false };
        let answer = Answer {
            username: &self.user(number),
            password,
            method: self.attack.method,
            uri: "sip:192.0.2.10",
            cnonce: "0a4f113b",
        };
        self.ask(number, Some(&answer.header(&challenge))).is_some()
    }

    fn user(&self, number: u32) -> String {
        match self.attack.user {
            User::Known => "1001".to_owned(),
            User::Unknown => format!("x{number}"),
        }
    }

    /// Sends a request. Returns its final answer, if there is one.
    fn ask(&mut self, number: u32, authorization: Option<&str>) -> Option<Final> {
        self.cseq += 1;
        let Attack { method, texts, .. } = *self.attack;
        let (local, cseq, user) = (self.socket.local(), self.cseq, self.user(number));
        let counted = |text: &[u8]| -> Vec<u8> {
            if text == WHOLE_LINE {
                return whole_line();
            }
            let end =
                text.strip_suffix(b"@").map(|text| [text, number.to_string().as_bytes()].concat());
            end.unwrap_or_else(|| text.to_vec())
        };
        let plain = format!("<sip:{user}@192.0.2.10>").into_bytes();
        let from = texts.from.map_or(plain, counted);
        let plain = format!("d{number}-{}", local.port()).into_bytes();
        let call_id = texts.call_id.map_or(plain, counted);
        let transport = self.socket.transport();
        let to = if method == "INVITE" { format!("0044{number}") } else { user.clone() };
        let authorization =
            authorization.map_or_else(String::new, |with| format!("Authorization: {with}\r\n"));
        let mut request = format!(
            "{method} sip:{to}@192.0.2.10 SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};rport;branch=z9hG4bKd{}x{cseq}\r\n\
             Max-Forwards: 70\r\nFrom: ",
            local.port()
        )
        .into_bytes();
        request.extend(from);
        request.extend(format!(";tag=d{number}\r\nTo: <sip:{to}@192.0.2.10>\r\nCall-ID: ").bytes());
        request.extend(call_id);
        request.extend(
            format!(
                "\r\nCSeq: {cseq} {method}\r\nContact: <sip:{user}@{local}>\r\n{authorization}\
                 Content-Length: 0\r\n\r\n"
            )
            .bytes(),
        );
        let answer = self.exchange(&request);
        if method == "INVITE" && answer.is_some() {
            // Without it, Asterisk repeats its answer for half a minute (RFC 3261 section 17.2.1).
            let to = format!("\r\nTo: <sip:{to}@192.0.2.10>");
            let tagged = [to.as_bytes(), self.tag.as_slice()].concat();
            let ack = String::from_utf8_lossy(&request).replace("INVITE", "ACK");
            let ack = ack.replacen(&to, &String::from_utf8_lossy(&tagged), 1);
            self.socket.send(ack.as_bytes()).ok();
        }
        answer
    }

    /// Sends bytes, and waits for a final answer.
    fn exchange(&mut self, request: &[u8]) -> Option<Final> {
        self.socket.send(request).ok()?;
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 8192];
        while Instant::now() < end {
            let length = self.socket.receive(&mut buffer).ok()?;
            let message = sip::parse(buffer.get(..length)?)?;
            match message.start {
                Start::Response(100..200) | Start::Request(_) => {}
                // The response to an earlier request, again.
                Start::Response(_) if message.cseq != Some(self.cseq) => {}
                Start::Response(_) => {
                    self.tag = tag(buffer.get(..length)?);
                    return Some(message.challenge.map_or(Final::Other, Final::Challenge));
                }
            }
        }
        None
    }
}

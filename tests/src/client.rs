//! A client for tests that choose every byte of a request: it asks over UDP or TCP, answers challenges with any
//! password, and sends again what another one has sent.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::netns::Netns;
use crate::sip::{self, Answer, Challenge, Start};
use crate::sip_socket::SipSocket;
use crate::world::SIP_PORT;

/// How long to wait for a final response.
const PATIENCE: Duration = Duration::from_secs(2);

/// A client with one socket.
#[derive(Debug)]
pub struct Client {
    socket: SipSocket,
    target: IpAddr,
}

/// What a request says.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The user of the From.
    pub user: &'a str,
    /// The user of the To.
    pub to: &'a str,
    /// The tag of the To, with `;tag=`.
    pub to_tag: &'a str,
    /// The Call-ID.
    pub call_id: &'a str,
    /// The number of the `CSeq`.
    pub cseq: u32,
    /// The branch of the Via, after the magic cookie.
    pub branch: &'a str,
    /// The field with credentials, with its line break.
    pub credentials: &'a str,
}

impl<'a> Request<'a> {
    /// A REGISTER of a user, without credentials.
    pub fn register(user: &'a str, call_id: &'a str) -> Self {
        let (method, to, branch, cseq) = ("REGISTER", user, call_id, 1);
        Self { method, user, to, to_tag: "", call_id, cseq, branch, credentials: "" }
    }
}

/// A final response.
#[derive(Clone, Debug)]
pub struct Response {
    /// Its status.
    pub status: u16,
    /// Whether a provisional one came before it.
    pub is_handled: bool,
    /// All of it.
    pub text: String,
}

impl Response {
    /// The value of a field.
    pub fn field(&self, name: &str) -> Option<&str> {
        let of = |line: &'_ str| -> Option<usize> {
            let (found, _) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then_some(found.len() + 1)
        };
        self.text.lines().find_map(|line| of(line).map(|at| line[at..].trim()))
    }

    /// The tag of the To, with `;tag=`.
    pub fn to_tag(&self) -> &str {
        let to = self.field("To").unwrap_or_default();
        to.find(";tag=").map_or("", |at| &to[at..])
    }

    /// The challenge.
    pub fn challenge(&self) -> Option<Challenge> {
        let field = self.field("WWW-Authenticate").or_else(|| self.field("Proxy-Authenticate"));
        Challenge::parse(field?.as_bytes())
    }
}

impl Client {
    /// A client over UDP at an address of `host`.
    ///
    /// # Errors
    ///
    /// If the socket cannot be created.
    pub fn udp(host: &Netns, source: IpAddr, target: IpAddr) -> anyhow::Result<Self> {
        let socket = SipSocket::udp(host, source, SocketAddr::new(target, SIP_PORT), PATIENCE)?;
        Ok(Self { socket, target })
    }

    /// A client over one connection.
    ///
    /// # Errors
    ///
    /// If it fails.
    pub fn tcp(host: &Netns, source: IpAddr, target: IpAddr) -> anyhow::Result<Self> {
        let socket = SipSocket::tcp(host, source, SocketAddr::new(target, SIP_PORT), PATIENCE)?;
        Ok(Self { socket, target })
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.socket.local()
    }

    /// The host of its requests, as a URI has it.
    fn host(&self) -> String {
        match self.target {
            IpAddr::V4(target) => target.to_string(),
            IpAddr::V6(target) => format!("[{target}]"),
        }
    }

    /// The text of a request.
    pub fn text(&self, request: &Request<'_>) -> String {
        let Request { method, user, to, to_tag, call_id, cseq, branch, credentials } = *request;
        let (local, target) = (self.socket.local(), self.host());
        let transport = self.socket.transport();
        // A Call-ID may have blanks, and a branch may not.
        let branch = branch.replace(' ', ".");
        let uri = if method == "REGISTER" { String::new() } else { format!("{to}@") };
        format!(
            "{method} sip:{uri}{target} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};rport;branch=z9hG4bK{branch}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{user}@{target}>;tag={cseq}\r\n\
             To: <sip:{to}@{target}>{to_tag}\r\nCall-ID: {call_id}\r\nCSeq: {cseq} {method}\r\n\
             Contact: <sip:{user}@{local}>\r\nExpires: 120\r\n{credentials}Content-Length: 0\r\n\r\n"
        )
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn send(&mut self, text: &str) -> anyhow::Result<()> {
        self.socket.send(text.as_bytes()).context("send")
    }

    /// Sends a request, and waits for its final response.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub fn ask(&mut self, request: &Request<'_>) -> anyhow::Result<Option<Response>> {
        self.send(&self.text(request))?;
        Ok(self.answer(request.call_id))
    }

    /// Waits for a final response of any request. Returns whether there was one.
    pub fn any_answer(&mut self) -> bool {
        let mut buffer = [0; 8192];
        while let Ok(length) = self.socket.receive(&mut buffer) {
            let message = buffer.get(..length).and_then(sip::parse);
            if matches!(message.map(|message| message.start), Some(Start::Response(200..))) {
                return true;
            }
        }
        false
    }

    /// Waits for a final response with this Call-ID.
    pub fn answer(&mut self, call_id: &str) -> Option<Response> {
        self.answer_to(call_id, None)
    }

    /// The same for the request with this number in its `CSeq`.
    fn answer_to(&mut self, call_id: &str, cseq: Option<u32>) -> Option<Response> {
        let end = Instant::now() + PATIENCE;
        let mut buffer = [0; 8192];
        let mut is_handled = false;
        while Instant::now() < end {
            let length = self.socket.receive(&mut buffer).ok()?;
            let message = sip::parse(buffer.get(..length)?)?;
            let Start::Response(status) = message.start else { continue };
            let is_other = cseq.is_some() && message.cseq != cseq;
            if is_other || message.call_id != call_id.trim().as_bytes() {
                continue;
            }
            if status >= 200 {
                let text = String::from_utf8_lossy(buffer.get(..length)?).into_owned();
                return Some(Response { status, is_handled, text });
            }
            is_handled = true;
        }
        None
    }

    /// The field with the answer to a challenge of a REGISTER.
    pub fn credentials(&self, challenge: &Challenge, user: &str, password: &str) -> String {
        self.credentials_of("REGISTER", challenge, user, password)
    }

    fn credentials_of(
        &self,
        method: &str,
        challenge: &Challenge,
        user: &str,
        password: &str,
    ) -> String {
        let uri = &format!("sip:{}", self.host());
        let answer = Answer { username: user, password, method, uri, cnonce: "0a4f113b" };
        format!("Authorization: {}\r\n", answer.header(challenge))
    }

    /// Calls a number with a password: asks, answers the challenge, and acknowledges both responses. Returns the
    /// second one.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub fn call(
        &mut self,
        user: &str,
        password: &str,
        number: &str,
        call_id: &str,
    ) -> anyhow::Result<Option<Response>> {
        let mut credentials = String::new();
        for cseq in 1..=2 {
            let branch = &format!("{call_id}x{cseq}");
            let first = Request::register(user, call_id);
            let invite = Request { method: "INVITE", to: number, cseq, branch, ..first };
            let invite = Request { credentials: &credentials, ..invite };
            self.send(&self.text(&invite))?;
            let Some(response) = self.answer_to(call_id, Some(cseq)) else { return Ok(None) };
            let ack = Request { method: "ACK", to_tag: response.to_tag(), ..invite };
            self.send(&self.text(&ack))?;
            let Some(challenge) = response.challenge() else { return Ok(Some(response)) };
            credentials = self.credentials_of("INVITE", &challenge, user, password);
        }
        Ok(None)
    }

    /// Waits for a call, answers it, and waits for the acknowledgement. Returns whether that arrived.
    ///
    /// # Errors
    ///
    /// If it cannot be answered.
    pub fn take_call(&mut self, limit: Duration) -> anyhow::Result<bool> {
        let end = Instant::now() + limit;
        let mut buffer = [0; 8192];
        while Instant::now() < end {
            let Ok(length) = self.socket.receive(&mut buffer) else { continue };
            let text = String::from_utf8_lossy(buffer.get(..length).unwrap_or_default());
            if text.starts_with("ACK ") {
                return Ok(true);
            }
            // Also what an earlier call has left.
            let answer = answer(&text, self.socket.local());
            self.socket.send(answer.as_bytes()).context("answer")?;
        }
        Ok(false)
    }

    /// Registers with a password: asks, and answers the challenge. Returns the status.
    ///
    /// # Errors
    ///
    /// If it cannot be sent.
    pub fn register(
        &mut self,
        user: &str,
        password: &str,
        call_id: &str,
    ) -> anyhow::Result<Option<u16>> {
        let first = Request::register(user, call_id);
        let Some(challenge) = self.ask(&first)?.and_then(|response| response.challenge()) else {
            return Ok(None);
        };
        let credentials = &self.credentials(&challenge, user, password);
        let branch = &format!("{call_id}x");
        let second = Request { cseq: 2, branch, credentials, ..first };
        Ok(self.ask(&second)?.map(|response| response.status))
    }
}

/// The answer of a phone at `local` to a request: 200, and to a call with the codec that the lab has.
fn answer(request: &str, local: SocketAddr) -> String {
    let is_kept =
        |line: &&str| ["Via:", "From:", "Call-ID:", "CSeq:"].iter().any(|n| line.starts_with(n));
    let kept: Vec<&str> = request.lines().filter(is_kept).collect();
    let to = request.lines().find(|line| line.starts_with("To:")).unwrap_or_default();
    let tag = if to.contains(";tag=") { "" } else { ";tag=phone" };
    let ip = local.ip();
    let body = if request.starts_with("INVITE ") {
        format!(
            "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 40000 RTP/AVP 0\r\n"
        )
    } else {
        String::new()
    };
    format!(
        "SIP/2.0 200 OK\r\n{}\r\n{to}{tag}\r\nContact: <sip:phone@{local}>\r\n\
         Content-Type: application/sdp\r\nContent-Length: {}\r\n\r\n{body}",
        kept.join("\r\n"),
        body.len(),
    )
}

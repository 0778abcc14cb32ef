//! Single guesses, for tests that must know their exact number: a REGISTER with wrong credentials, from a
//! chosen address and with chosen texts.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

use anyhow::Context;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::netns::Netns;
use crate::sip::{self, Start};
use crate::sip_socket::SipSocket;

const SIP_PORT: u16 = 5060;
/// How long to wait for an answer; Asterisk's arrives within a few milliseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// A client that guesses over one socket.
#[derive(Debug)]
pub struct Guesser {
    socket: SipSocket,
    target: IpAddr,
    guesses: u32,
}

impl Guesser {
    /// Guesses over UDP from `source`, an address of `host`, at the SIP port of `target`.
    ///
    /// # Errors
    ///
    /// If the socket cannot be created.
    pub fn udp(host: &Netns, source: IpAddr, target: IpAddr) -> anyhow::Result<Self> {
        let socket = SipSocket::udp(host, source, SocketAddr::new(target, SIP_PORT), PATIENCE)?;
        Ok(Self { socket, target, guesses: 0 })
    }

    /// The same over a TCP connection.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn tcp(host: &Netns, source: IpAddr, target: IpAddr) -> anyhow::Result<Self> {
        let socket = SipSocket::tcp(host, source, SocketAddr::new(target, SIP_PORT), PATIENCE)?;
        Ok(Self { socket, target, guesses: 0 })
    }

    /// Guesses once; returns the status of the answer, if there is one.
    ///
    /// # Errors
    ///
    /// If the guess cannot be sent.
    pub fn guess(&mut self) -> anyhow::Result<Option<u16>> {
        let from = format!("<sip:1001@{}>", self.host());
        let call_id = format!("guess-{}-{}", self.socket.local().port(), self.guesses);
        self.guess_as(&from, &call_id)
    }

    /// Guesses once, with `from` as the value of `From` before its tag.
    ///
    /// # Errors
    ///
    /// If the guess cannot be sent.
    pub fn guess_as(&mut self, from: &str, call_id: &str) -> anyhow::Result<Option<u16>> {
        self.guesses += 1;
        let request = self.request(from, call_id);
        let mut buffer = [0; 8192];
        self.socket.send(request.as_bytes()).context("send a guess")?;
        let Ok(length) = self.socket.receive(&mut buffer) else { return Ok(None) };
        Ok(sip::parse(&buffer[..length]).and_then(|message| match message.start {
            Start::Response(status) => Some(status),
            Start::Request(_) => None,
        }))
    }

    fn request(&self, from: &str, call_id: &str) -> String {
        let (local, host, number) = (self.socket.local(), self.host(), self.guesses);
        let transport = self.socket.transport();
        // Asterisk reports an unknown nonce in the same way as a wrong password.
        format!(
            "REGISTER sip:{host} SIP/2.0\r\n\
             Via: SIP/2.0/{transport} {local};rport;branch=z9hG4bKg{port}x{number}\r\n\
             Max-Forwards: 70\r\n\
             From: {from};tag={number}\r\n\
             To: <sip:1001@{host}>\r\n\
             Call-ID: {call_id}\r\n\
             CSeq: {number} REGISTER\r\n\
             Contact: <sip:1001@{local}>\r\n\
             Authorization: Digest username=\"1001\", realm=\"asterisk\", nonce=\"1/{number:032x}\", \
             uri=\"sip:{host}\", response=\"{number:032x}\", algorithm=MD5, opaque=\"{number:08x}\", \
             qop=auth, nc=00000001, cnonce=\"{number:08x}\"\r\n\
             Content-Length: 0\r\n\r\n",
            port = local.port(),
        )
    }

    fn host(&self) -> String {
        match self.target {
            IpAddr::V4(v4) => v4.to_string(),
            IpAddr::V6(v6) => format!("[{v6}]"),
        }
    }
}

/// A TCP connection from `source`, an address of `host`.
///
/// # Errors
///
/// If there is no answer within half a second, or a refusal.
pub fn dial(host: &Netns, source: IpAddr, target: SocketAddr) -> anyhow::Result<TcpStream> {
    host.run_in(|| {
        let family = if source.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
        let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None)
            .context("make a TCP socket")?;
        let patience = TimeVal::milliseconds(i64::try_from(PATIENCE.as_millis())?);
        // Linux applies this timeout to connect(2) too.
        setsockopt(&socket, sockopt::SendTimeout, &patience).context("set a timeout")?;
        let own = SockaddrStorage::from(SocketAddr::new(source, 0));
        bind(socket.as_raw_fd(), &own).with_context(|| format!("bind to {source}"))?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(target))
            .with_context(|| format!("connect to {target}"))?;
        Ok(TcpStream::from(socket))
    })
}

//! The socket of a SIP client: UDP, or one TCP connection.

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use anyhow::Context as _;

use crate::guesser::dial;
use crate::netns::Netns;

/// A socket that is connected to a SIP port.
#[derive(Debug)]
pub struct SipSocket {
    over: Over,
    local: SocketAddr,
}

#[derive(Debug)]
enum Over {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl SipSocket {
    /// A socket over UDP at `source`, an address of `host`. It waits for as long as `patience` for what arrives.
    ///
    /// # Errors
    ///
    /// If the socket cannot be created.
    pub fn udp(
        host: &Netns,
        source: IpAddr,
        target: SocketAddr,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let socket = host.run_in(|| {
            let socket = UdpSocket::bind((source, 0)).context("bind a client's socket")?;
            socket.connect(target).context("connect a client's socket")?;
            Ok(socket)
        })?;
        socket.set_read_timeout(Some(patience)).context("set a timeout")?;
        let local = socket.local_addr().context("the client's address")?;
        Ok(Self { over: Over::Udp(socket), local })
    }

    /// The same over a TCP connection.
    ///
    /// # Errors
    ///
    /// If the connection fails.
    pub fn tcp(
        host: &Netns,
        source: IpAddr,
        target: SocketAddr,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let stream = dial(host, source, target)?;
        stream.set_read_timeout(Some(patience)).context("set a timeout")?;
        let local = stream.local_addr().context("the client's address")?;
        Ok(Self { over: Over::Tcp(stream), local })
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The transport in a Via (RFC 3261 section 20.42).
    pub fn transport(&self) -> &'static str {
        match self.over {
            Over::Udp(_) => "UDP",
            Over::Tcp(_) => "TCP",
        }
    }

    /// Sends bytes.
    ///
    /// # Errors
    ///
    /// If that fails.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.over {
            Over::Udp(socket) => socket.send(bytes).map(drop),
            Over::Tcp(stream) => stream.write_all(bytes),
        }
    }

    /// Waits for bytes, and returns their number.
    ///
    /// # Errors
    ///
    /// If none arrive in time, or reading fails.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.over {
            Over::Udp(socket) => socket.recv(buffer),
            Over::Tcp(stream) => stream.read(buffer),
        }
    }
}

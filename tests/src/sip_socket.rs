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
    /// With what has arrived and was not returned.
    Tcp(TcpStream, Vec<u8>),
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
        Ok(Self { over: Over::Tcp(stream, Vec::new()), local })
    }

    /// Its own address.
    pub fn local(&self) -> SocketAddr {
        self.local
    }

    /// The transport in a Via (RFC 3261 section 20.42).
    pub fn transport(&self) -> &'static str {
        match self.over {
            Over::Udp(_) => "UDP",
            Over::Tcp(..) => "TCP",
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
            Over::Tcp(stream, _) => stream.write_all(bytes),
        }
    }

    /// Waits for a message, and returns its length. Over TCP, only whole messages are returned.
    ///
    /// # Errors
    ///
    /// If none arrives in time, or reading fails.
    pub fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match &mut self.over {
            Over::Udp(socket) => socket.recv(buffer),
            Over::Tcp(stream, arrived) => loop {
                if let Some(length) = length(arrived) {
                    let length = length.min(buffer.len());
                    buffer[..length].copy_from_slice(&arrived[..length]);
                    arrived.drain(..length);
                    return Ok(length);
                }
                let read = stream.read(buffer)?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                arrived.extend(&buffer[..read]);
            },
        }
    }
}

/// The length of the first message of a stream, if all of it has arrived (RFC 3261 section 18.3).
fn length(stream: &[u8]) -> Option<usize> {
    let header = stream.windows(4).position(|bytes| bytes == b"\r\n\r\n")? + 4;
    let text = String::from_utf8_lossy(&stream[..header]).to_ascii_lowercase();
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        matches!(name.trim_end(), "content-length" | "l").then(|| value.trim().parse().ok())?
    });
    let whole = header + length.unwrap_or(0);
    (stream.len() >= whole).then_some(whole)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_a_stream_end_where_they_say() {
        let message = b"SIP/2.0 200 OK\r\nContent-Length:  3\r\n\r\nabc";
        let two = [&message[..], &message[..20]].concat();
        assert_eq!(length(&two), Some(message.len()));
        for cut in 0..message.len() {
            assert_eq!(length(&message[..cut]), None);
        }
        assert_eq!(length(b"OPTIONS sip:a SIP/2.0\r\nl: 0\r\n\r\nSIP"), Some(31));
    }
}

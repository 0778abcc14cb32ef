//! The sockets of the network namespace that accept packets from anybody, as the kernel lists them
//! (`sock_diag(7)`).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use nix::sys::socket::SockProtocol;

use super::netlink::{
    NLM_F_DUMP, NLM_F_REQUEST, NLMSG_HEADER, ask, find, list_of, message, u16_at, u32_at,
};

// include/uapi/linux/sock_diag.h, inet_diag.h, tcp_states.h
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCKET_ID: usize = 48;
const SOCKET_MESSAGE: usize = 72;
const INET_DIAG_SKV6ONLY: u16 = 11;
const TCP_ESTABLISHED: u8 = 1;
const TCP_CLOSE: u32 = 7;
const TCP_LISTEN: u32 = 10;
/// Says that the kernel's table changed while it was listed.
const NLM_F_DUMP_INTR: u16 = 0x10;

/// How often a list is read again if it changes while it is read.
const TRIES: usize = 5;

/// A socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Whether it is a TCP socket; otherwise it is a UDP socket.
    pub is_tcp: bool,
    /// The address that it is bound to.
    pub address: IpAddr,
    /// The port.
    pub port: u16,
    /// Whether it is an IPv6 socket that does not accept IPv4.
    pub v6_only: bool,
    /// The index of the interface that it is bound to, or 0.
    pub interface: u32,
    /// The user that made it.
    pub uid: u32,
    /// Its number in `/proc/PID/fd`.
    pub inode: u32,
}

/// Listening TCP sockets, or unconnected UDP sockets, of both families.
///
/// # Errors
///
/// If the kernel does not list them.
pub fn listening(is_tcp: bool) -> Result<Vec<Socket>> {
    let (protocol, state, name) = if is_tcp {
        (nix::libc::IPPROTO_TCP, TCP_LISTEN, "TCP")
    } else {
        (nix::libc::IPPROTO_UDP, TCP_CLOSE, "UDP")
    };
    let mut sockets = Vec::new();
    for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
        let request = request(u8::try_from(family)?, u8::try_from(protocol)?, state);
        let all = whole_list(&request)
            .with_context(|| format!("ask the kernel for the {name} sockets"))?;
        sockets.extend(all.iter().filter_map(|one| parse(one, is_tcp)));
    }
    Ok(sockets)
}

/// A TCP connection of this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The port of this host.
    pub port: u16,
    /// The other address.
    pub peer: IpAddr,
    /// The number of the socket in `/proc/PID/fd`.
    pub inode: u32,
}

/// The TCP connections of both families.
///
/// # Errors
///
/// If the kernel does not list them.
pub fn connections() -> Result<Vec<Connection>> {
    let mut found = Vec::new();
    for family in [nix::libc::AF_INET, nix::libc::AF_INET6] {
        let protocol = u8::try_from(nix::libc::IPPROTO_TCP)?;
        let request = request(u8::try_from(family)?, protocol, TCP_ESTABLISHED.into());
        let all = whole_list(&request).context("ask the kernel for the TCP connections")?;
        found.extend(all.iter().filter_map(|one| connection(one)));
    }
    Ok(found)
}

/// The connection in a `struct inet_diag_msg`.
fn connection(answer: &[u8]) -> Option<Connection> {
    let Socket { port, inode, address, .. } = parse(answer, true)?;
    let peer = answer.get(NLMSG_HEADER..)?.get(24..)?;
    let peer = if address.is_ipv4() {
        IpAddr::V4(Ipv4Addr::from(peer.first_chunk::<4>().copied()?))
    } else {
        IpAddr::V6(Ipv6Addr::from(peer.first_chunk::<16>().copied()?)).to_canonical()
    };
    Some(Connection { port, peer, inode })
}

/// Whether the host has a TCP connection with these ends, which no packet with a forged source can open.
///
/// # Errors
///
/// If the kernel does not say.
pub(super) fn is_connected(local: SocketAddr, remote: SocketAddr) -> Result<bool> {
    let family = if local.is_ipv4() { nix::libc::AF_INET } else { nix::libc::AF_INET6 };
    let mut body = vec![u8::try_from(family)?, u8::try_from(nix::libc::IPPROTO_TCP)?, 0, 0];
    body.extend((1u32 << TCP_ESTABLISHED).to_ne_bytes());
    // `struct inet_diag_sockid`: ports and addresses as on the wire, any interface, no cookie.
    body.extend(local.port().to_be_bytes());
    body.extend(remote.port().to_be_bytes());
    for address in [local.ip(), remote.ip()] {
        match address {
            IpAddr::V4(v4) => body.extend(v4.octets().into_iter().chain([0; 12])),
            IpAddr::V6(v6) => body.extend(v6.octets()),
        }
    }
    body.extend([0; 4]);
    body.extend([u8::MAX; 8]);
    let request = message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, &body);
    let answer = match ask(SockProtocol::NetlinkSockDiag, &request) {
        Ok(answer) => answer,
        Err(error) if is_missing(&error) => return Ok(false),
        Err(error) => return Err(error.context("ask the kernel for a connection")),
    };
    // Without a connection the kernel finds the socket that listens.
    let state = answer.get(NLMSG_HEADER + 1).copied();
    Ok(u16_at(&answer, 4) == Some(SOCK_DIAG_BY_FAMILY) && state == Some(TCP_ESTABLISHED))
}

/// Whether the kernel has no such socket.
fn is_missing(error: &anyhow::Error) -> bool {
    error
        .downcast_ref::<std::io::Error>()
        .is_some_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// The list that answers a request, read again while it changes.
fn whole_list(request: &[u8]) -> Result<Vec<Vec<u8>>> {
    for _try in 0..TRIES {
        let all = list_of(SockProtocol::NetlinkSockDiag, request)?;
        let changed = |one: &Vec<u8>| u16_at(one, 6).is_some_and(|f| f & NLM_F_DUMP_INTR != 0);
        if !all.iter().any(changed) {
            return Ok(all);
        }
    }
    bail!("they change faster than they can be listed")
}

/// `struct inet_diag_req_v2` in a message.
fn request(family: u8, protocol: u8, state: u32) -> Vec<u8> {
    let mut body = vec![family, protocol, 0, 0];
    body.extend((1u32 << state).to_ne_bytes());
    body.resize(body.len() + SOCKET_ID, 0);
    message(SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST | NLM_F_DUMP, &body)
}

/// `struct inet_diag_msg`: `None` if it is none, or of a socket without a port.
fn parse(answer: &[u8], is_tcp: bool) -> Option<Socket> {
    if u16_at(answer, 4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let body = answer.get(NLMSG_HEADER..)?;
    let attributes = body.get(SOCKET_MESSAGE..)?;
    let family = i32::from(*body.first()?);
    // The local port and address, as on the wire.
    let port = u16::from_be_bytes(body.get(4..)?.first_chunk().copied()?);
    let address = if family == nix::libc::AF_INET {
        IpAddr::V4(Ipv4Addr::from(body.get(8..)?.first_chunk::<4>().copied()?))
    } else if family == nix::libc::AF_INET6 {
        IpAddr::V6(Ipv6Addr::from(body.get(8..)?.first_chunk::<16>().copied()?))
    } else {
        return None;
    };
    let v6_only = find(attributes, INET_DIAG_SKV6ONLY).and_then(<[u8]>::first);
    (port != 0).then_some(Socket {
        is_tcp,
        address,
        port,
        v6_only: v6_only.is_some_and(|only| *only != 0),
        interface: u32_at(body, 40)?,
        uid: u32_at(body, 64)?,
        inode: u32_at(body, 68)?,
    })
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn this_process_is_listed_with_its_sockets() {
        let tcp: Vec<TcpListener> =
            ["127.0.0.1:0", "[::1]:0", "0.0.0.0:0"].map(|at| TcpListener::bind(at).unwrap()).into();
        let udp: Vec<UdpSocket> =
            ["127.0.0.1:0", "[::1]:0", "[::]:0"].map(|at| UdpSocket::bind(at).unwrap()).into();
        let connected = UdpSocket::bind("127.0.0.1:0").unwrap();
        connected.connect("127.0.0.1:9").unwrap();
        let places = tcp.iter().map(|one| (true, one.local_addr().unwrap()));
        let places = places.chain(udp.iter().map(|one| (false, one.local_addr().unwrap())));
        for (is_tcp, place) in places {
            let all = listening(is_tcp).unwrap();
            let of_place = |one: &&Socket| (one.address, one.port) == (place.ip(), place.port());
            let found: Vec<&Socket> = all.iter().filter(of_place).collect();
            let [one] = found[..] else { panic!("{place}: {found:?}") };
            // No IPv4 packet arrives at a socket that is bound to an IPv6 address.
            let v6_only = place.is_ipv6() && !place.ip().is_unspecified();
            assert_eq!((one.is_tcp, one.interface, one.v6_only), (is_tcp, 0, v6_only));
            assert_eq!(one.uid, nix::unistd::getuid().as_raw());
            let link = format!("socket:[{}]", one.inode);
            let mut fds = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
            let is_it = |fd: std::fs::DirEntry| {
                std::fs::read_link(fd.path()).is_ok_and(|to| to.to_string_lossy() == link)
            };
            assert!(fds.any(is_it), "{link}");
        }
        let port = connected.local_addr().unwrap().port();
        assert!(!listening(false).unwrap().iter().any(|one| one.port == port), "it is connected");
    }

    #[test]
    fn a_connection_is_listed_with_the_other_address() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = TcpListener::bind(address).unwrap();
            let here = listener.local_addr().unwrap();
            let _there = std::net::TcpStream::connect(here).unwrap();
            let all = connections().unwrap();
            let found: Vec<_> = all.iter().filter(|one| one.port == here.port()).collect();
            assert!(matches!(found[..], [one] if one.peer == here.ip()), "{address}: {found:?}");
        }
    }

    #[test]
    fn a_connection_is_one_with_both_ends() {
        for (any, to) in [("127.0.0.1:0", "127.0.0.1"), ("[::1]:0", "::1"), ("[::]:0", "127.0.0.1")]
        {
            let listener = TcpListener::bind(any).unwrap();
            let local = SocketAddr::new(to.parse().unwrap(), listener.local_addr().unwrap().port());
            let stream = std::net::TcpStream::connect(local).unwrap();
            let remote = stream.local_addr().unwrap();
            assert!(is_connected(local, remote).unwrap(), "{local} {remote}");
            let other = SocketAddr::new(remote.ip(), remote.port() ^ 1);
            assert!(!is_connected(local, other).unwrap(), "{local} {other}");
            drop((stream, listener));
            assert!(!is_connected(local, remote).unwrap(), "{local} {remote}");
        }
    }

    #[test]
    fn cut_answers_are_no_panic() {
        let mut body = vec![0; SOCKET_MESSAGE];
        body[0] = 2;
        body[4..6].copy_from_slice(&5060u16.to_be_bytes());
        body[8..12].copy_from_slice(&[192, 0, 2, 10]);
        let bytes =
            message(SOCK_DIAG_BY_FAMILY, 0, &[&body[..], &[5, 0, 11, 0, 1, 0, 0, 0]].concat());
        let socket = parse(&bytes, true).unwrap();
        assert_eq!((socket.address.to_string(), socket.port), ("192.0.2.10".to_owned(), 5060));
        assert!(socket.v6_only);
        for length in 0..bytes.len() {
            let _any = parse(&bytes[..length], true);
            let _any = connection(&bytes[..length]);
        }
        let other = message(3, 0, &body);
        assert_eq!(parse(&other, true), None);
    }
}

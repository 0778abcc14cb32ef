//! Listens at an interface and counts the registrations that pass it, by source address. In the PBX's
//! namespace it sees the packets that the XDP filter passed, and at the switch those that were sent. Only
//! unfragmented SIP without bodies is read.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::Context;
use nix::errno::Errno;
use nix::libc;
use nix::net::if_::if_nametoindex;
use nix::sys::socket::{
    AddressFamily, LinkAddr, SockFlag, SockProtocol, SockType, recvfrom, setsockopt, socket,
    sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};

use crate::netns::Netns;
use crate::sip::{self, Start};

const SIP_PORT: u16 = 5060;
/// Room for one second of a flood while the thread has no processor.
const RECEIVE_BUFFER: usize = 16 << 20;
/// The most sources that are distinguished.
const SOURCES_MAX: usize = 4096;
/// Guesses that wait for their answers; the oldest is evicted first.
const GUESSES_MAX: usize = 1 << 16;

/// A listener on its own thread.
#[derive(Debug)]
pub struct Tap {
    stop: Arc<AtomicBool>,
    ledger: Arc<Mutex<Ledger>>,
    thread: Option<JoinHandle<()>>,
}

/// The packets of one source, as far as they passed the tap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// REGISTERs without `Authorization`.
    pub without_credentials: u64,
    /// REGISTERs with `Authorization`.
    pub with_credentials: u64,
    /// Transactions with `Authorization` that were answered with 200, 401, 403 or 404, from which a
    /// guesser learns whether the guess was right.
    pub guesses_answered: u64,
    /// The time of the first REGISTER.
    pub first: Option<SystemTime>,
    /// The time of the last REGISTER.
    pub last: Option<SystemTime>,
    /// The time of the last answer to a guess.
    pub last_answer: Option<SystemTime>,
}

impl Seen {
    /// All REGISTERs.
    pub fn registers(&self) -> u64 {
        self.without_credentials + self.with_credentials
    }

    /// The time from the first REGISTER to the last, in seconds.
    pub fn seconds(&self) -> f64 {
        match (self.first, self.last) {
            (Some(first), Some(last)) => {
                last.duration_since(first).unwrap_or_default().as_secs_f64()
            }
            _ => 0.0,
        }
    }
}

impl Tap {
    /// Listens at `interface` of `host`.
    ///
    /// # Errors
    ///
    /// If the interface does not exist, or root is missing.
    pub fn start(host: &Netns, interface: &str) -> anyhow::Result<Self> {
        let socket = host
            .run_in(|| listen(interface))
            .with_context(|| format!("listen at {interface} of {}", host.name()))?;
        let stop = Arc::new(AtomicBool::new(false));
        let ledger = Arc::new(Mutex::new(Ledger::default()));
        let thread = thread::Builder::new()
            .name("tap".to_owned())
            .spawn({
                let (stop, ledger) = (Arc::clone(&stop), Arc::clone(&ledger));
                move || run(&socket, &stop, &ledger)
            })
            .context("start the tap's thread")?;
        Ok(Self { stop, ledger, thread: Some(thread) })
    }

    /// The packets of `source` so far.
    pub fn seen(&self, source: IpAddr) -> Seen {
        self.ledger().sources.get(&source).copied().unwrap_or_default()
    }

    /// Packets that the kernel could not deliver to the tap. If there are any, the other figures are too
    /// low.
    pub fn lost(&self) -> u64 {
        self.ledger().lost
    }

    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic in the thread has been printed; a drop cannot return an error.
            thread.join().ok();
        }
    }
}

fn listen(interface: &str) -> anyhow::Result<OwnedFd> {
    // With protocol 0, nothing arrives before the socket is bound to its interface.
    let socket = socket(AddressFamily::Packet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)
        .context("make a packet socket")?;
    setsockopt(&socket, sockopt::RcvBufForce, &RECEIVE_BUFFER).context("receive buffer")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::milliseconds(100)).context("timeout")?;
    bind_to(&socket, if_nametoindex(interface).context("find the interface")?)?;
    Ok(socket)
}

/// Binds a packet socket to one interface.
pub(crate) fn bind_to(socket: &OwnedFd, interface: u32) -> anyhow::Result<()> {
    // SAFETY: sockaddr_ll is plain data, for which all zeros is a valid value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).context("address family")?;
    address.sll_protocol = u16::try_from(SockProtocol::EthAll as i32).context("protocol")?;
    address.sll_ifindex = i32::try_from(interface).context("interface index")?;
    let length = u32::try_from(size_of_val(&address)).context("address length")?;
    // SAFETY: the descriptor is open, and the pointer and length describe `address`, which lives
    // through the call.
    let bound = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    Errno::result(bound).context("bind the packet socket")?;
    Ok(())
}

/// Packets dropped since the last call.
fn take_lost(socket: &OwnedFd) -> io::Result<u64> {
    let mut statistics = libc::tpacket_stats { tp_packets: 0, tp_drops: 0 };
    let mut length =
        libc::socklen_t::try_from(size_of_val(&statistics)).map_err(io::Error::other)?;
    // SAFETY: the descriptor is open, and both pointers are to locals that live through the call;
    // the kernel writes at most `length` bytes.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut statistics).cast(),
            &raw mut length,
        )
    };
    Errno::result(result)?;
    Ok(u64::from(statistics.tp_drops))
}

fn run(socket: &OwnedFd, stop: &AtomicBool, ledger: &Mutex<Ledger>) {
    let mut buffer = vec![0; 1 << 16];
    let mut asked = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        if asked.elapsed() > Duration::from_millis(500)
            && let Ok(lost) = take_lost(socket)
        {
            ledger.lock().unwrap_or_else(PoisonError::into_inner).lost += lost;
            asked = Instant::now();
        }
        match recvfrom::<LinkAddr>(socket.as_raw_fd(), &mut buffer) {
            Ok((length, _from)) => {
                if let Some(packet) = Packet::parse(&buffer[..length]) {
                    let now = SystemTime::now();
                    ledger.lock().unwrap_or_else(PoisonError::into_inner).enter(&packet, now);
                }
            }
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            // The interface no longer exists, so no more packets can arrive.
            Err(_) => return,
        }
    }
}

/// A packet from or to the SIP port.
#[derive(Debug, PartialEq, Eq)]
struct Packet<'a> {
    source: IpAddr,
    destination: IpAddr,
    source_port: u16,
    destination_port: u16,
    /// Its place in the stream, if it is a segment.
    segment: Option<Segment>,
    payload: &'a [u8],
}

/// The place of a segment in its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Segment {
    sequence: u32,
    /// Whether it opens the connection.
    opens: bool,
}

const TCP: u8 = 6;
const UDP: u8 = 17;

impl<'a> Packet<'a> {
    /// Parses a packet that begins with its IP header.
    fn parse(bytes: &'a [u8]) -> Option<Self> {
        let (source, destination, protocol, rest) = match bytes.first()? >> 4 {
            4 => ipv4(bytes)?,
            6 => ipv6(bytes)?,
            _ => return None,
        };
        let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk()?));
        let (source_port, destination_port) = (port(0)?, port(2)?);
        if source_port != SIP_PORT && destination_port != SIP_PORT {
            return None;
        }
        let (segment, payload) = if protocol == UDP {
            (None, rest.get(8..)?)
        } else {
            let [_, _, _, _, s0, s1, s2, s3, _, _, _, _, offset, flags] = *rest.first_chunk()?;
            let segment =
                Segment { sequence: u32::from_be_bytes([s0, s1, s2, s3]), opens: flags & 2 != 0 };
            (Some(segment), rest.get(usize::from(offset >> 4) * 4..)?)
        };
        Some(Self { source, destination, source_port, destination_port, segment, payload })
    }
}

/// The source, the destination, the protocol and what follows the IP header.
type Parts<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn ipv4(bytes: &[u8]) -> Option<Parts<'_>> {
    let header: &[u8; 20] = bytes.first_chunk()?;
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    if !matches!(header[9], TCP | UDP) || fragment != 0 {
        return None;
    }
    let rest = bytes.get(usize::from(header[0] & 0xf) * 4..)?;
    let address = |at: usize| Some(Ipv4Addr::from(*bytes.get(at..)?.first_chunk::<4>()?));
    Some((address(12)?.into(), address(16)?.into(), header[9], rest))
}

fn ipv6(bytes: &[u8]) -> Option<Parts<'_>> {
    let header: &[u8; 40] = bytes.first_chunk()?;
    if !matches!(header[6], TCP | UDP) {
        return None;
    }
    let address = |at: usize| Some(Ipv6Addr::from(*bytes.get(at..)?.first_chunk::<16>()?));
    Some((address(8)?.into(), address(24)?.into(), header[6], &bytes[40..]))
}

/// One direction of a TCP connection, put together again: segments may be cut anywhere, repeated and out of
/// order.
#[derive(Debug, Default)]
struct Stream {
    /// The number of the next byte.
    next: Option<u32>,
    /// Bytes of a message that is not complete.
    begun: Vec<u8>,
    /// Segments that came too early.
    early: Vec<(u32, Vec<u8>)>,
}

/// The most bytes of a message, and the most segments that came too early. Beyond, the stream is read from the
/// next segment on.
const MESSAGE_MAX: usize = 1 << 16;
const EARLY_MAX: usize = 1024;

impl Stream {
    /// Adds a segment, and returns the messages that it completes.
    fn add(&mut self, segment: Segment, payload: &[u8]) -> Vec<Vec<u8>> {
        if segment.opens {
            *self = Self { next: Some(segment.sequence.wrapping_add(1)), ..Self::default() };
            return Vec::new();
        }
        if payload.is_empty() {
            return Vec::new();
        }
        self.early.push((segment.sequence, payload.to_vec()));
        if self.early.len() > EARLY_MAX || self.begun.len() > MESSAGE_MAX {
            *self = Self { early: self.early.split_off(self.early.len() - 1), ..Self::default() };
        }
        while let Some(place) = self.early.iter().position(|(at, _)| self.behind(*at).is_some()) {
            let (at, bytes) = self.early.swap_remove(place);
            let fresh = bytes.get(self.behind(at).unwrap_or(0)..).unwrap_or_default();
            self.begun.extend_from_slice(fresh);
            let end = at.wrapping_add(u32::try_from(bytes.len()).unwrap_or(0));
            if !fresh.is_empty() {
                self.next = Some(end);
            }
        }
        let mut messages = Vec::new();
        while let Some(end) = self.begun.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            let rest = self.begun.split_off(end + 4);
            messages.push(mem::replace(&mut self.begun, rest));
        }
        messages
    }

    /// How many bytes of a segment were read already; `None` if others are missing before it.
    fn behind(&self, sequence: u32) -> Option<usize> {
        let behind = self.next.map_or(0, |next| next.wrapping_sub(sequence));
        usize::try_from(behind).ok().filter(|_behind| behind < 1 << 31)
    }
}

/// Client and server of a stream, by address and port, in the direction in which it flows.
type Flow = (IpAddr, u16, IpAddr, u16);

/// The most streams that are read; then the tap begins anew.
const STREAMS_MAX: usize = 1 << 14;

#[derive(Debug, Default)]
struct Ledger {
    sources: HashMap<IpAddr, Seen>,
    guesses: Guesses,
    streams: HashMap<Flow, Stream>,
    lost: u64,
}

impl Ledger {
    fn enter(&mut self, packet: &Packet<'_>, now: SystemTime) {
        let Packet { source, destination, source_port, destination_port, segment, payload } =
            *packet;
        let Some(segment) = segment else {
            self.message(packet, payload, now);
            return;
        };
        if self.streams.len() >= STREAMS_MAX {
            self.streams.clear();
        }
        let flow = (source, source_port, destination, destination_port);
        for message in self.streams.entry(flow).or_default().add(segment, payload) {
            self.message(packet, &message, now);
        }
    }

    fn message(&mut self, packet: &Packet<'_>, bytes: &[u8], now: SystemTime) {
        let Some(message) = sip::parse(bytes) else {
            return;
        };
        match message.start {
            Start::Request(b"REGISTER") if packet.destination_port == SIP_PORT => {
                if message.has_authorization {
                    self.guesses.ask(&(packet.source, &message).into());
                }
                let Some(seen) = self.of(packet.source) else {
                    return;
                };
                if message.has_authorization {
                    seen.with_credentials += 1;
                } else {
                    seen.without_credentials += 1;
                }
                seen.first.get_or_insert(now);
                seen.last = Some(now);
            }
            Start::Response(200 | 401 | 403 | 404) if packet.source_port == SIP_PORT => {
                if self.guesses.answer(&(packet.destination, &message).into())
                    && let Some(seen) = self.of(packet.destination)
                {
                    seen.guesses_answered += 1;
                    seen.last_answer = Some(now);
                }
            }
            Start::Request(_) | Start::Response(_) => {}
        }
    }

    fn of(&mut self, source: IpAddr) -> Option<&mut Seen> {
        if self.sources.len() >= SOURCES_MAX && !self.sources.contains_key(&source) {
            return None;
        }
        Some(self.sources.entry(source).or_default())
    }
}

/// The transactions with credentials, and whether each was answered.
#[derive(Debug, Default)]
struct Guesses {
    hasher: RandomState,
    answered: HashMap<u64, bool>,
    order: VecDeque<u64>,
}

/// Identifies a transaction: a retransmission has the same identity, another guess a different one.
#[derive(Debug, Hash)]
struct Transaction<'a> {
    client: IpAddr,
    call_id: &'a [u8],
    cseq: Option<u32>,
    branch: Option<&'a [u8]>,
}

impl<'a> From<(IpAddr, &sip::Message<'a>)> for Transaction<'a> {
    fn from((client, message): (IpAddr, &sip::Message<'a>)) -> Self {
        let sip::Message { call_id, cseq, branch, .. } = *message;
        Self { client, call_id, cseq, branch }
    }
}

impl Guesses {
    fn ask(&mut self, transaction: &Transaction<'_>) {
        let key = self.hasher.hash_one(transaction);
        if self.answered.contains_key(&key) {
            return;
        }
        self.answered.insert(key, false);
        self.order.push_back(key);
        if self.order.len() > GUESSES_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.answered.remove(&oldest);
        }
    }

    /// Whether this is the first answer to a guess.
    fn answer(&mut self, transaction: &Transaction<'_>) -> bool {
        let key = self.hasher.hash_one(transaction);
        self.answered.get_mut(&key).is_some_and(|answered| !mem::replace(answered, true))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const PBX: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10));
    const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

    fn ipv4_packet(protocol: u8, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0x46, 0, 0, 0, 0, 0, 0x40, 0, 64, protocol, 0, 0];
        bytes.extend([192, 0, 2, 66, 192, 0, 2, 10]);
        bytes.extend([1, 1, 1, 1]); // an option
        udp(bytes, ports, payload)
    }

    fn udp(mut bytes: Vec<u8>, ports: [u16; 2], payload: &[u8]) -> Vec<u8> {
        bytes.extend(ports.iter().flat_map(|port| port.to_be_bytes()));
        bytes.extend([0; 4]);
        bytes.extend(payload);
        bytes
    }

    #[test]
    fn ipv4_with_options_is_read() {
        let bytes = ipv4_packet(17, [40_000, 5060], b"x");
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!((packet.source, packet.destination), (ATTACKER, PBX));
        assert_eq!((packet.source_port, packet.destination_port), (40_000, 5060));
        assert_eq!((packet.segment, packet.payload), (None, &b"x"[..]));
    }

    #[test]
    fn a_segment_is_read() {
        let mut bytes = vec![0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 6, 0, 0];
        bytes.extend([192, 0, 2, 66, 192, 0, 2, 10]);
        bytes.extend([40_000u16, 5060].iter().flat_map(|port| port.to_be_bytes()));
        bytes.extend([0, 0, 1, 2, 0, 0, 0, 0, 0x60, 0x18, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1]);
        bytes.extend(b"x");
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.segment, Some(Segment { sequence: 0x102, opens: false }));
        assert_eq!(packet.payload, b"x");
        for length in 0..44 {
            assert_eq!(Packet::parse(&bytes[..length]), None, "{length}");
        }
    }

    #[test]
    fn a_stream_is_put_together() {
        let text = b"first\r\n\r\nsecond\r\n\r\nthird\r\n\r\n";
        let whole: Vec<&[u8]> = vec![b"first\r\n\r\n", b"second\r\n\r\n", b"third\r\n\r\n"];
        let start = u32::MAX - 10;
        let segment = |at: usize| Segment {
            sequence: start.wrapping_add(1 + u32::try_from(at).unwrap()),
            opens: false,
        };
        // In order; twice; backwards; overlapping.
        let orders: [&[(usize, usize)]; 4] = [
            &[(0, 7), (7, 20), (20, 28)],
            &[(0, 9), (0, 9), (9, 28), (9, 28)],
            &[(20, 28), (7, 20), (0, 7)],
            &[(0, 12), (5, 22), (3, 8), (15, 28)],
        ];
        for order in orders {
            let mut stream = Stream::default();
            assert!(stream.add(Segment { sequence: start, opens: true }, b"").is_empty());
            let read = order
                .iter()
                .flat_map(|(from, to)| stream.add(segment(*from), &text[*from..*to]).into_iter());
            assert_eq!(read.collect::<Vec<_>>(), whole, "{order:?}");
        }
        let mut stream = Stream::default();
        stream.add(segment(0), b"x");
        for at in 0..10_000 {
            stream.add(segment(2 + at), b"no end");
        }
        assert!(stream.early.len() <= EARLY_MAX);
    }

    #[test]
    fn ipv6_is_read() {
        let mut bytes = vec![0x60, 0, 0, 0, 0, 9, 17, 64];
        for last in [0x66, 0x10] {
            bytes.extend("2001:db8::".parse::<Ipv6Addr>().unwrap().octets());
            *bytes.last_mut().unwrap() = last;
        }
        let bytes = udp(bytes, [5060, 40_000], b"y");
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.source, "2001:db8::66".parse::<IpAddr>().unwrap());
        assert_eq!(packet.destination, "2001:db8::10".parse::<IpAddr>().unwrap());
        assert_eq!(packet.payload, b"y");
    }

    #[test]
    fn what_is_not_sip_is_left_out() {
        assert_eq!(Packet::parse(&ipv4_packet(1, [40_000, 5060], b"x")), None);
        assert_eq!(Packet::parse(&ipv4_packet(17, [40_000, 53], b"x")), None);
        let mut fragment = ipv4_packet(17, [40_000, 5060], b"x");
        fragment[6] = 0x20;
        assert_eq!(Packet::parse(&fragment), None);
        let whole = ipv4_packet(17, [40_000, 5060], b"");
        for length in 0..whole.len() {
            assert_eq!(Packet::parse(&whole[..length]), None, "{length}");
        }
    }

    fn register(call_id: &str, cseq: u32, branch: &str, authorization: &str) -> Vec<u8> {
        format!(
            "REGISTER sip:x SIP/2.0\r\nVia: SIP/2.0/UDP h;branch={branch}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n{authorization}\r\n"
        )
        .into_bytes()
    }

    fn answer(status: u16, call_id: &str, cseq: u32, branch: &str) -> Vec<u8> {
        format!(
            "SIP/2.0 {status} X\r\nVia: SIP/2.0/UDP h;branch={branch}\r\n\
             Call-ID: {call_id}\r\nCSeq: {cseq} REGISTER\r\n\r\n"
        )
        .into_bytes()
    }

    fn enter(ledger: &mut Ledger, from_pbx: bool, payload: &[u8], at: SystemTime) {
        let (source, destination) = if from_pbx { (PBX, ATTACKER) } else { (ATTACKER, PBX) };
        let (source_port, destination_port) = if from_pbx { (5060, 9) } else { (9, 5060) };
        let packet =
            Packet { source, destination, source_port, destination_port, segment: None, payload };
        ledger.enter(&packet, at);
    }

    #[test]
    fn a_guess_counts_when_it_is_answered_and_only_once() {
        let mut ledger = Ledger::default();
        let start = SystemTime::UNIX_EPOCH;
        let later = start + Duration::from_secs(2);
        let guess = "Authorization: Digest x\r\n";
        enter(&mut ledger, false, &register("c", 1, "b1", ""), start);
        enter(&mut ledger, true, &answer(401, "c", 1, "b1"), start);
        enter(&mut ledger, false, &register("c", 2, "b2", guess), start);
        enter(&mut ledger, true, &answer(100, "c", 2, "b2"), start);
        enter(&mut ledger, true, &answer(401, "c", 2, "b2"), start);
        // Retransmissions of both the request and its answer are not a new guess.
        enter(&mut ledger, false, &register("c", 2, "b2", guess), start);
        enter(&mut ledger, true, &answer(401, "c", 2, "b2"), later);
        // svcrack keeps the Call-ID; this guess is not answered.
        enter(&mut ledger, false, &register("c", 2, "b3", guess), later);
        let seen = ledger.sources[&ATTACKER];
        assert_eq!((seen.without_credentials, seen.with_credentials), (1, 3));
        assert_eq!((seen.guesses_answered, seen.last_answer), (1, Some(start)));
        assert!((seen.seconds() - 2.0).abs() < 1e-9);
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut ledger = Ledger::default();
        let guess = "Authorization: Digest x\r\n";
        for n in 0..u32::try_from(GUESSES_MAX).unwrap() + 10 {
            let payload = register("c", n, "b", guess);
            let packet = Packet {
                source: Ipv4Addr::from_bits(n).into(),
                destination: PBX,
                source_port: 9,
                destination_port: 5060,
                segment: None,
                payload: &payload,
            };
            ledger.enter(&packet, SystemTime::UNIX_EPOCH);
        }
        assert_eq!(ledger.sources.len(), SOURCES_MAX);
        assert_eq!(ledger.guesses.answered.len(), GUESSES_MAX);
        assert_eq!(ledger.guesses.order.len(), GUESSES_MAX);
    }
}

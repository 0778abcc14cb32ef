//! Frames: from bytes to [`Headers`], over any source of bytes.
//!
//! Finds the source and the position of the payload in a frame that begins with the Ethernet header.
//! Nothing here decides about the packet.
//!
//! Must never decide what happens to the packet.

use network_types::eth::EthHdr;
use network_types::ip::{Ipv4Hdr, Ipv6Hdr};
use network_types::tcp::TcpHdr;
use network_types::udp::UdpHdr;

use crate::address::Address;
use crate::limits::{IPV6_EXTENSIONS, VLAN_DEPTH, WINDOW_BYTES, WINDOW_WORDS};

/// Part of a packet, copied for a search: little-endian words of its bytes.
pub type Window = [u64; WINDOW_WORDS];

/// A source of bytes: in the kernel packet memory that the verifier checks, on the host a slice.
pub trait Packet {
    /// The frame's length in bytes.
    fn length(&self) -> usize;

    /// `N` bytes at `offset`, or `None` if the packet ends before.
    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]>;

    /// `N` little-endian words from `offset` on, or `None` if the packet ends before.
    fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]>;

    /// The same, but also `None` if they are not in the packet's first buffer, which suffices for most
    /// packets.
    /// and no more.
    #[inline(always)]
    fn near_words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        self.words(offset)
    }

    /// Copies the bytes from `offset` to the packet's end, at most [`WINDOW_BYTES`], into `window`, and
    /// returns their number. The rest of `window` may contain anything.
    fn copy(&self, offset: usize, window: &mut Window) -> usize;
}

impl Packet for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn array<const N: usize>(&self, offset: usize) -> Option<[u8; N]> {
        self.get(offset..)?.first_chunk().copied()
    }

    fn words<const N: usize>(&self, offset: usize) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (word, place) in words.iter_mut().zip((offset..).step_by(8)) {
            *word = u64::from_le_bytes(self.array(place)?);
        }
        Some(words)
    }

    fn copy(&self, offset: usize, window: &mut Window) -> usize {
        let bytes = self.get(offset..).unwrap_or_default();
        let bytes = bytes.get(..WINDOW_BYTES).unwrap_or(bytes);
        let mut copied = 0usize;
        for (word, chunk) in window.iter_mut().zip(bytes.chunks(8)) {
            let mut octets = [0; 8];
            for (octet, byte) in octets.iter_mut().zip(chunk) {
                *octet = *byte;
            }
            *word = u64::from_le_bytes(octets);
            copied = copied.wrapping_add(chunk.len());
        }
        copied
    }
}

/// The contents of the headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Headers {
    /// The source that the packet claims.
    pub source: Address,
    /// The layer 4 header.
    pub layer4: Layer4,
    /// The offset of the IP header.
    pub network: usize,
    /// The offset after the IP packet, by its own length; the frame may end before it.
    pub end: usize,
}

/// [`Headers`] as plain words.
pub type Words = [u64; 4];

/// A bit of the last word that is not part of the headers; callers may use it.
pub const SPARE_BIT: u32 = 5;

impl Headers {
    /// The same as plain words.
    #[inline(always)]
    pub fn to_words(self) -> Words {
        let [first, second] = self.source.words();
        let (kind, port, payload, start) = match self.layer4 {
            Layer4::Udp { port, payload } => (KIND_UDP, port, payload, 0),
            Layer4::Tcp { port, payload, syn: false, start } => (KIND_TCP, port, payload, start),
            Layer4::Tcp { port, payload, syn: true, start } => (KIND_SYN, port, payload, start),
            Layer4::LaterFragment => (KIND_LATER_FRAGMENT, 0, Payload::default(), 0),
            Layer4::Other => (KIND_OTHER, 0, Payload::default(), 0),
            Layer4::Unknown => (KIND_UNKNOWN, 0, Payload::default(), 0),
        };
        let end = if payload.end != 0 { payload.end } else { self.end };
        let place = payload.start as u64 | (end as u64) << 32;
        let rest = kind
            | u64::from(payload.fragmented) << 4
            | (self.network as u64 & 0xff) << 8
            | u64::from(port) << 16
            | (start as u64) << 32;
        [first, second, place, rest]
    }

    /// The inverse of [`to_words`](Self::to_words), except that the packet ends with its payload. Words
    /// that it never returns give any result.
    #[inline(always)]
    pub fn from_words([first, second, place, rest]: Words) -> Self {
        #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
        let (start, end) = (place as u32 as usize, (place >> 32) as usize);
        let payload = Payload { start, end, fragmented: rest & 0x10 != 0 };
        #[expect(clippy::cast_possible_truncation, reason = "the fields of a word")]
        let (kind, port) = (rest & 0xf, (rest >> 16) as u16);
        let (network, start) = ((rest >> 8 & 0xff) as usize, (rest >> 32) as usize);
        let layer4 = match kind {
            KIND_UDP => Layer4::Udp { port, payload },
            KIND_TCP => Layer4::Tcp { port, payload, syn: false, start },
            KIND_SYN => Layer4::Tcp { port, payload, syn: true, start },
            KIND_LATER_FRAGMENT => Layer4::LaterFragment,
            KIND_OTHER => Layer4::Other,
            _ => Layer4::Unknown,
        };
        Self { source: Address::from_words([first, second]), layer4, network, end }
    }
}

/// Whether these words are of a TCP segment.
#[inline(always)]
pub fn is_tcp([_, _, _, rest]: Words) -> bool {
    matches!(rest & 0xf, KIND_TCP | KIND_SYN)
}

/// 1 for the words of a TCP segment, 0 for those of a UDP datagram.
#[inline(always)]
pub fn tcp_bit([_, _, _, rest]: Words) -> u64 {
    rest >> 1 & 1
}

const KIND_UDP: u64 = 1;
const KIND_TCP: u64 = 2;
const KIND_LATER_FRAGMENT: u64 = 3;
const KIND_OTHER: u64 = 4;
const KIND_UNKNOWN: u64 = 5;
const KIND_SYN: u64 = 6;

/// The layer 4 header of an IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer4 {
    /// A UDP datagram, or its first fragment.
    Udp {
        /// The destination port.
        port: u16,
        /// The payload.
        payload: Payload,
    },
    /// A TCP segment, or its first fragment.
    Tcp {
        /// The destination port.
        port: u16,
        /// The payload.
        payload: Payload,
        /// Whether it asks for a connection: SYN without ACK.
        syn: bool,
        /// The offset of its header.
        start: usize,
    },
    /// A later fragment: the ports are in the first one.
    LaterFragment,
    /// A protocol other than UDP and TCP.
    Other,
    /// The rest of the headers is in later fragments, or there are more headers than are followed: any
    /// protocol, to any port.
    Unknown,
}

/// The position of a payload.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Payload {
    /// The offset of its first byte in the frame.
    pub start: usize,
    /// The offset after its last byte, according to the headers; the frame may end before it.
    pub end: usize,
    /// Whether later fragments contain the rest.
    pub fragmented: bool,
}

/// A [`Payload`] as a plain word: its start in the low half, its end in the high one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place(pub u64);

impl From<Payload> for Place {
    #[inline(always)]
    fn from(payload: Payload) -> Self {
        Self(payload.start as u64 | (payload.end as u64) << 32)
    }
}

impl From<Place> for Payload {
    /// The payload in it, without the information about later fragments.
    #[inline(always)]
    #[expect(clippy::cast_possible_truncation, reason = "the halves of a word")]
    fn from(Place(place): Place) -> Self {
        Self { start: place as u32 as usize, end: (place >> 32) as usize, fragmented: false }
    }
}

/// Why there are no [`Headers`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unparsed {
    /// Neither IPv4 nor IPv6.
    NotIp,
    /// A header is truncated or inconsistent, so that Linux does not accept it.
    Malformed,
}

// https://www.iana.org/assignments/ieee-802-numbers
const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
const ETHERTYPE_VLAN: u16 = 0x8100;
const ETHERTYPE_SERVICE_VLAN: u16 = 0x88a8;
// The service tag's EtherType before 802.1ad, still sent by some switches.
const ETHERTYPE_OLD_SERVICE_VLAN: u16 = 0x9100;
const VLAN_TAG_LEN: usize = 4;
const ETHERTYPE_PPPOE_SESSION: u16 = 0x8864;

// RFC 2516 section 4, and the PPP protocol number behind it.
const PPPOE_HEADER_LEN: usize = 8;
const PPP_IPV4: u16 = 0x0021;
const PPP_IPV6: u16 = 0x0057;

/// The source for the buckets if a frame's source was not read: one that no host has (RFC 6666).
pub const UNREAD_SOURCE: Address = Address::from_words([1, 0]);

// https://www.iana.org/assignments/protocol-numbers
const TCP: u8 = 6;
const UDP: u8 = 17;
const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const AUTHENTICATION: u8 = 51;
const DESTINATION_OPTIONS: u8 = 60;
const MOBILITY: u8 = 135;

// RFC 9293 section 3.1.
const TCP_SYN: u8 = 0x02;
const TCP_ACK: u8 = 0x10;

// RFC 791 section 3.1: three flags, then the fragment offset in units of eight bytes.
const MORE_FRAGMENTS: u16 = 0x2000;
const FRAGMENT_OFFSET: u16 = 0x1fff;

/// Reads the headers of a frame.
///
/// # Errors
///
/// [`Unparsed`] if it contains no IP packet with a readable source.
#[inline(always)]
pub fn parse(packet: &impl Packet) -> Result<Headers, Unparsed> {
    let mut offset = EthHdr::LEN;
    let mut ethertype = be16(packet, offset.wrapping_sub(2)).ok_or(Unparsed::Malformed)?;
    for _ in 0..VLAN_DEPTH {
        if !is_vlan(ethertype) {
            break;
        }
        ethertype = be16(packet, offset.wrapping_add(2)).ok_or(Unparsed::Malformed)?;
        offset = offset.wrapping_add(VLAN_TAG_LEN);
    }
    if ethertype == ETHERTYPE_PPPOE_SESSION {
        ethertype = match be16(packet, offset.wrapping_add(6)) {
            Some(PPP_IPV4) => ETHERTYPE_IPV4,
            Some(PPP_IPV6) => ETHERTYPE_IPV6,
            _ => return Err(Unparsed::NotIp),
        };
        offset = offset.wrapping_add(PPPOE_HEADER_LEN);
    }
    match ethertype {
        ETHERTYPE_IPV4 => ipv4(packet, offset),
        ETHERTYPE_IPV6 => ipv6(packet, offset),
        _ if is_vlan(ethertype) => {
            let layer4 = Layer4::Unknown;
            Ok(Headers { source: UNREAD_SOURCE, layer4, network: offset, end: 0 })
        }
        _ => Err(Unparsed::NotIp),
    }
}

/// Whether a tag of four bytes follows.
#[inline(always)]
fn is_vlan(ethertype: u16) -> bool {
    matches!(ethertype, ETHERTYPE_VLAN | ETHERTYPE_SERVICE_VLAN | ETHERTYPE_OLD_SERVICE_VLAN)
}

/// [`parse`] and [`Headers::to_words`] for most packets: UDP in IPv4 without options, tags or fragments;
/// `None` for all others. It needs a quarter of the work, because it reads the headers in four words.
#[inline(always)]
pub fn plain_udp(packet: &impl Packet) -> Option<Words> {
    // From the EtherType on.
    let start = EthHdr::LEN.wrapping_sub(2);
    let [w0, w1, w2, w3] = packet.near_words::<4>(start)?;
    // EtherType, version and header length; no fragment offset, and no more fragments; protocol.
    let plain = w0 & 0x00ff_ffff == 0x0045_0008 && w1 & 0xff00_ff3f == u64::from(UDP) << 24;
    let total_len = be16_of(w0 >> 32);
    let udp_len = be16_of(w3 >> 16);
    if !plain || total_len < PLAIN_LEN || udp_len < UdpHdr::LEN as u64 {
        return None;
    }
    let (ip_end, udp_end) = (total_len.wrapping_add(14), udp_len.wrapping_add(34));
    let end = if udp_end < ip_end { udp_end } else { ip_end };
    let source = (w1 >> 48 | w2 << 16) & 0xffff_ffff;
    let place = PLAIN_PAYLOAD | end << 32;
    let rest = KIND_UDP | (EthHdr::LEN as u64) << 8 | be16_of(w3) << 16;
    Some([0, source << 32 | 0xffff_0000, place, rest])
}

/// The offset of the payload in such a packet.
const PLAIN_PAYLOAD: u64 = (EthHdr::LEN + Ipv4Hdr::LEN + UdpHdr::LEN) as u64;

/// The length of its headers, from the IP header on.
const PLAIN_LEN: u64 = PLAIN_PAYLOAD - EthHdr::LEN as u64;

/// The first two bytes of a little-endian word, in network order.
#[inline(always)]
fn be16_of(word: u64) -> u64 {
    (word & 0xff) << 8 | word >> 8 & 0xff
}

/// RFC 791 section 3.1.
#[inline(always)]
fn ipv4(packet: &impl Packet, offset: usize) -> Result<Headers, Unparsed> {
    let header: [u8; Ipv4Hdr::LEN] = packet.array(offset).ok_or(Unparsed::Malformed)?;
    let [version_ihl, _, l0, l1, _, _, f0, f1, _, protocol, ..] = header;
    let [.., s0, s1, s2, s3, _, _, _, _] = header;
    let header_len = usize::from(version_ihl & 0x0f).wrapping_mul(4);
    let total_len = usize::from(u16::from_be_bytes([l0, l1]));
    if version_ihl >> 4 != 4 || header_len < Ipv4Hdr::LEN {
        return Err(Unparsed::Malformed);
    }
    let end = match total_len {
        // A packet that the kernel itself has assembled from more than 65,535 bytes (`iph_totlen` in
        // include/linux/ip.h), seen in generic mode.
        0 => packet.length(),
        _ if total_len < header_len => return Err(Unparsed::Malformed),
        _ => offset.wrapping_add(total_len),
    };
    let fragment = u16::from_be_bytes([f0, f1]);
    let layer4 = if fragment & FRAGMENT_OFFSET == 0 {
        let start = offset.wrapping_add(header_len);
        layer4(packet, protocol, start, end, fragment & MORE_FRAGMENTS != 0)?
    } else {
        Layer4::LaterFragment
    };
    Ok(Headers { source: Address::v4([s0, s1, s2, s3]), layer4, network: offset, end })
}

/// RFC 8200 sections 3 and 4.
#[inline(always)]
fn ipv6(packet: &impl Packet, offset: usize) -> Result<Headers, Unparsed> {
    let [version, _, _, _, l0, l1, next, _] = packet.array(offset).ok_or(Unparsed::Malformed)?;
    if version >> 4 != 6 {
        return Err(Unparsed::Malformed);
    }
    let first = packet.array(offset.wrapping_add(8)).ok_or(Unparsed::Malformed)?;
    let second = packet.array(offset.wrapping_add(16)).ok_or(Unparsed::Malformed)?;
    let start = offset.wrapping_add(Ipv6Hdr::LEN);
    let end = match u16::from_be_bytes([l0, l1]) {
        // A jumbogram (RFC 2675). Linux requires only a header of that kind and uses the frame's length
        // (`ip6_rcv_core` in net/ipv6/ip6_input.c).
        0 if next == HOP_BY_HOP => packet.length(),
        len => start.wrapping_add(usize::from(len)),
    };
    let source = Address::v6(first, second);
    if source.v4_word().is_some() {
        // An IPv4-mapped source is not valid on the wire (RFC 4942 section 2.2), and Linux rejects it. It
        // must not be mistaken for the IPv4 address.
        let source = Address::from_words([0, 0]);
        return Ok(Headers { source, layer4: Layer4::Unknown, network: offset, end });
    }
    let layer4 = extensions(packet, next, start, end)?;
    Ok(Headers { source, layer4, network: offset, end })
}

/// Follows the chain of extension headers (RFC 8200 section 4).
#[inline(always)]
fn extensions(
    packet: &impl Packet,
    mut next: u8,
    mut offset: usize,
    end: usize,
) -> Result<Layer4, Unparsed> {
    let mut fragmented = false;
    for _ in 0..IPV6_EXTENSIONS {
        match next {
            HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY => {
                let Some([following, len]) = packet.array(offset) else {
                    return cut(fragmented);
                };
                next = following;
                offset = offset.wrapping_add(usize::from(len).wrapping_add(1).wrapping_mul(8));
            }
            AUTHENTICATION => {
                // RFC 4302 section 2.2: in units of four bytes, minus two.
                let Some([following, len]) = packet.array(offset) else {
                    return cut(fragmented);
                };
                next = following;
                offset = offset.wrapping_add(usize::from(len).wrapping_add(2).wrapping_mul(4));
            }
            FRAGMENT => {
                let Some([following, _, f0, f1]) = packet.array(offset) else {
                    return cut(fragmented);
                };
                let fragment = u16::from_be_bytes([f0, f1]);
                if fragment >> 3 != 0 {
                    return Ok(Layer4::LaterFragment);
                }
                fragmented = fragment & 1 != 0;
                next = following;
                offset = offset.wrapping_add(8);
            }
            _ => return layer4(packet, next, offset, end, fragmented),
        }
    }
    match next {
        HOP_BY_HOP | ROUTING | DESTINATION_OPTIONS | MOBILITY | AUTHENTICATION | FRAGMENT => {
            Ok(Layer4::Unknown)
        }
        _ => layer4(packet, next, offset, end, fragmented),
    }
}

/// The result for a packet whose headers are truncated: the rest may be in later fragments, because the
/// first need not be longer than eight bytes.
#[inline(always)]
fn cut(fragmented: bool) -> Result<Layer4, Unparsed> {
    if fragmented { Ok(Layer4::Unknown) } else { Err(Unparsed::Malformed) }
}

/// UDP (RFC 768) or TCP (RFC 9293 section 3.1) at `offset`, in an IP packet that ends at `end`.
#[inline(always)]
fn layer4(
    packet: &impl Packet,
    protocol: u8,
    offset: usize,
    end: usize,
    fragmented: bool,
) -> Result<Layer4, Unparsed> {
    match protocol {
        UDP => {
            let Some(header) = packet.array::<{ UdpHdr::LEN }>(offset) else {
                return cut(fragmented);
            };
            let [_, _, p0, p1, l0, l1, _, _] = header;
            let udp_len = usize::from(u16::from_be_bytes([l0, l1]));
            // Zero is the length of a jumbogram only (RFC 2675 section 4).
            if udp_len != 0 && udp_len < UdpHdr::LEN {
                return Err(Unparsed::Malformed);
            }
            let udp_end = offset.wrapping_add(udp_len);
            let end = if udp_len != 0 && udp_end < end { udp_end } else { end };
            let start = offset.wrapping_add(UdpHdr::LEN);
            let port = u16::from_be_bytes([p0, p1]);
            Ok(Layer4::Udp { port, payload: Payload { start, end, fragmented } })
        }
        TCP => {
            let Some(header) = packet.array::<{ TcpHdr::LEN }>(offset) else {
                return cut(fragmented);
            };
            let [_, _, p0, p1, _, _, _, _, _, _, _, _, data_offset, flags, ..] = header;
            let header_len = usize::from(data_offset >> 4).wrapping_mul(4);
            if header_len < TcpHdr::LEN {
                return Err(Unparsed::Malformed);
            }
            let payload = Payload { start: offset.wrapping_add(header_len), end, fragmented };
            let port = u16::from_be_bytes([p0, p1]);
            let syn = flags & (TCP_SYN | TCP_ACK) == TCP_SYN;
            Ok(Layer4::Tcp { port, payload, syn, start: offset })
        }
        _ => Ok(Layer4::Other),
    }
}

#[inline(always)]
fn be16(packet: &impl Packet, offset: usize) -> Option<u16> {
    packet.array(offset).map(u16::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The meaning of a length of zero in a header.
    #[test]
    fn a_slice_is_as_long_as_it_is() {
        for bytes in [&b""[..], b"a", b"ab", b"abc"] {
            assert_eq!(Packet::length(&bytes), bytes.len());
        }
    }

    proptest! {
        #[test]
        fn words_and_back(
            words: [u64; 2], port: u16, start in 0usize..70_000, end in 0usize..70_000,
            fragmented: bool, kind in 0..6, network in 0usize..256, header in 0usize..20_000,
        ) {
            let payload = Payload { start, end, fragmented };
            let source = Address::from_words(words);
            let layer4 = match kind {
                0 => Layer4::Udp { port, payload },
                1 | 2 => Layer4::Tcp { port, payload, syn: kind == 1, start: header },
                3 => Layer4::LaterFragment,
                4 => Layer4::Other,
                _ => Layer4::Unknown,
            };
            let end = if matches!(kind, 0..=2) { payload.end } else { end };
            let headers = Headers { source, layer4, network, end };
            prop_assert_eq!(Headers::from_words(headers.to_words()), headers);
        }

        /// The short parser agrees with the long one.
        #[test]
        fn plain_udp_agrees(
            tos: u8, total_len in prop_oneof![0u16..80, Just(60_000)], flags in prop_oneof![
                Just(0u16), Just(0x4000), Just(0x2000), Just(1), Just(0x8000)],
            protocol in prop_oneof![Just(17u8), Just(6)], source: [u8; 4], port: u16,
            udp_len in prop_oneof![0u16..80, Just(60_000)], version in 0x43u8..0x47,
            ethertype in prop_oneof![Just(0x0800u16), Just(0x86dd)], len in 30usize..70,
        ) {
            let mut frame = std::vec![0u8; 12];
            frame.extend(ethertype.to_be_bytes());
            frame.extend([version, tos]);
            frame.extend(total_len.to_be_bytes());
            frame.extend([1, 2]);
            frame.extend(flags.to_be_bytes());
            frame.extend([64, protocol, 0, 0]);
            frame.extend(source);
            frame.extend([10, 0, 0, 1, 0x13, 0xc4]);
            frame.extend(port.to_be_bytes());
            frame.extend(udp_len.to_be_bytes());
            frame.resize(len, b'x');
            let long = parse(&frame.as_slice());
            if let Some(words) = plain_udp(&frame.as_slice()) {
                prop_assert_eq!(long.map(Headers::to_words), Ok(words));
            }
            let plain = ethertype == 0x0800 && version == 0x45 && flags.trailing_zeros() >= 14;
            if plain && protocol == 17 && total_len >= 28 && udp_len >= 8 && len >= 44 {
                prop_assert!(plain_udp(&frame.as_slice()).is_some());
            }
        }

        #[test]
        fn any_bytes_parse_or_not(bytes: std::vec::Vec<u8>) {
            let _any = parse(&bytes.as_slice());
        }
    }

    extern crate std;
}

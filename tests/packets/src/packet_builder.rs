//! Builds frames: correct by default, with any false value on request.
//!
//! Builds the bytes of a frame, from the Ethernet header on. Lengths, checksums and header chains are
//! computed unless a method has set them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A customer's VLAN tag (802.1Q).
pub const VLAN: u16 = 0x8100;
/// A provider's VLAN tag (802.1ad).
pub const SERVICE_VLAN: u16 = 0x88a8;
/// A provider's VLAN tag before 802.1ad.
pub const OLD_SERVICE_VLAN: u16 = 0x9100;
/// `EtherType` of IPv4.
pub const IPV4: u16 = 0x0800;
/// `EtherType` of IPv6.
pub const IPV6: u16 = 0x86dd;
/// `EtherType` of a `PPPoE` session.
pub const PPPOE_SESSION: u16 = 0x8864;
/// `EtherType` of ARP.
pub const ARP: u16 = 0x0806;

/// Bytes of an Ethernet header.
pub const ETHERNET_LEN: usize = 14;

/// Protocol number of TCP.
pub const TCP: u8 = 6;
/// Protocol number of UDP.
pub const UDP: u8 = 17;

/// TCP's flags (RFC 9293 section 3.1).
pub mod flag {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Open.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// Urgent.
    pub const URG: u8 = 0x20;
    /// Acknowledge.
    pub const ACK: u8 = 0x10;
}

/// The destination MAC address of all frames.
pub const TARGET_MAC: [u8; 6] = [0x02, 0, 0, 0, 0, 0x10];
/// The destination of all IPv4 frames.
pub const TARGET_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
/// The destination of all IPv6 frames.
pub const TARGET_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x10);

/// The default source port.
pub const SOURCE_PORT: u16 = 40_000;

/// A frame under construction.
#[derive(Clone, Debug)]
pub struct Frame {
    target_mac: [u8; 6],
    tags: Vec<(u16, u16)>,
    ethertype: Option<u16>,
    source: IpAddr,
    version: Option<u8>,
    ihl: Option<u8>,
    ip_options: Vec<u8>,
    ip_len: Option<u16>,
    fragment: u16,
    extensions: Vec<Extension>,
    layer4: Layer4,
    source_port: u16,
    udp_len: Option<u16>,
    checksum: Option<u16>,
    sequence: u32,
    tcp_flags: u8,
    tcp_options: Vec<u8>,
    data_offset: Option<u8>,
    payload: Vec<u8>,
}

#[derive(Clone, Copy, Debug)]
enum Layer4 {
    Udp(u16),
    Tcp(u16),
    /// A protocol number; the payload follows the IP header directly.
    Raw(u8),
}

/// An IPv6 extension header.
#[derive(Clone, Debug)]
pub struct Extension {
    kind: u8,
    /// The bytes; the first one, the next header, is filled in later.
    bytes: Vec<u8>,
}

impl Extension {
    /// Hop-by-hop options of `8 * units` bytes.
    pub fn hop_by_hop(units: u8) -> Self {
        Self::options(0, units)
    }

    /// A routing header of `8 * units` bytes.
    pub fn routing(units: u8) -> Self {
        // Type 253 is for experiments (RFC 3692); no segments are left.
        let mut header = Self::options(43, units);
        header.bytes[2] = 253;
        header.bytes[3] = 0;
        header
    }

    /// Destination options of `8 * units` bytes.
    pub fn destination(units: u8) -> Self {
        Self::options(60, units)
    }

    /// A mobility header of `8 * units` bytes.
    pub fn mobility(units: u8) -> Self {
        Self::options(135, units)
    }

    /// A fragment header; `offset` in units of eight bytes.
    pub fn fragment(offset: u16, more: bool) -> Self {
        let [o0, o1] = (offset << 3 | u16::from(more)).to_be_bytes();
        Self { kind: 44, bytes: vec![0, 0, o0, o1, 0, 0, 0x5a, 0x17] }
    }

    /// An authentication header with an integrity value of `4 * words` bytes.
    pub fn authentication(words: u8) -> Self {
        let mut bytes = vec![0; 12 + 4 * usize::from(words)];
        bytes[1] = words + 1;
        Self { kind: 51, bytes }
    }

    /// Sets the length field of this header.
    #[must_use]
    pub fn claiming(mut self, len: u8) -> Self {
        self.bytes[1] = len;
        self
    }

    /// Options that consist of one `PadN` and zeros; `units` is at least one.
    fn options(kind: u8, units: u8) -> Self {
        let mut bytes = vec![0; 8 * usize::from(units)];
        bytes[1] = units - 1;
        bytes[2] = 1;
        bytes[3] = 4;
        Self { kind, bytes }
    }
}

impl Frame {
    /// A UDP datagram from `source` to port 5060 without payload.
    pub fn from(source: IpAddr) -> Self {
        Self {
            target_mac: TARGET_MAC,
            tags: Vec::new(),
            ethertype: None,
            source,
            version: None,
            ihl: None,
            ip_options: Vec::new(),
            ip_len: None,
            fragment: 0,
            extensions: Vec::new(),
            layer4: Layer4::Udp(5060),
            source_port: SOURCE_PORT,
            udp_len: None,
            checksum: None,
            sequence: 1,
            tcp_flags: flag::PSH | flag::ACK,
            tcp_options: Vec::new(),
            data_offset: None,
            payload: Vec::new(),
        }
    }

    /// Sets the destination MAC address.
    #[must_use]
    pub fn target_mac(mut self, mac: [u8; 6]) -> Self {
        self.target_mac = mac;
        self
    }

    /// Adds a VLAN tag inside the existing ones.
    #[must_use]
    pub fn tag(mut self, kind: u16, vlan: u16) -> Self {
        self.tags.push((kind, vlan));
        self
    }

    /// Sets an `EtherType` other than that of the source's family.
    #[must_use]
    pub fn ethertype(mut self, ethertype: u16) -> Self {
        self.ethertype = Some(ethertype);
        self
    }

    /// Sets the version in the IP header.
    #[must_use]
    pub fn version(mut self, version: u8) -> Self {
        self.version = Some(version);
        self
    }

    /// Sets the length field of the IPv4 header.
    #[must_use]
    pub fn ihl(mut self, words: u8) -> Self {
        self.ihl = Some(words);
        self
    }

    /// Sets IPv4 options; the header's length follows, rounded up.
    #[must_use]
    pub fn ip_options(mut self, options: &[u8]) -> Self {
        self.ip_options = options.to_vec();
        self.ip_options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Sets the total length (IPv4) or payload length (IPv6).
    #[must_use]
    pub fn ip_len(mut self, len: u16) -> Self {
        self.ip_len = Some(len);
        self
    }

    /// Sets IPv4's fragment fields; `offset` in units of eight bytes.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = offset & 0x1fff | if more { 0x2000 } else { 0 };
        self
    }

    /// Sets IPv4's flag "do not fragment".
    #[must_use]
    pub fn unfragmentable(mut self) -> Self {
        self.fragment |= 0x4000;
        self
    }

    /// Adds an IPv6 extension header after the existing ones.
    #[must_use]
    pub fn extension(mut self, extension: Extension) -> Self {
        self.extensions.push(extension);
        self
    }

    /// Uses UDP to this port.
    #[must_use]
    pub fn udp(mut self, port: u16) -> Self {
        self.layer4 = Layer4::Udp(port);
        self
    }

    /// Uses TCP to this port.
    #[must_use]
    pub fn tcp(mut self, port: u16) -> Self {
        self.layer4 = Layer4::Tcp(port);
        self
    }

    /// Places the payload directly after the IP header, with this protocol.
    #[must_use]
    pub fn protocol(mut self, number: u8) -> Self {
        self.layer4 = Layer4::Raw(number);
        self
    }

    /// Sets the source port.
    #[must_use]
    pub fn source_port(mut self, port: u16) -> Self {
        self.source_port = port;
        self
    }

    /// Sets the length in the UDP header.
    #[must_use]
    pub fn udp_len(mut self, len: u16) -> Self {
        self.udp_len = Some(len);
        self
    }

    /// Sets the UDP or TCP checksum.
    #[must_use]
    pub fn checksum(mut self, checksum: u16) -> Self {
        self.checksum = Some(checksum);
        self
    }

    /// Sets the TCP sequence number.
    #[must_use]
    pub fn sequence(mut self, number: u32) -> Self {
        self.sequence = number;
        self
    }

    /// Sets the TCP flags.
    #[must_use]
    pub fn tcp_flags(mut self, flags: u8) -> Self {
        self.tcp_flags = flags;
        self
    }

    /// Sets TCP options; the header's length follows, rounded up.
    #[must_use]
    pub fn tcp_options(mut self, options: &[u8]) -> Self {
        self.tcp_options = options.to_vec();
        self.tcp_options.resize(options.len().next_multiple_of(4), 0);
        self
    }

    /// Sets the length field of the TCP header.
    #[must_use]
    pub fn data_offset(mut self, words: u8) -> Self {
        self.data_offset = Some(words);
        self
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl AsRef<[u8]>) -> Self {
        self.payload = payload.as_ref().to_vec();
        self
    }

    /// The frame's bytes.
    pub fn build(&self) -> Vec<u8> {
        let mut frame = self.target_mac.to_vec();
        frame.extend([0x02, 0, 0, 0, 0, 0x66]);
        for (kind, vlan) in &self.tags {
            frame.extend(kind.to_be_bytes());
            frame.extend(vlan.to_be_bytes());
        }
        let inner = self.layer4();
        let (ethertype, packet) = match self.source {
            IpAddr::V4(source) => (IPV4, self.ipv4(source, &inner)),
            IpAddr::V6(source) => (IPV6, self.ipv6(source, &inner)),
        };
        frame.extend(self.ethertype.unwrap_or(ethertype).to_be_bytes());
        frame.extend(packet);
        frame
    }

    /// The frame's bytes with its packet in a `PPPoE` session (RFC 2516 section 4).
    pub fn in_pppoe(&self) -> Vec<u8> {
        let mut frame = self.build();
        let at = 12 + 4 * self.tags.len();
        let packet = frame.split_off(at + 2);
        frame[at..].copy_from_slice(&PPPOE_SESSION.to_be_bytes());
        frame.extend([0x11, 0, 0, 1]);
        frame.extend(low_half(packet.len() + 2).to_be_bytes());
        frame.extend([0, if self.source.is_ipv4() { 0x21 } else { 0x57 }]);
        frame.extend(packet);
        frame
    }

    /// The first `len` bytes of the frame.
    pub fn cut(&self, len: usize) -> Vec<u8> {
        let mut frame = self.build();
        frame.truncate(len);
        frame
    }

    /// The frame followed by zeros, as Ethernet pads frames shorter than 60 bytes.
    pub fn padded(&self) -> Vec<u8> {
        let mut frame = self.build();
        frame.resize(frame.len().max(60), 0);
        frame
    }

    fn ipv4(&self, source: Ipv4Addr, inner: &[u8]) -> Vec<u8> {
        let header_len = 20 + self.ip_options.len();
        let ihl = self.ihl.unwrap_or_else(|| low_byte(header_len / 4));
        let len = self.ip_len.unwrap_or_else(|| low_half(header_len + inner.len()));
        let mut header = vec![self.version.unwrap_or(4) << 4 | ihl & 0x0f, 0];
        header.extend(len.to_be_bytes());
        header.extend([0x5a, 0x17]);
        header.extend(self.fragment.to_be_bytes());
        header.extend([64, self.protocol_number(), 0, 0]);
        header.extend(source.octets());
        header.extend(TARGET_V4.octets());
        header.extend(&self.ip_options);
        let sum = internet_checksum(&[&header]).to_be_bytes();
        header[10..12].copy_from_slice(&sum);
        header.extend(inner);
        header
    }

    fn ipv6(&self, source: Ipv6Addr, inner: &[u8]) -> Vec<u8> {
        let mut chain = Vec::new();
        let mut kinds = self.extensions.iter().map(|extension| extension.kind);
        let first = kinds.next().unwrap_or_else(|| self.protocol_number());
        for extension in &self.extensions {
            let at = chain.len();
            chain.extend(&extension.bytes);
            chain[at] = kinds.next().unwrap_or_else(|| self.protocol_number());
        }
        chain.extend(inner);
        let len = self.ip_len.unwrap_or_else(|| low_half(chain.len()));
        let mut header = vec![self.version.unwrap_or(6) << 4, 0, 0, 0];
        header.extend(len.to_be_bytes());
        header.extend([first, 64]);
        header.extend(source.octets());
        header.extend(TARGET_V6.octets());
        header.extend(chain);
        header
    }

    fn layer4(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.layer4 {
            Layer4::Raw(_) => {
                bytes.extend(&self.payload);
                return bytes;
            }
            Layer4::Udp(port) => {
                let len = self.udp_len.unwrap_or_else(|| low_half(8 + self.payload.len()));
                bytes.extend(self.source_port.to_be_bytes());
                bytes.extend(port.to_be_bytes());
                bytes.extend(len.to_be_bytes());
                bytes.extend([0, 0]);
            }
            Layer4::Tcp(port) => {
                let words = low_byte((20 + self.tcp_options.len()) / 4);
                bytes.extend(self.source_port.to_be_bytes());
                bytes.extend(port.to_be_bytes());
                bytes.extend(self.sequence.to_be_bytes());
                bytes.extend([0, 0, 0, 1]);
                bytes.extend([self.data_offset.unwrap_or(words) << 4, self.tcp_flags]);
                bytes.extend([0xff, 0xff, 0, 0, 0, 0]);
                bytes.extend(&self.tcp_options);
            }
        }
        bytes.extend(&self.payload);
        let place = if matches!(self.layer4, Layer4::Udp(_)) { 6 } else { 16 };
        let sum = self.checksum.unwrap_or_else(|| self.layer4_checksum(&bytes));
        bytes[place..place + 2].copy_from_slice(&sum.to_be_bytes());
        bytes
    }

    /// The checksum over the pseudo-header and `bytes` (RFC 768, RFC 8200 section 8.1).
    fn layer4_checksum(&self, bytes: &[u8]) -> u16 {
        let [.., l2, l1, l0] = bytes.len().to_be_bytes();
        let rest = [0, l2, l1, l0, 0, 0, 0, self.protocol_number()];
        let sum = match self.source {
            IpAddr::V4(source) => {
                internet_checksum(&[&source.octets(), &TARGET_V4.octets(), &rest, bytes])
            }
            IpAddr::V6(source) => {
                internet_checksum(&[&source.octets(), &TARGET_V6.octets(), &rest, bytes])
            }
        };
        // Zero would mean that there is no checksum.
        if sum == 0 { 0xffff } else { sum }
    }

    fn protocol_number(&self) -> u8 {
        match self.layer4 {
            Layer4::Udp(_) => UDP,
            Layer4::Tcp(_) => TCP,
            Layer4::Raw(number) => number,
        }
    }
}

/// A frame with an `EtherType` other than IP.
pub fn ethernet(ethertype: u16, body: &[u8]) -> Vec<u8> {
    let mut frame = vec![0xff; 6];
    frame.extend([0x02, 0, 0, 0, 0, 0x66]);
    frame.extend(ethertype.to_be_bytes());
    frame.extend(body);
    frame
}

/// An ARP request for 192.0.2.10 (RFC 826).
pub fn arp() -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4, 0, 1, 0x02, 0, 0, 0, 0, 0x66, 192, 0, 2, 66];
    body.extend([0; 6]);
    body.extend(TARGET_V4.octets());
    ethernet(ARP, &body)
}

/// The checksum of RFC 1071 over parts whose lengths are even, except for the last.
pub fn internet_checksum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u32;
    for pair in parts.iter().flat_map(|part| part.chunks(2)) {
        let word = [pair[0], pair.get(1).copied().unwrap_or(0)];
        sum += u32::from(u16::from_be_bytes(word));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !low_half(sum as usize)
}

fn low_half(value: usize) -> u16 {
    u16::try_from(value & 0xffff).unwrap_or_default()
}

fn low_byte(value: usize) -> u8 {
    u8::try_from(value & 0xff).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_right() {
        for source in ["192.0.2.66", "2001:db8::66"] {
            for payload in [&b""[..], b"odd", b"even"] {
                let source: IpAddr = source.parse().unwrap();
                let frame = Frame::from(source).payload(payload);
                for frame in [frame.clone().udp(5060), frame.tcp(5060)] {
                    let inner = frame.layer4();
                    // The sum over data that includes its own checksum is zero (which is then replaced).
                    assert_eq!(frame.layer4_checksum(&inner), 0xffff, "{source} {payload:?}");
                }
            }
        }
        let frame = Frame::from([192, 0, 2, 66].into()).ip_options(&[7, 7, 4]).build();
        assert_eq!(internet_checksum(&[&frame[14..38]]), 0);
    }

    #[test]
    fn lengths_are_right() {
        let frame = Frame::from([192, 0, 2, 66].into()).payload([1, 2, 3]).build();
        assert_eq!(frame.len(), 14 + 20 + 8 + 3);
        assert_eq!(frame[16..18], [0, 31]);
        assert_eq!(frame[38..40], [0, 11]);
        let frame = Frame::from(IpAddr::V6(Ipv6Addr::LOCALHOST))
            .extension(Extension::hop_by_hop(1))
            .extension(Extension::authentication(3))
            .extension(Extension::fragment(0, true))
            .build();
        assert_eq!(frame[18..21], [0, 8 + 24 + 8 + 8, 0]);
        assert_eq!((frame[54], frame[62], frame[86]), (51, 44, UDP));
        assert_eq!(frame[63], 4);
    }
}

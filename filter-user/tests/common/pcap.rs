//! The packets of a capture file (classic pcap, Ethernet), as far as the recordings need.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What a packet carried, and from where to where.
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) source_port: u16,
    pub(crate) target: IpAddr,
    pub(crate) payload: Vec<u8>,
}

/// The UDP and TCP packets of `file` with a payload.
pub(crate) fn packets(file: &[u8]) -> impl Iterator<Item = Packet> + '_ {
    let mut rest = &file[24..];
    std::iter::from_fn(move || {
        let length = u32::from_le_bytes(rest.get(8..12)?.try_into().ok()?) as usize;
        let frame = &rest[16..16 + length];
        rest = &rest[16 + length..];
        Some(packet(frame))
    })
    .flatten()
}

fn packet(frame: &[u8]) -> Option<Packet> {
    let network = &frame[14..];
    let (source, target, protocol, transport): (IpAddr, IpAddr, u8, &[u8]) = match frame[12..14] {
        [0x08, 0x00] => {
            let address = |at: usize| <[u8; 4]>::try_from(&network[at..at + 4]).ok();
            let total = usize::from(u16::from_be_bytes([network[2], network[3]]));
            let header = usize::from(network[0] & 15) * 4;
            let (source, target) = (Ipv4Addr::from(address(12)?), Ipv4Addr::from(address(16)?));
            (source.into(), target.into(), network[9], &network[header..total])
        }
        [0x86, 0xdd] => {
            let address = |at: usize| <[u8; 16]>::try_from(&network[at..at + 16]).ok();
            let (source, target) = (Ipv6Addr::from(address(8)?), Ipv6Addr::from(address(24)?));
            (source.into(), target.into(), network[6], &network[40..])
        }
        _ => return None,
    };
    let payload = match protocol {
        6 => &transport[usize::from(transport[12] >> 4) * 4..],
        17 => &transport[8..],
        _ => return None,
    };
    let source_port = u16::from_be_bytes([transport[0], transport[1]]);
    (!payload.is_empty()).then(|| Packet { source, source_port, target, payload: payload.to_vec() })
}

//! Millions of packets: random ones, mutations of the table's, and noise.

use std::net::IpAddr;

use super::{Case, messages, recorded};
use crate::packet_builder::{Extension, Frame, IPV4, IPV6, OLD_SERVICE_VLAN, SERVICE_VLAN, VLAN};

/// The sources of generated packets, so that a [`World`](super::World) can have entries for them.
pub const SOURCES: [&str; 8] = [
    "192.0.2.66",
    "192.0.2.67",
    "192.0.2.130",
    "198.51.100.7",
    "2001:db8::66",
    "2001:db8::67",
    "2001:db8:1::1",
    "fe80::1",
];

/// Random numbers that are reproducible by their seed: `SplitMix64` (public domain).
#[derive(Clone, Debug)]
pub struct Random(u64);

impl Random {
    /// Starts at `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Any number.
    pub fn any(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, or zero.
    pub fn below(&mut self, end: usize) -> usize {
        let end = u64::try_from(end).unwrap_or(u64::MAX).max(1);
        usize::try_from(self.any() % end).unwrap_or_default()
    }

    /// True once in this many times, on average.
    pub fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// One of these.
    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }

    fn byte(&mut self) -> u8 {
        self.any().to_le_bytes()[0]
    }

    fn half(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }
}

/// An endless sequence of packets, no longer than `longest`.
#[derive(Debug)]
pub struct Packets {
    random: Random,
    frames: Vec<Vec<u8>>,
    payloads: Vec<Vec<u8>>,
    longest: usize,
    last: Vec<u8>,
}

impl Packets {
    /// Packets from those of the table and the recorded ones, reproducible by the seed.
    pub fn new(seed: u64, cases: &[Case], longest: usize) -> Self {
        let frames = cases.iter().map(|case| case.packet.clone()).filter(|p| p.len() <= longest);
        let mut payloads = vec![
            messages::register(),
            messages::register_with_credentials(),
            messages::register_compact(),
            messages::register_with_late_credentials(1472),
            messages::long_register(1400),
            messages::stun(),
            b"\r\n\r\n".to_vec(),
            Vec::new(),
        ];
        for method in ["INVITE", "OPTIONS", "SUBSCRIBE", "MESSAGE"] {
            payloads.push(messages::request(method));
            for agent in ["friendly-scanner", "sipcli/v1.8", "iWar", "a phone"] {
                let field = format!("User-Agent: {agent}\r\n");
                payloads.push(messages::request_with(method, &field, ""));
            }
        }
        payloads.extend(recorded::RECORDED.iter().map(|(_, payload, _)| payload.to_vec()));
        payloads.extend(messages::TORTURE.iter().map(|(_, payload, _)| payload.to_vec()));
        Self {
            random: Random::new(seed),
            frames: frames.collect(),
            payloads,
            longest,
            last: Vec::new(),
        }
    }

    fn built(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let source: Option<IpAddr> = random.pick(&SOURCES).parse().ok();
        let mut payload = random.pick(&self.payloads).clone();
        for _ in 0..random.below(3) {
            mutate(random, &mut payload);
        }
        let mut frame =
            Frame::from(source.unwrap_or(IpAddr::from([192, 0, 2, 66]))).payload(payload);
        for _ in 0..random.below(5).saturating_sub(2) {
            let kind = *random.pick(&[VLAN, SERVICE_VLAN, OLD_SERVICE_VLAN]);
            frame = frame.tag(kind, random.half());
        }
        if random.once_in(4) {
            frame = frame.ip_options(&vec![1; random.below(41)]);
        }
        if random.once_in(3) {
            for _ in 0..random.below(9) {
                frame = frame.extension(extension(random));
            }
        }
        let port = *random.pick(&[5060, 5060, 5060, 5060, 5061, 22, 53, 10_000, 0, u16::MAX]);
        frame = match random.below(8) {
            0..5 => frame.udp(port),
            5 | 6 => {
                let frame = frame.tcp(port).tcp_options(&vec![1; random.below(41)]);
                if random.once_in(3) { frame.tcp_flags(random.byte()) } else { frame }
            }
            _ => frame.protocol(random.byte()),
        };
        lie(random, frame).build()
    }

    /// Random bytes, mostly after an Ethernet header with a known `EtherType`.
    fn noise(&mut self) -> Vec<u8> {
        let random = &mut self.random;
        let longest = if random.once_in(8) { 2000 } else { 120 };
        let len = random.below(longest);
        let mut frame: Vec<u8> = (0..len).map(|_| random.byte()).collect();
        let (ethertype, version) = *random.pick(&[(IPV4, 0x45), (IPV6, 0x60), (VLAN, 0)]);
        if !random.once_in(4)
            && let Some(head) = frame.first_chunk_mut::<15>()
        {
            head[12..14].copy_from_slice(&ethertype.to_be_bytes());
            head[14] = version;
        }
        frame
    }

    fn mutated(&mut self) -> Vec<u8> {
        let mut frame = self.random.pick(&self.frames).clone();
        for _ in 0..=self.random.below(6) {
            mutate(&mut self.random, &mut frame);
        }
        frame
    }
}

impl Iterator for Packets {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut frame = match self.random.below(16) {
            0..7 => self.built(),
            7..13 => self.mutated(),
            // A retransmission of the last packet.
            13 | 14 => std::mem::take(&mut self.last),
            _ => self.noise(),
        };
        frame.truncate(self.longest);
        self.last.clone_from(&frame);
        Some(frame)
    }
}

fn extension(random: &mut Random) -> Extension {
    let units = if random.once_in(10) { random.byte().max(1) } else { 1 };
    let extension = match random.below(6) {
        0 => Extension::hop_by_hop(units),
        1 => Extension::routing(units),
        2 => Extension::destination(units),
        3 => Extension::mobility(units),
        4 => Extension::authentication(units.min(254)),
        _ if random.once_in(4) => Extension::fragment(random.half() >> 3, random.once_in(2)),
        _ => Extension::fragment(0, random.once_in(2)),
    };
    if random.once_in(12) { extension.claiming(random.byte()) } else { extension }
}

/// Sometimes gives a field a false value.
fn lie(random: &mut Random, frame: Frame) -> Frame {
    let near = u16::from(random.byte());
    match random.below(24) {
        0 => frame.ihl(random.byte() & 15),
        1 => frame.ip_len(near),
        2 => frame.ip_len(random.half()),
        3 => frame.fragment(0, true),
        4 => frame.fragment(random.half() & 0x1fff, random.once_in(2)),
        5 => frame.udp_len(near),
        6 => frame.udp_len(random.half()),
        7 => frame.data_offset(random.byte() & 15),
        8 => frame.version(random.byte() & 15),
        9 => frame.payload([]),
        _ => frame,
    }
}

/// Makes one small change, mostly in the headers.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    const TELLING: [u8; 16] =
        [0, 1, 4, 6, 7, 8, 17, 43, 44, 51, 60, 0x7f, 0x80, 0xff, b'\r', b'\n'];
    const TELLING_TEXTS: [&str; 8] = [
        "\r\nUser-Agent: iWar\r\n",
        "\nuser-agent\t:sip",
        "\r\nAuthorization: x\r\n",
        "\r\n\r\n",
        "\nauthorization :",
        "REGISTER ",
        "\r\n",
        "Authorization",
    ];
    let near = if random.once_in(3) { bytes.len() } else { bytes.len().min(100) };
    let at = random.below(near);
    match random.below(10) {
        0 => bytes.truncate(at),
        1 => bytes.extend((0..random.below(64)).map(|n| n.to_le_bytes()[0])),
        2 => {
            let insert = [*random.pick(&TELLING), random.byte(), 0, 0];
            bytes.splice(at..at, insert.into_iter().take(1 << random.below(3)));
        }
        3 => {
            let end = bytes.len().min(at + random.below(12));
            bytes.drain(at..end);
        }
        4 => {
            let field = *random.pick(&TELLING_TEXTS);
            bytes.splice(at..at, field.bytes());
        }
        5 | 6 => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= 1 << random.below(8);
            }
        }
        _ => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte = if random.once_in(2) { *random.pick(&TELLING) } else { random.byte() };
            }
        }
    }
}

//! Writes databases for tests.

use std::collections::HashMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// What a database says of a network.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Said {
    /// Its country.
    Country(String),
    /// The number of its autonomous system, and the name of the organisation.
    As(u32, String),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Empty,
    Node(u32),
    Data(u32),
}

/// A database that grows in memory.
#[derive(Debug)]
pub struct Writer {
    nodes: Vec<[Slot; 2]>,
    data: Vec<u8>,
    places: HashMap<Said, u32>,
}

impl Default for Writer {
    fn default() -> Self {
        Self { nodes: vec![[Slot::Empty; 2]], data: Vec::new(), places: HashMap::new() }
    }
}

/// The length of the gap between the tree and the data.
const GAP: u32 = 16;

impl Writer {
    /// Adds a network; one inside another must follow it.
    ///
    /// # Panics
    ///
    /// If there are too many.
    pub fn add(&mut self, network: IpNet, said: &Said) {
        let place = self.place(said);
        // IPv4 addresses are in ::/96.
        let (bits, length) = match network.network() {
            IpAddr::V4(v4) => (u128::from(u32::from(v4)), 96 + network.prefix_len()),
            IpAddr::V6(v6) => (u128::from(v6), network.prefix_len()),
        };
        let mut node = 0;
        for depth in 0..length {
            let side = usize::from(bits >> (127 - depth) & 1 != 0);
            let slot = self.nodes[node][side];
            if depth + 1 == length {
                self.nodes[node][side] = Slot::Data(place);
                return;
            }
            node = match slot {
                Slot::Node(next) => next as usize,
                Slot::Empty | Slot::Data(_) => {
                    let next = self.nodes.len();
                    self.nodes.push([slot; 2]);
                    self.nodes[node][side] = Slot::Node(u32::try_from(next).expect("a small tree"));
                    next
                }
            };
        }
    }

    fn place(&mut self, said: &Said) -> u32 {
        if let Some(place) = self.places.get(said) {
            return *place;
        }
        let place = u32::try_from(self.data.len()).expect("little data");
        match said {
            Said::Country(code) => {
                map(&mut self.data, 1);
                text(&mut self.data, "country");
                map(&mut self.data, 1);
                text(&mut self.data, "iso_code");
                text(&mut self.data, code);
            }
            Said::As(number, name) => {
                map(&mut self.data, 2);
                text(&mut self.data, "autonomous_system_number");
                uint(&mut self.data, 6, u64::from(*number));
                text(&mut self.data, "autonomous_system_organization");
                text(&mut self.data, name);
            }
        }
        self.places.insert(said.clone(), place);
        place
    }

    /// The bytes of the database.
    ///
    /// # Panics
    ///
    /// If it has too many nodes.
    pub fn bytes(&self, kind: &str) -> Vec<u8> {
        let count = u32::try_from(self.nodes.len()).expect("a small tree");
        let mut bytes = Vec::with_capacity(self.nodes.len() * 8 + self.data.len() + 1024);
        for slot in self.nodes.iter().flatten() {
            let value = match slot {
                Slot::Empty => count,
                Slot::Node(node) => *node,
                Slot::Data(place) => count + GAP + place,
            };
            bytes.extend(value.to_be_bytes());
        }
        bytes.extend([0; GAP as usize]);
        bytes.extend(&self.data);
        bytes.extend(b"\xab\xcd\xefMaxMind.com");
        map(&mut bytes, 9);
        for (key, kind, value) in [
            ("node_count", 6, u64::from(count)),
            ("record_size", 5, 32),
            ("ip_version", 5, 6),
            ("binary_format_major_version", 5, 2),
            ("binary_format_minor_version", 5, 0),
            ("build_epoch", 9, 1_700_000_000),
        ] {
            text(&mut bytes, key);
            uint(&mut bytes, kind, value);
        }
        text(&mut bytes, "database_type");
        text(&mut bytes, kind);
        text(&mut bytes, "languages");
        bytes.extend([0, 4]);
        text(&mut bytes, "description");
        map(&mut bytes, 0);
        bytes
    }
}

fn map(bytes: &mut Vec<u8>, entries: u8) {
    bytes.push(7 << 5 | entries);
}

fn text(bytes: &mut Vec<u8>, text: &str) {
    let length = u8::try_from(text.len()).expect("a short text");
    match length.checked_sub(29) {
        None => bytes.push(2 << 5 | length),
        // 29: the length is in the next byte.
        Some(more) => bytes.extend([2 << 5 | 0x1d, more]),
    }
    bytes.extend(text.as_bytes());
}

fn uint(bytes: &mut Vec<u8>, kind: u8, value: u64) {
    let all = value.to_be_bytes();
    let start = all.iter().position(|byte| *byte != 0).unwrap_or(all.len());
    let digits = &all[start..];
    let length = u8::try_from(digits.len()).expect("at most eight");
    match kind.checked_sub(7) {
        None => bytes.push(kind << 5 | length),
        Some(extended) => bytes.extend([length, extended]),
    }
    bytes.extend(digits);
}

/// A whole world of `networks` networks of both families in 240 countries: three quarters IPv4, of /16 to /24.
///
/// # Panics
///
/// Never with as many as there are.
pub fn world(networks: u32) -> Vec<u8> {
    let mut writer = Writer::default();
    let mut seed = 7_u64;
    let mut random = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u32
    };
    let country = |n: u32| {
        let letter = |n: u32| char::from(b'A' + (n % 26) as u8);
        Said::Country([letter(n / 26), letter(n)].iter().collect())
    };
    // In order, as in a real database: each network begins where the one before ends.
    let v4 = networks / 4 * 3;
    let step = (223_u32 << 24) / v4.max(1);
    for n in 0..v4 {
        let length = 32 - step.ilog2().min(16) as u8;
        let first = (1 << 24) + n * step;
        let network = ipnet::Ipv4Net::new(first.into(), length).expect("a prefix length").trunc();
        writer.add(network.into(), &country(random() % 240));
    }
    for n in 0..networks - v4 {
        let first = 0x2400_u128 << 112 | u128::from(n) << 92 | u128::from(random() % 16) << 88;
        let network = ipnet::Ipv6Net::new(first.into(), 36).expect("a prefix length").trunc();
        writer.add(network.into(), &country(random() % 240));
    }
    writer.bytes("Test-Country")
}

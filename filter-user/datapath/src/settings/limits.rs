//! The limits: how fast unknown sources and known peers may send packets of each class.

use std::time::Duration;

use detection::settings::{Rate, Row, Value, below, section};

/// The largest burst of packets, and of bytes.
const PACKETS: u32 = 100_000;
const BYTES: u32 = 1_000_000;

section! {
    /// Every limit. The defaults allow 200 phones behind one NAT address to register at the same time, and
    /// phones to register every two minutes.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Limits {
        /// For each unknown source.
        source: ClassLimits = ClassLimits {
            register: limit(10, 250),
            register_credentials: limit(10, 250),
            invite: limit(10, 100),
            options: limit(10, 100),
            subscribe: limit(20, 500),
            other: limit(20, 500),
            syn: limit(20, 300),
        } => section ""("one source that is not a known peer");
        /// For all unknown sources of a network together.
        prefix: PrefixLimits = PrefixLimits::DEFAULT => section "prefix";
        /// For all unknown sources together.
        shared: ClassLimits = ClassLimits {
            register: limit(300, 1000),
            register_credentials: limit(300, 1000),
            invite: limit(200, 500),
            options: limit(200, 500),
            subscribe: limit(300, 1000),
            other: limit(1000, 2000),
            syn: limit(5000, 10_000),
        } => section "shared"("all unknown sources together");
        /// For the bytes that unknown sources send over TCP.
        tcp_bytes: ByteLimits = ByteLimits::DEFAULT => section "tcp_bytes";
        /// For each known peer, all classes together.
        known: Limit = limit(500, 5000) => section "known"(
            "How fast each known peer may send packets of any kind to SIP ports.",
            PACKETS,
            "packets",
        );
        // The retransmission is that of RFC 3261 section 17.1.2.2, timer E.
        greylist: bool = true,
            "When a shared limit is reached, admit a REGISTER of an unknown source when it is \
             retransmitted. Forged floods do not retransmit.",
            Flag();
        /// For everything that the greylist admits.
        admitted: Limit = limit(200, 500) => section "admitted"(
            "How fast the greylist admits retransmissions, from all sources together.",
            PACKETS,
            "packets",
        );
        /// When a proven source that keeps flooding is banned.
        flood: Flood = Flood::DEFAULT => section "flood";
    }
}

const fn limit(events: u32, burst: u32) -> Limit {
    Limit { rate: Rate::a_second(events), burst }
}

/// One limit for each class of packets to SIP ports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassLimits {
    /// REGISTER without an `Authorization` header.
    pub register: Limit,
    /// REGISTER with one.
    pub register_credentials: Limit,
    /// INVITE.
    pub invite: Limit,
    /// OPTIONS.
    pub options: Limit,
    /// SUBSCRIBE.
    pub subscribe: Limit,
    /// Everything else, SIP or not.
    pub other: Limit,
    /// TCP connections, by their SYN.
    pub syn: Limit,
}

impl ClassLimits {
    /// Its settings, which are below the path `at` and limit `who`.
    fn rows(&mut self, at: &str, who: &str) -> Vec<Row<'_>> {
        let Self { register, register_credentials, invite, options, subscribe, other, syn } = self;
        let classes = [
            ("register", "REGISTER without credentials", register),
            ("register_credentials", "REGISTER with credentials", register_credentials),
            ("invite", "INVITE", invite),
            ("options", "OPTIONS", options),
            ("subscribe", "SUBSCRIBE", subscribe),
            ("other", "anything else", other),
            ("syn", "TCP connection requests", syn),
        ];
        let rows = classes.into_iter().flat_map(|(name, what, limit)| {
            let doc = format!("How fast {who} may send {what} to SIP ports.");
            limit.rows(&below(at, name), &doc, PACKETS, "packets")
        });
        rows.collect()
    }

    /// The limits in the order of the kernel's numbers.
    pub fn in_class_order(&self) -> [Limit; 7] {
        let Self { register, register_credentials, invite, options, subscribe, other, syn } = *self;
        [register, register_credentials, invite, options, subscribe, other, syn]
    }
}

section! {
    /// The limits of all unknown sources of a network together.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct PrefixLimits {
        ipv4: u8 = 24,
            "The length of the IPv4 networks to which the limits in this section apply.",
            Length(8..=32);
        ipv6: u8 = 48,
            "The length of the IPv6 networks to which the limits in this section apply. All addresses of a /64 are one source.",
            Length(16..=128);
        /// The limits.
        classes: ClassLimits = ClassLimits {
            register: limit(40, 1000),
            register_credentials: limit(40, 1000),
            invite: limit(40, 400),
            options: limit(40, 400),
            subscribe: limit(80, 2000),
            other: limit(80, 2000),
            syn: limit(80, 1200),
        } => section ""("all unknown sources in one network together");
    }
}

section! {
    /// How many bytes of TCP payload unknown sources may send to SIP ports, including TLS handshakes.
    /// `docs/packet-flow.md` derives the defaults.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct ByteLimits {
        /// On each connection.
        connection: Limit = limit(3000, 24_000) => section "connection"(
            "How many bytes may come from one TCP connection to a SIP port, known peers excepted.",
            BYTES,
            "bytes",
        );
        /// For each source.
        source: Limit = limit(4000, 32_000) => section "source"(
            "How many bytes may come from one source over TCP to SIP ports, known peers excepted.",
            BYTES,
            "bytes",
        );
        /// For all sources of a network together.
        prefix: Limit = limit(16_000, 128_000) => section "prefix"(
            "How many bytes may come from one network over TCP to SIP ports, known peers excepted.",
            BYTES,
            "bytes",
        );
        /// For all sources together.
        shared: Limit = limit(200_000, 650_000) => section "shared"(
            "How many bytes may come from all unknown sources over TCP to SIP ports, known peers \
             excepted.",
            BYTES,
            "bytes",
        );
    }
}

section! {
    /// When a proven source that keeps flooding is banned: one that has a TCP connection or is a known peer.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Flood {
        /// How many packets over its limit it may send.
        after: Limit = limit(100, 2000) => section "after"(
            "How many packets over its limit a source may send before the filter bans it. Only known \
             peers and sources with a TCP connection are banned in this way.",
            PACKETS,
            "packets",
        );
        ban: Duration = Duration::from_mins(1),
            "How long a ban for flooding lasts.",
            Time(Duration::from_secs(1)..=Duration::from_hours(24));
    }
}

/// A token bucket: `burst` at once, refilled at `rate`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// How fast the bucket fills.
    pub rate: Rate,
    /// The size of the bucket.
    pub burst: u32,
}

impl Limit {
    /// Its settings, which are below the path `at`; the burst is at most `most` of the counted things.
    fn rows(&mut self, at: &str, doc: &str, most: u32, unit: &'static str) -> [Row<'_>; 2] {
        let Self { rate, burst } = self;
        [
            Row { path: below(at, "rate"), doc: doc.to_owned(), value: Value::Rate(rate, unit) },
            Row {
                path: below(at, "burst"),
                doc: format!(
                    "The burst: how many {unit} may arrive at once before the rate applies."
                ),
                value: Value::Count(burst, 1..=most, unit),
            },
        ]
    }
}

#[cfg(test)]
mod tests;

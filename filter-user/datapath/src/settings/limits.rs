//! The limits: how fast unknown sources and known peers may send packets of each class.

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use detection::duration::{self, Compact, snippet};

/// Every limit. The defaults allow 200 phones behind one NAT address to register at the same time, and
/// phones to register every two minutes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// For each unknown source.
    pub source: ClassLimits,
    /// For all unknown sources of a network together.
    pub prefix: PrefixLimits,
    /// For all unknown sources together.
    pub shared: ClassLimits,
    /// For the bytes that unknown sources send over TCP.
    pub tcp_bytes: ByteLimits,
    /// For each known peer, all classes together.
    pub known: Limit,
    /// Whether, while a shared limit is reached, an unknown source's first REGISTER is dropped and its
    /// retransmission (RFC 3261 section 17.1.2.2, timer E) admitted.
    pub greylist: bool,
    /// For everything that the greylist admits.
    pub admitted: Limit,
    /// When a proven source that keeps flooding is banned.
    pub flood: Flood,
}

impl Default for Limits {
    fn default() -> Self {
        let limit = Limit::a_second;
        Self {
            source: ClassLimits {
                register: limit(10, 250),
                register_credentials: limit(10, 250),
                invite: limit(10, 100),
                options: limit(10, 100),
                subscribe: limit(20, 500),
                other: limit(20, 500),
                syn: limit(20, 300),
            },
            prefix: PrefixLimits {
                ipv4: 24,
                ipv6: 64,
                classes: ClassLimits {
                    register: limit(40, 1000),
                    register_credentials: limit(40, 1000),
                    invite: limit(40, 400),
                    options: limit(40, 400),
                    subscribe: limit(80, 2000),
                    other: limit(80, 2000),
                    syn: limit(80, 1200),
                },
            },
            shared: ClassLimits {
                register: limit(300, 1000),
                register_credentials: limit(300, 1000),
                invite: limit(200, 500),
                options: limit(200, 500),
                subscribe: limit(300, 1000),
                other: limit(1000, 2000),
                syn: limit(5000, 10_000),
            },
            tcp_bytes: ByteLimits {
                connection: limit(3000, 24_000),
                source: limit(4000, 32_000),
                prefix: limit(16_000, 128_000),
                shared: limit(200_000, 650_000),
            },
            known: limit(500, 5000),
            greylist: true,
            admitted: limit(200, 500),
            flood: Flood { after: limit(100, 2000), ban: Duration::from_mins(1) },
        }
    }
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
    /// The limits in the order of the kernel's numbers.
    pub fn in_class_order(&self) -> [Limit; 7] {
        let Self { register, register_credentials, invite, options, subscribe, other, syn } = *self;
        [register, register_credentials, invite, options, subscribe, other, syn]
    }
}

/// The limits of all unknown sources of a network together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PrefixLimits {
    /// The length of an IPv4 network, in bits.
    pub ipv4: u8,
    /// The length of an IPv6 network, in bits.
    pub ipv6: u8,
    /// The limits.
    pub classes: ClassLimits,
}

/// How many bytes of TCP payload unknown sources may send to SIP ports, including TLS handshakes.
/// `docs/packet-flow.md` derives the defaults.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByteLimits {
    /// On each connection.
    pub connection: Limit,
    /// For each source.
    pub source: Limit,
    /// For all sources of a network together.
    pub prefix: Limit,
    /// For all sources together.
    pub shared: Limit,
}

/// When a proven source that keeps flooding is banned: one that has a TCP connection or is a known peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flood {
    /// How many packets over its limit it may send.
    pub after: Limit,
    /// How long the ban lasts.
    pub ban: Duration,
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
    /// A limit of events a second, with a burst.
    const fn a_second(events: u32, burst: u32) -> Self {
        Self { rate: Rate { events, period: Duration::from_secs(1) }, burst }
    }
}

/// Within these bounds an event costs at least a microsecond, and the largest burst at the slowest rate
/// stays far below 2^63 nanoseconds.
const RATE_EVENTS: RangeInclusive<u32> = 1..=1_000_000;
const RATE_PERIODS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Events in a period, as written: `600/m` does not become `10/s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    events: u32,
    period: Duration,
}

impl Rate {
    /// This many events in a period, unless that is out of range.
    pub fn new(events: u32, period: Duration) -> Option<Self> {
        let fits = RATE_EVENTS.contains(&events) && RATE_PERIODS.contains(&period);
        fits.then_some(Self { events, period })
    }

    /// The events in a [`period`](Self::period); never 0.
    pub fn events(self) -> u32 {
        self.events
    }

    /// The period over which [`events`](Self::events) are counted.
    pub fn period(self) -> Duration {
        self.period
    }

    /// The time that one event costs; never 0.
    pub fn interval(self) -> Duration {
        self.period / self.events
    }
}

impl FromStr for Rate {
    type Err = String;

    /// `10/s`, `600/m`, `100/h`, or with any period: `50/10s`.
    fn from_str(text: &str) -> Result<Self, String> {
        let shown = snippet(text);
        let wrong =
            || format!("`{shown}` is not a rate; write one such as `10/s`, `600/m` or `50/10s`");
        let (events, period) = text.split_once('/').ok_or_else(wrong)?;
        if events.is_empty() || !events.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(wrong());
        }
        let period = match period {
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            period => duration::parse(period).map_err(|_error| wrong())?,
        };
        events.parse().ok().and_then(|events| Self::new(events, period)).ok_or_else(|| {
            format!(
                "`{shown}` is out of range; it must be from {} to {} events in {} to {}",
                RATE_EVENTS.start(),
                RATE_EVENTS.end(),
                Compact(*RATE_PERIODS.start()),
                Compact(*RATE_PERIODS.end()),
            )
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/", self.events)?;
        match self.period.as_millis() {
            1000 => f.write_str("s"),
            60_000 => f.write_str("m"),
            3_600_000 => f.write_str("h"),
            _ => Compact(self.period).fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;

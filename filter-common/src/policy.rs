//! The decision about a packet: what is looked up, in which order, and what wins.
//!
//! Cheapest and most decisive first. A trusted network is looked up last of all, and only for a
//! packet that would drop: it wins over everything, and costs nothing on the way of other packets.

use crate::abi::{
    ABI_VERSION, BanEntry, Config, FLAG_BANNED_NETWORKS, FLAG_TRUSTED, PORT_SIP_TCP, PORT_SIP_UDP,
    SCOPE_ALL, SCOPE_SIP,
};
use crate::address::Address;
use crate::decision::{Reason, Verdict};
use crate::packet::{self, Headers, Layer4, Packet, Payload, Unparsed, Window, Words};
use crate::rate::{Bucket, Gcra};
use crate::sip::{self, Start, Step};

/// What is known besides the packet: the BPF maps in the kernel, a model of them on the host.
pub trait Tables {
    /// A ban in a table.
    type Ban<'a>: BanSlot
    where
        Self: 'a;
    /// A bucket of a limit.
    type Bucket<'a>: Bucket
    where
        Self: 'a;

    /// The configuration.
    fn config(&self) -> Option<Config>;
    /// Now, nanoseconds of `CLOCK_MONOTONIC`.
    fn now(&self) -> u64;
    /// The ban of exactly this address, in force or not.
    fn ban(&self, source: Address) -> Option<Self::Ban<'_>>;
    /// The ban of the longest network around this address, in force or not.
    fn network_ban(&self, source: Address) -> Option<Self::Ban<'_>>;
    /// Whether the address is in a trusted network.
    fn trusted(&self, source: Address) -> bool;
    /// The `PORT_*` classes of a port.
    fn port_classes(&self, port: u16) -> u8;
    /// The bucket of a source's REGISTER requests.
    fn register_bucket(&self, hash: u64) -> Option<Self::Bucket<'_>>;
    /// `words`. In the kernel in such a way that the verifier forgets on which path they were read:
    /// else it would follow everything behind this once for each combination of tags, options and
    /// extension headers.
    fn join_paths(&self, words: Words) -> Words;
    /// Notes that a source's packet passes to SIP, at `now`. Only the controller asks for it.
    fn saw(&self, _hash: u64, _now: u64) {}
    /// Memory for [`Packet::copy`].
    fn with_window<R>(&self, fill: impl FnOnce(&mut Window) -> R) -> Option<R>;
    /// The first answer of [`sip::search`] over that memory that is not [`Step::On`], or that. A
    /// loop in the kernel's own hands: written out, it would be more instructions than the verifier
    /// follows.
    fn search(&self, steps: usize) -> Step;
}

/// One ban, where it lies in its table.
pub trait BanSlot {
    /// When it ends.
    fn until(&self) -> u64;
    /// One of the `SCOPE_*`.
    fn scope(&self) -> u8;
    /// Counts a packet it dropped.
    fn hit(&self);
}

impl BanSlot for &core::cell::Cell<BanEntry> {
    fn until(&self) -> u64 {
        self.get().until
    }

    fn scope(&self) -> u8 {
        self.get().scope
    }

    fn hit(&self) {
        let entry = self.get();
        self.set(BanEntry { packets: entry.packets.wrapping_add(1), ..entry });
    }
}

/// A reason, and the source it is about where one was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Why the packet passes or drops.
    pub reason: Reason,
    /// The packet's source.
    pub source: Option<Address>,
}

/// Decides about a packet.
#[inline(always)]
pub fn decide<T: Tables>(packet: &impl Packet, tables: &T) -> Decision {
    let Some(config) = tables.config().filter(|config| config.abi_version == ABI_VERSION) else {
        return Decision { reason: Reason::NotConfigured, source: None };
    };
    let headers = match packet::parse(packet) {
        Ok(headers) => headers,
        Err(Unparsed::NotIp) => {
            return Decision { reason: Reason::NotIp, source: None };
        }
        Err(Unparsed::Malformed) => {
            return Decision { reason: Reason::Malformed, source: None };
        }
    };
    let headers = Headers::from_words(tables.join_paths(headers.to_words()));
    let reason = judge(packet, &headers, &config, tables);
    let reason = if reason.verdict() == Verdict::Drop
        && config.flags & FLAG_TRUSTED != 0
        && tables.trusted(headers.source)
    {
        Reason::Trusted
    } else {
        reason
    };
    if matches!(
        reason,
        Reason::Register | Reason::RegisterCredentials | Reason::Request | Reason::NotSip
    ) {
        tables.saw(headers.source.hash(config.seed), tables.now());
    }
    Decision { reason, source: Some(headers.source) }
}

/// The reason, but for trust.
#[inline(always)]
fn judge<T: Tables>(
    packet: &impl Packet,
    headers: &Headers,
    config: &Config,
    tables: &T,
) -> Reason {
    let source = headers.source;
    let sip = sip_payload(headers.layer4, tables);
    if let Some(ban) = tables.ban(source)
        && drops(&ban, headers.layer4, sip.is_some(), tables)
    {
        return Reason::Banned;
    }
    if config.flags & FLAG_BANNED_NETWORKS != 0
        && let Some(ban) = tables.network_ban(source)
        && drops(&ban, headers.layer4, sip.is_some(), tables)
    {
        return Reason::BannedNetwork;
    }
    match (headers.layer4, sip) {
        (Layer4::LaterFragment, _) => Reason::Fragment,
        (Layer4::Other | Layer4::Unknown, _) => Reason::OtherProtocol,
        (Layer4::Udp { .. } | Layer4::Tcp { .. }, None) => Reason::OtherPort,
        (Layer4::Tcp { .. }, Some(payload))
            if payload.start >= payload.end && !payload.fragmented =>
        {
            Reason::TcpControl
        }
        (Layer4::Udp { .. } | Layer4::Tcp { .. }, Some(payload)) => {
            match sip::start(packet, payload) {
                (Start::Register, message) => register(packet, message, source, config, tables),
                (Start::Request, _) => Reason::Request,
                (Start::Response, _) => Reason::Response,
                (Start::KeepAlive, _) => Reason::KeepAlive,
                (Start::Stun, _) => Reason::Stun,
                (Start::NotSip, _) => Reason::NotSip,
            }
        }
    }
}

/// The payload, if the packet goes to a SIP port.
#[inline(always)]
fn sip_payload(layer4: Layer4, tables: &impl Tables) -> Option<Payload> {
    let (port, class, payload) = match layer4 {
        Layer4::Udp { port, payload } => (port, PORT_SIP_UDP, payload),
        Layer4::Tcp { port, payload } => (port, PORT_SIP_TCP, payload),
        Layer4::LaterFragment | Layer4::Other | Layer4::Unknown => return None,
    };
    (tables.port_classes(port) & class != 0).then_some(payload)
}

/// Whether a ban is in force for a packet. Where the port is not known, the narrowest ban includes
/// it: a banned source must not get through by fragmenting.
#[inline(always)]
fn drops(ban: &impl BanSlot, layer4: Layer4, sip: bool, tables: &impl Tables) -> bool {
    let in_scope = match ban.scope() {
        SCOPE_ALL => true,
        SCOPE_SIP => sip || matches!(layer4, Layer4::LaterFragment | Layer4::Unknown),
        _ => false,
    };
    let in_force = in_scope && tables.now() < ban.until();
    if in_force {
        ban.hit();
    }
    in_force
}

/// A REGISTER: credentials are looked for only when its source is over the limit.
#[inline(always)]
fn register<T: Tables>(
    packet: &impl Packet,
    payload: Payload,
    source: Address,
    config: &Config,
    tables: &T,
) -> Reason {
    let limit = Gcra { interval: config.register_interval, tolerance: config.register_tolerance };
    let Some(bucket) = tables.register_bucket(source.hash(config.seed)) else {
        return Reason::Register;
    };
    if limit.take(&bucket, tables.now()) {
        return Reason::Register;
    }
    if authorized(packet, payload, tables) {
        Reason::RegisterCredentials
    } else {
        Reason::RegisterLimit
    }
}

/// Whether the request carries credentials. No memory for the search is no evidence that it does
/// not.
#[inline(always)]
fn authorized<T: Tables>(packet: &impl Packet, payload: Payload, tables: &T) -> bool {
    let steps = tables.with_window(|window| {
        let copied = packet.copy(payload.start, window);
        let len = copied.min(payload.end.saturating_sub(payload.start));
        sip::terminate(window, len);
        sip::steps(len)
    });
    match steps {
        Some(steps) => tables.search(steps) == Step::Found,
        None => true,
    }
}

//! The limits of a packet to a SIP port: each known peer has a large bucket of its own. Unknown sources
//! have small ones by class; their network has one, and all of them together share one.

use super::levels::{self, Level, Over};
use super::task::Task;
use super::{Flood, PeerSlot, Tables, geo, is_attended};
use crate::abi::{
    ADMITTED, CLASSES, Config, EXCESS, FLAG_CLOSED_TO_KNOWN, FLAG_GEO, FLAG_GREYLIST, SEARCHES,
};
use crate::address::Address;
use crate::class::{self, Class};
use crate::decision::{Code, Reason, bits};
use crate::gate;
use crate::greylist::{self, Told};
use crate::limits::{GREYLIST_LINES, PREFIX_LINES, SOURCE_LINES};
use crate::packet::{Headers, Layer4, Packet, Payload, Place, Words};
use crate::rate::Gcra;
use crate::sip::{self, Fields, Start};

/// The known peer with this address. The gate saves the lookup of most unknown sources.
#[inline(always)]
pub(super) fn known_peer<'a, T: Tables + ?Sized>(
    source: Address,
    config: &Config,
    tables: &'a T,
    now: u64,
) -> Option<T::Peer<'a>> {
    let place = gate::known(source, config.seed);
    let may_be = tables.known_gate(place.word).wrapping_shr(place.shift) & 1 != 0;
    let peer = if may_be { tables.peer(source) } else { None };
    peer.filter(|peer| now < peer.until())
}

/// Why a packet to a SIP port passes or drops, or [`Code::UNKNOWN`].
#[inline(always)]
pub(super) fn sip<T: Tables + ?Sized>(
    source: Address,
    config: &Config,
    tables: &T,
    now: u64,
) -> Code {
    let peer = known_peer(source, config, tables, now);
    if now < config.maintenance_until
        && (peer.is_none() || config.flags & FLAG_CLOSED_TO_KNOWN != 0)
    {
        return Reason::Maintenance.into();
    }
    match peer {
        Some(peer) => known(&peer, config, tables, now).into(),
        None => Code::UNKNOWN,
    }
}

/// A packet from a known peer: all its packets share one bucket. A flood in its name may be forged, but
/// then the bucket is empty anyway, and the short ban spares the host.
#[inline(always)]
fn known<T: Tables + ?Sized>(
    peer: &impl PeerSlot,
    config: &Config,
    tables: &T,
    now: u64,
) -> Reason {
    let reason = if now < peer.blocked_until() {
        Reason::Flooding
    } else if config.known.take(&peer.bucket(), now) {
        Reason::Known
    } else if !is_attended(tables, now) || config.flood.take(&peer.excess(), now) {
        Reason::KnownLimit
    } else {
        peer.block(now.wrapping_add(config.flood_ban));
        Reason::Flooding
    };
    peer.count(matches!(reason, Reason::Known));
    reason
}

/// Requests that passed and are searched for the User-Agent of a scanner.
pub(super) const SIGNED: u64 =
    bits(&[Reason::Register, Reason::RegisterCredentials, Reason::Request]);

/// Loads the line of the greylist of a source of a flood early, for the decision that follows.
#[inline(always)]
pub(super) fn fetch<T: Tables + ?Sized>(
    source: Address,
    flood: Flood,
    config: &Config,
    tables: &T,
) {
    if flood == Flood::Greylisted
        && let Some(line) = greylist_line(config.source_hash(source), tables)
    {
        greylist::fetch(&line);
    }
}

/// The decision about a REGISTER of a flood that has exhausted the shared budget: [`Code::OVERLOAD`], or that it
/// drops if the greylist would neither admit nor record it. [`Code::UNKNOWN`] about any other packet. The stages
/// would say the same, but their calls cost more than everything else.
#[inline(always)]
pub(super) fn flooded<T: Tables + ?Sized>(
    packet: &impl Packet,
    words: Words,
    config: &Config,
    tables: &T,
) -> Code {
    let Headers { source, layer4, .. } = Headers::from_words(words);
    let Layer4::Udp { payload, .. } = layer4 else {
        return Code::UNKNOWN;
    };
    if config.flags & (FLAG_GREYLIST | FLAG_GEO) != FLAG_GREYLIST
        || !sip::is_identified(payload)
        || !packet.near_words(payload.start).is_some_and(sip::is_register)
    {
        return Code::UNKNOWN;
    }
    let limits = Limits::of(source, config, tables, tables.now(config));
    if limits.shared_has_room(Class::Register) {
        return Code::UNKNOWN;
    }
    let line = greylist_line(limits.hash, tables);
    if line.is_some_and(|line| !greylist::wants(&line, limits.hash, limits.now)) {
        return Reason::Greylist.into();
    }
    Code::OVERLOAD
}

/// The class of a packet from an unknown source to a SIP port, or the reason why it is not limited.
#[inline(always)]
pub fn classify<T: Tables + ?Sized>(packet: &impl Packet, words: Words, tables: &T) -> Task {
    let Some(config) = tables.config() else {
        return Task::decided(Reason::NotConfigured.into());
    };
    let headers = Headers::from_words(words);
    if geo::shuts_out(headers.source, config, tables) {
        return Task::decided(Reason::Geo.into());
    }
    let now = tables.now(config);
    let (tcp, syn, payload) = match headers.layer4 {
        Layer4::Udp { payload, .. } => (false, false, payload),
        Layer4::Tcp { payload, syn, .. } => (true, syn, payload),
        Layer4::Unknown => {
            // It may be a REGISTER, and a packet that hides its contents must not have an advantage.
            let nowhere = Payload::default();
            return Task::limited(Class::Register, false, Reason::OtherProtocol, nowhere);
        }
        Layer4::LaterFragment | Layer4::Other => {
            return Task::decided(Reason::OtherProtocol.into());
        }
    };
    if syn {
        // Even with data (RFC 7413): otherwise a flood could bypass this limit with one byte of it.
        return Task::limited(Class::Syn, tcp, Reason::TcpControl, payload);
    }
    if tcp && payload.start >= payload.end && !payload.fragmented {
        return Task::decided(Reason::TcpControl.into());
    }
    let (start, message) = sip::start(packet, payload);
    let (class, pass) = match start {
        Start::Register => (Class::Register, Reason::Register),
        Start::Invite => (Class::Invite, Reason::Request),
        Start::Options => (Class::Options, Reason::Request),
        Start::Subscribe => (Class::Subscribe, Reason::Request),
        Start::Request => (Class::Other, Reason::Request),
        Start::Response => (Class::Other, Reason::Response),
        Start::KeepAlive => (Class::Other, Reason::KeepAlive),
        Start::Stun => (Class::Other, Reason::Stun),
        Start::NotSip => (Class::Other, Reason::NotSip),
    };
    // Over TCP the rest may be the middle of a message or of a TLS record: its bytes are limited.
    if tcp && !matches!(pass, Reason::Register | Reason::Request) {
        return Task::decided(pass.into());
    }
    let task = Task::limited(class, tcp, pass, message);
    if class != Class::Register {
        return task;
    }
    let limits = Limits::of(headers.source, config, tables, now);
    if !limits.shared_has_room(class) {
        Task::decided(overload(config))
    } else if limits.may_search() {
        task.with_search()
    } else {
        Task::decided(limits.over(class.index(), tcp))
    }
}

/// The decision about a REGISTER when the budget of all unknown sources is exhausted.
#[inline(always)]
fn overload(config: &Config) -> Code {
    if config.flags & FLAG_GREYLIST != 0 { Code::OVERLOAD } else { Reason::SharedLimit.into() }
}

/// Consumes one packet from each limit of a source for a class; returns why the packet passes or drops.
#[inline(always)]
pub fn limit<T: Tables + ?Sized>(source: [u64; 2], task: Task, tables: &T) -> Code {
    let Some(config) = tables.config() else {
        return Reason::NotConfigured.into();
    };
    let now = tables.now(config);
    let limits = Limits::of(Address::from_words(source), config, tables, now);
    let class = task.class();
    match limits.take(class) {
        Over::Nothing => {
            // The answer to its challenge must pass too, even if the budget is exhausted by then.
            if class == Class::Register.index()
                && config.flags & FLAG_GREYLIST != 0
                && let Some(line) = greylist_line(limits.hash, tables)
            {
                greylist::admit(&line, limits.hash, now);
            }
            task.pass()
        }
        Over::Source => limits.over(class, task.is_tcp()),
        Over::Prefix => Reason::PrefixLimit.into(),
        Over::Shared if class <= Class::Credentials.index() => overload(config),
        Over::Shared => Reason::SharedLimit.into(),
    }
}

/// A continued flood over TCP: bans its source for a while if the host has the connection, and returns
/// whether it has.
#[inline(always)]
pub fn flood<T: Tables + ?Sized>(words: Words, tables: &T) -> bool {
    let Some(config) = tables.config() else {
        return false;
    };
    let headers = Headers::from_words(words);
    let proven = tables.connected(&headers);
    if proven {
        tables.block(headers.source.network64(), tables.now(config).wrapping_add(config.flood_ban));
    }
    proven
}

/// The limits of one unknown source. A missing bucket limits nothing.
struct Limits<'a, T: ?Sized> {
    config: &'a Config,
    tables: &'a T,
    now: u64,
    /// The hash of the source.
    hash: u64,
    source: u32,
    prefix: u32,
}

impl<'a, T: Tables + ?Sized> Limits<'a, T> {
    #[inline(always)]
    fn of(source: Address, config: &'a Config, tables: &'a T, now: u64) -> Self {
        let hash = config.source_hash(source);
        let network = network_hash(source, config);
        #[expect(clippy::cast_possible_truncation, reason = "masked")]
        let (source, prefix) =
            (hash as u32 & (SOURCE_LINES - 1), network as u32 & (PREFIX_LINES - 1));
        Self { config, tables, now, hash, source, prefix }
    }

    /// Consumes one packet at every level, or returns the first level without room.
    #[inline(always)]
    fn take(&self, place: usize) -> Over {
        let Self { config, tables, now, .. } = *self;
        let (Some(source), Some(prefix)) =
            (tables.source_bucket(self.source, place), tables.prefix_bucket(self.prefix, place))
        else {
            return Over::Nothing;
        };
        let level = |limits, bucket| Level { limit: at(limits, place), bucket };
        let shared = || Some(level(&config.shared, tables.shared_bucket(place)?));
        let (source, prefix) = (level(&config.source, source), level(&config.prefix, prefix));
        levels::take(&[source], &prefix, shared, is_attended(tables, now), now, 1)
    }

    #[inline(always)]
    fn shared_has_room(&self, class: Class) -> bool {
        let place = class.index();
        let limit = at(&self.config.shared, place);
        self.tables.shared_bucket(place).is_none_or(|bucket| limit.has_room(&bucket, self.now))
    }

    /// Whether a REGISTER is searched for credentials, which costs more than everything else: not if it
    /// would be over its limit either way, and not for each packet of a flood.
    #[inline(always)]
    fn may_search(&self) -> bool {
        if !is_attended(self.tables, self.now) {
            return true;
        }
        let has_room = |class: Class| {
            let place = class.index();
            let limit = at(&self.config.source, place);
            let bucket = self.tables.source_bucket(self.source, place);
            bucket.is_none_or(|bucket| limit.has_room(&bucket, self.now))
        };
        match (has_room(Class::Register), has_room(Class::Credentials)) {
            (true, true) => true,
            (false, false) => false,
            _ => {
                let limit = at(&self.config.source, SEARCHES);
                let bucket = self.tables.source_bucket(self.source, SEARCHES);
                bucket.is_none_or(|bucket| limit.take(&bucket, self.now))
            }
        }
    }

    /// The decision about a packet whose source is over its limit for a class.
    #[inline(always)]
    fn over(&self, place: usize, tcp: bool) -> Code {
        let code = class::over(place);
        if tcp { over_tcp(self.hash, code, self.config, self.tables, self.now) } else { code }
    }
}

/// The decision about a TCP segment that drops with `code` because its source, with this hash, is over
/// its own limit: it is counted, and may be part of a continued flood.
#[inline(always)]
pub(super) fn over_tcp<T: Tables + ?Sized>(
    hash: u64,
    code: Code,
    config: &Config,
    tables: &T,
    now: u64,
) -> Code {
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let line = hash as u32 & (PREFIX_LINES - 1);
    let bucket = tables.prefix_bucket(line, EXCESS);
    let goes_on = bucket.is_some_and(|bucket| !config.flood.take(&bucket, now));
    if goes_on { Code::flood(code) } else { code }
}

/// Consumes one handshake from the limit of the source with this hash, as of an unknown one; returns whether it had
/// room.
#[inline(always)]
pub(super) fn take_syn<T: Tables + ?Sized>(
    hash: u64,
    config: &Config,
    tables: &T,
    now: u64,
) -> bool {
    let place = Class::Syn.index();
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let line = hash as u32 & (SOURCE_LINES - 1);
    let bucket = tables.source_bucket(line, place);
    bucket.is_some_and(|bucket| at(&config.source, place).take(&bucket, now))
}

/// The hash of a source's network, for the limits.
#[inline(always)]
pub(super) fn network_hash(source: Address, config: &Config) -> u64 {
    let [first, second] = source.words();
    let [m0, m1] = if source.v4_word().is_some() { config.prefix_v4 } else { config.prefix_v6 };
    Address::from_words([first & m0, second & m1]).hash(config.seed)
}

/// The limit at an index, which is masked because the verifier requires it.
#[inline(always)]
#[expect(clippy::indexing_slicing, reason = "masked to the length, a power of two")]
fn at(limits: &[Gcra; CLASSES], place: usize) -> Gcra {
    limits[place & (CLASSES - 1)]
}

/// The line of a source, by its hash.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked")]
fn greylist_line<T: Tables + ?Sized>(hash: u64, tables: &T) -> Option<T::Cells<'_>> {
    tables.cells(hash as u32 & (GREYLIST_LINES - 1))
}

/// When the shared budget is exhausted: a REGISTER that was dropped before and is retransmitted passes,
/// and so do the next packets of its source.
#[inline(always)]
pub fn greylisted<T: Tables + ?Sized>(packet: &impl Packet, words: Words, tables: &T) -> Code {
    let Some(config) = tables.config() else {
        return Reason::NotConfigured.into();
    };
    let Headers { source, layer4, .. } = Headers::from_words(words);
    let (Layer4::Udp { payload, .. } | Layer4::Tcp { payload, .. }) = layer4 else {
        return Reason::SharedLimit.into();
    };
    // TCP may cut a message anywhere, and its sources are not forged.
    if matches!(layer4, Layer4::Udp { .. }) && !sip::is_identified(payload) {
        return Reason::Greylist.into();
    }
    let now = tables.now(config);
    let hash = config.source_hash(source);
    let Some(line) = greylist_line(hash, tables) else {
        return Reason::SharedLimit.into();
    };
    match greylist::ask(&line, hash, sip::identity(packet, payload, hash), now) {
        Told::New => return Reason::Greylist.into(),
        Told::Repeated => greylist::admit(&line, hash, now),
        Told::Admitted => {}
    }
    let place = Class::Register.index();
    let own = at(&config.source, place);
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let source = hash as u32 & (SOURCE_LINES - 1);
    // As in `take`: a packet that is not admitted consumes nothing from its source.
    let of_source =
        if is_attended(tables, now) { tables.source_bucket(source, place) } else { None };
    if of_source.as_ref().is_some_and(|bucket| !own.has_room(bucket, now)) {
        return Reason::RegisterLimit.into();
    }
    if tables.shared_bucket(ADMITTED).is_some_and(|bucket| !config.admitted.take(&bucket, now)) {
        return Reason::SharedLimit.into();
    }
    if of_source.is_some_and(|bucket| !own.take(&bucket, now)) {
        return Reason::RegisterLimit.into();
    }
    Reason::Admitted.into()
}

/// The relevant fields of a request's header; none if there is no memory for the search.
#[inline(always)]
pub fn search<T: Tables + ?Sized>(packet: &impl Packet, message: Place, tables: &T) -> Fields {
    let message = Payload::from(message);
    let steps = tables.with_window(|window| {
        let copied = packet.copy(message.start, window);
        let len = copied.min(message.end.saturating_sub(message.start));
        sip::terminate(window, len);
        sip::steps(len)
    });
    steps.map_or(Fields::default(), |steps| tables.search_steps(steps))
}

/// Whether packets with the User-Agent that the last search found are dropped.
#[inline(always)]
pub fn is_scanner<T: Tables + ?Sized>(agent: u64, tables: &T) -> bool {
    tables.agent(agent).is_some_and(|agent| tables.signature(&agent))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The mask of a prefix length, in the order of [`Address::words`].
    fn mask(length: u32) -> [u64; 2] {
        let bits = u128::MAX.checked_shl(128 - length).unwrap_or(0);
        crate::address::words(bits.into())
    }

    proptest! {
        /// Of all addresses in a network, and of no other.
        #[test]
        fn a_network_has_one_hash(bits: u128, v4: u32, length in 0..=128u32, seed: u64) {
            let v6 = Config { seed, prefix_v6: mask(length), ..Config::default() };
            let v4_length = length % 33;
            let mapped = Config { seed, prefix_v4: mask(96 + v4_length), ..Config::default() };
            let of_v6 = |bits: u128| {
                network_hash(Address::from_words(crate::address::words(bits.into())), &v6)
            };
            let of_v4 = |bits: u32| network_hash(Address::v4(bits.to_be_bytes()), &mapped);
            // Not one that contains an IPv4 address.
            let bits = bits | 1 << 127;
            for bit in 0..127 {
                let same = of_v6(bits) == of_v6(bits ^ 1 << bit);
                prop_assert_eq!(same, bit < 128 - length, "bit {}", bit);
            }
            for bit in 0..32 {
                let same = of_v4(v4) == of_v4(v4 ^ 1 << bit);
                prop_assert_eq!(same, bit < 32 - v4_length, "bit {}", bit);
            }
        }
    }
}

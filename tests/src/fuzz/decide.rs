//! Any row of frames, decided one after the other in one of the [`worlds`].
//!
//! The first byte of an input chooses the world. Behind it come the frames, each behind its length
//! in two bytes, lowest first.

use std::collections::HashMap;
use std::iter::Sum;
use std::net::IpAddr;

use filter_common::abi::{ABI_VERSION, SCOPE_ALL};
use filter_common::address::Address;
use filter_common::decision::{Reason, Verdict};
use filter_common::packet::{Headers, Layer4};
use filter_common::policy::{Decision, decide};
use ipnet::IpNet;

use super::reference;
use crate::cases::{Ends, Who, World, worlds};
use crate::model::Model;

/// Longer after the start than any ban in a world is over, in nanoseconds.
const NOW: u64 = 2_000_000 * 1_000_000_000;

/// What drops was asked for by a ban or by the limit and comes from nobody who is trusted; each frame
/// has one reason, and the counts of frames, of bytes and of bans add up.
///
/// # Panics
///
/// When one of these is not so.
pub fn check(data: &[u8]) {
    let Some((choice, rest)) = data.split_first() else { return };
    let worlds = worlds::all();
    let (_, world) = &worlds[usize::from(*choice) % worlds.len()];
    let model = Model::new(world, NOW);
    let mut counters = [Counter::default(); Reason::ALL.len()];
    let mut received = Counter::default();
    let mut admitted: HashMap<Address, u64> = HashMap::new();
    for frame in frames(rest) {
        let Decision { reason, source } = decide(&frame, &model);
        received.add(frame);
        counters[reason as usize].add(frame);
        if world.abi != Some(ABI_VERSION) {
            assert_eq!((reason, source), (Reason::NotConfigured, None));
            continue;
        }
        let headers = reference::headers(frame).ok();
        assert_eq!(source, headers.map(|headers| headers.source));
        let Some(headers) = headers else {
            assert!(matches!(reason, Reason::NotIp | Reason::Malformed), "{reason:?}");
            continue;
        };
        let admitted = admitted.entry(headers.source).or_default();
        let asked_for = is_over_limit(world, frame, headers, *admitted)
            && reason == Reason::RegisterLimit
            || is_banned(world, headers, true) && reason == Reason::Banned
            || is_banned(world, headers, false) && reason == Reason::BannedNetwork;
        if reason.verdict() == Verdict::Drop {
            assert!(asked_for, "nothing asked for {reason:?}");
            assert!(!is_trusted(world, headers.source), "{reason:?}, though trusted");
        }
        assert!(reason != Reason::Trusted || is_trusted(world, headers.source), "not trusted");
        *admitted += u64::from(reason == Reason::Register);
    }
    let sum = |verdict| {
        let of_verdict = Reason::ALL.iter().filter(|reason| reason.verdict() == verdict);
        of_verdict.map(|reason| counters[*reason as usize]).sum::<Counter>()
    };
    assert_eq!(received, [sum(Verdict::Pass), sum(Verdict::Drop)].into_iter().sum());
    // What passes for trust may have met a ban first, and then the ban has counted it.
    let packets = |reason: Reason| counters[reason as usize].packets;
    let banned = packets(Reason::Banned) + packets(Reason::BannedNetwork);
    let counted = model.ban_packets();
    assert!((banned..=banned + packets(Reason::Trusted)).contains(&counted), "{counted}");
}

/// The frames of an input; the last may be cut.
pub fn frames(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let (len, behind) = rest.split_first_chunk()?;
        let len = usize::from(u16::from_le_bytes(*len)).min(behind.len());
        let (frame, behind) = behind.split_at(len);
        rest = behind;
        Some(frame)
    })
}

/// The input of these frames in the world of this number: the inverse of [`frames`]. A frame of more
/// than 65,535 bytes is cut.
pub fn input<'a>(world: u8, frames: impl IntoIterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut input = vec![world];
    for frame in frames {
        let len = u16::try_from(frame.len()).unwrap_or(u16::MAX);
        input.extend(len.to_le_bytes());
        input.extend(&frame[..usize::from(len)]);
    }
    input
}

/// Whether a ban in force, of the address or of a network, is for such a packet.
fn is_banned(world: &World, headers: Headers, of_address: bool) -> bool {
    world.bans.iter().any(|ban| {
        let has = match ban.who {
            Who::Address(address) => of_address && Address::from(address) == headers.source,
            Who::Network(network) => !of_address && contains(&network, headers.source),
        };
        let in_force = matches!(ban.ends, Ends::In(1..) | Ends::Never);
        has && in_force && (ban.scope == SCOPE_ALL || may_be_sip(world, headers.layer4))
    })
}

/// Whether a REGISTER without credentials may drop: its source has used up its burst, which nothing
/// refills here since no time passes.
fn is_over_limit(world: &World, frame: &[u8], headers: Headers, admitted: u64) -> bool {
    let (Layer4::Udp { payload, .. } | Layer4::Tcp { payload, .. }) = headers.layer4 else {
        return false;
    };
    let bytes = reference::payload(frame, payload);
    let behind = frame.get(payload.end).copied();
    reference::is_register(bytes, payload.fragmented, behind)
        && may_be_sip(world, headers.layer4)
        && world.register.is_some_and(|limit| admitted >= limit.burst)
        && !reference::is_authorized(reference::message(bytes))
}

/// Whether a packet goes to a SIP port, or to one that it does not tell.
fn may_be_sip(world: &World, layer4: Layer4) -> bool {
    match layer4 {
        Layer4::Udp { port, .. } => world.sip_udp.contains(&port),
        Layer4::Tcp { port, .. } => world.sip_tcp.contains(&port),
        Layer4::LaterFragment | Layer4::Unknown => true,
        Layer4::Other => false,
    }
}

fn is_trusted(world: &World, source: Address) -> bool {
    world.trusted.iter().any(|network| contains(network, source))
}

fn contains(network: &IpNet, source: Address) -> bool {
    network.contains(&IpAddr::from(source))
}

/// Frames and their bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counter {
    packets: u64,
    bytes: u64,
}

impl Counter {
    fn add(&mut self, frame: &[u8]) {
        self.packets += 1;
        self.bytes += frame.len() as u64;
    }
}

impl Sum for Counter {
    fn sum<I: Iterator<Item = Self>>(counters: I) -> Self {
        counters.fold(Self::default(), |sum, counter| Self {
            packets: sum.packets + counter.packets,
            bytes: sum.bytes + counter.bytes,
        })
    }
}

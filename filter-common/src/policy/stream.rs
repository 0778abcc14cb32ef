//! The limit of bytes that an unknown source may send over TCP: it does not depend on how a stream is cut
//! into segments, or on the number of messages in one.
//!
//! A segment consumes its bytes from the buckets of its connection, its source, its network, and all
//! unknown sources together. The bytes of a TLS handshake count too.

use super::levels::{self, Level, Over};
use super::tiers::{network_hash, over_tcp, take_syn};
use super::{Tables, is_attended};
use crate::abi::{CONNECTED_BYTES, Config, UNCONNECTED_BYTES};
use crate::address::Address;
use crate::decision::{Code, Reason};
use crate::limits::{CONNECTION_BUCKETS, STREAM_PREFIXES, STREAM_SOURCES};
use crate::packet::{Headers, Layer4, Packet, Words};

/// The length of the longest segment, which is assumed if later fragments follow.
const LONGEST: usize = 0xffff;

/// Consumes a segment's bytes; returns why it drops, or [`Code::UNKNOWN`].
#[inline(always)]
pub fn take<T: Tables + ?Sized>(packet: &impl Packet, words: Words, tables: &T) -> Code {
    let Some(config) = tables.config() else {
        return Reason::NotConfigured.into();
    };
    let headers = Headers::from_words(words);
    let Layer4::Tcp { payload, start, .. } = headers.layer4 else {
        return Code::UNKNOWN;
    };
    let now = tables.now(config);
    if tables.flooder(headers.source.network64(), now) {
        return Reason::Flooding.into();
    }
    let length = payload.end.wrapping_sub(payload.start);
    let bytes = if payload.fragmented || payload.start < payload.end && length > LONGEST {
        LONGEST
    } else if payload.start < payload.end {
        length
    } else {
        return Code::UNKNOWN;
    } as u64;
    let Some(ports) = packet.array(start) else {
        return Code::UNKNOWN;
    };
    let hash = config.source_hash(headers.source);
    let [connection, source, prefix] = places(headers.source, ports, config);
    let (Some(connection), Some(source), Some(prefix)) = (
        tables.stream_bucket(connection),
        tables.stream_bucket(source),
        tables.stream_bucket(prefix),
    ) else {
        return Code::UNKNOWN;
    };
    let own = [
        Level { limit: config.connection_bytes, bucket: connection },
        Level { limit: config.source_bytes, bucket: source },
    ];
    let prefix = Level { limit: config.prefix_bytes, bucket: prefix };
    let shared = || {
        // Segments without a connection, which can be forged, take nothing from those with one.
        let place = if tables.connected(&headers) { CONNECTED_BYTES } else { UNCONNECTED_BYTES };
        Some(Level { limit: config.shared_bytes, bucket: tables.shared_bucket(place)? })
    };
    match levels::take(&own, &prefix, shared, is_attended(tables, now), now, bytes) {
        Over::Nothing => Code::UNKNOWN,
        Over::Source => over_tcp(hash, Reason::StreamLimit.into(), config, tables, now),
        Over::Prefix => Reason::PrefixLimit.into(),
        Over::Shared => Reason::SharedLimit.into(),
    }
}

/// Whether a segment of a known peer passes although the peer is over its limit: a flood over UDP in its name must not
/// end its connections. It has as many packets again, over connections that the host has.
#[inline(always)]
pub fn of_peer<T: Tables + ?Sized>(words: Words, tables: &T) -> bool {
    let Some(config) = tables.config() else {
        return false;
    };
    let headers = Headers::from_words(words);
    let Layer4::Tcp { payload, syn, .. } = headers.layer4 else {
        return false;
    };
    let now = tables.now(config);
    let hash = headers.source.hash(config.seed);
    if syn {
        return take_syn(hash, config, tables, now);
    }
    if payload.start >= payload.end && !payload.fragmented {
        // A segment without data passes from any source.
        return true;
    }
    let bucket = tables.stream_bucket(source_place(hash));
    tables.connected(&headers) && bucket.is_some_and(|bucket| config.known.take(&bucket, now))
}

/// The buckets in [`maps::STREAMS`](crate::abi::maps::STREAMS) of a connection (by the source's address
/// and the segment's ports), of its source, and of its network.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked, or the upper half")]
pub fn places(source: Address, ports: [u8; 4], config: &Config) -> [u32; 3] {
    let network = network_hash(source, config);
    let connection = (source.hash(config.seed) ^ u64::from(u32::from_le_bytes(ports)))
        .wrapping_mul(0x9e37_79b9_7f4a_7c15)
        .wrapping_shr(32) as u32;
    [
        connection & (CONNECTION_BUCKETS - 1),
        source_place(config.source_hash(source)),
        (CONNECTION_BUCKETS + STREAM_SOURCES) | network as u32 & (STREAM_PREFIXES - 1),
    ]
}

/// The bucket of the source with this hash. A known peer, which has the limits of one address, uses that of its own hash.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked")]
pub fn source_place(hash: u64) -> u32 {
    CONNECTION_BUCKETS | hash as u32 & (STREAM_SOURCES - 1)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::abi::STREAM_BUCKETS;

    proptest! {
        #[test]
        fn connections_sources_and_networks_each_have_a_part_of_the_table(
            words: [u64; 2],
            ports: [u8; 4],
            seed: u64,
        ) {
            let config = Config { seed, prefix_v6: [u64::MAX, 0], ..Config::default() };
            let parts = [0, CONNECTION_BUCKETS, CONNECTION_BUCKETS + STREAM_SOURCES, STREAM_BUCKETS];
            let places = places(Address::from_words(words), ports, &config);
            for (place, part) in places.iter().zip(parts.windows(2)) {
                prop_assert!((part[0]..part[1]).contains(place), "{place} is not in {part:?}");
            }
        }
    }

    #[test]
    fn each_part_of_the_table_is_used_completely() {
        let config = Config { seed: 7, prefix_v6: [u64::MAX, 0], ..Config::default() };
        let mut used = [0; 3];
        let mut unused = [u32::MAX; 3];
        for n in 0..1000 {
            let places = places(Address::from_words([n, n]), [0; 4], &config);
            for (bits, place) in used.iter_mut().zip(places) {
                *bits |= place;
            }
            for (bits, place) in unused.iter_mut().zip(places) {
                *bits &= place;
            }
        }
        // Each bit of the ports matters, whatever the hash of the source is.
        let source = Address::from_words([1, 1]);
        let [of_none, ..] = places(source, [0; 4], &config);
        for bit in 0..32 {
            let [connection, ..] = places(source, (1u32 << bit).to_le_bytes(), &config);
            assert_ne!(connection, of_none, "bit {bit}");
        }
        let varying = [0, 1, 2].map(|part| used[part] & !unused[part]);
        assert_eq!(varying, [CONNECTION_BUCKETS - 1, STREAM_SOURCES - 1, STREAM_PREFIXES - 1]);
    }
}

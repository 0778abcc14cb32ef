//! Every bound and capacity, with its reason.

/// 802.1Q tags that are looked behind: a customer tag inside a service tag (802.1ad), and as many
/// priority tags again. Linux takes off any number of those (`skb_vlan_untag` in
/// `net/core/skbuff.c`); a frame with more is [`Layer4::Unknown`](crate::packet::Layer4::Unknown).
pub const VLAN_DEPTH: usize = 4;

/// IPv6 extension headers that are followed. RFC 8200 section 4.1 recommends at most seven in a
/// packet, of which ESP ends the walk. Linux follows any number; a longer chain is
/// [`Layer4::Unknown`], which is judged as the strictest class is.
///
/// [`Layer4::Unknown`]: crate::packet::Layer4::Unknown
pub const IPV6_EXTENSIONS: usize = 6;

/// Bytes of white space that are skipped before a start line. RFC 3261 section 7.5 tells a server
/// to ignore CRLFs there, PJSIP skips any number of them, and of spaces and tabs; keep-alives are
/// two or four bytes.
pub const LEADING_SPACE: usize = 16;

/// Words of the memory in which a SIP message is searched for a header field. A power of two, so
/// that an index can be masked.
pub const WINDOW_WORDS: usize = 256;

/// Bytes of a message that are searched: all of it in a 1500-byte frame, and a rest of the window
/// for the zeros behind them.
pub const WINDOW_BYTES: usize = (WINDOW_WORDS - STEP_WORDS - 4) * 8;

/// Words that one step of the search looks at: the kernel calls a function for each step.
pub const STEP_WORDS: usize = 4;

/// Attempts to update a bucket that other CPUs change; a packet that loses all of them passes. Each is
/// lost to a packet that was counted. With every CPU on one bucket, one in three attempts is lost: with
/// eight attempts, 3 of 10,000 packets passed without being limited; with 32, one in 10^15 does.
pub const BUCKET_ATTEMPTS: usize = 32;

/// Sources are spread over this many lines of buckets. With 2^16, 4 MiB, an honest source that is
/// not known yet shares its buckets with one given attacker once in 65,536 times; a power of two,
/// so that a hash can be masked.
pub const SOURCE_LINES: u32 = 1 << 16;

/// The networks of sources are spread over this many lines, 1 MiB.
pub const PREFIX_LINES: u32 = 1 << 14;

/// Buckets of the bytes of TCP connections of unknown sources, a quarter of a megabyte.
pub const CONNECTION_BUCKETS: u32 = 1 << 15;

/// Buckets of the bytes that unknown sources send over TCP, as much again.
pub const STREAM_SOURCES: u32 = 1 << 15;

/// Buckets of the bytes that the networks of unknown sources send over TCP.
pub const STREAM_PREFIXES: u32 = 1 << 13;

/// Places of [`maps::SEEN`](crate::abi::maps::SEEN), 1 MiB.
pub const SEEN_PLACES: u32 = 1 << 18;

/// Known peers. Each costs 100 bytes, and the room for them half a megabyte.
pub const KNOWN_PEERS: u32 = 32_768;

/// Known peers of one IPv6 /64. One account can register from each of its addresses, and would else take
/// the places of all others.
pub const PEERS_OF_64: u64 = 256;

/// Known peers of one IPv6 /48, which many providers give to a customer.
pub const PEERS_OF_48: u64 = 2048;

/// Places of [`maps::CROWDS`](crate::abi::maps::CROWDS), 32 KiB: of 32,768 peers some sixteen are counted in
/// each.
pub const CROWD_PLACES: u32 = 1 << 12;

/// The most sources that the program itself bans.
pub const FLOODERS: u32 = 4096;

/// Lines of the greylist, 2 MiB: what 500,000 sources send in a second.
pub const GREYLIST_LINES: u32 = 1 << 15;

/// Addresses to which the host has sent a challenge, 3 MiB: those of a minute if forged sources exhaust the
/// budget that unknown sources share.
pub const CHALLENGED_ADDRESSES: u32 = 1 << 14;

/// Lines of requests that were dropped and may be retransmitted, 512 KiB: what arrives in half a second at
/// 100,000 packets/s.
pub const RETRY_LINES: u32 = 1 << 13;

/// Buckets by the hash of a source, 256 KiB: four for each place, of which one is for the messages that are compared
/// with those in [`RETRY_LINES`], one for the retransmissions that pass, and one for those with other credentials.
pub const RETRY_BUCKETS: u32 = 1 << 15;

/// Bytes of the ring buffer of responses: 1,000 events.
pub const WIRE_BYTES: u32 = 256 * 1024;

/// Events about responses a second that one CPU sends to the daemon, as many as Asterisk sends challenges to
/// a busy site.
pub const WIRE_EVENTS_PER_SECOND: u64 = 1000;

/// Bytes of the ring buffer of captured packets: 1,900 of them.
pub const CAPTURE_BYTES: u32 = 1024 * 1024;

/// Captured packets a second of one CPU: a sample, with which a flood costs a few percent of it.
pub const CAPTURED_PER_SECOND: u64 = 1000;

/// Blocks of 64 bytes of a REGISTER that tell it from others, for the greylist.
pub const IDENTITY_BLOCKS: usize = 8;

/// Words of a User-Agent that are compared, 32 bytes.
pub const AGENT_WORDS: usize = 4;

/// Signatures.
pub const SIGNATURES: u32 = 256;

/// How many of [`seen_ago`](crate::rate::seen_ago)'s units after a source's last SIP packet a failure of
/// it is believed: about eight seconds, in which even an overloaded Asterisk writes its log.
pub const WITNESS_UNITS: u32 = 8;

/// Interfaces that one set of maps serves.
pub const INTERFACES: usize = 8;

/// The most networks that are never dropped.
pub const TRUSTED_NETWORKS: u32 = 16_384;

/// The most banned networks.
pub const BANNED_NETWORKS: u32 = 131_072;

/// The most IPv6 networks of countries and autonomous systems. A database of the whole world has 300,000, of which
/// a policy names a part.
pub const GEO_NETWORKS: u32 = 1 << 18;

/// The most banned IPv4 addresses, unless configured otherwise.
pub const BANNED_V4: u32 = 1_000_000;

/// The default maximum of banned IPv6 addresses. An attacker with one address has 2^64 of them, and is
/// banned by network.
pub const BANNED_V6: u32 = 131_072;

/// The maximum number of addresses to which the host has sent something from a guarded UDP port, 1 MiB.
pub const ASKED_ADDRESSES: u32 = 8192;

/// How long packets to a guarded UDP port count as replies after the host has sent something, in
/// nanoseconds: the same as netfilter's timeout of UDP streams (`nf_conntrack_udp_timeout_stream`), and
/// longer than the minute between two OPTIONS of Asterisk.
pub const REPLY_WINDOW: u64 = 120 * 1_000_000_000;

/// How often the time of the last packet is updated, in nanoseconds, so that not every packet of a call
/// writes it.
pub const REPLY_REFRESH: u64 = 1_000_000_000;

/// The maximum number of ports of which it is recorded which networks use them.
pub const VISITED_PORTS: u32 = 256;

/// The maximum number of networks that are recorded as users of such ports, 1 MiB.
pub const VISITORS: u32 = 8192;

/// How often the time of a network's last use of a port is updated, in nanoseconds.
pub const VISIT_REFRESH: u64 = 10 * 1_000_000_000;

/// How often a new network is recorded for a port after [`NEW_VISITORS`], in nanoseconds. So a flood from
/// forged addresses needs hours to replace the networks that were recorded, and costs little.
pub const NEW_VISITOR_EVERY: u64 = 1_000_000_000;

/// How many new networks are recorded for a port at once.
pub const NEW_VISITORS: u64 = 256;

/// Bytes of the ring buffer to the controller: 4,096 events of 40 bytes with their headers. A power
/// of two and a multiple of the page size.
pub const EVENT_BYTES: u32 = 256 * 1024;

/// Events a second that one CPU sends to the daemon. More would only describe the same flood.
pub const EVENTS_PER_SECOND: u64 = 200;

#[cfg(test)]
mod tests {
    use core::time::Duration;

    use super::*;

    /// The arithmetic of the constants, against what their comments say.
    #[test]
    fn sizes_are_as_their_comments_say() {
        const {
            assert!(WINDOW_BYTES == 1984);
            assert!(WINDOW_BYTES / 8 + STEP_WORDS < WINDOW_WORDS);
            assert!(EVENT_BYTES / (40 + 8) >= 4096);
        }
        assert_eq!(SEEN_PLACES * 4, 1 << 20);
        assert_eq!(SOURCE_LINES * 64, 4 << 20);
        assert_eq!(PREFIX_LINES * 64, 1 << 20);
        assert_eq!(CONNECTION_BUCKETS * 8, 1 << 18);
        assert_eq!(CROWD_PLACES * 8, 32 << 10);
        assert_eq!(GREYLIST_LINES * 64, 2 << 20);
        assert_eq!(STREAM_SOURCES, 32_768);
        assert_eq!(STREAM_PREFIXES, 8192);
        assert_eq!(CHALLENGED_ADDRESSES, 16_384);
        assert_eq!(RETRY_LINES * 64, 512 << 10);
        assert_eq!(RETRY_BUCKETS * 8, 256 << 10);
        assert_eq!(RETRY_BUCKETS, RETRY_LINES * 4);
        assert_eq!(GEO_NETWORKS, 262_144);
        assert_eq!([EVENT_BYTES, WIRE_BYTES, CAPTURE_BYTES], [262_144, 262_144, 1_048_576]);
    }

    #[test]
    fn masks_and_ring_buffers_need_powers_of_two() {
        assert!(WINDOW_WORDS.is_power_of_two());
        for size in [
            SOURCE_LINES,
            PREFIX_LINES,
            CONNECTION_BUCKETS,
            STREAM_SOURCES,
            STREAM_PREFIXES,
            SEEN_PLACES,
            CROWD_PLACES,
            GREYLIST_LINES,
            RETRY_LINES,
            RETRY_BUCKETS,
        ] {
            assert!(size.is_power_of_two(), "{size}");
        }
        for bytes in [EVENT_BYTES, WIRE_BYTES, CAPTURE_BYTES] {
            assert!(bytes.is_power_of_two() && bytes.is_multiple_of(4096), "{bytes}");
        }
    }

    #[test]
    fn times_are_as_their_comments_say() {
        let seconds = [REPLY_WINDOW, REPLY_REFRESH, VISIT_REFRESH, NEW_VISITOR_EVERY]
            .map(Duration::from_nanos);
        assert_eq!(seconds, [120, 1, 10, 1].map(Duration::from_secs));
    }
}

//! What still passes from a source that is throttled or over a limit: an answer to a challenge that was sent
//! to it, and a retransmission. Records both, so that failures are known to be proven.
//!
//! Anybody can flood in the name of an address, but only the address itself receives the challenges. So the
//! flood exhausts what new requests may use, and not what answers may use.

use super::{SEEN, Tables, geo};
use crate::abi::{ADMITTED, Config, NONCE_SEARCHES};
use crate::address::Address;
use crate::decision::{Code, OVER_SOURCE, Reason, bits};
use crate::greylist;
use crate::limits::{RETRY_BUCKETS, RETRY_LINES};
use crate::packet::{self, Headers, Layer4, Packet, Payload, Words};
use crate::rate::Gcra;
use crate::sip;
use crate::wire::{self, Record};

/// Packets that are dropped because of their source. Over UDP it may be forged; over TCP others of the same source or
/// network, such as the other phones of a site, may have exhausted its limit.
const OVER: u64 = OVER_SOURCE
    | bits(&[
        Reason::PrefixLimit,
        Reason::StreamLimit,
        Reason::KnownLimit,
        Reason::Flooding,
        Reason::Throttled,
    ]);

/// Packets that may be answers: also those that pass without credentials that [`sip::search`] finds, since a REGISTER
/// can have them elsewhere, and Asterisk checks those of a method that it does not know.
const WATCHED: u64 = OVER | SEEN;

const SECOND: u64 = 1_000_000_000;

/// Requests with a nonce that pass: several phones behind one address that register at once.
const ANSWERS: Gcra = Gcra { interval: SECOND / 20, tolerance: 2 * SECOND };

/// Over TCP nobody needs more than one, so the time between them is sixteen times as long: shifted by 1 << 2.
const SLOWER_OVER_TCP: u64 = 2;

/// The longest segment that passes as an answer, in bytes: what one packet of Ethernet has room for. A longer one was
/// put together by the host, or has several messages.
const ANSWER_MAX: usize = 1500;

/// Requests of one source that may be an answer or a retransmission although they would be dropped. Up to this
/// rate each is looked at, which takes a tenth of a microsecond; of a larger flood in one name, only this many.
const LOOKS: Gcra = Gcra { interval: SECOND / 100_000, tolerance: SECOND / 10 };

/// Searches of one source for a nonce in packets that would be dropped. Each takes about six microseconds.
const SEARCHES: Gcra = Gcra { interval: SECOND / 200, tolerance: 2 * SECOND };

/// The same of all sources, so that a flood in the names of many costs a few percent of one CPU. Beyond it,
/// retransmissions still pass.
const ALL_SEARCHES: Gcra = Gcra { interval: SECOND / 5000, tolerance: SECOND };

/// Retransmissions of one source that pass. A flood of requests that are all sent twice also uses it.
const RETRIES: Gcra = Gcra { interval: SECOND / 10, tolerance: 2 * SECOND };

/// The same of a throttled source's requests with credentials for other nonces: Asterisk says of these too whether the
/// password is right. A phone whose nonce was forgotten needs one. So does a request whose header is not read to its
/// end, or not at all: it may have credentials.
const GUESSES: Gcra = Gcra { interval: 10 * SECOND, tolerance: 20 * SECOND };

/// Whether a packet may be an answer or a retransmission, which [`admit`] finds out.
#[inline(always)]
pub(super) fn is_watched<T: Tables + ?Sized>(
    source: Address,
    code: Code,
    config: &Config,
    tables: &T,
) -> bool {
    if code.bit() & OVER == 0 {
        return code.bit() & WATCHED != 0;
    }
    let bucket = tables.retry_bucket(looks_place(source, config));
    bucket.is_some_and(|own| LOOKS.has_room(&own, tables.now(config)))
}

/// Records that a packet is an answer. Returns `code`, or the reason for which it passes all the same.
#[inline(always)]
pub fn admit<T: Tables + ?Sized>(
    packet: &impl Packet,
    words: Words,
    code: Code,
    tables: &T,
) -> Code {
    // A throttle decides before its source's place does, which a retransmission must not evade.
    if code.is(Reason::Throttled)
        && let Some(config) = tables.config()
        && geo::shuts_out(Headers::from_words(words).source, config, tables)
    {
        return Reason::Geo.into();
    }
    passes(packet, words, code, tables).map_or(code, Code::from)
}

#[inline(always)]
fn passes<T: Tables + ?Sized>(
    packet: &impl Packet,
    words: Words,
    code: Code,
    tables: &T,
) -> Option<Reason> {
    let dropped = code.bit() & OVER != 0;
    let config = tables.config()?;
    let Headers { source, layer4, .. } = Headers::from_words(words);
    let (Layer4::Udp { payload, .. } | Layer4::Tcp { payload, .. }) = layer4 else {
        return None;
    };
    let first = packet.array(payload.start)?;
    if !wire::is_request(first) && !wire::is_response(first) {
        return None;
    }
    // Over TCP it is the middle of a message.
    if code.is(Reason::NotSip) && matches!(layer4, Layer4::Tcp { .. }) {
        return None;
    }
    let tcp = packet::tcp_bit(words);
    // Shifts instead of branches, of each of which the verifier would follow both ways to the end.
    let longest = ANSWER_MAX << ((tcp ^ 1) << 3);
    if dropped & (payload.end.wrapping_sub(payload.start) > longest) {
        return None;
    }
    let now = tables.now(config);
    let hash = config.source_hash(source);
    if dropped && !LOOKS.take(&tables.retry_bucket(looks_place(source, config))?, now) {
        return None;
    }
    let throttled = code.is(Reason::Throttled);
    let mut guesses = false;
    if wire::is_request(first)
        && let Some(record) = tables.challenged(source)
    {
        guesses = throttled;
        if !dropped || may_search(&record, tables, now) {
            let len = tables.with_window(|window| {
                let copied = packet.copy(payload.start, window);
                copied.min(payload.end.saturating_sub(payload.start))
            })?;
            let message = tables.read_message(len, config.seed);
            if wire::proves(&record, &message) {
                record.prove(now);
                if !wire::is_ack(first) {
                    wire::await_reply(&record, &message);
                }
                let interval = ANSWERS.interval << (tcp << SLOWER_OVER_TCP);
                let answers = Gcra { interval, ..ANSWERS };
                let passes = dropped && answers.take(&record.bucket(), now);
                return passes.then_some(Reason::Answered);
            }
            guesses = throttled && message.may_have_credentials();
        }
    }
    // Who has sent a request without a response sends it again, and gets the same response. TCP sends it again itself,
    // until there is room for it.
    if dropped && tcp == 0 { retried(packet, payload, hash, guesses, tables) } else { None }
}

/// The buckets of a source by its hash: of the messages that are looked at, of the retransmissions that pass, and of
/// those with other credentials.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "masked")]
pub fn places(hash: u64) -> [u32; 3] {
    let first = (hash as u32) << 2 & (RETRY_BUCKETS - 1);
    [first, first | 1, first | 2]
}

/// The bucket of the messages of an address that are looked at. It only bounds what a flood costs, and most packets of
/// one get no further, so it is that of the address: which network that is in takes longer to find out.
#[inline(always)]
fn looks_place(source: Address, config: &Config) -> u32 {
    places(source.hash(config.seed))[0]
}

/// Whether a packet that would be dropped may be searched for a nonce.
#[inline(always)]
fn may_search<T: Tables + ?Sized>(record: &impl Record, tables: &T, now: u64) -> bool {
    let own = record.searches();
    SEARCHES.has_room(&own, now)
        && tables.shared_bucket(NONCE_SEARCHES).is_some_and(|all| ALL_SEARCHES.take(&all, now))
        && SEARCHES.take(&own, now)
}

/// Whether a message that would be dropped passes because it was sent before.
#[inline(always)]
fn retried<T: Tables + ?Sized>(
    packet: &impl Packet,
    payload: Payload,
    hash: u64,
    guesses: bool,
    tables: &T,
) -> Option<Reason> {
    if !sip::is_identified(payload) {
        return None;
    }
    let config = tables.config()?;
    let now = tables.now(config);
    let identity = sip::identity(packet, payload, hash);
    #[expect(clippy::cast_possible_truncation, reason = "masked")]
    let line = identity as u32 & (RETRY_LINES - 1);
    if !greylist::is_repeated(&tables.retries(line)?, identity, now) {
        return None;
    }
    let [_, again, again_with_others] = places(hash);
    let (limit, place) = if guesses { (GUESSES, again_with_others) } else { (RETRIES, again) };
    let own = tables.retry_bucket(place)?;
    let shared = tables.shared_bucket(ADMITTED)?;
    let passes =
        limit.has_room(&own, now) && config.admitted.take(&shared, now) && limit.take(&own, now);
    passes.then_some(Reason::Admitted)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Otherwise a flood in the name of one address would take the looks of others.
    #[test]
    fn looks_of_neighbours_are_spread_over_their_buckets() {
        let config = Config { seed: 7, ..Config::default() };
        let (mut used, mut unused) = (0, u32::MAX);
        for last in 0..=u8::MAX {
            let place = looks_place(Address::v4([192, 0, 2, last]), &config);
            used |= place;
            unused &= place;
        }
        // Of each four, the first.
        assert_eq!(used & !unused, RETRY_BUCKETS - 4);
        assert_eq!(used & 3, 0);
    }

    proptest! {
        #[test]
        fn a_source_has_buckets_of_its_own(high: u32, low: u32) {
            let hash = u64::from(high) << 32 | u64::from(low);
            let group = low % (RETRY_BUCKETS / 4) * 4;
            prop_assert_eq!(places(hash), [group, group + 1, group + 2]);
        }
    }
}

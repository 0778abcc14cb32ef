//! Whether a packet's source is banned, for the port that it goes to.

use super::{BanSlot as _, NetworkSlot as _, Stages, Tables};
use crate::abi::{Config, ORIGIN_OWN, SCOPE_ALL};
use crate::address::Address;
use crate::ban_table::{self, Shared as _};
use crate::decision::Reason;
use crate::gate::{self, Place};
use crate::rate::unit;

/// Why the packet drops, if its source is banned for `classes` of ports.
#[inline(always)]
pub(super) fn banned(
    source: Address,
    classes: u8,
    config: &Config,
    stages: &impl Stages,
    now: u64,
) -> Option<Reason> {
    let tables = stages.tables();
    let bit = |place: Place| tables.presence(place.word).wrapping_shr(place.shift) & 1 != 0;
    let present = bit(gate::presence(source, config.seed));
    let (reach, now) = (classes | SCOPE_ALL, unit(now));
    if present && let Some(origin) = address(source, reach, config, tables, now) {
        return Some(if origin == ORIGIN_OWN { Reason::Spoofed } else { Reason::Banned });
    }
    let may_be_network = present || source.v4_word().is_none();
    if may_be_network
        && bit(gate::network_presence(source, config.seed))
        && stages.network_banned(source, reach, now)
    {
        return Some(Reason::BannedNetwork);
    }
    None
}

/// Who banned exactly this address, if it is.
#[inline(always)]
fn address<T: Tables + ?Sized>(
    source: Address,
    reach: u8,
    config: &Config,
    tables: &T,
    now: u32,
) -> Option<u8> {
    let Some(word) = source.v4_word() else {
        let ban = tables.ban_v6(source)?;
        let banned = ban.scopes() & reach != 0 && ban_table::in_force(ban.until(), now);
        if banned {
            ban.hit();
        }
        return banned.then(|| ban.origin());
    };
    let [first, second] = ban_table::places(word, config.seed, config.ban_lines);
    // Both lines before either is looked at: they are in no cache, and come at the same time.
    let (heads, others) = (tables.ban_line(first)?.heads(), tables.ban_line(second)?.heads());
    let (of_second, slot) = ban_table::find(heads, others, word)?;
    let line = tables.ban_line(first ^ (first ^ second) & of_second)?;
    let (until, body) = (ban_table::until(line.head(slot)), line.body(slot));
    let banned = ban_table::scopes(body) & reach != 0 && ban_table::in_force(until, now);
    if banned {
        line.hit(slot);
    }
    banned.then(|| ban_table::origin(body))
}

/// Whether a source is banned for a sum of `SCOPE_*` at `now`, in units, by what is in force for the
/// longest network around it.
#[inline(always)]
pub fn network<T: Tables + ?Sized>(source: Address, reach: u8, tables: &T, now: u32) -> bool {
    let Some(network) = tables.network(source) else {
        return false;
    };
    for (bit, scope) in (0..8usize).zip([1u8, 2, 4, 8, 16, 32, 64, 128]) {
        if reach & scope != 0 && ban_table::in_force(network.end(bit), now) {
            network.hit();
            return true;
        }
    }
    false
}

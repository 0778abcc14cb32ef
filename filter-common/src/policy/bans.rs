//! Checks whether a packet's source is banned from the port to which it goes.

use super::{BanSlot as _, Flood, NetworkSlot as _, Stages, Tables};
use crate::abi::{Config, ORIGIN_OWN, SCOPE_ALL, SCOPE_THROTTLE};
use crate::address::Address;
use crate::ban_cache::{self, Shared as _};
use crate::ban_table::{self, ELSEWHERE_SHIFT, Place, Shared as _};
use crate::decision::Reason;
use crate::gate;
use crate::rate::unit;

/// Why the packet drops, if its source is banned from one of these `classes` of ports. A throttle has always
/// the entry of a network, if need be of one address, so that the table of addresses only has bans. In a `flood`
/// of banned addresses the table is asked without a look at the gate.
#[inline(always)]
pub(super) fn banned(
    source: Address,
    classes: u8,
    flood: Flood,
    config: &Config,
    stages: &impl Stages,
    now: u64,
) -> Option<Reason> {
    let tables = stages.tables();
    let bit = |place: gate::Place| tables.presence(place.word).wrapping_shr(place.shift) & 1 != 0;
    let is_v4 = source.v4_word().is_some();
    // The gate only saves the lookup: what the lookup finds does not depend on it.
    let present = is_v4 && flood == Flood::Banned || bit(gate::presence(source, config.seed));
    let (reach, now) = (classes | SCOPE_ALL, unit(now));
    if present {
        let found = match source.v4_word() {
            Some(word) => address_v4(word, reach, config, tables, now).unwrap_or(OfAddress::No),
            None => stages.address_banned(source, reach, config, now),
        };
        match found {
            OfAddress::Banned => return Some(Reason::Banned),
            OfAddress::Own => return Some(Reason::Spoofed),
            OfAddress::No => {}
        }
    }
    let may_be_network = present || !is_v4;
    if may_be_network && bit(gate::network_presence(source, config.seed)) {
        return match stages.network_banned(source, reach, now) {
            InNetwork::Banned => Some(Reason::BannedNetwork),
            InNetwork::Throttled => Some(Reason::Throttled),
            InNetwork::No => None,
        };
    }
    None
}

/// Whether exactly this address is banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum OfAddress {
    /// It is not.
    No = 0,
    /// It is.
    Banned = 1,
    /// It is one of the host's own.
    Own = 2,
}

impl OfAddress {
    /// The inverse of the conversion to a number.
    #[inline(always)]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Banned,
            2 => Self::Own,
            _ => Self::No,
        }
    }
}

/// Whether exactly this IPv6 address is banned from a sum of `SCOPE_*` at `now`, in units. The cache has this
/// many `lines`.
#[inline(always)]
pub fn address_v6<T: Tables + ?Sized>(
    source: Address,
    reach: u8,
    now: u32,
    seed: u64,
    lines: u32,
    tables: &T,
) -> OfAddress {
    let mut is_certain = false;
    if lines != 0
        && let Some(line) = tables.cache_line(ban_cache::line(source, seed, lines))
    {
        let found = ban_cache::find(&line, source.words());
        is_certain = found.bans(reach, now);
        if is_certain && !line.hit(found.slot) {
            return OfAddress::Banned;
        }
    }
    let Some(ban) = tables.ban_v6(source) else {
        return if is_certain { OfAddress::Banned } else { OfAddress::No };
    };
    if is_certain {
        ban.hit(ban_cache::CARRY);
        return OfAddress::Banned;
    }
    if ban.scopes() & reach == 0 || !ban_table::in_force(ban.until(), now) {
        return OfAddress::No;
    }
    ban.hit(1);
    if ban.origin() == ORIGIN_OWN { OfAddress::Own } else { OfAddress::Banned }
}

/// The same for an IPv4 address; `None` if it is not banned.
#[inline(always)]
fn address_v4<T: Tables + ?Sized>(
    word: u32,
    reach: u8,
    config: &Config,
    tables: &T,
    now: u32,
) -> Option<OfAddress> {
    let lines = config.ban_lines;
    let mut place = Place::first(word, config.seed);
    let mut line = tables.ban_line(place.line(lines))?;
    let fingerprints = line.fingerprints();
    let mut slot = place.word(fingerprints);
    let mut head = line.head(slot);
    if slot == 0 || !place.is_of(head) {
        if fingerprints >> ELSEWHERE_SHIFT == 0 {
            return None;
        }
        place = place.second();
        line = tables.ban_line(place.line(lines))?;
        slot = place.word(line.fingerprints());
        head = line.head(slot);
        if slot == 0 || !place.is_of(head) {
            return None;
        }
    }
    if ban_table::scopes(head) & reach == 0 || !ban_table::head_in_force(head, now) {
        return None;
    }
    if line.hit(slot) {
        let (number, word) = ban_table::details(place.line(lines), slot, lines);
        if let Some(details) = tables.ban_line(number) {
            details.carry(word);
        }
    }
    Some(if ban_table::is_own(head) { OfAddress::Own } else { OfAddress::Banned })
}

/// Whether the source is in a banned or throttled network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum InNetwork {
    /// Neither.
    No = 0,
    /// It is banned.
    Banned = 1,
    /// It is throttled.
    Throttled = 2,
}

impl InNetwork {
    /// The inverse of the conversion to a number.
    #[inline(always)]
    pub fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Banned,
            2 => Self::Throttled,
            _ => Self::No,
        }
    }
}

/// Whether a source is banned from a sum of `SCOPE_*` at `now`, in units, by the entry of the longest
/// network around it.
#[inline(always)]
pub fn network<T: Tables + ?Sized>(source: Address, reach: u8, tables: &T, now: u32) -> InNetwork {
    let Some(network) = tables.network(source) else {
        return InNetwork::No;
    };
    for (bit, scope, found) in SCOPES {
        if reach & scope != 0 && ban_table::in_force(network.end(bit), now) {
            network.hit();
            return found;
        }
    }
    InNetwork::No
}

/// The bits of the scopes in the order of their weight.
const SCOPES: [(usize, u8, InNetwork); 8] = [
    (0, 1, InNetwork::Banned),
    (1, 2, InNetwork::Banned),
    (2, 4, InNetwork::Banned),
    (3, 8, InNetwork::Banned),
    (4, 16, InNetwork::Banned),
    (5, 32, InNetwork::Banned),
    (7, SCOPE_ALL, InNetwork::Banned),
    (6, SCOPE_THROTTLE, InNetwork::Throttled),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stage_found_is_the_same_as_a_number() {
        for found in [OfAddress::No, OfAddress::Banned, OfAddress::Own] {
            assert_eq!(OfAddress::from_number(found as u32), found);
        }
        for found in [InNetwork::No, InNetwork::Banned, InNetwork::Throttled] {
            assert_eq!(InNetwork::from_number(found as u32), found);
        }
        assert_eq!(OfAddress::from_number(3), OfAddress::No);
        assert_eq!(InNetwork::from_number(3), InNetwork::No);
    }
}

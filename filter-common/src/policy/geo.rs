//! Says whether SIP is admitted from where an unknown source is.
//!
//! Must never be asked about a known peer. No other packet reads these tables.

use super::Tables;
use crate::abi::{Config, FLAG_GEO, FLAG_GEO_DRY_RUN};
use crate::address::Address;
use crate::decision::Reason;
use crate::gate;

/// Whether a packet of an unknown source drops because of where the source is. A dry run only counts it, so that
/// all limits still apply.
#[inline(always)]
pub(super) fn shuts_out<T: Tables + ?Sized>(source: Address, config: &Config, tables: &T) -> bool {
    if config.flags & FLAG_GEO == 0 {
        return false;
    }
    let shut = match source.v4_word() {
        Some(word) => {
            let place = gate::geo_v4(u32::from_be(word) >> 8);
            tables.geo_v4(place.word).wrapping_shr(place.shift) & 1 != 0
        }
        None => tables.geo_v6(source),
    };
    if shut && config.flags & FLAG_GEO_DRY_RUN != 0 {
        tables.would_drop(Reason::Geo);
        return false;
    }
    shut
}

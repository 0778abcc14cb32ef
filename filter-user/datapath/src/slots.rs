//! Gives each interface the part of the counters that it had, also under another name.
//!
//! Must never take the counters of an interface that is still protected.

use std::collections::HashSet;

use anyhow::{Context as _, Result};
use filter_common::limits::INTERFACES;

use super::attach;
use super::netlink;
use super::pins::{PinnedLink, Pins};

/// An interface and its part of the counters.
#[derive(Clone, Debug)]
pub(super) struct Slot {
    pub(super) number: u32,
    /// Its index, or `None` if the interface does not exist.
    pub(super) index: Option<u32>,
    /// Its present name.
    pub(super) name: String,
    /// Its name in the configuration.
    pub(super) wanted: String,
    pub(super) fresh: bool,
}

impl Slot {
    /// The name used for its pins, by which it is found while it does not exist.
    pub(super) fn pin(&self) -> &str {
        if self.is_renamed() { &self.wanted } else { &self.name }
    }

    /// Whether the interface has neither the configured name nor an alternative name equal to it.
    pub(super) fn is_renamed(&self) -> bool {
        self.index.is_some() && self.name != self.wanted && attach::index(&self.wanted).is_err()
    }

    pub(super) fn renamed(&self) -> Option<String> {
        let Self { wanted, name, .. } = self;
        self.is_renamed().then(|| {
            format!(
                "`{wanted}` has been renamed to `{name}`, and stays protected; write the new name \
                 in `interfaces:`"
            )
        })
    }
}

/// Assigns each interface the slot that it had, or a free one. Also returns the links of interfaces
/// that are no longer to be protected.
pub(super) fn slots(pins: &Pins, wanted: &[String]) -> Result<(Vec<Slot>, Vec<PinnedLink>)> {
    let mut links = pins.links()?;
    let mut slots: Vec<(Slot, Option<PinnedLink>)> = Vec::new();
    for wanted in wanted {
        let mut index = attach::index(wanted).ok();
        let is = |link: &PinnedLink| link.on.as_ref().map(|(index, _)| *index);
        // Prefer the link of this interface, whatever its name was. Otherwise use the link that had the
        // configured name, if its interface is gone or no interface has the name now.
        let by_index = links.iter().position(|link| index.is_some() && is(link) == index);
        let of_name = |link: &PinnedLink| link.interface == *wanted;
        let by_name = || {
            links.iter().position(|link| of_name(link) && (is(link).is_none() || index.is_none()))
        };
        let link = by_index.or_else(by_name).map(|place| links.swap_remove(place));
        index = index.or_else(|| link.as_ref().and_then(is));
        let name = match index {
            Some(index) => netlink::link(index)?.name,
            None => wanted.clone(),
        };
        if slots.iter().any(|(slot, _)| slot.name == name || slot.wanted == *wanted) {
            links.extend(link);
            continue;
        }
        let number = link.as_ref().map_or(0, |link| link.slot);
        let slot = Slot { number, index, name, wanted: wanted.clone(), fresh: link.is_none() };
        slots.push((slot, link));
    }
    let going: HashSet<u32> = links.iter().map(|link| link.slot).collect();
    let kept = slots.iter().filter_map(|(_, link)| link.as_ref());
    let mut used: HashSet<u32> = kept.map(|link| link.slot).collect();
    for (slot, link) in &mut slots {
        if let Some(link) = link {
            pins.rename(link, slot.pin())?;
            continue;
        }
        let all = || (0u32..).take(INTERFACES);
        // Use the slot of an interface that is being removed only if no other is free, because its last
        // packets still count.
        let free = all().find(|number| !used.contains(number) && !going.contains(number));
        let free = free.or_else(|| all().find(|number| !used.contains(number)));
        slot.number = free.context("there are no free counters for another interface")?;
        used.insert(slot.number);
    }
    Ok((slots.into_iter().map(|(slot, _)| slot).collect(), links))
}

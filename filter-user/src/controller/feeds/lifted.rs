//! What an administrator has lifted of the bans by feeds: networks that no feed bans again, and feeds that are paused.

use std::collections::BTreeMap;

use ::feeds::Listed;
use ipnet::IpNet;
use log::{info, warn};

use super::{Feeds, MANY, SPARED_MAX, Spared};
use crate::ban::{Entry, Origin};
use crate::controller::{Controller, show};
use crate::datapath::Datapath;
use crate::log_budget::MANUAL;
use crate::store::DecisionKey;

/// The most networks whose bans by feeds stay lifted.
const LIFTED_MAX: usize = 1000;

/// The kinds of decisions in the store: a network whose bans by feeds stay lifted, and a feed that is paused.
const LIFTED: &str = "feed-lifted";
const PAUSED: &str = "feed-paused";

impl Feeds {
    fn find_lifted(&mut self) {
        let inside = self.lifted.iter().filter(|(_, inside)| **inside);
        self.lifted_inside = inside.map(|(network, _)| *network).collect();
    }
}

impl<D: Datapath> Controller<D> {
    /// Bans again what a feed lists, after its bans were lifted. The next update must be a whole one. Returns whether
    /// it was paused.
    pub fn resume_feed(&mut self, place: u8) -> bool {
        let Some(feed) = self.feeds.at(place) else { return false };
        let was_paused = std::mem::take(&mut feed.is_paused);
        let name = feed.name.clone();
        if was_paused {
            self.bans.store().decide(PAUSED, &name, None);
        }
        was_paused
    }

    /// Remembers that the bans of this network are lifted, perhaps with everything `inside` it, so that no feed bans
    /// it again.
    pub(in crate::controller) fn keep_lifted(&mut self, network: IpNet, inside: bool) {
        let network = network.trunc();
        let ledger = self.bans.ledger();
        let within = ledger.inside(network).take(if inside { MANY } else { 0 });
        let listed = ledger.of_network(network).chain(within);
        let by_feed = |entry: &Entry| match entry.ban.origin {
            Origin::Feed(place) => Some((Some(place), entry.ban.network)),
            Origin::Fleet => Some((None, entry.ban.network)),
            Origin::Manual | Origin::Jail(_) | Origin::Escalation | Origin::Flood => None,
        };
        let listed: Vec<(Option<u8>, IpNet)> =
            listed.filter_map(by_feed).take(SPARED_MAX).collect();
        if listed.is_empty() {
            return;
        }
        if self.feeds.lifted.len() >= LIFTED_MAX && !self.feeds.lifted.contains_key(&network) {
            warn!(
                target: MANUAL,
                "the feeds and hosts that ban {} will ban it again: {LIFTED_MAX} others stay lifted; `ringfence allow` it",
                show(network)
            );
            return;
        }
        self.feeds.lifted.insert(network, inside);
        self.feeds.find_lifted();
        for (place, network) in listed {
            let Some(place) = place else { continue };
            self.feeds.spare(place, Listed { network, until: 0 }, Spared::Lifted);
        }
        self.bans.store().decide(LIFTED, &network.to_string(), Some(inside.to_string()));
        info!(target: MANUAL, "no feed and no other host bans {} again here until somebody bans it by hand", show(network));
    }

    /// Forgets that the bans of a network are lifted, because somebody bans it.
    pub(in crate::controller) fn forget_lifted(&mut self, network: IpNet) {
        if self.feeds.lifted.remove(&network).is_some() {
            self.feeds.find_lifted();
            self.bans.store().decide(LIFTED, &network.to_string(), None);
        }
    }

    /// The same, because the last feed that lists the network lists it no longer.
    pub(in crate::controller) fn forget_if_unlisted(&mut self, network: IpNet) {
        if self.feeds.lifted.contains_key(&network)
            && !self.feeds.all.iter().any(|feed| feed.spared.contains_key(&network))
        {
            self.forget_lifted(network);
        }
    }

    /// Pauses feeds whose bans are lifted: one, or all.
    pub(in crate::controller) fn pause_feeds(&mut self, which: Option<u8>) {
        let places: Vec<u8> = self.places().filter(|n| which.is_none_or(|one| one == *n)).collect();
        for place in places {
            let has_bans = self.banned_by(Origin::Feed(place)) > 0;
            let Some(feed) = self.feeds.at(place) else { continue };
            if feed.is_paused || (which.is_none() && !has_bans) {
                continue;
            }
            feed.is_paused = true;
            let name = feed.name.clone();
            self.bans.store().decide(PAUSED, &name, Some("true".to_owned()));
            info!(target: MANUAL, "feed:{name}: bans nothing until `ringfence feeds confirm {name}`");
            // An update in progress would ban the rest.
            if self.feeds.work.as_ref().is_some_and(|work| work.update.feed == place) {
                self.feeds.work = None;
            }
        }
    }

    /// Loads what was lifted and paused.
    pub(in crate::controller) fn load_feeds(&mut self, kept: &BTreeMap<DecisionKey, String>) {
        for ((kind, name), value) in kept {
            match &**kind {
                LIFTED => {
                    let network = name.parse::<IpNet>().ok();
                    self.feeds.lifted.extend(network.map(|network| (network, value == "true")));
                }
                PAUSED => {
                    for feed in self.feeds.all.iter_mut().filter(|feed| feed.name == *name) {
                        feed.is_paused = true;
                    }
                }
                _ => {}
            }
        }
        self.feeds.find_lifted();
    }

    /// Saves it again.
    pub(in crate::controller) fn put_feeds(&self) {
        for (network, inside) in &self.feeds.lifted {
            self.bans.store().decide(LIFTED, &network.to_string(), Some(inside.to_string()));
        }
        for feed in self.feeds.all.iter().filter(|feed| feed.is_paused) {
            self.bans.store().decide(PAUSED, &feed.name, Some("true".to_owned()));
        }
    }
}

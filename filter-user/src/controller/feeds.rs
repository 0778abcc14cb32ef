//! The bans of what feeds list: enters and removes them a few at a time, and knows what is spared.
//!
//! A feed never touches what no jail may ban. Its bans do not count as earlier bans, and other bans of the same
//! address stay as they are.

mod counting;
mod lifted;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use self::counting::Counting;
use ::feeds::Listed;
use api::FeedState;
use ipnet::IpNet;
use log::warn;

use super::of_source::is_address;
use super::width::is_too_wide;
use super::{Controller, show};
use crate::ban::{ADOPTED, Ban, Entry, FEEDS_MAX, Key, Origin};
use crate::clock::KernelTime;
use crate::config::{Config, Scope};
use crate::datapath::Datapath;
use crate::network_set::NetworkSet;

/// How much is done in one turn, where an address counts as 1.
const AT_ONCE: usize = 128;

/// What a network counts as, because the known peers in it become exceptions.
const NETWORK: usize = 16;

/// The most bans that are only examined in one turn.
const EXAMINED: usize = 512;

/// The most entries of a feed that are spared and tried again at the next fetch.
const SPARED_MAX: usize = 10_000;

/// From how many bans they are many.
const MANY: usize = 100_000;

/// What a feed lists now.
#[derive(Clone, Debug)]
pub struct FeedUpdate {
    /// The place of the feed in the configuration.
    pub feed: u8,
    /// Entries to ban, in the order of their networks.
    pub entries: Vec<Listed>,
    /// Networks that it no longer lists.
    pub removed: Vec<IpNet>,
    /// Whether the entries are all that it lists.
    pub is_whole: bool,
    /// When the bans of entries end that do not say it.
    pub until: KernelTime,
    /// The same moment on the kernel's clock and in seconds since 1970.
    pub clocks: (KernelTime, u64),
}

/// How the last fetch of a feed went, which the controller only passes on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedHealth {
    /// Its state.
    pub state: FeedState,
    /// What is wrong with it.
    pub problem: Option<String>,
    /// When it was last fetched, since 1970.
    pub fetched: Option<Duration>,
    /// The entries of the list in use.
    pub entries: u64,
}

/// What the controller knows about a feed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FeedCounts {
    /// Its bans in force.
    pub banned: u64,
    /// Entries that are not banned, by reason.
    pub spared: BTreeMap<String, u64>,
    /// Packets that its bans matched.
    pub packets: u64,
    /// Whether its bans stay lifted until it is confirmed.
    pub is_paused: bool,
    /// Whether an update of it is in progress.
    pub is_busy: bool,
}

/// Why an entry is not banned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Spared {
    Own,
    Trusted,
    Essential(&'static str),
    Ignored,
    Known,
    Lifted,
    NoRoom,
    TooWide,
}

impl Spared {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Own => "own",
            Self::Trusted => "trusted",
            Self::Essential(_) => "essential",
            Self::Ignored => "ignored",
            Self::Known => "known",
            Self::Lifted => "lifted",
            Self::NoRoom => "no-room",
            Self::TooWide => "too-wide",
        }
    }
}

/// A feed.
#[derive(Debug)]
struct Feed {
    name: String,
    scope: Scope,
    /// The reason of its bans, which they share.
    reason: Arc<str>,
    /// With the end that the entry has of its own.
    spared: BTreeMap<IpNet, (Spared, u32)>,
    /// Spared entries that are not remembered.
    more_spared: u64,
    is_paused: bool,
    health: FeedHealth,
    /// Packets of bans that were removed.
    packets_before: u64,
    /// Packets of the bans in force at the last count.
    packets: u64,
}

/// The feeds.
#[derive(Debug, Default)]
pub(super) struct Feeds {
    all: Vec<Feed>,
    work: Option<Work>,
    counting: Option<Counting>,
    /// When the last count began.
    counted: Option<KernelTime>,
    /// Places of feeds that are no longer configured and still have bans.
    left_over: Vec<u8>,
    /// Networks whose bans by feeds stay lifted, and whether with everything inside them.
    lifted: BTreeMap<IpNet, bool>,
    lifted_inside: NetworkSet,
}

/// An update in progress.
#[derive(Debug)]
struct Work {
    update: FeedUpdate,
    /// How many entries are done.
    done: usize,
    /// The last ban that was examined for what is no longer listed.
    behind: Option<Key>,
    is_refused: bool,
}

impl Feeds {
    pub(super) fn new(config: &Config) -> Self {
        let feed = |(name, feed): (&String, &crate::config::Feed)| Feed {
            name: name.clone(),
            scope: feed.scope,
            reason: format!("listed by the feed {name}").into(),
            spared: BTreeMap::new(),
            more_spared: 0,
            is_paused: false,
            health: FeedHealth::default(),
            packets_before: 0,
            packets: 0,
        };
        Self { all: config.feeds.iter().map(feed).collect(), ..Self::default() }
    }

    pub(super) fn is_busy(&self) -> bool {
        self.work.is_some() || self.counting.is_some() || !self.left_over.is_empty()
    }

    fn at(&mut self, place: u8) -> Option<&mut Feed> {
        self.all.get_mut(usize::from(place))
    }

    fn spare(&mut self, place: u8, Listed { network, until }: Listed, why: Spared) {
        let Some(feed) = self.at(place) else { return };
        if feed.spared.len() < SPARED_MAX || feed.spared.contains_key(&network) {
            feed.spared.insert(network, (why, until));
        } else {
            feed.more_spared += 1;
        }
    }
}

impl Work {
    fn new(update: FeedUpdate) -> Self {
        Self { update, done: 0, behind: None, is_refused: false }
    }

    /// Whether this network is among the entries.
    fn lists(&self, network: IpNet) -> bool {
        self.update.entries.binary_search_by_key(&network, |entry| entry.network).is_ok()
    }
}

/// The known peers, read at most once in a turn.
pub(super) type KnownPeers = Option<BTreeSet<IpAddr>>;

impl<D: Datapath> Controller<D> {
    /// Whether [`take_feed`](Self::take_feed) can be called.
    pub fn takes_feeds(&self) -> bool {
        self.feeds.work.is_none()
    }

    /// Uses other settings of the same feeds. Each that has changed sends everything again.
    pub(super) fn set_feeds(&mut self, config: &Config) {
        for (feed, (name, settings)) in self.feeds.all.iter_mut().zip(&config.feeds) {
            if feed.name == *name {
                feed.scope = settings.scope;
            }
        }
    }

    /// Remembers how the last fetch of a feed went.
    pub fn note_feed(&mut self, place: u8, health: FeedHealth) {
        if let Some(feed) = self.feeds.at(place) {
            feed.health = health;
        }
    }

    /// The names of the feeds, and how their last fetches went.
    pub(super) fn feed_health(&self) -> impl Iterator<Item = (&str, FeedHealth)> {
        self.feeds.all.iter().map(|feed| {
            let mut health = feed.health.clone();
            if feed.is_paused {
                (health.state, health.problem) = (FeedState::Paused, None);
            }
            (&*feed.name, health)
        })
    }

    /// Begins an update of the bans of a feed.
    pub fn take_feed(&mut self, mut update: FeedUpdate) {
        let Some(feed) = self.feeds.at(update.feed) else { return };
        if feed.is_paused {
            update = FeedUpdate { entries: Vec::new(), is_whole: true, ..update };
        }
        if update.is_whole {
            feed.spared.clear();
            feed.more_spared = 0;
        } else {
            // What was spared may be banned by now.
            let mut again = std::mem::take(&mut feed.spared);
            for network in &update.removed {
                again.remove(network);
            }
            for entry in &update.entries {
                again.remove(&entry.network);
            }
            let again = again.into_iter().map(|(network, (_, until))| Listed { network, until });
            update.entries.extend(again);
        }
        self.feeds.work = Some(Work::new(update));
    }

    /// Finds the feeds that are no longer configured but still have bans, which are then removed.
    pub(super) fn find_left_over_feeds(&mut self) {
        let places = self.feeds.all.len()..FEEDS_MAX;
        let places = places.filter_map(|place| u8::try_from(place).ok());
        self.feeds.left_over =
            places.filter(|place| self.banned_by(Origin::Feed(*place)) > 0).collect();
    }

    /// Does a little of an update or of a count.
    pub(super) fn feed_some(&mut self, now: KernelTime) {
        if let Some(mut work) = self.feeds.work.take() {
            if !self.go_on_with(&mut work, now) {
                self.feeds.work = Some(work);
            }
        } else if let Some(feed) = self.feeds.left_over.pop() {
            let (entries, removed, clocks) = (Vec::new(), Vec::new(), (now, 0));
            let update = FeedUpdate { feed, entries, removed, is_whole: true, until: now, clocks };
            self.feeds.work = Some(Work::new(update));
        } else {
            self.count_some();
        }
    }

    /// Returns whether the update is done.
    fn go_on_with(&mut self, work: &mut Work, now: KernelTime) -> bool {
        let place = work.update.feed;
        let mut known: KnownPeers = None;
        let mut budget = AT_ONCE;
        while let Some(listed) = work.update.entries.get(work.done).copied() {
            let cost = if is_address(listed.network) { 1 } else { NETWORK };
            if budget < cost {
                return false;
            }
            budget -= cost;
            work.done += 1;
            match self.list(&work.update, listed, &mut known, now) {
                Ok(()) => {}
                Err(Refusal::Spared(why)) => self.spare_listed(place, listed, why, now),
                Err(Refusal::Kernel(why)) => {
                    if !work.is_refused {
                        work.is_refused = true;
                        let by = self.jail_name(Origin::Feed(place));
                        warn!("{by}: {} is not banned: {why:#}", show(listed.network));
                    }
                    self.feeds.spare(place, listed, Spared::NoRoom);
                }
            }
        }
        while budget > 0
            && let Some(network) = work.update.removed.pop()
        {
            budget -= 1;
            self.unlist(place, network);
            self.forget_if_unlisted(network);
        }
        if !work.update.removed.is_empty() {
            return false;
        }
        !work.update.is_whole || (budget > 0 && self.sweep(work))
    }

    /// Removes bans of the feed that are not among its entries. Returns whether all were examined.
    fn sweep(&mut self, work: &mut Work) -> bool {
        let place = work.update.feed;
        let feed = self.feeds.all.get(usize::from(place));
        let mut examined = 0;
        let mut gone = Vec::new();
        for entry in self.bans.ledger().after(work.behind, EXAMINED) {
            examined += 1;
            work.behind = Some(entry.key());
            let network = entry.ban.network;
            let stays = feed.is_some_and(|feed| {
                entry.ban.scope == feed.scope
                    && work.lists(network)
                    && !feed.spared.contains_key(&network)
            });
            if entry.ban.origin == Origin::Feed(place) && !stays {
                gone.push(entry.clone());
            }
            if gone.len() >= AT_ONCE {
                break;
            }
        }
        let is_last = examined < EXAMINED && gone.len() < AT_ONCE;
        for entry in gone {
            self.strike_listed(place, &entry);
        }
        is_last
    }

    /// Bans an entry, unless it is banned already or must be spared.
    fn list(
        &mut self,
        update: &FeedUpdate,
        listed: Listed,
        known: &mut KnownPeers,
        now: KernelTime,
    ) -> Result<(), Refusal> {
        let network = listed.network;
        let origin = Origin::Feed(update.feed);
        let Some(feed) = self.feeds.all.get(usize::from(update.feed)) else { return Ok(()) };
        let (scope, reason) = (feed.scope, Arc::clone(&feed.reason));
        let (kernel, wall) = update.clocks;
        let own_end = u64::from(listed.until);
        let until = match own_end {
            0 => update.until,
            end => kernel.after(Duration::from_secs(end.saturating_sub(wall))).min(update.until),
        };
        if until <= now {
            return Ok(());
        }
        let except = self.spared(network, scope, known, now).map_err(Refusal::Spared)?;
        let is_its = |old: &&Entry| old.ban.origin == origin && old.ban.scope == scope;
        let old = self.bans.ledger().of_network(network).find(is_its);
        let nearly = |end: KernelTime| end.after(Duration::from_secs(2)) >= until;
        if let Some(old) = old
            && old.ban.until.is_some_and(nearly)
            && old.except() == except
            && &*old.reason != ADOPTED
        {
            return Ok(());
        }
        let (is_new, since) = (old.is_none(), old.map_or(now.into(), |old| old.ban.since));
        if is_new && self.is_full(network) {
            return Err(Refusal::Spared(Spared::NoRoom));
        }
        let ban = Ban { network, scope, origin, since, until: Some(until) };
        self.enter(&Entry::new(ban, reason).with_except(except), None).map_err(Refusal::Kernel)
    }

    /// Whether the rest of the table is for the bans of this host.
    pub(super) fn is_full(&self, network: IpNet) -> bool {
        let capacity = match network {
            IpNet::V4(_) if is_address(network) => self.datapath.capacity(),
            IpNet::V4(_) | IpNet::V6(_) => return false,
        };
        self.bans.ledger().len() as u64 >= capacity.saturating_sub(capacity / 10)
    }

    /// The exceptions that a ban of an entry needs, or why there can be none.
    pub(super) fn spared(
        &mut self,
        network: IpNet,
        scope: Scope,
        known: &mut KnownPeers,
        now: KernelTime,
    ) -> Result<Vec<IpNet>, Spared> {
        if is_too_wide(network) {
            return Err(Spared::TooWide);
        }
        if self.feeds.lifted.contains_key(&network) || self.feeds.lifted_inside.contains(network) {
            return Err(Spared::Lifted);
        }
        if self.protected.reason(network).is_some() {
            let is_own = !self.protected.is_trusted(network);
            return Err(if is_own { Spared::Own } else { Spared::Trusted });
        }
        if let Some(kind) = self.protected.essentials().of(network, scope) {
            return Err(Spared::Essential(kind.as_str()));
        }
        if is_address(network) {
            let address = network.addr();
            let mut jails = 0..self.jails.len();
            let ignored = self.jails.iter().any(|jail| jail.ignored().contains(network));
            if ignored || jails.any(|place| self.ignores_by_name(place, address)) {
                return Err(Spared::Ignored);
            }
            return if self.is_known(address, now) { Err(Spared::Known) } else { Ok(Vec::new()) };
        }
        let known = known.get_or_insert_with(|| {
            let all = [IpAddr::from(Ipv4Addr::UNSPECIFIED), Ipv6Addr::UNSPECIFIED.into()];
            let all = all.into_iter().filter_map(|address| IpNet::new(address, 0).ok());
            all.flat_map(|all| self.datapath.known_in(all, now)).collect()
        });
        let inside = known.range(network.network()..=network.broadcast()).copied().collect();
        self.exceptions_with(network, None, inside).map_err(|_why| Spared::Ignored)
    }

    /// Records that an entry is spared. What it is for the host is worth a line, once an hour.
    fn spare_listed(&mut self, place: u8, listed: Listed, why: Spared, now: KernelTime) {
        let network = listed.network;
        let by = self.jail_name(Origin::Feed(place));
        let is = match why {
            Spared::Own => Some("the host's own address"),
            Spared::Trusted => Some("trusted"),
            Spared::Essential(is) => Some(is),
            Spared::Ignored | Spared::Known | Spared::Lifted | Spared::NoRoom | Spared::TooWide => {
                None
            }
        };
        if let Some(is) = is {
            self.prevent((network.addr(), is), (by, 0, "its list contains it"), now);
        }
        self.unlist(place, network);
        self.feeds.spare(place, listed, why);
    }

    /// Removes the ban of a network that a feed no longer lists.
    fn unlist(&mut self, place: u8, network: IpNet) {
        let of = self.bans.ledger().of_network(network);
        let entries: Vec<Entry> =
            of.filter(|entry| entry.ban.origin == Origin::Feed(place)).cloned().collect();
        for entry in entries {
            self.strike_listed(place, &entry);
        }
    }

    fn strike_listed(&mut self, place: u8, entry: &Entry) {
        let packets = self.datapath.packets(entry.ban.network);
        if let Some(feed) = self.feeds.at(place) {
            feed.packets_before = feed.packets_before.saturating_add(packets);
        }
        if let Err(why) = self.bans.strike(&mut self.datapath, entry) {
            warn!("{why:#}");
        }
    }

    fn places(&self) -> impl Iterator<Item = u8> + use<D> {
        0..u8::try_from(self.feeds.all.len()).unwrap_or(u8::MAX)
    }

    /// What is known about a feed.
    pub fn feed_counts(&self, place: u8) -> FeedCounts {
        let Some(feed) = self.feeds.all.get(usize::from(place)) else {
            return FeedCounts::default();
        };
        let mut spared: BTreeMap<String, u64> = BTreeMap::new();
        for (why, _) in feed.spared.values() {
            *spared.entry(why.as_str().to_owned()).or_default() += 1;
        }
        if feed.more_spared > 0 {
            *spared.entry(Spared::NoRoom.as_str().to_owned()).or_default() += feed.more_spared;
        }
        FeedCounts {
            banned: self.banned_by(Origin::Feed(place)),
            spared,
            packets: feed.packets_before.saturating_add(feed.packets),
            is_paused: feed.is_paused,
            is_busy: self.feeds.work.as_ref().is_some_and(|work| work.update.feed == place),
        }
    }
}

/// Why an entry is not banned.
enum Refusal {
    Spared(Spared),
    /// The kernel refuses.
    Kernel(anyhow::Error),
}

//! The entries that the kernel's trie needs so that the longest prefix alone gives the combined result
//! of nested bans and exceptions.
//!
//! Given the bans and exceptions of networks, it returns the entries that change. An entry has the scopes
//! of its own network's bans and those of the next wider entry; an exception inherits nothing. The entry
//! with the longest prefix decides about an address, so a change affects only the entries inside the
//! network.

use std::collections::BTreeMap;
use std::ops::Bound;

use ipnet::IpNet;

use super::Ends;

/// An entry that has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The network.
    pub network: IpNet,
    /// Its new contents; `None`: it is deleted.
    pub ends: Option<Ends>,
}

/// The networks that have bans or exceptions, and the entry of each.
#[derive(Debug, Default)]
pub struct PrefixTree {
    /// In the order of addresses and then lengths: a network comes directly before those inside it.
    nodes: BTreeMap<IpNet, Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    own: Ends,
    is_exception: bool,
    entry: Ends,
}

impl PrefixTree {
    /// Sets the ends of the bans of exactly this network to `own`, and whether it is an exception to
    /// the bans around it. Returns the entries that change, wider ones first.
    pub fn set(&mut self, network: IpNet, own: Ends, is_exception: bool) -> Vec<Change> {
        let network = network.trunc();
        let around = self.around(network);
        let old = self.nodes.get(&network).map(|node| node.entry);
        let new = if own.is_empty() && !is_exception {
            self.nodes.remove(&network);
            None
        } else {
            let entry = if is_exception { own } else { own.union(around) };
            self.nodes.insert(network, Node { own, is_exception, entry });
            Some(entry)
        };
        let mut changes = Vec::new();
        if new != old {
            changes.push(Change { network, ends: new });
        }
        if new.unwrap_or(around) != old.unwrap_or(around) {
            self.carry(network, new.unwrap_or(around), &mut changes);
        }
        changes
    }

    /// The entry of exactly this network, if it has one.
    pub fn entry(&self, network: IpNet) -> Option<Ends> {
        self.nodes.get(&network).map(|node| node.entry)
    }

    /// Every entry, by network.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, Ends)> {
        self.nodes.iter().map(|(network, node)| (*network, node.entry))
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The ends in the next entry around a network.
    fn around(&self, network: IpNet) -> Ends {
        let mut wider = network.supernet();
        while let Some(network) = wider {
            if let Some(entry) = self.entry(network) {
                return entry;
            }
            wider = network.supernet();
        }
        Ends::NONE
    }

    /// Carries the ends of `network` to the entries inside it.
    fn carry(&mut self, network: IpNet, says: Ends, changes: &mut Vec<Change>) {
        // The networks around the current one.
        let mut open = vec![(network, says)];
        let end = Bound::Included(last_inside(network));
        let mut after = Bound::Excluded(network);
        while let Some((inside, node)) = self.nodes.range_mut((after, end)).next() {
            let inside = *inside;
            while open.last().is_some_and(|(network, _)| !network.contains(&inside)) {
                open.pop();
            }
            let around = open.last().map_or(Ends::NONE, |(_, says)| *says);
            let entry = if node.is_exception { node.own } else { node.own.union(around) };
            if entry == node.entry {
                // Nothing inside it changes either.
                after = Bound::Excluded(last_inside(inside));
            } else {
                node.entry = entry;
                changes.push(Change { network: inside, ends: Some(entry) });
                open.push((inside, entry));
                after = Bound::Excluded(inside);
            }
        }
    }
}

/// The last network, in this order, inside this one: its last address.
fn last_inside(network: IpNet) -> IpNet {
    IpNet::from(network.broadcast())
}

/// The bans and exceptions that lead to these entries in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnBans {
    /// The network.
    pub network: IpNet,
    /// What bans of exactly this network close, without the bans around it.
    pub own: Ends,
    /// Whether it is an exception.
    pub is_exception: bool,
}

/// Reads back the entries of a [`PrefixTree`], in the order of the networks. A ban that closes no more
/// and no longer than one around it has left no trace and is not included.
pub fn read_back(entries: &[(IpNet, Ends)]) -> Vec<OwnBans> {
    let entries: BTreeMap<IpNet, Ends> = entries.iter().copied().collect();
    let mut open: Vec<(IpNet, Ends)> = Vec::new();
    let mut found = Vec::new();
    for (network, says) in entries {
        while open.last().is_some_and(|(around, _)| !around.contains(&network)) {
            open.pop();
        }
        let around = open.last().map_or(Ends::NONE, |(_, says)| *says);
        open.push((network, says));
        let is_exception = says.union(around) != says;
        let own = if is_exception { says } else { says.beyond(around) };
        if is_exception || !own.is_empty() {
            found.push(OwnBans { network, own, is_exception });
        }
    }
    found
}

#[cfg(test)]
mod tests;

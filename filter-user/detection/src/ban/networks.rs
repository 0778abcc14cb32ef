//! What the kernel's trie must hold so that its longest prefix alone says what nested bans and
//! holes say together.
//!
//! Bans and holes of networks enter, the entries that change leave. An entry closes what its own
//! network's bans close and what the next entry around it closes; a hole lets in nothing from
//! around it. The addresses of a network are decided by the entry with the longest prefix, so a
//! change is carried to the entries inside it, and to no others.

use std::collections::BTreeMap;
use std::ops::Bound;

use ipnet::IpNet;

use super::Ends;

/// An entry that is no longer what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Change {
    /// The network.
    pub network: IpNet,
    /// What its entry must say; `None`: there is none.
    pub ends: Option<Ends>,
}

/// The networks that have bans or holes, and the entry of each.
#[derive(Debug, Default)]
pub struct PrefixTree {
    /// By address and then length: a network comes directly before those inside it.
    nodes: BTreeMap<IpNet, Node>,
}

#[derive(Clone, Copy, Debug)]
struct Node {
    own: Ends,
    is_hole: bool,
    entry: Ends,
}

impl PrefixTree {
    /// Makes `own` the ends of the bans of exactly this network, and says whether it is a hole in
    /// what is around it. Returns the entries that change by it, the wider ones first.
    pub fn set(&mut self, network: IpNet, own: Ends, is_hole: bool) -> Vec<Change> {
        let network = network.trunc();
        let around = self.around(network);
        let old = self.nodes.get(&network).map(|node| node.entry);
        let new = if own.is_empty() && !is_hole {
            self.nodes.remove(&network);
            None
        } else {
            let entry = if is_hole { own } else { own.union(around) };
            self.nodes.insert(network, Node { own, is_hole, entry });
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

    /// What the entry of exactly this network says, if it has one.
    pub fn entry(&self, network: IpNet) -> Option<Ends> {
        self.nodes.get(&network).map(|node| node.entry)
    }

    /// Every entry, by network.
    pub fn iter(&self) -> impl Iterator<Item = (IpNet, Ends)> {
        self.nodes.iter().map(|(network, node)| (*network, node.entry))
    }

    /// Whether exactly this network is a hole.
    pub fn is_hole(&self, network: IpNet) -> bool {
        self.nodes.get(&network).is_some_and(|node| node.is_hole)
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.nodes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// What the next entry around a network says.
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

    /// Carries what `network` says now to the entries inside it.
    fn carry(&mut self, network: IpNet, says: Ends, changes: &mut Vec<Change>) {
        // The networks around the one that is looked at.
        let mut open = vec![(network, says)];
        let end = Bound::Included(last_inside(network));
        let mut after = Bound::Excluded(network);
        while let Some((inside, node)) = self.nodes.range_mut((after, end)).next() {
            let inside = *inside;
            while open.last().is_some_and(|(network, _)| !network.contains(&inside)) {
                open.pop();
            }
            let around = open.last().map_or(Ends::NONE, |(_, says)| *says);
            let entry = if node.is_hole { node.own } else { node.own.union(around) };
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

/// The last in order of all networks inside this one: its last address.
fn last_inside(network: IpNet) -> IpNet {
    IpNet::from(network.broadcast())
}

/// What bans and holes there must have been for the kernel to hold these entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OwnBans {
    /// The network.
    pub network: IpNet,
    /// What bans of exactly this network close; what comes from around it is not in here.
    pub own: Ends,
    /// Whether it is a hole.
    pub is_hole: bool,
}

/// Reads back what [`PrefixTree`] has written, in the order of the networks. A ban that closes no more
/// and no longer than one around it has left no trace and is not among them.
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
        let is_hole = says.union(around) != says;
        let own = if is_hole { says } else { says.beyond(around) };
        if is_hole || !own.is_empty() {
            found.push(OwnBans { network, own, is_hole });
        }
    }
    found
}

#[cfg(test)]
mod tests;

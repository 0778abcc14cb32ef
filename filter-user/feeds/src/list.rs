//! A list of networks that may be banned: sorted, without bogons and without what other entries cover.
//!
//! Must never let a bogon or a network wider than the bounds through.

use ipnet::IpNet;

use crate::bogons::{is_bogon, widest};

/// An entry of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// The address or network.
    pub network: IpNet,
    /// Until when it is listed, in seconds since 1970; 0: as long as the list is alive.
    pub until: u32,
}

/// Entries that a list had and that are never banned.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dropped {
    /// Those that are not in use on the Internet.
    pub bogons: u64,
    /// Those that are wider than any network that is banned.
    pub wide: u64,
    /// Those inside a protected network.
    pub protected: u64,
    /// Those that were covered by others.
    pub covered: u64,
}

/// A list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct List {
    entries: Vec<Listed>,
}

/// What has changed in a list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// The entries that are new, or have another end.
    pub added: Vec<Listed>,
    /// The networks that are no longer listed.
    pub removed: Vec<IpNet>,
}

impl List {
    /// The list with these entries, without any inside the networks in `never`.
    pub fn new(entries: Vec<Listed>, never: &[IpNet]) -> Self {
        Self::counted(entries, never).0
    }

    /// The same, with the entries that are left out.
    pub fn counted(mut entries: Vec<Listed>, never: &[IpNet]) -> (Self, Dropped) {
        let mut dropped = Dropped::default();
        entries.retain_mut(|entry| {
            entry.network = entry.network.trunc();
            let network = entry.network;
            let count = if network.prefix_len() < widest(network) {
                &mut dropped.wide
            } else if is_bogon(network) {
                &mut dropped.bogons
            } else if never.iter().any(|no| no.contains(&network)) {
                &mut dropped.protected
            } else {
                return true;
            };
            *count += 1;
            false
        });
        entries.sort_unstable();
        let before = entries.len();
        let entries = merged(entries, never);
        dropped.covered = (before - entries.len()) as u64;
        (Self { entries }, dropped)
    }

    /// Its entries, in the order of their networks.
    pub fn entries(&self) -> &[Listed] {
        &self.entries
    }

    /// The changes that make it of another list.
    pub fn since(&self, old: &Self) -> Change {
        let mut change = Change::default();
        let mut old = old.entries.iter().peekable();
        for new in &self.entries {
            while let Some(gone) = old.next_if(|old| old.network < new.network) {
                change.removed.push(gone.network);
            }
            match old.next_if(|old| old.network == new.network) {
                Some(same) if same.until == new.until => {}
                Some(_) | None => change.added.push(*new),
            }
        }
        change.removed.extend(old.map(|gone| gone.network));
        change
    }
}

/// The list with a part of it that was fetched later. Entries whose time was over at `now` are left out.
pub fn apply(list: &List, added: Vec<Listed>, deleted: &[IpNet], now: u64) -> List {
    let mut deleted = deleted.to_vec();
    deleted.sort_unstable();
    let is_over = |entry: &Listed| entry.until != 0 && u64::from(entry.until) <= now;
    let stays = list.entries.iter().filter(|e| deleted.binary_search(&e.network).is_err());
    let mut entries: Vec<Listed> = stays.copied().chain(added).collect();
    entries.retain(|entry| !is_over(entry));
    List::new(entries, &[])
}

/// Sorted entries without those that others cover. Adjacent networks become one; addresses do not, since the
/// kernel's lookup of an address is faster.
fn merged(sorted: Vec<Listed>, never: &[IpNet]) -> Vec<Listed> {
    let mut out: Vec<Listed> = Vec::with_capacity(sorted.len());
    // The kept networks around the current one, the widest first.
    let mut around: Vec<Listed> = Vec::new();
    for entry in sorted {
        if let Some(same) = out.last_mut().filter(|last| last.network == entry.network) {
            same.until = later(same.until, entry.until);
            if let Some(wide) = around.last_mut().filter(|wide| wide.network == entry.network) {
                wide.until = same.until;
            }
            continue;
        }
        while around.last().is_some_and(|wide| !wide.network.contains(&entry.network)) {
            around.pop();
        }
        let covers = |wide: &Listed| later(wide.until, entry.until) == wide.until;
        if around.iter().any(covers) {
            continue;
        }
        out.push(entry);
        if entry.network.prefix_len() < entry.network.max_prefix_len() {
            around.push(entry);
            join(&mut out, &mut around, never);
        }
    }
    out
}

/// Joins the last network with the one before it while they are the two halves of one that may be banned.
fn join(out: &mut Vec<Listed>, around: &mut Vec<Listed>, never: &[IpNet]) {
    while let [.., one, other] = out[..] {
        let parent = other.network.supernet();
        let is_pair = one.network != other.network
            && one.network.prefix_len() == other.network.prefix_len()
            && one.network.supernet() == parent
            && one.until == other.until;
        let Some(network) =
            parent.filter(|parent| is_pair && parent.prefix_len() >= widest(*parent))
        else {
            return;
        };
        if never.iter().any(|no| no.contains(&network)) {
            return;
        }
        out.truncate(out.len() - 2);
        while around.last().is_some_and(|wide| network.contains(&wide.network)) {
            around.pop();
        }
        let joined = Listed { network, until: other.until };
        out.push(joined);
        around.push(joined);
    }
}

/// The later of two ends, where 0 is later than any time.
fn later(one: u32, other: u32) -> u32 {
    if one == 0 || other == 0 { 0 } else { one.max(other) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(texts: &[(&str, u32)]) -> Vec<Listed> {
        texts
            .iter()
            .map(|(text, until)| Listed { network: text.parse().unwrap(), until: *until })
            .collect()
    }

    fn list(texts: &[(&str, u32)]) -> Vec<(String, u32)> {
        let list = List::new(entries(texts), &[]);
        list.entries.iter().map(|entry| (entry.network.to_string(), entry.until)).collect()
    }

    #[test]
    fn networks_are_merged() {
        for (given, expected) in [
            (&[("185.0.0.1/32", 0), ("185.0.0.1/32", 0)][..], &[("185.0.0.1/32", 0)][..]),
            (&[("185.0.0.0/24", 0), ("185.0.0.7/32", 0)], &[("185.0.0.0/24", 0)]),
            (&[("185.0.0.0/24", 0), ("185.0.1.0/24", 0)], &[("185.0.0.0/23", 0)]),
            (
                &[
                    ("185.0.0.0/24", 0),
                    ("185.0.1.0/25", 0),
                    ("185.0.1.128/25", 0),
                    ("185.0.1.9/32", 0),
                ],
                &[("185.0.0.0/23", 0)],
            ),
            (
                &[("185.0.1.0/24", 0), ("185.0.2.0/24", 0)],
                &[("185.0.1.0/24", 0), ("185.0.2.0/24", 0)],
            ),
            // Addresses stay addresses.
            (
                &[("185.0.0.0/32", 0), ("185.0.0.1/32", 0)],
                &[("185.0.0.0/32", 0), ("185.0.0.1/32", 0)],
            ),
            // What ends later is not covered.
            (
                &[("185.0.0.0/24", 5), ("185.0.0.7/32", 9)],
                &[("185.0.0.0/24", 5), ("185.0.0.7/32", 9)],
            ),
            (&[("185.0.0.0/24", 9), ("185.0.0.7/32", 5)], &[("185.0.0.0/24", 9)]),
            (&[("185.0.0.7/32", 9), ("185.0.0.7/32", 5)], &[("185.0.0.7/32", 9)]),
            (&[("185.0.0.7/32", 9), ("185.0.0.7/32", 0)], &[("185.0.0.7/32", 0)]),
        ] {
            let expected: Vec<(String, u32)> =
                expected.iter().map(|(text, until)| ((*text).to_owned(), *until)).collect();
            assert_eq!(list(given), expected, "{given:?}");
        }
    }

    #[test]
    fn what_is_never_banned_is_counted() {
        let given = entries(&[
            ("0.0.0.0/0", 0),
            ("10.0.0.1/32", 0),
            ("20.0.0.0/7", 0),
            ("185.0.0.1/32", 0),
            ("185.0.1.1/32", 0),
        ]);
        let (list, dropped) = List::counted(given, &["185.0.1.0/24".parse().unwrap()]);
        assert_eq!(list.entries.len(), 1);
        assert_eq!(dropped, Dropped { bogons: 1, wide: 2, protected: 1, covered: 0 });
    }

    #[test]
    fn a_part_adds_and_deletes() {
        let old = List::new(
            entries(&[("185.0.0.1/32", 50), ("185.0.0.2/32", 500), ("185.0.0.3/32", 500)]),
            &[],
        );
        let deleted = ["185.0.0.3/32".parse().unwrap()];
        let new = apply(&old, entries(&[("185.0.0.4/32", 600)]), &deleted, 100);
        let left: Vec<String> = new.entries.iter().map(|entry| entry.network.to_string()).collect();
        assert_eq!(left, ["185.0.0.2/32", "185.0.0.4/32"]);
    }
}

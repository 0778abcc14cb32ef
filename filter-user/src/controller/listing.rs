//! Lists the bans in force, a page at a time: a list of a million must delay nothing.

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::time::Duration;

use api::{BANS_MAX, BanKind, BanOrder, BanPlace, BanRow, BansPage, BansQuery, Refusal};

use super::of_host::is_of;
use super::{Controller, show};
use crate::ban::{Entry, Key, Origin};
use crate::clock::{KernelTime, Moment};
use crate::config::Scope;
use crate::datapath::Datapath;

/// The most bans that are examined for a page, including those of other jails.
const LOOKED_AT_MAX: usize = 4096;

/// The same if the kernel is asked for the packets of each.
const COUNTED_MAX: usize = 1024;

/// The approximate length of a page in bytes of JSON. It fits into the buffer of a socket, so that a client
/// that does not read delays nobody.
const BYTES_MAX: usize = 96 * 1024;

/// The approximate length of a row in bytes of JSON, without its texts.
const FRAME: usize = 260;

/// The greatest length of a network in JSON, with what separates it from the next.
const NETWORK_LENGTH: usize = 46;

impl<D: Datapath> Controller<D> {
    /// A page of the bans.
    pub(super) fn bans_page(
        &self,
        query: &BansQuery,
        now: KernelTime,
    ) -> Result<BansPage, Refusal> {
        let wanted = Wanted {
            origin: query.jail.as_deref().map(|name| self.origin(name)).transpose()?,
            by: query.jail.as_deref(),
            scope: query.scope.as_deref().map(|name| self.ports.scope(name)).transpose()?,
            since: query.since_seconds.map(|seconds| before(now, Duration::from_secs(seconds))),
        };
        let after = query.after.map(key).transpose()?;
        if let Some(order) = query.first {
            return Ok(self.first_bans(query, (order, &wanted), after, now));
        }
        let rows_max = rows_max(query);
        let mut page = BansPage { bans: Vec::new(), enforcing: self.enforcing(), next: None };
        let (mut last, mut bytes, mut looked_at) = (None, 0, 0);
        for entry in self.part(query, after, LOOKED_AT_MAX) {
            if page.bans.len() >= rows_max || bytes >= BYTES_MAX {
                page.next = last;
                return Ok(page);
            }
            looked_at += 1;
            last = Some(place(entry.key()));
            if wanted.is(entry) && entry.ban.in_force(now) {
                bytes += self.size(entry);
                page.bans.push(self.row(entry));
            }
        }
        // Only the next request shows whether there are more.
        page.next = last.filter(|_| looked_at == LOOKED_AT_MAX);
        Ok(page)
    }

    /// The first bans, in this order, of the next part of the list.
    fn first_bans(
        &self,
        query: &BansQuery,
        (order, wanted): (BanOrder, &Wanted<'_>),
        after: Option<Key>,
        now: KernelTime,
    ) -> BansPage {
        let rows_max = rows_max(query);
        let examined_max = match order {
            BanOrder::Newest | BanOrder::End => LOOKED_AT_MAX,
            BanOrder::Packets => COUNTED_MAX,
        };
        // The last of the first is on top.
        let mut first: BinaryHeap<Ranked<'_>> = BinaryHeap::with_capacity(rows_max + 1);
        let (mut last, mut bytes, mut examined) = (None, 0, 0);
        for entry in self.part(query, after, examined_max) {
            examined += 1;
            last = Some(place(entry.key()));
            if !wanted.is(entry) || !entry.ban.in_force(now) {
                continue;
            }
            first.push(Ranked { rank: self.rank(order, entry), entry });
            bytes += self.size(entry);
            if first.len() > rows_max
                && let Some(Ranked { entry, .. }) = first.pop()
            {
                bytes -= self.size(entry);
            }
            if bytes >= BYTES_MAX {
                break;
            }
        }
        let is_end = examined < examined_max && bytes < BYTES_MAX;
        BansPage {
            bans: first.into_sorted_vec().iter().map(|ranked| self.row(ranked.entry)).collect(),
            enforcing: self.enforcing(),
            next: last.filter(|_| !is_end),
        }
    }

    /// The next part of the list, of up to `count` bans.
    fn part(
        &self,
        query: &BansQuery,
        after: Option<Key>,
        count: usize,
    ) -> impl Iterator<Item = &Entry> {
        let ledger = self.bans.ledger();
        let (all, inside) = match query.inside {
            None => (Some(ledger.after(after, count)), None),
            Some(network) => (None, Some(ledger.within(network, after, count))),
        };
        all.into_iter().flatten().chain(inside.into_iter().flatten())
    }

    /// The place of a ban in an order, with the precision that is shown: lower comes first.
    fn rank(&self, order: BanOrder, entry: &Entry) -> i64 {
        let ban = &entry.ban;
        match order {
            BanOrder::Newest => self.started.show_milliseconds(ban.since).saturating_neg(),
            BanOrder::End => ban
                .until
                .map_or(i64::MAX, |until| self.started.show_milliseconds(until).div_euclid(1000)),
            BanOrder::Packets => {
                let packets = self.datapath.packets(ban.network);
                i64::try_from(packets).unwrap_or(i64::MAX).saturating_neg()
            }
        }
    }

    /// The approximate length of the row of a ban in bytes of JSON.
    fn size(&self, entry: &Entry) -> usize {
        let names = self.by(entry).len() + self.ports.name(entry.ban.scope).len();
        FRAME + names + entry.reason.len() + entry.except().len() * NETWORK_LENGTH
    }

    fn row(&self, entry: &Entry) -> BanRow {
        let ban = &entry.ban;
        let place = self.place(ban.network.addr());
        BanRow {
            network: show(ban.network),
            except: entry.except().iter().map(|part| show(*part)).collect(),
            jail: self.by(entry),
            scope: self.ports.name(ban.scope).to_owned(),
            kind: kind(ban.scope),
            proven: self.is_proven(entry),
            since: self.started.show(ban.since),
            since_ms: self.started.show_milliseconds(ban.since),
            until: ban.until.map(|until| self.started.show(until)),
            packets: self.datapath.packets(ban.network),
            reason: entry.reason.to_string(),
            country: place.country.map(|country| country.to_string()),
            asn: place.asn,
        }
    }
}

/// What a ban of this scope does.
pub(super) fn kind(scope: Scope) -> BanKind {
    if scope == Scope::Throttle { BanKind::Throttle } else { BanKind::Ban }
}

/// A moment this long ago.
pub(super) fn before(now: KernelTime, duration: Duration) -> Moment {
    let duration = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Moment(Moment::from(now).0.saturating_sub(duration))
}

/// The bans to list.
struct Wanted<'a> {
    origin: Option<Origin>,
    /// The name of the origin, which may be that of a host of the fleet.
    by: Option<&'a str>,
    scope: Option<Scope>,
    since: Option<Moment>,
}

impl Wanted<'_> {
    fn is(&self, entry: &Entry) -> bool {
        self.origin.is_none_or(|origin| entry.ban.origin == origin)
            && self.by.is_none_or(|jail| is_of(entry, jail))
            && self.scope.is_none_or(|scope| entry.ban.scope == scope)
            && self.since.is_none_or(|since| entry.ban.since >= since)
    }
}

/// A ban with its rank. The rank decides, then the network.
struct Ranked<'a> {
    rank: i64,
    entry: &'a Entry,
}

impl Ranked<'_> {
    fn key(&self) -> (i64, Key) {
        (self.rank, self.entry.key())
    }
}

impl PartialEq for Ranked<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Ranked<'_> {}

impl PartialOrd for Ranked<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Ranked<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key().cmp(&other.key())
    }
}

fn rows_max(query: &BansQuery) -> usize {
    usize::from(query.limit.map_or(BANS_MAX, |limit| limit.get().min(BANS_MAX)))
}

fn place((network, origin, scope): Key) -> BanPlace {
    BanPlace { network, origin: origin.number(), scope: scope.bit() }
}

fn key(place: BanPlace) -> Result<Key, String> {
    let BanPlace { network, origin, scope } = place;
    let scope = Scope::from_bit(scope).ok_or_else(|| format!("there is no scope {scope}"))?;
    Ok((network, Origin::from_number(origin), scope))
}

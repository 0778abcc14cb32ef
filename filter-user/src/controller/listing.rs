//! Lists the bans in force, a page at a time: a list of a million must delay nothing.

use std::time::Duration;

use api::{BANS_MAX, BanKind, BanPlace, BanRow, BansPage, BansQuery};

use super::{Controller, show};
use crate::ban::{Entry, Key, Origin};
use crate::clock::{KernelTime, Moment};
use crate::config::Scope;
use crate::datapath::Datapath;

/// The most bans that are examined for a page, including those of other jails.
const LOOKED_AT_MAX: usize = 4096;

/// The approximate length of a page in bytes of JSON. It fits into the buffer of a socket, so that a client
/// that does not read delays nobody.
const BYTES_MAX: usize = 96 * 1024;

impl<D: Datapath> Controller<D> {
    /// A page of the bans.
    pub(super) fn bans_page(&self, query: &BansQuery, now: KernelTime) -> Result<BansPage, String> {
        let wanted = Wanted {
            origin: query.jail.as_deref().map(|name| self.origin(name)).transpose()?,
            scope: query.scope.as_deref().map(|name| self.ports.scope(name)).transpose()?,
            since: query.since_seconds.map(|seconds| before(now, Duration::from_secs(seconds))),
        };
        let after = query.after.map(key).transpose()?;
        let rows_max = usize::from(query.limit.map_or(BANS_MAX, |limit| limit.get().min(BANS_MAX)));
        let mut page = BansPage { bans: Vec::new(), enforcing: self.enforcing(), next: None };
        let (mut last, mut bytes, mut looked_at) = (None, 0, 0);
        let ledger = self.bans.ledger();
        let (all, inside) = match query.inside {
            None => (Some(ledger.after(after, LOOKED_AT_MAX)), None),
            Some(network) => (None, Some(ledger.within(network, after, LOOKED_AT_MAX))),
        };
        for entry in all.into_iter().flatten().chain(inside.into_iter().flatten()) {
            if page.bans.len() >= rows_max || bytes >= BYTES_MAX {
                page.next = last;
                return Ok(page);
            }
            looked_at += 1;
            last = Some(place(entry.key()));
            if wanted.is(entry) && entry.ban.in_force(now) {
                let row = self.row(entry);
                bytes += size(&row);
                page.bans.push(row);
            }
        }
        // Only the next request shows whether there are more.
        page.next = last.filter(|_| looked_at == LOOKED_AT_MAX);
        Ok(page)
    }

    fn row(&self, entry: &Entry) -> BanRow {
        let ban = &entry.ban;
        BanRow {
            network: show(ban.network),
            except: entry.except().iter().map(|part| show(*part)).collect(),
            jail: self.jail_name(ban.origin).to_owned(),
            scope: self.ports.name(ban.scope).to_owned(),
            kind: kind(ban.scope),
            since: self.started.show(ban.since),
            since_ms: self.started.show_milliseconds(ban.since),
            until: ban.until.map(|until| self.started.show(until)),
            packets: self.datapath.packets(ban.network),
            reason: entry.reason.to_string(),
        }
    }
}

/// What a ban of this scope does.
fn kind(scope: Scope) -> BanKind {
    if scope == Scope::Throttle { BanKind::Throttle } else { BanKind::Ban }
}

/// A moment this long ago.
pub(super) fn before(now: KernelTime, duration: Duration) -> Moment {
    let duration = i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    Moment(Moment::from(now).0.saturating_sub(duration))
}

/// The bans to list.
struct Wanted {
    origin: Option<Origin>,
    scope: Option<Scope>,
    since: Option<Moment>,
}

impl Wanted {
    fn is(&self, entry: &Entry) -> bool {
        self.origin.is_none_or(|origin| entry.ban.origin == origin)
            && self.scope.is_none_or(|scope| entry.ban.scope == scope)
            && self.since.is_none_or(|since| entry.ban.since >= since)
    }
}

/// The approximate length of a row in bytes of JSON.
fn size(row: &BanRow) -> usize {
    const FRAME: usize = 220;
    let except = row.except.iter().map(|part| part.len() + 3).sum::<usize>();
    FRAME + row.network.len() + row.jail.len() + row.scope.len() + row.reason.len() + except
}

fn place((network, origin, scope): Key) -> BanPlace {
    BanPlace { network, origin: origin.number(), scope: scope.bit() }
}

fn key(place: BanPlace) -> Result<Key, String> {
    let BanPlace { network, origin, scope } = place;
    let scope = Scope::from_bit(scope).ok_or_else(|| format!("there is no scope {scope}"))?;
    Ok((network, Origin::from_number(origin), scope))
}

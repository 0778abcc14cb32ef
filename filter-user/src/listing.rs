//! `ringfence bans`: joins the pages of bans into one list.

use std::cmp::Reverse;
use std::io::Write;
use std::net::IpAddr;
use std::num::NonZeroU16;

use anyhow::{Context as _, Result, bail};
use api::{BANS_MAX, BanOrder, BanPlace, BanRow, BansPage, BansQuery};
use ipnet::IpNet;

use crate::cli::Sort;
use crate::rows::{WRITE, document_end, document_row};
use crate::{ban_list, report};

/// Up to this many bans are listed with the newest first. More are listed by network, as they arrive,
/// because no command should need memory for a million.
pub const SORTED_MAX: usize = 10_000;

/// The order and the length of a list.
#[derive(Clone, Copy, Debug, Default)]
pub struct How {
    /// The order, if one was given.
    pub sort: Option<Sort>,
    /// The most bans.
    pub limit: Option<u16>,
}

impl How {
    /// The query for the pages. If the list is short, the daemon leaves out what cannot be in it.
    pub fn narrowed(self) -> BansQuery {
        let order = match self.sort {
            None | Some(Sort::Newest) => Some(BanOrder::Newest),
            Some(Sort::End) => Some(BanOrder::End),
            Some(Sort::Packets) => Some(BanOrder::Packets),
            Some(Sort::Address) => None,
        };
        let limit = self.limit.filter(|limit| *limit <= BANS_MAX).and_then(NonZeroU16::new);
        BansQuery { limit, first: order.filter(|_| limit.is_some()), ..BansQuery::default() }
    }
}

/// Writes the bans that `page` returns, as text or as JSON. `page` is called with the place after which
/// to continue.
///
/// # Errors
///
/// If a page does not arrive, `out` fails, or there are too many bans to sort them.
pub fn list(
    mut page: impl FnMut(Option<BanPlace>) -> Result<BansPage>,
    how: How,
    json: bool,
    out: impl Write,
) -> Result<()> {
    let mut list = List { out, json, rows: 0 };
    let (mut rows, mut after) = (Vec::new(), None);
    let limit = how.limit.map(usize::from);
    let kept = limit.unwrap_or(SORTED_MAX);
    let sort = how.sort.unwrap_or(Sort::Newest);
    let enforcing = loop {
        let BansPage { bans, enforcing, next } = page(after)?;
        rows.extend(bans);
        let is_long = rows.len() > kept;
        match (how.sort, limit) {
            // The pages are sorted by address.
            (Some(Sort::Address), Some(limit)) if is_long => {
                rows.truncate(limit);
                break enforcing;
            }
            (_, Some(limit)) if rows.len() >= limit.saturating_mul(2).max(SORTED_MAX) => {
                order(&mut rows, sort);
                rows.truncate(limit);
            }
            (Some(Sort::Newest | Sort::End | Sort::Packets), None) if is_long => bail!(
                "more than {SORTED_MAX} bans cannot be sorted; `--limit N` prints only the first"
            ),
            (None | Some(Sort::Address), None) if is_long => {
                list.write(&std::mem::take(&mut rows), enforcing)?;
            }
            (Some(_) | None, Some(_) | None) => {}
        }
        if next.is_none() {
            break enforcing;
        }
        after = next;
    };
    if list.rows == 0 {
        order(&mut rows, sort);
        rows.truncate(limit.unwrap_or(usize::MAX));
    }
    list.write(&rows, enforcing)?;
    list.end(enforcing)
}

/// Sorts bans. Bans of equal rank are sorted by address.
fn order(rows: &mut [BanRow], sort: Sort) {
    let network = |row: &BanRow| {
        row.network
            .parse::<IpNet>()
            .ok()
            .or_else(|| row.network.parse::<IpAddr>().ok().map(IpNet::from))
    };
    match sort {
        Sort::Newest => rows.sort_by_cached_key(|row| (Reverse(row.since_ms), network(row))),
        // RFC 3339 in UTC: the smallest text is the earliest time.
        Sort::End => {
            rows.sort_by_cached_key(|row| (row.until.is_none(), row.until.clone(), network(row)));
        }
        Sort::Packets => rows.sort_by_cached_key(|row| (Reverse(row.packets), network(row))),
        Sort::Address => rows.sort_by_cached_key(network),
    }
}

/// Whether this host has decided on a ban, and not a feed or another host.
pub fn is_own(row: &BanRow) -> bool {
    !row.jail.starts_with("feed:") && !row.jail.starts_with("fleet:")
}

/// Writes the bans that `page` returns in the format of `ban --from`.
///
/// # Errors
///
/// If a page does not arrive, or `out` fails.
pub fn export(
    mut page: impl FnMut(Option<BanPlace>) -> Result<BansPage>,
    mut out: impl Write,
) -> Result<()> {
    let mut after = None;
    loop {
        let BansPage { bans, next, .. } = page(after)?;
        for row in &bans {
            let line = ban_list::write(row);
            out.write_all(line.as_bytes()).context(WRITE)?;
        }
        after = next;
        if after.is_none() {
            return out.flush().context(WRITE);
        }
    }
}

/// The name of the list in a document.
const BANS: &str = "bans";

struct List<W> {
    out: W,
    json: bool,
    /// The number of rows written.
    rows: usize,
}

impl<W: Write> List<W> {
    fn write(&mut self, rows: &[BanRow], enforcing: bool) -> Result<()> {
        let is_first = self.rows == 0;
        self.rows += rows.len();
        if self.json {
            rows.iter().enumerate().try_for_each(|(place, row)| {
                let row = document_row(BANS, row, is_first && place == 0)?;
                self.out.write_all(row.as_bytes()).context(WRITE)
            })
        } else {
            self.out.write_all(report::bans(rows, enforcing, is_first).as_bytes()).context(WRITE)
        }
    }

    fn end(&mut self, enforcing: bool) -> Result<()> {
        let end = if self.json {
            document_end(BANS, self.rows == 0, &format!(",\n  \"enforcing\": {enforcing}"))
        } else {
            String::new()
        };
        self.out.write_all(end.as_bytes()).and_then(|()| self.out.flush()).context(WRITE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::Value;

    fn row(number: u32) -> BanRow {
        BanRow {
            network: std::net::Ipv4Addr::from(0x0a00_0000 + number).to_string(),
            except: Vec::new(),
            jail: "sshd".to_owned(),
            scope: "ssh".to_owned(),
            kind: api::BanKind::Ban,
            proven: true,
            since: "2026-11-29T00:00:00Z".to_owned(),
            since_ms: i64::from(number),
            until: number.is_multiple_of(2).then(|| format!("2026-11-29T00:00:00.{number:08}Z")),
            packets: u64::from(u32::MAX - number),
            reason: "15 failures".to_owned(),
            country: None,
            asn: None,
        }
    }

    /// The output for this many bans, the newest of which has the last address.
    fn written(bans: u32, json: bool) -> String {
        sorted(bans, How::default(), json).unwrap()
    }

    fn sorted(bans: u32, how: How, json: bool) -> Result<String> {
        let mut out = Vec::new();
        list(pages(bans), how, json, &mut out)?;
        Ok(String::from_utf8(out).unwrap())
    }

    /// This many bans in pages.
    fn pages(bans: u32) -> impl FnMut(Option<BanPlace>) -> Result<BansPage> {
        let place = |number: u32| BanPlace {
            network: IpNet::from(IpAddr::from(std::net::Ipv4Addr::from(number))),
            origin: 0,
            scope: 0,
        };
        let mut from = 0;
        move |_| {
            let until = (from + 256).min(bans);
            let bans_of_page = (from..until).map(row).collect();
            from = until;
            let next = (until < bans).then(|| place(until));
            Ok(BansPage { bans: bans_of_page, enforcing: true, next })
        }
    }

    #[test]
    fn a_list_is_sorted_and_cut() {
        for bans in [3, 10_000, 30_000] {
            for (sort, first, second) in [
                (Sort::Newest, bans - 1, bans - 2),
                (Sort::End, 0, 2),
                (Sort::Packets, 0, 1),
                (Sort::Address, 0, 1),
            ] {
                let how = How { sort: Some(sort), limit: Some(2) };
                let value: Value = serde_json::from_str(&sorted(bans, how, true).unwrap()).unwrap();
                let list = value["bans"].as_array().unwrap();
                let networks: Vec<&str> =
                    list.iter().filter_map(|ban| ban["network"].as_str()).collect();
                assert_eq!(networks, [row(first).network, row(second).network], "{sort:?} {bans}");
            }
        }
        let how = |sort| How { sort: Some(sort), limit: None };
        assert!(sorted(10_001, how(Sort::Packets), false).is_err());
        assert_eq!(sorted(10_001, how(Sort::Address), false).unwrap().lines().count(), 10_002);
    }

    #[test]
    fn an_export_has_a_line_for_each_ban() {
        let mut out = Vec::new();
        export(pages(1000), &mut out).unwrap();
        let lines = ban_list::Lines::new(&out[..]);
        assert_eq!(lines.filter(|line| line.as_ref().unwrap().1.is_ok()).count(), 1000);
    }

    #[test]
    fn what_others_have_decided_is_not_own() {
        let of = |jail: &str| is_own(&BanRow { jail: jail.to_owned(), ..row(1) });
        assert!(of("sshd") && of("manual") && of("feeds"));
        assert!(!of("feed:drop") && !of("fleet:pbx-2"));
    }

    #[test]
    fn any_number_is_one_document() {
        for bans in [0, 1, 256, 257, 10_000, 10_001, 30_000] {
            let value: Value = serde_json::from_str(&written(bans, true)).unwrap();
            let networks: Vec<&str> = value["bans"]
                .as_array()
                .unwrap()
                .iter()
                .filter_map(|b| b["network"].as_str())
                .collect();
            assert_eq!((networks.len(), &value["enforcing"]), (bans as usize, &Value::Bool(true)));
            let newest_first = bans as usize <= SORTED_MAX;
            if let (Some(first), Some(last)) = (networks.first(), networks.last()) {
                let newest = row(bans - 1).network;
                assert_eq!(if newest_first { *first } else { *last }, newest);
            }
        }
    }

    #[test]
    fn any_number_is_one_table() {
        assert!(written(0, false).contains("no bans are in force"));
        for bans in [1, 10_000, 10_001, 30_000] {
            let text = written(bans, false);
            assert_eq!(text.lines().count(), bans as usize + 1);
            assert_eq!(text.matches("NETWORK").count(), 1);
        }
    }
}

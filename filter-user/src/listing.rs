//! `ringfence bans`: the bans that come in pages, as one list.

use std::cmp::Reverse;
use std::io::Write;

use anyhow::{Context as _, Result};
use api::{BanPlace, BanRow, BansPage};
use ipnet::IpNet;

use crate::report;

/// So many bans are listed with the newest first. More are listed by network, as they come: nobody reads
/// them, and no command line should need the memory for a million.
pub const SORTED_MAX: usize = 10_000;

/// Writes the bans that `page` returns, as text or as JSON. It is asked for the bans behind a place.
///
/// # Errors
///
/// When a page does not come, or `out` takes no more.
pub fn list(
    mut page: impl FnMut(Option<BanPlace>) -> Result<BansPage>,
    json: bool,
    out: impl Write,
) -> Result<()> {
    let mut list = List { out, json, rows: 0 };
    let (mut rows, mut after) = (Vec::new(), None);
    let enforcing = loop {
        let BansPage { bans, enforcing, next } = page(after)?;
        rows.extend(bans);
        if rows.len() > SORTED_MAX {
            list.write(&std::mem::take(&mut rows), enforcing)?;
        }
        if next.is_none() {
            break enforcing;
        }
        after = next;
    };
    if list.rows == 0 {
        rows.sort_by_cached_key(|row| (Reverse(row.since_ms), row.network.parse::<IpNet>().ok()));
    }
    list.write(&rows, enforcing)?;
    list.end(enforcing)
}

struct List<W> {
    out: W,
    json: bool,
    /// How many are written.
    rows: usize,
}

impl<W: Write> List<W> {
    fn write(&mut self, rows: &[BanRow], enforcing: bool) -> Result<()> {
        let is_first = self.rows == 0;
        self.rows += rows.len();
        let written = if self.json {
            rows.iter().enumerate().try_for_each(|(place, row)| {
                let head = if is_first && place == 0 { "{\n  \"bans\": [\n" } else { ",\n" };
                let row = serde_json::to_string_pretty(row)?.replace('\n', "\n    ");
                write!(self.out, "{head}    {row}")
            })
        } else {
            self.out.write_all(report::bans(rows, enforcing, is_first).as_bytes())
        };
        written.context("write to standard output")
    }

    fn end(&mut self, enforcing: bool) -> Result<()> {
        let written = match (self.json, self.rows) {
            (true, 0) => {
                writeln!(self.out, "{{\n  \"bans\": [],\n  \"enforcing\": {enforcing}\n}}")
            }
            (true, _) => writeln!(self.out, "\n  ],\n  \"enforcing\": {enforcing}\n}}"),
            (false, _) => Ok(()),
        };
        written.and_then(|()| self.out.flush()).context("write to standard output")
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
            since: "2026-11-29T00:00:00Z".to_owned(),
            since_ms: i64::from(number),
            until: None,
            packets: 0,
            reason: "15 failures".to_owned(),
        }
    }

    /// What is written of so many bans, the newest of which has the last address.
    fn written(bans: u32, json: bool) -> String {
        let place = |number: u32| BanPlace {
            network: IpNet::from(std::net::IpAddr::from(std::net::Ipv4Addr::from(number))),
            origin: 0,
            scope: 0,
        };
        let mut from = 0;
        let page = |_| {
            let until = (from + 256).min(bans);
            let bans_of_page = (from..until).map(row).collect();
            from = until;
            let next = (until < bans).then(|| place(until));
            Ok(BansPage { bans: bans_of_page, enforcing: true, next })
        };
        let mut out = Vec::new();
        list(page, json, &mut out).unwrap();
        String::from_utf8(out).unwrap()
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
        assert!(written(0, false).contains("nobody is banned"));
        for bans in [1, 10_000, 10_001, 30_000] {
            let text = written(bans, false);
            assert_eq!(text.lines().count(), bans as usize + 1);
            assert_eq!(text.matches("NETWORK").count(), 1);
        }
    }
}

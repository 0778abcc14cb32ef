//! Lists with an entry on each line.

use std::net::IpAddr;

use ipnet::IpNet;
use serde::Deserialize;

use crate::list::Listed;
use crate::{Parsed, push};

/// The longest line that is read.
const LINE_MAX: usize = 4096;

/// An address or a network. An IPv4 address that is written as one of IPv6 is one of IPv4.
pub(crate) fn network(text: &str) -> Option<IpNet> {
    let text = text.trim();
    if text.len() > 64 {
        return None;
    }
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address.to_canonical().into());
    }
    let network: IpNet = text.parse().ok()?;
    let network = network.trunc();
    match (network.addr().to_canonical(), network.addr()) {
        (IpAddr::V4(address), IpAddr::V6(_)) => {
            let length = network.prefix_len().checked_sub(96)?;
            ipnet::Ipv4Net::new(address, length).ok().map(|network| network.trunc().into())
        }
        (IpAddr::V4(_) | IpAddr::V6(_), _) => Some(network),
    }
}

/// The lines of a document with their numbers, without comments and without those that are empty.
fn lines(bytes: &[u8]) -> impl Iterator<Item = (u64, &[u8])> {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    (1..).zip(bytes.split(|byte| *byte == b'\n')).filter_map(|(number, line)| {
        let line = line.trim_ascii();
        (!line.is_empty() && !line.starts_with(b"#") && !line.starts_with(b";"))
            .then_some((number, line))
    })
}

/// Reads the network that `field` finds in each line.
fn read<'a>(bytes: &'a [u8], field: impl Fn(&'a str) -> Option<&'a str>) -> Result<Parsed, String> {
    let mut parsed = Parsed::default();
    for (number, line) in lines(bytes) {
        let text = (line.len() <= LINE_MAX).then(|| std::str::from_utf8(line).ok()).flatten();
        match text.and_then(&field).and_then(network) {
            Some(network) => push(&mut parsed, Listed { network, until: 0 })?,
            None => parsed.unread.add(number, line),
        }
    }
    Ok(parsed)
}

/// An address or a network at the start of each line; whatever stands after a blank, `#` or `;` is a comment.
pub(crate) fn plain(bytes: &[u8]) -> Result<Parsed, String> {
    read(bytes, |line| line.split([' ', '\t', '#', ';', ',']).next())
}

/// A column of a table whose columns are separated by commas, semicolons or tabs.
pub(crate) fn csv(bytes: &[u8], column: usize) -> Result<Parsed, String> {
    let mut parsed = read(bytes, |line| {
        let separator = [',', ';', '\t'].into_iter().find(|separator| line.contains(*separator));
        let mut cells = Cells { rest: Some(line), separator: separator.unwrap_or(',') };
        cells.nth(column.checked_sub(1)?)
    })?;
    // The names of the columns.
    if let Some((1, _)) = parsed.unread.first
        && parsed.unread.count == 1
        && !parsed.listed.is_empty()
    {
        parsed.unread = crate::Unread::default();
    }
    Ok(parsed)
}

/// The cells of a line (RFC 4180). A quoted cell has no quotes inside, since no network does.
struct Cells<'a> {
    rest: Option<&'a str>,
    separator: char,
}

impl<'a> Iterator for Cells<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest?.trim_start_matches(' ');
        let (cell, behind) = match rest.strip_prefix('"').and_then(|inner| inner.split_once('"')) {
            Some((cell, behind)) => (cell, behind),
            None => rest.split_at(rest.find(self.separator).unwrap_or(rest.len())),
        };
        self.rest = behind.find(self.separator).map(|at| &behind[at + self.separator.len_utf8()..]);
        Some(cell)
    }
}

/// A line of Spamhaus DROP in JSON. The last one describes the list.
#[derive(Deserialize)]
struct DropLine<'a> {
    #[serde(borrow)]
    cidr: Option<std::borrow::Cow<'a, str>>,
    #[serde(rename = "type", borrow)]
    kind: Option<std::borrow::Cow<'a, str>>,
}

/// Spamhaus DROP: `network ; reference` on each line, or a JSON object.
pub(crate) fn drop(bytes: &[u8]) -> Result<Parsed, String> {
    let is_json = lines(bytes).next().is_some_and(|(_, line)| line.starts_with(b"{"));
    if !is_json {
        return read(bytes, |line| line.split([';', ' ', '\t']).next());
    }
    let mut parsed = Parsed::default();
    for (number, line) in lines(bytes) {
        let read =
            (line.len() <= LINE_MAX).then(|| serde_json::from_slice::<DropLine<'_>>(line).ok());
        match read.flatten() {
            Some(DropLine { kind: Some(kind), cidr: None }) if kind == "metadata" => {}
            Some(DropLine { cidr: Some(cidr), .. }) if network(&cidr).is_some() => {
                let Some(network) = network(&cidr) else { continue };
                push(&mut parsed, Listed { network, until: 0 })?;
            }
            Some(_) | None => parsed.unread.add(number, line),
        }
    }
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(parsed: &Parsed) -> Vec<String> {
        parsed.listed.iter().map(|entry| entry.network.to_string()).collect()
    }

    #[test]
    fn a_plain_list_has_comments() {
        let text =
            b"\xef\xbb\xbf# a list\r\n185.0.0.1\r\n185.0.1.7/24 # a network\n\n; x\n2a01::1;y\n\
            ::ffff:185.0.0.9\n::ffff:185.0.2.0/120\nhost.example\n185.0.0.256\n010.0.0.1\n";
        let parsed = plain(text).unwrap();
        let expected =
            ["185.0.0.1/32", "185.0.1.0/24", "2a01::1/128", "185.0.0.9/32", "185.0.2.0/24"];
        assert_eq!(listed(&parsed), expected);
        assert_eq!(parsed.unread.count, 3);
        assert_eq!(parsed.unread.first, Some((9, "host.example".to_owned())));
    }

    #[test]
    fn a_table_has_columns() {
        let text = b"id,address,note\n1,185.0.0.1,x\n2,\"185.0.0.2\",\"a, b\"\n3, 185.0.0.3\n4\n";
        let parsed = csv(text, 2).unwrap();
        assert_eq!(listed(&parsed), ["185.0.0.1/32", "185.0.0.2/32", "185.0.0.3/32"]);
        assert_eq!(parsed.unread.count, 2);
        let parsed = csv(b"name;ip\na;185.0.0.1\n", 2).unwrap();
        assert_eq!(
            (listed(&parsed).len(), parsed.unread.count),
            (1, 0),
            "the names of the columns"
        );
        let third = csv(b"\"1\",\"185.0.0.9/31\",\"185.0.0.8\"\n", 3).unwrap();
        assert_eq!(listed(&third), ["185.0.0.8/32"]);
    }

    #[test]
    fn drop_has_two_forms() {
        let text = b"; Spamhaus DROP List\n1.10.16.0/20 ; SBL256894\n2.56.192.0/22 ; SBL459831\n";
        assert_eq!(listed(&drop(text).unwrap()), ["1.10.16.0/20", "2.56.192.0/22"]);
        let json = b"{\"cidr\":\"1.10.16.0/20\",\"sblid\":\"SBL256894\",\"rir\":\"apnic\"}\n\
            {\"cidr\":\"no\"}\n{\"type\":\"metadata\",\"timestamp\":1,\"size\":2}\n";
        let parsed = drop(json).unwrap();
        assert_eq!((listed(&parsed), parsed.unread.count), (vec!["1.10.16.0/20".to_owned()], 1));
    }
}

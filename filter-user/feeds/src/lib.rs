//! Lists of addresses that others have published: bytes enter, a list of networks that may be banned leaves.
//!
//! ```text
//! bytes ─ form ─▶ Parsed ─ list ─▶ List ─ bounds ─▶ accepted or refused ─ list ─▶ Change
//! ```
//!
//! No clock, file, socket or program: the daemon's crate fetches and keeps what this one reads.

mod apiban;
mod bogons;
mod bounds;
mod crowdsec;
mod form;
mod json;
mod kept;
mod list;
mod retry;
mod text;

pub use self::apiban::FIRST as APIBAN_FIRST;
pub use self::bogons::{WIDEST_IPV4, WIDEST_IPV6, bogons, is_bogon};
pub use self::bounds::{ENTRIES_MAX, Refusal, SIZE_MAX, judge};
pub use self::crowdsec::{ORIGIN as CROWDSEC_ORIGIN, STREAM as CROWDSEC_STREAM};
pub use self::form::{Form, Pointer};
pub use self::kept::{from_kept, to_kept};
pub use self::list::{Change, Dropped, List, Listed, apply};
pub use self::retry::{Pace, delay};

use ipnet::IpNet;

/// What a document contains.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Parsed {
    /// The networks that it lists, in its order, bogons among them.
    pub listed: Vec<Listed>,
    /// The networks that it no longer lists, if it is a part of a list.
    pub deleted: Vec<IpNet>,
    /// What could not be read.
    pub unread: Unread,
    /// Where the next part begins, if the list has parts.
    pub next: Option<String>,
}

/// The entries that could not be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unread {
    /// Their number.
    pub count: u64,
    /// The first, with its line or position, shortened and without control characters.
    pub first: Option<(u64, String)>,
}

/// The longest text of an entry that is shown.
const SHOWN_MAX: usize = 60;

impl Unread {
    fn add(&mut self, place: u64, text: &[u8]) {
        self.count += 1;
        if self.first.is_none() {
            let part = text.get(..SHOWN_MAX).unwrap_or(text);
            let text = String::from_utf8_lossy(part).escape_debug().to_string();
            self.first = Some((place, text));
        }
    }
}

/// Reads a document that was fetched at `now`, in seconds since 1970.
///
/// # Errors
///
/// If it does not have this form, or has more entries than are read.
pub fn parse(form: &Form, bytes: &[u8], now: u64) -> Result<Parsed, String> {
    if bytes.len() > SIZE_MAX {
        return Err(format!("it has more than {} MiB", SIZE_MAX >> 20));
    }
    let parsed = match form {
        Form::Plain => text::plain(bytes),
        Form::Csv(column) => text::csv(bytes, *column),
        Form::Drop => text::drop(bytes),
        Form::Json { list, member } => json::read(bytes, list, member),
        Form::Apiban => apiban::page(bytes, now),
        Form::Crowdsec => crowdsec::decisions(bytes, now),
    }?;
    if parsed.listed.is_empty() && parsed.unread.count > 0 {
        let (place, text) = parsed.unread.first.unwrap_or_default();
        return Err(format!(
            "nothing in it is an address or a network in the form `{form}`; entry {place} is `{text}`"
        ));
    }
    Ok(parsed)
}

/// Adds an entry unless there are too many.
fn push(parsed: &mut Parsed, listed: Listed) -> Result<(), String> {
    if parsed.listed.len() >= ENTRIES_MAX {
        return Err(format!("it has more than {ENTRIES_MAX} entries"));
    }
    parsed.listed.push(listed);
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use ipnet::{Ipv4Net, Ipv6Net};
    use proptest::prelude::*;

    use super::*;

    fn forms() -> impl Strategy<Value = Form> {
        const TEXTS: [&str; 9] = [
            "plain",
            "csv:1",
            "csv:3",
            "drop",
            "json:",
            "json:/a",
            "json:/a#/b",
            "apiban",
            "crowdsec",
        ];
        proptest::sample::select(TEXTS.as_slice()).prop_map(|text| text.parse().unwrap())
    }

    fn networks() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 0..=32_u8)
            .prop_map(|(bits, length)| Ipv4Net::new_assert(Ipv4Addr::from(bits), length).into());
        let v6 = (any::<u128>(), 0..=128_u8)
            .prop_map(|(bits, length)| Ipv6Net::new_assert(Ipv6Addr::from(bits), length).into());
        prop_oneof![v4, v6]
    }

    fn overlap(one: IpNet, other: IpNet) -> bool {
        one.contains(&other) || other.contains(&one)
    }

    proptest! {
        #[test]
        fn no_bytes_panic(form in forms(), bytes in any::<Vec<u8>>()) {
            drop(parse(&form, &bytes, 1));
        }

        #[test]
        fn no_text_of_a_form_panics(form in forms(), text in "[\\[\\]{}:,\"a-c0-9./;# \\n]{0,80}") {
            drop(parse(&form, text.as_bytes(), 1));
        }

        #[test]
        fn no_bogon_and_nothing_protected_comes_out(
            listed in proptest::collection::vec(networks(), 0..40),
            never in proptest::collection::vec(networks(), 0..4),
        ) {
            let lines: Vec<String> = listed.iter().map(ToString::to_string).collect();
            let text = lines.join("\n");
            let parsed = parse(&Form::Plain, text.as_bytes(), 1).unwrap();
            let list = List::new(parsed.listed, &never);
            for entry in list.entries() {
                prop_assert!(!is_bogon(entry.network), "{}", entry.network);
                prop_assert!(never.iter().all(|no| !no.contains(&entry.network)));
                prop_assert_eq!(entry.network, entry.network.trunc());
            }
            // Whatever was listed and may be banned is covered, and nothing else.
            for network in &listed {
                let network = network.trunc();
                let is_listed = list.entries().iter().any(|entry| entry.network.contains(&network));
                if is_listed {
                    continue;
                }
                let may = is_bogon(network)
                    || network.prefix_len() < bogons::widest(network)
                    || never.iter().any(|no| no.contains(&network));
                prop_assert!(may, "{network} is lost");
            }
            for entry in list.entries() {
                prop_assert!(listed.iter().any(|network| overlap(network.trunc(), entry.network)));
            }
        }

        #[test]
        fn a_change_leads_from_one_list_to_the_other(
            old in proptest::collection::vec((networks(), 0..3_u32), 0..30),
            new in proptest::collection::vec((networks(), 0..3_u32), 0..30),
        ) {
            let list = |entries: Vec<(IpNet, u32)>| {
                let entries = entries.into_iter().map(|(network, until)| Listed { network, until });
                List::new(entries.collect(), &[])
            };
            let (old, new) = (list(old), list(new));
            let change = new.since(&old);
            let mut becomes: Vec<Listed> = old.entries().to_vec();
            becomes.retain(|entry| {
                !change.removed.contains(&entry.network)
                    && change.added.iter().all(|new| new.network != entry.network)
            });
            becomes.extend(&change.added);
            becomes.sort_unstable();
            prop_assert_eq!(becomes, new.entries());
            let text = to_kept(&new);
            prop_assert_eq!(from_kept(&text).unwrap(), new);
        }
    }
}

//! APIBAN's pages of addresses: each names the next one, and the last one says that there are none.

use std::borrow::Cow;

use serde::Deserialize;

use crate::list::Listed;
use crate::text::network;
use crate::{Parsed, push};

/// The place where the list begins.
pub const FIRST: &str = "100";

/// How long an address counts. APIBAN releases each after seven days and does not say so.
const LASTS: u64 = 7 * 86_400;

/// The longest place.
const PLACE_MAX: usize = 32;

#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow, default)]
    ipaddress: Vec<Cow<'a, str>>,
    #[serde(rename = "ID", borrow)]
    id: Cow<'a, str>,
}

/// Reads a page that was fetched at `now`.
pub(crate) fn page(bytes: &[u8], now: u64) -> Result<Parsed, String> {
    let Ok(page) = serde_json::from_slice::<Page<'_>>(bytes) else {
        return Err("it is not a page of APIBAN; is the key right?".to_owned());
    };
    let mut parsed = Parsed::default();
    if page.id == "none" {
        return Ok(parsed);
    }
    if page.id.is_empty()
        || page.id.len() > PLACE_MAX
        || !page.id.bytes().all(|b| b.is_ascii_digit())
    {
        return Err("the place of the next page is not a number".to_owned());
    }
    let until = u32::try_from(now.saturating_add(LASTS)).unwrap_or(u32::MAX);
    for (place, text) in (1..).zip(page.ipaddress) {
        match network(&text) {
            Some(network) => push(&mut parsed, Listed { network, until })?,
            None => parsed.unread.add(place, text.as_bytes()),
        }
    }
    parsed.next = Some(page.id.into_owned());
    Ok(parsed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other() {
        let parsed = page(br#"{"ipaddress":["185.0.0.1","x"],"ID":"1611763"}"#, 1000).unwrap();
        assert_eq!((parsed.listed.len(), parsed.unread.count), (1, 1));
        assert_eq!((parsed.listed[0].until, parsed.next.as_deref()), (605_800, Some("1611763")));
        let last = page(br#"{"ipaddress":["no new bans"],"ID":"none"}"#, 1000).unwrap();
        assert_eq!(last, Parsed::default());
        for wrong in [r#"{"ID":"../x"}"#, r#"{"ID":""}"#, "unauthorized", r#"{"ipaddress":[]}"#] {
            assert!(page(wrong.as_bytes(), 1000).is_err(), "{wrong}");
        }
    }
}

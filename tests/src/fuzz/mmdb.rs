//! Any database of countries and networks.

use std::collections::BTreeSet;
use std::net::IpAddr;

use geo::{Database, Policy, V6_ENTRIES_MAX, compile, is_subject};

/// Addresses that are looked up: at the ends, in the middle, and of a form that has another inside it.
const ADDRESSES: [&str; 6] =
    ["0.0.0.0", "81.2.69.142", "255.255.255.255", "::", "2001:218::1", "2002:5102:458e::"];

/// Checks that no database makes the reader panic, read what is not there, or take longer than its size allows, and
/// that a policy over it never shuts out an address that is not in use on the Internet.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    let addresses = ADDRESSES.map(|address| address.parse::<IpAddr>().expect("an address"));
    let Ok(database) = Database::read(data.to_vec()) else { return };
    assert!(!database.kind().contains(char::is_control));
    for address in addresses {
        let name = database.place(address).organisation.unwrap_or_default();
        assert!(!name.contains(char::is_control), "{name:?}");
    }
    let selectors = ["GB", "CN", "AS1221"].map(|name| name.parse().expect("a selector"));
    let databases = [("a".to_owned(), database)];
    for policy in [Policy::Ban(selectors.into()), Policy::Admit(selectors.into())] {
        let Ok(table) = compile(&databases, &policy) else { continue };
        assert!(table.entries(&BTreeSet::new()).len() <= V6_ENTRIES_MAX);
        for address in addresses {
            assert!(is_subject(address) || !table.shuts_out(address), "{address} is shut out");
        }
    }
}

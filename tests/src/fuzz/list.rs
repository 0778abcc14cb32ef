//! Any document of a feed, in every form.

use feeds::{Form, List, apply, from_kept, is_bogon, judge, parse, to_kept};
use ipnet::IpNet;

/// The forms, of which the first byte of an input chooses one.
const FORMS: [&str; 8] =
    ["plain", "csv:2", "drop", "json:", "json:/data#/ip", "json:/0/a", "apiban", "crowdsec"];

/// The time at which a document was fetched.
const NOW: u64 = 1_800_000_000;

/// Checks that no document makes a parser panic, that no bogon and nothing protected comes out, and that a list
/// that is kept is read back.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    let Some((choice, document)) = data.split_first() else { return };
    let form = FORMS[usize::from(*choice) % FORMS.len()].parse::<Form>().expect("a form");
    let Ok(parsed) = parse(&form, document, NOW) else { return };
    let protected: [IpNet; 2] =
        ["192.0.2.0/24".parse().expect("a network"), "185.0.0.0/16".parse().expect("a network")];
    let list = List::new(parsed.listed, &protected);
    for entry in list.entries() {
        assert!(!is_bogon(entry.network), "{}", entry.network);
        assert!(entry.network.prefix_len() >= 8, "{}", entry.network);
        assert!(!protected.iter().any(|no| no.contains(&entry.network)), "{}", entry.network);
    }
    assert!(list.entries().is_sorted(), "the list is not sorted");
    assert_eq!(from_kept(&to_kept(&list)).as_ref(), Ok(&list));
    let later = apply(&list, Vec::new(), &parsed.deleted, NOW);
    assert!(later.entries().len() <= list.entries().len());
    assert!(later.since(&later).added.is_empty());
    // Any answer will do.
    let _judged = judge(Some(100), &list);
}

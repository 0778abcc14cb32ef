use api::{AuditPart, Transport};
use proptest::prelude::*;

use super::*;
use crate::facts::{Facts, Interface, Owner, Socket};
use crate::report;

/// Fails unless each element is closed in its place, and nothing is fetched.
fn check(page: &str) -> Result<(), String> {
    let (mut open, mut rest) = (Vec::new(), page);
    while let Some((_text, after)) = rest.split_once('<') {
        let (tag, after) = after.split_once('>').ok_or("a tag without an end")?;
        rest = after;
        let name = tag.split([' ', '/']).find(|word| !word.is_empty()).unwrap_or_default();
        if tag.contains(" src=")
            || tag.contains("url(")
            || (name == "a") != tag.contains("href=") && !tag.starts_with('/')
        {
            return Err(format!("<{tag}> fetches something"));
        }
        match name {
            "!DOCTYPE" | "meta" => {}
            _ if tag.starts_with('/') => {
                let last = open.pop();
                if last != Some(name) {
                    return Err(format!("</{name}> closes {last:?}"));
                }
            }
            "html" | "head" | "title" | "style" | "body" | "header" | "main" | "article" | "h1"
            | "h2" | "h3" | "p" | "span" | "dl" | "dt" | "dd" | "ul" | "li" | "pre" | "a"
            | "table" | "thead" | "tbody" | "tr" | "th" | "td" => open.push(name),
            other => return Err(format!("<{other}> is no element of this page")),
        }
    }
    if open.is_empty() { Ok(()) } else { Err(format!("not closed: {open:?}")) }
}

fn page_of(process: &str, unit: &str, host: &str) -> String {
    let socket = |transport, port| Socket {
        transport,
        address: "0.0.0.0".parse().unwrap(),
        port,
        v6_only: false,
        interface: None,
        inode: 1,
        uid: 7,
        owner: Some(Owner { pid: 9, process: process.to_owned(), unit: Some(unit.to_owned()) }),
    };
    let facts = Facts {
        host: host.to_owned(),
        wazo: true,
        sockets: vec![socket(Transport::Tcp, 5432), socket(Transport::Udp, 777)],
        users: [(7, host.to_owned())].into(),
        interfaces: vec![Interface {
            name: process.to_owned(),
            addresses: vec!["192.0.2.1".parse().unwrap()],
            filtered: false,
        }],
        unread: vec![api::Unread { what: process.to_owned(), why: unit.to_owned() }],
        ..Facts::default()
    };
    page(&report::report(facts, &[AuditPart::Ports], Vec::new()))
}

#[test]
fn a_page_is_whole() {
    let page = page_of("postgres", "postgresql.service", "pbx");
    check(&page).unwrap();
    for part in [
        "<title>Audit of pbx</title>",
        "class=\"critical\"",
        "listen_addresses = &#39;localhost&#39;",
        "@media print",
    ] {
        assert!(page.contains(part), "{part}");
    }
    for wrong in ["<p>", "<p></b>", "<img src=x>", "<p", "<script></script>"] {
        assert!(check(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_name_is_no_markup() {
    let page = page_of("<script>alert(1)", "x\"><img src=y>", "</title><b>");
    check(&page).unwrap();
    assert!(!page.contains("<script") && !page.contains("<img") && !page.contains("<b>"));
}

proptest! {
    #[test]
    fn no_name_breaks_the_page(process in any::<String>(), unit in "[<>&\"'a/ -]{0,20}", host in any::<String>()) {
        let page = page_of(&process, &unit, &host);
        prop_assert_eq!(check(&page), Ok(()));
    }
}

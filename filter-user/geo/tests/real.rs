//! Databases that MaxMind's own tool has written; `fixtures/README.md` says where they come from.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]
#![expect(clippy::disallowed_methods, reason = "the databases are files, read beside the crate")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use geo::{Database, Place, Policy, compile};
use ipnet::IpNet;

fn database(name: &str) -> Database {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name);
    Database::read(fs::read(file).unwrap()).unwrap()
}

fn place(database: &Database, address: &str) -> Place {
    database.place(address.parse::<IpAddr>().unwrap())
}

#[test]
fn countries_are_found() {
    let countries = database("GeoLite2-Country-Test.mmdb");
    assert_eq!(countries.kind(), "GeoLite2-Country");
    assert!(countries.built() > 1_500_000_000);
    for (address, country) in [
        ("81.2.69.142", Some("GB")),
        ("89.160.20.113", Some("SE")),
        ("111.235.163.255", Some("CN")),
        ("111.235.164.0", None),
        ("2001:218::1", Some("JP")),
        ("2001:250:ffff::1", Some("CN")),
        ("127.0.0.1", None),
    ] {
        let found = place(&countries, address).country.map(|found| found.to_string());
        assert_eq!(found.as_deref(), country, "{address}");
    }
}

#[test]
fn numbers_are_found() {
    let numbers = database("GeoLite2-ASN-Test.mmdb");
    let found = place(&numbers, "1.128.0.1");
    assert_eq!((found.asn, found.organisation.as_deref()), (Some(1221), Some("Telstra Pty Ltd")));
    let found = place(&numbers, "12.81.96.1");
    assert_eq!((found.asn, found.organisation), (Some(7018), None));
}

#[test]
fn a_policy_is_compiled() {
    let databases = || {
        ["GeoLite2-Country-Test.mmdb", "GeoLite2-ASN-Test.mmdb"]
            .map(|name| (name.to_owned(), database(name)))
    };
    let selectors = ["CN", "AS1221"].iter().map(|selector| selector.parse().unwrap()).collect();
    let table = compile(&databases(), &Policy::Ban(selectors)).unwrap();
    assert!(table.unknown.is_empty(), "{:?}", table.unknown);
    for (address, is_shut) in [
        ("111.235.160.1", true),
        ("1.128.0.1", true),
        ("81.2.69.142", false),
        ("2001:250::1", true),
        ("2001:218::1", false),
    ] {
        assert_eq!(table.shuts_out(address.parse().unwrap()), is_shut, "{address}");
    }
    let shut: Vec<IpNet> = table
        .entries(&BTreeSet::new())
        .iter()
        .filter(|entry| entry.is_shut)
        .map(|entry| entry.network.into())
        .collect();
    assert!(shut.contains(&"2001:250::/31".parse().unwrap()), "{shut:?}");
}

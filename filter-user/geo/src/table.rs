//! Compiles a policy over databases into the table that the program reads: a bit for each IPv4 /24, and the
//! fewest IPv6 networks.
//!
//! Must never shut out an address that the policy lets in. So a /24 is shut out only as a whole.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Range;

use feeds::{bogons, is_bogon};
use ipnet::{IpNet, Ipv6Net};

use crate::ranges::Ranges;
use crate::{Database, Policy, Selector};

/// The words of the bits of all IPv4 /24 networks.
pub const WORDS: usize = 1 << 18;

/// The most entries for IPv6 networks.
pub const V6_ENTRIES_MAX: usize = 1 << 18;

/// All networks that are assigned on the Internet.
const V6_ASSIGNED: Ipv6Net = Ipv6Net::new_assert(Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// An IPv6 network, and whether its addresses are shut out, unless those of a longer one are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Entry {
    /// The network.
    pub network: Ipv6Net,
    /// Whether it is shut out.
    pub is_shut: bool,
}

/// Whether a policy applies to an address: only to those that are in use on the Internet.
pub fn is_subject(address: IpAddr) -> bool {
    !is_bogon(IpNet::from(address))
}

/// Which addresses are shut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Table {
    bits: Vec<u64>,
    named_v6: Ranges,
    bans: bool,
    entries: Vec<Entry>,
    /// The networks of the databases that the policy names.
    pub named: u64,
    /// What the policy names and no database contains.
    pub unknown: BTreeSet<Selector>,
}

/// Compiles a policy.
///
/// # Errors
///
/// If a database is broken, or lacks what the policy needs.
pub fn compile(databases: &[(String, Database)], policy: &Policy) -> Result<Table, String> {
    let (mut v4, mut v6) = (Ranges::default(), Ranges::default());
    let (mut named, mut unknown) = (0, policy.selectors().clone());
    let (mut has_countries, mut has_numbers) = (false, false);
    for (name, database) in databases {
        let visit = |network: IpNet, place: &crate::Place| {
            has_countries |= place.country.is_some();
            has_numbers |= place.asn.is_some();
            let country = place.country.map(Selector::Country);
            let mut is_named = false;
            for selector in country.into_iter().chain(place.asn.map(Selector::As)) {
                if policy.selectors().contains(&selector) {
                    is_named = true;
                    unknown.remove(&selector);
                }
            }
            if is_named {
                named += 1;
                let (first, last) = (number(network.network()), number(network.broadcast()));
                if network.addr().is_ipv4() { &mut v4 } else { &mut v6 }.add(first, last);
            }
        };
        database.walk(visit).map_err(|why| format!("{name}: {why}"))?;
    }
    let wants = |is: fn(&Selector) -> bool| policy.selectors().iter().find(|one| is(one));
    if !has_countries && let Some(one) = wants(|one| matches!(one, Selector::Country(_))) {
        return Err(format!(
            "{one} is a country, but no database under `geo.databases` has countries"
        ));
    }
    if !has_numbers && let Some(one) = wants(|one| matches!(one, Selector::As(_))) {
        return Err(format!(
            "{one} is an AS number, but no database under `geo.databases` has these"
        ));
    }
    v4.join();
    v6.join();
    let bans = policy.is_ban();
    let entries = entries(&v6, bans)?;
    Ok(Table { bits: bits(&v4, bans), named_v6: v6, bans, entries, named, unknown })
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u32::from(v4).into(),
        IpAddr::V6(v6) => v6.into(),
    }
}

/// The bits of the /24 networks that are shut out.
fn bits(named: &Ranges, bans: bool) -> Vec<u64> {
    let mut bits = vec![if bans { 0 } else { u64::MAX }; WORDS];
    for (first, last) in named.iter() {
        // A ban needs the whole /24; one address of it suffices to admit it.
        let (from, to) = if bans {
            (first.saturating_add(0xff) >> 8, last.saturating_add(1) >> 8)
        } else {
            (first >> 8, (last >> 8).saturating_add(1))
        };
        let place = |number: u128| usize::try_from(number).unwrap_or(usize::MAX);
        set(&mut bits, place(from)..place(to), bans);
    }
    for network in bogons() {
        open(&mut bits, network);
    }
    bits
}

/// Clears the bits of the /24 networks of an IPv4 network.
fn open(bits: &mut [u64], network: IpNet) {
    if let IpNet::V4(network) = network {
        let place =
            |address: Ipv4Addr| usize::try_from(u32::from(address) >> 8).unwrap_or(usize::MAX);
        set(bits, place(network.network())..place(network.broadcast()).saturating_add(1), false);
    }
}

/// Sets or clears the bits of these /24 networks.
fn set(bits: &mut [u64], places: Range<usize>, value: bool) {
    let mut at = places.start;
    while at < places.end {
        let Some(word) = bits.get_mut(at >> 6) else { return };
        let count = (64 - (at & 63)).min(places.end - at);
        let mask = u64::MAX >> (64 - count) << (at & 63);
        *word = if value { *word | mask } else { *word & !mask };
        at += count;
    }
}

/// The entries of IPv6 networks.
fn entries(named: &Ranges, bans: bool) -> Result<Vec<Entry>, String> {
    let is_there = |network: &Ipv6Net| V6_ASSIGNED.contains(network);
    let network = |(first, length): (u128, u8)| Ipv6Net::new(first.into(), length).ok();
    let of_policy = named.networks(128).filter_map(network).filter(is_there);
    let mut entries = BTreeSet::new();
    entries.extend((!bans).then_some(Entry { network: V6_ASSIGNED, is_shut: true }));
    entries.extend(of_policy.map(|network| Entry { network, is_shut: bans }));
    for network in bogons() {
        if let IpNet::V6(network) = network {
            let inside = |entry: &Entry| network.contains(&entry.network);
            entries.retain(|entry| !inside(entry));
            entries.insert(Entry { network, is_shut: false });
        }
    }
    if entries.len() > V6_ENTRIES_MAX {
        return Err(format!(
            "what it names has {} IPv6 networks, more than the {V6_ENTRIES_MAX} that there is room for",
            entries.len()
        ));
    }
    Ok(entries.into_iter().collect())
}

impl Table {
    /// Whether the policy shuts this address out.
    pub fn shuts_out(&self, address: IpAddr) -> bool {
        match address {
            IpAddr::V4(v4) => {
                let place = u32::from(v4) >> 8;
                let word = usize::try_from(place >> 6).ok().and_then(|word| self.bits.get(word));
                word.is_some_and(|word| word >> (place & 63) & 1 != 0)
            }
            IpAddr::V6(v6) => is_subject(address) && self.named_v6.contains(v6.into()) == self.bans,
        }
    }

    /// The words of the bits, without these networks.
    pub fn words(&self, without: &BTreeSet<IpNet>) -> Vec<u64> {
        let mut bits = self.bits.clone();
        for network in without {
            open(&mut bits, *network);
        }
        bits
    }

    /// The entries of IPv6 networks, without these networks.
    pub fn entries(&self, without: &BTreeSet<IpNet>) -> Vec<Entry> {
        let without: Vec<Ipv6Net> = without
            .iter()
            .filter_map(|network| match network {
                IpNet::V6(network) => Some(network.trunc()),
                IpNet::V4(_) => None,
            })
            .collect();
        let is_inside = |entry: &Entry| without.iter().any(|one| one.contains(&entry.network));
        let kept = self.entries.iter().filter(|entry| !is_inside(entry)).copied();
        kept.chain(without.iter().map(|network| Entry { network: *network, is_shut: false }))
            .collect()
    }

    /// The number of IPv4 /24 networks that are shut out.
    pub fn shut_v4(&self) -> u64 {
        self.bits.iter().map(|word| u64::from(word.count_ones())).sum()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::writer::{Said, Writer, world};

    fn policy(text: &str) -> Policy {
        let (verb, names) = text.split_once(' ').unwrap();
        let names = names.split(',').map(|name| name.parse().unwrap()).collect();
        if verb == "ban" { Policy::Ban(names) } else { Policy::Admit(names) }
    }

    fn database(entries: &[(&str, &str)]) -> (String, Database) {
        let mut writer = Writer::default();
        for (network, said) in entries {
            let said = match said.strip_prefix("AS") {
                Some(number) => {
                    Said::As(number.parse().unwrap(), "Example\u{1b}[2J Ltd".to_owned())
                }
                None => Said::Country((*said).to_owned()),
            };
            writer.add(network.parse().unwrap(), &said);
        }
        ("test.mmdb".to_owned(), Database::read(writer.bytes("Test")).unwrap())
    }

    fn countries() -> (String, Database) {
        database(&[
            ("185.0.0.0/16", "DE"),
            ("185.0.7.0/25", "CN"),
            ("185.0.8.0/24", "CN"),
            ("185.1.0.0/16", "FR"),
            ("10.0.0.0/8", "CN"),
            ("2a00::/16", "DE"),
            ("2a00:7::/32", "CN"),
            ("2001:db8::/32", "CN"),
        ])
    }

    fn shut(table: &Table, addresses: &[&str]) -> Vec<bool> {
        addresses.iter().map(|address| table.shuts_out(address.parse().unwrap())).collect()
    }

    #[test]
    fn a_ban_shuts_out_what_it_names_and_nothing_else() {
        let table = compile(&[countries()], &policy("ban CN,XX")).unwrap();
        let no = ["185.0.0.1", "185.0.7.1", "185.0.7.200", "185.2.0.1", "10.0.0.1", "2a00::1"];
        assert_eq!(shut(&table, &no), [false; 6]);
        assert_eq!(shut(&table, &["2001:db8::1", "2c00::1", "fe80::1", "::1"]), [false; 4]);
        assert_eq!(shut(&table, &["185.0.8.0", "185.0.8.255", "2a00:7::1"]), [true; 3]);
        assert_eq!(table.shut_v4(), 1);
        assert_eq!(table.unknown.iter().map(ToString::to_string).collect::<Vec<_>>(), ["XX"]);
        let entries = table.entries(&BTreeSet::new());
        let shut: Vec<_> = entries.iter().filter(|entry| entry.is_shut).collect();
        assert_eq!(shut.len(), 1);
        assert_eq!(shut[0].network.to_string(), "2a00:7::/32");
    }

    #[test]
    fn to_admit_shuts_out_all_others_that_are_on_the_internet() {
        let table = compile(&[countries()], &policy("admit DE,CN")).unwrap();
        let yes = ["185.1.0.1", "8.8.8.8", "2c00::1", "2a01::1"];
        assert_eq!(shut(&table, &yes), [true; 4]);
        let no = ["185.0.0.1", "185.0.7.1", "10.0.0.1", "192.168.1.1", "100.64.0.1", "127.0.0.1"];
        assert_eq!(shut(&table, &no), [false; 6]);
        let no = ["2a00::1", "2a00:7::1", "fd00::1", "fe80::1", "2001:db8::1", "64:ff9b::1", "::1"];
        assert_eq!(shut(&table, &no), [false; 7]);
        // A /24 of which a part is admitted.
        let table = compile(&[countries()], &policy("admit CN")).unwrap();
        assert_eq!(shut(&table, &["185.0.7.200", "185.0.7.1", "185.0.6.1"]), [false, false, true]);
    }

    #[test]
    fn several_databases_add_up() {
        let numbers = database(&[("185.1.2.0/24", "AS64496"), ("2a00:8::/32", "AS64496")]);
        assert_eq!(numbers.1.place("185.1.2.9".parse().unwrap()).asn, Some(64496));
        let name = numbers.1.place("185.1.2.9".parse().unwrap()).organisation.unwrap();
        assert_eq!(name, "Example[2J Ltd");
        let both = [countries(), numbers];
        let table = compile(&both, &policy("ban CN,AS64496")).unwrap();
        let yes = ["185.0.8.1", "185.1.2.3", "2a00:7::1", "2a00:8::1"];
        assert_eq!(shut(&table, &yes), [true; 4]);
        assert!(compile(&both[..1], &policy("ban AS64496")).unwrap_err().contains("AS64496"));
        assert!(compile(&both[1..], &policy("ban CN")).unwrap_err().contains("no database"));
    }

    #[test]
    fn networks_can_be_left_out() {
        let table = compile(&[countries()], &policy("admit CN")).unwrap();
        let without: BTreeSet<IpNet> =
            ["185.1.0.7/32", "2a01::7/128", "8.0.0.0/8"].map(|text| text.parse().unwrap()).into();
        let words = table.words(&without);
        let is_shut = |text: &str| {
            let place = u32::from(text.parse::<Ipv4Addr>().unwrap()) >> 8;
            words[place as usize >> 6] >> (place & 63) & 1 != 0
        };
        assert!(!is_shut("185.1.0.7") && is_shut("185.1.1.7") && !is_shut("8.8.8.8"));
        let opened = Entry { network: "2a01::7/128".parse().unwrap(), is_shut: false };
        assert!(table.entries(&without).contains(&opened));
    }

    #[test]
    fn a_broken_database_is_an_error() {
        let mut writer = Writer::default();
        for n in 0..50_u8 {
            let network = format!("185.{n}.0.0/16").parse().unwrap();
            writer.add(network, &Said::Country("DE".to_owned()));
        }
        let whole = writer.bytes("Test");
        for cut in 0..whole.len() {
            let read = Database::read(whole[..cut].to_vec());
            assert!(read.is_err(), "{cut} of {}", whole.len());
        }
        assert!(Database::read(vec![0; 1000]).unwrap_err().contains("no MMDB database"));
        // The root leads to itself: a tree without an end.
        let mut circle = whole;
        circle[..8].fill(0);
        let tested = Database::read(circle)
            .and_then(|database| compile(&[(String::new(), database)], &policy("ban DE")));
        assert!(tested.unwrap_err().contains("broken"));
    }

    proptest! {
        #[test]
        fn no_change_of_a_byte_panics(place: usize, value: u8, address: u128) {
            let (mut bytes, policy) = (world(40), policy("admit AA,AB"));
            let place = place % bytes.len();
            bytes[place] = value;
            if let Ok(database) = Database::read(bytes) {
                database.place(IpAddr::V6(address.into()));
                drop(compile(&[(String::new(), database)], &policy));
            }
        }

        #[test]
        fn the_table_follows_the_database(addresses in proptest::collection::vec(any::<u32>(), 50)) {
            let database = Database::read(world(2000)).unwrap();
            let policy = policy("ban AB,AC,AD,BE,BF");
            let databases = [(String::new(), database)];
            let table = compile(&databases, &policy).unwrap();
            for address in addresses {
                let address = IpAddr::V4(address.into());
                let country = databases[0].1.place(address).country.map(Selector::Country);
                let named = country.is_some_and(|one| policy.selectors().contains(&one));
                prop_assert_eq!(table.shuts_out(address), named && is_subject(address), "{}", address);
            }
        }
    }

    /// A whole world: `cargo test --release -p geo -- --ignored --nocapture`.
    #[test]
    fn more_ipv6_networks_than_there_is_room_for_are_an_error() {
        let with = |count: u128| {
            let mut writer = Writer::default();
            for n in 0..count {
                // Not adjacent, so that they are not joined.
                let first = 0x2400_u128 << 112 | n << 81;
                let network = Ipv6Net::new(first.into(), 48).unwrap();
                writer.add(network.into(), &Said::Country("DE".to_owned()));
            }
            let database = Database::read(writer.bytes("Test-Country")).unwrap();
            compile(&[("full".to_owned(), database)], &policy("admit DE"))
        };
        let most = V6_ENTRIES_MAX as u128;
        let few = with(most / 2).unwrap().entries.len();
        let others = few as u128 - most / 2;
        assert_eq!(with(most - others).unwrap().entries.len(), V6_ENTRIES_MAX);
        let why = with(most - others + 1).unwrap_err();
        assert!(why.contains("has 262145 IPv6 networks"), "{why}");
    }

    #[test]
    #[ignore = "measures"]
    #[expect(clippy::disallowed_methods, reason = "measures")]
    fn a_whole_world() {
        let bytes = world(500_000);
        println!("{} bytes", bytes.len());
        let start = std::time::Instant::now();
        let databases = [(String::new(), Database::read(bytes).unwrap())];
        let read = start.elapsed();
        let table = compile(&databases, &policy("admit AA,AB,AC,AD,AE,AF,AG,AH,AI,AJ")).unwrap();
        println!("read {read:?}, compiled {:?}", start.elapsed());
        println!("{} named, {} /24, {} IPv6", table.named, table.shut_v4(), table.entries.len());
        let start = std::time::Instant::now();
        for n in 0..100_000_u32 {
            databases[0].1.place(IpAddr::V4((n * 40_000).into()));
        }
        println!("{:?} a look-up", start.elapsed() / 100_000);
    }
}

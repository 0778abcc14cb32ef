//! What is accepted, merged and refused.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};

use proptest::prelude::*;

use super::*;
use crate::record::write;

const HOUR: Time = 3_600_000;
const NOW: Time = 1_800_000_000_000;

fn view(accept: Accept) -> View {
    View::new("own".parse().unwrap(), accept)
}

fn record(seconds: u64, proven: bool) -> String {
    write(&BanRecord { jail: "sshd".to_owned(), proven, seconds })
}

fn key(host: &str, n: u32) -> String {
    Key::Ban(host.parse().unwrap(), network(n)).to_string()
}

fn network(n: u32) -> IpNet {
    IpAddr::from(Ipv4Addr::from(0xb900_0000 + n)).into()
}

fn put(view: &mut View, host: &str, n: u32, seconds: u64, at: Time) {
    view.take(&key(host, n), Update::Put(record(seconds, true).as_bytes()), at, at);
}

/// The bans that the daemon has after these changes, with their ends.
fn follow(has: &mut BTreeMap<IpNet, (String, Time)>, view: &mut View, now: Time) {
    loop {
        let changes = view.changes(now, 64);
        if changes.is_empty() && !view.has_changes() {
            break;
        }
        for change in changes {
            match change {
                Change::Ban { network, host, until, .. } => {
                    has.insert(network, (host.to_string(), until));
                }
                Change::Lift(network) => drop(has.remove(&network)),
            }
        }
    }
    has.retain(|_, (_, until)| *until > now);
}

fn banned(view: &mut View, now: Time) -> Vec<(String, Time)> {
    let mut has = BTreeMap::new();
    view.tell_again();
    follow(&mut has, view, now);
    has.into_values().collect()
}

fn refused(view: &View, host: &str) -> Refused {
    view.hosts().find(|report| report.host.as_str() == host).unwrap().refused
}

#[test]
fn a_proven_ban_counts_until_its_end_and_an_unproven_one_does_not() {
    let mut view = view(Accept::default());
    put(&mut view, "a", 1, 3600, NOW);
    view.take(&key("a", 2), Update::Put(record(3600, false).as_bytes()), NOW, NOW);
    put(&mut view, "own", 3, 3600, NOW);
    put(&mut view, "a", 4, 30 * 24 * 3600, NOW);
    let day = 24 * HOUR;
    assert_eq!(banned(&mut view, NOW), [("a".to_owned(), NOW + HOUR), ("a".to_owned(), NOW + day)]);
    assert_eq!(refused(&view, "a"), Refused { unproven: 1, ..Refused::default() });
    view.take(&key("a", 4), Update::Delete, NOW, NOW);
    assert_eq!(view.changes(NOW, 9), [Change::Lift(network(4))]);
    // Its end needs no message, and nothing is kept.
    assert_eq!(view.changes(NOW + HOUR, 9), []);
    assert_eq!((view.told(), view.claims.len(), view.ends.len()), (0, 0, 0));
}

#[test]
fn unproven_bans_throttle_if_they_are_wanted() {
    let mut view = view(Accept { proven: false, hosts: 2, ..Accept::default() });
    view.take(&key("a", 1), Update::Put(record(60, false).as_bytes()), NOW, NOW);
    put(&mut view, "b", 1, 60, NOW);
    let is_proven = |changes: Vec<Change>| match &changes[..] {
        [Change::Ban { proven, hosts, .. }] => (*proven, *hosts),
        _ => panic!("{changes:?}"),
    };
    assert_eq!(is_proven(view.changes(NOW, 9)), (false, 2));
    put(&mut view, "c", 1, 60, NOW);
    assert_eq!(is_proven(view.changes(NOW, 9)), (true, 2));
}

#[test]
fn a_host_whose_clock_is_wrong_changes_nothing() {
    // No record has a time of its host. A server whose clock is ahead makes no ban longer.
    let mut view = view(Accept::default());
    let text = record(3600, true);
    view.take(&key("a", 1), Update::Put(text.as_bytes()), NOW + 24 * HOUR, NOW);
    assert_eq!(banned(&mut view, NOW), [("a".to_owned(), NOW + HOUR)]);
    // One that is read after days has ended.
    view.take(&key("a", 2), Update::Put(text.as_bytes()), NOW - 48 * HOUR, NOW);
    assert_eq!(banned(&mut view, NOW).len(), 1);
}

#[test]
fn a_host_that_goes_mad_is_bounded_and_cut_off_by_name() {
    let mut view = view(Accept { most: 3000, ..Accept::default() });
    put(&mut view, "good", 1, 3600, NOW);
    for second in 0..3 {
        for n in 0..10_000 {
            put(&mut view, "mad", second * 10_000 + n, 3600, NOW + u64::from(second) * 1000);
        }
    }
    let now = NOW + 3000;
    let counted = view.hosts().find(|report| report.host.as_str() == "mad").unwrap().bans;
    assert_eq!(counted, 2100);
    assert_eq!(refused(&view, "mad").rate, 30_000 - 2100);
    for n in 0..5000 {
        put(&mut view, "mad", 50_000 + n, 3600, now + HOUR / 2);
    }
    assert_eq!(refused(&view, "mad").most, 1100);
    view.take("cuts.mad", Update::Put(b"{\"v\":1}"), now, now);
    assert_eq!(banned(&mut view, now), [("good".to_owned(), NOW + HOUR)]);
    put(&mut view, "mad", 7, 3600, now);
    assert_eq!(refused(&view, "mad").cut, 1);
    assert!(!view.must_read_again());
    view.take("cuts.mad", Update::Delete, now, now);
    assert!(view.must_read_again());
}

#[test]
fn what_finds_no_room_waits() {
    let mut view = view(Accept { total: 2, ..Accept::default() });
    for n in 1..=4 {
        put(&mut view, "a", n, 60 * u64::from(n), NOW);
    }
    let mut has = BTreeMap::new();
    follow(&mut has, &mut view, NOW);
    assert_eq!((has.len(), view.waiting()), (2, 2));
    follow(&mut has, &mut view, NOW + 61_000);
    assert_eq!((has.len(), view.waiting()), (2, 1));
    follow(&mut has, &mut view, NOW + 121_000);
    assert_eq!((has.len(), view.waiting()), (2, 0));
}

#[test]
fn the_number_of_hosts_and_allowed_networks_is_bounded() {
    let mut view = view(Accept::default());
    for n in 0..2 * HOSTS_MAX {
        put(&mut view, &format!("h{n}"), u32::try_from(n).unwrap(), 60, NOW);
    }
    assert_eq!((view.hosts().count(), view.strange()), (HOSTS_MAX, HOSTS_MAX as u64));
    for n in 0..100_u32 {
        let key = Key::Allow(network(n));
        let text = br#"{"v":1,"comment":"office","seconds":60}"#;
        view.take(&key.to_string(), Update::Put(text), NOW, NOW);
    }
    view.take("allows.00000000-0", Update::Put(b"{\"v\":1}"), NOW, NOW);
    assert_eq!(view.allows(NOW).len(), ALLOWS_MAX);
    assert!(view.allows(NOW + 60_000).is_empty());
}

#[test]
fn maintenance_begins_at_its_stamp_and_ends_by_itself() {
    let mut view = view(Accept::default());
    let mut says = |text: &str, now: Time| {
        let update = if text.is_empty() { Update::Delete } else { Update::Put(text.as_bytes()) };
        view.take("maintenance.all", update, NOW, NOW);
        view.maintenance(now)
    };
    let record = r#"{"v":1,"comment":"database","seconds":600,"closed_to_known":true}"#;
    let asked = says(record, NOW + 60_000);
    let comment = "database".to_owned();
    assert_eq!(asked, Closing { stamp: NOW, seconds: 540, closed_to_known: true, comment });
    assert_eq!(says(record, NOW + 600_000).seconds, 0);
    // A stamp that is ahead makes it no longer, and neither does an absurd length.
    assert_eq!(says(record, NOW - HOUR).seconds, 600);
    assert!(says(&format!(r#"{{"v":1,"seconds":{}}}"#, u64::MAX), NOW).seconds > 0);
    for nothing in ["", r#"{"v":1}"#, r#"{"v":9,"seconds":600}"#, r#"{"v":1,"seconds":-1}"#] {
        assert_eq!(says(record, NOW).seconds, 600);
        assert_eq!(says(nothing, NOW), Closing::default(), "{nothing}");
    }
    // What a host says in its own name closes nothing.
    view.take("maintenance.pbx-3", Update::Put(record.as_bytes()), NOW, NOW);
    assert_eq!(view.maintenance(NOW), Closing::default());
}

fn updates() -> impl Strategy<Value = Vec<(u8, u8, Option<u16>, u16)>> {
    // Host, address, the seconds of a ban or a deletion, and the time since the last.
    let seconds = proptest::option::weighted(0.8, 1..2000_u16);
    proptest::collection::vec((0..5_u8, 0..8_u8, seconds, 0..400_u16), 0..80)
}

proptest! {
    /// Whatever the order in which changes are taken, the daemon has what a plain model of the records has.
    #[test]
    fn the_daemon_has_what_enough_hosts_ban(updates in updates(), hosts in 1..4_u32, every in 1..6_usize) {
        let mut view = view(Accept { hosts, ..Accept::default() });
        let mut model: BTreeMap<(u8, u8), Time> = BTreeMap::new();
        let (mut has, mut now) = (BTreeMap::new(), NOW);
        for (turn, (host, address, seconds, passed)) in updates.into_iter().enumerate() {
            now += u64::from(passed) * 1000;
            let name = if host == 0 { "own".to_owned() } else { format!("h{host}") };
            if let Some(seconds) = seconds {
                put(&mut view, &name, address.into(), seconds.into(), now);
                model.insert((address, host), now + u64::from(seconds) * 1000);
            } else {
                view.take(&key(&name, address.into()), Update::Delete, now, now);
                model.remove(&(address, host));
            }
            if turn % every != 0 {
                continue;
            }
            follow(&mut has, &mut view, now);
            for address in 0..8_u8 {
                let mut ends: Vec<Time> = (1..5).filter_map(|host| model.get(&(address, host)).copied()).collect();
                ends.retain(|end| *end > now);
                ends.sort_unstable_by(|a, b| b.cmp(a));
                let expected = usize::try_from(hosts).ok().and_then(|hosts| ends.get(hosts - 1).copied());
                let network = network(address.into());
                let found = has.get(&network).map(|(_, end)| *end);
                match (found, expected) {
                    (None, None) => {}
                    (Some(found), Some(expected)) => prop_assert!(found.abs_diff(expected) < SLACK),
                    (Some(end), None) | (None, Some(end)) if end < now + SLACK => {}
                    other => prop_assert!(false, "{network}: {other:?}"),
                }
            }
        }
        follow(&mut has, &mut view, now);
        // And everything again after a loss of the daemon. Ends may differ by the slack.
        let mut again = BTreeMap::new();
        view.tell_again();
        follow(&mut again, &mut view, now);
        let lasts = |(_, (_, end)): &(&IpNet, &(_, Time))| *end >= now + 2 * SLACK;
        for (network, _) in has.iter().filter(lasts) {
            prop_assert!(again.contains_key(network));
        }
        for (network, _) in again.iter().filter(lasts) {
            prop_assert!(has.contains_key(network));
        }
    }

    #[test]
    fn no_update_panics(key in "[a-z]{0,6}[.a-f0-9-]{0,20}", bytes in any::<Vec<u8>>(), at in any::<u64>(), now in any::<u64>()) {
        let mut view = view(Accept::default());
        view.take(&key, Update::Put(&bytes), at, now);
        view.take("bans.a.b9000042-32", Update::Put(record(at, true).as_bytes()), at, now);
        drop((view.changes(now, 9), view.allows(now), view.maintenance(now)));
    }
}

use super::*;
use crate::ban::InForce;
use crate::clock::Moment;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn entry(network: &str, origin: Origin, scope: Scope, until: Option<u64>) -> Entry {
    let (network, until) = (net(network), until.map(KernelTime));
    Entry::new(Ban { network, scope, origin, since: Moment(1), until }, "")
}

fn manual(network: &str, until: Option<u64>) -> Entry {
    entry(network, Origin::Manual, Scope::Sip, until)
}

/// The entries of a kernel after all of `writes`.
fn held(writes: &[Write]) -> InForce {
    let (mut addresses, mut networks) = (BTreeMap::new(), BTreeMap::new());
    for write in writes {
        match write {
            Write::Address(entry) => drop(addresses.insert(entry.address, *entry)),
            Write::NoAddress(address) => drop(addresses.remove(address)),
            Write::Network(entry) => drop(networks.insert(entry.network, *entry)),
            Write::NoNetwork(network) => drop(networks.remove(network)),
        }
    }
    InForce {
        addresses: addresses.into_values().collect(),
        networks: networks.into_values().collect(),
    }
}

#[test]
fn bans_end_in_order_and_once() {
    let mut ledger = Ledger::default();
    ledger.insert(manual("192.0.2.1/32", Some(20)));
    ledger.insert(manual("192.0.2.2/32", Some(10)));
    ledger.insert(manual("192.0.2.3/32", None));
    // Entered again, it ends only at its new time.
    ledger.insert(manual("192.0.2.1/32", Some(30)));
    assert_eq!(ledger.next_end(), Some(KernelTime(10)));
    let (ended, writes) = ledger.pop_ended(KernelTime(25)).unwrap();
    assert_eq!(ended.ban.network, net("192.0.2.2/32"));
    assert_eq!(writes, [Write::NoAddress(IpAddr::from([192, 0, 2, 2]))]);
    assert!(ledger.pop_ended(KernelTime(25)).is_none());
    assert!(ledger.pop_ended(KernelTime(30)).is_some());
    assert!(ledger.pop_ended(KernelTime(u64::MAX)).is_none());
    assert_eq!(ledger.len(), 1);
}

#[test]
fn bans_of_one_address_are_one_entry_that_narrows() {
    let mut ledger = Ledger::default();
    let last = |writes: Vec<Write>| match writes[..] {
        [Write::Address(entry)] => {
            let scopes: Vec<Scope> = entry.scopes.iter().collect();
            (scopes, entry.until.map(|until| until.0), entry.origin)
        }
        ref other => panic!("{other:?}"),
    };
    let (sip, all) = (Scope::Sip, Scope::All);
    let written = last(ledger.insert(entry("192.0.2.1/32", Origin::Jail(0), sip, Some(10))));
    assert_eq!(written, (vec![sip], Some(10), Origin::Jail(0)));
    let written = last(ledger.insert(entry("192.0.2.1/32", Origin::Jail(1), all, Some(30))));
    assert_eq!(written, (vec![sip, all], Some(30), Origin::Jail(1)));
    assert_eq!(ledger.len(), 2);
    let (_, writes) = ledger.pop_ended(KernelTime(10)).unwrap();
    assert_eq!(last(writes), (vec![all], Some(30), Origin::Jail(1)));
    // Of manual bans, only the last one remains.
    ledger.insert(entry("192.0.2.1/32", Origin::Manual, Scope::All, None));
    let written = last(ledger.insert(entry("192.0.2.1/32", Origin::Manual, sip, Some(20))));
    assert_eq!(written, (vec![sip, all], Some(30), Origin::Jail(1)));
    assert_eq!(ledger.len(), 2);
}

#[test]
fn an_exception_is_written_before_its_ban_and_deleted_after_it() {
    let mut ledger = Ledger::default();
    let exception = net("198.51.100.7/32");
    let ban = manual("198.51.100.0/24", Some(10)).with_except(vec![exception]);
    let networks = |writes: &[Write]| -> Vec<(IpNet, Option<bool>)> {
        let of_network = writes.iter().filter_map(|write| match write {
            Write::Network(entry) => Some((entry.network, Some(entry.ends.is_empty()))),
            Write::NoNetwork(network) => Some((*network, None)),
            Write::Address(_) | Write::NoAddress(_) => None,
        });
        of_network.collect()
    };
    let writes = ledger.insert(ban.clone());
    assert_eq!(networks(&writes), [(exception, Some(true)), (net("198.51.100.0/24"), Some(false))]);
    assert_eq!(ledger.of(exception.addr()).len(), 0);
    assert_eq!(ledger.of(IpAddr::from([198, 51, 100, 8])).len(), 1);
    // The excepted address can still be banned itself.
    let writes = ledger.insert(manual("198.51.100.7/32", Some(20)));
    assert!(matches!(writes[..], [Write::Address(_)]), "{writes:?}");
    assert_eq!(ledger.of(exception.addr()).len(), 1);
    // Entered again with another exception, it loses the first.
    let other = net("198.51.100.9/32");
    let writes = ledger.insert(ban.with_except(vec![other]));
    assert_eq!(networks(&writes), [(other, Some(true)), (exception, None)]);
    let (_, writes) = ledger.pop_ended(KernelTime(10)).unwrap();
    assert_eq!(networks(&writes), [(net("198.51.100.0/24"), None), (other, None)]);
}

#[test]
fn bans_in_the_kernel_are_adopted() {
    let mut ledger = Ledger::default();
    let exception = net("198.51.100.64/28");
    let mut writes = ledger.insert(manual("198.0.0.0/8", Some(100)));
    writes.extend(ledger.insert(
        entry("198.51.100.0/24", Origin::Manual, Scope::All, None).with_except(vec![exception]),
    ));
    writes.extend(ledger.insert(entry("198.51.100.65/32", Origin::Jail(0), Scope::Sip, Some(50))));
    writes.extend(ledger.insert(entry("198.51.100.65/32", Origin::Jail(1), Scope::All, Some(9))));
    let held_before = held(&writes);
    let mut again = Ledger::default();
    let none = HashSet::new();
    let done = again.reconcile(&held_before, &none, KernelTime(8), "before", |_| true);
    assert_eq!((done.writes, done.adopted.len()), (vec![], again.len()));
    assert_eq!(again.of(IpAddr::from([198, 51, 100, 66])).len(), 0);
    assert_eq!(again.of(IpAddr::from([198, 51, 100, 1])).len(), 2);
    // A ban that has ended, or is not wanted, is neither adopted nor left in the kernel.
    let mut later = Ledger::default();
    let wanted = |network: IpNet| network != net("198.51.100.65/32");
    let gone = later.reconcile(&held_before, &none, KernelTime(100), "before", wanted).writes;
    assert_eq!(gone.len(), 3, "{gone:?}");
    assert!(gone.contains(&Write::NoNetwork(net("198.51.100.65/32"))));
    assert!(gone.contains(&Write::NoNetwork(net("198.0.0.0/8"))));
    assert_eq!(later.len(), 1);
}

#[test]
fn the_bans_inside_a_network_are_those_that_a_search_finds() {
    let mut ledger = Ledger::default();
    let networks = [
        "10.0.0.0/8",
        "192.0.2.0/24",
        "192.0.2.0/25",
        "192.0.2.0/32",
        "192.0.2.64/28",
        "192.0.2.255/32",
        "192.0.3.0/32",
        "192.0.1.255/32",
        "2001:db8::/32",
        "2001:db8::/64",
        "2001:db8::7/128",
        "2001:db9::/64",
        "::ffff:0:0/128",
    ];
    for network in networks {
        ledger.insert(manual(network, None));
        ledger.insert(entry(network, Origin::Jail(1), Scope::All, None));
    }
    for around in networks.into_iter().chain(["192.0.2.0/23", "2000::/8", "172.16.0.0/12"]) {
        let around = net(around);
        let found: Vec<IpNet> = ledger.inside(around).map(|entry| entry.ban.network).collect();
        let all = ledger.iter().map(|entry| entry.ban.network);
        let expected: Vec<IpNet> = all
            .filter(|other| around.trunc().contains(other) && *other != around.trunc())
            .collect();
        assert_eq!(found, expected, "{around}");
    }
}

/// The scopes that a kernel with these entries closes to an address at a time: `policy::bans` in short.
fn closed(held: &InForce, address: IpAddr, now: KernelTime) -> Vec<Scope> {
    let ends_after = |until: Option<KernelTime>| until.is_none_or(|until| now < until);
    let own = held.addresses.iter().find(|entry| entry.address == address);
    let mut scopes: Vec<Scope> = own
        .filter(|entry| ends_after(entry.until))
        .map_or(Vec::new(), |entry| entry.scopes.iter().collect());
    let longest = held.networks.iter().filter(|entry| entry.network.contains(&address));
    let longest = longest.max_by_key(|entry| entry.network.prefix_len());
    let of_network = longest.iter().flat_map(|entry| entry.ends.iter());
    scopes.extend(of_network.filter(|(_, until)| ends_after(*until)).map(|(scope, _)| scope));
    if scopes.contains(&Scope::All) {
        return vec![Scope::All];
    }
    scopes.sort();
    scopes.dedup();
    scopes
}

#[test]
fn each_scope_of_an_address_opens_when_its_own_ban_ends() {
    let address = IpAddr::from([192, 0, 2, 1]);
    let (sip, ssh) = (Scope::Sip, Scope::Ports(1));
    let mut ledger = Ledger::default();
    let mut writes = ledger.insert(entry("192.0.2.1/32", Origin::Jail(0), sip, Some(10)));
    writes.extend(ledger.insert(entry("192.0.2.1/32", Origin::Manual, ssh, None)));
    // If the process ends here, the kernel ends each scope by itself.
    let kernel = held(&writes);
    assert_eq!(closed(&kernel, address, KernelTime(9)), [sip, ssh]);
    assert_eq!(closed(&kernel, address, KernelTime(10)), [ssh]);
    // The next daemon's ledger agrees with the kernel.
    let mut again = Ledger::default();
    again.load(ledger.iter().cloned().collect());
    let done = again.reconcile(&kernel, &HashSet::new(), KernelTime(5), "before", |_| true);
    assert_eq!((done.writes, done.adopted), (vec![], vec![]));
    // A ledger without these bans adopts both, each with its end.
    let mut anew = Ledger::default();
    let done = anew.reconcile(&kernel, &HashSet::new(), KernelTime(5), "before", |_| true);
    let adopted: Vec<_> = done.adopted.iter().map(|e| (e.ban.scope, e.ban.until)).collect();
    assert_eq!(adopted, [(sip, Some(KernelTime(10))), (ssh, None)]);
    // When one has ended, the entry is that of an address again.
    let (_, more) = ledger.pop_ended(KernelTime(10)).unwrap();
    assert!(matches!(more[0], Write::Address(_)), "{more:?}");
    writes.extend(more);
    let kernel = held(&writes);
    assert_eq!((kernel.addresses.len(), kernel.networks.len()), (1, 0));
    assert_eq!(closed(&kernel, address, KernelTime(11)), [ssh]);
}

#[test]
fn an_entry_with_one_end_becomes_one_with_an_end_for_each_scope() {
    let address = IpAddr::from([192, 0, 2, 1]);
    let (sip, ssh) = (Scope::Sip, Scope::Ports(1));
    let bans = [
        entry("192.0.2.1/32", Origin::Jail(0), sip, Some(10)),
        entry("192.0.2.1/32", Origin::Manual, ssh, None),
    ];
    let mut ledger = Ledger::default();
    ledger.load(bans.to_vec());
    let scopes = Scopes::default().and(sip).and(ssh);
    let (origin, since) = (Origin::Manual, KernelTime(1));
    let merged = AddressEntry { address, scopes, origin, since, until: None };
    let before = InForce { addresses: vec![merged], networks: Vec::new() };
    let done = ledger.reconcile(&before, &HashSet::new(), KernelTime(5), "before", |_| true);
    assert!(matches!(done.writes[..], [Write::Network(_), Write::NoAddress(_)]), "{done:?}");
    assert_eq!(closed(&held(&done.writes), address, KernelTime(10)), [ssh]);
}

#[test]
fn the_kernel_always_closes_what_the_bans_close() {
    let mut random = fastrand::Rng::with_seed(7);
    let address = IpAddr::from([192, 0, 2, 1]);
    let networks = ["192.0.2.1/32", "192.0.2.1/32", "192.0.2.0/24", "192.0.0.0/16"];
    let scopes = [Scope::Sip, Scope::Ports(1), Scope::Ports(2), Scope::All];
    let origins = [Origin::Manual, Origin::Jail(0), Origin::Jail(1)];
    for _ in 0..500 {
        let (mut ledger, mut writes) = (Ledger::default(), Vec::new());
        for _ in 0..random.usize(1..6) {
            let network = networks[random.usize(..networks.len())];
            let until = Some(random.u64(1..20)).filter(|until| *until < 18);
            let (origin, scope) =
                (origins[random.usize(..origins.len())], scopes[random.usize(..scopes.len())]);
            let entry = entry(network, origin, scope, until);
            writes.extend(ledger.insert(entry));
            if random.u8(..4) == 0 {
                let first = ledger.iter().next().unwrap().clone();
                writes.extend(ledger.remove(&first));
            }
        }
        for origin in origins {
            let bans = ledger.iter().filter(|entry| entry.ban.origin == origin).count();
            assert_eq!(ledger.count(origin), bans);
        }
        let kernel = held(&writes);
        for now in 0..20 {
            let now = KernelTime(now);
            let mut expected: Vec<Scope> = ledger
                .of(address)
                .iter()
                .map(|e| e.ban)
                .filter(|ban| ban.in_force(now))
                .map(|ban| ban.scope)
                .collect();
            expected.sort();
            expected.dedup();
            if expected.contains(&Scope::All) {
                expected = vec![Scope::All];
            }
            assert_eq!(closed(&kernel, address, now), expected, "{ledger:?} at {now:?}");
        }
        let mut again = Ledger::default();
        again.load(ledger.iter().cloned().collect());
        let done = again.reconcile(&kernel, &HashSet::new(), KernelTime(0), "before", |_| true);
        assert_eq!(done.writes, [], "{ledger:?}");
        assert!(origins.iter().all(|origin| again.count(*origin) == ledger.count(*origin)));
    }
}

#[test]
fn bans_are_listed_in_parts() {
    let mut ledger = Ledger::default();
    assert!(ledger.is_empty() && ledger.next_end().is_none());
    let networks = ["192.0.2.0/24", "192.0.2.7/32", "192.0.3.0/24", "198.51.100.1/32"];
    for network in networks {
        ledger.insert(manual(network, None));
    }
    assert!(!ledger.is_empty());
    let names = |entries: Vec<&Entry>| -> Vec<String> {
        entries.iter().map(|entry| entry.ban.network.to_string()).collect()
    };
    let key = |network: &str| manual(network, None).key();
    assert_eq!(names(ledger.after(None, 2).collect()), networks[..2]);
    assert_eq!(names(ledger.after(Some(key(networks[1])), 9).collect()), networks[2..]);
    let wide = net("192.0.2.0/23");
    assert_eq!(names(ledger.within(wide, None, 9).collect()), networks[..3]);
    assert_eq!(names(ledger.within(wide, None, 1).collect()), networks[..1]);
    assert_eq!(names(ledger.within(wide, Some(key(networks[0])), 9).collect()), networks[1..3]);
    assert_eq!(names(ledger.within(net(networks[0]), None, 9).collect()), networks[..2]);
}

#[test]
fn bans_are_counted_by_origin_and_scope() {
    let mut ledger = Ledger::default();
    let jail = Origin::Jail(0);
    for (network, scope) in
        [("192.0.2.1/32", Scope::Sip), ("192.0.2.1/32", Scope::All), ("192.0.2.2/32", Scope::Sip)]
    {
        ledger.insert(entry(network, jail, scope, Some(10)));
    }
    ledger.insert(manual("192.0.2.1/32", None));
    assert_eq!((ledger.count(jail), ledger.count(Origin::Manual)), (3, 1));
    let of = |ledger: &Ledger, scope| {
        ledger.counts().find(|(of, _)| *of == (jail, scope)).map(|(_, count)| count)
    };
    assert_eq!((of(&ledger, Scope::Sip), of(&ledger, Scope::All)), (Some(2), Some(1)));
    ledger.remove(&entry("192.0.2.1/32", jail, Scope::Sip, None));
    assert_eq!((of(&ledger, Scope::Sip), ledger.count(jail)), (Some(1), 2));
}

#[test]
fn a_wider_ban_of_the_same_origin_replaces_a_throttle() {
    let jail = Origin::Jail(0);
    let throttle = |origin| entry("192.0.2.1/32", origin, Scope::Throttle, None);
    for (origin, scope, replaced) in [
        (jail, Scope::Sip, 1),
        (jail, Scope::All, 1),
        (jail, Scope::Throttle, 1),
        (jail, Scope::Ports(1), 0),
        (Origin::Jail(1), Scope::Sip, 0),
        (Origin::Manual, Scope::Sip, 0),
    ] {
        let mut ledger = Ledger::default();
        ledger.insert(throttle(jail));
        let new = entry("192.0.2.1/32", origin, scope, None);
        assert_eq!(ledger.replaced_by(&new).len(), replaced, "{origin:?} {scope:?}");
        // A throttle replaces no wider ban of a jail, but a manual ban replaces any other.
        let mut ledger = Ledger::default();
        ledger.insert(new);
        let replaces = origin == jail && scope == Scope::Throttle;
        assert_eq!(!ledger.replaced_by(&throttle(jail)).is_empty(), replaces);
        let replaces = origin == Origin::Manual;
        assert_eq!(!ledger.replaced_by(&throttle(Origin::Manual)).is_empty(), replaces);
    }
}

/// An address that is throttled is entered as a network of one address.
#[test]
fn a_throttled_address_has_no_entry_among_the_banned_ones() {
    let address = IpAddr::from([192, 0, 2, 1]);
    let jail = Origin::Jail(0);
    let throttle = entry("192.0.2.1/32", jail, Scope::Throttle, Some(10));
    let mut ledger = Ledger::default();
    let writes = ledger.insert(throttle.clone());
    let kernel = held(&writes);
    assert_eq!((kernel.addresses.len(), kernel.networks.len()), (0, 1));
    assert_eq!(closed(&kernel, address, KernelTime(9)), [Scope::Throttle]);
    // So it is with a ban of the same length beside it.
    let mut writes = writes;
    writes.extend(ledger.insert(entry("192.0.2.1/32", jail, Scope::Ports(1), Some(10))));
    let kernel = held(&writes);
    assert_eq!((kernel.addresses.len(), kernel.networks.len()), (0, 1));
    // Loaded anew, it is the same.
    let mut again = Ledger::default();
    again.load(ledger.iter().cloned().collect());
    let done = again.reconcile(&kernel, &HashSet::new(), KernelTime(0), "before", |_| true);
    assert_eq!((done.writes, done.adopted), (vec![], vec![]));
    writes.extend(ledger.remove(&throttle));
    let kernel = held(&writes);
    assert_eq!((kernel.addresses.len(), kernel.networks.len()), (1, 0));
}

#[test]
fn the_kernels_entry_has_the_origin_of_the_last_ban_and_the_first_beginning() {
    let ban = |origin, since, until: Option<u64>| {
        let scope = Scope::Sip;
        let (network, until) = (net("192.0.2.0/24"), until.map(KernelTime));
        Entry::new(Ban { network, scope, origin, since: Moment(since), until }, "")
    };
    for network in ["192.0.2.0/24", "192.0.2.1/32"] {
        for (one, other, last) in [
            (Some(10), Some(20), Origin::Jail(1)),
            (Some(20), Some(10), Origin::Jail(0)),
            (None, Some(10), Origin::Jail(0)),
            (Some(10), None, Origin::Jail(1)),
        ] {
            let mut ledger = Ledger::default();
            let mut writes = Vec::new();
            for (origin, since, until) in [(Origin::Jail(0), 3, one), (Origin::Jail(1), 5, other)] {
                let mut entry = ban(origin, since, until);
                entry.ban.network = net(network);
                writes.extend(ledger.insert(entry));
            }
            let InForce { addresses, networks } = held(&writes);
            let addresses = addresses.iter().map(|entry| (entry.origin, entry.since));
            let networks = networks.iter().map(|entry| (entry.origin, entry.since));
            let told = addresses.chain(networks).next().unwrap();
            assert_eq!(told, (last, KernelTime(3)), "{network} {one:?} {other:?}");
        }
    }
}

#[test]
fn evidence_can_be_forgotten() {
    let evidence = vec![crate::failure::Evidence {
        source: "log",
        at: Moment(0),
        address: None,
        class: crate::failure::Class::Login,
        account: None,
        proven: true,
    }];
    let mut ledger = Ledger::default();
    let ban = manual("192.0.2.1/32", None).with_evidence(evidence);
    ledger.insert(ban.clone());
    ledger.forget_evidence(&ban.key());
    assert!(ledger.iter().all(|entry| entry.evidence().is_empty()) && ledger.len() == 1);
}

/// A ban that only the kernel has is adopted while it is in force, unless it is known to have ended.
#[test]
fn a_ban_is_adopted_up_to_its_end() {
    for network in ["192.0.2.1/32", "192.0.2.0/24"] {
        let kernel = held(&Ledger::default().insert(manual(network, Some(10))));
        for (now, ended, adopted) in [(9, false, 1), (10, false, 0), (11, false, 0), (9, true, 0)] {
            let ended = HashSet::from_iter(ended.then(|| net(network)));
            let mut ledger = Ledger::default();
            let done = ledger.reconcile(&kernel, &ended, KernelTime(now), "before", |_| true);
            assert_eq!((done.adopted.len(), ledger.len()), (adopted, adopted), "{network} {now}");
            assert_eq!(done.writes.len(), 1 - adopted, "{network} {now}: {:?}", done.writes);
        }
    }
}

/// The kernel's times have a resolution, by which its entries may differ from the ledger's.
#[test]
fn an_entry_is_written_again_if_it_differs_by_more_than_the_kernel_can_say() {
    let unit = 1_u64 << filter_common::rate::UNIT_SHIFT;
    let (since, until) = (100 * unit, 200 * unit);
    for network in ["192.0.2.1/32", "192.0.2.0/24"] {
        let ban = |since: u64, until: u64| {
            let mut entry = manual(network, Some(until));
            entry.ban.since = KernelTime(since).into();
            entry
        };
        let is_address = network.ends_with("32");
        for (by, writes) in [(0, 0), (unit, 0), (unit + 1, 1)] {
            for (since_by, until_by) in [(by, 0), (0, by)] {
                for is_later in [true, false] {
                    let moved = |from: u64, by| if is_later { from + by } else { from - by };
                    let other = ban(moved(since, since_by), moved(until, until_by));
                    let kernel = held(&Ledger::default().insert(other));
                    let mut ledger = Ledger::default();
                    ledger.insert(ban(since, until));
                    let none = HashSet::new();
                    let done = ledger.reconcile(&kernel, &none, KernelTime(0), "before", |_| true);
                    // When a network's ban began is of no use to the filter.
                    let writes = if is_address || since_by == 0 { writes } else { 0 };
                    assert_eq!(done.writes.len(), writes, "{network} {since_by} {until_by}");
                }
            }
        }
    }
}

#[test]
fn an_exception_lasts_as_long_as_the_last_ban_that_has_it() {
    let exception = net("198.51.100.7/32");
    let bans = ["198.51.0.0/16", "198.51.100.0/24"]
        .map(|network| manual(network, None).with_except(vec![exception]));
    for is_loaded in [false, true] {
        let mut ledger = Ledger::default();
        if is_loaded {
            ledger.load(bans.to_vec());
        } else {
            for ban in &bans {
                ledger.insert(ban.clone());
            }
        }
        let apply = |ledger: &Ledger, last| ledger.of(IpAddr::from([198, 51, 100, last])).len();
        assert_eq!((apply(&ledger, 7), apply(&ledger, 8)), (0, 2));
        ledger.remove(&bans[1]);
        assert_eq!((apply(&ledger, 7), apply(&ledger, 8)), (0, 1), "{is_loaded}");
        let writes = ledger.remove(&bans[0]);
        assert!(writes.contains(&Write::NoNetwork(exception)), "{is_loaded}: {writes:?}");
        assert!(ledger.is_empty() && ledger.networks.is_empty());
    }
}

#[test]
fn each_entry_is_written_once() {
    let exception = net("198.51.100.7/32");
    let ban = |until| manual("198.51.100.0/24", Some(until)).with_except(vec![exception]);
    let mut ledger = Ledger::default();
    ledger.insert(ban(10));
    // The exception is one of the old ban and of the new.
    for (until, count) in [(10, 1), (20, 2)] {
        let writes = ledger.insert(ban(until));
        let targets: HashSet<(bool, IpNet)> = writes.iter().map(target).collect();
        assert_eq!((writes.len(), targets.len()), (count, count), "{writes:?}");
    }
}

#[test]
fn addresses_that_only_the_kernel_has_stand_between_the_others() {
    let bans = ["192.0.2.1/32", "192.0.2.5/32", "192.0.2.9/32"].map(|of| manual(of, Some(10)));
    let mut kernel = Ledger::default();
    let writes: Vec<Write> = bans.iter().flat_map(|ban| kernel.insert(ban.clone())).collect();
    let kernel = held(&writes);
    for is_wanted in [true, false] {
        let mut ledger = Ledger::default();
        ledger.insert(bans[1].clone());
        let none = HashSet::new();
        let done = ledger.reconcile(&kernel, &none, KernelTime(0), "before", |_| is_wanted);
        let adopted: Vec<IpNet> = done.adopted.iter().map(|entry| entry.ban.network).collect();
        let [first, _, last] = bans.each_ref().map(|ban| ban.ban.network);
        if is_wanted {
            assert_eq!((done.writes, adopted), (vec![], vec![first, last]));
        } else {
            let gone = [first, last].map(|network| Write::NoAddress(network.addr()));
            assert_eq!((done.writes, adopted), (gone.to_vec(), vec![]));
        }
    }
}

#[test]
fn what_the_kernel_lacks_is_written_and_what_it_closes_beyond_is_adopted() {
    let (jail, other) = (Origin::Jail(0), Origin::Jail(1));
    let [sip, all] = [(jail, Scope::Sip), (other, Scope::All)]
        .map(|(origin, scope)| entry("192.0.2.1/32", origin, scope, Some(10)));
    let kernel = |bans: &[Entry]| {
        let mut ledger = Ledger::default();
        let writes: Vec<Write> = bans.iter().flat_map(|ban| ledger.insert(ban.clone())).collect();
        held(&writes)
    };
    let of_both = kernel(&[sip.clone(), all.clone()]);
    for (before, writes, adopted) in [
        (InForce::default(), 1, vec![]),
        (kernel(std::slice::from_ref(&sip)), 0, vec![]),
        (of_both.clone(), 0, vec![all.key()]),
    ] {
        let mut ledger = Ledger::default();
        ledger.insert(sip.clone());
        let done = ledger.reconcile(&before, &HashSet::new(), KernelTime(5), "before", |_| true);
        let keys: Vec<Key> = done.adopted.iter().map(Entry::key).collect();
        assert_eq!((done.writes.len(), keys), (writes, adopted), "{before:?}");
    }
    // What is not wanted is closed no longer.
    let mut ledger = Ledger::default();
    ledger.insert(sip);
    let done = ledger.reconcile(&of_both, &HashSet::new(), KernelTime(5), "before", |_| false);
    assert!(matches!(done.writes[..], [Write::Address(now)] if now.scopes.iter().eq([Scope::Sip])));
}

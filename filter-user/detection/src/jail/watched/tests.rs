use super::*;

fn address(n: u16) -> IpAddr {
    let [high, low] = n.to_be_bytes();
    if n.is_multiple_of(2) {
        IpAddr::from([192, 0, high, low])
    } else {
        IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, n])
    }
}

fn at(second: u64) -> KernelTime {
    KernelTime(second * 1_000_000_000)
}

fn failure(second: u64, name: Option<&str>) -> Failure {
    Failure {
        at: at(second).into(),
        class: Class::WrongCredential,
        proven: false,
        punished: false,
        reporter: 0,
        account: None,
        details: Details { name: name.map(Box::from), address: None },
    }
}

#[test]
fn failures_are_returned_unchanged() {
    let mut watched = Watched::new(10, 5);
    for n in [1, 2] {
        let mut failures = vec![failure(1, Some("one")), failure(2, None), failure(3, Some("two"))];
        assert_eq!(watched.put(address(n), &mut failures, 7), 0);
    }
    let mut taken = Vec::new();
    assert!(watched.take(address(1), &mut taken));
    for failures in [taken, watched.failures(address(2))] {
        let names: Vec<Option<&str>> = failures.iter().map(|f| f.details.name.as_deref()).collect();
        assert_eq!(names, [Some("one"), None, Some("two")]);
        assert!(failures.iter().map(|f| f.at).eq((1..4).map(|second| at(second).into())));
    }
    let mut addresses: Vec<IpAddr> = watched.addresses().collect();
    addresses.sort_unstable();
    assert_eq!((addresses, watched.details.len()), (vec![address(2)], 2));
}

#[test]
fn a_forgotten_source_leaves_no_names() {
    let mut watched = Watched::new(2, 9);
    for n in 0..3 {
        watched.put(address(n), &mut vec![failure(n.into(), Some("1001"))], 0);
    }
    assert_eq!((watched.len(), watched.details.len()), (2, 2));
    assert_eq!(
        watched.forget_old(Duration::from_secs(10), 9, at(11)),
        Some(Duration::from_secs(9))
    );
    assert_eq!((watched.len(), watched.details.len()), (1, 1));
    assert!(watched.take(address(2), &mut Vec::new()));
    assert_eq!((watched.len(), watched.details.len()), (0, 0));
}

#[test]
fn a_recent_failure_without_an_account_is_found() {
    let mut watched = Watched::new(10, 9);
    let named = Failure { account: NonZeroU32::new(7), ..failure(3, None) };
    watched.put(address(1), &mut vec![failure(1, None), failure(2, None), named.clone()], 0);
    watched.put(address(2), &mut vec![named], 0);
    let has = |n, since: u64| {
        watched.has_nameless(address(n), |tick| tick.age(at(3)) <= Duration::from_secs(3 - since))
    };
    assert_eq!([has(1, 1), has(1, 2), has(1, 3)], [true, true, false]);
    assert_eq!([has(2, 1), has(3, 1)], [false, false]);
}

#[test]
fn names_are_kept_for_the_sources_closest_to_a_ban() {
    let names_max = u16::try_from(DETAILS_MAX / 2).unwrap();
    let mut watched = Watched::new(1_000_000, 15);
    let put = |watched: &mut Watched, source: IpAddr, rank: u8| {
        let mut failures = vec![failure(0, Some("1001")), failure(0, None), failure(0, Some("2"))];
        assert_eq!(watched.put(source, &mut failures, rank), 0);
    };
    let named = |watched: &Watched, source: IpAddr| {
        watched.failures(source).iter().filter(|f| f.details.name.is_some()).count()
    };
    for n in 0..names_max {
        put(&mut watched, address(n), 1 + u8::from(n == 7));
    }
    assert_eq!((watched.details.len(), named(&watched, address(0))), (DETAILS_MAX, 2));
    // A lower rank gets no room, an equal one replaces the first source, a higher one the next.
    put(&mut watched, address(40_000), 0);
    assert_eq!(named(&watched, address(40_000)), 0);
    put(&mut watched, address(40_001), 1);
    put(&mut watched, address(40_002), 2);
    let have = [0, 1, 2, 7, 40_001, 40_002].map(|n| named(&watched, address(n)));
    assert_eq!(have, [0, 0, 2, 2, 2, 2]);
    assert_eq!(watched.details.len(), DETAILS_MAX);
}

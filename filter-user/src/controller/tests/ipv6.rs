//! Sources that are networks: one host can have all addresses of a /64.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::dns::{Addresses, News};
use crate::join;

const JAIL: &str = "asterisk-wazo";

/// An address in the /64 with this number.
fn host(network: u16, host: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, network, 0, 0, 0x5054, host])
}

fn failure(address: IpAddr, is_proven: bool) -> Attempt {
    Attempt { proven: is_proven, account: Some("1001".to_owned()), ..proven(address) }
}

/// One failure from each of this many addresses of a /64.
fn fail_in(controller: &mut Controller<NoKernel>, network: u16, is_proven: bool, second: u64) {
    for n in 1..=15 {
        controller.observe(&failure(host(network, n), is_proven), 0, JAIL, at(second));
    }
}

/// The bans, each with its scope and exceptions.
fn listed(controller: &mut Controller<NoKernel>) -> BTreeMap<String, (String, Vec<String>)> {
    let bans = ask(controller, every_ban());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |ban: &Value| {
        let except = ban["except"].as_array().unwrap().iter().map(text).collect();
        (text(&ban["network"]), (text(&ban["scope"]), except))
    };
    bans["bans"].as_array().unwrap().iter().map(row).collect()
}

fn networks(controller: &mut Controller<NoKernel>) -> Vec<String> {
    listed(controller).into_keys().collect()
}

/// Whether the kernel drops SIP of an address: its own entry, or the longest network around it.
fn is_dropped(controller: &Controller<NoKernel>, address: IpAddr) -> bool {
    let NoKernel { bans, networks, .. } = &controller.datapath;
    let around = networks.values().filter(|entry| entry.network.contains(&address));
    let longest = around.max_by_key(|entry| entry.network.prefix_len());
    bans.contains_key(&address) || longest.is_some_and(|entry| !entry.ends.is_empty())
}

/// The phones of a site come back over TLS, where they share a limit of bytes, so that their answers are late.
#[test]
fn the_first_success_of_a_phone_forgives_the_challenges_of_its_site() {
    let of = |address: IpAddr, verdict| Attempt {
        transport: Some(Transport::Tls),
        proven: true,
        answered: verdict == Verdict::Success,
        session: Some(address.to_string()),
        account: Some(address.to_string()),
        ..Attempt::new(verdict, Class::Challenge, address)
    };
    // Which phone succeeds, and whether it was known before; then whether the others' challenges count.
    for (phone, was_known, banned) in [
        (host(1, 1), false, false),
        (host(1, 1), true, true),
        (host(1, 99), false, false),
        (host(2, 1), false, true),
    ] {
        let mut controller = controller();
        if was_known {
            controller.observe(&of(phone, Verdict::Success), 0, JAIL, at(0));
        }
        for n in 1..=20 {
            controller.observe(&of(host(1, n), Verdict::Ignored), 0, JAIL, at(0));
        }
        controller.observe(&of(phone, Verdict::Success), 0, JAIL, at(1));
        controller.handle_timeout(at(40));
        let expected: &[&str] = if banned { &["2001:db8:0:1::/64"] } else { &[] };
        assert_eq!(networks(&mut controller), expected, "{phone} {was_known}");
    }
}

#[test]
fn a_failure_each_of_fifteen_addresses_bans_their_network() {
    for (is_proven, scope) in [(false, "sip"), (true, "all")] {
        let mut controller = started_with(NoKernel::default(), |config| {
            config.jails.get_mut(JAIL).unwrap().scope = Scope::All;
        });
        for n in 1..=14 {
            controller.observe(&failure(host(1, n), is_proven), 0, JAIL, at(0));
            // Another network is another source.
            controller.observe(&failure(host(2 + n, 1), is_proven), 0, JAIL, at(0));
        }
        assert!(controller.bans.ledger().is_empty());
        controller.observe(&failure(host(1, 15), is_proven), 0, JAIL, at(0));
        let expected =
            BTreeMap::from([("2001:db8:0:1::/64".to_owned(), (scope.to_owned(), vec![]))]);
        assert_eq!(listed(&mut controller), expected);
        assert!(is_dropped(&controller, host(1, 999)) && !is_dropped(&controller, host(2, 1)));
        // The addresses that failed, and the answer about one that has not.
        let why = ask(&mut controller, Request::Why { address: host(1, 999) });
        assert_eq!((&why["dropped"], &why["jail"]), (&true.into(), &JAIL.into()));
        assert_eq!(why["source"], "2001:db8:0:1::/64");
        let from: Vec<&Value> =
            why["evidence"].as_array().unwrap().iter().map(|failure| &failure["address"]).collect();
        let last: Vec<Value> = (8..=15).map(|n| host(1, n).to_string().into()).collect();
        assert_eq!(from, last.iter().collect::<Vec<_>>());
        let text = crate::report::why(&read(&why));
        assert!(
            text.contains("ban of 2001:db8:0:1::/64") && text.contains("2001:db8:0:1::5054:8"),
            "{text}"
        );
        // Failures that arrive after the ban no longer count.
        for n in 20..60 {
            controller.observe(&failure(host(1, n), is_proven), 0, JAIL, at(1));
        }
        assert_eq!(listed(&mut controller), expected);
        assert!(controller.jails.get(0).unwrap().evidence(host(1, 0)).is_empty());
    }
}

#[test]
fn single_addresses_are_sources_where_that_is_set() {
    let mut controller = started_with(NoKernel::default(), |config| config.ipv6_prefix = 128);
    fail_in(&mut controller, 1, true, 0);
    assert!(controller.bans.ledger().is_empty());
    for _ in 0..14 {
        controller.observe(&failure(host(1, 1), true), 0, JAIL, at(0));
    }
    assert_eq!(networks(&mut controller), [host(1, 1).to_string()]);
    let mut controller = started_with(NoKernel::default(), |config| config.ipv6_prefix = 48);
    for n in 1..=15 {
        controller.observe(&failure(host(n, n), true), 0, JAIL, at(0));
    }
    assert_eq!(networks(&mut controller), ["2001:db8::/48"]);
}

#[test]
fn who_is_trusted_ignored_or_known_in_it_is_left_out() {
    let ignoring = |config: &mut Config| {
        config.trusted.push("2001:db8:0:1::5054:70/128".parse().unwrap());
        let jail = config.jails.get_mut(JAIL).unwrap();
        jail.ignoreip = vec!["2001:db8:0:1:8000::/65".parse().unwrap()];
        jail.ignore_names = vec!["office.example.org".parse().unwrap()];
        let other = config.jails.get_mut("sshd").unwrap();
        other.ignoreip = vec!["2001:db8:0:1:1::/80".parse().unwrap()];
    };
    let mut controller = started_with(NoKernel::default(), ignoring);
    controller.datapath.known = vec![host(1, 0x77), host(2, 0x77)];
    let all = BTreeSet::from([host(1, 0x88)]);
    let name = "office.example.org".parse().unwrap();
    controller
        .resolved(News { name, addresses: Addresses { all, failed: None, left_out: 0 } }, at(0));
    // Forgeable failures of a known peer do not count, and no failures of an ignored address.
    for n in [0x70, 0x77, 0x88] {
        for _ in 0..14 {
            controller.observe(&failure(host(1, n), false), 0, JAIL, at(0));
        }
    }
    fail_in(&mut controller, 1, false, 0);
    let banned = listed(&mut controller);
    let (_, except) = &banned["2001:db8:0:1::/64"];
    let left_out = [
        "2001:db8:0:1::5054:70",
        "2001:db8:0:1::5054:77",
        "2001:db8:0:1::5054:88",
        "2001:db8:0:1:8000::/65",
    ];
    assert_eq!(except, &left_out);
    for (n, dropped) in [(0x77, false), (0x70, false), (0x88, false), (0x99, true)] {
        assert_eq!(is_dropped(&controller, host(1, n)), dropped, "{n:x}");
    }
    // It is the same after a restart.
    let entries: Vec<Entry> = controller.bans.ledger().iter().cloned().collect();
    for kept in [entries, Vec::new()] {
        let mut memory =
            NoKernel { known: controller.datapath.known.clone(), ..NoKernel::default() };
        for entry in controller.datapath.networks.values() {
            memory.ban_network(entry).unwrap();
        }
        let mut again = started_again(memory, kept, ignoring);
        assert_eq!(listed(&mut again), banned);
    }
}

/// A phone's failures do not count against its network, and those of others do not count against the
/// phone.
#[test]
fn a_known_peer_is_a_source_by_itself() {
    let mut controller = controller();
    controller.datapath.known = vec![host(1, 0x77)];
    for n in 1..=14 {
        controller.observe(&failure(host(1, n), true), 0, JAIL, at(0));
        controller.observe(&failure(host(1, 0x77), true), 0, JAIL, at(0));
    }
    assert!(controller.bans.ledger().is_empty());
    controller.observe(&failure(host(1, 0x77), true), 0, JAIL, at(1));
    assert_eq!(networks(&mut controller), [host(1, 0x77).to_string()]);
    controller.observe(&failure(host(1, 15), true), 0, JAIL, at(1));
    assert_eq!(networks(&mut controller), ["2001:db8:0:1::/64", &host(1, 0x77).to_string()]);
}

#[test]
fn who_is_left_out_and_known_no_more_is_let_in_no_more() {
    let mut controller = controller();
    controller.datapath.known = vec![host(1, 0x77)];
    fail_in(&mut controller, 1, true, 0);
    assert!(!is_dropped(&controller, host(1, 0x77)));
    controller.datapath.known.clear();
    for n in 0..15 {
        assert!(!is_dropped(&controller, host(1, 0x77)), "{n}");
        controller.observe(&failure(host(1, 0x77), true), 0, JAIL, at(10 + n));
    }
    assert!(is_dropped(&controller, host(1, 0x77)));
    assert_eq!(networks(&mut controller).len(), 1);
}

#[test]
fn addresses_are_banned_where_too_many_are_known_in_their_network() {
    let mut controller = controller();
    let known = |count: u16| (0..count).map(|n| host(1, 0x100 + 2 * n)).collect::<Vec<_>>();
    let most = u16::try_from(EXCEPT_MAX).unwrap();
    controller.datapath.known = known(most + 1);
    fail_in(&mut controller, 1, true, 0);
    let last: Vec<String> = (8..=15).map(|n| host(1, n).to_string()).collect();
    assert_eq!(
        networks(&mut controller).into_iter().collect::<BTreeSet<_>>(),
        last.into_iter().collect()
    );
    assert!(!is_dropped(&controller, host(1, 1)));
    // As many as are possible, and then one more while it is banned.
    controller.datapath.known = known(most);
    ask(&mut controller, Request::Unban(Unban::All));
    fail_in(&mut controller, 1, true, 2);
    let banned = listed(&mut controller);
    assert_eq!(banned["2001:db8:0:1::/64"].1.len(), EXCEPT_MAX);
    let answered = Attempt {
        proven: true,
        answered: true,
        ..Attempt::new(Verdict::Success, Class::Challenge, host(1, 0x99))
    };
    controller.observe(&answered, 0, JAIL, at(3));
    assert!(!networks(&mut controller).contains(&"2001:db8:0:1::/64".to_owned()));
    assert!(is_dropped(&controller, host(1, 15)) && !is_dropped(&controller, host(1, 0x99)));
}

#[test]
fn a_peer_that_becomes_known_is_let_out() {
    let mut controller = controller();
    fail_in(&mut controller, 1, true, 0);
    ask(&mut controller, ban("2001:db8:0:2::/64", None));
    for network in [1, 2] {
        assert!(is_dropped(&controller, host(network, 0x77)));
        let answered = Attempt {
            proven: true,
            answered: true,
            ..Attempt::new(Verdict::Success, Class::Challenge, host(network, 0x77))
        };
        controller.observe(&answered, 0, JAIL, at(1));
    }
    // A manual ban is as requested.
    assert!(!is_dropped(&controller, host(1, 0x77)) && is_dropped(&controller, host(2, 0x77)));
    assert!(is_dropped(&controller, host(1, 1)));
}

/// The other jails' bans of the network do not leave out whom one ignores.
#[test]
fn a_name_that_a_jail_ignores_is_let_out_of_its_bans_alone() {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut("sshd").unwrap();
        jail.ignore_names = vec!["office.example.org".parse().unwrap()];
    });
    fail_in(&mut controller, 1, true, 0);
    for n in 1..=5 {
        let login = Attempt { class: Class::Login, ..proven(host(1, n)) };
        controller.observe(&login, 0, "sshd", at(5));
    }
    let all = BTreeSet::from([host(1, 0x88)]);
    let name = "office.example.org".parse().unwrap();
    controller
        .resolved(News { name, addresses: Addresses { all, failed: None, left_out: 0 } }, at(6));
    let exceptions = |jail: &str, controller: &mut Controller<NoKernel>| {
        let bans = ask(controller, super::bans_of(jail));
        bans["bans"][0]["except"].as_array().unwrap().len()
    };
    assert_eq!((exceptions("sshd", &mut controller), exceptions(JAIL, &mut controller)), (1, 0));
}

#[test]
fn an_unban_of_an_address_lifts_the_ban_of_its_source() {
    let mut controller = started_with(NoKernel::default(), growing);
    let unban_with = |address: IpAddr, inside| {
        Request::Unban(Unban::Network { network: address.into(), inside })
    };
    let unban = |address| unban_with(address, false);
    for inside in [false, true] {
        fail_in(&mut controller, 1, true, 0);
        let reason = controller.bans.ledger().iter().next().unwrap().reason.to_string();
        // The earlier ban is forgotten with it.
        assert!(!reason.contains("2nd"), "{reason}");
        let lifted = ask(&mut controller, unban_with(host(1, 0x99), inside));
        assert_eq!(
            (&lifted["lifted"], &lifted["network"]),
            (&1.into(), &"2001:db8:0:1::/64".into())
        );
        assert!(controller.bans.ledger().is_empty() && controller.datapath.networks.is_empty());
    }
    controller.observe(&failure(host(1, 1), true), 0, JAIL, at(1));
    controller.observe(&failure(host(1, 2), true), 0, JAIL, at(1));
    let why = refuse(&mut controller, unban(host(1, 3)));
    assert!(why.contains("not banned; its failures are forgotten"), "{why}");
    controller.observe(&failure(host(1, 4), true), 0, JAIL, at(1));
    assert!(controller.bans.ledger().is_empty());
    // A manual ban is named and stays; exceptions are not banned.
    ask(&mut controller, ban("2001:db8:0:1::/64", None));
    let why = refuse(&mut controller, unban(host(1, 3)));
    assert!(why.contains("part of 2001:db8:0:1::/64"), "{why}");
    controller.datapath.known = vec![host(2, 0x77)];
    fail_in(&mut controller, 2, true, 2);
    let why = refuse(&mut controller, unban(host(2, 0x77)));
    assert!(why.contains("not banned"), "{why}");
    ask(
        &mut controller,
        Request::Unban(Unban::Network {
            network: "2001:db8:0:2::/64".parse().unwrap(),
            inside: false,
        }),
    );
    assert_eq!(networks(&mut controller), ["2001:db8:0:1::/64"]);
}

/// The NOTICE log reports each failure first, and AMI proves it.
#[test]
fn a_ban_of_a_network_is_proven_late() {
    let mut controller = started_with(NoKernel::default(), |config| {
        config.jails.get_mut(JAIL).unwrap().scope = Scope::All;
    });
    let ami = controller.add_source(ami(), at(0));
    for n in 1..=15 {
        let session = Some(n.to_string());
        let notice = Attempt { session, ..failure(host(1, n), false) };
        let event = Attempt { proven: true, ..notice.clone() };
        controller.observe(&notice, 0, JAIL, at(n.into()));
        controller.observe(&event, ami, JAIL, at(n.into()));
    }
    let scopes: Vec<Scope> = controller.bans.ledger().iter().map(|entry| entry.ban.scope).collect();
    assert_eq!(scopes, [Scope::Sip, Scope::All]);
    let entry = controller.bans.ledger().iter().last().unwrap();
    assert!(entry.evidence().iter().all(|failure| failure.proven));
}

#[test]
fn failures_before_a_restart_count_for_the_source() {
    let mut controller = controller();
    for n in 1..=14 {
        controller.observe(&failure(host(1, n), true), 0, JAIL, at(n.into()));
    }
    let records = controller.store().take_jail_records();
    let mut again = started_again(controller.datapath, Vec::new(), |_| {});
    again.recall(records, at(20));
    again.observe(&failure(host(1, 15), true), 0, JAIL, at(21));
    assert_eq!(networks(&mut again), ["2001:db8:0:1::/64"]);
    let records = again.store().take_jail_records();
    // Only the kernel has the ban by then.
    let mut again = started_again(again.datapath, Vec::new(), |_| {});
    again.recall(records, at(22));
    assert_eq!(networks(&mut again), ["2001:db8:0:1::/64"]);
    assert!(again.jails.get(0).unwrap().evidence(host(1, 0)).is_empty());
}

#[test]
fn networks_are_offenders() {
    let mut controller = started_with(NoKernel::default(), |config| {
        growing(config);
        config.escalation.enabled = true;
        let recidive = config.jails.get_mut("recidive").unwrap();
        recidive.enabled = true;
    });
    // Each time other addresses, and each ban twice as long.
    for (day, hours) in [(1_u16, 1), (2, 2), (3, 4)] {
        for n in 1..=3 {
            let failure = failure(host(1, 10 * day + n), true);
            controller.observe(&failure, 0, JAIL, at(u64::from(day) * 86_400));
        }
        let until = controller.bans.ledger().iter().next().unwrap().ban.until.unwrap();
        assert_eq!(until.since(at(u64::from(day) * 86_400)), Duration::from_hours(hours));
        controller.handle_timeout(until);
        assert!(controller.bans.ledger().is_empty());
    }
    // Four networks in a /56 have it banned.
    for network in 1..=4 {
        fail_in(&mut controller, network, true, 5 * 86_400);
    }
    assert!(networks(&mut controller).contains(&"2001:db8::/56".to_owned()));
}

#[test]
fn the_fifth_ban_of_a_network_is_a_relapse() {
    let mut controller = started_with(NoKernel::default(), |config| {
        config.jails.get_mut("recidive").unwrap().enabled = true;
    });
    for n in 0..5_u16 {
        assert_eq!(recidive(&mut controller), []);
        for last in 1..=15 {
            let failure = failure(host(1, 100 * n + last), true);
            controller.observe(&failure, 0, JAIL, at(u64::from(n) * 5000));
        }
        controller.handle_timeout(at(u64::from(n) * 5000 + 3600));
    }
    let said = "5 bans within 1d, the last one by asterisk-wazo".to_owned();
    let expected = ("2001:db8:0:1::/64".to_owned(), "all".to_owned(), said);
    assert_eq!(recidive(&mut controller), [expected]);
}

#[test]
fn a_network_is_one_of_the_sources_that_guess_at_an_account() {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut(JAIL).unwrap();
        (jail.guessing.maxretry, jail.guessing.sources, jail.guessing.each) = (12, 4, 3);
    });
    for n in 1..=12 {
        controller.observe(&failure(host(1, n), false), 0, JAIL, at(0));
    }
    // As many failures of as many addresses as it takes, but of one source: it is banned for itself.
    assert_eq!(networks(&mut controller), ["2001:db8:0:1::/64"]);
    for network in 2..=3 {
        for n in 1..=3 {
            controller.observe(&failure(host(network, n), false), 0, JAIL, at(0));
        }
    }
    assert_eq!(networks(&mut controller).len(), 1);
    controller.observe(&failure(host(4, 1), false), 0, JAIL, at(1));
    assert_eq!(networks(&mut controller).len(), 3);
}

/// A ban for each 15 failures, all with known peers to be asked for.
#[test]
fn known_peers_are_not_asked_for_at_each_ban() {
    let mut controller = controller();
    controller.datapath.known = vec![host(9, 9)];
    for network in 10..200 {
        fail_in(&mut controller, network, true, 0);
    }
    assert_eq!(controller.bans.ledger().len(), 190);
    assert_eq!(controller.datapath.asked_for_known.get(), 1);
    controller.datapath.known.push(host(300, 99));
    fail_in(&mut controller, 300, true, 0);
    assert!(!is_dropped(&controller, host(300, 99)));
    assert_eq!(controller.datapath.asked_for_known.get(), 2);
}

/// Attempts for a jail, in any order. Reports within the time of one packet may be joined if one names no account, and
/// then the address matters.
fn steps() -> impl Strategy<Value = Vec<(u64, u8, u8, bool, u8)>> {
    // Seconds later, the kind, the account, whether it is proven, the address in the network.
    let later = join::WINDOW.as_secs() + 1..300;
    proptest::collection::vec((later, 0..12_u8, 0..4_u8, any::<bool>(), any::<u8>()), 1..200)
}

/// All bans that came, and when they end.
fn bans_of(address: impl Fn(u8) -> IpAddr, steps: &[(u64, u8, u8, bool, u8)]) -> Vec<String> {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut(JAIL).unwrap();
        (jail.maxretry, jail.maxaccounts, jail.scope) = (5, 3, Scope::All);
        (jail.guessing.maxretry, jail.guessing.maxaccounts) = (20, 4);
        jail.increment.enabled = true;
        let recidive = config.jails.get_mut("recidive").unwrap();
        (recidive.enabled, recidive.unproven_scope) = (true, Some(Scope::Sip));
    });
    let ami = controller.add_source(ami(), at(0));
    let (mut now, mut came) = (0, BTreeSet::new());
    for (number, (gap, what, account, is_proven, which)) in steps.iter().enumerate() {
        now += gap;
        controller.handle_timeout(at(now));
        let account = (*account > 0).then(|| account.to_string());
        let session = Some(number.to_string());
        let of = Attempt { account, session, ..failure(address(*which), *is_proven) };
        match what {
            0 if *is_proven => {
                let success = Attempt { verdict: Verdict::Success, ..of };
                controller.observe(&success, 0, JAIL, at(now));
            }
            1..=3 => {
                controller.observe(&Attempt { proven: false, ..of.clone() }, 0, JAIL, at(now));
                controller.observe(&Attempt { proven: true, ..of }, ami, JAIL, at(now));
            }
            4 => {
                let network = IpNet::from(address(*which));
                drop(
                    controller
                        .answer(Request::Unban(Unban::Network { network, inside: false }), at(now)),
                );
            }
            _ => controller.observe(&of, 0, JAIL, at(now)),
        }
        came.extend(controller.bans.ledger().iter().map(|entry| {
            let Ban { scope, origin, since, until, .. } = entry.ban;
            format!("{since:?} {until:?} {scope:?} {origin:?} {}", entry.reason)
        }));
    }
    came.into_iter().collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A source that changes addresses within its network gets the same result as with one address.
    #[test]
    fn a_network_is_judged_as_one_address_is(steps in steps()) {
        let one = bans_of(|_| IpAddr::from([203, 0, 113, 7]), &steps);
        let many = bans_of(|which| host(1, which.into()), &steps);
        prop_assert_eq!(one, many);
    }
}

/// The kernel bans an IPv6 source that floods by its /64, and the list shows the same: one entry and one
/// log line, however many addresses the flood comes from.
#[test]
fn a_flood_bans_a_network_but_for_the_known_in_it() {
    let mut controller = controller();
    controller.datapath.known.push(host(1, 7));
    for n in 1..=6 {
        controller.flooding(host(1, n), at(10), at(70));
    }
    let expected =
        [("2001:db8:0:1::/64".to_owned(), ("sip".to_owned(), vec![format!("{}", host(1, 7))]))];
    assert_eq!(listed(&mut controller), expected.into());
    assert!(is_dropped(&controller, host(1, 99)) && !is_dropped(&controller, host(1, 7)));
    // A known peer floods on its own account.
    controller.flooding(host(1, 7), at(11), at(71));
    assert!(is_dropped(&controller, host(1, 7)));
    let link = IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 1]);
    controller.flooding(link, at(12), at(72));
    assert!(is_dropped(&controller, link));
    assert!(!is_dropped(&controller, IpAddr::from([0xfe80, 0, 0, 0, 0, 0, 0, 2])));
    controller.handle_timeout(at(72));
    assert!(controller.datapath.bans.is_empty() && controller.bans.ledger().is_empty());
    assert!(!is_dropped(&controller, host(1, 99)));
}

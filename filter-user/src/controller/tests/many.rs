//! Many bans are listed, lifted and ended some at a time.

use std::cmp::Reverse;
use std::num::NonZeroU16;

use api::{BANS_MAX, BanOrder, BanPlace, BansPage};

use super::*;
use crate::ban::ADOPTED;
use crate::clock::Moment;
use crate::controller::Answered;

/// A controller with this many bans by a jail, each of which lasts an hour, and a manual ban.
fn with_bans(bans: u32) -> Controller<NoKernel> {
    let ban = |number: u32| {
        let address = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        let until = Some(at(3600));
        let (origin, since) = (Origin::Jail(0), at(1).into());
        Entry::new(Ban { network: address.into(), scope: Scope::Sip, origin, since, until }, "15")
    };
    let mut controller =
        started_again(NoKernel::default(), (0..bans).map(ban).collect(), |_default| {});
    ask(&mut controller, super::ban("192.0.2.99/32", None));
    controller
}

fn page(controller: &mut Controller<NoKernel>, jail: &str, after: Option<BanPlace>) -> BansPage {
    page_of(controller, jail, after, None)
}

fn page_of(
    controller: &mut Controller<NoKernel>,
    jail: &str,
    after: Option<BanPlace>,
    limit: Option<NonZeroU16>,
) -> BansPage {
    let jail = Some(jail.to_owned()).filter(|jail| !jail.is_empty());
    let query = BansQuery { jail, after, limit, ..BansQuery::default() };
    serde_json::from_value(ask(controller, Request::Bans(query))).unwrap()
}

#[test]
fn pages_are_the_list() {
    let mut controller = with_bans(5000);
    for (jail, expected) in [("", 5001), ("asterisk-wazo", 5000), ("manual", 1), ("sshd", 0)] {
        let (mut networks, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = page(&mut controller, jail, after);
            let json = serde_json::to_string(&page).unwrap();
            assert!(page.bans.len() <= 256 && json.len() < 200_000, "{}", json.len());
            networks.extend(page.bans.into_iter().map(|row| row.network));
            pages += 1;
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        let distinct: BTreeSet<&String> = networks.iter().collect();
        assert_eq!((networks.len(), distinct.len()), (expected, expected), "{jail}");
        assert!(pages >= 2, "{jail}: a page looks at a bounded number of bans");
    }
    let nonsense = BanPlace { network: "10.0.0.0/8".parse().unwrap(), origin: 0, scope: 200 };
    refuse(
        &mut controller,
        Request::Bans(BansQuery { after: Some(nonsense), ..BansQuery::default() }),
    );
}

#[test]
fn a_page_has_no_more_bans_than_are_wanted() {
    let mut controller = with_bans(2 * u32::from(BANS_MAX));
    for limit in [1, 2, BANS_MAX - 1, BANS_MAX, BANS_MAX + 1, u16::MAX] {
        let (mut listed, mut after) = (0, None);
        loop {
            let page = page_of(&mut controller, "", after, NonZeroU16::new(limit));
            let all_but_last = page.next.is_some();
            let expected = usize::from(limit.min(BANS_MAX));
            assert!(page.bans.len() == expected || !all_but_last && page.bans.len() < expected);
            listed += page.bans.len();
            after = page.next;
            if !all_but_last {
                break;
            }
        }
        assert_eq!(listed, 2 * usize::from(BANS_MAX) + 1, "{limit}");
    }
}

#[test]
fn a_page_of_bans_with_long_reasons_and_exceptions_is_short() {
    let mut controller = with_bans(0);
    for number in 0..200_u8 {
        let except: Vec<String> = (0..64).map(|n| format!("10.{number}.{n}.0/24")).collect();
        let Request::Ban { network, scope, .. } = ban(&format!("10.{number}.0.0/16"), None) else {
            unreachable!("it is a ban");
        };
        let except = except.iter().map(|exception| exception.parse().unwrap()).collect();
        let reason = Some("x".repeat(api::TEXT_MAX));
        let force = false;
        ask(&mut controller, Request::Ban { network, seconds: None, scope, except, reason, force });
    }
    let first = page(&mut controller, "", None);
    let length = serde_json::to_string(&first).unwrap().len();
    assert!(first.next.is_some() && length < 110_000, "{length}");
}

#[test]
fn bans_end_some_at_a_time_and_all_of_them() {
    let mut controller = with_bans(1000);
    let mut turns = 0;
    while controller.next_timeout().is_some_and(|next| next <= at(3600)) {
        let before = controller.ban_count();
        controller.handle_timeout(at(3600));
        assert!(before - controller.ban_count() <= 128, "a turn is short");
        turns += 1;
    }
    assert_eq!(controller.ban_count(), 1);
    assert_eq!(controller.datapath.bans.len(), 1);
    assert!((1000 / 128..20).contains(&turns), "{turns}");
    // A ban that has ended is no longer listed, although it is not removed yet.
    let mut controller = with_bans(1000);
    controller.handle_timeout(at(3600));
    let listed = controller.answer(every_ban(), at(3600));
    let Reply::Ok(Answer::Bans(page)) = listed else { panic!("{listed:?}") };
    assert_eq!(page.bans.len(), 1);
}

#[test]
fn bans_are_lifted_some_at_a_time_but_for_those_that_come_meanwhile() {
    for (which, expected) in [
        (Unban::All, 1001),
        (Unban::Jail { jail: "asterisk-wazo".to_owned() }, 1000),
        (Unban::Network { network: "11.0.0.0/9".parse().unwrap(), inside: true }, 1000),
        (Unban::Network { network: "11.0.2.0/23".parse().unwrap(), inside: true }, 488),
    ] {
        let mut controller = with_bans(1000);
        let Answered::Later(ticket) =
            controller.answer_to(Request::Unban(which.clone()), "root", at(30))
        else {
            panic!("it is not done yet");
        };
        let mut turns = 0;
        let reply = loop {
            assert!(controller.is_lifting());
            let before = controller.ban_count();
            let done = controller.lift_more(at(31));
            assert!(before - controller.ban_count() <= 128, "a turn is short");
            // A source fails meanwhile.
            if turns == 0 {
                for n in 0..15 {
                    let address = IpAddr::from([203, 0, 113, 8]);
                    controller.observe(&proven(address), 0, "asterisk-wazo", at(40 + n));
                }
            }
            turns += 1;
            match done {
                Some((done, reply)) => break (done == ticket).then_some(reply),
                None => assert!(turns < 20),
            }
        };
        let Some(Reply::Ok(Answer::Lifted(answer))) = reply else { panic!("{reply:?}") };
        assert_eq!(answer.lifted, expected, "{which:?}");
        assert!(controller.datapath.bans.contains_key(&IpAddr::from([203, 0, 113, 8])));
        assert!(!controller.is_lifting());
    }
    let mut controller = with_bans(10);
    let nobody = Unban::Network { network: "172.16.0.0/12".parse().unwrap(), inside: true };
    assert!(refuse(&mut controller, Request::Unban(nobody)).contains("not banned"));
}

#[test]
fn what_is_read_late_is_taken_over_some_at_a_time() {
    // Some of them were in the kernel, and a jail has banned a source since.
    let ban = |number: u32, until: u64| {
        let address = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        let (origin, since) = (Origin::Jail(0), Moment::from(at(1)));
        let until = Some(at(until));
        Entry::new(Ban { network: address.into(), scope: Scope::Sip, origin, since, until }, "15")
    };
    let mut datapath = NoKernel::default();
    for number in 0..100 {
        let until = Some(at(3600));
        let address = IpAddr::from((0x0b00_0000_u32 + number).to_be_bytes());
        let scopes = Scopes::default().and(Scope::Sip);
        let entry = AddressEntry { address, scopes, origin: Origin::Jail(0), since: at(1), until };
        datapath.ban(&entry).unwrap();
    }
    let mut controller = started_over(datapath);
    assert_eq!(controller.ban_count(), 100);
    fail(&mut controller, [203, 0, 113, 7], 15);
    let mut bans: Vec<Entry> = (0..1000).map(|number| ban(number, 3600)).collect();
    // One ban has ended, and one is of an address that is now trusted.
    bans.push(ban(2000, 5));
    let trusted = Ban { network: "198.51.100.7/32".parse().unwrap(), ..ban(1, 3600).ban };
    bans.push(Entry::new(trusted, "15"));
    controller.take_kept(Kept { bans, ..Kept::default() });
    let mut turns = 0;
    while controller.has_more_to_do() {
        let before = controller.ban_count();
        controller.go_on(at(20));
        assert!(controller.ban_count() - before <= 128, "a turn is short");
        turns += 1;
    }
    assert!((8..12).contains(&turns), "{turns}");
    assert_eq!((controller.ban_count(), controller.datapath.bans.len()), (1001, 1001));
    assert!(controller.bans.ledger().iter().all(|entry| &*entry.reason != ADOPTED));
}

#[test]
fn all_bans_are_put_into_a_new_store_some_at_a_time() {
    let mut controller = with_bans(1000);
    let before = controller.store().status().pending;
    controller.put_all();
    let mut turns = 0;
    while controller.has_more_to_do() {
        let pending = controller.store().status().pending;
        controller.go_on(at(20));
        assert!(controller.store().status().pending - pending <= 128, "a turn is short");
        turns += 1;
    }
    // The manual one was put before.
    assert_eq!((controller.store().status().pending - before, before), (1000, 1));
    assert!((8..15).contains(&turns), "{turns}");
}

#[test]
fn bans_are_listed_by_scope_network_and_age() {
    let mut controller = with_bans(5000);
    let mut list = |query: &BansQuery| {
        let (mut networks, mut after) = (Vec::new(), None);
        loop {
            let query = BansQuery { after, ..query.clone() };
            let page: BansPage = read(&ask(&mut controller, Request::Bans(query)));
            networks.extend(page.bans.into_iter().map(|row| row.network));
            after = page.next;
            if after.is_none() {
                return networks;
            }
        }
    };
    let all = BansQuery::default();
    let scope = |scope: &str| BansQuery { scope: Some(scope.to_owned()), ..all.clone() };
    let inside =
        |network: &str| BansQuery { inside: Some(network.parse().unwrap()), ..all.clone() };
    // The manual ban began at 20 s, the others at 1 s, and it is 20 s.
    let since = |seconds| BansQuery { since_seconds: Some(seconds), ..all.clone() };
    for (query, expected) in [
        (scope("sip"), 5000),
        (scope("all"), 1),
        (scope("ssh"), 0),
        (inside("11.0.0.0/24"), 256),
        (inside("11.0.0.0/8"), 5000),
        (inside("192.0.2.99/32"), 1),
        (inside("192.0.2.98/32"), 0),
        (inside("2001:db8::/32"), 0),
        (since(0), 1),
        (since(18), 1),
        (since(19), 5001),
        (since(u64::MAX), 5001),
        (BansQuery { jail: Some("manual".to_owned()), ..inside("11.0.0.0/8") }, 0),
    ] {
        assert_eq!(list(&query).len(), expected, "{query:?}");
    }
    let why = refuse(&mut controller, Request::Bans(scope("sap")));
    assert!(why.contains("no scope `sap`"), "{why}");
}

#[test]
fn the_first_bans_in_an_order_are_among_those_of_the_pages() {
    const BANS: u32 = 10_000;
    let ban = |number: u32| {
        let address = IpAddr::from((0x0b00_0000 + number).to_be_bytes());
        let mixed = u64::from(number.wrapping_mul(2_654_435_761) % 3000);
        // Many are equal in the precision that is shown.
        let since = Moment::from(KernelTime(mixed * 300_000));
        let until =
            (mixed % 7 > 0).then(|| KernelTime((3600 + mixed / 100) * 1_000_000_000 + mixed));
        let ban = Ban {
            network: address.into(),
            scope: Scope::Sip,
            origin: Origin::Jail(0),
            since,
            until,
        };
        Entry::new(ban, "15")
    };
    let mut controller =
        started_again(NoKernel::default(), (0..BANS).map(ban).collect(), |_default| {});
    let mut list = |query: &BansQuery| {
        let (mut rows, mut after, mut pages) = (Vec::new(), None, 0);
        loop {
            let query = BansQuery { after, ..query.clone() };
            let page: BansPage = read(&ask(&mut controller, Request::Bans(query)));
            rows.extend(page.bans);
            (after, pages) = (page.next, pages + 1);
            if after.is_none() {
                return (rows, pages);
            }
        }
    };
    let (all, _) = list(&BansQuery::default());
    assert_eq!(all.len(), BANS as usize);
    for (order, most_pages) in [(BanOrder::Newest, 3), (BanOrder::End, 3), (BanOrder::Packets, 10)]
    {
        for limit in [1, 20, BANS_MAX] {
            let query = BansQuery {
                limit: NonZeroU16::new(limit),
                first: Some(order),
                ..BansQuery::default()
            };
            let (mut first, pages) = list(&query);
            assert!(pages <= most_pages, "{order:?}: {pages} pages");
            let sort = |rows: &mut [api::BanRow]| match order {
                BanOrder::Newest => rows.sort_by_key(|row| Reverse(row.since_ms)),
                BanOrder::End => rows.sort_by_key(|row| (row.until.is_none(), row.until.clone())),
                BanOrder::Packets => rows.sort_by_key(|row| Reverse(row.packets)),
            };
            let mut expected = all.clone();
            for rows in [&mut first, &mut expected] {
                sort(rows);
                rows.truncate(limit.into());
            }
            assert_eq!(first, expected, "{order:?} {limit}");
        }
    }
    let none = BansQuery {
        jail: Some("sshd".to_owned()),
        first: Some(BanOrder::End),
        ..BansQuery::default()
    };
    assert_eq!(list(&none).0, []);
}

#[test]
fn a_page_of_the_first_bans_is_short_too() {
    let mut controller = with_bans(0);
    for number in 0..200_u8 {
        let except: Vec<String> = (0..64).map(|n| format!("10.{number}.{n}.0/24")).collect();
        let except = except.iter().map(|exception| exception.parse().unwrap()).collect();
        let network = format!("10.{number}.0.0/16").parse().unwrap();
        let (scope, reason) = ("sip".to_owned(), Some("x".repeat(api::TEXT_MAX)));
        ask(
            &mut controller,
            Request::Ban { network, seconds: None, scope, except, reason, force: false },
        );
    }
    let query = BansQuery { first: Some(BanOrder::Newest), ..BansQuery::default() };
    let page: BansPage = read(&ask(&mut controller, Request::Bans(query)));
    let length = serde_json::to_string(&page).unwrap().len();
    assert!(page.next.is_some() && length < 110_000, "{length}");
}

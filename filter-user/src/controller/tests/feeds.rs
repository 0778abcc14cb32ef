//! The bans of feeds: what they ban, what they never touch, and what becomes of them.

use ::feeds::Listed;
use api::Lifted;

use super::*;
use crate::config::Feed;
use crate::host::Essential;

const WALL: u64 = 1_000_000;

fn entries(networks: &[&str]) -> Vec<Listed> {
    let listed = networks.iter().map(|text| Listed { network: text.parse().unwrap(), until: 0 });
    let mut listed: Vec<Listed> = listed.collect();
    listed.sort_unstable();
    listed
}

fn update(feed: u8, networks: &[&str]) -> FeedUpdate {
    FeedUpdate {
        feed,
        entries: entries(networks),
        removed: Vec::new(),
        is_whole: true,
        until: at(3600),
        clocks: (at(0), WALL),
    }
}

fn two_feeds(config: &mut Config) {
    config.feeds.insert("drop".to_owned(), Feed::default());
    config.feeds.insert("more".to_owned(), Feed { scope: Scope::All, ..Feed::default() });
}

/// A controller whose roster knows the feeds.
fn with_feeds(datapath: NoKernel, adjust: impl Fn(&mut Config)) -> Controller<NoKernel> {
    let mut names = Config::default();
    two_feeds(&mut names);
    let mut controller = started_with(datapath, |config| {
        two_feeds(config);
        adjust(config);
    });
    controller.jails.roster = Arc::new(names.roster());
    controller
}

fn take(controller: &mut Controller<NoKernel>, update: FeedUpdate, now: u64) {
    assert!(controller.takes_feeds());
    controller.take_feed(update);
    while controller.has_more_to_do() {
        controller.go_on(at(now));
    }
}

/// Whether a ban applies to an address.
fn is_closed(controller: &mut Controller<NoKernel>, address: &str) -> bool {
    let why = ask(controller, Request::Why { address: address.parse().unwrap() });
    !why["bans"].as_array().unwrap().is_empty()
}

/// The bans of a feed.
fn banned(controller: &mut Controller<NoKernel>, feed: &str) -> Vec<String> {
    let page: api::BansPage = read(&ask(controller, bans_of(feed)));
    page.bans.into_iter().map(|row| row.network).collect()
}

fn unban(network: &str) -> Request {
    Request::Unban(Unban::Network { network: network.parse().unwrap(), inside: false })
}

#[test]
fn a_feed_bans_what_it_lists_and_nothing_else() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    take(&mut controller, update(0, &["185.0.0.1/32", "185.0.1.0/24", "2a01::1/128"]), 1);
    take(&mut controller, update(1, &["185.0.0.1/32"]), 1);
    assert_eq!(banned(&mut controller, "feed:drop"), ["185.0.0.1", "185.0.1.0/24", "2a01::1"]);
    assert_eq!(banned(&mut controller, "feed:more"), ["185.0.0.1"]);
    assert!(is_closed(&mut controller, "185.0.1.7"));
    // A change adds and removes, and the other feed's bans stay.
    let change = FeedUpdate {
        removed: vec!["185.0.0.1/32".parse().unwrap(), "185.0.1.0/24".parse().unwrap()],
        is_whole: false,
        ..update(0, &["185.0.0.3/32"])
    };
    take(&mut controller, change, 2);
    assert_eq!(banned(&mut controller, "feed:drop"), ["185.0.0.3", "2a01::1"]);
    assert_eq!(banned(&mut controller, "feed:more"), ["185.0.0.1"]);
    // The whole list ends whatever it does not contain.
    take(&mut controller, update(0, &["185.0.0.4/32"]), 3);
    assert_eq!(banned(&mut controller, "feed:drop"), ["185.0.0.4"]);
    // A feed that is dead bans nothing after its time.
    controller.handle_timeout(at(3601));
    assert!(banned(&mut controller, "feed:drop").is_empty());
    assert!(controller.bans.store().take_history().is_empty(), "they fill no history");
}

/// A list has up to a million entries, and each would be an event.
#[tokio::test]
async fn the_bans_of_feeds_are_no_events() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    let mut listener = controller.events().listen(1).unwrap();
    take(&mut controller, update(0, &["185.0.0.1/32", "185.0.1.0/24"]), 1);
    take(&mut controller, update(0, &["185.0.0.1/32"]), 2);
    ask(&mut controller, unban("185.0.0.1/32"));
    take(&mut controller, update(1, &["185.0.0.2/32"]), 3);
    controller.handle_timeout(at(3601));
    assert!(banned(&mut controller, "feed:more").is_empty(), "it has ended");
    // Another ban is told, and is the first event.
    fail(&mut controller, [203, 0, 113, 7], 3615);
    loop {
        let told = listener.recv().await.unwrap();
        let text = std::str::from_utf8(&told).unwrap();
        if let Some(event) = text.lines().find_map(|line| line.strip_prefix("data: ")) {
            assert!(event.contains("203.0.113.7"), "{event}");
            break;
        }
    }
}

#[test]
fn an_entry_ends_by_itself_if_it_says_so() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    let mut own = update(0, &["185.0.0.1/32", "185.0.0.2/32"]);
    own.entries[0].until = u32::try_from(WALL).unwrap() + 100;
    own.entries[1].until = u32::MAX;
    take(&mut controller, own, 1);
    controller.handle_timeout(at(101));
    assert_eq!(banned(&mut controller, "feed:drop"), ["185.0.0.2"]);
    controller.handle_timeout(at(3601));
    assert!(banned(&mut controller, "feed:drop").is_empty(), "not longer than the list lives");
}

#[test]
fn a_poisoned_list_touches_no_phone_and_no_trunk() {
    let phone = IpAddr::from([185, 0, 0, 7]);
    let kernel = NoKernel { known: vec![phone], ..NoKernel::default() };
    let mut controller = with_feeds(kernel, |config| {
        config.trusted.push("185.0.9.0/24".parse().unwrap());
        let jail = config.jails.get_mut("sshd").unwrap();
        jail.ignoreip = vec!["185.0.8.1/32".parse().unwrap()];
    });
    let essential =
        Essential { gateways: ["185.0.7.1".parse().unwrap()].into(), ..Essential::default() };
    controller.set_essentials(&essential, &crate::doctor::Trunks::default(), at(0));
    let listed = [
        "0.0.0.0/0",
        "192.0.2.10/32",
        "185.0.0.7/32",
        "185.0.0.0/24",
        "185.0.7.1/32",
        "185.0.7.0/24",
        "185.0.8.1/32",
        "185.0.9.9/32",
        "185.0.9.0/25",
        "185.0.0.8/32",
    ];
    take(&mut controller, update(1, &listed), 1);
    let rows = banned(&mut controller, "feed:more");
    // The networks around them have exceptions.
    assert_eq!(rows, ["185.0.0.0/24", "185.0.0.8", "185.0.7.0/24"]);
    for spared in ["185.0.0.7", "185.0.7.1", "185.0.8.1", "185.0.9.9", "192.0.2.10"] {
        assert!(!is_closed(&mut controller, spared), "{spared}");
    }
    let counts = controller.feed_counts(1);
    let spared: Vec<(&str, u64)> = counts.spared.iter().map(|(why, n)| (&**why, *n)).collect();
    assert_eq!(
        spared,
        [
            ("essential", 1),
            ("ignored", 1),
            ("known", 1),
            ("own", 1),
            ("too-wide", 1),
            ("trusted", 2)
        ]
    );
    // The next fetch bans an address that is no phone any more.
    controller.datapath.known.clear();
    take(&mut controller, FeedUpdate { is_whole: false, ..update(1, &[]) }, 3);
    assert!(banned(&mut controller, "feed:more").contains(&"185.0.0.7".to_owned()));
}

#[test]
fn a_phone_that_becomes_known_is_an_exception() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    take(&mut controller, update(0, &["185.0.0.0/24"]), 1);
    let phone = IpAddr::from([185, 0, 0, 9]);
    controller.know(phone, at(2));
    assert!(!is_closed(&mut controller, "185.0.0.9"));
    assert!(is_closed(&mut controller, "185.0.0.10"));
}

#[test]
fn other_bans_stay_as_they_are_and_nothing_escalates() {
    let mut controller = with_feeds(NoKernel::default(), |config| {
        config.escalation.enabled = true;
        config.escalation.ipv4.offenders = 1;
    });
    ask(&mut controller, Request::BanMany { bans: vec![order("185.0.0.1/32")], force: false });
    fail(&mut controller, [185, 0, 0, 2], 15);
    let before: api::BansPage = read(&ask(&mut controller, every_ban()));
    take(&mut controller, update(0, &["185.0.0.1/32", "185.0.0.2/32", "185.0.0.3/32"]), 20);
    let after: api::BansPage = read(&ask(&mut controller, every_ban()));
    let others: Vec<_> = after.bans.iter().filter(|row| row.jail != "feed:drop").cloned().collect();
    assert_eq!((others, after.bans.len()), (before.bans, 5));
    take(&mut controller, update(0, &[]), 21);
    let left: api::BansPage = read(&ask(&mut controller, every_ban()));
    assert_eq!(left.bans.len(), 2);
}

#[test]
fn an_unban_holds_until_the_list_drops_the_entry() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    let list = ["185.0.0.1/32", "185.0.0.2/32", "185.0.1.0/24"];
    take(&mut controller, update(0, &list), 1);
    take(&mut controller, update(1, &list[..1]), 1);
    let lifted: Lifted = read(&ask(&mut controller, unban("185.0.0.1/32")));
    assert_eq!(lifted.lifted, 2);
    ask(&mut controller, unban("185.0.1.0/24"));
    take(&mut controller, update(0, &list), 2);
    take(&mut controller, update(1, &list[..1]), 2);
    assert_eq!(banned(&mut controller, "feed:drop"), ["185.0.0.2"]);
    assert_eq!(controller.feed_counts(0).spared["lifted"], 2);
    // It is dropped from both lists, and listed again.
    let removed = vec!["185.0.0.1/32".parse().unwrap()];
    for feed in [0, 1] {
        let gone = FeedUpdate { removed: removed.clone(), is_whole: false, ..update(feed, &[]) };
        take(&mut controller, gone, 3);
    }
    take(&mut controller, update(0, &list), 4);
    assert_eq!(banned(&mut controller, "feed:drop"), ["185.0.0.1", "185.0.0.2"]);
    // Only `--inside` lifts what is inside.
    take(&mut controller, update(1, &["185.0.1.7/32"]), 5);
    assert_eq!(banned(&mut controller, "feed:more"), ["185.0.1.7"]);
    let network = "185.0.1.0/24".parse().unwrap();
    ask(&mut controller, Request::Unban(Unban::Network { network, inside: true }));
    take(&mut controller, update(1, &["185.0.1.7/32", "185.0.1.8/32"]), 6);
    assert_eq!(banned(&mut controller, "feed:more"), Vec::<String>::new());
}

#[test]
fn a_feed_whose_bans_were_all_lifted_waits_for_a_confirmation() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    let list = ["185.0.0.1/32", "185.0.0.2/32"];
    for lift in [Unban::Jail { jail: "feed:drop".to_owned() }, Unban::All] {
        take(&mut controller, update(0, &list), 1);
        assert_eq!(banned(&mut controller, "feed:drop").len(), 2);
        ask(&mut controller, Request::Unban(lift));
        take(&mut controller, update(0, &list), 30);
        assert!(banned(&mut controller, "feed:drop").is_empty());
        assert!(controller.feed_counts(0).is_paused);
        assert!(controller.resume_feed(0) && !controller.resume_feed(0));
    }
}

#[test]
fn a_restart_adopts_what_the_kernel_has() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    take(&mut controller, update(0, &["185.0.0.1/32", "185.0.1.0/24"]), 1);
    take(&mut controller, update(1, &["185.0.0.2/32"]), 1);
    let kernel = std::mem::take(&mut controller.datapath);
    // The second feed is gone from the configuration, and the first list has changed.
    let mut again = started_with(kernel, |config| {
        config.feeds.insert("drop".to_owned(), Feed::default());
    });
    assert_eq!(again.bans.ledger().count(Origin::Feed(0)), 2, "nothing is open meanwhile");
    while again.has_more_to_do() {
        again.go_on(at(2));
    }
    take(&mut again, update(0, &["185.0.0.1/32", "185.0.0.5/32"]), 3);
    let left: Vec<String> = again.bans.ledger().iter().map(|e| e.ban.network.to_string()).collect();
    assert_eq!(left, ["185.0.0.1/32", "185.0.0.5/32"]);
    let first = again.bans.ledger().iter().next().unwrap();
    assert_eq!(&*first.reason, "listed by the feed drop");
}

#[test]
fn feeds_leave_room_for_the_bans_of_this_host() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    let capacity = controller.datapath.capacity();
    let first = u32::from_be_bytes([185, 0, 0, 0]);
    let many = (0..u32::try_from(capacity).unwrap() + 100)
        .map(|n| Listed { network: IpAddr::from((first + n).to_be_bytes()).into(), until: 0 });
    take(&mut controller, FeedUpdate { entries: many.collect(), ..update(0, &[]) }, 1);
    assert!(controller.ban_count() as u64 <= capacity - capacity / 10);
    let counts = controller.feed_counts(0);
    assert_eq!(counts.banned + counts.spared["no-room"], capacity + 100);
}

#[test]
fn packets_are_counted_for_each_feed() {
    let mut controller = with_feeds(NoKernel::default(), |_| {});
    take(&mut controller, update(0, &["185.0.0.1/32", "185.0.0.2/32"]), 1);
    controller.count_feeds(at(2));
    while controller.has_more_to_do() {
        controller.go_on(at(2));
    }
    let each = controller.datapath.packets("185.0.0.1/32".parse().unwrap());
    assert_eq!(controller.feed_counts(0).packets, 2 * each);
}

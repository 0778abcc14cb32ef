//! The bans by other hosts: what they ban, what they never touch, and how they end.

use api::{
    FleetAllow, FleetBan, FleetBans, FleetHost, FleetReport, FleetSettings, FleetState, FleetTaken,
};

use super::*;

fn in_fleet(datapath: NoKernel, adjust: impl Fn(&mut Config)) -> Controller<NoKernel> {
    started_with(datapath, |config| {
        config.fleet.servers = vec!["nats://127.0.0.1:4222".parse().unwrap()];
        adjust(config);
    })
}

fn ban(network: &str, host: &str) -> FleetBan {
    FleetBan {
        network: network.parse().unwrap(),
        host: host.to_owned(),
        jail: "asterisk-wazo".to_owned(),
        proven: true,
        hosts: 1,
        seconds: 3600,
    }
}

fn say(controller: &mut Controller<NoKernel>, bans: FleetBans, now: u64) -> FleetTaken {
    let answer = controller.answer(Request::FleetBans(bans), at(now));
    let Reply::Ok(Answer::FleetTaken(taken)) = answer else { panic!("{answer:?}") };
    while controller.has_more_to_do() {
        controller.go_on(at(now));
    }
    taken
}

fn round(controller: &mut Controller<NoKernel>, round: u32, bans: Vec<FleetBan>) -> FleetTaken {
    say(controller, FleetBans { bans, round, is_last: true, ..FleetBans::default() }, 1)
}

/// The bans by a host, or all with `fleet`.
fn banned(controller: &mut Controller<NoKernel>, jail: &str) -> Vec<String> {
    let page: api::BansPage = read(&ask(controller, bans_of(jail)));
    page.bans.into_iter().map(|row| row.network).collect()
}

fn fleet(controller: &mut Controller<NoKernel>) -> api::Fleet {
    read(&ask(controller, Request::Fleet))
}

#[test]
fn a_ban_of_another_host_is_one_here_with_its_origin() {
    let mut controller = in_fleet(NoKernel::default(), |_| {});
    let bans = vec![ban("185.0.0.1/32", "pbx-2"), ban("185.0.0.2/32", "pbx-3")];
    assert_eq!(round(&mut controller, 1, bans), FleetTaken { banned: 2, spared: 0, lifted: 0 });
    assert_eq!(banned(&mut controller, "fleet:pbx-2"), ["185.0.0.1"]);
    assert_eq!(banned(&mut controller, "fleet:pbx"), Vec::<String>::new());
    assert_eq!(banned(&mut controller, "fleet"), ["185.0.0.1", "185.0.0.2"]);
    let why = ask(&mut controller, Request::Why { address: "185.0.0.2".parse().unwrap() });
    assert_eq!((&why["jail"], &why["scope"]), (&"fleet:pbx-3".into(), &"sip".into()));
    assert_eq!(why["reason"], "pbx-3: banned there by asterisk-wazo");
    // It ends in time, and what the next round does not contain is lifted.
    round(&mut controller, 2, vec![ban("185.0.0.2/32", "pbx-2")]);
    assert_eq!(banned(&mut controller, "fleet:pbx-2"), ["185.0.0.2"]);
    controller.handle_timeout(at(3602));
    assert!(banned(&mut controller, "fleet").is_empty());
}

#[tokio::test]
async fn it_is_no_event_so_that_nobody_shares_it_again() {
    let mut controller = in_fleet(NoKernel::default(), |_| {});
    let mut listener = controller.events().listen(9).unwrap();
    round(&mut controller, 1, vec![ban("185.0.0.1/32", "pbx-2")]);
    round(&mut controller, 2, Vec::new());
    controller.events().tell(|| api::Event::Enforcing { enforcing: true });
    let mut events = Vec::new();
    while events.is_empty() {
        let text = listener.recv().await.unwrap();
        events.extend(
            String::from_utf8(text.to_vec())
                .unwrap()
                .lines()
                .filter(|l| l.contains("event:"))
                .map(ToOwned::to_owned),
        );
    }
    assert_eq!(events, ["event: enforcing"]);
}

#[test]
fn it_is_bounded_by_what_this_host_accepts() {
    let mut controller = in_fleet(NoKernel::default(), |config| {
        config.fleet.accept.total = 2;
        config.fleet.accept.longest = Duration::from_mins(1);
    });
    let wrong = vec![
        FleetBan { proven: false, ..ban("185.0.0.1/32", "pbx-2") },
        FleetBan { jail: "a\u{1b}".to_owned(), ..ban("185.0.0.1/32", "pbx-2") },
        FleetBan { seconds: 0, ..ban("185.0.0.1/32", "pbx-2") },
        ban("185.0.0.1/32", "PBX"),
        ban("10.0.0.1/32", "pbx-2"),
        ban("185.0.0.0/16", "pbx-2"),
        ban("0.0.0.0/0", "pbx-2"),
    ];
    assert_eq!(round(&mut controller, 1, wrong).spared, 7);
    assert_eq!(fleet(&mut controller).spared["invalid"], 7);
    let bans = (1..=3).map(|n| ban(&format!("185.0.0.{n}/32"), "pbx-2")).collect();
    let taken = round(&mut controller, 2, bans);
    assert_eq!((taken.banned, taken.spared), (2, 1));
    controller.handle_timeout(at(62));
    assert!(banned(&mut controller, "fleet").is_empty());
    let many = vec![ban("185.0.0.1/32", "pbx-2"); 49];
    let many = FleetBans { bans: many, ..FleetBans::default() };
    assert!(matches!(controller.answer(Request::FleetBans(many), at(1)), Reply::Error(_)));
}

#[test]
fn it_never_touches_what_no_jail_may_ban_nor_another_ban() {
    let peer: IpAddr = "185.0.0.2".parse().unwrap();
    let kernel = NoKernel { known: [peer].into(), ..NoKernel::default() };
    let mut controller = in_fleet(kernel, |config| {
        config.trusted = vec!["185.0.0.4/32".parse().unwrap()];
        for jail in config.jails.values_mut() {
            jail.ignoreip = vec!["185.0.0.5/32".parse().unwrap()];
        }
    });
    let own = Request::Ban {
        network: "185.0.0.6/32".parse().unwrap(),
        seconds: Some(60),
        scope: "all".to_owned(),
        except: Vec::new(),
        reason: Some("mine".to_owned()),
        force: false,
    };
    ask(&mut controller, own);
    let bans = [2, 4, 5, 6].map(|n| ban(&format!("185.0.0.{n}/32"), "pbx-2"));
    let taken = round(&mut controller, 1, bans.to_vec());
    assert_eq!((taken.banned, taken.spared), (1, 3), "{:?}", fleet(&mut controller).spared);
    let spared = fleet(&mut controller).spared;
    assert_eq!((spared["known"], spared["trusted"], spared["ignored"]), (1, 1, 1));
    round(&mut controller, 2, Vec::new());
    assert_eq!(banned(&mut controller, "manual"), ["185.0.0.6"]);
    assert!(banned(&mut controller, "fleet").is_empty());
}

#[test]
fn a_host_is_cut_off_by_name_and_may_join_again() {
    let mut controller = in_fleet(NoKernel::default(), |_| {});
    let bans = vec![ban("185.0.0.1/32", "pbx-2"), ban("185.0.0.2/32", "mad")];
    round(&mut controller, 1, bans.clone());
    ask(&mut controller, Request::FleetCut { host: "mad".to_owned() });
    let taken = round(&mut controller, 2, bans.clone());
    assert_eq!((taken.banned, taken.spared), (1, 1));
    assert_eq!(banned(&mut controller, "fleet"), ["185.0.0.1"]);
    let report =
        Request::FleetReport(FleetReport { host: "pbx-1".to_owned(), ..FleetReport::default() });
    let settings: FleetSettings = read(&ask(&mut controller, report));
    assert_eq!(settings.cut, ["mad"]);
    ask(&mut controller, Request::FleetJoin { host: "mad".to_owned() });
    assert_eq!(round(&mut controller, 3, bans.clone()).banned, 2);
    // What is lifted stays lifted.
    ask(&mut controller, Request::Unban(Unban::Jail { jail: "fleet:mad".to_owned() }));
    assert_eq!(fleet(&mut controller).cut, ["mad"]);
    ask(&mut controller, Request::Unban(Unban::All));
    assert_eq!(round(&mut controller, 4, bans.clone()).banned, 0);
    for host in ["mad", "all"] {
        ask(&mut controller, Request::FleetJoin { host: host.to_owned() });
    }
    round(&mut controller, 5, bans.clone());
    let unban = Unban::Network { network: "185.0.0.1/32".parse().unwrap(), inside: false };
    ask(&mut controller, Request::Unban(unban));
    assert_eq!(round(&mut controller, 6, bans).spared, 1);
    assert_eq!(banned(&mut controller, "fleet"), ["185.0.0.2"]);
}

#[test]
fn what_the_fleet_trusts_is_trusted_and_what_an_administrator_allows_stays() {
    let mut controller = in_fleet(NoKernel::default(), |_| {});
    round(&mut controller, 1, vec![ban("185.0.0.1/32", "pbx-2")]);
    let allow = |network: &str| FleetAllow {
        network: network.parse().unwrap(),
        comment: "office".to_owned(),
        seconds: None,
    };
    let mine = "185.0.1.0/24".parse().unwrap();
    ask(&mut controller, Request::Allow { network: mine, seconds: None, comment: None });
    let allows = vec![allow("185.0.0.0/24"), allow("185.0.1.0/24")];
    for _ in 0..2 {
        ask(&mut controller, Request::FleetAllows { allows: allows.clone() });
    }
    while controller.is_lifting() {
        controller.lift_more(at(2));
    }
    assert!(banned(&mut controller, "fleet").is_empty());
    assert_eq!(round(&mut controller, 2, vec![ban("185.0.0.1/32", "pbx-2")]).spared, 1);
    let found: api::Allows =
        read(&ask(&mut controller, Request::FleetAllows { allows: Vec::new() }));
    assert_eq!(found.allows.len(), 1, "{found:?}");
    assert_eq!(found.allows[0].network, "185.0.1.0/24");
}

#[test]
fn its_state_is_what_the_agent_last_said() {
    let mut controller = in_fleet(NoKernel::default(), |_| {});
    assert_eq!(fleet(&mut controller).state, FleetState::NoAgent);
    let host = FleetHost { host: "pbx-2".to_owned(), ..FleetHost::default() };
    let report = FleetReport {
        host: "pbx-1".to_owned(),
        server: Some("nats-1".to_owned()),
        hosts: vec![host, FleetHost { host: "\u{1b}[0m".to_owned(), ..FleetHost::default() }],
        ..FleetReport::default()
    };
    ask(&mut controller, Request::FleetReport(report.clone()));
    let shown = fleet(&mut controller);
    assert_eq!((shown.state, shown.hosts.len()), (FleetState::Connected, 1));
    let report = FleetReport { server: None, ..report };
    ask(&mut controller, Request::FleetReport(report.clone()));
    assert_eq!(fleet(&mut controller).state, FleetState::Disconnected);
    let late = controller.answer(Request::Fleet, at(100));
    let Reply::Ok(Answer::Fleet(late)) = late else { panic!("{late:?}") };
    assert_eq!(late.state, FleetState::NoAgent);
    let report = FleetReport { problem: Some("a\nb".to_owned()), ..report };
    assert!(matches!(controller.answer(Request::FleetReport(report), at(1)), Reply::Error(_)));
    // A host that leaves the fleet keeps none of its bans.
    round(&mut controller, 1, vec![ban("185.0.0.1/32", "pbx-2")]);
    controller.reconfigure(&Config::default(), at(2)).unwrap();
    while controller.has_more_to_do() {
        controller.go_on(at(2));
    }
    assert_eq!(controller.ban_count(), 0);
    assert_eq!(fleet(&mut controller).state, FleetState::Off);
}

//! The bans by other hosts: what they ban, what they never touch, and how they end.

use api::{
    FleetAllow, FleetBan, FleetBans, FleetHost, FleetMaintenance, FleetReport, FleetSettings,
    FleetState, FleetTaken, HistoryEvent, Maintenance, MaintenanceState,
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

/// What the agent reports: the fleet asks for maintenance, or for none.
fn asks(stamp: u64, seconds: u64) -> Request {
    let comment = "database".to_owned();
    let asked = FleetMaintenance { stamp, seconds, closed_to_known: true, comment };
    let host = "pbx-1".to_owned();
    Request::FleetReport(FleetReport { host, maintenance: Some(asked), ..FleetReport::default() })
}

/// For how many more seconds SIP is closed after the agent has asked for this.
fn closed_for(controller: &mut Controller<NoKernel>, request: Request, now: u64) -> u64 {
    let answer = controller.answer(request, at(now));
    assert!(matches!(answer, Reply::Ok(_)), "{answer:?}");
    controller.closed(at(now)).map_or(0, |closed| closed.until.since(at(now)).as_secs())
}

fn for_an_hour(datapath: NoKernel) -> Controller<NoKernel> {
    in_fleet(datapath, |config| config.fleet.accept.maintenance = Duration::from_hours(1))
}

fn maintenance(controller: &mut Controller<NoKernel>, now: u64) -> MaintenanceState {
    let answer = controller.answer(Request::Maintenance(Maintenance::Status), at(now));
    let Reply::Ok(Answer::Maintenance(state)) = answer else { panic!("{answer:?}") };
    state
}

#[test]
fn maintenance_of_the_fleet_closes_only_where_it_is_accepted() {
    let mut controller = in_fleet(NoKernel::default(), |_| {});
    assert_eq!(closed_for(&mut controller, asks(1, 600), 20), 0);
    let why = fleet(&mut controller).maintenance_refused.unwrap();
    assert!(why.contains("fleet.accept.maintenance"), "{why}");
    let mut controller = for_an_hour(NoKernel::default());
    assert_eq!(closed_for(&mut controller, asks(1, 600), 20), 600);
    let state = maintenance(&mut controller, 20);
    assert!(state.on && state.by_fleet && state.closed_to_known, "{state:?}");
    assert_eq!(state.comment.as_deref(), Some("database"));
    // The same again, what the agent does not know yet, and another length of it.
    assert_eq!(closed_for(&mut controller, asks(1, 580), 40), 580);
    let unknown = Request::FleetReport(FleetReport::default());
    assert_eq!(closed_for(&mut controller, unknown, 50), 570);
    assert_eq!(closed_for(&mut controller, asks(2, 60), 60), 60);
    assert_eq!(closed_for(&mut controller, asks(0, 0), 70), 0);
    let told = controller.bans.store().take_history().into_iter();
    let changes = told.map(|event| serde_json::from_str(&event.what).unwrap());
    let changes: Vec<(String, String)> = changes
        .filter_map(|event| {
            let HistoryEvent::Change { by, action } = event else { return None };
            Some((by, action))
        })
        .collect();
    let [close, shorter, open] =
        ["close SIP for 10m: database", "close SIP for 1m: database", "open SIP"]
            .map(|action| ("the fleet".to_owned(), action.to_owned()));
    assert_eq!(changes, [close, shorter, open]);
    assert!(fleet(&mut controller).maintenance_refused.is_none());
}

#[test]
fn the_fleet_closes_for_no_longer_than_a_day_allows() {
    const DAY: u64 = 24 * 3600;
    let mut controller = for_an_hour(NoKernel::default());
    assert_eq!(closed_for(&mut controller, asks(1, 7 * DAY), 20), 3600);
    // It ends by itself, and neither this record nor another closes it again on this day.
    assert_eq!(closed_for(&mut controller, asks(1, 7 * DAY), 3620), 0);
    assert!(!maintenance(&mut controller, 3620).by_fleet);
    assert_eq!(closed_for(&mut controller, asks(2, 600), 3640), 0);
    let mut controller = for_an_hour(controller.datapath);
    let mut total = 0;
    // One that asks again every second, each time with another record, for three days.
    let mut was_closed = 0;
    for second in 0..3 * DAY {
        let closed = closed_for(&mut controller, asks(100 + second, 60), 5000 + second);
        total += u64::from(closed > 0);
        was_closed = if closed > 0 { was_closed + 1 } else { 0 };
        assert!(was_closed <= 3600, "{second}");
    }
    assert!(total <= 3 * 3600 + 3600, "{total}");
    // The history has no more lines than the closings.
    assert!(controller.bans.store().take_history().len() <= 4 * 2 * 16);
}

#[test]
fn the_administrator_of_a_host_has_the_last_word_on_maintenance() {
    let by_hand =
        |seconds| Request::Maintenance(Maintenance::On { seconds, closed_to_known: false });
    let mut controller = for_an_hour(NoKernel::default());
    assert_eq!(closed_for(&mut controller, asks(1, 1200), 20), 1200);
    assert_eq!(closed_for(&mut controller, Request::Maintenance(Maintenance::Off), 30), 0);
    assert_eq!(closed_for(&mut controller, asks(1, 1180), 40), 0);
    // What is closed by hand, the fleet neither opens nor changes.
    assert_eq!(closed_for(&mut controller, by_hand(600), 50), 600);
    assert_eq!(closed_for(&mut controller, asks(2, 1200), 60), 590);
    assert_eq!(closed_for(&mut controller, asks(0, 0), 70), 580);
    assert!(!maintenance(&mut controller, 70).by_fleet);
    // When that is over, what is left of the fleet's follows.
    assert_eq!(closed_for(&mut controller, asks(2, 600), 650), 600);
    assert_eq!(closed_for(&mut controller, by_hand(60), 660), 60);
    assert_eq!(closed_for(&mut controller, asks(2, 580), 721), 0);
    // Less is accepted while SIP is closed.
    assert_eq!(closed_for(&mut controller, asks(3, 1200), 800), 1200);
    let mut config = Config::default();
    config.fleet.servers = vec!["nats://127.0.0.1:4222".parse().unwrap()];
    config.fleet.accept.maintenance = Duration::from_mins(5);
    controller.reconfigure(&config, at(810)).unwrap();
    let left = closed_for(&mut controller, asks(3, 1190), 810);
    assert!((200..300).contains(&left), "{left}");
    controller.reconfigure(&Config::default(), at(820)).unwrap();
    assert!(controller.closed(at(820)).is_none());
}

#[test]
fn maintenance_of_the_fleet_outlives_the_daemon_with_its_origin() {
    let mut controller = for_an_hour(NoKernel::default());
    assert_eq!(closed_for(&mut controller, asks(1, 1200), 20), 1200);
    let kept = controller.fleet.maintenance.kept(controller.started).unwrap();
    let again = |datapath: NoKernel, now: u64| {
        let mut again = for_an_hour(datapath);
        let key = ("fleet-maintenance".to_owned(), String::new());
        let wall = Timestamp::from_second(1000 + i64::try_from(now).unwrap()).unwrap();
        let clock = Now { kernel: at(now), wall };
        again.load_fleet_maintenance(&[(key, kept.clone())].into(), clock);
        again
    };
    let mut later =
        again(NoKernel { closed: controller.datapath.closed, ..NoKernel::default() }, 30);
    assert!(maintenance(&mut later, 30).by_fleet);
    assert_eq!(closed_for(&mut later, asks(0, 0), 40), 0);
    // After a boot nothing is closed, and this record closes it no more.
    let mut booted = again(NoKernel::default(), 30);
    assert!(!maintenance(&mut booted, 30).by_fleet);
    assert_eq!(closed_for(&mut booted, asks(1, 1100), 40), 0);
}

//! What the host depends on: whatever would ban it does not.

use api::{Decided, HistoryEvent};
use ipnet::Ipv4Net;

use super::*;
use crate::ban::Scopes;
use crate::datapath::Limited;
use crate::dns::{Addresses, News};
use crate::doctor::Trunks;
use crate::host::Essential;

const ADDRESS: [u8; 4] = [203, 0, 113, 7];

/// Makes an address essential.
type Surround = fn(&mut Surroundings);

/// How an address comes to be essential, and what it is then.
const KINDS: [(Surround, &str); 5] = [
    (|host| assert!(host.found.gateways.insert(ADDRESS.into())), "a default gateway"),
    (|host| assert!(host.found.name_servers.insert(ADDRESS.into())), "a name server"),
    (|host| assert!(host.trunks.networks.insert("203.0.113.0/29".parse().unwrap())), "a trunk"),
    (|host| assert!(host.trunks.names.insert("carrier.example".parse().unwrap())), "a trunk"),
    (|host| assert!(host.found.sessions.insert(ADDRESS.into())), "the source of an SSH session"),
];

#[derive(Default)]
struct Surroundings {
    found: Essential,
    trunks: Trunks,
}

/// The jail's bans close everything, as those of an SSH session must to matter.
fn closes_all(config: &mut Config) {
    for jail in config.jails.values_mut() {
        (jail.scope, jail.unproven_scope) = (Scope::All, Some(Scope::All));
    }
    config.escalation.enabled = true;
    config.escalation.ipv4.offenders = 2;
}

/// Tells a controller of one essential address.
fn surround(controller: &mut Controller<NoKernel>, how: Surround) {
    let mut host = Surroundings::default();
    how(&mut host);
    controller.set_essentials(&host.found, &host.trunks, at(1));
    for name in host.trunks.names {
        let all = BTreeSet::from([IpAddr::from(ADDRESS)]);
        let addresses = Addresses { all, left_out: 0, failed: None };
        controller.resolved(News { name, addresses }, at(1));
    }
}

fn surrounded(how: Surround) -> Controller<NoKernel> {
    let mut controller = started_with(NoKernel::default(), closes_all);
    surround(&mut controller, how);
    controller
}

fn events(controller: &Controller<NoKernel>) -> Vec<HistoryEvent> {
    let events = controller.bans.store().take_history().into_iter();
    events.map(|event| serde_json::from_str(&event.what).unwrap()).collect()
}

/// A text without the ends of its lines.
fn unwrapped(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// That nothing closes the address, and that it was said why.
fn is_spared(controller: &mut Controller<NoKernel>, is: &str, bans: u64) {
    assert!(!controller.datapath.bans.contains_key(&ADDRESS.into()), "{is}");
    assert!(controller.bans.ledger().of(ADDRESS.into()).is_empty(), "{is}");
    let status = ask(controller, Request::Status);
    assert_eq!(status["essential"]["prevented"], bans, "{is}: {status}");
    let why = ask(controller, Request::Why { address: ADDRESS.into() });
    assert_eq!((&why["dropped"], &why["trusted"]), (&false.into(), &false.into()), "{is}");
    assert_eq!(why["essential"], is, "{why}");
    assert_eq!(why["prevented"]["bans"], bans, "{why}");
    let text = unwrapped(&crate::report::why(&read(&why)));
    assert!(text.contains(&format!("protected: {is}; ")), "{text}");
    let told = events(controller);
    let is_told = |event: &HistoryEvent| matches!(event, HistoryEvent::BanPrevented { is: found, .. } if found == is);
    assert_eq!(told.iter().filter(|event| is_told(event)).count(), 1, "{is}: {told:?}");
}

#[test]
fn a_jail_does_not_ban_it() {
    for (how, is) in KINDS {
        let mut controller = surrounded(how);
        fail(&mut controller, ADDRESS, 31);
        is_spared(&mut controller, is, 2);
        let why = ask(&mut controller, Request::Why { address: ADDRESS.into() });
        assert_eq!(why["prevented"]["failures"], 30, "{why}");
        let text = unwrapped(&crate::report::why(&read(&why)));
        assert!(text.contains("30 failures; not banned, last at "), "{text}");
        // It is not trusted for that.
        let address = IpAddr::from(ADDRESS);
        assert!(controller.datapath.trusted.iter().all(|net| !net.contains(&address)));
    }
}

#[test]
fn a_ban_of_a_network_leaves_it_out() {
    for (how, is) in KINDS {
        let mut controller = surrounded(how);
        for last in [101, 102] {
            for n in 0..15 {
                let attempt = proven(IpAddr::from([203, 0, 113, last]));
                controller.observe(&attempt, 0, "asterisk-wazo", at(n));
            }
        }
        let bans = ask(&mut controller, bans_of("escalation"));
        assert_eq!(bans["bans"][0]["network"], "203.0.113.0/24", "{is}: {bans}");
        assert!(controller.bans.ledger().of(ADDRESS.into()).is_empty(), "{is}: {bans}");
    }
}

#[test]
fn an_import_does_not_ban_it() {
    for (how, is) in KINDS {
        let mut controller = surrounded(how);
        let jail = "asterisk-wazo".to_owned();
        let bans = vec![Decided { address: ADDRESS.into(), jail, seconds: None }];
        let import = Request::TakeOver { bans, from: "fail2ban".to_owned(), last: true };
        let done = ask(&mut controller, import);
        assert_eq!(done["entered"], 0, "{is}: {done}");
        is_spared(&mut controller, is, 1);
    }
}

#[test]
fn bans_from_before_are_lifted_but_for_manual_ones() {
    for (how, is) in KINDS {
        // By a jail of the address, and by escalation of a network around it.
        let mut controller = started_with(NoKernel::default(), closes_all);
        fail(&mut controller, ADDRESS, 15);
        assert_eq!(controller.ban_count(), 1);
        let around: IpNet = "203.0.113.0/24".parse().unwrap();
        let ban = Ban {
            network: around,
            scope: Scope::All,
            origin: Origin::Escalation,
            since: at(0).into(),
            until: None,
        };
        controller.enter(&Entry::new(ban, "2 offenders"), None).unwrap();
        // As a start does, with what the store has kept.
        let kept: Vec<Entry> = controller
            .bans
            .ledger()
            .within(IpNet::V4(Ipv4Net::default()), None, 9)
            .cloned()
            .collect();
        assert_eq!(kept.len(), 2, "{kept:?}");
        let mut again = started_again(controller.datapath, kept, closes_all);
        surround(&mut again, how);
        assert!(!again.datapath.bans.contains_key(&ADDRESS.into()), "{is}");
        let told = events(&again);
        assert!(told.iter().any(|event| matches!(event, HistoryEvent::BanLifted(_))), "{told:?}");
        let of = again.bans.ledger().of(ADDRESS.into());
        assert!(of.is_empty(), "{is}: {of:?}");
        let mut controller = started_with(NoKernel::default(), closes_all);
        ask(&mut controller, super::ban("203.0.113.7/32", None));
        surround(&mut controller, how);
        assert_eq!(controller.ban_count(), 1, "{is}: what is manual stays");
    }
}

#[test]
fn a_manual_ban_takes_force() {
    for (how, is) in KINDS {
        let mut controller = surrounded(how);
        let why = refuse(&mut controller, ban("203.0.113.7/32", None));
        assert!(why.contains(is) && why.contains("--force"), "{why}");
        let why = refuse(&mut controller, ban("203.0.113.0/24", None));
        assert!(why.contains(is) && why.contains("--except 203.0.113."), "{why}");
        let order = api::Order { scope: "all".to_owned(), ..order("203.0.113.0/24") };
        let done = ask(&mut controller, Request::BanMany { bans: vec![order], force: false });
        assert_eq!((&done["banned"], done["refused"].as_array().unwrap().len()), (&0.into(), 1));
        let with = |network: &str, except: &[&str], force| Request::Ban {
            network: network.parse().unwrap(),
            seconds: None,
            scope: "all".to_owned(),
            except: except.iter().map(|exception| exception.parse().unwrap()).collect(),
            reason: None,
            force,
        };
        ask(&mut controller, with("203.0.113.0/24", &["203.0.113.0/29"], false));
        assert!(controller.bans.ledger().of(ADDRESS.into()).is_empty(), "{is}");
        ask(&mut controller, with("203.0.113.7/32", &[], true));
        assert_eq!(controller.bans.ledger().of(ADDRESS.into()).len(), 1, "{is}");
    }
}

#[test]
fn the_session_of_whoever_asks_is_not_shut_out() {
    let mut controller = started_with(NoKernel::default(), closes_all);
    let from = Some(IpAddr::from(ADDRESS));
    let mut asked = |request| {
        let asker = Asker { name: "alice", from };
        match controller.answer_to(request, asker, at(1)) {
            Answered::Now(reply) => reply,
            Answered::Later(_) => panic!("it is answered at once"),
        }
    };
    let Reply::Error(why) = asked(ban("203.0.113.0/24", None)) else { panic!("it is refused") };
    assert!(why.message.contains("your SSH session"), "{why}");
    let sip = |network: &str| Request::BanMany { bans: vec![order(network)], force: false };
    let Reply::Ok(Answer::BannedMany(done)) = asked(sip("203.0.113.0/24")) else { panic!() };
    assert_eq!(done.banned, 1, "SSH stays open: {done:?}");
}

#[test]
fn a_ban_that_leaves_ssh_open_does_not_concern_a_session() {
    let mut controller = started_with(NoKernel::default(), |_default| {});
    surround(&mut controller, KINDS[4].0);
    fail(&mut controller, ADDRESS, 15);
    let bans = ask(&mut controller, every_ban());
    assert_eq!((&bans["bans"][0]["scope"], controller.ban_count()), (&"sip".into(), 1));
}

#[test]
fn the_kernel_lets_it_in_again_after_a_flood() {
    let mut controller = surrounded(KINDS[0].0);
    let scopes = Scopes::default();
    let address = IpAddr::from(ADDRESS);
    let held =
        AddressEntry { address, scopes, origin: Origin::Flood, since: at(0), until: Some(at(60)) };
    controller.datapath.bans.insert(address, held);
    controller.limit_exceeded(Limited { source: address, reason: Reason::Flooding, at: at(1) });
    is_spared(&mut controller, KINDS[0].1, 1);
}

#[test]
fn each_kind_can_be_switched_off_and_on_again() {
    let switches: [fn(&mut Config); 5] = [
        |config| config.protect.gateways = false,
        |config| config.protect.name_servers = false,
        |config| config.protect.trunks = false,
        |config| config.protect.trunks = false,
        |config| config.protect.ssh_sessions = false,
    ];
    for ((how, is), switch) in KINDS.into_iter().zip(switches) {
        let mut controller = surrounded(how);
        let mut config = Config::default();
        closes_all(&mut config);
        switch(&mut config);
        controller.reconfigure(&config, at(1)).unwrap();
        fail(&mut controller, ADDRESS, 15);
        assert_eq!(controller.bans.ledger().of(ADDRESS.into()).len(), 1, "{is}");
        config.protect = crate::config::Protect::default();
        controller.reconfigure(&config, at(2)).unwrap();
        is_spared(&mut controller, is, 1);
    }
}

#[test]
fn what_is_trusted_or_own_is_not_banned_in_silence() {
    for (address, is) in
        [([198, 51, 100, 7], "trusted"), ([127, 0, 0, 1], "the host's own address")]
    {
        let mut controller = controller();
        fail(&mut controller, address, 14);
        let status = ask(&mut controller, Request::Status);
        assert_eq!(status["essential"]["prevented"], 0, "{is}");
        fail(&mut controller, address, 16);
        let status = ask(&mut controller, Request::Status);
        assert_eq!(status["essential"]["prevented"], 2, "{is}: {status}");
        assert_eq!(status["essential"]["last"]["is"], is);
        let text = unwrapped(&crate::report::status(&read(&status)));
        assert!(text.contains("NOT BANNED: 2 bans were not made; "), "{text}");
        let why = ask(&mut controller, Request::Why { address: address.into() });
        assert_eq!((&why["prevented"]["failures"], &why["trusted"]), (&30.into(), &true.into()));
        assert_eq!(events(&controller).len(), 1, "{is}");
    }
}

#[test]
fn a_reload_that_shuts_a_session_out_is_objected_to() {
    for of_logind in [false, true] {
        let mut controller = started_with(NoKernel::default(), closes_all);
        let session = IpAddr::from([198, 51, 100, 7]);
        let network = "198.51.0.0/16".parse().unwrap();
        let ban = |scope| Ban {
            network,
            scope,
            origin: Origin::Manual,
            since: at(0).into(),
            until: None,
        };
        let asks = (!of_logind).then_some(session);
        if of_logind {
            let sessions = BTreeSet::from([session]);
            let found = Essential { sessions, ..Essential::default() };
            controller.set_essentials(&found, &Trunks::default(), at(0));
        }
        let others = Config { trusted: vec!["192.0.2.0/24".parse().unwrap()], ..Config::default() };
        controller.enter(&Entry::new(ban(Scope::Sip), ""), None).unwrap();
        assert_eq!(controller.objections(&others, asks, at(1)), [""; 0]);
        controller.enter(&Entry::new(ban(Scope::All), ""), None).unwrap();
        let objections = controller.objections(&others, asks, at(1));
        let [one] = &objections[..] else { panic!("{objections:?}") };
        assert!(one.contains("198.51.100.7") && one.contains("198.51.0.0/16"), "{one}");
        let same = Config { trusted: vec!["198.51.100.0/24".parse().unwrap()], ..others };
        assert_eq!(controller.objections(&same, asks, at(1)), [""; 0]);
    }
}

#[test]
fn proven_failures_throttle_it_and_lengthen_nothing() {
    for (how, is) in KINDS {
        let mut controller = surrounded(how);
        for n in 0..15 {
            let attempt = Attempt {
                proven: true,
                session: Some(n.to_string()),
                ..Attempt::new(Verdict::Failure, Class::WrongCredential, ADDRESS.into())
            };
            controller.observe(&attempt, 0, "asterisk-wazo", at(n));
        }
        let bans = controller.bans.ledger().iter();
        let scopes: Vec<Scope> = bans.map(|entry| entry.ban.scope).collect();
        assert_eq!(scopes, [Scope::Throttle], "{is}");
        assert!(controller.datapath.bans.is_empty(), "{is}");
        let status = ask(&mut controller, Request::Status);
        assert_eq!(status["essential"]["prevented"], 1, "{is}");
        let why = ask(&mut controller, Request::Why { address: ADDRESS.into() });
        assert_eq!(why["history"], Value::Null, "{is}: no earlier ban is remembered");
    }
}

use std::cell::RefCell;
use std::collections::BTreeMap;

use filter_common::decision::Reason;
use jiff::Timestamp;
use serde_json::Value;

use super::*;
use crate::config::Scope;
use crate::control::{Reply, Request, Unban};
use crate::datapath::{Count, Interface, InterfaceCounters, Mode};
use crate::failure::Class;

/// A datapath that only remembers.
#[derive(Default)]
struct Memory {
    bans: RefCell<BTreeMap<IpNet, Ban>>,
    trusted: Vec<IpNet>,
    full: bool,
    unseen: Vec<IpAddr>,
}

impl Datapath for Memory {
    fn ban(&mut self, ban: &Ban) -> Result<()> {
        anyhow::ensure!(!self.full, "the table is full");
        self.bans.borrow_mut().insert(ban.network, *ban);
        Ok(())
    }

    fn unban(&mut self, network: IpNet) -> Result<()> {
        self.bans.borrow_mut().remove(&network);
        Ok(())
    }

    fn trust(&mut self, networks: &[IpNet]) -> Result<()> {
        self.trusted = networks.to_vec();
        Ok(())
    }

    fn seen(&self, address: IpAddr, _now: KernelTime) -> bool {
        !self.unseen.contains(&address)
    }

    fn packets(&self, _network: IpNet) -> u64 {
        7
    }

    fn counters(&self) -> Result<Vec<InterfaceCounters>> {
        let interface = |slot: u32, name: &str| Interface {
            name: name.to_owned(),
            slot,
            mode: Mode::Native,
            fallback: None,
            adopted: false,
            attached: true,
        };
        let count = |packets| Count { packets, bytes: packets * 100 };
        let counters = |slot, name| InterfaceCounters {
            interface: interface(slot, name),
            reasons: vec![(Reason::OtherPort, count(5)), (Reason::Banned, count(3))],
            would_drop: vec![(Reason::Banned, count(0))],
        };
        Ok(vec![counters(0, "eth0"), counters(1, "eth1")])
    }

    fn capacity(&self) -> u64 {
        10
    }
}

const SECOND: u64 = 1_000_000_000;

fn at(seconds: u64) -> KernelTime {
    KernelTime(seconds * SECOND)
}

fn controller(bans: Vec<Ban>) -> Controller<Memory> {
    let started = Now { kernel: at(0), wall: Timestamp::from_second(1000).unwrap() };
    let trusted = vec!["198.51.100.0/24".parse().unwrap()];
    let config = Config { trusted, ..Config::default() };
    let own = BTreeSet::from(["192.0.2.10/32".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]);
    let mut controller = Controller::new(Memory::default(), &config, own, bans, started).unwrap();
    controller.add_source(SourceReport {
        name: "asterisk-notice",
        kind: "file",
        place: "/var/log/asterisk/fail2ban".to_owned(),
        state: ("ok", None),
        events: 0,
        failures: 0,
        unwitnessed: 0,
        last_event: None,
    });
    controller
}

fn fail(controller: &mut Controller<Memory>, address: [u8; 4], times: u64) {
    for n in 0..times {
        let attempt = Attempt {
            verdict: Verdict::Failure,
            class: Class::WrongCredential,
            address: IpAddr::from(address),
            port: Some(5060),
            account: Some("1001".to_owned()),
            transport: None,
            proven: false,
            logged_at: None,
            rivals: Vec::new(),
            decided: true,
        };
        controller.hear(&attempt, 0, "asterisk-wazo", at(n));
    }
}

fn ask(controller: &mut Controller<Memory>, request: Request) -> Value {
    match controller.answer(request, at(20)) {
        Reply::Ok(value) => value,
        Reply::Error(why) => panic!("{why}"),
    }
}

fn refuse(controller: &mut Controller<Memory>, request: Request) -> String {
    match controller.answer(request, at(20)) {
        Reply::Ok(value) => panic!("{value}"),
        Reply::Error(why) => why,
    }
}

fn ban(network: &str, seconds: Option<u64>) -> Request {
    Request::Ban {
        network: network.parse().unwrap(),
        seconds,
        scope: "all".to_owned(),
        reason: None,
    }
}

#[test]
fn fifteen_failures_ban_in_kernel_and_ledger() {
    let mut controller = controller(Vec::new());
    fail(&mut controller, [203, 0, 113, 7], 14);
    assert!(controller.datapath.bans.borrow().is_empty());
    fail(&mut controller, [203, 0, 113, 7], 1);
    let bans = ask(&mut controller, Request::Bans { jail: None });
    let ban = &bans["bans"][0];
    assert_eq!(ban["network"], "203.0.113.7");
    assert_eq!(ban["jail"], "asterisk-wazo");
    assert_eq!(ban["scope"], "sip");
    assert_eq!(ban["packets"], 7);
    assert_eq!(ban["since"], "1970-01-01T00:16:40.000Z");
    assert_eq!(ban["until"], "1970-01-01T01:16:40.000Z");
    assert_eq!(controller.datapath.bans.borrow().len(), 1);
}

#[test]
fn own_and_trusted_addresses_are_never_banned() {
    let mut controller = controller(Vec::new());
    for address in [[192, 0, 2, 10], [198, 51, 100, 9], [127, 0, 0, 1]] {
        fail(&mut controller, address, 50);
        let network = IpNet::from(IpAddr::from(address)).to_string();
        let why = refuse(&mut controller, ban(&network, None));
        assert!(why.contains("never banned"), "{why}");
    }
    assert!(controller.datapath.bans.borrow().is_empty());
    assert_eq!(controller.datapath.trusted.len(), 3);
}

#[test]
fn the_whole_world_is_not_banned_by_hand() {
    let mut controller = controller(Vec::new());
    for network in ["0.0.0.0/0", "128.0.0.0/1", "::/0", "::/64"] {
        let why = refuse(&mut controller, ban(network, None));
        assert!(why.contains("too wide"), "{network}: {why}");
    }
    ask(&mut controller, ban("10.0.0.0/8", None));
    ask(&mut controller, ban("2001:db8::/32", None));
}

#[test]
fn adopted_bans_stay_unless_they_are_trusted_now() {
    let adopted = |network: &str| Ban {
        network: network.parse().unwrap(),
        scope: Scope::Sip,
        origin: Origin::Jail(0),
        since: at(0),
        until: Some(at(100)),
    };
    let mut controller = controller(vec![adopted("203.0.113.7/32"), adopted("198.51.100.1/32")]);
    let bans = ask(&mut controller, Request::Bans { jail: Some("asterisk-wazo".to_owned()) });
    assert_eq!(bans["bans"].as_array().unwrap().len(), 1);
    assert_eq!(controller.next_timeout(), Some(at(100)));
    controller.handle_timeout(at(100));
    assert!(controller.ledger.is_empty());
}

#[test]
fn a_failure_without_a_packet_is_forged() {
    let mut controller = controller(Vec::new());
    controller.datapath.unseen = vec![IpAddr::from([203, 0, 113, 12])];
    fail(&mut controller, [203, 0, 113, 12], 100);
    fail(&mut controller, [203, 0, 113, 13], 14);
    assert!(controller.datapath.bans.borrow().is_empty());
    let status = ask(&mut controller, Request::Status);
    assert_eq!(status["sources"][0]["unwitnessed"], 100);
    assert_eq!(status["sources"][0]["failures"], 114);
}

#[test]
fn the_packet_decides_where_the_line_does_not() {
    let (attacker, victim) = (IpAddr::from([203, 0, 113, 13]), IpAddr::from([203, 0, 113, 12]));
    let undecided = Attempt {
        verdict: Verdict::Failure,
        class: Class::WrongCredential,
        address: victim,
        port: None,
        account: None,
        transport: None,
        proven: false,
        logged_at: None,
        rivals: vec![attacker],
        decided: false,
    };
    let mut controller = controller(Vec::new());
    controller.datapath.unseen = vec![victim];
    for n in 0..15 {
        controller.hear(&undecided, 0, "asterisk-wazo", at(n));
    }
    let bans: Vec<IpNet> = controller.datapath.bans.borrow().keys().copied().collect();
    assert_eq!(bans, [IpNet::from(attacker)]);
    // Both have sent something: then nobody is named.
    controller.datapath.unseen.clear();
    ask(&mut controller, Request::Unban(Unban::All));
    for n in 0..100 {
        controller.hear(&undecided, 0, "asterisk-wazo", at(n));
    }
    assert!(controller.datapath.bans.borrow().is_empty());
    // And where the line decides, its word holds.
    let decided = Attempt { decided: true, address: attacker, rivals: vec![victim], ..undecided };
    for n in 0..15 {
        controller.hear(&decided, 0, "asterisk-wazo", at(n));
    }
    assert_eq!(controller.datapath.bans.borrow().len(), 1);
}

#[test]
fn a_full_table_is_said_and_not_written_down() {
    let mut controller = controller(Vec::new());
    controller.datapath.full = true;
    fail(&mut controller, [203, 0, 113, 7], 15);
    assert!(controller.ledger.is_empty());
    let why = refuse(&mut controller, ban("203.0.113.8/32", Some(60)));
    assert!(why.contains("full"), "{why}");
}

#[test]
fn a_jail_does_not_shorten_a_longer_ban() {
    let mut controller = controller(Vec::new());
    let forever = Request::Ban {
        network: "203.0.113.7/32".parse().unwrap(),
        seconds: None,
        scope: "sip".to_owned(),
        reason: Some("well known".to_owned()),
    };
    ask(&mut controller, forever);
    fail(&mut controller, [203, 0, 113, 7], 15);
    let bans = ask(&mut controller, Request::Bans { jail: None });
    assert_eq!(bans["bans"][0]["until"], Value::Null);
    assert_eq!(bans["bans"][0]["reason"], "well known");
}

#[test]
fn unban_lifts_and_forgets() {
    let mut controller = controller(Vec::new());
    fail(&mut controller, [203, 0, 113, 7], 15);
    fail(&mut controller, [203, 0, 113, 7], 10);
    let network = "203.0.113.7/32".parse().unwrap();
    let lifted = ask(&mut controller, Request::Unban(Unban::Network { network }));
    assert_eq!(lifted["lifted"], 1);
    fail(&mut controller, [203, 0, 113, 7], 14);
    assert!(controller.ledger.is_empty());
    let why = refuse(&mut controller, Request::Unban(Unban::Network { network }));
    assert!(why.contains("not banned"), "{why}");
    ask(&mut controller, ban("192.0.2.0/24", None));
    let inside = Unban::Network { network: "192.0.2.7/32".parse().unwrap() };
    let why = refuse(&mut controller, Request::Unban(inside));
    assert!(why.contains("part of 192.0.2.0/24"), "{why}");
    assert_eq!(ask(&mut controller, Request::Unban(Unban::All))["lifted"], 1);
}

#[test]
fn why_shows_the_evidence() {
    let mut controller = controller(Vec::new());
    fail(&mut controller, [203, 0, 113, 7], 15);
    let address = IpAddr::from([203, 0, 113, 7]);
    let why = ask(&mut controller, Request::Why { address });
    assert_eq!(why["dropped"], true);
    assert_eq!(why["jail"], "asterisk-wazo");
    assert_eq!(why["evidence"].as_array().unwrap().len(), 8);
    assert_eq!(why["evidence"][0]["class"], "wrong-credential");
    assert_eq!(why["evidence"][0]["source"], "asterisk-notice");
    let other = IpAddr::from([203, 0, 113, 8]);
    controller.limit_exceeded(Limited { source: other, reason: Reason::RegisterLimit, at: at(19) });
    let why = ask(&mut controller, Request::Why { address: other });
    assert_eq!(why["dropped"], true);
    assert_eq!(why["limit"]["reason"], "register-limit");
    let own = ask(&mut controller, Request::Why { address: IpAddr::from([192, 0, 2, 10]) });
    assert_eq!((&own["dropped"], &own["trusted"]), (&Value::Bool(false), &Value::Bool(true)));
}

#[test]
fn status_adds_up_over_interfaces() {
    let mut controller = controller(Vec::new());
    let status = ask(&mut controller, Request::Status);
    assert_eq!(status["interfaces"][1]["received"], 8);
    assert_eq!(status["interfaces"][1]["dropped"], 3);
    assert_eq!(status["reasons"]["other-port"]["packets"], 10);
    assert_eq!(status["reasons"]["banned"]["packets"], 6);
    assert_eq!(status["reasons"]["banned"]["bytes"], 600);
    assert_eq!(status["uptime_seconds"], 20);
}

#[test]
fn a_jail_that_there_is_not_is_named() {
    let mut controller = controller(Vec::new());
    let why = refuse(&mut controller, Request::Bans { jail: Some("sshd2".to_owned()) });
    assert!(why.contains("asterisk-wazo"), "{why}");
}

#[test]
fn sources_over_limits_are_bounded() {
    let mut controller = controller(Vec::new());
    for n in 0..u32::try_from(LIMITED_MAX).unwrap() + 10 {
        let source = IpAddr::from(n.to_be_bytes());
        let at = KernelTime(n.into());
        controller.limit_exceeded(Limited { source, reason: Reason::RegisterLimit, at });
    }
    assert_eq!(controller.limited.len(), LIMITED_MAX);
    assert!(!controller.limited.contains_key(&IpAddr::from([0, 0, 0, 0])));
}

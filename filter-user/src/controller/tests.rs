mod ipv6;
mod many;
mod names;
mod networks;
mod replies;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::{Answer, BansQuery, EXCEPT_MAX, Reply, Request, Unban};
use filter_common::abi::Learning;
use filter_common::decision::Reason;
use jiff::Timestamp;
use serde_json::Value;

use super::limited::LIMITED_MAX;
use super::*;
use crate::ban::{AddressEntry, Ban, Entry, NetworkEntry, Origin, Scopes};
use crate::datapath::{ClosedSip, Count, Interface, InterfaceCounters, KnownPeer, Limited, Mode};
use crate::failure::{Attempt, Class, LoggedAt, Transport, Verdict};
use crate::parse::{self, asterisk};

mod successor;

/// A datapath that only remembers.
#[derive(Default)]
pub(crate) struct NoKernel {
    bans: BTreeMap<IpAddr, AddressEntry>,
    networks: BTreeMap<IpNet, NetworkEntry>,
    own: BTreeSet<IpAddr>,
    trusted: Vec<IpNet>,
    room: Option<usize>,
    unseen: Vec<IpAddr>,
    known: Vec<IpAddr>,
    closed: Option<ClosedSip>,
    disabled: bool,
    /// How often it was asked for known peers.
    asked_for_known: Cell<u64>,
    bare: Option<String>,
}

impl NoKernel {
    fn room(&self) -> Result<()> {
        let full = self.room.is_some_and(|room| self.bans.len() + self.networks.len() >= room);
        anyhow::ensure!(!full, "the table is full");
        Ok(())
    }

    fn held(&self) -> InForce {
        InForce {
            addresses: self.bans.values().copied().collect(),
            networks: self.networks.values().copied().collect(),
        }
    }
}

impl Datapath for NoKernel {
    fn ban(&mut self, entry: &AddressEntry) -> Result<()> {
        if !self.bans.contains_key(&entry.address) {
            self.room()?;
        }
        self.bans.insert(entry.address, *entry);
        Ok(())
    }

    fn unban(&mut self, address: IpAddr) -> Result<()> {
        self.bans.remove(&address);
        Ok(())
    }

    fn ban_network(&mut self, entry: &NetworkEntry) -> Result<()> {
        if !self.networks.contains_key(&entry.network) {
            self.room()?;
        }
        self.networks.insert(entry.network, *entry);
        Ok(())
    }

    fn unban_network(&mut self, network: IpNet) -> Result<()> {
        self.networks.remove(&network);
        Ok(())
    }

    fn maintenance(&mut self, closed: Option<ClosedSip>) -> Result<()> {
        self.closed = closed;
        Ok(())
    }

    fn disable(&mut self, disabled: bool) -> Result<()> {
        self.disabled = disabled;
        Ok(())
    }

    fn is_disabled(&self) -> bool {
        self.disabled
    }

    fn in_maintenance(&self) -> Option<ClosedSip> {
        self.closed
    }

    fn know(&mut self, address: IpAddr, _now: KernelTime) -> Result<()> {
        self.known.push(address);
        Ok(())
    }

    fn known(&self, address: IpAddr) -> Option<KnownPeer> {
        self.known.contains(&address).then_some(KnownPeer { until: at(7200), passed: 42 })
    }

    fn known_in(&self, network: IpNet, _now: KernelTime) -> Vec<IpAddr> {
        self.asked_for_known.set(self.asked_for_known.get() + 1);
        self.known.iter().copied().filter(|address| network.contains(address)).collect()
    }

    fn learning(&self) -> Learning {
        // Who is known by now has been learned.
        let known = u64::try_from(self.known.len()).unwrap();
        Learning { learned: 3 + known, refreshed: 2, full: 1 }
    }

    fn known_count(&self) -> u64 {
        u64::try_from(self.known.len()).unwrap()
    }

    fn own(&mut self, addresses: &BTreeSet<IpAddr>) -> Result<()> {
        self.own.clone_from(addresses);
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

    fn interfaces(&self) -> Vec<Interface> {
        self.counters().unwrap().into_iter().map(|counted| counted.interface).collect()
    }

    fn counters(&self) -> Result<Vec<InterfaceCounters>> {
        let interface = |slot: u32, name: &str| Interface {
            name: name.to_owned(),
            slot,
            mode: Mode::Native,
            fallback: None,
            adopted: false,
            unprotected: self.bare.clone(),
            not_learning: None,
        };
        let count = |packets| Count { packets, bytes: packets * 100 };
        let counters = |slot, name| InterfaceCounters {
            interface: interface(slot, name),
            reasons: vec![(Reason::OtherPort, count(5)), (Reason::Banned, count(3))],
            would_drop: vec![(Reason::Banned, count(0))],
        };
        Ok(vec![counters(0, "eth0"), counters(1, "eth1")])
    }

    fn signatures(&self) -> Vec<(String, u64)> {
        vec![("sipcli*".to_owned(), 3)]
    }

    fn capacity(&self) -> u64 {
        10
    }
}

const SECOND: u64 = 1_000_000_000;

pub(super) fn at(seconds: u64) -> KernelTime {
    KernelTime(seconds * SECOND)
}

fn controller() -> Controller<NoKernel> {
    started_over(NoKernel::default())
}

/// The controller after a start with the bans that are in the kernel.
fn started_over(datapath: NoKernel) -> Controller<NoKernel> {
    started_with(datapath, |_default| {})
}

/// A manual ban of ten minutes.
pub(super) fn order(network: &str) -> api::Order {
    api::Order {
        network: network.parse().unwrap(),
        seconds: Some(600),
        scope: "sip".to_owned(),
        except: Vec::new(),
        reason: Some("abuse".to_owned()),
        jail: None,
    }
}

pub(super) fn started_with(
    datapath: NoKernel,
    adjust: impl FnOnce(&mut Config),
) -> Controller<NoKernel> {
    started_again(datapath, Vec::new(), adjust)
}

/// The controller after a start with the bans in the kernel and the data in the store.
pub(super) fn started_again(
    datapath: NoKernel,
    bans: Vec<Entry>,
    adjust: impl FnOnce(&mut Config),
) -> Controller<NoKernel> {
    let started = Now { kernel: at(0), wall: Timestamp::from_second(1000).unwrap() };
    let trusted = vec!["198.51.100.0/24".parse().unwrap()];
    let mut config = Config { trusted, ..Config::default() };
    adjust(&mut config);
    let own = BTreeSet::from(["192.0.2.10/32".parse().unwrap(), "127.0.0.0/8".parse().unwrap()]);
    let held = datapath.held();
    let kept = Some(Kept { bans, ..Kept::default() });
    let mut controller = Controller::new(
        datapath,
        &config,
        Arc::default(),
        own,
        (Store::nowhere(), kept, &held),
        started,
    )
    .unwrap();
    let log = "/var/log/asterisk/fail2ban".to_owned();
    let notice = Source::new("asterisk-notice", "file", log);
    controller.add_source(notice.heard_by("asterisk-wazo", asterisk::RULES), at(0));
    controller
}

/// The source that listens to AMI.
fn ami() -> Source {
    let ami = Source::new("asterisk-ami", "ami", String::new());
    ami.heard_by("asterisk-wazo", parse::ami::RULES)
}

pub(super) fn fail(controller: &mut Controller<NoKernel>, address: [u8; 4], times: u64) {
    for n in 0..times {
        let attempt = Attempt {
            account: Some("1001".to_owned()),
            needs_witness: true,
            ..Attempt::new(Verdict::Failure, Class::WrongCredential, IpAddr::from(address))
        };
        controller.hear(&attempt, 0, "asterisk-wazo", at(n));
    }
}

/// Every ban in force, or as many as a page has.
fn every_ban() -> Request {
    Request::Bans(BansQuery::default())
}

/// The bans of a jail.
fn bans_of(jail: &str) -> Request {
    Request::Bans(BansQuery { jail: Some(jail.to_owned()), ..BansQuery::default() })
}

/// The answer to a request, as the JSON that is sent.
fn ask(controller: &mut Controller<NoKernel>, request: Request) -> Value {
    match controller.answer(request, at(20)) {
        Reply::Ok(answer) => serde_json::to_value(answer).unwrap(),
        Reply::Error(why) => panic!("{why}"),
    }
}

/// An answer as its type.
fn read<T: serde::de::DeserializeOwned>(answer: &Value) -> T {
    serde_json::from_value(answer.clone()).unwrap()
}

fn refuse(controller: &mut Controller<NoKernel>, request: Request) -> String {
    match controller.answer(request, at(20)) {
        Reply::Ok(answer) => panic!("{answer:?}"),
        Reply::Error(why) => why,
    }
}

fn ban(network: &str, seconds: Option<u64>) -> Request {
    Request::Ban {
        network: network.parse().unwrap(),
        seconds,
        scope: "all".to_owned(),
        except: Vec::new(),
        reason: None,
        force: false,
    }
}

#[test]
fn fifteen_failures_ban_in_kernel_and_ledger() {
    let mut controller = controller();
    fail(&mut controller, [203, 0, 113, 7], 14);
    assert!(controller.datapath.bans.is_empty());
    fail(&mut controller, [203, 0, 113, 7], 1);
    let bans = ask(&mut controller, every_ban());
    let ban = &bans["bans"][0];
    assert_eq!(ban["network"], "203.0.113.7");
    assert_eq!(ban["jail"], "asterisk-wazo");
    assert_eq!(ban["scope"], "sip");
    assert_eq!(ban["packets"], 7);
    assert_eq!(ban["since"], "1970-01-01T00:16:40Z");
    assert_eq!(ban["until"], "1970-01-01T01:16:40Z");
    assert_eq!(controller.datapath.bans.len(), 1);
}

#[test]
fn own_and_trusted_addresses_are_never_banned() {
    let mut controller = controller();
    for address in [[192, 0, 2, 10], [198, 51, 100, 9], [127, 0, 0, 1]] {
        fail(&mut controller, address, 50);
        let network = IpNet::from(IpAddr::from(address)).to_string();
        let why = refuse(&mut controller, ban(&network, None));
        assert!(why.contains("never banned"), "{why}");
        let flood = Limited { source: address.into(), reason: Reason::Flooding, at: at(9) };
        controller.limit_exceeded(flood);
    }
    assert!(controller.datapath.bans.is_empty() && controller.bans.ledger().is_empty());
    assert_eq!(controller.datapath.trusted.len(), 1);
    assert_eq!(controller.datapath.own, BTreeSet::from([[192, 0, 2, 10].into()]));
}

#[test]
fn the_whole_world_is_not_banned_manually() {
    let mut controller = controller();
    for network in ["0.0.0.0/0", "128.0.0.0/1", "::/0", "::/64"] {
        let why = refuse(&mut controller, ban(network, None));
        assert!(why.contains("too wide"), "{network}: {why}");
    }
    ask(&mut controller, ban("10.0.0.0/8", None));
    ask(&mut controller, ban("2001:db8::/32", None));
}

#[test]
fn adopted_bans_stay_unless_they_are_trusted_now() {
    let adopted = |address: [u8; 4]| AddressEntry {
        address: address.into(),
        scopes: Scopes::default().and(Scope::Sip),
        origin: Origin::Jail(0),
        since: at(0),
        until: Some(at(100)),
    };
    let mut memory = NoKernel::default();
    memory.ban(&adopted([203, 0, 113, 7])).unwrap();
    memory.ban(&adopted([198, 51, 100, 1])).unwrap();
    let mut controller = started_over(memory);
    assert_eq!(controller.datapath.bans.len(), 1);
    let bans = ask(&mut controller, bans_of("asterisk-wazo"));
    assert_eq!(bans["bans"].as_array().unwrap().len(), 1);
    assert_eq!(controller.next_timeout(), Some(at(100)));
    controller.handle_timeout(at(100));
    assert!(controller.bans.ledger().is_empty());
}

#[test]
fn a_failure_without_a_packet_is_forged() {
    let mut controller = controller();
    controller.datapath.unseen = vec![IpAddr::from([203, 0, 113, 12])];
    fail(&mut controller, [203, 0, 113, 12], 100);
    fail(&mut controller, [203, 0, 113, 13], 14);
    assert!(controller.datapath.bans.is_empty());
    let status = ask(&mut controller, Request::Status);
    assert_eq!(status["sources"][0]["unwitnessed"], 100);
    assert_eq!(status["sources"][0]["failures"], 114);
}

#[test]
fn failures_without_a_packet_one_after_the_other_are_a_finding() {
    let mut controller = controller();
    let elsewhere = [203, 0, 113, 12];
    controller.datapath.unseen = vec![IpAddr::from(elsewhere)];
    let found = |controller: &mut Controller<NoKernel>| {
        let status = ask(controller, Request::Status);
        status["hearing"].as_array().unwrap().iter().any(|one| one["kind"] == "unwitnessed")
    };
    fail(&mut controller, elsewhere, crate::hearing::UNWITNESSED - 1);
    assert!(!found(&mut controller));
    fail(&mut controller, [203, 0, 113, 13], 1);
    fail(&mut controller, elsewhere, crate::hearing::UNWITNESSED - 1);
    assert!(!found(&mut controller), "a packet was seen in between");
    fail(&mut controller, elsewhere, 1);
    assert!(found(&mut controller));
    fail(&mut controller, [203, 0, 113, 13], 1);
    assert!(!found(&mut controller), "it sees again");
    // Lines that were written long before they are read say nothing.
    let old = Attempt {
        needs_witness: true,
        logged_at: Some(LoggedAt::Instant(Timestamp::from_second(900).unwrap())),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, IpAddr::from(elsewhere))
    };
    for n in 0..50 {
        controller.hear(&old, 0, "asterisk-wazo", at(n));
    }
    assert!(!found(&mut controller));
    // Failures that AMI reports need no witness, but it is still recorded whether their packets were
    // seen.
    let ami = controller.add_source(ami(), at(0));
    for transport in [Transport::Wss, Transport::Tcp, Transport::Udp] {
        assert!(!found(&mut controller));
        let told = Attempt {
            transport: Some(transport),
            needs_witness: false,
            logged_at: None,
            ..old.clone()
        };
        for n in 0..50 {
            controller.hear(&told, ami, "asterisk-wazo", at(n));
        }
    }
    assert!(found(&mut controller));
}

#[test]
fn what_is_not_protected_is_not_dropped() {
    let mut controller = controller();
    ask(&mut controller, ban("203.0.113.7/32", None));
    let why = |controller: &mut Controller<NoKernel>| {
        let address = IpAddr::from([203, 0, 113, 7]);
        ask(controller, Request::Why { address })
    };
    assert_eq!(why(&mut controller)["dropped"], true);
    controller.datapath.bare = Some("it is gone".to_owned());
    let why = why(&mut controller);
    assert_eq!((&why["dropped"], &why["unprotected"][1]), (&false.into(), &"eth1".into()));
    let text = crate::report::why(&read(&why));
    assert!(
        text.contains("no interface is protected") && text.contains("UNPROTECTED: eth0"),
        "{text}"
    );
    let status = ask(&mut controller, Request::Status);
    assert_eq!(status["interfaces"][0]["protected"], false);
    assert!(crate::report::status(&read(&status)).contains("UNPROTECTED: eth0: it is gone"));
}

#[test]
fn the_packet_decides_where_the_line_does_not() {
    let (attacker, victim) = (IpAddr::from([203, 0, 113, 13]), IpAddr::from([203, 0, 113, 12]));
    let undecided = Attempt {
        needs_witness: true,
        rivals: vec![attacker],
        decided: false,
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, victim)
    };
    let mut controller = controller();
    controller.datapath.unseen = vec![victim];
    for n in 0..15 {
        controller.hear(&undecided, 0, "asterisk-wazo", at(n));
    }
    let bans: Vec<IpAddr> = controller.datapath.bans.keys().copied().collect();
    assert_eq!(bans, [attacker]);
    // If both have sent packets, neither is named.
    controller.datapath.unseen.clear();
    ask(&mut controller, Request::Unban(Unban::All));
    for n in 0..100 {
        controller.hear(&undecided, 0, "asterisk-wazo", at(n));
    }
    assert!(controller.datapath.bans.is_empty());
    // If the line itself decides, its address counts.
    let decided = Attempt { decided: true, address: attacker, rivals: vec![victim], ..undecided };
    for n in 0..15 {
        controller.hear(&decided, 0, "asterisk-wazo", at(n));
    }
    assert_eq!(controller.datapath.bans.len(), 1);
}

#[test]
fn a_full_table_is_said_and_not_written_down() {
    let mut controller = controller();
    controller.datapath.room = Some(0);
    fail(&mut controller, [203, 0, 113, 7], 15);
    assert!(controller.bans.ledger().is_empty());
    let why = refuse(&mut controller, ban("203.0.113.8/32", Some(60)));
    assert!(why.contains("full"), "{why}");
}

#[test]
fn a_jail_does_not_shorten_a_longer_ban() {
    let mut controller = controller();
    let forever = Request::Ban {
        network: "203.0.113.7/32".parse().unwrap(),
        seconds: None,
        scope: "sip".to_owned(),
        except: Vec::new(),
        reason: Some("well known".to_owned()),
        force: false,
    };
    ask(&mut controller, forever);
    fail(&mut controller, [203, 0, 113, 7], 15);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"][0]["until"], Value::Null);
    assert_eq!(bans["bans"][0]["reason"], "well known");
}

#[test]
fn unban_lifts_and_forgets() {
    let mut controller = controller();
    fail(&mut controller, [203, 0, 113, 7], 15);
    fail(&mut controller, [203, 0, 113, 7], 10);
    let network = "203.0.113.7/32".parse().unwrap();
    let lifted = ask(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert_eq!(lifted["lifted"], 1);
    fail(&mut controller, [203, 0, 113, 7], 14);
    assert!(controller.bans.ledger().is_empty());
    let why = refuse(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert!(why.contains("not banned"), "{why}");
    ask(&mut controller, ban("192.0.2.0/24", None));
    let inside = Unban::Network { network: "192.0.2.7/32".parse().unwrap(), inside: false };
    let why = refuse(&mut controller, Request::Unban(inside));
    assert!(why.contains("part of 192.0.2.0/24"), "{why}");
    assert_eq!(ask(&mut controller, Request::Unban(Unban::All))["lifted"], 1);
}

#[test]
fn what_is_banned_inside_a_network_is_lifted_when_asked() {
    let mut controller = controller();
    let unban = |inside| {
        Request::Unban(Unban::Network { network: "203.0.113.0/24".parse().unwrap(), inside })
    };
    for inside in ["203.0.113.91/32", "203.0.113.64/28", "192.0.2.1/32"] {
        ask(&mut controller, ban(inside, None));
    }
    let why = refuse(&mut controller, unban(false));
    for expected in ["203.0.113.91", "203.0.113.64/28", "--inside"] {
        assert!(why.contains(expected), "{why}");
    }
    ask(&mut controller, ban("203.0.113.0/24", None));
    let lifted = ask(&mut controller, unban(false));
    assert_eq!((&lifted["lifted"], &lifted["inside_banned"]), (&1.into(), &2.into()), "{lifted}");
    let lifted = ask(&mut controller, unban(true));
    assert_eq!((&lifted["lifted"], &lifted["inside_banned"]), (&2.into(), &0.into()), "{lifted}");
    assert_eq!(controller.bans.ledger().len(), 1);
}

#[test]
fn a_ban_manually_says_what_it_replaces_and_keeps_its_reason() {
    let mut controller = controller();
    let mut first = ban("203.0.113.91/32", None);
    if let Request::Ban { reason, .. } = &mut first {
        *reason = Some("abuse ticket 4711".to_owned());
    }
    let answer = ask(&mut controller, first);
    assert_eq!((&answer["replaced"], &answer["shortened"]), (&Value::Null, &false.into()));
    let answer = ask(&mut controller, ban("203.0.113.91/32", Some(3600)));
    assert_eq!(answer["shortened"], true, "{answer}");
    assert_eq!(answer["replaced"]["until"], Value::Null);
    assert_eq!(answer["reason"], "abuse ticket 4711");
    let answer = ask(&mut controller, ban("203.0.113.91/32", Some(7200)));
    assert_eq!(answer["shortened"], false, "{answer}");
    controller.datapath.known = vec![[203, 0, 113, 5].into(), [203, 0, 113, 6].into()];
    let answer = ask(&mut controller, ban("203.0.113.0/24", Some(7200)));
    assert_eq!(answer["known_peers"], 2, "{answer}");
}

#[test]
fn why_tells_how_near_a_ban_is_and_what_does_not_count() {
    let mut controller = controller();
    let [near, unseen, known] = [7, 12, 13].map(|last| IpAddr::from([203, 0, 113, last]));
    controller.datapath.unseen = vec![unseen];
    controller.datapath.known = vec![known];
    for address in [[203, 0, 113, 7], [203, 0, 113, 12], [203, 0, 113, 13]] {
        fail(&mut controller, address, 5);
    }
    let mut why = |address| ask(&mut controller, Request::Why { address });
    let [seen, forged, spared] = [why(near), why(unseen), why(known)];
    let near = &seen["near"][0];
    assert_eq!((&near["failures"], &near["maxretry"]), (&5.into(), &15.into()), "{seen}");
    assert_eq!((&near["jail"], &near["findtime"]), (&"asterisk-wazo".into(), &"10m".into()));
    assert_eq!(seen["not_counted"], Value::Null);
    assert_eq!(forged["not_counted"]["unwitnessed"], 5, "{forged}");
    assert_eq!(spared["not_counted"]["known"], 5, "{spared}");
    assert_eq!(forged["near"].as_array().map(Vec::len), Some(0));
}

#[test]
fn why_shows_the_evidence() {
    let mut controller = controller();
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
    let mut controller = controller();
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
    let mut controller = controller();
    let why = refuse(&mut controller, bans_of("sshd2"));
    assert!(why.contains("asterisk-wazo"), "{why}");
}

#[test]
fn sources_over_limits_are_summed_up_and_why_knows_them() {
    let mut controller = controller();
    for n in 1..=500_u32 {
        let source = IpAddr::from((0x0a00_0000 | n).to_be_bytes());
        controller.limit_exceeded(Limited { source, reason: Reason::RegisterLimit, at: at(1) });
        controller.limit_exceeded(Limited { source, reason: Reason::Flooding, at: at(2) });
    }
    let address = IpAddr::from([10, 0, 1, 200]);
    assert_eq!(ask(&mut controller, Request::Why { address })["limit"]["reason"], "flooding");
    assert_eq!(controller.next_timeout(), Some(at(61)));
    let lines = controller.digest.take_due(at(62));
    let [limit, flood] = &lines[..] else { panic!("{lines:?}") };
    assert!(limit.starts_with("490 more sources were over a limit"), "{limit}");
    assert!(flood.starts_with("490 more sources were banned for a flood"), "{flood}");
}

#[test]
fn bans_are_summed_up_but_for_manual_ones() {
    let mut controller = controller();
    let bans = |n: u8| [203, 0, 113, n];
    for n in 1..=50 {
        fail(&mut controller, bans(n), 15);
    }
    for n in 1..=50_u8 {
        ask(&mut controller, ban(&format!("192.0.3.{n}/32"), Some(60)));
    }
    assert_eq!(controller.store().sayings(), 30 + 50);
    controller.handle_timeout(at(10));
    let lines = controller.digest.take_due(at(80));
    assert_eq!(lines, ["20 more bans began in the last minute: asterisk-wazo 20"]);
}

fn closes(controller: &mut Controller<NoKernel>, address: [u8; 4], scope: &str) -> bool {
    let why = ask(controller, Request::Why { address: address.into() });
    why["bans"].as_array().unwrap().iter().any(|ban| ban["scope"] == scope)
}

fn ban_except(network: &str, except: &[&str]) -> Request {
    let except = except.iter().map(|hole| hole.parse().unwrap()).collect();
    let network = network.parse().unwrap();
    let scope = "ssh".to_owned();
    Request::Ban { network, seconds: Some(60), scope, except, reason: None, force: false }
}

#[test]
fn a_network_is_banned_but_for_its_exceptions() {
    let mut controller = controller();
    ask(&mut controller, ban_except("203.0.113.0/24", &["203.0.113.7/32", "203.0.113.64/28"]));
    assert_eq!(controller.datapath.networks.len(), 3);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"][0]["scope"], "ssh");
    assert_eq!(bans["bans"][0]["except"], serde_json::json!(["203.0.113.7", "203.0.113.64/28"]));
    // The same after a start over.
    let mut controller = started_over(controller.datapath);
    assert!(closes(&mut controller, [203, 0, 113, 8], "ssh"));
    for address in [[203, 0, 113, 7], [203, 0, 113, 65]] {
        assert!(!closes(&mut controller, address, "ssh"));
    }
    controller.handle_timeout(at(1000));
    assert!(controller.datapath.networks.is_empty() && controller.bans.ledger().is_empty());

    for (request, expected) in [
        (ban_except("203.0.113.0/24", &["203.0.114.1/32"]), "not inside 203.0.113.0/24"),
        (ban_except("203.0.113.0/24", &["203.0.113.0/24"]), "not inside"),
        (ban_except("203.0.113.0/24", &["203.0.113.1/32"; EXCEPT_MAX + 1]), "at most 64"),
    ] {
        let why = refuse(&mut controller, request);
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn a_ban_that_does_not_fit_leaves_nothing_behind() {
    let mut controller = controller();
    ask(&mut controller, ban("203.0.113.0/24", None));
    controller.datapath.room = Some(2);
    let why = refuse(&mut controller, ban_except("203.0.0.0/16", &["203.0.1.0/24"]));
    assert!(why.contains("full"), "{why}");
    assert_eq!((controller.bans.ledger().len(), controller.datapath.networks.len()), (1, 1));
    assert!(closes(&mut controller, [203, 0, 113, 7], "all"));
    assert!(!closes(&mut controller, [203, 0, 113, 7], "ssh"));
}

#[test]
fn bans_of_one_address_are_each_listed_and_end_each() {
    let mut controller = controller();
    fail(&mut controller, [203, 0, 113, 7], 15);
    let address = IpAddr::from([203, 0, 113, 7]);
    ask(&mut controller, ban_except("203.0.113.7/32", &[]));
    // Each with its own end, the kernel has them as of a network of one address.
    assert!(!controller.datapath.bans.contains_key(&address));
    let closed: Vec<Scope> =
        controller.datapath.networks[&address.into()].ends.iter().map(|(scope, _)| scope).collect();
    assert_eq!(closed, [Scope::Sip, Scope::Ports(1)]);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"].as_array().unwrap().len(), 2);
    // That of ssh ends after a minute, the jail's after an hour.
    controller.handle_timeout(at(80));
    assert_eq!(controller.datapath.bans[&address].scopes, Scopes::default().and(Scope::Sip));
    assert!(controller.datapath.networks.is_empty());
    let jail = "asterisk-wazo".to_owned();
    assert_eq!(ask(&mut controller, Request::Unban(Unban::Jail { jail }))["lifted"], 1);
    assert!(controller.datapath.bans.is_empty());
}

#[test]
fn a_scope_that_there_is_not_is_named() {
    let mut controller = controller();
    let network = "203.0.113.7/32".parse().unwrap();
    let scope = "telnet".to_owned();
    let request =
        Request::Ban { network, seconds: None, scope, except: vec![], reason: None, force: false };
    let why = refuse(&mut controller, request);
    assert!(why.contains("`telnet`") && why.contains("`provisioning`"), "{why}");
}

#[test]
fn known_peers_are_not_banned_for_what_can_be_forged() {
    let mut controller = controller();
    let address = IpAddr::from([203, 0, 113, 7]);
    controller.datapath.known = vec![address];
    fail(&mut controller, [203, 0, 113, 7], 100);
    assert!(controller.bans.ledger().is_empty());
    let status = ask(&mut controller, Request::Status);
    assert_eq!(
        status["peers"],
        serde_json::json!({"known": 1, "spared": 100, "learned": 4, "no_room": 1})
    );
    let why = ask(&mut controller, Request::Why { address });
    assert_eq!((&why["known"], &why["packets"]["passed"]), (&Value::Bool(true), &42.into()));

    let why = refuse(&mut controller, ban("203.0.113.7/32", Some(60)));
    assert!(why.contains("known peer") && why.contains("--force"), "{why}");
    let Request::Ban { network, seconds, scope, except, reason, .. } =
        ban("203.0.113.7/32", Some(60))
    else {
        unreachable!("it is a ban");
    };
    let forced = Request::Ban { network, seconds, scope, except, reason, force: true };
    ask(&mut controller, forced);
    ask(&mut controller, Request::Unban(Unban::All));
    // What cannot be forged counts.
    for n in 0..15 {
        controller.hear(&proven(address), 0, "asterisk-wazo", at(n));
    }
    assert_eq!(controller.bans.ledger().len(), 1);
}

fn proven(address: IpAddr) -> Attempt {
    let attempt = Attempt::new(Verdict::Failure, Class::WrongCredential, address);
    Attempt { proven: true, ..attempt }
}

#[test]
fn floods_that_the_kernel_ended_are_told() {
    let mut controller = controller();
    let address = IpAddr::from([203, 0, 113, 7]);
    controller.flooding(address, at(10), at(70));
    let bans = ask(&mut controller, bans_of("flood"));
    assert_eq!(
        (&bans["bans"][0]["jail"], &bans["bans"][0]["scope"]),
        (&"flood".into(), &"sip".into())
    );
    let why = ask(&mut controller, Request::Why { address });
    assert_eq!((&why["dropped"], &why["jail"]), (&Value::Bool(true), &"flood".into()));
    controller.handle_timeout(at(70));
    assert!(controller.bans.ledger().is_empty() && controller.datapath.bans.is_empty());
    for n in 0..u32::try_from(LIMITED_MAX).unwrap() + 10 {
        controller.flooding(IpAddr::from(n.to_be_bytes()), at(10), at(70));
    }
    assert_eq!(controller.bans.ledger().len(), LIMITED_MAX);
}

#[test]
fn maintenance_ends_by_itself_and_outlives_the_controller() {
    let mut controller = controller();
    let on = |seconds| api::Maintenance::On { seconds, closed_to_known: true };
    for seconds in [0, 24 * 3600 + 1] {
        let why = refuse(&mut controller, Request::Maintenance(on(seconds)));
        assert!(why.contains("from 1s to 1d"), "{why}");
    }
    ask(&mut controller, Request::Maintenance(on(600)));
    let mut controller = started_over(controller.datapath);
    let status = ask(&mut controller, Request::Status);
    assert_eq!(
        status["maintenance"],
        serde_json::json!({
            "on": true, "until": "1970-01-01T00:27:00Z", "closed_to_known": true, "enforcing": true
        })
    );
    let address = IpAddr::from([203, 0, 113, 7]);
    let mut dropped = |known: &[IpAddr], closed_to_known: bool| {
        controller.datapath.known = known.to_vec();
        let on = api::Maintenance::On { seconds: 600, closed_to_known };
        ask(&mut controller, Request::Maintenance(on));
        ask(&mut controller, Request::Why { address })["dropped"] == true
    };
    assert_eq!((dropped(&[], false), dropped(&[address], false)), (true, false));
    assert!(dropped(&[address], true));
    let Reply::Ok(Answer::Maintenance(later)) =
        controller.answer(Request::Maintenance(api::Maintenance::Status), at(620))
    else {
        panic!("refused");
    };
    assert_eq!((later.on, later.until), (false, None));
    ask(&mut controller, Request::Maintenance(api::Maintenance::Off));
    assert_eq!(controller.datapath.closed, None);
}

/// A scanner that Asterisk only challenges, and a phone that answers.
#[test]
fn unanswered_challenges_ban_in_the_end() {
    let mut controller = controller();
    let (scanner, phone) = (IpAddr::from([203, 0, 113, 40]), IpAddr::from([203, 0, 113, 41]));
    for n in 0..15 {
        for address in [scanner, phone] {
            let session = Some(n.to_string());
            let challenge = Attempt::new(Verdict::Ignored, Class::Challenge, address);
            let challenge = Attempt { session, ..challenge };
            controller.hear(&challenge, 0, "asterisk-wazo", at(n));
        }
        let success = Attempt::new(Verdict::Success, Class::Challenge, phone);
        controller.hear(&success, 0, "asterisk-wazo", at(n));
    }
    controller.handle_timeout(at(45));
    assert!(controller.bans.ledger().is_empty());
    assert_eq!(controller.next_timeout(), Some(at(46)));
    controller.handle_timeout(at(46));
    let bans: Vec<IpAddr> = controller.datapath.bans.keys().copied().collect();
    assert_eq!(bans, [scanner]);
}

#[test]
fn what_seems_not_to_be_heard_is_in_the_status() {
    let mut controller = controller();
    controller.source_reads(0, true, at(0));
    let mut news = crate::source::Heard::state(crate::source::SourceState::Ok);
    news.lines = 4;
    news.attempts = vec![Attempt {
        rule: "no-matching-endpoint",
        ..Attempt::new(Verdict::Failure, Class::UnknownAccount, IpAddr::from([203, 0, 113, 7]))
    }];
    let wall = Timestamp::from_second(1007).unwrap();
    for _line in 0..3 {
        news.unparsed.add(b"x.c: 203.0.113.7 \x1b was refused", wall);
    }
    controller.take_note(0, &mut news, at(5));
    let status = ask(&mut controller, Request::Status);
    let source = &status["sources"][0];
    let rules = source["rules"].as_array().unwrap();
    let hit = rules.iter().find(|rule| rule["name"] == "no-matching-endpoint").unwrap();
    assert_eq!((&hit["hits"], &hit["last"]), (&1.into(), &"1970-01-01T00:16:45Z".into()));
    assert!(rules.iter().filter(|rule| rule["last"].is_null()).count() > 5, "{rules:?}");
    let sample = &source["unparsed"]["samples"][0];
    assert_eq!(sample["line"], "x.c: 203.0.113.7 \u{fffd} was refused");
    assert_eq!((&sample["lines"], &sample["last"]), (&3.into(), &"1970-01-01T00:16:47Z".into()));
    let finding = &status["hearing"][0];
    assert_eq!(
        (&finding["source"], &finding["kind"]),
        (&"asterisk-notice".into(), &"unparsed".into())
    );
    assert!(
        finding["mend"].as_str().unwrap().contains("test-log asterisk-wazo /var/log/asterisk/")
    );
    let text = crate::report::status(&read(&status));
    assert!(text.contains("NOT HEARD: asterisk-notice: 3 lines look like failures"), "{text}");
    assert!(text.contains("    3 like: x.c: 203.0.113.7 \u{fffd} was refused\n"), "{text}");
}

/// A guesser over TCP: the NOTICE log reports each attempt first, but cannot prove it; AMI can.
#[test]
fn a_ban_of_everything_wants_proof() {
    let settings = |unproven_scope| {
        move |config: &mut Config| {
            let jail = config.jails.get_mut("asterisk-wazo").unwrap();
            (jail.scope, jail.unproven_scope) = (Scope::All, unproven_scope);
        }
    };
    let address = IpAddr::from([203, 0, 113, 7]);
    let scopes = |controller: &Controller<NoKernel>| {
        let mut scopes: Vec<Scope> = controller.bans.ledger().iter().map(|e| e.ban.scope).collect();
        scopes.sort();
        scopes
    };
    let tell = |controller: &mut Controller<NoKernel>, proof: bool| {
        let ami = controller.add_source(ami(), at(0));
        for n in 0..15 {
            let session = Some(n.to_string());
            let notice = Attempt { proven: false, session, ..proven(address) };
            controller.hear(&notice, 0, "asterisk-wazo", at(n));
            if proof {
                let event = Attempt { proven: true, ..notice };
                controller.hear(&event, ami, "asterisk-wazo", at(n));
            }
        }
    };
    for (unproven, proof, expected) in [
        (Some(Scope::Sip), false, &[Scope::Sip][..]),
        (Some(Scope::Sip), true, &[Scope::Sip, Scope::All]),
        (None, false, &[]),
        (None, true, &[Scope::All]),
    ] {
        let mut controller = started_with(NoKernel::default(), settings(unproven));
        tell(&mut controller, proof);
        assert_eq!(scopes(&controller), expected, "{unproven:?} {proof}");
    }
}

#[test]
fn who_answers_a_challenge_is_a_known_peer() {
    let mut controller = controller();
    let success = |address: [u8; 4], answered| Attempt {
        proven: true,
        answered,
        ..Attempt::new(Verdict::Success, Class::Challenge, address.into())
    };
    for (address, answered) in [
        ([203, 0, 113, 7], true),
        // A trunk that needs no password, nginx before Asterisk's WebSocket, a trusted network.
        ([203, 0, 113, 8], false),
        ([127, 0, 0, 1], true),
        ([192, 0, 2, 10], true),
        ([198, 51, 100, 7], true),
    ] {
        controller.hear(&success(address, answered), 0, "asterisk-wazo", at(1));
    }
    assert_eq!(controller.datapath.known, [IpAddr::from([203, 0, 113, 7])]);
}

fn growing(config: &mut Config) {
    let jail = config.jails.get_mut("asterisk-wazo").unwrap();
    (jail.maxretry, jail.increment.enabled) = (3, true);
}

/// Has an address banned at this second, and its ban end. How long it lasted, in hours, and why it was.
fn banned_for(
    controller: &mut Controller<NoKernel>,
    attempt: &Attempt,
    second: u64,
) -> (u64, String) {
    for _ in 0..3 {
        controller.hear(attempt, 0, "asterisk-wazo", at(second));
    }
    let entry = controller.bans.ledger().iter().next().unwrap().clone();
    let until = entry.ban.until.unwrap();
    controller.handle_timeout(until);
    assert!(controller.bans.ledger().is_empty());
    (until.since(at(second)).as_secs() / 3600, entry.reason.to_string())
}

#[test]
fn each_proven_ban_is_longer_and_an_unban_forgets_the_earlier_ones() {
    let mut controller = started_with(NoKernel::default(), growing);
    let address = IpAddr::from([203, 0, 113, 7]);
    let proven = proven(address);
    let unproven = Attempt { proven: false, ..proven.clone() };
    let mut day = 0;
    let mut ban = |controller: &mut Controller<NoKernel>, attempt| {
        day += 1;
        banned_for(controller, attempt, day * 86_400)
    };
    let failures = "3 failures within 10m, the last one wrong-credential";
    assert_eq!(ban(&mut controller, &proven), (1, failures.to_owned()));
    assert_eq!(ban(&mut controller, &proven), (2, format!("{failures}; 2nd ban")));
    assert_eq!(ban(&mut controller, &unproven), (1, format!("{failures}; 3rd ban")));
    assert_eq!(ban(&mut controller, &proven), (4, format!("{failures}; 4th ban")));
    // Not banned at the moment: it says so, and forgets all the same.
    let network = address.into();
    let why = refuse(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert!(why.contains("not banned"), "{why}");
    assert_eq!(ban(&mut controller, &proven), (1, failures.to_owned()));
    for (which, hours) in [
        (Unban::Jail { jail: "sshd".to_owned() }, 2),
        (Unban::Jail { jail: "manual".to_owned() }, 4),
        (Unban::Jail { jail: "asterisk-wazo".to_owned() }, 1),
        (Unban::Network { network: "203.0.113.0/24".parse().unwrap(), inside: false }, 1),
        (Unban::All, 1),
    ] {
        drop(controller.answer(Request::Unban(which), at(20)));
        assert_eq!(ban(&mut controller, &proven).0, hours);
    }
}

/// The NOTICE log reports each failure over TCP first, but cannot prove it; a moment later AMI does.
/// Together they lead to a single, proven ban.
#[test]
fn a_ban_that_is_proven_late_counts_as_proven_and_once() {
    let mut controller = started_with(NoKernel::default(), growing);
    let ami = controller.add_source(ami(), at(0));
    let address = IpAddr::from([203, 0, 113, 7]);
    for (day, hours) in [(1, 1), (2, 2), (3, 4)] {
        for n in 0..3 {
            let session = Some(format!("{day}-{n}"));
            let notice = Attempt { proven: false, session, ..proven(address) };
            let event = Attempt { proven: true, ..notice.clone() };
            controller.hear(&notice, 0, "asterisk-wazo", at(day * 86_400 + n));
            controller.hear(&event, ami, "asterisk-wazo", at(day * 86_400 + n));
        }
        let bans: Vec<Ban> = controller.bans.ledger().iter().map(|entry| entry.ban).collect();
        let until = at(day * 86_400 + 2).after(Duration::from_hours(hours));
        assert_eq!((bans.len(), bans[0].until), (1, Some(until)), "day {day}");
        assert_eq!(controller.datapath.bans[&address].until, Some(until));
        controller.handle_timeout(until);
    }
    let record = *controller.escalation.history().iter().next().unwrap().1;
    assert_eq!((record.bans, record.proven), (3, 3));
}

#[test]
fn a_ban_that_the_kernel_refuses_is_no_offence() {
    let mut controller = started_with(NoKernel::default(), growing);
    controller.datapath.room = Some(0);
    for n in 0..3 {
        controller.hear(&proven(IpAddr::from([203, 0, 113, 7])), 0, "asterisk-wazo", at(n));
    }
    assert!(controller.escalation.history().is_empty());
}

/// Has a jail ban an address, and the ban end.
fn ban_by(
    controller: &mut Controller<NoKernel>,
    jail: &str,
    address: IpAddr,
    proven: bool,
    second: u64,
) {
    let attempt = Attempt { proven, ..Attempt::new(Verdict::Failure, Class::Login, address) };
    let maxretry = if jail == "sshd" { 5 } else { 3 };
    for _ in 0..maxretry {
        controller.hear(&attempt, 0, jail, at(second));
    }
    controller.handle_timeout(at(second + 3600));
}

fn with_recidive(unproven_scope: Option<Scope>) -> Controller<NoKernel> {
    started_with(NoKernel::default(), |config| {
        growing(config);
        let jail = config.jails.get_mut("recidive").unwrap();
        (jail.enabled, jail.unproven_scope) = (true, unproven_scope);
    })
}

fn recidive(controller: &mut Controller<NoKernel>) -> Vec<(String, String, String)> {
    let bans = ask(controller, bans_of("recidive"));
    let text = |ban: &Value, key: &str| ban[key].as_str().unwrap().to_owned();
    let bans = bans["bans"].as_array().unwrap().iter();
    bans.map(|ban| (text(ban, "network"), text(ban, "scope"), text(ban, "reason"))).collect()
}

#[test]
fn the_fifth_proven_ban_in_a_day_is_a_week_for_everything() {
    let mut controller = with_recidive(None);
    let [address, victim] = [7, 8].map(|last| IpAddr::from([203, 0, 113, last]));
    for n in 0..5 {
        assert_eq!(recidive(&mut controller), []);
        // Manual bans, those for floods, and those that can be forged are none.
        ask(&mut controller, ban("203.0.113.8/32", Some(1)));
        controller.flooding(victim, at(n * 5000), at(n * 5000 + 60));
        ban_by(&mut controller, "asterisk-wazo", victim, false, n * 5000);
        let jail = if n % 2 == 0 { "asterisk-wazo" } else { "sshd" };
        ban_by(&mut controller, jail, address, true, n * 5000);
    }
    let said = "5 bans within 1d, the last one by asterisk-wazo".to_owned();
    assert_eq!(recidive(&mut controller), [("203.0.113.7".to_owned(), "all".to_owned(), said)]);
    let ban = controller.bans.ledger().iter().find(|entry| entry.ban.scope == Scope::All).unwrap();
    assert_eq!(ban.ban.until, Some(at(20_000 + 7 * 86_400)));
    assert_eq!(ban.evidence().len(), 5);
    assert!(ban.evidence().iter().all(|of| of.proven && of.class == Class::Ban));
    assert_eq!(controller.bans.ledger().of(victim).len(), 0);
    let status = ask(&mut controller, Request::Status);
    let jails = status["jails"].as_array().unwrap();
    assert!(
        jails.iter().any(|jail| jail["name"] == "recidive" && jail["banned"] == 1),
        "{jails:?}"
    );
}

#[test]
fn bans_more_than_a_day_apart_are_no_relapse() {
    let mut controller = with_recidive(None);
    for n in 0..20 {
        ban_by(&mut controller, "sshd", IpAddr::from([203, 0, 113, 7]), true, n * 7 * 3600);
    }
    assert_eq!(recidive(&mut controller), []);
}

#[test]
fn bans_that_can_be_forged_lead_to_the_narrow_scope_at_most() {
    let mut controller = with_recidive(Some(Scope::Sip));
    let address = IpAddr::from([203, 0, 113, 7]);
    let ami = controller.add_source(Source::new("asterisk-ami", "ami", String::new()), at(0));
    for n in 0..4 {
        ban_by(&mut controller, "asterisk-wazo", address, false, n * 5000);
    }
    // One that is proven late is one ban, and not two.
    let second = 20_000;
    for n in 0..3 {
        let session = Some(format!("{n}"));
        let notice = Attempt { proven: false, session, ..proven(address) };
        controller.hear(&notice, 0, "asterisk-wazo", at(second));
        controller.hear(&Attempt { proven: true, ..notice }, ami, "asterisk-wazo", at(second));
    }
    let said = "5 bans within 1d, the last one by asterisk-wazo".to_owned();
    assert_eq!(recidive(&mut controller), [("203.0.113.7".to_owned(), "sip".to_owned(), said)]);
    let evidence: Vec<bool> =
        controller.jails.get(3).unwrap().evidence(address).iter().map(|e| e.proven).collect();
    assert_eq!(evidence, [true]);
}

#[test]
fn those_who_guess_at_one_account_are_banned_but_for_known_peers() {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut("asterisk-wazo").unwrap();
        (jail.guessing.maxretry, jail.guessing.sources, jail.guessing.each) = (12, 4, 3);
    });
    let guessers: Vec<[u8; 4]> = (1..=3).map(|n| [203, 0, 113, n]).collect();
    for guesser in &guessers {
        fail(&mut controller, *guesser, 3);
    }
    // He has mistyped it, and is registered by now.
    let user = [203, 0, 113, 9];
    fail(&mut controller, user, 2);
    controller.datapath.know(user.into(), at(10)).unwrap();
    assert!(controller.datapath.bans.is_empty());
    fail(&mut controller, [203, 0, 113, 20], 1);
    let bans = ask(&mut controller, every_ban());
    let banned: BTreeSet<&str> =
        bans["bans"].as_array().unwrap().iter().map(|b| b["network"].as_str().unwrap()).collect();
    assert_eq!(banned, BTreeSet::from(["203.0.113.1", "203.0.113.2", "203.0.113.3"]));
    let reason =
        "3 failures on the account 1001, on which 5 sources have failed 12 times within 7d";
    assert_eq!(bans["bans"][0]["reason"], reason);
    let jails = ask(&mut controller, Request::Jails);
    assert_eq!(jails["jails"][0]["attacked"][0]["account"], "1001");
    let text = crate::report::jails(&read(&jails));
    assert!(text.contains("the account 1001 is guessed at: 12 failures from 5 sources"), "{text}");
}

#[test]
fn times_are_shown_by_the_wall_clock_as_it_is() {
    let mut controller = controller();
    fail(&mut controller, [203, 0, 113, 7], 15);
    let until = |controller: &mut Controller<NoKernel>| {
        let bans = ask(controller, every_ban());
        let why = ask(controller, Request::Why { address: [203, 0, 113, 7].into() });
        assert_eq!(why["until"], bans["bans"][0]["until"]);
        let last = why["evidence"].as_array().unwrap().last().unwrap();
        assert_eq!(last["time"], bans["bans"][0]["since"]);
        let status = ask(controller, Request::Status);
        assert_eq!(status["uptime_seconds"], 20);
        bans["bans"][0]["until"].as_str().unwrap().to_owned()
    };
    assert_eq!(until(&mut controller), "1970-01-01T01:16:54Z");
    let wall = Timestamp::from_second(1_795_339_956).unwrap();
    controller.set_clock(Now { kernel: at(16), wall });
    assert_eq!(until(&mut controller), "2026-11-22T10:32:34Z");
    // What a source heard is as long ago as it was.
    let heard = controller.on_the_wall(at(14));
    assert_eq!(controller.heard_at(heard, at(20)), "2026-11-22T09:32:34Z");
    // Lines from before an earlier start keep their time.
    let earlier = Timestamp::from_second(900).unwrap();
    assert_eq!(controller.heard_at(earlier, at(20)), "1970-01-01T00:15:00Z");
}

#[test]
fn no_source_is_silent_because_the_clock_was_set() {
    let mut controller = controller();
    controller.source_reads(0, true, at(0));
    for n in 0..2000 {
        let now = controller.on_the_wall(at(n * 600));
        let ear = &mut controller.source_mut(0).unwrap().ear;
        ear.hear(1, &[], crate::hearing::Unparsed::default(), now);
    }
    let wall = Timestamp::from_second(1_795_339_956).unwrap();
    controller.set_clock(Now { kernel: at(1_200_000), wall });
    assert!(controller.hearing_findings(at(1_200_600)).is_empty());
    assert!(!controller.hearing_findings(at(2_000_000)).is_empty(), "it has become silent");
}

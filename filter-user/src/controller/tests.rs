mod attempts;
mod essential;
mod feeds;
mod fleet;
mod geo;
mod happened;
mod ipv6;
mod manual;
mod many;
mod metrics;
mod more_sources;
mod names;
mod networks;
mod no_kernel;
mod offenders;
mod replies;
mod successor;
mod throttle;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use api::{Answer, BansQuery, EXCEPT_MAX, Reply, Request, Unban};
use filter_common::abi::Learning;
use filter_common::decision::Reason;
use jiff::Timestamp;
use serde_json::Value;

use self::manual::{ban_except, closes};
pub(crate) use self::no_kernel::NoKernel;
use self::offenders::{growing, recidive};
use super::limited::LIMITED_MAX;
use super::*;
use crate::ban::{AddressEntry, Ban, Entry, NetworkEntry, Origin, Scopes};
use crate::config::Unproven;
use crate::datapath::{
    ClosedSip, Count, Exchange, Interface, InterfaceCounters, KnownPeer, Limited, Mode,
};
use crate::failure::{Attempt, Class, LoggedAt, Transport, Verdict};
use crate::parse::{self, asterisk};

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
    // `throttle` has the tests of throttles.
    config.jails.values_mut().for_each(|jail| jail.unproven = Unproven::Ban);
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
        controller.observe(&attempt, 0, "asterisk-wazo", at(n));
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
        Reply::Error(why) => why.message,
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
fn a_full_table_is_said_and_not_written_down() {
    let mut controller = controller();
    controller.datapath.room = Some(0);
    fail(&mut controller, [203, 0, 113, 7], 15);
    assert!(controller.bans.ledger().is_empty());
    let why = refuse(&mut controller, ban("203.0.113.8/32", Some(60)));
    assert!(why.contains("full"), "{why}");
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

/// Anybody can flood over UDP in the name of a known peer, which must still be able to register.
#[test]
fn a_flood_in_the_name_of_a_known_peer_throttles_it() {
    for address in [IpAddr::from([203, 0, 113, 7]), "2001:db8::7".parse().unwrap()] {
        let known = [address].into_iter().collect();
        let mut controller = started_with(NoKernel { known, ..NoKernel::default() }, |_| {});
        let flood = Limited { source: address, reason: Reason::Flooding, at: at(9) };
        controller.limit_exceeded(flood);
        let bans = ask(&mut controller, bans_of("flood"));
        assert_eq!(bans["bans"][0]["kind"], "throttle", "{bans}");
        let of_kernel = controller.datapath.networks.get(&IpNet::from(address)).copied();
        assert!(controller.datapath.bans.is_empty() && of_kernel.is_some(), "{of_kernel:?}");
    }
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
            "on": true, "until": "1970-01-01T00:27:00Z", "closed_to_known": true, "enforcing": true,
            "by_fleet": false, "comment": null
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
    // The times at which a source read something move with the clock.
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
        let observed = &mut controller.source_mut(0).unwrap().observed;
        observed.observe(1, &[], crate::hearing::Unparsed::default(), now);
    }
    let wall = Timestamp::from_second(1_795_339_956).unwrap();
    controller.set_clock(Now { kernel: at(1_200_000), wall });
    assert!(controller.hearing_findings(at(1_200_600)).is_empty());
    assert!(!controller.hearing_findings(at(2_000_000)).is_empty(), "it has become silent");
}

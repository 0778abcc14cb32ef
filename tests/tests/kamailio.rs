//! The filter in front of another SIP server, Debian's Kamailio, of which it reads no log: what is answered says
//! who failed. Also what differs: what proves an address there.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use ringfence_tests::attack::{self, Attacker, Method, Plan};
use ringfence_tests::client::{Client, Request, Response};
use ringfence_tests::kamailio::{Kamailio, PASSWORD};
use ringfence_tests::phone::{Account, Phone};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::tap::Tap;
use ringfence_tests::world::{
    ATTACKERS, Hosts, PBX, PHONE, SIP_PORT, cache, nothing_is_left, until,
};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

fn kind_of(ringfence: &Ringfence, source: IpAddr) -> Option<String> {
    let bans: Value = ringfence.client().ask(&["bans"]).unwrap();
    let all = bans["bans"].as_array().unwrap();
    let ban = all.iter().find(|ban| ban["network"] == source.to_string())?;
    Some(ban["kind"].as_str().unwrap().to_owned())
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's Kamailio"]
fn guessers_at_kamailio_are_banned_with_proof_and_a_phone_is_not_hurt() {
    attack::check_tools().unwrap();
    let hosts = Hosts::new().unwrap();
    let kamailio = Kamailio::registrar(&hosts.pbx, &cache().unwrap(), PBX, true).unwrap();
    let arrived = Tap::start(&hosts.pbx, "eth0").unwrap();
    let config = Config::new(Path::new("/dev/null"));
    let ringfence = Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap();
    let account = Account {
        name: "1002".to_owned(),
        password: PASSWORD.to_owned(),
        local: PHONE,
        registrar: SocketAddr::new(PBX, SIP_PORT),
    };
    let phone = Phone::start(&hosts.phone, account, Duration::from_millis(300)).unwrap();
    let is_known = || ringfence.why(PHONE).unwrap()["known"] == true;
    assert!(until(SOON, is_known), "{:?}\n{}", phone.report(), kamailio.log());

    for (method, source) in [(Method::Guess, ATTACKERS[0]), (Method::GuessTcp, ATTACKERS[1])] {
        let duration = Duration::from_secs(5);
        let plan = Plan { method, source, target: PBX, rate: 20, duration };
        let attacker = Attacker::start(&hosts.attacker, &plan).unwrap();
        let banned = || kind_of(&ringfence, source).as_deref() == Some("ban");
        assert!(until(SOON, banned), "{}\n{}", ringfence.why(source).unwrap(), kamailio.log());
        drop(attacker);
        let why = ringfence.why(source).unwrap();
        let evidence = why["evidence"].as_array().unwrap();
        let by_wire = |failure: &Value| {
            failure["source"] == "wire" && failure["proven"] == true && failure["account"] == "1001"
        };
        assert!(!evidence.is_empty() && evidence.iter().all(by_wire), "{why}");
        let answered = arrived.seen(source).guesses_answered;
        assert!((15..=18).contains(&answered), "{answered}");
    }

    // A scan of users that need not exist: Kamailio challenges all alike.
    let source = ATTACKERS[2];
    let mut scanner = Client::udp(&hosts.attacker, source, PBX).unwrap();
    let is_challenged = |number: &u32| {
        let (user, call_id) = (format!("x{number}"), format!("scan-{number}"));
        scanner.ask(&Request::register(&user, &call_id)).unwrap().is_some()
    };
    let count = (0..60).take_while(is_challenged).count();
    let throttled = || kind_of(&ringfence, source).as_deref() == Some("throttle");
    assert!(until(SOON, throttled), "{count} {}", ringfence.why(source).unwrap());

    let report = phone.finish();
    assert!(report.attempts > 5 && report.failures == 0, "{report:?}");
    drop((ringfence, arrived, kamailio, hosts));
    nothing_is_left().unwrap();
}

/// The responses to requests of two addresses, as alike as possible.
fn answers(hosts: &Hosts, method: &str, number: u32) -> [Response; 2] {
    let ask = |source| {
        let (id, mut client) =
            (format!("alike-{number}"), Client::udp(&hosts.attacker, source, PBX).unwrap());
        let request = Request { method, ..Request::register("1001", &id) };
        client.ask(&request).unwrap().unwrap()
    };
    [ask(ATTACKERS[0]), ask(ATTACKERS[1])]
}

/// Why `docs/operations.md` says to set `auth_checks_register`, and why no tag proves an address.
#[test]
#[ignore = "requires root: network namespaces, Debian's Kamailio"]
fn kamailio_gives_two_addresses_one_nonce_unless_it_checks_the_source() {
    let hosts = Hosts::new().unwrap();
    for checks in [false, true] {
        let kamailio = Kamailio::registrar(&hosts.pbx, &cache().unwrap(), PBX, checks).unwrap();
        // Its nonces contain the second, so those of one second are compared.
        let same = (0..20).any(|number| {
            let [one, other] = answers(&hosts, "REGISTER", number);
            one.challenge().unwrap().nonce == other.challenge().unwrap().nonce
        });
        assert_eq!(same, !checks, "{}", kamailio.log());
        let [one, other] = answers(&hosts, "INVITE", 20);
        let prefix = |tag: &str| tag.split('.').next().unwrap_or_default().to_owned();
        assert!(one.status == 407 && prefix(one.to_tag()).len() > 5, "{one:?}");
        assert_eq!(prefix(one.to_tag()), prefix(other.to_tag()), "{one:?} {other:?}");
    }
    drop(hosts);
    nothing_is_left().unwrap();
}

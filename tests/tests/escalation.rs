//! Repeat offenders, and networks with many offenders.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::IpAddr;
use std::time::Duration;

use ringfence_tests::asterisk::Options;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::world::{ATTACKERS, PBX, PHONE, World, until};
use serde_json::Value;

/// The time limit from a packet to the ban on a busy machine.
const SOON: Duration = Duration::from_secs(20);

const NETWORK: &str = "192.0.2.0/24";

/// The ban of a network or an address, if it is in force.
fn ban_of(world: &World, network: &str) -> Option<Value> {
    let bans: Value = world.ringfence.client().ask(&["bans"]).unwrap();
    bans["bans"].as_array().unwrap().iter().find(|ban| ban["network"] == network).cloned()
}

/// Fails over TCP until it is banned; returns the remaining seconds and the reason.
fn banned(world: &World, source: IpAddr) -> (i128, String) {
    let mut guesser = Guesser::tcp(&world.hosts.attacker, source, PBX).unwrap();
    for _guess in 0..2 {
        assert_eq!(guesser.guess().unwrap(), Some(401));
    }
    let address = source.to_string();
    // The log reports a failure, and a moment later AMI reports that it is proven: only then is the ban
    // final.
    let record = || {
        let why: Value = world.ringfence.why(source).unwrap();
        let proven = why["evidence"].as_array().unwrap().iter().filter(|e| e["proven"] == true);
        proven.count() == 2 && ban_of(world, &address).is_some()
    };
    assert!(until(SOON, record), "{:?}", world.ringfence.why(source));
    let ban = ban_of(world, &address).unwrap();
    let time = |key: &str| ban[key].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
    let length = time("until").duration_since(time("since"));
    ((length.as_millis() + 500) / 1000, ban["reason"].as_str().unwrap().to_owned())
}

/// Whether a guess over UDP is answered.
fn is_answered(world: &World, source: IpAddr) -> bool {
    Guesser::udp(&world.hosts.attacker, source, PBX).unwrap().guess().unwrap().is_some()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn who_comes_again_is_banned_for_longer_and_his_network_with_his_neighbours() {
    let options = Options { ami_secret: Some("tG5w-8Hqn-Zr3c".to_owned()), ..Options::default() };
    let trusted = ATTACKERS[6];
    let mut world = World::with(&options, |config| {
        config.maxretry = 2;
        config.bantime = "2s".to_owned();
        config.trusted = vec![trusted.to_string()];
        config.more = "jails: {asterisk-wazo: {bantime.increment: true}}\n\
                       escalation: {enabled: true, ipv4: {offenders: 3}}\n"
            .to_owned();
    })
    .unwrap();
    let ami = |world: &World| world.source("asterisk-ami").unwrap()["state"] == "ok";
    assert!(until(Duration::from_secs(10), || ami(&world)));
    let phone = world.phone(Duration::from_millis(300)).unwrap();
    let is_known = || world.ringfence.why(PHONE).unwrap()["known"] == true;
    assert!(until(Duration::from_secs(5), is_known), "{:?}", phone.report());

    let (time, reason) = banned(&world, ATTACKERS[0]);
    assert_eq!(time, 2, "{reason}");
    assert!(until(Duration::from_secs(5), || !world.is_banned(ATTACKERS[0]).unwrap()));
    let (time, reason) = banned(&world, ATTACKERS[0]);
    assert_eq!(time, 4, "{reason}");
    assert!(reason.ends_with("; 2nd ban"), "{reason}");

    banned(&world, ATTACKERS[1]);
    assert_eq!(ban_of(&world, NETWORK), None, "two offenders are not three");
    assert!(is_answered(&world, ATTACKERS[5]));
    banned(&world, ATTACKERS[2]);
    assert!(until(SOON, || ban_of(&world, NETWORK).is_some()), "{:?}", world.ringfence.bans());
    let look = |world: &World| {
        let ban = ban_of(world, NETWORK).unwrap();
        assert_eq!((&ban["jail"], &ban["scope"]), (&"escalation".into(), &"sip".into()), "{ban}");
        let except = serde_json::json!([PBX, PHONE, trusted]);
        assert_eq!((&ban["except"], &ban["reason"]), (&except, &"3 offenders within 1d".into()));
        assert!(!is_answered(world, ATTACKERS[5]), "who has done nothing yet gets in");
        assert!(is_answered(world, trusted), "the trusted one is shut out");
    };
    look(&world);
    let why: Value = world.ringfence.why(ATTACKERS[5]).unwrap();
    assert_eq!((&why["dropped"], &why["network"]), (&true.into(), &NETWORK.into()), "{why}");
    world.ringfence.kill().unwrap();
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    look(&world);
    let registered = phone.report().attempts;
    assert!(until(SOON, || phone.report().attempts > registered + 2), "{:?}", phone.report());
    assert_eq!(phone.finish().failures, 0);
    world.end().unwrap();
}

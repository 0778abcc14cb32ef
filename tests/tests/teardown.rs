//! The controller ends, in order or not: its programs and maps stay in the kernel until `detach`.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use jiff::{Timestamp, Unit};
use ringfence_tests::attack::Method;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::world::{ATTACKERS, PBX, World, until};
use serde_json::Value;

const SOURCE: IpAddr = ATTACKERS[0];

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn bans_outlive_the_controller_and_the_next_one_adopts_them() {
    let mut world = World::new(|config| config.maxretry = 5).unwrap();
    let attack = world.attack(Method::Guess, SOURCE, 50, Duration::from_secs(30)).unwrap();
    let banned = until(Duration::from_secs(5), || world.is_banned(SOURCE).unwrap());
    assert!(banned, "{:?}", world.reported(SOURCE));
    thread::sleep(Duration::from_millis(200));
    let before = ban(&world);
    let (sent, arrived) = counts(&world);

    world.ringfence.kill().unwrap();
    thread::sleep(Duration::from_millis(500));
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    is_the_same(&before, &ban(&world));
    world.ringfence.stop().unwrap();
    thread::sleep(Duration::from_millis(500));
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    is_the_same(&before, &ban(&world));
    let log = world.ringfence.log();
    assert_eq!(log.matches("replaced the program on eth0 in native mode").count(), 2, "{log}");

    let detach = world.ringfence.detach().unwrap();
    assert_eq!(detach.status.code(), Some(1), "{detach:?}");
    let holder = format!("(process {})", world.ringfence.id());
    assert!(detach.stderr.contains(&holder), "{detach:?} does not name {holder}");

    let (sent_now, arrived_now) = counts(&world);
    assert!(sent_now > sent + 50, "the attack did not go on");
    assert_eq!(arrived_now, arrived, "a banned source got through");
    drop(attack);

    world.ringfence.stop().unwrap();
    assert!(!world.ringfence.pins().is_empty());
    let mut guesser = Guesser::udp(&world.hosts.attacker, SOURCE, PBX).unwrap();
    assert_eq!(guesser.guess().unwrap(), None, "the ban went with the controller");
    let detach = world.ringfence.detach().unwrap().success("detach").unwrap();
    assert!(detach.stdout.contains("eth0"), "{detach:?}");
    assert_eq!(world.ringfence.pins(), [""; 0].map(Into::<std::path::PathBuf>::into));
    let link = || {
        let mut ip = world.hosts.pbx.command("ip");
        ip.args(["-d", "link", "show", "eth0"]).output().unwrap()
    };
    // The kernel may free a link a moment later.
    let is_bare = || !String::from_utf8_lossy(&link().stdout).contains("xdp");
    assert!(until(Duration::from_secs(5), is_bare), "{:?}", link());
    assert_eq!(guesser.guess().unwrap(), Some(401), "it still is filtered");
    let again = world.ringfence.detach().unwrap().success("detach").unwrap();
    assert!(again.stdout.contains("nothing"), "{again:?}");
    world.end().unwrap();
}

fn ban(world: &World) -> Value {
    let bans: Value = world.ringfence.client().ask(&["bans"]).unwrap();
    assert_eq!(bans["bans"].as_array().unwrap().len(), 1, "{bans}");
    bans["bans"][0].clone()
}

/// The numbers of sent and of arrived packets.
fn counts(world: &World) -> (u64, u64) {
    let arrived = world.arrived.seen(SOURCE).registers();
    (world.sent.seen(SOURCE).registers(), arrived)
}

fn is_the_same(before: &Value, now: &Value) {
    for key in ["network", "jail", "scope"] {
        assert_eq!(before[key], now[key]);
    }
    for key in ["since", "until"] {
        let time = |ban: &Value| ban[key].as_str().unwrap().parse::<Timestamp>().unwrap();
        // The kernel's clock for it advances in steps of some milliseconds.
        let apart = (time(now) - time(before)).total(Unit::Millisecond).unwrap().abs();
        assert!(apart < 50.0, "{key}: {before} and then {now}");
    }
    assert!(before["packets"].as_u64() < now["packets"].as_u64(), "{before} and then {now}");
}

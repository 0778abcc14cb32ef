//! What the host depends on is not banned, however often it fails.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::time::Duration;

use ringfence_tests::guesser::Guesser;
use ringfence_tests::world::{ATTACKERS, PBX, World, until};
use serde_json::Value;

/// How long the daemon may take to see a change of the host.
const LOOKED: Duration = Duration::from_mins(1);

fn essential(world: &World) -> Value {
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    status["essential"].clone()
}

fn route(world: &World, verb: &str) {
    let gateway = ATTACKERS[0].to_string();
    let mut ip = world.hosts.pbx.command("ip");
    let status = ip.args(["route", verb, "default", "via", &gateway]).status().unwrap();
    assert!(status.success(), "{verb}");
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn the_default_gateway_is_banned_only_when_it_is_none_any_more() {
    const MAXRETRY: u32 = 5;
    let world = World::new(|config| config.maxretry = MAXRETRY).unwrap();
    let gateway = ATTACKERS[0];
    route(&world, "add");
    let is_known = || essential(&world)["gateways"][0] == gateway.to_string();
    assert!(until(LOOKED, is_known), "{}", essential(&world));

    let mut guesser = Guesser::udp(&world.hosts.attacker, gateway, PBX).unwrap();
    for number in 0..2 * MAXRETRY {
        assert_eq!(guesser.guess().unwrap(), Some(401), "guess {number}");
    }
    assert!(until(LOOKED, || essential(&world)["prevented"] == 2), "{}", essential(&world));
    assert!(!world.is_banned(gateway).unwrap());
    let why = world.ringfence.why(gateway).unwrap();
    assert_eq!((&why["essential"], &why["dropped"]), (&"a default gateway".into(), &false.into()));
    let log = world.ringfence.log();
    let lines = log.matches("is not banned, because it is a default gateway").count();
    assert_eq!(lines, 1, "{log}");
    let history: Value = world.ringfence.client().ask(&["history"]).unwrap();
    assert_eq!(history["history"][0]["event"], "ban-prevented", "{history}");

    route(&world, "del");
    assert!(until(LOOKED, || !is_known()), "{}", essential(&world));
    for number in 0..MAXRETRY {
        assert_eq!(guesser.guess().unwrap(), Some(401), "guess {number}");
    }
    assert!(until(LOOKED, || world.is_banned(gateway).unwrap()), "{:?}", world.ringfence.bans());
    world.end().unwrap();
}

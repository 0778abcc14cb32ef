//! Attackers guess passwords with real tools while a phone registers: the attackers are banned in time,
//! the phone loses nothing, and all reports add up.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::HashMap;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ringfence_tests::attack::Method;
use ringfence_tests::ringfence::Status;
use ringfence_tests::world::{ATTACKERS, PHONE, World, until};
use serde_json::{Value, json};

const SVCRACK: IpAddr = ATTACKERS[0];
const SIPP: IpAddr = ATTACKERS[1];
const MAXRETRY: u64 = 15;
/// The guesses that Asterisk may answer: those that lead to the ban, and those already under way.
const ANSWERS_MAX: u64 = 18;

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn guessers_are_banned_and_a_phone_loses_nothing() {
    let world = World::new(|_defaults| ()).unwrap();
    let before = settled(&world);
    let phone = world.phone(Duration::from_millis(200)).unwrap();
    let duration = Duration::from_secs(6);
    let mut attackers = [
        world.attack(Method::Svcrack, SVCRACK, 0, duration).unwrap(),
        world.attack(Method::Guess, SIPP, 50, duration).unwrap(),
    ];
    let banned = until(Duration::from_secs(15), || {
        [SVCRACK, SIPP].into_iter().all(|source| world.is_banned(source).unwrap())
    });
    assert!(banned, "{:?}", world.ringfence.bans());
    let packets = packets_of(&world, SIPP);
    let grows = || packets_of(&world, SIPP) >= packets + 20;
    assert!(until(Duration::from_secs(3), grows), "the attack goes on, its count does not");
    let ended = || attackers.iter_mut().all(|attacker| attacker.ended().unwrap().is_some());
    assert!(until(duration + Duration::from_secs(10), ended), "an attacker does not end");
    drop(attackers);

    let report = phone.finish();
    assert!(report.attempts >= 20, "{report:?}");
    assert_eq!(report.failures, 0, "{report:?}");
    let (sent, arrived) = (world.sent.seen(PHONE), world.arrived.seen(PHONE));
    assert_eq!(sent.registers(), arrived.registers(), "the phone's packets were dropped");
    assert!(!world.is_banned(PHONE).unwrap());
    for source in [SVCRACK, SIPP] {
        let seen = world.arrived.seen(source);
        let answered = MAXRETRY..=ANSWERS_MAX;
        assert!(answered.contains(&seen.guesses_answered), "{source}: {seen:?}");
        assert!(world.sent.seen(source).registers() > seen.registers(), "{source}: {seen:?}");
    }
    assert_eq!((world.sent.lost(), world.arrived.lost()), (0, 0));

    let after = settled(&world);
    assert_eq!(
        after.0.interfaces[0].received - before.0.interfaces[0].received,
        after.1 - before.1,
        "what the filter counted is not what the switch delivered"
    );
    after.0.adds_up().unwrap();
    assert!(after.0.enforcing && after.0.reasons["banned"].packets > 0, "{:?}", after.0);
    answers_have_the_documented_form(&world);
    the_log_says_the_same(&world);
    world.end().unwrap();
}

/// The status and the number of delivered frames at a moment when no packet arrives.
fn settled(world: &World) -> (Status, u64) {
    for _try in 0..100 {
        let first = world.ringfence.status().unwrap();
        let delivered = world.hosts.delivered().unwrap();
        let second = world.ringfence.status().unwrap();
        if first.interfaces[0].received == second.interfaces[0].received {
            return (second, delivered);
        }
        thread::sleep(Duration::from_millis(50));
    }
    panic!("the PBX's interface does not come to rest");
}

fn packets_of(world: &World, source: IpAddr) -> u64 {
    let bans = world.ringfence.bans().unwrap();
    bans.iter().find(|ban| ban.address() == Some(source)).map_or(0, |ban| ban.packets)
}

fn answers_have_the_documented_form(world: &World) {
    let ask = |arguments: &[&str]| world.ringfence.client().ask::<Value>(arguments).unwrap();
    has_form(
        &ask(&["status"]),
        &json!({
            "version": "string", "uptime_seconds": "number", "enforcing": "bool",
            "interfaces": [{"name": "string", "mode": "string", "received": "number",
                            "passed": "number", "dropped": "number"}],
            "reasons": {"banned": {"verdict": "string", "packets": "number", "bytes": "number"}},
            "bans": {"active": "number", "capacity": "number"}, "peers": {"known": "number"},
            "sources": [{"name": "string", "kind": "string", "state": "string",
                         "events": "number", "failures": "number", "last_event": "time"}],
            "jails": [{"name": "string", "watched": "number", "banned": "number"}],
        }),
    );
    let bans = ask(&["bans", "--jail", "asterisk-wazo"]);
    has_form(
        &bans,
        &json!({"bans": [{"network": "string", "jail": "string", "scope": "string",
                          "since": "time", "until": "time", "packets": "number",
                          "reason": "string"}]}),
    );
    assert_eq!(bans["bans"].as_array().unwrap().len(), 2, "{bans}");
    assert_eq!(ask(&["bans", "--jail", "manual"])["bans"], json!([]));

    let why = ask(&["why", &SIPP.to_string()]);
    has_form(
        &why,
        &json!({
            "address": "string", "dropped": "bool", "scope": "string", "jail": "string",
            "until": "time", "trusted": "bool", "known": "bool",
            "evidence": [{"time": "time", "source": "string", "class": "string",
                          "account": "string", "proven": "bool"}],
            // Passed packets of a single source are not counted.
            "packets": {"passed": "null", "dropped": "number"},
        }),
    );
    assert_eq!((&why["dropped"], &why["scope"]), (&json!(true), &json!("sip")), "{why}");
    assert_eq!(why["evidence"][0]["class"], "wrong-credential", "{why}");
    assert_eq!(why["evidence"][0]["account"], "1001", "{why}");
    let why = ask(&["why", &PHONE.to_string()]);
    assert_eq!((&why["dropped"], &why["evidence"]), (&json!(false), &json!([])), "{why}");

    let jails = ask(&["jails"]);
    has_form(
        &jails,
        &json!({"jails": [{"name": "string", "enabled": "bool", "maxretry": "number",
                           "findtime": "string", "bantime": "string", "watched": "number",
                           "banned": "number"}]}),
    );
    assert_eq!(jails["jails"][0]["banned"], 2, "{jails}");
    assert_eq!(jails["jails"][0]["findtime"], "10m", "{jails}");
}

/// Checks that `test-log` finds in the file what the daemon has counted.
fn the_log_says_the_same(world: &World) {
    let log = world.asterisk.notice_log();
    let arguments = ["test-log", "asterisk-wazo", log.to_str().unwrap()];
    let said = world.ringfence.client().run(&arguments, true).unwrap();
    let said = said.success("test-log").unwrap().stdout;
    let mut failures: HashMap<IpAddr, u64> = HashMap::new();
    for line in said.lines() {
        let attempt: Value = serde_json::from_str(line).unwrap();
        has_form(
            &attempt,
            &json!({"line": "string", "verdict": "string", "class": "string",
                    "address": "string", "account": "string", "transport": "null",
                    "proven": "bool", "time": "time"}),
        );
        if attempt["verdict"] == "failure" {
            let address = attempt["address"].as_str().unwrap().parse().unwrap();
            *failures.entry(address).or_default() += 1;
        }
    }
    let sources: Vec<IpAddr> = failures.keys().copied().collect();
    assert_eq!(sources.len(), 2, "{failures:?}");
    for source in [SVCRACK, SIPP] {
        assert_eq!(failures.get(&source), Some(&world.reported(source).unwrap()), "{source}");
    }
    let text = world.ringfence.client().run(&arguments, false).unwrap();
    let text = text.success("test-log").unwrap().stdout;
    assert!(text.contains(&format!("{SIPP}: {} wrong-credential", failures[&SIPP])), "{text}");
}

/// Whether `value` has the keys of `form`, with the types named there. Each element of a list has the
/// form of its only element; there is at least one.
fn has_form(value: &Value, form: &Value) {
    if let Some(keys) = form.as_object() {
        for (key, form) in keys {
            assert!(value.get(key).is_some(), "there is no {key} in {value}");
            has_form(&value[key], form);
        }
    } else if let Some(forms) = form.as_array() {
        let elements = value.as_array().unwrap();
        assert!(!elements.is_empty(), "an empty list where {form} was to be");
        for element in elements {
            has_form(element, &forms[0]);
        }
    } else {
        let name = form.as_str().unwrap();
        assert!(is_a(value, name), "{value} is no {name}");
    }
}

fn is_a(value: &Value, name: &str) -> bool {
    match name {
        "string" => value.is_string(),
        "number" => value.is_u64(),
        "bool" => value.is_boolean(),
        "null" => value.is_null(),
        "time" => value
            .as_str()
            .is_some_and(|text| text.ends_with('Z') && text.parse::<jiff::Timestamp>().is_ok()),
        other => panic!("no type is called {other}"),
    }
}

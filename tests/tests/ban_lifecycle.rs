//! From a failure that a real Asterisk logs to a ban in the kernel, and to the end of the ban.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::net::IpAddr;
use std::thread;
use std::time::{Duration, Instant};

use ringfence_tests::attack::Method;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::sip::percent_encoded;
use ringfence_tests::world::{
    ATTACKERS, ATTACKERS6, PBX, PBX6, SIP_PORT, World, tcp_reaches, until,
};
use serde_json::Value;

/// The time limit from a packet to the ban on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn guess_until_banned(world: &World, guesser: &mut Guesser, source: IpAddr, failures: u32) {
    for number in 0..failures {
        assert_eq!(guesser.guess().unwrap(), Some(401), "guess {number} of {failures}");
    }
    assert!(until(SOON, || world.is_banned(source).unwrap()), "{:?}", world.ringfence.bans());
}

/// The failures that the filter has counted, from all sources.
fn heard(world: &World) -> u64 {
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    status["sources"][0]["failures"].as_u64().unwrap()
}

/// The lines that the filter has read.
fn lines(world: &World) -> u64 {
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    status["sources"][0]["events"].as_u64().unwrap()
}

/// Guesses until there is an answer, at most for `limit`; returns how long this took.
fn wait_for_an_answer(guesser: &mut Guesser, limit: Duration) -> Duration {
    let started = Instant::now();
    while guesser.guess().unwrap().is_none() {
        assert!(started.elapsed() < limit, "no answer within {} s", limit.as_secs());
    }
    started.elapsed()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_ban_ends_by_itself_and_comes_again() {
    const MAXRETRY: u32 = 5;
    let bantime = Duration::from_secs(3);
    let mut world = World::new(|config| {
        config.maxretry = MAXRETRY;
        config.bantime = "3s".to_owned();
    })
    .unwrap();
    let source = ATTACKERS[0];
    let mut guesser = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();

    guess_until_banned(&world, &mut guesser, source, MAXRETRY);
    assert_eq!(guesser.guess().unwrap(), None, "it is banned");
    // The first answer is the first failure of the next ban.
    let took = wait_for_an_answer(&mut guesser, bantime + SOON);
    assert!(took > bantime / 2, "it was banned for {took:?} only");
    assert!(until(SOON, || !world.is_banned(source).unwrap()), "it still is listed");

    for _guess in 2..MAXRETRY {
        assert_eq!(guesser.guess().unwrap(), Some(401));
    }
    assert!(until(SOON, || heard(&world) == u64::from(2 * MAXRETRY - 1)), "{}", heard(&world));
    assert!(!world.is_banned(source).unwrap(), "the failures behind the first ban count again");
    guess_until_banned(&world, &mut guesser, source, 1);
    assert_eq!(guesser.guess().unwrap(), None, "it is banned again");

    // No daemon is there to lift it: the kernel ends it.
    world.ringfence.kill().unwrap();
    assert_eq!(guesser.guess().unwrap(), None, "the ban went with the controller");
    wait_for_an_answer(&mut guesser, bantime + SOON);
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_rotation_of_the_log_loses_no_failure() {
    const GUESSES: u32 = 200;
    let world = World::new(|config| {
        config.maxretry = GUESSES;
        (config.register_rate, config.register_burst) = (1000, 1000);
    })
    .unwrap();
    let source = ATTACKERS[0];
    let second = Duration::from_secs(1);
    let attack = world.attack(Method::Guess, source, GUESSES / 4, 4 * second).unwrap();

    thread::sleep(second);
    let current = world.asterisk.notice_log();
    let [old, older] = ["fail2ban.1", "fail2ban.2"].map(|name| world.asterisk.log_dir().join(name));
    fs::rename(&current, &old).unwrap();
    let length = fs::metadata(&old).unwrap().len();
    thread::sleep(second / 2);
    assert!(fs::metadata(&old).unwrap().len() > length, "Asterisk wrote nothing meanwhile");
    world.asterisk.cli("logger reload").unwrap();
    thread::sleep(second);
    fs::rename(&old, &older).unwrap();
    world.asterisk.rotate().unwrap();

    // With one failure less, there would be no ban.
    let banned = until(Duration::from_secs(10), || world.is_banned(source).unwrap());
    let reported = world.reported(source).unwrap();
    assert!(banned, "of {reported} failures {} were heard", heard(&world));
    assert_eq!((reported, heard(&world)), (GUESSES.into(), GUESSES.into()));
    drop(attack);
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn guessers_over_tcp_and_ipv6_are_banned() {
    let world = World::new(|_defaults| ()).unwrap();
    let (tcp, [six, seven]) = (ATTACKERS[0], ATTACKERS6);
    let length = Duration::from_secs(8);
    let attack = world.attack(Method::GuessTcp, tcp, 20, length).unwrap();
    // Two addresses in one /64 are one source.
    let mut udp6 = Guesser::udp(&world.hosts.attacker, six, PBX6).unwrap();
    let mut tcp6 = Guesser::tcp(&world.hosts.attacker, seven, PBX6).unwrap();
    for number in 0..7 {
        let answers = (udp6.guess().unwrap(), tcp6.guess().unwrap());
        assert_eq!(answers, (Some(401), Some(401)), "guess {number} of 7");
    }
    assert!(!world.is_banned(six).unwrap());
    assert_eq!(tcp6.guess().unwrap(), Some(401));
    assert!(until(SOON, || world.is_banned(seven).unwrap()), "{:?}", world.ringfence.bans());
    assert_eq!(udp6.guess().unwrap(), None);
    let why = world.ringfence.why(six).unwrap();
    let failed = |address: IpAddr| {
        let of = address.to_string();
        why["evidence"].as_array().unwrap().iter().any(|failure| failure["address"] == of)
    };
    assert!(failed(six) && failed(seven), "{why}");
    // Only eight of the failures are proven, so it is throttled, which leaves TCP open.
    for number in 8..15 {
        assert_eq!(tcp6.guess().unwrap(), Some(401), "guess {number} over tcp");
    }
    let mut is_served = || tcp6.guess().unwrap().is_some();
    assert!(until(SOON, || !is_served()), "its connection is still served");
    let why = world.ringfence.why(six).unwrap();
    assert_eq!((&why["dropped"], &why["network"]), (&true.into(), &"2001:db8::/64".into()));
    assert_eq!(why["scope"], "sip", "{why}");
    let attacks = [attack, world.attack(Method::Guess, six, 20, length).unwrap()];
    let banned = || world.is_banned(tcp).unwrap();
    assert!(until(Duration::from_secs(10), banned), "{:?}", world.reported(tcp));

    let state = || {
        let bans = world.ringfence.bans().unwrap();
        [tcp, six].map(|source| {
            let ban = bans.iter().find(|ban| ban.covers(source)).unwrap();
            (world.reported(source).unwrap(), ban.packets)
        })
    };
    thread::sleep(Duration::from_millis(200));
    let (before, arrived) = (state(), world.arrived.seen(six).registers());
    let sent = world.sent.seen(six).registers();
    // Segments of the connection from the same /64 are counted in its ban too.
    let goes_on = || world.sent.seen(six).registers() > sent;
    let counts = || state().iter().zip(&before).all(|(now, then)| now.1 > then.1);
    let is_dropped = || goes_on() && counts();
    assert!(until(Duration::from_secs(4), is_dropped), "{:?} after {before:?}", state());
    assert_eq!(world.arrived.seen(six).registers(), arrived, "a banned source gets through");
    assert_eq!(state().map(|(reported, _)| reported), before.map(|(reported, _)| reported));

    // The port is closed to the banned source, and to no other.
    assert!(!tcp_reaches(&world.hosts.attacker, tcp, SIP_PORT));
    assert!(tcp_reaches(&world.hosts.attacker, ATTACKERS[1], SIP_PORT));
    drop(attacks);
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn text_in_a_message_bans_nobody_else() {
    const VICTIM: &str = "203.0.113.12";
    let world = World::new(|_defaults| ()).unwrap();
    let forged = format!("' failed for '{VICTIM}:5060' (callid: x) - Failed to authenticate ");
    let uri = format!("<sip:1001@{PBX}>");
    let many = forged.repeat(30);
    // PJSIP decodes it if its value begins with a quote: this is a whole line in the log.
    let line = format!(
        "[2026-11-22 09:32:21.1233] NOTICE[1] res_pjsip/pjsip_distributor.c: \
         Request 'REGISTER' from '<sip:1001@x>' failed for '{VICTIM}:5060' (callid: x) - \
         Failed to authenticate"
    );
    let messages = [
        (format!("\"{forged}\" {uri}"), "c".to_owned()),
        (uri.clone(), forged.clone()),
        (uri.clone(), many.clone()),
        (format!("\"{many}\" {uri}"), "c".to_owned()),
        // In each of these, either address may be the true one; the packets decide.
        (format!("\"{many}\" {uri}"), many),
        (format!("\"y\\\" <sip:a@b>{forged}x\" {uri}"), "c".to_owned()),
        (format!("<sip:1001@{PBX};p=%22%0a{}%0a>", percent_encoded(&line)), "c".to_owned()),
    ];
    // The true address of the last one is in a line that does not look like the start of one.
    let hidden = ATTACKERS[6];
    let mut not_banned = Vec::new();
    for (source, (from, call_id)) in ATTACKERS.into_iter().zip(&messages) {
        let mut guesser = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();
        for number in 0..20 {
            if guesser.guess_as(from, &format!("{number}{call_id}")).unwrap().is_none() {
                break;
            }
        }
        if source != hidden && !until(SOON, || world.is_banned(source).unwrap()) {
            not_banned.push(source);
        }
    }
    // The lines that ban the others, and all lines of the last one.
    assert!(until(SOON, || lines(&world) >= 6 * 15 + 20), "{} lines were read", lines(&world));
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    let unwitnessed = status["sources"][0]["unwitnessed"].as_u64().unwrap();
    assert!(unwitnessed >= 15, "the forged lines were not taken for failures: {status}");
    // Asterisk prints stack contents if a From is too long.
    let log = fs::read(world.asterisk.notice_log()).unwrap();
    let log = String::from_utf8_lossy(&log);
    assert!(log.contains(VICTIM), "Asterisk did not write down what was sent");
    let bans = world.ringfence.bans().unwrap();
    assert!(bans.iter().all(|ban| ban.network != VICTIM), "{bans:?}");
    assert!(not_banned.is_empty(), "{not_banned:?}: {log}");
    let why: Value = world.ringfence.client().ask(&["why", VICTIM]).unwrap();
    assert_eq!(why["evidence"], serde_json::json!([]), "{why}");
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_dry_run_judges_and_drops_nothing() {
    const MAXRETRY: u32 = 5;
    let world = World::new(|config| {
        config.maxretry = MAXRETRY;
        config.dry_run = true;
    })
    .unwrap();
    let source = ATTACKERS[0];
    let mut guesser = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();
    guess_until_banned(&world, &mut guesser, source, MAXRETRY);
    for _guess in 0..MAXRETRY {
        assert_eq!(guesser.guess().unwrap(), Some(401), "a dry run drops");
    }
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    assert_eq!(status["enforcing"], false);
    assert_eq!(status["interfaces"][0]["dropped"], 0, "{status}");
    assert_eq!(status["would_drop"]["throttled"], MAXRETRY, "{status}");
    assert_eq!(status["reasons"]["dry-run"]["packets"], MAXRETRY, "{status}");
    let why: Value = world.ringfence.client().ask(&["why", &source.to_string()]).unwrap();
    assert_eq!((&why["dropped"], &why["scope"]), (&false.into(), &"throttle".into()), "{why}");
    assert!(tcp_reaches(&world.hosts.attacker, source, SIP_PORT), "a dry run drops");
    world.end().unwrap();
}

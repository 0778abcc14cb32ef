//! A reload: a new configuration replaces the running one, as a whole or not at all, and no packet passes
//! unfiltered.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::packet_builder::Frame;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::wire::{self, Wire};
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, OTHER_PORT, PBX, SIP_PORT, World, nothing_is_left, udp_reaches, until,
};
use serde_json::Value;

/// The time limit of a reload on a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn start(hosts: &Hosts, trusted: &[IpAddr]) -> Ringfence {
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    config.trusted = trusted.iter().map(ToString::to_string).collect();
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
}

/// Makes the daemon reload, and waits until its log contains `line`.
fn reload(ringfence: &Ringfence, line: &str) {
    let before = ringfence.log().len();
    ringfence.signal(Signal::SIGHUP).unwrap();
    let said = || ringfence.log()[before..].to_owned();
    assert!(until(SOON, || said().contains(line)), "no `{line}` in {}", said());
}

fn maxretry(ringfence: &Ringfence) -> u64 {
    let jails: Value = ringfence.client().ask(&["jails"]).unwrap();
    let jail = jails["jails"].as_array().unwrap().iter().find(|j| j["name"] == "asterisk-wazo");
    jail.unwrap()["maxretry"].as_u64().unwrap()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn takes_effect_whole_or_not_at_all() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    let mut ringfence = start(&hosts, &[ATTACKERS[4]]);
    let reaches =
        |place: usize, port| udp_reaches(&hosts.attacker, ATTACKERS[place], port).unwrap();
    let banned = ATTACKERS[0].to_string();
    ringfence.client().run(&["ban", &banned], false).unwrap().success("ban").unwrap();
    assert!(!reaches(0, SIP_PORT));

    // A file with an error changes nothing.
    let more = ringfence.config_file().with_file_name("conf.d").join("more.yml");
    fs::write(&more, "jails: {asterisk-wazo: {maxretri: 3}}\ndry_run: true\n").unwrap();
    reload(&ringfence, "the configuration is not reloaded");
    assert!(ringfence.log().contains("maxretri"), "{}", ringfence.log());
    assert!(!reaches(0, SIP_PORT) && maxretry(&ringfence) == 15);

    // Neither does an incomplete file.
    fs::write(&more, "jails: {asterisk-wazo: {maxretry: 7}}\n").unwrap();
    ringfence.signal(Signal::SIGHUP).unwrap();
    thread::sleep(Duration::from_millis(20));
    fs::write(&more, "jails: {asterisk-wazo: {maxretry: 8}}\n").unwrap();
    assert!(until(SOON, || maxretry(&ringfence) != 15));
    assert_eq!(maxretry(&ringfence), 8);

    // Some settings take effect at once, and those that need a restart are named.
    let trusted = format!("trusted: [{}, {}]\n", ATTACKERS[4], ATTACKERS[0]);
    let new =
        format!("{trusted}jails: {{asterisk-wazo: {{maxretry: 3}}}}\ncapacity: {{bans: 1000}}\n");
    fs::write(&more, new).unwrap();
    reload(&ringfence, "needs `systemctl restart ringfence`: capacity.bans: 1000000 -> 1000");
    assert!(reaches(0, SIP_PORT) && maxretry(&ringfence) == 3);

    // An address stays trusted if a ban would then shut it out.
    fs::write(&more, "").unwrap();
    reload(&ringfence, &format!("would be shut out by a ban of {banned}"));
    assert!(reaches(0, SIP_PORT) && maxretry(&ringfence) == 3);
    ringfence.client().run(&["unban", &banned], false).unwrap().success("unban").unwrap();
    reload(&ringfence, "jails.asterisk-wazo.maxretry: 3 -> 15");
    assert_eq!(maxretry(&ringfence), 15);

    // The last trusted network is not removed either.
    ringfence.configure(|config| config.trusted.clear()).unwrap();
    reload(&ringfence, "no trusted network would be left");

    // The command gives the same answers.
    let run = |words: &[&str]| ringfence.client().run(words, false).unwrap();
    let asked = run(&["reload", "--dry-run"]).success("reload").unwrap().stdout;
    assert!(asked.contains("1 setting would change") && asked.contains("--force"), "{asked}");
    let refused = run(&["reload"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(refused.stderr.contains("no trusted network would be left"), "{refused:?}");
    let forced = run(&["reload", "--force"]).success("reload").unwrap().stdout;
    assert!(forced.contains("1 setting changed"), "{forced}");
    let again: Value = ringfence.client().ask(&["reload"]).unwrap();
    assert_eq!((&again["applied"], &again["changes"]), (&true.into(), &Value::Array(Vec::new())));

    // The history has what was applied and what it changed.
    let history: Value = ringfence.client().ask(&["history"]).unwrap();
    let rows = history["history"].as_array().unwrap().iter();
    let reloads = rows.filter_map(|row| row["action"].as_str()?.strip_prefix("reload the "));
    let reloads: Vec<&str> = reloads.collect();
    let wanted = [
        "configuration, which has not changed",
        "configuration: trusted: ",
        "configuration: jails.asterisk-wazo.maxretry: 3 -> 15; ",
        "configuration: capacity.bans: 1000000 -> 1000 (after a restart); ",
        "configuration: jails.asterisk-wazo.maxretry: 15 -> 8",
    ];
    assert!(reloads.len() == 5 || reloads.len() == 6, "{reloads:?}");
    for (is, wanted) in reloads.iter().zip(wanted) {
        assert!(is.starts_with(wanted), "{is} {reloads:?}");
    }

    // A dry run begins and ends.
    ringfence.client().run(&["ban", &banned], false).unwrap().success("ban").unwrap();
    ringfence
        .configure(|config| {
            config.trusted = vec![ATTACKERS[4].to_string()];
            config.more = "dry_run: true\n".to_owned();
        })
        .unwrap();
    reload(&ringfence, "dry_run: false -> true");
    assert!(reaches(0, SIP_PORT) && !ringfence.status().unwrap().enforcing);
    ringfence.configure(|config| config.more = String::new()).unwrap();
    reload(&ringfence, "dry_run: true -> false");
    assert!(!reaches(0, SIP_PORT) && reaches(1, OTHER_PORT));
    ringfence.status().unwrap().adds_up().unwrap();
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

/// A banned source sends the whole time, and none of its packets passes.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn leaves_no_packet_unfiltered() {
    const RELOADS: u32 = 30;
    let hosts = Hosts::new().unwrap();
    let mut ringfence = start(&hosts, &[ATTACKERS[4]]);
    let banned = ATTACKERS[0];
    let said = ringfence.client().run(&["ban", &banned.to_string()], false).unwrap();
    said.success("ban").unwrap();
    let wire = Wire::of(&hosts.attacker).unwrap();
    let target = wire::hardware_address(&hosts.pbx).unwrap();
    let frame = Frame::from(banned).target_mac(target).udp(SIP_PORT).payload("OPTIONS").build();
    let over = AtomicBool::new(false);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let mut sent = 0_u64;
            while !over.load(Ordering::Relaxed) {
                wire.send(&frame).unwrap();
                sent += 1;
                thread::sleep(Duration::from_micros(100));
            }
            sent
        });
        for number in 1..=RELOADS {
            let rate = number % 2 + 1;
            let more = format!(
                "limits: {{options: {{rate: {rate}/s}}}}\nsignatures: {{user_agents: [agent-{number}]}}\n\
                 sip: {{udp: [5060, {}]}}\n",
                6000 + number
            );
            ringfence.configure(|config| config.more = more).unwrap();
            reload(&ringfence, &format!("agent-{number}"));
        }
        over.store(true, Ordering::Relaxed);
        sender.join().unwrap()
    });
    let status = ringfence.status().unwrap();
    status.adds_up().unwrap();
    assert!(sent > 1000, "{sent} packets");
    assert_eq!(status.reasons["banned"].packets, sent, "{status:?}");
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

/// Failures from before a reload count after it.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn loses_no_failure() {
    let mut world = World::new(|config| config.maxretry = 100).unwrap();
    let source = ATTACKERS[0];
    let mut guesser = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();
    for maxretry in [90, 80, 70, 60, 50] {
        for _guess in 0..4 {
            assert_eq!(guesser.guess().unwrap(), Some(401));
        }
        world.ringfence.configure(|config| config.maxretry = maxretry).unwrap();
        reload(&world.ringfence, &format!("-> {maxretry}"));
    }
    let status = || -> Value { world.ringfence.client().ask(&["status"]).unwrap() };
    assert!(until(SOON, || status()["sources"][0]["failures"] == 20), "{}", status());
    world.ringfence.configure(|config| config.maxretry = 21).unwrap();
    reload(&world.ringfence, "maxretry: 50 -> 21");
    assert!(!world.is_banned(source).unwrap());
    assert_eq!(guesser.guess().unwrap(), Some(401));
    assert!(until(SOON, || world.is_banned(source).unwrap()));
    world.end().unwrap();
}

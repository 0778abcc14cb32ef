//! The sources other than the NOTICE log, with real input: AMI of a real Asterisk, and files that a test
//! appends to in the way of wazo-provd and sshd.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ringfence_tests::asterisk::{LogForm, Options};
use ringfence_tests::attack::Method;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::world::{ATTACKERS, PBX, World, until};
use serde_json::Value;

/// The time limit from a packet to the ban on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// An address that sends nothing.
const VICTIM: &str = "203.0.113.66";

fn with_ami() -> Options {
    Options { ami_secret: Some("tG5w-8Hqn-Zr3c".to_owned()), ..Options::default() }
}

fn failures(world: &World, name: &str) -> u64 {
    world.source(name).unwrap()["failures"].as_u64().unwrap()
}

fn wait_for_ami(world: &World) {
    let listens = || world.source("asterisk-ami").unwrap()["state"] == "ok";
    assert!(until(Duration::from_secs(10), listens), "{}", world.source("asterisk-ami").unwrap());
}

/// Text that removes the sender's address from the NOTICE log, or puts another one there, has no effect
/// on AMI.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn who_hides_from_the_notice_log_is_heard_over_ami() {
    const GUESSES: u64 = 12;
    let world = World::with(&with_ami(), |config| config.maxretry = 10).unwrap();
    wait_for_ami(&world);
    let source = ATTACKERS[0];
    let mut guesser = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();
    let uri = format!("<sip:1001@{PBX}>");
    for number in 0..GUESSES {
        // Everything from the ESC to the next `m` is missing in the log, including the true address.
        let (from, call_id) = match number % 3 {
            0 => (format!("\"\x1b\" {uri}"), format!("m-{number}")),
            1 => {
                let forged = format!("m' failed for '{VICTIM}:5060' (callid: {number}");
                (format!("\"\x1b\" {uri}"), forged)
            }
            // A line break before the true address.
            _ => (format!("<sip:1001@{PBX};p=%22%0a>"), format!("c-{number}")),
        };
        guesser.guess_as(&from, &call_id).unwrap();
        if number == 8 {
            let all = until(SOON, || failures(&world, "asterisk-ami") == 9);
            assert!(all, "{}", world.source("asterisk-ami").unwrap());
            // In the NOTICE log, this failure belongs to an address that sent nothing.
            let notice = world.source("asterisk-notice").unwrap();
            assert_eq!(notice["failures"], notice["unwitnessed"], "{notice}");
            assert_ne!(notice["unwitnessed"], 0, "{notice}");
            assert!(!world.is_banned(source).unwrap());
        }
    }
    assert!(until(SOON, || world.is_banned(source).unwrap()), "{:?}", world.ringfence.bans());
    assert!(!world.is_banned(VICTIM.parse().unwrap()).unwrap());
    let why: Value = world.ringfence.client().ask(&["why", &source.to_string()]).unwrap();
    let heard = why["evidence"].as_array().unwrap();
    assert!(heard.iter().all(|e| e["source"] == "asterisk-ami"), "{why}");
    assert!(heard.iter().all(|e| e["class"] == "wrong-credential"), "{why}");
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_burst_is_heard_in_full_and_counts_once_and_a_restart_is_outlived() {
    const GUESSES: u32 = 200;
    let world = World::with(&with_ami(), |config| {
        // On a busy machine some are sent twice, and Asterisk reports these twice. All twice would be too many.
        config.maxretry = GUESSES * 5 / 4;
        (config.register_rate, config.register_burst) = (10_000, 10_000);
    })
    .unwrap();
    wait_for_ami(&world);
    let second = Duration::from_secs(1);
    let attack = world.attack(Method::Guess, ATTACKERS[0], GUESSES, second).unwrap();
    let all = || failures(&world, "asterisk-ami") >= u64::from(GUESSES);
    assert!(until(Duration::from_secs(20), all), "{}", world.source("asterisk-ami").unwrap());
    drop(attack);
    assert_eq!(world.source("asterisk-ami").unwrap()["lost"], 0);
    // Both have reported each of them, and each counts once.
    assert!(until(SOON, || failures(&world, "asterisk-notice") >= u64::from(GUESSES)));
    assert!(!world.is_banned(ATTACKERS[0]).unwrap());
    assert_eq!(failures(&world, "asterisk-ami"), world.reported(ATTACKERS[0]).unwrap());

    // Asterisk closes all connections, as in a restart.
    world.asterisk.cli("module reload manager").unwrap();
    world.asterisk.cli("core restart now").ok();
    let down = || world.source("asterisk-ami").unwrap()["state"] == "failed";
    assert!(until(Duration::from_secs(10), down), "{}", world.source("asterisk-ami").unwrap());
    let up = || world.source("asterisk-ami").unwrap()["state"] == "ok";
    assert!(until(Duration::from_secs(30), up), "{}", world.source("asterisk-ami").unwrap());
    world.end().unwrap();
}

/// Failures of sshd and wazo-provd ban without a packet to a SIP port.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn sshd_and_wazo_provd_ban_without_sip() {
    let logs = tempfile::tempdir().unwrap();
    let directory = logs.path().to_owned();
    let world = World::new(|config| config.other_logs = Some(directory)).unwrap();
    let append = |file: &str, line: &str| {
        let path = logs.path().join(file);
        let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
        writeln!(log, "{line}").unwrap();
    };
    let (ssh, provd) = (ATTACKERS[1], ATTACKERS[2]);
    for port in 0..5 {
        append(
            "auth.log",
            &format!("Nov 22 09:43:06 pbx sshd[1]: Invalid user x from {ssh} port 502{port}"),
        );
    }
    for _request in 0..10 {
        let text = "[2026-08-07 12:34:56,123] Sensitive file requested from";
        append("wazo-provd.log", &format!("{text} {provd}: 001565aabbcc.cfg"));
    }
    let jail = |address: IpAddr| {
        let bans = world.ringfence.bans().unwrap();
        bans.into_iter().find(|ban| ban.address() == Some(address)).and_then(|ban| ban.jail)
    };
    assert!(until(2 * SOON, || jail(ssh).as_deref() == Some("sshd")), "{:?}", jail(ssh));
    assert!(until(SOON, || jail(provd).as_deref() == Some("wazo-provd")), "{:?}", jail(provd));
    // wazo-provd's log is rotated by copying and truncating it.
    fs::write(logs.path().join("wazo-provd.log"), "").unwrap();
    thread::sleep(Duration::from_secs(2));
    append(
        "wazo-provd.log",
        "[2026-08-07 12:34:56,123] Sensitive file requested from 192.0.2.99: a",
    );
    assert!(until(SOON, || failures(&world, "wazo-provd") == 11));
    world.end().unwrap();
}

/// The `security` log, in either form, reports each attempt like AMI and the NOTICE log, and it counts
/// once.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn the_security_log_tells_what_ami_does_and_counts_once() {
    const GUESSES: u32 = 40;
    for form in [LogForm::Plain, LogForm::Json] {
        let options = Options { security_log: Some(form), ..with_ami() };
        let world = World::with(&options, |config| {
            config.maxretry = GUESSES + 1;
            (config.register_rate, config.register_burst) = (10_000, 10_000);
        })
        .unwrap();
        wait_for_ami(&world);
        let source = ATTACKERS[0];
        let mut guesser = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();
        let uri = format!("<sip:1001@{PBX}>");
        for number in 0..GUESSES {
            guesser.guess_as(&uri, &format!("{form:?}-{number}")).unwrap();
        }
        for name in ["asterisk-security", "asterisk-ami", "asterisk-notice"] {
            let all = until(2 * SOON, || failures(&world, name) == u64::from(GUESSES));
            let log = fs::read(world.asterisk.security_log()).unwrap();
            let log = String::from_utf8_lossy(&log);
            assert!(all, "{form:?}: {}\n{log}", world.source(name).unwrap());
        }
        assert!(!world.is_banned(source).unwrap(), "{form:?}: some counted twice");
        // One more failure is too many; those that the three sources reported have counted.
        guesser.guess_as(&uri, "the last").unwrap();
        assert!(until(SOON, || world.is_banned(source).unwrap()), "{form:?}");
        world.end().unwrap();
    }
}

//! The command line against a running daemon: the commands of an administrator, and their error messages.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::net::{IpAddr, UdpSocket};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;
use ringfence_tests::child::{self, Finished, OnSignal};
use ringfence_tests::site::Site;
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, PBX, PBX6, SIP_PORT, until};
use ringfence_tests::{ringfence, scratch};
use serde_json::{Value, json};

const TRUSTED: IpAddr = ATTACKERS[4];

fn site() -> Site {
    Site::new(&[TRUSTED.to_string()]).unwrap()
}

const ALL: [bool; 4] = [true; 4];
const NOTHING: [bool; 4] = [false; 4];
const ALL_BUT_SIP: [bool; 4] = [false, false, true, true];

fn fails(said: &Finished, words: &[&str]) {
    assert_eq!((said.status.code(), said.stdout.as_str()), (Some(1), ""), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    for word in words {
        assert!(said.stderr.contains(word), "{said:?} does not say {word:?}");
    }
}

fn ringfence(line: &str) -> Finished {
    let mut command = Command::new(ringfence::built().unwrap());
    command.args(line.split_whitespace()).env_remove("RINGFENCE_SOCKET");
    child::finish(line, &mut command, Duration::from_secs(10), OnSignal::Stop).unwrap()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn manual_bans_close_what_they_say() {
    let site = site();
    let [sip, all, other, ..] = ATTACKERS;
    assert_eq!(site.reaches(sip).unwrap(), ALL);
    site.done(&format!("ban {sip} --scope sip --for 10m --reason nuisance")).unwrap();
    site.done(&format!("ban {all} --forever")).unwrap();
    assert_eq!(site.reaches(sip).unwrap(), ALL_BUT_SIP);
    assert_eq!(site.reaches(all).unwrap(), NOTHING);
    assert_eq!(site.reaches(other).unwrap(), ALL);

    let bans = site.bans("bans").unwrap();
    let of = |address: IpAddr| {
        bans.iter().find(|ban| ban["network"] == address.to_string()).unwrap().clone()
    };
    assert_eq!(
        (bans.len(), &of(sip)["scope"], &of(all)["scope"]),
        (2, &json!("sip"), &json!("all"))
    );
    assert_eq!((&of(sip)["reason"], &of(sip)["jail"]), (&json!("nuisance"), &json!("manual")));
    assert_eq!((of(sip)["until"].is_string(), &of(all)["until"]), (true, &Value::Null));
    assert!(of(sip)["packets"].as_u64() > Some(0), "{bans:?}");
    assert_eq!(site.ringfence.why(all).unwrap()["dropped"], true);

    // The latest ban of an address replaces the earlier one.
    site.done(&format!("ban {all} --scope sip --for 2s")).unwrap();
    assert_eq!(site.reaches(all).unwrap(), ALL_BUT_SIP);
    assert!(
        until(Duration::from_secs(4), || site.bans("bans").unwrap().len() == 1),
        "{:?}",
        site.bans("bans").unwrap()
    );
    assert_eq!(site.reaches(all).unwrap(), ALL);
    site.done(&format!("unban {sip}")).unwrap();
    assert_eq!(site.reaches(sip).unwrap(), ALL);

    // An administrator who is logged in over ssh cannot lock themselves out by mistake.
    let here = |arguments: &[&str]| {
        let mut command = Command::new(ringfence::built().unwrap());
        command.arg("-c").arg(site.ringfence.config_file()).args(["ban", "192.0.2.64/28"]);
        command.args(arguments).env_remove("RINGFENCE_SOCKET");
        command.env("SSH_CONNECTION", format!("{other} 50022 {PBX} 22"));
        child::finish("ban", &mut command, Duration::from_secs(10), OnSignal::Stop).unwrap()
    };
    fails(&here(&[]), &[&other.to_string(), "--force"]);
    assert!(site.bans("bans").unwrap().is_empty(), "{:?}", site.bans("bans").unwrap());
    here(&["--except", &other.to_string()]).success("ban --except").unwrap();
    here(&["--force"]).success("ban --force").unwrap();
    assert_eq!(site.bans("bans").unwrap().len(), 1);
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn networks_and_ipv6_are_banned_and_lifted() {
    let site = site();
    let [six, seven] = ATTACKERS6;
    // The two hosts now know each other's link addresses, and need not ask from a banned address.
    assert_eq!((site.reaches(six).unwrap(), site.reaches(seven).unwrap()), (ALL, ALL));
    site.done(&format!("ban {six}")).unwrap();
    assert_eq!((site.reaches(six).unwrap(), site.reaches(seven).unwrap()), (NOTHING, ALL));
    // It contains the PBX's own address, which still works.
    site.done("ban 2001:db8::/64 --scope sip").unwrap();
    assert_eq!((site.reaches(six).unwrap(), site.reaches(seven).unwrap()), (NOTHING, ALL_BUT_SIP));
    site.done("ban 192.0.2.64/29").unwrap();
    assert_eq!(
        (site.reaches(ATTACKERS[0]).unwrap(), site.reaches(ATTACKERS[3]).unwrap()),
        (NOTHING, NOTHING)
    );
    let why = site.ringfence.why(ATTACKERS[0]).unwrap();
    assert_eq!((&why["dropped"], &why["network"]), (&json!(true), &json!("192.0.2.64/29")));
    site.done(&format!("ban 192.0.2.64/29 --except {}", ATTACKERS[3])).unwrap();
    assert_eq!(
        (site.reaches(ATTACKERS[0]).unwrap(), site.reaches(ATTACKERS[3]).unwrap()),
        (NOTHING, ALL)
    );
    let bans = site.bans("bans").unwrap();
    let networks: Vec<&str> = bans.iter().filter_map(|ban| ban["network"].as_str()).collect();
    for network in ["2001:db8::66", "2001:db8::/64", "192.0.2.64/29"] {
        assert!(networks.contains(&network), "{networks:?}");
    }
    assert!(bans.iter().all(|ban| ban["packets"].as_u64() > Some(0)), "{bans:?}");

    // Trust takes precedence over a ban of a network around it.
    assert_eq!(site.reaches(TRUSTED).unwrap(), ALL);
    let why = site.ringfence.why(TRUSTED).unwrap();
    assert_eq!((&why["dropped"], &why["trusted"]), (&json!(false), &json!(true)), "{why}");

    fails(&site.run(&format!("unban {}", ATTACKERS[0])).unwrap(), &["192.0.2.64/29"]);
    site.done("unban 192.0.2.64/29").unwrap();
    assert_eq!(site.reaches(ATTACKERS[0]).unwrap(), ALL);
    site.done("unban --jail asterisk-wazo").unwrap();
    assert_eq!(site.bans("bans").unwrap().len(), 2);
    site.done("unban --jail manual").unwrap();
    assert_eq!(
        (
            site.bans("bans").unwrap().len(),
            site.reaches(six).unwrap(),
            site.reaches(seven).unwrap()
        ),
        (0, ALL, ALL)
    );
    site.done("ban 2001:db8::/64").unwrap();
    site.done(&format!("ban {}", ATTACKERS[0])).unwrap();
    assert!(site.done("unban --all").unwrap().contains('2'));
    assert_eq!((site.reaches(seven).unwrap(), site.reaches(ATTACKERS[0]).unwrap()), (ALL, ALL));
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn only_trusted_sources_are_over_a_limit_in_vain() {
    const REGISTERS: u64 = 300;
    let site = site();
    for source in [TRUSTED, ATTACKERS[0]] {
        let socket = site.hosts.attacker.run_in(|| Ok(UdpSocket::bind((source, 0))?)).unwrap();
        socket.connect((PBX, SIP_PORT)).unwrap();
        socket.set_nonblocking(true).unwrap();
        for _register in 0..REGISTERS {
            socket.send(b"REGISTER sip:192.0.2.10 SIP/2.0\r\nCSeq: 1 REGISTER\r\n\r\n").unwrap();
        }
    }
    let status = site.ringfence.status().unwrap();
    let packets = |reason: &str| status.reasons.get(reason).map_or(0, |reason| reason.packets);
    let (limited, trusted) = (packets("register-limit"), packets("trusted"));
    // A burst of 50 each, and ten a second meanwhile.
    assert!((200..=250).contains(&limited), "{status:?}");
    assert!((200..=250).contains(&trusted), "{status:?}");
    assert_eq!(limited, status.interfaces[0].dropped, "{status:?}");
    let over = || site.ringfence.why(ATTACKERS[0]).unwrap()["limit"]["reason"] == "register-limit";
    assert!(until(Duration::from_secs(1), over), "{}", site.ringfence.why(ATTACKERS[0]).unwrap());
    assert!(site.bans("bans").unwrap().is_empty(), "{:?}", site.bans("bans").unwrap());
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_cannot_be_done_is_said_in_one_line() {
    let site = site();
    for own in [PBX, PBX6, IpAddr::from([127, 0, 0, 1])] {
        fails(
            &site.run(&format!("ban {own}")).unwrap(),
            &[&own.to_string(), "own address", "never banned"],
        );
    }
    fails(
        &site.run(&format!("ban {TRUSTED} --scope sip")).unwrap(),
        &[&TRUSTED.to_string(), "trusted"],
    );
    fails(&site.run("ban 192.0.2.7 --scope nosuch").unwrap(), &["nosuch", "ssh"]);
    fails(
        &site.run("ban 192.0.2.0/24 --except 192.0.3.1").unwrap(),
        &["192.0.3.1", "192.0.2.0/24"],
    );
    fails(&site.run("maintenance on --for 25h").unwrap(), &["1d", "--for"]);
    fails(&site.run("bans --jail nosuch").unwrap(), &["nosuch", "asterisk-wazo", "manual"]);
    fails(&site.run("unban --jail nosuch").unwrap(), &["nosuch", "asterisk-wazo"]);
    fails(&site.run("unban 192.0.2.99").unwrap(), &["192.0.2.99", "not banned"]);
    assert!(site.bans("bans").unwrap().is_empty());
    for wrong in [
        "",
        "ban",
        "ban 999.0.2.1",
        "ban phone.example",
        "ban 192.0.2.7/24",
        "ban 192.0.2.7 --for soon",
        "ban 192.0.2.7 --for 1h --forever",
        "ban 192.0.2.7 --except phone.example",
        "maintenance",
        "maintenance on --for soon",
        "unban",
        "unban 192.0.2.7 --all",
        "why nobody",
        "run --mode fast",
        "nosuch",
        "status --nosuch",
    ] {
        let said = site.run(wrong).unwrap();
        assert_eq!(said.status.code(), Some(2), "{wrong}: {said:?}");
        assert!(!said.stderr.is_empty() && said.stdout.is_empty(), "{wrong}: {said:?}");
    }
    assert!(site.bans("bans").unwrap().is_empty());
    site.end().unwrap();
}

#[test]
#[ignore = "requires the ringfence binary"]
fn without_a_daemon_commands_say_so() {
    for command in ["status", "bans", "jails", "why 192.0.2.1", "ban 192.0.2.1", "unban --all"] {
        let said = ringfence(&format!("--socket /nonexistent/control.sock {command}"));
        fails(&said, &["no daemon", "/nonexistent/control.sock", "ringfence run"]);
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn monitoring_gets_a_line_and_an_exit_status() {
    let said = ringfence("--socket /nonexistent/control.sock status --check");
    assert_eq!((said.status.code(), said.stdout.lines().count()), (Some(2), 1), "{said:?}");
    assert!(said.stdout.starts_with("RINGFENCE CRITICAL: no daemon answers"), "{said:?}");
    let site = site();
    // No log of Asterisk is read.
    let said = site.run("status --check").unwrap();
    assert_eq!((said.status.code(), said.stdout.lines().count()), (Some(2), 1), "{said:?}");
    // Another test may run an Asterisk, of which it complains too.
    assert!(said.stdout.starts_with("RINGFENCE CRITICAL: "), "{said:?}");
    assert!(said.stdout.contains("asterisk-notice is not read"), "{said:?}");
    let said = site.run("status --check --json").unwrap();
    let value: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!((said.status.code(), &value["level"]), (Some(2), &Value::from("critical")));
    site.end().unwrap();
}

/// Commands that lift restrictions still work if the configuration is broken.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_wrong_configuration_keeps_nobody_from_lifting_bans() {
    let site = site();
    let more = site.ringfence.config_file().with_file_name("conf.d");
    fs::write(more.join("typo.yml"), "trustd: 1\n").unwrap();
    fs::write(more.join("other.yaml"), "").unwrap();
    let here = |line: &str| {
        let mut command = Command::new(ringfence::built().unwrap());
        command.arg("-c").arg(site.ringfence.config_file()).args(line.split_whitespace());
        command.env_remove("RINGFENCE_SOCKET").env("SUDO_USER", "alice");
        child::finish(line, &mut command, Duration::from_secs(10), OnSignal::Stop).unwrap()
    };
    let banned = ATTACKERS[0];
    for line in [
        "status",
        &format!("ban {banned} --reason abuse"),
        &format!("why {banned}"),
        "bans",
        "maintenance off",
        &format!("unban {banned}"),
    ] {
        let said = here(line).success(line).unwrap();
        assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
        assert!(said.stderr.contains("typo.yml:1:1: unknown key `trustd`"), "{said:?}");
    }
    // This is not even YAML.
    let config = fs::read_to_string(site.ringfence.config_file()).unwrap();
    fs::write(site.ringfence.config_file(), format!("jails: {{sshd: [\n{config}")).unwrap();
    here("status").success("status").unwrap();
    fs::write(site.ringfence.config_file(), config).unwrap();
    let doctor = here("doctor");
    assert!(doctor.stdout.contains("unknown key `trustd`"), "{doctor:?}");
    assert!(doctor.stdout.contains("other.yaml is not read"), "{doctor:?}");
    fails(&here("check-config"), &["trustd"]);
    // The author, the duration and the reason.
    let log = site.ringfence.log();
    assert!(
        log.contains(&format!("alice (sudo, root) banned {banned} for 1h, scope all: abuse")),
        "{log}"
    );
    assert!(log.contains(&format!("alice (sudo, root) lifted 1 ban: {banned}")), "{log}");
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn signals_of_other_daemons_end_nothing() {
    let mut site = site();
    for (signal, line) in [
        (Signal::SIGHUP, "SIGHUP: the configuration has not changed"),
        (Signal::SIGUSR1, "SIGUSR1 is ignored"),
        (Signal::SIGUSR2, "SIGUSR2 is ignored"),
    ] {
        site.ringfence.signal(signal).unwrap();
        assert!(until(Duration::from_secs(2), || site.ringfence.log().contains(line)), "{line}");
        site.ringfence.check().unwrap();
        site.done("status").unwrap();
    }
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, setpriv"]
fn who_is_not_root_is_told_what_to_type() {
    let site = site();
    for line in ["status", "unban --all", "doctor"] {
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]);
        command
            .arg(ringfence::built().unwrap())
            .arg("--socket")
            .arg(site.ringfence.client().socket());
        command.args(line.split_whitespace());
        let said =
            child::finish(line, &mut command, Duration::from_secs(10), OnSignal::Stop).unwrap();
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        for word in ["this needs root: `sudo ", line] {
            assert!(said.stderr.contains(word), "{said:?}");
        }
    }
    site.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_programs_read_is_one_document() {
    let site = site();
    let banned = ATTACKERS[0];
    site.done(&format!("ban {banned}")).unwrap();
    let bans = site.bans("bans").unwrap();
    let until = bans[0]["until"].as_str().unwrap();
    assert!(until.len() == "2026-11-28T19:47:06Z".len() && until.ends_with('Z'), "{until}");
    let json = |said: &Finished| -> Value { serde_json::from_str(&said.stdout).unwrap() };
    let said = site.run(&format!("unban {banned} --json")).unwrap();
    assert_eq!((said.status.code(), &json(&said)["lifted"]), (Some(0), &json!(1)), "{said:?}");
    let said = site.run(&format!("unban {banned} --json")).unwrap();
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(json(&said)["error"].as_str().unwrap().contains("not banned"), "{said:?}");
    let nobody = ringfence("--socket /nonexistent/control.sock status --json");
    assert!(json(&nobody)["error"].as_str().unwrap().contains("no daemon"), "{nobody:?}");
    for line in
        [format!("ban {banned} --forever"), "ban 2001:db8:1234:5678:9abc:def0:1234:5678".to_owned()]
    {
        site.done(&line).unwrap();
    }
    for line in ["bans", "status", "jails"] {
        let text = site.done(line).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }
    site.end().unwrap();
}

#[test]
#[ignore = "requires the ringfence binary"]
fn the_journal_gets_a_priority_and_no_second_time() {
    use std::os::unix::fs::MetadataExt as _;
    let directory = scratch::directory("cli").unwrap();
    let log = directory.path().join("log");
    let run = |is_journal: bool| {
        let file = fs::File::create(&log).unwrap();
        let own = file.metadata().unwrap();
        let mut command = Command::new(ringfence::built().unwrap());
        command.arg("-c").arg(directory.path().join("config.yml")).args(["run", "-i", "nosuch"]);
        command.env("RINGFENCE_LOG", "garbage").stderr(file);
        if is_journal {
            command.env("JOURNAL_STREAM", format!("{}:{}", own.dev(), own.ino()));
        }
        assert_eq!(command.status().unwrap().code(), Some(1));
        fs::read_to_string(&log).unwrap()
    };
    fs::write(directory.path().join("config.yml"), "").unwrap();
    let said = run(true);
    let lines: Vec<&str> = said.lines().collect();
    assert!(lines[0].starts_with("<4>RINGFENCE_LOG: `garbage` is not a level"), "{said}");
    assert!(lines[1].starts_with("<3>ringfence: there is no interface `nosuch`"), "{said}");
    let said = run(false);
    assert!(said.contains(" WARN ") && !said.contains('<'), "{said}");
}

#[test]
#[ignore = "requires the ringfence binary"]
fn files_that_are_wrong_are_named() {
    let directory = scratch::directory("cli").unwrap();
    let file = directory.path().join("config.yml");
    let check = |text: &str| {
        fs::write(&file, text).unwrap();
        ringfence(&format!("-c {} check-config", file.display()))
    };
    fails(
        &check("interfaces: [eth0]\njails:\n  asterisk-wazo: {maxretries: 5}\n"),
        &["config.yml:3", "maxretries", "maxretry"],
    );
    let said = check("jails: {asterisk-wazo: {maxretry: 7}}\n").success("check-config").unwrap();
    assert!(said.stdout.contains("maxretry: 7"), "{said:?}");
    assert!(!said.stdout.contains("default"), "{said:?}");
    fails(&check("paths: {bpffs: /tmp/pins}\n"), &["/tmp/pins", "paths.bpffs"]);
    let nosuch = directory.path().join("nosuch.yml");
    fails(&ringfence(&format!("-c {} check-config", nosuch.display())), &["nosuch.yml"]);
    fails(&ringfence("test-log asterisk-wazo /nonexistent/log"), &["/nonexistent/log"]);
    fails(&ringfence("test-log nosuch /dev/null"), &["nosuch", "asterisk-wazo"]);
}

//! Ringfence notices that failures are not recognised: a level that is off, a message that has changed.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use ringfence_tests::asterisk::Options;
use ringfence_tests::attack::Method;
use ringfence_tests::world::{ATTACKERS, World, until};
use serde_json::Value;

/// The time limit for a sign; the log looks for one every few seconds.
const SOON: Duration = Duration::from_secs(25);

fn status(world: &World) -> Value {
    world.ringfence.client().ask(&["status"]).unwrap()
}

/// The findings of `status` about a source, by kind.
fn found(world: &World, name: &str) -> Vec<String> {
    let status = status(world);
    let findings = status["hearing"].as_array().unwrap().iter();
    let of = findings.filter(|finding| finding["source"] == name);
    of.map(|finding| finding["kind"].as_str().unwrap().to_owned()).collect()
}

fn times_said(world: &World, text: &str) -> usize {
    world.ringfence.log().matches(text).count()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_notice_log_that_misses_what_ami_tells_is_found() {
    let options = Options { ami_secret: Some("tG5w-8Hqn-Zr3c".to_owned()), ..Options::default() };
    let mut world = World::with(&options, |config| config.maxretry = 10_000).unwrap();
    let listens = || world.source("asterisk-ami").unwrap()["state"] == "ok";
    assert!(until(Duration::from_secs(10), listens));
    let guess = || {
        let second = Duration::from_secs(1);
        let attack = world.attack(Method::Guess, ATTACKERS[0], 20, second).unwrap();
        let heard = world.source("asterisk-ami").unwrap()["failures"].as_u64().unwrap();
        let all =
            || world.source("asterisk-ami").unwrap()["failures"].as_u64().unwrap() >= heard + 15;
        assert!(until(SOON, all), "{}", world.source("asterisk-ami").unwrap());
        drop(attack);
    };
    guess();
    assert_eq!(status(&world)["hearing"], Value::Array(Vec::new()));
    let rules = world.source("asterisk-notice").unwrap()["rules"].clone();
    let hits = |rules: &Value| {
        let rule = rules.as_array().unwrap().iter().find(|r| r["name"] == "failed-to-authenticate");
        rule.unwrap()["hits"].as_u64().unwrap()
    };
    assert!(hits(&rules) >= 15, "{rules}");

    // The level is switched off, as an upgrade or an administrator may do.
    let etc = world.asterisk.log_dir().parent().unwrap().join("etc/logger.conf");
    let with = fs::read_to_string(&etc).unwrap();
    fs::write(&etc, with.replace("fail2ban => notice", "fail2ban => error")).unwrap();
    world.asterisk.cli("logger reload").unwrap();
    guess();
    assert!(
        until(SOON, || found(&world, "asterisk-notice") == ["missed-failures"]),
        "{}",
        status(&world)
    );
    assert!(until(SOON, || times_said(&world, "nothing has come from") == 1));
    let doctor = world.ringfence.client().run(&["doctor"], false).unwrap();
    assert!(doctor.stdout.contains("other sources have reported"), "{doctor:?}");

    fs::write(&etc, with).unwrap();
    world.asterisk.cli("logger reload").unwrap();
    guess();
    assert!(until(SOON, || found(&world, "asterisk-notice").is_empty()), "{}", status(&world));
    assert!(
        until(SOON, || times_said(&world, "it reports what the other sources report again") == 1)
    );
    assert_eq!(times_said(&world, "nothing has come from"), 1);

    let before = hits(&world.source("asterisk-notice").unwrap()["rules"]);
    world.ringfence.stop().unwrap();
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    assert!(hits(&world.source("asterisk-notice").unwrap()["rules"]) >= before);
    world.end().unwrap();
}

/// The AMI user exists and receives events, but a filter withholds those about failures.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn ami_that_misses_what_the_notice_log_tells_is_found() {
    let options = Options { ami_secret: Some("tG5w-8Hqn-Zr3c".to_owned()), ..Options::default() };
    let world = World::with(&options, |config| config.maxretry = 10_000).unwrap();
    let listens = || world.source("asterisk-ami").unwrap()["state"] == "ok";
    assert!(until(Duration::from_secs(10), listens));
    let etc = world.asterisk.log_dir().parent().unwrap().join("etc");
    let mut user =
        OpenOptions::new().append(true).open(etc.join("manager.d-ringfence.conf")).unwrap();
    for event in ["ChallengeResponseFailed", "InvalidAccountID"] {
        writeln!(user, "eventfilter = !Event: {event}").unwrap();
    }
    world.asterisk.cli("manager reload").unwrap();
    // The filters are those that the user had at login.
    let connected = world.asterisk.cli("manager show connected").unwrap();
    let session =
        connected.lines().find(|line| line.trim_start().starts_with("ringfence")).unwrap();
    let descriptor = session.split_whitespace().nth(4).unwrap();
    world.asterisk.cli(&format!("manager kick session {descriptor}")).unwrap();
    assert!(until(Duration::from_secs(10), || world.source("asterisk-ami").unwrap()["state"]
        == "failed"));
    assert!(until(Duration::from_secs(10), listens), "{}", world.source("asterisk-ami").unwrap());

    let second = Duration::from_secs(1);
    let attack = world.attack(Method::Guess, ATTACKERS[0], 20, second).unwrap();
    let told = || world.source("asterisk-notice").unwrap()["failures"].as_u64().unwrap() >= 15;
    assert!(until(SOON, told), "{}", world.source("asterisk-notice").unwrap());
    drop(attack);
    assert!(
        until(SOON, || found(&world, "asterisk-ami") == ["missed-failures"]),
        "{}",
        status(&world)
    );
    let arguments = ["doctor", "--asterisk-config", etc.to_str().unwrap()];
    let doctor = world.ringfence.client().run(&arguments, false).unwrap();
    assert!(doctor.stdout.contains("an `eventfilter` withholds events from"), "{doctor:?}");
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn lines_in_other_words_are_told_with_a_sample() {
    let world = World::new(|_default| ()).unwrap();
    let notice = world.asterisk.notice_log();
    assert!(until(SOON, || world.source("asterisk-notice").unwrap()["state"] == "ok"));
    let mut log = OpenOptions::new().append(true).open(notice).unwrap();
    for port in 0..12 {
        let line =
            "[2026-11-22 09:32:21.1233] NOTICE[99] res_pjsip/pjsip_distributor.c: Attempt of";
        writeln!(log, "{line} \x1b[2J'192.0.2.66:{port}' was refused: wrong password").unwrap();
    }
    assert!(until(SOON, || found(&world, "asterisk-notice") == ["unparsed"]), "{}", status(&world));
    let unparsed = world.source("asterisk-notice").unwrap()["unparsed"].clone();
    assert_eq!((&unparsed["lines"], &unparsed["samples"][0]["lines"]), (&12.into(), &12.into()));
    let sample = unparsed["samples"][0]["line"].as_str().unwrap();
    assert!(sample.contains("192.0.2.66") && !sample.contains('\x1b'), "{sample}");
    assert!(until(SOON, || times_said(&world, "match no rule; the last such") == 1));
    world.end().unwrap();
}

/// An Asterisk that is not set up for Ringfence: `doctor --fix` installs the files, and AMI reports.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn doctor_has_a_real_asterisk_tell_its_security_events() {
    let secret = "not-this-one".to_owned();
    let options = Options { ami_secret: Some(secret), ..Options::default() };
    let mut outside = None;
    let world = World::with(&options, |config| outside.clone_from(&config.ami_secret)).unwrap();
    let secret = outside.unwrap();
    let etc = secret.parent().unwrap();
    // The state of a host on which the AMI user is not set up yet.
    fs::remove_file(&secret).unwrap();
    fs::remove_file(etc.join("manager.d-ringfence.conf")).unwrap();
    let manager = fs::read_to_string(etc.join("manager.conf")).unwrap();
    fs::write(etc.join("manager.conf"), manager.replace("#include manager.d-ringfence.conf", ""))
        .unwrap();
    world.asterisk.cli("manager reload").unwrap();
    let doctor = |arguments: &[&str]| {
        let mut command = Command::new(ringfence_tests::ringfence::built().unwrap());
        command.arg("-c").arg(world.ringfence.config_file()).arg("doctor").args(arguments);
        command.arg("--asterisk-config").arg(etc);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(b"y\ny\ny\n").unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (status, said) = doctor(&[]);
    assert_eq!(status, Some(1), "{said}");
    for expected in ["has no user `ringfence`", "does not include manager.d/", "with its secret"] {
        assert!(said.contains(expected), "{said}");
    }
    let (_, said) = doctor(&["--fix"]);
    assert!(said.contains("now run: asterisk -rx 'manager reload'"), "{said}");
    assert!(etc.join("manager.conf.before-ringfence").exists());
    // Asterisk sees paths inside its root, the doctor those of the host.
    let user = etc.join("manager.d/ringfence.conf");
    let text = fs::read_to_string(&user).unwrap();
    let inside = world.asterisk.inside(&secret).display().to_string();
    fs::write(&user, text.replace(&secret.display().to_string(), &inside)).unwrap();
    world.asterisk.cli("manager reload").unwrap();
    let heard = || world.source("asterisk-ami").unwrap()["state"] == "ok";
    assert!(until(Duration::from_secs(40), heard), "{}", world.source("asterisk-ami").unwrap());
    let (_, said) = doctor(&["--json"]);
    let findings: Value = serde_json::from_str(&said).unwrap();
    let of_ami = findings["findings"].as_array().unwrap().iter();
    let of_ami: Vec<&Value> =
        of_ami.filter(|finding| finding["subject"] == "asterisk-ami").collect();
    assert!(of_ami.is_empty(), "{of_ami:?}");
    world.end().unwrap();
}

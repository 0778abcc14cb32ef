//! An administrator is never shut out permanently: the emergency switch, and the first start on a host.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::path::Path;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, SIP_PORT, nothing_is_left, udp_reaches, until,
};
use serde_json::Value;

/// The time limit for noticing the file; the daemon looks every five seconds.
const SOON: Duration = Duration::from_secs(20);

/// The time limit for a confirmation that is awaited for a minute.
const LAPSES: Duration = Duration::from_mins(2);

fn config() -> Config {
    Config::new(Path::new("/nonexistent/fail2ban"))
}

fn start(hosts: &Hosts, config: &Config) -> Ringfence {
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), config).unwrap()
}

fn state(ringfence: &Ringfence) -> String {
    let status: Value = ringfence.client().ask(&["status"]).unwrap();
    status["enforcement"]["state"].as_str().unwrap().to_owned()
}

/// The manual changes in the history with their authors, the newest first.
fn changes(ringfence: &Ringfence) -> Vec<(String, String)> {
    let history: Value = ringfence.client().ask(&["history"]).unwrap();
    let rows = history["history"].as_array().unwrap().iter();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let changes = rows.filter(|row| row["event"] == "change");
    changes.map(|row| (text(&row["by"]), text(&row["action"]))).collect()
}

/// Runs a command that takes the daemon's paths from its configuration.
fn run(ringfence: &Ringfence, arguments: &[&str]) -> String {
    let file = ringfence.config_file().to_str().unwrap();
    let arguments = [&["-c", file], arguments].concat();
    ringfence.client().run(&arguments, false).unwrap().success(arguments[2]).unwrap().stdout
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_emergency_switch_needs_no_daemon() {
    let hosts = Hosts::new().unwrap();
    let _echo = Echo::start(&hosts.pbx).unwrap();
    let mut ringfence = start(&hosts, &config());
    let reaches = || udp_reaches(&hosts.attacker, ATTACKERS[0], SIP_PORT).unwrap();
    let banned = ATTACKERS[0].to_string();
    run(&ringfence, &["ban", &banned]);
    assert!(!reaches());

    // It works at once, although the daemon hangs.
    let daemon = Pid::from_raw(i32::try_from(ringfence.id()).unwrap());
    kill(daemon, Signal::SIGSTOP).unwrap();
    run(&ringfence, &["panic", "--reason", "test\n"]);
    let passes = reaches();
    kill(daemon, Signal::SIGCONT).unwrap();
    assert!(passes);
    let file = ringfence.config_file().with_file_name("disabled");
    let note = fs::read_to_string(&file).unwrap();
    assert!(note.starts_with("disabled by ") && note.ends_with(": test\\n\n"), "{note:?}");
    assert!(until(SOON, || ringfence.log().contains("no packet is dropped")));
    assert_eq!(state(&ringfence), "disabled");
    let check = ringfence.client().run(&["status", "--check"], false).unwrap();
    assert_eq!(check.status.code(), Some(2), "{check:?}");

    // It survives a restart, and changes of the configuration in the kernel.
    run(&ringfence, &["maintenance", "on", "--for", "1m"]);
    assert!(reaches());
    ringfence.stop().unwrap();
    assert!(reaches());
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(reaches() && state(&ringfence) == "disabled");
    run(&ringfence, &["maintenance", "off"]);
    run(&ringfence, &["reload"]);
    assert!(reaches());

    // The file alone has the same effect.
    run(&ringfence, &["panic", "--off"]);
    assert!(!reaches() && !file.exists());
    assert!(until(SOON, || state(&ringfence) == "enforcing"));
    let noted = || changes(&ringfence).into_iter().map(|(_, action)| action).collect::<Vec<_>>();
    let ends = |noted: &[String]| noted.iter().filter(|it| it.starts_with("end the panic")).count();
    assert!(until(SOON, || ends(&noted()) == 1), "{:?}", noted());
    let ended = changes(&ringfence).into_iter().find(|(_, action)| action == "end the panic");
    assert!(ended.is_some_and(|(by, _)| by.starts_with("root")), "{:?}", changes(&ringfence));
    let panics = |noted: &[String]| {
        noted.iter().filter(|it| *it == "panic, no packet is dropped: test\\n").count()
    };
    assert_eq!(panics(&noted()), 1, "once, although the daemon was restarted: {:?}", noted());
    fs::write(&file, "").unwrap();
    assert!(until(SOON, reaches));
    fs::remove_file(&file).unwrap();
    assert!(until(SOON, || !reaches()));

    let last = || changes(&ringfence).first().map_or_else(String::new, |(_, it)| it.clone());
    assert!(until(SOON, || last().starts_with("end the panic by removing /")), "{}", last());

    // Neither a broken configuration nor a missing daemon prevents it.
    ringfence.stop().unwrap();
    let more = ringfence.config_file().with_file_name("conf.d").join("more.yml");
    fs::write(&more, "nonsense: [\n").unwrap();
    run(&ringfence, &["panic"]);
    assert!(reaches());
    run(&ringfence, &["panic", "--off"]);
    assert!(!reaches());
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_first_start_is_to_be_confirmed() {
    let hosts = Hosts::new().unwrap();
    let _echo = Echo::start(&hosts.pbx).unwrap();
    let more = "confirm: {within: 1m}\n".to_owned();
    let mut ringfence = start(&hosts, &Config { confirmation: None, more, ..config() });
    let reaches = || udp_reaches(&hosts.attacker, ATTACKERS[0], SIP_PORT).unwrap();
    run(&ringfence, &["ban", &ATTACKERS[0].to_string()]);
    assert!(!reaches());
    let confirmation = ringfence.config_file().with_file_name("state").join("confirmation");
    assert!(until(SOON, || state(&ringfence) == "unconfirmed"));
    assert!(until(SOON, || ringfence.log().contains("type `ringfence confirm` within 1m")));

    // It is too late, also for a daemon that is restarted.
    assert!(until(LAPSES, || state(&ringfence) == "lapsed"));
    assert!(reaches());
    let history: Value = ringfence.client().ask(&["history"]).unwrap();
    assert_eq!(history["history"][0]["event"], "lapsed", "{history}");
    ringfence.stop().unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(reaches() && state(&ringfence) == "lapsed");

    assert!(run(&ringfence, &["confirm"]).contains("confirmed"));
    assert!(!reaches() && state(&ringfence) == "enforcing");
    assert!(run(&ringfence, &["confirm"]).contains("nothing to confirm"));
    let confirms = |(_, action): &&(String, String)| action == "confirm the first start";
    assert_eq!(changes(&ringfence).iter().filter(confirms).count(), 1);
    ringfence.stop().unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(!reaches() && state(&ringfence) == "enforcing");

    // Without a daemon, the next start reads it.
    ringfence.stop().unwrap();
    fs::write(&confirmation, "awaited\n").unwrap();
    run(&ringfence, &["confirm"]);
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(!reaches() && state(&ringfence) == "enforcing");
    assert_eq!(changes(&ringfence).iter().filter(confirms).count(), 2, "{:?}", changes(&ringfence));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

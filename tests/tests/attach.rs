//! How `ringfence run` attaches to an interface, and how it explains in one line why it cannot.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use ringfence_tests::child::{self, Finished, OnSignal};
use ringfence_tests::foreign::{self, Foreign};
use ringfence_tests::netns::Netns;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, OTHER_PORT, SIP_PORT, nothing_is_left, udp_reaches,
};
use serde_json::Value;

fn config(mode: &str, interface: &str) -> Config {
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    mode.clone_into(&mut config.mode);
    config.interfaces = vec![interface.to_owned()];
    config
}

fn start(hosts: &Hosts, config: &Config) -> Ringfence {
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), config).unwrap()
}

/// Runs a daemon that must refuse to start; returns its single line of output, and checks that it left
/// nothing.
fn refused(hosts: &Hosts, config: &Config) -> String {
    let binary = ringfence::built().unwrap();
    let (said, left) = Ringfence::refused(&hosts.pbx, &binary, config).unwrap();
    assert!(left.is_empty(), "a daemon that did not start left {left:?}");
    one_line(&said)
}

fn one_line(said: &Finished) -> String {
    assert_eq!((said.status.code(), said.stdout.as_str()), (Some(1), ""), "{said:?}");
    assert_eq!(said.stderr.lines().count(), 1, "{said:?}");
    said.stderr.clone()
}

fn run(name: &str, command: &mut Command) -> Finished {
    child::finish(name, command, Duration::from_secs(20), OnSignal::Stop).unwrap()
}

fn ip(host: &Netns, line: &str) {
    run(line, host.command("ip").args(line.split_whitespace())).success(line).unwrap();
}

/// Checks that packets of a banned source are dropped, and those of another source are not.
fn filters(hosts: &Hosts, ringfence: &Ringfence) {
    let reaches = |place: usize| {
        [SIP_PORT, OTHER_PORT]
            .map(|port| udp_reaches(&hosts.attacker, ATTACKERS[place], port).unwrap())
    };
    let banned = ATTACKERS[0].to_string();
    assert_eq!(reaches(0), [true, true]);
    let run = |arguments: &[&str]| ringfence.client().run(arguments, false).unwrap();
    run(&["ban", &banned]).success("ban").unwrap();
    assert_eq!((reaches(0), reaches(1)), ([false, false], [true, true]));
    let status = ringfence.status().unwrap();
    assert_eq!(status.interfaces[0].dropped, status.reasons["banned"].packets, "{status:?}");
    assert!(status.reasons["banned"].packets >= 6, "{status:?}");
    run(&["unban", &banned]).success("unban").unwrap();
    assert_eq!(reaches(0), [true, true]);
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_interface_has_one_controller() {
    let hosts = Hosts::new().unwrap();
    let ringfence = start(&hosts, &config("native", "eth0"));
    let holder = format!("(process {})", ringfence.id());

    let mut same_pins = hosts.pbx.command(ringfence::built().unwrap());
    same_pins.arg("-c").arg(ringfence.config_file()).args(["run", "-i", "eth0"]);
    let said = one_line(&run("ringfence run", &mut same_pins));
    assert!(said.contains("in use") && said.contains(&holder), "{said} does not name {holder}");

    for mode in ["auto", "native", "generic"] {
        let said = refused(&hosts, &config(mode, "eth0"));
        assert!(said.contains("`eth0` already has"), "{said}");
        assert!(said.contains("`ringfence`") && said.contains(&holder), "{said}");
    }
    assert!(ringfence.status().unwrap().enforcing, "the one that was there is disturbed");
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_program_of_somebody_else_is_left_alone() {
    let hosts = Hosts::new().unwrap();
    let foreign = Foreign::attach(&hosts.pbx, "eth0").unwrap();
    for mode in ["auto", "native", "generic"] {
        let said = refused(&hosts, &config(mode, "eth0"));
        assert!(said.contains(&format!("`{}`", foreign::NAME)), "{mode}: {said}");
        assert!(said.contains("`eth0`"), "{mode}: {said}");
    }
    drop(foreign);
    drop(start(&hosts, &config("auto", "eth0")));
    drop(hosts);
    nothing_is_left().unwrap();
}

/// Without a control socket, no ban could be lifted.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_daemon_that_cannot_be_asked_takes_hold_of_nothing() {
    let hosts = Hosts::new().unwrap();
    let runtime = scratch::directory("runtime").unwrap();
    fs::create_dir_all(runtime.path().join("control.sock/in-the-way")).unwrap();
    let more = format!("paths: {{runtime: {}}}\n", runtime.path().display());
    let said = refused(&hosts, &Config { more, ..config("native", "eth0") });
    assert!(said.contains("control.sock"), "{said}");
    let link = run("ip", hosts.pbx.command("ip").args(["-d", "link", "show", "eth0"]));
    assert!(!link.stdout.contains("xdp"), "{link:?}");
    drop((runtime, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_interface_that_does_not_exist_is_named() {
    let hosts = Hosts::new().unwrap();
    let said = refused(&hosts, &config("auto", "eth9"));
    assert!(said.contains("no interface `eth9`"), "{said}");
    drop(hosts);
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn without_xdp_in_the_driver_there_is_the_generic_mode() {
    let hosts = Hosts::new().unwrap();
    // A bridge has no native XDP. The PBX's addresses move to it.
    for line in [
        "link add lan type bridge",
        "link set eth0 master lan",
        "addr flush dev eth0",
        "addr add 192.0.2.10/24 dev lan",
        "link set lan up",
    ] {
        ip(&hosts.pbx, line);
    }
    let echo = Echo::start(&hosts.pbx).unwrap();
    let said = refused(&hosts, &config("native", "lan"));
    assert!(said.contains("`lan` cannot run XDP in its driver"), "{said}");
    assert!(said.contains("generic"), "{said} does not say what to do");

    let mut ringfence = start(&hosts, &config("auto", "lan"));
    let log = ringfence.log();
    assert!(log.contains("attached to lan in generic mode"), "{log}");
    let status: Value = ringfence.client().ask(&["status"]).unwrap();
    assert_eq!(status["interfaces"][0]["mode"], "generic", "{status}");
    assert!(status["interfaces"][0]["fallback"].is_string(), "{status}");
    filters(&hosts, &ringfence);
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(
        ringfence.log().contains("replaced the program on lan in generic mode"),
        "{}",
        ringfence.log()
    );
    drop(ringfence);

    // The same if generic mode is configured, on an interface that supports native mode.
    ip(&hosts.pbx, "link del lan");
    ip(&hosts.pbx, "addr add 192.0.2.10/24 dev eth0");
    let ringfence = start(&hosts, &config("generic", "eth0"));
    assert_eq!(ringfence.status().unwrap().interfaces[0].mode, "generic");
    filters(&hosts, &ringfence);
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn several_interfaces_add_up() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    let mut config = config("auto", "eth0");
    config.interfaces.push("lo".to_owned());
    let mut ringfence = start(&hosts, &config);
    filters(&hosts, &ringfence);
    let local = hosts.pbx.run_in(|| Ok(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?)).unwrap();
    for _datagram in 0..10 {
        local.send_to(b"\r\n\r\n", (Ipv4Addr::LOCALHOST, SIP_PORT)).unwrap();
    }
    let status = ringfence.status().unwrap();
    status.adds_up().unwrap();
    let [eth0, lo] = &status.interfaces[..] else { panic!("{status:?}") };
    assert_eq!((eth0.name.as_str(), eth0.mode.as_str()), ("eth0", "native"));
    assert_eq!((lo.name.as_str(), lo.mode.as_str()), ("lo", "generic"));
    assert!(eth0.dropped > 0 && lo.dropped == 0 && lo.received >= 10, "{status:?}");
    // The host's traffic with itself.
    assert!(status.reasons["trusted"].packets >= 10, "{status:?}");

    ringfence.restart(&hosts.pbx).unwrap();
    let again = ringfence.status().unwrap();
    again.adds_up().unwrap();
    assert!(again.interfaces[1].received >= lo.received, "the counters began anew: {again:?}");
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

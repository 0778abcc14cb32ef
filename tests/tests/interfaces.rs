//! Interfaces that appear, disappear, are renamed or lose the program; hosts whose packets arrive
//! elsewhere. `status`, `why`, `doctor` and the log must report all of it.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::io::Write as _;
use std::net::{Ipv4Addr, UdpSocket};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use ringfence_tests::child::{self, Finished, OnSignal, Running};
use ringfence_tests::foreign::{self, Foreign};
use ringfence_tests::netns::Netns;
use ringfence_tests::old_kernel::OldKernel;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{
    ATTACKERS, Echo, Hosts, SIP_PORT, nothing_is_left, udp_reaches, until,
};
use ringfence_tests::{bpf, scratch};
use serde_json::Value;

/// The time limit for noticing a change; the host is checked every five seconds.
const SOON: Duration = Duration::from_secs(30);

fn config(interfaces: &[&str]) -> Config {
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    "auto".clone_into(&mut config.mode);
    config.interfaces = interfaces.iter().map(|name| (*name).to_owned()).collect();
    config
}

fn start(hosts: &Hosts, config: &Config) -> Ringfence {
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), config).unwrap()
}

fn run(name: &str, command: &mut Command) -> Finished {
    child::finish(name, command, Duration::from_secs(20), OnSignal::Stop).unwrap()
}

fn ip(host: &Netns, line: &str) {
    run(line, host.command("ip").args(line.split_whitespace())).success(line).unwrap();
}

fn tc(host: &Netns, line: &str) -> Finished {
    run(line, host.command("tc").args(line.split_whitespace()))
}

fn status(ringfence: &Ringfence) -> Value {
    ringfence.client().ask(&["status"]).unwrap()
}

/// The entry of an interface in `status`.
fn interface(ringfence: &Ringfence, name: &str) -> Value {
    let status = status(ringfence);
    let all = status["interfaces"].as_array().unwrap();
    all.iter().find(|one| one["name"] == name).cloned().unwrap_or_default()
}

fn text(ringfence: &Ringfence, command: &[&str]) -> String {
    ringfence.client().run(command, false).unwrap().success("ringfence").unwrap().stdout
}

/// The interfaces that receive packets that are not seen. The Asterisk of another test is ignored.
fn not_seen(ringfence: &Ringfence) -> Vec<String> {
    let status = status(ringfence);
    let all = status["exposure"].as_array().unwrap().iter();
    let subjects = all.map(|one| one["subject"].as_str().unwrap().to_owned());
    subjects.filter(|subject| subject != "asterisk").collect()
}

fn ban(ringfence: &Ringfence) {
    text(ringfence, &["ban", &ATTACKERS[0].to_string()]);
}

/// Whether packets of the banned source arrive.
fn gets_through(hosts: &Hosts) -> bool {
    udp_reaches(&hosts.attacker, ATTACKERS[0], SIP_PORT).unwrap()
}

fn xdp(hosts: &Hosts, interface: &str) -> String {
    let said = run("ip link", hosts.pbx.command("ip").args(["-d", "link", "show", interface]));
    said.success("ip link").unwrap().stdout
}

fn pin(ringfence: &Ringfence, kind: &str) -> PathBuf {
    let is = |path: &&PathBuf| path.file_name().unwrap().to_string_lossy().starts_with(kind);
    ringfence.pins().iter().find(is).unwrap().clone()
}

fn times_said(ringfence: &Ringfence, text: &str) -> usize {
    ringfence.log().matches(text).count()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_interface_without_the_program_is_unprotected_everywhere() {
    let hosts = Hosts::new().unwrap();
    let ringfence = start(&hosts, &config(&["eth0"]));
    ban(&ringfence);
    assert_eq!(interface(&ringfence, "eth0")["protected"], true);
    assert!(!text(&ringfence, &["status"]).contains("UNPROTECTED"));

    // It is removed, and returns with a foreign program.
    ip(&hosts.pbx, "link del eth0");
    ip(&hosts.pbx, "link add eth0 type veth peer name end0");
    let foreign = Foreign::attach(&hosts.pbx, "eth0").unwrap();
    assert!(until(SOON, || interface(&ringfence, "eth0")["protected"] == false));
    let is_named =
        || interface(&ringfence, "eth0")["why"].as_str().unwrap().contains(foreign::NAME);
    assert!(until(SOON, is_named), "{}", status(&ringfence));
    let said = text(&ringfence, &["status"]);
    assert!(said.contains("UNPROTECTED: eth0: ") && said.contains(foreign::NAME), "{said}");
    let why: Value = ringfence.client().ask(&["why", &ATTACKERS[0].to_string()]).unwrap();
    assert_eq!((&why["dropped"], &why["unprotected"][0]), (&Value::Bool(false), &"eth0".into()));
    let said = text(&ringfence, &["why", &ATTACKERS[0].to_string()]);
    assert!(
        said.contains("would be dropped") && said.contains("no interface is protected"),
        "{said}"
    );
    let doctor = ringfence.doctor(&hosts.pbx).unwrap();
    assert_eq!(doctor.status.code(), Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("eth0: UNPROTECTED: "), "{doctor:?}");

    drop(foreign);
    assert!(until(SOON, || interface(&ringfence, "eth0")["protected"] == true));
    assert!(until(SOON, || times_said(&ringfence, "attached to `eth0` in ") == 1));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn one_that_is_missing_is_waited_for() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    let mut ringfence = start(&hosts, &config(&["late0", "eth0"]));
    ban(&ringfence);
    assert!(!gets_through(&hosts), "what is there is not protected");
    let late = interface(&ringfence, "late0");
    assert_eq!(late["protected"], false, "{late}");
    assert!(late["why"].as_str().unwrap().contains("no interface `late0`"), "{late}");
    assert!(
        until(SOON, || times_said(&ringfence, "`late0` is unprotected") == 1),
        "{}",
        ringfence.log()
    );
    ip(&hosts.pbx, "link add late0 type veth peer name late1");
    let came = until(SOON, || interface(&ringfence, "late0")["protected"] == true);
    assert!(came, "{}", ringfence.log());
    assert!(
        until(SOON, || times_said(&ringfence, "attached to `late0` in native mode") == 1),
        "{}",
        ringfence.log()
    );
    assert!(
        until(SOON, || times_said(&ringfence, "`late0` is unprotected") == 1),
        "{}",
        ringfence.log()
    );

    // The same after a restart.
    ip(&hosts.pbx, "link del late0");
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(!gets_through(&hosts));
    assert_eq!(interface(&ringfence, "late0")["protected"], false);

    // A name is mistyped: the protected interfaces stay protected until it is corrected.
    ip(&hosts.pbx, "link add late0 type veth peer name late1");
    let names = ["eht0", "late0"].map(str::to_owned);
    ringfence.restart_with(&hosts.pbx, |config| config.interfaces = names.to_vec()).unwrap();
    assert!(!gets_through(&hosts));
    assert!(
        until(SOON, || times_said(&ringfence, "`eth0` is not among the interfaces, but keeps")
            == 1),
        "{}",
        ringfence.log()
    );
    let names = vec!["late0".to_owned()];
    ringfence.restart_with(&hosts.pbx, |config| config.interfaces = names).unwrap();
    assert!(
        until(SOON, || times_said(
            &ringfence,
            "detached the program from `eth0`, which is now unprotected"
        ) == 1),
        "{}",
        ringfence.log()
    );
    assert!(gets_through(&hosts));
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_interface_keeps_the_program_under_another_name() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    let mut ringfence = start(&hosts, &config(&["eth0"]));
    ban(&ringfence);
    let rename = |from: &str, to: &str| {
        ip(&hosts.pbx, &format!("link set {from} down"));
        ip(&hosts.pbx, &format!("link set {from} name {to}"));
        ip(&hosts.pbx, &format!("link set {to} up"));
    };
    rename("eth0", "wan.0");
    assert!(until(SOON, || times_said(&ringfence, "`eth0` is called `wan.0` now") == 1));
    assert_eq!(interface(&ringfence, "wan.0")["protected"], true);
    assert_eq!(times_said(&ringfence, "unprotected"), 0, "{}", ringfence.log());
    assert!(!gets_through(&hosts));
    // The configuration has the old name, then the new one, then an alternative one.
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(
        until(SOON, || times_said(&ringfence, "`eth0` has been renamed to") == 1),
        "{}",
        ringfence.log()
    );
    assert_eq!(
        times_said(&ringfence, "replaced the program on wan.0 in native mode"),
        1,
        "{}",
        ringfence.log()
    );
    ringfence.restart_with(&hosts.pbx, |c| c.interfaces = vec!["wan.0".to_owned()]).unwrap();
    assert_eq!(
        times_said(&ringfence, "replaced the program on wan.0 in native mode"),
        2,
        "{}",
        ringfence.log()
    );
    ip(&hosts.pbx, "link property add dev wan.0 altname uplink");
    ringfence.restart_with(&hosts.pbx, |c| c.interfaces = vec!["uplink".to_owned()]).unwrap();
    assert_eq!(
        times_said(&ringfence, "replaced the program on wan.0 in native mode"),
        3,
        "{}",
        ringfence.log()
    );
    assert!(!gets_through(&hosts));
    assert_eq!(interface(&ringfence, "wan.0")["learning"], true);
    ringfence.stop().unwrap();
    let detach = ringfence.detach().unwrap().success("detach").unwrap();
    assert!(detach.stdout.contains("wan.0"), "{detach:?}");
    assert!(ringfence.pins().is_empty());
    // The kernel detaches the program of a link that is gone a moment later.
    assert!(until(SOON, || !xdp(&hosts, "wan.0").contains("xdp")));
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_working_program_goes_only_for_one_that_works() {
    let hosts = Hosts::new().unwrap();
    let old = OldKernel::new().unwrap();
    // veth supports native XDP if it has as many queues as its peer uses for sending.
    ip(
        &hosts.pbx,
        "link add few0 numrxqueues 1 numtxqueues 1 type veth peer name few1 numtxqueues 4",
    );
    ip(&hosts.pbx, "link set few0 up");
    for preload in [None, Some(old.library())] {
        let mut auto = config(&["few0"]);
        auto.preload = preload;
        let mut ringfence = start(&hosts, &auto);
        let few0 = interface(&ringfence, "few0");
        assert_eq!(few0["mode"], "generic", "{few0}");
        let program = |hosts: &Hosts| {
            let said = xdp(hosts, "few0");
            (said.contains("xdpgeneric"), said.contains("prog/xdp"))
        };
        assert!(program(&hosts).0);
        let said = ringfence.refuses(&hosts.pbx, |config| "native".clone_into(&mut config.mode));
        let said = said.unwrap();
        assert_eq!(said.status.code(), Some(1), "{said:?}");
        assert!(said.stderr.contains("the program that was attached stays"), "{said:?}");
        assert!(program(&hosts).0, "native was refused, and what was there is gone");
        // The restart tries native mode again, and stays as it was.
        ringfence.restart_with(&hosts.pbx, |_same| ()).unwrap();
        assert_eq!(interface(&ringfence, "few0")["mode"], "generic");
        assert!(program(&hosts).0);
        drop(ringfence);
    }
    drop((old, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn native_comes_when_what_was_in_its_way_is_gone() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    let mut generic = config(&["eth0"]);
    "generic".clone_into(&mut generic.mode);
    let mut ringfence = start(&hosts, &generic);
    ban(&ringfence);
    ringfence.restart_with(&hosts.pbx, |c| "auto".clone_into(&mut c.mode)).unwrap();
    let eth0 = interface(&ringfence, "eth0");
    assert_eq!((&eth0["mode"], &eth0["fallback"]), (&"native".into(), &Value::Null));
    assert!(!gets_through(&hosts));
    // A program on an upper interface excludes one beneath it; the existing one stays.
    ringfence.restart_with(&hosts.pbx, |c| "generic".clone_into(&mut c.mode)).unwrap();
    ip(&hosts.pbx, "link add lan type bridge");
    ip(&hosts.pbx, "link set eth0 master lan");
    ringfence
        .restart_with(&hosts.pbx, |c| c.interfaces = vec!["eth0".to_owned(), "lan".to_owned()])
        .unwrap();
    ringfence.restart_with(&hosts.pbx, |c| "auto".clone_into(&mut c.mode)).unwrap();
    let eth0 = interface(&ringfence, "eth0");
    assert_eq!(eth0["protected"], true, "{eth0}");
    assert!(eth0["fallback"].as_str().unwrap().contains("`lan`"), "{eth0}");
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_is_forced_off_comes_back() {
    let hosts = Hosts::new().unwrap();
    let ringfence = start(&hosts, &config(&["eth0"]));
    bpf::force_off(&pin(&ringfence, "out-")).unwrap();
    let said = "`eth0` had lost the egress classifier";
    assert!(until(SOON, || times_said(&ringfence, said) == 1), "{}", ringfence.log());
    bpf::force_off(&pin(&ringfence, "link-")).unwrap();
    let said = "`eth0` had lost the program: attached it again";
    assert!(until(SOON, || times_said(&ringfence, said) == 1), "{}", ringfence.log());
    assert!(xdp(&hosts, "eth0").contains("xdp"));
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn before_tcx_the_qdisc_is_looked_after() {
    let hosts = Hosts::new().unwrap();
    let old = OldKernel::new().unwrap();
    let mut config = config(&["eth0"]);
    config.preload = Some(old.library());
    let mut ringfence = start(&hosts, &config);
    let filters = || tc(&hosts.pbx, "filter show dev eth0 egress").stdout;
    assert!(filters().contains("ringfence_out"), "{}", filters());
    tc(&hosts.pbx, "qdisc del dev eth0 clsact").success("tc").unwrap();
    let said = "`eth0` had lost the egress classifier";
    assert!(until(SOON, || times_said(&ringfence, said) == 1), "{}", ringfence.log());
    assert!(filters().contains("ringfence_out"), "{}", filters());

    // Another qdisc occupies the place.
    tc(&hosts.pbx, "qdisc del dev eth0 clsact").success("tc").unwrap();
    tc(&hosts.pbx, "qdisc add dev eth0 ingress").success("tc").unwrap();
    assert!(until(SOON, || interface(&ringfence, "eth0")["learning"] == false));
    let said = text(&ringfence, &["status"]);
    assert!(said.contains("NOT LEARNING: eth0: `eth0` has a qdisc `ingress`"), "{said}");
    let doctor = ringfence.doctor(&hosts.pbx).unwrap();
    assert!(doctor.stdout.contains("qdisc `ingress`"), "{doctor:?}");
    tc(&hosts.pbx, "qdisc del dev eth0 ingress").success("tc").unwrap();
    assert!(until(SOON, || interface(&ringfence, "eth0")["learning"] == true));
    assert!(
        until(SOON, || times_said(&ringfence, "known peers are learned on `eth0` again") == 1),
        "{}",
        ringfence.log()
    );

    // The qdisc that was created is removed unless another filter uses it.
    let qdisc = || tc(&hosts.pbx, "qdisc show dev eth0 clsact").stdout.contains("clsact");
    ringfence.restart(&hosts.pbx).unwrap();
    ringfence.stop().unwrap();
    assert!(qdisc());
    ringfence.detach().unwrap().success("detach").unwrap();
    assert!(!qdisc(), "the qdisc that was made is left");
    ringfence.restart(&hosts.pbx).unwrap();
    let theirs = "filter add dev eth0 ingress pref 9 matchall action pass";
    let can = tc(&hosts.pbx, theirs);
    ringfence.stop().unwrap();
    ringfence.detach().unwrap().success("detach").unwrap();
    assert_eq!(qdisc(), can.status.success(), "{can:?}");
    tc(&hosts.pbx, "qdisc replace dev eth0 clsact").success("tc").unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    ringfence.stop().unwrap();
    ringfence.detach().unwrap().success("detach").unwrap();
    assert!(qdisc(), "a qdisc that somebody made is gone");
    drop((ringfence, old, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_interface_without_ethernet_is_refused() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    ip(&hosts.pbx, "tuntap add tun0 mode tun");
    ip(&hosts.pbx, "link set tun0 up");
    ip(&hosts.pbx, "route add default via 192.0.2.1 dev eth0 metric 100");
    let binary = ringfence::built().unwrap();
    let (said, left) = Ringfence::refused(&hosts.pbx, &binary, &config(&["tun0"])).unwrap();
    assert!(said.stderr.contains("`tun0` (tun) has no Ethernet header"), "{said:?}");
    assert!(said.stderr.contains("name `eth0`"), "{said:?}");
    assert!(left.is_empty(), "{left:?}");
    let ringfence = start(&hosts, &config(&["tun0", "eth0"]));
    ban(&ringfence);
    assert!(!gets_through(&hosts));
    assert_eq!(interface(&ringfence, "tun0")["protected"], false);
    drop(ringfence);

    // If the default route is on a tunnel, the interface beneath it is protected.
    ip(&hosts.pbx, "route add default dev tun0 metric 1");
    let ringfence = start(&hosts, &config(&[]));
    ban(&ringfence);
    assert!(!gets_through(&hosts));
    let said = ringfence.log();
    assert!(said.contains("the default route is on `tun0`"), "{said}");
    assert!(until(SOON, || not_seen(&ringfence) == ["tun0"]), "{}", status(&ringfence));
    assert!(!xdp(&hosts, "tun0").contains("xdp"));
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_default_route_is_followed() {
    let hosts = Hosts::new().unwrap();
    let echo = Echo::start(&hosts.pbx).unwrap();
    ip(&hosts.pbx, "link add wan1 type veth peer name wan1-end");
    ip(&hosts.pbx, "link set wan1 up");
    ip(&hosts.pbx, "link set wan1-end up");
    ip(&hosts.pbx, "addr add 198.51.100.2/24 dev wan1");
    ip(&hosts.pbx, "route add default via 192.0.2.1 dev eth0 metric 100");
    let mut ringfence = start(&hosts, &config(&[]));
    ban(&ringfence);
    assert_eq!(status(&ringfence)["interfaces"].as_array().unwrap().len(), 1);
    ip(&hosts.pbx, "route add default via 198.51.100.1 dev wan1 metric 50");
    assert!(until(SOON, || interface(&ringfence, "wan1")["protected"] == true));
    assert!(until(SOON, || times_said(&ringfence, "attached to wan1") == 1));
    assert_eq!(not_seen(&ringfence), [""; 0]);
    // The route moves, and after a restart it is elsewhere.
    ip(&hosts.pbx, "route del default via 192.0.2.1 dev eth0");
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(!gets_through(&hosts), "the interface is bare whose route is away");
    assert_eq!(interface(&ringfence, "wan1")["protected"], true);
    drop(ringfence);

    // If interfaces are named, only these are protected; others with a route are reported, and so is the
    // second of several next hops.
    ip(&hosts.pbx, "route del default");
    ip(
        &hosts.pbx,
        "route add default nexthop via 192.0.2.1 dev eth0 nexthop via 198.51.100.1 dev wan1",
    );
    let mut ringfence = start(&hosts, &config(&["eth0"]));
    assert!(until(SOON, || not_seen(&ringfence) == ["wan1"]), "{}", status(&ringfence));
    assert!(
        until(SOON, || times_said(&ringfence, "`wan1` has a default route and no program") == 1),
        "{}",
        ringfence.log()
    );
    assert!(text(&ringfence, &["status"]).contains("NOT SEEN: wan1"));
    let doctor = ringfence.doctor(&hosts.pbx).unwrap();
    assert!(doctor.stdout.contains("`interfaces: [eth0, wan1]`"), "{doctor:?}");
    ringfence
        .restart_with(&hosts.pbx, |c| c.interfaces = vec!["eth0".to_owned(), "wan1".to_owned()])
        .unwrap();
    std::thread::sleep(Duration::from_secs(1));
    assert_eq!(not_seen(&ringfence), [""; 0]);
    drop((ringfence, echo, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_bridge_with_guests_is_said_to_hide_them() {
    let hosts = Hosts::new().unwrap();
    for line in [
        "link add vmbr0 type bridge",
        "link set vmbr0 up",
        "link add eno1 type dummy",
        "link set eno1 master vmbr0",
        "link add veth100i0 type veth peer name guest0",
        "link set veth100i0 master vmbr0",
    ] {
        // Not every kernel has dummy interfaces; only the guest matters.
        run(line, hosts.pbx.command("ip").args(line.split_whitespace()));
    }
    let ringfence = start(&hosts, &config(&["vmbr0"]));
    assert!(until(SOON, || not_seen(&ringfence) == ["vmbr0"]), "{}", status(&ringfence));
    let said = text(&ringfence, &["status"]);
    assert!(said.contains("bridge with guests (veth100i0)"), "{said}");
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_asterisk_in_a_container_is_said_to_teach_nothing() {
    let hosts = Hosts::new().unwrap();
    let directory = scratch::directory("asterisk").unwrap();
    let asterisk = directory.path().join("asterisk");
    symlink("/bin/sleep", &asterisk).unwrap();
    let start_in =
        |host: &Netns| Running::spawn("asterisk", host.command(&asterisk).arg("60")).unwrap();
    let elsewhere = start_in(&hosts.attacker);
    let mut ringfence = start(&hosts, &config(&["eth0"]));
    let is_said = |ringfence: &Ringfence| {
        text(ringfence, &["status"]).contains("NOT SEEN: asterisk: Asterisk (process ")
    };
    assert!(until(SOON, || is_said(&ringfence)), "{}", status(&ringfence));
    // With an interface of its own, the host has no findings.
    let own = start_in(&hosts.pbx);
    ringfence.restart(&hosts.pbx).unwrap();
    std::thread::sleep(Duration::from_secs(2));
    assert!(!is_said(&ringfence), "{}", status(&ringfence));
    drop((ringfence, own, elsewhere, directory, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn failures_whose_packets_are_not_seen_are_told_of() {
    let hosts = Hosts::new().unwrap();
    let directory = scratch::directory("log").unwrap();
    let log = directory.path().join("fail2ban");
    fs::write(&log, "").unwrap();
    // An Asterisk process with a port that is not in `sip`.
    let asterisk = directory.path().join("asterisk");
    symlink("/bin/sleep", &asterisk).unwrap();
    let asterisk = Running::spawn("asterisk", hosts.pbx.command(&asterisk).arg("60")).unwrap();
    let any = (Ipv4Addr::UNSPECIFIED, 5160);
    let socket = hosts.pbx.run_in(|| Ok(UdpSocket::bind(any)?)).unwrap();
    let mut config = config(&["eth0"]);
    config.notice_log.clone_from(&log);
    let ringfence = start(&hosts, &config);
    let reads = || status(&ringfence)["sources"][0]["state"] == "ok";
    assert!(until(SOON, reads), "{}", status(&ringfence));
    let fail = |times: usize| {
        let mut file = fs::OpenOptions::new().append(true).open(&log).unwrap();
        for n in 0..times {
            let now = jiff::Zoned::now().strftime("%Y-%m-%d %H:%M:%S").to_string();
            writeln!(
                file,
                "[{now}] NOTICE[99] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
                 '<sip:x@192.0.2.10>' failed for '198.51.100.{n}:5060' (callid: a) - No matching \
                 endpoint found"
            )
            .unwrap();
        }
    };
    let found = || -> Vec<Value> {
        let status = status(&ringfence);
        let all = status["hearing"].as_array().unwrap().iter();
        all.filter(|one| one["kind"] == "unwitnessed").cloned().collect()
    };
    fail(9);
    let heard = |n: u64| status(&ringfence)["sources"][0]["unwitnessed"].as_u64() == Some(n);
    assert!(until(SOON, || heard(9)), "{}", status(&ringfence));
    assert_eq!(found(), [Value::Null; 0], "nine are too few to tell");
    fail(21);
    assert!(until(SOON, || heard(30)), "{}", status(&ringfence));
    let finding = found().remove(0);
    let says = |key: &str, text: &str| finding[key].as_str().unwrap().contains(text);
    assert!(says("problem", "30 of 30 failures unwitnessed: SIP arrives on another"), "{finding}");
    assert!(says("remedy", "Asterisk listens on UDP 5160"), "{finding}");
    assert!(until(SOON, || times_said(&ringfence, "30 of 30 failures unwitnessed") == 1));
    assert!(text(&ringfence, &["status"]).contains("NOT HEARD: asterisk-notice: 30 of 30"));
    let doctor = ringfence.doctor(&hosts.pbx).unwrap();
    assert!(doctor.stdout.contains("30 of 30 failures unwitnessed"), "{doctor:?}");
    drop((ringfence, socket, asterisk, directory, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn an_unprivileged_container_is_called_one() {
    let hosts = Hosts::new().unwrap();
    let mut command = hosts.pbx.command("unshare");
    command.args(["--user", "--map-root-user"]).arg(ringfence::built().unwrap());
    let directory = scratch::directory("config").unwrap();
    let file = directory.path().join("config.yml");
    let at = directory.path().display();
    fs::write(&file, format!("paths: {{state: {at}/state, runtime: {at}/run}}\n")).unwrap();
    let said = run("unshare", command.arg("-c").arg(&file).args(["run", "-i", "eth0"]));
    assert_eq!(said.status.code(), Some(1), "{said:?}");
    assert!(said.stderr.contains("unprivileged container"), "{said:?}");
    drop((directory, hosts));
    nothing_is_left().unwrap();
}

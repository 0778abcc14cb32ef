//! The parts of the lab work as the lab requires: real namespaces, a real Asterisk, real tools.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use ringfence_tests::asterisk::{Asterisk, Options};
use ringfence_tests::attack::{self, Attacker, Method, Plan};
use ringfence_tests::netns::{self, Lan, Netns};
use ringfence_tests::notice::Notices;
use ringfence_tests::phone::{Account, Phone};
use ringfence_tests::tap::Tap;
use ringfence_tests::world::until;

const PBX: &str = "192.0.2.10";
const PBX6: &str = "2001:db8::10";
const PHONE: &str = "192.0.2.20";
const ATTACKERS: [&str; 4] = ["192.0.2.66", "192.0.2.67", "192.0.2.68", "192.0.2.69"];
/// Set in the child that `namespaces_of_a_killed_process_are_swept` kills.
const VICTIM: &str = "RINGFENCE_LAB_VICTIM";

fn ip(address: &str) -> IpAddr {
    address.parse().expect("an address")
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../lab")
}

fn namespaces() -> Vec<String> {
    let Ok(entries) = fs::read_dir("/run/netns") else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect()
}

struct World {
    phone: Netns,
    attacker: Netns,
    asterisk: Asterisk,
    arrived: Tap,
    sent: Tap,
    // Dropped after the processes in it.
    _pbx: Netns,
    _lan: Lan,
}

impl World {
    fn new() -> Self {
        attack::check_tools().expect("the tools");
        netns::sweep().expect("sweep");
        let mut lan = Lan::new().expect("a switch");
        let pbx = lan.host("pbx", &[ip(PBX), ip(PBX6)]).expect("a host");
        let phone = lan.host("phone", &[ip(PHONE)]).expect("a host");
        let attacker = lan.host("attacker", &ATTACKERS.map(ip)).expect("a host");
        let root = Asterisk::ensure_root(&cache(), &mut |_| ()).expect("Asterisk's files");
        let arrived = Tap::start(&pbx, "eth0").expect("a tap");
        let port = pbx.switch_port().expect("a port");
        let sent = Tap::start(lan.switch(), port).expect("a tap");
        let asterisk = Asterisk::start(&pbx, &root, &Options::default()).expect("Asterisk");
        Self { phone, attacker, asterisk, arrived, sent, _pbx: pbx, _lan: lan }
    }

    fn attack(&self, method: Method, source: &str, rate: u32, seconds: u64) -> Notices {
        let plan = Plan {
            method,
            source: ip(source),
            target: ip(PBX),
            rate,
            duration: Duration::from_secs(seconds),
        };
        let mut attacker = Attacker::start(&self.attacker, &plan).expect("an attacker");
        let ended = until(plan.duration + Duration::from_secs(5), || {
            attacker.ended().expect("the attacker's state").is_some()
        });
        assert!(ended, "{method:?} did not end by itself");
        let mut notices = Notices::new(&self.asterisk.notice_log());
        // The line about the last packet may not be written yet.
        thread::sleep(Duration::from_millis(300));
        notices.update().expect("the NOTICE log");
        assert_ne!(self.sent.seen(ip(source)).registers(), 0, "{}", attacker.output());
        notices
    }
}

#[test]
#[ignore = "requires root: network namespaces"]
fn namespaces_are_gone_after_use() {
    let lan_names = {
        let mut lan = Lan::new().unwrap();
        let host = lan.host("host", &[ip(PBX), ip(PBX6)]).unwrap();
        let names = [lan.switch().name().to_owned(), host.name().to_owned()];
        assert!(names.iter().all(|name| namespaces().contains(name)), "{names:?}");
        let seen = host
            .run_in(|| {
                UdpSocket::bind((ip(PBX), 0))?;
                UdpSocket::bind((ip(PBX6), 0))?;
                Ok(UdpSocket::bind((ip(PHONE), 0)).is_err())
            })
            .unwrap();
        assert!(seen, "a host has another's address");
        names
    };
    assert!(lan_names.iter().all(|name| !namespaces().contains(name)));
}

#[test]
#[ignore = "requires root: network namespaces"]
fn a_namespace_is_entered_for_its_network_only() {
    let mut lan = Lan::new().unwrap();
    let host = lan.host("host", &[ip(PBX)]).unwrap();
    let outside = fs::read_link("/proc/self/ns/mnt").unwrap();
    let net = fs::read_link("/proc/self/ns/net").unwrap();
    let mut readlink = host.command("readlink");
    let said = readlink.args(["/proc/self/ns/mnt", "/proc/self/ns/net"]).output().unwrap();
    let said = String::from_utf8(said.stdout).unwrap();
    let (inside_mnt, inside_net) = said.trim().split_once('\n').unwrap();
    assert_eq!(Path::new(inside_mnt), outside);
    assert_ne!(Path::new(inside_net), net);
    let routes = host.command("ip").args(["route", "show", "default"]).output().unwrap();
    assert!(routes.stdout.is_empty(), "there is a default route");
}

#[test]
#[ignore = "requires root: network namespaces"]
fn namespaces_of_a_killed_process_are_swept() {
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "--nocapture", "victim_of_the_sweep"])
        .env(VICTIM, "1")
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let said = BufReader::new(victim.stdout.take().unwrap());
    let name = said
        .lines()
        .map_while(Result::ok)
        .find_map(|line| Some(line.split_once("made ")?.1.trim().to_owned()))
        .unwrap();
    netns::sweep().unwrap();
    assert!(namespaces().contains(&name), "the sweep took a living process's namespace");
    victim.kill().unwrap();
    victim.wait().unwrap();
    assert!(namespaces().contains(&name), "{name} went by itself");
    netns::sweep().unwrap();
    assert!(!namespaces().contains(&name));
}

#[test]
#[ignore = "requires root: network namespaces; does something only in the child of another test"]
fn victim_of_the_sweep() {
    if std::env::var_os(VICTIM).is_none() {
        return;
    }
    let lan = Lan::new().unwrap();
    println!("made {}", lan.switch().name());
    thread::sleep(Duration::from_mins(1));
}

#[test]
#[ignore = "requires root: network namespaces"]
fn a_phone_registers_with_asterisk() {
    let world = World::new();
    let account = Options::default().endpoints.remove(0);
    let phone = Phone::start(
        &world.phone,
        Account {
            name: account.0,
            password: account.1,
            local: ip(PHONE),
            registrar: SocketAddr::new(ip(PBX), 5060),
        },
        Duration::from_millis(100),
    )
    .unwrap();
    assert!(until(Duration::from_secs(10), || phone.report().attempts >= 10));
    let contacts = world.asterisk.cli("pjsip show contacts").unwrap();
    assert!(contacts.contains("1001/sip:1001@192.0.2.20"), "{contacts}");
    let report = phone.finish();
    assert_eq!(report.failures, 0, "{report:?}");
    let seen = world.arrived.seen(ip(PHONE));
    assert_eq!(seen.without_credentials, report.attempts);
    assert_eq!(seen.guesses_answered, report.attempts);
    assert_eq!(world.arrived.seen(ip(PHONE)).registers(), world.sent.seen(ip(PHONE)).registers());
}

#[test]
#[ignore = "requires root: network namespaces"]
fn the_tools_guess_and_asterisk_reports_them() {
    let world = World::new();
    let notices = world.attack(Method::Svcrack, ATTACKERS[0], 0, 3);
    let svcrack = world.arrived.seen(ip(ATTACKERS[0]));
    assert!(notices.of(ip(ATTACKERS[0])) >= 15, "{svcrack:?}");
    assert!(svcrack.guesses_answered >= 15, "{svcrack:?}");

    let notices = world.attack(Method::Guess, ATTACKERS[1], 50, 2);
    let guesser = world.arrived.seen(ip(ATTACKERS[1]));
    assert_eq!(guesser.guesses_answered, 100, "{guesser:?}");
    assert_eq!(notices.of(ip(ATTACKERS[1])), 100);

    let notices = world.attack(Method::Scan, ATTACKERS[2], 20, 3);
    let scanner = world.arrived.seen(ip(ATTACKERS[2]));
    assert_eq!((scanner.without_credentials, scanner.guesses_answered), (60, 0), "{scanner:?}");
    // Asterisk does not report the first four.
    assert_eq!(notices.of(ip(ATTACKERS[2])), 56);

    let notices = world.attack(Method::Flood, ATTACKERS[3], 2000, 2);
    let sent = world.sent.seen(ip(ATTACKERS[3]));
    assert_eq!((sent.without_credentials, sent.with_credentials), (4000, 0), "{sent:?}");
    assert_eq!(notices.of(ip(ATTACKERS[3])), 0, "the flood's account does not exist");
    assert_eq!((world.sent.lost(), world.arrived.lost()), (0, 0));
}

#[test]
#[ignore = "requires root: network namespaces"]
fn a_rotated_log_goes_on() {
    let world = World::new();
    world.attack(Method::Guess, ATTACKERS[0], 10, 1);
    let old = world.asterisk.rotate().unwrap();
    let after = world.attack(Method::Guess, ATTACKERS[1], 10, 1);
    assert_eq!(after.of(ip(ATTACKERS[0])), 0);
    assert_eq!(after.of(ip(ATTACKERS[1])), 10);
    let mut before = Notices::new(&old);
    before.update().unwrap();
    assert_eq!(before.of(ip(ATTACKERS[0])), 10);
}

#[test]
#[ignore = "requires root: network namespaces"]
fn two_asterisks_run_beside_each_other_and_leave_nothing() {
    let (first, second) = (World::new(), World::new());
    assert_ne!(first.asterisk.log_dir(), second.asterisk.log_dir());
    for world in [&first, &second] {
        assert!(world.asterisk.cli("core show version").unwrap().contains("Asterisk 22"));
    }
    let logs = [first.asterisk.log_dir(), second.asterisk.log_dir()];
    drop((first, second));
    assert!(logs.iter().all(|directory| !directory.exists()));
}

/// Runs the lab's binary without a filter until it prints a line that contains `until`.
fn lab_until(until: &str) -> Child {
    let mut lab = Command::new(env!("CARGO_BIN_EXE_ringfence-lab"))
        .args(["--no-filter", "--cache"])
        .arg(cache())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the lab");
    let said = BufReader::new(lab.stdout.as_mut().expect("its output"));
    let found = said.lines().map_while(Result::ok).any(|line| line.contains(until));
    assert!(found, "the lab never said {until:?}");
    lab
}

/// Everything that the lab with this process id has created.
fn made_by(pid: u32) -> Vec<PathBuf> {
    let directories = ["/run/netns".into(), "/sys/fs/bpf".into(), std::env::temp_dir()];
    let root = cache().join("asterisk-forky-1/instances");
    let prefix = format!("rf{pid}.");
    let entries = directories.into_iter().chain([root]).filter_map(|dir| fs::read_dir(dir).ok());
    let paths = entries.flatten().flatten().map(|entry| entry.path());
    let ours = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(&prefix))
    };
    paths.filter(ours).collect()
}

/// Processes other than `pid` itself that have its prefix in their command line.
fn children_of(pid: u32) -> Vec<String> {
    let mark = format!("rf{pid}.");
    let Ok(processes) = fs::read_dir("/proc") else {
        return Vec::new();
    };
    let lines = processes.flatten().filter_map(|entry| {
        let line = fs::read(entry.path().join("cmdline")).ok()?;
        Some(String::from_utf8_lossy(&line).replace('\0', " "))
    });
    lines.filter(|line| line.contains(&mark)).collect()
}

#[test]
#[ignore = "requires root: network namespaces"]
fn an_interrupted_lab_leaves_nothing() {
    for (signal, code) in [(Signal::SIGINT, 130), (Signal::SIGTERM, 143)] {
        // During an attack.
        let mut lab = lab_until("192.0.2.66 sent");
        let pid = lab.id();
        assert!(made_by(pid).len() >= 7, "{:?}", made_by(pid));
        assert!(!children_of(pid).is_empty());
        signal::kill(Pid::from_raw(pid.cast_signed()), signal).unwrap();
        assert_eq!(lab.wait().unwrap().code(), Some(code));
        assert!(made_by(pid).is_empty(), "{:?}", made_by(pid));
        assert_eq!(children_of(pid), [""; 0]);
    }
}

#[test]
#[ignore = "requires root: network namespaces"]
fn what_a_killed_lab_leaves_is_removed_by_the_next() {
    let mut lab = lab_until("1/7");
    let pid = lab.id();
    lab.kill().unwrap();
    assert_eq!(lab.wait().unwrap().signal(), Some(9));
    assert!(
        until(Duration::from_secs(2), || children_of(pid).is_empty()),
        "{:?}",
        children_of(pid)
    );
    assert!(!made_by(pid).is_empty());
    netns::sweep().unwrap();
    Asterisk::ensure_root(&cache(), &mut |_| ()).unwrap();
    assert!(made_by(pid).is_empty(), "{:?}", made_by(pid));
}

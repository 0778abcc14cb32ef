//! A fleet: real daemons and their agents, and NATS servers from Debian's package.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs::{self, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use ringfence_tests::debian;
use ringfence_tests::nats::{Agent, Nats};
use ringfence_tests::netns::{self, Lan, Netns};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::world::{nothing_is_left, until};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(1);

const NAMES: [&str; 3] = ["pbx-1", "pbx-2", "pbx-3"];

fn attacker(n: u8) -> IpAddr {
    Ipv4Addr::new(185, 0, 0, n).into()
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("../lab")
}

/// A host of the fleet. Processes are dropped before their namespace.
struct Pbx {
    agent: Agent,
    ringfence: Ringfence,
    place: Netns,
    logs: TempDir,
}

impl Pbx {
    fn start(
        place: Netns,
        nats: &Nats,
        name: &str,
        more: &str,
        environment: &[(String, String)],
    ) -> Self {
        let logs = scratch::directory("logs").unwrap();
        fs::write(logs.path().join("auth.log"), "").unwrap();
        fs::write(logs.path().join("wazo-provd.log"), "").unwrap();
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.other_logs = Some(logs.path().to_owned());
        config.more = nats.settings(name, more);
        config.environment = environment.to_vec();
        let ringfence = Ringfence::start(&place, &ringfence::built().unwrap(), &config).unwrap();
        let agent = Agent::start_with(&place, &ringfence, environment).unwrap();
        Self { agent, ringfence, place, logs }
    }

    /// An attacker fails at sshd, which proves its address.
    fn attacked_by(&self, source: IpAddr) {
        let mut log =
            OpenOptions::new().append(true).open(self.logs.path().join("auth.log")).unwrap();
        for n in 0..6 {
            let line = "Failed password for root from";
            writeln!(log, "Nov 29 04:40:0{n} pbx sshd[{n}]: {line} {source} port 4{n} ssh2")
                .unwrap();
        }
    }

    fn fleet(&self) -> Value {
        self.ringfence.client().ask(&["fleet", "status"]).unwrap()
    }

    fn becomes(&self, state: &str) {
        let is = || self.fleet()["state"] == state;
        assert!(
            until(SOON, is),
            "{}\n{}\n{}",
            self.fleet(),
            self.agent.log(),
            self.ringfence.log()
        );
    }

    /// The jails that have banned an address here.
    fn banned_by(&self, source: IpAddr) -> Vec<String> {
        let why = self.ringfence.client().why(source).unwrap();
        let bans = why["bans"].as_array().unwrap().iter();
        bans.map(|ban| ban["jail"].as_str().unwrap().to_owned()).collect()
    }

    fn becomes_banned(&self, source: IpAddr, by: &[&str]) {
        let is = || self.banned_by(source) == by;
        assert!(
            until(SOON, is),
            "{source}: {:?}, not {by:?}\n{}\n{}\n{}",
            self.banned_by(source),
            self.fleet(),
            self.agent.log(),
            self.ringfence.log()
        );
    }

    fn tell(&self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        self.ringfence.client().run(&words, false).unwrap().success(line).unwrap();
    }
}

struct Fleet {
    hosts: Vec<Pbx>,
    nats: Nats,
    lan: Lan,
}

impl Fleet {
    fn new(more: [&str; 3]) -> Self {
        Self::with_clocks(more, [""; 3])
    }

    /// The clock of a host is off by so much, such as `+1d`.
    fn with_clocks(more: [&str; 3], off: [&str; 3]) -> Self {
        netns::sweep().unwrap();
        let mut lan = Lan::new().unwrap();
        let address = |n: u8| IpAddr::V4(Ipv4Addr::new(192, 0, 2, n));
        let place = lan.host("nats", &[address(5)]).unwrap();
        let nats = Nats::start(vec![(place, address(5))], &NAMES, &cache()).unwrap();
        let mut hosts = Vec::new();
        for (((name, more), off), n) in NAMES.into_iter().zip(more).zip(off).zip(10..) {
            let place = lan.host(name, &[address(n)]).unwrap();
            hosts.push(Pbx::start(place, &nats, name, more, &clock(off)));
        }
        for host in &hosts {
            host.becomes("connected");
        }
        Self { hosts, nats, lan }
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package nats-server"]
fn a_proven_ban_of_one_host_is_one_of_all() {
    let mut fleet = Fleet::new(["", "", "  accept: {hosts: 2}\n"]);
    let hosts = &mut fleet.hosts;
    hosts[0].attacked_by(attacker(66));
    hosts[0].becomes_banned(attacker(66), &["sshd"]);
    hosts[1].becomes_banned(attacker(66), &["fleet:pbx-1"]);
    let why = hosts[1].ringfence.client().why(attacker(66)).unwrap();
    assert_eq!(why["reason"], "pbx-1: banned there by sshd");
    // The third wants the word of two. The ban of the second is no echo of the first.
    assert!(hosts[2].banned_by(attacker(66)).is_empty());
    hosts[1].tell("unban 185.0.0.66");
    hosts[1].attacked_by(attacker(66));
    hosts[1].becomes_banned(attacker(66), &["sshd"]);
    // It is named after the one whose ban lasts longest.
    let of_two = || hosts[2].banned_by(attacker(66));
    assert!(until(SOON, || of_two().len() == 1 && of_two()[0].starts_with("fleet:pbx-")));
    hosts[0].becomes_banned(attacker(66), &["sshd", "fleet:pbx-2"]);
    // A manual ban is this host's, and so is one that it lifts.
    hosts[0].tell("ban 185.0.0.67");
    hosts[0].tell("unban 185.0.0.66");
    hosts[2].becomes_banned(attacker(66), &[]);
    assert!(hosts[1].banned_by(attacker(67)).is_empty());
    let bans =
        hosts[1].ringfence.client().ask::<Value>(&["bans", "--jail", "fleet:pbx-1"]).unwrap();
    assert_eq!(bans["bans"].as_array().unwrap().len(), 0, "{bans}");
    // What the fleet trusts, all trust.
    hosts[0].attacked_by(attacker(70));
    hosts[1].becomes_banned(attacker(70), &["fleet:pbx-1"]);
    fleet.nats.administer(&["allow", "185.0.0.70", "--for", "1h", "--comment", "office"]).unwrap();
    for host in hosts.iter() {
        host.becomes_banned(attacker(70), &[]);
    }
    let allowed_by = || {
        let allows: Value = hosts[2].ringfence.client().ask(&["allows"]).unwrap();
        allows["allows"][0]["by"].clone()
    };
    assert!(until(SOON, || allowed_by() == "the fleet"), "{}", allowed_by());
    fleet.nats.administer(&["disallow", "185.0.0.70"]).unwrap();
    assert!(until(SOON, || allowed_by() == Value::Null), "{}", allowed_by());
    drop(fleet);
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package nats-server"]
fn it_lives_without_its_server_and_finds_together_again() {
    let mut fleet = Fleet::new(["", "", ""]);
    let Fleet { hosts, nats, .. } = &mut fleet;
    hosts[0].attacked_by(attacker(66));
    hosts[0].becomes_banned(attacker(66), &["sshd"]);
    hosts[1].becomes_banned(attacker(66), &["fleet:pbx-1"]);
    nats.kill_server(0).unwrap();
    hosts[0].becomes("disconnected");
    // Each host bans by itself meanwhile, and what was shared stays.
    hosts[0].attacked_by(attacker(67));
    hosts[0].becomes_banned(attacker(67), &["sshd"]);
    hosts[0].tell("unban 185.0.0.66");
    assert_eq!(hosts[1].banned_by(attacker(66)), ["fleet:pbx-1"]);
    // A daemon and an agent are killed meanwhile: the kernel still has the ban.
    hosts[1].ringfence.kill().unwrap();
    hosts[2].agent.kill().unwrap();
    let Pbx { ringfence, place, .. } = &mut hosts[1];
    ringfence.restart(place).unwrap();
    let banned = |host: &Pbx, n: u8| !host.banned_by(attacker(n)).is_empty();
    assert!(banned(&hosts[1], 66));
    nats.start_server(0).unwrap();
    let agent = Agent::start(&hosts[2].place, &hosts[2].ringfence).unwrap();
    hosts[2].agent = agent;
    for host in hosts.iter() {
        host.becomes("connected");
    }
    hosts[1].becomes_banned(attacker(67), &["fleet:pbx-1"]);
    hosts[2].becomes_banned(attacker(67), &["fleet:pbx-1"]);
    // What was lifted meanwhile is lifted now.
    hosts[1].becomes_banned(attacker(66), &[]);
    hosts[2].becomes_banned(attacker(66), &[]);
    drop(fleet);
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package nats-server"]
fn a_host_that_goes_mad_is_bounded_and_cut_off() {
    let more = "  accept: {rate: 10, most: 300}\n";
    let mut fleet = Fleet::new([more, more, more]);
    let Fleet { hosts, nats, lan } = &mut fleet;
    drop(hosts[2].agent.kill());
    let mad = lan.host("mad", &[Ipv4Addr::new(192, 0, 2, 99).into()]).unwrap();
    // What it does not prove does not count.
    let unproven = r#"{"v":1,"jail":"asterisk-wazo","proven":false,"seconds":3600}"#.to_owned();
    nats.store(&mad, "pbx-3", vec![("bans.pbx-3.b9000043-32".to_owned(), unproven)]).unwrap();
    goes_mad(&mad, nats, 10_000);
    let of_mad = |host: &Pbx| {
        let fleet: Value = host.ringfence.client().ask(&["fleet", "hosts"]).unwrap();
        let mut rows = fleet["hosts"].as_array().unwrap().iter();
        rows.find(|row| row["host"] == "pbx-3").cloned().unwrap_or_default()
    };
    let is_bounded = || {
        let row = of_mad(&hosts[0]);
        row["bans"] == 300
            && row["refused"]["rate"].as_u64().unwrap_or(0)
                + row["refused"]["most"].as_u64().unwrap_or(0)
                > 9000
    };
    assert!(until(SOON, is_bounded), "{}\n{}", of_mad(&hosts[0]), hosts[0].agent.log());
    assert_eq!(of_mad(&hosts[0])["refused"]["unproven"], 1, "{}", of_mad(&hosts[0]));
    assert!(hosts[0].banned_by(attacker(67)).is_empty());
    // The others are heard all the same.
    hosts[1].attacked_by(attacker(66));
    hosts[0].becomes_banned(attacker(66), &["fleet:pbx-2"]);
    hosts[0].tell("fleet cut pbx-3");
    let bans = |host: &Pbx| host.fleet()["banned"].as_u64().unwrap();
    assert!(until(SOON, || bans(&hosts[0]) == 1), "{}", hosts[0].fleet());
    assert_eq!(of_mad(&hosts[0])["cut"], true);
    assert!(bans(&hosts[1]) >= 300, "{}", hosts[1].fleet());
    nats.administer(&["cut", "pbx-3", "--purge"]).unwrap();
    assert!(until(SOON, || bans(&hosts[1]) == 0), "{}", hosts[1].fleet());
    // A host may not write in the name of another.
    let forged = ("bans.pbx-1.b9000042-32".to_owned(), "{}".to_owned());
    assert_eq!(nats.store(&mad, "pbx-3", vec![forged]).unwrap(), 1);
    drop(mad);
    drop(fleet);
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package nats-server"]
fn maintenance_of_the_fleet_is_accepted_bounded_and_ends() {
    let mut fleet =
        Fleet::new(["  accept: {maintenance: 1h}\n", "", "  accept: {maintenance: 1m}\n"]);
    let Fleet { hosts, nats, lan } = &mut fleet;
    let state =
        |host: &Pbx| -> Value { host.ringfence.client().ask(&["maintenance", "status"]).unwrap() };
    let is_closed = |host: &Pbx| state(host)["on"] == true;
    let refused = |host: &Pbx| host.fleet()["maintenance_refused"].clone();
    // Only the administrator's key closes.
    let mad = lan.host("mad", &[Ipv4Addr::new(192, 0, 2, 99).into()]).unwrap();
    let forged = r#"{"v":1,"seconds":600,"closed_to_known":true}"#.to_owned();
    let forged = vec![("maintenance.all".to_owned(), forged)];
    assert_eq!(nats.store(&mad, "pbx-3", forged).unwrap(), 1);
    let of_two_hours = ["maintenance", "on", "--for", "2h", "--comment", "new database"];
    nats.administer(&of_two_hours).unwrap();
    assert!(
        until(SOON, || is_closed(&hosts[0]) && is_closed(&hosts[2])),
        "{}",
        hosts[0].agent.log()
    );
    let first = state(&hosts[0]);
    assert_eq!((&first["by_fleet"], &first["comment"]), (&true.into(), &"new database".into()));
    let end: Timestamp = first["until"].as_str().unwrap().parse().unwrap();
    let left = end.duration_since(Timestamp::now()).as_secs();
    assert!((3000..=3600).contains(&left), "{left}");
    assert!(until(SOON, || refused(&hosts[1]).is_string()) && !is_closed(&hosts[1]));
    // A host's own administrator opens it, and it stays open.
    hosts[0].tell("maintenance off");
    assert!(until(SOON, || refused(&hosts[0]).is_string()) && !is_closed(&hosts[0]));
    // The servers, the agent and the daemon die: the kernel opens in time.
    nats.kill_server(0).unwrap();
    hosts[2].agent.kill().unwrap();
    hosts[2].ringfence.kill().unwrap();
    assert!(until(2 * SOON, || !is_closed_in_kernel(&hosts[2])));
    let Pbx { ringfence, place, .. } = &mut hosts[2];
    ringfence.restart(place).unwrap();
    nats.start_server(0).unwrap();
    hosts[2].agent = Agent::start(&hosts[2].place, &hosts[2].ringfence).unwrap();
    for host in hosts.iter() {
        host.becomes("connected");
    }
    // The record is still there, but has had its minute.
    assert!(until(SOON, || refused(&hosts[2]).is_string()) && !is_closed(&hosts[2]));
    // Another one closes where time is left, until it ends for all.
    nats.administer(&["maintenance", "on", "--for", "10m"]).unwrap();
    assert!(until(SOON, || is_closed(&hosts[0])));
    nats.administer(&["maintenance", "off"]).unwrap();
    assert!(until(SOON, || !is_closed(&hosts[0])));
    assert!(!is_closed(&hosts[1]) && !is_closed(&hosts[2]));
    // What a host closes for itself, the others see.
    let closed_until = || -> Value {
        let fleet: Value = hosts[0].ringfence.client().ask(&["fleet", "hosts"]).unwrap();
        let mut rows = fleet["hosts"].as_array().unwrap().iter();
        rows.find(|row| row["host"] == "pbx-2").map(|row| row["closed_until"].clone()).unwrap()
    };
    hosts[1].tell("maintenance on --for 10m");
    assert!(until(SOON, || closed_until().is_string()), "{}", hosts[1].agent.log());
    let end: Timestamp = closed_until().as_str().unwrap().parse().unwrap();
    let left = end.duration_since(Timestamp::now()).as_secs();
    assert!((480..=600).contains(&left), "{left}");
    assert!(!is_closed(&hosts[0]) && !is_closed(&hosts[2]));
    hosts[1].tell("maintenance off");
    assert!(until(SOON, || closed_until().is_null()), "{}", closed_until());
    let changes = || -> Vec<String> {
        let page: Value = hosts[0].ringfence.client().ask(&["history"]).unwrap();
        let rows = page["history"].as_array().unwrap().iter().rev();
        let of_fleet = rows.filter(|row| row["by"] == "the fleet");
        of_fleet.map(|row| row["action"].as_str().unwrap().to_owned()).collect()
    };
    let is_told = || match &changes()[..] {
        [first, second, third] => {
            // The record may be some seconds old when the agent reads it.
            let of_ten_minutes = ["close SIP for 9m", "close SIP for 10m"];
            first == "close SIP for 1h: new database"
                && of_ten_minutes.iter().any(|text| second.starts_with(text))
                && third == "open SIP"
        }
        _ => false,
    };
    assert!(until(SOON, is_told), "{:?}", changes());
    drop(mad);
    drop(fleet);
    nothing_is_left().unwrap();
}

/// Whether SIP is closed, according to the maps: no daemon is needed.
fn is_closed_in_kernel(host: &Pbx) -> bool {
    let state = host.ringfence.client().run(&["maintenance", "status", "--json"], false).unwrap();
    let state: Value = serde_json::from_str(&state.stdout).unwrap();
    state["on"] == true
}

/// Variables with which a process has a clock that is off by so much.
fn clock(off: &str) -> Vec<(String, String)> {
    if off.is_empty() {
        return Vec::new();
    }
    let library = debian::unpacked(&cache(), "libfaketime").unwrap();
    let library = library.join("usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1");
    let library = fs::canonicalize(library).unwrap().display().to_string();
    // Intervals are measured by the monotonic clock, which no administrator can set wrong.
    let variables = [
        ("LD_PRELOAD", library.as_str()),
        ("FAKETIME", off),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
    ];
    variables.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's packages nats-server and libfaketime"]
fn a_host_that_is_parted_and_has_a_wrong_clock_finds_back() {
    const DAY: i64 = 86_400_000;
    let fleet = Fleet::with_clocks(["", "", ""], ["", "+1d", ""]);
    let Fleet { hosts, lan, .. } = &fleet;
    hosts[0].attacked_by(attacker(66));
    hosts[1].attacked_by(attacker(67));
    for (host, n, of) in [(0, 67, "fleet:pbx-2"), (1, 66, "fleet:pbx-1"), (2, 67, "fleet:pbx-2")] {
        hosts[host].becomes_banned(attacker(n), &[of]);
    }
    // Each ban ends when it would with a right clock: for the host ahead that is a day later in its own.
    let near = |ms: &Value, to: i64| (ms.as_i64().unwrap_or(0) - to).abs() < DAY / 24;
    let remaining = |host: &Pbx, n: u8| {
        let why = host.ringfence.client().why(attacker(n)).unwrap();
        let of = |what: &str| why["bans"][0][what].as_str().unwrap().parse::<Timestamp>().unwrap();
        (of("until") - of("since")).get_seconds()
    };
    for (host, n) in [(1, 66), (2, 67), (0, 67)] {
        let seconds = remaining(&hosts[host], n);
        assert!((1..=600).contains(&seconds), "{host}: {seconds}");
    }
    assert!(until(SOON, || near(&hosts[1].fleet()["report"]["clock_ms"], DAY)));
    let of_second = || {
        let fleet: Value = hosts[0].ringfence.client().ask(&["fleet", "hosts"]).unwrap();
        let mut rows = fleet["hosts"].as_array().unwrap().iter();
        rows.find(|row| row["host"] == "pbx-2").cloned().unwrap_or_default()
    };
    assert!(until(SOON, || near(&of_second()["clock_ms"], DAY)), "{}", of_second());

    // Its cable is cut: no packet arrives, and no connection is closed.
    let port = hosts[1].place.switch_port().unwrap();
    lan.switch().ip(&format!("link set {port} down")).unwrap();
    hosts[0].attacked_by(attacker(68));
    hosts[1].attacked_by(attacker(69));
    hosts[2].becomes_banned(attacker(68), &["fleet:pbx-1"]);
    hosts[1].becomes_banned(attacker(69), &["sshd"]);
    hosts[0].tell("unban 185.0.0.66");
    hosts[2].becomes_banned(attacker(66), &[]);
    hosts[1].becomes("disconnected");
    assert_eq!(hosts[1].banned_by(attacker(66)), ["fleet:pbx-1"]);
    assert!(hosts[1].banned_by(attacker(68)).is_empty());
    assert!(hosts[0].banned_by(attacker(69)).is_empty());
    lan.switch().ip(&format!("link set {port} up")).unwrap();
    hosts[1].becomes("connected");
    hosts[1].becomes_banned(attacker(68), &["fleet:pbx-1"]);
    hosts[1].becomes_banned(attacker(66), &[]);
    for host in [0, 2] {
        hosts[host].becomes_banned(attacker(69), &["fleet:pbx-2"]);
    }
    drop(fleet);
    nothing_is_left().unwrap();
}

/// For the host three days have passed and it was booted anew; the servers' clock cannot be moved.
#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's packages nats-server and libfaketime"]
fn a_host_that_comes_back_after_days_has_what_is_in_force_now() {
    let mut fleet = Fleet::new(["", "", ""]);
    let Fleet { hosts, nats, .. } = &mut fleet;
    hosts[2].attacked_by(attacker(66));
    hosts[0].attacked_by(attacker(67));
    hosts[0].becomes_banned(attacker(66), &["fleet:pbx-3"]);
    hosts[2].becomes_banned(attacker(67), &["fleet:pbx-1"]);
    hosts[2].becomes_banned(attacker(66), &["sshd"]);
    nats.administer(&["allow", "185.0.0.70", "--for", "1h"]).unwrap();
    let allowed = |host: &Pbx| -> Vec<String> {
        let allows: Value = host.ringfence.client().ask(&["allows"]).unwrap();
        let allows = allows["allows"].as_array().unwrap().iter();
        allows.map(|row| row["network"].as_str().unwrap().to_owned()).collect()
    };
    assert!(until(SOON, || allowed(&hosts[2]) == ["185.0.0.70"]), "{:?}", allowed(&hosts[2]));
    // It is switched off: nothing is left in the kernel.
    hosts[2].agent.kill().unwrap();
    hosts[2].ringfence.kill().unwrap();
    hosts[2].ringfence.detach().unwrap().success("ringfence detach").unwrap();
    // Meanwhile one ban is lifted, one ends, and another begins; other networks are trusted.
    hosts[0].tell("unban 185.0.0.67");
    hosts[1].attacked_by(attacker(68));
    let short = r#"{"v":1,"jail":"sshd","proven":true,"seconds":1}"#.to_owned();
    let short = vec![("bans.pbx-2.b9000045-32".to_owned(), short)];
    assert_eq!(nats.store(&hosts[1].place, "pbx-2", short).unwrap(), 0);
    nats.administer(&["disallow", "185.0.0.70"]).unwrap();
    nats.administer(&["allow", "185.0.0.71", "--for", "1h"]).unwrap();
    hosts[0].becomes_banned(attacker(67), &[]);
    hosts[0].becomes_banned(attacker(68), &["fleet:pbx-2"]);
    hosts[0].becomes_banned(attacker(69), &[]);
    assert!(until(SOON, || allowed(&hosts[0]) == ["185.0.0.71"]), "{:?}", allowed(&hosts[0]));
    // It is switched on, three days later by its clock.
    let boot = hosts[2].logs.path().join("boot");
    let other = booted_anew(&boot);
    let Pbx { ringfence, place, .. } = &mut hosts[2];
    let later = clock("+3d");
    ringfence.configure(|config| config.environment.clone_from(&later)).unwrap();
    ringfence.replace(place, &other).unwrap();
    // Its own ban has ended meanwhile, and before anybody tells it, it has no others.
    for n in 66..=70 {
        assert!(hosts[2].banned_by(attacker(n)).is_empty(), "{n}");
    }
    let Pbx { ringfence, place, .. } = &hosts[2];
    hosts[2].agent = Agent::start_with(place, ringfence, &later).unwrap();
    hosts[2].becomes("connected");
    hosts[2].becomes_banned(attacker(68), &["fleet:pbx-2"]);
    for n in [66, 67, 69] {
        assert!(hosts[2].banned_by(attacker(n)).is_empty(), "{n}");
    }
    assert!(until(SOON, || allowed(&hosts[2]) == ["185.0.0.71"]), "{:?}", allowed(&hosts[2]));
    // What it shared three days ago, it takes back.
    for host in [0, 1] {
        hosts[host].becomes_banned(attacker(66), &[]);
    }
    // It is heard as before.
    hosts[2].attacked_by(attacker(72));
    hosts[0].becomes_banned(attacker(72), &["fleet:pbx-3"]);
    drop(fleet);
    nothing_is_left().unwrap();
}

/// A program that runs `ringfence` as after another boot.
fn booted_anew(directory: &Path) -> PathBuf {
    fs::create_dir(directory).unwrap();
    let (id, program) = (directory.join("boot_id"), directory.join("ringfence"));
    fs::write(&id, "5e0c1f0e-7a52-4d5c-9f34-2f6f6d5a9c11\n").unwrap();
    let bind = "mount --bind \"$0\" /proc/sys/kernel/random/boot_id && exec \"$@\"";
    let text = format!(
        "#!/bin/sh\nexec unshare --mount sh -c '{bind}' {} {} \"$@\"\n",
        id.display(),
        ringfence::built().unwrap().display()
    );
    fs::write(&program, text).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

/// A host that goes mad bans so many addresses at once.
fn goes_mad(place: &Netns, nats: &Nats, count: u32) {
    let record = r#"{"v":1,"jail":"sshd","proven":true,"seconds":3600}"#;
    let key = |n: u32| format!("bans.pbx-3.{:08x}-32", 0xba00_0000_u32 + n);
    let records = (0..count).map(|n| (key(n), record.to_owned())).collect();
    assert_eq!(nats.store(place, "pbx-3", records).unwrap(), 0);
}

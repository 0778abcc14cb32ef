//! Feeds with a real daemon, `curl`, and a server that lies, stalls and shrinks.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use ringfence_tests::child::Running;
use ringfence_tests::crowdsec::{Crowdsec, Lossy, Reads};
use ringfence_tests::fail2ban::Fail2ban;
use ringfence_tests::netns::Netns;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::stream::Stream;
use ringfence_tests::world::{
    Echo, Hosts, OTHER_PORT, PBX, SIP_PORT, cache, nothing_is_left, udp_reaches, until,
};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(1);

/// Addresses of the attacker that are in use on the Internet, as those in a list are.
const LISTED: [IpAddr; 3] = [
    IpAddr::V4(Ipv4Addr::new(185, 0, 0, 66)),
    IpAddr::V4(Ipv4Addr::new(185, 0, 0, 67)),
    IpAddr::V4(Ipv4Addr::new(185, 0, 0, 68)),
];

struct Lists {
    hosts: Hosts,
    _echo: Echo,
    directory: TempDir,
    _server: Running,
}

impl Lists {
    fn new() -> Self {
        let hosts = Hosts::new().unwrap();
        for address in LISTED {
            let line = format!("addr add {address}/24 dev eth0");
            let mut ip = hosts.attacker.command("ip");
            assert!(ip.args(line.split(' ')).status().unwrap().success());
        }
        let mut ip = hosts.pbx.command("ip");
        assert!(
            ip.args(["route", "add", "185.0.0.0/24", "dev", "eth0"]).status().unwrap().success()
        );
        let directory = scratch::directory("lists").unwrap();
        let mut python = hosts.pbx.command("python3");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/list_server.py");
        python.arg(script).arg(directory.path()).stderr(Stdio::null());
        let server = Running::spawn("python3", &mut python).unwrap();
        let echo = Echo::start(&hosts.pbx).unwrap();
        Self { hosts, _echo: echo, directory, _server: server }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn serve(&self, name: &str, list: &str) {
        fs::write(self.file(name), list).unwrap();
    }

    fn start(&self, feeds: &str) -> Ringfence {
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.more = format!("feeds:\n{feeds}");
        Ringfence::start(&self.hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
    }

    fn reaches(&self, place: usize, port: u16) -> bool {
        udp_reaches(&self.hosts.attacker, LISTED[place], port).unwrap()
    }

    /// A configuration that takes this CrowdSec's decisions and tells it of bans, and the directory of the logs of
    /// sshd and wazo-provd. `place` says where Ringfence finds it, if not where it listens.
    fn with_crowdsec(&self, crowdsec: &Crowdsec, place: &str) -> (Config, PathBuf) {
        let cscli = |line: &str| {
            crowdsec.cscli(&self.hosts.pbx, &line.split(' ').collect::<Vec<_>>()).unwrap()
        };
        let (key, login) = (self.file("crowdsec.key"), self.file("crowdsec.yaml"));
        fs::write(&key, cscli("bouncers add ringfence -o raw")).unwrap();
        cscli(&format!("machines add ringfence -a -f {}{place}", login.display()));
        let logs = self.file("logs");
        fs::create_dir(&logs).unwrap();
        for log in ["auth.log", "wazo-provd.log"] {
            fs::write(logs.join(log), "").unwrap();
        }
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.other_logs = Some(logs.clone());
        config.more = format!(
            "feeds: {{crowdsec: {{url: 'http://127.0.0.1:8080', format: crowdsec, interval: 2s, key_file: {}}}}}\n\
             actions: {{tell: {{crowdsec: {}}}}}\n",
            key.display(),
            login.display()
        );
        (config, logs)
    }
}

fn feed(ringfence: &Ringfence, name: &str) -> Value {
    let feeds: Value = ringfence.client().ask(&["feeds"]).unwrap();
    let mut feeds = feeds["feeds"].as_array().unwrap().iter();
    feeds.find(|feed| feed["name"] == name).unwrap().clone()
}

/// Waits until a feed is in this state with so many bans.
fn becomes(ringfence: &Ringfence, name: &str, state: &str, banned: u64) {
    let is = || {
        let feed = feed(ringfence, name);
        feed["state"] == state && feed["banned"] == banned
    };
    assert!(until(SOON, is), "{}\n{}", feed(ringfence, name), ringfence.log());
}

/// So many addresses, beginning with the listed ones.
fn many(count: u32) -> String {
    let first = u32::from(Ipv4Addr::new(185, 0, 0, 66));
    (0..count).map(|n| Ipv4Addr::from(first + n).to_string() + "\n").collect()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_list_is_banned_and_survives_restarts() {
    let lists = Lists::new();
    lists
        .serve("sip.txt", "185.0.0.66\n185.0.0.68/31 # a network\n10.0.0.1\n0.0.0.0/0\nnonsense\n");
    lists.serve("poison.txt", &format!("{PBX}\n127.0.0.1\n0.0.0.0/0\n192.0.2.0/24\n"));
    let feeds = "  sip: {url: 'http://127.0.0.1:8099/sip.txt', interval: 2s}\n  \
        poison: {url: 'http://127.0.0.1:8099/poison.txt', interval: 2s}\n";
    let mut ringfence = lists.start(feeds);
    becomes(&ringfence, "sip", "ok", 2);
    assert!(!lists.reaches(0, SIP_PORT) && lists.reaches(0, OTHER_PORT));
    assert!(lists.reaches(1, SIP_PORT) && !lists.reaches(2, SIP_PORT));
    let sip = feed(&ringfence, "sip");
    assert_eq!((&sip["left_out"], &sip["unread"]), (&2.into(), &1.into()), "{sip}");
    becomes(&ringfence, "poison", "ok", 0);
    let why = ringfence.client().why(LISTED[0]).unwrap();
    assert_eq!(
        (&why["jail"], &why["reason"]),
        (&"feed:sip".into(), &"listed by the feed sip".into())
    );

    // An unchanged list is not sent again, and one that changes takes effect.
    lists.serve("sip.txt", "185.0.0.67\n185.0.0.68/31\n");
    assert!(until(SOON, || lists.reaches(0, SIP_PORT) && !lists.reaches(1, SIP_PORT)));
    let requests = || fs::read_to_string(lists.file("requests")).unwrap();
    assert!(until(SOON, || requests().contains("If-None-Match: \"")), "{}", requests());

    // While the server is dead and the daemon was killed, the bans stay.
    fs::write(lists.file("sip.txt.how"), "status 503").unwrap();
    becomes(&ringfence, "sip", "failing", 2);
    ringfence.kill().unwrap();
    assert!(!lists.reaches(1, SIP_PORT));
    ringfence.restart(&lists.hosts.pbx).unwrap();
    becomes(&ringfence, "sip", "failing", 2);
    assert!(!lists.reaches(1, SIP_PORT) && !lists.reaches(2, SIP_PORT));

    // An unban holds, although the list still contains the address.
    let client = ringfence.client();
    client.run(&["unban", "185.0.0.67"], false).unwrap().success("unban").unwrap();
    fs::remove_file(lists.file("sip.txt.how")).unwrap();
    lists.serve("sip.txt", "185.0.0.67\n185.0.0.68/31\n185.0.0.70\n");
    becomes(&ringfence, "sip", "ok", 2);
    assert!(lists.reaches(1, SIP_PORT));
    assert_eq!(feed(&ringfence, "sip")["spared"]["lifted"], 1);
    ringfence.stop().unwrap();
    drop((ringfence, lists));
    nothing_is_left().unwrap();
}

/// The bans of an address, by jail, with their reasons.
fn bans(ringfence: &Ringfence, address: IpAddr) -> Vec<(String, String)> {
    let why = ringfence.client().why(address).unwrap();
    let text = |ban: &Value, key: &str| ban[key].as_str().unwrap().to_owned();
    let bans = why["bans"].as_array().unwrap().iter();
    bans.map(|ban| (text(ban, "jail"), text(ban, "reason"))).collect()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package fail2ban"]
fn fail2ban_bans_through_its_action() {
    let lists = Lists::new();
    lists.serve("sip.txt", "185.0.0.67\n");
    let feeds = "  sip: {url: 'http://127.0.0.1:8099/sip.txt', interval: 2s}\n";
    let mut ringfence = lists.start(feeds);
    becomes(&ringfence, "sip", "ok", 1);
    let log = lists.file("notices");
    fs::write(&log, "").unwrap();
    let action = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/fail2ban/ringfence.conf");
    let (binary, socket) = (ringfence::built().unwrap(), ringfence.client().socket().to_owned());
    let command = format!("{} --socket {}", binary.display(), socket.display());
    let line = format!("ringfence[scope=sip, ringfence=\"{command}\"]");
    let action = (&*action, &*line);
    let fail2ban =
        Fail2ban::start_with_action(&lists.hosts.pbx, &cache().unwrap(), &log, action).unwrap();
    let tell = |verb: &str, place: usize| {
        let address = LISTED[place].to_string();
        assert!(fail2ban.command(&["set", "asterisk-wazo", verb, &address]).unwrap());
    };
    let its = ("manual".to_owned(), "fail2ban: asterisk-wazo".to_owned());
    let listed = ("feed:sip".to_owned(), "listed by the feed sip".to_owned());
    tell("banip", 0);
    tell("banip", 1);
    let is = |place: usize, expected: &[(String, String)]| {
        let done = until(SOON, || {
            let found = bans(&ringfence, LISTED[place]);
            found.len() == expected.len() && expected.iter().all(|ban| found.contains(ban))
        });
        assert!(done, "{:?}\n{}", bans(&ringfence, LISTED[place]), fail2ban.log());
    };
    is(0, std::slice::from_ref(&its));
    is(1, &[its, listed.clone()]);
    assert!(!lists.reaches(0, SIP_PORT) && lists.reaches(0, OTHER_PORT));
    // Its unban leaves the other ban.
    tell("unbanip", 0);
    tell("unbanip", 1);
    is(0, &[]);
    is(1, &[listed]);
    assert!(lists.reaches(0, SIP_PORT) && !lists.reaches(1, SIP_PORT));
    assert!(!fail2ban.log().contains("ERROR"), "{}", fail2ban.log());
    drop(fail2ban);
    ringfence.stop().unwrap();
    drop((ringfence, lists));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package crowdsec"]
fn the_decisions_of_crowdsec_are_enforced() {
    let lists = Lists::new();
    let host = &lists.hosts.pbx;
    let mut crowdsec = Crowdsec::start(host, &cache().unwrap()).unwrap();
    let cscli = |crowdsec: &Crowdsec, line: &str| {
        crowdsec.cscli(host, &line.split(' ').collect::<Vec<_>>()).unwrap()
    };
    let key = lists.file("crowdsec.key");
    fs::write(&key, cscli(&crowdsec, "bouncers add ringfence -o raw")).unwrap();
    cscli(&crowdsec, "decisions add --ip 185.0.0.66 --duration 1h");
    cscli(&crowdsec, "decisions add --ip 185.0.0.70 --duration 1h --type captcha");
    let feeds = format!(
        "  crowdsec: {{url: 'http://127.0.0.1:8080', format: crowdsec, interval: 2s, scope: all, key_file: {}}}\n",
        key.display()
    );
    let mut ringfence = lists.start(&feeds);
    becomes(&ringfence, "crowdsec", "ok", 1);
    assert!(
        !lists.reaches(0, SIP_PORT) && !lists.reaches(0, OTHER_PORT) && lists.reaches(1, SIP_PORT)
    );
    // New decisions, and one that is deleted.
    cscli(&crowdsec, "decisions add --range 185.0.0.68/31 --duration 1h");
    cscli(&crowdsec, "decisions delete --ip 185.0.0.66");
    assert!(until(SOON, || lists.reaches(0, SIP_PORT) && !lists.reaches(2, SIP_PORT)));
    becomes(&ringfence, "crowdsec", "ok", 1);
    // While it is down, what was decided stays in force, also after a restart.
    crowdsec.stop().unwrap();
    becomes(&ringfence, "crowdsec", "failing", 1);
    ringfence.kill().unwrap();
    ringfence.restart(host).unwrap();
    becomes(&ringfence, "crowdsec", "failing", 1);
    assert!(!lists.reaches(2, SIP_PORT));
    crowdsec.start_again(host).unwrap();
    cscli(&crowdsec, "decisions add --ip 185.0.0.67 --duration 1h");
    becomes(&ringfence, "crowdsec", "ok", 2);
    assert!(!lists.reaches(1, SIP_PORT) && !lists.reaches(2, SIP_PORT));
    ringfence.stop().unwrap();
    drop((ringfence, crowdsec, lists));
    nothing_is_left().unwrap();
}

/// The addresses of the alerts by Ringfence, and of the decisions that are in force.
fn at_crowdsec(crowdsec: &Crowdsec, host: &Netns) -> [Vec<String>; 2] {
    let list = |what: &str| -> Value {
        let text = crowdsec.cscli(host, &[what, "list", "-a", "-o", "json"]).unwrap();
        serde_json::from_str(&text).unwrap()
    };
    let sources = |of: &Value, is: &dyn Fn(&Value) -> bool| -> Vec<String> {
        let rows = of.as_array().into_iter().flatten().filter(|row| is(row));
        let mut found: Vec<String> =
            rows.map(|row| row["source"]["value"].as_str().unwrap().to_owned()).collect();
        found.sort_unstable();
        found
    };
    let is_own = |row: &Value| row["scenario"].as_str().unwrap().starts_with("ringfence/");
    [sources(&list("alerts"), &is_own), sources(&list("decisions"), &|_| true)]
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package crowdsec"]
fn crowdsec_is_told_of_bans_and_they_do_not_come_back() {
    let lists = Lists::new();
    let host = &lists.hosts.pbx;
    let mut crowdsec = Crowdsec::start(host, &cache().unwrap()).unwrap();
    let cscli = |crowdsec: &Crowdsec, line: &str| {
        crowdsec.cscli(host, &line.split(' ').collect::<Vec<_>>()).unwrap()
    };
    let (config, logs) = lists.with_crowdsec(&crowdsec, "");
    let mut ringfence = Ringfence::start(host, &ringfence::built().unwrap(), &config).unwrap();
    becomes(&ringfence, "crowdsec", "ok", 0);
    let tell = |ringfence: &Ringfence, line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        ringfence.client().run(&words, false).unwrap().success(line).unwrap();
    };
    let has = |crowdsec: &Crowdsec, ringfence: &Ringfence, alerts: &[&str], decisions: &[&str]| {
        let is = until(SOON, || at_crowdsec(crowdsec, host) == [alerts, decisions]);
        let actions: Value = ringfence.client().ask(&["alerts"]).unwrap();
        assert!(is, "{:?}\n{actions}\n{}", at_crowdsec(crowdsec, host), ringfence.log());
    };
    // A test logs in, and tells of nothing.
    tell(&ringfence, "alerts test tell");
    has(&crowdsec, &ringfence, &[], &[]);
    // A ban by hand, and one of a jail.
    tell(&ringfence, "ban 185.0.0.66 --for 1h");
    let mut failures = String::new();
    for n in 0..6 {
        let line = "Failed password for root from 185.0.0.67 port";
        writeln!(failures, "Nov 29 04:40:0{n} pbx sshd[{n}]: {line} 4{n} ssh2").unwrap();
    }
    fs::write(logs.join("auth.log"), failures).unwrap();
    let both = ["185.0.0.66", "185.0.0.67"];
    has(&crowdsec, &ringfence, &both, &both);
    // What CrowdSec decides is not told to it, and what it was told is not taken from it.
    cscli(&crowdsec, "decisions add --ip 185.0.0.68 --duration 1h");
    becomes(&ringfence, "crowdsec", "ok", 1);
    assert!(!lists.reaches(2, SIP_PORT));
    let all = ["185.0.0.66", "185.0.0.67", "185.0.0.68"];
    has(&crowdsec, &ringfence, &both, &all);
    let of_feed: Value = ringfence.client().ask(&["bans", "--jail", "feed:crowdsec"]).unwrap();
    assert_eq!(of_feed["bans"][0]["network"], "185.0.0.68");
    // While it is down, a ban does not wait for it. It is told later, and of the end of another.
    crowdsec.stop().unwrap();
    tell(&ringfence, "ban 185.0.0.70/31 --for 1h");
    tell(&ringfence, "unban 185.0.0.66");
    let problem = || ringfence.client().ask::<Value>(&["alerts"]).unwrap()["actions"][0].clone();
    assert!(until(SOON, || problem()["problem"].is_string()), "{}", problem());
    assert!(lists.reaches(0, SIP_PORT));
    crowdsec.start_again(host).unwrap();
    let told = ["185.0.0.66", "185.0.0.67", "185.0.0.70/31"];
    has(&crowdsec, &ringfence, &told, &["185.0.0.67", "185.0.0.68", "185.0.0.70/31"]);
    becomes(&ringfence, "crowdsec", "ok", 1);
    ringfence.stop().unwrap();
    drop((ringfence, crowdsec, lists));
    nothing_is_left().unwrap();
}

/// Everything that a decision of `CrowdSec` and a ban of this host about one address lead to.
#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package crowdsec"]
fn crowdsec_and_a_jail_ban_one_address_without_a_circle() {
    const PORT: u16 = 8081;
    let lists = Lists::new();
    let host = &lists.hosts.pbx;
    let crowdsec = Crowdsec::start(host, &cache().unwrap()).unwrap();
    let lossy = Lossy::start(host, PORT).unwrap();
    let cscli = |line: &str| crowdsec.cscli(host, &line.split(' ').collect::<Vec<_>>()).unwrap();
    let (config, logs) = lists.with_crowdsec(&crowdsec, &format!(" -u http://127.0.0.1:{PORT}"));
    let mut ringfence = Ringfence::start(host, &ringfence::built().unwrap(), &config).unwrap();
    becomes(&ringfence, "crowdsec", "ok", 0);
    // The answer to the alert is lost, so it is sent again, but is there once.
    lossy.lose();
    let mut failures = String::new();
    for n in 0..6 {
        let line = "Failed password for root from 185.0.0.66 port";
        writeln!(failures, "Nov 29 04:40:0{n} pbx sshd[{n}]: {line} 4{n} ssh2").unwrap();
    }
    fs::write(logs.join("auth.log"), failures).unwrap();
    let action = || ringfence.client().ask::<Value>(&["alerts"]).unwrap()["actions"][0].clone();
    let is_told =
        || !lossy.will_lose() && action()["problem"].is_null() && action()["waiting"] == 0;
    assert!(until(SOON, is_told), "{}\n{}", action(), ringfence.log());
    let one = || [vec!["185.0.0.66".to_owned()], vec!["185.0.0.66".to_owned()]];
    assert_eq!(at_crowdsec(&crowdsec, host), one(), "{}", ringfence.log());
    // The stream has it too, and nothing follows from that.
    let fetches = || requests(&crowdsec);
    let until_fetched_again = || {
        let before = fetches();
        assert!(until(SOON, || fetches() >= before + 3), "{}", crowdsec.log());
    };
    let ban = |jail: &str| -> Option<Value> {
        let why = ringfence.client().why(LISTED[0]).unwrap();
        why["bans"].as_array().unwrap().iter().find(|ban| ban["jail"] == jail).cloned()
    };
    let by_jail = ban("sshd").unwrap();
    let until_when = by_jail["until"].clone();
    until_fetched_again();
    assert_eq!((ban("feed:crowdsec"), &ban("sshd").unwrap()["until"]), (None, &until_when));
    // CrowdSec decides on the same address, and for longer: two bans, each with its end, of which it is told once.
    cscli("decisions add --ip 185.0.0.66 --duration 9h");
    becomes(&ringfence, "crowdsec", "ok", 1);
    let by_feed = ban("feed:crowdsec").unwrap()["until"].clone();
    until_fetched_again();
    assert_eq!(ban("sshd").unwrap()["until"], until_when);
    assert_eq!(ban("feed:crowdsec").unwrap()["until"], by_feed);
    assert_eq!(at_crowdsec(&crowdsec, host)[0], ["185.0.0.66"]);
    let metrics = ringfence.client().run(&["metrics"], false).unwrap();
    let metrics = metrics.success("metrics").unwrap().stdout;
    assert!(metrics.contains("ringfence_bans_made_total{jail=\"sshd\"} 1.0\n"), "{metrics}");
    // Each ban ends by itself.
    ringfence.client().run(&["unban", "185.0.0.66"], false).unwrap().success("unban").unwrap();
    assert!(until(SOON, || ban("sshd").is_none()));
    let only_crowdsecs = [vec!["185.0.0.66".to_owned()], vec!["185.0.0.66".to_owned()]];
    assert!(until(SOON, || at_crowdsec(&crowdsec, host) == only_crowdsecs));
    ringfence.stop().unwrap();
    drop((ringfence, lossy, crowdsec, lists));
    nothing_is_left().unwrap();
}

/// How often the decisions were asked for.
fn requests(crowdsec: &Crowdsec) -> usize {
    crowdsec.log().matches("GET /v1/decisions/stream").count()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package crowdsec"]
fn what_crowdsec_must_not_decide_is_not_banned() {
    let lists = Lists::new();
    let host = &lists.hosts.pbx;
    let log = lists.file("site.log");
    fs::write(&log, "").unwrap();
    let [decided, by_parser, by_postoverflow] = LISTED.map(|address| address.to_string());
    let reads = Reads { log: &log, parser: &by_parser, postoverflow: &by_postoverflow };
    let crowdsec = Crowdsec::start_with(host, &cache().unwrap(), Some(reads)).unwrap();
    let cscli = |line: &str| crowdsec.cscli(host, &line.split(' ').collect::<Vec<_>>()).unwrap();
    let key = lists.file("crowdsec.key");
    fs::write(&key, cscli("bouncers add ringfence -o raw")).unwrap();
    let feeds = format!(
        "  crowdsec: {{url: 'http://127.0.0.1:8080', format: crowdsec, interval: 2s, key_file: {}}}\n",
        key.display()
    );
    let mut ringfence = lists.start(&feeds);
    becomes(&ringfence, "crowdsec", "ok", 0);
    // One line of each, that of the others first.
    let lines = format!("failed {by_parser}\nfailed {by_postoverflow}\nfailed {decided}\n");
    fs::write(&log, lines).unwrap();
    let is_banned = || feed(&ringfence, "crowdsec")["banned"] == 1;
    assert!(until(SOON, is_banned), "{}\n{}", feed(&ringfence, "crowdsec"), crowdsec.log());
    let spared = format!("Ban for {by_postoverflow} whitelisted");
    assert!(until(SOON, || crowdsec.log().contains(&spared)), "{}", crowdsec.log());
    let reach = || [0, 1, 2].map(|place| lists.reaches(place, SIP_PORT));
    assert_eq!(reach(), [false, true, true], "{}", crowdsec.log());
    // A whitelist takes nothing back: a decision made before stays until it is deleted.
    cscli(&format!("decisions add --ip {by_parser} --duration 1h"));
    becomes(&ringfence, "crowdsec", "ok", 2);
    assert_eq!(reach(), [false, false, true]);
    for address in [&decided, &by_parser] {
        cscli(&format!("decisions delete --ip {address}"));
    }
    becomes(&ringfence, "crowdsec", "ok", 0);
    assert_eq!(reach(), [true; 3]);
    ringfence.stop().unwrap();
    drop((ringfence, crowdsec, lists));
    nothing_is_left().unwrap();
}

/// A banned source sends all the while, and each kind of difference that keeps it lets nothing of it through.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn no_packet_passes_while_a_list_changes() {
    const EACH: u32 = 20_000;
    let lists = Lists::new();
    // It is in the first list as an address, and between others.
    let text = |shift: u32, also: &str| -> String {
        let first = u32::from(Ipv4Addr::new(40, 0, 0, 0));
        let others =
            (shift..shift + EACH).map(|n| Ipv4Addr::from(first + n * 7).to_string() + "\n");
        others.collect::<String>() + also
    };
    let wide = "185.0.0.0/25\n";
    let listed = format!("{}\n", LISTED[0]);
    let count = |ringfence: &Ringfence, banned: u32| {
        let is = until(SOON, || feed(ringfence, "a")["banned"] == banned);
        assert!(is, "{}\n{}", feed(ringfence, "a"), ringfence.log());
    };
    lists.serve("a.txt", &text(0, ""));
    let settings = |more: &str| {
        format!("feeds:\n  a: {{url: 'http://127.0.0.1:8099/a.txt', interval: 2s{more}}}\n")
    };
    let mut ringfence = lists.start(&settings("").replace("feeds:\n", ""));
    count(&ringfence, EACH);
    let target = (PBX, SIP_PORT).into();
    let stream = Stream::start(&lists.hosts.attacker, LISTED[0], target, 1000).unwrap();
    assert!(until(SOON, || stream.counts().1 > 0), "it would pass if it were not banned");
    lists.serve("a.txt", &text(0, &listed));
    count(&ringfence, EACH + 1);
    assert!(until(SOON, || !lists.reaches(0, SIP_PORT)));
    let (sent, passed) = stream.counts();
    // Others come and go around it.
    for shift in [EACH / 10, EACH / 5] {
        lists.serve("a.txt", &text(shift, &format!("{listed}185.0.1.{}\n", shift / 1000)));
        let last = Ipv4Addr::new(185, 0, 1, u8::try_from(shift / 1000).unwrap());
        assert!(until(SOON, || !bans(&ringfence, last.into()).is_empty()), "{}", ringfence.log());
        count(&ringfence, EACH + 2);
    }
    // A network takes its place, and gives it back.
    for (also, banned) in [(wide, EACH + 1), (&*listed, EACH + 1)] {
        let mark = format!("{also}185.0.2.{}\n", also.len());
        lists.serve("a.txt", &text(EACH / 5, &mark));
        let last = Ipv4Addr::new(185, 0, 2, u8::try_from(also.len()).unwrap());
        assert!(until(SOON, || !bans(&ringfence, last.into()).is_empty()), "{}", ringfence.log());
        count(&ringfence, banned + 1);
    }
    // Everything is entered anew, with another end and then another scope, and taken over by another daemon.
    let until_when = |ringfence: &Ringfence| {
        ringfence.client().why(LISTED[0]).unwrap()["until"].as_str().map(str::to_owned)
    };
    let before = until_when(&ringfence);
    for more in [", expiry: 9d", ", expiry: 9d, scope: all"] {
        ringfence.configure(|config| config.more = settings(more)).unwrap();
        let _reloaded: Value = ringfence.client().ask(&["reload"]).unwrap();
        assert!(until(SOON, || until_when(&ringfence) > before), "{}", ringfence.log());
    }
    assert!(until(SOON, || !lists.reaches(0, OTHER_PORT)), "{}", ringfence.log());
    count(&ringfence, EACH + 2);
    ringfence.restart(&lists.hosts.pbx).unwrap();
    count(&ringfence, EACH + 2);
    let (sent_by_now, passed_by_now) = stream.counts();
    assert_eq!(passed_by_now, passed, "of {} packets\n{}", sent_by_now - sent, ringfence.log());
    assert!(sent_by_now - sent > 1000, "only {} packets", sent_by_now - sent);
    ringfence.stop().unwrap();
    drop((stream, ringfence, lists));
    nothing_is_left().unwrap();
}

/// What `status --check` says.
fn check(ringfence: &Ringfence) -> String {
    let told = ringfence.client().run(&["status", "--check"], false).unwrap();
    told.stdout
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn other_settings_take_effect_with_a_reload() {
    let lists = Lists::new();
    lists.serve("a.txt", "185.0.0.66\n185.0.0.67\n");
    lists.serve("b.txt", "185.0.0.67\n185.0.0.68\n");
    lists.serve("stall.txt", "185.0.0.68\n");
    fs::write(lists.file("stall.txt.how"), "stall").unwrap();
    let feed = |list: &str, more: &str| {
        format!("feeds:\n  a: {{url: 'http://127.0.0.1:8099/{list}', interval: 2s{more}}}\n")
    };
    let mut ringfence = lists.start(&feed("a.txt", "").replace("feeds:\n", ""));
    becomes(&ringfence, "a", "ok", 2);
    let reload = |ringfence: &mut Ringfence, settings: String| -> Value {
        ringfence.configure(|config| config.more = settings).unwrap();
        ringfence.client().ask(&["reload"]).unwrap()
    };
    let waits = |reloaded: &Value| -> Vec<bool> {
        let changes = reloaded["changes"].as_array().unwrap().iter();
        changes.map(|change| change["needs_restart"].as_bool().unwrap()).collect()
    };
    // A scope that closes more, and a dry run.
    assert!(!lists.reaches(0, SIP_PORT) && lists.reaches(0, OTHER_PORT));
    assert_eq!(waits(&reload(&mut ringfence, feed("a.txt", ", scope: all"))), [false]);
    assert!(until(SOON, || !lists.reaches(0, OTHER_PORT) && !lists.reaches(1, SIP_PORT)));
    becomes(&ringfence, "a", "ok", 2);
    assert_eq!(waits(&reload(&mut ringfence, feed("a.txt", ", dry_run: true"))), [false, false]);
    becomes(&ringfence, "a", "ok", 0);
    assert!(lists.reaches(0, SIP_PORT) && lists.reaches(0, OTHER_PORT));
    // Another list, also while a server keeps the feed waiting.
    reload(&mut ringfence, feed("stall.txt", ""));
    let requests = || fs::read_to_string(lists.file("requests")).unwrap();
    assert!(until(SOON, || requests().contains("stall.txt")), "{}", requests());
    reload(&mut ringfence, feed("b.txt", ""));
    becomes(&ringfence, "a", "ok", 2);
    assert!(
        lists.reaches(0, SIP_PORT) && !lists.reaches(1, SIP_PORT) && !lists.reaches(2, SIP_PORT)
    );
    // It is fetched as before.
    lists.serve("b.txt", "185.0.0.66\n185.0.0.67\n");
    assert!(until(SOON, || !lists.reaches(0, SIP_PORT) && lists.reaches(2, SIP_PORT)));
    // A new feed waits for a restart, and the reload says so.
    let more = feed("b.txt", "") + "  c: {url: 'http://127.0.0.1:8099/a.txt'}\n";
    let reloaded = reload(&mut ringfence, more);
    assert!(!waits(&reloaded).is_empty() && waits(&reloaded).iter().all(|waits| *waits));
    ringfence.restart(&lists.hosts.pbx).unwrap();
    becomes(&ringfence, "c", "ok", 2);
    becomes(&ringfence, "a", "ok", 2);
    ringfence.stop().unwrap();
    drop((ringfence, lists));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn servers_that_stall_delay_nothing() {
    let lists = Lists::new();
    for (name, how) in [("stall.txt", "stall"), ("trickle.txt", "trickle")] {
        lists.serve(name, "185.0.0.66\n");
        fs::write(lists.file(&format!("{name}.how")), how).unwrap();
    }
    lists.serve("good.txt", "185.0.0.67\n");
    let feeds: String = ["stall", "trickle", "good"]
        .map(|name| {
            format!("  {name}: {{url: 'http://127.0.0.1:8099/{name}.txt', interval: 2s}}\n")
        })
        .concat();
    let mut ringfence = lists.start(&feeds);
    // A feed and a ban by hand do not wait for them, nor does a list that changes.
    becomes(&ringfence, "good", "ok", 1);
    let client = ringfence.client();
    client.run(&["ban", "185.0.0.68"], false).unwrap().success("ban").unwrap();
    assert!(!lists.reaches(1, SIP_PORT) && !lists.reaches(2, SIP_PORT));
    lists.serve("good.txt", "185.0.0.66\n");
    assert!(until(SOON, || lists.reaches(1, SIP_PORT) && !lists.reaches(0, SIP_PORT)));
    for name in ["stall", "trickle"] {
        becomes(&ringfence, name, "failing", 0);
    }
    let said = check(&ringfence);
    assert!(said.contains("the feed stall is failing: "), "{said}");
    let metrics = client.run(&["metrics"], false).unwrap().success("metrics").unwrap().stdout;
    for line in ["ringfence_feed_up{feed=\"stall\"} 0", "ringfence_feed_up{feed=\"good\"} 1"] {
        assert!(metrics.contains(line), "{metrics}");
    }
    for name in ["stall.txt.how", "trickle.txt.how"] {
        fs::remove_file(lists.file(name)).unwrap();
    }
    becomes(&ringfence, "stall", "ok", 1);
    becomes(&ringfence, "trickle", "ok", 1);
    let said = check(&ringfence);
    assert!(!said.contains("feed"), "{said}");
    ringfence.stop().unwrap();
    drop((ringfence, lists));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_list_that_goes_wrong_changes_nothing() {
    let lists = Lists::new();
    lists.serve("a.txt", &many(100));
    let feeds = "  a: {url: 'http://127.0.0.1:8099/a.txt', interval: 2s}\n";
    let mut ringfence = lists.start(feeds);
    becomes(&ringfence, "a", "ok", 100);
    for how in [
        "cut",
        "bomb",
        "status 500",
        "redirect file:///etc/passwd",
        "redirect http://127.0.0.1:8099/b",
    ] {
        fs::write(lists.file("a.txt.how"), how).unwrap();
        becomes(&ringfence, "a", "failing", 100);
        fs::remove_file(lists.file("a.txt.how")).unwrap();
        becomes(&ringfence, "a", "ok", 100);
    }
    // One that shrinks or covers the world is refused.
    for wrong in [many(49), "20.0.0.0/8\n30.0.0.0/8\n".to_owned(), "# empty\n".to_owned()] {
        lists.serve("a.txt", &wrong);
        becomes(&ringfence, "a", "refused", 100);
        assert!(!lists.reaches(0, SIP_PORT));
    }
    let client = ringfence.client();
    lists.serve("a.txt", &many(40));
    let problem = || feed(&ringfence, "a")["problem"].to_string();
    assert!(until(SOON, || problem().contains("to 40")), "{}", problem());
    client.run(&["feeds", "confirm", "a"], false).unwrap().success("confirm").unwrap();
    becomes(&ringfence, "a", "ok", 40);
    assert!(client.run(&["feeds", "confirm", "a"], false).unwrap().success("confirm").is_err());
    ringfence.stop().unwrap();
    drop((ringfence, lists));
    nothing_is_left().unwrap();
}

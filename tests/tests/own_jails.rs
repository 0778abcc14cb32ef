//! A jail of the administrator's own, with a fail2ban filter: its logs appear, rotate and disappear, and
//! so does the jail.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::IpAddr;
use std::os::unix::fs::symlink;
use std::path::PathBuf;
use std::time::Duration;

use ringfence_tests::ringfence::{Config, Ringfence, built};
use ringfence_tests::world::{ATTACKERS, Echo, Hosts, OTHER_PORT, tcp_reaches, until};
use serde_json::Value;
use tempfile::TempDir;

/// The time limit from a line in the log to the ban on a busy machine.
const SOON: Duration = Duration::from_secs(20);

/// The time limit for noticing a new log.
const LOOK: Duration = Duration::from_secs(20);

const FILTER: &str = "[Definition]
failregex = ^\\S+ \\[error\\] user \"<F-USER>[^\"]*</F-USER>\": password mismatch, client: <HOST>$
ignoreregex = user \"monitor\"
";

/// The controller, with a jail `my-web` in addition to the built-in ones.
struct Bench {
    ringfence: Ringfence,
    _echo: Echo,
    hosts: Hosts,
    logs: TempDir,
}

impl Bench {
    fn new() -> Self {
        let logs = tempfile::tempdir().unwrap();
        fs::write(logs.path().join("web.conf"), FILTER).unwrap();
        let hosts = Hosts::new().unwrap();
        let echo = Echo::start(&hosts.pbx).unwrap();
        let config = Config::new(&logs.path().join("notice"));
        let ringfence = Ringfence::start(&hosts.pbx, &built().unwrap(), &config).unwrap();
        Self { ringfence, _echo: echo, hosts, logs }
    }

    fn conf_d(&self) -> PathBuf {
        self.ringfence.config_file().parent().unwrap().join("conf.d")
    }

    fn configure(&mut self) {
        let logs = self.logs.path().display();
        let jail = format!(
            "jails:\n  my-web:\n    filter: {logs}/web.conf\n    log: [\"{logs}/*error.log\"]\n    \
             maxretry: 3\n    proven: true\n"
        );
        fs::write(self.conf_d().join("50-web.yml"), jail).unwrap();
        self.ringfence.restart(&self.hosts.pbx).unwrap();
    }

    fn forget(&mut self) {
        fs::remove_file(self.conf_d().join("50-web.yml")).unwrap();
        self.ringfence.restart(&self.hosts.pbx).unwrap();
    }

    fn fail(&self, log: &str, source: IpAddr, times: u32) {
        let path = self.logs.path().join(log);
        let mut log = OpenOptions::new().create(true).append(true).open(path).unwrap();
        let now = jiff::Timestamp::now();
        for _ in 0..times {
            writeln!(log, "{now} [error] user \"x\": password mismatch, client: {source}").unwrap();
        }
        let now = jiff::Timestamp::now();
        writeln!(log, "{now} [error] user \"monitor\": password mismatch, client: {source}")
            .unwrap();
        log.write_all(b"\xff\xfe no line of it\n").unwrap();
    }

    /// The jail that has banned an address.
    fn jail_of(&self, source: IpAddr) -> Option<String> {
        let bans = self.ringfence.bans().unwrap();
        bans.into_iter().find(|ban| ban.address() == Some(source)).and_then(|ban| ban.jail)
    }

    fn banned(&self, source: IpAddr, within: Duration) -> bool {
        until(within, || self.jail_of(source).as_deref() == Some("my-web"))
    }

    fn reaches(&self, source: IpAddr) -> bool {
        tcp_reaches(&self.hosts.attacker, source, OTHER_PORT)
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        self.ringfence.client().ask(arguments).unwrap()
    }

    /// The lines that were read from each log, by its name.
    fn sources(&self) -> Vec<(String, String, u64)> {
        let status = self.ask(&["status"]);
        let sources = status["sources"].as_array().unwrap().iter();
        let own = sources.filter(|source| source["name"] == "my-web");
        let mut own: Vec<_> = own
            .map(|source| {
                let place = source["place"].as_str().unwrap().rsplit('/').next().unwrap();
                let state = source["state"].as_str().unwrap();
                (place.to_owned(), state.to_owned(), source["failures"].as_u64().unwrap())
            })
            .collect();
        own.sort();
        own
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_jail_of_ones_own_comes_works_and_goes() {
    let mut bench = Bench::new();
    let [first, second, third, fourth, ..] = ATTACKERS;
    let ok = |name: &str, failures| (name.to_owned(), "ok".to_owned(), failures);

    // Earlier lines in a log do not count.
    bench.fail("a-error.log", fourth, 3);
    bench.configure();
    assert!(until(SOON, || bench.sources() == [ok("a-error.log", 0)]), "{:?}", bench.sources());
    bench.fail("a-error.log", first, 2);
    assert!(until(SOON, || bench.sources() == [ok("a-error.log", 2)]), "{:?}", bench.sources());
    assert!(bench.jail_of(first).is_none() && bench.reaches(first));
    bench.fail("a-error.log", first, 1);
    assert!(bench.banned(first, SOON), "{}", bench.ringfence.log());
    assert!(!bench.reaches(first) && bench.reaches(second));
    let bans = bench.ask(&["bans", "--jail", "my-web"]);
    assert_eq!(bans["bans"][0]["scope"], "all", "{bans}");
    let jails = bench.ask(&["jails"]);
    let jail = jails["jails"].as_array().unwrap().iter().find(|jail| jail["name"] == "my-web");
    assert_eq!(jail.unwrap()["banned"], 1, "{jails}");
    let why = bench.ask(&["why", &first.to_string()]);
    assert_eq!(why["evidence"][0]["source"], "my-web", "{why}");
    assert_eq!(why["evidence"][0]["account"], "x", "{why}");

    // A new log is read from its beginning, and a rotated one from its last position.
    bench.fail("b-error.log", second, 3);
    let log = |name: &str| bench.logs.path().join(name);
    fs::rename(log("a-error.log"), log("a-error.log.1")).unwrap();
    bench.fail("a-error.log", third, 2);
    assert!(bench.banned(second, LOOK), "{}", bench.ringfence.log());
    let read = [ok("a-error.log", 5), ok("b-error.log", 3)];
    assert!(until(SOON, || bench.sources() == read), "{:?}", bench.sources());

    // Bans are lifted for one address and for the whole jail.
    let lifted = bench.ringfence.client().run(&["unban", &first.to_string()], false).unwrap();
    assert!(lifted.success("unban").is_ok());
    assert!(bench.jail_of(first).is_none() && bench.reaches(first));

    // After a restart, reading continues at the last position.
    bench.ringfence.stop().unwrap();
    bench.fail("a-error.log", third, 3);
    bench.fail("c-error.log", fourth, 3);
    bench.ringfence.restart(&bench.hosts.pbx).unwrap();
    assert!(bench.banned(third, SOON), "{}", bench.ringfence.log());
    assert!(bench.banned(fourth, SOON), "{}", bench.ringfence.log());
    assert!(bench.banned(second, SOON) && bench.jail_of(first).is_none());
    assert!(bench.sources().contains(&ok("a-error.log", 3)), "{:?}", bench.sources());

    // A log that is gone is no longer a source.
    fs::remove_file(log("b-error.log")).unwrap();
    let gone = || !bench.sources().iter().any(|(name, ..)| name == "b-error.log");
    assert!(until(2 * LOOK, gone), "{:?}", bench.sources());

    // Without the jail its bans remain, under its name, until they are lifted.
    bench.forget();
    for source in [second, third, fourth] {
        assert_eq!(bench.jail_of(source).as_deref(), Some("my-web"));
        assert!(!bench.reaches(source));
    }
    bench.fail("a-error.log", first, 5);
    let lifted = bench.ringfence.client().run(&["unban", "--jail", "my-web"], false).unwrap();
    assert!(lifted.success("unban").unwrap().stdout.contains("lifted 3 bans"));
    assert!([first, second, third, fourth].iter().all(|source| bench.reaches(*source)));
    bench.ringfence.detach().unwrap();
}

/// Two logs are written faster than a filter that takes milliseconds for a line can read them; one of
/// them is behind a link. The other jail still bans in time, and the daemon answers and reports the lines
/// that it leaves out.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_filter_that_is_slow_holds_up_nobody() {
    const LINES: usize = 200;
    let mut bench = Bench::new();
    let logs = bench.logs.path().to_owned();
    let filter = "[Definition]\nfailregex = (?=(x+x+)+y)\\1z <HOST>$\n";
    fs::write(logs.join("slow.conf"), filter).unwrap();
    let jail =
        format!("jails: {{slow: {{filter: {0}/slow.conf, log: [{0}/slow-*]}}}}\n", logs.display());
    fs::write(bench.conf_d().join("60-slow.yml"), jail).unwrap();
    fs::create_dir(logs.join("elsewhere")).unwrap();
    for log in ["slow-1", "elsewhere/2", "a-error.log"] {
        fs::write(logs.join(log), "").unwrap();
    }
    symlink(logs.join("elsewhere/2"), logs.join("slow-2")).unwrap();
    bench.configure();
    let slow = |bench: &Bench| -> Vec<Value> {
        let status = bench.ask(&["status"]);
        let sources = status["sources"].as_array().unwrap().iter();
        sources.filter(|source| source["name"] == "slow").cloned().collect()
    };
    let reads = |source: &Value| source["state"] == "ok";
    assert!(until(SOON, || slow(&bench).len() == 2 && slow(&bench).iter().all(reads)));
    assert!(until(SOON, || bench.sources().iter().all(|(_, state, _)| state == "ok")));
    for (second, source) in ATTACKERS.into_iter().take(4).enumerate() {
        for log in ["slow-1", "slow-2"] {
            let mut log = OpenOptions::new().append(true).open(logs.join(log)).unwrap();
            log.write_all(format!("{}\n", "x".repeat(4000)).repeat(LINES).as_bytes()).unwrap();
        }
        bench.fail("a-error.log", source, 3);
        assert!(bench.banned(source, SOON), "in round {second}: {}", bench.ringfence.log());
    }
    let leaves_out = |source: &Value| source["left_out"].as_u64() > Some(0);
    let said = || slow(&bench).iter().all(leaves_out);
    assert!(until(2 * LOOK, said), "{:?}", slow(&bench));
    for source in slow(&bench) {
        let why = source["why"].as_str().unwrap();
        assert!(why.starts_with("its filter needs more than 10 % of a processor"), "{why}");
        let all = || slow(&bench).iter().all(|source| source["events"] == 4 * LINES);
        assert!(until(2 * LOOK, all), "{:?}", slow(&bench));
    }
    let log = bench.ringfence.log();
    assert_eq!(log.matches("its filter needs more than 10 %").count(), 2, "{log}");
    let doctor = bench.ringfence.client().run(&["doctor"], false).unwrap();
    assert!(doctor.stdout.contains("of a processor"), "{doctor:?}");
    bench.ringfence.detach().ok();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_filter_that_is_no_good_is_told_and_the_others_go_on() {
    let mut bench = Bench::new();
    fs::write(bench.logs.path().join("web.conf"), "[Definition]\nfailregex = (<HOST>\n").unwrap();
    bench.configure();
    let sources = bench.sources();
    assert_eq!(sources[0].1, "failed", "{sources:?}");
    assert!(bench.ringfence.log().contains("web.conf:2"), "{}", bench.ringfence.log());
    let config = bench.ringfence.config_file().to_owned();
    let mut command = bench.hosts.pbx.command(built().unwrap());
    let said = command.arg("-c").arg(&config).arg("check-config").output().unwrap();
    let text = String::from_utf8_lossy(&said.stderr);
    assert_eq!(said.status.code(), Some(1), "{text}");
    assert!(text.contains("50-web.yml:3: `jails.my-web.filter`"), "{text}");

    // After the filter is corrected, `test-log` reads a log like the jail.
    fs::write(bench.logs.path().join("web.conf"), FILTER).unwrap();
    bench.fail("error.log", ATTACKERS[0], 2);
    let mut command = bench.hosts.pbx.command(built().unwrap());
    let log = bench.logs.path().join("error.log");
    let said = command.arg("-c").arg(&config).args(["test-log", "my-web", "--json"]).arg(log);
    let said = String::from_utf8(said.output().unwrap().stdout).unwrap();
    let lines: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let failures = lines.iter().filter(|line| line["verdict"] == "failure");
    assert!(failures.clone().all(|line| line["proven"] == true), "{said}");
    assert_eq!(failures.count(), 2, "{said}");
    bench.ringfence.detach().ok();
}

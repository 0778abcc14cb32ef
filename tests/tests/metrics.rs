//! The metrics, as Prometheus of Debian sees them, with the rules and the dashboard that the package has.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use geo::writer::{Said, Writer};
use ringfence_tests::child::{self, OnSignal, Running};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::site::Site;
use ringfence_tests::world::{self, ATTACKERS, Hosts, until};
use ringfence_tests::{debian, scratch};
use serde_json::Value;

const LIMIT: Duration = Duration::from_mins(1);

/// `promtool` fills a database for each test of a rule, with all of two processors.
const PROMTOOL_LIMIT: Duration = Duration::from_mins(5);

fn packaging() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging")
}

fn program(name: &str) -> PathBuf {
    let package = debian::unpacked(&world::cache().unwrap(), "prometheus").unwrap();
    package.join("usr/bin").join(name)
}

fn promtool(arguments: &[&str], path: &Path) {
    let mut command = Command::new(program("promtool"));
    command.args(arguments).arg(path);
    child::finish("promtool", &mut command, PROMTOOL_LIMIT, OnSignal::Stop)
        .unwrap()
        .success(&format!("promtool {}", arguments.join(" ")))
        .unwrap();
}

#[test]
#[ignore = "fetches Debian's package prometheus"]
fn each_alert_fires_when_it_should() {
    let rules = packaging().join("prometheus/ringfence.rules.yml");
    promtool(&["check", "rules", "--lint-fatal"], &rules);
    let tests = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/ringfence.test.yml");
    promtool(&["test", "rules"], &tests);
    let (rules, tests) = (fs::read_to_string(rules).unwrap(), fs::read_to_string(tests).unwrap());
    let alerts: Vec<&str> =
        rules.lines().filter_map(|line| line.split("- alert: ").nth(1)).collect();
    assert!(alerts.len() > 10, "{alerts:?}");
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    let page = fs::read_to_string(page).unwrap();
    for alert in alerts {
        for test in [format!("name: {alert} fires\n"), format!("name: {alert} is quiet\n")] {
            assert!(tests.contains(&test), "no test `{test}`");
        }
        assert!(page.contains(&format!("| `{alert}` |")), "{alert} is not in docs/metrics.md");
    }
}

/// The queries of the dashboard, with values for its variables.
fn queries() -> Vec<String> {
    let text = fs::read_to_string(packaging().join("grafana/ringfence.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().unwrap());
    let query = |target: &Value| {
        let query = target["expr"].as_str().unwrap();
        query.replace("$instance", ".*").replace("$__rate_interval", "1m")
    };
    let queries: Vec<String> = targets.map(query).collect();
    assert!(queries.len() > 20, "{queries:?}");
    queries
}

/// A part of Grafana's schemas in `metrics/grafana`, from the Grafana Foundation SDK (Apache License 2.0).
fn check(schema: &str, part: &Value) -> Result<(), String> {
    let (file, _) = schema.split_once('#').unwrap();
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/metrics/grafana");
    let text = fs::read_to_string(directory.join(file)).unwrap();
    let mut compiler = boon::Compiler::new();
    compiler.add_resource(file, serde_json::from_str(&text).unwrap()).unwrap();
    let mut schemas = boon::Schemas::new();
    let schema = compiler.compile(schema, &mut schemas).unwrap();
    schemas.validate(part, schema).map_err(|why| format!("{schema:?}: {why:#}"))
}

#[test]
fn the_dashboard_conforms_to_grafanas_schemas() {
    const DASHBOARD: &str = "dashboard.json#/definitions/Dashboard";
    const QUERY: &str = "prometheus.json#/definitions/Dataquery";
    let text = fs::read_to_string(packaging().join("grafana/ringfence.json")).unwrap();
    let mut dashboard: Value = serde_json::from_str(&text).unwrap();
    check(DASHBOARD, &dashboard).unwrap();
    for panel in dashboard["panels"].as_array().unwrap() {
        let kind = panel["type"].as_str().unwrap();
        check(&format!("{kind}.json#/definitions/Options"), &panel["options"]).unwrap();
        if let Some(custom) = panel["fieldConfig"]["defaults"].get("custom") {
            check(&format!("{kind}.json#/definitions/FieldConfig"), custom).unwrap();
        }
        for target in panel["targets"].as_array().unwrap() {
            check(QUERY, target).unwrap();
        }
    }
    let query = dashboard["panels"][0]["targets"][0].take();
    assert!(check(QUERY, &query["expr"]).is_err(), "a mistake is found");
    dashboard["templating"]["list"][0]["name"] = 7.into();
    assert!(check(DASHBOARD, &dashboard).is_err(), "a mistake is found");
}

/// What a mistake would break, and Grafana's schemas allow.
#[test]
fn the_dashboard_is_whole() {
    let text = fs::read_to_string(packaging().join("grafana/ringfence.json")).unwrap();
    let dashboard: Value = serde_json::from_str(&text).unwrap();
    let variables: BTreeSet<&str> = dashboard["templating"]["list"]
        .as_array()
        .unwrap()
        .iter()
        .map(|variable| variable["name"].as_str().unwrap())
        .collect();
    let (mut ids, mut taken) = (BTreeSet::new(), BTreeSet::new());
    for panel in dashboard["panels"].as_array().unwrap() {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}: its id is not the only one");
        assert!(!panel["type"].as_str().unwrap().is_empty(), "{title} has no type");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title} has no unit");
        let place = |key: &str| panel["gridPos"][key].as_u64().unwrap();
        assert!(place("x") + place("w") <= 24, "{title} is beyond the edge");
        for x in place("x")..place("x") + place("w") {
            for y in place("y")..place("y") + place("h") {
                assert!(taken.insert((x, y)), "{title} covers another panel");
            }
        }
        let mut names = BTreeSet::new();
        for target in panel["targets"].as_array().unwrap() {
            assert!(names.insert(target["refId"].as_str().unwrap()), "{title}: two of a refId");
            assert_eq!(target["datasource"]["uid"], "${datasource}", "{title}");
            let query = target["expr"].as_str().unwrap();
            assert!(query.contains("instance=~\"$instance\""), "{title} shows all hosts: {query}");
        }
    }
    // Those that Grafana itself has begin with two underscores.
    for used in text.split('$').skip(1) {
        let used = used.trim_start_matches('{');
        let end = used.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap();
        let name = &used[..end];
        assert!(name.starts_with("__") || variables.contains(name), "there is no variable {name}");
    }
}

/// The names of metrics in a query or a rule.
fn names(text: &str) -> BTreeSet<&str> {
    let is_in_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = text.split(|c: char| !is_in_name(c) && c != ':');
    words.filter(|word| word.starts_with("ringfence_")).collect()
}

/// Passes each connection to a port on loopback to the control socket, because Prometheus knows no Unix
/// sockets. Returns the port.
fn bridge(socket: &Path) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let socket = socket.to_owned();
    thread::spawn(move || {
        for tcp in listener.incoming().flatten() {
            let Ok(unix) = UnixStream::connect(&socket) else { return };
            thread::spawn(move || relay(&tcp, &unix));
        }
    });
    port
}

fn relay(tcp: &TcpStream, unix: &UnixStream) -> io::Result<()> {
    let (mut request, mut into) = (tcp.try_clone()?, unix.try_clone()?);
    thread::spawn(move || io::copy(&mut request, &mut into));
    io::copy(&mut { unix }, &mut { tcp })?;
    tcp.shutdown(Shutdown::Both)
}

/// What Prometheus answers to a query.
fn ask(port: u16, query: &str) -> Option<Value> {
    let mut command = Command::new("curl");
    command.args(["--silent", "--max-time", "10", "--get", "--data-urlencode"]);
    command.arg(format!("query={query}")).arg(format!("http://127.0.0.1:{port}/api/v1/query"));
    let said = child::finish("curl", &mut command, LIMIT, OnSignal::Stop).unwrap();
    let answer: Value = serde_json::from_str(&said.stdout).ok()?;
    assert_eq!(answer["status"], "success", "{query}: {answer}");
    Some(answer["data"]["result"].clone())
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[test]
#[ignore = "requires root: network namespaces, BPF; fetches Debian's package prometheus"]
fn a_real_prometheus_answers_every_query_of_the_dashboard() {
    let directory = scratch::directory("metrics").unwrap();
    let log = directory.path().join("fail2ban");
    fs::write(&log, "").unwrap();
    let hosts = Hosts::new().unwrap();
    let mut config = Config::new(&log);
    let database = directory.path().join("country.mmdb");
    let mut countries = Writer::default();
    countries.add("185.0.1.0/24".parse().unwrap(), &Said::Country("KP".to_owned()));
    fs::write(&database, countries.bytes("Test-Country")).unwrap();
    // What is not configured has no metric.
    config.more = format!(
        "feeds: {{partners: {{url: {}}}}}\ngeo: {{databases: [{}], ban: [KP]}}\n\
         fleet: {{servers: ['nats://127.0.0.1:4222'], host: pbx-1, user: root}}\n",
        log.display(),
        database.display()
    );
    let mut daemon = Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap();
    let client = daemon.client();
    client.run(&["ban", &ATTACKERS[0].to_string()], false).unwrap().success("ban").unwrap();
    let mut to = fs::OpenOptions::new().append(true).open(&log).unwrap();
    writeln!(
        to,
        "[2026-11-22 09:32:21.1233] NOTICE[99] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
         '<sip:1001@192.0.2.66>' failed for '{}:5060' (callid: x) - Failed to authenticate",
        ATTACKERS[1]
    )
    .unwrap();

    // The textfile is what `promtool` calls valid.
    let file = directory.path().join("ringfence.prom");
    let scrape = || {
        let arguments = ["metrics", "--textfile", file.to_str().unwrap()];
        client.run(&arguments, false).unwrap().success("metrics").unwrap();
        fs::read_to_string(&file).unwrap()
    };
    assert!(until(LIMIT, || scrape().contains("ringfence_failures_total{")), "{}", scrape());
    let mut check = Command::new(program("promtool"));
    check.args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped());
    let mut check = check.spawn().unwrap();
    check.stdin.take().unwrap().write_all(scrape().as_bytes()).unwrap();
    let said = check.wait_with_output().unwrap();
    assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));

    let (port, scraped) = (free_port(), bridge(client.socket()));
    let config = directory.path().join("prometheus.yml");
    let rules = packaging().join("prometheus/ringfence.rules.yml");
    let rules = rules.canonicalize().unwrap();
    fs::write(
        &config,
        format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{}]\n\
             scrape_configs:\n- job_name: ringfence\n  static_configs:\n  - targets: ['127.0.0.1:{scraped}']\n",
            rules.display()
        ),
    )
    .unwrap();
    let said = fs::File::create(directory.path().join("log")).unwrap();
    let mut prometheus = Command::new(program("prometheus"));
    prometheus
        .arg(format!("--config.file={}", config.display()))
        .arg(format!("--storage.tsdb.path={}", directory.path().join("data").display()))
        .arg(format!("--web.listen-address=127.0.0.1:{port}"))
        .current_dir(directory.path())
        .stdout(said.try_clone().unwrap())
        .stderr(said);
    let mut prometheus = Running::spawn("prometheus", &mut prometheus).unwrap();
    let has_some = |query: &str| {
        ask(port, query).is_some_and(|found| found.as_array().is_some_and(|all| !all.is_empty()))
    };
    let log = || fs::read_to_string(directory.path().join("log")).unwrap();
    assert!(until(LIMIT, || has_some("up == 1")), "{}", log());

    // All names exist. What is only there after something has happened may have no value.
    let rules = fs::read_to_string(&rules).unwrap();
    let queries = queries();
    let recorded: BTreeSet<&str> =
        rules.lines().filter_map(|line| line.split("- record: ").nth(1)).collect();
    let expressions = rules.lines().filter_map(|line| line.split("expr: ").nth(1));
    for text in queries.iter().map(String::as_str).chain(expressions) {
        for name in names(text) {
            assert!(until(LIMIT, || has_some(name)), "{name} in `{text}` does not exist");
        }
    }
    for query in &queries {
        assert!(ask(port, query).is_some(), "{query}");
    }
    for name in recorded {
        assert!(ask(port, name).is_some(), "{name}");
    }
    for query in ["ringfence_bans{jail=\"manual\"} == 1", "ringfence_protected == 1"] {
        assert!(until(LIMIT, || has_some(query)), "{query}");
    }
    prometheus.terminate(LIMIT).unwrap();
    daemon.stop().unwrap();
}

/// The system calls of the daemon for one scrape, apart from those with which its threads wait for each other.
fn calls_of_a_scrape(site: &Site) -> usize {
    const SCRAPES: usize = 10;
    let directory = scratch::directory("strace").unwrap();
    let (traced, said) = (directory.path().join("traced"), directory.path().join("said"));
    let cache = world::cache().unwrap();
    let libraries = debian::libraries(&cache, &["libunwind8"]).unwrap();
    let mut strace =
        Command::new(debian::unpacked(&cache, "strace").unwrap().join("usr/bin/strace"));
    strace.env("LD_LIBRARY_PATH", libraries).args(["-f", "-e", "trace=!futex,epoll_wait", "-o"]);
    strace.arg(&traced).arg("-p").arg(site.ringfence.id().to_string());
    strace.stderr(fs::File::create(&said).unwrap());
    let mut strace = Running::spawn("strace", &mut strace).unwrap();
    let has = |path: &Path, text: &str| fs::read_to_string(path).unwrap_or_default().contains(text);
    assert!(until(LIMIT, || has(&said, "attached")), "{}", fs::read_to_string(&said).unwrap());
    let scrape = || {
        let mut stream = UnixStream::connect(site.ringfence.client().socket()).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: ringfence\r\n\r\n").unwrap();
        let text = io::read_to_string(stream).unwrap();
        assert!(text.contains("ringfence_build_info"), "{text}");
    };
    // Threads are attached one after the other.
    assert!(until(LIMIT, || {
        scrape();
        has(&traced, "shutdown(")
    }));
    let calls = || fs::read_to_string(&traced).unwrap().matches('(').count();
    // The daemon does other things meanwhile, more on a slow machine: the fewest count.
    let rounds = (0..10).map(|_| {
        let before = calls();
        (0..SCRAPES).for_each(|_| scrape());
        (calls() - before).div_ceil(SCRAPES)
    });
    let fewest = rounds.min().unwrap();
    strace.terminate(LIMIT).unwrap();
    fewest
}

/// A scrape does not walk through the bans in the kernel: it makes a page of system calls, however many bans there are.
#[test]
#[ignore = "requires root: network namespaces, BPF; fetches Debian's packages strace and libunwind8"]
fn a_scrape_makes_a_page_of_system_calls() {
    const BANS: u32 = 5000;
    let site = Site::new(&[]).unwrap();
    let few = calls_of_a_scrape(&site);
    let address = |number: u32| Ipv4Addr::from_bits(0xc612_0000 + number);
    let lines: Vec<String> = (0..BANS).map(|number| address(number).to_string()).collect();
    site.ban_from(&lines.join("\n")).unwrap();
    let many = calls_of_a_scrape(&site);
    println!("{few} system calls a scrape; {many} with {BANS} bans");
    assert!(few <= 60 && many <= 60, "{few} {many}");
    site.end().unwrap();
}

//! Alerts and actions with a real daemon, `curl`, an HTTPS server that checks signatures, and Debian's aiosmtpd.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use geo::writer::{Said, Writer};
use ringfence_tests::child::Running;
use ringfence_tests::packet_builder::Frame;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::wire::{Wire, hardware_address};
use ringfence_tests::world::{
    self, ATTACKERS, Echo, Hosts, PBX, SIP_PORT, nothing_is_left, udp_reaches, until,
};
use ringfence_tests::{debian, scratch};
use serde_json::Value;
use tempfile::TempDir;

const SOON: Duration = Duration::from_mins(1);

/// An account with the characters of shells, headers, JSON and templates.
const EVIL: &str = "$(touch${IFS}/tmp/evil)`id`;'\"\\r\\n%0d%0aBcc:x@y|{{7*7}}<b>&--x";

/// A REGISTER that is no retransmission of another.
fn register(number: u32) -> String {
    format!(
        "REGISTER sip:{PBX} SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.66;branch=z9hG4bK{number}\r\n\
         From: <sip:1@{PBX}>;tag=a\r\nTo: <sip:1@{PBX}>\r\nCall-ID: a{number}\r\n\
         CSeq: {number} REGISTER\r\nContent-Length: 0\r\n\r\n"
    )
}

/// A host with a server of webhooks and one of mails.
struct Site {
    hosts: Hosts,
    _echo: Echo,
    directory: TempDir,
    _servers: [Running; 2],
    binary: PathBuf,
}

impl Site {
    fn new() -> Self {
        let hosts = Hosts::new().unwrap();
        let directory = scratch::directory("alerts").unwrap();
        let file = |name: &str| directory.path().join(name);
        let (certificate, key) = (file("server.pem"), file("private.pem"));
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]);
        openssl.args(["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]);
        openssl.arg("-keyout").arg(&key).arg("-out").arg(&certificate);
        assert!(openssl.output().unwrap().status.success());
        let both = fs::read_to_string(&key).unwrap() + &fs::read_to_string(&certificate).unwrap();
        fs::write(file("both.pem"), both).unwrap();
        fs::write(file("hook.key"), "the key of the hook\nnot this line\n").unwrap();

        let mut python = hosts.pbx.command("python3");
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/alert_server.py");
        python.arg(script).arg(directory.path()).arg(file("both.pem")).arg("the key of the hook");
        let webhooks = Running::spawn("python3", python.stderr(Stdio::null())).unwrap();
        let cache = world::cache().unwrap();
        let packages =
            ["python3-aiosmtpd", "python3-attr", "python3-public", "python3-typing-extensions"];
        let packages = packages.map(|name| {
            let root = debian::unpacked(&cache, name).unwrap();
            root.join("usr/lib/python3/dist-packages").display().to_string()
        });
        let mut python = hosts.pbx.command("python3");
        python.env("PYTHONPATH", packages.join(":"));
        python.args(["-m", "aiosmtpd", "-n", "-l", "127.0.0.1:25"]);
        python.args(["-c", "aiosmtpd.handlers.Mailbox"]).arg(file("mails"));
        let mails = Running::spawn("aiosmtpd", python.stderr(Stdio::null())).unwrap();
        let listens = || {
            let said = hosts.pbx.command("ss").args(["-Hlnt"]).output().unwrap();
            let said = String::from_utf8_lossy(&said.stdout);
            [":8443 ", ":8098 ", ":25 "].iter().all(|port| said.contains(port))
        };
        assert!(until(SOON, listens), "the servers do not listen");

        // The daemon alone trusts the server's certificate, as if the host's administrator had added it.
        let binary = file("ringfence");
        let script = format!(
            "#!/bin/sh\nexec unshare -m /bin/sh -c 'mount --bind {} /etc/ssl/certs/ca-certificates.crt && \
             exec {} \"$@\"' sh \"$@\"\n",
            certificate.display(),
            ringfence::find(&ringfence::built().unwrap()).unwrap().display()
        );
        fs::write(&binary, script).unwrap();
        fs::set_permissions(&binary, fs::Permissions::from_mode(0o755)).unwrap();
        let echo = Echo::start(&hosts.pbx).unwrap();
        Self { hosts, _echo: echo, directory, _servers: [webhooks, mails], binary }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Has the server answer so.
    fn how(&self, how: &str) {
        fs::write(self.file("how"), how).unwrap();
    }

    fn hook(&self) -> String {
        let key = self.file("hook.key");
        format!("webhook: 'https://127.0.0.1:8443/hook', key_file: {}", key.display())
    }

    fn start(&self, more: &str) -> Ringfence {
        let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
        config.other_logs = Some(self.directory.path().to_owned());
        fs::write(self.file("auth.log"), "").unwrap();
        fs::write(self.file("wazo-provd.log"), "").unwrap();
        more.clone_into(&mut config.more);
        Ringfence::start(&self.hosts.pbx, &self.binary, &config).unwrap()
    }

    /// The documents that the server has taken at a path.
    fn taken(&self, at: &str) -> Vec<Value> {
        let text = fs::read_to_string(self.file("taken")).unwrap_or_default();
        let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        all.filter(|one| one["path"] == at).collect()
    }

    /// The events of all messages of an action.
    fn events(&self) -> Vec<Value> {
        let bodies = self.taken("/hook").into_iter().map(|one| body(&one));
        bodies.flat_map(|body| body["events"].as_array().unwrap().clone()).collect()
    }

    fn reaches(&self, place: usize) -> bool {
        udp_reaches(&self.hosts.attacker, ATTACKERS[place], SIP_PORT).unwrap()
    }
}

fn body(taken: &Value) -> Value {
    serde_json::from_str(taken["body"].as_str().unwrap()).unwrap()
}

fn row(ringfence: &Ringfence, name: &str) -> Value {
    let all: Value = ringfence.client().ask(&["alerts"]).unwrap();
    let rows = ["alerts", "actions"].into_iter().flat_map(|of| all[of].as_array().unwrap());
    rows.into_iter().find(|row| row["name"] == name).unwrap().clone()
}

fn ban(ringfence: &Ringfence, address: IpAddr) {
    let address = address.to_string();
    ringfence.client().run(&["ban", &address], false).unwrap().success("ban").unwrap();
}

/// Reads the mails as a mail program does: the header of each, its text and the document in it.
fn read_mails(mails: &Path) -> Vec<Value> {
    let script = "
import email, email.policy, glob, json, sys
for name in sorted(glob.glob(sys.argv[1] + '/new/*')):
    mail = email.message_from_binary_file(open(name, 'rb'), policy=email.policy.default)
    parts = [part for part in mail.walk() if not part.is_multipart()]
    text = [part.get_content() for part in parts if part.get_content_type() == 'text/plain']
    document = [part.get_content() for part in parts if part.get_content_type() == 'application/json']
    header = [[name, str(value)] for name, value in mail.items()]
    print(json.dumps({'header': header, 'text': text[0], 'document': json.loads(document[0])}))
";
    let read = Command::new("python3").args(["-c", script]).arg(mails).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let text = String::from_utf8(read.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_dead_source_is_told_by_every_way() {
    let site = Site::new();
    let told = site.file("told");
    let more = format!(
        "alerts:\n  hook: {{{hook}}}\n  wrong: {{webhook: 'https://127.0.0.1:8443/hook', events: [store]}}\n  \
         mail: {{mail: [admin@example.org], events: [source]}}\n  \
         night: {{command: [/bin/sh, -c, 'cat > {told}'], quiet: \"00:00-23:59\"}}\n",
        hook = site.hook(),
        told = told.display(),
    );
    let ringfence = site.start(&more);
    // Without a signature the server refuses.
    let test = ringfence.client().run(&["alerts", "test"], false).unwrap();
    assert_eq!(test.status.code(), Some(1), "{}", test.stdout);
    for line in [
        "hook: the webhook has taken a test message",
        "mail: the mail has taken a test message",
        "night: the command has taken a test message",
        "wrong: the webhook has failed: the server answers 401",
    ] {
        assert!(test.stdout.contains(line), "{line}: {}", test.stdout);
    }
    let one = ringfence.client().run(&["alerts", "test", "hook"], false).unwrap();
    one.success("alerts test hook").unwrap();

    // The log of Asterisk does not exist: no source of it is read.
    let of_source = || {
        let messages = site.taken("/hook").into_iter().map(|one| body(&one));
        messages.filter(|message| message["kind"] == "source").collect::<Vec<_>>()
    };
    assert!(until(SOON, || !of_source().is_empty()), "{}", ringfence.log());
    let source = of_source().remove(0);
    let critical = "critical";
    assert_eq!((&source["severity"], &source["alert"]), (&critical.into(), &"hook".into()));
    let subjects: Vec<&Value> =
        source["events"].as_array().unwrap().iter().map(|event| &event["subject"]).collect();
    assert!(subjects.contains(&&Value::from("asterisk-notice")), "{source}");
    // It is critical, so the hours do not hold it back.
    assert!(until(SOON, || fs::read_to_string(&told).unwrap_or_default().contains("critical")));
    // The first one is the test.
    let has_mail =
        || read_mails(&site.file("mails")).iter().any(|mail| mail["document"]["kind"] == "source");
    assert!(until(SOON, has_mail), "{}", ringfence.log());
    assert_eq!(row(&ringfence, "mail")["problem"], Value::Null);

    // Its end is told too, and a reload keeps what was counted.
    let before = row(&ringfence, "hook")["sent"].as_u64().unwrap();
    assert!(before >= 1);
    let listed = ringfence.client().run(&["alerts"], false).unwrap().success("alerts").unwrap();
    assert!(listed.stdout.contains("hook") && listed.stdout.contains("LAST SENT"));
    let more_file = ringfence.config_file().with_file_name("conf.d").join("more.yml");
    fs::write(&more_file, format!("{more}  new: {{syslog: true}}\n")).unwrap();
    ringfence.client().run(&["reload"], false).unwrap().success("reload").unwrap();
    assert!(until(SOON, || {
        let all: Value = ringfence.client().ask(&["alerts"]).unwrap();
        all["alerts"].as_array().unwrap().len() == 5
    }));
    assert!(row(&ringfence, "hook")["sent"].as_u64().unwrap() >= before);
    drop((ringfence, site));
    nothing_is_left().unwrap();
}

/// What happens on the host, and not only a state made up, leads to each kind of alert.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_happens_is_told_by_its_kind() {
    let site = Site::new();
    let (told, database) = (site.file("told"), site.file("country.mmdb"));
    let mut countries = Writer::default();
    for (network, country) in [("185.0.1.0/24", "FR"), ("185.0.2.0/24", "DE")] {
        countries.add(network.parse().unwrap(), &Said::Country(country.to_owned()));
    }
    fs::write(&database, countries.bytes("Test-Country")).unwrap();
    let more = format!(
        "alerts: {{all: {{command: [/bin/sh, -c, 'cat >> {told}'], group: 1s, limit: 1000}}}}\n\
         jails: {{sshd: {{maxretry: 3, guessing: {{maxretry: 4, sources: 4, each: 100}}}}}}\n\
         protect: {{ssh_sessions: false}}\n\
         trusted: [{trusted}]\n\
         escalation: {{enabled: true, ipv4: {{offenders: 3}}}}\n\
         geo: {{databases: [{database}]}}\n\
         feeds: {{partners: {{url: {none}}}}}\n\
         capacity: {{bans: 10}}\n\
         limits: {{greylist: false, shared: {{register: {{rate: 1/s, burst: 1}}}}}}\n",
        told = told.display(),
        trusted = ATTACKERS[6],
        database = database.display(),
        none = site.file("none").display(),
    );
    let ringfence = site.start(&more);
    let events = || -> Vec<(String, Value)> {
        let text = fs::read_to_string(&told).unwrap_or_default();
        let messages = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of = |message: Value| {
            let kind = message["kind"].as_str().unwrap().to_owned();
            let events = message["events"].as_array().unwrap().clone();
            events.into_iter().map(move |event| (kind.clone(), event)).collect::<Vec<_>>()
        };
        messages.flat_map(of).collect()
    };
    let is_told = |kind: &str, subject: &str, state: &str| {
        let is = |(of, event): &(String, Value)| {
            of == kind && event["subject"] == subject && event["state"] == state
        };
        let is_there = until(2 * SOON, || events().iter().any(is));
        assert!(is_there, "{kind} {subject}: {:?}\n{}", events(), ringfence.log());
    };
    let log = |line: &str, from: IpAddr| {
        let mut log = fs::OpenOptions::new().append(true).open(site.file("auth.log")).unwrap();
        let end = format!("{from} port 40000 ssh2\n");
        log.write_all(format!("Nov 22 09:43:06 pbx sshd[1234]: {line} from {end}").as_bytes())
            .unwrap();
    };
    // No log of Asterisk, and no list.
    is_told("source", "asterisk-notice", "began");
    is_told("feed", "partners", "began");
    // One account is guessed from many sources, each of which stays below `maxretry`.
    for from in [10, 11, 12, 13, 14].map(|last| IpAddr::from([203, 0, 113, last])) {
        log("Failed password for invalid user boss", from);
    }
    is_told("account", "boss", "happened");
    // Three neighbours are banned, and then their network. A trusted one is not.
    for from in [ATTACKERS[0], ATTACKERS[1], ATTACKERS[2], ATTACKERS[6]] {
        (0..4).for_each(|_| log("Failed password for root", from));
    }
    is_told("network", "192.0.2.0/24", "happened");
    is_told("protected", &ATTACKERS[6].to_string(), "happened");
    // The first country is where they are.
    log("Accepted password for boss", "185.0.1.7".parse().unwrap());
    log("Accepted password for boss", "185.0.2.7".parse().unwrap());
    is_told("country", "185.0.2.7", "happened");
    // Strangers send REGISTER as fast as they can.
    ringfence.client().run(&["unban", "--all"], false).unwrap().success("unban").unwrap();
    let hardware = hardware_address(&site.hosts.pbx).unwrap();
    let wire = Wire::of(&site.hosts.attacker).unwrap();
    let mut sent = 0_u32;
    let flood = || {
        for number in sent..sent + 20 {
            // Who is answered becomes known, so each has an address of its own.
            let source = IpAddr::from((0xb909_0000 + number).to_be_bytes());
            let frame = Frame::from(source).target_mac(hardware).payload(register(number));
            wire.send(&frame.build()).unwrap();
        }
        sent += 20;
        events().iter().any(|(kind, event)| kind == "overload" && event["state"] == "began")
    };
    let told = until(SOON, flood);
    let mut reasons = ringfence.status().unwrap().reasons;
    reasons.retain(|_, count| count.packets > 0);
    assert!(told, "{reasons:?} {:?}\n{}", events(), ringfence.log());
    // There is room for ten bans.
    for last in 0..10 {
        ban(&ringfence, IpAddr::from([198, 51, 100, last]));
    }
    is_told("capacity", "bans", "began");
    // The filter is taken away.
    let mut ip = site.hosts.pbx.command("ip");
    ip.args(["link", "del", "eth0"]);
    assert!(ip.status().unwrap().success());
    is_told("interface", "eth0", "began");
    drop((ringfence, site));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_an_attacker_writes_is_only_data() {
    let site = Site::new();
    let (document, arguments) = (site.file("document"), site.file("arguments"));
    let script = format!(
        "cat >> {}; {{ env; echo \"$@\"; tr '\\0' ' ' < /proc/self/cmdline; }} >> {}",
        document.display(),
        arguments.display()
    );
    let command = serde_json::to_string(&script).unwrap();
    let more = format!(
        "jails: {{sshd: {{maxretry: 3}}}}\n\
         alerts: {{mail: {{mail: [admin@example.org, root], events: [protected]}}}}\n\
         protect: {{ssh_sessions: false}}\n\
         trusted: [{trusted}]\n\
         actions:\n  hook: {{{hook}, events: [ban]}}\n  \
         run: {{command: [/bin/sh, -c, {command}], jails: [sshd]}}\n",
        trusted = ATTACKERS[1],
        hook = site.hook(),
    );
    let ringfence = site.start(&more);
    let fail = |address: IpAddr| {
        let mut log = fs::read_to_string(site.file("auth.log")).unwrap();
        for port in 0..4 {
            writeln!(
                log,
                "Nov 22 09:43:06 pbx sshd[1234]: Failed password for invalid user {EVIL} from {address} port 4{port}000 ssh2"
            )
            .unwrap();
        }
        fs::write(site.file("auth.log"), log).unwrap();
    };
    fail(ATTACKERS[0]);
    let network = ATTACKERS[0].to_string();
    let of = |events: Vec<Value>| events.into_iter().find(|event| event["network"] == *network);
    assert!(until(SOON, || of(site.events()).is_some()), "{}", ringfence.log());
    let event = of(site.events()).unwrap();
    assert_eq!((&event["event"], &event["jail"]), (&"ban".into(), &"sshd".into()), "{event}");
    let evidence = event["evidence"].as_array().unwrap();
    assert!(evidence.len() >= 3, "{event}");
    assert!(evidence.iter().all(|failure| failure["account"] == EVIL), "{event}");
    let hook = &site.taken("/hook")[0]["headers"];
    assert!(!hook.to_string().contains("evil"), "{hook}");

    let has_run = || fs::read_to_string(&document).is_ok_and(|text| text.contains(&network));
    assert!(until(SOON, has_run), "{}", ringfence.log());
    let text = fs::read_to_string(&document).unwrap();
    let message: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(message["events"][0]["evidence"][0]["account"], EVIL);
    let seen = fs::read_to_string(&arguments).unwrap();
    assert!(seen.contains("PATH=") && !seen.contains("evil") && !seen.contains("TMPDIR"), "{seen}");
    assert!(!Path::new("/tmp/evil").exists());

    // The trusted address fails as well, which a mail tells.
    fail(ATTACKERS[1]);
    assert!(until(SOON, || !read_mails(&site.file("mails")).is_empty()), "{}", ringfence.log());
    let mail = read_mails(&site.file("mails")).remove(0);
    assert_eq!(mail["document"]["kind"], "protected", "{mail}");
    let header = mail["header"].to_string();
    assert!(header.contains("protected") && !header.contains("evil"), "{header}");
    assert!(!header.contains("Bcc"), "{header}");
    assert!(mail["text"].as_str().unwrap().contains(&ATTACKERS[1].to_string()), "{mail}");

    // The end of a ban is told to the action that wants it.
    ringfence.client().run(&["unban", &network], false).unwrap().success("unban").unwrap();
    let is_over = || fs::read_to_string(&document).unwrap().contains("\"unban\"");
    assert!(until(SOON, is_over), "{}", ringfence.log());
    assert!(site.events().iter().all(|event| event["event"] == "ban"));
    drop((ringfence, site));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_hangs_or_fails_delays_no_ban() {
    let site = Site::new();
    let started = site.file("started");
    let more = format!(
        "actions:\n  hook: {{{hook}}}\n  hangs: {{command: [/bin/sh, -c, 'echo x >> {started}; sleep 600']}}\n  \
         fails: {{command: [/bin/sh, -c, 'echo \"no such team\" >&2; exit 3']}}\n",
        hook = site.hook(),
        started = started.display(),
    );
    site.how("stall");
    let mut ringfence = site.start(&more);
    assert!(site.reaches(0));
    let began = Instant::now();
    for (place, address) in ATTACKERS.into_iter().enumerate().take(3) {
        ban(&ringfence, address);
        assert!(!site.reaches(place));
    }
    // None waited for what hangs, which is ended after half a minute.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    let failed = || row(&ringfence, "fails")["problem"].as_str().map(str::to_owned);
    assert!(until(SOON, || failed().is_some_and(|why| why.ends_with("no such team"))));
    let check = ringfence.client().run(&["status", "--check"], false).unwrap();
    assert!(check.stdout.contains("fails is not sent"), "{}", check.stdout);
    let doctor = ringfence.doctor(&site.hosts.pbx).unwrap();
    assert!(doctor.stdout.contains("ringfence alerts test fails"), "{}", doctor.stdout);
    let hung = || row(&ringfence, "hangs")["problem"].as_str().map(str::to_owned);
    assert!(until(SOON, || hung().is_some_and(|why| why.contains("did not end within 30 s"))));
    // One at a time: five seconds after the first was killed comes the second.
    assert!(fs::read_to_string(&started).unwrap().lines().count() <= 2);
    let stalled = || row(&ringfence, "hook")["problem"].as_str().map(str::to_owned);
    assert!(until(SOON, || stalled().is_some()), "{}", ringfence.log());

    // As many bans as an attack has, while all of these fail: they are as quick as ever, and what takes them gets all.
    site.how("");
    let began = Instant::now();
    let from = site.file("list").display().to_string();
    for part in 0..10_u32 {
        let mut list = String::new();
        for n in 1000 * part..1000 * (part + 1) {
            writeln!(list, "{}", IpAddr::from((0xb900_0000 + n).to_be_bytes())).unwrap();
        }
        fs::write(site.file("list"), list).unwrap();
        ringfence.client().run(&["ban", "--from", &from], false).unwrap().success("ban").unwrap();
    }
    let took = began.elapsed();
    println!("10,000 bans took {took:?}");
    // Ten commands that each waited for what hangs would take five minutes.
    assert!(took < Duration::from_mins(2), "{took:?}");
    let is_settled = || {
        let row = row(&ringfence, "hook");
        let number = |key: &str| row[key].as_u64().unwrap();
        number("waiting") == 0 && number("events") + number("lost") == 10_003
    };
    assert!(until(3 * SOON, is_settled), "{}\n{}", row(&ringfence, "hook"), ringfence.log());
    let hook = row(&ringfence, "hook");
    println!("{hook}");
    println!("all had been passed on {:?} after the first", began.elapsed());
    assert_eq!(hook["lost"], 0, "{hook}");
    let told: BTreeSet<String> =
        site.events().iter().map(|event| event["network"].to_string()).collect();
    assert_eq!(told.len(), 10_003);
    assert_eq!(hook["problem"], Value::Null);
    let metrics = ringfence.client().run(&["metrics"], false).unwrap().success("metrics").unwrap();
    let line = r#"ringfence_alert_up{kind="action",name="fails"} 0"#;
    assert!(metrics.stdout.contains(line), "{}", metrics.stdout);

    // What still waits is not lost by a stop and a start.
    let before = row(&ringfence, "hangs")["waiting"].as_u64().unwrap();
    assert!(before > 9000, "{before}");
    ringfence.stop().unwrap();
    ringfence.restart(&site.hosts.pbx).unwrap();
    let waiting = || row(&ringfence, "hangs")["waiting"].as_u64().unwrap();
    // A message may have been given up.
    assert!(until(SOON, || (before - 100..=before).contains(&waiting())), "{before} {}", waiting());
    drop((ringfence, site));
    nothing_is_left().unwrap();
}

/// The program in the page, run as the page says, by somebody who has only the page.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_documented_report_is_sent() {
    let site = Site::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md");
    let page = fs::read_to_string(page).unwrap();
    let program = page.split("```python\n").nth(1).unwrap().split("```").next().unwrap();
    let path = site.file("ringfence-report");
    fs::write(&path, program).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(site.file("abuseipdb.key"), "k3y\n").unwrap();
    let more = format!(
        "jails: {{sshd: {{maxretry: 3}}}}\n\
         actions:\n  report:\n    events: [ban]\n    command: [/usr/bin/env, \
         'REPORT_URL=http://127.0.0.1:8098/report', 'REPORT_KEY_FILE={key}', {path}]\n",
        key = site.file("abuseipdb.key").display(),
        path = path.display(),
    );
    let ringfence = site.start(&more);
    // A ban by hand has no evidence, and is not reported.
    ban(&ringfence, ATTACKERS[3]);
    let mut log = String::new();
    for _ in 0..4 {
        writeln!(
            log,
            "Nov 22 09:43:06 pbx sshd[1234]: Failed password for root from {} port 40000 ssh2",
            ATTACKERS[0]
        )
        .unwrap();
    }
    fs::write(site.file("auth.log"), log).unwrap();
    assert!(until(SOON, || !site.taken("/report").is_empty()), "{}", ringfence.log());
    let all = site.taken("/report");
    let [report] = &all[..] else { panic!("{all:?}") };
    assert_eq!(report["headers"]["Key"], "k3y", "{report}");
    let form = report["body"].as_str().unwrap();
    assert!(
        form.starts_with(&format!("ip={}&categories=18%2C22&comment=", ATTACKERS[0])),
        "{form}"
    );
    assert_eq!(row(&ringfence, "report")["problem"], Value::Null);
    drop((ringfence, site));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: setpriv"]
fn what_the_daemon_starts_has_no_capabilities() {
    // As the service: not root, with capabilities that a program inherits.
    let shown = |words: Vec<&OsStr>| -> Vec<u64> {
        let mut service = Command::new("setpriv");
        service.args(["--reuid=65534", "--clear-groups", "--inh-caps=+net_admin"]);
        let said = service.args(["--ambient-caps=+net_admin", "--"]).args(words).output().unwrap();
        let status = String::from_utf8(said.stdout).unwrap();
        let sets = status.lines().filter(|line| !line.starts_with("CapBnd"));
        let sets = sets.filter_map(|line| line.strip_prefix("Cap")?.split_whitespace().nth(1));
        sets.map(|set| u64::from_str_radix(set, 16).unwrap()).collect()
    };
    let file = "/proc/self/status";
    let mut child = filter_user::child::command("cat");
    let child = child.arg(file).as_std();
    let words = [child.get_program()].into_iter().chain(child.get_args()).collect();
    assert_eq!(shown(words), [0; 4]);
    // Otherwise it would have them.
    let inherited = shown(["cat", file].map(OsStr::new).to_vec());
    assert!(inherited.len() == 4 && inherited.iter().all(|set| *set == 1 << 12), "{inherited:?}");
}

/// The other one, which asks the daemon for the bans that are in force.
#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn the_documented_list_is_kept() {
    let site = Site::new();
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/alerts.md");
    let page = fs::read_to_string(page).unwrap();
    let program = page.split("```python\n").nth(2).unwrap().split("```").next().unwrap();
    let (path, asks, list) = (site.file("keep"), site.file("asks"), site.file("banned.txt"));
    fs::write(&path, program).unwrap();
    let more = format!(
        "actions: {{list: {{command: [/usr/bin/env, RINGFENCE={asks}, LIST={list}, {path}]}}}}\n",
        asks = asks.display(),
        list = list.display(),
        path = path.display(),
    );
    let ringfence = site.start(&more);
    let (binary, socket) = (ringfence.client().binary(), ringfence.client().socket());
    let script =
        format!("#!/bin/sh\nexec {} --socket {} \"$@\"\n", binary.display(), socket.display());
    fs::write(&asks, script).unwrap();
    for program in [&path, &asks] {
        fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let test = ringfence.client().run(&["alerts", "test", "list"], false).unwrap();
    test.success("alerts test list").unwrap();
    assert!(!list.exists(), "a test changes nothing");
    let kept = || fs::read_to_string(&list).unwrap_or_default();
    for address in &ATTACKERS[..2] {
        ban(&ringfence, *address);
    }
    let both = format!("{}\n{}\n", ATTACKERS[0], ATTACKERS[1]);
    assert!(until(SOON, || kept() == both), "{}\n{}", kept(), ringfence.log());
    let first = ATTACKERS[0].to_string();
    ringfence.client().run(&["unban", &first], false).unwrap().success("unban").unwrap();
    assert!(until(SOON, || kept() == format!("{}\n", ATTACKERS[1])), "{}", kept());
    assert_eq!(row(&ringfence, "list")["problem"], Value::Null);
    drop((ringfence, site));
    nothing_is_left().unwrap();
}

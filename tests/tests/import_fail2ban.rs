//! fail2ban's settings and bans are imported: from the configuration that Debian ships, with Wazo's
//! jails, and from a database that fail2ban itself has written.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use filter_user::config::Config as Settings;
use ringfence_tests::child::{self, OnSignal};
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{Hosts, nothing_is_left};
use ringfence_tests::{fail2ban, scratch};
use serde_json::Value;

/// Makes fail2ban write a database with bans by the jail `asterisk-wazo`, one that has ended, and one by
/// a jail that is not enabled.
const WRITE_DATABASE: &str = "
import sys, time
from fail2ban.server.database import Fail2BanDb
from fail2ban.server.ticket import BanTicket

class Jail:
    def __init__(self, name): self.name, self.actions = name, self
    def getBanTime(self): return 600

database = Fail2BanDb(sys.argv[1])
for name, address, age, bantime in [
    ('asterisk-wazo', '203.0.113.7', 100, 600), ('asterisk-wazo', '203.0.113.8', 700, 600),
    ('asterisk-wazo', '2001:db8::7', 100, -1), ('apache-auth', '203.0.113.9', 100, 600),
]:
    jail = Jail(name)
    database.addJail(jail)
    ticket = BanTicket(address, time.time() - age)
    ticket.setBanTime(bantime)
    database.addBan(jail, ticket)
database.close()
";

const WAZO: &str = "[asterisk-wazo]\nenabled = true\nfilter = asterisk-wazo\nmaxretry = 15\n\
    bantime = 3600\naction = iptables[name=ASTERISK, port=sip, protocol=udp]\n\
    logpath = /var/log/asterisk/fail2ban\nignoreip = 198.51.100.7\n";

#[test]
#[ignore = "requires root: network namespaces, BPF, Debian's package fail2ban"]
fn settings_and_bans_of_fail2ban_are_taken_over() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../lab");
    let package = fail2ban::unpacked(&cache).expect("Debian's package fail2ban");
    let directory = scratch::directory("import").expect("a directory");
    let from = directory.path().join("etc");
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(package.join("etc/fail2ban")).arg(&from);
    run("cp", &mut copy);
    fs::write(from.join("jail.d/wazo.conf"), WAZO).expect("Wazo's jails");
    let database = directory.path().join("fail2ban.sqlite3");
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", WRITE_DATABASE]).arg(&database);
    python.env("PYTHONPATH", package.join("usr/lib/python3/dist-packages"));
    run("python3", &mut python);

    let hosts = Hosts::new().expect("hosts");
    let config = Config::new(Path::new("/nonexistent/fail2ban"));
    let binary = ringfence::built().expect("the binary");
    let mut ringfence = Ringfence::start(&hosts.pbx, &binary, &config).expect("ringfence");
    let target = directory.path().join("conf.d/50-fail2ban.yml");
    let text = |path: &Path| path.display().to_string();
    let (from, database, to) = (text(&from), text(&database), text(&target));
    let arguments = ["import", "fail2ban", "--from", &from, "--database", &database, "--to", &to];
    let answer: Value = ringfence.client().ask(&arguments).expect("an import");
    assert_eq!(answer["bans_handed_over"]["entered"], 2, "{answer:#}");
    assert_eq!(answer["bans_handed_over"]["durable"], true, "{answer:#}");
    let left_out = answer["left_out"].to_string();
    assert!(left_out.contains("1 ban by `apache-auth`"), "{left_out}");

    let settings = fs::read(&target).expect("the settings");
    let jails = Settings::parse(&target, &settings).expect("right settings").config.jails;
    assert!(jails["sshd"].enabled && jails["asterisk-wazo"].enabled);
    assert_eq!(jails["asterisk-wazo"].bantime, Duration::from_hours(1));
    assert_eq!(jails["asterisk-wazo"].ignoreip.len(), 1);

    // They outlive the kernel's copy.
    ringfence.kill().expect("a kill");
    ringfence.detach().expect("detach").success("detach").expect("detach");
    ringfence.restart(&hosts.pbx).expect("a restart");
    let bans: Value = ringfence.client().ask(&["bans", "--jail", "asterisk-wazo"]).expect("bans");
    let bans = bans["bans"].as_array().expect("a list");
    let of = |network: &str| {
        let found = bans.iter().find(|ban| ban["network"] == network);
        found.unwrap_or_else(|| panic!("{network} is not in {bans:?}"))
    };
    assert_eq!(bans.len(), 2);
    assert_eq!(of("2001:db8::/64")["until"], Value::Null);
    assert_eq!(of("203.0.113.7")["reason"], "imported from fail2ban");
    let until: jiff::Timestamp =
        of("203.0.113.7")["until"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let left =
        until.as_second() - jiff::Timestamp::try_from(SystemTime::now()).expect("now").as_second();
    assert!((400..=500).contains(&left), "{left} s are left of 500");

    // A second import changes nothing.
    let answer: Value = ringfence.client().ask(&arguments).expect("an import");
    assert_eq!(answer["bans_handed_over"]["entered"], 0, "{answer:#}");
    drop((ringfence, hosts, directory));
    nothing_is_left().expect("nothing is left");
}

/// Configurations as administrators publish them, each as a `jail.local` beside Debian's.
const POSTED: [&str; 10] = [
    // All jails that Debian ships.
    "[DEFAULT]\nenabled = true\n",
    "[DEFAULT]\nbantime = 315360000\n[sshd]\nmaxretry = 1\naction = %(action_mwl)s\n        abuseipdb[abuseipdb_category=\"18,22\"]\n\
     [pass2allow-ftp]\nenabled = true\nlogpath = /var/log/mail.log\n\
     [asterisk-tell]\nenabled = true\nfilter = asterisk\naction = sendmail-whois[name=x]\nlogpath = /x\n",
    "[sshd]\nenabled = true\nport = 2222\nfilter = sshd[mode=aggressive]\n",
    "[asterisk]\nenabled = true\nlogpath = /var/log/asterisk/security\n",
    "[sshd]\nenabled = true\nmode = aggressive\nfailregex = %(known/failregex)s\n            \
     ^banner exchange: Connection from <ADDR><__on_port_opt>: invalid format\n\
     banaction = %(banaction_allports)s\nmaxretry = 5\nbantime = 14400\nfindtime = 14400\n",
    "[DEFAULT]\nbantime = 1w\nfindtime = 1d\nmaxretry = 3\nignoreip = 127.0.0.1/8 ::1 198.51.100.0/24\n\
     bantime.increment = true\n[sshd]\nbackend = systemd\n[recidive]\nenabled = true\n",
    "[sshd]\nenabled = false\n[ssh-custom]\nenabled = true\nfilter = sshd\nport = 22,2222\n\
     logpath = /var/log/auth.log\n",
    "[asterisk]\nenabled = true\nport = 5060,5061,5160\nlogpath = /var/log/asterisk/full\n\
     maxretry = 2\nbantime = -1\n",
    "[asterisk]\nenabled = true\nbanaction = %(banaction_allports)s\nlogpath = /var/log/asterisk/messages\n\
     [nginx-http-auth]\nenabled = true\nlogpath = /var/log/nginx/error.log\n\
     [postfix]\nenabled = true\nmode = aggressive\nlogpath = /var/log/mail.log\n",
    "[sshd]\nport = ssh\nlogpath = /var/log/auth.log\nbackend = polling\n[sshd-slow]\nenabled = true\n\
     filter = sshd\nport = ssh\nlogpath = /var/log/auth.log\nfindtime = 1d\nmaxretry = 20\nbantime = 1d12h\n",
];

/// The output of `fail2ban-client -d`, each line as JSON.
const DUMP: &str = "
import ast, json, subprocess, sys
said = subprocess.run(
    [sys.executable, sys.argv[1], '-c', sys.argv[2], '-d'], stdout=subprocess.PIPE, text=True, check=True)
lines = [ast.literal_eval(line) for line in said.stdout.splitlines() if line.startswith('[')]
print(json.dumps(lines))
";

#[test]
#[ignore = "requires Debian's package fail2ban and the ringfence binary"]
fn what_fail2ban_reads_is_what_is_taken() {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../lab");
    let package = fail2ban::unpacked(&cache).expect("Debian's package fail2ban");
    for posted in POSTED {
        let directory = scratch::directory("import").expect("a directory");
        let from = directory.path().join("etc");
        let mut copy = Command::new("cp");
        run("cp", copy.arg("-r").arg(package.join("etc/fail2ban")).arg(&from));
        fs::write(from.join("jail.local"), posted).expect("jail.local");
        let mut python = Command::new("/usr/bin/python3");
        python.args(["-c", DUMP]).arg(package.join("usr/bin/fail2ban-client")).arg(&from);
        python.env("PYTHONPATH", package.join("usr/lib/python3/dist-packages"));
        python.env("PYTHONDONTWRITEBYTECODE", "1");
        let limit = Duration::from_secs(30);
        let dump = child::finish("python3", &mut python, limit, OnSignal::Stop).expect("python3");
        let dump = dump.success("fail2ban-client -d").expect("fail2ban-client -d").stdout;
        let dump: Vec<Vec<Value>> = serde_json::from_str(&dump).expect("a dump");

        let config = directory.path().join("config.yml");
        fs::write(&config, "").expect("a configuration");
        let mut import = Command::new(ringfence::built().expect("the binary"));
        import.arg("-c").arg(&config).args(["import", "fail2ban", "--dry-run", "--json", "--from"]);
        let import = child::finish("import", import.arg(&from), limit, OnSignal::Stop);
        let import = import.expect("import").success("import").expect("import").stdout;
        let import: Value = serde_json::from_str(&import).expect("an import");
        let settings = import["settings"].as_str().expect("settings");
        let taken = Settings::parse(Path::new("x"), settings.as_bytes()).expect("right").config;
        agrees(&dump, &taken, &format!("{posted}\n{settings}\n{import:#}"));
    }
}

/// Checks that each jail that fail2ban starts has the same settings here.
fn agrees(dump: &[Vec<Value>], taken: &Settings, context: &str) {
    let word = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let lines: Vec<Vec<String>> = dump.iter().map(|line| line.iter().map(word).collect()).collect();
    let jails = lines.iter().filter(|line| line.first().is_some_and(|verb| verb == "add"));
    let jails: Vec<&str> = jails.filter_map(|line| line.get(1)).map(String::as_str).collect();
    assert!(!jails.is_empty(), "{context}");
    for name in jails {
        let is_sshd = jails_named(&lines, name, "_COMM=sshd");
        let here = match name {
            "asterisk" => "asterisk-wazo",
            "ssh-custom" if is_sshd => "sshd",
            other => other,
        };
        let Some(jail) = taken.jails.get(here) else {
            assert!(context.contains(&format!("\"{name}: ")), "{name} is not named: {context}");
            continue;
        };
        assert!(jail.enabled, "{name}: {context}");
        let set = |option: &str| {
            let mut lines = lines.iter().rev();
            let line = lines.find(|line| line.len() == 4 && line[1] == name && line[2] == option);
            line.map(|line| line[3].clone())
        };
        assert_eq!(set("maxretry"), Some(jail.maxretry.to_string()), "{name}: {context}");
        for (option, time) in [("findtime", jail.findtime), ("bantime", jail.bantime)] {
            let theirs = set(option).expect(option);
            let theirs = match theirs.as_str() {
                "-1" => filter_user::duration::MAX,
                text => seconds(text),
            };
            assert_eq!(theirs, time, "{name}: {option}: {context}");
        }
        let all =
            jails_named(&lines, name, "iptables-allports") || jails_named(&lines, name, "0:65535");
        let scope = taken.ports.name(jail.scope);
        let is_said = context.contains(&format!("{name}: port "));
        assert!(all == (scope == "all") || is_said, "{name} closes {scope}: {context}");
    }
}

fn jails_named(lines: &[Vec<String>], jail: &str, word: &str) -> bool {
    lines.iter().any(|line| line.iter().any(|w| w == jail) && line.iter().any(|w| w.contains(word)))
}

/// A time in fail2ban's form: seconds, or such as `1d12h`.
fn seconds(text: &str) -> Duration {
    let parsed = || filter_user::duration::parse(text);
    text.parse().map(Duration::from_secs).or_else(|_| parsed()).expect("a time")
}

fn run(name: &str, command: &mut Command) {
    let limit = Duration::from_secs(30);
    let finished = child::finish(name, command, limit, OnSignal::Stop).expect(name);
    finished.success(name).expect(name);
}

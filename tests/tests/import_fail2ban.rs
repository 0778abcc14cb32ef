//! What fail2ban is set to and whom it has banned becomes Ringfence's: from the configuration that Debian
//! ships, with Wazo's jails, and a database that fail2ban itself has written.

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

/// Has fail2ban write a database with bans of the jail `asterisk-wazo`, one that has ended and one of a jail that
/// is not enabled.
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

    // And they outlive what only the kernel knows.
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
    assert_eq!(of("203.0.113.7")["reason"], "taken over from fail2ban");
    let until: jiff::Timestamp =
        of("203.0.113.7")["until"].as_str().and_then(|text| text.parse().ok()).expect("a time");
    let left =
        until.as_second() - jiff::Timestamp::try_from(SystemTime::now()).expect("now").as_second();
    assert!((400..=500).contains(&left), "{left} s are left of 500");

    // Twice is as good as once.
    let answer: Value = ringfence.client().ask(&arguments).expect("an import");
    assert_eq!(answer["bans_handed_over"]["entered"], 0, "{answer:#}");
    drop((ringfence, hosts, directory));
    nothing_is_left().expect("nothing is left");
}

fn run(name: &str, command: &mut Command) {
    let limit = Duration::from_secs(30);
    let finished = child::finish(name, command, limit, OnSignal::Stop).expect(name);
    finished.success(name).expect(name);
}

mod configs;
mod files;
mod wrong;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::time::Instant;

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::load::read_hierarchy;
use super::*;
use crate::register::PROVD;

fn parse(text: &str) -> Result<Loaded, ConfigErrors> {
    Config::parse(Path::new("config.yml"), text.as_bytes())
}

/// What is wrong with `text`, a line each, without the file's name.
fn complaint(text: &str) -> String {
    let errors = parse(text).expect_err(text).to_string();
    let lines: Vec<&str> =
        errors.lines().map(|line| line.strip_prefix("config.yml:").unwrap_or(line)).collect();
    lines.join("\n")
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    lines.collect::<Vec<String>>().join("\n")
}

/// A directory with these files.
fn host(files: &[(&str, &str)]) -> TempDir {
    let directory = TempDir::new().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    for (name, content) in files {
        fs::write(directory.path().join(name), content).unwrap();
    }
    directory
}

fn load(host: &TempDir) -> Result<Loaded, ConfigErrors> {
    Config::load(Some(&host.path().join("config.yml")))
}

/// Names in `host` without their directory.
fn relative(host: &TempDir, text: &str) -> String {
    text.replace(&format!("{}/", host.path().display()), "")
}

#[test]
fn everything_has_a_default() {
    for text in ["", "\n", "# nothing\n", "---\n", "---\n...\n", "~", "jails:\nsip:\n", "\u{feff}"]
    {
        let loaded = parse(text).expect(text);
        assert_eq!(loaded.config, Config::default(), "{text:?}");
        assert!(loaded.effective().iter().all(|setting| setting.origin == SetBy::Default));
    }
}

#[test]
fn the_documented_example_is_read() {
    let loaded = parse(
        "interfaces: [eth0]            # default: each one with a default route
mode: auto
trusted: [198.51.100.0/24]    # never dropped, never banned
sip: {udp: [5060], tcp: [5060, 5061]}
capacity: {bans: 1000000}
limits:                       # for sources that are not known peers
  register: {rate: 10/s, burst: 250}
jails:
  asterisk-wazo: {enabled: true, maxretry: 15, findtime: 10m, bantime: 1h, ignoreip: []}
sources:
  asterisk: {notice_log: /var/log/asterisk/fail2ban}
paths: {state: /var/lib/ringfence, runtime: /run/ringfence, bpffs: /sys/fs/bpf/ringfence}
",
    )
    .unwrap();
    let expected = Config {
        interfaces: vec!["eth0".into()],
        trusted: vec!["198.51.100.0/24".parse().unwrap()],
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
    assert_eq!(loaded.config.paths.control_socket(), Path::new("/run/ringfence/control.sock"));
    assert_eq!(loaded.origin("jails.asterisk-wazo.ignoreip").to_string(), "config.yml:9");
    assert_eq!(loaded.origin("dry_run"), &SetBy::Default);
}

#[test]
fn every_setting_can_be_set() {
    let config = parse(
        "interfaces: [eth0, eth0.2, '1']
mode: native
dry_run: Yes
trusted: [198.51.100.7, 2001:db8::/64]
trusted_by_route: yes
sip:
  udp: [5060, 5070-5072]
  tcp: []
ipv6_prefix: 56
exposure: {trusted: [postgresql, 8080/tcp], closed: [rabbitmq], dry_run: true}
capacity: {bans: 16, bans_ipv6: 18, watched: 17, offenders: 19}
limits:
  register: {rate: 600/m, burst: 1}
  syn: {burst: 2}
  prefix: {ipv4: 28, ipv6: 56, invite: {burst: 3}}
  shared: {options: {rate: 50/10s}}
  tcp_bytes: {connection: {burst: 1000000}, source: {burst: 7}}
  known: {burst: 4}
  greylist: no
  admitted: {burst: 5}
  flood: {after: {burst: 6}, ban: 2m}
watchdog: {after: 90}
confirm: {within: 10m}
peers: {remember: 30m}
offenders: {remember: 1d}
escalation: {enabled: true, findtime: 2d, bantime: 3d, scope: all, ipv4: {prefix: 28, offenders: 2},
  ipv6: {prefix: 52, wide_prefix: 32, wide_offenders: 0}}
signatures: {user_agents: [Bad Phone*, scan/1.0]}
jails:
  asterisk-wazo:
    enabled: off
    maxretry: 1
    findtime: 90
    bantime: 1w
    ignoreip:
    - 203.0.113.0/24
    scope: all
    bantime.increment: true
    bantime.factor: 1.5
    bantime.maxtime: 5w
    bantime.rndtime: 10m
    bantime.multipliers: [1, 2, 4]
    bantime.overalljails: yes
    bantime.unproven: on
sources: {asterisk: {notice_log: \"/tmp/a log\"}}
paths: {state: /tmp/s, runtime: /tmp/r, bpffs: /tmp/b}
",
    )
    .unwrap()
    .config;

    assert_eq!(config.interfaces, ["eth0", "eth0.2", "1"]);
    assert_eq!(config.mode, Mode::Native);
    assert!(config.dry_run && config.trusted_by_route);
    assert_eq!(config.trusted[0].to_string(), "198.51.100.7/32");
    let udp: Vec<u16> = config.sip.udp.iter().flat_map(|range| range.ports()).collect();
    assert_eq!(udp, [5060, 5070, 5071, 5072]);
    assert!(config.sip.tcp.is_empty());
    let Exposure { trusted, closed, dry_run, .. } = config.exposure;
    let names =
        |services: Vec<Service>| services.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(
        (names(trusted).join(" "), names(closed).join(" "), dry_run),
        ("postgresql 8080/tcp".into(), "rabbitmq".into(), true)
    );
    assert_eq!(config.capacity, Capacity { bans: 16, bans_ipv6: 18, watched: 17, offenders: 19 });
    let limits = config.limits;
    let Limits { source, prefix, shared, known, greylist, admitted, flood, .. } = limits;
    assert_eq!((source.syn.burst, prefix.classes.invite.burst), (2, 3));
    assert_eq!((prefix.ipv4, prefix.ipv6), (28, 56));
    assert_eq!(shared.options.rate.interval(), Duration::from_millis(200));
    assert_eq!(limits.tcp_bytes.source.burst, 7);
    assert_eq!((known.burst, greylist, admitted.burst), (4, false, 5));
    assert_eq!((flood.after.burst, flood.ban), (6, Duration::from_mins(2)));
    assert_eq!(config.watchdog.after(), Some(Duration::from_secs(90)));
    assert_eq!(config.confirm.within(), Some(Duration::from_mins(10)));
    assert_eq!(config.peers.remember, Duration::from_mins(30));
    let user_agents: Vec<(String, bool)> = config
        .signatures
        .user_agents
        .iter()
        .map(|user_agent| (user_agent.folded(), user_agent.is_prefix()))
        .collect();
    assert_eq!(user_agents, [("bad phone".to_owned(), true), ("scan/1.0".to_owned(), false)]);
    let register = source.register;
    assert_eq!((register.rate.events(), register.rate.period()), (600, Duration::from_mins(1)));
    assert_eq!((register.rate.interval(), register.burst), (Duration::from_millis(100), 1));
    is_as_written(&config.jails["asterisk-wazo"]);
    assert_eq!(config.offenders.remember, Duration::from_hours(24));
    let Escalation { enabled, findtime, bantime, scope, ipv4, ipv6, .. } = config.escalation;
    assert_eq!((enabled, scope), (true, Scope::All));
    assert_eq!((findtime, bantime), (Duration::from_hours(48), Duration::from_hours(72)));
    assert_eq!((ipv4.prefix, ipv4.offenders, ipv4.wide_prefix), (28, 2, 16));
    assert_eq!((ipv6.prefix, ipv6.wide_prefix, ipv6.wide_offenders), (52, 32, 0));
    assert_eq!(config.ipv6_prefix, 56);
    assert_eq!(config.sources.asterisk.notice_log, Path::new("/tmp/a log"));
    assert_eq!(config.paths.control_socket(), Path::new("/tmp/r/control.sock"));
}

/// The jail of [`every_setting_can_be_set`].
fn is_as_written(jail: &JailSettings) {
    assert!(!jail.enabled);
    assert_eq!((jail.maxretry, jail.scope), (1, Scope::All));
    assert_eq!(jail.findtime, Duration::from_secs(90));
    assert_eq!(jail.bantime, Duration::from_hours(7 * 24));
    assert_eq!(jail.ignoreip, ["203.0.113.0/24".parse().unwrap()]);
    let increment = &jail.increment;
    assert!(increment.enabled && increment.overalljails && increment.unproven);
    assert_eq!(increment.factor, Factor::from_thousandths(1500).unwrap());
    assert_eq!(increment.maxtime, Duration::from_hours(5 * 7 * 24));
    assert_eq!(increment.rndtime, Duration::from_mins(10));
    assert_eq!(increment.multipliers, [1, 2, 4]);
}

#[test]
fn the_watchdog_has_a_least_time_or_none() {
    let after = |text: &str| {
        let loaded = parse(&format!("watchdog: {{after: {text}}}"));
        loaded.map(|loaded| loaded.config.watchdog.after()).map_err(|errors| errors.to_string())
    };
    assert_eq!(after("0"), Ok(None));
    assert_eq!(after("0s"), Ok(None));
    assert_eq!(after("10s"), Ok(Some(Duration::from_secs(10))));
    for wrong in ["1", "9s", "25h", "off", "-1"] {
        assert!(after(wrong).is_err(), "{wrong}");
    }
    let said = after("9s").unwrap_err();
    assert!(said.contains("a duration from 10s to 1d, such as `10m`, or `0`"), "{said}");
}

#[test]
fn the_time_to_confirm_has_a_range_or_is_none() {
    let within = |text: &str| {
        let loaded = parse(&format!("confirm: {{within: {text}}}"));
        loaded.map(|loaded| loaded.config.confirm.within()).map_err(|errors| errors.to_string())
    };
    assert_eq!(within("0"), Ok(None));
    assert_eq!(within("1m"), Ok(Some(Duration::from_mins(1))));
    assert_eq!(within("1h"), Ok(Some(Duration::from_hours(1))));
    for wrong in ["59s", "61m", "never", "-1"] {
        assert!(within(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn hosts_by_address_and_by_name() {
    let loaded = parse(
        "trusted: [192.0.2.1, Office.example.org.]\n\
         jails: {sshd: {ignoreip: [a.example, 203.0.113.0/24, a.example, b.example]}}\n",
    )
    .unwrap();
    let names = |names: &[HostName]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(loaded.config.trusted, ["192.0.2.1/32".parse().unwrap()]);
    assert_eq!(names(&loaded.config.trusted_names), ["office.example.org"]);
    let sshd = &loaded.config.jails["sshd"];
    assert_eq!(sshd.ignoreip, ["203.0.113.0/24".parse().unwrap()]);
    assert_eq!(names(&sshd.ignore_names), ["a.example", "b.example"]);
    let many: Vec<String> = (0..65).map(|n| format!("host-{n}.example")).collect();
    assert_eq!(
        complaint(&format!("trusted: [{}]", many.join(", "))),
        "1:10: `trusted`: 65 names; at most 64 are possible"
    );
}

#[test]
fn jails_of_the_administrators_own() {
    let loaded = parse(
        "jails:\n  my-web:\n    filter: /etc/fail2ban/filter.d/nginx-http-auth.conf\n    \
         log: [/var/log/nginx/*error.log]\n    maxretry: 7\n    proven: true\n    scope: http\n",
    )
    .unwrap();
    let jail = &loaded.config.jails["my-web"];
    let own = jail.own.as_ref().unwrap();
    assert_eq!((jail.maxretry, jail.bantime, own.proven), (7, Duration::from_mins(10), true));
    assert_eq!((jail.scope, jail.unproven_scope), (Scope::Ports(3), Some(Scope::Sip)));
    assert_eq!(own.log[0].as_str(), "/var/log/nginx/*error.log");
    assert_eq!(loaded.origin("jails.my-web.maxretry").to_string(), "config.yml:5");
    assert_eq!(loaded.config.jails.len(), built_in_jails().count() + 1);
    let known: BTreeSet<String> = built_in_jails().map(|(_, name)| format!("`{name}`")).collect();
    let known = Vec::from_iter(known).join(", ");
    let unknown = format!(
        "1:9: unknown key `jails.web`; known here: {known}; a jail of your own has a `filter`"
    );
    for (text, says) in [
        ("jails: {sshh: {maxretry: 3}}", "1:9: unknown key `jails.sshh`; did you mean `sshd`?"),
        ("jails: {web: {log: [/x]}}", &unknown),
        ("jails: {web: {}}", &unknown),
        (
            "jails: {web: {filter: x, lg: [/x]}}",
            "1:26: unknown key `jails.web.lg`; did you mean `log`?",
        ),
        (
            "jails: {Web: {filter: x, log: [/x]}}",
            "1:9: in `jails`, `Web` is not a name for a jail; use lower-case letters, digits and `-`, \
             at most 32",
        ),
        (
            "jails: {manual: {filter: x, log: [/x]}}",
            "1:9: in `jails`, `manual` is taken; give this jail another name",
        ),
        (
            "jails: {web: {filter: x}}",
            "the jail `web` has nothing to read; set its `log` or its `journal`",
        ),
        (
            "jails: {web: {filter: \"\", log: [/x]}}",
            "the jail `web` has no filter; set one, or remove the jail",
        ),
        (
            "jails: {sshd: {log: [/x]}}",
            "1:16: unknown key `jails.sshd.log`; did you mean `sources.sshd.log`?",
        ),
        (
            "jails: {web: {filter: x, log: [x]}}",
            "1:32: in `jails.web.log`, `x` is not the path of a log; write one such as \
             `/var/log/nginx/error.log` or `/var/log/nginx/*error.log`",
        ),
        (
            "jails: {web: {filter: x, log: /x}}",
            "1:31: `jails.web.log`: write `/x` as a list: `[/x]`",
        ),
    ] {
        let said = complaint(text);
        assert!(said.ends_with(says), "{text}: {said}");
    }
    let many = |count: usize| {
        let jails: Vec<String> =
            (0..count).map(|n| format!("jail-{n}: {{filter: x, log: [/x]}}")).collect();
        parse(&format!("jails: {{{}}}", jails.join(", ")))
    };
    assert!(many(OWN_JAILS_MAX).is_ok());
    assert!(many(OWN_JAILS_MAX + 1).unwrap_err().to_string().contains("at most 64 are possible"));
}

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
    let Escalation { enabled, findtime, bantime, scope, ipv4, ipv6 } = config.escalation;
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
    let increment = Increment {
        enabled: true,
        factor: Factor::from_thousandths(1500).unwrap(),
        maxtime: Duration::from_hours(5 * 7 * 24),
        rndtime: Duration::from_mins(10),
        multipliers: vec![1, 2, 4],
        overalljails: true,
        unproven: true,
    };
    assert_eq!(jail.increment, increment);
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
fn unknown_keys_name_the_nearest() {
    for (text, expected) in [
        ("intefaces: [eth0]", "1:1: unknown key `intefaces`; did you mean `interfaces`?"),
        ("dry-run: true", "1:1: unknown key `dry-run`; did you mean `dry_run`?"),
        ("Mode: auto", "1:1: unknown key `Mode`; did you mean `mode`?"),
        (
            "jails:\n  asterisk-wazo:\n    maxretri: 3",
            "3:5: unknown key `jails.asterisk-wazo.maxretri`; did you mean `maxretry`?",
        ),
        (
            "jails: {asterisk_wazo: {}}",
            "1:9: unknown key `jails.asterisk_wazo`; did you mean `asterisk-wazo`?",
        ),
        (
            "jails: {nginx: {}}",
            "1:9: unknown key `jails.nginx`; known here: `asterisk-wazo`, `recidive`, `sshd`, \
             `wazo-provd`; a jail of your own has a `filter`",
        ),
        (
            "jails: {sshd: {bantime.incremental: true}}",
            "1:16: unknown key `jails.sshd.bantime.incremental`; did you mean `bantime.increment`?",
        ),
        (
            "jails: {sshd: {factor: 2}}",
            "1:16: unknown key `jails.sshd.factor`; known here: `enabled`, `maxretry`, `findtime`, \
             `bantime`, `ignoreip`, `scope`, `unproven_scope`, `bantime.increment`, \
             `bantime.factor`, `bantime.maxtime`, `bantime.rndtime`, `bantime.multipliers`, \
             `bantime.overalljails`, `bantime.unproven`, `maxaccounts`, `guessing`, `filter`",
        ),
        (
            "maxretry: 3",
            "1:1: unknown key `maxretry`; did you mean `jails.asterisk-wazo.maxretry`?",
        ),
        ("sip.udp: [5060]", "1:1: unknown key `sip.udp`; nest it: `sip: {udp: ...}`"),
        (
            "limits: {register.rate: 1/s}",
            "1:10: unknown key `limits.register.rate`; nest it: `limits: {register: {rate: ...}}`",
        ),
        ("sip: {5060: udp}", "1:7: unknown key `sip.5060`; known here: `udp`, `tcp`"),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
    let long = format!("{}: 1", "k".repeat(900));
    assert!(complaint(&long).len() < 300, "{}", complaint(&long));
}

/// Wrong lines and their errors.
const WRONG_VALUES: &[(&str, &str)] = &[
    ("mode: fast", "`mode` is `fast`; expected `auto`, `native` or `generic`"),
    ("mode: ", "`mode` is empty; expected `auto`, `native` or `generic`"),
    ("mode: [auto]", "`mode` is a list; expected `auto`, `native` or `generic`"),
    ("mode: {}", "`mode` is a section; expected `auto`, `native` or `generic`"),
    ("dry_run: 1", "`dry_run` is `1`; expected `true` or `false`"),
    ("dry_run: \"true\"", "`dry_run` is the text `\"true\"`; expected `true` or `false`"),
    (
        "interfaces: [eth0, a-very-long-interface]",
        "in `interfaces`, `a-very-long-interface` is too long; Linux's interface names have \
             at most 15 bytes",
    ),
    (
        "interfaces: [\"eth 0\"]",
        "in `interfaces`, `eth 0` is not an interface name; write one such as `eth0`",
    ),
    (
        "interfaces: [\"\"]",
        "in `interfaces`, `` is not an interface name; write one such as `eth0`",
    ),
    ("interfaces: [eth0, eth0]", "`interfaces`: `eth0` is listed twice"),
    ("interfaces: [[eth0]]", "in `interfaces`, an entry is a list"),
    ("interfaces: [~]", "in `interfaces`, an entry is empty"),
    ("interfaces: eth0", "`interfaces`: write `eth0` as a list: `[eth0]`"),
    (
        "trusted: 192.0.2.1 192.0.2.2",
        "`trusted`: write `192.0.2.1 192.0.2.2` as a list: `[192.0.2.1, 192.0.2.2]`",
    ),
    (
        "trusted: {a: b}",
        "`trusted` is a section; expected a list of addresses, networks and names \
             such as `[198.51.100.7, 203.0.113.0/24]`",
    ),
    (
        "trusted: [0.0.0.0/0]",
        "in `trusted`, `0.0.0.0/0` covers every address; to watch without dropping anything, set \
             `dry_run: true`",
    ),
    (
        "trusted: [\"::/0\"]",
        "in `trusted`, `::/0` covers every address; to watch without dropping anything, set \
             `dry_run: true`",
    ),
    (
        "trusted: [\"::ffff:0:0/96\"]",
        "in `trusted`, `::ffff:0:0/96` covers every address; to watch without dropping anything, set \
             `dry_run: true`",
    ),
    ("trusted: [pbx]", "in `trusted`, write `pbx` with its domain, such as `pbx.example.org`"),
    (
        "jails: {sshd: {ignoreip: [p_x.example.org]}}",
        "in `jails.sshd.ignoreip`, `p_x.example.org` is not a host name",
    ),
    ("trusted: [10.1.2.3/255.0.0.0]", "in `trusted`, write `10.1.2.3/255.0.0.0` as `10.0.0.0/8`"),
    (
        "trusted: [192.0.2.5/24]",
        "in `trusted`, `192.0.2.5/24` has host bits set; write `192.0.2.0/24` \
             for the network or `192.0.2.5` for the host",
    ),
    (
        "trusted: [\"::ffff:192.0.2.1\"]",
        "in `trusted`, write `::ffff:192.0.2.1` as the IPv4 `192.0.2.1`",
    ),
    (
        "sip: {udp: [0]}",
        "in `sip.udp`, `0` is not a port; write a number from 1 to 65535 or a range such as \
             `\"5060-5070\"`",
    ),
    (
        "sip: {udp: [65536]}",
        "in `sip.udp`, `65536` is not a port; write a number from 1 to 65535 or a range such \
             as `\"5060-5070\"`",
    ),
    (
        "sip: {tcp: [5070-5060]}",
        "in `sip.tcp`, write `5070-5060` with the lower port first: `\"5060-5070\"`",
    ),
    ("sip: 5060", "`sip` is `5060`; expected a section with the keys `udp`, `tcp`"),
    ("capacity: {bans: 0}", "`capacity.bans` is `0`; expected a whole number from 1 to 10000000"),
    (
        "limits: {register: {burst: 0}}",
        "`limits.register.burst` is `0`; expected a whole number from 1 to 100000",
    ),
    (
        "limits: {prefix: {ipv4: 7}}",
        "`limits.prefix.ipv4` is `7`; expected a length in bits from 8 to 32",
    ),
    (
        "limits: {prefix: {ipv6: 300}}",
        "`limits.prefix.ipv6` is `300`; expected a length in bits from 16 to 128",
    ),
    (
        "limits: {flood: {ban: 25h}}",
        "`limits.flood.ban` is `25h`; expected a duration from 1s to 1d, such as `10m`",
    ),
    (
        "signatures: {user_agents: [\"*\"]}",
        "in `signatures.user_agents`, `*` is not a User-Agent; write printable ASCII such as \
             `sipcli*` or `iWar`",
    ),
    (
        "signatures: {user_agents: [sip*]}",
        "in `signatures.user_agents`, `sip*` would match phones too; write at least 4 bytes \
             before the `*`",
    ),
    (
        "signatures: {user_agents: [si*cli]}",
        "in `signatures.user_agents`, `si*cli` may contain `*` only once, at the end",
    ),
    ("signatures: {user_agents: [iWar, IWAR]}", "`signatures.user_agents`: `IWAR` is listed twice"),
    (
        "signatures: {user_agents: [abcdefghijklmnopqrstuvwxyz012345]}",
        "in `signatures.user_agents`, `abcdefghijklmnopqrstuvwxyz012345` is too long; 31 bytes are \
             compared; write `abcdefghijklmnopqrstuvwxyz01234*`",
    ),
    (
        "limits: {register: {rate: 10}}",
        "`limits.register.rate`: `10` is not a rate; write one such as `10/s`, `600/m` or \
             `50/10s`",
    ),
    (
        "limits: {register: {rate: 0/s}}",
        "`limits.register.rate`: `0/s` is out of range; it must be from 1 to 1000000 events in 1s \
             to 1h",
    ),
    (
        "jails: {asterisk-wazo: {maxretry: 0}}",
        "`jails.asterisk-wazo.maxretry` is `0`; expected a whole number from 1 to 10000",
    ),
    (
        "jails: {asterisk-wazo: {maxretry: -1}}",
        "`jails.asterisk-wazo.maxretry` is `-1`; expected a whole number from 1 to 10000",
    ),
    (
        "jails: {asterisk-wazo: {maxretry: \"5\"}}",
        "`jails.asterisk-wazo.maxretry` is the text `\"5\"`; expected a whole number from 1 to 10000",
    ),
    (
        "jails: {asterisk-wazo: {maxretry: 010}}",
        "`jails.asterisk-wazo.maxretry` is `010`; expected a whole number from 1 to 10000",
    ),
    (
        "jails: {asterisk-wazo: {maxretry: 1e3}}",
        "`jails.asterisk-wazo.maxretry` is `1e3`; expected a whole number from 1 to 10000",
    ),
    (
        "jails: {asterisk-wazo: {findtime: 0}}",
        "`jails.asterisk-wazo.findtime` is `0`; expected a duration from 1s to 30d, such as \
             `10m`",
    ),
    (
        "jails: {asterisk-wazo: {bantime: -1}}",
        "`jails.asterisk-wazo.bantime`: `-1` is not a duration; write a number and a unit, \
             such as `90s`, `10m`, `1h30m` or `7d`",
    ),
    (
        "jails: {asterisk-wazo: {ignoreip: [0.0.0.0/0]}}",
        "in `jails.asterisk-wazo.ignoreip`, `0.0.0.0/0` covers every address; to switch the jail off, \
             set `enabled: false`",
    ),
    (
        "jails: {asterisk-wazo: {scope: udp}}",
        "`jails.asterisk-wazo.scope` is `udp`; expected `sip`, `ssh`, `provisioning`, `http` or \
             `all`",
    ),
    (
        "jails: {sshd: {bantime.factor: 0}}",
        "`jails.sshd.bantime.factor` is `0`; expected a number from 0.001 to 1000, with at most \
             three digits after the point",
    ),
    (
        "jails: {sshd: {bantime.multipliers: 1 2 4}}",
        "`jails.sshd.bantime.multipliers`: write `1 2 4` as a list: `[1, 2, 4]`",
    ),
    (
        "jails: {sshd: {bantime.multipliers: [1, 0]}}",
        "in `jails.sshd.bantime.multipliers`, `0` is not a multiplier; write a whole number above 0",
    ),
    (
        "jails: {sshd: {bantime: {increment: true}}}",
        "`jails.sshd.bantime` is a section; expected a duration from 1s to 3650d, such as `10m`",
    ),
    (
        "paths: {state: var/lib}",
        "`paths.state` is `var/lib`; expected an absolute path such as `/run/ringfence`",
    ),
    (
        "paths: {state: \"/a\\nb\"}",
        "`paths.state` is the text `\"/a\\nb\"`; expected an absolute path such as \
             `/run/ringfence`",
    ),
];

#[test]
fn wrong_values_say_what_is_right() {
    for (text, expected) in WRONG_VALUES {
        let said = complaint(text);
        let (place, said) = said.split_once(": ").unwrap();
        assert_eq!(said, *expected, "{text}");
        assert!(place.starts_with("1:"), "{place}");
    }
}

#[test]
fn what_does_not_fit_together_is_told() {
    assert_eq!(
        complaint("mode: auto\nsip: {udp: [], tcp: []}"),
        "2: `sip.udp` and `sip.tcp` are both empty, so there is nothing to protect; name the \
         ports that Asterisk listens on"
    );
    assert_eq!(
        complaint(&format!("paths:\n  runtime: /{}", "r".repeat(100))),
        "2: `paths.runtime` makes the socket's path 114 bytes long; Linux allows 107"
    );
    assert!(parse(&format!("paths:\n  runtime: /{}", "r".repeat(93))).is_ok());
    assert_eq!(
        complaint("escalation: {ipv4: {\n  wide_prefix: 28}}"),
        "2: `escalation.ipv4.wide_prefix` is 28; it must be less than `prefix`, which is 24, because \
         a wider network has a shorter prefix"
    );
    assert_eq!(
        complaint("escalation: {enabled: true, ipv6: {\n  prefix: 64}}"),
        "2: `escalation.ipv6.prefix` is 64; it must be less than `ipv6_prefix`, which is 64, \
         because such a network is one offender"
    );
    for text in [
        "escalation: {ipv6: {prefix: 64}}",
        "ipv6_prefix: 128\nescalation: {enabled: true, ipv6: {prefix: 64}}",
        "escalation: {enabled: true, ipv6: {prefix: 64, offenders: 1}}",
    ] {
        assert!(parse(text).is_ok(), "{text}");
    }
}

#[test]
fn all_errors_are_told_up_to_a_bound() {
    assert_eq!(
        complaint(
            "mode:\njails:\n  asterisk-wazo:\n    maxretri: 3\n    maxretry: many\n    \
             findtime:\n\nsip: 5\nmode: auto\ntrusted: [a/b, 192.0.2.1, 300.0.0.1]\n"
        ),
        "1:1: `mode` is empty; expected `auto`, `native` or `generic`
4:5: unknown key `jails.asterisk-wazo.maxretri`; did you mean `maxretry`?
5:15: `jails.asterisk-wazo.maxretry` is `many`; expected a whole number from 1 to 10000
6:5: `jails.asterisk-wazo.findtime` is empty; expected a duration from 1s to 30d, such as `10m`
8:6: `sip` is `5`; expected a section with the keys `udp`, `tcp`
9:1: `mode` is set twice in this file, first in line 1
10:11: in `trusted`, `a/b` is not an address or a network; write one such as `198.51.100.7`, \
         `203.0.113.0/24` or `2001:db8::/64`, or a name such as `office.example.org`
10:27: in `trusted`, `300.0.0.1` is not an address or a network; write one such as \
         `198.51.100.7`, `203.0.113.0/24` or `2001:db8::/64`, or a name such as `office.example.org`"
    );

    let many = lines((0..50).map(|n| format!("key{n}x: 1")));
    let errors = parse(&many).unwrap_err();
    assert_eq!(errors.errors().len(), ERRORS_MAX);
    assert!(errors.to_string().ends_with("\nand more"), "{errors}");
}

#[test]
fn what_is_not_plain_yaml_is_refused() {
    let anchors = "anchors and aliases (`&name`, `*name`) are not supported here; write the value \
                   itself, in quotes if it is text that begins with `&` or `*`";
    for (text, expected) in [
        (
            "trusted: [a",
            "2:1: not valid YAML: while parsing a flow sequence, expected ',' or ']'".to_owned(),
        ),
        (
            "mode: auto\n  x: y",
            "2:4: not valid YAML: mapping values are not allowed in this context".into(),
        ),
        ("a\0b: c", "1:2: not valid YAML: found unprintable character".into()),
        ("mode: &a auto", format!("1:7: {anchors}")),
        ("&a mode: *a", format!("1:1: {anchors}")),
        (
            "!exec\ncommand: id",
            "1:1: the tag `!exec` is not supported here; write the value itself".into(),
        ),
        (
            "mode: !!str auto",
            "1:7: the tag `!!str` is not supported here; write the value itself".into(),
        ),
        (
            "mode: auto\n---\nmode: auto",
            "2:1: a second document begins here; a file may contain only one".into(),
        ),
        ("? [a]\n: b", "1:3: a key must be a name, not a list or a section".into()),
        ("sip:\n  udp: [5060]\n  udp: [5062]", {
            "3:3: `udp` is set twice in this file, first in line 2".into()
        }),
        ("- a", {
            "1:1: the file is a list; expected a section with the keys `interfaces`, `mode`, \
             `dry_run`, `trusted`, `trusted_by_route`, `sip`, `ports`, `ipv6_prefix`, `capacity`, `limits`, `peers`, `offenders`, `escalation`, `signatures`, \
             `jails`, `sources`, `paths`"
                .into()
        }),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
    let latin1 = Config::parse(Path::new("config.yml"), b"mode: auto\n# caf\xe9\n").unwrap_err();
    assert_eq!(latin1.to_string(), "config.yml:2:6: not UTF-8; save the file in that encoding");
}

#[test]
fn hostile_files_are_answered_soon() {
    let size = usize::try_from(FILE_MAX).unwrap();
    let aliases = lines(
        (1..20).map(|n| format!("a{n}: &a{n} [{}]", vec![format!("*a{}", n - 1); 9].join(", "))),
    );
    let nested = lines((0..1400).map(|n| format!("{}a:", " ".repeat(n))));
    let keys = lines((0..80_000).map(|n| format!("key{n}: 1")));
    for (what, text) in [
        ("aliases", format!("a0: &a0 [x]\n{aliases}")),
        ("nested blocks", nested),
        ("keys", keys),
        ("open lists", "[".repeat(size)),
        ("open maps", "{a: ".repeat(size / 4)),
        ("block lists", "- ".repeat(size / 2)),
        ("complex keys", "? ".repeat(size / 2)),
        ("one scalar", "a".repeat(size)),
        ("one quoted scalar", format!("mode: \"{}\"", "a".repeat(size - 8))),
        ("an open quote", format!("mode: \"{}", "a ".repeat(size / 2 - 8))),
        ("one key", format!("{}: 1", "a".repeat(1000))),
        ("a block scalar", format!("mode: |\n{}", " a\n".repeat(size / 4))),
        ("many entries", format!("trusted: [{}]", "10.0.0.1,".repeat(90_000))),
        ("too many entries", format!("trusted: [{}]", "a,".repeat(size / 2 - 8))),
        ("colons", ":".repeat(size)),
        ("anchors", "&a ".repeat(size / 3)),
        ("tags", "!a ".repeat(size / 3)),
        ("documents", "---\n".repeat(size / 4)),
    ] {
        let start = Instant::now();
        let errors = parse(&text).expect_err(what);
        assert!(errors.to_string().len() < 20_000, "{what}");
        assert!(start.elapsed() < Duration::from_secs(10), "{what}: {:?}", start.elapsed());
    }
}

#[test]
fn conf_d_overrides_the_main_file_and_its_first_file_wins() {
    let host = host(&[
        ("config.yml", "mode: generic\ndry_run: true\ntrusted: [192.0.2.1, 192.0.2.2]\n"),
        ("conf.d/20-later.yml", "mode: native\nsip: {udp: [5062]}\ntrusted: [192.0.2.3]\n"),
        ("conf.d/10-first.yml", "# mine\nmode: auto\nsip:\n  tcp: []\n"),
        ("conf.d/.01-hidden.yml", "mode: [\n"),
        ("conf.d/01-old.yml.dpkg-old", "mode: [\n"),
        ("conf.d/01-other.yaml", "mode: [\n"),
    ]);
    symlink("/dev/null", host.path().join("conf.d/30-masked.yml")).unwrap();
    let loaded = load(&host).unwrap();

    let expected = Config {
        dry_run: true,
        trusted: vec!["192.0.2.3/32".parse().unwrap()],
        sip: SipPorts { udp: vec![PortRange::single(5062)], tcp: vec![] },
        ..Config::default()
    };
    assert_eq!(loaded.config, expected);
    let origins: Vec<String> = loaded
        .effective()
        .iter()
        .filter(|setting| setting.origin != SetBy::Default)
        .map(|setting| relative(&host, &format!("{} {}", setting.path, setting.origin)))
        .collect();
    assert_eq!(
        origins,
        [
            "mode conf.d/10-first.yml:2",
            "dry_run config.yml:2",
            "trusted conf.d/20-later.yml:3",
            "sip.udp conf.d/20-later.yml:2",
            "sip.tcp conf.d/10-first.yml:4",
        ]
    );
    let files: Vec<String> =
        loaded.files.iter().map(|file| relative(&host, &file.display().to_string())).collect();
    assert_eq!(
        files,
        ["conf.d/10-first.yml", "conf.d/20-later.yml", "conf.d/30-masked.yml", "config.yml"]
    );
}

#[test]
fn errors_come_from_every_file_even_where_another_wins() {
    let host = host(&[
        ("config.yml", "mode: fast\n"),
        ("conf.d/10-me.yml", "mode: auto\njails:\n  asterisk-wazo: {maxretri: 5}\n"),
    ]);
    fs::create_dir(host.path().join("conf.d/20-directory.yml")).unwrap();
    let errors = load(&host).unwrap_err();
    assert_eq!(
        relative(&host, &errors.to_string()),
        "conf.d/10-me.yml:3:19: unknown key `jails.asterisk-wazo.maxretri`; did you mean \
         `maxretry`?
conf.d/20-directory.yml: cannot be read: Is a directory (os error 21)
config.yml:1:7: `mode` is `fast`; expected `auto`, `native` or `generic`"
    );
}

#[test]
fn only_the_default_file_may_be_missing() {
    let host = host(&[("conf.d/10-me.yml", "mode: native\n")]);
    let main = host.path().join("config.yml");
    let errors = Config::load(Some(&main)).unwrap_err();
    assert_eq!(relative(&host, &errors.to_string()), "config.yml: no such file");

    let loaded = read_hierarchy(&main, false).unwrap();
    assert_eq!(loaded.config.mode, Mode::Native);
    assert_eq!(loaded.files, [host.path().join("conf.d/10-me.yml")]);

    fs::write(&main, "a".repeat(usize::try_from(FILE_MAX).unwrap() + 1)).unwrap();
    let errors = read_hierarchy(&main, false).unwrap_err();
    assert_eq!(
        relative(&host, &errors.to_string()),
        "config.yml: larger than 1024 KiB, the largest file that is read"
    );

    let empty = TempDir::new().unwrap();
    let loaded = read_hierarchy(&empty.path().join("config.yml"), false).unwrap();
    assert_eq!((loaded.config, loaded.files), (Config::default(), vec![]));
}

#[test]
fn the_command_line_wins_by_the_same_rules() {
    let mut loaded = parse("interfaces: [eth0]\nmode: generic").unwrap();
    loaded.override_with(&Overrides::default()).unwrap();
    assert_eq!(loaded, parse("interfaces: [eth0]\nmode: generic").unwrap());

    let overrides = Overrides {
        interfaces: vec!["eth1".into(), "eth2".into()],
        mode: Some(Mode::Native),
        dry_run: true,
    };
    loaded.override_with(&overrides).unwrap();
    assert_eq!(loaded.config.interfaces, ["eth1", "eth2"]);
    assert_eq!(loaded.config.mode, Mode::Native);
    assert!(loaded.config.dry_run);
    assert_eq!(loaded.origin("mode"), &SetBy::CommandLine);
    assert!(loaded.render_yaml().contains("dry_run: true  # command line\n"));

    let wrong = Overrides { interfaces: vec!["eth 1".into()], ..Overrides::default() };
    assert_eq!(
        loaded.override_with(&wrong).unwrap_err().to_string(),
        "command line: in `interfaces`, `eth 1` is not an interface name; write one such as `eth0`"
    );
}

const EFFECTIVE: &str = "interfaces: [\"on\"]  # config.yml:2
mode: auto  # default
dry_run: false  # default
trusted: [192.0.2.1, \"2001:db8::\"]  # config.yml:1
trusted_by_route: false  # default
sip:
  udp: [5060, \"5070-5080\"]  # config.yml:6
  tcp: [5060, 5061]  # default
ports:
  ssh:
    udp: []  # default
    tcp: [22]  # default
  provisioning:
    udp: [69]  # default
    tcp: [8667]  # default
  http:
    udp: []  # default
    tcp: [80, 443]  # default
ipv6_prefix: 64  # default
capacity:
  bans: 1000000  # default
  bans_ipv6: 131072  # default
  watched: 1000000  # default
  offenders: 100000  # default
limits:
  register:
    rate: 10/s  # default
    burst: 250  # default
  register_credentials:
    rate: 10/s  # default
    burst: 250  # default
  invite:
    rate: 10/s  # default
    burst: 100  # default
  options:
    rate: 10/s  # default
    burst: 100  # default
  subscribe:
    rate: 20/s  # default
    burst: 500  # default
  other:
    rate: 20/s  # default
    burst: 500  # default
  syn:
    rate: 20/s  # default
    burst: 300  # default
  prefix:
    ipv4: 24  # default
    ipv6: 64  # default
    register:
      rate: 40/s  # default
      burst: 1000  # default
    register_credentials:
      rate: 40/s  # default
      burst: 1000  # default
    invite:
      rate: 40/s  # default
      burst: 400  # default
    options:
      rate: 40/s  # default
      burst: 400  # default
    subscribe:
      rate: 80/s  # default
      burst: 2000  # default
    other:
      rate: 80/s  # default
      burst: 2000  # default
    syn:
      rate: 80/s  # default
      burst: 1200  # default
  shared:
    register:
      rate: 300/s  # default
      burst: 1000  # default
    register_credentials:
      rate: 300/s  # default
      burst: 1000  # default
    invite:
      rate: 200/s  # default
      burst: 500  # default
    options:
      rate: 200/s  # default
      burst: 500  # default
    subscribe:
      rate: 300/s  # default
      burst: 1000  # default
    other:
      rate: 1000/s  # default
      burst: 2000  # default
    syn:
      rate: 5000/s  # default
      burst: 10000  # default
  tcp_bytes:
    connection:
      rate: 3000/s  # default
      burst: 24000  # default
    source:
      rate: 4000/s  # default
      burst: 32000  # default
    prefix:
      rate: 16000/s  # default
      burst: 128000  # default
    shared:
      rate: 200000/s  # default
      burst: 650000  # default
  known:
    rate: 500/s  # default
    burst: 5000  # default
  greylist: true  # default
  admitted:
    rate: 200/s  # default
    burst: 500  # default
  flood:
    after:
      rate: 100/s  # default
      burst: 2000  # default
    ban: 1m  # default
watchdog:
  after: 2m  # default
peers:
  remember: 2h  # default
offenders:
  remember: 30d  # default
escalation:
  enabled: false  # default
  findtime: 1d  # default
  bantime: 1d  # default
  scope: sip  # default
  ipv4:
    prefix: 24  # default
    offenders: 4  # default
    wide_prefix: 16  # default
    wide_offenders: 64  # default
  ipv6:
    prefix: 56  # default
    offenders: 4  # default
    wide_prefix: 48  # default
    wide_offenders: 16  # default
signatures:
  user_agents: [iWar]  # config.yml:7
jails:
  asterisk-wazo:
    enabled: true  # default
    maxretry: 5  # config.yml:5
    findtime: 10m  # default
    bantime: 1h  # default
    ignoreip: []  # default
    scope: sip  # default
    unproven_scope: sip  # default
    bantime.increment: false  # default
    bantime.factor: 1  # default
    bantime.maxtime: 3650d  # default
    bantime.rndtime: 0s  # default
    bantime.multipliers: []  # default
    bantime.overalljails: false  # default
    bantime.unproven: false  # default
    maxaccounts: 10  # default
    guessing:
      findtime: 7d  # default
      maxretry: 0  # default
      sources: 5  # default
      each: 3  # default
      maxaccounts: 100  # default
    weights:
      wrong-credential: 1  # default
      unknown-account: 1  # default
      acl: 1  # default
      challenge: 1  # default
      call-rejected: 1  # default
      malformed: 1  # default
      login: 1  # default
    filter: \"\"  # default
  recidive:
    enabled: false  # default
    maxretry: 5  # default
    findtime: 1d  # default
    bantime: 7d  # default
    ignoreip: []  # default
    scope: all  # default
    unproven_scope: none  # default
    bantime.increment: false  # default
    bantime.factor: 1  # default
    bantime.maxtime: 3650d  # default
    bantime.rndtime: 0s  # default
    bantime.multipliers: []  # default
    bantime.overalljails: false  # default
    bantime.unproven: false  # default
    maxaccounts: 0  # default
    guessing:
      findtime: 7d  # default
      maxretry: 0  # default
      sources: 5  # default
      each: 3  # default
      maxaccounts: 0  # default
  sshd:
    enabled: true  # default
    maxretry: 5  # default
    findtime: 10m  # default
    bantime: 10m  # default
    ignoreip: []  # default
    scope: ssh  # default
    unproven_scope: ssh  # default
    bantime.increment: false  # default
    bantime.factor: 1  # default
    bantime.maxtime: 3650d  # default
    bantime.rndtime: 0s  # default
    bantime.multipliers: []  # default
    bantime.overalljails: false  # default
    bantime.unproven: false  # default
    maxaccounts: 0  # default
    guessing:
      findtime: 7d  # default
      maxretry: 0  # default
      sources: 5  # default
      each: 3  # default
      maxaccounts: 100  # default
    filter: \"\"  # default
  wazo-provd:
    enabled: true  # default
    maxretry: 10  # default
    findtime: 1m  # default
    bantime: 10m  # default
    ignoreip: []  # default
    scope: provisioning  # default
    unproven_scope: provisioning  # default
    bantime.increment: false  # default
    bantime.factor: 1  # default
    bantime.maxtime: 3650d  # default
    bantime.rndtime: 0s  # default
    bantime.multipliers: []  # default
    bantime.overalljails: false  # default
    bantime.unproven: false  # default
    maxaccounts: 0  # default
    guessing:
      findtime: 7d  # default
      maxretry: 0  # default
      sources: 5  # default
      each: 3  # default
      maxaccounts: 0  # default
    filter: \"\"  # default
sources:
  asterisk:
    notice_log: /var/log/asterisk/fail2ban  # default
    security_log: \"\"  # default
    ami:
      enabled: true  # default
      host: 127.0.0.1  # default
      port: 5038  # default
      remote: false  # default
      listener: asterisk  # default
      user: ringfence  # default
      secret_file: /etc/ringfence/ami.secret  # default
  sshd:
    log: auto  # default
    auth_log: /var/log/auth.log  # default
  wazo_provd:
    log: /var/log/wazo-provd-fail2ban.log  # default
paths:
  state: /var/lib/ringfence  # default
  runtime: /run/ringfence  # default
  bpffs: /sys/fs/bpf/ringfence  # default
";

#[test]
fn the_effective_configuration_says_who_set_what() {
    let loaded = parse(
        "trusted: [192.0.2.1, '2001:db8::']\ninterfaces: [on]\njails:\n  asterisk-wazo:\n    \
         maxretry: 5\nsip: {udp: [5060, 5070-5080]}\nsignatures: {user_agents: [iWar]}\n",
    )
    .unwrap();
    assert_eq!(loaded.render_yaml(), EFFECTIVE);
    let json = loaded.render_json();
    assert_eq!(json["config"]["jails"]["asterisk-wazo"]["maxretry"], json!(5));
    assert_eq!(json["config"]["sip"]["udp"], json!([5060, "5070-5080"]));
    assert_eq!(json["config"]["limits"]["register"]["rate"], json!("10/s"));
    assert_eq!(json["origins"]["jails.asterisk-wazo.maxretry"], json!("config.yml:5"));
    assert_eq!(json["origins"]["mode"], json!("default"));
    assert_eq!(json["files"], json!(["config.yml"]));
}

#[test]
fn the_reference_file_holds_the_defaults() {
    let reference = Config::reference();
    assert_eq!(parse(&reference).unwrap().config, Config::default());
    let uncommented: Vec<&str> =
        reference.lines().filter_map(|line| line.strip_prefix('#')).collect();
    let loaded = parse(&uncommented.join("\n")).unwrap();
    assert_eq!(loaded.config, Config::default());
    assert!(loaded.effective().iter().all(|setting| setting.origin != SetBy::Default));
}

#[test]
fn paths_are_read_while_all_else_is_wrong() {
    let host = host(&[
        ("config.yml", "trustd: 1\npaths: {runtime: /run/other, state: 7}\n"),
        ("conf.d/10-broken.yml", "jails: {sshd: [\n"),
        ("conf.d/20.yaml", "dry_run: true\n"),
        ("conf.d/30.conf", ""),
        ("conf.d/40.yml~", ""),
        ("conf.d/.hidden.yml", ""),
        ("conf.d/50.yml.dpkg-old", ""),
    ]);
    let (loaded, wrong) = Config::load_what_is_right(Some(&host.path().join("config.yml")));
    assert_eq!(loaded.config.paths.runtime, Path::new("/run/other"));
    assert_eq!(loaded.config.paths.bpffs, Config::default().paths.bpffs);
    let wrong = relative(&host, &wrong.to_string());
    assert!(wrong.contains("10-broken.yml:") && wrong.contains("`trustd`"), "{wrong}");
    let ignored: Vec<String> =
        loaded.ignored.iter().map(|file| relative(&host, &file.display().to_string())).collect();
    assert_eq!(ignored, ["conf.d/20.yaml", "conf.d/30.conf"]);
    assert!(load(&host).is_err());
}

#[test]
fn paths_are_read_out_of_what_is_no_yaml() {
    for text in [
        "jails: {sshd: [\npaths: {runtime: /run/other}\n",
        "jails: {sshd: [\npaths:\n  state: /s\n\n  # here\n  runtime: /run/other\nsip: {udp: [\n",
        "\tx\npaths: {runtime: /run/other}\n",
    ] {
        let host = host(&[("config.yml", text)]);
        let (loaded, wrong) = Config::load_what_is_right(Some(&host.path().join("config.yml")));
        assert_eq!(loaded.config.paths.runtime, Path::new("/run/other"), "{text}");
        assert!(!wrong.errors().is_empty(), "{text}");
    }
    // The first file takes precedence here too.
    let host = host(&[
        ("config.yml", "]\npaths: {runtime: /run/main, bpffs: /sys/fs/bpf/main}\n"),
        ("conf.d/10.yml", "]\npaths: {runtime: /run/first}\n"),
        ("conf.d/20.yml", "paths: {state: /second}\n"),
    ]);
    let (loaded, _) = Config::load_what_is_right(Some(&host.path().join("config.yml")));
    let paths = ["/second", "/run/first", "/sys/fs/bpf/main"].map(PathBuf::from);
    let [state, runtime, bpffs] = paths;
    assert_eq!(loaded.config.paths, Paths { state, runtime, bpffs });
}

#[test]
fn only_what_is_set_is_shown() {
    let shown = parse("jails: {sshd: {maxretry: 7}}\n").unwrap().render_set();
    assert_eq!(shown, "jails:\n  sshd:\n    maxretry: 7  # config.yml:1\n");
    assert!(parse("").unwrap().render_set().starts_with("# nothing is set"));
}

#[test]
fn ports_get_names_from_every_file() {
    let host = host(&[
        ("config.yml", "ports: {vpn: {udp: [1194]}}\njails: {asterisk-wazo: {scope: web-rtc}}\n"),
        ("conf.d/10-me.yml", "ports: {web-rtc: {tcp: [8089-8090]}, ssh: {tcp: [22, 2222]}}\n"),
    ]);
    let Loaded { config, .. } = load(&host).unwrap();
    let named: Vec<(u8, &str)> =
        config.ports.iter().map(|(scope, class)| (scope.bit(), &*class.name)).collect();
    assert_eq!(named, [(1, "ssh"), (2, "provisioning"), (3, "http"), (4, "vpn"), (5, "web-rtc")]);
    assert_eq!(config.jails["asterisk-wazo"].scope, Scope::Ports(5));
    let (_, ssh) = config.ports.iter().next().unwrap();
    assert_eq!(ssh.tcp, [PortRange::single(22), PortRange::single(2222)]);

    for (text, expected) in [
        (
            "ports: {sip: {udp: [1]}}",
            "1:9: in `ports`, `sip` is taken; give these ports another name",
        ),
        (
            "ports: {Big Ones: {udp: [1]}}",
            "1:9: in `ports`, `Big Ones` is not a name for ports; use lower-case letters, digits, `-` \
             and `_`, at most 32",
        ),
        (
            "ports: {a: {tcp: [1]}, b: {tcp: [2]}, c: {tcp: [3]}}",
            "1:39: in `ports`, `c` is one too many: at most 5 names are possible, and there are \
             `ssh`, `provisioning`, `http`, `a`, `b`",
        ),
        ("ports: {a: {sctp: [1]}}", "1:13: unknown key `ports.a.sctp`; known here: `udp`, `tcp`"),
        (
            "ports: {a: {}}\njails: {asterisk-wazo: {scope: a}}",
            "2: the scope `a` closes no ports; list them in `ports: {a: {tcp: [...]}}`",
        ),
        (
            "ports: {a: {}}\njails: {sshd: {unproven_scope: a}}",
            "2: the scope `a` closes no ports; list them in `ports: {a: {tcp: [...]}}`",
        ),
        (
            "ports: {none: {tcp: [1]}}",
            "1:9: in `ports`, `none` is taken; give these ports another name",
        ),
    ] {
        assert_eq!(complaint(text), expected, "{text}");
    }
}

fn networks() -> impl Strategy<Value = Vec<IpNet>> {
    let v4 = (any::<u32>(), 1..=32_u8).prop_map(|(bits, length)| {
        IpNet::new_assert(std::net::Ipv4Addr::from(bits).into(), length)
    });
    let v6 = (any::<u128>(), 1..=128_u8).prop_map(|(bits, length)| {
        IpNet::new_assert(std::net::Ipv6Addr::from(bits).into(), length)
    });
    vec(prop_oneof![v4, v6].prop_map(|network| network.trunc()), 0..4)
}

fn host_names() -> impl Strategy<Value = Vec<HostName>> {
    proptest::collection::btree_set(
        "[a-z0-9]{1,8}(-[a-z0-9]{1,4})?(\\.[a-z][a-z0-9]{0,5}){1,3}",
        0..3,
    )
    .prop_map(|names| names.iter().map(|name| name.parse().unwrap()).collect())
}

fn times(longest: u64) -> impl Strategy<Value = Duration> {
    (1000..=longest * 1000).prop_map(Duration::from_millis)
}

fn port_ranges() -> impl Strategy<Value = Vec<PortRange>> {
    let range = (1..=u16::MAX, 1..=u16::MAX)
        .prop_map(|(a, b)| PortRange { first: a.min(b), last: a.max(b) });
    vec(prop_oneof![range, (1..=u16::MAX).prop_map(PortRange::single)], 1..4)
}

fn port_classes() -> impl Strategy<Value = PortClasses> {
    vec(port_ranges(), 8).prop_map(|ranges| {
        let mut classes = PortClasses::default();
        classes.add("vpn").unwrap();
        for (class, ranges) in classes.iter_mut().zip(ranges.chunks(2)) {
            class.udp.clone_from(&ranges[0]);
            class.tcp.clone_from(&ranges[1]);
        }
        classes
    })
}

fn paths() -> impl Strategy<Value = PathBuf> {
    "/\\PC{0,20}".prop_filter_map("separators", |text| {
        (!text.contains(['\u{2028}', '\u{2029}', '\u{feff}'])).then(|| text.into())
    })
}

fn sources() -> impl Strategy<Value = Sources> {
    let place = (any::<bool>(), "[a-z0-9.:_-]{1,20}", 1..=u16::MAX, any::<bool>(), "[a-z0-9]{1,9}");
    let ami = (place, "\\PC{1,9}", paths()).prop_filter_map(
        "spaces",
        |((enabled, host, port, remote, listener), user, secret_file)| {
            let strange = |c: char| c.is_whitespace() || c == '\u{feff}';
            (!user.contains(strange)).then_some(AmiSource {
                enabled,
                host,
                port,
                remote,
                listener,
                user,
                secret_file,
            })
        },
    );
    let asterisk = (paths(), proptest::option::of(paths()), ami).prop_map(
        |(notice_log, security_log, ami)| AsteriskSource { notice_log, security_log, ami },
    );
    (asterisk, select(&SshdLog::ALL), paths(), paths()).prop_map(
        |(asterisk, log, auth_log, provd)| Sources {
            asterisk,
            sshd: SshdSource { log, auth_log },
            logs: BTreeMap::from([(PROVD, provd)]),
        },
    )
}

fn escalations() -> impl Strategy<Value = Escalation> {
    let thresholds = |shortest: u8, longest: u8| {
        let lengths =
            (shortest..longest).prop_flat_map(move |wide| (Just(wide), wide + 1..=longest));
        (lengths, 0..=10_000_u32, 0..=10_000_u32).prop_map(
            |((wide_prefix, prefix), offenders, wide_offenders)| Thresholds {
                prefix,
                offenders,
                wide_prefix,
                wide_offenders,
            },
        )
    };
    let scope = select(&[Scope::Sip, Scope::Ports(1), Scope::Ports(4), Scope::All]);
    let times = (times(30 * 86_400), times(3650 * 86_400));
    (any::<bool>(), times, scope, thresholds(8, 32), thresholds(16, 128)).prop_map(
        |(enabled, (findtime, bantime), scope, ipv4, ipv6)| Escalation {
            enabled,
            findtime,
            bantime,
            scope,
            ipv4,
            ipv6,
        },
    )
}

fn increments() -> impl Strategy<Value = Increment> {
    let flags = (any::<bool>(), any::<bool>(), any::<bool>());
    let factor = (1..=1_000_000_u32).prop_map(|n| Factor::from_thousandths(n).unwrap());
    let multipliers = vec(1..=u32::MAX, 0..=MULTIPLIERS_MAX);
    (flags, factor, times(3650 * 86_400), times(3650 * 86_400), multipliers).prop_map(
        |((enabled, overalljails, unproven), factor, maxtime, rndtime, multipliers)| Increment {
            enabled,
            factor,
            maxtime,
            rndtime,
            multipliers,
            overalljails,
            unproven,
        },
    )
}

fn jail_settings() -> impl Strategy<Value = JailSettings> {
    let scope = || select(&[Scope::Sip, Scope::Ports(1), Scope::Ports(4), Scope::All]);
    (
        any::<bool>(),
        1..=10_000_u32,
        times(30 * 86_400),
        times(3650 * 86_400),
        (networks(), host_names()),
        scope(),
        proptest::option::of(scope()),
        (increments(), 0..=10_000_u32, proptest::array::uniform7(0..=10_000_u32)),
    )
        .prop_map(|(enabled, maxretry, findtime, bantime, ignoreip, scope, unproven, more)| {
            let (ignoreip, ignore_names) = ignoreip;
            let (increment, maxaccounts, chosen) = more;
            let mut weights = Weights::ASTERISK;
            weights.iter_mut().zip(chosen).for_each(|((_, weight), chosen)| *weight = chosen);
            JailSettings {
                enabled,
                maxretry,
                weights: Some(weights),
                maxaccounts,
                findtime,
                bantime,
                ignoreip,
                ignore_names,
                scope,
                unproven_scope: unproven,
                increment,
                guessing: GuessingSettings {
                    findtime: findtime.max(Duration::from_hours(1)),
                    ..GuessingSettings::ACCOUNTS
                },
                filter: None,
                own: None,
            }
        })
}

fn own_jails() -> impl Strategy<Value = OwnJail> {
    let logs =
        "/[a-z]{1,8}(/[a-z*?. -]{1,8}x){0,2}".prop_filter_map("**", |text| text.parse().ok());
    let terms = "[A-Z_]{1,8}=[a-z. -]{0,8}x( [+] _[A-Z]{1,4}=[a-z]{1,4})?";
    let matches = terms.prop_filter_map("terms", |text| text.parse().ok());
    (vec(logs, 1..4), vec(matches, 0..3), any::<bool>())
        .prop_map(|(log, journal, proven)| OwnJail { log, journal, proven })
}

fn own_jail(like: &JailSettings, own: OwnJail) -> JailSettings {
    let filter = Some("/etc/fail2ban/filter.d/a b.conf[mode=\"x, y\"]".parse().unwrap());
    JailSettings { filter, own: Some(own), weights: None, ..like.clone() }
}

fn limits() -> impl Strategy<Value = Limits> {
    let rate = (1..=1_000_000_u32, times(3600))
        .prop_map(|(events, period)| Rate::new(events, period).unwrap());
    let limit = (rate, 1..=100_000_u32).prop_map(|(rate, burst)| Limit { rate, burst }).boxed();
    let classes = proptest::array::uniform7(limit.clone()).prop_map(
        |[register, register_credentials, invite, options, subscribe, other, syn]| ClassLimits {
            register,
            register_credentials,
            invite,
            options,
            subscribe,
            other,
            syn,
        },
    );
    (
        proptest::array::uniform3(classes),
        (8..=32_u8, 16..=128_u8),
        proptest::array::uniform7(limit),
        any::<bool>(),
        times(86_400),
    )
        .prop_map(
            |(
                [source, classes, shared],
                (ipv4, ipv6),
                [known, admitted, after, connection, of_source, of_prefix, of_all],
                greylist,
                ban,
            )| {
                Limits {
                    source,
                    prefix: PrefixLimits { ipv4, ipv6, classes },
                    shared,
                    tcp_bytes: ByteLimits {
                        connection,
                        source: of_source,
                        prefix: of_prefix,
                        shared: of_all,
                    },
                    known,
                    greylist,
                    admitted,
                    flood: Flood { after, ban },
                }
            },
        )
}

fn configs() -> impl Strategy<Value = Config> {
    let defaults = Config::default().jails;
    let interface = prop_oneof![
        "[a-z0-9._@-]{1,15}",
        select(vec!["on".to_owned(), "null".into(), "~".into(), "1e3".into(), "#x".into()]),
    ]
    .prop_filter("dots", |name| name != "." && name != "..");
    let top = (
        proptest::collection::btree_set(interface, 0..4),
        select(&Mode::ALL),
        any::<bool>(),
        (networks(), host_names()),
        (port_ranges(), port_ranges(), port_classes()),
    );
    let user_agents = proptest::collection::btree_set("[!-)+-~][ -)+-~]{2,28}[!-)+-~]\\*?", 0..4)
        .prop_filter_map("twice", |texts| {
            let texts: std::collections::BTreeSet<String> =
                texts.into_iter().map(|text| text.to_ascii_lowercase()).collect();
            texts.iter().map(|text| text.parse().ok()).collect::<Option<Vec<UserAgent>>>()
        });
    let remember = times(7 * 86_400).prop_map(|time| time.max(Duration::from_mins(1)));
    let sizes = (proptest::array::uniform4(1..=10_000_000_u32), 48..=128_u8);
    (
        top,
        sizes,
        (limits(), user_agents, remember, escalations()),
        (jail_settings(), proptest::option::of(own_jails())),
        sources(),
        (paths(), paths(), paths()),
    )
        .prop_map(move |(top, (sizes, ipv6_prefix), how, (jail, own), sources, paths)| {
            let (interfaces, mode, dry_run, (trusted, trusted_names), (udp, tcp, ports)) = top;
            Config {
                interfaces: interfaces.into_iter().collect(),
                mode,
                dry_run,
                trusted_by_route: dry_run,
                trusted,
                trusted_names,
                sip: SipPorts { udp, tcp },
                ports,
                // A network that is one source has no several offenders in it.
                ipv6_prefix: if how.3.ipv6.prefix < ipv6_prefix { ipv6_prefix } else { 128 },
                capacity: Capacity {
                    bans: sizes[0],
                    bans_ipv6: sizes[1],
                    watched: sizes[2],
                    offenders: sizes[3],
                },
                limits: how.0,
                watchdog: Watchdog {
                    after: if dry_run {
                        Duration::ZERO
                    } else {
                        how.2.min(Duration::from_hours(24))
                    },
                },
                peers: Peers { remember: how.2 },
                offenders: Offenders { remember: how.2 },
                escalation: how.3,
                signatures: Signatures { user_agents: how.1 },
                jails: built_in_jails()
                    .map(|(_, name)| {
                        let weights =
                            jail.weights.clone().filter(|_| defaults[name].weights.is_some());
                        (name, JailSettings { weights, ..jail.clone() })
                    })
                    .chain(own.map(|own| ("of-my-own", own_jail(&jail, own))))
                    .collect(),
                sources,
                paths: Paths { state: paths.0, runtime: paths.1, bpffs: paths.2 },
            }
        })
}

proptest! {
    #[test]
    fn what_is_rendered_is_read_back(config in configs()) {
        let (files, ignored) = (vec![], vec![]);
        let loaded = Loaded { config, files, ignored, origins: BTreeMap::new() };
        let yaml = loaded.render_yaml();
        let back = parse(&yaml).map_err(|errors| TestCaseError::fail(format!("{errors}\n{yaml}")))?;
        prop_assert_eq!(&back.config, &loaded.config, "{}", yaml);
        prop_assert_eq!(back.render_json()["config"].clone(), loaded.render_json()["config"].clone());
        let json: Json = loaded.render_json()["config"].clone();
        prop_assert_eq!(parse(&json.to_string()).unwrap().config, loaded.config);
    }

    #[test]
    fn any_bytes_are_answered(bytes in vec(any::<u8>(), 0..256)) {
        if let Err(errors) = Config::parse(Path::new("config.yml"), &bytes) {
            prop_assert!(!errors.errors().is_empty());
        }
    }

    #[test]
    fn any_yaml_like_text_is_answered(
        text in "([-?:,{}\\[\\]#&*!|>'\"%@` \n\t]|mode|jails|sip|udp|trusted|[0-9a]|\r|\\PC){0,60}",
    ) {
        if let Err(errors) = parse(&text) {
            prop_assert!(errors.errors().iter().all(|error| error.line.is_some_and(|line| line > 0)));
        }
    }

    #[test]
    fn any_values_are_answered(
        key in select(vec!["trusted: [", "sip: {udp: [", "mode: ", "interfaces: [",
            "limits: {register: {rate: ", "signatures: {user_agents: [",
            "limits: {prefix: {ipv4: ", "jails: {asterisk-wazo: {findtime: "]),
        value in "[-0-9a-f./: ,\"msh]{0,24}",
        tail in select(vec!["", "]", "]}", "}}"]),
    ) {
        match parse(&format!("{key}{value}{tail}")) {
            Ok(loaded) => prop_assert!(parse(&loaded.render_yaml()).is_ok()),
            Err(errors) => prop_assert!(!errors.errors().is_empty()),
        }
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
    for (text, says) in [
        ("jails: {sshh: {maxretry: 3}}", "1:9: unknown key `jails.sshh`; did you mean `sshd`?"),
        (
            "jails: {web: {log: [/x]}}",
            "1:9: unknown key `jails.web`; known here: `asterisk-wazo`, `recidive`, `sshd`, \
             `wazo-provd`; a jail of your own has a `filter`",
        ),
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

#[test]
fn a_jail_of_ones_own_may_be_in_several_files() {
    let directory = tempfile::tempdir().unwrap();
    let (main, conf_d) = (directory.path().join("config.yml"), directory.path().join("conf.d"));
    fs::create_dir(&conf_d).unwrap();
    fs::write(&main, "jails: {web: {filter: x, log: [/a], maxretry: 3}}").unwrap();
    fs::write(conf_d.join("50.yml"), "jails: {web: {maxretry: 4}}").unwrap();
    let loaded = Config::load(Some(&main)).unwrap();
    assert_eq!(loaded.config.jails["web"].maxretry, 4);
}

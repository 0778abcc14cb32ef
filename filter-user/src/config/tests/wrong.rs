//! Errors in a file, and their messages.

use super::*;

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
            "jails: {sshd: {bantime.incremental: true}}",
            "1:16: unknown key `jails.sshd.bantime.incremental`; did you mean `bantime.increment`?",
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
    let of_jail = complaint("jails: {sshd: {factor: 2}}");
    let (says, keys) = of_jail.split_once("; known here: ").unwrap();
    assert_eq!(says, "1:16: unknown key `jails.sshd.factor`");
    assert!(keys.starts_with("`enabled`, `maxretry`, `findtime`, "), "{keys}");
    assert!(!keys.contains("weights") && !keys.contains("journal"), "sshd has none: {keys}");
    let long = format!("{}: 1", "k".repeat(900));
    assert!(complaint(&long).len() < 350, "{}", complaint(&long));
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
        "`jails.asterisk-wazo.scope` is `udp`; expected `sip`, `ssh`, `provisioning`, `http`, \
             `throttle` or `all`",
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
        "`paths.state` is `var/lib`; expected an absolute path such as `/var/lib/ringfence`",
    ),
    (
        "paths: {state: \"/a\\nb\"}",
        "`paths.state` is the text `\"/a\\nb\"`; expected an absolute path such as \
             `/var/lib/ringfence`",
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
             `dry_run`, `trusted`, `trusted_by_route`, `protect`, `sip`, `ports`, `exposure`, `ipv6_prefix`, `capacity`, `limits`, `watchdog`, `confirm`, `peers`, `offenders`, \
             `escalation`, `signatures`, \
             `jails`, `geo`, `fleet`, `sources`, `api`, `paths`"
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
fn services_are_not_closed_to_those_that_need_them() {
    let errors = |text: &str| {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("config.yml");
        fs::write(&file, text).unwrap();
        read_hierarchy(&file, true).map_or_else(|errors| errors.to_string(), |_| String::new())
    };
    for (text, why) in [
        ("exposure: {closed: [sip]}", "`ringfence maintenance on`"),
        ("exposure: {closed: [5060/udp]}", "`ringfence maintenance on`"),
        ("exposure: {closed: [5000-6000/tcp]}", "`ringfence maintenance on`"),
        ("exposure: {closed: [ssh]}", "nobody could log in"),
        ("exposure: {closed: [20-30/tcp]}", "nobody could log in"),
        ("exposure: {trusted: [ssh]}", "`trusted` is empty"),
        ("exposure: {trusted: [postgres]}", "is not a known service"),
        ("exposure: {trusted: [68/udp]}", "DHCP"),
    ] {
        let found = errors(text);
        assert!(found.contains(why), "{text}: {found}");
    }
    for text in [
        "exposure: {trusted: [postgresql, sip], closed: [22/udp, rabbitmq]}",
        "{trusted: [192.0.2.0/24], exposure: {trusted: [ssh]}}",
    ] {
        assert_eq!(errors(text), "", "{text}");
    }
}

#[test]
fn an_alert_has_one_way_and_no_shell() {
    for (text, expected) in [
        (
            "alerts: {ops: {events: [store]}}",
            "`alerts.ops` says not how it is sent; set one of `command`, `webhook`, `mail` and `syslog`",
        ),
        ("actions: {report: {}}", "set one of `command`, `webhook` and `crowdsec`"),
        (
            "actions: {report: {webhook: \"https://a.example\", crowdsec: /x}}",
            "has both `webhook` and `crowdsec`",
        ),
        (
            "alerts: {ops: {syslog: true, mail: [root]}}",
            "`alerts.ops` has both `mail` and `syslog`; write one of its own for each",
        ),
        ("alerts: {ops: {syslog: true, key_file: /k}}", "but there is none"),
        (
            "actions: {ops: {command: [/x], jails: [ssh]}}",
            "there is no jail `ssh`; there are `asterisk-wazo`",
        ),
        ("alerts: {ops: {command: [notify]}}", "write the path of the program"),
        ("actions: {ops: {command: [\"a\\nb\"]}}", "has control characters"),
        ("alerts: {ops: {syslog: true, events: [stor]}}", "there is no event `stor`"),
        ("alerts: {ops: {mail: [\"a@b\\r\\nBcc: c@d\"]}}", "is not the address of a mailbox"),
        ("alerts: {ops: {webhook: \"http://alerts.example/\"}}", "use `https`"),
        ("alerts: {ops: {syslog: true, quiet: \"22-7\"}}", "use two times of the day"),
        ("alerts: {Ops: {syslog: true}}", "is not a name for an alert"),
        ("actions: {ops: {command: [/x], group: 5m}}", "unknown key `actions.ops.group`"),
    ] {
        let said = complaint(text);
        assert!(said.contains(expected), "{text}: {said}");
    }
    let many: Vec<String> = (0..17).map(|n| format!("  a{n}: {{syslog: true}}\n")).collect();
    assert!(complaint(&format!("alerts:\n{}", many.concat())).contains("at most 16"));
    assert!(parse("alerts:\nactions:\n").is_ok());
}

//! Whole configurations of fail2ban's, in and out.

use std::fs;

use rusqlite::Connection;

use super::*;
use crate::jail_filter;

const BASE: &str = "[DEFAULT]\nenabled = false\nmaxretry = 5\nfindtime = 10m\nbantime = 10m\n\
    backend = auto\nport = 0:65535\naction = iptables-multiport[port=\"%(port)s\"]\n\
    filter = %(__name__)s\n[sshd]\nport = ssh\nlogpath = /var/log/auth.log\n\
    [my_web]\nport = http,https\nlogpath = /var/log/nginx/*error.log\n";

fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }
    directory
}

fn import_from(directory: &Path, wazo: bool) -> Result<Import, Error> {
    let sources = Sources {
        directory: directory.to_owned(),
        database: Some(directory.join("f.sqlite3")).filter(|path| path.exists()),
        wazo,
    };
    import(&sources, &Config::default().ports, Timestamp::from_second(2000).unwrap())
}

fn config(import: &Import) -> Config {
    let read = Config::parse(Path::new("x"), import.settings.as_bytes());
    read.unwrap_or_else(|why| panic!("{why}\n{}", import.settings)).config
}

#[test]
fn a_built_in_jail_takes_its_settings() {
    let wazo = "[asterisk-wazo]\nenabled = true\nfilter = asterisk-wazo\nmaxretry = 7\nbantime = 1d12h\n\
        logpath = /var/log/asterisk/fail2ban\nignoreip = 127.0.0.1/8 203.0.113.9/24 2001:db8::1\n\
        [sshd]\nbantime = -1\nbantime.increment = true\nbantime.multipliers = 1 2 4\nenabled = true\n\
        bantime.maxtime = 1w\n";
    let directory = tree(&[("jail.conf", BASE), ("jail.d/wazo.conf", wazo)]);
    let import = import_from(directory.path(), true).unwrap();
    let config = config(&import);
    let jail = &config.jails["asterisk-wazo"];
    assert_eq!((jail.maxretry, jail.bantime.as_secs()), (7, 129_600));
    let ignored: Vec<String> = jail.ignoreip.iter().map(ToString::to_string).collect();
    assert_eq!(ignored, ["203.0.113.0/24", "2001:db8::1/128"]);
    let sshd = &config.jails["sshd"];
    assert_eq!(sshd.bantime, duration::MAX);
    assert!(sshd.increment.enabled);
    assert!(import.taken.contains(&"asterisk-wazo: its settings".to_owned()), "{import:?}");
}

#[test]
fn a_jail_that_fail2ban_has_disabled_is_disabled() {
    let directory = tree(&[("jail.conf", BASE)]);
    let import = import_from(directory.path(), false).unwrap();
    assert!(!config(&import).jails["sshd"].enabled);
    assert!(config(&import).jails["asterisk-wazo"].enabled, "nothing was said of it");
}

#[test]
fn a_jail_with_the_filter_of_one_that_is_there_is_that_jail() {
    let local = "[asterisk]\nenabled = true\nlogpath = /var/log/asterisk/messages\nmaxretry = 3\n\
        [sshd]\nenabled = true\n";
    let directory = tree(&[("jail.conf", BASE), ("jail.local", local)]);
    let import = import_from(directory.path(), false).unwrap();
    let taken = config(&import);
    assert_eq!(taken.jails["asterisk-wazo"].maxretry, 3);
    assert_eq!(taken.sources.asterisk.notice_log, Path::new("/var/log/asterisk/messages"));
    assert!(!import.settings.contains("auth_log"), "it is the default:\n{}", import.settings);
    // The jail of that name comes first.
    let local =
        format!("{local}[asterisk-wazo]\nenabled = true\nmaxretry = 9\nlogpath = /a /b\n /c\n");
    fs::write(directory.path().join("jail.local"), local).unwrap();
    let import = import_from(directory.path(), false).unwrap();
    assert_eq!(config(&import).jails["asterisk-wazo"].maxretry, 9);
    let text = import.left_out.join("\n");
    assert!(
        text.contains("asterisk: the jail `asterisk-wazo` is `asterisk-wazo` already"),
        "{text}"
    );
    assert!(text.contains("asterisk-wazo: logpath /a /b, /c: "), "{text}");
}

#[test]
fn what_cannot_be_taken_is_said_with_the_reason() {
    let local = "[sshd]\nenabled = true\nmaxretry = 0\nfindtime = 10y 3w 2h\nignoreip = 0.0.0.0/0\n\
        action = sendmail[name=x]\n[my_web]\nenabled = true\n";
    let directory = tree(&[("jail.conf", BASE), ("jail.local", local)]);
    let import = import_from(directory.path(), false).unwrap();
    config(&import);
    let text = import.left_out.join("\n");
    for expected in [
        "sshd: maxretry: 0: ",
        "sshd: ignoreip 0.0.0.0/0: ",
        "sshd: action sendmail",
        "my_web: ",
        "there is no such filter",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn bans_in_force_come_with_their_jail() {
    let local = "[sshd]\nenabled = true\n";
    let directory = tree(&[("jail.conf", BASE), ("jail.local", local)]);
    let database = Connection::open(directory.path().join("f.sqlite3")).unwrap();
    database
        .execute_batch(
            "CREATE TABLE fail2banDb(version INTEGER); INSERT INTO fail2banDb VALUES(4);
            CREATE TABLE bips(ip TEXT, jail TEXT, timeofban INTEGER, bantime INTEGER);
            INSERT INTO bips VALUES('192.0.2.1', 'sshd', 1900, 600), ('192.0.2.2', 'web', 1900, 600),
                ('192.0.2.0/24', 'sshd', 1900, 600), ('root', 'sshd', 1900, 600);",
        )
        .unwrap();
    let import = import_from(directory.path(), false).unwrap();
    let until = Some(Timestamp::from_second(2500).unwrap());
    let expected = Ban { jail: "sshd".to_owned(), network: "192.0.2.1/32".parse().unwrap(), until };
    assert_eq!(import.bans, [expected]);
    let text = import.left_out.join("\n");
    for expected in ["1 ban by `web`", "1 ban of networks by `sshd`", "1 ban of what is no address"]
    {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

#[test]
fn the_database_is_where_the_configuration_says() {
    let local = "[Definition]\ndbfile = None\n";
    let directory = tree(&[("jail.conf", BASE), ("fail2ban.local", local)]);
    let import = import_from(directory.path(), false).unwrap();
    assert!(import.left_out.iter().any(|line| line.contains("no database")), "{import:?}");
    let local = "[DEFAULT]\ndbfile = /nonexistent/f.sqlite3\n";
    fs::write(directory.path().join("fail2ban.local"), local).unwrap();
    let import = import_from(directory.path(), false).unwrap();
    assert!(
        import.left_out.iter().any(|line| line.contains("/nonexistent/f.sqlite3: is not there"))
    );
}

#[test]
fn a_host_without_wazo_is_told_so() {
    let directory = tree(&[("jail.conf", BASE)]);
    let error = import_from(directory.path(), true).unwrap_err().to_string();
    assert!(error.contains("no jail `asterisk-wazo`"), "{error}");
}

#[test]
fn names_and_texts_are_written_as_yaml_reads_them() {
    assert_eq!(own_name("My_Web.Site"), "my-web-site");
    let matches = ["_SYSTEMD_UNIT=x.service _UID=0 + _COMM=x".to_owned(), "_COMM=y+z".to_owned()];
    let expected = ["_SYSTEMD_UNIT=x.service _UID=0", "_COMM=x", "_COMM=y+z"];
    assert_eq!(alternatives(&matches), expected);
    for (text, written) in [
        ("/var/log/a.log", "/var/log/a.log"),
        ("/var/log/*error.log", "\"/var/log/*error.log\""),
        ("::1", "\"::1\""),
        ("a\"b: #", "\"a\\\"b: #\""),
        ("", "\"\""),
    ] {
        assert_eq!(quoted(text), written);
    }
}

#[test]
fn another_jail_comes_with_its_filter_and_its_bans() {
    let local = "[my_web]\nenabled = true\nmaxretry = 2\nfindtime = 1h\n\
        [mail]\nenabled = true\nbackend = systemd\nport = smtp\n";
    let web = "[Definition]\nfailregex = ^refused <HOST>$\n";
    let mail =
        "[Definition]\nfailregex = ^refused <HOST>$\njournalmatch = _SYSTEMD_UNIT=mail.service\n";
    let directory = tree(&[
        ("jail.conf", BASE),
        ("jail.local", local),
        ("filter.d/my_web.conf", web),
        ("filter.d/mail.conf", mail),
    ]);
    let import = import_from(directory.path(), false).unwrap();
    let config = config(&import);
    let jail = &config.jails["my-web"];
    assert_eq!((jail.maxretry, jail.findtime.as_secs(), jail.bantime.as_secs()), (2, 3600, 600));
    let shown = |name: &str| import.settings.lines().any(|line| line.trim() == name);
    assert!(shown("log: [\"/var/log/nginx/*error.log\"]"), "{}", import.settings);
    assert!(shown("journal: [\"_SYSTEMD_UNIT=mail.service\"]"), "{}", import.settings);
    assert!(shown("scope: http"), "{}", import.settings);
    // As fail2ban's does, its ban closes what it closes whoever could have forged it.
    assert_eq!(jail.unproven_scope, Some(jail.scope));
    let all = config.ports.name(config.jails["mail"].scope);
    assert_eq!(all, "all", "no class of ports is of mail alone");
    let said = import.left_out.join("\n");
    assert!(said.contains("mail: port `smtp`: "), "{said}");
    let parser = jail_filter::parser("my-web", jail, LogType::File);
    assert!(parser.is_ok_and(|parser| parser.is_some()), "the jail can use the filter");
}

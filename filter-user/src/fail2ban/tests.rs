//! Imports of complete fail2ban configurations.

use std::fs;
use std::path::PathBuf;

use super::*;
use crate::config::{OWN_JAILS_MAX, PortClasses, Scope, SshdLog, built_in_jails};
use crate::{duration, jail_filter};

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

fn sources(directory: &Path, wazo: bool) -> Sources {
    let (directory, asterisk) = (directory.to_owned(), directory.join("asterisk"));
    Sources { directory, database: None, wazo, asterisk }
}

fn import_from(directory: &Path, wazo: bool) -> Result<Import, Error> {
    let now = Timestamp::from_second(2000).unwrap();
    import(&sources(directory, wazo), &Config::default(), now)
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
    // A jail with the name of the built-in one takes precedence.
    let local =
        format!("{local}[asterisk-wazo]\nenabled = true\nmaxretry = 9\nlogpath = /a\n /c\n");
    fs::write(directory.path().join("jail.local"), local).unwrap();
    let import = import_from(directory.path(), false).unwrap();
    assert_eq!(config(&import).jails["asterisk-wazo"].maxretry, 9);
    let text = import.left_out.join("\n");
    assert!(
        text.contains(
            "asterisk: the jail `asterisk-wazo` has already been imported as `asterisk-wazo`"
        ),
        "{text}"
    );
    assert!(
        text.contains("asterisk-wazo: logpath /c: `notice_log` is a single file, /a"),
        "{text}"
    );
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
        "the filter does not exist",
    ] {
        assert!(text.contains(expected), "{expected}\n{text}");
    }
}

/// [`Here`], with bans as from a database.
struct WithBans(Bans);

impl Daemon for WithBans {
    fn check(&self, text: &str) -> Result<(), String> {
        Here.check(text)
    }

    fn differ(&self, one: &str, other: &str) -> Result<bool, String> {
        Here.differ(one, other)
    }

    fn asterisk_levels(&self, etc: &Path, log: &Path) -> Option<Vec<String>> {
        Here.asterisk_levels(etc, log)
    }

    fn bans(&self, _database: &Path, _now: Timestamp) -> Result<Bans, Error> {
        Ok(self.0.clone())
    }
}

/// An import with these bans in the database, by address and jail, and this many unreadable entries.
fn import_with_bans(
    directory: &tempfile::TempDir,
    bans: &[(&str, &str)],
    unreadable: usize,
) -> Import {
    let until = Some(Timestamp::from_second(2500).unwrap());
    let banned = |(network, jail): &(&str, &str)| Banned {
        jail: (*jail).to_owned(),
        network: network.parse().unwrap(),
        until,
    };
    let bans = Bans { in_force: bans.iter().map(banned).collect(), unreadable };
    let now = Timestamp::from_second(2000).unwrap();
    let config = Config::default();
    let sources = sources(directory.path(), false);
    ::fail2ban::import(&sources, existing(&config), &WithBans(bans), now).unwrap()
}

#[test]
fn bans_in_force_come_with_their_jail() {
    let local = "[sshd]\nenabled = true\n";
    let directory = tree(&[("jail.conf", BASE), ("jail.local", local)]);
    let bans = [("192.0.2.1/32", "sshd"), ("192.0.2.2/32", "web"), ("192.0.2.0/24", "sshd")];
    let import = import_with_bans(&directory, &bans, 1);
    let until = Some(Timestamp::from_second(2500).unwrap());
    let expected = Ban { jail: "sshd".to_owned(), network: "192.0.2.1/32".parse().unwrap(), until };
    assert_eq!(import.bans, [expected]);
    let text = import.left_out.join("\n");
    for expected in [
        "1 ban by `web`",
        "1 ban of networks by `sshd`",
        "1 ban of something other than an address",
    ] {
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
        import.left_out.iter().any(|line| line.contains("/nonexistent/f.sqlite3: does not exist"))
    );
}

#[test]
fn a_host_without_wazo_is_told_so() {
    let directory = tree(&[("jail.conf", BASE)]);
    let error = import_from(directory.path(), true).unwrap_err().to_string();
    assert!(error.contains("no jail `asterisk-wazo`"), "{error}");
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
    // As in fail2ban, its ban closes everything, even if the source may be forged.
    assert_eq!(jail.unproven_scope, Some(jail.scope));
    let all = config.ports.name(config.jails["mail"].scope);
    assert_eq!(all, "all", "no class of ports is of mail alone");
    let said = import.left_out.join("\n");
    assert!(said.contains("mail: port `smtp`: "), "{said}");
    let parser = jail_filter::parser("my-web", jail, LogType::File);
    assert!(parser.is_ok_and(|parser| parser.is_some()), "the jail can use the filter");
}

/// The import of a `jail.local` with these lines beside [`BASE`], and of filters with these names.
fn imported(local: &str, filters: &[&str]) -> Import {
    let directory = tree(&[("jail.conf", BASE), ("jail.local", local)]);
    for filter in filters {
        let path = directory.path().join("filter.d").join(filter);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, "[Definition]\nfailregex = ^refused <HOST>$\n").unwrap();
    }
    let import = import_from(directory.path(), false).unwrap();
    // The written file is valid, whatever was imported.
    config(&import);
    import
}

/// The TCP ports of a name.
fn tcp(config: &Config, class: &str) -> Vec<String> {
    let (_, class) = config.ports.iter().find(|(_, named)| named.name == class).unwrap();
    class.tcp.iter().map(ToString::to_string).collect()
}

fn has(lines: &[String], expected: &str) {
    assert!(lines.iter().any(|line| line.contains(expected)), "{expected}\n{lines:#?}");
}

#[test]
fn a_ban_closes_what_it_closed() {
    let import = imported("[sshd]\nenabled = true\nport = 2222\n", &[]);
    assert_eq!(tcp(&config(&import), "ssh"), ["2222"]);
    has(&import.taken, "sshd: a ban closes the TCP ports 2222");

    let import = imported("[sshd]\nenabled = true\nport = ssh,2200:2210\n", &[]);
    assert_eq!(tcp(&config(&import), "ssh"), ["22", "2200-2210"]);

    let import = imported("[sshd]\nenabled = true\nport = ssh\n", &[]);
    assert!(!import.settings.contains("ports:"), "{}", import.settings);

    for all in ["port = 0:65535", "action = iptables-allports[name=x]", "port = 1:65535"] {
        let import = imported(&format!("[sshd]\nenabled = true\n{all}\n"), &[]);
        assert_eq!(config(&import).jails["sshd"].scope, Scope::All, "{all}");
    }

    let import = imported("[sshd]\nenabled = true\nport = my-ssh\n", &[]);
    has(&import.left_out, "sshd: port `my-ssh`: ");

    let asterisk = |port: &str| {
        imported(&format!("[asterisk]\nenabled = true\nport = {port}\nlogpath = /a\n"), &[])
    };
    let ports = |import: &Import| {
        let sip = config(import).sip;
        let texts = |ranges: &[crate::config::PortRange]| {
            ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
        };
        (texts(&sip.udp), texts(&sip.tcp))
    };
    let import = asterisk("5060,5061,5160");
    assert_eq!(ports(&import), ("5060 5160".to_owned(), "5060 5061 5160".to_owned()));
    has(&import.taken, "asterisk: port 5160 becomes a SIP port");
    for default in ["5060,5061", "sip", "sip,sips"] {
        assert!(!asterisk(default).settings.contains("sip:"), "{default}");
    }
    // Web and media ports do not get the limits of SIP.
    for wide in ["5060,80,443", "5060,10000:20000"] {
        let import = asterisk(wide);
        assert!(!import.settings.contains("sip:"), "{}", import.settings);
        assert_eq!(config(&import).jails["asterisk-wazo"].scope, Scope::All, "{wide}");
        assert_eq!(config(&import).jails["asterisk-wazo"].unproven_scope, Some(Scope::Sip));
        has(&import.left_out, &format!("asterisk: port `{wide}`"));
    }
    // The ports of several actions.
    let import = imported(
        "[asterisk]\nenabled = true\nlogpath = /a\naction = iptables[port=5060]\n  iptables[port=5160]\n",
        &[],
    );
    assert_eq!(ports(&import).0, "5060 5160");
}

#[test]
fn a_jail_that_has_another_name_takes_the_place_of_one_that_is_disabled() {
    let local = "[ssh-custom]\nenabled = true\nfilter = sshd\nport = 22,2222\nlogpath = /var/log/auth.log\n\
        [asterisk-wazo]\nenabled = false\n[asterisk]\nenabled = true\nmaxretry = 3\n";
    let import = imported(local, &[]);
    let config = config(&import);
    assert!(config.jails["sshd"].enabled && config.jails["asterisk-wazo"].enabled);
    assert_eq!(config.jails["asterisk-wazo"].maxretry, 3);
    assert_eq!(tcp(&config, "ssh"), ["22", "2222"]);
    has(&import.notes, "sshd: disabled in fail2ban; here it has the settings of `ssh-custom`");
}

#[test]
fn a_second_jail_of_sshd_reads_with_its_filter() {
    let local = "[sshd]\nenabled = true\n[sshd-slow]\nenabled = true\nfilter = sshd\nport = ssh\n\
        maxretry = 20\nfindtime = 1d\nlogpath = /var/log/auth.log\n";
    let import = imported(local, &["sshd.conf"]);
    let slow = &config(&import).jails["sshd-slow"];
    assert_eq!((slow.maxretry, slow.scope), (20, PortClasses::SSH));
    assert!(slow.filter.is_some());
}

#[test]
fn a_mode_and_expressions_of_ones_own_are_read_by_the_filter() {
    let filter = |import: &Import, jail: &str| {
        config(import).jails[jail].filter.as_ref().map(ToString::to_string)
    };
    let local = "[sshd]\nenabled = true\nfilter = sshd[mode=aggressive]\n";
    let import = imported(local, &["sshd.conf"]);
    assert!(filter(&import, "sshd").unwrap().ends_with("/filter.d/sshd[mode=aggressive]"));
    has(&import.taken, "sshd: filter sshd[mode=aggressive]: ");
    let import = imported(local, &[]);
    has(&import.left_out, "sshd: filter sshd[mode=aggressive]: cannot be used");
    for ordinary in ["sshd[mode=normal]", "sshd"] {
        let import =
            imported(&format!("[sshd]\nenabled = true\nfilter = {ordinary}\n"), &["sshd.conf"]);
        assert_eq!(filter(&import, "sshd"), None, "{ordinary}");
    }
    let local = "[asterisk]\nenabled = true\nlogpath = /a\nfilter = asterisk[mode=normal]\n";
    let import = imported(local, &["asterisk.conf", "asterisk.local"]);
    assert!(filter(&import, "asterisk-wazo").unwrap().contains("/filter.d/asterisk"));
    has(&import.taken, "filter.d/asterisk.local: ");
    assert_eq!(filter(&imported(local, &["asterisk.conf"]), "asterisk-wazo"), None);
    let local = local.replace("/a", "/var/log/asterisk/security");
    let import = imported(&local, &["asterisk.conf", "asterisk.local"]);
    has(
        &import.left_out,
        "asterisk: logpath /var/log/asterisk/security: its filter reads only `notice_log`",
    );
}

#[test]
fn advice_that_is_given_works() {
    let local = "[sshd]\nenabled = true\nfailregex = ^nonsense <HOST>$\n";
    let directory = tree(&[
        ("jail.conf", BASE),
        ("jail.local", local),
        ("filter.d/sshd.conf", "[Definition]\nfailregex = ^refused <HOST>$\n"),
    ]);
    let import = import_from(directory.path(), false).unwrap();
    let path = directory.path().join("filter.d/sshd.local");
    has(&import.left_out, "sshd: failregex: lines that only the jail's own expressions match");
    has(&import.left_out, &path.display().to_string());
    fs::write(&path, "[Definition]\nfailregex = %(known/failregex)s\n    ^nonsense <HOST>$\n")
        .unwrap();
    let import = import_from(directory.path(), false).unwrap();
    let config = config(&import);
    let parser =
        jail_filter::parser("sshd", &config.jails["sshd"], LogType::File).unwrap().unwrap();
    for line in [&b"refused 192.0.2.1"[..], b"nonsense 192.0.2.1"] {
        assert!(parser.parse(line).is_some());
    }
}

#[test]
fn logs_are_taken_for_what_is_in_them() {
    let directory = tree(&[
        ("jail.conf", BASE),
        (
            "asterisk/logger.conf",
            "[logfiles]\nmessages => notice,warning,error\nboth => notice,security\n",
        ),
        ("log/x", "[2026-01-01 00:00:00] SECURITY[1] res_security_log.c: SecurityEvent=\"x\"\n"),
        (
            "log/y",
            "[2026-01-01 00:00:00] NOTICE[1] x.c: y\n[2026-01-01 00:00:00] WARNING[1] x.c: y\n",
        ),
    ]);
    let sources = |logs: &str| {
        let local = format!("[asterisk]\nenabled = true\nlogpath = {logs}\n");
        fs::write(directory.path().join("jail.local"), local).unwrap();
        let import = import_from(directory.path(), false).unwrap();
        (config(&import).sources.asterisk, import)
    };
    let default = Config::default().sources.asterisk.notice_log;
    let at = |name: &str| directory.path().join("log").join(name);

    let (found, import) = sources("/var/log/asterisk/security");
    assert_eq!(
        (found.security_log.as_deref(), &found.notice_log),
        (Some(Path::new("/var/log/asterisk/security")), &default)
    );
    has(&import.taken, "contains the SECURITY level");
    let (found, _) = sources(&at("x").display().to_string());
    assert_eq!((found.security_log, &found.notice_log), (Some(at("x")), &default));
    let (found, import) = sources(&at("y").display().to_string());
    assert_eq!((found.security_log, found.notice_log), (None, at("y")));
    has(&import.notes, "contains levels other than NOTICE");
    let (found, import) = sources("/var/log/asterisk/messages");
    assert_eq!(found.notice_log, Path::new("/var/log/asterisk/messages"));
    has(&import.notes, "contains levels other than NOTICE");
    let (_, import) = sources("/var/log/asterisk/both");
    has(&import.notes, "its security events do not count");
    let (found, import) = sources(
        "/var/log/asterisk/fail2ban\n /var/log/asterisk/security\n /var/log/asterisk/third",
    );
    assert_eq!((found.security_log.is_some(), found.notice_log), (true, default));
    has(&import.left_out, "logpath /var/log/asterisk/third: `notice_log` is a single file");
}

#[test]
fn the_journal_is_read_where_that_can_be_and_said_where_not() {
    let local =
        "[DEFAULT]\nbackend = systemd\n[sshd]\nenabled = true\n[asterisk]\nenabled = true\n";
    let import = imported(local, &[]);
    assert_eq!(config(&import).sources.sshd.log, SshdLog::Journal);
    has(&import.left_out, "asterisk: backend systemd: `asterisk-wazo` reads a file");
    // A separate file is read instead of the journal.
    let import = imported("[sshd]\nenabled = true\nlogpath = /srv/auth.log\n", &[]);
    let sshd = config(&import).sources.sshd;
    assert_eq!((sshd.log, sshd.auth_log.as_path()), (SshdLog::File, Path::new("/srv/auth.log")));
    let import = imported("[sshd]\nenabled = true\n", &[]);
    assert!(!import.settings.contains("sources"), "{}", import.settings);
}

#[test]
fn more_jails_than_there_can_be_are_named() {
    let section = |n: usize| format!("[x{n}]\nenabled = true\nfilter = one\nlogpath = /l{n}\n");
    let import = imported(&(0..70).map(section).collect::<String>(), &["one.conf"]);
    assert_eq!(config(&import).jails.len(), built_in_jails().count() + OWN_JAILS_MAX);
    let out = import.left_out.iter().filter(|line| line.contains("too many jails")).count();
    assert_eq!(out, 70 - OWN_JAILS_MAX);
}

#[test]
fn what_is_set_and_unknown_is_named() {
    let local = "[sshd]\nenabled = true\nbanntime = 3h\nmy_port = 2200\nport = %(my_port)s\n\
        ignoreself = false\nlogencoding = utf-8\n";
    let import = imported(local, &[]);
    for expected in [
        "sshd: banntime: Ringfence has no such setting",
        "sshd: ignoreself: ",
        "sshd: logencoding: ",
    ] {
        has(&import.left_out, expected);
    }
    assert!(!import.left_out.iter().any(|line| line.contains("my_port")), "{import:?}");
}

#[test]
fn what_is_beyond_the_possible_becomes_what_is_nearest() {
    let local = "[sshd]\nenabled = true\nmaxretry = 0\nfindtime = 1y\nbantime = 20y\n";
    let import = imported(local, &[]);
    let jail = &config(&import).jails["sshd"];
    let month = std::time::Duration::from_hours(30 * 24);
    assert_eq!((jail.maxretry, jail.findtime, jail.bantime), (1, month, duration::MAX));
    for expected in ["1 is set instead", "30d is set instead", "3650d is set instead"] {
        has(&import.left_out, expected);
    }
}

#[test]
fn what_takes_proof_here_is_said_or_done_without() {
    let local = "[DEFAULT]\nbantime.increment = true\n[my_web]\nenabled = true\n\
        [asterisk]\nenabled = true\nlogpath = /a\n[recidive]\nenabled = true\n[sshd]\nenabled = true\n";
    let import = imported(local, &["my_web.conf"]);
    let jails = config(&import).jails;
    assert!(jails["my-web"].increment.enabled && jails["my-web"].increment.unproven);
    assert!(jails["asterisk-wazo"].increment.enabled && !jails["asterisk-wazo"].increment.unproven);
    has(&import.notes, "asterisk: bantime.increment: bans for unproven failures");
    has(&import.notes, "recidive: only bans for proven failures");
    assert!(!import.notes.iter().any(|note| note.starts_with("sshd")), "{:?}", import.notes);
}

#[test]
fn a_jail_that_bans_nobody_there_is_none_here() {
    for (action, why) in [
        ("sendmail[name=x]", "ban no address"),
        ("iptables[port=ftp, blocktype=RETURN]", "grants access"),
    ] {
        let local = format!("[my_web]\nenabled = true\nlogpath = /l\naction = {action}\n");
        let import = imported(&local, &["my_web.conf"]);
        has(&import.left_out, "my_web: its action");
        has(&import.left_out, why);
        assert!(!config(&import).jails.contains_key("my-web"));
    }
    let import = imported("[sshd]\nenabled = true\naction = sendmail[name=x]\n", &[]);
    has(&import.notes, "sshd: its actions ban no address in fail2ban, but here it does");
}

#[test]
fn a_relative_directory_is_written_in_full() {
    let directory = tree(&[
        ("jail.conf", BASE),
        ("jail.local", "[my_web]\nenabled = true\n"),
        ("filter.d/my_web.conf", "[Definition]\nfailregex = ^refused <HOST>$\n"),
    ]);
    // A child process, because the working directory is shared by all tests.
    let up: PathBuf = std::env::current_dir().unwrap().components().skip(1).map(|_| "..").collect();
    let relative = up.join(directory.path().strip_prefix("/").unwrap());
    let import = import_from(&relative, false).unwrap();
    assert!(config(&import).jails.contains_key("my-web"), "{import:?}");
}

#[test]
fn bans_of_what_a_jail_ignores_are_left() {
    let local = "[sshd]\nenabled = true\nignoreip = 192.0.2.0/24\n";
    let directory = tree(&[("jail.conf", BASE), ("jail.local", local)]);
    let bans = [("192.0.2.1/32", "sshd"), ("203.0.113.1/32", "sshd")];
    let import = import_with_bans(&directory, &bans, 0);
    assert_eq!(import.bans.len(), 1);
    has(&import.left_out, "1 ban by `sshd` of addresses that it ignores");
}

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};

use api::{EnforcementState, State, StoreState};
use tempfile::TempDir;

use super::*;
use crate::examples::healthy;
use crate::faults::SILENT;

/// The configuration of a Wazo host.
fn etc() -> TempDir {
    let etc = tempfile::tempdir().unwrap();
    let files = [
        ("logger.conf", "[general]\n[logfiles]\nfull => notice,warning\nfail2ban => notice ; x\n"),
        ("manager.conf", "[general]\nenabled = yes\n\n#include manager.d/*.conf\n"),
        ("manager.d/10-wazo.conf", "[wazo_amid]\nread = all\n"),
    ];
    fs::create_dir(etc.path().join("manager.d")).unwrap();
    for (name, text) in files {
        fs::write(etc.path().join(name), text).unwrap();
    }
    etc
}

fn config(etc: &TempDir) -> Config {
    let mut config = Config::default();
    config.sources.asterisk.ami.secret_file = etc.path().join("ringfence/ami.secret");
    config
}

/// A host that has only Asterisk's configuration.
fn host(etc: &TempDir) -> Host {
    let (other, run) = (etc.path().join("etc"), etc.path().join("run"));
    Host { asterisk: etc.path().to_owned(), etc: other, run, ask: |_command| None }
}

fn look(config: &Config, etc: &TempDir) -> Vec<Finding> {
    examine(config, &Ok(healthy()), &host(etc))
}

/// The findings from the daemon's status, without their severity.
fn told(config: &Config, status: &Status) -> Vec<Finding> {
    super::told(config, status).into_iter().map(|(_, finding)| finding).collect()
}

fn problems(config: &Config, etc: &TempDir) -> Vec<String> {
    look(config, etc).into_iter().map(|finding| finding.problem).collect()
}

#[test]
fn a_fresh_host_is_mended() {
    let etc = etc();
    let config = config(&etc);
    let findings = look(&config, &etc);
    assert_eq!(findings.len(), 2, "{findings:?}");
    for finding in &findings {
        finding.fix.as_ref().unwrap().apply().unwrap();
    }
    assert_eq!(problems(&config, &etc), [""; 0]);
    let secret = &config.sources.asterisk.ami.secret_file;
    assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o7777, 0o640);
    let text = fs::read_to_string(secret).unwrap();
    assert_eq!((text.len(), text.starts_with("secret = ")), (9 + 48 + 1, true));
    // Existing files are not changed.
    assert!(findings.iter().all(|finding| finding.fix.as_ref().unwrap().apply().is_err()));
    assert_eq!(fs::read_to_string(secret).unwrap(), text);
}

/// Applies all fixes.
fn mend_all(config: &Config, etc: &TempDir) {
    let findings = look(config, etc);
    assert!(findings.iter().any(|finding| finding.fix.is_some()));
    for fix in findings.iter().filter_map(|finding| finding.fix.as_ref()) {
        fix.apply().unwrap();
    }
}

/// A stock Asterisk without Wazo's changes: no drop-in directories, other levels.
#[test]
fn a_plain_asterisk_is_mended_and_what_it_had_is_kept() {
    let etc = tempfile::tempdir().unwrap();
    let manager = etc.path().join("manager.conf");
    let before = "[general]\nenabled = yes\nbindaddr = 127.0.0.1";
    fs::write(&manager, before).unwrap();
    fs::set_permissions(&manager, fs::Permissions::from_mode(0o640)).unwrap();
    let inode = fs::metadata(&manager).unwrap().ino();
    fs::write(etc.path().join("logger.conf"), "[logfiles]\nmessages => notice,error\n").unwrap();
    let config = config(&etc);
    let expected = [
        "logger.conf has no `fail2ban` with the level notice",
        "logger.conf does not include logger.d/, where Ringfence installs its file",
        "manager.conf has no user `ringfence`",
        "manager.conf does not include manager.d/, where Ringfence installs its file",
    ];
    assert_eq!(problems(&config, &etc)[..4], expected);
    mend_all(&config, &etc);
    assert_eq!(problems(&config, &etc), [""; 0]);
    let after = fs::read_to_string(&manager).unwrap();
    assert_eq!(after, format!("{before}\n#include manager.d/*.conf\n"));
    let metadata = fs::metadata(&manager).unwrap();
    assert_eq!((metadata.permissions().mode() & 0o7777, metadata.ino() == inode), (0o640, false));
    let kept = etc.path().join("manager.conf.before-ringfence");
    assert_eq!(fs::read_to_string(&kept).unwrap(), before);
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o7777, 0o640);
    let notice = fs::read_to_string(etc.path().join("logger.d/ringfence-notice.conf")).unwrap();
    assert!(notice.ends_with("[logfiles](+)\nfail2ban => notice\n"), "{notice}");
    let user = fs::read_to_string(etc.path().join("manager.d/ringfence.conf")).unwrap();
    let secret = config.sources.asterisk.ami.secret_file.display().to_string();
    assert!(user.contains(&format!("#tryinclude {secret}\n")), "{user}");
}

#[test]
fn a_log_that_nothing_rotates_is_named() {
    let etc = etc();
    let mut config = config(&etc);
    config.sources.asterisk.ami.enabled = false;
    config.sources.asterisk.security_log = Some("/var/log/asterisk/security".into());
    let logger = "[logfiles]\nfail2ban => notice\nsecurity => [json]security\n";
    fs::write(etc.path().join("logger.conf"), logger).unwrap();
    let directory = etc.path().join("etc/logrotate.d");
    fs::create_dir_all(&directory).unwrap();
    fs::write(directory.join("asterisk"), "/var/log/asterisk/full {\n}\n").unwrap();
    let found = problems(&config, &etc);
    assert!(
        found.len() == 1 && found[0].contains("rotates /var/log/asterisk/security"),
        "{found:?}"
    );
    mend_all(&config, &etc);
    assert_eq!(problems(&config, &etc), [""; 0]);
    fs::write(directory.join("ringfence"), "/var/log/asterisk/*rity {\n}\n").unwrap();
    assert_eq!(problems(&config, &etc), [""; 0]);
}

#[test]
fn what_keeps_ami_from_its_events_is_named() {
    let etc = etc();
    let config = config(&etc);
    mend_all(&config, &etc);
    let manager = "[general]\nenabled = yes\nport = 5039\n#include manager.d/*.conf\n\
                   [ringfence](+)\neventfilter = !Event: ChallengeSent\n";
    fs::write(etc.path().join("manager.conf"), manager).unwrap();
    let secret = &config.sources.asterisk.ami.secret_file;
    fs::set_permissions(secret, fs::Permissions::from_mode(0o644)).unwrap();
    let found = problems(&config, &etc);
    assert_eq!(found[0], "manager.conf sets AMI's port to 5039, but Ringfence uses 5038");
    assert_eq!(found[1], "an `eventfilter` withholds events from the AMI user `ringfence`");
    assert!(found[2].starts_with("everybody may read its secret"), "{found:?}");
    assert_eq!(found.len(), 3);
}

#[test]
fn what_bans_beside_and_what_does_not_start_is_named() {
    let etc = etc();
    let mut config = config(&etc);
    config.sources.asterisk.ami.enabled = false;
    let run = etc.path().join("run");
    let own = std::process::id().to_string();
    for (file, text) in [
        ("run/systemd/system/x", ""),
        ("run/systemd/journal/socket", ""),
        ("run/fail2ban/fail2ban.pid", own.as_str()),
        ("etc/systemd/journald.conf", "[Journal]\n#Storage=none\nRateLimitBurst=200\n"),
        ("etc/systemd/journald.conf.d/x.conf", "[Journal]\nStorage=none\n"),
    ] {
        let file = etc.path().join(file);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
    let said = |command: &[&str]| match command[0] {
        "systemctl" => Some("disabled\n".to_owned()),
        _ => Some(
            "Status\n|- Number of jail: 3\n`- Jail list:\tasterisk-wazo, apache, sshd\n".to_owned(),
        ),
    };
    let host = Host { ask: said, ..host(&etc) };
    let findings = examine(&config, &Ok(healthy()), &host);
    let found: Vec<&str> = findings.iter().map(|finding| finding.problem.as_str()).collect();
    assert_eq!(found[0], "ringfence.service does not start with the host");
    assert_eq!(found[1], "fail2ban also bans, with these jails: asterisk-wazo, sshd");
    assert!(
        findings[1].remedy.contains("enabled = false\\n' asterisk-wazo sshd >"),
        "{}",
        findings[1].remedy
    );
    assert!(found[2].contains("Storage=none") && found[3].contains("beyond 200"), "{found:?}");
    assert_eq!(found.len(), 4);
    // The pid file of a fail2ban that has ended.
    fs::write(run.join("fail2ban/fail2ban.pid"), "4194305").unwrap();
    assert_eq!(examine(&config, &Ok(healthy()), &host).len(), 3);
}

#[test]
fn levels_that_are_off_are_named() {
    let etc = etc();
    let mut config = config(&etc);
    config.sources.asterisk.ami.enabled = false;
    config.sources.asterisk.security_log = Some("/var/log/asterisk/security".into());
    let expected = [
        "logger.conf has no `security` with the level security",
        "logger.conf does not include logger.d/, where Ringfence installs its file",
    ];
    assert_eq!(problems(&config, &etc), expected);
    fs::write(
        etc.path().join("logger.conf"),
        "[logfiles]\nfail2ban => warning\n;fail2ban => notice",
    )
    .unwrap();
    assert_eq!(problems(&config, &etc)[0], "logger.conf has no `fail2ban` with the level notice");
    let all = "[logfiles]\nfail2ban => notice\n";
    fs::write(etc.path().join("logger.conf"), all).unwrap();
    mend_all(&config, &etc);
    assert_eq!(problems(&config, &etc), [""; 0]);
}

#[test]
fn ami_without_its_class_is_named() {
    let etc = etc();
    let config = config(&etc);
    fs::create_dir(etc.path().join("ringfence")).unwrap();
    let secret = &config.sources.asterisk.ami.secret_file;
    fs::write(secret, "secret = x").unwrap();
    fs::set_permissions(secret, fs::Permissions::from_mode(0o640)).unwrap();
    let user = etc.path().join("manager.d/ringfence.conf");
    fs::write(&user, "[ringfence]\nread = system,call\n").unwrap();
    assert_eq!(problems(&config, &etc), ["the AMI user `ringfence` receives no security events"]);
    fs::write(&user, "[ringfence]\nread = system, security\n").unwrap();
    assert_eq!(problems(&config, &etc), [""; 0]);
    fs::write(etc.path().join("manager.conf"), "[general]\nenabled = no\n").unwrap();
    assert_eq!(
        problems(&config, &etc),
        [
            "manager.conf does not enable AMI",
            "manager.conf has no user `ringfence`",
            "manager.conf does not include manager.d/, where Ringfence installs its file"
        ]
    );
}

#[test]
fn sources_that_fail_wait_or_are_silent_are_named() {
    let mut status = healthy();
    let [_, ami, sshd] = &mut status.sources[..] else { panic!("{:?}", status.sources) };
    (ami.state, ami.why, ami.lost) = (State::Failed, Some("refused".to_owned()), 3);
    sshd.events = 0;
    let mut problems = |uptime| {
        status.uptime_seconds = uptime;
        let findings = told(&Config::default(), &status).into_iter();
        findings.map(|f| (f.subject, f.problem)).collect::<Vec<_>>()
    };
    let found = problems(SILENT);
    assert_eq!(found[0], ("asterisk-ami".to_owned(), "refused".to_owned()));
    assert!(found[1].1.starts_with("3 events"), "{found:?}");
    assert_eq!((found[2].0.as_str(), found.len()), ("sshd", 3));
    assert_eq!(problems(SILENT - 1).len(), 2);
    let etc = tempfile::tempdir().unwrap();
    let nowhere = Host { asterisk: etc.path().join("none"), ..host(&etc) };
    let down = examine(&Config::default(), &Err("no daemon".to_owned()), &nowhere);
    assert_eq!(down.len(), 2);
    assert!(to_text(&down).contains("daemon: no daemon\n    systemctl start ringfence\n"));
    assert_eq!((Findings::new(&down).ok, Findings::new(&[]).ok), (false, true));
}

/// Asterisk's directory belongs to its user, who may have placed links there.
#[test]
fn what_is_added_goes_through_no_link() {
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| directory.path().join(name);
    fs::write(at("manager.conf"), "[general]\n").unwrap();
    for name in ["manager.conf.before-ringfence", "manager.conf.new-ringfence"] {
        std::os::unix::fs::symlink(at("elsewhere"), at(name)).unwrap();
    }
    let line = "#include manager.d/*.conf".to_owned();
    Fix::Include { file: at("manager.conf"), line: line.clone() }.apply().unwrap();
    assert_eq!(fs::read_to_string(at("manager.conf")).unwrap(), format!("[general]\n{line}\n"));
    assert!(!at("elsewhere").exists());
}

#[test]
fn what_the_daemon_says_of_itself_is_named() {
    let mut status = healthy();
    status.enforcement.state = EnforcementState::DryRun;
    (status.store.state, status.store.why) = (StoreState::Failed, Some("disk is full".to_owned()));
    (status.store.path, status.store.pending) = ("/s/x.db".to_owned(), 32);
    status.interfaces[0].fallback = Some("Operation not supported".to_owned());
    (status.bans.active, status.bans.capacity, status.log.lost) = (900, 1000, 1);
    let found = told(&Config::default(), &status);
    let found: Vec<(&str, &str)> =
        found.iter().map(|finding| (&*finding.subject, &*finding.problem)).collect();
    assert_eq!(
        found,
        [
            ("store", "/s/x.db: disk is full; not stored yet: 32 changes"),
            ("daemon", "this is dry run: nothing is dropped"),
            (
                "eth0",
                "runs in generic mode, at a higher cost for each packet: Operation not supported"
            ),
            ("bans", "900 are in force, with room for 1000"),
            ("log", "1 line lost, because its reader was too slow"),
        ]
    );
    let meant_so = Config { mode: Mode::Generic, ..Config::default() };
    assert_eq!(told(&meant_so, &status).len(), found.len() - 1);
    assert_eq!(told(&Config::default(), &healthy()), []);
}

#[test]
fn a_mend_is_one_that_is_not_done_yet() {
    let etc = etc();
    let config = config(&etc);
    let of = |name: &str, why: &str| {
        let mut status = healthy();
        status.sources.truncate(1);
        let source = &mut status.sources[0];
        (source.name, source.state) = (name.to_owned(), State::Failed);
        source.why = Some(why.to_owned());
        let findings = told(&config, &status);
        findings.into_iter().map(|finding| finding.remedy).collect::<Vec<_>>()
    };
    let no_secret = "the file /etc/ringfence/ami.secret with the secret of the AMI user `ringfence` does not exist";
    assert!(of("asterisk-ami", no_secret)[0].contains("doctor --fix"));
    let secret = &config.sources.asterisk.ami.secret_file;
    fs::create_dir_all(secret.parent().unwrap()).unwrap();
    fs::write(secret, "secret = x").unwrap();
    assert_eq!(of("asterisk-ami", no_secret), [""; 0], "the daemon looks again by itself");
    let refused = of("asterisk-ami", "connect to AMI at 127.0.0.1:5038: Connection refused");
    assert!(refused[0].contains("enabled = yes") && !refused[0].contains("--fix"), "{refused:?}");
    let gone = "cannot watch the directory /var/log/asterisk: No such file or directory";
    assert!(of("asterisk-notice", gone)[0].contains("set the path under `sources`"));
}

#[test]
fn a_log_of_several_levels_is_named() {
    let etc = etc();
    fs::write(etc.path().join("logger.conf"), "[logfiles]\nfail2ban => notice,warning,error\n")
        .unwrap();
    let found = problems(&config(&etc), &etc);
    assert!(
        found.iter().any(|problem| problem.contains("levels other than notice (warning, error)")),
        "{found:?}"
    );
}

#[test]
fn the_configuration_is_looked_at_too() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir(directory.path().join("conf.d")).unwrap();
    fs::write(directory.path().join("conf.d/10.yaml"), "").unwrap();
    let main = directory.path().join("config.yml");
    fs::write(&main, "trustd: 1\n").unwrap();
    let (loaded, wrong) = Config::load_what_is_right(Some(&main));
    let found = of_configuration(&loaded, &wrong);
    assert!(found[0].problem.contains("config.yml:1:1: unknown key `trustd`"), "{found:?}");
    assert!(found[1].problem.ends_with("conf.d/10.yaml is not read"), "{found:?}");
}

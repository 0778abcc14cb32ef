use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use tempfile::TempDir;

use super::*;

/// What a Wazo host has.
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

fn problems(config: &Config, etc: &TempDir) -> Vec<String> {
    let findings = examine(config, &Ok(json!({})), etc.path());
    findings.into_iter().map(|finding| finding.problem).collect()
}

#[test]
fn a_fresh_host_is_mended() {
    let etc = etc();
    let config = config(&etc);
    let findings = examine(&config, &Ok(json!({})), etc.path());
    assert_eq!(findings.len(), 2, "{findings:?}");
    for finding in &findings {
        finding.fix.as_ref().unwrap().apply().unwrap();
    }
    assert_eq!(problems(&config, &etc), [""; 0]);
    let secret = &config.sources.asterisk.ami.secret_file;
    assert_eq!(fs::metadata(secret).unwrap().permissions().mode() & 0o7777, 0o640);
    let text = fs::read_to_string(secret).unwrap();
    assert_eq!((text.len(), text.starts_with("secret = ")), (9 + 48 + 1, true));
    // What is there is left alone.
    assert!(findings.iter().all(|finding| finding.fix.as_ref().unwrap().apply().is_err()));
    assert_eq!(fs::read_to_string(secret).unwrap(), text);
}

#[test]
fn levels_that_are_off_are_named() {
    let etc = etc();
    let mut config = config(&etc);
    config.sources.asterisk.ami.enabled = false;
    config.sources.asterisk.security_log = Some("/var/log/asterisk/security".into());
    let expected = ["logger.conf has no `security` with the level security"];
    assert_eq!(problems(&config, &etc), expected);
    fs::write(
        etc.path().join("logger.conf"),
        "[logfiles]\nfail2ban => warning\n;fail2ban => notice",
    )
    .unwrap();
    assert_eq!(problems(&config, &etc)[0], "logger.conf has no `fail2ban` with the level notice");
    // Installed, but not included.
    let finding = examine(&config, &Ok(json!({})), etc.path()).pop().unwrap();
    finding.fix.unwrap().apply().unwrap();
    assert_eq!(problems(&config, &etc).len(), 2);
    let all = "[logfiles]\nfail2ban => notice\n#tryinclude logger.d/*.conf\n";
    fs::write(etc.path().join("logger.conf"), all).unwrap();
    assert_eq!(problems(&config, &etc), [""; 0]);
}

#[test]
fn ami_without_its_class_is_named() {
    let etc = etc();
    let config = config(&etc);
    fs::create_dir(etc.path().join("ringfence")).unwrap();
    fs::write(&config.sources.asterisk.ami.secret_file, "secret = x").unwrap();
    let user = etc.path().join("manager.d/ringfence.conf");
    fs::write(&user, "[ringfence]\nread = system,call\n").unwrap();
    assert_eq!(problems(&config, &etc), ["AMI's user `ringfence` gets no security events"]);
    fs::write(&user, "[ringfence]\nread = system, security\n").unwrap();
    assert_eq!(problems(&config, &etc), [""; 0]);
    fs::write(etc.path().join("manager.conf"), "[general]\nenabled = no\n").unwrap();
    assert_eq!(
        problems(&config, &etc),
        ["manager.conf does not switch AMI on", "manager.conf has no user `ringfence`"]
    );
}

#[test]
fn sources_that_fail_wait_or_are_silent_are_named() {
    let source = |name: &str, state: &str, why: Option<&str>, events: u64, lost: u64| json!({"name": name, "place": "p", "state": state, "why": why, "events": events, "lost": lost});
    let status = |uptime: u64| {
        json!({"uptime_seconds": uptime, "sources": [
            source("asterisk-notice", "ok", None, 5, 0),
            source("asterisk-ami", "failed", Some("refused"), 5, 3),
            source("sshd", "ok", None, 0, 0),
        ]})
    };
    let problems = |uptime| {
        let findings = sources(&status(uptime)).into_iter();
        findings.map(|f| (f.subject, f.problem)).collect::<Vec<_>>()
    };
    let found = problems(SILENT);
    assert_eq!(found[0], ("asterisk-ami".to_owned(), "refused".to_owned()));
    assert!(found[1].1.starts_with("3 events"), "{found:?}");
    assert_eq!((found[2].0.as_str(), found.len()), ("sshd", 3));
    assert_eq!(problems(SILENT - 1).len(), 2);
    let down = examine(&Config::default(), &Err("no daemon".to_owned()), Path::new("/nonexistent"));
    assert_eq!(down.len(), 2);
    assert!(to_text(&down).contains("daemon: no daemon\n    systemctl start ringfence\n"));
    assert_eq!((&to_json(&down)["ok"], &to_json(&[])["ok"]), (&json!(false), &json!(true)));
}

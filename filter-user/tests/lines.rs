//! Lines as Asterisk, OpenSSH, rsyslog, journald and busybox write them, through what `test-log` and the
//! daemon read them with: whose failure each is. Those in `fixtures/lines` are of public reports, with
//! other addresses and names.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::fs;
use std::path::{Path, PathBuf};

use filter_user::config::Config;
use filter_user::test_log::{self, Test};
use serde_json::Value;

/// The JSON document for each line that has a meaning.
fn documents(jail: &str, log: &[u8]) -> Vec<Value> {
    let (config, mut out) = (Config::default(), Vec::new());
    let test = Test { jail, config: &config, path: None, json: true, all: false, matched: false };
    test_log::run(test, log, &mut out).unwrap();
    let printed = String::from_utf8(out).unwrap();
    printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// The addresses of failures in a log, separated by blanks.
fn failures(jail: &str, log: &str) -> String {
    let documents = documents(jail, log.as_bytes());
    let failures = documents.iter().filter(|document| document["verdict"] == "failure");
    failures.map(|of| of["address"].as_str().unwrap()).collect::<Vec<_>>().join(" ")
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/lines").join(name)
}

const ASTERISK: &str = "asterisk-wazo";

#[test]
fn lines_of_public_reports() {
    let five = ["203.0.113.5"; 5].join(" ");
    let definition = fixture("init-over-definition.conf");
    for (jail, log, whose) in [
        (ASTERISK, "asterisk-console-in-syslog", "203.0.113.78"),
        (ASTERISK, "asterisk-guest-without-aor", "203.0.113.95"),
        (ASTERISK, "asterisk-manager-over-http", "203.0.113.4"),
        (ASTERISK, "asterisk-date-with-zone", "203.0.113.78"),
        (ASTERISK, "asterisk-forged-key", ""),
        (ASTERISK, "asterisk-iax-guest", "203.0.113.66"),
        (ASTERISK, "asterisk-iax-rsa", ""),
        ("sshd", "sshd-forged-extra", "203.0.113.66"),
        ("sshd", "sshd-key-of-nobody", "203.0.113.66"),
        ("sshd", "sshd-repeated", &five),
        (definition.to_str().unwrap(), "init-over-definition", "203.0.113.9"),
    ] {
        let text = fs::read_to_string(fixture(&format!("{log}.log"))).unwrap();
        assert_eq!(failures(jail, &text), whose, "{log}");
    }
}

/// Every date that `dateformat` can have Asterisk write.
#[test]
fn a_line_is_read_whatever_its_date() {
    let text = "manager.c: 203.0.113.66 failed to authenticate as 'x'";
    for (date, time) in [
        ("2023-09-01 23:19:35", None),
        ("2023-09-01 23:19:35.558-0400", Some("2023-09-02T03:19:35Z")),
        ("2023-09-01 23:19:35 -0400", Some("2023-09-02T03:19:35Z")),
        ("2023-09-01T23:19:35.5584+00:00", Some("2023-09-01T23:19:35Z")),
        ("2023-09-01T23:19:35-0400", Some("2023-09-02T03:19:35Z")),
        ("2023-09-01 23:19:35 UTC", Some("2023-09-01T23:19:35Z")),
        ("1693610375", Some("2023-09-01T23:19:35Z")),
        ("Sep  1 23:19:35", None),
        ("Sep  1 23:19:35.558", None),
        ("Sep 01 23:19:35", None),
        ("Fri Sep  1 23:19:35 2023", None),
        ("Fri 01 Sep 2023 11:19:35 PM EDT", None),
        ("01/09/2023 23:19:35", None),
        ("09/01/23 23:19:35", None),
        ("20230901-231935", None),
        ("01.09.2023 - 23:19:35", None),
        ("[23:19:35] 2023", None),
        ("23:19", None),
        ("ven. sept. 1 23:19:35 2023", None),
    ] {
        for line in [
            format!("[{date}] NOTICE[30874] {text}"),
            format!("[{date}] NOTICE[30874]: {}", text.replacen(':', ":676 authenticate:", 1)),
            format!("Mar 27 09:40:09 pbx asterisk[326]: [{date}] NOTICE[30874]: {text}"),
        ] {
            assert_eq!(failures(ASTERISK, &line), "203.0.113.66", "{line}");
            if let Some(time) = time {
                assert_eq!(documents(ASTERISK, line.as_bytes())[0]["time"], time, "{line}");
            }
        }
    }
}

/// Asterisk's console, its syslog channel and its files, as they arrive.
#[test]
fn a_line_is_read_wherever_it_stands() {
    let text = "Registration from '\"28\" <sip:28@192.0.2.10>' failed for '203.0.113.66:7998' - Wrong password";
    let coloured = |escape: &str| {
        let on = |code: &str, text: &str| format!("{escape}{code}m{text}{escape}0m");
        format!(
            "[Mar 27 09:40:09] {}[566]: {}:{} {}: {text}",
            on("1;33", "NOTICE"),
            on("1;37", "chan_sip.c"),
            on("1;37", "28926"),
            on("1;37", "handle_request_register")
        )
    };
    let console =
        format!("[Mar 27 09:40:09] NOTICE[566]: chan_sip.c:28926 handle_request_register: {text}");
    let call = format!(
        "[Mar 27 09:40:09] NOTICE[566][C-0000001f]: chan_sip.c:28926 handle_request_register: {text}"
    );
    let syslog = format!("NOTICE[566]: chan_sip.c:28926 in handle_request_register: {text}");
    let bodies = [
        console.clone(),
        call,
        syslog,
        coloured("\u{1b}["),
        coloured("#033["),
        coloured("^[["),
        format!("{}\u{1b}[0m", coloured("\u{1b}[")),
        format!("\u{1b}[0K{console}"),
        format!("\r\u{1b}[0K{console}"),
    ];
    for head in [
        "",
        "Mar 27 09:40:09 pbx asterisk[326]: ",
        "Mar  7 09:40:09 pbx.example.org asterisk: ",
        "Mar 27 09:40:09 pbx safe_asterisk[326]: ",
        "Mar 27 09:40:09 pbx /usr/sbin/asterisk[326]: ",
        "<133>Mar 27 09:40:09 pbx asterisk[326]: ",
        "Mar 27 09:40:09.123456 pbx asterisk[326]: ",
        "Sun 2026-03-27 09:40:09 CET pbx asterisk[326]: ",
        "Sun 2026-03-27 09:40:09.123456 +03 pbx asterisk[326]: ",
        "2026-03-27T09:40:09+0100 pbx asterisk[326]: ",
        "2026-03-27T09:40:09.123456+01:00 pbx asterisk[326]: ",
        "2026-03-27 09:40:09 pbx asterisk[326]: ",
        "1774600809.123456 pbx asterisk[326]: ",
        "[ 1234.567890] pbx asterisk[326]: ",
        "Mar 27 09:40:09 pbx daemon.notice asterisk[326]: ",
        "Mar 27 09:40:09 daemon.notice asterisk[326]: ",
        "Sun Mar 27 09:40:09 2026 daemon.info asterisk[326]: ",
        "Sun Mar  7 09:40:09 2026 local0.notice asterisk: ",
    ] {
        for body in &bodies {
            let line = format!("{head}{body}");
            assert_eq!(failures(ASTERISK, &line), "203.0.113.66", "{line}");
        }
    }
    for escaped in ["#015#033[0K", "^M^[[0K"] {
        let line = format!("Mar 27 09:40:09 pbx asterisk[326]: {escaped}{console}");
        assert_eq!(failures(ASTERISK, &line), "203.0.113.66", "{line}");
    }
    // Another program that repeats such a line is not Asterisk.
    for head in
        ["Mar 27 09:40:09 pbx web[326]: ", "Sun Mar 27 09:40:09 2026 daemon.info web[326]: "]
    {
        assert_eq!(failures(ASTERISK, &format!("{head}{console}")), "");
    }
}

#[test]
fn what_asterisk_says_of_failures() {
    #[rustfmt::skip]
    let cases = [
        ("NOTICE", "chan_iax2.c", "Rejected connect attempt from 203.0.113.66:4569, who was trying to reach '900972@default'", true),
        ("NOTICE", "chan_iax2.c", "Rejected connect attempt from 203.0.113.66:4569, request '900972@default' does not exist", true),
        ("WARNING", "chan_iax2.c", "Rejected connect attempt from 203.0.113.66:4569, request '900972@default' does not exist", false),
        ("NOTICE", "chan_iax2.c", "Rejected connect attempt from 203.0.113.66:4569, requested 'gsm' incompatible with our capability 'alaw'.", false),
        ("WARNING", "chan_iax2.c", "Host 203.0.113.66:4569 failed to authenticate as 900", true),
        ("NOTICE", "chan_iax2.c", "Host 203.0.113.66 failed to authenticate as 198.51.100.9", true),
        ("NOTICE", "chan_iax2.c", "Host 203.0.113.66 failed MD5 authentication for '900' (a != b)", true),
        ("NOTICE", "chan_iax2.c", "Host 203.0.113.66 did not provide proper plaintext password for '900'", true),
        ("NOTICE", "chan_iax2.c", "Host 203.0.113.66 denied access to register peer '900'", true),
        ("NOTICE", "chan_iax2.c", "Host 198.51.100.9 failed RSA authentication with inkeys 'k'", false),
        ("NOTICE", "chan_iax2.c", "Host '198.51.100.9' trying to do RSA authentication, but we have no inkeys", false),
        ("NOTICE", "chan_iax2.c", "Empty registration from 203.0.113.66", true),
        ("NOTICE", "chan_iax2.c", "Peer '900' is not dynamic (from 203.0.113.66)", true),
        ("NOTICE", "chan_iax2.c", "No registration for peer '900' (from 203.0.113.66)", true),
        ("NOTICE", "chan_iax2.c", "Registration of '900' rejected: 'x' from: '203.0.113.66:4569'", false),
        ("NOTICE", "manager.c", "203.0.113.66 tried to authenticate with nonexistent user 'opennms'", true),
        ("NOTICE", "manager.c", "203.0.113.66 failed to pass IP ACL as 'opennms'", true),
        ("NOTICE", "manager.c", "203.0.113.66 failed to authenticate as 'opennms'", true),
        ("WARNING", "acl.c", "SIP ACL: Rejecting '203.0.113.66' due to use of an invalid ACL 'x'.", true),
        ("WARNING", "res_pjsip_registrar.c", "Endpoint 'anonymous' (203.0.113.66:29768) has no configured AORs", true),
        ("WARNING", "res_pjsip_registrar.c", "Endpoint 'anonymous@example' (203.0.113.66:29768) attempted to register to an AOR with a non-SIP URI", true),
        ("WARNING", "res_pjsip_registrar.c", "AOR 'x' (198.51.100.9:1) not found for endpoint 'anonymous' (203.0.113.66:29768)", true),
        ("WARNING", "res_pjsip_registrar.c", "AOR 'x' has no configured max_contacts. Endpoint 'anonymous' (203.0.113.66:29768) unable to register", true),
        ("WARNING", "res_pjsip_registrar.c", "Endpoint '1001' (203.0.113.66:29768) has no configured AORs", false),
        ("WARNING", "res_pjsip_registrar.c", "AOR 'x' not found for endpoint '1001' (203.0.113.66:29768)", false),
        ("WARNING", "res_pjsip_registrar.c", "Registration attempt from endpoint '1001' (203.0.113.66:29768) to AOR '1001' will exceed max contacts of 1", false),
        ("ERROR", "manager.c", "203.0.113.66 failed to authenticate as 'opennms'", false),
    ];
    for (level, file, text, is_failure) in cases {
        let plain = format!("[2026-08-07 12:34:56.1234] {level}[9] {file}: {text}");
        let json = serde_json::json!({
            "hostname": "pbx", "timestamp": "2026-08-07 12:34:56.1234",
            "identifiers": {"lwp": 9, "callid": ""},
            "logmsg": {
                "location": {"filename": file, "function": "f", "line": 1},
                "level": level, "message": format!("{text}\n"),
            },
        });
        let whose = if is_failure { "203.0.113.66" } else { "" };
        assert_eq!(failures(ASTERISK, &plain), whose, "{plain}");
        assert_eq!(failures(ASTERISK, &json.to_string()), whose, "{json}");
    }
    // The address of IPv6 has no brackets there.
    let line = "[2026-08-07 12:34:56] WARNING[9] res_pjsip_registrar.c: Endpoint 'anonymous' \
                (2001:db8::66:5060) has no configured AORs";
    let documents = documents(ASTERISK, line.as_bytes());
    assert_eq!(
        (&documents[0]["address"], &documents[0]["port"]),
        (&"2001:db8::66".into(), &5060.into())
    );
}

/// Over TCP a refused login is reported twice, over HTTP once.
#[test]
fn a_login_to_ami_counts_once() {
    let line =
        |text: &str| format!("[2026-08-07 12:34:56] NOTICE[9] manager.c: 203.0.113.4 {text}\n");
    let nobody = line("tried to authenticate with nonexistent user 'x'");
    let refused = line("failed to authenticate as 'x'");
    let other = line("failed to authenticate as 'y'");
    let count = |log: &str| failures(ASTERISK, log).split_whitespace().count();
    assert_eq!(count(&[&*nobody, &nobody, &nobody].concat()), 3);
    assert_eq!(count(&[&*nobody, &refused, &nobody, &refused].concat()), 2);
    assert_eq!(count(&[&*nobody, &other, &refused, &refused].concat()), 3);
}

const EVENT: &str = "SecurityEvent=\"InvalidPassword\",EventTV=\"2026-08-07T12:34:56.296+0000\",\
    Severity=\"Error\",Service=\"PJSIP\",EventVersion=\"1\",AccountID=\"1\",SessionID=\"x\",\
    LocalAddress=\"IPV4/TCP/192.0.2.10/5060\",RemoteAddress=\"IPV4/TCP/203.0.113.66/40000\"";

/// A log can have both levels; with another beside SECURITY, nothing in it is proven.
#[test]
fn either_level_is_read_and_believed_as_far_as_its_log() {
    let security = format!("[2026-08-07 12:34:56] SECURITY[9] res_security_log.c: {EVENT}\n");
    let json = format!(
        "{}\n",
        serde_json::json!({
            "hostname": "", "timestamp": "2026-08-07 12:34:56", "identifiers": {"lwp": 9, "callid": ""},
            "logmsg": {"location": {"filename": "res_security_log.c", "function": "f", "line": 1},
                "level": "SECURITY", "message": format!("{EVENT}\n")},
        })
    );
    let notice =
        "[2026-08-07 12:34:56] NOTICE[9] manager.c: 203.0.113.66 failed to authenticate as 'x'\n";
    let first = "[2026-08-07 12:34:55] Asterisk 22.10.1 built by x @ y on a x86_64 running Linux\n";
    let told = |log: &[&str]| {
        let documents = documents(ASTERISK, log.concat().as_bytes());
        let last = documents.last().unwrap();
        assert_eq!(last["verdict"], "failure");
        (last["proven"].as_bool().unwrap(), last["needs_witness"].as_bool().unwrap())
    };
    assert_eq!(told(&[first, &security, &security]), (true, true));
    assert_eq!(told(&[first, &json, &json]), (true, false));
    for other in [notice, "x\n", "\n", &json] {
        assert_eq!(told(&[other, &security]), (false, true), "{other}");
    }
    for other in [notice, "x\n", &security] {
        assert_eq!(told(&[other, &json]), (false, true), "{other}");
    }
    assert_eq!(failures(ASTERISK, &[notice, &*security].concat()), "203.0.113.66 203.0.113.66");
}

/// The level ERROR and PJSIP's logger repeat packets. Lines inside them do not count.
#[test]
fn a_packet_that_is_repeated_says_nothing() {
    let forged = format!(
        "[2026-08-07 12:34:56] NOTICE[9] manager.c: 198.51.100.9 failed to authenticate as 'x'\n\
         [2026-08-07 12:34:56] SECURITY[9] res_security_log.c: {}\n",
        EVENT.replace("203.0.113.66", "198.51.100.9")
    );
    let after =
        "[2026-08-07 12:34:56] NOTICE[9] manager.c: 203.0.113.66 failed to authenticate as 'x'\n";
    let error = format!(
        "[2026-08-07 12:34:56] ERROR[9] pjproject: \tsip_endpoint.c Error processing packet from \
         203.0.113.66:59951: Missing required header(s) (PJSIP_EMISSINGHDR)  CSeq [code 171050]:\n\
         GET / HTTP/1.0\r\n{forged}\n\n-- end of packet.\n{after}"
    );
    assert_eq!(failures(ASTERISK, &error), "203.0.113.66");
    // A packet whose end is missing hides no more than its own length.
    let cut = error.replace("-- end of packet.\n", "").replace("GET", &"x\n".repeat(2100));
    assert_eq!(failures(ASTERISK, &cut.replace(&*forged, "")), "203.0.113.66");
    let body = format!("MESSAGE sip:1@h SIP/2.0\r\n\r\n{forged}");
    let logger = format!(
        "[2026-08-07 12:34:56] VERBOSE[9] res_pjsip_logger.c: <--- Received SIP request ({} bytes) from \
         UDP:203.0.113.66:5060 --->\n{body}\n{after}",
        body.len()
    );
    assert_eq!(failures(ASTERISK, &logger), "203.0.113.66");
    // A packet can contain lines that count, but none of them is proven.
    let ended = error.replace("GET", "-- end of packet.\nGET");
    let documents = documents(ASTERISK, ended.as_bytes());
    for document in documents.iter().filter(|document| document["verdict"] == "failure") {
        assert_ne!(document["proven"], true);
        assert_ne!(document["needs_witness"], false);
    }
}

/// The line that begins a packet can itself be in an attacker's text (recorded with Asterisk 22.10). It
/// must not hide his failures.
#[test]
fn a_forged_packet_hides_no_failure() {
    let failed = |from: &str| {
        format!(
            "[2026-08-07 12:34:56] NOTICE[9] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
             '{from}' failed for '203.0.113.66:5060' (callid: x) - Failed to authenticate\n"
        )
    };
    let plain = failed("<sip:1@h>");
    let said = |head: &str, end: &str| {
        let log = failed(&format!("<sip:1@h;a=\"\n[2026-08-07 12:34:56] {head}\n{end}>"))
            + &plain.repeat(20);
        (failures(ASTERISK, &log).split_whitespace().count(), documents(ASTERISK, log.as_bytes()))
    };
    for head in [
        "VERBOSE[9] res_pjsip_logger.c: <--- Received SIP request (60000 bytes) from UDP:198.51.100.9:5060 --->",
        "VERBOSE[9] res_pjsip_logger.c: <--- Transmitting SIP response (60000 bytes) to TCP:[2001:db8::9]:5060 --->",
        "DEBUG[9] x: (60000 bytes) --->",
        "VERBOSE[9] chan_sip.c: <--- SIP read from UDP:198.51.100.9:5060 --->",
        "ERROR[9] x: Error processing packet from 198.51.100.9:5060: x",
        "ERROR[9] x: Error processing packet from ",
    ] {
        assert_eq!(said(head, "").0, 20, "{head}");
    }
    // If the end of the line cannot be recognised, the packets decide whose the failures are.
    let head = "VERBOSE[9] res_pjsip_logger.c: <--- Received SIP request (60000 bytes) from UDP:198.51.100.9:5060 --->";
    let log = format!("[2026-08-07 12:34:56] {head}\n{}", plain.repeat(20));
    let undecided = documents(ASTERISK, log.as_bytes());
    let why =
        |document: &Value| document["why"].as_str().unwrap().contains("more than one address");
    assert_eq!(undecided.iter().filter(|document| why(document)).count(), 20);
}

/// A login to AMI over HTTP is not shortened and can contain whole lines, also of the level SECURITY.
#[test]
fn a_security_log_proves_nothing_after_a_refused_login_to_ami() {
    let line =
        |event: &str| format!("[2026-08-07 12:34:56] SECURITY[9] res_security_log.c: {event}\n");
    let login = EVENT.replace("PJSIP", "AMI");
    let proven = |log: &str| -> Vec<bool> {
        let documents = documents(ASTERISK, log.as_bytes());
        documents.iter().map(|document| document["proven"].as_bool().unwrap()).collect()
    };
    assert_eq!(
        proven(&[&*line(EVENT), &line(&login), &line(EVENT)].concat()),
        [true, false, false]
    );
    let right = login.replace("InvalidPassword", "SuccessfulAuth");
    assert_eq!(proven(&[&*line(&right), &line(EVENT)].concat()), [true, true]);
    // In his text, no PJSIP account can say that it is AMI's.
    let text = EVENT.replace("AccountID=\"1", "AccountID=\"1\",Service=\"AMI");
    assert_ne!(text, EVENT);
    assert_eq!(proven(&[&*line(&text), &line(EVENT)].concat()), [true, true]);
}

#[test]
fn what_sshd_says_of_failures() {
    #[rustfmt::skip]
    let cases = [
        ("Failed gssapi-with-mic for root from 203.0.113.66 port 22 ssh2", true),
        ("Failed gssapi-with-mic for invalid user x from 203.0.113.66 port 22 ssh2: x from 198.51.100.9 port 5 ssh2", true),
        ("Failed gssapi-keyex for root from 203.0.113.66 port 22 ssh2: root@EXAMPLE.ORG", true),
        ("Failed publickey for invalid user x from 203.0.113.66 port 22 ssh2: ED25519-CERT SHA256:a ID from 198.51.100.9 port 1 ssh2: (serial 1) CA RSA SHA256:b", true),
        ("Failed publickey for root from 203.0.113.66 port 22 ssh2: ED25519-CERT SHA256:a ID x (serial 1) CA RSA SHA256:b", false),
        ("Failed publickey for root from 203.0.113.66 port 22 ssh2: RSA SHA256:a", false),
        ("Failed publickey for invalid user x from 203.0.113.66 port 22 ssh2", true),
        ("Failed hostbased for x from 203.0.113.66 port 22 ssh2: RSA SHA256:a, client user \"y from 198.51.100.9 port 1 ssh2\", client host \"z ssh2: \"", true),
        ("Failed password for invalid user a from 198.51.100.9 port 1 ssh2 from 203.0.113.66 port 22 ssh2", true),
        ("Postponed publickey for root from 203.0.113.66 port 22 ssh2", false),
        ("Partial publickey for root from 203.0.113.66 port 22 ssh2: RSA SHA256:a", false),
        ("error: PAM: Permission denied for root from 203.0.113.66", true),
        ("error: PAM: Permission denied for illegal user x from 203.0.113.66", true),
        ("error: PAM: Have exhausted maximum number of retries for service for root from 203.0.113.66", true),
        ("error: PAM: Authentication failure for illegal user a from 198.51.100.9 from 203.0.113.66", true),
        ("error: PAM: User not known to the underlying authentication module for illegal user x from 203.0.113.66", true),
        ("error: PAM: User account has expired for root from 203.0.113.66", false),
        ("PAM 5 more authentication failures; logname= uid=0 euid=0 tty=ssh ruser= rhost=203.0.113.66  user=root", false),
        ("PAM service(sshd) ignoring max retries; 6 > 3", false),
        ("message repeated 1 times: [ Invalid user x from 203.0.113.66 port 22]", true),
        ("message repeated 1 times: [ error: PAM: Authentication failure for root from 203.0.113.66]", true),
    ];
    for (message, is_failure) in cases {
        for head in [
            "Nov 22 09:43:06 pbx sshd[1234]: ",
            "Nov 22 09:43:06.123456 pbx sshd[1234]: ",
            "Sun 2026-11-22 09:43:06 UTC pbx sshd[1234]: ",
            "Sun 2026-11-22 09:43:06 CET pbx sshd-session[1234]: ",
            "2026-11-22T09:43:06+0000 pbx sshd-session[1234]: ",
            "2026-11-22T09:43:06.123456+00:00 pbx sshd-auth[1234]: ",
            "Nov 22 09:43:06 pbx auth.info sshd[1234]: ",
            "Nov 22 09:43:06 [sshd] ",
            "Sun Nov 22 09:43:06 2026 auth.info sshd[1234]: ",
            "<38>Nov 22 09:43:06 pbx sshd[1234]: ",
            "<38>1 2026-11-22T09:43:06Z pbx sshd 1234 - - ",
            "<38>1 2026-11-22T09:43:06Z pbx sshd 1234 - - \u{feff}",
        ] {
            let line = format!("{head}{message}");
            let whose = if is_failure { "203.0.113.66" } else { "" };
            assert_eq!(failures("sshd", &line), whose, "{line}");
        }
    }
    let many = "Nov 22 09:43:06 pbx sshd[1]: message repeated 99999999999 times: [ Failed password for \
                root from 203.0.113.5 port 40000 ssh2]";
    assert_eq!(documents("sshd", many.as_bytes()).len(), 100);
}

/// A process that has ended at once leaves entries whose program journald does not know.
#[test]
fn entries_of_the_journal_without_a_program_are_believed_of_root() {
    for (fields, whose) in [
        ("\"_COMM\":\"sshd\",\"_UID\":\"0\",", "203.0.113.66"),
        ("\"SYSLOG_IDENTIFIER\":\"sshd\",\"_UID\":\"0\",", "203.0.113.66"),
        ("\"SYSLOG_IDENTIFIER\":\"sshd-session\",\"_UID\":\"0\",", "203.0.113.66"),
        ("\"SYSLOG_IDENTIFIER\":\"sshd\",\"_UID\":\"1000\",", ""),
        ("\"SYSLOG_IDENTIFIER\":\"sshd\",", ""),
        ("\"_COMM\":\"logger\",\"SYSLOG_IDENTIFIER\":\"sshd\",\"_UID\":\"0\",", ""),
    ] {
        let entry = format!(
            "{{\"__CURSOR\":\"s=1\",{fields}\"MESSAGE\":\"Invalid user x from 203.0.113.66 port 22\"}}"
        );
        assert_eq!(failures("sshd", &entry), whose, "{fields}");
    }
}

#[test]
fn what_does_not_count_says_why() {
    for (jail, line, why) in [
        (
            "sshd",
            "Nov 22 09:43:06 pbx sshd[1]: Failed publickey for root from 203.0.113.66 port 22 ssh2: RSA SHA256:a",
            "clients offer",
        ),
        (
            ASTERISK,
            "[2026-08-07 12:34:56] NOTICE[9] chan_iax2.c: Host 198.51.100.9 failed RSA authentication with inkeys 'k'",
            "the name of a peer",
        ),
        (
            ASTERISK,
            "[2026-08-07 12:34:56] NOTICE[9] res_pjsip_session.c:  1: Call (UDP:203.0.113.66:1) to extension '9' rejected because extension not found in context 'x'.",
            "a wrong number",
        ),
    ] {
        let documents = documents(jail, line.as_bytes());
        assert_eq!(documents[0]["verdict"], "ignored", "{line}");
        assert!(documents[0]["why"].as_str().unwrap().contains(why), "{line}");
    }
    let forged = fs::read(fixture("asterisk-forged-key.log")).unwrap();
    let document = &documents(ASTERISK, &forged)[0];
    assert_eq!((&document["verdict"], &document["address"]), (&"ignored".into(), &Value::Null));
    assert!(document["why"].as_str().unwrap().contains("more than one address"));
}

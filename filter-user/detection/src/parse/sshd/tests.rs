use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const PREFIX: &str = "Nov 22 09:43:06 pbx sshd[1234]: ";

fn said(message: &str) -> Option<(Verdict, String, Option<u16>, Option<String>)> {
    let attempt = parse(format!("{PREFIX}{message}").as_bytes())?;
    assert_eq!((attempt.class, attempt.transport), (Class::Login, Some(Transport::Tcp)));
    assert!(attempt.proven && attempt.decided && !attempt.needs_witness);
    Some((attempt.verdict, attempt.address.to_string(), attempt.port, attempt.account))
}

#[test]
fn failures_are_those_that_fail2ban_counts_in_mode_normal() {
    use Verdict::{Failure, Ignored, Success};
    #[rustfmt::skip]
    let cases = [
        ("Failed password for root from 192.0.2.66 port 5022 ssh2", Failure, "root"),
        ("Failed password for invalid user admin from 192.0.2.66 port 5022 ssh2", Failure, "admin"),
        ("Failed none for invalid user admin from 192.0.2.66 port 5022 ssh2", Failure, "admin"),
        ("Failed keyboard-interactive/pam for root from 192.0.2.66 port 5022 ssh2", Failure, "root"),
        ("Failed publickey for root from 192.0.2.66 port 5022 ssh2: ED25519 SHA256:aB3/+x=", Ignored, "root"),
        ("Invalid user admin from 192.0.2.66 port 5022", Failure, "admin"),
        ("Invalid user  from 192.0.2.66 port 5022", Failure, ""),
        ("error: maximum authentication attempts exceeded for root from 192.0.2.66 port 5022 ssh2 [preauth]", Failure, "root"),
        ("error: maximum authentication attempts exceeded for invalid user admin from 192.0.2.66 port 5022 ssh2 [preauth]", Failure, "admin"),
        ("ROOT LOGIN REFUSED FROM 192.0.2.66 port 5022", Failure, "root"),
        ("Disconnecting invalid user admin 192.0.2.66 port 5022: Change of username or service not allowed: (admin,ssh-connection) -> (root,ssh-connection) [preauth]", Failure, "admin"),
        ("Received disconnect from 192.0.2.66 port 5022:3: com.jcraft.jsch.JSchException: Auth fail [preauth]", Failure, ""),
        ("Received disconnect from 192.0.2.66 port 5022:11: Bye Bye [preauth]", Ignored, ""),
        ("Connection closed by invalid user admin 192.0.2.66 port 5022 [preauth]", Ignored, "admin"),
        ("Connection reset by authenticating user root 192.0.2.66 port 5022 [preauth]", Ignored, "root"),
        ("Connection closed by 192.0.2.66 port 5022 [preauth]", Ignored, ""),
        ("Disconnected from user root 192.0.2.66 port 5022", Ignored, "root"),
        ("Disconnecting authenticating user root 192.0.2.66 port 5022: Too many authentication failures [preauth]", Ignored, "root"),
        ("Accepted password for root from 192.0.2.66 port 5022 ssh2", Success, "root"),
        ("Accepted publickey for root from 192.0.2.66 port 5022 ssh2: ED25519 SHA256:aB3/+x=", Success, "root"),
    ];
    for (message, verdict, user) in cases {
        let user = (!user.is_empty()).then(|| user.to_owned());
        let expected = (verdict, "192.0.2.66".to_owned(), Some(5022), user);
        assert_eq!(said(message), Some(expected), "{message}");
    }
}

/// getnameinfo prints a link-local address with its interface.
#[test]
fn a_link_local_address_has_a_zone() {
    for message in [
        "Failed password for root from fe80::1%eth0 port 5022 ssh2",
        "Invalid user x from 192.0.2.9 port 1 from fe80::1%br-lan.10 port 5022",
        "error: PAM: Authentication failure for root from fe80::1%2",
    ] {
        let (verdict, address, ..) = said(message).unwrap();
        assert_eq!((verdict, &*address), (Verdict::Failure, "fe80::1"), "{message}");
    }
    for address in
        ["192.0.2.66%eth0", "2001:db8::66%eth0", "fe80::1%", "fe80::1%a/b", "fe80::1%a%b"]
    {
        assert_eq!(said(&format!("Failed password for root from {address} port 5022 ssh2")), None);
    }
}

#[test]
fn lines_of_other_systems_and_older_versions_are_read() {
    use Verdict::{Failure, Ignored};
    let host = ": RSA 8c:e3:aa, client user \"x\", client host \"evil.example\"";
    #[rustfmt::skip]
    let cases = [
        (format!("{PREFIX}[ID 800047 auth.info] Failed password for root from 192.0.2.66 port 5022 ssh2"), Failure),
        (format!("{PREFIX}Failed password for root from 192.0.2.66 port 5022 ssh1"), Failure),
        (format!("{PREFIX}Failed password for root from 192.0.2.66 port 5022"), Failure),
        (format!("{PREFIX}Failed hostbased for root from 192.0.2.66 port 5022 ssh2{host}"), Failure),
        ("Nov 2 09:43:06 pbx sshd[12]: Failed password for root from 192.0.2.66 port 5022 ssh2".to_owned(), Failure),
        ("<38>1 2026-11-22T09:43:06.5-04:00 pbx sshd 12 - - Failed unknown for root from 192.0.2.66 port 5022 ssh2".to_owned(), Failure),
        ("<38>1 2026-11-22T09:43:06Z pbx sshd 12 - [a x=\"]\\\"] \"][b] Failed password for root from 192.0.2.66 port 5022 ssh2".to_owned(), Failure),
        (format!("{PREFIX}Received disconnect from 192.0.2.66: 3: x: Auth fail [preauth]"), Failure),
        (format!("{PREFIX}Received disconnect from 192.0.2.66: 11: Bye Bye [preauth]"), Ignored),
    ];
    for (line, verdict) in cases {
        let attempt = parse(line.as_bytes()).expect(&line);
        assert_eq!((attempt.verdict, &*attempt.address.to_string()), (verdict, "192.0.2.66"));
    }
    // Two addresses, and nothing shows which is sshd's.
    let message = "Failed password for x from 192.0.2.66 port 5022 as y from 203.0.113.9";
    assert_eq!(said(message), None, "{message}");
    let message = "Failed password for x from 192.0.2.66 port 5022 ssh1: ruser from 203.0.113.9";
    assert_eq!(said(message).unwrap().1, "192.0.2.66");
}

#[test]
fn messages_without_a_port_are_read() {
    use Verdict::{Failure, Ignored};
    #[rustfmt::skip]
    let cases = [
        ("error: PAM: Authentication failure for root from 192.0.2.66", Failure),
        ("error: PAM: Authentication failure for illegal user root from 192.0.2.66 via 192.0.2.10", Failure),
        ("error: PAM: User not known to the underlying authentication module for illegal user root from 192.0.2.66", Failure),
        ("User root from 192.0.2.66 not allowed because not listed in AllowUsers", Failure),
        ("User root from 192.0.2.66 not allowed because none of user's groups are listed in AllowGroups", Failure),
        ("pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost=192.0.2.66  user=root", Ignored),
    ];
    for (message, verdict) in cases {
        let expected = (verdict, "192.0.2.66".to_owned(), None, Some("root".to_owned()));
        assert_eq!(said(message), Some(expected), "{message}");
    }
    let (verdict, address, ..) = said("refused connect from evil.example (192.0.2.66)").unwrap();
    assert_eq!((verdict, &*address), (Failure, "192.0.2.66"));
}

#[test]
fn a_user_name_does_not_move_the_address() {
    for user in [
        "root from 203.0.113.9 port 22 ssh2",
        "root from 203.0.113.9 port 22",
        "x from 203.0.113.9",
        "invalid user y from 203.0.113.9 port 1 ssh2",
        " from 203.0.113.9 not allowed because not listed in AllowUsers",
        "a 203.0.113.9 port 1: Change of username or service not allowed: (",
        "a 203.0.113.9 port 1",
    ] {
        for message in [
            format!("Failed password for invalid user {user} from 192.0.2.66 port 5022 ssh2"),
            format!("Invalid user {user} from 192.0.2.66 port 5022"),
            format!(
                "error: maximum authentication attempts exceeded for invalid user {user} from \
                     192.0.2.66 port 5022 ssh2 [preauth]"
            ),
            format!("Connection closed by invalid user {user} 192.0.2.66 port 5022 [preauth]"),
        ] {
            assert_eq!(said(&message).unwrap().1, "192.0.2.66", "{message}");
        }
        let message = format!(
            "Disconnecting invalid user {user} 192.0.2.66 port 5022: Change of username or service \
             not allowed: ({user},ssh-connection) -> (root,ssh-connection) [preauth]"
        );
        assert!(said(&message).is_none_or(|said| said.1 == "192.0.2.66"), "{message}");
    }
}

#[test]
fn only_sshd_is_read() {
    let message = "Invalid user admin from 192.0.2.66 port 5022";
    for prefix in [
        "Nov  2 09:43:06 pbx sshd[1]: ",
        "2026-11-22T09:43:06.123456+01:00 pbx sshd-session[1]: ",
        "Nov 22 09:43:06 pbx sshd-auth[1]: ",
        "Nov 22 09:43:06 pbx sshd: ",
    ] {
        assert!(parse(format!("{prefix}{message}").as_bytes()).is_some(), "{prefix}");
    }
    for prefix in [
        "Nov 22 09:43:06 pbx su[1]: ",
        "Nov 22 09:43:06 pbx sshd[x]: ",
        "Nov 22 09:43:06 pbx sshd[1] x: ",
        "Nov 22 09:43:06 pbx su[1]: sshd[1]: ",
        "sshd[1]: ",
        "",
    ] {
        assert_eq!(parse(format!("{prefix}{message}").as_bytes()), None, "{prefix}");
    }
    assert_eq!(said("Server listening on 0.0.0.0 port 22."), None);
    assert_eq!(said("User admin not allowed because account is locked"), None);
}

fn entry(program: &str, user: &str, message: &serde_json::Value) -> Vec<u8> {
    serde_json::json!({
        "__CURSOR": "s=a;i=1", "__REALTIME_TIMESTAMP": "1795340558123456", "_COMM": program,
        "_UID": user, "SYSLOG_IDENTIFIER": "sshd", "MESSAGE": message,
    })
    .to_string()
    .into_bytes()
}

#[test]
fn only_journal_entries_of_root_are_believed() {
    let message = "Invalid user admin from 192.0.2.66 port 5022".into();
    let line = entry("sshd-session", "0", &message);
    let found = journal_entry(&line).unwrap();
    assert_eq!(found.cursor, "s=a;i=1");
    let attempt = found.attempt.unwrap();
    assert_eq!(attempt.address.to_string(), "192.0.2.66");
    let time = attempt.logged_at.unwrap().instant(&jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(time.as_microsecond(), 1_795_340_558_123_456);
    for (program, user) in [("logger", "0"), ("sshd", "1000"), ("sshd", "")] {
        let line = entry(program, user, &message);
        let found = journal_entry(&line).unwrap();
        assert_eq!((found.attempt, found.unparsed), (None, None), "{program} {user}");
    }
}

/// As `journalctl -o json` of systemd 252 writes them.
#[test]
fn entries_of_a_real_journal_are_read() {
    let journal = include_str!("../../../../tests/fixtures/sshd/journal.json");
    let found: Vec<(Verdict, String)> = journal
        .lines()
        .map(|line| parse(line.as_bytes()).unwrap())
        .map(|attempt| (attempt.verdict, attempt.address.to_string()))
        .collect();
    let (attacker, friend) = ("192.0.2.66".to_owned(), "192.0.2.77".to_owned());
    let expected = [
        (Verdict::Failure, attacker.clone()),
        (Verdict::Failure, attacker),
        (Verdict::Success, friend),
    ];
    assert_eq!(found, expected);
}

#[test]
fn a_journal_message_may_be_bytes_or_nothing() {
    let bytes = b"Invalid user \xff from 192.0.2.66 port 5022";
    let line = entry("sshd", "0", &serde_json::json!(bytes.to_vec()));
    let found = journal_entry(&line).unwrap();
    assert_eq!(found.attempt.unwrap().address.to_string(), "192.0.2.66");
    for message in [serde_json::Value::Null, serde_json::json!(["a", "b"]), serde_json::json!(1)] {
        assert_eq!(journal_entry(&entry("sshd", "0", &message)).unwrap().attempt, None);
    }
    assert_eq!(journal_entry(b"{\"MESSAGE\":\"x\"}"), None);
}

#[test]
fn an_sshd_message_without_a_rule_is_passed_on() {
    let line = entry("sshd", "0", &"login of x from 192.0.2.66 was refused".into());
    let found = journal_entry(&line).unwrap();
    assert_eq!(found.unparsed.as_deref(), Some(&b"login of x from 192.0.2.66 was refused"[..]));
}

/// Pieces of text that an attacker would choose.
fn text() -> impl Strategy<Value = String> {
    let pieces = [
        " from ",
        "203.0.113.9",
        " port 22",
        " ssh2",
        ": ",
        "x",
        " ",
        " [preauth]",
        "invalid user ",
        "(",
        " not allowed because not listed in AllowUsers",
    ];
    vec(select(pieces.to_vec()), 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_text_moves_the_address(user in text(), other in text()) {
        // A colon starts the login style, which sshd cuts off (`auth2.c`).
        let user = user.split(':').next().unwrap();
        for message in [
            format!("Failed password for {user} from 192.0.2.66 port 5022 ssh2"),
            format!("Invalid user {user} from 192.0.2.66 port 5022"),
            format!("Connection closed by authenticating user {user} 192.0.2.66 port 5022 [preauth]"),
            format!("Failed publickey for invalid user {user} from 192.0.2.66 port 5022 ssh2: RSA-CERT \
                     SHA256:a ID {other} (serial 0) CA RSA SHA256:b"),
            format!("Received disconnect from 192.0.2.66 port 5022:3: {other}: Auth fail [preauth]"),
            format!("Disconnecting invalid user {user} 192.0.2.66 port 5022: Change of username or \
                     service not allowed: ({user},{other}) -> ({user},{other}) [preauth]"),
        ] {
            if let Some(said) = said(&message) {
                prop_assert_eq!(said.1, "192.0.2.66", "{}", message);
            }
        }
    }

    #[test]
    fn any_bytes_are_parsed(bytes in vec(any::<u8>(), 0..200)) {
        parse(&bytes);
        parse(&[PREFIX.as_bytes(), &bytes].concat());
    }

    #[test]
    fn any_end_of_a_message_is_parsed(
        start in select(vec!["Failed ", "Failed password for ", "Accepted x", "Invalid user ",
            "Received disconnect from ", "Connection closed by ", "Disconnecting invalid user ",
            "User ", "refused connect from ", "pam_unix(sshd:auth): authentication failure;"]),
        rest in "[ a-z0-9.:;=()]{0,40}",
    ) {
        parse(format!("{PREFIX}{start}{rest}").as_bytes());
    }
}

#[test]
fn a_line_of_a_file_has_the_time_that_syslog_wrote() {
    let line = "2026-11-22T09:43:06.123456+00:00 pbx sshd[1]: Invalid user admin from 192.0.2.66 port 5022";
    let attempt = parse(line.as_bytes()).unwrap();
    let time = attempt.logged_at.unwrap().instant(&jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(time.to_string(), "2026-11-22T09:43:06.123456Z");
}

#[test]
fn an_unknown_user_is_announced_and_a_repeated_line_counts_as_often() {
    let line = |message: &str| {
        parse(format!("Nov 22 09:43:06 pbx sshd[1]: {message}").as_bytes()).unwrap()
    };
    let invalid = line("Invalid user admin from 192.0.2.66 port 5022");
    let failed = "Failed password for root from 192.0.2.66 port 5022 ssh2";
    assert_eq!((invalid.announces, invalid.times), (true, 1));
    assert_eq!((line(failed).announces, line(failed).times), (false, 1));
    for (times, counted) in [("3", 3), ("12", 12), ("100", 100), ("99999999999", 100), ("0", 1)] {
        assert_eq!(line(&format!("message repeated {times} times: [ {failed}]")).times, counted);
    }
}

#[test]
fn a_port_has_only_digits_and_the_end_of_old_lines_is_known() {
    for (message, address) in [
        ("Failed password for x from 192.0.2.66 port 5022", Some("192.0.2.66")),
        ("Failed password for x from 192.0.2.66 port +5022", None),
        ("Failed password for x from 192.0.2.66 port ", None),
        (
            "Failed password for x from 203.0.113.9 from 192.0.2.66 port 5022 ssh1",
            Some("192.0.2.66"),
        ),
        ("Failed password for x from 203.0.113.9 from 192.0.2.66 port 5022", None),
    ] {
        assert_eq!(said(message).map(|said| said.1).as_deref(), address, "{message}");
    }
}

#[test]
fn only_a_client_that_gives_up_fails_with_its_goodbye() {
    for (text, verdict) in [
        ("3: x: Auth fail", Verdict::Failure),
        ("3: x", Verdict::Ignored),
        ("11: x: Auth fail", Verdict::Ignored),
        ("11: Bye Bye", Verdict::Ignored),
    ] {
        let message = format!("Received disconnect from 192.0.2.66 port 5022:{text}");
        assert_eq!(said(&message).unwrap().0, verdict, "{text}");
    }
}

#[test]
fn an_entry_of_the_journal_is_roots_sshds() {
    for (fields, is_so) in [
        (r#""_COMM":"sshd","_UID":"0""#, true),
        (r#""SYSLOG_IDENTIFIER":"sshd","_UID":"0""#, true),
        (r#""_COMM":"sshd","_UID":"1000""#, false),
        (r#""_COMM":"logger","SYSLOG_IDENTIFIER":"sshd","_UID":"0""#, false),
        (r#""_COMM":"sshd""#, false),
    ] {
        let entry = format!(r#"{{"__CURSOR":"c",{fields}}}"#);
        assert_eq!(is_trusted(entry.as_bytes()), is_so, "{entry}");
    }
    assert!(!is_trusted(b"{}") && !is_trusted(b"sshd"));
}

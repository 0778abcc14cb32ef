use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::failure::{Class, LoggedAt, Transport, Verdict};

const PREFIX: &str = "[2026-11-22 09:32:21.1220] SECURITY[10023] res_security_log.c: ";

fn message(name: &str, account: &str, session: &str, tail: &str) -> String {
    format!(
        "SecurityEvent=\"{name}\",EventTV=\"2026-11-22T09:32:21.121+0000\",Severity=\"Error\",\
         Service=\"PJSIP\",EventVersion=\"1\",AccountID=\"{account}\",SessionID=\"{session}\",\
         LocalAddress=\"IPV4/UDP/192.0.2.10/5060\",RemoteAddress=\"IPV4/UDP/192.0.2.66/42366\"{tail}"
    )
}

fn plain(text: &str) -> Option<Attempt> {
    parse(format!("{PREFIX}{text}").as_bytes())
}

fn json_line(text: &str) -> String {
    serde_json::json!({
        "hostname": "pbx", "timestamp": "2026-11-22 09:32:21.1220",
        "identifiers": {"lwp": 10023, "callid": ""},
        "logmsg": {
            "location": {"filename": "res_security_log.c", "function": "security_event", "line": 106},
            "level": "SECURITY", "message": format!("{text}\n"),
        },
    })
    .to_string()
}

/// What the logger writes to a plain file: it removes the text between an ESC and the next `m`.
fn without_escapes(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, escaped)) = rest.split_once('\x1b') {
        out.push_str(before);
        rest = escaped.split_once('m').map_or("", |(_, after)| after);
    }
    out + rest
}

#[test]
fn reads_every_field() {
    let tail = ",Challenge=\"1/a\",Response=\"b\",ExpectedResponse=\"\"";
    let text = message("ChallengeResponseFailed", "1001", "x@y", tail);
    let (plain, json) = (plain(&text).unwrap(), parse(json_line(&text).as_bytes()).unwrap());
    assert_eq!((plain.verdict, plain.class), (Verdict::Failure, Class::WrongCredential));
    assert_eq!(plain.address.to_string(), "192.0.2.66");
    assert_eq!((plain.port, plain.transport), (Some(42366), Some(Transport::Udp)));
    assert_eq!(plain.account.as_deref(), Some("1001"));
    assert_eq!(plain.session.as_deref(), Some("x@y"));
    assert!(plain.needs_witness && !json.needs_witness);
    assert_eq!(Attempt { needs_witness: false, ..plain }, json);
}

#[test]
fn a_link_local_address_has_a_zone() {
    let of = |address: &str| {
        let text = message("InvalidPassword", "admin", "0x7fe7440017a0", "");
        plain(&text.replace("IPV4/UDP/192.0.2.66", address)).map(|event| event.address.to_string())
    };
    assert_eq!(of("IPV6/TCP/fe80::1%eth0").as_deref(), Some("fe80::1"));
    assert_eq!(of("IPV6/TCP/2001:db8::66%eth0"), None);
}

/// Nothing in a plain log makes a peer known.
#[test]
fn only_json_reports_an_answered_challenge() {
    let text = message("SuccessfulAuth", "1001", "x@y", ",UsingPassword=\"1\"");
    let (plain, json) = (plain(&text).unwrap(), parse(json_line(&text).as_bytes()).unwrap());
    assert_eq!((plain.verdict, json.verdict), (Verdict::Success, Verdict::Success));
    assert!(json.answered && !plain.answered);
}

/// The address that a line names; for an undecided line, whether the true address is among those that
/// it names.
fn named(line: &str) -> Option<String> {
    let undecided = parse_undecided(line.as_bytes());
    if let Some(attempt) = &undecided
        && !attempt.decided
    {
        let truth = "192.0.2.66".parse().unwrap();
        assert!(attempt.address == truth || attempt.rivals.contains(&truth), "{line}");
        assert!(attempt.needs_witness && !attempt.proven && !attempt.answered, "{line}");
    }
    let attempt = parse(line.as_bytes());
    assert_eq!(attempt, undecided.filter(|attempt| attempt.decided));
    attempt.map(|attempt| attempt.address.to_string())
}

const TRUE: Option<&str> = Some("192.0.2.66");

#[test]
fn a_second_address_makes_a_line_undecided() {
    let forged = "x\",LocalAddress=\"IPV4/UDP/192.0.2.10/5060\",\
                  RemoteAddress=\"IPV4/UDP/203.0.113.1/5060\",Challenge=\"";
    for (account, session) in [(forged, "x"), ("1001", forged), (forged, forged)] {
        let text = message("ChallengeSent", account, session, ",Challenge=\"\"");
        for line in [format!("{PREFIX}{text}"), json_line(&text)] {
            assert_eq!(named(&line), None, "{line}");
            let undecided = parse_undecided(line.as_bytes()).unwrap();
            assert_eq!(undecided.rivals.len(), 1);
            // Forging one's own address hides nothing.
            assert_eq!(named(&line.replace("203.0.113.1", "192.0.2.66")).as_deref(), TRUE);
        }
    }
}

/// AMI writes the header `Key` as received, after the address.
#[test]
fn the_key_of_a_login_to_ami_does_not_move_the_address() {
    for key in [
        "x\",LocalAddress=\"IPV4/TCP/192.0.2.10/5060\",RemoteAddress=\"IPV4/TCP/198.51.100.9/5060",
        "x\",LocalAddress=\"IPV4/TCP/192.0.2.10/5060\",RemoteAddress=\"IPV4/TCP/198.51.100.9/5060\",\
         Challenge=\"1\",Response=\"y",
        "x\",RemoteAddress=\"IPV4/TCP/198.51.100.9/5060",
    ] {
        let tail = format!(
            ",Challenge=\"123456789\",Response=\"{key}\",ExpectedResponse=\"0123\",\
             SessionTV=\"2026-08-07T12:34:50.000+0000\""
        );
        let text = message("ChallengeResponseFailed", "admin", "0x7fb580001518", &tail);
        let text = text.replace("\"PJSIP\"", "\"AMI\"").replace("IPV4/UDP", "IPV4/TCP");
        for line in [format!("{PREFIX}{text}"), json_line(&text)] {
            assert_eq!(named(&line), None, "{line}");
            assert_eq!(parse_undecided(line.as_bytes()).unwrap().rivals.len(), 1);
        }
    }
}

#[test]
fn a_line_whose_source_was_removed_names_no_address() {
    let forged = "x\",LocalAddress=\"IPV4/UDP/192.0.2.10/5060\",\
                  RemoteAddress=\"IPV4/UDP/203.0.113.1/5060\",Challenge=\"\x1b";
    for (session, tail) in [(forged, ",Challenge=\"\""), (forged, ""), ("a\x1b", "")] {
        let text = message("ChallengeSent", "1001", session, tail);
        assert_eq!(plain(&without_escapes(&text)), None, "{session:?}");
    }
    // In JSON the ESC is escaped, and nothing is removed.
    let text = message("ChallengeSent", "1001", "a\x1b", "");
    assert_eq!(named(&json_line(&text)).as_deref(), TRUE);
}

#[test]
fn other_levels_and_files_are_not_read() {
    let text = message("InvalidAccountID", "1", "x", "");
    assert!(plain(&text).is_some());
    let line = format!("{PREFIX}{text}");
    for (from, to) in
        [("SECURITY[", "NOTICE["), ("res_security_log.c", "manager.c"), ("[2026", "2026")]
    {
        assert_eq!(parse(line.replacen(from, to, 1).as_bytes()), None, "{to}");
    }
    let json = json_line(&text).replace("\"SECURITY\"", "\"ERROR\"");
    assert_eq!(parse(json.as_bytes()), None);
}

proptest! {
    /// Whatever the attacker's texts contain, removed by the logger or not.
    #[test]
    fn attacker_text_never_names_another_address(
        account in hostile(), session in hostile(), behind in hostile(), more in hostile(),
        event in select(vec!["InvalidAccountID", "ChallengeResponseFailed", "InvalidPassword",
            "ChallengeSent", "RequestNotAllowed", "FailedACL", "SuccessfulAuth"]),
        tail in select(vec![
            "", ",Challenge=\"<a>\"", ",ACLName=\"<a>\"", ",RequestType=\"<a>\",SessionTV=\"<b>\"",
            ",Challenge=\"<a>\",Response=\"<b>\",ExpectedResponse=\"\"",
            ",Module=\"m\",Challenge=\"<a>\",ReceivedChallenge=\"<b>\",ReceivedHash=\"<a>\"",
        ]),
        service in select(vec!["PJSIP", "AMI"]),
        clean in 0..4,
    ) {
        let keep = |text: String, number: i32| if clean == number { String::new() } else { text };
        let (account, session) = (keep(account, 1), keep(session, 2));
        let tail = tail.replace("<a>", &behind).replace("<b>", &more);
        let text = message(event, &account, &session, &keep(tail, 3));
        let text = text.replacen("\"PJSIP\"", &format!("\"{service}\""), 1);
        let found = plain(&without_escapes(&text)).map(|attempt| attempt.address.to_string());
        prop_assert!(found.as_deref().is_none_or(|a| TRUE == Some(a)), "{found:?}");
        let found = named(&json_line(&text));
        prop_assert!(found.as_deref().is_none_or(|a| TRUE == Some(a)), "{found:?}");
    }

    /// Text that forges nothing hides nothing.
    #[test]
    fn other_text_hides_nothing(account in "[a-z0-9,\" ]{0,12}", session in "[a-z0-9@,. \"]{0,12}") {
        let text = message("InvalidAccountID", &account, &session, "");
        let json = json_line(&text);
        prop_assert!(named(&json).as_deref() == TRUE);
        let plain = format!("{PREFIX}{text}");
        prop_assert!(named(&plain).as_deref() == TRUE);
    }

    #[test]
    fn any_bytes_are_parsed(bytes in vec(any::<u8>(), 0..300)) {
        parse(&bytes);
        parse(&[PREFIX.as_bytes(), &bytes].concat());
    }
}

fn hostile() -> impl Strategy<Value = String> {
    let pieces = vec![
        "\"",
        ",",
        "\",",
        "\x1b",
        "m",
        "SessionID=\"",
        "LocalAddress=\"IPV4/UDP/192.0.2.10/5060\"",
        "RemoteAddress=\"IPV4/UDP/203.0.113.1/5060\"",
        "\",LocalAddress=\"IPV4/UDP/192.0.2.10/5060\",RemoteAddress=\"IPV4/UDP/203.0.113.1/1\"",
        ",Challenge=\"\"",
        ",Challenge=\"",
        "oteAddress=\"",
        "ExpectedAddress=\"IPV4/TCP/203.0.113.1/5060\"",
        "SessionTV=\"",
        "x",
        "é",
    ];
    vec(select(pieces), 0..8).prop_map(|pieces| pieces.concat())
}

#[test]
fn an_event_without_a_readable_time_has_that_of_its_line() {
    let text = message("ChallengeResponseFailed", "1001", "x@y", "");
    let of_line = LoggedAt::Host(jiff::civil::date(2026, 11, 22).at(9, 32, 21, 122_000_000));
    let of_event = "2026-11-22T09:32:21.121Z".parse().map(LoggedAt::Instant).unwrap();
    for (text, time) in [(text.clone(), of_event), (text.replace("T09:", "T99:"), of_line)] {
        for attempt in [plain(&text), parse(json_line(&text).as_bytes())] {
            assert_eq!(attempt.unwrap().logged_at, Some(time), "{text}");
        }
    }
}

#[test]
fn an_event_that_names_others_proves_nothing() {
    let [own, other] = [[192, 0, 2, 66], [203, 0, 113, 9]].map(IpAddr::from);
    let attempt = Attempt {
        proven: true,
        answered: true,
        ..Attempt::new(Verdict::Success, Class::Challenge, own)
    };
    assert_eq!(of_one(attempt.clone(), vec![own]), attempt);
    let undecided = Attempt {
        rivals: vec![other],
        decided: false,
        proven: false,
        answered: false,
        needs_witness: true,
        ..attempt.clone()
    };
    assert_eq!(of_one(attempt, vec![own, other]), undecided);
}

#[test]
fn what_may_follow_the_address() {
    let acl =
        |tail: &str| plain(&message("FailedACL", "1001", "x", tail)).map(|attempt| attempt.verdict);
    assert_eq!(acl(",ACLName=\"a\""), Some(Verdict::Failure));
    let too_many = ",ACLName=\"registrar_attempt_exceeds_maximum_configured_contacts\"";
    assert_eq!(acl(too_many), Some(Verdict::Ignored));
    assert_eq!(acl(",New=\"a\""), None);
    assert_eq!(acl(",ACLName=\"a"), None);
}

#[test]
fn only_a_refused_login_to_ami_may_run_on() {
    let login = message("InvalidAccountID", "1", "x", "").replace("PJSIP", "AMI");
    for (text, expected) in [
        (login.clone(), true),
        (login.replace("AccountID", "Account"), true),
        (login.replace("InvalidAccountID", "SuccessfulAuth"), false),
        (login.replace("InvalidAccountID", "SuccessfulAuthX"), true),
        (login.replace("AMI", "AMIX"), false),
        (message("InvalidAccountID", "1", "x", ""), false),
        (message("InvalidAccountID", "1\",Service=\"AMI", "x", ""), false),
        (message("InvalidAccountID", "1", "x", ",Service=\"AMI\""), false),
    ] {
        let line = format!("{PREFIX}{text}");
        let found = in_asterisk_line(line.as_bytes(), |line| Some(may_run_on(line)));
        assert_eq!(found, Some(expected), "{line}");
    }
}

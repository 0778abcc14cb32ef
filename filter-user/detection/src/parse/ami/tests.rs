use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::failure::{Class, Transport, Verdict};

/// An event with this account and Call-ID, as Asterisk writes it.
fn event(name: &str, account: &str, session: &str, tail: &str) -> String {
    format!(
        "Event: {name}\r\nPrivilege: security,all\r\nEventTV: 2026-11-22T09:32:21.123+0100\r\n\
         Severity: Error\r\nService: PJSIP\r\nEventVersion: 1\r\nAccountID: {account}\r\n\
         SessionID: {session}\r\nLocalAddress: IPV4/UDP/192.0.2.10/5060\r\n\
         RemoteAddress: IPV4/UDP/192.0.2.66/42366{tail}"
    )
}

fn attempt(block: &str) -> Option<Attempt> {
    match parse(block.as_bytes()) {
        Block::Security(attempt) => attempt,
        Block::Cut | Block::Response(_) | Block::Unread | Block::TooLong | Block::Other => None,
    }
}

#[test]
fn reads_every_field() {
    let tail = "\r\nChallenge: 1/a\r\nResponse: b\r\nExpectedResponse: ";
    let attempt = attempt(&event("ChallengeResponseFailed", "1001", "x@y", tail)).unwrap();
    assert_eq!((attempt.verdict, attempt.class), (Verdict::Failure, Class::WrongCredential));
    assert_eq!(attempt.address.to_string(), "192.0.2.66");
    assert_eq!((attempt.port, attempt.transport), (Some(42366), Some(Transport::Udp)));
    assert_eq!(attempt.account.as_deref(), Some("1001"));
    assert_eq!(attempt.session.as_deref(), Some("x@y"));
    assert!(!attempt.proven && !attempt.needs_witness && attempt.decided);
    let time = attempt.logged_at.unwrap().instant(&jiff::tz::TimeZone::UTC).unwrap();
    assert_eq!(time.to_string(), "2026-11-22T08:32:21.123Z");
}

#[test]
fn each_event_has_its_class() {
    let acl = "\r\nACLName: not_match_endpoint_acl";
    let contacts = "\r\nACLName: registrar_attempt_exceeds_maximum_configured_contacts";
    let cases = [
        ("ChallengeResponseFailed", "", Some((Verdict::Failure, Class::WrongCredential))),
        ("InvalidPassword", "", Some((Verdict::Failure, Class::WrongCredential))),
        ("InvalidAccountID", "", Some((Verdict::Failure, Class::UnknownAccount))),
        ("FailedACL", acl, Some((Verdict::Failure, Class::Acl))),
        ("FailedACL", contacts, Some((Verdict::Ignored, Class::Acl))),
        ("RequestNotSupported", "", Some((Verdict::Ignored, Class::Acl))),
        ("ChallengeSent", "\r\nChallenge: ", Some((Verdict::Ignored, Class::Challenge))),
        ("SuccessfulAuth", "\r\nUsingPassword: 1", Some((Verdict::Success, Class::Challenge))),
        ("MemoryLimit", "", None),
    ];
    for (name, tail, expected) in cases {
        let found = attempt(&event(name, "1001", "x", tail));
        assert!(found.as_ref().is_none_or(|found| found.rule == name), "{name}");
        assert_eq!(found.map(|a| (a.verdict, a.class)), expected, "{name}");
    }
    let ami = event("InvalidPassword", "sec", "0x7fe7440017a0", "").replace("PJSIP", "AMI");
    assert_eq!(attempt(&ami).unwrap().class, Class::Login);
}

#[test]
fn a_connection_or_an_answered_challenge_proves_the_source() {
    for (transport, proven) in
        [("UDP", false), ("TCP", true), ("TLS", true), ("WS", true), ("WSS", true)]
    {
        let block = event("InvalidAccountID", "1", "x", "")
            .replace("IPV4/UDP/192.0.2.66", &format!("IPV4/{transport}/192.0.2.66"));
        assert_eq!(attempt(&block).unwrap().proven, proven, "{transport}");
    }
    for (service, password, proven) in [
        ("PJSIP", "\r\nUsingPassword: 1", true),
        ("PJSIP", "\r\nUsingPassword: 0", false),
        ("PJSIP", "", false),
        ("AMI", "\r\nUsingPassword: 1", false),
    ] {
        let block = event("SuccessfulAuth", "1", "x", password).replace("PJSIP", service);
        let attempt = attempt(&block).unwrap();
        assert_eq!((attempt.proven, attempt.answered), (proven, proven), "{service} {password}");
    }
}

#[test]
fn the_account_unknown_is_no_account() {
    assert_eq!(attempt(&event("ChallengeSent", "<unknown>", "x", "")).unwrap().account, None);
}

#[test]
fn header_lines_in_the_account_do_not_move_the_source() {
    for account in [
        "\r\nRemoteAddress: IPV4/UDP/1.1.1.1/1",
        "\r\nLocalAddress: IPV4/UDP/1.1.1.1/1\r\nRemoteAddress: IPV4/UDP/203.0.113.1/1",
        "x\r\nSessionID: y",
        "\r\nACLName: z",
    ] {
        let block = event("FailedACL", account, "x", "\r\nACLName: list");
        let attempt = attempt(&block).unwrap();
        assert_eq!(attempt.address.to_string(), "192.0.2.66", "{account:?}");
        assert_eq!(attempt.session.as_deref(), Some("x"), "{account:?}");
        // A PJSIP account has no room for both addresses.
        assert_eq!(attempt.decided, !account.contains("LocalAddress"), "{account:?}");
    }
}

/// `timestampevents`, `manager set debug on`, and `systemname` of `asterisk.conf`.
#[test]
fn an_event_is_read_whatever_asterisk_adds_to_it() {
    let added = [
        "Timestamp: 1763802741.123456\r\n",
        "SequenceNumber: 17\r\nFile: security_events.c\r\nLine: 426\r\nFunc: x\r\n",
        "SystemName: pbx-1\r\n",
    ];
    let plain = event("InvalidAccountID", "1001", "x@y", "");
    for set in 0..1 << added.len() {
        let added: String =
            (0..added.len()).filter(|at| set & 1 << at != 0).map(|at| added[at]).collect();
        let block = plain.replace("EventTV", &format!("{added}EventTV"));
        assert_eq!(attempt(&block), attempt(&plain), "{added}");
        let hostile = event("InvalidAccountID", "\r\n\r\nEvent: X", "x", "");
        let hostile = hostile.replace("EventTV", &format!("{added}EventTV"));
        let (head, _) = hostile.split_once("\r\n\r\n").unwrap();
        assert_eq!(parse(head.as_bytes()), Block::Cut, "{added}");
    }
    for other in
        ["Channel: x\r\n", "SystemName: a\r\nTimestamp: 1\r\n", "Timestamp: 1\r\nTimestamp: 1\r\n"]
    {
        let block = plain.replace("EventTV", &format!("{other}EventTV"));
        assert_eq!(parse(block.as_bytes()), Block::Unread, "{other}");
    }
}

/// Over HTTP, AMI decodes line breaks in the text of a login.
#[test]
fn a_second_source_after_the_first_leaves_no_attempt() {
    let forged = "x\r\nLocalAddress: IPV4/TCP/192.0.2.10/5060\r\n\
                  RemoteAddress: IPV4/TCP/203.0.113.1/5060";
    let tail = format!("\r\nChallenge: 1\r\nResponse: {forged}\r\nExpectedResponse: 0123");
    let block = event("ChallengeResponseFailed", "", "0x7fb5", &tail).replace("PJSIP", "AMI");
    let found = attempt(&block).unwrap();
    assert!(!found.decided && !found.proven && found.needs_witness);
    let truth = "192.0.2.66".parse().unwrap();
    assert!(found.address == truth || found.rivals.contains(&truth));
    // Forging one's own address hides nothing.
    let own = attempt(&block.replace("203.0.113.1", "192.0.2.66")).unwrap();
    assert!(own.decided && own.address == truth);
}

#[test]
fn an_empty_line_in_the_account_cuts_the_block() {
    let whole = event("InvalidAccountID", "\r\n\r\nEvent: X", "x", "");
    let (head, rest) = whole.split_once("\r\n\r\n").unwrap();
    assert_eq!(parse(head.as_bytes()), Block::Cut);
    assert_eq!(parse(rest.as_bytes()), Block::Other);
    assert_eq!(attempt(&whole).unwrap().address.to_string(), "192.0.2.66");
}

#[test]
fn a_block_that_asterisk_would_not_write_is_no_event() {
    let good = event("InvalidAccountID", "1", "x", "");
    assert!(attempt(&good).is_some());
    for (from, to) in [
        ("Privilege: security,all", "Privilege: system,all"),
        ("Privilege: security,all\r\n", ""),
        ("EventVersion: 1\r\n", ""),
        ("IPV4/UDP/192.0.2.66/42366", "IPV4/UDP/192.0.2.66"),
        ("IPV4/UDP/192.0.2.66/42366", "IPV4/UDP/192.0.2.66/"),
        ("IPV4/UDP/192.0.2.66/42366", "IPV4/UDP/192.0.2.66/+1"),
        ("IPV4/UDP/192.0.2.66/42366", "IPV4/UDP/0.0.0.0/1"),
        ("IPV4/UDP/192.0.2.66/42366", "Unknown/UDP/192.0.2.66/1"),
        ("IPV4/UDP/192.0.2.66/42366", "IPV4/SCTP/192.0.2.66/1"),
        ("LocalAddress: IPV4/UDP/192.0.2.10/5060\r\n", ""),
    ] {
        let block = good.replace(from, to);
        assert_ne!(block, good);
        assert_eq!(attempt(&block), None, "{block}");
    }
    let many = "\r\nX: y".repeat(LINES_MAX);
    assert_eq!(attempt(&event("InvalidAccountID", "1", "x", &many)), None);
}

#[test]
fn a_response_is_read() {
    let block = b"Response: Success\r\nActionID: challenge\r\nChallenge: 160512217";
    let expected =
        Response { success: true, action: b"challenge", message: b"", challenge: b"160512217" };
    assert_eq!(parse(block), Block::Response(expected));
    let block = b"Response: Error\r\nActionID: login\r\nMessage: Authentication failed";
    let Block::Response(response) = parse(block) else { panic!() };
    assert!(!response.success);
    assert_eq!(response.message, b"Authentication failed");
}

/// Text that an attacker can get into an account or a Call-ID, and more.
fn hostile() -> impl Strategy<Value = String> {
    let pieces = vec![
        "\r\n",
        "\n",
        "\r",
        "\0",
        "\x1b",
        "Event: FailedACL",
        "Privilege: security,all",
        "SessionID: ",
        "AccountID: ",
        "LocalAddress: IPV4/UDP/203.0.113.1/1",
        "RemoteAddress: IPV4/UDP/203.0.113.2/2",
        "RemoteAddress: ",
        "Response: Success",
        "m",
        "é",
    ];
    vec(select(pieces), 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_account_moves_the_source(account in hostile(), session in "[^\r\n]{0,40}") {
        let block = event("InvalidAccountID", &account, &session, "");
        let attempt = attempt(&block).unwrap();
        prop_assert_eq!(attempt.address.to_string(), "192.0.2.66");
        prop_assert_eq!(attempt.port, Some(42366));
    }

    /// Whatever the attacker's texts contain.
    #[test]
    fn a_block_names_the_true_address_or_is_undecided(
        account in hostile(), session in hostile(), challenge in hostile(), response in hostile(),
        (event_name, header) in select(vec![("ChallengeResponseFailed", "Response"),
            ("InvalidPassword", "ReceivedHash"), ("RequestNotAllowed", "RequestParams")]),
    ) {
        let tail = format!("\r\nChallenge: {challenge}\r\n{header}: {response}\r\nSessionTV: x");
        let found = attempt(&event(event_name, &account, &session, &tail));
        let truth: std::net::IpAddr = "192.0.2.66".parse().unwrap();
        if let Some(found) = found {
            prop_assert!(!found.decided || found.address == truth);
            prop_assert!(found.address == truth || found.rivals.contains(&truth));
        }
    }

    #[test]
    fn any_bytes_are_parsed(bytes in vec(any::<u8>(), 0..400)) {
        parse(&bytes);
    }

    #[test]
    fn any_changed_event_is_parsed(
        at in any::<prop::sample::Index>(), byte in any::<u8>(), length in any::<prop::sample::Index>(),
    ) {
        let mut block = event("FailedACL", "1001", "x", "\r\nACLName: a").into_bytes();
        let place = at.index(block.len());
        block[place] = byte;
        block.truncate(length.index(block.len() + 1));
        parse(&block);
    }
}

#[test]
fn only_events_are_events() {
    let rest = "\r\nPrivilege: security,all\r\nEventTV: x";
    for (first, is_unread) in [("Event: New", true), ("Events: New", false), ("Hello", false)] {
        let block = format!("{first}{rest}");
        assert_eq!(matches!(parse(block.as_bytes()), Block::Unread), is_unread, "{first}");
    }
}

#[test]
fn an_error_with_an_address_is_one_of_a_failure() {
    for (severity, header, is_so) in [
        ("Error", "RemoteAddress", true),
        ("Informational", "RemoteAddress", false),
        ("Error", "LocalAddress", false),
        ("Informational", "LocalAddress", false),
    ] {
        let event =
            format!("Event: New\r\nSeverity: {severity}\r\n{header}: IPV4/UDP/192.0.2.66/1");
        assert_eq!(is_of_failure(event.as_bytes()), is_so, "{event}");
    }
}

#[test]
fn only_a_refused_login_to_ami_may_run_on() {
    let login = event("InvalidAccountID", "1", "x", "").replace("PJSIP", "AMI");
    for (block, expected) in [
        (login.clone(), true),
        (login.split_once("1\r\nSessionID").unwrap().0.to_owned(), true),
        (login.replace("EventTV", "Timestamp: 1.1\r\nEventTV"), true),
        (login.replace("InvalidAccountID", "SuccessfulAuth"), false),
        (login.replace("InvalidAccountID", "SuccessfulAuthX"), true),
        (login.replace("Event: ", "Events: "), false),
        (login.replace(": AMI", ": AMIX"), false),
        (event("InvalidAccountID", "1", "x", ""), false),
        (event("InvalidAccountID", "1\r\nService: AMI", "x", ""), false),
    ] {
        assert_eq!(may_run_on(block.as_bytes()), expected, "{block}");
    }
}

use jiff::civil;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::failure::LoggedAt;

const PREFIX: &str = "[2026-11-22 09:32:21.1233] NOTICE[9999] ";

fn notice_of(text: &[u8]) -> Option<Attempt> {
    parse(&[PREFIX.as_bytes(), text].concat())
}

fn distributor_line(from: &str, source: &str, tail: &str) -> String {
    format!(
        "{PREFIX}res_pjsip/pjsip_distributor.c: Request 'REGISTER' from '{from}' failed for \
         '{source}' (callid: {tail}"
    )
}

/// The source in a distributor line with this From and this text after `(callid: `.
fn source(from: &str, tail: &str) -> Option<String> {
    let attempt = parse(distributor_line(from, "192.0.2.66:5060", tail).as_bytes())?;
    Some(attempt.address.to_string())
}

const TRUE: Option<&str> = Some("192.0.2.66");

#[test]
fn reads_every_field() {
    let line = distributor_line("\"1001\" <sip:1001@192.0.2.10>", "192.0.2.66:5061", "x) - ");
    let attempt = parse(format!("{line}Failed to authenticate").as_bytes()).unwrap();
    assert_eq!(
        attempt,
        Attempt {
            verdict: Verdict::Failure,
            class: Class::WrongCredential,
            address: "192.0.2.66".parse().unwrap(),
            port: Some(5061),
            account: Some("1001".to_owned()),
            session: Some("x".to_owned()),
            transport: None,
            proven: false,
            answered: false,
            needs_witness: true,
            announces: false,
            rivals: Vec::new(),
            decided: true,
            times: 1,
            rule: "failed-to-authenticate",
            logged_at: Some(LoggedAt::Host(civil::date(2026, 11, 22).at(9, 32, 21, 123_300_000))),
        }
    );
}

/// Lines as older versions, other settings and syslog write them, all about 192.0.2.66.
#[test]
fn lines_of_other_versions_and_settings_are_read() {
    use Class::{Acl, CallRejected, Login, UnknownAccount, WrongCredential};
    const SIP: &str = "chan_sip.c: Registration from '\"7\" <sip:7@pbx.example>' failed for";
    #[rustfmt::skip]
    let cases = [
        (format!("{PREFIX}{SIP} '192.0.2.66' - Wrong password"), WrongCredential, Some("7")),
        (format!("{PREFIX}{SIP} '192.0.2.66:5060' - No matching peer found"), UnknownAccount, Some("7")),
        (format!("{PREFIX}{SIP} '192.0.2.66:5060' - ACL error (permit/deny)"), Acl, Some("7")),
        (format!("[Nov  2 09:43:06] NOTICE [99]: chan_sip.c:287 in handle: {}", &SIP[12..])
            + " '192.0.2.66:5060' - Wrong password", WrongCredential, Some("7")),
        (format!("Nov 22 09:43:06 pbx asterisk[7]: NOTICE[99]: chan_sip.c:287 handle_request: {}", &SIP[12..])
            + " '192.0.2.66:5060' - Wrong password", WrongCredential, Some("7")),
        (format!("NOTICE[99]: {SIP} '192.0.2.66:5060' - Wrong password"), WrongCredential, Some("7")),
        (format!("{PREFIX}chan_sip.c: Call from '' (192.0.2.66:5060) to extension '00') to extension '1' rejected because extension not found in context 'default'."), CallRejected, None),
        (format!("{PREFIX}res_pjsip_session.c:23 new_invite: Call from 'anonymous' (TCP:[192.0.2.66]:5060) to extension '+44' rejected because extension not found in context 'default'."), CallRejected, Some("anonymous")),
        (format!("{PREFIX}res_pjsip_session.c:  anonymous: Call (UDP:192.0.2.66:5060) to extension '+44' rejected because extension not found in context 'default'."), CallRejected, Some("anonymous")),
        (format!("{PREFIX}chan_sip.c: hacking attempt detected '192.0.2.66'"), UnknownAccount, None),
        (format!("{PREFIX}res_pjsip/pjsip_distributor.c:688 log_failed_request: Request from '<sip:7@pbx.example>' failed for '192.0.2.66:5060' (callid: x) - No matching endpoint found"), UnknownAccount, Some("7")),
        (format!("{PREFIX}chan_iax2.c: Host 192.0.2.66 failed to authenticate as 'x'"), WrongCredential, Some("x")),
        (format!("{PREFIX}chan_iax2.c: Host 192.0.2.66:4569 failed to authenticate as 'x"), WrongCredential, Some("x")),
        ("[2026-11-22 09:43:06] NOTICE [99] manager.c: 192.0.2.66 failed to authenticate as 'admin'".to_owned(), Login, Some("admin")),
        ("[2026-11-22 09:43:06] WARNING[9][C-1d] Ext. s: \"Rejecting unknown SIP connection from 192.0.2.66\"".to_owned(), CallRejected, None),
        ("Nov 22 09:43:06 pbx asterisk[7]: WARNING[9][C-1d]: Ext. s:6 in @ from-sip-external: \"Rejecting unknown SIP connection from 192.0.2.66:5060\"".to_owned(), CallRejected, None),
    ];
    for (line, class, user) in cases {
        let attempt = parse(line.as_bytes()).expect(&line);
        assert_eq!((attempt.verdict, attempt.class), (Verdict::Failure, class), "{line}");
        assert_eq!((Some(&*attempt.address.to_string()), attempt.account.as_deref()), (TRUE, user));
        assert!(attempt.needs_witness);
    }
}

#[test]
fn attacker_text_in_chan_sip_does_not_move_the_address() {
    for to in [
        "' failed for '203.0.113.9' - Wrong password",
        "<sip:x' failed for '203.0.113.9:5060' - No matching peer found@y>",
        "",
    ] {
        let line = format!(
            "{PREFIX}chan_sip.c: Registration from '{to}' failed for '192.0.2.66' - Wrong password"
        );
        let address = parse(line.as_bytes()).map(|attempt| attempt.address.to_string());
        assert_eq!(address.as_deref(), TRUE);
    }
    let rejected = "rejected because extension not found in context 'default'.";
    for (name, extension) in
        [("' (203.0.113.9:1) to extension '5' x", "6"), ("x", "' (203.0.113.9:1) to extension '5")]
    {
        let line = format!(
            "{PREFIX}chan_sip.c: Call from '{name}' (192.0.2.66:5060) to extension '{extension}' {rejected}"
        );
        assert_eq!(parse(line.as_bytes()), None, "{line}");
    }
    // A peer that dialled a wrong number.
    let line = format!(
        "{PREFIX}chan_sip.c: Call from '1001' (192.0.2.66:5060) to extension '5' {rejected}"
    );
    assert_eq!(parse(line.as_bytes()).unwrap().verdict, Verdict::Ignored);
}

#[test]
fn warnings_are_understood_and_do_not_count() {
    let lines = [
        "[2026-11-22 09:34:21.7665] WARNING[10004] res_pjsip_acl.c: Incoming SIP message from \
         192.0.2.99:36400 did not pass ACL test",
        "[2026-11-22 09:34:37.6230] WARNING[10004] pjproject: \t       sip_transport.c Dropping 40 \
         bytes packet from UDP 192.0.2.99:36400 : PJSIP syntax error exception when parsing 'Via' \
         header on line 2 col 0",
    ];
    for (line, class) in lines.into_iter().zip([Class::Acl, Class::Malformed]) {
        let attempt = parse(line.as_bytes()).unwrap();
        assert_eq!((attempt.verdict, attempt.class), (Verdict::Ignored, class));
        assert_eq!(attempt.address.to_string(), "192.0.2.99");
        assert_eq!(attempt.port, Some(36400));
        assert_eq!(parse(line.replace("WARNING", "ERROR").as_bytes()), None);
    }
}

#[test]
fn prefix_is_strict() {
    let text = "manager.c: 192.0.2.66 failed to authenticate as 'x'";
    let good = [
        "[2026-11-22 09:32:21.1233] NOTICE[1] ",
        "[2026-11-22 09:32:21] NOTICE[1] ",
        "[2026-02-30 25:61:61.1] NOTICE[1] ",
        "[Nov 22 09:43:06] NOTICE[25926] ",
        "[Nov  2 09:43:06] NOTICE[25926] ",
        "[Nov 22 09:43:06] NOTICE[25926][C-0000000a] ",
    ];
    for prefix in good {
        assert!(parse(format!("{prefix}{text}").as_bytes()).is_some(), "{prefix}");
    }
    let bad = [
        "",
        " [2026-11-22 09:32:21.1233] NOTICE[1] ",
        "x[Nov 22 09:43:06] NOTICE[1] ",
        "[Nov 22 09:43:06] WARNING[1] ",
        "[Nov 22 09:43:06] ERROR[1] ",
        "[Nov 22 09:43:06] SECURITY[1] ",
        "[Nov 22 09:43:06] NOTICE[] ",
        "[Nov 22 09:43:06] NOTICE[a] ",
        "[Nov 22 09:43:06] NOTICE[1]",
        "[Nov 22 09:43:06] NOTICE[1][C-] ",
        "[Nov 22 09:43:06] NOTICE[1][C-xyz] ",
        "[Nov 22 09:43:06] NOTICE[1]  ",
        "[2026-11-22 09:32:21.1233 NOTICE[1] ",
        "[2026-11-22 09:32:21.1233] NOTICE[1] WARNING[1] ",
    ];
    for prefix in bad {
        assert_eq!(parse(format!("{prefix}{text}").as_bytes()), None, "{prefix}");
    }
}

#[test]
fn year_less_dates_have_no_time() {
    let line = "[Nov 22 09:43:06] NOTICE[1] manager.c: 192.0.2.66 failed to authenticate as 'x'";
    assert_eq!(parse(line.as_bytes()).unwrap().logged_at, None);
}

#[test]
fn reason_is_read_from_the_end() {
    let class = |tail: &str| {
        let line = distributor_line("<sip:1@h>", "192.0.2.66:5060", tail);
        parse(line.as_bytes()).map(|a| (a.verdict, a.class))
    };
    let failure = |class| Some((Verdict::Failure, class));
    let cases = [
        ("x) - Failed to authenticate", failure(Class::WrongCredential)),
        ("x) - Error to authenticate", failure(Class::WrongCredential)),
        ("x) - No matching endpoint found", failure(Class::UnknownAccount)),
        (
            "x) - No matching endpoint found after 5 tries in 0.084 ms",
            failure(Class::UnknownAccount),
        ),
        ("x) - Not match Endpoint ACL", Some((Verdict::Ignored, Class::Acl))),
        ("x) - Not match Endpoint Contact ACL", failure(Class::Acl)),
        (
            "x) - Failed to authenticate) - No matching endpoint found",
            failure(Class::UnknownAccount),
        ),
        ("x) - Not match Endpoint ACL) - Failed to authenticate", failure(Class::WrongCredential)),
        // Truncated, or from a later Asterisk.
        ("xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx", failure(Class::UnknownAccount)),
        ("x) - Not", failure(Class::UnknownAccount)),
        ("", failure(Class::UnknownAccount)),
    ];
    for (tail, expected) in cases {
        assert_eq!(class(tail), expected, "{tail}");
    }
}

#[test]
fn forged_display_name() {
    let from = "\"y' failed for '203.0.113.12:5060' (callid: z\" <sip:1001@192.0.2.10>";
    assert_eq!(source(from, "x) - Failed to authenticate").as_deref(), TRUE);
}

#[test]
fn forged_uri_parameter() {
    let from = "<sip:1001@192.0.2.10;p=\"y' failed for '203.0.113.13:5060' (callid: z\">";
    assert_eq!(source(from, "x) - Failed to authenticate").as_deref(), TRUE);
}

#[test]
fn forged_call_id() {
    for from in ["<sip:1001@192.0.2.10>", "\"1001\" <sip:1001@192.0.2.10>"] {
        for tail in [
            "y' failed for '203.0.113.2:5060' (callid: z) - Failed to authenticate",
            "y>' failed for '203.0.113.2:5060' (callid: z) - Failed to authenticate",
            "y\" <sip:a@b>' failed for '203.0.113.2:5060' (callid: z) - Failed to authenticate",
            "[;p=\">' failed for '203.0.113.2:5060' (callid: z) - Failed to authenticate",
        ] {
            assert_eq!(source(from, tail).as_deref(), TRUE, "{from} {tail}");
        }
    }
}

#[test]
fn forged_on_both_sides() {
    let from = "\"y' failed for '203.0.113.16:5060' (callid: z\" <sip:1001@192.0.2.10>";
    let tail = "y' failed for '203.0.113.17:5060' (callid: z) - Failed to authenticate";
    assert_eq!(source(from, tail).as_deref(), TRUE);
}

#[test]
fn forged_with_an_escaped_quote() {
    let from = "\"a\\\"' failed for '203.0.113.12:5060' (callid: z\" <sip:1001@192.0.2.10>";
    assert_eq!(source(from, "x) - Failed to authenticate").as_deref(), TRUE);
}

/// An unquoted name that ends in a backslash prints like an escaped quote, so either address could be
/// the sender.
#[test]
fn undecidable_lines_name_no_address() {
    for from in [
        "\"a\\\" <sip:x@y>' failed for '203.0.113.12:5060' (callid: z\" <sip:1001@192.0.2.10>",
        "<sip:1001@h;p=\">' failed for '203.0.113.12:5060' (callid: z\">",
        "<sip:1001@[>' failed for '203.0.113.12:5060' (callid: z]>",
    ] {
        assert_eq!(source(from, "x) - Failed to authenticate"), None, "{from}");
    }
}

#[test]
fn forging_your_own_address_changes_nothing() {
    let from = "<sip:1001@h;p=\">' failed for '192.0.2.66:1' (callid: z\">";
    assert_eq!(source(from, "x) - Failed to authenticate").as_deref(), TRUE);
}

/// For a From over 511 bytes, Asterisk prints old stack contents.
#[test]
fn garbage_in_place_of_a_from_leaves_the_only_address() {
    for from in [&b"\x10\xc4]\x8c\x7f"[..], b"<sip:\x7f", b"\"", b"", b"<sip:1001@h;p="] {
        let text = [
            b"res_pjsip/pjsip_distributor.c: Request 'REGISTER' from '",
            from,
            b"' failed for '192.0.2.66:5060' (callid: \xff) - Failed to authenticate",
        ]
        .concat();
        assert_eq!(notice_of(&text).unwrap().address.to_string(), "192.0.2.66", "{from:?}");
    }
    let two = "\"' failed for '203.0.113.12:5060' (callid: z";
    assert_eq!(source(two, "x) - Failed to authenticate"), None);
}

#[test]
fn truncated_lines_name_the_true_address_or_none() {
    let line = distributor_line(
        "\"y' failed for '203.0.113.16:5060' (callid: z\" <sip:1001@192.0.2.10>",
        "192.0.2.66:5060",
        "y' failed for '203.0.113.17:5060' (callid: z) - Failed to authenticate",
    );
    let forged = line.find("203.0.113.16").unwrap();
    for end in 0..=line.len() {
        let found = parse(&line.as_bytes()[..end]).map(|a| a.address.to_string());
        // Truncated between the forged address and the true one, the line does not have the true one.
        let before_true = end < line.find("192.0.2.66:5060").unwrap() + 30;
        if end < forged || !before_true {
            assert!(found.as_deref().is_none_or(|a| a == "192.0.2.66"), "{}", &line[..end]);
        }
    }
}

/// A `dateformat` may be empty, or print no digit.
#[test]
fn a_line_counts_whatever_its_date_is() {
    let text = distributor_line("<sip:1001@h>", "192.0.2.66:5060", "x) - Failed to authenticate");
    let end = text.find(']').unwrap();
    for date in ["", "AM", "Monday", "UTC", "%", "(2026-11-22) [09:32]", "2026\u{5e74}11\u{6708}"] {
        let line = format!("[{date}{}", &text[end..]);
        let attempt = parse(line.as_bytes()).map(|attempt| attempt.address.to_string());
        assert_eq!(attempt.as_deref(), Some("192.0.2.66"), "{line}");
    }
}

#[test]
fn addresses_are_strict() {
    let address = |text: &str| {
        let line = distributor_line("<sip:1@h>", text, "x) - Failed to authenticate");
        parse(line.as_bytes()).map(|a| a.address.to_string())
    };
    assert_eq!(address("[2001:db8::66]:44631").as_deref(), Some("2001:db8::66"));
    assert_eq!(address("[::ffff:192.0.2.66]:5060").as_deref(), Some("192.0.2.66"));
    for zone in ["2", "eth0", "br-1f.10@if7"] {
        assert_eq!(address(&format!("[fe80::1%{zone}]:5060")).as_deref(), Some("fe80::1"));
    }
    for bad in [
        "192.0.2.66",
        "192.0.2.66:",
        "192.0.2.66:0",
        "192.0.2.66:65536",
        "192.0.2.066:1",
        "192.0.2.66:1 ",
        " 192.0.2.66:1",
        "192.0.2:1",
        "2001:db8::66:5060",
        "[2001:db8::66%2]:5060",
        "[fe80::1%]:5060",
        "[fe80::1%a b]:5060",
        "[fe80::1%eth0]:0",
        "[fe80::1%eth0]:+1",
        "fe80::1%eth0:5060",
        "[192.0.2.66%eth0]:5060",
        "[2001:db8::66]",
        "[192.0.2.66]:1",
        "0.0.0.0:5060",
        "[::]:5060",
        "224.0.1.75:5060",
        "host.example:5060",
        "",
    ] {
        assert_eq!(address(bad), None, "{bad}");
    }
}

#[test]
fn rejected_calls_count_only_in_the_provisioning_context() {
    let call = |transport: &str, extension: &str, context: &str| {
        notice_of(
            format!(
                "res_pjsip_session.c:  ap1: Call ({transport}:192.0.2.20:49597) to extension \
                 '{extension}' rejected because extension not found in context '{context}'."
            )
            .as_bytes(),
        )
    };
    let guess = call("UDP", "123456", "xivo-initconfig").unwrap();
    assert_eq!(guess.verdict, Verdict::Failure);
    assert_eq!(guess.class, Class::CallRejected);
    assert_eq!(guess.transport, Some(Transport::Udp));
    assert_eq!(guess.account.as_deref(), Some("ap1"));
    assert_eq!(guess.port, Some(49597));
    let wrong_number = call("TLS", "999", "default").unwrap();
    assert_eq!(wrong_number.verdict, Verdict::Ignored);
    assert_eq!(wrong_number.transport, Some(Transport::Tls));
    // The extension can choose neither the context nor the address.
    let extension = "1' rejected because extension not found in context 'xivo-initconfig'.";
    assert_eq!(call("UDP", extension, "default").unwrap().verdict, Verdict::Ignored);
    let extension = "1) to extension ' Call (UDP:203.0.113.1:1)";
    assert_eq!(call("UDP", extension, "default").unwrap().address.to_string(), "192.0.2.20");
    // `%0a` in the extension breaks the line: the first half is not a complete line.
    assert_eq!(
        notice_of(b"res_pjsip_session.c:  1: Call (UDP:192.0.2.20:1) to extension 'x"),
        None
    );
}

#[test]
fn manager_counts_one_line_for_each_login() {
    let login = |text: &str| notice_of(format!("manager.c: {text}").as_bytes());
    let failed = login("203.0.113.1 failed to authenticate as 'it's'").unwrap();
    assert_eq!((failed.verdict, failed.class), (Verdict::Failure, Class::Login));
    assert_eq!(failed.account.as_deref(), Some("it's"));
    assert!(!failed.proven);
    let nobody = login("203.0.113.1 tried to authenticate with nonexistent user 'x'").unwrap();
    assert_eq!((nobody.verdict, nobody.class), (Verdict::Failure, Class::Login));
    let acl = login("203.0.113.1 failed to pass IP ACL as 'x'").unwrap();
    assert_eq!((acl.verdict, acl.class), (Verdict::Failure, Class::Acl));
    // Over TCP, the same login is reported again.
    let end = login("203.0.113.1 failed to authenticate as 'x'").unwrap();
    for refusal in [&nobody, &acl] {
        assert!(repeats_refusal(&end, refusal) && !repeats_refusal(refusal, &end));
    }
    assert!(!repeats_refusal(&end, &end) && !repeats_refusal(&failed, &nobody));
    // The end of a line that `%0a` in an extension broke.
    assert_eq!(
        login(
            "1.2.3.4 failed to authenticate as 'x' rejected because extension not found in \
             context 'default'."
        ),
        None
    );
}

#[test]
fn acl_counts_only_the_packet_source() {
    let acl = |purpose: &str| {
        let text = format!(
            "acl.c: {purpose}Rejecting '192.0.2.99' due to a failure to pass ACL '(BASELINE)'"
        );
        notice_of(text.as_bytes()).map(|a| (a.verdict, a.class))
    };
    assert_eq!(acl("SIP ACL: "), Some((Verdict::Failure, Class::Acl)));
    assert_eq!(acl("SIP Contact ACL: "), None);
    assert_eq!(acl("Manager User ACL: "), None);
    assert_eq!(acl(""), None);
}

#[test]
fn iax_refusals() {
    let iax = |text: &str| notice_of(format!("chan_iax2.c: {text}").as_bytes());
    let unknown =
        iax("No registration for peer 'x' (from 203.0.113.1:1)' (from 192.0.2.66:4569)").unwrap();
    assert_eq!(unknown.class, Class::UnknownAccount);
    assert_eq!(unknown.address.to_string(), "192.0.2.66");
    assert_eq!(unknown.account.as_deref(), Some("x"));
    let wrong = iax("Host 192.0.2.66:4569 failed MD5 authentication for 'peer' (a != b)").unwrap();
    assert_eq!((wrong.class, wrong.port), (Class::WrongCredential, Some(4569)));
    assert_eq!(wrong.account.as_deref(), Some("peer"));
    assert!(iax("Host 192.0.2.66 did not provide proper plaintext password for 'p'").is_some());
    assert_eq!(iax("No registration for peer 'x' (from host)"), None);
    assert_eq!(iax("Host 192.0.2.66:4569 is fine"), None);
}

#[test]
fn other_lines_report_nothing() {
    for text in [
        "",
        ":",
        "loader.c: 349 modules will be loaded.",
        "res_pjsip/pjsip_distributor.c: Request 'REGISTER' from '",
        "res_pjsip/pjsip_distributor.c: Request 'A B' from '<sip:1@h>' failed for '192.0.2.1:1' (callid: ",
        "res_pjsip/pjsip_distributor.d: Request 'A' from '<sip:1@h>' failed for '192.0.2.1:1' (callid: ",
    ] {
        assert_eq!(notice_of(text.as_bytes()), None, "{text}");
    }
    let undated = "Asterisk 22.10.1 built by nobody @ buildd on 2026-07-20";
    assert_eq!(parse(undated.as_bytes()), None);
}

/// In a file that also has the level ERROR, a packet over TCP can write this line completely, and no
/// parser can tell: follow a file that has only NOTICE.
#[test]
fn a_forged_complete_line_is_believed() {
    let line = distributor_line("<sip:1@h>", "203.0.113.5:5060", "x) - Failed to authenticate");
    assert!(!parse(line.as_bytes()).unwrap().proven);
}

/// Pieces that a forger would combine, and noise.
fn hostile_text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        4 => select(vec![
            "' failed for '203.0.113.5:5060' (callid: ",
            "' failed for '",
            "203.0.113.5:5060",
            "' (callid: ",
            "\"",
            "\\",
            "\\\"",
            " <sip:a@b>",
            ">",
            "<",
            "'",
            "=\"",
            ";p=",
            "[",
            "]",
            ":",
            " ",
            ") - Failed to authenticate",
            "' from '",
        ])
        .prop_map(str::to_owned),
        1 => "[^\n\r\0\x1b]{0,6}",
    ];
    vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

fn quoted(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// A complete From as PJSIP prints it.
fn from() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        Just(String::new()),
        hostile_text().prop_map(|t| format!("\"{}\" ", quoted(&t))),
        hostile_text().prop_map(|t| format!("\"{}\" ", t.replace(['<', ':'], "").trim())),
    ];
    let user = prop_oneof![Just(String::new()), "[a-z0-9'()!*~$&=+,;?/-]{1,8}@"];
    let host = prop_oneof![
        3 => "[a-z0-9.-]{1,12}".boxed(),
        1 => hostile_text().prop_map(|t| format!("[{}]", t.replace(']', ""))).boxed(),
    ];
    let parameter = prop_oneof![
        "[a-z]{1,3}",
        "[a-z]{1,3}=[a-z0-9'%~]{0,6}",
        ("[a-z]{1,3}", hostile_text()).prop_map(|(n, t)| format!("{n}=\"{}\"", quoted(&t))),
        // `%22` and the text after it, decoded.
        ("[a-z]{1,3}", hostile_text()).prop_map(|(n, t)| format!("{n}=\"{t}")),
    ];
    (name, select(vec!["sip", "sips"]), user, host, vec(parameter, 0..3)).prop_map(
        |(name, scheme, user, host, parameters)| {
            let after_user = [vec![host], parameters].concat().join(";");
            format!("{name}<{scheme}:{user}{after_user}>")
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_bytes_are_survived(bytes in vec(any::<u8>(), 0..300)) {
        parse(&bytes);
        notice_of(&bytes);
        for file in ["res_pjsip/pjsip_distributor.c: Request 'A' from '", "res_pjsip_session.c: ",
            "acl.c: SIP ACL: Rejecting '", "manager.c: ", "chan_iax2.c: "] {
            notice_of(&[file.as_bytes(), &bytes].concat());
        }
    }

    #[test]
    fn any_text_after_a_prefix_is_survived(text in hostile_text(), more in hostile_text()) {
        for file in ["res_pjsip/pjsip_distributor.c: Request 'A' from '", "res_pjsip_session.c:  ",
            "acl.c: SIP ACL: Rejecting '", "manager.c: ", "chan_iax2.c: Host "] {
            notice_of(format!("{file}{text}{more}").as_bytes());
        }
    }

    /// The attacker's texts never move the address.
    #[test]
    fn address_is_the_true_one_or_none(from in from(), call_id in hostile_text()) {
        let found = source(&from, &format!("{call_id}) - Failed to authenticate"));
        prop_assert!(found.as_deref().is_none_or(|a| a == "192.0.2.66"), "{found:?}");
    }

    /// Without a forged name, URI or host, they do not even hide it.
    #[test]
    fn call_id_does_not_hide_the_address(
        name in "(\"[a-z ']{0,8}\" )?",
        user in "[a-z0-9'=;]{1,8}",
        call_id in hostile_text(),
    ) {
        let from = format!("{name}<sip:{user}@192.0.2.10>");
        let found = source(&from, &format!("{call_id}) - Failed to authenticate"));
        prop_assert_eq!(found.as_deref(), TRUE);
    }

    #[test]
    fn the_extension_does_not_move_the_address(extension in hostile_text(), user in hostile_text()) {
        let call = notice_of(format!(
            "res_pjsip_session.c:  1: Call (UDP:192.0.2.66:1) to extension '{extension}' rejected \
             because extension not found in context 'default'."
        ).as_bytes()).unwrap();
        prop_assert_eq!(call.address.to_string(), "192.0.2.66");
        prop_assert_eq!(call.verdict, Verdict::Ignored);
        let login = notice_of(
            format!("manager.c: 192.0.2.66 failed to authenticate as '{user}'").as_bytes(),
        ).unwrap();
        prop_assert_eq!(login.address.to_string(), "192.0.2.66");
        let peer = notice_of(
            format!("chan_iax2.c: No registration for peer '{user}' (from 192.0.2.66:4569)")
                .as_bytes(),
        ).unwrap();
        prop_assert_eq!(peer.address.to_string(), "192.0.2.66");
    }
}

/// No genuine line repeats the words before the address more often than its From and Call-ID have room for.
#[test]
fn a_line_with_too_many_places_for_an_address_reports_nothing() {
    for (places, is_read) in
        [(MAX_FAILED_FOR - 1, true), (MAX_FAILED_FOR, true), (MAX_FAILED_FOR + 1, false)]
    {
        let call_id = "' failed for 'x".repeat(places - 1);
        let line = format!(
            "[Nov 22 09:43:06] NOTICE[99] res_pjsip/pjsip_distributor.c: Request 'REGISTER' from \
             '<sip:1@a>' failed for '192.0.2.66:5060' (callid: {call_id}) - Failed to authenticate"
        );
        let address = parse(line.as_bytes()).map(|attempt| attempt.address);
        assert_eq!(address, is_read.then(|| [192, 0, 2, 66].into()), "{places} places");
    }
}

#[test]
fn a_guest_that_registers_is_a_failure_and_a_phone_is_not() {
    for (text, address, endpoint, verdict) in [
        (
            "Endpoint 'anonymous' (192.0.2.66:5060) has no configured AORs",
            "192.0.2.66",
            "anonymous",
            Verdict::Failure,
        ),
        (
            "AOR '100' not found for endpoint 'anonymous' (2001:db8::9:5060)",
            "2001:db8::9",
            "anonymous",
            Verdict::Failure,
        ),
        (
            "AOR '100' not found for endpoint 'anonymous' ([2001:db8::9]:5060)",
            "2001:db8::9",
            "anonymous",
            Verdict::Failure,
        ),
        (
            "AOR '100' not found for endpoint 'x' (192.0.2.1:5060)",
            "192.0.2.1",
            "x",
            Verdict::Ignored,
        ),
    ] {
        let line = format!("[Nov 22 09:43:06] WARNING[99] res_pjsip_registrar.c: {text}");
        let attempt = parse(line.as_bytes()).unwrap();
        assert_eq!(attempt.address, address.parse::<IpAddr>().unwrap(), "{text}");
        assert_eq!((attempt.port, attempt.account.as_deref()), (Some(5060), Some(endpoint)));
        assert_eq!((attempt.verdict, attempt.rule), (verdict, REGISTRAR));
    }
}

#[test]
fn a_login_to_the_manager_came_over_tcp() {
    let line = "[Nov 22 09:43:06] NOTICE[1] manager.c: 192.0.2.66 failed to authenticate as 'x'";
    let attempt = parse(line.as_bytes()).unwrap();
    assert_eq!((attempt.transport, attempt.rule), (Some(Transport::Tcp), MANAGER_LOGIN));
}

#[test]
fn an_undecided_line_names_each_address_that_it_may_mean() {
    let from = "\"y' failed for '203.0.113.12:5060' (callid: z";
    let line = distributor_line(from, "192.0.2.66:5060", "a) - Failed to authenticate");
    let attempt = parse_undecided(line.as_bytes()).unwrap();
    let mut named = attempt.rivals.clone();
    named.push(attempt.address);
    named.sort_unstable();
    assert!(!attempt.decided);
    assert_eq!(named, [IpAddr::from([192, 0, 2, 66]), IpAddr::from([203, 0, 113, 12])]);
}

#[test]
fn lines_of_other_channels_name_their_rule_and_transport() {
    let dropped = "WARNING[9] pjproject: \tsip_transport.c Dropping 4 bytes packet from UDP 192.0.2.66:5060 : x";
    let attempt = parse(format!("[Nov 22 09:43:06] {dropped}").as_bytes()).unwrap();
    assert_eq!((attempt.transport, attempt.rule), (Some(Transport::Udp), DROPPED_PACKET));
    let refused = "chan_iax2.c: Host 192.0.2.66 failed to authenticate as 'x'";
    let attempt = notice_of(refused.as_bytes()).unwrap();
    assert_eq!(attempt.transport, Some(Transport::Udp));
    assert!(RULES.contains(&attempt.rule), "{}", attempt.rule);
}

#[test]
fn a_peer_with_a_key_is_named_in_the_place_of_an_address() {
    for (file, text, is_so) in [
        ("chan_iax2.c", "Host 192.0.2.66 failed RSA authentication with inkeys 'k'", true),
        ("chan_iax2.c", "Host 'x' trying to do RSA authentication, but we have no inkeys", true),
        ("chan_sip.c", "Host 192.0.2.66 failed RSA authentication with inkeys 'k'", false),
        ("chan_iax2.c", "Host 192.0.2.66 failed to authenticate as 'x'", false),
        ("chan_iax2.c", "Peer 192.0.2.66 failed RSA authentication with inkeys 'k'", false),
    ] {
        let line = format!("{PREFIX}{file}: {text}");
        let named = in_asterisk_line(line.as_bytes(), |line| Some(names_peer_for_address(line)));
        assert_eq!(named, Some(is_so), "{file} {text}");
    }
}

#[test]
fn which_files_report_at_the_level_warning() {
    let rejected = "\"Rejecting unknown SIP connection from 192.0.2.66:5060\"";
    let host = "Host 192.0.2.66:4569 failed to authenticate as 'x'";
    let call = "Rejected connect attempt from 192.0.2.66:4569, request 'x@y' does not exist";
    for (level, file, text, verdict) in [
        ("WARNING", "Ext. s", rejected, Some(Verdict::Failure)),
        ("WARNING", "pbx.c", rejected, None),
        ("NOTICE", "Ext. s", rejected, None),
        ("WARNING", "chan_iax2.c", host, Some(Verdict::Failure)),
        ("NOTICE", "chan_iax2.c", host, Some(Verdict::Failure)),
        ("ERROR", "chan_iax2.c", host, None),
        ("NOTICE", "chan_iax2.c", call, Some(Verdict::Failure)),
        ("WARNING", "chan_iax2.c", call, Some(Verdict::Ignored)),
        ("WARNING", "manager.c", "192.0.2.66 failed to authenticate as 'x'", None),
    ] {
        let attempt = parse(format!("[Nov 22 09:43:06] {level}[1] {file}: {text}").as_bytes());
        assert_eq!(attempt.map(|attempt| attempt.verdict), verdict, "{level} {file} {text}");
    }
}

#[test]
fn calls_over_iax_that_are_rejected() {
    let why = |start: &str, why: &str| {
        let attempt = notice_of(
            format!("chan_iax2.c: Rejected {start} attempt from 192.0.2.66:4569, {why}").as_bytes(),
        )?;
        assert_eq!((attempt.port, attempt.account, attempt.rule), (Some(4569), None, IAX_CALL));
        Some((attempt.verdict, attempt.class))
    };
    for (start, text, expected) in [
        (
            "connect",
            "who was trying to reach 'x@y'",
            Some((Verdict::Failure, Class::UnknownAccount)),
        ),
        ("connect", "request 'x@y' does not exist", Some((Verdict::Failure, Class::CallRejected))),
        ("dial", "request 'x@y' does not exist", Some((Verdict::Ignored, Class::Malformed))),
        (
            "connect",
            "requested 'gsm' incompatible with our capability 'alaw'.",
            Some((Verdict::Ignored, Class::Malformed)),
        ),
        ("connect", "request 'x@y' does exist", None),
        ("connect", "x' does not exist", None),
        ("hang-up", "request 'x@y' does not exist", None),
    ] {
        assert_eq!(why(start, text), expected, "{start} {text}");
    }
}

#[test]
fn a_refusal_is_a_login_that_another_line_may_repeat() {
    let is_refused = |text: &str| is_refusal(&notice_of(text.as_bytes()).unwrap());
    assert!(is_refused("manager.c: 192.0.2.66 tried to authenticate with nonexistent user 'x'"));
    assert!(!is_refused("manager.c: 192.0.2.66 failed to authenticate as 'x'"));
}

#[test]
fn the_first_address_is_a_rival_of_the_one_behind_a_whole_from() {
    let from = "\"y' failed for '203.0.113.12:5060' (callid: z\" <sip:1001@192.0.2.10>";
    let line = distributor_line(from, "192.0.2.66:5060", "x) - Failed to authenticate");
    let attempt = parse_undecided(line.as_bytes()).unwrap();
    assert_eq!((attempt.address, attempt.decided), (IpAddr::from([192, 0, 2, 66]), true));
    assert_eq!(attempt.rivals, [IpAddr::from([203, 0, 113, 12])]);
}

#[test]
fn quotes_and_uris_that_are_whole() {
    for (text, end) in [
        ("", None),
        ("a", None),
        ("a\"b", Some(1)),
        ("\\\"\"", Some(2)),
        ("a\\", None),
        ("a\\\"", None),
        ("\\\\\"", Some(2)),
    ] {
        assert_eq!(closing_quote(text.as_bytes()), end, "{text}");
    }
    for (text, is_whole) in [
        ("<sip:1@h>", true),
        ("<:1@h>", false),
        ("<s-p:1@h>", false),
        ("<sip>", false),
        ("sip:1@h", false),
        ("<sip:1@h;p=\" \">", true),
        ("<sip:1@h;p\" \">", false),
        ("<sip:1@[ ]>", true),
    ] {
        assert_eq!(bracketed_uri(text.as_bytes()).is_some(), is_whole, "{text}");
    }
}

#[test]
fn lines_of_chan_sip_name_the_port_if_they_have_it() {
    let rejected = "rejected because extension not found in context 'default'.";
    for (port, tail) in [(Some(5060), ":5060"), (None, "")] {
        for text in [
            format!("Registration from '<sip:1@h>' failed for '192.0.2.66{tail}' - Wrong password"),
            format!("hacking attempt detected '192.0.2.66{tail}'"),
            format!("Call from '' (192.0.2.66{tail}) to extension '1' {rejected}"),
        ] {
            let attempt = notice_of(format!("chan_sip.c: {text}").as_bytes()).unwrap();
            assert_eq!((attempt.port, attempt.transport), (port, None), "{text}");
        }
        let text = format!("\"Rejecting unknown SIP connection from 192.0.2.66{tail}\"");
        assert_eq!(chan_sip::rejected_guest(text.as_bytes()).unwrap().port, port, "{text}");
    }
    let text = format!("Call from '' (TCP:192.0.2.66:5060) to extension '1' {rejected}");
    assert_eq!(chan_sip::call(text.as_bytes()).unwrap().transport, Some(Transport::Tcp));
}

#[test]
fn the_end_of_a_broken_line_is_recognised() {
    for (line, is_end) in [
        (">' failed for '192.0.2.66:5060' (callid: x) - Failed to authenticate", true),
        ("x) - Error to authenticate", true),
        (") - No matching endpoint found", true),
        (") - No matching endpoint found after 5 tries in 2.000 ms\r", true),
        (") - Not match Endpoint ACL", true),
        ("a) - b) - Not match Endpoint Contact ACL", true),
        ("Failed to authenticate", false),
        (") - Failed", false),
        ("a) - Failed to authenticate) - b", false),
        ("", false),
    ] {
        assert_eq!(ends_broken_line(line.as_bytes()), is_end, "{line}");
    }
    let whole = distributor_line("<sip:1@x>", "192.0.2.66:5060", "a) - Failed to authenticate");
    assert!(whole.ends_with(") - Failed to authenticate"), "{whole}");
    assert!(!ends_broken_line(whole.as_bytes()), "{whole}");
}

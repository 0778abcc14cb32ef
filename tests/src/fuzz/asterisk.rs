//! Any line of Asterisk's logs, and any attacker's text within the lines of Asterisk, OpenSSH and
//! wazo-provd.
//!
//! An input is used as a whole line, and also, split at its newlines, as the texts that an attacker
//! chooses in lines about [`TRUE`].

use std::net::{IpAddr, Ipv4Addr};

use filter_user::failure::{ACCOUNT_MAX, Attempt, Verdict};
use filter_user::parse::asterisk::{parse, parse_undecided};
use filter_user::parse::dates::DateFormat;
use filter_user::parse::{Parser, Reader, Said, provd, security, sshd};
use filter_user::register::{self, SOURCES, Source};

/// The true source of all lines.
const TRUE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

const PREFIX: &[u8] = b"[2026-11-22 09:32:21.1233] NOTICE[9999] ";
const FAILED: &[u8] = b") - Failed to authenticate";

/// Checks that no line makes the parser panic or return too long an account, and that no text of an
/// attacker changes the address in a line.
///
/// # Panics
///
/// If one of these does not hold.
pub fn check(data: &[u8]) {
    any_line(data);
    any_line(&[PREFIX, data].concat());

    // Neither text nor the logger's own lines contain these bytes; the parser's documentation describes
    // their effect on a line.
    let data: Vec<u8> = data.iter().copied().filter(|byte| !b"\r\0\x1b".contains(byte)).collect();
    let mut texts = data.split(|byte| *byte == b'\n');
    let mut text = || texts.next().unwrap_or_default();
    let (one, two, three) = (text(), text(), text());
    distributor(one, two, three, text());
    elsewhere(text());
    for [a, b, c] in [[one, two, three], [three, one, two], [one, one, one]] {
        asterisk_fields(a, b, c);
        security_fields(a, b, c);
        other_fields(a, b);
    }
}

/// The lines of `chan_sip.c`, `chan_iax2.c` and others, in plain logs and of the format `[json]`.
fn asterisk_fields(one: &[u8], two: &[u8], three: &[u8]) {
    // A method is a token.
    let method: Vec<u8> = one.iter().copied().filter(u8::is_ascii_graphic).collect();
    for (level, file, parts) in [
        (
            "NOTICE",
            "res_pjsip/pjsip_distributor.c",
            [
                &b"Request '"[..],
                &method,
                b"' from '<sip:1@h>' failed for '192.0.2.66:5060' (callid: ",
                two,
                b") - No matching endpoint found",
            ],
        ),
        (
            "NOTICE",
            "chan_sip.c",
            [
                b"Registration from '",
                one,
                b"",
                b"",
                b"' failed for '192.0.2.66:5060' - Wrong password",
            ],
        ),
        (
            "NOTICE",
            "chan_sip.c",
            [
                b"Call from '",
                one,
                b"' (192.0.2.66:5060) to extension '",
                two,
                b"' rejected because extension not found in context 'default'.",
            ],
        ),
        (
            "WARNING",
            "res_pjsip_registrar.c",
            [b"AOR '", one, b"", b"", b"' not found for endpoint 'anonymous' (192.0.2.66:5060)"],
        ),
        (
            "NOTICE",
            "chan_iax2.c",
            [
                b"Rejected connect attempt from 192.0.2.66:4569, who was trying to reach '",
                one,
                b"@",
                two,
                b"'",
            ],
        ),
        (
            "NOTICE",
            "chan_iax2.c",
            [
                b"Rejected connect attempt from 192.0.2.66:4569, request '",
                one,
                b"@",
                two,
                b"' does not exist",
            ],
        ),
        (
            "WARNING",
            "chan_iax2.c",
            [b"Host 192.0.2.66:4569 failed to authenticate as ", one, b"", b"", b""],
        ),
        (
            "NOTICE",
            "chan_iax2.c",
            [b"Host 192.0.2.66 failed MD5 authentication for 'x' (", one, b" != ", three, b")"],
        ),
        (
            "NOTICE",
            "chan_iax2.c",
            [b"Host ", one, b"", b"", b" failed RSA authentication with inkeys 'x'"],
        ),
        (
            "NOTICE",
            "chan_iax2.c",
            [b"Host '", one, b"", b"", b"' trying to do RSA authentication, but we have no inkeys"],
        ),
        (
            "NOTICE",
            "chan_iax2.c",
            [b"Peer '", one, b"", b"", b"' is not dynamic (from 192.0.2.66)"],
        ),
        (
            "NOTICE",
            "manager.c",
            [b"192.0.2.66 tried to authenticate with nonexistent user '", one, b"", b"", b"'"],
        ),
    ] {
        let message = parts.concat();
        let plain = [b"[now 1] ", level.as_bytes(), b"[9] ", file.as_bytes(), b": ", &message];
        only_the_true_one(&plain.concat());
        only_the_true_one(json(level, file, &message).as_bytes());
    }
}

/// The events of `main/security_events.c`, with any text in each field.
fn security_fields(account: &[u8], session: &[u8], behind: &[u8]) {
    for (service, name, tail) in [
        (
            "PJSIP",
            "ChallengeResponseFailed",
            &[
                &b",Challenge=\""[..],
                behind,
                b"\",Response=\"",
                session,
                b"\",ExpectedResponse=\"\"",
            ][..],
        ),
        (
            "AMI",
            "ChallengeResponseFailed",
            &[
                b",Challenge=\"1\",Response=\"",
                behind,
                b"\",ExpectedResponse=\"0\",SessionTV=\"0\"",
            ],
        ),
        (
            "PJSIP",
            "InvalidPassword",
            &[
                b",Challenge=\"1\",ReceivedChallenge=\"",
                behind,
                b"\",ReceivedHash=\"",
                account,
                b"\"",
            ],
        ),
        ("AMI", "InvalidAccountID", &[b",SessionTV=\"0\""]),
        ("PJSIP", "ChallengeSent", &[b",Challenge=\"", behind, b"\""]),
        ("PJSIP", "FailedACL", &[b",ACLName=\"", behind, b"\""]),
        ("AMI", "RequestNotAllowed", &[b",RequestType=\"Action: ", behind, b"\",SessionTV=\"0\""]),
    ] {
        for (account, session) in
            [(account, session), (b"1", session), (account, b"0x1"), (b"", b"0x1")]
        {
            let start = format!(
                "SecurityEvent=\"{name}\",EventTV=\"2026-08-07T12:34:56.296+0000\",\
                 Severity=\"Error\",Service=\"{service}\",EventVersion=\"1\",AccountID=\""
            );
            let message = [
                start.as_bytes(),
                account,
                b"\",SessionID=\"",
                session,
                b"\",LocalAddress=\"IPV4/TCP/192.0.2.10/5060\",\
                 RemoteAddress=\"IPV4/TCP/192.0.2.66/40000\"",
                &tail.concat(),
            ]
            .concat();
            let file = "res_security_log.c";
            let plain = [b"[2026-08-07 12:34:56] SECURITY[9] res_security_log.c: ", &message[..]];
            let plain = plain.concat();
            only_the_true_one(&plain);
            if let Some(attempt) = security::parse_undecided(&plain) {
                let is_named = attempt.address == TRUE || attempt.rivals.contains(&TRUE);
                assert!(is_named, "{}", plain.escape_ascii());
            }
            only_the_true_one(json("SECURITY", file, &message).as_bytes());
        }
    }
}

/// The lines of sshd and of wazo-provd.
fn other_fields(one: &[u8], two: &[u8]) {
    // A user name ends at a colon, and control characters are written in octal.
    let printable = |byte: &u8| !byte.is_ascii_control();
    let user: Vec<u8> = one.iter().copied().filter(|b| *b != b':' && printable(b)).collect();
    let extra: Vec<u8> = two.iter().copied().filter(printable).collect();
    let head = b"Nov 22 09:43:06 pbx sshd[1234]: ";
    for message in [
        [
            b"Failed password for invalid user ",
            &user[..],
            b" from 192.0.2.66 port 22 ssh2",
            b"",
            b"",
        ],
        [
            b"Failed publickey for invalid user ",
            &user,
            b" from 192.0.2.66 port 22 ssh2: ",
            &extra,
            b"",
        ],
        [b"Failed gssapi-with-mic for ", &user, b" from 192.0.2.66 port 22 ssh2: ", &extra, b""],
        [
            b"Failed hostbased for ",
            &user,
            b" from 192.0.2.66 port 22 ssh2: RSA SHA256:a, client user \"",
            &extra,
            b"\", client host \"x\"",
        ],
        [b"Invalid user ", &user, b" from 192.0.2.66 port 22", b"", b""],
        [b"error: PAM: Permission denied for illegal user ", &user, b" from 192.0.2.66", b"", b""],
        [
            b"Received disconnect from 192.0.2.66 port 22:3: ",
            &extra,
            b": Auth fail [preauth]",
            b"",
            b"",
        ],
        [b"Connection closed by invalid user ", &user, b" 192.0.2.66 port 22 [preauth]", b"", b""],
        [
            b"message repeated 2 times: [ Invalid user ",
            &user,
            b" from 192.0.2.66 port 22]",
            b"",
            b"",
        ],
    ] {
        let line = [&head[..], &message.concat()].concat();
        true_or_none(&line, sshd::parse(&line));
    }
    let line =
        [b"[2026-08-07 12:34:56,123] Sensitive file requested from 192.0.2.66: ", one].concat();
    true_or_none(&line, provd::parse(&line));
}

/// A line of a log of the format `[json]`.
fn json(level: &str, file: &str, message: &[u8]) -> String {
    serde_json::json!({
        "hostname": "pbx", "timestamp": "2026-08-07 12:34:56.1234",
        "identifiers": {"lwp": 9, "callid": ""},
        "logmsg": {
            "location": {"filename": file, "function": "f", "line": 1},
            "level": level, "message": format!("{}\n", String::from_utf8_lossy(message)),
        },
    })
    .to_string()
}

/// Checks that the daemon's reading of a line from Asterisk has the true address or none.
fn only_the_true_one(line: &[u8]) {
    let mut reader = Reader::new(Parser::Asterisk(DateFormat::default().into()));
    if let Said::Attempt(attempt) = reader.read(line) {
        true_or_none(line, Some(*attempt).filter(|attempt| attempt.decided));
    }
}

fn true_or_none(line: &[u8], attempt: Option<Attempt>) {
    let taken = attempt.map(|attempt| attempt.address);
    assert!(taken.is_none_or(|taken| taken == TRUE), "{taken:?}: {}", line.escape_ascii());
}

fn any_line(line: &[u8]) {
    let attempt = parse_undecided(line);
    let decided = attempt.clone().filter(|attempt| attempt.decided);
    assert_eq!(parse(line), decided);
    if let Some(attempt) = attempt {
        assert!(!attempt.proven, "nothing in the NOTICE log is");
        assert!(attempt.account.is_none_or(|account| account.len() <= ACCOUNT_MAX));
        assert!(!attempt.rivals.contains(&attempt.address));
    }
    for Source { name, parser, .. } in SOURCES {
        if let register::Parser::Lines(parse, rules) = parser
            && let Some(attempt) = parse(line)
        {
            assert!(rules.contains(&attempt.rule), "{name}: {}", attempt.rule);
            assert!(attempt.account.is_none_or(|account| account.len() <= ACCOUNT_MAX), "{name}");
        }
    }
}

/// A complete From header, as PJSIP prints it, and a Call-ID.
fn distributor(name: &[u8], host: &[u8], parameter: &[u8], call_id: &[u8]) {
    let quoted = |text: &[u8]| -> Vec<u8> {
        let escaped =
            |byte: &u8| if b"\\\"".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] };
        text.iter().flat_map(escaped).collect()
    };
    // An unquoted name contains no `<` and no `:`; an IPv6 host contains no `]`.
    let bare: Vec<u8> = name.iter().copied().filter(|byte| !b"<:".contains(byte)).collect();
    let host: Vec<u8> = host.iter().copied().filter(|byte| *byte != b']').collect();
    let names = [
        Vec::new(),
        [b"\"", &quoted(name)[..], b"\" "].concat(),
        [b"\"", bare.trim_ascii(), b"\" "].concat(),
    ];
    let uris = [
        b"sip:1001@192.0.2.10".to_vec(),
        [b"sip:1001@[", &host[..], b"]"].concat(),
        [b"sip:1001@192.0.2.10;p=\"", &quoted(parameter)[..], b"\""].concat(),
        // `%22` and the text after it, decoded.
        [b"sip:1001@192.0.2.10;p=\"", parameter].concat(),
    ];
    for name in &names {
        for uri in &uris {
            let line = [
                PREFIX,
                b"res_pjsip/pjsip_distributor.c: Request 'REGISTER' from '",
                name,
                b"<",
                uri,
                b">' failed for '192.0.2.66:5060' (callid: ",
                call_id,
                FAILED,
            ]
            .concat();
            any_line(&line);
            let taken = parse(&line).map(|attempt| attempt.address);
            assert!(taken.is_none_or(|taken| taken == TRUE), "{}", line.escape_ascii());
            // A line whose source is undecided still contains the true one.
            let undecided = parse_undecided(&line).map(|attempt| (attempt.address, attempt.rivals));
            assert!(
                undecided.is_none_or(|(first, rivals)| first == TRUE || rivals.contains(&TRUE)),
                "{}",
                line.escape_ascii()
            );
        }
    }
}

/// Lines with the text after the address, or before it in the place of a user.
fn elsewhere(text: &[u8]) {
    let call = [
        PREFIX,
        b"res_pjsip_session.c:  1: Call (UDP:192.0.2.66:5060) to extension '",
        text,
        b"' rejected because extension not found in context 'default'.",
    ];
    let call = true_attempt(&call.concat());
    assert_eq!(call.verdict, Verdict::Ignored, "nobody is banned for a wrong number");
    let login = [PREFIX, b"manager.c: 192.0.2.66 failed to authenticate as '", text, b"'"];
    true_attempt(&login.concat());
    let peer =
        [PREFIX, b"chan_iax2.c: No registration for peer '", text, b"' (from 192.0.2.66:4569)"];
    true_attempt(&peer.concat());
}

fn true_attempt(line: &[u8]) -> Attempt {
    let attempt = parse(line);
    let attempt = attempt.unwrap_or_else(|| panic!("nobody: {}", line.escape_ascii()));
    assert_eq!(attempt.address, TRUE, "{}", line.escape_ascii());
    attempt
}

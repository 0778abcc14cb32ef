//! Any line of Asterisk's NOTICE log, and any attacker's text within the lines that Asterisk writes.
//!
//! An input is a line as it is; and, cut at its newlines, the texts that an attacker chooses in
//! lines about [`TRUE`].

use std::net::{IpAddr, Ipv4Addr};

use filter_user::failure::{ACCOUNT_MAX, Attempt, Verdict};
use filter_user::parse::asterisk::{parse, parse_undecided};

/// Who sent what the lines are about.
const TRUE: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 66));

const PREFIX: &[u8] = b"[2026-11-22 09:32:21.1233] NOTICE[9999] ";
const FAILED: &[u8] = b") - Failed to authenticate";

/// No line panics or gives an account longer than is kept; and no text that an attacker chooses
/// gives a line another address than the one that Asterisk put there.
///
/// # Panics
///
/// When one of these is not so.
pub fn check(data: &[u8]) {
    any_line(data);
    any_line(&[PREFIX, data].concat());

    // Neither text nor the logger's own lines hold these; what they do to a line is in the parser's
    // documentation.
    let data: Vec<u8> = data.iter().copied().filter(|byte| !b"\r\0\x1b".contains(byte)).collect();
    let mut texts = data.split(|byte| *byte == b'\n');
    let mut text = || texts.next().unwrap_or_default();
    distributor(text(), text(), text(), text());
    elsewhere(text());
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
}

/// A whole From, as PJSIP prints it, and a Call-ID.
fn distributor(name: &[u8], host: &[u8], parameter: &[u8], call_id: &[u8]) {
    let quoted = |text: &[u8]| -> Vec<u8> {
        let escaped =
            |byte: &u8| if b"\\\"".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] };
        text.iter().flat_map(escaped).collect()
    };
    // A name that came without quotes has no `<` and no `:` in it; an IPv6 host, no `]`.
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
        // `%22` and what follows it, decoded.
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
            // A line that says not whose attempt it was still names him.
            let undecided = parse_undecided(&line).map(|attempt| (attempt.address, attempt.rivals));
            assert!(
                undecided.is_none_or(|(first, rivals)| first == TRUE || rivals.contains(&TRUE)),
                "{}",
                line.escape_ascii()
            );
        }
    }
}

/// Lines in which the text comes behind the address, or before it in the place of a user.
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

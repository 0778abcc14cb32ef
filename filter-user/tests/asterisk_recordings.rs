//! The parser over logs of a real Asterisk 22 under attack. `wazo22` has Wazo's configuration, `stock22`
//! Asterisk's defaults. There is one file for each attack, with the bytes unchanged and floods cut to
//! their first lines; `*.messages.log` also contain WARNING and ERROR.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use filter_user::failure::{Attempt, Class, Verdict};
use filter_user::parse::asterisk::parse;

/// Recording, number of failures by class (wrong credential, unknown account, ACL, login) and of
/// ignored lines, and the address that the attack came from.
#[rustfmt::skip]
const RECORDINGS: &[(&str, [usize; 5], &str)] = &[
    ("wazo22/acl-contact", [2, 0, 4, 0, 0], "192.0.2.66"),
    ("wazo22/acl-endpoint", [2, 0, 4, 0, 4], "192.0.2.66"),
    ("wazo22/acl-global", [0, 0, 3, 0, 0], "192.0.2.99"),
    ("wazo22/acl-global.messages", [0, 0, 3, 0, 3], "192.0.2.99"),
    ("wazo22/ami-bad", [0, 0, 0, 3, 0], "127.0.0.1"),
    ("wazo22/inj3-ami-remote", [0, 2, 0, 0, 0], "192.0.2.138"),
    ("wazo22/inj3-ami-split", [0, 2, 0, 0, 0], "192.0.2.139"),
    ("wazo22/invite-good-badext", [0, 0, 0, 0, 1], "192.0.2.20"),
    ("wazo22/invite-unknown", [0, 4, 0, 0, 0], "192.0.2.79"),
    ("wazo22/invite-wrongpw", [2, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/malformed-tcp.messages", [0, 0, 0, 0, 0], ""),
    ("wazo22/malformed.messages", [0, 0, 0, 0, 2], "192.0.2.66"),
    ("wazo22/reg-fakenonce-unknown", [3, 0, 0, 0, 0], "192.0.2.78"),
    ("wazo22/reg-fakenonce", [3, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/reg-nonce-reuse", [4, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/reg-not-permitted.messages", [0, 0, 0, 0, 1], "192.0.2.20"),
    ("wazo22/reg-too-many-contacts.messages", [0, 0, 0, 0, 0], ""),
    ("wazo22/reg-unknown-auth", [3, 2, 0, 0, 0], "192.0.2.77"),
    ("wazo22/reg-wrong-authuser", [2, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/reg-wrongpw-1", [1, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/reg-wrongpw", [3, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/sipp-badauth", [40, 0, 0, 0, 0], "192.0.2.137"),
    ("wazo22/sipp-regflood-tcp", [0, 40, 0, 0, 0], "192.0.2.136"),
    ("wazo22/sipp-regflood-udp", [0, 40, 0, 0, 0], "192.0.2.135"),
    ("wazo22/sipsak-flood", [1, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/sipsak-options", [1, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/svcrack-unknown", [15, 12, 0, 0, 0], "192.0.2.66"),
    ("wazo22/svcrack", [15, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/tcp-reg-unknown", [0, 4, 0, 0, 0], "192.0.2.67"),
    ("wazo22/tcp-reg-wrongpw", [2, 0, 0, 0, 0], "192.0.2.66"),
    ("wazo22/trunk-invite-badext", [0, 0, 0, 0, 3], "192.0.2.68"),
    ("wazo22/v6-reg-unknown", [0, 4, 0, 0, 0], "2001:db8::66"),
    ("wazo22/v6-reg-wrongpw", [2, 0, 0, 0, 0], "2001:db8::66"),
    ("wazo22/v6-tcp-wrongpw", [2, 0, 0, 0, 0], "2001:db8::66"),
    ("stock22/acl-contact", [2, 0, 4, 0, 0], "192.0.2.66"),
    ("stock22/acl-endpoint", [2, 0, 4, 0, 4], "192.0.2.66"),
    ("stock22/acl-global", [0, 0, 3, 0, 0], "192.0.2.99"),
    ("stock22/acl-global.messages", [0, 0, 3, 0, 3], "192.0.2.99"),
    ("stock22/ami-bad", [0, 0, 0, 3, 0], "127.0.0.1"),
    ("stock22/inj3-ami-remote", [0, 6, 0, 0, 0], "192.0.2.138"),
    ("stock22/inj3-ami-split", [0, 6, 0, 0, 0], "192.0.2.139"),
    ("stock22/invite-good-badext", [0, 0, 0, 0, 1], "192.0.2.20"),
    ("stock22/invite-unknown", [0, 8, 0, 0, 0], "192.0.2.79"),
    ("stock22/invite-wrongpw", [2, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/malformed-tcp.messages", [0, 0, 0, 0, 0], ""),
    ("stock22/malformed.messages", [0, 0, 0, 0, 2], "192.0.2.66"),
    ("stock22/options-noauth-unknown", [0, 8, 0, 0, 0], "192.0.2.67"),
    ("stock22/reg-fakenonce-unknown", [3, 3, 0, 0, 0], "192.0.2.78"),
    ("stock22/reg-fakenonce", [3, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/reg-nonce-reuse", [4, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/reg-not-permitted.messages", [0, 0, 0, 0, 1], "192.0.2.20"),
    ("stock22/reg-too-many-contacts.messages", [0, 0, 0, 0, 0], ""),
    ("stock22/reg-unknown-auth", [3, 6, 0, 0, 0], "192.0.2.77"),
    ("stock22/reg-unknown-slow", [0, 12, 0, 0, 0], "192.0.2.76"),
    ("stock22/reg-wrong-authuser", [2, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/reg-wrongpw", [3, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/sipp-badauth", [40, 0, 0, 0, 0], "192.0.2.137"),
    ("stock22/sipp-regflood-tcp", [0, 40, 0, 0, 0], "192.0.2.136"),
    ("stock22/sipp-regflood-udp", [0, 40, 0, 0, 0], "192.0.2.135"),
    ("stock22/sipsak-flood", [1, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/sipsak-options", [1, 2, 0, 0, 0], "192.0.2.66"),
    ("stock22/spoof-via", [0, 1, 0, 0, 0], "192.0.2.140"),
    ("stock22/subscribe-unknown", [0, 8, 0, 0, 0], "192.0.2.67"),
    ("stock22/svcrack-unknown", [15, 16, 0, 0, 0], "192.0.2.66"),
    ("stock22/svcrack", [15, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/svmap-invite", [0, 1, 0, 0, 0], "192.0.2.70"),
    ("stock22/svmap", [0, 1, 0, 0, 0], "192.0.2.70"),
    ("stock22/svwar-invite-force", [0, 2, 0, 0, 0], "192.0.2.132"),
    ("stock22/svwar-invite", [0, 2, 0, 0, 0], "192.0.2.66"),
    ("stock22/svwar-options-force", [0, 2, 0, 0, 0], "192.0.2.133"),
    ("stock22/svwar-options", [0, 2, 0, 0, 0], "192.0.2.66"),
    ("stock22/svwar-register-force", [0, 2, 0, 0, 0], "192.0.2.131"),
    ("stock22/svwar-register", [0, 1, 0, 0, 0], "192.0.2.66"),
    ("stock22/tcp-reg-unknown", [0, 8, 0, 0, 0], "192.0.2.67"),
    ("stock22/tcp-reg-wrongpw", [2, 0, 0, 0, 0], "192.0.2.66"),
    ("stock22/trunk-invite-badext", [0, 0, 0, 0, 3], "192.0.2.68"),
    ("stock22/v6-reg-unknown", [0, 8, 0, 0, 0], "2001:db8::66"),
    ("stock22/v6-reg-wrongpw", [2, 0, 0, 0, 0], "2001:db8::66"),
    ("stock22/v6-tcp-wrongpw", [2, 0, 0, 0, 0], "2001:db8::66"),
];

/// The address that all datagrams of the `hostile` recordings came from.
const HOSTILE_SOURCE: &str = "192.0.2.66";

#[test]
fn each_recording_gives_what_the_attack_was() {
    for (name, expected, address) in RECORDINGS {
        let attempts = attempts(name);
        let failures = |class: Class| {
            attempts.iter().filter(|a| a.verdict == Verdict::Failure && a.class == class).count()
        };
        let ignored = attempts.iter().filter(|a| a.verdict == Verdict::Ignored).count();
        let found = [
            failures(Class::WrongCredential),
            failures(Class::UnknownAccount),
            failures(Class::Acl),
            failures(Class::Login),
            ignored,
        ];
        assert_eq!(&found, expected, "{name}");
        assert_eq!(attempts.len(), expected.iter().sum::<usize>(), "{name}: other classes");
        let addresses: BTreeSet<IpAddr> = attempts.iter().map(|a| a.address).collect();
        let attacker: BTreeSet<IpAddr> = address.parse().into_iter().collect();
        assert_eq!(addresses, attacker, "{name}");
    }
}

#[test]
fn every_recording_is_in_the_table() {
    let mut files = BTreeSet::new();
    for profile in ["wazo22", "stock22"] {
        for entry in fs::read_dir(fixtures().join(profile)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            files.insert(format!("{profile}/{}", file.strip_suffix(".log").unwrap()));
        }
    }
    let table: BTreeSet<String> = RECORDINGS.iter().map(|r| r.0.to_owned()).collect();
    assert_eq!(files, table);
}

#[test]
fn no_line_proves_its_source() {
    for (name, ..) in RECORDINGS {
        assert!(attempts(name).iter().all(|a| !a.proven), "{name}");
    }
}

/// A From that is odd or cut short, but forges nothing: each line counts.
#[test]
fn hostile_from_does_not_hide_its_sender() {
    for name in ["hostile/odd-from", "hostile/cut-from"] {
        let lines = lines(name);
        assert_eq!(sources(&lines), vec![HOSTILE_SOURCE; lines.len()], "{name}");
    }
}

/// A forged address before or after the true one.
#[test]
fn forged_address_within_a_line_is_not_taken() {
    for name in ["hostile/forged-from", "hostile/forged-callid", "hostile/forged-both"] {
        let lines = lines(name);
        assert_eq!(sources(&lines), vec![HOSTILE_SOURCE; lines.len()], "{name}");
    }
}

/// Lines that two senders could have made.
#[test]
fn undecidable_line_names_nobody() {
    let lines = lines("hostile/undecidable");
    assert_eq!(sources(&lines), Vec::<String>::new());
}

/// Forged lines that no parser of lines can distinguish from real ones. This is why nothing read here is
/// proven. If Asterisk is corrected, or the parser can detect them, remove these expectations.
#[test]
fn forged_whole_lines_are_taken_but_never_proven() {
    let broken = lines("hostile/broken-line");
    assert_eq!(sources(&broken), ["203.0.113.77", "203.0.113.78"]);
    let shortened = lines("hostile/escape-removed");
    assert_eq!(sources(&shortened), ["203.0.113.5", "203.0.113.80", "203.0.113.4"]);
    for line in broken.iter().chain(&shortened) {
        assert!(parse(line).is_none_or(|a| !a.proven));
    }
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/asterisk")
}

fn lines(name: &str) -> Vec<Vec<u8>> {
    let bytes = fs::read(fixtures().join(format!("{name}.log"))).expect("a fixture");
    let text = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
    text.split(|b| *b == b'\n').map(<[u8]>::to_vec).collect()
}

fn attempts(name: &str) -> Vec<Attempt> {
    lines(name).iter().filter_map(|line| parse(line)).collect()
}

/// The addresses of the lines that have one.
fn sources(lines: &[Vec<u8>]) -> Vec<String> {
    lines.iter().filter_map(|line| parse(line)).map(|a| a.address.to_string()).collect()
}

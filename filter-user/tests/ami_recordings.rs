//! The AMI client's reader over the events of a real Asterisk 22 under attack, compared with the packets
//! at the same time. `wazo22` has Wazo's configuration, `stock22` Asterisk's defaults. There is one
//! recording for each attack, with the bytes unchanged and floods cut to their first events; each begins
//! with the listener's own login. `*.security.log` is the log of the SECURITY level.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use filter_user::challenge::{Challenges, PATIENCE, Reporter};
use filter_user::clock::KernelTime;
use filter_user::failure::{Attempt, Class, Transport, Verdict, session};
use filter_user::parse::security;
use filter_user::source::ami::{Frames, Message};
use jiff::tz::TimeZone;

#[path = "common/pcap.rs"]
mod pcap;

use pcap::{Packet, packets};

/// Failures by class that the attacks of each kind must show, where the wire does not say:
/// recording, failures (unknown account, ACL, login), ignored challenges, successes, of SIP or by
/// others than the listener.
#[rustfmt::skip]
const COUNTS: &[(&str, [usize; 5])] = &[
    ("wazo22/acl-contact", [0, 4, 0, 2, 0]),
    ("wazo22/acl-endpoint", [0, 4, 0, 2, 0]),
    ("wazo22/ami-bad", [0, 0, 2, 0, 0]),
    ("wazo22/inj3-ami-remote", [2, 0, 0, 6, 0]),
    ("wazo22/inj3-ami-split", [2, 0, 0, 6, 0]),
    ("stock22/inj3-ami-remote", [6, 0, 0, 6, 0]),
    ("stock22/inj3-ami-split", [6, 0, 0, 6, 0]),
    ("wazo22/invite-unknown", [4, 0, 0, 8, 0]),
    ("wazo22/reg-good", [0, 0, 0, 1, 1]),
    ("wazo22/reg-noauth-known", [0, 0, 0, 6, 0]),
    ("wazo22/reg-too-many-contacts", [0, 0, 0, 3, 3]),
    ("wazo22/reg-unknown-slow", [0, 0, 0, 12, 0]),
    ("stock22/reg-unknown-slow", [12, 0, 0, 12, 0]),
    ("wazo22/svmap", [0, 0, 0, 1, 0]),
    ("wazo22/tcp-reg-unknown", [4, 0, 0, 8, 0]),
    ("wazo22/v6-reg-unknown", [4, 0, 0, 8, 0]),
];

/// Every reported address has sent a request with this Call-ID from this address and port.
#[test]
fn nobody_is_named_who_sent_nothing() {
    for name in recordings() {
        let senders: BTreeSet<(IpAddr, u16, String)> = packets(&wire(&name))
            .filter_map(|packet| Some((packet.source, packet.source_port, call_id(&packet)?)))
            .collect();
        let mut named = 0;
        for attempt in sip(attempts(&name)) {
            let port = attempt.port.unwrap();
            let key = (attempt.address, port, attempt.session.clone().unwrap_or_default());
            assert!(senders.contains(&key), "{name}: {attempt:?}");
            named += 1;
        }
        assert!(named > 0 || SILENT.contains(&name.split_once('/').unwrap().1), "{name}");
    }
}

/// Attacks of which Asterisk raises no event.
const SILENT: [&str; 6] =
    ["acl-global", "ami-bad", "malformed", "malformed-tcp", "trunk-invite-badext", "spoof-via"];

/// Each request with credentials that was refused with 401 on the wire is a failure here.
#[test]
fn every_refused_credential_is_found() {
    for name in recordings() {
        let refused = refusals(&name);
        let mut found: BTreeMap<(IpAddr, String), usize> = BTreeMap::new();
        for attempt in sip(attempts(&name)) {
            if attempt.verdict == Verdict::Failure && attempt.class == Class::WrongCredential {
                *found.entry((attempt.address, attempt.session.unwrap())).or_default() += 1;
            }
        }
        for (key, count) in refused {
            assert!(found.get(&key).is_some_and(|n| *n >= count), "{name}: {key:?} {count}");
        }
    }
}

#[test]
fn each_recording_gives_what_the_attack_was() {
    for (name, expected) in COUNTS {
        let attempts: Vec<Attempt> =
            attempts(name).into_iter().filter(|a| !is_listener(a)).collect();
        let failures = |class: Class| {
            attempts.iter().filter(|a| a.verdict == Verdict::Failure && a.class == class).count()
        };
        let challenges = attempts
            .iter()
            .filter(|a| a.verdict == Verdict::Ignored && a.class == Class::Challenge);
        let found = [
            failures(Class::UnknownAccount),
            failures(Class::Acl),
            failures(Class::Login),
            challenges.count(),
            attempts.iter().filter(|a| a.verdict == Verdict::Success).count(),
        ];
        assert_eq!(&found, expected, "{name}");
    }
}

#[test]
fn a_connection_proves_its_source_and_a_datagram_does_not() {
    let mut seen = BTreeSet::new();
    for name in recordings() {
        for attempt in sip(attempts(&name)) {
            let success = attempt.verdict == Verdict::Success;
            assert_eq!(attempt.answered, success);
            assert_eq!(attempt.proven, attempt.transport != Some(Transport::Udp) || success);
            assert!(!attempt.needs_witness && attempt.decided);
            seen.insert((
                attempt.transport.map(|t| t == Transport::Udp),
                attempt.address.is_ipv6(),
            ));
        }
    }
    assert_eq!(seen.len(), 4, "UDP and TCP over IPv4 and IPv6: {seen:?}");
}

/// Scans that Asterisk does not log at all: the recordings, and the unanswered challenges.
#[test]
fn a_scan_that_no_log_shows_is_found_by_its_unanswered_challenges() {
    for (name, expected) in [
        ("wazo22/reg-unknown-slow", 12),
        ("wazo22/svmap", 1),
        ("wazo22/svwar-register", 1),
        ("wazo22/reg-noauth-known", 6),
        // Four of the eight requests are reported with an unknown account.
        ("wazo22/invite-unknown", 4),
        ("stock22/reg-unknown-slow", 0),
        ("wazo22/reg-good", 0),
        ("wazo22/reg-too-many-contacts", 0),
        ("wazo22/sipp-goodauth", 0),
        ("wazo22/reg-wrongpw", 0),
        ("wazo22/acl-endpoint", 0),
        ("wazo22/svcrack", 0),
    ] {
        let mut challenges = Challenges::default();
        let mut now = KernelTime(0);
        for attempt in sip(attempts(name)) {
            let at = attempt.logged_at.unwrap().instant(&TimeZone::UTC).unwrap();
            now = KernelTime(u64::try_from(at.as_nanosecond()).unwrap());
            challenges.observe(&attempt, Reporter { source: 0, jail: 0 }, now);
        }
        let later = now.after(PATIENCE);
        let unanswered = std::iter::from_fn(|| challenges.unanswered(later)).count();
        assert_eq!(unanswered, expected, "{name}");
    }
}

/// The `security` log says the same, but where a line break in attacker text broke its line.
#[test]
fn the_security_log_says_the_same() {
    for name in recordings().into_iter().filter(|name| name.starts_with("wazo22/")) {
        let log = fs::read(fixtures().join(format!("{name}.security.log"))).unwrap();
        let lines = log.split(|byte| *byte == b'\n');
        let logged: Vec<String> = lines.filter_map(security::parse).map(|a| key(&a)).collect();
        let events: Vec<String> = attempts(&name).iter().map(key).collect();
        assert!(!logged.is_empty(), "{name}");
        if name.contains("/inj3-ami") {
            assert_eq!(logged.len() + 2, events.len(), "{name}");
            assert!(logged.iter().all(|line| events.contains(line)), "{name}");
        } else {
            let common = logged.len().min(events.len());
            assert!(events.len() - common <= 2, "{name}: {} {}", logged.len(), events.len());
            assert_eq!(logged[..common], events[..common], "{name}");
        }
    }
}

/// The part of an attempt that both report.
fn key(attempt: &Attempt) -> String {
    let Attempt { verdict, class, address, port, account, session, transport, logged_at, .. } =
        attempt;
    format!(
        "{verdict:?} {class} {address} {port:?} {account:?} {session:?} {transport:?} {logged_at:?}"
    )
}

/// Refusals on the wire of requests with credentials, by source and Call-ID.
fn refusals(name: &str) -> BTreeMap<(IpAddr, String), usize> {
    let mut refused = BTreeMap::new();
    let mut asked: BTreeSet<(IpAddr, String, String)> = BTreeSet::new();
    for packet in packets(&wire(name)) {
        let Some(call_id) = call_id(&packet) else { continue };
        let sequence = header(&packet.payload, "cseq").unwrap_or_default();
        let answer = packet.payload.starts_with(b"SIP/2.0 ");
        if !answer && header(&packet.payload, "authorization").is_some() {
            asked.insert((packet.source, call_id, sequence));
        } else if answer
            && packet.payload.starts_with(b"SIP/2.0 401")
            && asked.remove(&(packet.target, call_id.clone(), sequence))
        {
            *refused.entry((packet.target, call_id)).or_default() += 1;
        }
    }
    refused
}

fn call_id(packet: &Packet) -> Option<String> {
    let value = header(&packet.payload, "call-id").or_else(|| header(&packet.payload, "i"))?;
    Some(session(value.as_bytes()))
}

/// A header field of a SIP message, by its long name in any case of letters.
fn header(message: &[u8], name: &str) -> Option<String> {
    let text = String::from_utf8_lossy(message);
    let mut lines = text.split("\r\n").skip(1);
    lines.find_map(|line| {
        let (field, value) = line.split_once(':')?;
        field.trim().eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
    })
}

/// Without the logins to AMI itself.
fn sip(attempts: Vec<Attempt>) -> impl Iterator<Item = Attempt> {
    attempts.into_iter().filter(|attempt| attempt.class != Class::Login)
}

fn is_listener(attempt: &Attempt) -> bool {
    attempt.verdict == Verdict::Success && attempt.class == Class::Login
}

fn attempts(name: &str) -> Vec<Attempt> {
    let bytes = fs::read(fixtures().join(format!("{name}.ami"))).expect("a fixture");
    let mut frames = Frames::default();
    let mut attempts = Vec::new();
    // In portions as odd as a socket's.
    for portion in bytes.chunks(1009) {
        frames.buffer().extend_from_slice(portion);
        while let Some(message) = frames.next_message().expect("a banner") {
            if let Message::Security(attempt) = message {
                attempts.push(attempt);
            }
        }
    }
    assert_eq!(frames.take_skipped(), 0, "{name}");
    attempts
}

fn wire(name: &str) -> Vec<u8> {
    fs::read(fixtures().join(format!("{name}.pcap"))).expect("a fixture")
}

fn recordings() -> Vec<String> {
    let mut names = Vec::new();
    for profile in ["wazo22", "stock22"] {
        for entry in fs::read_dir(fixtures().join(profile)).expect("fixtures") {
            let file = entry.expect("an entry").file_name().into_string().expect("UTF-8");
            names.extend(file.strip_suffix(".ami").map(|name| format!("{profile}/{name}")));
        }
    }
    assert!(names.len() > 90, "{}", names.len());
    names
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/ami")
}

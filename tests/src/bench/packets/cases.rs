//! What is measured: which frames from which sources, and what must come of it.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::bench::sender::Family;
use crate::bench::sources::{Banned, Choice};
use crate::packet_builder::{Frame, TARGET_MAC};

/// Bytes of a flood's REGISTER with all its headers.
const REGISTER_FRAME: usize = 300;
/// A port on which there is no SIP.
const OTHER_PORT: u16 = 443;
/// The last byte of a MAC address that is nobody's: the stack lets go of what passes at its first
/// look (`PACKET_OTHERHOST` in `ip_rcv_core`), so that passing costs as little as it can.
const NOBODY: u8 = TARGET_MAC[5] + 1;

/// What becomes of a case's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All but a few are dropped.
    Dropped,
    /// All but a few pass.
    Passed,
}

/// One flood.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// Its name for `--only`.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) what: &'static str,
    pub(super) family: Family,
    pub(super) choice: Choice,
    pub(super) frame: Frame,
    pub(super) verdict: Verdict,
    /// The least share of bare drop, in percent.
    pub(super) at_least: Option<f64>,
}

/// One frame, again and again.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Its name for `--only`.
    pub(super) name: &'static str,
    /// What it is.
    pub(super) what: &'static str,
    pub(super) frame: Frame,
    pub(super) verdict: Verdict,
}

/// Floods on empty tables.
pub(super) fn empty() -> Vec<Case> {
    vec![
        Case {
            name: "empty-not-sip",
            what: "no bans at all: random sources, not SIP",
            family: Family::V4,
            choice: Choice::Strangers(0),
            frame: passing(other(source_v4())),
            verdict: Verdict::Passed,
            at_least: None,
        },
        Case {
            name: "empty-register-one",
            what: "no bans at all: REGISTER flood, one unknown source over its limit",
            family: Family::V4,
            choice: Choice::Stranger(STRANGER),
            frame: passing(register(source_v4())),
            verdict: Verdict::Dropped,
            at_least: None,
        },
    ]
}

/// Floods on full tables.
pub(super) fn full(banned: &Banned) -> Vec<Case> {
    let v6 = u32::try_from(banned.v6.len()).unwrap_or(u32::MAX);
    let case = |name, what, choice, frame: Frame, verdict, at_least| Case {
        name,
        what,
        family: Family::V4,
        choice,
        frame: passing(frame),
        verdict,
        at_least,
    };
    let v6_case = |name, what, choice| Case {
        name,
        what,
        family: Family::V6,
        choice,
        frame: passing(register(source_v6())),
        verdict: Verdict::Dropped,
        at_least: None,
    };
    vec![
        case(
            "banned-one",
            "flood from one banned IPv4 source",
            Choice::One(BANNED),
            register(source_v4()),
            Verdict::Dropped,
            Some(85.0),
        ),
        case(
            "banned-random",
            "flood from random banned IPv4 sources among the million",
            Choice::Among(banned.numbers),
            register(source_v4()),
            Verdict::Dropped,
            Some(55.0),
        ),
        v6_case("banned6-one", "flood from one banned IPv6 source", Choice::One(BANNED)),
        v6_case("banned6-random", "flood from random banned IPv6 sources", Choice::Among(v6)),
        case(
            "not-sip",
            "random sources that are not banned, not SIP",
            Choice::Strangers(banned.numbers),
            other(source_v4()),
            Verdict::Passed,
            Some(75.0),
        ),
        case(
            "register-one",
            "REGISTER flood, one unknown source over its limit",
            Choice::Stranger(STRANGER),
            register(source_v4()),
            Verdict::Dropped,
            Some(65.0),
        ),
        case(
            "register-random",
            "REGISTER flood, random unknown sources over the shared budget",
            Choice::Strangers(banned.numbers),
            register(source_v4()),
            Verdict::Dropped,
            Some(45.0),
        ),
    ]
}

/// Frames for test runs on full tables with the default limits.
pub(super) fn runs(banned: &Banned) -> Vec<Run> {
    let v4 = Family::V4.source(Choice::One(BANNED));
    let v6 = Family::V6.source(Choice::One(BANNED));
    let network = banned.networks.iter().find(|network| network.addr().is_ipv4());
    let inside = network.map_or(v4, IpNet::broadcast);
    let stranger = Family::V4.source(Choice::Stranger(STRANGER));
    vec![
        run("run-banned", "a banned IPv4 source", register(v4), Verdict::Dropped),
        run("run-banned6", "a banned IPv6 source", register(v6), Verdict::Dropped),
        run(
            "run-banned-network",
            "a source in a banned network",
            register(inside),
            Verdict::Dropped,
        ),
        run("run-not-sip", "not banned, not SIP", other(stranger), Verdict::Passed),
        run("run-register-limit", "REGISTER over its limit", register(stranger), Verdict::Dropped),
    ]
}

/// Frames for test runs with wide limits: what a phone's own packets cost.
pub(super) fn passed_runs() -> Vec<Run> {
    let phone = Family::V4.source(Choice::Stranger(STRANGER + 1));
    vec![
        run("run-options", "SIP that passes: OPTIONS", options(phone), Verdict::Passed),
        run(
            "run-register",
            "SIP that passes: REGISTER within its limit",
            register(phone),
            Verdict::Passed,
        ),
        run("run-known", "SIP of a known peer", register(known_peer()), Verdict::Passed),
    ]
}

/// The address of the known peer.
pub(super) fn known_peer() -> IpAddr {
    Family::V4.source(Choice::Stranger(STRANGER + 2))
}

/// The frame of rivals' floods: it reaches the receiver's own address, port 5060.
pub(super) fn rival_frame() -> Frame {
    register(source_v4())
}

/// The number of the one banned source.
const BANNED: u32 = 77;
/// The number of the one stranger, far from the banned ones.
const STRANGER: u32 = 0x4000_0000;

fn run(name: &'static str, what: &'static str, frame: Frame, verdict: Verdict) -> Run {
    Run { name, what, frame, verdict }
}

/// A source for frames that get theirs from the sender.
fn source_v4() -> IpAddr {
    Family::V4.source(Choice::One(0))
}

fn source_v6() -> IpAddr {
    Family::V6.source(Choice::One(0))
}

fn passing(frame: Frame) -> Frame {
    let mut mac = TARGET_MAC;
    mac[5] = NOBODY;
    frame.target_mac(mac)
}

/// Without a UDP checksum, which the sender would have to follow up.
fn register(source: IpAddr) -> Frame {
    let text = |padding: usize| {
        format!(
            "REGISTER sip:192.0.2.10 SIP/2.0\r\n\
             Via: SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK776asdhds\r\n\
             From: <sip:1001@192.0.2.10>;tag=1928301774\r\nTo: <sip:1001@192.0.2.10>\r\n\
             Call-ID: {}\r\nCSeq: 1 REGISTER\r\nContent-Length: 0\r\n\r\n",
            "a".repeat(padding)
        )
    };
    let frame = |padding| Frame::from(source).checksum(0).payload(text(padding));
    let bare = frame(0).build().len();
    frame(REGISTER_FRAME.saturating_sub(bare))
}

fn options(source: IpAddr) -> Frame {
    Frame::from(source).checksum(0).payload(
        "OPTIONS sip:192.0.2.10 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.7:5060;branch=z9hG4bK776asdhds\r\n\
         From: <sip:1001@192.0.2.10>;tag=1928301774\r\nTo: <sip:1001@192.0.2.10>\r\n\
         Call-ID: a84b4c76e66710\r\nCSeq: 2 OPTIONS\r\nContent-Length: 0\r\n\r\n",
    )
}

fn other(source: IpAddr) -> Frame {
    Frame::from(source).udp(OTHER_PORT).checksum(0).payload([0; 22])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_register_is_of_the_size_that_is_said() {
        assert_eq!(register(source_v4()).build().len(), REGISTER_FRAME);
        assert!(register(source_v6()).build().len() >= REGISTER_FRAME);
    }

    #[test]
    fn names_are_unique() {
        let banned = Banned::new(10, 10, 10);
        let mut names: Vec<_> =
            full(&banned).iter().chain(&empty()).map(|case| case.name).collect();
        names.extend(runs(&banned).iter().chain(&passed_runs()).map(|run| run.name));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}

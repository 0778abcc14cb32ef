//! The cases: the frames, their sources, and the expected verdict.

use std::net::IpAddr;

use ipnet::IpNet;

use super::reference::Work;
use super::report::Group;
use super::rivals::{Contender, Set};
use crate::bench::sender::Family;
use crate::bench::sources::{Banned, Choice};
use crate::packet_builder::{Frame, TARGET_MAC};

/// Bytes of a flood's REGISTER including all headers.
const REGISTER_FRAME: usize = 300;
/// A port that does not carry SIP.
const OTHER_PORT: u16 = 443;
/// The last byte of a MAC address that no host has. The stack discards a frame to it at its first
/// check (`PACKET_OTHERHOST` in `ip_rcv_core`), so that a passed frame costs as little as possible.
const NOBODY: u8 = TARGET_MAC[5] + 1;

/// What happens to a case's frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// All except a few are dropped.
    Dropped,
    /// All except a few pass.
    Passed,
}

/// The receiver of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum At {
    /// Ringfence without bans.
    Empty,
    /// Ringfence with the bans of a typical host.
    Usual,
    /// Ringfence with a million bans.
    Full,
    /// As [`At::Usual`], but in generic mode.
    Generic,
    /// A drop with a load from an array of so many MiB.
    Reference(u32, Work),
    /// Another firewall.
    Rival(Contender),
}

impl At {
    /// Its group in the table.
    pub(super) fn group(self) -> Group {
        match self {
            Self::Empty | Self::Usual | Self::Full => Group::Flood,
            Self::Generic => Group::Generic,
            Self::Reference(..) => Group::Reference,
            Self::Rival(_) => Group::Rival,
        }
    }
}

/// One flood.
#[derive(Clone, Debug)]
pub(super) struct Case {
    /// The name for `--only`.
    pub(super) name: String,
    /// Its description.
    pub(super) what: String,
    pub(super) at: At,
    pub(super) family: Family,
    pub(super) choice: Choice,
    pub(super) frame: Frame,
    pub(super) verdict: Verdict,
}

/// One frame that is run repeatedly.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// The name for `--only`.
    pub(super) name: &'static str,
    /// Its description.
    pub(super) what: &'static str,
    pub(super) frame: Frame,
    pub(super) verdict: Verdict,
}

/// The reference that loads a random cache line of a table as large as that of a million bans.
pub(super) const REFERENCE_TABLE: &str = "reference-23m";
/// The reference that loads a random cache line of the presence bits.
pub(super) const REFERENCE_PRESENCE: &str = "reference-4m";
/// What any program needs that drops sources of such a table.
pub(super) const FLOOR_TABLE: &str = "floor-23m";
/// What any program needs that looks into such bits.
pub(super) const FLOOR_PRESENCE: &str = "floor-4m";

/// All floods, in the order of a round: cases that are compared are close to each other.
pub(super) fn all() -> Vec<Case> {
    let mut cases = banned_sources();
    cases.extend(other_sources());
    cases.extend(usual_sources());
    cases.extend(networks());
    cases.extend(registers());
    cases.extend(Contender::all().map(rival));
    cases.extend(generic());
    cases
}

fn banned_sources() -> Vec<Case> {
    let v4 = |at, name, what, choice| ours(at, name, what, Family::V4, Kind::Register, choice);
    let v6 = |at, name, what, choice| ours(at, name, what, Family::V6, Kind::Register, choice);
    let million = Choice::Among(among(MANY.v4));
    vec![
        v4(
            At::Reference(23, Work::None),
            REFERENCE_TABLE,
            "bare drop and one load of a random line of 23 MiB",
            million,
        ),
        v4(
            At::Reference(23, Work::Least),
            FLOOR_TABLE,
            "headers read, a random line of 23 MiB, one comparison, drop",
            million,
        ),
        v4(
            At::Full,
            "banned-random",
            "flood from random banned IPv4 sources among the million",
            million,
        ),
        v6(
            At::Full,
            "banned6-random",
            "flood from random banned IPv6 sources among 100,000",
            Choice::Among(among(MANY.v6)),
        ),
        v4(At::Full, "banned-one", "flood from one banned IPv4 source", Choice::One(BANNED)),
        v6(At::Full, "banned6-one", "flood from one banned IPv6 source", Choice::One(BANNED)),
    ]
}

/// Frames from sources that are not banned, without SIP.
fn other_sources() -> Vec<Case> {
    let strangers = Choice::Strangers(STRANGERS);
    let v4 = |at, name, what| ours(at, name, what, Family::V4, Kind::Other, strangers);
    let v6 = |at, name, what| ours(at, name, what, Family::V6, Kind::Other, strangers);
    let reference = |work, name, what| {
        ours(At::Reference(4, work), name, what, Family::V4, Kind::Register, strangers)
    };
    vec![
        reference(
            Work::None,
            REFERENCE_PRESENCE,
            "bare drop and one load of a random line of 4 MiB",
        ),
        reference(
            Work::Least,
            FLOOR_PRESENCE,
            "headers read, a random line of 4 MiB, one comparison, drop",
        ),
        v4(At::Full, "not-sip", "random sources that are not banned, not SIP"),
        v6(At::Full, "not-sip6", "random IPv6 sources that are not banned, not SIP"),
        v4(At::Empty, "empty-not-sip", "no bans: random sources, not SIP"),
        v4(At::Usual, "usual-not-sip", "usual host: random sources, not banned, not SIP"),
        v6(At::Usual, "usual-not-sip6", "usual host: random IPv6 sources, not banned, not SIP"),
        v6(At::Empty, "empty-not-sip6", "no bans: random IPv6 sources, not SIP"),
    ]
}

/// Frames from banned sources at a typical host.
fn usual_sources() -> Vec<Case> {
    let case = |family, name, what, count| {
        ours(At::Usual, name, what, family, Kind::Register, Choice::Among(among(count)))
    };
    vec![
        case(
            Family::V4,
            "usual-banned-random",
            "usual host: random banned IPv4 sources among 10,000",
            USUAL.v4,
        ),
        case(
            Family::V6,
            "usual-banned6-random",
            "usual host: random banned IPv6 sources among 1,000",
            USUAL.v6,
        ),
    ]
}

/// Frames from sources in banned networks.
fn networks() -> Vec<Case> {
    let one = Choice::InNetwork(BANNED);
    let many = Choice::InNetworks(among(MANY.networks / 2));
    let usual = Choice::InNetworks(among(USUAL.networks / 2));
    let v4 = |at, name, what, choice| ours(at, name, what, Family::V4, Kind::Register, choice);
    let v6 = |at, name, what, choice| ours(at, name, what, Family::V6, Kind::Register, choice);
    vec![
        v4(At::Full, "network-one", "flood from one source in a banned IPv4 network", one),
        v6(At::Full, "network6-one", "flood from one source in a banned IPv6 network", one),
        v4(At::Full, "network-random", "random banned IPv4 networks among 50,000", many),
        v6(At::Full, "network6-random", "random banned IPv6 networks among 50,000", many),
        v4(
            At::Usual,
            "usual-network-random",
            "usual host: random banned IPv4 networks among 500",
            usual,
        ),
        v6(
            At::Usual,
            "usual-network6-random",
            "usual host: random banned IPv6 networks among 500",
            usual,
        ),
    ]
}

/// REGISTER requests from unknown sources.
fn registers() -> Vec<Case> {
    let case = |at, name, what, choice| ours(at, name, what, Family::V4, Kind::Register, choice);
    vec![
        case(
            At::Full,
            "register-one",
            "REGISTER flood, one unknown source over its limit",
            Choice::Stranger(STRANGER),
        ),
        case(
            At::Empty,
            "empty-register-one",
            "no bans: REGISTER flood, one unknown source over its limit",
            Choice::Stranger(STRANGER),
        ),
        case(
            At::Full,
            "register-random",
            "REGISTER flood, random unknown sources over the shared budget",
            Choice::Strangers(STRANGERS),
        ),
    ]
}

/// Floods in generic mode, with the bans of a typical host.
fn generic() -> Vec<Case> {
    let case = |name, what, kind, choice| ours(At::Generic, name, what, Family::V4, kind, choice);
    vec![
        case("generic-banned-one", "one banned IPv4 source", Kind::Register, Choice::One(BANNED)),
        case(
            "generic-banned-random",
            "random banned IPv4 sources among 10,000",
            Kind::Register,
            Choice::Among(among(USUAL.v4)),
        ),
        case(
            "generic-register-one",
            "REGISTER flood, one unknown source over its limit",
            Kind::Register,
            Choice::Stranger(STRANGER),
        ),
        case(
            "generic-register-random",
            "REGISTER flood, random unknown sources over the shared budget",
            Kind::Register,
            Choice::Strangers(STRANGERS),
        ),
        case(
            "generic-not-sip",
            "random sources that are not banned, not SIP",
            Kind::Other,
            Choice::Strangers(STRANGERS),
        ),
    ]
}

/// Whether a rival is also listed in the table of generic mode.
pub(super) fn is_beside_generic(case: &Case) -> bool {
    matches!(case.at, At::Rival(contender) if contender.is_beside_generic())
}

/// The content of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A REGISTER, which every case drops.
    Register,
    /// Not SIP. Every case passes it.
    Other,
}

fn ours(at: At, name: &str, what: &str, family: Family, kind: Kind, choice: Choice) -> Case {
    let source = family.source(Choice::One(0));
    let (frame, verdict) = match kind {
        Kind::Register => (register(source), Verdict::Dropped),
        Kind::Other => (other(source), Verdict::Passed),
    };
    Case {
        name: name.to_owned(),
        what: what.to_owned(),
        at,
        family,
        choice,
        frame: passing(frame),
        verdict,
    }
}

/// A flood against another firewall. The frames that it drops are addressed to the receiver, port
/// 5060.
fn rival(contender: Contender) -> Case {
    let choice = match contender.set {
        // A few numbers share an address with another number; the sets contain the first numbers.
        Set::Addresses(count) => Choice::Among(among(count)),
        Set::Networks => Choice::InNetworks(among(USUAL.networks / 2)),
        Set::Limit | Set::Others => Choice::Strangers(STRANGERS),
    };
    let source = contender.family.source(Choice::One(0));
    let (frame, verdict) = match contender.set {
        Set::Others => (passing(other(source)), Verdict::Passed),
        Set::Addresses(_) | Set::Networks | Set::Limit => (register(source), Verdict::Dropped),
    };
    Case {
        name: contender.name(),
        what: contender.what(),
        at: At::Rival(contender),
        family: contender.family,
        choice,
        frame,
        verdict,
    }
}

fn among(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Frames for test runs with full tables and the default limits.
pub(super) fn runs(banned: &Banned) -> Vec<Run> {
    let v4 = Family::V4.source(Choice::One(BANNED));
    let v6 = Family::V6.source(Choice::One(BANNED));
    let last = |of: fn(&IpAddr) -> bool| {
        banned.networks.iter().find(|network| of(&network.addr())).map(IpNet::broadcast)
    };
    let inside = last(IpAddr::is_ipv4).unwrap_or(v4);
    let inside6 = last(IpAddr::is_ipv6).unwrap_or(v6);
    let stranger = Family::V4.source(Choice::Stranger(STRANGER));
    vec![
        run("run-banned", "a banned IPv4 source", register(v4), Verdict::Dropped),
        run("run-banned6", "a banned IPv6 source", register(v6), Verdict::Dropped),
        run(
            "run-banned-network",
            "a source in a banned IPv4 network",
            register(inside),
            Verdict::Dropped,
        ),
        run(
            "run-banned-network6",
            "a source in a banned IPv6 network",
            register(inside6),
            Verdict::Dropped,
        ),
        run("run-not-sip", "not banned, not SIP", other(stranger), Verdict::Passed),
        run("run-register-limit", "REGISTER over its limit", register(stranger), Verdict::Dropped),
    ]
}

/// Frames for test runs with high limits: the cost of a phone's own packets.
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

/// A REGISTER to the receiver's address.
pub(super) fn register_frame() -> Frame {
    register(Family::V4.source(Choice::One(0)))
}

/// The number of the single banned source.
const BANNED: u32 = 77;
/// The number of the single unknown source, which differs greatly from the banned ones.
const STRANGER: u32 = 0x4000_0000;
/// Unknown sources are numbered from here: above the number of bans of every case.
const STRANGERS: u32 = 1 << 21;

/// The number of bans.
#[derive(Clone, Copy, Debug)]
pub(super) struct Amount {
    /// IPv4 addresses.
    pub(super) v4: usize,
    /// IPv6 addresses.
    pub(super) v6: usize,
    /// Networks, half of them of each family.
    pub(super) networks: usize,
}

impl Amount {
    /// The banned sources.
    pub(super) fn banned(self) -> Banned {
        Banned::new(self.v4, self.v6, self.networks)
    }
}

/// For [`At::Full`].
pub(super) const MANY: Amount = Amount { v4: 1_000_000, v6: 100_000, networks: 100_000 };
/// For [`At::Usual`] and [`At::Generic`].
pub(super) const USUAL: Amount = Amount { v4: 10_000, v6: 1000, networks: 1000 };

fn run(name: &'static str, what: &'static str, frame: Frame, verdict: Verdict) -> Run {
    Run { name, what, frame, verdict }
}

fn passing(frame: Frame) -> Frame {
    let mut mac = TARGET_MAC;
    mac[5] = NOBODY;
    frame.target_mac(mac)
}

/// Without a UDP checksum, which the sender would have to update.
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
        assert_eq!(register(Family::V4.source(Choice::One(0))).build().len(), REGISTER_FRAME);
        assert!(register(Family::V6.source(Choice::One(0))).build().len() >= REGISTER_FRAME);
    }

    #[test]
    fn names_are_unique() {
        let banned = Banned::new(10, 10, 10);
        let mut names: Vec<String> = all().into_iter().map(|case| case.name).collect();
        let runs = runs(&banned).into_iter().chain(passed_runs());
        names.extend(runs.map(|run| run.name.to_owned()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn strangers_have_other_numbers_than_what_is_banned() {
        // In a million, a few numbers share an address with another number.
        let most = [MANY, USUAL].into_iter().flat_map(|amount| [amount.v4, amount.v6]).max();
        assert!(most.is_some_and(|most| among(2 * most) < STRANGERS));
    }
}

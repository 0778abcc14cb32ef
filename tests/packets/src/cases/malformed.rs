//! Rows about frames that are truncated, inconsistent or repetitive: all pass, except from banned
//! sources.
//!
//! [`frames`](super::frames) checks the reason for each kind; this module tries every length and every
//! false value of a field.

use filter_common::abi::SCOPE_ALL;
use filter_common::decision::Reason::{
    self, Banned, Fragment, KeepAlive, Malformed, NotIp, NotSip, OtherPort, OtherProtocol,
    Register, Request, TcpControl,
};

use super::{Case, Ends, World, ip, messages};
use crate::packet_builder::{
    ETHERNET_LEN, Extension, Frame, IPV4, OLD_SERVICE_VLAN, SERVICE_VLAN, VLAN, ethernet, flag,
};

/// Bytes of a frame with an MTU of 9000.
const JUMBO: usize = ETHERNET_LEN + 9000;

/// The rows.
pub fn cases() -> Vec<Case> {
    [runts(), tags(), ipv4(), udp(), tcp(), ipv6(), extensions_cut(), chains(), fragments(), long()]
        .concat()
}

fn v4() -> Frame {
    Frame::from(ip("192.0.2.66")).payload(messages::request("OPTIONS"))
}

fn v6() -> Frame {
    Frame::from(ip("2001:db8::66")).payload(messages::request("OPTIONS"))
}

fn row(name: impl Into<String>, frame: &Frame, expect: Reason) -> Case {
    Case::new(name, frame.build(), expect)
}

/// Frames cut at every length up to the end of the method; the payload begins at `payload`.
fn cut_everywhere(name: &str, frame: &Frame, payload: usize) -> Vec<Case> {
    (0..=payload + 8)
        .map(|len| {
            let expect = match len.checked_sub(payload) {
                None => Malformed,
                Some(0) => KeepAlive,
                Some(1..8) => NotSip,
                Some(_) => Request,
            };
            Case::new(format!("{name}, {len} bytes of it"), frame.cut(len), expect)
        })
        .collect()
}

fn runts() -> Vec<Case> {
    let tagged = v6().tag(SERVICE_VLAN, 7).tag(VLAN, 8);
    [
        cut_everywhere("cut udp over ipv4", &v4(), 42),
        cut_everywhere("cut tcp over ipv4", &v4().tcp(5060), 54),
        cut_everywhere("cut udp over ipv6", &v6(), 62),
        cut_everywhere("cut udp over ipv6 in two vlans", &tagged, 70),
    ]
    .concat()
}

fn tags() -> Vec<Case> {
    let mut cases: Vec<_> = [VLAN, SERVICE_VLAN, OLD_SERVICE_VLAN]
        .map(|kind| {
            let frame = v4().tag(SERVICE_VLAN, 7).tag(VLAN, 8).tag(kind, 9);
            row(format!("a third tag of {kind:#06x}"), &frame, Request)
        })
        .into();
    let banned = World::default().ban("192.0.2.66", SCOPE_ALL, Ends::Never);
    let third = v4().tag(SERVICE_VLAN, 7).tag(VLAN, 8).tag(VLAN, 9);
    cases.push(row("a third tag hides no banned source", &third, Banned).within(banned));
    // In 802.3, values up to 1500 are a length, not an EtherType (IEEE 802.3 section 3.2.6).
    for length in [0, 3, 46, 1500, 1501, 1535] {
        let llc = ethernet(length, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0, 0x45, 0]);
        cases.push(Case::new(format!("802.3 with a length of {length}"), llc, NotIp));
    }
    let snap = [&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0][..], &v4().build()[ETHERNET_LEN..]].concat();
    cases.push(Case::new("802.3 with ipv4 in SNAP", ethernet(400, &snap), NotIp));
    cases.push(row("802.3 in a vlan", &v4().tag(VLAN, 7).ethertype(46), NotIp));
    cases.push(Case::new("an EtherType and nothing", ethernet(IPV4, &[]), Malformed));
    cases
}

fn ipv4() -> Vec<Case> {
    let mut cases = Vec::new();
    for words in 0..=15u8 {
        // The header ends where its own field says, and the bytes inside it are not payload.
        let expect = match words {
            0..5 => Malformed,
            5 => Request,
            _ => OtherPort,
        };
        cases.push(row(format!("ipv4 with a header of {words} words"), &v4().ihl(words), expect));
    }
    let whole = 28 + messages::request("OPTIONS").len();
    for len in (0..=36).chain([whole - 1, whole, whole + 1, 1500, 0x7fff, 0x8000, 0xffff]) {
        let expect = match len {
            1..20 => Malformed,
            20..=28 => KeepAlive,
            29..36 => NotSip,
            _ => Request,
        };
        let total = u16::try_from(len).expect("a length");
        cases.push(row(format!("ipv4 that says it has {len} bytes"), &v4().ip_len(total), expect));
    }
    for version in (0..16).filter(|version| *version != 4) {
        let frame = v4().version(version);
        cases.push(row(format!("version {version} under ipv4"), &frame, Malformed));
    }
    let mut padded = v4().payload("\r\n\r\n").build();
    padded.extend(messages::register());
    cases.push(Case::new("a register in the padding, ipv4", padded, KeepAlive));
    let mut padded = v6().payload("\r\n\r\n").build();
    padded.extend(messages::register());
    cases.push(Case::new("a register in the padding, ipv6", padded, KeepAlive));
    let mut padded = v4().build();
    padded.resize(JUMBO, 0);
    cases.push(Case::new("more padding than packet", padded, Request));
    cases
}

fn udp() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole = 8 + messages::request("OPTIONS").len();
    for (family, frame) in [("ipv4", v4()), ("ipv6", v6())] {
        for len in (0..=16).chain([whole - 1, whole, whole + 1, 1500, 0xffff]) {
            let expect = match len {
                1..8 => Malformed,
                8 => KeepAlive,
                9..16 => NotSip,
                _ => Request,
            };
            let lie = frame.clone().udp_len(u16::try_from(len).expect("a length"));
            cases.push(row(format!("udp over {family} that says {len} bytes"), &lie, expect));
        }
    }
    cases
}

fn tcp() -> Vec<Case> {
    let mut cases = Vec::new();
    for (family, frame) in [("ipv4", v4()), ("ipv6", v6())] {
        let message = [messages::request("OPTIONS"), vec![b' '; 40]].concat();
        for words in 0..=15 {
            let expect = match words {
                0..5 => Malformed,
                5 => Request,
                // It begins within the message, where there is no method.
                _ => NotSip,
            };
            let lie = frame.clone().tcp(5060).payload(&message).data_offset(words);
            let name = format!("tcp over {family} that says a header of {words} words");
            cases.push(row(name, &lie, expect));
        }
        for short in 0..4u8 {
            let lie = frame.clone().tcp(5060).payload(vec![b'x'; short.into()]).data_offset(6);
            let name =
                format!("tcp over {family}, a header that ends {} bytes behind it", 4 - short);
            cases.push(row(name, &lie, TcpControl));
        }
        let lie = frame.clone().tcp(5060).payload([]).tcp_flags(flag::SYN).data_offset(15);
        cases.push(row(format!("tcp over {family}, options that are not there"), &lie, TcpControl));
    }
    cases
}

fn ipv6() -> Vec<Case> {
    let mut cases = Vec::new();
    let whole = 8 + messages::request("OPTIONS").len();
    for len in (0..=16).chain([whole - 1, whole, whole + 1, 0x7fff, 0xffff]) {
        let expect = match len {
            0..=8 => KeepAlive,
            9..16 => NotSip,
            _ => Request,
        };
        let lie = v6().ip_len(u16::try_from(len).expect("a length"));
        cases.push(row(format!("ipv6 that says it has {len} bytes"), &lie, expect));
    }
    for version in (0..16).filter(|version| *version != 6) {
        let frame = v6().version(version);
        cases.push(row(format!("version {version} under ipv6"), &frame, Malformed));
    }
    let long = v6().extension(Extension::hop_by_hop(1)).payload(vec![b'x'; 66_000]);
    cases.push(row("a jumbogram of 66,000 bytes (RFC 2675)", &long.ip_len(0).udp_len(0), NotSip));
    cases
}

/// The extension headers, each with its length.
fn extensions() -> Vec<(&'static str, Extension, usize)> {
    vec![
        ("hop-by-hop options", Extension::hop_by_hop(1), 8),
        ("a routing header", Extension::routing(2), 16),
        ("destination options", Extension::destination(3), 24),
        ("a mobility header", Extension::mobility(1), 8),
        ("an authentication header", Extension::authentication(3), 24),
        ("a fragment header", Extension::fragment(0, false), 8),
    ]
}

/// Each extension header cut at every byte, alone and as the last of two.
fn extensions_cut() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, extension, len) in extensions() {
        let alone = v6().extension(extension.clone());
        let second = v6().extension(Extension::destination(1)).extension(extension);
        for (place, frame, start) in [("", alone, 54), (" behind options", second, 62)] {
            for kept in 0..len + 8 {
                let cut = frame.cut(start + kept);
                cases.push(Case::new(format!("{name}{place}, cut at {kept}"), cut, Malformed));
            }
            let kept = len + 8;
            let cut = frame.cut(start + kept);
            cases.push(Case::new(format!("{name}{place}, cut at {kept}"), cut, KeepAlive));
        }
    }
    cases
}

/// Chains of each extension header, up to longer ones than are followed, and with every false length.
fn chains() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, extension, _) in extensions() {
        for count in [2, 5, 6, 7, 8, 32] {
            let chain = (0..count).fold(v6(), |frame, _| frame.extension(extension.clone()));
            let expect = if count <= 6 { Request } else { OtherProtocol };
            cases.push(row(format!("{name}, {count} times"), &chain, expect));
        }
    }
    let fragment = Extension::fragment(0, false);
    for claim in [1, 2, 0x7f, 0xff] {
        // Its second byte is reserved, not a length (RFC 8200 section 4.5).
        let frame = v6().extension(fragment.clone().claiming(claim));
        cases.push(row(format!("a fragment header with {claim:#x} reserved"), &frame, Request));
    }
    for claim in [80, 128, 255] {
        for (name, extension, _) in extensions().into_iter().take(5) {
            let frame = v6().extension(extension.claiming(claim));
            cases.push(row(format!("{name} that claims {claim} units"), &frame, Malformed));
        }
    }
    cases
}

fn fragments() -> Vec<Case> {
    let register = messages::register();
    let limited = || World::default().limit(1);
    let mut cases = Vec::new();
    for offset in [1, 2, 3, 5, 181, 0x1fff] {
        for more in [false, true] {
            let name = |family| format!("{family}, a later fragment at {offset}, more: {more}");
            let v4 = v4().protocol(17).payload(&register).fragment(offset, more);
            cases.push(row(name("ipv4"), &v4, Fragment));
            let v6 = v6().extension(Extension::fragment(offset, more)).protocol(17);
            cases.push(row(name("ipv6"), &v6.payload(&register), Fragment));
        }
    }
    // A fragment that would overwrite a first fragment's ports (RFC 3128) has no ports itself.
    let over = v4().protocol(6).payload([0; 16]).fragment(1, true);
    cases.push(row("a fragment that overlaps a tcp header", &over, Fragment));
    let tiny = v4().protocol(6).payload([0; 8]).fragment(0, true);
    cases.push(row("a first fragment of eight bytes of tcp (RFC 1858)", &tiny, OtherProtocol));
    let tiny = v4().protocol(17).payload([0x9c, 0x40, 0x13, 0xc4]).fragment(0, true);
    cases.push(row("a first fragment of half a udp header", &tiny, OtherProtocol));
    let atomic = v6().extension(Extension::fragment(0, false)).payload(&register);
    cases.push(row("an atomic fragment of a register (RFC 6946)", &atomic, Register));
    let twice = atomic.extension(Extension::fragment(0, true));
    cases.push(row("a fragment within an atomic one", &twice, Register));
    let within = v6().extension(Extension::fragment(0, true));
    let within = within.extension(Extension::fragment(4, false)).protocol(17);
    cases.push(row("a later fragment within a first one", &within, Fragment));
    let flags = v4().unfragmentable().fragment(0, true);
    cases.push(row("a fragment that says it must not be one", &flags, Request));
    // A later fragment is never limited, whatever it looks like.
    let later = v4().protocol(17).payload(&register).fragment(185, false);
    let name = "later fragments of a source over its limit";
    cases.push(row(name, &later, Fragment).within(limited()).after(20));
    cases
}

/// Frames of 9000 bytes and more.
fn long() -> Vec<Case> {
    let of_len = |frame: Frame, message: Vec<u8>| {
        let headers = frame.clone().payload([]).build().len();
        let mut payload = message;
        payload.resize(JUMBO - headers, b' ');
        frame.payload(payload)
    };
    let register = messages::register_with_late_credentials(JUMBO - 42);
    vec![
        row("9000 bytes of options over udp", &of_len(v4(), messages::request("OPTIONS")), Request),
        row(
            "9000 bytes of options over tcp",
            &of_len(v4().tcp(5060), messages::request("OPTIONS")),
            Request,
        ),
        row("9000 bytes of rtp", &of_len(v4().udp(10_000), vec![0x80]), OtherPort),
        row("9000 bytes of spaces", &of_len(v4(), Vec::new()), Register),
        row("9000 bytes of zeros", &v4().payload(vec![0; 8958]), NotSip),
        row("9000 bytes of icmp", &v4().protocol(1).payload(vec![8; 8980]), OtherProtocol),
        row("9000 bytes of a later fragment", &of_len(v4().fragment(200, true), vec![]), Fragment),
        row("9000 bytes of a register", &v4().payload(&register), Register),
        row("9000 bytes from a banned source", &of_len(v4(), Vec::new()), Banned)
            .within(World::default().ban("192.0.2.66", SCOPE_ALL, Ends::Never)),
        row(
            "9000 bytes in two vlans",
            &of_len(v6().tag(SERVICE_VLAN, 7).tag(VLAN, 8), messages::request("INVITE")),
            Request,
        ),
    ]
}

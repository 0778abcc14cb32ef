//! Rows about the ways to carry a REGISTER: each of them in each situation that may drop it. None gets a
//! request further than the plain datagram gets.

use filter_common::abi::SCOPE_SIP;
use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Banned, BannedNetwork, Fragment, Greylist, KeepAlive, Known, Maintenance, NotSip,
    OtherProtocol, Register, RegisterLimit, SharedLimit, Signature, Spoofed, StreamLimit, SynLimit,
    TcpControl, Trusted,
};

use super::{Case, Ends, World, ip, messages};
use crate::packet_builder::{Extension, Frame, SERVICE_VLAN, VLAN, flag};

const V4: &str = "192.0.2.66";
const V6: &str = "2001:db8::66";

/// The limit that applies to a carrier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    /// A complete REGISTER.
    Plain,
    /// The beginning of one, judged as a REGISTER. Its User-Agent is in a later fragment.
    Begun,
    /// One whose protocol and port cannot be read, judged as a REGISTER.
    Hidden,
    /// A segment that begins with a REGISTER, limited as a REGISTER and by its bytes.
    Segment,
    /// Any other segment with a payload, limited by its bytes.
    Stream,
    /// The line ends before one, limited by their bytes.
    KeepAlive,
    /// A segment that opens a connection, limited by number.
    Opening,
    /// The same with a payload (RFC 7413), limited by its bytes too.
    OpeningWithData,
    /// An impossible source: always dropped.
    NoSource,
    /// A later fragment, useless without the first one, which is limited.
    Rest,
}

/// A way to carry a REGISTER.
#[derive(Clone, Debug)]
pub struct Carrier {
    /// Its name.
    pub name: String,
    /// The frame.
    pub frame: Vec<u8>,
    /// The limit that applies to it.
    pub held: Held,
}

/// The User-Agent of [`register`].
const AGENT: &str = "friendly-scanner";

/// The request to carry: the REGISTER of a scanner.
pub fn register() -> Vec<u8> {
    messages::request_with("REGISTER", &format!("User-Agent: {AGENT}\r\n"), "")
}

fn from(source: &str) -> Frame {
    Frame::from(ip(source)).payload(register())
}

/// Every carrier, for both families.
pub fn all() -> Vec<Carrier> {
    let mut all = Vec::new();
    let mut add = |name: String, frame: Vec<u8>, held| all.push(Carrier { name, frame, held });
    for source in [V4, V6] {
        let plain = from(source);
        add(format!("a datagram from {source}"), plain.build(), Held::Plain);
        add(format!("pppoe from {source}"), plain.in_pppoe(), Held::Plain);
        for tags in 1..=8u16 {
            for kind in [VLAN, SERVICE_VLAN] {
                // Priority tags, which Linux removes without a VLAN device.
                let tagged = (0..tags).fold(plain.clone(), |frame, _| frame.tag(kind, 0));
                let held = if tags <= 4 { Held::Plain } else { Held::Hidden };
                add(format!("{tags} tags of {kind:#x} from {source}"), tagged.build(), held);
            }
        }
        let tcp = plain.clone().tcp(5060);
        let message = register();
        add(format!("a segment from {source}"), tcp.build(), Held::Segment);
        for cut in 1..message.len() {
            let rest = &message[cut..];
            let frame = tcp.clone().payload(rest).build();
            let shown = rest.trim_ascii_start().starts_with(b"REGISTER\r\n");
            let held = match rest {
                b"\n" | b"\r\n" | b"\n\r\n" | b"\r\n\r\n" => Held::KeepAlive,
                _ if shown => Held::Segment,
                _ => Held::Stream,
            };
            add(format!("a segment from byte {cut} of it from {source}"), frame, held);
        }
        let two = [&message[message.len() - 5..], &message[..], &message[..]].concat();
        let many = [
            ("five in a segment", tcp.clone().payload(message.repeat(5)), Held::Segment),
            ("the end of one and two more", tcp.clone().payload(two), Held::Stream),
            ("urgent data", tcp.clone().tcp_flags(flag::URG | flag::ACK), Held::Segment),
            ("a last segment", tcp.clone().tcp_flags(flag::FIN | flag::ACK), Held::Segment),
            ("a segment with options", tcp.clone().tcp_options(&[1; 40]), Held::Segment),
            ("tls", tcp.clone().tcp(5061).payload(messages::tls_client_hello()), Held::Stream),
            ("an opening with data", tcp.clone().tcp_flags(flag::SYN), Held::OpeningWithData),
            ("an opening", tcp.clone().payload([]).tcp_flags(flag::SYN), Held::Opening),
        ];
        for (name, frame, held) in many {
            add(format!("{name} from {source}"), frame.build(), held);
        }
    }
    all.extend(options());
    all.extend(chains());
    all.extend(fragments());
    all.extend(sources());
    all
}

/// Carriers with IPv4 options, and with odd lengths.
fn options() -> Vec<Carrier> {
    let mut carriers: Vec<_> = (1..=10usize)
        .map(|words| Carrier {
            name: format!("{words} words of ipv4 options"),
            frame: from(V4).ip_options(&vec![1; words * 4]).build(),
            held: Held::Plain,
        })
        .collect();
    let long = from(V6).extension(Extension::hop_by_hop(1)).ip_len(0);
    for (name, frame, held) in [
        ("ipv4 of no length", from(V4).ip_len(0), Held::Plain),
        ("ipv6 of no length behind options", long.clone(), Held::Plain),
        ("tcp over ipv6 of no length behind options", long.tcp(5060), Held::Segment),
        ("udp of no length", from(V6).udp_len(0), Held::Plain),
    ] {
        carriers.push(Carrier { name: name.to_owned(), frame: frame.build(), held });
    }
    carriers
}

/// Carriers with IPv6 extension headers, up to more than are followed.
fn chains() -> Vec<Carrier> {
    type Make = fn() -> Extension;
    let kinds: [(&str, Make); 5] = [
        ("hop-by-hop", || Extension::hop_by_hop(1)),
        ("destination", || Extension::destination(1)),
        ("routing", || Extension::routing(1)),
        ("authentication", || Extension::authentication(3)),
        ("atomic fragment", || Extension::fragment(0, false)),
    ];
    let mut carriers = Vec::new();
    for (kind, make) in kinds {
        for count in (1..=12).chain([20, 40]) {
            for (protocol, frame, shown) in
                [("udp", from(V6), Held::Plain), ("tcp", from(V6).tcp(5060), Held::Segment)]
            {
                let frame = (0..count).fold(frame, |frame, _| frame.extension(make()));
                let held = if count <= 6 { shown } else { Held::Hidden };
                let name = format!("{count} {kind} headers before {protocol}");
                carriers.push(Carrier { name, frame: frame.build(), held });
            }
        }
    }
    carriers
}

fn fragments() -> Vec<Carrier> {
    let message = register();
    let raw = |source: &str, protocol, payload: &[u8], offset, more| {
        let frame = Frame::from(ip(source)).protocol(protocol).payload(payload);
        if ip(source).is_ipv4() {
            frame.fragment(offset, more)
        } else {
            frame.extension(Extension::fragment(offset, more))
        }
    };
    let first = |source: &str, frame: Frame| {
        if ip(source).is_ipv4() {
            frame.fragment(0, true)
        } else {
            frame.extension(Extension::fragment(0, true))
        }
    };
    let mut carriers = Vec::new();
    let mut add = |name: String, frame: Frame, held| {
        carriers.push(Carrier { name, frame: frame.build(), held });
    };
    for source in [V4, V6] {
        for len in [0, 4, 8, 16, message.len()] {
            let frame = Frame::from(ip(source)).payload(&message[..len]);
            let held = if len == message.len() { Held::Plain } else { Held::Begun };
            add(
                format!("a first fragment with {len} bytes from {source}"),
                first(source, frame),
                held,
            );
        }
        for len in [4, 8, 12] {
            // Only part of a TCP header.
            let frame =
                raw(source, 6, &[0x9c, 0x40, 0x13, 0xc4, 0, 0, 0, 1, 0, 0, 0, 0][..len], 0, true);
            add(
                format!("{len} bytes of tcp in a first fragment from {source}"),
                frame,
                Held::Hidden,
            );
        }
        let frame = raw(source, 17, &[0x9c, 0x40, 0x13, 0xc4], 0, true);
        add(format!("half a header of udp in a first fragment from {source}"), frame, Held::Hidden);
        for offset in [1, 2, 100] {
            for protocol in [6, 17] {
                let frame = raw(source, protocol, &message, offset, false);
                add(
                    format!("fragment {offset} of protocol {protocol} from {source}"),
                    frame,
                    Held::Rest,
                );
            }
        }
    }
    let cut =
        Frame::from(ip(V6)).extension(Extension::fragment(0, true)).protocol(60).payload([17]);
    add("a chain that goes on in later fragments".to_owned(), cut, Held::Hidden);
    carriers
}

/// Carriers with impossible sources.
fn sources() -> Vec<Carrier> {
    let sources = [
        "127.0.0.1",
        "127.255.255.254",
        "0.0.0.0",
        "0.1.2.3",
        "224.0.0.1",
        "239.255.255.250",
        "255.255.255.255",
        OWN_V4,
        "::",
        "::1",
        "ff02::1",
        "ff05::1:3",
        "::ffff:192.0.2.66",
        "::ffff:127.0.0.1",
        OWN_V6,
    ];
    let mut carriers = Vec::new();
    for source in sources {
        let ways = [
            ("a datagram", from(source)),
            ("a segment", from(source).tcp(5060)),
            ("the rest of a segment", from(source).tcp(5060).payload("more of it")),
            ("an opening", from(source).tcp(5060).payload([]).tcp_flags(flag::SYN)),
        ];
        for (name, frame) in ways {
            let name = format!("{name} from {source}, which is nobody");
            carriers.push(Carrier { name, frame: frame.build(), held: Held::NoSource });
        }
    }
    let hidden = (0..9).fold(from(OWN_V6), |frame, _| frame.extension(Extension::destination(1)));
    let name = "nine headers from an address of the host's".to_owned();
    carriers.push(Carrier { name, frame: hidden.build(), held: Held::NoSource });
    carriers
}

/// Stands for the source of a frame whose source was not read.
const UNREAD: &str = "100::";
const OWN_V4: &str = "192.0.2.10";
const OWN_V6: &str = "2001:db8::10";

/// A state of the maps, the steps before the frame, and the reason for each [`Held`].
struct Situation {
    name: &'static str,
    world: World,
    before: Before,
    reason: fn(Held) -> Reason,
}

/// The steps before a row's frame.
#[derive(Clone, Copy)]
enum Before {
    /// This many copies of its own frame.
    Same(usize),
    /// This many datagrams from another source.
    Others(usize),
}

/// The reason of a carrier within all limits.
fn passes(held: Held) -> Reason {
    match held {
        Held::Plain | Held::Begun | Held::Segment => Register,
        Held::Hidden => OtherProtocol,
        Held::Stream => NotSip,
        Held::KeepAlive => KeepAlive,
        Held::Opening | Held::OpeningWithData => TcpControl,
        Held::NoSource => Spoofed,
        Held::Rest => Fragment,
    }
}

/// The reason of a carrier, if `reason` applies to all but the last two.
fn but_for_the_last(reason: Reason, held: Held) -> Reason {
    if matches!(held, Held::NoSource | Held::Rest) { passes(held) } else { reason }
}

/// The same, if it applies to later fragments too.
fn but_for_nobody(reason: Reason, held: Held) -> Reason {
    if held == Held::NoSource { Spoofed } else { reason }
}

/// The reason of a carrier whose source is over its limits.
fn over(held: Held) -> Reason {
    match held {
        Held::Plain | Held::Begun | Held::Hidden => RegisterLimit,
        Held::Segment | Held::Stream | Held::KeepAlive | Held::OpeningWithData => StreamLimit,
        Held::Opening => SynLimit,
        Held::NoSource | Held::Rest => passes(held),
    }
}

fn situations() -> Vec<Situation> {
    let own = || World::default().own(OWN_V4).own(OWN_V6);
    let banned = [V4, V6, UNREAD]
        .iter()
        .fold(own(), |world, source| world.ban(source, SCOPE_SIP, Ends::Never));
    let networks = ["192.0.2.0/24", "2001:db8::/64", "100::/64"]
        .iter()
        .fold(own(), |world, network| world.ban_network(network, SCOPE_SIP, Ends::Never));
    let peers =
        [V4, V6, UNREAD].iter().fold(own(), |world, source| world.peer(source, Ends::Never));
    let limited = [Class::Register, Class::Syn]
        .iter()
        .fold(own(), |world, class| world.source_limit(*class, BURST))
        .byte_limits([0, BYTES, 0, 0]);
    let shared = [Class::Register, Class::Syn]
        .iter()
        .fold(own(), |world, class| world.shared_limit(*class, BURST))
        .byte_limits([0, 0, 0, BYTES]);
    let situation = |name, world: &World, before, reason| {
        let world = world.clone();
        Situation { name, world, before, reason }
    };
    let many = Before::Same(MANY);
    let none = Before::Same(0);
    let trusted = limited.clone().trust("0.0.0.0/0").trust("::/0");
    let signed = own().signature("friendly-scanner*");
    vec![
        situation(LET_IN, &own(), none, passes),
        situation(OVER, &limited, many, over),
        situation("watched over its limit", &limited.clone().watching(), many, over),
        situation("over what all share", &shared, many, |held| but_for_the_last(SharedLimit, held)),
        // A REGISTER that can be recognised gets a second chance.
        situation("greylisted", &shared.greylisting(), Before::Others(4), |held| match held {
            Held::Plain | Held::Begun | Held::Segment => Greylist,
            Held::Hidden => SharedLimit,
            Held::Stream
            | Held::KeepAlive
            | Held::Opening
            | Held::OpeningWithData
            | Held::NoSource
            | Held::Rest => passes(held),
        }),
        situation("banned", &banned, none, |held| but_for_nobody(Banned, held)),
        situation("of a banned network", &networks, none, |held| {
            but_for_nobody(BannedNetwork, held)
        }),
        situation(CLOSED, &own().closed(Ends::In(600), false), none, |held| {
            but_for_the_last(Maintenance, held)
        }),
        situation("with a signature", &signed, none, |held| match held {
            Held::Plain | Held::Segment => Signature,
            Held::Begun
            | Held::Hidden
            | Held::Stream
            | Held::KeepAlive
            | Held::Opening
            | Held::OpeningWithData
            | Held::NoSource
            | Held::Rest => passes(held),
        }),
        situation("known", &peers, none, |held| but_for_the_last(Known, held)),
        situation("trusted over its limit", &trusted, many, |held| but_for_the_last(Trusted, held)),
    ]
}

const LET_IN: &str = "let in";
const OVER: &str = "over its limit";
const CLOSED: &str = "while sip is closed";

/// Packets that the limits admit at once.
const BURST: u64 = 3;
/// Bytes that they admit at once: about two messages.
const BYTES: u64 = 700;
/// Enough frames to exceed both, however short they are.
const MANY: usize = 700;

/// The rows.
///
/// # Panics
///
/// Never: its numbers are small.
pub fn cases() -> Vec<Case> {
    let situations = situations();
    let mut cases = Vec::new();
    for carrier in all() {
        let is_cut = carrier.name.contains("from byte");
        for situation in &situations {
            // For each cut of a stream, it matters whether it is limited at all.
            let matters = situation.name == OVER || cases.len() % 8 == 0;
            if is_cut && !(matters && [LET_IN, OVER, CLOSED].contains(&situation.name)) {
                continue;
            }
            let expect = (situation.reason)(carrier.held);
            let name = format!("carried: {}, {}", carrier.name, situation.name);
            let case = Case::new(name, carrier.frame.clone(), expect);
            let case = case.within(situation.world.clone());
            cases.push(match situation.before {
                Before::Same(count) => {
                    // Not many more than it takes: the rows are thousands.
                    let bytes = usize::try_from(BYTES).expect("a small number");
                    let payload = carrier.frame.len().saturating_sub(headers_len(&carrier)).max(1);
                    let enough = if is_cut { bytes.div_ceil(payload) + 1 } else { 20 };
                    case.after(count.min(enough))
                }
                Before::Others(count) => case.after_other(count, from("203.0.113.9").build()),
            });
        }
    }
    cases
}

/// The number of bytes before the payload of a segment without options.
fn headers_len(carrier: &Carrier) -> usize {
    if carrier.name.ends_with(V4) { 54 } else { 74 }
}

//! Rows about what one source is over IPv6. The owner of a /64 has all its addresses, so for the limits they are one
//! source, except where a /64 has many hosts, for known peers, and for a while after maintenance, when the phones of a
//! site come back.

use filter_common::class::Class;
use filter_common::decision::Reason::{
    self, Admitted, Greylist, Known, NotSip, PrefixLimit, Register, RegisterLimit, StreamLimit,
};

use super::{Case, Ends, World, ip, messages, shares};
use crate::packet_builder::Frame;

const BURST: u64 = 3;

/// Pairs of addresses, and whether they are one source.
const PAIRS: [(&str, &str, bool); 9] = [
    ("2001:db8::66", "2001:db8::67", true),
    ("2001:db8::66", "2001:db8:0:0:ffff:ffff:ffff:ffff", true),
    ("2001:db8::66", "2001:db8:0:1::66", false),
    ("2001:db8::66", "2001:db8:0:8000::66", false),
    ("2001:db8::66", "2001:db8:1::66", false),
    // Each may be another host's: link-local, NAT64 (RFC 6052), and Teredo (RFC 4380) addresses.
    ("fe80::66", "fe80::67", false),
    ("64:ff9b::c000:242", "64:ff9b::c000:243", false),
    ("2001::66", "2001::67", false),
    ("192.0.2.66", "192.0.2.67", false),
];

/// The rows.
pub fn cases() -> Vec<Case> {
    [classes(), bytes(), admission(), networks()].concat()
}

fn row(name: &str, frame: &Frame, world: &World, expect: Reason) -> Case {
    Case::new(format!("ipv6 source: {name}"), frame.build(), expect).within(world.clone())
}

fn burst() -> usize {
    usize::try_from(BURST).expect("a small number")
}

/// Each limit of packets, after one address has used it up.
fn classes() -> Vec<Case> {
    let mut cases = Vec::new();
    for class in Class::ALL {
        let world = World::default().source_limit(class, BURST);
        for (first, second, one) in PAIRS {
            let of = |source| shares::of_class(class, &Frame::from(ip(source)));
            let ((sent, _), (frame, pass)) = (of(first), of(second));
            let expect = if one { class.over() } else { pass };
            let name = format!("{class:?} from {second} after {first}");
            let peer = world.clone().peer(second, Ends::In(600));
            let row = |name: &str, world: &World, expect| {
                row(name, &frame, world, expect).after_other(burst(), sent.build())
            };
            cases.push(row(&name, &world, expect));
            cases.push(row(&format!("{name}, a known peer"), &peer, Known));
            let returns = world.clone().after_maintenance();
            cases.push(row(&format!("{name}, after maintenance"), &returns, pass));
        }
    }
    cases
}

/// The limits of bytes. Each address has connections of its own, even from the same port.
fn bytes() -> Vec<Case> {
    const LENGTH: usize = 1000;
    let segment = |source| Frame::from(ip(source)).payload(vec![b'x'; LENGTH]).tcp(5060);
    let room = BURST * LENGTH as u64;
    let mut cases = Vec::new();
    for (first, second, one) in PAIRS {
        for (level, limits, is_shared) in
            [("a source", [0, room, 0, 0], one), ("a connection", [room, 0, 0, 0], false)]
        {
            let world = World::default().unlimited().byte_limits(limits);
            let expect = if is_shared { StreamLimit } else { NotSip };
            let name = format!("bytes of {level}, {second} after {first}");
            let sent = segment(first).build();
            cases.push(
                row(&name, &segment(second), &world, expect).after_other(burst(), sent.clone()),
            );
        }
    }
    cases
}

/// A retransmission, and what is admitted after one.
fn admission() -> Vec<Case> {
    let register = |source| Frame::from(ip(source)).payload(messages::register());
    let other = |source| Frame::from(ip(source)).payload(messages::request("REGISTER")).build();
    let flood = vec![register("198.51.100.7").build(); 2];
    let greylist = World::default().shared_limit(Class::Register, 2).greylisting();
    let own = World::default().limit(BURST);
    let mut cases = Vec::new();
    for (first, second, one) in PAIRS {
        let frame = register(second);
        let sent = register(first).build();
        let expect = if one { Admitted } else { Greylist };
        cases.extend([
            row(&format!("{second} repeats what {first} sent"), &frame, &greylist, expect)
                .then(flood.clone())
                .then([sent.clone()])
                .then_wait(500),
            row(&format!("{first} is admitted, then {second}"), &frame, &greylist, expect)
                .then(flood.clone())
                .then([other(first)])
                .then_wait(500)
                .then([other(first)]),
        ]);
        if one {
            cases.push(
                row(
                    &format!("{second} repeats what {first} sent over its limit"),
                    &frame,
                    &own,
                    Admitted,
                )
                .after_other(burst(), other(first))
                .then([sent])
                .then_wait(500),
            );
        }
    }
    cases
}

/// The network of an IPv6 source, of which it is one among many, is a /48.
fn networks() -> Vec<Case> {
    let world = World::default().prefix_limit(Class::Register, BURST);
    let register = |source: String| Frame::from(ip(&source)).payload(messages::register());
    let sent: Vec<_> =
        (0..BURST).map(|n| register(format!("2001:db8:0:{n}::66")).build()).collect();
    let row = |source: &str, expect| {
        let name = format!("{source} after others of 2001:db8::/48");
        row(&name, &register(source.to_owned()), &world, expect).then(sent.clone())
    };
    vec![
        row("2001:db8:0:ffff::1", PrefixLimit),
        row("2001:db8:1::1", Register),
        self::row(
            "2001:db8::66 after its own",
            &register("2001:db8::66".to_owned()),
            &world.clone().limit(BURST - 1),
            RegisterLimit,
        )
        .after(burst()),
    ]
}

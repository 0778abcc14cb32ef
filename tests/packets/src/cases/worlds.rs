//! States of the maps that concern the sources of [generated](super::generated) packets.

use filter_common::abi::{
    ABI_VERSION, OPEN_TO_KNOWN, OPEN_TO_REPLIES, OPEN_TO_TRUSTED, SCOPE_ALL, SCOPE_NAMED,
    SCOPE_SIP, SCOPE_THROTTLE,
};
use filter_common::class::Class;

use super::{Ends, World};

/// The states, each with its name.
pub fn all() -> Vec<(&'static str, World)> {
    let strict = strict();
    vec![
        ("no bans, no limit", World::default().unlimited()),
        ("a limit of two", limited(2)),
        ("bans, trust and a limit of one", strict.clone()),
        ("the same, watching", strict.clone().watching()),
        ("the same, not configured", World { abi: None, ..strict.clone() }),
        ("the same, of another version", World { abi: Some(ABI_VERSION + 1), ..strict.clone() }),
        ("the same, and everybody is trusted", strict.trust("0.0.0.0/0").trust("::/0")),
        ("known peers, signatures and named ports", known()),
        ("known peers that flood", known().known_limit(4).flood_after(5)),
        ("a limit of two for networks", networks()),
        ("a budget of two for all", shared()),
        ("the same with a greylist", shared().greylisting()),
        ("the same with a greylist that lets in two", shared().greylisting().admitted_limit(2)),
        ("floods over tcp", floods()),
        ("closed", known().closed(Ends::In(3600), false)),
        (
            "closed to known peers too, with trust",
            known().closed(Ends::Never, true).trust("fe80::/10"),
        ),
        ("closed until now", known().closed(Ends::Ago(0), true)),
        ("everything at once", everything()),
        ("few bytes over tcp", streams().byte_limits([900, 1500, 0, 0])),
        ("ports that are not open to everybody", guarded()),
        ("few bytes over tcp for networks and all", streams().byte_limits([0, 0, 1200, 1600])),
        ("unattended", unattended()),
        ("throttled sources, and challenges", throttled()),
        ("some countries are shut out", shut()),
        ("the same, watching", shut().watching()),
    ]
}

/// The same limit for each source and class.
fn limited(burst: u64) -> World {
    Class::ALL.iter().fold(World::default(), |world, class| world.source_limit(*class, burst))
}

/// Bans of every kind, in force and ended, some trust, and a limit of one.
fn strict() -> World {
    limited(1)
        .ban("192.0.2.66", SCOPE_SIP, Ends::Never)
        .ban("192.0.2.67", SCOPE_ALL, Ends::Ago(5))
        .ban("2001:db8::66", SCOPE_ALL, Ends::In(3600))
        .ban_network("198.51.100.0/24", SCOPE_SIP, Ends::Never)
        .ban_network("2001:db8:1::/48", SCOPE_ALL, Ends::In(3600))
        .trust("fe80::/10")
        .trust("192.0.2.128/25")
}

/// Throttled addresses and networks, some of which have been challenged, and a limit of two.
fn throttled() -> World {
    limited(2)
        .throttle("192.0.2.66", SCOPE_THROTTLE, Ends::Never)
        .throttle("192.0.2.67", SCOPE_THROTTLE | SCOPE_SIP, Ends::In(60))
        .throttle("2001:db8::66", SCOPE_THROTTLE, Ends::In(3600))
        .ban_network("198.51.100.0/24", SCOPE_THROTTLE, Ends::Never)
        .challenge("192.0.2.66", "1792570402/5bb7bd5c9d0a7e4b8a5d3e1c7f2b9a60")
        .challenge("198.51.100.7", "1792570402/5bb7bd5c9d0a7e4b8a5d3e1c7f2b9a60")
        .challenge("203.0.113.7", "1792570402/5bb7bd5c9d0a7e4b8a5d3e1c7f2b9a60")
}

/// Networks from which SIP is not admitted, with known, trusted and throttled sources in them.
fn shut() -> World {
    limited(2)
        .shut("192.0.2.0/24")
        .shut("2001:db8::/32")
        .shut_except("2001:db8:1::/48")
        .peer("192.0.2.67", Ends::Never)
        .peer("2001:db8::67", Ends::Ago(1))
        .trust("192.0.2.128/25")
        .throttle("192.0.2.66", SCOPE_THROTTLE, Ends::Never)
        .ban("2001:db8::66", SCOPE_SIP, Ends::In(60))
}

/// Some of the sources are known, one no longer; scanners, and bans of named ports.
fn known() -> World {
    limited(3)
        .search_limit(2)
        .peer("192.0.2.66", Ends::In(3600))
        .peer("2001:db8::66", Ends::Never)
        .peer("198.51.100.7", Ends::Ago(1))
        .signature("friendly-scanner*")
        .signature("sip*")
        .signature("iWar")
        .named(SCOPE_NAMED, true, 22..=22)
        .named(SCOPE_NAMED << 4, false, 53..=60)
        .ban("192.0.2.67", SCOPE_NAMED, Ends::In(3600))
        .ban("2001:db8::67", SCOPE_NAMED << 4 | SCOPE_SIP, Ends::Never)
        .ban_network("192.0.2.0/24", SCOPE_NAMED, Ends::In(3600))
        .ban_network("192.0.2.128/25", SCOPE_NAMED << 4, Ends::In(3600))
        .exception("192.0.2.66/31")
}

/// Limits of networks that several of the sources are in.
fn networks() -> World {
    let world = World { prefix_lengths: [23, 32], ..World::default() };
    Class::ALL.iter().fold(world, |world, class| world.prefix_limit(*class, 2))
}

/// Limits of all unknown sources together.
fn shared() -> World {
    let world = limited(5).peer("192.0.2.67", Ends::Never).trust("192.0.2.130/32");
    Class::ALL.iter().fold(world, |world, class| world.shared_limit(*class, 2))
}

/// Sources of floods: two with a connection, one that is banned for its flood.
fn floods() -> World {
    limited(2)
        .flood_after(4)
        .connect("192.0.2.66")
        .connect("2001:db8::66")
        .flooder("192.0.2.67", Ends::In(3600))
        .flooder("2001:db8::67", Ends::Ago(1))
}

/// Sources with and without a connection, and some of the host's own addresses.
fn streams() -> World {
    World { prefix_lengths: [23, 32], ..World::default() }
        .flood_after(4)
        .connect("192.0.2.66")
        .connect("2001:db8::66")
        .own("192.0.2.67")
        .own("2001:db8::67")
        .peer("198.51.100.7", Ends::Never)
        .trust("192.0.2.128/25")
}

/// Ports that are open to trusted sources, to known peers, for replies, and to nobody.
fn guarded() -> World {
    known()
        .trust("192.0.2.128/25")
        .guard(false, 5060, OPEN_TO_TRUSTED | OPEN_TO_KNOWN)
        .guard(true, 5060, OPEN_TO_TRUSTED | OPEN_TO_KNOWN)
        .guard(false, 53, OPEN_TO_TRUSTED | OPEN_TO_REPLIES)
        .guard(true, 22, 0)
        .ask("192.0.2.67", 53, Ends::In(3600))
        .ask("2001:db8::67", 53, Ends::In(3600))
}

/// No daemon is running, so that only the limits apply that all unknown sources share.
fn unattended() -> World {
    let world = World { prefix_lengths: [23, 32], ..floods() }
        .greylisting()
        .admitted_limit(2)
        .search_limit(2)
        .known_limit(3)
        .byte_limits([900, 1500, 1200, 1600])
        .own("192.0.2.130")
        .own("2001:db8:1::1")
        .peer("198.51.100.7", Ends::Never)
        .ban_network("192.0.2.128/25", SCOPE_SIP, Ends::In(1))
        .attended(Ends::Ago(0));
    Class::ALL
        .iter()
        .fold(world, |world, class| world.prefix_limit(*class, 2).shared_limit(*class, 6))
}

fn everything() -> World {
    let world = World { prefix_lengths: [24, 48], ..floods() }
        .greylisting()
        .search_limit(4)
        .known_limit(3)
        .peer("2001:db8:1::1", Ends::In(60))
        .signature("friendly-scanner*")
        .signature("s*")
        .ban("192.0.2.130", SCOPE_SIP, Ends::In(60))
        .ban_network("2001:db8::/32", SCOPE_ALL, Ends::In(30))
        .ban_network("2001:db8:1::/48", SCOPE_SIP, Ends::In(90))
        .exception("2001:db8::/64")
        .trust("198.51.100.0/24")
        .closed(Ends::In(20), false);
    [Class::Register, Class::Invite, Class::Other]
        .iter()
        .fold(world, |world, class| world.prefix_limit(*class, 8).shared_limit(*class, 12))
}

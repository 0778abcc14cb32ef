//! The table and random packets, decided on the host.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use filter_common::abi::{BanEntry, FOREVER, SCOPE_ALL, SCOPE_SIP, SCOPE_THROTTLE};
use filter_common::ban_table::{Place, SLOTS, lines_for};
use filter_common::class::Class;
use filter_common::decision::{Code, Reason};
use filter_common::packet::{self, Headers};
use filter_common::policy::{Decision, Flood, stream};
use filter_common::rate::{UNIT_SHIFT, unit};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringfence_packets::cases::generated::Packets;
use ringfence_packets::cases::{self, BANS, Case, Earlier, Ends, World, messages};
use ringfence_packets::model::live::Live;
use ringfence_packets::model::{CacheAge, Model};
use ringfence_packets::packet_builder::Frame;

/// Later than the end of any ban in the table.
const NOW: u64 = 2_000_000 * 1_000_000_000;

#[test]
fn every_row_has_its_reason() {
    let mut wrong = Vec::new();
    let cases = cases::all();
    for case in &cases {
        let floods = [Flood::None, Flood::Banned, Flood::Greylisted];
        let mut ways = Vec::from(floods.map(|flood| (flood, CacheAge::New)));
        if case.world.v6_bans(NOW).next().is_some() {
            use CacheAge::{Earlier, Empty, Unused, Weaker};
            ways.extend([Empty, Weaker, Earlier, Unused].map(|age| (Flood::None, age)));
        }
        for (flood, age) in ways {
            check(case, flood, age, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} rows", cases.len());
}

/// Checks a row. The flood of which the packets before were must not matter, nor what is cached of their bans.
fn check(case: &Case, flood: Flood, age: CacheAge, wrong: &mut Vec<String>) {
    let mut model = Model::new(&case.world, NOW);
    model.expect(flood);
    model.age_cache(age);
    for earlier in case.earlier() {
        match earlier {
            Earlier::Frame(frame) => {
                model.decide(&frame);
            }
            Earlier::Wait(time) => {
                model.wait(u64::try_from(time.as_nanos()).expect("a short time"));
            }
        }
    }
    let before = model.tally();
    let Decision { code, dry_run, source, .. } = model.decide(&case.packet.as_slice());
    let reason = code.reason();
    let seen = source.filter(|_| case.shows_source()).map(|source| source.hash(World::SEED));
    let watched = case.world.watches(case.expect);
    if reason != Some(case.expect) {
        wrong.push(format!("{}, {age:?}: {reason:?}, not {:?}", case.name, case.expect));
    } else if dry_run != watched {
        wrong.push(format!("{}, {age:?}: dry run {dry_run}", case.name));
    } else if model.seen().map(|(hash, _)| hash) != seen {
        wrong.push(format!("{}, {age:?}: its source was seen: {:?}", case.name, model.seen()));
    } else if let Err(why) = case.check_tally(before, model.tally()) {
        wrong.push(format!("{}, {age:?}: {why}", case.name));
    }
}

/// A ban of an IPv6 address that comes, goes or changes.
#[derive(Clone, Copy, Debug)]
struct Change {
    /// Whose: few addresses, of which more than three share a line.
    source: u16,
    scopes: u8,
    /// In units from now; none if the ban is lifted.
    until: Option<u32>,
    /// How much later the next change is, in units.
    wait: u32,
}

fn changes() -> impl Strategy<Value = Vec<Change>> {
    let scopes =
        prop::sample::select(vec![0, SCOPE_SIP, 2, SCOPE_ALL, SCOPE_SIP | SCOPE_ALL, 0xff]);
    let until = prop_oneof![Just(None), (0..200u32).prop_map(Some), Just(Some(u32::MAX))];
    let change = (0..500u16, scopes, until, 0..90u32);
    let change =
        change.prop_map(|(source, scopes, until, wait)| Change { source, scopes, until, wait });
    prop::collection::vec(change, 1..700)
}

/// Fail open: without bans, and below the limits, only impossible sources are dropped.
#[test]
fn generated_packets_pass_without_bans() {
    let model = Model::new(&World::default().unlimited(), NOW);
    for frame in Packets::new(0x00b5_e55e_d0fa_0b5e, &cases::all(), 9000).take(200_000) {
        let code = model.decide(&frame.as_slice()).code;
        let passes = !code.drops() || code.is(Reason::Spoofed);
        assert!(passes, "{:?}: {}", code.reason(), frame.escape_ascii());
    }
}

/// A ban drops what its source sends to SIP ports, and no packet of any other source.
#[test]
fn generated_packets_drop_for_their_own_source_alone() {
    let banned = "192.0.2.66";
    let world = World::default().unlimited();
    let model = Model::new(&world.ban(banned, SCOPE_SIP, Ends::Never), NOW);
    let mut dropped = 0;
    for frame in Packets::new(0x0bad_50ac_e000_0001, &cases::all(), 9000).take(200_000) {
        let code = model.decide(&frame.as_slice()).code;
        if code.drops() && !code.is(Reason::Spoofed) {
            let headers = packet::parse(&frame.as_slice()).expect("it has a source");
            assert_eq!(headers.source, banned.parse::<IpAddr>().unwrap().into());
            dropped += 1;
        }
    }
    assert!(dropped > 1000, "only {dropped} packets tried it");
}

const SOURCE: &str = "192.0.2.66";

/// The nonce in [`messages::register_with_credentials`].
const NONCE: &str = "1792570402/5bb7bd5c9d0a7e4b8a5d3e1c7f2b9a60";

fn source() -> IpAddr {
    SOURCE.parse().expect("an address")
}

fn frame(message: impl AsRef<[u8]>) -> Frame {
    Frame::from(source()).payload(message)
}

/// A packet of [`SOURCE`], and whether its nonce proves that the source is not forged.
struct Row {
    name: &'static str,
    frame: Frame,
    world: World,
    expect: Reason,
    proves: bool,
}

fn rows() -> Vec<Row> {
    let world = || World::default().challenge(SOURCE, NONCE);
    let answer = || frame(messages::register_with_credentials());
    let text = String::from_utf8(messages::register_with_credentials()).expect("text");
    let invite = || frame(text.replace("REGISTER", "INVITE"));
    let limited = || world().limit(1).source_limit(Class::Credentials, 1);
    let row = |name, frame, world, expect, proves| Row { name, frame, world, expect, proves };
    let other_nonce = World::default().challenge(SOURCE, "x");
    let banned = || world().ban(SOURCE, SCOPE_SIP, Ends::In(60));
    let throttled = world().throttle(SOURCE, SCOPE_THROTTLE, Ends::In(60));
    let closed = world().closed(Ends::In(60), false);
    vec![
        row("within its limits", answer(), world(), Reason::RegisterCredentials, true),
        row(
            "within its limits, tcp",
            answer().tcp(5060),
            world(),
            Reason::RegisterCredentials,
            true,
        ),
        row("an invite", invite(), world(), Reason::Request, true),
        row("an invite, tcp", invite().tcp(5060), world(), Reason::Request, true),
        row("without a nonce", frame(messages::register()), world(), Reason::Register, false),
        row("another nonce", answer(), other_nonce, Reason::RegisterCredentials, false),
        row("known", answer(), world().peer(SOURCE, Ends::In(60)), Reason::Known, true),
        row(
            "known, tcp",
            answer().tcp(5060),
            world().peer(SOURCE, Ends::In(60)),
            Reason::Known,
            true,
        ),
        row("over its limit", answer(), limited(), Reason::Answered, true),
        row("over its limit, tcp", answer().tcp(5060), limited(), Reason::Answered, true),
        row("throttled", answer(), throttled, Reason::Answered, true),
        row("banned", answer(), banned(), Reason::Banned, false),
        row(
            "banned and trusted",
            answer(),
            banned().trust("192.0.2.66/32"),
            Reason::Trusted,
            false,
        ),
        row("closed for maintenance", answer(), closed, Reason::Maintenance, false),
        row("to another port", answer().udp(4000), world(), Reason::OtherPort, false),
        row(
            "to a closed port",
            answer().udp(4000),
            world().guard(false, 4000, 0),
            Reason::ClosedPort,
            false,
        ),
        row("from the host's own address", answer(), world().own(SOURCE), Reason::Spoofed, false),
    ]
}

#[test]
fn a_nonce_proves_its_source_if_the_packet_may_be_an_answer() {
    for Row { name, frame, world, expect, proves } in rows() {
        let model = Model::new(&world, NOW);
        // They exhaust the limits of one that has them.
        let stolen = String::from_utf8(messages::register_with_credentials()).expect("text");
        let stolen = frame.clone().payload(stolen.replace(NONCE, "stolen"));
        for other in [frame.clone().payload(messages::register()), stolen] {
            model.decide(&other.build().as_slice());
        }
        let record = || model.record(source()).expect("it was challenged");
        assert_eq!((record().proven_at, record().answered), (0, 0), "{name}");
        let reason = model.decide(&frame.build().as_slice()).code.reason();
        assert_eq!(reason, Some(expect), "{name}");
        let proven = if proves { (NOW, 1) } else { (0, 0) };
        assert_eq!((record().proven_at, record().answered), proven, "{name}");
    }
}

/// Of addresses with the same first line, those for which it has no room are banned by their second one.
#[test]
fn bans_that_share_their_first_line_all_drop_and_count() {
    let lines = lines_for(BANS);
    let together = (0..1 << 24).map(|n: u32| Ipv4Addr::from(0x0b00_0000 | n)).filter(|source| {
        let word = u32::from_le_bytes(source.octets());
        Place::first(word, World::SEED).line(lines) == 7
    });
    let sources: Vec<_> = together.take(2 * SLOTS + 2).collect();
    let (banned, others) = sources.split_at(SLOTS + 3);
    let world = banned.iter().fold(World::default().unlimited(), |world, source| {
        world.ban(&source.to_string(), SCOPE_SIP, Ends::In(60))
    });
    let model = Model::new(&world, NOW);
    let reason = |source: &Ipv4Addr| {
        let packet = Frame::from((*source).into()).payload(messages::register()).build();
        model.decide(&packet.as_slice()).code.reason()
    };
    // More than one byte counts.
    let each = 300;
    for source in banned {
        for _ in 0..each {
            assert_eq!(reason(source), Some(Reason::Banned), "{source}");
        }
    }
    for source in others {
        assert_eq!(reason(source), Some(Reason::Register), "{source}");
    }
    assert_eq!(model.tally().bans, each * banned.len() as u64);
}

/// A place in the table has a fingerprint of eight bits, which other addresses have too.
#[test]
fn a_ban_drops_no_other_address_of_its_line_and_fingerprint() {
    let lines = lines_for(BANS);
    let at = |place: Place| (place.line(lines), place.fingerprint());
    let first = |source: &Ipv4Addr| Place::first(u32::from_le_bytes(source.octets()), World::SEED);
    let sources = || (0..1 << 24).map(|n: u32| Ipv4Addr::from(0x0b00_0000 | n));
    let of_line: Vec<_> = sources().filter(|source| first(source).line(lines) == 7).collect();
    // One more than fit: some are in their second line.
    let (banned, others) = of_line.split_at(SLOTS + 1);
    let twin = others.iter().find(|source| at(first(source)) == at(first(&banned[0])));
    let of_second = others
        .iter()
        .find(|source| banned.iter().all(|banned| at(first(banned)) != at(first(source))));
    let (twin, of_second) = (twin.expect("a twin"), of_second.expect("another"));
    let there = at(first(of_second).second());
    let in_second = sources().find(|source| at(first(source)) == there).expect("a twin there");
    let world =
        banned.iter().chain([&in_second]).fold(World::default().unlimited(), |world, source| {
            world.ban(&source.to_string(), SCOPE_SIP, Ends::In(60))
        });
    let model = Model::new(&world, NOW);
    let reason = |source: &Ipv4Addr| {
        let packet = Frame::from((*source).into()).payload(messages::register()).build();
        model.expect(Flood::Banned);
        model.decide(&packet.as_slice()).code.reason()
    };
    for source in banned.iter().chain([&in_second]) {
        assert_eq!(reason(source), Some(Reason::Banned), "{source}");
    }
    for source in [twin, of_second] {
        assert_eq!(reason(source), Some(Reason::Register), "{source}");
    }
}

/// What a packet of a flood is known by.
#[test]
fn packets_of_a_flood_are_noted() {
    let world = World::default()
        .ban("192.0.2.66", SCOPE_SIP, Ends::In(60))
        .ban("192.0.2.67", SCOPE_SIP, Ends::In(0))
        .own("192.0.2.10")
        .shared_limit(Class::Register, 4)
        .greylisting()
        .ban("2001:db8::66", SCOPE_SIP, Ends::In(60));
    let model = Model::new(&world, NOW);
    for (source, reason, noted) in [
        ("192.0.2.66", Reason::Banned, Flood::Banned),
        ("192.0.2.10", Reason::Spoofed, Flood::Banned),
        ("192.0.2.67", Reason::Register, Flood::None),
        ("192.0.2.68", Reason::Register, Flood::None),
        ("198.51.100.1", Reason::Register, Flood::None),
        ("127.0.0.1", Reason::Spoofed, Flood::Banned),
        ("2001:db8::66", Reason::Banned, Flood::Banned),
        ("2001:db8::67", Reason::Register, Flood::None),
        ("192.0.2.69", Reason::Greylist, Flood::Greylisted),
        ("2001:db8:1::69", Reason::Greylist, Flood::Greylisted),
    ] {
        let source: IpAddr = source.parse().unwrap();
        let packet = Frame::from(source).payload(messages::register()).build();
        assert_eq!(model.decide(&packet.as_slice()).code.reason(), Some(reason), "{source}");
        assert_eq!(model.noted(), Some(noted), "{source}");
    }
}

#[test]
fn a_cached_ban_of_an_ipv6_address_needs_no_look_into_the_map() {
    let world = World::default().ban("2001:db8::66", SCOPE_SIP, Ends::In(600));
    for (age, asked) in [(CacheAge::New, 0), (CacheAge::Empty, 1)] {
        let mut model = Model::new(&world, NOW);
        model.age_cache(age);
        let source: IpAddr = "2001:db8::66".parse().unwrap();
        let packet = Frame::from(source).payload(messages::register()).build();
        let reason = model.decide(&packet.as_slice()).code.reason();
        assert_eq!((reason, model.asked_bans_v6()), (Some(Reason::Banned), asked), "{age:?}");
    }
}

/// Most packets are read in the short way, and all others in the long one.
#[test]
fn the_short_way_is_for_plain_datagrams() {
    let plain = || frame(messages::register());
    let words = |frame: &Frame| {
        let frame = frame.build();
        let parsed = packet::parse(&frame.as_slice()).map(Headers::to_words);
        (packet::plain_udp(&frame.as_slice()), parsed.ok())
    };
    let (short, long) = words(&plain());
    assert!(short.is_some() && short == long);
    // The shortest, in a frame that is padded as on a wire.
    let mut empty = plain().payload("").build();
    empty.resize(60, 0);
    let short = packet::plain_udp(&empty.as_slice());
    assert!(
        short.is_some() && short == packet::parse(&empty.as_slice()).map(Headers::to_words).ok()
    );
    for other in [
        plain().tcp(5060),
        plain().ip_options(&[1; 8]),
        plain().fragment(0, true),
        plain().fragment(185, false),
        plain().tag(0x8100, 1),
        Frame::from(IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 1])).payload("x"),
    ] {
        assert_eq!(words(&other).0, None, "{other:?}");
    }
}

/// A segment consumes its bytes, whatever positions its words have: the kernel's stages get plain words.
#[test]
fn a_segment_consumes_no_more_than_the_longest() {
    const LONGEST: u32 = 0xffff;
    const START: u32 = 54;
    let world = World::default().byte_limits([u64::from(LONGEST) + 1, 0, 0, 0]);
    let frame = Frame::from(IpAddr::from([192, 0, 2, 66])).tcp(5060).payload("x").build();
    let packet = frame.as_slice();
    let headers = packet::parse(&packet).expect("headers");
    for (end, fragmented, bytes) in [
        (START - 1, false, 0),
        (START, false, 0),
        (START + 1, false, 1),
        (START + LONGEST - 1, false, LONGEST - 1),
        (START + LONGEST, false, LONGEST),
        (START + LONGEST + 1, false, LONGEST),
        (u32::MAX, false, LONGEST),
        (START, true, LONGEST),
        (START + 1, true, LONGEST),
    ] {
        let model = Model::new(&world, NOW);
        let takes = |end: u32, fragmented| {
            let [first, second, _, rest] = headers.to_words();
            let place = u64::from(START) | u64::from(end) << 32;
            let rest = rest | u64::from(fragmented) << 4;
            let code = stream::take(&packet, [first, second, place, rest], &model);
            assert!(code == Code::UNKNOWN || code.is(Reason::StreamLimit), "{code:?}");
            code == Code::UNKNOWN
        };
        // The first byte of an empty bucket, after which it has room for the longest segment.
        assert!(takes(START + 1, false));
        assert!(takes(end, fragmented), "{end}");
        let rest = LONGEST - bytes;
        assert!(bytes == 0 || !takes(START + rest + 1, false), "{end}: fewer than {bytes}");
        assert!(takes(START + rest, false), "{end}: more than {bytes}");
        assert!(!takes(START + 1, false), "{end}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig {
        failure_persistence: Some(Box::new(FileFailurePersistence::WithSource("regressions"))),
        ..ProptestConfig::default()
    })]

    /// The cache of banned IPv6 addresses changes no decision, however bans come, change and go.
    #[test]
    fn the_cache_changes_no_decision(changes in changes()) {
        let config = World::default().unlimited().config(NOW);
        let (mut with, mut without) = (Live::new(&config), Live::new(&config).without_cache());
        let address = |source: u16| IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, source % 7, source]);
        let mut now = unit(NOW);
        for change in changes {
            for live in [&mut with, &mut without] {
                live.set_time(u64::from(now) << UNIT_SHIFT);
                let Some(until) = change.until else {
                    live.unban(address(change.source));
                    continue;
                };
                let until = if until == u32::MAX { FOREVER } else { now + until };
                let entry = BanEntry { scopes: change.scopes, until, ..BanEntry::default() };
                live.ban_v6(address(change.source).into(), entry);
            }
            now += change.wait;
            for source in [change.source, (change.source + 1) % 500, (change.source + 7) % 500] {
                let decisions = [&mut with, &mut without].map(|live| {
                    live.set_time(u64::from(now) << UNIT_SHIFT);
                    live.arrives(SocketAddr::new(address(source), 5060), b"x")
                });
                prop_assert_eq!(decisions[0], decisions[1], "{}", source);
            }
        }
    }

    /// Any bytes.
    #[test]
    fn any_bytes_pass_without_bans(bytes: Vec<u8>) {
        let model = Model::new(&World::default().unlimited(), NOW);
        let code = model.decide(&bytes.as_slice()).code;
        prop_assert!(!code.drops() || code.is(Reason::Spoofed), "{:?}", code.reason());
    }

    /// Any bytes after an Ethernet header with a known EtherType.
    #[test]
    fn any_ip_packet_passes_without_bans(
        ethertype in prop::sample::select(vec![0x0800u16, 0x86dd, 0x8100]),
        bytes: Vec<u8>,
    ) {
        let frame = ringfence_packets::packet_builder::ethernet(ethertype, &bytes);
        let model = Model::new(&World::default().unlimited(), NOW);
        let code = model.decide(&frame.as_slice()).code;
        prop_assert!(!code.drops() || code.is(Reason::Spoofed), "{:?}", code.reason());
    }
}

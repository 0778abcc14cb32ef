//! The table and random packets, decided on the host.

use std::net::{IpAddr, SocketAddr};

use filter_common::abi::{BanEntry, FOREVER, SCOPE_ALL, SCOPE_SIP};
use filter_common::decision::Reason;
use filter_common::packet;
use filter_common::policy::Decision;
use filter_common::rate::{UNIT_SHIFT, unit};
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringfence_packets::cases::generated::Packets;
use ringfence_packets::cases::{self, Case, Earlier, Ends, World};
use ringfence_packets::model::live::Live;
use ringfence_packets::model::{CacheAge, Model};

/// Later than the end of any ban in the table.
const NOW: u64 = 2_000_000 * 1_000_000_000;

#[test]
fn every_row_has_its_reason() {
    let mut wrong = Vec::new();
    let cases = cases::all();
    for case in &cases {
        let mut ways = vec![(false, CacheAge::New), (true, CacheAge::New)];
        if case.world.v6_bans(NOW).next().is_some() {
            use CacheAge::{Earlier, Empty, Unused, Weaker};
            ways.extend([Empty, Weaker, Earlier, Unused].map(|age| (false, age)));
        }
        for (in_flood, age) in ways {
            check(case, in_flood, age, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} rows", cases.len());
}

/// Checks a row. Whether packets before were of banned sources must not matter, nor what is cached of their
/// bans.
fn check(case: &Case, in_flood: bool, age: CacheAge, wrong: &mut Vec<String>) {
    let mut model = Model::new(&case.world, NOW);
    model.expect_bans(in_flood);
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
    let Decision { code, dry_run, .. } = model.decide(&case.packet.as_slice());
    let reason = code.reason();
    let watched = case.world.watches(case.expect);
    if reason != Some(case.expect) {
        wrong.push(format!("{}, {age:?}: {reason:?}, not {:?}", case.name, case.expect));
    } else if dry_run != watched {
        wrong.push(format!("{}, {age:?}: dry run {dry_run}", case.name));
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

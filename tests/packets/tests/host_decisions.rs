//! The table and random packets, decided on the host.

use filter_common::abi::SCOPE_SIP;
use filter_common::decision::Reason;
use filter_common::packet;
use proptest::prelude::*;
use proptest::test_runner::FileFailurePersistence;
use ringfence_packets::cases::generated::Packets;
use ringfence_packets::cases::{self, Earlier, Ends, World};
use ringfence_packets::model::Model;

/// Later than the end of any ban in the table.
const NOW: u64 = 2_000_000 * 1_000_000_000;

#[test]
fn every_row_has_its_reason() {
    let mut wrong = Vec::new();
    let cases = cases::all();
    let floods = [false, true];
    for (case, in_flood) in cases.iter().flat_map(|case| floods.map(|in_flood| (case, in_flood))) {
        let model = Model::new(&case.world, NOW);
        // Whether packets before were of banned sources must not matter.
        model.expect_bans(in_flood);
        for earlier in case.earlier() {
            match earlier {
                Earlier::Frame(frame) => {
                    model.decide(&frame);
                }
                Earlier::Wait(time) => model.wait(u64::try_from(time.as_nanos()).unwrap()),
            }
        }
        let before = model.tally();
        let reason = model.decide(&case.packet.as_slice()).code.reason();
        if reason != Some(case.expect) {
            wrong.push(format!("{}: {reason:?}, not {:?}", case.name, case.expect));
        } else if let Err(why) = case.check_tally(before, model.tally()) {
            wrong.push(format!("{}: {why}", case.name));
        }
    }
    assert!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), cases.len(), wrong.join("\n"));
    println!("{} rows", cases.len());
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
            assert_eq!(headers.source, banned.parse::<std::net::IpAddr>().unwrap().into());
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

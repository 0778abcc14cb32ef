//! The table, decided by the real program in the kernel that runs this.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use filter_common::abi::{Counter, Event, SCOPE_SIP};
use filter_common::address::Address;
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{EVENTS_PER_SECOND, INTERFACES};
use filter_common::packet;
use filter_common::policy::decide;
use ringfence_tests::cases::{self, Case, Ends, World, messages};
use ringfence_tests::kernel::{self, Counters, Kernel, LINEAR_MAX};
use ringfence_tests::model::{Model, SplitFrame};
use ringfence_tests::packet_builder::{self, Frame};

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn every_row_has_its_verdict_and_its_counter() {
    let mut kernel = Kernel::load(0).unwrap();
    let (mut wrong, mut ran) = (Vec::new(), 0);
    for case in cases::all().iter().filter(|case| case.kernel) {
        if let Err(why) = check(&mut kernel, case) {
            wrong.push(format!("{}: {why:#}", case.name));
        }
        ran += 1;
    }
    assert!(wrong.is_empty(), "{} of {ran} rows:\n{}", wrong.len(), wrong.join("\n"));
    assert!(ran > 500, "only {ran} rows");
    println!("{ran} rows");
}

/// Runs a row: its verdict, its counter and no other, and its ban's count.
fn check(kernel: &mut Kernel, case: &Case) -> Result<()> {
    kernel.enter(&case.world, kernel::now()?)?;
    for frame in case.earlier() {
        kernel.run(frame)?;
    }
    let source = packet::parse(&case.packet.as_slice()).ok().map(|headers| headers.source);
    if let Some(source) = source {
        kernel.forget_seen(source)?;
    }
    let (before, hits) = (kernel.counters()?, kernel.ban_packets()?);
    let verdict = kernel.run(&case.packet)?;
    let to_sip = matches!(
        case.expect,
        Reason::Register | Reason::RegisterCredentials | Reason::Request | Reason::NotSip
    );
    if let Some(source) = source
        && kernel.seen(source)? != to_sip
    {
        bail!("its source is noted as seen: {}", !to_sip);
    }
    let (after, hits) = (kernel.counters()?, kernel.ban_packets()? - hits);

    let dry_run = case.world.dry_run && case.expect.verdict() == Verdict::Drop;
    let expected = if dry_run { Verdict::Pass } else { case.expect.verdict() };
    if verdict != expected {
        bail!("{verdict:?}, not {expected:?}; {}", grown(&before, &after));
    }
    let mut counters = before.clone();
    if dry_run {
        count(&mut counters.would, case.expect, case.packet.len());
        count(&mut counters.done, Reason::DryRun, case.packet.len());
    } else {
        count(&mut counters.done, case.expect, case.packet.len());
    }
    if after != counters {
        bail!("not {:?}; {}", case.expect, grown(&before, &after));
    }
    let banned = matches!(case.expect, Reason::Banned | Reason::BannedNetwork);
    if banned && hits != 1 || case.world.bans.is_empty() && hits != 0 {
        bail!("its ban counted {hits}");
    }
    Ok(())
}

type Bank = BTreeMap<&'static str, Counter>;

fn count(bank: &mut Bank, reason: Reason, len: usize) {
    let counter = bank.entry(reason.as_str()).or_default();
    counter.packets += 1;
    counter.bytes += len as u64;
}

/// What counted.
fn grown(before: &Counters, after: &Counters) -> String {
    let mut grown = Vec::new();
    for (bank, before, after) in
        [("", &before.done, &after.done), ("would ", &before.would, &after.would)]
    {
        for (reason, after) in after {
            let before = before[reason];
            if before != *after {
                let packets = i128::from(after.packets) - i128::from(before.packets);
                let bytes = i128::from(after.bytes) - i128::from(before.bytes);
                grown.push(format!("{bank}{reason} {packets:+} ({bytes:+} bytes)"));
            }
        }
    }
    format!("counted: {}", grown.join(", "))
}

/// Every row again with only its headers and the start of its payload in the first buffer, as
/// drivers split that receive jumbo frames in pages.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn every_long_row_is_the_same_in_fragmented_buffers() {
    const FIRST_BUFFER: usize = 256;
    if !kernel::can_split().unwrap() {
        println!("0 rows: this kernel splits only what is longer than {LINEAR_MAX} bytes");
        return;
    }
    let mut kernel = Kernel::load(0).unwrap();
    let mut ran = 0;
    for case in cases::all().iter().filter(|case| case.packet.len() > FIRST_BUFFER + 64) {
        kernel.enter(&case.world, kernel::now().unwrap()).unwrap();
        for frame in case.earlier() {
            kernel.run(frame).unwrap();
        }
        let before = kernel.counters().unwrap();
        kernel.run_split(&case.packet, FIRST_BUFFER).unwrap();
        let model = Model::new(&case.world, kernel::now().unwrap());
        for frame in case.earlier() {
            decide(&frame, &model);
        }
        let frame = SplitFrame { bytes: &case.packet, linear: FIRST_BUFFER };
        let reason = decide(&frame, &model).reason;
        let after = kernel.counters().unwrap();
        let bank = |c: &Counters| {
            if case.world.dry_run && reason.verdict() == Verdict::Drop {
                c.would[reason.as_str()]
            } else {
                c.done[reason.as_str()]
            }
        };
        let packets = bank(&after).packets - bank(&before).packets;
        assert_eq!(packets, 1, "{}: not {reason:?}; {}", case.name, grown(&before, &after));
        ran += 1;
    }
    assert!(ran > 100, "only {ran} rows");
    println!("{ran} rows");
}

/// A copy of the program counts for the interface it was loaded for.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn the_last_interface_has_counters_of_its_own() {
    let slot = u32::try_from(INTERFACES - 1).unwrap();
    let mut kernel = Kernel::load(slot).unwrap();
    let arp = packet_builder::arp();
    kernel.enter(&World::default(), kernel::now().unwrap()).unwrap();
    assert_eq!(kernel.run(&arp).unwrap(), Verdict::Pass);
    assert_eq!(kernel.counter(false, Reason::NotIp).unwrap(), Counter { packets: 1, bytes: 42 });
    assert_eq!(kernel.counted_anywhere().unwrap(), 1);
}

/// A ban ends in the kernel, with nobody to end it.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_ban_ends_by_itself() {
    let mut kernel = Kernel::load(0).unwrap();
    let frame = Frame::from([192, 0, 2, 66].into()).build();
    let start = Instant::now();
    kernel
        .enter(&World::default().ban("192.0.2.66", SCOPE_SIP, Ends::In(1)), kernel::now().unwrap())
        .unwrap();
    assert_eq!(kernel.run(&frame).unwrap(), Verdict::Drop);
    while kernel.run(&frame).unwrap() == Verdict::Drop {
        assert!(start.elapsed() < Duration::from_secs(5), "the ban did not end");
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(start.elapsed() > Duration::from_millis(950), "it ended after {:?}", start.elapsed());
}

/// A limit lets the next one through when its time has come.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_limit_gives_what_it_says() {
    let mut kernel = Kernel::load(0).unwrap();
    let register = messages::register();
    let frame = Frame::from([192, 0, 2, 66].into()).payload(register);
    let frame = frame.build();
    let limit = cases::Limit { events: 50, period: Duration::from_secs(1), burst: 10 };
    let world = World { register: Some(limit), ..World::default() };
    kernel.enter(&world, kernel::now().unwrap()).unwrap();
    let start = Instant::now();
    let mut passed = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..50 {
            passed += u128::from(kernel.run(&frame).unwrap() == Verdict::Pass);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    // The burst, and one each twenty milliseconds; less when this was kept from running.
    let most = 11 + start.elapsed().as_millis() / 20;
    assert!((60..=most).contains(&passed), "{passed} of {most}");
}

/// The controller hears of who is over the limit, and not of each of their packets.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn events_tell_who_is_over_the_limit() {
    const SLOT: u32 = 2;
    let mut kernel = Kernel::load(SLOT).unwrap();
    let source = IpAddr::from([192, 0, 2, 66]);
    let frame = |source, payload| Frame::from(source).payload(payload).build();
    let world = World::default().limit(1).ban("192.0.2.99", SCOPE_SIP, Ends::Never);
    kernel.enter(&world, kernel::now().unwrap()).unwrap();
    let register = frame(source, messages::register());
    kernel.run(&register).unwrap();
    kernel.run(&frame([192, 0, 2, 99].into(), messages::register())).unwrap();
    kernel.run(&frame(source, messages::register_with_credentials())).unwrap();
    assert_eq!(kernel.events().unwrap(), [], "nobody was over the limit");

    let before = kernel::now().unwrap();
    for _ in 0..1000 {
        assert_eq!(kernel.run(&register).unwrap(), Verdict::Drop);
    }
    let (events, after) = (kernel.events().unwrap(), kernel::now().unwrap());
    for event in &events {
        let expected = Event {
            time: event.time,
            reason: Reason::RegisterLimit.index(),
            slot: SLOT,
            source: Address::from(source).words(),
        };
        assert_eq!(*event, expected);
        assert!((before..=after).contains(&event.time), "{event:?}");
    }
    // On each CPU a burst of twenty, and one each five milliseconds.
    let cpus = aya::util::nr_cpus().unwrap() as u64;
    let most = cpus * (21 + (after - before) / (1_000_000_000 / EVENTS_PER_SECOND));
    let sent = events.len() as u64;
    assert!((20..=most).contains(&sent), "{sent} events, at most {most}");
}

//! The table, decided by the real program in this machine's kernel.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use filter_common::abi::{Counter, Event, SCOPE_SIP};
use filter_common::address::Address;
use filter_common::class::Class;
use filter_common::decision::{Reason, Verdict};
use filter_common::limits::{EVENTS_PER_SECOND, INTERFACES};
use filter_common::packet;
use nix::sched::CpuSet;
use nix::unistd::Pid;
use ringfence_tests::cases::{self, Case, Earlier, Ends, Limit, World, messages};
use ringfence_tests::kernel::{self, Counters, Kernel, LINEAR_MAX};
use ringfence_tests::model::{Model, SplitFrame, Tally};
use ringfence_tests::packet_builder::{self, Frame};

/// Later than the end of any ban in the table.
const NOW: u64 = 2_000_000 * 1_000_000_000;

#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn every_row_has_its_verdict_and_its_counter() {
    kernel::in_own_network(|| {
        let mut kernel = Kernel::load(0)?;
        let (mut wrong, mut ran) = (Vec::new(), 0);
        let mut counters = kernel.counters()?;
        for case in cases::all().iter().filter(|case| case.kernel) {
            if let Err(why) = check(&mut kernel, case, &mut counters) {
                wrong.push(format!("{}: {why:#}", case.name));
            }
            ran += 1;
        }
        ensure!(wrong.is_empty(), "{} of {ran} rows:\n{}", wrong.len(), wrong.join("\n"));
        ensure!(ran > 2000, "only {ran} rows");
        println!("{ran} rows");
        Ok(())
    })
    .unwrap();
}

/// Plays the steps before a row's frame.
fn play(kernel: &mut Kernel, case: &Case) -> Result<()> {
    kernel.enter(&case.world, NOW)?;
    for earlier in case.earlier() {
        match earlier {
            Earlier::Frame(frame) => {
                kernel.run(frame)?;
            }
            Earlier::Wait(time) => kernel.wait(u64::try_from(time.as_nanos())?)?,
        }
    }
    Ok(())
}

/// Runs a row and checks its verdict, that only its counter grows, and the count of its ban. Leaves the counters in
/// `counters`: those of the row before are those before this one, if there is nothing before its frame.
fn check(kernel: &mut Kernel, case: &Case, counters: &mut Counters) -> Result<()> {
    play(kernel, case)?;
    let source = packet::parse(&case.packet.as_slice()).ok().map(|headers| headers.source);
    if let Some(source) = source {
        kernel.forget_seen(source)?;
    }
    let mut tally = Tally::default();
    if !case.before.is_empty() {
        (*counters, tally) = (kernel.counters()?, kernel.tally()?);
    }
    let before = counters.clone();
    let verdict = kernel.run(&case.packet)?;
    *counters = kernel.counters()?;
    if let Some(source) = source
        && kernel.seen(source)? != case.shows_source()
    {
        bail!("its source is noted as seen: {}", !case.shows_source());
    }
    let after = counters;

    let dry_run = case.world.watches(case.expect);
    let expected = if dry_run { Verdict::Pass } else { case.expect.verdict() };
    if verdict != expected {
        bail!("{verdict:?}, not {expected:?}; {}", grown(&before, after));
    }
    let mut wanted = before.clone();
    if dry_run {
        count(&mut wanted.would, case.expect, case.packet.len());
        count(&mut wanted.done, Reason::DryRun, case.packet.len());
    } else {
        count(&mut wanted.done, case.expect, case.packet.len());
    }
    if case.world.geo_dry_run {
        // Such a packet is only counted on its way.
        let would = wanted.would.entry(Reason::Geo.as_str()).or_default();
        would.packets += 1;
    }
    if *after != wanted {
        bail!("not {:?}; {}", case.expect, grown(&before, after));
    }
    case.check_tally(tally, kernel.tally()?).map_err(|why| anyhow!(why))
}

type Bank = BTreeMap<&'static str, Counter>;

fn count(bank: &mut Bank, reason: Reason, len: usize) {
    let counter = bank.entry(reason.as_str()).or_default();
    counter.packets += 1;
    counter.bytes += len as u64;
}

/// The counters that have grown.
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

/// Every row again, with only its headers and the start of its payload in the first buffer, as in drivers
/// that receive jumbo frames in pages.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn every_long_row_is_the_same_in_fragmented_buffers() {
    if !kernel::can_split().unwrap() {
        println!("0 rows: this kernel splits only what is longer than {LINEAR_MAX} bytes");
        return;
    }
    let rows = kernel::in_own_network(|| split_rows(FIRST_BUFFER, 64)).unwrap();
    println!("{rows} rows");
}

/// Every row again with none or little of it in the first buffer, as in drivers that split every frame
/// (`mlx5e_skb_from_cqe_mpwrq_nonlinear` in the kernel puts nothing there).
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn every_row_is_the_same_with_its_headers_in_other_buffers() {
    if !kernel::can_split().unwrap() {
        println!("0 rows: this kernel splits only what is longer than {LINEAR_MAX} bytes");
        return;
    }
    for first in FIRST_BUFFERS {
        let rows = kernel::in_own_network(move || split_rows(first, 0)).unwrap();
        println!("{rows} rows with {first} bytes in the first buffer");
    }
}

/// Bytes in the first buffer: none, or some of the IP header.
const FIRST_BUFFERS: [usize; 2] = [0, 30];

/// Bytes in the first buffer.
const FIRST_BUFFER: usize = 256;

/// Runs the rows whose frame has more than this many bytes after the first buffer; returns their number.
fn split_rows(first: usize, behind: usize) -> Result<usize> {
    let mut kernel = Kernel::load(0)?;
    let mut ran = 0;
    let wanted = |case: &&Case| case.packet.len() > first + behind && case.kernel;
    // Some of the carriers of a REGISTER suffice.
    let few = cases::all()
        .into_iter()
        .enumerate()
        .filter(|(number, case)| !case.name.starts_with("carried") || number % 16 == 0);
    let few: Vec<_> = few.map(|(_, case)| case).collect();
    for case in few.iter().filter(wanted) {
        play(&mut kernel, case)?;
        let before = kernel.counters()?;
        kernel.run_split(&case.packet, first)?;
        let model = Model::new(&case.world, NOW);
        for earlier in case.earlier() {
            match earlier {
                Earlier::Frame(frame) => {
                    model.decide(&frame);
                }
                Earlier::Wait(time) => model.wait(u64::try_from(time.as_nanos())?),
            }
        }
        let frame = SplitFrame { bytes: &case.packet, linear: first };
        let reason = model.decide(&frame).code.reason().context("no reason")?;
        let after = kernel.counters()?;
        let bank = |c: &Counters| {
            if case.world.watches(reason) {
                c.would[reason.as_str()]
            } else {
                c.done[reason.as_str()]
            }
        };
        let packets = bank(&after).packets - bank(&before).packets;
        ensure!(packets == 1, "{}: not {reason:?}; {}", case.name, grown(&before, &after));
        let bytes = usize::try_from(bank(&after).bytes - bank(&before).bytes)?;
        let len = case.packet.len();
        ensure!(bytes == len, "{}: {bytes} bytes of {len} counted", case.name);
        ran += 1;
    }
    ensure!(ran > 100, "only {ran} rows");
    Ok(ran)
}

/// A copy of the program counts for the interface for which it was loaded.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn the_last_interface_has_counters_of_its_own() {
    let slot = u32::try_from(INTERFACES - 1).unwrap();
    let mut kernel = Kernel::load(slot).unwrap();
    let arp = packet_builder::arp();
    kernel.enter(&World::default(), NOW).unwrap();
    assert_eq!(kernel.run(&arp).unwrap(), Verdict::Pass);
    assert_eq!(kernel.counter(false, Reason::NotIp).unwrap(), Counter { packets: 1, bytes: 42 });
    assert_eq!(kernel.counted_anywhere().unwrap(), 1);
}

/// The kernel ends a ban, without a daemon.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_ban_ends_by_itself() {
    let mut kernel = Kernel::load(0).unwrap();
    let frame = Frame::from([192, 0, 2, 66].into()).build();
    let start = Instant::now();
    kernel.enter_in_time(&World::default().ban("192.0.2.66", SCOPE_SIP, Ends::In(1))).unwrap();
    assert_eq!(kernel.run(&frame).unwrap(), Verdict::Drop);
    while kernel.run(&frame).unwrap() == Verdict::Drop {
        assert!(start.elapsed() < Duration::from_secs(5), "the ban did not end");
        thread::sleep(Duration::from_millis(1));
    }
    // It ends with a unit of 2^28 ns that may have begun earlier.
    assert!(start.elapsed() > Duration::from_millis(700), "it ended after {:?}", start.elapsed());
}

/// A limit admits the next packet when its time has come.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_limit_gives_what_it_says() {
    let mut kernel = Kernel::load(0).unwrap();
    let register = String::from_utf8(messages::register()).unwrap();
    // Each is another request, because a retransmission would be admitted.
    let frame = |number: u32| {
        let register = register.replacen("a84b4c76e66710", &format!("a84b4c{number:08}"), 1);
        Frame::from([192, 0, 2, 66].into()).payload(register).build()
    };
    let mut number = 0;
    let limit = Limit { events: 50, period: Duration::from_secs(1), burst: 10 };
    let mut world = World::default().unlimited();
    world.source[Class::Register.index()] = Some(limit);
    kernel.enter_in_time(&world).unwrap();
    let start = Instant::now();
    let mut passed = 0;
    while start.elapsed() < Duration::from_secs(2) {
        for _ in 0..50 {
            number += 1;
            passed += u128::from(kernel.run(&frame(number)).unwrap() == Verdict::Pass);
        }
        thread::sleep(Duration::from_millis(1));
    }
    // The burst, and one every twenty milliseconds; fewer if this thread was delayed.
    let most = 11 + start.elapsed().as_millis() / 20;
    assert!((60..=most).contains(&passed), "{passed} of {most}");
}

/// The controller is notified of a source over the limit, but not of each of its packets.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn events_tell_who_is_over_the_limit() {
    const SLOT: u32 = 2;
    let mut kernel = Kernel::load(SLOT).unwrap();
    let source = IpAddr::from([192, 0, 2, 66]);
    let frame = |source, payload| Frame::from(source).payload(payload).build();
    let world = World::default().limit(1).ban("192.0.2.99", SCOPE_SIP, Ends::Never);
    kernel.enter_in_time(&world).unwrap();
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
        // The clock advances in ticks, which are at most this long in any kernel.
        let tick = 10_000_000;
        assert!((before - tick..=after + tick).contains(&event.time), "{event:?}");
    }
    // On each CPU a burst of twenty, and one every five milliseconds.
    let cpus = aya::util::nr_cpus().unwrap() as u64;
    let most = cpus * (21 + (after - before) / (1_000_000_000 / EVENTS_PER_SECOND));
    let sent = events.len() as u64;
    assert!((20..=most).contains(&sent), "{sent} events, at most {most}");
}

/// While a configuration is replaced, each packet is judged by the old or the new one, never by a
/// mixture: SIP is open, or closed in a dry run, and passes either way.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn no_packet_sees_half_a_configuration() {
    const SWITCHES: usize = 60;
    const SWITCHES_MAX: usize = 2000;
    let options = Frame::from([192, 0, 2, 66].into()).payload(messages::request("OPTIONS")).build();
    let mut kernel = Kernel::load(0).unwrap();
    let closed = World::default().unlimited().watching().closed(Ends::Never, true);
    kernel.enter(&closed, NOW).unwrap();
    let closed = kernel.config();
    kernel.enter(&World::default().unlimited(), NOW).unwrap();
    let open = kernel.config();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let (kernel, done) = (&kernel, &done);
        scope.spawn(move || {
            while !done.load(Ordering::Relaxed) {
                // Shorter than the pauses below, even on a slow machine.
                kernel.repeat(&options, 1000).unwrap();
            }
        });
        let mut writer = kernel.config_writer().unwrap();
        let has_seen = |reason| kernel.counter(false, reason).unwrap().packets > 10_000;
        for switch in 0..SWITCHES_MAX {
            if switch >= SWITCHES && has_seen(Reason::Request) && has_seen(Reason::DryRun) {
                break;
            }
            for config in [&closed, &open] {
                writer.set(config).unwrap();
                assert_eq!(writer.get().unwrap(), *config);
                // A switch waits for running programs, so that without a pause every run could begin
                // after a pair of switches.
                thread::sleep(Duration::from_millis(switch as u64 % 7));
            }
        }
        done.store(true, Ordering::Relaxed);
    });
    let count = |reason| kernel.counter(false, reason).unwrap().packets;
    let (open, closed) = (count(Reason::Request), count(Reason::DryRun));
    assert!(open > 10_000 && closed > 10_000, "{open} and {closed}");
    assert_eq!(kernel.counter(true, Reason::Maintenance).unwrap().packets, closed);
    assert_eq!(count(Reason::Maintenance), 0, "of {open} and {closed}");
}

/// Two CPUs consume from one bucket at once, and get no more together than one would.
#[test]
#[ignore = "requires root: CAP_BPF and CAP_NET_ADMIN"]
fn a_limit_is_exact_on_several_cpus() {
    const BURST: u64 = 200_000;
    const PACKETS: u32 = 300_000;
    let cpus = nix::sched::sched_getaffinity(Pid::from_raw(0)).unwrap();
    let cpus: Vec<_> =
        (0..CpuSet::count()).filter(|cpu| cpus.is_set(*cpu).unwrap()).take(2).collect();
    assert_eq!(cpus.len(), 2, "this needs two CPUs");
    let register = Frame::from([192, 0, 2, 66].into()).payload(messages::register()).build();
    let own = World::default().unlimited().source_limit(Class::Register, BURST);
    let network = World::default().unlimited().prefix_limit(Class::Register, BURST);
    let shared = World::default().unlimited().shared_limit(Class::Register, BURST);
    let known = World::default().unlimited().known_limit(BURST).peer("192.0.2.66", Ends::Never);
    for (world, pass, drop) in [
        (own, Reason::Register, Reason::RegisterLimit),
        (network, Reason::Register, Reason::PrefixLimit),
        (shared, Reason::Register, Reason::SharedLimit),
        (known, Reason::Known, Reason::KnownLimit),
    ] {
        let mut kernel = Kernel::load(0).unwrap();
        kernel.enter(&world, NOW).unwrap();
        let start = Barrier::new(cpus.len());
        thread::scope(|scope| {
            for cpu in &cpus {
                let (kernel, start, register) = (&kernel, &start, &register);
                scope.spawn(move || {
                    let mut only = CpuSet::new();
                    only.set(*cpu).unwrap();
                    nix::sched::sched_setaffinity(Pid::from_raw(0), &only).unwrap();
                    start.wait();
                    kernel.repeat(register, PACKETS).unwrap();
                });
            }
        });
        let count = |reason| kernel.counter(false, reason).unwrap().packets;
        let sent = u64::from(PACKETS) * cpus.len() as u64;
        let (passed, dropped) = (count(pass), count(drop));
        assert_eq!(passed + dropped, sent, "{pass:?}");
        assert_eq!(passed, BURST, "{pass:?}");
        let tally = kernel.tally().unwrap();
        if pass == Reason::Known {
            assert_eq!((tally.peers_passed, tally.peers_dropped), (passed, dropped));
        }
    }
}

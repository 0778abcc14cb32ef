//! Bans of IPv6 addresses with a slot in the cache and without one: each is in force from the command to its end,
//! whatever happens to the daemon and the cache.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::maps::{Array, HashMap, Map, MapData};
use filter_common::abi::{BanEntry, maps};
use filter_common::address::{self, Address};
use filter_common::ban_cache::{HEADS_WORD, LAST_WORD, Line, lines_for};
use ringfence_tests::bpf::{Action, Program};
use ringfence_tests::child::{self, OnSignal};
use ringfence_tests::packet_builder::Frame;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::world::{Hosts, OTHER_PORT, SIP_PORT, nothing_is_left};

/// How long a command may take on a busy machine.
const SOON: Duration = Duration::from_mins(2);

/// Room for so many bans that two thirds of [`BANS`] have a slot.
const CAPACITY: u32 = 1024;
const BANS: u16 = 800;

fn banned(number: u16) -> Ipv6Addr {
    Ipv6Addr::from([0x2001, 0xdb8, number % 3, 0, 0, 0, number % 5, number])
}

fn of_map(ringfence: &Ringfence, name: &str) -> PathBuf {
    ringfence.pins().into_iter().find(|pin| pin.ends_with(name)).unwrap()
}

/// The addresses with a slot.
fn with_slot(ringfence: &Ringfence) -> BTreeSet<Ipv6Addr> {
    let map = MapData::from_pin(of_map(ringfence, maps::BANS_V6_CACHE)).unwrap();
    let map: Array<_, Line> = Map::from_map_data(map).unwrap().try_into().unwrap();
    assert_eq!(map.len(), lines_for(CAPACITY));
    let mut found = BTreeSet::new();
    for place in 0..map.len() {
        let line = map.get(&place, 0).unwrap();
        let (heads, last) = (line[HEADS_WORD], line[LAST_WORD]);
        let heads = [heads & 0xffff_ffff, heads >> 32, last & 0xffff_ffff];
        for (head, words) in heads.into_iter().zip(line.as_chunks::<2>().0) {
            if head != 0 {
                found.insert(address::unwords(*words));
            }
        }
    }
    found
}

/// The verdict of the attached program on a datagram to a port.
fn verdict(program: &Program, source: Ipv6Addr, port: u16) -> Action {
    let frame =
        Frame::from(IpAddr::from(source)).udp(port).payload("OPTIONS sip:a SIP/2.0\r\n\r\n");
    program.run(&frame.build(), 1).unwrap()
}

/// Checks that exactly these are dropped of all that were banned, and their neighbours are not.
fn drops(ringfence: &Ringfence, expected: &BTreeSet<Ipv6Addr>) {
    let program = Program::from_pin(&of_map(ringfence, "program-0-eth0")).unwrap();
    for number in 0..BANS {
        let source = banned(number);
        let action = if expected.contains(&source) { Action::Drop } else { Action::Pass };
        assert_eq!(verdict(&program, source, OTHER_PORT), action, "{source}");
    }
    for number in BANS..BANS + 20 {
        assert_eq!(verdict(&program, banned(number), OTHER_PORT), Action::Pass);
    }
}

/// Runs a command, whether or not a daemon runs.
fn command(hosts: &Hosts, ringfence: &Ringfence, arguments: &[&str]) {
    let mut command = hosts.pbx.command(ringfence::built().unwrap());
    command.arg("-c").arg(ringfence.config_file()).args(arguments);
    let said = child::finish("ringfence", &mut command, SOON, OnSignal::Stop).unwrap();
    said.success(&arguments.join(" ")).unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn a_ban_is_in_force_with_a_slot_and_without() {
    let hosts = Hosts::new().unwrap();
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    config.more = format!("capacity: {{bans_ipv6: {CAPACITY}}}\n");
    let mut ringfence =
        Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap();
    let directory = scratch::directory("ban-cache").unwrap();
    let list = |numbers: &mut dyn Iterator<Item = u16>, fields: &str| {
        let mut text = String::new();
        numbers.for_each(|number| writeln!(text, "{}{fields}", banned(number)).unwrap());
        let file = directory.path().join("list");
        fs::write(&file, text).unwrap();
        file.to_str().unwrap().to_owned()
    };

    command(&hosts, &ringfence, &["ban", "--from", &list(&mut (0..BANS), " for=2h")]);
    let mut expected: BTreeSet<_> = (0..BANS).map(banned).collect();
    drops(&ringfence, &expected);
    let slots = with_slot(&ringfence);
    assert!(slots.is_subset(&expected), "{slots:?}");
    assert!((400..700).contains(&slots.len()), "{} of {BANS} have a slot", slots.len());

    // The packets of both are counted.
    let program = Program::from_pin(&of_map(&ringfence, "program-0-eth0")).unwrap();
    let (with, without): (Vec<Ipv6Addr>, Vec<Ipv6Addr>) =
        expected.iter().partition(|ban| slots.contains(ban));
    for (source, times) in [(with[0], 600), (with[1], 255), (without[0], 600), (without[1], 3)] {
        let frame = Frame::from(IpAddr::from(source)).payload("x").build();
        assert_eq!(program.run(&frame, times).unwrap(), Action::Drop);
    }
    let packets = |ringfence: &Ringfence| -> BTreeMap<String, u64> {
        ringfence.bans().unwrap().into_iter().map(|ban| (ban.network, ban.packets)).collect()
    };
    let counted = packets(&ringfence);
    for (source, times) in [(with[0], 601), (with[1], 256), (without[0], 601), (without[1], 4)] {
        assert_eq!(counted[&source.to_string()], times, "{source}");
    }

    // Another scope is in force at once, and keeps the packets.
    let (one, other) = (with[0], without[0]);
    for source in [one, other] {
        let ban = |scope| {
            let source = source.to_string();
            command(&hosts, &ringfence, &["ban", &source, "--for", "2h", "--scope", scope]);
        };
        ban("sip");
        assert_eq!(verdict(&program, source, OTHER_PORT), Action::Pass);
        assert_eq!(verdict(&program, source, SIP_PORT), Action::Drop);
        ban("all");
        assert_eq!(verdict(&program, source, OTHER_PORT), Action::Drop);
        assert_eq!(packets(&ringfence)[&source.to_string()], 603);
    }

    // So is the end of a ban.
    let unban = |ringfence: &Ringfence, expected: &mut BTreeSet<Ipv6Addr>, part: u16| {
        let mut numbers = (0..BANS).filter(|number| number % 4 == part);
        command(&hosts, ringfence, &["unban", "--from", &list(&mut numbers, "")]);
        expected.retain(|ban| (0..BANS).all(|number| number % 4 != part || banned(number) != *ban));
        drops(ringfence, expected);
    };
    unban(&ringfence, &mut expected, 0);
    assert!(with_slot(&ringfence).is_subset(&expected));

    // A restart fills the room that has become free. While no daemon runs, a command lifts bans.
    ringfence.kill().unwrap();
    drops(&ringfence, &expected);
    unban(&ringfence, &mut expected, 1);
    let before = with_slot(&ringfence).len();
    ringfence.restart(&hosts.pbx).unwrap();
    drops(&ringfence, &expected);
    let after = with_slot(&ringfence);
    assert!(after.is_subset(&expected) && after.len() > before, "{before} {}", after.len());

    // An older version, which does not know the cache, has lifted a ban in the map alone, and its daemon is
    // followed by this one.
    ringfence.kill().unwrap();
    let gone = *after.first().unwrap();
    let map = MapData::from_pin(of_map(&ringfence, maps::BANS_V6)).unwrap();
    let mut map: HashMap<_, [u64; 2], BanEntry> =
        Map::from_map_data(map).unwrap().try_into().unwrap();
    map.remove(&Address::from(IpAddr::from(gone)).words()).unwrap();
    command(&hosts, &ringfence, &["unban", &gone.to_string()]);
    expected.remove(&gone);
    ringfence.restart(&hosts.pbx).unwrap();
    drops(&ringfence, &expected);
    let before = with_slot(&ringfence);
    assert!(before.is_subset(&expected));

    // Its pins have no cache.
    ringfence.kill().unwrap();
    fs::remove_file(of_map(&ringfence, maps::BANS_V6_CACHE)).unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    drops(&ringfence, &expected);
    let after = with_slot(&ringfence);
    assert!(after.is_subset(&expected) && after.len() == before.len(), "{before:?} {after:?}");
    unban(&ringfence, &mut expected, 2);

    drop((ringfence, directory, hosts));
    nothing_is_left().unwrap();
}

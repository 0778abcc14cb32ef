//! Reported changes are durable: across kills at any moment, a reboot, a full disk and a read-only disk.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use aya::maps::{Array, Map, MapData};
use filter_common::abi::{ABI_VERSION, Configs};
use filter_user::ban::{Ban, Entry, Origin};
use filter_user::clock::Moment;
use filter_user::config::{Config as Settings, Scope};
use filter_user::escalation::Bounds;
use filter_user::store::{self, Names, Started, Store};
use nix::mount::{MsFlags, mount, umount};
use nix::sched::{CloneFlags, unshare};
use ringfence_tests::bpf::{Action, Program};
use ringfence_tests::chance::Chance;
use ringfence_tests::packet_builder::Frame;
use ringfence_tests::ringfence::{self, Client, Config, Ringfence};
use ringfence_tests::scratch;
use ringfence_tests::world::{Hosts, nothing_is_left, until};
use serde_json::Value;

/// Each test with hosts checks at its end that nothing is left, so they run one at a time.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// The number of kills, each followed by a check.
const KILLS: u32 = 12;

/// A daemon that reads no log.
fn daemon(hosts: &Hosts) -> Ringfence {
    let config = Config::new(Path::new("/nonexistent/fail2ban"));
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
}

/// Bans this many addresses manually.
fn ban_some(ringfence: &Ringfence, bans: u8) {
    for n in 1..=bans {
        let said = ringfence.client().run(&["ban", &format!("10.0.0.{n}")], false).unwrap();
        said.success("ban").unwrap();
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_was_reported_is_there_after_a_kill() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let mut chance = Chance::of_now();
    let hosts = Hosts::new().unwrap();
    let mut ringfence = daemon(&hosts);
    let next = AtomicU32::new(0);
    let mut expected = BTreeSet::new();
    for kill in 0..KILLS {
        let client = ringfence.client().clone();
        let over = AtomicBool::new(false);
        let pause = chance.below(400);
        let reported: Vec<Reported> = thread::scope(|scope| {
            let callers: Vec<_> = (0..3)
                .map(|place| {
                    scope.spawn({
                        let (client, next, over) = (&client, &next, &over);
                        move || report(client, place, next, over)
                    })
                })
                .collect();
            thread::sleep(Duration::from_millis(30 + pause));
            ringfence.kill().unwrap();
            over.store(true, Ordering::Relaxed);
            callers.into_iter().map(|caller| caller.join().unwrap()).collect()
        });
        for Reported { there, gone } in reported {
            expected.extend(there);
            for network in gone {
                expected.remove(&network);
            }
        }
        // A change that was not reported may or may not be there.
        if kill % 3 == 2 {
            // As after a reboot: the kernel has no bans.
            ringfence.detach().unwrap().success("detach").unwrap();
        }
        ringfence.restart(&hosts.pbx).unwrap();
        let bans = ringfence.bans().unwrap();
        let now: BTreeSet<String> = bans.into_iter().map(|ban| ban.network).collect();
        let lost: Vec<_> = expected.difference(&now).collect();
        assert!(
            lost.is_empty(),
            "kill {kill} after {pause} ms ({chance:?}) lost {lost:?}\n{}",
            ringfence.log()
        );
        let status: Value = ringfence.client().ask(&["status"]).unwrap();
        assert_eq!(status["store"]["state"], "ok", "{status}");
        expected = now;
    }
    assert!(expected.len() > 20, "only {} bans were entered", expected.len());
    // Lifted bans stay lifted.
    ringfence.client().run(&["unban", "--all"], false).unwrap().success("unban").unwrap();
    ringfence.kill().unwrap();
    ringfence.detach().unwrap();
    ringfence.restart(&hosts.pbx).unwrap();
    assert!(ringfence.bans().unwrap().is_empty());
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn bans_outlast_pins_of_another_version() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let hosts = Hosts::new().unwrap();
    let mut ringfence = daemon(&hosts);
    ban_some(&ringfence, 3);
    for network in ["198.51.100.128/25", "2001:db8:7::/64"] {
        ringfence.client().run(&["ban", network], false).unwrap().success("ban").unwrap();
    }
    let banned = |ringfence: &Ringfence| -> BTreeSet<String> {
        ringfence.bans().unwrap().into_iter().map(|ban| ban.network).collect()
    };
    let before = banned(&ringfence);
    assert_eq!(before.len(), 5);
    let pins = ringfence.pins();
    let pin = |name: &str| pins.iter().find(|pin| pin.ends_with(name)).unwrap();
    // Whether it was killed or told to stop, what is pinned stays.
    ringfence.kill().unwrap();
    let map = Map::from_map_data(MapData::from_pin(pin("CONFIG")).unwrap()).unwrap();
    let mut config = Array::<_, Configs>::try_from(map).unwrap();
    let mut configs = config.get(&0, 0).unwrap();
    for side in &mut configs.sides {
        side.abi_version = ABI_VERSION - 1;
    }
    config.set(0, configs, 0).unwrap();
    // Tables of another shape as well.
    for table in ["BANS_V4", "BANS_V6", "PRESENCE", "BAN_NETS"] {
        fs::remove_file(pin(table)).unwrap();
        MapData::from_pin(pin("CONFIG")).unwrap().pin(pin(table)).unwrap();
    }
    ringfence.restart(&hosts.pbx).unwrap();
    assert_eq!(banned(&ringfence), before, "{}", ringfence.log());
    assert!(ringfence.log().contains("of another version"), "{}", ringfence.log());
    // And the program that is attached now knows them.
    let program = Program::from_pin(pin("program-0-eth0")).unwrap();
    for (source, action) in [
        ("10.0.0.2", Action::Drop),
        ("198.51.100.200", Action::Drop),
        ("2001:db8:7::1", Action::Drop),
        ("198.51.100.7", Action::Pass),
    ] {
        let source: IpAddr = source.parse().unwrap();
        let frame = Frame::from(source).payload("OPTIONS sip:a SIP/2.0\r\n\r\n").build();
        assert_eq!(program.run(&frame, 1).unwrap(), action, "{source}\n{}", ringfence.log());
    }
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a mount namespace"]
fn a_host_that_comes_up_with_a_disk_that_cannot_be_written_has_its_bans() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let run = || {
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let hosts = Hosts::new().unwrap();
        let mut ringfence = daemon(&hosts);
        let state = ringfence.config_file().with_file_name("state");
        ban_some(&ringfence, 50);
        ringfence.kill().unwrap();
        ringfence.detach().unwrap().success("detach").unwrap();
        mount(Some(&state), &state, none, MsFlags::MS_BIND, none).unwrap();
        let unwritable = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
        mount(none, &state, none, unwritable, none).unwrap();
        ringfence.restart(&hosts.pbx).unwrap();
        assert_eq!(ringfence.bans().unwrap().len(), 50, "{}", ringfence.log());
        let status: Value = ringfence.client().ask(&["status"]).unwrap();
        assert_eq!(status["store"]["state"], "failed", "{status}");
        ringfence.stop().unwrap();
        umount(&state).unwrap();
        drop((ringfence, hosts));
    };
    thread::scope(|scope| scope.spawn(run).join().unwrap());
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_is_lost_while_the_daemon_runs_is_written_anew() {
    type Harm = fn(&Path);
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let harms: [(&str, Harm); 3] = [
        ("taken away", |state| {
            fs::remove_file(state.join(format!("{}-wal", store::FILE))).unwrap();
        }),
        ("changed by another process", |state| fs::write(state.join(store::FILE), "").unwrap()),
        ("taken away", |state| fs::rename(state, state.with_extension("renamed")).unwrap()),
    ];
    let hosts = Hosts::new().unwrap();
    let mut ringfence = daemon(&hosts);
    let state = ringfence.config_file().with_file_name("state");
    ban_some(&ringfence, 20);
    for (sign, harm) in harms {
        let before = ringfence.log().matches(sign).count();
        harm(&state);
        let is_said = || ringfence.log().matches(sign).count() > before;
        assert!(until(Duration::from_secs(5), is_said), "{sign}: {}", ringfence.log());
        let works = || {
            let status: Value = ringfence.client().ask(&["status"]).unwrap();
            status["store"]["state"] == "ok" && status["store"]["pending"] == 0
        };
        assert!(until(Duration::from_secs(10), works), "{sign}: {}", ringfence.log());
        thread::sleep(Duration::from_millis(500));
        ringfence.kill().unwrap();
        ringfence.detach().unwrap().success("detach").unwrap();
        ringfence.restart(&hosts.pbx).unwrap();
        assert_eq!(ringfence.bans().unwrap().len(), 20, "{sign}: {}", ringfence.log());
    }
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

/// The reports that a client has received.
#[derive(Default)]
struct Reported {
    there: Vec<String>,
    gone: Vec<String>,
}

/// Bans one address after the other, lifts some of them, and lists the bans, until the controller is
/// gone.
fn report(client: &Client, place: u32, next: &AtomicU32, over: &AtomicBool) -> Reported {
    let mut reported = Reported::default();
    while !over.load(Ordering::Relaxed) {
        let number = next.fetch_add(1, Ordering::Relaxed);
        let address = IpAddr::from((0x0a00_0000 | number).to_be_bytes()).to_string();
        let done = |arguments: &[&str]| {
            client.run(arguments, false).is_ok_and(|finished| finished.status.success())
        };
        if done(&["ban", &address]) {
            if !number.is_multiple_of(5) {
                reported.there.push(address);
            } else if done(&["unban", &address]) {
                reported.gone.push(address);
            }
        }
        if place == 0 && number.is_multiple_of(7) {
            let listed = client.bans().unwrap_or_default();
            // Bans by other clients may be lifted meanwhile.
            let stays = |network: &String| !number_of(network).is_multiple_of(5);
            reported.there.extend(listed.into_iter().map(|ban| ban.network).filter(stays));
        }
    }
    reported
}

fn number_of(address: &str) -> u32 {
    let octets = address.split('.').filter_map(|octet| octet.parse::<u32>().ok());
    octets.fold(0, |number, octet| number << 8 | octet) & 0x00ff_ffff
}

#[test]
#[ignore = "requires root: a disk of its own in a mount namespace"]
fn a_full_disk_is_waited_for() {
    on_a_small_disk(|disk| {
        let started = start(disk);
        put(&started.store, 0..10);
        wait(&started.store).unwrap();
        let filler = disk.join("filler");
        fill(&filler);
        put(&started.store, 10..5000);
        let why = wait(&started.store).unwrap_err();
        assert!(why.contains("full") && why.contains("make room"), "{why}");
        let status = started.store.status();
        assert_eq!(status.failed, Some(why));
        assert!(status.pending >= 4000, "{status:?}");
        // Removes an entry that was written, and one that was not.
        started.store.remove(entry(3).key());
        started.store.remove(entry(3000).key());
        fs::remove_file(filler).unwrap();
        assert!(until(Duration::from_secs(20), || started.store.status().failed.is_none()));
        wait(&started.store).unwrap();
        assert_eq!(started.store.status().pending, 0);
        end(started);
        let again = start(disk);
        let kept = again.kept.as_ref().unwrap();
        let expected: Vec<Entry> =
            (0..5000).filter(|n| ![3, 3000].contains(n)).map(entry).collect();
        assert_eq!(kept.bans.len(), expected.len());
        assert!(kept.bans.iter().map(Entry::key).eq(expected.iter().map(Entry::key)));
        end(again);
    });
}

#[test]
#[ignore = "requires root: a disk of its own in a mount namespace"]
fn a_disk_that_cannot_be_written_is_read_and_waited_for() {
    on_a_small_disk(|disk| {
        let started = start(disk);
        put(&started.store, 0..10);
        wait(&started.store).unwrap();
        // The disk's state when the host loses power.
        let cut = disk.join("cut off?");
        fs::create_dir(&cut).unwrap();
        for name in [store::FILE.to_owned(), format!("{}-wal", store::FILE)] {
            fs::copy(disk.join(&name), cut.join(&name)).unwrap();
        }
        end(started);
        remount(disk, MsFlags::MS_RDONLY);
        // Changes that are only in SQLite's log are read too.
        let later = start(&cut);
        assert_eq!(later.kept.as_ref().unwrap().bans.len(), 10);
        // The store cannot be written, and reports this.
        assert!(until(Duration::from_secs(20), || later.store.status().failed.is_some()));
        assert!(later.store.status().failed.unwrap().contains("Read-only"));
        let started = start(disk);
        assert_eq!(started.kept.as_ref().unwrap().bans.len(), 10);
        put(&started.store, 10..20);
        let why = wait(&started.store).unwrap_err();
        assert!(why.contains("Read-only") || why.contains("writable"), "{why}");
        remount(disk, MsFlags::empty());
        assert!(until(Duration::from_secs(20), || started.store.status().failed.is_none()));
        end(started);
        let again = start(disk);
        assert_eq!(again.kept.as_ref().unwrap().bans.len(), 20);
        end(again);
        assert!(until(Duration::from_secs(20), || later.store.status().failed.is_none()));
        put(&later.store, 20..30);
        wait(&later.store).unwrap();
        end(later);
        let again = start(&cut);
        assert_eq!(again.kept.as_ref().unwrap().bans.len(), 20);
        end(again);
    });
}

/// Runs `test` with a disk of 1 MiB that no other process sees.
fn on_a_small_disk(test: impl FnOnce(&Path) + Send) {
    let directory = scratch::directory("disk").unwrap();
    thread::scope(|scope| {
        let run = || {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            mount(
                Some("tmpfs"),
                directory.path(),
                Some("tmpfs"),
                MsFlags::empty(),
                Some("size=1m"),
            )
            .unwrap();
            test(directory.path());
            umount(directory.path()).unwrap();
        };
        scope.spawn(run).join().unwrap();
    });
}

fn remount(disk: &Path, flags: MsFlags) {
    mount(None::<&str>, disk, None::<&str>, MsFlags::MS_REMOUNT | flags, Some("size=1m")).unwrap();
}

fn fill(path: &Path) {
    let mut size = 1 << 20;
    while size >= 1024 {
        let old = fs::read(path).unwrap_or_default();
        if fs::write(path, vec![0; old.len() + size]).is_err() {
            fs::write(path, old).unwrap();
            size /= 2;
        }
    }
}

fn start(disk: &Path) -> Started {
    let directory = disk.to_owned();
    store::start(store::Settings {
        directory,
        memory: "/dev/shm".into(),
        names: Names::default(),
        offenders: Bounds::from(&Settings::default()),
        findtime: Duration::from_mins(10),
        clock: filter_user::clock::of_boot,
    })
    .unwrap()
}

fn end(started: Started) {
    started.store.end();
    started.thread.join().unwrap();
}

fn entry(number: u16) -> Entry {
    let [high, low] = number.to_be_bytes();
    let network = IpAddr::from([10, 0, high, low]).into();
    let until = Some(filter_user::clock::now().after(Duration::from_hours(1)));
    let ban = Ban { network, scope: Scope::Sip, origin: Origin::Manual, since: Moment(0), until };
    Entry::new(ban, "because")
}

fn put(store: &Store, numbers: std::ops::Range<u16>) {
    for number in numbers {
        store.put(&entry(number), true, None);
    }
}

fn wait(store: &Store) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.settled())
}

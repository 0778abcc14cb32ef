use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use super::database::Database;
use super::*;
use detection::ban::Ban;
use detection::clock::{KernelTime, Moment};
use detection::failure::{Attempt, Class, Transport, Verdict};
use detection::jail::Evidence;
use detection::settings::Scope;

const SECOND: u64 = 1_000_000_000;

const FINDTIME: Duration = Duration::from_mins(1);

fn clock(boot: &str, kernel: u64, wall: i64) -> Clock {
    Clock::at(boot, KernelTime(kernel * SECOND), Timestamp::from_second(wall).unwrap())
}

/// A hundred seconds after the boot.
fn first_boot() -> Clock {
    clock("first", 100, 1000)
}

/// Ten seconds after the next boot, a minute later.
fn second_boot() -> Clock {
    clock("second", 10, 1060)
}

fn open(directory: &TempDir, clock: fn() -> Clock) -> Started {
    open_with(directory, clock, Arc::default())
}

fn open_with(directory: &TempDir, clock: fn() -> Clock, jails: Arc<Roster>) -> Started {
    started_at(directory.path(), clock, jails)
}

fn open_at(directory: &Path) -> Started {
    started_at(directory, first_boot, Arc::default())
}

fn started_at(directory: &Path, clock: fn() -> Clock, jails: Arc<Roster>) -> Started {
    let directory = directory.to_owned();
    let names = Names { jails, ..Names::default() };
    let offenders = Bounds { capacity: 100, remember: Duration::from_secs(1000) };
    let memory = directory.clone();
    start(Settings { directory, memory, names, offenders, findtime: FINDTIME, clock }).unwrap()
}

/// Ends the store, and waits until its file is closed.
fn end(started: Started) {
    started.store.end();
    started.thread.join().unwrap();
}

fn wait(store: &Store) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.settled())
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn entry(network: &str, origin: Origin, until: Option<u64>) -> Entry {
    let until = until.map(|second| KernelTime(second * SECOND));
    let since = Moment(i64::try_from(90 * SECOND).unwrap());
    let ban = Ban { network: network.parse().unwrap(), scope: Scope::Sip, origin, since, until };
    Entry::new(ban, "because")
}

fn failures() -> Vec<Evidence> {
    let failure = |second: u64| Evidence {
        source: "asterisk-notice",
        at: KernelTime(second * SECOND).into(),
        address: Some([192, 0, 2, 1].into()),
        class: Class::WrongCredential,
        account: Some("1001".into()),
        proven: false,
    };
    vec![failure(89), failure(90)]
}

/// The record of 192.0.2.LAST.
fn look_up(store: &Store, last: u8) -> Found {
    let address = IpAddr::from([192, 0, 2, last]);
    store.look_up(address, address.into()).blocking_recv().unwrap()
}

fn fill(directory: &TempDir, bans: &[Entry]) {
    let started = open(directory, first_boot);
    assert!(started.kept.as_ref().unwrap().bans.is_empty());
    for ban in bans {
        started.store.put(ban, true, None);
    }
    wait(&started.store).unwrap();
    end(started);
}

fn networks(kept: &Kept) -> Vec<String> {
    kept.bans.iter().map(|entry| entry.ban.network.to_string()).collect()
}

/// This many bans, in order.
fn many(count: u16) -> Vec<Entry> {
    let network = |n: u16| format!("203.0.{}.{}/32", n >> 8, n & 255);
    (0..count).map(|n| entry(&network(n), Origin::Jail(0), Some(900))).collect()
}

fn aside(directory: &TempDir) -> Vec<String> {
    let names = fs::read_dir(directory.path()).unwrap();
    let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.contains(".broken-")).collect()
}

#[test]
fn bans_are_read_back_as_they_were() {
    let directory = TempDir::new().unwrap();
    let bans = [
        entry("192.0.2.0/24", Origin::Manual, None)
            .with_except(vec!["192.0.2.7/32".parse().unwrap(), "192.0.2.64/28".parse().unwrap()]),
        entry("192.0.2.1/32", Origin::Jail(0), Some(160)),
        entry("2001:db8::1/128", Origin::Jail(0), Some(150)),
    ];
    fill(&directory, &bans);
    let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let started = open(&directory, first_boot);
    assert_eq!(started.kept.as_ref().unwrap().bans, bans);
    started.store.remove(bans[1].key());
    started.store.put(&entry("192.0.2.0/24", Origin::Manual, Some(500)), false, None);
    wait(&started.store).unwrap();
    end(started);
    let started = open(&directory, first_boot);
    let kept = started.kept.as_ref().unwrap();
    assert_eq!(networks(kept), ["192.0.2.0/24", "2001:db8::1/128"]);
    assert_eq!(kept.bans[0].ban.until, Some(KernelTime(500 * SECOND)));
    assert!(kept.bans[0].except().is_empty());
    end(started);
}

#[test]
fn bans_keep_the_name_of_their_jail() {
    let directory = TempDir::new().unwrap();
    let jails = Arc::new(Roster::new(["apache", "web"]));
    let started = open_with(&directory, first_boot, Arc::clone(&jails));
    let web = jails.origin("web").unwrap();
    started.store.put(&entry("192.0.2.1/32", web, None), true, None);
    wait(&started.store).unwrap();
    end(started);
    // One jail no longer exists, and another has its number.
    let jails = Arc::new(Roster::new(["apache", "ftp"]));
    assert_eq!(jails.name(web), "ftp");
    let started = open_with(&directory, first_boot, Arc::clone(&jails));
    let bans = &started.kept.as_ref().unwrap().bans;
    assert_eq!(jails.name(bans[0].ban.origin), "web");
    started.store.remove(bans[0].key());
    wait(&started.store).unwrap();
    end(started);
    let started = open(&directory, first_boot);
    assert!(started.kept.as_ref().unwrap().bans.is_empty());
    end(started);
}

#[test]
fn bans_outlive_a_reboot_until_they_end() {
    let directory = TempDir::new().unwrap();
    let bans = [
        entry("192.0.2.1/32", Origin::Manual, None),
        entry("192.0.2.2/32", Origin::Jail(0), Some(155)),
        entry("192.0.2.3/32", Origin::Jail(0), Some(200)),
    ];
    fill(&directory, &bans);
    let started = open(&directory, second_boot);
    let kept = started.kept.as_ref().unwrap();
    assert_eq!(networks(kept), ["192.0.2.1/32", "192.0.2.3/32"]);
    assert_eq!(kept.ended, [bans[1].key()]);
    // It had 100 s left at the start of this minute, and now has 40 s.
    assert_eq!(kept.bans[1].ban.until, Some(KernelTime(50 * SECOND)));
    // 70 s ago, which is a minute before this boot.
    assert_eq!(kept.bans[1].ban.since, Moment(-60 * 1_000_000_000));
    // Written again in this boot, it is still the same.
    let again = kept.bans[1].clone();
    started.store.put(&again, false, None);
    wait(&started.store).unwrap();
    end(started);
    let started = open(&directory, second_boot);
    assert_eq!(started.kept.as_ref().unwrap().bans[1], again);
    end(started);
}

#[test]
fn setting_the_wall_clock_corrects_the_stored_times() {
    let directory = TempDir::new().unwrap();
    let mut database =
        Database::open(&directory.path().join(FILE), first_boot(), FINDTIME).unwrap();
    let names = Names::default();
    let batch = |n: u64| {
        let shared = Shared::new(PathBuf::new(), watch::channel(Progress::default()).0);
        let ban = entry(&format!("192.0.2.{n}/32"), Origin::Manual, Some(200));
        shared.change(|pending| pending.put(&ban, true, None));
        shared.take()
    };
    database.write(&batch(1), &names, &first_boot()).unwrap();
    // Ten seconds later, the clock turns out to have been an hour slow.
    database.write(&batch(2), &names, &clock("first", 110, 4610)).unwrap();
    drop(database);
    // A second after that, the host boots again.
    let mut database =
        Database::open(&directory.path().join(FILE), clock("second", 1, 4611), FINDTIME).unwrap();
    let kept = database.load(&names).unwrap().kept;
    let ends: Vec<_> = kept.bans.iter().map(|entry| entry.ban.until.unwrap().0 / SECOND).collect();
    assert_eq!(ends, [90, 90]);
}

#[test]
fn evidence_and_history_are_read_on_request() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    let ban = entry("192.0.2.1/32", Origin::Jail(0), Some(160)).with_evidence(failures());
    for _ in 0..2 {
        started.store.put(&ban, true, Some("said".to_owned()));
        wait(&started.store).unwrap();
    }
    let found = look_up(&started.store, 1);
    assert_eq!(found.evidence[0].jail, "asterisk-wazo");
    let second = &found.evidence[0].failures[1];
    assert_eq!(second["time"], "1970-01-01T00:16:30Z");
    assert_eq!(
        (&second["class"], &second["account"]),
        (&"wrong-credential".into(), &"1001".into())
    );
    assert_eq!(found.offences, []);
    assert_eq!(second["address"], "192.0.2.1");
    // The ban and its evidence are deleted; the history stays.
    started.store.remove(ban.key());
    started.store.set_offences(offender(1, 0), record(3, 2, 90));
    wait(&started.store).unwrap();
    let found = look_up(&started.store, 1);
    let last = "1970-01-01T00:16:30Z".to_owned();
    let offences = Offences { jail: "asterisk-wazo".to_owned(), bans: 3, proven: 2, last };
    assert_eq!((found.evidence, found.offences), (vec![], vec![offences]));
    end(started);
}

fn offender(last: u8, jail: u8) -> Offender {
    Offender { address: IpAddr::from([192, 0, 2, last]), jail }
}

/// The last of these bans came at this second of the first boot, and lasts for 20 s.
fn record(bans: u32, proven: u32, second: i64) -> Record {
    let at = |second: i64| Moment(second * 1_000_000_000);
    let last_proven = (proven > 0).then(|| at(second));
    Record { bans, proven, last: at(second), until: at(second + 20), last_proven }
}

#[test]
fn earlier_bans_are_kept_until_they_are_pardoned() {
    let directory = TempDir::new().unwrap();
    let six = Offender { address: "2001:db8::1".parse().unwrap(), jail: 0 };
    let all = [(offender(1, 0), 1), (offender(1, 1), 2), (offender(200, 1), 3), (six, 4)];
    let kept = |started: &Started| {
        let mut kept = started.kept.as_ref().unwrap().offences.clone();
        kept.sort_by_key(|(who, _)| *who);
        kept
    };
    let started = open(&directory, first_boot);
    for (who, bans) in all {
        started.store.set_offences(who, record(bans, 1, 90));
    }
    // The latest state counts.
    started.store.set_offences(six, record(5, 0, 95));
    wait(&started.store).unwrap();
    end(started);

    // A minute later, after a reboot: 70 s ago, and 50 s since its end.
    let started = open(&directory, second_boot);
    let second = |who, record: Record, second: i64| {
        let at = |second: i64| Moment(second * 1_000_000_000);
        let last_proven = record.last_proven.map(|_| at(second));
        (who, Record { last: at(second), until: at(second + 20), last_proven, ..record })
    };
    let mut expected: Vec<_> =
        all.into_iter().map(|(who, bans)| second(who, record(bans, 1, 90), -60)).collect();
    expected[3] = second(six, record(5, 0, 95), -55);
    assert_eq!(kept(&started), expected);
    let pardon = |network: Option<&str>, jail| {
        started.store.pardon(Pardon { network: network.map(|net| net.parse().unwrap()), jail });
    };
    pardon(Some("192.0.2.0/25"), Some(1));
    pardon(Some("2001:db8::/64"), None);
    // Bans after a pardon count.
    pardon(Some("192.0.2.200/32"), None);
    started.store.set_offences(offender(200, 1), record(1, 1, -60));
    wait(&started.store).unwrap();
    end(started);
    let started = open(&directory, second_boot);
    expected = vec![expected[0], second(offender(200, 1), record(1, 1, 0), -60)];
    assert_eq!(kept(&started), expected);
    started.store.pardon(Pardon { network: None, jail: None });
    wait(&started.store).unwrap();
    end(started);
    let started = open(&directory, second_boot);
    assert_eq!(kept(&started), []);
    end(started);
}

#[test]
fn old_offenders_and_those_beyond_the_bound_are_forgotten() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let mut database = Database::open(&path, first_boot(), FINDTIME).unwrap();
    let shared = Shared::new(PathBuf::new(), watch::channel(Progress::default()).0);
    shared.change(|pending| {
        for n in 0..10 {
            pending.set_offences(offender(n, 0), record(1, u32::from(n == 0), i64::from(n) * 10));
        }
    });
    let names = Names::default();
    database.write(&shared.take(), &names, &first_boot()).unwrap();
    // The bans of these ended at 20 s, 30 s, ...; it is 100 s.
    let mut left = |capacity, seconds| {
        let remember = Duration::from_secs(seconds);
        database.tidy(&Bounds { capacity, remember }, &first_boot()).unwrap();
        let kept = database.load(&names).unwrap().kept.offences;
        let mut kept: Vec<u8> = kept
            .iter()
            .map(|(who, _)| if let IpAddr::V4(v4) = who.address { v4.octets()[3] } else { 0 })
            .collect();
        kept.sort_unstable();
        kept
    };
    assert_eq!(left(8, 1000), [0, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(left(8, 40), [4, 5, 6, 7, 8, 9]);
}

#[test]
fn records_of_offenders_wait_for_the_disk_too() {
    let store = Store::nowhere();
    for n in 0..4 {
        store.set_offences(offender(n, 0), record(1, 0, 90));
    }
    let pardon = |last| Pardon { network: Some(offender(last, 0).address.into()), jail: None };
    store.pardon(pardon(9));
    let batch = store.shared.take();
    assert_eq!((batch.offences.len(), &batch.pardons[..]), (4, &[pardon(9)][..]));
    // Meanwhile one address is banned again, one is pardoned, and one is pardoned and banned again.
    store.set_offences(offender(1, 0), record(2, 0, 95));
    store.pardon(pardon(2));
    store.pardon(pardon(3));
    store.set_offences(offender(3, 0), record(1, 1, 95));
    store.shared.failed(batch, true, "full");
    let batch = store.shared.take();
    assert_eq!(batch.pardons, [pardon(9), pardon(2), pardon(3)]);
    let mut offences: Vec<_> = batch.offences.into_iter().collect();
    offences.sort_by_key(|(who, _)| *who);
    let expected = [
        (offender(0, 0), record(1, 0, 90)),
        (offender(1, 0), record(2, 0, 95)),
        (offender(3, 0), record(1, 1, 95)),
    ];
    assert_eq!(offences, expected);
}

#[test]
fn positions_are_kept() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    for n in 0..=POSITIONS_MAX {
        started.store.set_position(&format!("{n:03}"), vec![0]);
    }
    started.store.set_position("000", vec![1, 2, 3]);
    started.store.set_position(&"x".repeat(POSITION_KEY_MAX + 1), vec![1]);
    end(started);
    let started = open(&directory, first_boot);
    let positions = &started.kept.as_ref().unwrap().positions;
    assert_eq!((positions.len(), &positions["000"]), (POSITIONS_MAX, &vec![1, 2, 3]));
    end(started);
}

#[test]
fn positions_in_files_are_imported_once() {
    let directory = TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(format!("{name}.position"));
    fs::write(file("sshd"), "there").unwrap();
    fs::write(file("wazo-provd"), "x".repeat(POSITION_MAX + 1)).unwrap();
    let started = open(&directory, first_boot);
    let there = BTreeMap::from([("sshd".to_owned(), b"there".to_vec())]);
    assert_eq!(started.kept.as_ref().unwrap().positions, there);
    assert!(!file("sshd").exists() && !file("wazo-provd").exists());
    started.store.set_position("sshd", b"further".to_vec());
    end(started);
    // A file that is put there again is older than the store's position.
    fs::write(file("sshd"), "there").unwrap();
    let started = open(&directory, first_boot);
    assert_eq!(started.kept.as_ref().unwrap().positions["sshd"], b"further");
    end(started);
}

fn jail_records(second: u64) -> JailRecord {
    let attempt = Attempt {
        account: Some("1001\u{fffd}\"".to_owned()),
        port: Some(5060),
        proven: true,
        transport: Some(Transport::Tls),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, [192, 0, 2, 66].into())
    };
    let what = match second % 3 {
        0 => Content::Attempt { source: "asterisk-ami".into(), attempt },
        1 => Content::Proven([192, 0, 2, 66].into(), Class::Acl),
        _ => Content::Forgotten("2001:db8::/32".parse().unwrap()),
    };
    JailRecord { at: KernelTime(second * SECOND), jail: "asterisk-wazo".into(), what }
}

#[test]
fn the_record_of_the_jails_is_kept_for_this_boot() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    for second in 30..100 {
        started.store.record(jail_records(second));
    }
    end(started);
    // At 100 s, a record that is a minute old no longer counts.
    let started = open(&directory, first_boot);
    let expected: Vec<JailRecord> = (41..100).map(jail_records).collect();
    assert_eq!(started.kept.as_ref().unwrap().jail_records, expected);
    end(started);
    let started = open(&directory, second_boot);
    assert!(started.kept.as_ref().unwrap().jail_records.is_empty());
    end(started);
}

#[test]
fn only_the_latest_records_of_the_jails_are_kept() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    for part in [JAIL_RECORDS_MAX / 2, JAIL_RECORDS_MAX, JAIL_RECORDS_MAX / 2] {
        for _ in 0..part {
            started.store.record(jail_records(90));
        }
        // A position on its own must wait; a ban is written at once.
        started.store.put(&entry("192.0.2.1/32", Origin::Manual, None), true, None);
        wait(&started.store).unwrap();
    }
    started.store.record(jail_records(91));
    end(started);
    let started = open(&directory, first_boot);
    let kept = &started.kept.as_ref().unwrap().jail_records;
    assert_eq!(kept.last(), Some(&jail_records(91)));
    assert!((JAIL_RECORDS_MAX..=JAIL_RECORDS_MAX + 8193).contains(&kept.len()), "{}", kept.len());
    end(started);
}

#[test]
fn a_record_that_may_have_been_written_is_not_replayed_twice() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let mut database = Database::open(&path, first_boot(), FINDTIME).unwrap();
    let (store, names) = (Store::nowhere(), Names::default());
    // Within one tick of the clock, as most of them are.
    (0..9)
        .for_each(|n| store.record(JailRecord { at: KernelTime(90 * SECOND), ..jail_records(n) }));
    for _ in 0..2 {
        let batch = store.shared.take();
        database.write(&batch, &names, &first_boot()).unwrap();
        store.shared.failed(batch, true, "cut off");
    }
    let kept = database.load(&names).unwrap().kept.jail_records;
    assert!(
        kept.into_iter()
            .map(|jail_records| jail_records.what)
            .eq((0..9).map(|n| jail_records(n).what))
    );
}

#[test]
fn changes_decided_together_are_written_together() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    let hold = started.store.hold();
    started.store.put(&entry("192.0.2.1/32", Origin::Manual, None), true, None);
    // Longer than a position waits for other changes.
    std::thread::sleep(Duration::from_millis(1500));
    assert_eq!(started.store.status().pending, 1);
    started.store.set_position("sshd", b"there".to_vec());
    drop(hold);
    wait(&started.store).unwrap();
    assert!(
        started.store.shared.take().positions.is_empty(),
        "it has not been written with the ban"
    );
    end(started);
}

#[test]
fn a_ban_that_began_and_ended_unwritten_leaves_nothing() {
    let store = Store::nowhere();
    store.shared.change(pending::Pending::set_read);
    for ban in many(1000) {
        store.put(&ban, true, None);
        store.remove(ban.key());
    }
    assert_eq!(store.status().pending, 0);
    // A ban that the file may have must be deleted there.
    let ban = entry("192.0.2.1/32", Origin::Manual, None);
    store.put(&ban, false, None);
    store.remove(ban.key());
    assert_eq!(store.status().pending, 1);
    // The kernel's own bans are not stored.
    store.put(&entry("192.0.2.2/32", Origin::Flood, None), true, None);
    assert_eq!(store.status().pending, 1);
}

#[test]
fn unwritten_changes_are_put_back_unless_there_are_newer_ones() {
    let store = Store::nowhere();
    store.shared.change(pending::Pending::set_read);
    let bans = many(3);
    for ban in &bans {
        store.put(ban, true, Some("said".to_owned()));
    }
    (0..3).for_each(|second| store.record(jail_records(second)));
    let batch = store.shared.take();
    store.record(jail_records(3));
    // Meanwhile one ban is lifted and another is decided again.
    store.remove(bans[0].key());
    let newer = Entry::new(bans[1].ban, "newer");
    store.put(&newer, false, None);
    store.shared.failed(batch, false, "full");
    assert_eq!(store.status().failed.as_deref(), Some("full"));
    let batch = store.shared.take();
    assert!(!batch.bans.contains_key(&bans[0].key()), "the file never had it");
    let put = |ban: &Entry| match &batch.bans[&ban.key()] {
        pending::Change::Put { entry, fresh } => (&*entry.reason, *fresh),
        pending::Change::Remove => panic!("removed"),
    };
    assert_eq!(put(&bans[1]), ("newer", true));
    assert_eq!(put(&bans[2]), ("because", true));
    assert!(
        batch
            .jail_records
            .into_iter()
            .map(|(_, jail_records)| jail_records)
            .eq((0..4).map(jail_records))
    );
}

#[test]
fn an_older_file_is_migrated_to_this_version() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let mut old = Connection::open(&path).unwrap();
    schema::migrate_to(&mut old, 1).unwrap();
    old.execute_batch(
        "INSERT INTO clocks VALUES (7, 'first', 900000000000);
         INSERT INTO bans VALUES
             (x'04c000020120', 'asterisk-wazo', 'sip', 990000000000, NULL, 7, 'of old', NULL),
             (x'04c000020118', 'manual', 'all', 990000000000, NULL, 7, 'no network', NULL),
             (x'04c000020220', 'manual', 'telnet', 990000000000, NULL, 7, 'no scope', NULL);",
    )
    .unwrap();
    drop(old);
    let started = open(&directory, first_boot);
    let kept = started.kept.as_ref().unwrap();
    assert_eq!(networks(kept), ["192.0.2.1/32"]);
    assert_eq!(&*kept.bans[0].reason, "of old");
    let found = look_up(&started.store, 1);
    assert_eq!((&*found.offences[0].jail, found.offences[0].bans), ("", 1));
    assert_eq!(kept.offences, [], "whose they are is not known");
    end(started);
    let now = Connection::open(&path).unwrap();
    let version: u32 = now.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    let rows: u32 = now.query_row("SELECT count(*) FROM bans", [], |row| row.get(0)).unwrap();
    assert_eq!(
        (version, rows),
        (u32::try_from(schema::VERSION).unwrap(), 3),
        "what is not understood stays"
    );
    assert_eq!(aside(&directory), [""; 0]);
}

/// The ways to break a file, and how many of a thousand bans must still be readable.
#[test]
fn a_broken_file_is_moved_aside_and_replaced() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm, usize); 6] = [
        ("garbage", |path| fs::write(path, [0x5a; 10_000]).unwrap(), 0),
        ("an empty header", |path| fs::write(path, [0; 4096]).unwrap(), 0),
        (
            "truncated",
            |path| {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                file.set_len(file.metadata().unwrap().len() / 2 / 4096 * 4096).unwrap();
            },
            0,
        ),
        (
            "a page of garbage in the middle",
            |path| {
                let file = fs::OpenOptions::new().write(true).open(path).unwrap();
                // The last page of a table that only grew at its end is its last leaf.
                let middle = file.metadata().unwrap().len() / 4096 / 2 * 4096;
                file.write_all_at(&[0xff; 4096], middle).unwrap();
            },
            700,
        ),
        (
            "a newer version",
            |path| {
                let file = Connection::open(path).unwrap();
                file.pragma_update(None, "user_version", 1000).unwrap();
            },
            1000,
        ),
        (
            "the file of something else",
            |path| {
                fs::remove_file(path).unwrap();
                Connection::open(path).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
            },
            0,
        ),
    ];
    for (what, harm, readable) in harms {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join(FILE);
        fill(&directory, &many(1000));
        harm(&path);
        let harmed = fs::read(&path).unwrap();
        let mut started = open(&directory, first_boot);
        let kept = started.kept.as_ref().unwrap();
        assert!(kept.bans.len() >= readable, "{what}: {} bans", kept.bans.len());
        assert!(kept.bans.is_sorted_by_key(Entry::key), "{what}");
        // All of them must be written to the new file.
        assert!(matches!(started.news.blocking_recv(), Some(News::WantsAll)), "{what}");
        started.store.put(&entry("192.0.2.1/32", Origin::Manual, None), true, None);
        wait(&started.store).unwrap();
        assert_eq!(started.store.status().failed, None, "{what}");
        end(started);
        let names = aside(&directory);
        let [name] = &names[..] else { panic!("{what}: {names:?}") };
        let aside = fs::read(directory.path().join(name)).unwrap();
        assert!(aside == harmed, "{what}: it is not as it was");
        let started = open(&directory, first_boot);
        assert_eq!(networks(started.kept.as_ref().unwrap()), ["192.0.2.1/32"], "{what}");
        end(started);
    }
}

#[test]
fn a_file_that_is_taken_away_is_made_anew() {
    let directory = TempDir::new().unwrap();
    let mut started = open(&directory, first_boot);
    started.store.put(&entry("192.0.2.1/32", Origin::Manual, None), true, None);
    wait(&started.store).unwrap();
    fs::remove_file(directory.path().join(FILE)).unwrap();
    let _first = fs::remove_file(directory.path().join(format!("{FILE}-wal")));
    started.store.put(&entry("192.0.2.2/32", Origin::Manual, None), true, None);
    let why = wait(&started.store).unwrap_err();
    assert!(why.contains("taken away"), "{why}");
    assert!(matches!(started.news.blocking_recv(), Some(News::WantsAll)));
    until("the store works again", || started.store.status().failed.is_none());
    end(started);
    let started = open(&directory, first_boot);
    assert_eq!(networks(started.kept.as_ref().unwrap()), ["192.0.2.2/32"]);
    end(started);
}

#[test]
fn a_file_that_another_process_has_open_is_waited_for() {
    let directory = TempDir::new().unwrap();
    fill(&directory, &many(3));
    let other = Connection::open(directory.path().join(FILE)).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE").unwrap();
    let mut started = open(&directory, first_boot);
    assert!(started.kept.is_none());
    let why = started.store.status().failed.unwrap();
    assert!(why.contains("the other process"), "{why}");
    // Changes meanwhile: one ban is lifted, and one is added that the kernel still had.
    let bans = many(3);
    started.store.remove(bans[0].key());
    started.store.put(&Entry::new(bans[1].ban, detection::ban::ADOPTED), true, None);
    drop(other);
    let Some(News::Kept(kept)) = started.news.blocking_recv() else { panic!("nothing was kept") };
    assert_eq!(kept.bans, bans[1..]);
    wait(&started.store).unwrap_or_else(|why| assert!(why.contains("the other process"), "{why}"));
    until("the store works", || started.store.status().failed.is_none());
    end(started);
    let started = open(&directory, first_boot);
    assert_eq!(started.kept.as_ref().unwrap().bans, bans[1..]);
    end(started);
}

#[test]
fn the_log_is_read_from_a_copy() {
    let (directory, cut, memory) =
        (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let started = open(&directory, first_boot);
    for ban in many(10) {
        started.store.put(&ban, true, None);
    }
    wait(&started.store).unwrap();
    for name in [FILE.to_owned(), format!("{FILE}-wal")] {
        fs::copy(directory.path().join(&name), cut.path().join(&name)).unwrap();
    }
    end(started);
    let copy = copy::Copy::make(&cut.path().join(FILE), memory.path()).unwrap();
    let mut database = Database::open(&copy.path(), first_boot(), FINDTIME).unwrap();
    assert_eq!(database.load(&Names::default()).unwrap().kept.bans.len(), 10);
}

#[test]
fn damage_to_the_open_file_is_noticed_and_repaired() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 8] = [
        ("the log is deleted", |file| fs::remove_file(log_of(file)).unwrap()),
        ("the log is cut", |file| {
            let log = fs::File::options().write(true).open(log_of(file)).unwrap();
            log.set_len(log.metadata().unwrap().len() / 2).unwrap();
        }),
        ("the log is emptied", |file| fs::write(log_of(file), "").unwrap()),
        ("the file is cut", |file| {
            fs::File::options().write(true).open(file).unwrap().set_len(4096).unwrap();
        }),
        ("the file is overwritten at its beginning", |file| {
            let file = fs::File::options().write(true).open(file).unwrap();
            file.write_all_at(&[0x55; 4096], 0).unwrap();
        }),
        ("the file is deleted", |file| fs::remove_file(file).unwrap()),
        ("an older file takes its place", |file| {
            let old = file.with_extension("old");
            Connection::open(&old).unwrap().execute_batch("CREATE TABLE t (x)").unwrap();
            fs::rename(old, file).unwrap();
        }),
        ("the directory is renamed", |file| {
            let directory = file.parent().unwrap();
            fs::rename(directory, directory.with_extension("renamed")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let place = TempDir::new().unwrap();
        let state = place.path().join("state");
        fs::create_dir(&state).unwrap();
        let mut started = open_at(&state);
        let bans = many(1100);
        for ban in &bans {
            started.store.put(ban, true, None);
        }
        wait(&started.store).unwrap();
        // Without any change of a ban.
        harm(&state.join(FILE));
        let wants = until_told(&mut started.news);
        assert!(matches!(wants, News::WantsAll), "{what}: {wants:?}");
        for ban in &bans {
            started.store.put(ban, false, None);
        }
        until(what, || started.store.status().failed.is_none());
        wait(&started.store).unwrap();
        // In the state after SIGKILL.
        let killed = TempDir::new().unwrap();
        for path in [state.join(FILE), log_of(&state.join(FILE))] {
            fs::copy(&path, killed.path().join(path.file_name().unwrap())).unwrap();
        }
        end(started);
        let again = open(&killed, first_boot);
        assert_eq!(again.kept.as_ref().unwrap().bans, bans, "{what}");
        end(again);
    }
}

#[test]
fn a_file_that_is_taken_away_loses_no_positions() {
    let of_log: fn(&Path) -> PathBuf = log_of;
    for taken in [of_log, Path::to_owned] {
        let directory = TempDir::new().unwrap();
        let mut started = open(&directory, first_boot);
        started.store.set_position("sshd", b"there".to_vec());
        started.store.record(jail_records(95));
        started.store.put(&entry("192.0.2.1/32", Origin::Manual, None), true, None);
        wait(&started.store).unwrap();
        fs::remove_file(taken(&directory.path().join(FILE))).unwrap();
        assert!(matches!(until_told(&mut started.news), News::WantsAll));
        until("the store works again", || started.store.status().failed.is_none());
        end(started);
        let again = open(&directory, first_boot);
        let kept = again.kept.as_ref().unwrap();
        assert_eq!(kept.positions, BTreeMap::from([("sshd".to_owned(), b"there".to_vec())]));
        assert_eq!(kept.jail_records, [jail_records(95)]);
        end(again);
    }
}

fn log_of(file: &Path) -> PathBuf {
    aside::with(file, "-wal")
}

fn until_told(news: &mut mpsc::Receiver<News>) -> News {
    let mut jail_records = None;
    until("news", || {
        jail_records = news.try_recv().ok();
        jail_records.is_some()
    });
    jail_records.unwrap()
}

#[test]
fn a_file_that_is_left_alone_stays() {
    let directory = TempDir::new().unwrap();
    let mut started = open(&directory, first_boot);
    for ban in many(3) {
        started.store.put(&ban, true, None);
        wait(&started.store).unwrap();
        look_up(&started.store, 1);
    }
    std::thread::sleep(Duration::from_millis(2500));
    assert!(started.news.try_recv().is_err());
    assert_eq!(started.store.status().failed, None);
    end(started);
    assert!(aside(&directory).is_empty());
}

#[test]
fn the_number_of_files_moved_aside_is_bounded() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join(FILE);
    for second in 0..20 {
        for path in [file.clone(), log_of(&file)] {
            fs::write(path, "unusable").unwrap();
        }
        aside::move_aside(&file, Timestamp::from_second(second).unwrap()).unwrap();
    }
    let left = aside(&directory);
    assert_eq!(left.len(), 2 * 8, "{left:?}");
    assert!(left.iter().all(|name| name.contains("T00001")), "{left:?}");
}

#[test]
fn setting_the_wall_clock_corrects_the_stored_times_without_another_write() {
    static WALL: AtomicI64 = AtomicI64::new(1000);
    fn settable() -> Clock {
        clock("first", 100, WALL.load(Ordering::Relaxed))
    }
    let directory = TempDir::new().unwrap();
    let mut started = open(&directory, settable);
    let ban = entry("192.0.2.1/32", Origin::Jail(0), Some(400)).with_evidence(failures());
    started.store.put(&ban, true, None);
    wait(&started.store).unwrap();
    let before = look_up(&started.store, 1).evidence[0].failures.clone();
    // The clock is corrected, and nothing happens until the host boots again.
    WALL.store(1_000_000, Ordering::Relaxed);
    assert!(matches!(until_told(&mut started.news), News::WantsAll));
    end(started);
    let again = open(&directory, || clock("second", 10, 1_000_060));
    let until = again.kept.as_ref().unwrap().bans[0].ban.until;
    assert_eq!(until, Some(KernelTime(250 * SECOND)));
    let mut failures = look_up(&again.store, 1).evidence[0].failures.clone();
    assert_eq!((failures.len(), &failures[0]["time"]), (2, &"1970-01-12T13:46:29Z".into()));
    // Everything else is unchanged.
    for (failure, before) in failures.iter_mut().zip(&before) {
        failure["time"] = before["time"].clone();
    }
    assert_eq!(failures, before);
    end(again);
}

#[test]
fn decisions_and_the_history_are_kept() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    let network = |text: &str| -> IpNet { text.parse().unwrap() };
    let decide = |name: &str, value: Option<&str>| {
        started.store.decide("allow", name, value.map(ToOwned::to_owned));
    };
    decide("a", Some("1"));
    decide("b", Some("2"));
    decide("a", Some("3"));
    decide("b", None);
    decide("long", Some(&"x".repeat(DECISION_MAX + 1)));
    let mut second = 0;
    let mut happened = |network: Option<IpNet>, what: &str| {
        second += 1;
        let at = KernelTime(second * SECOND).into();
        started.store.happened(Event { at, network, is_manual: true, what: what.to_owned() });
    };
    happened(Some(network("192.0.2.7/32")), "one");
    happened(Some(network("192.0.0.0/16")), "two");
    happened(None, "three");
    happened(Some(network("192.0.3.7/32")), "four");
    happened(Some(network("2001:db8::/64")), "five");
    wait(&started.store).unwrap();
    end(started);

    let started = open(&directory, second_boot);
    let kept = started.kept.as_ref().unwrap();
    let decisions: Vec<_> = kept.decisions.iter().map(|((_, name), v)| (&**name, &**v)).collect();
    assert_eq!(decisions, [("a", "3")]);
    let ask = |query: HistoryQuery| -> Vec<String> {
        let found = started.store.history(query).blocking_recv().unwrap();
        found.into_iter().map(|past| past.what).collect()
    };
    let all = HistoryQuery { limit: 100, ..HistoryQuery::default() };
    let of = |text: &str| HistoryQuery { network: Some(network(text)), ..all };
    assert_eq!(ask(all), ["five", "four", "three", "two", "one"]);
    assert_eq!(ask(HistoryQuery { limit: 2, ..all }), ["five", "four"]);
    assert_eq!(ask(HistoryQuery { before: Some(4), ..all }), ["three", "two", "one"]);
    assert_eq!(ask(of("192.0.2.7/32")), ["two", "one"]);
    assert_eq!(ask(of("192.0.2.0/24")), ["two", "one"]);
    assert_eq!(ask(of("192.0.0.0/8")), ["four", "two", "one"]);
    assert_eq!(ask(of("2001:db8::/32")), ["five"]);
    assert_eq!(ask(of("198.51.100.0/24")), Vec::<String>::new());
    // It is 1060 s; the last happened at 905 s.
    let since = |seconds| HistoryQuery { since: Some(Duration::from_secs(seconds)), ..all };
    assert_eq!((ask(since(154)).len(), ask(since(157)).len()), (0, 3));
    end(started);
}

#[test]
fn the_history_is_bounded() {
    let directory = TempDir::new().unwrap();
    end(open(&directory, first_boot));
    let path = directory.path().join(FILE);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch(
            "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 250100)
             INSERT INTO history (at, what) SELECT i * 1000000000, '{}' FROM n",
        )
        .unwrap();
    drop(connection);
    let rows = || -> i64 {
        let connection = Connection::open(&path).unwrap();
        connection.query_row("SELECT count(*) FROM history", [], |row| row.get(0)).unwrap()
    };
    let mut database = Database::open(&path, first_boot(), FINDTIME).unwrap();
    let bounds = Bounds { capacity: 100, remember: Duration::from_secs(1000) };
    database.tidy(&bounds, &first_boot()).unwrap();
    drop(database);
    assert_eq!(rows(), HISTORY_MAX);
    // Ninety days after the last.
    let later = clock("third", 10, 250_100 + 90 * 86_400 + 1);
    let mut database = Database::open(&path, later.clone(), FINDTIME).unwrap();
    database.tidy(&bounds, &later).unwrap();
    drop(database);
    assert_eq!(rows(), 0);
}

#[test]
fn a_file_is_read_without_a_change_to_it() {
    let directory = TempDir::new().unwrap();
    let memory = TempDir::new().unwrap();
    let settings = Settings {
        directory: directory.path().to_owned(),
        memory: memory.path().to_owned(),
        names: Names::default(),
        offenders: Bounds { capacity: 100, remember: Duration::from_secs(1000) },
        findtime: FINDTIME,
        clock: first_boot,
    };
    assert!(peek(&settings).unwrap().is_none());
    fill(&directory, &[entry("192.0.2.1/32", Origin::Manual, Some(200))]);
    let files = || {
        let read = |file: fs::DirEntry| (file.path(), fs::read(file.path()).unwrap());
        let files = fs::read_dir(directory.path()).unwrap();
        files.map(|file| read(file.unwrap())).collect::<BTreeMap<_, _>>()
    };
    let bans = || {
        let Peeked { kept, is_whole } = peek(&settings).unwrap().unwrap();
        (kept.bans.len(), is_whole)
    };
    let before = files();
    assert_eq!((bans(), before), ((1, true), files()));

    // With a log, as a killed process leaves it, and while another process has it open.
    let started = open(&directory, first_boot);
    started.store.put(&entry("192.0.2.2/32", Origin::Manual, Some(200)), true, None);
    wait(&started.store).unwrap();
    let before = files();
    assert!(before.keys().any(|path| path.to_string_lossy().ends_with("-wal")));
    assert_eq!((bans(), before), ((2, true), files()));
    end(started);
    assert_eq!(fs::read_dir(memory.path()).unwrap().count(), 0);

    fs::write(directory.path().join(FILE), "no database\n".repeat(1000)).unwrap();
    assert_eq!(bans(), (0, false));
}

#[test]
fn the_totals_of_the_jails_are_kept_and_never_decrease() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    let total = |failures, bans, second: i64| {
        let since = Moment(second * i64::try_from(SECOND).unwrap());
        Total { failures, bans, since }
    };
    started.store.set_total("sshd", total(1, 0, 90));
    started.store.set_total("sshd", total(5, 1, 90));
    started.store.set_total("gone", total(u64::MAX, 0, 95));
    end(started);
    let started = open(&directory, second_boot);
    let kept = &started.kept.as_ref().unwrap().totals;
    // 70 s ago.
    assert_eq!(kept["sshd"], total(5, 1, -60));
    assert_eq!(kept["gone"].failures, u64::try_from(i64::MAX).unwrap());
    // Counted before the file could be read.
    started.store.set_total("sshd", total(2, 3, 5));
    for number in 0..2 * TOTALS_MAX {
        started.store.set_total(&number.to_string(), total(1, 1, 5));
    }
    end(started);
    let started = open(&directory, second_boot);
    let kept = &started.kept.as_ref().unwrap().totals;
    assert_eq!((kept["sshd"], kept.len()), (total(5, 3, -60), TOTALS_MAX));
    end(started);

    // They survive a file that is broken elsewhere.
    let file = Connection::open(directory.path().join(FILE)).unwrap();
    file.pragma_update(None, "user_version", 1000).unwrap();
    drop(file);
    let started = open(&directory, second_boot);
    assert_eq!(started.kept.as_ref().unwrap().totals["sshd"], total(5, 3, -60));
    assert_eq!(aside(&directory).len(), 1);
    end(started);
    let started = open(&directory, second_boot);
    assert_eq!(started.kept.as_ref().unwrap().totals["sshd"], total(5, 3, -60));
    end(started);
}

#[test]
fn known_peers_outlive_a_reboot_until_they_are_forgotten() {
    let directory = TempDir::new().unwrap();
    let address = |n: u32| IpAddr::from((0xcb00_7100 + n).to_be_bytes());
    let [v4, v6] = [address(1), "2001:db8::1".parse().unwrap()];
    let peer = |until: u64| KeptPeer {
        since: KernelTime(100 * SECOND),
        until: KernelTime(until * SECOND),
    };
    let started = open(&directory, first_boot);
    assert!(started.kept.as_ref().unwrap().peers.is_empty());
    for (address, until) in [(v4, 120), (v6, 300), (address(2), 150), (v4, 200)] {
        started.store.set_peer(address, peer(until));
    }
    end(started);
    // The second boot is a minute later, and began ten seconds ago.
    let kept = |clock| {
        let started = open(&directory, clock);
        let peers = started.kept.as_ref().unwrap().peers.clone();
        end(started);
        peers.into_iter().map(|(address, until)| (address, until.0 / SECOND)).collect::<Vec<_>>()
    };
    assert_eq!(kept(first_boot), [(v4, 200), (address(2), 150), (v6, 300)]);
    assert_eq!(kept(second_boot), [(v4, 50), (v6, 150)]);
    // A wall clock that starts in 1970: no longer than they were known for.
    assert_eq!(kept(|| clock("third", 10, 0)), [(v4, 110), (address(2), 60), (v6, 210)]);
}

#[test]
fn the_known_peers_are_bounded() {
    let directory = TempDir::new().unwrap();
    let path = directory.path().join(FILE);
    let address = |n: usize| IpAddr::from(u32::try_from(n).unwrap().to_be_bytes());
    for round in 0..2 {
        let started = open(&directory, first_boot);
        for n in 0..KEPT_PEERS_MAX + 10 {
            let until = KernelTime((200 + n as u64) * SECOND);
            let peer = KeptPeer { since: KernelTime(100 * SECOND), until };
            started.store.set_peer(address(round * 100_000 + n), peer);
        }
        end(started);
    }
    let started = open(&directory, first_boot);
    assert_eq!(started.kept.as_ref().unwrap().peers.len(), KEPT_PEERS_MAX);
    end(started);
    let rows = |file: &Connection| -> usize {
        let count = "SELECT count(*) FROM peers";
        file.query_row(count, [], |row| row.get::<_, isize>(0)).unwrap().unsigned_abs()
    };
    assert!(rows(&Connection::open(&path).unwrap()) > KEPT_PEERS_MAX);
    let mut file = Database::open(&path, first_boot(), FINDTIME).unwrap();
    let bounds = Bounds { capacity: 100, remember: Duration::from_secs(1000) };
    file.tidy(&bounds, &first_boot()).unwrap();
    drop(file);
    assert_eq!(rows(&Connection::open(&path).unwrap()), KEPT_PEERS_MAX);
    // Those that are forgotten first went.
    let started = open(&directory, first_boot);
    assert!(!started.kept.as_ref().unwrap().peers.contains_key(&address(0)));
    end(started);
    let mut file = Database::open(&path, first_boot(), FINDTIME).unwrap();
    let later = clock("first", 24_100, 25_000);
    file.tidy(&bounds, &later).unwrap();
    drop(file);
    let left = rows(&Connection::open(&path).unwrap());
    assert!((1..KEPT_PEERS_MAX).contains(&left), "{left}");
}

use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::{FileExt as _, PermissionsExt as _};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::Connection;
use tempfile::TempDir;

use super::database::Database;
use super::*;
use crate::ban::Ban;
use crate::clock::{KernelTime, Moment};
use crate::config::Scope;
use crate::failure::Class;
use crate::jail::Evidence;

const SECOND: u64 = 1_000_000_000;

fn clock(boot: &str, kernel: u64, wall: i64) -> Clock {
    Clock::at(boot, KernelTime(kernel * SECOND), Timestamp::from_second(wall).unwrap())
}

/// A hundred seconds after the boot.
fn first_boot() -> Clock {
    clock("first", 100, 1000)
}

/// Ten seconds after the next one, a minute later.
fn second_boot() -> Clock {
    clock("second", 10, 1060)
}

fn open(directory: &TempDir, clock: fn() -> Clock) -> Started {
    open_with(directory, clock, Arc::default())
}

fn open_with(directory: &TempDir, clock: fn() -> Clock, jails: Arc<Roster>) -> Started {
    let directory = directory.path().to_owned();
    let names = Names { jails, ..Names::default() };
    start(Settings { directory, names, clock }).unwrap()
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
        class: Class::WrongCredential,
        account: Some("1001".into()),
        proven: false,
    };
    vec![failure(89), failure(90)]
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

/// So many bans, in their order.
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
        entry("192.0.2.0/24", Origin::Hand, None)
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
    started.store.put(&entry("192.0.2.0/24", Origin::Hand, Some(500)), false, None);
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
    // One jail is gone, and another one has its number.
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
fn bans_outlive_a_reboot_until_their_time() {
    let directory = TempDir::new().unwrap();
    let bans = [
        entry("192.0.2.1/32", Origin::Hand, None),
        entry("192.0.2.2/32", Origin::Jail(0), Some(155)),
        entry("192.0.2.3/32", Origin::Jail(0), Some(200)),
    ];
    fill(&directory, &bans);
    let started = open(&directory, second_boot);
    let kept = started.kept.as_ref().unwrap();
    assert_eq!(networks(kept), ["192.0.2.1/32", "192.0.2.3/32"]);
    assert_eq!(kept.ended, [bans[1].key()]);
    // It had 100 s at the start of this minute, and has 40 s.
    assert_eq!(kept.bans[1].ban.until, Some(KernelTime(50 * SECOND)));
    // 70 s ago, which is a minute before this boot.
    assert_eq!(kept.bans[1].ban.since, Moment(-60 * 1_000_000_000));
    // Written again in this boot, it still is the same.
    let again = kept.bans[1].clone();
    started.store.put(&again, false, None);
    wait(&started.store).unwrap();
    end(started);
    let started = open(&directory, second_boot);
    assert_eq!(started.kept.as_ref().unwrap().bans[1], again);
    end(started);
}

#[test]
fn a_wall_clock_that_is_set_moves_what_was_written() {
    let directory = TempDir::new().unwrap();
    let mut database = Database::open(&directory.path().join(FILE), first_boot()).unwrap();
    let names = Names::default();
    let batch = |n: u64| {
        let shared = Shared::new(PathBuf::new(), watch::channel(Progress::default()).0);
        let ban = entry(&format!("192.0.2.{n}/32"), Origin::Hand, Some(200));
        shared.change(|pending| pending.put(&ban, true, false, None));
        shared.take()
    };
    database.write(&batch(1), &names, &first_boot()).unwrap();
    // Ten seconds later the clock turns out to have been an hour behind.
    database.write(&batch(2), &names, &clock("first", 110, 4610)).unwrap();
    drop(database);
    // A second after that the host starts again.
    let mut database =
        Database::open(&directory.path().join(FILE), clock("second", 1, 4611)).unwrap();
    let kept = database.load(&names).unwrap().kept;
    let ends: Vec<_> = kept.bans.iter().map(|entry| entry.ban.until.unwrap().0 / SECOND).collect();
    assert_eq!(ends, [90, 90]);
}

#[test]
fn evidence_and_history_are_asked_for() {
    let directory = TempDir::new().unwrap();
    let started = open(&directory, first_boot);
    let ban = entry("192.0.2.1/32", Origin::Jail(0), Some(160)).with_evidence(failures());
    for _ in 0..2 {
        started.store.put(&ban, true, Some("said".to_owned()));
        wait(&started.store).unwrap();
    }
    let found = started.store.look_up(IpAddr::from([192, 0, 2, 1])).blocking_recv().unwrap();
    assert_eq!(found.evidence[0].jail, "asterisk-wazo");
    let second = &found.evidence[0].failures[1];
    assert_eq!(second["time"], "1970-01-01T00:16:30.000Z");
    assert_eq!(
        (&second["class"], &second["account"]),
        (&"wrong-credential".into(), &"1001".into())
    );
    let last = "1970-01-01T00:16:30.000Z".to_owned();
    assert_eq!(found.offences, Some(Offences { bans: 2, last }));
    // The ban goes, and its evidence; the past stays.
    started.store.remove(ban.key());
    wait(&started.store).unwrap();
    let found = started.store.look_up(IpAddr::from([192, 0, 2, 1])).blocking_recv().unwrap();
    assert!(found.evidence.is_empty() && found.offences.is_some());
    end(started);
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
fn a_ban_that_came_and_went_unwritten_leaves_nothing() {
    let store = Store::nowhere();
    store.shared.change(pending::Pending::set_read);
    for ban in many(1000) {
        store.put(&ban, true, None);
        store.remove(ban.key());
    }
    assert_eq!(store.status().pending, 0);
    // One that the file may have is to be struck out there.
    let ban = entry("192.0.2.1/32", Origin::Hand, None);
    store.put(&ban, false, None);
    store.remove(ban.key());
    assert_eq!(store.status().pending, 1);
    // The kernel's own are not kept.
    store.put(&entry("192.0.2.2/32", Origin::Flood, None), true, None);
    assert_eq!(store.status().pending, 1);
}

#[test]
fn what_could_not_be_written_comes_back_behind_what_is_newer() {
    let store = Store::nowhere();
    store.shared.change(pending::Pending::set_read);
    let bans = many(3);
    for ban in &bans {
        store.put(ban, true, Some("said".to_owned()));
    }
    let batch = store.shared.take();
    // Meanwhile one is lifted and one is decided anew.
    store.remove(bans[0].key());
    let newer = Entry::new(bans[1].ban, "newer");
    store.put(&newer, false, None);
    store.shared.failed(batch, false, "full");
    assert_eq!(store.status().failed.as_deref(), Some("full"));
    let batch = store.shared.take();
    assert!(!batch.bans.contains_key(&bans[0].key()), "the file never had it");
    let put = |ban: &Entry| match &batch.bans[&ban.key()] {
        pending::Change::Put { entry, offences, fresh } => (&*entry.reason, *offences, *fresh),
        pending::Change::Remove => panic!("removed"),
    };
    assert_eq!(put(&bans[1]), ("newer", 1, true));
    assert_eq!(put(&bans[2]), ("because", 1, true));
}

#[test]
fn an_older_file_is_brought_to_this_version() {
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
    let found = started.store.look_up(IpAddr::from([192, 0, 2, 1])).blocking_recv().unwrap();
    assert_eq!(found.offences.unwrap().bans, 1);
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

/// What may have been done to a file, and how many of a thousand bans are read all the same, at least.
#[test]
fn a_file_that_is_no_good_is_moved_aside_and_a_new_one_begun() {
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
        // All of them are to be written to the new file.
        assert!(matches!(started.news.blocking_recv(), Some(News::WantsAll)), "{what}");
        started.store.put(&entry("192.0.2.1/32", Origin::Hand, None), true, None);
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
    started.store.put(&entry("192.0.2.1/32", Origin::Hand, None), true, None);
    wait(&started.store).unwrap();
    fs::remove_file(directory.path().join(FILE)).unwrap();
    let _first = fs::remove_file(directory.path().join(format!("{FILE}-wal")));
    started.store.put(&entry("192.0.2.2/32", Origin::Hand, None), true, None);
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
fn a_file_that_another_process_has_is_waited_for() {
    let directory = TempDir::new().unwrap();
    fill(&directory, &many(3));
    let other = Connection::open(directory.path().join(FILE)).unwrap();
    other.execute_batch("PRAGMA locking_mode = EXCLUSIVE; BEGIN IMMEDIATE").unwrap();
    let mut started = open(&directory, first_boot);
    assert!(started.kept.is_none());
    let why = started.store.status().failed.unwrap();
    assert!(why.contains("another process"), "{why}");
    // Decided meanwhile: one ban is lifted, and one the kernel still had.
    let bans = many(3);
    started.store.remove(bans[0].key());
    started.store.put(&Entry::new(bans[1].ban, crate::ban::ADOPTED), true, None);
    drop(other);
    let Some(News::Kept(kept)) = started.news.blocking_recv() else { panic!("nothing was kept") };
    assert_eq!(kept.bans, bans[1..]);
    wait(&started.store).unwrap_or_else(|why| assert!(why.contains("another process"), "{why}"));
    until("the store works", || started.store.status().failed.is_none());
    end(started);
    let started = open(&directory, first_boot);
    assert_eq!(started.kept.as_ref().unwrap().bans, bans[1..]);
    end(started);
}

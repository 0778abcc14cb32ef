//! Every failure counts once, even if the controller is killed at any moment while its log is written and
//! rotated.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringfence_tests::chance::Chance;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{Hosts, nothing_is_left, until};
use serde_json::Value;

/// How long lines are written to the log.
const TIME: Duration = Duration::from_secs(25);

/// sshd's `maxretry`.
const MAXRETRY: usize = 5;

/// The number of sources that fail concurrently.
const SIDE_BY_SIDE: usize = 60;

/// The number of rotated files that are kept: more than are created while no controller runs.
const KEPT: usize = 60;

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn every_failure_counts_once_over_kills_and_rotation() {
    let mut chance = Chance::of_now();
    let hosts = Hosts::new().unwrap();
    let logs = tempfile::tempdir().unwrap();
    let log = logs.path().join("auth.log");
    File::create(&log).unwrap();
    let mut config = Config::new(Path::new("/nonexistent/fail2ban"));
    config.other_logs = Some(logs.path().to_owned());
    let binary = ringfence::built().unwrap();
    let mut ringfence = Ringfence::start(&hosts.pbx, &binary, &config).unwrap();
    // The first controller begins at the end of the file, and stores this position within a second.
    thread::sleep(Duration::from_secs(3));
    let done = AtomicBool::new(false);
    let mut writers_chance = Chance::of_now();
    println!("kills: {chance:?}, {writers_chance:?}");
    let (attack, kills) = thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let attack = write(&log, &mut writers_chance);
            done.store(true, Ordering::Relaxed);
            attack
        });
        let mut kills = 0;
        while !done.load(Ordering::Relaxed) {
            thread::sleep(Duration::from_millis(chance.below(900)));
            if chance.below(4) == 0 {
                ringfence.stop().unwrap();
            } else {
                ringfence.kill().unwrap();
            }
            thread::sleep(Duration::from_millis(chance.below(200)));
            ringfence.restart(&hosts.pbx).unwrap();
            kills += 1;
        }
        (writer.join().unwrap(), kills)
    });
    let Attack { mut written, guilty, innocent } = attack;
    let banned = |ringfence: &Ringfence| -> BTreeSet<IpAddr> {
        ringfence.bans().unwrap().iter().filter_map(ringfence::Ban::address).collect()
    };
    let all = until(Duration::from_secs(20), || banned(&ringfence).is_superset(&guilty));
    let now = banned(&ringfence);
    let (lost, twice): (Vec<_>, Vec<_>) =
        (guilty.difference(&now).collect(), now.difference(&guilty).collect());
    assert!(
        all && twice.is_empty(),
        "not banned: {lost:?}; banned for less: {twice:?}\n{}",
        ringfence.log()
    );
    for address in &guilty {
        let why: Value = ringfence.why(*address).unwrap();
        let bans = why["history"]["bans"].as_u64().unwrap_or(0);
        assert!(bans <= 1, "{address} was banned again: {why}");
    }
    // Failures that have not led to a ban are known after every restart.
    ringfence.restart(&hosts.pbx).unwrap();
    let mut file = OpenOptions::new().append(true).open(&log).unwrap();
    for address in &innocent {
        written += 1;
        file.write_all(line(*address, written).as_bytes()).unwrap();
    }
    let all = until(Duration::from_secs(20), || banned(&ringfence).is_superset(&innocent));
    let now = banned(&ringfence);
    let lost: Vec<_> = innocent.difference(&now).collect();
    assert!(all, "failures of {lost:?} were lost");
    // Nothing is counted twice or lost in the totals either.
    let total = || -> Value {
        let jails: Value = ringfence.client().ask(&["jails"]).unwrap();
        let mut jails = jails["jails"].as_array().unwrap().iter();
        jails.find(|jail| jail["name"] == "sshd").unwrap()["total"].clone()
    };
    let counted = [("failures", written), ("bans", guilty.len() + innocent.len())];
    let is_all = || counted.iter().all(|(key, count)| total()[key] == *count);
    assert!(until(Duration::from_secs(20), is_all), "{counted:?}, but {}", total());
    println!(
        "kills: {written} lines, {kills} ends, {} bans, {} sources with one failure less",
        guilty.len(),
        innocent.len()
    );
    assert!(kills > 3 && guilty.len() > 20 && innocent.len() > 20, "too little has happened");
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

/// The lines that were written.
struct Attack {
    /// Their number.
    written: usize,
    /// Sources that failed often enough for a ban.
    guilty: BTreeSet<IpAddr>,
    /// Sources with one failure less.
    innocent: BTreeSet<IpAddr>,
}

/// Writes failures as sshd does, from many sources in turn, and rotates the log.
fn write(log: &Path, chance: &mut Chance) -> Attack {
    let mut attack = Attack { written: 0, guilty: BTreeSet::new(), innocent: BTreeSet::new() };
    let mut file = OpenOptions::new().append(true).open(log).unwrap();
    let mut sources: Vec<(IpAddr, usize)> = Vec::new();
    let begun = Instant::now();
    while begun.elapsed() < TIME || !sources.is_empty() {
        while sources.len() < SIDE_BY_SIDE && begun.elapsed() < TIME {
            let number = u32::try_from(attack.guilty.len() + attack.innocent.len()).unwrap();
            let address = IpAddr::V4(Ipv4Addr::from(0xc612_0000 + number));
            let is_guilty = chance.below(2) == 0;
            let kind = if is_guilty { &mut attack.guilty } else { &mut attack.innocent };
            kind.insert(address);
            sources.push((address, MAXRETRY - usize::from(!is_guilty)));
        }
        let place = usize::try_from(chance.below(sources.len() as u64)).unwrap();
        let (address, left) = sources.get_mut(place).unwrap();
        attack.written += 1;
        // Sometimes in two parts.
        let line = line(*address, attack.written);
        let cut = usize::try_from(chance.below(2 * line.len() as u64)).unwrap().min(line.len());
        file.write_all(&line.as_bytes()[..cut]).unwrap();
        file.write_all(&line.as_bytes()[cut..]).unwrap();
        *left -= 1;
        if *left == 0 {
            sources.swap_remove(place);
        }
        thread::sleep(Duration::from_micros(chance.below(20_000)));
        match chance.below(100) {
            0 => {
                shift(log);
                fs::rename(log, rotated(log, 1)).unwrap();
                file = OpenOptions::new().append(true).create(true).open(log).unwrap();
            }
            1 => {
                shift(log);
                fs::copy(log, rotated(log, 1)).unwrap();
                file.set_len(0).unwrap();
            }
            _ => {}
        }
    }
    attack
}

/// A failure. The process number makes the beginning of each file different.
fn line(address: IpAddr, number: usize) -> String {
    format!("Nov 22 09:43:06 pbx sshd[{number}]: Invalid user u{number} from {address} port 5022\n")
}

fn shift(log: &Path) {
    for n in (1..KEPT).rev() {
        if rotated(log, n).exists() {
            fs::rename(rotated(log, n), rotated(log, n + 1)).unwrap();
        }
    }
}

fn rotated(log: &Path, number: usize) -> PathBuf {
    log.with_extension(format!("log.{number}"))
}

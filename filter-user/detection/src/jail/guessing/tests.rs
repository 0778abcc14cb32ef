use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;

const HOUR: u64 = 3600;

fn settings(maxretry: u32, sources: u32, each: u32, maxaccounts: u32) -> GuessingSettings {
    GuessingSettings { maxretry, sources, each, maxaccounts, ..GuessingSettings::OFF }
}

fn at(second: u64) -> KernelTime {
    KernelTime(second * 1_000_000_000)
}

fn source(n: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, n])
}

fn guess(n: u8, account: u32) -> Guess<'static> {
    Guess {
        source: source(n),
        account: NonZeroU32::new(account).map(|a| (a, "1001")),
        proven: false,
    }
}

fn observe(guessing: &mut Guessing, guess: Guess<'_>, second: u64) -> Vec<Suspect> {
    let mut suspects = Vec::new();
    guessing.observe(guess, at(second), &mut suspects);
    suspects
}

#[test]
fn a_source_that_tries_once_an_hour_is_found() {
    let mut guessing = Guessing::new(settings(50, 5, 3, 0));
    let mut tries = (0..).map(|n| observe(&mut guessing, guess(1, 1), n * HOUR));
    assert_eq!(tries.by_ref().take(49).flatten().count(), 0);
    let suspects = tries.next().unwrap();
    assert_eq!(suspects.len(), 1);
    assert_eq!(suspects[0].reason, "50 failures within 7d");
    // And again, after as many more.
    assert_eq!(tries.take(50).flatten().count(), 1);
}

#[test]
fn a_source_that_tries_each_account_once_is_found() {
    let mut guessing = Guessing::new(settings(0, 5, 3, 100));
    let tries = (1..=100).map(|n| observe(&mut guessing, guess(1, n), u64::from(n) * HOUR));
    let suspects: Vec<Suspect> = tries.flatten().collect();
    assert_eq!(suspects.len(), 1);
    assert_eq!(suspects[0].reason, "100 failures on 100 accounts within 7d");
}

#[test]
fn a_suspect_is_found_again_after_a_tenth_as_many_accounts() {
    let mut guessing = Guessing::new(settings(0, 5, 3, 20));
    let found = |guessing: &mut Guessing, account, proven, hour| {
        let guess = Guess { proven, ..guess(1, account) };
        let suspects = observe(guessing, guess, hour * HOUR);
        suspects.into_iter().next().map(|suspect| (suspect.failures, suspect.proven))
    };
    let scan: Vec<_> = (1..=24).filter_map(|n| found(&mut guessing, n, false, 1)).collect();
    assert_eq!(scan, [(20, false), (22, false), (24, false)]);
    // The same accounts do not count again.
    assert_eq!((1..=24).find_map(|n| found(&mut guessing, n, false, 2)), None);
    // Proven failures do, but a forger cannot make a few of them too many.
    let proven: Vec<_> = (1..=22).filter_map(|n| found(&mut guessing, n, true, 3)).collect();
    assert_eq!(proven, [(20, true), (22, true)]);
    guessing.forget(source(1));
    assert_eq!((1..=19).find_map(|n| found(&mut guessing, n, false, 4)), None);
}

#[test]
fn many_sources_that_try_one_account_are_found_except_those_with_a_typo() {
    let mut guessing = Guessing::new(settings(30, 8, 3, 0));
    let user = 200;
    assert_eq!(observe(&mut guessing, guess(user, 1), 0), []);
    let mut suspects = Vec::new();
    for n in 0..40 {
        suspects.extend(observe(&mut guessing, guess(u8::try_from(n % 10).unwrap(), 1), n * HOUR));
    }
    let banned: HashSet<IpAddr> = suspects.iter().map(|suspect| suspect.source).collect();
    assert_eq!(banned, (0..10).map(source).collect());
    let expected =
        "3 failures on the account 1001, on which 11 sources have failed 30 times within 7d";
    assert!(suspects.iter().any(|suspect| suspect.reason == expected), "{suspects:?}");
    let attacked = &guessing.attacked()[0];
    assert_eq!((&*attacked.account, attacked.failures, attacked.sources), ("1001", 41, 11));
    // A source that joins in later is found as soon as it fails more often than by mistake.
    let late: Vec<usize> =
        (0..3).map(|n| observe(&mut guessing, guess(100, 1), (41 + n) * HOUR).len()).collect();
    assert_eq!(late, [0, 0, 1]);
}

#[test]
fn one_source_alone_attacks_no_account() {
    let mut guessing = Guessing::new(settings(30, 2, 3, 0));
    for n in 0..29 {
        assert_eq!(observe(&mut guessing, guess(1, 1), n), []);
    }
    assert!(guessing.attacked().is_empty());
}

#[test]
fn a_success_clears_its_source_and_no_other() {
    let mut guessing = Guessing::new(settings(10, 2, 2, 0));
    for _ in 0..4 {
        assert_eq!(observe(&mut guessing, guess(1, 1), 0), []);
        assert_eq!(observe(&mut guessing, guess(2, 1), 0), []);
    }
    guessing.forget(source(1));
    assert_eq!(guessing.sources().collect::<Vec<_>>(), [source(2)]);
    assert_eq!(observe(&mut guessing, guess(1, 1), 1), []);
    for _ in 0..4 {
        assert_eq!(observe(&mut guessing, guess(3, 1), 1), []);
    }
    let suspects: HashSet<IpAddr> =
        observe(&mut guessing, guess(3, 1), 2).into_iter().map(|suspect| suspect.source).collect();
    assert_eq!(suspects, HashSet::from([source(2), source(3)]));
}

#[test]
fn proof_belongs_to_one_source() {
    let mut guessing = Guessing::new(settings(8, 2, 3, 0));
    let proven = |n| Guess { proven: true, ..guess(n, 1) };
    let mut suspects = Vec::new();
    for _ in 0..4 {
        suspects.extend(observe(&mut guessing, proven(1), 0));
        suspects.extend(observe(&mut guessing, guess(2, 1), 0));
        guessing.prove(proven(3), at(0), &mut suspects); // A source without a record.
    }
    suspects.sort_by_key(|suspect| suspect.source);
    let told: Vec<(IpAddr, bool)> = suspects.iter().map(|s| (s.source, s.proven)).collect();
    assert_eq!(told, [(source(1), true), (source(2), false)]);

    let mut guessing = Guessing::new(settings(3, 5, 3, 0));
    observe(&mut guessing, guess(2, 1), 0);
    observe(&mut guessing, guess(2, 1), 0);
    let mut suspects = Vec::new();
    guessing.prove(proven(2), at(1), &mut suspects);
    guessing.prove(proven(2), at(1), &mut suspects);
    suspects.extend(observe(&mut guessing, proven(2), 1));
    assert_eq!(suspects.iter().map(|s| s.proven).collect::<Vec<_>>(), [true]);
}

#[test]
fn expired_failures_are_forgotten() {
    let mut guessing = Guessing::new(settings(10, 2, 3, 50));
    for n in 0..20 {
        observe(&mut guessing, guess(n, n.into()), 0);
    }
    let week = 7 * 24 * HOUR;
    assert_eq!(guessing.forget_old(1000, at(week - 1)), Some(Duration::from_secs(week - 1)));
    assert_eq!(guessing.forget_old(1000, at(week)), None);
    assert!(guessing.is_empty());
}

#[test]
fn sources_beyond_the_bound_still_count() {
    let mut guessing = Guessing::new(settings(500, 200, 3, 0));
    let account = NonZeroU32::new(7).map(|account| (account, "1001"));
    for n in 0..499_u16 {
        let [high, low] = n.to_be_bytes();
        let source = IpAddr::from([10, 0, high, low]);
        assert_eq!(observe(&mut guessing, Guess { source, account, proven: false }, 0), []);
    }
    assert!(guessing.attacked().is_empty());
    observe(&mut guessing, guess(1, 7), 0);
    assert_eq!((guessing.attacked()[0].failures, guessing.attacked()[0].sources), (500, 256));
    // Those of the sources beyond are nobody's.
    let oldest = Guess { source: IpAddr::from([10, 0, 0, 244]), account, proven: false };
    let mut suspects = Vec::new();
    for _ in 0..2 {
        suspects.extend(observe(&mut guessing, oldest, 0));
    }
    let told: Vec<_> = suspects.iter().map(|suspect| (suspect.source, suspect.failures)).collect();
    assert_eq!(told, [(oldest.source, 3)]);
}

#[test]
fn failures_beyond_the_bound_count_as_long_as_others() {
    let mut guessing = Guessing::new(settings(300, 200, 3, 0));
    let day = 24 * HOUR;
    let account = NonZeroU32::new(7).map(|account| (account, "1001"));
    let mut fail = |n: u16, second| {
        let [high, low] = n.to_be_bytes();
        let source = IpAddr::from([10, 0, high, low]);
        observe(&mut guessing, Guess { source, account, proven: false }, second);
        guessing.attacked().last().map(|attacked| attacked.failures)
    };
    for n in 0..257 {
        fail(n, 0);
    }
    for n in 300..600 {
        fail(n, 6 * day);
    }
    // Those of the first day no longer count, but those of the sixth, of whatever source.
    assert_eq!(fail(600, 8 * day), Some(301));
}

#[test]
fn an_attack_is_told_for_its_time() {
    let week = 7 * 24 * HOUR;
    for (later, told) in [(0, 1), (week - 1, 1), (week, 0), (week + 1, 0)] {
        let mut guessing = Guessing::new(settings(2, 2, 3, 0));
        observe(&mut guessing, guess(1, 1), 10);
        observe(&mut guessing, guess(2, 1), 10);
        guessing.forget_old(1000, at(10 + later));
        assert_eq!(guessing.attacked().len(), told, "{later}");
    }
}

#[test]
fn a_source_without_accounts_is_on_record() {
    let mut guessing = Guessing::new(settings(0, 5, 3, 20));
    assert!(guessing.is_empty());
    observe(&mut guessing, guess(1, 1), 0);
    assert!(!guessing.is_empty());
}

#[test]
fn a_suspect_is_none_any_more_when_its_failures_are_as_old_as_can_be() {
    let week = 7 * 24 * HOUR;
    for (later, found) in [(week - 1, 1), (week, 0)] {
        let mut guessing = Guessing::new(settings(0, 5, 3, 20));
        let scan = |guessing: &mut Guessing, accounts: std::ops::Range<u32>, second| {
            accounts.map(|n| observe(guessing, guess(1, n), second).len()).sum::<usize>()
        };
        assert_eq!(scan(&mut guessing, 1..21, 0), 1);
        // A tenth of the accounts is only too many for a suspect.
        assert_eq!(scan(&mut guessing, 101..103, later), found, "{later}");
    }
}

#[test]
fn the_nearer_to_a_ban_the_higher_the_rank() {
    for (count, most, rank) in [
        (0, 10, 0),
        (1, 10, 6),
        (5, 10, 31),
        (9, 10, 56),
        (10, 10, 63),
        (20, 10, 63),
        (u32::MAX, 1, 63),
        (1, u32::MAX, 0),
        (1, 0, 0),
    ] {
        assert_eq!(nearness(count, most), rank, "{count} {most}");
    }
}

#[test]
fn there_is_room_for_two_accounts_of_each_source() {
    let guessing = Guessing::new(settings(10, 2, 3, 0));
    assert_eq!([&guessing.sources, &guessing.accounts].map(Table::items_max), [65_536; 2]);
}

proptest! {
    /// The definition, computed from scratch at each failure.
    #[test]
    fn suspects_agree_with_the_definition(
        (maxretry, sources, each, maxaccounts) in (0u32..12, 1u32..4, 1u32..4, 0u32..5),
        steps in proptest::collection::vec((0u64..200, 0u8..5, 0u32..6, any::<bool>()), 1..150),
    ) {
        let settings = settings(maxretry, sources, each, maxaccounts);
        let part = 7 * 24 * HOUR / 8;
        let mut guessing = Guessing::new(settings);
        let mut by_source: HashMap<u8, Vec<(u64, u32)>> = HashMap::new();
        let mut by_account: HashMap<u32, Vec<(u64, u8)>> = HashMap::new();
        let mut open: HashMap<(u32, u8), u32> = HashMap::new();
        // The accounts that have made a source a suspect, with the time of the last failure on each.
        let mut led: HashMap<u8, HashMap<u32, u64>> = HashMap::new();
        let mut now = 0;
        for (gap, n, account, success) in steps {
            now += gap * 600;
            guessing.forget_old(1000, at(now));
            if success && gap % 4 == 0 {
                guessing.forget(source(n));
                for failures in by_account.values_mut() {
                    failures.retain(|(_, who)| *who != n);
                }
                open.retain(|(_, who), _| *who != n);
                by_source.remove(&n);
                led.remove(&n);
                continue;
            }
            let counts = |time: u64| now / part - time / part < 8;
            let mut expected = HashSet::new();
            let own = by_source.entry(n).or_default();
            own.push((now, account));
            own.retain(|(time, _)| counts(*time));
            let led = led.entry(n).or_default();
            led.retain(|_, last| now - *last < 7 * 24 * HOUR);
            led.entry(account).and_modify(|last| *last = now);
            let accounts: HashSet<u32> =
                own.iter().map(|(_, account)| *account).filter(|account| *account > 0).collect();
            let fresh = accounts.iter().filter(|account| !led.contains_key(account)).count();
            let most = if led.is_empty() { maxaccounts } else { maxaccounts.div_ceil(10) };
            let on_accounts = maxaccounts > 0 && fresh >= most as usize;
            if (maxretry > 0 && own.len() >= maxretry as usize) || on_accounts {
                expected.insert(n);
                if on_accounts {
                    led.extend(own.iter().filter(|(_, account)| *account > 0).map(|(at, of)| (*of, *at)));
                }
                if maxretry > 0 && own.len() >= maxretry as usize {
                    own.clear();
                }
            }
            if maxretry > 0 && account > 0 {
                let failures = by_account.entry(account).or_default();
                failures.push((now, n));
                failures.retain(|(time, _)| counts(*time));
                open.retain(|(of, who), _| {
                    *of != account || failures.iter().any(|(_, other)| other == who)
                });
                *open.entry((account, n)).or_default() += 1;
                let who: HashSet<u8> = failures.iter().map(|(_, who)| *who).collect();
                if failures.len() >= maxretry as usize && who.len() >= sources as usize {
                    for n in who {
                        let count = failures.iter().filter(|(_, other)| *other == n).count();
                        let is_open = open.entry((account, n)).or_default();
                        if count >= each as usize && *is_open >= each {
                            *is_open = 0;
                            expected.insert(n);
                        }
                    }
                }
            }
            let suspects = observe(&mut guessing, guess(n, account), now);
            let told: HashSet<IpAddr> = suspects.iter().map(|suspect| suspect.source).collect();
            prop_assert_eq!(told, expected.into_iter().map(source).collect::<HashSet<_>>());
        }
    }
}

use std::collections::{HashMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::settings::{GuessingSettings, Unproven, Weights};

const SECOND: u64 = 1_000_000_000;

fn settings(maxretry: u32, findtime: u64) -> JailSettings {
    JailSettings {
        maxretry,
        weights: Some(Weights::ASTERISK),
        findtime: Duration::from_secs(findtime),
        bantime: Duration::from_hours(1),
        ignoreip: vec!["198.51.100.0/24".parse().unwrap()],
        scope: Scope::Sip,
        unproven: Unproven::Ban,
        ..JailSettings::DEFAULT
    }
}

fn weighing(of: &[(Class, u32)]) -> Weights {
    let mut weights = Weights::ASTERISK;
    for (class, weight) in weights.iter_mut() {
        *weight = of.iter().find(|(of, _)| *of == class).map_or(1, |(_, weight)| *weight);
    }
    weights
}

fn attempt(address: IpAddr, verdict: Verdict) -> Attempt {
    let account = Some("1001".to_owned());
    Attempt { account, ..Attempt::new(verdict, Class::WrongCredential, address) }
}

fn failure(last: u8) -> Attempt {
    attempt(IpAddr::from([192, 0, 2, last]), Verdict::Failure)
}

fn at(seconds: u64) -> KernelTime {
    KernelTime(seconds * SECOND)
}

#[test]
fn the_last_failure_bans_and_no_failure_counts_twice() {
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 100);
    assert_eq!(jail.observe(&failure(1), "log", at(1)), None);
    assert_eq!(jail.observe(&failure(1), "log", at(2)), None);
    let decision = jail.observe(&failure(1), "log", at(3)).unwrap();
    assert_eq!((decision.failures, decision.evidence.len()), (3, 3));
    assert_eq!(jail.observe(&failure(1), "log", at(4)), None);
    assert_eq!(jail.observe(&failure(1), "log", at(5)), None);
    assert!(jail.observe(&failure(1), "log", at(6)).is_some());
}

/// The log names the account as unknown before the wire sees the refusal of its credentials.
#[test]
fn an_unknown_account_with_credentials_is_proven() {
    let unknown = Attempt { class: Class::UnknownAccount, ..failure(1) };
    for (class, is_proven) in [
        (Class::UnknownAccount, true),
        (Class::WrongCredential, true),
        (Class::CallRejected, false),
        (Class::Acl, false),
    ] {
        let mut jail = Jail::new("asterisk", settings(2, 600), 10);
        jail.observe(&unknown, "log", at(1));
        jail.prove(unknown.address, class, at(1));
        assert_eq!(jail.evidence(unknown.address)[0].proven, is_proven, "{class}");
    }
    // One of the same class comes first.
    let mut jail = Jail::new("asterisk", settings(9, 600), 10);
    let wrong = Attempt { class: Class::WrongCredential, ..failure(1) };
    for attempt in [&wrong, &unknown] {
        jail.observe(attempt, "log", at(1));
    }
    jail.prove(unknown.address, Class::WrongCredential, at(1));
    let proven: Vec<bool> =
        jail.evidence(unknown.address).iter().map(|evidence| evidence.proven).collect();
    assert_eq!(proven, [true, false]);
}

#[test]
fn a_ban_of_the_same_scope_is_proven_later() {
    let mut jail = Jail::new("asterisk-wazo", settings(2, 600), 100);
    let (address, wrong) = (failure(1).address, Class::WrongCredential);
    assert_eq!(jail.observe(&proven(), "ami", at(1)), None);
    let unproven = jail.observe(&failure(1), "log", at(2)).unwrap();
    assert!(!unproven.proven);
    let decision = jail.prove(address, wrong, at(2)).unwrap();
    assert_eq!((decision.proven, decision.scope, decision.failures), (true, Scope::Sip, 2));
    assert_eq!(jail.prove(address, wrong, at(2)), None);
    assert_eq!(jail.watched(), 0);
}

#[test]
fn banned_sources_are_evicted_before_the_others() {
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 10);
    jail.observe(&failure(1), "log", at(0));
    for n in 10..200u8 {
        for _ in 0..3 {
            jail.observe(&attempt(IpAddr::from([203, 0, 113, n]), Verdict::Failure), "log", at(1));
        }
    }
    jail.observe(&failure(1), "log", at(2));
    assert!(jail.observe(&failure(1), "log", at(2)).is_some());
}

#[test]
fn old_failures_do_not_count() {
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 100);
    jail.observe(&failure(1), "log", at(0));
    jail.observe(&failure(1), "log", at(1));
    assert_eq!(jail.observe(&failure(1), "log", at(600)), None);
    assert!(jail.observe(&failure(1), "log", at(600)).is_some());
}

#[test]
fn a_success_clears() {
    let mut jail = Jail::new("asterisk-wazo", settings(2, 600), 100);
    jail.observe(&failure(1), "log", at(0));
    jail.observe(&attempt(IpAddr::from([192, 0, 2, 1]), Verdict::Success), "log", at(1));
    assert_eq!(jail.observe(&failure(1), "log", at(2)), None);
}

#[test]
fn a_success_does_not_clear_what_needs_the_password() {
    let mut jail = Jail::new("asterisk-wazo", settings(2, 600), 100);
    let success = attempt(IpAddr::from([192, 0, 2, 1]), Verdict::Success);
    let refused = Attempt { class: Class::CallRejected, proven: true, ..failure(1) };
    jail.observe(&success, "log", at(0));
    assert_eq!(jail.observe(&refused, "log", at(1)), None);
    jail.observe(&success, "log", at(2));
    assert!(jail.observe(&refused, "log", at(3)).is_some());
}

#[test]
fn ignored_networks_are_not_watched_nor_does_a_disabled_jail_watch() {
    let mut jail = Jail::new("asterisk-wazo", settings(1, 600), 100);
    let ignored = attempt(IpAddr::from([198, 51, 100, 7]), Verdict::Failure);
    assert_eq!(jail.observe(&ignored, "log", at(0)), None);
    let mut jail =
        Jail::new("asterisk-wazo", JailSettings { enabled: false, ..settings(1, 600) }, 100);
    assert_eq!(jail.observe(&failure(1), "log", at(0)), None);
    assert_eq!(jail.watched(), 0);
}

#[test]
fn many_sources_do_not_evict_the_one_about_to_be_banned() {
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 10);
    jail.observe(&failure(1), "log", at(0));
    jail.observe(&failure(1), "log", at(1));
    for n in 0..200u8 {
        jail.observe(&attempt(IpAddr::from([203, 0, 113, n]), Verdict::Failure), "log", at(2));
    }
    assert_eq!((jail.watched(), jail.forgotten()), (10, 191));
    assert!(jail.observe(&failure(1), "log", at(3)).is_some());
}

fn wide(maxretry: u32, unproven_scope: Option<Scope>) -> Jail {
    let settings = JailSettings { scope: Scope::All, unproven_scope, ..settings(maxretry, 600) };
    Jail::new("asterisk-wazo", settings, 100)
}

fn proven() -> Attempt {
    Attempt { proven: true, ..failure(1) }
}

#[test]
fn a_wide_ban_requires_proof() {
    let mut jail = wide(3, Some(Scope::Sip));
    let mut observe = |attempt: Attempt, time| {
        jail.observe(&attempt, "log", at(time)).map(|s| (s.scope, s.failures))
    };
    assert_eq!((observe(proven(), 0), observe(proven(), 10)), (None, None));
    assert_eq!(observe(failure(1), 20), Some((Scope::Sip, 3)));
    // Two of the three are proven: with another proven one, there are three.
    assert_eq!(observe(failure(1), 30), None);
    assert_eq!(observe(proven(), 40), Some((Scope::All, 3)));
    assert_eq!(jail.watched(), 0);
}

#[test]
fn proof_comes_late() {
    let mut jail = wide(2, Some(Scope::Sip));
    let wrong = Class::WrongCredential;
    let address = failure(1).address;
    assert_eq!(jail.observe(&failure(1), "log", at(0)), None);
    assert_eq!(jail.prove(address, wrong, at(0)), None);
    let narrow = jail.observe(&failure(1), "log", at(10)).unwrap();
    assert_eq!((narrow.scope, narrow.failures), (Scope::Sip, 2));
    assert_eq!(jail.prove(address, Class::UnknownAccount, at(10)), None);
    assert_eq!(jail.prove(address, wrong, at(12)), None);
    let wide = jail.prove(address, wrong, at(11)).unwrap();
    assert_eq!((wide.scope, wide.failures), (Scope::All, 2));
    assert!(wide.evidence.iter().all(|evidence| evidence.proven));
    assert_eq!(jail.prove(address, wrong, at(11)), None);
}

#[test]
fn failures_count_by_their_class() {
    let weights = weighing(&[(Class::UnknownAccount, 3), (Class::Acl, 0)]);
    let settings = JailSettings { weights: Some(weights), ..settings(5, 600) };
    let mut jail = Jail::new("asterisk-wazo", settings, 100);
    let mut observe = |class| jail.observe(&Attempt { class, ..failure(1) }, "log", at(0));
    assert!((0..9).all(|_| observe(Class::Acl).is_none()));
    assert_eq!(observe(Class::WrongCredential), None);
    assert_eq!(observe(Class::UnknownAccount), None);
    assert_eq!(
        observe(Class::WrongCredential).unwrap().reason,
        "3 failures that count 5 within 10m, the last one wrong-credential"
    );
}

fn guess(account: u32) -> Attempt {
    let account = Some(account.to_string());
    Attempt { account, class: Class::UnknownAccount, ..failure(1) }
}

#[test]
fn a_source_that_tries_many_accounts_is_banned() {
    let settings = JailSettings { maxaccounts: 4, ..settings(15, 600) };
    let mut jail = Jail::new("asterisk-wazo", settings, 100);
    // An office with three old phones, and failures without an account.
    for n in 0..9 {
        assert_eq!(jail.observe(&guess(n % 3), "log", at(0)), None);
    }
    assert_eq!(jail.observe(&Attempt { account: None, ..failure(1) }, "log", at(0)), None);
    assert_eq!(
        jail.observe(&guess(3), "log", at(0)).unwrap().reason,
        "11 failures on 4 accounts within 10m, the last one unknown-account"
    );
}

#[test]
fn accounts_require_proof_for_a_wide_ban() {
    let settings = JailSettings { maxaccounts: 3, scope: Scope::All, ..settings(15, 600) };
    let mut jail = Jail::new("asterisk-wazo", settings, 100);
    let mut observe = |account, proven| {
        let attempt = Attempt { proven, ..guess(account) };
        jail.observe(&attempt, "log", at(0)).map(|decision| decision.scope)
    };
    assert_eq!(
        (observe(0, true), observe(1, true), observe(2, false)),
        (None, None, Some(Scope::Sip))
    );
    assert_eq!(
        (observe(3, false), observe(1, true), observe(4, true)),
        (None, None, Some(Scope::All))
    );
}

#[test]
fn unproven_failures_can_be_configured_not_to_count() {
    let mut jail = wide(1, None);
    assert_eq!(jail.observe(&failure(1), "log", at(0)), None);
    assert_eq!(jail.watched(), 0);
    assert_eq!(jail.observe(&proven(), "log", at(0)).unwrap().scope, Scope::All);
}

#[test]
fn unproven_failures_after_a_narrow_ban_take_no_memory() {
    let mut jail = wide(3, Some(Scope::Sip));
    for n in 0..3000 {
        let decision = jail.observe(&failure(1), "log", KernelTime(n * SECOND / 5));
        assert!(decision.is_none_or(|decision| decision.scope == Scope::Sip));
        assert!(jail.watched.failures(failure(1).address).len() <= 12);
    }
}

#[test]
fn a_sweep_forgets_the_stale() {
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 10);
    jail.observe(&failure(1), "log", at(0));
    jail.observe(&failure(2), "log", at(500));
    assert_eq!(jail.next_timeout(), Some(at(600)));
    jail.handle_timeout(at(600));
    assert_eq!(jail.watched(), 1);
    jail.handle_timeout(at(1200));
    assert_eq!((jail.watched(), jail.next_timeout()), (0, None));
}

#[test]
fn a_sweep_of_many_sources_takes_several_turns() {
    let many = u32::try_from(SWEPT_AT_ONCE).unwrap() * 2;
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 100_000);
    for n in 0..=many {
        jail.observe(&attempt(IpAddr::from(n.to_be_bytes()), Verdict::Failure), "log", at(0));
    }
    for left in [SWEPT_AT_ONCE + 1, 1, 0] {
        assert_eq!(jail.next_timeout(), Some(at(600)));
        jail.handle_timeout(at(600));
        assert_eq!(jail.watched(), left);
    }
    assert_eq!(jail.next_timeout(), None);
}

#[test]
fn evidence_has_source_class_account_and_time() {
    let mut jail = Jail::new("asterisk-wazo", settings(30, 600), 100);
    for n in 0..20 {
        let account = Some(format!("10{n:02}"));
        let attempt = Attempt { account, proven: n % 2 == 0, ..failure(1) };
        jail.observe(&attempt, if n < 15 { "log" } else { "ami" }, at(100 + n));
    }
    let evidence = jail.evidence(failure(1).address);
    assert_eq!(evidence.len(), EVIDENCE_MAX);
    for (evidence, n) in evidence.iter().zip(12..) {
        let expected = Evidence {
            source: if n < 15 { "log" } else { "ami" },
            at: at(100 + n).into(),
            address: Some(failure(1).address),
            class: Class::WrongCredential,
            account: Some(format!("10{n:02}").into()),
            proven: n % 2 == 0,
        };
        assert_eq!(*evidence, expected);
    }
    assert_eq!(jail.evidence(failure(2).address), []);
}

#[test]
fn a_network_is_forgotten() {
    let mut jail = Jail::new("asterisk-wazo", settings(30, 600), 100);
    for last in 0..20 {
        jail.observe(&failure(last), "log", at(0));
    }
    jail.forget_network("192.0.2.0/28".parse().unwrap());
    assert_eq!(jail.watched(), 4);
    jail.forget_network("192.0.2.17/32".parse().unwrap());
    assert_eq!(jail.watched(), 3);
    assert!(jail.evidence(failure(17).address).is_empty());
}

fn milliseconds(milliseconds: u64) -> KernelTime {
    KernelTime(milliseconds * 1_000_000)
}

/// A source with many addresses: its first address, and two others.
fn network() -> [IpAddr; 3] {
    ["2001:db8::", "2001:db8::1", "2001:db8::2"].map(|address| address.parse().unwrap())
}

/// The log names the account of a refusal that the wire has reported without one.
#[test]
fn a_failure_gets_the_account_that_another_source_names() {
    use Class::{Acl, UnknownAccount, WrongCredential};
    let address = failure(1).address;
    for (class, named_as, is_named) in [
        (WrongCredential, WrongCredential, true),
        (WrongCredential, UnknownAccount, true),
        (UnknownAccount, WrongCredential, true),
        (Acl, Acl, true),
        (Acl, WrongCredential, false),
        (WrongCredential, Acl, false),
    ] {
        let mut jail = Jail::new("asterisk-wazo", settings(9, 600), 10);
        jail.observe(&Attempt { account: None, class, ..failure(1) }, "wire", at(1));
        assert_eq!(jail.name_of(address, address, (named_as, "x1"), at(1)), None);
        let account = jail.evidence(address)[0].account.clone();
        assert_eq!(account.as_deref(), is_named.then_some("x1"), "{class} {named_as}");
    }
}

#[test]
fn an_account_named_late_counts_and_the_last_failure_gets_it() {
    let address = failure(1).address;
    let settings = JailSettings { maxaccounts: 3, ..settings(15, 600) };
    let mut jail = Jail::new("asterisk-wazo", settings, 10);
    let nameless = Attempt { account: None, ..failure(1) };
    let wrong = Class::WrongCredential;
    jail.observe(&nameless, "wire", milliseconds(0));
    jail.observe(&nameless, "wire", milliseconds(900));
    jail.observe(&failure(1), "log", milliseconds(900));
    assert_eq!(jail.name_of(address, address, (wrong, "x1"), milliseconds(1000)), None);
    let accounts = |jail: &Jail| -> Vec<Option<Box<str>>> {
        jail.evidence(address).into_iter().map(|evidence| evidence.account).collect()
    };
    assert_eq!(accounts(&jail), [None, Some("x1".into()), Some("1001".into())]);
    // The first one is too old by now.
    assert_eq!(jail.name_of(address, address, (wrong, "x2"), milliseconds(1010)), None);
    assert_eq!(accounts(&jail)[0], None);
    jail.observe(&nameless, "wire", milliseconds(1010));
    let decision = jail.name_of(address, address, (wrong, "x2"), milliseconds(2010)).unwrap();
    assert!(decision.reason.contains("4 failures on 3 accounts"), "{}", decision.reason);
}

#[test]
fn proof_and_names_belong_to_one_address_of_a_source() {
    let [source, one, other] = network();
    let mut jail = Jail::new("asterisk-wazo", settings(9, 600), 10);
    let wrong = Class::WrongCredential;
    let nameless = Attempt { account: None, ..attempt(one, Verdict::Failure) };
    assert_eq!(jail.hear_of(source, &nameless, "wire", at(0)), None);
    for (from, is_known) in [(other, false), (one, true)] {
        assert_eq!(jail.prove_of(source, from, wrong, at(1)), None);
        assert_eq!(jail.name_of(source, from, (wrong, "x1"), at(1)), None);
        let evidence = &jail.evidence(source)[0];
        assert_eq!((evidence.proven, evidence.account.is_some()), (is_known, is_known));
        assert_eq!(evidence.address, Some(one));
    }
}

#[test]
fn a_failure_is_proven_within_the_window() {
    let (address, wrong) = (failure(1).address, Class::WrongCredential);
    for (after, is_proven) in [(990, true), (1000, true), (1010, false)] {
        let mut jail = Jail::new("asterisk-wazo", settings(9, 600), 10);
        jail.observe(&failure(1), "log", milliseconds(0));
        jail.prove(address, wrong, milliseconds(after));
        assert_eq!(jail.evidence(address)[0].proven, is_proven, "{after} ms");
        // A later failure does not make it younger.
        jail.observe(&failure(1), "log", milliseconds(after));
        jail.prove(address, wrong, milliseconds(after));
        jail.prove(address, wrong, milliseconds(after));
        let proven: Vec<bool> = jail.evidence(address).iter().map(|of| of.proven).collect();
        assert_eq!(proven, [is_proven, true], "{after} ms");
    }
}

#[test]
fn the_evidence_of_a_source_with_many_addresses_names_them() {
    let [source, one, other] = network();
    let mut jail = Jail::new("recidive", settings(9, 600), 10);
    for (from, class) in
        [(one, Class::Ban), (source, Class::Ban), (source, Class::Login), (other, Class::Login)]
    {
        jail.hear_of(source, &Attempt { class, ..attempt(from, Verdict::Failure) }, "log", at(0));
    }
    // The ban of the whole source names no other address.
    let addresses: Vec<_> = jail.evidence(source).into_iter().map(|of| of.address).collect();
    assert_eq!(addresses, [Some(one), None, Some(source), Some(other)]);
}

#[test]
fn a_standing_counts_what_may_still_lead_to_a_ban() {
    let settings = JailSettings { maxaccounts: 9, ..settings(3, 600) };
    let mut jail = Jail::new("asterisk-wazo", settings, 100);
    let address = failure(1).address;
    assert_eq!(jail.standing(address, at(0)), None);
    let weight = u64::from(jail.settings().weight(Class::UnknownAccount));
    jail.observe(&guess(1), "log", at(0));
    jail.observe(&guess(2), "log", at(10));
    let points = 2 * weight;
    let both = Some(Standing { failures: 2, points, accounts: 2 });
    assert_eq!(jail.standing(address, at(599)), both);
    let one = Some(Standing { failures: 1, points: weight, accounts: 1 });
    assert_eq!(jail.standing(address, at(600)), one);
    assert_eq!(jail.standing(address, at(610)), None);
    // During the ban that they have led to, they do not count.
    assert!(jail.observe(&guess(3), "log", at(12)).is_some());
    assert_eq!(jail.evidence(address).len(), 1);
    assert_eq!(jail.standing(address, at(12)), None);
}

#[test]
fn other_settings_apply_from_the_next_failure_on() {
    let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 100);
    assert_eq!((jail.name(), jail.settings().maxretry), ("asterisk-wazo", 3));
    jail.observe(&failure(1), "log", at(0));
    let ignoreip = vec!["203.0.113.0/24".parse().unwrap()];
    let guessing = GuessingSettings { maxretry: 7, ..GuessingSettings::OFF };
    jail.set_settings(JailSettings { ignoreip, guessing, ..settings(2, 600) });
    // Guessing keeps its counts, and so its settings.
    assert_eq!(jail.settings().guessing, GuessingSettings::OFF);
    let is_ignored = |address: [u8; 4]| jail.ignored().contains(IpAddr::from(address).into());
    assert_eq!((is_ignored([203, 0, 113, 7]), is_ignored([198, 51, 100, 7])), (true, false));
    assert!(jail.observe(&failure(1), "log", at(1)).is_some());
}

/// A week, six failures on an account by two sources, three by each.
const GUESSING: GuessingSettings = GuessingSettings {
    findtime: Duration::from_hours(7 * 24),
    maxretry: 6,
    sources: 2,
    each: 3,
    ..GuessingSettings::OFF
};

fn guessed() -> Jail {
    let settings = JailSettings { guessing: GUESSING, ..settings(15, 600) };
    let mut jail = Jail::new("asterisk-wazo", settings, 100);
    for n in 0..5 {
        assert_eq!(jail.observe(&failure(1 + n % 2), "log", at(u64::from(n) * 3600)), None);
        assert_eq!(jail.decided_on_others(), []);
    }
    jail
}

#[test]
fn sources_that_guess_at_one_account_are_decided_on_together() {
    let mut jail = guessed();
    assert_eq!(jail.attacked(), []);
    let own = jail.observe(&failure(2), "log", at(5 * 3600)).unwrap();
    let others = jail.decided_on_others();
    assert_eq!((own.address, own.failures, own.scope), (failure(2).address, 3, Scope::Sip));
    assert_eq!((own.bantime, own.proven), (Duration::from_hours(1), false));
    assert_eq!(others.len(), 1);
    assert_eq!((others[0].address, others[0].failures), (failure(1).address, 3));
    assert!(others[0].reason.starts_with("3 failures on the account 1001, on which 2 sources"));
    assert_eq!(jail.decided_on_others(), []);
    assert_eq!((jail.attacked().len(), &*jail.attacked()[0].account), (1, "1001"));
    // What nobody has fetched is gone with the next failure.
    let mut jail = guessed();
    assert!(jail.observe(&failure(2), "log", at(5 * 3600)).is_some());
    jail.observe(&failure(9), "log", at(5 * 3600));
    assert_eq!(jail.decided_on_others(), []);
}

#[test]
fn a_guesser_who_is_ignored_by_now_is_not_decided_on() {
    for (network, others) in [("192.0.2.1/32", 0), ("192.0.2.9/32", 1)] {
        let mut jail = guessed();
        let ignoreip = vec![network.parse().unwrap()];
        jail.set_settings(JailSettings { ignoreip, ..jail.settings().clone() });
        assert!(jail.observe(&failure(2), "log", at(5 * 3600)).is_some());
        assert_eq!(jail.decided_on_others().len(), others);
    }
}

#[test]
fn the_decision_with_more_proof_is_made() {
    let guessing = GuessingSettings { maxretry: 8, ..GUESSING };
    let settings = JailSettings { guessing, scope: Scope::All, ..settings(2, 600) };
    for (slow, last, scope, reason) in [
        // Three proven guesses over days, and two unproven failures at once.
        (proven(), failure(1), Scope::All, "5 failures on the account 1001"),
        // The other way round.
        (failure(1), proven(), Scope::All, "2 failures within"),
        (failure(1), failure(1), Scope::Sip, "2 failures within"),
    ] {
        let mut jail = Jail::new("asterisk-wazo", settings.clone(), 100);
        for hour in 0..3 {
            assert_eq!(jail.observe(&failure(2), "log", at(hour * 3600)), None);
            assert_eq!(jail.observe(&slow, "log", at(hour * 3600)), None);
        }
        assert_eq!(jail.observe(&last, "log", at(90 * 3600)), None);
        let decision = jail.observe(&last, "log", at(90 * 3600)).unwrap();
        assert_eq!(decision.scope, scope, "{decision:?}");
        assert!(decision.reason.starts_with(reason), "{decision:?}");
    }
}

#[test]
fn guesses_are_swept_after_their_time() {
    let mut jail = guessed();
    let week = 7 * 24 * 3600;
    jail.handle_timeout(at(4 * 3600 + 600));
    assert_eq!((jail.watched(), jail.next_timeout()), (0, Some(at(week))));
    // The last guesses were at three and at four o'clock.
    jail.handle_timeout(at(week));
    assert!(!jail.guessing.is_empty());
    jail.handle_timeout(at(week + 4 * 3600));
    let next = jail.next_timeout();
    jail.handle_timeout(next.unwrap_or(at(week + 4 * 3600)));
    assert!(jail.guessing.is_empty() && jail.next_timeout().is_none());
}

#[test]
fn sweeps_are_a_sixteenth_of_the_time_apart() {
    for (second, next) in [(500, 1_100_000), (50, 650_000), (37, 637_500), (10, 637_500)] {
        let mut jail = Jail::new("asterisk-wazo", settings(3, 600), 10);
        jail.observe(&failure(1), "log", at(0));
        jail.observe(&failure(2), "log", at(second));
        jail.handle_timeout(at(600));
        assert_eq!((jail.watched(), jail.next_timeout()), (1, Some(milliseconds(next))));
    }
}

#[test]
fn a_forgotten_source_starts_anew() {
    let mut jail = Jail::new("asterisk-wazo", settings(2, 600), 10);
    jail.observe(&failure(1), "log", at(0));
    assert!(jail.forget(failure(1).address) && !jail.forget(failure(1).address));
    assert_eq!(jail.observe(&failure(1), "log", at(0)), None);
}

proptest! {
    /// The definition of a jail, computed from scratch at each failure.
    #[test]
    fn bans_exactly_at_maxretry_within_findtime(
        (maxretry, findtime, maxaccounts) in (1u32..9, 1u64..20, 0u32..5),
        weights in proptest::array::uniform3(0u32..4),
        steps in proptest::collection::vec((0u64..8, 0u8..4, any::<bool>(), 0usize..3, 0u8..6), 1..200),
    ) {
        let classes = [Class::WrongCredential, Class::UnknownAccount, Class::Acl];
        let settings = JailSettings {
            maxaccounts,
            weights: Some(weighing(&classes.into_iter().zip(weights).collect::<Vec<_>>())),
            ..settings(maxretry, findtime)
        };
        let mut jail = Jail::new("asterisk-wazo", settings, 1000);
        let mut model: HashMap<u8, Vec<(u64, u32, u8)>> = HashMap::new();
        let mut now = 0;
        for (gap, source, success, class, account) in steps {
            now += gap;
            jail.handle_timeout(at(now));
            let address = IpAddr::from([192, 0, 2, source]);
            let failures = model.entry(source).or_default();
            if success && now % 5 == 0 {
                failures.clear();
                jail.observe(&attempt(address, Verdict::Success), "log", at(now));
                continue;
            }
            let failure = Attempt {
                class: classes[class],
                account: (account > 0).then(|| account.to_string()),
                ..failure(source)
            };
            let decision = jail.observe(&failure, "log", at(now));
            if weights[class] == 0 {
                prop_assert_eq!(decision, None);
                continue;
            }
            failures.push((now, weights[class], account));
            failures.retain(|(time, ..)| now - time < findtime);
            let points: u32 = failures.iter().map(|(_, weight, _)| weight).sum();
            let accounts: HashSet<u8> =
                failures.iter().map(|(.., account)| *account).filter(|a| *a > 0).collect();
            let on_accounts = maxaccounts > 0 && accounts.len() >= maxaccounts as usize;
            prop_assert_eq!(decision.is_some(), points >= maxretry || on_accounts);
            if let Some(decision) = decision {
                prop_assert_eq!(decision.failures, failures.len());
                failures.clear();
            }
        }
    }

    #[test]
    fn memory_is_bounded(
        capacity in 1usize..20, sources in proptest::collection::vec(any::<[u8; 4]>(), 1..300),
    ) {
        let mut jail = Jail::new("asterisk-wazo", settings(5, 600), capacity);
        for (now, source) in sources.into_iter().enumerate() {
            jail.observe(&attempt(IpAddr::from(source), Verdict::Failure), "log", at(now as u64 / 10));
            prop_assert!(jail.watched() <= capacity);
        }
    }
}

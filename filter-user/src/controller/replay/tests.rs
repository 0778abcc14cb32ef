use std::net::IpAddr;
use std::time::Duration;

use proptest::prelude::*;

use super::super::tests::{NoKernel, at, fail, started_again, started_with};
use super::*;
use crate::ban::{Ban, Entry};
use crate::config::Scope;
use crate::controller::Source;
use crate::failure::{Attempt, Class, Verdict};

const ATTACKER: [u8; 4] = [203, 0, 113, 7];

/// As after a kill once all was written, or an orderly end.
fn restart(
    controller: Controller<NoKernel>,
    records: &mut Vec<JailRecord>,
) -> Controller<NoKernel> {
    records.extend(controller.store().take_jail_records());
    let bans = controller.bans.ledger().iter().cloned().collect();
    let mut controller = started_again(controller.datapath, bans, |_| {});
    controller.recall(records.clone(), at(20));
    // Attempts that are stored already are not stored again.
    assert_eq!(controller.store().take_jail_records(), []);
    controller
}

fn bans(controller: &Controller<NoKernel>) -> Vec<Entry> {
    controller.bans.ledger().iter().cloned().collect()
}

#[test]
fn failures_before_a_restart_count() {
    let (mut controller, mut records) = (started_with(NoKernel::default(), |_| {}), Vec::new());
    fail(&mut controller, ATTACKER, 10);
    controller = restart(controller, &mut records);
    fail(&mut controller, ATTACKER, 4);
    assert!(controller.bans.ledger().is_empty());
    controller = restart(controller, &mut records);
    fail(&mut controller, ATTACKER, 1);
    let [ban] = &bans(&controller)[..] else { panic!("not banned") };
    assert!(ban.reason.starts_with("15 failures"), "{}", ban.reason);
    // And a ban that was lifted, with the failures behind it.
    controller.lift(IpNet::from(IpAddr::from(ATTACKER)), None, at(20)).unwrap();
    controller = restart(controller, &mut records);
    fail(&mut controller, ATTACKER, 14);
    assert!(controller.bans.ledger().is_empty());
}

#[test]
fn a_ban_that_has_ended_is_not_passed_again() {
    let (mut controller, mut records) = (started_with(NoKernel::default(), |_| {}), Vec::new());
    fail(&mut controller, ATTACKER, 15);
    assert_eq!(bans(&controller).len(), 1);
    controller.handle_timeout(at(4000));
    assert!(controller.bans.ledger().is_empty());
    controller = restart(controller, &mut records);
    assert!(controller.bans.ledger().is_empty());
    fail(&mut controller, ATTACKER, 14);
    assert!(controller.bans.ledger().is_empty());
}

/// The controller was killed after the ban was in the kernel, and before it was written down.
#[test]
fn failures_that_have_led_to_a_ban_that_only_the_kernel_has_do_not_count_again() {
    let mut controller = started_with(NoKernel::default(), |_| {});
    fail(&mut controller, ATTACKER, 14);
    let mut records = controller.store().take_jail_records();
    fail(&mut controller, ATTACKER, 1);
    controller = started_again(controller.datapath, Vec::new(), |_| {});
    controller.recall(records.clone(), at(20));
    let [ban] = &bans(&controller)[..] else { panic!("not adopted") };
    assert_eq!((&*ban.reason, ban.ban.until), (ADOPTED, Some(at(3600))));
    // The last line is read again.
    fail(&mut controller, ATTACKER, 1);
    let [ban] = &bans(&controller)[..] else { panic!("not one ban") };
    assert!(ban.reason.starts_with("15 failures within"), "{}", ban.reason);
    assert_eq!((ban.ban.until, ban.evidence().is_empty()), (Some(at(3600)), false));
    assert_eq!(controller.escalation.history().iter().count(), 1);
    fail(&mut controller, ATTACKER, 20);
    assert_eq!(bans(&controller), std::slice::from_ref(ban));
    controller.handle_timeout(at(4000));
    assert!(controller.bans.ledger().is_empty());
    controller = restart(controller, &mut records);
    fail(&mut controller, ATTACKER, 14);
    assert!(controller.bans.ledger().is_empty());
}

/// As above, but the last line is not read again.
#[test]
fn failures_behind_a_ban_that_nothing_explains_go_with_it() {
    let mut controller = started_with(NoKernel::default(), |_| {});
    fail(&mut controller, ATTACKER, 14);
    let records = controller.store().take_jail_records();
    fail(&mut controller, ATTACKER, 1);
    controller = started_again(controller.datapath, Vec::new(), |config| {
        config.jails.get_mut("asterisk-wazo").unwrap().findtime = Duration::from_hours(10);
    });
    controller.recall(records, at(20));
    controller.handle_timeout(at(4000));
    assert!(controller.bans.ledger().is_empty());
    fail(&mut controller, ATTACKER, 14);
    assert!(controller.bans.ledger().is_empty());
}

/// AMI has reported it, the controller is killed, and then the line in the log is read.
#[test]
fn what_another_source_told_of_before_the_restart_counts_once() {
    let mut records = Vec::new();
    let mut controller = started_with(NoKernel::default(), |_| {});
    controller.add_source(Source::new("asterisk-ami", "ami", String::new()), at(0));
    let attempt = |session: &str| Attempt {
        session: Some(session.to_owned()),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, ATTACKER.into())
    };
    for n in 0..14 {
        controller.observe(&attempt(&n.to_string()), 1, "asterisk-wazo", at(19));
    }
    records.extend(controller.store().take_jail_records());
    controller = started_again(controller.datapath, Vec::new(), |_| {});
    controller.add_source(Source::new("asterisk-ami", "ami", String::new()), at(0));
    controller.recall(records, at(20));
    for n in 0..14 {
        controller.observe(&attempt(&n.to_string()), 0, "asterisk-wazo", at(20));
    }
    assert!(controller.bans.ledger().is_empty());
    controller.observe(&attempt("another"), 0, "asterisk-wazo", at(20));
    assert_eq!(bans(&controller).len(), 1);
}

/// Without the evidence, of which there may be some that is too old to count, and the history.
fn decisions(controller: &Controller<NoKernel>) -> Vec<Ban> {
    bans(controller).into_iter().map(|entry| entry.ban).collect()
}

proptest! {
    /// A controller that is restarted at any moments decides what one does that is not.
    #[test]
    fn a_restart_changes_no_decision(
        steps in proptest::collection::vec((0u64..40, 0u8..3, 0u8..8, any::<bool>()), 1..120),
        restarts in proptest::collection::vec(0usize..120, 0..4),
    ) {
        let start = || started_with(NoKernel::default(), adjust);
        let (mut steady, mut shaky, mut records) = (start(), start(), Vec::new());
        let mut now = 0;
        for (place, (gap, source, what, proven)) in steps.into_iter().enumerate() {
            now += gap;
            let verdict = if what == 0 { Verdict::Success } else { Verdict::Failure };
            let address = IpAddr::from([203, 0, 113, source]);
            let class = Class::WrongCredential;
            let attempt = Attempt { proven, ..Attempt::new(verdict, class, address) };
            for controller in [&mut steady, &mut shaky] {
                controller.handle_timeout(at(now));
                controller.observe(&attempt, 0, "sshd", at(now));
            }
            prop_assert_eq!(decisions(&steady), decisions(&shaky));
            if restarts.contains(&place) {
                records.extend(shaky.store().take_jail_records());
                let bans = bans(&shaky);
                let datapath = std::mem::take(&mut shaky.datapath);
                shaky = started_again(datapath, bans, adjust);
                shaky.recall(records.clone(), at(now));
            }
        }
    }
}

proptest! {
    /// Even if something was not written when the controller was killed, the bans have their reasons once
    /// everything has been read again.
    #[test]
    fn bans_that_only_the_kernel_has_are_explained_again(
        steps in proptest::collection::vec((0u8..3, any::<bool>()), 1..60),
        written in 0usize..60,
    ) {
        let mut controller = started_with(NoKernel::default(), adjust);
        let attempt = |(source, proven): (u8, bool)| {
            let address = IpAddr::from([203, 0, 113, source]);
            let failure = Attempt::new(Verdict::Failure, Class::WrongCredential, address);
            Attempt { proven, ..failure }
        };
        let written = written.min(steps.len());
        let (before, behind) = steps.split_at(written);
        for step in before {
            controller.observe(&attempt(*step), 0, "sshd", at(1));
        }
        let (records, kept) = (controller.store().take_jail_records(), bans(&controller));
        for step in behind {
            controller.observe(&attempt(*step), 0, "sshd", at(2));
        }
        let expected = bans(&controller);
        let datapath = std::mem::take(&mut controller.datapath);
        let mut again = started_again(datapath, kept, adjust);
        again.recall(records, at(3));
        for step in behind {
            again.observe(&attempt(*step), 0, "sshd", at(3));
        }
        let found = bans(&again);
        let keys = |bans: &[Entry]| bans.iter().map(Entry::key).collect::<Vec<_>>();
        prop_assert_eq!(keys(&found), keys(&expected));
        for entry in found {
            prop_assert!(&*entry.reason != ADOPTED, "{:?}", entry);
        }
    }
}

fn adjust(config: &mut crate::config::Config) {
    let jail = config.jails.get_mut("sshd").unwrap();
    (jail.maxretry, jail.scope, jail.unproven_scope) = (4, Scope::All, Some(Scope::Sip));
    (jail.findtime, jail.bantime) = (Duration::from_mins(2), Duration::from_mins(1));
}

//! What the metrics count.

use std::time::Duration;

use api::{Request, Unban};

use super::*;
use crate::metrics::Snapshot;

#[test]
fn what_happens_is_counted() {
    let datapath = NoKernel { unseen: vec![[192, 0, 2, 66].into()], ..NoKernel::default() };
    let mut controller = started_with(datapath, |_default| {});
    fail(&mut controller, [203, 0, 113, 7], 15);
    fail(&mut controller, [192, 0, 2, 66], 3);
    controller.note_reaction(Duration::from_millis(1), controller.bans_made());
    let counts = controller.metrics(at(20)).unwrap();
    let failures: u64 = counts.failures.iter().map(|(_, count)| count).sum();
    assert_eq!((failures, counts.values.unwitnessed), (18, 3));
    assert!(counts.failures.iter().all(|((_, class, _), _)| *class == "wrong-credential"));
    let bans: Vec<_> = counts.bans.iter().map(|((jail, ..), count)| (&**jail, *count)).collect();
    assert_eq!(bans, [("asterisk-wazo", 1)]);
    assert_eq!(made(&counts), [("asterisk-wazo", 1)]);
    assert_eq!(counts.reactions.count(), 1);
    let values = counts.values;
    assert!(values.enforcing && values.store_up && !values.dry_run && !values.maintenance);

    controller.answer(Request::Unban(Unban::All), at(21));
    let counts = controller.metrics(at(22)).unwrap();
    assert_eq!(counts.bans.values().sum::<u64>(), 0);
    assert_eq!(made(&counts), [("asterisk-wazo", 1)]);
}

/// An attacker chooses addresses and accounts, but neither is a label.
#[test]
fn attackers_add_no_labels() {
    let mut controller = started_with(NoKernel::default(), |_default| {});
    let labels = |controller: &Controller<NoKernel>| {
        let counts = controller.metrics(at(3000)).unwrap();
        (counts.failures.len(), counts.bans.len(), counts.bans_made.len())
    };
    fail(&mut controller, [203, 0, 113, 0], 15);
    let before = labels(&controller);
    for last in 1..=250 {
        fail(&mut controller, [203, 0, 113, last], 15);
    }
    assert_eq!(labels(&controller), before);
}

/// The jails that have made bans.
fn made(counts: &Snapshot) -> Vec<(&str, u64)> {
    let made = counts.bans_made.iter().map(|(jail, bans)| (&**jail, *bans));
    made.filter(|(_, bans)| *bans > 0).collect()
}

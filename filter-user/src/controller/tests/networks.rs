//! Networks of many offenders.

use super::*;
use crate::dns::{Addresses, News};

/// One failure bans, and three offenders their /24.
fn escalating(config: &mut Config) {
    let jail = config.jails.get_mut("asterisk-wazo").unwrap();
    (jail.maxretry, jail.bantime) = (1, Duration::from_mins(1));
    jail.ignoreip = vec!["203.0.113.128/25".parse().unwrap(), "203.0.113.129/32".parse().unwrap()];
    config.trusted.push("203.0.113.10/32".parse().unwrap());
    config.escalation.enabled = true;
    config.escalation.ipv4.offenders = 3;
}

fn offend(controller: &mut Controller<NoKernel>, last: u8, is_proven: bool, second: u64) {
    let attempt = Attempt { proven: is_proven, ..proven(IpAddr::from([203, 0, 113, last])) };
    controller.observe(&attempt, 0, "asterisk-wazo", at(second));
}

/// The networks that are banned for their offenders, each with its exceptions.
fn escalated(controller: &mut Controller<NoKernel>) -> Vec<(String, Vec<String>)> {
    let bans = ask(controller, bans_of("escalation"));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let row = |ban: &Value| {
        let except = ban["except"].as_array().unwrap().iter().map(text).collect();
        (text(&ban["network"]), except)
    };
    bans["bans"].as_array().unwrap().iter().map(row).collect()
}

fn strings(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

#[test]
fn a_network_is_banned_for_its_offenders_but_for_the_trusted_and_known_in_it() {
    let mut controller = started_with(NoKernel::default(), escalating);
    controller.datapath.known =
        [[203, 0, 113, 77], [203, 0, 113, 200], [203, 0, 114, 1]].map(IpAddr::from).to_vec();
    offend(&mut controller, 1, true, 0);
    // Failures that can be forged do not count, nor does a second ban of the same source, nor one that
    // was lifted.
    for n in 20..30 {
        offend(&mut controller, n, false, 1);
    }
    controller.handle_timeout(at(70));
    offend(&mut controller, 1, true, 100);
    offend(&mut controller, 2, true, 100);
    let network = "203.0.113.2/32".parse().unwrap();
    ask(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    offend(&mut controller, 3, true, 101);
    assert_eq!(escalated(&mut controller), []);
    offend(&mut controller, 4, true, 102);
    let except = strings(&["203.0.113.10", "203.0.113.77", "203.0.113.128/25"]);
    assert_eq!(escalated(&mut controller), [("203.0.113.0/24".to_owned(), except.clone())]);
    let why = ask(&mut controller, Request::Why { address: [203, 0, 113, 5].into() });
    assert_eq!(
        (&why["jail"], &why["reason"]),
        (&"escalation".into(), &"3 offenders within 1d".into())
    );
    for (last, closed) in [(5, true), (77, false), (200, false)] {
        assert_eq!(closes(&mut controller, [203, 0, 113, last], "sip"), closed, "{last}");
    }
    // Others make no second ban of it, and it is the same after a restart.
    offend(&mut controller, 6, true, 103);
    assert_eq!(escalated(&mut controller).len(), 1);
    let status = ask(&mut controller, Request::Status);
    assert_eq!(
        status["escalation"],
        serde_json::json!({"enabled": true, "offenders": 4, "banned": 1})
    );
    let mut controller = started_with(controller.datapath, escalating);
    assert_eq!(escalated(&mut controller), [("203.0.113.0/24".to_owned(), except)]);
    controller.handle_timeout(at(102 + 86_400));
    assert!(controller.bans.ledger().is_empty() && controller.datapath.networks.is_empty());
}

#[test]
fn a_peer_that_becomes_known_is_let_out_of_the_ban_of_its_network() {
    let mut controller = started_with(NoKernel::default(), |config| {
        escalating(config);
        config.jails.get_mut("asterisk-wazo").unwrap().ignoreip.clear();
    });
    for last in 1..=3 {
        offend(&mut controller, last, true, 0);
    }
    let answered = |last| Attempt {
        proven: true,
        answered: true,
        ..Attempt::new(Verdict::Success, Class::Challenge, [203, 0, 113, last].into())
    };
    assert!(closes(&mut controller, [203, 0, 113, 20], "sip"));
    controller.observe(&answered(20), 0, "asterisk-wazo", at(1));
    controller.observe(&answered(20), 0, "asterisk-wazo", at(2));
    assert!(!closes(&mut controller, [203, 0, 113, 20], "sip"));
    let [(_, except)] = &escalated(&mut controller)[..] else { panic!("not banned") };
    assert_eq!(*except, strings(&["203.0.113.10", "203.0.113.20"]));
    // Each one more, up to as many as a ban can leave out. Then it goes.
    for last in (22..=144).step_by(2) {
        controller.observe(&answered(last), 0, "asterisk-wazo", at(3));
    }
    assert_eq!(escalated(&mut controller)[0].1.len(), EXCEPT_MAX);
    controller.observe(&answered(146), 0, "asterisk-wazo", at(4));
    assert_eq!(escalated(&mut controller), []);
    offend(&mut controller, 4, true, 5);
    assert_eq!(escalated(&mut controller), [], "it is not tried again at once");
}

#[test]
fn a_network_with_too_many_known_peers_is_not_banned() {
    let mut controller = started_with(NoKernel::default(), |config| {
        escalating(config);
        config.jails.get_mut("asterisk-wazo").unwrap().ignoreip.clear();
    });
    let known = |addresses: std::ops::RangeInclusive<u8>, step| -> Vec<IpAddr> {
        addresses.step_by(step).map(|last| IpAddr::from([203, 0, 113, last])).collect()
    };
    controller.datapath.known = known(20..=255, 1);
    for last in 1..=9 {
        offend(&mut controller, last, true, 0);
    }
    assert_eq!(escalated(&mut controller).len(), 1, "all of these are a few networks");
    ask(&mut controller, Request::Unban(Unban::All));
    controller.datapath.known = known(20..=255, 2);
    for last in 1..=9 {
        offend(&mut controller, last, true, 1);
    }
    assert_eq!(escalated(&mut controller), []);
    controller.datapath.known.clear();
    for last in 1..=3 {
        offend(&mut controller, last, true, 86_401 + 60 * u64::from(last));
    }
    assert_eq!(escalated(&mut controller).len(), 1);
}

#[test]
fn a_wider_network_is_banned_for_more_offenders_and_no_narrower_one_in_it() {
    let wide = |config: &mut Config| {
        escalating(config);
        config.escalation.ipv4.wide_offenders = 4;
    };
    let mut controller = started_with(NoKernel::default(), wide);
    let offend = |controller: &mut Controller<NoKernel>, address: [u8; 4]| {
        controller.observe(&proven(address.into()), 0, "asterisk-wazo", at(0));
    };
    for third in 0..4 {
        assert_eq!(escalated(&mut controller), []);
        offend(&mut controller, [203, 0, third, 1]);
    }
    let except = strings(&["203.0.113.10", "203.0.113.128/25"]);
    let banned = [("203.0.0.0/16".to_owned(), except)];
    assert_eq!(escalated(&mut controller), banned);
    for last in 2..6 {
        offend(&mut controller, [203, 0, 3, last]);
    }
    assert_eq!(escalated(&mut controller), banned);
    // A ban for which the kernel has no room is not listed.
    let held = controller.datapath.bans.len() + controller.datapath.networks.len();
    controller.datapath.room = Some(held + 4);
    for third in 0..4 {
        offend(&mut controller, [203, 1, third, 1]);
    }
    assert_eq!(escalated(&mut controller), banned);
}

#[test]
fn what_is_banned_manually_needs_no_escalation() {
    let mut controller = started_with(NoKernel::default(), escalating);
    ask(&mut controller, ban("203.0.112.0/22", None));
    for last in 1..=9 {
        offend(&mut controller, last, true, 0);
    }
    assert_eq!(escalated(&mut controller), []);
}

#[test]
fn offenders_of_before_a_restart_count() {
    let mut first = started_with(NoKernel::default(), escalating);
    for last in 1..=2 {
        offend(&mut first, last, true, 0);
    }
    let kept = first.escalation.history().iter().map(|(who, record)| (who, *record)).collect();
    let mut second = started_with(NoKernel::default(), escalating);
    second.take_kept(Kept { offences: kept, ..Kept::default() });
    while second.has_more_to_do() {
        second.go_on(at(10));
    }
    offend(&mut second, 3, true, 100);
    assert_eq!(escalated(&mut second).len(), 1);
}

#[test]
fn a_name_that_is_ignored_is_left_out_of_the_ban_of_a_network() {
    let mut controller = started_with(NoKernel::default(), |config| {
        escalating(config);
        let jail = config.jails.get_mut("asterisk-wazo").unwrap();
        jail.ignoreip.clear();
        jail.ignore_names = vec!["office.example.org".parse().unwrap()];
    });
    let resolved = |controller: &mut Controller<NoKernel>, last: u8| {
        let all = BTreeSet::from([IpAddr::from([203, 0, 113, last])]);
        let name = "office.example.org".parse().unwrap();
        let addresses = Addresses { all, left_out: 0, failed: None };
        controller.resolved(News { name, addresses }, at(0));
    };
    resolved(&mut controller, 40);
    for last in 1..=3 {
        offend(&mut controller, last, true, 0);
    }
    assert_eq!(escalated(&mut controller)[0].1, strings(&["203.0.113.10", "203.0.113.40"]));
    resolved(&mut controller, 50);
    let except = strings(&["203.0.113.10", "203.0.113.40", "203.0.113.50"]);
    assert_eq!(escalated(&mut controller)[0].1, except);
}

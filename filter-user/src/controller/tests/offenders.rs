//! Longer bans, and the jail `recidive`.

use super::*;

pub(super) fn growing(config: &mut Config) {
    let jail = config.jails.get_mut("asterisk-wazo").unwrap();
    (jail.maxretry, jail.increment.enabled) = (3, true);
}

/// Bans an address at this second and lets the ban end. Returns its length in hours, and its reason.
fn banned_for(
    controller: &mut Controller<NoKernel>,
    attempt: &Attempt,
    second: u64,
) -> (u64, String) {
    for _ in 0..3 {
        controller.observe(attempt, 0, "asterisk-wazo", at(second));
    }
    let entry = controller.bans.ledger().iter().next().unwrap().clone();
    let until = entry.ban.until.unwrap();
    controller.handle_timeout(until);
    assert!(controller.bans.ledger().is_empty());
    (until.since(at(second)).as_secs() / 3600, entry.reason.to_string())
}

#[test]
fn each_proven_ban_is_longer_and_an_unban_forgets_the_earlier_ones() {
    let mut controller = started_with(NoKernel::default(), growing);
    let address = IpAddr::from([203, 0, 113, 7]);
    let proven = proven(address);
    let unproven = Attempt { proven: false, ..proven.clone() };
    let mut day = 0;
    let mut ban = |controller: &mut Controller<NoKernel>, attempt| {
        day += 1;
        banned_for(controller, attempt, day * 86_400)
    };
    let failures = "3 failures within 10m, the last one wrong-credential";
    assert_eq!(ban(&mut controller, &proven), (1, failures.to_owned()));
    assert_eq!(ban(&mut controller, &proven), (2, format!("{failures}; 2nd ban")));
    assert_eq!(ban(&mut controller, &unproven), (1, format!("{failures}; 3rd ban")));
    assert_eq!(ban(&mut controller, &proven), (4, format!("{failures}; 4th ban")));
    // It is not banned at the moment. The reply says so, and the earlier bans are forgotten nevertheless.
    let network = address.into();
    let why = refuse(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert!(why.contains("not banned"), "{why}");
    assert_eq!(ban(&mut controller, &proven), (1, failures.to_owned()));
    for (which, hours) in [
        (Unban::Jail { jail: "sshd".to_owned() }, 2),
        (Unban::Jail { jail: "manual".to_owned() }, 4),
        (Unban::Jail { jail: "asterisk-wazo".to_owned() }, 1),
        (Unban::Network { network: "203.0.113.0/24".parse().unwrap(), inside: false }, 1),
        (Unban::All, 1),
    ] {
        drop(controller.answer(Request::Unban(which), at(20)));
        assert_eq!(ban(&mut controller, &proven).0, hours);
    }
}

/// The NOTICE log reports each failure over TCP first, but cannot prove it; a moment later AMI does.
/// Together they lead to a single, proven ban.
#[test]
fn a_ban_that_is_proven_late_counts_as_proven_and_once() {
    let mut controller = started_with(NoKernel::default(), growing);
    let ami = controller.add_source(ami(), at(0));
    let address = IpAddr::from([203, 0, 113, 7]);
    for (day, hours) in [(1, 1), (2, 2), (3, 4)] {
        for n in 0..3 {
            let session = Some(format!("{day}-{n}"));
            let notice = Attempt { proven: false, session, ..proven(address) };
            let event = Attempt { proven: true, ..notice.clone() };
            controller.observe(&notice, 0, "asterisk-wazo", at(day * 86_400 + n));
            controller.observe(&event, ami, "asterisk-wazo", at(day * 86_400 + n));
        }
        let bans: Vec<Ban> = controller.bans.ledger().iter().map(|entry| entry.ban).collect();
        let until = at(day * 86_400 + 2).after(Duration::from_hours(hours));
        assert_eq!((bans.len(), bans[0].until), (1, Some(until)), "day {day}");
        assert_eq!(controller.datapath.bans[&address].until, Some(until));
        controller.handle_timeout(until);
    }
    let record = *controller.escalation.history().iter().next().unwrap().1;
    assert_eq!((record.bans, record.proven), (3, 3));
}

#[test]
fn a_ban_that_the_kernel_refuses_is_no_offence() {
    let mut controller = started_with(NoKernel::default(), growing);
    controller.datapath.room = Some(0);
    for n in 0..3 {
        controller.observe(&proven(IpAddr::from([203, 0, 113, 7])), 0, "asterisk-wazo", at(n));
    }
    assert!(controller.escalation.history().is_empty());
}

/// Lets a jail ban an address, and the ban end.
fn ban_by(
    controller: &mut Controller<NoKernel>,
    jail: &str,
    address: IpAddr,
    proven: bool,
    second: u64,
) {
    let attempt = Attempt { proven, ..Attempt::new(Verdict::Failure, Class::Login, address) };
    let maxretry = if jail == "sshd" { 5 } else { 3 };
    for _ in 0..maxretry {
        controller.observe(&attempt, 0, jail, at(second));
    }
    controller.handle_timeout(at(second + 3600));
}

fn with_recidive(unproven_scope: Option<Scope>) -> Controller<NoKernel> {
    started_with(NoKernel::default(), |config| {
        growing(config);
        let jail = config.jails.get_mut("recidive").unwrap();
        (jail.enabled, jail.unproven_scope) = (true, unproven_scope);
    })
}

pub(super) fn recidive(controller: &mut Controller<NoKernel>) -> Vec<(String, String, String)> {
    let bans = ask(controller, bans_of("recidive"));
    let text = |ban: &Value, key: &str| ban[key].as_str().unwrap().to_owned();
    let bans = bans["bans"].as_array().unwrap().iter();
    bans.map(|ban| (text(ban, "network"), text(ban, "scope"), text(ban, "reason"))).collect()
}

#[test]
fn the_fifth_proven_ban_in_a_day_is_a_week_for_everything() {
    let mut controller = with_recidive(None);
    let [address, victim] = [7, 8].map(|last| IpAddr::from([203, 0, 113, last]));
    for n in 0..5 {
        assert_eq!(recidive(&mut controller), []);
        // Manual bans, those for floods, and unproven ones do not count.
        ask(&mut controller, ban("203.0.113.8/32", Some(1)));
        controller.flooding(victim, at(n * 5000), at(n * 5000 + 60));
        ban_by(&mut controller, "asterisk-wazo", victim, false, n * 5000);
        let jail = if n % 2 == 0 { "asterisk-wazo" } else { "sshd" };
        ban_by(&mut controller, jail, address, true, n * 5000);
    }
    let said = "5 bans within 1d, the last one by asterisk-wazo".to_owned();
    assert_eq!(recidive(&mut controller), [("203.0.113.7".to_owned(), "all".to_owned(), said)]);
    let ban = controller.bans.ledger().iter().find(|entry| entry.ban.scope == Scope::All).unwrap();
    assert_eq!(ban.ban.until, Some(at(20_000 + 7 * 86_400)));
    assert_eq!(ban.evidence().len(), 5);
    assert!(ban.evidence().iter().all(|of| of.proven && of.class == Class::Ban));
    assert_eq!(controller.bans.ledger().of(victim).len(), 0);
    let status = ask(&mut controller, Request::Status);
    let jails = status["jails"].as_array().unwrap();
    assert!(
        jails.iter().any(|jail| jail["name"] == "recidive" && jail["banned"] == 1),
        "{jails:?}"
    );
}

#[test]
fn bans_more_than_a_day_apart_are_no_relapse() {
    let mut controller = with_recidive(None);
    for n in 0..20 {
        ban_by(&mut controller, "sshd", IpAddr::from([203, 0, 113, 7]), true, n * 7 * 3600);
    }
    assert_eq!(recidive(&mut controller), []);
}

#[test]
fn bans_that_can_be_forged_lead_to_the_narrow_scope_at_most() {
    let mut controller = with_recidive(Some(Scope::Sip));
    let address = IpAddr::from([203, 0, 113, 7]);
    let ami = controller.add_source(Source::new("asterisk-ami", "ami", String::new()), at(0));
    for n in 0..4 {
        ban_by(&mut controller, "asterisk-wazo", address, false, n * 5000);
    }
    // If a ban becomes proven later, it counts once.
    let second = 20_000;
    for n in 0..3 {
        let session = Some(format!("{n}"));
        let notice = Attempt { proven: false, session, ..proven(address) };
        controller.observe(&notice, 0, "asterisk-wazo", at(second));
        controller.observe(&Attempt { proven: true, ..notice }, ami, "asterisk-wazo", at(second));
    }
    let said = "5 bans within 1d, the last one by asterisk-wazo".to_owned();
    assert_eq!(recidive(&mut controller), [("203.0.113.7".to_owned(), "sip".to_owned(), said)]);
    let recidive = controller.jails.iter().find(|jail| jail.name() == "recidive").unwrap();
    let evidence: Vec<bool> = recidive.evidence(address).iter().map(|e| e.proven).collect();
    assert_eq!(evidence, [true]);
}

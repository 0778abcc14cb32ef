//! Attempts: which of them count, and against which address.

use super::*;

#[test]
fn a_failure_without_a_packet_is_forged() {
    let mut controller = controller();
    controller.datapath.unseen = vec![IpAddr::from([203, 0, 113, 12])];
    fail(&mut controller, [203, 0, 113, 12], 100);
    fail(&mut controller, [203, 0, 113, 13], 14);
    assert!(controller.datapath.bans.is_empty());
    let status = ask(&mut controller, Request::Status);
    assert_eq!(status["sources"][0]["unwitnessed"], 100);
    assert_eq!(status["sources"][0]["failures"], 114);
}

#[test]
fn failures_without_a_packet_one_after_the_other_are_a_finding() {
    let mut controller = controller();
    let elsewhere = [203, 0, 113, 12];
    controller.datapath.unseen = vec![IpAddr::from(elsewhere)];
    let found = |controller: &mut Controller<NoKernel>| {
        let status = ask(controller, Request::Status);
        status["hearing"].as_array().unwrap().iter().any(|one| one["kind"] == "unwitnessed")
    };
    fail(&mut controller, elsewhere, crate::hearing::UNWITNESSED - 1);
    assert!(!found(&mut controller));
    fail(&mut controller, [203, 0, 113, 13], 1);
    fail(&mut controller, elsewhere, crate::hearing::UNWITNESSED - 1);
    assert!(!found(&mut controller), "a packet was seen in between");
    fail(&mut controller, elsewhere, 1);
    assert!(found(&mut controller));
    fail(&mut controller, [203, 0, 113, 13], 1);
    assert!(!found(&mut controller), "it sees again");
    // Lines that were written long before they are read do not count.
    let old = Attempt {
        needs_witness: true,
        logged_at: Some(LoggedAt::Instant(Timestamp::from_second(900).unwrap())),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, IpAddr::from(elsewhere))
    };
    for n in 0..50 {
        controller.observe(&old, 0, "asterisk-wazo", at(n));
    }
    assert!(!found(&mut controller));
    // Failures that AMI reports need no witness, but it is still recorded whether their packets were
    // seen.
    let ami = controller.add_source(ami(), at(0));
    for transport in [Transport::Wss, Transport::Tcp, Transport::Udp] {
        assert!(!found(&mut controller));
        let told = Attempt {
            transport: Some(transport),
            needs_witness: false,
            logged_at: None,
            ..old.clone()
        };
        for n in 0..50 {
            controller.observe(&told, ami, "asterisk-wazo", at(n));
        }
    }
    assert!(found(&mut controller));
}

#[test]
fn the_packet_decides_where_the_line_does_not() {
    let (attacker, victim) = (IpAddr::from([203, 0, 113, 13]), IpAddr::from([203, 0, 113, 12]));
    let undecided = Attempt {
        needs_witness: true,
        rivals: vec![attacker],
        decided: false,
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, victim)
    };
    let mut controller = controller();
    controller.datapath.unseen = vec![victim];
    for n in 0..15 {
        controller.observe(&undecided, 0, "asterisk-wazo", at(n));
    }
    let bans: Vec<IpAddr> = controller.datapath.bans.keys().copied().collect();
    assert_eq!(bans, [attacker]);
    // If both have sent packets, the failure counts for neither.
    controller.datapath.unseen.clear();
    ask(&mut controller, Request::Unban(Unban::All));
    for n in 0..100 {
        controller.observe(&undecided, 0, "asterisk-wazo", at(n));
    }
    assert!(controller.datapath.bans.is_empty());
    // If the line itself decides, its address counts.
    let decided = Attempt { decided: true, address: attacker, rivals: vec![victim], ..undecided };
    for n in 0..15 {
        controller.observe(&decided, 0, "asterisk-wazo", at(n));
    }
    assert_eq!(controller.datapath.bans.len(), 1);
}

#[test]
fn known_peers_are_not_banned_for_what_can_be_forged() {
    let mut controller = controller();
    let address = IpAddr::from([203, 0, 113, 7]);
    controller.datapath.known = vec![address];
    fail(&mut controller, [203, 0, 113, 7], 100);
    assert!(controller.bans.ledger().is_empty());
    let status = ask(&mut controller, Request::Status);
    assert_eq!(
        status["peers"],
        serde_json::json!({"known": 1, "spared": 100, "learned": 4, "no_room": 1})
    );
    let why = ask(&mut controller, Request::Why { address });
    assert_eq!((&why["known"], &why["packets"]["passed"]), (&Value::Bool(true), &42.into()));

    let why = refuse(&mut controller, ban("203.0.113.7/32", Some(60)));
    assert!(why.contains("known peer") && why.contains("--force"), "{why}");
    let Request::Ban { network, seconds, scope, except, reason, .. } =
        ban("203.0.113.7/32", Some(60))
    else {
        unreachable!("it is a ban");
    };
    let forced = Request::Ban { network, seconds, scope, except, reason, force: true };
    ask(&mut controller, forced);
    ask(&mut controller, Request::Unban(Unban::All));
    // Failures that cannot be forged count.
    for n in 0..15 {
        controller.observe(&proven(address), 0, "asterisk-wazo", at(n));
    }
    assert_eq!(controller.bans.ledger().len(), 1);
}

/// A scanner that Asterisk only challenges, and a phone that answers.
#[test]
fn unanswered_challenges_ban_in_the_end() {
    let mut controller = controller();
    let (scanner, phone) = (IpAddr::from([203, 0, 113, 40]), IpAddr::from([203, 0, 113, 41]));
    for n in 0..15 {
        for address in [scanner, phone] {
            let session = Some(n.to_string());
            let challenge = Attempt::new(Verdict::Ignored, Class::Challenge, address);
            let challenge = Attempt { session, ..challenge };
            controller.observe(&challenge, 0, "asterisk-wazo", at(n));
        }
        let success = Attempt::new(Verdict::Success, Class::Challenge, phone);
        controller.observe(&success, 0, "asterisk-wazo", at(n));
    }
    controller.handle_timeout(at(45));
    assert!(controller.bans.ledger().is_empty());
    assert_eq!(controller.next_timeout(), Some(at(46)));
    controller.handle_timeout(at(46));
    let bans: Vec<IpAddr> = controller.datapath.bans.keys().copied().collect();
    assert_eq!(bans, [scanner]);
}

#[test]
fn what_seems_not_to_be_heard_is_in_the_status() {
    let mut controller = controller();
    controller.source_reads(0, true, at(0));
    let mut news = crate::source::Heard::state(crate::source::SourceState::Ok);
    news.lines = 4;
    news.attempts = vec![Attempt {
        rule: "no-matching-endpoint",
        ..Attempt::new(Verdict::Failure, Class::UnknownAccount, IpAddr::from([203, 0, 113, 7]))
    }];
    let wall = Timestamp::from_second(1007).unwrap();
    for _line in 0..3 {
        news.unparsed.add(b"x.c: 203.0.113.7 \x1b was refused", wall);
    }
    controller.take_note(0, &mut news, at(5));
    let status = ask(&mut controller, Request::Status);
    let source = &status["sources"][0];
    let rules = source["rules"].as_array().unwrap();
    let hit = rules.iter().find(|rule| rule["name"] == "no-matching-endpoint").unwrap();
    assert_eq!((&hit["hits"], &hit["last"]), (&1.into(), &"1970-01-01T00:16:45Z".into()));
    assert!(rules.iter().filter(|rule| rule["last"].is_null()).count() > 5, "{rules:?}");
    let sample = &source["unparsed"]["samples"][0];
    assert_eq!(sample["line"], "x.c: 203.0.113.7 \u{fffd} was refused");
    assert_eq!((&sample["lines"], &sample["last"]), (&3.into(), &"1970-01-01T00:16:47Z".into()));
    let finding = &status["hearing"][0];
    assert_eq!(
        (&finding["source"], &finding["kind"]),
        (&"asterisk-notice".into(), &"unparsed".into())
    );
    assert!(
        finding["remedy"].as_str().unwrap().contains("test-log asterisk-wazo /var/log/asterisk/")
    );
    let text = crate::report::status(&read(&status));
    assert!(text.contains("NOT HEARD: asterisk-notice: 3 lines look like failures"), "{text}");
    assert!(text.contains("    3 like: x.c: 203.0.113.7 \u{fffd} was refused\n"), "{text}");
}

/// A guesser over TCP: the NOTICE log reports each attempt first, but cannot prove it; AMI can.
#[test]
fn a_ban_of_everything_wants_proof() {
    let settings = |unproven_scope| {
        move |config: &mut Config| {
            let jail = config.jails.get_mut("asterisk-wazo").unwrap();
            (jail.scope, jail.unproven_scope) = (Scope::All, unproven_scope);
        }
    };
    let address = IpAddr::from([203, 0, 113, 7]);
    let scopes = |controller: &Controller<NoKernel>| {
        let mut scopes: Vec<Scope> = controller.bans.ledger().iter().map(|e| e.ban.scope).collect();
        scopes.sort();
        scopes
    };
    let tell = |controller: &mut Controller<NoKernel>, proof: bool| {
        let ami = controller.add_source(ami(), at(0));
        for n in 0..15 {
            let session = Some(n.to_string());
            let notice = Attempt { proven: false, session, ..proven(address) };
            controller.observe(&notice, 0, "asterisk-wazo", at(n));
            if proof {
                let event = Attempt { proven: true, ..notice };
                controller.observe(&event, ami, "asterisk-wazo", at(n));
            }
        }
    };
    for (unproven, proof, expected) in [
        (Some(Scope::Sip), false, &[Scope::Sip][..]),
        (Some(Scope::Sip), true, &[Scope::Sip, Scope::All]),
        (None, false, &[]),
        (None, true, &[Scope::All]),
    ] {
        let mut controller = started_with(NoKernel::default(), settings(unproven));
        tell(&mut controller, proof);
        assert_eq!(scopes(&controller), expected, "{unproven:?} {proof}");
    }
}

#[test]
fn who_answers_a_challenge_is_a_known_peer() {
    let mut controller = controller();
    let success = |address: [u8; 4], answered| Attempt {
        proven: true,
        answered,
        ..Attempt::new(Verdict::Success, Class::Challenge, address.into())
    };
    for (address, answered) in [
        ([203, 0, 113, 7], true),
        // A trunk that needs no password, nginx before Asterisk's WebSocket, a trusted network.
        ([203, 0, 113, 8], false),
        ([127, 0, 0, 1], true),
        ([192, 0, 2, 10], true),
        ([198, 51, 100, 7], true),
    ] {
        controller.observe(&success(address, answered), 0, "asterisk-wazo", at(1));
    }
    assert_eq!(controller.datapath.known, [IpAddr::from([203, 0, 113, 7])]);
}

#[test]
fn those_who_guess_at_one_account_are_banned_but_for_known_peers() {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut("asterisk-wazo").unwrap();
        (jail.guessing.maxretry, jail.guessing.sources, jail.guessing.each) = (12, 4, 3);
    });
    let guessers: Vec<[u8; 4]> = (1..=3).map(|n| [203, 0, 113, n]).collect();
    for guesser in &guessers {
        fail(&mut controller, *guesser, 3);
    }
    // A user mistyped it, and has registered since.
    let user = [203, 0, 113, 9];
    fail(&mut controller, user, 2);
    controller.datapath.know(user.into(), at(10)).unwrap();
    assert!(controller.datapath.bans.is_empty());
    fail(&mut controller, [203, 0, 113, 20], 1);
    let bans = ask(&mut controller, every_ban());
    let banned: BTreeSet<&str> =
        bans["bans"].as_array().unwrap().iter().map(|b| b["network"].as_str().unwrap()).collect();
    assert_eq!(banned, BTreeSet::from(["203.0.113.1", "203.0.113.2", "203.0.113.3"]));
    let reason =
        "3 failures on the account 1001, on which 5 sources have failed 12 times within 7d";
    assert_eq!(bans["bans"][0]["reason"], reason);
    let jails = ask(&mut controller, Request::Jails);
    assert_eq!(jails["jails"][0]["attacked"][0]["account"], "1001");
    let text = crate::report::jails(&read(&jails));
    assert!(text.contains("the account 1001 is guessed at: 12 failures from 5 sources"), "{text}");
}

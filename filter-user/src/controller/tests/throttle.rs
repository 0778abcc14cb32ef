//! Failures that are not proven throttle.

use super::*;
use crate::config::Unproven;

const JAIL: &str = "asterisk-wazo";
const SOURCE: [u8; 4] = [203, 0, 113, 5];

fn throttling() -> Controller<NoKernel> {
    started_with(NoKernel::default(), |config| {
        config.jails.get_mut(JAIL).unwrap().unproven = Unproven::Throttle;
    })
}

/// Failures that the kernel has seen, each with its own Call-ID.
fn proven(controller: &mut Controller<NoKernel>, times: u64, from: u64) {
    for n in 0..times {
        let attempt = Attempt {
            proven: true,
            session: Some(format!("proven-{}", from + n)),
            ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
        };
        controller.observe(&attempt, 1, JAIL, at(from + n));
    }
}

fn scopes(controller: &Controller<NoKernel>) -> Vec<Scope> {
    controller.bans.ledger().iter().map(|entry| entry.ban.scope).collect()
}

#[test]
fn fifteen_unproven_failures_throttle_and_fifteen_proven_ones_ban() {
    let mut controller = throttling();
    fail(&mut controller, SOURCE, 15);
    assert_eq!(scopes(&controller), [Scope::Throttle]);
    let entry = controller.datapath.networks.values().next().unwrap();
    let closed: Vec<_> = entry.ends.iter().map(|(scope, _)| scope).collect();
    assert_eq!((closed, controller.datapath.bans.len()), (vec![Scope::Throttle], 0));
    let bans = ask(&mut controller, bans_of(JAIL));
    assert_eq!(
        (&bans["bans"][0]["kind"], &bans["bans"][0]["scope"]),
        (&"throttle".into(), &"throttle".into())
    );
    fail(&mut controller, SOURCE, 15);
    assert_eq!(scopes(&controller), [Scope::Throttle], "more of the same change nothing");
    controller.add_source(ami(), at(20));
    proven(&mut controller, 14, 20);
    assert_eq!(scopes(&controller), [Scope::Throttle]);
    proven(&mut controller, 1, 40);
    assert_eq!(scopes(&controller), [Scope::Sip], "a ban replaces the throttle");
    let network = IpNet::from(IpAddr::from(SOURCE));
    ask(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert!(controller.datapath.networks.is_empty() && controller.datapath.bans.is_empty());
}

/// The proof of the last failure comes after the throttle, and after what no longer counts: the event of its
/// challenge, and a guess that was on its way.
#[test]
fn proof_that_comes_after_the_throttle_bans() {
    let of = |session: &str| Attempt {
        session: Some(session.to_owned()),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
    };
    let challenge = |session: &str| Attempt {
        verdict: Verdict::Ignored,
        class: Class::Challenge,
        ..of(session)
    };
    // A Call-ID for each guess, and one for all.
    for same in [false, true] {
        let id = |n: u64| if same { "same".to_owned() } else { n.to_string() };
        let mut controller = throttling();
        let (ami, wire) =
            (controller.add_source(ami(), at(0)), controller.add_source(ami(), at(0)));
        for n in 0..14 {
            controller.observe(&of(&id(n)), 0, JAIL, at(n));
            controller.observe(&Attempt { proven: true, ..of(&id(n)) }, wire, JAIL, at(n));
        }
        let mut hear = |attempt: Attempt, source| {
            controller.observe(&attempt, source, JAIL, at(14));
            scopes(&controller)
        };
        assert_eq!(hear(of(&id(14)), 0), [Scope::Throttle]);
        assert_eq!(hear(challenge(&id(14)), ami), [Scope::Throttle]);
        assert_eq!(hear(of(&id(15)), 0), [Scope::Throttle], "it does not count");
        assert_eq!(hear(Attempt { proven: true, ..of(&id(14)) }, wire), [Scope::Sip], "{same}");
    }
}

/// A phone with an old password, whose failures two sources prove, and as many failures that are forged in its name.
#[test]
fn a_failure_that_two_sources_prove_proves_no_other_one() {
    let mut controller = throttling();
    let (ami, wire) = (controller.add_source(ami(), at(0)), controller.add_source(ami(), at(0)));
    let of = |session: String| Attempt {
        session: Some(session),
        ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
    };
    for n in 0..14 {
        controller.observe(&of(format!("forged-{n}")), 0, JAIL, at(n));
        let own = of(format!("own-{n}"));
        controller.observe(&own, 0, JAIL, at(n));
        for source in [ami, wire] {
            controller.observe(&Attempt { proven: true, ..own.clone() }, source, JAIL, at(n));
        }
        assert!(!scopes(&controller).contains(&Scope::Sip), "{n}");
    }
    assert_eq!(scopes(&controller), [Scope::Throttle]);
}

#[test]
fn a_throttle_outlives_a_restart() {
    let mut controller = throttling();
    fail(&mut controller, SOURCE, 15);
    let kept: Vec<Entry> = controller.bans.ledger().iter().cloned().collect();
    let datapath = controller.datapath;
    let again = started_again(datapath, kept, |_same| ());
    assert_eq!(scopes(&again), [Scope::Throttle]);
    assert_eq!((again.datapath.networks.len(), again.datapath.bans.len()), (1, 0));
}

#[test]
fn a_challenge_that_was_answered_is_no_failure() {
    for answers in [true, false] {
        let mut controller = throttling();
        if answers {
            let exchange = Exchange { proven_at: Some(at(2000)), ..Exchange::default() };
            controller.datapath.answered.insert(SOURCE.into(), exchange);
        }
        for n in 0..20 {
            let attempt = Attempt {
                session: Some(n.to_string()),
                ..Attempt::new(Verdict::Ignored, Class::Challenge, SOURCE.into())
            };
            controller.observe(&attempt, 0, JAIL, at(n));
        }
        controller.handle_timeout(at(17));
        assert!(scopes(&controller).is_empty(), "fourteen are four seconds old");
        controller.handle_timeout(at(18));
        let expected: &[Scope] = if answers { &[] } else { &[Scope::Throttle] };
        assert_eq!(scopes(&controller), expected);
    }
}

#[test]
fn a_failure_on_a_connection_of_the_host_is_proven() {
    let mut controller = throttling();
    controller.datapath.connections.insert((SOURCE.into(), 40_000));
    for port in [40_001, 40_000] {
        for n in 0..15 {
            let attempt = Attempt {
                port: Some(port),
                session: Some(format!("{port}-{n}")),
                ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
            };
            controller.observe(&attempt, 0, JAIL, at(n));
        }
        let expected: &[Scope] = if port == 40_001 { &[Scope::Throttle] } else { &[Scope::Sip] };
        assert_eq!(scopes(&controller), expected);
    }
}

/// An attempt of a guesser who is throttled already, first in the log and then with proof.
#[test]
fn a_guesser_who_is_throttled_first_is_banned_after_as_many_guesses() {
    let mut controller = throttling();
    let wire = controller.add_source(ami(), at(0));
    fail(&mut controller, SOURCE, 15);
    assert_eq!(scopes(&controller), [Scope::Throttle]);
    for n in 0..15 {
        assert_eq!(scopes(&controller), [Scope::Throttle], "{n}");
        let guess = Attempt {
            session: Some(format!("guess-{n}")),
            ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
        };
        controller.observe(&guess, 0, JAIL, at(20));
        controller.observe(&Attempt { proven: true, ..guess }, wire, JAIL, at(20));
    }
    assert_eq!(scopes(&controller), [Scope::Sip]);
}

/// The connection is closed when the line is read, and the header is too long for the filter to read the credentials.
#[test]
fn a_challenge_over_tcp_proves_the_failure_in_the_log() {
    // In which order the two are heard, and whether they have one Call-ID.
    for (challenge_first, same) in [(true, true), (false, true), (true, false), (false, false)] {
        let mut controller = throttling();
        let wire = controller.add_source(ami(), at(0));
        let mut failed = 0;
        while failed < 40 && !scopes(&controller).contains(&Scope::Sip) {
            let session = |of: &str| Some(format!("{of}-{failed}"));
            let failure = Attempt {
                port: Some(40_000),
                session: session("a"),
                ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
            };
            let challenge = Attempt {
                verdict: Verdict::Ignored,
                class: Class::Challenge,
                session: session(if same { "a" } else { "b" }),
                transport: Some(Transport::Tcp),
                proven: true,
                ..failure.clone()
            };
            let mut heard = [(challenge, wire), (failure, 0)];
            if !challenge_first {
                heard.reverse();
            }
            for (attempt, source) in heard {
                controller.observe(&attempt, source, JAIL, at(1));
            }
            failed += 1;
        }
        assert_eq!(failed, if same { 15 } else { 40 }, "{challenge_first}");
    }
}

/// An attacker's text can name any port, and so that of a phone's connection.
#[test]
fn no_text_bans_a_phone_by_naming_its_connection() {
    for (needs_witness, is_banned) in [(true, false), (false, true)] {
        let mut controller = throttling();
        controller.datapath.know(SOURCE.into(), at(0)).unwrap();
        controller.datapath.connections.insert((SOURCE.into(), 40_000));
        for n in 0..20 {
            let attempt = Attempt {
                port: Some(40_000),
                needs_witness,
                session: Some(n.to_string()),
                ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
            };
            controller.observe(&attempt, 0, JAIL, at(n));
        }
        assert_eq!(!scopes(&controller).is_empty(), is_banned, "{needs_witness}");
    }
}

#[test]
fn a_known_peer_is_not_banned_for_failures_over_udp() {
    for (transport, banned) in [(Transport::Udp, false), (Transport::Tcp, true)] {
        let mut controller = throttling();
        controller.datapath.know(SOURCE.into(), at(0)).unwrap();
        for n in 0..20 {
            let attempt = Attempt {
                proven: true,
                transport: Some(transport),
                session: Some(n.to_string()),
                ..Attempt::new(Verdict::Failure, Class::WrongCredential, SOURCE.into())
            };
            controller.observe(&attempt, 0, JAIL, at(n));
        }
        assert_eq!(!scopes(&controller).is_empty(), banned, "{transport:?}");
    }
}

/// Several phones may share the address of a known peer, so a guesser there is not banned over UDP, but reported.
#[test]
fn guesses_in_the_name_of_a_known_peer_are_reported() {
    use Transport::{Tcp, Udp};
    for address in [IpAddr::from(SOURCE), "2001:db8::66".parse().unwrap()] {
        // What each of three sources says of a guess: whether it is proven, and its transport.
        for (is_known, heard, scope, is_reported) in [
            (true, [(false, None), (false, Some(Udp)), (true, Some(Udp))], None, true),
            (true, [(false, None), (false, None), (false, None)], None, true),
            (true, [(false, None), (true, Some(Tcp)), (true, Some(Tcp))], Some(Scope::Sip), false),
            (true, [(true, Some(Tcp)), (false, None), (false, None)], Some(Scope::Sip), false),
            (
                false,
                [(false, None), (false, Some(Udp)), (true, Some(Udp))],
                Some(Scope::Sip),
                false,
            ),
        ] {
            let mut controller = throttling();
            let sources =
                [0, controller.add_source(ami(), at(0)), controller.add_source(ami(), at(0))];
            if is_known {
                controller.datapath.know(address, at(0)).unwrap();
            }
            let mut guesses = 0;
            // What a banned address sends does not arrive.
            while guesses < 30 && !scopes(&controller).contains(&Scope::Sip) {
                for (source, (proven, transport)) in sources.into_iter().zip(heard) {
                    let guess = Attempt {
                        proven,
                        transport,
                        session: Some(guesses.to_string()),
                        ..Attempt::new(Verdict::Failure, Class::WrongCredential, address)
                    };
                    controller.observe(&guess, source, JAIL, at(guesses));
                }
                guesses += 1;
            }
            assert_eq!(guesses, if scope.is_some() { 15 } else { 30 });
            assert_eq!(scopes(&controller), Vec::from_iter(scope), "{is_known} {heard:?}");
            let why = ask(&mut controller, Request::Why { address });
            let prevented = &why["prevented"];
            let expected = is_reported.then_some(("a known peer", 1));
            let reported = prevented["is"].as_str().zip(prevented["bans"].as_u64());
            assert_eq!(reported, expected, "{address} {is_known} {heard:?} {why}");
        }
    }
}

/// Calls to numbers that do not exist, with the right password.
#[test]
fn only_an_established_peer_is_spared_for_calls_to_no_number() {
    let addresses = [IpAddr::from(SOURCE), "2001:db8::66".parse().unwrap()];
    let ways = addresses.into_iter().flat_map(|address| {
        [Transport::Udp, Transport::Tcp]
            .into_iter()
            .flat_map(move |transport| [false, true].map(|is_known| (address, transport, is_known)))
    });
    for (address, transport, is_known) in ways {
        for (established, banned) in [(None, true), (Some(3000), true), (Some(300), false)] {
            let mut controller = throttling();
            if is_known {
                controller.datapath.know(address, at(0)).unwrap();
            }
            let established_at = established.map(at);
            let exchange = Exchange { accepted: 1, established_at, ..Exchange::default() };
            controller.datapath.answered.insert(address, exchange);
            let misdial = Attempt {
                proven: true,
                transport: Some(transport),
                ..Attempt::new(Verdict::Failure, Class::CallRejected, address)
            };
            for n in 0..30 {
                controller.observe(&misdial, 0, JAIL, at(4000 + n));
            }
            let says = format!("{address} {transport:?} {is_known} {established:?}");
            assert_eq!(scopes(&controller), vec![Scope::Sip; usize::from(banned)], "{says}");
            let why = ask(&mut controller, Request::Why { address });
            let prevented = &why["prevented"];
            if banned {
                assert!(prevented.is_null(), "{says} {why}");
            } else {
                assert_eq!(prevented["is"], "an established peer", "{says} {why}");
                assert_eq!((&prevented["bans"], &prevented["failures"]), (&2.into(), &30.into()));
            }
        }
    }
}

#[test]
fn why_tells_what_proves_an_address_and_how_it_is_treated() {
    let mut controller = throttling();
    let address = IpAddr::from(SOURCE);
    let why = |controller: &mut Controller<NoKernel>| {
        let why = ask(controller, Request::Why { address });
        let text = crate::report::why(&read(&why));
        (why["tier"].as_str().unwrap().to_owned(), why["proven"] == true, text)
    };
    let (tier, proven, text) = why(&mut controller);
    assert_eq!((&*tier, proven), ("unknown", false));
    assert!(!text.contains("challenge"), "{text}");
    // Challenged without an answer, it stays unproven, and is throttled.
    let mut exchange = Exchange { challenges: 1, ..Exchange::default() };
    controller.datapath.answered.insert(address, exchange);
    fail(&mut controller, SOURCE, 15);
    let (tier, proven, text) = why(&mut controller);
    assert_eq!((&*tier, proven), ("throttled", false), "{text}");
    assert!(text.contains("1 challenge sent to it; it answered none\n"), "{text}");
    assert!(text.contains(&format!("to lift it: ringfence unban {address}\n")), "{text}");
    // An answer proves it.
    let proven_at = Some(at(2));
    exchange =
        Exchange { challenges: 3, answered: 3, refused: 2, accepted: 1, proven_at, ..exchange };
    controller.datapath.answered.insert(address, exchange);
    let (tier, proven, text) = why(&mut controller);
    assert_eq!((&*tier, proven), ("throttled", true), "{text}");
    assert!(
        text.contains("3 challenges sent to it; 3 answers (2 refused, 1 accepted)\n"),
        "{text}"
    );
    assert!(text.contains("its address is proven: it answered a challenge at "), "{text}");
    // A known peer is not throttled, but may be banned itself.
    controller.datapath.known = vec![address];
    assert_eq!(why(&mut controller).0, "known");
    let Request::Ban { network, seconds, scope, except, reason, .. } =
        ban(&format!("{address}/32"), Some(60))
    else {
        unreachable!("it is a ban");
    };
    ask(&mut controller, Request::Ban { network, seconds, scope, except, reason, force: true });
    assert_eq!(why(&mut controller).0, "banned");
}

//! Manual bans and unbans.

use super::*;

#[test]
fn the_whole_world_is_not_banned_manually() {
    let mut controller = controller();
    for network in ["0.0.0.0/0", "128.0.0.0/1", "::/0", "::/64"] {
        let why = refuse(&mut controller, ban(network, None));
        assert!(why.contains("too wide"), "{network}: {why}");
    }
    ask(&mut controller, ban("10.0.0.0/8", None));
    ask(&mut controller, ban("2001:db8::/32", None));
}

#[test]
fn a_jail_does_not_shorten_a_longer_ban() {
    let mut controller = controller();
    let forever = Request::Ban {
        network: "203.0.113.7/32".parse().unwrap(),
        seconds: None,
        scope: "sip".to_owned(),
        except: Vec::new(),
        reason: Some("well known".to_owned()),
        force: false,
    };
    ask(&mut controller, forever);
    fail(&mut controller, [203, 0, 113, 7], 15);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"][0]["until"], Value::Null);
    assert_eq!(bans["bans"][0]["reason"], "well known");
}

#[test]
fn unban_lifts_and_forgets() {
    let mut controller = controller();
    fail(&mut controller, [203, 0, 113, 7], 15);
    fail(&mut controller, [203, 0, 113, 7], 10);
    let network = "203.0.113.7/32".parse().unwrap();
    let lifted = ask(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert_eq!(lifted["lifted"], 1);
    fail(&mut controller, [203, 0, 113, 7], 14);
    assert!(controller.bans.ledger().is_empty());
    let why = refuse(&mut controller, Request::Unban(Unban::Network { network, inside: false }));
    assert!(why.contains("not banned"), "{why}");
    ask(&mut controller, ban("192.0.2.0/24", None));
    let inside = Unban::Network { network: "192.0.2.7/32".parse().unwrap(), inside: false };
    let why = refuse(&mut controller, Request::Unban(inside));
    assert!(why.contains("part of 192.0.2.0/24"), "{why}");
    assert_eq!(ask(&mut controller, Request::Unban(Unban::All))["lifted"], 1);
}

#[test]
fn what_is_banned_inside_a_network_is_lifted_when_asked() {
    let mut controller = controller();
    let unban = |inside| {
        Request::Unban(Unban::Network { network: "203.0.113.0/24".parse().unwrap(), inside })
    };
    for inside in ["203.0.113.91/32", "203.0.113.64/28", "192.0.2.1/32"] {
        ask(&mut controller, ban(inside, None));
    }
    let why = refuse(&mut controller, unban(false));
    for expected in ["203.0.113.91", "203.0.113.64/28", "--inside"] {
        assert!(why.contains(expected), "{why}");
    }
    ask(&mut controller, ban("203.0.113.0/24", None));
    let lifted = ask(&mut controller, unban(false));
    assert_eq!((&lifted["lifted"], &lifted["inside_banned"]), (&1.into(), &2.into()), "{lifted}");
    let lifted = ask(&mut controller, unban(true));
    assert_eq!((&lifted["lifted"], &lifted["inside_banned"]), (&2.into(), &0.into()), "{lifted}");
    assert_eq!(controller.bans.ledger().len(), 1);
}

#[test]
fn a_ban_manually_says_what_it_replaces_and_keeps_its_reason() {
    let mut controller = controller();
    let mut first = ban("203.0.113.91/32", None);
    if let Request::Ban { reason, .. } = &mut first {
        *reason = Some("abuse ticket 4711".to_owned());
    }
    let answer = ask(&mut controller, first);
    assert_eq!((&answer["replaced"], &answer["shortened"]), (&Value::Null, &false.into()));
    let answer = ask(&mut controller, ban("203.0.113.91/32", Some(3600)));
    assert_eq!(answer["shortened"], true, "{answer}");
    assert_eq!(answer["replaced"]["until"], Value::Null);
    assert_eq!(answer["reason"], "abuse ticket 4711");
    let answer = ask(&mut controller, ban("203.0.113.91/32", Some(7200)));
    assert_eq!(answer["shortened"], false, "{answer}");
    controller.datapath.known = vec![[203, 0, 113, 5].into(), [203, 0, 113, 6].into()];
    let answer = ask(&mut controller, ban("203.0.113.0/24", Some(7200)));
    assert_eq!(answer["known_peers"], 2, "{answer}");
}

#[test]
fn a_jail_that_there_is_not_is_named() {
    let mut controller = controller();
    let why = refuse(&mut controller, bans_of("sshd2"));
    assert!(why.contains("asterisk-wazo"), "{why}");
}

pub(super) fn closes(controller: &mut Controller<NoKernel>, address: [u8; 4], scope: &str) -> bool {
    let why = ask(controller, Request::Why { address: address.into() });
    why["bans"].as_array().unwrap().iter().any(|ban| ban["scope"] == scope)
}

pub(super) fn ban_except(network: &str, except: &[&str]) -> Request {
    let except = except.iter().map(|exception| exception.parse().unwrap()).collect();
    let network = network.parse().unwrap();
    let scope = "ssh".to_owned();
    Request::Ban { network, seconds: Some(60), scope, except, reason: None, force: false }
}

#[test]
fn a_network_is_banned_but_for_its_exceptions() {
    let mut controller = controller();
    ask(&mut controller, ban_except("203.0.113.0/24", &["203.0.113.7/32", "203.0.113.64/28"]));
    assert_eq!(controller.datapath.networks.len(), 3);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"][0]["scope"], "ssh");
    assert_eq!(bans["bans"][0]["except"], serde_json::json!(["203.0.113.7", "203.0.113.64/28"]));
    // The same after a restart.
    let mut controller = started_over(controller.datapath);
    assert!(closes(&mut controller, [203, 0, 113, 8], "ssh"));
    for address in [[203, 0, 113, 7], [203, 0, 113, 65]] {
        assert!(!closes(&mut controller, address, "ssh"));
    }
    controller.handle_timeout(at(1000));
    assert!(controller.datapath.networks.is_empty() && controller.bans.ledger().is_empty());

    for (request, expected) in [
        (ban_except("203.0.113.0/24", &["203.0.114.1/32"]), "not inside 203.0.113.0/24"),
        (ban_except("203.0.113.0/24", &["203.0.113.0/24"]), "not inside"),
        (ban_except("203.0.113.0/24", &["203.0.113.1/32"; EXCEPT_MAX + 1]), "at most 64"),
    ] {
        let why = refuse(&mut controller, request);
        assert!(why.contains(expected), "{why}");
    }
}

#[test]
fn bans_of_one_address_are_each_listed_and_end_each() {
    let mut controller = controller();
    fail(&mut controller, [203, 0, 113, 7], 15);
    let address = IpAddr::from([203, 0, 113, 7]);
    ask(&mut controller, ban_except("203.0.113.7/32", &[]));
    // Because each has its own end, the kernel has them as bans of a network of one address.
    assert!(!controller.datapath.bans.contains_key(&address));
    let closed: Vec<Scope> =
        controller.datapath.networks[&address.into()].ends.iter().map(|(scope, _)| scope).collect();
    assert_eq!(closed, [Scope::Sip, Scope::Ports(1)]);
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"].as_array().unwrap().len(), 2);
    // The ban for ssh ends after a minute, the jail's after an hour.
    controller.handle_timeout(at(80));
    assert_eq!(controller.datapath.bans[&address].scopes, Scopes::default().and(Scope::Sip));
    assert!(controller.datapath.networks.is_empty());
    let jail = "asterisk-wazo".to_owned();
    assert_eq!(ask(&mut controller, Request::Unban(Unban::Jail { jail }))["lifted"], 1);
    assert!(controller.datapath.bans.is_empty());
}

#[test]
fn a_scope_that_there_is_not_is_named() {
    let mut controller = controller();
    let network = "203.0.113.7/32".parse().unwrap();
    let scope = "telnet".to_owned();
    let request =
        Request::Ban { network, seconds: None, scope, except: vec![], reason: None, force: false };
    let why = refuse(&mut controller, request);
    assert!(why.contains("`telnet`") && why.contains("`provisioning`"), "{why}");
}

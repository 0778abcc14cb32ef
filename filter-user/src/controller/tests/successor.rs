//! Bans that fail2ban has decided.

use api::{Decided, TAKE_OVER_MAX};

use super::*;

fn decided(address: &str, jail: &str, seconds: Option<u64>) -> Decided {
    Decided { address: address.parse().unwrap(), jail: jail.to_owned(), seconds }
}

fn take_over(controller: &mut Controller<NoKernel>, bans: &[Decided]) -> Value {
    ask(
        controller,
        Request::TakeOver { bans: bans.to_vec(), from: "fail2ban".to_owned(), last: true },
    )
}

#[test]
fn they_are_bans_of_their_jail_with_the_time_that_is_left() {
    let mut controller = controller();
    let bans = [
        decided("203.0.113.7", "asterisk-wazo", Some(100)),
        decided("2001:db8::7", "sshd", None),
        decided("::ffff:203.0.113.8", "sshd", Some(u64::MAX)),
    ];
    assert_eq!(take_over(&mut controller, &bans)["entered"], 3);
    let bans = ask(&mut controller, bans_of("asterisk-wazo"));
    assert_eq!(bans["bans"][0]["network"], "203.0.113.7");
    assert_eq!(bans["bans"][0]["scope"], "sip");
    assert_eq!(bans["bans"][0]["reason"], "imported from fail2ban");
    assert_eq!(bans["bans"][0]["until"], "1970-01-01T00:18:40Z");
    let bans = ask(&mut controller, bans_of("sshd"));
    let networks: Vec<_> =
        bans["bans"].as_array().unwrap().iter().map(|ban| &ban["network"]).collect();
    assert_eq!(networks, ["203.0.113.8", "2001:db8::/64"]);
    assert_eq!((controller.datapath.bans.len(), controller.datapath.networks.len()), (2, 1));
    // Another address of the network that is banned.
    let answer = take_over(&mut controller, &[decided("2001:db8::8", "sshd", None)]);
    assert_eq!(answer["refused"]["already banned for as long"], 1, "{answer}");
}

#[test]
fn who_is_never_banned_is_not_banned_now() {
    let mut controller = started_with(NoKernel::default(), |config| {
        let jail = config.jails.get_mut("sshd").unwrap();
        jail.ignoreip = vec!["203.0.113.9/32".parse().unwrap()];
        config.jails.get_mut("wazo-provd").unwrap().enabled = false;
    });
    let bans = [
        decided("198.51.100.7", "sshd", None),
        decided("192.0.2.10", "sshd", None),
        decided("203.0.113.9", "sshd", None),
        decided("203.0.113.7", "wazo-provd", None),
        decided("203.0.113.7", "nobody", None),
    ];
    let answer = take_over(&mut controller, &bans);
    assert_eq!(answer["entered"], 0);
    let refused: Vec<_> = answer["refused"].as_object().unwrap().values().collect();
    assert_eq!(refused, [2, 1, 2], "{answer}");
    assert!(controller.datapath.bans.is_empty());
}

#[test]
fn bans_of_a_jail_that_wants_proof_are_taken_too() {
    let mut controller = started_with(NoKernel::default(), |config| {
        config.jails.get_mut("recidive").unwrap().enabled = true;
    });
    let answer = take_over(&mut controller, &[decided("203.0.113.7", "recidive", Some(100))]);
    assert_eq!(answer["entered"], 1, "{answer}");
    let bans = ask(&mut controller, every_ban());
    assert_eq!(bans["bans"][0]["scope"], "all");
}

#[test]
fn twice_is_as_good_as_once() {
    let mut controller = controller();
    let bans = [decided("203.0.113.7", "sshd", Some(100))];
    take_over(&mut controller, &bans);
    assert_eq!(take_over(&mut controller, &bans)["entered"], 0);
    let longer = [decided("203.0.113.7", "sshd", Some(200))];
    assert_eq!(take_over(&mut controller, &longer)["entered"], 1);
    assert_eq!(controller.ban_count(), 1);
}

#[test]
fn too_many_at_once_are_refused() {
    let bans = vec![decided("203.0.113.7", "sshd", None); TAKE_OVER_MAX + 1];
    let why =
        refuse(&mut controller(), Request::TakeOver { bans, from: String::new(), last: true });
    assert!(why.contains("at most"), "{why}");
}

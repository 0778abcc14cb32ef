//! What proves an address, and what does not, with a real Asterisk: stolen nonces, replayed requests, the tags of
//! answers. The same guesser behind a VLAN tag, in generic mode, and with requests that are hard to tell apart. Calls
//! to numbers that do not exist.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::IpAddr;
use std::thread;
use std::time::Duration;

use ringfence_tests::asterisk;
use ringfence_tests::client::{Client, Request};
use ringfence_tests::guesser::Guesser;
use ringfence_tests::packet_builder::{Frame, VLAN};
use ringfence_tests::wire::{Wire, hardware_address};
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, PBX, PBX6, PHONE, World, until};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);

/// The failures that lead to a ban, and how many guesses are made at most: a guesser who does not wait is some
/// guesses ahead of it.
const MAXRETRY: u32 = 15;
const ATTEMPTS: u32 = 60;

fn endpoint(place: usize) -> (String, String) {
    asterisk::Options::default().endpoints.into_iter().nth(place).unwrap()
}

fn client(world: &World, source: IpAddr) -> Client {
    Client::udp(&world.hosts.attacker, source, PBX).unwrap()
}

/// The kind of the ban of a source.
fn kind_of(world: &World, source: IpAddr) -> Option<String> {
    let bans: Value = world.ringfence.client().ask(&["bans"]).unwrap();
    let all = bans["bans"].as_array().unwrap();
    let ban = all.iter().find(|ban| ban["network"] == source.to_string())?;
    Some(ban["kind"].as_str().unwrap().to_owned())
}

fn becomes(world: &World, source: IpAddr, kind: &str) -> bool {
    until(SOON, || kind_of(world, source).as_deref() == Some(kind))
}

fn is_proven(world: &World, source: IpAddr) -> bool {
    world.ringfence.why(source).unwrap()["proven"] == true
}

/// Guesses until there is no answer; returns how many were answered.
fn guess(client: &mut Client, call_id: impl Fn(u32) -> String) -> u32 {
    let answered =
        |number: &u32| client.register("1001", "wrong", &call_id(*number)).unwrap() == Some(401);
    u32::try_from((0..ATTEMPTS).take_while(answered).count()).unwrap()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn stolen_nonces_prove_nothing() {
    let world = World::new(|_defaults| ()).unwrap();
    let [robbed, thief, ..] = ATTACKERS;
    let mut victim = client(&world, robbed);
    let challenged = victim.ask(&Request::register("1001", "robbed")).unwrap().unwrap();
    let nonce = challenged.challenge().unwrap();
    let mut client = client(&world, thief);
    for number in 0..40 {
        let credentials = &client.credentials(&nonce, "1001", &format!("wrong{number}"));
        let call_id = &format!("stolen-{number}");
        let request = Request { credentials, ..Request::register("1001", call_id) };
        if client.ask(&request).unwrap().is_none() {
            break;
        }
    }
    assert!(becomes(&world, thief, "throttle"), "{}", world.ringfence.why(thief).unwrap());
    let why = world.ringfence.why(thief).unwrap();
    let evidence = why["evidence"].as_array().unwrap();
    assert!(!evidence.is_empty() && evidence.iter().all(|e| e["proven"] == false), "{why}");
    assert!(!is_proven(&world, thief) && !is_proven(&world, robbed), "{why}");
    assert_eq!(kind_of(&world, robbed), None);
    world.end().unwrap();
}

/// Forms of a request in which Asterisk reads it, and its credentials, like any other.
type Form = (&'static str, fn(String) -> String);

/// Forms in which the filter reads the whole request too.
const READ: [Form; 7] = [
    ("as usual", |text| text),
    ("a method that Asterisk does not know", |text| text.replace("REGISTER", "FOO")),
    ("behind line breaks", |text| format!("\r\n\r\n\r\n{text}")),
    ("behind blanks", |text| format!(" \t{text}")),
    ("lines that end with CR", |text| text.replace("\r\n", "\r")),
    ("a second number", |text| text.replace("Contact:", "CSeq: 9 REGISTER\r\nContact:")),
    ("blanks before the colon", |text| text.replace("Authorization:", "Authorization     :")),
];

/// A form in which it does not.
const LONG: Form = ("a long header", |text| {
    text.replace("Authorization:", &format!("X-Pad: {}\r\nAuthorization:", "x".repeat(2000)))
});

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_guess_is_proven_in_whatever_form_it_is_sent() {
    let world = World::new(|config| config.notice_log = "/dev/null".into()).unwrap();
    for ((name, form), source) in READ.into_iter().zip(ATTACKERS) {
        let mut guesser = client(&world, source);
        for number in 0..ATTEMPTS {
            let call_id = &format!("form-{source}-{number}");
            let first = Request::register("1001", call_id);
            let Some(response) = guesser.ask(&first).unwrap() else { break };
            let credentials = &guesser.credentials(&response.challenge().unwrap(), "1001", "wrong");
            let branch = &format!("{source}-{number}");
            let second = guesser.text(&Request { cseq: 2, branch, credentials, ..first });
            guesser.send(&form(second)).unwrap();
            if guesser.answer(call_id).is_none() {
                break;
            }
        }
        assert!(becomes(&world, source, "ban"), "{name}: {}", world.ringfence.why(source).unwrap());
        assert!(is_proven(&world, source), "{name}");
    }
    world.end().unwrap();
}

/// Asterisk says whether a password is right for an invented nonce too (`stale=true`).
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn guesses_that_are_sent_again_do_not_evade_a_throttle() {
    let world = World::new(|_defaults| ()).unwrap();
    // The filter reads 400 requests of a throttled address at once, and 200 a second.
    let ways = [(READ[0], 0), (READ[2], 0), (LONG, 0), (READ[0], 500)];
    for (((name, form), flood), source) in ways.into_iter().zip(ATTACKERS) {
        let answered = guesses_that_are_answered_again(&world, source, form, flood);
        // Three at once, and then one every ten seconds.
        assert!((1..=5).contains(&answered), "{name}, {flood} others: {answered}");
        assert!(!is_proven(&world, source), "{name}");
    }
    world.end().unwrap();
}

/// Guesses with an invented nonce in this form until the source is throttled, and then twice each, after this many
/// other requests. Returns how many of those were answered.
fn guesses_that_are_answered_again(
    world: &World,
    source: IpAddr,
    form: fn(String) -> String,
    flood: usize,
) -> usize {
    const GUESSES: usize = 20;
    let mut guesser = client(world, source);
    let challenged = guesser.ask(&Request::register("1001", "first")).unwrap().unwrap();
    let mut nonce = challenged.challenge().unwrap();
    "1767225600/0123456789abcdef0123456789abcdef".clone_into(&mut nonce.nonce);
    let (user, password) = endpoint(0);
    let credentials = &guesser.credentials(&nonce, &user, &password);
    let right = Request { credentials, ..Request::register(&user, "right") };
    let answer = guesser.ask(&right).unwrap().unwrap();
    assert!(answer.status == 401 && answer.text.contains("stale=true"), "{answer:?}");
    let guess = |guesser: &mut Client, id: &str| {
        let credentials = &guesser.credentials(&nonce, &user, id);
        let request = Request { credentials, ..Request::register(&user, id) };
        guesser.send(&form(guesser.text(&request))).unwrap();
    };
    for number in 0..ATTEMPTS {
        guess(&mut guesser, &format!("wrong-{number}"));
        if !guesser.any_answer() {
            break;
        }
    }
    assert!(becomes(world, source, "throttle"), "{}", world.ringfence.why(source).unwrap());
    let ids: Vec<String> = (0..GUESSES).map(|number| format!("again-{number}")).collect();
    for (turn, pause) in [Duration::from_millis(500), Duration::ZERO].into_iter().enumerate() {
        for number in 0..flood {
            let id = &format!("other-{turn}-{number}");
            guesser.send(&guesser.text(&Request::register(&user, id))).unwrap();
        }
        for id in &ids {
            guess(&mut guesser, id);
        }
        thread::sleep(pause);
    }
    let answered = ids.iter().take_while(|_| guesser.any_answer()).count();
    if flood == 0 {
        // A phone that asks without credentials gets its challenge.
        let first = guesser.text(&Request::register(&user, "phone"));
        guesser.send(&first).unwrap();
        thread::sleep(Duration::from_millis(500));
        guesser.send(&first).unwrap();
        assert_eq!(guesser.answer("phone").unwrap().status, 401);
    }
    answered
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_replayed_request_proves_nothing() {
    let world = World::new(|_defaults| ()).unwrap();
    let (user, password) = endpoint(1);
    let mut phone = Client::udp(&world.hosts.phone, PHONE, PBX).unwrap();
    let challenged = phone.ask(&Request::register(&user, "phone")).unwrap().unwrap();
    let credentials = &phone.credentials(&challenged.challenge().unwrap(), &user, &password);
    let answer =
        Request { cseq: 2, branch: "answer", credentials, ..Request::register(&user, "phone") };
    assert_eq!(phone.ask(&answer).unwrap().unwrap().status, 200);
    let recorded = phone.text(&answer);
    let thief = ATTACKERS[0];
    let mut client = client(&world, thief);
    // The same bytes count as a retransmission, whose answer goes to the phone.
    client.send(&recorded).unwrap();
    assert!(phone.answer("phone").is_some());
    for number in 0..MAXRETRY {
        client.send(&recorded.replace("z9hG4bKanswer", &format!("z9hG4bK{number}"))).unwrap();
        // The password is right, and the nonce is not its own.
        let response = client.answer("phone").unwrap();
        assert!(response.status == 401 && response.text.contains("stale=true"), "{response:?}");
    }
    let why = world.ringfence.why(thief).unwrap();
    assert!(!is_proven(&world, thief) && why["known"] == false, "{why}");
    assert!(why["dropped"] == false && why["evidence"] == Value::Array(Vec::new()), "{why}");
    let why = world.ringfence.why(PHONE).unwrap();
    assert!(why["known"] == true && why["dropped"] == false, "{why}");
    assert_eq!(phone.register(&user, &password, "again").unwrap(), Some(200));
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn an_ack_with_the_tag_of_an_answer_proves_nothing() {
    let world = World::new(|config| config.notice_log = "/dev/null".into()).unwrap();
    let source = ATTACKERS[2];
    let mut client = client(&world, source);
    for number in 0..40 {
        let (user, id) = (&format!("unknown{number}"), &format!("ack-{number}"));
        let invite = Request { method: "INVITE", to: "00441", ..Request::register(user, id) };
        let Some(response) = client.ask(&invite).unwrap() else { break };
        assert_eq!(response.status, 401);
        // Asterisk takes it from the request, so whoever has sent that knows it, and need not get the answer.
        assert_eq!(response.to_tag(), format!(";tag=z9hG4bK{id}"), "{}", response.text);
        let ack = Request { method: "ACK", to_tag: response.to_tag(), ..invite };
        client.send(&client.text(&ack)).unwrap();
    }
    assert!(becomes(&world, source, "throttle"), "{}", world.ringfence.why(source).unwrap());
    assert!(!is_proven(&world, source));
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_guesser_in_generic_mode_is_banned_with_proof() {
    let world = World::new(|config| "generic".clone_into(&mut config.mode)).unwrap();
    assert_eq!(world.ringfence.status().unwrap().interfaces[0].mode, "generic");
    let phone = world.phone(Duration::from_millis(300)).unwrap();
    let source = ATTACKERS[0];
    let answered = guess(&mut client(&world, source), |number| format!("generic-{number}"));
    assert!((MAXRETRY..ATTEMPTS).contains(&answered), "{answered}");
    assert!(becomes(&world, source, "ban"), "{}", world.ringfence.why(source).unwrap());
    assert!(is_proven(&world, source));
    let report = phone.finish();
    assert!(report.attempts > 0 && report.failures == 0, "{report:?}");
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_guesser_behind_vlan_tags_is_banned_with_proof() {
    let world = World::new(|config| config.notice_log = "/dev/null".into()).unwrap();
    let source = ATTACKERS[5];
    let mut guesser = client(&world, source);
    let (hardware, wire) =
        (hardware_address(&world.hosts.pbx).unwrap(), Wire::of(&world.hosts.attacker).unwrap());
    let port = guesser.local().port();
    // Linux takes frames of VLAN 0 without an interface for it, within another tag too.
    let send = |text: &str| {
        let frame = Frame::from(source).target_mac(hardware).source_port(port).payload(text);
        wire.send(&frame.tag(VLAN, 0).tag(VLAN, 0).build()).unwrap();
    };
    let mut answered = 0;
    for number in 0..ATTEMPTS {
        let call_id = &format!("vlan-{number}");
        let first = Request::register("1001", call_id);
        send(&guesser.text(&first));
        let Some(response) = guesser.answer(call_id) else { break };
        let credentials = &guesser.credentials(&response.challenge().unwrap(), "1001", "wrong");
        send(&guesser.text(&Request {
            cseq: 2,
            branch: &format!("v{number}"),
            credentials,
            ..first
        }));
        if guesser.answer(call_id).is_none() {
            break;
        }
        answered += 1;
    }
    assert!((MAXRETRY..ATTEMPTS).contains(&answered), "{answered}");
    assert!(becomes(&world, source, "ban"), "{}", world.ringfence.why(source).unwrap());
    assert!(is_proven(&world, source));
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_phone_over_tcp_registers_at_a_throttled_address() {
    let world = World::new(|_defaults| ()).unwrap();
    let (user, password) = endpoint(1);
    let source = ATTACKERS[1];
    let mut forger = Guesser::udp(&world.hosts.attacker, source, PBX).unwrap();
    while forger.guess().unwrap().is_some() {}
    assert!(becomes(&world, source, "throttle"), "{}", world.ringfence.why(source).unwrap());
    let mut phone = Client::tcp(&world.hosts.attacker, source, PBX).unwrap();
    assert_eq!(phone.register(&user, &password, "tcp").unwrap(), Some(200));
    assert_eq!(kind_of(&world, source).as_deref(), Some("throttle"));
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_call_id_with_blanks_counts_once() {
    let world = World::new(|_defaults| ()).unwrap();
    let source = ATTACKERS[3];
    // The log and the wire report each of them.
    let answered = guess(&mut client(&world, source), |number| format!("a blank {number}"));
    assert!((MAXRETRY..ATTEMPTS).contains(&answered), "{answered}");
    assert!(becomes(&world, source, "ban"), "{}", world.ringfence.why(source).unwrap());
    let why = world.ringfence.why(source).unwrap();
    let evidence = why["evidence"].as_array().unwrap();
    assert!(evidence.iter().all(|failure| failure["proven"] == true), "{why}");
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn guesses_that_are_sent_at_once_under_one_name_count_each() {
    let world = World::new(|config| config.notice_log = "/dev/null".into()).unwrap();
    let source = ATTACKERS[4];
    let mut guesser = client(&world, source);
    let challenged = guesser.ask(&Request::register("1001", "same")).unwrap().unwrap();
    let nonce = challenged.challenge().unwrap();
    // The kernel remembers eight requests that wait for an answer.
    let mut answered = 0;
    for round in 0..4 {
        for number in 0..8 {
            let credentials =
                &guesser.credentials(&nonce, "1001", &format!("wrong-{round}-{number}"));
            let branch = &format!("same-{round}-{number}");
            let request =
                Request { cseq: 2, branch, credentials, ..Request::register("1001", "same") };
            guesser.send(&guesser.text(&request)).unwrap();
        }
        answered += (0..8).take_while(|_| guesser.answer("same").is_some()).count();
    }
    assert!(becomes(&world, source, "ban"), "{answered} {}", world.ringfence.why(source).unwrap());
    assert!(answered >= 15, "{answered}");
    world.end().unwrap();
}

/// Guesses that are all on their way before the first of them is answered. The kernel remembers eight requests that
/// wait for an answer, so that of each such burst it counts at least eight. Over TCP, it reads the first request of each
/// segment, and the log has the others.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn at_most_two_bursts_of_guesses_are_answered() {
    const BURST: u32 = 40;
    for (source, tcp) in [(ATTACKERS[0], false), (ATTACKERS[1], true)] {
        let world = World::new(|config| {
            if !tcp {
                config.notice_log = "/dev/null".into();
            }
        })
        .unwrap();
        let open = if tcp { Client::tcp } else { Client::udp };
        let mut guesser = open(&world.hosts.attacker, source, PBX).unwrap();
        let challenged = guesser.ask(&Request::register("1001", "first")).unwrap().unwrap();
        let nonce = challenged.challenge().unwrap();
        let (mut answered, mut bursts) = (Vec::new(), 0);
        while bursts < 10 && kind_of(&world, source).as_deref() != Some("ban") {
            let ids: Vec<String> = (0..BURST).map(|n| format!("burst-{bursts}-{n}")).collect();
            for id in &ids {
                let credentials = &guesser.credentials(&nonce, "1001", id);
                let request = Request { cseq: 2, credentials, ..Request::register("1001", id) };
                guesser.send(&guesser.text(&request)).unwrap();
            }
            bursts += 1;
            answered.push(ids.iter().take_while(|_| guesser.any_answer()).count());
            // What was counted of this burst has been judged.
            let settled = || {
                let why = world.ringfence.why(source).unwrap();
                let refused = why["wire"]["refused"].as_u64();
                !tcp && refused < Some(15) || kind_of(&world, source).as_deref() == Some("ban")
            };
            assert!(until(SOON, settled), "{}", world.ringfence.why(source).unwrap());
        }
        let why = world.ringfence.why(source).unwrap();
        println!("over TCP: {tcp}; answered of bursts of {BURST}: {answered:?}; {}", why["wire"]);
        assert_eq!(kind_of(&world, source).as_deref(), Some("ban"), "{answered:?} {why}");
        assert!(is_proven(&world, source) && bursts <= 2, "{answered:?} {why}");
        world.end().unwrap();
    }
}

/// The failures that lead to a ban, and the calls that count as one.
const FEW: u32 = 5;
const CALLS: u32 = 3;

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn numbers_that_do_not_exist_ban_a_newcomer_whoever_reports_what() {
    for ami in [false, true] {
        let ami_secret = ami.then(|| "a secret of AMI".to_owned());
        let options = asterisk::Options { ami_secret, ..asterisk::Options::default() };
        let world = World::with(&options, |config| config.maxretry = FEW).unwrap();
        let ways = [(ATTACKERS[0], false), (ATTACKERS[1], true), (ATTACKERS6[0], false)];
        for (place, (source, tcp)) in ways.into_iter().enumerate() {
            // An account may have two contacts.
            let (user, password) = endpoint(place % 2);
            let open = if tcp { Client::tcp } else { Client::udp };
            let target = if source.is_ipv4() { PBX } else { PBX6 };
            let mut caller = open(&world.hosts.attacker, source, target).unwrap();
            // It is a known peer from now on.
            let id = &format!("login-{place}");
            assert_eq!(caller.register(&user, &password, id).unwrap(), Some(200));
            let mut refused = 0;
            while refused < 40 && kind_of(&world, source).is_none() {
                let id = format!("{place}-{refused}");
                let to = format!("0044{refused}");
                let Some(response) = caller.call(&user, &password, &to, &id).unwrap() else {
                    break;
                };
                assert_eq!((response.status, response.is_handled), (404, false));
                refused += 1;
                let seen = || {
                    let why = world.ringfence.why(source).unwrap_or_default();
                    let failures = why["evidence"].as_array().map_or(0, Vec::len);
                    failures >= (refused / CALLS) as usize || kind_of(&world, source).is_some()
                };
                assert!(until(SOON, seen), "{ami} {source} {refused}");
            }
            let why = world.ringfence.why(source).unwrap();
            assert_eq!(kind_of(&world, source).as_deref(), Some("ban"), "{ami} {why}");
            assert_eq!(refused, FEW * CALLS, "{ami} {source} {why}");
            assert_eq!(why["known"], true, "{ami} {why}");
        }
        world.end().unwrap();
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn stale_numbers_of_a_call_centre_shut_nobody_out() {
    let world = World::new(|config| config.maxretry = FEW).unwrap();
    let (user, password) = endpoint(1);
    for (place, (source, tcp)) in
        [(ATTACKERS[0], false), (ATTACKERS[1], true)].into_iter().enumerate()
    {
        let open = if tcp { Client::tcp } else { Client::udp };
        let mut agent = open(&world.hosts.attacker, source, PBX).unwrap();
        let id = &format!("login-{place}");
        assert_eq!(agent.register(&user, &password, id).unwrap(), Some(200));
        let mut call = |to: &str, number: u32| {
            let id = &format!("{place}-{to}-{number}");
            let response = agent.call(&user, &password, to, id).unwrap();
            response.map(|response| (response.status, response.is_handled))
        };
        // A trunk refuses every number, as it does during an outage.
        for number in 0..4 * FEW * CALLS {
            assert_eq!(call("500", number), Some((404, true)), "{number}");
        }
        // Three calls of four are to numbers that even the dial plan does not know.
        for number in 0..4 * FEW * CALLS {
            let expected = if number % 4 == 0 { ("602", 486, true) } else { ("0044", 404, false) };
            let (to, status, is_handled) = expected;
            assert_eq!(call(to, number), Some((status, is_handled)), "{number}");
        }
        let id = &format!("again-{place}");
        assert_eq!(agent.register(&user, &password, id).unwrap(), Some(200));
        let why = world.ringfence.why(source).unwrap();
        assert!(kind_of(&world, source).is_none(), "{why}");
        assert_eq!(why["evidence"], Value::Array(Vec::new()), "{why}");
    }
    world.end().unwrap();
}

//! Who must not be shut out, with a real Asterisk: registered phones and strangers in whose name packets of any form
//! are forged, and phones that are refused although their passwords are right.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{panic, thread};

use ringfence_tests::asterisk;
use ringfence_tests::client::Client;
use ringfence_tests::packet_builder::Frame;
use ringfence_tests::phone::{Account, Phone};
use ringfence_tests::wire::{Wire, hardware_address};
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, PBX, PBX6, PHONE, SIP_PORT, World, until};

/// How long a phone may take to register after a flood. It is seconds; the rest is for a busy machine.
const SOON: Duration = Duration::from_secs(20);

fn endpoint(place: usize) -> (String, String) {
    asterisk::Options::default().endpoints.into_iter().nth(place).unwrap()
}

/// A forged packet: nobody but the sender of a nonce's answer can know it. The forger knows the User-Agent and the
/// Call-IDs of the phone.
fn forged(number: u32, source: IpAddr) -> String {
    let target = if source.is_ipv4() { PBX.to_string() } else { format!("[{PBX6}]") };
    let (method, user, to, authorized) = match number % 8 {
        0 => ("REGISTER", "1001".to_owned(), "1001", true),
        1 => ("REGISTER", format!("x{number}"), "1001", false),
        2 => ("INVITE", "1001".to_owned(), "00441", true),
        3 => ("INVITE", format!("x{number}"), "00441", false),
        4 => ("OPTIONS", "100".to_owned(), "100", false),
        5 => ("ACK", "1001".to_owned(), "1001", true),
        6 => ("BYE", "1001".to_owned(), "1001", false),
        _ => {
            return format!(
                "SIP/2.0 401 Unauthorized\r\nCall-ID: phone\r\nCSeq: {number} x\r\n\r\n"
            );
        }
    };
    let call_id = if number.is_multiple_of(3) { "phone".to_owned() } else { format!("f{number}") };
    let credentials = if authorized {
        format!(
            "Authorization: Digest username=\"1001\", realm=\"asterisk\", nonce=\"1/{number:032x}\", \
             uri=\"sip:{target}\", response=\"{number:032x}\"\r\n"
        )
    } else {
        String::new()
    };
    format!(
        "{method} sip:{to}@{target} SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bKf{number}\r\n\
         Max-Forwards: 70\r\nFrom: <sip:{user}@{target}>;tag=f{number}\r\n\
         To: <sip:{to}@{target}>;tag=z9hG4bKf{number}\r\nCall-ID: {call_id}\r\n\
         CSeq: {number} {method}\r\nContact: <sip:{user}@{source}>\r\n\
         User-Agent: Ringfence lab phone\r\n{credentials}Content-Length: 0\r\n\r\n"
    )
}

/// A registered phone, and strangers who register afterwards. `bench week` has the trunks.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn ten_thousand_forged_packets_shut_nobody_out() {
    let world = World::new(|_defaults| ()).unwrap();
    let (user, password) = endpoint(0);
    let mut phone = Client::udp(&world.hosts.phone, PHONE, PBX).unwrap();
    assert_eq!(phone.register(&user, &password, "phone").unwrap(), Some(200));
    let hardware = hardware_address(&world.hosts.pbx).unwrap();
    let wire = Wire::of(&world.hosts.attacker).unwrap();
    // The account of a stranger has no other contact, so it is not full.
    for (victim, account) in [(ATTACKERS[0], 1), (ATTACKERS6[0], 2), (PHONE, 0)] {
        let (user, password) = endpoint(account);
        for number in 0..10_000 {
            let text = forged(number, victim);
            let frame = Frame::from(victim).target_mac(hardware).payload(&text);
            if number.is_multiple_of(11) && victim.is_ipv4() {
                // In two fragments.
                let datagram = frame.build()[34..].to_vec();
                let eighths = datagram.len() / 16;
                let (first, last) = datagram.split_at(8 * eighths);
                let part = |bytes: &[u8], at: usize, more| {
                    let at = u16::try_from(at).unwrap();
                    frame.clone().protocol(17).payload(bytes).fragment(at, more).build()
                };
                wire.send(&part(first, 0, true)).unwrap();
                wire.send(&part(last, eighths, false)).unwrap();
            } else {
                wire.send(&frame.build()).unwrap();
            }
        }
        let host = if victim == PHONE { &world.hosts.phone } else { &world.hosts.attacker };
        let registrar = SocketAddr::new(if victim.is_ipv4() { PBX } else { PBX6 }, SIP_PORT);
        let account =
            Account { name: user.clone(), password: password.clone(), local: victim, registrar };
        // It sends again what is not answered.
        let client = Phone::start(host, account, Duration::from_millis(300)).unwrap();
        let registers = || client.report().attempts > client.report().failures;
        let is_served = until(SOON, registers);
        let why = world.ringfence.why(victim).unwrap();
        let reasons = world.ringfence.status().unwrap().reasons;
        assert!(is_served, "{victim} {:?} {why} {reasons:?}", client.report());
        drop(client);
        let why = world.ringfence.why(victim).unwrap();
        assert_eq!((&why["known"], &why["proven"]), (&true.into(), &true.into()), "{why}");
    }
    world.end().unwrap();
}

/// Forged packets in the name of a registered phone, four thousand a second.
fn flood(world: &World, source: IpAddr, stop: &AtomicBool) {
    let hardware = hardware_address(&world.hosts.pbx).unwrap();
    let wire = Wire::of(&world.hosts.attacker).unwrap();
    let begun = Instant::now();
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        // A busy machine ends the sleep late.
        if u128::from(number) < 4 * begun.elapsed().as_millis() {
            number += 1;
            let frame = Frame::from(source).target_mac(hardware).payload(forged(number, source));
            wire.send(&frame.build()).unwrap();
        } else {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

/// Its responses pass when they are sent again, and what it sends over TCP is not forged.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_flood_in_the_name_of_a_phone_ends_neither_calls_nor_connections() {
    let world = World::new(|_defaults| ()).unwrap();
    let (user, password) = endpoint(0);
    let mut called = Client::udp(&world.hosts.phone, PHONE, PBX).unwrap();
    assert_eq!(called.register(&user, &password, "called").unwrap(), Some(200));
    let (other, password) = endpoint(1);
    let mut connected = Client::tcp(&world.hosts.phone, PHONE, PBX).unwrap();
    assert_eq!(connected.register(&other, &password, "connected").unwrap(), Some(200));
    let stop = AtomicBool::new(false);
    let dropped = || world.ringfence.status().unwrap().reasons["flooding"].packets;
    thread::scope(|scope| {
        let flooding = scope.spawn(|| flood(&world, PHONE, &stop));
        let outcome = panic::catch_unwind(panic::AssertUnwindSafe(|| {
            assert!(until(SOON, || dropped() > 5000), "{}", dropped());
            for number in 0..3 {
                let dial = format!("channel originate PJSIP/{user} extension 601@default");
                world.asterisk.cli(&dial).unwrap();
                assert!(called.take_call(SOON).unwrap(), "call {number}");
                world.asterisk.cli("channel request hangup all").unwrap();
            }
            for number in 0..10 {
                let id = &format!("again-{number}");
                let answer = connected.register(&other, &password, id).unwrap();
                assert_eq!(answer, Some(200), "{number}");
            }
            let again = until(SOON, || Client::tcp(&world.hosts.phone, PHONE, PBX).is_ok());
            assert!(again, "it cannot connect");
        }));
        stop.store(true, Ordering::Relaxed);
        flooding.join().unwrap();
        outcome.unwrap_or_else(|why| panic::resume_unwind(why));
    });
    world.end().unwrap();
}

/// An account has two contacts at most (`max_contacts` in the lab's endpoint).
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_phone_whose_account_is_full_is_not_banned() {
    const REFUSED: u32 = 20;
    let world = World::new(|_defaults| ()).unwrap();
    let (user, password) = endpoint(0);
    for (place, source) in ATTACKERS[..2].iter().enumerate() {
        let mut phone = Client::udp(&world.hosts.attacker, *source, PBX).unwrap();
        assert_eq!(phone.register(&user, &password, &format!("in-{place}")).unwrap(), Some(200));
    }
    let mut late = Client::udp(&world.hosts.attacker, ATTACKERS[2], PBX).unwrap();
    for number in 0..REFUSED {
        let answer = late.register(&user, &password, &format!("late-{number}")).unwrap();
        assert_eq!(answer, Some(403), "{number}");
    }
    // The next one has another account.
    let (user, password) = endpoint(1);
    assert_eq!(late.register(&user, &password, "other").unwrap(), Some(200));
    assert!(world.ringfence.bans().unwrap().is_empty(), "{:?}", world.ringfence.bans());
    world.end().unwrap();
}

//! What Asterisk answers says who failed: an answer to a challenge proves a source, and failures that anybody
//! can make up in the name of an address only throttle it.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use ringfence_tests::asterisk;
use ringfence_tests::attack::Method;
use ringfence_tests::guesser::Guesser;
use ringfence_tests::phone::{Account, Phone};
use ringfence_tests::sip::{self, Answer, Challenge, Start};
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, PBX, PBX6, SIP_PORT, World, until};
use serde_json::Value;

/// The kind of the ban of a source, and its jail's reason.
fn ban_of(world: &World, source: IpAddr) -> Option<Value> {
    let bans: Value = world.ringfence.client().ask(&["bans"]).unwrap();
    let network = |ban: &&Value| {
        let network = ban["network"].as_str().unwrap();
        network == source.to_string() || source.is_ipv6() && network.ends_with("/64")
    };
    bans["bans"].as_array().unwrap().iter().find(network).cloned()
}

fn kind_of(world: &World, source: IpAddr) -> Option<String> {
    ban_of(world, source).map(|ban| ban["kind"].as_str().unwrap().to_owned())
}

/// A phone at an address of the attackers, which has the right password.
fn stranger(world: &World, local: IpAddr) -> Phone {
    let endpoints = asterisk::Options::default().endpoints;
    let (name, password) = endpoints.into_iter().nth(1).unwrap();
    let registrar = SocketAddr::new(if local.is_ipv4() { PBX } else { PBX6 }, SIP_PORT);
    let account = Account { name, password, local, registrar };
    Phone::start(&world.hosts.attacker, account, Duration::from_millis(300)).unwrap()
}

/// Waits for the first registration, and returns how long it took.
fn registers(phone: Phone) -> Duration {
    let start = Instant::now();
    assert!(until(Duration::from_secs(20), || phone.report().attempts > 0), "{:?}", phone.report());
    let took = start.elapsed();
    let report = phone.finish();
    assert_eq!(report.failures, 0, "{report:?}");
    took
}

/// Failures in the name of an address, with invented nonces, as a forger would send them.
fn forge(world: &World, source: IpAddr, count: u32) {
    let target = if source.is_ipv4() { PBX } else { PBX6 };
    let mut forger = Guesser::udp(&world.hosts.attacker, source, target).unwrap();
    for _ in 0..count {
        if forger.guess().unwrap().is_none() {
            break;
        }
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn forged_failures_throttle_and_a_phone_at_the_address_still_registers() {
    let world = World::new(|_defaults| ()).unwrap();
    for source in [ATTACKERS[0], ATTACKERS6[0]] {
        forge(&world, source, 60);
        let throttled = || kind_of(&world, source).as_deref() == Some("throttle");
        assert!(until(Duration::from_secs(10), throttled), "{:?}", ban_of(&world, source));
        // Nothing new is answered.
        let target = if source.is_ipv4() { PBX } else { PBX6 };
        let mut forger = Guesser::udp(&world.hosts.attacker, source, target).unwrap();
        assert_eq!(forger.guess().unwrap(), None);
        let took = registers(stranger(&world, source));
        assert!(took < Duration::from_secs(5), "{took:?}");
        assert_eq!(kind_of(&world, source).as_deref(), Some("throttle"), "no proof, no ban");
    }
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_phone_registers_while_forged_failures_go_on_in_its_name() {
    let world = World::new(|_defaults| ()).unwrap();
    let source = ATTACKERS[0];
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let socket =
                world.hosts.attacker.run_in(|| Ok(UdpSocket::bind((source, 0))?)).unwrap();
            let mut number = 0;
            while !stop.load(Ordering::Relaxed) {
                number += 1;
                let request = format!(
                    "REGISTER sip:{PBX} SIP/2.0\r\nVia: SIP/2.0/UDP {source};branch=z9hG4bKf{number}\r\n\
                     From: <sip:1001@{PBX}>;tag={number}\r\nTo: <sip:1001@{PBX}>\r\n\
                     Call-ID: forged-{number}\r\nCSeq: {number} REGISTER\r\n\
                     Contact: <sip:1001@{source}>\r\nAuthorization: Digest username=\"1001\", \
                     realm=\"asterisk\", nonce=\"1/{number:032x}\", uri=\"sip:{PBX}\", \
                     response=\"{number:032x}\"\r\nContent-Length: 0\r\n\r\n"
                );
                socket.send_to(request.as_bytes(), (PBX, SIP_PORT)).unwrap();
                thread::sleep(Duration::from_millis(10));
            }
        });
        let throttled = || kind_of(&world, source).as_deref() == Some("throttle");
        assert!(until(Duration::from_secs(10), throttled), "{:?}", ban_of(&world, source));
        let took = registers(stranger(&world, source));
        stop.store(true, Ordering::Relaxed);
        assert!(took < Duration::from_secs(5), "{took:?}");
    });
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_guesser_who_answers_challenges_is_banned_with_proof_even_if_no_log_shows_it() {
    let world = World::new(|config| config.notice_log = "/dev/null".into()).unwrap();
    let source = ATTACKERS[1];
    let attacker = world.attack(Method::Guess, source, 20, Duration::from_secs(5)).unwrap();
    let banned = || kind_of(&world, source).as_deref() == Some("ban");
    assert!(until(Duration::from_secs(10), banned), "{:?}", world.ringfence.why(source));
    let why = world.ringfence.why(source).unwrap();
    let evidence = why["evidence"].as_array().unwrap();
    let by_wire = |failure: &Value| failure["source"] == "wire" && failure["proven"] == true;
    assert!(!evidence.is_empty() && evidence.iter().all(by_wire), "{why}");
    assert_eq!(evidence[0]["account"], "1001", "{why}");
    drop(attacker);
    let answered = world.arrived.seen(source).guesses_answered;
    assert!((15..=18).contains(&answered), "{answered}");
    world.end().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_guesser_counts_once_for_each_guess_whoever_reports_it_and_all_are_proven() {
    for ami in [false, true] {
        let ami_secret = ami.then(|| "a secret of AMI".to_owned());
        let options = asterisk::Options { ami_secret, ..asterisk::Options::default() };
        let world = World::with(&options, |_defaults| ()).unwrap();
        for source in [ATTACKERS[1], ATTACKERS6[1]] {
            let attacker = world.attack(Method::Guess, source, 20, Duration::from_secs(5)).unwrap();
            let banned = || kind_of(&world, source).as_deref() == Some("ban");
            assert!(
                until(Duration::from_secs(10), banned),
                "{ami} {:?}",
                world.ringfence.why(source)
            );
            let answered = world.arrived.seen(source).guesses_answered;
            assert!((15..=18).contains(&answered), "{ami} {answered}");
            drop(attacker);
            let why = world.ringfence.why(source).unwrap();
            let evidence = why["evidence"].as_array().unwrap();
            assert!(evidence.iter().all(|failure| failure["proven"] == true), "{ami} {why}");
        }
        world.end().unwrap();
    }
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_scan_that_no_log_shows_is_throttled() {
    let world = World::new(|config| config.notice_log = "/dev/null".into()).unwrap();
    let source = ATTACKERS[2];
    let socket = world.hosts.attacker.run_in(|| Ok(UdpSocket::bind((source, 0))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(500))).unwrap();
    let mut answered = 0;
    for number in 0..40 {
        let request = format!(
            "REGISTER sip:{PBX} SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bKs{number}\r\n\
             From: <sip:{number}@{PBX}>;tag={number}\r\nTo: <sip:{number}@{PBX}>\r\n\
             Call-ID: scan-{number}\r\nCSeq: 1 REGISTER\r\nContact: <sip:{number}@{source}>\r\n\
             Content-Length: 0\r\n\r\n"
        );
        let start = Instant::now();
        socket.send_to(request.as_bytes(), (PBX, SIP_PORT)).unwrap();
        answered += usize::from(socket.recv(&mut [0; 4096]).is_ok());
        thread::sleep(Duration::from_millis(500).saturating_sub(start.elapsed()));
    }
    let ban = ban_of(&world, source);
    assert_eq!(kind_of(&world, source).as_deref(), Some("throttle"), "{ban:?} {answered}");
    // Those that wait for an answer when the last one counts.
    assert!(answered <= 15 + 8 + 2, "{answered} {ban:?}");
    world.end().unwrap();
}

/// A call with the right password; returns the status of the final response.
fn call(socket: &UdpSocket, source: IpAddr, number: u32) -> Option<u16> {
    let (name, password) = asterisk::Options::default().endpoints.into_iter().nth(1).unwrap();
    let uri = format!("sip:9{number}@{PBX}");
    let send = |method: &str, sequence: u32, to_tag: &str, more: &str| {
        let request = format!(
            "{method} {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bKc{number}x{sequence}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:{name}@{PBX}>;tag={number}\r\nTo: <{uri}>{to_tag}\r\n\
             Call-ID: call-{number}\r\nCSeq: {sequence} {method}\r\nContact: <sip:{name}@{source}>\r\n{more}\
             Content-Length: 0\r\n\r\n"
        );
        socket.send_to(request.as_bytes(), (PBX, SIP_PORT)).unwrap();
    };
    let mut credentials = String::new();
    for sequence in 1..3 {
        send("INVITE", sequence, "", &credentials);
        let mut buffer = [0; 8192];
        let status = loop {
            let length = socket.recv(&mut buffer).ok()?;
            let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
            // Asterisk may still repeat the response to the last call, or ask whether the phone is there.
            let is_of_this = text.contains(&format!("call-{number}\r\n"))
                && text.contains(&format!("CSeq: {sequence} INVITE"));
            let message = sip::parse(&buffer[..length])?;
            match message.start {
                Start::Response(status) if is_of_this && status >= 200 => break (status, text),
                Start::Response(_) | Start::Request(_) => {}
            }
        };
        let (status, text) = status;
        let header = |name: &str| text.lines().find_map(|line| line.strip_prefix(name));
        let to = header("To: ").unwrap();
        let tag = to.find(";tag=").map_or("", |at| &to[at..]);
        send("ACK", sequence, tag, "");
        let Some(challenge) = header("WWW-Authenticate: ") else { return Some(status) };
        let challenge = Challenge::parse(challenge.as_bytes()).unwrap();
        let (username, password, cnonce) = (&*name, &*password, "c");
        let answer = Answer { username, password, method: "INVITE", uri: &uri, cnonce };
        credentials = format!("Authorization: {}\r\n", answer.header(&challenge));
    }
    None
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn trying_numbers_with_a_stolen_password_bans() {
    let world = World::new(|config| config.maxretry = 5).unwrap();
    let source = ATTACKERS[3];
    let socket = world.hosts.attacker.run_in(|| Ok(UdpSocket::bind((source, 0))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    let mut refused = 0;
    while refused < 40 && call(&socket, source, refused) == Some(404) {
        refused += 1;
        // A busy machine must not give the caller time for more than the daemon has seen.
        let seen = || {
            let why = world.ringfence.why(source).unwrap_or_default();
            let failures = why["evidence"].as_array().map_or(0, Vec::len);
            failures >= (refused / 3) as usize || kind_of(&world, source).is_some()
        };
        until(Duration::from_secs(5), seen);
    }
    let banned = || kind_of(&world, source).as_deref() == Some("ban");
    assert!(until(Duration::from_secs(10), banned), "{refused} {:?}", world.ringfence.why(source));
    // Three count as one failure.
    assert!((15..=18).contains(&refused), "{refused}");
    let why = world.ringfence.why(source).unwrap();
    let evidence = why["evidence"].as_array().unwrap();
    let is_call =
        |failure: &Value| failure["class"] == "call-rejected" && failure["proven"] == true;
    assert!(!evidence.is_empty() && evidence.iter().all(is_call), "{why}");
    assert_eq!((&why["proven"], &why["tier"]), (&true.into(), &"banned".into()));
    assert!(why["wire"]["refused"].as_u64() >= Some(15), "{why}");
    world.end().unwrap();
}

/// A client that does not receive the refusal sends the request again. Asterisk refuses it and logs a failure each time,
/// but there is one guess, so a phone with a wrong password is not banned for what its network loses.
#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_guess_whose_refusal_is_lost_is_proven_once() {
    let world = World::new(|config| config.maxretry = 3).unwrap();
    let source = ATTACKERS[4];
    let socket = world.hosts.attacker.run_in(|| Ok(UdpSocket::bind((source, 0))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let uri = format!("sip:{PBX}");
    let request = |sequence: u32, credentials: &str| {
        format!(
            "REGISTER {uri} SIP/2.0\r\nVia: SIP/2.0/UDP {source};rport;branch=z9hG4bKl{sequence}\r\n\
             Max-Forwards: 70\r\nFrom: <sip:1001@{PBX}>;tag=l\r\nTo: <sip:1001@{PBX}>\r\nCall-ID: lost\r\n\
             CSeq: {sequence} REGISTER\r\nContact: <sip:1001@{source}>\r\n{credentials}Content-Length: 0\r\n\r\n"
        )
    };
    let mut buffer = [0; 8192];
    let mut answer = |request: &str| {
        socket.send_to(request.as_bytes(), (PBX, SIP_PORT)).unwrap();
        let length = socket.recv(&mut buffer).unwrap();
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        assert!(text.starts_with("SIP/2.0 401 "), "{text}");
        text
    };
    let challenged = answer(&request(1, ""));
    let challenge =
        challenged.lines().find_map(|line| line.strip_prefix("WWW-Authenticate: ")).unwrap();
    let challenge = Challenge::parse(challenge.as_bytes()).unwrap();
    let (username, password, method, cnonce) = ("1001", "wrong", "REGISTER", "c");
    let guess = Answer { username, password, method, uri: &uri, cnonce };
    let guess = request(2, &format!("Authorization: {}\r\n", guess.header(&challenge)));
    for _ in 0..10 {
        answer(&guess);
    }
    let throttled = || kind_of(&world, source).is_some();
    assert!(until(Duration::from_secs(20), throttled), "{:?}", world.ringfence.why(source));
    assert_eq!(kind_of(&world, source).as_deref(), Some("throttle"));
    let why = world.ringfence.why(source).unwrap();
    let evidence = why["evidence"].as_array().unwrap();
    let proven = evidence.iter().filter(|failure| failure["proven"] == true).count();
    assert_eq!((&why["wire"]["refused"], proven), (&1.into(), 1), "{why}");
    world.end().unwrap();
}

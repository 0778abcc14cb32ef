//! A phone that has the password becomes a known peer, and no other source does.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use ringfence_tests::guesser::Guesser;
use ringfence_tests::world::{ATTACKERS, PBX, PHONE, SIP_PORT, World, until};
use serde_json::Value;

fn known(world: &World) -> u64 {
    let status: Value = world.ringfence.client().ask(&["status"]).unwrap();
    status["peers"]["known"].as_u64().unwrap()
}

fn is_known(world: &World, address: IpAddr) -> bool {
    world.ringfence.why(address).unwrap()["known"].as_bool().unwrap()
}

/// Sends a request without credentials; returns whether there was an answer.
fn asks(world: &World, source: IpAddr, method: &str, cseq: &str) -> bool {
    let socket = world.hosts.attacker.run_in(|| Ok(UdpSocket::bind((source, 0))?)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let local = socket.local_addr().unwrap();
    let request = format!(
        "{method} sip:600@{PBX} SIP/2.0\r\n\
         Via: SIP/2.0/UDP {local};rport;branch=z9hG4bKk{port}\r\n\
         Max-Forwards: 70\r\n\
         From: <sip:1001@{PBX}>;tag=1\r\n\
         To: <sip:600@{PBX}>\r\n\
         Call-ID: known-{port}\r\n\
         CSeq: 1 {cseq}\r\n\
         Contact: <sip:1001@{local}>;expires=60\r\n\
         Event: presence\r\n\
         Content-Length: 0\r\n\r\n",
        port = local.port(),
    );
    socket.send_to(request.as_bytes(), SocketAddr::new(PBX, SIP_PORT)).unwrap();
    socket.recv(&mut [0; 4096]).is_ok()
}

#[test]
#[ignore = "requires root: network namespaces, BPF, a real Asterisk"]
fn a_phone_is_known_once_it_has_registered_and_nobody_else() {
    let mut world = World::new(|_defaults| ()).unwrap();
    let stranger = ATTACKERS[0];
    for method in ["OPTIONS", "REGISTER", "INVITE", "SUBSCRIBE"] {
        assert!(asks(&world, stranger, method, method), "{method} gets no answer");
    }
    // The answer does not matter.
    let _answered = asks(&world, stranger, "OPTIONS", "REGISTER");
    let mut guessers = [
        Guesser::udp(&world.hosts.attacker, stranger, PBX).unwrap(),
        Guesser::tcp(&world.hosts.attacker, stranger, PBX).unwrap(),
    ];
    for guesser in &mut guessers {
        assert_eq!(guesser.guess().unwrap(), Some(401));
    }
    assert_eq!(known(&world), 0);

    let phone = world.phone(Duration::from_millis(200)).unwrap();
    assert!(until(Duration::from_secs(5), || is_known(&world, PHONE)), "{:?}", phone.report());
    assert_eq!(phone.finish().failures, 0);
    assert_eq!(known(&world), 1);
    assert!(!is_known(&world, stranger));

    let out = |world: &World| {
        let pins = world.ringfence.pins();
        pins.iter().any(|pin| pin.file_name().is_some_and(|name| name == "out-0-eth0"))
    };
    assert!(out(&world));
    world.ringfence.kill().unwrap();
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    assert_eq!(known(&world), 1, "a restart forgets nobody");
    assert!(!world.ringfence.log().contains("no known peers are learned"));
    assert!(out(&world));

    // As after a reboot: the kernel knows nobody.
    world.ringfence.stop().unwrap();
    world.ringfence.detach().unwrap().success("detach").unwrap();
    world.ringfence.restart(&world.hosts.pbx).unwrap();
    assert_eq!((known(&world), is_known(&world, PHONE)), (1, true), "the store knows the phone");
    world.end().unwrap();
}

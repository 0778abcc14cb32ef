//! Services that are not open to everybody: who gets to them, and what goes on meanwhile.

#![expect(clippy::unwrap_used, reason = "what a test cannot do fails it")]

use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::Duration;

use ringfence_tests::guesser;
use ringfence_tests::netns::Netns;
use ringfence_tests::ringfence::{self, Config, Ringfence};
use ringfence_tests::world::{ATTACKERS, ATTACKERS6, Hosts, PBX, PBX6, nothing_is_left, until};

/// How long something may take on a busy machine.
const SOON: Duration = Duration::from_secs(30);
/// How long it is waited for what must not come.
const SILENCE: Duration = Duration::from_millis(700);

/// A database, one of the daemons of Wazo, a broker, and one that stays open.
const TCP: [u16; 4] = [5432, 9486, 5672, 8000];

const EXPOSURE: &str =
    "exposure: {trusted: [postgresql, 9486/tcp, tftp, rtp, ntp], closed: [rabbitmq, 7000/udp]}\n";

fn start(hosts: &Hosts, more: &str) -> Ringfence {
    let config = Config {
        trusted: vec![ATTACKERS[0].to_string(), ATTACKERS6[0].to_string()],
        more: more.to_owned(),
        ..Config::new(Path::new("/nonexistent/fail2ban"))
    };
    Ringfence::start(&hosts.pbx, &ringfence::built().unwrap(), &config).unwrap()
}

fn pbx(source: IpAddr) -> IpAddr {
    if source.is_ipv4() { PBX } else { PBX6 }
}

/// Listens on TCP ports of both families, and sends back what comes.
fn serve(host: &Netns) {
    for (address, port) in [PBX, PBX6].into_iter().flat_map(|at| TCP.map(|port| (at, port))) {
        let listener = host.run_in(|| Ok(TcpListener::bind((address, port))?)).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                thread::spawn(move || {
                    let (mut from, mut to) = (stream.try_clone().unwrap(), stream);
                    std::io::copy(&mut from, &mut to)
                });
            }
        });
    }
}

fn socket(host: &Netns, address: IpAddr, port: u16) -> UdpSocket {
    let socket = host.run_in(|| Ok(UdpSocket::bind((address, port))?)).unwrap();
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    socket
}

/// Whether a datagram gets from one socket to the other.
fn arrives(from: &UdpSocket, to: &UdpSocket) -> bool {
    // What an earlier one has left.
    to.set_nonblocking(true).unwrap();
    while to.recv(&mut [0; 64]).is_ok() {}
    to.set_nonblocking(false).unwrap();
    from.send_to(b"anything", to.local_addr().unwrap()).unwrap();
    to.recv(&mut [0; 64]).is_ok()
}

fn connects(hosts: &Hosts, source: IpAddr, port: u16) -> bool {
    dial(hosts, source, port).is_some()
}

fn dial(hosts: &Hosts, source: IpAddr, port: u16) -> Option<TcpStream> {
    guesser::dial(&hosts.attacker, source, SocketAddr::new(pbx(source), port)).ok()
}

fn answers(stream: &mut TcpStream) -> bool {
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream.write_all(b"x").is_ok() && stream.read_exact(&mut [0]).is_ok()
}

fn dropped(ringfence: &Ringfence) -> u64 {
    ringfence.status().unwrap().reasons["closed-port"].packets
}

fn reload(ringfence: &mut Ringfence, more: &str) {
    ringfence.configure(|config| more.clone_into(&mut config.more)).unwrap();
    ringfence.client().run(&["reload"], false).unwrap().success("reload").unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn closed_services_are_open_to_those_that_are_trusted() {
    let hosts = Hosts::new().unwrap();
    serve(&hosts.pbx);
    let mut ringfence = start(&hosts, "");
    let families = [[ATTACKERS[0], ATTACKERS[1]], [ATTACKERS6[0], ATTACKERS6[1]]];
    let mut standing = families.map(|[_, stranger]| dial(&hosts, stranger, 5432).unwrap());
    assert_eq!(dropped(&ringfence), 0);
    reload(&mut ringfence, EXPOSURE);

    for ([trusted, stranger], standing) in families.into_iter().zip(&mut standing) {
        assert!(answers(standing), "a connection that stands goes on");
        for port in [5432, 9486] {
            assert!(connects(&hosts, trusted, port) && !connects(&hosts, stranger, port), "{port}");
        }
        assert!(!connects(&hosts, trusted, 5672) && !connects(&hosts, stranger, 5672));
        assert!(connects(&hosts, stranger, 8000), "what is not named is open");
    }
    assert!(dropped(&ringfence) > 0);

    // Only watched, and then open again.
    reload(&mut ringfence, &EXPOSURE.replace("closed: [", "dry_run: true, closed: ["));
    for [trusted, stranger] in families {
        assert!(connects(&hosts, stranger, 5432) && connects(&hosts, trusted, 5672));
    }
    let before = dropped(&ringfence);
    reload(&mut ringfence, "");
    for [trusted, stranger] in families {
        assert!(connects(&hosts, stranger, 5432) && connects(&hosts, trusted, 5672));
    }
    assert_eq!(dropped(&ringfence), before);
    drop((ringfence, standing, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn what_a_closed_host_asks_for_is_answered() {
    let hosts = Hosts::new().unwrap();
    let ringfence = start(&hosts, EXPOSURE);
    for ([trusted, stranger, other], here) in [
        ([ATTACKERS[0], ATTACKERS[1], ATTACKERS[2]], PBX),
        ([ATTACKERS6[0], ATTACKERS6[1], ATTACKERS6[0]], PBX6),
    ] {
        let [ntp, tftp, rtp, closed, high] =
            [123, 69, 10_000, 7000, 40_000].map(|port| socket(&hosts.pbx, here, port));
        let [friend, server, third] = [(trusted, 1), (stranger, 2), (other, 3)]
            .map(|(at, n)| socket(&hosts.attacker, at, 4000 + n));
        assert!(!arrives(&server, &tftp) && arrives(&friend, &tftp), "{here}");
        assert!(!arrives(&server, &closed) && !arrives(&friend, &closed), "{here}");
        assert!(arrives(&server, &high), "a resolver's answer to {here}");
        // NTP, the sound of a trunk, and what is closed to all: first the host, then the answer.
        for own in [&ntp, &rtp, &closed] {
            assert!(!arrives(&server, own), "{own:?}");
            assert!(arrives(own, &server));
            assert!(until(SOON, || arrives(&server, own)), "{own:?}");
        }
        if other != trusted {
            assert!(!arrives(&third, &ntp) && !arrives(&third, &rtp), "{here}");
        }
    }
    assert!(dropped(&ringfence) > 0);
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}

#[test]
#[ignore = "requires root: network namespaces, BPF"]
fn nobody_is_locked_out_by_the_configuration() {
    let hosts = Hosts::new().unwrap();
    let mut ringfence = start(&hosts, "");
    for more in ["exposure: {closed: [ssh]}\n", "exposure: {closed: [sip]}\n"] {
        ringfence.configure(|config| more.clone_into(&mut config.more)).unwrap();
        let reloaded = ringfence.client().run(&["reload"], false).unwrap();
        assert!(!reloaded.status.success(), "{reloaded:?}");
        assert!(reloaded.stderr.contains("exposure.closed"), "{reloaded:?}");
    }
    assert_eq!(dropped(&ringfence), 0);
    drop((ringfence, hosts));
    nothing_is_left().unwrap();
}
